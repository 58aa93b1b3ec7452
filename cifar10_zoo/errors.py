"""Errors that a user can fix: each message names the file or option that is wrong, and then says what to do."""


class ZooError(Exception):
    """Base class; a command prints the message as one line and exits with ``exit_status``."""

    exit_status = 1


class OptionError(ZooError):
    """A command-line option has a value that cannot be used."""

    exit_status = 2


class DeviceError(ZooError):
    """The requested device is not available."""


class DatasetError(ZooError):
    """The data set is missing, damaged or not the expected one."""


class CheckpointError(ZooError):
    """A checkpoint is missing or damaged, or it belongs to another run."""


class TrainingError(ZooError):
    """Training cannot continue."""


class Stopped(Exception):
    """A signal stopped a command after the command had saved its work.

    Args:
        signal_number: The signal; the command exits with 128 plus this number, as a shell reports it.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.exit_status = 128 + signal_number


def one_line(error: BaseException) -> str:
    """Return the message of ``error`` on one line, or the name of its class if the message is empty."""
    return " ".join(str(error).splitlines()) or type(error).__name__
