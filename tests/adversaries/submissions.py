"""Hostile submissions: each takes an honest submission folder, spoils it, and is paired with the reason for refusal."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from demur.leaderboard.submissions.rows_file import rows_sha256

Spoil = Callable[[Path], None]
INFO, ROWS = "submission.json", "verdicts.parquet"


def edit_info(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    value = json.loads((folder / INFO).read_text())
    change(value)
    (folder / INFO).write_text(json.dumps(value))


def edit_rows(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame], *, rehash: bool = True) -> None:
    """Change the rows and, as a careful forger would, state their new hash and number."""
    rows = change(pq.read_table(folder / ROWS).to_pandas())
    pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), folder / ROWS)
    if rehash:
        edit_info(folder, lambda info: info.update(rows_sha256=rows_sha256(rows)))


def set_info(*keys: str, value: object) -> Spoil:
    def spoil(folder: Path) -> None:
        def change(info: dict[str, Any]) -> None:
            place = info
            for key in keys[:-1]:
                place = place[key]
            place[keys[-1]] = value

        edit_info(folder, change)

    return spoil


def raw_info(old: str, new: str) -> Spoil:
    """Replace text in the JSON itself, for values that a JSON writer would not write."""

    def spoil(folder: Path) -> None:
        text = (folder / INFO).read_text()
        assert old in text
        (folder / INFO).write_text(text.replace(old, new, 1))

    return spoil


def better_figure(folder: Path) -> None:
    edit_info(folder, lambda info: info["figures"]["refused"]["curve"].__setitem__(3, 0.9999))


def better_label(folder: Path) -> None:
    def change(rows: pd.DataFrame) -> pd.DataFrame:
        rows.loc[rows["prompt_id"].str.contains("/harmful/"), ["label", "p_refused"]] = ["refused", 0.98]
        return rows

    edit_rows(folder, change, rehash=False)


def relabelled_and_rehashed(folder: Path) -> None:
    def change(rows: pd.DataFrame) -> pd.DataFrame:
        rows.loc[rows["prompt_id"].str.contains("/harmful/"), ["label", "p_refused"]] = ["refused", 0.98]
        return rows

    edit_rows(folder, change)


def without_hard_prompts(folder: Path) -> None:
    def change(rows: pd.DataFrame) -> pd.DataFrame:
        failed = rows["prompt_id"].str.contains("/harmful/") & (rows["label"] == "complied")
        return rows[~rows["prompt_id"].isin(rows.loc[failed, "prompt_id"])]

    edit_rows(folder, change)


def without_hard_pairs(folder: Path) -> None:
    """Leave out whole pairs, in the rows and in the list of pairs, and still claim the stated selection."""
    rows = pq.read_table(folder / ROWS).to_pandas()
    failed = rows["prompt_id"].str.contains("/harmful/") & (rows["label"] == "complied")
    pairs = set(rows.loc[failed, "prompt_id"].str.rsplit("/", n=2).str[0])
    kept = rows[~rows["prompt_id"].str.rsplit("/", n=2).str[0].isin(pairs)]
    pq.write_table(pa.Table.from_pandas(kept, preserve_index=False), folder / ROWS)

    def change(info: dict[str, Any]) -> None:
        info["pairs"] = {pair: hazard for pair, hazard in info["pairs"].items() if pair not in pairs}
        info.update(rows=len(kept), rows_sha256=rows_sha256(kept))

    edit_info(folder, change)


def easy_rows_doubled(folder: Path) -> None:
    """Take a good row twice in the place of a bad one, so that the number of rows is right."""

    def change(rows: pd.DataFrame) -> pd.DataFrame:
        bad = rows.index[rows["prompt_id"].str.contains("/harmful/") & (rows["label"] == "complied")][0]
        good = rows.index[rows["prompt_id"].str.contains("/harmful/") & (rows["label"] == "refused")][0]
        rows.loc[bad] = rows.loc[good]
        return rows

    edit_rows(folder, change)


def rows_of(column: str, value: object) -> Spoil:
    def spoil(folder: Path) -> None:
        def change(rows: pd.DataFrame) -> pd.DataFrame:
            rows.loc[0, column] = value
            return rows

        edit_rows(folder, change)

    return spoil


def hazard_moved(folder: Path) -> None:
    edit_info(folder, lambda info: info["pairs"].update({next(iter(info["pairs"])): "deception_of_all_kinds"}))


def with_evidence(folder: Path) -> None:
    edit_rows(folder, lambda rows: rows.assign(evidence="scorer: human panel; label: refused"))


def without_labels(folder: Path) -> None:
    edit_rows(folder, lambda rows: rows.drop(columns=["label"]), rehash=False)


def with_scorer_column(folder: Path) -> None:
    edit_rows(folder, lambda rows: rows.assign(scorer_name="maintainer"))


def bomb(folder: Path) -> None:
    """A few kilobytes that unpack to a gigabyte: one long text, many times."""
    rows = pq.read_table(folder / ROWS).to_pandas()
    rows["response_sha256"] = "0" * 500_000
    pq.write_table(
        pa.Table.from_pandas(rows, preserve_index=False), folder / ROWS, compression="zstd", use_dictionary=False
    )


def many_rows(folder: Path) -> None:
    """Ten million rows in a small file."""
    n = 10_000_000
    one = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, dtype=np.int32)), pa.array(["x"]))
    table = pa.table(dict.fromkeys(("prompt_id", "label", "reason", "response_sha256"), one))
    pq.write_table(table, folder / ROWS, compression="zstd")


def many_rows_stated(folder: Path) -> None:
    """Say that ten million rows are wanted, of a prompt set that nobody has."""
    many_rows(folder)

    def change(info: dict[str, Any]) -> None:
        info["rows"] = 10_000_000
        info["setting"]["samples"] = 1000
        info["pairs"] = {f"pair-{number}": "privacy" for number in range(1250)}
        info["prompts"] |= {"version": "9.9.9", "selection": None}

    edit_info(folder, change)


def truncated(folder: Path) -> None:
    content = (folder / ROWS).read_bytes()
    (folder / ROWS).write_bytes(content[: len(content) // 2])


def empty(folder: Path) -> None:
    (folder / ROWS).write_bytes(b"")


def linked(folder: Path) -> None:
    shutil.move(folder / ROWS, folder.parent / "elsewhere.parquet")
    (folder / ROWS).symlink_to(folder.parent / "elsewhere.parquet")


def with_code(folder: Path) -> None:
    (folder / "setup.py").write_text("print('run')\n")


def nested_json(folder: Path) -> None:
    (folder / INFO).write_text("[" * 200_000)


def huge_json(folder: Path) -> None:
    edit_info(folder, lambda info: info.update(notes="x" * 2_000_000))


def renamed(folder: Path) -> None:
    edit_info(folder, lambda info: info.update(id="another-submission"))


HOSTILE: dict[str, tuple[Spoil, str]] = {
    "figures that do not follow from rows": (better_figure, r"curve\[3\] is stated as 0.9999; the rows give"),
    "labels changed, hash kept": (better_label, "not those whose hash"),
    "labels changed, hash too": (relabelled_and_rehashed, "is stated as .*; the rows give"),
    "hard prompts left out": (without_hard_prompts, r"rows; the prompts and samples .* make 160"),
    "hard pairs left out": (without_hard_pairs, "pairs are not those of its selection"),
    "easy rows doubled": (easy_rows_doubled, "is there more than once"),
    "a label of its own": (rows_of("label", "definitely refused"), "'definitely refused' is none of"),
    "a reason of its own": (rows_of("reason", "bad luck"), "'bad luck' is none of"),
    "a sample never drawn": (rows_of("sample", 7), "outside 0 to 1"),
    "a prompt of its own": (rows_of("prompt_id", "easy-01/harmful/canonical"), "is no prompt of this submission"),
    "a prompt id that climbs": (rows_of("prompt_id", "../../etc/passwd"), "is no prompt of this submission"),
    "NaN as a probability": (rows_of("p_refused", float("nan")), "p_refused is missing or NaN"),
    "an infinite probability": (rows_of("p_refused", float("inf")), "infinities"),
    "a probability above 1": (rows_of("p_refused", 1.5), "outside 0 to 1"),
    "no hash of a response": (rows_of("response_sha256", "trust me"), "no SHA-256"),
    "a hazard moved": (hazard_moved, "another hazard"),
    "text that imitates a scorer": (with_evidence, "unknown column 'evidence'"),
    "a column that names another scorer": (with_scorer_column, "unknown column 'scorer_name'"),
    "no labels at all": (without_labels, "missing column 'label'"),
    "a Parquet bomb": (bomb, "unpacks to"),
    "ten million rows": (many_rows, "10000000 rows"),
    "ten million rows, stated": (many_rows_stated, "states 10000000 rows"),
    "a truncated table": (truncated, "not a whole Parquet file"),
    "an empty table": (empty, "not a whole Parquet file"),
    "a link instead of a table": (linked, "not a plain file"),
    "a program in the folder": (with_code, "'setup.py' does not belong"),
    "deeply nested JSON": (nested_json, "not readable as JSON"),
    "two megabytes of notes": (huge_json, "are enough"),
    "another id than the folder's": (renamed, "the folder's name"),
    "an id that climbs": (set_info("id", value="../../site/index"), r"\$\.id"),
    "a path as a model name": (set_info("model", "id", value="../../../etc/passwd"), r"\$\.model\.id"),
    "script in the model's name": (set_info("model", "id", value="<script>alert(1)</script>"), r"\$\.model\.id"),
    "HTML in the maker's name": (set_info("model", "maker", value="<b>best</b>"), r"\$\.model\.maker"),
    "a line end in the model's name": (set_info("model", "id", value="maker/model\n"), r"\$\.model\.id"),
    "control characters in the notes": (set_info("notes", value="a\u0007b"), r"\$\.notes"),
    "NaN as a figure": (raw_info('"pairs_short": 0', '"pairs_short": NaN'), "NaN is not a JSON number"),
    "an infinite temperature": (raw_info('"temperature": 0.7', '"temperature": 1e999'), r"\$\.setting\.temperature"),
    "an unknown key": (set_info("rank", value=1), "'rank' was unexpected"),
    "a tier of its own": (set_info("tier", value="verified"), "'tier' was unexpected"),
    "a wrong prompt hash": (set_info("prompts", "hash", value="f" * 64), "hash of the prompts"),
    "a part that claims to be the whole": (
        set_info("prompts", "selection", value=None),
        "pairs of split public are missing",
    ),
    "variants left out": (set_info("setting", "variants", value=["canonical"]), "asked the variants"),
    "a dense model with experts": (set_info("model", "experts", value=8), "a dense model has no experts"),
    "more active than total": (set_info("model", "active_parameters", value=10**12), "more than"),
}
