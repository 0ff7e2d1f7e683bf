"""Routes: one module per kind of request; ``routers`` has them all."""

from layerbridge.serving.routes import bridges, generation, health, models, page

routers = [module.router for module in (generation, models, bridges, health, page)]
