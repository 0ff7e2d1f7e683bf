"""``python -m layerbridge.integrations.lm_eval``: the harness's ``lm-eval`` that knows bridges.

The model is ``layerbridge`` and the shipped tasks are found, unless ``--model`` or
``--include_path`` says otherwise.
"""

from __future__ import annotations

import sys

from layerbridge.errors import LayerBridgeError, missing_extra
from layerbridge.integrations.lm_eval import TASKS
from layerbridge.progress import say

# Of the harness's command; what does not start with one is ``run``.
_COMMANDS = ("run", "ls", "validate")


def main() -> None:
    """Runs the harness; a user's error is one line on stderr and exit code 2."""
    try:
        import lm_eval.models  # noqa: F401 # read by the registry only while it is empty
        from lm_eval.__main__ import cli_evaluate
        from lm_eval.api.registry import model_registry

        if "layerbridge" not in model_registry:
            target = "layerbridge.integrations.lm_eval:BridgeLM"
            model_registry.register("layerbridge", target=target)
        sys.argv[1:] = with_defaults(sys.argv[1:])
        cli_evaluate()
    except (LayerBridgeError, ImportError) as error:
        problem = missing_extra(error) if isinstance(error, ImportError) else error
        if problem is None:
            raise
        say(f"error: {problem}")
        sys.exit(2)


def with_defaults(words: list[str]) -> list[str]:
    """Returns the command line with the model and the folder of tasks, where it has none."""
    if not words or words[0] in ("-h", "--help"):
        return words
    command, rest = (words[0], words[1:]) if words[0] in _COMMANDS else ("run", words)
    names = {word.partition("=")[0] for word in rest}
    if not rest or names & {"-h", "--help"}:
        return words
    if "--include_path" not in names:
        rest = [*rest, "--include_path", str(TASKS)]
    # A file of settings may name the model.
    if command == "run" and not names & {"--model", "-M", "--config", "-C"}:
        rest = [*rest, "--model", "layerbridge"]
    return [command, *rest]


if __name__ == "__main__":
    main()
