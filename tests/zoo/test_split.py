"""The split by content: each file decides for itself, and an error says which fraction gives each class test images."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cifar10_zoo.data import files
from cifar10_zoo.data.dataset import Dataset, ReadOptions, Split
from cifar10_zoo.data.listing import Content, Listing
from cifar10_zoo.data.split import assign, part_of, position, require_both
from cifar10_zoo.errors import DatasetError
from tests.helpers.data_files import image_file, pixels

Pictures = list[tuple[int, int]]
"""The seed of each picture, and its label."""


@cache
def content(seed: int) -> bytes:
    return image_file(seed, size=8)


BY_POSITION = sorted(range(40), key=lambda seed: hashlib.sha256(content(seed)).digest())
BOTH_SIDES = [(seed, label) for seed in (BY_POSITION[0], BY_POSITION[-1]) for label in (0, 1)]
"""Pictures that give both classes test images with a fraction of 0.1, and training images with 0.9."""
PICTURES = st.lists(st.tuples(st.integers(0, 39), st.integers(0, 1)), max_size=20).map(lambda some: some + BOTH_SIDES)


@dataclass(frozen=True)
class MemoryListing(Listing):
    """Image files in memory."""

    seeds: Sequence[int] = ()

    def contents(self, split: Split) -> Iterator[Content]:
        """Yield all images: their content decides about the split."""
        assert split in ("train", "test")
        return ((number, content(seed)) for number, seed in enumerate(self.seeds))


def read(pictures: Pictures, split: Split, test_fraction: float = 0.5) -> Dataset:
    seeds, labels = [seed for seed, _ in pictures], [label for _, label in pictures]
    names = [f"{number}.bmp" for number in range(len(pictures))]
    listing = MemoryListing("flowers", ("daisy", "rose"), names, np.array(labels), seeds=seeds)
    return files.read(listing, split, ReadOptions(test_fraction=test_fraction, image_size=8), quiet=True)


def sides(pictures: Pictures, test_fraction: float = 0.5) -> dict[Split, list[tuple[int, int]]]:
    """Return the pictures in each split, in the order of the data set."""
    seed_of = {pixels(seed).tobytes(): seed for seed, _ in pictures}
    result: dict[Split, list[tuple[int, int]]] = {}
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        data = read(pictures, split, test_fraction)
        images = data.images.permute(0, 2, 3, 1).contiguous().numpy()
        seeds = [seed_of[image.tobytes()] for image in images]
        result[split] = list(zip(seeds, data.labels.tolist(), strict=True))
    return result


@given(pictures=PICTURES)
def test_each_picture_is_in_exactly_one_split_with_its_label(pictures: Pictures) -> None:
    found = sides(pictures)
    assert sorted(found["train"] + found["test"]) == sorted(pictures)


@given(pictures=PICTURES)
def test_copies_of_a_picture_are_never_on_both_sides(pictures: Pictures) -> None:
    found = sides(pictures + pictures[:2] + [(seed, 1 - label) for seed, label in pictures[2:4]])
    assert not {seed for seed, _ in found["train"]} & {seed for seed, _ in found["test"]}


@given(pictures=PICTURES, more=PICTURES, data=st.data())
def test_a_picture_stays_on_its_side_when_others_are_added_and_names_and_order_change(
    pictures: Pictures, more: Pictures, data: st.DataObject
) -> None:
    before = sides(pictures)
    after = sides(data.draw(st.permutations(pictures + more)))
    for split, found in before.items():
        assert set(found) <= set(after[split])


@given(pictures=PICTURES)
def test_a_higher_fraction_only_adds_test_images(pictures: Pictures) -> None:
    assert set(sides(pictures, 0.3)["test"]) <= set(sides(pictures, 0.6)["test"])


@given(pictures=PICTURES)
def test_the_images_are_in_the_order_of_the_sha256_of_their_files(pictures: Pictures) -> None:
    for found in sides(pictures).values():
        digests = [hashlib.sha256(content(seed)).digest() for seed, _ in found]
        assert digests == sorted(digests)


def test_a_data_set_that_does_not_fit_into_memory_is_an_error_that_says_how_much_it_needs() -> None:
    class Huge(MemoryListing):
        def count(self, split: Split) -> int:
            return 10**12 if split == "train" else 0

    huge = Huge("flowers", ("daisy", "rose"), [], np.array([], np.int64))
    with pytest.raises(DatasetError, match=r"^flowers: 1,000,000,000,000 images of 1024x1024 pixels need .* GiB"):
        files.read(huge, "train", ReadOptions(image_size=1024), quiet=True)


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_the_fraction_of_test_images_is_the_test_fraction_within_chance(fraction: float) -> None:
    count = 20_000
    positions = [position(hashlib.sha256(number.to_bytes(4, "big")).digest()) for number in range(count)]
    sigma = (fraction * (1 - fraction) / count) ** 0.5
    assert abs(sum(p < fraction for p in positions) / count - fraction) < 4 * sigma


@pytest.mark.parametrize(
    ("sha256", "expected"),
    [
        pytest.param(bytes(32), 0.0, id="all zeros"),
        pytest.param(b"\x80" + bytes(31), 0.5, id="first bit"),
        pytest.param(b"\xff" * 32, 1 - 2**-48, id="all ones"),
    ],
)
def test_the_position_is_the_beginning_of_the_sha256_as_a_fraction(sha256: bytes, expected: float) -> None:
    assert position(sha256) == expected


@given(
    positions=st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1, exclude_max=True)), min_size=3, max_size=12),
    fraction=st.floats(0.001, 0.999),
)
def test_the_error_names_the_lowest_fraction_that_gives_each_class_both(
    positions: list[tuple[int, float]], fraction: float
) -> None:
    labels, places = np.array([label for label, _ in positions]), np.array([place for _, place in positions])
    assume(set(labels.tolist()) == {0, 1, 2})

    def error_of(fraction: float) -> str:
        try:
            require_both("flowers", ("a", "b", "c"), labels, places < fraction, places)
        except DatasetError as error:
            return str(error)
        return ""

    if not (error := error_of(fraction)):
        return
    works = [thousandths / 1000 for thousandths in range(1, 1000) if not error_of(thousandths / 1000)]
    named = re.search(r"--test-fraction (\S+),", error)
    assert (float(named[1]) if named else None) == (works[0] if works else None)


@pytest.mark.parametrize(
    ("name", "whole", "part"),
    [
        ("train", True, "train"),
        ("Training", True, "train"),
        ("TEST", True, "test"),
        ("valid", True, "val"),
        ("validation", True, "val"),
        ("trains", True, ""),
        ("train-station", True, ""),
        ("value", False, ""),
        ("train-00000-of-00002", False, "train"),
        ("test_labels", False, "test"),
    ],
)
def test_a_name_tells_the_part(name: str, whole: bool, part: str) -> None:
    assert part_of(name, whole) == part


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param({"a": "train", "b": "test", "c": "val"}, {"a": False, "b": True}, id="test wins over val"),
        pytest.param({"a": "train", "b": "val"}, {"a": False, "b": True}, id="val instead of test"),
        pytest.param({"a": "train", "b": "", "c": "test"}, {"a": False, "c": True}, id="another part is not used"),
        pytest.param({"a": "train", "b": ""}, None, id="no test part"),
        pytest.param({"a": "test", "b": "val"}, None, id="no training part"),
        pytest.param({}, None, id="nothing"),
    ],
)
def test_parts_are_training_or_test_data(parts: dict[str, str], expected: dict[str, bool] | None) -> None:
    assert assign(parts) == expected
