"""``layerbridge zoo``: the small models that come without a model hub."""

from __future__ import annotations

import json

import typer

app = typer.Typer(
    help="Small open models for first steps: list, pull, path.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_(as_json: bool = typer.Option(False, "--json", help="One JSON array.")) -> None:
    """The models of the zoo, and which of them are here."""
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
        state = "here" if row["present"] else f"{row['download_mb']} MB to fetch"
        print(f"zoo:{row['name']}\t{row['kind']}\t{row['licence']}\t{state}\t{row['description']}")


@app.command("pull")
def pull(
    names: list[str] = typer.Argument(..., help="Names as in `layerbridge zoo list`."),
    force: bool = typer.Option(False, "--force", help="Fetch again what is here."),
) -> None:
    """Fetch models and print their folders."""
    from layerbridge.hub import zoo

    for name in names:
        zoo.entry(name.removeprefix("zoo:"))  # a misspelt second name stops before the first pull
    for name in names:
        print(zoo.pull(name.removeprefix("zoo:"), force=force))


@app.command("path")
def path(name: str = typer.Argument(..., help="A name as in `layerbridge zoo list`.")) -> None:
    """Print the folder of a model that is here."""
    from layerbridge.hub import zoo

    print(zoo.path(name.removeprefix("zoo:")))
