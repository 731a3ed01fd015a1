"""metrics/appearance.py: blur and specks of images whose answer is known."""
import numpy as np
import pytest

from metrics.appearance import sharpness, specks


def test_specks_are_small_pieces_that_show():
    x = np.zeros((4, 28, 28), np.uint8)
    x[0, 4:24, 10:13] = 255                              # a stroke
    x[1, 4:24, 10:13] = 255
    x[1, 0, 0] = x[1, 27, 27] = 64                       # and two specks
    x[1, 27, 0] = 63                                     # one that does not show
    x[2, 5, 5:7] = x[2, 6, 7:9] = 255                    # four pixels, by a corner
    x[2, 20, 5:10] = 255                                 # five
    assert specks(x) == pytest.approx(3 / 4)
    assert specks(x[:1]) == 0 == specks(x[3:])
    assert specks(x[[1, 2]]) == specks(x[[2, 1]]) == 1.5, "the last row of one and the first of the next are apart"


def test_a_blurred_edge_is_less_sharp():
    x = np.zeros((1, 28, 28), np.uint8)
    x[:, :, 14:] = 255
    soft = x.copy()
    soft[:, :, 12:16] = [50, 100, 150, 200]
    assert sharpness(x) == pytest.approx(2 * 127.5 ** 2 / 28) and sharpness(soft) < 0.5 * sharpness(x)
