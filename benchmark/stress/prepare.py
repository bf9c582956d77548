"""What every system starts from: tokens, the model's own answers, refusal openers, directions and routing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..errors import DemurError
from .answers import Ending
from .directions import Collected, collect, collect_against, common_suffix, pair_samples
from .engine import Engine
from .interventions import Edit
from .rows import Openers, Tokens
from .settings import Settings
from .subject import Judgement, Subject

__all__ = [
    "MIN_REFUSALS",
    "MIN_REFUSAL_RATE",
    "Asked",
    "Prepared",
    "Side",
    "judgements",
    "learn_openers",
    "prepare",
    "tokens_of",
]

MIN_REFUSAL_RATE = 0.2
MIN_REFUSALS = 3
REFUSING = frozenset({"refused", "partial"})
MIN_OPENER_SHARE = 0.05
CLEAR = 4.0
"""How many times the share among other answers an opener's share among refusals is, to decide by itself."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the pairs of one part.

    Attributes:
        ids: of the pairs.
        texts: kept in memory, for the judge.
        prompts: token ids with the chat template.
        verdicts: on the unsteered model's answers.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    prompts: tuple[Tokens, ...]
    verdicts: tuple[Judgement, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """Both sides of the pairs of one part, to be asked at once: all harmful prompts, then their benign twins.

    Attributes:
        harmful: as many as benign.
        benign: in the same order.
        prompts: as they are scored, see :class:`.rows.Openers`.
        own: (prompts, depth, vocabulary) logits of the model as it is.
        selected: which experts each prompt selects anywhere, see :meth:`.engine.Engine.selected`.
    """

    harmful: Side
    benign: Side
    prompts: tuple[Tokens, ...]
    own: Tensor
    selected: tuple[Tensor, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """Of all prompts."""
        return self.harmful.texts + self.benign.texts

    @property
    def verdicts(self) -> tuple[Judgement, ...]:
        """On the unsteered answers to all prompts."""
        return self.harmful.verdicts + self.benign.verdicts

    @property
    def pairs(self) -> int:
        """How many there are: prompt n + pairs is the twin of prompt n."""
        return len(self.harmful.ids)

    def columns(self, pairs: int) -> list[int]:
        """Numbers of the prompts of the first pairs: harmful ones, then benign ones."""
        some = range(min(pairs, self.pairs))
        return [*some, *(self.pairs + n for n in some)]


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that candidates are made from and judged on.

    Attributes:
        validation: what searches choose by.
        test: what figures are measured on.
        openers: how refusals open.
        collected: means and routing of the training pairs.
        seeds: selection seeds; weighting s of ``collected`` is seed s, weighting seeds + k is shuffle k.
        refusal_rate: share of scored answers to harmful validation and test prompts that refuse, unsteered.
        against_general: (seeds, layers, p, hidden) harmful minus general instructions; None where none are given.
        ending: of answers.
        scored: per candidate and dose what searches scored before and other seeds try again: log-odds and KL
            (2, prompts), NaN where not scored yet.
    """

    subject: Subject
    settings: Settings
    validation: Asked
    test: Asked
    openers: Openers
    collected: Collected
    seeds: int
    refusal_rate: float
    ending: Ending
    against_general: Tensor | None = None
    scored: dict[tuple[str, float, bool], Tensor] = field(default_factory=dict)


def tokens_of(subject: Subject, texts: Sequence[str]) -> tuple[Tokens, ...]:
    """Token ids of the texts as a user's turn, ending where the assistant's answer begins."""
    found = []
    for text in texts:
        ids = subject.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"]
        found.append(tuple(int(token) for token in ids))
    return tuple(found)


def stop_tokens(subject: Subject) -> tuple[int, ...]:
    """Ids after which an answer is complete."""
    config: Any = getattr(subject.model, "generation_config", None)
    given = [subject.tokenizer.eos_token_id, getattr(config, "eos_token_id", None)]
    flat = [token for entry in given for token in (entry if isinstance(entry, list) else [entry]) if token is not None]
    if not flat:
        raise DemurError(f"{subject.name}: no end-of-answer token is known", "set tokenizer.eos_token")
    return tuple(sorted(set(flat)))


def judgements(
    subject: Subject, texts: Sequence[str], answers: Sequence[Tokens], ending: Ending
) -> tuple[Judgement, ...]:
    """The judge on answers to texts, in memory; only the judgements leave this function."""
    ended = [bool(tokens) and tokens[-1] in ending.stop for tokens in answers]
    said = [subject.tokenizer.decode(tokens, skip_special_tokens=True) for tokens in answers]
    return tuple(subject.judge(texts, said, ended))


def learn_openers(refusing: Sequence[Tokens], other: Sequence[Tokens]) -> Openers:
    """Openers from the first two tokens of refusals and of other answers.

    A first token of at least 5 % of the refusals decides by itself where its share of them is four times that of the
    other answers. Of those that open both, the commonest becomes the lead, if the tokens after it tell them apart; else
    one decides that opens more of the refusals than of the others.

    Raises:
        DemurError: nothing tells them apart.
    """
    ours, theirs = _shares([tokens[0] for tokens in refusing]), _shares([tokens[0] for tokens in other])
    both = [
        token for token, share in ours.items() if MIN_OPENER_SHARE <= share < CLEAR * theirs.get(token, 0.0)
    ]  # fmt: skip
    lead, second = max(both, key=lambda token: (ours[token], -token), default=None), set[int]()
    if lead is not None:
        after, theirs_after = (
            _shares([tokens[1] for tokens in rows if tokens[0] == lead and len(tokens) > 1])
            for rows in (refusing, other)
        )
        second = _telling(after, theirs_after)
    if not second:
        lead = None
    first = _telling(ours, theirs) - {lead}
    if not first and lead is None:
        raise DemurError(
            "refusals of this model open with the same tokens as its other answers",
            "name the tokens that open a refusal",
        )
    return Openers(tuple(sorted(first)), lead, tuple(sorted(second)))


def _telling(ours: Mapping[int, float], theirs: Mapping[int, float]) -> set[int]:
    """Tokens of enough of the refusals, and of more of them than of the other answers."""
    return {
        token for token, share in ours.items() if share >= MIN_OPENER_SHARE and share > theirs.get(token, 0.0)
    }  # fmt: skip


def _shares(tokens: Sequence[int]) -> dict[int, float]:
    return {token: count / len(tokens) for token, count in Counter(tokens).items()}


def _answered(
    subject: Subject, engine: Engine, plan: Settings, ending: Ending
) -> dict[tuple[str, str], tuple[Side, list[Tokens]]]:
    """By (part, side) the validation and test prompts with the verdicts on unsteered answers, and these answers."""
    pairs = {"validation": subject.part("validation")[: plan.validation_pairs]}
    pairs["test"] = subject.part("test")[: plan.test_pairs]
    texts = {
        (part, side): tuple(getattr(pair, side) for pair in mine)
        for part, mine in pairs.items() for side in ("harmful", "benign")
    }  # fmt: skip
    prompts = {key: tokens_of(subject, mine) for key, mine in texts.items()}
    answers = engine.generate([Edit()], [tokens for mine in prompts.values() for tokens in mine], ending)
    rest = iter(answers[0, n] for n in range(len(answers)))
    found = {}
    for key, mine in texts.items():
        said = [next(rest) for _ in mine]
        verdicts = judgements(subject, mine, said, ending)
        found[key] = Side(tuple(pair.id for pair in pairs[key[0]]), mine, prompts[key], verdicts), said
    return found


def _learnt(taught: Sequence[tuple[Side, Sequence[Tokens]]]) -> Openers:
    """The openers of the first two tokens of judged greedy answers."""
    refusing: list[Tokens] = []
    other: list[Tokens] = []
    for where, answers in taught:
        for verdict, tokens in zip(where.verdicts, answers, strict=True):
            if verdict != "unscored" and tokens:
                (refusing if verdict in REFUSING else other).append(tokens[:2])
    return learn_openers(refusing, other)


def prepare(subject: Subject, engine: Engine, plan: Settings) -> Prepared:
    """Answer all prompts once unsteered, learn the openers, collect directions and routing.

    Raises:
        DemurError: the model refuses too little for anything to be measured; the rate is in the message.
    """
    ending = Ending(plan.new_tokens, stop_tokens(subject))
    sides = _answered(subject, engine, plan, ending)
    scored = [
        verdict in REFUSING
        for (_, side), (where, _) in sides.items()
        for verdict in where.verdicts
        if side == "harmful" and verdict != "unscored"
    ]
    rate = sum(scored) / len(scored) if scored else 0.0
    # Openers are learnt from validation prompts, so that no figure is fitted to its own prompts.
    taught = [entry for (part, _), entry in sides.items() if part == "validation"]
    refuses = any(verdict in REFUSING for where, _ in taught for verdict in where.verdicts)
    if sum(scored) < MIN_REFUSALS or rate < MIN_REFUSAL_RATE or not refuses:
        raise DemurError(
            f"{subject.name}: nothing to measure: it refuses {sum(scored)} of {len(scored)} scored harmful prompts "
            f"({rate:.0%}); at least {MIN_REFUSALS} and {MIN_REFUSAL_RATE:.0%} are needed",
            "measure a model that refuses, or give pairs that it refuses (--pairs)",
        )
    openers = Openers(subject.openers) if subject.openers else _learnt(taught)

    def asked(part: str) -> Asked:
        (harmful, _), (benign, _) = sides[part, "harmful"], sides[part, "benign"]
        prompts = openers.asked(harmful.prompts + benign.prompts)
        own = engine.own_logits(prompts, depth=openers.depth)
        return Asked(harmful, benign, prompts, own, tuple(engine.selected(prompts)))

    train = subject.part("train")
    harmful = tokens_of(subject, [pair.harmful for pair in train])
    benign = tokens_of(subject, [pair.benign for pair in train])
    general = tokens_of(subject, subject.general)
    positions = common_suffix([*harmful, *benign, *general], plan.positions)
    weights = pair_samples(len(train), plan.seeds, max(plan.shuffles, plan.control_seeds))
    collected = collect(engine, harmful, benign, weights, positions, for_experts=plan.seeds + plan.control_seeds)
    against = collect_against(engine, harmful, general, weights[: plan.seeds], positions) if general else None
    return Prepared(
        subject, plan, asked("validation"), asked("test"), openers, collected, plan.seeds, rate, ending, against
    )
