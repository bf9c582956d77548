"""Short greedy answers of a steered model, in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import DemurError
from .rows import Tokens, pad

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["MAX_NEW_TOKENS", "Ending", "continued", "whole"]

MAX_NEW_TOKENS = 64
"""No response is longer, whoever asks."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Where answers end.

    Attributes:
        new_tokens: 1 to 64, as many as an answer has at most.
        stop: tokens that end an answer and are its last.

    Raises:
        DemurError: another number of new tokens is asked for.
    """

    new_tokens: int
    stop: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse longer answers."""
        if not 1 <= self.new_tokens <= MAX_NEW_TOKENS:
            raise DemurError(
                f"{self.new_tokens} new tokens; the stress test generates 1 to {MAX_NEW_TOKENS}", "ask for fewer"
            )

    def cut(self, tokens: list[int]) -> Tokens:
        """The answer up to the first token that ends it."""
        end = next((place + 1 for place, token in enumerate(tokens) if token in self.stop), len(tokens))
        return tuple(tokens[:end])


def whole(engine: "Engine", prompts: Sequence[Tokens], ending: Ending) -> list[Tokens]:
    """Answers with whatever is attached, each prompt computed whole."""
    ids, mask = pad(prompts, engine.filler, left=True)
    return _greedy(engine, ids, mask, ending)


def continued(
    engine: "Engine", start: Tokens, texts: Sequence[Tokens], cache: Any, *, depth: int, ending: Ending
) -> list[Tokens]:
    """Answers with whatever is attached, after a pass that left the keys and values of the prompts in a cache.

    The last token of each prompt is given once more, behind all others; it and what follows it are masked where they
    stood, as any padding is, and positions count what is not masked.

    Args:
        engine: open.
        start: the opening that all prompts share.
        texts: the prompts without it, as they were scored.
        cache: of the pass; it is added to.
        depth: last positions that were scored; the first of them is the prompt's last token.
        ending: of the answers.
    """
    ids, mask = pad(texts, engine.filler)
    lengths = mask.sum(dim=1, keepdim=True)
    mask = mask * (torch.arange(mask.shape[1]) < lengths - depth)
    last = ids.gather(1, lengths - depth)
    opening = torch.tensor([start], dtype=ids.dtype).expand(len(ids), -1)
    one = torch.ones_like(last)
    ids, mask = torch.cat([opening, ids, last], dim=1), torch.cat([torch.ones_like(opening), mask, one], dim=1)
    return _greedy(engine, ids, mask, ending, past_key_values=cache)


def _greedy(engine: "Engine", ids: Tensor, mask: Tensor, ending: Ending, **more: Any) -> list[Tokens]:
    with torch.no_grad():
        out = engine.model.generate(
            input_ids=ids.to(engine.device),
            attention_mask=mask.to(engine.device),
            max_new_tokens=ending.new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=list(ending.stop) or None,
            pad_token_id=engine.filler,
            **more,
        )
    return [ending.cut(tokens) for tokens in out[:, ids.shape[1] :].tolist()]
