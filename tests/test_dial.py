"""benchmarks/dial.py: the width on the skeleton, the box, and the dial's steps, against shapes whose answer is known."""
import sys

import numpy as np
import pytest
from conftest import ROOT
from test_distance_field import draw, line

import data
import models
from datasets import strokes
from metrics.conditional import dial_metrics

sys.path.insert(0, str(ROOT / "benchmarks"))
import dial


def images(*tensors):
    return np.concatenate([models.to_uint8(t).numpy() for t in tensors])


@pytest.mark.parametrize("degrees", [0, 20, 45, 90])
@pytest.mark.parametrize("width", [2.0, 3.0, 5.0])
def test_width_of_a_line_on_its_skeleton(width, degrees):
    assert dial.skeleton_width(images(line(width, 20, degrees)))[0] == pytest.approx(width, abs=0.2 + 0.1 * width)


def test_skeleton_width_knows_no_size_and_no_blank_image_fails():
    def ring(radius):
        return draw(lambda x, y: abs(np.hypot(x, y) - radius) < 1.25)
    small, large, blank = dial.skeleton_width(images(ring(5), ring(10), 0 * ring(5)))
    assert small == pytest.approx(large, rel=0.05) and large == pytest.approx(2.5, abs=0.3) and blank == 0


def test_a_skeleton_is_one_cell_wide_and_keeps_what_hangs_together():
    ink = images(line(5, 20, 0), draw(lambda x, y: abs(np.hypot(x, y) - 8) < 2)) > 127
    bar, ring = dial.skeletons(ink)
    assert 12 < bar.sum() < 20 and bar.any(1).sum() <= 3                 # a line along its middle
    assert 40 < ring.sum() < 70 and ring[14].sum() == ring[:, 14].sum() == 2          # still a ring
    assert not (np.stack([bar, ring]) & ~ink).any()


@pytest.mark.parametrize("centre", [0, 0.3, 0.5])
@pytest.mark.parametrize("radius", [2, 3.5, 5])
def test_width_of_a_dot_is_its_diameter(radius, centre):
    dot = images(draw(lambda x, y: np.hypot(x - centre, y - 2 * centre) < radius))
    assert dial.skeleton_width(dot)[0] == pytest.approx(2 * radius, rel=0.2)


def test_distances_are_euclidean():
    ink = np.zeros((1, 40, 40), bool)
    ink[0, 3:36, 3:36] = True
    ink[0, 10, 20] = False
    y, x = np.mgrid[:40, :40]
    to_edge = np.minimum.reduce([y - 2, x - 2, 36 - y, 36 - x])
    expected = np.minimum(np.minimum(to_edge, np.hypot(y - 10, x - 20)), dial.REACH)
    np.testing.assert_allclose(dial.distances(ink)[0][ink[0]], expected[ink[0]], rtol=1e-6)


def test_both_widths_rank_strokes_alike():
    x, y = strokes.generate(400, seed=3, labels=np.full(400, 2))
    assert dial.within_class(data.pen_width(x), dial.skeleton_width(x), y).min() > 0.95


def test_box():
    x = np.zeros((2, 28, 28), np.uint8)
    x[0, 3:9, 5:25] = 200
    assert dial.box(x).tolist() == [[6, 0], [20, 0]]


class Source:
    """A dial that jumps at 0.5, and draws nothing else than its thickness."""
    latent = 4

    def __call__(self, noise, label, thickness):
        return np.tile(np.uint8(100 * thickness + 100 * (thickness >= 0.5))[:, None, None], (1, 28, 28))


def test_a_jump_shows(monkeypatch):
    monkeypatch.setattr(dial, "NOISES", 2)
    _, middle, most, largest, largest_of_all = dial.turned(Source(), 2)
    assert middle == most == largest == largest_of_all == pytest.approx(101, abs=1)


@pytest.mark.parametrize("growth", [0, 2, 4])
def test_growth_of_the_box(growth, monkeypatch):
    """The border of a square that becomes half a pixel wider, inwards or while the square becomes larger."""
    def square(outer, inner):
        return draw(lambda x, y: (np.maximum(abs(x), abs(y)) < outer) & (np.maximum(abs(x), abs(y)) > inner))
    thin, thick = images(square(8, 6), square(8 + growth / 2, 6 + growth / 2 - 0.5))
    pens = data.pen_width(np.stack([thin, thick]))
    monkeypatch.setattr(dial, "NOISES", 3)
    source = Source()
    monkeypatch.setattr(Source, "__call__", lambda self, z, y, t: np.where((t > 0.5)[:, None, None], thick, thin))
    assert dial.turned(source, 2)[0] == pytest.approx(growth / (pens[1] - pens[0]))
    both, labels = np.stack([thin, thick] * 2), np.array([0, 0, 1, 1])
    assert dial.growth_of_real(both, labels) == pytest.approx(growth / (pens[1] - pens[0]))


def test_dial_metrics_of_known_dials():
    """Bars of 1 to 20 pixels whose rank is asked for: as they are, the other way round, and whatever is asked for."""
    x = np.zeros((200, 28, 28), np.uint8)
    for i, image in enumerate(x):
        image[4:24, 4:5 + i % 20] = 255
    y = np.zeros(200, np.int64)
    table = data.width_table(x, y, 1)
    t = data.thickness(x, y, table)
    own, other, none = (dial_metrics(a, y, t, table, ["a"]) for a in (x, x[::-1], x[[9] * 200]))
    assert own == {"style_accuracy": 1, "width_error": 0, "spearman": {"mean": 1, "worst": 1, "worst_class": "a"}}
    assert other["style_accuracy"] == 0 and other["spearman"]["mean"] == pytest.approx(-1) and other["width_error"] > 3
    assert none["style_accuracy"] == 0.5 and 1 < none["width_error"] < other["width_error"]
