# Heads on the fit split, scores of every exit, then gates (gate split) and thresholds (select split).


rule fit_heads:
    input:
        features=lambda w: features(w.precision, "fit"),
        targets=features(FP32, "fit"),
        classes=f"{RESULTS}/classes.safetensors",
    output:
        f"{RESULTS}/heads/{{precision}}.safetensors",
    log:
        f"{LOGS}/fit_heads/{{precision}}.log",
    benchmark:
        f"{BENCHMARKS}/fit_heads/{{precision}}.tsv"
    conda:
        "../../envs/network.yaml"
    threads: 1
    resources:
        mem_mb=3000,
    params:
        heads=plain(CONFIG.exits.heads),
        layers=HEAD_LAYERS,
        seed=CONFIG.seed,
        identity=lambda w: identity(w.precision, "fit"),
        target_identity=identity(FP32, "fit"),
        code=code("fit_heads.py"),
    script:
        "../scripts/fit_heads.py"


rule score_exits:
    input:
        features=[features("{precision}", split) for split in SCORED],
        heads=f"{RESULTS}/heads/{{precision}}.safetensors",
        classes=f"{RESULTS}/classes.safetensors",
    output:
        [f"{RESULTS}/scores/{{precision}}/{split}.parquet" for split in SCORED],
    log:
        f"{LOGS}/score_exits/{{precision}}.log",
    benchmark:
        f"{BENCHMARKS}/score_exits/{{precision}}.tsv"
    conda:
        "../../envs/network.yaml"
    threads: 1
    resources:
        mem_mb=3000,
    params:
        depth=CONFIG.model.depth,
        layers=HEAD_LAYERS,
        identities=lambda w: [identity(w.precision, split) for split in SCORED],
        code=code("score_exits.py"),
    script:
        "../scripts/score_exits.py"


# The test split is no input here: nothing that is fitted can depend on it.
rule fit_policies:
    input:
        gate=f"{RESULTS}/scores/{{quantizer}}/gate.parquet",
        select=f"{RESULTS}/scores/{{quantizer}}/select.parquet",
        fp32_gate=f"{RESULTS}/scores/{FP32}/gate.parquet",
        fp32_select=f"{RESULTS}/scores/{FP32}/select.parquet",
        noise=f"{RESULTS}/noise/{{quantizer}}.parquet",
        classes=f"{RESULTS}/classes.safetensors",
    output:
        f"{RESULTS}/policies/{{quantizer}}.json",
    log:
        f"{LOGS}/fit_policies/{{quantizer}}.log",
    benchmark:
        f"{BENCHMARKS}/fit_policies/{{quantizer}}.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=3000,
    params:
        exits=plain(CONFIG.exits),
        depth=CONFIG.model.depth,
        kappa=CONFIG.noise.kappa,
        code=code("fit_policies.py", *policy_modules()),
    script:
        "../scripts/fit_policies.py"
