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


# Only for a source that draws: images that are read are decoded anew for every precision, and never copied.
rule draw_pictures:
    input:
        manifest=f"{RESULTS}/manifest/{{split}}.parquet",
    output:
        f"{RESULTS}/pictures/{{split}}/{{shard}}.parquet",
    log:
        f"{LOGS}/draw_pictures/{{split}}/{{shard}}.log",
    benchmark:
        f"{BENCHMARKS}/draw_pictures/{{split}}/{{shard}}.tsv"
    conda:
        "../../envs/network.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        source=lambda w: plain(source_of(w.split)),
        first=lambda w: int(w.shard) * CONFIG.features.shard,
        images=CONFIG.features.shard,
        code=code("draw_pictures.py", *source_modules()),
    script:
        "../scripts/draw_pictures.py"


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
