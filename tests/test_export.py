import dataclasses
import json
import os
import shlex
import sys
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import ROOT, command
from onnx import TensorProto, helper, numpy_helper

import data
import export_onnx
import models
from utils import onnx_session
from utils.files import UserError


def shaken(model):
    """Batch-norm statistics and weights as training might leave them: folding them wrongly must show."""
    rng = torch.Generator().manual_seed(4)
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.copy_(torch.randn(m.running_mean.shape, generator=rng) * 0.3)
            m.running_var.copy_(torch.rand(m.running_var.shape, generator=rng) + 0.5)
            m.weight.data.copy_(torch.rand(m.weight.shape, generator=rng) + 0.5)
            m.bias.data.copy_(torch.randn(m.bias.shape, generator=rng) * 0.3)
    return model.eval()


def checkpoint(kind, classes, **config):
    """A network that was not trained. fp16 holds a classifier's weights to the bit, as train.py leaves them."""
    torch.manual_seed(2)
    config_type, network = models.MODELS[kind]
    network = shaken(network(config_type(classes, **config)))
    if kind == "classifier":
        for layer in [m for m in network.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]:
            layer.weight.data = layer.weight.data.half().float()
    table = np.tile(np.linspace(1, 5, 256), (classes, 1)) + np.arange(classes)[:, None]
    return models.Checkpoint(kind, network, [chr(0x3042 + i) for i in range(classes)], table,
                             {"dataset": "strokes", "license": "MIT", "figures": {"test_accuracy": 0.5}})


def inputs(made, batch, seed=0):
    return export_onnx.random_inputs(made.role, batch, len(made.classes), getattr(made.model.cfg, "latent", None), seed)


BUILD, BUILT = export_onnx.build, {}              # the graphs of this run by kind: each costs a second or two
KINDS = {"cvae": (3, {"c0": 24, "c1": 12}), "classifier": (10, {"width": 8, "last": 40})}


@pytest.fixture(scope="module", params=KINDS)
def exported(request, tmp_path_factory):
    """(checkpoint, its ONNX file as the command wrote it). A CVAE's graph holds that of a generator."""
    kind, (classes, config) = request.param, KINDS[request.param]
    made, folder = checkpoint(kind, classes, **config), tmp_path_factory.mktemp("onnx")
    models.save(folder / f"{kind}.pth", made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_onnx, "build", lambda checkpoint: BUILT.setdefault(kind, BUILD(checkpoint)))
        export_onnx.main([str(folder / f"{kind}.pth")])
    return made, folder / f"{kind}.onnx"


def only(kind):
    """For tests of one kind of file."""
    return pytest.mark.parametrize("exported", [kind], indirect=True)


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_parity(exported, batch):
    made, path = exported
    session, _ = onnx_session.open_session(path, made.role)
    arrays = inputs(made, batch, seed=100 + batch)
    got = session.run(None, arrays)
    tensors = [torch.from_numpy(a) for a in arrays.values()]
    with torch.inference_mode():
        if made.role == "generator":
            want = models.to_uint8(made.model(*tensors)).numpy()
            assert got[0].dtype == np.uint8 and got[0].shape == (batch, 28, 28)
            assert abs(got[0].astype(int) - want).max() <= 1
            assert want.std() > 10                                    # not a blank that anything would match
        else:
            x = models.from_uint8(*tensors)
            np.testing.assert_allclose(got[0], made.model(x).numpy(), atol=1e-4)
            np.testing.assert_allclose(got[1].sum(1), 1, atol=1e-5)
            np.testing.assert_allclose(got[2], made.model.features(x).numpy(), atol=1e-4)
            assert [g.dtype for g in got] == [np.float32] * 3


def test_the_file_keeps_the_contract(exported):
    made, path = exported
    proto = onnx.load(path)
    assert [o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")] == [18]
    assert not [t for t in proto.graph.initializer if t.data_location == TensorProto.EXTERNAL]
    assert list(path.parent.glob("*.data")) == []
    content = path.read_bytes()
    for trace in (str(ROOT), str(os.path.expanduser("~")), sys.prefix, ".py", "site-packages", "Traceback", "/tmp/"):
        assert trace.encode() not in content
    assert len(content) < (600_000 if made.role == "classifier" else 800_000)
    meta = {p.key: p.value for p in proto.metadata_props}
    assert meta["kind"] == made.role and json.loads(meta["classes"]) == made.classes
    assert meta["dataset"] == "strokes" and meta["license"] == "MIT" and json.loads(meta["figures"])
    assert set(onnx_session.METADATA[made.role]) <= set(meta)
    if made.role == "generator":
        assert int(meta["latent_dim"]) == made.model.cfg.latent
        assert json.loads(meta["width_medians"]) == [3.0 + k for k in range(len(made.classes))]
    assert not any(node.op_type == "BatchNormalization" for node in proto.graph.node)


def test_the_runtime_folds_what_makes_the_file_small(exported, tmp_path):
    """No weight is cast, scaled, or put into another order while images are made: that is done once, when loading."""
    _, path = exported
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    stored, loaded = onnx.load(path).graph, onnx.load(tmp_path / "loaded.onnx").graph
    assert sum(t.data_type == TensorProto.FLOAT16 for t in stored.initializer) >= 3
    assert not any(t.data_type == TensorProto.FLOAT16 for t in loaded.initializer)
    fixed = {t.name for t in loaded.initializer}
    assert not [node.name for node in loaded.node if set(node.input) <= fixed]
    assert all(node.op_type != "Relu" for node in loaded.node)           # fused into the layer before


def test_weights_that_fp16_cannot_hold_stay_as_they_are():
    values = np.full((40, 40), 0.5, np.float32)
    for added, stored in ((0, TensorProto.FLOAT16), (1e-4, TensorProto.FLOAT)):
        values[3, 3] += added
        graph = helper.make_graph([], "g", [], [], [numpy_helper.from_array(values, "w")])
        export_onnx.store_as_half(graph, torch.nn.Module(), exact=True)
        assert [t.data_type for t in graph.initializer] == [stored]


def test_a_rounded_generator_is_stored_in_half_to_the_bit(tmp_path):
    """All large weights in two bytes, and the image the network's own, though a batch norm stands between."""
    torch.manual_seed(3)
    network = models.CVAE(models.CVAEConfig(3)).eval().requires_grad_(False)          # it holds a generator
    for name, values in network.state_dict().items():
        if name.endswith("running_var"):
            values.copy_(torch.rand(values.shape) * 30 + 1e-3)
    network = models.rounded_to_half(network)
    table = np.tile(np.linspace(1, 5, 256), (3, 1))
    checkpoint = models.Checkpoint("cvae", network, list("abc"), table, {"dataset": "strokes", "license": "MIT"})
    proto, graph = export_onnx.build(checkpoint)
    export_onnx.store_as_half(proto.graph, graph, exact=True)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    large = [t for t in proto.graph.initializer if np.prod(t.dims) >= 1000 and not t.name.endswith("_scale")]
    assert len(large) >= 3 and all(t.data_type == TensorProto.FLOAT16 for t in large)
    arrays = onnx_session.random_inputs("generator", 64, 3, network.cfg.latent)
    session, _ = onnx_session.open_session(tmp_path / "m.onnx", "generator")
    with torch.no_grad():
        expected = models.to_uint8(network(*map(torch.from_numpy, arrays.values()))).numpy()
    differ = session.run(["image"], arrays)[0] != expected
    assert differ.mean() < 1e-3                                          # where a grey value lies between two levels


@pytest.fixture
def tiny(exported, monkeypatch):
    """The small classifier, whose graph has been built already."""
    for batches in ("VERIFY_BATCHES", "SLOW_BATCHES"):
        monkeypatch.setattr(export_onnx, batches, (1, 7))
    monkeypatch.setattr(export_onnx, "build", lambda checkpoint: BUILT[checkpoint.kind])
    return exported[0]


@only("classifier")
@pytest.mark.parametrize("added", [0.001, float("nan")])
def test_an_export_that_differs_is_not_left_behind(tiny, tmp_path, added):
    path = tmp_path / "c.onnx"
    path.write_bytes(b"the file of before")
    before = tiny.model.head.bias.clone()
    with torch.no_grad():
        tiny.model.head.bias[2] += added                              # of the network, not of the graph
        with pytest.raises(UserError, match="differs from the network"):
            export_onnx.export(tiny, path)
        tiny.model.head.bias.copy_(before)
    assert path.read_bytes() == b"the file of before" and len(list(tmp_path.iterdir())) == 1


@only("cvae")
def test_label_out_of_range_fails_and_thickness_is_clamped(exported):
    made, path = exported
    session, _ = onnx_session.open_session(path, "generator")
    arrays = inputs(made, 3)
    for wrong in (-1, len(made.classes), 10 ** 9):
        with pytest.raises(Exception, match="(?i)indices|bounds|range"):
            session.run(None, {**arrays, "label": np.array([0, wrong, 1])})
    ends = [session.run(None, {**arrays, "thickness": np.full(3, t, np.float32)})[0] for t in (-5, 0, 1, 7)]
    assert np.array_equal(ends[0], ends[1]) and np.array_equal(ends[2], ends[3])
    assert not np.array_equal(ends[1], ends[2])


@pytest.fixture
def glyphs(small_npz, exported):
    """Images whose classes have the names of the small classifier's."""
    return dataclasses.replace(data.load(small_npz), classes=exported[0].classes)


@only("classifier")
def test_int8_keeps_the_contract_and_nearly_the_results(tiny, glyphs, tmp_path, monkeypatch):
    monkeypatch.setattr(export_onnx, "MAX_INT8_LOSS", 100)            # it was not trained: a few random guesses may turn
    small, plain = tmp_path / "small.onnx", tmp_path / "plain.onnx"
    proof = export_onnx.quantize_int8(tiny, small, glyphs)
    export_onnx.export(tiny, plain)
    assert proof["bytes"] == small.stat().st_size and export_onnx.check(small)[0] == "classifier"
    weights = {t.name: t for t in onnx.load(small).graph.initializer if len(t.dims) == 4}
    assert len(weights) == 6 and all(t.data_type == TensorProto.INT8 for t in weights.values())
    scores = [onnx_session.open_session(path, "classifier")[0].run(["logits"], {"image": glyphs.x_test})[0]
              for path in (small, plain)]
    assert np.corrcoef(scores[0].ravel(), scores[1].ravel())[0, 1] > 0.99
    assert proof["val_accuracy"] == 100 * export_onnx.accuracy(small, glyphs.x_val, glyphs.y_val)


@only("classifier")
def test_int8_that_loses_too_much_is_not_left_behind(tiny, glyphs, tmp_path, monkeypatch):
    monkeypatch.setattr(export_onnx, "MAX_INT8_LOSS", -101)
    with pytest.raises(UserError, match="points are lost"):
        export_onnx.quantize_int8(tiny, tmp_path / "c.onnx", glyphs)
    with pytest.raises(UserError, match="its own data set"):
        export_onnx.quantize_int8(tiny, tmp_path / "c.onnx", dataclasses.replace(glyphs, classes=list("abcde")))
    assert not list(tmp_path.iterdir())


def foreign(path, inputs, outputs, batch="batch"):
    """A valid ONNX file that is none of ours: y = x."""
    x = helper.make_tensor_value_info(inputs, TensorProto.FLOAT, [batch, 3])
    y = helper.make_tensor_value_info(outputs, TensorProto.FLOAT, [batch, 3])
    graph = helper.make_graph([helper.make_node("Identity", [inputs], [outputs])], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def change(path, to, edit):
    """A copy of an ONNX file after edit(model)."""
    model = onnx.load(path)
    edit(model)
    onnx.save(model, to)


def rename_first(model, ports):
    """Rename the first input or output throughout the graph."""
    old = ports[0].name
    ports[0].name = "other"
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["other" if name == old else name for name in names]


@only("classifier")
def test_foreign_and_broken_files_get_one_line(tmp_path, exported):
    """Each fault names the file and what was expected of it, whether the file is opened for use or checked."""
    made, path = exported
    inputs, outputs = onnx_session.CONTRACT[made.role]
    foreign(tmp_path / "foreign.onnx", "x", "y")
    foreign(tmp_path / "fixed.onnx", *[next(iter(names)) for names in (inputs, outputs)], batch=1)
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "cut.onnx").write_bytes(path.read_bytes()[:5000])
    change(path, tmp_path / "bare.onnx", lambda m: m.ClearField("metadata_props"))
    change(path, tmp_path / "input.onnx", lambda m: rename_first(m, m.graph.input))
    change(path, tmp_path / "output.onnx", lambda m: rename_first(m, m.graph.output))
    onnx.save(onnx.load(path), tmp_path / "outside.onnx", save_as_external_data=True, location="weights.bin",
              size_threshold=100)
    for name, words in (("foreign", f"has no input {next(iter(inputs))} tensor"), ("fixed", "expected"),
                        ("text", "not an ONNX model.*expected"), ("cut", "not an ONNX model.*expected"),
                        ("bare", "lacks the metadata kind, dataset"),
                        ("input", f"has no input {next(iter(inputs))} tensor"),
                        ("output", f"has no output {next(iter(outputs))} tensor"),
                        ("outside", "external data.*expected one file"), ("missing", "no such file")):
        with pytest.raises(UserError, match=f"{name}.onnx.*{words}|{words}.*{name}.onnx") as fault:
            onnx_session.open_session(tmp_path / f"{name}.onnx", made.role)
        assert "\n" not in str(fault.value)
        with pytest.raises(UserError, match=f"{name}.onnx"):
            export_onnx.check(tmp_path / f"{name}.onnx")
    assert export_onnx.check(path)[0] == made.role


def test_metadata_that_lies_is_found(tmp_path, exported):
    made, path = exported
    truth = {p.key: p.value for p in onnx.load(path).metadata_props}
    lies = [("classes", "5"), ("classes", "no json"), ("classes", "[1, 2]"), ("classes", json.dumps(["a"] * 40)),
            ("kind", "picture"), ("kind", "generator" if made.role == "classifier" else "classifier")]
    if made.role == "generator":
        lies += [("latent_dim", "sixty"), ("latent_dim", "100000000000")]
    for key, value in lies:
        lying = {**truth, key: value}
        change(path, tmp_path / "lying.onnx", partial(onnx.helper.set_model_props, dict_value=lying))
        with pytest.raises(UserError, match="lying.onnx"):
            export_onnx.check(tmp_path / "lying.onnx")


@only("cvae")
@pytest.mark.parametrize("words, message", [
    ("--check cvae.onnx --on small.npz", "wants a classifier"), ("discriminator.pth --out d.onnx", "discriminator"),
    ("--check cvae.pth", "cvae.pth"), ("cvae.pth --int8", "not a classifier"),
    ("''", "empty"), ("cvae.pth --out ''", "empty"), ("--check cvae.onnx --on ''", "empty"),
    ("cvae.pth --int8 --check", "--check writes nothing"), ("cvae.onnx --check --out x.onnx", "--check writes nothing"),
    ("cvae.pth --on small.npz", "--on needs --check"), ("cvae.pth --dataset mnist", "--dataset needs --int8")])
def test_bad_input_of_the_command(exported, small_npz, monkeypatch, words, message):
    folder = exported[1].parent
    monkeypatch.chdir(folder)
    net = models.Discriminator(models.DiscriminatorConfig(10))
    models.save("discriminator.pth", models.Checkpoint("discriminator", net, list("0123456789"), np.zeros((10, 256))))
    Path("small.npz").write_bytes(small_npz.read_bytes())
    before = sorted(folder.iterdir())
    with pytest.raises(UserError, match=message) as fault:
        export_onnx.main(shlex.split(words))
    assert "\n" not in str(fault.value) and sorted(folder.iterdir()) == before


@only("classifier")
def test_check_says_the_accuracy(exported, small_npz, tmp_path):
    arrays = np.load(small_npz)
    np.savez(tmp_path / "plain.npz", images=arrays["x_test"], labels=arrays["y_test"])
    done = command("export_onnx.py", "--check", exported[1], "--on", tmp_path / "plain.npz")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert "as promised" in first and "% of the 120 images" in second
    with pytest.raises(UserError, match="knows the classes"):
        export_onnx.main(["--check", str(exported[1]), "--on", f"{small_npz}:test"])
