"""From JSON that a schema has passed to the records of this room."""

import types
import typing
from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

__all__ = ["build"]


def build(kind: type[T], value: Mapping[str, Any]) -> T:
    """Make a record, and the records inside it, from decoded JSON that is known to fit its schema.

    A field that the JSON lacks takes its default: files of earlier releases have no fields that came later.
    """
    hints = _hints(typing.cast(Hashable, kind))
    return kind(**{name: _of(hint, value[name]) for name, hint in hints.items() if name in value})


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _of(hint: Any, value: Any) -> Any:
    if is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value)
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is list:
        return [_of(arguments[0], item) for item in value]
    if typing.get_origin(hint) is types.UnionType and value is not None:
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _of(inner, value)
    return float(value) if hint is float else value
