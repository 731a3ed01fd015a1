import argparse

import numpy as np
import pytest
import torch

import models
from files import UserError
from objectives import ConditionalGAN, Recogniser, soft_ink, update_average

CPU = torch.device("cpu")


def settings(**more):
    return argparse.Namespace(**{**dict(label_weight=0.3, g_label_weight=0.1, ink_weight=0.5, r1=0.02, r1_end=0.1,
                                          ema=0.999, bf16=False), **more})


def batch(n=12, classes=10, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return (torch.rand(n, 1, 28, 28, generator=rng), torch.arange(n) % classes, torch.rand(n, generator=rng))


def weights(network):
    return {k: v.clone() for k, v in network.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("classes", [2, 10, 49])
def test_shapes_and_ranges(classes):
    x, y, t = batch(classes=classes)
    generator = models.Generator(models.GeneratorConfig(classes)).eval()
    made = generator(torch.randn(12, generator.cfg.latent), y, t)
    assert made.shape == (12, 1, 28, 28) and made.dtype == torch.float32
    assert 0 <= made.min() and made.max() <= 1
    score, logits = models.Discriminator(models.DiscriminatorConfig(classes))(x, y, t)
    assert score.shape == (12,) and logits.shape == (12, classes)
    classifier = models.Classifier(models.ClassifierConfig(classes)).eval()
    assert classifier(x).shape == (12, classes)
    assert classifier.features(x).shape[1] <= 128


@pytest.mark.parametrize("bf16", [False, True])
def test_every_parameter_of_the_gan_gets_a_finite_gradient(bf16):
    gan = ConditionalGAN(settings(bf16=bf16), 10, CPU)
    gan.step(*batch(), lr=1e-3, i=0, progress=0.0, rng=torch.Generator().manual_seed(0))
    for network in (gan.generator, gan.discriminator):
        for name, p in network.named_parameters():
            assert p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0, name


def test_every_parameter_of_the_classifier_gets_a_finite_gradient():
    recogniser = Recogniser(settings(), 10, CPU)
    recogniser.step(*batch(), lr=1e-3, i=0, progress=0.0, rng=torch.Generator().manual_seed(0))
    for name, p in recogniser.classifier.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0, name


def test_each_half_step_leaves_the_other_network_alone():
    gan = ConditionalGAN(settings(), 10, CPU)
    x, y, t = batch()
    for optimizer in gan.optimizers.values():
        optimizer.param_groups[0]["lr"] = 1e-3
    fake = gan.generator(torch.randn(12, 64), y, t)
    g, d = weights(gan.generator), weights(gan.discriminator)
    gan.discriminator_step(x, fake.detach(), y, t, 0, 0.0)
    assert same(g, weights(gan.generator)) and not same(d, weights(gan.discriminator))
    d = weights(gan.discriminator)
    gan.generator_step(x, fake, y, t, 0)
    assert same(d, weights(gan.discriminator)) and not same(g, weights(gan.generator))
    assert all(p.requires_grad for p in gan.discriminator.parameters())


def test_average_follows_its_formula_and_covers_batch_norm():
    a = models.Generator(models.GeneratorConfig())
    b = models.Generator(models.GeneratorConfig())
    for v in b.buffers():
        v.add_(3)                            # both start with the same statistics
    before, other = weights(a), weights(b)
    update_average(a, b, 0.9)
    for k, v in weights(a).items():
        if v.is_floating_point():
            torch.testing.assert_close(v, 0.9 * before[k] + 0.1 * other[k])
    assert not torch.equal(weights(a)["net.0.running_mean"], before["net.0.running_mean"])


def test_thickness_basis_interpolates_linearly():
    t = torch.tensor([0.0, 1.0, 0.5, 1 / 7, 0.2])
    basis = models.thickness_basis(t)
    torch.testing.assert_close(basis.sum(1), torch.ones(5))
    torch.testing.assert_close(basis @ torch.linspace(0, 1, models.BASIS), t)      # a linear curve is met exactly
    assert (basis > 0).sum(1).max() <= 2


def test_soft_ink_counts_what_data_counts():
    rng = np.random.default_rng(0)
    images = (rng.random((5, 28, 28)) < 0.2) * np.uint8(255)
    counted = soft_ink(models.from_uint8(torch.from_numpy(images)))
    torch.testing.assert_close(counted, torch.from_numpy((images > 127).sum((1, 2))).float(), atol=0.1, rtol=0)


def test_uint8_round_trip_is_exact():
    images = torch.arange(256, dtype=torch.uint8).repeat(49)[:28 * 28 * 16].reshape(16, 28, 28)
    assert torch.equal(models.to_uint8(models.from_uint8(images)), images)


def checkpoint(classes=10):
    torch.manual_seed(1)
    network = models.Generator(models.GeneratorConfig(classes))
    return models.Checkpoint("generator", network, [str(i) for i in range(classes)], np.zeros((classes, 256), np.int32),
                             {"dataset": "strokes", "license": "MIT"})


def test_checkpoint_round_trip(tmp_path):
    saved = checkpoint()
    models.save(tmp_path / "g.pth", saved)
    found = models.load(tmp_path / "g.pth", "generator")
    assert found.classes == saved.classes and found.info == saved.info
    assert np.array_equal(found.ink_table, saved.ink_table)
    noise = torch.randn(4, 64)
    inputs = noise, torch.arange(4), torch.rand(4)
    torch.testing.assert_close(found.model(*inputs), saved.model.eval()(*inputs))
    assert not found.model.training


def break_file(path, how):
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[:len(content) // 2])
    elif how == "one byte":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1:])
    elif how == "text":
        path.write_text("not a checkpoint")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "foreign":
        torch.save({"state_dict": {"w": torch.zeros(3)}}, path)
    elif how == "code":
        torch.save({"model": torch.nn.Linear(2, 2)}, path)
    else:
        saved = torch.load(path, weights_only=True)
        if how == "config":
            saved["config"]["c0"] = 10 ** 9
        elif how == "config type":
            saved["config"]["c0"] = "48"
        elif how == "classes":
            saved["classes"] = ["0"]
        elif how == "version":
            saved["version"] = 99
        elif how == "half":
            saved["weights"] = {k: v.half() if v.is_floating_point() else v for k, v in saved["weights"].items()}
        elif how == "nan":
            saved["weights"]["project.weight"][0] = float("nan")
        torch.save(saved, path)


@pytest.mark.parametrize("how", ["truncated", "one byte", "text", "empty", "foreign", "code", "config", "config type",
                                 "classes", "version", "nan", "half"])
def test_a_bad_checkpoint_is_an_error_that_names_the_file(tmp_path, how):
    path = tmp_path / "bad.pth"
    models.save(path, checkpoint())
    break_file(path, how)
    with pytest.raises(UserError, match="bad.pth"):
        models.load(path)


def test_missing_file_and_wrong_kind(tmp_path):
    with pytest.raises(UserError, match="none.pth"):
        models.load(tmp_path / "none.pth")
    models.save(tmp_path / "g.pth", checkpoint())
    with pytest.raises(UserError, match="holds a generator"):
        models.load(tmp_path / "g.pth", "classifier")
