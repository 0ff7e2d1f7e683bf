"""``layerbridge baseline``: a method to beat on a task's test rows, language by language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from layerbridge.cli.language_codes import LANGUAGES, codes_of
from layerbridge.cli.result_file import JSON, leave
from layerbridge.cli.tasks import task_options
from layerbridge.errors import ConfigError

if TYPE_CHECKING:
    from layerbridge.evaluation.results import Result
    from layerbridge.evaluation.translation import Translator
    from layerbridge.models.backbone import LoadOptions
    from layerbridge.models.language_model import LanguageModel
    from layerbridge.tasks import Task


class Method(StrEnum):
    """What is asked."""

    FLOOR = "floor"
    LM_ALONE = "lm-alone"
    LM_FEW_SHOT = "lm-few-shot"
    TRANSLATE = "translate"


# Which methods read a flag; those that are not here are everybody's.
_READ_BY = {
    "--language-model": (Method.LM_ALONE, Method.LM_FEW_SHOT, Method.TRANSLATE),
    "--language-model-revision": (Method.LM_ALONE, Method.LM_FEW_SHOT, Method.TRANSLATE),
    "--prompt": (Method.LM_ALONE, Method.LM_FEW_SHOT, Method.TRANSLATE),
    "--batch-size": (Method.LM_ALONE, Method.LM_FEW_SHOT, Method.TRANSLATE),
    "--shots": (Method.LM_FEW_SHOT, Method.TRANSLATE),
    "--translator": (Method.TRANSLATE,),
    "--translator-revision": (Method.TRANSLATE,),
    "--translator-batch-size": (Method.TRANSLATE,),
    "--translations": (Method.TRANSLATE,),
    "--num-beams": (Method.TRANSLATE,),
    "--max-new-tokens": (Method.TRANSLATE,),
}
_NEEDED = ("--language-model", "--translator")


def baseline(
    method: Method = typer.Argument(..., help="The method."),
    task: str = typer.Option(..., help="A task (see `layerbridge tasks`), or a YAML file."),
    data_dir: list[Path] | None = typer.Option(
        None, help="A folder with the task's rows; may be given again."
    ),
    task_option: list[str] | None = typer.Option(
        None, help="An option of the task, NAME=VALUE; may be given again."
    ),
    languages: str | None = LANGUAGES,
    language_model: str | None = typer.Option(None, help="Folder, zoo:NAME or hub id."),
    language_model_revision: str | None = typer.Option(None, help="Branch, tag or commit."),
    translator: str | None = typer.Option(
        None, help="NLLB, M2M100 or Marian: folder or hub id; {language} in it for one each."
    ),
    translator_revision: str | None = typer.Option(None, help="Branch, tag or commit."),
    translations: Path | None = typer.Option(
        None, help="A folder that keeps translations; a run goes on from what is there."
    ),
    num_beams: int | None = typer.Option(None, min=1, help="Of translating; greedy if not given."),
    max_new_tokens: int | None = typer.Option(
        None, min=1, help="Of a translation; 256 if not given."
    ),
    translator_batch_size: int | None = typer.Option(
        None, min=1, help="Texts at a time; 32 if not given."
    ),
    shots: int | None = typer.Option(
        None, min=1, help="English examples: 8 for lm-few-shot, none for translate if not given."
    ),
    seed: int = typer.Option(0, help="Of the examples' choice."),
    prompt: str | None = typer.Option(
        None, help="With one {text}, and {options} for the label words."
    ),
    batch_size: int | None = typer.Option(None, min=1, help="Rows at a time; 64 if not given."),
    output: Path | None = typer.Option(
        None, "--output", "-o", help="The result file; results/… if not given."
    ),
    dtype: str = typer.Option("auto", help="Of the models."),
    device: str | None = typer.Option(None, help="cpu, cuda, …; the best there is if not given."),
    trust_remote_code: bool = typer.Option(False, "--trust-remote-code"),
    allow_pickle: bool = typer.Option(False, "--allow-pickle"),
    as_json: bool = JSON,
) -> None:
    """Evaluate a method to beat and write a result file.

    floor: characters and a linear classifier. lm-alone: the language model reads the text itself.
    lm-few-shot: the same after labelled English examples. translate: a translation model first.
    """
    given = {
        "--language-model": language_model,
        "--language-model-revision": language_model_revision,
        "--prompt": prompt,
        "--batch-size": batch_size,
        "--shots": shots,
        "--translator": translator,
        "--translator-revision": translator_revision,
        "--translator-batch-size": translator_batch_size,
        "--translations": translations,
        "--num-beams": num_beams,
        "--max-new-tokens": max_new_tokens,
    }
    _check_flags(method, given)
    from layerbridge import tasks

    options = task_options(data_dir, task_option)
    wanted = tasks.get(task, **options)
    codes = codes_of(wanted, languages)
    if method is Method.FLOOR:
        result = _floor(wanted, codes, seed)
    else:
        from layerbridge.models.backbone import LoadOptions, choose_device

        load = LoadOptions(dtype, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle)
        result = _asked(method, wanted, codes, given, load, choose_device(device), seed)
    if options:
        result.settings["task_options"] = options
    name = str(method) if shots is None else f"{method}-{shots}"
    leave(result, output or Path("results") / f"{wanted.name}-{name}.json", as_json=as_json)


def _check_flags(method: Method, given: Mapping[str, Any]) -> None:
    """Refuses what the method would not read, and misses what it needs.

    Raises:
        ConfigError: such a flag.
    """
    for flag, value in given.items():
        if value is not None and method not in _READ_BY[flag]:
            raise ConfigError(
                f"{flag} was given, which {method} does not read",
                allowed=f"{flag} with {', '.join(_READ_BY[flag])}",
            )
        if value is None and flag in _NEEDED and method in _READ_BY[flag]:
            raise ConfigError(
                f"{method} needs {flag}",
                allowed="a folder, zoo:NAME or a hub id",
                hint=f"layerbridge baseline {method} {flag} …",
            )


def _floor(task: Task, codes: Sequence[str], seed: int) -> Result:
    from layerbridge.evaluation.baselines.tf_idf import tf_idf
    from layerbridge.progress import meter

    with meter(f"{task.name}, {Method.FLOOR}") as bar:
        return tf_idf(task, codes, seed, progress=bar.by_language)


def _asked(
    method: Method,
    task: Task,
    codes: Sequence[str],
    given: Mapping[str, Any],
    load: LoadOptions,
    device: str,
    seed: int,
) -> Result:
    """The result of a method with a language model; mistakes are found before it is read."""
    from layerbridge.evaluation.baselines.few_shot import SHOTS, draw, few_shot
    from layerbridge.evaluation.baselines.prompt import PROMPT, Prompt
    from layerbridge.evaluation.baselines.translate_then_answer import translate_then_answer
    from layerbridge.evaluation.baselines.translated import in_english
    from layerbridge.evaluation.baselines.zero_shot import zero_shot
    from layerbridge.models.backbone import resolve_dtype
    from layerbridge.progress import meter

    prompt = PROMPT if given["--prompt"] is None else given["--prompt"]
    shots = given["--shots"] or (SHOTS if method is Method.LM_FEW_SHOT else 0)
    Prompt.of(prompt, task.options)
    resolve_dtype(load.dtype)
    for code in codes:
        task.test(code)
    if shots:
        draw(task, shots, seed)
    translator = _translator(given, codes, load, device) if method is Method.TRANSLATE else None
    language_model = _language_model(given, load, device)
    asking: dict[str, Any] = {"prompt": prompt, "batch_size": given["--batch-size"] or 64}
    if translator is not None:
        with meter(f"{task.name}, translations") as bar:
            in_english(translator, task, codes, bar.by_language)
    with meter(f"{task.name}, {method}") as bar:
        asking["progress"] = bar.by_language
        if method is Method.LM_ALONE:
            return zero_shot(language_model, task, codes, **asking)
        asking |= {"shots": shots, "seed": seed}
        if translator is None:
            return few_shot(language_model, task, codes, **asking)
        return translate_then_answer(translator, language_model, task, codes, **asking)


def _language_model(given: Mapping[str, Any], load: LoadOptions, device: str) -> LanguageModel:
    from layerbridge.hub.sources import resolve
    from layerbridge.models.language_model import LanguageModel

    source = resolve(given["--language-model"], revision=given["--language-model-revision"])
    return LanguageModel.load(source, load).to(device)


def _translator(
    given: Mapping[str, Any], codes: Sequence[str], load: LoadOptions, device: str
) -> Translator:
    """The translator, and whether it has the languages; no weights are read yet."""
    from layerbridge.evaluation.translation import Translator

    numbers = {
        "num_beams": given["--num-beams"],
        "max_new_tokens": given["--max-new-tokens"],
        "batch_size": given["--translator-batch-size"],
    }
    translator = Translator(
        given["--translator"],
        options=load,
        device=device,
        revision=given["--translator-revision"],
        folder=given["--translations"],
        **{name: number for name, number in numbers.items() if number is not None},
    )
    translator.check(code for code in codes if code != "en")
    return translator
