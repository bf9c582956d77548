"""Responses that other evaluation tools have written, as rows that ``demur run replay:FILE`` takes.

Inspect: the ``.eval`` log of a task whose samples have prompt ids as ids; an epoch is a sample. lm-evaluation-harness:
the ``samples_*.jsonl`` of a ``generate_until`` task whose documents have the prompt id in ``id`` or ``prompt_id``;
repeats are samples. Scores in these files are not read: Demur judges the responses itself.
"""

import json
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from .errors import DemurError, raise_all
from .files import write_text
from .records import FinishReason
from .untrusted import parse_json

__all__ = ["Imported", "import_responses"]

ZSTD = 93
_DAMAGE = (LookupError, ValueError, TypeError, AttributeError, OSError, NotImplementedError, RuntimeError,
           pa.ArrowException, struct.error, zlib.error, EOFError)  # fmt: skip
"""What a damaged archive, or one that holds something else, makes the readers raise."""
MOST_ENTRY_BYTES, MOST_BYTES = 256 * 2**20, 8 * 2**30
# How the tools' stop reasons read here; anything else is a stop.
REASONS: dict[str, FinishReason] = {
    "max_tokens": "length",
    "model_length": "length",
    "length": "length",
    "content_filter": "content_filter",
}


@dataclass(frozen=True, slots=True)
class Imported:
    """One response; the fields of a replay file."""

    prompt_id: str
    sample: int
    text: str
    finish_reason: FinishReason
    error: str


def import_responses(source: Path, out: Path) -> tuple[int, str | None]:
    """Read another tool's log and write a replay file (JSON Lines).

    Args:
        source: an Inspect ``.eval`` log, or a ``samples_*.jsonl`` of lm-evaluation-harness.
        out: the file to write.

    Returns:
        How many responses there are, and the model's name where the log tells.

    Raises:
        DemurError: no such file, another format, no responses, or a response that is there twice.
    """
    if not source.is_file():
        raise DemurError(f"{source}: no such file", "check the path")
    if source.suffix == ".eval":
        rows, model = _inspect(source)
    elif source.suffix == ".jsonl":
        rows, model = list(_lm_eval(source)), None
    else:
        raise DemurError(f"{source}: unknown kind of log", "give an Inspect .eval log or an lm-eval samples_*.jsonl")
    if not rows:
        raise DemurError(f"{source}: no responses in it", "give the log of a run that finished")
    counts = Counter((row.prompt_id, row.sample) for row in rows)
    raise_all(str(source), (f"{key[0]} sample {key[1]} is there {n} times" for key, n in counts.items() if n > 1))
    ordered = sorted(rows, key=lambda row: (row.prompt_id, row.sample))
    write_text(out, "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in ordered))
    return len(rows), model


def _inspect(source: Path) -> tuple[list[Imported], str | None]:
    try:
        with zipfile.ZipFile(source) as log:
            size = sum(entry.file_size for entry in log.infolist())
            if size > MOST_BYTES:
                raise ValueError(f"it unpacks to {size} bytes")
            names = [name for name in log.namelist() if name.startswith("samples/") and name.endswith(".json")]
            model = _entry(source, log, "header.json").get("eval", {}).get("model")
            return [_inspect_sample(_entry(source, log, name), name) for name in names], model
    except (zipfile.BadZipFile, *_DAMAGE) as fault:
        raise DemurError(
            f"{source}: not a whole Inspect log ({str(fault)[:120]})", "give the .eval file as Inspect wrote it"
        ) from fault


def _entry(source: Path, log: zipfile.ZipFile, name: str) -> dict[str, Any]:
    """One JSON file of the log. Newer logs are compressed with Zstandard, which zipfile cannot read here."""
    about = log.getinfo(name)
    if about.file_size > MOST_ENTRY_BYTES:
        raise ValueError(f"{name} unpacks to {about.file_size} bytes")
    packed = log.read(name) if about.compress_type != ZSTD else _zstd(source, about)
    found = parse_json(packed)
    if not isinstance(found, dict):
        raise TypeError(f"{name} is no JSON object")
    return found


def _zstd(source: Path, about: zipfile.ZipInfo) -> bytes:
    with source.open("rb") as file:
        file.seek(about.header_offset)
        name_length, extra_length = struct.unpack("<26xHH", file.read(30))
        file.seek(name_length + extra_length, 1)
        packed = file.read(about.compress_size)
    with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
        found = bytes(stream.read(about.file_size))
    if zlib.crc32(found) != about.CRC:
        raise ValueError(f"{about.filename} is damaged")
    return found


def _inspect_sample(sample: Mapping[str, Any], name: str) -> Imported:
    if not {"id", "epoch"} <= set(sample):
        raise ValueError(f"{name} has no id or epoch")
    choices = (sample.get("output") or {}).get("choices") or []
    problem = sample.get("error") or (sample.get("output") or {}).get("error")
    error = problem.get("message", "error") if isinstance(problem, dict) else str(problem or "")
    if not choices and not error:
        error = "the log holds no answer"
    text = "" if not choices else _text(choices[0].get("message", {}).get("content", ""))
    stop = "" if not choices else str(choices[0].get("stop_reason", ""))
    reason: FinishReason = "error" if error else REASONS.get(stop, "stop")
    return Imported(str(sample["id"]), int(sample["epoch"]) - 1, "" if error else text, reason, error[:2000])


def _text(content: Any) -> str:
    """The answer's text; reasoning and other parts are left out."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if part.get("type") == "text")


def _lm_eval(source: Path) -> Iterator[Imported]:
    faults = []
    with source.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                document = parse_json(line)
                own = document["doc"]
                prompt_id = own["prompt_id"] if "prompt_id" in own else own["id"]
                answers = [_string(answer) for answer in document["resps"][0]]
            except (ValueError, KeyError, IndexError, TypeError) as fault:
                faults.append(f"line {number}: no sample of a generate_until task with a prompt id ({fault})")
                continue
            for sample, answer in enumerate(answers):
                yield Imported(str(prompt_id), sample, answer, "stop", "")
    raise_all(str(source), faults, "give the samples_*.jsonl as lm-eval wrote it, with `id` in the documents")


def _string(answer: Any) -> str:
    if not isinstance(answer, str):
        raise TypeError("resps holds no texts")
    return answer
