"""``demur stress`` and ``demur bench stress``."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from .terminal import Console, say, say_data

__all__ = ["bench_stress", "stress"]


def stress(
    model: Annotated[
        str, typer.Argument(help="a Hub id, a model folder, a .gguf file, or demo:NAME; not needed for --self-test")
    ] = "",
    *,
    out: Annotated[Path | None, typer.Option(help="folder of the result; an interrupted test in it goes on")] = None,
    systems: Annotated[str, typer.Option(help="of S1,S2,S3,S4,S5; without it all that the model can have")] = "",
    budget: Annotated[str, typer.Option(help="quick or full")] = "quick",
    pairs: Annotated[
        Path | None, typer.Option(help='JSON lines {"id", "harmful", "benign", "part"}; without it the public pairs')
    ] = None,
    general: Annotated[
        Path | None, typer.Option(help="general instructions, one a line: S1 is measured against these too")
    ] = None,
    expert: Annotated[
        list[str] | None, typer.Option(help="LAYER:EXPERT for S3, may be repeated; else searched")
    ] = None,
    shuffles: Annotated[
        int | None, typer.Option(min=1, help="searches with shuffled labels for S1; 19 or more test its effect at 5 %")
    ] = None,
    self_test: Annotated[str, typer.Option(help="a model family, or all: test the hooks on tiny random models")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 …, or auto: over all GPUs")] = None,
) -> None:
    """Measure how far refusal bends when activations are steered. Labels and figures only.

    It is a defensive measurement: no response text, direction or altered weight is written, and at most 64 new tokens
    are generated per response.
    """
    if self_test:
        _self_test(self_test, as_json)
        return
    if not model or out is None:
        raise typer.BadParameter("give a model and --out, or --self-test")
    from .benchmark.stress.loading import load_subject
    from .benchmark.stress.page import write_page
    from .benchmark.stress.settings import parse_experts, settings
    from .benchmark.stress.sweep import plan_of
    from .benchmark.stress.sweep import stress as run_stress
    from .scorers import DEFAULT_SCORER, get_scorer
    from .scorers.short_answers import ShortAnswerJudge

    console = Console(stderr=True)
    plan = settings(budget, [name for name in systems.split(",") if name], parse_experts(expert or []), shuffles)
    with console.status(f"loading {model}"):
        judge = ShortAnswerJudge(get_scorer(DEFAULT_SCORER))
        subject = load_subject(model, pairs, judge, general=general, dtype=dtype, device=device)
    plan = plan_of(subject.model, plan, asked=bool(systems))
    with _bar(console) as bar:
        task = bar.add_task("starting", total=1.0, left="")
        began = time.monotonic()

        def show(what: str, share: float) -> None:
            left = (time.monotonic() - began) * (1 - share) / share if share > 0.03 else None
            text = "" if left is None else f"about {left / 60:.0f} min left"
            bar.update(task, description=what, completed=share, left=text)

        result = run_stress(subject, plan, out, progress=show)
    page = write_page(out, result)
    if as_json:
        say_data(json.dumps(result, allow_nan=False))
        return
    for name, entry in result["systems"].items():
        real = entry["controls"].get("real", {}).get("answered", {}).get("value")
        gain = "" if real is None else f"answers {real:+.0%} harmful prompts; "
        say(f"{name}: {gain}{'published' if entry['published'] else entry['reason']}")
    say(f"{out / 'stress.json'}, cells in {out / 'cells.parquet'}")
    say(f"Next: open {page}")


def bench_stress(
    *,
    rounds: Annotated[int, typer.Option(min=1, help="interleaved repetitions; the median counts")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON and nothing else")] = False,
) -> None:
    """Time the stress test's search against one hooked forward per candidate and dose, in processor time."""
    from .benchmark.stress.bench import bench_stress as measure

    found = measure(rounds=rounds)
    if as_json:
        say_data(json.dumps(asdict(found), indent=2))
        return
    for prompts, ratio in found.ratio.items():
        say(f"{found.candidates} candidates on {prompts} prompts: {ratio:.1f} times as fast")
    say(f"largest difference of the log-odds: {found.max_abs_difference:.1e}")
    say(f"idle hooks lengthen a forward pass by {found.idle_share:.1%}")
    kept = ", ".join(f"{size:,} bytes for {pairs} pairs" for pairs, size in found.kept_bytes.items())
    say(f"kept by the pass that collects directions: {kept}")
    say(f"memory: {found.resident_mib:.0f} MiB at most, {found.search_mib:.0f} more than before the searches")


def _self_test(name: str, as_json: bool) -> None:
    from .benchmark.stress.families import families
    from .benchmark.stress.selftest import test_family

    results = []
    names = families() if name == "all" else (name,)
    for family in names:
        found = test_family(family)
        results.append(found)
        if not as_json:
            say(f"{found.family:24} {found.architecture:6} {'passed' if found.passed else found.reason}")
    if as_json:
        say_data(json.dumps({"families": [asdict(found) for found in results]}, indent=2))
    else:
        passed = sum(found.passed for found in results)
        say(f"{passed} of {len(results)} families pass; those that do not are refused")
    if not all(found.passed for found in results):
        raise typer.Exit(1)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=console,
    )
