"""Reads characters by a few images of each: features that stay as they are, and a head in closed form.

    discriminant = Discriminant(models.Classifier(config), load_backbone("classifier"))
    discriminant.add(images, labels)                         # many views of the few images
    logits = discriminant.network(others)

Linear discriminant analysis (Fisher 1936), by angles: features are whitened by how they vary within a class, and an image
belongs where its direction from the middle is most alike to that of a class's mean. How features of real hands vary few
images cannot show; half of the covariance is therefore that of characters of a random script, which came with the backbone.
Training a whole network on one image of each class, however distorted, makes it forget what hands leave alone
(docs/new_script.md)."""
import torch
import torch.nn.functional as F
from torch import nn

import models
from training import distributed
from training.augment import distortion, redraw, to_fields
from training.deformation import other_hands
from training.pretraining import start_from

SHRINK = 0.1               # share of the mean variance that is added to every feature's
NEVER = -1e4               # the logit of a class without an image


class Discriminant(nn.Module):
    """A classifier of the layers of a backbone, which stay as they are, and the sums over its features of images seen so far,
    of which its head is made: buffers, in fp64."""

    def __init__(self, network, backbone):
        """network: a classifier whose `net` is as that of the backbone."""
        super().__init__()
        start_from(network, backbone)
        self.network = network.eval().requires_grad_(False)
        n_classes, d = network.head.weight.shape
        self.register_buffer("within", backbone.within.double())                         # [d, d], of other scripts
        self.register_buffer("count", torch.zeros(n_classes, dtype=torch.float64))
        self.register_buffer("total", torch.zeros(n_classes, d, dtype=torch.float64))
        self.register_buffer("scatter", torch.zeros(d, d, dtype=torch.float64))          # of features, about zero

    @torch.no_grad()
    def add(self, images, labels):
        """Let the head follow from these images, too, float [N, 1, 28, 28] in [0, 1], labels int64 [N]; in several processes from
        those of all. -> logits of the images"""
        features = self.network.features(images)
        more, f = [torch.zeros_like(v) for v in (self.count, self.total, self.scatter)], features.double()
        more[0].index_add_(0, labels, torch.ones_like(f[:, 0]))
        more[1].index_add_(0, labels, f)
        more[2].addmm_(f.T, f)
        distributed.average(more)
        for value, part in zip((self.count, self.total, self.scatter), more):
            value += distributed.size * part
        for parameter, value in zip((self.network.head.weight, self.network.head.bias), self.head()):
            parameter.copy_(value)
        return self.network.head(features)

    def within_class_covariance(self):
        """Covariance of the features about the means of their classes, float64 [d, d]."""
        return (self.scatter - self.means().T @ self.total) / self.count.sum()

    def means(self):
        """Of the features of each class, float64 [n_classes, d]; zeros where there are none."""
        return self.total / self.count.clamp(min=1)[:, None]

    def head(self):
        """(weight float64 [n_classes, d], bias float64 [n_classes]) of a linear head.

        With whitened features h and class means p, both from the middle m of these, the class is the one with the greatest
        cosine of h - m and p - m. The length of h - m is the same for all classes, so that the head is linear."""
        seen, covariance = self.count > 0, (self.within_class_covariance() + self.within) / 2
        covariance.diagonal().add_(SHRINK * covariance.diagonal().mean())
        whiten = torch.linalg.cholesky(torch.linalg.inv(covariance))
        means = self.means() @ whiten
        middle = means[seen].mean(0)
        directions = F.normalize(means - middle)
        return directions @ whiten.T, torch.where(seen, -directions @ middle, NEVER)


@torch.no_grad()
def discriminant_classifier(x, y, backbone, views, seed=0, n_classes=None, device="cpu", pen=1.0, elastic=8.0, affine=1.0,
                            deformer=None, hands=0.5):
    """A models.SmallClassifier of the studies with the features of `backbone`, of the same layers, and a head in closed form.

    x uint8 [N, 28, 28], y int64 [N]; it sees `views` of them, classes as often as they are in y, each with another pen and
    warped: pen, elastic, affine, deformer and hands as of training.classifier.train_classifier. In eval mode, without gradients;
    all that is random follows from the seed."""
    network = models.SmallClassifier(n_classes or int(y.max()) + 1, backbone.cfg.width)
    discriminant, rng = Discriminant(network, backbone).to(device), torch.Generator().manual_seed(seed)
    fields, labels = to_fields(x).to(device), torch.as_tensor(y).to(device)
    for chosen in (torch.arange(views) % len(fields)).split(500):
        glyphs = fields[chosen].float()
        glyphs = other_hands(deformer, glyphs, hands, rng) if deformer else glyphs
        discriminant.add(redraw(glyphs, rng, pen, **distortion(affine, elastic)), labels[chosen])
    return network
