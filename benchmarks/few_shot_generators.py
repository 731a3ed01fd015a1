r"""Does a generator that draws, and has never seen these characters, help to read them by a few images of each?

    cd $GLYPHS_DATA        # or name the paths of your own sets
    python .../benchmarks/few_shot_generators.py --target mnist \
        --sources kkanji49.npz kmnist_part.npz arabic_by_writer.npz random-400

A variational autoencoder is trained on the sources, other scripts, to draw an image of a character from another image of
it, the support (as Antoniou et al. 2017, arXiv:1711.04340, and Edwards and Storkey 2017, arXiv:1606.02185, do); what it
draws must pass a discriminator that sees the support, too. Then it draws images of the characters of --target: "by
support", from each of the few images, or "fitted", from a vector of each class by which the few images are the likeliest.
They are mixed into the views of the few images of which the head in closed form is made (training/discriminant.py), and,
with --tuned, among those on which a network is trained from the backbone on. Balanced accuracy on validation images, in
brackets the gain over as many views without, paired; a picture shows supports and what is drawn of them.
"""
import numpy as np
import repository  # noqa: F401, its place makes the modules importable
import torch
import torch.nn.functional as F
from deformer import load_script
from torch import nn
from whose_hands import balanced_accuracy

import data
import models
from metrics.statistics import t_interval
from training.classifier import train_classifier
from training.discriminant import discriminant_classifier
from training.gan import PENALTY_EVERY, GANSettings, ema_copy, update_ema, width_loss
from training.pretraining import load_backbone
from training.trainer import has_bf16, learning_rate, set_lr
from training.vae import ADVERSARIAL_FROM, KL_WARM_UP, kl_divergence
from utils import figures
from utils.cli import Parser, Progress, image_counts, new_file, non_empty_path, number, run_command
from utils.distance_field import pen_width

VECTOR = 64                # length of what the support image says of its class
CODE = 16                  # of what it does not say
THINNEST, THICKEST = 1.5, 4.5        # pens in pixels, 0 and 1 on the dial
BATCH, LEARNING_RATE, GAN_WEIGHT = 128, 1e-3, 10.0
FIT_STEPS, FIT_RATE = 200, 0.03      # of a class's vector
VIEWS, SHARES = 600, (0.25, 0.5)     # of the few images, or twice as many as they are; and of these the part that is drawn
TUNED_STEPS = 600                    # of a network that is trained from the backbone on
HEAD, TUNED = "head", "trained"      # what reads


class SupportEncoder(nn.Module):
    """Image float [N, 1, 28, 28] -> a vector [N, width] that stands for its class."""

    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(
            models.conv(1, 16, stride=2, bias=True), nn.LeakyReLU(0.2),                      # [N, 16, 14, 14]
            models.conv(16, 32, stride=2, bias=True), nn.LeakyReLU(0.2),                     # [N, 32, 7, 7]
            models.conv(32, 32, bias=True), nn.LeakyReLU(0.2), nn.Flatten(),
            nn.Linear(32 * 49, 256), nn.LeakyReLU(0.2), nn.Linear(256, width))

    def forward(self, images):
        return self.net(2 * images - 1)


class FewShotVAE(nn.Module):
    """p(image | support): encoder and decoder of models.CVAE, which take a vector where those have a label, and the code's
    distribution by that vector."""

    def __init__(self):
        super().__init__()
        self.support = SupportEncoder(VECTOR)
        self.encoder = models.Encoder(models.CVAEConfig(1, CODE + 1, VECTOR))
        self.decoder = models.Generator(models.GeneratorConfig(1, CODE, VECTOR, 256, 64, 48))
        self.encoder.condition.label = self.decoder.condition.label = nn.Identity()
        self.prior = nn.Sequential(nn.Linear(VECTOR, 128), nn.LeakyReLU(0.2), nn.Linear(128, 2 * CODE))

    def evidence(self, images, vectors, pens, rng):
        """(cross-entropy of the pixels, KL divergence of the code from its prior), nats an image, float [N] each."""
        mean, log_var = self.encoder(images, vectors, pens)
        code = mean + torch.randn(mean.shape, generator=rng) * (log_var / 2).exp()
        logits = self.decoder.logits(code, vectors, pens)
        prior_mean, prior_log_var = self.prior(vectors).float().chunk(2, 1)
        kl = kl_divergence((mean - prior_mean) * (-prior_log_var / 2).exp(), log_var - prior_log_var)
        return F.binary_cross_entropy_with_logits(logits, images, reduction="none").sum((1, 2, 3)), kl

    def draw(self, vectors, pens, rng):
        """Images float [N, 1, 28, 28] of these classes, with codes as they come."""
        mean, log_var = self.prior(vectors).float().chunk(2, 1)
        return self.decoder(mean + torch.randn(mean.shape, generator=rng) * (log_var / 2).exp(), vectors, pens)


def dial(images):
    """Pen widths of images float [N, 1, 28, 28] as numbers in [0, 1]."""
    return ((pen_width(images) - THINNEST) / (THICKEST - THINNEST)).clamp(0, 1)


def train(sets, steps, seed, say):
    """A FewShotVAE trained on `sets`, [(images uint8 [N, 28, 28], labels int64 [N]), ...], in eval mode."""
    images = models.from_uint8(torch.from_numpy(np.concatenate([x for x, _ in sets])))
    bf16, pens = has_bf16(torch.device("cpu")), torch.cat([dial(part) for part in images.split(2000)])
    offsets = np.cumsum([0, *(int(y.max()) + 1 for _, y in sets)])
    labels = np.concatenate([y + offset for (_, y), offset in zip(sets, offsets)])
    order, sizes = torch.from_numpy(np.argsort(labels, kind="stable")), torch.from_numpy(np.bincount(labels))
    first, weights = sizes.cumsum(0) - sizes, sizes.double().sqrt()
    rng = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    vae, discriminator = FewShotVAE(), models.Discriminator(models.DiscriminatorConfig(1))
    discriminator.condition.label = SupportEncoder(discriminator.cfg.features)           # is it of the support's class?
    ema, settings = ema_copy(vae), GANSettings()
    vae_optimizer = torch.optim.Adam(vae.parameters(), betas=(0.9, 0.99), fused=True)
    optimizer = torch.optim.Adam(discriminator.parameters(), betas=(0.0, 0.99), fused=True)

    def members(classes):
        return order[first[classes] + (torch.rand(len(classes), generator=rng) * sizes[classes]).long()]

    def scores(x, support, t):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return discriminator(x, support, t)[0]

    for step in range(steps):
        classes = torch.multinomial(weights, BATCH, replacement=True, generator=rng)
        chosen = members(classes)
        support, real, t = images[members(classes)], images[chosen], pens[chosen]
        rate = learning_rate(step, steps, 1.0, settings.warm_up, settings.final_lr)
        set_lr(vae_optimizer, LEARNING_RATE * rate)
        set_lr(optimizer, settings.lr / 2 * rate)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            vectors = vae.support(support).float()
            pixels, kl = vae.evidence(real, vectors, t, rng)
        loss = (pixels + min(1.0, step / steps / KL_WARM_UP) * kl).mean()
        if step >= ADVERSARIAL_FROM * steps:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                fake = vae.draw(vectors, t, rng)
            d_loss = 2 * F.softplus(scores(fake.detach(), support, t) - scores(real, support, t)).mean()
            if step % PENALTY_EVERY == 0:
                for x in (real, fake.detach()):
                    x = x.clone().requires_grad_()
                    slope, = torch.autograd.grad(discriminator(x, support, t)[0].sum(), x, create_graph=True)
                    d_loss = d_loss + settings.r1_end / 2 * PENALTY_EVERY * slope.square().sum((1, 2, 3)).mean() / 4
            optimizer.zero_grad()
            d_loss.backward()
            optimizer.step()
            adversarial = F.softplus(scores(real, support, t).detach() - scores(fake, support, t)).mean()
            loss = loss + GAN_WEIGHT * (adversarial + settings.width_weight * width_loss(fake, real))
        vae_optimizer.zero_grad()
        loss.backward()
        vae_optimizer.step()
        update_ema(ema, vae, settings.ema, step)
        if step % 50 == 49:
            say(f"pixels {float(pixels.detach().mean()):.1f}  KL {float(kl.detach().mean()):.1f}", step + 1, steps)
    return ema


def class_vectors(vae, few, n_classes, seed):
    """The vector of each class by which its few images are the likeliest, from the mean of those of its images on: float
    [n_classes, VECTOR]."""
    images, labels = models.from_uint8(torch.from_numpy(few.x_train)), torch.from_numpy(few.y_train)
    rng = torch.Generator().manual_seed(seed)
    counts = torch.bincount(labels, minlength=n_classes).clamp(min=1)
    vectors = torch.zeros(n_classes, VECTOR).index_add_(0, labels, vae.support(images)) / counts[:, None]
    vectors, pens = vectors.detach().requires_grad_(), dial(images)
    optimizer = torch.optim.Adam([vectors], lr=FIT_RATE)
    for step in range(FIT_STEPS):
        set_lr(optimizer, learning_rate(step, FIT_STEPS, FIT_RATE, 10))
        loss = sum(term.mean() for term in vae.evidence(images, vectors[labels], pens, rng))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return vectors.detach()


@torch.no_grad()
def drawn(vae, few, count, seed, vectors=None):
    """`count` images uint8 [count, 28, 28] and their labels: of each of the few images in turn, by the pen of that image, by
    its own vector or by that of its class."""
    rng, turn = torch.Generator().manual_seed(seed), np.arange(count) % len(few.x_train)
    support, labels = models.from_uint8(torch.from_numpy(few.x_train[turn])), few.y_train[turn]
    v = vae.support(support) if vectors is None else vectors[torch.from_numpy(labels)]
    return models.to_uint8(vae.draw(v, dial(support), rng)).numpy(), labels


def mixed(few, images, labels, share, views):
    """So many images and labels, of which `share` are from these, the others the few real ones in turn."""
    count = round(share * views)
    turn = np.arange(views - count) % len(few.x_train)
    return np.concatenate([few.x_train[turn], images[:count]]), np.concatenate([few.y_train[turn], labels[:count]])


def main(argv=None):
    parser = Parser(__doc__.split("\n")[0])
    add = parser.add_argument
    add("--target", required=True, type=non_empty_path, help="the new script, a data set")
    add("--sources", nargs="+", required=True, type=non_empty_path, help="others to learn on, data sets or random-K")
    add("--data-dir", type=non_empty_path, help="where named ones lie (default: $GLYPHS_DATA, else data/)")
    add("--steps", type=number(int, above=0), default=6000, help="of training the generator")
    add("--per-class", type=image_counts, default=[1, 3, 5, 10], help="images of each character")
    add("--draws", type=number(int, above=1, at_most=100), default=5, help="of the few images")
    add("--tuned", type=image_counts, default=[], help="images of each character with which networks are trained, too")
    add("--n", type=number(int, above=0), default=1000, help="validation images")
    add("--out", type=new_file(".png"), default="few_shot.png", help="the picture to write")
    args = parser.parse_args(argv)
    g, say = data.load(args.target, args.data_dir), Progress()
    vae = train([load_script(name, args.data_dir)[:2] for name in args.sources], args.steps, 0, say)
    figures.save(sheet(vae, g.subset(1, 0)), args.out)
    backbone = load_backbone("small-classifier")
    for n in args.per_class:
        found = {}
        for draw in range(args.draws):
            for name, value in read_with(vae, g, n, draw, backbone, n in args.tuned, args.n).items():
                found.setdefault(name, []).append(value)
            say(f"{n} of each", draw + 1, args.draws)
        for name, values in found.items():
            gain, half = t_interval(np.subtract(values, found[TUNED if name.startswith(TUNED) else HEAD]))[:2]
            print(f"{args.target}, {n} of each, {name}: {np.mean(values):.1f} ({gain:+.1f} ± {half:.1f})", flush=True)


def read_with(vae, g, n, draw, backbone, tuned, n_val):
    """{what was learned from: accuracy} for one draw of n images of each class."""
    few, n_classes, found = g.subset(n, draw), len(g.classes), {}
    views = max(VIEWS, 2 * len(few.x_train))                     # then all real ones are among them
    sets = {HEAD: mixed(few, few.x_train, few.y_train, 0, views)}
    for way, vectors in (("by support", None), ("fitted", class_vectors(vae, few, n_classes, draw))):
        images = drawn(vae, few, views, draw, vectors)
        sets |= {f"{HEAD}, {way}, {share:g}": mixed(few, *images, share, views) for share in SHARES}
    for name, (x, y) in sets.items():
        found[name] = balanced_accuracy(discriminant_classifier(x, y, backbone, views, draw, n_classes), g, n_val)
    for name, images in {TUNED: None, f"{TUNED}, by support": drawn(vae, few, 2000, draw)}.items() if tuned else ():
        network = train_classifier(few.x_train, few.y_train, TUNED_STEPS, draw, "classical", images, n_classes=n_classes,
                                   pen=1.0, backbone=backbone)
        found[name] = balanced_accuracy(network, g, n_val)
    return found


@torch.no_grad()
def sheet(vae, few):
    """The support image of ten classes and ten that are drawn of each: a PIL image."""
    rows, order = [], np.argsort(few.y_train)[:10]
    for image in few.x_train[order]:
        support = models.from_uint8(torch.from_numpy(image[None])).repeat(10, 1, 1, 1)
        images = vae.draw(vae.support(support), dial(support), torch.Generator().manual_seed(1))
        rows.append([image, None, *models.to_uint8(images).numpy()])
    return figures.grid(rows, row_labels=[few.classes[k] for k in few.y_train[order]], scale=2)


if __name__ == "__main__":
    run_command(main)
