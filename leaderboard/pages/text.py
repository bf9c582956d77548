"""Figures and names as text: the same rules wherever a page, a table or a chart shows them."""

import unicodedata
from decimal import ROUND_HALF_UP, Decimal
from types import MappingProxyType
from typing import Any

__all__ = [
    "ARCHITECTURES",
    "READINGS",
    "decimals",
    "encodable",
    "interval",
    "parameters",
    "plain",
    "shorten",
    "shown",
]

ARCHITECTURES = MappingProxyType({"dense": "dense", "moe": "MoE", "undisclosed": "undisclosed"})
READINGS = MappingProxyType({"refused": "partial counts as refused", "strict": "partial does not count"})
_MINUS = "\N{MINUS SIGN}"
_DASH = "\N{EN DASH}"


def shown(value: float | None, places: int = 5) -> float | None:
    """The value that pages carry: five decimals, and no negative zero."""
    return None if value is None else round(value, places) + 0.0


def decimals(value: float | None, places: int = 3, signed: bool = False) -> str:
    """A figure with fixed decimals; a dash where it is undefined.

    Rounds the binary value half away from zero, as JavaScript's ``toFixed`` does, so that the text written when the
    page is built and the text that its script writes are the same.
    """
    kept = shown(value)
    if kept is None:
        return _DASH
    rounded = Decimal(kept).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
    sign = _MINUS if rounded < 0 else "+" if signed and rounded > 0 else ""
    return f"{sign}{abs(rounded)}"


def interval(low: float | None, high: float | None, places: int = 3, signed: bool = False) -> str:
    """``[low, high]``, or nothing where there is no interval."""
    if low is None or high is None:
        return ""
    return f"[{decimals(low, places, signed)}, {decimals(high, places, signed)}]"


def parameters(count: int | None) -> str:
    """A number of parameters in words of the field: 135M, 7.2B, 1.0T; a dash where it is not known."""
    if count is None:
        return _DASH
    for size, letter in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= 0.9995 * size:
            amount = count / size
            return f"{amount:.0f}{letter}" if amount >= 100 else f"{amount:.1f}{letter}"
    return str(count)


def plain(text: str) -> str:
    """Text without control, format and unpaired surrogate characters: what a chart or a LaTeX table may hold.

    Directional overrides are format characters; with them a name could reorder the text beside it.
    """
    return "".join(" " if c in "\t\n\r" else c for c in text if c in "\t\n\r" or unicodedata.category(c)[0] != "C")


def encodable(value: Any) -> Any:
    """The same strings, lists and dictionaries with unpaired surrogates, which UTF-8 cannot hold, as question marks."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [encodable(item) for item in value]
    return {encodable(key): encodable(item) for key, item in value.items()} if isinstance(value, dict) else value


def shorten(name: str, limit: int = 30) -> str:
    """A model's name for a chart: the part after the last slash, its middle cut out where it is too long."""
    short = plain(name).rsplit("/", 1)[-1].strip() or plain(name).strip() or "?"
    if len(short) <= limit:
        return short
    tail = (limit - 1) // 3
    return f"{short[: limit - 1 - tail]}\N{HORIZONTAL ELLIPSIS}{short[-tail:]}"
