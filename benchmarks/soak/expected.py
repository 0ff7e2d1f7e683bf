"""Questions and the library's answers, computed before the load starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import transformers

from layerbridge.benchmarking.serve_texts import texts
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.bridge import LayerBridge
from layerbridge.progress import meter
from layerbridge.serving.bridges import Bridges

SHORT, LONG = 6, 48
BATCH = 16
# Closer logits may change their order with the batch in which they are computed.
UNDECIDED = 0.02
OPTIONS = ["country", "currency", "time zone", "a language"]
# Numbers of options, and of words in each: from two words to what the server lets through.
SIZES = ((2, 1), (1, 40), (5, 12), (40, 2), (256, 1), (12, 60))
SIZED = 2  # questions with all of them
INSTRUCTIONS = (None, " is the", " The code word is violet. The", " Seven green boats, and")


@dataclass(frozen=True)
class Expected:
    """The library's answer to a text, token by token."""

    text: str
    instruction: str | None
    prefixes: tuple[str, ...]  # the text of no tokens, of the first, of the first two, …
    ends_at: int | None  # tokens before the first that ends an answer
    scores: dict[str, float]
    tokens: list[str]
    # Options of all sizes with their scores; only some questions have any.
    sized: tuple[dict[str, float], ...] = ()

    @property
    def most(self) -> int:
        """Returns the number of certain tokens."""
        return len(self.prefixes) - 1


def library(run: str, count: int) -> tuple[str, list[Expected]]:
    """Returns the bridge's name and questions with different answers, about ``count`` or more."""
    transformers.utils.logging.set_verbosity_error()  # it warns of the impossible EOS token
    bridges = Bridges.load([run], LoadOptions("float32"))
    ((name, bridge),) = bridges.items()
    # At least as long as the encoder's limit.
    long = [("long " * 200 + text)[:19_000] for text in texts(4)]
    long += [(text * 200)[:19_000] for text in texts(2)]
    found: dict[str, Expected] = {}
    with meter("computing the expected answers") as bar:
        for turn, instruction in enumerate(INSTRUCTIONS):
            asked = [*(texts(count) if len(found) < count else ()), *(long if turn < 2 else ())]
            for at in range(0, len(asked), BATCH):
                bar.update(turn * len(asked) + at, len(INSTRUCTIONS) * len(asked))
                for expected in answers(bridge, asked[at : at + BATCH], instruction):
                    found.setdefault(expected.prefixes[SHORT].strip(), expected)
    found.pop("", None)
    questions = list(found.values())
    short = sorted(questions, key=lambda one: len(one.text))[:SIZED]
    return name, [with_sizes(bridge, one) if one in short else one for one in questions]


def with_sizes(bridge: LayerBridge, question: Expected) -> Expected:
    """Returns the question with options of all sizes."""
    words = " ".join(texts(SIZED)).split()
    sized = []
    for count, length in SIZES:
        wording = [" ".join((words * length)[n : n + length])[:480] for n in range(count)]
        options = [f"{number} {each}" for number, each in enumerate(wording)]
        (choice,) = bridge.classify([question.text], options, instruction=question.instruction)
        sized.append(choice.scores)
    return replace(question, sized=tuple(sized))


@torch.no_grad()
def answers(
    bridge: LayerBridge, asked: Sequence[str], instruction: str | None
) -> Iterator[Expected]:
    """Yields the library's answer to each text, up to the first near-tie."""
    language_model = bridge.language_model
    stops, tokenizer = set(language_model.stop_token_ids()), language_model.tokenizer
    written = bridge.generate(
        hidden_states=bridge.encode(asked),
        instruction=instruction,
        max_new_tokens=LONG,
        do_sample=False,
        eos_token_id=[-1],
        return_dict_in_generate=True,
        output_logits=True,
    )
    best = torch.stack(written.logits, 1).float().topk(2).values
    decided = (best[..., 0] - best[..., 1] > UNDECIDED).tolist()
    choices = bridge.classify(asked, OPTIONS, instruction=instruction)
    weights = bridge.layer_weights(asked)
    for place, text in enumerate(asked):
        ids = written.sequences[place].tolist()[: [*decided[place], False].index(False)]
        if len(ids) < SHORT:
            continue
        prefixes = tuple(
            tokenizer.decode(ids[:end], skip_special_tokens=True) for end in range(len(ids) + 1)
        )
        ends_at = next((place for place, id in enumerate(ids) if id in stops), None)
        scores, tokens = choices[place].scores, weights[place].tokens
        yield Expected(text, instruction, prefixes, ends_at, scores, tokens)
