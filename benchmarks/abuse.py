"""Thousands of valid, odd and invalid requests to ``layerbridge serve``, and good ones among them.

    python benchmarks/abuse.py > benchmarks/results/cpu/abuse.json
    python benchmarks/abuse.py runs/demo/token-softmax --requests 600

The requests are drawn from a seed. One in four is a marked good one: its answer must be what the
library writes for its text. All others may be refused, but none may get a 5xx, no reply, or a reply
that is not one, and the engine may not be restarted. Without a run, a tiny random one is made.

The last line of stdout is one JSON document; the exit code is 1 if anything went wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tiny_run
from soak.expected import SHORT, Expected, answers

from layerbridge.benchmarking.measure import machine
from layerbridge.benchmarking.serve_client import Connection, LostError, Reply
from layerbridge.benchmarking.serve_process import Server
from layerbridge.benchmarking.serve_texts import texts
from layerbridge.models.backbone import LoadOptions, choose_device
from layerbridge.progress import meter, say
from layerbridge.serving.bridges import Bridges

# A request without a reply by then is lost.
TIMEOUT_S = 300
LISTED_FAILURES = 20
GOOD = 0.25  # of all requests
TOKENS = 12  # of an answer; the number of requests counts, not their length

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
CLASSIFY, WEIGHTS = "/v1/classify", "/v1/layer_weights"

TEXTS = [
    *("", " ", "\n\n\t", "a", "The market rose", "ශ්‍රී ලංකා රුපියල", "مرحبا بالعالم", "人民币" * 50),
    *("\x00", "\u200d\u200b\ufeff", "e\u0301" * 300, "👩‍👩‍👧‍👦🏴󠁧󠁢󠁷󠁬󠁳󠁿", "\U0010ffff", "\x7f\x1b[31m"),
    *("</s>", "<s><pad></s><unk>", "<|endoftext|><|im_end|>[SEP][MASK]", "{text}", "<b>&amp;"),
    *("word " * 3000, "ම" * 6000, "a" * 20_000),
]
INSTRUCTIONS = [
    None,
    "",
    " ",
    "\n",
    " is the",
    "</s>",
    "Answer:" * 40,
    "word " * 4000,
    "é" * 20_000,
]
TEMPERATURES = [0, 5e-324, 1e-45, 1e-38, 1e-9, 0.3, 1, 2]
TOP_PS = [0, 5e-324, 1e-9, 0.5, 1]
STOPS = [None, "a", ["a", "e", "\n", " "], "\u0000", "z" * 500]
SEEDS = [None, 0, -1, 2**63 - 1, -(2**63)]
# What JSON can say where something else is expected.
ODD = [
    *(None, True, -1, 0, 1.5, 2**63, -(2**70), 10**400, 1e308, "", "5", "\ud800", [], [[]], {}),
    *([None], [1, 2], {"a": 1}, ["a"] * 300, "x" * 30_000, float("nan"), float("inf")),
]
UNKNOWN = ["tools", "bad_words", "logit_bias", "echo", "top_k", "prompt_embeds", "foo", "seed "]

# (path, body or raw request, statuses it may have)
Case = tuple[str, Any, set[int]]


def generation(draw: random.Random, model: str) -> dict[str, Any]:
    """Returns fields of a generation that are all allowed, however odd."""
    return {
        **{"model": model, "max_tokens": draw.randint(1, TOKENS), "n": draw.choice([1, 1, 1, 3])},
        **{"temperature": draw.choice(TEMPERATURES), "top_p": draw.choice(TOP_PS)},
        **{"stop": draw.choice(STOPS), "seed": draw.choice(SEEDS)},
        **{"instruction": draw.choice(INSTRUCTIONS), "stream": draw.random() < 0.4},
        **{"ignore_eos": draw.random() < 0.5, "stream_options": {"include_usage": True}},
    }


def valid_completion(draw: random.Random, model: str) -> Case:
    """An allowed completion; with a long instruction it may exceed the model's context."""
    prompt: Any = draw.choice(TEXTS)
    if draw.random() < 0.2:
        prompt = draw.choices(TEXTS[:12], k=draw.randint(1, 4))
    logprobs = draw.choice([None, None, 0, 5])
    body = {**generation(draw, model), "prompt": prompt, "logprobs": logprobs}
    return COMPLETIONS, body, {200, 400}


def valid_chat(draw: random.Random, model: str) -> Case:
    """An allowed chat."""
    messages = [{"role": "user", "content": draw.choice(TEXTS)}]
    if draw.random() < 0.4:
        parts = [{"type": "text", "text": draw.choice(TEXTS[:12])}] * draw.randint(0, 3)
        role = draw.choice(["system", "assistant", "developer", "user"])
        messages.insert(0, {"role": role, "content": parts})
    asks = draw.random() < 0.3
    body = {**generation(draw, model), "messages": messages, "logprobs": asks}
    return CHAT, {**body, "top_logprobs": 20 if asks else None}, {200, 400}


def options(draw: random.Random) -> list[str] | None:
    """Returns options of any number and length."""
    count = draw.choice([1, 2, 5, 40, 256, 257])
    length = draw.choice([1, 5, 30, 120, 500, 501])
    letters = draw.choice(["ab", "ම猫é", "xyz "])
    made = [f"{n}{''.join(draw.choices(letters, k=length))}"[:length] for n in range(count)]
    return draw.choice([None, made, made, made, ["a", "a"], ["", "b"], [" "]])


def classification(draw: random.Random, model: str) -> Case:
    """A classification with options of all sizes, many of them too large."""
    body = {
        **{"model": model, "text": draw.choice(TEXTS), "options": options(draw)},
        **{"instruction": draw.choice(INSTRUCTIONS), "normalize": draw.choice(["sum", "mean"])},
    }
    return CLASSIFY, body, {200, 400}


def weights(draw: random.Random, model: str) -> Case:
    """Layer weights of any text."""
    return WEIGHTS, {"model": model, "text": draw.choice(TEXTS)}, {200, 400}


def one_field_wrong(draw: random.Random, model: str) -> Case:
    """An allowed request in which one field is something else, missing or not supported."""
    path, body, _ = draw.choice([valid_completion, valid_chat, classification, weights])(
        draw, model
    )
    body = {**body, "instruction": draw.choice(INSTRUCTIONS[:5])}
    name = draw.choice([*body, *UNKNOWN])
    if draw.random() < 0.2:
        body.pop(name, None)
    else:
        body[name] = draw.choice(ODD)
    for count in ("n", "max_tokens"):  # not wrong, only long
        if type(body.get(count)) is int and body[count] > TOKENS:
            body[count] = 10**6
    return path, body, {200, 400, 404}


def no_json(draw: random.Random, model: str) -> Case:
    """A body that is not JSON, or no object."""
    good = json.dumps({"model": model, "prompt": "a"}).encode()
    body = draw.choice(
        [
            *(b"", b"{", b"[1]", b"null", b'"a"', b"\xff\xfe", b"[" * 50_000, good[:-3]),
            *(
                good + b"}",
                b'{"a":' * 5000,
                b'{"n": ' + b"9" * 5000 + b"}",
                good.replace(b"a", b"\xe9"),
            ),
        ]
    )
    return draw.choice([COMPLETIONS, CHAT, CLASSIFY, WEIGHTS]), body, {400}


def too_long(draw: random.Random, model: str) -> Case:
    """A body that is too long."""
    return COMPLETIONS, b" " * draw.choice([2**20 + 1, 2**21]), {413}


def other_request(draw: random.Random, model: str) -> Case:
    """Other methods, paths and headers."""
    line, statuses = draw.choice(
        [
            *(("GET /v1/models", {200}), ("GET /readyz", {200}), ("GET /v1/models/", {200})),
            *(("GET /v1/models/%00%ff", {404}), ("GET /page/%00", {404}), ("GET /page/..", {404})),
            *((f"GET /{'a' * 5000}", {404}), ("PUT /v1/models", {405}), ("BREW /", {405, 404})),
            *(("OPTIONS *", {400, 404, 405}), ("GET /v1/completions", {405})),
            *(("POST /v1/classify", {415}), ("POST /v1/nothing", {415})),
        ]
    )
    extra = draw.choice(["", "Range: bytes=9-1\r\n", "Accept: x\r\n", "Te: x\r\n"])
    return "", f"{line} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n{extra}\r\n".encode(), statuses


def no_http(draw: random.Random, model: str) -> Case:
    """Bytes that are not HTTP, or too much of it."""
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
    request = draw.choice(
        [
            *(b"\x16\x03\x01\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            *(head + b"X: " + b"a" * 100_000 + b"\r\n\r\n", head + b"Content-Length: -5\r\n\r\n"),
            head + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
            head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        ]
    )
    return "", request, {400, 404, 415}


KINDS: dict[str, tuple[int, Callable[[random.Random, str], Case]]] = {
    "valid completion": (25, valid_completion),
    "valid chat": (15, valid_chat),
    "classification": (12, classification),
    "weights": (4, weights),
    "one field wrong": (30, one_field_wrong),
    "no JSON": (5, no_json),
    "too long": (1, too_long),
    "other request": (5, other_request),
    "no HTTP": (3, no_http),
}


class Abuse:
    """Requests to one server, and what became of them."""

    def __init__(self, url: str, model: str, expected: Sequence[Expected], seed: int) -> None:
        self.url = url
        self.model = model
        self.expected = expected
        self.seed = seed
        self.counts: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.failures: list[str] = []

    async def run(self, requests: int, concurrency: int) -> dict[str, Any]:
        """Sends so many requests; returns the counts."""
        left = iter(range(requests))
        started = time.monotonic()
        with meter("abuse") as bar:

            async def client() -> None:
                connection = Connection(self.url)
                for number in left:
                    draw = random.Random(f"{self.seed} {number}")
                    send = self._good if draw.random() < GOOD else self._other
                    await send(connection, draw)
                    bar.update(number + 1, requests, f"{len(self.failures)} bad")
                connection.close()

            await asyncio.gather(*(client() for _ in range(concurrency)))
        seconds = time.monotonic() - started
        async with Connection(self.url) as connection:
            metrics = (await connection.get("/metrics")).body.decode()
            ready = (await connection.get("/readyz")).status == 200
        restarts = sum(
            float(line.split()[1])
            for line in metrics.splitlines()
            if line.startswith("layerbridge_engine_restarts ")
        )
        counts = {name: self.counts[name] for name in ("lost", "wrong", "server_errors")}
        return {
            "passed": ready and not any(counts.values()) and not restarts,
            **counts,
            "engine_restarts": int(restarts),
            "requests": requests,
            "good": self.counts["good"],
            "concurrency": concurrency,
            "seconds": seconds,
            "kinds": dict(self.kinds),
            "statuses": dict(sorted(self.statuses.items())),
            "failures": self.failures,
        }

    async def _good(self, connection: Connection, draw: random.Random) -> None:
        expected = draw.choice(self.expected)
        count = draw.randint(1, min(TOKENS, expected.most))
        body = {
            **{"model": self.model, "prompt": expected.text, "instruction": expected.instruction},
            **{"max_tokens": count, "ignore_eos": True, "stream": draw.random() < 0.5},
        }
        reply = await self._send(connection, "good", COMPLETIONS, body, {200})
        if reply is None or reply.status != 200:
            return
        self.counts["good"] += 1
        chunks = [chunk for _, chunk in reply.chunks()] or [reply.json()]
        told = "".join(choice["text"] for chunk in chunks for choice in chunk.get("choices", ()))
        if told != expected.prefixes[count]:
            self._fail("wrong", f"good: {told!r}, expected {expected.prefixes[count]!r}")

    async def _other(self, connection: Connection, draw: random.Random) -> None:
        (kind,) = draw.choices(list(KINDS), [weight for weight, _ in KINDS.values()])
        path, body, statuses = KINDS[kind][1](draw, self.model)
        await self._send(connection, kind, path, body, statuses)

    async def _send(
        self, connection: Connection, kind: str, path: str, body: Any, statuses: set[int]
    ) -> Reply | None:
        """Sends a request until the server is not busy, and checks the reply."""
        about = f"{kind}: {path} {str(body)[:300]!r}"
        reply = None
        while reply is None or reply.status == 429:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    if path:
                        reply = await connection.post(path, body)
                    else:
                        reply = await connection.send(body)
            except (OSError, TimeoutError) as error:
                connection.close()
                # Who sends too much may find the connection closed before the reply is read.
                if kind not in ("too long", "no HTTP") or isinstance(error, TimeoutError):
                    self._fail("lost", f"{about}: {error!r}")
                return None
            self.statuses[str(reply.status)] += 1
            if reply.status == 429:
                await asyncio.sleep(0.2)
        self.kinds[kind] += 1
        if kind == "no HTTP":  # what is left of it would be read as the next request
            connection.close()
        try:
            self._check(reply, statuses, about)
        except (ValueError, LookupError, TypeError, LostError) as error:
            self._fail("wrong", f"{about}: malformed reply {error!r} {reply.body[:200]!r}")
        return reply

    def _check(self, reply: Reply, statuses: set[int], about: str) -> None:
        if reply.status >= 500:
            self._fail("server_errors", f"{about}: {reply.status} {reply.body[:200]!r}")
        elif reply.status not in statuses:
            self._fail("wrong", f"{about}: {reply.status}, expected {sorted(statuses)}")
        elif reply.events:
            errors = [chunk["error"] for _, chunk in reply.chunks() if "error" in chunk]
            if errors:
                self._fail("server_errors", f"{about}: in the stream: {errors}")
            elif not reply.is_whole:
                self._fail("lost", f"{about}: the stream was cut off")
        elif reply.headers.get("content-type") == "application/json" and reply.body:
            told = reply.json()
            if reply.status >= 400 and not told["error"]["message"]:
                self._fail("wrong", f"{about}: an error without a message")

    def _fail(self, what: str, detail: str) -> None:
        self.counts[what] += 1
        if len(self.failures) < LISTED_FAILURES:
            self.failures.append(f"{what}: {detail}"[:800])
            say(self.failures[-1])


def good_ones(run: str, count: int) -> tuple[str, list[Expected]]:
    """Returns the bridge's name, and texts with the library's answers."""
    bridges = Bridges.load([run], LoadOptions("float32"))
    ((name, bridge),) = bridges.items()
    asked = [text[:300] for text in texts(count)]
    found = [one for each in (None, " is the") for one in answers(bridge, asked, each)]
    return name, [one for one in found if one.most >= SHORT]


async def abuse(run: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Starts the server and runs the requests; returns the results."""
    model, expected = good_ones(run, 16)
    settings = ["--engine", "torch", "--dtype", "float32", "--timeout", str(TIMEOUT_S)]
    async with Server([run, *settings]) as server:
        work = Abuse(server.url, model, expected, arguments.seed)
        found = await work.run(arguments.requests, arguments.concurrency)
        found["tracebacks"] = server.errors().count("Traceback")
    found["passed"] = found["passed"] and not found["tracebacks"]
    given = arguments.run is not None
    return {**found, "seed": arguments.seed, "model": model if given else "a tiny random one"}


def main() -> int:
    """Prints the JSON; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", nargs="?", help="a trained bridge; a tiny one is made if missing")
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run or str(tiny_run.make(Path(folder)))
        found = asyncio.run(abuse(run, arguments))
    print(json.dumps({"abuse": found, "machine": machine(choose_device(None))}))
    return 0 if found["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
