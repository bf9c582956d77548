"""The guides are true: their links lead somewhere, and every command that they show exists with its options."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer

from demur import cli_scorers
from demur.benchmark.models import BACKENDS
from demur.benchmark.models.demo import DEMO_MODELS
from demur.cli import app
from demur.scorers import FAMILIES, SCORERS
from demur.tests import licences

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "docs/decisions/*.md", "data_cards/*.md", "scorers/cards/*.md")
    for path in ROOT.glob(pattern)
)
NAMES = re.compile(r"^#+ .*|--[a-z][a-z-]*", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)")
SHOWN = re.compile(r"^(?: {4,}|)(?:[A-Z_]+=\S+ )*(demur [^\\\n]*(?:\\\n[^\\\n]*)*)$|`(demur [a-z][^`]*)`", re.MULTILINE)


def commands(text: str) -> Iterator[list[str]]:
    """The words after ``demur`` of every command in a page, up to a comment, a pipe or a redirection."""
    for block, inline in SHOWN.findall(text):
        line = (block or inline).replace("\\\n", " ")
        words = shlex.split(line.replace("…", "X").replace("'", ""), comments=True)[1:]
        ends = [at for at, word in enumerate(words) if word in {"|", "&&", ";", ">"} or word.endswith(",")]
        yield words[: ends[0]] if ends else words


def fault(words: list[str]) -> str:
    """What is wrong with a command, or nothing."""
    command: Any = typer.main.get_command(app)
    for at, word in enumerate(words):
        if not hasattr(command, "commands"):
            given = {word.split("=")[0] for word in words[at:] if word.startswith("--")}
            known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
            unknown = given - known - {"--help"}
            return f"{command.name} has no {', '.join(sorted(unknown))}" if unknown else ""
        # `demur bench scorer|leaderboard` and `demur access ...` name several commands, or a group.
        names = [name for name in re.split(r"[|/]", word) if name and not name.startswith(("-", "X", "."))]
        missing = [name for name in names if name not in command.commands]
        if missing:
            return f"no command {' '.join([*words[:at], missing[0]])}"
        if not names:
            return ""
        command = command.commands[names[0]]
    return ""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    links = [link for link in LINK.findall(path.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_exist(path: Path) -> None:
    assert [fault(words) for words in commands(path.read_text(encoding="utf-8")) if fault(words)] == []


def named_files(text: str) -> list[str]:
    """The files and folders of this repository that a page names in code, but for those that a reader shall make."""
    words = [word.rstrip(",.;:") for span in re.findall(r"`([^`\n]+)`", text) for word in span.split()]
    rooms = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"build", "quickstart"}
    return [w for w in words if "/" in w and w.split("/")[0] in rooms and not re.search(r"[A-Z<]{3}|first.word", w)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_named_exist(path: Path) -> None:
    assert [name for name in named_files(path.read_text(encoding="utf-8")) if not list(ROOT.glob(name))] == []


def test_the_files_to_touch_hold_what_the_list_says() -> None:
    rows = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("How to add")[1].splitlines()
    checked = 0
    for row in rows:
        touched = [ROOT / name for name in named_files(row)] + [ROOT / "cli.py", ROOT / "cli_run.py"]
        for name in re.findall(r"`([A-Z]{4,}|_[a-z]+|[A-Z][a-z]+[A-Z]\w+)`", row):
            assert any(name in path.read_text(encoding="utf-8") for path in touched if path.is_file()), (name, row)
            checked += 1
    assert checked >= 6


def test_the_lists_of_names_are_whole() -> None:
    """What the help and the guide of ways to ask, and of scorers, name by hand."""
    asked = (ROOT / "cli_run.py").read_text(encoding="utf-8")
    guide = (ROOT / "docs" / "backends.md").read_text(encoding="utf-8")
    for name in BACKENDS:
        assert name == "transformers" or (f"{name}:" in asked and f"`{name}:" in guide), name
    for name in (*SCORERS, *FAMILIES):
        assert name in cli_scorers.NAMES.replace(":", ", ").split(", ") or f"{name}:" in cli_scorers.NAMES, name
    for name in DEMO_MODELS:
        assert name in BACKENDS["demo"].what.replace(":", ",").replace(",", "").split(), name
        assert f"demo:{name}" in asked, name


def test_the_command_reference_is_that_of_the_commands(tmp_path: Path) -> None:
    made = tmp_path / "commands.md"
    command = ["typer", "demur.cli", "utils", "docs", "--name", "demur", "--title", "Commands", "--output", str(made)]
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True, timeout=120)
    kept, now = (path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "commands.md", made))
    # How a kind of value and an apostrophe are written differs between releases of typer; what there is does not.
    assert NAMES.findall(kept) == NAMES.findall(now), "run `make docs`"
    if version("typer") == licences.pinned()["typer"]:
        assert kept == now, "run `make docs`"


def test_the_readers_see_commands_and_faults() -> None:
    page = "    KEY=x demur run M --out a \\\n        --sampels 4  # note\n\nsee `demur acces open` and `demur cite`.\n"
    assert [fault(words) for words in commands(page)] == ["run has no --sampels", "no command acces", ""]
    assert sum(len(list(commands(path.read_text(encoding="utf-8")))) for path in PAGES) > 40
