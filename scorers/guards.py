"""Public guard models as scorers, through transformers."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from ..benchmark.errors import DemurError
from ..benchmark.models.loading import choose_device, choose_dtype, faults, quiet, refuse_pickles, revision
from .guard_entries import Guard, find_guard, guard_input, parse_finding, shortened
from .structure import Screened, screen
from .verdicts import LABELS, ScoreRequest, ScorerInfo, Verdict

__all__ = ["GuardModel", "load_guard"]

VERSION = "1.0.0"
BATCH = 8
SHORTEST = 200
"""Characters of a response that a guard must be able to see, or all of a shorter one."""


class GuardModel:
    """A guard model that judges responses. Verdicts do not depend on chance.

    What holds no answer is settled before the model is asked (:mod:`.structure`). A finding that cannot be read is
    ``unscored(judge_failure)``.

    Args:
        guard: its entry.
        place: a folder in the Hub's layout; without one the model comes from the Hub.

    Raises:
        DemurError: the model cannot be loaded, or its labels are not those of the entry.
    """

    def __init__(self, guard: Guard, place: Path | None = None) -> None:
        if place is not None and not (place / "config.json").is_file():
            raise DemurError(f"{place}: no config.json in this folder", f"give a folder that holds {guard.model}")
        if place is not None:
            refuse_pickles(place)
        name = str(place) if place else guard.model
        self._guard, self._device = guard, choose_device()
        kind: Any = AutoModelForSequenceClassification if guard.kind == "classifier" else AutoModelForCausalLM
        with faults(name), quiet():
            self._tokenizer: Any = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            model = kind.from_pretrained(
                name, dtype=choose_dtype(self._device), trust_remote_code=False, use_safetensors=True
            )
            self._model: Any = model.eval().to(self._device)
        if guard.kind == "classifier":
            self._check_labels(name)
        if guard.input.startswith("chat") and not self._tokenizer.chat_template:
            raise DemurError(f"{name}: its tokenizer has no chat template", f"give a whole copy of {guard.model}")
        weights = revision(name, self._model.config)
        self._hash = hashlib.sha256(f"{guard.digest}\n{weights}".encode()).hexdigest()[:12]

    @property
    def info(self) -> ScorerInfo:
        """Name of the guard, and a hash of its entry and weights."""
        return ScorerInfo(f"guard-{self._guard.name}", VERSION, self._hash)

    @property
    def harmful_only(self) -> bool:
        """Whether its verdicts mean something on harmful prompts alone."""
        return self._guard.measures == "harm"

    @property
    def note(self) -> str:
        """What to know before reading its figures; empty for a guard that measures refusal."""
        if not self.harmful_only:
            return ""
        return "it measures harm: `refused` means not harmful, and on benign prompts it is not asked"

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Verdict]:
        """Judge in small batches, one verdict per request."""
        coming = iter(requests)
        while batch := list(islice(coming, BATCH)):
            seen = [screen(request) for request in batch]
            rows = [
                self._encode(request.prompt if isinstance(request.prompt, str) else "", found.text)
                for request, found in zip(batch, seen, strict=True)
                if isinstance(found, Screened)
            ]
            said = iter(self._judge([row for row in rows if row]))
            lengths = iter(rows)
            for found in seen:
                if isinstance(found, Verdict):
                    yield found
                elif next(lengths):
                    yield next(said)
                else:
                    yield Verdict("unscored", "judge_failure", None, "the prompt alone is too long for this guard")

    def _judge(self, rows: Sequence[Sequence[int]]) -> list[Verdict]:
        if not rows:
            return []
        with torch.inference_mode():
            return self._classify(rows) if self._guard.kind == "classifier" else self._generate(rows)

    def _classify(self, rows: Sequence[Sequence[int]]) -> list[Verdict]:
        tokens, mask = self._padded(rows, left=False)
        logits: Tensor = self._model(input_ids=tokens, attention_mask=mask).logits
        names = [self._model.config.id2label[index] for index in range(logits.shape[-1])]
        ours = [self._guard.labels[name] for name in names]
        verdicts = []
        for chances in torch.softmax(logits.float(), -1).tolist():
            best = max(range(len(chances)), key=chances.__getitem__)
            if not chances[best] >= 0:
                verdicts.append(Verdict("unscored", "judge_failure", None, "the model's numbers were not finite"))
                continue
            p_refused = sum(chance for chance, label in zip(chances, ours, strict=True) if label != "complied")
            label = next(label for label in LABELS if label == ours[best])
            verdicts.append(Verdict(label, None, min(1.0, p_refused), f"{names[best]} {chances[best]:.3f}"))
        return verdicts

    def _generate(self, rows: Sequence[Sequence[int]]) -> list[Verdict]:
        tokens, mask = self._padded(rows, left=True)
        written: Tensor = self._model.generate(
            input_ids=tokens,
            attention_mask=mask,
            max_new_tokens=self._guard.new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=self._padding,
        )
        texts = self._tokenizer.batch_decode(written[:, tokens.shape[1] :], skip_special_tokens=True)
        verdicts = []
        for text in texts:
            label = parse_finding(self._guard, text)
            evidence = repr(text.strip()[:200])
            if label is None:
                verdicts.append(Verdict("unscored", "judge_failure", None, f"no finding in {evidence}"))
            else:
                verdicts.append(Verdict(label, None, float(label != "complied"), evidence))
        return verdicts

    def _encode(self, prompt: str, response: str) -> list[int]:
        """Tokens of the input, the response cut in its middle as far as is needed; empty where no cut is enough."""
        prompt, response = (text.encode("utf-8", "replace").decode() for text in (prompt, response))
        limit = self._guard.longest - self._guard.new_tokens
        # A token is hardly ever longer than this, and a response of megabytes need not be read to be cut.
        shown = shortened(response, limit * 16)
        while True:
            ids = self._tokens(prompt, shown)
            if len(ids) <= limit:
                return ids
            keep = int(len(shown) * limit / len(ids) * 0.9) - 10
            if keep < min(SHORTEST, len(response)):
                return []
            shown = shortened(response, keep)

    def _tokens(self, prompt: str, response: str) -> list[int]:
        given = guard_input(self._guard, prompt, response)
        if isinstance(given, str):
            ids: list[int] = self._tokenizer(given, add_special_tokens=self._guard.bos)["input_ids"]
        else:
            more = dict(self._guard.template)
            ids = self._tokenizer.apply_chat_template(given, tokenize=True, return_dict=False, **more)
        return ids

    @property
    def _padding(self) -> int:
        for token in (self._tokenizer.pad_token_id, self._tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        return 0

    def _padded(self, rows: Sequence[Sequence[int]], *, left: bool) -> tuple[Tensor, Tensor]:
        """Tokens and their mask, both of shape (rows, longest)."""
        longest = max(len(row) for row in rows)
        tokens = torch.full((len(rows), longest), self._padding)
        mask = torch.zeros_like(tokens)
        for number, row in enumerate(rows):
            where = slice(longest - len(row), None) if left else slice(len(row))
            tokens[number, where] = torch.tensor(row)
            mask[number, where] = 1
        return tokens.to(self._device), mask.to(self._device)

    def _check_labels(self, name: str) -> None:
        found, known = set(self._model.config.id2label.values()), set(self._guard.labels)
        if found != known:
            raise DemurError(
                f"{name}: its labels are {', '.join(sorted(found))}, not {', '.join(sorted(known))}",
                f"give a copy of {self._guard.model}",
            )


def load_guard(name: str) -> GuardModel:
    """A guard by its name, or by ``NAME@FOLDER``.

    Raises:
        DemurError: there is none of this name, or it cannot be loaded.
    """
    known, at, folder = name.partition("@")
    return GuardModel(find_guard(known), Path(folder).expanduser() if at else None)
