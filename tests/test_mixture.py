import numpy as np
import pytest

from training import mixture


def blobs(n, seed=0):
    """Points of two well-separated Gaussians, a quarter and three quarters."""
    rng = np.random.default_rng(seed)
    few = rng.standard_normal((n // 4, 3)) * 0.5 + [5, 0, -5]
    many = rng.standard_normal((n - n // 4, 3)) @ np.diag([1, 2, 0.3]) - [4, 0, 0]
    return np.concatenate([few, many])


def test_log_density_of_a_gaussian_is_its_formula():
    rng = np.random.default_rng(1)
    root = np.tril(rng.standard_normal((3, 3))) + 3 * np.eye(3)
    mean, cov = rng.standard_normal(3), root @ root.T
    x = rng.standard_normal((7, 3))
    away = x - mean
    wanted = -0.5 * (np.einsum("ni,ij,nj->n", away, np.linalg.inv(cov), away) + np.linalg.slogdet(2 * np.pi * cov)[1])
    np.testing.assert_allclose(mixture.log_density(x, mean[None], cov[None])[:, 0], wanted)


def test_one_component_is_mean_and_covariance():
    x = blobs(400)
    weights, mean, cov = mixture.fit(x, 1, np.random.default_rng(0))
    np.testing.assert_allclose(weights, [1])
    np.testing.assert_allclose(mean[0], x.mean(0), atol=1e-9)
    np.testing.assert_allclose(cov[0], np.cov(x.T, bias=True) + 1e-4 * np.eye(3), atol=1e-9)


def test_two_blobs_are_found():
    x = blobs(4000)
    weights, mean, cov = mixture.fit(x, 2, np.random.default_rng(0))
    order = np.argsort(weights)
    np.testing.assert_allclose(weights[order], [0.25, 0.75], atol=0.01)
    np.testing.assert_allclose(mean[order], [[5, 0, -5], [-4, 0, 0]], atol=0.1)
    np.testing.assert_allclose(np.diagonal(cov[order[1]]), [1, 4, 0.09], rtol=0.1)


def test_expectation_maximisation_does_not_lose_likelihood():
    x = np.random.default_rng(3).standard_normal((500, 2)) ** 3
    def likelihood(steps):
        weights, mean, cov = mixture.fit(x, 4, np.random.default_rng(0), steps=steps)
        logs = mixture.log_density(x, mean, cov) + np.log(weights)
        return np.logaddexp.reduce(logs, axis=1).mean()
    found = [likelihood(steps) for steps in (1, 3, 10, 30)]
    assert all(b > a - 1e-3 for a, b in zip(found, found[1:])) and found[-1] > found[0] + 0.1


@pytest.mark.parametrize("sizes", [(0, 0), (1, 0), (3, 1), (30, 20), (900, 700)])
def test_a_prior_is_sane_for_any_size_of_a_cell(sizes):
    rng = np.random.default_rng(0)
    n = sum(sizes)
    codes = np.concatenate([rng.standard_normal((1000, 4)), rng.standard_normal((n, 4)) + 3])
    labels = np.repeat([0, 1], [1000, n])
    thick = np.concatenate([np.arange(1000) % 2 == 0, np.repeat([False, True], sizes)])
    thresholds, mean, root = mixture.class_prior(codes, labels, thick, 2, components=5)
    assert thresholds.shape == (4, 5) and mean.shape == (20, 4) and root.shape == (20, 4, 4)
    assert np.isfinite(mean).all() and np.isfinite(root).all() and (np.diagonal(root, axis1=1, axis2=2) > 0).all()
    assert (np.diff(thresholds, axis=1) >= 0).all()
    used = (thresholds[2:] < 1e8).sum() + 2
    assert used <= max(2, 2 * (min(sizes) // 40)) if n else used == 2
    if n:
        assert abs(mean[10:11].mean() - 3) < 1.5        # the cell's codes, not the other class's
