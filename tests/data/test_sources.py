import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lraee.data.images import SUFFIXES, UnreadableImageError
from lraee.data.manifest import split_manifest
from lraee.data.sources import SOURCES, deal
from lraee.data.sources.image_folder import ImageFolder
from lraee.data.sources.shapes import ShapesSource
from lraee.data.sources.webdataset import WebDataset
from lraee.io import read_table, write_table
from tests import examples

SPLITS = ("quant", "fit", "gate", "select", "test")


def _listing(classes: int, each: int) -> pd.DataFrame:
    rows = [(f"class{label}/{number}.jpg", label) for label in range(classes) for number in range(each)]
    return pd.DataFrame(rows, columns=["location", "label"])


def _encoded(value: int, mode: str = "RGB", suffix: str = "png") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 10, 200)).convert(mode).save(buffer, "JPEG" if suffix == "jpg" else suffix)
    return buffer.getvalue()


def _shard(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def _folder(root: Path, classes: list[str], each: int) -> Path:
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(each):
            (root / name / f"{number}.png").write_bytes(_encoded(20 * label + number))
    return root


sizes_of = st.tuples(*[st.integers(1, 12)] * 5).map(lambda sizes: dict(zip(SPLITS, sizes, strict=True)))


@settings(max_examples=examples(10))
@given(sizes_of, st.integers(2, 5), st.integers(0, 1000))
def test_deal_fills_every_split_with_different_images(sizes: dict[str, int], classes: int, seed: int) -> None:
    dealt = deal(_listing(classes, 60), sizes, seed, "listing")
    assert dealt["split"].value_counts().to_dict() == sizes
    assert not dealt["location"].duplicated().any()
    assert (dealt["location"].str.extract(r"class(\d+)/")[0].astype(int) == dealt["label"]).all()


@settings(max_examples=examples(10))
@given(sizes_of, st.integers(2, 5), st.integers(0, 1000))
def test_deal_takes_classes_in_turn(sizes: dict[str, int], classes: int, seed: int) -> None:
    dealt = deal(_listing(classes, 60), sizes, seed, "listing")
    counts = np.cumsum(np.eye(classes)[dealt["label"].to_numpy()], axis=0)
    assert (counts.max(axis=1) - counts.min(axis=1) <= 1).all()


@pytest.mark.parametrize("split", SPLITS)
def test_deal_gives_equal_classes_where_sizes_are_multiples(split: str) -> None:
    dealt = deal(_listing(4, 50), dict.fromkeys(SPLITS, 20), 3, "listing")
    assert dealt[dealt["split"] == split]["label"].value_counts().to_dict() == dict.fromkeys(range(4), 5)


@settings(max_examples=examples(10))
@given(sizes_of, st.sampled_from(SPLITS), st.integers(1, 20))
def test_enlarging_a_split_only_adds_images_to_it_and_leaves_earlier_splits(
    sizes: dict[str, int], grown: str, more: int
) -> None:
    before = deal(_listing(3, 60), sizes, 0, "listing").groupby("split")["location"].agg(set)
    after = deal(_listing(3, 60), sizes | {grown: sizes[grown] + more}, 0, "listing").groupby("split")["location"]
    after = after.agg(set)
    assert before[grown] < after[grown]
    for earlier in SPLITS[: SPLITS.index(grown)]:
        assert before[earlier] == after[earlier]


def test_deal_does_not_depend_on_the_order_of_the_listing() -> None:
    listing, sizes = _listing(3, 20), dict.fromkeys(SPLITS, 10)
    shuffled = listing.sample(frac=1.0, random_state=4)
    pd.testing.assert_frame_equal(deal(listing, sizes, 5, "a"), deal(shuffled, sizes, 5, "a"))


def test_another_seed_deals_otherwise() -> None:
    listing, sizes = _listing(3, 20), dict.fromkeys(SPLITS, 10)
    assert not deal(listing, sizes, 0, "a")["location"].equals(deal(listing, sizes, 1, "a")["location"])


def test_the_same_split_of_two_seeds_is_not_the_same_images_in_another_order() -> None:
    listing = _listing(2, 200)
    first, second = (set(deal(listing, {"quant": 100}, seed, "a")["location"]) for seed in (0, 1))
    assert 5 < len(first & second) < 60


def test_too_many_images_are_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"my pictures holds 1,200 images.*ask for 1,201"):
        deal(_listing(3, 400), {"quant": 1, "test": 1200}, 0, "my pictures")


def test_all_images_can_be_dealt() -> None:
    dealt = deal(_listing(3, 4), {"quant": 5, "test": 7}, 0, "a")
    assert sorted(dealt["location"]) == sorted(_listing(3, 4)["location"])


def test_image_folder_lists_sorted_classes_and_every_image_once(tmp_path: Path) -> None:
    _folder(tmp_path, ["zebra", "ant"], 3)
    (tmp_path / "ant" / "notes.txt").write_text("no picture")
    (tmp_path / "ant" / "9.JPEG").write_bytes(_encoded(1, "L", "jpg"))
    source = ImageFolder(source="image-folder", root=tmp_path)
    assert source.class_names() == ["ant", "zebra"]
    allotted = source.allot({"quant": 3, "test": 4}, 0)
    expected = {"ant/0.png", "ant/1.png", "ant/2.png", "ant/9.JPEG", "zebra/0.png", "zebra/1.png", "zebra/2.png"}
    assert set(allotted["location"]) == expected
    assert set(allotted[allotted["location"].str.startswith("zebra")]["label"]) == {1}


def test_image_folder_takes_the_order_of_its_class_list(tmp_path: Path) -> None:
    _folder(tmp_path / "images", ["ant", "bee", "zebra"], 2)
    (tmp_path / "classes.txt").write_text("zebra\nant\n")
    source = ImageFolder(source="image-folder", root=tmp_path / "images", classes=tmp_path / "classes.txt")
    assert source.class_names() == ["zebra", "ant"]
    labels = source.allot({"test": 4}, 0).set_index("location")["label"].to_dict()
    assert labels == {"zebra/0.png": 0, "zebra/1.png": 0, "ant/0.png": 1, "ant/1.png": 1}


@pytest.mark.parametrize(
    ("mode", "suffix"), [("RGB", "png"), ("L", "jpg"), ("CMYK", "jpg"), ("P", "png"), ("RGBA", "png")]
)
def test_every_kind_of_picture_is_opened_as_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / f"1.{suffix}").write_bytes(_encoded(90, mode, suffix))
    image = ImageFolder(source="image-folder", root=tmp_path).open(f"a/1.{suffix}", 0).image
    assert (image.mode, image.size) == ("RGB", (8, 8))


def _list(root: Path, classes: Path | None = None) -> ImageFolder:
    return ImageFolder(source="image-folder", root=root, classes=classes)


def _refused_folder(tmp_path: Path, case: str) -> ImageFolder:
    root, names = tmp_path / "images", tmp_path / "classes.txt"
    if case not in ("absent", "file", "bare"):
        _folder(root, ["ant", "bee"], 2)
    names.write_text({"unlisted": "ant\nbee\ncat\n", "twice": "ant\nbee\nant\n"}.get(case, "ant\nbee\n"))
    match case:
        case "file":
            root.write_text("images.zip")
        case "bare":
            (root / ".git").mkdir(parents=True)
            (root / "1.png").write_bytes(b"")
        case "empty class":
            (root / "cat").mkdir()
        case "no images":
            (root / "cat").mkdir()
            (root / "cat" / "1.txt").touch()
        case "not UTF-8":
            (root / "bee" / os.fsdecode(b"caf\xe9.png")).touch()
    return _list(root, names if case in ("unlisted", "twice") else None)


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("absent", r"images does not exist; it must hold one folder per class$"),
        ("file", r"images is a file; name the folder that holds one folder per class$"),
        ("bare", r"images holds no folder; it must hold one per class, with the images in them$"),
        ("empty class", r"images/cat holds no image \(.avif, .*\); put its images there, or remove the folder$"),
        ("no images", r"images/cat holds no image \(.avif, .*\); put its images there, or remove the folder$"),
        ("unlisted", r"lacks 1 of the 3 class folders that .*classes.txt lists, for example 'cat'; restore them, or"),
        ("twice", r"classes.txt names 'ant' more than once; remove one of the lines$"),
        ("not UTF-8", r"the name 'caf\\udce9.png' is not UTF-8; rename it$"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_in_one_sentence(tmp_path: Path, case: str, sentence: str) -> None:
    with pytest.raises((ValueError, OSError), match=sentence) as caught:
        _refused_folder(tmp_path, case).allot({"test": 2}, 0)
    assert "\n" not in str(caught.value)


def test_an_image_folder_takes_every_suffix_in_either_case_and_symbolic_links(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "picture").write_bytes(_encoded(1))
    names = [f"{number}{suffix}" for number, suffix in enumerate((*SUFFIXES, *map(str.upper, SUFFIXES)))]
    for name in names:
        (tmp_path / "root" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / "a" / name).symlink_to(tmp_path / "far" / "picture")
    source = _list(tmp_path / "root")
    allotted = source.allot({"test": len(names)}, 0)
    assert set(allotted["location"]) == {f"a/{name}" for name in names}
    assert source.open("a/" + names[0], 0).image.size == (8, 8)
    assert {".jpg", ".jpeg", ".jpe", ".png", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif"} <= SUFFIXES
    assert SUFFIXES.isdisjoint({".eps", ".ps", ".pdf", ".svg"})


def test_strange_names_are_names(tmp_path: Path) -> None:
    files = ["two words.png", "naïve 猫.png", "a\nb.png", "a,b;c:d.png", "-x.png", "%41.png", "x.tar.png", "😀.png"]
    for folder in ("Ant", "ant", "great white shark"):
        (tmp_path / folder).mkdir()
        for file in files:
            (tmp_path / folder / file).write_bytes(_encoded(7))
    source = _list(tmp_path)
    # Sorted as bytes are, and names that differ only in case are two classes.
    assert source.class_names() == ["Ant", "ant", "great white shark"]
    manifest = split_manifest(source, "here", {"test": 24}, "test", 0)
    write_table(tmp_path / "m.parquet", manifest)
    read = read_table(tmp_path / "m.parquet")
    assert set(read["location"]) == {f"{folder}/{file}" for folder in source.class_names() for file in files}
    for location in read["location"]:
        assert source.open(location, 0).image.size == (8, 8)


def test_hidden_folders_are_no_classes_and_what_is_not_used_is_told(tmp_path: Path) -> None:
    _folder(tmp_path, [".git", "__MACOSX", ".ipynb_checkpoints", "ant", "bee", "bee/deeper"], 1)
    for name in ("ant/._0.png", "ant/.DS_Store", "ant/notes.txt", "classes.txt", "ant/paper.pdf", "bee/0.png.part"):
        (tmp_path / name).touch()
    (tmp_path / "ant" / "broken.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "ant" / "circle").symlink_to(tmp_path)
    source = _list(tmp_path)
    assert source.class_names() == ["ant", "bee"]
    assert set(source.allot({"test": 2}, 0)["location"]) == {"ant/0.png", "bee/0.png"}
    assert source.unused() == [
        "ant/broken.png", "ant/notes.txt", "ant/paper.pdf", "bee/0.png.part", "bee/deeper/0.png", "classes.txt",
    ]  # fmt: skip


def test_images_of_unlisted_classes_are_not_used(tmp_path: Path) -> None:
    _folder(tmp_path / "images", ["ant", "bee"], 1)
    (tmp_path / "classes.txt").write_text("bee\n")
    assert _list(tmp_path / "images", tmp_path / "classes.txt").unused() == ["ant/0.png"]


def test_one_image_a_class_suffices_for_five_splits() -> None:
    sizes = {"quant": 20, "fit": 100, "gate": 30, "select": 50, "test": 50}
    dealt = deal(_listing(250, 1), sizes, 0, "listing")
    assert dealt["split"].value_counts().to_dict() == sizes
    assert sorted(dealt["label"]) == list(range(250))


@settings(max_examples=examples(20))
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.data())
def test_every_split_has_each_class_in_proportion(classes: list[int], data: st.DataObject) -> None:
    """The bound is that of any slice of the dealing order: each class is within half an image of its share at any
    point of the order, and the number of images there is within half an image a class of the whole's share."""
    total = sum(classes)
    sizes = {split: data.draw(st.integers(1, max(1, total // 5))) for split in SPLITS}
    if sum(sizes.values()) > total:
        sizes = {"test": total}
    rows = [(f"{label}/{number}", label) for label, size in enumerate(classes) for number in range(size)]
    dealt = deal(pd.DataFrame(rows, columns=["location", "label"]), sizes, data.draw(st.integers(0, 99)), "listing")
    for split, size in sizes.items():
        counts = np.bincount(dealt[dealt["split"] == split]["label"], minlength=len(classes))
        shares = np.array(classes) / total
        assert (np.abs(counts - size * shares) <= 1 + len(classes) * shares + 1e-9).all()


def test_a_missing_class_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.txt"):
        ImageFolder(source="image-folder", root=tmp_path, classes=tmp_path / "absent.txt").class_names()


def test_class_names_of_several_words_stay_whole(tmp_path: Path) -> None:
    _folder(tmp_path / "images", ["great white shark", "ant"], 2)
    (tmp_path / "classes.txt").write_text("great white shark\nant\n")
    source = ImageFolder(source="image-folder", root=tmp_path / "images", classes=tmp_path / "classes.txt")
    assert source.class_names() == ["great white shark", "ant"]
    assert len(source.allot({"test": 4}, 0)) == 4


def _webdataset(tmp_path: Path) -> WebDataset:
    (tmp_path / "classes.txt").write_text("ant\nbee\n")
    return WebDataset(source="webdataset", shards=tmp_path, classes=tmp_path / "classes.txt")


def test_webdataset_opens_the_picture_that_belongs_to_the_label(tmp_path: Path) -> None:
    for shard in range(2):
        members: dict[str, bytes] = {}
        for number in range(6):
            value = 6 * shard + number
            members[f"{value:06d}.png"] = _encoded(value)
            members[f"{value:06d}.cls"] = str(value % 2).encode()
        _shard(tmp_path / f"shard-{shard}.tar", members)
    source = _webdataset(tmp_path)
    assert source.class_names() == ["ant", "bee"]
    allotted = source.allot({"quant": 4, "test": 8}, 0)
    reds = []
    for location, label in zip(allotted["location"], allotted["label"], strict=True):
        pixel = np.asarray(source.open(location, label).image)[0, 0]
        assert tuple(pixel[1:]) == (10, 200)
        assert pixel[0] % 2 == label
        reds.append(int(pixel[0]))
    assert sorted(reds) == list(range(12))


def test_webdataset_takes_labels_before_their_images(tmp_path: Path) -> None:
    _shard(tmp_path / "a.tar", {"1.cls": b"1\n", "1.jpg": _encoded(3, suffix="jpg")})
    assert _webdataset(tmp_path).allot({"test": 1}, 0)["label"].tolist() == [1]


@pytest.mark.parametrize("members", [{"7.png": b"x"}, {"7.cls": b"1"}])
def test_a_sample_without_image_or_label_is_named(tmp_path: Path, members: dict[str, bytes]) -> None:
    _shard(tmp_path / "a.tar", {"1.png": b"x", "1.cls": b"0"} | members)
    with pytest.raises(ValueError, match=r"a\.tar.*sample 7 lacks"):
        _webdataset(tmp_path).allot({"test": 1}, 0)


def test_a_folder_without_shards_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"shard"):
        _webdataset(tmp_path).allot({"test": 1}, 0)


def test_samples_of_the_same_number_in_two_folders_of_a_shard_are_not_lost(tmp_path: Path) -> None:
    members = {f"{folder}/0001.{kind}": b"0" for folder in ("x", "y") for kind in ("png", "cls")}
    _shard(tmp_path / "a.tar", members)
    assert len(_webdataset(tmp_path).allot({"test": 2}, 0)) == 2


def test_a_label_outside_the_class_list_is_refused(tmp_path: Path) -> None:
    _shard(tmp_path / "a.tar", {"1.png": b"x", "1.cls": b"2"})
    with pytest.raises(ValueError, match="2"):
        _webdataset(tmp_path).allot({"test": 1}, 0)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    _shard(tmp_path / "damaged.tar", {"1.png": b"x" * 2000, "1.cls": b"0"})
    (tmp_path / "damaged.tar").write_bytes((tmp_path / "damaged.tar").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"damaged\.tar is not a whole.*download it again"):
        _webdataset(tmp_path).allot({"test": 1}, 0)


def test_a_shard_cut_anywhere_is_named_until_nothing_is_lost(tmp_path: Path) -> None:
    shard = tmp_path / "cut.tar"
    _shard(shard, {"1.png": b"x" * 700, "1.cls": b"0", "2.cls": b"1", "2.png": b"y" * 512})
    whole = shard.read_bytes()
    end = 4 * 512 + 1024 + 512 + 512 + 512
    for length in [*range(0, end, 64), *range(end - 2, end + 512), 511, 513]:
        shard.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.tar is not a whole"):
            _webdataset(tmp_path).allot({"test": 2}, 0)
    shard.write_bytes(whole[: end + 512])
    assert len(_webdataset(tmp_path).allot({"test": 2}, 0)) == 2


def test_a_shard_with_rubbish_between_its_members_is_named(tmp_path: Path) -> None:
    shard = tmp_path / "rubbish.tar"
    _shard(shard, {"1.png": b"x", "1.cls": b"0", "2.png": b"x", "2.cls": b"0"})
    content = bytearray(shard.read_bytes())
    content[2048:2560] = b"?" * 512
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=r"rubbish\.tar is not a whole.*after byte 2,048"):
        _webdataset(tmp_path).allot({"test": 1}, 0)


@pytest.mark.parametrize("label", [b"", b"cat", b"1.5"])
def test_a_label_that_is_no_number_is_named(tmp_path: Path, label: bytes) -> None:
    _shard(tmp_path / "a.tar", {"1.png": b"x", "1.cls": label})
    with pytest.raises(ValueError, match=r"a\.tar: 1\.cls is .*must be the number of a class"):
        _webdataset(tmp_path).allot({"test": 1}, 0)


def test_a_sample_with_two_images_is_named(tmp_path: Path) -> None:
    _shard(tmp_path / "a.tar", {"1.png": b"x", "1.jpg": b"x", "1.cls": b"0"})
    with pytest.raises(ValueError, match=r"a\.tar: sample 1 has more than one image"):
        _webdataset(tmp_path).allot({"test": 1}, 0)


def test_images_of_a_shard_are_converted_and_refused_as_files_are(tmp_path: Path) -> None:
    members = {"1.png": _encoded(1, "P"), "2.png": b"", "3.png": _encoded(1)[:45]}
    _shard(tmp_path / "a.tar", members | {f"{number}.cls": b"0" for number in (1, 2, 3)})
    source = _webdataset(tmp_path)
    found = source.allot({"test": 3}, 0)["location"].sort_values(key=lambda c: c.str.split(":").str[1].astype(int))
    first, second, third = found
    assert source.open(first, 0).conversions == ("palette, converted to RGB",)
    with pytest.raises(UnreadableImageError, match="empty file"):
        source.open(second, 0)
    with pytest.raises(UnreadableImageError, match="truncated file"):
        source.open(third, 0)


@settings(max_examples=examples(10))
@given(sizes_of, sizes_of)
def test_the_size_of_one_split_of_shapes_moves_no_other(first: dict[str, int], second: dict[str, int]) -> None:
    source = ShapesSource(source="shapes")
    one, two = (source.allot(sizes, 0).groupby("split")["location"].agg(list) for sizes in (first, second))
    for split in SPLITS:
        shorter = min(len(one[split]), len(two[split]))
        assert one[split][:shorter] == two[split][:shorter]


def test_no_picture_of_shapes_is_in_two_splits_and_classes_come_in_turn() -> None:
    allotted = ShapesSource(source="shapes").allot(dict.fromkeys(SPLITS, 288), 0)
    assert not allotted["location"].duplicated().any()
    assert (allotted.groupby(["split", "label"]).size() == 2).all()


def test_a_negative_picture_seed_is_refused_when_it_is_read() -> None:
    with pytest.raises(ValueError, match="picture_seed"):
        ShapesSource(source="shapes", picture_seed=-1)


def test_the_three_sources_are_found_by_name() -> None:
    assert set(SOURCES) >= {"shapes", "image-folder", "webdataset"}


def test_real_shards_agree_with_their_folder_of_classes(real_data: Path) -> None:
    tiny = real_data / "tiny-imagenet"
    shards = WebDataset(source="webdataset", shards=tiny / "train-wds", classes=tiny / "wnids.txt")
    folder = ImageFolder(source="image-folder", root=tiny / "val")
    assert shards.class_names() == folder.class_names()
    allotted = shards.allot({"quant": 200, "test": 400}, 0)
    assert (allotted[allotted["split"] == "quant"]["label"].value_counts() == 1).all()
    first = allotted.iloc[0]
    assert shards.open(first["location"], first["label"]).image.size == (64, 64)
