"""Precision, recall, density, coverage and nearest neighbours by definition; copies told from fresh samples."""
import numpy as np
import pytest

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
