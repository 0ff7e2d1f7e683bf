import inspect

import pytest
import torch
from torch import nn

import layerbridge
from layerbridge.errors import BackboneError, CheckpointError, ConfigError
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.language_model import IGNORED

TEXTS = ["The market rose", "ශ්‍රී ලංකාව", "a"]
LABELS = torch.tensor([[5, 6, 1], [7, 1, IGNORED], [8, 9, 1]])


@pytest.fixture
def from_folders(folder):
    def make(encoder="mt5", lm="llama", fusion="token-softmax", **settings):
        arguments = {"dtype": "float32", **settings}
        return LayerBridge.from_backbones(
            str(folder(encoder)), str(folder(lm)), fusion, **arguments
        )

    return make


def test_from_backbones_reads_both_and_writes_down_which(from_folders, folder):
    bridge = from_folders("mt5", "gpt2", "global-softmax", instruction="Answer:")
    config = bridge.config
    assert (config.encoder_width, config.encoder_layers) == (32, 3)
    assert config.language_model_width == 32
    assert (config.fusion, config.instruction) == ("global-softmax", "Answer:")
    assert config.encoder == str(folder("mt5"))
    assert config.language_model == str(folder("gpt2"))
    assert len(config.encoder_fingerprint) == len(config.language_model_fingerprint) == 64
    assert config.encoder_fingerprint != config.language_model_fingerprint
    assert config.encoder_revision is None
    assert bridge.projection.linear.weight.shape == (32, 32)
    assert isinstance(bridge, layerbridge.LayerBridge)


def test_only_the_bridge_is_trained_and_it_is_float32(from_folders):
    bridge = from_folders(dtype="bfloat16")
    assert bridge.encoder.model.dtype == bridge.language_model.dtype == torch.bfloat16
    trained = {name for name, p in bridge.named_parameters() if p.requires_grad}
    constants = {"projection.mean", "projection.std"}  # found once, stored, not trained
    assert trained | constants == set(bridge.trained_state_dict())
    assert {name.split(".")[0] for name in trained} == {"fusion", "projection"}
    assert {t.dtype for t in bridge.trained_state_dict().values()} == {torch.float32}
    states = bridge.encode(TEXTS)
    assert states.last.dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert bridge.soft_prompt(states).dtype == torch.float32


def test_autocast_does_not_reach_the_bridge(make_bridge):
    bridge = make_bridge()
    states = bridge.encode(TEXTS)
    expected = bridge.soft_prompt(states)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(bridge.soft_prompt(states), expected)


def test_train_mode_is_for_the_bridge_alone(make_bridge):
    bridge = make_bridge().train()
    assert bridge.fusion.training
    assert bridge.fusion.block.dropout.training
    assert not any(m.training for m in bridge.encoder.modules())
    assert not any(m.training for m in bridge.language_model.modules())


def test_unknown_settings(from_folders, folder, tmp_path):
    with pytest.raises(ConfigError, match=r"^unknown fusion 'softmax'; allowed: last, uniform,"):
        from_folders(fusion="softmax")
    with pytest.raises(ConfigError, match=r"^fusion 'last' has no option 'heads'; allowed: none$"):
        from_folders(fusion="last", fusion_options={"heads": 2})
    with pytest.raises(ConfigError, match=r"^unknown start 'first'; allowed: uniform, last$"):
        from_folders(start="first")
    with pytest.raises(ConfigError, match=r"^unknown dtype 'half'; allowed: auto, float32"):
        from_folders(dtype="half")
    with pytest.raises(BackboneError, match=r"^the folder './nothing' does not exist; allowed: "):
        LayerBridge.from_backbones("./nothing", str(folder("llama")))


def test_forward_says_how_many_rows(make_bridge):
    bridge = make_bridge()
    batch = bridge.encoder.tokenize(TEXTS)
    output = bridge(**batch, labels=LABELS)
    assert output.loss.shape == ()
    assert output.logits.shape == (8, len(bridge.language_model.tokenizer))
    without = bridge(**batch)
    assert without.loss is None
    assert without.logits.shape == (3, output.logits.shape[1])
    # The first token is predicted from the same place, whether or not it is known.
    torch.testing.assert_close(output.logits[[0, 3, 5]], without.logits, atol=1e-5, rtol=1e-5)


def test_loss_is_the_mean_over_labels_that_count(make_bridge):
    bridge = make_bridge()
    batch = bridge.encoder.tokenize(TEXTS)
    output = bridge(**batch, labels=LABELS)
    targets = [5, 6, 1, 7, 1, 8, 9, 1]
    losses = [
        row.logsumexp(0) - row[target] for row, target in zip(output.logits, targets, strict=True)
    ]
    torch.testing.assert_close(output.loss, sum(losses) / 8)
    summed = bridge(**batch, labels=LABELS, num_items_in_batch=20).loss
    torch.testing.assert_close(summed, sum(losses) / 20)
    as_tensor = bridge(**batch, labels=LABELS, num_items_in_batch=torch.tensor(20)).loss
    assert torch.equal(as_tensor, summed)


def test_layer_states_in_place_of_ids(make_bridge):
    bridge = make_bridge()
    batch = bridge.encoder.tokenize(TEXTS)
    expected = bridge(**batch, labels=LABELS).loss
    states = bridge.encode(TEXTS)
    assert torch.equal(bridge(hidden_states=states, labels=LABELS).loss, expected)
    stacked = bridge(
        hidden_states=states.stacked, attention_mask=batch["attention_mask"], labels=LABELS
    )
    assert torch.equal(stacked.loss, expected)
    # Without a mask all tokens are real.
    alone = bridge.encode(TEXTS[:1])
    assert torch.equal(
        bridge(hidden_states=alone.stacked, labels=LABELS[:1]).loss,
        bridge(hidden_states=alone, labels=LABELS[:1]).loss,
    )
    ids = batch["input_ids"][:1, : len(alone.mask[0])]
    torch.testing.assert_close(
        bridge(input_ids=ids, labels=LABELS[:1]).loss,
        bridge(hidden_states=alone, labels=LABELS[:1]).loss,
    )
    with pytest.raises(AssertionError, match=r"^input_ids or hidden_states must be given$"):
        bridge(labels=LABELS)


def test_what_pads_hold_reaches_nobody(make_bridge):
    bridge = make_bridge()
    states = bridge.encode(TEXTS)
    noisy = states.stacked.clone()
    noisy[:, ~states.mask] = 1e3
    torch.testing.assert_close(
        bridge(hidden_states=HiddenStates(noisy, states.mask), labels=LABELS).logits,
        bridge(hidden_states=states, labels=LABELS).logits,
        atol=1e-5,
        rtol=1e-5,
    )


def test_an_instruction_given_wins_over_the_configs(make_bridge):
    bridge, other = make_bridge(instruction="Answer:"), make_bridge(instruction="The text")
    states = bridge.encode(TEXTS)
    options = [[5, 1], [6, 7, 1]]
    given = bridge.option_scores(states, options, "The text")
    torch.testing.assert_close(given, other.option_scores(states, options), atol=1e-4, rtol=0)
    assert (given - bridge.option_scores(states, options)).abs().max() > 0.01
    tokens = bridge.generate(hidden_states=states, instruction="The text", max_new_tokens=4)
    assert torch.equal(tokens, other.generate(hidden_states=states, max_new_tokens=4))


def test_config_options_and_max_text_tokens_reach_the_rooms(from_folders):
    bridge = from_folders(
        fusion_options={"heads": 2, "dropout": 0.3}, max_text_tokens=9, boundary=False, start="last"
    )
    assert (bridge.fusion.heads, bridge.fusion.dropout) == (2, 0.3)
    assert bridge.encoder.max_text_tokens == 9
    assert bridge.projection.boundary is None
    assert bridge.fusion.start == "last"


@pytest.mark.parametrize("start", ["scaled", "aligned"])
def test_starts_that_mind_the_scale(from_folders, start):
    """The soft prompt comes out about as large as the language model's embeddings."""
    torch.manual_seed(0)
    bridge = from_folders(projection_start=start, start="last").eval()
    rms = bridge.language_model.embedding_rms()
    states = bridge.encode(["The market rose while the players entertained the crowd."])
    soft = bridge.soft_prompt(states)[states.mask]
    found = soft.square().mean().sqrt().item()
    assert rms / 3 < found < 2 * rms
    assert bridge.projection.boundary.square().mean().sqrt().item() == pytest.approx(rms, rel=0.5)
    assert all(p.requires_grad for p in bridge.projection.parameters())


def test_the_random_start_is_torchs(from_folders):
    torch.manual_seed(3)
    bridge = from_folders(fusion="last", projection_start="random")
    assert bridge.projection.boundary.count_nonzero() == 0
    assert bridge.projection.mean.count_nonzero() == 0
    assert torch.equal(bridge.projection.std, torch.ones(32))
    weight = bridge.projection.linear.weight
    assert weight.abs().max().item() <= 32**-0.5
    assert weight.std().item() == pytest.approx((3 * 32) ** -0.5, rel=0.1)


def test_load_trained_refuses_what_does_not_fit(make_bridge):
    bridge = make_bridge(fusion="global-softmax")
    tensors = {name: t + 1 for name, t in bridge.trained_state_dict().items()}
    names = "fusion.theta, fusion.w, projection.boundary, projection.linear.bias, "
    names += "projection.linear.weight, projection.mean, projection.std"

    def refused(tensors):
        before = {name: t.clone() for name, t in bridge.trained_state_dict().items()}
        with pytest.raises(CheckpointError) as caught:
            bridge.load_trained(tensors, where="here")
        after = bridge.trained_state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)
        return str(caught.value)

    missing = {name: t for name, t in tensors.items() if name != "fusion.w"}
    assert refused(missing) == f"here lacks the tensor 'fusion.w'; allowed: {names}"
    assert refused({**tensors, "fusion.v": torch.ones(1)}) == (
        f"here has an unexpected tensor 'fusion.v'; allowed: {names}"
    )
    assert refused({**tensors, "fusion.w": torch.ones(5)}) == (
        "here has 'fusion.w' of shape [5]; allowed: shape [3], given its backbones"
    )
    bridge.load_trained(tensors)
    after = bridge.trained_state_dict()
    assert all(torch.equal(after[name], tensors[name]) for name in tensors)


def test_trainer_sees_a_model_of_transformers(make_bridge):
    bridge = make_bridge()
    assert bridge.can_generate()
    assert "num_items_in_batch" in inspect.signature(bridge.forward).parameters
    assert isinstance(bridge, nn.Module)
    assert set(bridge.state_dict()) - bridge._keys_to_ignore_on_save == set(
        bridge.trained_state_dict()
    )


def test_from_parts_shares_backbones(make_bridge, load_encoder, load_lm):
    first, second = make_bridge(fusion="last"), make_bridge(fusion="global-softmax")
    assert first.encoder is second.encoder is load_encoder("mt5")
    assert first.language_model is second.language_model is load_lm("llama")
    made = LayerBridge.from_parts(first.config, first.encoder, first.language_model)
    assert made.encoder is first.encoder
    assert len(made.config.encoder_fingerprint) == 64


@pytest.mark.parametrize("fusion", ["global-softmax", "token-softmax", "uniform"])
def test_the_embeddings_output_is_mixed_where_it_is_wanted(from_folders, folder, tmp_path, fusion):
    bridge = from_folders(fusion=fusion, embedding_layer=True).eval()
    plain = from_folders(fusion=fusion)
    assert bridge.config.encoder_layers == plain.config.encoder_layers + 1
    bridge.save_pretrained(tmp_path)
    again = LayerBridge.from_pretrained(tmp_path, dtype="float32", encoder=plain.encoder)
    assert again.encoder.model is plain.encoder.model
    states = bridge.encode(TEXTS)
    assert len(states) == bridge.fusion.num_layers == 4
    assert torch.equal(again.soft_prompt(again.encode(TEXTS)), bridge.soft_prompt(states))
    (weights,) = bridge.layer_weights("a")
    assert (weights.first_layer, weights.weights.shape[1]) == (0, 4)
    assert plain.layer_weights("a")[0].first_layer == 1


@pytest.mark.parametrize("fusion", ["last", "fixed"])
def test_a_fusion_with_no_use_for_the_embeddings_output(from_folders, fusion):
    with pytest.raises(ConfigError) as caught:
        from_folders(fusion=fusion, embedding_layer=True)
    assert str(caught.value) == (
        f"fusion {fusion!r} does not support embedding_layer; allowed: a fusion that mixes all "
        "layers"
    )


def test_prefix_and_language_are_kept_in_the_checkpoint(make_bridge, tmp_path):
    bridge = make_bridge("mt5", "llama", "last", text_prefix="query: ")
    plain = make_bridge("mt5", "llama", "last")
    assert (plain.config.text_prefix, plain.config.encoder_language) == (None, None)
    bridge.save_pretrained(tmp_path)
    again = LayerBridge.from_pretrained(
        tmp_path, encoder=plain.encoder, language_model=plain.language_model
    )
    assert again.encoder.text_prefix == "query: "
    for text in ("the market", ""):
        mine, others = bridge.encode([text]), plain.encode([f"query: {text}"])
        assert torch.equal(mine.last, others.last)
        assert torch.equal(again.encode([text]).last, mine.last)
    # A shared encoder keeps nothing of the bridge that had it before.
    assert LayerBridge(plain.config, again.encoder, again.language_model).encoder.text_prefix == ""
    with pytest.raises(ConfigError, match="adds no language code; next: leave encoder_language"):
        make_bridge("mt5", "llama", "last", encoder_language="en_XX")
