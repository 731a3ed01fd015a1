"""Corruptions: seeded, of the right kind and range, worse at higher severity, and known in simple cases."""
import numpy as np
import pytest

from datasets import strokes
from datasets.components import components
from study import corruptions
from study.corruptions import CORRUPTIONS, blur, cloud_field, corrupt
from utils.files import UserError

IMAGES = strokes.generate(30, seed=4)[0]


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_kind_range_and_seed(kind):
    before = IMAGES.copy()
    one = corrupt(IMAGES, kind)
    assert one.dtype == np.uint8 and one.shape == IMAGES.shape and np.array_equal(before, IMAGES)
    assert np.array_equal(one, corrupt(IMAGES, kind, severity=3, seed=0))
    assert np.array_equal(one[:7], corrupt(IMAGES[:7], kind)), "an image does not depend on those after it"
    assert (one != IMAGES).any((1, 2)).all(), "every image is changed"
    drawn = kind not in ("Gaussian blur", "scale", "brightness")
    assert (one != corrupt(IMAGES, kind, seed=1)).any() == drawn


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_severity_grows(kind):
    distance = [np.square(corrupt(IMAGES, kind, s).astype(float) - IMAGES).mean() for s in range(1, 6)]
    assert (np.diff(distance) > 0).all(), distance


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_blocks_do_not_show(kind, monkeypatch):
    whole = corrupt(IMAGES, kind)
    monkeypatch.setattr(corruptions, "BLOCK", 13)
    assert np.array_equal(corrupt(IMAGES, kind), whole)
    assert corrupt(IMAGES[:0], kind).shape == (0, 28, 28)


def test_noise_has_the_stated_strength():
    grey = np.full((200, 28, 28), 128, np.uint8)
    found = {kind: corrupt(grey, kind).astype(float) / 255 for kind in ("Gaussian noise", "shot noise", "impulse noise")}
    # normal noise cut at 0 and 1, 1.66 standard deviations off: the quantiles within are those of a normal distribution
    np.testing.assert_allclose(np.quantile(found["Gaussian noise"], [0.159, 0.841]), [0.2, 0.8], atol=0.01)
    mean = 5 * 128 / 255                                          # photons
    assert (found["shot noise"] == 0).mean() == pytest.approx(np.exp(-mean), abs=0.003)
    assert (found["shot noise"] == 51 / 255).mean() == pytest.approx(mean * np.exp(-mean), abs=0.004)
    assert (found["impulse noise"] != 128 / 255).mean() == pytest.approx(0.14, abs=0.003)
    assert (found["impulse noise"] == 1).mean() == pytest.approx(0.07, abs=0.003)


def test_geometry_in_closed_form():
    dot = np.zeros((200, 28, 28), np.uint8)
    dot[:, 12:16, 12:16] = 255                                    # about the centre, (13.5, 13.5)
    rows, columns = np.mgrid[:28, :28] - 13.5

    def moments(images):
        mass = images / 255.0
        total = mass.sum((1, 2))
        return total, (mass * rows).sum((1, 2)) / total, (mass * columns).sum((1, 2)) / total
    total, r, c = moments(corrupt(dot, "rotate"))
    np.testing.assert_allclose([r, c], 0, atol=1e-2)              # about the centre
    np.testing.assert_allclose(total, 16, rtol=0.03)
    total, r, c = moments(corrupt(dot, "translate"))
    np.testing.assert_allclose(np.hypot(r, c), 4, atol=0.02)      # 4 pixels at severity 3, in all directions
    assert abs(r.mean()) < 0.4 and abs(c.mean()) < 0.4
    square = np.zeros((1, 28, 28), np.uint8)
    square[:, 4:24, 4:24] = 255
    np.testing.assert_allclose(moments(corrupt(square, "scale"))[0], 400 * 0.65 ** 2, rtol=0.02)
    total, r, c = moments(corrupt(dot, "motion blur"))
    np.testing.assert_allclose(total, 16, rtol=0.02)              # ink is spread, not lost
    assert np.array_equal(corrupt(dot, "brightness")[:, 0, 0], np.full(200, 115))
    columns_hit = (corrupt(np.zeros_like(dot), "stripe") == 255).all(1).sum(1)
    assert (columns_hit == 3).all()


def test_blur_keeps_the_mean_and_clouds_fill_the_range():
    assert blur(np.ones((1, 28, 28)), 1.2)[0, 14, 14] == pytest.approx(1)
    field = cloud_field(np.random.default_rng(0).random((5, 1568)), 0.6)
    assert field.min() == 0 and field.max() == 1
    steps = np.abs(np.diff(field, axis=1)).mean()
    assert steps < 0.12, "neighbours are alike"


def test_fog_fades_ink():
    assert corrupt(np.full((4, 28, 28), 255, np.uint8), "fog").min() == pytest.approx(255 / 1.75, abs=2)


def test_faults_are_named():
    for arguments, word in (((IMAGES, "rain"), "rain"), ((IMAGES, "fog", 6), "severity"),
                            ((IMAGES / 255, "fog"), "uint8"), ((IMAGES[:, :20], "fog"), "28")):
        with pytest.raises(UserError, match=word):
            corrupt(*arguments)


def test_a_dotted_line_has_gaps():
    lines = corrupt(np.zeros((20, 28, 28), np.uint8), "dotted line")
    pieces = [len(components(image > 0)[2]) for image in lines]
    assert np.median(pieces) >= 6
