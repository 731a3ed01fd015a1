"""What a classifier looks at: saliency maps, and the measures that say whether they mean anything. Pure torch.

    classifier = models.load("saved_models/classifier.pth").model
    maps = saliency.METHODS["Grad-CAM"](classifier, images, labels)      # of any class, not only of the answer
    figures.overlay(models.to_uint8(images)[0].numpy(), maps[0])

Images are float32 [N, 1, 28, 28] in [0, 1], ink 1; `labels` the classes to explain, int64 [N] or one int for all; maps
float32 [N, 28, 28], signed unless said. The explained score is the logit. A method computes in eval mode and leaves the
network as it was: weights, running statistics, mode, requires_grad, .grad and hooks. A map depends on (network, image,
label, seed) alone, up to rounding not on the other images of its batch.
"""
import contextlib
import copy
import functools

import torch
import torch.nn.functional as F
from torch import nn

from utils.files import UserError

BLOCK = 256                # images in one pass: more is no faster on a CPU
TOLERANCE = 0.01           # of the completeness of integrated gradients, relative to the logit difference ...
SMALL_DIFFERENCE = 0.1     # ... or to this where the difference is smaller: it may be zero
MAX_STEPS = 1024           # where integrated gradients give up refining
ACTIVATIONS = (nn.BatchNorm2d, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU)


# ---- maps ------------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def evaluating(model):
    """Eval mode and gradients on; afterwards every module is in the mode it was in."""
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def checked(model, images, labels):
    """Images and labels on the network's device. Raises UserError where they are not what every method here takes."""
    device = next(model.parameters()).device
    if images.dtype != torch.float32 or images.ndim != 4 or images.shape[1] != 1:
        raise UserError(f"saliency needs images float32 [N, 1, 28, 28], not {images.dtype} {list(images.shape)}: "
                        "models.from_uint8 makes them")
    if len(images) and not 0 <= images.min() <= images.max() <= 1:
        raise UserError(f"saliency needs pixels in [0, 1], not {images.min():g} to {images.max():g}")
    labels = torch.as_tensor(labels)
    if labels.dtype != torch.int64 or labels.shape not in ((), (len(images),)):
        raise UserError(f"saliency needs one int64 label for each of {len(images)} images, or one for all, not "
                        f"{labels.dtype} {list(labels.shape)}")
    # copies: tensors made in inference mode, such as a network's answers, are of no use to autograd
    return images.detach().to(device, copy=True), labels.expand(len(images)).to(device, copy=True)


def explains(method):
    """A method's common frame: checks, eval mode, blocks of images, maps [N, H, W] on the device of the images."""
    @functools.wraps(method)
    def run(model, images, labels, **options):
        with evaluating(model):
            x, y = checked(model, images, labels)
            maps = [method(model, *block, **options).detach() for block in zip(x.split(BLOCK), y.split(BLOCK))]
        return torch.cat(maps).squeeze(1).to(images.device) if maps else images[:, 0]
    return run


def slope(model, x, y):
    """The gradient of logit y with respect to each image: float32 [N, 1, H, W]."""
    x = x.clone().requires_grad_()
    score = model(x).gather(1, y[:, None]).sum()
    return torch.autograd.grad(score, x)[0]         # unlike backward(), leaves the .grad of the weights alone


def mean_slope(model, variants, weights, x, y):
    """The weighted mean gradient over variants of each image: `variants(x, k)` is the k-th of all images x."""
    total, n = torch.zeros_like(x), len(weights)
    rows = max(1, BLOCK // len(x))                  # of few images many variants are put through at once
    for start in range(0, n, rows):
        ks = range(start, min(n, start + rows))
        slopes = slope(model, torch.cat([variants(x, k) for k in ks]), y.repeat(len(ks)))
        total += torch.einsum("k,k...->...", weights[start:start + len(ks)].to(x), slopes.view(len(ks), *x.shape))
    return total


@explains
def gradient(model, images, labels):
    """How much a little more ink at each pixel raises the logit (Simonyan et al. 2013, arXiv:1312.6034), signed."""
    return slope(model, images, labels)


@explains
def gradient_x_input(model, images, labels):
    """Gradient times pixel (Shrikumar et al. 2016, arXiv:1605.01713): zero by construction where there is no ink."""
    return slope(model, images, labels) * images


@explains
def smoothgrad(model, images, labels, samples=32, sigma=0.15, seed=0):
    """The mean gradient under Gaussian noise of deviation `sigma` (Smilkov et al. 2017, arXiv:1706.03825), signed.

    The same `samples` noise pictures, drawn by `seed`, serve every image. Noisy pixels are not clipped to [0, 1].
    """
    rng = torch.Generator().manual_seed(seed)
    noise = (sigma * torch.randn(samples, *images.shape[1:], generator=rng)).to(images.device)
    return mean_slope(model, lambda x, k: x + noise[k], torch.full((samples,), 1 / samples), images, labels)


@explains
def integrated_gradients(model, images, labels, baseline=0.0, steps=64, tolerance=TOLERANCE):
    """(image - baseline) times the mean gradient on the straight way between them (Sundararajan et al. 2017,
    arXiv:1703.01365): a map that sums to logit(image) - logit(baseline), its completeness.

    baseline: a grey level for all pixels; with 0, blank paper, pixels without ink get zero. The steps are doubled for
    those images whose completeness_error exceeds `tolerance`, up to MAX_STEPS. Midpoint rule with steps that widen
    from the baseline on, at a = u^2 for even u: the network is piecewise linear, so that the gradient jumps, most often
    near blank paper. (Rules for smooth functions gain nothing here: Gauss and Legendre's was no better at any number of
    steps, and even steps had twice the error.)
    """
    u = (torch.arange(steps) + 0.5) / steps
    spread = mean_slope(model, lambda x, k: baseline + (x - baseline) * u[k] ** 2, 2 * u / steps, images, labels)
    maps = (images - baseline) * spread
    short = incompleteness(model, images, labels, maps, baseline) > tolerance
    if short.any() and 2 * steps <= MAX_STEPS:
        maps[short] = integrated_gradients.__wrapped__(model, images[short], labels[short], baseline, 2 * steps,
                                                       tolerance)
    return maps


@torch.no_grad()
def incompleteness(model, x, y, maps, baseline):
    """completeness_error of one block of images, in eval mode."""
    ends = [model(v).gather(1, y[:, None])[:, 0] for v in (x, torch.full_like(x, baseline))]
    difference = ends[0] - ends[1]
    return (maps.flatten(1).sum(1) - difference).abs() / difference.abs().clamp(min=SMALL_DIFFERENCE)


def completeness_error(model, images, labels, maps, baseline=0.0):
    """How far maps of integrated_gradients are from summing to the logit difference: float32 [N], relative to it (to
    SMALL_DIFFERENCE where it is smaller, since it may be zero)."""
    with evaluating(model):
        x, y = checked(model, images, labels)
        blocks = zip(x.split(BLOCK), y.split(BLOCK), maps.to(x.device).split(BLOCK))
        return torch.cat([incompleteness(model, *block, baseline) for block in blocks]).to(images.device)


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


@explains
def grad_cam(model, images, labels, layer=None):
    """Where the channels that speak for the class respond (Selvaraju et al. 2017, arXiv:1610.02391): not negative.

    relu(sum over channels of weight * activation) of `layer`, by default last_convolution(model), stretched to the
    image bilinearly; a channel's weight is the mean gradient of the logit over its places.

    After global MAX pooling, as in models.Classifier, a channel acts through its largest place alone. Its gradient is
    the linear layer's weight there and zero elsewhere, so that its Grad-CAM weight is the linear layer's over the
    number of places, as after mean pooling; but the map also shows places that respond and, not being the largest, had
    no say in the logit. It tells where such features are, not where the decision was made.
    """
    kept = []
    handle = (layer or last_convolution(model)).register_forward_hook(lambda module, given, made: kept.append(made))
    try:
        score = model(images.clone().requires_grad_()).gather(1, labels[:, None]).sum()
    finally:
        handle.remove()
    weights = torch.autograd.grad(score, kept[0])[0].mean((2, 3), keepdim=True)          # [N, C, 1, 1]
    cam = F.relu((weights * kept[0]).sum(1, keepdim=True))                               # [N, 1, 7, 7]
    return F.interpolate(cam, images.shape[2:], mode="bilinear", align_corners=False)


METHODS = {"gradient": gradient, "gradient x input": gradient_x_input, "SmoothGrad": smoothgrad,
           "integrated gradients": integrated_gradients, "Grad-CAM": grad_cam}
SENSITIVITIES = ("gradient", "SmoothGrad")   # how strongly a pixel acts, either way; the others say how much it adds
TIMES_INPUT = ("gradient x input", "integrated gradients")                # zero where there is no ink, in any network


# ---- do the maps mean anything? --------------------------------------------------------------------------------------

def cascade(model, seed=0):
    """Yield (layer, network) with ever more layers re-initialised, from the last to the first, each with its batch
    norm: the cascading randomisation of Adebayo et al. 2018 (arXiv:1810.03292). Of copies; the network itself, and the
    global random state, stay as they are."""
    device, waiting = next(model.parameters()).device, []
    model = copy.deepcopy(model).cpu()                              # where a seed gives the same weights everywhere
    layers = [m for m in model.modules() if hasattr(m, "reset_parameters")]
    number = {m: i + 1 for i, m in enumerate(m for m in layers if isinstance(m, (nn.Conv2d, nn.Linear)))}
    for layer in reversed(layers):
        waiting.append(layer)
        if layer in number:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed * 1000 + number[layer])
                for module in waiting:
                    module.reset_parameters()
            waiting, kind = [], "linear" if isinstance(layer, nn.Linear) else "conv"
            yield f"{kind} {number[layer]}", copy.deepcopy(model).to(device)


def relevance(name, maps):
    """What a method's maps say of the order of pixels: the magnitude of sensitivities, the value of attributions."""
    return maps.abs() if name in SENSITIVITIES else maps


def perturbation(model, images, labels, order, insertion=False, points=29, seed=0):
    """The probability of the labels as pixels go, the most relevant first: float32 [N, points] at shares 0 ... 1 of all
    pixels. Deletion and insertion of Petsiuk et al. 2018 (arXiv:1806.07421): a deleted pixel becomes background, an
    insertion starts from blank paper. order: float [N, H, W], larger goes first, ties at random by `seed`. The mean
    over the shares (the area under the curve) is low for a good order of deletion, high for one of insertion.
    """
    x, y = checked(model, images, labels)
    values, n = order.to(x.device).flatten(1), order[0].numel()
    shuffle = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).to(x.device)
    first = shuffle[values[:, shuffle].argsort(dim=1, descending=True, stable=True)]     # [N, H * W]: pixels in order
    place = torch.empty_like(first).scatter_(1, first, torch.arange(n, device=x.device).expand_as(first))
    place, curve = place.view(len(x), 1, *order.shape[1:]), []
    with evaluating(model), torch.no_grad():
        for k in torch.linspace(0, n, points).round().tolist():
            shown = x * ((place < k) if insertion else (place >= k))
            logits = torch.cat([model(block) for block in shown.split(BLOCK)])
            curve.append(logits.softmax(1).gather(1, y[:, None])[:, 0])
    return torch.stack(curve, 1).to(images.device)


def area(curves):
    """Area under each curve [N, points] over the shares 0 ... 1, by trapezoids: [N]."""
    return torch.trapezoid(curves, dx=1 / (curves.shape[1] - 1), dim=1)


def sobel(images):
    """The strength of edges, a baseline that knows no classifier: float32 [N, H, W], not negative."""
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=images.device)
    across, down = F.conv2d(images, torch.stack([kernel, kernel.T])[:, None], padding=1).unbind(1)
    return torch.hypot(across, down)
