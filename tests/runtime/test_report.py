"""The HTML report: its numbers agree with an independent count, and no file name can harm the page."""

import io
import re
import shutil
import subprocess
import time
import tracemalloc
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from cifar10_runtime import Prediction
from cifar10_runtime.results.gallery import FAILURES, TILES
from cifar10_runtime.results.page import Report
from cifar10_runtime.results.statistics import BINS
from cifar10_runtime.results.thumbnails import thumbnail
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

LABELS = ("cat", "dog", "ship")
VOID = {"meta", "link", "img", "br"}
HOSTILE = "\"><script>alert(1)\n'&amp;\udcff\u202e\x00.png"


@dataclass
class Page(HTMLParser):
    """The elements of a page; fails if start and end tags do not match."""

    html: str
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    """(tag, name, value) of every attribute."""
    texts: list[tuple[str, str]] = field(default_factory=list)
    """(names of the open tags, joined by blanks; text)"""

    def __post_init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(self.html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record the attributes and open the element."""
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the element."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Record the text."""
        if data.strip():
            self.texts.append((" ".join(self.open), data.strip()))

    def values(self, name: str, tag: str = "") -> list[str]:
        """The values of an attribute in all elements, or in the elements ``tag``."""
        return [value for element, attribute, value in self.attributes if attribute == name and tag in ("", element)]

    def inside(self, *tags: str) -> list[str]:
        """The texts whose innermost tags are ``tags``."""
        return [text for path, text in self.texts if f" {path}".endswith(f" {' '.join(tags)}")]


def page(*predictions: Prediction, labels: tuple[str, ...] = LABELS, title: str = "images/") -> Page:
    collected = Report(labels)
    for prediction in predictions:
        collected.add(prediction)
    return Page(collected.html(title, {"Model": "fp32"}))


def read(path: str, *choices: tuple[str, float]) -> Prediction:
    return Prediction(path, choices or (("cat", 0.9), ("dog", 0.1)))


@st.composite
def predictions(draw: st.DrawFn) -> Prediction:
    """A file in a folder named after a class or not; about one in six could not be read."""
    folder = draw(st.sampled_from((*LABELS, "other")))
    path = f"{folder}/{draw(st.integers(0, 999))}.png"
    if draw(st.integers(0, 5)) == 0:
        return Prediction(path, (), "no image")
    label, probability = draw(st.sampled_from(LABELS)), draw(st.floats(0.25, 1, width=32))
    return Prediction(path, ((label, probability), ("second", 1 - probability)))


@settings(max_examples=60)
@given(st.lists(predictions(), max_size=40))
def test_the_numbers_on_the_page_agree_with_an_independent_count(given_predictions: list[Prediction]) -> None:
    shown = page(*given_predictions)
    good = [prediction for prediction in given_predictions if not prediction.error]
    pairs = [(Path(prediction.path).parent.name, prediction.label) for prediction in good]
    known = Counter(pair for pair in pairs if pair[0] in LABELS)
    correct = sum(known[label, label] for label in LABELS)
    facts = dict(zip(shown.inside("dt"), shown.inside("dd"), strict=True))
    assert facts["Classified"] == f"{len(good)} image{'' if len(good) == 1 else 's'}"
    failed = len(given_predictions) - len(good)
    assert facts.get("Not read") == (f"{failed} file{'' if failed == 1 else 's'}" if failed else None)
    assert facts.get("Accuracy") == (f"{correct / known.total():.2%}" if known else None)
    if good:
        mean = 100 * np.mean([prediction.probability for prediction in good])
        assert float(facts["Mean confidence"].rstrip("%")) == pytest.approx(mean, abs=0.006)
    cells = shown.values("title", "td")
    assert cells == (expected_cells(known) if known else [])
    assert columns(shown) == expected_columns(good, pairs)
    if good:
        assert class_rows(shown) == expected_rows(pairs, known)


def expected_cells(known: Counter[tuple[str, str]]) -> list[str]:
    cells = []
    for truth in LABELS:
        whole = sum(known[truth, label] for label in LABELS)
        for label in LABELS:
            share = f"{known[truth, label] / whole:.1%}" if whole else "—"
            cells.append(f"{truth} taken for {label}: {known[truth, label]} of {whole} ({share})")
    return cells


def columns(shown: Page) -> list[tuple[int, int]]:
    """(images, wrong predictions) of each column of the histogram."""
    texts = [re.findall(r"(\d+) (?:image|wrong)", text) for text in shown.inside("ol", "li", "span")]
    return [(int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else 0) for numbers in texts]


def expected_columns(good: list[Prediction], pairs: list[tuple[str, str]]) -> list[tuple[int, int]]:
    if not good:
        return []
    values = np.array([prediction.probability for prediction in good])
    wrong = np.array([folder in LABELS and folder != label for folder, label in pairs])
    edges = np.linspace(0, 1, BINS + 1)
    counts, errors = np.histogram(values, edges)[0], np.histogram(values[wrong], edges)[0]
    return list(zip(counts.tolist(), errors.tolist(), strict=True))


def class_rows(shown: Page) -> list[str]:
    """The texts in the first table, row after row."""
    first = shown.html.split("<tbody>")[1].split("</tbody>")[0]
    return [text for _, text in Page(first).texts]


def expected_rows(pairs: list[tuple[str, str]], known: Counter[tuple[str, str]]) -> list[str]:
    texts = []
    for label in LABELS:
        texts += [label, str(sum(predicted == label for _, predicted in pairs))]
        if known:
            actual = sum(known[label, predicted] for predicted in LABELS)
            predicted = sum(known[truth, label] for truth in LABELS)
            hits = known[label, label]
            texts += [str(actual), *(f"{hits / whole:.1%}" if whole else "—" for whole in (actual, predicted))]
    return texts


def test_the_worst_mistakes_and_the_least_certain_are_shown_in_order() -> None:
    rng = np.random.default_rng(0)
    confidences = rng.permutation(np.linspace(0.4, 0.9, 500)).tolist()
    folders = rng.choice(LABELS, 500).tolist()
    given_predictions = [
        read(f"{folder}/{number}.png", ("cat", confidence), ("dog", 1 - confidence))
        for number, (folder, confidence) in enumerate(zip(folders, confidences, strict=True))
    ]
    by_confidence = sorted(given_predictions, key=lambda prediction: prediction.probability)
    wrong = [prediction for prediction in reversed(by_confidence) if not prediction.path.startswith("cat/")]
    paths = page(*given_predictions).values("title", "li")[BINS:]
    assert paths[:TILES] == [prediction.path for prediction in wrong[:TILES]]
    doubts = paths[TILES : 2 * TILES]
    assert doubts == [prediction.path for prediction in by_confidence[:TILES]]
    examples = paths[2 * TILES :]
    assert len(set(examples)) == 24
    assert examples == [prediction.path for prediction in reversed(by_confidence) if prediction.path in examples]


def test_examples_are_a_uniform_sample() -> None:
    """Not the first files, which in sorted folders are all of one class. A fixed seed makes the test exact."""
    collected = Report(LABELS)
    for number in range(10_000):
        collected.add(read(f"{number}.png"))
    numbers = [int(Path(path).stem) for path in Page(collected.html("", {})).values("title", "li")[-24:]]
    assert 3_000 < np.mean(numbers) < 7_000
    assert np.std(numbers) > 2_000


def test_the_same_predictions_give_the_same_page(folder: Path) -> None:
    given_predictions = [read(str(path)) for path in sorted(folder.rglob("*.png"))]
    assert page(*given_predictions).html == page(*given_predictions).html


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(HOSTILE, id="quotes, script, unprintable characters"),
        pytest.param("--><img src=x onerror=alert(1)>", id="end of a comment"),
        pytest.param("$title ${sections} \\ é 猫", id="string template"),
        pytest.param("{{ title }} {% raw %} {# x #}", id="Jinja template"),
    ],
)
def test_markup_in_texts_is_escaped(text: str) -> None:
    """The page has the same elements with the same attributes as a page with harmless texts."""

    def shown(text: str) -> Page:
        collected = Report((text, "other"))
        for path in (f"{text}/{text}", f"other/{text}"):
            collected.add(read(path, (text, 0.6), ("other", 0.4)))
        collected.add(Prediction(text, (), text))
        return Page(collected.html(text, {text: text}))

    hostile, harmless = shown(text), shown("text")
    assert [names[:2] for names in hostile.attributes] == [names[:2] for names in harmless.attributes]
    assert [tags for tags, _ in hostile.texts] == [tags for tags, _ in harmless.texts]
    visible = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    assert hostile.inside("h1") == [visible]
    assert hostile.inside("tr", "td")[-1] == visible
    assert f"{visible}/{visible}" in hostile.values("title", "li")


@settings(max_examples=100)
@given(st.text(st.characters(), max_size=300))
def test_any_name_is_encoded_as_utf8_and_a_long_name_is_shortened(name: str) -> None:
    html = page(Prediction(name, (("cat", 1.0),)), Prediction(name, (), name), title=name).html
    assert len(html.encode("utf-8")) < 60_000
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", html)


def test_the_page_loads_nothing_from_elsewhere(folder: Path) -> None:
    shown = page(*(read(str(path)) for path in sorted(folder.rglob("*.png"))), Prediction("x", (), "no"))
    addresses = shown.values("src") + shown.values("href")
    assert len(shown.values("src", "img")) > 24
    assert all(address.startswith(("data:", "#")) for address in addresses)
    targets = {address[1:] for address in addresses if address.startswith("#")}
    assert targets <= set(shown.values("id"))
    assert "default-src 'none'" in next(value for value in shown.values("content") if "src" in value)
    for word in ("url(", "@import", "<script", "http://", "https://"):
        assert word not in shown.html


def test_pictures_have_alternative_texts_and_tables_have_scopes(folder: Path) -> None:
    shown = page(*(read(str(path)) for path in sorted(folder.rglob("*.png"))))
    assert len(shown.values("alt", "img")) == len(shown.values("src", "img"))
    assert all(shown.values("alt", "img"))
    assert len(shown.values("scope", "th")) == shown.html.count("<th ")
    assert len(shown.values("id")) == len(set(shown.values("id")))


def test_a_deleted_image_gives_an_empty_frame() -> None:
    shown = page(read("gone/image.png"))
    assert shown.values("src", "img") == []
    assert "image.png, no longer readable" in shown.values("aria-label")


@pytest.mark.parametrize(("size", "kept"), [((32, 32), 32), ((20, 50), 20), ((1, 1), 1), ((300, 200), 64)], ids=str)
def test_a_thumbnail_keeps_the_pixels_of_a_small_image(tmp_path: Path, size: tuple[int, int], kept: int) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    with Image.open(io.BytesIO(thumbnail(str(path), "white", 1 << 26))) as picture:
        assert picture.size == (kept, kept)
        if size == (32, 32):
            assert np.array_equal(np.asarray(picture), np.asarray(Image.open(path)))


def test_the_page_leaves_out_sections_without_content() -> None:
    assert page().inside("h2") == []
    assert page(Prediction("a", (), "no"), Prediction("b", (), "no")).inside("h2") == ["Not read"]
    assert page(read("elsewhere/a.png")).inside("h2") == ["Classes", "Confidence", "Least certain", "Examples"]
    everything = page(read("dog/a.png"), Prediction("a", (), "no")).inside("h2")
    assert set(everything) > {"Confusion matrix", "Worst mistakes", "Not read"}


def test_the_first_failures_are_listed_and_all_are_counted() -> None:
    shown = page(*(Prediction(f"{number}.png", (), "no image") for number in range(1_234)))
    assert shown.inside("tr", "th") == [f"{number}.png" for number in range(FAILURES)]
    assert "1,234 files" in shown.inside("dd")
    assert "1,234 files could not be read; the first 100 are:" in shown.inside("p")
    assert "1 file could not be read:" in page(Prediction("a", (), "no")).inside("p")


def test_nan_and_infinity_count_as_confidence_0_and_1() -> None:
    shown = page(read("cat/a", ("cat", float("nan"))), read("cat/b", ("cat", float("inf"))))
    assert columns(shown)[0] == columns(shown)[-1] == (1, 0)


def test_adding_a_prediction_is_fast_and_memory_is_constant() -> None:
    ranking = tuple((label, 0.5) for label in LABELS)
    collected = Report(LABELS)

    def add(count: int) -> None:
        for number in range(count):
            collected.add(Prediction(f"images/{LABELS[number % 3]}/{number}.png", ranking))
            collected.add(Prediction(f"images/{number}.png", (), "no image"))

    start = time.process_time()
    add(20_000)
    assert (time.process_time() - start) / 40_000 < 50e-6, "a few microseconds, with room for a busy machine"
    tracemalloc.start()
    add(5_000)
    before = tracemalloc.get_traced_memory()[0]
    add(20_000)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 20_000


def test_the_page_has_a_limited_size(tmp_path: Path) -> None:
    """A thousand classes with long names that must be escaped, and pictures of noise."""
    path = tmp_path / ("'" * 200 + ".png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    labels = tuple("&" * 200 + str(number) for number in range(1_000))
    collected = Report(labels)
    for number in range(20_000):
        choices = tuple((label, 0.9 - place) for place, label in enumerate(labels[number % 1_000 :][:2]))
        collected.add(Prediction(str(path), choices))
        collected.add(Prediction("\udcff" * 500, (), "<" * 500))
    html = collected.html("images/", {})
    assert len(html.encode("utf-8")) < 4_000_000
    assert "The 50 most frequent of 1,000 classes." in Page(html).inside("p")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The first words of the command that starts a headless browser."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed")
    words = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --hide-scrollbars"
    quiet = "--disable-component-update --disable-sync"
    return [program, *words.split(), *quiet.split(), f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]


def browse(*words: object) -> str:
    return subprocess.run([*map(str, words)], capture_output=True, check=True, timeout=120, text=True).stdout


def test_a_browser_shows_the_page_in_light_and_dark(chromium: list[str], folder: Path, tmp_path: Path) -> None:
    """A script in a page around the report measures it, because the report allows no scripts."""
    paths = sorted(folder.rglob("*.png"))
    shown = page(*(read(str(path), (LABELS[0], 0.5), (LABELS[1], 0.3)) for path in paths), Prediction("x", (), HOSTILE))
    (tmp_path / "report.html").write_text(shown.html, "utf-8")
    (tmp_path / "around.html").write_text(
        """<!doctype html><iframe src="report.html" width="390" height="800"></iframe><pre></pre><script>
        onload = () => {
            const page = frames[0].document, pictures = [...page.images]
            const broken = pictures.filter(picture => !picture.complete || !picture.naturalWidth).length
            const wide = page.documentElement.scrollWidth
            document.querySelector("pre").textContent = JSON.stringify(
                {pictures: pictures.length, broken, wide, scripts: page.scripts.length})
        }
        </script>"""
    )
    dom = browse(*chromium, "--allow-file-access-from-files", "--dump-dom", f"file://{tmp_path}/around.html")
    expected = f'{{"pictures":{len(shown.values("src", "img"))},"broken":0,"wide":390,"scripts":0}}'
    assert f"<pre>{expected}</pre>" in dom
    corners = []
    for scheme in (0, 1):  # Chromium's numbers for dark and light
        picture = tmp_path / f"{scheme}.png"
        look = (f"--blink-settings=preferredColorScheme={scheme}", "--window-size=1200,900", f"--screenshot={picture}")
        browse(*chromium, *look, f"file://{tmp_path}/report.html")
        pixels = np.asarray(Image.open(picture).convert("L"))
        corners.append(int(pixels[2, 2]))
        assert abs(pixels[:300].astype(int) - corners[-1]).max() > 150, "text on a background"
    assert corners[0] < 50 < 200 < corners[1]
