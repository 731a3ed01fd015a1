"""The command fid.py, its feature extractor and its conditional metrics, on made-up images (no data set)."""
import json
import subprocess
import sys

import numpy as np
import pytest

import fid
from metrics import features, frechet_distance
from metrics.conditional import conditional_metrics
from metrics.features import DEFAULT_MODEL, Extractor
from metrics.frechet_distance import load_moments
from utils.files import UserError


def blobs(n, seed, shift=0):
    """Glyph-like images: one bright rectangle each, of random place and size; labels = its height class."""
    rng = np.random.default_rng(seed)
    images = np.zeros((n, 28, 28), np.uint8)
    labels = rng.integers(0, 3, n)
    for image, k in zip(images, labels):
        x, y, w = rng.integers(2, 12, 3)
        image[y:y + 5 + 3 * k, x + shift:x + shift + w] = rng.integers(130, 256)
    return images, labels.astype(np.int64)


def write_set(path, n, seed, **more):
    images, labels = blobs(n, seed)
    np.savez(path, images=images, labels=labels, thickness=np.linspace(0, 1, n, dtype=np.float32),
             classes=np.array(["a", "b", "c"]), **more)
    return str(path)


def run(capsys, *argv):
    """The command in process: what it printed."""
    fid.main([str(a) for a in argv])
    return capsys.readouterr()


def make_model(path, kind="float", channels=3, size=20, batch="batch"):
    """image [batch, C, size, size] -> "features" [batch, 4], the mean of pooled maps, and "probabilities"."""
    from onnx import TensorProto, helper, numpy_helper
    weights = np.random.default_rng(0).standard_normal((4, channels, 4, 4)).astype(np.float32)
    nodes = [helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
             helper.make_node("Conv", ["x", "w"], ["maps"], strides=[2, 2]),
             helper.make_node("MaxPool", ["maps"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
             helper.make_node("GlobalAveragePool", ["pooled"], ["last"]),
             helper.make_node("Flatten", ["last"], ["features"]),
             helper.make_node("Softmax", ["features"], ["probabilities"], axis=1)]
    element = {"float": TensorProto.FLOAT, "uint8": TensorProto.UINT8}[kind]
    graph = helper.make_graph(
        nodes, "test", [helper.make_tensor_value_info("image", element, [batch, channels, size, size])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [batch, 4]) for n in ("features", "probabilities")],
        [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def test_extractor_reads_size_channels_and_range_from_the_model(tmp_path):
    images, _ = blobs(11, 0)
    extract = Extractor(make_model(tmp_path / "m.onnx"), depths=True)
    assert extract.size == (20, 20) and extract.channels == 3 and len(extract.sha256) == 12
    prepared = extract._prepare(images)
    assert prepared.shape == (11, 3, 20, 20) and prepared.min() >= 0 and 0.4 < prepared.max() <= 1
    result = extract(images)
    assert result["features"].shape == result["depth 1"].shape == (11, 4)
    np.testing.assert_allclose(result["depth 1"], result["features"], rtol=1e-5)    # here the features ARE that average
    signed = Extractor(tmp_path / "m.onnx", output="maps", input_range="-1-1")
    assert signed._prepare(images).min() == -1 and signed(images)["features"].shape == (11, 4)
    fixed = Extractor(make_model(tmp_path / "f.onnx", "uint8", 1, 28, batch=4))  # a fixed batch size serves, too
    one = Extractor(make_model(tmp_path / "b.onnx", "uint8", 1, 28))
    np.testing.assert_allclose(fixed(images)["features"], one(images)["features"], rtol=1e-5)
    with pytest.raises(UserError, match="no output 'nothing'"):
        Extractor(tmp_path / "m.onnx", output="nothing")
    with pytest.raises(UserError, match="--input-size"):
        Extractor(make_model(tmp_path / "any.onnx", size="side"))
    with pytest.raises(UserError, match="not an ONNX"):
        (tmp_path / "bad.onnx").write_bytes(b"bad")
        Extractor(tmp_path / "bad.onnx")


def test_command_and_statistics_files(tmp_path, capsys):
    real, fake = write_set(tmp_path / "real.npz", 160, 0), write_set(tmp_path / "fake.npz", 120, 1)
    model = make_model(tmp_path / "m.onnx")
    printed = run(capsys, real, fake, "--features", model, "--json", "--metrics", "fid,kid,prdc,depths,conditional")
    result = json.loads(printed.out)
    assert result["fid"]["name"] == "fid4@160:120" and result["d"] == 4 and len(result["features"]["sha256"]) == 12
    assert result["fid"]["interval"][0] <= result["fid"]["value"] <= result["fid"]["interval"][1]
    assert "160 real and 120 fake images are few" in printed.err and result["floor"]["fid"]["name"] == "fid4@80"
    assert {"intra_fid", "joint_fid", "label_accuracy", "style_accuracy", "spearman"} <= set(result)

    table = run(capsys, real, fake, "--features", model, "--save-stats", tmp_path / "s.npz").out
    assert "FID" in table and "coverage" in table and "floor" in table
    again = json.loads(run(capsys, tmp_path / "s.npz", fake, "--features", model, "--json").out)
    assert again["fid"]["value"] == pytest.approx(result["fid"]["value"], rel=1e-9) and "kid" not in again
    with pytest.raises(UserError, match="different extractors"):
        run(capsys, tmp_path / "s.npz", fake, "--features", model, "--output", "last")
    with pytest.raises(UserError, match="nothing to save"):
        run(capsys, tmp_path / "s.npz", "--save-stats", tmp_path / "t.npz")
    with pytest.raises(UserError, match="only --metrics fid"):
        run(capsys, tmp_path / "s.npz", fake, "--features", model, "--metrics", "kid")

    np.savez(tmp_path / "other.npz", mu=np.zeros(4), sigma=np.eye(4))      # as pytorch-fid writes them
    np.savez(tmp_path / "another.npz", mu=np.ones(4), sigma=np.eye(4))
    assert json.loads(run(capsys, tmp_path / "other.npz", tmp_path / "another.npz", "--json").out)["fid"]["value"] == \
        pytest.approx(4)
    printed = run(capsys, real, fake, "--features", model, "--metrics", "fid", "--json", "--floor",
                  tmp_path / "other.npz")
    assert json.loads(printed.out)["floor"]["fid"]["name"] == "fid4@160:?"   # statistics serve as the floor, too
    np.savez(tmp_path / "broken.npz", mu=np.zeros(4), sigma=np.eye(3))
    with pytest.raises(UserError, match="do not fit"):
        run(capsys, tmp_path / "broken.npz", tmp_path / "other.npz")


def test_copies_and_their_picture(tmp_path, capsys):
    real, train = write_set(tmp_path / "real.npz", 200, 0), write_set(tmp_path / "train.npz", 300, 5)
    printed = run(capsys, real, train, "--features", "pixels", "--metrics", "fid,copies", "--train", train, "--json",
               "--pairs", tmp_path / "pairs.png", "--bootstrap", 0, "--floor", "none")
    result = json.loads(printed.out)
    assert result["copies"]["exact_copies"] == 1 and result["copies"]["near_copies"] > 0.9 and "floor" not in result
    assert (tmp_path / "pairs.png").stat().st_size > 500
    run(capsys, train, "--features", "pixels", "--save-stats", tmp_path / "stats.npz")
    with pytest.raises(UserError, match="stats.npz holds statistics: copies needs"):
        run(capsys, real, train, "--features", "pixels", "--metrics", "copies", "--train", tmp_path / "stats.npz")


@pytest.mark.parametrize("n, has_floor", [(11, False), (12, True)])
def test_a_floor_of_halves_takes_as_many_images_as_its_metrics(tmp_path, capsys, n, has_floor):
    real, fake = write_set(tmp_path / "real.npz", n, 0), write_set(tmp_path / "fake.npz", 30, 1)
    result = json.loads(run(capsys, real, fake, "--features", "pixels", "--json", "--bootstrap", 0).out)
    assert "coverage" in result and ("floor" in result) == has_floor


def test_conditional_numbers_classes_by_name():
    """A fake set with some of the classes, in another order, is matched by the names."""
    images, labels = blobs(90, 3)
    images, extractor = images[:, ::2, ::2], Extractor("pixels")           # 196 features: fast
    real = extractor.measure(images, labels, None, ["a", "b", "c"])
    other = np.array([9, 1, 0])[labels]                                    # b -> 1, c -> 0
    keep = labels > 0
    fake = extractor.measure(images[keep], other[keep], None, ["c", "b"])
    result = conditional_metrics(real, fake, extractor)
    assert result["intra_fid"]["mean"] == pytest.approx(0, abs=1e-8) and result["intra_fid"]["classes_left_out"] == 1
    with pytest.raises(UserError, match="classes z"):
        conditional_metrics(real, fake._replace(classes=["z", "b"]), extractor)
    with pytest.raises(UserError, match="no labels"):
        conditional_metrics(real, fake._replace(labels=None), extractor)


def test_joint_distance_sees_wrong_labels():
    images, labels = blobs(300, 4)
    real = Extractor("pixels").measure(images[:, ::2, ::2], labels)
    wrong = real._replace(labels=(labels + 1) % 3)
    assert conditional_metrics(real, real)["joint_fid"] == pytest.approx(0, abs=1e-6)
    assert conditional_metrics(real, wrong)["joint_fid"] > 0.5


def test_classes_without_an_image_change_nothing_and_cost_nothing():
    """A label of 4,999 in a table of files makes 5,000 classes, of which a few have images."""
    images, labels = blobs(60, 4)
    extractor = Extractor("pixels")
    few = extractor.measure(images[:, ::4, ::4], labels, None, ["a", "b", "c"])
    many = few._replace(labels=labels * 2499, classes=[str(i) for i in range(4999)])
    results = [conditional_metrics(x, x._replace(labels=np.roll(x.labels, 1))) for x in (few, many)]
    assert results[0]["joint_fid"] == results[1]["joint_fid"] > 0
    assert results[1]["intra_fid"]["classes_left_out"] == 4996


@pytest.mark.parametrize("change, said", [
    ({"sigma": -np.eye(4)}, "positive semi-definite"), ({"sigma": np.diag([1, 1, 1, -0.01])}, "positive semi-definite"),
    ({"sigma": np.ones((4, 4)) - np.eye(4)}, "positive semi-definite"),
    ({"sigma": np.triu(np.ones((4, 4)))}, "not symmetric"),
    ({"mu": np.full(4, np.nan)}, "NaN"), ({"sigma": np.full((4, 4), np.inf)}, "NaN, infinity"),
    ({"mu": np.full(4, 1e300)}, "NaN, inf"),
    ({"mu": np.zeros(4, int)}, "mu is int64"), ({"mu": np.zeros(4, complex)}, "mu is complex128"),
    ({"mu": np.zeros(3)}, "do not fit"),
    ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, "sigma is float64"), ({"n": 0}, "do not fit"),
    ({"n": 99.0}, "n is float64"),
    ({"n": np.arange(3)}, "n is int64"), ({"n": "many"}, "n is <U4"), ({"extractor": 7}, "extractor is int64"),
    ({"extractor": np.array(None)}, "Python objects"), ({"extractor": "a" * 5000}, "texts"),
    ({"extractor": "\ud800"}, "cannot read"),
    ({"mu": np.zeros(5), "sigma": np.zeros((5, 5), np.float16)}, "d up to 4,")])
def test_statistics_that_are_none_are_refused(tmp_path, monkeypatch, change, said):
    monkeypatch.setattr(frechet_distance, "MAX_FEATURES", 4)
    sound = {"mu": np.zeros(4), "sigma": np.diag([1, 1, 0, 1e-9]).astype(np.float32), "n": 9, "extractor": "a:b"}
    np.savez(tmp_path / "s.npz", **sound)
    assert load_moments(tmp_path / "s.npz").n == 9
    np.savez(tmp_path / "s.npz", **sound | change)
    with pytest.raises(UserError, match=said) as error:
        load_moments(tmp_path / "s.npz")
    assert "s.npz" in str(error.value) and "\n" not in str(error.value)


def test_of_a_classifiers_probabilities_the_answer_is_kept(tmp_path, monkeypatch):
    """However many classes it knows."""
    extractor, images = Extractor(make_model(tmp_path / "m.onnx")), blobs(40, 0)[0]
    monkeypatch.setattr(features, "MAX_FEATURES", 4)
    measured = extractor.measure(images)
    assert (measured.answers == measured.features.argmax(1)).all() and measured.answers.dtype == np.int64
    assert (measured.take(np.arange(5)).answers == measured.answers[:5]).all()


def test_limits_of_an_extractor(tmp_path, monkeypatch):
    model = make_model(tmp_path / "m.onnx")
    with pytest.raises(UserError, match="20 x 20 alone: leave --input-size out"):
        Extractor(model, input_size=30)
    with pytest.raises(UserError, match="up to 1024 x 1024 pixels"):
        Extractor(make_model(tmp_path / "big.onnx", size=3000))
    with pytest.raises(UserError, match="1,024 at a time"):
        Extractor(make_model(tmp_path / "batch.onnx", batch=5000))
    monkeypatch.setattr(features, "MAX_FEATURES", 3)
    with pytest.raises(UserError, match="gives 4 values for an image as features, more than the limit of 3"):
        Extractor(model)(blobs(4, 0)[0])
    monkeypatch.undo()
    monkeypatch.setattr(features, "LARGEST", 1e-9)
    with pytest.raises(UserError, match="values beyond 1e-09 as features"):
        Extractor(model)(blobs(4, 0)[0])


@pytest.mark.parametrize("option, words", [
    (["--bootstrap", "9", "--metrics", "kid"], "about fid"), (["--infinity", "--metrics", "prdc"], "about fid"),
    (["--train", "x"], "for copies"), (["--features", "pixels", "--output", "x"], "about a model"),
    (["--pairs", ""], "--pairs"), (["--save-stats", ""], "--save-stats"), (["--output", ""], "--output"),
    (["--seed", "-1"], "--seed"), (["--bootstrap", "-1"], "--bootstrap"), (["--bootstrap", "1"], "at least 2"),
    (["--metrics", ""], "--metrics: '' is none of fid"), (["--metrics", "fid,fad"], "'fad' is none of fid"),
    (["--floor", ""], "--floor"), (["--input-size", "0"], "--input-size"), (["--input-range", "0-2"], "--input-range")])
def test_bad_options_are_one_line_errors(option, words):
    with pytest.raises(UserError, match=words) as error:
        fid.main(["real.npz", "fake.npz", *option])
    assert "\n" not in str(error.value)


def test_missing_arguments():
    with pytest.raises(UserError, match="FAKE is missing"):
        fid.main(["real.npz"])
    with pytest.raises(UserError, match="is empty"):
        fid.main(["", "fake.npz"])
    with pytest.raises(UserError, match="no images at 'nothing.npz'"):
        fid.main(["nothing.npz", "fake.npz", "--features", "pixels"])


def test_the_command_imports_no_torch(tmp_path):
    """As a user types it; neither torch nor, for pixels, onnxruntime is imported."""
    real, fake = write_set(tmp_path / "real.npz", 30, 0), write_set(tmp_path / "fake.npz", 30, 1)
    code = ("import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__'); "
            "sys.exit('torch' in sys.modules or 'onnxruntime' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code, "fid.py", real, fake, "--features", "pixels", "--bootstrap", "0",
                           "--metrics", "fid"], cwd=DEFAULT_MODEL.parents[1], check=False,
                          capture_output=True, text=True)
    assert done.returncode == 0 and "FID" in done.stdout, done.stderr
