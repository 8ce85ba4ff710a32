"""Write the exported folder of one quantizer: its headline configuration, as evaluated."""

from pathlib import Path

from _classes import read_classes
from _job import logged

from lraee.evaluation.run import FittedArms
from lraee.exits.head_plan import HeadKey
from lraee.exits.heads import read_heads
from lraee.exits.signals import Probes
from lraee.io import read_json, read_table
from lraee.models.stored import read_model
from lraee.quantize.schemes import SCHEMES
from lraee.registry import parse
from lraee.runtime.export import Exportable, check_evaluated, export, measured
from lraee.tensors import read_tensors

with logged(snakemake):
    p, files, quantizer = snakemake.params, snakemake.input, snakemake.wildcards.quantizer
    check_evaluated(read_json(files.hashes), {name: files[name] for name in p.evaluated})
    model = read_model(files.model)
    state, header = read_tensors(files.state)
    classes, _, metadata = read_classes(files.classes)
    probes, described = read_tensors(files.probes)
    headline = FittedArms.model_validate(read_json(files.policies)).arms[0].headline
    source = Exportable(
        tower=parse(SCHEMES, "scheme", p.scheme).apply(model.tower, state),
        preprocessing=model.preprocessing,
        headline=headline,
        heads=read_heads(files.heads),
        probes=Probes(probes["weights"], probes["bias"]),
        probe_keys=[HeadKey(*key) for key in described["keys"]],
        classes=classes,
        class_names=metadata["names"],
        measured=measured(read_table(files.points), quantizer),
        named={
            "experiment": p.experiment,
            "quantizer": quantizer,
            "description": header["description"],
            "model": p.model,
        },
    )
    export(Path(snakemake.output[0]).parent, source)
