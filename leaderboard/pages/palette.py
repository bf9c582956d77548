"""The colours of pages and charts, each by its role, for light and dark surroundings."""

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["DARK", "LIGHT", "MARKS", "css_variables", "shade"]

# Text roles keep a contrast of at least 4.5 to 1 on paper and on raised surfaces, marks at least 3 to 1 (WCAG 2.2,
# criteria 1.4.3 and 1.4.11); the tests compute it. Dense and MoE differ in lightness, hue and shape. No two roles
# share a value: charts are drawn in the light colours and their values are then replaced by the variables.
LIGHT = MappingProxyType(
    {
        "paper": "#fdfdfb",
        "raised": "#f4f3ee",
        "ink": "#1c1b19",
        "muted": "#5b5852",
        "rule": "#d9d6cd",
        "edge": "#87837a",
        "link": "#1f4e8c",
        "dense": "#2a5ea8",
        "moe": "#b0440c",
        "undisclosed": "#6f6b63",
        "warn": "#8a3b00",
    }
)
DARK = MappingProxyType(
    {
        "paper": "#161614",
        "raised": "#21201d",
        "ink": "#eceae4",
        "muted": "#aaa69c",
        "rule": "#3a3833",
        "edge": "#7d796f",
        "link": "#93bbf2",
        "dense": "#7fb0f5",
        "moe": "#f09a5c",
        "undisclosed": "#a09c93",
        "warn": "#f2b27d",
    }
)
# Architecture to colour role and Vega symbol.
MARKS = MappingProxyType(
    {"dense": ("dense", "circle"), "moe": ("moe", "diamond"), "undisclosed": ("undisclosed", "square")}
)


def shade(palette: Mapping[str, str], step: int) -> str:
    """Background of a heat map's cell, ``step`` 0 to 10; text in the palette's ink stays legible on every step."""
    reach = 0.62 if palette is LIGHT else 0.45
    part = reach * step / 10

    def channels(role: str) -> list[int]:
        return [int(palette[role][i : i + 2], 16) for i in (1, 3, 5)]

    mixed = [round(p + part * (d - p)) for p, d in zip(channels("paper"), channels("dense"), strict=True)]
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def css_variables() -> str:
    """Custom properties of both palettes and the heat map's cells; the reader's system chooses between them."""

    def block(palette: Mapping[str, str]) -> str:
        roles = "".join(f"--{role}:{value};" for role, value in palette.items())
        return roles + "".join(f"--h{step}:{shade(palette, step)};" for step in range(11))

    cells = "".join(f".h{step}{{background:var(--h{step})}}" for step in range(11))
    return f":root{{{block(LIGHT)}}}@media (prefers-color-scheme: dark){{:root{{{block(DARK)}}}}}{cells}"
