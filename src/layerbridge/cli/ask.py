"""``layerbridge ask``: one answer from a trained bridge."""

from __future__ import annotations

import json
import sys

import typer


def ask(
    run: str = typer.Argument(..., help="The run's folder, or a hub id."),
    texts: list[str] = typer.Argument(None, help="Texts; from stdin, a line each, if none."),
    options: str | None = typer.Option(
        None, help="Label words with commas; the bridge's own if it has any."
    ),
    generate: bool = typer.Option(
        False, "--generate", help="Let it answer freely, though it has label words."
    ),
    instruction: str | None = typer.Option(None, help="English text for the language model."),
    max_new_tokens: int = typer.Option(64, min=1, help="Of a free answer."),
    dtype: str = typer.Option("auto", help="Of the backbones."),
    device: str | None = typer.Option(None, help="cpu, cuda, …; the best there is if not given."),
    revision: str | None = typer.Option(None, help="Of a bridge on the hub."),
    trust_remote_code: bool = typer.Option(False, "--trust-remote-code"),
    allow_pickle: bool = typer.Option(False, "--allow-pickle"),
    as_json: bool = typer.Option(False, "--json", help="One JSON object a text."),
) -> None:
    """Ask a bridge: the best of the options, or a free answer."""
    from layerbridge.errors import DataError
    from layerbridge.models.backbone import choose_device
    from layerbridge.models.bridge import LayerBridge

    asked = list(texts or []) or [line.rstrip("\n") for line in sys.stdin]
    if not asked:
        raise DataError("there is no text", allowed='layerbridge ask RUN "text", or lines on stdin')
    bridge = LayerBridge.from_pretrained(
        run,
        revision=revision,
        dtype=dtype,
        device=choose_device(device),
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
    )
    words = [word.strip() for word in options.split(",")] if options else bridge.config.options
    if words and not generate:
        for text, answer in zip(
            asked, bridge.classify(asked, words, instruction=instruction), strict=True
        ):
            if as_json:
                record = {
                    "text": text,
                    "answer": answer.choice,
                    "probabilities": answer.probabilities,
                    "scores": answer.scores,
                }
                print(json.dumps(record, ensure_ascii=False))
            else:
                print(f"{answer.choice}\t{answer.probabilities[answer.choice]:.3f}\t{text}")
        return
    answers = bridge.generate_text(asked, max_new_tokens=max_new_tokens, instruction=instruction)
    for text, free in zip(asked, answers, strict=True):
        record = {"text": text, "answer": free}
        print(json.dumps(record, ensure_ascii=False) if as_json else free)
