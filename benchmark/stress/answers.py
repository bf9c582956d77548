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

__all__ = ["MAX_NEW_TOKENS", "Begun", "Ending", "window"]

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


@dataclass(frozen=True, slots=True)
class Begun:
    """Prompts that answers go on from: token ids and mask, each (rows, width), and what is computed of them already."""

    ids: Tensor
    mask: Tensor
    cache: Any = None

    @staticmethod
    def whole(engine: "Engine", prompts: Sequence[Tokens]) -> "Begun":
        """Prompts of which nothing is computed yet."""
        return Begun(*pad(prompts, engine.filler, left=True))

    @staticmethod
    def scored(engine: "Engine", start: Tokens, texts: Sequence[Tokens], cache: Any, depth: int) -> "Begun":
        """Prompts after a pass that left their keys and values in a cache.

        The last token of each is given once more, behind all others; it and what follows it are masked where they
        stood, as any padding is, and positions count what is not masked.

        Args:
            engine: open.
            start: the opening that all prompts share.
            texts: the prompts without it, as they were scored.
            cache: of the pass; it is added to.
            depth: last positions that were scored; the first of them is the prompt's last token.
        """
        ids, mask = pad(texts, engine.filler)
        lengths = mask.sum(dim=1, keepdim=True)
        mask = mask * (torch.arange(mask.shape[1]) < lengths - depth)
        last = ids.gather(1, lengths - depth)
        # What is masked was never said, so a penalty on what was must not see it.
        ids = torch.where(mask.bool(), ids, last)
        opening = torch.tensor([start], dtype=ids.dtype).expand(len(ids), -1)
        mask = torch.cat([torch.ones_like(opening), mask, torch.ones_like(last)], dim=1)
        return Begun(torch.cat([opening, ids, last], dim=1), mask, cache)

    def answers(self, engine: "Engine", ending: Ending) -> list[Tokens]:
        """Greedy answers with whatever is attached."""
        out = self._generate(engine, ending)
        return [ending.cut(tokens) for tokens in out[:, self.ids.shape[1] :].tolist()]

    def first_logits(self, engine: "Engine") -> Tensor:
        """(rows, vocabulary) float32 logits of the first token of the answers."""
        out = self._generate(engine, Ending(1), output_logits=True, return_dict_in_generate=True)
        logits: Tensor = out.logits[0].float()
        return logits

    def _generate(self, engine: "Engine", ending: Ending, **more: Any) -> Any:
        cache = {} if self.cache is None else {"past_key_values": self.cache}
        with torch.no_grad():
            return engine.model.generate(
                input_ids=self.ids.to(engine.device),
                attention_mask=self.mask.to(engine.device),
                max_new_tokens=ending.new_tokens,
                do_sample=False,
                num_beams=1,
                eos_token_id=list(ending.stop) or None,
                pad_token_id=engine.filler,
                **cache,
                **more,
            )


def window(config: Any) -> int | None:
    """How many tokens back some layer of a model sees at most; None where all see everything.

    A cache with padding between a prompt and its answer is narrower than it looks for such a layer.
    """
    names = ("sliding_window", "attention_chunk_size", "window_size", "attention_window")
    found = [getattr(config, name, None) for name in names]
    if getattr(config, "use_sliding_window", True) is False:
        found[0] = None
    return min((size for size in found if isinstance(size, int) and size > 0), default=None)
