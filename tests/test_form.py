"""The form: classes, layout, marks, pages, files."""
import json

import numpy as np
import pytest
from conftest import assert_one_line_error, command, one_line_error
from PIL import Image

import data
from datasets import form
from utils.files import UserError

LAYOUT = form.make_layout(list("0123456789"), copies=20)


def test_classes_are_characters_with_their_accents_or_lines_of_a_file(tmp_path):
    assert form.read_classes("あいあ e\u0301x\u0308") == ["あ", "い", "é", "ẍ"]
    (tmp_path / "names.txt").write_text("ch\n\nsch\nch\n", "utf-8")
    assert form.read_classes(tmp_path / "names.txt") == ["ch", "sch"]
    for text in ("7", "", tmp_path / "none.txt"):
        with pytest.raises(UserError):
            form.read_classes(text)


def test_layout_has_every_cell_once_on_the_page_and_apart_from_the_marks():
    assert sorted(cell["class"] for cell in LAYOUT["cells"]) == sorted("0123456789" * 20)
    assert [cell["class"] for cell in LAYOUT["cells"][:11]] == list("01234567890")
    assert form.page_count(LAYOUT) == 2 and LAYOUT["cells"][120]["page"] == 2 and LAYOUT["cells"][120]["number"] == 1
    boxes = np.array([cell["box"] for cell in LAYOUT["cells"] if cell["page"] == 1])
    marks = [(*box.min(0), *box.max(0)) for box in form.mark_boxes(LAYOUT)]
    for i, (x, y, w, h) in enumerate(boxes):
        assert 5 < x and x + w < 205 and 5 < y and y + h < 292
        for left, top, right, bottom in [*marks, *((a, b, a + c, b + d) for a, b, c, d in boxes[:i])]:
            assert x > right or x + w < left or y > bottom or y + h < top


@pytest.mark.parametrize("n", [2, 7, 12, 26, 49])
def test_any_number_of_classes(n):
    layout = form.make_layout([chr(0x3041 + i) for i in range(n)], copies=3)
    assert len(layout["cells"]) == 3 * n and layout["code"] != LAYOUT["code"]
    with pytest.raises(UserError, match="pages"):
        form.make_layout(layout["classes"], 10 ** 6)


def test_marks_say_form_page_and_corner_in_any_turn():
    for code, page, corner in ((0, 0, 0), (65535, 255, 3), (LAYOUT["code"], 2, 1)):
        pattern = form.mark_pattern(code, page, corner)
        for turns in range(4):
            assert form.read_pattern(np.rot90(pattern, -turns)) == (code, page, corner, turns)
    wrong = 0
    for y in range(8):
        for x in range(8):
            spoilt = pattern.copy()
            spoilt[y, x] ^= True
            wrong += form.read_pattern(spoilt) is not None
    assert wrong == 0                                           # no single module can be misread


def test_page_shows_marks_cells_and_samples():
    page = form.draw_page(LAYOUT, 2)
    assert page.size == (2480, 3508)
    a = np.asarray(page)
    x, y = (round(v * form.DPI / 25.4) for v in form.mark_boxes(LAYOUT)[2][0])
    side = round(form.MARK * form.DPI / 25.4)
    modules = np.asarray(Image.fromarray(a[y:y + side, x:x + side, 0]).resize((8, 8), Image.Resampling.BOX)) < 128
    assert np.array_equal(modules, form.mark_pattern(LAYOUT["code"], 2, 2))
    x, y, w, h = (round(v * form.DPI / 25.4) for v in LAYOUT["cells"][127]["box"])
    assert (a[y:y + h, x, 0] > 240).all() and (a[y:y + h, x, 2] < 200).all()      # a line that red light does not show
    assert (a[y + 5:y + h - 5, x + 5:x + w - 5] == 255).all()
    assert (a[y - 60:y - 5, x + w // 3:x + w, 0] < 100).sum() > 100               # the sample: a 7
    assert (a[y - 60:y - 5, x + w // 3:x + w] == a[y - 60:y - 5, x + w // 3:x + w, :1]).all()


def test_sample_is_a_picture_or_a_code_point_where_no_font_has_it(tmp_path, monkeypatch):
    Image.new("L", (40, 40), 0).save(tmp_path / "U+4E00.png")
    Image.new("L", (40, 40), 0).save(tmp_path / "x.png")
    samples = form.read_samples(tmp_path, ["一", "二"])
    assert list(samples) == ["一"] and form.draw_sample("一", samples["一"], 60, 30).size == (30, 30)
    drawn = []
    monkeypatch.setattr(form.figures, "write", lambda image, x, y, text, *rest: drawn.append(text))
    monkeypatch.setattr(form, "can_draw", lambda name: name != "一")
    form.draw_sample("一", None, 120, 56)
    form.draw_sample("A", None, 120, 56)
    assert drawn == ["U+4E00", "A"]
    with pytest.raises(UserError, match="named after"):
        form.read_samples(tmp_path, ["A"])


def test_folders_are_safe_names():
    names = ["7", "あ", "A", "a", "/", "..", "ch", "ẍ", "x\u0323\u0308"]
    folders = [form.folder_name(name, names) for name in names]
    assert folders == ["7", "あ", "U+0041", "U+0061", "U+002F", "U+002E_U+002E", "ch", "ẍ", "U+0078_U+0323_U+0308"]


def test_writes_pages_and_layout(tmp_path, monkeypatch):
    monkeypatch.setattr(form, "draw_page", lambda layout, page, samples: Image.new("RGB", (248, 351), "white"))
    assert [path.name for path in form.write_form(LAYOUT, tmp_path / "a.png")] == ["a-1.png", "a-2.png", "a.json"]
    assert Image.open(tmp_path / "a-1.png").info["dpi"][0] == pytest.approx(300, abs=1)
    form.write_form(LAYOUT, tmp_path / "a.pdf")                  # the same form: its layout may lie there
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    assert form.read_layout(tmp_path / "a.json") == LAYOUT
    with pytest.raises(UserError, match="another form"):
        form.write_form(form.make_layout(["a", "b"], 2), tmp_path / "a.png")
    broken = {**LAYOUT, "cells": LAYOUT["cells"][1:]}
    for text in ("{}", "[]", "7", "nonsense", json.dumps(broken)):
        (tmp_path / "b.json").write_text(text)
        with pytest.raises(UserError, match="b.json"):
            form.read_layout(tmp_path / "b.json")


@pytest.mark.parametrize("out, taken", [("a.png", "a.png"), ("b.png", "b-2.png")])
def test_nothing_is_written_where_a_page_would_take_the_place_of_a_folder(tmp_path, out, taken):
    (tmp_path / taken).mkdir()
    with pytest.raises(UserError, match=f"{taken} is a folder"):
        form.write_form(form.make_layout(list("0123456789"), 2 if out == taken else 40), tmp_path / out)
    assert [p.name for p in tmp_path.iterdir()] == [taken]


def test_the_command(tmp_path):
    done = command("data.py", "--form", "٠١", "--copies", "2", "--out", tmp_path / "f.png")
    assert done.returncode == 0 and done.stdout.split() == [str(tmp_path / "f.png"), str(tmp_path / "f.json")]
    assert Image.open(tmp_path / "f.png").size == (2480, 3508)
    assert_one_line_error(command("data.py", "--form", "01", "--out", tmp_path / "f.gif"), ".png or .pdf")
    for words in (["--form", "01"], ["--form", "", "--out", "f.png"], ["mnist", "--form", "01", "--out", "f.png"],
                  ["--scan", "a.jpg", "--out", "x"]):
        assert "--form" in one_line_error(data.main, *words)
