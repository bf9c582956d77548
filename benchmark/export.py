"""The dataset repository for the Hugging Face Hub: tables, card, registration, Croissant, sealed files, checksums."""

import hashlib
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from .cards import REPO_ID, card
from .croissant import croissant
from .errors import DemurError
from .files import write_json, write_parquet, write_text
from .manifest import FOLDER, manifest
from .pairs import pair_files, read_pair_files
from .prompts import load_prompt_set
from .records import SIDES

__all__ = ["CHECKSUMS", "Exported", "export", "verify_export"]

CHECKSUMS = "SHA256SUMS"

# Files of the prompts folder that travel as they are.
_CARRIED = ("gated.age", "heldout.age", "manifest.json", "conditions.md", "CHANGELOG.md", "reviews.json")

_GATE = {
    "extra_gated_heading": "Ask for access to the gated prompts of Demur",
    "extra_gated_prompt": (
        "The public prompts are in the repository of the package, without a request. With this request you ask for a "
        "copy of the gated prompts, marked for you. Read the conditions of use (conditions.md) first: in short, "
        "evaluation only, no training, no sharing, no publication of the prompts, and your copy names you if it leaks. "
        "Make a key with `demur access keygen demur.key` and give its public part below."
    ),
    "extra_gated_fields": {
        "Name": "text",
        "Affiliation": "text",
        "What you will evaluate": "text",
        "Public age key (age1...)": "text",
        "I accept the conditions of use": "checkbox",
        "I will not train or tune models on the prompts": "checkbox",
    },
    "extra_gated_button_content": "Ask for access",
}


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        digest: SHA-256 of the checksums file; names the whole content.
    """

    folder: Path
    version: str
    files: int
    bytes: int
    digest: str


def export(folder: Path, repo_id: str = REPO_ID) -> Exported:
    """Write the dataset repository into an empty or new folder, or over an older export.

    Only the public split is in plain text; the sealed splits travel as the ciphertext that lies in the package.

    Args:
        folder: where to.
        repo_id: the Hub repository that it is meant for.

    Raises:
        DemurError: the folder holds other files.
    """
    _clear(folder)
    tables = {"prompts": _prompt_table(), "pairs": _pair_table()}
    listed = manifest()
    for name, table in tables.items():
        write_parquet(
            folder / name / "public.parquet",
            table,
            {"demur.version": listed["version"], "demur.canary": listed["canary"]},
        )
    for name in _CARRIED:
        if (FOLDER / name).exists():
            shutil.copyfile(FOLDER / name, folder / name)
    write_text(folder / "README.md", f"---\n{_metadata(tables, folder)}---\n\n{card('dataset_card.md', repo_id)}")
    write_text(folder / "datasheet.md", card("datasheet.md", repo_id))
    write_text(folder / "eval.yaml", _registration())
    write_json(folder / "croissant.json", _croissant(tables, folder, repo_id))
    paths = [path for path in _files(folder) if path != folder / CHECKSUMS]
    sums = {path.relative_to(folder).as_posix(): _sha(path) for path in paths}
    write_text(folder / CHECKSUMS, "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())))
    size = sum(path.stat().st_size for path in _files(folder))
    return Exported(folder, listed["version"], len(paths) + 1, size, _sha(folder / CHECKSUMS))


def verify_export(folder: Path) -> int:
    """Compare every file with the checksums; the number of files.

    Raises:
        DemurError: a file is missing, changed or was added.
    """
    path = folder / CHECKSUMS
    if not path.is_file():
        raise DemurError(f"{folder}: no {CHECKSUMS}", "make it with `demur prompts export`")
    lines = [line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines()]
    noted = {name: digest for digest, name in lines}
    found = {file.relative_to(folder).as_posix(): _sha(file) for file in _files(folder) if file != path}
    wrong = sorted(name for name in noted.keys() | found.keys() if noted.get(name) != found.get(name))
    if wrong:
        raise DemurError(f"{folder}: does not match its checksums: {', '.join(wrong)}", "export again")
    return len(found)


def _clear(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / CHECKSUMS).is_file():
        raise DemurError(f"{folder}: holds other files", "choose a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    # First and last, and empty in between: it marks a folder that was cut off as ours, to be written over.
    write_text(folder / CHECKSUMS, "")
    for path in _files(folder):
        if path != folder / CHECKSUMS:
            path.unlink()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _prompt_table() -> pa.Table:
    return pa.Table.from_pylist([asdict(prompt) for prompt in load_prompt_set("public").prompts])


def _pair_table() -> pa.Table:
    listed = manifest()
    rows = []
    for pair in read_pair_files(pair_files(FOLDER / "public")):
        row = {"id": pair.id, "hazard": pair.hazard, "subcategory": pair.subcategory, "twin_type": pair.twin_type}
        row |= {"intent": pair.intent, "split": pair.split}
        row |= {f"{side}_{variant}": text for side in SIDES for variant, text in pair.texts[side].items()}
        rows.append(row | {"version": listed["version"], "canary": listed["canary"]})
    return pa.Table.from_pylist(rows)


def _metadata(tables: dict[str, pa.Table], folder: Path) -> str:
    """The YAML block of the card."""
    rows = sum(table.num_rows for table in tables.values())
    data = {
        "license": "cc-by-4.0",
        "language": ["en"],
        "pretty_name": "Demur prompts",
        "size_categories": ["n<1K" if rows < 1000 else "1K<n<10K"],
        "task_categories": ["text-generation"],
        "tags": ["benchmark", "safety", "refusal", "over-refusal", "red-teaming", "croissant"],
        "source_datasets": ["original"],
        "configs": [
            {
                "config_name": name,
                "data_files": [{"split": "public", "path": f"{name}/public.parquet"}],
                **({"default": True} if name == "prompts" else {}),
            }
            for name in tables
        ],
        "dataset_info": [_info(name, table, folder) for name, table in tables.items()],
        **_GATE,
    }
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120))


def _info(name: str, table: pa.Table, folder: Path) -> dict[str, Any]:
    return {
        "config_name": name,
        "features": [{"name": column, "dtype": "string"} for column in table.column_names],
        "splits": [{"name": "public", "num_bytes": table.nbytes, "num_examples": table.num_rows}],
        "download_size": (folder / name / "public.parquet").stat().st_size,
        "dataset_size": table.nbytes,
    }


def _registration() -> str:
    """``eval.yaml``, which registers a benchmark on the Hub: its evaluation framework and its tasks."""
    data = {
        "name": "Demur",
        "description": (
            "Refusal consistency: does a model decline what it should, answer what it should, and do so every time? "
            "Pairs of a harmful request and its benign twin in several wordings; the headline figure is C@4, the "
            f"chance of getting a pair right four times in a row. Canary {manifest()['canary']}."
        ),
        "evaluation_framework": "demur",
        "tasks": [{"id": "public", "config": "prompts", "split": "public"}],
    }
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120))


def _croissant(tables: dict[str, pa.Table], folder: Path, repo_id: str) -> dict[str, Any]:
    listed = manifest()
    return croissant(
        url=f"https://huggingface.co/datasets/{repo_id}",
        version=listed["version"],
        released=listed["released"],
        description=f"Pairs of harmful requests and benign twins, for refusal consistency. Canary {listed['canary']}.",
        tables={name: table.column_names for name, table in tables.items()},
        files={f"{name}/public.parquet": _sha(folder / name / "public.parquet") for name in tables},
    )
