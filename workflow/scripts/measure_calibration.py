"""Calibrate one quantizer on a larger network with random weights, for its time and memory."""

import torch
from _job import logged, use_threads

from lraee.io import write_json
from lraee.models.open_clip_tower import create, tower_of
from lraee.quantize.cost import CalibrationCost, calibration_cost
from lraee.quantize.schemes import SCHEMES
from lraee.registry import parse

with logged(snakemake):
    use_threads(snakemake)
    settings = CalibrationCost.model_validate(snakemake.params.cost)
    model = create(settings.model, "random", 0)
    pixels = torch.randn(settings.images, 3, *model.visual.image_size, generator=torch.Generator().manual_seed(0))
    scheme = parse(SCHEMES, "scheme", snakemake.params.scheme)
    cost = calibration_cost(scheme, tower_of(model), pixels)
    write_json(snakemake.output[0], {"quantizer": snakemake.wildcards.quantizer, "model": settings.model, **cost})
