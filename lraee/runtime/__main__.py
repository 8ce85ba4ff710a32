"""Classify a folder of images: python -m lraee.runtime EXPORTED IMAGES > predictions.csv."""

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lraee.data.images import SUFFIXES, UnreadableImageError, read_file
from lraee.runtime.classifier import EarlyExitCLIP
from lraee.runtime.engines import ENGINES
from lraee.runtime.images import BATCH


def rows(model: EarlyExitCLIP, files: Sequence[Path], root: Path, top: int) -> Iterator[list[Any]]:
    """Yield a row of the CSV for every file, in order; one that cannot be read says why."""
    with tqdm(total=len(files), unit="img", desc="classify") as bar:
        for start in range(0, len(files), BATCH):
            part = files[start : start + BATCH]
            pictures, reasons = {}, {}
            for path in part:
                try:
                    pictures[path] = read_file(path).image
                except UnreadableImageError as error:
                    reasons[path] = str(error)
            found = dict(zip(pictures, model.predict(list(pictures.values()), top), strict=True))
            for path in part:
                name = path.relative_to(root).as_posix()
                if path in reasons:
                    yield [name, "", *[""] * (2 * top), reasons[path]]
                    continue
                ranked = zip(found[path].labels, found[path].probabilities, strict=True)
                yield [name, found[path].layer, *(cell for pair in ranked for cell in (pair[0], f"{pair[1]:.6f}")), ""]
            bar.update(len(part))


def main(arguments: Sequence[str] | None = None) -> int:
    """Classify every image below a folder; the exit status is 2 where nothing can be done, 1 where some are unread."""
    parser = argparse.ArgumentParser(prog="python -m lraee.runtime", description=__doc__)
    parser.add_argument("exported", type=Path, help="folder that the rule `export` wrote")
    parser.add_argument("images", type=Path, help="folder of images, searched in depth")
    parser.add_argument("--top", type=int, default=1, help="classes an image (default: 1)")
    parser.add_argument("--engine", choices=list(ENGINES), help="default: the fastest that is installed")
    given = parser.parse_args(arguments)
    files = sorted(path for path in given.images.rglob("*") if path.is_file() and path.suffix.lower() in SUFFIXES)
    if not files:
        parser.error(f"{given.images} holds no image")
    try:
        model = EarlyExitCLIP.load(given.exported, given.engine)
    except ValueError as error:  # an ExportError, or an engine that is not installed
        parser.error(str(error))
    if not 1 <= given.top <= len(model.class_names):
        parser.error(f"--top is {given.top}, but there are {len(model.class_names)} classes")
    writer, unread = csv.writer(sys.stdout), 0
    ranked = [name for rank in range(1, given.top + 1) for name in (f"class_{rank}", f"probability_{rank}")]
    writer.writerow(["file", "layer", *ranked, "unread"])
    for row in rows(model, files, given.images, given.top):
        writer.writerow(row)
        unread += bool(row[-1])
    if unread:
        print(f"{unread:,} of {len(files):,} images could not be read: the last column says why", file=sys.stderr)
    return int(unread > 0)


if __name__ == "__main__":
    sys.exit(main())
