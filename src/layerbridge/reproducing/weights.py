"""The figure of layer weights that ``global-softmax`` learns, from the logs of its runs."""

from __future__ import annotations

from layerbridge.evaluation.results import LanguageResult, Result
from layerbridge.report import plots
from layerbridge.report.tables.grid import Grid
from layerbridge.reproducing import paper
from layerbridge.reproducing.jobs import jobs
from layerbridge.reproducing.outcome import Outcome
from layerbridge.reproducing.request import Request
from layerbridge.reproducing.rows import Rows
from layerbridge.reproducing.runner import run_jobs
from layerbridge.training import weight_log


def run(request: Request) -> Outcome:
    """Trains what is not trained yet, and plots the weights."""
    # The weights are the same for every text: no test row is needed.
    rows = Rows.read(request, test=False)
    all_jobs = jobs(request, rows)
    run_jobs(all_jobs, request, rows)
    logs = {job.seed: weight_log.read(job.folder) for job in all_jobs}
    last = {seed: log.weights[-1] for seed, log in logs.items()}
    task, folder = request.experiment.task, request.folder
    folder.mkdir(parents=True, exist_ok=True)
    # A plot takes results: these have no answers.
    results = [
        Result(
            method="global-softmax",
            task=task,
            protocol="score",
            split="test",
            seed=seed,
            languages={"en": LanguageResult(0, 0, 0.0, (0.0, 1.0), (), weights)},
        )
        for seed, weights in last.items()
    ]
    paths = [plots.layer_weights_by_layer(results, folder / "figure2.png")]
    for seed, log in logs.items():
        title = f"global-softmax ({task}), seed {seed}"
        path = folder / f"training-seed-{seed}.png"
        paths.append(plots.layer_weights_in_training(log, path, title=title))
    several = len(last) > 1
    head = ["layer", *(["mean"] if several else []), *(f"seed {seed}" for seed in last)]
    body = []
    for layer, weights in enumerate(zip(*last.values(), strict=True), 1):
        numbers = [sum(weights) / len(weights), *weights] if several else list(weights)
        body.append([str(layer), *(f"{number:.3f}" for number in numbers)])
    grid = Grid(head, body, 1)
    paragraphs = [
        f"Weight of each layer of `{request.encoder}` after training `global-softmax` on "
        f"{len(rows.data.train)} English rows of `{task}`, the last layer at the bottom.\n",
        grid.markdown(),
        f"The paper's figure has no numbers. In it, {paper.layer_weights()}.\n",
    ]
    facts = {
        "task": task,
        "encoder": request.encoder,
        "weights": {str(seed): list(weights) for seed, weights in last.items()},
        "paper": paper.layer_weights(),
    }
    return Outcome.write(request, paragraphs, [grid], facts, paths=paths)
