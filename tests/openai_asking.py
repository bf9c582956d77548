"""Asking a server on loopback that answers by a script: what the tests of the OpenAI-compatible backend share."""

from collections import Counter
from typing import Any

import pytest

from demur.benchmark.models import server
from demur.benchmark.models.openai import OpenAIModel
from demur.benchmark.records import Prompt, Provenance, Request, Response, Sampling
from demur.tests.fault_server import Act, Script, always, serving
from demur.tests.invented import invented

KEY = "sk-demur-not-a-real-key-1234567890"
WARM, COLD = Sampling(temperature=0.7, max_new_tokens=48), Sampling(temperature=0.0, max_new_tokens=48)
PROVENANCE = Provenance("1.0.0", "0" * 64, "0.1.0")


def prompt(number: int) -> Prompt:
    return invented(f"p{number}", f"What colour is the {number}th house in the street by the river?")


def asking(count: int = 1, samples: int = 1) -> list[Request]:
    return [Request(prompt(number), tuple(range(samples))) for number in range(count)]


def ask(script: Script, requests: list[Request], sampling: Sampling = COLD, **options: Any) -> Any:
    """The responses by (prompt number, sample), the model, and the server."""
    with serving(script) as found:
        model = OpenAIModel("m", base_url=found.url, **options)
        responses = list(model.respond(requests, sampling))
    keys = [(response.prompt_id, response.sample) for response in responses]
    assert Counter(keys) == Counter((each.prompt.id, sample) for each in requests for sample in each.samples)
    return {(int(each.prompt_id[1:].split("/")[0]), each.sample): each for each in responses}, model, found


def one(act: Act, sampling: Sampling = COLD, **options: Any) -> Response:
    return ask(always(act), asking(), sampling, **options)[0][0, 0]


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No long waits, and no settings of the machine."""
    monkeypatch.setattr(server, "BACKOFF_S", 0.005)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
