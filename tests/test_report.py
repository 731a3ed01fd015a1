"""report.py: files of sections, a page that needs nothing else and escapes what it is given, Markdown."""
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from data import Glyphs
from study import report
from utils.files import UserError

PROTOCOL = {"dataset": "ink", "dataset_sha256": "0123456789abcdef", "test_images": 1000, "form": "quick", "seeds": 3,
            "seconds": 200.0, "machine": {"processor": "Abacus", "threads": 2, "device": "cpu"}, "models": {},
            "real_images": False, "versions": {"torch": "2.13"}, "command": "python evaluate.py --only ocr"}
DATASET = {"name": "ink", "sha256": "0123456789abcdef", "source": "drawn", "license": "MIT", "classes": ["a", "b"],
           "images": {"train": 10, "val": 2, "test": 1000}, "notes": []}
TABLE = {"title": "Scores", "columns": ["", "Accuracy", "Class"], "note": "Higher is better.",
         "rows": [["real", "91.2 % ± 0.4", "x"], ["made | up", "-", "y"]]}
NOISE, FILM = ({"file": file, "alt": f"noise in {file}", "caption": "Noise."} for file in ("noise.png", "../film.gif"))


def section(**changes):
    return {"version": report.VERSION, "title": "Good?", "answer": "It works.", "paragraphs": [], "tables": [],
            "figures": [], "numbers": {"n": 1}, "protocol": PROTOCOL, "dataset": DATASET, **changes}


class Reader(HTMLParser):
    """Every tag with its attributes, in order; checks that tags are closed in the order they were opened."""
    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open += [tag] * (tag not in self.VOID)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


@pytest.fixture
def noisy(tmp_path):
    """A folder of results with a PNG in it, and an animated GIF beside it."""
    rng, folder = np.random.default_rng(0), tmp_path / "results"
    folder.mkdir()
    Image.fromarray(rng.integers(0, 256, (90, 1200, 3), dtype=np.uint8)).save(folder / "noise.png")
    frames = [Image.fromarray(rng.integers(0, 256, (70, 90), dtype=np.uint8)) for _ in range(3)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    return folder


def test_page_is_well_formed_and_needs_nothing_from_elsewhere(noisy):
    text = report.page({"quality": section(tables=[TABLE], figures=[NOISE, FILM])}, noisy)
    page = Reader(text)
    rest = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"https?:|//|url\(|@import", rest) and "script" not in {tag for tag, _ in page.tags}
    images = [a for tag, a in page.tags if tag == "img"]
    assert [a["src"][:15] for a in images] == ["data:image/png;", "data:image/gif;"]
    assert [a["alt"] for a in images] == ["noise in noise.png", "noise in ../film.gif"]
    assert {"src", "href"} & {k for tag, a in page.tags for k in a if tag in ("link", "iframe", "source")} == set()
    links = [a["href"] for tag, a in page.tags if tag == "a"]
    assert links == ["#quality"] and ("section", {"id": "quality"}) in page.tags


def test_a_question_has_one_answer_one_figure_one_table_and_the_rest_folds_away(noisy):
    more = section(tables=[TABLE, TABLE], figures=[NOISE, FILM], paragraphs=["At length."])
    tags = [tag for tag, _ in Reader(report.page({"ocr": more}, noisy)).tags]
    shown, folded = tags[:tags.index("details")], tags[tags.index("details"):]
    assert [shown.count(tag) for tag in ("img", "table")] == [folded.count(tag) for tag in ("img", "table")] == [1, 1]
    page = report.page({"ocr": more}, noisy)
    assert page.count("It works.") == 2 and page.index("<details>") < page.index("At length.")     # on top, and in place
    assert "details" not in [tag for tag, _ in Reader(report.page({"ocr": section(tables=[TABLE])}, noisy)).tags]


def test_what_is_given_is_text_not_html(noisy):
    evil = "<script>alert(1)</script> & <b>"
    given = section(title=evil, answer=evil, paragraphs=[evil], figures=[{**NOISE, "alt": 'a "<b>" field', "caption": evil}],
                    tables=[{"title": evil, "columns": [evil] * 3, "rows": [[evil] * 3], "note": evil}],
                    dataset={**DATASET, "name": evil, "source": evil, "notes": [evil]})
    page = Reader(report.page({"quality": given}, noisy))
    assert not {"script", "b"} & {tag for tag, _ in page.tags}
    assert page.words.count(evil) >= 12 and [a["alt"] for tag, a in page.tags if tag == "img"] == ['a "<b>" field']


def test_numbers_stand_to_the_right(noisy):
    assert report.numeric_columns(TABLE) == [False, True, False]
    rows = [["1", "±0.3", ""], ["2", "n/a", ""]]
    assert report.numeric_columns({**TABLE, "rows": rows}) == [False, True, False]
    assert report.numeric_columns({**TABLE, "rows": []}) == [False, False, False]
    page = Reader(report.page({"quality": section(tables=[TABLE])}, noisy))
    heads = [(a.get("scope"), a.get("class")) for tag, a in page.tags if tag == "th"]
    assert heads == [("col", None), ("col", "n"), ("col", None), ("row", None), ("row", None)]
    assert [a.get("class") for tag, a in page.tags if tag == "td"] == ["n", None] * 2


def test_a_figure_that_is_gone_is_named(tmp_path):
    with pytest.raises(UserError, match="noise.png"):
        report.page({"quality": section(figures=[NOISE])}, tmp_path)


def test_colours_are_readable_in_both_modes():
    """Contrast of text on paper is at least 4.5 to 1 (WCAG 2, AA)."""
    def luminance(colour):
        c = np.array([int(colour[i:i + 2], 16) for i in (1, 3, 5)]) / 255
        return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)
    modes = re.findall(r":root \{(.*?)\}", report.STYLE, re.DOTALL)[:2]
    assert len(modes) == 2
    for mode in modes:
        colours = dict(re.findall(r"--(\w+): (#\w{6});", mode))
        for name in ("ink", "soft", "accent"):
            dark, light = sorted((luminance(colours[name]), luminance(colours["paper"])))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (mode, name)


# ---- files ---------------------------------------------------------------------------------------

GLYPHS = Glyphs("ink", ["a", "b"], *(np.zeros((n, 28, 28), np.uint8) if i % 2 == 0 else np.zeros(n, np.int64)
                                     for i, n in enumerate([10, 10, 2, 2, 1000, 1000])), "drawn", "MIT", False)


def test_a_section_is_stored_with_its_figures(tmp_path):
    film, out = tmp_path / "models" / "film.gif", tmp_path / "out"
    film.parent.mkdir()
    Image.new("P", (20, 10)).save(film)
    shown = [report.Figure("dot", Image.new("RGB", (4, 4)), "a dot"), report.Figure("film", film, "a film")]
    given = report.Section("ocr", "Good?", ["News."], [report.Table("T", ["a"], [["b"]])], shown, {"x": np.float64(1)}, "Yes.",
                           {"seeds": 7})
    report.save(given, PROTOCOL, GLYPHS, ["A note."], out)
    (key, stored), = report.read_all(out).items()
    assert [f["file"] for f in stored["figures"]] == ["dot.png", "../models/film.gif"]      # shown from where it lies
    assert sorted(p.name for p in out.iterdir()) == ["dot.png", "ocr.json"] and key == "ocr"
    assert stored["numbers"] == {"x": 1.0} and stored["tables"][0]["rows"] == [["b"]]
    assert stored["protocol"] == {**PROTOCOL, "seeds": 7} and stored["answer"] == "Yes."
    assert stored["dataset"]["images"] == {"train": 10, "val": 2, "test": 1000} and stored["dataset"]["notes"] == ["A note."]
    report.write_page(out)
    report.remove("ocr", out)
    assert sorted(p.name for p in out.iterdir()) == ["report.html"] and film.is_file()


@pytest.mark.parametrize("text", ["{}", "[1]", "half a li", '{"version": 1, "sections": {}}',
                                  json.dumps(section(protocol={})), json.dumps(section(dataset={"name": "ink"}))])
def test_damaged_results_are_named(tmp_path, text):
    (tmp_path / "ocr.json").write_text(text)
    with pytest.raises(UserError, match="ocr.json is damaged"):
        report.write_page(tmp_path)


def test_numbers_become_json(tmp_path):
    given = {1: np.float32(0.5), "a": np.array([1, 2]), "b": (np.int64(3), float("nan")), "c": None,
             "d": [np.bool_(True), float("inf")], "e": np.array([np.nan])}
    report.write("ocr", section(numbers=given), tmp_path)
    assert "NaN" not in (tmp_path / "ocr.json").read_text() and "Infinity" not in (tmp_path / "ocr.json").read_text()
    stored = report.read(tmp_path / "ocr.json")["numbers"]
    assert stored == {"1": 0.5, "a": [1, 2], "b": [3, None], "c": None, "d": [True, None], "e": [None]}


def test_markdown_shows_every_folder(noisy, tmp_path):
    (noisy / "kana").mkdir()
    stale = {**PROTOCOL, "stale": "measured on other data"}
    for folder, stored in ((noisy, section(tables=[TABLE], figures=[NOISE, FILM], answer="Up | down.")),
                           (noisy / "kana", section(dataset={**DATASET, "name": "kana"}, protocol=stale))):
        report.write("ocr", stored, folder)
    target = tmp_path / "docs" / "results.md"
    report.write_markdown(noisy, target)
    text = target.read_text(encoding="utf-8")
    assert "## ink\n" in text and "## kana\n" in text and text.count("### Good?") == 2 and "\n\n\n" not in text
    assert "| made \\| up | - | y |" in text and "| --- | ---: | --- |" in text and "Higher is better." in text
    assert "![noise in noise.png](../results/noise.png)" in text and "[film.gif](../film.gif)" in text
    assert "ink (sha256 0123456789ab), 1,000 test images" in text and "\n    python evaluate.py --only ocr\n" in text
    assert text.count("Stale: measured on other data.") == 1


@pytest.mark.parametrize("key, value", [
    ("title", 5), ("tables", [{"title": "t", "columns": ["a", "b"], "rows": [["1"]], "note": ""}]), ("tables", {}),
    ("tables", [{"title": "t", "columns": ["a"], "rows": [[1]], "note": ""}]), ("paragraphs", "text"), ("numbers", []),
    ("figures", [{"file": "notes.txt", "alt": "", "caption": ""}]),
    ("figures", [{"file": "/x.png", "alt": "", "caption": ""}]),
    ("figures", [{"file": "a.png"}]), ("version", "2"), ("version", [2]), ("answer", "\ud800"),
    ("answer", [["a"] * 3] * 3)])
def test_results_of_wrong_inner_types_are_named(tmp_path, key, value):
    (tmp_path / "ocr.json").write_text(json.dumps({**section(), key: value}))
    with pytest.raises(UserError, match="ocr.json is damaged"):
        report.read_all(tmp_path)


def test_results_nested_without_end_are_named(tmp_path):
    (tmp_path / "ocr.json").write_text(json.dumps(section())[:-1] + ', "more": ' + "[" * 10 ** 5 + "]" * 10 ** 5 + "}")
    with pytest.raises(UserError, match="ocr.json is damaged"):
        report.read_all(tmp_path)
