"""The private channel: response texts and their salt, sealed to the maintainers; never part of a public submission.

A file ``<submission id>.age`` holds, compressed, one line of JSON that says which submission it belongs to and the salt
of its response hashes, then one line a response: prompt id, sample, text, finish reason, error.
"""

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import pyrage

from ...benchmark.access import AccessDesk
from ...benchmark.errors import DemurError
from ...benchmark.files import write_atomic
from ...benchmark.recipients import public_key
from ...benchmark.records import FINISH_REASONS
from ...benchmark.runs import open_run
from .checking import read_submission
from .submitted import Submission

__all__ = [
    "OpenedResponse",
    "keep_sealed",
    "open_responses",
    "read_sealed",
    "salt_file",
    "salted",
    "seal_responses",
    "sealed_name",
]

FORMAT = "demur-responses/1"
MOST_BYTES = 2 * 2**30
BYTES_PER_TOKEN = 64
BYTES_PER_ROW = 4096


@dataclass(frozen=True, slots=True)
class OpenedResponse:
    """One response as the maintainers see it, in memory only."""

    prompt_id: str
    sample: int
    text: str
    finish_reason: str
    error: str


def salted(salt: str, text: str) -> str:
    """The hash under which a response stands in the public rows."""
    return hashlib.sha256(f"{salt}\n{text}".encode()).hexdigest()


def salt_file(run: Path, submission_id: str) -> Path:
    """Where a run folder keeps the salt of a submission that was made of it."""
    return run / "salts" / f"{submission_id}.txt"


def seal_responses(run: Path | str, place: Path | str, recipients: Sequence[str] = ()) -> bytes:
    """Encrypt the responses that a submission judged, with its salt, to the maintainers.

    Args:
        run: the run folder that the submission was made of.
        place: the submission's folder; it is checked.
        recipients: age public keys; those of Demur's maintainers where none is given.

    Returns:
        The content of an age file.

    Raises:
        DemurError: a broken submission, no salt for it in the run folder, texts that are not those of the submission,
            or a recipient that is no age public key.
    """
    asked, submission = open_run(run), read_submission(place)
    path = salt_file(asked.path, submission.info.id)
    try:
        salt = path.read_text(encoding="utf-8").strip()
    except OSError as fault:
        raise DemurError(
            f"{path}: the salt of {submission.info.id} is not there",
            "give the run folder that the submission was made of, or submit the run again",
        ) from fault
    names = ("prompt_id", "sample", "text", "finish_reason", "error")
    rows = [OpenedResponse(*(row[name] for name in names)) for rows in asked.rows(*names) for row in rows]
    _matched(submission, rows, salt, str(path))
    head = {"format": FORMAT, "submission": submission.info.id, "salt": salt}
    lines = [json.dumps(value) for value in (head, *(astuple(row) for row in rows))]
    keys = [public_key(key) for key in recipients] or [p.key for p in AccessDesk().recipients().maintainers]
    sealed: bytes = pyrage.encrypt(
        zlib.compress("\n".join(lines).encode(), level=9), [pyrage.x25519.Recipient.from_str(key) for key in keys]
    )
    return sealed


def sealed_name(submission_id: str) -> str:
    """The name of the file with a submission's sealed responses."""
    return f"{submission_id}.age"


def keep_sealed(content: bytes, submission_id: str, folder: Path, public: Path | None = None) -> Path:
    """Write sealed responses into a private folder, readable by its owner only.

    Raises:
        DemurError: the folder is, or lies in, the folder ``public`` of submissions.
    """
    if public is not None and folder.resolve().is_relative_to(public.resolve()):
        raise DemurError(
            f"{folder}: lies in the folder of the public submissions", "name a folder elsewhere, which stays private"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / sealed_name(submission_id)
    with write_atomic(path, 0o600) as temporary:
        temporary.write_bytes(content)
    return path


def read_sealed(path: Path, submission_id: str) -> bytes:
    """The content of a file of sealed responses, or of the submission's file in a folder of them.

    Raises:
        DemurError: there is none.
    """
    found = path / sealed_name(submission_id) if path.is_dir() else path
    try:
        return found.read_bytes()
    except OSError as fault:
        raise DemurError(
            f"{found}: cannot read: {fault.strerror}", "give the file or folder that `demur submit` wrote"
        ) from fault


def open_responses(content: bytes, submission: Submission, keys: Sequence[Any], name: str) -> list[OpenedResponse]:
    """Decrypt sealed responses and prove that they are those of the submission.

    No message quotes a response.

    Args:
        content: of the age file.
        submission: as it is public.
        keys: identities that may open it.
        name: of the file, for messages.

    Returns:
        One response for every row of the submission, in their order.

    Raises:
        DemurError: another key, a damaged file, another submission's, no salt or a wrong one, or texts that are
            missing, doubled or other than those whose hashes are public.
    """
    try:
        packed = pyrage.decrypt(content, list(keys))
    except pyrage.DecryptError as fault:
        if "no matching keys" in str(fault).lower():
            raise DemurError(
                f"{name}: not sealed to the key in DEMUR_IDENTITY",
                "use the identity of a maintainer to whom it was sealed, or ask the submitter to seal it again",
            ) from None
        raise DemurError(f"{name}: damaged, or not an age file", "get the file again") from None
    head, rows = _unpacked(packed, submission, name)
    if head.get("format") != FORMAT:
        raise DemurError(f"{name}: opened, but it does not hold responses in the form {FORMAT}", "get the file again")
    if head.get("submission") != submission.info.id:
        raise DemurError(
            f"{name}: holds the responses of another submission ({str(head.get('submission'))[:160]})",
            f"give the file of {submission.info.id}",
        )
    salt = head.get("salt")
    if not isinstance(salt, str) or not salt:
        raise DemurError(f"{name}: holds no salt, so its texts cannot be compared with the public hashes", _AGAIN)
    return _matched(submission, rows, salt, name)


_AGAIN = "ask the submitter to seal the responses again with `demur submit --again … --with-responses …`"


def _unpacked(packed: bytes, submission: Submission, name: str) -> tuple[dict[str, Any], list[OpenedResponse]]:
    info = submission.info
    allowed = min(MOST_BYTES, 2**20 + info.rows * (BYTES_PER_ROW + BYTES_PER_TOKEN * info.setting.max_new_tokens))
    try:
        stream = zlib.decompressobj()
        plain = stream.decompress(packed, allowed)
        if stream.unconsumed_tail:
            raise DemurError(f"{name}: unpacks to more than {allowed} bytes, which {info.rows} responses cannot need")
        if not stream.eof:
            raise DemurError(f"{name}: is cut off", "get the file again")
        lines = plain.decode().split("\n")
        head = json.loads(lines[0])
        if not isinstance(head, dict):
            head = {}
        return head, list(_rows(lines[1:], name))
    except (zlib.error, ValueError, RecursionError):
        # Without the cause: its text could quote a response.
        raise DemurError(f"{name}: opened, but its content cannot be read", _AGAIN) from None


def _rows(lines: Sequence[str], name: str) -> Iterator[OpenedResponse]:
    kinds = (str, int, str, str, str)
    for number, line in enumerate(lines, 2):
        value = json.loads(line)
        well = isinstance(value, list) and len(value) == len(kinds) and all(map(isinstance, value, kinds))
        if not well or isinstance(value[1], bool) or value[3] not in FINISH_REASONS:
            raise DemurError(f"{name}: line {number} is no response", _AGAIN)
        yield OpenedResponse(*value)


def _matched(submission: Submission, rows: list[OpenedResponse], salt: str, name: str) -> list[OpenedResponse]:
    """The responses in the order of the public rows, each proved by its hash."""
    info, public = submission.info, submission.verdicts
    if hashlib.sha256(salt.encode()).hexdigest() != info.salt_sha256:
        raise DemurError(f"{name}: the salt is not that of {info.id}", _AGAIN)
    found = {(row.prompt_id, row.sample): row for row in rows}
    wanted = list(zip(public["prompt_id"], public["sample"].astype(int), strict=True))
    faults = []
    if len(found) != len(rows):
        faults.append(f"{len(rows) - len(found)} responses are there more than once")
    missing = [key for key in wanted if key not in found]
    strange = found.keys() - set(wanted)
    if missing:
        faults.append(f"{len(missing)} responses are missing, for example {missing[0][0]} sample {missing[0][1]}")
    if strange:
        faults.append(f"{len(strange)} responses are of no row of the submission")
    if not faults:
        # Texts may hold unpaired surrogates, which no hash of UTF-8 knows: such a text matches no public hash.
        other = [
            key
            for key, digest in zip(wanted, public["response_sha256"], strict=True)
            if not _encodable(found[key].text) or salted(salt, found[key].text) != digest
        ]
        if other:
            faults.append(
                f"{len(other)} of {len(wanted)} texts are not those whose hashes the submission states, "
                f"for example {other[0][0]} sample {other[0][1]}"
            )
    if faults:
        raise DemurError(f"{name}: {'; '.join(faults)}", _AGAIN)
    return [found[key] for key in wanted]


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
