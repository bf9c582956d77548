"""A scorer against labels: the figures of a scorer's calibration, with cluster-bootstrap intervals."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..benchmark.errors import DemurError
from .calibration import BINS
from .verdicts import LABELS, Label, Verdict

__all__ = ["FIGURES", "human_agreement", "validate"]

FIGURES = ("accuracy", "macro_f1", "kappa", "refusal_recall", "false_refusal_rate", "ece", "brier")
REPLICATES = 2000
_BLOCK = 20_000_000

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Items:
    """Columns of the answers, shape (n,) each."""

    truth: npt.NDArray[np.str_]
    said: npt.NDArray[np.str_]
    p: Floats
    cluster: npt.NDArray[np.int64]
    reasons: npt.NDArray[np.object_]

    def where(self, chosen: npt.NDArray[np.bool_]) -> "_Items":
        """The chosen answers."""
        return _Items(self.truth[chosen], self.said[chosen], self.p[chosen], self.cluster[chosen], self.reasons[chosen])


def validate(
    scorer: str,
    labels: Sequence[str],
    verdicts: Sequence[Verdict],
    *,
    groups: Sequence[Sequence[str]] = (),
    clusters: Sequence[Hashable] | None = None,
    replicates: int = REPLICATES,
) -> list[dict[str, Any]]:
    """Figures of a scorer, for all answers first and then for each group.

    Unscored answers are counted, and kept out of every figure. Figures are in the binary reading (``partial`` is
    refused) except ``macro_f1_three``. A figure that is undefined is None. Each figure has its 95 % percentile
    interval from a bootstrap over clusters beside it, as ``<figure>_interval``.

    Args:
        scorer: its name, for the result.
        labels: the labels taken as true, ``refused``, ``partial`` or ``complied``.
        verdicts: the scorer's, item by item.
        groups: for example the model of each item, and its language.
        clusters: for example the prompt of each item; each item by itself where None.
        replicates: bootstrap replicates.
    """
    _check(labels, verdicts)
    items = _Items(
        np.array(labels),
        np.array([verdict.label for verdict in verdicts], dtype=str),
        np.array([np.nan if verdict.p_refused is None else verdict.p_refused for verdict in verdicts], float),
        _codes(clusters, len(labels)),
        np.array([verdict.reason for verdict in verdicts], dtype=object),
    )
    results = [_result(scorer, "all", items, replicates)]
    for column in groups:
        group = np.array(column)
        results += [_result(scorer, name, items.where(group == name), replicates) for name in sorted(set(column))]
    return results


def human_agreement(
    first: Sequence[str], second: Sequence[str], clusters: Sequence[Hashable] | None = None
) -> dict[str, Any]:
    """The second annotator read as a scorer of the first: the ceiling of any scorer."""
    said = [Verdict(_label(name), None, float(name != "complied")) for name in second]
    figures = validate("second annotator", first, said, clusters=clusters)[0]
    keep = ("n", "accuracy", "accuracy_interval", "macro_f1", "macro_f1_interval", "kappa", "kappa_interval")
    return {name: figures[name] for name in keep}


def _result(scorer: str, group: str, items: _Items, replicates: int) -> dict[str, Any]:
    scored = items.where(items.said != "unscored")
    without = scored.where(scored.truth != "partial")
    counts = Counter(str(reason) for reason in items.reasons if reason is not None)
    return {
        "scorer": scorer,
        "group": group,
        "n": len(scored.truth),
        "unscored": dict(sorted(counts.items())),
        **_figures(scored, replicates),
        "macro_f1_three": _macro_f1_three(scored.truth, scored.said),
        "confusion": {
            a: {b: int(((scored.truth == a) & (scored.said == b)).sum()) for b in LABELS[:3]} for a in LABELS[:3]
        },
        "without_partial": {"n": len(without.truth), **_figures(without, replicates)},
    }


def _figures(items: _Items, replicates: int) -> dict[str, Any]:
    if not len(items.truth):
        return {key: None for name in FIGURES for key in (name, f"{name}_interval")}
    sums = _sums_by_cluster(items)
    point = _from_sums(sums.sum(0)[None])
    drawn = _bootstrap(sums, replicates)
    found: dict[str, Any] = {}
    for name in FIGURES:
        found[name] = _number(point[name][0])
        values = drawn[name][np.isfinite(drawn[name])]
        enough = found[name] is not None and len(values) > 0
        found[f"{name}_interval"] = [float(v) for v in np.percentile(values, [2.5, 97.5])] if enough else None
    return found


def _sums_by_cluster(items: _Items) -> Floats:
    """Shape (clusters, 5 + 3 * BINS): the confusion's cells, squared error, and per bin count, p and truth."""
    _, place = np.unique(items.cluster, return_inverse=True)
    truth, said = (items.truth != "complied").astype(float), (items.said != "complied").astype(float)
    p = items.p
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    one_hot = np.eye(BINS)[bins]
    cells = [truth * said, (1 - truth) * said, truth * (1 - said), (1 - truth) * (1 - said)]
    columns = np.column_stack([*cells, (p - truth) ** 2, one_hot, one_hot * p[:, None], one_hot * truth[:, None]])
    sums = np.zeros((place.max() + 1, columns.shape[1]))
    np.add.at(sums, place, columns)
    return sums


def _bootstrap(sums: Floats, replicates: int) -> dict[str, Floats]:
    chooser = np.random.default_rng(0)
    size = len(sums)
    step = max(1, _BLOCK // size)
    totals = []
    for start in range(0, replicates, step):
        count = min(step, replicates - start)
        totals.append(chooser.multinomial(size, np.full(size, 1 / size), size=count) @ sums)
    return _from_sums(np.vstack(totals))


def _from_sums(sums: Floats) -> dict[str, Floats]:
    """Every figure from the sums of :func:`_sums_by_cluster`; shape (rows,) each, NaN where undefined.

    ``ece`` is the expected calibration error over bins of equal width (Naeini et al. 2015), ``brier`` the mean squared
    difference of probability and outcome (Brier 1950).
    """
    hit, false, missed, right = sums[:, 0], sums[:, 1], sums[:, 2], sums[:, 3]
    n = hit + false + missed + right
    count, p, truth = (sums[:, 5 + i * BINS : 5 + (i + 1) * BINS] for i in range(3))
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = (hit + right) / n
        chance = ((hit + false) * (hit + missed) + (missed + right) * (false + right)) / n**2
        return {
            "accuracy": observed,
            "macro_f1": (2 * hit / (2 * hit + false + missed) + 2 * right / (2 * right + false + missed)) / 2,
            "kappa": (observed - chance) / (1 - chance),
            "refusal_recall": hit / (hit + missed),
            "false_refusal_rate": false / (false + right),
            "ece": np.abs(p - truth).sum(1) / count.sum(1),
            "brier": sums[:, 4] / n,
        }


def _macro_f1_three(truth: npt.NDArray[np.str_], said: npt.NDArray[np.str_]) -> float | None:
    scores = []
    for label in LABELS[:3]:
        both = int(((truth == label) & (said == label)).sum())
        either = int((truth == label).sum() + (said == label).sum())
        if either:
            scores.append(2 * both / either)
    return float(np.mean(scores)) if scores else None


def _check(labels: Sequence[str], verdicts: Sequence[Verdict]) -> None:
    if len(labels) != len(verdicts):
        raise ValueError(f"{len(labels)} labels and {len(verdicts)} verdicts")
    unknown = Counter(label for label in labels if label not in LABELS[:3])
    if unknown:
        shown = ", ".join(f"{label!r} ({count})" for label, count in unknown.most_common(8))
        raise DemurError(
            f"unknown labels: {shown}", f"map them to {', '.join(LABELS[:3])}, for example --map yes=refused"
        )


def _label(name: str) -> Label:
    for label in LABELS[:3]:
        if label == name:
            return label
    raise DemurError(f"unknown label {name!r}", f"map it to {', '.join(LABELS[:3])}")


def _codes(values: Sequence[Hashable] | None, size: int) -> npt.NDArray[np.int64]:
    if values is None:
        return np.arange(size)
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], dtype=np.int64)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
