"""Labels: a classification as the events of a completion that can only be one of the options.

Legend: O options.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from layerbridge.models.inference import Classification
from layerbridge.serving.decoding import Row, draw
from layerbridge.serving.requests import Event, Finished, Sampling, Started, Token


@dataclass(frozen=True)
class Ranking:
    """What an engine has found out about a question.

    Attributes:
        classification: the answer.
        ids: the tokens of each of the O options, EOS included.
        prompt_tokens: of the language model's input, without the options.
    """

    classification: Classification
    ids: Sequence[Sequence[int]]
    prompt_tokens: int


def label_events(ranking: Ranking, sampling: Sampling) -> Iterator[Event]:
    """Yields the events of a completion that is one of the options.

    Temperature 0 takes the best option. Above, options are drawn by their probabilities, as tokens
    are: p(option) ^ (1 / temperature), within top-p. Log-probabilities of tokens are those among
    the options: their sum is log p(option), and the alternatives are the next tokens of other
    options. An option with more than ``max_tokens`` tokens is cut.
    """
    found = ranking.classification
    scores = torch.tensor(list(found.scores.values()))
    index = int(scores.argmax())
    if sampling.temperature > 0:
        index = draw(scores, Row(sampling))
    yield Started(ranking.prompt_tokens, found)
    label = list(ranking.ids[index])
    probabilities = list(found.probabilities.values())
    for place, id in enumerate(label[:-1][: sampling.max_tokens]):
        if sampling.logprobs is None:
            yield Token(id)
            continue
        logprobs = _next(ranking.ids, probabilities, label[:place])
        top = sorted(logprobs.items(), key=lambda pair: -pair[1])[: sampling.logprobs]
        yield Token(id, logprobs[id], tuple(top))
    yield Finished("stop" if len(label) - 1 <= sampling.max_tokens else "length")


def _next(
    ids: Sequence[Sequence[int]], probabilities: Sequence[float], prefix: list[int]
) -> dict[int, float]:
    """Returns token → log p(token | prefix, one of the options)."""
    shares: dict[int, float] = defaultdict(float)
    for option, probability in zip(ids, probabilities, strict=True):
        if len(option) > len(prefix) and list(option[: len(prefix)]) == prefix:
            shares[option[len(prefix)]] += probability
    total = math.fsum(shares.values())
    return {id: math.log(share / total) if share > 0 else -math.inf for id, share in shares.items()}
