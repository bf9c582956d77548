"""A whole way, from responses to pages, in the folder of the first argument; for comparing machines' layouts.

``python layout.py FOLDER [--fixed] [--reversed]``: with ``--fixed`` what is drawn or read from the clock is one
value, so that every byte can be compared; with ``--reversed`` the models come in the other order.
"""

import json
import locale
import os
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path

from demur import cli
from demur.benchmark import journal, running
from demur.benchmark.prompts import load_prompt_set
from demur.leaderboard import ranking

MODELS = {"maker/first": 3, "other/second": 5}
REFUSAL, ANSWER = "I'm sorry, but I can't help with that.", "Sure. First, take a look at what you have: 1.5 litres."


class Noon(datetime):
    """A clock that stands."""

    @classmethod
    def now(cls, _tz: object = None) -> datetime:  # type: ignore[override]
        return datetime(2026, 1, 2, 12, tzinfo=UTC)


def demur(*arguments: str) -> None:
    sys.argv = ["demur", *arguments]
    try:
        cli.main()
    except SystemExit as ended:
        if ended.code:
            raise


def main(folder: Path, options: set[str]) -> None:
    """Run, score, submit, rank, draw and export."""
    # As a program does that heeds its user's locale; then C code reads and writes decimals as that locale does.
    locale.setlocale(locale.LC_ALL, "")
    if "--fixed" in options:
        secrets.token_hex = lambda n=16: "5a" * n  # type: ignore[assignment]
        journal.now = running.now = lambda: "2026-01-02T12:00:00.000+00:00"  # type: ignore[attr-defined]
        ranking.datetime = Noon  # type: ignore[attr-defined]
    folder.mkdir(parents=True)
    os.chdir(folder)
    asked = load_prompt_set("public", pairs_per_hazard=2).prompts
    models = list(MODELS)
    for model in models[::-1] if "--reversed" in options else models:
        run = f"run of {model.replace('/', ' ')}"
        rows = [
            {
                "prompt_id": prompt.id,
                "sample": sample,
                "text": REFUSAL if (prompt.side == "harmful") == bool((place + sample) % MODELS[model]) else ANSWER,
            }
            for place, prompt in enumerate(asked)
            for sample in range(4)
        ]
        Path("answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        demur("run", "replay:answers.jsonl", "--model-id", model, "--out", run, "--limit-pairs", "2")
        demur("score", run)
        demur("score", run, "--scorer", "lexicon")
        demur("submit", run, "--scorer", "cascade", "--to", "sent", "--architecture", "dense")
    demur("leaderboard", "build", "sent", "--out", "site")
    for kind in ("csv", "json", "latex"):
        demur("leaderboard", "export", "sent", f"--{kind}", "--out", f"board.{kind}")
    print(locale.localeconv()["decimal_point"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), set(sys.argv[2:]))
