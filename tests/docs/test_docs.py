"""The documentation is true: what it names exists, its commands are accepted, its code runs."""

import inspect
import re
import shlex
import shutil
import subprocess
from base64 import b64encode
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import cifar10_export.command
import cifar10_runtime.cli.parser
import cifar10_runtime.cluster.parser
import import_map
import nbformat
import numpy as np
import pytest
import release.pack
import site_hooks
from cifar10_runtime import Classifier
from mkdocs.config import load_config

import cifar10_zoo
from cifar10_zoo import average, calibrate, cli, evaluate, from_tensorflow, image_folders, synthetic, train
from cifar10_zoo.data.cifar10 import load
from tests.helpers.command_line import ROOT, infer, run

GENERATED = (site_hooks.OPTIONS, site_hooks.API)
MENU = list(site_hooks.menu_pages(load_config(str(ROOT / "mkdocs.yml")).nav))
PAGES = [ROOT / page for page in MENU if page not in GENERATED]
OPTIONS = {
    f"python -m {module.__name__}": module.Options
    for module in (average, calibrate, evaluate, from_tensorflow, image_folders, synthetic, train)
} | {
    "python -m cifar10_export": cifar10_export.command.Options,
    "python export/to_onnx.py": cifar10_export.command.Options,
    "python export/pack.py": release.pack.Options,
    "torchrun --nproc-per-node=2 -m cifar10_zoo.train": train.Options,
}
PARSERS = {
    "cifar10-infer": cifar10_runtime.cli.parser.parser,
    "cifar10-infer doctor": cifar10_runtime.cli.parser.doctor_parser,
    "cifar10-infer-ray": cifar10_runtime.cluster.parser.parser,
}


def test_every_page_is_in_the_menu() -> None:
    assert sorted(PAGES) == sorted(
        [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("*.ipynb")]
    )


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build a site as `make docs` does."""
    return run("-m", "mkdocs", "build", "--strict", "--config-file", config, "--site-dir", site)


def test_the_site_builds_without_a_warning_and_needs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXECUTE_NOTEBOOKS", "false")  # test_walkthrough.py executes the notebook
    result = build(ROOT / "mkdocs.yml", tmp_path)
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "docs" / "tutorial-map.html").read_text(encoding="utf-8")
    target = "../api/cifar10_zoo/data/transforms.html#cifar10_zoo.data.transforms.augment"
    assert re.search(f'<a [^>]*href="{target}"><code>data.transforms.augment</code></a>', page)
    options = (tmp_path / "options.html").read_text(encoding="utf-8")
    assert all(f'>{command}<a class="headerlink"' in options for command in site_hooks.COMMANDS)
    assert "--save-checkpoint-secs" in options
    notebook = (tmp_path / "docs" / "walkthrough.html").read_text(encoding="utf-8")
    target = "../api/cifar10_zoo/training/ema.html#cifar10_zoo.training.ema.EmaWeights"
    assert re.search(f'<a [^>]*href="{target}"><code>training.ema.EmaWeights</code></a>', notebook)
    assert re.search(r"<details>\s*<summary>Solution of exercise 1.1</summary>\s*<p>", notebook)
    html = "".join(path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html"))
    assert not re.search(r'<(script|img|iframe)[^>]* src="?(https?:)?//|<link[^>]* href="?(https?:)?//', html)


def test_a_page_of_a_notebook_has_the_texts_the_code_and_the_outputs_of_its_cells() -> None:
    picture = nbformat.v4.new_output(
        "display_data", {"image/png": b64encode(b"PNG").decode(), "text/plain": "<Figure>"}
    )
    outputs = [nbformat.v4.new_output("stream", text="printed\n"), picture]
    outputs.append(nbformat.v4.new_output("execute_result", {"text/plain": "42"}))
    code = nbformat.v4.new_code_cell("6 * 7", id="product", outputs=outputs)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title"), code])
    text, pictures = site_hooks.notebook_page(notebook, "folder")
    assert pictures == {"folder/product-1.png": b"PNG"}
    assert text.split("\n\n") == [
        "# Title",
        "```python\n6 * 7\n```",
        "```text\nprinted\n```",
        "![Picture that the cell above draws](folder/product-1.png)",
        "```text\n42\n```",
    ]


def test_broken_links_and_unknown_names_are_errors(tmp_path: Path) -> None:
    configuration = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    only_page = re.sub(r"(?ms)^nav:.*?^$", "nav: [page.md]\n", configuration)
    (tmp_path / "mkdocs.yml").write_text(only_page, encoding="utf-8")
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "site_hooks.py", tmp_path / "docs")
    (tmp_path / "page.md").write_text(
        "# Page\n\n[there](#page) [elsewhere](https://example.com/) [no page](missing.md) [no heading](#nothing)\n"
        "[no name](#cifar10_zoo.errors.Nothing) ![no picture](no.png)\n"
        "`errors.ZooError` `errors.nothing()` `errors.py` `others.name`\n\n::: cifar10_zoo.errors\n"
    )
    result = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert result.returncode == 1
    warnings = [line.partition("WARNING")[2].strip(" -") for line in result.stderr.splitlines() if "WARNING" in line]
    assert sorted(warnings) == [
        "Doc file 'page.md' contains a link '#cifar10_zoo.errors.Nothing', but there is no such anchor on this page.",
        "Doc file 'page.md' contains a link '#nothing', but there is no such anchor on this page.",
        "Doc file 'page.md' contains a link 'missing.md', but the target is not found among documentation files.",
        "Doc file 'page.md' contains a link 'no.png', but the target is not found among documentation files.",
        "page.md: there is no errors.nothing in cifar10_runtime, cifar10_zoo, cifar10_export",
    ]
    page = (tmp_path / "site" / "page.html").read_text(encoding="utf-8")
    assert re.search('<a [^>]*href="#cifar10_zoo.errors.ZooError"><code>errors.ZooError</code></a>', page)


def owner_of(name: str) -> tuple[ModuleType, list[str]]:
    """Import the longest part of `name` that is a module of cifar10_zoo; return it and the rest of the name."""
    module, rest = cifar10_zoo, name.split(".")
    while rest and hasattr(module, "__path__") and find_spec(f"{module.__name__}.{rest[0]}"):
        module, *rest = import_module(f"{module.__name__}.{rest[0]}"), *rest[1:]
    assert module is not cifar10_zoo, name
    return module, rest


def test_every_name_in_the_tutorial_map_exists() -> None:
    text = (ROOT / "docs" / "tutorial-map.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]*) \| ([^|]*) \|", text, re.MULTILINE)
    names = {name for _, here in rows for name in re.findall(r"`([^`]+)`", here)}
    assert len(names) > 50
    for name in names:
        owner: object
        owner, attributes = owner_of(name)
        for attribute in attributes:
            assert hasattr(owner, attribute) or attribute in getattr(owner, "__annotations__", {}), name
            owner = getattr(owner, attribute, None)


def test_the_import_map_in_architecture_md_is_up_to_date() -> None:
    """Otherwise: `python docs/import_map.py`."""
    assert import_map.listing() in (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Every line of a page that calls a command."""
    starts = ("python -m cifar10_", "python export/", "torchrun", "cifar10-infer ", "cifar10-infer-ray ")
    lines = [line.strip() for page in PAGES for line in page.read_text(encoding="utf-8").splitlines()]
    return sorted({line for line in lines if line.startswith(starts)})


def test_every_function_that_architecture_md_names_exists() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    steps = re.findall(r"`([\w/]+\.py):([\w.]+)`", text)
    assert len(steps) > 25
    for path, name in steps:
        module = import_module(re.sub(r"^(export|runtime)/", "", path).removesuffix(".py").replace("/", "."))
        owner: object = module
        for part in name.split("."):
            owner = getattr(owner, part)
        assert inspect.getmodule(owner) is module, f"{path}:{name} is imported there"


@pytest.mark.parametrize("line", commands())
def test_every_command_is_accepted(line: str) -> None:
    """Its options exist, and their values are allowed."""
    words = shlex.split(line, comments=True)
    start = max((start for start in (*PARSERS, *OPTIONS) if words[: len(start.split())] == start.split()), key=len)
    arguments = words[len(start.split()) :]
    if start in PARSERS:
        PARSERS[start]().parse_args(arguments)
    else:
        cli.parse(OPTIONS[start], arguments)


@pytest.mark.parametrize("page", ["README.md", "docs/cifar10-infer.md", "docs/train.md", "docs/export.md"])
def test_the_code_of_a_page_runs(
    page: str, folder: Path, model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(model_file, tmp_path / "cifar10.onnx")
    monkeypatch.chdir(tmp_path)
    if page == "docs/cifar10-infer.md":
        result = infer(folder / "disc", "--model", "cifar10.onnx", "--features", "--output", "features.parquet")
        assert result.returncode == 0, result.stderr
    code = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert code
    paths = list((folder / "disc").iterdir())
    for block in code:
        names = {"paths": paths, "content": paths[0].read_bytes(), "batch": np.zeros((2, 32, 32, 3), np.uint8)}
        exec(block, names)
    if page == "docs/train.md":
        data = load(tmp_path / "fruit", "test")
        assert (data.name, data.classes[0], len(data.images)) == ("custom", "apple", 10_000)
        assert data.labels[:3].tolist() == [0, 1, 2]
    if page == "docs/export.md":
        assert Classifier("own.onnx").labels == ("cat", "dog")
