"""How fast features are extracted in every precision, against a plain loop of open_clip's `encode_image` in FP32.

    python benchmarks/extraction.py                                  # ViT-B-32 shapes, batch 64, one thread
    python benchmarks/extraction.py --images 256 --threads 2 --repeats 7

Weights and decoded pixels are random, since time does not depend on them. Every repeat runs every precision over the
same pixels, one after the other, so that a busy neighbour disturbs all alike; a ratio is the median of the loop's time
over the median of the precision's, above 1 where extraction is faster. CPU time counts the process's own work. Each
peak memory is that of a process of its own. "From JPEG" reads synthetic pictures of ImageNet's usual size and compares
decoding and computing, each alone, with both overlapped, as the workflow runs them.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOOP = "open_clip FP32 loop"
SCHEMES: dict[str, dict[str, Any]] = {
    "bf16": {"scheme": "bfloat16"},
    "8-bit dynamic": {"scheme": "dynamic-int8", "reading": "all_linears"},
    "8-bit static": {
        "scheme": "uniform",
        "weights": {"bits": 8, "granularity": "channel"},
        "activations": {"bits": 8, "observer": "percentile"},
    },
    "W4A4 static": {
        "scheme": "uniform",
        "weights": {"bits": 4, "granularity": "channel"},
        "activations": {"bits": 4, "observer": "mse"},
    },
}
PRECISIONS = (LOOP, "FP32", *SCHEMES)
PICTURE = (500, 375)
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8")


def networks(name: str, precisions: tuple[str, ...]) -> dict[str, Any]:
    """open_clip's model (as the loop) and towers by precision; calibrated, where needed, on random pixels."""
    import torch

    from lraee.models.open_clip_tower import open_clip, tower_of
    from lraee.models.packed import packed
    from lraee.quantize.schemes import SCHEMES as REGISTRY
    from lraee.registry import parse

    model = open_clip.create_model(name, pretrained=None).eval().requires_grad_(False)
    tower, side = tower_of(model), model.visual.image_size
    found: dict[str, Any] = {LOOP: model, "FP32": packed(tower)}
    for precision in SCHEMES.keys() & precisions:
        scheme = parse(REGISTRY, "scheme", SCHEMES[precision])
        state = scheme.calibrate(tower, lambda: [torch.randn(8, 3, *side)])
        found[precision] = packed(scheme.apply(tower, state))
    return {precision: found[precision] for precision in precisions}


def kernels(network: Any) -> str:
    """Which modules and products do a network's multiplications."""
    kinds = (type(getattr(part, "product", part)).__name__ for part in network.modules())
    used = Counter(kind for kind in kinds if kind.endswith(("Linear", "Product")))
    return ", ".join(f"{count} {kind}" for kind, count in sorted(used.items()))


def runner(precision: str, network: Any, batches: list[Any]) -> Callable[[], None]:
    """What is timed: one pass over the batches."""
    import torch

    from lraee.features.extract import extract

    @torch.inference_mode()
    def run() -> None:
        for pixels in batches:
            if precision == LOOP:
                network.encode_image(pixels)
            else:
                extract(network, pixels)

    return run


def pixel_batches(network: Any, images: int, batch: int) -> list[Any]:
    """Random decoded tensors in the size that open_clip's model takes."""
    import torch

    generator = torch.Generator().manual_seed(0)
    return list(torch.randn(images, 3, *network.visual.image_size, generator=generator).split(batch))


def clocked(runs: dict[str, Callable[[], None]], repeats: int) -> dict[str, tuple[float, float]]:
    """Median CPU and wall seconds of every run, interleaved, after one round to warm up."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            if repeat:
                seconds[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {
        name: (statistics.median(c for c, _ in pairs), statistics.median(w for _, w in pairs))
        for name, pairs in seconds.items()
    }


def measure(name: str, images: int, batch: int, repeats: int) -> list[dict[str, Any]]:
    """One row a precision: milliseconds an image and ratios to the loop, by CPU and by wall time, and the kernels."""
    found = networks(name, PRECISIONS)
    batches = pixel_batches(found[LOOP], images, batch)
    times = clocked({precision: runner(precision, found[precision], batches) for precision in PRECISIONS}, repeats)
    return [
        {
            "precision": precision,
            "cpu_ms": 1e3 * cpu / images,
            "wall_ms": 1e3 * wall / images,
            "cpu_ratio": times[LOOP][0] / cpu,
            "wall_ratio": times[LOOP][1] / wall,
            "kernels": kernels(found[precision].visual if precision == LOOP else found[precision]),
        }
        for precision, (cpu, wall) in times.items()
    ]


def peak(name: str, precision: str, images: int, batch: int) -> float:
    """Run one precision; the process's peak memory in MiB."""
    from lraee.process import peak_mib

    found = networks(name, (LOOP, precision) if precision != LOOP else (LOOP,))
    runner(precision, found[precision], pixel_batches(found[LOOP], images, batch))()
    return peak_mib()


def write_pictures(folder: Path, images: int) -> float:
    """Write JPEG pictures of a smooth background with grain; return their mean size in KiB."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    for index in range(images):
        smooth = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
            PICTURE, Image.Resampling.BICUBIC
        )
        grain = np.asarray(smooth, dtype=np.float32) + rng.normal(0, 12, (PICTURE[1], PICTURE[0], 3))
        picture = Image.fromarray(grain.clip(0, 255).astype(np.uint8))
        picture.save(folder / "pictures" / f"{index:05d}.jpg", quality=90)
    return sum(path.stat().st_size for path in folder.rglob("*.jpg")) / images / 1024


def from_jpeg(name: str, images: int, batch: int, repeats: int) -> dict[str, float]:
    """Wall seconds of decoding, of computing, and of both overlapped; and their ratio to the slower of the two."""
    from lraee.data.batches import Loader
    from lraee.data.sources.image_folder import ImageFolder
    from lraee.features.extract import extract
    from lraee.models.open_clip_tower import open_clip

    found = networks(name, (LOOP, "FP32"))
    preprocess = open_clip.transform.PreprocessCfg(**found[LOOP].visual.preprocess_cfg)
    transform = open_clip.transform.image_transform_v2(preprocess, is_train=False)
    with tempfile.TemporaryDirectory() as folder:
        size = write_pictures(Path(folder), images)
        source = ImageFolder(source="image-folder", root=Path(folder))
        rows = source.allot({"test": images}, 0).assign(sample=range(images), source="pictures")
        loader = Loader({"pictures": source}, transform, batch)
        decoded = [part.pixels for part in loader.batches(rows, "decode")]

        def decode() -> None:
            for _ in loader.batches(rows, "decode"):
                pass

        def both() -> None:
            for part in loader.batches(rows, "extract"):
                extract(found["FP32"], part.pixels)

        runs = {"decoding": decode, "computing": runner("FP32", found["FP32"], decoded), "overlapped": both}
        seconds = {run: wall for run, (_, wall) in clocked(runs, repeats).items()}
    slower = max(seconds["decoding"], seconds["computing"])
    return seconds | {"ratio": seconds["overlapped"] / slower, "kib": size}


def cpu_line() -> str:
    """The CPU's vendor, torch's instruction set, and the flags that matter to its kernels."""
    import torch

    from lraee.cpu import cpu_info
    from lraee.models.packed import cpu_vendor

    flags = {flag for core in cpu_info("flags") for flag in core.split()}
    present = " ".join(flag for flag in _FLAGS if flag in flags) or "none of " + " ".join(_FLAGS)
    return f"CPU: {cpu_vendor()}, torch {torch.__version__} with {torch.backends.cpu.get_cpu_capability()}; {present}"


def tables(arguments: argparse.Namespace) -> None:
    """Print everything that is measured, as Markdown."""
    sizes = (arguments.model, arguments.images, arguments.batch)
    # Before anything large is loaded here: a process counts what its parent held when it was started.
    memory = {precision: _peak_elsewhere(precision, arguments) for precision in PRECISIONS}
    print(f"{arguments.model}, {arguments.images} images, batch {arguments.batch}, {arguments.threads} thread(s)")
    print(f"{cpu_line()}\n")
    print("| precision | CPU, ms an image | wall, ms | ratio, CPU | ratio, wall | peak memory, MiB | products by |")
    print("|---|---:|---:|---:|---:|---:|---|")
    for row in measure(*sizes, arguments.repeats):
        print(
            f"| {row['precision']} | {row['cpu_ms']:.1f} | {row['wall_ms']:.1f} | {row['cpu_ratio']:.2f} | "
            f"{row['wall_ratio']:.2f} | {memory[row['precision']]:,.0f} | {row['kernels']} |"
        )
    jpeg = from_jpeg(*sizes, arguments.repeats)
    print(f"\nFrom JPEG ({PICTURE[0]} x {PICTURE[1]}, {jpeg['kib']:.0f} KiB each), FP32, wall seconds:\n")
    print("| decoding alone | computing alone | overlapped | overlapped / the slower |\n|---:|---:|---:|---:|")
    print(f"| {jpeg['decoding']:.2f} | {jpeg['computing']:.2f} | {jpeg['overlapped']:.2f} | {jpeg['ratio']:.2f} |")


def _peak_elsewhere(precision: str, arguments: argparse.Namespace) -> float:
    sizes = [
        text for name in ("model", "images", "batch", "threads") for text in (f"--{name}", str(vars(arguments)[name]))
    ]
    command = [sys.executable, __file__, "--peak", precision, *sizes]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def main() -> None:
    """Measure everything, or in a process of its own one precision's peak memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32", help="an open_clip model, with random weights")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak", choices=PRECISIONS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()

    import torch

    torch.set_num_threads(arguments.threads)
    if arguments.peak:
        print(json.dumps(peak(arguments.model, arguments.peak, arguments.images, arguments.batch)))
    else:
        tables(arguments)


if __name__ == "__main__":
    main()
