"""Serving: bridges over HTTP as language models are asked today, and a page to try them.

app     routes, limits, keys; knows engines by ``engine.Engine`` alone
engine  what answers: ``torch_engine`` (embedded) or ``vllm_engine``
bridges runs → LM input embeddings; the same for both engines
"""
