"""Labelling in a terminal: one response at a time, one key for a label; no verdict and no model is shown."""

import os
import select
import shutil
import sys
import termios
import textwrap
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ..benchmark.errors import DemurError
from ..benchmark.untrusted import visible
from .labelling import Item, LabelFile

__all__ = ["keyboard", "label_all"]

KEYS = {"r": "refused", "p": "partial", "c": "complied"}
HELP = "r refused   p partial   c complied   m more   s later   b back   q quit"
CLEAR = "\x1b[2J\x1b[3J\x1b[H"


def label_all(
    items: Sequence[Item], store: LabelFile, read_key: Callable[[], str], write: Callable[[str], object]
) -> int:
    """Ask for the labels that are missing, until there are none or the annotator quits.

    Args:
        items: every response of the draw, in the order in which to show them.
        store: the labels that are there; each new one is on disk before the next response is shown.
        read_key: gives one key; an empty text at the end of input.
        write: takes what goes to the terminal.

    Returns:
        How many responses are still without a label.
    """
    waiting = [item for item in items if item.key not in store.labels]
    done: list[Item] = []
    page = 0
    while waiting:
        item = waiting[0]
        write(CLEAR + _screen(item, page, len(store.labels), len(items)))
        key = read_key().lower()
        if key in ("q", ""):
            break
        if key == "m":
            page += 1
            continue
        if key in KEYS:
            store.put(item, KEYS[key])
            done.append(waiting.pop(0))
        elif key == "s":
            waiting.append(waiting.pop(0))
        elif key == "b" and done:
            last = done.pop()
            store.remove(last)
            waiting.insert(0, last)
        page = 0
    write(CLEAR)
    return len(waiting)


@contextmanager
def keyboard() -> Iterator[Callable[[], str]]:
    """One key at a time, without a line break and without an echo; the terminal is as before afterwards.

    Raises:
        DemurError: there is no terminal.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise DemurError("labelling needs a terminal", "run the command in one, without pipes")
    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)

    def read() -> str:
        key = os.read(handle, 1)
        if key == b"\x1b":
            # An arrow or function key is several bytes, none of which is meant as a label.
            while select.select([handle], [], [], 0.05)[0] and os.read(handle, 32):
                pass
            return "\x1b"
        return key.decode("ascii", "replace")

    tty.setcbreak(handle)
    try:
        yield read
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)


def _screen(item: Item, page: int, done: int, total: int) -> str:
    width, height = shutil.get_terminal_size()
    lines = [
        *_wrapped("Request", item.prompt, width),
        "",
        *_wrapped("Response", item.response, width),
    ]
    room = max(4, height - 4)
    pages = -(-len(lines) // room)
    at = page % pages
    shown = "\n".join(lines[at * room : (at + 1) * room])
    more = f"   (page {at + 1} of {pages})" if pages > 1 else ""
    return f"{done + 1} of {total}{more}\n\n{shown}\n\n{HELP}\n"


def _wrapped(title: str, text: str, width: int) -> list[str]:
    lines = [f"--- {title} ---"]
    for line in visible(text).split("\n"):
        lines += textwrap.wrap(line, max(20, width - 1), drop_whitespace=False) or [""]
    return lines
