import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from lraee.evaluation.calibrations import COST_COLUMNS
from lraee.quantize.cost import calibration_cost
from lraee.quantize.schemes import ActivationSpec, WeightSpec
from lraee.quantize.schemes.uniform import Uniform

STATIC = Uniform(scheme="uniform", weights=WeightSpec(granularity="channel"), activations=ActivationSpec())

# A process of its own, whose peak is not that of earlier tests.
HUNGRY = """
import json
import torch
from lraee.quantize.cost import calibration_cost

class Hungry:
    def calibrate(self, tower, batches):
        seen = sum(len(batch) for batch in batches())
        return {"blocks.0.seen": torch.full((400, 2**18), float(seen))}

print(json.dumps(calibration_cost(Hungry(), None, torch.randn(20, 3, 32, 32))))
"""


def test_the_cost_is_that_of_calibrating() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", HUNGRY], cwd=root, capture_output=True, text=True, check=True)
    cost = json.loads(done.stdout)
    assert {"quantizer", "model", *cost} == set(COST_COLUMNS)
    assert cost["images"] == 20
    assert cost["state_mib"] == 400
    assert 100 < cost["peak_mib"] - cost["peak_before_mib"] < 500
    assert cost["cpu_seconds"] > 0


def test_the_state_is_that_of_all_images(tower: Any) -> None:
    pixels = torch.randn(20, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    state = STATIC.calibrate(tower, lambda: [pixels])
    cost = calibration_cost(STATIC, tower, pixels)
    assert cost["state_mib"] == sum(tensor.nbytes for tensor in state.values()) / 2**20
