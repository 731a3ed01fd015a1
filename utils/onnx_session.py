"""Opening ONNX files that are not trusted, with onnxruntime and numpy only (no torch).

    session, meta = open_session("saved_models/generator.onnx", "generator")
    meta["classes"], meta["latent_dim"]       # a list of str, an int
"""
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
}
METADATA = {"generator": ("kind", "dataset", "classes", "latent_dim", "ink_medians", "version", "license"),
            "classifier": ("kind", "dataset", "classes", "version", "license")}


def start_session(path, threads=None):
    """onnxruntime.InferenceSession on the CPU. Raises UserError for a file that is missing or not ONNX."""
    import onnxruntime as ort
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    options = ort.SessionOptions()
    options.log_severity_level = 4            # its messages would come before our one line
    if threads:
        options.intra_op_num_threads = threads
    try:
        # from bytes, not from the path: a model that refers to other files on this disk is refused
        return ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as e:                    # onnxruntime raises one type per cause; all mean the same to the user
        reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        if "External data" in reason:
            raise UserError(f"{path} keeps weights in other files (external data): expected one file with all of them, "
                            "as export_onnx.py writes") from e
        raise UserError(f"{path} is not an ONNX model that onnxruntime can load ({reason[:160]}): expected a file of "
                        "export_onnx.py") from e


def check_ports(path, what, found, wanted):
    """Compare a session's inputs or outputs with the contract; UserError that says what was expected."""
    found = {p.name: (p.type, list(p.shape)) for p in found}
    for name, (kind, shape) in wanted.items():
        text = f"{name} {kind} [batch{''.join(f', {s}' for s in shape)}]"
        if name not in found:
            raise UserError(f"{path} has no {what} {text}; it has {', '.join(found) or 'none'}")
        got_kind, got_shape = found[name]
        fits = len(got_shape) == 1 + len(shape) and all(isinstance(s, str) or s == g
                                                        for s, g in zip(shape, got_shape[1:]))
        if got_kind != kind or not fits:
            raise UserError(f"{path}: {what} {name} is {got_kind} {got_shape}, expected {text}")
        if isinstance(got_shape[0], int):
            raise UserError(f"{path}: {what} {name} has the fixed batch size {got_shape[0]}, expected any size: export "
                            "it again")
    if what == "input" and set(found) - set(wanted):
        raise UserError(f"{path} wants inputs that are unknown here: {', '.join(sorted(set(found) - set(wanted)))}")


def open_session(path, kind, threads=None):
    """(session, metadata) of a file that keeps the contract of `kind`, "generator" or "classifier".

    Metadata values are str, but `classes` is a list of str and `latent_dim` an int, both checked against the graph.
    Raises UserError that names the file and what was expected where it does not.
    """
    session = start_session(path, threads)
    inputs, outputs = CONTRACT[kind]
    check_ports(path, "input", session.get_inputs(), inputs)
    check_ports(path, "output", session.get_outputs(), outputs)
    meta = session.get_modelmeta().custom_metadata_map
    missing = [name for name in METADATA[kind] if name not in meta]
    if missing:
        raise UserError(f"{path} lacks the metadata {', '.join(missing)}: export it with export_onnx.py")
    try:
        meta = {**meta, "classes": json.loads(meta["classes"])}
    except ValueError as e:
        raise UserError(f"{path}: its metadata classes is no JSON list") from e
    classes = meta["classes"]
    if not (isinstance(classes, list) and classes and all(isinstance(c, str) for c in classes)):
        raise UserError(f"{path}: its metadata classes is no list of names")
    if kind == "generator":
        latent = session.get_inputs()[[p.name for p in session.get_inputs()].index("noise")].shape[1]
        if meta["latent_dim"] != str(latent):
            raise UserError(f"{path}: metadata latent_dim is {meta['latent_dim']}, but its noise has {latent} values")
        meta["latent_dim"] = latent
    probe(path, session, kind, meta)
    return session, meta


def probe(path, session, kind, meta):
    """Run a batch of two, with the last class where a label is asked; UserError where that fails or disagrees."""
    last = len(meta["classes"]) - 1
    inputs = ({"image": np.zeros((2, 28, 28), np.uint8)} if kind == "classifier" else
              {"noise": np.zeros((2, meta["latent_dim"]), np.float32), "label": np.array([0, last]),
               "thickness": np.array([0, 1], np.float32)})
    try:
        outputs = dict(zip((o.name for o in session.get_outputs()), session.run(None, inputs)))
    except Exception as e:                    # see start_session
        raise UserError(f"{path} does not run with {last + 1} classes: {str(e).strip().splitlines()[0][:160]}") from e
    if kind == "classifier" and outputs["logits"].shape != (2, last + 1):
        raise UserError(f"{path} names {last + 1} classes, but gives {outputs['logits'].shape[1]} logits")
