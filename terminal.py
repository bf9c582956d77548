"""What the commands print. Nothing in it can steer a terminal, whoever wrote it: a model, a submitter, a file."""

import sys
from typing import Any

import typer
from rich import console
from rich.status import Status
from rich.text import Text

from .benchmark.masking import masked
from .benchmark.untrusted import visible

__all__ = ["Console", "say", "say_data"]


class Console(console.Console):
    """Prints texts and the cells of tables as they stand: no markup, and control characters as their code points."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every string passes here on its way to the terminal, those in tables too."""
        return super().render_str(visible(text), **options)

    def status(self, status: Any, **options: Any) -> Status:
        """A line that is there while something goes on; Rich would read markup in it."""
        return super().status(Text(visible(masked(status))) if isinstance(status, str) else status, **options)


def say(text: str) -> None:
    """Print a line."""
    typer.echo(visible(text))


def say_data(text: str) -> None:
    """Print what a program may read: unchanged into a pipe or file, made harmless on a terminal."""
    ended = text if text.endswith("\n") else f"{text}\n"
    sys.stdout.write(visible(ended) if sys.stdout.isatty() else ended)
