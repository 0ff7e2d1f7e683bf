"""``layerbridge zoo``: small models that need no model hub."""

from __future__ import annotations

import json

import typer

from layerbridge.cli import options as o

app = typer.Typer(help="List, download and locate small open models.", no_args_is_help=True)


@app.command("list")
def list_(as_json: o.Json = False) -> None:
    """List the models and whether they are on this machine."""
    from layerbridge.hub import zoo

    rows = [
        {
            "name": entry.name,
            "kind": entry.kind,
            "licence": entry.licence,
            "download_mb": entry.download_mb,
            "disk_mb": entry.disk_mb,
            "present": zoo.is_present(entry.name),
            "description": entry.description,
        }
        for entry in zoo.entries()
    ]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        state = "present" if row["present"] else f"{row['download_mb']} MB to download"
        print(f"zoo:{row['name']}\t{row['kind']}\t{row['licence']}\t{state}\t{row['description']}")


@app.command("pull")
def pull(
    names: list[str] = o.argument(..., "NAME", "Names from `layerbridge zoo list`."),
    force: bool = o.option(False, "Download again even if present.", "--force"),
) -> None:
    """Download models and print their folders."""
    from layerbridge.hub import zoo

    for name in names:
        zoo.entry(name.removeprefix("zoo:"))  # a misspelled second name stops the first download
    for name in names:
        print(zoo.pull(name.removeprefix("zoo:"), force=force))


@app.command("path")
def path(
    name: str = o.argument(..., "NAME", "A name from `layerbridge zoo list`."),
) -> None:
    """Print the folder of a downloaded model."""
    from layerbridge.hub import zoo

    print(zoo.path(name.removeprefix("zoo:")))
