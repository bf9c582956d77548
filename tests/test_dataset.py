import pytest

import demur
from demur.benchmark.dataset import features, load_prompts, to_dataset
from demur.benchmark.errors import DemurError
from demur.benchmark.prompts import load_prompt_set
from demur.benchmark.taxonomy import hazards


def test_rows_are_the_prompts():
    table = demur.load_prompts("public")
    prompts = load_prompt_set("public").prompts
    assert table.num_rows == len(prompts)
    assert table["text"][:] == [prompt.text for prompt in prompts]
    assert table.features == features()
    hazard = table.features["hazard"]
    assert [hazard.int2str(value) for value in table["hazard"]] == [prompt.hazard for prompt in prompts]


def test_nothing_is_cached_on_disk():
    assert load_prompts("public").cache_files == []


def test_filter_and_subset():
    table = load_prompts("public", pairs_per_hazard=1)
    assert table.num_rows == 8 * len(hazards())
    assert to_dataset(load_prompt_set(pairs_per_hazard=1))["id"][:] == table["id"][:]


def test_a_wanted_version_that_is_not_installed_is_named():
    with pytest.raises(DemurError, match=r"9\.9\.9"):
        load_prompts(version="9.9.9")


def test_sealed_splits_say_how_to_ask(monkeypatch):
    monkeypatch.delenv("DEMUR_IDENTITY", raising=False)
    for split in ("gated", "heldout"):
        with pytest.raises(DemurError, match="DEMUR_IDENTITY") as caught:
            load_prompts(split)
        assert "request access" in caught.value.fix
