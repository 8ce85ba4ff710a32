"""Write the pinned files of this folder from the versions installed beside this interpreter: `make lock`.

requirements.lock holds what a run needs, requirements-peers.lock the fast engine and what the runtime is timed against,
requirements-slurm.lock what a run on SLURM needs besides, and requirements-dev.lock what tests and checks need besides.
CUDA packages that a CUDA build of torch brings along are left to pip, so that the same lock serves CPU-only and CUDA
builds.
"""

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

HERE = Path(__file__).parent
FROM_TORCH = re.compile(r"^(nvidia|cuda|triton)")
ANALYSIS = ("jinja2", "matplotlib", "numpy", "pandas", "pyarrow", "pydantic", "pyyaml", "safetensors", "scikit-learn",
            "scipy", "seaborn", "statsmodels")  # fmt: skip
NETWORK = (*ANALYSIS, "open-clip-torch", "pillow", "timm", "torch", "torchvision", "tqdm")
PEERS = ("nncf", "onnx", "onnxruntime", "onnxscript", "openvino")


def canonical(name: str) -> str:
    """Spell a package name as the registry does."""
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(roots: list[Requirement]) -> dict[str, str]:
    """Pin the requirements and all that they require, by canonical name."""
    pins: dict[str, str] = {}
    pending = list(roots)
    seen: set[tuple[str, frozenset[str]]] = set()
    while pending:
        requirement = pending.pop()
        name, extras = canonical(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen or FROM_TORCH.match(name):
            continue
        seen.add((name, extras))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue  # required on another platform or Python only
        pins[name] = package.version.split("+")[0]
        for text in package.requires or []:
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in {"", *extras}):
                pending.append(needed)
    return pins


def write_lock(name: str, pins: dict[str, str], head: str) -> None:
    """Write a pip lock file."""
    lines = [f"# {head} Made by `make lock`.", *(f"{package}=={version}" for package, version in sorted(pins.items()))]
    (HERE / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_environment(name: str, packages: tuple[str, ...], pins: dict[str, str], head: str) -> None:
    """Write a conda environment of one stage."""
    lines = [f"# {head} Made by `make lock`.", "channels:", "  - conda-forge", "  - nodefaults", "dependencies:",
             "  - python=3.11", "  - pip", "  - pip:"]  # fmt: skip
    lines += [f"      - {package}=={pins[package]}" for package in packages]
    (HERE / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    needs = [Requirement(text) for text in distribution("lraee").requires or []]
    run = closure([r for r in needs if r.marker is None])
    write_lock("requirements.lock", run, "What a run needs.")
    extras = {
        "slurm": "A run on SLURM, besides.",
        "dev": "Tests and checks, besides.",
        "peers": "The fast engine and what the runtime is timed against, besides.",
    }
    pins = {
        extra: closure([r for r in needs if r.marker is not None and r.marker.evaluate({"extra": extra})])
        for extra in extras
    }
    for extra, head in extras.items():
        besides = {name: version for name, version in pins[extra].items() if name not in run}
        write_lock(f"requirements-{extra}.lock", besides, head)
    write_environment(
        "network.yaml", (*NETWORK, *PEERS), run | pins["peers"], "Stages that run the network or its heads."
    )
    write_environment("analysis.yaml", ANALYSIS, run, "Stages that work on tables.")
