"""transformers' ``generate`` on left-padded embeddings, within the positions that a model has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, StoppingCriteriaList
from transformers.generation import MaxLengthCriteria

from layerbridge.models.finite import check_rows, finite_rows
from layerbridge.models.packing import PackedInputs
from layerbridge.progress import say


@dataclass
class AnswerCount:
    """How many answers were generated, and how many of them are cut at the positions' end."""

    number: int = 0
    cut: int = 0

    def report(self) -> None:
        """Says how many are cut, if any is."""
        if self.cut:
            say(
                f"{self.cut} of {self.number} answers are cut where the language model's "
                "positions end"
            )


_counted: ContextVar[AnswerCount | None] = ContextVar("_counted", default=None)


@contextmanager
def answers_counted() -> Iterator[AnswerCount]:
    """Counts the answers of the block, which are not reported otherwise."""
    answers = AnswerCount()
    token = _counted.set(answers)
    try:
        yield answers
    finally:
        _counted.reset(token)


@contextmanager
def cut_answers_said() -> Iterator[None]:
    """Says once, at the end of the block, how many of its answers are cut at the positions' end."""
    with answers_counted() as answers:
        yield
    answers.report()


def generate_within(
    limit: int | None,
    model: PreTrainedModel,
    packed: PackedInputs,
    arguments: Mapping[str, Any],
) -> Any:
    """Runs ``generate``; answers that do not end within ``limit`` positions are cut.

    They are counted, and said here unless a block of ``cut_answers_said`` says it.

    Args:
        limit: of prompt and answer, in tokens; the prompts fit. None for no limit.
        model: the causal language model.
        packed: the prompts.
        arguments: of ``generate``.

    Raises:
        NotFiniteError: logits are not finite.
    """
    arguments = dict(arguments)
    room = None if limit is None else limit - packed.attention_mask.shape[1]
    wanted = arguments.get("max_new_tokens")
    may_be_cut = room is not None and (wanted is None or wanted > room)
    if may_be_cut:
        criteria = StoppingCriteriaList(arguments.get("stopping_criteria") or ())
        # Without a prompt of ids, the new tokens are all there is to count.
        criteria.append(MaxLengthCriteria(max_length=room))
        arguments["stopping_criteria"] = criteria
    with checked_head(model, len(packed.attention_mask), "the language model's logits"):
        output = model.generate(
            inputs_embeds=packed.inputs_embeds, attention_mask=packed.attention_mask, **arguments
        )
    ids = output if isinstance(output, Tensor) else output.sequences
    cut = 0
    if may_be_cut and ids.shape[1] == room:
        ends = torch.as_tensor(arguments.get("eos_token_id") or [], device=ids.device)
        cut = int((~torch.isin(ids, ends).any(1)).sum())
    answers = _counted.get()
    if answers is not None:
        answers.number += len(ids)
        answers.cut += cut
    elif cut:
        say(
            f"{cut} of {len(ids)} answers end after {room} tokens, where the language model's "
            f"{limit} positions end"
        )
    return output


@contextmanager
def checked_head(model: PreTrainedModel, batch: int, what: str) -> Iterator[None]:
    """Makes the head's input contiguous while it is active, and checks its output.

    transformers passes the last position of [B, T, D] as a strided slice. On a CPU that becomes a
    batched product, which copies the vocabulary matrix once per row.

    Args:
        model: generates.
        batch: number of its prompts.
        what: its logits, for the message.

    Raises:
        NotFiniteError: within the context, logits are not finite.
    """

    def check(head: nn.Module, inputs: tuple[Tensor], logits: Tensor) -> None:
        # Each prompt has one row, or as many as there are beams or sequences.
        finite = finite_rows(logits).view(batch, -1).all(1)
        check_rows(finite, what, model.dtype)

    head = model.get_output_embeddings()
    with ExitStack() as hooks:
        contiguous = head.register_forward_pre_hook(
            lambda _, inputs: (inputs[0].contiguous(), *inputs[1:])
        )
        hooks.callback(contiguous.remove)
        hooks.callback(head.register_forward_hook(check).remove)
        yield
