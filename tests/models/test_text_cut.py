"""Texts that are too long: cut before the end of the template, the same wherever they are read."""

import pytest

import tiny
from layerbridge.errors import DataError
from layerbridge.models.bridge import LayerBridge
from layerbridge.serving.bridges import Bridges
from layerbridge.tasks import Row
from layerbridge.training.collation import Collator, RowDataset

ENDS = (" Label: ", " Category:", " ද?", " 标签：", "\nAnswer:")
TEXT = "Premise: the market of teams entertained the crowd "
LIMIT = 24


def naive(encoder, text, end):
    """The token ids without those just before the end, by the characters of each token."""
    tokens = encoder.tokenizer(text, return_offsets_mapping=True)
    ids, spans = tokens["input_ids"], tokens["offset_mapping"]
    if len(ids) <= encoder.max_text_tokens:
        return ids
    place, kept = len(text) - len(end), len(ids)
    # A special token has no characters.
    while spans[kept - 1][1] > place or spans[kept - 1][0] == spans[kept - 1][1]:
        kept -= 1
    return ids[: encoder.max_text_tokens - len(ids) + kept] + ids[kept:]


@pytest.mark.parametrize("name", sorted(tiny.ENCODERS))
@pytest.mark.parametrize("end", ["", *ENDS])
def test_the_end_of_the_template_is_kept(load_encoder, name, end):
    encoder = load_encoder(name).with_settings(max_text_tokens=LIMIT, template=f"P: {{text}}{end}")
    assert encoder.template_end == end
    prompts = [TEXT.strip() * times + end for times in range(7)]
    batch = encoder.tokenize(prompts)
    found = [
        ids[mask.bool()].tolist()
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    assert found[1:] == [naive(encoder, prompt, end) for prompt in prompts[1:]]
    lengths = [len(encoder.tokenizer(prompt)["input_ids"]) for prompt in prompts]
    assert encoder.lengths(prompts) == lengths
    assert encoder.count_cut(prompts) == sum(length > LIMIT for length in lengths) > 2
    last = encoder.tokenizer.decode(found[-1], skip_special_tokens=True)
    assert last.strip().endswith(end.strip())
    assert "Premise: the market" in last
    # What the projection is aligned by is read at the same places.
    assert [len(encoder.spans(prompt)) for prompt in prompts] == [len(ids) for ids in found]


@pytest.mark.parametrize("limit", range(1, 12))
def test_a_template_takes_half_of_the_tokens_at_most(load_encoder, limit):
    encoder = load_encoder("mt5").with_settings(max_text_tokens=limit, template="{a}" + "xyz " * 9)
    (ids,) = encoder.tokenize([TEXT * 3 + "xyz " * 9])["input_ids"].tolist()
    whole = encoder.tokenizer(TEXT * 3 + "xyz " * 9)["input_ids"]
    half = limit // 2
    assert ids == whole[: limit - half] + whole[len(whole) - half :]


def test_without_the_templates_end_a_text_is_cut_as_the_tokenizer_cuts_it(load_encoder):
    for name in tiny.ENCODERS:
        encoder = load_encoder(name).with_settings(max_text_tokens=LIMIT, template="{a} Label: ")
        text = TEXT.strip() * 6
        (ids,) = encoder.tokenize([text])["input_ids"].tolist()
        assert ids == encoder.tokenizer(text, truncation=True, max_length=LIMIT)["input_ids"]


def test_training_and_serving_read_the_same_tokens(make_bridge, folder, tmp_path):
    template = "Review: {text} Label: "
    bridge = make_bridge("mt5", "llama", "last", template=template)
    bridge = LayerBridge(
        bridge.config, bridge.encoder.with_settings(max_text_tokens=16), bridge.language_model
    )
    texts = [f"Review: {'the market ' * times}Label: " for times in (1, 30)]
    rows = [Row(str(n), text, "no", "en") for n, text in enumerate(texts)]
    dataset = RowDataset(rows, bridge)
    target = len(dataset[0]["target"])
    trained = Collator(bridge)([dataset[0], dataset[1]])
    lengths = trained["attention_mask"].sum(1).tolist()
    assert dataset.lengths == [length + target for length in lengths]
    assert (lengths[1], dataset.cut) == (16, 1)
    assert bridge.encoder.tokenizer.decode(trained["input_ids"][1]).strip().endswith("Label: </s>")
    bridge.save_pretrained(tmp_path / "run")
    loaded = LayerBridge.from_pretrained(tmp_path / "run", dtype="float32")
    served = Bridges.load([str(tmp_path / "run")])["run"]
    for other in (loaded, served):
        assert other.config.max_text_tokens == 16
        assert other.encoder.tokenize(texts)["input_ids"].equal(trained["input_ids"])


def test_bridges_of_other_templates_share_an_encoders_weights(make_bridge):
    one, other = (make_bridge("mt5", "llama", "last", template=f"{{a}}{end}") for end in ("!", "?"))
    assert one.encoder.model is other.encoder.model
    assert (one.encoder.template_end, other.encoder.template_end) == ("!", "?")
    same = make_bridge("mt5", "llama", "last", template="{b}")
    assert same.encoder is make_bridge("mt5", "llama", "last").encoder


def test_half_a_character(load_encoder):
    encoder = load_encoder("mt5")
    for read in (encoder.tokenize, encoder.encode, encoder.lengths):
        with pytest.raises(DataError, match=r"a text has an unpaired surrogate \(\\ud83d\)"):
            read(["a", "\ud83d"])
