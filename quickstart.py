"""The whole way on a real small model, offline: run, score, submit, rank, and write the leaderboard page."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .benchmark.models import load_model
from .benchmark.models.demo import demo_revision
from .benchmark.models.loading import choose_device, choose_dtype
from .benchmark.prompts import PromptSet, load_prompt_set
from .benchmark.records import Sampling
from .benchmark.running import run
from .benchmark.runs import finished_event, read_run_info
from .leaderboard.board import Board
from .leaderboard.pages.site import build_site
from .leaderboard.ranking import rank
from .leaderboard.submissions.submission import Declared, read_submission, submit
from .scorers.scoring import score_run

__all__ = ["MODELS", "Outcome", "Step", "asked_already", "quickstart"]

MODELS = {
    "smollm2": Declared(maker="HuggingFaceTB"),
    "smollm2-moe": Declared(maker="HuggingFaceTB", base_model="demo:smollm2", upcycled_from="demo:smollm2"),
    "smollm2-tuned": Declared(maker="HuggingFaceTB", base_model="demo:smollm2"),
    "smollm2-tuned-moe": Declared(
        maker="HuggingFaceTB", base_model="demo:smollm2-tuned", upcycled_from="demo:smollm2-tuned"
    ),
}
"""Demo model to what a submission declares of it: each mixture is the exact sparse upcycling of the model before it."""

SAMPLED = Sampling(temperature=0.7, max_new_tokens=48)
GREEDY = Sampling(temperature=0.0, max_new_tokens=24)
SETTINGS: dict[str, tuple[Sampling, int, str | None]] = {
    "sampled": (SAMPLED, 2, None),
    "greedy": (GREEDY, 1, "float32"),
}
"""Setting to sampling, samples and dtype: the sampled runs are ranked, the greedy ones serve the null test alone.

Those are computed in float32, where a model and its upcycled twin differ too little to choose another token.
"""

Step = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where everything is: the ranked board, the page, and the folders of runs and submissions."""

    board: Board
    page: Path
    runs: Path
    submissions: Path


def quickstart(out: Path, *, scorer: str, step: Step, pairs_per_hazard: int = 1) -> Outcome:
    """Evaluate the four demo models on a stratified part of the public split.

    What is there already is kept: runs go on where they were, and a finished run is not asked again.

    Args:
        out: folder for ``runs/``, ``submissions/`` and ``site/``.
        scorer: name of the scorer that judges.
        step: called with a line of what happens, the responses that are there, and those wanted.
        pairs_per_hazard: size of the part.

    Raises:
        DemurError: as its parts do.
    """
    prompts = load_prompt_set("public", pairs_per_hazard=pairs_per_hazard)
    # Made anew each time: the verdicts may be of a newer scorer than those of an earlier start.
    shutil.rmtree(out / "submissions", ignore_errors=True)
    submissions: list[Path] = []
    for name, declared in MODELS.items():
        for setting, (sampling, samples, dtype) in SETTINGS.items():
            folder = out / "runs" / f"{name}-{setting}"
            if not asked_already(folder, name, prompts, sampling, samples=samples, dtype=dtype):
                step(f"loading {name}", 0, 1)
                model = load_model(f"demo:{name}", dtype=dtype)
                run(
                    model,
                    prompts.prompts,
                    sampling=sampling,
                    samples=samples,
                    out=folder,
                    provenance=prompts.provenance,
                    progress=partial(step, f"asking {name}, {setting}"),
                )
                del model  # the next one is made before the name is bound again, and two would stand in memory
            score_run(folder, [scorer])
            submissions.append(submit(folder, out / "submissions", scorer=scorer, declared=declared))
    step("ranking", 0, 1)
    board = rank([read_submission(path) for path in submissions])
    return Outcome(board, build_site(board, out / "site"), out / "runs", out / "submissions")


def asked_already(
    folder: Path, name: str, prompts: PromptSet, sampling: Sampling, *, samples: int, dtype: str | None
) -> bool:
    """Whether a folder holds the whole run of a demo model with these settings, so that the model need not be loaded.

    Raises:
        DemurError: there is a run folder that cannot be read.
    """
    if not (folder / "run.json").is_file():
        return False
    told = finished_event(folder)
    if told is None or told["errors"]:
        return False
    info = read_run_info(folder / "run.json")
    format_ = choose_dtype(choose_device(), dtype)
    model = (f"demo:{name}", demo_revision(name), str(format_).removeprefix("torch."))
    return (
        (info.model.id, info.model.revision, info.model.dtype) == model
        and (info.sampling, info.samples, info.shard) == (sampling, samples, None)
        and info.provenance.prompts_hash == prompts.hash
        and info.prompt_ids == tuple(prompt.id for prompt in prompts.prompts)
    )
