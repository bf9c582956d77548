"""The house: which room may import which, how long files are, and that the public face is cheap and whole."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import demur

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("benchmark", "scorers", "leaderboard")
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def rooms_imported(path: Path) -> set[str]:
    """The rooms that a module's imports name, relative ones resolved."""
    package = ("demur", *path.relative_to(ROOT).parent.parts)
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) + "." if node.level else ""
            stem = f"{base}{node.module or ''}".rstrip(".")
            targets = [stem, *(f"{stem}.{alias.name}" for alias in node.names)]
        else:
            continue
        for target in targets:
            match = re.match(r"demur\.(\w+)", target)
            if match and match.group(1) in ROOMS:
                found.add(match.group(1))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_against_the_flow(path):
    own = path.relative_to(ROOT).parts[0]
    allowed = set(ROOMS[: ROOMS.index(own) + 1])
    assert rooms_imported(path) <= allowed


def test_the_import_reader_sees_relative_imports(tmp_path, monkeypatch):
    module = tmp_path / "benchmark" / "models" / "x.py"
    module.parent.mkdir(parents=True)
    module.write_text("from ...leaderboard import ranking\nfrom ... import scorers\nimport demur.benchmark\n")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert rooms_imported(module) == {"leaderboard", "scorers", "benchmark"}


def long_without_reason(paths):
    """Files of more than 400 lines whose docstring does not say why with the words "400 lines"."""
    found = []
    for path in paths:
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > 400 and "400 lines" not in (ast.get_docstring(ast.parse(text)) or ""):
            found.append(str(path.relative_to(ROOT)))
    return found


def test_files_are_small():
    everywhere = [
        path for place in (".", "tests", "benchmarks", "lm_eval_tasks") for path in (ROOT / place).glob("*.py")
    ]
    assert len(everywhere) > 100
    assert long_without_reason([*FILES, *everywhere, *(ROOT / "tests").glob("*/*.py")]) == []


def test_a_long_file_needs_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    for name, says in (("short", ""), ("long", "A table."), ("told", "A table of more than 400 lines: one place.")):
        (tmp_path / f"{name}.py").write_text(f'"""{says}"""\n' + "x = 1\n" * (400 if says else 399))
    assert long_without_reason(sorted(tmp_path.glob("*.py"))) == ["long.py"]


@pytest.mark.parametrize("module", ["demur", "demur.cli"])
def test_import_is_cheap_and_reads_nothing_heavy(module):
    code = (
        f"import sys, {module}\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'pyarrow', 'altair', 'sklearn'} & set(sys.modules)\n"
        "print(heavy or 'light')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "light"


def test_every_public_name_loads():
    for name in demur.__all__:
        assert getattr(demur, name).__module__.startswith("demur."), name
    assert set(demur.__all__) <= set(dir(demur))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = demur.nothing


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_all_is_sorted_and_true(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    listed = next(
        (
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
        ),
        None,
    )
    if listed is None:
        assert path.name in {"__init__.py", "__main__.py"}, "every module says what it offers"
        return
    defined = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            names = [t for target in node.targets for t in getattr(target, "elts", [target])]
            defined |= {name.id for name in names if isinstance(name, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            defined.add(node.target.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            defined |= {alias.asname or alias.name for alias in node.names}
    assert set(listed) <= defined
