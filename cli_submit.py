"""Commands of submitters and of who checks them: submit, verify, import."""

import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .cli_leaderboard import cell
from .terminal import Console

__all__ = ["import_log", "submit", "verify"]


class Architecture(StrEnum):
    """Kinds of models."""

    DENSE = "dense"
    MOE = "moe"
    UNDISCLOSED = "undisclosed"


def submit(
    run: Annotated[Path, typer.Argument(help="a finished and scored run folder")],
    *,
    to: Annotated[str, typer.Option(help="the folder that gets the submission, or hub:ORG/REPO for a pull request")],
    scorer: Annotated[str | None, typer.Option(help="whose verdicts, where several scorers judged the run")] = None,
    maker: Annotated[
        str | None, typer.Option(help="who made the model; else the part of its id before the slash")
    ] = None,
    base_model: Annotated[str | None, typer.Option(help="id of the model that it was made from")] = None,
    upcycled_from: Annotated[
        str | None, typer.Option(help="id of the dense model that it is an exact upcycling of")
    ] = None,
    formerly: Annotated[list[str] | None, typer.Option(help="an id that it was submitted under before")] = None,
    architecture: Annotated[Architecture | None, typer.Option(help="where the run does not tell")] = None,
    total_parameters: Annotated[int | None, typer.Option(min=1)] = None,
    active_parameters: Annotated[int | None, typer.Option(min=1, help="used per token")] = None,
    experts: Annotated[int | None, typer.Option(min=0, help="routed experts in a layer")] = None,
    experts_per_token: Annotated[int | None, typer.Option(min=0)] = None,
    supersedes: Annotated[list[str] | None, typer.Option(help="id of an earlier submission that this replaces")] = None,
    contact: Annotated[str, typer.Option(help="how to reach you; public")] = "",
    notes: Annotated[str, typer.Option(help="what a reader should know; public")] = "",
    model_repo: Annotated[
        str | None, typer.Option(help="with hub: also propose the result to this model repository")
    ] = None,
    stress: Annotated[
        Path | None, typer.Option(help="attach the stress test of the model: what `demur stress --out` wrote")
    ] = None,
    with_responses: Annotated[
        str | None,
        typer.Option(
            help="seal the responses to the maintainers, into a private folder or a private or gated hub:ORG/REPO"
        ),
    ] = None,
    recipient: Annotated[
        list[str] | None, typer.Option(help="age public key to seal to; else those of Demur's maintainers")
    ] = None,
    again: Annotated[
        Path | None, typer.Option(help="send this submission, made of the run before, instead of making another")
    ] = None,
) -> None:
    """Make a submission of a scored run: figures and row-level verdicts, no response texts."""
    from .leaderboard.submissions.hub import propose_result, propose_submission
    from .leaderboard.submissions.submission import Declared, read_submission
    from .leaderboard.submissions.submission import submit as make

    repository = to.removeprefix("hub:") if to.startswith("hub:") else None
    if model_repo is not None and repository is None:
        raise typer.BadParameter("--model-repo needs --to hub:ORG/REPO")
    declared = Declared(
        maker=maker,
        base_model=base_model,
        upcycled_from=upcycled_from,
        formerly=tuple(formerly or ()),
        architecture=None if architecture is None else architecture.value,
        total_parameters=total_parameters,
        active_parameters=active_parameters,
        experts=experts,
        experts_per_token=experts_per_token,
    )
    if again is not None and (declared != Declared() or any((scorer, supersedes, contact, notes, stress))):
        raise typer.BadParameter("--again sends a submission as it is; leave out what would change it")
    folder = run / "submissions" if repository is not None else Path(to)
    place = again or make(
        run,
        folder,
        scorer=scorer,
        declared=declared,
        supersedes=supersedes or [],
        contact=contact,
        notes=notes,
        stress=stress,
    )
    info = read_submission(place).info
    console = Console(soft_wrap=True)
    figures = info.figures.refused
    headline = figures.curve[3] if len(figures.curve) > 3 else None
    console.print(
        f"C@4 {cell(headline)}, refusal rate {cell(figures.refusal_rate)}, "
        f"over-refusal rate {cell(figures.over_refusal_rate)}, {info.rows} verdicts of {info.scorer.name}"
    )
    console.print(f"The submission is in {place}")
    if again is None and (repository is not None or with_responses is not None):
        console.print(f"If sending fails: the same place with --again {place}")
    if with_responses is not None:
        where = _send_responses(run, place, with_responses, recipient or [], None if repository else folder)
        console.print(f"The responses, sealed to the maintainers: {where}")
    if repository is None:
        console.print(f"Next: demur leaderboard build {to} --out site/")
        return
    request = propose_submission(place, repository)
    console.print(f"Pull request: {request}")
    if model_repo is not None:
        result = propose_result(place, model_repo, source_url=request)
        console.print(f"Pull request on the model's repository: {result}")
    console.print("Next: the maintainer reviews it there.")


def _send_responses(run: Path, place: Path, to: str, recipients: Sequence[str], public: Path | None) -> str:
    from .leaderboard.submissions.hub import propose_responses
    from .leaderboard.submissions.sealing import keep_sealed

    if to.startswith("hub:"):
        return propose_responses(run, place, to.removeprefix("hub:"), recipients)
    return str(keep_sealed(run, place, Path(to), recipients, public))


def verify(
    submission: Annotated[Path, typer.Argument(help="a submission folder")],
    *,
    model: Annotated[
        str | None, typer.Option(help="ask this model again: the one that it names, as for `demur run`")
    ] = None,
    responses: Annotated[
        str | None,
        typer.Option(help="judge its sealed responses again: their .age file, a folder of them, or hub:ORG/REPO"),
    ] = None,
    scorer: Annotated[
        str | None, typer.Option(help="with --responses: the board's scorer; else the submission's own")
    ] = None,
    share: Annotated[float, typer.Option(min=0.0, max=1.0, help="of its prompts, chosen at random")] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="another seed chooses other prompts")] = 0,
) -> None:
    """Ask a part of a submission's prompts again and compare; or, as the maintainer, judge its responses again."""
    if model is None or responses is not None:
        if model is not None or responses is None:
            raise typer.BadParameter("say one of --model and --responses")
        _judge_again(submission, responses, scorer)
        return
    from .benchmark.models import load_model
    from .leaderboard.submissions.submission import read_submission
    from .leaderboard.submissions.verification import verify as verify_submission
    from .scorers import get_scorer

    read = read_submission(submission)
    console = Console(soft_wrap=True)
    with console.status("asking again"):
        judge = get_scorer(read.info.scorer.name)
        found = verify_submission(read, load_model(model), judge, share=share, seed=seed)
    one = found.agreement
    console.print(
        f"{found.scored} of {found.prompts} prompts compared: agreement {cell(one.value)}, "
        f"95 % interval {cell(one.low)} to {cell(one.high)}; the submission with itself {cell(found.own_agreement)}"
    )
    if found.consistent:
        console.print(f'It agrees. Next: "{read.info.id}": "verified" under tiers in notices.json of the submissions.')
    else:
        console.print("It does not agree as well as the submission does with itself. Next: ask its submitter.")


def _judge_again(place: Path, source: str, name: str | None) -> None:
    from .benchmark.errors import DemurError
    from .benchmark.sealed import read_identity
    from .leaderboard.submissions.hub import fetch_responses
    from .leaderboard.submissions.rescoring import NOTICES, keep_rescored, rescore
    from .leaderboard.submissions.responses import open_responses, read_sealed
    from .leaderboard.submissions.submission import read_submission
    from .scorers import get_scorer

    read, folder = read_submission(place), place.resolve().parent
    if not os.environ.get("DEMUR_IDENTITY"):
        raise DemurError(
            "sealed responses need a key, and DEMUR_IDENTITY is not set",
            "set it to the identity file of a maintainer to whom they were sealed",
        )
    keys = read_identity()
    if source.startswith("hub:"):
        content = fetch_responses(read.info.id, source.removeprefix("hub:"))
    else:
        content = read_sealed(Path(source), read.info.id)
    console = Console(soft_wrap=True)
    opened = open_responses(content, read, keys, source)
    with console.status("judging again"):
        found = rescore(read, opened, get_scorer(name or read.info.scorer.name))
    path = keep_rescored(folder, found)
    if (again := found.rescored) is not None and again.rows:
        console.print(
            f"{again.rows} responses judged by {again.by.name} {again.by.version}; {again.same} verdicts "
            f"({again.same / again.rows:.2%}) are those that {again.submitted.name} {again.submitted.version} gave",
            highlight=False,
        )
    console.print(f"The verdicts are in {path}; {folder / NOTICES} says so.")
    console.print(f"Next: demur leaderboard build {folder} --out site/")


def import_log(
    log: Annotated[Path, typer.Argument(help="an Inspect .eval log, or lm-eval's samples_*.jsonl")],
    *,
    out: Annotated[Path, typer.Option(help="the replay file (.jsonl) to write")],
) -> None:
    """Take over responses that another evaluation tool has collected.

    The tool must have been given Demur's prompts with their ids: as sample ids in Inspect, as `id` or `prompt_id` of
    the documents in lm-evaluation-harness. Its own scores are not read.
    """
    from .benchmark.importers import import_responses

    count, model = import_responses(log, out)
    console = Console(soft_wrap=True)
    console.print(f"{count} responses{f' of {model}' if model else ''} are in {out}")
    name = model or "NAME"
    console.print(f"Next: demur run replay:{out} --model-id {name} --out runs/x")
