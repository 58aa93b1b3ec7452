"""Build the documentation: the pages of the repository, the options of every command, and a reference of the packages.

    python docs/build_site.py dist/docs

Everything is HTML that needs neither server nor network. A link that leads nowhere is an error, in a page as in the
reference; so is a `module.name` that does not exist.
"""

import os
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pdoc
from markdown_it import MarkdownIt
from markdown_it.token import Token
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

ROOT = Path(__file__).parent.parent
PAGES = {
    "README.md": "Overview",
    "docs/cifar10-infer.md": "Classify images",
    "docs/cifar10-infer-ray.md": "Classify on a cluster",
    "SCALING.md": "Scaling",
    "docs/train.md": "Train and evaluate",
    "docs/export.md": "Export to ONNX",
    "docs/browser.md": "In the browser",
    "docs/clients.md": "Other clients",
    "docs/zoo.md": "Model zoos and servers",
    "docs/tutorial-map.md": "From the tutorial",
    "MODEL_CARD.md": "Model card",
    "ARCHITECTURE.md": "How it is built",
    "CONTRIBUTING.md": "Contributing",
    "CHANGELOG.md": "Changelog",
}
"""The pages of the repository in the order of the menu, with their titles there."""
PACKAGES = ("cifar10_zoo", "cifar10_export", "cifar10_runtime")
"""Where a name in the documentation may come from, in the order of looking."""
COMMANDS = (
    "cifar10-infer",
    "cifar10-infer-ray",
    "python -m cifar10_zoo.train",
    "python -m cifar10_zoo.evaluate",
    "python -m cifar10_export",
    "python -m cifar10_zoo.synthetic",
    "python -m cifar10_zoo.image_folders",
    "python -m cifar10_zoo.from_tensorflow",
)
OPTIONS = "commands.html"


def on_site(page: str) -> str:
    """The file of a page: ``docs/train.md`` -> ``docs/train.html``; the README is where the site begins."""
    return "index.html" if page == "README.md" else page.replace(".md", ".html")


SITE = [
    *((title, on_site(page)) for page, title in PAGES.items()),
    ("All options", OPTIONS),
    *((f"Reference: {package}", f"api/{package}.html") for package in reversed(PACKAGES)),
]
"""The menu: titles and files."""

_NAME = re.compile(r"<code>(\w+(?:\.[A-Za-z_]\w*)+(?:\(\))?)</code>")
_FILES = ("csv", "html", "md", "onnx", "png", "py")  # `recipes.py` is a file, and not a name in recipes


class BrokenReference(Exception):
    """Something in the documentation leads nowhere; the message says what, one a line."""


def build(folder: Path) -> None:
    """Write all of it to ``folder``.

    Raises:
        BrokenReference: a link or a name leads nowhere.
    """
    pdoc.render.configure(docformat="google", template_directory=ROOT / "docs" / "templates")
    pdoc.render.env.globals["site"] = SITE
    for page in PAGES:
        write_page(folder, page, (ROOT / page).read_text(encoding="utf-8"))
    write_page(folder, OPTIONS, options())
    write_reference(folder / "api")
    wrong = [*link_names(folder), *broken_links(folder)]
    if wrong:
        raise BrokenReference("\n".join(wrong))


def write_page(folder: Path, page: str, text: str) -> None:
    """Write a page of Markdown as HTML, and copy the files that it links to."""
    target = on_site(page)
    root = "../" * target.count("/")
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)  # what model hubs read of the model card
    markdown = MarkdownIt("commonmark", {"highlight": _highlighted}).enable("table")
    tokens = markdown.parse(text)
    headings: list[tuple[str, str]] = []
    for heading, inline in pairwise(tokens):
        if heading.type == "heading_open":
            anchor = slug(inline.content, {anchor for anchor, _ in headings})
            heading.attrSet("id", anchor)
            headings.append((anchor, inline.content.replace("`", "")))
    for token in _links(tokens):
        key = "href" if token.type == "link_open" else "src"
        token.attrSet(key, _link(folder, page, str(token.attrGet(key))))
    content = markdown.renderer.render(tokens, markdown.options, {})
    template = pdoc.render.env.get_template("page.html.jinja2")
    (folder / target).parent.mkdir(parents=True, exist_ok=True)
    (folder / target).write_text(
        template.render(title=headings[0][1], root=root, headings=headings[1:], content=content), encoding="utf-8"
    )


def _highlighted(code: str, language: str, _attributes: str) -> str:
    if language != "python":
        return ""
    return f'<pre class="pdoc-code">{highlight(code, PythonLexer(), HtmlFormatter(nowrap=True))}</pre>'


def slug(heading: str, taken: set[str]) -> str:
    """The anchor of a heading, as GitHub makes it."""
    plain = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
    return next(name for name in (plain, *(f"{plain}-{n}" for n in range(1, 100))) if name not in taken)


def _links(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield from (child for child in token.children or () if child.type in ("link_open", "image"))


def _link(folder: Path, page: str, link: str) -> str:
    """What a link of a page is on the site: another page, or a copy of the file."""
    path, _, anchor = link.partition("#")
    if urlsplit(link).scheme or not path:
        return link
    wanted = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
    if wanted not in PAGES:
        if (ROOT / wanted).is_file():  # else broken_links will find it
            (folder / wanted).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / wanted, folder / wanted)
        return link
    return posixpath.relpath(on_site(wanted), posixpath.dirname(page) or ".") + (f"#{anchor}" if anchor else "")


def options() -> str:
    """A page of Markdown with what ``--help`` says, for every command."""
    # Wide enough for every flag, without colours, and with the same default folder for all who build it.
    environment = os.environ | {"COLUMNS": "100", "NO_COLOR": "1", "CIFAR10_DATA_DIR": "~/.cache/cifar10-zoo"}
    text = "# All options\n\nWhat `--help` says of each command.\n"
    for command in COMMANDS:
        program, *words = command.split()
        call = [str(Path(sys.executable).with_name(program)), *words, "--help"]
        said = subprocess.run(call, env=environment, capture_output=True, text=True, check=True).stdout
        text += f"\n## {command}\n\n```\n{said.strip()}\n```\n"
    return text


def write_reference(folder: Path) -> None:
    """Write the reference, which pdoc makes of types and docstrings; of a package with ``__all__``, of those names."""
    for package in map(import_module, PACKAGES):  # cifar10_runtime imports its names when they are asked for
        for name in getattr(package, "__all__", ()):
            setattr(package, name, getattr(package, name))
    pdoc.pdoc(*PACKAGES, "!cifar10_export.verify", output_directory=folder)  # __all__ means the function of this name


def link_names(folder: Path) -> list[str]:
    """Make links of each `module.name` of ours; returns those that do not exist."""
    reference = folder / "api"
    modules = {
        path.relative_to(reference).with_suffix("").parts: read(path).anchors for path in reference.rglob("*.html")
    }
    wrong = []
    for path in folder.rglob("*.html"):
        page = path.relative_to(folder).as_posix()
        content = path.read_text(encoding="utf-8")
        for code in sorted(set(_NAME.findall(content))):
            place = _place(code.removesuffix("()"), page, modules)
            if place == "":
                wrong.append(f"{page}: there is no {code}")
            elif place:
                target = posixpath.relpath(f"api/{place}", posixpath.dirname(page) or ".")
                content = content.replace(f"<code>{code}</code>", f'<a href="{target}"><code>{code}</code></a>')
        path.write_text(content, encoding="utf-8")
    return wrong


def _place(name: str, page: str, modules: Mapping[tuple[str, ...], set[str]]) -> str | None:
    """Where in the reference ``name`` is; empty where it should be and is not, None where it is not for us to say."""
    parts = tuple(name.split("."))
    if parts[-1] in _FILES:
        return None
    ours = False
    near_first = sorted(PACKAGES, key=lambda package: package not in page)
    for full, shortest in ((parts, 1), *(((package, *parts), 2) for package in near_first)):
        for length in range(len(full) - 1, shortest - 1, -1):
            if full[:length] in modules:
                ours, anchor = True, ".".join(full[length:])
                if anchor in modules[full[:length]]:
                    return f"{'/'.join(full[:length])}.html#{anchor}"
                break
    return "" if ours else None


class _Page(HTMLParser):
    """The anchors and the links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name"):
                self.anchors.add(value or "")
            elif name in ("href", "src") and value:
                self.links.add(value)


def read(path: Path) -> _Page:
    """Anchors and links of an HTML file."""
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def broken_links(folder: Path) -> list[str]:
    """The links in ``folder`` that lead to no file or anchor there; those to other places are not tried."""
    pages = {path: read(path) for path in folder.rglob("*.html")}
    wrong = []
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if parts.scheme:
                continue
            if not target.is_file():
                wrong.append(f"{path.relative_to(folder)}: {link} is no file")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                wrong.append(f"{path.relative_to(folder)}: {link} is no heading or name")
    return wrong


if __name__ == "__main__":
    try:
        build(Path(sys.argv[1]))
    except BrokenReference as error:
        sys.exit(f"error: {error}")
    print(f"{sys.argv[1]}/index.html")
