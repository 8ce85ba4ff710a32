# Heads on the fit split, scores of every exit, then gates (gate split) and thresholds (select split).


# A seed deals the development images to their splits anew, so that all of them are read.
rule fit_heads:
    input:
        development=lambda w: features(w.precision, *DEVELOPMENT),
        targets=features(FP32, *DEVELOPMENT),
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
        mem_mb=memory,
    params:
        heads=plain(CONFIG.exits.heads),
        plan=HEAD_PLAN,
        variants=[plain(v) for v in VARIANTS],
        seed=CONFIG.seed,
        sources={s: CONFIG.data.splits[s].source for s in DEVELOPMENT},
        identities=lambda w: {s: identities(w.precision, s) for s in DEVELOPMENT},
        target_identities={s: identities(FP32, s) for s in DEVELOPMENT},
        checkpoints=lambda w: f"{RESULTS}/checkpoints/heads/{w.precision}",
        code=code("fit_heads.py"),
    script:
        "../scripts/fit_heads.py"


rule score_exits:
    input:
        development=lambda w: features(w.precision, *DEVELOPMENT),
        targets=features(FP32, *DEVELOPMENT),
        test=lambda w: features(w.precision, "test"),
        heads=f"{RESULTS}/heads/{{precision}}.safetensors",
        classes=f"{RESULTS}/classes.safetensors",
    output:
        **{s: f"{RESULTS}/scores/{{precision}}/{s}.parquet" for s in SCORED},
        probes=f"{RESULTS}/scores/{{precision}}/probes.safetensors",
    log:
        f"{LOGS}/score_exits/{{precision}}.log",
    benchmark:
        f"{BENCHMARKS}/score_exits/{{precision}}.tsv"
    conda:
        "../../envs/network.yaml"
    threads: 1
    resources:
        mem_mb=memory,
    params:
        heads=plain(CONFIG.exits.heads),
        plan=HEAD_PLAN,
        variants=[plain(v) for v in VARIANTS],
        sources={s: CONFIG.data.splits[s].source for s in DEVELOPMENT},
        identities=lambda w: {s: identities(w.precision, s) for s in DEVELOPMENT},
        target_identities={s: identities(FP32, s) for s in DEVELOPMENT},
        test_identities=lambda w: identities(w.precision, "test"),
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
        mem_mb=memory,
    params:
        exits=plain(CONFIG.exits),
        depth=CONFIG.model.depth,
        kappa=CONFIG.noise.kappa,
        fit_images=CONFIG.data.splits["fit"].images,
        code=code("fit_policies.py", *policy_modules(), *all_modules("exits/rules")),
    script:
        "../scripts/fit_policies.py"


# For quantizers that give bits to blocks by their use; thresholds are those of the select split, images those of gate.
rule measure_utilisation:
    input:
        gate=f"{RESULTS}/scores/{{quantizer}}/gate.parquet",
        policies=f"{RESULTS}/policies/{{quantizer}}.json",
    output:
        f"{RESULTS}/utilisation/{{quantizer}}.parquet",
    log:
        f"{LOGS}/measure_utilisation/{{quantizer}}.log",
    benchmark:
        f"{BENCHMARKS}/measure_utilisation/{{quantizer}}.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=memory,
    params:
        code=code("measure_utilisation.py", *policy_modules()),
    script:
        "../scripts/measure_utilisation.py"
