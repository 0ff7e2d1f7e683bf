"""Arguments and options that several verbs share: same flag, same meaning, same help.

An ``Annotated`` option has ``...`` in place of a default, which is each verb's own.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer


def argument(default: Any, metavar: str, help: str) -> Any:
    """Returns a positional argument; ``...`` as its default makes it required."""
    return typer.Argument(default, metavar=metavar, help=help)


def option(default: Any, help: str, *names: str, panel: str | None = None, **settings: Any) -> Any:
    """Returns an option; without names, its flag is the parameter's name."""
    if "min" in settings:
        settings.setdefault("metavar", "N")
    return typer.Option(default, *names, help=help, rich_help_panel=panel, **settings)


# The panels of the help pages.
data = partial(option, panel="Data")
models = partial(option, panel="Models")
fusion = partial(option, panel="Fusion")
training = partial(option, panel="Training")
output = partial(option, panel="Output")

RunFolder = Annotated[str, argument(..., "RUN", "Trained bridge: its folder or hub ID.")]
ResultFiles = Annotated[
    list[Path],
    argument(..., "RUN", "Result files, or folders with result files; NAME=RUN names the method."),
]

_TASK = data(..., "Name (see `layerbridge tasks`) or YAML file of the task.")
TaskName = Annotated[str, _TASK]
OptionalTaskName = Annotated[str | None, _TASK]
DataDir = Annotated[
    list[Path] | None, data(..., "Folder with the task's rows (repeatable).", metavar="FOLDER")
]
TaskOption = Annotated[
    list[str] | None, data(..., "Option of the task (repeatable).", metavar="NAME=VALUE")
]
SkipUnknownLabels = Annotated[
    bool,
    data(
        ..., "Leave out rows with a label the task lacks, and count them.", "--skip-unknown-labels"
    ),
]
Languages = Annotated[str | None, data(..., "Language codes, comma-separated; all if omitted.")]
Template = Annotated[
    str | None, data(..., "Encoder input, columns in braces: 'Review: {text} Label: '.")
]
MaxRows = Annotated[int | None, data(..., "Maximum training rows: the first of each label.", min=1)]
Labels = Annotated[str | None, data(..., "Label words, comma-separated.", "--options")]

_FORMS = "folder, zoo:NAME or hub ID."
_REVISION = "branch, tag or commit."
Encoder = Annotated[str | None, models(..., f"Encoder: {_FORMS}")]
EncoderRevision = Annotated[str | None, models(..., f"Encoder's {_REVISION}")]
LanguageModel = Annotated[str | None, models(..., f"Language model: {_FORMS}")]
LanguageModelRevision = Annotated[str | None, models(..., f"Language model's {_REVISION}")]
Revision = Annotated[str | None, models(..., f"Bridge's {_REVISION}")]
_DTYPE = models(
    ..., "Dtype of the encoder and the language model: auto, float32, bfloat16 or float16."
)
Dtype = Annotated[str, _DTYPE]
OptionalDtype = Annotated[str | None, _DTYPE]
Device = Annotated[str | None, models(..., "cpu, cuda, …; the best available if omitted.")]
LoadIn4Bit = Annotated[
    bool, models(..., "Load both models in 4 bits (bitsandbytes).", "--load-in-4bit")
]
LoadIn8Bit = Annotated[
    bool, models(..., "Load both models in 8 bits (bitsandbytes).", "--load-in-8bit")
]
Unquantized = Annotated[
    bool, models(..., "Load both in --dtype, however the run was trained.", "--unquantized")
]
DeviceMap = Annotated[
    str | None,
    models(..., "Spread models over devices: auto, or JSON with a map for each.", metavar="MAP"),
]
EncoderDevice = Annotated[str | None, models(..., "Device of the encoder alone, such as cpu.")]
TrustRemoteCode = Annotated[
    bool, models(..., "Run code that comes with a model.", "--trust-remote-code")
]
AllowPickle = Annotated[
    bool, models(..., "Also load weights that are not safetensors.", "--allow-pickle")
]
Instruction = Annotated[
    str | None, models(..., "English prompt for the language model, after the text.")
]
MaxNewTokens = Annotated[int, option(..., "Maximum tokens to generate per text.", min=1)]
BatchSize = Annotated[int, option(..., "Rows per batch.", min=1)]
_AGAINST = option(..., "Method to compare with.")
Against = Annotated[str, _AGAINST]
OptionalAgainst = Annotated[str | None, _AGAINST]

_OUTPUT = ("--output", "-o")
OutputFolder = Annotated[Path, output(..., "Folder to write to.", *_OUTPUT)]
OutputFile = Annotated[Path, output(..., "File to write.", *_OUTPUT)]
ResultFile = Annotated[
    Path | None, output(..., "Result file to write; in results/ if omitted.", *_OUTPUT)
]
Json = Annotated[bool, output(..., "Print JSON.", "--json")]
FigureFormat = Annotated[str, output(..., "png or svg.", "--format")]
