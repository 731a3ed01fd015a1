"""The spread of a generator's noise: what it does to a network, and that the fit finds what is missing."""
from dataclasses import replace

import pytest
import torch
from test_gan import make, make_batch, take_step

import models
from training import pretraining
from training.gan import ConditionalGAN
from training.spread import FEWEST, LARGEST, STEP, fit_spread
from training.vae import ConditionalVAE


class Slanted(torch.nn.Module):
    """A stand-in for a generator: an upright bar whose slant is its first noise value, times `reach` radians."""

    def __init__(self, reach):
        super().__init__()
        self.cfg, self.reach = models.GeneratorConfig(latent=2), reach

    def forward(self, noise, label, thickness):
        slant = self.cfg.spread * self.reach * noise[:, 0].clamp(-2, 2)
        y, x = torch.meshgrid(torch.arange(28) - 13.5, torch.arange(28) - 13.5, indexing="ij")
        across = (x * slant.cos()[:, None, None] - y * slant.sin()[:, None, None]).abs()
        return ((2 - across).clamp(0, 1) * (y.abs() < 10)).unsqueeze(1)


def hands(reach, n=FEWEST, seed=5):
    """What a Slanted with this reach draws: images uint8 [n, 28, 28], labels, thickness."""
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return models.to_uint8(Slanted(reach)(noise, None, None)), torch.zeros(n, dtype=torch.int64), torch.rand(n)


@pytest.mark.parametrize("missing", [1.0, 1.1, 1.5])
def test_the_fit_finds_by_how_much_a_generator_draws_too_near(missing):
    network = Slanted(0.3 / missing)
    found = fit_spread(network, *hands(0.3))
    assert abs(found - min(missing, LARGEST)) <= STEP + 1e-9
    assert network.cfg.spread == 1.0, "the caller sets it"


def test_who_draws_too_far_is_left_alone_and_few_images_say_nothing(monkeypatch, tmp_path):
    assert fit_spread(Slanted(0.4), *hands(0.3)) == 1.0
    assert fit_spread(Slanted(0.2), *(part[:FEWEST - 1] for part in hands(0.3))) == 1.0
    monkeypatch.setattr(pretraining, "FOLDER", tmp_path)
    assert fit_spread(Slanted(0.2), *hands(0.3)) == 1.0, "nor does who has no backbone"


@pytest.mark.parametrize("kind", ["generator", "cvae"])
def test_spread_noise_is_larger_noise_and_training_knows_none(kind):
    """Of a CVAE's noise the first value, which picks the component, keeps its size."""
    torch.manual_seed(0)
    config, network = models.MODELS[kind]
    wide = network(config(3, spread=1.5))
    plain = network(config(3))
    plain.load_state_dict(wide.state_dict())
    noise, y, t = torch.randn(6, wide.cfg.latent), torch.arange(6) % 3, torch.rand(6)
    larger = 1.5 * noise
    if kind == "cvae":
        larger[:, 0] = noise[:, 0]
    with torch.no_grad():
        assert torch.equal(wide(noise, y, t), plain(noise, y, t)), "in training"
        wide.eval(), plain.eval()
        torch.testing.assert_close(wide(noise, y, t), plain(larger, y, t))
        assert not torch.allclose(wide(noise, y, t), plain(noise, y, t), atol=0.01)


def test_a_spread_code_lies_further_from_its_component():
    prior = models.Prior(models.CVAEConfig(1, 3, components=2, spread=2.0)).eval()
    prior.mean.copy_(torch.tensor([[5.0, 0], [-5, 0]]))
    prior.thresholds.copy_(torch.tensor([[0.0, 1e9]]))
    noise = torch.tensor([[-0.1, 1, 1], [0.1, 1, -1]])
    torch.testing.assert_close(prior(noise, torch.zeros(2, dtype=torch.int64)), torch.tensor([[7.0, 2], [-3, -2]]))


@pytest.mark.parametrize("trainer", [ConditionalGAN, ConditionalVAE])
def test_the_averaged_network_gets_the_spread_and_the_record_says_it(trainer, monkeypatch, tmp_path):
    seen = []

    def fit(network, *images):
        seen.append((network, len(images[0])))
        return 1.075
    monkeypatch.setattr(f"training.{'gan' if trainer is ConditionalGAN else 'vae'}.fit_spread", fit)
    made = make(trainer, classes=2)
    images, labels, thickness = torch.randint(0, 256, (200, 28, 28), dtype=torch.uint8), torch.arange(200) % 2, torch.rand(200)
    made.refit_prior(images, labels, thickness)
    assert not seen, "only at the end"
    assert made.finish(images, labels, thickness)["spread"] == 1.075
    assert seen == [(made.ema, 200)] and made.ema.cfg.spread == 1.075
    learning = made.generator if trainer is ConditionalGAN else made.vae
    assert learning.cfg == replace(made.ema.cfg, spread=1.0)
    kind, network = made.checkpoints[made.name]
    models.save(tmp_path / "g.pth", models.Checkpoint(kind, network, ["a", "b"], torch.zeros(2, 256).numpy()))
    assert models.load(tmp_path / "g.pth").model.cfg.spread == 1.075
    take_step(made, make_batch(classes=2))
    assert made.ema.cfg.spread == 1.0, "it was that of other weights"
