"""Figures that do not depend on how many threads a machine has."""

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

__all__ = ["one_blas_thread"]


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Multiply matrices on one thread, as a context or a decorator: with more, sums are rounded in another order."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield
