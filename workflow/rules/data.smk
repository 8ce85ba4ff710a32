# Which image is in which split, and one embedding a class.


rule manifest:
    output:
        splits=expand(f"{RESULTS}/manifest/{{split}}.parquet", split=SPLITS),
        classes=f"{RESULTS}/manifest/classes.json",
    log:
        f"{LOGS}/manifest.log",
    benchmark:
        f"{BENCHMARKS}/manifest.tsv"
    conda:
        "../../envs/network.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        data=plain(CONFIG.data),
        seed=CONFIG.seed,
        code=code("manifest.py", *source_modules()),
    script:
        "../scripts/manifest.py"


rule class_embeddings:
    input:
        classes=f"{RESULTS}/manifest/classes.json",
    output:
        f"{RESULTS}/classes.safetensors",
    log:
        f"{LOGS}/class_embeddings.log",
    benchmark:
        f"{BENCHMARKS}/class_embeddings.tsv"
    conda:
        "../../envs/network.yaml"
    threads: 1
    resources:
        mem_mb=3000,
    params:
        model=plain(CONFIG.model),
        code=code("class_embeddings.py", model_module()),
    script:
        "../scripts/class_embeddings.py"
