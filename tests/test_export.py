import json
import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

import export_onnx
import models
import onnx_io
from conftest import ROOT, assert_one_line_error, command
from files import UserError


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


def checkpoint(kind, classes):
    torch.manual_seed(2)
    config, network = models.MODELS[kind]
    table = np.tile(np.arange(256, dtype=np.int32), (classes, 1)) + np.arange(classes)[:, None]
    return models.Checkpoint(kind, shaken(network(config(classes))), [chr(0x3042 + i) for i in range(classes)], table,
                             {"dataset": "strokes", "license": "MIT", "figures": {"test_accuracy": 0.5}})


def inputs(made, batch, seed=0):
    return export_onnx.example(made.kind, batch, getattr(made.model.cfg, "latent", None), len(made.classes), seed)


@pytest.fixture(scope="module", params=[("generator", 10), ("generator", 3), ("classifier", 10)],
                ids=lambda p: f"{p[0]}-{p[1]}")
def exported(request, tmp_path_factory):
    made = checkpoint(*request.param)
    path = tmp_path_factory.mktemp("onnx") / f"{made.kind}.onnx"
    export_onnx.export(made, path)
    return made, path


@pytest.mark.parametrize("batch", [1, 2, 7, 64, 100])
def test_parity(exported, batch):
    made, path = exported
    session, _ = onnx_io.open_session(path, made.kind)
    arrays = inputs(made, batch, seed=100 + batch)
    got = session.run(None, arrays)
    tensors = [torch.from_numpy(a) for a in arrays.values()]
    with torch.inference_mode():
        if made.kind == "generator":
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
    assert str(ROOT).encode() not in content and b".py" not in content and b"site-packages" not in content
    meta = {p.key: p.value for p in proto.metadata_props}
    assert meta["kind"] == made.kind and json.loads(meta["classes"]) == made.classes
    assert meta["dataset"] == "strokes" and meta["license"] == "MIT" and json.loads(meta["figures"])
    if made.kind == "generator":
        assert int(meta["latent_dim"]) == 64 and path.stat().st_size < 800_000
        assert json.loads(meta["ink_medians"]) == [127.5 + k for k in range(len(made.classes))]
    assert not any(node.op_type == "BatchNormalization" for node in proto.graph.node)


@pytest.mark.parametrize("exported", [("generator", 10), ("generator", 3)], indirect=True)
def test_label_out_of_range_fails_and_thickness_is_clamped(exported):
    made, path = exported
    session, _ = onnx_io.open_session(path, "generator")
    arrays = inputs(made, 3)
    for wrong in (-1, len(made.classes), 10 ** 9):
        with pytest.raises(Exception, match="(?i)indices|bounds|range"):
            session.run(None, {**arrays, "label": np.array([0, wrong, 1])})
    ends = [session.run(None, {**arrays, "thickness": np.full(3, t, np.float32)})[0] for t in (-5, 0, 1, 7)]
    assert np.array_equal(ends[0], ends[1]) and np.array_equal(ends[2], ends[3])
    assert not np.array_equal(ends[1], ends[2])


def test_an_export_that_differs_is_not_left_behind(tmp_path, monkeypatch):
    made = checkpoint("classifier", 10)
    path = tmp_path / "c.onnx"
    path.write_bytes(b"the file of before")
    monkeypatch.setattr(export_onnx, "LOGITS", -1.0)
    with pytest.raises(UserError, match="differs from the network"):
        export_onnx.export(made, path)
    assert path.read_bytes() == b"the file of before" and len(list(tmp_path.iterdir())) == 1


def foreign(path, inputs, outputs, batch="batch"):
    """A valid ONNX file that is none of ours: y = x."""
    x = helper.make_tensor_value_info(inputs, TensorProto.FLOAT, [batch, 3])
    y = helper.make_tensor_value_info(outputs, TensorProto.FLOAT, [batch, 3])
    graph = helper.make_graph([helper.make_node("Identity", [inputs], [outputs])], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def test_foreign_and_broken_files_get_one_line(tmp_path, exported):
    made, path = exported
    foreign(tmp_path / "foreign.onnx", "x", "y")
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "half.onnx").write_bytes(path.read_bytes()[:5000])
    bare = onnx.load(path)
    del bare.metadata_props[:]
    onnx.save(bare, tmp_path / "bare.onnx")
    outside = onnx.load(path)
    onnx.save(outside, tmp_path / "outside.onnx", save_as_external_data=True, location="weights.bin",
              size_threshold=100)
    for key, value in (("classes", "5"), ("classes", "no json"), ("classes", "[1, 2]"), ("latent_dim", "sixty"),
                       ("latent_dim", "100000000000"), ("classes", json.dumps(["a"] * 40))):
        lying = onnx.load(path)
        onnx.helper.set_model_props(lying, {**{p.key: p.value for p in lying.metadata_props}, key: value})
        onnx.save(lying, tmp_path / "lying.onnx")
        if key in {p.key for p in onnx.load(path).metadata_props}:
            with pytest.raises(UserError, match="lying.onnx"):
                export_onnx.check(tmp_path / "lying.onnx")
    for name in ("foreign", "text", "half", "bare", "outside", "missing"):
        with pytest.raises(UserError, match=f"{name}.onnx"):
            onnx_io.open_session(tmp_path / f"{name}.onnx", made.kind)
        with pytest.raises(UserError, match=f"{name}.onnx"):
            export_onnx.check(tmp_path / f"{name}.onnx")
    assert export_onnx.check(path)[0] == made.kind


def test_command(trained, small_npz, tmp_path):
    done = command("export_onnx.py", trained / "generator.pth", "--out", tmp_path / "g.onnx")
    assert done.returncode == 0 and (tmp_path / "g.onnx").is_file(), done.stderr
    done = command("export_onnx.py", "--check", tmp_path / "g.onnx")
    assert done.returncode == 0 and "as promised" in done.stdout, done.stderr
    done = command("export_onnx.py", "--check", trained / "classifier.onnx", "--on", f"{small_npz}:test")
    assert done.returncode == 0 and "% of the 120 images" in done.stdout, done.stderr
    assert_one_line_error(command("export_onnx.py", "--check", tmp_path / "g.onnx", "--on", f"{small_npz}:test"),
                          "generator")
    assert_one_line_error(command("export_onnx.py", trained / "discriminator.pth", "--out", tmp_path / "d.onnx"),
                          "discriminator")
    assert not (tmp_path / "d.onnx").exists()
    assert_one_line_error(command("export_onnx.py", "--check", trained / "generator.pth"), "generator.pth")


def test_onnx_files_need_no_torch(trained, tmp_path):
    """The promise to app developers: with torch impossible to import, the ONNX file still makes digits."""
    (tmp_path / "torch.py").write_text("raise ImportError('torch must not be imported')")
    done = subprocess.run(
        [sys.executable, ROOT / "generate_digits.py", "--generator", trained / "generator.onnx", "--out",
         tmp_path / "o"], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "o").glob("*_*.png"))) == 10
    session = onnxruntime.InferenceSession(trained / "classifier.onnx")
    assert session.run(["probabilities"], {"image": np.zeros((3, 28, 28), np.uint8)})[0].shape == (3, 10)
