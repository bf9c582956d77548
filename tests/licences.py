"""The licences of what Demur is installed with: ``python -m demur.tests.licences`` prints docs/licences.md.

The licence is what a package says itself: its License-Expression (PEP 639), else its License field where that is an
SPDX expression, else its classifiers. Where it says nothing, or something that is no SPDX expression, ``READ`` holds
what its own files say.
"""

import re
import sys
import tomllib
from collections import deque
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("demo", "openai", "training", "curation")
"""What users install; the other extras are other projects' harnesses, and tools of developers."""
ALLOWED = {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "ISC", "MIT"}
ALLOWED |= {"LLVM-exception", "MPL-2.0", "PSF-2.0", "Unlicense", "Zlib"}
"""Permissive licences, and MPL-2.0, which binds who changes the package's own files and not who uses them."""
CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
}
"""The classifier of BSD does not say which; where it matters the package is in ``READ``."""
READ = {
    "pyrage": "MIT",
    "transformers": "Apache-2.0",
    "axe-playwright-python": "MIT AND MPL-2.0",
    "ply": "BSD-3-Clause",
}
"""What the licence files of packages say whose metadata says nothing, or something else than an SPDX expression."""
Step = tuple[str, frozenset[str]]
ROOT = Path(__file__).resolve().parent.parent


def licence(found: Distribution) -> str:
    """An SPDX expression; empty where the package says none."""
    said = found.metadata
    for text in (said.get("License-Expression"), said.get("License")):
        try:
            return str(canonicalize_license_expression(text or ""))
        except InvalidLicenseExpression:
            continue
    named = [line.rsplit(" :: ", 1)[-1] for line in said.get_all("Classifier") or () if line.startswith("License ::")]
    known = sorted({CLASSIFIERS[name] for name in named if name in CLASSIFIERS})
    return " AND ".join(known) or READ.get(canonicalize_name(found.name), "")


def needed(extras: tuple[str, ...]) -> set[str]:
    """The names of all packages that Demur with some extras comes with."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    todo, seen = deque(_steps(lines, frozenset())), set[Step]()
    while todo:
        step = todo.popleft()
        if step not in seen:
            seen.add(step)
            todo.extend(_steps(distribution(step[0]).requires or (), step[1]))
    return {name for name, _ in seen}


def _steps(lines: Iterable[str], extras: frozenset[str]) -> Iterator[Step]:
    for each in map(Requirement, lines):
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield canonicalize_name(each.name), frozenset(each.extras)


def parts(expression: str) -> set[str]:
    """The licences that an expression names."""
    return set(re.findall(r"[A-Za-z0-9.+-]+", expression)) - {"AND", "OR", "WITH"}


def pinned() -> dict[str, str]:
    """Names and versions of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {
        canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines) if version
    }


def tables() -> tuple[dict[str, str], dict[str, str]]:
    """Package to licence: what users install, and the rest of constraints.txt that is installed here."""
    users = needed(EXTRAS)
    there = {canonicalize_name(each.name): each for each in distributions()}
    rest = sorted((pinned().keys() & there.keys()) - users)
    return {name: licence(there[name]) for name in sorted(users)}, {name: licence(there[name]) for name in rest}


def page() -> str:
    """docs/licences.md."""
    users, developers = tables()
    head, rule = "| package | licence |", "|---|---|"
    rows = [[f"| {name} | {said or 'says none'} |" for name, said in table.items()] for table in (users, developers)]
    return "\n".join([INTRODUCTION, head, rule, *rows[0], "", TOOLS, head, rule, *rows[1], ""])


INTRODUCTION = """# Licences of dependencies

Made by `python -m demur.tests.licences`, compared with what is installed by `tests/test_supply.py`. Licences are SPDX
expressions: what the packages' metadata says, or their licence files where it says nothing that can be read.

The rule: what users install with `demur` and its extras `demo`, `openai`, `training` and `curation` is under permissive
licences, or under MPL-2.0, which binds who changes the package's own files. Nothing there may bind who only uses or
ships Demur (GPL, AGPL, LGPL), and nothing may be unknown. Tools of developers are listed apart: nothing of them is
shipped or imported by `demur`; `krippendorff` (GPL) is there to compare our own figures with.

Not in the tables: what torch from PyPI brings for graphics cards (NVIDIA's libraries, under NVIDIA's terms; the CPU
wheel has none), and what the extras `vllm`, `inspect`, `lm-eval` and `ray` bring, which are other projects' programs
that run beside Demur.

## What users install
"""
TOOLS = "## Tools of developers\n"


if __name__ == "__main__":
    sys.stdout.write(page())
