# Which image is in which split, and one embedding a class.


rule manifest:
    input:
        lambda w: watched(source_of(w.split)),
    output:
        f"{RESULTS}/manifest/{{split}}.parquet",
    log:
        f"{LOGS}/manifest/{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/manifest/{{split}}.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        source=lambda w: plain(source_of(w.split)),
        name=lambda w: CONFIG.data.splits[w.split].source,
        sizes=lambda w: CONFIG.data.sizes(w.split),
        seed=CONFIG.seed,
        code=code("manifest.py", *source_modules()),
    script:
        "../scripts/manifest.py"


rule class_embeddings:
    input:
        model=watched(CONFIG.model),
        description=f"{RESULTS}/model.json",
        sources=watched(*CONFIG.data.sources.values()),
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
        mem_mb=memory,
    params:
        model=plain(CONFIG.model),
        sources=SOURCES,
        code=code("class_embeddings.py", model_module(), *source_modules()),
    script:
        "../scripts/class_embeddings.py"
