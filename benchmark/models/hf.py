"""Asking a causal language model of transformers, on a CPU or GPU."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import DemurError
from ..records import FinishReason, ModelInfo, Request, Response, Sampling
from .decoding import Limits, Output, decode
from .drawing import next_tokens, row_seed, uniforms
from .facts import architecture
from .loading import choose_device, choose_dtype, load, revision
from .memory import free_memory, out_of_memory
from .thinking import CLOSE, OPEN, split_thinking

__all__ = ["BATCH_ROWS", "THINKING_TOKENS", "LoadedModel", "TransformersModel"]

BATCH_ROWS = 80
"""Responses in flight: enough to keep two CPU cores busy, little enough to show progress."""
THINKING_TOKENS = 4096

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Row:
    """One continuation of a prompt's tokens, and the samples that it is the answer to: several at temperature 0."""

    prompt_id: str
    tokens: Sequence[int]
    samples: tuple[int, ...]


class LoadedModel:
    """A model and tokenizer of transformers that answer prompts.

    A prompt is one user turn in the model's own chat template. All samples of a prompt share one prefill. A row's
    randomness comes from (seed, prompt id, sample) alone, so a response depends on the batch it is in by rounding
    only. Settings of the model's generation config other than its end tokens are not used: the sampling is the run's.

    Args:
        model: a causal language model.
        tokenizer: with a chat template.
        info: what is written into the run.
        batch_rows: responses in flight.
        thinking_tokens: limit of a thinking part; it comes on top of ``max_new_tokens``, which counts the answer.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        info: ModelInfo,
        *,
        batch_rows: int = BATCH_ROWS,
        thinking_tokens: int = THINKING_TOKENS,
    ) -> None:
        if batch_rows < 1 or thinking_tokens < 1:
            raise DemurError("batch rows and thinking tokens are numbers from 1", "correct the option")
        self.model, self.tokenizer = model, tokenizer
        self._info = info
        self._batch_rows, self._thinking_tokens = batch_rows, thinking_tokens
        self._fits = batch_rows

    @property
    def info(self) -> ModelInfo:
        """Which model this is."""
        return self._info

    @property
    def template_sha256(self) -> str | None:
        """SHA-256 of the tokenizer's chat template."""
        template = self.tokenizer.chat_template
        text = template if isinstance(template, str) else template["default"]
        return hashlib.sha256(text.encode()).hexdigest()

    def plan(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Request]]:
        """Batches of about ``batch_rows`` responses, longest prompts first, prompts of like length together."""
        pieces = [piece for request in requests for piece in self._cut(request, sampling)]
        lengths = {request.prompt.id: len(self.encode(request.prompt.text)) for request in requests}
        pieces.sort(key=lambda piece: (-lengths[piece.prompt.id], piece.prompt.id, piece.samples))
        batches: list[list[Request]] = []
        room = 0
        for piece in pieces:
            rows = len(_together(piece, sampling))
            if rows > room:
                batches.append([])
                room = self._batch_rows
            batches[-1].append(piece)
            room -= rows
        return batches

    def respond(self, batch: Sequence[Request], sampling: Sampling) -> Iterator[Response]:
        """Answer a batch; responses come as they end.

        Where the batch does not fit into memory, what is left of it is asked in halves, and so are later batches: that
        changes responses by rounding only.

        Raises:
            DemurError: not even one response at a time fits into memory.
        """
        for row, output in self.outputs(batch, sampling):
            for sample in row.samples:
                yield self._response(row.prompt_id, sample, output, row.tokens)

    def outputs(self, batch: Sequence[Request], sampling: Sampling) -> Iterator[tuple[_Row, Output]]:
        """The tokens of every response to a batch, as they end."""
        left = [row for request in batch for row in self._rows(request, sampling)]
        while left:
            rows, left = left[: self._fits], left[self._fits :]
            ended: set[int] = set()
            try:
                for output in self._decode(rows, sampling):
                    ended.add(output.row)
                    yield rows[output.row], output
            except (RuntimeError, MemoryError) as fault:
                if not out_of_memory(fault):
                    raise
                if len(rows) == 1:
                    raise DemurError(
                        f"{self.info.id}: not even one response at a time fits into memory",
                        "free memory, choose a smaller --max-new-tokens, or --device cpu",
                    ) from fault
            if len(ended) < len(rows):
                # Outside the except clause: the fault holds on to the tensors.
                free_memory()
                self._fits = len(rows) // 2
                log.warning("%d responses at once do not fit into memory; going on with %d", len(rows), self._fits)
                left = [row for number, row in enumerate(rows) if number not in ended] + left

    def _rows(self, request: Request, sampling: Sampling) -> list[_Row]:
        tokens = self.encode(request.prompt.text)
        return [_Row(request.prompt.id, tokens, samples) for samples in _together(request, sampling)]

    def _decode(self, rows: Sequence[_Row], sampling: Sampling) -> Iterator[Output]:
        together = [list(same) for _, same in groupby(rows, key=lambda row: row.prompt_id)]
        prompts = [same[0].tokens for same in together]
        seeds = [row_seed(sampling.seed, row.prompt_id, row.samples[0]) for row in rows]
        limits = self._limits(sampling.max_new_tokens)
        return decode(
            self.model,
            prompts,
            [len(same) for same in together],
            opened=[self._opened(prompt) for prompt in prompts],
            limits=limits,
            choose=_chooser(sampling, seeds, limits),
        )

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt in the chat template, ready to be answered."""
        ids: list[int] = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        return ids

    def _cut(self, request: Request, sampling: Sampling) -> Iterator[Request]:
        """A request in pieces that fit into a batch."""
        if sampling.temperature == 0:
            yield request
            return
        for start in range(0, len(request.samples), self._batch_rows):
            yield Request(request.prompt, request.samples[start : start + self._batch_rows])

    @property
    def stops(self) -> frozenset[int]:
        """Token ids that end an answer."""
        ends = self.model.generation_config.eos_token_id
        if ends is None:
            ends = self.tokenizer.eos_token_id
        return frozenset(ends if isinstance(ends, (list, tuple)) else [ends]) - {None}

    def _limits(self, answer: int) -> Limits:
        return Limits(self.stops, answer, self._thinking_tokens, self._token(CLOSE), self._token(OPEN))

    def _token(self, text: str) -> int | None:
        """The id of a tag that is a token of its own."""
        found = self.tokenizer.get_added_vocab().get(text)
        return int(found) if found is not None else None

    def _opened(self, prompt: Sequence[int]) -> bool:
        """Whether a prompt ends inside a thinking part, as some chat templates make it."""
        return str(self.tokenizer.decode(prompt[-8:])).rstrip().endswith(OPEN)

    def _response(self, prompt_id: str, sample: int, output: Output, prompt: Sequence[int]) -> Response:
        n_prompt, opened = len(prompt), self._opened(prompt)
        if output.end == "fault":
            return Response(prompt_id, sample, "", "error", "the model's numbers were not finite", n_prompt)
        text = self.tokenizer.decode(output.tokens, skip_special_tokens=True)
        close = self._token(CLOSE)
        thinking, answer = split_thinking(text, opened=opened)
        if close is not None and close in output.tokens:
            # By token, for a tokenizer that counts the tag among the special tokens and leaves it out of the text.
            cut = len(output.tokens) - output.tokens[::-1].index(close)
            answer = str(self.tokenizer.decode(output.tokens[cut:], skip_special_tokens=True)).strip()
        elif thinking:
            cut = len(output.tokens) - len(self.tokenizer(answer, add_special_tokens=False)["input_ids"])
        else:
            cut = len(output.tokens) if opened else 0
        n_tokens = len(output.tokens) - cut
        reason: FinishReason = "stop" if output.end == "stop" else "length"
        return Response(prompt_id, sample, answer, reason, "", n_prompt, n_tokens, cut)


class TransformersModel(LoadedModel):
    """Any causal language model with a chat template: a local folder, a Hub id or a GGUF file.

    Args:
        name: folder, Hub id or path of a ``.gguf`` file.
        dtype: ``float32``, ``bfloat16`` or ``float16``; without it what the processor computes fast.
        device: for example ``cpu`` or ``cuda:1``; without it CUDA where there is one; ``auto`` lays the model over all
            GPUs.
        batch_rows: responses in flight.
        thinking_tokens: limit of a thinking part.

    Raises:
        DemurError: the model is unknown, damaged, too large or without a chat template.
    """

    def __init__(
        self,
        name: str,
        *,
        dtype: str | None = None,
        device: str | None = None,
        batch_rows: int = BATCH_ROWS,
        thinking_tokens: int = THINKING_TOKENS,
    ) -> None:
        spread = device == "auto"
        place = choose_device(None if spread else device)
        format_ = choose_dtype(place, dtype)
        model, tokenizer = load(name, format_, place, spread=spread)
        super().__init__(
            model,
            tokenizer,
            ModelInfo(
                id=Path(name).name if Path(name).exists() else name,
                revision=revision(name, model.config),
                dtype=str(format_).removeprefix("torch."),
                backend="transformers",
                **architecture(model, model.config),
            ),
            batch_rows=batch_rows,
            thinking_tokens=thinking_tokens,
        )


def _together(request: Request, sampling: Sampling) -> list[tuple[int, ...]]:
    """Samples of a request by continuation: greedy decoding gives the same one for every sample."""
    return [request.samples] if sampling.temperature == 0 else [(sample,) for sample in request.samples]


def _chooser(sampling: Sampling, seeds: Sequence[int], limits: Limits) -> Callable[[Tensor, Tensor, int], Tensor]:
    drawn = uniforms(seeds, limits.longest if sampling.temperature else 1)

    def choose(logits: Tensor, rows: Tensor, step: int) -> Tensor:
        number = drawn[rows, step if sampling.temperature else 0].to(logits.device)
        whole = torch.isfinite(logits.amax(dim=-1))  # a row with a NaN has NaN as its largest
        if whole.all():
            return next_tokens(logits, sampling, number)
        return torch.where(whole, next_tokens(torch.where(whole[:, None], logits, 0.0), sampling, number), -1)

    return choose
