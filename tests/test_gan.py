"""The GANs: each loss against its formula, and what each term brings about."""
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import models
from data import Glyphs
from training import gan
from training.gan import (
    PENALTY_EVERY,
    AdversarialLoss,
    AuxiliaryClassifierGAN,
    ConditionalGAN,
    GANSettings,
    ema_copy,
    update_ema,
    width_loss,
)
from training.pretraining import load_backbone
from training.trainer import Batch, Trainer, learning_rate, set_lr
from training.vae import ConditionalVAE

CPU = torch.device("cpu")


def make_batch(n=12, classes=10, step=0, progress=0.5, seed=0):
    rng = torch.Generator().manual_seed(seed)
    images = torch.rand(n, 1, 28, 28, generator=rng).contiguous(memory_format=torch.channels_last)
    return Batch(images, torch.arange(n) % classes, torch.rand(n, generator=rng), step, progress, rng)


def make(trainer, classes=10, bf16=False, **settings):
    torch.manual_seed(0)
    return trainer(trainer.Settings(**settings), classes, CPU, bf16)


def take_step(trainer, batch, lr=1e-3):
    trainer.set_lr(lr)
    logged = {}
    for optimizer, loss, parts in trainer.losses(batch):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        logged |= parts
    trainer.end_step(batch)
    return logged


def weights(network):
    return {k: v.clone() for k, v in network.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("trainer", [ConditionalGAN, AuxiliaryClassifierGAN, ConditionalVAE])
@pytest.mark.parametrize("more", [{}, {"bf16": True}, {"diffaugment": 3}, {"backbone": True}])
def test_every_parameter_gets_a_finite_gradient(trainer, more):
    """But for a backbone's, which stays as it is."""
    trainer = make(trainer, **more)
    losses = take_step(trainer, make_batch())
    assert all(v.isfinite() for v in losses.values())
    for name in trainer.networks.keys() - {"ema"}:
        for parameter, p in trainer.networks[name].named_parameters():
            if parameter.startswith("backbone."):
                assert p.grad is None and not p.requires_grad
            else:
                assert p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0, parameter


def test_a_discriminator_sees_through_a_backbone_that_does_not_change():
    gan, batch = make(ConditionalGAN, backbone=True), make_batch()
    discriminator, x = gan.discriminator, batch.images.clone().requires_grad_()

    def slope():
        return torch.autograd.grad(discriminator(x, batch.labels, batch.thickness)[0].sum(), x)[0]
    with_it = slope()
    with torch.no_grad():
        discriminator.gain.zero_()
    assert not torch.allclose(with_it, slope())
    take_step(gan, batch)
    assert (discriminator.gain != 0).any()                                     # it learns how much that counts
    trained, maps = load_backbone("small-classifier"), discriminator.backbone(2 * x - 1)
    assert torch.equal(trained.net[:-5](2 * x - 1), maps) and maps.shape[2:] == (7, 7)


def test_each_half_step_leaves_the_other_network_alone():
    gan = make(ConditionalGAN)
    gan.set_lr(1e-3)
    halves = gan.losses(make_batch())
    optimizer, loss, _ = next(halves)
    g, d = weights(gan.generator), weights(gan.discriminator)
    loss.backward()
    assert all(p.grad is None for p in gan.generator.parameters())
    optimizer.step()
    assert same(g, weights(gan.generator)) and not same(d, weights(gan.discriminator))
    for p in gan.discriminator.parameters():
        p.grad = None
    optimizer, loss, _ = next(halves)
    d = weights(gan.discriminator)
    loss.backward()
    assert all(p.grad is None and p.requires_grad for p in gan.discriminator.parameters())
    assert all(p.grad is not None for p in gan.generator.parameters())
    optimizer.step()
    assert same(d, weights(gan.discriminator))


class Scores(torch.nn.Module):
    """A discriminator whose score is the mean ink times 10, and whose label logits favour class 1 by as much."""

    def forward(self, images, label, thickness):
        score = 10 * images.mean((1, 2, 3))
        return score, torch.stack([torch.zeros_like(score), score], 1)


@pytest.mark.parametrize("fake_labels", [False, True])
def test_losses_are_those_of_the_papers(fake_labels):
    """Relativistic logistic loss, label cross-entropy of both sides, R1 and R2, worked out by hand."""
    trainer = Trainer(ConditionalGAN.Settings(label_weight=0.3, g_label_weight=0.1, r1=0.2, r1_end=0.6), CPU)
    adversarial = AdversarialLoss(trainer, 2, fake_labels=fake_labels)
    adversarial.discriminator = Scores()
    real, fake, y = torch.full((2, 1, 28, 28), 0.3), torch.full((2, 1, 28, 28), 0.1), torch.tensor([0, 1])
    batch = Batch(real, y, torch.zeros(2), step=1, progress=0.25, rng=torch.Generator())
    d_adversarial = 2 * np.log1p(np.exp(1 - 3))
    ce = {score: (np.log1p(np.exp(score)) + np.log1p(np.exp(-score))) / 2 for score in (1, 3)}    # of labels 0 and 1
    label = (ce[3] + ce[1]) / 2 if fake_labels else ce[3]
    loss, parts = adversarial.discriminator_loss(batch, fake)
    assert float(parts["D"]) == pytest.approx(d_adversarial, rel=1e-5)
    assert float(loss) == pytest.approx(d_adversarial + 0.3 * label, rel=1e-5)

    # gradient of the score: 10 / 784 at each of 784 pixels; per unit of [-1, 1] half of it; weight at a quarter: 0.3
    penalty = 2 * 784 * (10 / 784 / 2) ** 2                             # at real and at fake images
    with_penalty, _ = adversarial.discriminator_loss(replace(batch, step=PENALTY_EVERY), fake)
    assert float(with_penalty - loss) == pytest.approx(0.3 / 2 * PENALTY_EVERY * penalty, rel=1e-4)

    loss, parts = adversarial.generator_loss(batch, fake)
    assert float(parts["G"]) == pytest.approx(np.log1p(np.exp(3 - 1)), rel=1e-5)
    assert float(parts["label"]) == pytest.approx(ce[1], rel=1e-5)
    assert float(loss) == pytest.approx(np.log1p(np.exp(3 - 1)) + 0.1 * ce[1], rel=1e-5)


@pytest.mark.parametrize("trainer", [ConditionalGAN, AuxiliaryClassifierGAN])
def test_labels_are_learned_from_fakes_by_an_acgan_alone(trainer):
    gan, batch, fake = make(trainer), make_batch(step=1), torch.rand(12, 1, 28, 28).square()
    with torch.no_grad():
        gan.discriminator.label_head.weight.mul_(1000)                      # answers that depend on the image
    loss, parts = gan.adversarial.discriminator_loss(batch, fake)
    y, t, is_acgan = batch.labels, batch.thickness, trainer is AuxiliaryClassifierGAN
    labels = torch.cat([y, y]) if is_acgan else y
    logits = gan.discriminator(torch.cat([batch.images, fake]), torch.cat([y, y]), torch.cat([t, t]))[1][:len(labels)]
    expected = -logits.log_softmax(1)[torch.arange(len(labels)), labels].mean()
    torch.testing.assert_close(loss - parts["D"], (0.5 if is_acgan else 0.3) * expected, rtol=1e-3, atol=1e-5)
    on_real = -logits[:12].log_softmax(1)[torch.arange(12), y].mean()
    assert not is_acgan or abs(expected - on_real) > 0.01 * expected, "fakes make a difference"


def test_the_penalty_pulls_on_the_discriminator():
    """Score a * mean ink: the penalty is (a / 784 / 2)^2 * 784, and its derivative reaches a."""
    class Slope(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = torch.nn.Parameter(torch.tensor(6.0))

        def forward(self, images, label, thickness):
            return self.a * images.mean((1, 2, 3)), torch.zeros(len(images), 2)
    adversarial = AdversarialLoss(Trainer(ConditionalGAN.Settings(), CPU), 2)
    adversarial.discriminator = Slope()
    penalty = adversarial.gradient_penalty(torch.rand(3, 1, 28, 28), None, None)
    gradient, = torch.autograd.grad(penalty, adversarial.discriminator.a)
    assert float(penalty.detach()) == pytest.approx(36 / 784 / 4, rel=1e-4)
    assert float(gradient) == pytest.approx(2 * 6 / 784 / 4, rel=1e-4)


def test_both_sides_see_augmented_images():
    """With an augmentation that blanks all images every score is 0, and each side pays log 2 for each kind of image."""
    adversarial = AdversarialLoss(Trainer(ConditionalGAN.Settings(label_weight=0, g_label_weight=0), CPU), 2)
    adversarial.discriminator = Scores()
    adversarial.diff_augment = lambda images, rng: 0 * images
    batch = Batch(torch.rand(2, 1, 28, 28), torch.tensor([0, 1]), torch.zeros(2), 1, 0.0, torch.Generator())
    fake = torch.rand(2, 1, 28, 28)
    assert float(adversarial.discriminator_loss(batch, fake)[0]) == pytest.approx(2 * np.log(2), rel=1e-5)
    assert float(adversarial.generator_loss(batch, fake)[0]) == pytest.approx(np.log(2), rel=1e-5)


def test_fakes_are_drawn_as_the_real_images_are_labelled():
    """Both half steps ask for the batch's own labels and thickness."""
    gan, batch, asked = make(ConditionalGAN), make_batch(step=1), []
    for network in (gan.generator, gan.discriminator):
        network.register_forward_pre_hook(lambda network, inputs: asked.append(inputs[1:]))
    list(gan.losses(batch))
    y, t = batch.labels, batch.thickness
    expected = [(y, t), (torch.cat([y, y]), torch.cat([t, t])), (y, t), (y, t)]      # the last: of the real images
    assert all(torch.equal(a, b) for pair in zip(asked, expected, strict=True) for a, b in zip(*pair))


def test_width_loss_is_the_difference_of_the_pens_in_units_of_0_6_pixels():
    """The same however large the glyph: bars of 2 and of 5 pixels, whose widths the ends make smaller."""
    def bar(width, length):
        images = torch.zeros(2, 1, 28, 28)
        images[:, :, 4:4 + length, 4:4 + width] = 1
        return images
    expected = (5 * 20 / 25 - 2 * 20 / 22) / 0.6
    assert float(width_loss(bar(5, 20), bar(2, 20))) == pytest.approx(expected, rel=0.02)
    assert float(width_loss(bar(2, 10), bar(2, 20))) < 0.1 * expected
    assert float(width_loss(bar(2, 20), bar(2, 20))) == 0


def test_the_generator_loss_asks_for_pen_and_label():
    """The generator's loss is the adversarial one plus the weighted width loss: without the weight it falls by that much."""
    losses = {}
    for weight in (0.0, 0.5):
        *_, (_, loss, parts) = make(ConditionalGAN, width_weight=weight, r1=0, r1_end=0).losses(make_batch(step=1))
        losses[weight] = float(loss.detach()), float(parts["width"])
    assert losses[0.5][0] - losses[0.0][0] == pytest.approx(0.5 * losses[0.5][1], rel=1e-4)


def test_the_width_loss_teaches_the_generator():
    """With no other term the pens of samples come nearer to those of the real images."""
    gan, widths = make(ConditionalGAN, g_label_weight=0, width_weight=1.0), []
    gan.adversarial.generator_loss = lambda batch, fake: (0 * fake.sum(), {})
    batch = make_batch(step=1)
    for _ in range(6):
        batch.rng.manual_seed(0)
        widths.append(float(take_step(gan, batch)["width"]))
    assert widths[-1] < 0.9 * widths[0]


def test_diff_augment_shifts_what_the_discriminator_sees_and_nothing_else():
    trainer = Trainer(ConditionalGAN.Settings(diffaugment=2), CPU)
    adversarial = AdversarialLoss(trainer, 2)
    images = torch.zeros(50, 1, 28, 28)
    images[:, :, 10:18, 10:18] = 1
    seen = adversarial.diff_augment(images, torch.Generator().manual_seed(0))
    assert not torch.equal(seen, images) and torch.equal(seen.sum((1, 2, 3)), images.sum((1, 2, 3)))


def test_ema_follows_its_formula_and_covers_batch_norm():
    a = models.Generator(models.GeneratorConfig())
    b = models.Generator(models.GeneratorConfig())
    for v in b.buffers():
        v.add_(3)                            # both start with the same statistics
    before, other = weights(a), weights(b)
    update_ema(a, b, 0.9, step=1000)
    for k, v in weights(a).items():
        if v.is_floating_point():
            torch.testing.assert_close(v, 0.9 * before[k] + 0.1 * other[k])
    assert not torch.equal(weights(a)["net.0.running_mean"], before["net.0.running_mean"])


def test_ema_forgets_young_weights_faster():
    a, b = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    before, other = weights(a), weights(b)
    update_ema(a, b, 0.999, step=0)
    torch.testing.assert_close(a.weight.data, 0.05 * before["weight"] + 0.95 * other["weight"])


def test_the_ema_lags_behind_the_network():
    gan = make(ConditionalGAN)
    start = weights(ema_copy(gan.generator))
    for step in range(2):
        take_step(gan, make_batch(step=step), lr=1e-2)
    ema, now = weights(gan.ema), weights(gan.generator)
    assert not same(ema, now) and not same(ema, start)


def test_the_ema_has_the_memory_of_its_settings():
    for trainer in (ConditionalGAN, ConditionalVAE):
        model = make(trainer, ema=0.9)
        network = model.generator if trainer is ConditionalGAN else model.vae
        before = weights(model.ema)
        take_step(model, make_batch(step=10_000))
        after = weights(model.ema)
        for name, now in weights(network).items():
            if now.is_floating_point() and not name.startswith("prior."):              # which is fitted
                torch.testing.assert_close(after[name], 0.9 * before[name] + 0.1 * now)


def test_learning_rate_warms_up_and_decays():
    rates = [learning_rate(step, 1000, 2e-3, warm_up=50, final=0.02) for step in range(1000)]
    assert rates[0] == pytest.approx(2e-3 / 50) and max(rates) == pytest.approx(2e-3, rel=0.01)
    assert np.argmax(rates) == 49 and all(np.diff(rates[50:]) < 0)
    assert rates[500] == pytest.approx(0.51 * 2e-3) and rates[250] == pytest.approx((0.02 + 0.98 * 0.853553) * 2e-3)
    assert rates[-1] == pytest.approx(0.02 * 2e-3, rel=0.01) and learning_rate(999, 1000, 1, 50) < 1e-5
    assert learning_rate(0, 8, 1.0, warm_up=50) == pytest.approx(0.5)          # at most a quarter of all steps


def test_the_mixing_layer_learns_at_a_tenth_of_the_rate():
    gan = make(ConditionalGAN)
    gan.set_lr(2e-3)
    assert [g["lr"] for g in gan.optimizers["generator"].param_groups] == pytest.approx([2e-3, 2e-4])
    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters())
    set_lr(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_the_score_of_an_acgan_does_not_see_the_condition():
    x, y = torch.rand(4, 1, 28, 28), torch.arange(4)
    for trainer, sees in ((ConditionalGAN, True), (AuxiliaryClassifierGAN, False)):
        discriminator = make(trainer).discriminator
        a, b = discriminator(x, y, torch.zeros(4))[0], discriminator(x, y + 1, torch.ones(4))[0]
        assert torch.equal(a, b) is not sees


def test_a_generator_learns_to_fool_a_fixed_discriminator():
    """Steps of the generator alone lower its own loss: the sign of the adversarial loss is right."""
    gan = make(ConditionalGAN, width_weight=0, g_label_weight=0)
    batch = make_batch()
    noise = torch.randn(12, 64, generator=torch.Generator().manual_seed(1))

    def score():
        fake = gan.generator(noise, batch.labels, batch.thickness)
        return float(gan.discriminator(fake, batch.labels, batch.thickness)[0].detach().mean())
    before = score()
    for _ in range(10):
        fake = gan.generator(noise, batch.labels, batch.thickness)
        loss, _ = gan.adversarial.generator_loss(batch, fake)
        gan.optimizers["generator"].zero_grad()
        loss.backward()
        gan.optimizers["generator"].step()
    assert score() > before


def test_a_discriminator_learns_to_tell_real_from_fake():
    gan = make(ConditionalGAN, label_weight=0)
    batch, fake = make_batch(), torch.zeros(12, 1, 28, 28)
    gan.set_lr(1e-3)
    for _ in range(20):
        loss, _ = gan.adversarial.discriminator_loss(batch, fake)
        gan.optimizers["discriminator"].zero_grad()
        loss.backward()
        gan.optimizers["discriminator"].step()
    real_scores, fake_scores = (gan.discriminator(x, batch.labels, batch.thickness)[0] for x in (batch.images, fake))
    assert F.softplus(fake_scores - real_scores).mean() < 0.1
    assert real_scores.min() > fake_scores.max()


def test_it_may_start_from_digits_but_for_the_classes():
    started = ConditionalGAN(GANSettings(pretrained=True, backbone=gan.digits_have_backbone()), 4, "cpu")
    started.start()
    digits = models.load(gan.SHIPPED / "generator.pth").model.state_dict()
    for network in (started.generator, started.ema):
        mine = network.state_dict()
        assert {k for k, v in mine.items() if not torch.equal(v, digits[k])} == {"condition.label.weight"}
    fresh = started.discriminator.state_dict()
    trained = models.load(gan.SHIPPED / "discriminator.pth").model.state_dict()
    assert {k for k, v in fresh.items() if not torch.equal(v, trained[k])} == {
        "condition.label.weight", "label_head.weight", "label_head.bias"}


def test_digits_cannot_start_where_they_are_missing(tmp_path, monkeypatch):
    glyphs = Glyphs("own", list("abcd"), *[np.zeros((4, 28, 28), np.uint8), np.arange(4)] * 3, "s", "l")
    assert gan.digits_can_start(glyphs)
    monkeypatch.setattr(gan, "SHIPPED", tmp_path)
    assert not gan.digits_can_start(glyphs)
