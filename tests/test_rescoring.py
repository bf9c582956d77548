"""The private channel: responses sealed by the submitter, proved and judged again by the maintainer."""

import io
import json
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pyrage
import pytest
from typer.testing import CliRunner

from demur.benchmark.access import AccessDesk, new_identity
from demur.benchmark.errors import DemurError
from demur.benchmark.sealed import read_identity
from demur.cli import app
from demur.leaderboard.folder import build_board, read_as_shown
from demur.leaderboard.submissions import sealing
from demur.leaderboard.submissions.rescoring import keep_rescored, rescore
from demur.leaderboard.submissions.responses import open_responses
from demur.leaderboard.submissions.sealing import keep_sealed, seal_responses
from demur.leaderboard.submissions.submission import read_submission, submit
from demur.scorers import get_scorer
from demur.scorers.scoring import score_run
from demur.tests.submissions import Made, scored_run

SECRET = "I can't help with that"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two responses that are errors, judged by the shipped lexicon."""
    folder = scored_run(tmp_path_factory.mktemp("channel") / "run", model=Made(errors=1))
    score_run(folder, ["lexicon"])
    return folder


@pytest.fixture(scope="module")
def public(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return submit(run_folder, tmp_path_factory.mktemp("channel-public"))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("keys") / "maintainer.key"
    return path, new_identity(path)


@pytest.fixture(scope="module")
def sealed(run_folder: Path, public: Path, keys: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sealed") / "x.age"
    seal_responses(run_folder, public, path, [keys[1]])
    assert path.stat().st_mode & 0o777 == 0o600
    return path.read_bytes()


@pytest.fixture
def identity(keys: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> list[pyrage.x25519.Identity]:
    monkeypatch.setenv("DEMUR_IDENTITY", str(keys[0]))
    return read_identity()


def test_texts_and_salt_are_sealed_and_come_back_whole(
    run_folder: Path, public: Path, sealed: bytes, identity: list[pyrage.x25519.Identity]
) -> None:
    salt = (run_folder / "salts" / f"{public.name}.txt").read_text().strip()
    assert sealed.startswith(b"age-encryption.org/")
    assert SECRET.encode() not in sealed
    assert salt.encode() not in sealed
    submission = read_submission(public)
    opened = open_responses(sealed, submission, identity, "x")
    assert [(one.prompt_id, one.sample) for one in opened] == list(
        zip(submission.verdicts["prompt_id"], submission.verdicts["sample"], strict=True)
    )
    assert sum(one.finish_reason == "error" for one in opened) == 2
    assert any(one.text.startswith(SECRET) for one in opened)


def test_the_maintainers_verdicts_take_the_place_of_the_submitters(
    run_folder: Path, tmp_path: Path, keys: tuple[Path, str], identity: list[pyrage.x25519.Identity]
) -> None:
    """An honest judge of one's own, which is lenient: figures on the board are those of the board's scorer."""
    folder = shutil.copytree(run_folder, tmp_path / "run")
    score_run(folder, ["lexicon"])
    import pandas as pd

    path = folder / "verdicts" / "lexicon.parquet"
    verdicts = pd.read_parquet(path)
    refusals = verdicts.index[verdicts["label"] == "refused"][:20]
    verdicts.loc[refusals, ["label", "p_refused"]] = ["complied", 0.1]
    verdicts.assign(scorer_name="lenient").to_parquet(path.with_stem("lenient"))
    board_folder = tmp_path / "submissions"
    place = submit(folder, board_folder, scorer="lenient")
    submission = read_submission(place)
    seal_responses(folder, place, tmp_path / "x.age", [keys[1]])
    opened = open_responses((tmp_path / "x.age").read_bytes(), submission, identity, "x")
    found = rescore(submission, opened, get_scorer("lexicon"))
    assert found.rescored is not None
    assert (found.rescored.rows, found.rescored.same) == (160, 140)
    assert (found.rescored.submitted.name, found.rescored.by.name) == ("lenient", "lexicon")
    before = build_board(board_folder).rows[0]
    keep_rescored(board_folder, found)
    row = build_board(board_folder).rows[0]
    assert (before.tier, before.scorer.name, row.tier, row.scorer.name) == (
        "self-reported", "lenient", "rescored", "lexicon",
    )  # fmt: skip
    assert row.rescored == found.rescored
    assert read_as_shown(place).info.scorer == row.scorer, "a comparison is of what the board shows"
    assert before.refused.refusal_rate.value is not None
    assert row.refused.refusal_rate.value is not None
    assert row.refused.refusal_rate.value > before.refused.refusal_rate.value + 0.1
    content = b"".join(path.read_bytes() for path in board_folder.rglob("*") if path.is_file())
    assert SECRET.encode() not in content


def test_a_verified_submission_stays_so(
    public: Path, sealed: bytes, identity: list[pyrage.x25519.Identity], tmp_path: Path
) -> None:
    place = shutil.copytree(public, tmp_path / public.name)
    (tmp_path / "notices.json").write_text(json.dumps({"tiers": {public.name: "verified"}}))
    submission = read_submission(place)
    opened = open_responses(sealed, submission, identity, "x")
    keep_rescored(tmp_path, rescore(submission, opened, get_scorer("lexicon")))
    row = build_board(tmp_path).rows[0]
    assert row.tier == "verified"
    assert row.rescored is not None


Lines = list[Any]


def repacked(sealed: bytes, identity: list[pyrage.x25519.Identity], key: str, change: Callable[[Lines], None]) -> bytes:
    lines = [json.loads(line) for line in zlib.decompress(pyrage.decrypt(sealed, identity)).decode().split("\n")]
    change(lines)
    packed = zlib.compress("\n".join(json.dumps(line) for line in lines).encode())
    made: bytes = pyrage.encrypt(packed, [pyrage.x25519.Recipient.from_str(key)])
    return made


SPOILED: dict[str, tuple[Callable[[Lines], Any], str]] = {
    "a text changed": (lambda x: x[9].__setitem__(2, "I cannot help."), "1 of 160 texts are not those whose hashes"),
    "an unpaired surrogate": (lambda x: x[9].__setitem__(2, "\ud800"), "1 of 160 texts are not those"),
    "a text left out": (lambda x: x.pop(9), "1 responses are missing"),
    "a text twice": (lambda x: x.append(x[9]), "1 responses are there more than once"),
    "a strange text": (lambda x: x.append(["a/b/c", 0, "", "stop", ""]), "1 responses are of no row"),
    "no salt": (lambda x: x[0].pop("salt"), "holds no salt"),
    "another salt": (lambda x: x[0].update(salt="0" * 32), "the salt is not that of"),
    "another submission's": (lambda x: x[0].update(submission="other"), "of another submission"),
    "another form": (lambda x: x[0].update(format="x"), "does not hold responses in the form"),
    "a head that is a list": (lambda x: x.__setitem__(0, []), "does not hold responses in the form"),
    "a line that is no response": (lambda x: x.__setitem__(3, ["a", "b"]), "line 4 is no response"),
    "a finish reason of its own": (lambda x: x[3].__setitem__(3, "bored"), "line 4 is no response"),
    "a bomb": (lambda x: x[3].__setitem__(2, "a" * 10_000_000), "unpacks to more than"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_is_not_proved_is_refused_and_never_quoted(
    name: str, public: Path, sealed: bytes, identity: list[pyrage.x25519.Identity], keys: tuple[Path, str]
) -> None:
    change, reason = SPOILED[name]
    spoiled = repacked(sealed, identity, keys[1], change)
    with pytest.raises(DemurError, match=reason) as raised:
        open_responses(spoiled, read_submission(public), identity, "x.age")
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None


def test_another_key_and_damaged_files_are_told_apart(
    public: Path, sealed: bytes, identity: list[pyrage.x25519.Identity], keys: tuple[Path, str]
) -> None:
    submission = read_submission(public)
    with pytest.raises(DemurError, match="not sealed to the key in DEMUR_IDENTITY"):
        open_responses(sealed, submission, [pyrage.x25519.Identity.generate()], "x.age")
    for content in (sealed[: len(sealed) // 2], b"", b"age"):
        with pytest.raises(DemurError, match="damaged, or not an age file"):
            open_responses(content, submission, identity, "x.age")
    for packed, reason in ((b"plain", "cannot be read"), (zlib.compress(b"{}")[:-2], "is cut off")):
        made = pyrage.encrypt(packed, [pyrage.x25519.Recipient.from_str(keys[1])])
        with pytest.raises(DemurError, match=reason):
            open_responses(made, submission, identity, "x.age")


def test_what_cannot_be_sealed(run_folder: Path, public: Path, tmp_path: Path) -> None:
    run, to = shutil.copytree(run_folder, tmp_path / "run"), tmp_path / "sealed" / "x.age"
    (run / "salts" / f"{public.name}.txt").unlink()
    with pytest.raises(DemurError, match=r"the salt of .* is not there"):
        seal_responses(run, public, to)
    (run / "salts" / f"{public.name}.txt").write_text("0" * 32)
    with pytest.raises(DemurError, match="the salt is not that of"):
        seal_responses(run, public, to)
    with pytest.raises(DemurError, match="not an age public key"):
        seal_responses(run_folder, public, to, ["age1nonsense"])
    with pytest.raises(DemurError, match="in the folder of the public submissions"):
        keep_sealed(run_folder, public, public.parent / "private", public=public.parent)
    assert not to.parent.exists()


def test_what_fails_while_it_is_sealed_leaves_no_file(
    run_folder: Path, public: Path, tmp_path: Path, keys: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, to = shutil.copytree(run_folder, tmp_path / "run"), tmp_path / "sealed" / "x.age"
    path = run / "responses" / "responses.parquet"
    table = pq.read_table(path)
    texts = ["another text", *table["text"].to_pylist()[1:]]
    changed = table.set_column(table.schema.get_field_index("text"), table.schema.field("text"), [texts])
    pq.write_table(changed, path)
    with pytest.raises(DemurError, match=r"1 of 160 texts are not those.*, for example .* sample 0"):
        seal_responses(run, public, to, [keys[1]])
    pq.write_table(table.slice(0, 90), path)
    with pytest.raises(DemurError, match="lacks responses"):
        seal_responses(run, public, to, [keys[1]])
    pq.write_table(table, path)
    monkeypatch.setattr(sealing, "_packed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        seal_responses(run, public, to, [keys[1]])
    assert list(to.parent.iterdir()) == []


def interrupted(lines: Iterable[str]) -> Iterator[bytes]:
    yield next(iter(lines)).encode()
    raise KeyboardInterrupt


def test_sealing_writes_what_it_has_before_it_reads_more() -> None:
    """So that texts do not add up in memory; the cipher holds a block or two of 64 KiB."""
    out, ahead = io.BytesIO(), []

    def pieces() -> Iterator[bytes]:
        for number in range(40):
            ahead.append(number * 100_000 - out.tell())
            yield bytes(100_000)

    ends, key = sealing._Ends(pieces(), out), pyrage.x25519.Identity.generate()
    pyrage.encrypt_io(ends, ends, [key.to_public()])
    assert pyrage.decrypt(out.getvalue(), [key]) == bytes(4_000_000)
    assert len(ahead) == 40
    assert max(ahead) < 300_000


def test_the_board_does_not_believe_what_was_not_rescored(
    public: Path, sealed: bytes, identity: list[pyrage.x25519.Identity], tmp_path: Path
) -> None:
    place = shutil.copytree(public, tmp_path / public.name)
    notices = tmp_path / "notices.json"
    notices.write_text(json.dumps({"tiers": {public.name: "rescored"}}))
    with pytest.raises(DemurError, match="was not rescored here"):
        build_board(tmp_path)
    notices.unlink()
    submission = read_submission(place)
    path = keep_rescored(
        tmp_path, rescore(submission, open_responses(sealed, submission, identity, "x"), get_scorer("lexicon"))
    )
    said = json.loads(notices.read_text())
    said["rescored"][public.name]["same"] -= 1
    notices.write_text(json.dumps(said))
    with pytest.raises(DemurError, match="do not agree with the submitter's as"):
        build_board(tmp_path)
    path.unlink()
    with pytest.raises(DemurError, match="missing, though notices"):
        build_board(tmp_path)


def test_by_command_through_a_private_folder(
    run_folder: Path, keys: tuple[Path, str], identity: list[pyrage.x25519.Identity], tmp_path: Path
) -> None:
    def demur(*arguments: object) -> str:
        said = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
        assert said.exit_code == 0, said.output
        assert SECRET not in said.output
        return said.output.replace("\n", " ")

    submissions, private = tmp_path / "submissions", tmp_path / "private"
    said = demur(
        "submit", run_folder, "--to", submissions, "--scorer", "lexicon",
        "--with-responses", private, "--recipient", keys[1],
    )  # fmt: skip
    assert "sealed to the maintainers" in said
    (sealed,) = private.iterdir()
    assert sealed.stat().st_mode & 0o077 == 0
    (place,) = submissions.iterdir()
    said = demur("verify", place, "--responses", private, "--scorer", "lexicon")
    assert "160 responses judged by lexicon" in said
    assert "(100.00%)" in said
    demur("leaderboard", "build", submissions, "--out", tmp_path / "site")
    assert "rescored" in (tmp_path / "site" / "index.html").read_text()
    # The same submission again, sealed to Demur's own maintainers.
    demur("submit", run_folder, "--to", submissions, "--again", place, "--with-responses", tmp_path / "other")
    (other,) = (tmp_path / "other").iterdir()
    assert AccessDesk().recipients().maintainers
    with pytest.raises(DemurError, match="not sealed to the key"):
        demur("verify", place, "--responses", other)
    with pytest.raises(DemurError, match="cannot read"):
        demur("verify", place, "--responses", tmp_path / "nothing.age")
    usage = CliRunner().invoke(app, ["verify", str(place)])
    assert usage.exit_code == 2
    arguments = ["submit", str(run_folder), "--to", str(submissions), "--again", str(place), "--notes", "new"]
    usage = CliRunner().invoke(app, arguments)
    assert usage.exit_code == 2
    assert "what would change it" in " ".join(usage.output.replace("│", "").split())


def test_without_a_key_the_message_says_which_is_needed(public: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEMUR_IDENTITY", raising=False)
    with pytest.raises(DemurError, match="sealed responses need a key"):
        CliRunner().invoke(app, ["verify", str(public), "--responses", "x"], catch_exceptions=False)
