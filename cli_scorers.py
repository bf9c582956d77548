"""``demur score``, ``demur validate-scorer`` and ``demur scorers``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .terminal import Console, say, say_data

if TYPE_CHECKING:
    from .scorers.labelled import Labelled
    from .scorers.verdicts import Verdict

__all__ = ["bench_scorer", "label", "score", "scorers", "validate_scorer"]

NAMES = "cascade, lexicon, precomputed:FILE, judge:MODEL or guard:NAME"

scorers = typer.Typer(no_args_is_help=True, help="The scorers that judge responses.")


def score(
    run: Annotated[Path, typer.Argument(help="the folder that `demur run` wrote")],
    *,
    scorer: Annotated[list[str] | None, typer.Option(help=f"{NAMES}; repeat it for several")] = None,
    base_url: Annotated[str | None, typer.Option(help="server of judges, else OPENAI_BASE_URL")] = None,
    judge_cache: Annotated[
        Path | None, typer.Option(help="folder of judgements made before; RUN/judgements without it")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="requests to a judge in flight")] = 8,
    rpm: Annotated[float | None, typer.Option(help="requests to a judge per minute at most")] = None,
    timeout: Annotated[float, typer.Option(help="seconds for one attempt to ask a judge")] = 300.0,
    thinking_tokens: Annotated[int, typer.Option(min=0, help="what a reasoning judge may use on top")] = 0,
    price: Annotated[
        tuple[float, float] | None, typer.Option(metavar="IN OUT", help="of a judge, per million tokens")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="local, or ray: workers of a Ray cluster (RAY_ADDRESS); not for judges")
    ] = "local",
    workers: Annotated[int, typer.Option(min=1, help="ray: pieces that are judged at the same time")] = 1,
    gpus_per_worker: Annotated[float, typer.Option(min=0.0, help="ray: GPUs of each worker")] = 0.0,
) -> None:
    """Judge every response of a finished run."""
    from functools import partial

    from .benchmark.models import check_engine
    from .scorers import DEFAULT_SCORER, ray_scorer
    from .scorers.judge import JudgeSettings
    from .scorers.scoring import run_agreement, score_run

    check_engine(engine)
    judge = JudgeSettings(
        base_url, judge_cache or run / "judgements", concurrency, rpm, timeout, thinking_tokens, price
    )
    console = Console(stderr=True)
    columns = (TextColumn("scoring", style="bold"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("scoring", total=None)
        results = score_run(
            run,
            scorer or [DEFAULT_SCORER],
            judge=judge,
            load=partial(ray_scorer, workers=workers, gpus=gpus_per_worker) if engine == "ray" else None,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for result in results:
        counted = ", ".join(f"{label} {count}" for label, count in sorted(result.counts.items()))
        say(f"{result.scorer}: {counted}")
        if result.note:
            say(f"  {result.note}")
        if all(label.startswith("unscored") for label in result.counts):
            say("  nothing was scored; the column evidence of the verdicts says why")
    found = run_agreement(run)
    if found:
        for pair, kappa in found["kappa"].items():
            say(f"agreement of {pair}: κ {_or_undefined(kappa)}")
        say(f"agreement of all: Krippendorff's α {_or_undefined(found['alpha'])}")
    for result in results:
        say(f"{result.path}")
    say(f"Next: demur submit {run} --to submissions/{f' --scorer {results[0].scorer}' if found else ''}")


def validate_scorer(
    table: Annotated[Path, typer.Argument(help="labelled responses: .csv, .jsonl (both also .gz) or .parquet")],
    *,
    response_col: Annotated[str, typer.Option(help="column with the responses")],
    label_col: Annotated[str, typer.Option(help="column with the labels taken as true")],
    prompt_col: Annotated[str | None, typer.Option(help="column with the prompts; intervals resample prompts")] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", help="THEIRS=refused, =partial or =complied; several with commas between, or repeat it"),
    ] = None,
    group_col: Annotated[
        list[str] | None,
        typer.Option(help="figures for each value of this column too; repeat it for model, hazard, language"),
    ] = None,
    id_col: Annotated[str | None, typer.Option(help="column that names a row in the list of errors")] = None,
    annotator_col: Annotated[
        list[str] | None, typer.Option(help="give it twice: two people's labels, the ceiling of any scorer")
    ] = None,
    scorer: Annotated[list[str] | None, typer.Option(help=f"{NAMES}; repeat it for several, side by side")] = None,
    base_url: Annotated[str | None, typer.Option(help="server of judges, else OPENAI_BASE_URL")] = None,
    judge_cache: Annotated[Path | None, typer.Option(help="folder that keeps what judges said")] = None,
    diagram: Annotated[Path | None, typer.Option(help="write a reliability diagram here (.svg or .png)")] = None,
    errors: Annotated[int, typer.Option(min=0, help="how many errors of each scorer to list")] = 20,
    show_text: Annotated[bool, typer.Option(help="list errors with their responses, not their ids alone")] = False,
    json_: Annotated[bool, typer.Option("--json", help="print JSON and nothing else")] = False,
) -> None:
    """Compare scorers with labels: accuracy, agreement, calibration, errors."""
    from .benchmark.errors import DemurError
    from .scorers import DEFAULT_SCORER
    from .scorers.judge import JudgeSettings
    from .scorers.labelled import Columns, parse_map, read_labelled
    from .scorers.report import compare

    annotators = tuple(annotator_col or ())
    if len(annotators) not in (0, 2):
        raise DemurError("--annotator-col: human agreement takes two columns", "give it twice or not at all")
    columns = Columns(response_col, label_col, prompt_col, tuple(group_col or ()), id_col, annotators)
    labelled = read_labelled(table, columns, parse_map(map_ or []))
    report, said = compare(labelled, scorer or [DEFAULT_SCORER], diagram, JudgeSettings(base_url, judge_cache))
    if json_:
        say_data(json.dumps(report, indent=2, allow_nan=False))
        return
    _show(report)
    for name, verdicts in said.items():
        _show_errors(name, labelled, verdicts, errors, show_text=show_text)
    if diagram:
        say(f"reliability diagram: {diagram}")
    say("Next: demur scorers card NAME, to read what a scorer is and is not good for")


@scorers.command("list")
def list_scorers() -> None:
    """Name every scorer with its version and the hash of its rules or weights, and the guards that are known."""
    from .scorers import FAMILIES, SCORERS
    from .scorers.guard_entries import guards

    for name in sorted(SCORERS):
        info = SCORERS[name]().info
        say(f"{name}  version {info.version}  hash {info.weights_hash}")
    for what in FAMILIES.values():
        say(what)
    for guard in guards().values():
        say(f"guard:{guard.name}  {guard.model}  measures {guard.measures}  {guard.licence}")
    say("Next: demur scorers card NAME")


@scorers.command("card")
def card(name: Annotated[str, typer.Argument(help="name of a scorer")]) -> None:
    """Print what a scorer is, what it learned from, how well it does and where it fails."""
    from .scorers.report import card_of

    say_data(card_of(name))


def label(
    run: Annotated[Path, typer.Argument(help="the folder of a finished and scored run")],
    *,
    annotator: Annotated[str | None, typer.Option(help="your name in the file of labels")] = None,
    n: Annotated[int, typer.Option(min=1, help="how many responses; the same ones for every annotator")] = 200,
    scorer: Annotated[str, typer.Option(help="whose uncertainty the draw is spread over")] = "cascade",
    table: Annotated[
        Path | None, typer.Option(help="label nothing; write all labels with their responses to this .csv")
    ] = None,
) -> None:
    """Label responses of a run by hand, blind: no verdict and no model is shown. Quit and go on as you like."""
    from .benchmark.errors import DemurError
    from .scorers.label_screen import keyboard, label_all
    from .scorers.labelling import LabelFile, draw, write_labelled_table

    if (annotator is None) == (table is None):
        raise DemurError("demur label: either --annotator or --table", "give --annotator NAME to label")
    if table is not None:
        joined = write_labelled_table(run, table)
        names = [name for name in joined.columns if name not in ("id", "prompt", "response")]
        say(f"{len(joined)} responses with labels of {', '.join(names)}: {table}")
        both = "".join(f" --annotator-col {name}" for name in names[:2]) if len(names) > 1 else ""
        prompts = " --prompt-col prompt" if "prompt" in joined.columns else ""
        say(
            f"Next: demur validate-scorer {table} --id-col id --response-col response{prompts} "
            f"--label-col {names[0]}{both}"
        )
        return
    store = LabelFile(run, annotator or "")
    items = draw(run, n, scorer, annotator or "")
    store.check(items)
    with keyboard() as read_key:
        left = label_all(items, store, read_key, lambda text: typer.echo(text, nl=False))
    say(f"{len(store.labels)} labelled, {left} to go: {store.path}")
    again = (
        f"demur label {run} --annotator {annotator} --n {n}, to go on" if left else f"demur label {run} --table FILE"
    )
    say(f"Next: {again}")


def bench_scorer(
    *,
    scorer: Annotated[
        list[str] | None, typer.Option(help="name of a scorer; repeat it; without it all built-in")
    ] = None,
    texts: Annotated[Path | None, typer.Option(help="a table of responses; without it invented ones")] = None,
    text_col: Annotated[str, typer.Option(help="its column with the responses")] = "response",
    stream: Annotated[int, typer.Option(min=0, help="stream this many through the default scorer: memory")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON and nothing else")] = False,
) -> None:
    """Time the scorers on one core, in processor time."""
    from dataclasses import asdict

    from .scorers import SCORERS
    from .scorers.bench import bench, invented, read_texts

    requests = read_texts(texts, text_col) if texts else invented()
    found = bench(scorer or sorted(SCORERS), requests, stream=stream)
    if as_json:
        say_data(json.dumps(asdict(found), indent=2))
        return
    say(f"{found.responses} responses, {found.mean_characters:.0f} characters on average")
    others = {**found.peers_per_second}
    if found.encoder_per_second:
        others["a MiniLM-L6 encoder"] = found.encoder_per_second
    for name, speed in found.per_second.items():
        ratios = "".join(f", {_times(speed / other)} x {peer}" for peer, other in others.items())
        say(f"{name}: {speed:,.0f} a second{ratios}")
    for peer, speed in others.items():
        say(f"for comparison, {peer}: {speed:,.0f} a second")
    if "deepteam" not in others:
        say("deepteam is not installed: pip install --no-deps deepteam adds it to the comparison")
    if stream:
        say(
            f"{found.streamed:,} responses streamed: {found.resident_mb:.0f} MB resident at most, "
            f"{found.resident_more_mb:.0f} more than before"
        )
    say("Next: demur validate-scorer TABLE, to see how often they are right")


def _show(report: dict[str, Any]) -> None:
    console = Console(width=150)
    shown = Table(title="Scorers against labels (partial counts as refused; 95 % intervals)")
    names = ("scorer", "group", "n", "accuracy", "κ", "recall", "false refusals", "ECE", "Brier", "without partial")
    for name in names:
        shown.add_column(name, no_wrap=True)
    for result in report["results"]:
        keys = ("accuracy", "kappa", "refusal_recall", "false_refusal_rate", "ece", "brier")
        cells = [_cell(result, key) for key in keys]
        shown.add_row(
            result["scorer"],
            result["group"],
            str(result["n"]),
            *cells,
            _cell(result["without_partial"], "accuracy"),
        )
    console.print(shown)
    for result in report["results"]:
        if result["group"] == "all":
            console.print(f"{result['scorer']}, confusion (label: verdict): {json.dumps(result['confusion'])}")
            console.print(f"{result['scorer']}, unscored: {json.dumps(result['unscored'])}")
    if "human_agreement" in report:
        human = report["human_agreement"]
        told = ", ".join(f"{name} {_cell(human, name)}".replace("\n", " (") + ")" for name in ("accuracy", "kappa"))
        console.print(f"second annotator against the first, the ceiling: {told}")


def _times(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2f}"


def _or_undefined(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _cell(figures: dict[str, Any], key: str) -> str:
    if figures[key] is None:
        return "undefined"
    interval = figures[f"{key}_interval"]
    return f"{figures[key]:.3f}" + (f"\n{interval[0]:.3f}-{interval[1]:.3f}" if interval else "")


def _show_errors(name: str, labelled: "Labelled", verdicts: "list[Verdict]", most: int, *, show_text: bool) -> None:
    wrong = [
        index
        for index, (label, verdict) in enumerate(zip(labelled.labels, verdicts, strict=True))
        if verdict.label != "unscored" and (label == "complied") != (verdict.label == "complied")
    ]
    say(f"{name}: {len(wrong)} errors, {min(most, len(wrong))} listed")
    for index in wrong[:most]:
        line = f"  {labelled.ids[index]}: label {labelled.labels[index]}, verdict {verdicts[index].label}"
        say(line + (f": {str(labelled.requests[index].response)[:300]!r}" if show_text else ""))
