# One tidy table of each kind over all quantizers, and the report that shows them.


# What compares quantizers, or comes from their calibration.
COLLECTED = [
    "agreement",
    "allocation",
    "calibration_costs",
    "conversion",
    "controls",
    "disagreements",
    "latency",
    "noise",
    "remarks",
    "rivals",
    "searches",
]
MEASURED = CONFIG.calibration_cost.quantizers if CONFIG.calibration_cost else []


rule collect_tables:
    input:
        evaluation=expand(
            f"{RESULTS}/evaluation/{{quantizer}}/{{table}}.parquet",
            quantizer=CONFIG.quantizers,
            table=[*TABLES, "answers"],
        ),
        noise=expand(
            f"{RESULTS}/noise/{{quantizer}}.parquet", quantizer=CONFIG.quantizers
        ),
        states=expand(
            f"{RESULTS}/quantizers/{{quantizer}}.safetensors",
            quantizer=CONFIG.quantizers,
        ),
        features=features(FP32, *EXTRACTED),
        costs=expand(
            f"{RESULTS}/calibration_cost/{{quantizer}}.json", quantizer=MEASURED
        ),
        agreement=expand(
            f"{RESULTS}/agreement/{{quantizer}}.parquet", quantizer=CONFIG.exports
        ),
        latency=LATENCIES,
        model=f"{RESULTS}/model.json",
        classes=f"{RESULTS}/classes.safetensors",
    output:
        expand(
            f"{RESULTS}/tables/{{table}}.parquet",
            table=[*TABLES, *COLLECTED],
        ),
        provenance=f"{RESULTS}/tables/provenance.json",
    log:
        f"{LOGS}/collect_tables.log",
    benchmark:
        f"{BENCHMARKS}/collect_tables.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        config=plain(CONFIG),
        kappa=CONFIG.noise.kappa,
        seed=CONFIG.seed,
        candidates=list(CONFIG.exits.candidates),
        identities={s: identities(FP32, s) for s in EXTRACTED},
        facts={
            "experiment": CONFIG.experiment,
            "config_hash": fingerprint(CONFIG),
            "depth": CONFIG.model.depth,
            "candidates": list(CONFIG.exits.candidates),
            "kappa": CONFIG.noise.kappa,
            "seed": CONFIG.seed,
            "seeds": CONFIG.exits.seeds,
            "delta": CONFIG.exits.risk.delta,
            "n_by_split": {split: s.images for split, s in CONFIG.data.splits.items()},
            "model": f"{CONFIG.model.name} ({CONFIG.model.family})",
            "data": ", ".join(
                f"{name} ({s.source})" for name, s in CONFIG.data.sources.items()
            ),
        },
        code=code("collect_tables.py", model_module()),
    script:
        "../scripts/collect_tables.py"


rule report:
    input:
        tables=expand(
            f"{RESULTS}/tables/{{table}}.parquet",
            table=[*TABLES, *COLLECTED],
        ),
        provenance=f"{RESULTS}/tables/provenance.json",
    output:
        report=f"{REPORT}/report.html",
        summary=f"{REPORT}/summary.json",
        tables=directory(f"{REPORT}/tables"),
        figures=directory(f"{REPORT}/figures"),
    log:
        f"{LOGS}/report.log",
    benchmark:
        f"{BENCHMARKS}/report.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        code=code("report.py"),
        templates=content_hash(*sorted((ROOT / "lraee/report/templates").iterdir())),
    script:
        "../scripts/report.py"
