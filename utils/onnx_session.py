"""Opening ONNX files that are not trusted, with onnxruntime and numpy only (no torch).

    session, meta = open_session("saved_models/generator.onnx", "generator")
    meta["classes"], meta["latent_dim"]       # a list of str, an int
"""
import atexit
import contextlib
import functools
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np

from utils.checked_json import is_name_list, parse_json
from utils.files import UserError
from utils.onnx_graph import check_graph, field

CONTRACT = {   # kind -> inputs and outputs: name -> (element type, shape without the batch axis; str = any size)
    "generator": ({"noise": ("tensor(float)", ["latent"]), "label": ("tensor(int64)", []),
                   "thickness": ("tensor(float)", [])},
                  {"image": ("tensor(uint8)", [28, 28])}),
    "classifier": ({"image": ("tensor(uint8)", [28, 28])},
                   {"logits": ("tensor(float)", ["classes"]), "probabilities": ("tensor(float)", ["classes"]),
                    "features": ("tensor(float)", ["features"])}),
    "classifier-gradient": ({"image": ("tensor(float)", [28, 28]), "label": ("tensor(int64)", [])},
                            {"logits": ("tensor(float)", ["classes"]), "gradient": ("tensor(float)", [28, 28]),
                             "loss_gradient": ("tensor(float)", [28, 28])}),
    "deformer": ({"support": ("tensor(uint8)", [28, 28]), "noise": ("tensor(float)", ["latent"]),
                  "width": ("tensor(float)", [])},
                 {"image": ("tensor(uint8)", [28, 28])}),
}
METADATA = {"generator": ("kind", "dataset", "classes", "latent_dim", "width_medians", "version", "license"),
            "classifier": ("kind", "dataset", "classes", "version", "license"),
            "classifier-gradient": ("kind", "dataset", "classes", "version", "license"),
            "deformer": ("kind", "dataset", "classes", "latent_dim", "version", "license")}


MEMORY = 384 << 20         # bytes that two images may take while a file proves itself, without its weights
SECONDS = 4.0              # of the processor that they may take, beside half a second for each image
MAX_CONSTANTS = 1 << 24    # values worked out from weights, which the optimiser keeps; and two a byte of the file
MAX_TENSOR, MAX_GROWTH = 1 << 20, 64       # values of a tensor for each image: so many, or so many times its own ...
MAX_OWN_TENSOR = 1 << 17                   # ... of files of the contract, which see a thousand images at once: so many
MAX_LATENT = 10_000
THREADS = os.environ.get("OMP_NUM_THREADS", "")      # which onnxruntime does not look at, and torch and numpy do


class Session:
    """onnxruntime on the CPU with a file that is not trusted, or with the bytes `content` made of it.

    The graph is looked at before anything is run (onnx_graph.py). Its first run is a trial: of two images, not
    optimised, within limits of memory and time, which whatever makes large tensors of small constants runs into; only
    then the optimiser may work constants out. Raises UserError for a file that is missing, not ONNX, or beyond the
    limits."""

    def __init__(self, path, threads=None, content=None):
        self.path, self.threads, self.is_proven = Path(path), threads, False
        self.shapes = {}                          # of outputs, without the batch axis, where open_session knows them
        if not self.path.is_file():
            raise UserError(f"no such file: {path}")
        # from bytes, not from the path: a model that refers to other files on this disk is refused
        self.content = content or self.path.read_bytes()
        self.made = check_graph(self.content, path)
        self.sizes = {f"size of {name}": name for name in self.made}
        measured = b"".join(field(1, field(1, name) + field(2, size) + field(4, "Size")) + field(12, field(1, size))
                            for size, name in self.sizes.items())        # protobuf: what is appended joins the graph
        self.session = self._open(self.content + field(7, measured), is_trial=True)

    def _open(self, content, is_trial):
        import onnxruntime as ort
        options = ort.SessionOptions()
        options.log_severity_level = 4            # its messages would come before our one line
        options.intra_op_num_threads = 1 if is_trial else self.threads or int(THREADS.isdecimal() and THREADS)
        if is_trial:
            limit_memory()
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.add_session_config_entry("session.use_env_allocators", "1")          # that of limit_memory
            options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        try:
            return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as e:                    # onnxruntime raises one type per cause; all mean the same to the user
            raise UserError(f"{self.path} is not an ONNX model that onnxruntime can load ({first_line(e)}): expected "
                            "one file with all weights, as export_onnx.py writes") from e

    def get_inputs(self):
        """onnxruntime's NodeArgs: name, type, shape."""
        return self.session.get_inputs()

    def get_outputs(self):
        return [port for port in self.session.get_outputs() if port.name not in self.sizes]

    @property
    def metadata(self):
        """metadata_props: a dict of str. Raises UserError where that is no text."""
        try:
            return dict(self.session.get_modelmeta().custom_metadata_map)
        except UnicodeDecodeError as e:
            raise UserError(f"{self.path}: its metadata is no UTF-8 text: export it with export_onnx.py") from e

    def run(self, names, feeds):
        """The outputs `names` (None: all) for arrays by input name, a list of arrays. Raises UserError where the
        network does not take them, or gives other shapes than it should."""
        names = names or [port.name for port in self.get_outputs()]
        if not self.is_proven:
            self._prove(feeds)
            self.session, self.content = self._open(self.content, is_trial=False), None
            self.is_proven = True
        try:
            outputs = self.session.run(names, feeds)
        except Exception as e:                    # see _open
            raise UserError(f"{self.path} does not run ({first_line(e)})") from e
        batch = max([0, *map(len, feeds.values())])
        for name, output in zip(names, outputs):
            wanted = [batch, *self.shapes[name]] if name in self.shapes else output.shape
            if len(wanted) != output.ndim or any(s not in (n, "any") for s, n in zip(wanted, output.shape)):
                raise UserError(f"{self.path} gives {name} of shape {list(output.shape)}, not {wanted}")
        return outputs

    def _prove(self, feeds):
        """The trial, with the first two images."""
        import onnxruntime as ort
        fixed = {port.name for port in self.get_inputs() if port.shape and isinstance(port.shape[0], int)}
        few = {name: a if name in fixed else a[:2] for name, a in feeds.items()}
        batch = max([1, *map(len, few.values())])
        options, seconds = ort.RunOptions(), SECONDS + 0.5 * batch
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        trial = Attempt(lambda: self.session.run(list(self.sizes), few, options))
        begun = time.process_time()               # of the processor: another process may keep it busy
        trial.start()
        while trial.is_alive() and time.process_time() - begun < seconds:
            trial.join(0.05)
        if trial.is_alive():
            options.terminate = True              # onnxruntime looks at it between two operators
            trial.join(1)
            if trial.is_alive():
                atexit.register(leave)
            raise UserError(f"{self.path} does not run ({batch} images take it more than {seconds:g} s)")
        if trial.error:
            reason = first_line(trial.error)
            if "Available memory" in str(trial.error):
                reason = f"it wants more than {MEMORY >> 20} MB for {batch} images"
            raise UserError(f"{self.path} does not run ({reason})") from trial.error
        sizes = dict(zip(self.made.items(), map(int, trial.result)))
        constants = sum(n for (_, is_constant), n in sizes.items() if is_constant)
        image = max([0, *(a.size for a in few.values())]) / batch
        limit = MAX_OWN_TENSOR if self.shapes else max(MAX_TENSOR, MAX_GROWTH * image)
        largest = max((n for (_, is_constant), n in sizes.items() if not is_constant), default=0)
        if constants > MAX_CONSTANTS + 2 * len(self.content) or largest > batch * limit:
            raise UserError(f"{self.path} makes {max(constants, largest):,} values of {batch} images, more than "
                            "networks of images need")


class Attempt(threading.Thread):
    """work() in a thread that nobody must wait for: its `result`, or the `error` that it raised."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.work, self.result, self.error = work, None, None

    def run(self):
        with self:
            self.result = self.work()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.error = error
        return True


def leave():
    """End a process in which an operator still runs, which onnxruntime cannot interrupt: without, it might crash."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):      # closed
            stream.flush()
    os._exit(2)


@functools.cache
def limit_memory():
    """The allocator of all trials, which takes no more than MEMORY."""
    import onnxruntime as ort
    place = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    limits = {"max_mem": MEMORY, "arena_extend_strategy": 1, "initial_chunk_size_bytes": 1 << 20,
              "max_dead_bytes_per_chunk": -1}
    ort.create_and_register_allocator(place, ort.OrtArenaCfg(limits))


def first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


def check_ports(path, direction, ports, expected):
    """Compare a session's ports (`direction`: "input" or "output") with the contract's; UserError where they differ."""
    ports = {p.name: (p.type, list(p.shape)) for p in ports}
    for name, (kind, shape) in expected.items():
        text = f"{name} {kind} [batch{''.join(f', {s}' for s in shape)}]"
        if name not in ports:
            raise UserError(f"{path} has no {direction} {text}; it has {', '.join(ports) or 'none'}")
        actual_kind, (batch, *actual) = ports[name][0], ports[name][1] or [0]
        same = len(actual) == len(shape) and all(isinstance(s, str) or s == a for s, a in zip(shape, actual))
        if actual_kind != kind or not same or isinstance(batch, int):
            raise UserError(f"{path}: {direction} {name} is {actual_kind} {ports[name][1]}, expected {text} with any batch")
    if direction == "input" and set(ports) - set(expected):
        raise UserError(f"{path} wants inputs that are unknown here: {', '.join(sorted(set(ports) - set(expected)))}")


def open_session(path, kind, threads=None):
    """(session, metadata) of a file that keeps the contract of `kind`, a key of CONTRACT.

    Metadata values are str, but `classes` is a list of str and `latent_dim` an int, both checked against the graph.
    Raises UserError that names the file and what was expected where it does not."""
    session = Session(path, threads)
    check_ports(path, "input", session.get_inputs(), CONTRACT[kind][0])
    check_ports(path, "output", session.get_outputs(), CONTRACT[kind][1])
    meta = session.metadata
    if kind == "generator" and meta.get("version") == "1":
        raise UserError(f"{path} is of version 1, in which thickness was ink and not the pen's width: train again")
    missing = [name for name in METADATA[kind] if name not in meta]
    if missing:
        raise UserError(f"{path} lacks the metadata {', '.join(missing)}: export it with export_onnx.py")
    meta["classes"] = parse_json(meta["classes"], f"{path}: its metadata classes", is_name_list)
    if "latent_dim" in METADATA[kind]:
        latent = next(p.shape[1] for p in session.get_inputs() if p.name == "noise")
        if meta["latent_dim"] != str(latent) or not isinstance(latent, int) or not 0 < latent <= MAX_LATENT:
            raise UserError(f"{path}: metadata latent_dim is {meta['latent_dim'][:40]}, but its noise has {latent}")
        meta["latent_dim"] = latent
    n = len(meta["classes"])
    inputs = random_inputs(kind, 2, n, meta.get("latent_dim"))
    if "label" in inputs:
        inputs["label"][1] = n - 1            # fails where the graph has fewer classes
    session.shapes = {name: [n if s == "classes" else "any" if isinstance(s, str) else s for s in shape]
                      for name, (_, shape) in CONTRACT[kind][1].items()}
    session.run(None, inputs)
    return session, meta


def random_inputs(kind, batch, n_classes, latent=None, seed=0):
    """Inputs of a graph of this kind: a dict of numpy arrays, as CONTRACT has them. `latent`: of a generator or
    deformer; its supports are outlines of diamonds, discs and squares."""
    rng = np.random.default_rng(seed)
    if kind == "classifier":
        return {"image": rng.integers(0, 256, (batch, 28, 28), dtype=np.uint8)}
    if kind == "classifier-gradient":
        return {"image": rng.random((batch, 28, 28), dtype=np.float32), "label": rng.integers(0, n_classes, batch)}
    noise = rng.standard_normal((batch, latent), dtype=np.float32)
    if kind == "deformer":
        place = np.abs(np.arange(28) - 13.5)
        size, power = rng.uniform(4, 10, (batch, 1, 1)), rng.choice([1.0, 2.0, 8.0], (batch, 1, 1))
        shape = (place[:, None] ** power + place ** power) ** (1 / power)               # diamonds, discs, squares
        return {"support": (255 * (2 - np.abs(shape - size)).clip(0, 1)).astype(np.uint8), "noise": noise,
                "width": rng.uniform(1.5, 4.5, batch).astype(np.float32)}
    return {"noise": noise,
            "label": rng.integers(0, n_classes, batch), "thickness": rng.random(batch, dtype=np.float32)}
