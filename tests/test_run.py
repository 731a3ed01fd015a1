"""Batches and their order, and generators trained without files."""
from dataclasses import replace

import numpy as np
import pytest
import torch

import data
from datasets import strokes
from generate_digits import sample_all
from training.run import Batches, train_generator

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


def test_a_batch_depends_on_its_step_alone():
    forward, alone = Batches(glyphs(), 0, 32, 0.0, CPU), Batches(glyphs(), 0, 32, 0.0, CPU)
    batches = [forward.batch(step, 40) for step in range(12)]
    late = alone.batch(11, 40)
    assert torch.equal(batches[11].images, late.images) and torch.equal(batches[11].labels, late.labels)
    assert torch.equal(torch.rand(3, generator=batches[11].rng), torch.rand(3, generator=late.rng))
    assert late.progress == 11 / 40 and late.images.shape == (32, 1, 28, 28) and late.images.max() <= 1


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
