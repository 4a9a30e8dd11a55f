"""Noise on a sum, so that nobody's presence shows in it beyond a stated epsilon.

Each site adds its share before masking, so the coordinator never holds the
exact total. The shares are drawn wide enough that the noise is whole without
those sites which may tell theirs to others.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from services.exchange.domain.errors import Malformed

Floats = NDArray[np.float64]


def clipped(rows: Floats, norm: float) -> Floats:
    """Rows (patients, numbers) shortened to Euclidean length `norm`: then the sum has sensitivity `norm`."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows * np.minimum(1.0, norm / np.maximum(lengths, np.finfo(float).tiny)))


def share(scale: float, sites: int, colluding: int = 1) -> float:
    """Standard deviation of a site's share: without `colluding` sites the noise in the sum has `scale`."""
    if not 0 <= colluding < sites:
        raise Malformed("NO_NOISE_LEFT", "at least one site must keep its noise to itself", "colluding")
    return scale / math.sqrt(sites - colluding)


def gaussian(vector: Floats, scale: float, random: np.random.Generator) -> Floats:
    """The vector with independent Gaussian noise; the generator is seeded from a secret source.

    Noise in double precision: its last bits are not those of a Gaussian
    (Mironov, CCS 2012). The fixed point of the masked sum rounds them away.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise Malformed("NO_SCALE", f"noise has a positive scale, not {scale}", "scale")
    return vector + random.normal(0.0, scale, vector.shape)
