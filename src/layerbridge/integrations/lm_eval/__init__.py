"""EleutherAI's lm-evaluation-harness with a bridge as its model (docs/lm-eval.md).

model      ``BridgeLM``, what the harness calls ``layerbridge``
batches    requests in batches that fit into memory
tasks/     task files whose text is foreign and whose answers are English
__main__   the harness's command, for releases that do not find models of other packages
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerbridge.integrations.lm_eval.model import BridgeLM as BridgeLM

# For the harness's --include_path.
TASKS = Path(__file__).parent / "tasks"


def __getattr__(name: str) -> type:
    # The harness takes seconds to import, and the path of the tasks needs none of it.
    if name == "BridgeLM":
        from layerbridge.integrations.lm_eval.model import BridgeLM

        return BridgeLM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
