"""Sealing the responses of a submission to the maintainers, a thousand at a time."""

import io
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import BinaryIO

import pyrage

from ...benchmark.access import AccessDesk
from ...benchmark.errors import DemurError
from ...benchmark.files import write_atomic
from ...benchmark.recipients import public_key
from ...benchmark.runs import FinishedRun, open_run
from .checking import read_submission
from .responses import FORMAT, OpenedResponse, Proof, salt_file, sealed_name
from .submitted import Submission

__all__ = ["keep_sealed", "seal_responses"]


def seal_responses(run: Path | str, place: Path | str, to: Path, recipients: Sequence[str] = ()) -> None:
    """Encrypt the responses that a submission judged, with its salt, to the maintainers.

    They are read, proved, packed and sealed a thousand at a time, so memory does not grow with their texts.

    Args:
        run: the run folder that the submission was made of.
        place: the submission's folder; it is checked.
        to: the age file to write, readable by its owner only.
        recipients: age public keys; those of Demur's maintainers where none is given.

    Raises:
        DemurError: a broken submission, no salt for it in the run folder, texts that are not those of the submission,
            or a recipient that is no age public key. No file is left then.
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
    proof = Proof(submission, salt, str(path))
    keys = [public_key(key) for key in recipients] or [p.key for p in AccessDesk().recipients().maintainers]
    with write_atomic(to, 0o600) as temporary, temporary.open("wb") as out:
        ends = _Ends(_packed(_lines(asked, submission, salt, proof)), out)
        try:
            pyrage.encrypt_io(ends, ends, [pyrage.x25519.Recipient.from_str(key) for key in keys])
        except pyrage.EncryptError:
            if ends.fault is not None:
                raise ends.fault from None
            raise


def _lines(asked: FinishedRun, submission: Submission, salt: str, proof: Proof) -> Iterator[str]:
    """Each thousand of lines of what is sealed; the last one is given when every response is proved."""
    yield json.dumps({"format": FORMAT, "submission": submission.info.id, "salt": salt})
    names = ("prompt_id", "sample", "text", "finish_reason", "error")
    for rows in asked.rows(*names):
        responses = [OpenedResponse(*(row[name] for name in names)) for row in rows]
        for response in responses:
            proof.take(response)
        yield "".join(f"\n{json.dumps(astuple(response))}" for response in responses)
    proof.finish()


def _packed(lines: Iterable[str]) -> Iterator[bytes]:
    packer = zlib.compressobj(level=9)
    for text in lines:
        yield packer.compress(text.encode())
    yield packer.flush()


class _Ends:
    """What age reads from and writes to. It turns any fault of either into one of its own, so the fault is kept."""

    def __init__(self, pieces: Iterator[bytes], out: BinaryIO) -> None:
        self._pieces, self._out, self._now = pieces, out, io.BytesIO()
        self.fault: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        with self._kept():
            while not (content := self._now.read(size)):
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._now = io.BytesIO(piece)
            return content

    def write(self, content: bytes) -> int:
        with self._kept():
            return self._out.write(content)

    def flush(self) -> None:
        with self._kept():
            self._out.flush()

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except BaseException as fault:
            self.fault = fault
            raise


def keep_sealed(
    run: Path | str, place: Path | str, folder: Path, recipients: Sequence[str] = (), public: Path | None = None
) -> Path:
    """Seal the responses of a submission (:func:`seal_responses`) into a private folder.

    Raises:
        DemurError: as :func:`seal_responses`; or the folder is, or lies in, the folder ``public`` of submissions.
    """
    if public is not None and folder.resolve().is_relative_to(public.resolve()):
        raise DemurError(
            f"{folder}: lies in the folder of the public submissions", "name a folder elsewhere, which stays private"
        )
    path = folder / sealed_name(Path(place).resolve().name)
    seal_responses(run, place, path, recipients)
    return path
