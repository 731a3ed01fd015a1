import numpy as np
import pytest
import torch

import models
from utils.archive import read_archive, write_archive
from utils.files import UserError


def batch(n=12, classes=10):
    return torch.rand(n, 1, 28, 28), torch.arange(n) % classes, torch.rand(n)


@pytest.mark.parametrize("classes", [2, 10, 49])
def test_shapes_and_ranges(classes):
    x, y, t = batch(classes=classes)
    for config in (models.GeneratorConfig(classes), models.config_for("generator", classes)):
        generator = models.Generator(config).eval()
        made = generator(torch.randn(12, generator.cfg.latent), y, t)
        assert made.shape == (12, 1, 28, 28) and made.dtype == torch.float32
        assert 0 <= made.min() and made.max() <= 1
    score, logits = models.Discriminator(models.DiscriminatorConfig(classes))(x, y, t)
    assert score.shape == (12,) and logits.shape == (12, classes)
    for classifier in (models.Classifier(models.ClassifierConfig(classes)), models.SmallClassifier(classes)):
        features = classifier.eval().features(x)
        assert features.shape[0] == 12 and features.min() >= 0
        assert classifier(x).shape == (12, classes)
        torch.testing.assert_close(classifier.head(features), classifier(x))
    assert models.Classifier(models.ClassifierConfig(classes)).features(x).shape[1] <= 128


@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_networks_side_by_side_add_their_logits(margin):
    torch.manual_seed(0)
    members = [models.Classifier(models.ClassifierConfig(5, 4, 6, margin)).eval() for _ in range(3)]
    for network in members:
        for m in network.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.running_mean.uniform_(-0.3, 0.3), m.running_var.uniform_(0.5, 1.5)
    x, _, _ = batch()
    with torch.inference_mode():
        whole = models.side_by_side(*members)
        torch.testing.assert_close(whole(x), sum(network(x) for network in members), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(whole.features(x), members[0].features(x))
    alone, weights = models.side_by_side(members[0]).state_dict(), members[0].state_dict()
    assert alone.keys() == weights.keys() and all(torch.equal(alone[k], weights[k]) for k in weights)
    assert not whole.training and whole.cfg.groups == 3


def test_the_score_of_an_auxiliary_classifier_gan_does_not_see_the_condition():
    x, y, t = batch()
    for projection in (False, True):
        network = models.Discriminator(models.DiscriminatorConfig(projection=projection))
        assert torch.equal(network(x, y, t)[0], network(x, (y + 1) % 10, 1 - t)[0]) is not projection


def test_thickness_basis_interpolates_linearly():
    t = torch.tensor([0.0, 1.0, 0.5, 1 / 7, 0.2])
    basis = models.thickness_basis(t)
    torch.testing.assert_close(basis.sum(1), torch.ones(5))
    torch.testing.assert_close(basis @ torch.linspace(0, 1, models.BASIS), t)      # a linear curve is met exactly
    assert (basis > 0).sum(1).max() <= 2


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
    assert np.array_equal(found.width_table, saved.width_table)
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


@pytest.mark.parametrize("n_classes, limit", [(2, 8e5), (10, 8e5), (20, 1e6), (71, 2e6)])
@pytest.mark.parametrize("kind", ["generator", "cvae"])
def test_networks_grow_with_the_classes_within_limits(kind, n_classes, limit):
    """In bytes of an ONNX file, two for each large value; a CVAE's encoder is not exported."""
    network = models.MODELS[kind][1](models.config_for(kind, n_classes))
    values = sum(v.numel() for name, v in network.state_dict().items() if not name.startswith("encoder."))
    assert 0.5 * limit < 2 * values + 30_000 < limit


def test_a_checkpoint_of_version_1_is_told_apart(tmp_path):
    """Its thickness was another: the message says which."""
    path = tmp_path / "old.pth"
    models.save(path, checkpoint())
    content = torch.load(path, weights_only=True)
    torch.save({**content, "version": 1}, path)
    with pytest.raises(UserError, match=r"old.pth has checkpoint version 1, in which thickness was ink .* train again"):
        models.load(path)


def nest(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


def own_list():
    value = []
    value.append(value)
    return value


def doubling():
    """2 ** 40 values in 40 lists."""
    value = 1
    for _ in range(40):
        value = [value, value]
    return value


WEIGHT = "project.weight"
TENSORS = {"expanded": lambda w: torch.zeros(1).expand_as(w),
           "expanded far": lambda w: torch.zeros(1).expand(50_000, 50_000),
           "overlapping": lambda w: torch.zeros(w.numel() // 2).as_strided(w.shape, (1, 1)),
           "double": lambda w: w.double(),
           "sparse": lambda w: w.to_sparse(), "meta": lambda w: w.to("meta"), "parameter": torch.nn.Parameter,
           "with a gradient": lambda w: w.requires_grad_(),
           "complex": lambda w: w.to(torch.complex64), "of another shape": lambda w: w[1:],
           "no tensor": lambda w: [1.0]}


@pytest.mark.parametrize("how", TENSORS)
def test_odd_tensors_in_a_checkpoint_take_no_memory(tmp_path, how):
    path = tmp_path / "odd.pth"
    models.save(path, checkpoint())
    content = torch.load(path, weights_only=True)
    content["weights"][WEIGHT] = TENSORS[how](content["weights"][WEIGHT])
    torch.save(content, path)
    with pytest.raises(UserError, match="odd.pth"):
        models.load(path)


@pytest.mark.parametrize("key, value", [
    ("info", {"dataset": 5, "license": "MIT"}), ("info", {"license": ["MIT"]}), ("info", [1]),
    ("info", {"figures": [1, 2]}),
    ("info", {"note": torch.zeros(3)}), ("info", {"note": nest(100)}), ("info", {"note": own_list()}),
    ("info", {"note": doubling()}), ("info", {"\ud800": 1}), ("info", {"note": 10 ** 400}),
    ("info", {"note": b"bytes"}),
    ("classes", "0123456789"), ("classes", ["\ud800", *"123456789"]), ("classes", [""] * 10),
    ("classes", list(range(10))),
    ("classes", ["x" * 10 ** 6, *"123456789"]), ("width_table", torch.zeros(10)),
    ("width_table", torch.zeros(10, 256).int()), ("width_table", torch.full((10, 256), torch.nan)), ("width_table", [1] * 10),
    ("config", {"n_classes": 10, "c0": 0}), ("config", {"n_classes": 10, "hidden": -3}), ("config", {"width": 5}),
    ("config", None),
    ("kind", ["generator"]), ("kind", "painter"), ("weights", {}), ("weights", [1]), ("version", "1"),
    ("version", None)])
def test_odd_values_in_a_checkpoint(tmp_path, key, value):
    path = tmp_path / "odd.pth"
    models.save(path, checkpoint())
    content = torch.load(path, weights_only=True)
    content[key] = value
    torch.save(content, path)
    with pytest.raises(UserError, match="odd.pth"):
        models.load(path)


def test_what_a_checkpoint_may_be_made_of(tmp_path):
    """What the shipped files and resume states hold passes: views of their own storage, bool, ints, nested lists."""
    values = {"a": [1, (2.5, None)], "b": torch.arange(6).view(2, 3).T, "c": torch.zeros(0), "d": torch.tensor(3.0),
              "e": {1: torch.ones(2, dtype=torch.bool)}}
    write_archive(values, tmp_path / "a.pth")
    found = read_archive(tmp_path / "a.pth")
    assert found["a"] == values["a"] and torch.equal(found["b"], values["b"]) and found["e"][1].all()


def test_missing_file_and_wrong_kind(tmp_path):
    with pytest.raises(UserError, match="none.pth"):
        models.load(tmp_path / "none.pth")
    models.save(tmp_path / "g.pth", checkpoint())
    with pytest.raises(UserError, match="holds a generator"):
        models.load(tmp_path / "g.pth", "classifier")


def test_contrast_resists_small_changes_and_leaves_a_slope():
    ramp = models.Contrast(0.3)
    grey = torch.linspace(-1, 1, 201, requires_grad=True)
    out = ramp(grey)
    torch.testing.assert_close(out[[0, 100, 200]], torch.tensor([-1.0, 0.0, 1.0]), atol=1e-6, rtol=0)
    assert (out.diff() > 0).all()                                 # no flat part, where an attacker would lose the way
    out.sum().backward()
    assert grey.grad.min() == pytest.approx(0.1)
    black = 2 * torch.linspace(0, 0.3, 50) - 1                     # what +0.3 in [0, 1] can do to black
    assert ramp(black).max() - ramp(black).min() < 0.07


def test_a_checkpoint_of_before_the_last_width_loads(tmp_path):
    """Files of version 1 that know no `last` and no `margin`: width 32 meant 32, 64, 128 channels."""
    config = models.ClassifierConfig(10, 32)
    network = models.Classifier(config).eval()
    models.save(tmp_path / "c.pth", models.Checkpoint("classifier", network, list("0123456789"), np.zeros((10, 256))))
    content = torch.load(tmp_path / "c.pth", weights_only=True)
    content["config"] = {"n_classes": 10, "width": 32}
    torch.save(content, tmp_path / "old.pth")
    images = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(models.load(tmp_path / "old.pth").model(images), network(images))
