"""The memory of the device that trains."""

import platform

import pytest
import torch

from cifar10_zoo.training.device import keep_freed_memory

PAGES = 9766
"""Pages of 4 KiB in 40 MB."""


@pytest.mark.linux
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_freed_memory_is_used_again() -> None:
    """Without the setting, the kernel provides all pages of each of the 20 tensors."""
    resource = pytest.importorskip("resource")  # Windows lacks it
    keep_freed_memory()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.zeros(10_000_000).fill_(1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 3 * PAGES
