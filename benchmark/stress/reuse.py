"""What rows need not compute again: the layers before an edit, and the opening that all prompts share.

Both are tried on the model itself before they are used. Later tokens see an opening only through its keys and values,
so those, computed under a candidate's edit, serve every prompt that the candidate is tried on. A model that keeps
anything else (recurrent states) or hands more than hidden states from layer to layer goes the plain way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from .answers import Begun
from .interventions import Edit, Steering
from .rows import Tokens, skipped

if TYPE_CHECKING:
    from .engine import Engine

__all__ = [
    "KEPT_BYTES",
    "LEAST",
    "LayerInputs",
    "Opening",
    "common_opening",
    "narrows",
    "output_lengths",
    "reuses_layers",
    "shares_opening",
]

LEAST = 4
"""Shorter openings are not worth a pass of their own."""

KEPT_BYTES = 2**28
"""Of layers' inputs of one set of prompts that are held at a time."""
_PROBES: tuple[Tokens, ...] = ((2, 3, 5, 4, 3, 2), (2, 3, 5, 4, 6, 2, 3))
_UNLIKE = (TypeError, ValueError, AttributeError, RuntimeError, KeyError, IndexError)
"""What a family raises that cannot be run with layers left out or with a cache that was made here."""


class LayerInputs:
    """What layers receive in the model as it is; several layers in one pass, as many as memory should hold.

    Args:
        engine: open.
        prompts: token ids.
    """

    def __init__(self, engine: "Engine", prompts: Sequence[Tokens]) -> None:
        self.engine, self.prompts = engine, prompts
        self.width = max(map(len, prompts))
        size = 4 * len(prompts) * self.width * engine.model.config.get_text_config().hidden_size
        self.at_once = max(1, KEPT_BYTES // size)
        self.kept: dict[int, Tensor] = {}

    def of(self, layer: int, asked: Sequence[int]) -> Tensor:
        """(prompts, longest, ...) hidden states.

        Args:
            layer: one of those asked for.
            asked: what will be asked for, in rising order; kept besides where there is room for all layers.
        """
        if layer not in self.kept:
            every = range(1, len(self.engine.parts.layers))
            later = [number for number in asked if number >= layer]
            self.kept = {}
            self.kept = self._watched(every if len(every) <= self.at_once else later[: self.at_once])
        return self.kept[layer]

    def _watched(self, layers: Sequence[int]) -> dict[int, Tensor]:
        found: dict[int, Tensor] = {}
        batch: list[int] = []

        def keeper(number: int) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
            def keep(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                states = (args[0] if args else kwargs["hidden_states"]).detach()
                if number not in found:
                    found[number] = states.new_zeros(len(self.prompts), self.width, *states.shape[2:])
                found[number][batch, : states.shape[1]] = states

            return keep

        handles = [
            self.engine.parts.layers[number].register_forward_pre_hook(keeper(number), with_kwargs=True)
            for number in layers
        ]
        try:
            for batch in self.engine.batches(self.prompts):
                self.engine.last_logits([self.prompts[n] for n in batch])
        finally:
            for handle in handles:
                handle.remove()
        return found


def common_opening(prompts: Sequence[Tokens], leave: int) -> int:
    """How many first tokens all prompts share, ``leave`` fewer than the shortest has at most; 0 below :data:`LEAST`."""
    first, most = prompts[0], min(map(len, prompts)) - leave
    shared = next((n for n in range(most) if any(tokens[n] != first[n] for tokens in prompts)), most)
    return shared if shared >= LEAST else 0


@dataclass(frozen=True, slots=True)
class Opening:
    """Keys and values of the opening under several candidates.

    Attributes:
        states: per layer keys and values, each (candidates, heads, length, width); one row for all where no candidate
            changes the layer.
        place: row of each candidate, by its number.
    """

    states: tuple[tuple[Tensor, Tensor], ...]
    place: dict[int, int]

    @staticmethod
    def make(
        engine: "Engine", tokens: Tokens, edits: dict[int, Edit], layer: int = 0, given: Tensor | None = None
    ) -> "Opening":
        """Compute the opening once under each edit.

        Args:
            engine: open.
            tokens: the opening.
            edits: by number of the candidate.
            layer: the first layer that any of them touches.
            given: (rows, width, ...) what that layer receives for prompts that begin so, to leave out those before it.

        Raises:
            TypeError: the model keeps something else than keys and values.
        """
        plain = engine.opening_states(tokens) if layer else ()
        rows = [tokens] * len(edits)
        cache = DynamicCache()
        with Steering(engine.parts, engine.hooks, list(edits.values()), torch.arange(len(edits))):
            if given is None:
                engine.last_logits(rows, cache)
            else:
                start = given[:1, : len(tokens)].expand(len(edits), *(-1 for _ in given.shape[1:]))
                with skipped(engine.parts.layers[:layer], start.to(engine.device), engine.lengths):
                    engine.last_logits(rows, cache)
        found = []
        for kept in cache.layers[layer if given is not None else 0 :]:
            if type(kept) is not DynamicLayer:
                raise TypeError("the model keeps more than keys and values")
            found.append((kept.keys, kept.values))
        before = plain[:layer] if given is not None else ()
        place = {number: row for row, number in enumerate(edits)}
        return Opening((*before, *found), place)  # type: ignore[arg-type]  # initialised: every layer was called

    def cache(self, candidates: Sequence[int]) -> DynamicCache:
        """A cache with a row per candidate named."""
        rows = torch.tensor([self.place[candidate] for candidate in candidates])
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self.states):
            at = (rows if len(keys) > 1 else torch.zeros_like(rows)).to(keys.device)
            cache.update(keys[at], values[at], layer)
        return cache


def reuses_layers(engine: "Engine") -> bool:
    """Whether leaving the layers before the middle out, their output given, changes no logit."""
    middle = len(engine.parts.layers) // 2
    if not middle:
        return False
    own = engine.last_logits(_PROBES)
    given = LayerInputs(engine, _PROBES).of(middle, [middle])
    try:
        with skipped(engine.parts.layers[:middle], given, engine.lengths):
            again = engine.last_logits(_PROBES)
    except _UNLIKE:
        return False
    return bool(torch.equal(own, again))


def narrows(engine: "Engine") -> bool:
    """Whether the output layer may be given the last positions alone."""
    head = engine.model.get_output_embeddings()
    if not isinstance(head, nn.Module):
        return False
    own = engine.last_logits(_PROBES, depth=2)
    engine.narrows = True
    try:
        return _close(engine, own, engine.last_logits(_PROBES, depth=2))
    except _UNLIKE:
        return False
    finally:
        engine.narrows = False


def shares_opening(engine: "Engine") -> bool:
    """Whether probes after a shared opening get the logits that they get whole, and their answers the first logits."""
    own = engine.last_logits(_PROBES, depth=2)
    shared = common_opening(_PROBES, 2)
    layer = len(engine.parts.layers) // 2 if engine.reuses_layers else 0
    given = LayerInputs(engine, _PROBES).of(layer, [layer]) if layer else None
    try:
        for depth in (1, 2):
            opening = Opening.make(engine, _PROBES[0][:shared], {0: Edit()}, layer, given)
            texts, cache = [tokens[shared:] for tokens in _PROBES], opening.cache([0, 0])
            again = engine.last_logits(texts, cache, depth=depth)
            if not _close(engine, own[:, -depth:], again):
                return False
            plain = _PROBES if depth == 1 else [tokens[:-1] for tokens in _PROBES]
            wanted = Begun.whole(engine, plain).first_logits(engine)
            begun = Begun.scored(engine, _PROBES[0][:shared], texts, cache, depth)
            if not _close(engine, wanted, begun.first_logits(engine)):
                return False
    except _UNLIKE:
        return False
    return True


def _close(engine: "Engine", own: Tensor, again: Tensor) -> bool:
    dtype = next(engine.model.parameters()).dtype
    slack = (64 if dtype == torch.float32 else 4) * torch.finfo(dtype).eps
    return own.shape == again.shape and float((own - again).abs().max()) <= slack * float(own.abs().max())


def output_lengths(engine: "Engine") -> list[int]:
    """Per layer the length of the tuple that it returns, 0 for a tensor."""
    lengths = [0] * len(engine.parts.layers)

    def form(number: int) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            lengths[number] = len(output) if isinstance(output, tuple | list) else 0

        return hook

    handles = [layer.register_forward_hook(form(number)) for number, layer in enumerate(engine.parts.layers)]
    try:
        engine.last_logits(_PROBES)
    finally:
        for handle in handles:
            handle.remove()
    return lengths
