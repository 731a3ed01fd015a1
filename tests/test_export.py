import dataclasses
import json
import os
import shlex
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import ROOT, command
from onnx import TensorProto, helper

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


def checkpoint(kind, classes, rounded=True, **config):
    """A network that was not trained; `rounded`: fp16 holds its weights to the bit, as train.py leaves them."""
    torch.manual_seed(2)
    config_type, network = models.MODELS[kind]
    network = shaken(network(config_type(classes, **config)))
    if kind == "classifier" and rounded:
        for layer in network.modules():
            if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
                layer.weight.data = layer.weight.data.half().float()
    table = np.tile(np.arange(256, dtype=np.int32), (classes, 1)) + np.arange(classes)[:, None]
    return models.Checkpoint(kind, network, [chr(0x3042 + i) for i in range(classes)], table,
                             {"dataset": "strokes", "license": "MIT", "figures": {"test_accuracy": 0.5}})


def inputs(made, batch, seed=0):
    return export_onnx.random_inputs(made.role, batch, len(made.classes), getattr(made.model.cfg, "latent", None), seed)


@pytest.fixture(scope="module", params=[("generator", 10), ("cvae", 3), ("classifier", 10)],
                ids=lambda p: f"{p[0]}-{p[1]}")
def exported(request, tmp_path_factory):
    made = checkpoint(*request.param)
    path = tmp_path_factory.mktemp("onnx") / f"{made.kind}.onnx"
    proof = export_onnx.export(made, path)
    assert proof["bytes"] == path.stat().st_size and 0 < proof["max_difference"] <= 1
    return made, path


@pytest.mark.parametrize("batch", [1, 2, 7, 64, 100])
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
        assert json.loads(meta["ink_medians"]) == [127.5 + k for k in range(len(made.classes))]
    assert not any(node.op_type == "BatchNormalization" for node in proto.graph.node)


def test_the_runtime_folds_what_makes_the_file_small(exported, tmp_path):
    """No weight is cast, scaled, or put into another order while images are made: that is done once, when loading."""
    made, path = exported
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


@pytest.fixture
def tiny(tiny_graph, monkeypatch):
    """A small classifier as files of before hold it, weights not rounded; its graph is built once for all tests."""
    made, built = tiny_graph
    monkeypatch.setattr(export_onnx, "build", lambda _: built)
    return made


@pytest.fixture(scope="module")
def tiny_graph():
    made = checkpoint("classifier", 5, rounded=False, width=8, last=40)
    return made, export_onnx.build(made)


def test_weights_that_fp16_cannot_hold_stay_as_they_are(tiny, tmp_path):
    assert export_onnx.export(tiny, tmp_path / "c.onnx")["max_difference"] < 1e-4
    assert not any(t.data_type == TensorProto.FLOAT16 for t in onnx.load(tmp_path / "c.onnx").graph.initializer)


def test_a_network_that_gives_nan_is_no_match(tiny, tmp_path, monkeypatch):
    export_onnx.export(tiny, tmp_path / "c.onnx")
    monkeypatch.setattr(tiny.model.head, "bias", torch.nn.Parameter(torch.full((5,), float("nan")), requires_grad=False))
    difference, limit = export_onnx.verify(tmp_path / "c.onnx", tiny)
    assert np.isnan(difference) and not difference <= limit
    with pytest.raises(UserError, match="differs from the network by nan"):
        export_onnx.export(tiny, tmp_path / "d.onnx")
    assert not (tmp_path / "d.onnx").exists()


def test_an_export_that_differs_is_not_left_behind(tiny, tmp_path, monkeypatch):
    path = tmp_path / "c.onnx"
    path.write_bytes(b"the file of before")
    with torch.no_grad():
        tiny.model.head.bias[2] += 0.001
    with pytest.raises(UserError, match="differs from the network"):
        export_onnx.export(tiny, path)
    tiny.model.head.bias[2] -= 0.001
    assert path.read_bytes() == b"the file of before" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("exported", [("generator", 10), ("cvae", 3)], indirect=True)
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


@pytest.fixture(scope="module")
def five(small_npz, tiny_graph):
    """Images of five classes, named as those of the small classifier."""
    glyphs = data.load(small_npz)
    return dataclasses.replace(glyphs, classes=tiny_graph[0].classes, y_val=glyphs.y_val % 5)


def test_int8_keeps_the_contract_and_nearly_the_results(tiny, five, tmp_path, monkeypatch):
    monkeypatch.setattr(export_onnx, "MAX_INT8_LOSS", 100)            # it was not trained: a few random guesses may turn
    small, plain = tmp_path / "small.onnx", tmp_path / "plain.onnx"
    proof = export_onnx.quantize_int8(tiny, small, five)
    export_onnx.export(tiny, plain)
    assert proof["bytes"] == small.stat().st_size and export_onnx.check(small)[0] == "classifier"
    weights = {t.name: t for t in onnx.load(small).graph.initializer if len(t.dims) == 4}
    assert len(weights) == 6 and all(t.data_type == TensorProto.INT8 for t in weights.values())
    scores = [onnx_session.open_session(path, "classifier")[0].run(["logits"], {"image": five.x_test})[0]
              for path in (small, plain)]
    assert np.corrcoef(scores[0].ravel(), scores[1].ravel())[0, 1] > 0.99
    assert proof["val_accuracy"] == 100 * export_onnx.accuracy(small, five.x_val, five.y_val)


def test_int8_that_loses_too_much_is_not_left_behind(tiny, five, tmp_path, monkeypatch):
    monkeypatch.setattr(export_onnx, "MAX_INT8_LOSS", -101)
    with pytest.raises(UserError, match="points are lost"):
        export_onnx.quantize_int8(tiny, tmp_path / "c.onnx", five)
    with pytest.raises(UserError, match="its own data set"):
        export_onnx.quantize_int8(tiny, tmp_path / "c.onnx", dataclasses.replace(five, classes=list("abcde")))
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


def test_foreign_and_broken_files_get_one_line(tmp_path, exported):
    """Each fault names the file and what was expected of it, whether the file is opened for use or checked."""
    made, path = exported
    inputs, outputs = onnx_session.CONTRACT[made.role]
    foreign(tmp_path / "foreign.onnx", "x", "y")
    foreign(tmp_path / "fixed.onnx", *[list(names)[0] for names in (inputs, outputs)], batch=1)
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "cut.onnx").write_bytes(path.read_bytes()[:5000])
    change(path, tmp_path / "bare.onnx", lambda m: m.ClearField("metadata_props"))
    change(path, tmp_path / "input.onnx", lambda m: rename_first(m, m.graph.input))
    change(path, tmp_path / "output.onnx", lambda m: rename_first(m, m.graph.output))
    onnx.save(onnx.load(path), tmp_path / "outside.onnx", save_as_external_data=True, location="weights.bin",
              size_threshold=100)
    for name, words in (("foreign", f"has no input {list(inputs)[0]} tensor"), ("fixed", "expected"),
                        ("text", "not an ONNX model.*expected"), ("cut", "not an ONNX model.*expected"),
                        ("bare", "lacks the metadata kind, dataset"),
                        ("input", f"has no input {list(inputs)[0]} tensor"),
                        ("output", f"has no output {list(outputs)[0]} tensor"),
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
        change(path, tmp_path / "lying.onnx", lambda m: onnx.helper.set_model_props(m, {**truth, key: value}))
        with pytest.raises(UserError, match="lying.onnx"):
            export_onnx.check(tmp_path / "lying.onnx")


@pytest.fixture(scope="module")
def files(exported, tmp_path_factory):
    """A folder with the checkpoint and the ONNX file of one kind, and an untrained discriminator."""
    made, path = exported
    folder = tmp_path_factory.mktemp("files")
    models.save(folder / f"{made.kind}.pth", made)
    (folder / f"{made.kind}.onnx").write_bytes(path.read_bytes())
    net = models.Discriminator(models.DiscriminatorConfig(10))
    models.save(folder / "discriminator.pth", models.Checkpoint("discriminator", net, made.classes, made.ink_table))
    return folder


@pytest.mark.parametrize("exported", [("generator", 10)], indirect=True, ids=["generator"])
def test_command(files):
    done = command("export_onnx.py", files / "generator.pth", "--out", files / "new.onnx")
    assert done.returncode == 0, done.stderr
    assert f"{files / 'new.onnx'}: " in done.stdout and "differ by at most" in done.stdout
    assert (files / "new.onnx").read_bytes() == (files / "generator.onnx").read_bytes()


@pytest.mark.parametrize("exported", [("generator", 10)], indirect=True, ids=["generator"])
@pytest.mark.parametrize("words, message", [
    ("--check generator.onnx --on small.npz", "wants a classifier"), ("discriminator.pth --out d.onnx", "discriminator"),
    ("--check generator.pth", "generator.pth"), ("generator.pth --int8", "not a classifier"),
    ("''", "empty"), ("generator.pth --out ''", "empty"), ("--check generator.onnx --on ''", "empty"),
    ("generator.pth --int8 --check", "--check writes nothing"), ("generator.onnx --check --out x", "--check writes nothing"),
    ("generator.pth --on small.npz", "--on needs --check"), ("generator.pth --dataset mnist", "--dataset needs --int8")])
def test_bad_input_of_the_command(files, small_npz, monkeypatch, words, message):
    monkeypatch.chdir(files)
    (files / "small.npz").write_bytes(small_npz.read_bytes())
    before = sorted(files.iterdir())
    with pytest.raises(UserError, match=message) as fault:
        export_onnx.main(shlex.split(words))
    assert "\n" not in str(fault.value) and sorted(files.iterdir()) == before


@pytest.mark.parametrize("exported", [("classifier", 10)], indirect=True, ids=["classifier"])
def test_check_says_the_accuracy(files, small_npz, capsys, tmp_path):
    arrays = np.load(small_npz)
    np.savez(tmp_path / "plain.npz", images=arrays["x_test"], labels=arrays["y_test"])
    export_onnx.main(["--check", str(files / "classifier.onnx"), "--on", str(tmp_path / "plain.npz")])
    first, second = capsys.readouterr().out.splitlines()
    assert "as promised" in first and "% of the 120 images" in second
    with pytest.raises(UserError, match="knows the classes"):
        export_onnx.main(["--check", str(files / "classifier.onnx"), "--on", f"{small_npz}:test"])


@pytest.mark.parametrize("exported", [("generator", 10)], indirect=True, ids=["generator"])
def test_onnx_files_need_no_torch(exported, tmp_path):
    """The promise to app developers: with torch impossible to import, the ONNX file still makes digits."""
    (tmp_path / "torch.py").write_text("raise ImportError('torch must not be imported')")
    done = command("generate_digits.py", "--generator", exported[1], "--out", tmp_path / "o",
                   env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "o").glob("*_*.png"))) == 10
