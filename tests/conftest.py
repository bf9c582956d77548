"""What tests of several files stand on: a browser, and a place that is searched for secrets."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from demur.tests.browsing import opened_browser

    with opened_browser() as one:
        yield one


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, caplog: Any) -> Any:
    from demur.benchmark.models import server
    from demur.tests.planted import Place

    monkeypatch.setattr(server, "BACKOFF_S", 0.002)
    monkeypatch.setattr(server, "ATTEMPTS", 2)
    monkeypatch.setattr(server, "FIRST_CONTACT_ATTEMPTS", 2)
    return Place(tmp_path / "place", monkeypatch, capfd, caplog)
