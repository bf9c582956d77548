"""Planted tokens of the Hub: no command may write or print one, however it ends."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from huggingface_hub.utils import close_session

from demur.tests import hub_server
from demur.tests.planted import ECHOES, Place, marker

HUB_COMMANDS = (
    ("access", "requests", "org/demur"),
    ("access", "accept", "org/demur", "ann"),
    ("access", "reject", "org/demur", "ben", "--reason", "no"),
    ("prompts", "publish", "org/demur"),
    ("submit", "run", "--to", "hub:org/demur"),
    ("submit", "run", "--to", "there", "--with-responses", "hub:org/demur"),
    ("run", "org/model", "--out", "other"),
)


@pytest.fixture
def hub(place: Place) -> Iterator[Any]:
    with hub_server.serving() as (state, endpoint):
        from huggingface_hub import constants

        place.patch.setenv("HF_ENDPOINT", endpoint)
        place.patch.setattr(constants, "ENDPOINT", endpoint)
        place.patch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        place.patch.setattr(time, "sleep", lambda _: None)
        # Every client looks the token up where it is kept; the server compares.
        place.patch.setattr(hub_server, "TOKEN", marker("hf_"))
        yield state
        close_session()


@pytest.fixture(params=["HF_TOKEN", "login file"])
def token(request: pytest.FixtureRequest, place: Place, hub: Any) -> tuple[str, tuple[Path, ...]]:
    """The token, and the files that hold it rightly."""
    if request.param == "HF_TOKEN":
        place.patch.setenv("HF_TOKEN", hub_server.TOKEN)
        return hub_server.TOKEN, ()
    kept = place.folder / "hf" / "token"
    kept.write_text(f"{hub_server.TOKEN}\n")
    return hub_server.TOKEN, (kept,)


@pytest.fixture
def scored(place: Place) -> None:
    from demur.tests.submissions import scored_run

    scored_run(place.folder / "run", samples=1)


def echoing(status: int, echo: Callable[[str], str], code: str) -> Callable[[Any], tuple[int, Any, str, str]]:
    def fault(headers: Any) -> tuple[int, Any, str, str]:
        said = echo((headers.get("Authorization") or "").removeprefix("Bearer "))
        return status, {"error": said, "errors": [{"message": said}]}, code, quote(said, safe=" :/+'{}")

    return fault


@pytest.mark.usefixtures("scored")
def test_a_token_leaves_no_trace(place: Place, hub: Any, token: tuple[str, tuple[Path, ...]]) -> None:
    for command in HUB_COMMANDS[:3]:
        hub.exists = True
        assert place.demur(*command) == 0, place.last
    assert place.demur("prompts", "publish", "org/demur") == 0, place.last
    for command in HUB_COMMANDS[4:]:
        place.demur(*command)
    assert hub.log
    assert place.traces(token[0], *token[1]) == []


class Always(dict[str, list[Any]]):
    """The same fault at every request."""

    def __init__(self, fault: Any) -> None:
        super().__init__()
        self.fault = fault

    def get(self, _name: str, _default: object = None) -> Any:
        return [self.fault]


@pytest.mark.usefixtures("scored")
@pytest.mark.parametrize("status", [400, 401, 403, 422, 500, "drop"])
def test_a_token_that_the_hub_repeats(status: int | str, place: Place, hub: Any) -> None:
    token = hub_server.TOKEN
    place.patch.setenv("HF_TOKEN", token)
    for number, command in enumerate(HUB_COMMANDS):
        echo = list(ECHOES.values())[number % len(ECHOES)]
        hub.faults = Always("drop" if isinstance(status, str) else echoing(status, echo, "Odd"))
        hub.exists = True
        assert place.demur(*command) == 1, (command, place.last)
        assert "Mend:" in place.last, (command, place.last)
    assert "Traceback" not in place.said
    assert place.traces(token) == []


@pytest.mark.usefixtures("hub", "scored")
@pytest.mark.parametrize("broken", ["{}x", "{}é", "a\nb{}"])
def test_a_token_that_is_none(broken: str, place: Place) -> None:
    secret = broken.format(hub_server.TOKEN)
    place.patch.setenv("HF_TOKEN", secret)
    for command in HUB_COMMANDS:
        assert place.demur(*command) == 1, (command, place.last)
    assert "Traceback" not in place.said
    assert place.traces(hub_server.TOKEN) == []
