"""Opening ONNX files that are not trusted, with onnxruntime and numpy only (no torch).

    session, meta = open_session("saved_models/generator.onnx", "generator")
    meta["classes"], meta["latent_dim"]       # a list of str, an int
"""
import contextlib
import json
from pathlib import Path

import numpy as np

from utils.files import UserError

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
}
METADATA = {"generator": ("kind", "dataset", "classes", "latent_dim", "ink_medians", "version", "license"),
            "classifier": ("kind", "dataset", "classes", "version", "license"),
            "classifier-gradient": ("kind", "dataset", "classes", "version", "license")}


def start_session(path, threads=None, content=None):
    """onnxruntime.InferenceSession on the CPU of a file, or of the bytes `content` made of it. Raises UserError for a
    file that is missing or not ONNX."""
    import onnxruntime as ort
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    options = ort.SessionOptions()
    options.log_severity_level = 4            # its messages would come before our one line
    options.intra_op_num_threads = threads or 0
    try:
        # from bytes, not from the path: a model that refers to other files on this disk is refused
        return ort.InferenceSession(content or path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as e:                    # onnxruntime raises one type per cause; all mean the same to the user
        reason = (f"is not an ONNX model that onnxruntime can load ({first_line(e)})" if "External data" not in str(e) else
                  "keeps weights in other files (external data)")
        raise UserError(f"{path} {reason}: expected one file with all weights, as export_onnx.py writes") from e


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
    session = start_session(path, threads)
    check_ports(path, "input", session.get_inputs(), CONTRACT[kind][0])
    check_ports(path, "output", session.get_outputs(), CONTRACT[kind][1])
    meta = dict(session.get_modelmeta().custom_metadata_map)
    missing = [name for name in METADATA[kind] if name not in meta]
    if missing:
        raise UserError(f"{path} lacks the metadata {', '.join(missing)}: export it with export_onnx.py")
    with contextlib.suppress(ValueError):     # then it stays a str
        meta["classes"] = json.loads(meta["classes"])
    if not (isinstance(meta["classes"], list) and meta["classes"] and all(isinstance(c, str) for c in meta["classes"])):
        raise UserError(f"{path}: its metadata classes is no JSON list of names")
    if kind == "generator":
        latent = next(p.shape[1] for p in session.get_inputs() if p.name == "noise")
        if meta["latent_dim"] != str(latent):
            raise UserError(f"{path}: metadata latent_dim is {meta['latent_dim']}, but its noise has {latent} values")
        meta["latent_dim"] = latent
    n = len(meta["classes"])
    inputs = random_inputs(kind, 2, n, meta.get("latent_dim"))
    if "label" in inputs:
        inputs["label"][1] = n - 1            # fails where the graph has fewer classes
    try:
        output = session.run(list(CONTRACT[kind][1]), inputs)[0]
    except Exception as e:                    # see start_session
        raise UserError(f"{path} does not run with {n} classes: {first_line(e)}") from e
    if kind != "generator" and output.shape != (2, n):
        raise UserError(f"{path} names {n} classes, but gives {output.shape[1]} logits")
    return session, meta


def random_inputs(kind, batch, n_classes, latent=None, seed=0):
    """Inputs of a graph of this kind: a dict of numpy arrays, as CONTRACT has them. `latent`: of a generator."""
    rng = np.random.default_rng(seed)
    if kind == "classifier":
        return {"image": rng.integers(0, 256, (batch, 28, 28), dtype=np.uint8)}
    if kind == "classifier-gradient":
        return {"image": rng.random((batch, 28, 28), dtype=np.float32), "label": rng.integers(0, n_classes, batch)}
    return {"noise": rng.standard_normal((batch, latent), dtype=np.float32),
            "label": rng.integers(0, n_classes, batch), "thickness": rng.random(batch, dtype=np.float32)}
