"""Images -> features, as pixels or by an ONNX model: Extractor("classifier.onnx").measure(images); no torch."""
import contextlib
import hashlib
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from metrics.frechet_distance import Moments, moments
from utils.checked_json import is_name_list, parse_json
from utils.cli import Progress
from utils.files import UserError
from utils.limits import MAX_FEATURES, MAX_SIDE
from utils.onnx_session import Session

DEFAULT_MODEL = Path(__file__).parent.parent / "saved_models" / "classifier.onnx"
MAX_BATCH = 1024                       # images at a time, of a model that fixes their number
MAX_VALUES = 1 << 22                   # of an image's maps before they are averaged
LARGEST = 1e15                         # of a feature
RANGES = {"0-1": (0, 1), "-1-1": (-1, 1), "0-255": (0, 255)}
DTYPES = {"tensor(uint8)": np.uint8, "tensor(float16)": np.float16, "tensor(float)": np.float32,
          "tensor(double)": np.float64}


class FeatureSet(NamedTuple):
    """A set of images with its features. All but `moments` are None for a set known by its statistics alone."""
    moments: Moments
    features: np.ndarray = None        # float32 [N, d]
    depths: dict = None                # name -> float32 [N, channels], from shallow to deep
    answers: np.ndarray = None         # int64 [N], the likeliest class, of an extractor that is a classifier
    images: np.ndarray = None          # uint8 [N, 28, 28]
    labels: np.ndarray = None          # int64 [N]; of generated images those that were requested
    thickness: np.ndarray = None       # float32 [N] in [0, 1], requested
    classes: list = None

    def take(self, index):
        """The subset of the images `index`."""
        parts = {name: x[index] for name, x in self._asdict().items() if isinstance(x, np.ndarray)}
        depths = {name: x[index] for name, x in self.depths.items()}
        return self._replace(moments=moments(parts["features"], self.moments.extractor), depths=depths, **parts)


class Extractor:
    """Images uint8 [N, 28, 28] -> features, by one output of an ONNX model, or the "pixels" themselves in [0, 1].
    path: a model with one image input. Its size (or `input_size`, if it takes any), channels (1 or 3, first
    or last) and range (of RANGES; by default 0-255 for uint8, else 0-1) decide how images are prepared.
    `output`: a name, of an inner tensor too (default: "features", or the only one); maps [N, C, h, w] are
    averaged. `depths` adds the averaged maps after every pooling. `name`, `output`, `sha256` (12 digits) say
    which features these are; `classes`: list of str, None where the model names none. Raises UserError."""

    def __init__(self, path=DEFAULT_MODEL, output=None, input_range=None, input_size=None, depths=False):
        self.classes = self.session = None
        if str(path) == "pixels":
            self.name = self.output = self.sha256 = "pixels"
            return
        if Path(path) == DEFAULT_MODEL and not DEFAULT_MODEL.is_file():
            raise UserError(f"no feature extractor at {DEFAULT_MODEL}: train one with train.py --model classifier, "
                            "name another ONNX model with --features, or take --features pixels")
        self.session = Session(path)
        self.name, content = Path(path).name, Path(path).read_bytes()
        self.sha256 = hashlib.sha256(content).hexdigest()[:12]
        names = [o.name for o in self.session.get_outputs()]
        if not output and "features" not in names and len(names) > 1:
            raise UserError(f"{path} has the outputs {', '.join(names)}: choose one with --output")
        self.output = output or ("features" if "features" in names else names[0])
        self.outputs = {"features": self.output} | ({"answers": "probabilities"} if "probabilities" in names else {})
        if depths or self.output not in names:
            self._open_inside(path, content, names, depths)
        self._read_input(path, input_range, input_size)
        with contextlib.suppress(KeyError, UserError):               # a model that names no classes
            self.classes = parse_json(self.session.metadata["classes"], "classes", is_name_list)

    def _open_inside(self, path, content, names, depths):
        """Open the model again with more outputs: an inner tensor, the averages after each pooling."""
        import onnx
        model = onnx.load_model_from_string(content)
        nodes = model.graph.node
        if not any(self.output in node.output for node in nodes):
            raise UserError(f"{path} has no output {self.output!r}; it has {', '.join(names)}")
        pools = [node.output[0] for node in nodes if node.op_type in ("MaxPool", "AveragePool")] if depths else []
        for i, tensor in enumerate(pools, 1):
            self.outputs[f"depth {i}"] = f"fid_depth_{i}"
            nodes.append(onnx.helper.make_node("GlobalAveragePool", [tensor], [f"fid_depth_{i}"]))
        model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in self.outputs.values() if n not in names)
        self.session = Session(path, content=model.SerializeToString())

    def _read_input(self, path, input_range, input_size):
        """What the model takes: name, dtype, channels, size, batch, range."""
        inputs = self.session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 and inputs[0].type in DTYPES else []
        self.channel_axis = None if len(shape) != 4 else 1 if shape[1] in (1, 3) else 3
        self.channels = 1 if self.channel_axis is None else shape[self.channel_axis]
        if len(shape) not in (3, 4) or self.channels not in (1, 3):
            ports = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs) or "no input"
            raise UserError(f"{path} wants {ports}; expected images [batch, 1 or 3 channels, height, width]")
        self.input, self.dtype = inputs[0].name, DTYPES[inputs[0].type]
        size = [s for i, s in enumerate(shape) if i not in (0, self.channel_axis)]
        self.size = tuple(s if isinstance(s, int) else input_size for s in size)
        if None in self.size:
            raise UserError(f"{path} takes images of any size: say which with --input-size, as --input-size 299")
        if input_size and all(isinstance(s, int) for s in size):
            raise UserError(f"{path} takes images of {size[0]} x {size[1]} alone: leave --input-size out")
        if not all(0 < s <= MAX_SIDE for s in self.size) or isinstance(shape[0], int) and not 0 < shape[0] <= MAX_BATCH:
            raise UserError(f"{path} wants images {shape}; possible are up to {MAX_SIDE} x {MAX_SIDE} pixels, and "
                            f"{MAX_BATCH:,} at a time where it fixes their number")
        self.is_fixed = isinstance(shape[0], int)
        self.batch = shape[0] if self.is_fixed else 256 if max(self.size) <= 64 else 32
        self.low, self.high = RANGES[input_range or ("0-255" if self.dtype == np.uint8 else "0-1")]
        if self.dtype == np.uint8 and self.high != 255:
            raise UserError(f"{path} takes uint8 images: --input-range {input_range} does not fit")

    def _prepare(self, x):
        """Images x uint8 [B, 28, 28] -> what the model takes."""
        if self.size != x.shape[1:]:                                 # antialiased, on floats
            size, bilinear = self.size[::-1], Image.Resampling.BILINEAR
            x = np.stack([np.asarray(Image.fromarray(i.astype(np.float32)).resize(size, bilinear)) for i in x])
        if self.dtype == np.uint8:
            x = np.rint(x).astype(np.uint8)
        else:
            x = (x * ((self.high - self.low) / 255) + self.low).astype(self.dtype)
        axis = self.channel_axis
        return x if axis is None else np.repeat(np.expand_dims(x, axis), self.channels, axis)

    def __call__(self, images):
        """images uint8 [N, 28, 28] -> {"features": float32 [N, d]}; where the model tells, "answers" int64 [N], the
        likeliest class, and "depth 1", ... too."""
        if self.session is None:
            return {"features": images.reshape(len(images), -1).astype(np.float32) / 255}
        batches, progress = {key: [] for key in self.outputs}, Progress(sys.stderr, delay=1.0)
        for i in range(0, len(images), self.batch):
            x = self._prepare(images[i:i + self.batch])
            n = len(x)
            if self.is_fixed:
                x = x[np.minimum(np.arange(self.batch), n - 1)]      # the last batch is filled with copies
            outputs = self.session.run(list(self.outputs.values()), {self.input: x})
            for key, y in zip(self.outputs, outputs):
                is_array = isinstance(y, np.ndarray) and y.dtype.kind in "fiu"
                if not is_array or y.ndim < 2 or len(y) != len(x) or not 0 < y[0].size <= MAX_VALUES:
                    raise UserError(f"{self.name}: output {self.outputs[key]} is no array of numbers [{len(x)}, d], "
                                    f"but {f'{y.dtype} {list(y.shape)}' if is_array else type(y).__name__}: choose "
                                    "another with --output")
                y = y.mean((2, 3), dtype=np.float64) if y.ndim == 4 else y.reshape(len(y), -1)
                if key == "answers":                                 # of thousands of classes only the answer is kept
                    self._check(key, y, np.inf)
                    batches[key].append(y[:n].argmax(1))
                else:
                    batches[key].append(y[:n].astype(np.float32))
            if progress.tty:                                         # a log needs no line about every set
                progress("features", i + n, len(images))
        result = {key: np.concatenate(parts) for key, parts in batches.items()}
        for key, values in result.items():
            if key != "answers" and values.shape[1] > MAX_FEATURES:
                raise UserError(f"{self.name} gives {values.shape[1]:,} values for an image as {self.outputs[key]}, "
                                f"more than the limit of {MAX_FEATURES:,}: choose another with --output")
            self._check(key, values, LARGEST)
        return result

    def _check(self, key, values, limit):
        """UserError for values that cannot be reckoned with."""
        if not np.abs(values).max() < limit:             # squares of larger ones overflow in float32
            raise UserError(f"{self.name} gives NaN, infinity or values beyond {LARGEST:g} as {self.outputs[key]}: "
                            "choose another model or input range")

    def measure(self, images, labels=None, thickness=None, classes=None):
        """The FeatureSet of images uint8 [N, 28, 28] with what else is known of them (see data.read_images)."""
        if len(images) < 2:
            raise UserError(f"a set of {len(images)} image cannot be measured; at least two are needed")
        outputs = self(images)
        features, answers = outputs.pop("features"), outputs.pop("answers", None)
        return FeatureSet(moments(features, f"{self.sha256}:{self.output}"), features, outputs, answers,
                          images, labels, thickness, classes)
