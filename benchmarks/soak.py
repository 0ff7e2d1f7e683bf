"""Ten minutes of mixed load on ``layerbridge serve``: no leak, no lost or mixed-up reply.

    python benchmarks/soak.py runs/demo/token-softmax > benchmarks/results/cpu/soak.json
    python benchmarks/soak.py RUN --engine vllm --python .venv-vllm/bin/python

Sixty-four clients ask short and long questions, in all the ways there are, and some of them behave
badly: bodies too long or half sent, bad JSON, unknown models, too many options, readers that leave
or dawdle. Each greedy reply must be what the library writes to that very text and instruction,
computed beforehand, and no two of those are alike; where the library itself was nearly undecided
between two tokens, no more is asked for. At the end the engine's own process is killed, if it has
one, and has to come back; then SIGTERM comes under full load: what runs ends, what comes is told
503, and the exit code is 0. What follows ``--`` goes to ``layerbridge serve``.

The last line of stdout is one JSON document; the exit code is 1 if anything went wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from layerbridge.backbone import LoadOptions, choose_device
from layerbridge.benchmarking.measure import machine
from layerbridge.benchmarking.serve_client import Connection, LostError, Reply
from layerbridge.benchmarking.serve_process import Server
from layerbridge.benchmarking.serve_texts import texts
from layerbridge.model import LayerBridge
from layerbridge.progress import meter, say
from layerbridge.serving.bridges import Bridges, names

SHORT, LONG = 6, 48
BATCH = 16
# Logits nearer to each other than that may change places with the batch that they are computed in.
UNDECIDED = 0.02
OPTIONS = ["country", "currency", "time zone", "a language"]
INSTRUCTIONS = (None, " is the", " The code word is violet. The", " Seven green boats, and")
# Scores of log-probabilities, computed in another batch.
SCORE_TOLERANCE = 2e-2

WARM_UP = 0.25  # of the time, in which memory may grow
WINDOWS = 4
FLAT = 0.03
TIMEOUT_S = 300
# Longer than the server may take: whoever waits so long waits in vain.
LOST_S = TIMEOUT_S + 60
DRAIN_S = 120
RESTART_S = 300
MIB = 2**20
TOLD_FAILURES = 20


@dataclass(frozen=True)
class Expected:
    """What the library answers to a text, token by token."""

    text: str
    instruction: str | None
    prefixes: tuple[str, ...]  # the text of no tokens, of the first, of the first two, …
    ends_at: int | None  # tokens before the first that ends an answer
    scores: dict[str, float]
    tokens: list[str]

    @property
    def most(self) -> int:
        """How many tokens are certain."""
        return len(self.prefixes) - 1


def library(run: str, count: int) -> tuple[str, list[Expected]]:
    """The bridge's name, and so many questions at least, no two of which are answered alike."""
    transformers.utils.logging.set_verbosity_error()  # it warns of an end token that there is not
    bridges = Bridges.load([run], LoadOptions("float32"))
    ((name, bridge),) = bridges.items()
    # As long as the encoder reads, or longer.
    long = [("long " * 200 + text)[:19_000] for text in texts(4)]
    long += [(text * 200)[:19_000] for text in texts(2)]
    found: dict[str, Expected] = {}
    with meter("the library answers") as bar:
        for turn, instruction in enumerate(INSTRUCTIONS):
            asked = [*(texts(count) if len(found) < count else ()), *(long if turn < 2 else ())]
            for at in range(0, len(asked), BATCH):
                bar.update(turn * len(asked) + at, len(INSTRUCTIONS) * len(asked))
                for expected in answers(bridge, asked[at : at + BATCH], instruction):
                    found.setdefault(expected.prefixes[SHORT].strip(), expected)
    found.pop("", None)
    return name, list(found.values())


@torch.no_grad()
def answers(
    bridge: LayerBridge, asked: Sequence[str], instruction: str | None
) -> Iterator[Expected]:
    """What the library says to each, as far as it was decided."""
    language_model = bridge.language_model
    stops, tokenizer = set(language_model.stops()), language_model.tokenizer
    written = bridge.generate(
        layer_states=bridge.encode(asked),
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


class DrainingError(Exception):
    """The server told that it is about to stop, as it should."""


class LeftError(Exception):
    """This client leaves, as it meant to."""


class WrongError(Exception):
    """A reply is not what it should be."""


@dataclass
class Tally:
    """What was seen."""

    kinds: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    tokens: int = 0

    def fail(self, what: str, detail: str) -> None:
        """Counts something that must not be."""
        self.counts[what] += 1
        if len(self.failures) < TOLD_FAILURES:
            self.failures.append(f"{what}: {detail}"[:600])


class Client:
    """One of many; it asks at random, and knows what the answers must be."""

    def __init__(self, soak: Soak, number: int) -> None:
        self.soak = soak
        self.tally = soak.tally
        self.random = random.Random(number)
        self.connection = Connection(soak.url)
        self.sent = 0.0

    async def run(self) -> None:
        """Asks until the server has gone."""
        kinds = list(KINDS)
        weights = [KINDS[kind][0] for kind in kinds]
        while not self.soak.is_over:
            (kind,) = self.random.choices(kinds, weights)
            self.sent = time.monotonic()
            self.soak.in_flight += 1
            try:
                async with asyncio.timeout(LOST_S):
                    await KINDS[kind][1](self)
                self.tally.kinds[kind] += 1
            except DrainingError:
                self.tally.counts["draining_503"] += 1
                await asyncio.sleep(0.1)
            except LeftError:
                self.tally.kinds[kind] += 1
            except WrongError as error:
                self.tally.fail("wrong", f"{kind}: {error}")
            except TimeoutError:
                self.tally.fail("lost", f"{kind}: no reply in {LOST_S} s")
            except OSError as error:
                if await self._turned_away(kind, error):
                    return
            except (ValueError, LookupError, TypeError) as error:
                self.tally.fail("wrong", f"{kind}: a reply of another form ({error!r})")
            finally:
                self.soak.in_flight -= 1
        self.connection.close()

    async def _turned_away(self, kind: str, error: OSError) -> bool:
        """Whether the server has gone; what it had taken in before must have been answered.

        But whoever still sends a body that nobody wants may miss the reply to it.
        """
        signalled = self.soak.signalled
        if signalled is None or (self.sent < signalled and kind != "oversize"):
            self.tally.fail("lost", f"{kind}: {type(error).__name__} {error}")
            await asyncio.sleep(0.1)
            return False
        self.tally.counts["turned_away"] += 1
        if isinstance(error, ConnectionRefusedError):
            return True
        await asyncio.sleep(0.1)
        return False

    # --- how to ask -----------------------------------------------------------------------------

    async def ask(self, path: str, body: Any, status: int = 200) -> Reply:
        """The reply, which must have this status."""
        while True:
            self.sent = time.monotonic()
            reply = await self.connection.post(path, body)
            if self.seen(reply, status):
                return reply
            await asyncio.sleep(0.2 + self.random.random())  # it was busy

    def seen(self, reply: Reply, status: int) -> bool:
        """Whether it is the reply; false if the server was busy."""
        self.tally.statuses[str(reply.status)] += 1
        told = reply.body[:300].decode(errors="replace")
        if reply.status == 503 and self.soak.signalled is not None:
            if not reply.headers.get("retry-after") or '"draining"' not in told:
                raise WrongError(f"503 without Retry-After or reason: {told}")
            raise DrainingError
        if reply.status >= 500:
            self.tally.fail("server_errors", f"{reply.status} {told}")
        if reply.status == 429 and status != 429:
            return False
        if reply.status != status:
            raise WrongError(f"status {reply.status} and not {status}: {told}")
        if status >= 400 and not reply.json()["error"]["message"]:
            raise WrongError(f"an error without a message: {told}")
        return True

    def choose(self, most: int | None = None) -> tuple[Expected, int]:
        """A question, and how many tokens to ask for."""
        expected = self.random.choice(self.soak.expected)
        return expected, min(most or self.random.randint(SHORT, LONG), expected.most)

    def body(self, expected: Expected, tokens: int, **settings: Any) -> dict[str, Any]:
        """A request for completions."""
        return {
            "model": self.soak.model,
            "prompt": expected.text,
            "instruction": expected.instruction,
            "max_tokens": tokens,
            "ignore_eos": True,
            "user": f"{expected.text[:20]} {tokens}",
            "stream_options": {"include_usage": True},
            **settings,
        }

    def check(self, told: str, expected: Expected, wanted: str) -> None:
        """Whether a text is the very request's."""
        if told == wanted:
            return
        begins = told.strip()
        for other in self.soak.expected:
            if other is not expected and begins.startswith(other.prefixes[SHORT].strip()):
                self.tally.fail("mixed_up", f"{told!r} for {wanted!r}")
                return
        raise WrongError(f"{told!r} and not {wanted!r}")

    def choices(self, reply: Reply, count: int) -> list[str]:
        """The texts of a reply, streamed or not, by their index."""
        written = [""] * count
        if not reply.events:
            found = reply.json()
            self._id(found["id"])
            if [choice["index"] for choice in found["choices"]] != list(range(count)):
                raise WrongError(f"choices {found['choices']}")
            self.tally.tokens += found["usage"]["completion_tokens"]
            return [_written(choice) for choice in found["choices"]]
        if not reply.is_whole:
            raise LostError(f"a stream without an end after {len(reply.events)} events")
        chunks = [chunk for _, chunk in reply.chunks()]
        for chunk in chunks:
            if "error" in chunk:
                self.tally.fail("server_errors", f"in a stream: {chunk['error']}")
                raise WrongError("a stream that ended with an error")
            for choice in chunk["choices"]:
                written[choice["index"]] += _written(choice)
        if len({chunk["id"] for chunk in chunks}) != 1:
            raise WrongError("a stream with more than one id")
        self._id(chunks[0]["id"])
        self.tally.tokens += (chunks[-1].get("usage") or {}).get("completion_tokens", 0)
        return written

    def _id(self, name: str) -> None:
        if name in self.tally.ids:
            raise WrongError(f"the id {name} came twice")
        self.tally.ids.add(name)

    # --- what is asked --------------------------------------------------------------------------

    async def completion(self, most: int | None = None, **settings: Any) -> None:
        """One text, greedy."""
        expected, tokens = self.choose(most)
        reply = await self.ask("/v1/completions", self.body(expected, tokens, **settings))
        count = settings.get("n", 1)
        for told in self.choices(reply, count):
            self.check(told, expected, expected.prefixes[tokens])

    async def short(self) -> None:
        """A few tokens."""
        await self.completion(SHORT)

    async def streamed(self) -> None:
        """As many as there may be, streamed."""
        await self.completion(stream=True)

    async def several(self) -> None:
        """More than one answer to a text; greedy ones are alike."""
        await self.completion(n=3, stream=self.random.random() < 0.5)

    async def many_texts(self) -> None:
        """More than one text, each with its own answer."""
        found = [self.choose(SHORT)[0] for _ in range(4)]
        found = [one for one in found if one.instruction == found[0].instruction]
        body = self.body(found[0], SHORT, prompt=[one.text for one in found])
        reply = await self.ask("/v1/completions", body)
        for told, expected in zip(self.choices(reply, len(found)), found, strict=True):
            self.check(told, expected, expected.prefixes[SHORT])

    async def long_text(self) -> None:
        """The longest there are."""
        expected = self.random.choice(self.soak.longest)
        reply = await self.ask("/v1/completions", self.body(expected, expected.most, stream=True))
        self.check(self.choices(reply, 1)[0], expected, expected.prefixes[-1])

    async def chat(self) -> None:
        """The same questions as a chat."""
        expected, tokens = self.choose()
        messages = [{"role": "user", "content": expected.text}]
        if expected.instruction is not None:
            messages.insert(0, {"role": "system", "content": expected.instruction})
        body = {
            "model": self.soak.model,
            "messages": messages,
            "max_tokens": tokens,
            "ignore_eos": True,
            "stream": self.random.random() < 0.5,
            "stream_options": {"include_usage": True},
        }
        reply = await self.ask("/v1/chat/completions", body)
        self.check(self.choices(reply, 1)[0], expected, expected.prefixes[tokens].lstrip())

    async def stopped(self) -> None:
        """Until a string of the answer."""
        expected, tokens = self.choose()
        whole = expected.prefixes[tokens]
        middle = whole[len(whole) // 2 :][:4]
        if not middle or "\ufffd" in middle:
            middle = "no such string"
        wanted = whole.partition(middle)[0]
        stream = self.random.random() < 0.5
        body = self.body(expected, tokens, stop=["‽ never ‽", middle], stream=stream)
        reply = await self.ask("/v1/completions", body)
        self.check(self.choices(reply, 1)[0], expected, wanted)

    async def natural(self) -> None:
        """To its own end, or as far as it is certain."""
        expected, _ = self.choose()
        end = expected.most if expected.ends_at is None else expected.ends_at
        reply = await self.ask(
            "/v1/completions", self.body(expected, expected.most, ignore_eos=False)
        )
        self.check(self.choices(reply, 1)[0], expected, expected.prefixes[end])

    async def sampled(self) -> None:
        """At random: only that it answers can be told."""
        expected, tokens = self.choose()
        how = {"temperature": 1.2, "top_p": 0.9, "n": 2, "seed": self.random.randrange(2**31)}
        reply = await self.ask("/v1/completions", self.body(expected, tokens, **how))
        self.choices(reply, 2)

    async def classify(self) -> None:
        """Scores of options."""
        expected, _ = self.choose()
        body = {
            "model": self.soak.model,
            "text": expected.text,
            "options": OPTIONS,
            "instruction": expected.instruction,
        }
        reply = await self.ask("/v1/classify", body)
        scores = {option["option"]: option["score"] for option in reply.json()["options"]}
        for option, wanted in expected.scores.items():
            if abs(scores[option] - wanted) > SCORE_TOLERANCE * max(1, abs(wanted)):
                raise WrongError(f"scores {scores} and not {expected.scores}")

    async def layer_weights(self) -> None:
        """The heat map."""
        expected, _ = self.choose()
        body = {"model": self.soak.model, "text": expected.text}
        reply = await self.ask("/v1/layer_weights", body)
        if reply.json()["tokens"] != expected.tokens:
            raise WrongError("tokens of another text")

    # --- who behaves badly ----------------------------------------------------------------------

    async def slow_reader(self) -> None:
        """Reads little at a time, and waits in between; it gets all of its answer."""
        expected, tokens = self.choose()
        pause = self.random.uniform(0.005, 0.05)

        async def dawdle(_: bytes) -> None:
            await asyncio.sleep(pause)

        # Enough of it that it does not fit into what the system holds for a reader.
        body = self.body(expected, tokens, stream=True, logprobs=5, n=4)
        async with Connection(self.soak.url, buffer=2048) as connection:
            reply = await connection.post("/v1/completions", body, dawdle)
            if self.seen(reply, 200):
                for told in self.choices(reply, 4):
                    self.check(told, expected, expected.prefixes[tokens])

    async def leaves(self) -> None:
        """Goes away after a few events."""
        expected, _ = self.choose()
        left = self.random.randint(1, 5)

        async def count(_: bytes) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise LeftError

        async with Connection(self.soak.url) as connection:
            body = self.body(expected, LONG, stream=True)
            self.seen(await connection.post("/v1/completions", body, count), 200)

    async def leaves_at_once(self) -> None:
        """Does not wait for the answer at all."""
        expected, _ = self.choose()
        async with Connection(self.soak.url) as connection:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.random.uniform(0.0, 0.3)):
                    self.seen(
                        await connection.post("/v1/completions", self.body(expected, LONG)), 200
                    )

    async def half_a_body(self) -> None:
        """Promises more than it sends, and goes."""
        head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
        async with Connection(self.soak.url) as connection:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    await connection.send(head)

    async def no_http(self) -> None:
        """Speaks another language."""
        async with Connection(self.soak.url) as connection:
            reply = await connection.send(b"\x16\x03\x01 HELO \xff\r\n\r\n")
            if reply.status != 400:
                raise WrongError(f"status {reply.status} for what is no HTTP")
            self.tally.statuses["400"] += 1

    async def refused(self) -> None:
        """Asks for what there is not, or too much of it."""
        expected, _ = self.choose()
        good = self.body(expected, SHORT)
        refusals: list[tuple[str, Any, int]] = [
            ("/v1/completions", b'{"model": ', 400),
            ("/v1/completions", b"\xff\xfe", 400),
            ("/v1/completions", {**good, "model": "nobody"}, 404),
            ("/v1/completions", {**good, "max_tokens": 10**6}, 400),
            ("/v1/completions", {**good, "temperature": "hot"}, 400),
            ("/v1/completions", {**good, "prompt": [1, 2, 3]}, 400),
            ("/v1/completions", {**good, "prompt": expected.text[:1] * 30_000}, 400),
            ("/v1/completions", {**good, "n": 1000}, 400),
            ("/v1/completions", {**good, "stop": ["x"] * 100}, 400),
            ("/v1/completions", {**good, "prompt_embeds": "AAAA"}, 400),
            ("/v1/chat/completions", {"model": self.soak.model, "messages": []}, 400),
            (
                "/v1/classify",
                {
                    "model": self.soak.model,
                    "text": "a",
                    "options": [str(number) for number in range(1000)],
                },
                400,
            ),
            ("/v1/nothing", {}, 404),
        ]
        path, body, status = self.random.choice(refusals)
        await self.ask(path, body, status)

    async def oversize(self) -> None:
        """A body that is too long, sent whole."""
        await self.ask("/v1/completions", b" " * (2 * MIB), 413)


KINDS: dict[str, tuple[int, Callable[[Client], Awaitable[None]]]] = {
    "short": (20, Client.short),
    "streamed": (20, Client.streamed),
    "several": (4, Client.several),
    "many texts": (4, Client.many_texts),
    "long text": (4, Client.long_text),
    "chat": (10, Client.chat),
    "stopped": (6, Client.stopped),
    "natural": (6, Client.natural),
    "sampled": (3, Client.sampled),
    "classify": (6, Client.classify),
    "layer weights": (2, Client.layer_weights),
    "slow reader": (3, Client.slow_reader),
    "leaves": (8, Client.leaves),
    "leaves at once": (4, Client.leaves_at_once),
    "half a body": (1, Client.half_a_body),
    "no HTTP": (1, Client.no_http),
    "refused": (12, Client.refused),
    "oversize": (1, Client.oversize),
}


class Soak:
    """The server under load, and what it did.

    Args:
        server: running.
        model: its bridge.
        expected: questions and the library's answers.
    """

    def __init__(self, server: Server, model: str, expected: Sequence[Expected]) -> None:
        self.server = server
        self.url = server.url
        self.model = model
        self.expected = list(expected)
        self.longest = sorted(expected, key=lambda one: len(one.text))[-4:]
        self.tally = Tally()
        self.in_flight = 0
        self.signalled: float | None = None
        self.is_over = False

    async def load(self, seconds: float, concurrency: int) -> dict[str, Any]:
        """Asks for so long; then the clients stop. What memory did."""
        resident: list[tuple[float, int]] = []
        clients = [asyncio.create_task(Client(self, n).run()) for n in range(concurrency)]
        started = time.monotonic()
        pause = min(1.0, seconds / 100)
        with meter("soak") as bar:
            while (passed := time.monotonic() - started) < seconds:
                await asyncio.sleep(pause)
                resident.append((passed, memory_of(self.server.process.pid)))
                note = f"{sum(self.tally.kinds.values())} replies · {len(self.tally.failures)} bad"
                bar.update(int(passed), math.ceil(seconds), note)
                if self.server.process.returncode is not None:
                    self.tally.fail("server_errors", f"it died: {self.server.errors()}")
                    break
        self.is_over = True
        await asyncio.gather(*clients)
        self.is_over = False
        return flatness(resident, seconds)

    async def crash(self) -> dict[str, Any]:
        """Kills the engine's process."""
        victim = engine_of(self.server.process.pid)
        helpers = children(victim)
        say("killing the engine's process …")
        body = {"model": self.model, "prompt": "a", "max_tokens": 500, "ignore_eos": True}

        async def ask(**settings: Any) -> Reply | OSError:
            async with Connection(self.url) as connection:
                try:
                    return await connection.post("/v1/completions", {**body, **settings})
                except OSError as error:
                    return error

        running = [asyncio.create_task(ask(stream=bool(place % 2))) for place in range(8)]
        await asyncio.sleep(0.3)
        killed = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        told = await asyncio.gather(*running)
        refused: list[Reply] = []
        statuses: Counter[str] = Counter()
        while time.monotonic() - killed < RESTART_S:
            reply = await ask(max_tokens=2)
            if isinstance(reply, OSError):
                statuses[type(reply).__name__] += 1
            else:
                statuses[str(reply.status)] += 1
                if reply.status == 200:
                    break
                refused.append(reply)
            await asyncio.sleep(0.2)
        seconds = time.monotonic() - killed
        client = Client(self, -1)
        for _ in range(20):
            try:
                await client.streamed()
            except (WrongError, OSError) as error:
                self.tally.fail("wrong", f"after the crash: {error}")
        client.connection.close()
        return {
            "running": [_ended(reply) for reply in told],
            "statuses": dict(statuses),
            "retry_after": all("retry-after" in r.headers for r in refused) and bool(refused),
            "answers_again": statuses["200"] == 1,
            "seconds_to_answer": seconds,
            "left_over": sum(resident(helper) > 0 for helper in helpers),
        }

    async def drain(self, concurrency: int, after_s: float) -> dict[str, Any]:
        """SIGTERM under full load."""
        clients = [asyncio.create_task(Client(self, 1000 + n).run()) for n in range(concurrency)]
        await asyncio.sleep(after_s)
        answered, running = sum(self.tally.kinds.values()), self.in_flight
        lost = self.tally.counts["lost"]
        say("SIGTERM …")
        self.signalled = time.monotonic()
        self.server.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(DRAIN_S + 60):
                code: int | None = await self.server.process.wait()
        except TimeoutError:
            code = None
        seconds = time.monotonic() - self.signalled
        self.is_over = True
        await asyncio.gather(*clients)
        return {
            "running": running,
            "answered_after": sum(self.tally.kinds.values()) - answered,
            "told_503": self.tally.counts["draining_503"],
            "turned_away": self.tally.counts["turned_away"],
            "lost": self.tally.counts["lost"] - lost,
            "exit_code": code,
            "seconds": seconds,
        }


def _written(choice: dict[str, Any]) -> str:
    if "text" in choice:
        return choice["text"]
    message = choice["message"] if "message" in choice else choice["delta"]
    return message.get("content") or ""


def _ended(reply: Reply | OSError) -> str:
    if isinstance(reply, OSError):
        return type(reply).__name__
    if reply.events and not reply.is_whole:
        return "error in the stream" if "error" in reply.chunks()[-1][1] else "cut off"
    return str(reply.status)


# --- the server's memory, as Linux tells it -------------------------------------------------------


def children(pid: int) -> list[int]:
    """All processes that this one started, and those they did."""
    found = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, tasks.read_text().split()):
                found += [child, *children(child)]
    return found


def resident(pid: int) -> int:
    """Bytes; none if it has gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def memory_of(pid: int) -> int:
    """Bytes of a process and all that it started."""
    return sum(map(resident, (pid, *children(pid))))


def engine_of(pid: int) -> int:
    """The process of vLLM's core; whichever is the largest if none is called so."""
    found = children(pid)
    for child in found:
        with suppress(OSError):
            if b"EngineCore" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
    return max(found, key=resident)


def flatness(samples: Sequence[tuple[float, int]], seconds: float) -> dict[str, Any]:
    """Medians of equal windows after the warm-up; the last over the first tells of a leak."""
    begin = WARM_UP * seconds
    width = (seconds - begin) / WINDOWS
    windows = [
        [size for at, size in samples if begin + n * width <= at < begin + (n + 1) * width]
        for n in range(WINDOWS)
    ]
    medians = [statistics.median(sizes) for sizes in windows if sizes]
    growth = medians[-1] / medians[0] - 1 if medians and medians[0] else None
    return {
        "growth": growth,
        "flat": growth is not None and growth <= FLAT,
        "windows_bytes": medians,
        "samples": len(samples),
        "begin_bytes": samples[0][1] if samples else None,
        "most_bytes": max((size for _, size in samples), default=None),
    }


async def soak(arguments: argparse.Namespace) -> dict[str, Any]:
    """All of it."""
    model, expected = library(arguments.run, arguments.questions)
    say(f"{len(expected)} questions whose answers are unlike")
    words = [arguments.run, "--engine", arguments.engine, "--dtype", "float32"]
    words += ["--timeout", str(TIMEOUT_S), "--drain", str(DRAIN_S), *arguments.serve]
    seconds = 60 * arguments.minutes
    async with Server(words, arguments.python) as server:
        work = Soak(server, model, expected)
        memory = await work.load(seconds, arguments.concurrency)
        tokens, load_kinds = work.tally.tokens, sum(work.tally.kinds.values())
        has_own = arguments.engine == "vllm" and not arguments.no_crash
        crash = await work.crash() if has_own else None
        drain = await work.drain(arguments.concurrency, min(5.0, seconds / 4))
        tracebacks = server.errors().count("Traceback")
    tally = work.tally
    counts = {name: tally.counts[name] for name in ("wrong", "mixed_up", "lost", "server_errors")}
    drained = drain["exit_code"] == 0 and drain["told_503"] > 0 and not drain["lost"]
    came_back = crash is None or (
        crash["answers_again"] and crash["retry_after"] and not crash["left_over"]
    )
    return {
        "passed": not any(counts.values()) and memory["flat"] and drained and came_back,
        **counts,
        "failures": tally.failures,
        "memory": memory,
        "drain": drain,
        "crash": crash,
        "tracebacks": tracebacks,
        "replies": sum(tally.kinds.values()),
        "replies_per_second": load_kinds / seconds,
        "tokens_per_second": tokens / seconds,
        "kinds": dict(tally.kinds),
        "statuses": dict(sorted(tally.statuses.items())),
        "questions": len(expected),
        "engine": arguments.engine,
        "model": next(iter(names([arguments.run]))),
        "minutes": arguments.minutes,
        "concurrency": arguments.concurrency,
    }


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    made.add_argument("run", help="a trained bridge: its folder or hub id")
    made.add_argument("--engine", default="torch", choices=("torch", "vllm"))
    made.add_argument("--python", default=sys.executable, help="an interpreter with the engine")
    made.add_argument("--minutes", type=float, default=10.0)
    made.add_argument("--concurrency", type=int, default=64)
    made.add_argument("--questions", type=int, default=48, help="texts whose answers are known")
    made.add_argument("--no-crash", action="store_true", help="leave the engine's process alone")
    made.add_argument("serve", nargs="*", help="after --: arguments of `layerbridge serve`")
    return made


def main() -> int:
    """Prints the JSON; 1 if anything went wrong."""
    found = asyncio.run(soak(parser().parse_args()))
    print(json.dumps({"soak": found, "machine": machine(choose_device(None))}))
    return 0 if found["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
