"""The command lines of the tutorial: each flag of its programs, in each spelling, has the value that absl gives it."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from absl import flags
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar10_zoo import cli, evaluate, from_tensorflow, train
from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data.load import load
from cifar10_zoo.errors import OptionError
from cifar10_zoo.recipes import MODERN
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.inference import top1_accuracy
from tests.helpers.command_line import assert_fails_cleanly, zoo
from tests.helpers.onnx_files import first

Value = bool | int | str
Flags = dict[str, Value]

SHARED: Flags = {"batch_size": 128, "data_dir": "/tmp/cifar10_data", "use_fp16": False}
"""The flags that cifar10.py defines for all programs, with their defaults."""
TRAIN: Flags = {"train_dir": "/tmp/cifar10_train", "max_steps": 1_000_000, "log_device_placement": False}
PROGRAMS: dict[str, tuple[Flags, type[Any]]] = {
    "cifar10_train.py": ({**SHARED, **TRAIN, "log_frequency": 10}, train.Options),
    "cifar10_multi_gpu_train.py": ({**SHARED, **TRAIN, "num_gpus": 1}, train.Options),
    "cifar10_eval.py": (
        {
            **SHARED,
            "eval_dir": "/tmp/cifar10_eval",
            "eval_data": "test",
            "checkpoint_dir": "/tmp/cifar10_train",
            "eval_interval_secs": 300,
            "num_examples": 10_000,
            "run_once": False,
        },
        evaluate.Options,
    ),
}
"""The programs of the tutorial: the definitions of their flags, and the options of our command."""
VALUES: dict[str, list[Value]] = {
    "eval_data": ["test", "train_eval"],
    "num_gpus": [1],
}
"""Values to try, where not any value of the type is allowed."""


def values_of(name: str, default: Value) -> list[Value]:
    if isinstance(default, bool):
        return [True, False]
    return VALUES.get(name, [7, 1000] if isinstance(default, int) else ["/some/dir", "dir"])


def spellings(name: str, value: Value) -> list[list[str]]:
    """Each way in which absl accepts a flag with a value, as words of the command line."""
    if not isinstance(value, bool):
        return [[f"--{name}={value}"], [f"-{name}={value}"], [f"--{name}", str(value)], [f"-{name}", str(value)]]
    texts = ("True", "true", "TRUE", "t", "1") if value else ("False", "false", "FALSE", "f", "0")
    bare = "" if value else "no"
    return [[f"{dash}{bare}{name}"] for dash in ("-", "--")] + [
        [f"{dash}{name}={text}"] for dash in ("-", "--") for text in texts
    ]


def value_in_absl(definitions: Flags, words: Sequence[str]) -> Callable[[str], object]:
    """Parse ``words`` with absl, as the original programs do; return a function that gives the value of a flag."""
    parsed = flags.FlagValues()  # type: ignore[no-untyped-call]
    for name, default in definitions.items():
        define: Any = {bool: flags.DEFINE_boolean, int: flags.DEFINE_integer, str: flags.DEFINE_string}[type(default)]
        define(name, default, "", flag_values=parsed)
    assert parsed(["program.py", *words]) == ["program.py"], "absl leaves no word over"
    return lambda name: parsed[name].value


def value_here(options: Any, name: str) -> object:
    """The value of the option that has the name of the flag."""
    owner = options if name in {field.name for field in fields(options)} else options.hyperparameters
    value = getattr(owner, name)
    return str(value) if isinstance(value, Path) else value


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_flag_in_each_spelling_has_the_value_that_absl_gives_it(program: str) -> None:
    definitions, options_type = PROGRAMS[program]
    for name, default in definitions.items():
        for value in values_of(name, default):
            for words in spellings(name, value):
                expected = value_in_absl(definitions, words)(name)
                assert expected == value, words
                assert value_here(cli.parse(options_type, words), name) == expected, words


@st.composite
def command_lines(draw: st.DrawFn) -> tuple[str, list[str], set[str]]:
    """A program, a command line with any of its flags, also repeated, and the names of these flags."""
    program = draw(st.sampled_from(sorted(PROGRAMS)))
    definitions = PROGRAMS[program][0]
    names = draw(st.lists(st.sampled_from(sorted(definitions)), max_size=12))
    choices = [(name, draw(st.sampled_from(values_of(name, definitions[name])))) for name in names]
    words = [word for name, value in choices for word in draw(st.sampled_from(spellings(name, value)))]
    return program, words, set(names)


@settings(max_examples=60)
@given(command_lines())
def test_whole_command_lines_have_the_values_that_absl_gives_them(drawn: tuple[str, list[str], set[str]]) -> None:
    program, words, names = drawn
    definitions, options_type = PROGRAMS[program]
    expected, options = value_in_absl(definitions, words), cli.parse(options_type, words)
    for name in names:
        assert value_here(options, name) == expected(name), (name, words)


@pytest.mark.parametrize("text", ["True", "true", "False", "false"])
def test_a_boolean_value_in_a_word_of_its_own_is_accepted_as_by_the_first_app_flags(text: str) -> None:
    """They used argparse; absl would read ``--run_once False`` as ``--run_once`` and stop there."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--run_once", nargs="?", const=True, type=lambda word: word.lower() in ("true", "t", "1"))
    words = ["--run_once", text, "--num_examples", "5"]
    expected = parser.parse_known_args(words)[0].run_once
    assert cli.parse(evaluate.Options, words).run_once is expected
    assert cli.parse(evaluate.Options, words).num_examples == 5


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["--no-run-once", "--run-once"], ["--no-run-once", "--run-once"], id="spelling of tyro"),
        pytest.param(["--run_once", "--", "--norun_once"], ["--run-once", "--", "--norun_once"], id="after --"),
        pytest.param(["-h"], ["-h"], id="short help"),
        pytest.param(["-help"], ["--help"], id="help with one dash"),
        pytest.param(["-unknown", "--nonsense=1"], ["-unknown", "--nonsense=1"], id="unknown flags"),
        pytest.param(["--data-dir", "true"], ["--data-dir", "true"], id="a value that is a boolean word"),
        pytest.param(["--num-examples", "-1"], ["--num-examples", "-1"], id="negative number"),
    ],
)
def test_other_words_stay_as_they_are(words: list[str], expected: list[str]) -> None:
    assert cli.tyro_words(words, evaluate.Options) == expected


@pytest.mark.parametrize("word", ["--run_once=maybe", "--run_once=", "-use_fp16=2"])
def test_a_boolean_flag_with_another_value_is_an_error_that_names_it(word: str) -> None:
    name, _, value = word.lstrip("-").partition("=")
    with pytest.raises(OptionError, match=f"^--{name} must be True or False, not {value}$"):
        cli.parse(evaluate.Options, [word])


@pytest.mark.parametrize(
    ("words", "name"),
    [
        pytest.param(["--train-dir", ""], "--train-dir", id="a word of its own"),
        pytest.param(["--train_dir="], "--train_dir", id="after an equals sign"),
        pytest.param(["--max-steps", "5", ""], "an argument", id="not after an option"),
    ],
)
def test_an_empty_value_is_refused_and_never_means_the_current_directory(words: list[str], name: str) -> None:
    with pytest.raises(OptionError, match=f"^{name} is empty: give it a value, or leave it out$"):
        cli.parse(train.Options, words)


@pytest.mark.parametrize("words", [["--recipe=modern"], ["-recipe=modern"], ["-recipe", "modern"]])
def test_each_spelling_of_recipe_sets_all_its_hyperparameters(words: list[str]) -> None:
    assert cli.parse(train.Options, words, train.recipe_options).hyperparameters == MODERN


def test_num_gpus_without_torchrun_is_an_error_that_says_how_to_start_the_processes() -> None:
    result = zoo("train", "--num_gpus=2")
    assert_fails_cleanly(result, 2, "--num-gpus 2", "torchrun --nproc-per-node=2 -m cifar10_zoo.train")
    assert_fails_cleanly(zoo("train", "--num_gpus=0"), 2, "--num-gpus must be between 1 and 65536, not 0")


def test_num_gpus_equal_to_the_number_of_processes_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchrun sets both variables."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.parse(train.Options, ["--num_gpus=2"]).hyperparameters.num_gpus == 2
    with pytest.raises(OptionError, match="--nproc-per-node=3"):
        cli.parse(train.Options, ["--num_gpus=3"])


def test_a_converted_checkpoint_continues_with_the_number_of_processes_in_num_gpus() -> None:
    options = cli.parse(from_tensorflow.Options, ["model.ckpt-1", "--num_gpus=2"])
    assert options.hyperparameters == Hyperparameters(num_gpus=2)


def test_the_tutorials_evaluation_evaluates_the_first_images_and_records_nothing(
    drawings_dir: Path, train_dir: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in [train_dir, *train_dir.rglob("*")]}
    result = zoo(
        "evaluate",
        f"--data_dir={drawings_dir}",
        f"--checkpoint_dir={train_dir}",
        *("--eval_data=test", "-batch_size=30", "--num_examples=100", "--use_fp16=False", "--run_once=True"),
        "--eval_interval_secs=5",
    )
    assert result.returncode == 0, result.stderr
    data, model = load(drawings_dir, "test"), checkpoint.read_newest(train_dir).ema_model()
    exact = top1_accuracy(model, first(100, data))
    assert f"precision @ 1 = {exact:.3f}\n" in result.stdout
    assert "step 60, 100 custom images" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in [train_dir, *train_dir.rglob("*")]} == before


@pytest.mark.parametrize("word", ["--num_examples=0", "--batch_size=0"])
def test_the_error_names_the_flag_of_the_evaluation_that_is_not_positive(word: str) -> None:
    name = word.removeprefix("--").partition("=")[0].replace("_", "-")
    with pytest.raises(OptionError, match=f"--{name} must be 1 or more, not 0"):
        cli.parse(evaluate.Options, [word])
