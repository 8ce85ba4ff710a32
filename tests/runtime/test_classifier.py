"""The runtime against the modules that the benchmark runs, and against open_clip."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lraee.evaluation.agreement import compared, summary
from lraee.exits.policies import POLICIES
from lraee.exits.routing import outcome, route
from lraee.runtime import EarlyExitCLIP
from tests.runtime.conftest import NAMES, UNIFORM

PATIENT = {"policy": "patience"}


def _evaluated(exported: Any) -> Any:
    headline = exported.source.headline
    readiness = POLICIES[headline.configuration.policy].readiness(exported.scores, headline.gates)
    return outcome(exported.scores, route(readiness, headline.thresholds))


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "patience"])
def test_every_policy_stops_where_the_evaluation_says(make_exported: Any, policy: str) -> None:
    exported = make_exported(policy=policy)
    expected, found = _evaluated(exported), EarlyExitCLIP.load(exported.folder, "torch").route(exported.pixels)
    assert len(np.unique(expected.place)) > 2
    assert np.array_equal(found.place, expected.place)
    assert np.array_equal(found.answer, expected.answer)


def test_patience_counts_over_the_exits_met(make_exported: Any) -> None:
    exported = make_exported(policy="patience", aggregation="cls")
    expected, found = _evaluated(exported), EarlyExitCLIP.load(exported.folder, "torch").route(exported.pixels)
    assert np.array_equal(found.place, expected.place)
    assert np.array_equal(found.answer, expected.answer)


@pytest.mark.parametrize(
    "scheme",
    [
        UNIFORM | {"weights": {"bits": 4, "granularity": "tensor"}, "activations": {"bits": 4, "range": "dynamic"}},
        {"scheme": "dynamic-int8", "reading": "mlp_only"},
    ],
)
def test_other_quantizers_are_the_same_to_the_bit(make_exported: Any, scheme: dict[str, Any]) -> None:
    exported = make_exported(scheme)
    model = EarlyExitCLIP.load(exported.folder, "torch")
    assert torch.equal(model.encode_image(exported.pixels), exported.tower(exported.pixels))
    assert np.array_equal(model.route(exported.pixels).place, _evaluated(exported).place)


def test_only_those_that_stay_are_computed(exported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = EarlyExitCLIP.load(exported.folder, "torch"), []
    visit, finish = model.engine.visit, model.engine.finish
    monkeypatch.setattr(model.engine, "visit", lambda index, x: (seen.append(len(x)), visit(index, x))[1])
    monkeypatch.setattr(model.engine, "finish", lambda z: (seen.append(len(z)), finish(z))[1])
    place = model.route(exported.pixels).place
    assert seen == [int((place >= segment).sum()) for segment in range(4)]


def test_the_rest_stops_once_everybody_has_left(exported: Any) -> None:
    model = EarlyExitCLIP.load(exported.folder, "torch")
    early = np.flatnonzero(model.route(exported.pixels).place == 0)
    assert np.array_equal(model.route(exported.pixels[early]).place, np.zeros(len(early)))


def test_a_result_does_not_depend_on_the_batch(exported: Any) -> None:
    model = EarlyExitCLIP.load(exported.folder, "torch")
    together = model.route(exported.pixels)
    alone = [model.route(pixels) for pixels in exported.pixels.split(1)]
    assert np.array_equal(together.place, np.concatenate([one.place for one in alone]))
    assert np.array_equal(together.answer, np.concatenate([one.answer for one in alone]))


def test_predictions_name_classes_probabilities_and_layers(exported: Any) -> None:
    model = EarlyExitCLIP.load(exported.folder, "torch")
    routed, found = model.route(exported.pixels), model.predict(exported.pixels, top=3)
    for index, one in enumerate(found):
        expected = torch.softmax(routed.logits[index].double(), -1).sort(descending=True)
        assert one.labels == tuple(NAMES[i] for i in expected.indices[:3])
        assert one.probabilities == pytest.approx(expected.values[:3].tolist())
        assert one.confidence == one.probabilities[0]
        assert one.layer == (1, 2, 3, 4)[routed.place[index]]


def test_images_may_be_files_pictures_arrays_and_pixels(exported: Any, clip: Any, tmp_path: Path) -> None:
    model = EarlyExitCLIP.load(exported.folder, "torch")
    array = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    picture = Image.fromarray(array)
    picture.save(tmp_path / "picture.png")
    pixels = model.transform(picture)
    kinds = [picture, array, tmp_path / "picture.png", str(tmp_path / "picture.png"), pixels]
    expected = model.predict(picture)[0]
    for found in [*model.predict(kinds), *(model.predict(kind)[0] for kind in kinds)]:
        assert (found.labels, found.layer) == (expected.labels, expected.layer)
        assert found.confidence == pytest.approx(expected.confidence, abs=1e-5)
    assert model.predict([]) == []
    assert model.predict(pixels[None][:0]) == []
    assert len(model.predict(picture for _ in range(70))) == 70
    assert model.encode_image([]).shape == (0, 24)
    assert model.encode_image(picture, normalize=True).norm() == pytest.approx(1.0)


def test_the_transform_is_the_models_own(exported: Any, clip: Any) -> None:
    import open_clip

    settings = open_clip.transform.PreprocessCfg(**clip.model.visual.preprocess_cfg)
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 48, 3), dtype=np.uint8))
    expected = open_clip.transform.image_transform_v2(settings, is_train=False)(picture)
    assert torch.equal(EarlyExitCLIP.load(exported.folder, "torch").transform(picture), expected)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"\(H, W, 3\) of uint8, but this one is \(4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), "of float32"),
        (torch.zeros(3, 16, 32), r"\(3, 32, 32\) in floating point, but this one is torch.float32 \(3, 16, 32\)"),
        (torch.zeros(3, 32, 32, dtype=torch.uint8), "torch.uint8"),
        (torch.zeros(2, 1, 32, 32), r"\(1, 32, 32\)"),
        ([7], "but this is a int"),
    ],
)
def test_images_of_a_wrong_kind_are_named(exported: Any, image: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        EarlyExitCLIP.load(exported.folder, "torch").predict(image)


@pytest.mark.parametrize("top", [0, 6])
def test_more_classes_than_there_are_is_refused(exported: Any, top: int) -> None:
    with pytest.raises(ValueError, match="but there are 5 classes"):
        EarlyExitCLIP.load(exported.folder, "torch").predict(exported.pixels, top=top)


def test_an_unknown_engine_is_refused(exported: Any) -> None:
    with pytest.raises(ValueError, match="engine is 'abacus', but must be one of"):
        EarlyExitCLIP.load(exported.folder, engine="abacus")


def test_other_classes_are_those_of_open_clips_zero_shot_classifier(exported: Any, clip: Any) -> None:
    import open_clip

    model = EarlyExitCLIP.load(exported.folder, "torch").with_classes(["cat", "dog", "bird"], ["one {}", "many {}"])
    templates = ["one {}".format, "many {}".format]
    columns = open_clip.build_zero_shot_classifier(
        clip.model, open_clip.get_tokenizer(clip.name), ["cat", "dog", "bird"], templates
    )
    torch.testing.assert_close(model.classes.rows, columns.mT)
    assert {label for one in model.predict(exported.pixels) for label in one.labels} <= {"cat", "dog", "bird"}
    assert model.predict(exported.pixels[:1], top=3)[0].probabilities[0] < 1.0


def test_agreement_lists_what_differs_and_how_near_a_threshold_it_was(exported: Any) -> None:
    routed = EarlyExitCLIP.load(exported.folder, "torch").route(exported.pixels)
    order = np.random.default_rng(0).permutation(60)[:40]
    arguments = exported.scores, exported.source.headline, 4
    same = compared(order, routed.place[order], routed.answer[order], *arguments)
    assert (same["evaluated_layer"] == same["runtime_layer"]).all()
    assert (same["evaluated_answer"] == same["runtime_answer"]).all()
    changed = routed.place[order].copy()
    changed[0] = (changed[0] + 1) % 4
    other = compared(order, changed, routed.answer[order], *arguments)
    assert (other["evaluated_layer"] != other["runtime_layer"]).tolist() == [True, *[False] * 39]
    shares, differing = summary({"same": same.assign(engine="torch"), "other": other.assign(engine="openvino")})
    assert shares["answers"].tolist() == [1.0, 1.0]
    assert shares["exits"].tolist() == [1.0, 39 / 40]
    assert (shares["exits_low"] < shares["exits"]).all()
    assert np.isnan(shares["farthest"][0])
    assert shares["farthest"][1] == other["distance"][0]
    assert differing[["quantizer", "engine", "sample"]].to_numpy().tolist() == [["other", "openvino", order[0]]]
    assert [len(table) for table in summary({})] == [0, 0]
    with pytest.raises(KeyError, match="sample 99 was not evaluated"):
        compared(np.array([99]), changed[:1], routed.answer[:1], *arguments)
    headline = exported.source.headline
    readiness = POLICIES["learned-gate"].readiness(exported.scores, headline.gates)
    for row, sample in enumerate(order):
        last = min(max(changed[row], routed.place[sample]), 2)
        nearest = np.abs(readiness[sample] - headline.thresholds)[: last + 1].min()
        assert other["distance"][row] == pytest.approx(nearest)
