"""Drawing the next token of each row so that a response depends on nothing but its own prompt, sample and seed."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from ..records import Sampling

__all__ = ["next_tokens", "row_seed", "uniforms"]

BLOCK = 256


def row_seed(seed: int, prompt_id: str, sample: int) -> int:
    """A seed for one response, the same on every machine and in every batch."""
    digest = hashlib.sha256(f"{seed}\n{prompt_id}\n{sample}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def uniforms(seeds: Sequence[int], steps: int) -> Tensor:
    """One uniform number in [0, 1) per row and step, each row from its own generator; shape (rows, steps), float64."""
    drawn = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        drawn.append(torch.rand(steps, generator=generator, dtype=torch.float64))
    return torch.stack(drawn) if drawn else torch.empty(0, steps, dtype=torch.float64)


def next_tokens(logits: Tensor, sampling: Sampling, uniform: Tensor) -> Tensor:
    """The next token of each row.

    Temperature 0 takes the likeliest token. Otherwise the token is found by inverting the cumulative distribution at
    the row's uniform number, which needs one number per token and no state shared between rows. ``top_p`` keeps the
    smallest set of likeliest tokens whose probability reaches it (Holtzman et al., 2020, arXiv 1904.09751).

    Args:
        logits: shape (rows, vocabulary), float32.
        sampling: temperature and top_p.
        uniform: shape (rows,), float64.

    Returns:
        Token ids, shape (rows,).
    """
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits / sampling.temperature, dim=-1)
    if sampling.top_p < 1:
        return _from_nucleus(probabilities, sampling.top_p, uniform)
    return _invert(probabilities, uniform)


def _from_nucleus(probabilities: Tensor, top_p: float, uniform: Tensor) -> Tensor:
    ordered, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(dim=-1) - ordered
    kept = torch.where(before < top_p, ordered, 0.0)
    return tokens.gather(1, _invert(kept, uniform)[:, None])[:, 0]


def _invert(weights: Tensor, uniform: Tensor) -> Tensor:
    """The first place where the cumulative weight exceeds its share ``uniform``; never a place of weight 0.

    First the block of the vocabulary is found by the sums of blocks, then the place in it: adding up every weight in
    float64 would cost as much as a third of a small model.
    """
    rows, size = weights.shape
    whole = size - size % BLOCK
    sums = [weights[:, :whole].reshape(rows, -1, BLOCK).sum(-1), weights[:, whole:].sum(-1, keepdim=True)]
    blocks = torch.cat(sums, dim=1).cumsum(dim=-1, dtype=torch.float64)
    wanted = uniform[:, None] * blocks[:, -1:]
    block = _first_above(blocks, wanted)
    before = torch.where(block > 0, blocks.gather(1, (block - 1).clamp(min=0)), 0.0)
    places = block * BLOCK + torch.arange(BLOCK, device=weights.device)
    inner = weights.gather(1, places.clamp(max=size - 1)).where(places < size, 0.0)
    found = _first_above(inner.cumsum(dim=-1, dtype=torch.float64), wanted - before)
    return (block * BLOCK + found)[:, 0]


def _first_above(cumulative: Tensor, wanted: Tensor) -> Tensor:
    """The first place of each row where a growing sum exceeds what is wanted, which rounding may have put beyond."""
    total = cumulative[:, -1:]
    below = torch.nextafter(total, torch.zeros_like(total))
    return torch.searchsorted(cumulative, wanted.clamp(min=0.0).minimum(below), right=True)
