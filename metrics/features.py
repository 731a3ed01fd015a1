"""Images -> features, by an ONNX model or as pixels, and what FID needs of them; no torch.

    extractor = Extractor("saved_models/classifier.onnx")       # or "pixels", or any ONNX model of one image input
    real = extractor.measure(*data.read_images("mnist:test"))   # Measured: features, moments, images, labels, ...
    extractor(images)["features"]                               # float32 [N, d] alone
    save_stats("mnist.npz", real.moments)                       # the moments; read_stats("mnist.npz") reads them

fid.py compares such sets; metrics.py holds the mathematics.
"""
import hashlib
import json
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from datasets.normalize import progress
from datasets.readers import read_npz
from metrics import distances as m
from utils.files import UserError, atomic

DEFAULT_MODEL = Path(__file__).parent.parent / "saved_models" / "classifier.onnx"
RANGES = {"0-1": (0, 1), "-1-1": (-1, 1), "0-255": (0, 255)}
ELEMENTS = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16,
            "tensor(double)": np.float64}
POOLS = ("MaxPool", "AveragePool")


# ---- sets of images --------------------------------------------------------------------------------------------------

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
                        part(self.probabilities), part(self.images), part(self.labels), part(self.thickness),
                        self.classes)


def moments(features, extractor=None):
    """Moments of features [N, d]."""
    stats = m.statistics(features)
    return Moments(stats.mean, stats.cov, stats.n, extractor)


# ---- the extractor ---------------------------------------------------------------------------------------------------

class Extractor:
    """Images uint8 [N, 28, 28] -> features, by one output of an ONNX model, or the "pixels" themselves in [0, 1].

    path: a model with one image input; its size, channels (1 or 3, first or last) and range are read from it: 0-255
    for uint8 numbers, 0-1 for others. `input_range` ("0-1", "-1-1", "0-255") and `input_size` say otherwise. Grey is
    repeated over 3 channels; resizing is Pillow's bilinear filter on float values, antialiased. `output`: a name, of an
    inner tensor too (default: "features", or the only output); maps [N, C, h, w] are averaged over h and w. `depths`
    adds the averaged maps after every pooling. Raises UserError. `name`, `output` and `sha256` (12 digits) tell which
    features these are; `classes`: list of str, where the model names them, else None.
    """

    def __init__(self, path=DEFAULT_MODEL, output=None, input_range=None, input_size=None, depths=False):
        self.classes = None
        if str(path) == "pixels":
            self.name = self.output = self.sha256 = "pixels"
            self.session = None
            return
        if Path(path) == DEFAULT_MODEL and not DEFAULT_MODEL.is_file():
            raise UserError(f"no feature extractor at {DEFAULT_MODEL}: train one with train.py --model classifier, "
                            "name another ONNX model with --features, or take --features pixels")
        from utils.onnx_session import start_session
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
        self._read_input(path, input_range, input_size)
        try:
            self.classes = [str(c) for c in json.loads(self.session.get_modelmeta().custom_metadata_map["classes"])]
        except (KeyError, TypeError, ValueError):
            pass                       # a model that names no classes

    def _read_input(self, path, input_range, input_size):
        """What the model takes: name, dtype, channels, size, batch, range."""
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in ELEMENTS or len(inputs[0].shape) not in (3, 4):
            found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise UserError(f"{path} wants {found or 'no input'}; expected one input of images, "
                            "[batch, channels, height, width]")
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

    def _open_inside(self, path, raw, outputs, depths):
        """Open the model again with more outputs: the inner tensor asked for, the averages after each pooling."""
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
        if self.channel_axis is None:
            return x
        return np.repeat(np.expand_dims(x, self.channel_axis), self.channels, self.channel_axis)

    def __call__(self, images):
        """images uint8 [N, 28, 28] -> {"features": float32 [N, d]}, where known "probabilities", "depth 1", ... too."""
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


# ---- statistics files ------------------------------------------------------------------------------------------------

def read_stats(path):
    """Moments of an .npz with mu and sigma (and n and extractor, of --save-stats); None if `path` is no such file."""
    path = Path(path).expanduser()
    if path.suffix.lower() != ".npz" or not zipfile.is_zipfile(path):
        return None
    stats = read_npz(path, ["mu", "sigma", "n", "extractor"])
    if not {"mu", "sigma"} <= set(stats):
        return None
    mu, sigma = (np.asarray(stats[k]) for k in ("mu", "sigma"))
    if mu.dtype.kind != "f" or sigma.dtype.kind != "f" or mu.ndim != 1 or sigma.shape != (mu.size,) * 2 or not mu.size:
        raise UserError(f"{path}: mu {mu.dtype} {list(mu.shape)} and sigma {sigma.dtype} {list(sigma.shape)} do not "
                        "fit; expected [d] and [d, d]")
    mu, sigma = mu.astype(np.float64), sigma.astype(np.float64)
    finite = np.isfinite(mu).all() and np.isfinite(sigma).all()
    if not finite or not np.allclose(sigma, sigma.T, rtol=1e-4, atol=1e-6 * np.abs(sigma).max()):
        raise UserError(f"{path}: mu and sigma must be finite and sigma symmetric; the file is damaged")
    n, extractor = (stats[k].item() if k in stats and stats[k].shape == () else None for k in ("n", "extractor"))
    if n is not None and (not isinstance(n, int) or n < 2):
        raise UserError(f"{path}: the number of images n is {n!r}; the file is damaged")
    return Moments(mu, (sigma + sigma.T) / 2, n, extractor)


def save_stats(path, found):
    """Write Moments as an .npz: mu and sigma (the names that other tools use), n, extractor."""
    with atomic(path) as tmp, open(tmp, "wb") as f:
        np.savez(f, mu=found.mean, sigma=found.cov, n=found.n, extractor=found.extractor)
