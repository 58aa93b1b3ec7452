"""cifar10-infer-ray: the rows of images in folders, tar shards and Parquet files, also when workers are killed."""

import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import ray.data
import torch
from cifar10_runtime import Prediction, UsageError
from cifar10_runtime.cluster import sources
from cifar10_runtime.engine.models import find_model
from PIL import Image
from pyarrow import parquet
from pyarrow.dataset import dataset

from cifar10_zoo.data.cifar10 import CLASSES
from tests.helpers.command_line import assert_fails_cleanly, infer, run, run_here
from tests.stress import ray_sources

PARTITION = 20


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A cluster to which the commands connect, because its start takes seconds."""
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
        yield
    ray.shutdown()


@pytest.fixture
def new_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command start its own cluster, as it does by default."""
    monkeypatch.delenv("RAY_ADDRESS")


def on_ray(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return run(ray_sources.INFER_ON_RAY, *words, cwd=cwd)


def assert_refused(words: Sequence[object], cwd: Path, status: int, *parts: str) -> None:
    """Assert that the command fails cleanly before it connects to Ray: this process is connected already."""
    assert_fails_cleanly(run_here("cifar10_runtime.cluster.main", *words, cwd=cwd), status, *parts)


def paths_of(folder: Path) -> list[str]:
    return [path for part in sorted(folder.glob("part-*")) for path in parquet.read_table(part)["path"].to_pylist()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images/, tar/ and parquet/ with the same 100 images, one of them corrupt; cli.parquet has their rows."""
    place = tmp_path_factory.mktemp("ray")
    files = ray_sources.write_images(place / "images", 100)
    ray_sources.write_tars(place / "tar", files, PARTITION)
    ray_sources.write_parquet(place / "parquet", files, PARTITION)
    assert infer("images", "--output", "cli.parquet", cwd=place).returncode == 3
    return place


def test_every_source_gives_the_rows_of_cifar10_infer_also_when_resumed(place: Path) -> None:
    expected = ray_sources.rows_of(place / "cli.parquet")
    words = ("images", place.as_uri() + "/images", "tar", "parquet/*.parquet", "--partition-size", PARTITION)
    result = on_ray(*words, "--output", "out", cwd=place)
    assert result.returncode == 3, result.stderr
    assert "400 images, 4 failed" in result.stderr
    assert ray_sources.rows_of(place / "out") == 4 * expected

    paths = paths_of(place / "out")
    assert paths[:100] == parquet.read_table(place / "cli.parquet")["path"].to_pylist()
    assert paths[100] == (place / paths[0]).as_uri()
    assert paths[200:202] == ["tar/shard-000000.tar/000000.png", "tar/shard-000000.tar/000001.png"]
    assert paths[-1] == "parquet/000004.parquet/19"

    before = {path.name: path.read_bytes() for path in (place / "out").glob("part-*")}
    assert len(before) == 20
    (place / "out" / "part-000007.parquet").unlink()
    (place / "out" / "part-000011.parquet").write_bytes(b"")
    assert_refused((*words, "--output", "out"), place, 2, "--output out", "--resume")
    result = on_ray(*words, "--output", "out", "--resume", cwd=place)
    assert result.returncode == 3, "the failures of all partitions count"
    assert "400 images, 4 failed" in result.stderr
    assert "18 of 20 partitions were already done" in result.stderr
    assert {path.name: path.read_bytes() for path in (place / "out").glob("part-*")} == before
    assert_refused((*words, "--output", "out", "--resume", "--top-k", 2), place, 2, "--output out", "other options")


@pytest.mark.usefixtures("new_cluster")
def test_no_row_is_lost_when_a_worker_is_killed(place: Path, tmp_path: Path) -> None:
    """One worker is killed as soon as the first of twenty parts exists."""
    files = sorted((place / "images").rglob("*.png"))
    for number in range(20):
        for path in files:
            copy = tmp_path / "images" / f"{number:02d}" / path.relative_to(place / "images")
            copy.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, copy)
    ray_sources.classify_and_kill(str(tmp_path / "images"), tmp_path / "out", 100)
    assert ray_sources.rows_of(tmp_path / "out") == 20 * ray_sources.rows_of(place / "cli.parquet")
    assert_is_parquet_folder(tmp_path / "out", parts=20)


def assert_is_parquet_folder(folder: Path, parts: int) -> None:
    """Assert that a folder has only parts and, for its job, one empty file: readers of folders pass over such files."""
    others = {path for path in folder.iterdir() if path.suffix != ".parquet"}
    assert {path.name for path in set(folder.iterdir()) - others} == {f"part-{n:06d}.parquet" for n in range(parts)}
    (claim,) = others
    assert claim.name.startswith("_job-")
    assert claim.read_bytes() == b""


def read_by_path(reader: str, folder: Path) -> list[dict[str, Any]]:
    """Read the rows of a folder of Parquet files with another program, which gets only the path of the folder."""
    match reader:
        case "pyarrow":
            return list(dataset(folder, format="parquet").to_table().to_pylist())
        case "pandas":
            pandas = pytest.importorskip("pandas")
            return list(pandas.read_parquet(folder).to_dict("records"))
        case "polars":
            polars = pytest.importorskip("polars")
            return list(polars.read_parquet(folder).to_dicts())
        case "duckdb":
            duckdb = pytest.importorskip("duckdb")
            return list(duckdb.read_parquet(str(folder)).to_arrow_table().to_pylist())
        case _:
            return list(ray.data.read_parquet(str(folder)).take_all())


@pytest.fixture(scope="module")
def finished(place: Path) -> Path:
    """A finished folder of results, with five parts."""
    result = on_ray("images", "--output", "finished", "--partition-size", PARTITION, cwd=place)
    assert result.returncode == 3, result.stderr
    return place / "finished"


@pytest.mark.parametrize("reader", ["pyarrow", "pandas", "polars", "duckdb", "ray"])
def test_a_finished_folder_opens_by_its_path_alone(finished: Path, reader: str) -> None:
    expected = parquet.read_table(finished.parent / "cli.parquet").to_pylist()
    rows = read_by_path(reader, finished)
    assert sorted(row["path"] for row in rows) == [row["path"] for row in expected]
    labels = {row["path"]: row["label"] for row in expected if row["label"]}
    assert {row["path"]: row["label"] for row in rows if isinstance(row["label"], str)} == labels


def test_a_folder_of_an_earlier_version_resumes_and_becomes_a_parquet_folder(finished: Path, tmp_path: Path) -> None:
    """Earlier versions described the job in job.json; a killed worker left a temporary file."""
    before = {path.name: path.read_bytes() for path in finished.glob("part-*")}
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    next(out.glob("_job-*")).unlink()
    files = parquet.read_table(finished.parent / "cli.parquet")["path"].to_pylist()
    partitions = [{"kind": "files", "paths": files[start : start + PARTITION]} for start in range(0, 100, PARTITION)]
    job = {
        "model_sha256": find_model("fp32", "winograd")[1],
        "labels": list(CLASSES["cifar10"]),
        "background": "white",
        "max_pixels": 67_108_864,
        "top_k": 1,
        "column": "image",
        "partitions": 5,
        "partitions_sha256": hashlib.sha256(json.dumps(partitions).encode()).hexdigest(),
    }
    (out / "job.json").write_text(json.dumps(job, indent=2))
    (out / "part-000003.parquet").unlink()
    (out / ".part-000003.parquet.4711.tmp").write_bytes(b"PAR1")
    words = ("images", "--output", out, "--partition-size", PARTITION)
    assert_refused(words, finished.parent, 2, f"--output {out}", "--resume")
    assert_refused((*words, "--top-k", 2, "--resume"), finished.parent, 2, f"--output {out}", "other options")
    result = on_ray(*words, "--resume", cwd=finished.parent)
    assert result.returncode == 3, result.stderr
    assert "4 of 5 partitions were already done" in result.stderr
    assert {path.name: path.read_bytes() for path in out.glob("part-*")} == before
    assert_is_parquet_folder(out, parts=5)


def test_a_job_json_of_another_program_is_not_a_folder_of_results(finished: Path, tmp_path: Path) -> None:
    for content in ("{}", "[1]", "no JSON", '{"job": 1}'):
        (tmp_path / "job.json").write_text(content)
        words = ("images", "--output", tmp_path, "--resume")
        assert_refused(words, finished.parent, 2, f"--output {tmp_path} is not empty: name a new folder")


ROWS = "000000.parquet"
"""A Parquet file in the working directory of the next test."""


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        pytest.param(["absent", "--output", "out"], 2, ["absent does not exist"], id="missing path"),
        pytest.param(["file:///absent", "--output", "out"], 2, ["file:///absent does not exist"], id="missing URL"),
        pytest.param(
            ["no://bucket", "--output", "out"],
            2,
            ["no://bucket cannot be listed: Protocol not known"],
            id="unknown protocol",
        ),
        pytest.param([ROWS, "--output", "full"], 2, ["--output full is not empty"], id="output not empty"),
        pytest.param([ROWS, "--output", "out", "--column", "img"], 2, ["column img", "id, image"], id="unknown column"),
        pytest.param([ROWS, "--output", "out", "--top-k", "11"], 2, ["--top-k"], id="more labels than classes"),
        pytest.param([ROWS, "--output", "out", "--model", "x"], 1, ["model x"], id="unknown model"),
        pytest.param([ROWS], 2, ["--output"], id="no output"),
        pytest.param([ROWS, "--output", ""], 2, ["--output"], id="empty output"),
        pytest.param([ROWS, "--output", "out", "--device", "cuda:1"], 2, ["--device cuda:1"], id="number of a GPU"),
        pytest.param([ROWS, "--output", "out", "--device", "nonsense"], 2, ["device nonsense"], id="unknown device"),
        pytest.param(
            [ROWS, "--output", "out", "--address", "nonsense"], 2, ["--address", "nonsense"], id="malformed address"
        ),
        pytest.param(
            [ROWS, "--output", "out", "--address", "127.0.0.1:1"], 2, ["--address 127.0.0.1:1"], id="silent address"
        ),
    ],
)
def test_wrong_use_is_an_error_before_ray_starts(
    place: Path, tmp_path: Path, words: list[str], status: int, message: list[str]
) -> None:
    shutil.copy(place / "parquet" / ROWS, tmp_path)
    shutil.copytree(place / "parquet", tmp_path / "full")
    assert_refused(words, tmp_path, status, *message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("package", ["ray", "fsspec", "pyarrow"])
def test_a_missing_package_is_named_with_the_extra_that_installs_it(place: Path, package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from cifar10_runtime.cluster.main import main; main()"
    words: list[str | Path] = [sys.executable, "-c", code, place / "images", "--output", place / "none"]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert_fails_cleanly(result, 2, "is not installed", "cifar10-zoo[ray]")


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def read(path: Path, column: str = "image") -> list[sources.Content]:
    (partition,) = sources.partitions([str(path)], 10, "/out")
    return list(sources.contents(partition, column))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_cluster_without_gpus_is_an_error_and_the_output_folder_stays_empty(place: Path, tmp_path: Path) -> None:
    words = (place / "images", "--output", tmp_path / "out")
    assert_fails_cleanly(on_ray(*words, "--device", "cuda"), 1, "--device cuda", "no GPU")
    assert list((tmp_path / "out").iterdir()) == []


def test_resume_continues_a_job_that_a_signal_stopped(place: Path, tmp_path: Path) -> None:
    """The signal comes once the first part exists; the results are at a URL below the images."""
    for number in range(25):
        for path in (place / "images").rglob("*.png"):
            copy = tmp_path / f"{number:02d}" / path.relative_to(place / "images")
            copy.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, copy)
    words = [tmp_path, "--output", (tmp_path / "out").as_uri(), "--partition-size", 100]
    with subprocess.Popen([ray_sources.INFER_ON_RAY, *map(str, words)], stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.glob("out/part-*")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in errors
    assert "***" not in errors, "Ray's own handler would print all threads"
    there = len(list(tmp_path.glob("out/part-*")))
    assert there < 25
    result = on_ray(*words, "--resume")
    assert result.returncode == 3, result.stderr
    assert "2500 images, 25 failed" in result.stderr
    assert f"({there} of 25 partitions were already done)" in result.stderr
    assert ray_sources.rows_of(tmp_path / "out") == 25 * ray_sources.rows_of(place / "cli.parquet")


@pytest.mark.parametrize(
    "damage",
    ["damaged header", "zeroed header", "cut off in a member", "cut off between members", "two archives", "not a tar"],
)
def test_a_damaged_tar_file_gives_its_readable_members_and_an_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(3):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = 700
            tar.addfile(member, io.BytesIO(png().ljust(700, b"\0")))
    content = bytearray(path.read_bytes())
    member_size = 512 + 1024
    match damage:
        case "damaged header":
            content[member_size + 3] ^= 0x55
        case "zeroed header":
            content[member_size : member_size + 512] = bytes(512)
        case "cut off in a member":
            del content[member_size + 600 :]
        case "cut off between members":
            del content[member_size:]
        case "two archives":
            content *= 2
        case _:
            content[:] = b"no tar" * 1000
    path.write_bytes(content)
    found = read(path)
    assert len(found) == {"not a tar": 1, "two archives": 4}.get(damage, 2)
    *images, failure = found
    assert isinstance(failure, Prediction)
    assert failure.path == str(path)
    assert failure.error
    assert all(isinstance(image, tuple) and isinstance(image[1], bytes) for image in images)


def test_tar_members_that_are_not_images_are_skipped_and_links_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in ("a/", "a/1.cls", "a/1.PNG", "a/._1.png", "link.png"):
            member = tarfile.TarInfo(name.rstrip("/"))
            member.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            if name == "link.png":
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            member.size = len(png()) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(png()) if member.isreg() else None)
    image, failure = read(path)
    assert image == (f"{path}/a/1.PNG", png())
    assert failure == Prediction(f"{path}/link.png", (), "not a regular file")


def test_a_wrong_gzip_checksum_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.tgz"
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo("1.png")
        member.size = len(png())
        tar.addfile(member, io.BytesIO(png()))
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    image, failure = read(path)
    assert image == (f"{path}/1.png", png())
    assert isinstance(failure, Prediction)
    assert "CRC check failed" in failure.error


def test_a_named_pipe_is_an_error_and_does_not_block(tmp_path: Path) -> None:
    for name in ("a.tar", "a.parquet"):
        os.mkfifo(tmp_path / name)
        assert read(tmp_path / name) == [Prediction(str(tmp_path / name), (), "not a regular file")]


@pytest.mark.parametrize("folder", ["d::e", "we[ird]", ".hidden"], ids=["colons", "brackets", "hidden"])
def test_special_characters_in_names_are_taken_literally(tmp_path: Path, folder: str) -> None:
    """In fsspec, "::" chains file systems, and brackets are patterns."""
    (tmp_path / folder).mkdir()
    with tarfile.open(tmp_path / folder / "a.tar", "w"):
        pass
    assert read(tmp_path / folder / "a.tar") == []
    (tmp_path / folder / "q[x].png").write_bytes(png())
    (tmp_path / folder / "r.png").write_bytes(png())
    url = f"file://{tmp_path}/{folder}"
    if "::" not in url:
        _, images = sources.partitions([url], 10, "/out")
        assert list(sources.contents(images, "")) == [(f"{url}/{name}.png", png()) for name in ("q[x]", "r")]
    if folder == ".hidden":
        assert list(sources.partitions([f"{url}/*.png"], 10, "/out")) == [images]


def test_parts_of_the_output_folder_are_not_input(tmp_path: Path) -> None:
    for name in ("a.png", "out/part-000000.parquet", "out/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for path in (str(tmp_path), tmp_path.as_uri()):
        (found,) = sources.partitions([path], 10, str(tmp_path / "out"))
        assert found.paths == (f"{path}/a.png", f"{path}/out/b.png")


def test_a_damaged_parquet_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1" + bytes(100))
    (failure,) = read(path)
    assert isinstance(failure, Prediction)
    assert failure.path == str(path)
    assert failure.error


def test_a_url_prefix_gives_the_files_that_a_folder_gives(tmp_path: Path) -> None:
    for name in ("b.png", "a/c.JPG", ".hidden.png", ".hidden/d.png", "a/e.txt", "f.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    url = tmp_path.as_uri()
    found = list(sources.partitions([url], 10, "/out"))
    assert [(part.kind, part.paths) for part in found] == [
        ("urls", (f"{url}/a/c.JPG", f"{url}/b.png")),
        ("tar", (f"{url}/f.tar",)),
    ]
    assert list(sources.partitions([f"{url}/*.png"], 10, "/out")) == [sources.Partition("urls", (f"{url}/b.png",))]
    with pytest.raises(UsageError, match=r"x does not exist"):
        list(sources.partitions([f"{url}/x"], 10, "/out"))


@pytest.fixture(scope="module")
def s3(place: Path) -> Iterator[Any]:
    """An S3 server on this machine, with the images of ``place`` in bucket/data."""
    s3fs = pytest.importorskip("s3fs", reason="needs s3fs: pip install s3fs")
    pytest.importorskip("moto.server", reason="needs an S3 server: pip install 'moto[server]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    log = place / "s3.log"
    command = [sys.executable, "-m", "moto.server", "-p", url.rpartition(":")[2]]
    with (
        pytest.MonkeyPatch.context() as environment,
        log.open("wb") as file,
        subprocess.Popen(command, stdout=file, stderr=file) as server,
    ):
        environment.setenv("AWS_ENDPOINT_URL", url)
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        while "Running on" not in log.read_text(encoding="utf-8"):
            assert server.poll() is None, log.read_text(encoding="utf-8")
            time.sleep(0.1)
        system = s3fs.S3FileSystem(use_listings_cache=False)
        system.mkdir("bucket")
        for name in ("images", "tar", "parquet"):
            system.put(f"{place / name}/", f"bucket/data/{name}", recursive=True)
        yield system
        server.kill()


@pytest.mark.usefixtures("new_cluster")
def test_images_are_read_from_a_bucket_and_results_are_written_to_it(place: Path, s3: Any) -> None:
    """Images below a prefix, tar shards and Parquet files; results go into the same bucket, also when resumed.

    Workers have the environment with which their cluster was started, and the variables of S3 must be in it.
    """
    words = (
        "s3://bucket/data/images",
        "s3://bucket/data/tar",
        "s3://bucket/data/parquet/*",
        "--partition-size",
        PARTITION,
    )
    result = on_ray(*words, "--output", "s3://bucket/out")
    assert result.returncode == 3, result.stderr
    s3.get("bucket/out/", f"{place / 'from_s3'}", recursive=True)
    assert ray_sources.rows_of(place / "from_s3") == 3 * ray_sources.rows_of(place / "cli.parquet")
    assert paths_of(place / "from_s3")[100] == "s3://bucket/data/tar/shard-000000.tar/000000.png"

    s3.rm("bucket/out/part-000007.parquet")
    assert_fails_cleanly(on_ray(*words, "--output", "s3://bucket/out"), 2, "--output s3://bucket/out", "--resume")
    assert "14 of 15 partitions were already done" in on_ray(*words, "--output", "s3://bucket/out", "--resume").stderr
    assert s3.cat_file("bucket/out/part-000007.parquet") == (place / "from_s3" / "part-000007.parquet").read_bytes()

    assert_fails_cleanly(on_ray("s3://bucket/none", "--output", "s3://bucket/a"), 2, "s3://bucket/none does not exist")
    assert_fails_cleanly(on_ray("s3://absent/a", "--output", "s3://bucket/a"), 2, "s3://absent/a cannot be listed")
    assert_fails_cleanly(on_ray(words[0], "--output", "s3://absent/a"), 1, "--output s3://absent/a cannot be written")
    assert_fails_cleanly(on_ray(words[0], "--output", "s3://bucket/data"), 2, "s3://bucket/data is not empty")
    assert not s3.exists("absent")
