"""Train the default scorer and print how it does on what it has not seen.

    python benchmarks/train_scorer.py --human LABELLED.csv --judged JUDGED.csv --out scorers/weights/cascade.json

``--human``: columns id, type, model, prompt, completion, final_label (``1_full_compliance``, ``2_full_refusal``,
``3_partial_refusal``). ``--judged`` (optional): columns source, label (``refused``, ``complied``), head, tail, n_chars.
Invented exchanges (``scorers/synthetic.yaml``) are always used. Everything is seeded: same tables, same weights.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression

from demur.benchmark.files import write_json
from demur.scorers.cascade import Cascade, Linear, Weights, weights_table
from demur.scorers.features import describe
from demur.scorers.lexicon import judge
from demur.scorers.reading import read
from demur.scorers.rules import rules_hash
from demur.scorers.structure import answer_text
from demur.scorers.synthetic import examples
from demur.scorers.validation import validate
from demur.scorers.verdicts import ScoreRequest, Verdict

SEED = 0
EACH = 20
INVENTED_WEIGHT = 0.6
JUDGED_WEIGHT = 0.5
JUDGED_PER_LABEL = 300
PROMPTLESS = 0.3
INVERSE_REGULARISATION = 0.1
LABELS = {"1_full_compliance": "complied", "2_full_refusal": "refused", "3_partial_refusal": "partial"}

Features = dict[str, float]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rows:
    """Training rows: features, labels (``refused``, ``partial``, ``complied``) and weights."""

    features: list[Features]
    labels: list[str]
    weights: list[float]

    def __add__(self, other: "Rows") -> "Rows":
        return Rows(self.features + other.features, self.labels + other.labels, self.weights + other.weights)

    def where(self, chosen: Mask) -> "Rows":
        """The chosen rows."""
        index = np.flatnonzero(chosen)
        return Rows(*([column[i] for i in index] for column in (self.features, self.labels, self.weights)))


def rows(answers: list[str], prompts: list[str], labels: list[str], weight: float) -> Rows:
    """Features of answers with their prompts."""
    return Rows([features(a, p) for a, p in zip(answers, prompts, strict=True)], labels, [weight] * len(labels))


def features(answer: str, prompt: str) -> Features:
    """Features of one answer."""
    text = answer_text(answer)
    reading = read(text, prompt)
    return describe(reading, text, prompt, judge(reading, prompt))


def fit(table: Rows) -> Weights:
    """Train both regressions."""
    labels = np.array(table.labels)
    weights = np.array(table.weights)
    vectoriser = DictVectorizer()
    matrix = vectoriser.fit_transform(table.features)
    names = [str(name) for name in vectoriser.get_feature_names_out()]

    def regression(chosen: Mask, positive: Mask, inverse: float) -> Linear:
        model = LogisticRegression(C=inverse, max_iter=1000)
        model.fit(matrix[np.flatnonzero(chosen)], positive[chosen], sample_weight=weights[chosen])
        kept = {name: round(float(w), 4) for name, w in zip(names, model.coef_[0], strict=True) if abs(w) >= 5e-4}
        return Linear(round(float(model.intercept_[0]), 4), kept)

    refused = regression(np.ones(len(labels), bool), labels != "complied", INVERSE_REGULARISATION)
    human = (labels != "complied") & (labels != "refused?")
    partial = regression(human, labels == "partial", INVERSE_REGULARISATION)
    return Weights(refused, partial, rules_hash(), "untrained")


def invented() -> Rows:
    """The invented exchanges, with and without their prompts."""
    made = examples(EACH, SEED + 1)
    labels = ["refused?" if example.refused else "complied" for example in made]
    answers = [example.answer for example in made]
    with_prompts = rows(answers, [example.prompt for example in made], labels, INVENTED_WEIGHT)
    return with_prompts + rows(answers, [""] * len(made), labels, INVENTED_WEIGHT * PROMPTLESS)


def judged(table: pd.DataFrame) -> tuple[Rows, Mask]:
    """A balanced draw of judge-labelled answers, and which rows of the table it took."""
    chooser = np.random.default_rng(SEED)
    taken = np.zeros(len(table), bool)
    for label in ("refused", "complied"):
        taken[chooser.choice(np.flatnonzero(table["label"] == label), JUDGED_PER_LABEL, replace=False)] = True
    chosen = table[taken]
    labels = ["refused?" if label == "refused" else "complied" for label in chosen["label"]]
    return rows([judged_text(row) for _, row in chosen.iterrows()], [""] * len(chosen), labels, JUDGED_WEIGHT), taken


def judged_text(row: pd.Series) -> str:
    """Opening and ending with neutral filling between them, about as long as the answer was."""
    if not isinstance(row["tail"], str):
        return str(row["head"])
    filling = "x " * max(0, min(int(row["n_chars"]), 3000) // 2 - 250)
    return f"{row['head']}\n{filling}\n{row['tail']}"


def folds(table: pd.DataFrame, kind: str) -> Iterator[tuple[Mask, Mask]]:
    """Train and test masks: ``model`` held out, and its prompts (5 folds) or topics (``type``) with it."""
    models, topics = table["model"].to_numpy(), table["type"].to_numpy()
    ids = np.array(sorted(set(table["id"])))
    np.random.default_rng(SEED).shuffle(ids)
    numbers = {name: position % 5 for position, name in enumerate(ids)}
    parts = table["id"].map(numbers).to_numpy() if kind == "prompt" else topics
    for model in sorted(set(models)):
        if kind == "model":
            yield models != model, models == model
            continue
        for part in sorted(set(parts)):
            yield (models != model) & (parts != part), (models == model) & (parts == part)


def verdicts(weights: Weights, table: pd.DataFrame, chosen: Mask) -> list[Verdict]:
    """What a cascade with these weights says of the chosen rows."""
    part = table[chosen]
    requests = [ScoreRequest(c, p) for c, p in zip(part["completion"], part["prompt"], strict=True)]
    return list(Cascade(weights).score(requests))


def held_out(table: pd.DataFrame, human: Rows, alone: Rows, others: Rows, kind: str) -> list[Verdict]:
    """Verdicts on every row by a model that saw neither its model nor its prompt or topic."""
    found: list[Verdict | None] = [None] * len(table)
    for train, test in folds(table, kind):
        weights = fit(human.where(train) + alone.where(train) + others)
        for index, verdict in zip(np.flatnonzero(test), verdicts(weights, table, test), strict=True):
            found[index] = verdict
    return [verdict for verdict in found if verdict is not None]


def show(name: str, labels: list[str], said: list[Verdict], groups: pd.Series, clusters: pd.Series) -> None:
    """One row of the table of bars."""
    for result in validate(name, labels, said, groups=[list(groups)], clusters=list(clusters)):
        low, high = result["accuracy_interval"]
        without = result["without_partial"]["accuracy"]
        figures = ", ".join(
            f"{figure} {result[figure]:.4f}" for figure in ("kappa", "macro_f1", "macro_f1_three", "ece", "brier")
        )
        print(
            f"{name:26} {result['group']:16} n {result['n']:5} accuracy {result['accuracy']:.4f}"
            f" [{low:.4f}, {high:.4f}] {figures}, without partial {without:.4f}"
        )


def evaluate(table: pd.DataFrame, human: Rows, alone: Rows, others: Rows) -> None:
    """Print the dev rows of the table of bars."""
    labels = list(table["final_label"].map(LABELS))
    everything = np.ones(len(table), bool)
    runs = {"none of it, invented only": verdicts(fit(invented() + _some_partial()), table, everything)}
    runs["none of it"] = verdicts(fit(others + _some_partial()), table, everything)
    for kind in ("model", "prompt", "type"):
        name = "model held out" if kind == "model" else f"model and {kind} held out"
        runs[name] = held_out(table, human, alone, others, kind)
    for name, said in runs.items():
        show(name, labels, said, table["model"], table["id"])


def _some_partial() -> Rows:
    """Two rows, so that the partial regression has both classes where no human table is used."""
    return Rows([{"item 1": 1.0}, {"refusal 0": 1.0}], ["partial", "refused"], [0.01, 0.01])


def main() -> None:
    """Train, evaluate and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--human", type=Path, required=True)
    parser.add_argument("--judged", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--evaluate", action="store_true")
    options = parser.parse_args()
    table = pd.read_csv(options.human)
    labels = list(table["final_label"].map(LABELS))
    human = rows(list(table["completion"]), list(table["prompt"]), labels, 1.0)
    alone = rows(list(table["completion"]), [""] * len(table), labels, PROMPTLESS)
    others = invented()
    if options.judged:
        heads = pd.read_csv(options.judged)
        drawn, taken = judged(heads)
        others = others + drawn
    if options.evaluate:
        evaluate(table, human, alone, others)
    weights = fit(human + alone + others)
    if options.judged and options.evaluate:
        rest = heads[~taken & heads["label"].isin(["refused", "complied"]).to_numpy()]
        said = list(Cascade(weights).score(ScoreRequest(judged_text(row)) for _, row in rest.iterrows()))
        show("judged, rows not trained on", list(rest["label"]), said, rest["source"], pd.Series(range(len(rest))))
    if options.out:
        content = weights_table(weights.refused, weights.partial)
        write_json(options.out, content)
        print(f"{options.out}: {content['digest']}")


if __name__ == "__main__":
    main()
