"""Text that is safe to print and to store."""


def printable(text: str) -> str:
    """Return ``text`` with escapes for control characters, which could move a terminal's cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def valid_unicode(path: str) -> str:
    """Return ``path`` with escapes for bytes that are not UTF-8."""
    return path.encode("utf-8", "backslashreplace").decode()


def one_line(error: BaseException) -> str:
    """Return the message of ``error`` on one line, without an ``OSError``'s path; the class name if it is empty."""
    text = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return " ".join(text.split()) or type(error).__name__


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun, which gets a plural s: ``1 file``, ``2 files``."""
    return f"{number} {noun}{'s' * (number != 1)}"
