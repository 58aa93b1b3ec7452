"""Sort image files by their labels: a copy of each file, or a hard link to it, in the folder of its label."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from types import TracebackType

from cifar10_runtime.images.find import shard
from cifar10_runtime.images.outside import OutsideFolder
from cifar10_runtime.prediction import Prediction
from cifar10_runtime.results.copying import Copier, UncopiedError, check_regular, is_copy
from cifar10_runtime.results.lock import exclusive_lock
from cifar10_runtime.results.names import FAILED, UniqueNames, check_folder_names
from cifar10_runtime.results.stream import output_errors
from cifar10_runtime.text import count_of, printable


class Sorter(AbstractContextManager["Sorter"]):
    """Puts a copy of each file at FOLDER/LABEL/NAME, or at FOLDER/_failed/NAME, and changes no other file.

    NAME depends only on the list of all images: it is the file's name, with a number if an earlier image of the list
    has the same name. Labels do not matter. So a shard need not know the labels of other shards, and the trees of all
    shards together are the tree of an unsharded run. If FOLDER/LABEL has another file with the name NAME, the copy gets
    the next free number.

    A file with the right name and content counts as the copy. So a repeated or resumed run completes the tree of the
    interrupted run, and needs no record of its copies.

    Args:
        folder: The folder of the folders of labels; it is created if it does not exist.
        links: Make hard links where the file system allows them.
        part: The shard of ``watch``: its number and the number of shards; None if the images are not divided.
    """

    unsorted = 0
    """Number of files that could not be read again, or whose names the file system of ``folder`` does not take."""

    def __init__(self, folder: Path, links: bool = False, part: tuple[int, int] | None = None) -> None:
        work = folder / (f".cifar10-infer-{part[0]}-of-{part[1]}" if part else ".cifar10-infer")
        self._folder, self._lock, self._links, self._part = folder, work, links, part
        self._copier = Copier(f"{work}.tmp", links, "--sort-into")
        self._outside = OutsideFolder(str(folder))
        self._names = UniqueNames()
        self._expected: deque[tuple[str, str | None]] = deque()
        self._label_folders: dict[str, str] = {}
        self._found = 0
        self._first_unsorted = ""

    def __enter__(self) -> "Sorter":
        """Lock the folder for this shard, and remove what a killed run left.

        Raises:
            UsageError: Another process sorts the same shard into the folder.
            OutputError: The folder cannot be written.
        """
        with output_errors(f"--sort-into {self._folder}"), ExitStack() as stack:
            self._folder.mkdir(exist_ok=True)
            stack.enter_context(exclusive_lock(self._lock, f"--sort-into {self._folder}"))
            stack.callback(self._lock.unlink, missing_ok=True)
            self._copier.remove_temporary()
            self._open_files = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(OSError):  # the folder was removed
            self._open_files.close()

    def check_labels(self, labels: Iterable[str]) -> None:
        """Check that each label can be the name of a folder of its own.

        Raises:
            UsageError: A label cannot.
        """
        check_folder_names(labels)

    def outside(self, paths: Iterable[str]) -> Iterator[str]:
        """Return the paths of the images that are not in the folder, because the folder takes copies of images."""
        return self._outside.filter(paths)

    def left_out(self) -> str:
        """Return in words how many images in the folder were left out; empty if there were none."""
        number = self._outside.left_out
        return printable(f"{count_of(number, 'image')} in --sort-into {self._folder} left out") if number else ""

    def watch(self, paths: Iterable[str]) -> Iterator[str]:
        """Yield the paths of the shard, and remember each one until ``add`` gets its prediction.

        A shard needs the names of all images, so ``paths`` is read to its end first. Without shards, ``add`` gives the
        names: the paths that are read ahead must not take numbers before a file that finds its name taken in FOLDER.

        Args:
            paths: The paths of all images.
        """
        images: Iterable[tuple[str, str | None]]
        if self._part:
            images = shard(((path, self._take_name(path)) for path in paths), *self._part)
        else:
            images = ((path, None) for path in paths)
        for image in images:
            self._expected.append(image)
            yield image[0]

    def add(self, prediction: Prediction) -> None:
        """Sort the file of the next path that ``watch`` yielded.

        Raises:
            OutputError: The folder cannot be written; no file in it is incomplete.
            UsageError: The label of a resumed row cannot be the name of a folder.
        """
        path, name = self._expected.popleft()
        if name is None:
            name = self._take_name(path)
        try:
            self._sort(path, name, prediction.label)
        except UncopiedError as error:
            self.unsorted += 1
            self._first_unsorted = self._first_unsorted or f"{path}: {error}"

    def summary(self) -> str:
        """Return how many files were sorted, and how many could not be, in words."""
        counts = [f"{count_of(self._copier.linked, 'file')} linked"] if self._links else []
        if self._copier.copied or not self._links:
            counts.append(f"{count_of(self._copier.copied, 'file')} copied")
        if self._copier.not_linked:
            counts[-1] += f" because they cannot be linked ({self._copier.not_linked})"
        if self._found:
            counts.append(f"{self._found} already there")
        if self.unsorted:
            counts.append(f"{self.unsorted} could not be sorted, the first: {self._first_unsorted}")
        return printable(f"sorted into {self._folder}: {', '.join(counts)}")

    def _take_name(self, path: str) -> str:
        return self._names.take(os.path.basename(path))

    def _sort(self, path: str, name: str, label: str) -> None:
        """Put the file ``path`` into the folder of ``label`` as ``name``, or with a number if the name is taken.

        Args:
            path: The file.
            name: Its name among all images.
            label: The label; empty if the image could not be read.
        """
        check_regular(path)
        folder = self._label_folders.get(label) or self._make_folder(label)
        target = os.path.join(folder, name)
        while os.path.lexists(target) or not self._copier.create(path, target):
            if is_copy(target, path):
                self._found += 1
                return
            target = os.path.join(folder, self._names.take(name))

    def _make_folder(self, label: str) -> str:
        if label:
            check_folder_names([*filter(None, self._label_folders), label])
        folder = os.path.join(self._folder, label or FAILED)
        with output_errors(f"--sort-into: {folder}"):
            os.makedirs(folder, exist_ok=True)
        self._label_folders[label] = folder
        return folder
