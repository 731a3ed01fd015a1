"""How near are generated images to real ones? FID, KID, precision / recall, density / coverage, and more; no torch.

    python fid.py mnist:test digits.npz                    # features of saved_models/classifier.onnx
    python fid.py real_folder/ fake_folder/ --features pixels --metrics fid,kid --json
    python fid.py mnist:test digits.npz --metrics all --pairs closest.png
    python fid.py mnist:test --save-stats mnist.npz        # once; then: python fid.py mnist.npz digits.npz
    python fid.py real/ fake/ --features inception.onnx --output pool --input-range -1-1

REAL and FAKE: a folder of images, an .npz or .npy, an idx file, NAME:SPLIT as mnist:test, or statistics (an .npz with mu
and sigma, of other tools too: FID alone then). Pictures of other sizes are first brought to 28 x 28, as by data.py.

A figure is comparable only at the same features (their hash is printed), N and reference split; read it beside the floor,
which is the same metric between two sets of real images. In a script:

    extractor = Extractor("saved_models/classifier.onnx")
    real, fake = (extractor.measure(*data.read_images(p)) for p in ("mnist:test", "digits.npz"))
    print(quality(real, fake, extractor)["fid"])
"""
import argparse
import hashlib
import json
import re
import sys
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

import data
import files
import metrics as m
from files import UserError, atomic
from glyph_files import progress, read_npz

MIN_IMAGES = 2048                  # below this on either side, or below 2 d, a FID comes with a warning
METRICS = ("fid", "kid", "prdc", "depths", "conditional", "copies")
DEFAULT_METRICS = METRICS[:3]
DEFAULT_MODEL = Path(__file__).parent / "saved_models" / "classifier.onnx"
RANGES = {"0-1": (0, 1), "-1-1": (-1, 1), "0-255": (0, 255)}
ELEMENTS = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16,
            "tensor(double)": np.float64}
POOLS = ("MaxPool", "AveragePool")
PAIRS = 12                         # columns of the picture of closest pairs


# ---- features ----------------------------------------------------------------------------------------------------------

class Moments(NamedTuple):
    """What FID needs of a set. `extractor` is "hash:output" of the network whose features these are."""
    mean: np.ndarray                   # float64 [d]
    cov: np.ndarray                    # float64 [d, d]
    n: int | None = None               # images; None if unknown
    extractor: str | None = None       # None if unknown


class Measured(NamedTuple):
    """A set of images with its features. All but `moments` are None for a set known by its statistics alone."""
    moments: Moments
    features: np.ndarray = None        # float32 [N, d]
    depths: dict = {}                  # name -> float32 [N, channels], from shallow to deep
    probabilities: np.ndarray = None   # float32 [N, K], of an extractor that is a classifier
    images: np.ndarray = None          # uint8 [N, 28, 28]
    labels: np.ndarray = None          # int64 [N], true or asked
    thickness: np.ndarray = None       # float32 [N] in [0, 1], asked
    classes: list = None

    def take(self, index):
        """The subset of the images `index`."""
        def part(a):
            return None if a is None else a[index]
        found = moments(self.features[index], self.moments.extractor)
        return Measured(found, part(self.features), {k: v[index] for k, v in self.depths.items()},
                        part(self.probabilities), part(self.images), part(self.labels), part(self.thickness), self.classes)


def moments(features, extractor=None):
    """Moments of features [N, d]."""
    stats = m.statistics(features)
    return Moments(stats.mean, stats.cov, stats.n, extractor)


def distance(one, two):
    """FID of two Moments."""
    return m.frechet(one.mean, one.cov, two.mean, two.cov)


class Extractor:
    """Images uint8 [N, 28, 28] -> features, by one output of an ONNX model, or the "pixels" themselves in [0, 1].

    path: a model with one image input; its size, channels (1 or 3, first or last) and range are read from it: 0-255 for
    uint8 numbers, 0-1 for others. `input_range` ("0-1", "-1-1", "0-255") and `input_size` say otherwise. Grey is repeated
    over 3 channels; resizing is Pillow's bilinear filter on float values, antialiased. `output`: a name, of an inner tensor
    too (default: "features", or the only output); maps [N, C, h, w] are averaged over h and w. `depths` adds the averaged
    maps after every pooling. Raises UserError. `name`, `output` and `sha256` (12 digits) tell which features these are.
    """

    def __init__(self, path=DEFAULT_MODEL, output=None, input_range=None, input_size=None, depths=False):
        self.classes = None
        if str(path) == "pixels":
            self.name = self.output = self.sha256 = "pixels"
            self.session = None
            return
        from onnx_io import start_session
        self.session = start_session(path)
        self.name, raw = Path(path).name, Path(path).read_bytes()
        self.sha256 = hashlib.sha256(raw).hexdigest()[:12]
        outputs = [o.name for o in self.session.get_outputs()]
        self.output = output or ("features" if "features" in outputs else outputs[0])
        if not output and "features" not in outputs and len(outputs) > 1:
            raise UserError(f"{path} has the outputs {', '.join(outputs)}: choose one with --output")
        self.wanted = {"features": self.output} | {n: n for n in ("probabilities",) if n in outputs}
        if depths or self.output not in outputs:
            self._open_inside(path, raw, outputs, depths)
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in ELEMENTS or len(inputs[0].shape) not in (3, 4):
            found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise UserError(f"{path} wants {found or 'no input'}; expected one [batch, channels, height, width] of images")
        self.input, self.dtype, shape = inputs[0].name, ELEMENTS[inputs[0].type], inputs[0].shape
        self.channel_axis = None if len(shape) == 3 else 1 if shape[1] in (1, 3) else 3
        self.channels = 1 if self.channel_axis is None else shape[self.channel_axis]
        if self.channels not in (1, 3):
            raise UserError(f"{path} wants input of shape {shape}: its channels are neither 1 nor 3")
        size = [s for i, s in enumerate(shape) if i not in (0, self.channel_axis)]
        self.size = tuple(input_size or s if isinstance(s, str) or s is None else s for s in size)
        if not all(isinstance(s, int) for s in self.size):
            raise UserError(f"{path} takes images of any size: say which with --input-size, as --input-size 299")
        self.fixed = isinstance(shape[0], int)
        self.batch = shape[0] if self.fixed else 256 if max(self.size) <= 64 else 32
        self.low, self.high = RANGES[input_range or ("0-255" if self.dtype == np.uint8 else "0-1")]
        if self.dtype == np.uint8 and self.high != 255:
            raise UserError(f"{path} takes uint8 images: --input-range {input_range} does not fit")
        self.classes = self._classes()

    def _classes(self):
        """The classes that the model's metadata names, or None."""
        try:
            return [str(c) for c in json.loads(self.session.get_modelmeta().custom_metadata_map["classes"])]
        except (KeyError, TypeError, ValueError):
            return None

    def _open_inside(self, path, raw, outputs, depths):
        """Open the model again with more outputs: the inner tensor that is asked for, the averages after each pooling."""
        import onnx
        import onnxruntime as ort
        model = onnx.load_model_from_string(raw)
        tensors = [t for node in model.graph.node for t in node.output]
        if self.output not in outputs:
            if self.output not in tensors:
                raise UserError(f"{path} has no output {self.output!r}; it has {', '.join(outputs)}")
            model.graph.output.append(onnx.ValueInfoProto(name=self.output))
        pools = [node.output[0] for node in model.graph.node if node.op_type in POOLS] if depths else []
        for i, tensor in enumerate(pools, 1):
            model.graph.node.append(onnx.helper.make_node("GlobalAveragePool", [tensor], [f"fid_depth_{i}"]))
            model.graph.output.append(onnx.ValueInfoProto(name=f"fid_depth_{i}"))
            self.wanted[f"depth {i}"] = f"fid_depth_{i}"
        options = ort.SessionOptions()
        options.log_severity_level = 4
        self.session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def _prepare(self, images):
        """uint8 [B, 28, 28] -> what the model takes."""
        x = images
        if self.size != x.shape[1:]:
            size, bilinear = self.size[::-1], Image.Resampling.BILINEAR
            x = np.stack([np.asarray(Image.fromarray(i.astype(np.float32)).resize(size, bilinear)) for i in x])
        if self.dtype == np.uint8:
            x = np.rint(x).astype(np.uint8)
        else:
            x = (x * ((self.high - self.low) / 255) + self.low).astype(self.dtype)
        return x if self.channel_axis is None else np.repeat(np.expand_dims(x, self.channel_axis), self.channels,
                                                             self.channel_axis)

    def __call__(self, images):
        """images uint8 [N, 28, 28] -> float32 arrays by name: "features" [N, d], maybe "probabilities", "depth 1", ..."""
        if self.session is None:
            return {"features": images.reshape(len(images), -1).astype(np.float32) / 255}
        found, start = {}, time.monotonic()
        for i in range(0, len(images), self.batch):
            x = self._prepare(images[i:i + self.batch])
            n = len(x)
            if n < self.batch and self.fixed:
                x = np.concatenate([x, np.repeat(x[-1:], self.batch - n, axis=0)])
            try:
                outputs = self.session.run(list(self.wanted.values()), {self.input: x})
            except Exception as e:  # onnxruntime raises one type per cause; the model does not fit such images
                reason = (str(e).strip() or type(e).__name__).splitlines()[0][:200]
                raise UserError(f"{self.name} cannot process images ({reason})") from e
            for key, y in zip(self.wanted, outputs):
                if y.ndim < 2 or len(y) != len(x):
                    raise UserError(f"{self.name}: output {self.wanted[key]} has shape {list(y.shape)}, expected "
                                    f"[{len(x)}, d]: choose another with --output")
                y = y.mean((2, 3), dtype=np.float64) if y.ndim == 4 else y.reshape(len(y), -1)
                if key not in found:
                    found[key] = np.empty((len(images), y.shape[1]), np.float32)
                found[key][i:i + n] = y[:n]
            progress("features", min(i + self.batch, len(images)), len(images), start)
        if not np.isfinite(found["features"]).all():
            raise UserError(f"{self.name} gives NaN or infinity as {self.output}: choose another model or input range")
        return found

    def measure(self, images, labels=None, thickness=None, classes=None):
        """The Measured set of images uint8 [N, 28, 28] with what else is known of them (see data.read_images)."""
        if len(images) < 2:
            raise UserError(f"a set of {len(images)} image cannot be measured; at least two are needed")
        found = self(images)
        return Measured(moments(found["features"], f"{self.sha256}:{self.output}"), found["features"],
                        {k: v for k, v in found.items() if k.startswith("depth ")}, found.get("probabilities"), images,
                        labels, thickness, classes)


# ---- the comparison ----------------------------------------------------------------------------------------------------

def fid_name(d, n_real, n_fake):
    """fid128@10000, or fid128@60000:10000 (real : fake) where the numbers differ."""
    n_real, n_fake = ("?" if n is None else n for n in (n_real, n_fake))
    return f"fid{d}@{n_real}" if n_real == n_fake else f"fid{d}@{n_real}:{n_fake}"


def bias_of(real, fake):
    """fid_bias of two Moments with the real side's covariance, None where an N is unknown."""
    return m.fid_bias(real.cov, real.n, fake.n) if real.n and fake.n else None


def quality(real, fake, extractor=None, metrics=DEFAULT_METRICS, table=None, bootstrap=100, infinity=False, seed=0):
    """Compare two Measured sets: a dict of plain numbers, lists and strings, ready for JSON.

    metrics: of METRICS but "copies" (see `copies`). "conditional" needs labels on both sides; `table` is the ink table of
    the training split (data.ink_table), by default that of the real side. `bootstrap`: resamplings for the interval of FID,
    0 for none. `infinity` adds FID extrapolated to infinite N. Raises UserError where the sets do not go together.
    """
    d, (n_real, n_fake) = len(real.moments.mean), (real.moments.n, fake.moments.n)
    names = [x.moments.extractor for x in (real, fake) if x.moments.extractor]
    if len(fake.moments.mean) != d or len(set(names)) > 1:
        raise UserError(f"REAL has {d} features, FAKE {len(fake.moments.mean)}, of {' and '.join(names) or 'unknown'}: "
                        "they come from different extractors; measure both with the same --features and --output")
    complete = real.features is not None and fake.features is not None
    if not complete and (infinity or set(metrics) - {"fid"}):
        raise UserError("statistics files hold no images: only --metrics fid is possible, without --infinity")
    sha, _, output = (names or ["unknown:unknown"])[0].partition(":")
    out = {"features": {"model": extractor.name if extractor else "statistics", "output": output, "sha256": sha},
           "d": d, "n_real": n_real, "n_fake": n_fake, "warnings": []}
    if "fid" in metrics:
        value = distance(real.moments, fake.moments)
        bias = bias_of(real.moments, fake.moments)
        out["fid"] = {"name": fid_name(d, n_real, n_fake), "value": value, "bias": bias}
        few = [f"{n:,} {side}" for side, n in (("real", n_real), ("fake", n_fake)) if n and n < max(MIN_IMAGES, 2 * d)]
        if few:
            out["warnings"].append(f"{' and '.join(few)} images are few for {d} features: {out['fid']['name']}" + (
                f" is about {bias:.3g} too high, which two samples of one distribution would score"
                if bias is not None else " is too high, by how much cannot be said as an N is unknown"))
        if complete and bootstrap:
            half = 1.96 * m.bootstrap_fid(real.features, fake.features, bootstrap, seed)
            out["fid"]["interval"] = [max(value - half, 0.0), value + half]
        if infinity:
            try:
                out["fid_infinity"] = dict(zip(("value", "standard_error"),
                                               m.fid_infinity(real.features, fake.features, seed=seed)))
            except ValueError as e:
                raise UserError(f"{e}; leave out --infinity") from e
    if "kid" in metrics:
        value, error = checked(m.kid, real.features, fake.features, seed=seed)
        out["kid"] = {"value": value, "standard_error": error, "subsets": m.KID_SUBSETS,
                      "size": min(m.KID_SIZE, n_real // 2, n_fake // 2)}
    if "prdc" in metrics:
        out |= checked(m.precision_recall, real.features, fake.features)
    if "depths" in metrics:
        if real.depths.keys() != fake.depths.keys():
            raise UserError("the two sets were not measured at the same depths of the network")
        out["depths"] = {name: {"d": x.shape[1], "fid": m.fid(x, fake.depths[name])} for name, x in real.depths.items()}
    if "conditional" in metrics:
        out |= conditional(real, fake, extractor, table)
    return out


def checked(metric, *args, **options):
    """metric(...), with too few images as a UserError."""
    try:
        return metric(*args, **options)
    except ValueError as e:
        raise UserError(f"{e}: generate more, or leave this one out with --metrics") from e


def conditional(real, fake, extractor=None, table=None):
    """What shows whether a conditional model keeps to its conditions: a dict; both sets need labels.

        intra_fid       FID within each class: mean, worst. At few images per class mostly bias: `bias` is the mean of it
        joint_fid       Frechet joint distance of features and labels (DeVries et al. 2019)
        label_accuracy  share of fakes that the classifier reads as the label that was asked; if it knows these classes
        style_accuracy  share whose drawn thickness lies in the half (thin, thick) that was asked; needs thickness
        spearman        rank correlation of asked and drawn thickness within a class: mean, worst
    """
    if real.labels is None or fake.labels is None:
        raise UserError(f"{'REAL' if real.labels is None else 'FAKE'} has no labels: conditional metrics need them on both "
                        "sides (class sub-folders, a labels.csv, or labels in the .npz)")
    classes = real.classes or [str(i) for i in range(int(max(real.labels.max(), fake.labels.max())) + 1)]
    asked = fake.labels
    if fake.classes and fake.classes != classes:      # a folder with some of the classes numbers them differently
        unknown = sorted({fake.classes[k] for k in np.unique(asked)} - set(classes))
        if unknown:
            raise UserError(f"FAKE has the classes {', '.join(unknown[:5])}, which REAL has not")
        asked = np.array([classes.index(c) if c in classes else -1 for c in fake.classes])[asked]
    if min(asked.min(), real.labels.min()) < 0 or max(asked.max(), real.labels.max()) >= len(classes):
        raise UserError(f"labels do not lie in 0 .. {len(classes) - 1}, the classes of REAL")

    intra, biases, smallest = {}, [], np.inf
    for k, name in enumerate(classes):
        own = [x.features[y == k] for x, y in ((real, real.labels), (fake, asked))]
        if min(map(len, own)) >= 2:
            one, two = map(moments, own)
            intra[name] = distance(one, two)
            biases.append(bias_of(one, two))
            smallest = min(smallest, one.n, two.n)
    if not intra:
        raise UserError("no class has two images on both sides: conditional metrics need more images per class")
    worst = max(intra, key=intra.get)
    alpha = float(np.linalg.norm(real.features, axis=1).mean())
    joint = [m.joint_features(x.features, y, len(classes), alpha) for x, y in ((real, real.labels), (fake, asked))]
    out = {"intra_fid": {"mean": float(np.mean(list(intra.values()))), "worst": intra[worst], "worst_class": worst,
                         "bias": float(np.mean(biases)), "smallest_class": int(smallest), "classes_left_out":
                         len(classes) - len(intra)}, "joint_fid": m.fid(*joint)}

    if fake.probabilities is not None and extractor is not None and extractor.classes in (None, classes):
        out["label_accuracy"] = float((fake.probabilities.argmax(1) == asked).mean())
    if fake.thickness is not None and real.images is not None:
        table = data.ink_table(real.images, real.labels, len(classes)) if table is None else table
        drawn = data.thickness(fake.images, asked, table)
        out["style_accuracy"] = float((data.style(drawn) == data.style(fake.thickness)).mean())
        rho = {classes[k]: m.spearman(fake.thickness[asked == k], drawn[asked == k])
               for k in np.unique(asked) if (asked == k).sum() > 2}
        if rho:
            worst = min(rho, key=rho.get)
            out["spearman"] = {"mean": float(np.mean(list(rho.values()))), "worst": rho[worst], "worst_class": worst}
    return out


def copies(real, fake, train, picture=None, seed=0):
    """The memorisation check (metrics.memorisation) of Measured sets; `real` must be no training images: a dict.

    `picture`: a PNG of the fakes that lie nearest to a training image, with their nearest training and test images.
    """
    found = m.memorisation(fake.features, train.features, real.features, seed)
    if picture:
        import figures
        order = np.argsort(found["closeness"], kind="stable")[:PAIRS]
        rows = [fake.images[order], train.images[found["train_index"][order]], real.images[found["test_index"][order]]]
        footer = (f"Above: distance to the training image / to the test image, in feature space. Near-copies (below "
                  f"{found['threshold']:.3g}, as 1 % of the test images are): {found['near_copies']:.2%} of "
                  f"{len(fake.features):,}. Training images: {len(train.features):,}.")
        figures.save(figures.grid([list(r) for r in rows], ["generated", "nearest training image", "nearest test image"],
                                  [f"{v:.2f}" for v in found["closeness"][order]], "Closest to the training set", footer),
                     picture)
    return {k: v for k, v in found.items() if not isinstance(v, np.ndarray)} | {"n_train": len(train.features)}


# ---- statistics files --------------------------------------------------------------------------------------------------

def read_stats(path):
    """Moments of an .npz with mu and sigma (and n and extractor, of --save-stats); None if `path` is no such file."""
    path = Path(path).expanduser()
    if path.suffix.lower() != ".npz" or not zipfile.is_zipfile(path):
        return None
    stats = read_npz(path, ["mu", "sigma", "n", "extractor"])
    if not {"mu", "sigma"} <= set(stats):
        return None
    mu, sigma = (np.asarray(stats[k]) for k in ("mu", "sigma"))
    if mu.dtype.kind != "f" or sigma.dtype.kind != "f" or mu.ndim != 1 or sigma.shape != (len(mu),) * 2 or not len(mu):
        raise UserError(f"{path}: mu {mu.dtype} {list(mu.shape)} and sigma {sigma.dtype} {list(sigma.shape)} do not fit; "
                        "expected [d] and [d, d]")
    mu, sigma = mu.astype(np.float64), sigma.astype(np.float64)
    if not np.isfinite(mu).all() or not np.isfinite(sigma).all() or not np.allclose(sigma, sigma.T, rtol=1e-4,
                                                                                  atol=1e-6 * np.abs(sigma).max()):
        raise UserError(f"{path}: mu and sigma must be finite and sigma symmetric; the file is damaged")
    n, extractor = (stats[k].item() if k in stats and stats[k].shape == () else None for k in ("n", "extractor"))
    if n is not None and (not isinstance(n, int) or n < 2):
        raise UserError(f"{path}: the number of images n is {n!r}; the file is damaged")
    return Moments(mu, (sigma + sigma.T) / 2, n, extractor)


def save_stats(path, found):
    """Write Moments as an .npz: mu and sigma (the names that other tools use), n, extractor."""
    with atomic(path) as tmp, open(tmp, "wb") as f:
        np.savez(f, mu=found.mean, sigma=found.cov, n=found.n, extractor=found.extractor)


# ---- the command -------------------------------------------------------------------------------------------------------

def parse_args(argv=None):
    parser = argparse.ArgumentParser(description="FID and more between two sets of images: REAL first, then FAKE.",
                                     epilog="REAL, FAKE: folder, .npz, .npy, idx file, mnist:test, or statistics (.npz)")
    add = parser.add_argument
    add("real", metavar="REAL")
    add("fake", metavar="FAKE", nargs="?", help="may be left out with --save-stats")
    add("--features", default=str(DEFAULT_MODEL), help="an ONNX model, or pixels (default: saved_models/classifier.onnx)")
    add("--output", help="output of the model (default: features, or the only one)")
    add("--input-range", choices=RANGES, help="what the model takes (default: 0-255 for uint8 models, else 0-1)")
    add("--input-size", type=int, help="height and width for a model that takes any")
    add("--metrics", help=f"comma-separated, of {','.join(METRICS)}, or all (default: {','.join(DEFAULT_METRICS)}). "
        "depths: FID at every pooling of the model; rankings can flip with depth. conditional: needs labels. copies: memorisation")
    add("--floor", default="auto", help="a second real set, the floor of every metric; none; auto: training images of "
        "NAME:test, else two halves of REAL")
    add("--train", help="training images for copies (default: NAME:train for NAME:test)")
    add("--pairs", metavar="PNG", help="picture of the fakes closest to training images (implies copies)")
    add("--bootstrap", type=int, help="resamplings for the interval of FID, 0: none (default: 100 up to 512 features, 0 "
        "above, where each takes seconds)")
    add("--infinity", action="store_true", help="FID extrapolated to infinitely many images, too")
    add("--save-stats", metavar="NPZ", help="write the statistics of REAL")
    add("--data-dir", help="where named data sets lie (default: $GLYPHS_DATA, else data/)")
    add("--seed", type=int, default=0, help="of subsets and resampling")
    add("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args(argv)
    if not args.fake and not args.save_stats:
        parser.error("FAKE is missing (it may be left out only with --save-stats)")
    return args


def sibling(text, split):
    """NAME:split for text NAME:SPLIT, None for a path."""
    name = re.fullmatch(r"(.+):(train|val|test)", text)
    return f"{name[1]}:{split}" if name and not Path(text).exists() else None


def ink_table_of(text, data_dir):
    """The ink table of the training split of NAME:SPLIT, None for a path."""
    if not sibling(text, "train"):
        return None
    glyphs = data.load(text.rpartition(":")[0], data_dir)
    return data.ink_table(glyphs.x_train, glyphs.y_train, len(glyphs.classes))


def floor_sets(args, real, n_fake, measure):
    """((real set, another real set), their names) for the floor, or None: another split of a named data set or the set of
    --floor, as many images as there are fakes; else the halves of REAL."""
    rng = np.random.default_rng(args.seed)
    other = args.floor if args.floor != "auto" else sibling(args.real, "test" if args.real.endswith(":train") else "train")
    if other == "none":
        return None
    if other:
        return (real, measure(other, lambda n: rng.permutation(n)[:n_fake or n])), (args.real, other)
    if real.features is None or len(real.features) < 8:
        return None
    halves = np.array_split(rng.permutation(len(real.features)), 2)
    return tuple(real.take(h) for h in halves), (args.real + ", one half", "the other half")


def compare(args):
    """The result of the command as a dict (None where statistics alone were to be saved)."""
    names = METRICS if args.metrics == "all" else args.metrics.split(",") if args.metrics else DEFAULT_METRICS
    wrong = [n for n in names if n not in METRICS]
    if wrong:
        raise UserError(f"no metric {wrong[0]!r}: choose of {', '.join(METRICS)}, or all")
    names = {*names, "copies"} if args.pairs else set(names)
    stats = {p: read_stats(p) for p in (args.real, args.fake) if p}
    extractor = None
    if None in stats.values():
        if args.features == str(DEFAULT_MODEL) and not DEFAULT_MODEL.is_file():
            raise UserError(f"no feature extractor at {DEFAULT_MODEL}: train one with train.py --model classifier, name "
                            "another ONNX model with --features, or take --features pixels")
        extractor = Extractor(args.features, args.output, args.input_range, args.input_size, "depths" in names)

    def measure(text, choose=lambda n: slice(None)):
        found = stats.get(text) or read_stats(text)
        if found or extractor is None:
            return Measured(found) if found else None
        images, labels, thickness, classes = data.read_images(text, args.data_dir)
        index = choose(len(images))
        images, labels, thickness = (None if a is None else a[index] for a in (images, labels, thickness))
        return extractor.measure(images, labels, thickness, classes)

    real = measure(args.real)
    if args.save_stats:
        if real.features is None:
            raise UserError(f"{args.real} holds statistics already: nothing to save")
        save_stats(args.save_stats, real.moments)
        print(f"statistics of {args.real} written to {args.save_stats}", file=sys.stderr)
        if not args.fake:
            return None
    fake = measure(args.fake)
    complete = real.features is not None and fake.features is not None
    if not complete and args.metrics is None:
        names &= {"fid", "copies"}
    options = {"extractor": extractor, "metrics": names - {"copies"}, "infinity": args.infinity, "seed": args.seed,
               "table": ink_table_of(args.real, args.data_dir) if "conditional" in names else None}
    bootstrap = args.bootstrap if args.bootstrap is not None else 100 if len(real.moments.mean) <= 512 else 0
    result = {"real": args.real, "fake": args.fake} | quality(real, fake, bootstrap=bootstrap, **options)
    floor = floor_sets(args, real, fake.moments.n, measure)
    if floor and all(floor[0]):
        options["infinity"] &= min(x.moments.n for x in floor[0]) >= 3 * result["d"]
        result["floor"] = dict(zip(("real", "fake"), floor[1])) | quality(*floor[0], bootstrap=0, **options)
    if "copies" in names:
        train = args.train or (sibling(args.real, "train") if not args.real.endswith(":train") else None)
        if not train or not complete:
            raise UserError("copies needs images as FAKE, real images that were not trained on as REAL (mnist:test), and the "
                            "training images by --train")
        result["copies"] = {"train": train} | copies(real, fake, measure(train), args.pairs, args.seed)
    return result


def rows(result):
    """The numbers of a result as {row name: (value, remark)}, for the table."""
    out = {}
    if "fid" in result:
        f = result["fid"]
        remarks = [f"95 % {f['interval'][0]:.4g} .. {f['interval'][1]:.4g}"] if "interval" in f else []
        remarks += [f"of which bias about {f['bias']:.3g}"] if f["bias"] is not None else []
        out["FID"] = f["value"], "; ".join(remarks)
    if "fid_infinity" in result:
        out["FID at infinite N"] = (result["fid_infinity"]["value"], f"+- {result['fid_infinity']['standard_error']:.2g}")
    for name, depth in result.get("depths", {}).items():
        out[f"FID, {name}"] = depth["fid"], f"{depth['d']} features"
    if "kid" in result:
        out["KID"] = result["kid"]["value"], f"+- {result['kid']['standard_error']:.2g}"
    for name, better in (("precision", "k = 3"), ("recall", "k = 3"), ("density", "k = 5"), ("coverage", "k = 5")):
        if name in result:
            out[name] = result[name], better
    if "intra_fid" in result:
        i = result["intra_fid"]
        remark = f"of which bias about {i['bias']:.3g}; classes of {i['smallest_class']} up"
        out["FID within a class, mean"] = i["mean"], remark
        out["FID within a class, worst"] = i["worst"], f"class {i['worst_class']}"
        out["FID of images and labels"] = result["joint_fid"], "DeVries et al. 2019"
    for name in ("label_accuracy", "style_accuracy"):
        if name in result:
            out[name.replace("_", " ")] = result[name], ""
    if "spearman" in result:
        s = result["spearman"]
        out["thickness asked ~ drawn, mean"] = s["mean"], "rank correlation within a class"
        out["thickness asked ~ drawn, worst"] = s["worst"], f"class {s['worst_class']}"
    return out


def report(result):
    """The result as text for people."""
    features, floor = result["features"], result.get("floor")
    lines = [f"{result['fake']} against {result['real']}",
             f"features: {features['model']}, {features['output']}, d = {result['d']}, sha256 {features['sha256']}"]
    if "fid" in result:
        lines.append(f"N: {result['fid']['name']}" + (f", floor {floor['fid']['name']} ({floor['fake']})" if floor else ""))
    below = rows(floor) if floor else {}
    lines.append(f"\n{'':31} {'value':>10} {'floor':>10}")
    for name, (value, remark) in rows(result).items():
        base = f"{below[name][0]:10.4g}" if name in below else " " * 10
        lines.append(f"{name:31} {value:10.4g} {base}  {remark}".rstrip())
    if "copies" in result:
        c = result["copies"]
        lines.append(f"\ncopies of {c['train']} ({c['n_train']:,}): median distance to training / to test images "
                     f"{c['ratio']:.3f}, 1 without copying; near-copies {c['near_copies']:.2%}, 1 % by chance (training / "
                     f"test distance below {c['threshold']:.3f}); equal features {c['exact_copies']:.2%}")
    return "\n".join(lines)


def main(argv=None):
    args = parse_args(argv)
    result = compare(args)
    if result is None:
        return
    for warning in result["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    print(json.dumps(result, indent=1, ensure_ascii=False) if args.json else report(result))


if __name__ == "__main__":
    files.run(main)
