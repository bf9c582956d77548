"""Runs in shards: parts of the prompts asked on several machines, and one run folder made of them afterwards."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from .errors import DemurError, raise_all
from .files import parquet_rows
from .journal import Journal, now
from .parts import file_sha256, joined_sha256, write_gathered
from .records import Prompt
from .runs import RunInfo, check_run, differences, read_run_info, write_run_info
from .version import package_version

__all__ = ["merge", "parse_shard", "shard_of"]


def parse_shard(text: str) -> tuple[int, int]:
    """Read ``i/n``, for example ``2/4``: the second of four shards.

    Raises:
        DemurError: it is not written so, or i is not from 1 to n.
    """
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise DemurError(f"--shard {text!r} is not i/n", "write for example --shard 2/4 for the second of four shards")
    return int(index), int(count)


def shard_of(prompts: Sequence[Prompt], shard: tuple[int, int]) -> list[Prompt]:
    """Every n-th prompt from the i-th on: shards differ by one prompt at most and hold every hazard alike.

    Raises:
        DemurError: there are more shards than prompts.
    """
    index, count = shard
    if count > len(prompts):
        raise DemurError(f"{count} shards of {len(prompts)} prompts leave some empty", "take fewer shards")
    return list(prompts[index - 1 :: count])


def merge(folders: Sequence[Path], out: Path) -> int:
    """Make one run folder of the finished shards of a run; its table is that of the run in one piece.

    Args:
        folders: all shards of one run, in any order.
        out: the run folder to make.

    Returns:
        How many responses there are.

    Raises:
        DemurError: a shard is missing, doubled, unfinished or damaged, or was asked with other settings; ``out`` is
            there already.
    """
    if not folders:
        raise DemurError("there is nothing to merge", "give the run folders of all shards")
    if out.exists():
        raise DemurError(f"{out}: is there already", "choose another folder with --out")
    infos = _ordered(folders, [read_run_info(folder / "run.json") for folder in folders])
    raise_all("the shards", (fault for folder, _ in infos for fault in check_run(folder)), "finish them first")
    whole = _whole([info for _, info in infos])
    place = {key: number for number, key in enumerate(whole.keys())}
    places = [np.array([place[key] for key in info.keys()], dtype=np.int64) for _, info in infos]  # noqa: SIM118 (a method of its own)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place: half a merged run would bar the place for a whole one.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".making-") as scratch:
        made = Path(scratch) / out.name
        path = made / "responses" / "responses.parquet"
        path.parent.mkdir(parents=True)
        write_run_info(made / "run.json", whole)
        write_gathered(path, [folder / "responses" / "responses.parquet" for folder, _ in infos], places)
        errors = sum(row["finish_reason"] == "error" for row in parquet_rows(path, ["finish_reason"]))
        with Journal(made / "journal.jsonl") as journal:
            journal.append("started", responses=len(place), batches=0, package_version=package_version())
            for folder, info in infos:
                digest = file_sha256(folder / "responses" / "responses.parquet")
                journal.append("merged", shard=info.shard, responses=len(info.prompt_ids) * info.samples, sha256=digest)
            journal.append("finished", responses=len(place), errors=errors, sha256=file_sha256(path))
        made.rename(out)
    return len(place)


def _ordered(folders: Sequence[Path], infos: Sequence[RunInfo]) -> list[tuple[Path, RunInfo]]:
    """Folders and what they say, in the order of the shards; every shard once, all of one run."""
    unsharded = [str(folder) for folder, info in zip(folders, infos, strict=True) if info.shard is None]
    raise_all("not shards of a run", unsharded, "give folders that were made with --shard")
    by_place = {(info.shard or ""): (folder, info) for folder, info in zip(folders, infos, strict=True)}
    if len(by_place) < len(folders):
        raise DemurError("a shard is given more than once", "give the run folder of every shard once")
    first = infos[0]
    count = parse_shard(first.shard or "")[1]
    wanted = [f"{index}/{count}" for index in range(1, count + 1)]
    raise_all(
        "not the shards of one run",
        [f"shard {name}: missing" for name in wanted if name not in by_place]
        + [
            f"{folder}: shard {name} of another division"
            for name, (folder, _) in by_place.items()
            if name not in wanted
        ]
        + [f"{folder}: {fault}" for folder, info in by_place.values() for fault in _settings(first, info)],
        "give all shards of one run, asked with the same settings",
    )
    return [by_place[name] for name in wanted]


def _settings(first: RunInfo, other: RunInfo) -> list[str]:
    """How two shards differ in what all shards of a run have in common."""
    return differences(
        first, replace(other, prompt_ids=first.prompt_ids, plan_sha256=first.plan_sha256, shard=first.shard)
    )


def _whole(infos: Sequence[RunInfo]) -> RunInfo:
    count = len(infos)
    total = sum(len(info.prompt_ids) for info in infos)
    ids = tuple(infos[number % count].prompt_ids[number // count] for number in range(total))
    plan = joined_sha256(info.plan_sha256 for info in infos)
    return replace(infos[0], prompt_ids=ids, plan_sha256=plan, created_at=now(), shard=None)
