"""``layerbridge bench``: how fast and how large, against the method as its authors run it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from layerbridge.benchmarking.pair import Pair

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Measure speed and memory. A table on stderr, one JSON document on stdout.",
)

_ENCODER = typer.Option(
    "zoo:multilingual-e5-small", help="zoo:NAME, a hub id, a folder, or shape:NAME."
)
_LANGUAGE_MODEL = typer.Option(
    "zoo:smollm2-135m-instruct", help="zoo:NAME, a hub id, a folder, or shape:NAME."
)
_DTYPE = typer.Option("auto", help="auto, float32, bfloat16 or float16.")
_DEVICE = typer.Option(None, help="cpu, cuda, …; the best there is if not given.")
_REPEAT = typer.Option(3, min=1, help="Rounds; contestants take turns.")
_TEXT = typer.Option(None, help="A file of real rows (JSONL, CSV, …); else built-in lengths.")
_TEMPLATE = typer.Option(None, help="The encoder's text with the file's columns in braces.")
_FUSION = typer.Option("token-softmax", help="last, global-softmax or token-softmax.")
_LEVERS = typer.Option("all", help="Of ours, with commas: all, none, or names of `bench levers`.")


@app.command("fusion")
def fusion(
    layers: int = typer.Option(24, min=1, help="L."),
    width: int = typer.Option(1024, min=4, help="E."),
    tokens: int = typer.Option(2048, min=1, help="Encoder tokens."),
    dtype: str = typer.Option("float32", help="Of the states."),
    device: str | None = _DEVICE,
    repeat: int = typer.Option(5, min=1, help="Rounds."),
) -> None:
    """token-softmax: collapsed against the whole block."""
    from layerbridge.benchmarking.fusion import FusionCase, run
    from layerbridge.models.backbone import choose_device

    case = FusionCase(layers, width, tokens, dtype, str(choose_device(device)))
    _finish("fusion", _told("fusion", lambda bar: run(case, repeat, bar)), case.device)


@app.command("train")
def train(
    encoder: str = _ENCODER,
    language_model: str = _LANGUAGE_MODEL,
    fusion: str = _FUSION,
    batch: int = typer.Option(32, min=1, help="Rows a step."),
    steps: int = typer.Option(4, min=1, help="Of one round."),
    repeat: int = _REPEAT,
    text: Path | None = _TEXT,
    template: str | None = _TEMPLATE,
    levers: str = _LEVERS,
    waterfall: bool = typer.Option(False, "--waterfall", help="Each lever alone as well."),
    compiled: bool = typer.Option(False, "--compile", help="Our language model's layers."),
    dtype: str = _DTYPE,
    device: str | None = _DEVICE,
) -> None:
    """Rows a second of training, and whether the loss curves are one."""
    from layerbridge.benchmarking.train import TrainCase, run

    pair = _pair(encoder, language_model, dtype, device)
    case = TrainCase(
        pair,
        fusion,
        batch,
        steps,
        file=_name(text),
        template=template,
        optimizations=_levers(levers),
        compiled=compiled,
    )
    _finish(
        "train",
        _told("train", lambda bar: run(case, repeat, bar, ablate=waterfall)),
        str(pair.place()),
    )


@app.command("evaluate")
def evaluate(
    run_folder: str | None = typer.Option(
        None, "--run", help="A trained bridge on the task; one is trained first if not given."
    ),
    encoder: str = _ENCODER,
    language_model: str = _LANGUAGE_MODEL,
    task: str = typer.Option("names", help="A built-in task."),
    batch: int = typer.Option(32, min=1, help="Rows at a time."),
    rows: int | None = typer.Option(
        None, min=1, help="Rows of real lengths and three options, instead of the task's."
    ),
    repeat: int = _REPEAT,
    dtype: str = _DTYPE,
    device: str | None = _DEVICE,
) -> None:
    """Rows a second of option scoring against greedy generation."""
    from layerbridge.benchmarking.evaluate import EvaluateCase, run

    pair = _pair(encoder, language_model, dtype, device)
    case = EvaluateCase(pair, run_folder, task, batch, rows=rows)
    _finish("evaluate", _told("evaluate", lambda bar: run(case, repeat, bar)), str(pair.place()))


@app.command("memory")
def memory(
    encoder: str = _ENCODER,
    language_model: str = _LANGUAGE_MODEL,
    fusion: str = _FUSION,
    batch: int = typer.Option(32, min=1, help="Rows a step."),
    steps: int = typer.Option(4, min=1, help="Batches, of which the heaviest is taken."),
    text: Path | None = _TEXT,
    template: str | None = _TEMPLATE,
    dtype: str = _DTYPE,
    device: str | None = _DEVICE,
) -> None:
    """Peak memory of one training step."""
    from layerbridge.benchmarking.memory import run
    from layerbridge.benchmarking.train import TrainCase

    pair = _pair(encoder, language_model, dtype, device)
    case = TrainCase(pair, fusion, batch, steps, file=_name(text), template=template)
    _finish("memory", run(case), str(pair.place()))


@app.command("latency")
def latency(
    encoder: str = _ENCODER,
    language_model: str = _LANGUAGE_MODEL,
    translator: str | None = typer.Option(
        None, help="A seq2seq model, or shape:NAME, for translate-then-answer."
    ),
    texts: int = typer.Option(4, min=1, help="Texts a round, one at a time."),
    tokens: int = typer.Option(20, min=3, help="Encoder tokens of a text."),
    new_tokens: int = typer.Option(32, min=1, help="Generated after each text."),
    cache: str = typer.Option("dynamic", help="dynamic or static."),
    repeat: int = _REPEAT,
    dtype: str = _DTYPE,
    device: str | None = _DEVICE,
) -> None:
    """Milliseconds a generated token (the paper's Table V)."""
    from layerbridge.benchmarking.latency import LatencyCase, run
    from layerbridge.errors import ConfigError

    if cache not in ("dynamic", "static"):
        raise ConfigError(f"unknown cache {cache!r}", allowed=("dynamic", "static"))
    pair = _pair(encoder, language_model, dtype, device)
    case = LatencyCase(pair, texts, tokens, new_tokens, translator, cache)
    _finish("latency", _told("latency", lambda bar: run(case, repeat, bar)), str(pair.place()))


@app.command("serve")
def serve(
    run_folder: str | None = typer.Argument(
        None, metavar="[RUN]", help="A trained bridge: its folder or hub id."
    ),
    engines: str = typer.Option("torch,vllm", help="Which, with commas: torch, vllm."),
    url: str | None = typer.Option(None, help="A server that runs already, instead of a RUN."),
    concurrency: str = typer.Option("1,8,32,128", help="Clients, level by level."),
    requests: int | None = typer.Option(
        None, min=1, help="Of each level; twice the clients, 8 at least, if not given."
    ),
    max_tokens: int = typer.Option(32, min=2, help="Of every answer, exactly."),
    torch_python: str | None = typer.Option(None, help="An interpreter for the torch engine."),
    vllm_python: str | None = typer.Option(None, help="An interpreter that has vLLM."),
    alone: bool = typer.Option(True, "--alone/--no-alone", help="vLLM without the server too."),
    vllm_option: list[str] | None = typer.Option(
        None, help="Of its engine arguments, NAME=VALUE; may be given again."
    ),
    text: Path | None = typer.Option(
        None, help="A file of texts (.txt, a line each; JSONL, CSV, …); else built-in ones."
    ),
    template: str | None = _TEMPLATE,
    repeat: int = _REPEAT,
    dtype: str = _DTYPE,
    device: str | None = _DEVICE,
) -> None:
    """Servers under load: time to first token, tokens a second, latency.

    All get the same requests, in turn. Beside them, vLLM alone fed with the same embeddings.
    """
    from layerbridge.benchmarking.serve import ServeCase, run
    from layerbridge.cli.serve import _pairs
    from layerbridge.models.backbone import choose_device

    pythons = {"torch": torch_python, "vllm": vllm_python}
    place = str(choose_device(device))
    case = ServeCase(
        run=run_folder,
        engines=tuple(name.strip() for name in engines.split(",")),
        url=url,
        concurrency=_counts(concurrency),
        requests=requests,
        max_tokens=max_tokens,
        pythons={engine: python for engine, python in pythons.items() if python is not None},
        alone=alone,
        dtype=dtype,
        device=place,
        vllm_options=_pairs(vllm_option or []),
        file=_name(text),
        template=template,
    )
    found = _told("serve", lambda bar: run(case, repeat, bar))
    _show_levels(found)
    _finish("serve", found, place)


@app.command("all")
def all_(
    encoder: str = _ENCODER,
    language_model: str = _LANGUAGE_MODEL,
    repeat: int = _REPEAT,
    dtype: str = _DTYPE,
    device: str | None = _DEVICE,
) -> None:
    """All of them, with their defaults."""
    from layerbridge.benchmarking import evaluate, fusion, latency, memory, train

    pair = _pair(encoder, language_model, dtype, device)
    case = fusion.FusionCase(dtype=dtype, device=str(pair.place()))
    training = train.TrainCase(pair)
    found = {
        "fusion": _told("fusion", lambda bar: fusion.run(case, repeat, bar)),
        "train": _told("train", lambda bar: train.run(training, repeat, bar)),
        "evaluate": _told(
            "evaluate", lambda bar: evaluate.run(evaluate.EvaluateCase(pair), repeat, bar)
        ),
        "memory": memory.run(training),
        "latency": _told(
            "latency", lambda bar: latency.run(latency.LatencyCase(pair), repeat, bar)
        ),
    }
    for name, document in found.items():
        _show(name, document)
    _print(found, str(pair.place()))


@app.command("levers")
def levers() -> None:
    """What `bench train --levers` takes."""
    from layerbridge.benchmarking.optimizations import OPTIMIZATIONS

    for name, meaning in OPTIMIZATIONS.items():
        print(f"{name:12} {meaning}")


def _pair(encoder: str, language_model: str, dtype: str, device: str | None) -> Pair:
    from layerbridge.benchmarking.pair import Pair
    from layerbridge.models.backbone import choose_device, resolve_dtype

    resolve_dtype(dtype)  # says what is wrong with it before anything is read
    return Pair(encoder, language_model, dtype, str(choose_device(device)))


def _levers(names: str) -> frozenset[str]:
    from layerbridge.benchmarking.optimizations import ALL, OPTIMIZATIONS
    from layerbridge.errors import ConfigError

    if names in ("all", "none"):
        return ALL if names == "all" else frozenset()
    chosen = frozenset(name.strip() for name in names.split(","))
    for name in chosen - ALL:
        raise ConfigError(f"unknown lever {name!r}", allowed=("all", "none", *OPTIMIZATIONS))
    return chosen


def _counts(given: str) -> tuple[int, ...]:
    from layerbridge.errors import ConfigError

    try:
        return tuple(int(count) for count in given.split(","))
    except ValueError:
        raise ConfigError(
            f"--concurrency {given!r}", allowed="numbers with commas, such as 1,8,32"
        ) from None


def _name(file: Path | None) -> str | None:
    return None if file is None else str(file)


def _told(label: str, work: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    from layerbridge.progress import meter

    with meter(f"bench {label}") as bar:
        return work(bar.update)


def _finish(name: str, found: dict[str, Any], device: str) -> None:
    _show(name, found)
    _print({name: found}, device)


def _show(name: str, found: dict[str, Any]) -> None:
    """The figures as a table on stderr."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"bench {name}", title_justify="left", show_header=False)
    for key, value in found.items():
        if isinstance(value, dict) and all(isinstance(v, (int, float)) for v in value.values()):
            for inner, number in value.items():
                table.add_row(f"{key}: {inner}", _figure(number))
        elif isinstance(value, (int, float, str)):
            table.add_row(key, _figure(value))
    Console(stderr=True).print(table)


def _show_levels(found: dict[str, Any]) -> None:
    """What `bench serve` measured, level by level, on stderr."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    title = "bench serve: medians of rounds; p50/p99 in ms"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in ("engine", "clients", "tokens/s", "first token", "a token", "reply", "errors"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    for name, engine in found["engines"].items():
        for level in engine["levels"]:
            spreads = (level["ms_to_first_token"], level["ms_per_token"], level["latency_ms"])
            table.add_row(
                name,
                str(level["concurrency"]),
                _figure(level["tokens_per_second"]),
                *(f"{s['p50']:.0f}/{s['p99']:.0f}" if s else "–" for s in spreads),
                ", ".join(f"{count} × {kind}" for kind, count in level["errors"].items()) or "0",
            )
    Console(stderr=True).print(table)


def _figure(value: float | str) -> str:
    if isinstance(value, int) and value > 10**6:
        return f"{value / 2**20:,.0f} MiB"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _print(found: dict[str, Any], device: str) -> None:
    from layerbridge.benchmarking.measure import machine

    print(json.dumps({**found, "machine": machine(device)}))
