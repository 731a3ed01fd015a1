"""classifier-gradient.onnx: backpropagation as a graph, against autograd; what saliency.py and attacks.py make of it."""
import copy
import json

import numpy as np
import onnx
import pytest
import torch
from conftest import ROOT, one_line_error
from onnx import TensorProto

import export_onnx
import models
from datasets import strokes
from utils import onnx_session

CLASSES = list("0123456789")


def shaken(margin=0.0):
    """A Checkpoint of a classifier with batch-norm statistics as training might leave them, its weights held by fp16."""
    torch.manual_seed(2)
    network = models.Classifier(models.ClassifierConfig(10, 8, 40, margin))
    for m in network.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            for values, low, high in ((m.running_mean, -0.3, 0.3), (m.running_var, 0.5, 1.5), (m.weight.data, 0.5, 1.5),
                                      (m.bias.data, -0.3, 0.3)):
                values.uniform_(low, high)
        elif isinstance(m, (torch.nn.Conv2d, torch.nn.Linear)):
            m.weight.data = m.weight.data.half().float()
    info = {"dataset": "strokes", "license": "MIT", "figures": {"test_accuracy": 0.5}}
    return models.Checkpoint("classifier", network.eval().requires_grad_(False), CLASSES, np.zeros((10, 256), np.int32), info)


@pytest.fixture(scope="module", params=[0.0, 0.2], ids=["plain", "contrast"])
def exported(request, tmp_path_factory):
    """(checkpoint, its gradient file as the command wrote it), without and with the layer of adversarial training."""
    folder, made = tmp_path_factory.mktemp("gradient"), shaken(request.param)
    models.save(folder / "classifier.pth", made)
    export_onnx.main([str(folder / "classifier.pth"), "--gradient"])
    return made, folder / "classifier-gradient.onnx"


plain = pytest.mark.parametrize("exported", [0.0], indirect=True, ids=["plain"])


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


@pytest.mark.parametrize("side", [2, 7])
def test_of_places_that_tie_the_first_gets_the_gradient(side):
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(3, (2, 5, 14, 14), generator=rng).float().requires_grad_()
    y = torch.nn.functional.max_pool2d(x, side)
    gradient = torch.randn(y.shape, generator=rng)
    found = export_onnx.max_pool_backward(None, x.detach(), y.detach(), gradient)
    assert torch.equal(found, torch.autograd.grad(y, x, gradient)[0])


@plain
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


@plain
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


@plain
def test_labels_out_of_range_stop_the_graph(exported):
    session, _ = onnx_session.open_session(exported[1], "classifier-gradient")
    image = np.zeros((2, 28, 28), np.float32)
    for wrong in (-1, 10, 10 ** 9):
        with pytest.raises(Exception, match="(?i)indices|bounds|range"):
            session.run(None, {"image": image, "label": np.array([0, wrong])})


@plain
def test_verifying_finds_a_gradient_that_is_a_little_wrong(exported):
    made, path = exported
    other = copy.deepcopy(made)
    other.model.net[3].weight *= 1.001
    (difference, limit), (wrong, _) = (export_onnx.verify(path, export_onnx.with_gradient(c)) for c in (made, other))
    assert difference < limit / 5 and wrong > 2 * limit


@plain
def test_bad_input_of_the_export(exported, tmp_path):
    pth = exported[1].with_name("classifier.pth")
    assert "--int8" in one_line_error(export_onnx.main, pth, "--gradient", "--int8")
    assert "--check writes nothing" in one_line_error(export_onnx.main, exported[1], "--gradient", "--check")
    generator = models.Generator(models.GeneratorConfig(3))
    models.save(tmp_path / "g.pth", models.Checkpoint("generator", generator, list("abc"), np.zeros((3, 256), np.int32)))
    assert "not a classifier" in one_line_error(export_onnx.main, tmp_path / "g.pth", "--gradient")
    assert [path.name for path in tmp_path.iterdir()] == ["g.pth"]
