import pytest
import torch
import transformers

from layerbridge.models.positions import known_ids, position_limit

SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "vocab_size": 20,
}
# Family → settings beyond those, and its limit; None for one that has none.
FAMILIES = {
    "Bert": ({}, 24),
    "Roberta": ({}, 22),  # from padding_idx + 1 on
    "XLMRoberta": ({"pad_token_id": 3}, 20),
    "Camembert": ({}, 22),
    "MPNet": ({}, 22),
    "DistilBert": ({}, 24),
    "Electra": ({"embedding_size": 8}, 24),
    "Albert": ({"embedding_size": 8}, 24),
    "OPT": ({"ffn_dim": 8, "word_embed_proj_dim": 8}, 24),  # has two rows more
    "BioGpt": ({}, 24),
    "GPT2": ({}, 24),
    "T5": ({"d_kv": 4, "d_ff": 8}, None),
    "Bloom": ({}, None),
}


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_exactly_as_many_tokens_as_a_family_takes(name):
    settings, limit = FAMILIES[name]
    stated = {} if limit is None else {"max_position_embeddings": 24}
    config = getattr(transformers, f"{name}Config")(**SIZES, **stated, **settings)
    cls = transformers.T5EncoderModel if name == "T5" else transformers.AutoModel
    model = (cls(config) if name == "T5" else cls.from_config(config)).eval()
    assert position_limit(model) == limit
    assert known_ids(model) == 20

    def run(tokens):
        ids = torch.full((1, tokens), 5)
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state

    assert run(limit or 40).shape[1] == (limit or 40)
    if limit is not None:
        with pytest.raises((IndexError, RuntimeError)):
            run(limit + 1)


@pytest.mark.parametrize("stated", [-1, None])
def test_configs_that_state_no_limit(stated):
    model = transformers.AutoModel.from_config(transformers.BloomConfig(hidden_size=8, n_layer=1))
    model.config.max_position_embeddings = stated
    assert position_limit(model) is None


def test_the_patches_of_a_vision_tower_are_no_positions():
    text = {"num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 64}
    vision = {"image_size": 16, "patch_size": 4}
    config = transformers.Gemma3Config(
        text_config=SIZES | text, vision_config=SIZES | vision, mm_tokens_per_image=4
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    assert model.model.vision_tower is not None
    assert position_limit(model) == 64
