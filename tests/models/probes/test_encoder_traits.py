"""An encoder that breaks one rule is refused for that; a sound one passes in every dtype."""

from types import SimpleNamespace

import pytest
import torch
import transformers
from torch import nn

from layerbridge.errors import BackboneError
from layerbridge.models.encoder import Encoder
from layerbridge.models.probes.encoder_traits import EncoderTraits, encoder_traits

ROWS = ([5, 6, 7, 8], [5, 9, 10, 11, 12, 13, 14, 8])


class Toy(transformers.PreTrainedModel):
    """Two layers that mix all real tokens; each fault can be switched on."""

    config_class = transformers.BertConfig

    def __init__(self, fault=""):
        super().__init__(transformers.BertConfig(hidden_size=8, num_hidden_layers=2))
        self.fault, self.calls = fault, 0
        self.embeddings = nn.Embedding(20, 8)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        nn.init.normal_(self.embeddings.weight)

    def get_input_embeddings(self):
        return self.embeddings

    def forward(self, input_ids, attention_mask, output_hidden_states, return_dict):
        self.calls += 1
        if self.fault == "fails":
            raise ValueError("two lines\nof reasons")
        mask = attention_mask[..., None].to(self.dtype)
        if self.fault == "pads":
            mask = torch.ones_like(mask)
        states = [self.embeddings(input_ids)]
        for layer in self.layers:
            mean = (states[-1] * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
            states.append(torch.tanh(layer(states[-1] + mean)))
        if self.fault == "length":
            states[1:] = [state * len(input_ids[0]) for state in states[1:]]
        if self.fault == "noise":
            states[2] = states[2] + self.calls
        if self.fault == "nan":
            states[2] = states[2] / 0 * 0
        last = states[-1]
        if self.fault == "no embeddings":
            states = [*states[1:], last]
        if self.fault == "width":
            states[2] = last = last[..., :4]
        if self.fault == "count":
            states.append(last)
        if self.fault == "none":
            states = None
        return SimpleNamespace(hidden_states=states, last_hidden_state=last)


FAULTS = {
    "fails": "cannot read a short text: ValueError: two lines of reasons",
    "pads": "lets padding into the states of a text",
    "length": "gives a text other states in a batch than alone",
    "noise": "lets padding into the states of a text, or gives others each time",
    "nan": "returns NaN or infinities for a short text",
    "no embeddings": "the first hidden state of the encoder 'toy' is not the output of its embedd",
    "width": r"have the shapes \[1, 4, 4\] and \[1, 4, 8\] for \[1, 4\] tokens; allowed: one width",
    "count": "reports 4 hidden states, which are not its embeddings' output and one for each",
    "none": "reports no hidden states",
}
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sound_encoder_passes(dtype):
    torch.manual_seed(0)
    model = Toy().eval().to(dtype)
    before = torch.random.get_rng_state()
    assert encoder_traits("toy", model, ROWS) == EncoderTraits(2, 8, 8, can_be_shallow=True)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert model.calls == 3  # and a shallow twin, once


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_line(fault, dtype):
    torch.manual_seed(0)
    model = Toy(fault).eval().to(dtype)
    if (fault, dtype) == ("nan", torch.float16):  # said after loading, and then an error by text
        assert encoder_traits("the encoder 'toy'", model, ROWS).num_layers == 2
        return
    with pytest.raises(BackboneError, match=FAULTS[fault]) as caught:
        encoder_traits("the encoder 'toy'", model, ROWS)
    assert "\n" not in str(caught.value)


def test_a_lack_of_memory_is_no_fault_of_the_model(monkeypatch):
    model = Toy().eval()

    def forward(**_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model, "forward", forward)
    with pytest.raises(torch.OutOfMemoryError):
        encoder_traits("toy", model, ROWS)


def test_a_twin_is_not_probed_again(load_encoder, monkeypatch):
    encoder = load_encoder("bert")
    monkeypatch.setattr(encoder.model, "forward", None)
    twin = encoder.with_settings(embedding_layer=True, text_prefix="query: ")
    assert twin.traits is encoder.traits
    with pytest.raises(BackboneError, match="cannot read a short text: TypeError"):
        Encoder(encoder.model, encoder.tokenizer)
