"""Turn a checkpoint into one ONNX file that other apps can rely on, and verify that it does the same.

    python export_onnx.py saved_models/generator.pth              # writes saved_models/generator.onnx
    python export_onnx.py saved_models/classifier.pth --int8      # writes saved_models/classifier.int8.onnx
    python export_onnx.py saved_models/classifier.pth --gradient  # writes saved_models/classifier-gradient.onnx
    python export_onnx.py --check saved_models/generator.onnx     # is this file what apps expect?
    python export_onnx.py --check saved_models/classifier.onnx --on mnist:test        # and how accurate is it?

The graph takes and gives plain arrays (examples/README.md), has a dynamic batch, one file, opset 18. Batch norm is folded
into its neighbours. Weights are stored as fp16 and cast once when the file is loaded: a generator's where that moves no
pixel by more than one grey level, a classifier's where fp16 holds them to the bit, as train.py leaves them. An export
that torch and onnxruntime do not agree on is not left behind. A label that is out of range stops the graph with an
error; thickness is clamped to [0, 1].
"""
if __name__ == "__main__":                     # before the imports that take seconds
    from utils.cli import stop_quietly
    stop_quietly()

import copy
import json
import logging
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import data
import models
from utils.cli import Parser, add_data_options, new_file, non_empty_path, run_command
from utils.files import UserError, atomic
from utils.onnx_session import CONTRACT, Session, open_session, random_inputs

OPSET = 18
VERIFY_BATCHES = (1, 2, 7, 64, 1000)
TOLERANCE = {"generator": 1, "deformer": 1,          # between torch and onnxruntime: grey levels; ...
             "classifier": 1e-4,                     # ... logits and features; ...
             "classifier-gradient": 1e-4}            # ... logits, and gradients relative to an image's largest
SLOW_BATCHES = (1, 2, 7, 64)     # of gradients and deformers: torch takes up to 10 ms for an image
AT_KINKS = 0.05                  # share of images that may lie on a kink, where rounding picks another gradient
CALIBRATION_IMAGES = 500         # training images that show how large activations get, for int8
MAX_INT8_LOSS = 0.1              # points of accuracy that int8 may lose on the validation split


# ---- networks as the graph has them: no batch norm, uint8 at the door ----------------------------

def scale_and_shift(bn):
    """A batch norm in eval mode as y = scale * x + shift, both float [C]."""
    scale = bn.weight / (bn.running_var + bn.eps).sqrt()
    return scale, bn.bias - scale * bn.running_mean


def fold_batch_norm(layer, bn=None):
    """A Conv2d that equals `layer` followed by `bn`. Of a transposed convolution (kernel 4, stride 2, padding 1) it
    gives all but the interleaving: runtimes have fast kernels only for plain convolutions."""
    weight = layer.weight
    scale, shift = scale_and_shift(bn) if bn is not None else (torch.ones(1), torch.zeros(layer.out_channels))
    if isinstance(layer, nn.ConvTranspose2d):
        # along each axis output 2m takes inputs m-1, m by taps 3, 1, output 2m+1 takes m, m+1 by taps 2, 0
        weight = weight.unflatten(3, (2, 2)).unflatten(2, (2, 2)).flip(2, 4)              # [in, out, input, odd, ...]
        weight = weight.permute(3, 5, 1, 0, 2, 4).flatten(0, 2)                           # [4 * out, in, 2, 2]
        scale, shift = scale.repeat(4), shift.repeat(4)
    new = nn.Conv2d(weight.shape[1] * layer.groups, weight.shape[0], weight.shape[2], padding=1, groups=layer.groups)
    new.weight_and_scale = weight, scale.expand(len(weight))       # for store_as_half
    new.weight.data = weight * scale.view(-1, 1, 1, 1)
    new.bias.data = shift if layer.bias is None else shift + scale * layer.bias
    return new


def interleave(h):
    """[N, 4 * C, H, W] -> [N, 2 * H, 2 * W, C]: PixelShuffle(2) of channels (row, column, C), but channels-last, where
    runtimes copy C values at once."""
    _, c, y, x = h.shape
    h = h.permute(0, 2, 3, 1).reshape(-1, y, x, 2, 2, c // 4)
    return h.transpose(2, 3).reshape(-1, 2 * y, 2 * x, c // 4)


class GeneratorGraph(nn.Module):
    """noise, label, thickness -> image uint8 [batch, 28, 28]."""

    def __init__(self, g):
        super().__init__()
        self.n_classes, self.c0, self.condition, self.mix = g.cfg.n_classes, g.cfg.c0, g.condition, g.mix
        scale, shift = scale_and_shift(g.net[0])
        self.project = nn.Linear(g.cfg.hidden, 49 * self.c0)                              # rows: (place, channel)
        self.project.weight_and_scale = g.project.weight, scale.repeat(49)                # for store_as_half
        self.project.weight.data = g.project.weight * scale.repeat(49)[:, None]
        self.project.bias.data = shift.repeat(49)
        self.residual = fold_batch_norm(*g.net[2][:2]) if g.cfg.residual else None
        net = g.net[3 if g.cfg.residual else 2:]
        self.up = fold_batch_norm(net[0], net[1])
        self.middle, self.last, self.tone = fold_batch_norm(net[3], net[4]), fold_batch_norm(net[6]), g.tone

    def forward(self, noise, label, thickness):
        # Gather reads negative indices from the end: send them past it, so that they fail like too large ones
        label = torch.where(label < 0, self.n_classes, label)
        h = self.project(self.mix(torch.cat([noise, self.condition(label, thickness.clamp(0, 1))], 1))).relu()
        h = h.view(-1, 7, 7, self.c0).permute(0, 3, 1, 2)
        if self.residual is not None:
            h = h + self.residual(h).relu()
        h = self.up(h).relu()                                                             # [N, 4 * c1, 8, 8]
        h = interleave(h)[:, 1:-1, 1:-1].permute(0, 3, 1, 2)                              # [N, c1, 14, 14]
        h = self.last(self.middle(h).relu())                                              # [N, 4, 14, 14]
        return interleave((self.tone(models.to_range(h)) * 255).round().to(torch.uint8)).squeeze(3)


class CVAEGraph(GeneratorGraph):
    """The same with the prior of a CVAE before its decoder."""

    def __init__(self, vae):
        super().__init__(vae.decoder)
        self.prior = vae.prior

    def forward(self, noise, label, thickness):
        label = torch.where(label < 0, self.n_classes, label)                             # see above
        return super().forward(self.prior(noise, label), label, thickness)


class ClassifierGraph(nn.Module):
    """image uint8 [batch, 28, 28] -> logits, probabilities, features."""

    def __init__(self, c):
        super().__init__()
        layers = list(c.net)
        self.net = nn.Sequential(*[fold_batch_norm(layer, bn) if isinstance(layer, nn.Conv2d) else layer
                                   for layer, bn in zip(layers, [*layers[1:], None])
                                   if not isinstance(layer, nn.BatchNorm2d)])
        self.head, self.n_features = c.head, c.n_features

    def forward(self, image):
        h = self.net(image.unsqueeze(1).float() * (2 / 255) - 1)
        logits = self.head(h)
        return logits, logits.softmax(1), h if self.n_features == self.head.in_features else h[:, :self.n_features]


class GradientGraph(ClassifierGraph):
    """image float32 [batch, 28, 28] in [0, 1], label int64 [batch] -> logits, and the gradients at the pixels, float32
    [batch, 28, 28], of the label's logit and of its cross-entropy: backpropagation written out, with autograd's choices
    (no gradient where a ReLU is zero, that of a maximum to the first pixel that has it)."""

    def forward(self, image, label):
        h = image.unsqueeze(1) * 2 - 1
        values = [h]                                                                      # between the layers
        for layer in self.net:
            h = layer(h)
            values.append(h)
        logits, weight = self.head(h), self.head.weight
        own = F.embedding(torch.where(label < 0, len(weight), label), weight)             # see GeneratorGraph
        # softmax - 1 of the label's own class is the sum over the others, which keeps its digits where it is nearly 0
        others = torch.where(label[:, None] == torch.arange(len(weight)), 0.0, logits.softmax(1))
        loss = others @ weight - others.sum(1, keepdim=True) * own
        return logits, self.to_pixels(own, values), self.to_pixels(loss, values)

    def to_pixels(self, gradient, values):
        """The gradient at the features [N, d], as that at the image [N, 28, 28]."""
        for layer, x, y in reversed(list(zip(self.net, values, values[1:]))):
            gradient = BACKWARD[type(layer)](layer, x, y, gradient)
        return 2 * gradient.squeeze(1)


class DeformerGraph(nn.Module):
    """support uint8 [batch, 28, 28], noise, width of the pen in pixels -> image uint8 [batch, 28, 28]."""

    def __init__(self, deformer):
        super().__init__()
        self.deformer = deformer

    def forward(self, support, noise, width):
        return models.to_uint8(self.deformer(models.from_uint8(support), noise, width))


def max_pool_backward(layer, x, y, gradient):
    """The gradient of a maximum over windows that do not overlap goes to the first pixel that has it."""
    side = x.shape[-1] // y.shape[-1]
    windows = F.pixel_unshuffle(x, side).unflatten(1, (-1, side ** 2))                    # [N, C, side * side, h, w]
    is_first = windows.argmax(2, keepdim=True) == torch.arange(side ** 2).view(-1, 1, 1)
    return F.pixel_shuffle((gradient.unsqueeze(2) * is_first).flatten(1, 2), side)


BACKWARD = {       # layer -> the gradient at its input x, of (layer, x, its output y, the gradient there)
    nn.Conv2d: lambda layer, x, y, gradient: F.conv_transpose2d(gradient, layer.weight, padding=1, groups=layer.groups),
    nn.ReLU: lambda layer, x, y, gradient: gradient * (y > 0),
    nn.MaxPool2d: max_pool_backward, nn.AdaptiveMaxPool2d: max_pool_backward,
    nn.Flatten: lambda layer, x, y, gradient: gradient[:, :, None, None],
    models.Contrast: lambda layer, x, y, gradient: gradient * layer.slope(x)}


# ---- the file ------------------------------------------------------------------------------------

def store_as_half(graph, network, exact):
    """Replace the large fp32 weights of an ONNX graph by fp16 ones with a Cast each; a layer that a batch norm
    was folded into gets its scale by a Mul, as the product would need more digits. Runtimes fold both when loading.

    `network` is what `graph` was exported from; `exact` leaves weights as they are that fp16 cannot hold to the bit."""
    from onnx import TensorProto, helper, numpy_helper
    factors = {f"{name}.weight": [f.detach().numpy() for f in m.weight_and_scale]
               for name, m in network.named_modules() if hasattr(m, "weight_and_scale")}
    nodes = []
    for tensor in list(graph.initializer):
        name = tensor.name
        values, scale = factors.get(name, (numpy_helper.to_array(tensor), np.ones(1)))
        if tensor.data_type != TensorProto.FLOAT or not models.is_large(values):
            continue
        half = values.astype(np.float16)
        if exact and not np.array_equal(half, values):
            continue
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
        is_scaled = (scale != 1).any()
        cast = f"{name}_cast" if is_scaled else name
        nodes.append(helper.make_node("Cast", [f"{name}_half"], [cast], to=TensorProto.FLOAT))
        if is_scaled:
            graph.initializer.append(numpy_helper.from_array(scale.reshape(-1, *[1] * (values.ndim - 1)), f"{name}_scale"))
            nodes.append(helper.make_node("Mul", [cast, f"{name}_scale"], [name]))
    for i, node in enumerate(nodes):
        graph.node.insert(i, node)


def metadata(checkpoint):
    """The metadata_props of an ONNX file, a dict of str: what an app must know, and the measured figures."""
    info = checkpoint.info
    meta = {"kind": checkpoint.role, "model": info.get("model", "unknown"), "dataset": info["dataset"],
            "classes": json.dumps(checkpoint.classes), "version": str(models.VERSION), "license": info["license"],
            "figures": json.dumps(info.get("figures", {}))}
    if hasattr(checkpoint.model.cfg, "latent"):
        meta["latent_dim"] = str(checkpoint.model.cfg.latent)
    if checkpoint.role == "generator":
        meta["width_medians"] = json.dumps([round(float(m), 3) for m in np.median(checkpoint.width_table, axis=1)])
    return meta


def build(checkpoint):
    """(onnx.ModelProto, the nn.Module it was exported from) of a checkpoint: with metadata, no traces of this machine."""
    import onnx
    graphs = {"generator": GeneratorGraph, "cvae": CVAEGraph, "classifier": ClassifierGraph,
              "classifier-gradient": GradientGraph, "deformer": DeformerGraph}
    graph = graphs[checkpoint.kind](checkpoint.model)
    (inputs, outputs), cfg = CONTRACT[checkpoint.role], checkpoint.model.cfg
    arrays = random_inputs(checkpoint.role, 2, len(checkpoint.classes), getattr(cfg, "latent", None))
    batch = torch.export.Dim("batch", min=1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph.eval().requires_grad_(False), tuple(torch.from_numpy(arrays[name]) for name in inputs), dynamo=True,
            opset_version=OPSET, input_names=list(inputs), output_names=list(outputs), external_data=False,
            verbose=False, dynamic_shapes={name: {0: batch} for name in inputs})
    proto = program.model_proto
    for part in [proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output]:
        del part.metadata_props[:]            # stack traces with the paths of this machine
        part.doc_string = ""
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, metadata(checkpoint))
    proto.producer_name = "glyphs"
    return proto, graph


def with_gradient(checkpoint):
    """The Checkpoint of a classifier, to be exported as a classifier-gradient. Raises UserError for another kind."""
    if checkpoint.kind != "classifier":
        raise UserError(f"a gradient is for a classifier, this is a {checkpoint.kind}")
    return replace(checkpoint, kind="classifier-gradient")


def export(checkpoint, path):
    """Write `checkpoint` (a models.Checkpoint whose role is in CONTRACT) as an ONNX file, verified against torch.

    Returns {"bytes": ..., "max_difference": ...}, the latter from verify(). Raises UserError, and leaves no file,
    where it is more than TOLERANCE."""
    import onnx
    if checkpoint.role not in CONTRACT:
        raise UserError(f"a {checkpoint.kind} has no use outside training: export a generator or a classifier")
    plain, network = build(checkpoint)
    with atomic(path) as tmp:
        for exact in (False, True) if checkpoint.role in ("generator", "deformer") else (True,):  # rounding moves logits by 1e-3
            proto = onnx.ModelProto()
            proto.CopyFrom(plain)
            store_as_half(proto.graph, network, exact)
            onnx.checker.check_model(proto, full_check=True)
            tmp.write_bytes(proto.SerializeToString())
            difference, limit = verify(tmp, checkpoint)
            if difference <= limit:
                break
        else:
            raise UserError(f"the exported {checkpoint.kind} differs from the network by {difference:g}, more than "
                            f"{limit:g}: nothing was written")
    return {"bytes": Path(path).stat().st_size, "max_difference": difference}


def batches_of(kind):
    """The batch sizes with which files of a kind are tried."""
    return SLOW_BATCHES if kind in ("deformer", "classifier-gradient") else VERIFY_BATCHES


def verify(path, checkpoint):
    """(the largest difference between a file in onnxruntime and its network in torch over batches_of(its role), the largest
    that is allowed), in grey levels or logits; of gradients see verify_gradient(). inf where shapes differ, nan where an
    output is nan."""
    session, meta = open_session(path, checkpoint.role)
    if checkpoint.role == "classifier-gradient":
        return verify_gradient(session, checkpoint)
    network, largest = checkpoint.model, 0.0
    for batch in batches_of(checkpoint.role):
        arrays = random_inputs(checkpoint.role, batch, len(meta["classes"]), meta.get("latent_dim"), seed=batch)
        tensors = [torch.from_numpy(a) for a in arrays.values()]
        with torch.inference_mode():
            if checkpoint.role == "generator":
                expected = [models.to_uint8(network(*tensors))]
            elif checkpoint.role == "deformer":
                expected = [DeformerGraph(network)(*tensors)]
            else:
                x = models.from_uint8(*tensors)
                expected = [network(x), network(x).softmax(1), network.features(x)]
        for output, tensor in zip(session.run(None, arrays), expected, strict=True):
            if output.shape != tuple(tensor.shape):
                return float("inf"), 0.0
            difference = np.abs(output.astype(np.float64) - tensor.double().numpy()).max()
            largest = float(np.maximum(largest, difference))          # unlike max(), keeps a nan
    return largest, TOLERANCE[checkpoint.role]


def verify_gradient(session, checkpoint):
    """verify() of a classifier-gradient: the largest difference of logits or, relative to the largest value in an image,
    of gradients to torch's autograd in fp64, over batches_of() its kind. AT_KINKS of the images do not count."""
    network, n = copy.deepcopy(checkpoint.model).double(), len(checkpoint.classes)
    of_logits, of_gradients = [], []
    for batch in batches_of("classifier-gradient"):
        arrays = random_inputs(checkpoint.role, batch, n, seed=batch)
        for output, expected in zip(session.run(None, arrays), autograd(network, **arrays), strict=True):
            if output.shape != expected.shape:
                return float("inf"), 0.0
            if output.ndim == 2:
                of_logits.append(abs(output - expected).max())
            else:
                of_gradients += list(abs(output - expected).max((1, 2)) / abs(expected).max((1, 2)).clip(1e-30))
    difference = np.maximum(np.max(of_logits), np.quantile(of_gradients, 1 - AT_KINKS))      # unlike max(), keeps a nan
    return float(difference), TOLERANCE[checkpoint.role]


def autograd(network, image, label):
    """What a classifier-gradient gives for these arrays, by torch: logits, gradient, loss_gradient, float64 arrays.
    `network`: a classifier in float64."""
    x, y = torch.from_numpy(image).double().requires_grad_(), torch.from_numpy(label)
    logits = network.head(network.net(2 * x.unsqueeze(1) - 1))                            # not forward(), which makes it float32
    scores = logits.gather(1, y[:, None]).sum(), F.cross_entropy(logits, y, reduction="sum")
    return [a.detach().numpy() for a in (logits, *(torch.autograd.grad(s, x, retain_graph=True)[0] for s in scores))]


def check(path):
    """Check any ONNX file against the contract; returns (kind, metadata). Raises UserError that says what is wrong."""
    import onnx
    kind = Session(path).metadata.get("kind")
    if kind not in CONTRACT:
        raise UserError(f"{path} does not say what it is: metadata kind is {kind!r}, expected one of "
                        f"{', '.join(CONTRACT)}")
    session, meta = open_session(path, kind)
    opset = next((o.version for o in onnx.load(path).opset_import if o.domain in ("", "ai.onnx")), None)
    if opset != OPSET:
        raise UserError(f"{path} has opset {opset}, expected {OPSET}")
    for batch in batches_of(kind):
        arrays = random_inputs(kind, batch, len(meta["classes"]), meta.get("latent_dim"), seed=batch)
        if any(len(output) != batch for output in session.run(None, arrays)):
            raise UserError(f"{path} does not keep the batch size {batch}")
    return kind, meta


def accuracy(path, images, labels):
    """Share of images uint8 [N, 28, 28] to which a classifier.onnx gives their labels int64 [N]."""
    session, _ = open_session(path, "classifier")
    answers = [session.run(["logits"], {"image": images[i:i + 500]})[0].argmax(1) for i in range(0, len(images), 500)]
    return float((np.concatenate(answers) == labels).mean())


# ---- 8 bits --------------------------------------------------------------------------------------

def quantize_int8(checkpoint, path, glyphs):
    """Write a classifier (models.Checkpoint) as an ONNX file of the same contract, its convolutions in int8.

    Static quantisation of onnxruntime (Jacob et al. 2018, arXiv:1712.05877): one scale per output channel, in QDQ form,
    which any runtime of opset 18 reads. The last layer stays fp32, so that probabilities are as fine as before.
    `glyphs` (data.Glyphs with the classifier's classes) gives training images to calibrate on and the validation split
    to measure on. Returns {"bytes", "val_accuracy", "fp32_val_accuracy"}, accuracies in percent. Raises UserError,
    and leaves no file, where more than MAX_INT8_LOSS points are lost."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    if checkpoint.role != "classifier" or glyphs.classes != checkpoint.classes:
        raise UserError(f"int8 is for a classifier and its own data set: this {checkpoint.kind} has the classes "
                        f"{', '.join(checkpoint.classes[:10])}, {glyphs.name} has {', '.join(glyphs.classes[:10])}")
    if not len(glyphs.x_val):
        raise UserError(f"{glyphs.name} has no validation images to test an int8 classifier on: give more images a class")
    chosen = np.random.default_rng(0).permutation(len(glyphs.x_train))[:CALIBRATION_IMAGES]
    batches = iter([{"image": images} for images in np.array_split(glyphs.x_train[chosen], 10)])
    reader = SimpleNamespace(get_next=lambda: next(batches, None))
    with atomic(path) as tmp:
        onnx.save(build(checkpoint)[0], tmp)
        before = 100 * accuracy(tmp, glyphs.x_val, glyphs.y_val)
        try:
            logging.disable(logging.WARNING)       # it recommends a preparation that our graphs have had already
            # 7 bits of weights: with 8, sums of two products overflow on processors before VNNI (2019)
            quantize_static(tmp, tmp, reader, quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=True,
                            op_types_to_quantize=["Conv", "Relu", "MaxPool"], activation_type=QuantType.QUInt8,
                            weight_type=QuantType.QInt8)
        finally:
            logging.disable(logging.NOTSET)
        after = 100 * accuracy(tmp, glyphs.x_val, glyphs.y_val)
        proto = onnx.load(tmp)
        figures = {"val_accuracy": round(after / 100, 5), "fp32_val_accuracy": round(before / 100, 5)}
        props = {"figures": json.dumps(figures), "precision": "int8 convolutions"}
        onnx.helper.set_model_props(proto, metadata(checkpoint) | props)
        onnx.save(proto, tmp)
        check(tmp)
        if after < before - MAX_INT8_LOSS:
            raise UserError(f"int8 reads {after:.2f} % of the validation split correctly, fp32 {before:.2f} %: more than "
                            f"{MAX_INT8_LOSS} points are lost, nothing was written")
    return {"bytes": Path(path).stat().st_size, "val_accuracy": after, "fp32_val_accuracy": before}


# ---- the command ---------------------------------------------------------------------------------

def main(argv=None):
    parser = Parser(__doc__.split("\n")[0])
    add = parser.add_argument
    add("file", type=non_empty_path, help="a .pth of train.py, or with --check an .onnx")
    add("--out", type=new_file(".onnx"), help="the ONNX file (default: beside the checkpoint, with .onnx)")
    add("--check", action="store_true", help="check an ONNX file against the contract, write nothing")
    add("--on", type=non_empty_path, metavar="IMAGES",
        help="with --check of a classifier: labelled images to classify, such as mnist:test, a folder or an .npz")
    add("--int8", action="store_true", help="a classifier's convolutions in 8 bits: half the bytes, faster; needs its "
        "data set, to calibrate and to measure what is lost")
    add("--gradient", action="store_true", help="a classifier with the gradients of its answers at the pixels, for "
        "saliency maps and attacks without PyTorch")
    add("--dataset", type=non_empty_path,
        help="with --int8: the data set, where the checkpoint's own name does not find it")
    add_data_options(parser)
    args = parser.parse_args(argv)
    if args.check and (args.int8 or args.gradient or args.out):
        parser.error("--check writes nothing: leave --int8, --gradient and --out away")
    if args.int8 and args.gradient:
        parser.error("--int8 has no gradient: ask for one or the other")
    if args.on and not args.check or args.dataset and not args.int8:
        parser.error("--on needs --check, --dataset needs --int8")
    if args.check:
        return check_and_print(args)
    checkpoint = models.load(args.file, "classifier" if args.int8 or args.gradient else None)
    ending = ".int8.onnx" if args.int8 else "-gradient.onnx" if args.gradient else ".onnx"
    out = Path(args.out or str(Path(args.file).with_suffix("")) + ending)
    if args.int8:
        glyphs = data.load(args.dataset or checkpoint.info["dataset"], args.data_dir, center=not args.no_center)
        result = quantize_int8(checkpoint, out, glyphs)
        print(f"{out}: {result['bytes']:,} bytes, classifies {result['val_accuracy']:.2f} % of the validation split "
              f"correctly, in fp32 {result['fp32_val_accuracy']:.2f} %")
    else:
        result = export(with_gradient(checkpoint) if args.gradient else checkpoint, out)
        print(f"{out}: {result['bytes']:,} bytes, torch and onnxruntime differ by at most {result['max_difference']:g}")


def check_and_print(args):
    """check(), and a classifier's accuracy on the images of --on, as data.read_images() takes them, if there are any."""
    path, on = args.file, args.on
    kind, meta = check(path)
    print(f"{path}: a {kind} of {meta['dataset']}, {len(meta['classes'])} classes, opset {OPSET}, batches "
          f"{', '.join(map(str, batches_of(kind)))}: as promised")
    if on:
        images, labels, _, classes = data.read_images(on, args.data_dir, center=not args.no_center)
        if kind != "classifier":
            raise UserError(f"--on wants a classifier: {path} is a {kind}")
        if labels is None:
            raise UserError(f"--on wants images with labels: {on} has none")
        if classes not in (None, meta["classes"]):
            raise UserError(f"{path} knows the classes {', '.join(meta['classes'][:10])}, {on} {', '.join(classes[:10])}")
        print(f"{100 * accuracy(path, images, labels):.2f} % of the {len(images):,} images of {on} classified correctly")


if __name__ == "__main__":
    run_command(main)
