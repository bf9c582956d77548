"""Docstrings are true: what they refer to exists, and the arguments and attributes that they describe are there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = [
    *ROOT.glob("*.py"),
    *(path for room in ("benchmark", "scorers", "leaderboard") for path in (ROOT / room).rglob("*.py")),
]
REFERENCE = re.compile(r":(?:mod|func|data|class|attr|meth):`~?\.*([\w.]+)`")
Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def names_in(tree: ast.AST) -> set[str]:
    """Every name that a module defines or assigns, at any depth, attributes of self included."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, Documented):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return found


def described(text: str, section: str) -> Iterator[str]:
    """The names that a section of a Google-style docstring describes."""
    block = re.search(rf"^{section}:\n((?:    .*\n?|\n)*)", text, re.MULTILINE)
    for line in re.findall(r"^    (\*{0,2}\w+(?:, \*{0,2}\w+)*):", block[1] if block else "", re.MULTILINE):
        yield from (name.lstrip("*") for name in line.split(", "))


def untrue(source: str, known: set[str]) -> Iterator[str]:
    tree = ast.parse(source)
    yield from (f"refers to {name}" for name in REFERENCE.findall(source) if name.split(".")[-1] not in known)
    for node in ast.walk(tree):
        if isinstance(node, Documented):
            text = ast.get_docstring(node) or ""
            there = (
                names_in(node)
                if isinstance(node, ast.ClassDef)
                else {a.arg for a in ast.walk(node.args) if isinstance(a, ast.arg)}
            )
            wrong = [
                name for section in ("Args", "Attributes") for name in described(text, section) if name not in there
            ]
            yield from (f"{node.name} has no {name}" for name in wrong)


def test_docstrings_are_true():
    sources = {path: path.read_text(encoding="utf-8") for path in FILES}
    known = {part for path in FILES for part in (path.stem, path.parent.name)}
    known |= {name for source in sources.values() for name in names_in(ast.parse(source))}
    found = {
        str(path.relative_to(ROOT)): faults
        for path, source in sources.items()
        if (faults := list(untrue(source, known)))
    }
    assert found == {}


def test_the_reader_sees_faults():
    source = '''
class Box:
    """A box; see :func:`.other.gone`.

    Attributes:
        size: of it.
        colour: of it.
    """
    size: int

    def fill(self, what: str) -> None:
        """Fill it.

        Args:
            what, more: go in.
        """
'''
    assert list(untrue(source, {"Box"})) == ["refers to other.gone", "Box has no colour", "fill has no more"]
