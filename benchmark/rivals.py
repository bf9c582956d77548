"""Other harnesses that answer the same prompts, for :mod:`.runbench`; a program that needs nothing of Demur.

``python rivals.py NAME`` reads a line of JSON (``model`` folder, ``dtype``, ``texts``, ``samples``, ``tokens``,
``batch``, ``folder``) and says ``{"missing": ""}``, or why it cannot run. At each further line it answers everything
once and says how long that took, without loading, in seconds of the clock (``wall``) and of the processor.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["RIVALS", "main"]

CONNECTIONS = 32
"""What Inspect AI batches together unless told otherwise."""


def _lm_eval(settings: Mapping[str, Any]) -> Callable[[], int]:
    """The ``hf`` backend of lm-evaluation-harness; every sample is a request, as with ``repeats``."""
    from lm_eval.api.instance import Instance  # noqa: PLC0415 (the one harness that was named)
    from lm_eval.models.huggingface import HFLM  # noqa: PLC0415

    model = HFLM(pretrained=settings["model"], dtype=settings["dtype"], device="cpu", batch_size=settings["batch"])
    how = {"do_sample": True, "temperature": 1.0, "max_gen_toks": settings["tokens"], "until": []}
    texts = [model.apply_chat_template([{"role": "user", "content": text}]) for text in settings["texts"]]

    def answer() -> int:
        requests = [
            Instance(request_type="generate_until", doc={}, arguments=(text, dict(how)), idx=number)
            for _ in range(settings["samples"])
            for number, text in enumerate(texts)
        ]
        return len(model.generate_until(requests, disable_tqdm=True))

    return answer


def _inspect(settings: Mapping[str, Any]) -> Callable[[], int]:
    """The ``hf`` provider of Inspect AI; samples are epochs, nothing is scored."""
    from inspect_ai import Task  # noqa: PLC0415
    from inspect_ai import eval as evaluate  # noqa: PLC0415
    from inspect_ai.dataset import MemoryDataset, Sample  # noqa: PLC0415
    from inspect_ai.model import get_model  # noqa: PLC0415
    from inspect_ai.solver import generate  # noqa: PLC0415

    model = get_model(
        "hf/local", model_path=settings["model"], device="cpu",
        dtype=settings["dtype"],
    )  # fmt: skip
    dataset = MemoryDataset([Sample(input=text) for text in settings["texts"]])

    def answer() -> int:
        (log,) = evaluate(
            Task(dataset=dataset, solver=generate()), model=model, epochs=settings["samples"], temperature=1.0,
            max_tokens=settings["tokens"], display="none", log_dir=str(Path(settings["folder"]) / "logs"),
            max_connections=CONNECTIONS,
        )  # fmt: skip
        if log.status != "success":
            raise RuntimeError(str(log.error))
        return len(log.samples or [])

    return answer


RIVALS: Mapping[str, tuple[str, str, Callable[[Mapping[str, Any]], Callable[[], int]]]] = {
    "lm-eval": ("lm_eval", "lm-eval", _lm_eval),
    "inspect": ("inspect_ai", "inspect-ai", _inspect),
}
"""Name to its module, its distribution, and what makes it ready."""


def main() -> None:
    """Answer as told on standard input."""
    out = os.fdopen(os.dup(1), "w")
    module, distribution, make = RIVALS[sys.argv[1]]
    settings = json.loads(sys.stdin.readline())

    def say(value: Mapping[str, Any]) -> None:
        out.write(json.dumps(value) + "\n")
        out.flush()

    if find_spec(module) is None:
        say({"missing": "not installed"})
        return
    with redirect_stdout(sys.stderr):
        answer = make(settings)
        say({"missing": "", "version": version(distribution)})
        for _ in sys.stdin:
            wall, processor = time.perf_counter(), time.process_time()
            count = answer()
            taken = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
            if count != len(settings["texts"]) * settings["samples"]:
                raise RuntimeError(f"{count} answers")
            say(taken)


if __name__ == "__main__":
    main()
