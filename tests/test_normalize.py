"""How any image becomes a glyph: mode, polarity, frame, range."""
import numpy as np
import pytest
from PIL import Image
from test_readers import seven

from datasets import normalize
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
