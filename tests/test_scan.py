"""Photographs of a filled-in form -> folders of glyphs: found in any turn, cut into the right class, faults named."""
import json
import shutil

import numpy as np
import pytest
from conftest import assert_one_line_error, command
from PIL import Image

import data
from datasets import form, scan, strokes
from datasets.normalize import normalize_image
from utils.files import UserError

LAYOUT = form.make_layout(list("012Aa"), copies=8)            # 40 cells of ten a row
GLYPHS = dict(zip("012", [strokes.generate(60, seed=5)[0][np.flatnonzero(strokes.generate(60, seed=5)[1] == k)]
                          for k in range(3)]))
EMPTY, SPOILT = {4, 13, 40}, 21


def filled_page():
    """The page at 150 dpi, uint8 [1754, 1240, 3], with drawn digits (as A and a, too) in all cells but three."""
    page = np.array(form.draw_page(LAYOUT, 1).reduce(2))
    for cell in LAYOUT["cells"]:
        x, y, side, _ = (round(v * 150 / 25.4) for v in cell["box"])
        part = page[y + 6:y + side - 6, x + 6:x + side - 6]
        if cell["number"] == SPOILT:
            part[:] = 40
        elif cell["number"] not in EMPTY:
            images = GLYPHS[{"A": "1", "a": "2"}.get(cell["class"], cell["class"])]
            ink = Image.fromarray(images[cell["number"] % len(images)]).resize(part.shape[1::-1])
            part[:] = part * (1 - np.asarray(ink)[..., None] / 300)
    return page


PAGE = filled_page()


def photograph(page, corners, size=(1300, 1700), shadow=True):
    """The page with its corners (clockwise from its top left) at these places of a photograph."""
    flat = np.array([(0, 0), (1240, 0), (1240, 1754), (0, 1754)], np.float64)
    back = scan.homography(np.array(corners, np.float64), flat)
    image = Image.fromarray(page).transform(size, Image.Transform.PERSPECTIVE, (back / back[2, 2]).ravel()[:8],
                                            Image.Resampling.BILINEAR, fillcolor=(70, 60, 50))
    a = np.asarray(image, np.float32)
    if shadow:
        a = a * (1 - 0.4 / (1 + np.exp(-(np.arange(size[0])[:, None] - 0.4 * size[0]) / 20)))
    a = a + np.random.default_rng(0).normal(0, 4, a.shape)
    return Image.fromarray(np.clip(a, 0, 255).astype(np.uint8))


TILTED = [(120, 90), (1090, 40), (1230, 1620), (40, 1650)]
TURNED = TILTED[2:] + TILTED[:2]                               # the same, upside down
SIDEWAYS = TILTED[1:] + TILTED[:1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """form.json and three photographs of the one page."""
    folder = tmp_path_factory.mktemp("paper")
    (folder / "form.json").write_text(json.dumps(LAYOUT))
    for name, corners in (("anna", TILTED), ("ben", TURNED), ("cleo", SIDEWAYS)):
        photograph(PAGE, corners).save(folder / f"{name}.jpg", quality=60)
    return folder


@pytest.fixture(scope="module", autouse=True)
def each_page_is_read_once():
    """Most tests look at the same photographs."""
    pages, read_page = {}, scan.read_page

    def read_once(path, layout):
        key = str(path), layout["code"]
        pages[key] = pages.get(key) or read_page(path, layout)
        return pages[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "read_page", read_once)
        yield


def test_homography_is_exact():
    points = np.random.default_rng(1).uniform(0, 300, (16, 2))
    h = np.array([[0.9, 0.1, 30], [-0.2, 1.1, 5], [1e-4, -2e-4, 1]])
    found = scan.homography(points, scan.project(h, points))
    assert np.allclose(scan.project(found, points + 7), scan.project(h, points + 7), atol=1e-6)


def test_page_is_found_in_any_turn_to_a_fraction_of_a_millimetre(folder):
    for name in ("anna", "ben", "cleo"):
        flat, page, misfit = scan.read_page(folder / f"{name}.jpg", LAYOUT)
        assert page == 1 and flat.shape == (2376, 1680) and misfit < 0.3
        states = {cell["number"]: state for cell, _, state in scan.cut_cells(flat, LAYOUT, 1)}
        assert {number for number, state in states.items() if state == "empty"} == EMPTY
        assert [number for number, state in states.items() if state == "spoilt"] == [SPOILT]
        drawn = np.asarray(Image.fromarray(PAGE).convert("L").resize((1680, 2376)), float)[250:1000, 120:1560]
        drawn[drawn > 170] = 255                               # cell lines
        assert np.corrcoef(flat[250:1000, 120:1560].ravel(), drawn.ravel())[0, 1] > 0.9


def test_folders_sheet_and_what_is_said(folder, tmp_path, capsys):
    out = tmp_path / "letters"
    data.main(["--scan", str(folder / "anna.jpg"), str(folder / "ben.jpg"), "--form", str(folder / "form.json"),
               "--out", str(out)])
    said = capsys.readouterr().out
    assert "page 1, 36 glyphs cut, 3 empty cells left out, 1 spoilt" in said and "72 glyphs" in said
    assert sorted(path.name for path in out.iterdir()) == ["0", "1", "2", "U+0041", "U+0061"]
    assert len(list(out.glob("*/anna-p1-c*.png"))) == len(list(out.glob("*/ben-p1-c*.png"))) == 36
    glyph = np.asarray(Image.open(out / "0" / "anna-p1-c001.png"))
    assert glyph.dtype == np.uint8 and glyph.shape == (105, 105) and np.median(glyph) == 255 and glyph.min() < 80
    sheet = Image.open(tmp_path / "letters-sheet.png")
    assert sheet.width > 500 and sheet.height > 300
    glyphs = data.load(str(out))                               # as train.py takes it
    assert len(glyphs.classes) == 5 and len(glyphs.x_train) + len(glyphs.x_val) + len(glyphs.x_test) == 72
    data.main(["--scan", str(folder / "cleo.jpg"), "--form", str(folder / "form.json"), "--out", str(out)])
    assert len(list(out.glob("*/*.png"))) == 108 and (tmp_path / "letters-sheet-2.png").exists()


def test_glyphs_are_those_that_were_written(folder):
    flat, page, _ = scan.read_page(folder / "ben.jpg", LAYOUT)
    likeness = []
    for cell, glyph, state in scan.cut_cells(flat, LAYOUT, page):
        if not state and cell["class"] in GLYPHS:
            images = GLYPHS[cell["class"]]
            written = Image.fromarray(images[cell["number"] % len(images)]).resize((84, 84))
            both = [normalize_image(a, dark)[0].ravel() for a, dark in ((glyph, True), (np.asarray(written), False))]
            likeness.append(np.corrcoef(*both)[0, 1])
    assert len(likeness) == 22 and min(likeness) > 0.6 and np.mean(likeness) > 0.9


def faults(folder):
    """name of a bad picture -> what is said of it."""
    covered = PAGE.copy()
    covered[:150, 1080:] = 230
    photograph(covered, TILTED).save(folder / "covered.jpg")
    Image.new("L", (600, 800), 230).save(folder / "blank.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (600, 800), np.uint8)).save(folder / "noise.png")
    Image.new("1", (10_000, 10_000)).save(folder / "huge.png")
    (folder / "page.pdf").write_bytes(b"%PDF-1.7 ...")
    (folder / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (folder / "text.jpg").write_text("no picture")
    (folder / "cut.jpg").write_bytes((folder / "anna.jpg").read_bytes()[:30_000])
    other = form.make_layout(list("01"), 3)
    photograph(np.array(form.draw_page(other, 1).reduce(2)), TURNED).save(folder / "other.jpg")
    return {"covered.jpg": "top right", "blank.png": "no corner mark", "noise.png": "no corner mark",
            "huge.png": "smaller", "page.pdf": "PNG or JPEG", "photo.heic": "JPEG", "text.jpg": "no picture",
            "cut.jpg": "cannot read", "none.jpg": "none.jpg", "other.jpg": f"form {other['code']:04X}"}


def test_faults_are_one_line_and_nothing_is_written(folder, tmp_path):
    out = tmp_path / "letters"
    for name, expected in faults(folder).items():
        with pytest.raises(UserError, match=expected) as error:
            scan.scan_forms([str(folder / name)], folder / "form.json", out)
        assert "\n" not in str(error.value) and name in str(error.value)
    with pytest.raises(UserError, match="other form|form [0-9A-F]{4}, page 1, but"):
        scan.scan_forms([str(folder / "anna.jpg"), str(folder / "other.jpg")], folder / "form.json", out)
    assert not list(tmp_path.iterdir())
    done = command("data.py", "--scan", folder / "page.pdf", "--form", folder / "form.json", "--out", out)
    assert_one_line_error(done, "page.pdf", "PNG or JPEG")


def test_nothing_is_overwritten_or_mixed(folder, tmp_path, monkeypatch):
    layout, photo = folder / "form.json", str(folder / "anna.jpg")
    shutil.copy(photo, tmp_path / "anna.jpg")
    with pytest.raises(UserError, match="called anna"):
        scan.scan_forms([photo, str(tmp_path / "anna.jpg")], layout, tmp_path / "out")
    with pytest.raises(UserError, match="other things"):
        scan.scan_forms([photo], layout, tmp_path)
    scan.scan_forms([photo], layout, tmp_path / "out")
    with pytest.raises(UserError, match="already"):
        scan.scan_forms([photo], layout, tmp_path / "out")
    monkeypatch.setattr(scan.figures, "save", lambda *_: (_ for _ in ()).throw(UserError("disk full")))
    with pytest.raises(UserError, match="disk full"):
        scan.scan_forms([photo], layout, tmp_path / "full")
    assert not (tmp_path / "full").exists()


def test_names_that_no_folder_can_have_are_in_classes_txt(folder, tmp_path):
    other = {**LAYOUT, "classes": ["0", "1", "2", "\u1e8d\u0323", "a"],
             "cells": [{**cell, "class": cell["class"].replace("A", "\u1e8d\u0323")} for cell in LAYOUT["cells"]]}
    del other["code"]
    other = {"code": LAYOUT["code"], **other}                      # the same code on paper, so the same photograph
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "read_layout", lambda path: other)
        scan.scan_forms([str(folder / "anna.jpg")], "form.json", tmp_path / "out")
    assert (tmp_path / "out" / "classes.txt").read_text("utf-8") == "U+1E8D_U+0323\t\u1e8d\u0323\n"
    assert data.load(str(tmp_path / "out")).classes.count("\u1e8d\u0323") == 1


def test_camera_that_was_held_sideways_and_grey_scans(folder, tmp_path):
    image = Image.open(folder / "anna.jpg").transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    grey = photograph(PAGE, [(30, 30), (1270, 20), (1260, 1680), (20, 1670)], shadow=False).convert("L")
    grey.save(tmp_path / "b.png")
    for name in ("a.jpg", "b.png"):
        flat, page, _ = scan.read_page(tmp_path / name, LAYOUT)
        states = {cell["number"]: state for cell, _, state in scan.cut_cells(flat, LAYOUT, page)}
        assert {number for number, state in states.items() if state == "empty"} == EMPTY
