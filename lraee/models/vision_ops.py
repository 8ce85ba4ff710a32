"""Make `import torchvision` work beside a torch it was not built for.

pip can pair a CPU-only torch with a CUDA build of torchvision. Its compiled operators then fail to load, and the import
dies on registering shapes for two of them (`operator torchvision::nms does not exist`). open_clip and timm import
torchvision but use none of those operators, so declaring the two missing schemas is enough. A matched pair loads its
operators and is left alone. Import this module before open_clip or timm.
"""

import importlib.util
from pathlib import Path

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def operators_load() -> bool:
    """Tell whether torchvision's compiled operators load beside the installed torch."""
    spec = importlib.util.find_spec("torchvision")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    # `_C.so` until torchvision 0.28, `_C_stable.so` since.
    found = (path for folder in folders for path in Path(folder).glob("_C*"))
    libraries = [path for path in found if path.suffix in (".so", ".pyd")]
    try:
        for library in libraries:
            torch.ops.load_library(library)
    except OSError:
        return False
    return bool(libraries)


def _declare_missing() -> torch.library.Library | None:
    if operators_load():
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    return library


# The library object owns the declarations: they last as long as it is referenced.
DECLARED = _declare_missing()
