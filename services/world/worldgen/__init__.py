"""Makes a world from a seed: pure, and byte-equal for one seed and anchor."""

from services.world.worldgen.generate import generate

__all__ = ["generate"]
