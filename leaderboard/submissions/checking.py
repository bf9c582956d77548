"""Is a submission what it says? Every figure is recomputed from its rows; every fault is named."""

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ...benchmark.errors import DemurError, raise_all
from ...benchmark.files import read_json
from ...benchmark.prompts import manifest, subset_hash
from ...benchmark.records import SIDES, VARIANTS
from ...benchmark.schema import problems
from ..loading import build
from ..statistics.draws import count_draws, verdict_table
from ..statistics.figures import figures
from .others import OTHERS_FILE, read_others, scorer_agreement
from .rows_file import read_rows, row_problems, rows_sha256
from .stress import STRESS_FILE, read_stress
from .submitted import Submission, SubmissionInfo

__all__ = ["INFO_FILE", "ROWS_FILE", "check_submission", "differences", "open_submission", "read_submission"]

INFO_FILE = "submission.json"
ROWS_FILE = "verdicts.parquet"
MOST_INFO_BYTES = 2**20
MOST_ROWS = 2_000_000
TOLERANCE = 1e-9


def check_submission(path: Path | str) -> list[str]:
    """What is wrong with a submission folder, one sentence each; empty where it may be published."""
    return open_submission(path)[1]


def read_submission(path: Path | str) -> Submission:
    """Read a submission folder.

    Raises:
        DemurError: with everything that is wrong.
    """
    submission, found = open_submission(path)
    raise_all(str(path), found, "make it anew with `demur submit` from the run; do not edit its files")
    if submission is None:
        raise DemurError(f"{path}: cannot be read")
    return submission


def open_submission(path: Path | str) -> tuple[Submission | None, list[str]]:
    """The submission, None where it cannot be read at all, and everything that is wrong with it."""
    folder = Path(path)
    found = list(_folder_problems(folder))
    if found:
        return None, found
    info, found = _read_info(folder)
    if info is None or found:
        return None, found
    prompt_ids = [f"{pair}/{side}/{variant}" for pair in info.pairs for side in SIDES for variant in VARIANTS]
    expected = len(prompt_ids) * info.setting.samples
    if expected > MOST_ROWS or info.rows != expected:
        return None, [f"{INFO_FILE}: states {info.rows} rows; its pairs, variants and samples make {expected}"]
    rows, found = read_rows(folder / ROWS_FILE, expected)
    if rows is None:
        return None, found
    found = [f"{ROWS_FILE}: {fault}" for fault in row_problems(rows, prompt_ids, info.setting.samples)]
    if found:
        return None, found
    stress: dict[str, Any] | None = None
    if info.stress_sha256 is not None:
        stress, found = read_stress(folder / STRESS_FILE, info.model, info.stress_sha256)
    others, faults = _others(folder, info, rows)
    found += faults
    draws = count_draws(verdict_table(rows, info.pairs))
    if rows_sha256(rows) != info.rows_sha256:
        found.append(f"{ROWS_FILE}: its rows are not those whose hash {INFO_FILE} states")
    found += [f"{INFO_FILE}: {fault}" for fault in differences(info.figures, figures(draws), "figures")]
    return Submission(info, rows, draws, stress, others), found


def _others(folder: Path, info: SubmissionInfo, rows: pd.DataFrame) -> tuple[pd.DataFrame | None, list[str]]:
    """What other scorers said, with the stated agreement compared to the one that their labels give."""
    scorers = [one.scorer for one in info.agreement]
    if not scorers:
        return None, []
    names = [info.scorer.name, *(scorer.name for scorer in scorers)]
    if len(set(names)) < len(names) or {"prompt_id", "sample"} & set(names):
        return None, [f"{INFO_FILE}: agreement names a scorer twice, or the submission's own"]
    others, found = read_others(folder / OTHERS_FILE, rows, scorers)
    if others is None:
        return None, found
    computed = scorer_agreement(rows, others, scorers)
    return others, [f"{INFO_FILE}: {fault}" for fault in differences(info.agreement, computed, "agreement")]


def _folder_problems(folder: Path) -> Iterator[str]:
    if not folder.is_dir() or folder.is_symlink():
        yield f"{folder}: no submission folder"
        return
    names = {path.name for path in folder.iterdir()}
    for name in (INFO_FILE, ROWS_FILE):
        if name not in names:
            yield f"{name} is missing"
        elif (folder / name).is_symlink() or not (folder / name).is_file():
            yield f"{name} is not a plain file"
    for name in sorted(names - {INFO_FILE, ROWS_FILE, STRESS_FILE, OTHERS_FILE}):
        yield f"{name[:80]!r} does not belong in a submission"
    path = folder / INFO_FILE
    if path.is_file() and path.stat().st_size > MOST_INFO_BYTES:
        yield f"{INFO_FILE} has {path.stat().st_size} bytes; {MOST_INFO_BYTES} are enough"


def _read_info(folder: Path) -> tuple[SubmissionInfo | None, list[str]]:
    try:
        value = read_json(folder / INFO_FILE)
    except DemurError as fault:
        return None, [fault.message]
    except (RecursionError, ValueError) as fault:
        return None, [f"{INFO_FILE}: not readable as JSON: {str(fault)[:120]}"]
    found = [f"{INFO_FILE} {fault}" for fault in problems(value, "demur.leaderboard", "submission")]
    if found:
        return None, found
    info = build(SubmissionInfo, value)
    if info.id != folder.resolve().name:
        found.append(f"{INFO_FILE}: its id is {info.id!r}, the folder's name {folder.resolve().name!r}")
    if (info.stress_sha256 is not None) != (folder / STRESS_FILE).exists():
        found.append(
            f"{STRESS_FILE} is there, but {INFO_FILE} does not state its hash"
            if info.stress_sha256 is None
            else f"{STRESS_FILE} is missing, though {INFO_FILE} states its hash"
        )
    if bool(info.agreement) != (folder / OTHERS_FILE).exists():
        found.append(f"{OTHERS_FILE} and the agreement in {INFO_FILE}: one is there without the other")
    if sorted(info.setting.variants) != sorted(VARIANTS):
        found.append(
            f"{INFO_FILE}: asked the variants {info.setting.variants}; all of {', '.join(VARIANTS)} are needed"
        )
    found += [f"{INFO_FILE}: {fault}" for fault in _architecture_problems(info)]
    found += [f"{INFO_FILE}: {fault}" for fault in _prompt_problems(info)]
    return info, found


def _architecture_problems(info: SubmissionInfo) -> Iterator[str]:
    model = info.model
    if model.architecture == "dense" and (model.experts or model.experts_per_token):
        yield "a dense model has no experts"
    total, active = model.total_parameters, model.active_parameters
    if total is not None and active is not None and active > total:
        yield f"{active} active parameters are more than {total} in total"
    if model.experts is not None and model.experts_per_token is not None and model.experts_per_token > model.experts:
        yield f"{model.experts_per_token} experts per token are more than {model.experts} in a layer"
    if model.upcycled_from is not None and model.architecture != "moe":
        yield "only a mixture of experts can be upcycled from a dense model"


def _prompt_problems(info: SubmissionInfo) -> Iterator[str]:
    """Do the pairs fit the stated selection and, where the prompt-set version is the installed one, the manifest?"""
    prompts, selection = info.prompts, info.prompts.selection
    if not info.pairs:
        yield "no pairs"
        return
    if selection is not None and sorted(selection.pair_ids) != sorted(info.pairs):
        yield "the pairs are not those of its selection"
    listed = manifest()
    if prompts.version != listed["version"]:
        return
    known = {pair["id"]: pair["hazard"] for pair in listed["pairs"] if pair["split"] == prompts.split}
    strange = sorted(set(info.pairs) - set(known))
    if strange:
        yield f"{len(strange)} pairs are not of split {prompts.split} {prompts.version}, for example {strange[0]!r}"
        return
    moved = [pair for pair, hazard in info.pairs.items() if known[pair] != hazard]
    if moved:
        yield f"{len(moved)} pairs have another hazard in the prompt set, for example {moved[0]!r}"
    missing = sorted(set(known) - set(info.pairs))
    if selection is None and missing:
        yield f"{len(missing)} pairs of split {prompts.split} are missing, for example {missing[0]!r}"
    whole = listed["splits"][prompts.split]["sha256"]
    ids = (f"{pair}/{side}/{variant}" for pair in info.pairs for side in SIDES for variant in VARIANTS)
    if prompts.hash != (subset_hash(whole, ids) if missing else whole):
        yield f"the hash of the prompts is not that of these pairs of split {prompts.split} {prompts.version}"


def differences(stated: Any, computed: Any, where: str) -> Iterator[str]:
    """Where two records of figures differ by more than the tolerance, with both values.

    A field whose default is None may be left unstated: submissions of earlier releases lack figures that came later.
    """
    if is_dataclass(computed) and isinstance(stated, type(computed)):
        for field in fields(computed):
            one, other = getattr(stated, field.name), getattr(computed, field.name)
            if not (one is None and field.default is None):
                yield from differences(one, other, f"{where}.{field.name}")
    elif isinstance(computed, dict) and isinstance(stated, dict):
        for key in sorted(set(stated) | set(computed)):
            yield from differences(stated.get(key), computed.get(key), f"{where}.{key}")
    elif isinstance(computed, list) and isinstance(stated, list) and len(stated) == len(computed):
        for at, (one, other) in enumerate(zip(stated, computed, strict=True)):
            yield from differences(one, other, f"{where}[{at}]")
    elif isinstance(computed, float | int) and isinstance(stated, float | int):
        if not math.isclose(stated, computed, rel_tol=0, abs_tol=TOLERANCE):
            yield f"{where} is stated as {stated!r}; the rows give {computed!r}"
    elif stated != computed:
        yield f"{where} is stated as {str(stated)[:60]}; the rows give {str(computed)[:60]}"
