"""Models that write down what they are asked, and a few prompts for them: for runs that are killed."""

import hashlib
import json
import os
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from demur.benchmark.records import ModelInfo, Prompt, Provenance, Request, Response, Sampling
from demur.tests.invented import invented

SAMPLES, PROMPTS = 2, 20
SAMPLING = Sampling(max_new_tokens=8)
PROVENANCE = Provenance("1.0.0", "0" * 64, "0.1.0")


def prompts() -> list[Prompt]:
    return [invented(f"p{number:02d}", f"text {number}") for number in range(PROMPTS)]


def text_of(prompt: Prompt, sample: int) -> str:
    return hashlib.sha256(f"{prompt.text} {sample}".encode()).hexdigest()


class Witness:
    """Answers with a hash and writes down, before it answers, what it is asked. Some answers are passing errors."""

    template_sha256 = None
    info = ModelInfo("witness", "1", "none", "echo", "dense")

    def __init__(self, asked: Path, faults: float) -> None:
        self.asked, self.faults, self.chance = asked, faults, random.Random(os.getpid())

    def plan(self, requests: Sequence[Request], _sampling: Sampling) -> list[list[Request]]:
        return [list(requests[start : start + 3]) for start in range(0, len(requests), 3)]

    def respond(self, batch: Sequence[Request], _sampling: Sampling) -> Iterator[Response]:
        with self.asked.open("a") as book:
            for request in batch:
                for sample in request.samples:
                    book.write(json.dumps([request.prompt.id, sample]) + "\n")
                    book.flush()
                    time.sleep(0.0005)
                    if self.chance.random() < self.faults:
                        yield Response(request.prompt.id, sample, "", "error", "busy")
                    else:
                        yield Response(request.prompt.id, sample, text_of(request.prompt, sample), "stop", "", 5, 64)


class SeparateWitness(Witness):
    separate = True
