"""The spread of a generator's noise: what it does to a network, and that the fit finds what is missing."""
import math

import pytest
import torch
from test_gan import make

import models
from training import pretraining
from training.gan import ConditionalGAN
from training.spread import FEWEST, STEP, STEPS, fit_spread


class Slanted(torch.nn.Module):
    """A stand-in for a generator: an upright bar whose slant is its first noise value, times `reach` radians."""

    def __init__(self, reach):
        super().__init__()
        self.cfg, self.reach = models.GeneratorConfig(latent=2), reach

    def scale_noise(self, factor):
        self.reach *= factor

    def forward(self, noise, label, thickness):
        slant = self.reach * noise[:, 0].clamp(-2, 2)
        y, x = torch.meshgrid(torch.arange(28) - 13.5, torch.arange(28) - 13.5, indexing="ij")
        across = (x * slant.cos()[:, None, None] - y * slant.sin()[:, None, None]).abs()
        return ((2 - across).clamp(0, 1) * (y.abs() < 10)).unsqueeze(1)


def hands(reach, n=FEWEST, seed=5):
    """What a Slanted with this reach draws: images uint8 [n, 28, 28], labels, thickness."""
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return models.to_uint8(Slanted(reach)(noise, None, None)), torch.zeros(n, dtype=torch.int64), torch.rand(n)


@pytest.mark.parametrize("missing, found", [(1.0, 1.0), (1.1, 1.1), (1.5, 1 + STEPS * STEP)])
def test_the_fit_finds_by_how_much_a_generator_draws_too_near(missing, found):
    network = Slanted(0.3 / missing)
    assert abs(fit_spread(network, *hands(0.3)) - found) < (1.5 * STEP if missing < 1.2 else 1e-9)
    assert network.reach == 0.3 / missing, "the network itself stays as it is"


def test_where_nothing_can_be_said_the_noise_stays(monkeypatch, tmp_path):
    assert fit_spread(Slanted(0.4), *hands(0.3)) == 1.0, "drawing too far"
    assert fit_spread(Slanted(0.2), *(part[:FEWEST - 1] for part in hands(0.3))) == 1.0, "few images"
    assert fit_spread(Slanted(math.nan), *hands(0.3)) == 1.0, "weights that are no numbers"
    monkeypatch.setattr(pretraining, "FOLDER", tmp_path)
    assert fit_spread(Slanted(0.2), *hands(0.3)) == 1.0, "no backbone"
    (tmp_path / "classifier-tiny.pth").write_bytes(b"broken")
    assert fit_spread(Slanted(0.2), *hands(0.3)) == 1.0, "a broken one"


def test_a_gan_with_scaled_noise_draws_what_larger_noise_did():
    torch.manual_seed(0)
    network = models.Generator(models.GeneratorConfig(3)).eval()
    noise, y, t = torch.randn(6, 64), torch.arange(6) % 3, torch.rand(6)
    with torch.no_grad():
        before, expected = network(noise, y, t), network(1.5 * noise, y, t)
        network.scale_noise(1.5)
        torch.testing.assert_close(network(noise, y, t), expected)
    assert not torch.allclose(before, expected, atol=0.01)


def test_scaled_codes_of_a_cvae_lie_further_from_their_component():
    """The first noise value, which picks the component, keeps its meaning."""
    network = models.CVAE(models.CVAEConfig(1, 3, components=2))
    network.prior.mean.copy_(torch.tensor([[5.0, 0], [-5, 0]]))
    network.prior.thresholds.copy_(torch.tensor([[0.0, 1e9]]))
    network.scale_noise(2.0)
    noise = torch.tensor([[-0.1, 1, 1], [0.1, 1, -1]])
    torch.testing.assert_close(network.prior(noise, torch.zeros(2, dtype=torch.int64)), torch.tensor([[7.0, 2], [-3, -2]]))


def test_a_run_fits_the_averaged_generator_and_says_how(monkeypatch):
    from training import run
    gan = make(ConditionalGAN, classes=2)
    before = [network.mix[0].weight.clone() for network in (gan.ema, gan.generator)]
    asked = []
    monkeypatch.setattr(run, "fit_spread", lambda *args: asked.append(args) or 1.5)
    monkeypatch.setattr(run, "fit_tone", lambda *args: asked.append(args) or torch.linspace(0, 0.9, 256))
    stub = type("Stub", (), {"trainer": gan, "batches": type("Batches", (), {"all": lambda self: ("images", "labels", "thickness")})()})
    assert run.Run.fit_generator(stub) == {"spread": 1.5, "full_ink": 229.5}
    assert asked == 2 * [(gan.ema, "images", "labels", "thickness")]
    torch.testing.assert_close(gan.ema.tone.values, torch.linspace(0, 0.9, 256))
    assert not gan.generator.cfg.tone
    torch.testing.assert_close(gan.ema.mix[0].weight[:, :64], 1.5 * before[0][:, :64])
    assert torch.equal(gan.ema.mix[0].weight[:, 64:], before[0][:, 64:])
    assert torch.equal(gan.generator.mix[0].weight, before[1])
