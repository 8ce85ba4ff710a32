import numpy as np
import pytest
import torch

from lraee.exits.development import read_development
from lraee.exits.variants import DEVELOPMENT
from lraee.features.extract import LayerFeatures
from lraee.features.store import Row, write_features
from lraee.io import UnreadableFileError

SIZES = {"fit": 4, "gate": 2, "select": 3}


def features_of(samples):
    """Features that tell image and layer: 100 * sample + layer."""
    n = len(samples)
    marks = 100.0 * torch.tensor(samples)[:, None] + torch.arange(1, 4)
    state = marks[..., None].expand(n, 3, 2)
    return LayerFeatures(cls=state.half(), mean=-state.half(), sav=marks.float(), final=marks[:, :1].float())


@pytest.fixture
def paths(tmp_path):
    starts = {"select": 0, "fit": 3, "gate": 7}
    for split, n in SIZES.items():
        samples = list(range(starts[split], starts[split] + n))
        row = Row(samples, [sample % 2 for sample in samples], features_of(samples))
        write_features(tmp_path / f"{split}.parquet", [row], f"id-{split}", [])
    return {split: tmp_path / f"{split}.parquet" for split in SIZES}


IDENTITIES = {split: f"id-{split}" for split in SIZES}
SOURCES = {"fit": "train", "gate": "val", "select": "val"}


def test_the_pool_is_fit_then_gate_then_select_and_says_where_each_row_comes_from(paths):
    features, images = read_development(paths, IDENTITIES, SOURCES, [3, 1])
    assert features.samples.tolist() == [3, 4, 5, 6, 7, 8, 0, 1, 2]
    assert images.split.tolist() == ["fit"] * 4 + ["gate"] * 2 + ["select"] * 3
    assert images.source.tolist() == ["train"] * 4 + ["val"] * 5
    assert images.label.tolist() == features.labels.tolist() == [s % 2 for s in features.samples]
    expected = 100 * features.samples[:, None] + np.array([3, 1])
    assert features.sav.tolist() == expected.tolist()
    assert features.cls[..., 0].tolist() == features.cls[..., 1].tolist() == expected.tolist()
    assert features.mean[..., 0].tolist() == (-expected).tolist()


def test_the_order_of_the_arguments_does_not_matter(paths):
    turned = {split: paths[split] for split in reversed(DEVELOPMENT)}
    one, other = (read_development(given, IDENTITIES, SOURCES, [1]) for given in (paths, turned))
    assert one[0].samples.tolist() == other[0].samples.tolist()
    assert one[1].split.tolist() == other[1].split.tolist()


def test_a_split_of_another_identity_is_refused(paths):
    with pytest.raises(UnreadableFileError, match=r"gate\.parquet .*identity id-gate, expected other"):
        read_development(paths, IDENTITIES | {"gate": "other"}, SOURCES, [1])
