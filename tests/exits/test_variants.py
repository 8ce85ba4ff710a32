import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lraee.exits.variants import (
    BASE,
    DEVELOPMENT,
    Images,
    Variant,
    deal_again,
    images_variant,
    seed_variant,
    temperature_variant,
    variants,
)
from tests import examples


def _images(rows):
    source, split, label = zip(*rows, strict=True)
    return Images(np.array(source), np.array(split), np.array(label))


rows = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(DEVELOPMENT), st.integers(0, 3)), min_size=1, max_size=80
)


@given(rows, st.integers(1, 10))
@settings(max_examples=examples(20))
def test_dealing_again_keeps_every_splits_images_of_each_source_and_class(listed, seed):
    images = _images(listed)
    dealt = deal_again(images, seed)
    before = sorted(zip(images.source, images.label, images.split, strict=True))
    assert sorted(zip(images.source, images.label, dealt, strict=True)) == before


def test_images_of_one_class_change_splits_and_other_sources_stay_apart():
    listed = [("train", "fit", label) for label in range(3) for _ in range(50)]
    listed += [("val", split, label) for split in ("gate", "select") for label in range(3) for _ in range(50)]
    images = _images(listed)
    dealt = deal_again(images, seed=1)
    assert (dealt[images.source == "train"] == "fit").all()
    moved = dealt[images.source == "val"] != images.split[images.source == "val"]
    assert 0.35 < moved.mean() < 0.65


def test_seed_0_keeps_the_dealt_splits_and_other_seeds_differ_from_each_other():
    images = _images([("a", split, 0) for split in DEVELOPMENT for _ in range(100)])
    assert (deal_again(images, 0) == images.split).all()
    first, again, second = (deal_again(images, seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert not (first == second).all()


def test_variants_name_what_differs_from_the_base_and_nothing_else():
    made = variants(seeds=3, images=[100, 200, 300], temperatures=[0.5, 1.0], fit_images=200)
    assert [v.name for v in made] == [BASE, "seed-1", "seed-2", "images-100", "temperature-0.5"]
    assert [v.fitted for v in made] == [True, True, True, True, False]
    assert [v.seed for v in made] == [0, 1, 2, 0, 0]
    assert made[3].images == 100


def test_variants_are_found_again_by_what_they_differ_in():
    made = {v.name: v for v in variants(seeds=2, images=[50], temperatures=[2.0, 0.25], fit_images=100)}
    assert [made[seed_variant(seed)].seed for seed in (0, 1)] == [0, 1]
    assert made[images_variant(50, 100)] == Variant(name="images-50", images=50)
    assert [made[temperature_variant(t)].temperature for t in (2.0, 0.25, 1.0)] == [2.0, 0.25, 1.0]
    assert {images_variant(100, 100), images_variant(101, 100), temperature_variant(1.0), seed_variant(0)} == {BASE}
    assert len(made) == 5


@given(rows, st.integers(0, 5))
@settings(max_examples=examples(13))
def test_dealing_again_leaves_the_images_themselves_alone(listed, seed):
    images = _images(listed)
    before = images.split.copy()
    deal_again(images, seed)
    assert (images.split == before).all()


def test_every_image_reaches_every_split_of_its_source_over_the_seeds():
    images = _images([("a", split, 0) for split in DEVELOPMENT for _ in range(4)])
    met = np.stack([deal_again(images, seed) for seed in range(1, 60)], axis=1)
    assert all(set(row) == set(DEVELOPMENT) for row in met)
    # Each split holds a third of the images, so each image is in it a third of the time.
    assert 0.15 < (met == "fit").mean(axis=1).min() < (met == "fit").mean(axis=1).max() < 0.55
