"""Responses to verdicts: the scorers by name."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..benchmark.errors import DemurError
from ..benchmark.extras import need
from .cascade import Cascade
from .lexicon import Lexicon
from .precomputed import Precomputed
from .verdicts import Scorer

if TYPE_CHECKING:
    from .judge import JudgeSettings

__all__ = ["DEFAULT_SCORER", "FAMILIES", "SCORERS", "get_scorer", "ray_scorer"]

DEFAULT_SCORER = "cascade"
SCORERS: Mapping[str, Callable[[], Scorer]] = {"cascade": Cascade, "lexicon": Lexicon}
FAMILIES = {
    "precomputed": "precomputed:FILE, labels made elsewhere",
    "judge": "judge:MODEL, a chat model behind an OpenAI-compatible server; judge:A,B,C is a council",
    "guard": "guard:NAME, a public guard model from the Hub, or guard:NAME@FOLDER",
}
"""Scorers that are named with what they are made of."""


def get_scorer(name: str, judge: "JudgeSettings | None" = None) -> Scorer:
    """The scorer of a name: one of :data:`SCORERS`, or one of :data:`FAMILIES` with what it is made of.

    Args:
        name: for example ``cascade``, ``precomputed:labels.csv``, ``judge:gpt-oss-20b``, ``guard:wildguard``.
        judge: how judges are asked; other scorers do not look at it.

    Raises:
        DemurError: there is none of this name, or what it is made of cannot be used.
    """
    family, colon, rest = name.partition(":")
    if colon and rest and family == "precomputed":
        return Precomputed(Path(rest))
    # Loaded on first use: a scorer must be cheap to import, and these need an HTTP client or torch.
    if colon and rest and family == "judge":
        module = import_module(".judge", __name__)
        return cast("Scorer", module.Judge(module.parse_members(rest), judge))
    if colon and rest and family == "guard":
        return cast("Scorer", import_module(".guards", __name__).load_guard(rest))
    if name not in SCORERS:
        known = "\n".join(f"    {what}" for what in (", ".join(sorted(SCORERS)), *FAMILIES.values()))
        raise DemurError(f"unknown scorer {name!r}", f"choose one of these\n{known}")
    return SCORERS[name]()


def ray_scorer(name: str, *, workers: int = 1, gpus: float = 0.0) -> Scorer:
    """The scorer of a name on a Ray cluster, which gives the same verdicts; see :class:`.ray.RayScorer`.

    Raises:
        DemurError: Ray is not installed, no cluster can be reached, or as :func:`get_scorer` does.
    """
    need("ray", "ray")
    return cast("Scorer", import_module(".ray", __name__).RayScorer(name, workers=workers, gpus=gpus))
