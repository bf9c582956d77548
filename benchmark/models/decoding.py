"""Generating many responses at once.

What all prompts of a batch begin with is computed once, the rest of each prompt once; the cache is then repeated per
sample, and rows that have ended are dropped.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

__all__ = ["Limits", "Output", "decode"]

ROOM = 64
"""Positions by which a cache grows at once."""

Choose = Callable[[Tensor, Tensor, int], Tensor]
"""(logits of the rows in flight, their numbers, step) to token ids; a negative id gives the row up."""


@dataclass(frozen=True, slots=True)
class Output:
    """The tokens of one row, without the one that ended it.

    Attributes:
        row: number of the row, counted over all copies of all prompts.
        tokens: the generated ids.
        end: ``stop`` (an end token), ``length`` (the limit) or ``fault`` (no number could be computed).
    """

    row: int
    tokens: list[int]
    end: str


@dataclass(frozen=True, slots=True)
class Limits:
    """When a row ends.

    Attributes:
        stop: ids of the end tokens.
        answer: tokens of the answer.
        thinking: tokens of a thinking part; it does not count towards the answer.
        close: id of the token that ends a thinking part; None where the tokenizer has none.
        open: id of the token that begins one.
    """

    stop: frozenset[int]
    answer: int
    thinking: int = 0
    close: int | None = None
    open: int | None = None

    def allowed(self, tokens: Sequence[int], *, thinking: bool) -> int:
        """How many tokens a row may have in all, given those that it has; ``thinking``: the prompt opened it."""
        if self.close is None:
            return self.answer
        if self.close in tokens:
            return tokens.index(self.close) + 1 + self.answer
        begun = thinking or (self.open is not None and self.open in tokens[:3])
        return self.thinking if begun else self.answer

    @property
    def longest(self) -> int:
        """The most tokens that any row can have."""
        return self.answer if self.close is None else self.thinking + 1 + self.answer


class _GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A cache layer that is written in place into spare room, where the usual one copies everything at each token."""

    _key_room: Tensor
    _value_room: Tensor

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: object, **_options: object
    ) -> tuple[Tensor, Tensor]:
        """Append keys and values of shape (rows, heads, new, size); give all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        old = self.get_seq_length()
        new = old + key_states.shape[-2]
        if old == 0 or self._key_room.shape[-2] < new:
            self._key_room = _roomy(self.keys if old else None, key_states, new + ROOM)
            self._value_room = _roomy(self.values if old else None, value_states, new + ROOM)
        self._key_room[:, :, old:new] = key_states
        self._value_room[:, :, old:new] = value_states
        self.keys, self.values = self._key_room[:, :, :new], self._value_room[:, :, :new]
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take rows by number; a row may be taken several times."""
        length = self.get_seq_length()
        rows = beam_idx.to(self._key_room.device)
        self._key_room, self._value_room = _taken(self._key_room, rows), _taken(self._value_room, rows)
        self.keys, self.values = self._key_room[:, :, :length], self._value_room[:, :, :length]


def _taken(room: Tensor, rows: Tensor) -> Tensor:
    """Rows of a cache; where they become fewer, only those that change their place are copied."""
    if len(rows) > len(room):
        return room.index_select(0, rows)
    moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
    if len(moved):
        room[moved] = room[rows[moved]]
    return room[: len(rows)]


def _roomy(held: Tensor | None, like: Tensor, length: int) -> Tensor:
    rows, heads, _, size = like.shape
    room = like.new_empty(rows, heads, length, size)
    if held is not None:
        room[:, :, : held.shape[-2]] = held
    return room


def _empty_cache(model: Any) -> Any:
    cache: Any = DynamicCache(config=model.config.get_text_config(decoder=True))
    cache.layers = [
        _GrowingLayer() if type(layer) is DynamicLayer else layer  # type: ignore[no-untyped-call]
        for layer in cache.layers
    ]
    return cache


@torch.inference_mode()
def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    copies: Sequence[int],
    *,
    opened: Sequence[bool],
    limits: Limits,
    choose: Choose,
) -> Iterator[Output]:
    """Generate ``copies[i]`` continuations of ``prompts[i]`` together; give each when it ends.

    Args:
        model: a causal language model of transformers.
        prompts: token ids, padded on the left here.
        copies: continuations of each prompt.
        opened: whether a prompt ends inside a thinking part.
        limits: when a row ends.
        choose: picks the next tokens.
    """
    device = model.device
    cache = _empty_cache(model)
    mask, logits = _prefill(model, prompts, cache)
    source = torch.arange(len(prompts)).repeat_interleave(torch.tensor(copies))
    thinking = [opened[number] for number in source.tolist()]
    texts: list[list[int]] = [[] for _ in thinking]
    rows = torch.arange(len(thinking))
    if len(prompts) != len(thinking):
        cache.reorder_cache(source.to(device))
    mask, logits = mask[source.to(device)], logits[source.to(device)]
    for step in range(limits.longest):
        tokens = choose(logits, rows, step)
        going = torch.ones(len(rows), dtype=torch.bool)
        for place, (row, token) in enumerate(zip(rows.tolist(), tokens.tolist(), strict=True)):
            end = _end(texts[row], token, limits, thinking=thinking[row])
            if end:
                going[place] = False
                yield Output(row, texts[row], end)
        if not going.any():
            return
        if not going.all():
            kept = _closed_up(going)
            rows, tokens, mask = rows[kept], tokens[kept.to(tokens.device)], mask[kept.to(device)]
            cache.reorder_cache(kept.to(device))
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        logits = _forward(model, tokens[:, None].to(device), mask, mask.sum(1, keepdim=True) - 1, cache)


def _closed_up(going: Tensor) -> Tensor:
    """Places of the rows that go on; gaps are filled from the end, so that few rows change their place."""
    kept = going.nonzero()[:, 0]
    places = torch.arange(len(kept))
    gaps = ~going[: len(kept)]
    places[gaps] = kept[len(kept) - int(gaps.sum()) :]
    return places


def _end(text: list[int], token: int, limits: Limits, *, thinking: bool) -> str:
    """Add a token to a row's text; why the row ends with it, or nothing."""
    if token < 0:
        return "fault"
    if token in limits.stop:
        return "stop"
    text.append(token)
    return "length" if len(text) >= limits.allowed(text, thinking=thinking) else ""


def _prefill(model: Any, prompts: Sequence[Sequence[int]], cache: Any) -> tuple[Tensor, Tensor]:
    """Fill the cache with the prompts; attention mask (prompts, longest) and logits of the first token."""
    shared = _shared(prompts) if _may_share(model, cache) else 0
    if shared:
        head = torch.tensor([prompts[0][:shared]], device=model.device)
        _forward(model, head, torch.ones_like(head), torch.arange(shared, device=model.device)[None], cache)
        cache.reorder_cache(torch.zeros(len(prompts), dtype=torch.long, device=model.device))
    longest = max(len(prompt) for prompt in prompts) - shared
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros(len(prompts), shared + longest, dtype=torch.long)
    mask[:, :shared] = 1
    for number, prompt in enumerate(prompts):
        rest = torch.tensor(prompt[shared:])
        ids[number, longest - len(rest) :] = rest
        mask[number, shared + longest - len(rest) :] = 1
    mask = mask.to(model.device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, shared:]
    return mask, _forward(model, ids.to(model.device), mask, positions, cache)


def _may_share(model: Any, cache: Any) -> bool:
    """Whether a shared beginning may lie before the padding: only where a layer attends by mask and not by distance."""
    attention = getattr(model.config, "_attn_implementation", None)
    return attention in {"sdpa", "eager"} and all(type(layer) is _GrowingLayer for layer in cache.layers)


def _shared(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with, but for the last of each; 0 for a single prompt."""
    if len(prompts) == 1:
        return 0
    first, last = min(map(tuple, prompts)), max(map(tuple, prompts))
    most = min(len(prompt) for prompt in prompts) - 1
    return next((place for place in range(most) if first[place] != last[place]), most)


def _forward(model: Any, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
    """Logits of the last position, float32."""
    out = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: Tensor = out.logits[:, -1].float()
    return logits
