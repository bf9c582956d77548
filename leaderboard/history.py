"""Which submissions are live: nothing is overwritten, later ones stand in front of earlier ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .board import State
from .contrasts import same_model
from .submissions.submitted import SubmissionInfo

__all__ = ["Standing", "standings"]


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a submission and the reason in one sentence."""

    state: State
    why: str | None


def standings(infos: Sequence[SubmissionInfo], withdrawn: Mapping[str, str]) -> dict[str, Standing]:
    """The standing of every submission before anything is ranked: ``listed`` means live.

    Superseded are: what a live submission of the same model names in ``supersedes``; and, of several submissions of
    one model revision on the same prompts with the same scorer and setting, all but the newest. ``formerly`` joins a
    renamed model's submissions.
    """
    found: dict[str, Standing] = {}
    for info in infos:
        if info.id in withdrawn:
            found[info.id] = Standing("withdrawn", f"withdrawn: {withdrawn[info.id]}")
    live = [info for info in infos if info.id not in found]
    for new in live:
        for old in live:
            if old.id in new.supersedes and old.id != new.id and _one_model(new, old):
                found[old.id] = Standing("superseded", f"superseded by {new.id}")
    live = [info for info in live if info.id not in found]
    for old in live:
        newer = [new for new in live if _replaces(new, old)]
        if newer:
            newest = max(newer, key=lambda new: (new.created_at, new.id))
            found[old.id] = Standing("superseded", f"a newer submission of the same model and setting: {newest.id}")
    return {info.id: found.get(info.id, Standing("listed", None)) for info in infos}


def _one_model(one: SubmissionInfo, other: SubmissionInfo) -> bool:
    return same_model(one.model, other.model.id) or same_model(other.model, one.model.id)


def _replaces(new: SubmissionInfo, old: SubmissionInfo) -> bool:
    same = (new.model.revision, new.prompts, new.scorer, new.setting) == (
        old.model.revision,
        old.prompts,
        old.scorer,
        old.setting,
    )
    return same and _one_model(new, old) and (new.created_at, new.id) > (old.created_at, old.id)
