"""Static activation ranges from the `quant` split, and its images as inputs of the blocks."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from lraee.models.tower import Tower
from lraee.quantize.grids import affine_parameters
from lraee.quantize.observers import BINS, OBSERVERS, Histogram
from lraee.quantize.schemes import ActivationSpec, Batches, QuantizerState
from lraee.quantize.trace import Site, trace

_NO_IMAGE = "not one image of the quant split could be decoded: there is nothing to calibrate on"


def static_ranges(tower: Tower, specs: Mapping[Site, ActivationSpec], batches: Batches) -> QuantizerState:
    """Fit the range of every named site in every block, in two passes over the calibration set.

    Every range is taken on the FP32 network's activations (not on those of a network quantized up to there). The state
    holds `blocks.<index>.<site>.input_scale` and `.input_zero_point`. ValueError where there is no image.
    """
    state: QuantizerState = {}
    for name, histogram in histograms(tower, list(specs), batches).items():
        state |= static_range(name, histogram, specs[name.rpartition(".")[2]])  # type: ignore[index]
    return state


def static_range(name: str, histogram: Histogram, spec: ActivationSpec) -> QuantizerState:
    """Fit the range of one site, "blocks.<index>.<site>": `<name>.input_scale` and `.input_zero_point`."""
    low, high = OBSERVERS[spec.observer](histogram, spec)
    scale, zero_point = affine_parameters(torch.tensor(low), torch.tensor(high), spec.bits)
    return {f"{name}.input_scale": scale, f"{name}.input_zero_point": zero_point}


@torch.inference_mode()
def first_states(tower: Tower, batches: Batches, images: int | None = None) -> list[Tensor]:
    """Embed the calibration set, or its first `images`: z_0 of each batch, (B, T, width), to walk through the blocks.

    ValueError where there is no image.
    """
    states: list[Tensor] = []
    for pixels in batches():
        room = None if images is None else images - sum(map(len, states))
        if room == 0:
            break
        states.append(tower.stem(pixels[:room].to(tower.device)))
    if not states:
        raise ValueError(_NO_IMAGE)
    return states


def embed(blocks: Iterable[nn.Module], head: nn.Module, states: Iterable[Tensor]) -> Tensor:
    """Run states z of several batches, (B, T, width) each, through blocks and head: embeddings (N, e) on the CPU."""
    run, embeddings = list(blocks), []
    for z in states:
        for block in run:
            z = block(z)
        embeddings.append(head(z).cpu())
    return torch.cat(embeddings)


def histograms(tower: Tower, sites: list[Site], batches: Batches) -> dict[str, Histogram]:
    """Histograms of every site in every block, "blocks.<index>.<site>", in two passes; ValueError without an image."""
    names = [f"blocks.{index}.{site}" for index in range(len(tower.blocks)) for site in sites]
    lows = dict.fromkeys(names, float("inf"))
    highs = dict.fromkeys(names, float("-inf"))

    def bounds(name: str, x: Tensor) -> None:
        low, high = torch.aminmax(x)
        lows[name], highs[name] = min(lows[name], float(low)), max(highs[name], float(high))

    observe(tower, sites, batches, bounds)
    if any(high == float("-inf") for high in highs.values()):
        raise ValueError(_NO_IMAGE)
    counts = {name: torch.zeros(BINS, dtype=torch.float64) for name in names}

    def count(name: str, x: Tensor) -> None:
        for image in x:  # float32 counts are exact up to 2^24: enough for one image, not for every batch
            counts[name] += torch.histc(image, BINS, lows[name], highs[name]).cpu()

    observe(tower, sites, batches, count)
    return {name: Histogram(lows[name], highs[name], counts[name]) for name in names}


@torch.inference_mode()
def observe(tower: Tower, sites: list[Site], batches: Batches, look: Callable[[str, Tensor], None]) -> None:
    """Run the tower's blocks over the calibration set and show `look` what is at each site of each."""
    for pixels in batches():
        z = tower.stem(pixels.to(tower.device))
        for index, block in enumerate(tower.blocks):
            values, z = trace(block, z, sites)  # type: ignore[arg-type]
            for site, x in values.items():
                look(f"blocks.{index}.{site}", x)
