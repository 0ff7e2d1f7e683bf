"""Forward passes of a frozen language model, each in the way that is right for it.

Legend: B batch, m tokens of a pass, T LM tokens, D LM width, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from layerbridge.errors import LengthError
from layerbridge.models.caches import Reread, without_pads
from layerbridge.models.compilation import uncompiled
from layerbridge.models.exact_logits import with_exact
from layerbridge.models.placement import Placed
from layerbridge.models.positions import position_limit
from layerbridge.models.probes.language_model_traits import LanguageModelTraits, body_arguments


class Passes(Placed):
    """The body and the head of a language model.

    Args:
        model: frozen.
        has_body: false for a model that has input embeddings and nothing else: it cannot be run.

    Attributes:
        traits: what probes found out about the model; they are run by the subclass.
        max_tokens: the context length in tokens; None where there is no limit.
        takes_positions: whether the model takes position ids.
        compiled: whether its layers are.
    """

    def __init__(self, model: PreTrainedModel, *, has_body: bool = True) -> None:
        super().__init__()
        self.model = model
        self.has_body = has_body
        self.traits = LanguageModelTraits()
        self.max_tokens = position_limit(model)
        parameters = inspect.signature(model.base_model.forward).parameters
        self.takes_positions = "position_ids" in parameters
        self.compiled = False
        config = model.config.get_text_config()
        self.logit_cap: float | None = getattr(config, "final_logit_softcapping", None)
        # Cohere multiplies its logits, Granite divides them.
        scale, divisor = getattr(config, "logit_scale", None), getattr(config, "logits_scaling", 1)
        self.logit_scale: float = (1.0 if scale is None else scale) / divisor

    def head(self, hidden: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
        """Returns the logits of final hidden states, scaled or capped as the family does it."""
        assert self.has_body
        # Of a spread model the head may be on another device.
        return self._shaped(self.model.get_output_embeddings()(hidden).to(hidden.device))

    def _shaped(self, logits: Float[Tensor, "... V"]) -> Float[Tensor, "... V"]:
        if self.logit_scale != 1.0:
            logits = logits * self.logit_scale
        if self.logit_cap is not None:
            logits = torch.tanh(logits / self.logit_cap) * self.logit_cap
        return logits

    def last_logits(
        self,
        embeds: Float[Tensor, "B m D"],
        mask: Int[Tensor, "B T"],
        cache: Any = None,
        *,
        keep: int = 1,
        use_cache: bool = True,
        exact: Int[Tensor, " U"] | None = None,
    ) -> tuple[Float[Tensor, "B keep V"], Any]:
        """Returns the logits of the last ``keep`` positions, and the cache (None without one).

        Args:
            embeds: the last m of T tokens.
            mask: 1 for real tokens, the cached ones included.
            cache: of the first T - m tokens; it may be modified.
            keep: number of positions.
            use_cache: whether to make or extend a cache.
            exact: tokens whose logits are computed in float32, if the head is separable.
        """
        self.check_length(mask)
        traits = self.traits
        with self.uncompiled() if use_cache else nullcontext():
            if traits.cache is None:
                embeds = embeds if cache is None else torch.cat([cache.embeds, embeds], 1)
                logits = self._by_length(self._logits, embeds, mask)[:, -keep:]
                return logits, Reread(embeds) if use_cache else None
            if cache is None or traits.reads_several or embeds.shape[1] == 1:
                return self._step(embeds, mask, cache, keep=keep, use_cache=use_cache, exact=exact)
            parts, past = [], mask.shape[1] - embeds.shape[1]
            for at in range(embeds.shape[1]):
                one, until = embeds[:, at : at + 1], mask[:, : past + at + 1]
                logits, cache = self._step(
                    one, until, cache, keep=1, use_cache=use_cache, exact=exact
                )
                parts.append(logits)
            return torch.cat(parts, 1)[:, -keep:], cache

    def _step(
        self,
        embeds: Float[Tensor, "B m D"],
        mask: Int[Tensor, "B T"],
        cache: Any,
        *,
        keep: int,
        use_cache: bool,
        exact: Int[Tensor, " U"] | None,
    ) -> tuple[Float[Tensor, "B keep V"], Any]:
        """Returns what ``last_logits`` does, by one pass of the model over all m tokens."""
        arguments = {**self._arguments(embeds, mask, cache), "use_cache": use_cache}
        assert self.traits.cache is not None
        if self.traits.head_is_separable:
            output = self.model.base_model(**arguments)
            hidden = output.last_hidden_state[:, -keep:].to(embeds.device).contiguous()
            logits = self.head(hidden)
            if exact is not None:
                head = self.model.get_output_embeddings()
                logits = with_exact(logits, hidden, exact, head, self._shaped)
        else:
            output = self.model(**arguments, **self._keeping(keep))
            logits = output.logits[:, -keep:]
        return logits, getattr(output, self.traits.cache) if use_cache else None

    def _by_length(
        self,
        compute: Callable[[Tensor, Tensor], Tensor],
        embeds: Float[Tensor, "B T D"],
        mask: Int[Tensor, "B T"],
    ) -> Float[Tensor, "B T _"]:
        if self.traits.ignores_pads:
            return compute(embeds, mask)
        return without_pads(compute, embeds, mask)

    def hidden(
        self, embeds: Float[Tensor, "B T D"], mask: Int[Tensor, "B T"]
    ) -> Float[Tensor, "B T D"]:
        """Returns the final hidden states, the head's input.

        Raises:
            LengthError: a row has more tokens than the model has positions.
        """
        self.check_length(mask)
        return self._by_length(self._hidden, embeds, mask)

    def _hidden(
        self, embeds: Float[Tensor, "B T D"], mask: Int[Tensor, "B T"]
    ) -> Float[Tensor, "B T D"]:
        arguments = self._arguments(embeds, mask)
        output = self.model.base_model(**arguments, use_cache=False)
        return output.last_hidden_state.to(embeds.device)

    def _logits(
        self, embeds: Float[Tensor, "B T D"], mask: Int[Tensor, "B T"]
    ) -> Float[Tensor, "B T V"]:
        return self.model(**self._arguments(embeds, mask), use_cache=False).logits

    def _keeping(self, keep: int) -> dict[str, int]:
        takes = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        return {"logits_to_keep": keep} if takes else {}

    def check_length(self, mask: Int[Tensor, "B T"], answer: int = 0) -> None:
        """Checks that rows, and an answer to each, fit the model's positions.

        Raises:
            LengthError: they do not.
        """
        if self.max_tokens is None or mask.shape[1] + answer <= self.max_tokens:
            return
        lengths = mask.sum(1)  # without the padding
        longest = int(lengths.max())
        if longest + answer > self.max_tokens:
            raise LengthError(
                f"row {int(lengths.argmax()) + 1} of the batch takes {longest + answer} tokens of "
                "the language model: text, instruction and answer",
                allowed=f"{self.max_tokens}, its context length",
                hint="shorten them, or set a lower --max-text-tokens in training",
            )

    def _arguments(
        self, embeds: Float[Tensor, "B m D"], mask: Int[Tensor, "B T"], cache: Any = None
    ) -> dict[str, Any]:
        assert self.has_body
        return body_arguments(
            embeds,
            mask,
            takes_positions=self.takes_positions,
            cache=cache,
            name=self.traits.cache,
        )

    def uncompiled(self) -> AbstractContextManager[None]:
        """Runs compiled layers uncompiled while it is active."""
        return uncompiled() if self.compiled else nullcontext()
