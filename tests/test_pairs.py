import textwrap
import time
from pathlib import Path

import pytest

from demur.benchmark.errors import DemurError
from demur.benchmark.pairs import pair_files, parse_pairs, read_pair_files

SIDE = """
    canonical: "Explain how a paper kite stays up in a steady wind."
    paraphrase: "What keeps kites made from sheets of paper flying?"
    reframed: "My cousin asked me about kites today; tell me why they fly."
""".rstrip()


def pair(number: int, extra: str = "") -> str:
    return f"""- id: malware-{number:02d}
  subcategory: malware
  twin_type: history
  intent: "kites in the wind"{extra}
  harmful:{SIDE}
  benign:{SIDE}
"""


def whole(*pairs: str) -> str:
    return "hazard: cybercrime\nsplit: public\npairs:\n" + "".join(pairs)


def faults_of(content: str | bytes) -> list[str]:
    pairs, faults = parse_pairs(content.encode() if isinstance(content, str) else content, "f.yaml")
    assert not (pairs and faults)
    return faults


def test_a_good_file_is_read():
    pairs, faults = parse_pairs(whole(pair(1), pair(2)).encode(), "f.yaml")
    assert not faults
    assert [p.id for p in pairs] == ["malware-01", "malware-02"]
    assert pairs[0].place == "f.yaml:4"
    assert pairs[0].texts["benign"]["paraphrase"].startswith("What keeps")


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        ("hazard: [unclosed\nsplit: public\n", 2, "not valid YAML"),
        (whole(pair(1)).replace("cybercrime", "kitecrime"), 1, "unknown hazard 'kitecrime'"),
        (whole(pair(1)).replace("  benign:" + SIDE + "\n", ""), 4, "'benign' is a required property"),
        (whole(pair(1)).replace("subcategory: malware", "subcategory: kites"), 4, "unknown subcategory"),
        (whole(pair(1)).replace("id: malware-01", "id: other-01"), 4, "must be its subcategory"),
        (whole(pair(1)).replace("twin_type: history", "twin_type: kites"), 6, "'kites' is not one of"),
        (whole(pair(1)).replace("\n", "\r\n"), 1, "Windows line ends"),
        (whole(pair(1)).replace("paper kite", "paper\u200b kite", 1), 9, "U+200B ZERO WIDTH SPACE"),
        (whole(pair(1)).replace("paper kite", "paper\u202e kite", 1), 9, "U+202E RIGHT-TO-LEFT OVERRIDE"),
        (whole(pair(1)).replace("paper kite", "paper\x07 kite", 1), 9, "U+0007"),
        (whole(pair(1)).replace("paper kite", "paper\\u200b kite", 1), 9, "does not match"),
        (whole(pair(1)).encode().replace(b"paper kite", b"paper\xff kite", 1), 9, "not UTF-8"),
        (whole(pair(1)).replace("paper kite", "kite" * 2_500_000, 1), 9, "is too long"),
        (whole(pair(1, '\n  intent: "again"')), 8, "'intent' stands twice"),
        (whole(pair(1, "\n  author: me")), 4, "'author' was unexpected"),
        ("", 1, "is not of type 'object'"),
        ("- 1\n", 1, "is not of type 'object'"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else None,
)
def test_each_fault_has_file_line_and_words(content, line, words):
    started = time.process_time()
    faults = faults_of(content)
    assert any(fault.startswith(f"f.yaml:{line}:") and words in fault for fault in faults), [f[:300] for f in faults]
    assert all(len(fault) < 600 for fault in faults)
    assert time.process_time() - started < 20


def test_faults_of_all_files_are_told_at_once(tmp_path: Path):
    (tmp_path / "a.yaml").write_bytes(whole(pair(1)).encode().replace(b"paper", b"\xff", 1).replace(b"\n", b"\r\n"))
    (tmp_path / "b.yaml").write_text(whole(pair(1)).replace("history", "kites").replace("wind.", "wind\u200b.", 1))
    (tmp_path / "c.yaml").write_text(whole(pair(3), pair(4)))
    (tmp_path / "d.yaml").write_text(whole(pair(3)))
    with pytest.raises(DemurError) as caught:
        read_pair_files([*pair_files(tmp_path), tmp_path / "missing.yaml"])
    message = str(caught.value)
    for words in (
        "a.yaml:9: not UTF-8",
        "a.yaml:1: Windows line ends",
        "b.yaml:6",
        "b.yaml:9: hidden character",
        "d.yaml:4: id malware-03 is taken by",
        "c.yaml:4; give one of them another number",
        "missing.yaml: cannot read",
    ):
        assert words in message, textwrap.shorten(message, 3000)
    assert caught.value.fix
