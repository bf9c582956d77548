"""Figures of scorers against definitions written out, and against sklearn's."""

import json
import math

import krippendorff
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, f1_score

from demur.benchmark.errors import DemurError
from demur.scorers.agreement import agreement, codes_of, cohen_kappa, krippendorff_alpha
from demur.scorers.calibration import reliability, reliability_diagram
from demur.scorers.labelled import Columns, read_labelled
from demur.scorers.validation import FIGURES, human_agreement, validate
from demur.scorers.verdicts import LABELS, Verdict

LABEL = st.sampled_from(["refused", "partial", "complied"])
ITEMS = st.lists(st.tuples(LABEL, LABEL, st.floats(0, 1), st.integers(0, 5)), min_size=1, max_size=60)


def verdict(label, p=None):
    if label == "unscored":
        return Verdict("unscored", reason="empty")
    return Verdict(label, None, float(label != "complied") if p is None else p)


def calibration_error(p, refused):
    """Mean over bins of |mean probability - share refused|, weighted by size (Naeini et al. 2015)."""
    return sum(row["n"] * abs(row["p"] - row["refused"]) for row in reliability(p, refused)) / len(p)


@given(ITEMS)
@settings(max_examples=60, deadline=None)
def test_figures_are_those_of_their_definitions(items):
    labels, said, p, clusters = (list(column) for column in zip(*items, strict=True))
    verdicts = [verdict(label, value) for label, value in zip(said, p, strict=True)]
    (found,) = validate("s", labels, verdicts, clusters=clusters, replicates=20)
    truth, hit, p = np.array(labels) != "complied", np.array(said) != "complied", np.array(p)
    assert found["accuracy"] == pytest.approx((truth == hit).mean())
    assert found["brier"] == pytest.approx(np.mean((p - truth) ** 2))
    assert found["ece"] == pytest.approx(calibration_error(p, truth))
    if truth.any():
        assert found["refusal_recall"] == pytest.approx(hit[truth].mean())
    else:
        assert found["refusal_recall"] is None
    if len(set(truth) | set(hit)) > 1:
        assert found["kappa"] == pytest.approx(cohen_kappa_score(truth, hit), nan_ok=True)
        assert found["kappa"] == pytest.approx(cohen_kappa(codes_of(labels), codes_of(said)))
        assert found["macro_f1"] == pytest.approx(f1_score(truth, hit, average="macro"))
    else:
        assert found["kappa"] is None
    json.dumps(found, allow_nan=False)
    assert found["without_partial"]["n"] == sum(label != "partial" for label in labels)
    assert sum(sum(row.values()) for row in found["confusion"].values()) == found["n"]


@given(ITEMS, st.randoms())
@settings(max_examples=30, deadline=None)
def test_order_does_not_matter_to_the_point_figures(items, chooser):
    other = list(items)
    chooser.shuffle(other)
    found = []
    for rows in (items, other):
        labels, said, p, _ = zip(*rows, strict=True)
        (result,) = validate("s", labels, [verdict(a, b) for a, b in zip(said, p, strict=True)], replicates=2)
        found.append(result)
    for name in FIGURES:
        assert found[0][name] == pytest.approx(found[1][name])


def test_unscored_answers_are_counted_and_kept_out():
    (found,) = validate("s", ["refused"] * 3, [verdict("refused"), verdict("unscored"), verdict("complied")])
    assert (found["n"], found["unscored"], found["accuracy"]) == (2, {"empty": 1}, 0.5)
    (none,) = validate("s", ["refused"], [verdict("unscored")])
    assert none["n"] == 0
    assert none["accuracy"] is None
    assert none["accuracy_interval"] is None


def test_groups_follow_all_and_intervals_hold_the_point():
    labels = ["refused", "complied"] * 50
    said = [verdict("refused" if i % 7 else "complied") for i in range(100)]
    results = validate("s", labels, said, groups=[["b", "a"] * 50], clusters=[i // 4 for i in range(100)])
    assert [result["group"] for result in results] == ["all", "a", "b"]
    for result in results:
        low, high = result["accuracy_interval"]
        assert low <= result["accuracy"] <= high
    assert results == validate("s", labels, said, groups=[["b", "a"] * 50], clusters=[i // 4 for i in range(100)])


def test_clusters_widen_the_interval():
    labels = ["refused"] * 200
    said = [verdict("refused" if i < 150 else "complied") for i in range(200)]
    (alone,) = validate("s", labels, said)
    (tied,) = validate("s", labels, said, clusters=[i // 25 for i in range(200)])
    width = [result["accuracy_interval"][1] - result["accuracy_interval"][0] for result in (alone, tied)]
    assert width[1] > 2 * width[0]


def test_unknown_labels_are_named():
    with pytest.raises(DemurError, match=r"unknown labels: 'yes' \(2\)"):
        validate("s", ["yes", "yes", "refused"], [verdict("refused")] * 3)
    with pytest.raises(DemurError, match="unknown label 'no'"):
        human_agreement(["refused"], ["no"])


def test_human_agreement():
    found = human_agreement(["refused", "complied", "partial"], ["refused", "complied", "complied"])
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert "ece" not in found


def test_agreement_between_scorers():
    a = codes_of(["refused", "complied", "partial", "unscored"])
    b = codes_of(["partial", "complied", "refused", "refused"])
    assert cohen_kappa(a, b) == 1.0
    assert cohen_kappa(a, b, binary=False) < 1
    assert cohen_kappa(codes_of(["unscored"]), codes_of(["refused"])) is None
    assert cohen_kappa(codes_of(["refused"]), codes_of(["refused"])) is None
    assert krippendorff_alpha([a, b]) == 1.0
    assert krippendorff_alpha([codes_of(["refused"])] * 2) is None
    assert agreement({"x": a, "y": b}) == {"kappa": {"x/y": 1.0}, "alpha": 1.0}
    assert agreement({"x": a}) == {"kappa": {}, "alpha": None}
    with pytest.raises(ValueError, match="4 labels and 1"):
        cohen_kappa(a, a[:1])


@given(st.lists(st.lists(st.sampled_from(LABELS), min_size=3, max_size=3), min_size=1, max_size=40), st.booleans())
@settings(deadline=None)
def test_agreement_is_that_of_the_packages(rows, binary):
    judges = [codes_of(column) for column in zip(*rows, strict=True)]
    read = np.array([[np.nan if c == 3 else 0 if binary and c == 1 else c for c in judge] for judge in judges], float)
    paired = read[:, (~np.isnan(read)).sum(0) >= 2]
    if len(np.unique(paired[~np.isnan(paired)])) < 2:
        assert krippendorff_alpha(judges, binary=binary) is None
    else:
        theirs = krippendorff.alpha(reliability_data=read, level_of_measurement="nominal")
        assert krippendorff_alpha(judges, binary=binary) == pytest.approx(theirs)
    both = ~np.isnan(read[:2]).any(0)
    ours = cohen_kappa(judges[0], judges[1], binary=binary)
    if ours is not None:
        assert ours == pytest.approx(cohen_kappa_score(*read[:2, both].astype(int)))
    else:
        assert len(np.unique(read[:2, both])) < 2


def test_reliability_and_diagram(tmp_path):
    p, refused = np.array([0.05, 0.05, 0.95, 1.0]), np.array([0.0, 0.0, 1.0, 1.0])
    rows = reliability(p, refused)
    assert [row["n"] for row in rows] == [2, 2]
    assert calibration_error(p, refused) == pytest.approx(0.0375)
    for name in ("d.svg", "d.png"):
        reliability_diagram(tmp_path / name, {"cascade": rows})
    assert (tmp_path / "d.svg").read_text().startswith("<svg")
    assert (tmp_path / "d.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(DemurError, match="svg or"):
        reliability_diagram(tmp_path / "d.pdf", {"cascade": rows})


def test_figures_are_never_nan():
    (found,) = validate("s", ["complied"], [verdict("complied")])
    assert all(value is None or not (isinstance(value, float) and math.isnan(value)) for value in found.values())


@pytest.mark.parametrize("label", [None, b"\xff"])
def test_a_label_that_is_missing_or_no_text_is_named(label, tmp_path):
    path = tmp_path / "odd.parquet"
    pd.DataFrame({"response": ["a", "b"], "label": pd.Series([label, label], dtype=object)}).to_parquet(path)
    with pytest.raises(DemurError, match="unknown label"):
        read_labelled(path, Columns("response", "label"))
