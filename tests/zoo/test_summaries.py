"""TensorBoard summaries: the tutorial's tags, with the numbers of the run, once per step."""

import re
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cifar10_zoo import evaluate, train
from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.training import checkpoint

TIDY = {
    r"images/image/(\d)": r"images/\1",
    r"(\w+)/\1/\1/(activations|sparsity)": r"\1/\2",
    r"(.*)__raw_": r"\1/raw",
    r"(.*(?:loss|cross_entropy))_1": r"\1/averaged",
    r"(.*/(?:weights|biases))_1": r"\1",
    r"global_step/sec": "examples_per_sec",
    r"Precision @ 1": "precision_at_1",
}
QUEUES = re.compile(r".*(?:input_producer|shuffle_batch|batch)/.*full")
KINDS = {"histo": "distributions", "simple_value": "scalars", "image": "images"}


def options(data_dir: Path, train_dir: Path, max_steps: int) -> train.Options:
    return train.Options(
        data_dir=data_dir,
        train_dir=train_dir,
        max_steps=max_steps,
        summary_frequency=1,
        device="cpu",
        hyperparameters=Hyperparameters(batch_size=16),
    )


@pytest.fixture(scope="module")
def run_dir(drawings_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose steps 2 and 3 are lost in a crash and repeated; it ends at step 6, and is evaluated."""
    folder = tmp_path_factory.mktemp("summaries")
    for steps in (2, 4):
        train.train(options(drawings_dir, folder, steps))
    (folder / "model.ckpt-4.safetensors").unlink()
    train.train(options(drawings_dir, folder, 6))
    evaluate.evaluate(evaluate.Options(data_dir=drawings_dir, checkpoint_dir=folder, run_once=True, device="cpu"))
    return folder


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "histograms": 0})
    accumulator.Reload()
    return accumulator


def expected_tags(golden: Path, which: str) -> dict[str, set[str]]:
    """Return the tags that the original writes, by kind, in our naming scheme."""
    tags: dict[str, set[str]] = {kind: set() for kind in KINDS.values()}
    for line in (golden / f"summary_tags_{which}.txt").read_text().splitlines():
        tag, kind = line.split("\t")
        tag, kind = tag.strip(), kind.split()[0]
        if QUEUES.fullmatch(tag):
            continue
        for pattern, tidy in TIDY.items():
            tag = re.sub(f"^{pattern}$", tidy, tag)
        tags[KINDS[kind]].add(tag)
    return tags


@pytest.mark.parametrize(("which", "folder"), [("train", "."), ("eval", "eval")], ids=["train", "eval"])
def test_the_tags_are_exactly_those_of_the_original(
    golden_folder: Path, run_dir: Path, which: str, folder: str
) -> None:
    tags = events(run_dir / folder).Tags()
    for kind, expected in expected_tags(golden_folder, which).items():
        assert set(tags[kind]) == expected


def test_the_curves_of_a_resumed_run_do_not_overlap(run_dir: Path) -> None:
    accumulator = events(run_dir)
    for tag in accumulator.Tags()["scalars"]:
        assert [event.step for event in accumulator.Scalars(tag)] == [0, 1, 2, 3, 4, 5], tag
    assert [event.step for event in events(run_dir / "eval").Scalars("precision_at_1")] == [6]


def test_the_summaries_hold_the_numbers_of_the_run(run_dir: Path) -> None:
    accumulator = events(run_dir)
    saved = checkpoint.read_newest(run_dir)
    last = {tag: accumulator.Scalars(tag)[-1].value for tag in accumulator.Tags()["scalars"]}
    averages = ["cross_entropy", "local3/weight_loss", "local4/weight_loss", "total_loss"]
    averaged = torch.tensor([last[f"{name}/averaged"] for name in averages])
    torch.testing.assert_close(averaged, saved.tensors["loss_averages"])
    terms = sum(last[f"{name}/raw"] for name in averages[:3])
    assert last["total_loss/raw"] == pytest.approx(terms, rel=1e-6)
    assert last["learning_rate"] == pytest.approx(0.1)
    weights = saved.tensors["weights/conv2.weight"]
    histogram = accumulator.Histograms("conv2/weights")[-1].histogram_value
    assert histogram.num == weights.numel() == sum(histogram.bucket)
    assert histogram.min == pytest.approx(float(weights.min()))
    assert histogram.max == pytest.approx(float(weights.max()))
    assert histogram.sum_squares == pytest.approx(float(weights.double().square().sum()))


def test_training_without_summaries_ends_with_the_same_bits(drawings_dir: Path, run_dir: Path, tmp_path: Path) -> None:
    without = train.Options(**vars(options(drawings_dir, tmp_path, 6)) | {"summary_frequency": 0})
    train.train(without)
    assert not list(tmp_path.glob("events*"))
    assert checkpoint.read_newest(tmp_path).sha256 == checkpoint.read_newest(run_dir).sha256
