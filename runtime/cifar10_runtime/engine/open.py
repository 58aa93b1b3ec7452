"""Open the classifier that the options of a command ask for."""

from cifar10_runtime.engine.classifier import Classifier
from cifar10_runtime.engine.contract import read_labels
from cifar10_runtime.engine.probe import probe_in_subprocess
from cifar10_runtime.errors import UsageError
from cifar10_runtime.options import ClassifierOptions


def open_classifier(options: ClassifierOptions) -> Classifier:
    """Return a new classifier for ``options``; a model of unknown origin is first opened in a subprocess.

    Raises:
        UsageError: An option has a value that cannot be used.
        DeviceError: ONNX Runtime is not installed, or the device cannot be used.
        ModelError: The model is missing, damaged or does not follow the contract.
    """
    if options.min_probability is None and options.unknown_label != ClassifierOptions.unknown_label:
        raise UsageError(
            f"--unknown-label {options.unknown_label} needs --min-probability, below which it is the label"
        )
    labels = read_labels(options.labels) if options.labels else None
    probe_in_subprocess(options.model, options.device, options.labels)
    classifier = Classifier(
        options.model,
        options.device,
        options.fast_math,
        labels,
        options.background,
        options.max_pixels,
        min_probability=options.min_probability,
        unknown_label=options.unknown_label,
        features=options.features,
    )
    if not 1 <= options.top_k <= len(classifier.labels):
        raise UsageError(f"--top-k must be between 1 and {len(classifier.labels)}, not {options.top_k}")
    return classifier
