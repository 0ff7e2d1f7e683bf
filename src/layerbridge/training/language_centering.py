"""Language means of a run: those of its English rows, and of other languages' unlabeled text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from layerbridge import tasks
from layerbridge.errors import ConfigError
from layerbridge.models import fusion
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.backbone_pair import identified_source, options_for
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.centering import Centering, CenteringSettings
from layerbridge.models.checkpoint import read_config
from layerbridge.models.config import BridgeConfig
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_means import (
    ENGLISH,
    FILE,
    MOST_TEXTS,
    LanguageMean,
    LanguageMeans,
    TextMeans,
)
from layerbridge.progress import meter, say
from layerbridge.tasks.languages import own_code
from layerbridge.tasks.unlabeled import read_texts, text_files

Texts = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Added:
    """What is known of a language that was added.

    Attributes:
        language: its code.
        texts: that were read.
        tokens: that were read.
        shrinkage: mean over the layers that are moved: 1 for the whole shift, 0 for none.
        recognized: part of the texts whose nearest mean is the language's, each compared with the
            mean of the others; None for a single text.
    """

    language: str
    texts: int
    tokens: int
    shrinkage: float
    recognized: float | None


def measure(
    encoder: Encoder,
    means: LanguageMeans,
    texts: Texts,
    *,
    most: int = MOST_TEXTS,
    settings: CenteringSettings | None = None,
) -> tuple[LanguageMeans, list[Added]]:
    """Returns the means with those of these texts added, and what is known of each.

    Args:
        encoder: with the limit and the template's end of the bridge.
        means: with the layers; languages that are there are replaced.
        texts: by language, as the bridge reads them.
        most: texts to read of each language.
        settings: of the centering; None takes those in ``means``.
    """
    read: dict[str, TextMeans] = {}
    for language, of_language in texts.items():
        with meter(f"mean of {language}") as bar:
            what = f"mean of {language}"
            found = TextMeans.read(
                encoder, of_language, means.layers, most=most, what=what, bar=bar
            )
        means = means.with_language(language, LanguageMean.of(found))
        code = means.code(language)
        assert code is not None
        read[code] = found
    centering = Centering(means, encoder.num_layers, settings)
    return centering.means, [_added(centering, code, found) for code, found in read.items()]


def _added(centering: Centering, code: str, found: TextMeans) -> Added:
    mean = centering.means.by_code[code]
    recognized = None
    if mean.texts > 1:
        # A text is nearer to a mean that it is part of.
        told = centering.nearest_of(found.of_texts.float(), {code: found.without_each().float()})
        recognized = told.count(code) / len(told)
    shrinkage = 1.0 if code == centering.means.code(ENGLISH) else centering.shrinkage(code).mean()
    return Added(code, mean.texts, mean.tokens, float(shrinkage), recognized)


def center_run(
    run: Path,
    texts: Mapping[str, str | Path | list[str]] | None = None,
    *,
    template: str | None = None,
    most: int = MOST_TEXTS,
    changes: Mapping[str, Any] | None = None,
    options: LoadOptions | None = None,
) -> tuple[LanguageMeans, list[Added]]:
    """Adds languages to a run, or changes how their means are used, and writes its file.

    Args:
        run: a folder with a trained bridge.
        texts: language → file, as ``layerbridge.tasks.unlabeled.read_texts`` reads it; or texts as
            the bridge reads them.
        template: of the files; None takes the run's.
        most: texts to read of each language.
        changes: of ``CenteringSettings``; the others stay as they are.
        options: how to load the encoder; the language model is not needed.

    Raises:
        ConfigError: English has no mean and no text, or a setting does not fit.
        DataError: texts cannot be read.
        CheckpointError: there is no bridge, or its language means are damaged.
    """
    if not run.is_dir():
        raise ConfigError(
            f"{str(run)!r} is not a folder of this machine, and its language means are written "
            "there",
            hint="download the bridge first",
        )
    config, folder = read_config(str(run))
    texts = dict(texts or {})
    template = config.template if template is None else template
    rendered = {
        code: given if isinstance(given, list) else read_texts(given, template)
        for code, given in texts.items()
    }
    source = identified_source(config, "encoder")
    known = LanguageMeans.read(folder) if (folder / FILE).is_file() else None
    encoder = None
    if rendered or known is None:
        encoder = bridge_encoder(
            config, Encoder.load(source, options_for(config, options or LoadOptions()))
        )
    if known is None:
        assert encoder is not None
        known = LanguageMeans(_layers(config, encoder), encoder=config.encoder_fingerprint)
    layers = known.layers if encoder is None else _layers(config, encoder)
    num_layers = config.encoder_layers or 0
    known.check(layers, config.encoder_width or 0, config.encoder_fingerprint, str(folder))
    codes = [*known.by_code, *rendered]
    if own_code(ENGLISH, codes) not in codes:
        raise ConfigError(
            f"{str(run)!r} has no mean of English, to which other languages are moved",
            hint=f"layerbridge center {run} --language {ENGLISH} --text FILE, with texts like "
            "those of training",
        )
    before = asdict(CenteringSettings.of(known.settings))
    settings = CenteringSettings(**{**before, **(changes or {})})
    added: list[Added] = []
    if encoder is None:
        means = Centering(known, num_layers, settings).means
    else:
        means, added = measure(encoder, known, rendered, most=most, settings=settings)
    means.write(folder)
    return means, added


def training_means(
    bridge: LayerBridge, english: Sequence[str], folder: str | None, template: str | None
) -> LanguageMeans:
    """Returns the means of a run's English texts, and of the languages of a folder.

    Args:
        bridge: untrained; its encoder is frozen.
        english: texts of the training rows.
        folder: with a file for each language; one of English is not read. None for none.
        template: of the texts.
    """
    means = LanguageMeans(
        tuple(bridge.fusion.required_layers), encoder=bridge.config.encoder_fingerprint
    )
    texts: dict[str, Sequence[str]] = {ENGLISH: english}
    for code, file in (text_files(folder) if folder is not None else {}).items():
        if own_code(code, (ENGLISH,)) == ENGLISH:
            say(f"{file} is not read: the mean of English is that of the training rows")
        else:
            texts[code] = read_texts(file, template)
    return measure(bridge.encoder, means, texts)[0]


def task_texts(name: str, languages: Sequence[str] | None) -> dict[str, list[str]]:
    """Returns texts of a task's rows: in English those of training, in other languages of test.

    Args:
        name: of the task, such as ``names``, which Babel has in over a hundred languages.
        languages: codes; None for all of the task's.

    Raises:
        DataError: the task has no rows in a language.
    """
    task = tasks.get(name)
    codes = [task.check_language(code) for code in languages or task.languages]
    found = {}
    for code in codes:
        rows = task.train() if own_code(code, (ENGLISH,)) == ENGLISH else task.test(code)
        found[code] = [row.text for row in rows]
    say(
        f"texts are those of the test rows of {task.name}, but for English: an evaluation on them "
        "is transductive"
    )
    return found


def bridge_encoder(config: BridgeConfig, encoder: Encoder) -> Encoder:
    """Returns the encoder with the settings of a trained bridge."""
    return encoder.with_settings(
        max_text_tokens=config.max_text_tokens,
        embedding_layer=config.embedding_layer,
        template=config.template or "",
    )


def _layers(config: BridgeConfig, encoder: Encoder) -> tuple[int, ...]:
    strategy = fusion.build(
        config.fusion,
        num_layers=encoder.num_layers,
        width=encoder.width,
        start=config.start,
        normalize=config.normalize,
        **(config.fusion_options or {}),
    )
    return tuple(strategy.required_layers)
