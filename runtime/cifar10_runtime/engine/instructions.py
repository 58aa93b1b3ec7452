"""Instructions of this processor: they decide which device is the fastest, and whether bf16 is faster than float32."""

from pathlib import Path

import numpy as np

from cifar10_runtime.engine.threads import ROOT


def has_avx512() -> bool:
    """Return whether NumPy finds AVX-512, with the instructions of Skylake servers (F, CD, BW, DQ and VL)."""
    return not numpy_features().isdisjoint({"X86_V4", "AVX512_SKX"})  # NumPy 2.4 and later; earlier versions


def has_bf16(root: Path = ROOT) -> bool:
    """Return whether the processor multiplies bf16 numbers: Cooper Lake, Sapphire Rapids, Zen 4 and later do.

    Args:
        root: The folder that contains proc/.
    """
    try:
        return "avx512_bf16" in (root / "proc/cpuinfo").read_text("utf-8", "replace").split()
    except OSError:  # Windows: NumPy names only a group that also has float16, of Sapphire Rapids and later
        return "AVX512_SPR" in numpy_features()


def numpy_features() -> set[str]:
    """Return NumPy's names of the groups of vector instructions that this process can use."""
    simd = np.show_config(mode="dicts")["SIMD Extensions"]
    return {*simd.get("baseline", ()), *simd.get("found", ())}  # NumPy leaves empty lists out
