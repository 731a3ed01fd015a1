"""Training of classifiers: losses against their formulas, batches and shares, functions of the seed."""
import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_gan import make, make_batch, take_step

import models
from datasets import strokes
from training import classifier
from training.classifier import (
    CLASSIFIER_TRAINERS,
    AdversarialClassifierTrainer,
    ClassifierTrainer,
    TinyClassifierTrainer,
    accuracy,
    class_balanced,
    fit_temperature,
    predict,
    predict_logits,
    predict_probabilities,
    predict_with_confidence,
    train_classifier,
)
from training.trainer import Batch
from utils.files import UserError

X, Y = strokes.generate(400, seed=5)
EPS = AdversarialClassifierTrainer.EPS


def stroke_batch(seed=0):
    return Batch(models.from_uint8(torch.from_numpy(X[:40])), torch.from_numpy(Y[:40]), None, 0, 0.0,
                 torch.Generator().manual_seed(seed))


# ---- the trainers of train.py --------------------------------------------------------------------

@pytest.mark.parametrize("name", CLASSIFIER_TRAINERS)
def test_a_step_learns_and_repeats(name):
    trainer, twin = (make(CLASSIFIER_TRAINERS[name]) for _ in range(2))
    losses, again = ([float(take_step(t, stroke_batch(i), lr=3e-3)["loss"]) for i in range(10)] for t in (trainer, twin))
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) and again == losses
    assert all(torch.equal(a, b) for a, b in zip(trainer.classifier.parameters(), twin.classifier.parameters()))
    assert trainer.classifier.training
    for layer, p in trainer.classifier.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0, layer


def test_the_loss_is_the_smoothed_cross_entropy_of_logits():
    trainer, batch = make(ClassifierTrainer), make_batch()
    trainer.augment = lambda batch: batch.images
    (_, loss, _), = trainer.losses(batch)
    log_p = trainer.classifier(batch.images).log_softmax(1)
    smoothed = 0.95 * F.one_hot(batch.labels, 10) + 0.05 / 10
    torch.testing.assert_close(loss, -(smoothed * log_p).sum(1).mean(), rtol=1e-4, atol=1e-5)


def test_without_warp_images_are_only_moved():
    batch = stroke_batch()
    batch.images = batch.images * F.pad(torch.ones(22, 22), [3] * 4)                     # no ink near the frame
    changes = {}
    for strength in (0.0, 1.0):
        batch.rng.manual_seed(0)
        warped = make(ClassifierTrainer, warp=strength, noise=0.0).augment(batch)
        changes[strength] = (warped.sum((1, 2, 3)) / batch.images.sum((1, 2, 3)) - 1).abs().max()
    assert changes[0.0] < 1e-4 and changes[1.0] > 0.05


def test_noise_is_added_unless_there_is_to_be_none():
    clean, noisy = (make(ClassifierTrainer, warp=0.0, **more).augment(stroke_batch()) for more in ({"noise": 0.0}, {}))
    std = (noisy - clean).std((1, 2, 3))
    assert std.max() < 0.3 and std.std() > 0.02 and noisy.min() >= 0 and noisy.max() <= 1


def test_sizes():
    sizes = {name: models.n_parameters(make(t).classifier) for name, t in CLASSIFIER_TRAINERS.items()}
    assert sizes["classifier"] <= 300_000 and sizes["classifier-tiny"] <= 25_000
    for trainer in CLASSIFIER_TRAINERS.values():
        assert make(trainer, classes=49).rounded.features(torch.zeros(2, 1, 28, 28)).shape[1] <= 128


@pytest.mark.parametrize("name", CLASSIFIER_TRAINERS)
def test_finish_rounds_a_copy_to_half_precision(name):
    trainer = make(CLASSIFIER_TRAINERS[name])
    for i in range(2):
        take_step(trainer, stroke_batch(i))
    before = copy.deepcopy(trainer.classifier.state_dict())
    assert trainer.finish(None, None, None) == {}
    assert all(torch.equal(v, before[k]) for k, v in trainer.classifier.state_dict().items())   # it goes on as it was
    for k, v in trainer.rounded.state_dict().items():
        if v.ndim > 1:
            assert torch.equal(v, v.half().float()) and not torch.equal(v, before[k])
            torch.testing.assert_close(v, before[k], rtol=2 ** -11, atol=2 ** -25)
        else:
            assert torch.equal(v, before[k])
    kind, network = trainer.checkpoints[trainer.name]
    assert kind == "classifier" and network is trainer.rounded and not network.training


# ---- temperature ---------------------------------------------------------------------------------

def honest_logits(n, seed=0):
    """Logits float64 [n, 5] and labels that are drawn from just these probabilities."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 5))
    return logits, (logits + rng.gumbel(size=logits.shape)).argmax(1)


@pytest.mark.parametrize("factor", [0.2, 1.0, 3.0])
def test_logits_that_were_scaled_give_that_temperature_back(factor):
    logits, labels = honest_logits(20_000)
    found = fit_temperature(factor * logits + 7, labels)
    assert found == pytest.approx(factor, rel=0.04)
    assert fit_temperature(factor * logits / found, labels) == pytest.approx(1, abs=1e-6)
    assert found == pytest.approx(factor * fit_temperature(logits, labels), rel=1e-6)


def test_the_temperature_is_the_minimum_of_the_likelihood():
    """Of torch's cross-entropy with that share of every label spread, by a search."""
    logits, labels = map(torch.from_numpy, honest_logits(30, seed=1))
    found = fit_temperature(logits.numpy(), labels.numpy())
    losses = [float(F.cross_entropy(logits / (t * found), labels, label_smoothing=1 / 32)) for t in (0.99, 1, 1.01)]
    assert losses[1] < losses[0] and losses[1] < losses[2]


def test_few_images_that_are_all_right_do_not_make_certain():
    """Two classes, all logits alike: the probability of the right one is then the target, 1 - 1 / (N + 2) + half the rest."""
    for n in (1, 10, 1000):
        logits = np.tile([2.0, 0.0], (n, 1))
        t = fit_temperature(logits, np.zeros(n, int))
        assert 1 / (1 + np.exp(-2 / t)) == pytest.approx(1 - 0.5 / (n + 2), abs=1e-6)


def test_temperatures_have_bounds():
    low, high = classifier.TEMPERATURES
    z = np.array([[1.0, 0.0]] * 9)
    assert fit_temperature(z, np.ones(9, int)) == pytest.approx(high)         # worse than chance: as flat as may be
    assert fit_temperature(z * 1e-4, np.zeros(9, int)) == pytest.approx(low)
    assert fit_temperature(z * 0, np.zeros(9, int)) in (pytest.approx(low), pytest.approx(high))


def test_calibration_makes_probabilities_fit_and_changes_no_answer():
    trainer = make(TinyClassifierTrainer)
    for i in range(30):
        take_step(trainer, stroke_batch(i), lr=3e-3)
    x, y = X[40:], Y[40:]
    trained = copy.deepcopy(trainer.classifier.state_dict())
    trainer.finish(None, None, None)
    before = predict_logits(trainer.rounded, x)
    said = trainer.calibrate(x, y)
    after = predict_logits(trainer.rounded, x)
    np.testing.assert_allclose(after, before / said["temperature"], atol=0.01 * abs(after).max())
    losses = [float(F.cross_entropy(torch.from_numpy(z), torch.from_numpy(y))) for z in (before, after)]
    assert said["temperature_images"] == 360 and losses[1] < losses[0] and abs(said["temperature"] - 1) > 0.02
    top = np.sort(before, 1)
    clear = top[:, -1] - top[:, -2] > 0.01 * abs(before).max()
    assert np.array_equal(before.argmax(1)[clear], after.argmax(1)[clear]) and clear.mean() > 0.9
    weight = trainer.rounded.head.weight
    assert torch.equal(weight, weight.half().float()), "and half precision still holds it"
    assert all(torch.equal(v, trained[k]) for k, v in trainer.classifier.state_dict().items()), "training goes on as before"

    once = copy.deepcopy(trainer.rounded.state_dict())
    assert trainer.calibrate(x, y)["temperature"] == pytest.approx(1, abs=2e-3)         # nothing is left to do
    trainer.finish(None, None, None)
    assert trainer.calibrate(x, y) == said
    assert all(torch.equal(v, once[k]) for k, v in trainer.rounded.state_dict().items()), "a later finish() starts anew"


def test_without_validation_images_nothing_is_scaled(monkeypatch):
    trainer = make(ClassifierTrainer)
    trainer.finish(None, None, None)
    before = copy.deepcopy(trainer.rounded.state_dict())
    assert trainer.calibrate(X[:0], Y[:0]) == {"temperature": 1.0, "temperature_images": 0}
    assert all(torch.equal(v, before[k]) for k, v in trainer.rounded.state_dict().items())
    monkeypatch.setattr(classifier, "FITTED_IMAGES", 100)
    assert trainer.calibrate(X[:250], Y[:250])["temperature_images"] == 84         # every third of the split


# ---- adversarial training ------------------------------------------------------------------------

def test_attacked_images_stay_in_the_ball_and_mislead():
    trainer, batch = make(AdversarialClassifierTrainer), stroke_batch()
    for i in range(10):
        take_step(trainer, stroke_batch(i), lr=3e-3)
    x, y = batch.images, batch.labels
    attacked = trainer.attack(x, y, batch.rng)
    assert (attacked - x).abs().max() <= EPS + 1e-6 and attacked.min() >= 0 and attacked.max() <= 1
    trainer.classifier.eval()
    noise = (x + EPS * (2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) - 1)).clamp(0, 1)
    with torch.no_grad():
        losses = [float(F.cross_entropy(trainer.classifier(images), y)) for images in (x, noise, attacked)]
    assert losses[2] > losses[0] and losses[2] > losses[1]
    assert trainer.ATTACK_STEPS == 2 and not torch.equal(trainer.augment(batch), x), "it is what training sees"


def test_adversarial_training_takes_both_steps_of_its_attack():
    """On logits whose gradient turns once the image has moved: one step would stop at the wrong end."""
    class Turn(torch.nn.Module):
        def forward(self, x):                              # highest loss of class 0 where the ink is .62, within reach
            score = -(x.mean((1, 2, 3)) - 0.62).abs()
            return torch.stack([torch.zeros_like(score), score], 1)
    trainer, looked = make(AdversarialClassifierTrainer), []
    trainer.classifier = Turn()
    trainer.classifier.register_forward_pre_hook(
        lambda network, inputs: looked.append(float("nan") if network.training else inputs[0].mean().item()))
    x = torch.full((4, 1, 28, 28), 0.5)
    attacked = trainer.attack(x, torch.zeros(4, dtype=torch.int64), torch.Generator().manual_seed(0))
    # pixels from u ~ U(.2, .8) to min(u + 1.25 x .3, .8), then back down by as much, to min(u, .425)
    assert looked == pytest.approx([0.5, 0.758], abs=0.01) and float(attacked.mean()) == pytest.approx(0.383, abs=0.01)


def test_adversarial_training_learns_from_attacked_images_that_may_have_moved(monkeypatch):
    trainer, batch, seen = make(AdversarialClassifierTrainer), stroke_batch(), []
    monkeypatch.setattr(trainer, "attack", lambda images, labels, rng: seen.append((images, labels)) or 1 - images)
    trainer.classifier.register_forward_pre_hook(lambda network, inputs: seen.append(inputs[0]))
    next(trainer.losses(batch))
    (shifted, labels), learned_from = seen
    assert torch.equal(labels, batch.labels) and torch.equal(learned_from, 1 - shifted)
    assert not torch.equal(shifted, batch.images), "by a pixel"


def test_images_are_warped_as_strongly_as_the_settings_say(monkeypatch):
    asked = []
    monkeypatch.setattr(classifier, "warp", lambda images, rng, **how: asked.append(how) or images)
    make(ClassifierTrainer, warp=0.5).augment(stroke_batch())
    train_classifier(X, Y, steps=1, batch=8, augment="classical", affine=2.0, elastic=20.0)
    assert asked == [{"degrees": 7.5, "scale": 0.075, "shear": 0.075, "elastic": 4.0},
                     {"degrees": 30.0, "scale": 0.3, "shear": 0.3, "elastic": 20.0}]
    train_classifier(X, Y, steps=1, batch=8)
    assert len(asked) == 2, "not without being asked to"


# ---- a training on few images --------------------------------------------------------------------

@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2}, {"class_weights": np.linspace(0.1, 3, 10)},
                                     {"mixup": 0.4}])
def test_a_step_goes_down_the_gradient_of_the_loss_by_its_formula(options, monkeypatch):
    """One step of plain descent, of 64 images, against the cross-entropy of logits written out."""
    monkeypatch.setattr(classifier, "has_bf16", lambda device: False)
    monkeypatch.setattr(torch.optim, "AdamW", lambda parameters, **_: torch.optim.SGD(parameters, 1.0))
    monkeypatch.setattr(classifier, "learning_rate", lambda *_: 0.5)
    found = train_classifier(X[:64], Y[:64], steps=1, seed=4, n_classes=10, **options)

    order = classifier.shuffled_passes(torch.arange(64), torch.Generator().manual_seed(4 * 4 + 1))(64).numpy()
    x, target = models.from_uint8(torch.from_numpy(X[order])), F.one_hot(torch.from_numpy(Y[order]), 10).float()
    smoothing = options.get("label_smoothing", 0.0)
    if "mixup" in options:
        rng = np.random.default_rng(4)
        pairs, share = rng.permutation(64), rng.beta(0.4, 0.4)
        x, target = (share * v + (1 - share) * v[pairs] for v in (x, target))
    target = (1 - smoothing) * target + smoothing / 10
    if "class_weights" in options:
        target = target * torch.from_numpy(options["class_weights"]).float()
        target = target / target.sum() * 64
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        network = models.SmallClassifier(10).to(memory_format=torch.channels_last).train()
        x = x.contiguous(memory_format=torch.channels_last)
        loss = -(target * network(x).log_softmax(1)).sum(1).mean()                       # its dropout is drawn, too
    for (name, p), gradient in zip(network.named_parameters(), torch.autograd.grad(loss, [*network.parameters()])):
        torch.testing.assert_close(found.state_dict()[name], p.detach() - 0.5 * gradient, rtol=1e-3, atol=1e-4)


def weights(network):
    return torch.cat([v.flatten().float() for v in network.state_dict().values()])


def test_classifier_is_a_function_of_its_seed_and_leaves_the_global_state_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    one, same, other = (train_classifier(X, Y, steps=3, seed=s, augment="classical", batch=16) for s in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(weights(one), weights(same)) and not torch.equal(weights(one), weights(other))
    assert not one.training and not any(p.requires_grad for p in one.parameters())


def test_it_learns():
    network = train_classifier(X[:300], Y[:300], steps=60, seed=0)
    assert accuracy(network, X[300:], Y[300:]) > 0.8


def labels_of_batches(monkeypatch, **options):
    """The labels of every batch that a training takes; real images are of class 0 and 1, synthetic ones of 1 and 2."""
    seen = []
    original = F.cross_entropy
    monkeypatch.setattr(classifier.F, "cross_entropy", lambda z, y, *a, **k: seen.append(y.numpy().copy()) or
                        original(z, y, *a, **k))
    real = np.zeros((30, 28, 28), np.uint8), np.repeat([0, 1], [25, 5])
    synthetic = np.full((40, 28, 28), 200, np.uint8), np.repeat([1, 2], 20)
    train_classifier(*real, synthetic=synthetic, n_classes=3, batch=20, **options)
    return seen


def test_every_batch_holds_the_share_of_synthetic_images(monkeypatch):
    seen = labels_of_batches(monkeypatch, steps=60, share=0.25)
    assert len(seen) == 60 and all(len(y) == 20 for y in seen)
    counts = np.bincount(np.concatenate(seen), minlength=3) / 1200
    assert np.allclose(counts, [0.75 * 25 / 30, 0.75 * 5 / 30 + 0.125, 0.125], atol=0.01)     # passes, not random picks


def test_pretraining_is_synthetic_alone(monkeypatch):
    seen = labels_of_batches(monkeypatch, steps=10, share=0.0, first=0.4)
    assert [bool((y == 0).any()) for y in seen] == [False] * 4 + [True] * 6
    assert not any((y == 2).any() for y in seen[4:])


def test_pretraining_comes_before_balanced_batches_too(monkeypatch):
    seen = labels_of_batches(monkeypatch, steps=10, first=0.4, balanced=True)
    assert [bool((y == 0).any()) for y in seen] == [False] * 4 + [True] * 6


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


def test_oversampling_makes_classes_even_and_shares_hold_within_a_class():
    labels = torch.tensor([0] * 90 + [1] * 9 + [1] * 300 + [2] * 5)
    is_synthetic = torch.tensor([False] * 99 + [True] * 305)
    chosen = class_balanced(labels, is_synthetic, 0.25, torch.Generator().manual_seed(0))(30_000)
    counts = torch.bincount(labels[chosen]) / 30_000
    assert torch.allclose(counts, torch.full((3,), 1 / 3), atol=0.012)
    of_one = is_synthetic[chosen][labels[chosen] == 1].float().mean()
    assert abs(float(of_one) - 0.25) < 0.02


def test_every_variant_takes_equal_steps_from_equal_weights(monkeypatch):
    rates, starts = [], []
    original = classifier.set_lr

    def record(optimizer, lr):
        if len(rates) % 9 == 0:
            starts.append(torch.cat([p.detach().flatten() for g in optimizer.param_groups for p in g["params"]]))
        rates.append(lr)
        original(optimizer, lr)
    monkeypatch.setattr(classifier, "set_lr", record)
    for options in ({}, {"synthetic": (X[:50], Y[:50])}, {"augment": "classical"}, {"balanced": True}):
        train_classifier(X, Y, steps=9, seed=3, **options)
    assert rates == [classifier.learning_rate(step, 9, 3e-3, classifier.STUDY_WARM_UP) for step in range(9)] * 4
    assert rates[8] < rates[4] < rates[2]
    train_classifier(X, Y, steps=9, seed=3, lr=1e-3)
    assert rates[36:] == pytest.approx([rate / 3 for rate in rates[:9]])
    assert all(torch.equal(p, starts[0]) for p in starts)


def test_probabilities_and_predictions_agree_at_any_number_of_images():
    network = models.SmallClassifier(10).eval()
    p = predict_probabilities(network, X)
    assert p.shape == (400, 10) and np.allclose(p.sum(1), 1, atol=1e-5)
    assert np.array_equal(predict(network, X), p.argmax(1))
    assert np.allclose(predict_probabilities(network, X[:3]), p[:3], atol=1e-5)
    assert accuracy(network, X, p.argmax(1)) == 1.0
    labels, confidence = predict_with_confidence(network, X)
    assert np.array_equal(labels, p.argmax(1)) and np.array_equal(confidence, p.max(1)) and labels.dtype == np.int64
    logits = torch.from_numpy(predict_logits(network, X))
    assert logits.shape == (400, 10) and np.array_equal(logits.softmax(1).numpy(), p)
