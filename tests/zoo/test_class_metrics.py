"""Precision, recall, F1 score and confusion matrix per class: definitions, an example by hand, whole command lines."""

import json
from dataclasses import astuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cifar10_zoo.tracking.class_metrics import ClassMetrics, as_json, as_text, class_metrics, confusion_matrix
from cifar10_zoo.tracking.class_metrics import macro_average as average

NAMES = ("cat", "dog", "owl")
LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2, 2])
PREDICTIONS = torch.tensor([0, 0, 1, 2, 1, 0, 2, 2, 2, 1])


def test_an_example_computed_by_hand() -> None:
    confusion = confusion_matrix(LABELS, PREDICTIONS, 3)
    assert confusion.tolist() == [[2, 1, 1], [1, 1, 0], [0, 1, 3]]
    cat, dog, owl = metrics = class_metrics(confusion, NAMES)
    assert astuple(cat) == pytest.approx(("cat", 2 / 3, 0.5, 4 / 7, 4))
    assert astuple(dog) == pytest.approx(("dog", 1 / 3, 0.5, 2 / 5, 2))
    assert astuple(owl) == pytest.approx(("owl", 0.75, 0.75, 0.75, 4))
    assert average(metrics).recall == pytest.approx((0.5 + 0.5 + 0.75) / 3)
    assert average(metrics).support == 10


pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


@given(pairs)
def test_the_measures_have_their_definitions(pairs: list[tuple[int, int]]) -> None:
    labels, predictions = (torch.tensor(each) for each in zip(*pairs, strict=True))
    metrics = class_metrics(confusion_matrix(labels, predictions, 5), tuple("abcde"))
    for number, each in enumerate(metrics):
        hits = sum(label == prediction == number for label, prediction in pairs)
        predicted = sum(prediction == number for _, prediction in pairs)
        support = sum(label == number for label, _ in pairs)
        assert each.precision == (hits / predicted if predicted else 0)
        assert each.recall == (hits / support if support else 0)
        if hits:
            assert each.f1 == pytest.approx(2 / (1 / each.precision + 1 / each.recall))
        else:
            assert each.f1 == 0
        assert each.support == support
    correct = sum(label == prediction for label, prediction in pairs)
    assert sum(each.recall * each.support for each in metrics) == pytest.approx(correct)


def test_the_table_has_the_classes_their_average_and_the_matrix() -> None:
    lines = as_text(confusion_matrix(LABELS, PREDICTIONS, 3), NAMES).splitlines()
    assert lines[1].split() == ["cat", "0.667", "0.500", "0.571", "4"]
    assert lines[4].split() == ["macro", "average", "0.583", "0.583", "0.574", "10"]
    assert lines[-3].split() == ["cat", "2", "1", "1"]


def test_a_matrix_of_many_classes_is_left_out_of_the_table() -> None:
    labels = torch.arange(1000)
    lines = as_text(confusion_matrix(labels, labels, 1000), [f"class {number}" for number in range(1000)]).splitlines()
    assert len(lines) == 1002


def test_the_json_has_the_same_numbers() -> None:
    confusion = confusion_matrix(LABELS, PREDICTIONS, 3)
    document = json.loads(as_json(confusion, NAMES, step=7))
    assert (document["step"], document["accuracy"]) == (7, 0.6)
    assert [ClassMetrics(**each) for each in document["classes"]] == class_metrics(confusion, NAMES)
    assert document["confusion_matrix"] == confusion.tolist()
