"""Output of the verbs that evaluate: a result file, and its table or its JSON on stdout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from layerbridge.progress import say

if TYPE_CHECKING:
    from layerbridge.evaluation.results import Result


_NOT_OF_THE_RESULT = ("output", "as_json", "resume")


def write_result(context: typer.Context, result: Result, path: Path, *, as_json: bool) -> None:
    """Writes a result, reports the path on stderr, and prints the result.

    Args:
        context: of the verb; the file holds its command line.
        result: of the verb.
        path: of its file.
        as_json: print the content of the file instead of a table.

    Raises:
        OutputError: the file cannot be written.
    """
    from layerbridge.report.tables import accuracy_table, macro_f1_table

    result.settings["command"] = command_words(context)
    path = result.write(path)
    say(f"wrote {path}")
    chance = [code for code, one in result.languages.items() if one.is_at_chance]
    if chance:
        say(
            "note: not better than always answering the most frequent label in "
            f"{len(chance)} of {len(result.languages)} languages: {', '.join(chance)}"
        )
    if as_json:
        print(path.read_text(encoding="utf-8"), end="")
    else:
        print(accuracy_table([result]).markdown(intervals=True))
        print(macro_f1_table([result]).markdown(), end="")


def command_words(context: typer.Context) -> list[str]:
    """The words of a command line that give the same result, without where it goes.

    Arguments come first, then the options that were given.
    """
    arguments, options = [str(context.info_name)], []
    for parameter in context.command.params:
        name = str(parameter.name)
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE" or name in _NOT_OF_THE_RESULT:
            continue
        value = context.params[name]
        if parameter.param_type_name == "argument":
            arguments.append(str(value))
            continue
        flag = parameter.opts[0]
        for each in value if isinstance(value, (list, tuple)) else [value]:
            # A value that starts with a dash would be taken for an option.
            together = str(each).startswith("-")
            words = [f"{flag}={each}"] if together else [flag, str(each)]
            options += [flag] if each is True else words
    return arguments + options
