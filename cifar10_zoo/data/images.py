"""Read image files in threads, by the code that decodes, crops and resizes the images of cifar10-infer."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from cifar10_runtime.errors import ImageError
from cifar10_runtime.images.decode import crop_and_resize, decode
from cifar10_runtime.images.read import read_file
from cifar10_runtime.text import one_line
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from cifar10_zoo.data.listing import Content

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHUNK = 16
"""Images that a thread reads at a time: enough that the threads need little time to take turns."""


@dataclass(frozen=True)
class _Picture:
    """What one image file gave."""

    number: int
    sha256: bytes = b""
    pixels: NDArray[np.uint8] | None = None
    """[3, S, S]; None if the file cannot be read or is not wanted."""
    error: str = ""
    """Why the file cannot be read."""


@dataclass
class Pictures:
    """What the files of a listing gave."""

    images: NDArray[np.uint8]
    """[capacity, 3, S, S] for the images that are wanted; only the first ``len(numbers)`` are set."""
    numbers: list[int] = field(default_factory=list)
    """The number in the listing of each image in ``images``."""
    sha256: dict[int, bytes] = field(default_factory=dict)
    """The SHA-256 of each file that can be read, wanted or not, by its number."""
    errors: dict[int, str] = field(default_factory=dict)
    """Why a file cannot be read, by its number."""

    def add(self, picture: _Picture) -> None:
        """Store what one file gave."""
        if picture.error:
            self.errors[picture.number] = picture.error
            return
        self.sha256[picture.number] = picture.sha256
        if picture.pixels is not None:
            self.images[len(self.numbers)] = picture.pixels
            self.numbers.append(picture.number)

    def sort(self) -> None:
        """Bring the images into the order of the SHA-256 of their files."""
        order = sorted(range(len(self.numbers)), key=lambda index: self.sha256[self.numbers[index]])
        _permute(self.images, order)
        self.numbers = [self.numbers[index] for index in order]


def read_files(
    contents: Iterable[Content], count: int, size: int, is_wanted: Callable[[bytes], bool], quiet: bool
) -> Pictures:
    """Read image files, and decode the wanted ones into one array, in as many threads as PyTorch has.

    Args:
        contents: The files.
        count: The number of files.
        size: Height and width in pixels of the result.
        is_wanted: Returns whether to decode the file with this SHA-256.
        quiet: Show no progress bar; otherwise, a terminal shows one.

    Raises:
        MemoryError: The array does not fit into memory.
    """
    pictures = Pictures(np.empty((count, 3, size, size), np.uint8))
    read_chunk = partial(_read_chunk, size=size, is_wanted=is_wanted)
    bar = tqdm(desc="reading images", total=count, unit=" images", leave=False, disable=quiet or None)
    with bar:
        for chunk in _map_in_threads(read_chunk, _chunks(contents, _CHUNK), torch.get_num_threads()):
            for picture in chunk:
                pictures.add(picture)
            bar.update(len(chunk))
    return pictures


def resized(images: Tensor, size: int) -> Tensor:
    """Return ``images`` [N, 3, H, W] uint8, cropped and resized to ``size`` as cifar10-infer does with image files."""
    result = np.empty((len(images), 3, size, size), np.uint8)
    for target, image in zip(result, images.permute(0, 2, 3, 1).numpy(), strict=True):
        target[:] = np.asarray(crop_and_resize(Image.fromarray(image), size)).transpose(2, 0, 1)
    return torch.from_numpy(result)


def _read_chunk(chunk: Sequence[Content], size: int, is_wanted: Callable[[bytes], bool]) -> list[_Picture]:
    return [_read_picture(number, source, size, is_wanted) for number, source in chunk]


def _read_picture(number: int, source: str | bytes, size: int, is_wanted: Callable[[bytes], bool]) -> _Picture:
    try:
        content = read_file(source) if isinstance(source, str) else source
        if isinstance(content, bytes):
            sha256, source = hashlib.sha256(content).digest(), content
        else:
            with content as file:  # too large to be read at once
                sha256 = hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]
        pixels = decode(source, size).transpose(2, 0, 1) if is_wanted(sha256) else None
        return _Picture(number, sha256, pixels)
    except (ImageError, OSError) as error:
        return _Picture(number, error=one_line(error))


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _map_in_threads(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Yield ``function(item)`` of each item, in order; few items are taken ahead, so that memory is bounded."""
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 2 * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _permute(rows: NDArray[np.uint8], order: Sequence[int]) -> None:
    """Make the former row ``order[k]`` the new row k, in place, because a copy of all rows may not fit into memory."""
    done = [False] * len(order)
    for start in range(len(order)):
        if done[start]:
            continue
        first, row = rows[start].copy(), start
        while not done[row]:
            done[row] = True
            source = order[row]
            rows[row] = first if source == start else rows[source]
            row = source
