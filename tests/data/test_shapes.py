import colorsys
import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageColor

from lraee.data.shapes import COLOURS, Composition, compositions, render
from lraee.data.sources.shapes import ShapesSource
from tests import examples


def _draw(job: tuple[int, int, Composition]) -> bytes:
    return render(*job).tobytes()


def _object_weights(index: int, shape: str, pattern: str = "plain") -> np.ndarray:
    """How strongly each pixel shows the object: two pictures that differ in nothing but its colour."""
    red = render(7, index, Composition(pattern, "red", shape)).astype(float)
    blue = render(7, index, Composition(pattern, "blue", shape)).astype(float)
    return np.abs(red - blue).sum(axis=2)


def test_576_compositions_train_and_144_others_are_held_out() -> None:
    training, held_out = compositions()
    assert (len(training), len(held_out)) == (576, 144)
    assert len({c.name for c in training + held_out}) == 720


def test_every_word_of_a_held_out_class_was_seen_in_training() -> None:
    training, held_out = compositions()
    for place in range(3):
        assert {c[place] for c in held_out} <= {c[place] for c in training}


def test_every_held_out_word_keeps_its_place_in_the_caption() -> None:
    assert Composition("striped", "teal", "star").name == "striped teal star"


def test_all_720_compositions_draw_a_56_pixel_rgb_picture() -> None:
    training, held_out = compositions()
    for index, composition in enumerate(training + held_out):
        picture = render(3, index, composition)
        assert picture.shape == (56, 56, 3)
        assert picture.dtype == np.uint8
        assert picture.std() > 5


def test_a_picture_has_the_same_bytes_in_every_process_and_order() -> None:
    held_out = compositions()[1]
    jobs = [(5, index, held_out[index]) for index in range(12)]
    here = [_draw(job) for job in jobs]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        there = list(pool.map(_draw, reversed(jobs)))
    assert there[::-1] == here


@settings(max_examples=examples(10))
@given(st.integers(0, 2**31), st.integers(0, 10**9), st.integers(0, 143))
def test_the_source_opens_the_picture_that_render_draws(seed: int, index: int, label: int) -> None:
    source = ShapesSource(source="shapes", picture_seed=seed)
    opened = np.asarray(source.open(str(index), label).image)
    assert opened.tobytes() == render(seed, index, compositions()[1][label]).tobytes()


@settings(max_examples=examples(10))
@given(st.integers(0, 2**31), st.integers(0, 10**9), st.integers(0, 719))
def test_another_seed_index_or_composition_gives_another_picture(seed: int, index: int, number: int) -> None:
    every = [*compositions()[0], *compositions()[1]]
    here = render(seed, index, every[number]).tobytes()
    assert here != render(seed + 1, index, every[number]).tobytes()
    assert here != render(seed, index + 1, every[number]).tobytes()
    assert here != render(seed, index, every[(number + 1) % 720]).tobytes()


@pytest.mark.parametrize("colour", COLOURS)
def test_the_object_has_the_colour_of_its_name(colour: str) -> None:
    # Contrast is reduced by 0.825 on average, about mid-grey.
    def in_the_picture(name: str) -> np.ndarray:
        return 127.5 + (np.asarray(COLOURS[name], dtype=float) - 127.5) * 0.825

    means = []
    for index in range(60):
        weights = _object_weights(index, "circle")
        inside = weights > 0.7 * weights.max()
        means.append(render(7, index, Composition("plain", colour, "circle"))[inside].mean(axis=0))
    seen = np.mean(means, axis=0)
    nearest = min(COLOURS, key=lambda name: float(np.linalg.norm(seen - in_the_picture(name))))
    assert nearest == colour


def test_the_palette_is_what_css_calls_by_these_names() -> None:
    # CSS has the same twelve words. Its hues; its lightness differs (our gray is lighter, our pink is stronger).
    hues = {name: colorsys.rgb_to_hsv(*(level / 255 for level in levels)) for name, levels in COLOURS.items()}
    css = {name: colorsys.rgb_to_hsv(*(level / 255 for level in ImageColor.getrgb(name))) for name in COLOURS}
    for name in COLOURS:
        assert (hues[name][1] < 0.1) == (css[name][1] < 0.1)
        if css[name][1] >= 0.1:
            assert abs((hues[name][0] - css[name][0] + 0.5) % 1.0 - 0.5) < 0.1
    assert hues["black"][2] < hues["gray"][2] < hues["white"][2]


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("oval", math.pi * 0.58),
        ("ring", math.pi * (0.95**2 - 0.5**2)),
        ("triangle", 1.5 * math.sin(2 * math.pi / 3)),
        ("square", 2.0),
        ("pentagon", 2.5 * math.sin(2 * math.pi / 5)),
        ("cross", 4 * 0.66 * 0.67 + 0.66**2),
        ("semicircle", 0.5 * math.pi * 0.95**2 * 1.15**2),
    ],
)
def test_the_object_has_the_area_of_its_shape(shape: str, area: float) -> None:
    ratios = [_object_weights(index, shape).sum() / _object_weights(index, "circle").sum() for index in range(30)]
    assert np.mean(ratios) == pytest.approx(area / (math.pi * 0.9**2), rel=0.06)


@pytest.mark.parametrize("pattern", ["striped", "dotted", "checkered", "framed"])
def test_a_pattern_gives_the_object_a_second_tone(pattern: str) -> None:
    def spread(of: str) -> float:
        spreads = []
        for index in range(20):
            inside = _object_weights(index, "circle") > 0
            spreads.append(render(7, index, Composition(of, "gray", "circle"))[inside].std())
        return float(np.mean(spreads))

    assert spread(pattern) > 1.3 * spread("plain")


def test_consecutive_pictures_are_not_alike() -> None:
    composition = compositions()[1][0]
    pictures = np.stack([render(0, index, composition) for index in range(40)]).reshape(40, -1).astype(float)
    correlation = np.corrcoef(pictures)
    assert np.abs(correlation[~np.eye(40, dtype=bool)]).mean() < 0.4
