"""KID against a known value and its law: unbiased."""
import numpy as np
import pytest

from metrics.kernel_distance import kernel_distance


def test_kid_is_unbiased():
    rng = np.random.default_rng(9)
    results = [kernel_distance(rng.standard_normal((400, 8)), rng.standard_normal((500, 8)), 20, 100, seed)
               for seed in range(30)]
    values, errors = np.array([(r["value"], r["standard_error"]) for r in results]).T
    assert abs(values.mean()) < 3 * values.std() / 30 ** 0.5
    assert (np.abs(values) < 2 * errors).mean() > 0.9
    shifted = kernel_distance(rng.standard_normal((400, 8)), rng.standard_normal((500, 8)) + 1)
    assert shifted["value"] > 5 * shifted["standard_error"] and shifted["size"] == 200


def test_kid_known_value():
    x, y = np.array([[0.0], [0], [0], [0]]), np.array([[1.0], [1], [1], [1]])
    assert kernel_distance(x, y, subsets=3)["value"] == pytest.approx(1 + 8 - 2)   # k(0,0) = k(0,1) = 1, k(1,1) = 2^3
