"""``demur prompts``: looking at the prompt set, checking, exporting and publishing it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from .terminal import Console, say

prompts_app = typer.Typer(
    name="prompts", no_args_is_help=True, help="The prompt set: look at it, check it, export and publish it."
)

SplitOption = Annotated[str, typer.Option(help="public, gated or heldout")]


@prompts_app.command(name="list")
def list_(
    split: Annotated[str, typer.Option(help="public, gated, heldout or all")] = "all",
    hazard: Annotated[str | None, typer.Option(help="only this hazard")] = None,
) -> None:
    """List pairs with their categories; no text, so no key is needed."""
    from .benchmark.manifest import manifest
    from .benchmark.prompts import split_named
    from .benchmark.taxonomy import hazard_named

    wanted = None if split == "all" else split_named(split)
    named = None if hazard is None else hazard_named(hazard).id
    table = Table(*(Column(name, overflow="fold") for name in ("pair", "split", "hazard", "subcategory", "twin type")))
    shown = 0
    for entry in manifest()["pairs"]:
        if wanted in (None, entry["split"]) and named in (None, entry["hazard"]):
            table.add_row(*(entry[key] for key in ("id", "split", "hazard", "subcategory", "twin_type")))
            shown += 1
    Console().print(table)
    say(f"{shown} pairs; next: demur prompts show PAIR")


@prompts_app.command()
def show(
    pair: Annotated[str, typer.Argument(help="id of a pair, or of a prompt")], split: SplitOption = "public"
) -> None:
    """Print the wordings of one pair."""
    from .benchmark.prompts import load_prompt_set, prompts_of

    table = Table(Column("id", overflow="fold"), "text", "form")
    for prompt in prompts_of(load_prompt_set(split), pair):
        table.add_row(prompt.id, prompt.text, prompt.form)
    Console().print(table)
    say(f"next: demur run MODEL --split {split}")


@prompts_app.command()
def stats(
    out: Annotated[Path, typer.Option(help="folder for the picture")] = Path("out"),
) -> None:
    """Count pairs and prompts by category, and draw a picture of the counts."""
    from .benchmark.stats import count_table, write_picture

    counts = count_table()
    pivot = counts.pivot_table(
        index="hazard", columns="split", values="prompts", aggfunc="sum", margins=True, fill_value=0
    )
    table = Table("prompts", *map(str, pivot.columns))
    for name, row in pivot.iterrows():
        table.add_row(str(name), *(str(int(value)) for value in row))
    Console().print(table)
    paths = [write_picture(out / f"prompts.{kind}") for kind in ("svg", "png")]
    say(f"picture: {paths[0]} and {paths[1]}; next: open it, or demur prompts list")


@prompts_app.command()
def check(
    split: Annotated[str, typer.Option(help="public, gated, heldout or all")] = "public",
    folder: Annotated[
        Path | None, typer.Option(help="check the YAML files in this folder (and its folders by split) instead")
    ] = None,
    against: Annotated[
        list[Path] | None, typer.Option(help="file of another benchmark with which no 7 words in a row may be shared")
    ] = None,
    save: Annotated[bool, typer.Option("--save", help="keep the table for the cards (with --split all)")] = False,
) -> None:
    """Run every check of the prompt set; exit code 1 on any breach."""
    from .benchmark.extras import need

    need("sklearn", "curation")
    from .benchmark.checking import check_prompts

    with Console(stderr=True).status("checking; the embeddings of the whole set take about a minute"):
        done = check_prompts(split, folder, tuple(against or ()), save=save)
    table = Table("check", "figure", "bar", "outcome")
    colours = {"pass": "green", "breach": "bold red", "skipped": "yellow", "for information": "dim"}
    for line in done.checks:
        table.add_row(line.name, line.figure, line.bar, Text(line.outcome, colours[line.outcome]))
    console = Console()
    console.print(table)
    for line in done.checks:
        if line.outcome in ("breach", "skipped"):
            for detail in line.details[:20]:
                console.print(f"{line.name}: {detail}", soft_wrap=True)
            if len(line.details) > 20:
                console.print(f"{line.name}: and {len(line.details) - 20} more")
    say(f"{done.where}: {done.breaches} breaches; next: {'mend them' if done.breaches else done.next}")
    raise typer.Exit(1 if done.breaches else 0)


@prompts_app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="new folder, or an older export")],
    repo_id: Annotated[str, typer.Option(help="Hub repository that it is meant for")] = "demur/prompts",
) -> None:
    """Write the dataset repository for the Hugging Face Hub."""
    from .benchmark.export import export as write

    made = write(folder, repo_id)
    say(f"{made.folder}: {made.files} files, {made.bytes / 1024:.0f} KiB, version {made.version}")
    say(f'next: datasets.load_dataset("{made.folder}"), or demur prompts publish {repo_id}')


@prompts_app.command()
def publish(repo_id: Annotated[str, typer.Argument(help="for example org/demur")]) -> None:
    """Create or update the dataset repository on the Hub: gated, one commit, one tag."""
    from .benchmark.hub import publish as send

    done = send(repo_id)
    say(f"{done.url} at {done.tag}: {'published' if done.new else 'was there already, nothing sent'}")
    say(f"next: demur access requests {repo_id}")


@prompts_app.command()
def manifest(
    source: Annotated[
        Path | None, typer.Option("--from", help="folder with public/*.yaml to take in; else those of the set")
    ] = None,
    version: Annotated[str | None, typer.Option(help="new semantic version of the set")] = None,
) -> None:
    """Make the manifest true for the files that lie there (maintainers)."""
    from .benchmark.maintain import rebuild_manifest
    from .benchmark.manifest import FOLDER

    made = rebuild_manifest(source, version)
    counts = ", ".join(f"{split} {entry['pairs']} pairs" for split, entry in made["splits"].items())
    say(f"{FOLDER / 'manifest.json'}: version {made['version']}, {counts}")
    say("next: demur access seal where sealed texts or the version changed; demur prompts cards")


@prompts_app.command()
def cards(folder: Annotated[Path, typer.Argument(help="where to")] = Path("data_cards")) -> None:
    """Write the dataset card and the datasheet from the set as it is."""
    from .benchmark.cards import write_cards

    for path in write_cards(folder):
        say(str(path))
    say("next: read the difference, then commit it")
