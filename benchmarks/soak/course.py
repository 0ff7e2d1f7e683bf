"""The whole test: load, the end of the engine's process, SIGTERM; and the results."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from client import TIMEOUT_S
from expected import library
from work import DRAIN_S, Soak

from layerbridge.benchmarking.serve_process import Server
from layerbridge.progress import say
from layerbridge.serving.bridges import names


async def soak(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the test and returns its results."""
    model, expected = library(arguments.run, arguments.questions)
    say(f"{len(expected)} questions with different answers")
    serve_arguments = [arguments.run, "--engine", arguments.engine, "--dtype", "float32"]
    serve_arguments += ["--timeout", str(TIMEOUT_S), "--drain", str(DRAIN_S), *arguments.serve]
    seconds = 60 * arguments.minutes
    async with Server(serve_arguments, arguments.python) as server:
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


def parser(about: str = "") -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    result = argparse.ArgumentParser(description=about)
    result.add_argument("run", help="a trained bridge: its folder or hub id")
    result.add_argument("--engine", default="torch", choices=("torch", "vllm"))
    result.add_argument("--python", default=sys.executable, help="an interpreter with the engine")
    result.add_argument("--minutes", type=float, default=10.0)
    result.add_argument("--concurrency", type=int, default=64)
    result.add_argument("--questions", type=int, default=48, help="texts with known answers")
    result.add_argument("--no-crash", action="store_true", help="do not kill the engine's process")
    result.add_argument("serve", nargs="*", help="after --: arguments of `layerbridge serve`")
    return result
