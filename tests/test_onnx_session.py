"""onnx_session.py: files that are not trusted, from hostile graphs to networks of others that must keep working."""
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import ROOT, assert_one_line_error
from onnx import TensorProto, helper, numpy_helper

import export_onnx
from generate_digits import open_generator, sample_all
from metrics.features import Extractor
from utils.files import UserError
from utils.onnx_session import Session, open_session

CLASSIFIER, GENERATOR = (ROOT / "saved_models" / name for name in ("classifier-tiny.onnx", "generator.onnx"))
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
node = helper.make_node


def write(path, nodes, weights=(), shape=("batch", 28, 28), output=("batch", "d")):
    """A network of `nodes` from "image" float32 to "features", with `weights` {name: array}."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name, sizes in
             (("image", shape), ("features", output))]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:],
                              [numpy_helper.from_array(a, name) for name, a in dict(weights).items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def ints(*values):
    return np.array(values, np.int64)


def added(*nodes, **weights):
    """Nodes that make "grown" of constants, added to the mean of an image; with their weights."""
    return [node("Flatten", ["image"], ["flat"]), *nodes, node("ReduceMax", ["grown"], ["most"], keepdims=0),
            node("Add", ["flat", "most"], ["features"])], weights


ONE, LARGE = np.ones(1, np.float32), 800_000_000
HOSTILE = {
    "ConstantOfShape": added(node("ConstantOfShape", ["n"], ["grown"]), n=ints(LARGE)),
    "Range": added(node("Range", ["a", "n", "b"], ["r"]), node("Cast", ["r"], ["grown"], to=1), a=np.array(0),
                   b=np.array(1),
                   n=np.array(LARGE)),
    "Tile": added(node("Tile", ["c", "n"], ["grown"]), n=ints(LARGE), c=ONE),
    "Expand": added(node("Expand", ["c", "n"], ["grown"]), n=ints(100_000_000), c=ONE),
    "Pad": added(node("Pad", ["c", "n"], ["grown"]), n=ints(0, LARGE), c=ONE),
    "OneHot": added(node("OneHot", ["i", "n", "v"], ["grown"]), n=ints(LARGE), i=ints(1),
                    v=np.array([0, 1], np.float32)),
    "Resize": added(node("Resize", ["c", "", "n"], ["grown"]), n=np.array([1, 1, 3e4, 3e4], np.float32),
                    c=np.ones((1, 1, 1, 1), np.float32)),
    "MatMul": added(node("MatMul", ["c", "d"], ["grown"]), c=np.ones((20_000, 1), np.float32),
                    d=np.ones((1, 20_000), np.float32)),
    "Concat": added(*(node("Concat", [f"c{i}"] * 8, [f"c{i + 1}"], axis=0) for i in range(9)),
                    node("Identity", ["c9"], ["grown"]), c0=ONE),
    "many constants": added(*(node("Expand", ["c", "n"], [f"g{i}"]) for i in range(40)),
                            *(node("ReduceMax", [f"g{i}"], [f"m{i}"]) for i in range(40)),
                            node("Max", [f"m{i}" for i in range(40)], ["grown"]), n=ints(10 ** 6), c=ONE),
    "an image that grows": added(node("Expand", ["flat", "n"], ["wide"]), node("ReduceMax", ["wide"], ["grown"]),
                                 n=ints(5000, 1, 784)),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_what_makes_large_tensors_of_small_constants_is_refused(tmp_path, how):
    """Neither the opening nor the optimiser may take the memory first."""
    nodes, weights = HOSTILE[how]
    session, started = Session(write(tmp_path / "m.onnx", nodes, weights)), time.process_time()
    with pytest.raises(UserError, match="m.onnx (does not run .*more than|makes .* values)"):
        session.run(None, {"image": IMAGES.astype(np.float32)})
    assert time.process_time() - started < 5


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from Linux")
def test_the_peak_of_a_hostile_file_is_small(tmp_path):
    nodes, weights = HOSTILE["ConstantOfShape"]
    write(tmp_path / "m.onnx", nodes, weights)
    code = ("import sys; from metrics.features import Extractor; import numpy as np\n"
            "try: Extractor(sys.argv[1])(np.zeros((2, 28, 28), np.uint8))\n"
            "except Exception as e: name = type(e).__name__\n"
            "print(name, open('/proc/self/status').read().split('VmHWM:')[1].split()[0])")
    words = [sys.executable, "-c", code, tmp_path / "m.onnx"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    name, peak = done.stdout.split()
    assert name == "UserError" and int(peak) < 800_000, "kB; 3.2 GB were asked for"


def loop(model):
    body = helper.make_graph([node("Identity", ["go"], ["still"])], "body", [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("still", TensorProto.BOOL, [])])
    model.graph.initializer.extend([helper.make_tensor("trips", TensorProto.INT64, [], [2 ** 62]),
                                    helper.make_tensor("yes", TensorProto.BOOL, [], [True])])
    model.graph.node.append(node("Loop", ["trips", "yes"], [], body=body))


def outside(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def function(model):
    model.functions.append(helper.make_function("mine", "F", ["x"], ["y"], [node("Relu", ["x"], ["y"])],
                                                [helper.make_opsetid("", 18)]))


def first(change):
    return lambda model: change(model.graph.node[0])


@pytest.mark.parametrize("change, said", [
    (loop, "operator Loop"), (outside, "external data"), (function, "functions"),
    (first(lambda n: setattr(n, "domain", "com.other")), "operator com.other"),
    (first(lambda n: setattr(n, "op_type", "Nonsense")), "Nonsense"),
    (lambda m: m.graph.initializer[0].dims.append(10 ** 9), "more weights than it holds"),
    (lambda m: m.graph.node.append(m.graph.node[0]), "."),
    (lambda m: m.graph.node.insert(0, m.graph.node.pop()), "not in their order"),
    (lambda m: m.graph.sparse_initializer.add(), "sparse"),
    (first(lambda n: n.attribute.append(helper.make_attribute("batch_dims", -2))), "odd number for batch_dims"),
    (first(lambda n: n.attribute.append(helper.make_attribute("pads", [0, 2 ** 40]))), "odd number for pads")])
def test_graphs_that_no_network_of_images_needs_are_not_run(tmp_path, change, said):
    model = onnx.load(CLASSIFIER)
    change(model)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=f"m.onnx.*{said}"):
        open_session(tmp_path / "m.onnx", "classifier")


def test_a_graph_that_is_there_twice_is_refused(tmp_path):
    (tmp_path / "m.onnx").write_bytes(2 * CLASSIFIER.read_bytes())
    with pytest.raises(UserError, match="no single graph"):
        Session(tmp_path / "m.onnx")


def change_metadata(key, value, path, to):
    model = onnx.load(path)
    for prop in model.metadata_props:
        if prop.key == key:
            prop.value = value
    to.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("value", ["[" * 100_000 + "]" * 100_000, json.dumps(["\ud800", *"123456789"]), "[]", '["a"',
                                   '[""]',
                                   json.dumps([["a"]] * 10), "9" * 5000])
def test_odd_classes_in_metadata(tmp_path, value):
    change_metadata("classes", value, CLASSIFIER, tmp_path / "m.onnx")
    with pytest.raises(UserError, match="m.onnx.*classes"):
        export_onnx.check(tmp_path / "m.onnx")
    assert Extractor(tmp_path / "m.onnx").classes is None, "features are there all the same"


def test_metadata_that_is_no_text(tmp_path):
    content = CLASSIFIER.read_bytes()
    (tmp_path / "m.onnx").write_bytes(content.replace(b"usually cited", b"usuall\xff cited", 1))
    with pytest.raises(UserError, match="m.onnx"):
        open_session(tmp_path / "m.onnx", "classifier")


def test_a_generator_whose_images_have_another_size_than_declared(tmp_path):
    model = onnx.load(GENERATOR)
    last = model.graph.output[0].name
    for n in model.graph.node:
        n.output[:] = ["whole" if name == last else name for name in n.output]
    model.graph.initializer.append(numpy_helper.from_array(np.arange(28) > 0, "most"))
    model.graph.node.append(node("Compress", ["whole", "most"], [last], axis=1))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=r"m.onnx gives image of shape \[2, 27, 28\]"):
        open_generator(tmp_path / "m.onnx")


def test_the_run_that_fails_is_a_line_whenever_it_is(tmp_path):
    """A reshape that fits a batch of two alone: the trial passes, a later batch does not."""
    path = write(tmp_path / "m.onnx", [node("Reshape", ["image", "shape"], ["features"])], {"shape": ints(2, 784)})
    session = Session(path)
    assert session.run(["features"], {"image": IMAGES[:2].astype(np.float32)})[0].shape == (2, 784)
    with pytest.raises(UserError, match="m.onnx does not run"):
        session.run(["features"], {"image": IMAGES[:3].astype(np.float32)})


def rng_weights(**shapes):
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(np.float32) / 10 for name, shape in shapes.items()}


def test_networks_of_other_people_keep_working(tmp_path):
    """The operators of ordinary exporters: shapes worked out as the graph runs, a resize, a block with a skip."""
    nodes = [
        node("Unsqueeze", ["image", "axis"], ["x"]), node("Resize", ["x", "", "", "large"], ["big"], mode="linear"),
        node("Conv", ["big", "w1", "b1"], ["c"], pads=[1] * 4),
        node("BatchNormalization", ["c", "b1", "b1", "b1", "v"], ["n"]),
        node("Relu", ["n"], ["r"]), node("Conv", ["r", "w2"], ["d"], pads=[1] * 4), node("Add", ["r", "d"], ["s"]),
        node("MaxPool", ["s"], ["p"], kernel_shape=[2, 2], strides=[2, 2]), node("GlobalAveragePool", ["p"], ["g"]),
        node("Shape", ["g"], ["shape"]), node("Gather", ["shape", "zero"], ["n_images"]),
        node("Concat", ["n_images", "minus"], ["flat"], axis=0),
        node("Reshape", ["g", "flat"], ["f"]), node("ConstantOfShape", ["flat_size"], ["zeros"]),
        node("Add", ["f", "zeros"], ["h"]),
        node("Gemm", ["h", "w3"], ["features"])]
    weights = {**rng_weights(w1=(8, 1, 3, 3), w2=(8, 8, 3, 3), w3=(8, 5)), "b1": np.ones(8, np.float32),
               "v": np.ones(8, np.float32),
               "axis": ints(1), "large": ints(1, 1, 64, 64), "zero": ints(0), "minus": ints(-1), "flat_size": ints(8)}
    weights["large"] = np.array([1, 1, 64, 64])
    nodes[1] = node("Resize", ["x", "", "scales"], ["big"], mode="linear")
    del weights["large"]
    weights["scales"] = np.array([1, 1, 8, 8], np.float32)
    extract = Extractor(write(tmp_path / "m.onnx", nodes, weights), depths=True)
    features = extract(IMAGES)
    assert features["features"].shape == (5, 5) and features["depth 1"].shape == (5, 8)
    np.testing.assert_allclose(extract(IMAGES[2:3])["features"], features["features"][2:3], rtol=1e-4)


def test_a_fixed_batch_and_a_large_network_pass_the_trial(tmp_path):
    weights = rng_weights(w=(64, 3, 7, 7), h=(3000, 2000), x=(64, 3000))
    nodes = [node("Conv", ["image", "w"], ["c"], strides=[2, 2], pads=[3] * 4), node("GlobalMaxPool", ["c"], ["g"]),
             node("Flatten", ["g"], ["f"]), node("MatMul", ["f", "x"], ["y"]), node("Cast", ["half"], ["whole"], to=1),
             node("MatMul", ["y", "whole"], ["features"])]
    weights["half"] = weights.pop("h").astype(np.float16)
    path = write(tmp_path / "m.onnx", nodes, weights, (8, 3, 224, 224), (8, 2000))
    assert Extractor(path)(IMAGES)["features"].shape == (5, 2000)


def test_shipped_files_give_the_same_as_onnxruntime_alone():
    import onnxruntime
    feeds = {"image": IMAGES}
    expected = onnxruntime.InferenceSession(CLASSIFIER).run(None, feeds)
    for found, wanted in zip(open_session(CLASSIFIER, "classifier")[0].run(None, feeds), expected):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert sample_all(open_generator(GENERATOR), 20, seed=1)[0].shape == (20, 28, 28)


def test_a_trial_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    from utils import onnx_session
    monkeypatch.setattr(onnx_session, "SECONDS", -1.0)
    names = [f"m{i}" for i in range(300)]
    nodes = [node("Flatten", ["image"], ["m"]), *(node("MatMul", [a, "w"], [b]) for a, b in zip(["m", *names], names)),
             node("Identity", [names[-1]], ["features"])]
    session = Session(write(tmp_path / "m.onnx", nodes, {"w": np.eye(784, dtype=np.float32)}))
    with pytest.raises(UserError, match="m.onnx does not run .* take it more than"):
        session.run(None, {"image": np.repeat(IMAGES, 1, 0).astype(np.float32)})


def test_an_operator_without_an_end_is_left_alone(tmp_path):
    """A convolution of 10 ** 13 products within the limit of memory: nothing can interrupt it, so the process ends."""
    nodes, weights = added(node("ConstantOfShape", ["n"], ["c"]), node("ConstantOfShape", ["k"], ["w"]),
                           node("Conv", ["c", "w"], ["grown"]), n=ints(1, 1, 4500, 4500), k=ints(1, 1, 2000, 2000))
    write(tmp_path / "m.onnx", nodes, weights)
    code = ("import sys; from utils import cli, onnx_session; import numpy as np; onnx_session.SECONDS = -0.5\n"
            "feeds = {'image': np.zeros((2, 28, 28), np.float32)}\n"
            "cli.run_command(lambda: onnx_session.Session(sys.argv[1]).run(None, feeds))")
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "m.onnx"], cwd=ROOT, capture_output=True, text=True,
                          check=False)
    assert_one_line_error(done, "m.onnx does not run", "take it more than 0.5 s")


@pytest.mark.parametrize("shape", [(0, 28, 28), (10 ** 9, 28, 28), ("n", 0, 28), ("n", 28, 10 ** 6),
                                   ("n", 3, 10 ** 6, 10 ** 6)])
def test_images_of_a_size_that_cannot_be_made(tmp_path, shape):
    path = write(tmp_path / "m.onnx", [node("Flatten", ["image"], ["features"])], shape=shape)
    with pytest.raises(UserError, match="m.onnx"):
        Extractor(path)(IMAGES)
