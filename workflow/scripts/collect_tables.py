"""Put every quantizer's tables together, with the noise profiles, the remarks on images and the provenance."""

from pathlib import Path

import pandas as pd
from _features import shards_by_split
from _job import logged

import lraee
from lraee.evaluation.agreement import summary
from lraee.evaluation.calibrations import COST_COLUMNS, FOUND, allocation_table, search_table
from lraee.evaluation.collect import corrected, noise_table, provenance, quantizer_table
from lraee.evaluation.contrasts import control_rows, rival_rows
from lraee.evaluation.timings import TIMING_COLUMNS, conversion, latency
from lraee.features.store import read_remarks, remark_table
from lraee.io import read_arrays, read_header, read_json, read_table, write_json, write_table
from lraee.models.families import FAMILIES
from lraee.registry import parse

with logged(snakemake):
    p, outputs = snakemake.params, {Path(path).stem: path for path in snakemake.output}
    parts: dict[str, list[pd.DataFrame]] = {}
    for path in snakemake.input.evaluation:
        parts.setdefault(Path(path).stem, []).append(read_table(path))
    tables = {name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()}
    headers = {Path(path).stem: read_header(path) for path in snakemake.input.states}
    tables["quantizers"] = quantizer_table(tables["quantizers"], headers)
    tables["points"] = corrected(tables["points"])
    answers = tables.pop("answers").drop_duplicates(["quantizer", "sample"])
    tables["controls"] = control_rows(answers, tables["quantizers"], p.seed)
    tables["rivals"] = rival_rows(answers, tables["quantizers"], p.seed)
    states = {Path(path).stem: read_arrays(path, FOUND) for path in snakemake.input.states}
    tables["allocation"], tables["searches"] = allocation_table(states, headers), search_table(states)
    tables["calibration_costs"] = pd.DataFrame(map(read_json, snakemake.input.costs), columns=COST_COLUMNS)
    exported = {Path(path).stem: read_table(path) for path in snakemake.input.agreement}
    tables["agreement"], tables["disagreements"] = summary(exported)
    timed = [read_table(path).assign(quantizer=Path(path).stem) for path in snakemake.input.latency]
    timings = pd.concat(timed, ignore_index=True) if timed else pd.DataFrame(columns=TIMING_COLUMNS)
    tables["latency"], tables["conversion"] = latency(timings), conversion(timings, p.seed)
    profiles = [read_table(path) for path in snakemake.input.noise]
    tables["noise"] = noise_table(profiles, p.candidates, p.kappa)
    shards = shards_by_split(snakemake.input.features, p.identities)
    remarks = [read_remarks(files).assign(split=split) for split, files in shards.items()]
    # Quantizers that need no calibration have read no image of `quant`.
    quant = pd.concat([remark_table(header["remarks"]) for header in headers.values()]).drop_duplicates()
    tables["remarks"] = pd.concat([quant.assign(split="quant"), *remarks], ignore_index=True)
    for name, table in tables.items():
        write_table(outputs[name], table)
    model, classes = read_json(snakemake.input.model), read_header(snakemake.input.classes)["names"]
    about_model = {
        "random_weights": model["random_weights"],
        "weights": {"source": model["weights"], "sha256": model["sha256"]},
        "paper_setting": parse(FAMILIES, "family", p.config["model"]).is_papers(len(classes)),
    }
    about_run = provenance(p.config, Path(lraee.__file__).resolve().parents[1])
    write_json(snakemake.output.provenance, about_run | p.facts | about_model)
