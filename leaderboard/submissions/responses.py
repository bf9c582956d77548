"""The private channel: response texts and their salt, sealed to the maintainers; never part of a public submission.

A file ``<submission id>.age`` holds, compressed, one line of JSON that says which submission it belongs to and the salt
of its response hashes, then one line a response: prompt id, sample, text, finish reason, error.
"""

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyrage

from ...benchmark.errors import DemurError
from ...benchmark.records import FINISH_REASONS
from .submitted import Submission

__all__ = [
    "FORMAT",
    "OpenedResponse",
    "Proof",
    "open_responses",
    "read_sealed",
    "salt_file",
    "salted",
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


def sealed_name(submission_id: str) -> str:
    """The name of the file with a submission's sealed responses."""
    return f"{submission_id}.age"


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


class Proof:
    """Holds responses, one after another in any order, against the hashes of the public rows."""

    def __init__(self, submission: Submission, salt: str, name: str) -> None:
        info, public = submission.info, submission.verdicts
        if hashlib.sha256(salt.encode()).hexdigest() != info.salt_sha256:
            raise DemurError(f"{name}: the salt is not that of {info.id}", _AGAIN)
        keys = zip(public["prompt_id"], public["sample"].astype(int), strict=True)
        self._rows = {key: row for row, key in enumerate(keys)}
        self._digests = public["response_sha256"].to_list()
        self._seen, self._other = bytearray(len(self._digests)), bytearray(len(self._digests))
        self._salt, self._name = salt, name
        self._strange = self._twice = 0

    def take(self, response: OpenedResponse) -> int | None:
        """The public row of a response; None where there is none."""
        row = self._rows.get((response.prompt_id, response.sample))
        if row is None:
            self._strange += 1
            return None
        self._twice += self._seen[row]
        self._seen[row] = 1
        # Texts may hold unpaired surrogates, which no hash of UTF-8 knows: such a text matches no public hash.
        if not _encodable(response.text) or salted(self._salt, response.text) != self._digests[row]:
            self._other[row] = 1
        return row

    def finish(self) -> None:
        """Raise where not every row had its own response exactly once."""
        keys, faults = list(self._rows), []
        if self._twice:
            faults.append(f"{self._twice} responses are there more than once")
        if missing := self._seen.count(0):
            prompt_id, sample = keys[self._seen.index(0)]
            faults.append(f"{missing} responses are missing, for example {prompt_id} sample {sample}")
        if self._strange:
            faults.append(f"{self._strange} responses are of no row of the submission")
        if not faults and (other := self._other.count(1)):
            prompt_id, sample = keys[self._other.index(1)]
            faults.append(
                f"{other} of {len(keys)} texts are not those whose hashes the submission states, "
                f"for example {prompt_id} sample {sample}"
            )
        if faults:
            raise DemurError(f"{self._name}: {'; '.join(faults)}", _AGAIN)


def _matched(submission: Submission, rows: list[OpenedResponse], salt: str, name: str) -> list[OpenedResponse]:
    """The responses in the order of the public rows, each proved by its hash."""
    proof = Proof(submission, salt, name)
    placed = {proof.take(row): row for row in rows}
    proof.finish()
    return [placed[row] for row in range(len(placed))]


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
