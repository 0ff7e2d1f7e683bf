"""Whatever transformers' ``generate`` can do, ``bridge.generate`` passes on."""

import pytest
import torch
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

TEXTS = ["The market rose.", "猫", "the teams of the market entertained the crowd"]
FREE = {"max_new_tokens": 6, "eos_token_id": None}


@pytest.fixture
def bridge(make_bridge):
    return make_bridge("mt5", "llama")


def test_sampling(bridge):
    states = bridge.encode(TEXTS)
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(
            bridge.generate(hidden_states=states, do_sample=True, temperature=3.0, top_k=50, **FREE)
        )
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    torch.manual_seed(0)
    coldest = bridge.generate(hidden_states=states, do_sample=True, top_k=1, **FREE)
    assert torch.equal(coldest, bridge.generate(hidden_states=states, do_sample=False, **FREE))


def test_beams(bridge):
    found = bridge.generate(
        hidden_states=bridge.encode(TEXTS),
        num_beams=4,
        num_return_sequences=2,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        length_penalty=0.0,
        **FREE,
    )
    assert found.sequences.shape == (6, 6)
    best = found.sequences_scores.view(3, 2)
    assert (best[:, 0] >= best[:, 1]).all()
    # What beam search says of its best answer is what scoring it says, and no worse than greedy.
    states = bridge.encode(TEXTS)
    greedy = bridge.generate(hidden_states=states, do_sample=False, **FREE)
    for row in range(3):
        answers = [found.sequences[2 * row].tolist(), greedy[row].tolist()]
        scores = bridge.option_scores(bridge.encode(TEXTS[row : row + 1]), answers)[0]
        assert scores[0].item() == pytest.approx(best[row, 0].item(), abs=1e-3)
    total = [
        bridge.option_scores(states, [found.sequences[2 * r].tolist()])[r, 0] for r in range(3)
    ]
    plain = [bridge.option_scores(states, [greedy[r].tolist()])[r, 0] for r in range(3)]
    assert sum(total) >= sum(plain) - 1e-3


def test_streamer(bridge):
    class Kept(BaseStreamer):
        def __init__(self):
            self.tokens, self.ended = [], False

        def put(self, value):
            self.tokens += value.flatten().tolist()

        def end(self):
            self.ended = True

    streamer = Kept()
    states = bridge.encode(TEXTS[:1])
    tokens = bridge.generate(hidden_states=states, do_sample=False, streamer=streamer, **FREE)
    assert streamer.tokens == tokens[0].tolist()
    assert streamer.ended


def test_stopping_criteria(bridge):
    class AfterThree(StoppingCriteria):
        def __call__(self, input_ids, scores, **kwargs):
            return torch.full((len(input_ids),), input_ids.shape[1] >= 3)

    states = bridge.encode(TEXTS)
    criteria = StoppingCriteriaList([AfterThree()])
    tokens = bridge.generate(
        hidden_states=states, do_sample=False, stopping_criteria=criteria, **FREE
    )
    free = bridge.generate(hidden_states=states, do_sample=False, **FREE)
    assert torch.equal(tokens, free[:, :3])


def test_logits_processors_and_stop_ids(bridge):
    states = bridge.encode(TEXTS)
    free = bridge.generate(hidden_states=states, do_sample=False, **FREE)
    banned = int(free[0, 0])
    tokens = bridge.generate(
        hidden_states=states, do_sample=False, bad_words_ids=[[banned]], **FREE
    )
    assert banned not in tokens.tolist()[0]
    second = int(free[0, 1])
    first = free[0].tolist().index(second)
    cut = bridge.generate(
        hidden_states=bridge.encode(TEXTS[:1]),
        do_sample=False,
        max_new_tokens=6,
        eos_token_id=second,
    )
    assert cut[0].tolist() == free[0, : first + 1].tolist()


def test_return_dict(bridge):
    found = bridge.generate(
        hidden_states=bridge.encode(TEXTS),
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
        **FREE,
    )
    assert found.sequences.shape == (3, 6)
    assert torch.equal(torch.stack(found.logits, 1).argmax(-1), found.sequences)
