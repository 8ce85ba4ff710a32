"""The search of CPT-V over weight scales; the method, its source and its settings are in `schemes/cpt_v.py`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from lraee.models.tower import Block, Tower
from lraee.quantize.blocks import of_block, with_prefix
from lraee.quantize.calibrate import embed, first_states
from lraee.quantize.schemes import Batches, QuantizerState
from lraee.quantize.schemes.cpt_v import ROLES, CptV, Fitness, Search
from lraee.tensors import read_tensors, write_tensors

TEMPERATURE = 3.0
BATCH = 100
"""Images that a contrastive fitness tells apart."""
CURVE = "search.fitness"

_KEPT_BYTES = 2**29
"""What states in front of blocks may take while the search walks back through them."""

Scales = dict[str, Tensor]
"""What is searched of one block, by names inside it."""
Population = list[tuple[float, Scales]]
"""Fitness and scales, fittest first."""


def contrastive(q: Tensor, k: Tensor) -> Tensor:
    """Cross-entropy of telling by its cosines which FP32 embedding k (B, e) belongs to each q (B, e), times 2T."""
    logits = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).mT / TEMPERATURE
    return 2.0 * TEMPERATURE * functional.cross_entropy(logits, torch.arange(len(q)))


def _cosine(q: Tensor, k: Tensor) -> Tensor:
    return 1.0 - functional.cosine_similarity(q, k, dim=-1).mean()


FITNESS: dict[Fitness, Callable[[Tensor, Tensor], Tensor]] = {
    "contrastive": contrastive,
    "mse": functional.mse_loss,
    "cosine": _cosine,
}


def fitness(kind: Fitness, q: Tensor, k: Tensor) -> float:
    """Compare embeddings (N, e) with the FP32 model's in batches of 100, in double precision; lower is better."""
    batches = zip(q.double().split(BATCH), k.double().split(BATCH), strict=True)
    return sum(float(FITNESS[kind](ours, theirs)) * len(ours) for ours, theirs in batches) / len(q)


def _fittest_of_a_draw(population: Population, start: Scales, sample: int, rng: np.random.Generator) -> Scales:
    return population[int(rng.integers(len(population), size=sample).min())][1]


def _start(population: Population, start: Scales, sample: int, rng: np.random.Generator) -> Scales:
    return start


PARENTS: dict[Search, Callable[[Population, Scales, int, np.random.Generator], Scales]] = {
    "evolution": _fittest_of_a_draw,
    "random": _start,
}
"""Whose scales an evaluation perturbs: those of a population, or always the start's."""


def mutated(scales: Scales, epsilon: float, rng: np.random.Generator) -> Scales:
    """Multiply every scale by 1 + U(-epsilon, epsilon)."""

    def factors(scale: Tensor) -> Tensor:
        return torch.from_numpy(1.0 + rng.uniform(-epsilon, epsilon, tuple(scale.shape))).to(scale)

    return {name: scale * factors(scale) for name, scale in scales.items()}


def evolved(
    scheme: CptV,
    start: Scales,
    current: tuple[float, Scales],
    score: Callable[[Scales], float],
    rng: np.random.Generator,
) -> tuple[Scales, list[float]]:
    """Search one block for `scheme.cycles` evaluations: the best scales, and the best fitness after each evaluation.

    `current` are the block's scales so far with their fitness; what comes back is never worse.
    """
    population, curve = [current] * scheme.population, []
    for _ in range(scheme.cycles):
        child = mutated(PARENTS[scheme.search](population, start, scheme.sample, rng), scheme.step, rng)
        population.append((score(child), child))
        population.sort(key=lambda member: member[0])  # stable: of equals the older comes first
        population.pop()
        curve.append(population[0][0])
    return population[0][1], curve


def searched(state: QuantizerState, index: int) -> Scales:
    """The scales to search in a block: none where its attention is not quantized."""
    own = of_block(state, index)
    return {name: own[name] for role in ROLES if (name := f"{role}.weight_scale") in own}


@dataclass
class Prefix:
    """The states of all images in front of a block, of a network whose blocks are visited from last to first.

    Only the visited block may change: what lies behind it is forgotten. States are kept in front of every `stride`-th
    block, and from there the others are computed: memory is bounded, and few blocks run twice in a pass.
    """

    blocks: nn.ModuleList
    first: list[Tensor]
    kept: dict[int, list[Tensor]] = field(init=False)
    stride: int = field(init=False)

    def __post_init__(self) -> None:
        self.kept = {0: self.first}
        room = max(1, _KEPT_BYTES // sum(z.nbytes for z in self.first))
        self.stride = -(-len(self.blocks) // room)

    def before(self, index: int) -> list[Tensor]:
        """Return the states in front of block `index` (0 is the first)."""
        self.kept = {at: parts for at, parts in self.kept.items() if at <= index}
        at = max(self.kept)
        parts = self.kept[at]
        while at < index:
            if at % self.stride == 0:
                self.kept[at] = parts
            parts = [self.blocks[at](z) for z in parts]
            at += 1
        self.kept[index] = parts
        return parts


class Network:
    """A quantized network on fixed images, to try other scales in one block after another, from last to first."""

    def __init__(self, tower: Tower, scheme: CptV, state: QuantizerState, first: list[Tensor]) -> None:
        self.originals, self.start, self.kind = tower.blocks, scheme.start, scheme.fitness
        self.state, self.network = dict(state), scheme.start.apply(tower, state)
        self.prefix = Prefix(self.network.blocks, first)
        self.targets = embed(tower.blocks, tower.head, first)

    def fitness(self, index: int, scales: Scales) -> float:
        """Evaluate the network with other scales in one block: only that block and those after it run."""
        rest = [self._block(index, scales), *self.network.blocks[index + 1 :]]
        embeddings = embed(rest, self.network.head, self.prefix.before(index))
        return fitness(self.kind, embeddings, self.targets)

    def accept(self, index: int, scales: Scales) -> None:
        """Go on with these scales in a block."""
        self.network.blocks[index] = self._block(index, scales)
        self.state |= with_prefix(scales, index)

    def _block(self, index: int, scales: Scales) -> Block:
        original: Block = self.originals[index]  # type: ignore[assignment]
        return self.start.block(original, of_block(self.state, index) | scales)


@dataclass
class Found:
    """What a search has come to: the scales, the fitness of the start and the best after each evaluation, and how many
    blocks it has visited.
    """

    scales: QuantizerState
    curve: list[float]
    visits: int = 0

    @property
    def tensors(self) -> QuantizerState:
        return self.scales | {CURVE: torch.tensor(self.curve, dtype=torch.float64)}


def _read(checkpoint: Path | None) -> Found:
    """Read what an interrupted search kept; UnreadableFileError where the file is damaged."""
    if checkpoint is None or not checkpoint.exists():
        return Found({}, [])
    scales, metadata = read_tensors(checkpoint)
    curve: list[float] = scales.pop(CURVE).tolist()
    return Found(scales, curve, metadata["visits"])


def calibrate(tower: Tower, scheme: CptV, batches: Batches, checkpoint: Path | None = None) -> QuantizerState:
    """Calibrate the start and search its scales: the start's state with others, and the curve as `search.fitness`.

    What was found is kept in `checkpoint` after every block, and an interrupted search goes on from there to the same
    bytes; the path must name all that the search depends on. ValueError where there is no image.
    """
    start = scheme.start.calibrate(tower, batches)
    with torch.inference_mode():
        first = [z for batch in first_states(tower, batches, scheme.images) for z in batch.split(tower.at_once(BATCH))]
        return start | search(tower, scheme, start, first, checkpoint).tensors


def search(
    tower: Tower, scheme: CptV, start: QuantizerState, first: list[Tensor], checkpoint: Path | None = None
) -> Found:
    """Search from a state of the start, on images given as parts of z_0, (B, T, width); see `calibrate`."""
    found = _read(checkpoint)
    network = Network(tower, scheme, start | found.scales, first)
    indices = [index for index in reversed(range(len(tower.blocks))) if searched(start, index)]
    if not found.curve:
        found.curve.append(network.fitness(0, {}))
    visits = [(turn, index) for turn in range(scheme.passes) for index in indices]
    done, total = (count * scheme.cycles for count in (found.visits, len(visits)))
    with tqdm(total=total, initial=done, desc="search", unit="evaluation", mininterval=5) as bar:
        for turn, index in visits[found.visits :]:
            rng = np.random.default_rng((scheme.seed, turn, index))
            current = found.curve[-1], searched(network.state, index)
            best, curve = evolved(scheme, searched(start, index), current, partial(network.fitness, index), rng)
            network.accept(index, best)
            found = Found(found.scales | with_prefix(best, index), found.curve + curve, found.visits + 1)
            if checkpoint:
                write_tensors(checkpoint, found.tensors, {"visits": found.visits})
            bar.set_postfix_str(f"{scheme.fitness} {found.curve[0]:.6g} -> {found.curve[-1]:.6g}", refresh=False)
            bar.update(len(curve))
    return found
