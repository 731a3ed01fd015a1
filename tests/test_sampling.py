import numpy as np
import pytest

import generate_digits as sampling

KNOWN_NOISE, KNOWN_U = [0.7462022, -0.0031871, -1.3263309, 0.6544232], [0.6757693896157496]


class Echo:
    """A generator whose images say what they were made from: the sampling law can be read off them."""
    classes, latent = ["a", "b", "c"], 6

    def __call__(self, noise, label, thickness):
        made = np.zeros((len(noise), 28, 28), np.uint8)
        made[:, 0, :6] = (noise * 20 + 128).clip(0, 255)
        made[:, 1, 0], made[:, 1, 1] = label, thickness * 255
        return made


def test_noise_is_standard_normal():
    noise, u = sampling.draw_noise(seed=1, start=0, n=20_000, latent=64)
    assert noise.dtype == np.float32 and np.isfinite(noise).all()
    assert abs(noise.mean()) < 0.005 and abs(noise.std() - 1) < 0.005
    assert abs((noise ** 4).mean() - 3) < 0.05                                # the kurtosis of a normal
    assert abs(np.corrcoef(noise[:, :8].T) - np.eye(8)).max() < 0.04          # dimensions do not follow each other
    assert abs(np.corrcoef(noise[1:, 0], noise[:-1, 0])[0, 1]) < 0.04         # nor do samples
    assert 0 <= u.min() and u.max() < 1 and abs(u.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(u, noise[:, 0])[0, 1]) < 0.04


@pytest.mark.parametrize("latent", [1, 16, 63, 64])
def test_draw_depends_on_seed_and_index_alone(latent):
    whole, u = sampling.draw_noise(5, 0, 100, latent)
    for start, n in ((0, 1), (7, 13), (64, 36)):
        part, v = sampling.draw_noise(5, start, n, latent)
        assert np.array_equal(part, whole[start:start + n]) and np.array_equal(v, u[start:start + n])
    assert not np.allclose(sampling.draw_noise(6, 0, 100, latent)[0], whole)


def test_known_values():
    """The numbers behind a seed are part of the contract: they may never change."""
    noise, u = sampling.draw_noise(0, 3, 1, 4)
    np.testing.assert_allclose(noise[0], KNOWN_NOISE, rtol=1e-5)
    np.testing.assert_allclose(u, KNOWN_U, rtol=1e-12)


def test_a_longer_run_begins_with_the_shorter_one():
    long = sampling.sample_all(Echo(), 300, seed=2)
    for n in (1, 10, 63, 64, 65, 200):
        for a, b in zip(sampling.sample_all(Echo(), n, seed=2), long):
            assert len(a) == n and np.array_equal(a, b[:n])


@pytest.mark.parametrize("classes", [[0], [0, 1], [0, 1, 2], [2, 0]])
def test_labels_cycle_and_styles_are_balanced(classes):
    _, labels, t = sampling.sample_all(Echo(), 24 * len(classes), digits=classes)
    assert labels.dtype == np.int64 and t.dtype == np.float32
    assert list(labels[:2 * len(classes)]) == classes * 2
    for k in classes:
        assert np.sum(labels == k) == 24 and np.sum(t[labels == k] >= 0.5) == 12


def test_styles_keep_to_their_half():
    for style, low, high in (("thin", 0, 0.5), ("thick", 0.5, 1)):
        _, _, t = sampling.sample_all(Echo(), 4000, style=style)
        assert low <= t.min() < low + 0.01 and high - 0.01 < t.max() <= high
        assert (t >= 0.5).all() == (style == "thick") and abs(t.mean() - (low + 0.25)) < 0.01
    labels, t = sampling.conditions(np.array([1 - 2.0 ** -53]), 0, [0], "thin")
    assert t[0] < 0.5                                                             # the largest u of all
    _, _, t = sampling.sample_all(Echo(), 50, thickness=0.8)
    assert (t == np.float32(0.8)).all()
