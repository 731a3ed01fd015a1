"""FID against closed forms and laws; its bias and its uncertainty against many samples."""
import numpy as np
import pytest

from metrics import frechet_distance as module
from metrics.frechet_distance import Moments, bootstrap_fid, fid, fid_bias, fid_infinity, frechet_distance, moments
from utils.files import UserError


def random_cov(rng, d, rank=None):
    a = rng.standard_normal((d, rank or 2 * d))
    return a @ a.T / a.shape[1]


def fid_of(real, fake):
    return fid(moments(real), moments(fake))


def test_equal_covariances_give_the_squared_distance_of_means():
    rng = np.random.default_rng(0)
    cov, shift = random_cov(rng, 20), rng.standard_normal(20)
    assert frechet_distance(shift, cov, np.zeros(20), cov) == pytest.approx(shift @ shift, rel=1e-10)


@pytest.mark.parametrize("zeros", [0, 3])
def test_diagonal_covariances(zeros):
    rng = np.random.default_rng(1)
    a, b = rng.random((2, 12)) + 0.1
    a[:zeros] = 0
    value = frechet_distance(np.zeros(12), np.diag(a ** 2), np.zeros(12), np.diag(b ** 2))
    assert value == pytest.approx(((a - b) ** 2).sum(), rel=1e-12)


def test_known_values():
    one, zeros = np.eye(1), np.zeros(2)
    assert frechet_distance(np.zeros(1), one, 3 * np.ones(1), 4 * one) == pytest.approx(10)     # 3^2 + (1 - 2)^2
    value = frechet_distance(zeros, np.array([[2.0, 1], [1, 2]]), np.array([1.0, 0]), np.eye(2))
    assert value == pytest.approx(1 + 6 - 2 * (3 ** 0.5 + 1))


@pytest.mark.parametrize("rank", [None, 7])
def test_self_is_zero_and_symmetric(rank):
    rng = np.random.default_rng(2)
    a, b, mean = random_cov(rng, 200, rank), random_cov(rng, 200), rng.standard_normal(200)
    assert frechet_distance(mean, a, mean, a) == pytest.approx(0, abs=1e-9)
    # to 1e-12, whichever of the two is singular: roots of rounding errors would leave 1e-9
    assert frechet_distance(mean, a, 0 * mean, b) == pytest.approx(frechet_distance(0 * mean, b, mean, a), rel=1e-12)


def test_scale_and_rotation():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((200, 16)), rng.standard_normal((300, 16)) @ rng.standard_normal((16, 16)) + 1
    rotation = np.linalg.qr(rng.standard_normal((16, 16)))[0]
    assert fid_of(3 * x, 3 * y) == pytest.approx(9 * fid_of(x, y), rel=1e-9)
    assert fid_of(x @ rotation + 5, y @ rotation + 5) == pytest.approx(fid_of(x, y), rel=1e-9)


def test_fewer_images_than_features():
    """In the space that the images span, the covariances have full rank: the same value must come out in both."""
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((20, 6)), 2 * rng.standard_normal((30, 6))
    basis = np.linalg.qr(rng.standard_normal((500, 6)))[0]
    assert fid_of(x @ basis.T, y @ basis.T) == pytest.approx(fid_of(x, y), rel=1e-9)
    z = rng.standard_normal((10, 300))
    assert fid_of(z, z) == pytest.approx(0, abs=1e-9)
    constant = np.zeros((10, 5))
    assert fid_of(constant, constant) == 0 and fid_of(constant, constant + 1) == pytest.approx(5)


def test_batch_size_does_not_matter(monkeypatch):
    rng = np.random.default_rng(5)
    x = (rng.standard_normal((203, 9)) + 1e4).astype(np.float32)           # far from zero: cancellation would show
    exact = x.astype(np.float64)
    for batch in (1, 7, 203):
        monkeypatch.setattr(module, "BATCH", batch)
        mean, cov, n, _ = moments(x)
        np.testing.assert_allclose(mean, exact.mean(0), rtol=1e-13)
        np.testing.assert_allclose(cov, np.cov(exact.T), rtol=1e-9, atol=1e-12)
        assert n == 203


def test_bad_numbers_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        moments([[np.nan, 1], [1, 1]])
    with pytest.raises(ValueError, match="two vectors"):
        moments([[1.0, 2.0]])
    with pytest.raises(ValueError, match="size"):
        frechet_distance(np.zeros(3), np.eye(3), np.zeros(4), np.eye(4))


def test_bias_is_what_equal_distributions_score():
    rng = np.random.default_rng(6)
    scale = np.linspace(0.2, 2, 24)
    scores = [fid_of(rng.standard_normal((400, 24)) * scale, rng.standard_normal((900, 24)) * scale) for _ in range(20)]
    bias = fid_bias(Moments(0, np.diag(scale ** 2), 400), Moments(0, None, 900))
    assert bias == pytest.approx(np.mean(scores), rel=0.05)
    hundred = Moments(0, np.eye(8), 100)
    assert fid_bias(hundred, hundred) == pytest.approx(8 * 13 / 4 / 50)
    assert fid_bias(hundred, Moments(0, np.eye(8))) is None                # an N is unknown


def test_bootstrap_matches_the_spread_of_independent_samples():
    rng = np.random.default_rng(7)
    draw = lambda: (rng.standard_normal((500, 8)), 2 * rng.standard_normal((500, 8)) + 1)
    spread = np.std([fid_of(*draw()) for _ in range(150)])
    assert bootstrap_fid(*draw(), repeats=80) == pytest.approx(spread, rel=0.3)


def test_infinity_removes_the_bias():
    rng = np.random.default_rng(8)
    x, y = rng.standard_normal((2000, 24)), rng.standard_normal((2000, 24))
    result = fid_infinity(x, y)
    assert abs(result["value"]) < fid_of(x, y) / 3 and 0 < result["standard_error"] < 0.1
    with pytest.raises(UserError, match="3 d = 72"):
        fid_infinity(x[:70], y)
