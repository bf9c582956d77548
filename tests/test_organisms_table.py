"""The kept rows of the ground truth, and the table that the guide shows of them."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from demur.benchmark.organisms import RECIPES

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("organisms_script", ROOT / "benchmarks" / "organisms.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        # A dataclass looks up its module by name.
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
    return module


def kept() -> list[dict[str, object]]:
    return [json.loads(line) for line in (ROOT / "benchmarks" / "organisms.jsonl").read_text().splitlines()]


def test_the_guide_shows_the_table_of_the_kept_rows(script: ModuleType) -> None:
    rows = kept()
    assert len({(row["name"], row["seed"]) for row in rows}) == len(rows)
    assert {row["name"] for row in rows} <= set(RECIPES)
    guide = (ROOT / "docs" / "organisms.md").read_text()
    assert script.table(rows) in guide, "python benchmarks/organisms.py --out benchmarks/organisms.jsonl --table"


def test_the_table_names_the_worst_seed_and_those_that_miss_a_claim(script: ModuleType) -> None:
    rows = [
        {"name": "planted-expert", "seed": 0, "share": 1.0, "next": 0.0, "edits": ["silence layer=1 expert=2"]},
        {"name": "planted-expert", "seed": 1, "share": 0.8, "next": 0.04},
        {"name": "planted-expert", "seed": 2, "no_share": "S1 not published"},
        {"name": "planted-expert", "seed": 3, "failed": "it did not learn its part"},
    ]
    lines = script.table(rows).splitlines()
    assert "| planted-expert | could not be made | 4 | | | 3 |" in lines
    assert "| planted-expert | single-expert share | 2 | 0.80 (1) | 0.90 | 1 |" in lines
    assert "| planted-expert | next expert over the largest | 2 | 0.04 (1) | 0.02 | |" in lines
    assert "| planted-expert | no share: S1 not published | 1 of 3 | | | |" in lines
    assert "| planted-expert | S4 chose: silence | 1 of 1 | | | |" in lines


def test_silencing_a_decoy_must_do_nothing(script: ModuleType) -> None:
    row = {"name": "decoy", "seed": 7, "planted": 0.5, "planted_complied": 0.5, "found": 1.0, "share": 0.94}
    lines = script.table([row]).splitlines()
    assert "| decoy | decoy silenced | 1 | 50% (7) | 50% | 7 |" in lines
    assert "| decoy | S4 names the decoy | 1 | 1 (7) | 1 | 7 |" in lines
    assert "| decoy | single-expert share (none is planted) | 1 | 0.94 (7) | 0.94 | 7 |" in lines
