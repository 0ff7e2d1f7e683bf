"""Serving: bridges behind an OpenAI-compatible HTTP server, with a web page to try them.

``app`` holds routes, limits and keys and knows only the ``engine.Engine`` protocol, which
``torch_engine`` (in process) and ``vllm_engine`` implement. ``bridges`` turns texts into language
model input embeddings for both.
"""
