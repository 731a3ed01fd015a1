"""What one training step does, for each model: the networks, their optimisers, and the loss.

A model here offers `name` (the stem of its files), `step(x, y, t, lr, i, progress, rng)` (one update, returns losses as
tensors), `networks` and `optimizers` (dicts, whose state is what a run resumes from), `products` (file stem -> (kind,
network), what a run saves) and, where it makes images, `average`, the generator that is sampled, scored and saved.
"""
import contextlib
import copy

import torch
import torch.nn.functional as F

import models
from augment import shift


def set_rate(optimizer, lr):
    """Set the learning rate of every group, times the group's own `scale`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("scale", 1.0)


@torch.no_grad()
def update_average(average, model, decay):
    """average <- decay * average + (1 - decay) * model, for weights and for batch-norm statistics."""
    def floats(m):
        return [v for v in m.state_dict().values() if v.is_floating_point()]
    torch._foreach_lerp_(floats(average), floats(model), 1 - decay)


def autocast(device, bf16):
    """bf16 arithmetic where that is on, else nothing."""
    return torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()


def soft_ink(images):
    """float [N, 1, H, W] in [0, 1] -> float [N]: the number of ink pixels (above 127 of 255), made differentiable."""
    return torch.sigmoid(20 * (images - 0.5)).sum((1, 2, 3))


class ConditionalGAN:
    """Non-saturating logistic GAN (Goodfellow et al. 2014) with lazy R1 (Mescheder et al. 2018, Karras et al. 2020),
    a projection discriminator, an auxiliary label loss, an ink loss for the thickness dial, and an averaged generator.

    The same fake images, with the labels and thickness of the real ones, serve both half steps.
    """
    name = "generator"
    R1_EVERY = 16     # steps between two R1 penalties; the penalty is scaled up by as much

    def __init__(self, args, n_classes, device):
        self.args, self.device = args, device
        def place(network):
            return network.to(device, memory_format=torch.channels_last)
        self.generator = place(models.Generator(models.GeneratorConfig(n_classes)))
        self.discriminator = place(models.Discriminator(models.DiscriminatorConfig(n_classes)))
        self.average = copy.deepcopy(self.generator).requires_grad_(False).eval()
        self.networks = {"generator": self.generator, "discriminator": self.discriminator, "average": self.average}
        # the layer that mixes noise and condition learns slowly, as StyleGAN's mapping does (Karras et al. 2019): at the
        # others' rate training breaks down from 1.5 times the default rate on
        mix = [p for n, p in self.generator.named_parameters() if n.startswith("mix.")]
        rest = [p for n, p in self.generator.named_parameters() if not n.startswith("mix.")]
        groups = {"generator": [{"params": rest}, {"params": mix, "scale": 0.1}],
                  "discriminator": self.discriminator.parameters()}
        self.optimizers = {name: torch.optim.Adam(group, betas=(0.0, 0.99), fused=True)
                           for name, group in groups.items()}
        self.products = {"generator": ("generator", self.average),
                         "discriminator": ("discriminator", self.discriminator)}

    def step(self, x, y, t, lr, i, progress, rng):
        """One update of both networks. x float32 [B, 1, 28, 28] in [0, 1], y int64 [B], t float32 [B] in [0, 1];
        i: steps done before; progress: their share of all, in [0, 1)."""
        for optimizer in self.optimizers.values():
            set_rate(optimizer, lr)
        noise = torch.randn(len(x), self.generator.cfg.latent, generator=rng).to(self.device)
        with autocast(self.device, self.args.bf16):
            fake = self.generator(noise, y, t)
        return {**self.discriminator_step(x, fake.detach(), y, t, i, progress), **self.generator_step(x, fake, y, t, i)}

    def discriminator_step(self, x, fake, y, t, i, progress):
        """Tell real from fake; name the label of real images; every R1_EVERY-th step keep the slope at them low."""
        with autocast(self.device, self.args.bf16):
            scores, logits = self.discriminator(torch.cat([x, fake]), torch.cat([y, y]), torch.cat([t, t]))
            real, made = scores.chunk(2)
            adversarial = F.softplus(-real).mean() + F.softplus(made).mean()
            loss = adversarial + self.args.label_weight * F.cross_entropy(logits[:len(x)], y)   # of real images alone
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

    def generator_step(self, x, fake, y, t, i):
        """Fool the discriminator, be read as the label asked for, carry as much ink as the real image of that rank."""
        self.discriminator.requires_grad_(False)
        with autocast(self.device, self.args.bf16):
            scores, logits = self.discriminator(fake, y, t)
            adversarial = F.softplus(-scores).mean()
            label = F.cross_entropy(logits, y)
        ink = (soft_ink(fake) - soft_ink(x)).abs().mean() / 40           # 40 pixels: about one standard deviation
        loss = adversarial + self.args.g_label_weight * label + self.args.ink_weight * ink
        self.optimizers["generator"].zero_grad()
        loss.backward()
        self.optimizers["generator"].step()
        self.discriminator.requires_grad_(True)
        # young weights are forgotten faster, so that the average is of use from the first seconds on
        update_average(self.average, self.generator, min(self.args.ema, (1 + i) / (20 + i)))
        return {"G": adversarial.detach(), "label": label.detach(), "ink": ink.detach()}


class Recogniser:
    """A classifier: cross-entropy with smoothed labels on shifted images, AdamW (Loshchilov and Hutter 2019)."""

    name = "classifier"

    def __init__(self, args, n_classes, device):
        self.args, self.device = args, device
        self.classifier = models.Classifier(models.ClassifierConfig(n_classes))
        self.classifier = self.classifier.to(device, memory_format=torch.channels_last)
        self.networks = {"classifier": self.classifier}
        self.optimizers = {"classifier": torch.optim.AdamW(self.classifier.parameters(), weight_decay=0.02, fused=True)}
        self.products = {"classifier": ("classifier", self.classifier)}

    def step(self, x, y, t, lr, i, progress, rng):
        """One update. x float32 [B, 1, 28, 28] in [0, 1], y int64 [B]; t is not used."""
        set_rate(self.optimizers["classifier"], lr)
        x = shift(x, 2, rng).contiguous(memory_format=torch.channels_last)
        with autocast(self.device, self.args.bf16):
            loss = F.cross_entropy(self.classifier(x), y, label_smoothing=0.05)
        self.optimizers["classifier"].zero_grad()
        loss.backward()
        self.optimizers["classifier"].step()
        return {"loss": loss.detach()}


OBJECTIVES = {"cgan": ConditionalGAN, "classifier": Recogniser}
