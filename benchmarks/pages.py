"""Generated parts of Markdown pages."""

from pathlib import Path

from cifar10_runtime import atomic


def replace_part(page: Path, begin: str, end: str, text: str) -> None:
    """Put ``text`` between the lines ``begin`` and ``end`` of a page.

    Raises:
        ValueError: The page lacks these two lines.
    """
    before, first, rest = page.read_text(encoding="utf-8").partition(f"{begin}\n")
    _, last, after = rest.partition(end)
    if not first or not last:
        raise ValueError(f"{page}: the lines {begin} and {end} are missing: put them where the results belong")
    atomic.write_file(page, f"{before}{begin}\n\n{text}\n\n{end}{after}".encode())


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
