"""Embed the classes: by prompts through the text tower, or from a classifier's rows."""

from _job import logged, use_threads
from _network import read_sources

from lraee.data.manifest import class_names
from lraee.io import read_json
from lraee.models.families import FAMILIES
from lraee.registry import parse
from lraee.tensors import write_tensors

with logged(snakemake):
    use_threads(snakemake)
    model = parse(FAMILIES, "family", snakemake.params.model)
    names = class_names(read_sources(snakemake))
    classes = model.class_embeddings(names)
    shape = read_json(snakemake.input.description)["shape"]
    write_tensors(
        snakemake.output[0],
        {"rows": classes.rows, "bias": classes.bias},
        {"scale": classes.scale, "cosine": classes.cosine, "names": names, "shape": shape},
    )
