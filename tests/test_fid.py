"""fid.py, features.py, metrics.py: closed forms, laws, conventions, and the command on made-up images (no data set)."""
import json
import sys

import numpy as np
import pytest

import fid
from metrics import distances as m
from metrics.features import DEFAULT_MODEL, Extractor
from utils.files import UserError


def random_cov(rng, d, rank=None):
    a = rng.standard_normal((d, rank or 2 * d))
    return a @ a.T / a.shape[1]


def blobs(n, seed, shift=0):
    """Glyph-like images: one bright rectangle each, of random place and size; labels = its height class."""
    rng = np.random.default_rng(seed)
    images = np.zeros((n, 28, 28), np.uint8)
    labels = rng.integers(0, 3, n)
    for image, k in zip(images, labels):
        x, y, w = rng.integers(2, 12, 3)
        image[y:y + 5 + 3 * k, x + shift:x + shift + w] = rng.integers(130, 256)
    return images, labels.astype(np.int64)


# ---- Frechet distance ------------------------------------------------------------------------------------------------

def test_equal_covariances_give_the_squared_distance_of_means():
    rng = np.random.default_rng(0)
    cov, shift = random_cov(rng, 20), rng.standard_normal(20)
    assert m.frechet(shift, cov, np.zeros(20), cov) == pytest.approx(shift @ shift, rel=1e-10)


@pytest.mark.parametrize("zeros", [0, 3])
def test_diagonal_covariances(zeros):
    rng = np.random.default_rng(1)
    a, b = rng.random((2, 12)) + 0.1
    a[:zeros] = 0
    value = m.frechet(np.zeros(12), np.diag(a ** 2), np.zeros(12), np.diag(b ** 2))
    assert value == pytest.approx(((a - b) ** 2).sum(), rel=1e-12)


def test_known_values():
    one = np.eye(1)
    assert m.frechet([0], one, [3], 4 * one) == pytest.approx(10)                       # 3^2 + (1 - 2)^2
    assert m.frechet([0, 0], [[2, 1], [1, 2]], [1, 0], np.eye(2)) == pytest.approx(1 + 6 - 2 * (3 ** 0.5 + 1))
    assert m.spearman([1, 2, 3, 4], [1, 4, 9, 16]) == pytest.approx(1)
    assert m.spearman([1, 2, 2, 3], [3, 2, 2, 1]) == pytest.approx(-1)
    assert m.spearman([1, 2, 3], [5, 5, 5]) == 0
    assert m.ranks([10, 30, 10, 20]).tolist() == [1.5, 4, 1.5, 3]


@pytest.mark.parametrize("rank", [None, 7])
def test_self_is_zero_and_symmetric(rank):
    rng = np.random.default_rng(2)
    a, b, mean = random_cov(rng, 200, rank), random_cov(rng, 200), rng.standard_normal(200)
    assert m.frechet(mean, a, mean, a) == pytest.approx(0, abs=1e-9)
    # to 1e-12, whichever of the two is singular: roots of rounding errors would leave 1e-9
    assert m.frechet(mean, a, 0 * mean, b) == pytest.approx(m.frechet(0 * mean, b, mean, a), rel=1e-12)


def test_scale_and_rotation():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((200, 16)), rng.standard_normal((300, 16)) @ rng.standard_normal((16, 16)) + 1
    rotation = np.linalg.qr(rng.standard_normal((16, 16)))[0]
    assert m.fid(3 * x, 3 * y) == pytest.approx(9 * m.fid(x, y), rel=1e-9)
    assert m.fid(x @ rotation + 5, y @ rotation + 5) == pytest.approx(m.fid(x, y), rel=1e-9)


def test_fewer_images_than_features():
    """In the space that the images span, the covariances have full rank: the same value must come out in both."""
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((20, 6)), 2 * rng.standard_normal((30, 6))
    basis = np.linalg.qr(rng.standard_normal((500, 6)))[0]
    assert m.fid(x @ basis.T, y @ basis.T) == pytest.approx(m.fid(x, y), rel=1e-9)
    z = rng.standard_normal((10, 300))
    assert m.fid(z, z) == pytest.approx(0, abs=1e-9)
    constant = np.zeros((10, 5))
    assert m.fid(constant, constant) == 0 and m.fid(constant, constant + 1) == pytest.approx(5)


def test_batch_size_does_not_matter():
    rng = np.random.default_rng(5)
    x = (rng.standard_normal((203, 9)) + 1e4).astype(np.float32)           # far from zero: cancellation would show
    exact = x.astype(np.float64)
    for batch in (1, 7, 203):
        stats = m.statistics(x, batch)
        np.testing.assert_allclose(stats.mean, exact.mean(0), rtol=1e-13)
        np.testing.assert_allclose(stats.cov, np.cov(exact.T), rtol=1e-9, atol=1e-12)


def test_bad_numbers_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        m.Statistics().add([[np.nan, 1]])
    with pytest.raises(ValueError, match="do not fit"):
        m.frechet(np.zeros(3), np.eye(3), np.zeros(4), np.eye(4))
    with pytest.raises(ValueError, match="NaN"):
        m.frechet(np.zeros(2), np.eye(2), np.zeros(2), np.diag([1, np.nan]))


# ---- bias and uncertainty --------------------------------------------------------------------------------------------

def test_bias_is_what_equal_distributions_score():
    rng = np.random.default_rng(6)
    scale = np.linspace(0.2, 2, 24)
    scores = [m.fid(rng.standard_normal((400, 24)) * scale, rng.standard_normal((900, 24)) * scale) for _ in range(20)]
    assert m.fid_bias(np.diag(scale ** 2), 400, 900) == pytest.approx(np.mean(scores), rel=0.05)
    assert m.fid_bias(np.eye(8), 100, 100) == pytest.approx(8 * 13 / 4 / 50)


def test_bootstrap_matches_the_spread_of_independent_samples():
    rng = np.random.default_rng(7)
    draw = lambda: (rng.standard_normal((500, 8)), 2 * rng.standard_normal((500, 8)) + 1)
    spread = np.std([m.fid(*draw()) for _ in range(150)])
    assert m.bootstrap_fid(*draw(), repeats=80) == pytest.approx(spread, rel=0.3)


def test_infinity_removes_the_bias():
    rng = np.random.default_rng(8)
    x, y = rng.standard_normal((2000, 24)), rng.standard_normal((2000, 24))
    value, error = m.fid_infinity(x, y)
    assert abs(value) < m.fid(x, y) / 3 and 0 < error < 0.1
    with pytest.raises(ValueError, match="3 d = 72"):
        m.fid_infinity(x[:70], y)


# ---- KID -------------------------------------------------------------------------------------------------------------

def test_kid_is_unbiased():
    rng = np.random.default_rng(9)
    found = [m.kid(rng.standard_normal((400, 8)), rng.standard_normal((500, 8)), 20, 100, seed) for seed in range(30)]
    values, errors = np.array(found).T
    assert abs(values.mean()) < 3 * values.std() / 30 ** 0.5
    assert (np.abs(values) < 2 * errors).mean() > 0.9
    shifted, error = m.kid(rng.standard_normal((400, 8)), rng.standard_normal((500, 8)) + 1)
    assert shifted > 5 * error


def test_kid_known_value():
    x, y = np.array([[0.0], [0], [0], [0]]), np.array([[1.0], [1], [1], [1]])
    assert m.kid(x, y, subsets=3)[0] == pytest.approx(1 + 8 - 2)           # k(0,0) = 1, k(1,1) = 2^3, k(0,1) = 1


# ---- neighbours ------------------------------------------------------------------------------------------------------

def brute_force(real, fake, k=3, k_density=5):
    """The definitions, by full distance matrices in float64."""
    distance = lambda a, b: np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    radius = lambda a, k: np.sort(distance(a, a), axis=1)[:, k]            # column 0 is the image itself
    d = distance(real, fake)
    inside = d <= radius(real, k_density)[:, None]
    return {"precision": (d <= radius(real, k)[:, None]).any(0).mean(),
            "recall": (d <= radius(fake, k)[None]).any(1).mean(),
            "density": inside.sum() / (k_density * len(fake)), "coverage": inside.any(1).mean()}


@pytest.mark.parametrize("block", [1 << 24, 500])
def test_precision_recall_density_coverage_by_definition(block, monkeypatch):
    monkeypatch.setattr(m, "BLOCK", block)                                 # one block, and many
    rng = np.random.default_rng(10)
    real, fake = rng.standard_normal((150, 4)) + 100, rng.standard_normal((110, 4)) * 0.8 + 100.3
    assert m.precision_recall(real, fake) == pytest.approx(brute_force(real, fake), abs=1e-12)


def test_a_tight_cluster_is_precise_and_misses_the_rest():
    rng = np.random.default_rng(11)
    wide, tight = rng.standard_normal((400, 8)), 0.1 * rng.standard_normal((400, 8))
    found, swapped = m.precision_recall(wide, tight), m.precision_recall(tight, wide)
    assert found["precision"] > 0.9 and found["recall"] < 0.1 and found["coverage"] < 0.3
    assert swapped["precision"] == found["recall"] and swapped["recall"] == found["precision"]


def test_equal_sets_and_duplicates():
    rng = np.random.default_rng(12)
    x = rng.standard_normal((300, 6))
    same = m.precision_recall(x, x)
    assert same["precision"] == same["recall"] == same["coverage"] == 1
    twice = np.repeat(x[:40], 10, axis=0)                                  # radius 0: a copy still lies in its ball
    assert m.precision_recall(twice, twice[::3])["precision"] == 1


def test_nearest_is_exact():
    rng = np.random.default_rng(13)
    x, y = rng.standard_normal((50, 5)) + 1000, rng.standard_normal((80, 5)) + 1000
    y[7] = x[3]
    index, distance = m.nearest(x, y)
    full = np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))
    assert index[3] == 7 and distance[3] == 0
    np.testing.assert_allclose(distance, full.min(1), rtol=1e-6)
    own = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))
    np.testing.assert_allclose(m.nearest(x)[1], np.sort(own, 1)[:, 1], rtol=1e-6)


def test_memorisation_tells_copies_from_fresh_samples():
    rng = np.random.default_rng(14)
    train, test, fresh = (rng.standard_normal((n, 6)) for n in (3000, 1000, 1000))
    honest = m.memorisation(fresh, train, test)
    assert honest["ratio"] == pytest.approx(1, abs=0.08)
    assert honest["near_copies"] < 0.04 and honest["exact_copies"] == 0
    copied = m.memorisation(np.concatenate([train[:200], train[200:500] + 0.01, fresh[:500]]), train, test)
    assert copied["near_copies"] > 0.45 and copied["exact_copies"] == 0.2 and copied["ratio"] < 0.97


# ---- images ----------------------------------------------------------------------------------------------------------

def write_set(path, n, seed, **more):
    images, labels = blobs(n, seed)
    np.savez(path, images=images, labels=labels, thickness=np.linspace(0, 1, n, dtype=np.float32),
             classes=np.array(["a", "b", "c"]), **more)
    return str(path)


def run(capsys, *argv):
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
    found = extract(images)
    assert found["features"].shape == found["depth 1"].shape == (11, 4)
    np.testing.assert_allclose(found["depth 1"], found["features"], rtol=1e-5)    # here the features ARE that average
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
    said = run(capsys, real, fake, "--features", model, "--json", "--metrics", "fid,kid,prdc,depths,conditional")
    found = json.loads(said.out)
    assert found["fid"]["name"] == "fid4@160:120" and found["d"] == 4 and len(found["features"]["sha256"]) == 12
    assert found["fid"]["interval"][0] <= found["fid"]["value"] <= found["fid"]["interval"][1]
    assert "160 real and 120 fake images are few" in said.err and found["floor"]["fid"]["name"] == "fid4@80"
    assert {"intra_fid", "joint_fid", "label_accuracy", "style_accuracy", "spearman"} <= set(found)

    table = run(capsys, real, fake, "--features", model, "--save-stats", tmp_path / "s.npz").out
    assert "FID" in table and "coverage" in table and "floor" in table
    again = json.loads(run(capsys, tmp_path / "s.npz", fake, "--features", model, "--json").out)
    assert again["fid"]["value"] == pytest.approx(found["fid"]["value"], rel=1e-9) and "kid" not in again
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
    said = run(capsys, real, fake, "--features", model, "--metrics", "fid", "--floor", tmp_path / "other.npz", "--json")
    assert json.loads(said.out)["floor"]["fid"]["name"] == "fid4@160:?"   # statistics serve as the floor, too
    np.savez(tmp_path / "broken.npz", mu=np.zeros(4), sigma=np.eye(3))
    with pytest.raises(UserError, match="do not fit"):
        run(capsys, tmp_path / "broken.npz", tmp_path / "other.npz")


def test_copies_and_their_picture(tmp_path, capsys):
    real, train = write_set(tmp_path / "real.npz", 200, 0), write_set(tmp_path / "train.npz", 300, 5)
    said = run(capsys, real, train, "--features", "pixels", "--metrics", "fid,copies", "--train", train, "--json",
               "--pairs", tmp_path / "pairs.png", "--bootstrap", 0, "--floor", "none")
    found = json.loads(said.out)
    assert found["copies"]["exact_copies"] == 1 and found["copies"]["near_copies"] > 0.9 and "floor" not in found
    assert (tmp_path / "pairs.png").stat().st_size > 500


def test_conditional_numbers_classes_by_name():
    """A fake set with some of the classes, in another order, is matched by the names."""
    images, labels = blobs(90, 3)
    extractor = Extractor("pixels")
    real = extractor.measure(images, labels, None, ["a", "b", "c"])
    other = np.array([9, 1, 0])[labels]                                    # b -> 1, c -> 0
    keep = labels > 0
    fake = extractor.measure(images[keep], other[keep], None, ["c", "b"])
    found = fid.conditional(real, fake, extractor)
    assert found["intra_fid"]["mean"] == pytest.approx(0, abs=1e-8) and found["intra_fid"]["classes_left_out"] == 1
    with pytest.raises(UserError, match="classes z"):
        fid.conditional(real, fake._replace(classes=["z", "b"]), extractor)
    with pytest.raises(UserError, match="no labels"):
        fid.conditional(real, fake._replace(labels=None), extractor)


def test_joint_distance_sees_wrong_labels():
    images, labels = blobs(300, 4)
    extractor = Extractor("pixels")
    real = extractor.measure(images, labels)
    wrong = real._replace(labels=(labels + 1) % 3)
    assert fid.conditional(real, real)["joint_fid"] == pytest.approx(0, abs=1e-6)
    assert fid.conditional(real, wrong)["joint_fid"] > 1


def test_no_torch_is_imported():
    import subprocess
    code = "import sys, fid; sys.exit('torch' in sys.modules or 'onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=DEFAULT_MODEL.parents[1]).returncode == 0
