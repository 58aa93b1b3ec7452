"""The errors of the runtime; each message names the file or option that is wrong and says what to do."""


class InferenceError(Exception):
    """The base class; cifar10-infer prints the message as one line."""


class UsageError(InferenceError):
    """An argument or option that cannot be used."""


class ModelError(InferenceError):
    """The model is missing, damaged or does not follow the contract."""


class DeviceError(InferenceError):
    """The device cannot be used, or ONNX Runtime is not installed."""


class OutputError(InferenceError):
    """The results cannot be written."""


class TooManyFailures(InferenceError):
    """More files could not be read than the options permit."""


class ImageError(InferenceError):
    """One image that cannot be read; the message is a short reason without the path."""
