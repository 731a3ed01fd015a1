"""classifier-gradient.onnx: backpropagation as a graph, against autograd; what saliency.py and attacks.py make of it."""
import copy
import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from conftest import ROOT, one_line_error
from onnx import TensorProto
from PIL import Image

import attacks
import export_onnx
import models
import saliency
from datasets import strokes
from utils import onnx_session

CLASSES = list("0123456789")


def shaken():
    """A Checkpoint of a classifier with batch-norm statistics as training might leave them, its weights held by fp16: of two
    networks side by side. (test_shipped.py has single ones.)"""
    torch.manual_seed(2)
    network = models.Classifier(models.ClassifierConfig(10, 8, 40, groups=2))
    for m in network.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            for values, low, high in ((m.running_mean, -0.3, 0.3), (m.running_var, 0.5, 1.5), (m.weight.data, 0.5, 1.5),
                                      (m.bias.data, -0.3, 0.3)):
                values.uniform_(low, high)
        elif isinstance(m, (torch.nn.Conv2d, torch.nn.Linear)):
            m.weight.data = m.weight.data.half().float()
    info = {"dataset": "strokes", "license": "MIT", "figures": {"test_accuracy": 0.5}}
    return models.Checkpoint("classifier", network.eval().requires_grad_(False), CLASSES, np.zeros((10, 256)), info)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(checkpoint, its gradient file as the command wrote it)."""
    folder, made = tmp_path_factory.mktemp("gradient"), shaken()
    models.save(folder / "classifier.pth", made)
    export_onnx.main([str(folder / "classifier.pth"), "--gradient"])
    return made, folder / "classifier-gradient.onnx"


def relative(found, expected):
    """float64 [N]: the largest difference in each image, relative to the largest value there."""
    return abs(found - expected).max((1, 2)) / abs(expected).max((1, 2))


def kinks(network, image, label):
    """bool [N]: whether autograd's answer changes when pixels move by a millionth."""
    here, moved = (export_onnx.autograd(network, (image + shift).astype(np.float32), label)
                   for shift in (0, np.random.default_rng(1).uniform(-1e-6, 1e-6, image.shape)))
    return np.maximum(relative(moved[1], here[1]), relative(moved[2], here[2])) > 2e-5


def noisy(n, seed):
    """n digits on uneven paper, float32 [n, 28, 28] in [0, 1]: no two pixels alike, so that no two places tie."""
    images, rng = strokes.generate(n, seed=seed)[0], np.random.default_rng(seed)
    return 0.6 * (images / 255).astype(np.float32) + 0.4 * rng.random(images.shape, np.float32)


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_gradients_are_those_of_autograd(exported, batch):
    made, path = exported
    session, _ = onnx_session.open_session(path, "classifier-gradient")
    network, image, label = copy.deepcopy(made.model).double(), noisy(batch, batch), np.arange(batch) * 3 % 10
    found = session.run(None, {"image": image, "label": label})
    expected = export_onnx.autograd(network, image, label)
    assert [a.dtype for a in found] == [np.float32] * 3 and [a.shape for a in found] == [a.shape for a in expected]
    np.testing.assert_allclose(found[0], expected[0], atol=1e-4)
    smooth = ~kinks(network, image, label)
    assert smooth.mean() > 0.8 or batch < 64
    for gradient, wanted in zip(found[1:], expected[1:]):
        assert abs(wanted).max() > 1e-4 and (relative(gradient, wanted)[smooth] <= 1e-4).all()


def test_slope_of_contrast():
    layer, x = models.Contrast(0.2), torch.linspace(-1, 1, 201).requires_grad_()
    torch.testing.assert_close(layer.slope(x.detach()), torch.autograd.grad(layer(x).sum(), x)[0])


@pytest.mark.parametrize("side", [2, 7])
def test_of_places_that_tie_the_first_gets_the_gradient(side):
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(3, (2, 5, 14, 14), generator=rng).float().requires_grad_()
    y = torch.nn.functional.max_pool2d(x, side)
    gradient = torch.randn(y.shape, generator=rng)
    found = export_onnx.max_pool_backward(None, x.detach(), y.detach(), gradient)
    assert torch.equal(found, torch.autograd.grad(y, x, gradient)[0])


def test_the_loss_keeps_its_gradient_where_the_classifier_is_sure(exported, tmp_path):
    """softmax - 1 would be 0, or a digit of it, where the probability is 1 in fp32."""
    made, proto = copy.deepcopy(exported[0]), onnx.load(exported[1])
    made.model.head.bias[3] += 30
    bias = next(t for t in proto.graph.initializer if t.name == "head.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(made.model.head.bias.numpy(), bias.name))
    onnx.save(proto, tmp_path / "sure.onnx")
    session, _ = onnx_session.open_session(tmp_path / "sure.onnx", "classifier-gradient")
    arrays = {"image": noisy(4, 1), "label": np.full(4, 3)}
    found, network = session.run(None, arrays), copy.deepcopy(made.model).double()
    expected, smooth = export_onnx.autograd(network, **arrays), ~kinks(network, *arrays.values())
    assert 0 < abs(expected[2]).max() < 1e-9 and smooth.any()
    assert (relative(found[2], expected[2])[smooth] < 1e-3).all()


def test_the_file_keeps_the_contract(exported):
    _, path = exported
    proto = onnx.load(path)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 18)]
    assert export_onnx.check(path)[0] == "classifier-gradient" and path.stat().st_size < 130_000
    meta = {p.key: p.value for p in proto.metadata_props}
    assert json.loads(meta["classes"]) == CLASSES and meta["dataset"] == "strokes" and meta["license"] == "MIT"
    weights = [t for t in proto.graph.initializer if len(t.dims) == 4 and np.prod(t.dims) >= 1000]
    assert all(t.data_type == TensorProto.FLOAT16 for t in weights)            # one copy serves both directions
    assert len({tuple(t.dims) for t in weights}) == len(weights) and str(ROOT).encode() not in path.read_bytes()
    assert not any(node.domain for node in proto.graph.node)


def test_labels_out_of_range_stop_the_graph(exported):
    session, _ = onnx_session.open_session(exported[1], "classifier-gradient")
    image = np.zeros((2, 28, 28), np.float32)
    for wrong in (-1, 10, 10 ** 9):
        with pytest.raises(Exception, match="(?i)indices|bounds|range"):
            session.run(None, {"image": image, "label": np.array([0, wrong])})


def test_verifying_finds_a_gradient_that_is_a_little_wrong(exported):
    made, path = exported
    other = copy.deepcopy(made)
    other.model.net[3].weight *= 1.001
    (difference, limit), (wrong, _) = (export_onnx.verify(path, export_onnx.with_gradient(c)) for c in (made, other))
    assert difference < limit / 5 and wrong > 2 * limit


def test_bad_input_of_the_export(exported, tmp_path):
    pth = exported[1].with_name("classifier.pth")
    assert "--int8" in one_line_error(export_onnx.main, pth, "--gradient", "--int8")
    assert "--check writes nothing" in one_line_error(export_onnx.main, exported[1], "--gradient", "--check")
    generator = models.Generator(models.GeneratorConfig(3))
    models.save(tmp_path / "g.pth", models.Checkpoint("generator", generator, list("abc"), np.zeros((3, 256))))
    assert "not a classifier" in one_line_error(export_onnx.main, tmp_path / "g.pth", "--gradient")
    assert [path.name for path in tmp_path.iterdir()] == ["g.pth"]


# ---- in saliency.py and attacks.py ---------------------------------------------------------------

def test_the_file_is_a_network_for_autograd(exported):
    made, path = exported
    network, image = models.load_classifier(path).model, torch.from_numpy(noisy(5, 3))[:, None]
    label = torch.tensor([0, 3, 9, 3, 5])
    scores = {"logit": lambda logits: logits.gather(1, label[:, None]).sum(),
              "cross-entropy": lambda logits: torch.nn.functional.cross_entropy(logits, label, reduction="sum"),
              "towards a class": lambda logits: -torch.nn.functional.cross_entropy(logits, label, reduction="sum"),
              "ratio": lambda logits: attacks.dlr(logits, label).sum(), "none": lambda logits: 0 * logits.sum()}
    for name, score in scores.items():
        x = image.clone().requires_grad_()
        found, wanted = (torch.autograd.grad(score(net(x)), x)[0] for net in (network, made.model))
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()), msg=name)
    assert not network(image).requires_grad


def test_methods_and_attacks_give_the_same_by_either_file(exported):
    made, path = exported
    network, image, label = models.load_classifier(path).model, torch.from_numpy(noisy(3, 5))[:, None], torch.arange(3)
    for name in saliency.METHODS.keys() - set(saliency.LOOKS_INSIDE):
        found, wanted = (saliency.METHODS[name](net, image, label) for net in (network, made.model))
        loose = 1e-2 if name in ("SmoothGrad", "integrated gradients") else 1e-3       # means over points, some where a ReLU turns
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=loose * float(wanted.abs().max()), msg=name)
    x, y = image, made.model(image).argmax(1)
    for attack in (attacks.fgsm, attacks.ATTACKS["apgd-dlr"]):
        bounded = attack(network, x, y, 0.01)
        assert (bounded - x).abs().max() <= 0.01 + 1e-6 and (bounded != x).any()
    found, wanted = (attacks.fgsm(net, x, y, 0.01) for net in (network, made.model))
    assert (found == wanted).float().mean() > 0.99                     # a sign may turn where a gradient is nearly zero


@pytest.fixture
def folder(exported, small_npz, tmp_path, monkeypatch):
    """A folder to work in, with the gradient file, an image that it can read, and labelled images."""
    (tmp_path / "c-gradient.onnx").write_bytes(exported[1].read_bytes())
    Image.fromarray(strokes.generate(1, seed=3)[0][0]).save(tmp_path / "digit.png")
    (tmp_path / "small.npz").write_bytes(small_npz.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands_take_the_file(folder, capsys):
    saliency.main(["c-gradient.onnx", "digit.png", "--out", "why.png", "--class", "3"])
    assert "digit.png: " in capsys.readouterr().out
    width = Image.open("why.png").size[0]
    saliency.main(["c-gradient.onnx", "digit.png", "--out", "one.png", "--method", "gradient"])
    assert 28 * 5 * 5 < width < 28 * 5 * 6.5 and Image.open("one.png").size[0] < width       # Grad-CAM is left out
    capsys.readouterr()
    attacks.main(["c-gradient.onnx", "--on", "small.npz:test", "--n", "8", "--attacks", "fgsm,square", "--json"])
    assert json.loads(capsys.readouterr().out)["attacks"].keys() == {"fgsm", "square"}


def test_bad_files_of_the_commands(folder):
    assert "Grad-CAM looks at" in one_line_error(saliency.main, "c-gradient.onnx", "digit.png", "--method", "Grad-CAM")
    (folder / "text.onnx").write_text("no graph")
    for name in ("text.onnx", "none.onnx", ROOT / "saved_models/classifier-tiny.onnx"):
        for text in (one_line_error(saliency.main, name, "digit.png"), one_line_error(attacks.main, name)):
            assert str(name) in text and "--gradient" in text


# ---- in an app -----------------------------------------------------------------------------------

@pytest.fixture
def example(monkeypatch):
    """examples/gradient_numpy.py as a module, to be called in this process."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    import gradient_numpy
    return gradient_numpy


def test_the_example_has_the_same_methods(exported, example):
    image, label, made = noisy(1, 7)[0], 4, models.load_classifier(exported[1])
    session, classes = example.open_model(exported[1])
    x, y = torch.from_numpy(image)[None, None], torch.tensor([label])
    assert classes == CLASSES
    wanted = saliency.integrated_gradients(made.model, x, label, tolerance=np.inf)[0]
    np.testing.assert_allclose(example.integrated_gradients(session, image, label), wanted, rtol=1e-3, atol=1e-6)
    plain, smooth = example.gradient(session, image, label), example.smoothgrad(session, image, label, sigma=0)
    np.testing.assert_allclose(plain, saliency.gradient(made.model, x, label)[0], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(smooth, plain, rtol=1e-3, atol=1e-6)
    right = made.model(x).argmax(1)
    there = attacks.fgsm(made.model, x, right, 0.01)[0, 0].numpy()
    assert (abs(example.fgsm(session, image, int(right), 0.01) - there) < 1e-6).mean() > 0.99
    attacked = [example.run(session, example.pgd(session, image, label, eps)[None], label)[0][0] for eps in (0, 0.1)]
    assert abs(example.pgd(session, image, label, 0.1) - image).max() <= 0.1 + 1e-6
    loss = [float(torch.nn.functional.cross_entropy(torch.from_numpy(logits)[None], y)) for logits in attacked]
    assert loss[1] > loss[0]


def test_the_example_needs_no_torch(folder):
    (folder / "torch.py").write_text("raise ImportError('an example must not import this')")
    done = subprocess.run([sys.executable, ROOT / "examples/gradient_numpy.py", "digit.png", "--eps", "0.3"], cwd=folder,
                          text=True, capture_output=True, check=False, env={**os.environ, "PYTHONPATH": str(folder)})
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    answer, after = first.split(": ")[1][0], first.split("after PGD ")[1][0]
    assert second == f"why.png: what speaks for {answer}" and after != answer
    assert Image.open("why.png").size == (5 * 28 * 5, 28 * 5)


def test_faults_of_the_example_are_one_line(folder, example, capsys):
    for words, expected in ((["none.png"], "none.png"), (["digit.png", "--class", "x"], "0,1,2"),
                            (["digit.png", "--out", "none/why.png"], "none/why.png")):
        with pytest.raises(SystemExit) as end:
            example.main(words)
        lines = capsys.readouterr().err.splitlines()
        assert end.value.code == 2 and len(lines) == 1 and lines[0].startswith("error: ") and expected in lines[0]
