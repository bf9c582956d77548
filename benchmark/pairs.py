"""Files of pairs: reading them, and saying where each fault is."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .errors import raise_all
from .records import SIDES, Split
from .schema import problems
from .taxonomy import hazards

__all__ = ["Pair", "pair_files", "parse_pairs", "read_pair_files"]

# The characters that the schema forbids in texts: control, soft hyphen, zero-width, bidirectional, byte-order mark.
_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\N{SOFT HYPHEN}\N{ZERO WIDTH SPACE}-\N{RIGHT-TO-LEFT MARK}"
    "\N{LEFT-TO-RIGHT EMBEDDING}-\N{RIGHT-TO-LEFT OVERRIDE}\N{WORD JOINER}-\N{POP DIRECTIONAL ISOLATE}"
    "\N{ZERO WIDTH NO-BREAK SPACE}]"
)


DEEPEST = 16


@dataclass(frozen=True, slots=True)
class Pair:
    """One intent as written: both sides in the three wordings that people write (``noisy`` is generated).

    Attributes:
        texts: side to variant to text.
        place: file and line where it stands; no part of the pair itself.
    """

    id: str
    hazard: str
    subcategory: str
    twin_type: str
    intent: str
    split: Split
    texts: dict[str, dict[str, str]]
    place: str = field(default="", compare=False)


def pair_files(folder: Path) -> list[Path]:
    """The YAML files in a folder, in the order of the taxonomy, others after them."""
    order = {f"{hazard}.yaml": position for position, hazard in enumerate(hazards())}
    return sorted(folder.glob("*.yaml"), key=lambda path: (order.get(path.name, len(order)), path.name))


def read_pair_files(paths: Sequence[Path]) -> list[Pair]:
    """Read files of pairs; every fault of every file is reported at once.

    Raises:
        DemurError: with file, line and mend of each fault.
    """
    pairs: list[Pair] = []
    faults: list[str] = []
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError as fault:
            faults.append(f"{path}: cannot read: {fault.strerror}")
            continue
        read, found = parse_pairs(content, str(path))
        pairs += read
        faults += found
    faults += _conflicts(pairs)
    raise_all("prompt files", faults, "mend the places named and run `demur prompts check` again", limit=100)
    return pairs


def _conflicts(pairs: Iterable[Pair]) -> list[str]:
    first: dict[str, Pair] = {}
    faults = []
    for pair in pairs:
        other = first.setdefault(pair.id, pair)
        if other is not pair:
            faults.append(f"{pair.place}: id {pair.id} is taken by {other.place}; give one of them another number")
    return faults


def parse_pairs(content: bytes, name: str) -> tuple[list[Pair], list[str]]:
    """Parse one YAML file of pairs.

    Args:
        content: the file.
        name: how to call it in faults.

    Returns:
        The pairs (those that are whole) and the faults, each with ``name`` and line.
    """
    text, faults = _decode(content, name)
    unfit = _unfit(text)
    if unfit:
        return [], [*faults, f"{name}:{unfit}"]
    loader = yaml.CSafeLoader(text)
    try:
        node = loader.get_single_node()
        faults += [f"{name}:{line}: key {key!r} stands twice; keep one" for line, key in _repeated(node)]
        raw = loader.construct_document(node) if node is not None else None
    except (yaml.YAMLError, ValueError) as fault:
        mark = getattr(fault, "problem_mark", None)
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        return [], [*faults, f"{where}: not valid YAML: {getattr(fault, 'problem', None) or fault}; mend the line"]
    finally:
        loader.dispose()

    def place(path: Sequence[str | int]) -> str:
        return f"{name}:{_line(node, path)}:"

    faults += problems(raw, "demur.benchmark", "pairs", place)
    if not isinstance(raw, dict) or not isinstance(raw.get("hazard"), str) or not isinstance(raw.get("pairs"), list):
        return [], faults
    known = hazards().get(raw["hazard"])
    if known is None:
        return [], [
            *faults,
            f"{place(['hazard'])} unknown hazard {raw['hazard']!r}; choose from {', '.join(hazards())}",
        ]
    for index, entry in enumerate(raw["pairs"]):
        at = place(["pairs", index])
        faults += _misplaced(entry, [sub.id for sub in known.subcategories], at)
    if faults:
        return [], faults
    return [
        _pair(entry, raw["hazard"], raw["split"], place(["pairs", index]).rstrip(":"))
        for index, entry in enumerate(raw["pairs"])
    ], []


def _decode(content: bytes, name: str) -> tuple[str, list[str]]:
    """The text with every unfit character made harmless, so that the search for faults can go on; and those faults."""
    faults = []
    if b"\r" in content:
        line = content[: content.index(b"\r")].count(b"\n") + 1
        faults.append(f"{name}:{line}: Windows line ends; save the file with LF line ends")
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("utf-8", errors="replace")
        for number, line_bytes in enumerate(content.split(b"\n"), start=1):
            if b"\xef\xbf\xbd" not in line_bytes and "\ufffd" in line_bytes.decode("utf-8", errors="replace"):
                faults.append(f"{name}:{number}: not UTF-8; save the file as UTF-8")
    for match in _FORBIDDEN.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        called = unicodedata.name(match.group(), "control character")
        faults.append(f"{name}:{line}: hidden character U+{ord(match.group()):04X} {called}; delete it")
    return _FORBIDDEN.sub(" ", text), faults


def _unfit(text: str) -> str:
    """Line and fault of an alias, which can make a short file endless, or of nesting that no prompt file needs."""
    depth = 0
    try:
        for event in yaml.parse(text, yaml.CSafeLoader):
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.AliasEvent):
                return f"{line}: a YAML alias; write the value out"
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                return f"{line}: nested more than {DEEPEST} deep; write a plain list of pairs"
    except (yaml.YAMLError, ValueError):
        pass  # Told with its place by the loader below.
    return ""


def _repeated(root: yaml.Node | None) -> list[tuple[int, str]]:
    """Line and name of every mapping key that stands twice: YAML would keep the last and lose the first."""
    found: list[tuple[int, str]] = []
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                called = str(key.value)
                if called in seen:
                    found.append((key.start_mark.line + 1, called))
                seen.add(called)
                waiting.append(value)
    return sorted(found)


def _misplaced(entry: object, ours: list[str], at: str) -> list[str]:
    if not isinstance(entry, dict):
        return []
    pair_id, subcategory = str(entry.get("id")), str(entry.get("subcategory"))
    faults = []
    if subcategory not in ours:
        faults.append(f"{at} unknown subcategory {subcategory!r}; choose from {', '.join(ours)}")
    if not re.fullmatch(re.escape(subcategory) + r"-\d\d", pair_id):
        faults.append(f"{at} id {pair_id!r} must be its subcategory, a hyphen and two digits")
    return faults


def _pair(entry: dict[str, Any], hazard: str, split: Split, place: str) -> Pair:
    texts: dict[str, dict[str, str]] = {side: dict(entry[side]) for side in SIDES}
    return Pair(entry["id"], hazard, entry["subcategory"], entry["twin_type"], entry["intent"], split, texts, place)


def _line(node: Any, path: Sequence[str | int]) -> int:
    """Line (from 1) of the value at ``path``, or of the nearest value above it that exists."""
    for step in path:
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
        elif isinstance(node, yaml.MappingNode):
            inner = next((value for key, value in node.value if key.value == step), None)
            if inner is None:
                break
            node = inner
    return int(node.start_mark.line) + 1 if node is not None else 1
