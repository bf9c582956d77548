"""JSON Schema of a dataclass: the drift tests compare it with the schema files.

Remake a file with ``python tests/dataclass_schema.py`` (from the repository root) after a record has changed.
"""

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any

SIMPLE = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}


def optional(kind: type, name: str) -> bool:
    """A field with a default may be missing: it came after the first files were written."""
    field = next(field for field in dataclasses.fields(kind) if field.name == name)
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def schema_of(root: type) -> dict[str, Any]:
    definitions: dict[str, Any] = {}

    def of(kind: Any) -> dict[str, Any]:
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if kind in SIMPLE or kind is Any:
            return {"type": SIMPLE[kind]} if kind in SIMPLE else {}
        if origin is typing.Annotated:
            return of(arguments[0]) | {limit.keyword: limit.operand for limit in kind.__metadata__}
        if origin is typing.Literal:
            return {"const": arguments[0]} if len(arguments) == 1 else {"enum": list(arguments)}
        if origin in (typing.Union, types.UnionType):
            return {"anyOf": [of(argument) for argument in arguments]}
        if origin in (list, dict):
            inner = of(arguments[-1])
            return (
                {"type": "array", "items": inner}
                if origin is list
                else {"type": "object", "additionalProperties": inner}
            )
        if dataclasses.is_dataclass(kind):
            if kind.__name__ not in definitions:
                definitions[kind.__name__] = {}
                definitions[kind.__name__] = record(kind)
            return {"$ref": f"#/$defs/{kind.__name__}"}
        raise TypeError(kind)

    def record(kind: Any) -> dict[str, Any]:
        hints = typing.get_type_hints(kind, include_extras=True)
        return {
            "description": kind.__doc__.strip().split("\n")[0],
            "type": "object",
            "additionalProperties": False,
            "required": [name for name in hints if not optional(kind, name)],
            "properties": {name: of(hint) for name, hint in hints.items()},
        }

    top = record(root)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": root.__name__,
        **top,
        "$defs": dict(sorted(definitions.items())),
    }


def text_of(root: type) -> str:
    return json.dumps(schema_of(root), indent=2) + "\n"


if __name__ == "__main__":
    from demur.leaderboard.board import Board, ExternalTrack
    from demur.leaderboard.submissions.submitted import SubmissionInfo

    for name, kind in (("board", Board), ("submission", SubmissionInfo), ("track", ExternalTrack)):
        Path(f"leaderboard/schema/{name}.json").write_text(text_of(kind))
