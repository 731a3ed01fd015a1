"""Which pixels speak for a classifier's answer? Saliency maps, and the measures that say whether maps mean anything.

    python saliency.py saved_models/classifier.pth digit.png --out why.png           # maps laid over a picture of a glyph
    python saliency.py saved_models/classifier.pth mnist:test --class 7 --method Grad-CAM
    python saliency.py saved_models/classifier-gradient.onnx digit.png     # the file that apps have, by onnxruntime

    maps = METHODS["Grad-CAM"](classifier, images, labels)               # of any class, not only of the answer

Images are float32 [N, 1, 28, 28] in [0, 1], ink 1; `labels` the classes to explain, int64 [N] or one int for all; maps
float32 [N, 28, 28], signed unless said. The explained score is the logit. A method computes in eval mode and leaves the
network as it was, since it works on a copy. A map depends on (network, image, label, seed) alone, to the bit, as every
image is explained by itself: in a batch of another size the rounding differs, and where two places tie for a maximum
the gradient goes to the other one.
"""
if __name__ == "__main__":                     # before the imports that take seconds
    from utils.cli import stop_quietly
    stop_quietly()

import copy
import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import data
import models
from utils import figures
from utils.cli import Parser, add_data_options, add_font_option, new_file, non_empty_path, number, run_command
from utils.files import UserError
from utils.onnx_classifier import ClassifierOfFile

BLOCK = 64                 # variants of an image in one pass: more is no faster on a CPU
TOLERANCE = 0.01           # of the completeness of integrated gradients, relative to the logit difference ...
SMALL_DIFFERENCE = 0.1     # ... or to this where the difference is smaller: it may be zero
MAX_STEPS = 1024           # where integrated gradients give up refining
ACTIVATIONS = (nn.BatchNorm2d, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU)


def prepare(model, images, labels):
    """(a copy of the network in eval mode, images and labels on its device). Raises UserError where they are not what
    every method here takes."""
    labels, device = torch.as_tensor(labels), next((p.device for p in model.parameters()), torch.device("cpu"))
    if images.dtype != torch.float32 or images.ndim != 4 or images.shape[1] != 1:
        raise UserError(f"saliency needs images float32 [N, 1, 28, 28], not {images.dtype} {list(images.shape)}: "
                        "models.from_uint8 makes them")
    if len(images) and not 0 <= images.min() <= images.max() <= 1:
        raise UserError(f"saliency needs pixels in [0, 1], not {images.min():g} to {images.max():g}")
    if labels.dtype != torch.int64 or labels.shape not in ((), (len(images),)):
        raise UserError(f"saliency needs one int64 label for each of {len(images)} images, or one for all, not "
                        f"{labels.dtype} {list(labels.shape)}")
    # copies: tensors made in inference mode, such as a network's answers, are of no use to autograd
    images = images.detach().to(device, copy=True, memory_format=torch.contiguous_format)
    return copy.deepcopy(model).eval(), images, labels.expand(len(images)).to(device, copy=True)


def one_by_one(method):
    """Turn a method for one image [1, 1, H, W] and its label [1] into one for many: with checks, in eval mode, maps
    [N, H, W] on the device of the images."""
    @functools.wraps(method)
    def explain(model, images, labels, **options):
        with torch.inference_mode(False), torch.enable_grad():
            model, x, y = prepare(model, images, labels)
            maps = [method(model, *pair, **options).detach() for pair in zip(x.split(1), y.split(1))]
        return torch.cat(maps).squeeze(1).to(images.device) if maps else images[:, 0]
    return explain


def input_gradient(model, x, y):
    """How much a little more ink at each pixel raises logit y [N] (Simonyan et al. 2013, arXiv:1312.6034), signed:
    float32 [N, 1, H, W]."""
    x = x.clone().requires_grad_()
    score = model(x).gather(1, y[:, None]).sum()
    return torch.autograd.grad(score, x)[0]


def mean_gradient(model, variants, weights, label):
    """The sum of input gradients over variants [K, 1, H, W] of one image, times weights [K]: [1, 1, H, W]."""
    gradients = [input_gradient(model, block, label.expand(len(block))) for block in variants.split(BLOCK)]
    return torch.einsum("k,k...->...", weights, torch.cat(gradients))[None]


gradient = one_by_one(input_gradient)


@one_by_one
def gradient_x_input(model, image, label):
    """Gradient times pixel (Shrikumar et al. 2016, arXiv:1605.01713): zero by construction where there is no ink."""
    return input_gradient(model, image, label) * image


@one_by_one
def smoothgrad(model, image, label, samples=32, sigma=0.15, seed=0):
    """The mean gradient under Gaussian noise of deviation `sigma` (Smilkov et al. 2017, arXiv:1706.03825), signed. The
    same `samples` noise pictures, drawn by `seed`, serve every image. Noisy pixels are not clipped to [0, 1]."""
    noise = torch.randn(samples, *image.shape[1:], generator=torch.Generator().manual_seed(seed)).to(image)
    return mean_gradient(model, image + sigma * noise, image.new_full((samples,), 1 / samples), label)


@one_by_one
def integrated_gradients(model, image, label, steps=64, tolerance=TOLERANCE):
    """The image times the mean gradient on the straight way to it from blank paper (Sundararajan et al. 2017,
    arXiv:1703.01365): a map that sums to logit(image) - logit(blank), its completeness. Zero where there is no ink.

    The steps are doubled while completeness_error exceeds `tolerance`, up to MAX_STEPS. Midpoint rule with steps that
    widen from blank paper on, at a = u^2 for even u: the gradient of a piecewise linear network jumps most often near
    blank paper. (Even steps had twice the error; Gauss and Legendre's rule was no better.)"""
    while True:
        u = ((torch.arange(steps) + 0.5) / steps).to(image)
        result = image * mean_gradient(model, image * u.view(-1, 1, 1, 1) ** 2, 2 * u / steps, label)
        steps *= 2
        if steps > MAX_STEPS or completeness_error(model, image, label, result[0]) <= tolerance:
            return result


def completeness_error(model, images, labels, maps):
    """How far maps of integrated_gradients are from summing to the logit difference: float32 [N], relative to it (to
    SMALL_DIFFERENCE where it is smaller, since it may be zero)."""
    (model, *inputs), errors = prepare(model, images, labels), []
    with torch.no_grad():
        for x, y, total in zip(*inputs, maps.flatten(1).sum(1).to(images)):
            difference = torch.sub(*model(torch.stack([x, torch.zeros_like(x)]))[:, y])
            errors.append((total - difference).abs() / difference.abs().clamp(min=SMALL_DIFFERENCE))
    return torch.stack(errors).to(images.device)


def last_convolution(model):
    """The module that gives the rectified maps of the last convolution: the convolution itself, or the last of the
    batch norm and activation that follow it directly. Raises UserError where there is no convolution."""
    modules = [m for m in model.modules() if not list(m.children())]
    at = max((i for i, m in enumerate(modules) if isinstance(m, nn.Conv2d)), default=None)
    if at is None:
        raise UserError(f"Grad-CAM needs a network with a convolution; {type(model).__name__} has none")
    while at + 1 < len(modules) and isinstance(modules[at + 1], ACTIVATIONS):
        at += 1
    return modules[at]


@one_by_one
def grad_cam(model, image, label):
    """Where the channels that speak for the class respond (Selvaraju et al. 2017, arXiv:1610.02391): not negative.

    relu(sum over channels of weight * activation) of last_convolution(model), stretched to the image bilinearly; a
    channel's weight is the mean gradient of the logit over its places. After global MAX pooling, as in
    models.Classifier, a channel acts through its largest place alone, but the map also shows places that respond and
    had no say in the logit: it tells where such features are, not where the decision was made."""
    outputs = []
    hook = last_convolution(model).register_forward_hook(lambda module, inputs, output: outputs.append(output))
    score = model(image.clone().requires_grad_()).gather(1, label[:, None]).sum()
    hook.remove()
    weights = torch.autograd.grad(score, outputs[0])[0].mean((2, 3), keepdim=True)       # [1, C, 1, 1]
    cam = F.relu((weights * outputs[0]).sum(1, keepdim=True))                            # [1, 1, 7, 7]
    return F.interpolate(cam, image.shape[2:], mode="bilinear", align_corners=False)


METHODS = {"gradient": gradient, "gradient x input": gradient_x_input, "SmoothGrad": smoothgrad,
           "integrated gradients": integrated_gradients, "Grad-CAM": grad_cam}
SENSITIVITIES = ("gradient", "SmoothGrad")   # how strongly a pixel acts, either way; the others say how much it adds
LOOKS_INSIDE = ("Grad-CAM",)                 # needs the network's layers; the others only its gradients
TIMES_INPUT = ("gradient x input", "integrated gradients")                # zero where there is no ink, in any network


# ---- do the maps mean anything? ------------------------------------------------------------------

def cascading_randomization(model, seed=0):
    """Yield (layer, copy of the network) with ever more layers re-initialised, from the last to the first, each with
    its batch norm (Adebayo et al. 2018, arXiv:1810.03292). The global random state stays as it is."""
    device = next(model.parameters()).device
    model = copy.deepcopy(model).cpu()                              # where a seed gives the same weights everywhere
    layers = [m for m in model.modules() if hasattr(m, "reset_parameters")]
    number = {m: i + 1 for i, m in enumerate(m for m in layers if isinstance(m, (nn.Conv2d, nn.Linear)))}
    for layer in reversed(layers):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed * 1000 + number.get(layer, 0))     # a batch norm draws nothing
            layer.reset_parameters()
        if layer in number:
            kind = "linear" if isinstance(layer, nn.Linear) else "conv"
            yield f"{kind} {number[layer]}", copy.deepcopy(model).to(device)


def relevance(name, maps):
    """What a method's maps say of the order of pixels: the magnitude of sensitivities, the value of attributions."""
    return maps.abs() if name in SENSITIVITIES else maps


def perturbation(model, images, labels, order, insertion=False, points=29, seed=0):
    """The probability of the labels as pixels go, the most relevant first: float32 [N, points] at shares 0 ... 1 of
    all pixels. Deletion and insertion of Petsiuk et al. 2018 (arXiv:1806.07421): a deleted pixel becomes background,
    an insertion starts from blank paper. order: float [N, H, W], larger goes first, ties at random by `seed`. The
    area under the curve is low for a good order of deletion, high for one of insertion."""
    model, x, y = prepare(model, images, labels)
    values, n = order.to(x.device).flatten(1), order[0].numel()
    shuffle = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).to(x.device)
    first = shuffle[values[:, shuffle].argsort(dim=1, descending=True, stable=True)]     # [N, H * W]: pixels in order
    rank, curve = first.argsort(1).view(len(x), 1, *order.shape[1:]), []
    with torch.no_grad():
        for k in torch.linspace(0, n, points).round().tolist():
            changed = x * ((rank < k) if insertion else (rank >= k))
            logits = torch.cat([model(block) for block in changed.split(256)])
            curve.append(logits.softmax(1).gather(1, y[:, None])[:, 0])
    return torch.stack(curve, 1).to(images.device)


def area_under_curve(curves):
    """Area under each curve [N, points] over the shares 0 ... 1, by trapezoids: [N]."""
    return torch.trapezoid(curves, dx=1 / (curves.shape[1] - 1), dim=1)


def sobel(images):
    """The strength of edges, a baseline that knows no classifier: float32 [N, H, W], not negative."""
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=images.device)
    across, down = F.conv2d(images, torch.stack([kernel, kernel.T])[:, None], padding=1).unbind(1)
    return torch.hypot(across, down)


def overlay(glyph, values):
    """A map, a tensor [H, W], over its glyph, uint8 [H, W], as figures.overlay() draws it: red for the class, blue against
    it. A few extreme pixels would leave the others pale: the scale ends at the largest but for half a percent."""
    values = values.cpu().numpy()
    return figures.overlay(glyph, values, np.quantile(np.abs(values), 0.995), scale=1)


# ---- the command ---------------------------------------------------------------------------------

def main(argv=None):
    parser = Parser("Say what a classifier answers, and draw which pixels speak for it: saliency maps over the images.")
    add = parser.add_argument
    add("classifier", type=non_empty_path, help="a classifier of train.py: the .pth, or its -gradient.onnx")
    add("images", help="a picture of a glyph, of any size, or a set of images as fid.py takes them, such as mnist:test")
    add("--out", type=new_file(".png"), default="saliency.png", help="the picture that is written: a row for each image")
    add("--method", choices=[*METHODS, "all"], default="all", help="one kind of map")
    add("--class", dest="target", metavar="NAME", help="the class to explain (default: the answer to each image)")
    add("--n", type=number(int, above=0, at_most=100), default=5, help="how many images of a set, evenly spaced")
    add_data_options(parser)
    add_font_option(parser)
    args = parser.parse_args(argv)
    checkpoint = models.load_classifier(args.classifier)
    is_file = isinstance(checkpoint.model, ClassifierOfFile)
    if is_file and args.method in LOOKS_INSIDE:
        parser.error(f"{args.method} looks at the network's layers: give it the .pth, {args.classifier} has only gradients")
    possible = [name for name in METHODS if not (is_file and name in LOOKS_INSIDE)]
    classes, methods = checkpoint.classes, possible if args.method == "all" else [args.method]
    if args.target not in (None, *classes):
        parser.error(f"--class {args.target}: the classes are {', '.join(classes[:50])}")
    images, labels, _, names = data.read_images(args.images, args.data_dir, not args.no_center)
    rows, captions = [], []
    for i in figures.evenly_spaced(len(images), args.n):
        image, name = images[i], args.images if len(images) == 1 else f"{args.images} [{i}]"
        if labels is not None:
            name += f", labelled {names[labels[i]] if names else labels[i]}"
        x = models.from_uint8(torch.from_numpy(image[None]))
        with torch.inference_mode():
            probabilities = checkpoint.model(x).softmax(1)[0].numpy()
        answer = probabilities.argmax()
        target = int(answer) if args.target is None else classes.index(args.target)
        captions.append(f"{classes[target]}: {probabilities[target]:.1%}")
        print(f"{name}: {classes[answer]} ({probabilities[answer]:.1%})" + (
            f", not {captions[-1]}" if target != answer else ""))
        maps = [METHODS[method](checkpoint.model, x, target)[0] for method in methods]
        rows.append([image, *(overlay(image, m) for m in maps)])
    footer = "Red: for the class, blue: against it; white to dark red where a map has no sign. Each map has its own scale."
    figures.save(figures.grid(rows, captions, ["image", *methods], "", footer, scale=5), args.out)
    print(args.out)


if __name__ == "__main__":
    run_command(main)
