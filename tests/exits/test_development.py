import numpy as np
import pytest
import torch

from lraee.exits import development
from lraee.exits.development import open_development
from lraee.features.extract import LayerFeatures
from lraee.features.store import Row, Shard, concatenate, write_features
from lraee.io import UnreadableFileError

SIZES = {"fit": [4, 3], "gate": [2], "select": [3]}
SAMPLES = {"fit": [3, 4, 5, 6, 10, 11, 12], "gate": [7, 8], "select": [0, 1, 2]}
SOURCES = {"fit": "train", "gate": "val", "select": "val"}
IN_ORDER = [sample for split in ("fit", "gate", "select") for sample in SAMPLES[split]]


def features_of(samples, sign):
    """Features that tell image, layer and precision: sign * (100 * sample + layer)."""
    marks = sign * (100.0 * torch.tensor(samples)[:, None] + torch.arange(1, 4))
    state = marks[..., None].expand(len(samples), 3, 2)
    return LayerFeatures(cls=state.half(), mean=-state.half(), sav=marks.float(), final=marks[:, :1].float())


def write(folder, sign):
    """Two shards of fit and one of each other split; two images a row group."""
    shards = {}
    for split, sizes in SIZES.items():
        starts = np.cumsum([0, *sizes])
        shards[split] = [Shard(folder / f"{split}-{n}.parquet", f"{split}-{n}") for n in range(len(sizes))]
        for shard, start, end in zip(shards[split], starts[:-1], starts[1:], strict=True):
            samples = SAMPLES[split][start:end]
            parts = [samples[n : n + 2] for n in range(0, len(samples), 2)]
            rows = [Row(part, [sample % 2 for sample in part], features_of(part, sign)) for part in parts]
            write_features(shard.path, rows, shard.identity, [])
    return shards


@pytest.fixture
def shards(tmp_path, monkeypatch):
    monkeypatch.setattr("lraee.features.store.ROW_GROUP", 2)
    (tmp_path / "fp32").mkdir()
    return write(tmp_path, 1.0), write(tmp_path / "fp32", -1.0)


def pool_of(shards):
    return open_development(*shards, SOURCES)


def test_the_pool_is_fit_then_gate_then_select_and_says_where_each_place_comes_from(shards):
    pool = pool_of(shards)
    (part,) = pool.parts([3, 1])
    assert part.features.samples.tolist() == IN_ORDER
    assert part.places.tolist() == list(range(12))
    assert pool.images.split.tolist() == ["fit"] * 7 + ["gate"] * 2 + ["select"] * 3
    assert pool.images.source.tolist() == ["train"] * 7 + ["val"] * 5
    assert pool.images.label.tolist() == part.features.labels.tolist() == [sample % 2 for sample in IN_ORDER]
    expected = 100 * np.array(IN_ORDER)[:, None] + np.array([3, 1])
    assert part.features.sav.tolist() == expected.tolist()
    assert part.features.cls[..., 0].tolist() == part.features.cls[..., 1].tolist() == expected.tolist()
    assert part.features.mean[..., 0].tolist() == (-expected).tolist()
    assert part.targets[:, 0].tolist() == (-100.0 * np.array(IN_ORDER) - 1).tolist()


@pytest.mark.parametrize("order", [None, 0, 1])
@pytest.mark.parametrize("images", [1, 4, 5, 100])
def test_no_part_holds_more_than_allowed_and_together_they_are_the_pool(shards, monkeypatch, images, order):
    monkeypatch.setattr(development, "PART_BYTES", images * 2 * 2 * 2 * 3)  # 3 layers, [CLS] and mean, d = 2, 2 bytes
    generator = None if order is None else np.random.default_rng(order)
    parts = list(pool_of(shards).parts([1, 2, 3], generator))
    assert all(len(part.places) <= max(images, 2) for part in parts)  # a row group is never cut
    assert len(parts) >= 12 / max(images, 2)
    for part in parts:
        assert part.features.samples.tolist() == [IN_ORDER[place] for place in part.places]
        assert part.targets[:, 0].tolist() == [-100.0 * IN_ORDER[place] - 1 for place in part.places]
    places = np.concatenate([part.places for part in parts])
    assert sorted(places) == list(range(12))
    if order is None:
        assert places.tolist() == list(range(12))
        assert concatenate([part.features for part in parts]).samples.tolist() == IN_ORDER


def test_a_random_order_depends_on_its_generator_alone(shards, monkeypatch):
    monkeypatch.setattr(development, "PART_BYTES", 1)

    def places(seed):
        return [part.places.tolist() for part in pool_of(shards).parts([1], np.random.default_rng(seed))]

    assert places(0) == places(0)
    assert len({str(places(seed)) for seed in range(5)}) > 1


def test_a_pool_that_fits_is_read_once(shards, monkeypatch):
    read, reading = [], development.read_row_group
    monkeypatch.setattr(development, "read_row_group", lambda *args: read.append(args) or reading(*args))
    pool = pool_of(shards)
    for seed in range(3):
        list(pool.parts([1, 2], np.random.default_rng(seed)))
    assert len([args for args in read if list(args[2]) == [1, 2]]) == len(pool.units)


def test_a_shard_of_another_identity_is_refused(shards):
    own, fp32 = shards
    with pytest.raises(UnreadableFileError, match=r"gate-0\.parquet .*identity gate-0, expected other"):
        open_development(own | {"gate": [own["gate"][0]._replace(identity="other")]}, fp32, SOURCES)


def test_other_images_in_fp32_are_refused(shards, tmp_path):
    own, fp32 = shards
    (turned,) = fp32["gate"]
    write_features(turned.path, [Row([8, 7], [0, 1], features_of([8, 7], -1.0))], turned.identity, [])
    with pytest.raises(ValueError, match=r"gate-0\.parquet and .*gate-0\.parquet hold different images"):
        list(open_development(own, fp32, SOURCES).parts([1]))
    write_features(turned.path, [Row([7], [1], features_of([7], -1.0))], turned.identity, [])
    with pytest.raises(ValueError, match="hold different images"):
        open_development(own, fp32, SOURCES)
