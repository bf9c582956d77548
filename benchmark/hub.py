"""The Hugging Face Hub: publishing the dataset repository, and answering access requests."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError

# The base of every fault of the connection; which HTTP library it comes from depends on huggingface_hub's version.
from huggingface_hub.errors import HTTPError as ConnectionFault  # type: ignore[attr-defined]

from .errors import DemurError
from .export import Exported, export
from .masking import repeats_key

__all__ = [
    "PendingRequest",
    "Published",
    "accept_request",
    "clear_faults",
    "hub_api",
    "pending_requests",
    "publish",
    "reject_request",
]


@dataclass(frozen=True, slots=True)
class Published:
    """What is on the Hub now.

    Attributes:
        new: False where the same content was there already and nothing was sent.
    """

    url: str
    tag: str
    new: bool


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """One person who asks for access."""

    username: str
    fullname: str
    email: str
    timestamp: str
    fields: dict[str, object]


def publish(repo_id: str) -> Published:
    """Create or update the dataset repository: gated with manual approval, one commit, one tag by version.

    Doing it again is safe at any point: the commit's title carries the digest of the content, so a commit that went
    through before the connection dropped is found again and only tagged.

    Args:
        repo_id: for example ``org/demur``.

    Raises:
        DemurError: no token, no permission, a version that was published with other content, or no connection.
    """
    with tempfile.TemporaryDirectory() as temporary, clear_faults(repo_id):
        made = export(Path(temporary) / "export", repo_id)
        api = hub_api()
        tag = f"v{made.version}"
        title = f"Demur prompts {made.version} ({made.digest[:16]})"
        api.create_repo(repo_id, repo_type="dataset", exist_ok=True)
        # Before any file is there, so that nothing is ever open that should be gated.
        api.update_repo_settings(repo_id, repo_type="dataset", gated="manual")
        commits = {commit.title: commit.commit_id for commit in api.list_repo_commits(repo_id, repo_type="dataset")}
        refs = api.list_repo_refs(repo_id, repo_type="dataset")
        tagged = next((ref.target_commit for ref in refs.tags if ref.name == tag), None)
        if tagged is not None and tagged != commits.get(title):
            raise DemurError(
                f"{repo_id}: {tag} was published with other content",
                "raise the version: `demur prompts manifest --version X.Y.Z`, seal again, note it in CHANGELOG.md",
            )
        new = title not in commits
        commit = _commit(api, repo_id, made, title) if new else commits[title]
        if tagged is None:
            api.create_tag(repo_id, tag=tag, revision=commit, repo_type="dataset", exist_ok=True)
        return Published(f"{api.endpoint}/datasets/{repo_id}", tag, new)


def _commit(api: HfApi, repo_id: str, made: Exported, title: str) -> str:
    """One commit that makes the repository hold these files and no others."""
    names = {path.relative_to(made.folder).as_posix(): path for path in made.folder.rglob("*") if path.is_file()}
    there = set(api.list_repo_files(repo_id, repo_type="dataset"))
    gone = sorted(there - names.keys() - {".gitattributes"})
    head = api.repo_info(repo_id, repo_type="dataset").sha
    info = api.create_commit(
        repo_id,
        [
            *(CommitOperationAdd(name, str(path)) for name, path in sorted(names.items())),
            *(CommitOperationDelete(name) for name in gone),
        ],
        commit_message=title,
        repo_type="dataset",
        parent_commit=head,
    )
    return info.oid


def pending_requests(repo_id: str) -> list[PendingRequest]:
    """Everybody who asks for access and has no answer yet.

    Raises:
        DemurError: no token, no permission, no such repository, or no connection.
    """
    with clear_faults(repo_id):
        return [
            PendingRequest(
                request.username or "",
                request.fullname or "",
                request.email or "",
                request.timestamp.isoformat(timespec="minutes"),
                dict(request.fields or {}),
            )
            for request in hub_api().list_pending_access_requests(repo_id, repo_type="dataset")
        ]


def accept_request(repo_id: str, user: str) -> None:
    """Let a user who asked read the repository; see :func:`pending_requests` for faults."""
    with clear_faults(repo_id):
        hub_api().accept_access_request(repo_id, user, repo_type="dataset")


def reject_request(repo_id: str, user: str, reason: str = "") -> None:
    """Turn down a user who asked; the reason, if any, is told to them."""
    with clear_faults(repo_id):
        hub_api().reject_access_request(repo_id, user, repo_type="dataset", rejection_reason=reason or None)


def hub_api() -> HfApi:
    """A client of the Hub with the user's token.

    Raises:
        DemurError: there is no token.
    """
    token = get_token()
    if token is None:
        raise DemurError(
            "no Hugging Face token",
            "make one with write access at the Hub's settings, then `hf auth login` or HF_TOKEN",
        )
    if not (token.isascii() and token.isprintable()):
        raise DemurError("the Hugging Face token holds characters that none has", "copy it again")
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=token)


@contextmanager
def clear_faults(repo_id: str) -> Iterator[None]:
    """Turn every fault of the Hub into one message that says what to do."""
    try:
        yield
    except HFValidationError as fault:
        raise DemurError(f"{repo_id!r} is not a repository id", "write it as org/name") from fault
    except HfHubHTTPError as fault:
        raise _explained(fault, repo_id) from fault
    except ConnectionFault as fault:
        raise DemurError(
            f"the connection to the Hub failed: {type(fault).__name__}",
            "check the network and run the same command again: nothing is done twice",
        ) from fault


# What each refusal means, and what to do about it.
_REFUSALS = {
    401: ("the Hub does not accept the token, or has no such repository for it", "check the id and `hf auth login`"),
    403: (
        "not allowed: the token may not write there",
        "use a token with write access of an account that owns the repository",
    ),
    404: ("no such repository, or no such request in it", "check the id and see `demur access requests`"),
    409: (
        "conflict: somebody changed it meanwhile, or the request was answered already",
        "look at the repository's page, then run the same command again",
    ),
    412: ("conflict: somebody changed it meanwhile", "run the same command again"),
}


def _explained(fault: HfHubHTTPError, repo_id: str) -> DemurError:
    status = fault.response.status_code if fault.response is not None else 0
    if isinstance(fault, GatedRepoError):
        return DemurError(f"{repo_id}: gated ({status}): your account has no access", "request access on its Hub page")
    if status in _REFUSALS:
        words, fix = _REFUSALS[status]
        return DemurError(f"{repo_id}: {words} ({status})", fix)
    if status >= 500:
        return DemurError(f"the Hub has a fault ({status})", "run the same command later: nothing is done twice")
    said = fault.server_message or ""
    shown = "(its message repeats the token and is left out)" if repeats_key(said, get_token()) else said
    return DemurError(f"{repo_id}: the Hub refused ({status}): {shown}", "mend what it names")
