import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from lraee.data.sources import SOURCES
from lraee.data.sources.imagenet_flat import ImageNetFlat
from lraee.models import vision_ops  # noqa: F401  (before torchvision)

import torchvision.datasets.imagenet as torchvision_imagenet  # isort: skip

# The kit's own order is not that of the sorted WordNet ids, and its inner nodes come after the 1,000 classes.
WORDNET_IDS = {1: "n02119789", 2: "n02100735", 3: "n01443537", 4: "n09999999", 1001: "n00001740", 1002: "n01000000"}
GROUND_TRUTH = [2, 4, 1, 1, 3, 2, 3]
LABELS_BY_HAND = [1, 3, 2, 2, 0, 1, 0]  # n01443537 = 0, n02100735 = 1, n02119789 = 2, n09999999 = 3


def _kit(folder: Path, wordnet_ids: dict[int, str] = WORDNET_IDS, truth: list[int] = GROUND_TRUTH) -> Path:
    """A development kit laid out as the original is."""
    data = folder / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    synsets = np.array(
        [(float(number), name, f"words of {name}", "gloss", float(2 * (number > 1000)))
         for number, name in wordnet_ids.items()], dtype=kinds,
    ).reshape(-1, 1)  # fmt: skip
    savemat(data / "meta.mat", {"synsets": synsets})
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{number}\n" for number in truth))
    return data.parent


def _images(folder: Path, numbers: range = range(1, 8)) -> Path:
    folder.mkdir()
    for number in numbers:
        Image.new("RGB", (3, 3), (number, 0, 0)).save(folder / f"ILSVRC2012_val_{number:08d}.JPEG", "PNG")
    return folder


def _source(tmp_path: Path) -> ImageNetFlat:
    return ImageNetFlat(source="imagenet-flat", root=_images(tmp_path / "val"), devkit=_kit(tmp_path))


def test_labels_are_the_ranks_of_the_wordnet_ids(tmp_path: Path) -> None:
    source = _source(tmp_path)
    assert source.class_names() == ["n01443537", "n02100735", "n02119789", "n09999999"]
    allotted = source.allot({"quant": 2, "test": 5}, 0).sort_values("location")
    assert allotted["location"].tolist() == [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 8)]
    assert allotted["label"].tolist() == LABELS_BY_HAND
    for number, location in enumerate(allotted["location"], start=1):
        assert source.open(location, 0).image.getpixel((0, 0)) == (number, 0, 0)


def test_torchvision_reads_the_same_labels_from_the_kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, packed = _source(tmp_path), io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(source.devkit, "ILSVRC2012_devkit_t12")
    (tmp_path / "kit.tar.gz").write_bytes(packed.getvalue())
    known = {"devkit": ("kit.tar.gz", hashlib.md5(packed.getvalue()).hexdigest())}
    monkeypatch.setattr(torchvision_imagenet, "ARCHIVE_META", known)
    torchvision_imagenet.parse_devkit_archive(tmp_path)
    names, truth = torchvision_imagenet.load_meta_file(tmp_path)
    allotted = source.allot({"test": 7}, 0).sort_values("location")
    assert source.class_names() == sorted(names)
    assert [source.class_names()[label] for label in allotted["label"]] == truth


def test_the_kit_s_files_are_watched_and_other_files_told(tmp_path: Path) -> None:
    source = _source(tmp_path)
    (source.root / "notes.txt").touch()
    assert all(path.is_file() for path in source.files())
    assert len(source.files()) == 2
    assert source.unused() == ["notes.txt"]
    assert SOURCES["imagenet-flat"] is ImageNetFlat


def _without_last_image(source: ImageNetFlat) -> None:
    (source.root / "ILSVRC2012_val_00000007.JPEG").unlink()


def _with_another_image(source: ImageNetFlat) -> None:
    (source.root / "ILSVRC2012_val_00000008.JPEG").touch()


def _with_a_gap(source: ImageNetFlat) -> None:
    (source.root / "ILSVRC2012_val_00000003.JPEG").rename(source.root / "ILSVRC2012_val_00000008.JPEG")


def _without_folder(source: ImageNetFlat) -> None:
    source.root.rename(source.root.with_name("elsewhere"))


def _without_kit(source: ImageNetFlat) -> None:
    source.devkit.rename(source.devkit.with_name("elsewhere"))


def _without_truth(source: ImageNetFlat) -> None:
    source.files()[1].unlink()


def _with_a_cut_meta(source: ImageNetFlat) -> None:
    meta = source.files()[0]
    meta.write_bytes(meta.read_bytes()[:-40])


def _with_another_meta(source: ImageNetFlat) -> None:
    savemat(source.files()[0], {"synsets": np.arange(3)})


def _with_an_inner_node(source: ImageNetFlat) -> None:
    source.files()[1].write_text("1\n2\n3\n4\n1001\n2\n1\n")


def _with_a_word(source: ImageNetFlat) -> None:
    source.files()[1].write_text("1\n2\n3\ncat\n1\n2\n1\n")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (_without_last_image, r"val holds 6 .* has 7 lines \(ILSVRC2012_val_00000007.JPEG is missing\); unpack"),
        (_with_another_image, r"val holds 8 .* has 7 lines \(ILSVRC2012_val_00000008.JPEG has no line\); unpack"),
        (_with_a_gap, r"val holds 7 .* has 7 lines \(ILSVRC2012_val_00000003.JPEG is missing\); unpack"),
        (_without_folder, r"val is no folder; it must hold ILSVRC2012_val_00000001.JPEG and so on$"),
        (_without_kit, r"data/.* does not exist; `devkit` must name the unpacked ILSVRC2012_devkit_t12$"),
        (_without_truth, r"ground_truth.txt does not exist; `devkit` must name"),
        (_with_a_cut_meta, r"meta.mat is not readable .*; unpack the development kit again$"),
        (_with_another_meta, r"meta.mat is not readable .*; unpack the development kit again$"),
        (_with_an_inner_node, r"line 5 is '1001', but must be an ILSVRC2012_ID of .*meta.mat, 1 to 4; unpack"),
        (_with_a_word, r"line 4 is 'cat', but must be an ILSVRC2012_ID"),
    ],
)
def test_what_is_missing_or_inconsistent_is_named(
    tmp_path: Path, damage: Callable[[ImageNetFlat], None], sentence: str
) -> None:
    source = _source(tmp_path)
    damage(source)
    with pytest.raises((ValueError, OSError), match=sentence):
        source.allot({"test": 3}, 0)
