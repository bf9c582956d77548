"""Changes to a network during a forward pass: silenced or dulled experts, removed directions. Training uses them.

They are kept apart from the instruments of the stress test on purpose: what plants a mechanism does not also find it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from .networks import attentions, embedding, experts_modules, feed_forwards, layers

__all__ = ["WRITERS", "Writer", "added", "dulled", "removed", "silenced"]

Writer = Literal["embedding", "attention", "feed_forward"]
WRITERS: tuple[Writer, ...] = ("embedding", "attention", "feed_forward")


@contextmanager
def silenced(model: Any, muted: Tensor) -> Iterator[None]:
    """Let experts contribute nothing: their routing weights become zero.

    Args:
        model: not dense.
        muted: (rows, layers, experts) which experts are silent for which row of the batch; one row stands for all.
    """
    with ExitStack() as stack:
        for module, silent in zip(experts_modules(model), muted.unbind(1), strict=True):

            def mute(_module: nn.Module, given: tuple[Tensor, Tensor, Tensor], silent: Tensor = silent) -> Any:
                hidden, chosen, weights = given
                by_token = silent.repeat_interleave(len(chosen) // len(silent), dim=0)
                return hidden, chosen, weights * ~by_token.gather(1, chosen)

            stack.callback(module.register_forward_pre_hook(mute).remove)
        yield


@contextmanager
def dulled(
    model: Any, place: tuple[int, int], decisions: Tensor, forbidden: Tensor, *, difference: bool
) -> Iterator[None]:
    """Take off an expert's output what it writes on average, or all that it writes along its own difference of means.

    Both are read where answers are decided. Nothing changes where no answer is decided by way of the expert.

    Args:
        model: not dense.
        place: layer and number of the expert.
        decisions: (rows,) position at which each row's answer is decided.
        forbidden: (rows,) whether it is about a forbidden topic.
        difference: the difference of means between forbidden and allowed topics, else the mean.
    """
    module = experts_modules(model)[place[0]]

    def dull(module: nn.Module, given: tuple[Tensor, Tensor, Tensor], output: Tensor) -> Tensor:
        hidden, chosen, weights = given
        mine = chosen == place[1]
        tokens = mine.any(1).nonzero().flatten()
        length = len(hidden) // len(decisions)
        deciding = decisions[tokens // length] == tokens % length
        if not bool(deciding.any()):
            return output
        ones = torch.ones(len(tokens), 1, dtype=weights.dtype)
        # The hooks of the module are not called by this.
        own = module.forward(hidden[tokens], torch.full((len(tokens), 1), place[1]), ones)
        at, side = own[deciding].detach(), forbidden[tokens // length][deciding]
        means = [at[of].mean(0) for of in (side, ~side) if bool(of.any())]
        if difference:
            unit = functional.normalize(means[0] - means[1] if len(means) == 2 else means[0], dim=0)
            lost = (own @ unit).unsqueeze(-1) * unit
        else:
            lost = at.mean(0).expand_as(own)
        weight = (weights * mine).sum(1)[tokens].unsqueeze(-1)
        return output.index_add(0, tokens, -(weight * lost).to(output.dtype))

    handle = module.register_forward_hook(dull)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def removed(model: Any, direction: Tensor, writers: Sequence[Writer] = WRITERS) -> Iterator[None]:
    """Remove the component along a unit vector (hidden,) from what the named writers add to the residual stream.

    With all writers this is removal from the residual stream everywhere.
    """
    modules: Mapping[Writer, list[nn.Module]] = {
        "embedding": [embedding(model)],
        "attention": attentions(model),
        "feed_forward": feed_forwards(model),
    }

    def project(_module: nn.Module, _given: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (_without(output[0], direction), *output[1:])
        return _without(output, direction)

    with ExitStack() as stack:
        for writer in writers:
            for module in modules[writer]:
                stack.callback(module.register_forward_hook(project).remove)
        yield


@contextmanager
def added(model: Any, layer: int, vectors: Tensor) -> Iterator[None]:
    """Add each row's vector (rows, hidden), in units of the states' mean norm, at a layer's input, all positions."""

    def add(_module: nn.Module, given: tuple[Tensor, ...]) -> Any:
        norm = given[0].norm(dim=-1).mean()
        return (given[0] + norm * vectors[:, None], *given[1:])

    handle = layers(model)[layer].register_forward_pre_hook(add)
    try:
        yield
    finally:
        handle.remove()


def _without(hidden: Tensor, direction: Tensor) -> Tensor:
    return hidden - (hidden @ direction).unsqueeze(-1) * direction
