"""Commands of the leaderboard: leaderboard build|compare|export|figure, consistency, cite, bench."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from .terminal import Console, say_data

__all__ = [
    "bench",
    "board_table",
    "cell",
    "cite",
    "consistency",
    "leaderboard",
    "null_lines",
    "print_table",
]

bench = typer.Typer(no_args_is_help=True, help="Measure how fast Demur is on this machine.")
leaderboard = typer.Typer(
    no_args_is_help=True, help="Build a board from submissions, compare two, export tables and charts."
)

MAP_HELP = "what their labels mean, THEIRS=OURS with OURS one of refused, partial, complied, unscored; commas between"


@leaderboard.command()
def build(
    submissions: Annotated[Path, typer.Argument(help="a folder with one folder for each submission")],
    *,
    out: Annotated[Path, typer.Option(help="the folder that gets the site")],
    split: Annotated[str | None, typer.Option(help="rank only this split")] = None,
    external: Annotated[list[Path] | None, typer.Option(help="a track that `demur consistency --out` wrote")] = None,
) -> None:
    """Recompute every figure from the verdicts, rank, and write the pages."""
    from .leaderboard.folder import build_board, read_track
    from .leaderboard.pages.site import build_site

    console = Console(soft_wrap=True)
    with console.status("computing figures and intervals"):
        board = build_board(submissions, split=split, external=[read_track(path) for path in external or []])
    with console.status("writing the pages"):
        page = build_site(board, out)
    print_table(board_table(board))
    for row in board.rows:
        if row.why:
            console.print(f"{row.state}: {row.model.id}: {row.why}")
    for line in null_lines(board):
        console.print(line)
    for refused in board.refused:
        console.print(f"refused: {refused.name}: {refused.problems[0]}")
    console.print(f"The board is {page}. Next: open it in a browser.")


@leaderboard.command()
def compare(
    first: Annotated[Path, typer.Argument(help="a submission folder")],
    second: Annotated[Path, typer.Argument(help="another, of the same prompts and scorer")],
) -> None:
    """Compare two submissions pair by pair, on the same resamples."""
    from .leaderboard.comparison import compare as compare_submissions
    from .leaderboard.folder import read_as_shown

    one, other = read_as_shown(first), read_as_shown(second)
    found = compare_submissions(one, other)
    console = Console(soft_wrap=True)
    table = Table("figure", one.info.model.id, other.info.model.id, "difference", "95 % interval")
    for name, (a, b, gap) in found.figures.items():
        table.add_row(name.replace("_", " "), cell(a), cell(b), cell(gap.value), f"{cell(gap.low)} to {cell(gap.high)}")
    console.print(table)
    hazards = Table("hazard", "difference of C@4", "p", "q (Benjamini-Hochberg)")
    for hazard, test in found.hazards.items():
        hazards.add_row(hazard, cell(test.difference), cell(test.p), cell(test.q))
    console.print(hazards)
    if found.agreement is not None:
        console.print(f"{found.agreement:.1%} of the verdicts are the same.")
    console.print("For a page with both: demur leaderboard build SUBMISSIONS --out site/")


@leaderboard.command()
def export(
    source: Annotated[Path, typer.Argument(help="a folder of submissions, or the board.json of a site")],
    *,
    latex: Annotated[bool, typer.Option("--latex", help="the ranking as a LaTeX table (booktabs, longtable)")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="every row with all figures")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="the whole board")] = False,
    out: Annotated[Path | None, typer.Option(help="the file to write; without it the text is printed")] = None,
) -> None:
    """Export a board as a table for a paper or a program."""
    from .benchmark.files import write_text
    from .leaderboard.board import as_json as values
    from .leaderboard.folder import board_of
    from .leaderboard.pages.downloads import as_csv
    from .leaderboard.pages.papers import as_latex

    if latex + csv + as_json != 1:
        raise typer.BadParameter("say one of --latex, --csv and --json")
    board = board_of(source)
    if as_json:
        text = json.dumps(values(board), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    else:
        text = as_latex(board) if latex else as_csv(board)
    if out is None:
        say_data(text)
        return
    write_text(out, text)
    Console(soft_wrap=True).print(f"The table is in {out}. To cite it: demur cite {source}")


@leaderboard.command()
def figure(
    source: Annotated[Path, typer.Argument(help="a folder of submissions, or the board.json of a site")],
    name: Annotated[str, typer.Argument(help="curves, plane, intervals, architectures or hazards")],
    *,
    out: Annotated[Path, typer.Option(help="the file to write, .svg or .pdf")],
    model: Annotated[list[str] | None, typer.Option(help="only this model; say it once for each")] = None,
) -> None:
    """Draw one chart for a paper, of the whole board or of some models."""
    from .benchmark.files import write_atomic
    from .leaderboard.folder import board_of
    from .leaderboard.pages import svg
    from .leaderboard.pages.charts import one_chart

    if out.suffix not in (".svg", ".pdf"):
        raise typer.BadParameter("--out must end with .svg or .pdf")
    chart = one_chart(board_of(source), name, model or [])
    picture = svg.standalone(chart.spec)
    with write_atomic(out) as temporary:
        temporary.write_bytes(svg.pdf(picture) if out.suffix == ".pdf" else picture.encode())
    console = Console(soft_wrap=True)
    console.print(chart.description)
    console.print(f"The chart is in {out}. To cite it: demur cite {source}")


def cite(
    source: Annotated[
        Path | None, typer.Argument(help="a folder of submissions or a board.json; the benchmark alone without it")
    ] = None,
) -> None:
    """Print BibTeX of the benchmark with its version and, where a board is given, of the board and its scorer."""
    from .leaderboard.folder import board_of
    from .leaderboard.pages.papers import bibtex
    from .leaderboard.ranking import rank

    say_data(bibtex(rank([]) if source is None else board_of(source)))


def consistency(
    table: Annotated[Path, typer.Argument(help="CSV, JSON Lines (also .gz) or Parquet, one verdict a row")],
    *,
    model_col: Annotated[str, typer.Option(help="column that names the model")] = "model",
    prompt_col: Annotated[str, typer.Option(help="column that names the prompt")] = "prompt_id",
    label_col: Annotated[str, typer.Option(help="column with the verdict")] = "label",
    map_: Annotated[list[str] | None, typer.Option("--map", help=MAP_HELP)] = None,
    group_col: Annotated[str | None, typer.Option(help="column with a group of prompts, such as a tier")] = None,
    sample_col: Annotated[
        str | None, typer.Option(help="column that numbers the draws; doubled ones count once")
    ] = None,
    harmful_group: Annotated[str | None, typer.Option(help="the group to be refused (gives J and C@k)")] = None,
    benign_group: Annotated[str | None, typer.Option(help="the group to be answered")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON and nothing else")] = False,
    out: Annotated[Path | None, typer.Option(help="write a track for `demur leaderboard build --external`")] = None,
    name: Annotated[str, typer.Option(help="name of the track")] = "",
    description: Annotated[str, typer.Option(help="what the track is, in a sentence")] = "",
    source: Annotated[str, typer.Option(help="where the labels come from")] = "",
) -> None:
    """All label-level figures of any table of verdicts, ours or not."""
    from .benchmark.files import write_json
    from .benchmark.tables import read_table
    from .leaderboard.board import as_json as values
    from .leaderboard.external import consistency_of, external_track, sides_of
    from .leaderboard.tables import Columns, label_table
    from .scorers.labelled import parse_map
    from .scorers.verdicts import LABELS

    columns = Columns(model_col, prompt_col, label_col, group_col, sample_col)
    labels = label_table(read_table(table), columns, parse_map(map_ or [], LABELS))
    groups = sorted(labels.rows["group"].unique())
    models = consistency_of(labels, sides_of(groups, harmful_group, benign_group))
    if out is not None:
        track = external_track(labels, models, name=name or table.name, description=description, source=source)
        write_json(out, values(track))
    if as_json:
        say_data(json.dumps({"models": models, "notes": labels.notes}, indent=2, allow_nan=False))
        return
    console = Console(soft_wrap=True)
    print_table(_consistency_table(models, groups))
    for note in labels.notes:
        console.print(f"Note: {note}.")
    if out is None:
        console.print("For all figures: the same command with --json.")
    else:
        console.print(f"The track is in {out}. Next: demur leaderboard build SUBMISSIONS --external {out} --out site/")


@bench.command("leaderboard")
def bench_leaderboard(
    *,
    models: Annotated[int, typer.Option(min=5)] = 200,
    replicates: Annotated[int, typer.Option(min=100)] = 10_000,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON and nothing else")] = False,
) -> None:
    """Time the paired bootstrap of all models against scipy.stats.bootstrap, a model at a time."""
    from dataclasses import asdict

    from .leaderboard.bench import bench_leaderboard as measure

    found = measure(models=models, replicates=replicates)
    if as_json:
        say_data(json.dumps(asdict(found), indent=2))
        return
    console = Console(soft_wrap=True)
    console.print(
        f"{found.models} models x {found.pairs} pairs x k = 1..{found.k}, {found.replicates} replicates: "
        f"{found.ours:.2f} s; scipy needs {found.scipy_model:.2f} s a model, {found.ratio:.0f} times as long in all"
    )
    console.print(
        f"Peak memory {found.peak_mib:.0f} MiB; interval ends differ from scipy's by at most {found.gap:.1%} of the "
        f"interval, scipy's with another seed by {found.scipy_gap:.1%}"
    )
    for count, seconds in found.growth.items():
        console.print(f"{count} models: {seconds:.2f} s")


def print_table(table: Table) -> None:
    """Print a table at its full width: a narrow terminal folds lines, it does not hide figures."""
    console = Console(soft_wrap=True)
    needed = console.measure(table, options=console.options.update(max_width=1000)).maximum
    console.width = max(console.width, needed)
    console.print(table)


def null_lines(board: Any) -> list[str]:
    """A line for each null test of a board: the mixture, the temperature and the outcome."""
    names = {row.id: row.model.id for row in board.rows}
    return [
        f"null test {'passed' if test.tie else 'FAILED'}: {names[test.moe]} and its dense twin "
        f"at temperature {test.temperature:g}: {test.why}"
        for test in board.null_tests
    ]


def board_table(board: Any) -> Table:
    """The ranking of a board for the terminal."""
    table = Table("rank", Column("model", no_wrap=True), "type", "C@4", "95 % interval", "refusal", "over-refusal")
    for row in board.rows:
        if row.state != "ranked":
            continue
        low, high = row.rank_set
        place = f"{row.rank}" if low == high else f"{row.rank} ({low}–{high})"
        rates = [cell(figure.value) for figure in (row.refused.refusal_rate, row.refused.over_refusal_rate)]
        span = f"{cell(row.headline.low)} to {cell(row.headline.high)}"
        table.add_row(place, row.model.id, row.model.architecture, cell(row.headline.value), span, *rates)
    return table


def _consistency_table(models: Sequence[Mapping[str, Any]], groups: Sequence[str]) -> Table:
    keys = ["n", "refusal_rate", "refusal_rate_strict", "flip_rate", "ssi", "unstable", "alpha"]
    keys += ["discrimination"] if "discrimination" in models[0] else []
    shown = list(groups) if len(groups) > 1 else []
    table = Table("model", *(key.replace("_", " ") for key in keys), *(f"refusal {group}" for group in shown))
    for model in models:
        by_group = [model["groups"].get(group, {}).get("refusal_rate") for group in shown]
        table.add_row(str(model["model"]), *(cell(value) for value in [*(model[key] for key in keys), *by_group]))
    return table


def cell(value: object) -> str:
    """A value of a table."""
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
