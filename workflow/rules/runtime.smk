# What users load: `snakemake --cores 2 export` writes the quantizers that `exports` names, and tries each on test images.
EXPORTS = [
    f"{RESULTS}/exports/{quantizer}/{file}"
    for quantizer in CONFIG.exports
    for file in ("manifest.json", "tensors.safetensors")
]
LATENCIES = [
    f"{RESULTS}/latency/{quantizer}.parquet"
    for quantizer in CONFIG.exports
    if CONFIG.latency
]


rule export:
    input:
        EXPORTS,
        expand(f"{RESULTS}/agreement/{{quantizer}}.parquet", quantizer=CONFIG.exports),
        LATENCIES,


rule export_quantizer:
    input:
        # The files that the evaluation kept the hashes of, by the same names.
        **evaluated("{quantizer}"),
        hashes=f"{RESULTS}/evaluation/{{quantizer}}/evaluated.json",
        points=f"{RESULTS}/evaluation/{{quantizer}}/points.parquet",
        model=MODEL,
    output:
        f"{RESULTS}/exports/{{quantizer}}/manifest.json",
        f"{RESULTS}/exports/{{quantizer}}/tensors.safetensors",
    log:
        f"{LOGS}/export_quantizer/{{quantizer}}.log",
    benchmark:
        f"{BENCHMARKS}/export_quantizer/{{quantizer}}.tsv"
    conda:
        "../../envs/network.yaml"
    threads: 1
    resources:
        mem_mb=memory,
    params:
        scheme=lambda w: scheme_of(w.quantizer),
        model=plain(CONFIG.model),
        experiment=CONFIG.experiment,
        evaluated=list(evaluated("")),
        code=lambda w: code(
            "export_quantizer.py",
            *policy_modules(),
            *scheme_modules(w.quantizer),
        ),
    script:
        "../scripts/export_quantizer.py"


# The runtime's answers against the evaluation's, on the first test images.
rule check_export:
    input:
        exported=f"{RESULTS}/exports/{{quantizer}}/manifest.json",
        tensors=f"{RESULTS}/exports/{{quantizer}}/tensors.safetensors",
        policies=f"{RESULTS}/policies/{{quantizer}}.json",
        scores=f"{RESULTS}/scores/{{quantizer}}/test.parquet",
        manifest=f"{RESULTS}/manifest/test.parquet",
        pictures=pictures("test", shards("test")),
    output:
        f"{RESULTS}/agreement/{{quantizer}}.parquet",
    log:
        f"{LOGS}/check_export/{{quantizer}}.log",
    benchmark:
        f"{BENCHMARKS}/check_export/{{quantizer}}.tsv"
    conda:
        "../../envs/network.yaml"
    threads: 1
    resources:
        mem_mb=memory,
    params:
        sources=SOURCES,
        batch=CONFIG.batch,
        first=1000,
        code=code(
            "check_export.py",
            *source_modules(),
            *policy_modules(),
            *all_modules("runtime/engines"),
        ),
    script:
        "../scripts/check_export.py"


# Takes all cores, so that nothing else of the workflow runs beside it.
rule measure_latency:
    input:
        exported=f"{RESULTS}/exports/{{quantizer}}/manifest.json",
        tensors=f"{RESULTS}/exports/{{quantizer}}/tensors.safetensors",
        policies=f"{RESULTS}/policies/{{quantizer}}.json",
        manifest=f"{RESULTS}/manifest/test.parquet",
        pictures=pictures("test", shards("test")),
        quant_manifest=f"{RESULTS}/manifest/quant.parquet",
        quant_pictures=pictures("quant", shards("quant")),
        model=MODEL,
    output:
        f"{RESULTS}/latency/{{quantizer}}.parquet",
    log:
        f"{LOGS}/measure_latency/{{quantizer}}.log",
    benchmark:
        f"{BENCHMARKS}/measure_latency/{{quantizer}}.tsv"
    conda:
        "../../envs/network.yaml"
    threads: workflow.resource_settings.cores or 1
    resources:
        mem_mb=memory,
    params:
        latency=plain(CONFIG.latency) if CONFIG.latency else None,
        sources=SOURCES,
        batch=CONFIG.batch,
        # Peers that calibrate see what quantizers see, and a little of it: no figure but their speed depends on it.
        calibration=32,
        code=code(
            "measure_latency.py",
            *source_modules(),
            *policy_modules(),
            *all_modules("runtime/engines", "runtime/peers"),
        ),
    script:
        "../scripts/measure_latency.py"
