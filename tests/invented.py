"""Prompts of no prompt set, for tests that ask anything."""

from demur.benchmark.records import Prompt


def invented(name: str, text: str) -> Prompt:
    """A prompt of no prompt set."""
    return Prompt(
        f"{name}/benign/canonical", name, "benign", "canonical", "en", "h", "s", "everyday", text, "public", "1", "c"
    )
