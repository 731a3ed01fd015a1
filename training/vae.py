"""Conditional VAE, sharpened by an adversarial loss, and the mixture of Gaussians that becomes its prior."""
from dataclasses import dataclass
from statistics import NormalDist
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F

import models
from training.distributed import draw
from training.gan import AdversarialLoss, GANSettings, ema_copy, update_ema, width_loss
from training.trainer import Trainer

KL_WARM_UP = 0.15          # share of the run in which the weight of the KL term rises to 1 (Bowman et al. 2016)
ADVERSARIAL_FROM = 0.2     # share of the run after which decoded samples must fool the discriminator
MAX_CODES = 20_000         # codes of a class that its mixture is fitted to


@dataclass
class VAESettings(GANSettings):
    g_label_weight: float = 0.5
    gan_weight: float = 20.0         # of the adversarial loss, against a reconstruction of about 70 nats; 0: a plain VAE ...
    gan_weight_end: float = 600.0    # ... and at the end: by then codes have their places, and what is left to learn are textures
    momentum: float = 0.0            # Adam's first decay rate; 0 as in a GAN: with more textures come out worse
    backbone: bool = True            # it costs a CVAE no quality in the first minutes, as it costs a GAN (docs/tried.md)


class ConditionalVAE(Trainer):
    """Conditional VAE (Kingma and Welling 2014, Sohn et al. 2015): Bernoulli cross-entropy summed over
    pixels plus KL.

    A mixture prior is fitted to the codes every few hundred steps and at the end (models.Prior). What is
    decoded from it must pass a discriminator, too, against blur (Larsen et al. 2016; reconstructions are not
    shown to it here)."""
    name = "cvae"
    makes_images, Settings = True, VAESettings
    scarce: ClassVar[dict] = {"gan_weight_end": 200.0, "momentum": 0.9}        # with the others the dial of Arabic digits got worse

    def __init__(self, settings, n_classes, device, bf16=False):
        super().__init__(settings, device, bf16)
        components = min(10, max(1, 1000 // n_classes))
        self.vae = self.to_device(models.CVAE(models.config_for("cvae", n_classes, components=components)))
        self.ema = ema_copy(self.vae)
        self.networks = {"vae": self.vae, "ema": self.ema}
        self.optimizers = {"vae": torch.optim.Adam(self.vae.parameters(), betas=(settings.momentum, 0.99), fused=True)}
        self.checkpoints = {self.name: ("cvae", self.ema)}
        self.adversarial = AdversarialLoss(self, n_classes) if settings.gan_weight else None
        if self.adversarial:
            self.networks["discriminator"] = self.adversarial.discriminator
            self.optimizers["discriminator"] = self.adversarial.optimizer

    def losses(self, batch):
        """The discriminator's loss where there is one, then that of encoder and decoder, as Trainer says."""
        x, y, t = batch.images, batch.labels, batch.thickness
        with self.autocast():
            mean, log_var = self.vae.encoder(x, y, t)
            noise = draw(torch.randn, mean.shape, generator=batch.rng).to(self.device)
            logits = self.vae.decoder.logits(mean + noise * (log_var / 2).exp(), y, t)
        reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        kl = kl_divergence(mean, log_var).mean()
        loss = reconstruction + min(1.0, batch.progress / KL_WARM_UP) * kl
        parts = {"pixels": reconstruction.detach(), "KL": kl.detach()}
        if self.adversarial and batch.progress >= ADVERSARIAL_FROM:
            noise = draw(torch.randn, (len(x), self.vae.cfg.latent), generator=batch.rng).to(self.device)
            with self.autocast():
                fake = self.vae(noise, y, t)
            d_loss, d_parts = self.adversarial.discriminator_loss(batch, fake.detach())
            yield self.optimizers["discriminator"], d_loss, parts | d_parts

            g_loss, parts = self.adversarial.generator_loss(batch, fake)
            width = width_loss(fake, x)
            loss = loss + self.adversarial_weight(batch.progress) * (g_loss + self.settings.width_weight * width)
            parts["width"] = width.detach()
        yield self.optimizers["vae"], loss, parts

    def adversarial_weight(self, progress):
        """Of the adversarial loss, by the share of the run: from gan_weight to gan_weight_end in equal ratios."""
        start, end = self.settings.gan_weight, self.settings.gan_weight_end
        return start * (end / start) ** progress

    def end_step(self, batch):
        for part in ("encoder", "decoder"):                # the prior is fitted, not averaged
            update_ema(getattr(self.ema, part), getattr(self.vae, part), self.settings.ema, batch.step)

    def refit_prior(self, images, labels, thickness):
        self.finish(images, labels, thickness)
        self.vae.prior.load_state_dict(self.ema.prior.state_dict())

    @torch.no_grad()
    def finish(self, images, labels, thickness):
        """Fit the prior of the averaged network to the codes of these images, of at most MAX_CODES of a class. ->
        {"kl": nats per image, "active_units": values of the code whose mean varies by more than 0.01 (Burda et al. 2016)};
        {} where the codes are no numbers any more.
        """
        chosen = np.sort(np.concatenate(members(labels.cpu().numpy())))
        parts = [self.ema.encoder(models.from_uint8(images[i]), labels[i], thickness[i])
                 for i in torch.from_numpy(chosen).to(self.device).split(1000)]
        labels = labels.cpu().numpy()[chosen]
        mean, log_var = (torch.cat(p).cpu() for p in zip(*parts))
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
        codes = (mean + noise * (log_var / 2).exp()).numpy()
        if np.abs(codes).max() > 1e4 or not np.isfinite(codes).all():      # blown up: the run is about to stop for that
            return {}
        cfg = self.ema.cfg
        buffers = fit_prior(codes, labels, cfg.n_classes, cfg.components)
        for name, values in zip(("thresholds", "mean", "root"), buffers):
            getattr(self.ema.prior, name).copy_(torch.from_numpy(values))
        return {"kl": round(float(kl_divergence(mean, log_var).mean()), 2),
                "active_units": int((mean.var(0) > 0.01).sum())}


def kl_divergence(mean, log_var):
    """KL(N(mean, exp(log_var)) || N(0, I)) in nats, float [N], of float [N, d]."""
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(1)


# ---- the prior: mixtures of Gaussians, by expectation maximisation (Dempster et al. 1977) --------

def log_density(x, mean, cov):
    """log N(x; mean_c, cov_c) of x [N, d] for components mean [C, d], cov [C, d, d] -> [N, C]."""
    cholesky = np.linalg.cholesky(cov)
    whiten = np.linalg.inv(cholesky)
    n, (components, d) = len(x), mean.shape
    white = x @ whiten.reshape(-1, d).T - (whiten @ mean[:, :, None]).reshape(-1)        # one product for all: [N, C d]
    log_det = 2 * np.log(np.diagonal(cholesky, axis1=1, axis2=2)).sum(1)
    return -0.5 * ((white ** 2).reshape(n, components, d).sum(2) + log_det + d * np.log(2 * np.pi))


def fit_gmm(x, components, rng, prior_cov=None, prior_count=0.0, steps=30):
    """Fit a Gaussian mixture to x float [N, d]: (weights [C], means [C, d], covariances [C, d, d]), float64.

    It starts from random points far from one another. `prior_cov` [d, d] counts as `prior_count` more points in every
    component's covariance, so that components of few points stay sane."""
    x = np.asarray(x, np.float64)
    n, d = x.shape
    prior_cov = np.cov(x.T, bias=True) if prior_cov is None else prior_cov
    floor = 1e-4 * np.eye(d)
    if components == 1:                       # nothing to iterate, which counts where there are thousands of classes
        cov = (np.cov(x.T, bias=True) * n + prior_count * prior_cov) / (n + prior_count) + floor
        return np.ones(1), x.mean(0, keepdims=True), cov[None]
    mean, far = x[[rng.integers(n)]], np.full(n, np.inf)             # k-means++ (Arthur and Vassilvitskii 2007)
    while len(mean) < components:
        far = np.minimum(far, ((x - mean[-1]) ** 2).sum(1))
        mean = np.concatenate([mean, x[[rng.choice(n, p=(far + 1e-12) / (far + 1e-12).sum())]]])     # all may be alike
    weights, cov = np.full(components, 1 / components), np.repeat(prior_cov[None] + floor, components, 0)
    for _ in range(steps):
        log_joint = log_density(x, mean, cov) + np.log(weights)
        log_joint -= log_joint.max(1, keepdims=True)
        responsibilities = np.exp(log_joint)
        responsibilities /= responsibilities.sum(1, keepdims=True)                       # [N, C]
        counts = responsibilities.sum(0) + 1e-9
        weights, mean = counts / counts.sum(), (responsibilities.T @ x) / counts[:, None]
        weighted = (responsibilities[:, :, None] * x[:, None]).reshape(n, -1)            # [N, C d]
        scatter = (weighted.T @ x).reshape(-1, d, d) - counts[:, None, None] * (mean[:, :, None] * mean[:, None])
        cov = (scatter + prior_count * prior_cov) / (counts + prior_count)[:, None, None] + floor
    return weights, mean, cov


def members(labels):
    """The indices of each class that has any, evenly thinned to MAX_CODES: a list of int64 arrays, ascending. labels
    int [N]."""
    order = np.argsort(labels, kind="stable")
    by_class = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    return [indices[::-(-len(indices) // MAX_CODES)] for indices in by_class]


def fit_prior(codes, labels, n_classes, components, seed=0):
    """The buffers of models.Prior for codes float [N, d] with labels int [N].

    One mixture per class. Fewer than 80 codes for a component make fewer components; covariances lean on that of all codes
    about their class's mean with the weight of 20 codes (d = 16 wants more than 16). A class without any takes the standard
    normal. -> thresholds [K, C], mean [K C, d], Cholesky factors [K C, d, d], float32."""
    codes, d = np.asarray(codes, np.float64), codes.shape[1]
    rng = np.random.default_rng(seed)
    thresholds = np.full((n_classes, components), 1e9)
    means = np.zeros((n_classes, components, d))
    cholesky = np.tile(np.eye(d), (n_classes, components, 1, 1))
    groups = members(labels)
    scatter = sum(np.cov(codes[indices].T, bias=True) * len(indices) for indices in groups)
    within_class = scatter / max(1, sum(map(len, groups)) - n_classes)
    for indices in groups:
        count = int(np.clip(len(indices) // 80, 1, components))
        weights, mean, cov = fit_gmm(codes[indices], count, rng, within_class, 20)
        k = labels[indices[0]]
        ends = np.cumsum(weights)[:-1].clip(1e-9, 1 - 1e-9)
        thresholds[k, :count - 1] = [NormalDist().inv_cdf(e) for e in ends]
        means[k, :count], cholesky[k, :count] = mean, np.linalg.cholesky(cov)
    return (thresholds.astype(np.float32), means.reshape(-1, d).astype(np.float32),
            cholesky.reshape(-1, d, d).astype(np.float32))
