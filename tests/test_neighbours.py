"""Precision, recall, density, coverage and nearest neighbours by definition; copies told from fresh samples."""
import numpy as np
import pytest

from datasets import strokes
from metrics import neighbours
from metrics.features import FeatureSet
from metrics.frechet_distance import moments


def brute_force(real, fake, k=3, k_density=5):
    """The definitions, by full distance matrices in float64."""
    distance = lambda a, b: np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    radius = lambda a, k: np.sort(distance(a, a), axis=1)[:, k]            # column 0 is the image itself
    d = distance(real, fake)
    inside = d <= radius(real, k_density)[:, None]
    return {"precision": (d <= radius(real, k)[:, None]).any(0).mean(),
            "recall": (d <= radius(fake, k)[None]).any(1).mean(),
            "density": inside.sum() / (k_density * len(fake)), "coverage": inside.any(1).mean()}


@pytest.mark.parametrize("block", [1 << 22, 500])
def test_precision_recall_density_coverage_by_definition(block, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", block)                        # one block, and many
    rng = np.random.default_rng(10)
    real, fake = rng.standard_normal((150, 4)) + 100, rng.standard_normal((110, 4)) * 0.8 + 100.3
    assert neighbours.precision_recall(real, fake) == pytest.approx(brute_force(real, fake), abs=1e-12)


def test_a_tight_cluster_is_precise_and_misses_the_rest():
    rng = np.random.default_rng(11)
    wide, tight = rng.standard_normal((400, 8)), 0.1 * rng.standard_normal((400, 8))
    result, swapped = neighbours.precision_recall(wide, tight), neighbours.precision_recall(tight, wide)
    assert result["precision"] > 0.9 and result["recall"] < 0.1 and result["coverage"] < 0.3
    assert swapped["precision"] == result["recall"] and swapped["recall"] == result["precision"]


def test_equal_sets_and_duplicates():
    rng = np.random.default_rng(12)
    x = rng.standard_normal((300, 6))
    same = neighbours.precision_recall(x, x)
    assert same["precision"] == same["recall"] == same["coverage"] == 1
    twice = np.repeat(x[:40], 10, axis=0)                                  # radius 0: a copy still lies in its ball
    assert neighbours.precision_recall(twice, twice[::3])["precision"] == 1


def test_nearest_is_exact():
    rng = np.random.default_rng(13)
    x, y = rng.standard_normal((50, 5)) + 1000, rng.standard_normal((80, 5)) + 1000
    y[7] = x[3]
    index, distance = neighbours.nearest(x, y)
    full = np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))
    assert index[3] == 7 and distance[3] == 0
    np.testing.assert_allclose(distance, full.min(1), rtol=1e-6)
    others = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))
    np.testing.assert_allclose(neighbours.nearest(x)[1], np.sort(others, 1)[:, 1], rtol=1e-6)


def test_the_rim_of_a_ball_is_inside():
    """Points on a line, one apart: with k = 3 the ball around the last one reaches 3, and a fake lies just there."""
    real = np.arange(10.0)[:, None]
    far = real[-1:] + [[3.0], [50.0], [51.0], [52.0], [53.0], [54.0]]      # 12: on the rim of the ball around 9
    assert neighbours.precision_recall(real, far)["precision"] == 1 / 6
    assert neighbours.precision_recall(real, far + 1.5)["precision"] == 0


def move(images, down, right):
    """Images moved by whole pixels; nothing may leave the frame."""
    moved = np.roll(images, (down, right), (1, 2))
    assert (moved.sum((1, 2), dtype=np.int64) == images.sum((1, 2), dtype=np.int64)).all()
    return moved


def test_glyphs_are_alike_wherever_they_lie():
    x = np.zeros((3, 28, 28), np.uint8)
    x[:2, 8:20, 8:20] = strokes.generate(2, seed=1)[0][:, 8:20, 8:20]      # the third is blank
    centred = neighbours.centred_pixels(x)
    assert centred.shape == (3, 196) and not centred[2].any()
    np.testing.assert_allclose(centred.sum(1), x.sum((1, 2), dtype=float) / 255 / 4, rtol=1e-5)
    for down, right in ((1, 1), (-2, 2), (5, -4)):
        np.testing.assert_allclose(neighbours.centred_pixels(np.roll(x, (down, right), (1, 2))), centred, atol=1e-5)


def test_copies_are_seen_where_they_were_moved():
    """Training images moved by a pixel or two: nearly all are seen; of fresh glyphs as few as by chance."""
    x, _ = strokes.generate(1400, seed=21)
    x = np.pad(x[:, 3:25, 3:25], ((0, 0), (3, 3), (3, 3)))                 # with a margin to move in
    train, real, fresh = x[:800], x[800:1100], x[1100:]

    def check(images):
        pixels = [i.reshape(len(i), -1) / 255 for i in (real, images, train)]
        return neighbours.copies(*(FeatureSet(moments(v), v, images=i) for v, i in zip(pixels, (real, images, train))))
    assert check(fresh)["moved_copies"] < 0.06
    for down, right in ((1, 1), (2, -2)):
        found = check(move(train[:200], down, right))
        assert found["moved_copies"] > 0.95 and found["near_copies"] < 0.6, "where pixels at their place miss them"


def test_copies_are_told_from_fresh_samples():
    rng = np.random.default_rng(14)
    train, real, fresh = (rng.standard_normal((n, 6)) for n in (3000, 1000, 1000))

    def check(fake):
        return neighbours.copies(*(FeatureSet(moments(x), x) for x in (real, fake, train)))

    honest = check(fresh)
    assert honest["ratio"] == pytest.approx(1, abs=0.08) and honest["n_train"] == 3000
    assert honest["near_copies"] < 0.04 and honest["exact_copies"] == 0
    copied = check(np.concatenate([train[:200], train[200:500] + 0.01, fresh[:500]]))
    assert copied["near_copies"] > 0.45 and copied["exact_copies"] == 0.2 and copied["ratio"] < 0.97
