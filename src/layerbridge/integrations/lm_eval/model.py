"""A bridge as a model of the harness.

The encoder reads the context, and the language model scores or generates what follows: two
tokenizers, which is why this is an ``LM`` and no ``TemplateLM``.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from tqdm import tqdm

from layerbridge.errors import ConfigError
from layerbridge.integrations.lm_eval.batches import Batches
from layerbridge.integrations.lm_eval.fitness import check_contexts
from layerbridge.models.backbone import choose_device, dtype_name
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.eval_mode import eval_mode
from layerbridge.models.finite import naming
from layerbridge.models.inference import option_ids
from layerbridge.models.option_scoring import scored_options
from layerbridge.progress import say, say_once
from layerbridge.training.text_counts import input_notes
from layerbridge.version import __version__

_LOADING = ("revision", "dtype", "attn_implementation", "trust_remote_code", "allow_pickle")
_ARGUMENTS = (
    *("pretrained", *_LOADING, "device", "batch_size", "max_batch_size"),
    *("instruction", "language", "max_gen_toks"),
)


class BridgeLM(LM):
    """A trained bridge, ``--model layerbridge``.

    Args:
        pretrained: its folder or hub id, or the bridge itself.
        batch_size: as in ``Batches``.
        max_batch_size: of ``auto``; None for 64.
        device: ``cpu``, ``cuda``, …; None takes the best available.
        dtype: of the backbones: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        instruction: English text after the soft prompt; None takes the bridge's.
        language: code of the texts, for a bridge with language means; None tells it by the nearest
            mean.
        max_gen_toks: most tokens of an answer, where a task sets no limit.
        **others: ``revision``, ``attn_implementation``, ``trust_remote_code``, ``allow_pickle``,
            as in ``LayerBridge.from_pretrained``.

    Raises:
        ConfigError: an argument is unknown or does not fit.
        CheckpointError: the bridge cannot be loaded.
    """

    def __init__(
        self,
        pretrained: str | LayerBridge | None = None,
        *,
        batch_size: int | str = "auto",
        max_batch_size: int | None = None,
        device: str | None = None,
        dtype: str = "auto",
        instruction: str | None = None,
        language: str | None = None,
        max_gen_toks: int = 256,
        **others: Any,
    ) -> None:
        super().__init__()
        if os.environ.get("WORLD_SIZE", "1") != "1":
            raise ConfigError(
                "a bridge in the harness runs in one process", hint="without accelerate or torchrun"
            )
        for name in others:
            if name not in _LOADING:
                raise ConfigError(
                    f"the model layerbridge has no argument {name!r}", allowed=_ARGUMENTS
                )
        if pretrained is None:
            raise ConfigError("no bridge was given", hint="--model_args pretrained=RUN")
        self.batches = Batches(batch_size, max_batch_size)
        if isinstance(pretrained, LayerBridge):
            self.bridge = pretrained
        else:
            settings = {**others, "dtype": dtype, "device": choose_device(device)}
            self.bridge = LayerBridge.from_pretrained(str(pretrained), **settings)
        if language is not None and self.bridge.centering is None:
            raise ConfigError(
                f"language={language!r} has no effect: the bridge has no language means",
                hint="leave it out, or layerbridge center",
            )
        self.instruction, self.language = instruction, language
        self.max_gen_toks = max_gen_toks
        self.revision = others.get("revision")
        self._device = self.bridge.language_model.device

    @property
    def batch_size(self) -> int | str:
        """What was asked for, or the size that ``auto`` has come to."""
        return self.batches.size

    @property
    def tokenizer_name(self) -> str:
        """Names the prompts in the harness's cache: they are the same for every bridge."""
        return "layerbridge"

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Returns what the harness records: there is no template."""
        return ""

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Returns what the encoder reads: the messages' own texts, one after another.

        The language model's template has no place here: it does not see the messages, and the
        bridge was trained without it.
        """
        say_once(
            "note: a bridge has no chat template; its encoder reads the messages' texts, joined by "
            "line breaks"
        )
        return "\n".join(message["content"] for message in chat_history)

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Scores each continuation as an answer to its context.

        The score is log p(continuation, EOS | context), as in ``layerbridge evaluate``: a bridge
        answers with the whole word and ends. White space before a continuation (the harness's
        ``target_delimiter``) separates texts in one string; here it would be part of the answer,
        and is removed.

        Returns:
            For each request the score, and whether greedy decoding gives exactly that answer.

        Raises:
            DataError: the context of all requests of a task is empty or the same.
            NotFiniteError: a score is not finite; names the text.
        """
        check_contexts(requests)
        lm = self.bridge.language_model
        tokens = {
            continuation: tuple(option_ids(lm, continuation.lstrip()))
            for continuation in {request.args[1] for request in requests}
        }
        of_context: dict[str, list[int]] = defaultdict(list)
        for number, request in enumerate(requests):
            of_context[request.args[0]].append(number)
        contexts = list(of_context)
        self._say_counts(contexts)
        results: dict[int, tuple[float, bool]] = {}
        bar = tqdm(total=len(requests), disable=disable_tqdm, desc="Running loglikelihood requests")

        def answer(batch: list[int]) -> None:
            texts = [contexts[index] for index in batch]
            asked = [[requests[number] for number in of_context[text]] for text in texts]
            wanted = [[tokens[request.args[1]] for request in row] for row in asked]
            options = list(dict.fromkeys(ids for row in wanted for ids in row))
            mask = torch.tensor([[ids in row for ids in options] for row in map(set, wanted)])
            states = self.bridge.encode(texts, self.language)
            prefix = self.bridge.prefix(states, self.instruction)
            scored = scored_options(lm, prefix, options, mask)
            scores, greedy = scored.scores.tolist(), scored.greedy.tolist()
            column = {ids: place for place, ids in enumerate(options)}
            for row, text in enumerate(texts):
                for number, request in zip(of_context[text], asked[row], strict=True):
                    place = column[tokens[request.args[1]]]
                    results[number] = scores[row][place], greedy[row][place]
                    self.cache_hook.add_partial("loglikelihood", request.args, results[number])
                    bar.update()

        self._run(contexts, answer)
        bar.close()
        return [results[number] for number in range(len(requests))]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Generates an answer to each context, up to the first of the task's stop sequences.

        Raises:
            NotFiniteError: logits are not finite; names the text.
        """
        groups: dict[str, list[int]] = defaultdict(list)
        for number, request in enumerate(requests):
            groups[json.dumps(request.args[1], sort_keys=True)].append(number)
        self._say_counts([request.args[0] for request in requests])
        results: dict[int, str] = {}
        bar = tqdm(
            total=len(requests), disable=disable_tqdm, desc="Running generate_until requests"
        )
        for numbers in groups.values():
            settings = self._generation(requests[numbers[0]].args[1])
            until = settings.pop("until")
            texts = [requests[number].args[0] for number in numbers]

            def answer(
                batch: list[int],
                numbers: Sequence[int] = numbers,
                texts: Sequence[str] = texts,
                settings: Mapping[str, Any] = settings,
                until: list[str] = until,
            ) -> None:
                answers = self.bridge.generate_text(
                    [texts[index] for index in batch],
                    instruction=self.instruction,
                    language=self.language,
                    batch_size=len(batch),
                    **settings,
                )
                for index, text in zip(batch, answers, strict=True):
                    result = postprocess_generated_text(text, until, None)
                    results[numbers[index]] = result
                    request = requests[numbers[index]]
                    self.cache_hook.add_partial("generate_until", request.args, result)
                    bar.update()

            self._run(texts, answer)
        bar.close()
        return [results[number] for number in range(len(requests))]

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Refuses: there is no such thing.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"the task {requests[0].task_name} asks for the likelihood of a text without a "
            "context (perplexity), and a bridge only scores answers to a text that its encoder "
            "reads",
            allowed="tasks of output_type multiple_choice, loglikelihood or generate_until",
        )

    def get_model_info(self) -> dict[str, Any]:
        """Returns what the harness's result files say about the model."""
        config = self.bridge.config
        return {
            "model_num_parameters": self.bridge.num_parameters(),
            "model_dtype": dtype_name(self.bridge.language_model.dtype),
            "model_revision": self.revision or "main",
            "model_encoder": config.encoder,
            "model_language_model": config.language_model,
            "model_fusion": config.fusion,
            "layerbridge_version": __version__,
        }

    def _run(self, texts: Sequence[str], answer: Any) -> None:
        def named(batch: list[int]) -> None:
            with naming([texts[index] for index in batch]):
                answer(batch)

        with eval_mode(self.bridge), torch.no_grad():
            self.batches.run(texts, named)

    def _say_counts(self, texts: Sequence[str]) -> None:
        for line in input_notes(texts, self.bridge.encoder):
            say(line)

    def _generation(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Returns ``until``, and arguments of ``generate_text``."""
        settings: dict[str, Any] = dict(normalize_gen_kwargs(asked, self.max_gen_toks))
        settings["max_new_tokens"] = settings.pop("max_gen_toks")
        if not settings["do_sample"]:
            # transformers warns about what only sampling has a use for.
            for name in ("temperature", "top_p", "top_k", "min_p"):
                settings.pop(name, None)
        return settings
