# Quantization noise by layer, FP32 and quantized side by side on the same images.


rule noise_profile:
    input:
        manifest=f"{RESULTS}/manifest/fit.parquet",
        pictures=pictures(
            "fit", shards("fit")[: ceil(CONFIG.noise.images / CONFIG.features.shard)]
        ),
        model=MODEL,
        state=lambda w: quantizer_state(w.quantizer),
    output:
        f"{RESULTS}/noise/{{quantizer}}.parquet",
    log:
        f"{LOGS}/noise_profile/{{quantizer}}.log",
    benchmark:
        f"{BENCHMARKS}/noise_profile/{{quantizer}}.tsv"
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
        images=CONFIG.noise.images,
        code=lambda w: code(
            "noise_profile.py",
            *source_modules(),
            *scheme_modules(w.quantizer),
        ),
    script:
        "../scripts/noise_profile.py"
