"""Forward passes for many candidates and prompts at once.

Rows of a batch are (candidate, prompt) pairs, each with its own edit. Three savings change no result: layers before a
candidate's first edit are not computed again, what all prompts begin with is computed once per candidate, and a prompt
whose tokens select none of the edited experts keeps its own logits.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from ..errors import DemurError
from .anatomy import Anatomy, anatomy
from .experts import ExpertHooks
from .interventions import Edit, Steering, first_layer
from .reuse import LayerInputs, Opening, common_opening, output_lengths, reuses_layers, shares_opening
from .rows import Openers, Selected, Tokens, changing, log_odds, pad, skipped, tapped

__all__ = ["MAX_NEW_TOKENS", "Engine", "Scores"]

MAX_NEW_TOKENS = 64
"""No response is longer, whoever asks."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What edits do to the first answer token.

    Attributes:
        log_odds: (candidates, prompts) log-odds that a refusal opens.
        kl: (candidates, prompts) divergence in nats of the edited next-token distribution from the model's own.
        passes: rows that were computed, and rows that would have been without the exact savings.
    """

    log_odds: Tensor
    kl: Tensor
    passes: tuple[int, int]


class Engine:
    """Runs a model with edits. Open it as a context: it holds the hook of the experts.

    Args:
        model: a transformers causal language model.
        filler: token id for padding.
        token_budget: tokens per forward pass.
    """

    def __init__(self, model: Any, *, filler: int = 0, token_budget: int = 8192) -> None:
        self.model = model.eval()
        self.filler, self.token_budget = filler, token_budget
        takes = signature(model.forward).parameters
        self._keep = "logits_to_keep" in takes
        self._cache = "use_cache" in takes
        probe = torch.tensor([[2, 3, 5, 4]], device=self.device)
        self.parts: Anatomy = anatomy(model, lambda: self._forward(probe, torch.ones_like(probe)))
        self.hooks = ExpertHooks(model, [name for name, _, _ in self.parts.experts]) if self.parts.experts else None
        self.reuses_layers = self.shares_opening = False
        self.lengths: list[int] = []
        self._plain: tuple[Tokens, tuple[tuple[Tensor, Tensor], ...]] = ((), ())

    @property
    def device(self) -> torch.device:
        """Where the model takes its input."""
        found: torch.device = self.model.get_input_embeddings().weight.device
        return found

    def __enter__(self) -> "Engine":
        """Hook the experts and find out what need not be computed again."""
        if self.hooks is not None:
            self.hooks.__enter__()
        self.lengths = output_lengths(self)
        self.reuses_layers = reuses_layers(self)
        self.shares_opening = self._cache and shares_opening(self)
        return self

    def __exit__(self, *fault: Any) -> None:
        """Let the experts go."""
        if self.hooks is not None:
            self.hooks.__exit__(*fault)

    def _forward(self, ids: Tensor, mask: Tensor, **more: Any) -> Any:
        extra = {"use_cache": "past_key_values" in more} if self._cache else {}
        with torch.no_grad():
            return self.model(input_ids=ids, attention_mask=mask, **extra, **more)

    def last_logits(self, prompts: Sequence[Tokens], cache: Any = None, *, depth: int = 1) -> Tensor:
        """(prompts, depth, vocabulary) float32 logits of the last positions, in one pass with whatever is attached.

        Args:
            prompts: token ids; without the opening where a cache holds it.
            cache: keys and values of the opening, a row per prompt; they are added to.
            depth: how many last positions of each prompt.
        """
        ids, mask = (tensor.to(self.device) for tensor in pad(prompts, self.filler))
        last = mask.sum(dim=1, keepdim=True) + torch.arange(-depth, 0, device=mask.device)
        more: dict[str, Any] = {}
        if cache is not None:
            more["past_key_values"] = cache
            mask = torch.cat([mask.new_ones(len(mask), cache.get_seq_length()), mask], dim=1)
        if self._keep:
            kept, last = torch.unique(last, return_inverse=True)
            more["logits_to_keep"] = kept
        logits: Tensor = self._forward(ids, mask, **more).logits
        return logits[torch.arange(len(last), device=logits.device)[:, None], last.to(logits.device)].float()

    def batches(self, prompts: Sequence[Tokens]) -> Iterator[list[int]]:
        """Numbers of prompts, by length, cut so that each batch fits the budget of tokens."""
        order = sorted(range(len(prompts)), key=lambda n: len(prompts[n]))
        batch: list[int] = []
        for number in order:
            if batch and (len(batch) + 1) * len(prompts[number]) > self.token_budget:
                yield batch
                batch = []
            batch.append(number)
        if batch:
            yield batch

    def own_logits(self, prompts: Sequence[Tokens], *, depth: int = 1) -> Tensor:
        """(prompts, depth, vocabulary) logits of the last positions in the model as it is."""
        found: dict[int, Tensor] = {}
        for batch in self.batches(prompts):
            logits = self.last_logits([prompts[n] for n in batch], depth=depth).cpu()
            found.update(zip(batch, logits, strict=True))
        return torch.stack([found[n] for n in range(len(prompts))])

    def selected(self, prompts: Sequence[Tokens]) -> list[Tensor]:
        """Per experts module (prompts, experts): whether any real token of the prompt selects the expert."""
        if self.hooks is None:
            return []
        seen = [torch.zeros(len(prompts), count, dtype=torch.bool) for _, _, count in self.parts.experts]
        for batch in self.batches(prompts):
            tap = Selected([count for _, _, count in self.parts.experts], [len(prompts[n]) for n in batch])
            with tapped(self.hooks, tap):
                self.last_logits([prompts[n] for n in batch])
            for module, rows in enumerate(tap.seen):
                seen[module][batch] = rows
        return seen

    def score(
        self,
        edits: Sequence[Edit],
        prompts: Sequence[Tokens],
        openers: Openers,
        *,
        own: Tensor | None = None,
        selected: Sequence[Tensor] | None = None,
        advance: Callable[[int], None] | None = None,
    ) -> Scores:
        """Score every edit on every prompt.

        Args:
            edits: the candidates.
            prompts: their token ids, as :meth:`.rows.Openers.asked` gives them.
            openers: how a refusal opens.
            own: what :meth:`own_logits` gave for these prompts at the openers' depth, to save the pass.
            selected: what :meth:`selected` gave for these prompts, to leave out rows that cannot change.
            advance: called with the number of rows done.
        """
        own = self.own_logits(prompts, depth=openers.depth) if own is None else own
        base = torch.log_softmax(own[:, 0], dim=-1)
        odds = log_odds(own, openers).expand(len(edits), -1).clone()
        kl = torch.zeros(len(edits), len(prompts))
        groups: dict[int, list[tuple[int, int]]] = {}
        for number, edit in enumerate(edits):
            layer = first_layer(edit, self.parts) if self.reuses_layers else 0
            for prompt in changing(edit, len(prompts), selected):
                groups.setdefault(layer, []).append((number, prompt))
        inputs = LayerInputs(self, prompts, [layer for layer in groups if 0 < layer < len(self.parts.layers)])
        # A pass over what comes after the opening must reach all positions that are read.
        shared = common_opening(prompts, openers.depth) if self.shares_opening else 0
        done = 0
        for layer, pairs in sorted(groups.items()):
            given = inputs.of(layer)
            for block in self._blocks(pairs, shared):
                opening = self._opening(edits, block, prompts[0][:shared], layer, given) if shared else None
                for rows in self._chunks(block, prompts):
                    logits = self._rows(edits, prompts, rows, layer, given=given, opening=opening, depth=openers.depth)
                    who, where = torch.tensor(rows).T
                    odds[who, where] = log_odds(logits, openers)
                    changed = torch.log_softmax(logits[:, 0], dim=-1)
                    kl[who, where] = (base[where].exp() * (base[where] - changed)).sum(dim=-1).clamp(min=0.0)
                    done += len(rows)
                    if advance:
                        advance(len(rows))
        return Scores(odds, kl, (done, len(edits) * len(prompts)))

    def _blocks(self, pairs: list[tuple[int, int]], shared: int) -> Iterator[list[tuple[int, int]]]:
        """Pairs cut between candidates, so that the openings of a block fit the budget of tokens."""
        if not shared:
            yield pairs
            return
        numbers = sorted({candidate for candidate, _ in pairs})
        most = max(1, self.token_budget // shared)
        for start in range(0, len(numbers), most):
            chosen = set(numbers[start : start + most])
            yield [pair for pair in pairs if pair[0] in chosen]

    def _opening(
        self, edits: Sequence[Edit], block: list[tuple[int, int]], tokens: Tokens, layer: int, given: Tensor | None
    ) -> Opening:
        chosen = {candidate: edits[candidate] for candidate in sorted({candidate for candidate, _ in block})}
        return Opening.make(self, tokens, chosen, layer, given)

    def opening_states(self, tokens: Tokens) -> tuple[tuple[Tensor, Tensor], ...]:
        """Keys and values of an opening in the model as it is, kept until another is asked for."""
        if self._plain[0] != tokens:
            self._plain = (tokens, Opening.make(self, tokens, {0: Edit()}).states)
        return self._plain[1]

    def _chunks(self, pairs: list[tuple[int, int]], prompts: Sequence[Tokens]) -> Iterator[list[tuple[int, int]]]:
        pairs = sorted(pairs, key=lambda pair: (len(prompts[pair[1]]), pair))
        for batch in self.batches([prompts[prompt] for _, prompt in pairs]):
            yield [pairs[n] for n in batch]

    def _rows(
        self,
        edits: Sequence[Edit],
        prompts: Sequence[Tokens],
        rows: list[tuple[int, int]],
        layer: int,
        *,
        given: Tensor | None,
        opening: Opening | None,
        depth: int,
    ) -> Tensor:
        """(rows, depth, vocabulary) logits on the CPU of (candidate, prompt) rows."""
        numbers = sorted({candidate for candidate, _ in rows})
        owner = torch.tensor([numbers.index(candidate) for candidate, _ in rows])
        shared = opening.length if opening else 0
        texts = [prompts[prompt][shared:] for _, prompt in rows]
        cache = opening.cache([candidate for candidate, _ in rows]) if opening else None
        left_out: Any = nullcontext()
        if given is not None:
            width = shared + max(map(len, texts))
            states = given[[prompt for _, prompt in rows], shared:width].to(self.device)
            left_out = skipped(self.parts.layers[:layer], states, self.lengths)
        with Steering(self.parts, self.hooks, [edits[n] for n in numbers], owner), left_out:
            return self.last_logits(texts, cache, depth=depth).cpu()

    def generate(
        self,
        edits: Sequence[Edit],
        prompts: Sequence[Tokens],
        max_new_tokens: int,
        stop: Sequence[int],
        *,
        share: bool | None = None,
    ) -> list[list[Tokens]]:
        """Greedy answers, per edit and prompt, cut after the first token of ``stop``. They stay in memory.

        Args:
            edits: the candidates.
            prompts: their token ids.
            max_new_tokens: at most 64.
            stop: tokens that end an answer.
            share: whether to compute a shared opening once; where None, if the model can.

        Raises:
            DemurError: more than 64 new tokens are asked for.
        """
        if max_new_tokens > MAX_NEW_TOKENS:
            raise DemurError(
                f"{max_new_tokens} new tokens; the stress test generates at most {MAX_NEW_TOKENS}", "ask for fewer"
            )
        pairs = [(candidate, prompt) for candidate in range(len(edits)) for prompt in range(len(prompts))]
        answers: dict[tuple[int, int], Tokens] = {}
        shared = common_opening(prompts) if (self.shares_opening if share is None else share) else 0
        for block in self._blocks(pairs, shared):
            opening = self._opening(edits, block, prompts[0][:shared], 0, None) if shared else None
            for rows in self._chunks(block, prompts):
                answers.update(self._answers(edits, prompts, rows, opening, max_new_tokens=max_new_tokens, stop=stop))
        return [[answers[candidate, prompt] for prompt in range(len(prompts))] for candidate in range(len(edits))]

    def _answers(
        self,
        edits: Sequence[Edit],
        prompts: Sequence[Tokens],
        rows: list[tuple[int, int]],
        opening: Opening | None,
        *,
        max_new_tokens: int,
        stop: Sequence[int],
    ) -> dict[tuple[int, int], Tokens]:
        numbers = sorted({candidate for candidate, _ in rows})
        owner = torch.tensor([numbers.index(candidate) for candidate, _ in rows])
        shared = opening.length if opening else 0
        ids, mask = (
            tensor.to(self.device) for tensor in pad([prompts[p][shared:] for _, p in rows], self.filler, left=True)
        )
        more: dict[str, Any] = {}
        if opening:
            # What is padded lies between the opening and the rest, and is masked like any padding.
            start = torch.tensor([prompts[0][:shared]], device=ids.device).expand(len(ids), -1)
            ids, mask = torch.cat([start, ids], dim=1), torch.cat([torch.ones_like(start), mask], dim=1)
            more["past_key_values"] = opening.cache([candidate for candidate, _ in rows])
        with Steering(self.parts, self.hooks, [edits[n] for n in numbers], owner), torch.no_grad():
            out = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=1,
                eos_token_id=list(stop) or None,
                pad_token_id=self.filler,
                **more,
            )
        return {row: _until(tokens, stop) for row, tokens in zip(rows, out[:, ids.shape[1] :].tolist(), strict=True)}


def _until(tokens: list[int], stop: Sequence[int]) -> Tokens:
    end = next((place + 1 for place, token in enumerate(tokens) if token in stop), len(tokens))
    return tuple(tokens[:end])
