"""The hooks of the stress test: families, self-tests, refusals, and that the self-tests can fail."""

import warnings

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from demur.benchmark.errors import DemurError
from demur.benchmark.stress import anatomy as anatomy_module
from demur.benchmark.stress import experts, interventions, selftest
from demur.benchmark.stress.anatomy import OUTSIDE, anatomy, require_steerable
from demur.benchmark.stress.experts import ExpertHooks, expert_modules
from demur.benchmark.stress.families import DENSE, architecture_of, families, moe_families, tiny_model
from demur.benchmark.stress.hookbench import HookBench
from demur.benchmark.stress.interventions import Change, Edit, Push, Site, Steering, expert_site
from demur.benchmark.stress.selftest import CHECKS, failures, self_test

IDS = torch.tensor([[3, 7, 4, 9], [6, 2, 9, 4]])


def logits(model, **more):
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False, **more).logits


@pytest.mark.parametrize("family", ["mixtral", "olmoe", "qwen3_moe", "gpt_oss", "deepseek_v3", "llama", "gpt2"])
def test_self_test_passes(family):
    result = selftest.test_family(family)
    assert result.passed, result.reason
    assert result.architecture == ("dense" if family in DENSE else "moe")


@pytest.mark.slow
@pytest.mark.parametrize("family", families())
def test_self_test_passes_for_every_family(family):
    result = selftest.test_family(family)
    assert result.passed, result.reason


def test_every_family_of_the_interface_is_known():
    # 47 in the lowest release that is supported, 64 in the pinned one.
    assert len(moe_families()) >= (64 if Version(transformers.__version__) >= Version("5.23") else 47)
    assert len(DENSE) >= 12
    assert not set(moe_families()) & set(DENSE)


def test_checks_of_experts_run_for_moe_models_only():
    assert [check.name for check in self_test(tiny_model("mixtral"))] == list(CHECKS)
    assert [check.name for check in self_test(tiny_model("llama"))] == list(CHECKS[:5])


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        ("no_op", "hook_changes"),
        ("drift", "zero_dose"),
        ("leak", "rows_apart"),
        ("half", "exact_change"),
        ("wrong_expert", "one_expert"),
        ("unweighted", "routing"),
        ("no_push", "push"),
    ],
)
def test_a_broken_hook_is_found(monkeypatch, broken, check):
    rows = interventions._Affine.rows
    changed = {
        "no_op": lambda _self, x, _owner: x,
        "drift": lambda self, x, owner: rows(self, x, owner) * 1.01,
        "leak": lambda self, x, owner: rows(self, x, torch.ones_like(owner) * owner.max()),
        "half": lambda self, x, owner: (x + rows(self, x, owner)) / 2,
    }
    if broken in changed:
        monkeypatch.setattr(interventions._Affine, "rows", changed[broken])
    elif broken == "wrong_expert":
        edit = interventions._ModuleEdits.edit

        def every_slot(self, call, owner):
            self.lookup = self.lookup.max(dim=1, keepdim=True).values.expand_as(self.lookup).clone()
            return edit(self, call, owner)

        monkeypatch.setattr(interventions._ModuleEdits, "edit", every_slot)
    elif broken == "unweighted":
        monkeypatch.setattr(experts, "_weighted_sum", lambda call: call.outputs.sum(dim=1))
    else:
        monkeypatch.setattr(interventions._ModuleEdits, "reroute", lambda _self, call, _owner: call)
    assert check in failures(self_test(tiny_model("mixtral")))


def test_hook_is_gone_after_use():
    model = tiny_model("olmoe")
    before = model.get_experts_implementation()
    own = logits(model)
    with ExpertHooks(model):
        assert torch.equal(logits(model), own)
    assert model.get_experts_implementation() == before
    assert torch.equal(logits(model), own)


def test_router_logits_are_not_the_selection():
    """With a bias correction the selection is another than that of the logits; the hook sees the one in use."""
    model = tiny_model("deepseek_v3")
    for layer in model.model.layers:
        layer.mlp.gate.e_score_correction_bias.copy_(torch.tensor([0.0] * 7 + [9.0]))
    parts = anatomy(model, lambda: logits(model))
    bench = HookBench(model, selftest._PROMPTS)
    with bench:
        assert all(bool((call.index == 7).any(dim=1).all()) for call in bench.calls())
        assert bench.routing() == ""
    assert parts.is_moe


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 5).flatmap(
        lambda slots: st.tuples(
            st.lists(st.floats(0.01, 3.0), min_size=slots, max_size=slots),
            st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=slots, max_size=slots),
        )
    )
)
def test_push_keeps_the_sum_of_weights(case):
    weights, share = (torch.tensor([values]) for values in case)
    pushed = interventions._pushed_away(weights, share)
    assert torch.allclose(pushed.sum(), weights.sum(), rtol=1e-5)
    assert bool((pushed >= 0).all())
    if bool((share == 0).all()) or bool((share > 0).all()):
        assert torch.equal(pushed, weights)


def test_batched_edits_equal_single_ones():
    model = tiny_model("qwen3_moe")
    parts = anatomy(model, lambda: logits(model))
    vector = torch.randn(32, generator=torch.Generator().manual_seed(3))
    edits = [
        Edit({Site("input", 1): Change(add=vector)}),
        Edit(
            {expert_site(2, 5): Change(keep=0.0), Site("attention", 0): Change(unit=vector / vector.norm(), amount=1.0)}
        ),
        Edit(pushes={1: Push(away={3: 0.5}, toward=2, strength=0.25)}),
        Edit({Site("routed", 3): Change(unit=vector / vector.norm(), amount=0.5), Site("output", 3): Change(keep=0.9)}),
    ]
    with ExpertHooks(model) as hooks:
        alone = []
        for edit in edits:
            with Steering(parts, hooks, [edit], torch.tensor([0, 0])):
                alone.append(logits(model))
        with Steering(parts, hooks, edits, torch.arange(4).repeat_interleave(2)), torch.no_grad():
            together = model(input_ids=IDS.repeat(4, 1), use_cache=False).logits
    assert torch.allclose(torch.cat(alone), together, atol=1e-5)


def test_dense_model_with_an_expert_option():
    with pytest.raises(DemurError, match="dense model"):
        require_steerable(tiny_model("llama"), experts=True)
    with pytest.raises(DemurError, match="no routed experts"):
        ExpertHooks(tiny_model("llama"))


@pytest.mark.parametrize("inside", [False, True])
def test_compiled_model_is_refused(inside):
    model = tiny_model("llama")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about its parts
        if inside:
            model.forward = torch.compile(model.forward)
        else:
            model.compile()
    with pytest.raises(DemurError, match="compiled"):
        require_steerable(model)


def test_quantised_experts_are_refused():
    """Experts that dispatch through an interface of their own look alike, and every hook on them would do nothing."""
    from transformers.integrations.moe import ExpertsInterface, use_experts_implementation

    model = tiny_model("mixtral")
    other = use_experts_implementation(
        type("QuantisedExperts", (torch.nn.Module,), {"forward": lambda _self, x, *_routing: x, "num_experts": 8}),
        experts_interface=ExpertsInterface(),
    )
    model.model.layers[1].mlp.experts.__class__ = other
    with pytest.raises(DemurError, match="bypass the experts interface"):
        require_steerable(model)
    with pytest.raises(DemurError, match="bypass the experts interface"):
        ExpertHooks(model)


def test_custom_kernels_are_refused():
    model = tiny_model("gpt_oss")
    model.model.layers[0].mlp.experts = type("Mxfp4GptOssExperts", (torch.nn.Module,), {})()
    with pytest.raises(DemurError, match="bypass the experts interface"):
        require_steerable(model)


@pytest.mark.parametrize("family", sorted(OUTSIDE))
def test_families_outside_are_named_with_the_reason(family):
    with pytest.raises(DemurError, match=OUTSIDE[family][:20]):
        architecture_of(family)


def test_model_of_a_family_outside_is_refused():
    from transformers import DogeConfig, DogeForCausalLM

    with torch.device("meta"):
        model = DogeForCausalLM(DogeConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, vocab_size=97))
    with pytest.raises(DemurError, match="doge cannot be measured"):
        require_steerable(model)


def test_unknown_family():
    with pytest.raises(DemurError, match="unknown family 'abc'"):
        architecture_of("abc")


def test_writes_add_up_or_are_not_claimed():
    parts = anatomy(model := tiny_model("olmo2"), lambda: logits(model))
    assert parts.writes_known
    assert [type(m[0]).__name__ for m in parts.attention] == ["Olmo2RMSNorm"] * 4
    hyper = tiny_model("deepseek_v4")
    assert not anatomy(hyper, lambda: logits(hyper)).writes_known


def test_decoder_layers_and_expert_modules():
    model = tiny_model("mixtral")
    assert len(anatomy_module.decoder_layers(model)) == 4
    assert [name for name, _ in expert_modules(model)] == [f"model.layers.{n}.mlp.experts" for n in range(4)]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parts_are_told_apart_where_the_first_token_dwarfs_the_others(dtype, seed):
    """Its rounding swallows whole outputs of its parts; the other tokens show what adds up."""
    drawn = torch.Generator().manual_seed(seed)
    large = torch.tensor([1.0, 0.0, 0.0, 0.0])[None, :, None]
    attention, feed = ((torch.randn(1, 4, 64, generator=drawn) * (1 + 20 * large)).to(dtype) for _ in range(2))
    before = (torch.randn(1, 4, 64, generator=drawn) * (1 + 300_000 * large)).to(dtype)
    after = (before + attention) + feed
    modules = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    parts = [("self_attn", modules[0], attention), ("mlp", modules[1], feed)]
    assert anatomy_module._writes(before, after, parts, 1.0) == ((modules[0],), (modules[1],))
