"""The same run on many machines: batches answered by actors of Ray Data (https://docs.ray.io/en/latest/data)."""

import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import ray
import ray.data
from ray.exceptions import RayActorError, RayTaskError

from ..errors import DemurError
from ..journal import now
from ..records import ModelInfo, Request, Response, Sampling
from . import load_model
from .base import Answered

__all__ = ["RayModel", "connect", "told"]


class RayModel:
    """A model of which every worker of a Ray cluster holds a copy.

    The plan is the model's own, and each batch is answered whole by one worker, so a run gives the table that it gives
    on one machine of the same kind. A worker that dies is replaced, and its batch asked again; the run folder is
    written by this process alone.

    The cluster is the one that ``RAY_ADDRESS`` names, or that this process runs in; without one, Ray starts on this
    machine.

    Args:
        spec: the model, as for :func:`.load_model`; every worker must be able to load it.
        options: of the model.
        workers: copies of the model that answer at the same time.
        gpus: GPUs of each worker.

    Raises:
        DemurError: no cluster can be reached, or the model cannot be loaded.
    """

    def __init__(self, spec: str, options: Mapping[str, Any], *, workers: int, gpus: float = 0.0) -> None:
        connect(workers, gpus)
        self._spec, self._options, self._workers, self._gpus = spec, dict(options), workers, gpus
        with told():
            # A worker makes the plan: the model need not fit onto the machine where the command runs.
            self._planner = cast("Any", ray.remote(_Planner).options(num_gpus=gpus).remote(spec, self._options))
            self._info, self._template_sha256 = ray.get(self._planner.about.remote())

    @property
    def info(self) -> ModelInfo:
        """That of the model: the engine leaves no trace in what was asked."""
        info: ModelInfo = self._info
        return info

    @property
    def template_sha256(self) -> str | None:
        """That of the model."""
        template: str | None = self._template_sha256
        return template

    def plan(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Request]]:
        """The model's own plan."""
        with told():
            plan: list[list[Request]] = ray.get(self._planner.plan.remote(list(requests), sampling))
        return plan

    def respond(self, batch: Sequence[Request], sampling: Sampling) -> Iterator[Response]:
        """Answer one batch."""
        for answered in self.respond_all([(0, list(batch))], sampling):
            yield from answered.responses

    def respond_all(self, batches: Sequence[tuple[int, list[Request]]], sampling: Sampling) -> Iterator[Answered]:
        """Answer batches, in the order in which workers end them."""
        # The planner's place is needed for the workers.
        ray.kill(self._planner)
        rows = [{"number": number, "requests": pickle.dumps(requests)} for number, requests in batches]
        if not rows:
            return
        ray.data.DataContext.get_current().enable_progress_bars = False
        with told():
            answered = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
                _Worker,
                fn_constructor_args=(self._spec, self._options, sampling),
                batch_size=1,
                concurrency=min(self._workers, len(rows)),
                num_cpus=1,
                num_gpus=self._gpus,
                max_restarts=-1,
                max_task_retries=-1,
            )
            for row in answered.iter_rows():
                responses, started_at, seconds = pickle.loads(row["answered"])
                yield Answered(int(row["number"]), responses, started_at, seconds)


def connect(workers: int, gpus: float) -> None:
    """Join the cluster, or start one on this machine.

    Raises:
        DemurError: the numbers are out of range, or no cluster can be reached.
    """
    if workers < 1 or gpus < 0:
        raise DemurError("workers are a number from 1, GPUs one from 0", "correct the option")
    try:
        ray.init(ignore_reinit_error=True, log_to_driver=False, include_dashboard=False)
    except (ConnectionError, OSError, RuntimeError, ValueError) as fault:
        raise DemurError(f"Ray does not start: {str(fault)[:300]}", "check RAY_ADDRESS and the cluster") from fault


class _Planner:
    """Tells of the model and makes the plan, on a worker."""

    def __init__(self, spec: str, options: Mapping[str, Any]) -> None:
        self._model = load_model(spec, **options)

    def about(self) -> tuple[ModelInfo, str | None]:
        return self._model.info, self._model.template_sha256

    def plan(self, requests: list[Request], sampling: Sampling) -> list[list[Request]]:
        return self._model.plan(requests, sampling)


class _Worker:
    """Answers batches on a worker; the model is loaded once."""

    def __init__(self, spec: str, options: Mapping[str, Any], sampling: Sampling) -> None:
        self._model, self._sampling = load_model(spec, **options), sampling

    def __call__(self, rows: dict[str, Any]) -> dict[str, list[Any]]:
        (number,), (packed,) = rows["number"], rows["requests"]
        started_at, start = now(), time.monotonic()
        requests: list[Request] = pickle.loads(packed)
        responses = list(self._model.respond(requests, self._sampling)) if requests else []
        answered = pickle.dumps((responses, started_at, time.monotonic() - start))
        return {"number": [number], "answered": [answered]}


@contextmanager
def told() -> Iterator[None]:
    """Give a fault that the user can mend as it was raised on the worker."""
    try:
        yield
    except (RayTaskError, RayActorError) as fault:
        cause: BaseException | None = fault
        while cause is not None and not isinstance(cause, DemurError):
            cause = getattr(cause, "cause", None) or cause.__cause__
        if cause is None:
            raise DemurError(
                f"a worker failed: {str(fault).strip().splitlines()[-1][:300]}", "see Ray's logs"
            ) from fault
        raise cause from fault
