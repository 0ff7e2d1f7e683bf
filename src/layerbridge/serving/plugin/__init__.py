"""vLLM's plugin: a run as a model of vLLM, so that ``vllm serve RUN`` and ``LLM(RUN)`` work.

    text → encoder's token ids (``inputs``) → soft prompt (``model``) → vLLM's language model

vLLM calls ``register`` in each of its processes (entry point ``vllm.general_plugins``).
"""

from __future__ import annotations

# Of the model in vLLM's registry, and of what reads its requests.
ARCHITECTURE = "LayerBridge"
MODE = "layerbridge"


def register() -> None:
    """Tells vLLM of bridges; may be called several times."""
    from transformers import AutoConfig, AutoTokenizer
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP
    from vllm.model_executor.models.registry import ModelRegistry
    from vllm.renderers.registry import RENDERER_REGISTRY
    from vllm.tokenizers.registry import TokenizerRegistry

    from layerbridge.serving.plugin.config import Defaults, ServedConfig
    from layerbridge.serving.plugin.tokenizer import RunTokenizer

    if ARCHITECTURE in ModelRegistry.get_supported_archs():
        return
    AutoConfig.register(ServedConfig.model_type, ServedConfig, exist_ok=True)
    AutoTokenizer.register(ServedConfig, tokenizer_class=RunTokenizer, exist_ok=True)
    MODELS_CONFIG_MAP[ARCHITECTURE] = Defaults
    ModelRegistry.register_model(ARCHITECTURE, f"{__name__}.model:BridgeModel")
    TokenizerRegistry.register(MODE, "vllm.tokenizers.hf", "CachedHfTokenizer")
    RENDERER_REGISTRY.register(MODE, f"{__name__}.renderer", "BridgeRenderer")
