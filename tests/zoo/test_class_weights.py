"""--class-weights: balanced weights by their definition, the weights in a file, their effect on the loss and a run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from cifar10_zoo import train
from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data import class_weights
from cifar10_zoo.errors import CheckpointError, OptionError
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.loss import balanced_weights
from cifar10_zoo.training.state import TrainingState
from tests.helpers.shapes import class_names, colored_images

LABELS = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 2])


def test_balanced_weights_give_each_class_the_same_sum() -> None:
    weights = balanced_weights(LABELS, 3)
    assert weights.tolist() == pytest.approx([9 / 18, 9 / 6, 9 / 3])
    assert (weights * torch.bincount(LABELS)).tolist() == pytest.approx([3, 3, 3])


def test_a_class_without_images_has_a_finite_weight() -> None:
    assert balanced_weights(LABELS, 4).tolist() == pytest.approx([9 / 24, 9 / 8, 9 / 4, 9 / 4])


def test_the_loss_is_the_weighted_mean_of_the_cross_entropies() -> None:
    state = TrainingState(Hyperparameters(class_weights="balanced", weight_decay=0), classes=3)
    state.weigh_classes(LABELS)
    images = torch.randn(9, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        each = F.cross_entropy(state.model(images), LABELS, reduction="none")
    weights = torch.tensor([1, 1, 1, 1, 1, 1, 3, 3, 6.0])
    assert float(state.train_step(images, LABELS)[-1]) == pytest.approx(float((weights * each).sum() / weights.sum()))


def train_with(weights: str, steps: int, train_dir: Path) -> None:
    """Train to a step on 24 images of the classes of ``colored_images(3, ...)``."""
    recipe = Hyperparameters(batch_size=4, class_weights=weights)
    options = train.Options(train_dir=train_dir, max_steps=steps, summary_frequency=0, hyperparameters=recipe)
    train.train(options, colored_images(3, 32, 24))


def test_a_run_does_not_continue_with_other_class_weights(tmp_path: Path) -> None:
    train_with("balanced", 1, tmp_path)
    with pytest.raises(CheckpointError, match="--class-weights balanced, not none"):
        train_with("none", 2, tmp_path)


CLASSES = ("daisy", "rose, red", "tulip")
FILES = {
    "CSV": 'class,weight\ntulip,3\ndaisy,0.5\n"rose, red",2.0\n',
    "CSV of a spreadsheet": "\ufeffid; class ;weight\r\n1;daisy;.5\r\n2;rose, red; 2\r\n3;tulip;3e0\r\n",
    "JSON": '\n{"rose, red": 2, "daisy": 0.5, "tulip": 3.0}',
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_a_file_gives_the_weights_in_the_order_of_the_classes(content: str, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text(content, encoding="utf-8", newline="")
    stored = class_weights.with_values(str(tmp_path / "weights"), CLASSES)
    assert stored == '{"daisy": 0.5, "rose, red": 2.0, "tulip": 3.0}'
    assert class_weights.values(stored) == [0.5, 2, 3]
    state = TrainingState(Hyperparameters(class_weights=stored, weight_decay=0), classes=3)
    state.weigh_classes(LABELS)
    assert state.class_weights is not None
    assert state.class_weights.tolist() == [0.5, 2, 3]


@given(st.dictionaries(st.text(min_size=1), st.floats(1e-6, 1e6), min_size=1))
def test_what_a_checkpoint_stores_gives_itself(weights: dict[str, float]) -> None:
    stored = class_weights.with_values(json.dumps(weights), tuple(weights))
    assert class_weights.with_values(stored, tuple(weights)) == stored
    assert class_weights.values(stored) == list(weights.values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("", "has no columns: name the columns class and weight", id="empty"),
        pytest.param("label,weight\na,1\n", "has the columns label, weight: name the columns class", id="columns"),
        pytest.param('{"daisy": 1', "is neither CSV nor a JSON object: Expecting", id="truncated JSON"),
        pytest.param(
            "class,weight\ndaisy,1\ntulip,1\n", "has no weight of rose, red: give each class one", id="missing class"
        ),
        pytest.param('{"daisy": 1, "daisy": 2}', "names daisy more than once: keep one weight", id="repeated class"),
        pytest.param('{"Daisy": 1}', "names Daisy; the classes are daisy, rose, red, tulip", id="unknown class"),
        *(
            pytest.param(
                f'{{"daisy": {value}, "rose, red": 1, "tulip": 1}}',
                "the weight of daisy must be a number from 0.000001 to 1,000,000, not",
                id=f"weight {value:.9}",
            )
            for value in ("0", "-1", "NaN", "Infinity", "1e7", '"heavy"', "true", "null", "[1]", "1" + 400 * "0")
        ),
        pytest.param('class,weight\ndaisy\n"rose, red",1\ntulip,1\n', "the weight of daisy must be", id="short row"),
    ],
)
def test_a_file_that_does_not_give_each_class_a_weight_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text(content)
    with pytest.raises(OptionError) as error:
        class_weights.with_values(str(tmp_path / "weights"), CLASSES)
    assert str(error.value).startswith(f"--class-weights {tmp_path / 'weights'}")
    assert message in str(error.value)


def test_an_unknown_word_is_refused_with_the_words_that_exist() -> None:
    with pytest.raises(OptionError, match=r"--class-weights balancd: No such file .*; name none, balanced or a file"):
        class_weights.with_values("balancd", CLASSES)


def test_a_run_continues_with_the_weights_of_its_file_wherever_the_file_is(tmp_path: Path) -> None:
    first, second, third = class_names(3)
    file, moved, other, run = (tmp_path / name for name in ("weights.csv", "moved.json", "other.csv", "run"))
    file.write_text(f'class,weight\n"{first}",1\n{second},2\n{third},3\n', encoding="utf-8")
    moved.write_text(json.dumps({third: 3, second: 2.0, first: 1}), encoding="utf-8")
    other.write_text(f'class,weight\n"{first}",1\n{second},2\n{third},4\n', encoding="utf-8")
    train_with(str(file), 1, run)
    stored = checkpoint.read_newest(run).hyperparameters.class_weights
    assert json.loads(stored) == {first: 1, second: 2, third: 3}
    train_with(str(moved), 2, run)
    assert checkpoint.read_newest(run).step == 2
    with pytest.raises(CheckpointError, match=r"trained with --class-weights .*3\.0\}, not .*4\.0\}: continue"):
        train_with(str(other), 3, run)


def test_the_error_about_other_weights_stays_short_for_a_thousand_classes(tmp_path: Path) -> None:
    data = colored_images(1000, 32, 1000)
    recipe = Hyperparameters(class_weights=json.dumps(dict.fromkeys(data.classes, 1.0)))
    saved = checkpoint.read(checkpoint.save(TrainingState(recipe, classes=1000), tmp_path, data.name, data.classes))
    with pytest.raises(CheckpointError, match="--class-weights") as error:
        train.require_same_run(saved, data, replace(recipe, class_weights="none"))
    assert len(str(error.value)) < 600
