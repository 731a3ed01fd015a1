"""How any image becomes a glyph: mode, polarity, frame, range."""
import numpy as np
import pytest
from PIL import Image, ImageDraw
from test_readers import seven

from datasets import cell_lines, cleaning, normalize, strokes
from utils.files import UserError

# ---- one picture ---------------------------------------------------------------------------------

def with_alpha(a, value):
    return Image.fromarray(np.dstack([np.full_like(a, value)] * 3 + [a]), "RGBA")


BIG = np.pad(seven(84), ((30, 10), (5, 60)))
PICTURES = {
    "L": Image.fromarray(BIG), "L dark ink": Image.fromarray(255 - BIG), "1": Image.fromarray(BIG).convert("1"),
    "1 dark ink": Image.fromarray(255 - BIG).convert("1"), "RGB": Image.fromarray(255 - BIG).convert("RGB"),
    "CMYK": Image.fromarray(255 - BIG).convert("CMYK"),
    "P": Image.fromarray(BIG).convert("P"), "LA": Image.fromarray(255 - BIG).convert("LA"),
    "RGBA black ink": with_alpha(BIG, 0), "RGBA white ink": with_alpha(BIG, 255),
    "16 bit": Image.fromarray(BIG.astype(np.uint16) * 257),
    "12 of 16 bit": Image.fromarray((255 - BIG).astype(np.uint16) * 16),
    "32 bit": Image.fromarray(BIG.astype(np.int32) * 1000), "float": Image.fromarray(BIG / np.float32(255)),
    "grey paper": Image.fromarray((200 - BIG // 2).astype(np.uint8)),
    "noisy paper": Image.fromarray(np.uint8(40 + 0.7 * BIG + np.random.default_rng(0).integers(0, 20, BIG.shape)))}


@pytest.mark.parametrize("kind", PICTURES)
def test_any_mode_and_polarity_gives_the_same_glyph(kind):
    expected = normalize.normalize_image(BIG, False)[0]
    glyph = normalize.normalize_image(normalize.grey(PICTURES[kind]), False)[0]
    assert glyph.dtype == np.uint8 and glyph.shape == (28, 28) and glyph.max() == 255
    assert np.abs(glyph.astype(int) - expected).mean() < 4


def test_glyph_is_framed_as_mnist(tmp_path):
    glyph, dark = normalize.normalize_image(255 - np.pad(seven(140), ((100, 3), (3, 200))), False)
    rows, cols = np.flatnonzero((glyph > 64).any(1)), np.flatnonzero((glyph > 64).any(0))
    assert dark and 19 <= rows[-1] - rows[0] + 1 <= 20 and cols[-1] - cols[0] + 1 < 20  # longest side 20, aspect kept
    weight = glyph / glyph.sum()
    assert abs(weight.sum(1) @ np.arange(28) - 14) <= 1 and abs(weight.sum(0) @ np.arange(28) - 14) <= 1
    assert glyph[:14].sum(1).max() > 1.5 * glyph[14:].sum(1).max()  # the bar is still at the top
    assert np.array_equal(normalize.normalize_image(glyph, False)[0], glyph)  # made once, never resampled again
    kept, _ = normalize.normalize_image(np.pad(seven(56), ((0, 0), (0, 56))), False, center=False)
    assert kept.shape == (28, 28) and not kept[:7].any() and not kept[:, 14:].any() and kept[7:21, :14].any()


def test_thin_pen_of_a_large_picture_does_not_fade():
    a = np.zeros((900, 900), np.uint8)
    a[100:800, 450:452] = 255
    a[100:102, 200:700] = 255
    assert np.count_nonzero(normalize.normalize_image(a, False)[0] > 127) >= 20


def test_unclear_border_follows_the_data_set():
    a = np.zeros((20, 20), np.uint8)
    a[:, :10] = 255
    assert not normalize.normalize_image(a, False)[1] and normalize.normalize_image(a, True)[1]
    with pytest.raises(ValueError, match="blank"):
        normalize.normalize_image(np.full((20, 20), 7, np.uint8), False)


# ---- arrays of images ----------------------------------------------------------------------------

def test_arrays_of_any_shape_and_range():
    x = np.stack([seven(), seven()[:, ::-1]])
    for a in (x, x.reshape(2, 784), x[:, None], x[..., None], x / 255, x / 255 * 2 - 1, x > 0, x.astype(np.int64),
              x.astype(np.uint16) * 257, 255 - x):
        out, ok, notes = normalize.normalize_images(a, "x_train")
        assert np.array_equal(out, x) and ok.all() and out.dtype == np.uint8
        assert bool(notes) == (a is not x and np.array_equal(a, 255 - x))
    assert np.array_equal(normalize.normalize_images(255 - x, "x", as_is=True)[0], 255 - x)
    wide, ok, _ = normalize.normalize_images(np.stack([np.stack([BIG] * 3, -1), np.zeros((*BIG.shape, 3), np.uint8)]), "x")
    assert ok.tolist() == [True, False] and np.array_equal(wide[0], normalize.normalize_image(BIG, False)[0])
    for bad in (np.zeros((3, 5)), np.zeros((0, 28, 28)), np.full((2, 28, 28), 1e6), np.full((2, 28, 28), np.nan),
                np.array(["a"]), np.zeros((2, 28, 28, 7))):
        with pytest.raises(UserError):
            normalize.normalize_images(bad, "x_train")


def test_left_out_names_the_first_five():
    assert normalize.left_out("things", list("abcdefg")) == ["7 things: a, b, c, d, e, ..."]
    assert normalize.left_out("things", list("ab")) == ["2 things: a, b"] and not normalize.left_out("things", [])


# ---- scans: what is beside the glyph -------------------------------------------------------------

PAPER, PEN, PRINT = 215, 50, 90
FIVE = [(66, 30, 40, 32, 37, 48), (37, 48, 55, 45, 62, 58, 56, 70, 36, 70)]


def drawn(*strokes, size=(100, 100), width=5, paper=255, pen=0):
    """Polylines on paper: uint8 [H,W], dark on light."""
    image = Image.new("L", size, paper)
    for stroke in strokes:
        ImageDraw.Draw(image).line(stroke, fill=pen, width=width, joint="curve")
    return image


def with_lines(image, sides, depth=6, width=3, angle=0.0):
    """Cell lines printed on sides of an image, "tblr", `depth` pixels from its edge, turned by `angle` degrees."""
    h, w = image.height, image.width
    large = Image.new("L", (2 * w, 2 * h), 0)
    x, y = w / 2 + depth, h / 2 + depth
    ends = {"t": (0, y, 2 * w, y), "b": (0, 2 * h - y, 2 * w, 2 * h - y), "l": (x, 0, x, 2 * h),
            "r": (2 * w - x, 0, 2 * w - x, 2 * h)}
    for side in sides:
        ImageDraw.Draw(large).line(ends[side], fill=255, width=width)
    mask = large.rotate(angle, Image.Resampling.BICUBIC).crop((w // 2, h // 2, w // 2 + w, h // 2 + h))
    return Image.composite(Image.new("L", image.size, PRINT), image, mask)


def ink_box(glyph):
    rows, columns = np.flatnonzero((glyph > 64).any(1)), np.flatnonzero((glyph > 64).any(0))
    return rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


def difference(a, b):
    """Mean grey levels between two glyphs, at the best of the nine shifts by at most a pixel."""
    shifts = [np.roll(a.astype(int), (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return min(np.abs(shifted - b).mean() for shifted in shifts)


def test_cell_lines_at_any_side_are_removed():
    expected = normalize.normalize_image(np.asarray(drawn(*FIVE)), True)[0]
    for sides in ("t", "b", "l", "r", "tl", "br", "tblr"):
        for angle in (0, 3, -3):
            picture = with_lines(drawn(*FIVE, paper=PAPER, pen=PEN), sides, angle=angle)
            glyph, dark = normalize.normalize_image(np.asarray(picture), False)
            assert dark and difference(glyph, expected) < 4, (sides, angle)
    wide = with_lines(drawn(*FIVE, paper=PAPER, pen=PEN), "tblr", depth=1, width=5)  # the border itself is dark
    assert difference(normalize.normalize_image(np.asarray(wide), False)[0], expected) < 4


@pytest.mark.parametrize("kind", ["touching", "crossing", "broken", "partial", "darker", "transparent"])
def test_lines_of_all_kinds(kind):
    expected = normalize.normalize_image(np.asarray(drawn(*FIVE)), True)[0]
    pen = 120 if kind == "darker" else PEN
    depth = {"touching": 27, "crossing": 33}.get(kind, 6)
    picture = with_lines(drawn(*FIVE, paper=PAPER, pen=pen), "bl" if depth == 6 else "b", depth=depth)
    if kind in ("broken", "partial"):
        for at in ((20, 60, 80) if kind == "broken" else (0, 5, 10, 15, 20, 25)):
            ImageDraw.Draw(picture).rectangle((at, 90, at + 5, 99), fill=PAPER)
    if kind == "transparent":
        ink = 255 - np.asarray(with_lines(drawn(*FIVE, pen=PEN), "bl"))
        picture = Image.fromarray(np.dstack([0 * ink] * 3 + [ink]), "RGBA")
    glyph = normalize.normalize_image(normalize.grey(picture), True)[0]
    assert difference(glyph, expected) < 12 and max(ink_box(glyph)) <= 20
    assert abs(ink_box(glyph)[1] - ink_box(expected)[1]) <= 2


STROKES = {  # what looks like a line or a speck, and is none
    "1": [(50, 15, 47, 85)], "1 from edge to edge": [(50, 0, 50, 99)], "1 near an edge": [(9, 0, 9, 99)],
    "dash": [(20, 50, 80, 50)], "dash from edge to edge": [(0, 8, 99, 8)], "dot": [(47, 50, 53, 50)],
    "い": [(25, 25, 28, 55, 36, 70), (70, 30, 76, 52)], "two-part 5": FIVE,
    "7 at the edge": [(0, 3, 99, 3), (96, 3, 40, 99)],
    "two-part 5, cut to its ink": [(20, 2, 99, 2), (22, 20, 60, 30, 97, 60, 60, 96, 0, 97)],
    "t": [(0, 2, 99, 2), (50, 2, 50, 99)], "二": [(10, 3, 85, 3), (0, 96, 99, 96)],
    "口": [(2, 2, 97, 2, 97, 97, 2, 97, 2, 2)],
    "i": [(50, 40, 50, 80), (48, 25, 52, 25)], "stroke out of the picture": [(40, 40, 60, 60, 99, 58)]}


@pytest.mark.parametrize("kind", STROKES)
def test_strokes_are_no_lines_and_clean_pictures_stay_as_they_are(kind):
    a = 255 - np.asarray(drawn(*STROKES[kind]))
    cleaned, removed = cleaning.clean(a)
    assert cleaned is a and not removed


def test_a_thick_dot_is_no_shadow():
    for width in (30, 50, 70):
        image = Image.new("L", (100, 100), 0)
        ImageDraw.Draw(image).ellipse((50 - width / 2, 50 - width / 2, 50 + width / 2, 50 + width / 2), fill=255)
        a = np.asarray(image.resize((90, 60), Image.Resampling.BICUBIC))
        assert cleaning.clean(a)[0] is a


def test_mnist_like_images_pass_unchanged():
    x = strokes.generate(200, seed=5)[0]
    for a in x:
        assert np.array_equal(normalize.normalize_image(a, False)[0], a) or not normalize._is_centred(a)
        large = np.pad(np.asarray(Image.fromarray(a).resize((84, 84), Image.Resampling.BICUBIC)), 9)
        assert cleaning.clean(large)[0] is large


def test_uneven_light_faint_pens_and_specks():
    expected = normalize.normalize_image(np.asarray(drawn(*FIVE)), True)[0]
    y, x = np.mgrid[-1:1:100j, -1:1:100j]
    for light in (1 - 0.2 * (x + 1), 1 - 0.15 * (x * x + y * y), 1 - 0.35 / (1 + np.exp(-6 * (x + y)))):
        for pen in (PEN, 140):
            a = np.asarray(drawn(*FIVE, paper=PAPER, pen=pen)) * light
            a += np.random.default_rng(0).normal(0, 2, a.shape)
            a[8:10, 12:14] = a[85:87, 88:90] = 40                       # dirt
            glyph, dark = normalize.normalize_image(np.rint(a).astype(np.uint8), True)
            assert dark and difference(glyph, expected) < 12 and glyph.max() == 255


def framed(image, box, width=3, gap=None, angle=0.0):
    """A printed frame that ends at its corners within the picture; `gap`, a rectangle that is missing of it."""
    mask = Image.new("L", image.size, 0)
    ImageDraw.Draw(mask).rectangle(box, outline=255, width=width)
    if gap:
        ImageDraw.Draw(mask).rectangle(gap, fill=0)
    mask = mask.rotate(angle, Image.Resampling.BICUBIC)
    return Image.composite(Image.new("L", image.size, PRINT), image, mask)


def as_in_a_form(image):
    return normalize._normalize(np.asarray(image), True, True, "all")[0]


def test_frames_that_end_within_the_picture():
    expected = normalize.normalize_image(np.asarray(drawn(*FIVE)), True)[0]
    grey_five = drawn(*FIVE, paper=PAPER, pen=PEN)
    for gap, angle in ((None, 0), (None, 3), (None, -3), ((4, 70, 12, 100), 0), ((60, 85, 99, 99), 2)):
        picture = framed(grey_five, (7, 9, 90, 93), gap=gap, angle=angle)
        assert difference(as_in_a_form(picture), expected) < 4, (gap, angle)
        assert cleaning.clean(255 - np.asarray(picture))[1] == set()       # a picture alone may be 回
    pictures = [framed(grey_five, (7, 9, 90, 93))] * 30                     # a set of them is a form
    out, _, notes = normalize.normalize_pictures(30, lambda i: pictures[i].copy(), str)
    assert "cell lines removed from 30 images" in notes and difference(out[7], expected) < 4


def test_a_dark_frame_at_the_border_is_no_dark_ground():
    a = np.asarray(with_lines(drawn((82, 20, 80, 80), paper=PAPER, pen=PEN), "tblr", depth=1, width=6))
    assert normalize.has_dark_ink(a, True) and not normalize.has_dark_ink(a, False)


def test_a_dot_outweighs_a_shadows_edge_and_the_dirt_beside_it():
    f = np.zeros((100, 100), np.float32)
    f[:, 14:24], f[48:54, 60:66], f[20:23, 70:73] = 70, 230, 230
    keep, dropped = cleaning._keep(f, 64, np.zeros(f.shape, bool), [], True)
    assert dropped and keep[48:54, 60:66].all() and keep.sum() < 200


def test_a_square_in_a_form_is_a_glyph():
    square = 255 - np.asarray(framed(drawn(), (15, 15, 85, 85), width=5))
    assert cleaning.clean(square, "all")[0] is square


def test_a_1_beside_a_frame_with_gaps_is_a_glyph():
    picture = with_lines(drawn((16, 40, 14, 92), paper=PAPER, pen=PEN), "tbr")
    ImageDraw.Draw(picture).rectangle((0, 88, 25, 99), fill=PAPER)
    assert max(ink_box(as_in_a_form(picture))) == 20 and min(ink_box(as_in_a_form(picture))) < 5


@pytest.mark.parametrize("kind", ["double", "cut by the edge", "pieces", "faint beside a shadow"])
def test_what_else_forms_have(kind):
    expected = normalize.normalize_image(np.asarray(drawn(*FIVE)), True)[0]
    picture = with_lines(drawn(*FIVE, paper=PAPER, pen=PEN), "tl")
    draw = ImageDraw.Draw(picture)
    if kind == "double":
        picture = with_lines(picture, "tl", depth=13)
    elif kind == "cut by the edge":
        draw.line((0, 99, 99, 99), fill=PRINT)
        draw.line((99, 0, 99, 99), fill=PRINT)
    elif kind == "pieces":
        draw.line((70, 92, 88, 92), fill=PRINT, width=3)
        draw.line((94, 30, 94, 50), fill=PRINT, width=4)
        draw.rectangle((89, 68, 93, 72), fill=PRINT)                     # dirt, as large as the pen's dot, but far away
    else:
        picture = with_lines(drawn(*FIVE, paper=PAPER, pen=150), "tl")
        ImageDraw.Draw(picture).rectangle((88, 88, 99, 99), fill=198)
    assert difference(as_in_a_form(picture), expected) < 4


def test_a_small_dot_in_a_cell_is_the_arabic_zero():
    for box, lines in (((46, 52, 52, 58), "tblr"), ((20, 70, 26, 76), "tl"), ((60, 40, 69, 46), "b")):
        picture = with_lines(drawn(paper=PAPER), lines)
        ImageDraw.Draw(picture).ellipse(box, fill=PEN)
        ImageDraw.Draw(picture).line((75, 96, 90, 96), fill=PRINT, width=3)          # larger than the dot
        assert 0.5 < (as_in_a_form(picture) > 64).sum() / 400 < 1.01


def test_a_line_goes_where_a_stroke_ends_at_it_and_stays_where_one_crosses_it():
    for first, stays in ((24, False), (5, True)):
        f = np.zeros((100, 100), np.float32)
        f[20:24] = 200                                                               # the line
        f[first:70, 40:46] = 200                                                     # the stroke
        lines = cell_lines.find_lines(f, 64)
        kept, erase, _ = cell_lines.without_strokes(f, 64, lines, True)
        assert len(kept) == 1 and erase[20:24, :36].all() and not erase[28:70].any()
        assert (not erase[20:24, 41:45].any()) if stays else erase[20:23, 41:45].all()


def test_ground_of_a_transparent_picture_shows_both_pen_and_lines():
    pen, lines = 255 - np.asarray(drawn(*FIVE)), 255 - np.asarray(with_lines(drawn(), "tblr", width=7))
    tone = np.where(pen > 128, 25, 170).astype(np.uint8)
    picture = Image.fromarray(np.dstack([tone] * 3 + [np.maximum(pen, lines)]), "RGBA")
    a = normalize.grey(picture)
    assert a[0, 0] == 255 or a[50, 0] == 255                                         # white, though more is light than dark
    expected = normalize.normalize_image(np.asarray(drawn(*FIVE)), True)[0]
    assert difference(as_in_a_form(a), expected) < 4


def test_usual_ink_is_the_pens_not_the_shadows():
    f = np.zeros((10, 100))
    f[0], f[1:9], f[9, :3] = 160, 40, 255                                             # a pen, a smear, dirt
    assert cleaning._usual_ink(f) == 160


def test_notes_count_what_was_removed():
    clean, lined = drawn(*FIVE), with_lines(drawn(*FIVE, paper=PAPER, pen=PEN), "tl")
    pictures = [clean, lined, lined]
    out, ok, notes = normalize.normalize_pictures(3, lambda i: pictures[i].copy(), str)
    assert ok.all() and "cell lines removed from 2 images" in notes and len(notes) == 2
    assert np.array_equal(out[0], normalize.normalize_image(np.asarray(clean), True)[0])


def test_a_set_tells_strokes_from_lines():
    """A 1 beside a line on its own is two lines; among the pictures of a form the inner one is the glyph."""
    lined, one = with_lines(drawn(*FIVE, paper=PAPER, pen=PEN), "tl"), drawn((20, 0, 20, 99), paper=PAPER, pen=PEN)
    pictures = [lined] * 25 + [with_lines(one, "l")]
    out, ok, _ = normalize.normalize_pictures(len(pictures), lambda i: pictures[i].copy(), str)
    assert ok.all() and ink_box(out[-1])[1] <= 3
    clean = [drawn(*FIVE)] * 99 + [with_lines(drawn(*FIVE), "tl")]        # one in a hundred is no form
    _, _, notes = normalize.normalize_pictures(100, lambda i: clean[i].copy(), str)
    assert not any("cell lines" in note for note in notes)


def test_components():
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
    labels, boxes, areas = cleaning.components(mask)
    assert labels.tolist() == [[1, 0, 0, 2], [0, 1, 0, 2], [0, 0, 0, 0], [3, 3, 3, 3]] and areas.tolist() == [2, 2, 4]
    assert boxes.tolist() == [[0, 0, 2, 2], [0, 3, 2, 4], [3, 0, 4, 4]]
    assert [len(part) for part in cleaning.components(np.zeros((3, 3), bool))] == [3, 0, 0]
    noise = np.random.default_rng(0).random((40, 50)) < 0.4               # a spiral of merges; against a flood fill
    labels, boxes, areas = cleaning.components(noise)
    for k in range(1, len(areas) + 1):
        part = labels == k
        assert part.sum() == areas[k - 1] and not (cleaning.grow(part, 1) & noise & ~part).any()
        seed = np.zeros_like(part)
        seed[tuple(np.argwhere(part)[0])] = True
        while (grown := cleaning.grow(seed, 1) & part).sum() > seed.sum():
            seed = grown
        assert np.array_equal(seed, part)
