"""``layerbridge ask``: answers from a trained bridge."""

from __future__ import annotations

import json

import typer

from layerbridge.cli import options as o
from layerbridge.cli.text_input import stdin_lines
from layerbridge.cli.values import label_words, load_bridge
from layerbridge.progress import say


def ask(
    context: typer.Context,
    run: o.RunFolder,
    texts: list[str] | None = o.argument(None, "TEXT", "Texts; lines of stdin if omitted."),
    labels: o.Labels = None,
    protocol: str | None = o.option(
        None, "score (rank label words) or generate (free text); score if there are label words."
    ),
    instruction: o.Instruction = None,
    language: str | None = o.option(
        None,
        "Language of the texts, for a run with language means; told by the nearest if omitted.",
    ),
    max_new_tokens: o.MaxNewTokens = 64,
    dtype: o.Dtype = "auto",
    device: o.Device = None,
    load_in_4bit: o.LoadIn4Bit = False,
    load_in_8bit: o.LoadIn8Bit = False,
    unquantized: o.Unquantized = False,
    device_map: o.DeviceMap = None,
    encoder_device: o.EncoderDevice = None,
    revision: o.Revision = None,
    trust_remote_code: o.TrustRemoteCode = False,
    allow_pickle: o.AllowPickle = False,
    as_json: o.Json = False,
) -> None:
    """Ask a bridge for a label word, or for generated text.

    A text for which no label word is likely is marked "far from training" in place of the
    probability.
    """
    from layerbridge.cli.far_texts import FarTexts, sureness
    from layerbridge.errors import ConfigError, DataError
    from layerbridge.evaluation.evaluator import PROTOCOLS
    from layerbridge.training.text_counts import input_notes

    if protocol not in (None, *PROTOCOLS):
        raise ConfigError(f"unknown protocol {protocol!r}", allowed=PROTOCOLS)
    words = label_words(labels)
    questions = list(texts or []) or list(stdin_lines())
    if not questions:
        raise DataError("no text given", allowed='layerbridge ask RUN "text", or lines on stdin')
    bridge = load_bridge(run, context.params)
    words = words or bridge.config.options
    for line in input_notes(questions, bridge.encoder):
        say(line)
    protocol = protocol or ("score" if words else "generate")
    if protocol == "score":
        found = bridge.classify(questions, words, instruction=instruction, language=language)
        far = FarTexts()
        for text, answer in zip(questions, found, strict=True):
            far.add(answer)
            if as_json:
                record = {
                    "text": text,
                    "answer": answer.choice,
                    "probabilities": answer.probabilities,
                    "scores": answer.scores,
                    "any_option": answer.any_option,
                    "far_from_training": answer.far_from_training,
                }
                print(json.dumps(record, ensure_ascii=False))
            else:
                print(f"{answer.choice}\t{sureness(answer)}\t{text}")
        far.say()
        return
    answers = bridge.generate_text(
        questions, max_new_tokens=max_new_tokens, instruction=instruction, language=language
    )
    for text, generated in zip(questions, answers, strict=True):
        record = {"text": text, "answer": generated}
        print(json.dumps(record, ensure_ascii=False) if as_json else generated)
