"""The plan: what a command would do, how long it would take and what room it would need.

It fetches nothing, reads no model, and of the rows no more than it must to guess at their length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from layerbridge.benchmarking.shapes import PREFIX
from layerbridge.errors import OutputError
from layerbridge.report.tables.grid import ABSENT, Grid
from layerbridge.reproducing import estimate
from layerbridge.reproducing.estimate import Sizes
from layerbridge.reproducing.jobs import Job, Left, jobs, left
from layerbridge.reproducing.outcome import facts
from layerbridge.reproducing.request import FLOOR, TRANSLATE, Request
from layerbridge.reproducing.shared import room


@dataclass(frozen=True)
class Step:
    """One job of the plan.

    Attributes:
        method: its name.
        seed: its seed.
        state: what is there of it.
        steps: of training; 0 where nothing is trained.
        rows: read in training, some of them several times.
        test_rows: to answer, in all languages and protocols; None where nobody knows.
        seconds: about; None where nobody knows.
    """

    method: str
    seed: int
    state: str
    steps: int = 0
    rows: int = 0
    test_rows: int | None = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Plan:
    """All of it.

    Attributes:
        request: what was asked for.
        steps: a job each.
        notes: sentences.
        document: JSON values.
    """

    request: Request
    steps: tuple[Step, ...]
    notes: tuple[str, ...]
    document: dict[str, Any]

    @property
    def grid(self) -> Grid:
        """As a table, a row a job."""
        head = ["method", "seed", "state", "steps", "rows read", "test rows", "time"]
        body = [
            [
                step.method,
                str(step.seed),
                step.state,
                str(step.steps or ABSENT),
                str(step.rows or ABSENT),
                ABSENT if step.test_rows is None else str(step.test_rows),
                duration(step.seconds),
            ]
            for step in self.steps
        ]
        return Grid(head, body, 3)


def plan(request: Request) -> Plan:
    """What the command would do.

    Raises:
        ConfigError: there is no such device here.
        DataError: a folder is missing, or holds nothing of the task.
    """
    if request.experiment.kind == "latency":
        return _latency(request)
    task = request.task()
    held = task.dataset_info()
    of = estimate.sizes(request.preset.encoder, request.preset.language_model)
    tokens = estimate.text_tokens(task)
    train = min(request.preset.rows, held.train or request.preset.rows)
    counts = [
        count if most is None else min(count or most, most)
        for count in held.test.values()
        for most in (request.preset.test_rows,)
    ]
    tested = None if None in counts else sum(count for count in counts if count is not None)
    speed = estimate.rate(request) if of else 0.0
    made = [
        _step(job, request, of, tokens=tokens, train=train, tested=tested, speed=speed)
        for job in jobs(request, None)
    ]
    notes = [
        f"rows of {task.name}: {held.place}; a text has about {tokens} tokens",
        *_disk(request, of, made, tokens=tokens, train=train, tested=tested),
    ]
    if of is None:
        notes.append("time: not known for these models")
    else:
        whole = sum(step.seconds or 0.0 for step in made)
        whole += _reading_once(request, of, made, tokens=tokens, train=train) / speed
        notes.append(f"time in all: about {duration(whole)} on {request.place}")
    if tested is None:
        notes.append("how many test rows there are is known when they are read: they are not in it")
    if TRANSLATE in request.methods:
        notes.append("the time of translating is not in it")
    notes += _pickles(request)
    return _plan(request, made, notes)


def duration(seconds: float | None) -> str:
    """As people say it: ``40 s``, ``12 min``, ``3.5 h``, ``12 days``."""
    if seconds is None:
        return ABSENT
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


def size(count: float) -> str:
    """Bytes as people read them."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _plan(request: Request, made: Sequence[Step], notes: Sequence[str]) -> Plan:
    document = {
        **facts(request),
        "dry_run": True,
        "jobs": [asdict(step) for step in made],
        "notes": list(notes),
    }
    return Plan(request, tuple(made), tuple(notes), document)


def _latency(request: Request) -> Plan:
    timing = request.preset.timing
    notes = [
        f"{timing.repeat} rounds of {timing.texts} texts, {timing.new_tokens} tokens after each, "
        "and one token after each",
        *_models((timing.encoder, timing.language_model)),
        "time: not estimated, minutes on most machines",
    ]
    return _plan(request, [], notes)


def _step(
    job: Job,
    request: Request,
    of: Sizes | None,
    *,
    tokens: int,
    train: int,
    tested: int | None,
    speed: float,
) -> Step:
    state, todo = _state(job, request)
    steps = rows = 0
    if todo.train:
        passes, per_step = request.preset.passes, request.preset.per_step
        if passes is None:
            assert job.recipe is not None
            steps = job.recipe.training["max_steps"]
            rows = steps * per_step
        else:
            steps, rows = passes * -(-train // per_step), passes * train
    answered = None if tested is None else tested * len(todo.protocols)
    seconds = None
    if of is not None:
        ask = estimate.asking if job.recipe is not None else estimate.asking_alone
        flop = 0.0 if job.method == FLOOR else ask(of, answered or 0, tokens)
        flop += estimate.training(of, rows, tokens)
        if not _kept(request, of, train, tokens):
            flop += estimate.reading(of, rows, tokens)
        seconds = flop / speed
    return Step(job.method, job.seed, state, steps, rows, answered, seconds)


def _state(job: Job, request: Request) -> tuple[str, Left]:
    everything = Left(job.recipe is not None, job.protocols)
    try:
        todo = left(job, overwrite=request.overwrite)
    except OutputError as error:
        return error.problem.removeprefix(f"{str(job.folder)!r} "), everything
    if todo.nothing:
        return "done", todo
    if todo.changed != "nothing":
        return "other settings, to be done again", todo
    begun = job.folder.is_dir() and any(job.folder.iterdir())
    return ("begun" if begun else "to do"), todo


def _kept(request: Request, of: Sizes, train: int, tokens: int) -> str | None:
    """Where the encoder's states would be kept."""
    needed = estimate.state_bytes(of, train, tokens, request.dtype)
    return room(needed, request.place, request.runs)


def _reading_once(
    request: Request, of: Sizes, made: Sequence[Step], *, tokens: int, train: int
) -> float:
    """FLOP of reading the training texts for all bridges."""
    once = any(step.steps for step in made) and _kept(request, of, train, tokens)
    return estimate.reading(of, train, tokens) if once else 0.0


def _disk(
    request: Request,
    of: Sizes | None,
    made: Sequence[Step],
    *,
    tokens: int,
    train: int,
    tested: int | None,
) -> list[str]:
    names = [request.preset.encoder, request.preset.language_model]
    if request.translator is not None and TRANSLATE in request.methods:
        names.append(request.translator)
    notes = _models(names)
    answers = sum(step.test_rows or 0 for step in made) * estimate.ANSWER_BYTES
    if of is not None:
        trained = [step.method for step in made if step.steps]
        checkpoints = sum(estimate.checkpoint_bytes(of, name) for name in trained)
        notes.append(f"checkpoints: {size(checkpoints)}, result files: {size(answers)}")
        if trained:
            where = _kept(request, of, train, tokens)
            needed = size(estimate.state_bytes(of, train, tokens, request.dtype))
            told = f"{needed} of {where} while it trains" if where else f"{needed}, not kept"
            notes.append(f"the encoder's states of the training texts: {told}")
    return notes


def _models(names: Sequence[str]) -> list[str]:
    notes = []
    for name in names:
        needed = estimate.to_fetch(name)
        if name.startswith(PREFIX):
            notes.append(f"{name}: random weights of that size, nothing to fetch")
        elif needed is None:
            notes.append(f"{name}: to be fetched if it is not here")
        else:
            notes.append(f"{name}: {f'{size(needed)} to fetch' if needed else 'here'}")
    return notes


def _pickles(request: Request) -> list[str]:
    pickled = [
        name
        for name in (request.preset.encoder, request.preset.language_model)
        if name in request.preset.pickled and not request.allow_pickle
    ]
    return [f"{name} is published as a pickle: it needs --allow-pickle" for name in pickled]
