"""Errors that a user can mend: each message names the file or option at fault and what to do about it."""


class ZooError(Exception):
    """Base class; the commands print it as one line and exit with status 1."""


class OptionError(ZooError):
    """A command-line option has a value that cannot be used."""


class DeviceError(ZooError):
    """The device asked for is not there."""


class DatasetError(ZooError):
    """The data set is missing, damaged or not the one expected."""


class CheckpointError(ZooError):
    """A checkpoint is missing, damaged or does not fit what is asked of it."""


class TrainingError(ZooError):
    """Training cannot go on."""
