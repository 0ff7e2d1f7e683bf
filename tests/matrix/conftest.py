"""Writes docs/models.md from what the matrix test found, if LAYERBRIDGE_MODELS_TABLE names it."""

from __future__ import annotations

import os
from pathlib import Path

import transformers

HEAD = """# Models that were tried

Made by `make test-matrix` from what `tests/matrix` found, on tiny random models of each family
(transformers {version}). Do not edit it.

A backbone is asked what it does when it is loaded (`models/probes/`), so that this table is no
list of what is allowed: a family that is not in it is refused only if it breaks what the method
relies on. What was checked, against transformers' own model used slowly, one text at a time:

- **layers**: the states are the embeddings' output and those of each layer, by hooks on the model's
  own layers; *as reported*: the layers are no list of modules, and the states were compared with
  those that the model itself reports;
- **padding**: a text has the same states or logits alone and in a batch;
- **five calls**: shallow, whole and only the last layer in turn, bit by bit;
- **loss and gradients**, **scores** of label words and **greedy tokens** equal an independent form;
- **bfloat16**: close to float32; **save and load**: a saved bridge answers the same.

Padding of language models is part of all but the last two.
A family is missing where no tiny model of it could be made, where a check failed, or where the run
was stopped before it.
"""
ROLES = (("encoder", "Encoders"), ("language model", "Language models"))
_found: dict[tuple[str, str], list[str] | str] = {}


def pytest_runtest_logreport(report):
    if report.when == "call" and report.passed:
        for name, value in report.user_properties:
            if name == "family":
                family, role, outcome = value
                _found[role, family] = outcome
                _write()


def _write():
    """Each time, so that a run that is stopped has written what it found."""
    path = os.environ.get("LAYERBRIDGE_MODELS_TABLE")
    if path is None or "PYTEST_XDIST_WORKER" in os.environ:
        return
    lines = [HEAD.format(version=transformers.__version__)]
    for role, title in ROLES:
        mine = {family: outcome for (r, family), outcome in _found.items() if r == role}
        right = {family: found for family, found in mine.items() if not isinstance(found, str)}
        refused = {family: found for family, found in mine.items() if isinstance(found, str)}
        lines += [f"## {title}\n", f"{len(right)} right, {len(refused)} refused.\n"]
        lines += ["| family | checked |", "|---|---|"]
        lines += [f"| {family} | {', '.join(right[family])} |" for family in sorted(right)]
        lines += ["", "Refused:\n", "| family | message |", "|---|---|"]
        for family in sorted(refused):
            message = refused[family].removeprefix("refused: ").replace("|", "\\|")
            lines.append(f"| {family} | {message} |")
        lines.append("")
    Path(path).write_text("\n".join(lines))
