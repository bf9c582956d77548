"""What Demur is installed with: pins, hashes, licences, and the audit that says when it cannot run."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from demur.tests import licences

ROOT = Path(__file__).resolve().parent.parent
ELSEWHERE = {"torch"}
"""Not in the lock: which wheel it is depends on where it comes from (docs/decisions/0012-supply-chain.md)."""


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def locked() -> dict[str, tuple[str, list[str]]]:
    """Name to version and hashes of constraints.lock."""
    text = (ROOT / "constraints.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    found = {}
    for line in filter(lambda line: line.strip() and not line.startswith("#"), text.splitlines()):
        name, version, *hashes = re.split(r"==| +--hash=", line.strip().replace("  ", " "))
        found[canonicalize_name(name)] = (version, [each.strip() for each in hashes])
    return found


def test_the_lock_is_that_of_the_constraints() -> None:
    pins = licences.pinned()
    assert {name: version for name, (version, _) in locked().items()} == {
        name: version for name, version in pins.items() if name not in ELSEWHERE
    }
    for name, (_, hashes) in locked().items():
        assert hashes, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), name


def test_every_direct_dependency_has_a_lower_bound_that_the_pins_keep() -> None:
    extras = project()["optional-dependencies"]
    pins = licences.pinned()
    for line in [*project()["dependencies"], *(each for extra in licences.EXTRAS for each in extras[extra])]:
        each = Requirement(line)
        assert [one.operator for one in each.specifier] == [">="], line
        assert each.specifier.contains(pins[canonicalize_name(each.name)]), line


def test_the_lowest_versions_are_those_that_are_stated() -> None:
    """So that `make lowest` tests what pyproject.toml says; torch's bound was tested by hand (decision 0012)."""
    text = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8")
    lowest = {
        canonicalize_name(name): Version(said) for name, said in re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE)
    }
    extras = project()["optional-dependencies"]
    lines = {
        *project()["dependencies"],
        *(each for extra in (*licences.EXTRAS, "serve-test", "dev") for each in extras[extra]),
    }
    stated = {canonicalize_name(each.name): each.specifier for each in map(Requirement, lines)}
    assert lowest.keys() >= stated.keys()
    assert {name for name, said in stated.items() if Version(str(said).removeprefix(">=")) != lowest[name]} == ELSEWHERE


def test_classifiers_and_the_lowest_python_agree() -> None:
    named = [line.rsplit(" :: ", 1)[-1] for line in project()["classifiers"] if " :: Python :: 3." in line]
    assert f">={named[0]}" == project()["requires-python"]
    assert named == sorted(named, key=Version)


def as_pinned() -> bool:
    there = {canonicalize_name(each.name): each.version for each in distributions()}
    return all(Version(there[name]).public == version for name, version in licences.pinned().items() if name in there)


@pytest.fixture
def tables() -> tuple[dict[str, str], dict[str, str]]:
    if not as_pinned():
        pytest.skip("other versions than those of constraints.txt are installed, whose licences are listed")
    return licences.tables()


def test_no_licence_binds_users(tables: tuple[dict[str, str], dict[str, str]]) -> None:
    users, developers = tables
    assert {"torch", "transformers", "numpy", "httpx", "scikit-learn", "gguf"} <= users.keys()
    assert {name: said for name, said in users.items() if not said or licences.parts(said) - licences.ALLOWED} == {}
    # Named one by one, so that a new one is seen.
    assert {name for name, said in developers.items() if licences.parts(said) - licences.ALLOWED} == {"krippendorff"}
    assert {name for name, said in developers.items() if not said} == {"mlcroissant"}


def test_the_list_of_licences_is_true(tables: object) -> None:
    assert (ROOT / "docs" / "licences.md").read_text(encoding="utf-8") == licences.page(), (
        "write it again: .venv/bin/python -m demur.tests.licences > docs/licences.md"
    )


FOUND = {"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}]}
CLEAN = "sys.stderr.write('No known vulnerabilities found')"


@pytest.mark.parametrize(
    ("act", "code", "said"),
    [
        (CLEAN, 0, "no known vulnerability"),
        (f"{CLEAN}; sys.exit(1)", 2, "could not run"),
        ("sys.stderr.write('WARNING: x\\nERROR:pip_audit._cli:no route'); sys.exit(1)", 2, "(pypi.org): no route\n"),
        ("pass", 2, "could not run"),
        ("open(out, 'w').write('['); sys.exit(1)", 2, "could not run"),
        (f"open(out, 'w').write(json.dumps({FOUND!r})); sys.exit(1)", 1, "PYSEC-1, mended in 2"),
    ],
)
def test_an_audit_that_could_not_run_is_no_pass(act: str, code: int, said: str, tmp_path: Path) -> None:
    fake = tmp_path / "pip_audit.py"
    fake.write_text(f"import json, sys\nout = sys.argv[sys.argv.index('--output') + 1]\n{act}\n")
    program = [sys.executable, str(ROOT / "tests" / "audit.py"), sys.executable, str(fake)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done
    assert (done.stdout + done.stderr).count("\n") == 1


def test_an_audit_without_its_tool_is_no_pass(tmp_path: Path) -> None:
    program = [sys.executable, str(ROOT / "tests" / "audit.py"), sys.executable, str(tmp_path / "missing.py")]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "could not run" in done.stderr
