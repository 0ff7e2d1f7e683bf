"""Tables of accuracies: all methods and seeds of one task, then the table and what it says.

It strings jobs together; what is there already is not done again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from layerbridge.evaluation import results
from layerbridge.evaluation.baselines.few_shot import SHOTS, draw
from layerbridge.evaluation.results import CLASSIFIER, Result
from layerbridge.progress import say
from layerbridge.reproducing import accuracy_files, rows
from layerbridge.reproducing.jobs import Job, Left, jobs, todo
from layerbridge.reproducing.outcome import Outcome
from layerbridge.reproducing.request import LM_FEW_SHOT, TRANSLATE, Request
from layerbridge.reproducing.rows import Rows
from layerbridge.reproducing.shared import Shared
from layerbridge.reproducing.work import do, translator


def run(request: Request) -> Outcome:
    """Does what is left of it, and puts it together.

    Raises:
        LayerBridgeError: whatever a user can mend; before any model is read where possible.
    """
    found = rows.read(request)
    wanted = jobs(request, found)
    work_through(wanted, request, found)
    return accuracy_files.write(request, found, by_protocol(wanted, request))


def work_through(wanted: Sequence[Job], request: Request, found: Rows) -> None:
    """Does every job that is not done.

    Raises:
        LayerBridgeError: as ``run``.
    """
    left = todo(wanted, overwrite=request.overwrite)
    say(f"{len(wanted) - len(left)} of {len(wanted)} runs are there already")
    if not left:
        return
    shared = Shared(request)
    request.check_pickles()
    methods = {job.method for job, _ in left}
    if LM_FEW_SHOT in methods:
        draw(found.task, SHOTS, 0)  # says whether there are rows enough
    if TRANSLATE in methods:
        translator(request, shared.device).check(code for code in found.counts if code != "en")
    shared.check()
    found.data.report_dropped()
    say(f"{len(found.data.train)} English rows of {found.task.name}; {shared.device}")
    with ExitStack() as during:
        # Once for all bridges, before the first of them.
        last = max((n for n, (_, state) in enumerate(left) if state.train), default=-1)
        kept = False
        for number, (job, state) in enumerate(left):
            if state.train and not kept:
                kept = True
                texts = [row.text for row in found.data.train]
                during.enter_context(shared.states(texts, request.runs))
            say(f"[{number + 1}/{len(left)}] {job.label}{_told(state)}")
            do(job, state, request, found, shared)
            if number == last:
                during.close()


def by_protocol(wanted: Sequence[Job], request: Request) -> dict[str, list[tuple[Path, Result]]]:
    """The results that go into one table each; those without a language model into all of them."""
    read = [
        (protocol, job.path(protocol), results.read(job.path(protocol)))
        for job in wanted
        for protocol in job.protocols
    ]
    return {
        protocol: [(path, result) for its, path, result in read if its in (CLASSIFIER, protocol)]
        for protocol in request.preset.protocols
    }


def _told(left: Left) -> str:
    return "" if left.train or not left.protocols else f": {', '.join(left.protocols)}"
