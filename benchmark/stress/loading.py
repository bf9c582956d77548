"""A subject from a model's name."""

from pathlib import Path

from ..errors import DemurError
from ..models import load_model
from ..models.hf import LoadedModel
from .pairs import public_pairs, read_general, read_pairs
from .subject import Judge, Subject

__all__ = ["load_subject"]


def load_subject(
    spec: str,
    pairs: Path | None,
    judge: Judge,
    *,
    general: Path | None = None,
    dtype: str | None = None,
    device: str | None = None,
) -> Subject:
    """Load a model with pairs of a file, or the public ones.

    Args:
        spec: as :func:`demur.benchmark.models.load_model` takes it.
        pairs: a file of JSON lines, see :func:`.pairs.read_pairs`; None for the public split.
        judge: of short answers.
        general: a text file of general instructions, one a line.
        dtype: format of the weights.
        device: where the model runs.

    Raises:
        DemurError: the model cannot be loaded, or only answers and has no weights to steer here.
    """
    given = read_pairs(pairs) if pairs else public_pairs()
    instructions = read_general(general) if general else ()
    loaded = load_model(spec, dtype=dtype, device=device)
    if not isinstance(loaded, LoadedModel):
        raise DemurError(
            f"{spec}: its activations cannot be reached, so it cannot be steered",
            "give a model that transformers loads here: a folder, a Hub id, a .gguf file or demo:NAME",
        )
    return Subject(loaded.info.id, loaded.model, loaded.tokenizer, given, judge, general=instructions)
