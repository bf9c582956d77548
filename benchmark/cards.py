"""The dataset card and the datasheet, written from templates and from the set itself, so that they cannot drift."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from .checks import read_checks
from .errors import DemurError
from .files import read_json, write_text
from .manifest import FOLDER, manifest
from .records import SPLITS, TWIN_TYPES
from .schema import check
from .taxonomy import hazards, subcategories

__all__ = ["CARDS", "REPO_ID", "card", "read_reviews", "write_cards"]

CARDS = {"dataset_card.md": "dataset_card.md.j2", "datasheet.md": "datasheet.md.j2"}
REPO_ID = "demur/prompts"

Row = Sequence[object]


def card(name: str, repo_id: str = REPO_ID, folder: Path = FOLDER) -> str:
    """One card as Markdown.

    Args:
        name: one of :data:`CARDS`.
        repo_id: Hub repository to name in the loading example.
        folder: the prompts folder.
    """
    rendered: str = _template(CARDS[name]).render(
        manifest=manifest(),
        repo_id=repo_id,
        twin_types=[f"`{kind}`" for kind in TWIN_TYPES],
        counts=_counts(),
        counts_table=_counts_table(),
        taxonomy_table=_taxonomy_table(),
        check_table=_check_table(folder),
        review_table=_review_table(folder / "reviews.json"),
    )
    return rendered


def write_cards(target: Path) -> list[Path]:
    """Write every card into a folder."""
    paths = [target / name for name in CARDS]
    for path in paths:
        write_text(path, card(path.name))
    return paths


def read_reviews(path: Path) -> list[dict[str, Any]]:
    """The verdicts of the second reading, one entry a pair.

    Raises:
        DemurError: a breach of the schema, a pair that is not in the manifest, or one that stands twice.
    """
    reviews: list[dict[str, Any]] = read_json(path)
    fix = "mend the entries named"
    check(reviews, "demur.benchmark", "reviews", str(path), fix)
    counts = Counter(entry["pair_id"] for entry in reviews)
    known = {entry["id"] for entry in manifest()["pairs"]}
    unknown, twice = sorted(set(counts) - known), sorted(pair for pair, count in counts.items() if count > 1)
    if unknown or twice:
        raise DemurError(f"{path}: unknown pairs {unknown[:5]}, pairs that stand twice {twice[:5]}", fix)
    return reviews


@cache
def _template(name: str) -> Any:
    # Markdown, not HTML: nothing in it is to be escaped.
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    return environment.from_string(files(__package__).joinpath("cards", name).read_text(encoding="utf-8"))


def _table(header: Row, rows: Iterable[Row]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _counts() -> dict[str, Any]:
    splits = manifest()["splits"]
    total = {key: sum(splits[split][key] for split in SPLITS) for key in ("pairs", "prompts")}
    return {
        **splits,
        "total": total,
        "per_hazard": total["pairs"] // len(hazards()),
        "subcategories": len(subcategories()),
    }


def _counts_table() -> str:
    found = Counter((entry["hazard"], entry["split"]) for entry in manifest()["pairs"])
    rows: list[Row] = [
        [hazard.title, *(found[hazard.id, split] for split in SPLITS), sum(found[hazard.id, split] for split in SPLITS)]
        for hazard in hazards().values()
    ]
    counts = _counts()
    rows.append(["**pairs**", *(counts[split]["pairs"] for split in SPLITS), counts["total"]["pairs"]])
    rows.append(["**prompts**", *(counts[split]["prompts"] for split in SPLITS), counts["total"]["prompts"]])
    return _table(["hazard", *SPLITS, "all"], rows)


def _taxonomy_table() -> str:
    return _table(
        ["hazard", "subcategory", "AILuminate", "SORRY-Bench", "HarmBench"],
        [
            [
                hazard.title,
                f"{sub.title} (`{sub.id}`)",
                ", ".join(sub.ailuminate),
                ", ".join(map(str, sub.sorry_bench)),
                ", ".join(sub.harmbench),
            ]
            for hazard in hazards().values()
            for sub in hazard.subcategories
        ],
    )


def _check_table(folder: Path) -> str:
    kept = read_checks(folder)
    if kept is None:
        return "The figures of this version are not computed yet: `demur prompts check --split all --save`."
    rows = kept["checks"]
    return _table(
        ["check", "figure", "bar", "outcome"],
        [[row["name"], row["figure"], row["bar"], row["outcome"]] for row in rows],
    )


def _review_table(path: Path) -> str:
    if not path.exists():
        return "The figures of the second reading are not recorded yet."
    reviews = read_reviews(path)
    questions = {
        "harmful_refused": "harmful side judged one to decline",
        "benign_answered": "benign side judged one to answer",
        "teaches": "judged to teach nothing dangerous",
        "understood": "every wording understood",
    }
    good = {"harmful_refused": True, "benign_answered": True, "teaches": False, "understood": True}
    count = len(reviews)
    rows: list[Row] = [
        [label, f"{sum(entry['first_pass'][name] == good[name] for entry in reviews)} of {count}"]
        for name, label in questions.items()
    ]
    rejected = sum(any(entry["first_pass"][name] != good[name] for name in good) for entry in reviews)
    rows.append(["sent back after the first reading", f"{rejected} of {count} ({rejected / count:.1%})"])
    rows.append(["most readings of one pair", max(entry["rounds"] for entry in reviews)])
    rows.append(["state `reviewed`", f"{sum(entry['state'] == 'reviewed' for entry in reviews)} of {count}"])
    return _table(["second reading", "pairs"], rows)
