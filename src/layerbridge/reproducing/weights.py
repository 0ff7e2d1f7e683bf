"""The figure of layer weights: what ``global-softmax`` learned, of every seed.

Its weights are the same for every text, so no row is tested; they are read from the runs' logs.
"""

from __future__ import annotations

from layerbridge.evaluation.results import LanguageResult, Result
from layerbridge.report import plots
from layerbridge.report.tables.grid import Grid
from layerbridge.reproducing import rows
from layerbridge.reproducing.accuracy import work_through
from layerbridge.reproducing.jobs import jobs
from layerbridge.reproducing.outcome import ELSEWHERE, TABLE, Outcome, facts, heading
from layerbridge.reproducing.request import Request
from layerbridge.training import weight_log
from layerbridge.training.atomic_write import atomic_write

PICTURE = "figure2.png"


def run(request: Request) -> Outcome:
    """Trains what is not trained yet, and draws.

    Raises:
        LayerBridgeError: whatever a user can mend.
    """
    found = rows.read(request, test=False)
    wanted = jobs(request, found)
    work_through(wanted, request, found)
    logs = {job.seed: weight_log.read(job.folder) for job in wanted}
    last = {seed: log.weights[-1] for seed, log in logs.items()}
    folder = request.folder
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [_weights(request, seed, weights) for seed, weights in last.items()]
    paths = [plots.layer_weights_by_layer(drawn, folder / PICTURE)]
    for seed, log in logs.items():
        title = f"global-softmax ({request.experiment.task}), seed {seed}"
        path = folder / f"training-seed-{seed}.png"
        paths.append(plots.layer_weights_in_training(log, path, title=title))
    grid = _grid(last)
    text = "\n".join(
        [
            heading(request),
            f"Weight of each layer of `{request.preset.encoder}` after training "
            f"`global-softmax` on {len(found.data.train)} English rows of "
            f"`{request.experiment.task}`, the last layer at the bottom.\n",
            grid.markdown(),
            "The paper's weights are drawn in its figure; their numbers are not known here.\n",
        ]
    )
    paths.append(atomic_write(text, folder / TABLE, hint=ELSEWHERE))
    document = {
        **facts(request),
        "task": request.experiment.task,
        "encoder": request.preset.encoder,
        "weights": {str(seed): list(weights) for seed, weights in last.items()},
        "paper": None,
        "paths": [str(path) for path in paths],
    }
    return Outcome(tuple(paths), (grid,), document)


def _grid(last: dict[int, tuple[float, ...]]) -> Grid:
    several = len(last) > 1
    head = ["layer", *(["mean"] if several else []), *(f"seed {seed}" for seed in last)]
    body = []
    for layer, each in enumerate(zip(*last.values(), strict=True), 1):
        numbers = [sum(each) / len(each), *each] if several else list(each)
        body.append([str(layer), *(f"{number:.3f}" for number in numbers)])
    return Grid(head, body, 1)


def _weights(request: Request, seed: int, weights: tuple[float, ...]) -> Result:
    """What the picture takes: a result without answers. It is drawn, and never written."""
    drawn = LanguageResult(0, 0, 0.0, (0.0, 1.0), (), weights)
    return Result(
        method="global-softmax",
        task=request.experiment.task,
        protocol="score",
        split="test",
        seed=seed,
        languages={"en": drawn},
    )
