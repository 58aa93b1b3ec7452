"""cifar10-infer --sort-into: each file has one copy in the folder of its label, and no file is lost or replaced."""

import errno
import os
import shutil
import unicodedata
from collections import Counter
from collections.abc import Mapping
from itertools import chain, islice
from pathlib import Path

import pytest
from cifar10_runtime import Prediction, UsageError
from cifar10_runtime.cli.checks import check_options
from cifar10_runtime.cli.run import run as classify
from cifar10_runtime.cluster.parser import parse
from cifar10_runtime.images.find import find
from cifar10_runtime.options import InferOptions
from cifar10_runtime.results.names import UniqueNames, check_folder_names
from cifar10_runtime.results.sorter import Sorter
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.command_line import assert_fails_cleanly, infer, run
from tests.stress.interrupt_inference import mounted, resize, rows_of
from tests.stress.interrupt_sorting import interrupt_sorting, tree, write_images

FAILED = ""
"""The label of a file that could not be read, in these tests."""


def sort(folder: Path, labels: Mapping[str, str], stop: int | None = None, ahead: int = 0, **options: object) -> Sorter:
    """Sort the files that ``labels`` names by these labels.

    Args:
        folder: The folder to sort into.
        labels: The labels by path.
        stop: Stop as a killed run does, after this number of files.
        ahead: Number of paths that are read before the first file is sorted.
        options: More arguments of ``Sorter``.
    """
    sorter = Sorter(folder, **options)  # type: ignore[arg-type]
    with sorter:
        paths = sorter.watch(list(labels))
        for path in islice(chain(list(islice(paths, ahead)), paths), stop):
            label = labels[path]
            sorter.add(Prediction.failed(path, "damaged") if label == FAILED else Prediction(path, ((label, 1.0),)))
    return sorter


def write(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """Write files with these contents and return their paths."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return [str(folder / name) for name in files]


NAMES = st.text("aAßsé\u0301\udcff\n-23.", min_size=1, max_size=5).filter(lambda name: name not in (".", ".."))


@given(st.lists(NAMES))
def test_no_two_files_get_names_that_a_file_system_can_take_for_equal(names: list[str]) -> None:
    unique = UniqueNames()
    taken = [unique.take(name) for name in names]
    assert len({unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold()) for name in taken}) == len(
        names
    )
    for name, given_name in zip(names, taken, strict=True):
        stem, suffix = os.path.splitext(name)
        number = given_name[len(stem) : len(given_name) - len(suffix)]
        assert given_name == f"{stem}{number}{suffix}"
        assert number == "" or int(number.removeprefix("-")) >= 2


def test_equal_names_get_the_smallest_free_numbers() -> None:
    unique = UniqueNames()
    names = ["a.png", "a.png", "A.PNG", "a-2.png", "a-5.png", "a.png", "a.png", "a", "a.tar.gz", "a.tar.gz"]
    expected = [
        *("a.png", "a-2.png", "A-3.PNG", "a-2-2.png", "a-5.png", "a-4.png", "a-6.png"),
        *("a", "a.tar.gz", "a.tar-2.gz"),
    ]
    assert [unique.take(name) for name in names] == expected


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        pytest.param("x" * 251 + ".png", ".png", id="ASCII"),
        pytest.param("é" * 125 + "x.png", ".png", id="two bytes per character"),
        pytest.param("\udcff" * 251 + ".png", ".png", id="bytes that are not UTF-8"),
        pytest.param("x." + "y" * 253, "", id="suffix of 254 bytes"),
        pytest.param("✓" * 200 + ".png", ".png", id="longer than 255 bytes, as on Windows"),
    ],
)
def test_a_long_name_with_a_number_has_at_most_255_bytes(name: str, suffix: str) -> None:
    unique = UniqueNames()
    taken = [unique.take(name) for _ in range(12)]
    assert len(set(taken)) == 12
    for result in taken:
        assert len(os.fsencode(result)) <= 255
        assert result.endswith(suffix)
        assert name.startswith(result[:40])


FILES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.sampled_from(["x.png", "X.png", "x-2.png", "x-2-2.png"]),
        st.sampled_from(["cat", "dog", FAILED]),
        st.sampled_from([b"1", b"2"]),
    ),
    max_size=8,
)
OTHERS = st.dictionaries(
    st.sampled_from([f"{label}/{name}.png" for label in ("cat", "dog") for name in ("x", "x-2", "x-3")]),
    st.sampled_from([b"1", b"of the user"]),
)


@settings(max_examples=60)
@given(FILES, OTHERS, st.permutations([1, 2, 3]), st.integers(0, 8), st.integers(0, 8))
def test_shards_and_interrupted_runs_lose_and_replace_no_file(
    tmp_path_factory: pytest.TempPathFactory,
    files: list[tuple[str, str, str, bytes]],
    others: dict[str, bytes],
    order: list[int],
    stop: int,
    ahead: int,
) -> None:
    """Files of equal names and contents, into folders that have other files. The shards run in any order.

    An uninterrupted run reads some paths ahead, a resumed run reads none ahead for the rows of the interrupted one.
    """
    folder = tmp_path_factory.mktemp("sort")
    labels: dict[str, str] = {}
    expected: Counter[tuple[str, bytes]] = Counter()
    for number, (parent, name, label, content) in enumerate(files):
        (path,) = write(folder, {f"images/{number}{parent}/{name}": content})
        labels[path] = label
        expected[label or "_failed", content] += 1
    whole, resumed, parts = folder / "whole", folder / "resumed", folder / "parts"
    for target in (whole, resumed, parts):
        target.mkdir()
        write(target, others)

    sort(whole, labels, ahead=ahead)
    sort(resumed, labels, stop, ahead)
    sort(resumed, labels)
    for part in order:
        sort(parts, labels, stop, ahead, part=(part, 3))
        sort(parts, labels, part=(part, 3))

    assert tree(resumed) == tree(whole)
    for target in (whole, parts):
        found = tree(target)
        assert others.items() <= found.items()
        assert expected <= Counter((Path(name).parts[0], content) for name, content in found.items())
        assert len(found) <= len(files) + len(others)
    if not others:
        assert tree(whole) == tree(parts)


@pytest.mark.linux
def test_a_run_that_is_repeated_copies_nothing_twice(tmp_path: Path) -> None:
    """Equal files of equal names have a copy each; names have line breaks, bytes that are not UTF-8, 255 bytes."""
    names = ["line\nbreak.png", "\udcff.png", "x" * 251 + ".png", "no suffix"]
    paths = write(tmp_path / "images", {f"{folder}/{name}": b"same" for folder in "ab" for name in names})
    labels = dict.fromkeys(paths, "cat")
    assert "8 files copied" in sort(tmp_path / "out", labels).summary()
    before = tree(tmp_path / "out")
    assert len(before) == 8
    assert set(before.values()) == {b"same"}
    assert "0 files copied, 8 already there" in sort(tmp_path / "out", labels).summary()
    assert tree(tmp_path / "out") == before


@pytest.mark.posix
def test_a_folder_link_or_other_file_in_the_place_of_a_copy_is_left_alone(tmp_path: Path) -> None:
    paths = write(tmp_path / "images", dict.fromkeys(("a.png", "b.png", "c.png"), b"new"))
    (tmp_path / "out" / "cat" / "a.png").mkdir(parents=True)
    (tmp_path / "out" / "cat" / "b.png").symlink_to(paths[1])
    (tmp_path / "out" / "cat" / "c.png").symlink_to("nowhere")
    sort(tmp_path / "out", dict.fromkeys(paths, "cat"))
    assert tree(tmp_path / "out") == {f"cat/{name}-2.png": b"new" for name in "abc"} | {"cat/b.png": b"new"}
    assert (tmp_path / "out" / "cat" / "c.png").is_symlink()
    assert Path(paths[1]).read_bytes() == b"new"


def test_copies_keep_times_and_modes_and_the_content_of_large_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar10_runtime.images.read.MAX_IN_MEMORY", 1 << 16)
    (path,) = write(tmp_path, {"a.png": os.urandom(3_000_000)})
    os.utime(path, ns=(1_000_000_001, 2_000_000_002))
    os.chmod(path, 0o444)
    sort(tmp_path / "out", {path: "cat"})
    copy = tmp_path / "out" / "cat" / "a.png"
    assert copy.read_bytes() == Path(path).read_bytes()
    assert (copy.stat().st_mtime_ns, copy.stat().st_mode) == (2_000_000_002, Path(path).stat().st_mode)
    assert copy.stat().st_ino != Path(path).stat().st_ino


def test_metadata_that_cannot_be_copied_are_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr("shutil.copystat", refuse)
    (path,) = write(tmp_path, {"a.png": b"1"})
    assert sort(tmp_path / "out", {path: "cat"}).unsorted == 0
    assert tree(tmp_path / "out") == {"cat/a.png": b"1"}


@pytest.mark.posix
def test_links_share_the_file_and_a_symbolic_link_gives_the_file_that_it_points_to(tmp_path: Path) -> None:
    path = Path(*write(tmp_path, {"a.png": b"1"}))
    (tmp_path / "b.png").symlink_to("a.png")
    labels = {str(path): "cat", str(tmp_path / "b.png"): FAILED}
    assert "2 files linked" in sort(tmp_path / "out", labels, links=True).summary()
    for copy in ("cat/a.png", "_failed/b.png"):
        assert (tmp_path / "out" / copy).samefile(path)
        assert not (tmp_path / "out" / copy).is_symlink()
    assert "0 files linked, 2 already there" in sort(tmp_path / "out", labels, links=True).summary()


@pytest.mark.parametrize("links", [False, True], ids=["copies", "links"])
def test_a_file_system_without_hard_links_gets_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    paths = write(tmp_path / "images", {"a/x.png": b"1", "b/x.png": b"2"})
    write(tmp_path / "out", {"cat/x.png": b"of the user"})
    summary = sort(tmp_path / "out", dict.fromkeys(paths, "cat"), links=links).summary()
    reason = " because they cannot be linked (Operation not permitted)" if links else ""
    assert f"2 files copied{reason}" in summary
    assert tree(tmp_path / "out") == {"cat/x.png": b"of the user", "cat/x-2.png": b"1", "cat/x-3.png": b"2"}


@pytest.mark.posix
def test_files_that_cannot_be_copied_are_counted_and_the_others_are_sorted(tmp_path: Path) -> None:
    """A file vanished, a folder and a pipe have no content, and a file system refuses a name."""
    (good,) = write(tmp_path, {"a.png": b"1"})
    os.mkfifo(tmp_path / "pipe")
    labels = {str(tmp_path / "gone\n.png"): "cat", str(tmp_path): FAILED, str(tmp_path / "pipe"): FAILED, good: "cat"}
    sorter = sort(tmp_path / "out", labels)
    assert sorter.unsorted == 3
    assert sorter.summary().endswith(f"{tmp_path}/gone\\n.png: No such file or directory")
    assert tree(tmp_path / "out") == {"cat/a.png": b"1"}


def test_a_name_that_the_file_system_refuses_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As FAT does with some characters, and eCryptfs with more than 143 bytes."""

    def refuse(_: str, target: str) -> None:
        raise OSError(errno.EINVAL, "Invalid argument", target)

    monkeypatch.setattr("cifar10_runtime.results.copying.rename_without_replacing", refuse)
    (path,) = write(tmp_path, {"a:b.png": b"1"})
    sorter = sort(tmp_path / "out", {path: "cat"})
    assert sorter.unsorted == 1
    assert "Invalid argument" in sorter.summary()
    assert tree(tmp_path / "out") == {}


def test_only_one_process_sorts_a_shard_and_the_rests_of_a_killed_one_are_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, {".cifar10-infer": b"", ".cifar10-infer.tmp": b"half a fi", ".cifar10-infer-1-of-2.tmp": b"half"})
    with Sorter(out):
        with pytest.raises(UsageError, match="out is being written by another process"), Sorter(out):
            pass
        with Sorter(out, part=(1, 2)), Sorter(out, part=(2, 2)):
            pass
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    "label",
    [
        *("a/b", "a\\b", ".", "..", ".hidden", "_failed", "_FAILED", "CON", "nul.txt", "com1", "LPT¹"),
        *("a ", "a.", "a:b"),
        pytest.param("é" * 128, id="256 bytes"),
    ],
)
def test_a_label_that_cannot_be_a_folder_is_an_error(tmp_path: Path, label: str) -> None:
    """Before the work; and for labels in the rows of an earlier run, which may be those of another model."""
    with pytest.raises(UsageError, match="--labels"):
        check_folder_names(["cat", label])
    (path,) = write(tmp_path, {"a.png": b"1"})
    with pytest.raises(UsageError, match="--labels"):
        sort(tmp_path / "out", {path: label})
    assert tree(tmp_path / "out") == {}


def test_labels_that_differ_only_in_case_are_an_error_and_other_labels_are_not() -> None:
    with pytest.raises(UsageError, match="the label dog is also the name of the folder Dog: give other labels"):
        check_folder_names(["dog", "Dog"])
    check_folder_names(["cat", "cat", "great white shark, man-eater", "console", "com10", "été", "a.b", "failed"])


@pytest.mark.parametrize(
    ("options", "part"),
    [
        pytest.param({"sort_by": "link"}, "--sort-by link needs --sort-into", id="sort-by without sort-into"),
        pytest.param({"sort_into": ""}, "--sort-into", id="empty name"),
        pytest.param({"sort_into": "nowhere/out"}, "nowhere does not exist", id="missing parent"),
        pytest.param({"sort_into": __file__}, "is not a folder", id="file"),
    ],
)
def test_wrong_options_are_errors(options: Mapping[str, str], part: str) -> None:
    with pytest.raises(UsageError, match=part):
        check_options(InferOptions(paths=(".",), **options))  # type: ignore[arg-type]


def test_cifar10_infer_ray_refuses_to_sort() -> None:
    with pytest.raises(UsageError, match="--sort-into"):
        parse(["images/", "--output", "results", "--sort-into", "sorted"])


@pytest.mark.posix
def test_images_in_the_folder_are_left_out_however_its_path_is_written(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": b"", "out/cat/a.png": b"", "out/b.png": b"", "outer/c.png": b"", "z/d.png": b""})
    (tmp_path / "link").symlink_to("out")
    names = [str(tmp_path), f"{tmp_path}/link/cat", f"{tmp_path}/z/../out/b.png"]
    sorter = Sorter(tmp_path / "link")
    found = [os.path.relpath(path, tmp_path) for path in sorter.outside(find(names))]
    assert found == ["a.png", "outer/c.png", "z/d.png"]
    assert sorter.left_out() == f"4 images in --sort-into {tmp_path}/link left out"


MODEL = ("--model", "int8", "--device", "cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 200 files, 6 of them damaged."""
    folder = tmp_path_factory.mktemp("images") / "all"
    write_images(folder, 200)
    return folder


@pytest.fixture(scope="module")
def whole(images: Path) -> Path:
    """A folder into which one run sorted the images; its rows are in ``whole.csv`` beside it."""
    words = (*MODEL, "--output", images.parent / "whole.csv", "--sort-into", images.parent / "whole")
    result = infer(images, *words)
    assert result.returncode == 3, result.stderr
    assert "200 files copied" in result.stderr
    return images.parent / "whole"


def test_every_row_has_its_file_in_the_folder_of_its_label(whole: Path) -> None:
    rows = rows_of(whole.with_suffix(".csv").read_bytes(), ".csv")[1:]
    expected = Counter((row[1] or "_failed", Path(row[0]).read_bytes()) for row in rows)
    assert Counter((Path(name).parts[0], content) for name, content in tree(whole).items()) == expected
    assert {row[0] for row in rows if row[3]}, "with reasons"


def test_shards_into_one_folder_give_the_tree_of_an_unsharded_run(images: Path, whole: Path, tmp_path: Path) -> None:
    """Batches of another size and a list of paths change no name."""
    (tmp_path / "list").write_bytes(b"".join(os.fsencode(path) + b"\0" for path in find([str(images)])))
    words = (*MODEL, "--batch-size", 7, "--sort-into", tmp_path / "out")
    for paths in ((images, "--shard", "2/2"), ("--files-from", tmp_path / "list", "--shard", "1/2")):
        assert infer(*paths, *words).returncode == 3
    assert tree(tmp_path / "out") == tree(whole)


def test_resuming_a_complete_result_sorts_by_its_rows(images: Path, whole: Path, tmp_path: Path) -> None:
    words = (*MODEL, "--output", whole.with_suffix(".csv"), "--resume", "--sort-into", tmp_path, "--sort-by", "link")
    result = infer(images, *words)
    assert result.returncode == 3
    assert "whole.csv is complete: no image is left to classify" in result.stderr
    assert tree(tmp_path) == tree(whole)


def test_images_in_the_folder_are_no_input(images: Path, tmp_path: Path) -> None:
    shutil.copytree(images / "part 0", tmp_path / "sorted" / "user")
    (tmp_path / "new.png").write_bytes(next((images / "part 0").glob("*.png")).read_bytes())
    result = infer(tmp_path, *MODEL, "--output", "-", "--sort-into", tmp_path / "sorted")
    assert result.returncode == 0, result.stderr
    assert "images in --sort-into" in result.stderr
    assert len(rows_of(result.stdout.encode(), ".csv")) == 2
    with pytest.raises(UsageError, match=r"no images .*; 1 image in --sort-into .* left out"):
        classify(InferOptions(paths=(str(tmp_path / "new.png"),), sort_into=str(tmp_path)))


@pytest.mark.linux
def test_a_read_only_folder_is_an_error_before_the_work(images: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o555)
    words = (images, *MODEL, "--output", tmp_path / "rows.csv", "--sort-into", tmp_path / "out")
    result = run("-m", "cifar10_runtime", *words, obeys_modes=True)
    assert_fails_cleanly(result, 1, f"--sort-into {tmp_path / 'out'} cannot be written: Permission denied")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.linux
def test_a_full_disk_is_an_error_and_resume_completes_the_tree(images: Path, whole: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as can_be_full:
        if not can_be_full:
            pytest.skip("no file system can be mounted here")
        resize(tmp_path / "disk", "400k")
        words = (images, *MODEL, "--output", tmp_path / "rows.csv", "--sort-into", tmp_path / "disk" / "out")
        result = infer(*words)
        assert_fails_cleanly(result, 1, "error: --sort-into: ", "cannot be written: No space left on device")
        assert "--resume continues from there" in result.stderr
        assert 0 < len(tree(tmp_path / "disk" / "out").items() & tree(whole).items()) == len(tree(tmp_path / "disk"))
        resize(tmp_path / "disk", "1g")
        assert infer(*words, "--resume").returncode == 3
        assert tree(tmp_path / "disk" / "out") == tree(whole)
    assert (tmp_path / "rows.csv").read_bytes() == whole.with_suffix(".csv").read_bytes()


@pytest.mark.posix
def test_killed_and_resumed_runs_end_with_the_same_tree(images: Path, tmp_path: Path) -> None:
    interrupt_sorting(images, tmp_path, count=2)
