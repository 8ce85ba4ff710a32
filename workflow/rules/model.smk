# What the model is, before anything is computed with it: one that cannot be used is refused here.


rule describe_model:
    input:
        watched(CONFIG.model),
    output:
        f"{RESULTS}/model.json",
    log:
        f"{LOGS}/describe_model.log",
    benchmark:
        f"{BENCHMARKS}/describe_model.tsv"
    conda:
        "../../envs/network.yaml"
    threads: 1
    resources:
        mem_mb=memory,
    params:
        model=plain(CONFIG.model),
        device=CONFIG.device,
        code=code("describe_model.py", model_module()),
    script:
        "../scripts/describe_model.py"
