"""``demur organism``: tiny models with a known refusal mechanism."""

from typing import Annotated

import typer
from rich.table import Table

from .terminal import Console, say

__all__ = ["organism_app"]

organism_app = typer.Typer(
    no_args_is_help=True, help="Tiny models with a planted refusal mechanism, to test the instruments with."
)


@organism_app.command("list")
def list_organisms() -> None:
    """Every organism: its class of network and the right answer about it."""
    from .benchmark.organisms import RECIPES

    table = Table("name", "class", "right answer")
    for recipe in RECIPES.values():
        table.add_row(recipe.name, recipe.family, recipe.answer)
    Console().print(table)
    say("Next: demur organism make NAME")


@organism_app.command()
def make(
    name: Annotated[str, typer.Argument(help="one of `demur organism list`")],
    *,
    seed: Annotated[int, typer.Option(min=0, help="another seed plants elsewhere")] = 0,
) -> None:
    """Train an organism (seconds on one core), or take it from the cache, and say what is planted in it."""
    from .benchmark.organisms import make_organism

    console = Console(stderr=True)
    with console.status(f"making {name}"):
        organism = make_organism(name, seed)
    for line in organism.describe():
        say(line)
    say(f"It lies in {organism.folder}, a transformers folder.")
    say(f"Next: demur run {organism.folder} --out runs/{organism.name}")
