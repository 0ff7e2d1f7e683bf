"""Routes: one module per kind of request; ``routers`` has them all."""

from layerbridge.serving.routes import bridges, chat, completions, health, models, page

routers = [module.router for module in (chat, completions, models, bridges, health, page)]
