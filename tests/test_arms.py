"""arms.py: trainings are functions of their seed, mixtures are what they say, generators see what they are given."""
from dataclasses import replace

import numpy as np
import pytest
import torch

import data
from datasets import strokes
from generate_digits import sample_all
from study import ocr
from training import classifier
from training.classifier import build, evenly, predict, predict_probabilities, train_classifier
from training.run import train_generator
from utils.files import UserError

X, Y = strokes.generate(400, seed=5)


def weights(network):
    return torch.cat([v.flatten().float() for v in network.state_dict().values()])


def glyphs(x=X, y=Y):
    """The strokes above as a data set."""
    return data.Glyphs("tiny", list("0123456789"), x[:300], y[:300], x[300:350], y[300:350], x[350:], y[350:],
                       "strokes", "CC0", True)


def test_classifier_is_a_function_of_its_seed_and_leaves_the_global_state_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    one, same, other = (train_classifier(X, Y, steps=3, seed=s, augment="classical", batch=16) for s in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(weights(one), weights(same)) and not torch.equal(weights(one), weights(other))
    assert not one.training and not any(p.requires_grad for p in one.parameters())


def test_it_learns():
    network = train_classifier(X[:300], Y[:300], steps=120, seed=0)
    assert np.mean(predict(network, X[300:]) == Y[300:]) > 0.8


@pytest.mark.parametrize("network", ["small", 4])
def test_networks_give_logits_and_features(network):
    net = build(7, network, torch.device("cpu")).eval()
    images = torch.rand(3, 1, 28, 28)
    assert net(images).shape == (3, 7) and net.features(images).min() >= 0
    assert torch.allclose(net.head(net.features(images)), net(images))


def test_probabilities_and_predictions_agree_at_any_number_of_images():
    net = build(10, "small", torch.device("cpu")).eval()
    p = predict_probabilities(net, X)
    assert p.shape == (400, 10) and np.allclose(p.sum(1), 1, atol=1e-5)
    assert np.array_equal(predict(net, X), p.argmax(1))
    assert np.allclose(predict_probabilities(net, X[:3]), p[:3], atol=1e-5)


def batches(monkeypatch, **options):
    """The labels of every batch that a training takes; real images are of class 0 and 1, synthetic ones of 1 and 2."""
    seen = []
    original = torch.nn.functional.cross_entropy
    monkeypatch.setattr(classifier.F, "cross_entropy", lambda z, y, *a, **k: seen.append(y.numpy().copy()) or
                        original(z, y, *a, **k))
    real = np.zeros((30, 28, 28), np.uint8), np.repeat([0, 1], [25, 5])
    made = np.full((40, 28, 28), 200, np.uint8), np.repeat([1, 2], 20)
    train_classifier(*real, synthetic=made, n_classes=3, batch=20, **options)
    return seen


def test_every_batch_holds_the_share_of_synthetic_images(monkeypatch):
    seen = batches(monkeypatch, steps=60, share=0.25)
    assert len(seen) == 60 and all(len(y) == 20 for y in seen)
    counts = np.bincount(np.concatenate(seen), minlength=3) / 1200
    assert np.allclose(counts, [0.75 * 25 / 30, 0.75 * 5 / 30 + 0.125, 0.125], atol=0.01)     # passes, not random picks


def test_pretraining_is_synthetic_alone(monkeypatch):
    seen = batches(monkeypatch, steps=10, share=0.0, first=0.4)
    assert [bool((y == 0).any()) for y in seen] == [False] * 4 + [True] * 6
    assert not any((y == 2).any() for y in seen[4:])


def test_oversampling_makes_classes_even_and_shares_hold_within_a_class():
    labels = torch.tensor([0] * 90 + [1] * 9 + [1] * 300 + [2] * 5)
    made = torch.tensor([False] * 99 + [True] * 305)
    chosen = evenly(labels, made, 0.25, torch.Generator().manual_seed(0))(30_000)
    counts = torch.bincount(labels[chosen]) / 30_000
    assert torch.allclose(counts, torch.full((3,), 1 / 3), atol=0.012)
    of_one = made[chosen][labels[chosen] == 1].float().mean()
    assert abs(float(of_one) - 0.25) < 0.02


def test_arms_take_equal_steps_from_equal_weights(monkeypatch):
    rates, starts = [], []
    original, fresh = classifier.set_rate, classifier.build
    monkeypatch.setattr(classifier, "set_rate", lambda o, lr: rates.append(lr) or original(o, lr))
    monkeypatch.setattr(classifier, "build", lambda *a: starts.append(fresh(*a)) or starts[-1])
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: None)
    for options in ({}, {"synthetic": (X[:50], Y[:50])}, {"augment": "classical"}, {"balanced": True}):
        train_classifier(X, Y, steps=9, seed=3, **options)
    assert rates == rates[:9] * 4 and rates[0] > 0
    parameters = [torch.cat([p.flatten() for p in net.parameters()]) for net in starts]
    assert all(torch.equal(p, parameters[0]) for p in parameters)


def test_synthetic_only_and_wrong_arguments():
    none = np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.int64)
    a, b = (train_classifier(x, y, steps=2, synthetic=(X, Y)) for x, y in ((None, None), none))
    assert torch.equal(weights(a), weights(b))
    with pytest.raises(UserError, match="at least one image"):
        train_classifier(None, None)
    with pytest.raises(UserError, match="none or classical"):
        train_classifier(X, Y, augment="more")


def test_class_weights_pull_answers_to_the_heavy_class():
    heavy = np.where(np.arange(10) == 3, 50.0, 0.1)
    network = train_classifier(X, Y, steps=25, class_weights=heavy)
    assert np.mean(predict(network, X) == 3) > 0.5


def test_filter_keeps_what_is_read_as_asked():
    class Reader(torch.nn.Module):
        """Reads the class off the first pixel, sure of it from 128 on in the second."""
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

        def forward(self, images):
            answer = (images[:, 0, 0, 0] * 255).round().long()
            sure = torch.where(images[:, 0, 0, 1] > 0.5, 9.0, 1.0) * self.scale
            return torch.nn.functional.one_hot(answer, 4) * sure[:, None]
    images = np.zeros((8, 28, 28), np.uint8)
    images[:, 0, 0] = [0, 1, 2, 3, 0, 1, 2, 3]
    images[4:, 0, 1] = 255
    labels = np.array([0, 1, 0, 0, 0, 1, 2, 0])
    kept, answers = ocr.keep_agreed(Reader(), images, labels)
    assert answers.tolist() == [0, 1, 0, 1, 2] and kept[:, 0, 0].tolist() == [0, 1, 0, 1, 2]
    assert ocr.keep_agreed(Reader(), images, labels, confidence=0.9)[1].tolist() == [0, 1, 2]
    assert len(ocr.keep_agreed(Reader(), images, (images[:, 0, 0] + 1) % 4)[1]) == 8   # it agrees with none: all stay


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
