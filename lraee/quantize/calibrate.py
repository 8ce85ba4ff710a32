"""Calibration: weight scales from the weights, static activation ranges from the `quant` split."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lraee.models.tower import Tower, linears
from lraee.quantize.grids import affine_parameters, weight_scale
from lraee.quantize.linear_scheme import LinearScheme
from lraee.quantize.observers import BINS, OBSERVERS, Histogram
from lraee.quantize.schemes import Batches, LinearRecipe, QuantizerState


def calibrate(tower: Tower, scheme: LinearScheme, batches: Batches) -> QuantizerState:
    """Fit a scheme to a tower in FP32: two passes over the calibration set where a range is static, none otherwise.

    Every range is taken on the FP32 network's activations (not on those of a network quantized up to there). The state
    holds per Linear `<name>.weight_scale`; where activations are static also `<name>.input_scale` and
    `<name>.input_zero_point`.
    """
    state: QuantizerState = {}
    static: dict[str, LinearRecipe] = {}
    for name, role, linear in linears(tower):
        recipe = scheme.recipe(role)
        if recipe is None:
            continue
        per_channel = recipe.weights.granularity == "channel"
        state[f"{name}.weight_scale"] = weight_scale(linear.weight, recipe.weights.bits, per_channel)
        if recipe.activations.range == "static":
            static[name] = recipe
    for name, histogram in _histograms(tower, list(static), batches).items():
        spec = static[name].activations
        low, high = OBSERVERS[spec.observer](histogram, spec)
        scale, zero_point = affine_parameters(torch.tensor(low), torch.tensor(high), spec.bits)
        state[f"{name}.input_scale"], state[f"{name}.input_zero_point"] = scale, zero_point
    return state


def _histograms(tower: Tower, names: list[str], batches: Batches) -> dict[str, Histogram]:
    if not names:
        return {}
    lows = dict.fromkeys(names, float("inf"))
    highs = dict.fromkeys(names, float("-inf"))

    def bounds(name: str, x: Tensor) -> None:
        low, high = torch.aminmax(x)
        lows[name], highs[name] = min(lows[name], float(low)), max(highs[name], float(high))

    _observe(tower, names, batches, bounds)
    if any(high == float("-inf") for high in highs.values()):
        raise ValueError("not one image of the quant split could be decoded: there is nothing to calibrate on")
    counts = {name: torch.zeros(BINS, dtype=torch.float64) for name in names}

    def count(name: str, x: Tensor) -> None:
        for image in x:  # float32 counts are exact up to 2^24: enough for one image, not for every batch
            counts[name] += torch.histc(image, BINS, lows[name], highs[name]).cpu()

    _observe(tower, names, batches, count)
    return {name: Histogram(lows[name], highs[name], counts[name]) for name in names}


@torch.inference_mode()
def _observe(tower: Tower, names: list[str], batches: Batches, look: Callable[[str, Tensor], None]) -> None:
    """Run the tower over the calibration set and show `look` each named Linear's input."""

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, inputs: look(name, inputs[0])

    handles = [tower.get_submodule(name).register_forward_pre_hook(hook(name)) for name in names]
    try:
        for pixels in batches():
            tower(pixels)
    finally:
        for handle in handles:
            handle.remove()
