"""Batches of pixels: decoding runs beside computing, and an image that cannot be decoded is counted, not dropped."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import zip_longest

import pandas as pd
import torch
from PIL.Image import DecompressionBombError, Image
from torch import Tensor
from tqdm import tqdm

from lraee.data.sources import Source

# What Pillow raises on broken pictures, depending on the format and on what is broken.
_UNDECODABLE = (OSError, SyntaxError, ValueError, DecompressionBombError)


@dataclass(frozen=True)
class Batch:
    """Pixels (B, 3, H, W) with their sample numbers and labels, and what could not be decoded: (sample, reason)."""

    samples: list[int]
    labels: list[int]
    pixels: Tensor
    skipped: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Loader:
    """Reads rows of a manifest through the data sources and a model's transform."""

    sources: Mapping[str, Source]
    transform: Callable[[Image], Tensor]
    batch: int

    def batches(self, rows: pd.DataFrame, description: str) -> Iterator[Batch]:
        """Yield the rows in order; a batch in which nothing could be decoded has no pixels (B = 0)."""
        chunks = [rows.iloc[start : start + self.batch] for start in range(0, len(rows), self.batch)]
        with ThreadPoolExecutor(max_workers=1) as decoder, tqdm(total=len(rows), desc=description, unit="img") as bar:
            ahead = decoder.submit(self._decode, chunks[0]) if chunks else None
            for chunk, following in zip_longest(chunks, chunks[1:]):
                assert ahead is not None
                batch = ahead.result()
                ahead = decoder.submit(self._decode, following) if following is not None else None
                yield batch
                bar.update(len(chunk))

    def _decode(self, rows: pd.DataFrame) -> Batch:
        samples, labels, pixels, skipped = [], [], [], []
        columns = (rows[name].tolist() for name in ("sample", "source", "location", "label"))
        for sample, source, location, label in zip(*columns, strict=True):
            try:
                image = self.sources[source].open(location, label)
            except _UNDECODABLE as error:
                skipped.append((sample, f"{location}: {type(error).__name__}: {error}"))
                continue
            samples.append(sample)
            labels.append(label)
            pixels.append(self.transform(image))
        return Batch(samples, labels, torch.stack(pixels) if pixels else torch.empty(0, 3, 0, 0), skipped)
