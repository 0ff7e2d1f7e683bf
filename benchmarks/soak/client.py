"""A client that sends random requests, good and bad, and checks the replies."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import urlsplit

from expected import LONG, SHORT, Expected
from tally import DrainingError, LeftError, Tally, WrongError

from layerbridge.benchmarking.serve_client import Connection, LostError, Reply

# Of scores that are computed in another batch.
SCORE_TOLERANCE = 2e-2
TIMEOUT_S = 300
# Longer than the server may take.
LOST_S = TIMEOUT_S + 60
MIB = 2**20
# What a slow reader takes at a time.
NARROW_BYTES = 2048


class Asked(Protocol):
    """The state that all clients share.

    Attributes:
        url: of the server.
        model: its bridge.
        expected: questions and the library's answers.
        longest: those with the longest texts.
        tally: counts of replies and failures.
        in_flight: requests without a reply.
        signalled: when SIGTERM was sent, on the monotonic clock.
        is_over: clients stop.
        may_ask: cleared while the load pauses.
    """

    url: str
    model: str
    expected: Sequence[Expected]
    longest: Sequence[Expected]
    tally: Tally
    in_flight: int
    signalled: float | None
    is_over: bool
    may_ask: asyncio.Event


class Client:
    """Sends random requests, and checks the replies."""

    def __init__(self, soak: Asked, number: int) -> None:
        self.soak = soak
        self.tally = soak.tally
        self.random = random.Random(number)
        self.connection = Connection(soak.url)
        self.sent = 0.0

    async def run(self) -> None:
        """Sends requests until the test or the server ends."""
        kinds = list(KINDS)
        weights = [KINDS[kind][0] for kind in kinds]
        while not self.soak.is_over:
            await self.soak.may_ask.wait()
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
                self.tally.fail("wrong", f"{kind}: malformed reply ({error!r})")
            finally:
                self.soak.in_flight -= 1
        self.connection.close()

    async def _turned_away(self, kind: str, error: OSError) -> bool:
        """Tells whether the server has ended. Requests from before SIGTERM must be answered.

        Except for an oversize body: its reply may be missed while the body is still being sent.
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

    # --- requests ------------------------------------------------------------------------------

    async def ask(self, path: str, body: Any, status: int = 200) -> Reply:
        """Returns the reply, which must have this status."""
        while True:
            self.sent = time.monotonic()
            reply = await self.connection.post(path, body)
            if self.seen(reply, status):
                return reply
            await asyncio.sleep(0.2 + self.random.random())  # the server was busy

    def seen(self, reply: Reply, status: int) -> bool:
        """Checks the status; returns false if the server was busy."""
        self.tally.statuses[str(reply.status)] += 1
        message = reply.body[:300].decode(errors="replace")
        if reply.status == 503 and self.soak.signalled is not None:
            if not reply.headers.get("retry-after") or '"draining"' not in message:
                raise WrongError(f"503 without Retry-After or reason: {message}")
            raise DrainingError
        if reply.status >= 500:
            self.tally.fail("server_errors", f"{reply.status} {message}")
        if reply.status == 429 and status != 429:
            return False
        if reply.status != status:
            raise WrongError(f"status {reply.status}, expected {status}: {message}")
        if status >= 400 and not reply.json()["error"]["message"]:
            raise WrongError(f"an error without a message: {message}")
        return True

    def choose(self, most: int | None = None) -> tuple[Expected, int]:
        """Returns a question and a number of tokens."""
        expected = self.random.choice(self.soak.expected)
        return expected, min(most or self.random.randint(SHORT, LONG), expected.most)

    def body(self, expected: Expected, tokens: int, **settings: Any) -> dict[str, Any]:
        """Returns the body of a completion request."""
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
        """Checks that a text is the answer to this request."""
        if told == wanted:
            return
        begins = told.strip()
        for other in self.soak.expected:
            if other is not expected and begins.startswith(other.prefixes[SHORT].strip()):
                self.tally.fail("mixed_up", f"{told!r} for {wanted!r}")
                return
        raise WrongError(f"{told!r}, expected {wanted!r}")

    def choices(self, reply: Reply, count: int) -> list[str]:
        """Returns the texts of a reply, streamed or not, by their index."""
        written = [""] * count
        if not reply.events:
            found = reply.json()
            self._id(found["id"])
            if [choice["index"] for choice in found["choices"]] != list(range(count)):
                raise WrongError(f"choices {found['choices']}")
            self.tally.tokens += found["usage"]["completion_tokens"]
            return [_written(choice) for choice in found["choices"]]
        if not reply.is_whole:
            raise LostError(f"a stream that was cut off after {len(reply.events)} events")
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
            raise WrongError(f"duplicate id {name}")
        self.tally.ids.add(name)

    # --- good requests -------------------------------------------------------------------------

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
        """Up to the most tokens, streamed."""
        await self.completion(stream=True)

    async def several(self) -> None:
        """Several answers to a text; greedy ones are the same."""
        await self.completion(n=3, stream=self.random.random() < 0.5)

    async def many_texts(self) -> None:
        """Several texts, each with its own answer."""
        found = [self.choose(SHORT)[0] for _ in range(4)]
        found = [one for one in found if one.instruction == found[0].instruction]
        body = self.body(found[0], SHORT, prompt=[one.text for one in found])
        reply = await self.ask("/v1/completions", body)
        for told, expected in zip(self.choices(reply, len(found)), found, strict=True):
            self.check(told, expected, expected.prefixes[SHORT])

    async def long_text(self) -> None:
        """The longest texts."""
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
        """Up to a stop string."""
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
        """Up to EOS, or as far as the answer is certain."""
        expected, _ = self.choose()
        end = expected.most if expected.ends_at is None else expected.ends_at
        reply = await self.ask(
            "/v1/completions", self.body(expected, expected.most, ignore_eos=False, options=[])
        )
        self.check(self.choices(reply, 1)[0], expected, expected.prefixes[end])

    async def sampled(self) -> None:
        """Sampled: only the form can be checked."""
        expected, tokens = self.choose()
        how = {"temperature": 1.2, "top_p": 0.9, "n": 2, "seed": self.random.randrange(2**31)}
        reply = await self.ask("/v1/completions", self.body(expected, tokens, **how))
        self.choices(reply, 2)

    async def classify(self) -> None:
        """Scores of options."""
        expected, _ = self.choose()
        await self._classify(expected, expected.scores)

    async def all_sizes(self) -> None:
        """Scores of few and many, short and long options."""
        expected = self.random.choice([one for one in self.soak.expected if one.sized])
        await self._classify(expected, self.random.choice(expected.sized))

    async def _classify(self, expected: Expected, wanted: dict[str, float]) -> None:
        body = {
            "model": self.soak.model,
            "text": expected.text,
            "options": list(wanted),
            "instruction": expected.instruction,
        }
        reply = await self.ask("/v1/classify", body)
        scores = {option["option"]: option["score"] for option in reply.json()["options"]}
        for option, score in wanted.items():
            if abs(scores[option] - score) > SCORE_TOLERANCE * max(1, abs(score)):
                raise WrongError(f"score {scores[option]} of {option[:40]!r}, expected {score}")

    async def layer_weights(self) -> None:
        """Layer weights."""
        expected, _ = self.choose()
        body = {"model": self.soak.model, "text": expected.text}
        reply = await self.ask("/v1/layer_weights", body)
        if reply.json()["tokens"] != expected.tokens:
            raise WrongError("tokens of another text")

    # --- misbehaving clients -------------------------------------------------------------------

    async def slow_reader(self) -> None:
        """Reads little at a time with pauses, and still gets the whole answer."""
        expected, tokens = self.choose()
        pause = self.random.uniform(0.005, 0.05)

        async def dawdle(_: bytes) -> None:
            await asyncio.sleep(pause)

        # More than the system buffers.
        body = self.body(expected, tokens, stream=True, logprobs=5, n=4)
        narrow = narrow_socket(self.soak.url)
        options = {"host": None, "port": None, "sock": narrow, "limit": NARROW_BYTES}
        async with Connection(self.soak.url, **options) as connection:
            reply = await connection.post("/v1/completions", body, dawdle)
            if self.seen(reply, 200):
                for told in self.choices(reply, 4):
                    self.check(told, expected, expected.prefixes[tokens])

    async def leaves(self) -> None:
        """Disconnects after a few events."""
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
        """Disconnects before the answer."""
        expected, _ = self.choose()
        async with Connection(self.soak.url) as connection:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.random.uniform(0.0, 0.3)):
                    self.seen(
                        await connection.post("/v1/completions", self.body(expected, LONG)), 200
                    )

    async def half_a_body(self) -> None:
        """Sends less than its Content-Length, and disconnects."""
        head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
        async with Connection(self.soak.url) as connection:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    await connection.send(head)

    async def no_http(self) -> None:
        """Sends something other than HTTP."""
        async with Connection(self.soak.url) as connection:
            reply = await connection.send(b"\x16\x03\x01 HELO \xff\r\n\r\n")
            if reply.status != 400:
                raise WrongError(f"status {reply.status} for something other than HTTP")
            self.tally.statuses["400"] += 1

    async def refused(self) -> None:
        """Sends invalid requests."""
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
        """Sends a body that is too long."""
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
    "options of all sizes": (3, Client.all_sizes),
    "layer weights": (2, Client.layer_weights),
    "slow reader": (3, Client.slow_reader),
    "leaves": (8, Client.leaves),
    "leaves at once": (4, Client.leaves_at_once),
    "half a body": (1, Client.half_a_body),
    "no HTTP": (1, Client.no_http),
    "refused": (12, Client.refused),
    "oversize": (1, Client.oversize),
}


def narrow_socket(url: str) -> socket.socket:
    """A connected socket that accepts little at a time."""
    parts = urlsplit(url)
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BYTES)
    narrow.connect((parts.hostname, parts.port))
    narrow.setblocking(False)
    return narrow


def _written(choice: dict[str, Any]) -> str:
    if "text" in choice:
        return choice["text"]
    message = choice["message"] if "message" in choice else choice["delta"]
    return message.get("content") or ""
