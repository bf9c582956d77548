"""Rows of a batch: padding, the score of a row, rows that an edit cannot change, layers that need not be computed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .experts import ExpertCall, ExpertHooks
from .interventions import Edit

__all__ = ["Openers", "Selected", "Tokens", "changing", "log_odds", "narrowed", "pad", "skipped", "tapped"]

Tokens = tuple[int, ...]


def pad(prompts: Sequence[Tokens], filler: int, *, left: bool = False) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, each (prompts, longest)."""
    width = max(map(len, prompts))
    rows, real = [], []
    for tokens in prompts:
        empty = width - len(tokens)
        rows.append([filler] * empty + list(tokens) if left else list(tokens) + [filler] * empty)
        real.append([0] * empty + [1] * len(tokens) if left else [1] * len(tokens) + [0] * empty)
    return torch.tensor(rows), torch.tensor(real)


@dataclass(frozen=True, slots=True)
class Openers:
    """How a model opens its refusals.

    Attributes:
        first: token ids that open a refusal by themselves.
        lead: a token that opens refusals and other answers alike, such as "I"; the token after it decides.
        second: ids that make it a refusal after the lead.
    """

    first: tuple[int, ...]
    lead: int | None = None
    second: tuple[int, ...] = ()

    @property
    def depth(self) -> int:
        """How many last positions of an asked prompt a score reads."""
        return 1 if self.lead is None else 2

    def asked(self, prompts: Sequence[Tokens]) -> tuple[Tokens, ...]:
        """The prompts as they are scored: with the lead after them, where there is one."""
        return tuple(prompts) if self.lead is None else tuple((*tokens, self.lead) for tokens in prompts)

    def plain(self, asked: Tokens) -> Tokens:
        """The prompt that was asked so."""
        return asked[: len(asked) + 1 - self.depth]


def log_odds(logits: Tensor, openers: Openers) -> Tensor:
    """Log-odds that an answer opens as a refusal: (rows,) of (rows, depth, vocabulary) logits of the last positions.

    The probability is that of the first openers, and of the lead times that of the second ones after it.
    """
    start = logits[:, 0]
    chosen = _among(start, openers.first)
    left = ~chosen
    refusing, others = [start[:, chosen]], []
    if openers.lead is not None:
        left[openers.lead] = False
        after = torch.log_softmax(logits[:, 1], dim=-1)
        decided = _among(after, openers.second)
        at = start[:, openers.lead, None]
        refusing.append(at + after[:, decided])
        others.append(at + after[:, ~decided])
    others.append(start[:, left])
    return torch.logsumexp(torch.cat(refusing, dim=1), dim=1) - torch.logsumexp(torch.cat(others, dim=1), dim=1)


def _among(logits: Tensor, tokens: Sequence[int]) -> Tensor:
    found = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
    found[list(tokens)] = True
    return found


def changing(edit: Edit, prompts: int, selected: Sequence[Tensor] | None) -> list[int]:
    """The prompts on which an edit can change anything.

    An edit of experts alone changes nothing on a prompt none of whose tokens selects one of them.
    """
    experts = [site for site in edit.changes if site.part == "expert"]
    toward = any(push.toward >= 0 and push.strength for push in edit.pushes.values())
    if selected is None or toward or len(experts) < len(edit.changes):
        return list(range(prompts))
    touched = torch.zeros(prompts, dtype=torch.bool)
    for site in experts:
        touched |= selected[site.place][:, site.expert]
    for module, push in edit.pushes.items():
        for expert in push.away:
            touched |= selected[module][:, expert]
    return [int(n) for n in touched.nonzero()]


class Selected:
    """Records which experts the real tokens of each row select; rows are padded on the right."""

    def __init__(self, counts: Sequence[int], lengths: Sequence[int]) -> None:
        self.lengths = torch.tensor(lengths)
        self.seen = [torch.zeros(len(lengths), count, dtype=torch.bool) for count in counts]

    def needs(self, _module: int) -> tuple[bool, bool]:
        """Every module, without outputs."""
        return True, False

    def routing(self, call: ExpertCall) -> ExpertCall:
        """Record the selection."""
        rows, width = len(self.lengths), len(call.index) // len(self.lengths)
        real = torch.arange(width) < self.lengths[:, None]
        count = self.seen[call.module].shape[1]
        index = call.index.view(rows, width, -1).cpu()
        chosen = (call.weights.view(rows, width, -1) != 0).cpu() & real[..., None] & (index < count)
        row, _, _ = torch.where(chosen)
        self.seen[call.module][row, index[chosen]] = True
        return call

    def outputs(self, call: ExpertCall) -> ExpertCall:
        """Change nothing."""
        return call

    def total(self, _call: ExpertCall, summed: Tensor) -> Tensor:
        """Change nothing."""
        return summed


@contextmanager
def tapped(hooks: ExpertHooks | None, tap: Any) -> Iterator[None]:
    """Let a tap see the experts' calls while the context is open; nothing for a dense model."""
    if hooks is None:
        yield
        return
    hooks.taps.append(tap)
    try:
        yield
    finally:
        hooks.taps.remove(tap)


@contextmanager
def narrowed(head: nn.Module | None, places: Tensor) -> Iterator[None]:
    """Let the output layer see chosen positions of each row alone: it is the widest, and computes every position else.

    Args:
        head: the output layer; None changes nothing.
        places: (rows, depth) positions among those that the layer is given.
    """
    if head is None:
        yield
        return

    def pick(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        at = places.to(args[0].device)
        return (args[0][torch.arange(len(at), device=at.device)[:, None], at], *args[1:])

    handle = head.register_forward_pre_hook(pick)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def skipped(layers: Sequence[nn.Module], states: Tensor, lengths: Sequence[int]) -> Iterator[None]:
    """Make the layers return ``states`` without computing anything.

    Args:
        layers: those to leave out.
        states: hidden states.
        lengths: per layer the length of the tuple that it returns; 0 where it returns a tensor.
    """
    before = [layer.__dict__.get("forward") for layer in layers]
    for layer, length in zip(layers, lengths, strict=False):
        given = (states, *(None,) * (length - 1)) if length else states
        # An attribute of the instance goes before the method of the class.
        layer.forward = lambda *_args, _given=given, **_kwargs: _given
    try:
        yield
    finally:
        for layer, forward in zip(layers, before, strict=True):
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward
