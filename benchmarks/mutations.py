"""What may go wrong with a file, or be done to it: mutations of bytes that fuzz.py gives to the readers.

    mutate(content, ".npz", rng, others)       # bytes -> bytes; others: contents of files of the same kind, for splices

`rng` is a random.Random. Half of the mutations know nothing of the format; the others keep its frame valid (checksums
of a zip, brackets of JSON, lengths of protobuf), so that what lies behind the first check is reached, too.
"""
import io
import json
import math
import struct
import zipfile

import numpy as np

INTEGERS = [0, 1, -1, 2, 127, 255, 256, 4095, 65_535, 2 ** 31 - 1, -2 ** 31, 2 ** 32 - 1, 2 ** 63 - 1, -2 ** 63,
            2 ** 64 - 1, 10 ** 30]
FLOATS = [0.0, -0.0, 0.5, -1.5, 1e-300, 1e308, 3.4e38, math.inf, -math.inf, math.nan]
TEXTS = ["", " ", "0", "é", "あ", "\ud800", "a\nb", "\x1b[2J", "\0", "../../x", "/dev/zero", "x" * 5000, "1e9", "None",
         "\u202e",
         "~nosuchuser/x", "NaN", "-1", "all", "💡" * 100]
NPY_DTYPES = ["|O", "<f2", "<c8", ">i8", "<u8", "|b1", "|V8", "<U5", "|S3", "<M8[s]", "<m8[ns]", "[('a', '<i4')]",
              "<f16", "q", "(",
              "|u1", "<i1000", "<U99999999"]


# ---- bytes of any format -------------------------------------------------------------------------

def flip_bits(content, rng, others):
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(content, rng, others):
    return content[:rng.randrange(len(content))]


def splice(content, rng, others):
    """The beginning of one file and the end of another."""
    other = rng.choice(others)
    return content[:rng.randrange(len(content) + 1)] + other[rng.randrange(len(other) + 1):]


def overwrite(content, rng, others):
    """A number in the middle becomes an odd one."""
    number = rng.choice(INTEGERS) % (1 << 64)
    size = rng.choice([1, 2, 4, 8])
    number = (number % (1 << 8 * size)).to_bytes(size, rng.choice(["little", "big"]))
    i = rng.randrange(min(len(content), rng.choice([16, 128, 1024, 1 << 30])))
    return content[:i] + number + content[i + size:]


def cut_out(content, rng, others):
    i = rng.randrange(len(content))
    return content[:i] + content[i + rng.choice([1, 2, 7, 100]):]


def repeat(content, rng, others):
    i, n = rng.randrange(len(content)), rng.choice([1, 4, 50])
    return content[:i] + content[i:i + n] * rng.choice([2, 3, 1000]) + content[i + n:]


def insert(content, rng, others):
    i = rng.randrange(len(content) + 1)
    piece = rng.choice([*(t.encode("utf-8", "surrogatepass") for t in TEXTS), rng.randbytes(20), b"[" * 5000,
                        b"\xff\xfe"])
    return content[:i] + piece + content[i:]


BYTES = [flip_bits, truncate, splice, overwrite, cut_out, repeat, insert]


# ---- JSON and tables -----------------------------------------------------------------------------

def odd_value(rng):
    """Any JSON value, and what Python's json takes for one."""
    return rng.choice([None, True, [], {}, [[]], {"": None}, *INTEGERS, *FLOATS, *TEXTS, [1] * 1000, [None, "a", 1.5]])


def change_value(value, rng):
    """The same JSON with one value, anywhere in it, replaced, removed, doubled or put deep into lists; as text."""
    places = []                                        # (container, key)

    def walk(v):
        for key, below in list(v.items() if isinstance(v, dict) else enumerate(v) if isinstance(v, list) else ()):
            places.append((v, key))
            if len(places) < 5000:
                walk(below)
    walk(value)
    depth = rng.choice([0] * 12 + [20, 40, 900, 100_000])
    if not places:
        return json.dumps(odd_value(rng))
    place, key = rng.choice(places)
    what = rng.randrange(10)
    if what == 0:
        del place[key]
    elif what == 1 and isinstance(place, list):
        place.append(place[key])
    elif what == 2:                                    # a value from elsewhere in it
        other, name = rng.choice(places)
        place[key] = json.loads(json.dumps(other[name] if name in other or isinstance(name, int) else None))
    else:
        place[key] = "DEEP" if depth else odd_value(rng)
    return json.dumps(value).replace('"DEEP"', "[" * depth + "]" * depth)


def change_json(content, rng, others):
    return change_value(json.loads(content), rng).encode()


def change_line(content, rng, others):
    """One line of a file of rows, of JSON or of a table."""
    lines = content.splitlines(True)
    i = rng.randrange(len(lines))
    if lines[i].startswith(b"{"):
        lines[i] = change_value(json.loads(lines[i]), rng).encode() + b"\n"
    else:
        cells = lines[i].rstrip(b"\n").split(b",")
        cells[rng.randrange(min(len(cells), 8))] = str(rng.choice([*TEXTS, *INTEGERS, *FLOATS])).encode("utf-8",
            "surrogatepass")
        lines[i] = b",".join(cells) + b"\n"
    return b"".join(lines)


# ---- numpy and zip -------------------------------------------------------------------------------

def change_npy(content, rng, others=()):
    """An .npy with another header before the same values."""
    version, size = content[6], struct.unpack("<H", content[8:10])[0]
    header, body = content[10:10 + size].decode(), content[10 + size:]
    shape = rng.choice([(), (0,), (-1,), (10 ** 18, 28, 28), (2 ** 62, 4), (1,) * 40, (3, 28, 28), (len(body),), "(",
                        (1.5,), None])
    dtype, what = rng.choice(NPY_DTYPES), rng.randrange(5)
    if what == 0:
        header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    elif what == 1:
        header = header.replace(header[header.index("'descr': ") + 9:header.index(", 'fort")],
                                dtype if dtype.startswith("[") else repr(dtype))
    elif what == 2:
        header = header.replace(header[header.index("(", 20):header.rindex(")") + 1], str(shape))
    elif what == 3:
        header = header.replace("False", rng.choice(["True", "2", "None", "False or", "[" * 50]))
    else:
        header = header[:rng.randrange(len(header))] + rng.choice(["(", "[", "'", "}", "\0", "9" * 5000])
    header = header.ljust(size)
    return content[:6] + bytes([version, 0]) + struct.pack("<H",
                                                           min(len(header), 65_535)) + header[:65_535].encode() + body


def odd_array(rng):
    """An .npy of an unexpected kind."""
    array = rng.choice([
        np.array(0), np.array([]), np.zeros((3, 27, 27), np.uint8), np.full((5, 28, 28), np.nan),
        np.arange(60) * 10 ** 15,
        np.full(60, 2 ** 64 - 1, np.uint64), np.full(60, np.inf), np.full(60, 1j), np.array(["a\ud800"] * 60),
        np.array([b"\xff"] * 60),
        np.array(["x" * 10_000, *"b" * 59]), np.zeros(60, "V8"), np.zeros((60, 28, 28, 3), np.uint8),
        np.zeros(60, "M8[s]"),
        np.full((64, 64), -1.0), np.full((60, 28, 28), 1e308), np.zeros((60, 784)), np.zeros((2, 5000, 1), np.uint8),
        np.array([{}] * 60, object), np.full(60, -1), np.full(60, 4999), np.linspace(0, 1, 60),
        np.full((60, 28, 28), True),
        np.array([""] * 60), np.zeros((60, 0, 28), np.uint8), np.zeros((60, 28, 28), np.uint8)])
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def pack(members, rng=None):
    """A zip of [(name, content)], stored or packed."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED if rng and rng.random() < 0.5 else zipfile.ZIP_STORED) as z:
        for name, content in members:
            z.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


def change_zip(content, rng, others):
    """A whole zip with one member changed, removed, doubled, renamed, or bombs and strays beside it."""
    with zipfile.ZipFile(io.BytesIO(content)) as z:
        members = [(name, z.read(name)) for name in z.namelist()]
    i, what = rng.randrange(len(members)), rng.randrange(8)
    name, inner = members[i]
    if what == 0:
        del members[i]
    elif what == 1:
        members.append(members[i])
    elif what == 2:
        members[i] = rng.choice([*TEXTS[:6], "labels.npy", "x_train.npy", "mu.npy"]), inner
    elif what == 3:
        members[i] = name, bytes(rng.choice([0, 10, 10 ** 7]))
    elif name.endswith(".npy"):
        members[i] = name, rng.choice([change_npy, lambda *_: odd_array(rng)])(inner, rng)
    elif inner:
        members[i] = name, rng.choice(BYTES)(inner, rng, [inner])
    return pack(members, rng if not name.startswith("archive/") else None)


# ---- networks ------------------------------------------------------------------------------------

def odd_tensor(tensor, rng):
    """A tensor of another kind, type, shape or layout than this one."""
    import torch
    return rng.choice([
        lambda: torch.zeros(1).expand(30_000, 30_000), lambda: torch.zeros((), dtype=tensor.dtype).expand(tensor.shape),
        lambda: torch.zeros(100).as_strided((5000, 5000), (0, 0)),
        lambda: torch.zeros(2000).as_strided((1000, 1000), (1, 1)),
        lambda: tensor.double(), lambda: tensor.half(), lambda: tensor.to(torch.complex64), lambda: tensor.bool(),
        lambda: tensor.to(torch.uint8), lambda: tensor.to_sparse() if tensor.ndim else tensor,
        lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.quint8),
        lambda: torch.empty(10 ** 12, device="meta"),
        lambda: tensor.float().requires_grad_(), lambda: tensor.flatten()[:3], lambda: tensor[None],
        lambda: tensor.mT if tensor.ndim > 1
        else tensor, lambda: tensor * math.nan, lambda: tensor.float() * 1e30, lambda: torch.zeros(0),
        lambda: torch.zeros(2, 0, 3),
        lambda: torch.nn.Parameter(tensor.float()), lambda: -tensor.float() - 1, lambda: torch.sparse_coo_tensor(
            [[0], [0]], [1.0], (10 ** 6, 10 ** 6)),
            lambda: tensor.to(torch.float8_e4m3fn) if tensor.is_floating_point() else tensor])()


def change_checkpoint(content, rng, others):
    """A whole torch file with one value, anywhere in it, replaced or removed."""
    import torch
    value, places = torch.load(io.BytesIO(content), weights_only=True), []

    def walk(v, depth):
        for key, below in list(v.items() if isinstance(v, dict) else enumerate(v) if isinstance(v, list) else ()):
            places.extend([(v, key)] * max(1, 9 - 4 * depth))        # the upper ones, which are few, more often
            walk(below, depth + 1)
    walk(value, 0)
    place, key = rng.choice(places)
    old = place[key]
    if rng.random() < 0.1:
        del place[key]
    elif isinstance(old, torch.Tensor) and rng.random() < 0.8:
        place[key] = odd_tensor(old, rng)
    else:
        place[key] = rng.choice([odd_value(rng), odd_value(rng), torch.zeros(3), (1, 2), {1: 2}, b"x", {1, 2},
                                 torch.float32, 1j])
    if rng.random() < 0.03:
        for _ in range(rng.choice([50, 2000])):
            place[key] = [place[key] if key in place or isinstance(key, int) else 0]
    if rng.random() < 0.02:
        place[key] = value                             # a list that holds itself
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def change_onnx(content, rng, others):
    """A whole ONNX model with a changed node, attribute, tensor, port or metadata, or with what makes large tensors."""
    import onnx
    from onnx import TensorProto, helper
    model = onnx.load_model_from_string(content)
    graph, what = model.graph, rng.randrange(9)
    node, tensor = rng.choice(graph.node), rng.choice(graph.initializer)
    prop = rng.choice(model.metadata_props or [None])
    big = rng.choice([10 ** 5, 10 ** 8, 8 * 10 ** 8, 2 ** 40, 2 ** 62, -5])
    if what == 0 and prop:
        if prop.key in ("classes", "figures"):
            prop.value = change_value(json.loads(prop.value), rng)
        else:
            prop.value = rng.choice(TEXTS).encode("utf-8", "replace").decode()
    elif what == 1 and node.attribute:
        attribute = rng.choice(node.attribute)
        attribute.i = rng.choice(INTEGERS[:13])
        attribute.ints[:] = [rng.choice([0, -1, 3, 10 ** 4, big])] * len(attribute.ints)
    elif what == 2 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice([0, 1, 7, big])
    elif what == 3:
        tensor.data_type = rng.randrange(25)
    elif what == 4:
        node.op_type = rng.choice(["Loop", "If", "Add", "Expand", "Tile", "Concat", "MatMul", "Relu", "Nothing",
                                   "ReduceMax", "TopK",
                                   "Resize", "NonZero", "Range", "ImageDecoder", "RandomNormal", "SequenceEmpty"])
    elif what == 5:
        names = [name for n in graph.node for name in n.input]
        if node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice(names)
    elif what == 6:
        port = rng.choice([*graph.input, *graph.output]).type.tensor_type
        port.elem_type = rng.choice([port.elem_type, port.elem_type, 1, 2, 7, 8, 9])
        if port.shape.dim:
            port.shape.dim[rng.randrange(len(port.shape.dim))].dim_value = rng.choice([0, 1, 2, 27, 29, big])
    elif what == 7:                                    # constants that grow
        graph.initializer.append(helper.make_tensor("grow", TensorProto.INT64, [1], [big]))
        grown = rng.choice([
            [helper.make_node("ConstantOfShape", ["grow"], ["grown"])],
            [helper.make_node("Constant", [], ["zero"], value_int=0),
             helper.make_node("Constant", [], ["one"], value_int=1),
             helper.make_node("Squeeze", ["grow"], ["end"]),
             helper.make_node("Range", ["zero", "end", "one"], ["range"]),
             helper.make_node("Cast", ["range"], ["grown"], to=1)],
            [helper.make_node("Constant", [], ["ones"], value_floats=[1.0] * 9),
             helper.make_node("Tile", ["ones", "grow"], ["grown"])],
            [helper.make_node("Constant", [], ["ones"], value_floats=[1.0]),
             helper.make_node("Expand", ["ones", "grow"], ["grown"])],
            [helper.make_node("Constant", [], ["c0"], value_floats=[1.0] * 99),
             *(helper.make_node("Concat", [f"c{i}"] * 8, [f"c{i + 1}"], axis=0) for i in range(8)),
             helper.make_node("Identity", ["c8"], ["grown"])]])
        last = graph.output[0].name
        for n in graph.node:
            n.output[:] = ["before" if name == last else name for name in n.output]
            n.input[:] = ["before" if name == last else name for name in n.input]
        graph.node.extend([*grown, helper.make_node("ReduceMax", ["grown"], ["most"], keepdims=0),
                           helper.make_node("Cast", ["most"], ["cast"], to=graph.output[0].type.tensor_type.elem_type),
                           helper.make_node("Max", ["before", "cast"], [last])])
    else:
        del graph.node[rng.randrange(len(graph.node))]
    return model.SerializeToString()


STRUCTURED = {".npz": change_zip, ".zip": change_zip, ".npy": change_npy, ".json": change_json, ".jsonl": change_line,
              ".csv": change_line, ".pth": change_checkpoint, ".onnx": change_onnx}


def mutate(content, suffix, rng, others):
    """`content` changed once or twice, as `rng` decides. `suffix`: of the file, which tells its format."""
    if suffix in STRUCTURED and rng.random() < 0.6:
        content = STRUCTURED[suffix](content, rng, others)
        if rng.random() < 0.8:
            return content
    return rng.choice(BYTES)(content, rng, others) if content else content
