"""The ``layerbridge`` command: its verbs, and what happens when one of them fails."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from layerbridge.cli import (
    ask,
    average,
    baseline,
    bench,
    center,
    chat,
    compare,
    compare_recipes,
    demo,
    env,
    evaluate,
    import_checkpoint,
    plot,
    report,
    reproduce,
    serve,
    table,
    tasks,
    train,
    zoo,
)
from layerbridge.cli.old_names import with_new_names
from layerbridge.cli.text_input import check_words
from layerbridge.errors import ConfigError, LayerBridgeError, missing_extra
from layerbridge.progress import say, speaks_for_all
from layerbridge.version import __version__

USER_ERROR = 2
SIGNALLED = 128  # and the signal's number

# Any usage error; typer takes this class from click or from its own copy of click.
_USAGE_ERROR: Any = typer.BadParameter.__bases__[0]


class _InterruptError(Exception):
    """What ended a verb, which typer would drop: Ctrl-C, or a run's own word of it."""


class _Verbs(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _InterruptError from error


app = typer.Typer(
    name="layerbridge",
    cls=_Verbs,
    help="Teach an English-only language model to understand a hundred languages.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
# What Python does not let a function be called.
_NAMES = {"import_checkpoint": "import", "compare_recipes": "compare-recipes"}
# Further flags of train are training arguments.
_PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True}
for verb in (
    demo.demo,
    train.train,
    evaluate.evaluate,
    baseline.baseline,
    tasks.tasks,
    ask.ask,
    center.center,
    average.average,
    import_checkpoint.import_checkpoint,
    chat.chat,
    serve.serve,
    table.table,
    compare.compare,
    compare_recipes.compare_recipes,
    report.report,
    reproduce.reproduce,
    env.env,
):
    # A line break within a paragraph would be one on the screen.
    paragraphs = [" ".join(part.split()) for part in (verb.__doc__ or "").split("\n\n")]
    settings = _PASS_THROUGH if verb is train.train else None
    name = _NAMES.get(verb.__name__, verb.__name__)
    app.command(name, help="\n\n".join(paragraphs), context_settings=settings)(verb)
app.add_typer(plot.app, name="plot")
app.add_typer(zoo.app, name="zoo")
app.add_typer(bench.app, name="bench")


def _print_version(requested: bool) -> None:
    if requested:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    # Tokenizers' threads and a data loader's processes do not mix, which it reports on stderr at
    # every fork unless this is set.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # vLLM may be started by torchrun, too.
    several = ("train", "evaluate", "serve")
    if "TORCHELASTIC_RUN_ID" in os.environ and context.invoked_subcommand not in several:
        raise ConfigError(
            f"{context.invoked_subcommand} runs in one process, not under torchrun",
            hint=f"layerbridge {context.invoked_subcommand} …",
        )


def main() -> NoReturn:
    """Runs a verb; a user's error is one line on stderr and exit code 2, without a traceback."""
    try:
        check_words(sys.argv[1:])
        words = with_new_names(sys.argv[1:])
        code = app(words, prog_name="layerbridge", standalone_mode=False)
    except _USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            sys.exit(USER_ERROR)
        command = error.ctx.command_path if error.ctx else "layerbridge"
        problem = " ".join(error.format_message().split()).rstrip(".")
        _fail(f"{problem}; next: {command} --help")
    except LayerBridgeError as error:
        _fail(error)
    except ImportError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        _fail(missing)
    except BrokenPipeError:
        # The reader of stdout is gone (`| head`); closing stdout again at exit must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (_InterruptError, KeyboardInterrupt, typer.Abort) as stopped:
        say(str(stopped.__cause__ or "") or "interrupted")
        sys.exit(SIGNALLED + getattr(stopped.__cause__, "number", signal.SIGINT))
    sys.exit(code if isinstance(code, int) else 0)


def _fail(problem: object) -> NoReturn:
    if speaks_for_all():
        print(f"error: {problem}", file=sys.stderr)
    sys.exit(USER_ERROR)
