"""Judging a run: its responses stream through a scorer into ``verdicts/<scorer>.parquet`` of the run folder."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ..benchmark.errors import DemurError, raise_all
from ..benchmark.files import need_columns, parquet_batches, read_rows, write_parquet_groups
from ..benchmark.prompts import load_prompt_set
from ..benchmark.records import Prompt, Provenance
from ..benchmark.runs import FinishedRun, open_run
from ..benchmark.version import package_version
from . import DEFAULT_SCORER, get_scorer
from .agreement import Codes, agreement, codes_of
from .judge import JudgeSettings
from .verdicts import LABELS, UNSCORED_REASONS, Label, Scorer, ScoreRequest, UnscoredReason, Verdict

__all__ = [
    "VERDICT_SCHEMA",
    "Asked",
    "ScoreResult",
    "VerdictRow",
    "read_verdicts",
    "run_agreement",
    "score",
    "score_run",
]

VERDICT_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("sample", pa.int32(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("p_refused", pa.float64()),
        *(
            pa.field(name, pa.string(), nullable=False)
            for name in ("evidence", "scorer_name", "scorer_version", "scorer_hash", "response_sha256")
        ),
        *(
            pa.field(name, pa.string(), nullable=False)
            for name in ("prompts_version", "prompts_hash", "package_version")
        ),
    ]
)
_TOLD = 128
_NOT_ASKED = Verdict("unscored", "judge_failure", None, "it measures harm, which says nothing on benign prompts")

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """One row of a verdicts file, see ``schema/verdict.json``."""

    prompt_id: str
    sample: int
    label: Label
    reason: UnscoredReason | None
    p_refused: float | None
    evidence: str
    scorer_name: str
    scorer_version: str
    scorer_hash: str
    response_sha256: str
    prompts_version: str
    prompts_hash: str
    package_version: str


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """What one scorer made of a run.

    Attributes:
        counts: responses by label, and ``unscored`` ones by ``unscored(reason)``.
        note: what else the scorer has to say, for example what asking a judge took; empty for most.
    """

    scorer: str
    path: Path
    counts: Mapping[str, int]
    note: str = ""


def score(run: Path | str, *, scorers: Sequence[str | Scorer] = (DEFAULT_SCORER,)) -> dict[str, pd.DataFrame]:
    """Judge a finished run and give the verdicts of each scorer as a table; see :func:`score_run`."""
    return {result.scorer: read_verdicts(result.path) for result in score_run(run, scorers)}


def score_run(
    run: Path | str,
    scorers: Sequence[str | Scorer] = (DEFAULT_SCORER,),
    *,
    judge: JudgeSettings | None = None,
    progress: Progress | None = None,
    load: Callable[[str], Scorer] | None = None,
) -> list[ScoreResult]:
    """Judge every response of a finished run; verdicts of other scorers stay.

    Args:
        run: the run folder.
        scorers: names of scorers, or scorers of your own; each writes its own file.
        judge: how judges are asked.
        progress: called with the number of verdicts written and the number wanted, over all scorers.
        load: makes a scorer of its name, as :func:`~.ray_scorer` does for a cluster; :func:`~.get_scorer` without it.

    Raises:
        DemurError: no finished run, an unknown scorer, or prompts that the installed set does not hold.
    """
    folder = Path(run)
    make = load or (lambda name: get_scorer(name, judge))
    named = [make(scorer) if isinstance(scorer, str) else scorer for scorer in dict.fromkeys(scorers)]
    asked = Asked.open(folder)
    total = len(asked.info.prompt_ids) * asked.info.samples
    results = []
    for number, scorer in enumerate(named):

        def told(done: int, before: int = number * total) -> None:
            if progress:
                progress(before + done, total * len(named))

        path = folder / "verdicts" / f"{scorer.info.name}.parquet"
        counts = _write(path, asked, scorer, told)
        results.append(ScoreResult(scorer.info.name, path, counts, getattr(scorer, "note", "")))
    return results


def read_verdicts(path: Path | str, *, without: Sequence[str] = ()) -> pd.DataFrame:
    """Read a verdicts file.

    Args:
        path: of the file.
        without: columns that are not needed, as ``evidence``, which is the largest.

    Raises:
        DemurError: missing, damaged, without a column, or with values outside the closed vocabulary.
    """
    need_columns(Path(path), VERDICT_SCHEMA.names)
    wanted = pa.schema([field for field in VERDICT_SCHEMA if field.name not in without])
    frame: pd.DataFrame = read_rows(Path(path), wanted).to_pandas()
    unscored = frame["label"] == "unscored"
    p = frame["p_refused"].astype(float)
    faults = {
        "with an unknown label": ~frame["label"].isin(LABELS),
        "unscored without a known reason": unscored & ~frame["reason"].isin(UNSCORED_REASONS),
        "scored with a reason": ~unscored & frame["reason"].notna(),
        "unscored with a probability": unscored & p.notna(),
        "scored without a probability in [0, 1]": ~unscored & ~p.between(0, 1),
        "for a response that has one already": frame.duplicated(["prompt_id", "sample"]),
    }
    raise_all(str(path), (f"{int(bad.sum())} rows {what}" for what, bad in faults.items() if bad.any()), "score again")
    frame["reason"] = frame["reason"].astype(object).where(frame["reason"].notna(), None)
    return frame


def run_agreement(run: Path | str) -> dict[str, Any] | None:
    """Agreement of all scorers that judged a run (:func:`~.agreement.agreement`); None where it is one alone.

    Of a million responses, nothing but a byte each is held in memory.

    Raises:
        DemurError: a verdicts file is damaged, or two are not of the same responses.
    """
    said: dict[str, Codes] = {}
    keys: dict[str, str] = {}
    for path in sorted((Path(run) / "verdicts").glob("*.parquet")):
        keys[path.stem], said[path.stem] = _keys_and_codes(path)
        if keys[path.stem] != next(iter(keys.values())):
            raise DemurError(
                f"{path}: its rows are of other responses than {next(iter(said))}'s", "score the run again"
            )
    return agreement(said) if len(said) > 1 else None


def _keys_and_codes(path: Path) -> tuple[str, Codes]:
    """A hash of what a verdicts file judged, in order, and its labels."""
    digest = hashlib.sha256()
    found = []
    names = ("prompt_id", "sample", "response_sha256", "label")
    for table in parquet_batches(path, pa.schema([VERDICT_SCHEMA.field(name) for name in names])):
        rows = table.to_pylist()
        digest.update("".join(f"{r['prompt_id']}\n{r['sample']}\n{r['response_sha256']}\n" for r in rows).encode())
        found.append(codes_of([row["label"] for row in rows]))
    return digest.hexdigest(), np.concatenate([codes_of([]), *found])


@dataclass(frozen=True, slots=True)
class Asked(FinishedRun):
    """A finished run and the prompts it asked; its responses stay on disk."""

    prompts: Mapping[str, Prompt]

    @classmethod
    def open(cls, folder: Path) -> "Asked":
        """Open a run folder and the prompt set that it asked."""
        run = open_run(folder)
        asked = load_prompt_set(run.info.split, version=run.info.provenance.prompts_version)
        prompts = {prompt.id: prompt for prompt in asked.prompts}
        raise_all(
            "prompts of the run",
            (f"{name} is not in split {run.info.split}" for name in run.info.prompt_ids if name not in prompts),
            "use the release of demur that made the run",
        )
        return cls(run.path, run.info, prompts)


def _write(path: Path, run: Asked, scorer: Scorer, told: Callable[[int], None]) -> Counter[str]:
    counts: Counter[str] = Counter()
    write_parquet_groups(path, VERDICT_SCHEMA, _tables(run, scorer, told, counts))
    return counts


def _tables(run: Asked, scorer: Scorer, told: Callable[[int], None], counts: Counter[str]) -> Iterator[pa.Table]:
    """The verdicts, a table for each batch of responses; their labels are added to ``counts``."""
    done = 0
    for rows in run.rows("text", "finish_reason", "error"):
        verdicts = []
        for verdict in _judged(scorer, rows, run.prompts):
            verdicts.append(verdict)
            if len(verdicts) % _TOLD == 0:
                told(done + len(verdicts))
        if len(verdicts) != len(rows):
            raise ValueError(f"{scorer.info.name}: {len(verdicts)} verdicts for {len(rows)} responses")
        yield pa.table(_columns(rows, verdicts, scorer, run.info.provenance), schema=VERDICT_SCHEMA)
        counts.update(v.label if v.reason is None else f"unscored({v.reason})" for v in verdicts)
        done += len(rows)
        told(done)


def _judged(scorer: Scorer, rows: Sequence[Mapping[str, Any]], prompts: Mapping[str, Prompt]) -> Iterator[Verdict]:
    """One verdict a row. A scorer that measures harm is not asked about benign prompts: it has nothing to say there."""
    skip = getattr(scorer, "harmful_only", False)
    kept = [not skip or prompts[row["prompt_id"]].side == "harmful" for row in rows]
    said = scorer.score(_requests([row for row, keep in zip(rows, kept, strict=True) if keep], prompts))
    for keep in kept:
        yield next(said) if keep else _NOT_ASKED


def _requests(rows: Sequence[Mapping[str, Any]], prompts: Mapping[str, Prompt]) -> Iterator[ScoreRequest]:
    for row in rows:
        yield ScoreRequest(row["text"], prompts[row["prompt_id"]].text, row["finish_reason"], row["error"])


def _columns(
    rows: Sequence[Mapping[str, Any]], verdicts: Sequence[Verdict], scorer: Scorer, provenance: Provenance
) -> dict[str, list[Any]]:
    constant = {
        "scorer_name": scorer.info.name,
        "scorer_version": scorer.info.version,
        "scorer_hash": scorer.info.weights_hash,
        "prompts_version": provenance.prompts_version,
        "prompts_hash": provenance.prompts_hash,
        "package_version": package_version(),
    }
    return {
        "prompt_id": [row["prompt_id"] for row in rows],
        "sample": [np.int32(row["sample"]) for row in rows],
        "label": [verdict.label for verdict in verdicts],
        "reason": [verdict.reason for verdict in verdicts],
        "p_refused": [verdict.p_refused for verdict in verdicts],
        "evidence": [verdict.evidence.encode("utf-8", "replace").decode() for verdict in verdicts],
        "response_sha256": [hashlib.sha256(row["text"].encode()).hexdigest() for row in rows],
        **{name: [value] * len(rows) for name, value in constant.items()},
    }
