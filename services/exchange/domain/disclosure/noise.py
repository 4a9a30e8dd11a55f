"""Noise on a sum, so that nobody's presence shows in it beyond a stated epsilon.

Each site adds its share before masking, so the coordinator never holds the
exact total. The shares are drawn wide enough that the noise is whole without
those sites which may tell theirs to others.

Numbers and noise are rounded to one grid, 2^-20 of the noise or finer. The last
bits of a Gaussian in double precision are not those of a Gaussian (Mironov, CCS
2012), and would give the number away that they were added to; on the grid they
are gone.
"""

from __future__ import annotations

import math

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from services.refusals import Malformed

Floats = NDArray[np.float64]

#: The grid is so many powers of two finer than the noise.
_GRID_BITS = 20
#: Bits of a uniform number.
_BITS = 53


def share(scale: Floats, sites: int, colluding: int = 1) -> Floats:
    """Standard deviation of a site's share: without `colluding` sites the noise in the sum has `scale`."""
    if not 0 <= colluding < sites:
        raise Malformed("NO_NOISE_LEFT", "at least one site must keep its noise to itself", "colluding")
    return np.asarray(scale / math.sqrt(sites - colluding))


def gaussian(vector: Floats, scale: Floats, key: bytes) -> Floats:
    """The vector with independent Gaussian noise of these standard deviations; where one is 0, as it is.

    `key` (32 bytes) is secret and serves one vector: the noise is drawn from the
    stream of AES-256-CTR under it, by the method of Box and Muller.
    """
    if not (np.isfinite(scale).all() and (scale >= 0).all() and (scale > 0).any()):
        raise Malformed("NO_SCALE", "noise has a finite scale, positive for some number", "scale")
    grid = np.exp2(np.floor(np.log2(np.where(scale > 0, scale, 1.0))) - _GRID_BITS)
    noised = (np.rint(vector / grid) + np.rint(_normal(len(vector), key) * scale / grid)) * grid
    return np.where(scale > 0, noised, vector)


def _normal(count: int, key: bytes) -> Floats:
    """Independent standard normal numbers from a keystream."""
    pairs = (count + 1) // 2
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(16 * pairs))
    words = np.frombuffer(stream, dtype="<u8") >> np.uint64(64 - _BITS)
    radii, angles = (words.astype(float).reshape(2, pairs) + 0.5) / 2.0**_BITS
    length, turn = np.sqrt(-2 * np.log(radii)), 2 * math.pi * angles
    return np.concatenate([length * np.cos(turn), length * np.sin(turn)])[:count]
