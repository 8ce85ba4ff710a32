from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from lraee.data.manifest import SPLITS, DataSettings, class_names
from tests import examples
from tests.data.manifests import build_manifest


def _data(sources: dict[str, Any], sizes: dict[str, int], source_of: dict[str, str] | None = None) -> DataSettings:
    where = source_of or dict.fromkeys(SPLITS, next(iter(sources)))
    splits = {split: {"source": where[split], "images": sizes[split]} for split in SPLITS}
    return DataSettings.model_validate({"sources": sources, "splits": splits})


def _folder(root: Path, classes: tuple[str, ...] = ("ant", "bee", "cat"), each: int = 20) -> dict[str, Any]:
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(each):
            Image.new("RGB", (4, 4)).save(root / name / f"{number}.png")
    return {"source": "image-folder", "root": str(root)}


SHAPES = {"shapes": {"source": "shapes"}}
sizes_of = st.tuples(*[st.integers(1, 200)] * 5).map(lambda sizes: dict(zip(SPLITS, sizes, strict=True)))


@settings(max_examples=examples(10))
@given(sizes_of)
def test_a_manifest_has_every_split_in_full_and_no_image_twice(sizes: dict[str, int]) -> None:
    manifest = build_manifest(_data(SHAPES, sizes), 0)
    assert list(manifest.columns) == ["sample", "split", "source", "location", "label"]
    assert manifest["split"].value_counts().to_dict() == sizes
    assert not manifest.duplicated(["source", "location"]).any()
    assert manifest["sample"].tolist() == [i for split in SPLITS for i in range(sizes[split])]
    assert list(dict.fromkeys(manifest["split"])) == list(SPLITS)


@pytest.mark.parametrize("n", [1, 2, 100, 144, 145, 300, 500])
@pytest.mark.parametrize("split", ["quant", "test"])
def test_the_first_images_of_a_split_are_balanced(split: str, n: int) -> None:
    manifest = build_manifest(_data(SHAPES, dict.fromkeys(SPLITS, 500)), 0)
    counts = manifest[manifest["split"] == split]["label"].head(n).value_counts().reindex(range(144), fill_value=0)
    assert counts.sum() == n
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("grown", SPLITS)
def test_enlarging_a_split_of_shapes_moves_no_picture(grown: str) -> None:
    sizes = dict.fromkeys(SPLITS, 150)
    one, two = (build_manifest(_data(SHAPES, s), 0) for s in (sizes, sizes | {grown: 300}))
    for split in SPLITS:
        before, after = (set(zip(m["location"], m["label"], strict=True)) for m in (
            one[one["split"] == split], two[two["split"] == split]))  # fmt: skip
        assert before < after if split == grown else before == after


def test_splits_of_one_folder_are_disjoint_balanced_and_repeatable(tmp_path: Path) -> None:
    data = _data({"photos": _folder(tmp_path / "a")}, dict.fromkeys(SPLITS, 12))
    manifest = build_manifest(data, 4)
    assert not manifest["location"].duplicated().any()
    assert (manifest.groupby(["split", "label"]).size() == 4).all()
    pd.testing.assert_frame_equal(manifest, build_manifest(data, 4))
    assert not manifest["location"].equals(build_manifest(data, 5)["location"])


def test_the_order_of_the_splits_in_the_file_does_not_matter(tmp_path: Path) -> None:
    source = {"photos": _folder(tmp_path / "a")}
    splits = {split: {"source": "photos", "images": 6} for split in SPLITS}
    backwards = dict(reversed(splits.items()))
    one, two = (
        build_manifest(DataSettings.model_validate({"sources": source, "splits": s}), 0) for s in (splits, backwards)
    )
    pd.testing.assert_frame_equal(one, two)


def test_two_sources_with_the_same_classes_share_a_manifest(tmp_path: Path) -> None:
    sources = {"train": _folder(tmp_path / "a"), "val": _folder(tmp_path / "b")}
    where = dict.fromkeys(SPLITS, "train") | {"test": "val"}
    manifest = build_manifest(_data(sources, dict.fromkeys(SPLITS, 6), where), 0)
    assert set(manifest[manifest["split"] == "test"]["source"]) == {"val"}
    assert set(manifest[manifest["split"] != "test"]["source"]) == {"train"}


def test_sources_with_other_classes_are_refused(tmp_path: Path) -> None:
    sources = {"train": _folder(tmp_path / "a"), "val": _folder(tmp_path / "b", ("ant", "bee", "dog"))}
    with pytest.raises(ValueError, match="'train' and 'val' list different classes"):
        class_names(_data(sources, dict.fromkeys(SPLITS, 3), dict.fromkeys(SPLITS, "train")).sources)


def test_more_images_than_the_folder_holds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds 60 images.*ask for 65"):
        build_manifest(_data({"photos": _folder(tmp_path / "a")}, dict.fromkeys(SPLITS, 13)), 0)


def test_the_same_source_under_two_names_is_refused() -> None:
    with pytest.raises(ValidationError, match="'one' and 'two' both read"):
        _data({"one": {"source": "shapes"}, "two": {"source": "shapes"}}, dict.fromkeys(SPLITS, 3))


def test_shapes_of_two_seeds_are_two_sources() -> None:
    sources = {"one": {"source": "shapes"}, "two": {"source": "shapes", "picture_seed": 1}}
    where = dict.fromkeys(SPLITS, "one") | {"test": "two"}
    assert len(build_manifest(_data(sources, dict.fromkeys(SPLITS, 3), where), 0)) == 15


@pytest.mark.parametrize("respelled", ["a/../a", "link", "listed"])
def test_one_folder_spelled_in_two_ways_gives_no_image_to_two_splits(tmp_path: Path, respelled: str) -> None:
    first = _folder(tmp_path / "a")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "classes.txt").write_text("ant\nbee\ncat\n")
    second = dict(first, root=str(tmp_path / respelled))
    if respelled == "listed":
        second = dict(first, classes=str(tmp_path / "classes.txt"))
    where = dict.fromkeys(SPLITS, "one") | {"test": "two"}
    with pytest.raises(ValueError, match="would overlap"):
        build_manifest(_data({"one": first, "two": second}, dict.fromkeys(SPLITS, 12), where), 0)


def test_a_missing_split_is_named() -> None:
    splits = {split: {"source": "shapes", "images": 1} for split in SPLITS if split != "gate"}
    with pytest.raises(ValidationError, match="lacks 'gate'"):
        DataSettings.model_validate({"sources": SHAPES, "splits": splits})


def test_an_unknown_source_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValidationError, match=r"splits\.quant\.source is 'other'; sources are shapes"):
        _data(SHAPES, dict.fromkeys(SPLITS, 1), dict.fromkeys(SPLITS, "other"))


def test_the_classes_of_shapes_are_the_144_held_out_captions() -> None:
    names = class_names(_data(SHAPES, dict.fromkeys(SPLITS, 1)).sources)
    assert len(set(names)) == 144
    assert all(len(name.split()) == 3 for name in names)
