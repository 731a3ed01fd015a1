"""Batches and their order, and generators trained without files."""
from dataclasses import replace

import numpy as np
import pytest
import torch

import data
from datasets import strokes
from generate_digits import sample_all
from training import run
from training.gan import ConditionalGAN
from training.run import Batches, train_generator
from training.trainer import learning_rate

X, Y = strokes.generate(400, seed=5)
CPU = torch.device("cpu")


def glyphs(x=X, y=Y):
    """The strokes above as a data set."""
    return data.Glyphs("tiny", list("0123456789"), x[:300], y[:300], x[300:350], y[300:350], x[350:], y[350:],
                       "strokes", "CC0", True)


def test_an_epoch_is_a_permutation_that_the_seed_decides():
    a, b, other = (Batches(glyphs(), seed, 32, 0.0, CPU) for seed in (1, 1, 2))
    assert a.per_epoch == 300 // 32
    assert sorted(a.draw_order(0).tolist()) == list(range(300))
    assert torch.equal(a.draw_order(3), b.draw_order(3)) and not torch.equal(a.draw_order(3), a.draw_order(4))
    assert not torch.equal(a.draw_order(3), other.draw_order(3))


def test_few_images_that_are_redrawn_fill_a_batch():
    """Ten images in a batch of 32: each three or four times, with its own distance field."""
    few = Batches(glyphs(X, Y), 0, 32, 0.0, CPU, redrawn=True)
    assert few.fields.shape == (300, 1, 28, 28) and few.per_epoch == 300 // 32
    ten = replace(glyphs(), x_train=X[:10], y_train=Y[:10])
    batches = Batches(ten, 0, 32, 0.0, CPU, redrawn=True)
    assert (batches.size, batches.per_epoch, batches.epoch_images) == (32, 1, 40)
    assert np.bincount(batches.draw_order(0), minlength=10).tolist() == [4] * 10
    batch = batches.batch(0, 5)
    assert batch.images.shape == batch.fields.shape == (32, 1, 28, 28)
    assert ((batch.fields > 0) == (batch.images > 0.5)).float().mean() > 0.97
    assert Batches(ten, 0, 32, 0.0, CPU).size == 10


def test_a_batch_depends_on_its_step_alone():
    forward, alone = Batches(glyphs(), 0, 32, 0.0, CPU), Batches(glyphs(), 0, 32, 0.0, CPU)
    batches = [forward.batch(step, 40) for step in range(12)]
    late = alone.batch(11, 40)
    assert torch.equal(batches[11].images, late.images) and torch.equal(batches[11].labels, late.labels)
    assert torch.equal(torch.rand(3, generator=batches[11].rng), torch.rand(3, generator=late.rng))
    assert late.progress == 11 / 40 and late.images.shape == (32, 1, 28, 28) and late.images.max() <= 1


def test_a_batch_holds_the_thickness_of_its_images():
    g = glyphs()
    batches = Batches(g, 0, 32, 0.0, CPU)
    batch, order = batches.batch(20, 40), batches.draw_order(2)            # nine steps an epoch
    chosen = order[2 * 32:3 * 32].numpy()
    assert np.array_equal(batch.labels, g.y_train[chosen])
    assert np.array_equal((batch.images * 255).round().byte()[:, 0], g.x_train[chosen])
    expected = data.thickness(g.x_train, g.y_train, data.width_table(g.x_train, g.y_train, 10))[chosen]
    assert np.array_equal(batch.thickness, expected) and expected.std() > 0.2


def test_priors_are_refitted_at_step_100_and_then_every_few_hundred():
    class Refitted:
        def refit_prior(self, images, labels, thickness):
            assert images.shape == (len(labels), 28, 28) and len(labels) == len(thickness) == 300
            steps.append(step)
    batches, steps = Batches(glyphs(), 0, 32, 0.0, CPU), []
    for step in range(1000):
        batches.refit_prior(Refitted(), step)
    assert steps == [100, 500, 900] == [100, 100 + run.REFIT_STEPS, 100 + 2 * run.REFIT_STEPS]


def test_a_generator_without_files_is_trained_as_train_py_does(monkeypatch):
    """The same schedule over whole epochs, the averaged weights after each step, the prior at the end; shifts by 2."""
    class Watched(ConditionalGAN):
        def set_lr(self, lr):
            seen.append(("lr", lr))
            super().set_lr(lr)

        def end_step(self, batch):
            seen.append(("end", batch.step))
            super().end_step(batch)

        def refit_prior(self, *images):
            seen.append(("refit", len(images[0])))

        def finish(self, *images):
            seen.append(("finish", len(images[0]), self.settings.diffaugment, self.settings.lr))
            return {}
    seen, few = [], glyphs().subset(10, seed=1)                             # an epoch is a step
    monkeypatch.setitem(run.TRAINERS, "cgan", Watched)
    monkeypatch.setattr(Batches, "refit_prior", lambda self, trainer, step: trainer.refit_prior(self.images))
    train_generator("cgan", few, steps=3, lr=1e-3)
    rates = [learning_rate(step, 3, 1e-3, 50, 0.02) for step in range(3)]
    steps = [row for step in range(3) for row in (("refit", 100), ("lr", rates[step]), ("end", step))]
    assert seen == [*steps, ("finish", 100, 2, 1e-3)] and rates[2] < rates[0]


def test_the_prior_of_a_cvae_without_files_is_fitted():
    source = train_generator("cvae", glyphs().subset(10, seed=1), steps=1)
    assert source.model.prior.mean.abs().max() > 0


@pytest.mark.parametrize("balance, share", [(0.0, 3 / 33), (1.0, 0.5)])
def test_rare_classes_are_seen_more_often_with_balance(balance, share):
    chosen = np.concatenate([np.flatnonzero(Y == 0)[:30], np.flatnonzero(Y == 1)[:3]])
    empty = X[:0], Y[:0]
    two = data.Glyphs("two", ["0", "1"], X[chosen], Y[chosen], *empty, *empty, "drawn", "MIT", True)
    order = Batches(two, 0, 8, balance, CPU).draw_order(0).numpy()
    assert len(order) == 33 and abs(np.mean(two.y_train[order] == 1) - share) < 0.05
    if not balance:
        assert sorted(order) == list(range(33))


@pytest.mark.parametrize("model", ["cgan", "cvae"])
def test_generator_sees_the_training_images_alone(model):
    full = glyphs()
    few = full.subset(3, seed=1)
    elsewhere = replace(few, x_val=255 - few.x_val, x_test=few.x_test[:3], y_test=few.y_test[:3])
    changed = replace(few, x_train=np.roll(few.x_train, 3, 1))
    a, b, c = (sample_all(train_generator(model, g, seed=2, steps=3), 20, seed=1)
               for g in (few, elsewhere, changed))
    assert np.array_equal(a[0], b[0]) and not np.array_equal(a[0], c[0])
    assert a[0].dtype == np.uint8 and a[0].shape == (20, 28, 28)
    assert np.array_equal(np.bincount(a[1]), np.full(10, 2))
    assert set(sample_all(train_generator(model, few, steps=1), 6, digits=[2, 7])[1]) == {2, 7}
