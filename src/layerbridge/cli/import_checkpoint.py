"""``layerbridge import``: a run from a checkpoint of LangBridge or of the paper's authors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from layerbridge.cli import options as o
from layerbridge.cli.values import label_words, load_options

Checkpoint = Annotated[
    Path, typer.Argument(metavar="CHECKPOINT", help="File or folder: safetensors or torch.")
]


def import_checkpoint(
    context: typer.Context,
    checkpoint: Checkpoint,
    output_dir: o.OutputFolder,
    encoder: o.Encoder = None,
    language_model: o.LanguageModel = None,
    labels: o.Labels = None,
    template: o.Template = None,
    dtype: o.Dtype = "auto",
    device: o.Device = "cpu",
    trust_remote_code: o.TrustRemoteCode = False,
    allow_pickle: o.AllowPickle = False,
    overwrite: bool = o.output(False, "Replace an earlier run in the folder.", "--overwrite"),
) -> None:
    """Make a run from LangBridge's or the authors' checkpoint.

    The encoder and the language model must be named, unless the checkpoint's config.json does.
    What LangBridge has trained of them comes along as folders of the run. Torch files are read
    without running what is in them.
    """
    from layerbridge.training import checkpoint_import

    checkpoint_import.import_checkpoint(
        checkpoint,
        output_dir,
        encoder=encoder,
        language_model=language_model,
        options=label_words(labels),
        template=template,
        load_options=load_options(context.params),
        overwrite=overwrite,
    )
    print(output_dir)
