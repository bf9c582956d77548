"""Vega-Lite specifications to pictures, offline: a file for papers, and markup that takes the page's colours."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any
from xml.etree import ElementTree

import vl_convert

from .palette import LIGHT

__all__ = ["pdf", "standalone", "within_page"]

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
# Vega writes these for its own scripts and for assistive technology; the page names each picture as a whole instead.
_DROPPED = frozenset({"class", "role", "aria-roledescription", "aria-hidden", "pointer-events", "version"})
_RESOURCES = re.compile(rb"(?:\n +/[A-Za-z]+[0-9]+ [0-9]+ 0 R){2,}")
_LENGTHS = frozenset({"d", "transform", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height"})


def standalone(spec: Mapping[str, Any]) -> str:
    """The chart as an SVG file in the light colours."""
    return str(vl_convert.vegalite_to_svg(dict(spec)))


def pdf(svg: str) -> bytes:
    """An SVG file of :func:`standalone` as a one-page PDF; the same picture with one font gives the same bytes.

    The library writes the names of a page's resources in a new order each time. They are sorted, which moves no object.
    It also writes the fonts in a new order, which stays.
    """
    return _RESOURCES.sub(
        lambda found: b"\n" + b"\n".join(sorted(found.group()[1:].split(b"\n"))), bytes(vl_convert.svg_to_pdf(svg))
    )


def within_page(svg: str, name: str, places: Mapping[str, int]) -> str:
    """An SVG file of :func:`standalone` as markup for the page.

    Colours become the page's variables, ids get the chart's name in front, and what a mark's ``aria-label`` names (a
    row's id) becomes the row's place in ``data-at``, from which the page's script makes tooltip and link.

    Args:
        svg: the file's text.
        name: the chart's name, safe in an id.
        places: the place of every row by its id.
    """
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(svg)
    _prune(root)
    for element in root.iter():
        row = element.attrib.pop("aria-label", "")
        if row in places:
            element.set("data-at", str(places[row]))
        for attribute in _DROPPED.intersection(element.keys()):
            del element.attrib[attribute]
        for attribute, value in element.attrib.items():
            element.set(attribute, _short(value) if attribute in _LENGTHS else _own(value, name))
        if "id" in element.attrib:
            element.set("id", f"{name}-{element.attrib['id']}")
    for attribute in ("width", "height"):
        root.attrib.pop(attribute, None)
    root.set("aria-hidden", "true")
    root.set("focusable", "false")
    return ElementTree.tostring(root, encoding="unicode")


def _short(value: str) -> str:
    """Lengths to a tenth of a pixel."""
    return re.sub(r"-?\d+\.\d{2,}(?:e-\d+)?", lambda number: f"{float(number.group()):.1f}".removesuffix(".0"), value)


def _own(value: str, name: str) -> str:
    """An attribute's value with the page's colours and the chart's own references."""
    return _roles().get(value.lower(), re.sub(r"url\(#", f"url(#{name}-", value))


@cache
def _roles() -> dict[str, str]:
    return {value: f"var(--{role})" for role, value in LIGHT.items()}


def _prune(element: ElementTree.Element) -> None:
    """Drop groups and paths that draw nothing: about a third of what Vega writes."""
    for child in list(element):
        _prune(child)
        invisible = child.get("class") in {"background", "foreground"} and child.get("fill", "none") == "none"
        unstroked = child.get("stroke") in {None, "none"} or child.get("display") == "none"
        empty_group = child.tag == f"{{{_SVG}}}g" and len(child) == 0
        empty_text = child.tag == f"{{{_SVG}}}text" and not (child.text or "").strip() and len(child) == 0
        if (invisible and unstroked) or empty_group or empty_text:
            element.remove(child)
