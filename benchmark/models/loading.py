"""Loading a causal language model of transformers, with every fault as one clear message."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from ..errors import DemurError

__all__ = [
    "DTYPES",
    "choose_device",
    "choose_dtype",
    "faults",
    "load",
    "native_bfloat16",
    "quiet",
    "refuse_pickles",
    "revision",
    "straighten",
]

_logging: Any = logging
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
HOW = "give a model folder, a Hub id such as HuggingFaceTB/SmolLM2-135M-Instruct, or a .gguf file"


def choose_device(wanted: str | None = None) -> torch.device:
    """The device asked for; without a wish CUDA where there is one, else the CPU.

    Raises:
        DemurError: the device is unknown or not there.
    """
    if wanted is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as fault:
        raise DemurError(f"device {wanted!r} cannot be used here", "leave --device out, or name cpu or cuda") from fault
    return device


def choose_dtype(device: torch.device, wanted: str | None = None) -> torch.dtype:
    """The format asked for; without a wish bfloat16 where the processor multiplies it natively, else float32.

    On CPUs that is where AMX tiles or AVX-512 BF16 are there; elsewhere bfloat16 is emulated and slower than float32.
    The choice depends on the processor alone, so that a resumed run makes the same one.

    Raises:
        DemurError: the format is unknown.
    """
    if wanted is not None:
        if wanted not in DTYPES:
            raise DemurError(f"unknown dtype {wanted!r}", f"choose one of {', '.join(DTYPES)}")
        return DTYPES[wanted]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu":
        return torch.bfloat16 if native_bfloat16() else torch.float32
    return torch.float32


def native_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16 (AMX tiles or AVX-512 BF16)."""
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def load(name: str, dtype: torch.dtype, device: torch.device, *, spread: bool = False) -> tuple[Any, Any]:
    """A model and its tokenizer from a folder, Hub id or GGUF file.

    Nothing in a model's repository is run: neither its code nor a pickle, which is code too; weights come from
    safetensors or GGUF files alone.

    Args:
        name: what is loaded.
        dtype: format of the weights.
        device: where the model goes.
        spread: lay it over all GPUs, and over main memory where they are too small, in place of ``device``.

    Raises:
        DemurError: nothing is found under the name, a file is damaged, the tokenizer has no chat template, or the
            memory is too small.
    """
    where = _where(name)
    with faults(name), quiet():
        tokenizer = AutoTokenizer.from_pretrained(**where, trust_remote_code=False)
        if not tokenizer.chat_template:
            raise DemurError(
                f"{name}: its tokenizer has no chat template, so the prompts cannot be put to it as a user would",
                "use the model's chat or instruct version, or put a chat_template.jinja into a copy of its folder",
            )
        options: dict[str, Any] = {"device_map": "auto"} if spread else {}
        if "gguf_file" not in where:
            options["use_safetensors"] = True
        model: Any = AutoModelForCausalLM.from_pretrained(**where, **options, dtype=dtype, trust_remote_code=False)
        model.requires_grad_(False)
        straighten(model)
        return (model if spread else model.to(device)), tokenizer


def straighten(model: Any) -> None:
    """Lay out what enters the output layer row by row.

    The last positions of a batch are a slice with gaps, for which torch's matrix product copies the whole output
    layer once per row; for a vocabulary of 49,152 that costs more than the rest of the model.
    """
    output = model.get_output_embeddings()
    if output is not None:
        output.register_forward_pre_hook(lambda _module, inputs: (inputs[0].contiguous(), *inputs[1:]))


def _where(name: str) -> dict[str, str]:
    """The arguments of ``from_pretrained`` that find a model."""
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        _check_gguf(path)
        return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise DemurError(f"{name}: no config.json in this folder", HOW)
        refuse_pickles(path)
        return {"pretrained_model_name_or_path": str(path)}
    if path.exists():
        raise DemurError(f"{name}: not a model", HOW)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise DemurError(f"{name}: no such folder or file", HOW)
    return {"pretrained_model_name_or_path": name}


def refuse_pickles(folder: Path) -> None:
    """Name a model folder whose weights are pickles alone.

    Raises:
        DemurError: they are; loading a pickle may run any code that is in it.
    """
    pickles = sorted(path.name for kind in PICKLES for path in folder.glob(kind))
    if pickles and not any(folder.glob("*.safetensors")):
        raise DemurError(
            f"{folder}: its weights are pickles ({', '.join(pickles)[:200]}), and loading one can run any code in it",
            "convert them to safetensors where no harm can be done, or take a copy that has safetensors",
        )


def _check_gguf(path: Path) -> None:
    try:
        with path.open("rb") as content:
            head = content.read(4)
    except OSError as fault:
        raise DemurError(f"{path}: cannot read: {fault.strerror}", HOW) from fault
    if head != b"GGUF":
        raise DemurError(f"{path}: not a GGUF file (its first bytes say so)", "download it again")


@contextmanager
def faults(name: str) -> Iterator[None]:
    """Turn whatever the loaders raise into one message: damaged files make them raise nearly anything."""
    try:
        yield
    except DemurError:
        raise
    except ImportError as fault:
        raise DemurError(f"{name}: a package is missing: {fault}", "pip install what it names") from fault
    except torch.OutOfMemoryError as fault:
        raise DemurError(
            f"{name}: too large for the device's memory", "choose a smaller model or --device cpu"
        ) from fault
    except OSError as fault:
        found = Path(name).exists()
        what = "damaged or incomplete" if found else "no such model here or on the Hub, or the Hub cannot be reached"
        raise DemurError(f"{name}: {what}: {_first_line(fault)}", HOW) from fault
    except Exception as fault:
        damaged = "the file is damaged, or of a kind that transformers does not read"
        raise DemurError(f"{name}: cannot be loaded: {_first_line(fault)}", f"{damaged}; {HOW}") from fault


def _first_line(fault: BaseException) -> str:
    text = str(fault).strip().splitlines()
    return f"{type(fault).__name__}: {text[0][:200]}" if text else type(fault).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no advice from transformers while a model is loaded."""
    level, bars = _logging.get_verbosity(), _logging.is_progress_bar_enabled()
    _logging.set_verbosity_error()
    _logging.disable_progress_bar()
    try:
        yield
    finally:
        _logging.set_verbosity(level)
        if bars:
            _logging.enable_progress_bar()


def revision(name: str, config: Any) -> str:
    """The Hub's commit where it is known, else ``sha256:`` and a hash over the names and bytes of the weight files."""
    commit = getattr(config, "_commit_hash", None)
    if commit:
        return str(commit)
    path = Path(name).expanduser()
    files = [path] if path.is_file() else sorted(each for kind in WEIGHTS for each in path.glob(kind))
    if not files:
        return "unknown"
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            digest.update(f"{file.name}\n{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return f"sha256:{digest.hexdigest()}"
