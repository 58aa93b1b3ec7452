"""Random generators that depend only on a seed, a stream and a number."""

import numpy as np

AUGMENTATION, ORDER, FIRST_FLIPS, STRONG_AUGMENTATION = 0, 1, 2, 3
"""Independent streams of random numbers."""


def generator(seed: int, stream: int, number: int) -> np.random.Generator:
    """Return the generator of one batch or epoch.

    Philox is a counter-based generator: to create one costs no more than to use it.

    Args:
        seed: The seed of the run.
        stream: One of the streams above.
        number: Number of the batch or epoch.
    """
    return np.random.Generator(np.random.Philox(key=[seed, stream], counter=[0, number, 0, 0]))
