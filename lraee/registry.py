"""Registries by name: one file in a package is one member, found without being listed anywhere else."""

import functools
import importlib
import operator
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

Member = TypeVar("Member")
Parsed = TypeVar("Parsed", bound=BaseModel)


class Registry(Generic[Member]):
    """Members of `package` by name; its modules are imported at the first look-up.

    Args:
        kind: what a member is, for error messages ("quantization scheme").
        package: dotted name of the package whose modules register themselves.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._members: dict[str, Member] = {}
        self._discovered = False

    def register(self, name: str) -> Callable[[Member], Member]:
        """Return a decorator that files its argument under `name`; ValueError if the name is taken."""

        def file(member: Member) -> Member:
            if name in self._members:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._members[name] = member
            return member

        return file

    def _discover(self) -> None:
        if not self._discovered:
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self.package}.{module.name}")
            self._discovered = True

    def __iter__(self) -> Iterator[str]:
        self._discover()
        return iter(sorted(self._members))

    def __getitem__(self, name: str) -> Member:
        self._discover()
        if name not in self._members:
            raise KeyError(f"no {self.kind} is called {name!r}; there are {', '.join(self)}")
        return self._members[name]


def parse(registry: Registry[type[Parsed]], key: str, raw: Mapping[str, Any]) -> Parsed:
    """Rebuild the settings that `ChosenFrom` accepted from their plain form, by the member that `raw[key]` names."""
    return registry[raw[key]].model_validate(raw)


class Named:
    """Annotation for a field inside a member of the registry itself: any other member's settings.

    The members are looked up when a value is checked, not when the class is made: then not all may be known yet.
    """

    def __init__(self, registry: Registry[Any], key: str) -> None:
        self.registry = registry
        self.key = key

    def _parse(self, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        if value.get(self.key) not in list(self.registry):
            known = ", ".join(map(repr, self.registry))
            raise ValueError(f"{self.key} is {value.get(self.key)!r}, but must be one of {known}")
        try:
            return parse(self.registry, self.key, value)
        except ValidationError as error:
            faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
            raise ValueError("; ".join(faults)) from None

    def __get_pydantic_core_schema__(self, source: type[BaseModel], handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            self._parse,
            core_schema.is_instance_schema(BaseModel),
            serialization=core_schema.plain_serializer_function_ser_schema(BaseModel.model_dump, info_arg=False),
            json_schema_input_schema=core_schema.dict_schema(),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "object", "required": [self.key], "description": f"Any other {self.registry.kind}."}


class ChosenFrom:
    """Annotation for a pydantic field: one of a registry's settings classes, told apart by their field `key`."""

    def __init__(self, registry: Registry[Any], key: str) -> None:
        self.registry = registry
        self.key = key

    def __get_pydantic_core_schema__(self, source: type[BaseModel], handler: GetCoreSchemaHandler) -> CoreSchema:
        classes = [self.registry[name] for name in self.registry]
        if len(classes) == 1:
            return handler.generate_schema(classes[0])
        union: Any = functools.reduce(operator.or_, classes)
        return handler.generate_schema(Annotated[union, Field(discriminator=self.key)])
