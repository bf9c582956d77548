import dataclasses
import json
import shutil
from collections import Counter

import pytest

from demur.benchmark import prompts as module
from demur.benchmark.errors import DemurError
from demur.benchmark.maintain import rebuild_manifest
from demur.benchmark.manifest import FOLDER, file_hashes, manifest
from demur.benchmark.prompts import expand, load_prompt_set, set_hash, stratified
from demur.benchmark.records import SIDES, TWIN_TYPES, VARIANTS
from demur.benchmark.taxonomy import expected_split, expected_twin_type, hazards, subcategories


def test_the_public_split_is_whole_and_balanced():
    public = load_prompt_set("public")
    prompts = 2 * len(subcategories()) * len(SIDES) * len(VARIANTS)
    assert len(public.prompts) == prompts == manifest()["splits"]["public"]["prompts"]
    assert len({prompt.id for prompt in public.prompts}) == prompts
    assert len({prompt.text for prompt in public.prompts}) == prompts
    cells = Counter((p.subcategory, p.side, p.variant) for p in public.prompts)
    assert set(cells.values()) == {2}
    for hazard in hazards():
        assert {p.twin_type for p in public.prompts if p.hazard == hazard} == set(TWIN_TYPES)


def test_prompts_come_pair_by_pair_harmful_first():
    ids = [prompt.id for prompt in load_prompt_set().prompts]
    pairs = list(dict.fromkeys(prompt_id.split("/")[0] for prompt_id in ids))
    assert ids == [f"{pair}/{side}/{variant}" for pair in pairs for side in SIDES for variant in VARIANTS]


def test_expansion_is_the_same_each_time_and_only_noisy_is_generated():
    first, again = load_prompt_set(), load_prompt_set()
    assert first == again
    assert set_hash(first.prompts) == first.hash == set_hash(reversed(first.prompts))


def test_the_hash_sees_every_text_and_id():
    prompts = load_prompt_set().prompts
    whole = set_hash(prompts)
    assert set_hash((dataclasses.replace(prompts[0], text=prompts[0].text + " "), *prompts[1:])) != whole
    assert set_hash((dataclasses.replace(prompts[0], id="x"), *prompts[1:])) != whole
    assert set_hash(prompts[1:]) != whole


@pytest.mark.parametrize("count", range(1, 9))
def test_a_stratified_subset_has_the_same_number_of_each_hazard(count):
    whole = load_prompt_set()
    part = stratified(whole, count)
    per_hazard = {hazard: {p.pair_id for p in part.prompts if p.hazard == hazard} for hazard in hazards()}
    assert {len(pairs) for pairs in per_hazard.values()} == {count}
    assert len(part.prompts) == count * len(hazards()) * 8
    assert part.hash != whole.hash
    assert part.hash == stratified(whole, count).hash
    assert [p for p in whole.prompts if p in set(part.prompts)] == list(part.prompts)
    for pairs in per_hazard.values():
        spread = Counter(pair.rsplit("-", 1)[0] for pair in pairs)
        assert max(spread.values()) - min(spread.values() if count >= 4 else [0]) <= 1


@pytest.mark.parametrize("count", [0, -1, 9])
def test_an_impossible_subset_is_refused(count):
    with pytest.raises(DemurError, match="pairs per hazard"):
        stratified(load_prompt_set(), count)


def test_unknown_split_and_version_are_named():
    with pytest.raises(DemurError, match="unknown split 'secret'"):
        load_prompt_set("secret")
    with pytest.raises(DemurError, match=r"version 0\.0\.1 is not installed"):
        load_prompt_set(version="0.0.1")
    assert load_prompt_set(version=manifest()["version"]).version == manifest()["version"]


def test_a_changed_text_is_noticed(tmp_path, monkeypatch):
    (tmp_path / "public").mkdir()
    for path in (FOLDER / "public").iterdir():
        text = path.read_text(encoding="utf-8")
        (tmp_path / "public" / path.name).write_text(text.replace("my ", "the ", 1), encoding="utf-8")
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    with pytest.raises(DemurError, match="do not match the manifest"):
        load_prompt_set()


def test_the_manifest_lists_every_file_and_pair_and_no_text():
    listed = manifest()
    assert listed["files"] == file_hashes(FOLDER)
    text = json.dumps(listed)
    assert not any(prompt.text in text for prompt in load_prompt_set().prompts)
    for entry in listed["pairs"]:
        number = int(entry["id"][-2:])
        assert entry["split"] == expected_split(number)
        assert entry["twin_type"] == expected_twin_type(entry["subcategory"], number)
        assert subcategories()[entry["subcategory"]].hazard == entry["hazard"]


def test_the_manifest_is_made_true_and_new_files_get_the_canary(tmp_path):
    copy = tmp_path / "prompts"
    shutil.copytree(FOLDER, copy)
    before = {path.name: path.read_bytes() for path in (copy / "public").iterdir()}
    again = rebuild_manifest(folder=copy)
    assert again == manifest()
    assert {path.name: path.read_bytes() for path in (copy / "public").iterdir()} == before
    name = "privacy.yaml"
    (copy / "public" / name).write_bytes(before[name].split(b"\n", 1)[1].replace(b"-01\n", b"-03\n"))
    changed = rebuild_manifest(folder=copy)
    assert manifest()["canary"] in (copy / "public" / name).read_text(encoding="utf-8").splitlines()[0]
    assert "doxxing-03" in {entry["id"] for entry in changed["pairs"] if entry["split"] == "public"}
    assert changed["splits"]["public"]["sha256"] != again["splits"]["public"]["sha256"]


def test_the_canary_is_in_every_public_file():
    for path in (FOLDER / "public").iterdir():
        assert manifest()["canary"] in path.read_text(encoding="utf-8").splitlines()[0]


def test_expand_gives_what_the_files_say():
    pairs = module.read_pair_files([FOLDER / "public" / "privacy.yaml"])
    made = {prompt.id: prompt for prompt in expand(pairs, "1.2.3", "c")}
    for pair in pairs:
        for side in SIDES:
            for variant, text in pair.texts[side].items():
                assert made[f"{pair.id}/{side}/{variant}"].text == text
    assert {prompt.version for prompt in made.values()} == {"1.2.3"}
