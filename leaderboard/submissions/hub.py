"""Submissions and results on the Hugging Face Hub: always as a pull request, never as a direct change."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml
from huggingface_hub import CommitOperationAdd, EvalResultEntry, eval_result_entries_to_yaml
from huggingface_hub.errors import EntryNotFoundError

from ...benchmark.cards import REPO_ID
from ...benchmark.errors import DemurError
from ...benchmark.hub import clear_faults, hub_api
from ..statistics.consistency import RANKING_DRAWS, RANKING_K
from .checking import INFO_FILE, ROWS_FILE, read_submission
from .others import OTHERS_FILE
from .responses import sealed_name
from .sealing import seal_responses
from .stress import STRESS_FILE
from .submitted import SubmissionInfo

__all__ = ["eval_results", "fetch_responses", "propose_responses", "propose_result", "propose_submission"]

RESULT_FILE = ".eval_results/demur.yaml"


def propose_submission(place: Path | str, repo_id: str) -> str:
    """Open a pull request that adds a submission to a dataset repository of submissions.

    Args:
        place: the submission's folder; it is checked first.
        repo_id: for example ``org/submissions``; the files go to ``<submission id>/``.

    Returns:
        The address of the pull request.

    Raises:
        DemurError: the submission does not pass its check, no token, no such repository, or no connection.
    """
    info = read_submission(place).info
    operations = [
        CommitOperationAdd(path_in_repo=f"{info.id}/{name}", path_or_fileobj=Path(place) / name)
        for name in (INFO_FILE, ROWS_FILE, STRESS_FILE, OTHERS_FILE)
        if (Path(place) / name).is_file()
    ]
    return _propose(repo_id, "dataset", operations, f"Submission {info.id}")


def propose_responses(run: Path | str, place: Path | str, repo_id: str, recipients: Sequence[str] = ()) -> str:
    """Open a pull request that adds the sealed responses of a submission to a private or gated dataset repository.

    Args:
        run: the run folder that the submission was made of.
        place: the submission's folder.
        repo_id: of the repository; it must not be open to everybody.
        recipients: as for :func:`.sealing.seal_responses`.

    Returns:
        The address of the pull request.

    Raises:
        DemurError: as :func:`.sealing.seal_responses`; or a repository that everybody can read, no token, no such
            repository, or no connection.
    """
    with clear_faults(repo_id):
        about = hub_api().repo_info(repo_id, repo_type="dataset")
    if not about.private and not about.gated:
        raise DemurError(
            f"{repo_id}: everybody can read it; responses go to a private or gated repository alone",
            "make it private or gated on its settings page, or name another one",
        )
    name = Path(place).resolve().name
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / sealed_name(name)
        seal_responses(run, place, path, recipients)
        operation = CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=path)
        return _propose(repo_id, "dataset", [operation], f"Responses of {name}")


def fetch_responses(submission_id: str, repo_id: str) -> bytes:
    """The sealed responses of a submission from a private or gated dataset repository.

    Raises:
        DemurError: no token, no access, no such repository or file, or no connection.
    """
    name = sealed_name(submission_id)
    with clear_faults(repo_id), tempfile.TemporaryDirectory() as folder:
        try:
            found = hub_api().hf_hub_download(repo_id, name, repo_type="dataset", local_dir=folder)
        except EntryNotFoundError as fault:
            raise DemurError(
                f"{repo_id}: has no {name} on its main branch", "merge the pull request that brings it, or ask for it"
            ) from fault
        return Path(found).read_bytes()


def propose_result(place: Path | str, model_repo: str, *, source_url: str) -> str:
    """Open a pull request that adds the headline to the model's own repository, in the Hub's format for results.

    Args:
        place: the submission's folder; it is checked first.
        model_repo: the model's repository.
        source_url: where the submission can be seen, for example its pull request.

    Returns:
        The address of the pull request.

    Raises:
        DemurError: as :func:`propose_submission`; or C@4 is undefined, or the run asked a part of the split alone.
    """
    info = read_submission(place).info
    content = yaml.safe_dump(eval_results(info, source_url), sort_keys=False, allow_unicode=True)
    operation = CommitOperationAdd(path_in_repo=RESULT_FILE, path_or_fileobj=content.encode())
    return _propose(model_repo, "model", [operation], f"Result on Demur, {info.prompts.split} split")


def eval_results(info: SubmissionInfo, source_url: str) -> list[dict[str, object]]:
    """The content of ``.eval_results/demur.yaml``.

    Raises:
        DemurError: C@4 is undefined or rests on too few draws, or the run asked a part of the split alone.
    """
    curve = info.figures.refused.curve
    value = curve[RANKING_K - 1] if len(curve) >= RANKING_K else None
    if value is None or len(curve) < RANKING_DRAWS:
        raise DemurError(
            f"{info.id}: C@{RANKING_K} is undefined, or rests on fewer than {RANKING_DRAWS} draws of a side",
            "there is no result to publish on the model's page",
        )
    if info.prompts.selection is not None:
        raise DemurError(
            f"{info.id}: asked {info.prompts.selection.name} of split {info.prompts.split}",
            "publish results of the whole split alone",
        )
    setting = info.setting
    entry = EvalResultEntry(
        dataset_id=REPO_ID,
        task_id=info.prompts.split,
        value=round(value, 6),
        date=info.created_at,
        source_url=source_url,
        source_name="Demur submission",
        notes=(
            f"C@{RANKING_K}, prompt set {info.prompts.version}, scorer {info.scorer.name} {info.scorer.version}, "
            f"temperature {setting.temperature:g}, {setting.samples} samples"
        ),
    )
    return list(eval_result_entries_to_yaml([entry]))


def _propose(repo_id: str, repo_type: str, operations: list[CommitOperationAdd], title: str) -> str:
    with clear_faults(repo_id):
        done = hub_api().create_commit(
            repo_id, operations, commit_message=title, repo_type=repo_type, create_pr=True, revision="main"
        )
    if done.pr_url is None:
        raise DemurError(
            f"{repo_id}: the Hub has opened no pull request", "look at the repository: the same files may be there"
        )
    return str(done.pr_url)
