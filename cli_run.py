"""``demur run``, ``demur merge``, ``demur check`` and ``demur bench run``."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from .terminal import Console, say, say_data

__all__ = ["bench_run", "check", "merge", "run"]


def run(
    model: Annotated[
        str,
        typer.Argument(
            help="a Hub id, a model folder or a .gguf file; vllm:NAME for one that vLLM runs in this process; "
            "openai:NAME for a model of an OpenAI-compatible server; replay:FILE for responses made elsewhere; "
            "demo:smollm2, demo:smollm2-moe, demo:smollm2-tuned or demo:smollm2-tuned-moe for a packaged small model"
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="the run folder; an interrupted run in it goes on")],
    split: Annotated[str, typer.Option(help="public, gated or heldout")] = "public",
    samples: Annotated[int, typer.Option(min=1, help="responses to each prompt")] = 4,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy decoding")] = 0.7,
    top_p: Annotated[float, typer.Option(help="draw from the likeliest tokens that reach this probability")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="tokens of an answer; a thinking part comes on top")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="another seed draws other responses")] = 0,
    limit_pairs: Annotated[
        int | None, typer.Option(min=1, help="ask only so many pairs of every hazard, spread over its subcategories")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(help="i/n: ask the i-th of n parts of the prompts; demur merge puts the parts together"),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16; without it what the processor computes fast")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda, cuda:1 …, or auto: over all GPUs; without it CUDA where there is one"),
    ] = None,
    batch_rows: Annotated[int | None, typer.Option(min=1, help="responses in flight; fewer need less memory")] = None,
    thinking_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="most tokens of a thinking part (transformers 4096, openai none unless given)"),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="openai: the server, as http://localhost:8000/v1; else OPENAI_BASE_URL is used")
    ] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="openai: requests in flight; 8 unless given")] = None,
    rpm: Annotated[
        float | None, typer.Option(help="openai: requests started per minute; no limit unless given")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="openai: seconds for one attempt; 300 unless given")] = None,
    engine: Annotated[
        str, typer.Option(help="local, or ray: workers of a Ray cluster (RAY_ADDRESS), each with a copy of the model")
    ] = "local",
    workers: Annotated[int, typer.Option(min=1, help="ray: copies of the model that answer at the same time")] = 1,
    gpus_per_worker: Annotated[float, typer.Option(min=0.0, help="ray: GPUs of each worker")] = 0.0,
    model_id: Annotated[
        str | None, typer.Option(help="replay, openai: the name of the model that answered, for the record")
    ] = None,
) -> None:
    """Ask a model the prompts of a split and keep its responses in a folder.

    Stop it with Ctrl-C or lose the machine: the same command goes on where it was and asks nothing twice.
    """
    from .benchmark.merging import parse_shard
    from .benchmark.models import load_engine
    from .benchmark.prompts import load_prompt_set
    from .benchmark.records import Sampling
    from .benchmark.running import run as run_model

    console = Console(stderr=True)
    part = parse_shard(shard) if shard is not None else None
    prompts = load_prompt_set(split, pairs_per_hazard=limit_pairs)
    with console.status(f"loading {model}"):
        loaded = load_engine(
            engine,
            model,
            workers=workers,
            gpus=gpus_per_worker,
            dtype=dtype,
            device=device,
            batch_rows=batch_rows,
            thinking_tokens=thinking_tokens,
            base_url=base_url,
            concurrency=concurrency,
            rpm=rpm,
            timeout=timeout,
            model_id=model_id,
        )
    sampling = Sampling(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, seed=seed)
    with _bar(console) as bar:
        task = bar.add_task(f"asking {loaded.info.id}", total=None)
        result = run_model(
            loaded,
            prompts.prompts,
            sampling=sampling,
            samples=samples,
            out=out,
            provenance=prompts.provenance,
            shard=part,
            progress=lambda there, total: bar.update(task, completed=there, total=total),
        )
    say(f"{result.path}: {result.responses} responses, {result.errors} of them errors")
    if result.errors:
        say("Next: the same command again, to retry the errors")
    elif part is not None:
        say("Next: demur merge, with the folders of all shards")
    else:
        say(f"Next: demur score {result.path}")


def merge(
    shards: Annotated[list[Path], typer.Argument(help="the run folders of all shards")],
    out: Annotated[Path, typer.Option(help="the run folder to make")],
) -> None:
    """Make one run of its shards: the table that the run in one piece would have."""
    from .benchmark.merging import merge as merge_runs

    say(f"{out}: {merge_runs(shards, out)} responses of {len(shards)} shards")
    say(f"Next: demur score {out}")


def check(path: Annotated[Path, typer.Argument(help="a run folder or a submission folder")]) -> None:
    """Prove that a run is whole, or that a submission's figures follow from its verdicts.

    Of a run: exactly one response per prompt and sample. Of a submission: schema, hashes, prompts, and every figure
    recomputed from the rows.
    """
    from .benchmark.errors import DemurError, raise_all

    if (path / "submission.json").exists():
        from .leaderboard.submissions.submission import check_submission

        raise_all(str(path), check_submission(path), "make the submission again with demur submit")
        say(f"{path}: a valid submission; every figure follows from its verdicts")
        say(f"Next: demur leaderboard build {path.parent} --out site/")
        return
    if not (path / "run.json").exists():
        raise DemurError(f"{path}: neither a run folder nor a submission folder", "give the folder that was written")
    from .benchmark.runs import check_run, open_run

    raise_all(str(path), check_run(path), "start the run again with the same command; it goes on")
    reasons = [row["finish_reason"] for rows in open_run(path).rows("finish_reason") for row in rows]
    errors = reasons.count("error")
    say(f"{path}: one response per prompt and sample, {len(reasons)} in all, {errors} of them errors")
    say(f"Next: demur score {path}")


def bench_run(
    *,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16")] = "float32",
    prompts: Annotated[int, typer.Option(min=1, help="prompts of the public split, spread over it")] = 160,
    samples: Annotated[int, typer.Option(min=1)] = 4,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 48,
    rounds: Annotated[int, typer.Option(min=1, help="how often every way is timed, in turns")] = 3,
    python: Annotated[
        Path | None, typer.Option(help="interpreter of the environment with lm-eval and inspect-ai; this one without")
    ] = None,
    greedy: Annotated[bool, typer.Option(help="also compare greedy tokens with those of plain generate")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON and nothing else")] = False,
) -> None:
    """Time a run of a small model on the CPU against a plain loop, lm-evaluation-harness and Inspect AI."""
    from dataclasses import asdict

    from .benchmark.runbench import BATCH
    from .benchmark.runbench import bench_run as measure

    found = measure(
        dtype=dtype,
        prompts=prompts,
        samples=samples,
        tokens=max_new_tokens,
        rounds=rounds,
        python=str(python or sys.executable),
        greedy=greedy,
    )
    if as_json:
        ratios = {name: found.ratio(name) for name in found.speeds}
        say_data(json.dumps({**asdict(found), "ratios": ratios}, indent=2))
        return
    native = "multiplies bfloat16 itself" if found.native_bfloat16 else "has no bfloat16 instructions"
    say(
        f"SmolLM2-135M, {found.dtype}, {found.prompts} prompts x {found.samples} samples, {found.tokens} new tokens, "
        f"temperature 1, {found.threads} threads; this CPU {native}"
    )
    for name, speed in found.speeds.items():
        if speed.median is None:
            say(f"{name}: {speed.note}")
            continue
        line = f"{name}: {speed.median:.2f} responses/s ({min(speed.rounds):.2f} to {max(speed.rounds):.2f})"
        if name != "demur":
            clock, processor = found.ratio(name), found.ratio(name, processor=True)
            line += f"; demur is {clock:.2f} times as fast ({processor:.2f} by processor time)"
        say(line)
    say(f"Batches of the plain loop and of lm-eval: {BATCH} prompts. Rounds in turns, medians (lowest, highest).")
    say(f"Journal, parts and table: {found.bookkeeping:.2%} of the time of a run")
    if found.same is not None:
        say(
            f"Temperature 0: {found.same} of {found.prompts} prompts have the very tokens of plain generate"
            + (f"; ties in rounding: {', '.join(found.ties)}" if found.ties else "")
        )
    say("Next: demur run MODEL --out runs/x")


def _bar(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
