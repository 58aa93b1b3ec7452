"""Text that is safe to print and to store."""


def printable(text: str) -> str:
    """``text`` with escapes for control characters, which could move the cursor of a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def valid_unicode(path: str) -> str:
    """``path`` with escapes for bytes that are not UTF-8."""
    return path.encode("utf-8", "backslashreplace").decode()


def one_line(error: BaseException) -> str:
    """The message of ``error`` on one line, without the path that an ``OSError`` adds; else its class name."""
    text = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return " ".join(text.split()) or type(error).__name__
