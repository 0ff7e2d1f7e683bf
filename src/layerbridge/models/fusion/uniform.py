"""`uniform`: f = (h₁ + … + h_L) / L, mixing without learned weights."""

from __future__ import annotations

from layerbridge.models.fusion.fixed import Fixed


class Uniform(Fixed):
    """The mean of all layers, without parameters: it separates mixing from learned weights.

    Raises:
        ConfigError: ``start="last"``, which fixed weights cannot follow.
    """

    name = "uniform"

    def __init__(
        self, num_layers: int, width: int, *, start: str = "uniform", normalize: str | None = None
    ) -> None:
        layers = range(1, num_layers + 1)
        super().__init__(num_layers, width, start=start, normalize=normalize, layers=layers)
