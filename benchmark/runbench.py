"""How fast a run is, against asking the same model in other ways: a plain loop, lm-evaluation-harness, Inspect AI.

All ways answer the same prompts, as often, with as many tokens at temperature 1, on the CPU, in turns. The other
harnesses run in processes of their own, in the environment that has them (:mod:`.rivals`).
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TextIO, cast

import torch

from . import rivals
from .models import load_model
from .models.base import Model
from .models.hf import LoadedModel
from .models.loading import native_bfloat16
from .models.smollm2 import dense_folder
from .prompts import PromptSet, load_prompt_set
from .records import Prompt, Request, Response, Sampling
from .running import run

__all__ = ["BATCH", "Bench", "Speed", "bench_run"]

BATCH = 16
"""Prompts in a batch of the plain loop and of the other harnesses."""
TIE = 1e-3
"""Two largest logits that are closer than this are a tie in rounding."""


@dataclass(frozen=True, slots=True)
class Speed:
    """One way to ask.

    Attributes:
        rounds: responses per second of the clock, of each round.
        processor: responses per second of processor time, of each round.
        note: why there is none.
    """

    rounds: tuple[float, ...] = ()
    processor: tuple[float, ...] = ()
    note: str = ""

    @property
    def median(self) -> float | None:
        """Median responses per second; None where it was not run."""
        return median(self.rounds) if self.rounds else None


@dataclass(frozen=True, slots=True)
class Bench:
    """What was measured.

    Attributes:
        speeds: way to its speed: ``demur``, ``plain loop``, ``lm-eval``, ``inspect``.
        bookkeeping: share of a run that is not the model's: planning aside, the journal, parts and table; median.
        same: prompts whose greedy token ids are those of plain ``generate``; of ``prompts``.
        ties: those that differ where the two largest logits are closer than ``TIE``.
        native_bfloat16: whether the processor multiplies bfloat16 itself.
    """

    dtype: str
    prompts: int
    samples: int
    tokens: int
    threads: int
    speeds: dict[str, Speed]
    bookkeeping: float
    same: int | None = None
    ties: tuple[str, ...] = ()
    native_bfloat16: bool = field(default_factory=native_bfloat16)

    def ratio(self, to: str, *, processor: bool = False) -> float | None:
        """How many times as fast Demur is, median by median; by processor time where the machine is shared."""
        own, other = self.speeds["demur"], self.speeds[to]
        if not other.rounds:
            return None
        if processor:
            return median(own.processor) / median(other.processor)
        return median(own.rounds) / median(other.rounds)


def bench_run(
    *,
    dtype: str = "float32",
    prompts: int = 160,
    samples: int = 4,
    tokens: int = 48,
    rounds: int = 3,
    python: str = sys.executable,
    greedy: bool = True,
) -> Bench:
    """Time the ways in turns, and compare greedy token ids with those of plain ``generate``.

    Args:
        dtype: format of the weights, for all ways.
        prompts: how many of the public split, spread over it.
        samples: responses to each.
        tokens: new tokens of each.
        rounds: how often every way is timed.
        python: interpreter of the environment with the other harnesses.
        greedy: also compare at temperature 0.
    """
    everyone = load_prompt_set("public")
    asked = list(everyone.prompts[:: max(1, len(everyone.prompts) // prompts)][:prompts])
    model = cast("LoadedModel", load_model("demo:smollm2", dtype=dtype, device="cpu"))
    sampling = Sampling(temperature=1.0, max_new_tokens=tokens)
    shares: list[float] = []
    with ExitStack() as stack:
        ways: dict[str, Any] = {
            "demur": lambda: shares.append(_run(model, everyone, asked, sampling, samples)),
            "plain loop": lambda: _plain(model, asked, samples, tokens),
        }
        speeds: dict[str, Speed] = {}
        texts = [prompt.text for prompt in asked]
        for name in rivals.RIVALS:
            rival = stack.enter_context(_Rival(name, python, dtype, texts, samples=samples, tokens=tokens))
            if rival.missing:
                speeds[name] = Speed(note=rival.missing)
            else:
                ways[name] = rival
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for number in range(rounds):
            # Another way is first in every round, so that none always runs on a machine that has grown warm.
            names = list(ways)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                taken[name].append(_timed(ways[name]))
        count = len(asked) * samples
        for name, found in taken.items():
            speeds[name] = Speed(tuple(count / wall for wall, _ in found), tuple(count / cpu for _, cpu in found))
    same, ties = _compare(model, asked, tokens) if greedy else (None, ())
    return Bench(dtype, len(asked), samples, tokens, torch.get_num_threads(), speeds, median(shares), same, tuple(ties))


def _timed(way: Any) -> tuple[float, float]:
    """Seconds of the clock and of the processor; a rival tells its own."""
    wall, cpu = time.perf_counter(), time.process_time()
    told = way()
    return told if isinstance(told, tuple) else (time.perf_counter() - wall, time.process_time() - cpu)


class _Timed:
    """A model that notes how long its own part of a run takes."""

    def __init__(self, model: Model) -> None:
        self._model, self.seconds = model, 0.0
        self.info, self.template_sha256 = model.info, model.template_sha256

    def plan(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Request]]:
        start = time.perf_counter()
        try:
            return self._model.plan(requests, sampling)
        finally:
            self.seconds += time.perf_counter() - start

    def respond(self, batch: Sequence[Request], sampling: Sampling) -> Iterator[Response]:
        coming = self._model.respond(batch, sampling)
        while True:
            start = time.perf_counter()
            response = next(coming, None)
            self.seconds += time.perf_counter() - start
            if response is None:
                return
            yield response


def _run(model: Model, everyone: PromptSet, asked: list[Prompt], sampling: Sampling, samples: int) -> float:
    """A whole run in a folder of its own; the share of it that is not the model's."""
    timed, start = _Timed(model), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        run(timed, asked, sampling=sampling, samples=samples, out=out, provenance=everyone.provenance)
    taken = time.perf_counter() - start
    return 1 - timed.seconds / taken


def _plain(model: LoadedModel, asked: Sequence[Prompt], samples: int, tokens: int, *, drawn: bool = True) -> list[Any]:
    """``generate`` per batch of prompts and sample; the token ids of each."""
    found = []
    options = {"do_sample": True, "temperature": 1.0, "top_k": 0} if drawn else {"do_sample": False}
    for start in range(0, len(asked), BATCH):
        encoded = [model.encode(prompt.text) for prompt in asked[start : start + BATCH]]
        longest = max(map(len, encoded))
        ids = torch.tensor([[model.tokenizer.pad_token_id] * (longest - len(each)) + each for each in encoded])
        mask = torch.tensor([[0] * (longest - len(each)) + [1] * len(each) for each in encoded])
        for _ in range(samples):
            out = model.model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=tokens, **options)
            found += out[:, longest:].tolist()
    return found


def _compare(model: LoadedModel, asked: Sequence[Prompt], tokens: int) -> tuple[int, list[str]]:
    """Prompts with the very tokens of ``generate`` at temperature 0, and the ids of those that differ by a tie."""
    sampling = Sampling(temperature=0.0, max_new_tokens=tokens)
    requests = [Request(prompt, (0,)) for prompt in asked]
    own = {
        row.prompt_id: output.tokens
        for batch in model.plan(requests, sampling)
        for row, output in model.outputs(batch, sampling)
    }
    ends = model.stops
    same, ties = 0, []
    for prompt, made in zip(asked, _plain(model, asked, 1, tokens, drawn=False), strict=True):
        plain = made[: next((place for place, token in enumerate(made) if token in ends), len(made))]
        mine = own[prompt.id]
        if mine == plain:
            same += 1
            continue
        place = next((n for n, pair in enumerate(zip(mine, plain, strict=False)) if pair[0] != pair[1]), 0)
        with torch.inference_mode():
            ids = torch.tensor([model.encode(prompt.text) + mine[:place]])
            first, second = model.model(input_ids=ids, logits_to_keep=1).logits[0, -1].float().topk(2).values.tolist()
        if first - second < TIE:
            ties.append(prompt.id)
    return same, ties


class _Rival:
    """Another harness in a process of its own, which answers all prompts at each call and tells its seconds."""

    def __init__(self, name: str, python: str, dtype: str, texts: Sequence[str], *, samples: int, tokens: int) -> None:
        self.missing = ""
        self._folder = tempfile.TemporaryDirectory()
        settings = {
            "model": str(dense_folder()), "dtype": dtype, "texts": list(texts), "samples": samples,
            "tokens": tokens, "batch": BATCH, "folder": self._folder.name,
        }  # fmt: skip
        self._log = (Path(self._folder.name) / "log.txt").open("w+")
        self._process = subprocess.Popen(
            [str(Path(python).absolute()), "-P", rivals.__file__, name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, cwd=self._folder.name,
        )  # fmt: skip
        self._name = name
        self._say(settings)
        told = self._hear()
        self.missing = str(told["missing"])

    def __enter__(self) -> "_Rival":
        return self

    def __call__(self) -> tuple[float, float]:
        self._say({})
        told = self._hear()
        return float(told["wall"]), float(told["processor"])

    def __exit__(self, *_fault: object) -> None:
        cast("TextIO", self._process.stdin).close()
        self._process.wait(timeout=60)
        cast("TextIO", self._process.stdout).close()
        self._log.close()
        self._folder.cleanup()

    def _say(self, value: object) -> None:
        stream = cast("TextIO", self._process.stdin)
        stream.write(json.dumps(value) + "\n")
        stream.flush()

    def _hear(self) -> dict[str, Any]:
        line = cast("TextIO", self._process.stdout).readline()
        if not line:
            self._log.seek(0)
            raise RuntimeError(f"{self._name} ended: {self._log.read()[-2000:]}")
        found: dict[str, Any] = json.loads(line)
        return found
