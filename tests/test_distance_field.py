"""Distance fields, the pen's width, and glyphs written with other pens: against shapes whose answer is known."""
import numpy as np
import pytest
import torch

import data
import models
from datasets import strokes
from training.augment import redraw, to_fields
from utils.distance_field import FAINTEST, REACH, centred_grid, distance_field, look_up, pen_width, render, with_pen


def draw(is_ink, fine=16):
    """An antialiased image float32 [1, 1, 28, 28] of the places (x, y), from the centre, for which is_ink holds."""
    side = (np.arange(28 * fine) + 0.5) / fine - 14
    ink = is_ink(side[None, :], side[:, None]).astype(np.float32)
    return torch.from_numpy(ink.reshape(28, fine, 28, fine).mean((1, 3)))[None, None]


def line(width, length, degrees):
    """A straight stroke with square ends."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return draw(lambda x, y: (abs(c * x + s * y) < length / 2) & (abs(c * y - s * x) < width / 2))


@pytest.fixture(scope="module")
def glyphs():
    return models.from_uint8(torch.from_numpy(strokes.generate(64, seed=3)[0]))


@pytest.mark.parametrize("degrees", [0, 20, 45, 90])
@pytest.mark.parametrize("width", [2.0, 3.0, 4.5])
def test_width_of_a_line(width, degrees):
    """Twice the area over the length of the edge, of a rectangle: width / (1 + width / length). Forward differences find a
    slanting edge up to a sixth longer than it is."""
    assert float(pen_width(line(width, 20, degrees))) == pytest.approx(width / (1 + width / 20), rel=0.16)


def test_width_does_not_depend_on_the_size_of_the_glyph():
    def ring(radius):
        return draw(lambda x, y: abs(np.hypot(x, y) - radius) < 1.25)
    assert float(pen_width(ring(5))) == pytest.approx(float(pen_width(ring(10))), rel=0.02)


def test_width_of_grey_ink_is_that_of_black(glyphs):
    torch.testing.assert_close(pen_width(glyphs / 3), pen_width(glyphs), rtol=1e-4, atol=0)


def test_both_definitions_agree(glyphs):
    images = models.to_uint8(glyphs).numpy()
    np.testing.assert_allclose(data.pen_width(images), pen_width(glyphs).numpy(), atol=1e-4)
    assert data.pen_width(np.zeros((2, 28, 28), np.uint8)).tolist() == [0, 0]
    assert pen_width(torch.zeros(2, 1, 28, 28)).tolist() == [0, 0]


def test_field_of_a_disc():
    x, y, _ = centred_grid(28, 28, torch.device("cpu")).T
    expected = (8 - torch.hypot(x, y)).view(28, 28)
    field = distance_field(draw(lambda x, y: np.hypot(x, y) < 8))[0, 0]
    known = expected.abs() < REACH - 1
    assert float((field - expected)[known].abs().max()) < 0.35 and float(field.abs().max()) <= REACH


def test_a_field_holds_the_glyph(glyphs):
    assert float((render(distance_field(glyphs)) - glyphs).abs().mean()) < 0.03


@pytest.mark.parametrize("more", [0.5, 1.0])
def test_a_wider_pen_is_as_much_wider(glyphs, more):
    fields = distance_field(glyphs)
    wider = pen_width(render(with_pen(fields, torch.full((64,), more)))) - pen_width(render(fields))
    assert float(wider.mean()) == pytest.approx(2 * more, rel=0.12)


def test_the_thinnest_pen_leaves_a_stroke(glyphs):
    thin = with_pen(distance_field(glyphs), torch.full((64,), -9.0))
    torch.testing.assert_close(thin.amax((1, 2, 3)), torch.full((64,), FAINTEST))


def test_look_up_moves_by_whole_pixels(glyphs):
    move = torch.tensor([[1.0, 0], [0, 1], [3, -2]]).expand(64, 3, 2)             # x + 3, y - 2
    moved = look_up(glyphs, move, 0.0, padding="zeros")
    torch.testing.assert_close(moved[:, :, 2:, :-3], glyphs[:, :, :-2, 3:], atol=1e-5, rtol=0)


def test_redrawn_glyphs_are_images_that_differ_and_repeat():
    images = np.repeat(strokes.generate(1, seed=1)[0], 50, 0)
    drawn, again = (redraw(to_fields(images).float(), torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(drawn, again) and drawn.shape == (50, 1, 28, 28)
    assert 0 <= float(drawn.min()) and float(drawn.max()) <= 1
    assert float(pen_width(drawn).std()) > 0.3
