"""An estimate of memory before the start, and a refusal to begin what cannot fit."""

from pathlib import Path
from typing import Any

import torch

from ..errors import DemurError
from .experts import expert_modules
from .reuse import KEPT_BYTES
from .settings import Settings
from .subject import Subject

__all__ = ["available", "estimate", "require_memory"]

GIB = 2**30


def estimate(model: Any, plan: Settings, train_pairs: int, token_budget: int = 8192) -> dict[str, int]:
    """Bytes that the test takes beside the loaded weights.

    Args:
        model: a transformers model.
        plan: positions and seeds decide the size of what is accumulated.
        train_pairs: of the subject.
        token_budget: tokens per forward pass.

    Returns:
        ``means`` (accumulated, in main memory), ``activations`` and ``logits`` (of one pass, where the model is).
    """
    config = model.config.get_text_config()
    hidden, layers, vocabulary = int(config.hidden_size), int(config.num_hidden_layers), int(config.vocab_size)
    experts = sum(int(str(module.num_experts)) for _, module in expert_modules(model))
    width = 2 * (plan.seeds + plan.control_seeds)
    shuffles = 2 * max(plan.shuffles - plan.control_seeds, 0)
    # Own outputs are summed, divided and differenced; the candidates of S2 to S4 hold about three more copies.
    means = 4 * hidden * plan.positions * ((width + shuffles) * layers + 2 * width * experts + 3 * experts)
    slots = int(getattr(config, "num_experts_per_tok", None) or 1)
    size = next(model.parameters()).element_size()
    heads = int(getattr(config, "num_attention_heads", None) or 1)
    written = int(getattr(config, "num_key_value_heads", None) or heads) * int(
        getattr(config, "head_dim", None) or hidden // heads
    )
    # Keys and values of shared openings: as computed, as handed to the rows, and as these add to them.
    openings = 3 * token_budget * layers * 2 * written * size
    activations = token_budget * hidden * size * (12 + 6 * slots) + openings + 2 * KEPT_BYTES
    rows = max(train_pairs, plan.test_pairs * len(plan.doses), token_budget // 16)
    # Two positions of a prompt are kept where refusals and other answers open alike.
    return {"means": means, "activations": activations, "logits": 2 * 3 * 4 * rows * vocabulary}


def available(device: torch.device) -> int:
    """Free bytes where the model is: of the GPU, or of main memory."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    for line in (
        Path("/proc/meminfo").read_text(encoding="ascii").splitlines() if Path("/proc/meminfo").exists() else ()
    ):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 2**62  # a system that does not tell is trusted


def require_memory(subject: Subject, plan: Settings) -> dict[str, int]:
    """The estimate; begins nothing that cannot fit.

    Raises:
        DemurError: more is needed than is free.
    """
    parts = estimate(subject.model, plan, len(subject.part("train")))
    device = next(subject.model.parameters()).device
    where = {device.type: parts["activations"] + parts["logits"]}
    where["cpu"] = where.get("cpu", 0) + parts["means"]
    for kind, needed in where.items():
        free = available(torch.device(kind) if kind == "cpu" else device)
        if needed > free:
            raise DemurError(
                f"{subject.name}: the stress test needs about {needed / GIB:.1f} GiB beside the model on {kind}, "
                f"{free / GIB:.1f} GiB are free",
                "free memory, take --budget quick or fewer systems (--systems S1,S5)",
            )
    return parts
