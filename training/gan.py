"""Conditional GANs: the losses of both sides, the projection GAN and the auxiliary-classifier GAN."""
import copy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F

import models
from training.augment import shift
from training.distributed import draw
from training.pretraining import load_backbone
from training.trainer import Trainer
from utils.distance_field import pen_width
from utils.files import UserError

PENALTY_EVERY = 16         # steps between two gradient penalties, which are scaled up by as much
SHIPPED = Path(__file__).parent.parent / "saved_models"       # the GAN that comes along


@dataclass
class GANSettings:
    """Learning rate and weights of the losses; chosen by short trials on MNIST (docs/tried.md)."""
    lr: float = 2e-3                 # training breaks down at 1.5 to 2 times this
    warm_up: int = 50                # steps
    final_lr: float = 0.02           # share of lr at the end
    label_weight: float = 0.3        # of the discriminator's label loss
    g_label_weight: float = 0.1      # of the generator's label loss; more makes samples alike
    width_weight: float = 0.5        # of the loss that makes a sample's pen as wide as it should be
    r1: float = 0.05                 # gradient penalty, at real and fake images, at the start, weak for speed ...
    r1_end: float = 0.15             # ... and at the end, where the slope would grow and samples would suffer
    diffaugment: int = 0             # pixels by which the discriminator's images are shifted
    ema: float = 0.999               # memory of the averaged generator, per step
    backbone: bool = False           # whether the discriminator sees the maps of a pre-trained network, too: fewer specks, slower
    pretrained: bool = False         # whether it starts from the GAN of digits that comes along


@dataclass
class ACGANSettings(GANSettings):
    label_weight: float = 0.5        # the label enters by this loss alone
    g_label_weight: float = 0.5


# ---- what the generators of a GAN and of a VAE share ---------------------------------------------

def width_loss(fake, real):
    """How far the pen of each fake is from that of the real image of the same class and thickness, in units of 0.6
    pixels, one standard deviation within a class of MNIST. Images float [N, 1, H, W] in [0, 1]."""
    return (pen_width(fake.float()) - pen_width(real)).abs().mean() / 0.6


def ema_copy(network):
    """A copy in eval mode, without gradients, for update_ema."""
    return copy.deepcopy(network).requires_grad_(False).eval()


@torch.no_grad()
def update_ema(ema, network, decay, step):
    """ema <- decay * ema + (1 - decay) * network, weights and batch-norm statistics. Young weights are
    forgotten faster, so that the average is of use from the first seconds on."""
    decay = min(decay, (1 + step) / (20 + step))

    def floats(module):
        return [v for v in module.state_dict().values() if v.is_floating_point()]
    torch._foreach_lerp_(floats(ema), floats(network), 1 - decay)


class AdversarialLoss:
    """A discriminator and both sides' losses: relativistic (Jolicoeur-Martineau 2019, arXiv:1807.00734), each fake against
    the real image whose label and thickness it was drawn with; lazy gradient penalties at real and at fake images, R1 and
    R2 (Huang et al. 2024, arXiv:2501.05441; Karras et al. 2020); an auxiliary label loss (Odena et al. 2017). `projection`:
    the score sees label and thickness (Miyato and Koyama 2018); `fake_labels`: the label head learns from fakes, too."""

    def __init__(self, trainer, n_classes, projection=True, fake_labels=False):
        self.settings, self.autocast, self.fake_labels = trainer.settings, trainer.autocast, fake_labels
        config = models.DiscriminatorConfig(n_classes, projection=projection, backbone=self.settings.backbone)
        self.discriminator = trainer.to_device(models.Discriminator(config))
        if config.backbone:
            layers = models.convolutions(load_backbone("small-classifier"))
            self.discriminator.backbone.load_state_dict(layers.state_dict())
        self.learned = [p for p in self.discriminator.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(self.learned, betas=(0.0, 0.99), fused=True)

    def diff_augment(self, images, rng):
        """Where data are scarce the discriminator sees shifted images, real and fake alike, so that it does
        not learn the training images by heart (Zhao et al. 2020, arXiv:2006.10738)."""
        return shift(images, self.settings.diffaugment, rng) if self.settings.diffaugment else images

    def discriminator_loss(self, batch, fake):
        """Tell real from fake, name the label, keep the gradients at images small. -> (loss, to log)"""
        y, t = batch.labels, batch.thickness
        real, fake = self.diff_augment(batch.images, batch.rng), self.diff_augment(fake, batch.rng)
        with self.autocast():
            scores, logits = self.discriminator(torch.cat([real, fake]), torch.cat([y, y]), torch.cat([t, t]))
            real_scores, fake_scores = scores.chunk(2)
            adversarial = 2 * F.softplus(fake_scores - real_scores).mean()
            if self.fake_labels:
                label = F.cross_entropy(logits, torch.cat([y, y]))
            else:
                label = F.cross_entropy(logits[:len(real)], y)
            loss = adversarial + self.settings.label_weight * label
        if batch.step % PENALTY_EVERY == 0:
            weight = self.settings.r1 + batch.progress * (self.settings.r1_end - self.settings.r1)
            penalty = self.gradient_penalty(real, y, t) + self.gradient_penalty(fake, y, t)
            loss = loss + weight / 2 * PENALTY_EVERY * penalty
        return loss, {"D": adversarial.detach()}

    def gradient_penalty(self, images, y, t):
        """Mean squared norm of the score's gradient at images, by pixels in [-1, 1]; in fp32."""
        images = images.detach().requires_grad_()
        gradient, = torch.autograd.grad(self.discriminator(images, y, t)[0].sum(), images, create_graph=True)
        return gradient.square().sum((1, 2, 3)).mean() / 4

    def generator_loss(self, batch, fake):
        """Pass for more real than the real image, be classified as the label that was asked for. -> (loss, to log)"""
        y, t = batch.labels, batch.thickness
        self.set_learning(False)
        with self.autocast():
            scores, logits = self.discriminator(self.diff_augment(fake, batch.rng), y, t)
            with torch.no_grad():
                real_scores, _ = self.discriminator(self.diff_augment(batch.images, batch.rng), y, t)
            adversarial, label = F.softplus(real_scores - scores).mean(), F.cross_entropy(logits, y)
        self.set_learning(True)
        loss = adversarial + self.settings.g_label_weight * label
        return loss, {"G": adversarial.detach(), "label": label.detach()}

    def set_learning(self, on):
        """Whether the next loss has gradients at the discriminator's weights; those of a backbone never do."""
        for parameter in self.learned:
            parameter.requires_grad_(on)


# ---- a start ------------------------------------------------------------------------------------

def digits_can_start(glyphs):
    """Whether the GAN that comes along can start one on this data set: it is there, of the same size, and has not learned on that
    very data set, of which the images may be a part."""
    try:
        generator = models.load(SHIPPED / "generator.pth", "generator")
        models.load(SHIPPED / "discriminator.pth", "discriminator")
    except UserError:
        return False
    n_classes = len(glyphs.classes)
    fits = replace(generator.model.cfg, n_classes=n_classes, tone=False) == models.config_for("generator", n_classes)
    return fits and generator.info["dataset"] != glyphs.name


def digits_have_backbone():
    """Whether the discriminator of the GAN that comes along sees a backbone, so that one that starts from it must."""
    return models.load(SHIPPED / "discriminator.pth", "discriminator").model.cfg.backbone


def start_from_digits(network, kind):
    """Give a generator or discriminator the weights of the one that comes along, but for those that belong to its classes or
    its ink."""
    trained = models.load(SHIPPED / f"{kind}.pth", kind).model.state_dict()
    network.load_state_dict({k: v if "label" in k else trained[k] for k, v in network.state_dict().items()})


# ---- the GANs ------------------------------------------------------------------------------------

class ConditionalGAN(Trainer):
    """A projection GAN with a loss of the pen's width for the thickness dial and an averaged generator. The same fake
    images, with the labels and thickness of the real ones, serve both half steps."""
    name, discriminator_name = "generator", "discriminator"
    makes_images, has_start, Settings = True, True, GANSettings
    projection, fake_labels = True, False

    def __init__(self, settings, n_classes, device, bf16=False):
        super().__init__(settings, device, bf16)
        self.generator = self.to_device(models.Generator(models.config_for("generator", n_classes)))
        self.adversarial = AdversarialLoss(self, n_classes, self.projection, self.fake_labels)
        self.discriminator = self.adversarial.discriminator
        self.ema = ema_copy(self.generator)
        # the layer that mixes noise and condition learns slowly, as StyleGAN's mapping does (Karras et al. 2019): at the
        # others' rate training breaks down from 1.5 times the default rate on
        mix = [p for n, p in self.generator.named_parameters() if n.startswith("mix.")]
        rest = [p for n, p in self.generator.named_parameters() if not n.startswith("mix.")]
        groups = [{"params": rest}, {"params": mix, "scale": 0.1}]
        self.networks = {"generator": self.generator, "ema": self.ema, "discriminator": self.discriminator}
        self.optimizers = {"generator": torch.optim.Adam(groups, betas=(0.0, 0.99), fused=True),
                           "discriminator": self.adversarial.optimizer}
        self.checkpoints = {self.name: ("generator", self.ema),
                            self.discriminator_name: ("discriminator", self.discriminator)}

    def start(self):
        if self.settings.pretrained:
            start_from_digits(self.generator, "generator")
            start_from_digits(self.discriminator, "discriminator")
            self.ema.load_state_dict(self.generator.state_dict())

    def losses(self, batch):
        """The discriminator's loss, then the generator's, as Trainer says."""
        noise = draw(torch.randn, (len(batch.images), self.generator.cfg.latent), generator=batch.rng).to(self.device)
        with self.autocast():
            fake = self.generator(noise, batch.labels, batch.thickness)
        loss, parts = self.adversarial.discriminator_loss(batch, fake.detach())
        yield self.optimizers["discriminator"], loss, parts

        loss, parts = self.adversarial.generator_loss(batch, fake)
        width = width_loss(fake, batch.images)
        loss = loss + self.settings.width_weight * width
        yield self.optimizers["generator"], loss, parts | {"width": width.detach()}

    def end_step(self, batch):
        update_ema(self.ema, self.generator, self.settings.ema, batch.step)


class AuxiliaryClassifierGAN(ConditionalGAN):
    """The same with the discriminator of Odena et al. 2017 (arXiv:1610.09585): its score does not see the
    condition; the label enters by its label head alone, trained on real and fake images."""
    name, discriminator_name = "acgan", "acgan_discriminator"
    Settings = ACGANSettings
    has_start, projection, fake_labels = False, False, True
