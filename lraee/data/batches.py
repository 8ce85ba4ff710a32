"""Batches of pixels: decoding runs beside computing, and what is wrong with an image is remarked, never passed over."""

import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import pandas as pd
import torch
from PIL.Image import Image
from torch import Tensor
from tqdm import tqdm

from lraee.data.images import Picture, UnreadableImageError, without_warnings
from lraee.data.remarks import Outcome, Remark, count_causes, told

_AHEAD = 2
"""Batches that are decoded, or being decoded, beside the one in use."""
_LOG_INTERVAL = 10.0
"""Seconds between two lines of progress in a file."""


@dataclass(frozen=True)
class Batch:
    """Pixels (B, 3, H, W) with their sample numbers and labels, and what there is to remark, in the rows' order."""

    samples: list[int]
    labels: list[int]
    pixels: Tensor
    remarks: list[Remark] = field(default_factory=list)


class Opens(Protocol):
    """What the loader needs of a source, as `Source` and `KeptPictures` have it."""

    def open(self, location: str, label: int) -> Picture:
        """Read one image; raises UnreadableImageError where its content gives none."""


class _Read(NamedTuple):
    """What became of one row; no pixels (3, H, W) where the image is skipped."""

    sample: int
    label: int
    pixels: Tensor | None
    remarks: list[Remark]


@dataclass(frozen=True)
class Loader:
    """Reads rows of a manifest through the data sources and a model's transform, both in `workers` threads."""

    sources: Mapping[str, Opens]
    transform: Callable[[Image], Tensor]
    batch: int
    workers: int = 2

    def batches(self, rows: pd.DataFrame, description: str) -> Iterator[Batch]:
        """Yield the rows in order; a batch in which nothing could be decoded has no pixels (B = 0).

        At most three batches are in memory, and one being put together. Whatever a thread raises is raised here.
        Progress goes to stderr, and in the end the number of remarks.
        """
        causes: Counter[tuple[Outcome, str]] = Counter()
        with without_warnings(), tqdm(total=len(rows), desc=description, unit="img", mininterval=_interval()) as bar:
            for batch, size in self._decoded(rows):
                causes += count_causes(batch.remarks)
                yield batch
                bar.update(size)
        tqdm.write(f"{description}: {len(rows):,} images; {told(causes)}", file=sys.stderr)

    def _decoded(self, rows: pd.DataFrame) -> Iterator[tuple[Batch, int]]:
        """Yield batches with the number of their rows, some decoded ahead."""
        ahead: deque[list[Future[_Read]]] = deque()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="decode")
        try:
            for start in range(0, len(rows), self.batch):
                ahead.append(self._submit(pool, rows.iloc[start : start + self.batch]))
                if len(ahead) > _AHEAD:
                    yield _collect(ahead.popleft())
            while ahead:
                yield _collect(ahead.popleft())
        finally:
            pool.shutdown(cancel_futures=True)  # also where the consumer stops early, or an image raises

    def _submit(self, pool: ThreadPoolExecutor, rows: pd.DataFrame) -> list[Future[_Read]]:
        columns = (rows[name].tolist() for name in ("sample", "source", "location", "label"))
        return [pool.submit(self._read, *row) for row in zip(*columns, strict=True)]

    def _read(self, sample: int, source: str, location: str, label: int) -> _Read:
        try:
            picture = self.sources[source].open(location, label)
        except UnreadableImageError as error:
            return _Read(sample, label, None, [Remark(sample, location, "skipped", str(error))])
        remarks = [Remark(sample, location, "converted", reason) for reason in picture.conversions]
        return _Read(sample, label, self.transform(picture.image), remarks)


def _collect(futures: list[Future[_Read]]) -> tuple[Batch, int]:
    """Wait for the rows of one batch."""
    done = [future.result() for future in futures]
    kept = [(read, read.pixels) for read in done if read.pixels is not None]
    batch = Batch(
        samples=[read.sample for read, _ in kept],
        labels=[read.label for read, _ in kept],
        pixels=torch.stack([pixels for _, pixels in kept]) if kept else torch.empty(0, 3, 0, 0),
        remarks=[remark for read in done for remark in read.remarks],
    )
    return batch, len(done)


def _interval() -> float:
    """Seconds between two updates of the progress: a log that nobody watches stays small."""
    return 0.1 if sys.stderr.isatty() else _LOG_INTERVAL
