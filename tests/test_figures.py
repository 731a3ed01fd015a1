"""figures.py and charts.py: glyph pixels, headings, GIFs, ticks, gaps, colours, and text that no font can draw."""
import io
import math

import numpy as np
import pytest
from PIL import Image

from utils import charts, figures
from utils.files import UserError

DIGITS = list("0123456789")


def glyphs(n_classes, per_class, seed=0):
    """Images without two equal pixels in a row, so that a shifted or resampled tile cannot pass for the right one."""
    labels = np.tile(np.arange(n_classes), per_class)
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), 28, 28), dtype=np.uint8)
    thickness = np.repeat(np.linspace(0, 1, per_class), n_classes).astype(np.float32)
    return images, labels, thickness


def find(page, tile, scale):
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


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


# ---- sheets --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("scale", [1, 2, 3])
def test_every_glyph_is_on_the_sheet_unchanged_and_in_its_column(scale):
    images, labels, t = glyphs(6, 4)
    page = figures.sheet(images, labels, DIGITS[:6], t, "title", "footer", per_class=4, scale=scale)
    places = np.array([find(page, image, scale) for image in images]).reshape(4, 6, 2)
    assert (np.ptp(places[:, :, 1], axis=0) == 0).all()                    # one column per class
    assert (np.diff(places[:, :, 1], axis=1) >= 28 * scale).all()          # classes in order, no overlap
    assert (np.ptp(places[:, :, 0], axis=1) == 0).all()
    assert (np.diff(places[:, 0, 0]) >= 28 * scale).all()                  # thin (t < .5) above thick


def test_the_dial_puts_thickness_left_to_right_whatever_the_order_of_the_images():
    images, labels, t = glyphs(3, 5)
    order = np.random.default_rng(1).permutation(len(images))
    page = figures.sheet(images[order], labels[order], DIGITS[:3], t[order], layout="dial", per_class=5)
    places = np.array([find(page, image, 2) for image in images]).reshape(5, 3, 2)
    assert (np.diff(places[:, :, 1], axis=0) > 0).all() and (np.diff(places[:, :, 0], axis=1) > 0).all()


def test_a_ramp_with_too_few_images_leaves_the_right_places_empty():
    images, labels, _ = glyphs(5, 2)
    t = np.where(np.arange(10) < 5, 0.0, 1.0)
    page = figures.sheet(images, labels, DIGITS[:5], t, layout="dial", per_class=5)
    first, last = (find(page, images[i], 2)[1] for i in (0, 5))
    assert last - first >= 4 * 56                                          # t = 1 at the far end, not beside t = 0


def test_style_blocks_split_at_one_half():
    images, labels, _ = glyphs(5, 2)
    t = np.array([0.5] * 5 + [0.49] * 5)
    page = figures.sheet(images, labels, DIGITS[:5], t, per_class=2)
    assert find(page, images[0], 2)[0] > find(page, images[5], 2)[0]       # 0.5 is thick already


@pytest.mark.parametrize("group, total", [("none", 50), ("style", 50), ("style", 26)])
def test_many_samples_of_few_classes_wrap_and_none_is_lost(group, total):
    images, labels, t = glyphs(2, total)
    page = figures.sheet(images, labels, ["a", "b"], t, group=group, per_class=total)
    places = np.array([find(page, image, 2) for image in images]).reshape(total, 2, 2)
    assert page.width < figures.MAX_WIDTH + 120
    assert len(np.unique(places.reshape(-1, 2), axis=0)) == 2 * total
    assert places[:, 0, 0].max() < places[:, 1, 0].min()                  # class by class
    if group == "style":
        assert places[t[::2] < 0.5, 0, 1].max() < places[t[::2] >= 0.5, 0, 1].min()


def test_headings_differ_between_classes_and_say_the_class():
    images = np.zeros((10, 28, 28), np.uint8)                              # blank glyphs: all ink on the page is text
    page = figures.sheet(images, np.arange(10), DIGITS, per_class=1)
    ink = np.asarray(page.convert("L")) < 128
    columns = [ink[:, figures.MARGIN + 60 * k:figures.MARGIN + 60 * k + 56] for k in range(10)]
    assert all(c.any() for c in columns)
    assert len({c.tobytes() for c in columns}) == 10
    assert not np.asarray(figures.sheet(images, np.arange(10), [" "] * 9 + ["x"]))[:20].min() < 128


@pytest.mark.parametrize("n_classes", [1, 3, 10, 49, 64])
def test_all_classes_are_shown_up_to_the_limit_and_width_stays_bounded(n_classes):
    images, labels, t = glyphs(n_classes, 2)
    for layout in (None, "columns", "rows", "dial"):
        page = figures.sheet(images, labels, [f"c{k}" for k in range(n_classes)], t, layout=layout, per_class=2)
        assert page.width <= figures.MAX_WIDTH + 160
        assert all(find(page, image, 2) for image in images[::max(1, n_classes // 3)])


def test_thousands_of_classes_become_a_sample_that_is_declared(monkeypatch):
    written = []
    monkeypatch.setattr(figures, "wrap", lambda text, size, width: written.append(text) or [])
    images = np.zeros((2350, 28, 28), np.uint8)
    page = figures.sheet(images, np.arange(2350), [f"c{k}" for k in range(2350)])
    assert "64 of 2,350 classes shown." in written[-1]
    assert page.height < 1000


def test_sheet_faults_are_user_errors():
    images, labels, t = glyphs(3, 2)
    for arguments in [(images / 255, labels, DIGITS), (images, labels[:-1], DIGITS), (images, labels, DIGITS[:2]),
                      (images, labels, DIGITS, t[:-1]), (images[:0], labels[:0], DIGITS)]:
        with pytest.raises(UserError):
            figures.sheet(*arguments)
    with pytest.raises(UserError, match="thickness"):
        figures.sheet(images, labels, DIGITS, layout="dial")


# ---- text ----------------------------------------------------------------------------------------------------------

AWKWARD = ["٧", "あ", "漢", "é", "e\u0301", "سبعة", "🦄", "\ud800", "\uffff", "", " ", "\n\t", "a\nb",
           "\x00", "\u200b", "lowercase_a", "x" * 5000, "−1 × 2 → 3"]


def test_no_class_name_ever_raises_or_leaves_a_heading_empty():
    images = np.zeros((len(AWKWARD), 28, 28), np.uint8)
    for layout in ("columns", "rows"):
        assert dark(figures.sheet(images, np.arange(len(AWKWARD)), AWKWARD, layout=layout)) > 0
    for k, name in enumerate(AWKWARD):
        shown = figures.class_name(AWKWARD, k)
        assert shown.strip() and figures.text_width(shown, 15) > 0, repr(name)
        strip = Image.new("RGB", (400, 40), figures.WHITE)
        figures.write(strip, 10, 20, figures.fit(shown, 15, 380))
        assert dark(strip) > 0, repr(name)
        figures.grid([[images[0]]], [name], [name], name, name)


def test_without_system_fonts_a_class_is_shown_by_number_and_never_as_a_box(monkeypatch):
    monkeypatch.setattr(figures, "FONTS", [])
    figures._runs.cache_clear()
    try:
        assert [figures.class_name(["7", "٧", "あ"], k) for k in range(3)] == ["7", "1", "2"]
        assert figures._runs("あ – 7") == [(None, "? - 7")]
    finally:
        figures._runs.cache_clear()


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


# ---- gif -----------------------------------------------------------------------------------------------------------

def test_gif_has_its_frames_durations_loop_and_last_picture(tmp_path):
    images, labels, t = glyphs(5, 2)
    frames = [(np.roll(images, i, 2), f"epoch {i}") for i in range(5)]
    figures.gif(frames, tmp_path / "t.gif", labels, DIGITS[:5], t, "title", ms=120, hold_ms=2000, per_class=2)
    with Image.open(tmp_path / "t.gif") as gif:
        assert gif.n_frames == 5 and gif.info["loop"] == 0
        durations, bars, pages = [], [], []
        for i in range(5):
            gif.seek(i)
            durations.append(gif.info["duration"])
            pages.append(np.asarray(gif.convert("RGB")).astype(int))
            bars.append(int((pages[-1] == figures.ACCENT).all(-1).sum()))
    assert durations == [120] * 4 + [2000]
    assert bars[0] > 0 and np.allclose(np.diff(bars), bars[0], rtol=0.05)  # the bar grows evenly to its full length
    still = figures.sheet(frames[-1][0], labels, DIGITS[:5], t, "title", per_class=2)
    part = pages[-1][:still.height - figures.MARGIN]
    assert np.abs(part - np.asarray(still)[:len(part)]).max() <= 9         # 16 greys: at most half a step away
    figures.gif(frames, tmp_path / "u.gif", labels, DIGITS[:5], t, "title", ms=120, hold_ms=2000, per_class=2)
    assert (tmp_path / "t.gif").read_bytes() == (tmp_path / "u.gif").read_bytes()


def test_long_trainings_are_thinned_and_an_empty_one_is_an_error(tmp_path):
    images, labels, _ = glyphs(2, 1)
    frames = [(np.full_like(images, i), str(i)) for i in range(30)]
    figures.gif(frames, tmp_path / "t.gif", labels, DIGITS[:2], max_frames=7)
    with Image.open(tmp_path / "t.gif") as gif:
        assert gif.n_frames == 7
        assert len({gif.seek(i) or np.asarray(gif.convert("L")).tobytes() for i in range(7)}) == 7
    with pytest.raises(UserError, match="no frames"):
        figures.gif([], tmp_path / "none.gif", labels, DIGITS)
    assert [p.name for p in tmp_path.iterdir()] == ["t.gif"]


# ---- ticks and plots -----------------------------------------------------------------------------------------------

def test_ticks_closed_form():
    assert charts.ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert charts.ticks(0, 100, 5) == [0, 20, 40, 60, 80, 100]
    assert charts.ticks(-1, 1, 4) == [-1, -0.5, 0, 0.5, 1]
    assert charts.ticks(0.13, 0.31, 4) == [0.15, 0.2, 0.25, 0.3]
    assert charts.ticks(0, 3e-7, 3) == [0, 1e-7, 2e-7, 3e-7]
    assert charts.ticks(0, 2.5e6, 5) == [0, 5e5, 1e6, 1.5e6, 2e6, 2.5e6]
    assert charts.ticks(5, 5) == [5]
    assert math.copysign(1, charts.ticks(-1, 1, 4)[2]) == 1                # never "-0"


def test_ticks_are_round_inside_and_not_too_many():
    rng = np.random.default_rng(0)
    for _ in range(300):
        lo = rng.normal() * 10.0 ** rng.integers(-5, 6)
        hi = lo + abs(rng.normal() + 0.01) * 10.0 ** rng.integers(-3, 6) + 1e-6
        n = int(rng.integers(3, 12))
        found = charts.ticks(lo, hi, n)
        slack = 1e-6 * (hi - lo)
        assert 1 <= len(found) <= n + 1 and lo - slack <= found[0] and found[-1] <= hi + slack
        if len(found) > 1:
            step = np.diff(found).mean()
            assert np.allclose(np.diff(found), step, rtol=1e-6, atol=1e-12 * abs(lo))
            mantissa = step / 10.0 ** math.floor(math.log10(step) + 1e-9)
            assert min(abs(mantissa - m) for m in (1, 2, 5, 10)) < 1e-4


def test_log_ticks_and_numbers():
    assert np.allclose(charts._log_ticks(10, 1000), [10, 20, 50, 100, 200, 500, 1000])
    assert np.allclose(charts._log_ticks(1e-6, 1e2), 10.0 ** np.arange(-6, 3))
    assert len(charts._log_ticks(3.1, 3.9)) > 1
    written = {0: "0", 0.25: "0.25", 1500: "1,500", 3e-5: "3e-5", 2e7: "2e7", -0.5: "-0.5"}
    assert [charts._number(v) for v in written] == list(written.values())


def colour_columns(image, colour):
    """Columns that show a series' colour below the legend."""
    return np.nonzero((np.asarray(image)[60:].astype(int) == colour).all(-1).any(0))[0]


def test_a_gap_in_a_curve_stays_a_gap():
    x = np.arange(101.0)
    y = np.sin(x / 10)
    whole = charts.curves({"a": (x, y)})
    broken = y.copy()
    broken[40:60] = np.nan
    gap = charts.curves({"a": (x, broken)})
    full, cut = (colour_columns(i, charts.COLOURS[0]) for i in (whole, gap))
    assert np.diff(full).max() <= 2
    share = np.diff(cut).max() / (full[-1] - full[0])
    assert 0.19 < share < 0.23                                             # from x = 39 to x = 60, 21 of 100
    assert np.isnan(broken[40:60]).all()                                   # the caller's array is untouched


def test_a_curve_passes_where_its_values_say():
    image = charts.curves({"a": ([0.0, 1.0], [0.0, 1.0])}, x_range=(0, 1), y_range=(0, 1))
    hit = (np.asarray(image)[60:].astype(int) == charts.COLOURS[0]).all(-1)
    rows, columns = np.nonzero(hit)
    place = np.polyfit(columns, rows, 1)
    assert place[0] < 0 and np.abs(np.polyval(place, columns) - rows).max() < 8   # a straight line that rises


def test_empty_and_unusable_series_give_an_honest_plot():
    nan = math.nan
    for series in ({}, {"a": ([], [])}, {"a": ([1], [nan])}, {"a": ([1, 2], [1, np.inf]), "b": ([], [])},
                   {"a": ([5], [5])}, {"a": ([0, 1], [3, 3])}, {"a": ([1, 2], [0, 0])}):
        for options in ({}, {"log_y": True}, {"log_x": True, "smooth": 5}):
            assert charts.curves(series, "title", **options).size[0] == 900
    with pytest.raises(UserError, match="one length"):
        charts.curves({"a": ([1, 2], [1])})
    with pytest.raises(UserError, match="axis"):
        charts.curves({"a": ([1, 2], [1, 2])}, y_range=(1, 1))
    with pytest.raises(UserError, match="logarithmic"):
        charts.curves({"a": ([1, 2], [1, 2])}, y_range=(0, 1), log_y=True)


def test_values_outside_a_given_range_are_not_drawn_over_the_labels():
    x = np.arange(50.0)
    wild = charts.curves({"a": (x, np.where(x % 2, 1e6, -1e6))}, y_range=(0, 1), size=(860, 460))
    none = charts.curves({"a": (x, np.full(50, np.nan))}, y_range=(0, 1), size=(860, 460), x_range=(0, 51))
    a, b = np.asarray(wild).astype(int), np.asarray(none).astype(int)
    assert (a[:, :40] == b[:, :40]).all() and (a[-45:] == charts.COLOURS[0]).all(-1).sum() == 0


def test_smoothing_is_a_running_mean_that_skips_gaps():
    assert np.allclose(charts.smoothed([1, 2, 3, 4, 5], 3), [1.5, 2, 3, 4, 4.5])
    assert np.allclose(charts.smoothed([2, np.nan, 4], 3), [2, np.nan, 4], equal_nan=True)
    assert np.allclose(charts.smoothed(np.full(50, 7.0), 20), 7)


def test_bars_have_heights_in_proportion_and_missing_ones_are_named():
    image = charts.bars({"g": {"a": 0.25, "b": 0.5, "c": math.nan}}, y_range=(0, 1))
    pixels = np.asarray(image)[60:].astype(int)
    heights = [(pixels == charts.COLOURS[i]).all(-1).any(1).sum() for i in range(3)]
    assert abs(heights[1] - 2 * heights[0]) <= 4 and heights[0] > 50 and heights[2] == 0
    with_error = charts.bars({"g": {"a": (0.25, 0.1, 0.4)}}, y_range=(0, 1))
    assert png(with_error) != png(charts.bars({"g": {"a": 0.25}}, y_range=(0, 1)))
    many = charts.bars({f"a group with a long name {i}": {f"arm {j}": (i, i - 1, i + 1) for j in range(6)}
                        for i in range(-3, 12)})
    assert many.width > 1500
    with pytest.raises(UserError):
        charts.bars({})


# ---- colours -------------------------------------------------------------------------------------------------------

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


def test_heat_map_cells_show_their_colours():
    matrix = np.arange(12.0).reshape(3, 4)
    pixels = np.asarray(charts.heatmap(matrix, "abc", "defg", text=""))
    flat = pixels.reshape(-1, 3)
    for value in matrix.ravel():
        assert (flat == figures.colours(value, 0, 11)).all(1).sum() >= 24 * 24
    for shape in ((1, 1), (49, 49), (2, 30), (700, 3)):
        columns = [f"lowercase_{i}" for i in range(shape[1])]
        charts.heatmap(np.full(shape, np.nan), range(shape[0]), columns, "t", "x", "y")
    with pytest.raises(UserError):
        charts.heatmap(matrix, "ab", "defg")


def test_figures_in_cells_share_their_decimals():
    assert [charts._alike([0.5, 0.25])(v) for v in (0.5, 0.25)] == ["0.50", "0.25"]
    assert charts._alike([980, 3])(980.0) == "980" and charts._alike([12.34, 5.0])(5.0) == "5.0"
    assert charts._alike([math.nan])(math.nan) == "-" and charts._alike([])(1.0) == "1"


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
    with pytest.raises(UserError):
        figures.overlay(image, saliency[:5])


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


# ---- files ---------------------------------------------------------------------------------------------------------

def test_same_input_same_bytes(tmp_path):
    images, labels, t = glyphs(10, 4)
    x = np.linspace(1, 9, 30)
    draw = [lambda: figures.sheet(images, labels, DIGITS, t, "title", "footer"),
            lambda: figures.sheet(images, labels, DIGITS, t, layout="dial"),
            lambda: charts.curves({"a": (x, x ** 2, x, x ** 3), "b": (x, x)}, "t", "x", "y", log_y=True, smooth=3),
            lambda: charts.bars({"g": {"a": (1, 0, 2), "b": 3}}), lambda: charts.heatmap(np.eye(3), "abc", "abc")]
    for i, make in enumerate(draw):
        figures.save(make(), tmp_path / f"{i}a.png")
        figures.save(make(), tmp_path / f"{i}b.png")
        assert (tmp_path / f"{i}a.png").read_bytes() == (tmp_path / f"{i}b.png").read_bytes()


def test_save_makes_the_folder_and_leaves_nothing_else(tmp_path):
    figures.save(Image.new("RGB", (5, 4), (1, 2, 3)), tmp_path / "new" / "a.png")
    with Image.open(tmp_path / "new" / "a.png") as image:
        assert image.format == "PNG" and image.size == (5, 4) and image.getpixel((0, 0)) == (1, 2, 3)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.png"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        figures.save(Image.new("RGB", (5, 4)), tmp_path / "file" / "a.png")
