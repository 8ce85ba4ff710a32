"""Train the embedded CLIP on Shapes: seeded, resumable, no network, about an hour on 2 cores."""

import json
import math
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from lraee.data.shapes import Composition, compositions, render
from lraee.models import vision_ops  # noqa: F401  (before open_clip)

import open_clip  # isort: skip

NAME = "shapes-clip"
CONFIG = Path(__file__).with_name(f"{NAME}.json")
WEIGHTS = Path(__file__).with_name(f"{NAME}.safetensors")
TEMPLATES = ("a photo of a {}", "a picture of a {}", "a {}")
SAVE_EVERY = 200
"""Steps between checkpoints."""
MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD


@dataclass(frozen=True)
class Recipe:
    """What the weights depend on, but for rounding.

    The learning rate follows a cosine towards zero at `horizon`, left at step `cooldown` for a straight line to zero at
    `steps`: the full horizon would make the benchmark's classes too easy.
    """

    seed: int = 20_261_121
    pictures: int = 120_000
    horizon: int = 5_600
    cooldown: int = 3_000
    steps: int = 3_800
    batch: int = 128
    learning_rate: float = 1e-3
    warmup: int = 300
    weight_decay: float = 0.05
    bfloat16: bool = True


def _render_range(job: tuple[int, int, int, list[Composition]]) -> NDArray[np.uint8]:
    seed, start, stop, names = job
    return np.stack([render(seed, index, names[index % len(names)]) for index in range(start, stop)])


def draw_pictures(seed: int, n: int, names: list[Composition], workers: int) -> NDArray[np.uint8]:
    """Draw pictures 0..n-1, classes in turn: uint8 (n, SIDE, SIDE, 3)."""
    step = 500
    jobs = [(seed, start, min(start + step, n), names) for start in range(0, n, step)]
    with ProcessPoolExecutor(workers) as pool:
        return np.concatenate(list(tqdm(pool.map(_render_range, jobs), total=len(jobs), desc="draw", unit="x500")))


def normalise(pictures: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 (B, H, W, 3) to the model's float32 (B, 3, H, W)."""
    pixels = torch.from_numpy(pictures).float().div(255.0)
    return pixels.sub(torch.tensor(MEAN)).div(torch.tensor(STD)).permute(0, 3, 1, 2)


def _batches(recipe: Recipe, pictures: NDArray[np.uint8], first_step: int) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Yield (indices, symmetry 0..7) for every step; depends on (seed, step) alone, so training can resume."""
    per_epoch = len(pictures) // recipe.batch
    for step in range(first_step, recipe.steps):
        epoch, position = divmod(step, per_epoch)
        order = np.random.default_rng((recipe.seed, 1, epoch)).permutation(len(pictures))
        indices = order[position * recipe.batch : (position + 1) * recipe.batch]
        yield indices, int(np.random.default_rng((recipe.seed, 2, step)).integers(8))


def _turn(pixels: torch.Tensor, symmetry: int) -> torch.Tensor:
    """One of the square's eight symmetries: an object of Shapes keeps its name under all of them."""
    turned = torch.rot90(pixels, symmetry % 4, dims=(2, 3))
    return turned.flip(3) if symmetry >= 4 else turned


def _learning_rate(recipe: Recipe, step: int) -> float:
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    progress = (min(step, recipe.cooldown) - recipe.warmup) / (recipe.horizon - recipe.warmup)
    cosine = recipe.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))
    return cosine * min(1.0, (recipe.steps - step) / (recipe.steps - recipe.cooldown))


def loss_of(
    image_embeddings: torch.Tensor, caption_embeddings: torch.Tensor, scale: torch.Tensor, classes: torch.Tensor
) -> torch.Tensor:
    """Image-to-text cross-entropy over *all* training captions.

    A batch of 128 over 576 captions holds duplicates, which the usual in-batch loss counts as negatives of each other.
    All captions fit in one step, so each appears once and the question does not arise.
    """
    logits = (
        scale.exp()
        * functional.normalize(image_embeddings, dim=-1)
        @ functional.normalize(caption_embeddings, dim=-1).mT
    )
    return functional.cross_entropy(logits, classes)


def _save(path: Path, model: torch.nn.Module, optimiser: torch.optim.Optimizer, step: int, recipe: Recipe) -> None:
    tensors = {f"model.{key}": value.detach().clone() for key, value in model.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{key}": torch.as_tensor(value).clone() for key, value in state.items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"step": str(step), "recipe": json.dumps(asdict(recipe))})
    partial.replace(path)


def _resume(path: Path, model: torch.nn.Module, optimiser: torch.optim.Optimizer, recipe: Recipe) -> int:
    """Load a checkpoint of the same recipe and return the step to go on from; 0 where there is none."""
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        if json.loads(metadata["recipe"]) != asdict(recipe):
            raise ValueError(f"{path} is a checkpoint of another recipe; remove it or name another file")
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
    model.load_state_dict({key.removeprefix("model."): t for key, t in tensors.items() if key.startswith("model.")})
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimiser."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = tensor
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
    return int(metadata["step"])


@torch.inference_mode()
def zero_shot_accuracy(model: Any, pictures: NDArray[np.uint8], names: list[Composition]) -> float:
    """Top-1 of `pictures` (classes in turn) over `names`, through open_clip's own encoders."""
    model.eval()
    tokens = open_clip.get_tokenizer(NAME)([TEMPLATES[0].format(name.name) for name in names])
    captions = model.encode_text(tokens, normalize=True)
    hits = 0
    for start in range(0, len(pictures), 256):
        images = model.encode_image(normalise(pictures[start : start + 256]), normalize=True)
        truth = torch.arange(start, start + len(images)) % len(names)
        hits += int(((images @ captions.mT).argmax(1) == truth).sum())
    model.train()
    return hits / len(pictures)


def train(recipe: Recipe, checkpoint: Path, threads: int) -> Any:
    """Train from scratch or on from `checkpoint`, saved every SAVE_EVERY steps; return the trained open_clip model."""
    torch.set_num_threads(threads)
    torch.manual_seed(recipe.seed)
    open_clip.add_model_config(CONFIG)
    model = open_clip.create_model(NAME)
    model.train()
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))
    first_step = _resume(checkpoint, model, optimiser, recipe)

    training, held_out = compositions()
    tokenizer = open_clip.get_tokenizer(NAME)
    captions = [tokenizer([t.format(name.name) for name in training]) for t in TEMPLATES]
    pictures = draw_pictures(recipe.seed, recipe.pictures, training, threads)
    validation = draw_pictures(recipe.seed + 1, 1_440, held_out, threads)

    # The fused bfloat16 attention is several times slower backwards on a CPU than the plain products.
    def attention() -> AbstractContextManager[None]:
        return sdpa_kernel(SDPBackend.MATH) if recipe.bfloat16 else nullcontext()

    progress = tqdm(total=recipe.steps, initial=first_step, desc="train", unit="step", mininterval=5.0)
    for step, (indices, symmetry) in enumerate(_batches(recipe, pictures, first_step), start=first_step):
        for group in optimiser.param_groups:
            group["lr"] = _learning_rate(recipe, step)
        pixels = _turn(normalise(pictures[indices]), symmetry)
        classes = torch.from_numpy(indices % len(training))
        with attention(), torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
            images = model.encode_image(pixels)
            texts = model.encode_text(captions[step % len(captions)])
        loss = loss_of(images.float(), texts.float(), model.logit_scale, classes)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        with torch.no_grad():
            model.logit_scale.clamp_(0.0, math.log(100.0))
        progress.update()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == recipe.steps:
            _save(checkpoint, model, optimiser, step + 1, recipe)
            top1 = zero_shot_accuracy(model, validation, held_out)
            progress.write(f"step {step + 1}: loss {loss.item():.3f}, held-out top-1 {100 * top1:.1f} % of 1,440")
    return model.eval()


def export(model: torch.nn.Module, path: Path) -> None:
    """Write the weights in half precision, which keeps the file under 16 MB; loaders compute in float32."""
    partial = path.with_suffix(".partial")
    save_file({key: value.detach().half().contiguous() for key, value in model.state_dict().items()}, partial)
    partial.replace(path)
