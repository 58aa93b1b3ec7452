"""Errors of the runtime: each message names the file or option at fault and what to do about it."""


class InferenceError(Exception):
    """Base class; cifar10-infer prints it as one line."""


class UsageError(InferenceError):
    """An argument or option that cannot be used."""


class ModelError(InferenceError):
    """The model is missing, damaged or does not follow the contract."""


class DeviceError(InferenceError):
    """The device asked for, or ONNX Runtime itself, is not there."""


class OutputError(InferenceError):
    """The results cannot be written."""


class TooManyFailures(InferenceError):
    """More files could not be read than the caller puts up with."""


class ImageError(InferenceError):
    """One image that cannot be read; the message is a short reason without the path."""
