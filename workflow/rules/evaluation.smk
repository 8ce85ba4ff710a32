# The test split is opened here, once, with everything already fitted.
TABLES = [
    "points",
    "exits",
    "early",
    "ablations",
    "sweep",
    "thresholds",
    "sensitivity",
    "attribution",
    "classes",
    "seeds",
    "seed_spread",
    "costs",
    "quantizers",
]


rule evaluate:
    input:
        **evaluated("{quantizer}"),
        test=f"{RESULTS}/scores/{{quantizer}}/test.parquet",
        fp32_test=f"{RESULTS}/scores/{FP32}/test.parquet",
    output:
        **{
            table: f"{RESULTS}/evaluation/{{quantizer}}/{table}.parquet"
            for table in [*TABLES, "answers"]
        },
        evaluated=f"{RESULTS}/evaluation/{{quantizer}}/evaluated.json",
    log:
        f"{LOGS}/evaluate/{{quantizer}}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate/{{quantizer}}.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=memory,
    params:
        seed=CONFIG.seed,
        evaluated=list(evaluated("")),
        code=code("evaluate.py", *policy_modules()),
    script:
        "../scripts/evaluate.py"
