"""What a language model does with a few tokens: what it gets wrong, and what it can be asked for.

Legend: B batch, T LM tokens, D LM width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from transformers import PreTrainedModel

from layerbridge.errors import BackboneError
from layerbridge.models.caches import branch
from layerbridge.models.packing import positions
from layerbridge.models.placement import input_device
from layerbridge.models.probes.closeness import distance, limit
from layerbridge.models.probes.failure import run
from layerbridge.models.truncation import layer_list

# Words that every tokenizer knows.
TEXT = "The market rose while the players of both teams entertained the crowd."
TOKENS = 5
LATER = 2  # of these are read onto a cache
PADS = (2, 1)  # of its two rows

SOFT = "embeddings, which soft prompts are"
HINT = "choose another language model"

# What models call their cache.
CACHES = ("past_key_values", "cache_params")


@dataclass(frozen=True)
class LanguageModelTraits:
    """What the probes found.

    Attributes:
        head_is_separable: body and head, called separately, give the model's own logits.
        embed_scale: the model multiplies embeddings of ids by it, and given embeddings not.
        ignores_pads: padding on the left changes nothing.
        cache: the argument that takes a cache; None if the model has none that is right.
        reads_several: several tokens may follow a cache at once.
    """

    head_is_separable: bool = False
    embed_scale: float = 1.0
    ignores_pads: bool = True
    cache: str | None = "past_key_values"
    reads_several: bool = True

    @property
    def slow_ways(self) -> list[str]:
        """What is done more slowly, since the usual way would be wrong."""
        ways = []
        if not self.ignores_pads:
            ways.append("reads rows of different lengths one after the other")
        if self.cache is None:
            ways.append("reads a whole prompt again for each token of an answer")
        elif not self.reads_several:
            ways.append("reads options token by token")
        return ways


def body_arguments(
    embeds: Shaped[Tensor, "B m ..."],
    mask: Int[Tensor, "B T"],
    *,
    takes_positions: bool,
    cache: Any = None,
    name: str | None = None,
) -> dict[str, Any]:
    """Returns the arguments of a forward pass over the last m of T tokens.

    Args:
        embeds: of the m tokens.
        mask: 1 for real tokens, of all T.
        takes_positions: whether the model takes position ids.
        cache: of the first T - m tokens; None for none.
        name: the argument that takes it.
    """
    new = embeds.shape[1]
    arguments: dict[str, Any] = {"inputs_embeds": embeds, "attention_mask": mask}
    if takes_positions:
        arguments["position_ids"] = positions(mask)[:, -new:]
    if cache is not None:
        assert name is not None
        arguments[name] = cache
        if name == "cache_params":  # a state without tokens, which a mask of new ones goes with
            arguments["attention_mask"] = mask[:, -new:]
    return arguments


class LanguageModelProbe:
    """The probes of one model.

    Args:
        named: the language model, for messages: ``the language model 'x'``.
        model: in eval mode, on its device.
        takes_positions: whether it takes position ids.
        ids: of a few tokens, BOS first if there is one.
        head: of the body's output.
    """

    def __init__(
        self,
        named: str,
        model: PreTrainedModel,
        takes_positions: bool,
        ids: Sequence[int],
        head: Callable[[Tensor], Tensor],
    ) -> None:
        self.named, self.model, self.head = named, model, head
        self.takes_positions = takes_positions
        first = list(ids)
        # The same but for its last token; and another text, with the same first token.
        changed = [*first[:-1], next(id for id in first if id != first[-1])]
        other = [first[0], *reversed(first[1:])]
        self.ids = torch.tensor([first, changed, other], device=input_device(model))

    @torch.no_grad()
    def run(self) -> LanguageModelTraits:
        """Runs the model six times, and more only where the usual way is wrong.

        Raises:
            BackboneError: the model cannot be used.
        """
        devices = [self.ids.device] if self.ids.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            return self._run()

    def _run(self) -> LanguageModelTraits:
        by_ids = run(self.named, self._ids_logits)
        if not by_ids.isfinite().all():
            if self.model.dtype == torch.float16:  # which is said after loading
                return LanguageModelTraits()
            raise BackboneError(
                f"{self.named} returns NaN or infinities for a short text", hint=HINT
            )
        same = limit(self.model, same_shape=True)
        if distance(_centered(by_ids[1, :-1]), _centered(by_ids[0, :-1])) > same:
            raise BackboneError(
                f"{self.named} reads ahead: its logits change with the tokens after them, so a "
                "target would leak into its own prediction",
                allowed="causal language models",
            )
        scale = 1.0
        embeds = self.model.get_input_embeddings()(self.ids)
        given = embeds.clone()
        logits = run(self.named, lambda: self.logits(given), SOFT)
        if not torch.equal(given, embeds):
            raise BackboneError(f"{self.named} overwrites the embeddings it is given", hint=HINT)
        if not self._is_close([logits], [by_ids], same_shape=True):
            scale = self._embed_scale(embeds)
            embeds = embeds * scale
            if not self._is_close([self.logits(embeds)], [by_ids], same_shape=True):
                raise BackboneError(
                    f"{self.named} answers differently to token ids and to their embeddings, and "
                    "a soft prompt has only embeddings",
                    hint=HINT,
                )
        return LanguageModelTraits(
            head_is_separable=self._head_is_separable(embeds, by_ids),
            embed_scale=scale,
            **self._rows_and_cache(embeds[[0, 2]], by_ids[[0, 2]]),
        )

    def _embed_scale(self, embeds: Float[Tensor, "B T D"]) -> float:
        """Returns by what the model multiplies the embeddings of ids, and not given embeddings."""
        found = layer_list(self.model)
        if found is None:
            return 1.0
        seen: list[Tensor] = []
        hook = found[1][0].register_forward_pre_hook(
            lambda _, given, named: seen.append(given[0] if given else named["hidden_states"]),
            with_kwargs=True,
        )
        try:
            self._ids_logits()
            self.logits(embeds)
        finally:
            hook.remove()
        by_ids, by_embeds = (states.float() for states in seen)
        scale = (by_ids.norm() / by_embeds.norm()).item()
        # Exact to the last bit only as the config has it.
        settings = self.model.config.get_text_config().to_dict().values()
        named = [value for value in settings if isinstance(value, float)]
        return min((n for n in named if abs(n / scale - 1) < 0.01), default=scale)

    def _head_is_separable(self, embeds: Tensor, expected: Tensor) -> bool:
        body = self.model.base_model
        arguments = self._arguments(embeds[:1], torch.ones_like(self.ids[:1]))
        logits = self._attempt(
            lambda: self.head(
                body(**arguments, use_cache=False).last_hidden_state.to(embeds.device)
            )
        )
        return logits is not None and self._is_close([logits], [expected[:1]])

    def _rows_and_cache(self, embeds: Tensor, expected: Tensor) -> dict[str, Any]:
        """Reads two texts behind pads, then their last tokens onto a cache.

        The rows change places in between, as they do when options are scored.
        """
        padded, mask = _padded(embeds)
        before = padded.shape[1] - LATER
        prefill = self._attempt(
            lambda: self._forward(padded[:, :before], mask[:, :before], name=CACHES[0])
        )
        whole = prefill or self._attempt(lambda: self._forward(padded, mask))
        if whole is None:  # is it the pads, or embeddings of no token, which soft prompts are?
            run(self.named, lambda: self.logits(padded[:, :before]), SOFT)
        traits: dict[str, Any] = {"ignores_pads": False, "cache": None, "reads_several": False}
        if whole is not None:
            real = [row[pads:] for row, pads in zip(whole.logits, PADS, strict=True)]
            wanted = [row[: len(mine)] for row, mine in zip(expected, real, strict=True)]
            traits["ignores_pads"] = self._is_close(real, wanted)
        name = next((name for name in CACHES if getattr(prefill, name, None) is not None), None)
        if name is None or not traits["ignores_pads"]:
            return traits
        cache = getattr(prefill, name)
        wanted = [row[before - pads :][:LATER] for row, pads in zip(expected, PADS, strict=True)]
        later = {
            count: self._attempt(partial(self._later, padded, mask, name, cache, count))
            for count in (1, LATER)
        }
        right = {
            count: logits is not None
            and self._is_close(list(logits), [row[:count] for row in wanted])
            for count, logits in later.items()
        }
        if right[1]:
            traits |= {"cache": name, "reads_several": right[LATER]}
        return traits

    def _later(
        self, padded: Tensor, mask: Tensor, name: str, cache: Any, count: int
    ) -> Float[Tensor, "2 T V"]:
        """Returns the logits of ``count`` tokens that follow a cache, read at once."""
        swap = torch.tensor([1, 0], device=mask.device)
        start = padded.shape[1] - LATER
        new, until = padded[swap, start : start + count], mask[swap, : start + count]
        logits = self._forward(new, until, cache=branch(cache, swap, 2), name=name).logits
        return logits[swap]

    def _arguments(self, embeds: Tensor, mask: Tensor, **cache: Any) -> dict[str, Any]:
        return body_arguments(embeds, mask, takes_positions=self.takes_positions, **cache)

    def _forward(self, embeds: Tensor, mask: Tensor, **cache: Any) -> Any:
        """Runs the model; with a cache if its name is given."""
        return self.model(**self._arguments(embeds, mask, **cache), use_cache=bool(cache))

    def logits(self, embeds: Tensor) -> Float[Tensor, "B T V"]:
        """Returns the logits of embeddings without padding."""
        mask = torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device)
        return self._forward(embeds, mask).logits

    def _ids_logits(self) -> Float[Tensor, "B T V"]:
        mask = torch.ones_like(self.ids)
        arguments = self._arguments(self.ids, mask)
        arguments["input_ids"] = arguments.pop("inputs_embeds")
        return self.model(**arguments, use_cache=False).logits

    def _attempt(self, call: Callable[[], Any]) -> Any:
        """Returns what a call returns, or None if the model cannot be called like that."""
        try:
            return call()
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception:
            return None

    def _is_close(
        self, found: Sequence[Tensor], expected: Sequence[Tensor], *, same_shape: bool = False
    ) -> bool:
        within = limit(self.model, same_shape=same_shape)
        return all(
            mine.shape == others.shape and distance(_centered(mine), _centered(others)) <= within
            for mine, others in zip(found, expected, strict=True)
        )


def _centered(logits: Float[Tensor, "... V"]) -> Float[Tensor, "... V"]:
    """Returns logits without their mean, which is no part of what they say."""
    return logits.float() - logits.float().mean(-1, keepdim=True)


def _padded(rows: Float[Tensor, "2 T D"]) -> tuple[Float[Tensor, "2 t D"], Int[Tensor, "2 t"]]:
    """Returns rows behind PADS, cut to one length, and their mask."""
    padded = torch.zeros_like(rows)
    mask = torch.zeros(rows.shape[:2], dtype=torch.long, device=rows.device)
    for row, pads in enumerate(PADS):
        padded[row, pads:] = rows[row, : rows.shape[1] - pads]
        mask[row, pads:] = 1
    # One of no token, as soft prompts are; whatever is there should not matter.
    padded[1, 0] = rows[1].mean(0)
    return padded, mask
