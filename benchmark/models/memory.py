"""Recognising that memory ran out, whatever the device, so that fewer responses at once can be tried."""

import gc

import torch

__all__ = ["free_memory", "out_of_memory"]

SAYINGS = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
"""What a RuntimeError says then: CUDA, HIP, XPU and MPS; CPU on Linux; CPU on Windows; cuBLAS and cuDNN."""


def out_of_memory(fault: BaseException) -> bool:
    """Whether a fault says that a tensor did not fit."""
    if isinstance(fault, (torch.OutOfMemoryError, MemoryError)):
        return True
    said = str(fault).lower()
    return isinstance(fault, RuntimeError) and any(saying in said for saying in SAYINGS)


def free_memory() -> None:
    """Give back what nothing holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
