"""Networks for any number of classes and for larger images: shapes, initial weights, crops and checkpoints."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar10_zoo import evaluate, train
from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data.dataset import ReadOptions
from cifar10_zoo.data.load import load
from cifar10_zoo.data.transforms import center_crop, evaluation_images, sample_augmentation, standardize, ten_crop
from cifar10_zoo.errors import CheckpointError, OptionError
from cifar10_zoo.network.batch_norm import Cifar10NetBN, fold_batch_norm
from cifar10_zoo.network.model import IMAGE_SIZES, Cifar10Net, image_size_of
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.inference import predict, predict_ten_crop
from tests.helpers.shapes import SHAPES, Trained, colored_images, trained_state, write_folders

sizes = pytest.mark.parametrize("size", IMAGE_SIZES)


@sizes
def test_a_crop_has_three_quarters_of_the_image_and_pool2_a_quarter_of_the_crop(size: int) -> None:
    activations = Cifar10Net(classes=7, image_size=size).activations(torch.randn(1, 3, size * 3 // 4, size * 3 // 4))
    assert activations["conv1"].shape == (1, 64, size * 3 // 4, size * 3 // 4)
    assert activations["pool2"].shape == (1, 64, size * 3 // 16, size * 3 // 16)
    assert activations["softmax_linear"].shape == (1, 7)


@sizes
def test_the_number_of_inputs_of_local3_tells_the_image_size(size: int) -> None:
    assert image_size_of(Cifar10Net(image_size=size).local3.in_features) == size
    assert Cifar10NetBN(image_size=size).local3.in_features == 64 * (size * 3 // 16) ** 2


def test_the_outputs_of_local3_have_the_same_initial_deviation_for_all_sizes() -> None:
    deviations = []
    for size in IMAGE_SIZES:
        local3 = Cifar10Net(image_size=size).local3
        features = torch.rand(20, local3.in_features, generator=torch.Generator().manual_seed(0))
        deviations.append(float(local3(features).detach().std()))
    assert max(deviations) < 1.05 * min(deviations)


def test_the_layers_before_the_last_have_equal_initial_weights_for_any_number_of_classes() -> None:
    ten, many = Cifar10Net(seed=3).state_dict(), Cifar10Net(seed=3, classes=1000).state_dict()
    assert many["softmax_linear.weight"].shape == (1000, 192)
    assert all(torch.equal(ten[name], many[name]) for name in ten if not name.startswith("softmax_linear"))


@pytest.mark.parametrize("size", [0, 24, 33, 128])
def test_another_image_size_is_refused(size: int) -> None:
    with pytest.raises(OptionError, match=f"--image-size must be one of 32, 48, 64, 96, not {size}"):
        Cifar10Net(image_size=size)


@sizes
def test_crops_of_every_size_are_those_of_a_plain_loop(size: int) -> None:
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    crop, margin = size * 3 // 4, size // 4
    half = slice(margin // 2, margin // 2 + crop)
    assert torch.equal(center_crop(images), images[:, :, half, half])
    crops = ten_crop(images)
    assert torch.equal(crops[4], evaluation_images(images))
    for corner, top, left in ((0, 0, 0), (1, 0, margin), (2, margin, 0), (3, margin, margin)):
        assert torch.equal(crops[corner], standardize(images[:, :, top : top + crop, left : left + crop].float()))
        assert torch.equal(crops[corner + 5], crops[corner].flip(3))


@sizes
def test_augmentation_crops_at_every_offset(size: int) -> None:
    many = sample_augmentation(seed=1, number=0, batch_size=20_000, image_size=size)
    for offset in (many.y, many.x):
        assert offset.unique().tolist() == list(range(size // 4 + 1))


@pytest.mark.parametrize(("classes", "size"), SHAPES)
def test_a_checkpoint_tells_the_number_of_classes_and_the_image_size(classes: int, size: int, tmp_path: Path) -> None:
    recipe = Hyperparameters(batch_size=4, batch_norm=size > 48)
    data = colored_images(classes, size, max(classes, 8))
    state = trained_state(data, 1, recipe)
    saved = checkpoint.read(checkpoint.save(state, tmp_path, data.name, data.classes))
    assert (len(saved.classes), saved.image_size) == (classes, size)
    images = data.images[:4]
    expected = fold_batch_norm(state.model.eval())
    saved.restore(again := trained_state(data, 0, recipe))
    assert torch.equal(predict(fold_batch_norm(again.model.eval()), images), predict(expected, images))
    network = saved.ema_model()
    assert (network.classes, network.image_size) == (classes, size)
    assert predict(network, images).shape == predict_ten_crop(network, images[:1]).expand(4, -1).shape == (4, classes)


def test_a_network_learns_images_of_96x96_pixels() -> None:
    data = colored_images(2, 96, 16)
    recipe = Hyperparameters(batch_size=8, initial_learning_rate=0.02, moving_average_decay=0.9)
    state = trained_state(data, 8, recipe)
    accuracy = (predict(state.model, data.images).argmax(dim=1) == data.labels).double().mean()
    assert accuracy > 0.9


def test_a_checkpoint_of_another_image_size_is_refused_with_the_option_that_helps(tmp_path: Path) -> None:
    data = colored_images(3, 48, 8)
    saved = checkpoint.read(
        checkpoint.save(trained_state(data, 0, Hyperparameters()), tmp_path, data.name, data.classes)
    )
    saved.require_classes_of(data)
    message = "trained on images of 48x48 pixels, not 32x32: choose --image-size 48"
    with pytest.raises(CheckpointError, match=message):
        saved.require_classes_of(replace(data, images=data.images[:, :, :32, :32]))


def test_the_evaluation_takes_the_image_size_of_the_checkpoint(
    trained_shape: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved, data = trained_shape(2, 48)
    folder = write_folders(data, tmp_path / "data")
    options = evaluate.Options(
        data_dir=folder, checkpoint_dir=saved.path.parent, num_examples=20, run_once=True, device="cpu"
    )
    evaluate.evaluate(options)
    read = load(folder, "test", options=ReadOptions(image_size=48))
    accuracy = float((predict(saved.ema_model(), read.images[:20]).argmax(dim=1) == read.labels[:20]).double().mean())
    assert f"precision @ 1 = {accuracy:.3f}" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match="trained on images of 48x48 pixels, not 32x32: choose --image-size 48"):
        evaluate.evaluate(replace(options, image_size=32))


def test_a_run_continues_with_its_image_size(tmp_path: Path) -> None:
    folder = write_folders(colored_images(2, 48, 8), tmp_path / "data")
    options = train.Options(
        data_dir=folder,
        train_dir=tmp_path / "run",
        image_size=48,
        max_steps=1,
        device="cpu",
        hyperparameters=Hyperparameters(batch_size=4),
    )
    train.train(options)
    assert train.train(replace(options, image_size=None, max_steps=2)).step == 2
    with pytest.raises(CheckpointError, match="trained on images of 48x48 pixels, not 64x64: choose --image-size 48"):
        train.train(replace(options, image_size=64, max_steps=3))


def test_the_error_for_other_classes_stays_short_for_a_thousand_classes(tmp_path: Path) -> None:
    data = colored_images(1000, 32, 1000)
    state = trained_state(data, 0, Hyperparameters())
    saved = checkpoint.read(checkpoint.save(state, tmp_path, data.name, data.classes))
    with pytest.raises(CheckpointError, match=r"class-19, \.\.\. 1000 classes\), not") as error:
        saved.require_classes_of(colored_images(3, 32, 3))
    assert len(str(error.value)) < 600


@settings(max_examples=5)
@given(batch_size=st.integers(1, 3000), size=st.sampled_from(IMAGE_SIZES))
def test_predictions_do_not_depend_on_the_batch_size(batch_size: int, size: int) -> None:
    network = Cifar10Net(seed=1, classes=3, image_size=size).eval()
    images = torch.from_numpy(np.random.default_rng(size).integers(0, 256, (5, 3, size, size), dtype=np.uint8))
    torch.testing.assert_close(predict(network, images, batch_size), predict(network, images), rtol=0, atol=1e-5)
