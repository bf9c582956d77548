"""Where a model can be watched and changed: its decoder layers, what they write, and whether the hooks can serve it."""

import re
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import DemurError
from .experts import expert_modules, uses_interface

__all__ = ["OUTSIDE", "Anatomy", "anatomy", "decoder_layers", "require_steerable", "state_of"]

OUTSIDE = {
    "dbrx": "its experts are slices of one flat weight, looped over outside the interface",
    "doge": "its experts are looked up as rows of embedding tables, not called as modules",
    "jetmoe": "its experts also route inside attention, through parallel linear layers outside the interface",
    "llama4": "its routing weights multiply the experts' inputs, outside the interface",
    "longcat_flash": "its router also selects zero-computation experts, outside the interface",
    "nllb_moe": "it is an encoder-decoder whose experts are a dictionary of modules outside the interface",
    "step3p7": "its experts clamp by layer in a class of their own outside the interface",
    "switch_transformers": "it is an encoder-decoder whose experts are a dictionary of modules outside the interface",
}
"""Mixture-of-Experts families of transformers 5.23 with routers outside the interface, and what sets them apart."""

_ATTENTION = re.compile(r"attn|attention|mixer|mamba|conv|delta|linear_att|recurrent|kda|ssm", re.IGNORECASE)
_FEED_FORWARD = re.compile(r"mlp|moe|ffn|feed_forward|experts|mixer|ff$", re.IGNORECASE)
_SHARED = re.compile(r"shared", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The parts of one model that the stress test touches.

    Attributes:
        layers: the decoder layers, in order.
        experts: per experts module that text reaches: name, layer number, number of experts.
        attention: per layer the modules whose outputs are the attention's write to the residual stream.
        feed_forward: per layer the modules whose outputs are the feed-forward part's write.
        shared: per layer the modules of shared experts.
        writes_known: whether these writes were found to add up to each layer's change of the residual stream.
    """

    layers: tuple[nn.Module, ...]
    experts: tuple[tuple[str, int, int], ...]
    attention: tuple[tuple[nn.Module, ...], ...]
    feed_forward: tuple[tuple[nn.Module, ...], ...]
    shared: tuple[tuple[nn.Module, ...], ...]
    writes_known: bool

    @property
    def is_moe(self) -> bool:
        """Whether there are routed experts within reach."""
        return bool(self.experts)


def require_steerable(model: Any, *, experts: bool = False) -> None:
    """Refuse a model on which the hooks would do nothing or something else than they say.

    Args:
        model: a transformers model.
        experts: whether an option for experts was given.

    Raises:
        DemurError: compiled, quantised experts, a router outside the interface, or dense where experts are asked for.
    """
    name = type(model).__name__
    if hasattr(model, "_orig_mod") or any(_is_compiled(module) for module in model.modules()):
        raise DemurError(
            f"{name} is compiled: hooks inside a compiled graph are silently left out",
            "load the model without torch.compile",
        )
    family = model.config.get_text_config().model_type
    found = expert_modules(model)
    for outside, reason in OUTSIDE.items():
        if family.startswith(outside):
            raise DemurError(f"family {outside} cannot be measured: {reason}", "take a family of `--self-test all`")
    strangers = [
        label
        for label, module in model.named_modules()
        if (type(module).__name__.endswith("Experts") and not hasattr(module, "has_gate") and "hared" not in label)
        or (hasattr(module, "has_gate") and hasattr(module, "is_transposed") and not uses_interface(module))
    ]
    if strangers:
        raise DemurError(
            f"{name}: the experts of {strangers[0]} bypass the experts interface (a quantised or custom kernel), "
            "so edits would do nothing",
            "load the model without quantisation of its experts (for example dequantize=True)",
        )
    text = model.config.get_text_config()
    count = max((int(getattr(text, key, None) or 0) for key in ("num_local_experts", "num_experts")), default=0)
    if count > 1 and not found and experts:
        raise DemurError(
            f"{name}: its configuration names {count} experts, but none is called through the experts interface",
            "leave the options for experts out for this model",
        )
    if experts and not found:
        raise DemurError(
            f"{name} is a dense model: it has no experts to steer",
            "leave the options for experts out",
        )


def _is_compiled(module: nn.Module) -> bool:
    """By ``module.compile()``, or by a compiled function in the place of its ``forward``."""
    return bool(getattr(module, "_compiled_call_impl", None)) or hasattr(
        vars(module).get("forward"), "_torchdynamo_orig_callable"
    )


def decoder_layers(model: Any) -> tuple[nn.Module, ...]:
    """The decoder's layers: the list of modules as long as the configuration says, in the text decoder.

    Raises:
        DemurError: there is none.
    """
    count = model.config.get_text_config(decoder=True).num_hidden_layers
    root = model.get_decoder() if hasattr(model, "get_decoder") else model
    for scope in (root, model):
        for name, module in scope.named_modules() if isinstance(scope, nn.Module) else ():
            outer = not re.search(r"vision|visual|audio|encoder|talker|code2wav", name)
            if isinstance(module, nn.ModuleList) and len(module) == count and outer:
                return tuple(module)
    raise DemurError(f"{type(model).__name__}: no list of {count} decoder layers", "take a decoder-only model")


def state_of(output: Any) -> Tensor:
    """The hidden states in what a layer or a part of one returns: the tensor, or the first of a tuple."""
    found = output[0] if isinstance(output, tuple | list) else output
    if not isinstance(found, Tensor):
        raise TypeError(f"a layer returned {type(found).__name__} where hidden states were expected")
    return found


def anatomy(model: Any, run: Any) -> Anatomy:
    """Find the parts of a model and prove by one forward pass that the writes of each layer add up.

    Args:
        model: a transformers model.
        run: does one small forward pass of the model.
    """
    layers = decoder_layers(model)
    places = {id(module): number for number, layer in enumerate(layers) for module in layer.modules()}
    called: set[int] = set()
    handles = [
        module.register_forward_pre_hook(lambda module, _args: called.add(id(module)))
        for _, module in expert_modules(model)
    ]
    try:
        seen = _watch(layers, run)
    finally:
        for handle in handles:
            handle.remove()
    experts = tuple(
        (name, places[id(module)], int(str(module.num_experts)))
        for name, module in expert_modules(model)
        if id(module) in called and id(module) in places
    )
    scale = float(getattr(model.config.get_text_config(), "residual_multiplier", None) or 1.0)
    writes = [_writes(*entry, scale) for entry in seen]
    shared = tuple(_outermost(layer) for layer in layers)
    known = all(write is not None for write in writes)
    return Anatomy(
        layers,
        experts,
        tuple(write[0] if write else () for write in writes),
        tuple(write[1] if write else () for write in writes),
        shared,
        known,
    )


Seen = tuple[Tensor, Tensor, list[tuple[str, nn.Module, Tensor]]]


def _watch(layers: tuple[nn.Module, ...], run: Any) -> list[Seen]:
    """Input, output and the outputs of the direct children of every layer in one forward pass, in order of calls."""
    inputs: dict[int, Tensor] = {}
    outputs: dict[int, Tensor] = {}
    parts: dict[int, list[tuple[str, nn.Module, Tensor]]] = {number: [] for number in range(len(layers))}
    handles = []

    def watch(number: int, layer: nn.Module) -> None:
        def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            inputs[number] = (args[0] if args else kwargs["hidden_states"]).detach().clone()

        def after(_module: nn.Module, _args: Any, output: Any) -> None:
            outputs[number] = state_of(output).detach().clone()

        handles.append(layer.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(layer.register_forward_hook(after))
        for name, child in layer.named_children():

            def part(module: nn.Module, _args: Any, output: Any, name: str = name) -> None:
                found = output[0] if isinstance(output, tuple | list) else output
                if isinstance(found, Tensor):
                    parts[number].append((name, module, found.detach().clone()))

            handles.append(child.register_forward_hook(part))

    for number, layer in enumerate(layers):
        watch(number, layer)
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return [(inputs[number], outputs[number], parts[number]) for number in range(len(layers))]


def _writes(
    before: Tensor, after: Tensor, parts: list[tuple[str, nn.Module, Tensor]], scale: float
) -> tuple[tuple[nn.Module, ...], tuple[nn.Module, ...]] | None:
    """Which children's outputs sum to the layer's change of the residual stream; None where no choice does.

    A norm right after a part takes its place where it adds up (families with norms after attention). A layer may have
    one part only, and where attention and feed-forward part run in parallel both read the same input.
    """
    change = after.float() - before.float()
    fitting = [(name, module, out.float()) for name, module, out in parts if out.shape == change.shape]
    first_ff = next((i for i, (name, *_) in enumerate(fitting) if _FEED_FORWARD.search(name)), len(fitting))
    first_attention = next((i for i, (name, *_) in enumerate(fitting) if _ATTENTION.search(name)), len(fitting))
    mixing = fitting[first_attention : max(first_ff, first_attention + 1)]
    feeding = fitting[first_ff:]
    none: list[tuple[str, nn.Module, Tensor]] = []
    # What is missed counts in the unit of what rounding may hide, number by number: the first token's state can be a
    # thousand times as large as the others', and in bfloat16 its rounding alone larger than a part's whole output.
    tolerance = 1e-3 if before.dtype == torch.float32 else 3e-2
    rounding = 2 * torch.finfo(before.dtype).eps * (before.float().abs() + after.float().abs())
    unit = tolerance * change.square().mean(dim=-1, keepdim=True).sqrt() + rounding + torch.finfo(torch.float32).tiny
    feeds = [*([f] for f in feeding), none, *(list(pair) for pair in combinations(feeding, 2))]
    choices = [(attention, feed) for attention in [*([m] for m in mixing), none] for feed in feeds if attention + feed]
    written = [sum((out for _, _, out in attention + feed), torch.zeros_like(change)) for attention, feed in choices]
    missed = [float(((out * scale - change) / unit).square().mean().sqrt()) for out in written]
    # What a right choice misses is rounding alone, well within the unit.
    if not choices or min(missed) > 0.25:
        return None
    attention, feed = choices[missed.index(min(missed))]
    if attention and not feed and attention[0][0] == "mixer" and _is_feed_forward(attention[0][1]):
        return (), (attention[0][1],)
    return tuple(module for _, module, _ in attention), tuple(module for _, module, _ in feed)


def _is_feed_forward(module: nn.Module) -> bool:
    """Whether a part called ``mixer`` (one per layer, in hybrids) is the feed-forward kind."""
    return bool(re.search(r"mlp|moe|feedforward", type(module).__name__, re.IGNORECASE))


def _outermost(layer: nn.Module) -> tuple[nn.Module, ...]:
    """The modules of shared experts in a layer, without their inner parts and gates."""
    found: list[tuple[str, nn.Module]] = []
    for name, module in layer.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer, _ in found)
        if name and _SHARED.search(name.rsplit(".", 1)[-1]) and "gate" not in name.rsplit(".", 1)[-1] and not inside:
            found.append((name, module))
    return tuple(module for _, module in found)
