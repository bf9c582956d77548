"""From a scored run to a submission folder that anyone can check."""

import hashlib
import re
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from ...benchmark.errors import DemurError, raise_all
from ...benchmark.files import write_json, write_text
from ...benchmark.prompts import manifest
from ...benchmark.records import SIDES, VARIANTS, ModelInfo
from ...benchmark.runs import RunInfo, open_run
from ...benchmark.schema import check
from ...benchmark.version import package_version
from ..statistics.draws import count_draws, verdict_table
from ..statistics.figures import figures
from .architectures import curated
from .checking import INFO_FILE, ROWS_FILE, check_submission, read_submission
from .identity import Model, PromptSource, Selection, Setting
from .judged import chosen_judge, judged_by, judges_of, salted_hashes
from .others import OTHERS_FILE, joined, scorer_agreement, write_others
from .responses import salt_file
from .rows_file import rows_sha256, write_rows
from .stress import STRESS_FILE, read_stress, stress_source
from .submitted import ROW_COLUMNS, SubmissionInfo

__all__ = ["Declared", "check_submission", "read_submission", "submit"]


@dataclass(frozen=True, slots=True)
class Declared:
    """What a submitter says of a model beyond what the run knows.

    Attributes:
        maker: who made it; the part of its id before the slash where None.
        base_model: id of the model that it was made from.
        upcycled_from: id of the dense model whose exact sparse upcycling it is.
        formerly: ids that it was submitted under before.
        architecture: with the fields after it, for models whose backend shows no configuration.
    """

    maker: str | None = None
    base_model: str | None = None
    upcycled_from: str | None = None
    formerly: tuple[str, ...] = ()
    architecture: Literal["dense", "moe", "undisclosed"] | None = None
    total_parameters: int | None = None
    active_parameters: int | None = None
    experts: int | None = None
    experts_per_token: int | None = None

    def architecture_facts(self) -> dict[str, Any]:
        """The fields that a run may know better."""
        names = ("architecture", "total_parameters", "active_parameters", "experts", "experts_per_token")
        return {name: getattr(self, name) for name in names}


def submit(
    run: Path | str,
    to: Path | str,
    *,
    scorer: str | None = None,
    declared: Declared | None = None,
    supersedes: Sequence[str] = (),
    contact: str = "",
    notes: str = "",
    stress: Path | str | None = None,
) -> Path:
    """Make a submission of a scored run.

    Response texts are not part of it. Their hashes are salted with a value that is drawn for this submission and kept
    in the run folder (``salts/<submission id>.txt``), so that nobody can guess a text from its hash, and the submitter
    can later show which texts were meant.

    Args:
        run: the run folder, with ``verdicts/<scorer>.parquet`` in it.
        to: folder that gets the submission's folder.
        scorer: whose verdicts; may be left out where one scorer has judged the run. The labels of the others go along,
            with their agreement.
        declared: facts about the model that the run does not tell.
        supersedes: ids of earlier submissions that this one replaces.
        contact: how to reach the submitter; public.
        notes: anything a reader should know; public.
        stress: what `demur stress` wrote of the same model (its folder or its ``stress.json``), to be attached.

    Returns:
        The submission's folder.

    Raises:
        DemurError: the run is unfinished or not scored, its verdicts are of other responses, some prompts of a pair
            were not asked, the stress test is of another model or impossible, or the submission exists.
    """
    asked = open_run(run)
    own = judged_by(asked, chosen_judge(asked, scorer))
    said = [judged_by(asked, name) for name in judges_of(asked) if name != own.scorer.name]
    salt = secrets.token_hex(16)
    hashes = salted_hashes(asked, salt, [own, *said])
    pairs = _pairs(asked.info)
    rows = own.rows.assign(response_sha256=hashes)[list(ROW_COLUMNS)]
    order = rows.sort_values(["prompt_id", "sample"]).index
    rows = rows.loc[order].reset_index(drop=True)
    others = joined(rows, {one.scorer.name: one.rows["label"].loc[order] for one in said})
    digest = rows_sha256(rows)
    model = _model(asked.info.model, declared or Declared())
    attached = None if stress is None else _attached(stress_source(Path(stress)), model)
    info = SubmissionInfo(
        format="demur-submission/1",
        id=f"{_slug(asked.info.model.id)}-{asked.info.split}-{digest[:10]}",
        created_at=_utc(asked.info.created_at),
        package_version=package_version(),
        model=model,
        setting=_setting(asked.info),
        scorer=own.scorer,
        prompts=_prompts(asked.info, pairs),
        pairs=pairs,
        template_sha256=asked.info.template_sha256,
        rows=len(rows),
        rows_sha256=digest,
        salt_sha256=hashlib.sha256(salt.encode()).hexdigest(),
        figures=figures(count_draws(verdict_table(rows, pairs))),
        supersedes=list(supersedes),
        contact=contact,
        notes=notes,
        stress_sha256=None if attached is None else hashlib.sha256(attached).hexdigest(),
        agreement=scorer_agreement(rows, others, [one.scorer for one in said]),
    )
    # Before the submission: without its salt nobody could show which texts were meant.
    write_text(salt_file(asked.path, info.id), salt + "\n")
    return _write(Path(to), info, rows, others if said else None, attached)


def _attached(path: Path, model: Model) -> bytes:
    """The bytes of a stress test's file, after the check that a board makes."""
    _, found = read_stress(path, model)
    raise_all(str(path), found, "attach the stress test of this model, as `demur stress` wrote it")
    return path.read_bytes()


def _pairs(info: RunInfo) -> dict[str, str]:
    """Pair id to hazard of what was asked; whole pairs alone make a submission."""
    listed = manifest()
    if info.provenance.prompts_version != listed["version"]:
        raise DemurError(
            f"the run asked prompt set {info.provenance.prompts_version}; this package holds {listed['version']}",
            "submit with the release of demur that made the run",
        )
    known = {pair["id"]: pair["hazard"] for pair in listed["pairs"]}
    asked = set(info.prompt_ids)
    pairs = dict.fromkeys(prompt_id.rsplit("/", 2)[0] for prompt_id in info.prompt_ids)
    raise_all("the run", (f"pair {pair!r} is not in the prompt set" for pair in pairs if pair not in known))
    missing = [
        prompt_id
        for pair in pairs
        for side in SIDES
        for variant in VARIANTS
        if (prompt_id := f"{pair}/{side}/{variant}") not in asked
    ]
    raise_all(
        "the run",
        (f"{prompt_id} was not asked" for prompt_id in missing),
        "a submission needs both sides and all variants of every pair; select by pairs",
    )
    return {pair: known[pair] for pair in sorted(pairs)}


def _prompts(info: RunInfo, pairs: dict[str, str]) -> PromptSource:
    total = int(manifest()["splits"][info.split]["pairs"])
    selection = None if len(pairs) == total else Selection(f"{len(pairs)} of {total} pairs", sorted(pairs))
    return PromptSource(info.split, info.provenance.prompts_version, info.provenance.prompts_hash, selection)


def _setting(info: RunInfo) -> Setting:
    drawn = info.sampling
    return Setting(drawn.temperature, drawn.top_p, drawn.max_new_tokens, drawn.seed, info.samples, list(VARIANTS))


def _model(info: ModelInfo, declared: Declared) -> Model:
    """Facts from the run first, then the declared ones, then the curated ones; they are never mixed."""
    known = curated(info.id)
    said = {name: value for name, value in declared.architecture_facts().items() if value is not None}
    source: Literal["config", "curated", "declared", "none"] = "none"
    facts: dict[str, Any] = {}
    if info.architecture != "undisclosed":
        source = "config"
        own = asdict(info)
        wrong = [f"{name} {value!r} was declared; the run says {own[name]!r}" for name, value in said.items()]
        raise_all(
            "the model", [w for w, (n, v) in zip(wrong, said.items(), strict=True) if own[n] != v], "leave it out"
        )
    elif said:
        source, facts = "declared", said
    elif known is not None:
        source, facts = "curated", known.facts()
    own_maker = info.id.split("/", maxsplit=1)[0] if "/" in info.id else ""
    return Model(
        **{**asdict(info), **facts},
        maker=declared.maker or (known.maker if known else own_maker),
        base_model=declared.base_model or (known.base_model if known else None),
        upcycled_from=declared.upcycled_from,
        formerly=list(declared.formerly),
        architecture_source=source,
    )


def _slug(name: str) -> str:
    plain = re.sub(r"[^a-z0-9._-]+", "--", name.lower())
    return re.sub(r"\.{2,}", ".", plain).strip("-._")[:90] or "model"


def _utc(time: str) -> str:
    return pd.Timestamp(time).tz_convert("UTC").isoformat(timespec="seconds")


def _write(
    to: Path, info: SubmissionInfo, rows: pd.DataFrame, others: pd.DataFrame | None, stress: bytes | None
) -> Path:
    """Write the folder beside its place, check it there as a stranger would, and only then give it its name."""
    place = to / info.id
    if place.exists():
        raise DemurError(f"{place}: exists already", "submissions are never overwritten; name another folder")
    value = asdict(info)
    check(value, "demur.leaderboard", "submission", "the submission", "correct the values named")
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to, prefix=".making-") as scratch:
        made = Path(scratch) / info.id
        write_json(made / INFO_FILE, value)
        write_rows(made / ROWS_FILE, rows)
        if others is not None:
            write_others(made / OTHERS_FILE, others)
        if stress is not None:
            (made / STRESS_FILE).write_bytes(stress)
        raise_all(str(place), check_submission(made), "report this: a submission as written must pass its own check")
        shutil.move(made, place)
    return place
