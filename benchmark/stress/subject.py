"""What the stress test needs of a model: the model itself, pairs of texts, refusal openers and a judge."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from ..errors import DemurError, raise_all

__all__ = ["PARTS", "Judge", "Judgement", "Part", "Subject", "TextPair"]

Part = Literal["train", "validation", "test"]
Judgement = Literal["refused", "partial", "complied", "unscored"]

PARTS: tuple[Part, ...] = get_args(Part)
MIN_PAIRS = 2


@dataclass(frozen=True, slots=True)
class TextPair:
    """A harmful request and its own benign twin, and which part of the measurement may see them.

    Attributes:
        id: names the pair in the result; the texts never leave memory.
        part: ``train`` gives directions, ``validation`` chooses among them, ``test`` gives the figures.
    """

    id: str
    harmful: str
    benign: str
    part: Part


class Judge(Protocol):
    """Says of short responses whether they refuse; the caller passes it in, so this room needs no scorer."""

    @property
    def name(self) -> str:
        """Name, version and hash of the judge, written into the result."""
        ...

    def __call__(self, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool]) -> list[Judgement]:
        """One judgement per response, in order. ``ended`` is false where the token limit cut the response."""
        ...


@dataclass(frozen=True, slots=True)
class Subject:
    """A model under test.

    Attributes:
        name: as the result names it.
        model: a causal language model of transformers, in evaluation mode.
        tokenizer: its tokenizer, with a chat template.
        pairs: at least two of each part, ids unique.
        judge: see :class:`Judge`.
        openers: ids of tokens that open a refusal; empty: they are learnt from the model's own answers to train pairs.
        general: instructions about anything; where given, S1 is also measured with directions from harmful requests
            against these, which hold the topic of the requests as well as their harm.
    """

    name: str
    model: Any
    tokenizer: Any
    pairs: tuple[TextPair, ...]
    judge: Judge
    openers: tuple[int, ...] = ()
    general: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be measured, all faults at once."""
        faults = []
        if not getattr(self.tokenizer, "chat_template", None):
            raise DemurError(
                f"{self.name}: its tokenizer has no chat template, so there is no assistant's answer to steer",
                "give an instruction-tuned model, or set tokenizer.chat_template",
            )
        ids = [pair.id for pair in self.pairs]
        faults += [f"pair {pair_id} stands twice" for pair_id in sorted({i for i in ids if ids.count(i) > 1})]
        for pair in self.pairs:
            if not pair.harmful.strip() or not pair.benign.strip():
                faults.append(f"pair {pair.id} has an empty side")
            if pair.part not in PARTS:
                faults.append(f"pair {pair.id}: unknown part {pair.part!r}")
        if len(self.general) == 1 or not all(text.strip() for text in self.general):
            faults.append("general instructions: at least two are needed, none of them empty")
        for part in PARTS:
            count = len(self.part(part))
            if count < MIN_PAIRS:
                faults.append(f"{count} pairs of part {part}; at least {MIN_PAIRS} are needed")
        raise_all(f"pairs for {self.name}", faults, "mend the pairs named")

    def part(self, part: Part) -> tuple[TextPair, ...]:
        """The pairs of one part, in order."""
        return tuple(pair for pair in self.pairs if pair.part == part)
