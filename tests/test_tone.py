"""The tone curve of a generator's ink: what it does to grey levels, and that a network keeps it."""
import numpy as np
import pytest
import torch

import export_onnx
import models
from training.tone import FULL, INK, fit_tone, tone_curve


def counts(pixels):
    """How many pixels have each grey level, int [256], of {level: number}."""
    return np.bincount(list(pixels), list(pixels.values()), 256).astype(np.int64)


def test_equal_histograms_leave_every_level_as_it_is():
    same = np.random.default_rng(0).integers(1, 100, 256)
    np.testing.assert_allclose(tone_curve(same, 3 * same), np.arange(256))


def test_ink_gets_the_histogram_of_real_ink():
    """Each drawn level becomes the mean of the real levels of its ranks; paper and faint ink stay."""
    drawn = counts({0: 900, 100: 50, 200: 40, 255: 60})
    real = counts({0: 800, 90: 5, 210: 20, 252: 20, 254: 10})
    curve = tone_curve(drawn, real)
    np.testing.assert_array_equal(curve[:INK + 1], np.arange(INK + 1))
    assert curve[200] == pytest.approx(210)                                # the lowest 40 %
    assert curve[255] == pytest.approx((20 * 252 + 10 * 254) / 30)         # the others
    assert curve[FULL:] @ drawn[FULL:] / 100 == pytest.approx(real[FULL:] @ np.arange(FULL, 256) / 50), "the mean, too"


def test_where_real_ink_is_full_so_is_drawn_ink():
    curve = tone_curve(np.full(256, 10), counts({0: 100, 255: 20}))
    np.testing.assert_allclose(curve[FULL:], 255)
    assert (np.diff(curve)[:FULL] > 0).all() and np.diff(curve).max() < 5, "no step, at which rounding would show"


@pytest.mark.parametrize("drawn, real", [(counts({0: 9}), counts({255: 9})), (counts({255: 9}), counts({100: 9}))])
def test_without_ink_there_is_nothing_to_fit(drawn, real):
    np.testing.assert_array_equal(tone_curve(drawn, real), np.arange(256))


def test_no_level_overtakes_another():
    rng = np.random.default_rng(0)
    for _ in range(50):
        drawn, real = (rng.integers(0, 50, 256) * (rng.random(256) < 0.2) for _ in range(2))
        curve = tone_curve(drawn, real)
        assert (np.diff(curve) >= 0).all() and curve[0] == 0 and curve[-1] <= 255
    assert (np.diff(tone_curve(counts({255: 9}), counts({160: 9}))) >= 0).all(), "the faintest ink"


class Bars(torch.nn.Module):
    """A stand-in for a generator: a bar of full ink, and one whose grey level is its first noise value."""
    cfg = models.GeneratorConfig(latent=2)

    def forward(self, noise, label, thickness):
        images = torch.zeros(len(noise), 1, 28, 28)
        images[:, :, 5] = 1.0
        images[:, :, 15] = (0.9 + 0.02 * noise[:, :1].clamp(-2, 2))[:, :, None]
        return images


@pytest.mark.parametrize("full", [253, 240])
def test_the_fit_finds_what_the_training_images_call_full_ink(full):
    n = 500
    real = models.to_uint8(Bars()(torch.randn(n, 2, generator=torch.Generator().manual_seed(1)), None, None))
    real = (real.float() * full / 255).round().to(torch.uint8)
    tone = fit_tone(Bars(), real, torch.zeros(n, dtype=torch.int64), torch.rand(n))
    assert float(tone[-1]) * 255 == pytest.approx(full, abs=0.1)
    middle = round(0.9 * 255)
    assert float(tone[middle]) * 255 == pytest.approx(middle * full / 255, abs=1)


def test_weights_that_are_no_numbers_get_no_curve():
    class Broken(Bars):
        def forward(self, noise, label, thickness):
            return super().forward(noise, label, thickness) * float("nan")
    tone = fit_tone(Broken(), torch.full((20, 28, 28), 255, dtype=torch.uint8), torch.zeros(20, dtype=torch.int64), torch.rand(20))
    torch.testing.assert_close(tone, torch.linspace(0, 1, 256))


@pytest.mark.parametrize("kind", ["generator", "cvae"])
def test_a_network_draws_keeps_and_exports_with_its_curve(kind, tmp_path):
    torch.manual_seed(0)
    network = models.MODELS[kind][1](models.config_for(kind, 3)).eval()
    inputs = torch.randn(40, network.cfg.latent), torch.arange(40) % 3, torch.rand(40)
    with torch.no_grad():
        getattr(network, "decoder", network).net[-2].weight *= 30          # from grey to ink and paper
        before = network(*inputs)
        network.set_tone(torch.linspace(0, 1, 256))
        torch.testing.assert_close(network(*inputs), before)
        network.set_tone(torch.from_numpy(tone_curve(np.ones(256), counts({250: 1}))).float() / 255)
        toned = network(*inputs)
    torch.testing.assert_close(toned[before < INK / 255], before[before < INK / 255])
    torch.testing.assert_close(toned[before > FULL / 255], torch.full_like(before, 250 / 255)[before > FULL / 255])
    assert 255 not in models.to_uint8(toned) and 250 in models.to_uint8(toned)

    saved = models.Checkpoint(kind, models.rounded_to_half(network), list("abc"), np.zeros((3, 256), np.float32))
    models.save(tmp_path / "g.pth", saved)
    loaded = models.load(tmp_path / "g.pth", kind)
    assert torch.equal(models.to_uint8(loaded.model(*inputs)), models.to_uint8(saved.model(*inputs)))
    assert export_onnx.export(loaded, tmp_path / "g.onnx")["max_difference"] <= 1
