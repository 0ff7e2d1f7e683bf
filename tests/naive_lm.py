"""The language model used slowly: one row at a time, no padding, no cache; and random prefixes."""

from __future__ import annotations

import torch

# Shared first tokens, four lengths, one of a single token, one within another.
OPTIONS = [[5, 6, 7], [5, 6], [8], [5, 9, 7], [10, 11, 12, 13], [5, 6, 7, 8]]


def random_prefix(lm, lengths, seed=0, instruction=None, boundary=True):
    """Segments for rows of these lengths, and each row's embeddings without padding."""
    generator = torch.Generator().manual_seed(seed)
    scale = lm.embedding_rms()
    soft = scale * torch.randn(len(lengths), max(lengths), lm.width, generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    vector = scale * torch.randn(lm.width, generator=generator) if boundary else None
    segment = lm.instruction(instruction, len(lengths)) if instruction else None
    segments = lm.prefix(soft, mask, vector, segment)
    embed = lm.model.get_input_embeddings()
    rows = []
    for row, length in zip(soft, lengths, strict=True):
        parts = [row[:length]]
        if lm.tokenizer.bos_token_id is not None:
            parts.insert(0, embed(torch.tensor([lm.tokenizer.bos_token_id])))
        if boundary:
            parts.append(vector[None])
        if instruction:
            ids = lm.tokenizer(instruction, add_special_tokens=False)["input_ids"]
            parts.append(embed(torch.tensor(ids)))
        rows.append(torch.cat(parts))
    return segments, rows


@torch.no_grad()
def plain_logits(model, embeds, ids=()):
    """All logits of one row: transformers' own forward, no padding, no cache, no positions."""
    if len(ids):
        embeds = torch.cat([embeds, model.get_input_embeddings()(torch.tensor(list(ids)))])
    return model(inputs_embeds=embeds[None], use_cache=False).logits[0]


def naive_scores(model, rows, options):
    """One full forward for each row and option."""
    scores = torch.zeros(len(rows), len(options))
    for b, row in enumerate(rows):
        for o, option in enumerate(options):
            logits = plain_logits(model, row, option)
            for i, token in enumerate(option):
                scores[b, o] += logits[len(row) - 1 + i].log_softmax(-1)[token]
    return scores
