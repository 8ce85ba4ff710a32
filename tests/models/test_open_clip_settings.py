"""Class names, templates, files and what counts as the paper's setting."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from lraee.models.families import FAMILIES
from lraee.models.families.open_clip import NamesFile, OpenClipModel
from lraee.models.open_clip_tower import english_names, open_clip
from lraee.registry import parse


@pytest.fixture
def settings(clip: Any) -> Any:
    def make(**changed: Any) -> OpenClipModel:
        plain = {"family": "open_clip", "depth": 4, "name": clip.name, "pretrained": str(clip.weights)}
        return OpenClipModel.model_validate(plain | {"templates": ["a {}"]} | changed)

    return make


def _rows(clip: Any, names: list[str], templates: list[Any]) -> torch.Tensor:
    """Prompt ensembles, computed plainly."""
    tokenizer = open_clip.get_tokenizer(clip.name)
    each = [clip.model.encode_text(tokenizer([t(name) for t in templates]), normalize=True) for name in names]
    return functional.normalize(torch.stack([prompts.mean(dim=0) for prompts in each]), dim=1)


@pytest.mark.parametrize(
    ("named", "templates"),
    [
        ("openai-imagenet", open_clip.OPENAI_IMAGENET_TEMPLATES),
        ("simple-imagenet", open_clip.SIMPLE_IMAGENET_TEMPLATES),
        (["a {}", "{} on a table"], ["a {}".format, "{} on a table".format]),
    ],
)
def test_templates_are_open_clips_or_the_users(clip: Any, settings: Any, named: Any, templates: Any) -> None:
    rows = settings(templates=named).class_embeddings(["ox", "tea pot"]).rows
    torch.testing.assert_close(rows, _rows(clip, ["ox", "tea pot"], list(templates)), rtol=1e-4, atol=1e-6)


def test_there_are_80_and_7_templates(settings: Any) -> None:
    assert len(settings(templates="openai-imagenet")._templates()) == 80
    assert len(settings(templates="simple-imagenet")._templates()) == 7


# WordNet's own words for these ids, not in the order of the ids.
_KNOWN = {"n02123045": "tabby cat", "n01440764": "tench", "n15075141": "toilet paper", "n03630383": "lab coat"}


def test_a_subset_of_imagenet_gets_its_english_names_by_wordnet_id() -> None:
    assert english_names(list(_KNOWN)) == list(_KNOWN.values())
    assert english_names(list(_KNOWN)[::-1]) == list(_KNOWN.values())[::-1]


def test_the_order_of_the_ids_is_that_of_the_outputs_of_imagenet_classifiers(real_data: Path) -> None:
    wnids = (real_data / "imagenet-1k-wnids.txt").read_text().split()
    assert english_names(wnids) == list(open_clip.IMAGENET_CLASSNAMES)
    photographed = sorted(path.name for path in (real_data / "photos").iterdir() if path.is_dir())
    assert len(set(english_names(photographed))) == len(photographed) == 250


def test_english_names_reach_the_prompts(clip: Any, settings: Any) -> None:
    rows = settings(class_names="imagenet").class_embeddings(list(_KNOWN)).rows
    torch.testing.assert_close(rows, _rows(clip, list(_KNOWN.values()), ["a {}".format]), rtol=1e-4, atol=1e-6)


def test_an_unknown_wordnet_id_is_named() -> None:
    with pytest.raises(ValueError, match=r"class 'n00000001' \(2 in all\) is not the WordNet id of a class"):
        english_names(["n01440764", "n00000001", "cat"])


def test_names_come_from_a_file(clip: Any, settings: Any, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("red fox\ngrey seal\n")
    model = settings(class_names={"file": str(tmp_path / "names.txt")})
    rows = model.class_embeddings(["n1", "n2"]).rows
    torch.testing.assert_close(rows, _rows(clip, ["red fox", "grey seal"], ["a {}".format]), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"names\.txt, which lists 2 names; the data have 3 classes"):
        model.class_embeddings(["n1", "n2", "n3"])


def test_the_workflow_watches_every_file(settings: Any, clip: Any) -> None:
    assert settings(class_names={"file": "names.txt"}).files() == [clip.weights, Path("names.txt")]
    assert settings(pretrained="laion2b_s34b_b79k").files() == []
    assert settings(pretrained="random").files() == []
    assert [path.name for path in settings(pretrained="model.pt").files()] == ["model.pt"]
    embedded = settings(name="shapes-clip", pretrained="embedded").files()
    assert len(embedded) == 2
    assert all(path.is_file() for path in embedded)


@pytest.mark.parametrize("templates", [["a photo"], [], "openai"])
def test_templates_without_a_place_for_the_class_are_refused(settings: Any, templates: Any) -> None:
    with pytest.raises(ValidationError, match="templates"):
        settings(templates=templates)


def test_settings_survive_their_plain_form(settings: Any) -> None:
    for given in (settings(class_names={"file": "names.txt"}, weight_seed=3), settings(templates="simple-imagenet")):
        assert parse(FAMILIES, "family", given.model_dump(mode="json")) == given
    assert isinstance(settings(class_names={"file": "names.txt"}).class_names, NamesFile)


_PAPERS: dict[str, Any] = {"name": "ViT-B-32", "pretrained": "openai", "class_names": "imagenet"}


def test_the_papers_setting_is_openais_vit_b_32_on_all_of_imagenet(settings: Any) -> None:
    assert settings(**_PAPERS).is_papers(1000)
    assert settings(**_PAPERS | {"name": "ViT-B-32-quickgelu"}).is_papers(1000)
    assert not settings(**_PAPERS).is_papers(250)


@pytest.mark.parametrize(
    "changed",
    [
        {"pretrained": "random"},
        {"pretrained": "laion2b_s34b_b79k"},
        {"pretrained": "weights.safetensors"},
        {"name": "ViT-B-32-256"},
        {"name": "ViT-B-16"},
        {"class_names": "as-listed"},
    ],
)
def test_anything_else_is_not_the_papers_setting(settings: Any, changed: dict[str, Any]) -> None:
    assert not settings(**_PAPERS | changed).is_papers(1000)
