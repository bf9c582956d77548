"""Coverage-guided fuzzing of the scorers' text path with atheris (``pip install atheris``, in its own environment).

``python benchmarks/fuzz_scorer.py FOLDER -max_total_time=1800 -max_len=4096 -timeout=5`` fuzzes from the kept corpus;
FOLDER gets what it finds, and an input that raises or hangs is written beside it as ``crash-*`` or ``timeout-*``.
``python benchmarks/fuzz_scorer.py FOLDER --keep`` takes the smallest inputs of FOLDER into the kept corpus.
"""

import base64
import hashlib
import json
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["demur.scorers", "html", "json"]):
    from demur.tests import fuzzing

MOST, LONGEST = 400, 512


def unpack(folder: Path) -> None:
    """Write the kept corpus as the files that the fuzzer begins with."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in fuzzing.corpus():
        (folder / hashlib.sha1(entry, usedforsecurity=False).hexdigest()).write_bytes(entry)


def keep(folder: Path) -> None:
    """Take the shortest inputs of a folder into the kept corpus; run ``-merge=1`` first to have few that differ."""
    found = sorted({path.read_bytes() for path in folder.iterdir() if path.is_file()}, key=len)
    short = [entry for entry in found if len(entry) <= LONGEST]
    step = max(1, len(short) // MOST)
    chosen = sorted({*short[::step], *fuzzing.corpus()})
    lines = ",\n".join(json.dumps(base64.b85encode(entry).decode()) for entry in chosen)
    fuzzing.CORPUS.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def main() -> None:
    """Fuzz, or keep what was found."""
    folder = Path(sys.argv[1])
    if "--keep" in sys.argv:
        keep(folder)
        return
    unpack(folder)
    atheris.Setup(sys.argv, lambda data: bool(fuzzing.take(data)) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
