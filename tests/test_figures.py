"""figures.py: glyph pixels on sheets and grids, headings, GIFs, colours, overlays, and text that no font can draw."""
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils import figures
from utils.files import UserError

DIGITS = list("0123456789")


def glyphs(n_classes, per_class, seed=0):
    """Images without two equal pixels in a row, so that a shifted or resampled tile cannot pass for the right one."""
    labels = np.tile(np.arange(n_classes), per_class)
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), 28, 28), dtype=np.uint8)
    thickness = np.repeat(np.linspace(0, 1, per_class), n_classes).astype(np.float32)
    return images, labels, thickness


def find(page, tile, scale=2):
    """Top-left corner (row, column) of a glyph on a page, dark on white; None if it is not there just once."""
    page = np.asarray(page.convert("L"))
    want = (255 - tile).repeat(scale, 0).repeat(scale, 1)
    h, w = want.shape
    windows = np.lib.stride_tricks.sliding_window_view(page, (h, w))
    rows, columns = np.nonzero((windows[:, :, 0, 0] == want[0, 0]) & (windows[:, :, -1, -1] == want[-1, -1]))
    hits = [(r, c) for r, c in zip(rows, columns) if (windows[r, c] == want).all()]
    return hits[0] if len(hits) == 1 else None


def dark(image):
    return int((np.asarray(image.convert("L")) < 128).sum())


# ---- sheets --------------------------------------------------------------------------------------

def test_every_glyph_is_on_the_sheet_unchanged_and_in_its_column():
    images, labels, t = glyphs(6, 4)
    page = figures.sheet(images, labels, DIGITS[:6], t, "title", "footer")
    places = np.array([find(page, image) for image in images]).reshape(4, 6, 2)
    assert (np.ptp(places[:, :, 1], axis=0) == 0).all()                    # one column per class
    assert (np.diff(places[:, :, 1], axis=1) >= 56).all()                  # classes in order, no overlap
    assert (np.ptp(places[:, :, 0], axis=1) == 0).all()
    assert (np.diff(places[:, 0, 0]) >= 56).all()                          # thin (t < .5) above thick


def test_thin_and_thick_split_at_one_half():
    images, labels, _ = glyphs(5, 2)
    page = figures.sheet(images, labels, DIGITS[:5], [0.5] * 5 + [0.49] * 5)
    assert find(page, images[0])[0] > find(page, images[5])[0]             # 0.5 is thick already


@pytest.mark.parametrize("n_classes, per_class, styled", [(1, 60, True), (2, 50, False), (2, 26, True), (12, 30, True)])
def test_many_samples_fill_a_page_and_none_is_lost(n_classes, per_class, styled):
    images, labels, t = glyphs(n_classes, per_class)
    page = figures.sheet(images, labels, DIGITS + ["a", "b"], t if styled else None)
    assert page.width < figures.MAX_WIDTH + 120 and page.height < 2.5 * page.width
    some = slice(None, None, 7)
    places = np.array([find(page, image) for image in images[some]])
    assert len(np.unique(places, axis=0)) == len(places)
    for a in range(n_classes - 1):
        assert places[labels[some] == a, 1].max() < places[labels[some] == a + 1, 1].min()     # class beside class
    if styled:
        thick = t[some] >= 0.5
        assert places[~thick, 0].max() < places[thick, 0].min()


def test_one_style_has_no_empty_block_for_the_other():
    images, labels, t = glyphs(3, 4)
    both, thin = (figures.sheet(images, labels, DIGITS[:3], values) for values in (t, t * 0))
    assert thin.height < both.height


@pytest.mark.parametrize("n_classes", [1, 10, 49, 64])
def test_all_classes_are_shown_up_to_the_limit_and_width_stays_bounded(n_classes):
    images, labels, t = glyphs(n_classes, 2)
    page = figures.sheet(images, labels, [f"class {k}" for k in range(n_classes)], t)
    assert page.width <= figures.MAX_WIDTH + 160
    assert all(find(page, image) for image in images[::max(1, n_classes // 2)])


def test_thousands_of_classes_become_a_sample_that_is_declared(monkeypatch):
    written = []
    monkeypatch.setattr(figures, "wrap", lambda text, size, width: written.append(text) or [])
    images = np.zeros((2350, 28, 28), np.uint8)
    page = figures.sheet(images, np.arange(2350), [f"c{k}" for k in range(2350)])
    assert "64 of 2,350 classes shown." in written[-1]
    assert page.height < 1000


def test_headings_differ_between_classes_and_say_the_class():
    images = np.zeros((10, 28, 28), np.uint8)                              # blank glyphs: all ink on the page is text
    ink = np.asarray(figures.sheet(images, np.arange(10), DIGITS).convert("L")) < 128
    columns = [ink[:, figures.MARGIN + 60 * k:][:, 12:72] for k in range(10)]
    assert all(c.any() for c in columns)
    assert len({c.tobytes() for c in columns}) == 10


# ---- text ----------------------------------------------------------------------------------------

AWKWARD = ["٧", "あ", "漢", "é", "e\u0301", "سبعة", "🦄", "\ud800", "\uffff", "", " ", "\n\t", "a\nb",
           "\x00", "\u200b", "lowercase_a", "x" * 5000, "−1 × 2 → 3"]


def test_no_class_name_ever_raises_or_leaves_a_heading_empty():
    images = np.zeros((len(AWKWARD), 28, 28), np.uint8)
    assert dark(figures.sheet(images, np.arange(len(AWKWARD)), AWKWARD)) > 0
    for k, name in enumerate(AWKWARD):
        shown = figures.class_name(AWKWARD, k)
        assert shown.strip() and figures.text_width(shown, 15) > 0, repr(name)
        strip = Image.new("RGB", (400, 40), figures.WHITE)
        figures.write(strip, 10, 20, figures.fit(shown, 15, 380))
        assert dark(strip) > 0, repr(name)
        figures.grid([[images[0]]], [name], [name], name, name)


def forget_fonts():
    for found in (figures._find_font, figures._typeset, figures._installed_fonts, figures._box, figures._open_font):
        found.cache_clear()


@pytest.fixture
def own_fonts(monkeypatch, tmp_path):
    """A machine without fonts but Pillow's own; gives the folder in which some may be installed."""
    monkeypatch.setattr(figures, "FONTS", [""])
    monkeypatch.setattr(figures, "FONT_FOLDERS", [str(tmp_path / "none"), str(tmp_path)])
    forget_fonts()
    yield tmp_path
    forget_fonts()


def greek_font():
    font = figures._open_font("DejaVuSans.ttf", 20)
    if font is None:
        pytest.skip("no DejaVu Sans on this machine")
    return Path(font.path)


def test_a_font_that_is_installed_is_found_by_what_it_has(own_fonts):
    assert figures.class_name(["ζ"], 0) == "0"
    (own_fonts / "deep").mkdir()
    shutil.copy(greek_font(), own_fonts / "deep" / "Any-Regular.ttf")
    (own_fonts / "broken.otf").write_bytes(b"no font")
    forget_fonts()
    assert figures.class_name(["ζ", "ζ\U0001f984"], 0) == "ζ"
    assert figures.class_name(["ζ", "ζ\U0001f984"], 1) == "1"


def damage(font, path):
    """A copy of a font that opens and then fails at each glyph: its program, the table fpgm, is no code."""
    content = bytearray(font.read_bytes())
    entry = content.index(b"fpgm", 12)                                     # tag, checksum, offset, length
    start, length = (int.from_bytes(content[entry + i:entry + i + 4], "big") for i in (8, 12))
    content[start:start + length] = b"\xa4" * length
    path.write_bytes(content)


def test_a_damaged_font_is_passed_over_and_refused_where_it_is_named(own_fonts):
    damage(greek_font(), own_fonts / "A-Regular.ttf")
    assert figures._open_font(str(own_fonts / "A-Regular.ttf"), 20) is not None
    assert figures.class_name(["ζ"], 0) == "0"
    shutil.copy(greek_font(), own_fonts / "B-Regular.ttf")
    forget_fonts()
    assert figures.class_name(["ζ"], 0) == "ζ" and figures._find_font("ζ").endswith("B-Regular.ttf")
    with pytest.raises(UserError, match="no font; name a .ttf"):
        figures.use_font(own_fonts / "A-Regular.ttf")


def test_a_font_that_is_named_is_used_at_once(own_fonts):
    assert figures.class_name(["ζ"], 0) == "0"
    figures.use_font(shutil.copy(greek_font(), own_fonts / "mine.bin"))
    assert figures.class_name(["ζ"], 0) == "ζ" and figures._find_font("7") == ""


@pytest.mark.parametrize("name", ["missing.ttf", "text.ttf", "."])
def test_what_is_no_font_is_refused(own_fonts, name):
    (own_fonts / "text.ttf").write_text("no font")
    with pytest.raises(UserError, match="no font; name a .ttf"):
        figures.use_font(own_fonts / name)


def test_a_class_is_shown_by_name_where_a_font_has_all_of_it_else_by_number(own_fonts, monkeypatch):
    names = ["7", "ζ", "ζ\U0001f984"]                                      # Pillow's own lacks Greek
    assert [figures.class_name(names, k) for k in range(3)] == ["7", "1", "2"]
    assert figures._typeset(" ζ \n - 7") == ("", "? - 7")
    greek_font()
    monkeypatch.setattr(figures, "FONTS", ["", "no such font.ttf", "DejaVuSans.ttf"])
    forget_fonts()
    assert [figures.class_name(names, k) for k in range(3)] == ["7", "ζ", "2"]
    assert figures._typeset("7 = ζ") == ("DejaVuSans.ttf", "7 = ζ") and figures._typeset("7")[0] == ""


def test_fit_and_wrap_keep_to_their_width():
    for width in (30, 80, 200):
        assert figures.text_width(figures.fit("a rather long class name", 15, width), 15) <= width
        lines = figures.wrap("several words of text" * 3, 15, width)
        assert all(figures.text_width(line, 15) <= width for line in lines)
    assert figures.fit("short", 15, 200) == "short"


def test_turned_text_is_the_same_ink_on_its_side():
    flat, turned = Image.new("RGB", (200, 40), "white"), Image.new("RGB", (40, 200), "white")
    figures.write(flat, 100, 20, "FID", align="m")
    figures.write(turned, 20, 100, "FID", align="m", turned=True)
    boxes = [Image.eval(i.convert("L"), lambda v: 255 - v).getbbox() for i in (flat, turned)]
    (a, b, c, d), (e, f, g, h) = boxes
    assert abs((c - a) - (h - f)) <= 1 and abs((d - b) - (g - e)) <= 1
    assert abs((f + h) / 2 - 100) <= 2 and abs((e + g) / 2 - 20) <= 2


# ---- GIFs ----------------------------------------------------------------------------------------

def test_a_gif_has_few_frames_that_grow_a_bar_and_ends_with_the_last_picture(tmp_path):
    images, labels, t = glyphs(5, 2)
    frames = [(np.roll(images, i, 2), f"epoch {i}") for i in range(40)]
    for name in ("a.gif", "b.gif"):
        figures.gif(frames, tmp_path / name, labels, DIGITS[:5], t, "title")
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == figures.GIF_FRAMES and gif.info["loop"] == 0
        durations, pages = [], []
        for i in range(gif.n_frames):
            gif.seek(i)
            durations.append(gif.info["duration"])
            pages.append(np.asarray(gif.convert("RGB")).astype(int))
    assert durations == [400] * (len(pages) - 1) + [3000]
    bars = [int((page == figures.ACCENT).all(-1).sum()) for page in pages]
    assert bars[0] > 0 and (np.diff(bars) > 0).all() and abs(bars[-1] / bars[0] - 40) < 3
    still = np.asarray(figures.sheet(frames[-1][0], labels, DIGITS[:5], t, "title", "epoch 39")).astype(int)
    assert np.abs(pages[-1] - still)[:-figures.MARGIN].max() <= 24          # about half a step of grey


def test_short_trainings_keep_all_frames_and_none_is_an_error(tmp_path):
    images, labels, _ = glyphs(2, 1)
    figures.gif([(images, "0"), (images // 2, "1")], tmp_path / "t.gif", labels, DIGITS[:2])
    with Image.open(tmp_path / "t.gif") as gif:
        assert gif.n_frames == 2
    with pytest.raises(UserError, match="no frames"):
        figures.gif([], tmp_path / "none.gif", labels, DIGITS)
    assert [p.name for p in tmp_path.iterdir()] == ["t.gif"]


def test_evenly_spaced_indices_hold_both_ends():
    assert figures.evenly_spaced(3, 5).tolist() == [0, 1, 2]
    assert figures.evenly_spaced(100, 4).tolist() == [0, 33, 66, 99]


# ---- colours, overlays, grids --------------------------------------------------------------------

def luminance(rgb):
    return rgb.astype(float) @ (0.299, 0.587, 0.114)


def test_colour_maps_are_monotone_in_lightness():
    ramp = np.linspace(0, 1, 101)
    for name in ("sequential", "heat"):
        assert (np.diff(luminance(figures.colours(ramp, name=name))) < 0).all()
    both = luminance(figures.colours(ramp, name="diverging"))
    assert (np.diff(both[:51]) > 0).all() and (np.diff(both[50:]) < 0).all()
    assert (figures.colours([0.0], -1, 1, "diverging") == 255).all()       # zero is white
    assert (figures.colours([-9, 9, np.nan]) == [figures.MAPS["sequential"][0], figures.MAPS["sequential"][-1],
                                                 (225, 225, 225)]).all()


def test_overlay_marks_what_the_map_marks():
    image = np.zeros((28, 28), np.uint8)
    saliency = np.zeros((28, 28))
    saliency[3, 5], saliency[20, 7] = 2.0, -2.0
    pixels = np.asarray(figures.overlay(image, saliency, scale=1)).astype(int)
    assert pixels.shape == (28, 28, 3) and (pixels[0, 0] == 255).all()
    assert pixels[3, 5, 0] > pixels[3, 5, 2] and pixels[20, 7, 2] > pixels[20, 7, 0]   # red for, blue against
    half = np.asarray(figures.overlay(image, saliency, limit=4.0, scale=1)).astype(int)
    assert luminance(half[3, 5]) > luminance(pixels[3, 5])
    inked = np.asarray(figures.overlay(image + 255, saliency, scale=1)).astype(int)
    assert (inked[0, 0] < 255).all()                                       # strokes show through
    assert figures.overlay(image, saliency, scale=5).size == (140, 140)


def test_grid_places_grey_and_colour_pictures():
    images, _, _ = glyphs(1, 3)
    red = np.zeros((28, 28, 3), np.uint8)
    red[..., 0] = 200
    page = figures.grid([[images[0], red], [images[1], None, images[2]]], ["a", "b"], ["x", "y", "z"], scale=3)
    a, b, c = (find(page, i, 3) for i in images)
    assert a[1] == b[1] < c[1] and a[0] < b[0] == c[0]
    assert (np.asarray(page) == (200, 0, 0)).all(-1).sum() == 84 * 84
    with pytest.raises(UserError):
        figures.grid([])


def test_save_makes_the_folder_and_leaves_nothing_else(tmp_path):
    figures.save(Image.new("RGB", (5, 4), (1, 2, 3)), tmp_path / "new" / "a.png")
    with Image.open(tmp_path / "new" / "a.png") as image:
        assert image.format == "PNG" and image.size == (5, 4) and image.getpixel((0, 0)) == (1, 2, 3)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.png"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        figures.save(Image.new("RGB", (5, 4)), tmp_path / "file" / "a.png")
