"""``demur quickstart``."""

import sys
import time
import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from .terminal import Console

__all__ = ["quickstart"]


def quickstart(
    out: Annotated[Path, typer.Option(help="folder for runs, submissions and the site")] = Path("quickstart"),
    pairs_per_hazard: Annotated[int, typer.Option(min=1, max=8, help="pairs of every hazard that are asked")] = 1,
    scorer: Annotated[str, typer.Option(help="who judges the responses")] = "cascade",
) -> None:
    """Evaluate a real small model and its Mixture-of-Experts twin, as published and refusal-tuned, offline.

    Runs, scores, submits, ranks and writes the leaderboard page. Stop it at any time: the same command goes on.
    """
    started = time.monotonic()
    console = Console(soft_wrap=True)
    with console.status("loading libraries"):
        from .cli_leaderboard import board_table, null_lines, print_table
        from .quickstart import quickstart as go

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    ) as bar:
        tasks: dict[str, int] = {}

        def step(label: str, there: int, total: int) -> None:
            for other, number in tasks.items():
                if other != label and not bar.tasks[number].finished:
                    bar.update(number, total=bar.tasks[number].total or 1, completed=bar.tasks[number].total or 1)  # type: ignore[arg-type]
            if label not in tasks:
                tasks[label] = bar.add_task(label, total=total)
            bar.update(tasks[label], completed=there, total=total)  # type: ignore[arg-type]

        outcome = go(out, scorer=scorer, step=step, pairs_per_hazard=pairs_per_hazard)
    print_table(board_table(outcome.board))
    for line in null_lines(outcome.board):
        console.print(line)
    console.print(f"Done in {(time.monotonic() - started) / 60:.1f} minutes. The page is {outcome.page.resolve()}")
    console.print(
        f"Next: open it in a browser; evaluate your own model with `demur run MODEL --out {out / 'runs' / 'mine'}`."
    )
    if sys.stdout.isatty():
        webbrowser.open(outcome.page.resolve().as_uri())
