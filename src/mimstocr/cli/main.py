"""The `mimstocr` command. Exit codes: 0 done, 1 a defect of ours, 2 a mistake of the user's, 3 a run of a
study failed, 130 stopped, saved."""

from __future__ import annotations

import sys
import traceback

import typer
from rich.console import Console

from mimstocr.cli import backtest, catalogue, config, data, discover, evaluate, positions, recommend, report, run, study
from mimstocr.errors import MimstocrError

app = typer.Typer(
    name="mimstocr",
    help="Daily prices to a ranked list of stocks, learned on several tasks at once, with honest evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run")(run.command)
app.command("study")(study.command)
app.command("discover")(discover.command)
app.command("recommend")(recommend.command)
app.command("positions")(positions.command)
app.command("evaluate")(evaluate.command)
app.command("backtest")(backtest.command)
app.command("report")(report.command)
app.add_typer(data.app, name="data")
app.command("list")(catalogue.command)
app.command("config")(config.command)


def main() -> None:
    """The entry point."""
    sys.exit(invoke(sys.argv[1:]))


def invoke(arguments: list[str]) -> int:
    """Run the command with these arguments; gives the exit code."""
    error = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        app(arguments)
    except SystemExit as done:  # typer's own way out, with 2 for a wrong option
        return done.code if isinstance(done.code, int) else 0
    except MimstocrError as problem:
        error.print("[bold red]error:[/]", end=" ")
        error.print(str(problem), markup=False)
        return 2
    except KeyboardInterrupt:
        error.print("stopped")
        return 130
    except Exception:  # the last line of defence: whatever comes here is a defect of ours
        traceback.print_exc()
        error.print("[bold red]this is a defect of mimstocr[/], not of yours; please report it with the lines above")
        return 1
    return 0
    return 0
