"""Demur: a benchmark of refusal consistency for language models, Mixture-of-Experts and dense.

The public face is loaded on first use, so ``import demur`` is cheap and reads neither models nor data.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .benchmark.dataset import load_prompts
    from .benchmark.errors import DemurError
    from .benchmark.models import load_model
    from .benchmark.running import run
    from .leaderboard.ranking import rank
    from .leaderboard.submissions.submission import submit
    from .scorers.scoring import score

__all__ = ["DemurError", "load_model", "load_prompts", "rank", "run", "score", "submit"]

_HOMES = {
    "DemurError": ".benchmark.errors",
    "load_model": ".benchmark.models",
    "load_prompts": ".benchmark.dataset",
    "rank": ".leaderboard.ranking",
    "run": ".benchmark.running",
    "score": ".scorers.scoring",
    "submit": ".leaderboard.submissions.submission",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its room."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
