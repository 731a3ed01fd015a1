"""The networks, their configurations, and how they are saved and loaded.

    generator = load("saved_models/generator.pth").model
    images = to_uint8(generator(noise, label, thickness))  # float32 [N, 1, 28, 28] in [0, 1] -> uint8 [N, 28, 28]

Everyone outside this file sees images as float32 [N, 1, 28, 28] in [0, 1], ink 1; a network that wants
another range maps it inside. Conditions are `label` int64 [N] and `thickness` float32 [N] in [0, 1], the rank
of an image's pen width within its class (data.py). All networks work channels-last and under bf16 autocast.
"""
import copy
import math
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from utils.archive import read_archive, write_archive
from utils.checked_json import is_name_list, is_plain, matches
from utils.distance_field import REACH, distance_field, look_up, pen_width, render, with_pen
from utils.files import UserError
from utils.onnx_classifier import open_classifier_gradient

VERSION = 2        # of the checkpoint format
CONTENT = {"kind": str, "config": {str: (bool, int, float)}, "classes": is_name_list, "weights": dict,          # of a checkpoint
           "width_table": torch.Tensor,
           "info": {**{f"{key}?": str for key in ("model", "dataset", "dataset_sha256", "license", "source")},
                    "sources?": {str: str}, "figures?": {str: object}}}
BASIS = 8          # knots of the thickness dial: a piecewise-linear curve through 8 learned vectors


def conv(n_in, n_out, stride=1, bias=False, groups=1):
    """3x3 convolution that keeps the frame (stride 1) or halves it (stride 2)."""
    return nn.Conv2d(n_in, n_out, 3, stride, 1, groups=groups, bias=bias)


def thickness_basis(t):
    """t float [N] in [0, 1] -> float [N, BASIS]: triangular bumps, each row sums to 1, so that a bias-free
    linear layer on top interpolates linearly between its BASIS column vectors."""
    knots = torch.linspace(0, 1, BASIS, device=t.device, dtype=t.dtype)
    return (1 - (t[:, None] - knots).abs() * (BASIS - 1)).clamp(min=0)


def to_uint8(images):
    """float [N, 1, 28, 28] in [0, 1] -> uint8 [N, 28, 28], rounded."""
    return (images.squeeze(1).float().clamp(0, 1) * 255).round().to(torch.uint8)


def from_uint8(images):
    """uint8 [N, 28, 28] -> float32 [N, 1, 28, 28] in [0, 1]."""
    return images.unsqueeze(1).float() / 255


class Condition(nn.Module):
    """(label, thickness) -> one vector: the class's embedding plus a point on the thickness curve."""

    def __init__(self, n_classes, width, std=1.0):
        super().__init__()
        self.label = nn.Embedding(n_classes, width)
        self.thickness = nn.Linear(BASIS, width, bias=False)
        nn.init.normal_(self.label.weight, std=std)
        nn.init.normal_(self.thickness.weight, std=std)

    def forward(self, label, thickness):
        return self.label(label) + self.thickness(thickness_basis(thickness))           # [N, width]


def to_range(logits):
    """Logits -> pixels in [0, 1]. The sigmoid is stretched a little and cut, so that it reaches 0 and 1: four
    pixels of five are background, and a plain sigmoid leaves a veil of 1 to 20 grey levels there."""
    return (1.04 * torch.sigmoid(2 * logits) - 0.02).clamp(0, 1)


@dataclass
class GeneratorConfig:
    n_classes: int = 10
    latent: int = 64       # length of the noise vector
    embed: int = 32        # length of the condition vector
    hidden: int = 128      # units that mix noise and condition: without them rare variants (a crossed 7) are not made
    c0: int = 48           # channels at 7x7
    c1: int = 32           # channels at 14x14; no convolution runs at 28x28, which is what makes it fast
    residual: bool = False     # whether a residual convolution runs at 7x7
    tone: bool = False         # whether a tone curve follows the last non-linearity


class ToneCurve(nn.Module):
    """Grey levels -> grey levels, float of [0, 1]: straight lines between `values` [256], those of 0, 1/255, .. 1. It starts as
    the identity; training/tone.py fits it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("values", torch.linspace(0, 1, 256))

    def forward(self, x):
        place = 255 * x
        level = place.floor().long().clamp(0, 254)
        low, high = self.values[level], self.values[level + 1]
        return low + (place - level) * (high - low)


class Residual(nn.Sequential):
    """x -> x + what its layers make of x (He et al. 2016, arXiv:1512.03385)."""

    def forward(self, x):
        return x + super().forward(x)


class Generator(nn.Module):
    """Noise, label, thickness -> image. The last layer makes 4 channels at 14x14, interleaved to 28x28."""

    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.condition = Condition(cfg.n_classes, cfg.embed)
        self.mix = nn.Sequential(nn.Linear(cfg.latent + cfg.embed, cfg.hidden), nn.LeakyReLU(0.2))
        nn.init.normal_(self.mix[0].weight, std=0.25)    # the default, 4 times smaller, learns much more slowly
        self.project = nn.Linear(cfg.hidden, 7 * 7 * cfg.c0, bias=False)
        self.net = nn.Sequential(                                                        # [N, c0, 7, 7]
            nn.BatchNorm2d(cfg.c0), nn.ReLU(),
            *([Residual(conv(cfg.c0, cfg.c0), nn.BatchNorm2d(cfg.c0), nn.ReLU())] if cfg.residual else []),
            nn.ConvTranspose2d(cfg.c0, cfg.c1, 4, 2, 1, bias=False),                     # [N, c1, 14, 14]
            nn.BatchNorm2d(cfg.c1), nn.ReLU(),
            conv(cfg.c1, cfg.c1), nn.BatchNorm2d(cfg.c1), nn.ReLU(),
            conv(cfg.c1, 4, bias=True), nn.PixelShuffle(2))                              # [N, 1, 28, 28]
        self.tone = ToneCurve() if cfg.tone else nn.Identity()

    def logits(self, noise, label, thickness):
        """As forward, before the last non-linearity: float32 [N, 1, 28, 28]."""
        h = self.project(self.mix(torch.cat([noise, self.condition(label, thickness)], 1)))
        h = h.view(-1, 7, 7, self.cfg.c0).permute(0, 3, 1, 2)                            # channels-last as it comes
        return self.net(h).float()

    def forward(self, noise, label, thickness):
        """noise float32 [N, latent], label, thickness -> float32 [N, 1, 28, 28] in [0, 1]."""
        return self.tone(to_range(self.logits(noise, label, thickness)))

    @torch.no_grad()
    def scale_noise(self, factor):
        """From now on draw what was drawn for `factor` times the noise."""
        self.mix[0].weight[:, :self.cfg.latent] *= factor

    def set_tone(self, values):
        """From now on draw with this tone curve, float32 [256] of [0, 1]."""
        self.cfg = replace(self.cfg, tone=True)
        self.tone = ToneCurve().to(self.project.weight.device)
        self.tone.values.copy_(values)


@dataclass
class DiscriminatorConfig:
    n_classes: int = 10
    stem: int = 16         # channels at 14x14
    c0: int = 64           # channels of two convolutions at 7x7
    c1: int = 96           # channels at 4x4
    features: int = 128    # length of the feature vector that meets the condition
    projection: bool = True     # False: the score does not see the condition, as in an auxiliary-classifier GAN
    backbone: bool = False      # whether it also sees the maps of a pre-trained network


class Discriminator(nn.Module):
    """Projection discriminator (Miyato and Koyama 2018, arXiv:1802.05637) with an auxiliary label head;
    without the projection an auxiliary-classifier discriminator (Odena et al. 2017, arXiv:1610.09585).

    The image is folded to 4 channels at 14x14 first, as convolutions at 28x28 cost four times as much; folded to 16 at 7x7
    a step would be a tenth faster, but the edges of strokes would be seen less well (docs/tried.md).

    With a `backbone`, the convolutions of a network pre-trained on characters that nobody writes (training/pretraining.py),
    its maps stand beside its own at 7x7, and it learns how much they count (compare Sauer et al. 2021, arXiv:2111.01007).
    That one works at 28x28, and no weight of it changes."""

    def __init__(self, cfg):
        super().__init__()
        self.cfg, seen = cfg, 0
        if cfg.backbone:
            self.backbone = convolutions(SmallClassifier(1)).eval().requires_grad_(False)                  # [N, seen, 7, 7]
            seen = self.backbone[-3].out_channels
            self.gain = nn.Parameter(torch.full((1, seen, 1, 1), 0.5))
        self.net = nn.Sequential(
            nn.PixelUnshuffle(2),                                                        # [N, 4, 14, 14]
            conv(4, cfg.stem, bias=True), nn.LeakyReLU(0.2),
            conv(cfg.stem, cfg.c0, stride=2, bias=True), nn.LeakyReLU(0.2),              # [N, c0, 7, 7]
            conv(cfg.c0 + seen, cfg.c0, bias=True), nn.LeakyReLU(0.2),
            conv(cfg.c0, cfg.c1, stride=2, bias=True), nn.LeakyReLU(0.2),                # [N, c1, 4, 4]
            nn.Flatten(),
            nn.Linear(16 * cfg.c1, cfg.features), nn.LeakyReLU(0.2))
        self.score = nn.Linear(cfg.features, 1, bias=False)                              # differences of scores count
        if cfg.projection:
            self.condition = Condition(cfg.n_classes, cfg.features, std=cfg.features ** -0.5)
        self.label_head = nn.Linear(cfg.features, cfg.n_classes)

    def forward(self, images, label, thickness):
        """images float [N, 1, 28, 28] in [0, 1] -> (score [N], label logits [N, n_classes])."""
        x = 2 * images - 1
        h = self.net[:5](x)
        if self.cfg.backbone:
            h = torch.cat([h, self.gain * self.backbone(x)], 1)
        h = self.net[5:](h)
        score = self.score(h).squeeze(1)
        if self.cfg.projection:
            score = score + (self.condition(label, thickness) * h).sum(1)
        return score.float(), self.label_head(h).float()


@dataclass
class CVAEConfig:
    n_classes: int = 10
    latent: int = 17       # length of the noise vector: one value picks a component of the prior, 16 make the code
    embed: int = 32
    hidden: int = 128
    c0: int = 48           # the decoder's channels: see GeneratorConfig
    c1: int = 32
    components: int = 10   # Gaussians in the prior of each class, at most
    tone: bool = False     # the decoder's, too


class Encoder(nn.Module):
    """Image and condition -> mean and log variance of the code, each float [N, code]."""

    def __init__(self, cfg):
        super().__init__()
        self.condition = Condition(cfg.n_classes, cfg.embed)
        self.net = nn.Sequential(
            nn.PixelUnshuffle(4),                                                        # [N, 16, 7, 7]
            conv(16, 32, bias=True), nn.LeakyReLU(0.2),
            conv(32, 32, bias=True), nn.LeakyReLU(0.2),
            conv(32, 64, stride=2, bias=True), nn.LeakyReLU(0.2), nn.Flatten())          # [N, 1024]
        self.head = nn.Sequential(nn.Linear(1024 + cfg.embed, 256), nn.LeakyReLU(0.2),
                                  nn.Linear(256, 2 * (cfg.latent - 1)))

    def forward(self, images, label, thickness):
        h = torch.cat([self.net(2 * images - 1), self.condition(label, thickness)], 1)
        return self.head(h).float().chunk(2, 1)


class Prior(nn.Module):
    """Noise -> code, by a mixture of Gaussians for each class.

    Codes of one class are no standard normal, and decoding what lies between them gives blurred hybrids. The first noise
    value picks the component: where it falls among `thresholds`, the normal quantiles of the summed weights. Thickness has
    no part in it: the code is the hand, and the decoder turns the pen. It starts as one standard normal each;
    training/vae.py fits it."""

    def __init__(self, cfg):
        super().__init__()
        self.components, code = cfg.components, cfg.latent - 1
        n = cfg.n_classes * cfg.components
        self.register_buffer("thresholds", torch.full((cfg.n_classes, cfg.components), 1e9))   # where each component ends
        self.register_buffer("mean", torch.zeros(n, code))
        self.register_buffer("root", torch.eye(code).repeat(n, 1, 1))                    # Cholesky factors

    def forward(self, noise, label):
        part = (noise[:, :1] > self.thresholds[label]).sum(1).clamp(max=self.components - 1)
        part = label * self.components + part
        return self.mean[part] + (self.root[part] @ noise[:, 1:, None]).squeeze(2)


class CVAE(nn.Module):
    """Conditional variational autoencoder (Kingma and Welling 2014, Sohn et al. 2015), used as a Generator."""

    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.encoder, self.prior = Encoder(cfg), Prior(cfg)
        self.decoder = Generator(GeneratorConfig(cfg.n_classes, cfg.latent - 1, cfg.embed, cfg.hidden, cfg.c0, cfg.c1,
                                                 tone=cfg.tone))

    def forward(self, noise, label, thickness):
        """noise float32 [N, latent], label, thickness -> float32 [N, 1, 28, 28] in [0, 1]."""
        return self.decoder(self.prior(noise, label), label, thickness)

    @torch.no_grad()
    def scale_noise(self, factor):
        """From now on draw codes `factor` times as far from the means of their components."""
        self.prior.root *= factor

    def set_tone(self, values):
        """From now on draw with this tone curve, float32 [256] of [0, 1]."""
        self.cfg = replace(self.cfg, tone=True)
        self.decoder.set_tone(values)


@dataclass
class ClassifierConfig:
    n_classes: int = 10
    width: int = 32        # channels at 28x28; twice as many at 14x14
    last: int = 0          # channels at 7x7, which make the features, at most 128; 0: four times the width
    margin: float = 0.0    # grey levels this close to black or white are pushed there first: see Contrast; 0: none are
    groups: int = 1        # networks side by side whose logits are added, each of such channels: see side_by_side


class Contrast(nn.Module):
    """[-1, 1] -> [-1, 1], steep for greys, nearly flat within `margin`, of [0, 1], of black and white.

    A perturbation of at most `margin` hardly moves a pixel that was black or white: what adversarial training
    on MNIST finds by itself, as thresholds in the first layer (Madry et al. 2018, arXiv:1706.06083, appendix
    C). The flat parts keep a tenth of the slope, so that gradients still tell an attacker which way to go."""

    def __init__(self, margin):
        super().__init__()
        self.reach = 1 - 2 * margin

    def forward(self, x):
        return 0.9 * (x / self.reach).clamp(-1, 1) + 0.1 * x

    def slope(self, x):
        """The derivative at x, for a backward pass that is written out (export_onnx.py)."""
        return torch.where((x / self.reach).abs() <= 1, 0.9 / self.reach + 0.1, 0.1)


class ImageClassifier(nn.Module):
    """What classifiers share: `net` makes features of images, `head` logits of features."""

    def features(self, images):
        """images float [N, 1, 28, 28] in [0, 1] -> float [N, d], non-negative; of networks side by side those of the first."""
        return self.net(2 * images - 1)[:, :self.n_features]

    def forward(self, images):
        """images float [N, 1, 28, 28] in [0, 1] -> logits float32 [N, n_classes]."""
        return self.head(self.net(2 * images - 1)).float()


class Classifier(ImageClassifier):
    """Six 3x3 convolutions in three stages, global max pooling, one linear layer."""

    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        layers, n = [Contrast(cfg.margin)] if cfg.margin else [], 1
        for stage, c in enumerate((cfg.width, 2 * cfg.width, cfg.last or 4 * cfg.width)):
            layers, c = layers + [nn.MaxPool2d(2)] * bool(stage), c * cfg.groups
            layers += [conv(n, c, groups=cfg.groups if stage else 1), nn.BatchNorm2d(c), nn.ReLU(),
                       conv(c, c, groups=cfg.groups), nn.BatchNorm2d(c), nn.ReLU()]
            n = c
        self.net = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten())         # [N, channels at 7x7]
        self.head, self.n_features = nn.Linear(n, cfg.n_classes), n // cfg.groups


def side_by_side(*networks):
    """Classifiers of one configuration as one, of that with as many `groups`, whose logits are the sums of theirs: an ensemble
    that multiplies their probabilities."""
    cfg, states = networks[0].cfg, [network.state_dict() for network in networks]
    joined = {name: value if value.ndim == 0 else torch.cat([state[name] for state in states])
              for name, value in states[0].items()}
    joined["head.weight"] = torch.cat([state["head.weight"] for state in states], 1)
    joined["head.bias"] = sum(state["head.bias"] for state in states)
    whole = Classifier(replace(cfg, groups=cfg.groups * len(networks)))
    whole.load_state_dict(joined)
    return whole.to(joined["head.bias"].device, memory_format=torch.channels_last).train(networks[0].training)


class SmallClassifier(ImageClassifier):
    """The network of the studies: two of its five 3x3 convolutions stride, so that hundreds of trainings are
    affordable: 72,602 parameters, 13 ms a step of 64 images on one core, half of what Classifier takes."""

    def __init__(self, n_classes, width=16):
        super().__init__()
        layers, n = [], 1
        for c, stride in ((width, 1), (width, 2), (2 * width, 1), (2 * width, 2), (4 * width, 1)):
            layers += [conv(n, c, stride), nn.BatchNorm2d(c), nn.ReLU()]
            n = c
        self.net = nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(),                 # [N, 4 * width * 9]
                                 nn.Linear(9 * n, 4 * width), nn.ReLU(), nn.Dropout(0.25))
        self.head, self.n_features = nn.Linear(4 * width, n_classes), 4 * width


def convolutions(network):
    """The layers of a SmallClassifier, or of a Backbone of the same layers, before its pooling."""
    return network.net[:-5]


@dataclass
class BackboneConfig:
    width: int = 32        # as of the classifier
    last: int = 0          # as of ClassifierConfig; a SmallClassifier has none
    small: bool = False    # the layers of a SmallClassifier, not of a Classifier


class Backbone(ImageClassifier):
    """The layers of a Classifier or SmallClassifier below its head, pre-trained on characters that nobody writes
    (training/pretraining.py), by which a classifier of few images tells characters apart."""

    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        whole = SmallClassifier(1, cfg.width) if cfg.small else Classifier(ClassifierConfig(1, cfg.width, cfg.last))
        self.net, self.n_features = whole.net, whole.n_features
        self.register_buffer("within", torch.eye(self.n_features))         # covariance of features within a class

    def forward(self, images):
        """images float [N, 1, 28, 28] in [0, 1] -> features float [N, n_features], non-negative."""
        return self.features(images)


@dataclass
class DeformerConfig:
    latent: int = 16       # length of the noise vector: one hand's way of writing
    channels: int = 40     # of the convolutions, all at 7x7
    hidden: int = 128


class HandEncoder(nn.Module):
    """Fields of a support image and of another image of its class -> mean and log variance of what changed, each float
    [N, latent]."""

    def __init__(self, cfg):
        super().__init__()
        self.net = nn.Sequential(
            nn.PixelUnshuffle(4),                                                        # [N, 32, 7, 7]
            conv(32, 48, bias=True), nn.LeakyReLU(0.2),
            conv(48, 48, bias=True), nn.LeakyReLU(0.2),
            conv(48, 48, stride=2, bias=True), nn.LeakyReLU(0.2), nn.Flatten(),          # [N, 768]
            nn.Linear(768, cfg.hidden), nn.LeakyReLU(0.2), nn.Linear(cfg.hidden, 2 * cfg.latent))

    def forward(self, support, target):
        return self.net(torch.cat([target, support], 1) / REACH).float().chunk(2, 1)


class Deformer(nn.Module):
    """Draws a glyph that it has never seen as another hand might: support image, noise, pen width -> image.

    A variational autoencoder of changes, not of images (training/deformation.py): noise and support make an affine map and
    a smooth flow of 7 x 7 knots, by which the support's distance field is looked up; the pen is set apart from that. What
    it learns of how hands vary on some scripts holds for others (compare Hauberg et al. 2016, arXiv:1510.02795; Antoniou
    et al. 2017, arXiv:1711.04340)."""

    def __init__(self, cfg):
        super().__init__()
        self.cfg, c = cfg, cfg.channels
        self.encoder = HandEncoder(cfg)
        self.look = nn.Sequential(
            nn.PixelUnshuffle(4),                                                        # [N, 16, 7, 7]
            conv(16, c, bias=True), nn.LeakyReLU(0.2),
            conv(c, c, bias=True), nn.LeakyReLU(0.2))                                    # [N, c, 7, 7]
        self.summary = nn.Sequential(conv(c, 16, stride=2, bias=True), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(256, 64))
        self.mix = nn.Sequential(nn.Linear(cfg.latent + 64, cfg.hidden), nn.LeakyReLU(0.2),
                                 nn.Linear(cfg.hidden, cfg.hidden), nn.LeakyReLU(0.2))
        self.modulate = nn.Linear(cfg.hidden, 4 * c)             # scale and shift of two layers (Perez et al. 2018)
        self.first, self.second = conv(c, c, bias=True), conv(c, c, bias=True)
        self.flow, self.affine = conv(c, 2, bias=True), nn.Linear(cfg.hidden, 6)
        for layer in (self.flow, self.affine):                   # training begins with no change at all
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def change(self, fields, noise):
        """Where the new glyph looks in the old one: fields float [N, 1, 28, 28], noise float [N, latent] -> (flow in pixels
        float [N, 2, 7, 7], affine map float [N, 3, 2])."""
        h = self.look(fields / REACH)
        mixed = self.mix(torch.cat([noise, self.summary(h)], 1))
        scale, shift, scale2, shift2 = self.modulate(mixed)[:, :, None, None].chunk(4, 1)
        h = F.leaky_relu(self.first(h) * (1 + scale) + shift, 0.2)
        h = F.leaky_relu(self.second(h) * (1 + scale2) + shift2, 0.2)
        linear, move = self.affine(mixed).float().split([4, 2], 1)
        linear = torch.eye(2, device=noise.device) + 0.3 * linear.unflatten(1, (2, 2))
        return 3 * self.flow(h).float(), torch.cat([linear, 3 * move.unsqueeze(1)], 1)

    def look_up(self, fields, flow, affine):
        """The fields where such a change leads: float [N, 1, 28, 28]."""
        flow = F.interpolate(flow, fields.shape[2:], mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
        return look_up(fields, affine, flow, padding="border")

    def bend(self, fields, noise):
        """The fields of the glyphs as another hand writes them, the pen as it comes: float [N, 1, 28, 28]."""
        return self.look_up(fields, *self.change(fields, noise))

    def forward(self, support, noise, width):
        """support float [N, 1, 28, 28] in [0, 1], noise float [N, latent], width of the pen in pixels float [N] -> float
        [N, 1, 28, 28] in [0, 1]."""
        return render(with_pen(self.bend(distance_field(support), noise), (width - pen_width(support)) / 2))


MODELS = {"generator": (GeneratorConfig, Generator), "discriminator": (DiscriminatorConfig, Discriminator),
          "cvae": (CVAEConfig, CVAE), "classifier": (ClassifierConfig, Classifier),
          "backbone": (BackboneConfig, Backbone), "deformer": (DeformerConfig, Deformer)}
MAKES_IMAGES = ("generator", "cvae")       # kinds that turn noise, label and thickness into images
MANY = 20          # classes above which these are larger than their configurations' defaults ...
WIDE = {"hidden": 192, "c0": 64, "c1": 64}   # ... so large


def config_for(kind, n_classes, **more):
    """The configuration of a generator or CVAE for so many classes: the one rule of how its size follows the data. ONNX files
    stay below 0.8 MB for 10 classes and 2 MB for 71."""
    size = WIDE if n_classes > MANY else {}
    return MODELS[kind][0](n_classes, **size, **({"residual": True} if kind == "generator" else {}), **more)


@dataclass
class Checkpoint:
    """A network with what one must know to use it.

    `classes`: the characters that people read, by label; `width_table`: float32 [n_classes, 256], the quantiles of the
    pen's width in pixels that give thickness its meaning (data.py); `info`: JSON types (data set, its hash, licence,
    figures). Of a backbone or a deformer, which knows no classes, `classes` are the names of the scripts that it has learned
    on, and the table has no columns."""
    kind: str
    model: nn.Module
    classes: list
    width_table: np.ndarray
    info: dict = field(default_factory=dict)

    @property
    def role(self):
        """What it is to an app that uses it: "generator" for all that make images, else the kind."""
        return "generator" if self.kind in MAKES_IMAGES else self.kind


def save(path, checkpoint):
    """Write a Checkpoint as plain tensors and JSON types, atomically."""
    c = checkpoint
    content = {"version": VERSION, "kind": c.kind, "config": asdict(c.model.cfg), "classes": list(c.classes),
               "width_table": torch.from_numpy(np.asarray(c.width_table, np.float32)), "info": c.info,
               "weights": {k: v.cpu().contiguous() for k, v in c.model.state_dict().items()}}
    write_archive(content, path)


class SkipInit(torch.overrides.TorchFunctionMode):
    """No weights are drawn in this context: on the meta device nn.init would import torch's compiler, 2 seconds."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__module__", "") != "torch.nn.init":
            return func(*args, **(kwargs or {}))


def load(path, kind=None):
    """Read a Checkpoint; the network comes in eval mode, fp32, on the CPU, channels-last.

    `kind`: a key of MODELS, or a tuple of such, where only that will do. Raises UserError for a missing, damaged
    or foreign file, or one of another kind."""
    content = read_archive(path)
    try:
        if content["version"] != VERSION:
            was = ", in which thickness was ink and not the pen's width" if content["version"] == 1 else ""
            raise UserError(f"{path} has checkpoint version {content['version']}{was}; this code reads {VERSION}: train again")
        if not (matches(content, CONTENT) and is_plain(content["info"])):
            raise TypeError("content")
        kinds = (kind,) if isinstance(kind, str) else kind or tuple(MODELS)
        if content["kind"] not in kinds:
            raise UserError(f"{path} holds a {content['kind']}, not a {' or a '.join(kinds)}")
        config_type, model_type = MODELS[content["kind"]]
        config = config_type(**content["config"])
        if not all(is_sound(getattr(config, f.name), f) for f in fields(config)):
            raise TypeError("config")
        with torch.device("meta"), SkipInit():       # no memory is taken before the stored weights have proved to fit
            model = model_type(config)
        types = {k: v.dtype for k, v in model.state_dict().items()}
        if any(v.dtype != types.get(k) for k, v in content["weights"].items()):
            raise TypeError("weights")
        model.load_state_dict(content["weights"], assign=True)
        classes, width_table = content["classes"], content["width_table"].numpy()
        if not len(classes) == len(width_table) == getattr(config, "n_classes", len(classes)):
            raise ValueError("classes")
        if width_table.ndim != 2 or width_table.dtype != np.float32 or not np.isfinite(width_table).all():
            raise ValueError("width_table")
        if not all(v.isfinite().all() for v in content["weights"].values()):
            raise UserError(f"{path} holds weights that are not finite: train again")
        info = {"dataset": "unknown", "license": "unknown", **content["info"]}
    except UserError:
        raise
    except Exception as e:
        raise UserError(f"{path} is not a checkpoint that this code can use ({type(e).__name__}: its networks, "
                        "configuration or classes do not fit)") from e
    model = model.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return Checkpoint(content["kind"], model, classes, width_table, info)


def is_sound(value, f):
    """Whether a configuration's value has the type of its dataclass field and is a size: 0 only where that is meant."""
    return type(value) is f.type and (f.type is bool or (value > 0 or value == f.default == 0) and math.isfinite(value)
                                      and (f.name != "margin" or value < 0.5))


def is_large(values):
    """Whether an ONNX file stores this array or tensor in fp16: small ones save nothing, and among values beyond its range
    are a prior's thresholds, which must not be rounded: some noise would pick another component."""
    return math.prod(values.shape) >= 1000 and abs(values).max() <= np.finfo(np.float16).max


@torch.no_grad()
def rounded_to_half(network):
    """A copy with large weights rounded to what fp16 holds, so that the ONNX file stores all of them in half the bytes as
    they are."""
    network = copy.deepcopy(network)
    for values in network.state_dict().values():
        if values.dtype == torch.float32 and is_large(values):
            values.copy_(values.half())
    return network


def n_parameters(model):
    """Number of trainable values."""
    return sum(p.numel() for p in model.parameters())


def load_classifier(path):
    """A classifier to explain or attack: load() of a .pth, or a classifier-gradient.onnx as a Checkpoint without a
    width_table. Raises UserError for any other file."""
    if Path(path).suffix != ".onnx":
        return load(path, "classifier")
    try:
        network, meta = open_classifier_gradient(path)
    except UserError as e:
        raise UserError(f"{e}; export_onnx.py FILE.pth --gradient writes the gradients that are needed here") from e
    return Checkpoint("classifier", network, meta["classes"], None, meta)
