"""Forward passes for many candidates and prompts at once.

Rows of a batch are (candidate, prompt) pairs, each with its own edit. Four savings change no result: layers before a
candidate's first edit are not computed again, what all prompts begin with is computed once per candidate, a prompt
whose tokens select none of the edited experts keeps its own logits, and answers go on from the pass that scored their
prompts.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from .anatomy import Anatomy, anatomy
from .answers import Begun, Ending, window
from .experts import ExpertHooks
from .interventions import Edit, Steering, first_layer
from .reuse import LayerInputs, Opening, common_opening, narrows, output_lengths, reuses_layers, shares_opening
from .rows import Openers, Selected, Tokens, changing, log_odds, narrowed, pad, skipped, tapped

__all__ = ["Engine", "Scores"]

Row = tuple[int, int]
"""Numbers of a candidate and of a prompt."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What edits do to the first answer token, and to answers where they were asked for; NaN where nothing was.

    Attributes:
        log_odds: (candidates, prompts) log-odds that a refusal opens.
        kl: (candidates, prompts) divergence in nats of the edited next-token distribution from the model's own.
        passes: rows that were computed, and rows that would have been without the exact savings.
        answers: by candidate and prompt.
    """

    log_odds: Tensor
    kl: Tensor
    passes: tuple[int, int]
    answers: dict[Row, Tokens]


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
        self._cache = "past_key_values" in takes
        probe = torch.tensor([[2, 3, 5, 4]], device=self.device)
        self.parts: Anatomy = anatomy(model, lambda: self._forward(probe, torch.ones_like(probe)))
        self.hooks = ExpertHooks(model, [name for name, _, _ in self.parts.experts]) if self.parts.experts else None
        self.reuses_layers = self.shares_opening = self.narrows = False
        self.lengths: list[int] = []
        self._inputs: dict[tuple[Tokens, ...], LayerInputs] = {}
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
        self.narrows = narrows(self)
        self.lengths = output_lengths(self)
        self.reuses_layers = reuses_layers(self)
        self.shares_opening = self._cache and shares_opening(self)
        return self

    def __exit__(self, *fault: Any) -> None:
        """Let the experts go."""
        self._inputs, self._plain = {}, ((), ())
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
        with narrowed(self.model.get_output_embeddings() if self.narrows else None, last):
            logits: Tensor = self._forward(ids, mask, **more).logits
        # As many as asked for are those asked for: narrowed, or the same places in every row.
        if logits.shape[1] != depth:
            logits = logits[torch.arange(len(last), device=logits.device)[:, None], last.to(logits.device)]
        return logits.float()

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
        wanted: Tensor | None = None,
        ending: Ending | None = None,
        answered: Tensor | None = None,
    ) -> Scores:
        """Score edits on prompts, and go on to an answer where one is wanted.

        Args:
            edits: the candidates.
            prompts: their token ids, as :meth:`.rows.Openers.asked` gives them.
            openers: how a refusal opens.
            own: what :meth:`own_logits` gave for these prompts at the openers' depth, to save the pass.
            selected: what :meth:`selected` gave for these prompts, to leave out rows that cannot change.
            wanted: (candidates, prompts) which are scored, all without it; the others are NaN.
            ending: of answers; None where none are wanted.
            answered: (candidates, prompts) which are answered as well, of those scored; all without it.
        """
        own = self.own_logits(prompts, depth=openers.depth) if own is None else own
        base = torch.log_softmax(own[:, 0], dim=-1)
        every = torch.ones(len(edits), len(prompts), dtype=torch.bool)
        wanted = every if wanted is None else wanted
        answered = (wanted if answered is None else answered & wanted) if ending else ~every
        odds = torch.where(wanted, log_odds(own, openers), torch.nan)
        kl = torch.where(wanted, 0.0, torch.nan)
        answers: dict[Row, Tokens] = {}
        if ending and not self._goes_on(prompts, ending):
            answers = self.generate(edits, [openers.plain(tokens) for tokens in prompts], ending, wanted=answered)
            answered = ~every
        groups: dict[tuple[int, bool], list[Row]] = {}
        changed = [set(changing(edit, len(prompts), selected)) for edit in edits]
        for number, edit in enumerate(edits):
            layer = first_layer(edit, self.parts) if self.reuses_layers else 0
            for prompt in wanted[number].nonzero().flatten().tolist():
                if answered[number, prompt]:
                    groups.setdefault((0, True), []).append((number, prompt))  # its answer needs all layers' keys
                elif prompt in changed[number]:
                    groups.setdefault((layer, False), []).append((number, prompt))
        inner = sorted({layer for layer, _ in groups if 0 < layer < len(self.parts.layers)})
        inputs, done = self._inputs_of(prompts), 0
        for (layer, answering), pairs in sorted(groups.items()):
            given = inputs.of(layer, inner) if layer in inner else None
            end = ending if answering else None
            for rows, logits, found in self._passes(
                edits, prompts, pairs, layer=layer, given=given, depth=openers.depth, ending=end
            ):
                answers.update(found)
                done += len(rows)
                moved = [n for n, (candidate, prompt) in enumerate(rows) if prompt in changed[candidate]]
                if moved:
                    who, where = torch.tensor([rows[n] for n in moved]).T
                    odds[who, where] = log_odds(logits[moved], openers)
                    after = torch.log_softmax(logits[moved, 0], dim=-1)
                    kl[who, where] = (base[where].exp() * (base[where] - after)).sum(dim=-1).clamp(min=0.0)
        return Scores(odds, kl, (done, int(wanted.sum())), answers)

    def generate(
        self, edits: Sequence[Edit], prompts: Sequence[Tokens], ending: Ending, *, wanted: Tensor | None = None
    ) -> dict[Row, Tokens]:
        """Greedy answers by edit and prompt. They stay in memory.

        Args:
            edits: the candidates.
            prompts: their token ids.
            ending: of the answers.
            wanted: (candidates, prompts) which are answered; all without it.
        """
        every = torch.ones(len(edits), len(prompts), dtype=torch.bool)
        pairs = [(c, p) for c, p in (every if wanted is None else wanted).nonzero().tolist()]
        answers: dict[Row, Tokens] = {}
        if self._goes_on(prompts, ending):
            for _, _, found in self._passes(edits, prompts, pairs, ending=ending):
                answers.update(found)
            return answers
        for rows in self._chunks(pairs, prompts):
            with self._steering(edits, rows):
                found_here = Begun.whole(self, [prompts[p] for _, p in rows]).answers(self, ending)
            answers.update(zip(rows, found_here, strict=True))
        return answers

    def _goes_on(self, prompts: Sequence[Tokens], ending: Ending) -> bool:
        """Whether answers may go on from the pass that scored their prompts."""
        seen = window(self.model.config.get_text_config())
        longest = max(map(len, prompts)) + 1 + ending.new_tokens
        return self.shares_opening and (seen is None or longest < seen)

    def _passes(
        self,
        edits: Sequence[Edit],
        prompts: Sequence[Tokens],
        pairs: list[Row],
        *,
        layer: int = 0,
        given: Tensor | None = None,
        depth: int = 1,
        ending: Ending | None = None,
    ) -> Iterator[tuple[list[Row], Tensor, dict[Row, Tokens]]]:
        """Rows, their (rows, depth, vocabulary) logits on the CPU, and their answers where an ending is given.

        Layers before ``layer`` are left out where what it is ``given`` is known.
        """
        # A pass over what comes after the opening must reach all positions that are read.
        shared = common_opening(prompts, depth) if self.shares_opening else 0
        for block in self._blocks(pairs, shared):
            opening = self._opening(edits, block, prompts[0][:shared], layer, given) if shared else None
            for rows in self._chunks(block, prompts):
                texts = [prompts[prompt][shared:] for _, prompt in rows]
                cache = opening.cache([c for c, _ in rows]) if opening else DynamicCache() if ending else None
                left_out: Any = nullcontext()
                if given is not None:
                    width = shared + max(map(len, texts))
                    states = given[[prompt for _, prompt in rows], shared:width].to(self.device)
                    left_out = skipped(self.parts.layers[:layer], states, self.lengths)
                with self._steering(edits, rows), left_out:
                    logits = self.last_logits(texts, cache, depth=depth).cpu()
                    answers: dict[Row, Tokens] = {}
                    if ending:
                        begun = Begun.scored(self, prompts[0][:shared], texts, cache, depth)
                        answers = dict(zip(rows, begun.answers(self, ending), strict=True))
                yield rows, logits, answers

    def _steering(self, edits: Sequence[Edit], rows: list[Row]) -> Steering:
        numbers = sorted({candidate for candidate, _ in rows})
        owner = torch.tensor([numbers.index(candidate) for candidate, _ in rows])
        return Steering(self.parts, self.hooks, [edits[n] for n in numbers], owner)

    def _blocks(self, pairs: list[Row], shared: int) -> Iterator[list[Row]]:
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
        self, edits: Sequence[Edit], block: list[Row], tokens: Tokens, layer: int, given: Tensor | None
    ) -> Opening:
        chosen = {candidate: edits[candidate] for candidate in sorted({candidate for candidate, _ in block})}
        return Opening.make(self, tokens, chosen, layer, given)

    def opening_states(self, tokens: Tokens) -> tuple[tuple[Tensor, Tensor], ...]:
        """Keys and values of an opening in the model as it is, kept until another is asked for."""
        if self._plain[0] != tokens:
            self._plain = (tokens, Opening.make(self, tokens, {0: Edit()}).states)
        return self._plain[1]

    def _inputs_of(self, prompts: Sequence[Tokens]) -> LayerInputs:
        """Kept for the two sets of prompts that were asked last: a sweep goes between two."""
        key = tuple(prompts)
        found = self._inputs.pop(key, None) or LayerInputs(self, key)
        self._inputs = {**dict(list(self._inputs.items())[-1:]), key: found}
        return found

    def _chunks(self, pairs: list[Row], prompts: Sequence[Tokens]) -> Iterator[list[Row]]:
        pairs = sorted(pairs, key=lambda pair: (len(prompts[pair[1]]), pair))
        for batch in self.batches([prompts[prompt] for _, prompt in pairs]):
            yield [pairs[n] for n in batch]
