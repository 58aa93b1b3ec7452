"""Random generators that are pure functions of a seed, a stream and a number."""

import numpy as np

AUGMENTATION, ORDER, FIRST_FLIPS = 0, 1, 2
"""Independent streams of random numbers."""


def generator(seed: int, stream: int, number: int) -> np.random.Generator:
    """A generator that depends on its arguments alone, as cheap to make as to use (Philox is counter-based)."""
    return np.random.Generator(np.random.Philox(key=[seed, stream], counter=[0, number, 0, 0]))
