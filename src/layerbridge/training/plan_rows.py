"""The rows of a run that is only planned: all of them, or the first of many, and their lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import nlargest

from transformers import PreTrainedTokenizerBase

from layerbridge.models.config import BridgeConfig
from layerbridge.models.projection.registry import soft_tokens
from layerbridge.progress import say
from layerbridge.tasks import Row, records
from layerbridge.tasks.files import read_rows
from layerbridge.tasks.sourced import HELD_OUT, MOST_HELD_OUT
from layerbridge.training.peak_memory import StepSize
from layerbridge.training.recipe import Recipe
from layerbridge.training.run_data import RunData, columns_of, data_of, read_data

# Rows of a large file that are read, and of these or others whose tokens are counted: the longest
# by characters, and some evenly over the rest.
FIRST, LONGEST, EVENLY = 10_000, 100, 1000


@dataclass(frozen=True)
class PlannedRows:
    """What is known of the rows.

    Attributes:
        data: the rows, or the first of a large file.
        training: number of training rows.
        validation: number of validation rows.
        is_estimate: whether these numbers are estimated.
        copy_bytes: what a copy of a large file takes on the disk.
    """

    data: RunData
    training: int
    validation: int
    is_estimate: bool = False
    copy_bytes: int = 0

    @classmethod
    def read(cls, recipe: Recipe) -> PlannedRows:
        """Reads the rows of a recipe; of a large file, the first.

        Raises:
            DataError: they cannot be read.
        """
        size = None if recipe.data is None else records.size(recipe.data)
        if recipe.data is None or size is None or size <= records.LARGE:
            data = read_data(recipe)
            return cls(data, len(data.train), len(data.validation))
        rows = read_rows(recipe.data, **columns_of(recipe), first=FIRST)
        say(f"{recipe.data} is large: only its first {len(rows)} rows are read")
        # Its other files are small, or read as this one.
        data = data_of(replace(recipe, max_rows=None), rows)
        total = records.count(recipe.data) or len(rows)
        if recipe.max_rows is not None:
            total = min(total, recipe.max_rows)
        share = recipe.validation_share
        held = len(data.validation)
        if recipe.validation_data is None and data.held_out is not None:
            held = round(total * (HELD_OUT if share is None else share))
            held = min(held, MOST_HELD_OUT) if share is None else held
            total -= held
        return cls(data, total, held, is_estimate=True, copy_bytes=size)


@dataclass(frozen=True)
class TokenLengths:
    """Tokens of the rows.

    Attributes:
        longest_text: encoder tokens, cut as in training.
        longest_target: LM tokens, EOS included.
        longest_row: text and target of one row.
        mean_text: of the texts.
        mean: of text and target.
        prompt: LM tokens besides the text and the target.
        soft: soft tokens of every text; None for one for each of its tokens.
    """

    longest_text: int
    longest_target: int
    longest_row: int
    mean_text: float
    mean: float
    prompt: int
    soft: int | None

    @classmethod
    def of(
        cls,
        data: RunData,
        config: BridgeConfig,
        encoder: PreTrainedTokenizerBase,
        language_model: PreTrainedTokenizerBase,
    ) -> TokenLengths:
        """Counts the tokens of the longest rows, and of some others."""
        rows: Sequence[Row] = data.train
        some = rows[:: max(1, len(rows) // EVENLY)]
        longest = nlargest(LONGEST, rows, key=lambda row: len(row.text) + len(row.target))
        limit = min(config.max_text_tokens, encoder.model_max_length)
        prefix = config.text_prefix or ""

        def texts(of: Sequence[Row]) -> list[int]:
            ids = encoder([prefix + row.text for row in of], verbose=False)["input_ids"]
            return [min(max(1, len(each)), limit) for each in ids]

        def targets(of: Sequence[Row]) -> list[int]:
            known = dict.fromkeys(dict.fromkeys(row.target for row in of), 0)
            ids = language_model([*known], add_special_tokens=False, verbose=False)["input_ids"]
            known.update(zip(known, (1 + len(each) for each in ids), strict=True))
            return [known[row.target] for row in of]

        of_longest = (texts(longest), targets(longest))
        of_some = (texts(some), targets(some))
        instruction = language_model(config.instruction or "", add_special_tokens=False)
        fixed = (language_model.bos_token_id is not None) + config.boundary
        totals = [text + target for text, target in zip(*of_longest, strict=True)]
        mean_text = sum(of_some[0]) / len(some)
        return cls(
            max(*of_longest[0], *of_some[0]),
            max(*of_longest[1], *of_some[1]),
            max(totals),
            mean_text,
            mean_text + sum(of_some[1]) / len(some),
            fixed + len(instruction["input_ids"]),
            soft_tokens(config.projection, config.projection_options),
        )

    def heaviest(self, rows: int, tokens: int | None, positions: int | None) -> StepSize:
        """Returns the batch that takes the most memory.

        Args:
            rows: of a batch, unless ``tokens`` is given.
            tokens: of a batch.
            positions: of the encoder; None without a limit.
        """
        text = self.longest_text if positions is None else min(self.longest_text, positions)
        if tokens is not None:
            rows = max(1, tokens // self.longest_row)
        return StepSize(rows, text, self.prompt, self.longest_target, self.soft)
