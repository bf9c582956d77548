"""What every system starts from: tokens, the model's own answers, refusal openers, directions and routing."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from ..errors import DemurError
from .directions import Collected, collect, collect_against, common_suffix, pair_samples
from .engine import Engine
from .interventions import Edit
from .rows import Tokens
from .settings import Settings
from .subject import Judgement, Subject

__all__ = ["MIN_REFUSALS", "MIN_REFUSAL_RATE", "Prepared", "Side", "judge", "learn_openers", "prepare", "tokens_of"]

MIN_REFUSAL_RATE = 0.2
MIN_REFUSALS = 3


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the pairs of one part.

    Attributes:
        ids: of the pairs.
        texts: kept in memory, for the judge.
        prompts: token ids with the chat template.
        own: (prompts, vocabulary) logits of the model as it is.
        selected: which experts each prompt selects anywhere, see :meth:`.engine.Engine.selected`.
        answered: whether the unsteered model answers each prompt.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    prompts: tuple[Tokens, ...]
    own: Tensor
    selected: tuple[Tensor, ...]
    answered: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that candidates are made from and judged on.

    Attributes:
        sides: by (part, side) for ``validation`` and ``test``.
        openers: token ids that open a refusal.
        collected: means and routing of the training pairs.
        seeds: selection seeds; weighting s of ``collected`` is seed s, weighting seeds + k is shuffle k.
        refusal_rate: share of scored answers to harmful validation and test prompts that refuse, unsteered.
        against_general: (seeds, layers, p, hidden) harmful minus general instructions; None where none are given.
        scored: log-odds and KL of what searches scored before and other seeds try again, by what was scored.
    """

    subject: Subject
    settings: Settings
    sides: dict[tuple[str, str], Side]
    openers: tuple[int, ...]
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


def learn_openers(refusing: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    """Tokens that open at least 5 % of the refusals, and a larger share of them than of the other answers.

    Raises:
        DemurError: no token does.
    """
    ours, theirs = Counter(refusing), Counter(other)
    found = tuple(
        sorted(
            token
            for token, count in ours.items()
            if count >= 0.05 * len(refusing) and count / len(refusing) > theirs[token] / max(len(other), 1)
        )
    )
    if not found:
        raise DemurError(
            "refusals of this model open with the same tokens as its other answers",
            "name the tokens that open a refusal",
        )
    return found


def prepare(subject: Subject, engine: Engine, plan: Settings) -> Prepared:
    """Answer all prompts once unsteered, learn the openers, collect directions and routing.

    Raises:
        DemurError: the model refuses too little for anything to be measured; the rate is in the message.
    """
    limits = {"validation": plan.validation_pairs, "test": plan.test_pairs}
    stop = stop_tokens(subject)
    sides: dict[tuple[str, str], Side] = {}
    for part, limit in limits.items():
        pairs = subject.part(part)[:limit]  # type: ignore[arg-type]  # the keys above are parts
        for side in ("harmful", "benign"):
            texts = tuple(getattr(pair, side) for pair in pairs)
            prompts = tokens_of(subject, texts)
            sides[part, side] = Side(
                tuple(pair.id for pair in pairs),
                texts,
                prompts,
                engine.own_logits(prompts),
                tuple(engine.selected(prompts)),
            )
    first: dict[bool, list[int]] = {True: [], False: []}
    scored: list[bool] = []
    for part in limits:
        for side in ("harmful", "benign"):
            where = sides[part, side]
            (judged,) = judge(subject, engine, [Edit()], where, new_tokens=plan.new_tokens, stop=stop)
            sides[part, side] = replace(where, answered=tuple(verdict == "complied" for verdict in judged))
            for verdict, token in zip(judged, where.own.argmax(dim=-1).tolist(), strict=True):
                # Openers are learnt from validation prompts, so that no figure is fitted to its own prompts.
                if verdict != "unscored" and part == "validation":
                    first[verdict in ("refused", "partial")].append(token)
                if side == "harmful" and verdict != "unscored":
                    scored.append(verdict in ("refused", "partial"))
    rate = sum(scored) / len(scored) if scored else 0.0
    if sum(scored) < MIN_REFUSALS or rate < MIN_REFUSAL_RATE or not first[True]:
        raise DemurError(
            f"{subject.name}: nothing to measure: it refuses {sum(scored)} of {len(scored)} scored harmful prompts "
            f"({rate:.0%}); at least {MIN_REFUSALS} and {MIN_REFUSAL_RATE:.0%} are needed",
            "measure a model that refuses, or give pairs that it refuses (--pairs)",
        )
    openers = subject.openers or learn_openers(first[True], first[False])
    train = subject.part("train")
    harmful = tokens_of(subject, [pair.harmful for pair in train])
    benign = tokens_of(subject, [pair.benign for pair in train])
    general = tokens_of(subject, subject.general)
    positions = common_suffix([*harmful, *benign, *general], plan.positions)
    weights = pair_samples(len(train), plan.seeds, max(plan.shuffles, plan.control_seeds))
    collected = collect(engine, harmful, benign, weights, positions, for_experts=plan.seeds + plan.control_seeds)
    against = collect_against(engine, harmful, general, weights[: plan.seeds], positions) if general else None
    return Prepared(subject, plan, sides, openers, collected, plan.seeds, rate, stop, against)
