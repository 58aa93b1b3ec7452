"""The notebook docs/walkthrough.ipynb runs, and the checks of its exercises accept only correct answers."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.command_line import ROOT

NOTEBOOK = ROOT / "docs" / "walkthrough.ipynb"
CELLS: dict[str, dict[str, Any]] = {
    cell["id"]: cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
}

# Mistakes that a reader of the notebook can make, by exercise.
WRONG = {
    "1-1": ("views = 8 * 8 * 2", "views = 9 * 9"),
    "1-2": ("def my_contrast(pixels, factor):\n    return (pixels - pixels.mean()) * factor + pixels.mean()",),
    "2-1": (
        "def same_padding(size, kernel, stride):\n    return (kernel // 2, kernel // 2)",
        "def same_padding(size, kernel, stride):\n    return (1, 0) if stride == 2 else (2, 2)",
    ),
    "2-2": (
        "def my_lrn(x):\n    return x / (1 + 0.001 / 9 * x.square()) ** 0.75",
        "def my_lrn(x):\n    return F.local_response_norm(x[None, :, None], 9, alpha=0.001 / 9).flatten()",
    ),
    "3-1": ("weight_loss = 0.004 * 384 * 192 * 0.04**2 / 2", "weight_loss = 0.004 * 384 * 192 * (0.88 * 0.04) ** 2"),
    "3-2": ("first_step = 2 * 136_718", "first_step = int(2 * 50_000 / 64 * 350)", "first_step = 546_874 - 1"),
    "4-1": (
        "def my_averages(values):\n    return values",
        "def my_averages(values):\n    return [sum(values[: i + 1]) / (i + 1) for i in range(len(values))]",
    ),
    "4-2": ("share = 0.9999**10", "share = 0.9**10"),
    "5-1": ("def my_precisions(confusion):\n    return confusion.diagonal() / confusion.sum(dim=1)",),
    "5-2": ("printed_precision = 0.8621", "printed_precision = (8_621 + 112) / 10_000"),
}

NO_ANSWER = "no answer yet: replace the three dots; a function must return its result"


def source(name: str) -> str:
    """Return the text of the cell with the id `name`."""
    return "".join(CELLS[name]["source"])


def test_the_notebook_is_stored_without_outputs() -> None:
    """Otherwise: clear all outputs in the editor, and save it again."""
    code = [cell for cell in CELLS.values() if cell["cell_type"] == "code"]
    assert [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"] or cell["metadata"]] == []


def test_each_chapter_has_two_exercises_with_check_and_solution() -> None:
    exercises = [name.removeprefix("exercise-") for name in CELLS if re.fullmatch(r"exercise-\d-\d", name)]
    assert exercises == [f"{chapter}-{number}" for chapter in (1, 2, 3, 4, 5) for number in (1, 2)]
    for exercise in exercises:
        assert "..." in source(f"exercise-{exercise}")
        assert f"check-{exercise}" in CELLS
        assert source(f"solution-{exercise}").startswith('<details markdown="1"><summary>Solution of exercise')


def test_the_notebook_runs_and_its_checks_accept_only_correct_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On synthetic images, with a shorter training, without pictures: `make docs` runs the notebook as it is."""
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel: pip install 'cifar10-zoo[docs]'")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setenv("CIFAR10_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")  # drawing takes 40 % of the time
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert "STEPS = 150" in text
    notebook = nbformat.reads(text.replace("STEPS = 150", "STEPS = 15"), as_version=4)
    client = nbclient.NotebookClient(notebook, coalesce_streams=True, timeout=300)
    with client.setup_kernel():

        def printed_by(*cells: str) -> str:
            """Run cells that are not in the notebook; return what the last one prints, or the name of its error."""
            for cell in cells:
                extra = nbformat.v4.new_code_cell(cell, metadata={"tags": ["raises-exception"]})
                client.execute_cell(extra, 0)
            output = extra.outputs[-1]
            return str(output.get("text") or output.get("ename"))

        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
            if cell.id.startswith("check-"):
                exercise = cell.id.removeprefix("check-")
                assert set(cell.outputs[0].text.splitlines()) == {NO_ANSWER}, exercise
                (solution,) = re.findall(r"```python\n(.*?)```", source(f"solution-{exercise}"), re.DOTALL)
                assert set(printed_by(solution, cell.source).splitlines()) == {"correct"}, exercise
                for wrong in WRONG[exercise]:
                    assert printed_by(wrong, cell.source) == "AssertionError", wrong
