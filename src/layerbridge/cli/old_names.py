"""Old names of flags and methods: accepted for one version, with a note on stderr."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from layerbridge.progress import say

REMOVED_IN = "0.3"

_FOLDER = {"--output-dir": "--output"}
_BENCH = {"--batch": "--batch-size", "--text": "--data"}

# Verb → old word → new words. RUN stands for the option's value, as an argument.
RENAMED: dict[str, dict[str, str]] = {
    "demo": _FOLDER,
    "train": _FOLDER,
    "evaluate": {"--normalize": "--length-normalization", "--seed": "--training-seed"},
    "baseline": {
        "floor": "tf-idf",
        "lm-alone": "zero-shot-lm",
        "lm-few-shot": "few-shot-lm",
    },
    "ask": {"--generate": "--protocol generate"},
    "chat": {"--history": "--save-history", "--no-history": "--no-save-history"},
    "serve": {"--max-batch": "--max-batch-size"},
    "compare": {"--these-seeds": "--no-seed-variance"},
    "plot": _FOLDER,
    "reproduce": _FOLDER,
    "bench": {"levers": "optimizations"},
    "bench train": {
        **_BENCH,
        "--levers": "--optimizations",
        "--waterfall": "--ablate",
    },
    "bench evaluate": {"--run": "RUN", "--batch": "--batch-size"},
    "bench memory": _BENCH,
    "bench latency": {"--new-tokens": "--max-new-tokens"},
    "bench serve": {
        "--text": "--data",
        "--max-tokens": "--max-new-tokens",
        "--alone": "--vllm-alone",
        "--no-alone": "--no-vllm-alone",
    },
}


def with_new_names(words: Sequence[str]) -> list[str]:
    """Returns a command line with the new names; each old one is noted on stderr."""
    result = list(words)
    for depth in (1, 2):
        verb = result[:depth]
        renamed = RENAMED.get(" ".join(verb), {})
        result = [*verb, *_replaced(result[depth:], renamed)]
    return result


def _replaced(words: Sequence[str], renamed: Mapping[str, str]) -> Iterator[str]:
    previous = ""
    for position, word in enumerate(words):
        if word == "--":
            yield from words[position:]
            return
        name, equals, value = word.partition("=")
        new = renamed.get(name)
        # A word without dashes may be the value of the option before it.
        if new is None or (not name.startswith("-") and previous.startswith("-")):
            yield word
        else:
            say(
                f"note: {name} is now {new} for this command; "
                f"the old name will be removed in {REMOVED_IN}"
            )
            if new != "RUN":
                yield from new.split() if not equals else [f"{new}={value}"]
            elif equals:
                yield value
        previous = word
