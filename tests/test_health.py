"""health.py: what is said of samples and losses that go wrong, and that nothing is said of healthy ones."""
from types import SimpleNamespace

import numpy as np
import pytest

import data
from datasets import strokes
from training import health
from training.health import CHECK_STEPS, Health, check_losses

X, Y = strokes.generate(1500, seed=5)
FEW = data.Glyphs("tiny", list("0123456789"), X[:500], Y[:500], X[:0], Y[:0], X[:0], Y[:0], "strokes", "CC0", True)
OTHERS = [X[500:][Y[500:] == k] for k in range(10)]                  # images of each class that are not in FEW


class Sampler:
    """A generator that gives `images(noise, labels, thickness)`."""
    latent = 8

    def __init__(self, images):
        self.images = images

    def __call__(self, noise, labels, thickness):
        return self.images(labels).astype(np.uint8)


def as_real(labels):
    """Another real image of the class for every sample."""
    return np.stack([OTHERS[k][i % len(OTHERS[k])] for i, k in enumerate(labels)])


def blurred(labels):
    """The mean image of the class, with a quarter of the variance of real images: what young generators draw."""
    means = np.stack([images.mean(0) for images in OTHERS])[labels]
    return means + 0.5 * (as_real(labels) - means)


def watched(images, glyphs=FEW):
    run = SimpleNamespace(glyphs=glyphs, step=0, warnings=[], sampler=lambda: Sampler(images))
    return run, Health(run)


def after(run, watcher, steps, losses=None):
    """What is said in so many steps, of these losses."""
    said = []
    for _ in range(steps):
        run.step += 1
        said += watcher.watch(losses or {"D": 1.3, "G": 0.9, "label": 0.1})
    return said


@pytest.mark.parametrize("images", [as_real, blurred])
@pytest.mark.parametrize("glyphs", [FEW, FEW.subset(10, 0), FEW.subset(1, 0)])
def test_nothing_is_said_of_healthy_samples(images, glyphs):
    run, watcher = watched(images, glyphs)
    assert after(run, watcher, 3 * CHECK_STEPS) == [] == run.warnings


@pytest.mark.parametrize("images, said", [
    (lambda labels: np.zeros((len(labels), 28, 28)), {"alike", "do not keep to their labels"}),
    (lambda labels: np.stack([OTHERS[k][0] for k in labels]), {"alike"}),
    (lambda labels: as_real(np.random.default_rng(0).permutation(labels)), {"do not keep to their labels"}),
])
def test_samples_that_went_wrong_are_found(images, said):
    run, watcher = watched(images)
    findings = after(run, watcher, 2 * CHECK_STEPS)
    assert len(findings) == len(said) and all(any(words in text for text in findings) for words in said)
    assert run.warnings == findings and all("(step 400)" in text and "\n" not in text for text in findings)


def test_what_is_wrong_once_is_not_said_and_what_stays_wrong_is_said_once():
    run, watcher = watched(lambda labels: np.zeros((len(labels), 28, 28)) if run.step == CHECK_STEPS else as_real(labels))
    assert after(run, watcher, 3 * CHECK_STEPS) == []
    run, watcher = watched(lambda labels: np.stack([OTHERS[k][0] for k in labels]))
    assert len(after(run, watcher, 4 * CHECK_STEPS)) == 1
    resumed = Health(run)                                            # it knows what the record will say
    assert after(run, resumed, 3 * CHECK_STEPS) == [] and len(run.warnings) == 1


@pytest.mark.parametrize("losses, said", [
    ({"D": 1.39, "G": 0.7}, ""), ({"D": 0.9, "G": 2.2}, ""), ({}, ""),       # without a discriminator, as early in a cvae
    ({"D": 0.05, "G": 4.0}, "wins outright"), ({"D": 0.01, "G": 13.0}, "wins outright"),
    ({"D": 1477.0, "G": 517.0}, "blown up"), ({"D": 2.0, "G": 25.0}, "blown up"), ({"D": 40.0, "G": 0.1}, "blown up"),
])
def test_losses_that_went_wrong_are_found(losses, said):
    texts = list(check_losses(losses).values())
    assert len(texts) == bool(said) and all(said in text for text in texts)
    run, watcher = watched(as_real)
    assert len(after(run, watcher, 2 * CHECK_STEPS, losses | {"pixels": 90.0})) == bool(said)


def test_losses_that_set_in_late_are_judged_by_their_own_steps():
    """A CVAE's discriminator begins in the middle of a window."""
    run, watcher = watched(as_real)
    after(run, watcher, CHECK_STEPS - 10, {"pixels": 90.0})
    after(run, watcher, 10, {"D": 1.39, "G": 0.7})
    assert not watcher.suspected


def test_one_class_or_images_that_are_all_alike_are_not_judged():
    ones = FEW.x_train[FEW.y_train == 1]
    one = data.Glyphs("one", ["1"], ones, np.zeros(len(ones), np.int64), *[X[:0], Y[:0]] * 2, "strokes", "CC0", True)
    assert after(*watched(lambda labels: as_real(labels + 1), one), 2 * CHECK_STEPS) == []
    same = data.Glyphs("same", ["a", "b"], np.stack([X[0]] * 8), np.repeat([0, 1], 4), *[X[:0], Y[:0]] * 2, "x", "CC0", True)
    assert after(*watched(lambda labels: np.zeros((len(labels), 28, 28)), same), 2 * CHECK_STEPS) == []


@pytest.mark.parametrize("each", [2, 3, 10, 50])
def test_variance_in_a_class_does_not_depend_on_how_many_images_show_it(each):
    labels = np.arange(10).repeat(each * (2000 // each))
    images = np.random.default_rng(0).normal(100, 20, (len(labels), 6))
    draws = [np.r_[0:each] + first for first in range(0, len(labels), each)]
    measured = np.mean([health.variance_in_class(images[i], labels[i]) for i in draws])
    assert measured == pytest.approx(400, rel=0.03)
    assert health.variance_in_class(images[:1], labels[:1]) == 0


def test_many_classes_take_few_samples():
    many = data.Glyphs("many", [str(k) for k in range(250)], X[:500], np.arange(500) % 250, *[X[:0], Y[:0]] * 2, "x", "CC0",
                       True)
    _, watcher = watched(as_real, many)
    assert len(watcher.classes) <= health.CLASSES and len(watcher.labels) <= health.CLASSES * health.PER_CLASS
