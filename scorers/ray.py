"""The same verdicts on many machines: responses judged in tasks of Ray (https://docs.ray.io/en/latest/ray-core)."""

from collections import deque
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice
from typing import Any, cast

import ray

from ..benchmark.errors import DemurError
from ..benchmark.models.ray import connect, told
from . import get_scorer
from .verdicts import Scorer, ScoreRequest, ScorerInfo, Verdict

__all__ = ["RayScorer"]

CHUNK = 128


class RayScorer:
    """A scorer that judges on the workers of a Ray cluster, in the order of the responses.

    Each worker loads the scorer once. The work of one that dies is done again by another.

    Args:
        name: of a scorer that needs no server: judges are asked by one process with many requests in flight.
        workers: pieces that are judged at the same time.
        gpus: GPUs of each.

    Raises:
        DemurError: a judge, no cluster, or as :func:`.get_scorer` does.
    """

    def __init__(self, name: str, *, workers: int, gpus: float = 0.0) -> None:
        if name.startswith("judge:"):
            raise DemurError(f"{name} is asked over the network", "leave --engine out and raise --concurrency")
        connect(workers, gpus)
        self._name, self._workers = name, workers
        self._judge = cast("Any", ray.remote(_judge)).options(num_gpus=gpus, max_retries=-1)
        about = cast("Any", ray.remote(_about)).options(num_gpus=gpus, max_retries=-1)
        with told():
            self._info, self.harmful_only = ray.get(about.remote(name))

    @property
    def info(self) -> ScorerInfo:
        """That of the scorer: the engine leaves no trace in the verdicts."""
        info: ScorerInfo = self._info
        return info

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Verdict]:
        """Judge responses; verdicts come in their order."""
        coming, flying = iter(requests), deque[Any]()
        with told():
            while chunk := list(islice(coming, CHUNK)):
                flying.append(self._judge.remote(self._name, chunk))
                if len(flying) > self._workers:
                    yield from ray.get(flying.popleft())
            while flying:
                yield from ray.get(flying.popleft())


@cache
def _scorer(name: str) -> Scorer:
    return get_scorer(name)


def _about(name: str) -> tuple[ScorerInfo, bool]:
    return _scorer(name).info, getattr(_scorer(name), "harmful_only", False)


def _judge(name: str, requests: list[ScoreRequest]) -> list[Verdict]:
    return list(_scorer(name).score(requests))
