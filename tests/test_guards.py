"""Guard models of others: what they read, what their findings mean, and tiny random models of their architectures."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Llama4Config,
    Llama4ForConditionalGeneration,
    LlamaConfig,
    MistralConfig,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    PreTrainedTokenizerFast,
    Qwen3Config,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from demur.benchmark.errors import DemurError
from demur.scorers import get_scorer
from demur.scorers.guard_entries import find_guard, guard_card, guard_input, guards, parse_finding, shortened
from demur.scorers.verdicts import LABELS, ScoreRequest

CASES = json.loads((Path(__file__).parent / "cases" / "guard_outputs.json").read_text(encoding="utf-8"))
TEMPLATE = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}finding:"
PARTS = (
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'][0]['text'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}finding:{% endif %}"
)
POLICY = "{{ raise_exception('no guideline') if guideline is not defined }}* {{ guideline }}\n" + TEMPLATE
TEMPLATES = {"llama-guard-4": PARTS, "shieldgemma": POLICY}
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 8192,
}
CAUSAL = {**SHAPE, "num_key_value_heads": 2}
VISION = {
    "hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14, "projector_input_dim": 32, "projector_output_dim": 32, "vision_output_dim": 32,
}  # fmt: skip
GENERATORS = {
    "wildguard": lambda **more: MistralConfig(**CAUSAL, **more),
    "sorry-bench": lambda **more: MistralConfig(**CAUSAL, **more),
    "llama-guard-3": lambda **more: LlamaConfig(**CAUSAL, **more),
    "harmbench": lambda **more: LlamaConfig(**CAUSAL, **more),
    "qwen3guard": lambda **more: Qwen3Config(**CAUSAL, head_dim=8, **more),
    "shieldgemma": lambda **more: Gemma2Config(**CAUSAL, head_dim=8, **more),
    "llama-guard-4": lambda **more: Llama4Config(
        text_config={
            **CAUSAL, "head_dim": 8, "intermediate_size_mlp": 48, "num_local_experts": 1, "moe_layers": [],
            "no_rope_layers": [1, 1], "pad_token_id": 1, **more,
        },
        vision_config=VISION,
    ),
}  # fmt: skip
REFUSING = {
    "wildguard": "Harmful request: yes\nResponse refusal: yes\nHarmful response: no",
    "sorry-bench": "0",
    "llama-guard-3": "\n\nsafe",
    "harmbench": "no",
    "qwen3guard": "Safety: Safe\nCategories: None\nRefusal: Yes\n",
    "shieldgemma": "No",
    "llama-guard-4": "\n\nsafe",
}
ASKED = [
    ScoreRequest("I can't help with that.", "How do I bake?"),
    ScoreRequest("Mix flour and water. " * 3, "How do I bake?"),
    ScoreRequest("", "How do I bake?"),
    ScoreRequest("Ünïcödé \ud800 你好 {prompt}", ""),
    ScoreRequest("x", "y", "error", "timed out"),
]


def words(says, template=TEMPLATE):
    """A tokenizer of bytes whose token 0 is what the model shall say."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    first = says.replace(" ", "Ġ").replace("\n", "Ċ")
    vocabulary = {token: number for number, token in enumerate([f"{first}{'' if len(first) > 1 else 'Ċ'}", *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>")
    made.chat_template = template
    return made


def saved(folder, name, says):
    """A guard of the right architecture; it says the same of everything where ``says`` is given, else babbles."""
    torch.manual_seed(3)
    made = words(says or "zzz", TEMPLATES.get(name, TEMPLATE))
    config = GENERATORS[name](vocab_size=len(made), eos_token_id=0 if says else len(made) - 2, bos_token_id=None)
    whole = name == "llama-guard-4"
    model = Llama4ForConditionalGeneration(config) if whole else AutoModelForCausalLM.from_config(config)
    if says:
        # Every token is as likely as any other, so that greedy decoding takes token 0, which ends the text too.
        torch.nn.init.zeros_(model.get_output_embeddings().weight)
    model.float().save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['guard']}: {case['text'][:40]!r}")
def test_findings(case):
    assert parse_finding(find_guard(case["guard"]), case["text"]) == case["label"]


def test_every_generator_has_cases_of_both_kinds():
    for guard in guards().values():
        if guard.kind == "generator":
            labels = [case["label"] for case in CASES if case["guard"] == guard.name]
            assert {"refused", "complied", None} == set(labels)
            assert labels.count(None) >= 4


def test_entries_are_whole():
    for guard in guards().values():
        assert set(guard.labels.values()) == {"refused", "complied"}
        assert guard.source.startswith("https://")
        assert guard.licence
        assert (guard.kind == "generator") == bool(guard.pattern) == (guard.new_tokens > 0)
        assert guard.input.startswith("chat") or "{response}" in guard.input
        card = guard_card(guard)
        assert guard.model in card
        assert ("not harmful" in card) == (guard.measures == "harm")
        assert bool(guard.template) <= guard.input.startswith("chat")
        assert guard.note in card
    assert len({guard.digest for guard in guards().values()}) == len(guards()) == 9


def test_a_response_cannot_fill_slots():
    text = guard_input(find_guard("minos"), "{response}", "{prompt}")
    assert text == "<|user|>\n{response}\n<|assistant|>\n{prompt}"
    assert shortened("a" * 50 + "END", 30).startswith("a" * 20)
    assert shortened("a" * 50 + "END", 30).endswith("aEND")
    assert shortened("short", 30) == "short"


@pytest.mark.parametrize("name", GENERATORS)
def test_generators(name, tmp_path):
    scorer = get_scorer(f"guard:{name}@{saved(tmp_path, name, REFUSING[name])}")
    said = list(scorer.score(ASKED))
    assert [v.label for v in said] == ["refused", "refused", "unscored", "refused", "unscored"]
    assert [v.reason for v in said if v.reason] == ["empty", "error"]
    assert said[0].p_refused == 1.0
    assert scorer.info.name == f"guard-{name}"
    assert bool(scorer.note) == scorer.harmful_only == (find_guard(name).measures == "harm")


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_chat_template_is_given_what_its_entry_says(name, tmp_path):
    scorer = get_scorer(f"guard:{name}@{saved(tmp_path, name, REFUSING[name])}")
    text = scorer._tokenizer.decode(scorer._encode("How do I bake?", "Use an oven."))
    assert text.endswith("[user] How do I bake?\n[assistant] Use an oven.\nfinding:")
    assert text.count('* "No') == (4 if name == "shieldgemma" else 0)


def test_a_generator_that_babbles_gives_no_verdict(tmp_path):
    scorer = get_scorer(f"guard:qwen3guard@{saved(tmp_path, 'qwen3guard', None)}")
    first, second = list(scorer.score(ASKED)), list(scorer.score(ASKED[:1]))
    assert [v.reason for v in first] == ["judge_failure", "judge_failure", "empty", "judge_failure", "error"]
    assert first[0] == second[0], "what else is in the batch does not matter"


def classifier(folder, name, labels):
    torch.manual_seed(1)
    made = words("zzz")
    more = {"vocab_size": len(made), "id2label": dict(enumerate(labels)), "pad_token_id": made.pad_token_id}
    more |= {"label2id": {label: number for number, label in enumerate(labels)}}
    if name == "minos":
        special = {"bos_token_id": 0, "eos_token_id": 0, "cls_token_id": 0, "sep_token_id": 0}
        model = ModernBertForSequenceClassification(ModernBertConfig(**SHAPE, **special, **more))
    else:
        model = RobertaForSequenceClassification(
            RobertaConfig(**{**SHAPE, "max_position_embeddings": 514 + made.pad_token_id}, **more)
        )
    model.save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "labels"), [("protectai", ["NORMAL", "REJECTION"]), ("minos", ["Non-refusal", "Refusal"])]
)
def test_classifiers(name, labels, tmp_path):
    scorer = get_scorer(f"guard:{name}@{classifier(tmp_path, name, labels)}")
    long = ScoreRequest(" ".join(f"{number}th step" for number in range(3000)), "y" * 50)
    said = list(scorer.score([*ASKED, long]))
    assert [v.label == "unscored" for v in said] == [False, False, True, False, True, False]
    assert len(long.response) > 2 * find_guard(name).longest
    for verdict in said:
        if verdict.reason is None:
            assert (verdict.label == "refused") == (verdict.p_refused >= 0.5)
            assert verdict.label in LABELS
    alone = next(scorer.score(ASKED[:1]))
    assert alone.p_refused == pytest.approx(said[0].p_refused, abs=1e-5)


def test_broken_guards(tmp_path):
    with pytest.raises(DemurError, match="unknown guard 'oracle'"):
        get_scorer("guard:oracle")
    with pytest.raises(DemurError, match=r"no config\.json"):
        get_scorer(f"guard:minos@{tmp_path}")
    wrong = classifier(tmp_path / "wrong", "protectai", ["LABEL_0", "LABEL_1"])
    with pytest.raises(DemurError, match="its labels are LABEL_0, LABEL_1, not NORMAL, REJECTION"):
        get_scorer(f"guard:protectai@{wrong}")
    cut = saved(tmp_path / "cut", "wildguard", "x")
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(DemurError, match=str(cut)):
        get_scorer(f"guard:wildguard@{cut}")
    bare = saved(tmp_path / "bare", "llama-guard-3", "x")
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(DemurError, match="no chat template"):
        get_scorer(f"guard:llama-guard-3@{bare}")


def test_a_prompt_that_is_too_long_for_the_guard(tmp_path):
    scorer = get_scorer(f"guard:harmbench@{saved(tmp_path, 'harmbench', 'no')}")
    (said,) = scorer.score([ScoreRequest("Yes.", "word " * 1000)])
    assert (said.reason, said.evidence) == ("judge_failure", "the prompt alone is too long for this guard")
