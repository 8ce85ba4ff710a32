# The only stages, with the noise profile, that run the network. They wait for model.json, so that a model or device that
# cannot be used is refused before any image is read.


rule calibrate_quantizer:
    input:
        manifest=f"{RESULTS}/manifest/quant.parquet",
        utilisation=lambda w: utilisation_needed(w.quantizer),
        pictures=pictures("quant", shards("quant")),
        model=MODEL,
    output:
        f"{RESULTS}/quantizers/{{quantizer}}.safetensors",
    log:
        f"{LOGS}/calibrate_quantizer/{{quantizer}}.log",
    benchmark:
        f"{BENCHMARKS}/calibrate_quantizer/{{quantizer}}.tsv"
    conda:
        "../../envs/network.yaml"
    threads: 1
    resources:
        mem_mb=memory,
        gpu=GPUS,
    params:
        scheme=lambda w: scheme_of(w.quantizer),
        sources=SOURCES,
        batch=CONFIG.batch,
        device=CONFIG.device,
        checkpoints=lambda w: f"{RESULTS}/checkpoints/quantizers/{w.quantizer}",
        code=lambda w: code(
            "calibrate_quantizer.py",
            *source_modules(),
            *scheme_modules(w.quantizer),
        ),
    script:
        "../scripts/calibrate_quantizer.py"


# Times are of the machine at hand: nothing else depends on them.
rule measure_calibration:
    output:
        f"{RESULTS}/calibration_cost/{{quantizer}}.json",
    log:
        f"{LOGS}/measure_calibration/{{quantizer}}.log",
    benchmark:
        f"{BENCHMARKS}/measure_calibration/{{quantizer}}.tsv"
    conda:
        "../../envs/network.yaml"
    threads: 1
    resources:
        mem_mb=memory,
    params:
        scheme=lambda w: scheme_of(w.quantizer),
        cost=plain(CONFIG.calibration_cost) if CONFIG.calibration_cost else None,
        code=lambda w: code("measure_calibration.py", *scheme_modules(w.quantizer)),
    script:
        "../scripts/measure_calibration.py"


rule extract_features:
    input:
        manifest=f"{RESULTS}/manifest/{{split}}.parquet",
        pictures=lambda w: pictures(w.split, [w.shard]),
        model=MODEL,
        state=lambda w: quantizer_state(w.precision),
    output:
        f"{RESULTS}/features/{{precision}}/{{split}}/{{shard}}.parquet",
    log:
        f"{LOGS}/extract_features/{{precision}}/{{split}}/{{shard}}.log",
    benchmark:
        f"{BENCHMARKS}/extract_features/{{precision}}/{{split}}/{{shard}}.tsv"
    wildcard_constraints:
        split="|".join(split for split in EXTRACTED if split not in TOGETHER),
    conda:
        "../../envs/network.yaml"
    threads: 1
    resources:
        mem_mb=memory,
        gpu=GPUS,
    params:
        scheme=lambda w: scheme_of(w.precision),
        sources=SOURCES,
        batch=CONFIG.batch,
        device=CONFIG.device,
        files=lambda w: {"": extracted(w.precision, w.split, w.shard)},
        code=lambda w: code(
            "extract_features.py",
            *source_modules(),
            *scheme_modules(w.precision),
        ),
    script:
        "../scripts/extract_features.py"


if TOGETHER:

    use rule extract_features as extract_development with:
        input:
            **{f"{s}_manifest": f"{RESULTS}/manifest/{s}.parquet" for s in TOGETHER},
            **{f"{s}_pictures": pictures(s, shards(s)) for s in TOGETHER},
            model=MODEL,
            state=lambda w: quantizer_state(w.precision),
        output:
            [f"{RESULTS}/features/{{precision}}/{s}/000.parquet" for s in TOGETHER],
        log:
            f"{LOGS}/extract_development/{{precision}}.log",
        benchmark:
            f"{BENCHMARKS}/extract_development/{{precision}}.tsv"
        params:
            files=lambda w: {
                f"{s}_": extracted(w.precision, s, "000") for s in TOGETHER
            },
