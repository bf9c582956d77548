"""Secrets in texts: keys that a server repeats, and those that stand where an address or a file name should."""

import base64
import re
from urllib.parse import unquote

__all__ = ["masked", "repeats", "repeats_key"]

KEY_WINDOW = 8
"""So many letters and digits in a row of a key give it away; servers that cut a key show fewer."""
_AGE_KEY = re.compile(r"AGE-SECRET-KEY-[0-9A-Z]*", re.IGNORECASE)
# Bounded, so that no text makes them slow. One slash is what a path makes of the two of an address.
_USER = re.compile(r"(\b[a-z][a-z0-9+.-]{0,20}:/{1,2})[^/?#\s]{1,2000}@", re.IGNORECASE)
_QUERY = re.compile(r"(\b[a-z][a-z0-9+.-]{0,20}:/{1,2}[^?#\s]{0,2000})[?#][^\s'\"]+", re.IGNORECASE)


def masked(text: str) -> str:
    """A text without age secret keys and without what addresses hold beyond host and path."""
    return _QUERY.sub(r"\1?…", _USER.sub(r"\1…@", _AGE_KEY.sub("AGE-SECRET-KEY-…", text)))


def repeats(text: str, secret: str, window: int) -> bool:
    """Whether a text holds ``window`` letters and digits in a row of a secret, or all of a shorter one.

    Case and everything between letters and digits are left aside.
    """
    said, hidden = _plain(text), _plain(secret)
    if len(hidden) <= window:
        return bool(hidden) and hidden in said
    return any(hidden[start : start + window] in said for start in range(len(hidden) - window + 1))


def repeats_key(text: str, key: str | None, window: int = KEY_WINDOW) -> bool:
    """Whether a text holds a piece of a key: plain, percent-encoded, in hexadecimal, or in base64 of any longer text.

    Args:
        text: what a stranger wrote.
        key: the key; None where there is none.
        window: letters and digits in a row that count as a piece.
    """
    if not key:
        return False
    if repeats(text, key, window) or ("%" in text and repeats(unquote(text), key, window)):
        return True
    content = key.encode()
    # Three bytes make four letters, so what base64 makes of a text depends on how many bytes stand before it. The
    # letters at the ends depend on their neighbours and are left out.
    encoded = [content.hex()]
    encoded += [
        base64.b64encode(b"\0" * lead + content).decode().rstrip("=")[(0, 2, 3)[lead] : -1] for lead in range(3)
    ]
    wide = (window * 4 + 2) // 3
    return any(repeats(text, each, 2 * window if place == 0 else wide) for place, each in enumerate(encoded))


def _plain(text: str) -> str:
    return "".join(filter(str.isalnum, text.lower()))
