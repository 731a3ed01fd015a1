import argparse

import numpy as np
import pytest
import torch

import models
from training.classifier import Recogniser
from training.objectives import AuxiliaryClassifierGAN, ConditionalGAN, ConditionalVAE, kl_divergence, soft_ink
from training.steps import update_average
from utils.files import UserError

CPU = torch.device("cpu")


def settings(**more):
    return argparse.Namespace(**{**dict(warp=1.0, label_weight=0.3, g_label_weight=0.1, ink_weight=0.5, r1=0.02, r1_end=0.1,
                                          ema=0.999, bf16=False, gan_weight=10, diffaugment=0), **more})


def batch(n=12, classes=10, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return (torch.rand(n, 1, 28, 28, generator=rng), torch.arange(n) % classes, torch.rand(n, generator=rng))


def weights(network):
    return {k: v.clone() for k, v in network.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("classes", [2, 10, 49])
def test_shapes_and_ranges(classes):
    x, y, t = batch(classes=classes)
    generator = models.Generator(models.GeneratorConfig(classes)).eval()
    made = generator(torch.randn(12, generator.cfg.latent), y, t)
    assert made.shape == (12, 1, 28, 28) and made.dtype == torch.float32
    assert 0 <= made.min() and made.max() <= 1
    score, logits = models.Discriminator(models.DiscriminatorConfig(classes))(x, y, t)
    assert score.shape == (12,) and logits.shape == (12, classes)
    classifier = models.Classifier(models.ClassifierConfig(classes)).eval()
    assert classifier(x).shape == (12, classes)
    assert classifier.features(x).shape[1] <= 128


@pytest.mark.parametrize("objective", [ConditionalGAN, AuxiliaryClassifierGAN, ConditionalVAE])
@pytest.mark.parametrize("more", [{}, {"bf16": True}, {"diffaugment": 3}])
def test_every_parameter_gets_a_finite_gradient(objective, more):
    model = objective(settings(**more), 10, CPU)
    losses = model.step(*batch(), lr=1e-3, i=0, progress=0.5, rng=torch.Generator().manual_seed(0))
    assert all(v.isfinite() for v in losses.values())
    for network in (model.generator, model.discriminator):
        for name, p in network.named_parameters():
            assert p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0, name


def test_every_parameter_of_the_classifier_gets_a_finite_gradient():
    recogniser = Recogniser(settings(), 10, CPU)
    recogniser.step(*batch(), lr=1e-3, i=0, progress=0.0, rng=torch.Generator().manual_seed(0))
    for name, p in recogniser.classifier.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0, name


def test_each_half_step_leaves_the_other_network_alone():
    gan = ConditionalGAN(settings(), 10, CPU)
    x, y, t = batch()
    rng = torch.Generator()
    gan.optimizers["discriminator"].param_groups[0]["lr"] = 1e-3
    fake = gan.generator(torch.randn(12, 64), y, t)
    g, d = weights(gan.generator), weights(gan.discriminator)
    gan.discriminator_step(x, fake.detach(), y, t, 0, 0.0, rng)
    assert same(g, weights(gan.generator)) and not same(d, weights(gan.discriminator))
    for p in gan.discriminator.parameters():
        p.grad = None
    gan.fool(fake, y, t, rng)[0].backward()
    assert all(p.grad is None and p.requires_grad for p in gan.discriminator.parameters())
    assert all(p.grad is not None for p in gan.generator.parameters())


def test_the_score_of_an_auxiliary_classifier_gan_does_not_see_the_condition():
    x, y, t = batch()
    for projection in (False, True):
        network = models.Discriminator(models.DiscriminatorConfig(projection=projection))
        assert torch.equal(network(x, y, t)[0], network(x, (y + 1) % 10, 1 - t)[0]) is not projection


def test_kl_divergence_is_that_of_torch():
    mean, log_var = torch.randn(2, 20, 5)
    here = torch.distributions.Normal(mean, (log_var / 2).exp())
    torch.testing.assert_close(kl_divergence(mean, log_var),
                               torch.distributions.kl_divergence(here, torch.distributions.Normal(0, 1)).sum(1))


def test_the_plain_cvae_has_no_discriminator_and_starts_near_zero_kl():
    vae = ConditionalVAE(settings(gan_weight=0), 10, CPU)
    losses = vae.step(*batch(), lr=1e-3, i=0, progress=0.5, rng=torch.Generator().manual_seed(0))
    assert set(losses) == {"pixels", "KL"} and set(vae.networks) == {"generator", "average"}
    assert 0 <= losses["KL"] < 1 and losses["pixels"] > 0


def test_the_prior_of_a_cvae_is_normal_until_it_is_fitted_and_then_follows_the_codes():
    vae = ConditionalVAE(settings(), 3, CPU)
    prior = vae.average.prior
    torch.manual_seed(0)
    noise, y, t = torch.randn(500, 17), torch.arange(500) % 3, torch.rand(500)
    torch.testing.assert_close(prior(noise, y, t), noise[:, 1:])
    images = torch.randint(0, 256, (600, 28, 28), dtype=torch.uint8)
    labels, thickness = torch.arange(600) % 3, torch.rand(600)
    with torch.no_grad():
        vae.average.encoder.head[2].weight[:16].mul_(30)       # codes that are far from standard normal
    figures = vae.settle(images, labels, thickness)
    assert figures["kl"] > 0 and figures["active_units"] > 0
    with torch.no_grad():
        mean, log_var = vae.average.encoder(models.from_uint8(images), labels, thickness)
    for k in range(3):
        made = prior(noise, torch.full((500,), k), t)
        spread = (mean[labels == k].var(0) + log_var[labels == k].exp().mean(0)).sqrt()
        assert ((made.mean(0) - mean[labels == k].mean(0)).abs() < 0.3 * spread).all()
        assert ((made.std(0) / spread - 1).abs() < 0.3).all()


def test_average_follows_its_formula_and_covers_batch_norm():
    a = models.Generator(models.GeneratorConfig())
    b = models.Generator(models.GeneratorConfig())
    for v in b.buffers():
        v.add_(3)                            # both start with the same statistics
    before, other = weights(a), weights(b)
    update_average(a, b, 0.9)
    for k, v in weights(a).items():
        if v.is_floating_point():
            torch.testing.assert_close(v, 0.9 * before[k] + 0.1 * other[k])
    assert not torch.equal(weights(a)["net.0.running_mean"], before["net.0.running_mean"])


def test_thickness_basis_interpolates_linearly():
    t = torch.tensor([0.0, 1.0, 0.5, 1 / 7, 0.2])
    basis = models.thickness_basis(t)
    torch.testing.assert_close(basis.sum(1), torch.ones(5))
    torch.testing.assert_close(basis @ torch.linspace(0, 1, models.BASIS), t)      # a linear curve is met exactly
    assert (basis > 0).sum(1).max() <= 2


def test_soft_ink_counts_what_data_counts():
    rng = np.random.default_rng(0)
    images = (rng.random((5, 28, 28)) < 0.2) * np.uint8(255)
    counted = soft_ink(models.from_uint8(torch.from_numpy(images)))
    torch.testing.assert_close(counted, torch.from_numpy((images > 127).sum((1, 2))).float(), atol=0.1, rtol=0)


def test_uint8_round_trip_is_exact():
    images = torch.arange(256, dtype=torch.uint8).repeat(49)[:28 * 28 * 16].reshape(16, 28, 28)
    assert torch.equal(models.to_uint8(models.from_uint8(images)), images)


def checkpoint(classes=10):
    torch.manual_seed(1)
    network = models.Generator(models.GeneratorConfig(classes))
    return models.Checkpoint("generator", network, [str(i) for i in range(classes)], np.zeros((classes, 256), np.int32),
                             {"dataset": "strokes", "license": "MIT"})


def test_checkpoint_round_trip(tmp_path):
    saved = checkpoint()
    models.save(tmp_path / "g.pth", saved)
    found = models.load(tmp_path / "g.pth", "generator")
    assert found.classes == saved.classes and found.info == saved.info
    assert np.array_equal(found.ink_table, saved.ink_table)
    noise = torch.randn(4, 64)
    inputs = noise, torch.arange(4), torch.rand(4)
    torch.testing.assert_close(found.model(*inputs), saved.model.eval()(*inputs))
    assert not found.model.training


def break_file(path, how):
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[:len(content) // 2])
    elif how == "one byte":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1:])
    elif how == "text":
        path.write_text("not a checkpoint")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "foreign":
        torch.save({"state_dict": {"w": torch.zeros(3)}}, path)
    elif how == "code":
        torch.save({"model": torch.nn.Linear(2, 2)}, path)
    else:
        saved = torch.load(path, weights_only=True)
        if how == "config":
            saved["config"]["c0"] = 10 ** 9
        elif how == "config type":
            saved["config"]["c0"] = "48"
        elif how == "classes":
            saved["classes"] = ["0"]
        elif how == "version":
            saved["version"] = 99
        elif how == "half":
            saved["weights"] = {k: v.half() if v.is_floating_point() else v for k, v in saved["weights"].items()}
        elif how == "nan":
            saved["weights"]["project.weight"][0] = float("nan")
        torch.save(saved, path)


@pytest.mark.parametrize("how", ["truncated", "one byte", "text", "empty", "foreign", "code", "config", "config type",
                                 "classes", "version", "nan", "half"])
def test_a_bad_checkpoint_is_an_error_that_names_the_file(tmp_path, how):
    path = tmp_path / "bad.pth"
    models.save(path, checkpoint())
    break_file(path, how)
    with pytest.raises(UserError, match="bad.pth"):
        models.load(path)


def test_missing_file_and_wrong_kind(tmp_path):
    with pytest.raises(UserError, match="none.pth"):
        models.load(tmp_path / "none.pth")
    models.save(tmp_path / "g.pth", checkpoint())
    with pytest.raises(UserError, match="holds a generator"):
        models.load(tmp_path / "g.pth", "classifier")
