"""Variety and balance of the whole set."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

from .pairs import Pair
from .records import SIDES, TWIN_TYPES, Prompt
from .taxonomy import NUMBERS, expected_split, expected_twin_type, hazards, planned_pairs, subcategories
from .wordlists import words

__all__ = [
    "distinct_bigrams",
    "length_difference",
    "misplaced",
    "opening_entropy",
    "openings",
    "twin_types_missing",
    "uneven_cells",
]


def distinct_bigrams(texts: Sequence[str]) -> float:
    """Distinct-2: different runs of two words over all runs of two words (Li et al. 2016, arXiv 1510.03055)."""
    runs = [run for found in map(words, texts) for run in pairwise(found)]
    return len(set(runs)) / len(runs) if runs else 0.0


def openings(texts: Sequence[str]) -> Counter[str]:
    """How many texts begin with each run of three words."""
    return Counter(" ".join(words(text)[:3]) for text in texts)


def opening_entropy(texts: Sequence[str]) -> float:
    """Shannon entropy of the first word, in bits."""
    counts = Counter(words(text)[0] for text in texts if words(text))
    total = counts.total()
    return -sum(count / total * math.log2(count / total) for count in counts.values())


def length_difference(prompts: Sequence[Prompt]) -> float:
    """Difference of the mean numbers of words of the two sides, as a share of the larger mean."""
    means = [fmean(len(prompt.text.split()) for prompt in prompts if prompt.side == side) for side in SIDES]
    return abs(means[0] - means[1]) / max(means)


def misplaced(pairs: Sequence[Pair]) -> list[str]:
    """Every pair whose number does not go with its split or twin type."""
    faults = []
    for pair in pairs:
        number = int(pair.id[-2:])
        if number not in NUMBERS:
            faults.append(f"{pair.place}: {pair.id}: numbers run from {NUMBERS[0]:02} to {NUMBERS[-1]:02}")
            continue
        if pair.split != expected_split(number):
            faults.append(f"{pair.place}: {pair.id} belongs in {expected_split(number)}, not {pair.split}")
        wanted = expected_twin_type(pair.subcategory, number)
        if pair.twin_type != wanted:
            faults.append(f"{pair.place}: {pair.id}: twin type is {pair.twin_type}, its number wants {wanted}")
    return faults


def uneven_cells(prompts: Sequence[Prompt]) -> list[str]:
    """Every cell of split, subcategory, side and variant with another number of prompts than its split's plan."""
    counts = Counter((p.split, p.subcategory, p.side, p.variant) for p in prompts)
    variants = sorted({p.variant for p in prompts})
    faults = []
    for split in sorted({p.split for p in prompts}):
        planned = planned_pairs(split)
        for subcategory in subcategories():
            for cell in [(split, subcategory, side, variant) for side in SIDES for variant in variants]:
                if counts[cell] != planned:
                    faults.append(f"{'/'.join(cell)}: {counts[cell]} prompts, planned {planned}")
    return faults


def twin_types_missing(pairs: Sequence[Pair]) -> list[str]:
    """Every twin type that a hazard lacks."""
    present = {(pair.hazard, pair.twin_type) for pair in pairs}
    return [f"{hazard} has no {kind}" for hazard in hazards() for kind in TWIN_TYPES if (hazard, kind) not in present]
