"""Looking at an ONNX file before anything runs it: the fields of its protobuf, in plain Python, in a millisecond.

    tensors = check_graph(content, path)       # {name: whether it follows from the weights alone}; or UserError

A graph may be a program: loops, sub-graphs, other files, operators of other vendors. What networks of images are made
of needs none of that, and what is not on the list is refused. How much memory and time the rest takes shows a trial
run within limits (onnx_session.py): shapes follow from values, so that no list could tell.
"""
import math

from utils.files import UserError

MAX_NODES = 20_000
MAX_NUMBER = 65_536        # of a kernel, a padding, ...: beyond, onnxruntime may crash while it works shapes out
SIGNED = {"axis", "axes", "start", "end", "k", "pads", "shape"}        # may be negative, down to ...
MIN_NUMBER = -1024
ANY_NUMBER = {"Constant", "Slice", "Dropout"}          # their numbers are values, ends far away, seeds
STANDARD = """
    Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool BatchNormalization
    BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu CenterCropPad Clip Col2Im Compress
    Concat Constant ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div
    Dropout DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements
    GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample
    GroupNormalization HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LRN LSTM
    LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul MatMulInteger Max
    MaxPool MaxRoiPool MaxUnpool Mean MeanVarianceNormalization Min Mish Mod Mul Neg NonZero Not OneHot Or PRelu Pad
    Pow QLinearConv QLinearMatMul QuantizeLinear RMSNormalization RNN Range Reciprocal ReduceL1 ReduceL2
    ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape
    Resize ReverseSequence RoiAlign Round Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh
    Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu Tile
    TopK Transpose Trilu Unsqueeze Upsample Where Xor"""
OPERATORS = frozenset(STANDARD.split())


def varint(buffer, i):
    """(The number that begins at byte i, where it ends)."""
    number = shift = 0
    while True:
        byte = buffer[i]
        number |= (byte & 127) << shift
        shift, i = shift + 7, i + 1
        if byte < 128:
            return number, i
        if shift > 63:
            raise EOFError("a number without an end")


def message(buffer):
    """A protobuf message as {field number: list of values in their order}: int, or memoryview of what has a length.
    EOFError or IndexError where it is broken."""
    fields, i = {}, 0
    while i < len(buffer):
        key, i = varint(buffer, i)
        if key & 7 == 0:
            value, i = varint(buffer, i)
        elif key & 7 in (1, 2, 5):
            n, i = varint(buffer, i) if key & 7 == 2 else ({1: 8, 5: 4}[key & 7], i)
            value, i = buffer[i:i + n], i + n
        else:
            raise EOFError("a field of unknown type")
        if i > len(buffer):
            raise EOFError("the end is missing")
        fields.setdefault(key >> 3, []).append(value)
    return fields


def field(number, content):
    """The bytes of one field of a message: `content` bytes or str."""
    content = content.encode() if isinstance(content, str) else content
    size, n = bytearray(), len(content)
    while n > 127:
        size.append(n & 127 | 128)
        n >>= 7
    return bytes([number << 3 | 2, *size, n]) + content


def text(values):
    """A field of one str. ValueError where there are more, which readers take for different ones."""
    if len(values) > 1:
        raise ValueError("a name that is there twice")
    return bytes(values[0]).decode() if values else ""


def integers(values):
    """A field of several numbers, packed or not."""
    for value in values:
        if isinstance(value, int):
            yield value
        else:
            i = 0
            while i < len(value):
                number, i = varint(value, i)
                yield number


def signed(number):
    """The int64 that protobuf stores as this number."""
    return number - (1 << 64) if number >= 1 << 63 else number


def check_tensor(buffer):
    """The name of a stored tensor. ValueError where its values lie elsewhere or are fewer than it claims."""
    tensor = message(buffer)
    if 13 in tensor or any(tensor.get(14, ())):
        raise ValueError("it keeps weights in other files (external data)")
    stored = sum(8 if isinstance(v, int) else len(v) for k in (4, 5, 7, 9, 10, 11) for v in tensor.get(k, ()))
    if math.prod(integers(tensor.get(1, ()))) > 2 * stored:                  # two of int4 in a byte
        raise ValueError("it declares more weights than it holds")
    return text(tensor.get(8, ()))


def check_node(buffer):
    """(operator, names of inputs, of outputs) of a node. ValueError for an operator that is not of OPERATORS."""
    node = message(buffer)
    operator, domain = text(node.get(4, ())), text(node.get(7, ()))
    if domain not in ("", "ai.onnx") or operator not in OPERATORS:
        name = f"{domain}.{operator}" if domain else operator
        raise ValueError(f"it has the operator {name[:60]}, which networks of images do not need")
    for attribute in map(message, node.get(5, ())):
        if attribute.keys() & {6, 11, 14, 15, 22, 23}:
            raise ValueError("it has a graph, a sparse tensor or a type within a node")
        for tensor in attribute.get(5, []) + attribute.get(10, []):
            check_tensor(tensor)
        least = MIN_NUMBER if text(attribute.get(1, ())) in SIGNED else 0
        numbers = () if operator in ANY_NUMBER else integers(attribute.get(3, []) + attribute.get(8, []))
        if any(not least <= signed(number) <= MAX_NUMBER for number in numbers):
            raise ValueError(f"its operator {operator} has an odd number for {text(attribute.get(1, ()))[:40]}")
    return operator, *([bytes(name).decode() for name in node.get(k, ()) if len(name)] for k in (1, 2))


def check_graph(content, path):
    """Look at the bytes of an ONNX file. Returns {name: whether it follows from the weights alone} of the tensors that
    its nodes make. Raises UserError for one that is damaged, or holds what a network of images does not need: control
    flow, functions, external data, operators that are not of OPERATORS, tensors larger than their values."""
    try:
        model = message(memoryview(content))
        if 20 in model or 25 in model or len(model.get(7, ())) != 1:
            raise ValueError("it has no single graph, or functions or training beside it")
        graph = message(model[7][0])
        if 15 in graph or len(graph.get(1, ())) > MAX_NODES:
            raise ValueError(f"it has sparse weights or more than {MAX_NODES:,} nodes")
        fixed, made = {check_tensor(tensor) for tensor in graph.get(5, ())}, {}
        known = fixed | {text(message(port).get(1, ())) for port in graph.get(11, ())}
        for node in graph.get(1, ()):
            operator, inputs, outputs = check_node(node)
            if not known.issuperset(inputs):
                raise ValueError("its nodes are not in their order")
            is_fixed = operator in ("Shape", "Size") or fixed.issuperset(inputs)
            made |= dict.fromkeys(outputs, is_fixed)
            fixed.update(outputs if is_fixed else ())
            known.update(outputs)
        return made
    except (ValueError, EOFError, IndexError, TypeError, AttributeError) as e:     # the last two: fields of other types
        reason = f"cannot be run safely ({e})" if type(e) is ValueError else "is damaged, or not an ONNX model"
        raise UserError(f"{path} {reason}: expected one file with all weights, as export_onnx.py writes") from e
