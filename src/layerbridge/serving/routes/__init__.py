"""Routes: one module per kind of request; ``routers`` has them all."""

from layerbridge.serving.routes import (
    chat,
    classify,
    completions,
    health,
    layer_weights,
    models,
    page,
)

routers = [
    module.router for module in (chat, completions, models, classify, layer_weights, health, page)
]
