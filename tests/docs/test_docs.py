"""The documentation is true: what it names exists, its commands are accepted, its code runs."""

import re
import shlex
import shutil
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import build_site
import cifar10_export.command
import cifar10_runtime.cli.parser
import cifar10_runtime.cluster.parser
import numpy as np
import pytest
import release.pack
import tyro
from cifar10_runtime import Classifier

from cifar10_zoo import evaluate, from_tensorflow, image_folders, synthetic, train
from cifar10_zoo.data import cifar10 as dataset
from tests.helpers.command_line import ROOT, run

PAGES = [ROOT / page for page in build_site.PAGES]
OPTIONS = {
    f"python -m {module.__name__}": module.Options
    for module in (evaluate, from_tensorflow, image_folders, synthetic, train)
} | {
    "python -m cifar10_export": cifar10_export.command.Options,
    "python export/to_onnx.py": cifar10_export.command.Options,
    "python export/pack.py": release.pack.Options,
    "torchrun --nproc-per-node=2 -m cifar10_zoo.train": train.Options,
}
PARSERS = {
    "cifar10-infer": cifar10_runtime.cli.parser.parser,
    "cifar10-infer-ray": cifar10_runtime.cluster.parser.parser,
}


def test_every_page_has_its_place_in_the_menu() -> None:
    assert sorted(PAGES) == sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def test_the_site_builds_and_no_link_leads_nowhere(tmp_path: Path) -> None:
    result = run(ROOT / "docs" / "build_site.py", tmp_path / "site")
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "site" / "docs" / "tutorial-map.html").read_text(encoding="utf-8")
    assert '<a href="../api/cifar10_zoo/data/transforms.html#augment"><code>data.transforms.augment</code></a>' in page


def test_links_and_names_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    reference = tmp_path / "api" / "cifar10_zoo"
    reference.mkdir(parents=True)
    (reference / "train.html").write_text('<h1 id="Options">Options</h1>')
    page = tmp_path / "page.html"
    page.write_text(
        '<a href="api/cifar10_zoo/train.html#Options">there</a> <a href="https://example.com/">elsewhere</a>'
        '<a href="api/cifar10_zoo/train.html#Nothing">no name</a> <a href="#nothing">no heading</a> <img src="no.png">'
        "<code>train.Options</code> <code>train.nothing()</code> <code>train.py</code> <code>others.name</code>"
    )
    assert build_site.link_names(tmp_path) == ["page.html: there is no train.nothing()"]
    assert '<a href="api/cifar10_zoo/train.html#Options"><code>train.Options</code></a>' in page.read_text()
    assert build_site.broken_links(tmp_path) == [
        "page.html: #nothing is no heading or name",
        "page.html: api/cifar10_zoo/train.html#Nothing is no heading or name",
        "page.html: no.png is no file",
    ]


def is_package(name: str) -> bool:
    spec = find_spec(name)
    return spec is not None and spec.submodule_search_locations is not None


def test_everything_in_the_map_of_the_tutorial_is_there() -> None:
    text = (ROOT / "docs" / "tutorial-map.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]*) \| ([^|]*) \|", text, re.MULTILINE)
    names = {name for _, here in rows for name in re.findall(r"`([^`]+)`", here)}
    assert len(names) > 50
    for name in names:
        parts = name.split(".")
        depth = 2 if is_package(f"cifar10_zoo.{parts[0]}") else 1
        owner: object = import_module(f"cifar10_zoo.{'.'.join(parts[:depth])}")
        for part in parts[depth:]:
            assert hasattr(owner, part) or part in getattr(owner, "__annotations__", {}), name
            owner = getattr(owner, part, None)


def commands() -> list[str]:
    """Every line of a page that calls a command."""
    starts = ("python -m cifar10_", "python export/", "torchrun", "cifar10-infer ", "cifar10-infer-ray ")
    lines = [line.strip() for page in PAGES for line in page.read_text(encoding="utf-8").splitlines()]
    return sorted({line for line in lines if line.startswith(starts)})


@pytest.mark.parametrize("line", commands())
def test_every_command_is_accepted(line: str) -> None:
    """Its options exist, and their values are allowed."""
    words = shlex.split(line, comments=True)
    if words[0] in PARSERS:
        PARSERS[words[0]]().parse_args(words[1:])
        return
    start = next(start for start in OPTIONS if words[: len(start.split())] == start.split())
    tyro.cli(OPTIONS[start], args=words[len(start.split()) :])


@pytest.mark.parametrize("page", ["README.md", "docs/cifar10-infer.md", "docs/train.md", "docs/export.md"])
def test_the_code_of_a_page_runs(
    page: str, folder: Path, model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(model_file, tmp_path / "cifar10.onnx")
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert code
    paths = list((folder / "disc").iterdir())
    for block in code:
        names = {"paths": paths, "content": paths[0].read_bytes(), "batch": np.zeros((2, 32, 32, 3), np.uint8)}
        exec(block, names)
    if page == "docs/train.md":
        data = dataset.load(tmp_path / "fruit", "test")
        assert (data.name, data.classes[0], len(data.images)) == ("custom", "apple", 10_000)
        assert data.labels[:3].tolist() == [0, 1, 2]
    if page == "docs/export.md":
        assert Classifier("own.onnx").labels == ("cat", "dog")
