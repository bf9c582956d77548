"""Asking transformers models: equal to ``generate``, independent of the batch, every fault one message."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from demur.benchmark.errors import DemurError
from demur.benchmark.models import load_model
from demur.benchmark.models.decoding import Limits, decode
from demur.benchmark.models.drawing import next_tokens, row_seed, uniforms
from demur.benchmark.models.hf import TransformersModel
from demur.benchmark.models.loading import choose_device, choose_dtype
from demur.benchmark.models.memory import out_of_memory
from demur.benchmark.records import Request, Response, Sampling
from demur.tests import tiny

GREEDY = Sampling(temperature=0.0, max_new_tokens=90)
DRAWN = Sampling(temperature=1.0, top_p=0.95, max_new_tokens=12, seed=3)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: tiny.save(tmp_path_factory.mktemp(kind) / "model", kind) for kind in tiny.CONFIGS}


@pytest.fixture
def model(folders: dict[str, Path]) -> TransformersModel:
    return TransformersModel(str(folders["llama"]), dtype="float32")


def ask(model: TransformersModel, requests: list[Request], sampling: Sampling) -> dict[tuple[str, int], Response]:
    found = [each for batch in model.plan(requests, sampling) for each in model.respond(batch, sampling)]
    answers = {(each.prompt_id, each.sample): each for each in found}
    assert len(answers) == len(found) == sum(len(request.samples) for request in requests)
    return answers


def generated(model: TransformersModel, text: str, limit: int) -> list[int]:
    ids = torch.tensor([model.encode(text)])
    out = model.model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=limit
    )
    return out[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("kind", list(tiny.CONFIGS))
def test_greedy_equals_generate(folders: dict[str, Path], kind: str) -> None:
    model = TransformersModel(str(folders[kind]), dtype="float32")
    ends = [model.tokenizer.eos_token_id, 40]
    model.model.generation_config.eos_token_id = ends
    prompts = [model.encode(text) for text in tiny.TEXTS]
    limits = Limits(frozenset(ends), 70)
    outputs = decode(
        model.model,
        prompts,
        [1] * len(prompts),
        opened=[False] * len(prompts),
        limits=limits,
        choose=lambda logits, _rows, _step: logits.argmax(-1),
    )
    found = {output.row: output for output in outputs}
    for row, text in enumerate(tiny.TEXTS):
        expected = generated(model, text, 70)
        stopped = expected[-1] in ends
        assert found[row].tokens == (expected[:-1] if stopped else expected)
        assert found[row].end == ("stop" if stopped else "length")
    assert {output.end for output in found.values()} == {"stop", "length"} or kind != "llama"


def test_greedy_samples_are_one_answer(model: TransformersModel) -> None:
    answers = ask(model, tiny.requests(3), GREEDY)
    for request in tiny.requests(3):
        same = [answers[request.prompt.id, sample] for sample in range(3)]
        assert same[0].text == same[1].text == same[2].text
        assert same[0].n_prompt_tokens == len(model.encode(request.prompt.text))


@pytest.mark.parametrize("kind", ["llama", "mistral-window", "mixtral"])
def test_a_response_does_not_depend_on_its_batch(folders: dict[str, Path], kind: str) -> None:
    model = TransformersModel(str(folders[kind]), dtype="float32")
    together = ask(model, tiny.requests(3), DRAWN)
    for request in tiny.requests(3):
        assert (
            ask(model, [Request(request.prompt, (1,))], DRAWN)[request.prompt.id, 1] == together[request.prompt.id, 1]
        )
    small = TransformersModel(str(folders[kind]), dtype="float32", batch_rows=2)
    assert ask(small, tiny.requests(3), DRAWN) == together


def test_a_model_laid_over_devices_answers_alike(
    folders: dict[str, Path], model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine with one device accelerate lays all of it there."""
    pytest.importorskip("accelerate", reason="not installed: accelerate (pip install 'demur[demo]')")
    asked: list[object] = []
    load = AutoModelForCausalLM.from_pretrained

    def watched(*where: object, **options: object) -> object:
        asked.append(options.get("device_map"))
        return load(*where, **options)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", watched)
    spread = TransformersModel(str(folders["llama"]), dtype="float32", device="auto")
    assert asked == ["auto"]
    assert ask(spread, tiny.requests(2), DRAWN) == ask(model, tiny.requests(2), DRAWN)


def test_samples_and_seeds_differ(model: TransformersModel) -> None:
    texts = {each.text for each in ask(model, tiny.requests(4, ("hi",)), DRAWN).values()}
    assert len(texts) == 4
    other = Sampling(temperature=1.0, top_p=0.95, max_new_tokens=12, seed=4)
    assert texts.isdisjoint(each.text for each in ask(model, tiny.requests(4, ("hi",)), other).values())


def test_counts_and_reasons(model: TransformersModel) -> None:
    model.model.generation_config.eos_token_id = list(range(40, 60))
    answers = ask(model, tiny.requests(4), DRAWN)
    assert {each.finish_reason for each in answers.values()} == {"stop", "length"}
    for each in answers.values():
        assert each.n_tokens <= DRAWN.max_new_tokens
        assert (each.n_tokens == DRAWN.max_new_tokens) == (each.finish_reason == "length")
        assert each.n_thinking_tokens == 0


@given(order=st.permutations(range(len(tiny.TEXTS))), rows=st.integers(1, 9), samples=st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_the_plan_depends_on_requests_alone(planner: TransformersModel, order: list, rows: int, samples: int) -> None:
    planner._batch_rows = rows
    whole = tiny.requests(samples)
    plan = planner.plan(whole, DRAWN)
    assert plan == planner.plan([whole[number] for number in order], DRAWN)
    planned = sorted((each.prompt.id, sample) for batch in plan for each in batch for sample in each.samples)
    assert planned == sorted((each.prompt.id, sample) for each in whole for sample in each.samples)
    assert all(sum(len(each.samples) for each in batch) <= rows for batch in plan)
    lengths = [len(planner.encode(each.prompt.text)) for batch in plan for each in batch]
    assert lengths == sorted(lengths, reverse=True)


@pytest.fixture(scope="module")
def planner(folders: dict[str, Path]) -> TransformersModel:
    return TransformersModel(str(folders["llama"]), dtype="float32")


def test_thinking_is_split_off_and_does_not_count(model: TransformersModel, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, close = (model.tokenizer.convert_tokens_to_ids(tag) for tag in ("<think>", "</think>"))
    word = model.tokenizer("bread", add_special_tokens=False)["input_ids"][:1]
    scripts = [[opened, *word * 5, close, *word * 9], [opened, *word * 40], word * 9]
    sampling = Sampling(temperature=0.0, max_new_tokens=4)

    def scripted(sampling: Sampling, seeds: list, limits: Limits):
        return lambda _logits, rows, step: torch.tensor([scripts[row][step] for row in rows.tolist()])

    monkeypatch.setattr("demur.benchmark.models.hf._chooser", scripted)
    model._thinking_tokens = 20
    answers = list(model.respond(tiny.requests(1, ("hi", "hi", "hi")), sampling))
    found = {each.prompt_id[:7]: (each.n_thinking_tokens, each.n_tokens, each.finish_reason) for each in answers}
    assert found == {"pair000": (7, 4, "length"), "pair001": (20, 0, "length"), "pair002": (0, 4, "length")}
    text = model.tokenizer.decode(word * 4)
    assert {each.prompt_id[:7]: each.text for each in answers} == {
        "pair000": text.strip(),
        "pair001": "",
        "pair002": text,
    }


def test_numbers_that_are_not_finite_are_errors(model: TransformersModel) -> None:
    model.model.lm_head.weight.data[7, 3] = float("nan")
    answers = ask(model, tiny.requests(2), DRAWN)
    assert {each.finish_reason for each in answers.values()} == {"error"}
    assert {each.error for each in answers.values()} == {"the model's numbers were not finite"}


def test_info_of_dense_and_mixture(folders: dict[str, Path]) -> None:
    dense = TransformersModel(str(folders["llama"]), dtype="float32")
    assert (dense.info.architecture, dense.info.experts, dense.info.experts_per_token) == ("dense", 0, 0)
    assert dense.info.total_parameters == dense.info.active_parameters == dense.model.num_parameters()
    assert (dense.info.id, dense.info.dtype, dense.info.backend) == ("model", "float32", "transformers")
    moe = TransformersModel(str(folders["mixtral"]), dtype="float32")
    assert (moe.info.architecture, moe.info.experts, moe.info.experts_per_token) == ("moe", 4, 2)
    one = 3 * 32 * 64
    assert moe.info.total_parameters - moe.info.active_parameters == 2 * 2 * one
    tied = TransformersModel(str(folders["llama-tied"]), dtype="float32")
    assert dense.info.total_parameters - tied.info.total_parameters == 32 * len(dense.tokenizer)


def test_revision_changes_with_the_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    first = TransformersModel(str(folders["llama"]), dtype="float32").info.revision
    copy = shutil.copytree(folders["llama"], tmp_path / "copy")
    assert TransformersModel(str(copy), dtype="float32").info.revision == first
    other = TransformersModel(str(tiny.save(tmp_path / "other", seed=1)), dtype="float32")
    assert other.info.revision != first
    assert other.template_sha256 == TransformersModel(str(copy), dtype="float32").template_sha256


def test_bfloat16_answers(folders: dict[str, Path]) -> None:
    model = TransformersModel(str(folders["llama"]), dtype="bfloat16")
    assert model.info.dtype == "bfloat16"
    assert len(ask(model, tiny.requests(2), DRAWN)) == 14


def test_no_chat_template(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "base", template=False)
    with pytest.raises(DemurError, match="no chat template") as raised:
        load_model(str(folder))
    assert "chat or instruct version" in str(raised.value)


def breaking_above(model: TransformersModel, rows: int, *, at_step: int = 0) -> list[int]:
    """Let the allocator itself refuse what more rows than these need, from a step on; gives the rows of each pass."""
    passes: list[int] = []

    def check(_module: object, _inputs: tuple, options: dict) -> None:
        passes.append(len(options["input_ids"]))
        late = options["past_key_values"].get_seq_length() >= at_step
        if passes[-1] > rows and late:
            torch.empty(2**58)

    model.model.register_forward_pre_hook(check, with_kwargs=True)
    return passes


@pytest.mark.parametrize("at_step", [0, 64])
def test_a_batch_that_does_not_fit_is_asked_in_halves(
    folders: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, at_step: int
) -> None:
    from demur.benchmark.prompts import load_prompt_set
    from demur.benchmark.running import check_run, read_run, run

    everyone = load_prompt_set("public", pairs_per_hazard=1)
    sampling = Sampling(temperature=1.0, max_new_tokens=12)
    setting = {"sampling": sampling, "samples": 4, "provenance": everyone.provenance}
    for name in ("calm", "short"):
        model = TransformersModel(str(folders["llama"]), dtype="float32", batch_rows=32)
        model.model.generation_config.eos_token_id = list(range(40, 60))
        passes = breaking_above(model, 5 if name == "short" else 1000, at_step=at_step)
        run(model, everyone.prompts[:20], out=tmp_path / name, **setting)
        assert check_run(tmp_path / name) == []
    assert [line.args for line in caplog.records] == [(32, 16), (16, 8), (8, 4)]
    assert at_step or sum(rows > 5 for rows in passes) == 3
    calm, short = (read_run(tmp_path / name).responses for name in ("calm", "short"))
    assert short.equals(calm)
    assert len(calm) == 80
    assert set(calm["finish_reason"]) == {"stop", "length"}


def test_what_fits_not_even_alone_is_told(model: TransformersModel) -> None:
    breaking_above(model, 0)
    with pytest.raises(DemurError, match="not even one response at a time fits"):
        ask(model, tiny.requests(2), DRAWN)


def test_other_faults_are_not_taken_for_missing_memory(model: TransformersModel) -> None:
    def broken(*_arguments: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    model.model.register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="mat1"):
        ask(model, tiny.requests(2), DRAWN)


@pytest.mark.parametrize(
    "fault",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
)
def test_how_devices_say_that_memory_ran_out(fault: Exception) -> None:
    assert out_of_memory(fault)


def test_unknown_and_damaged_models(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DemurError, match="no such folder or file"):
        load_model("./nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DemurError, match=r"no config\.json"):
        load_model(str(tmp_path / "empty"))
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DemurError, match="not a model"):
        load_model(str(tmp_path / "notes.txt"))
    cut = shutil.copytree(folders["llama"], tmp_path / "cut")
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(DemurError, match=r"cut: (cannot be loaded|damaged)"):
        load_model(str(cut))
    weights.unlink()
    with pytest.raises(DemurError, match="damaged or incomplete"):
        load_model(str(cut))
    (cut / "config.json").write_text("{")
    with pytest.raises(DemurError, match="cut: "):
        load_model(str(cut))


def test_unknown_hub_id_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DemurError, match="no such model here or on the Hub"):
        load_model("demur-tests/there-is-no-such-model")


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF" + bytes(64), b"GGUF\x03\x00\x00\x00" + b"\xff" * 90, b"PK"])
def test_broken_gguf(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(DemurError, match=r"m\.gguf: (not a GGUF file|cannot be loaded|damaged)"):
        load_model(str(tmp_path / "m.gguf"))


def test_missing_gguf(tmp_path: Path) -> None:
    with pytest.raises(DemurError, match="cannot read"):
        load_model(str(tmp_path / "m.gguf"))


def test_device_and_dtype() -> None:
    with pytest.raises(DemurError, match="unknown dtype"):
        choose_dtype(torch.device("cpu"), "int3")
    for name in ("nonsense", "cuda:99"):
        with pytest.raises(DemurError, match="cannot be used here"):
            choose_device(name)
    assert choose_dtype(torch.device("cpu"), "float16") == torch.float16
    assert choose_dtype(torch.device("cpu")) in {torch.float32, torch.bfloat16}


def test_batch_rows_of_none(folders: dict[str, Path]) -> None:
    with pytest.raises(DemurError, match="numbers from 1"):
        TransformersModel(str(folders["llama"]), batch_rows=0)


def test_row_seeds_are_stable_and_apart() -> None:
    assert row_seed(0, "pair/benign/noisy", 1) == 8226364559581935796
    seeds = {row_seed(seed, name, sample) for seed in range(5) for name in "abc" for sample in range(5)}
    assert len(seeds) == 75
    assert torch.equal(uniforms([5, 6], 8)[1], uniforms([6], 20)[0, :8])


@given(seed=st.integers(0, 2**32), top_p=st.floats(0.05, 1.0), temperature=st.floats(0.2, 2.0))
@settings(max_examples=60, deadline=None)
def test_drawn_tokens_lie_in_the_nucleus(seed: int, top_p: float, temperature: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, 30, generator=generator) * 3
    sampling = Sampling(temperature=temperature, top_p=top_p)
    for number in (0.0, 0.5, 1 - 1e-16):
        tokens = next_tokens(logits, sampling, torch.full((5,), number, dtype=torch.float64))
        for row, token in zip(torch.softmax(logits / temperature, -1), tokens.tolist(), strict=True):
            likelier = row[row > row[token]].sum()
            assert likelier < top_p + 1e-6
            assert row[token] > 0


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0, 0.5]])
    drawn = next_tokens(logits.expand(20_000, -1), Sampling(temperature=1.5), uniforms([1], 20_000)[0])
    shares = np.bincount(drawn.numpy(), minlength=5) / 20_000
    assert np.abs(shares - torch.softmax(logits[0] / 1.5, 0).numpy()).max() < 0.015


def test_loading_leaves_the_logging_of_transformers_alone(folders: dict[str, Path]) -> None:
    from transformers.utils import logging

    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    TransformersModel(str(folders["llama"]), dtype="float32")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert AutoTokenizer.from_pretrained(folders["llama"]).chat_template
