"""``layerbridge baseline``: a baseline on a task's test rows, per language."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerbridge.cli import options as o
from layerbridge.cli.result_file import write_result
from layerbridge.cli.values import language_codes, load_options, task_options
from layerbridge.errors import ConfigError

if TYPE_CHECKING:
    from layerbridge.evaluation.results import Result
    from layerbridge.evaluation.translation import Translator
    from layerbridge.models.backbone import LoadOptions
    from layerbridge.tasks import Task


class Method(StrEnum):
    """The baselines."""

    TF_IDF = "tf-idf"
    ZERO_SHOT = "zero-shot-lm"
    FEW_SHOT = "few-shot-lm"
    TRANSLATE = "translate"


# The parameters that only some methods use, and those among them that have no default.
_LM = (Method.ZERO_SHOT, Method.FEW_SHOT, Method.TRANSLATE)
_TRANSLATE = (Method.TRANSLATE,)
_USED_BY = {
    **dict.fromkeys(("language_model", "language_model_revision", "prompt", "batch_size"), _LM),
    "shots": (Method.FEW_SHOT, Method.TRANSLATE),
    "seed": (Method.TF_IDF, Method.FEW_SHOT, Method.TRANSLATE),
    **dict.fromkeys(("translator", "translator_revision", "translator_batch_size"), _TRANSLATE),
    **dict.fromkeys(("translations", "num_beams", "max_new_tokens"), _TRANSLATE),
}
_REQUIRED = ("language_model", "translator")

_translation = partial(o.option, panel="Translation")


def baseline(
    context: typer.Context,
    method: Annotated[Method, typer.Argument(metavar="METHOD", show_default=False)],
    task: o.TaskName,
    data_dir: o.DataDir = None,
    task_option: o.TaskOption = None,
    skip_unknown_labels: o.SkipUnknownLabels = False,
    languages: o.Languages = None,
    shots: int | None = o.option(
        None, "English examples; by default 8 for few-shot-lm, none for translate.", min=1
    ),
    seed: int = o.option(0, "Random seed: the choice of examples."),
    prompt: str | None = o.option(None, "Contains {text} once, and {options} for the label words."),
    batch_size: o.BatchSize = 64,
    translator: str | None = _translation(
        None, "NLLB, M2M100 or Marian: folder or hub ID; {language} for one model per language."
    ),
    translator_revision: str | None = _translation(None, "Translator's branch, tag or commit."),
    translator_batch_size: int = _translation(32, "Texts per batch.", min=1),
    num_beams: int = _translation(1, "Beam size; 1 is greedy.", min=1),
    max_new_tokens: int = _translation(256, "Maximum tokens to generate per text.", min=1),
    translations: Path | None = _translation(None, "Folder that caches translations across runs."),
    language_model: o.LanguageModel = None,
    language_model_revision: o.LanguageModelRevision = None,
    dtype: str = o.models("auto", "Dtype of the models: auto, float32, bfloat16 or float16."),
    device: o.Device = None,
    trust_remote_code: o.TrustRemoteCode = False,
    allow_pickle: o.AllowPickle = False,
    output: o.ResultFile = None,
    as_json: o.Json = False,
) -> None:
    """Evaluate a baseline and write a result file.

    tf-idf: character n-grams and a linear classifier. zero-shot-lm: the language model reads the
    text itself. few-shot-lm: the same after labeled English examples. translate: a translation
    model first, then the language model.
    """
    _check_flags(context, method)
    import scipy  # noqa: F401 # results have intervals: if it is missing, that shows here

    from layerbridge import tasks

    options = task_options(data_dir, task_option, skip_unknown_labels=skip_unknown_labels)
    test_task = tasks.get(task, **options)
    codes = language_codes(test_task, languages)
    if method is Method.TF_IDF:
        run = _tf_idf(test_task, codes, seed)
    else:
        load = load_options(context.params)
        run = _with_language_model(method, test_task, codes, context.params, load, str(load.device))
    from layerbridge.progress import meter

    with meter(f"{test_task.name}, {method}") as bar:
        result = run(progress=bar.by_language)
    if options:
        result.settings["task_options"] = options
    name = str(method) if shots is None else f"{method}-{shots}"
    path = output or Path("results") / f"{test_task.name}-{name}.json"
    write_result(context, result, path, as_json=as_json)


def _check_flags(context: typer.Context, method: Method) -> None:
    """Checks that the method uses every given flag and has those it needs.

    Raises:
        ConfigError: such a flag.
    """
    for name, methods in _USED_BY.items():
        flag = f"--{name.replace('_', '-')}"
        source = context.get_parameter_source(name)
        on_command_line = source is not None and source.name == "COMMANDLINE"
        if on_command_line and method not in methods:
            raise ConfigError(
                f"{method} does not use {flag}", allowed=f"{flag} with {', '.join(methods)}"
            )
        if not on_command_line and name in _REQUIRED and method in methods:
            raise ConfigError(
                f"{method} needs {flag}",
                allowed="a folder, zoo:NAME or a hub ID",
                hint=f"layerbridge baseline {method} {flag} …",
            )


def _tf_idf(task: Task, codes: Sequence[str], seed: int) -> Callable[..., Result]:
    from layerbridge.evaluation.baselines.tf_idf import tf_idf

    return partial(tf_idf, task, codes, seed)


def _with_language_model(
    method: Method,
    task: Task,
    codes: Sequence[str],
    flags: Mapping[str, Any],
    load: LoadOptions,
    device: str,
) -> Callable[..., Result]:
    """Loads what the method needs, after settings and rows are checked, and translates."""
    from layerbridge.evaluation.baselines.few_shot import SHOTS, draw, few_shot
    from layerbridge.evaluation.baselines.prompt import PROMPT, Prompt
    from layerbridge.evaluation.baselines.translate_then_answer import translate_then_answer
    from layerbridge.evaluation.baselines.translated import in_english
    from layerbridge.evaluation.baselines.zero_shot import zero_shot
    from layerbridge.hub.sources import resolve
    from layerbridge.models.backbone import resolve_dtype
    from layerbridge.models.language_model import LanguageModel
    from layerbridge.progress import meter

    prompt = PROMPT if flags["prompt"] is None else flags["prompt"]
    shots = flags["shots"] or (SHOTS if method is Method.FEW_SHOT else 0)
    seed = flags["seed"]
    Prompt.of(prompt, task.options)
    resolve_dtype(load.dtype, load.device)
    for code in codes:
        task.test(code)
    if shots:
        draw(task, shots, seed)
    translator = _translator(flags, codes, load, device) if method is Method.TRANSLATE else None
    source = resolve(flags["language_model"], revision=flags["language_model_revision"])
    language_model = LanguageModel.load(source, load).to(device)
    settings = {"prompt": prompt, "batch_size": flags["batch_size"]}
    if method is Method.ZERO_SHOT:
        return partial(zero_shot, language_model, task, codes, **settings)
    settings |= {"shots": shots, "seed": seed}
    if translator is None:
        return partial(few_shot, language_model, task, codes, **settings)
    with meter(f"{task.name}, translations") as bar:
        in_english(translator, task, codes, bar.by_language)
    return partial(translate_then_answer, translator, language_model, task, codes, **settings)


def _translator(
    flags: Mapping[str, Any], codes: Sequence[str], load: LoadOptions, device: str
) -> Translator:
    """Returns the translator once it is known to have the languages; loads no weights."""
    from layerbridge.evaluation.translation import Translator

    translator = Translator(
        flags["translator"],
        options=load,
        device=device,
        revision=flags["translator_revision"],
        folder=flags["translations"],
        num_beams=flags["num_beams"],
        max_new_tokens=flags["max_new_tokens"],
        batch_size=flags["translator_batch_size"],
    )
    translator.check(code for code in codes if code != "en")
    return translator
