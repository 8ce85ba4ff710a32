import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ValidationError

from lraee.data.sources import SOURCES
from lraee.data.sources.shapes import ShapesSource
from lraee.models.families import FAMILIES
from lraee.quantize.schemes import SCHEMES
from lraee.quantize.schemes.uniform import Uniform
from lraee.registry import ChosenFrom, Registry, parse
from lraee.settings import Settings


class Dog(Settings):
    kind: Literal["dog"]
    age: int = 3


class Fish(Settings):
    kind: Literal["fish"]
    salt: bool


@pytest.fixture
def animals() -> Registry[type[Settings]]:
    # A package without modules of its own to discover.
    registry: Registry[type[Settings]] = Registry("animal", "lraee.models.embedded")
    registry._discovered = True
    registry.register("dog")(Dog)
    registry.register("fish")(Fish)
    return registry


def test_a_name_cannot_be_taken_twice(animals: Registry[type[Settings]]) -> None:
    with pytest.raises(ValueError, match="animal 'dog' is registered twice"):
        animals.register("dog")(Fish)
    assert animals["dog"] is Dog


def test_an_unknown_name_lists_the_choices(animals: Registry[type[Settings]]) -> None:
    with pytest.raises(KeyError, match="no animal is called 'cat'; there are dog, fish"):
        animals["cat"]


def test_a_decorator_returns_what_it_registers(animals: Registry[type[Settings]]) -> None:
    assert animals.register("hound")(Dog) is Dog
    assert list(animals) == ["dog", "fish", "hound"]


def test_members_are_found_as_files_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "zoo_of_this_test"
    package.mkdir()
    (package / "__init__.py").write_text("from lraee.registry import Registry\nZOO = Registry('beast', __name__)\n")
    (package / "lion.py").write_text("from zoo_of_this_test import ZOO\nZOO.register('lion')(int)\n")
    (package / "ape.py").write_text("from zoo_of_this_test import ZOO\nZOO.register('ape')(str)\n")
    monkeypatch.syspath_prepend(tmp_path)
    from zoo_of_this_test import ZOO  # type: ignore[import-not-found]

    assert "zoo_of_this_test.ape" not in sys.modules
    assert list(ZOO) == ["ape", "lion"]
    assert ZOO["lion"] is int


def test_a_member_that_fails_to_import_fails_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "broken_zoo_of_this_test"
    package.mkdir()
    (package / "__init__.py").write_text("from lraee.registry import Registry\nZOO = Registry('beast', __name__)\n")
    (package / "lion.py").write_text("raise ImportError('no lion')\n")
    monkeypatch.syspath_prepend(tmp_path)
    from broken_zoo_of_this_test import ZOO  # type: ignore[import-not-found]

    for _ in range(2):
        with pytest.raises(ImportError, match="no lion"):
            list(ZOO)


def test_a_field_takes_the_member_that_its_key_names(animals: Registry[type[Settings]]) -> None:
    class Holder(BaseModel):
        pet: Annotated[Settings, ChosenFrom(animals, "kind")]

    held = Holder.model_validate({"pet": {"kind": "fish", "salt": True}})
    assert held.pet == Fish(kind="fish", salt=True)
    assert held.model_dump() == {"pet": {"kind": "fish", "salt": True}}
    assert parse(animals, "kind", held.model_dump()["pet"]) == held.pet
    with pytest.raises(ValidationError, match="'dog', 'fish'"):
        Holder.model_validate({"pet": {"kind": "cat"}})
    with pytest.raises(ValidationError, match=r"age\n.*[Ee]xtra"):
        Holder.model_validate({"pet": {"kind": "fish", "salt": True, "age": 1}})


def test_a_registry_of_one_member_takes_it(animals: Registry[type[Settings]]) -> None:
    single: Registry[Any] = Registry("animal", "lraee.models.embedded")
    single._discovered = True
    single.register("dog")(Dog)

    class Holder(BaseModel):
        pet: Annotated[Settings, ChosenFrom(single, "kind")]

    assert Holder.model_validate({"pet": {"kind": "dog"}}).model_dump() == {"pet": {"kind": "dog", "age": 3}}


@pytest.mark.parametrize(
    ("registry", "names"),
    [
        (SOURCES, {"shapes", "image-folder", "webdataset"}),
        (FAMILIES, {"open_clip", "timm"}),
        (SCHEMES, {"bfloat16", "dynamic-int8", "uniform"}),
    ],
)
def test_the_projects_registries_find_their_files(registry: Registry[Any], names: set[str]) -> None:
    assert set(registry) >= names


def test_parse_rebuilds_nested_settings() -> None:
    scheme = Uniform.model_validate(
        {"scheme": "uniform", "weights": {"bits": 3}, "activations": {"observer": "mse", "bits": 5}}
    )
    assert parse(SCHEMES, "scheme", scheme.model_dump(mode="json")) == scheme
    source = ShapesSource(source="shapes", picture_seed=9)
    assert parse(SOURCES, "source", source.model_dump(mode="json")) == source


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ShapesSource(source="shapes").picture_seed = 4
