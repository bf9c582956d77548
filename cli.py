"""The ``demur`` command: thin, no logic. Each room's commands are in a file of their own beside this one."""

import os
import sys
from io import TextIOWrapper
from typing import NoReturn

import typer

from .benchmark.errors import DemurError
from .benchmark.untrusted import visible
from .cli_access import access_app
from .cli_leaderboard import bench, cite, consistency, leaderboard
from .cli_organisms import organism_app
from .cli_prompts import prompts_app
from .cli_quickstart import quickstart
from .cli_run import bench_run, check, merge, run
from .cli_scorers import bench_scorer, label, score, scorers, validate_scorer
from .cli_stress import bench_stress, stress
from .cli_submit import import_log, submit, verify
from .terminal import Console, say

__all__ = ["app", "main"]

app = typer.Typer(
    name="demur",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Measure how consistently a language model refuses what it should and answers what it should.",
)
EVALUATE, BOARD, STRESS, SET = "Evaluate a model", "Leaderboard", "Stress test", "Prompt set"
app.command(rich_help_panel=EVALUATE)(quickstart)
app.command(rich_help_panel=EVALUATE)(run)
app.command(rich_help_panel=EVALUATE)(merge)
app.command("import", rich_help_panel=EVALUATE)(import_log)
app.command(rich_help_panel=EVALUATE)(score)
app.command(rich_help_panel=EVALUATE)(check)
app.command("validate-scorer", rich_help_panel=EVALUATE)(validate_scorer)
app.command(rich_help_panel=EVALUATE)(label)
app.add_typer(scorers, name="scorers", rich_help_panel=EVALUATE)
app.command(rich_help_panel=BOARD)(submit)
app.command(rich_help_panel=BOARD)(verify)
app.add_typer(leaderboard, name="leaderboard", rich_help_panel=BOARD)
app.command(rich_help_panel=BOARD)(consistency)
app.command(rich_help_panel=BOARD)(cite)
app.command(rich_help_panel=STRESS)(stress)
app.add_typer(organism_app, name="organism", rich_help_panel=STRESS)
app.add_typer(prompts_app, name="prompts", rich_help_panel=SET)
app.add_typer(access_app, name="access", rich_help_panel=SET)
bench.command("scorer")(bench_scorer)
bench.command("stress")(bench_stress)
bench.command("run")(bench_run)
app.add_typer(bench, name="bench")


@app.command()
def version() -> None:
    """Print the versions of the package and of the prompt set."""
    from .benchmark.prompts import manifest
    from .benchmark.version import package_version

    say(f"demur {package_version()}, prompt set {manifest()['version']}")


def _complain(text: str) -> NoReturn:
    typer.echo(f"{typer.style('demur:', fg='red', bold=True)} {visible(text)}", err=True)
    sys.exit(1)


def main() -> None:
    """Run the command. Faults that the user can mend are one message and exit code 1, without a traceback."""
    # Threads that spin while they wait make a busy machine many times slower; must be set before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        # A terminal that is not UTF-8 gets the code points of what it cannot show.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except DemurError as fault:
        _complain(str(fault))
    except OSError as fault:
        where = f"{fault.filename}: " if fault.filename else ""
        _complain(
            str(DemurError(f"{where}{fault.strerror or fault}", "see that it is there, may be used and has room"))
        )
    except MemoryError:
        _complain(str(DemurError("the memory is not enough", "give less at once, for example with --limit-pairs")))
    except KeyboardInterrupt:
        Console(stderr=True).print("demur: interrupted; run the same command again to go on")
        sys.exit(130)
