"""Ways to get responses.

A model is named by ``backend:rest``; a name without a backend is a transformers model (folder, Hub id or GGUF file).
Backends are loaded on first use, so that reading responses from a file needs no torch.
"""

from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from typing import Any, cast

from ..errors import DemurError
from ..extras import need
from .base import Model

__all__ = ["BACKENDS", "ENGINES", "Backend", "Model", "check_engine", "load_engine", "load_model"]


@dataclass(frozen=True, slots=True)
class Backend:
    """Where a way to ask models is found.

    Attributes:
        module: in this package; loaded on first use.
        maker: what in the module makes a model of the rest of the name; its options are keyword-only.
        what: what the rest of the name is.
        needs: a package that does not come with this one, and the extra that brings it.
    """

    module: str
    maker: str
    what: str
    needs: tuple[str, str] | None = None


BACKENDS = {
    "transformers": Backend(".hf", "TransformersModel", "a folder, a Hub id or a .gguf file; needs no prefix"),
    "openai": Backend(
        ".openai",
        "OpenAIModel",
        "what an OpenAI-compatible server calls the model; needs --base-url",
        needs=("httpx", "openai"),
    ),
    "replay": Backend(".replay", "ReplayModel", "responses made elsewhere: a .jsonl, .csv or .parquet file"),
    "vllm": Backend(".vllm", "VLLMModel", "a folder or a Hub id, run by vLLM in this process", needs=("vllm", "vllm")),
    "demo": Backend(
        ".demo", "load_demo", "a small packaged model: smollm2, smollm2-moe, smollm2-tuned, smollm2-tuned-moe"
    ),
}
"""Every way to ask a model, by the prefix of its name."""

ENGINES = ("local", "ray")
"""Where a model runs: in this process, or as copies on the workers of a Ray cluster."""


def load_model(spec: str, **options: Any) -> Model:
    """Make a model from its name.

    Args:
        spec: for example ``demo:smollm2``, ``replay:answers.jsonl``, ``openai:gpt-oss-20b``,
            ``HuggingFaceTB/SmolLM2-135M-Instruct``, ``./folder`` or ``model.gguf``.
        options: passed to the backend (see its class), for example ``dtype="float32"``; None means not given.

    Raises:
        DemurError: the backend is unknown, does not know an option, or cannot load the model.
    """
    backend, colon, rest = spec.partition(":")
    if not colon:
        backend, rest = "transformers", spec
    if backend not in BACKENDS or not rest:
        known = "\n".join(f"    {name}:…  {each.what}" for name, each in BACKENDS.items())
        raise DemurError(f"unknown model {spec!r}", f"name it in one of these ways\n{known}")
    way = BACKENDS[backend]
    if way.needs:
        need(*way.needs)
    make = getattr(import_module(way.module, __name__), way.maker)
    given = {name: value for name, value in options.items() if value is not None}
    parameters = signature(make).parameters.values()
    unknown = sorted(set(given) - {each.name for each in parameters if each.kind is each.KEYWORD_ONLY})
    if unknown:
        raise DemurError(
            f"the {backend} backend has no option {', '.join(unknown)}", "leave the option out for this model"
        )
    return cast("Model", make(rest, **given))


def check_engine(engine: str) -> None:
    """Raise where it is none of :data:`ENGINES`."""
    if engine not in ENGINES:
        raise DemurError(f"unknown engine {engine!r}", f"choose {' or '.join(ENGINES)}")


def load_engine(engine: str, spec: str, *, workers: int = 1, gpus: float = 0.0, **options: Any) -> Model:
    """Make a model that runs in this process or on a Ray cluster.

    Args:
        engine: one of :data:`ENGINES`.
        spec: the model, as for :func:`load_model`.
        workers: with Ray, copies of the model that answer at the same time.
        gpus: with Ray, GPUs of each copy.
        options: of the backend.

    Raises:
        DemurError: an unknown engine, or as :func:`load_model` does.
    """
    check_engine(engine)
    if engine == "local":
        return load_model(spec, **options)
    need("ray", "ray")
    given = {name: value for name, value in options.items() if value is not None}
    return cast("Model", import_module(".ray", __name__).RayModel(spec, given, workers=workers, gpus=gpus))
