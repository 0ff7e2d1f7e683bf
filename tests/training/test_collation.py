import pytest
import torch
from transformers.trainer_pt_utils import find_batch_size

from layerbridge.models.state_cache import StateCache
from layerbridge.tasks import Row
from layerbridge.training.collation import Collator, RowDataset, pad_labels

TEXTS = ["the market", "a longer text about the teams", "", "猫 🙂", "x " * 900]
TARGETS = ["Business", "Sports", "a target of many words", "Sports", "no"]
ROWS = [
    Row(str(number), text, target, "en")
    for number, (text, target) in enumerate(zip(TEXTS, TARGETS, strict=True))
]


def collate(bridge, rows):
    dataset = RowDataset(rows, bridge)
    return Collator(bridge)([dataset[place] for place in range(len(dataset))])


def test_labels_are_the_target_alone_with_eos_and_padding(make_bridge):
    bridge = make_bridge()
    tokenizer = bridge.language_model.tokenizer
    labels = collate(bridge, ROWS)["labels"]
    longest = max(len(tokenizer(target, add_special_tokens=False).input_ids) for target in TARGETS)
    assert labels.shape == (len(ROWS), longest + 1)
    for row, target in zip(labels.tolist(), TARGETS, strict=True):
        expected = [*tokenizer(target, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        assert row == expected + [-100] * (longest + 1 - len(expected))
        assert tokenizer.bos_token_id not in row
        assert tokenizer.decode(expected[:-1]) == target


def test_texts_are_what_the_encoder_tokenizes(make_bridge):
    bridge = make_bridge(encoder="xlm-r")
    batch = collate(bridge, ROWS)
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    tokenizer = bridge.encoder.tokenizer
    for ids, mask, text in zip(batch["input_ids"], batch["attention_mask"], TEXTS, strict=True):
        expected = tokenizer(text, truncation=True, max_length=512).input_ids
        assert ids[: mask.sum()].tolist() == expected
        assert mask.tolist() == [1] * len(expected) + [0] * (len(mask) - len(expected))


def test_lengths_are_the_tokens_of_text_and_target(make_bridge):
    bridge = make_bridge()
    dataset = RowDataset(ROWS, bridge)
    batch = collate(bridge, ROWS)
    counted = batch["attention_mask"].sum(1) + (batch["labels"] != -100).sum(1)
    assert dataset.lengths == counted.tolist()
    assert len(dataset) == len(ROWS)
    assert max(dataset.lengths) < 600  # cut as the encoder cuts


def test_each_row_is_its_own(make_bridge):
    bridge = make_bridge()
    dataset = RowDataset(ROWS, bridge)
    ids = bridge.language_model.tokenizer("Sports", add_special_tokens=False).input_ids
    assert dataset[3] == {"text": "猫 🙂", "target": [*ids, bridge.language_model.eos_id]}


def test_no_rows_make_an_empty_data_set(make_bridge):
    dataset = RowDataset([], make_bridge())
    assert (len(dataset), dataset.lengths) == (0, [])


@pytest.mark.parametrize("encoder", ["mt5", "xlm-r"])
def test_cached_states_give_the_loss_of_input_ids(make_bridge, load_encoder, encoder):
    bridge = make_bridge(encoder)
    rows = ROWS[:4]
    read = collate(bridge, rows)
    with torch.no_grad():
        expected = bridge(**read).loss
    bridge.encoder.cache = StateCache()
    try:
        twice = [collate(bridge, rows), collate(bridge, rows[::-1])]
    finally:
        bridge.encoder.cache = None
    for cached in twice:
        assert set(cached) == {"hidden_states", "attention_mask", "labels"}
        assert cached["attention_mask"].dtype == torch.long
        # What the Trainer counts rows by.
        assert find_batch_size(cached) == 4
        with torch.no_grad():
            assert bridge(**cached).loss == pytest.approx(expected.item(), rel=1e-5)


def test_pad_labels():
    assert pad_labels([[5], [6, 7, 8]]).tolist() == [[5, -100, -100], [6, 7, 8]]
