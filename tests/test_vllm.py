"""The adapter of vLLM's engine: its contract, against a stand-in that has the engine's interface."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from demur.benchmark.errors import DemurError
from demur.benchmark.models import BACKENDS, load_model
from demur.benchmark.records import Provenance, Sampling
from demur.benchmark.running import check_run, read_run, run
from demur.tests import tiny

CALLS: list[tuple[Any, Any]] = []
WARM = Sampling(temperature=0.7, top_p=0.9, max_new_tokens=16, seed=3)


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_the_engine_the_extra_is_named() -> None:
    with pytest.raises(DemurError, match=r"package vllm, which is not installed\n.*demur\[vllm\]"):
        load_model("vllm:maker/model")


class SamplingParams(SimpleNamespace):
    pass


class LLM:
    """Says back what it is asked; the prompt decides how it ends."""

    def __init__(self, model: str, **options: Any) -> None:
        assert set(options) == {"dtype", "tensor_parallel_size"}
        if model == "damaged":
            raise ValueError("no config.json")
        self.words = tiny.tokenizer()
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(dtype="torch.bfloat16", revision="abc"))

    def get_tokenizer(self) -> Any:
        return self.words

    def chat(self, messages: list[Any], settings: list[Any], *, use_tqdm: bool) -> list[Any]:
        assert not use_tqdm
        CALLS.append((messages, settings))
        return [
            self.output(message[0]["content"], setting) for message, setting in zip(messages, settings, strict=True)
        ]

    def output(self, asked: str, setting: Any) -> Any:
        says, reason = f"No, {asked} {setting.seed}", "stop"
        if asked == "think":
            says = "<think>hm hm</think>\nNo."
        if asked == "abort":
            says, reason = "", "abort"
        if asked == "long":
            reason = "length"
        tokens = self.words(says, add_special_tokens=False)["input_ids"]
        made = SimpleNamespace(text=says, token_ids=tuple(tokens), finish_reason=reason)
        return SimpleNamespace(prompt_token_ids=[1, 2, 3], outputs=[made])


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    engine: Any = ModuleType("vllm")
    engine.LLM, engine.SamplingParams = LLM, SamplingParams
    monkeypatch.setitem(sys.modules, "vllm", engine)
    monkeypatch.delitem(sys.modules, "demur.benchmark.models.vllm", raising=False)
    monkeypatch.setitem(BACKENDS, "vllm", replace(BACKENDS["vllm"], needs=None))
    CALLS.clear()
    yield load_model("vllm:maker/model", dtype="bfloat16")
    sys.modules.pop("demur.benchmark.models.vllm", None)


def test_each_response_has_a_request_and_a_seed_of_its_own(model: Any) -> None:
    requests = tiny.requests(samples=3)
    responses = list(model.respond(requests, WARM))
    assert [(each.prompt_id, each.sample) for each in responses] == [
        (request.prompt.id, sample) for request in requests for sample in range(3)
    ]
    ((messages, settings),) = CALLS
    assert messages[0] == [{"role": "user", "content": tiny.TEXTS[0]}]
    assert len({setting.seed for setting in settings}) == len(settings) == 21
    assert vars(settings[0]) | {"seed": 0} == {"temperature": 0.7, "top_p": 0.9, "max_tokens": 16, "seed": 0}
    assert all(each.n_tokens and each.n_prompt_tokens == 3 for each in responses)
    assert (model.info.backend, model.info.dtype, model.info.revision) == ("vllm", "bfloat16", "abc")
    assert len(model.template_sha256) == 64


def test_greedy_decoding_is_one_request_a_prompt(model: Any) -> None:
    responses = list(model.respond(tiny.requests(samples=3), Sampling(temperature=0.0)))
    assert len(CALLS[0][0]) == 7
    assert len(responses) == 21
    assert len({each.text for each in responses}) == 7


def test_ends(model: Any) -> None:
    think, abort, long = list(model.respond(tiny.requests(1, ("think", "abort", "long")), WARM))
    assert (think.text, think.finish_reason) == ("No.", "stop")
    assert think.n_thinking_tokens > 0
    assert (abort.text, abort.finish_reason, abort.error) == ("", "error", "vLLM ended with 'abort'")
    assert long.finish_reason == "length"


def test_a_run_is_whole(model: Any, tmp_path: Path) -> None:
    prompts = [request.prompt for request in tiny.requests()]
    provenance = Provenance("1.0.0", "0" * 64, "0.1.0")
    run(model, prompts, sampling=WARM, samples=2, out=tmp_path / "r", provenance=provenance)
    assert check_run(tmp_path / "r") == []
    assert len(read_run(tmp_path / "r").responses) == 14


def test_faults_are_told(model: Any) -> None:
    with pytest.raises(DemurError, match=r"vLLM cannot load it: no config\.json"):
        load_model("vllm:damaged")
    with pytest.raises(DemurError, match="number from 1"):
        load_model("vllm:m", tensor_parallel=0)
