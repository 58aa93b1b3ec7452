"""Damage images, models, data sets and checkpoints at random; each file must be rejected cleanly or read correctly.

    python tests/stress/fuzz.py --seed 0 --images 10000 --models 1000 --files 1000
    python tests/stress/fuzz.py --seed 0 --only images 4711 --folder kept

Kind, seed and number determine a case. Cases run in a subprocess, which is replaced after a crash or hang. The exit
status is 1 after a fault: an undocumented exception, a crash, more than 5 s or 1 GiB for a case, or output of a library
on stdout or stderr.
"""

import argparse
import io
import json
import multiprocessing
import os
import re
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, fields
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import safetensors.torch
import torch
from cifar10_runtime import Classifier, InferenceError
from cifar10_runtime.engine.models import FOLDER as MODELS

from cifar10_zoo import evaluate, synthetic, train
from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data import cifar10 as dataset
from cifar10_zoo.errors import ZooError
from cifar10_zoo.training import checkpoint
from tests.helpers.image_files import image_seeds, with_checksums

SECONDS, STARTUP_SECONDS, MEMORY = 5.0, 120.0, 1 << 30
EXTREMES = sorted({(1 << bits) + more for bits in (0, 7, 8, 15, 16, 31, 32, 63) for more in (-1, 0, 1)})


def mutate(content: bytes, other: bytes, random: Random) -> bytes:
    """Return ``content`` with one to four random faults, mostly near its beginning.

    One kind of fault replaces the beginning by the first bytes of ``other``.
    """
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(max(1, min(len(data), random.choice((64, 1024, len(data))))))
        size = random.choice((1, 4, 16, 256))
        match random.randrange(8):
            case 0:
                del data[at:]
            case 1:
                data[at : at + 1] = bytes(byte ^ 1 << random.randrange(8) for byte in data[at : at + 1])
            case 2:
                data[at : at + size] = random.choice((b"\0", b"\xff")) * size
            case 3:
                del data[at : at + size]
            case 4:
                data[at:at] = data[at : at + size]
            case 5:
                data[:at] = other[: random.choice((at, size))]
            case _:
                width = random.choice((2, 4))
                number = random.choice(EXTREMES) % (1 << 8 * width)
                data[at : at + width] = number.to_bytes(width, random.choice(("little", "big")))
    return bytes(data)


class Images:
    """The kind ``images``: damaged image files, classified in batches."""

    cases_per_call = 32

    def __init__(self, folder: Path) -> None:
        self.folder, self.seeds = folder, list(image_seeds())
        self.classifier = Classifier("int8", device="cpu")

    def write(self, path: Path, random: Random) -> Path:
        """Write a damaged image to ``path``, and return ``path``."""
        content = mutate(random.choice(self.seeds), random.choice(self.seeds), random)
        path.write_bytes(with_checksums(content) if b"PNG" in content[:4] and random.random() < 0.7 else content)
        return path

    def check(self, *cases: Random) -> int:
        """Check that each file gives its prediction, in order; return how many files were accepted."""
        paths = [self.write(self.folder / str(index), random) for index, random in enumerate(cases)]
        rows = list(self.classifier.classify(paths, batch_size=8))
        assert [row.path for row in rows] == list(map(str, paths))
        for row in rows:
            assert len(row.ranking) == (0 if row.error else 10), row
            assert len(row.error) <= 200, row
            assert row.error.isprintable(), row
        return sum(bool(row.ranking) for row in rows)


class Models:
    """The kind ``models``: damaged models, run on three images; half have damaged bytes, half are valid protobuf."""

    cases_per_call = 1

    def __init__(self, folder: Path) -> None:
        self.path = folder / "model.onnx"
        self.seeds = [(MODELS / name).read_bytes() for name in ("int8.onnx", "fp16.onnx")]
        self.operators = sorted({schema.name for schema in onnx.defs.get_all_schemas()})
        Classifier("int8", device="cpu").close()  # the memory that every model needs counts as memory at the start

    def check(self, random: Random) -> int:
        """Raise any undocumented exception; return 1 if the model was accepted, else 0."""
        content = random.choice(self.seeds)
        damage = mutate(content, self.seeds[0], random) if random.random() < 0.5 else self.rewire(content, random)
        self.path.write_bytes(damage)
        try:
            with Classifier(self.path, device="cpu") as classifier:
                classifier.probabilities(np.zeros((3, classifier.input_size, classifier.input_size, 3), np.uint8))
        except InferenceError as error:
            return require_one_line(error)
        return 1

    def rewire(self, content: bytes, random: Random) -> bytes:
        """Return the model with some fields removed, doubled or set to a value that is unlikely to fit."""
        model = onnx.ModelProto.FromString(content)
        for _ in range(random.choice((1, 1, 2, 4))):
            message, descriptor = random.choice(list(set_fields(model)))
            value, name = getattr(message, descriptor.name), descriptor.name
            if descriptor.is_repeated:
                index = random.randrange(len(value))
                taken = value.pop(index)
                if not descriptor.message_type and random.random() < 0.7:
                    value.insert(index, self.unlikely(taken, descriptor, model, random))
                elif random.random() < 0.4:
                    value.extend([taken, taken])
            elif descriptor.message_type or random.random() < 0.2:
                message.ClearField(name)
            else:
                setattr(message, name, self.unlikely(value, descriptor, model, random))
        return bytes(model.SerializeToString())

    def unlikely(self, value: Any, descriptor: Any, model: onnx.ModelProto, random: Random) -> Any:
        """Return a value of the same type that is unlikely to fit."""
        if descriptor.enum_type:
            return random.choice(descriptor.enum_type.values).number
        if isinstance(value, int):
            limit = 1 << (31 if descriptor.cpp_type == descriptor.CPPTYPE_INT32 else 63)
            extremes = [number for edge in EXTREMES for number in (edge, -edge) if -limit <= number < limit]
            return random.choice((random.randrange(-8, 32), random.choice(extremes)))
        if isinstance(value, float):
            return random.choice((0.0, -1.0, 1e-45, 3e38, float("inf"), float("nan")))
        if isinstance(value, bytes):
            return mutate(value, value[::-1], random)
        names = [name for node in model.graph.node for name in (*node.input, *node.output)]
        return random.choice(
            ("", "x" * 5000, "\1\n" + value, random.choice(self.operators), random.choice(names or [""]))
        )


def set_fields(message: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (message, field) for each field that is set in a protobuf message or its submessages."""
    for descriptor, value in message.ListFields():
        yield message, descriptor
        if descriptor.message_type:
            for part in value if descriptor.is_repeated else [value]:
                yield from set_fields(part)


class Files:
    """The kind ``files``: damaged data files, class names and checkpoints, some with a correct checksum."""

    cases_per_call = 1

    def __init__(self, folder: Path) -> None:
        folder = Path(tempfile.mkdtemp(dir=folder))  # an earlier process may have left damaged files
        dataset.RECORDS_PER_FILE = 200  # 10,000 records would only be slower
        self.data, self.folder, recipe = folder / "data", folder / "train", Hyperparameters(batch_size=8)
        options = train.Options(data_dir=self.data, train_dir=self.folder, max_steps=2, hyperparameters=recipe)
        synthetic.write(self.data)
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            train.train(options)
        self.trained = checkpoint.read_newest(self.folder)
        self.content = self.trained.path.read_bytes()

    def check(self, random: Random) -> int:
        """Raise any undocumented exception; return 1 if the file was accepted, else 0."""
        try:
            random.choice((self.batch, self.batch, self.classes, self.damaged, self.damaged, self.signed))(random)
        except ZooError as error:
            return require_one_line(error)
        return 1

    def batch(self, random: Random) -> None:
        """Check that a damaged data file is an error, or that the loaded data equals the content of the file."""
        path = self.data / dataset.FOLDER / random.choice(dataset.FILES["train"])
        with replaced(path, mutate(path.read_bytes(), bytes(range(256)), random)) as content:
            data = dataset.load(self.data, "train")
            images, labels = dataset.read_records(path)
        assert torch.cat([labels[:, None].byte(), images.flatten(1)], dim=1).numpy().tobytes() == content
        assert data.images.shape == (1000, 3, 32, 32)
        assert data.labels.max() <= 9

    def classes(self, random: Random) -> None:
        """Check that a damaged batches.meta.txt is an error, or gives ten class names."""
        path = self.data / dataset.FOLDER / dataset.META_FILE
        with replaced(path, mutate(path.read_bytes(), "\ufeff\u2028\x85".encode(), random)):
            data = dataset.load(self.data, "test")
        assert len(set(data.classes)) == 10
        self.trained.require_classes_of(data)

    def damaged(self, random: Random) -> None:
        """Check that a damaged checkpoint is an error, or has the values of the undamaged checkpoint."""
        size = 8 + int.from_bytes(self.content[:8], "little")
        header, rest = self.content[:size], self.content[size:]
        damaged_header, damaged_file = mutate(header, rest, random), mutate(self.content, rest, random)
        with replaced(self.trained.path, random.choice((damaged_header + rest, damaged_file))):
            read = checkpoint.read(self.trained.path)
            self.evaluate()
        for name in {item.name for item in fields(read)} - {"tensors"}:
            assert getattr(read, name) == getattr(self.trained, name), name
        assert read.tensors.keys() == self.trained.tensors.keys()
        assert all(tensor.equal(self.trained.tensors[name]) for name, tensor in read.tensors.items())

    def signed(self, random: Random) -> None:
        """Check that a wrong checkpoint with a correct checksum is an error or can be evaluated."""
        with safetensors.safe_open(self.trained.path, framework="pt") as file:
            metadata = dict(file.metadata())
        del metadata["sha256"]
        tensors, strange = dict(self.trained.tensors), (None, True, -1, 2**70, float("nan"), "", "1", [1], {"a": None})
        name, key = random.choice(sorted(tensors)), random.choice(sorted(metadata))
        match random.randrange(4):
            case 0:
                tensors[name] = tensors[name].to(random.choice((torch.bfloat16, torch.float64, torch.bool)))
            case 1:
                tensors[name] = tensors[name][:-1].contiguous()
            case 2:
                recipe = json.loads(metadata["hyperparameters"])
                recipe[random.choice((*recipe, "unknown"))] = random.choice(strange)
                metadata["hyperparameters"] = json.dumps(random.choice((recipe, recipe, random.choice(strange))))
            case _:
                metadata[key] = mutate(metadata[key].encode(), b"", random).decode(errors="replace")
        metadata["sha256"] = checkpoint.digest(tensors, metadata)
        with replaced(self.trained.path, safetensors.torch.save(tensors, metadata)):
            self.evaluate()

    def evaluate(self) -> None:
        """Run the evaluate command; it may print one line on stderr."""
        options = evaluate.Options(data_dir=self.data, checkpoint_dir=self.folder, run_once=True, device="cpu")
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as stderr:
            try:
                evaluate.evaluate(options)
            finally:
                assert stderr.getvalue().count("\n") <= 1, stderr.getvalue()


def require_one_line(error: Exception) -> int:
    """Check that a command can print the error as one line; return 0, which means refused."""
    assert "\n" not in str(error), error
    return 0


@contextmanager
def replaced(path: Path, content: bytes) -> Iterator[bytes]:
    """While the block runs, the file has ``content``."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield content
    finally:
        path.write_bytes(before)


KINDS: dict[str, type[Images] | type[Models] | type[Files]] = {"images": Images, "models": Models, "files": Files}


@dataclass
class Tally:
    """The results of cases; ``seconds`` and ``memory`` are the largest of all groups of cases that ran together."""

    cases: int = 0
    accepted: int = 0
    seconds: float = 0
    memory: int = 0
    """Bytes above the memory at the start."""
    faults: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Add another tally."""
        self.cases, self.accepted = self.cases + other.cases, self.accepted + other.accepted
        self.seconds, self.memory = max(self.seconds, other.seconds), max(self.memory, other.memory)
        self.faults += other.faults


def work(kind: str, seed: int, folder: Path, connection: Connection) -> None:
    """Run the cases whose numbers arrive at ``connection``, forever."""
    console = os.open(folder / "console", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    for descriptor in (1, 2):  # native libraries bypass sys.stdout and sys.stderr
        os.dup2(console, descriptor)
    resource.setrlimit(resource.RLIMIT_AS, (8 * MEMORY, 8 * MEMORY))  # a fault must not exhaust the machine's memory
    warnings.filterwarnings("ignore", module="PIL")  # as cifar10-infer does
    torch.set_num_threads(1)
    subject = KINDS[kind](folder)
    memory_peak()
    memory_at_start = memory_peak()
    connection.send(Tally())
    while True:
        numbers = connection.recv()
        os.truncate(console, 0)
        tally, start = Tally(len(numbers)), time.monotonic()
        try:
            tally.accepted = subject.check(*(Random(f"{kind} {seed} {number}") for number in numbers))
        except BaseException:
            tally.faults.append(traceback.format_exc())
        tally.seconds, tally.memory = time.monotonic() - start, memory_peak() - memory_at_start
        if tally.seconds > SECONDS or tally.memory > MEMORY:
            tally.faults.append(f"{tally.seconds:.1f} s, {tally.memory >> 20} MiB")
        if printed := (folder / "console").read_text(errors="replace"):
            tally.faults.append(f"printed {printed}")
        connection.send(tally)


def memory_peak() -> int:
    """Return the peak of resident bytes since the last call; getrusage would count the parent's memory, too."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    Path("/proc/self/clear_refs").write_text("5")
    return int(match[1]) << 10


class Worker:
    """A process that runs cases, and is replaced when it crashes or hangs."""

    def __init__(self, kind: str, seed: int, folder: Path) -> None:
        self.arguments = kind, seed, folder
        self.start()

    def start(self) -> None:
        """Start the process and wait until it is ready."""
        self.connection, other_end = multiprocessing.Pipe()
        spawn = multiprocessing.get_context("spawn")
        self.process = spawn.Process(target=work, args=(*self.arguments, other_end), daemon=True)
        self.process.start()
        other_end.close()  # otherwise the end of the process would not close the connection
        if fault := self.receive(Tally(), STARTUP_SECONDS).faults:
            raise RuntimeError(f"{fault}: {(self.arguments[2] / 'console').read_text()}")

    def stop(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.join()
        self.connection.close()

    def receive(self, expected: Tally, seconds: float) -> Tally:
        """Return the tally that the process sends, or ``expected`` with a fault if it sends none in time."""
        try:
            if self.connection.poll(seconds):
                tally: Tally = self.connection.recv()
                return tally
            expected.seconds = seconds
            expected.faults.append(f"no end after {seconds:.0f} s")
        except EOFError:
            self.process.join()
            expected.faults.append(f"the process ended with status {self.process.exitcode}")
        return expected

    def run(self, numbers: Sequence[int]) -> Tally:
        """Run cases and return their tally; after a fault in a group of cases, run each case again by itself."""
        self.connection.send(numbers)
        tally = self.receive(Tally(len(numbers)), 2 * SECONDS)
        if not tally.faults:
            return tally
        self.stop()
        self.start()
        separate = Tally()
        for number in numbers if len(numbers) > 1 else ():
            separate.add(self.run([number]))
        if separate.faults:
            return separate
        kind, seed, _ = self.arguments
        command = f"--seed {seed} --only {kind} {' '.join(map(str, numbers))}"
        tally.faults = [f"{command}: {fault}" for fault in tally.faults]
        return tally


def fuzz(kind: str, numbers: Sequence[int], seed: int, folder: Path) -> Tally:
    """Run the cases with these numbers, with their files in ``folder``, and return their tally."""
    worker, group, total = Worker(kind, seed, folder), KINDS[kind].cases_per_call, Tally()
    for start in range(0, len(numbers), group):
        total.add(worker.run(numbers[start : start + group]))
    worker.stop()
    return total


def main() -> int:
    """Run the cases of the command line, print their results and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    for kind, count in (("images", 10_000), ("models", 1000), ("files", 1000)):
        parser.add_argument(f"--{kind}", type=int, default=count, help=f"cases of {kind} (default: {count:,})")
    parser.add_argument("--only", nargs="+", metavar=("KIND", "NUMBER"), help="run only these cases, together")
    parser.add_argument("--folder", type=Path, help="folder for the damaged files; the last ones stay there")
    options = parser.parse_args()
    chosen: dict[str, Sequence[int]] = {kind: range(getattr(options, kind)) for kind in KINDS}
    if options.only:
        chosen = {options.only[0]: [int(number) for number in options.only[1:]]}
    tallies = {}
    with tempfile.TemporaryDirectory() as temporary:
        for kind, numbers in chosen.items():
            tallies[kind] = fuzz(kind, numbers, options.seed, options.folder or Path(temporary))
            print(*tallies[kind].faults, sep="\n", end="\n" if tallies[kind].faults else "", flush=True)
    print(f"{'kind':8}{'cases':>8}{'accepted':>10}{'refused':>9}{'faults':>8}{'slowest':>10}{'memory':>12}")
    for kind, tally in tallies.items():
        refused = tally.cases - tally.accepted - len(tally.faults)
        print(f"{kind:8}{tally.cases:8}{tally.accepted:10}{refused:9}{len(tally.faults):8}", end="")
        print(f"{tally.seconds:8.2f} s{tally.memory >> 20:8} MiB")
    return 1 if any(tally.faults for tally in tallies.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
