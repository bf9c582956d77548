"""Whose copy leaked: a test with a false-accusation rate that holds whatever the leak looks like.

For recipient r, each leaked prompt gives a factor ``1 - w + w * [r's text is among those seen] / q``, where ``q`` is
the chance that a random recipient's text is among those seen. A recipient who did not leak has marks that are
independent of the leak (they come from a keyed hash), so the mean of each factor is 1, or less where ``q`` is
overestimated; so is the mean of their product, the *e-value*. By Markov's inequality an innocent recipient's e-value
reaches ``n / alpha`` with a chance of at most ``alpha / n``, and any of n recipients with at most ``alpha``, even where
the leaker edits, mixes or chooses what to leak (Vovk and Wang 2021, arXiv 1912.06116, on e-values). The weights ``w``
are averaged over: near 1 for a leak of one copy, 1/2 for a mixture of two.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from .access import AccessDesk
from .errors import DemurError
from .records import Prompt
from .surface_forms import slots, write_form
from .watermark import form_bits, noise_for, plain_words

__all__ = ["ALPHA", "Suspect", "Trace", "Tracer", "trace_leak"]

ALPHA = 1e-4
_WEIGHTS = (0.98, 0.5)
_DECOYS = 2000
_ALIKE = 0.5


@dataclass(frozen=True, slots=True)
class Suspect:
    """One recipient and the evidence.

    Attributes:
        log10_e: decimal logarithm of the e-value.
        named: whether it reaches the threshold.
    """

    recipient: str
    log10_e: float
    named: bool


@dataclass(frozen=True, slots=True)
class Trace:
    """The outcome of one trace.

    Attributes:
        prompts: how many different prompts of the set were found in the leak.
        telling: how many of them carry a mark.
        threshold: decimal logarithm of the e-value from which a recipient is named.
        suspects: all recipients, the strongest evidence first.
    """

    lines: int
    prompts: int
    telling: int
    threshold: float
    suspects: tuple[Suspect, ...]

    @property
    def named(self) -> tuple[str, ...]:
        """The recipients that are named."""
        return tuple(suspect.recipient for suspect in self.suspects if suspect.named)


class Tracer:
    """Finds prompts in a leak and weighs each recipient; what it computes of a prompt is kept for the next leak.

    Args:
        prompts: the common set of the split that leaked.
        key: the maintainers' watermark key.
        recipients: public keys of everybody who was ever granted a copy.
        decoys: imaginary recipients from whom the chance of a noisy text is estimated.
    """

    def __init__(self, prompts: Sequence[Prompt], key: bytes, recipients: Sequence[str], decoys: int = _DECOYS) -> None:
        self._key = key
        self._recipients = list(recipients)
        self._everybody = [*self._recipients, *(f"decoy {number}" for number in range(decoys))]
        self._decoys = decoys
        self._fixed = self._fixed_forms(prompts)
        self._canonical = {
            p.id.removesuffix("canonical") + "noisy": p.text for p in prompts if p.variant == "canonical"
        }
        self._noisy_ids = list(self._canonical)
        self._likeness = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True)
        self._vectors = self._likeness.fit_transform([plain_words(text) for text in self._canonical.values()])
        self._noise: dict[str, list[str]] = {}
        self._bits: dict[str, NDArray[Any]] = {}

    @staticmethod
    def _fixed_forms(prompts: Sequence[Prompt]) -> dict[str, tuple[str, int, int]]:
        """Every form of every written prompt, in plain words between spaces: prompt id, number of slots, bits."""
        forms: dict[str, tuple[str, int, int]] = {}
        for prompt in prompts:
            if prompt.variant != "noisy":
                found = slots(prompt.text)
                for bits in range(1 << len(found)):
                    forms[f" {plain_words(write_form(prompt.text, found, bits))} "] = (prompt.id, len(found), bits)
        return forms

    def trace(self, lines: Sequence[str]) -> Trace:
        """Weigh every recipient.

        Args:
            lines: the leak, one prompt a line, in any order, case and punctuation.
        """
        seen_forms: dict[str, set[int]] = {}
        seen_noise: dict[str, set[str]] = {}
        counts: dict[str, int] = {}
        rest = []
        for line in filter(None, map(plain_words, lines)):
            known = self._known(line)
            if known is None:
                rest.append(line)
            else:
                seen_forms.setdefault(known[0], set()).add(known[2])
                counts[known[0]] = known[1]
        for line, prompt_id in zip(rest, self._nearest(rest), strict=True):
            if prompt_id is not None:
                seen_noise.setdefault(prompt_id, set()).add(f" {line} ")
        logs = np.zeros((len(_WEIGHTS), len(self._recipients)))
        for prompt_id, bits in seen_forms.items():
            if counts[prompt_id]:
                match = np.isin(self._bits_of(prompt_id, counts[prompt_id]), list(bits))
                logs += _factors(match, len(bits) / (1 << counts[prompt_id]))
        for prompt_id, texts in seen_noise.items():
            match = np.array([any(mine in text for text in texts) for mine in self._noise_of(prompt_id)])
            # (k + 1) / (n + 1) of k matches among n decoys: the mean of its inverse is at most 1 / q.
            chance = (match[len(self._recipients) :].sum() + 1) / (self._decoys + 1)
            logs += _factors(match[: len(self._recipients)], float(chance))
        telling = sum(count > 0 for count in counts.values()) + len(seen_noise)
        return self._outcome(logs, len(seen_forms) + len(seen_noise), telling, len(list(filter(None, lines))))

    def _outcome(self, logs: NDArray[Any], prompts: int, telling: int, lines: int) -> Trace:
        evidence = (np.logaddexp.reduce(logs, axis=0) - math.log(len(_WEIGHTS))) / math.log(10)
        threshold = math.log10(max(len(self._recipients), 1) / ALPHA)
        order = np.argsort(-evidence, kind="stable")
        suspects = [Suspect(self._recipients[i], float(evidence[i]), bool(evidence[i] >= threshold)) for i in order]
        return Trace(lines, prompts, telling, threshold, tuple(suspects))

    def _known(self, line: str) -> tuple[str, int, int] | None:
        """The written prompt that a line is, or that it holds among other words (as in a table or JSON lines)."""
        exact = self._fixed.get(f" {line} ")
        if exact is not None:
            return exact
        padded = f" {line} "
        return next((known for form, known in self._fixed.items() if form in padded), None)

    def _nearest(self, lines: Sequence[str]) -> list[str | None]:
        """The noisy prompt that each line is a version of, or None where it is like none."""
        if not lines:
            return []
        likeness = (self._likeness.transform(lines) @ self._vectors.T).toarray()
        best = likeness.argmax(axis=1)
        return [
            self._noisy_ids[column] if likeness[row, column] >= _ALIKE else None
            for row, column in enumerate(best.tolist())
        ]

    def _noise_of(self, prompt_id: str) -> list[str]:
        """The noisy text of every recipient and decoy, in plain words between spaces."""
        if prompt_id not in self._noise:
            canonical = self._canonical[prompt_id]
            texts = [plain_words(noise_for(self._key, who, prompt_id, canonical)) for who in self._everybody]
            self._noise[prompt_id] = [f" {text} " for text in texts]
        return self._noise[prompt_id]

    def _bits_of(self, prompt_id: str, count: int) -> NDArray[Any]:
        if prompt_id not in self._bits:
            bits = [form_bits(self._key, who, prompt_id, count) for who in self._recipients]
            self._bits[prompt_id] = np.array(bits)
        return self._bits[prompt_id]


def trace_leak(desk: AccessDesk, leak: Path) -> Trace:
    """Weigh everybody who was ever granted a copy against a leak of the gated split.

    Args:
        desk: of the prompts folder; it needs the maintainers' key.
        leak: a text file, one prompt a line.

    Raises:
        DemurError: the file cannot be read, or there is no key.
    """
    try:
        lines = leak.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as fault:
        raise DemurError(f"{leak}: cannot read: {fault.strerror}", "check the path") from fault
    keys = sorted({entry.key for entry in desk.entries() if entry.action == "granted"})
    return Tracer(desk.open("gated"), desk.watermark_key(), keys).trace(lines)


def _factors(match: NDArray[Any], chance: float) -> NDArray[Any]:
    """Logarithms of the factors of one prompt, weights by recipients."""
    return np.log([1 - weight + weight * match / chance for weight in _WEIGHTS])
