"""What the documentation site adds to MkDocs; mkdocs.yml lists this file under `hooks`.

- Pages keep their repository paths, so that a link works on a code host and on the site: `README.md` is the start
  page, and the pages of the root are part of the site.
- `options.md` is generated: the `--help` of every command.
- A notebook of the menu becomes a page with the outputs of its cells: `make docs` executes it. With
  `EXECUTE_NOTEBOOKS=false`, the page has no outputs, and the build takes half a minute less.
- `api/` is generated: one page per module, which mkdocstrings fills from the docstrings.
- `module.name` in code style links to the reference. A name that does not exist is a warning, and `mkdocs build
  --strict` makes it an error.
"""

import base64
import logging
import os
import posixpath
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import griffe
import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parent.parent
PACKAGES = ("cifar10_runtime", "cifar10_zoo", "cifar10_export")
"""The documented packages, in the order of the menu."""
COMMANDS = (
    "cifar10-fit",
    "cifar10-infer",
    "cifar10-infer doctor",
    "cifar10-infer-ray",
    "python -m cifar10_zoo.train",
    "python -m cifar10_zoo.evaluate",
    "python -m cifar10_zoo.average",
    "python -m cifar10_zoo.calibrate",
    "python -m cifar10_export",
    "python -m cifar10_zoo.synthetic",
    "python -m cifar10_zoo.image_folders",
    "python -m cifar10_zoo.from_tensorflow",
)
OPTIONS = "options.md"
API = "api/"

_LINK = re.compile(r"\]\(([^)#\s]+)")
_NAME = re.compile(r"<code>(\w+(?:\.[A-Za-z_]\w*)+)(?:\(\))?</code>")
_FILE_SUFFIXES = (
    "csv",
    "html",
    "jpg",
    "js",
    "json",
    "jsonl",
    "md",
    "onnx",
    "parquet",
    "pbtxt",
    "png",
    "py",
    "txt",
    "yml",
)
_log = logging.getLogger("mkdocs.hooks.site")


# MkDocs calls the functions named on_*.


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Replace `api/` in the menu by one entry per module."""
    config.nav = _expand(config.nav)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of docs/ by the pages of the menu, at their repository paths, and the files they link to."""
    kept = [file for file in files if file.src_dir != config.docs_dir]  # of the theme
    pages = list(menu_pages(config.nav))
    for page in pages:
        if page == OPTIONS:
            kept.append(File.generated(config, page, content=""))  # on_page_read_source gives its text
        elif page.startswith(API):
            module = page.removeprefix(API).removesuffix(".md").removesuffix("/index").replace("/", ".")
            kept.append(File.generated(config, page, content=f"---\ntitle: {module}\n---\n\n::: {module}\n"))
        elif page.endswith(".ipynb"):
            kept.extend(_notebook_files(config, page))
        elif (ROOT / page).is_file():  # MkDocs warns about the missing pages of the menu
            kept.append(_repository_file(config, page))
    shown = [page for page in pages if (ROOT / page).is_file()]
    linked = {target for page in shown for target in _linked_files(page)} - set(pages)
    assets = {asset for asset in (*config.extra_css, *config.extra["polyfills"]) if (ROOT / asset).is_file()}
    return Files([*kept, *(_repository_file(config, path) for path in sorted(linked | assets))])


def on_page_read_source(page: Page, config: MkDocsConfig) -> str | None:  # noqa: ARG001
    """Return the text of the page of all options; MkDocs reads the other pages itself."""
    return options_page() if page.file.src_uri == OPTIONS else None


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Make each `module.name` of the packages a link to the reference, and warn about names that do not exist."""

    def link(match: re.Match[str]) -> str:
        name = match[1]
        identifier = find_name(name, page.file.src_uri)
        if identifier == "":
            _log.warning(f"{page.file.src_uri}: there is no {name} in {', '.join(PACKAGES)}")
        return f'<autoref identifier="{identifier}">{match[0]}</autoref>' if identifier else match[0]

    return _NAME.sub(link, html)


def menu_pages(nav: Any) -> Iterator[str]:
    """Yield the pages of a menu as mkdocs.yml has it, in order."""
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from menu_pages(entry)


def options_page() -> str:
    """Return a page of Markdown with the `--help` of every command."""
    # Wide enough for every flag, without colors, and with the same default folder on every machine.
    environment = os.environ | {"COLUMNS": "100", "NO_COLOR": "1", "CIFAR10_DATA_DIR": "~/.cache/cifar10-zoo"}

    def help_of(command: str) -> str:
        program, *words = command.split()
        call = [str(Path(sys.executable).with_name(program)), *words, "--help"]
        return subprocess.run(call, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    with ThreadPoolExecutor() as threads:
        sections = zip(COMMANDS, threads.map(help_of, COMMANDS), strict=True)
        parts = [f"## {command}\n\n```text\n{help_text}\n```\n" for command, help_text in sections]
    return "\n".join(["# All options\n\nThe `--help` of every command.\n", *parts])


def notebook_page(notebook: NotebookNode, folder: str) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as a page of Markdown, and its pictures by their paths.

    Args:
        notebook: The notebook, with or without outputs.
        folder: The folder of the pictures, relative to the page.
    """
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for number, output in enumerate(cell.outputs):
            if output.output_type == "stream":
                parts.append(f"```text\n{output.text.rstrip()}\n```")
            elif picture := output.data.get("image/png"):
                path = f"{folder}/{cell.id}-{number}.png"
                pictures[path] = base64.b64decode(picture)
                parts.append(f"![Picture that the cell above draws]({path})")
            else:
                parts.append(f"```text\n{output.data['text/plain']}\n```")
    return "\n\n".join(parts), pictures


def find_name(name: str, page: str) -> str | None:
    """Return the full name of `name`, which may lack the package.

    Args:
        name: As written, for example ``training.ema.EmaWeights``.
        page: The page that has it; in the reference of a package, a name without package belongs to that package.

    Returns:
        The identifier in the reference; an empty string if the module exists and the name does not; None if no module
        is called so, because the name belongs to another project.
    """
    parts = name.split(".")
    if parts[-1] in _FILE_SUFFIXES:
        return None
    is_ours = False
    packages = [package for package in PACKAGES if package in page] or PACKAGES
    for full, shortest in ((parts, 1), *(([package, *parts], 2) for package in packages)):
        for length in range(len(full) - 1, shortest - 1, -1):
            module = ".".join(full[:length])
            if module in modules():
                is_ours = True
                if _has(modules()[module], full[length:]):
                    return ".".join(full)
                break
    return "" if is_ours else None


@cache
def modules() -> dict[str, griffe.Module]:
    """Return every public module of the packages by its full name, read without importing it."""
    loader = griffe.GriffeLoader(search_paths=[ROOT, ROOT / "export", ROOT / "runtime", *sys.path])
    roots = [loader.load(package) for package in PACKAGES]
    found: dict[str, griffe.Module] = {}
    for module in roots:
        assert isinstance(module, griffe.Module)
        found |= dict(_walk(module))
    return found


def _walk(module: griffe.Module) -> Iterator[tuple[str, griffe.Module]]:
    yield module.path, module
    for name, child in sorted(module.modules.items()):
        if not child.is_alias and not name.startswith("_"):
            yield from _walk(child)


def _has(owner: griffe.Object | griffe.Alias, names: list[str]) -> bool:
    for name in names:
        if name not in owner.all_members:
            return False
        owner = owner.all_members[name]
    return True


def _expand(nav: Any) -> Any:
    if nav == API:
        return [_menu_entry(modules()[package]) for package in PACKAGES]
    if isinstance(nav, dict):
        return {title: _expand(entry) for title, entry in nav.items()}
    return [_expand(entry) for entry in nav] if isinstance(nav, list) else nav


def _menu_entry(module: griffe.Module) -> dict[str, Any]:
    """Return a module's page, or a package's page followed by its modules."""
    children = [modules()[path] for path in modules() if path.rpartition(".")[0] == module.path]
    page = API + module.path.replace(".", "/")
    if not module.is_init_module:
        return {module.name: f"{page}.md"}
    return {module.name: [f"{page}/index.md", *map(_menu_entry, children)]}


class _NotebookFile(File):
    """A notebook as Markdown: MkDocs makes a page of it, although its name does not end in .md."""

    def is_documentation_page(self) -> bool:
        return True


def _notebook_files(config: MkDocsConfig, page: str) -> list[File]:
    """Return the page of a notebook and its pictures."""
    source = (ROOT / page).read_text(encoding="utf-8")
    notebook = _executed(source) if config.extra["execute_notebooks"] else nbformat.reads(source, as_version=4)
    text, pictures = notebook_page(notebook, folder=Path(page).stem)
    parent = posixpath.dirname(page)
    files = [File.generated(config, f"{parent}/{path}", content=picture) for path, picture in pictures.items()]
    return [_NotebookFile.generated(config, page, content=text), *files]


@cache  # `mkdocs serve` builds again after each change of any page
def _executed(source: str) -> NotebookNode:
    notebook = nbformat.reads(source, as_version=4)
    where = {"metadata": {"path": str(ROOT / "docs")}}
    quiet = ["--log-level=ERROR"]  # no warning that the kernel talks over TCP, on this machine only
    client = NotebookClient(notebook, coalesce_streams=True, extra_arguments=quiet, resources=where)
    return client.execute()


def _linked_files(page: str) -> set[str]:
    """Return the files that a page links to, as repository paths."""
    links = _LINK.findall((ROOT / page).read_text(encoding="utf-8"))
    paths = {posixpath.normpath(posixpath.join(posixpath.dirname(page), link)) for link in links if ":" not in link}
    return {path for path in paths if (ROOT / path).is_file()}


def _repository_file(config: MkDocsConfig, path: str) -> File:
    is_in_menu = path in set(menu_pages(config.nav))
    level = InclusionLevel.INCLUDED if is_in_menu else InclusionLevel.NOT_IN_NAV
    return File.generated(config, path, abs_src_path=str(ROOT / path), inclusion=level)
