"""The accuracy in the summary counts folders with exactly the name of a class, and names those that miss it by case."""

import shutil
from pathlib import Path

import pytest
from cifar10_runtime.prediction import Prediction
from cifar10_runtime.results.tally import Tally

from tests.helpers.command_line import infer


def prediction(path: str, label: str) -> Prediction:
    return Prediction(path, ((label, 0.9),))


def test_folders_that_differ_from_a_class_only_in_case_are_named_and_do_not_count() -> None:
    tally = Tally(("cat", "dog"))
    for path, label in (("dog/1.png", "dog"), ("dog/2.png", "cat"), ("Dog/3.png", "dog"), ("a/CAT/4.png", "dog")):
        tally.add(prediction(path, label))
    tally.add(prediction("Dog/5.png", "cat"))
    tally.add(prediction("dogs/6.png", "dog"))
    tally.add(Prediction.failed("Dog/7.png", "truncated"))
    assert tally.class_folders() == [
        "accuracy 0.5000 (1 of 2 images in folders named after classes)",
        "the accuracy leaves out 3 images in folders that differ from a class only in case: CAT (1), Dog (2)",
    ]


def test_a_class_in_upper_case_has_its_own_folder() -> None:
    tally = Tally(("Dog", "dog"))
    tally.add(prediction("Dog/1.png", "dog"))
    tally.add(prediction("DOG/1.png", "dog"))
    assert tally.class_folders() == [
        "accuracy 0.0000 (0 of 1 images in folders named after classes)",
        "the accuracy leaves out 1 image in folders that differ from a class only in case: DOG (1)",
    ]


def test_tallies_add_up_also_with_counts_of_earlier_versions() -> None:
    part, total = Tally(("dog",)), Tally(("dog",))
    for path in ("dog/1.png", "DOG/2.png", "else/3.png"):
        part.add(prediction(path, "dog"))
    for counts in (part.counts(), part.counts(), {"images": 10, "failed": 1, "in_class_folders": 2, "correct": 1}):
        total.add_counts(counts)
    assert (total.images, total.failed) == (16, 1)
    assert total.class_folders() == [
        "accuracy 0.7500 (3 of 4 images in folders named after classes)",
        "the accuracy leaves out 2 images in folders that differ from a class only in case: DOG (2)",
    ]


@pytest.mark.linux
def test_the_summary_of_the_command_names_the_folder(photo: Path, tmp_path: Path) -> None:
    for name in ("dog", "Dog", "other"):
        (tmp_path / name).mkdir()
        shutil.copy(photo, tmp_path / name)
    result = infer(tmp_path, "--output", "-")
    assert result.returncode == 0, result.stderr
    assert "of 1 images in folders named after classes" in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last == "the accuracy leaves out 1 image in folders that differ from a class only in case: Dog (1)"
