"""charts.py: ticks, gaps, ranges, styles and colours of curves, bars and heat maps."""
import itertools
import math

import numpy as np
import pytest

from utils import charts, figures
from utils.files import UserError


def test_ticks_closed_form():
    for arguments, wanted in [((0, 1, 5), [0, 0.2, 0.4, 0.6, 0.8, 1]), ((0, 100, 5), [0, 20, 40, 60, 80, 100]),
                              ((-1, 1, 4), [-1, -0.5, 0, 0.5, 1]), ((0.13, 0.31, 4), [0.15, 0.2, 0.25, 0.3]),
                              ((0, 3e-7, 3), [0, 1e-7, 2e-7, 3e-7]), ((5, 5), [5])]:
        assert charts.ticks(*arguments) == pytest.approx(wanted, rel=1e-12, abs=0)
    assert math.copysign(1, charts.ticks(-1, 1, 4)[2]) == 1                # never "-0"


def test_ticks_are_round_inside_and_not_too_many():
    rng = np.random.default_rng(0)
    for _ in range(300):
        lo = rng.normal() * 10.0 ** rng.integers(-5, 6)
        hi = lo + abs(rng.normal() + 0.01) * 10.0 ** rng.integers(-3, 6) + 1e-6
        n = int(rng.integers(3, 12))
        values = charts.ticks(lo, hi, n)
        slack = 1e-6 * (hi - lo)
        assert 1 <= len(values) <= n + 1 and lo - slack <= values[0] and values[-1] <= hi + slack
        if len(values) > 1:
            step = np.diff(values).mean()
            assert np.allclose(np.diff(values), step, rtol=1e-6, atol=1e-12 * abs(lo))
            mantissa = step / 10.0 ** math.floor(math.log10(step) + 1e-9)
            assert min(abs(mantissa - m) for m in (1, 2, 5, 10)) < 1e-4


def test_log_ticks_and_their_text():
    assert np.allclose(charts.log_ticks(10, 1000), [10, 20, 50, 100, 200, 500, 1000])
    assert np.allclose(charts.log_ticks(1e-6, 1e2), 10.0 ** np.arange(-6, 3))
    assert len(charts.log_ticks(3.1, 3.9)) > 1
    written = {0: "0", 0.25: "0.25", 1500: "1,500", 3e-5: "3e-05", 3 * 0.1: "0.3", -0.5: "-0.5"}
    assert [charts.tick_text(v) for v in written] == list(written.values())


# ---- curves --------------------------------------------------------------------------------------

def colour_columns(image, colour):
    """Columns that show a series' colour below the legend."""
    return np.nonzero((np.asarray(image)[60:].astype(int) == colour).all(-1).any(0))[0]


def test_a_gap_in_a_curve_stays_a_gap():
    x = np.arange(101.0)
    y = np.sin(x / 10)
    whole = charts.curves({"a": (x, y)})
    broken = y.copy()
    broken[40:60] = np.nan
    full, cut = (colour_columns(i, charts.COLOURS[0]) for i in (whole, charts.curves({"a": (x, broken)})))
    assert np.diff(full).max() <= 2
    gap = np.diff(cut).max() / (full[-1] - full[0])
    assert 0.19 < gap < 0.23                                               # from x = 39 to x = 60, 21 of 100
    assert np.isnan(broken[40:60]).all()                                   # the caller's array is untouched


def test_a_curve_passes_where_its_values_say():
    image = charts.curves({"a": ([0.0, 1.0], [0.0, 1.0])}, x_range=(0, 1), y_range=(0, 1))
    rows, columns = np.nonzero((np.asarray(image)[60:].astype(int) == charts.COLOURS[0]).all(-1))
    line = np.polyfit(columns, rows, 1)
    assert line[0] < 0 and np.abs(np.polyval(line, columns) - rows).max() < 8    # a straight line that rises


def test_empty_and_unusable_series_give_a_plot_that_says_so(monkeypatch):
    written = []
    write = figures.write
    monkeypatch.setattr(figures, "write", lambda *args, **options: written.append(args[3]) or write(*args, **options))
    nan = math.nan
    for series in ({}, {"a": ([], [])}, {"a": ([1], [nan])}, {"a": ([1, 2], [1, np.inf]), "b": ([], [])},
                   {"a": ([5], [5])}, {"a": ([0, 1], [3, 3])}, {"a": ([1, 2], [0, 0])}):
        for options in ({}, {"log_y": True}, {"log_x": True, "smooth": 5}):
            assert charts.curves(series, "title", **options).size[0] == 900
    assert "a (no data)" in written and "b (no data)" in written


def test_values_outside_a_given_range_are_not_drawn():
    x = np.arange(50.0)
    options = {"x_range": (0, 30), "y_range": (0, 1)}
    wild = charts.curves({"a": (x, np.where(x < 40, 0.5, 1e6), np.full(50, -9), np.full(50, 9))}, **options)
    tame = charts.curves({"a": (x[:31], np.full(31, 0.5), np.zeros(31), np.ones(31))}, **options)
    a, b = np.asarray(wild).astype(int), np.asarray(tame).astype(int)
    assert (a[60:] == b[60:]).mean() > 0.99                                # but for the markers of the shorter one
    assert (a[-45:] == charts.COLOURS[0]).all(-1).sum() == 0


def test_smoothing_is_a_running_mean_that_skips_gaps():
    assert np.allclose(charts.smoothed([1, 2, 3, 4, 5], 3), [1.5, 2, 3, 4, 4.5])
    assert np.allclose(charts.smoothed([1, 2, 3, 4, 5], 2), [1, 1.5, 2.5, 3.5, 4.5])
    assert np.allclose(charts.smoothed([2, np.nan, 4], 3), [2, np.nan, 4], equal_nan=True)
    assert np.allclose(charts.smoothed(np.full(50, 7.0), 20), 7)


def test_twelve_series_can_be_told_apart_with_and_without_colour():
    distances = [np.linalg.norm(np.subtract(a, b)) for a, b in itertools.combinations(charts.COLOURS, 2)]
    assert len(charts.COLOURS) == 12 and min(distances) > 50
    assert len({(i % len(charts.DASHES), i % len(charts.MARKERS)) for i in range(12)}) == 12
    image = np.asarray(charts.curves({f"arm {i}": ([1, 2], [i, i + 1]) for i in range(12)})).reshape(-1, 3)
    assert all((image == colour).all(1).sum() > 100 for colour in charts.COLOURS)


def test_dashes_follow_the_line():
    points = np.array([[0, 0], [10, 0], [10, 10]], float)
    assert [np.round(piece, 9).tolist() for piece in charts._dashes(points, (4, 2))] == [
        [[0, 0], [4, 0]], [[6, 0], [10, 0]], [[10, 2], [10, 6]], [[10, 8], [10, 10]]]
    (corner,) = charts._dashes(points, (15, 9))
    assert [np.round(p, 9).tolist() for p in corner] == [[0, 0], [10, 0], [10, 5]]


# ---- bars and heat maps --------------------------------------------------------------------------

def test_bars_have_heights_in_proportion_and_missing_ones_are_named():
    image = charts.bars({"g": {"a": 0.25, "b": 0.5, "c": math.nan}}, y_range=(0, 1))
    pixels = np.asarray(image)[60:].astype(int)
    heights = [(pixels == charts.COLOURS[i]).all(-1).any(1).sum() for i in range(3)]
    assert abs(heights[1] - 2 * heights[0]) <= 4 and heights[0] > 50 and heights[2] == 0
    with_error = charts.bars({"g": {"a": (0.25, 0.1, 0.4)}}, y_range=(0, 1))
    assert with_error.tobytes() != charts.bars({"g": {"a": 0.25}}, y_range=(0, 1)).tobytes()
    many = charts.bars({f"a group with a long name {i}": {f"arm {j}": (i, i - 1, i + 1) for j in range(6)}
                        for i in range(-3, 12)})
    assert many.width > 1500
    with pytest.raises(UserError):
        charts.bars({})


def test_heat_map_cells_show_their_colours():
    matrix = np.arange(90.0).reshape(3, 30)                                # too wide for figures in the cells
    flat = np.asarray(charts.heatmap(matrix, "abc", range(30))).reshape(-1, 3)
    for value in (0, 30, 89):
        assert (flat == figures.colours(value, 0, 89)).all(1).sum() >= 24 * 24
    for shape in ((1, 1), (49, 49), (2, 30), (60, 3)):
        columns = [f"lowercase_{i}" for i in range(shape[1])]
        charts.heatmap(np.full(shape, np.nan), range(shape[0]), columns, "t", "x", "y")


def test_values_of_one_chart_have_the_same_decimals():
    assert [charts.value_format([0.5, 0.25])(v) for v in (0.5, 0.25)] == ["0.50", "0.25"]
    assert charts.value_format([980, 3])(980.0) == "980" and charts.value_format([12.34, 5.0])(5.0) == "5.0"
    assert charts.value_format([math.nan])(math.nan) == "-" and charts.value_format([])(1.0) == "1"


def test_the_same_arguments_give_the_same_picture():
    x = np.linspace(1, 9, 30)
    for draw in (lambda: charts.curves({"a": (x, x ** 2, x, x ** 3), "b": (x, x)}, "t", "x", "y", log_y=True, smooth=3),
                 lambda: charts.bars({"g": {"a": (1, 0, 2), "b": 3}}), lambda: charts.heatmap(np.eye(3), "abc", "abc")):
        assert draw().tobytes() == draw().tobytes()
