"""Plot loss, top-1 accuracy and learning rate of a run over the steps."""

import io
from pathlib import Path

from cifar10_runtime import atomic
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cifar10_zoo.tracking import history

FILE_NAME = "curves.png"


def draw(train_dir: Path, eval_dir: Path) -> None:
    """Draw ``eval_dir/curves.png`` from the losses in ``train_dir`` and the evaluations in ``eval_dir``.

    A file that would not change is not written.
    """
    figure = Figure(figsize=(8, 9), layout="constrained")
    top, middle, bottom = figure.subplots(3, sharex=True)
    losses = history.losses(train_dir)
    _curve(top, "total loss", [(row.step, row.total_loss) for row in losses], ".", markersize=2)
    accuracies = {"validation": [(row.step, row.accuracy) for row in history.validations(train_dir)]}
    for row in history.evaluations(eval_dir):
        accuracies.setdefault(row.eval_data, []).append((row.step, row.precision))
    for images, points in accuracies.items():
        if points:
            points.sort()
            _curve(middle, "top-1 accuracy", points, ".-", label=f"{images}: {points[-1][1]:.4f}")
    if middle.lines:
        middle.legend(loc="lower right")
    _curve(bottom, "learning rate", [(row.step, row.learning_rate) for row in losses], "-")
    bottom.set_xlabel("step")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    path = eval_dir / FILE_NAME
    if not path.exists() or path.read_bytes() != picture.getvalue():
        atomic.write_file(path, picture.getvalue())


def _curve(axes: Axes, title: str, points: list[tuple[int, float]], style: str, **options: object) -> None:
    axes.plot([x for x, _ in points], [y for _, y in points], style, **options)  # type: ignore[arg-type]
    axes.set_ylabel(title)
    axes.grid(visible=True, alpha=0.3)
