"""Calling a reader with something hostile: a result or a DemurError, in bounded time."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from demur.benchmark.errors import DemurError

SECONDS = 20


@contextmanager
def in_time() -> Iterator[None]:
    def late(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"not done within {SECONDS} s of processor time, or six times that by the clock")

    # By the clock alone a busy machine would be at fault.
    before = [signal.signal(which, late) for which in (signal.SIGALRM, signal.SIGPROF)]
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(6 * SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for which, handler in zip((signal.SIGALRM, signal.SIGPROF), before, strict=True):
            signal.signal(which, handler)


def tried(read: Callable[[Any], Any], given_: Any) -> None:
    said = "a result"
    with in_time():
        try:
            read(given_)
        except DemurError as fault:
            said = str(fault)
    assert said.strip()
    assert "Traceback" not in said
    assert len(said) < 20_000
