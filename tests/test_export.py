import json

import datasets
import mlcroissant
import pandas as pd
import pytest
import yaml
from huggingface_hub import DatasetCard

from demur.benchmark.errors import DemurError
from demur.benchmark.export import CHECKSUMS, export, verify_export
from demur.benchmark.manifest import manifest
from demur.benchmark.prompts import load_prompt_set

PROMPTS = load_prompt_set().prompts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = export(tmp_path_factory.mktemp("export") / "hub", "org/demur")
    assert made.bytes == sum(path.stat().st_size for path in made.folder.rglob("*") if path.is_file())
    return made.folder


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.mark.parametrize("streaming", [False, True])
def test_prompts_go_round_through_datasets(folder, tmp_path, streaming):
    loaded = datasets.load_dataset(str(folder), "prompts", split="public", cache_dir=str(tmp_path), streaming=streaming)
    rows = list(loaded)
    assert [(row["id"], row["text"], row["side"], row["hazard"]) for row in rows] == [
        (prompt.id, prompt.text, prompt.side, prompt.hazard) for prompt in PROMPTS
    ]
    assert list(rows[0]) == [*PROMPTS[0].__slots__]


def test_every_config_loads_and_prompts_is_the_default(folder, tmp_path):
    assert datasets.get_dataset_config_names(str(folder)) == ["prompts", "pairs"]
    pairs = datasets.load_dataset(str(folder), "pairs", split="public", cache_dir=str(tmp_path))
    assert 8 * pairs.num_rows == len(PROMPTS)
    texts = {prompt.id: prompt.text for prompt in PROMPTS}
    for row in pairs:
        assert row["benign_reframed"] == texts[f"{row['id']}/benign/reframed"]
    default = datasets.load_dataset(str(folder), cache_dir=str(tmp_path))
    assert default["public"].num_rows == len(PROMPTS)


def test_no_sealed_text_is_exported(folder):
    assert {path.suffix for path in folder.rglob("*") if "gated" in path.name or "heldout" in path.name} == {".age"}
    assert set(pd.read_parquet(folder / "prompts" / "public.parquet")["split"]) == {"public"}


def test_the_card_is_valid_and_gated(folder):
    card = DatasetCard.load(folder / "README.md")
    data = card.data.to_dict()
    assert data["extra_gated_fields"]["I accept the conditions of use"] == "checkbox"
    assert {"extra_gated_heading", "extra_gated_prompt", "license", "task_categories", "tags"} <= data.keys()
    assert [config["config_name"] for config in data["configs"]] == ["prompts", "pairs"]
    sizes = {info["config_name"]: info["splits"][0]["num_examples"] for info in data["dataset_info"]}
    assert sizes == {"prompts": len(PROMPTS), "pairs": len(PROMPTS) // 8}
    assert 'load_dataset("org/demur", "prompts"' in card.text


def test_the_registration_names_what_is_there(folder):
    data = yaml.safe_load((folder / "eval.yaml").read_text())
    assert set(data) == {"name", "description", "evaluation_framework", "tasks"}
    for task in data["tasks"]:
        assert (folder / task["config"] / f"{task['split']}.parquet").is_file()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:rdflib", "ignore::DeprecationWarning:mlcroissant")
def test_croissant_is_valid_and_reads_the_records(folder):
    dataset = mlcroissant.Dataset(folder / "croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    assert not dataset.metadata.ctx.issues.warnings
    rows = list(dataset.records("prompts"))
    assert len(rows) == len(PROMPTS)
    assert rows[5]["prompts/text"].decode() == PROMPTS[5].text
    assert len(list(dataset.records("pairs"))) == len(PROMPTS) // 8


def test_the_canary_is_in_every_plain_file(folder):
    canary = manifest()["canary"]
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix not in (".age", ".parquet") and path.name not in (CHECKSUMS, "reviews.json"):
            assert canary in path.read_text(encoding="utf-8"), path.name
    assert set(pd.read_parquet(folder / "pairs" / "public.parquet")["canary"]) == {canary}


def test_an_export_is_the_same_each_time_and_a_change_is_noticed(folder, tmp_path):
    first = export(tmp_path / "a", "org/demur")
    (tmp_path / "a" / "left.over").write_text("x")
    assert export(tmp_path / "a", "org/demur").digest == first.digest
    assert verify_export(tmp_path / "a") == first.files - 1
    (tmp_path / "a" / "croissant.json").write_text(json.dumps({}))
    (tmp_path / "a" / "extra").write_text("x")
    with pytest.raises(DemurError, match=r"croissant\.json, extra"):
        verify_export(tmp_path / "a")
    with pytest.raises(DemurError, match="no SHA256SUMS"):
        verify_export(tmp_path)


def test_other_files_are_never_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DemurError, match="holds other files"):
        export(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"
