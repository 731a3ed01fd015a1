"""What one training step does, for each model: the networks, their optimisers, and the loss.

A model here offers `name` (the stem of its files), `step(x, y, t, lr, i, progress, rng)` (one update, returns losses as
tensors), `networks` and `optimizers` (dicts, whose state is what a run resumes from), `products` (file stem -> (kind,
network), what a run saves), `refresh(images, labels, thickness)` (called now and then with some training images), `settle(images,
labels, thickness)` (makes the products ready to be used; returns figures) and, where it makes images, `average`, the
network that is sampled, scored and saved.
"""
import copy

import numpy as np
import torch
import torch.nn.functional as F

import models
from training import mixture
from training.augment import shift
from training.classifier import RECOGNISERS
from training.steps import autocast, set_rate, update_average


def soft_ink(images):
    """float [N, 1, H, W] in [0, 1] -> float [N]: the number of ink pixels (above 127 of 255), made differentiable."""
    return torch.sigmoid(20 * (images - 0.5)).sum((1, 2, 3))


def ink_loss(fake, x):
    """How far the ink of each fake is from that of the real image of the same class and thickness, in units of 40
    pixels, about one standard deviation of MNIST."""
    return (soft_ink(fake) - soft_ink(x)).abs().mean() / 40


class ConditionalGAN:
    """Non-saturating logistic GAN (Goodfellow et al. 2014) with lazy R1 (Mescheder et al. 2018, Karras et al. 2020),
    a projection discriminator, an auxiliary label loss, an ink loss for the thickness dial, and an averaged generator.

    The same fake images, with the labels and thickness of the real ones, serve both half steps.
    """
    name, discriminator_name = "generator", "discriminator"
    PROJECTION, FAKE_LABELS = True, False
    R1_EVERY = 16     # steps between two R1 penalties; the penalty is scaled up by as much

    def __init__(self, args, n_classes, device):
        self.args, self.device = args, device
        self.generator = self.place(models.Generator(models.GeneratorConfig(n_classes)))
        self.average = self.averaged(self.generator)
        # the layer that mixes noise and condition learns slowly, as StyleGAN's mapping does (Karras et al. 2019): at the
        # others' rate training breaks down from 1.5 times the default rate on
        mix = [p for n, p in self.generator.named_parameters() if n.startswith("mix.")]
        rest = [p for n, p in self.generator.named_parameters() if not n.startswith("mix.")]
        self.networks = {"generator": self.generator, "average": self.average}
        self.optimizers = {"generator": self.adam([{"params": rest}, {"params": mix, "scale": 0.1}])}
        self.add_discriminator(n_classes)
        self.products = {self.name: ("generator", self.average),
                         self.discriminator_name: ("discriminator", self.discriminator)}

    def place(self, network):
        return network.to(self.device, memory_format=torch.channels_last)

    def averaged(self, network):
        return copy.deepcopy(network).requires_grad_(False).eval()

    def adam(self, parameters, momentum=0.0):
        return torch.optim.Adam(parameters, betas=(momentum, 0.99), fused=True)

    def add_discriminator(self, n_classes):
        config = models.DiscriminatorConfig(n_classes, projection=self.PROJECTION)
        self.discriminator = self.place(models.Discriminator(config))
        self.networks["discriminator"] = self.discriminator
        self.optimizers["discriminator"] = self.adam(self.discriminator.parameters())

    def settle(self, images, labels, thickness):
        return {}

    def refresh(self, images, labels, thickness):
        pass

    def seen(self, images, rng):
        """What the discriminator gets of images: where data are scarce, shifted ones, real and fake alike, so that it
        does not learn the training images by heart (Zhao et al. 2020, arXiv:2006.10738)."""
        return shift(images, self.args.diffaugment, rng) if self.args.diffaugment else images

    def step(self, x, y, t, lr, i, progress, rng):
        """One update of both networks. x float32 [B, 1, 28, 28] in [0, 1], y int64 [B], t float32 [B] in [0, 1];
        i: steps done before; progress: their share of all, in [0, 1)."""
        for optimizer in self.optimizers.values():
            set_rate(optimizer, lr)
        noise = torch.randn(len(x), self.generator.cfg.latent, generator=rng).to(self.device)
        with autocast(self.device, self.args.bf16):
            fake = self.generator(noise, y, t)
        losses = self.discriminator_step(x, fake.detach(), y, t, i, progress, rng)
        loss, parts = self.fool(fake, y, t, rng)
        ink = ink_loss(fake, x)
        self.optimizers["generator"].zero_grad()
        (loss + self.args.ink_weight * ink).backward()
        self.optimizers["generator"].step()
        self.remember(self.average, self.generator, i)
        return losses | parts | {"ink": ink.detach()}

    def discriminator_step(self, x, fake, y, t, i, progress, rng):
        """Tell real from fake; name the label of real images; every R1_EVERY-th step keep the slope at them low."""
        x, fake = self.seen(x, rng), self.seen(fake, rng)
        with autocast(self.device, self.args.bf16):
            scores, logits = self.discriminator(torch.cat([x, fake]), torch.cat([y, y]), torch.cat([t, t]))
            real, made = scores.chunk(2)
            adversarial = F.softplus(-real).mean() + F.softplus(made).mean()
            named = (logits, torch.cat([y, y])) if self.FAKE_LABELS else (logits[:len(x)], y)
            loss = adversarial + self.args.label_weight * F.cross_entropy(*named)
        if i % self.R1_EVERY == 0:
            x = x.detach().requires_grad_()
            slope, = torch.autograd.grad(self.discriminator(x, y, t)[0].sum(), x, create_graph=True)    # fp32
            penalty = slope.square().sum((1, 2, 3)).mean() / 4       # /4: per unit of pixels in [-1, 1]
            # weak at first, for speed; stronger towards the end, where the slope would grow and samples would suffer
            weight = self.args.r1 + progress * (self.args.r1_end - self.args.r1)
            loss = loss + weight / 2 * self.R1_EVERY * penalty
        self.optimizers["discriminator"].zero_grad()
        loss.backward()
        self.optimizers["discriminator"].step()
        return {"D": adversarial.detach()}

    def fool(self, fake, y, t, rng):
        """The generator's loss: fool the discriminator, be read as the label asked for. -> (loss, its parts)"""
        self.discriminator.requires_grad_(False)
        with autocast(self.device, self.args.bf16):
            scores, logits = self.discriminator(self.seen(fake, rng), y, t)
            adversarial, label = F.softplus(-scores).mean(), F.cross_entropy(logits, y)
        self.discriminator.requires_grad_(True)
        return adversarial + self.args.g_label_weight * label, {"G": adversarial.detach(), "label": label.detach()}

    def remember(self, average, network, i):
        # young weights are forgotten faster, so that the average is of use from the first seconds on
        update_average(average, network, min(self.args.ema, (1 + i) / (20 + i)))


class AuxiliaryClassifierGAN(ConditionalGAN):
    """The same with the discriminator of Odena et al. 2017 (arXiv:1610.09585): its score does not see the condition;
    the label enters by its label head alone, trained on real and fake images."""
    name, discriminator_name = "acgan", "acgan_discriminator"
    PROJECTION, FAKE_LABELS = False, True


class ConditionalVAE(ConditionalGAN):
    """Conditional VAE (Kingma and Welling 2014, Sohn et al. 2015): Bernoulli cross-entropy summed over pixels plus KL
    with warm-up (Bowman et al. 2016). A mixture prior is fitted to the codes at the end (models.Prior), and every few
    hundred steps: from ADVERSARIAL_FROM of the run on, what is decoded from it must fool a discriminator as well,
    against blur (Larsen et al. 2016; reconstructions are not shown to it here). --gan-weight 0 leaves that out."""
    name, PROJECTION = "cvae", True
    WARM_UP = 0.15             # share of the run in which the weight of the KL term rises to 1
    ADVERSARIAL_FROM = 0.2

    def __init__(self, args, n_classes, device):
        self.args, self.device = args, device
        self.generator = self.place(models.CVAE(models.CVAEConfig(n_classes, components=min(10, max(1, 1000 // n_classes)))))
        self.average = self.averaged(self.generator)
        self.networks = {"generator": self.generator, "average": self.average}
        self.optimizers = {"generator": self.adam(self.generator.parameters(), momentum=0.9)}
        if args.gan_weight:
            self.add_discriminator(n_classes)
        self.products = {self.name: ("cvae", self.average)}

    def step(self, x, y, t, lr, i, progress, rng):
        """One update of encoder and decoder, and of the discriminator where there is one; as ConditionalGAN.step."""
        for optimizer in self.optimizers.values():
            set_rate(optimizer, lr)
        encoder, decoder = self.generator.encoder, self.generator.decoder
        with autocast(self.device, self.args.bf16):
            mean, log_var = encoder(x, y, t)
            noise = torch.randn(mean.shape, generator=rng).to(self.device)
            logits = decoder.logits(mean + noise * (log_var / 2).exp(), y, t)
        reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        kl = kl_divergence(mean, log_var).mean()
        loss, losses = reconstruction + min(1.0, progress / self.WARM_UP) * kl, {}
        if self.args.gan_weight and progress >= self.ADVERSARIAL_FROM:
            noise = torch.randn(len(x), self.generator.cfg.latent, generator=rng).to(self.device)
            with autocast(self.device, self.args.bf16):
                fake = self.generator(noise, y, t)
            losses = self.discriminator_step(x, fake.detach(), y, t, i, progress, rng)
            fool, parts = self.fool(fake, y, t, rng)
            ink = ink_loss(fake, x)
            loss = loss + self.args.gan_weight * (fool + self.args.ink_weight * ink)
            losses |= parts | {"ink": ink.detach()}
        self.optimizers["generator"].zero_grad()
        loss.backward()
        self.optimizers["generator"].step()
        self.remember(self.average.encoder, encoder, i)
        self.remember(self.average.decoder, decoder, i)
        return {"pixels": reconstruction.detach(), "KL": kl.detach()} | losses

    def refresh(self, images, labels, thickness):
        self.settle(images, labels, thickness)
        self.generator.prior.load_state_dict(self.average.prior.state_dict())

    @torch.no_grad()
    def settle(self, images, labels, thickness):
        """Fit the prior of the averaged network to the codes of images uint8 [N, 28, 28]. -> {"kl": nats per image,
        "active_units": values of the code whose mean varies by more than 0.01 (Burda et al. 2016)}"""
        parts = [self.average.encoder(models.from_uint8(x), y, t) for x, y, t in
                 zip(images.split(1000), labels.split(1000), thickness.split(1000))]
        mean, log_var = (torch.cat(p).cpu() for p in zip(*parts))
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
        codes = (mean + noise * (log_var / 2).exp()).numpy()
        if np.abs(codes).max() > 1e4 or not np.isfinite(codes).all():      # blown up: the run is about to stop for that
            return {}
        cfg = self.average.cfg
        buffers = mixture.class_prior(codes, labels.cpu().numpy(), thickness.cpu().numpy() >= 0.5, cfg.n_classes,
                                      cfg.components)
        for name, values in zip(("thresholds", "mean", "root"), buffers):
            getattr(self.average.prior, name).copy_(torch.from_numpy(values))
        return {"kl": round(float(kl_divergence(mean, log_var).mean()), 2),
                "active_units": int((mean.var(0) > 0.01).sum())}


def kl_divergence(mean, log_var):
    """KL(N(mean, exp(log_var)) || N(0, I)) in nats, float [N], of float [N, d]."""
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(1)


OBJECTIVES = {"cgan": ConditionalGAN, "acgan": AuxiliaryClassifierGAN, "cvae": ConditionalVAE} | RECOGNISERS
