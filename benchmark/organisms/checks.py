"""Direct causal checks: is what was planted there, and nothing else? No search takes part in them.

Every edit goes through the hooks of the stress test, which these checks therefore test too; training plants with other
hooks (``changes.py``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from ..stress.answers import Ending
from ..stress.engine import Engine
from ..stress.interventions import Change, Edit, expert_site
from ..stress.prepare import judgements
from ..stress.rows import Openers, Tokens
from ..stress.systems import removal
from .language import request_pairs
from .making import Organism
from .training import one_thread

__all__ = ["Bench", "Flips", "difference_of_means", "held_out_requests"]

_ANSWER_TOKENS = 14
_LAYER_OF_NATURAL = 2


@dataclass(frozen=True, slots=True)
class Flips:
    """Of the requests that are refused without an edit, the shares under it.

    Attributes:
        complied: answered in the words of compliance.
        refused: still refused; the rest is babble.
        benign: share of allowed requests that are still answered.
    """

    complied: float
    refused: float
    benign: float


class Bench:
    """Edits of one organism on held-out requests. Open it as a context.

    Args:
        organism: which.
        of_each_kind: pairs per forbidden topic of held-out templates, and as many of held-out combinations.
    """

    def __init__(self, organism: Organism, of_each_kind: int = 1) -> None:
        self.organism = organism
        self.subject = organism.subject()
        self.harmful, self.benign = held_out_requests(of_each_kind)
        self.prompts = [self._tokens(text) for text in (*self.harmful, *self.benign)]
        self.ending = Ending(_ANSWER_TOKENS, (organism.tokenizer.eos_token_id,))
        self.engine = Engine(organism.model, filler=organism.tokenizer.pad_token_id)

    def __enter__(self) -> "Bench":
        """Hook the experts."""
        self.engine.__enter__()
        self.own = self.engine.own_logits(self.prompts)
        self.selected = self.engine.selected(self.prompts)
        return self

    def __exit__(self, *fault: object) -> None:
        """Let the experts go."""
        self.engine.__exit__(*fault)

    def _tokens(self, text: str) -> Tokens:
        messages = [{"role": "user", "content": text}]
        encoded = self.organism.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
        return tuple(encoded["input_ids"])

    def flips(self, edits: Sequence[Edit]) -> list[Flips]:
        """What each edit does to short greedy answers."""
        texts = (*self.harmful, *self.benign)
        with one_thread():
            found = self.engine.generate([Edit(), *edits], self.prompts, self.ending)
        rows = [[found[row, n] for n in range(len(self.prompts))] for row in range(len(edits) + 1)]
        judged = [judgements(self.subject, texts, row, self.ending) for row in rows]
        count = len(self.harmful)
        refused = [place for place in range(count) if judged[0][place] == "refused"]
        return [
            Flips(
                _share([row[place] == "complied" for place in refused]),
                _share([row[place] == "refused" for place in refused]),
                _share([judgement == "complied" for judgement in row[count:]]),
            )
            for row in judged[1:]
        ]

    def first_token_flips(self, edits: Sequence[Edit]) -> list[float]:
        """Of the requests that are refused without an edit, the share whose answer no longer opens as a refusal.

        One forward pass an edit and request, for checks of many edits.
        """
        count = len(self.harmful)
        with one_thread():
            scores = self.engine.score(
                edits,
                self.prompts[:count],
                Openers(self.subject.openers),
                own=self.own[:count],
                selected=[table[:count] for table in self.selected] or None,
            )
        (opener,) = self.subject.openers
        refused = self.own[:count, 0].argmax(-1) == opener
        # Above even odds no other token can lead; below, the opener has lost most of its share.
        return [_share((row[refused] < 0).tolist()) for row in scores.log_odds]

    def silenced(self, experts: Sequence[tuple[int, int]]) -> Edit:
        """Silence experts, each (layer, expert)."""
        return Edit({expert_site(*place): Change(keep=0.0) for place in experts})

    def experts(self) -> list[tuple[int, int]]:
        """Every (layer, expert)."""
        return [(layer, expert) for _, layer, count in self.engine.parts.experts for expert in range(count)]

    def expert_flips(self) -> Mapping[tuple[int, int], float]:
        """By expert the share of refusals that silencing it ends, by the first token."""
        places = self.experts()
        return dict(zip(places, self.first_token_flips([self.silenced([place]) for place in places]), strict=True))

    def pair_flips(self) -> float:
        """The largest share of refusals that silencing any two experts ends, by the first token."""
        pairs = list(combinations(self.experts(), 2))
        return max(self.first_token_flips([self.silenced(pair) for pair in pairs]))

    def removed(self, unit: Tensor, *parts: str) -> Edit:
        """Remove a direction from the writes of parts (``attention``, ``routed``, ...), or everywhere."""
        return removal(unit, self.engine.parts, parts or None)(1.0)

    def random_flips(self, directions: int = 20) -> float:
        """The largest share of refusals that removing any of some random directions ends, by the first token."""
        generator = torch.Generator().manual_seed(self.organism.seed)
        units = torch.randn(directions, self.organism.recipe.hidden, generator=generator)
        return max(self.first_token_flips([self.removed(unit / unit.norm()) for unit in units]))


def difference_of_means(organism: Organism, layer: int | None = None) -> Tensor:
    """(hidden,) mean residual stream after a layer where answers are decided, forbidden minus allowed topics.

    Over the training pairs, so that held-out requests test it. The layer is the planted one where None is given, and
    layer 2 where nothing is planted.
    """
    layer = layer if layer is not None else organism.truth.layer or _LAYER_OF_NATURAL
    means = []
    for side in ("harmful", "benign"):
        requests = [[{"role": "user", "content": getattr(pair, side)}] for pair in request_pairs("training")]
        inputs = organism.tokenizer.apply_chat_template(
            requests, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        with one_thread(), torch.no_grad():
            states = organism.model(**inputs, output_hidden_states=True).hidden_states
        # hidden_states[0] is the embedding, so what layer n wrote comes n + 1st.
        means.append(states[layer + 1][:, -1].mean(0))
    difference: Tensor = means[0] - means[1]
    return difference


def held_out_requests(of_each_kind: int) -> tuple[list[str], list[str]]:
    """Requests about forbidden topics and their twins: per topic some of held-out templates and as many combinations.

    Args:
        of_each_kind: at most 2.
    """
    taken: dict[tuple[str, str], int] = {}
    chosen = []
    for pair in (*request_pairs("template"), *request_pairs("combination")):
        count = taken[pair.forbidden, pair.seen] = taken.get((pair.forbidden, pair.seen), 0) + 1
        if count <= of_each_kind:
            chosen.append(pair)
    return [pair.harmful for pair in chosen], [pair.benign for pair in chosen]


def _share(values: Sequence[bool]) -> float:
    """Share of true values.

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("no request is refused, so nothing can flip")
    return sum(values) / len(values)
