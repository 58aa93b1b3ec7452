"""--min-probability: images below it get the unknown label, in every format and also when a run is resumed."""

import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cifar10_runtime import Classifier, Prediction, TooManyFailures, UsageError
from cifar10_runtime.cli.parser import parser
from cifar10_runtime.cli.run import run
from cifar10_runtime.cluster.options import RayOptions
from cifar10_runtime.cluster.parser import parse
from cifar10_runtime.cluster.parts import Job
from cifar10_runtime.cluster.worker import PartitionWorker
from cifar10_runtime.engine.open import open_classifier
from cifar10_runtime.options import ClassifierOptions, InferOptions
from cifar10_runtime.results.resume import RowSettings
from cifar10_runtime.results.rows import Columns, Csv, JsonLines, Table
from cifar10_runtime.results.tally import Tally
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from cifar10_zoo.data.cifar10 import CLASSES
from tests.helpers.command_line import infer, kept_signal_handlers
from tests.runtime.test_infer import rows_of
from tests.runtime.test_report import Page

LABELS = CLASSES["synthetic"]


@pytest.fixture(autouse=True)
def same_signal_handlers() -> Iterator[None]:
    with kept_signal_handlers():
        yield


@pytest.fixture(scope="module")
def plain(folder: Path, model_file: Path) -> list[Prediction]:
    """The predictions for the images of ``folder`` without a threshold, with two labels."""
    with Classifier(model_file) as classifier:
        return list(classifier.classify(sorted(folder.rglob("*.png")), top_k=2))


@pytest.fixture(scope="module")
def threshold(plain: list[Prediction]) -> float:
    """A probability that a third of the images do not reach."""
    return sorted(prediction.probability for prediction in plain)[len(plain) // 3]


@pytest.fixture(scope="module")
def options(folder: Path, model_file: Path, threshold: float) -> InferOptions:
    return InferOptions(paths=(str(folder),), model=str(model_file), min_probability=threshold, top_k=2)


def expected_rows(plain: list[Prediction], threshold: float, unknown_label: str = "unknown") -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for prediction in plain:
        (label, probability), (label_2, probability_2) = prediction.ranking
        row: dict[str, object] = {"path": prediction.path}
        row["label"] = label if probability >= threshold else unknown_label
        row |= {"probability": round(probability, 6), "error": None, "label_1": label}
        rows.append(row | {"label_2": label_2, "probability_2": round(probability_2, 6)})
    return rows


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_rows_below_the_threshold_have_the_unknown_label_and_keep_their_ranking(
    plain: list[Prediction], options: InferOptions, threshold: float, suffix: str, tmp_path: Path
) -> None:
    output = tmp_path / f"out.{suffix}"
    run(replace(options, output=str(output), unknown_label="no idea"))
    expected = expected_rows(plain, threshold, "no idea")
    assert 50 < sum(row["label"] == "no idea" for row in expected) < 150
    match suffix:
        case "csv":
            texts = [{name: "" if value is None else str(value) for name, value in row.items()} for row in expected]
            assert rows_of(output) == texts
        case "jsonl":
            assert [json.loads(line) for line in output.read_text("utf-8").splitlines()] == expected
        case _:
            assert parquet.read_table(output).to_pylist() == expected


def test_the_command_line_prints_unknown_labels_and_counts_them(folder: Path, model_file: Path) -> None:
    result = infer(folder / "disc", "--model", model_file, "--min-probability", 1, "--unknown-label", "huh")
    assert result.returncode == 0, result.stderr
    images = len(list((folder / "disc").iterdir()))
    assert all(line.startswith("huh (") for line in result.stdout.splitlines())
    assert f"{images} images, 0 failed, {images} unknown, " in result.stderr
    assert "accuracy undefined (0 of 0 answered images in folders named after classes)" in result.stderr
    assert f"), answered 0.0000 (0 of {images})" in result.stderr


def test_summary_and_report_count_the_same_unknown_images(
    plain: list[Prediction], options: InferOptions, threshold: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when --resume reads them from the rows of a complete result."""
    answered = [prediction for prediction in plain if prediction.probability >= threshold]
    correct = sum(prediction.label == prediction.folder for prediction in answered)
    top1_correct = sum(prediction.label == prediction.folder for prediction in plain)
    unknown = len(plain) - len(answered)
    output, report = str(tmp_path / "out.csv"), tmp_path / "report.html"
    for resume in (False, True):
        run(replace(options, output=output, report=report, resume=resume))
        error = capsys.readouterr().err
        assert f"{len(plain)} images, 0 failed, {unknown} unknown, " in error
        assert (
            f"accuracy {correct / len(answered):.4f} ({correct} of {len(answered)} answered images in folders named "
            f"after classes), answered {len(answered) / len(plain):.4f} ({len(answered)} of {len(plain)})"
        ) in error
        page = Page(report.read_text("utf-8"))
        report.unlink()
        facts = dict(zip(page.inside("dt"), page.inside("dd"), strict=True))
        assert facts["Accuracy"] == f"{correct / len(answered):.2%}"
        assert facts["Unknown"] == f"{unknown} images"
        assert facts["Minimum probability"] == f"{threshold:g}"
        assert f"{len(answered) / len(plain):.2%} of {len(plain)} were answered" in " ".join(page.inside("dd", "small"))
        cells = page.values("title", "td")
        assert sum(int(cell.split()[4]) for cell in cells if "taken for unknown" in cell) == unknown
        assert f"{top1_correct / len(plain):.2%}" in page.inside("tr", "td"), "the accuracy without a threshold"


def test_shards_have_the_rows_of_the_whole(options: InferOptions, tmp_path: Path) -> None:
    names = [str(tmp_path / f"{number}.jsonl") for number in range(3)]
    for number, name in enumerate(names):
        run(replace(options, output=name, shard=(number, 2) if number else None))
    whole, *parts = [Path(name).read_bytes() for name in names]
    assert b"".join(parts) == whole


def test_an_interrupted_run_resumes_to_the_same_bytes_only_with_the_same_threshold(
    plain: list[Prediction], options: InferOptions, threshold: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged image with --strict interrupts the run; then the image is repaired."""
    paths = [tmp_path / f"{number:03d}.png" for number in range(100)]
    for path, prediction in zip(paths, plain, strict=False):
        shutil.copy(prediction.path, path)
    content = paths[70].read_bytes()
    paths[70].write_bytes(b"damaged")
    output = tmp_path / "out.csv"
    options = replace(options, paths=(str(tmp_path),), output=str(output))
    with pytest.raises(TooManyFailures):
        run(replace(options, strict=True))
    paths[70].write_bytes(content)
    assert not output.exists()
    with pytest.raises(UsageError, match="a run with another model or other options left"):
        run(replace(options, min_probability=threshold / 2, resume=True))
    capsys.readouterr()
    run(replace(options, resume=True))
    expected = expected_rows(plain[:100], threshold)
    assert [row["label"] for row in rows_of(output)] == [row["label"] for row in expected]
    unknown = sum(row["label"] == "unknown" for row in expected)
    assert f"100 images, 0 failed, {unknown} unknown, " in capsys.readouterr().err
    resumed = output.read_bytes()
    run(replace(options, overwrite=True))
    assert output.read_bytes() == resumed


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_complete_result_without_label_1_is_not_read_as_one_with_it(
    options: InferOptions, suffix: str, tmp_path: Path
) -> None:
    output = str(tmp_path / f"out.{suffix}")
    run(replace(options, output=output, min_probability=None, shard=(1, 10)))
    with pytest.raises(UsageError, match="--overwrite"):
        run(replace(options, output=output, resume=True, shard=(1, 10)))


def test_a_complete_result_of_another_threshold_is_refused(options: InferOptions, tmp_path: Path) -> None:
    options = replace(options, output=str(tmp_path / "out.csv"), shard=(1, 10))
    run(options)
    run(replace(options, resume=True))
    with pytest.raises(UsageError, match="has rows of another --min-probability or --unknown-label"):
        run(replace(options, resume=True, min_probability=1))


@pytest.mark.parametrize(
    ("probability", "label", "agrees"),
    [
        pytest.param(0.79, "unknown", True, id="below"),
        pytest.param(0.79, "cat", False, id="below, with a class"),
        pytest.param(0.81, "cat", True, id="above"),
        pytest.param(0.81, "unknown", False, id="above, unknown"),
        pytest.param(0.8, "unknown", True, id="rounded up to the threshold"),
        pytest.param(0.8, "cat", True, id="the threshold itself"),
        pytest.param(0.79, "other", False, id="another label"),
    ],
)
def test_a_row_agrees_with_a_threshold_up_to_rounding(probability: float, label: str, agrees: bool) -> None:
    rule = RowSettings("0" * 64, ("cat",), "cpu", False, 32, "white", 1 << 26, 1, (0.8, "unknown"))
    unknown_label = "" if label == "cat" else label
    assert rule.agrees_with(Prediction("a.png", (("cat", probability),), unknown_label=unknown_label)) == agrees


def test_a_worker_of_ray_writes_the_rows_of_cifar10_infer_and_counts_unknown_images(
    plain: list[Prediction], options: InferOptions, threshold: float, tmp_path: Path
) -> None:
    ray_options = RayOptions(
        paths=options.paths, output=str(tmp_path), model=options.model, top_k=2, min_probability=threshold
    )
    worker = PartitionWorker(ray_options, None, 1, str(tmp_path))
    partition = {"kind": "files", "paths": [prediction.path for prediction in plain]}
    answer = worker({"number": [0], "partition": [json.dumps(partition)]})
    assert answer["error"] == [""]
    expected = expected_rows(plain, threshold)
    assert parquet.read_table(tmp_path / "part-000000.parquet").to_pylist() == expected
    tally = Tally(LABELS, has_unknown=True)
    tally.add_counts(json.loads(answer["counts"][0]))
    assert tally.summary() == f"300 images, 0 failed, {sum(row['label'] == 'unknown' for row in expected)} unknown"


def test_both_commands_have_the_options() -> None:
    words = ["images/", "--min-probability", "0.9", "--unknown-label", "other", "--output", "out"]
    for found in (parser().parse_args(words), parse(words)):
        assert (found.min_probability, found.unknown_label) == (0.9, "other")


def test_runs_without_a_threshold_continue_what_earlier_versions_began() -> None:
    """The literal ids come from the code before --min-probability existed."""
    settings_ = RowSettings("0" * 64, ("cat", "dog"), "cpu", False, 32, "white", 1 << 26, 1)
    assert settings_.run_id == "d37f301b"
    job = Job(
        model_sha256="0" * 64,
        labels=["cat", "dog"],
        background="white",
        max_pixels=1 << 26,
        top_k=1,
        column="image",
        partitions=2,
        partitions_sha256="1" * 64,
    )
    assert job.digest == "f1ae6b874d27c29a"
    rules = [(0.5, "unknown"), (0.6, "unknown"), (0.5, "other")]
    assert len({settings_.run_id, *(replace(settings_, unknown_rule=rule).run_id for rule in rules)}) == 4
    assert len({job.digest, *(replace(job, unknown_rule=rule).digest for rule in rules)}) == 4
    assert replace(settings_, features=True).run_id != settings_.run_id
    assert replace(job, features=True).digest != job.digest


@pytest.mark.parametrize("probability", [0.0, -0.1, 1.5, float("nan")])
def test_a_threshold_outside_0_to_1_is_refused(probability: float, model_file: Path) -> None:
    with pytest.raises(UsageError, match=r"--min-probability: .* must be a number above 0 and at most 1"):
        parser().parse_args(["images/", "--min-probability", str(probability)])
    with pytest.raises(UsageError, match="min_probability must be above 0 and at most 1"):
        Classifier(model_file, min_probability=probability)


def test_a_threshold_that_is_no_number_is_refused() -> None:
    with pytest.raises(UsageError, match="--min-probability: high: it must be a number"):
        parser().parse_args(["images/", "--min-probability", "high"])


@pytest.mark.parametrize(
    ("label", "message"),
    [
        pytest.param("disc", "--unknown-label.*: disc is a class of .*: choose another name", id="a class"),
        pytest.param(" ", "--unknown-label.* must be a printable name", id="blank"),
        pytest.param("a\nb", "--unknown-label.* must be a printable name", id="line break"),
    ],
)
def test_an_unknown_label_that_is_a_class_or_no_name_is_refused(label: str, message: str, model_file: Path) -> None:
    with pytest.raises(UsageError, match=message):
        open_classifier(ClassifierOptions(model=str(model_file), min_probability=0.5, unknown_label=label))


def test_an_unknown_label_needs_a_threshold(model_file: Path) -> None:
    with pytest.raises(UsageError, match="--unknown-label other needs --min-probability"):
        open_classifier(ClassifierOptions(model=str(model_file), unknown_label="other"))


@st.composite
def predictions(draw: st.DrawFn) -> Prediction:
    """A failure, or a prediction with two labels whose probabilities have six digits; maybe an unknown image."""
    path = draw(st.text(st.characters(codec="utf-8"), min_size=1))
    if draw(st.integers(0, 4)) == 0:
        return Prediction(path, (), "no image")
    labels = draw(st.permutations(("cat", "dog", "1,5")))
    values = [draw(st.integers(0, 10**6)) / 10**6 for _ in range(2)]
    ranking = tuple(zip(labels[:2], values, strict=True))
    return Prediction(path, ranking, unknown_label=draw(st.sampled_from(("", "unknown"))))


@settings(max_examples=100)
@given(st.lists(predictions(), max_size=5))
def test_a_row_that_is_read_again_gives_the_same_prediction(given_predictions: list[Prediction]) -> None:
    for row_format in (Csv(Columns(2, has_unknown=True)), JsonLines(Columns(2, has_unknown=True))):
        content = b"".join(map(row_format.row, given_predictions))
        assert [row.prediction for row in row_format.read(io.BytesIO(content))] == given_predictions


def test_a_table_for_people_shows_the_most_probable_class_of_an_unknown_image() -> None:
    ranking = (("cat", 0.4), ("dog", 0.3))
    table = Table(Columns(2, has_unknown=True))
    assert table.row(Prediction("a.png", ranking)) == b"cat          40.00%  dog          30.00%  a.png\n"
    unknown = Prediction("a.png", ranking, unknown_label="unknown")
    assert table.row(unknown) == b"unknown (cat) 40.00%  dog          30.00%  a.png\n"


def test_unknown_images_count_neither_as_right_nor_as_wrong() -> None:
    """Two of three answered images are right; one image of five in class folders failed and does not count."""
    tally = Tally(("cat", "dog"), has_unknown=True)
    for path, label in (("cat/1", "cat"), ("cat/2", "cat"), ("dog/3", "cat"), ("else/4", "cat")):
        tally.add(Prediction(path, ((label, 0.9),)))
    tally.add(Prediction("dog/5", (("dog", 0.2),), unknown_label="unknown"))
    tally.add(Prediction("else/6", (("dog", 0.2),), unknown_label="unknown"))
    tally.add(Prediction.failed("dog/7", "truncated"))
    assert tally.summary() == "7 images, 1 failed, 2 unknown"
    assert tally.class_folders() == [
        "accuracy 0.6667 (2 of 3 answered images in folders named after classes), answered 0.7500 (3 of 4)"
    ]
    total = Tally(("cat", "dog"), has_unknown=True)
    total.add_counts(tally.counts())
    total.add_counts(tally.counts())
    assert total.summary() == "14 images, 2 failed, 4 unknown"
