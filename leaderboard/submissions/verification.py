"""Asking a model again: do a random part of a submission's verdicts come out as submitted?"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...benchmark.errors import DemurError
from ...benchmark.models.base import Model
from ...benchmark.prompts import load_prompt_set
from ...benchmark.records import Prompt, Request, Sampling
from ...scorers.verdicts import Scorer, ScoreRequest
from ..statistics.draws import READINGS
from ..statistics.threads import one_blas_thread
from ..statistics.uncertainty import CONFIDENCE, REPLICATES, SEED, stratified_weights
from ..statistics.values import Estimate
from .submitted import Submission

__all__ = ["Verification", "verify"]

SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Verification:
    """What came out.

    Attributes:
        prompts: prompts asked again.
        scored: those with a scored answer now and a scored submitted one.
        agreement: mean over prompts of the share of submitted draws that read as the greedy answer does now, with its
            interval over prompts.
        own_agreement: the same of the submission with itself: each of its draws against the others of the prompt. At
            temperature 0 it is 1; above, no re-run can be expected to agree more than this.
        consistent: the interval of ``agreement`` reaches ``own_agreement`` or lies above it.
    """

    prompts: int
    scored: int
    agreement: Estimate
    own_agreement: float | None
    consistent: bool


def verify(
    submission: Submission, model: Model, scorer: Scorer, *, share: float = SHARE, seed: int = SEED
) -> Verification:
    """Ask a random part of the prompts again, greedily, and compare the default reading.

    Args:
        submission: whose prompts and verdicts.
        model: the model that it names.
        scorer: the scorer that it names.
        share: of its prompts, at least one of each side.
        seed: of the choice.

    Raises:
        DemurError: another scorer than the submission's, or prompts that are not at hand.
    """
    info = submission.info
    own = (scorer.info.name, scorer.info.version, scorer.info.weights_hash)
    if own != (info.scorer.name, info.scorer.version, info.scorer.hash):
        raise DemurError(
            f"{info.id} was scored by {info.scorer.name} {info.scorer.version} ({info.scorer.hash}), "
            f"not by {own[0]} {own[1]} ({own[2]})",
            "install the release of demur that made it",
        )
    chosen = _chosen(submission, share, seed)
    sampling = Sampling(0.0, 1.0, info.setting.max_new_tokens, info.setting.seed)
    requests = [Request(prompt, (0,)) for prompt in chosen]
    texts = {prompt.id: prompt.text for prompt in chosen}
    answers = [answer for batch in model.plan(requests, sampling) for answer in model.respond(batch, sampling)]
    asked = [ScoreRequest(one.text, texts[one.prompt_id], one.finish_reason, one.error) for one in answers]
    labels = [verdict.label for verdict in scorer.score(asked)]
    now = pd.Series({one.prompt_id: label for one, label in zip(answers, labels, strict=True)})
    return _compared(submission.verdicts, now[now != "unscored"].isin(READINGS["refused"]), len(chosen))


def _chosen(submission: Submission, share: float, seed: int) -> list[Prompt]:
    info = submission.info
    asked = set(submission.verdicts["prompt_id"])
    known = load_prompt_set(info.prompts.split, version=info.prompts.version).prompts
    generator = np.random.default_rng(seed)
    chosen: list[Prompt] = []
    for side in ("harmful", "benign"):
        own = [prompt for prompt in known if prompt.side == side and prompt.id in asked]
        size = min(len(own), max(1, math.ceil(share * len(own))))
        chosen += [own[at] for at in sorted(generator.choice(len(own), size=size, replace=False))]
    return chosen


def _compared(verdicts: pd.DataFrame, now: pd.Series, prompts: int) -> Verification:
    rows = verdicts[verdicts["prompt_id"].isin(now.index) & (verdicts["label"] != "unscored")]
    refused = rows["label"].isin(READINGS["refused"])
    by_prompt = refused.groupby(rows["prompt_id"]).agg(["sum", "count"])
    if by_prompt.empty:
        return Verification(prompts, 0, Estimate(None), None, consistent=False)
    r, n = by_prompt["sum"].to_numpy(dtype=np.float64), by_prompt["count"].to_numpy(dtype=np.float64)
    answer = now.reindex(by_prompt.index).to_numpy(dtype=bool)
    alike = np.where(answer, r / n, 1 - r / n)
    several = n > 1
    couples = (r * (r - 1) + (n - r) * (n - r - 1)) / np.where(several, n * (n - 1), 1)
    own = float(couples[several].mean()) if several.any() else None
    agreement = _with_interval(alike)
    reach = 1.0 if own is None else own
    return Verification(
        prompts=prompts,
        scored=len(alike),
        agreement=agreement,
        own_agreement=own,
        consistent=agreement.high is not None and agreement.high >= reach - 1e-12,
    )


@one_blas_thread()
def _with_interval(alike: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Estimate:
    """Mean with a percentile interval over prompts; the exact bound where all agree or none does."""
    value, n, tail = float(alike.mean()), len(alike), (1 - CONFIDENCE) / 2
    if n < 2 or value in (0.0, 1.0):
        reach = tail ** (1 / n)
        low, high = (reach, 1.0) if value == 1.0 else (0.0, 1 - reach) if value == 0.0 else (0.0, 1.0)
    else:
        means = stratified_weights(np.zeros(n, dtype=np.int64), REPLICATES, SEED) @ alike / n
        low, high = (float(end) for end in np.quantile(means, [tail, 1 - tail]))
    return Estimate(value, low, high, low, high)
