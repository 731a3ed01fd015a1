"""report.py: a page that needs nothing else, escapes what it is given, stays small, can be read without pictures."""
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from study import report
from utils.files import UserError

PROTOCOL = {"dataset": "ink", "dataset_sha256": "0123456789abcdef", "test_images": 1000, "form": "quick", "seeds": 3,
            "seconds": 200.0, "machine": {"processor": "Abacus", "threads": 2, "device": "cpu"},
            "versions": {"torch": "2.13"}}


def section(title="Quality", words=("It works.",), tables=(), pictures=(), numbers=({"n": 1})):
    return {"title": title, "words": list(words), "tables": list(tables), "pictures": list(pictures),
            "numbers": numbers, "protocol": PROTOCOL}


def results(**sections):
    return {"version": 1,
            "dataset": {"name": "ink", "sha256": "0123456789abcdef", "source": "drawn", "license": "MIT",
                        "classes": ["a", "b"], "images": {"train": 10, "val": 2, "test": 1000}, "notes": []},
            "machine": PROTOCOL["machine"], "versions": {"torch": "2.13", "python": "3.11"}, "sections": sections}


TABLE = {"title": "Scores", "columns": ["", "Accuracy", "Class"], "note": "Higher is better.",
         "rows": [["real", "91.2 % ± 0.4", "x"], ["made", "-", "y"]]}


class Reader(HTMLParser):
    """Every tag with its attributes, in order; checks that tags are closed in the order they were opened."""
    VOID = {"meta", "img", "br"}

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
    """A folder with a large PNG and an animated GIF that cannot be compressed."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (900, 1200, 3), dtype=np.uint8)).save(tmp_path / "noise.png")
    frames = [Image.fromarray(rng.integers(0, 256, (700, 900), dtype=np.uint8)) for _ in range(9)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    return tmp_path


def test_page_is_well_formed_and_needs_nothing_from_elsewhere(noisy):
    pictures = [{"file": "noise.png", "alt": "grey noise", "caption": "Noise."},
                {"file": "film.gif", "alt": "moving noise", "caption": ""}]
    text = report.page(results(quality=section(tables=[TABLE], pictures=pictures)), noisy)
    page = Reader(text)
    rest = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"https?:|//|url\(|@import", rest) and "script" not in {tag for tag, _ in page.tags}
    sources = [a["src"] for tag, a in page.tags if tag == "img"]
    assert len(sources) == 2 and all(s.startswith("data:image/") for s in sources)
    assert {"src", "href"} & {k for tag, a in page.tags for k in a if tag in ("link", "iframe", "source")} == set()
    links = [a["href"] for tag, a in page.tags if tag == "a"]
    assert links == ["#quality"] and ("section", {"id": "quality"}) in page.tags


def test_every_picture_says_what_it_shows(noisy):
    shown = [{"file": "noise.png", "alt": 'a "noisy" <field>', "caption": ""}]
    page = Reader(report.page(results(quality=section(pictures=shown)), noisy))
    assert [a["alt"] for tag, a in page.tags if tag == "img"] == ['a "noisy" <field>']


def test_page_stays_below_the_limit(noisy):
    sizes = sum(p.stat().st_size for p in noisy.iterdir())
    assert sizes * 4 / 3 > report.LIMIT
    pictures = [{"file": p.name, "alt": "noise", "caption": ""} for p in sorted(noisy.iterdir())]
    text = report.page(results(quality=section(pictures=pictures)), noisy)
    assert len(text.encode()) < report.LIMIT and text.count("<img") == 2


def test_what_is_given_is_text_not_html():
    evil = "<script>alert(1)</script> & <b>"
    table = {"title": evil, "columns": [evil] * 3, "rows": [[evil] * 3], "note": evil}
    given = results(quality=section(title=evil, words=[evil], tables=[table]))
    given["dataset"].update(name=evil, source=evil, notes=[evil])
    page = Reader(report.page(given, None))
    assert not {"script", "b"} & {tag for tag, _ in page.tags}
    assert page.words.count("<script>alert(1)</script> & <b>") >= 12


def test_numbers_stand_to_the_right():
    assert report.numeric_columns(TABLE["rows"]) == [False, True, False]
    assert report.numeric_columns([["1", "±0.3", ""], ["2", "n/a", ""]]) == [False, True, False]
    page = Reader(report.page(results(quality=section(tables=[TABLE])), None))
    heads = [(a.get("scope"), a.get("class")) for tag, a in page.tags if tag == "th"]
    assert heads == [("col", None), ("col", "n"), ("col", None), ("row", None), ("row", None)]


def test_news_come_from_the_sections_that_measured_something():
    given = results(classifier=section(words=["Classifier news."]), quality=section(words=["Quality news.", "More."]),
                    ocr=section(words=["Not measured."], numbers={}), saliency=section(words=["Saliency news."]),
                    robustness=section(words=["Robust news."]))
    assert report.summary(given) == ["Quality news.", "Robust news.", "Classifier news."]


def test_page_of_no_sections_and_a_picture_that_is_gone(tmp_path):
    Reader(report.page(results(), tmp_path))
    with pytest.raises(UserError, match="gone.png"):
        report.page(results(quality=section(pictures=[{"file": "gone.png", "alt": "", "caption": ""}])), tmp_path)


def test_colours_are_readable_in_both_modes():
    """Contrast of text on paper is at least 4.5 to 1 (WCAG 2, AA)."""
    def luminance(colour):
        c = np.array([int(colour[i:i + 2], 16) for i in (1, 3, 5)]) / 255
        return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)
    modes = re.findall(r":root \{(.*?)\}", report.STYLE, re.S)[:2]
    for mode in modes:
        colours = dict(re.findall(r"--(\w+): (#\w{6});", mode))
        for name in ("ink", "soft", "accent"):
            dark, light = sorted((luminance(colours[name]), luminance(colours["paper"])))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (mode, name)
