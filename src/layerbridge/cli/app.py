"""The ``layerbridge`` command: its verbs, and what happens when one of them fails."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

import typer

from layerbridge.cli import (
    ask,
    baseline,
    bench,
    chat,
    compare,
    demo,
    evaluate,
    plot,
    report,
    reproduce,
    serve,
    table,
    tasks,
    train,
    zoo,
)
from layerbridge.errors import LayerBridgeError
from layerbridge.version import __version__

USER_ERROR = 2
INTERRUPTED = 130

# Whatever is wrong with a command line; typer has it from click, or brings its own copy of click.
_USAGE_ERROR: Any = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="layerbridge",
    help="Teach an English-only language model to understand a hundred languages.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo.demo)
app.command("train", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
    train.train
)
app.command("evaluate")(evaluate.evaluate)
app.command("baseline")(baseline.baseline)
app.command("tasks")(tasks.tasks)
app.command("ask")(ask.ask)
app.command("chat")(chat.chat)
app.command("serve")(serve.serve)
app.command("table")(table.table)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("reproduce")(reproduce.reproduce)
app.add_typer(plot.app, name="plot")
app.add_typer(zoo.app, name="zoo")
app.add_typer(bench.app, name="bench")


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    # The tokenizers' own threads and a loader's processes do not mix, and it says so on stderr
    # at every fork unless told.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def main() -> NoReturn:
    """Runs a verb; a user's mistake is one line on stderr and exit code 2, without a traceback."""
    try:
        code = app(prog_name="layerbridge", standalone_mode=False)
    except _USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            sys.exit(USER_ERROR)
        command = error.ctx.command_path if error.ctx else "layerbridge"
        problem = " ".join(error.format_message().split()).rstrip(".")
        print(f"error: {problem}; next: {command} --help", file=sys.stderr)
        sys.exit(USER_ERROR)
    except LayerBridgeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USER_ERROR)
    except BrokenPipeError:
        # Whoever read stdout has gone (`| head`); closing it again at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)
