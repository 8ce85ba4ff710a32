# The model as one file, which all that run it read, and what it is: one that cannot be used is refused here.


rule describe_model:
    input:
        watched(CONFIG.model),
    output:
        description=f"{RESULTS}/model.json",
        model=MODEL,
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
