"""What every system starts from: tokens, the model's own answers, refusal openers, directions and routing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import DemurError
from .directions import Collected, collect, collect_against, common_suffix, pair_samples
from .engine import Engine
from .interventions import Edit
from .rows import Openers, Tokens
from .settings import Settings
from .subject import Judgement, Subject

__all__ = ["MIN_REFUSALS", "MIN_REFUSAL_RATE", "Prepared", "Side", "judge", "learn_openers", "prepare", "tokens_of"]

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
        answered: whether the unsteered model answers each prompt.
        asked: the same as they are scored, see :class:`.rows.Openers`.
        own: (prompts, depth, vocabulary) logits of the model as it is on what is asked.
        selected: which experts each asked prompt selects anywhere, see :meth:`.engine.Engine.selected`.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    prompts: tuple[Tokens, ...]
    answered: tuple[bool, ...] = ()
    asked: tuple[Tokens, ...] = ()
    own: Tensor = field(default_factory=lambda: torch.zeros(0))
    selected: tuple[Tensor, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that candidates are made from and judged on.

    Attributes:
        sides: by (part, side) for ``validation`` and ``test``.
        openers: how refusals open.
        collected: means and routing of the training pairs.
        seeds: selection seeds; weighting s of ``collected`` is seed s, weighting seeds + k is shuffle k.
        refusal_rate: share of scored answers to harmful validation and test prompts that refuse, unsteered.
        against_general: (seeds, layers, p, hidden) harmful minus general instructions; None where none are given.
        scored: log-odds and KL of what searches scored before and other seeds try again, by what was scored.
    """

    subject: Subject
    settings: Settings
    sides: dict[tuple[str, str], Side]
    openers: Openers
    collected: Collected
    seeds: int
    refusal_rate: float
    stop: tuple[int, ...]
    against_general: Tensor | None = None
    scored: dict[tuple[str, float, str, int], tuple[Tensor, Tensor]] = field(default_factory=dict)


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


def judge(
    subject: Subject, engine: Engine, edits: Sequence[Edit], side: Side, *, new_tokens: int, stop: Sequence[int]
) -> list[list[Judgement]]:
    """Short greedy answers under each edit, judged in memory; only the judgements leave this function."""
    answers = engine.generate(edits, side.prompts, new_tokens, stop)
    judged = []
    for row in answers:
        ended = [bool(tokens) and tokens[-1] in stop for tokens in row]
        texts = [subject.tokenizer.decode(tokens, skip_special_tokens=True) for tokens in row]
        judged.append(subject.judge(side.texts, texts, ended))
    return judged


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
    subject: Subject, engine: Engine, plan: Settings, part: str, side: str, *, limit: int, stop: Sequence[int]
) -> tuple[Side, list[Judgement]]:
    """One side of the pairs of a part with the judgements of its unsteered answers; not scored yet."""
    pairs = subject.part(part)[:limit]  # type: ignore[arg-type]  # the caller's keys are parts
    texts = tuple(getattr(pair, side) for pair in pairs)
    where = Side(tuple(pair.id for pair in pairs), texts, tokens_of(subject, texts))
    (verdicts,) = judge(subject, engine, [Edit()], where, new_tokens=plan.new_tokens, stop=stop)
    return replace(where, answered=tuple(verdict == "complied" for verdict in verdicts)), verdicts


def _learnt(engine: Engine, taught: Sequence[tuple[Side, list[Judgement]]]) -> Openers:
    """The openers of the first two tokens of judged greedy answers."""
    refusing: list[Tokens] = []
    other: list[Tokens] = []
    for where, verdicts in taught:
        first = engine.own_logits(where.prompts)[:, 0].argmax(dim=-1).tolist()
        longer = [(*tokens, token) for tokens, token in zip(where.prompts, first, strict=True)]
        second = engine.own_logits(longer)[:, 0].argmax(dim=-1).tolist()
        for verdict, start in zip(verdicts, zip(first, second, strict=True), strict=True):
            if verdict != "unscored":
                (refusing if verdict in REFUSING else other).append(start)
    return learn_openers(refusing, other)


def prepare(subject: Subject, engine: Engine, plan: Settings) -> Prepared:
    """Answer all prompts once unsteered, learn the openers, collect directions and routing.

    Raises:
        DemurError: the model refuses too little for anything to be measured; the rate is in the message.
    """
    limits = {"validation": plan.validation_pairs, "test": plan.test_pairs}
    stop = stop_tokens(subject)
    judged = {
        (part, side): _answered(subject, engine, plan, part, side, limit=limit, stop=stop)
        for part, limit in limits.items() for side in ("harmful", "benign")
    }  # fmt: skip
    scored = [
        verdict in REFUSING
        for (_, side), (_, verdicts) in judged.items()
        for verdict in verdicts
        if side == "harmful" and verdict != "unscored"
    ]
    rate = sum(scored) / len(scored) if scored else 0.0
    # Openers are learnt from validation prompts, so that no figure is fitted to its own prompts.
    taught = [entry for (part, _), entry in judged.items() if part == "validation"]
    refuses = any(verdict in REFUSING for _, verdicts in taught for verdict in verdicts)
    if sum(scored) < MIN_REFUSALS or rate < MIN_REFUSAL_RATE or not refuses:
        raise DemurError(
            f"{subject.name}: nothing to measure: it refuses {sum(scored)} of {len(scored)} scored harmful prompts "
            f"({rate:.0%}); at least {MIN_REFUSALS} and {MIN_REFUSAL_RATE:.0%} are needed",
            "measure a model that refuses, or give pairs that it refuses (--pairs)",
        )
    openers = Openers(subject.openers) if subject.openers else _learnt(engine, taught)
    sides = {}
    for key, (where, _) in judged.items():
        asked = openers.asked(where.prompts)
        own, selected = engine.own_logits(asked, depth=openers.depth), tuple(engine.selected(asked))
        sides[key] = replace(where, asked=asked, own=own, selected=selected)
    train = subject.part("train")
    harmful = tokens_of(subject, [pair.harmful for pair in train])
    benign = tokens_of(subject, [pair.benign for pair in train])
    general = tokens_of(subject, subject.general)
    positions = common_suffix([*harmful, *benign, *general], plan.positions)
    weights = pair_samples(len(train), plan.seeds, max(plan.shuffles, plan.control_seeds))
    collected = collect(engine, harmful, benign, weights, positions, for_experts=plan.seeds + plan.control_seeds)
    against = collect_against(engine, harmful, general, weights[: plan.seeds], positions) if general else None
    return Prepared(subject, plan, sides, openers, collected, plan.seeds, rate, stop, against)
