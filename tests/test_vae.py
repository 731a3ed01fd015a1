"""The CVAE: its losses against their formulas, its code, and the mixture that becomes its prior."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_gan import make, make_batch, take_step

import models
from training import vae as vae_module
from training.vae import (
    ADVERSARIAL_FROM,
    KL_WARM_UP,
    ConditionalVAE,
    fit_gmm,
    fit_prior,
    kl_divergence,
    log_density,
)


def test_kl_divergence_is_that_of_torch():
    mean, log_var = torch.randn(2, 20, 5)
    here = torch.distributions.Normal(mean, (log_var / 2).exp())
    torch.testing.assert_close(kl_divergence(mean, log_var),
                               torch.distributions.kl_divergence(here, torch.distributions.Normal(0, 1)).sum(1))


def test_the_plain_cvae_has_no_discriminator_and_starts_near_zero_kl():
    vae = make(ConditionalVAE, gan_weight=0)
    losses = take_step(vae, make_batch())
    assert set(losses) == {"pixels", "KL"} and set(vae.networks) == {"vae", "ema"}
    assert 0 <= losses["KL"] < 1 and losses["pixels"] > 0


@pytest.mark.parametrize("progress, weight", [(0.0, 0.0), (KL_WARM_UP / 2, 0.5), (0.9, 1.0)])
def test_the_loss_is_the_negative_elbo_with_a_warm_up(progress, weight):
    vae = make(ConditionalVAE, gan_weight=0)
    with torch.no_grad():
        vae.vae.encoder.head[2].weight.mul_(30)            # codes far from standard normal, so that the KL term counts
    batch = make_batch(progress=progress)
    (_, loss, parts), = vae.losses(batch)
    rng = make_batch(progress=progress).rng                       # where the batch's own stood before
    mean, log_var = vae.vae.encoder(batch.images, batch.labels, batch.thickness)
    code = mean + torch.randn(mean.shape, generator=rng) * (log_var / 2).exp()
    p = torch.sigmoid(vae.vae.decoder.logits(code, batch.labels, batch.thickness))
    pixels = F.binary_cross_entropy(p, batch.images, reduction="sum") / len(batch.images)
    kl = kl_divergence(mean, log_var).mean()
    assert kl > 1
    torch.testing.assert_close(parts["pixels"], pixels.detach(), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(loss, pixels + weight * kl, rtol=1e-4, atol=1e-3)


def test_the_adversarial_loss_sets_in_later():
    early, late = (take_step(make(ConditionalVAE), make_batch(progress=p)) for p in (0.0, ADVERSARIAL_FROM))
    assert set(early) == {"pixels", "KL"} and list(late) == ["pixels", "KL", "D", "G", "label", "width"]


def test_the_adversarial_part_is_weighed_against_the_reconstruction():
    """In the middle of a run: pixels + KL + 6 (G + 0.5 label + 0.5 width), from what is drawn with the batch's own
    conditions, where the weight of what is in brackets goes from 2 to 18."""
    vae, asked = make(ConditionalVAE, gan_weight=2, gan_weight_end=18), []
    vae.vae.register_forward_pre_hook(lambda network, inputs: asked.append(inputs[1:]))
    batch = make_batch(step=1, progress=0.5)
    (_, _, d_parts), (_, loss, parts) = vae.losses(batch)
    logged = d_parts | parts
    expected = logged["pixels"] + logged["KL"] + 6 * (logged["G"] + 0.5 * logged["label"] + 0.5 * logged["width"])
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-4, atol=1e-3)
    (y, t), = asked
    assert torch.equal(y, batch.labels) and torch.equal(t, batch.thickness)


def test_finish_fits_codes_to_their_class_and_refit_hands_it_on():
    """Images of one class blank, of the other full of ink: their codes lie apart, and so do those that are drawn."""
    vae = make(ConditionalVAE, classes=2)
    labels, thickness = torch.arange(400) % 2, torch.full((400,), 0.5)
    images = (labels * 255).to(torch.uint8)[:, None, None].expand(400, 28, 28).contiguous()
    with torch.no_grad():
        vae.ema.encoder.head[2].weight[:16].mul_(30)
    vae.refit_prior(images, labels, thickness)
    assert all(torch.equal(v, vae.ema.prior.state_dict()[k]) for k, v in vae.vae.prior.state_dict().items())
    with torch.no_grad():
        mean, log_var = vae.ema.encoder(models.from_uint8(images), labels, thickness)
    noise = torch.randn(300, 17, generator=torch.Generator().manual_seed(1))
    for k in (0, 1):
        drawn = vae.ema.prior(noise, torch.full((300,), k))
        own, other = mean[labels == k].mean(0), mean[labels != k].mean(0)
        assert (drawn.mean(0) - own).norm() < 0.3 * (own - other).norm()
        spread = (log_var[labels == k].exp().mean(0)).sqrt()
        torch.testing.assert_close(drawn.std(0), spread, rtol=0.3, atol=0.05)      # codes are drawn, not means


def test_encoder_and_decoder_are_averaged():
    vae = make(ConditionalVAE, ema=0.9)
    before = {k: v.clone() for k, v in vae.ema.state_dict().items()}
    take_step(vae, make_batch(step=10_000))
    after, now = vae.ema.state_dict(), vae.vae.state_dict()
    for name in ("encoder.head.2.weight", "decoder.project.weight"):
        torch.testing.assert_close(after[name], 0.9 * before[name] + 0.1 * now[name])
        assert not torch.equal(after[name], before[name])


def test_the_prior_of_a_cvae_is_normal_until_it_is_fitted_and_then_follows_the_codes():
    vae = make(ConditionalVAE, classes=3)
    prior = vae.ema.prior
    torch.manual_seed(0)
    noise, y = torch.randn(500, 17), torch.arange(500) % 3
    torch.testing.assert_close(prior(noise, y), noise[:, 1:])
    images = torch.randint(0, 256, (600, 28, 28), dtype=torch.uint8)
    labels, thickness = torch.arange(600) % 3, torch.rand(600)
    with torch.no_grad():
        vae.ema.encoder.head[2].weight[:16].mul_(30)       # codes that are far from standard normal
    figures = vae.finish(images, labels, thickness)
    assert figures["kl"] > 0 and figures["active_units"] > 0
    with torch.no_grad():
        mean, log_var = vae.ema.encoder(models.from_uint8(images), labels, thickness)
    for k in range(3):
        drawn = prior(noise, torch.full((500,), k))
        spread = (mean[labels == k].var(0) + log_var[labels == k].exp().mean(0)).sqrt()
        assert ((drawn.mean(0) - mean[labels == k].mean(0)).abs() < 0.3 * spread).all()
        assert ((drawn.std(0) / spread - 1).abs() < 0.3).all()


def test_the_dial_of_a_cvae_does_not_jump():
    """With one noise images change by small steps as the dial is turned, across 0.5 as elsewhere, though the prior was
    fitted to codes that lie apart for thin and thick."""
    vae = make(ConditionalVAE, classes=2)
    labels, thick = np.arange(400) // 200, np.arange(400) % 2
    codes = 0.1 * np.random.default_rng(0).standard_normal((400, 16)) + np.where(thick, 3, -3)[:, None]
    for name, values in zip(("thresholds", "mean", "root"), fit_prior(codes, labels, 2, 10), strict=True):
        getattr(vae.ema.prior, name).copy_(torch.from_numpy(values))
    noise = torch.randn(1, 17, generator=torch.Generator().manual_seed(0)).expand(101, 17)
    images = vae.ema(noise, torch.zeros(101, dtype=torch.int64), torch.linspace(0, 1, 101))
    steps = (images[1:] - images[:-1]).flatten(1).norm(dim=1)
    assert steps.max() < 4 * steps.median()


# ---- mixtures ------------------------------------------------------------------------------------

def blobs(n, seed=0):
    """Points of two well-separated Gaussians, a quarter and three quarters."""
    rng = np.random.default_rng(seed)
    few = rng.standard_normal((n // 4, 3)) * 0.5 + [5, 0, -5]
    many = rng.standard_normal((n - n // 4, 3)) @ np.diag([1, 2, 0.3]) - [4, 0, 0]
    return np.concatenate([few, many])


def test_log_density_of_a_gaussian_is_its_formula():
    rng = np.random.default_rng(1)
    cholesky = np.tril(rng.standard_normal((3, 3))) + 3 * np.eye(3)
    mean, cov = rng.standard_normal(3), cholesky @ cholesky.T
    x = rng.standard_normal((7, 3))
    mahalanobis = np.einsum("ni,ij,nj->n", x - mean, np.linalg.inv(cov), x - mean)
    expected = -0.5 * (mahalanobis + np.linalg.slogdet(2 * np.pi * cov)[1])
    np.testing.assert_allclose(log_density(x, mean[None], cov[None])[:, 0], expected)


def test_one_component_is_mean_and_covariance():
    x = blobs(400)
    weights, mean, cov = fit_gmm(x, 1, np.random.default_rng(0))
    np.testing.assert_allclose(weights, [1])
    np.testing.assert_allclose(mean[0], x.mean(0), atol=1e-9)
    np.testing.assert_allclose(cov[0], np.cov(x.T, bias=True) + 1e-4 * np.eye(3), atol=1e-9)


def test_two_blobs_are_found():
    weights, mean, cov = fit_gmm(blobs(4000), 2, np.random.default_rng(0))
    order = np.argsort(weights)
    np.testing.assert_allclose(weights[order], [0.25, 0.75], atol=0.01)
    np.testing.assert_allclose(mean[order], [[5, 0, -5], [-4, 0, 0]], atol=0.1)
    np.testing.assert_allclose(np.diagonal(cov[order[1]]), [1, 4, 0.09], rtol=0.1)


def test_expectation_maximisation_does_not_lose_likelihood():
    x = np.random.default_rng(3).standard_normal((500, 2)) ** 3

    def likelihood(steps):
        weights, mean, cov = fit_gmm(x, 4, np.random.default_rng(0), steps=steps)
        return np.logaddexp.reduce(log_density(x, mean, cov) + np.log(weights), axis=1).mean()
    values = [likelihood(steps) for steps in (1, 3, 10, 30)]
    assert all(np.diff(values) > -1e-3) and values[-1] > values[0] + 0.1


@pytest.mark.parametrize("n", [0, 1, 4, 30, 100, 1600])
def test_a_prior_is_sane_for_any_size_of_a_class(n):
    rng = np.random.default_rng(0)
    codes = np.concatenate([rng.standard_normal((1000, 4)), rng.standard_normal((n, 4)) + 3])
    thresholds, mean, cholesky = fit_prior(codes, np.repeat([0, 1], [1000, n]), 2, components=5)
    assert thresholds.shape == (2, 5) and mean.shape == (10, 4) and cholesky.shape == (10, 4, 4)
    assert all(np.isfinite(a).all() for a in (mean, cholesky))
    assert (np.diagonal(cholesky, axis1=1, axis2=2) > 0).all() and (np.diff(thresholds, axis=1) >= 0).all()
    assert (thresholds[1] < 1e8).sum() + 1 <= max(1, n // 80)
    if n:                                               # the class's own codes, not the other class's
        assert abs(mean[5].mean() - 3) < 1.5


def test_of_many_codes_an_even_selection_is_fitted(monkeypatch):
    monkeypatch.setattr(vae_module, "MAX_CODES", 100)
    codes = np.linspace(0, 1, 1000)[:, None] + 0.01 * np.random.default_rng(0).standard_normal((1000, 2))
    _, mean, _ = fit_prior(codes, np.zeros(1000, np.int64), 1, components=1)
    np.testing.assert_allclose(mean, 0.5, atol=0.03)


def test_covariances_lean_on_the_prior_as_on_so_many_points():
    x, own = blobs(4000), 0.7 * np.eye(3)
    weights, _, cov = fit_gmm(x, 2, np.random.default_rng(0), prior_cov=own, prior_count=1000)
    few = x[:1000]                                      # of the smaller blob
    c = np.argmin(weights)
    expected = (np.cov(few.T, bias=True) * 1000 + 1000 * own) / 2000 + 1e-4 * np.eye(3)
    np.testing.assert_allclose(cov[c], expected, atol=0.05)
