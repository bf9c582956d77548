"""Who was asked what, and how: the records that submissions and boards share."""

from dataclasses import dataclass
from typing import Annotated, Literal

__all__ = [
    "Architecture",
    "Count",
    "Hash",
    "Id",
    "Limit",
    "MaybeName",
    "Model",
    "Name",
    "PromptSource",
    "ScorerId",
    "Selection",
    "Setting",
    "Text",
    "Time",
    "Version",
]

Architecture = Literal["dense", "moe", "undisclosed"]


@dataclass(frozen=True, slots=True)
class Limit:
    """A rule on a value that goes into the JSON Schema: keyword and operand."""

    keyword: str
    operand: int | str


# What a name, a text or a number may be. ``$`` alone would let a line end through.
Name = Annotated[str, Limit("maxLength", 200), Limit("pattern", r"^(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9 ._:/@+-]*$(?!\n)")]
MaybeName = Annotated[
    str, Limit("maxLength", 200), Limit("pattern", r"^((?!.*\.\.)[A-Za-z0-9][A-Za-z0-9 ._:/@+-]*)?$(?!\n)")
]
Id = Annotated[str, Limit("maxLength", 160), Limit("pattern", r"^(?!.*\.\.)[a-z0-9][a-z0-9._-]*$(?!\n)")]
Text = Annotated[str, Limit("maxLength", 2000), Limit("pattern", r"^[^\u0000-\u0008\u000b-\u001f\u007f]*$(?!\n)")]
Time = Annotated[str, Limit("pattern", r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)$(?!\n)")]
Hash = Annotated[str, Limit("pattern", r"^[0-9a-f]{12,64}$(?!\n)")]
Count = Annotated[int, Limit("minimum", 0), Limit("maximum", 10**15)]
Version = Annotated[str, Limit("maxLength", 40), Limit("pattern", r"^[0-9A-Za-z][0-9A-Za-z.+-]*$(?!\n)")]


@dataclass(frozen=True, slots=True)
class Model:
    """Who answered.

    Attributes:
        maker: who made the model; the part of ``id`` before the slash where nothing else is said.
        base_model: id of the model that it was made from.
        upcycled_from: id of the dense model whose exact sparse upcycling it is (the null test).
        formerly: ids that it was submitted under before.
        architecture_source: ``config`` (read from the model's own files), ``curated`` (models.yaml), ``declared`` or
            ``none``.
    """

    id: Name
    revision: Name
    dtype: Name
    backend: Name
    architecture: Architecture
    total_parameters: Count | None
    active_parameters: Count | None
    experts: Count | None
    experts_per_token: Count | None
    maker: MaybeName
    base_model: Name | None
    upcycled_from: Name | None
    formerly: list[Name]
    architecture_source: Literal["config", "curated", "declared", "none"]


@dataclass(frozen=True, slots=True)
class Setting:
    """How the responses were drawn."""

    temperature: Annotated[float, Limit("minimum", 0), Limit("maximum", 10)]
    top_p: Annotated[float, Limit("exclusiveMinimum", 0), Limit("maximum", 1)]
    max_new_tokens: Annotated[int, Limit("minimum", 1), Limit("maximum", 10000000)]
    seed: Count
    samples: Annotated[int, Limit("minimum", 1), Limit("maximum", 2000)]
    variants: list[Name]


@dataclass(frozen=True, slots=True)
class ScorerId:
    """Which scorer judged."""

    name: Name
    version: Version
    hash: Hash


@dataclass(frozen=True, slots=True)
class Selection:
    """A stated part of a split: its pair ids, sorted, and a name for the reader."""

    name: Name
    pair_ids: list[Name]


@dataclass(frozen=True, slots=True)
class PromptSource:
    """Which prompts were asked; ``selection`` is None for the whole split."""

    split: Literal["public", "gated", "heldout"]
    version: Version
    hash: Hash
    selection: Selection | None
