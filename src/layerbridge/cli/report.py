"""``layerbridge report``: results and runs as one HTML page."""

from __future__ import annotations

from pathlib import Path

import typer

from layerbridge.cli import options as o


def report(
    context: typer.Context,
    runs: o.ResultFiles,
    against: o.Against = "last",
    title: str | None = o.option(None, "Page title; what was evaluated if omitted."),
    sentence: list[str] | None = o.option(
        None, "Text to show token by token (repeatable); loads the models."
    ),
    bridge: str | None = o.option(None, "Run that reads the sentences; the only RUN if omitted."),
    dtype: o.Dtype = "auto",
    device: o.Device = None,
    output: o.OutputFile = Path("report.html"),
) -> None:
    """Write a report: one self-contained HTML page."""
    from layerbridge import report as reports
    from layerbridge.report.page import check_path

    check_path(output)
    sentence = sentence or []
    token_maps = []
    if sentence:
        from layerbridge.cli.plot import token_weights
        from layerbridge.errors import ConfigError
        from layerbridge.hub.named_run import split_name

        if bridge is None and len(runs) > 1:
            raise ConfigError("--sentence needs one run, several were given", hint="--bridge RUN")
        token_maps = token_weights(bridge or split_name(runs[0])[1], sentence, context.params)
    print(
        reports.write(
            runs, output, against=against, title=title, sentences=token_maps, bridge=bridge
        )
    )
