"""A run folder from outside: ``run.json``, the finished table, and the proof that nothing is missing."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from .errors import DemurError
from .files import parquet_batches, parquet_rows, read_json, read_rows, write_json
from .journal import last_event
from .parts import RESPONSE_COLUMNS, RESPONSE_SCHEMA, Key, file_sha256
from .records import ModelInfo, Provenance, Sampling, Split
from .schema import check, problems

__all__ = [
    "FinishedRun",
    "Run",
    "RunInfo",
    "check_run",
    "differences",
    "finished_event",
    "open_run",
    "read_run",
    "read_run_info",
    "write_run_info",
]

FORMAT = 1


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What ``run.json`` says: everything that a run depends on, and nothing that changes while it goes on.

    Attributes:
        prompt_ids: the prompts asked, in the order of the prompt set. Their texts are not part of a run folder.
        template_sha256: of the chat template; None where the backend does not show it.
        plan_sha256: of how the prompts are cut into batches (see :func:`.parts.plan_sha256`).
        created_at: UTC, ISO 8601.
        shard: ``i/n`` where only a part of the prompts is asked here (see :mod:`.merging`).
    """

    model: ModelInfo
    sampling: Sampling
    samples: int
    split: Split
    provenance: Provenance
    prompt_ids: tuple[str, ...]
    template_sha256: str | None
    plan_sha256: str
    created_at: str
    shard: str | None = None

    def keys(self) -> list[Key]:
        """Every (prompt id, sample) of the run, in the order of the finished table."""
        return list(self.each_key())

    def each_key(self) -> Iterator[Key]:
        """The same, one at a time."""
        return ((prompt_id, sample) for prompt_id in self.prompt_ids for sample in range(self.samples))


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run.

    Attributes:
        path: the run folder.
        responses: one row per (prompt, sample), sorted by prompt order and sample; the columns of
            ``RESPONSE_COLUMNS``. Rows with ``finish_reason`` ``error`` are failures of the environment, not answers.
    """

    path: Path
    info: RunInfo
    responses: pd.DataFrame


def write_run_info(path: Path, info: RunInfo) -> None:
    """Write ``run.json``.

    Raises:
        DemurError: a value breaks the schema, for example a negative temperature; nothing is written.
    """
    try:
        value = json.loads(json.dumps({"format": FORMAT, **asdict(info)}, allow_nan=False))
    except ValueError as fault:
        raise DemurError("sampling: a number is not finite", "correct the run's settings") from fault
    check(value, "demur.benchmark", "run", f"{path.name} cannot be written", "correct the run's settings")
    write_json(path, value)


def read_run_info(path: Path) -> RunInfo:
    """Read and check ``run.json``.

    Raises:
        DemurError: no such file, not JSON, or every breach of the schema.
    """
    value = read_json(path)
    check(value, "demur.benchmark", "run", str(path), "use the file as `demur run` wrote it")
    del value["format"]
    return RunInfo(
        **{
            **value,
            "model": ModelInfo(**value["model"]),
            "sampling": Sampling(**value["sampling"]),
            "provenance": Provenance(**value["provenance"]),
            "prompt_ids": tuple(value["prompt_ids"]),
        }
    )


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A finished run whose responses stay on disk."""

    path: Path
    info: RunInfo

    @property
    def table(self) -> Path:
        """Where the responses lie."""
        return _table(self.path)

    def rows(self, *columns: str) -> Iterator[list[dict[str, Any]]]:
        """The columns of the responses, 1,024 rows at a time, in the order of run.json.

        Raises:
            DemurError: the table is damaged, or its rows are not exactly those that run.json lists.
        """
        mend = f"run `demur check {self.path}` to see which; then run it again"
        expected = self.info.each_key()
        names = dict.fromkeys(("prompt_id", "sample", *columns))
        for table in parquet_batches(self.table, pa.schema([RESPONSE_SCHEMA.field(name) for name in names])):
            rows = table.to_pylist()
            for row in rows:
                if (row["prompt_id"], row["sample"]) != next(expected, None):
                    where = f"at {row['prompt_id']} sample {row['sample']}"
                    raise DemurError(f"{self.table}: its rows are not those of run.json ({where})", mend)
            yield rows
        if next(expected, None) is not None:
            raise DemurError(f"{self.table}: it lacks responses that run.json lists", mend)


def open_run(path: Path | str) -> FinishedRun:
    """Open a finished run.

    Raises:
        DemurError: no run folder, or an unfinished run.
    """
    folder = Path(path)
    info = read_run_info(_run_json(folder))
    if not _table(folder).is_file():
        raise DemurError(f"{folder}: the run is not finished", "start it again with the same command; it goes on")
    return FinishedRun(folder, info)


def read_run(path: Path | str) -> Run:
    """Read a finished run, all texts at once; :func:`open_run` leaves them on disk.

    Raises:
        DemurError: no run folder, an unfinished run, or a damaged one.
    """
    opened = open_run(path)
    frame = read_rows(opened.table, RESPONSE_SCHEMA).to_pandas()
    for name in ("n_prompt_tokens", "n_tokens"):
        frame[name] = frame[name].astype("Int32")
    if list(zip(frame["prompt_id"], frame["sample"], strict=True)) != opened.info.keys():
        raise DemurError(
            f"{opened.table}: its rows are not those of run.json",
            f"run `demur check {opened.path}` to see which; then run it again",
        )
    return Run(opened.path, opened.info, frame)


def check_run(path: Path | str) -> list[str]:
    """Prove that a run folder holds exactly one response per (prompt, sample).

    Returns:
        What is wrong, one sentence each; empty for a finished and whole run.

    Raises:
        DemurError: the folder is no run folder or a file in it cannot be read.
    """
    folder = Path(path)
    info = read_run_info(_run_json(folder))
    last = last_event(folder / "journal.jsonl")
    table = _table(folder)
    if not table.is_file():
        return [f"{table}: missing; the run is not finished (start it again with the same command; it goes on)"]
    found: list[str] = []
    expected, in_order = info.each_key(), True
    for number, row in enumerate(parquet_rows(table, list(RESPONSE_COLUMNS))):
        found += _row_problems(row, f"{table} row {number}")
        in_order = (row["prompt_id"], row["sample"]) == next(expected, None) and in_order
    if not in_order or next(expected, None) is not None:
        rows = parquet_rows(table, ["prompt_id", "sample"])
        # Rows whose keys are of other types have their own lines by now, and may not even hash.
        pairs = ((row["prompt_id"], row["sample"]) for row in rows)
        keys = [pair for pair in pairs if (type(pair[0]), type(pair[1])) == (str, int)]
        found += _key_problems(keys, info.keys(), str(table))
    if last.get("event") != "finished":
        found.append(f"{folder / 'journal.jsonl'}: its last event is not `finished`")
    elif last.get("sha256") != file_sha256(table):
        found.append(f"{table}: not the file that the journal says was finished")
    return found


def finished_event(folder: Path) -> dict[str, Any] | None:
    """The journal's last event where it says that the run is finished and the table is the very file it names."""
    table, last = _table(folder), last_event(folder / "journal.jsonl")
    if last.get("event") != "finished" or not table.is_file() or last.get("sha256") != file_sha256(table):
        return None
    return last


def _row_problems(row: dict[str, object], where: str) -> list[str]:
    return problems(row, "demur.benchmark", "response", lambda _path: where)


def _key_problems(found: Sequence[Key], expected: Sequence[Key], where: str) -> list[str]:
    counts: dict[Key, int] = dict.fromkeys(expected, 0)
    unknown = []
    for key in found:
        if key in counts:
            counts[key] += 1
        else:
            unknown.append(f"{where}: {key[0]} sample {key[1]} was never asked")
    wrong = [f"{where}: {key[0]} sample {key[1]} is there {count} times" for key, count in counts.items() if count != 1]
    if not wrong and not unknown and list(found) != list(expected):
        wrong.append(f"{where}: its rows are not in the order of run.json")
    return unknown + wrong


def _table(folder: Path) -> Path:
    return folder / "responses" / "responses.parquet"


def _run_json(folder: Path) -> Path:
    if not (folder / "run.json").is_file():
        raise DemurError(f"{folder}: not a run folder (it has no run.json)", "give the folder that `demur run` wrote")
    return folder / "run.json"


def differences(old: RunInfo, new: RunInfo) -> list[str]:
    """How the settings of a run that is to be resumed differ from those it was begun with, one sentence each."""
    found = []
    for part in ("model", "sampling"):
        before, after = getattr(old, part), getattr(new, part)
        found += [
            f"{part} {field.name}: {getattr(before, field.name)!r} then, {getattr(after, field.name)!r} now"
            for field in fields(before)
            if getattr(before, field.name) != getattr(after, field.name)
        ]
    for name, label in (
        ("samples", "samples per prompt"),
        ("split", "split"),
        ("template_sha256", "chat template"),
        ("shard", "shard"),
    ):
        if getattr(old, name) != getattr(new, name):
            found.append(f"{label}: {getattr(old, name)} then, {getattr(new, name)} now")
    if old.provenance.prompts_version != new.provenance.prompts_version:
        found.append(f"prompt set: version {old.provenance.prompts_version} then, {new.provenance.prompts_version} now")
    elif old.provenance.prompts_hash != new.provenance.prompts_hash or old.prompt_ids != new.prompt_ids:
        found.append(
            f"prompts: {len(old.prompt_ids)} with hash {old.provenance.prompts_hash[:12]} then, "
            f"{len(new.prompt_ids)} with hash {new.provenance.prompts_hash[:12]} now"
        )
    if not found and old.plan_sha256 != new.plan_sha256:
        found.append("batches: cut in another way now (another batch size, or another version of demur)")
    return found
