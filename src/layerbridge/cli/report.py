"""``layerbridge report``: results and runs as one HTML page."""

from __future__ import annotations

from pathlib import Path

import typer


def report(
    runs: list[Path] = typer.Argument(..., help="Result files, or folders that hold some."),
    output: Path = typer.Option(Path("report.html"), "--output", "-o", help="The page."),
    against: str = typer.Option("last", help="The method that the others are compared with."),
    title: str | None = typer.Option(None, help="Of the page; what was evaluated if not given."),
    sentence: list[str] = typer.Option(
        [], help="A text to show token by token; may be given more than once. Reads the models."
    ),
    bridge: str | None = typer.Option(
        None, help="The run that reads the sentences; the only RUN if not given."
    ),
    dtype: str = typer.Option("auto", help="Of the bridge's backbones."),
    device: str | None = typer.Option(None, help="cpu, cuda, …; the best there is if not given."),
) -> None:
    """Write a report: one HTML page that needs nothing but itself."""
    from layerbridge import report as reports
    from layerbridge.report.commands import report_command
    from layerbridge.report.page import check_path

    check_path(output)
    asked = []
    if sentence:
        from layerbridge.cli.plot import sentences
        from layerbridge.errors import ConfigError

        if bridge is None and len(runs) > 1:
            raise ConfigError("there are several runs to read the sentences", hint="--bridge RUN")
        asked = sentences(bridge or str(runs[0]), sentence, dtype=dtype, device=device)
    line = report_command(
        runs, output, against=against, title=title, sentences=sentence, bridge=bridge
    )
    print(reports.write(runs, output, against=against, title=title, sentences=asked, command=line))
