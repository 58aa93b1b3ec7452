"""A download is complete and verified, or it can continue, or it is refused; a wrong data set is never unpacked."""

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cifar10_zoo.data.download import Archive, fetch
from cifar10_zoo.errors import DatasetError

FILES = {"a.bin": bytes(range(256)) * 400, "b.bin": b"b" * 70_000}


def make_archive(*extra: tarfile.TarInfo, files: dict[str, bytes] = FILES) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"folder/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for member in extra:
            tar.addfile(member)
    return buffer.getvalue()


def archive_of(data: bytes) -> Archive:
    """Return the archive with exactly these bytes."""
    return Archive("", "archive.tar.gz", len(data), hashlib.md5(data).hexdigest(), "folder", tuple(FILES))


class Server:
    """A local web server that serves ``data`` and can imitate a bad network."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.cut_after: int | None = None
        """Bytes of the body after which each connection closes."""
        self.ranges = True
        """Whether the server can continue a download."""
        self.says_length = True
        """Whether the server sends Content-Length."""
        self.requests: list[str | None] = []
        """The Range header of each request."""
        self.url = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Send the requested bytes, as far as the settings allow."""
        asked = handler.headers["Range"]
        self.requests.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        handler.send_response(206 if start else 200)
        if self.says_length:
            handler.send_header("Content-Length", str(len(self.data) - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.data) - 1}/{len(self.data)}")
        handler.end_headers()
        end = len(self.data) if self.cut_after is None else start + self.cut_after
        handler.wfile.write(self.data[start:end])


@contextmanager
def serving(data: bytes) -> Iterator[Server]:
    server = Server(data)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_port}/archive.tar.gz"
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield server
        http.shutdown()


def assert_complete(data_dir: Path) -> None:
    assert {path.name: path.read_bytes() for path in (data_dir / "folder").iterdir()} == FILES
    assert {path.name for path in data_dir.iterdir()} == {"folder", "archive.tar.gz"}


def assert_no_data_set(data_dir: Path) -> None:
    assert not (data_dir / "folder").exists()


def test_an_uninterrupted_download_is_unpacked(tmp_path: Path) -> None:
    data = make_archive()
    with serving(data) as server:
        fetch(archive_of(data), tmp_path, server.url)
    assert_complete(tmp_path)


def test_a_file_url_is_accepted(tmp_path: Path) -> None:
    data = make_archive()
    source = tmp_path / "mirror.tar.gz"
    source.write_bytes(data)
    fetch(archive_of(data), tmp_path / "data", source.as_uri())
    assert_complete(tmp_path / "data")


@pytest.mark.parametrize("can_continue", [True, False], ids=["server supports ranges", "server starts again"])
def test_an_interrupted_download_continues(tmp_path: Path, can_continue: bool) -> None:
    data = make_archive()
    with serving(data) as server:
        server.cut_after = len(data) // 3
        with pytest.raises(DatasetError, match=f"{len(data) // 3} of {len(data)} bytes; run the same command again"):
            fetch(archive_of(data), tmp_path, server.url)
        assert_no_data_set(tmp_path)
        assert (tmp_path / "archive.tar.gz.part").read_bytes() == data[: len(data) // 3]
        server.cut_after, server.ranges = None, can_continue
        fetch(archive_of(data), tmp_path, server.url)
        assert server.requests == [None, f"bytes={len(data) // 3}-"]
    assert_complete(tmp_path)


def test_a_download_interrupted_at_any_byte_continues(tmp_path: Path) -> None:
    """20 downloads, each interrupted at another byte; then one download, interrupted 20 times."""
    data = make_archive()
    offsets = [0, 1, *range(len(data) // 18, len(data) - 1, len(data) // 18), len(data) - 1]
    assert len(offsets) >= 20
    with serving(data) as server:
        for offset in offsets:
            folder = tmp_path / str(offset)
            server.cut_after = offset
            with pytest.raises(DatasetError, match=f"{offset} of {len(data)} bytes; run the same command again"):
                fetch(archive_of(data), folder, server.url)
            assert_no_data_set(folder)
            server.cut_after = None
            fetch(archive_of(data), folder, server.url)
            assert_complete(folder)
        server.cut_after = len(data) // 20
        for _ in range(20):
            with pytest.raises(DatasetError, match="run the same command again"):
                fetch(archive_of(data), tmp_path / "again", server.url)
            assert_no_data_set(tmp_path / "again")
        fetch(archive_of(data), tmp_path / "again", server.url)
        assert_complete(tmp_path / "again")


def test_an_existing_archive_is_not_downloaded_again(tmp_path: Path) -> None:
    data = make_archive()
    (tmp_path / "archive.tar.gz").write_bytes(data)
    fetch(archive_of(data), tmp_path, "http://127.0.0.1:9/nobody-listens-there")
    assert_complete(tmp_path)


def test_a_download_with_a_wrong_checksum_is_refused_and_deleted(tmp_path: Path) -> None:
    data = make_archive()
    with serving(data[:-1] + bytes([data[-1] ^ 1])) as server:
        with pytest.raises(DatasetError, match="MD5"):
            fetch(archive_of(data), tmp_path, server.url)
        assert list(tmp_path.iterdir()) == []
        server.data = data
        fetch(archive_of(data), tmp_path, server.url)
    assert_complete(tmp_path)


@pytest.mark.parametrize("says_length", [True, False], ids=["with Content-Length", "without Content-Length"])
@pytest.mark.parametrize("change", [1, -1], ids=["one byte more", "one byte less"])
def test_a_download_of_another_size_is_refused(tmp_path: Path, says_length: bool, change: int) -> None:
    """Without Content-Length, a file that is too short looks interrupted, and its part is kept."""
    data = make_archive()
    with serving(data + b"x" if change > 0 else data[:-1]) as server:
        server.says_length = says_length
        with pytest.raises(DatasetError, match=f"{len(data) + change}|more than {len(data)}"):
            fetch(archive_of(data), tmp_path, server.url)
    parts = [] if says_length or change > 0 else ["archive.tar.gz.part"]
    assert [path.name for path in tmp_path.iterdir()] == parts


def test_an_existing_wrong_archive_is_refused_but_kept(tmp_path: Path) -> None:
    (tmp_path / "archive.tar.gz").write_bytes(b"mine")
    with pytest.raises(DatasetError, match=r"archive\.tar\.gz is not the official archive"):
        fetch(archive_of(make_archive()), tmp_path, "http://127.0.0.1:9/")
    assert (tmp_path / "archive.tar.gz").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:9/", "file:///does/not/exist", "not-a-url", "ftp:"],
    ids=["no server", "missing file", "no scheme", "no host"],
)
def test_an_unreachable_url_is_named(tmp_path: Path, url: str) -> None:
    with pytest.raises(DatasetError, match=f"cannot download {url}"):
        fetch(archive_of(make_archive()), tmp_path, url)
    assert_no_data_set(tmp_path)


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE],
    ids=["symbolic link", "hard link", "FIFO", "character device"],
)
def test_a_member_that_is_not_a_regular_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    data = make_archive(link("folder/a.bin", kind))
    (tmp_path / "archive.tar.gz").write_bytes(data)
    with pytest.raises(DatasetError, match="not a regular file"):
        fetch(archive_of(data), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["archive.tar.gz"]


def test_only_the_named_members_are_unpacked(tmp_path: Path) -> None:
    data = make_archive(tarfile.TarInfo("../evil"), tarfile.TarInfo("folder/extra"), tarfile.TarInfo("/tmp/evil"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "archive.tar.gz").write_bytes(data)
    fetch(archive_of(data), tmp_path / "data")
    assert_complete(tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    data = make_archive(files={"a.bin": b"a"})
    (tmp_path / "archive.tar.gz").write_bytes(data)
    with pytest.raises(DatasetError, match=r"folder/b\.bin"):
        fetch(archive_of(data), tmp_path)
    assert_no_data_set(tmp_path)


def test_a_file_that_is_not_an_archive_is_an_error(tmp_path: Path) -> None:
    data = b"<html>Please log in</html>"
    (tmp_path / "archive.tar.gz").write_bytes(data)
    with pytest.raises(DatasetError, match="cannot be unpacked"):
        fetch(archive_of(data), tmp_path)
    assert_no_data_set(tmp_path)
