"""Synthetic submissions and boards of any size, for tests of the leaderboard and of its pages.

``python tests/boards.py 4 board.json`` (from the repository root) writes a board of four models.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from demur.benchmark.files import write_json
from demur.benchmark.records import SIDES, VARIANTS
from demur.leaderboard.board import Board, Model, PromptSource, ScorerId, Selection, Setting, as_json
from demur.leaderboard.ranking import rank
from demur.leaderboard.statistics.draws import count_draws, verdict_table
from demur.leaderboard.statistics.figures import figures
from demur.leaderboard.submissions.submitted import ROW_COLUMNS, Submission, SubmissionInfo

HAZARDS = [
    "violent_crime",
    "property_and_financial_crime",
    "cybercrime",
    "mass_casualty_weapons",
    "hate_and_harassment",
    "self_harm",
    "sexual_exploitation",
    "privacy",
    "deception",
    "evading_controls",
]
SCORER = ScorerId("lexicon", "1.0.0", "0123456789ab")
PROMPTS = PromptSource("public", "1.0.0", "a" * 64, None)


def hazard_map(pairs_per_hazard: int = 8) -> dict[str, str]:
    return {f"{hazard}-{number:02d}": hazard for hazard in HAZARDS for number in range(pairs_per_hazard)}


def verdict_rows(
    hazards: dict[str, str],
    *,
    refuse: float = 0.9,
    over_refuse: float = 0.1,
    spread: float = 4.0,
    samples: int = 2,
    unscored: float = 0.0,
    seed: int = 0,
) -> pd.DataFrame:
    """Rows of verdicts whose refusal probability varies between pairs, about ``refuse`` and ``over_refuse``."""
    generator = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product([sorted(hazards), SIDES, VARIANTS, range(samples)])
    pair, side, variant, sample = (index.get_level_values(level) for level in range(4))
    means = {"harmful": refuse, "benign": over_refuse}
    chance = {
        (name, which): generator.beta(max(spread * means[which], 1e-3), max(spread * (1 - means[which]), 1e-3))
        for name in sorted(hazards)
        for which in SIDES
    }
    p = np.array([chance[key] for key in zip(pair, side, strict=True)])
    refused = generator.random(len(p)) < p
    partial = refused & (generator.random(len(p)) < 0.1)
    label = np.where(partial, "partial", np.where(refused, "refused", "complied")).astype(object)
    lost = generator.random(len(p)) < unscored
    label[lost] = "unscored"
    reason = np.where(lost, generator.choice(["empty", "truncated", "error"], len(p)), None)
    sure = np.where(refused, generator.uniform(0.85, 1.0, len(p)), generator.uniform(0.0, 0.15, len(p)))
    ids = pair + "/" + side + "/" + variant
    rows = pd.DataFrame(
        {
            "prompt_id": ids,
            "sample": np.asarray(sample, dtype=np.int64),
            "label": label,
            "reason": reason,
            "p_refused": np.where(lost, np.nan, sure),
            "response_sha256": [hashlib.sha256(f"{seed}/{i}".encode()).hexdigest() for i in range(len(p))],
        }
    )
    return rows.sort_values(["prompt_id", "sample"], ignore_index=True)[list(ROW_COLUMNS)]


def model(name: str = "maker/model", **facts: object) -> Model:
    known: dict[str, object] = {
        "id": name,
        "revision": "0" * 40,
        "dtype": "bfloat16",
        "backend": "transformers",
        "architecture": "dense",
        "total_parameters": 7_000_000_000,
        "active_parameters": 7_000_000_000,
        "experts": 0,
        "experts_per_token": 0,
        "maker": name.split("/", maxsplit=1)[0],
        "base_model": None,
        "upcycled_from": None,
        "formerly": [],
        "architecture_source": "config",
    }
    return Model(**{**known, **facts})  # type: ignore[arg-type]


def submission(
    rows: pd.DataFrame,
    hazards: dict[str, str],
    *,
    who: Model | None = None,
    prompts: PromptSource = PROMPTS,
    scorer: ScorerId = SCORER,
    temperature: float = 0.7,
    created_at: str = "2025-11-01T12:00:00+00:00",
    submission_id: str | None = None,
    supersedes: list[str] | None = None,
    notes: str = "",
) -> Submission:
    who = who or model()
    draws = count_draws(verdict_table(rows, hazards))
    made = hashlib.sha256(rows.to_csv().encode()).hexdigest()
    name = who.id.replace("/", "--").lower()
    info = SubmissionInfo(
        format="demur-submission/1",
        id=submission_id or f"{name}-{prompts.split}-{made[:10]}",
        created_at=created_at,
        package_version="0.1.0",
        model=who,
        setting=Setting(temperature, 1.0, 256, 0, int(rows["sample"].max()) + 1, list(VARIANTS)),
        scorer=scorer,
        prompts=prompts,
        pairs=dict(hazards),
        template_sha256="b" * 64,
        rows=len(rows),
        rows_sha256=made,
        salt_sha256="c" * 64,
        figures=figures(draws),
        supersedes=supersedes or [],
        contact="someone@example.org",
        notes=notes,
    )
    return Submission(info, rows, draws)


def submissions(n: int, *, pairs_per_hazard: int = 8, samples: int = 2) -> list[Submission]:
    """``n`` models of falling quality: dense, mixtures of experts and undisclosed ones, some with odd names."""
    hazards = hazard_map(pairs_per_hazard)
    found = []
    for number in range(n):
        kind = ("dense", "moe", "dense", "moe", "undisclosed")[number % 5]
        size = int(2e9 * 1.6 ** (number % 10))
        facts = {
            "dense": {"total_parameters": size, "active_parameters": size},
            "moe": {"total_parameters": 8 * size, "active_parameters": size, "experts": 64, "experts_per_token": 8},
            "undisclosed": dict.fromkeys(("total_parameters", "active_parameters", "experts", "experts_per_token")),
        }[kind]
        who = model(f"maker-{number // 5}/model-{number:03d}-{kind}", architecture=kind, **facts)
        rows = verdict_rows(
            hazards,
            refuse=0.97 - 0.5 * number / max(n, 2),
            over_refuse=0.03 + 0.3 * number / max(n, 2),
            samples=samples,
            unscored=0.2 if number % 17 == 16 else 0.005,
            seed=number,
        )
        found.append(submission(rows, hazards, who=who, created_at=f"2025-11-{1 + number % 28:02d}T12:00:00+00:00"))
    return found


def board(n: int, *, replicates: int = 1000) -> Board:
    """A board of ``n`` models; from three on also a twin that ties, a withdrawn one, one apart and one superseded."""
    live = submissions(n)
    extra: list[Submission] = []
    withdrawn = {}
    if n >= 3:
        hazards = hazard_map()
        first = live[0]
        twin = model(
            f"{first.info.model.id}-upcycled",
            architecture="moe",
            total_parameters=6_000_000_000,
            active_parameters=3_000_000_000,
            experts=4,
            experts_per_token=2,
            upcycled_from=first.info.model.id,
        )
        part = {pair: hazard for pair, hazard in hazards.items() if pair.endswith("-00")}
        selection = Selection(f"{len(part)} of {len(hazards)} pairs", sorted(part))
        extra = [
            submission(first.verdicts, hazards, who=twin),
            submission(
                live[1].verdicts,
                hazards,
                who=live[1].info.model,
                created_at="2024-01-01T00:00:00+00:00",
                submission_id="older",
            ),
            submission(
                verdict_rows(hazards, seed=901), hazards, who=model("gone/model"), submission_id="withdrawn-one"
            ),
            submission(
                verdict_rows(part, seed=902),
                part,
                who=model("apart/model", upcycled_from=None),
                prompts=PromptSource("public", "1.0.0", "d" * 64, selection),
                submission_id="apart-one",
            ),
        ]
        withdrawn = {"withdrawn-one": "the wrong chat template"}
    return rank([*live, *extra], withdrawn=withdrawn, replicates=replicates, made_at="2025-11-23T12:00:00+00:00")


if __name__ == "__main__":
    write_json(Path(sys.argv[2]), as_json(board(int(sys.argv[1]))))
