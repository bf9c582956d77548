"""What commands print cannot steer a terminal, and code and pickles of a model's repository are not run."""

import ast
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.table import Table
from typer.testing import CliRunner

from demur import cli
from demur.benchmark.errors import DemurError
from demur.benchmark.models.loading import choose_dtype, load
from demur.scorers.guard_entries import guards
from demur.scorers.guards import load_guard
from demur.terminal import Console, say_data
from demur.tests.tiny import save

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = "\x1b[2J\x1b]0;owned\x07[/bold][link=http://x]\u202e\u2066:bomb:\x9b31m\r\ud800"
STEERS = ("\x1b", "\x9b", "\x07", "\r", "\u202e", "\u2066")


def harmless(text: str) -> bool:
    return not any(each in text for each in STEERS)


def test_nothing_steers_the_terminal_whatever_it_is_printed_by() -> None:
    out = io.StringIO()
    console = Console(file=out, width=200)
    table = Table("figure", HOSTILE)
    table.add_row(HOSTILE, "0.1")
    console.print(HOSTILE)
    console.print(table)
    with console.status(f"loading {HOSTILE}"):
        pass
    assert harmless(out.getvalue())
    # What is no control character is there as it was written: no markup, no emoji.
    assert out.getvalue().count("[/bold][link=http://x]") >= 3
    assert ":bomb:" in out.getvalue()


def test_data_is_unchanged_in_a_pipe_and_harmless_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    say_data("a\x1b[31mb\n")
    assert capsys.readouterr().out == "a\x1b[31mb\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    say_data("a\x1b[31mb")
    assert capsys.readouterr().out == "a<U+001B>[31mb\n"


def test_commands_print_through_it_alone() -> None:
    for path in (*ROOT.glob("cli*.py"), ROOT / "quickstart.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert node.module != "rich.console", path.name
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "echo":
                # The label screen makes its text visible itself; the command line does so in its last line.
                assert path.name in {"cli.py", "cli_scorers.py"}, f"{path.name}:{node.lineno}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", f"{path.name}:{node.lineno}"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [
        {"model": f"m{HOSTILE[:-1]}", "prompt_id": f"p{n % 4}", "label": ("refused", "complied")[n % 2], "id": n,
         "response": f"I can't {n} {HOSTILE[:-1]}"}
        for n in range(12)
    ]  # fmt: skip
    path = tmp_path / "table.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ["consistency", "TABLE"],
        ["consistency", "TABLE", "--json"],
        ["consistency", "TABLE", "--label-col", "response"],
        ["validate-scorer", "TABLE", "--response-col", "response", "--label-col", "label", "--group-col", "model"],
        ["validate-scorer", "TABLE", "--response-col", "response", "--label-col", "label", "--show-text",
         "--scorer", "lexicon"],
        ["validate-scorer", "TABLE", "--response-col", HOSTILE[:-1], "--label-col", "label"],
        ["check", HOSTILE[:-1]],
        ["run", HOSTILE[:-1].replace("\ud800", ""), "--out", "x"],
    ],
)  # fmt: skip
def test_commands_on_hostile_text(
    arguments: list[str], table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["demur", *(str(table) if each == "TABLE" else each for each in arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = "".join(capsys.readouterr())
    assert ended.value.code in (0, 1)
    assert harmless(said), said
    assert "Traceback" not in said
    if ended.value.code:
        assert "Mend:" in said


def test_exported_json_of_hostile_names_is_ascii(table: Path) -> None:
    result = CliRunner().invoke(cli.app, ["consistency", str(table), "--json"])
    assert result.exit_code == 0
    assert result.stdout.isascii()
    assert json.loads(result.stdout)["models"][0]["model"] == f"m{HOSTILE[:-1]}"


@pytest.mark.parametrize("where", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_terminals_of_other_encodings(where: dict[str, str], table: Path) -> None:
    command = [sys.executable, "-m", "demur", "consistency", str(table)]
    done = subprocess.run(command, env={**os.environ, **where}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"Traceback" not in done.stderr


class Harm:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return os.rename, (f"{self.mark}.before", str(self.mark))


def hostile_model(folder: Path) -> Path:
    """A model folder whose weights are a pickle that runs something, and whose code does too."""
    save(folder)
    mark = folder / "ran"
    (folder / "ran.before").touch()
    for path in folder.glob("*.safetensors"):
        path.unlink()
    torch.save(Harm(mark), folder / "pytorch_model.bin")
    (folder / "modeling_own.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_own.Own", "AutoConfig": "modeling_own.OwnConfig"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_pickles_and_code_of_a_repository_are_not_run(tmp_path: Path) -> None:
    folder = hostile_model(tmp_path / "model")
    cpu = torch.device("cpu")
    with pytest.raises(DemurError, match="pickles") as raised:
        load(str(folder), choose_dtype(cpu, "float32"), cpu)
    assert "any code" in str(raised.value)
    guard = next(name for name, entry in guards().items() if entry.kind == "generator")
    with pytest.raises(DemurError, match="pickles"):
        load_guard(f"{guard}@{folder}")
    assert not (folder / "ran").exists()


def test_code_of_a_repository_is_not_run_where_its_weights_are_sound(tmp_path: Path) -> None:
    folder = hostile_model(tmp_path / "model")
    (folder / "pytorch_model.bin").unlink()
    save(tmp_path / "sound")
    (tmp_path / "sound" / "model.safetensors").rename(folder / "model.safetensors")
    cpu = torch.device("cpu")
    load(str(folder), choose_dtype(cpu, "float32"), cpu)
    assert not (folder / "ran").exists()
