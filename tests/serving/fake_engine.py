"""An engine that answers as it is told to, at once or slowly, and counts who left it."""

import asyncio
from types import SimpleNamespace

import torch

import tiny
from layerbridge.errors import DataError
from layerbridge.hub.sources import Source
from layerbridge.models.config import BridgeConfig
from layerbridge.models.inference import LayerWeights, classification
from layerbridge.serving.bridges import Bridges
from layerbridge.serving.engine import EngineDownError, Load
from layerbridge.serving.labels import Ranking, label_events
from layerbridge.serving.requests import Finished, Started, Token
from layerbridge.training.examples import Example

TOKENIZER = tiny.byte_level(tiny.LLAMA_SPECIALS, "<|begin|> $A")
OPTIONS = ["country", "currency"]


def ids_of(text):
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


def make_bridges():
    language_model = SimpleNamespace(tokenizer=TOKENIZER)
    settings = {
        "demo": {"encoder": "zoo:multilingual-e5-small", "encoder_layers": 3},
        "runs/two": {
            **{"encoder": "google/mt5-small", "fusion": "last", "instruction": "Answer."},
            **{"options": OPTIONS, "usual_any_option": 0.9},
        },
    }
    bridges = {
        name: SimpleNamespace(
            config=BridgeConfig(language_model="/home/someone/models/llama", **own),
            language_model=language_model,
        )
        for name, own in settings.items()
    }
    examples = {"runs/two": [Example("ශ්‍රී", "currency", "si")]}
    return Bridges(bridges, Source("llama", "folder", "llama"), examples)


def echo(ask):
    """What tells one answer from another."""
    return f"{ask.text}|{ask.instruction}|{ask.sampling.seed}"


def ranked(bridge, options):
    """The first option is the best; two together have a probability of 0.503."""
    usual = make_bridges()[bridge].config.usual_any_option
    return classification(options, -torch.arange(1.0, len(options) + 1), usual=usual)


class FakeEngine:
    """Args:
    write: Prompt → the text it answers, or the token ids.
    pause_s: before each token.
    start_s: until it is ready.
    fails: token number → what is raised in its place; -1 is before it begins.
    """

    name = "fake"
    lost = None

    def __init__(self, write=echo, *, pause_s=0.0, start_s=0.0, fails=None):
        self.bridges = make_bridges()
        self.write = write
        self.pause_s = pause_s
        self.start_s = start_s
        self.fails = fails or {}
        self.state = "starting"
        self.asks = []
        self.questions = []
        self.running = 0
        self.most_running = 0
        self.left = 0
        self.stopped = False

    @property
    def load(self):
        return Load(waiting=7, running=self.running)

    async def start(self):
        await asyncio.sleep(self.start_s)
        if isinstance(self.fails.get("start"), Exception):
            raise self.fails["start"]
        self.state = "ready"

    async def stop(self):
        self.stopped = True
        self.state = "down"

    async def generate(self, ask):
        self.asks.append(ask)
        self._fail(-1)
        over = False
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if ask.options is not None:
                ids = [[*ids_of(option), TOKENIZER.eos_token_id] for option in ask.options]
                found = Ranking(ranked(ask.bridge, ask.options), ids, len(ask.text) + 1)
                for event in label_events(found, ask.sampling):
                    await asyncio.sleep(self.pause_s)
                    yield event
                over = True
                return
            written = self.write(ask)
            ids = ids_of(written) if isinstance(written, str) else written
            most = ask.sampling.max_tokens
            yield Started(prompt_tokens=len(ask.text) + 1)
            for place, id in enumerate(ids[:most]):
                await asyncio.sleep(self.pause_s)
                self._fail(place)
                yield self._token(id, ask.sampling.logprobs)
            over = True
            yield Finished("length" if len(ids) > most else "stop")
        finally:
            self.running -= 1
            self.left += not over

    def _token(self, id, logprobs):
        if logprobs is None:
            return Token(id)
        top = tuple((other, -0.5 - place) for place, other in enumerate([id, *range(10, 30)]))
        return Token(id, -0.5, top[:logprobs])

    async def classify(self, question):
        self.questions.append(question)
        await self._work()
        options = question.options or OPTIONS
        if len(set(options)) != len(options):
            raise DataError("duplicate option", allowed="each option once")
        return ranked(question.bridge, options)

    async def layer_weights(self, bridge, text):
        await self._work()
        tokens = ["<s>", *text.split(), "</s>"]
        weights = torch.arange(1.0, 4.0).expand(len(tokens), 3) / 6
        return LayerWeights(tokens, weights)

    async def _work(self):
        self._fail(-1)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        over = False
        try:
            await asyncio.sleep(self.pause_s)
            over = True
        finally:
            self.running -= 1
            self.left += not over

    def _fail(self, place):
        if place in self.fails:
            error = self.fails[place]
            if error is EngineDownError:
                self.state = "down"
            raise error("/secret/path" if error is EngineDownError else "secret")
