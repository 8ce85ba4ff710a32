# Names that every rule uses. The configuration is checked here, before any job starts.
import os
import sys
from math import ceil
from pathlib import Path

from snakemake.exceptions import WorkflowError

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT))
# Scripts may run in a conda environment, where the project itself is not installed.
os.environ.update(PYTHONPATH=str(ROOT))

from lraee.code_version import code_hash, content_hash
from lraee.config import ConfigError, fingerprint, load_config
from lraee.data.manifest import SPLITS
from lraee.exits.variants import DEVELOPMENT
from lraee.names import FP32

try:
    CONFIG = load_config(config)
except ConfigError as error:
    raise WorkflowError(f"The configuration is refused.\n{error}") from None


def plain(settings):
    """Settings as the plain values that a rule passes to its script."""
    return settings.model_dump(mode="json")


RESULTS = f"results/{CONFIG.experiment}"
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"
REPORT = f"reports/{CONFIG.experiment}"
MODEL = f"{RESULTS}/model.safetensors"
PRECISIONS = [FP32, *CONFIG.quantizers]
SCORED = ["gate", "select", "test"]
# What each job that runs the network takes of a machine; `--resources gpu=1` lets one run at a time.
GPUS = 1 if CONFIG.device == "cuda" else 0
EXTRACTED = [split for split in SPLITS if split != "quant"]
SOURCES = {name: plain(source) for name, source in CONFIG.data.sources.items()}
VARIANTS = CONFIG.exits.variants(CONFIG.data.splits["fit"].images)
HEAD_PLAN = {
    "candidates": list(CONFIG.exits.candidates),
    "depth": CONFIG.model.depth,
    "aggregation": CONFIG.exits.headline.aggregation,
    "supervision": CONFIG.exits.headline.supervision,
}


for place in (RESULTS, REPORT):
    existing = next(p for p in [Path(place), *Path(place).parents] if p.exists())
    if not os.access(existing, os.W_OK):
        raise WorkflowError(
            f"{place} cannot be written: {existing.resolve()} is read-only for you. "
            "Free it, or run in a folder of your own."
        )


wildcard_constraints:
    quantizer="|".join(CONFIG.quantizers),
    precision="|".join(PRECISIONS),
    shard="[0-9]+",
    split="|".join(SPLITS),


def memory(wildcards, attempt):
    """MiB that a job asks for: what a batch of ViT-B takes, and more after each failure."""
    return 3000 * attempt


def code(script, *modules):
    """Hash of the script and of all project modules that it reaches: a change there re-runs the rule."""
    return code_hash(
        ROOT / "workflow" / "scripts" / script, *(ROOT / "lraee" / m for m in modules)
    )


def scheme_of(precision):
    """A quantizer's plain settings; None for FP32."""
    return None if precision == FP32 else plain(CONFIG.quantizers[precision])


def scheme_modules(precision):
    """The modules of a quantizer's scheme and those it builds on: a change in one re-runs its own quantizers only."""
    names, inner = [], scheme_of(precision)
    while inner:
        names.append(inner["scheme"].replace("-", "_"))
        nested = [v for v in inner.values() if isinstance(v, dict) and "scheme" in v]
        inner = nested[0] if nested else None
    return [f"quantize/schemes/{name}.py" for name in names]


def source_modules():
    """The modules of the data sources in use."""
    return sorted(
        {
            f"data/sources/{s.source.replace('-', '_')}.py"
            for s in CONFIG.data.sources.values()
        }
    )


def model_module():
    """The module of the model's family."""
    return f"models/families/{CONFIG.model.family}.py"


def policy_modules():
    """The modules of the exit policies in use."""
    names = CONFIG.exits.policies()
    return sorted(f"exits/policies/{name.replace('-', '_')}.py" for name in names)


def all_modules(*folders):
    """The modules of whole registries, by folder: for members that take too little to tell them apart."""
    root = ROOT / "lraee"
    return sorted(
        str(p.relative_to(root))
        for folder in folders
        for p in root.glob(f"{folder}/*.py")
    )


def source_of(split):
    """The data source that a split draws from."""
    return CONFIG.data.sources[CONFIG.data.splits[split].source]


def watched(*parts):
    """The single files that a model or source is read from: rules re-run when they change."""
    return [local(os.path.relpath(path)) for part in parts for path in part.files()]


def shards(split):
    """The names of a split's feature files: its images are extracted in so many jobs."""
    images = CONFIG.data.splits[split].images
    return [f"{n:03d}" for n in range(ceil(images / CONFIG.features.shard))]


# The development splits are extracted in one job where they fit into a shard together: the network is loaded once for
# all of them, and a kill loses no more than a shard.
TOGETHER = list(DEVELOPMENT)
if sum(CONFIG.data.splits[s].images for s in TOGETHER) > CONFIG.features.shard:
    TOGETHER = []


def pictures(split, shards):
    """The pictures of some shards of a split whose source draws them; nothing where it reads them."""
    if not source_of(split).drawn:
        return []
    return [f"{RESULTS}/pictures/{split}/{n}.parquet" for n in shards]


def identity(precision, split, shard):
    """What a feature file depends on, apart from code and weights: readers refuse a file of another identity."""
    state = None
    if precision != FP32:
        calibration = (source_of("quant"), CONFIG.data.sizes("quant"))
        state = fingerprint(scheme_of(precision), *calibration)
    return fingerprint(
        source_of(split),
        CONFIG.data.sizes(split),
        split,
        CONFIG.seed,
        CONFIG.model,
        state,
        [CONFIG.features.shard, shard],
    )


def extracted(precision, split, shard):
    """Which images of a split's manifest are in a feature file, and the file's identity."""
    images = CONFIG.features.shard
    first = int(shard) * images
    return {
        "first": first,
        "images": images,
        "identity": identity(precision, split, shard),
    }


def identities(precision, split):
    """The identities of a split's feature files, in the order of the files."""
    return [identity(precision, split, shard) for shard in shards(split)]


def features(precision, *splits):
    """The feature files of one split or several."""
    folder = f"{RESULTS}/features/{precision}"
    return [f"{folder}/{split}/{n}.parquet" for split in splits for n in shards(split)]


def utilisation_needed(quantizer):
    """What a quantizer must know of the exits fitted on others."""
    points = CONFIG.quantizers[quantizer].needs()
    return [f"{RESULTS}/utilisation/{point.quantizer}.parquet" for point in points]


def quantizer_state(precision):
    """The calibrated state of a quantizer; nothing for FP32."""
    return [] if precision == FP32 else f"{RESULTS}/quantizers/{precision}.safetensors"


def evaluated(quantizer):
    """What an evaluation is of: an export takes these files, and no others."""
    return {
        "state": quantizer_state(quantizer),
        "heads": f"{RESULTS}/heads/{quantizer}.safetensors",
        "probes": f"{RESULTS}/scores/{quantizer}/probes.safetensors",
        "policies": f"{RESULTS}/policies/{quantizer}.json",
        "classes": f"{RESULTS}/classes.safetensors",
    }
