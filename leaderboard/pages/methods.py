"""The methods page: ``docs/methods.md``, the one source, as HTML."""

import itertools
import re
from functools import cache
from importlib.resources import files

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

__all__ = ["anchor", "methods_html"]

VIEW = "methods"


@cache
def methods_html() -> Markup:
    """The document without its title, headings one level lower and with ids ``methods/<words>``.

    HTML in the source is shown as text, and links keep only what Markdown can write.
    """
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    source = files("demur").joinpath("docs", "methods.md").read_text(encoding="utf-8")
    tokens = markdown.parse(source.split("\n", 1)[1])
    for heading, inline in itertools.pairwise(tokens):
        if heading.type == "heading_open":
            heading.attrSet("id", anchor(inline.content))
        if heading.type in {"heading_open", "heading_close"}:
            heading.tag = f"h{int(heading.tag[1]) + 1}"
    html = markdown.renderer.render(_scrollable(tokens), markdown.options, {})
    return Markup(html)  # our own document, rendered with HTML switched off


def anchor(title: str) -> str:
    """The id of a heading, which is also the fragment of its link."""
    return f"{VIEW}/{re.sub(r'[^a-z0-9]+', '-', title.lower()).strip('-')}"


def _scrollable(tokens: list[Token]) -> list[Token]:
    """Give preformatted blocks a place in the keyboard's order: they scroll on narrow screens."""
    for token in tokens:
        if token.type == "code_block":
            token.attrSet("tabindex", "0")
    return tokens
