import random

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.data_loader import skip_first_batches
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from transformers.trainer_pt_utils import get_length_grouped_indices

from layerbridge.models.length_grouping import cut
from layerbridge.training.batching import GroupedSampler, TokenBatches

LENGTHS = [random.Random(n).randint(1, 40) for n in range(200)]


def epoch(batches, number):
    batches.set_epoch(number)
    return list(batches)


def test_a_row_over_the_budget_has_a_batch_to_itself():
    assert [sorted(b) for b in TokenBatches([3, 30, 3, 3], 9, seed=0)] == [[1], [0, 2, 3]]


@pytest.mark.parametrize("tokens", [1, 40, 64, 333, 100_000])
def test_every_row_once_and_never_over_the_budget(tokens):
    batches = TokenBatches(LENGTHS, tokens, seed=3)
    found = epoch(batches, 0)
    assert sorted(row for batch in found for row in batch) == list(range(200))
    for batch in found:
        longest = max(LENGTHS[row] for row in batch)
        assert len(batch) * longest <= tokens or len(batch) == 1
    # Longest first, so that a batch too large for the memory is the first.
    assert max(LENGTHS) == max(LENGTHS[row] for row in found[0])


def test_batches_are_nearly_full_and_have_few_pads():
    found = epoch(TokenBatches(LENGTHS, 333, seed=3), 0)
    padded = sum(len(batch) * max(LENGTHS[row] for row in batch) for batch in found)
    assert padded < 1.1 * sum(LENGTHS)
    assert len(found) < 1.3 * sum(LENGTHS) / 333


def test_every_epoch_has_as_many_batches_and_other_ones():
    batches = TokenBatches(LENGTHS, 100, seed=3)
    epochs = [epoch(batches, number) for number in range(6)]
    assert {len(found) for found in epochs} == {len(batches)}
    assert len({str(found) for found in epochs}) == 6
    # Not in their order alone: rows of one length change places.
    assert len({str(sorted(map(sorted, found))) for found in epochs}) == 6


def test_seed_and_epoch_alone_decide():
    batches = TokenBatches(LENGTHS, 100, seed=3)
    first = epoch(batches, 1)
    torch.manual_seed(99)
    assert epoch(TokenBatches(LENGTHS, 100, seed=3), 1) == first
    epoch(batches, 0)
    assert epoch(batches, 1) == first
    assert epoch(TokenBatches(LENGTHS, 100, seed=4), 1) != first


def test_the_loader_says_the_epoch_also_behind_skipped_batches():
    batches = TokenBatches(LENGTHS, 100, seed=3)
    expected = epoch(batches, 2)
    batches.set_epoch(0)
    loader = Accelerator(cpu=True).prepare(
        DataLoader(range(200), batch_sampler=batches, collate_fn=list)
    )
    assert len(loader) == len(expected)
    loader.set_epoch(2)
    assert list(loader) == expected
    batches.set_epoch(0)
    rest = skip_first_batches(loader, 5)
    rest.set_epoch(2)
    assert list(rest) == expected[5:]


def test_one_batch():
    assert [sorted(batch) for batch in TokenBatches([1, 2, 3], 99, seed=0)] == [[0, 1, 2]]


def test_the_grouped_order_is_of_the_seed_and_the_epoch():
    sampler = GroupedSampler(8, lengths=LENGTHS, seed=3)
    orders = []
    for number in (0, 1, 0):
        torch.manual_seed(number + len(orders))
        sampler.set_epoch(number)
        orders.append(list(sampler))
        assert sorted(orders[-1]) == list(range(200))
    assert orders[0] == orders[2] != orders[1]
    assert list(GroupedSampler(8, lengths=LENGTHS, seed=4)) != orders[0]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=300), st.integers(1, 5))
def test_groups_are_those_of_transformers(lengths, size):
    sampler = GroupedSampler(size, lengths=np.array(lengths, np.int32), seed=3)
    sampler.set_epoch(2)
    generator = torch.Generator().manual_seed((3 << 20) + 2)
    expected = get_length_grouped_indices(lengths, size, generator=generator)
    assert list(sampler) == expected
    sampler.lengths = lengths
    assert list(sampler) == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=100), st.integers(1, 40))
def test_token_batches_are_cut_from_the_sorted_rows(lengths, tokens):
    generator = torch.Generator().manual_seed(5 << 20)
    shuffled = torch.randperm(len(lengths), generator=generator).tolist()
    batches = cut(sorted(shuffled, key=lambda row: -lengths[row]), lengths, tokens)
    rest = torch.randperm(len(batches) - 1, generator=generator).tolist()
    found = TokenBatches(lengths, tokens, seed=5)
    assert list(found) == [batches[0], *(batches[1 + n] for n in rest)]
    assert len(found) == len(batches)
