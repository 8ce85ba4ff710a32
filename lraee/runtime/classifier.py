"""A quantized CLIP that stops at the first exit that is sure enough."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lraee.exits.head_plan import HeadKey
from lraee.exits.heads import Heads
from lraee.exits.policies import POLICIES
from lraee.exits.signals import Probes
from lraee.exits.variants import BASE
from lraee.models.families import FAMILIES
from lraee.models.tower import ClassEmbeddings
from lraee.models.transform import transform
from lraee.registry import parse
from lraee.runtime.engines import Engine, choose
from lraee.runtime.exits import ExitHead, Exits, Told
from lraee.runtime.folder import Export, ExportError, Manifest, read_export
from lraee.runtime.images import Image, pixel_batches
from lraee.runtime.network import rebuild


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes with their probabilities, best first, and after how many blocks the network stopped."""

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    layer: int

    @property
    def confidence(self) -> float:
        """Probability of the best class at the exit."""
        return self.probabilities[0]


@dataclass(frozen=True)
class Routed:
    """What happened to N images: their class (N,), the exit that they left at (0..E, E = full depth), logits (N, K)."""

    answer: NDArray[np.int64]
    place: NDArray[np.int64]
    logits: Tensor


@dataclass(frozen=True)
class EarlyExitCLIP:
    """A network that was exported, ready to classify; `load` makes one."""

    manifest: Manifest
    engine: Engine
    heads: Sequence[ExitHead]
    exits: Exits
    classes: ClassEmbeddings
    class_names: tuple[str, ...]
    transform: Callable[[Any], Tensor]

    @classmethod
    def load(cls, folder: str | Path, engine: str | None = None) -> Self:
        """Load an exported folder; ExportError where it is none, was changed, or is of another version.

        `engine` is "torch", which answers as the benchmark to the bit, or "openvino"; unless named, the fastest that is
        installed. ValueError where it is not. It takes as many threads as torch has (`torch.set_num_threads`).
        """
        chosen = choose(engine)
        export = read_export(folder)
        manifest = export.manifest
        try:
            tower = rebuild(manifest.network, export.part("network"))
            rows = export.part("classes")
            classes = ClassEmbeddings(rows["rows"], rows["bias"], manifest.logit_scale, manifest.cosine)
            heads = _heads(export, classes)
        except (KeyError, RuntimeError, ValueError) as error:
            raise ExportError(f"{folder} does not hold what its manifest says ({error}): export it again") from error
        own = manifest.exits
        return cls(
            manifest=manifest,
            engine=chosen(tower, manifest.preprocessing.size, heads, manifest.identity),
            heads=heads,
            exits=Exits(own.layers, POLICIES[own.policy], own.gates, own.thresholds),
            classes=classes,
            class_names=manifest.class_names,
            transform=transform(manifest.preprocessing),
        )

    def predict(self, images: Image | Iterable[Image], top: int = 1) -> list[Prediction]:
        """Classify images: paths, PIL images, arrays (H, W, 3) of bytes, or preprocessed pixels (N, 3, H, W).

        The `top` likeliest classes each. ValueError or TypeError name an image that is of no use.
        """
        if not 1 <= top <= len(self.class_names):
            raise ValueError(f"top is {top}, but there are {len(self.class_names)} classes")
        return [prediction for pixels in self._batches(images) for prediction in self._predict(pixels, top)]

    def _predict(self, pixels: Tensor, top: int) -> list[Prediction]:
        routed = self.route(pixels)
        best = torch.softmax(routed.logits.double(), dim=-1).topk(top, dim=-1)
        layers = [*self.exits.layers, self.manifest.network.shape.depth]
        return [
            Prediction(tuple(self.class_names[i] for i in indices), tuple(values), layers[place])
            for indices, values, place in zip(best.indices.tolist(), best.values.tolist(), routed.place, strict=True)
        ]

    @torch.inference_mode()
    def encode_image(self, images: Image | Iterable[Image], normalize: bool = False) -> Tensor:
        """Embed images at full depth, as open_clip's model of that name does: (N, e)."""
        parts = [torch.zeros(0, self.classes.rows.shape[1])]
        embeddings = torch.cat(parts + [self.engine.encode(pixels) for pixels in self._batches(images)])
        return functional.normalize(embeddings, dim=-1) if normalize else embeddings

    def with_classes(self, names: Sequence[str], templates: Sequence[str] | None = None) -> Self:
        """Classify into other classes: prompts are the model's own templates unless given, with `{}` for the class.

        Exits were fitted to the exported classes: how sure they are of others has not been measured. The text tower is
        loaded as the experiment loaded it. ValueError where the model has none.
        """
        changed = {} if templates is None else {"templates": list(templates)}
        if "templates" not in self.manifest.model:
            raise ValueError(f"{self.manifest.model['name']} is a classifier: it has no text tower for other classes")
        model = parse(FAMILIES, "family", self.manifest.model | changed | {"class_names": "as-listed"})
        classes = model.class_embeddings(list(names))
        heads = [replace(head, classes=classes) for head in self.heads]
        engine = self.engine.with_heads(heads)
        return replace(self, engine=engine, heads=heads, classes=classes, class_names=tuple(names))

    @torch.inference_mode()
    def route(self, pixels: Tensor) -> Routed:
        """Run pixels (N, 3, H, W), each only as far as its exit: those that leave are taken out of the batch."""
        exits = len(self.exits.layers)
        here, x, told = np.arange(len(pixels)), pixels, list[Told]()
        place = np.full(len(pixels), exits)
        logits = torch.zeros(len(pixels), len(self.class_names))
        for index in range(exits):
            x, found = self.engine.visit(index, x)
            told.append(found)
            leaves = self.exits.leaving(told)
            if not leaves.any():
                continue
            place[here[leaves]] = index
            logits[here[leaves]] = found.of(leaves).logits
            if leaves.all():
                break
            here, x, told = here[~leaves], x[torch.from_numpy(~leaves)], [one.of(~leaves) for one in told]
        else:
            logits[here] = self.classes.logits(self.engine.finish(x))
        return Routed(logits.argmax(-1).numpy(), place, logits)

    def _batches(self, images: Image | Iterable[Image]) -> Iterator[Tensor]:
        return pixel_batches(images, self.transform, self.manifest.preprocessing.size)


def _heads(export: Export, classes: ClassEmbeddings) -> list[ExitHead]:
    own, probes = export.manifest.exits, export.part("probes")
    keys = [HeadKey(BASE, layer, own.aggregation, own.supervision) for layer in own.layers]
    heads = Heads(keys, export.part("heads"))
    return [
        ExitHead(own.aggregation, heads.only([key]), Probes(weights, bias), classes)
        for key, weights, bias in zip(keys, probes["weights"].split(1), probes["bias"].split(1), strict=True)
    ]
