"""Random streams: a generator for each purpose, the same whoever asks for it and when."""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, *purpose: str) -> np.random.Generator:
    """Return the random generator of one purpose, for example ``stream(seed, "balance", brick)``."""
    return np.random.default_rng(np.random.SeedSequence([seed, hashed(*purpose)]))


def hashed(*words: str) -> int:
    """A number of 64 bits that names these words, the same on every machine."""
    return int.from_bytes(hashlib.sha256("\0".join(words).encode()).digest()[:8], "little")
