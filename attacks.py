"""How often is a classifier still right when somebody changes its images, within bounds, to mislead it?

    python attacks.py saved_models/classifier.pth --on mnist:test --n 1000 --eps 0.1
    python attacks.py saved_models/classifier.pth --norm l2 --eps 1.5 --attacks apgd-ce,square
    python attacks.py saved_models/classifier-gradient.onnx                # what an app has: the same, by onnxruntime

    result = robust_accuracy(network, images, labels, eps=0.1)             # uint8 [N, 28, 28], int64 [N]
    robust_accuracy_curve(network, images, labels, [0, 0.1, 0.2, 0.3])     # accuracy by eps, quicker
    x_adv = pgd(network, x, y, eps=0.1)                                    # one attack alone

Robust accuracy is the share of images that are classified correctly after every attack: further attacks can only lower
it. Attacks also fail against a network that hides its gradients, so a flag says where it should not be believed.

Every attack is `attack(network, x, y, eps, norm, ..., seed)` -> x_adv: x float32 [N, C, H, W] in [0, 1], y int64 [N];
norm "linf" (no pixel changes by more than eps) or "l2" (the root of the summed squares of all changes is at most eps).
The network gives logits [N, K]; it is copied, so that its weights, mode and gradients stay as they are. An image that
is misclassified already is given back as it is; one that is flipped is given back at once, and leaves the batch.
"""
if __name__ == "__main__":                     # before the imports that take seconds
    from utils.cli import stop_quietly
    stop_quietly()

import copy
import itertools
import json
import math
import sys
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import data
import models
from utils.cli import Parser, Progress, add_data_options, non_empty_path, number, run_command
from utils.files import UserError

BATCH = 64                  # images at a time: on a CPU larger ones leave the cache
PGD_RESTARTS = 2
CHECKPOINTS = [0, 0.22]     # of APGD, shares of its steps: each gap is 0.03 shorter than the last, at least 0.06
while CHECKPOINTS[-1] < 1:
    CHECKPOINTS.append(CHECKPOINTS[-1] + max(CHECKPOINTS[-1] - CHECKPOINTS[-2] - 0.03, 0.06))
FIRST_WINDOW = 0.8          # of Square: share of the image
HALVINGS = [0.001, 0.005, 0.02, 0.1, 0.2, 0.4, 0.6, 0.8]      # of Square's window, shares of its queries
GREY_EPS = 0.5              # at this L-infinity bound every image can be turned to even grey: nothing can be robust
CHECKED_IMAGES = 100        # of self_check
MAX_ZERO_GRADIENTS = 0.01   # share of images without a gradient above which it is a flag
MAX_GREY_ACCURACY = 0.05    # accuracy at GREY_EPS above which it is a flag
MAX_GRADIENT_FREE = 0.01    # share of images that only Square flips above which it is a flag


def folded_copy(network):
    """A copy to be attacked: in eval mode, weights fixed, batch norm folded into the convolutions before it (the same
    function up to rounding, a third faster)."""
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for parent in [m for m in network.modules() if isinstance(m, nn.Sequential)]:
        for i, (layer, norm) in enumerate(itertools.pairwise(parent)):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats:
                parent[i], parent[i + 1] = nn.utils.fuse_conv_bn_eval(layer, norm), nn.Identity()
    return network


@torch.no_grad()
def predict_logits(network, x):
    """x float32 [N, C, H, W] in [0, 1] -> logits float32 [N, K], a batch at a time, without gradients."""
    return torch.cat([network(part).float() for part in x.split(BATCH)])


def misclassified(network, x, y):
    """bool [N]: for which images the largest logit is not that of y. Where a logit is nan, it is not."""
    if not len(x):
        return torch.zeros(0, dtype=torch.bool, device=x.device)
    logits = predict_logits(network, x)
    return (logits.argmax(1) != y) | logits.isnan().any(1)


def loss_and_gradient(network, x, y, loss):
    """(loss float32 [N], its gradient at the pixels [N, C, H, W], logits [N, K]) of a folded_copy()."""
    batches = []
    for part, label in zip(x.split(BATCH), y.split(BATCH)):
        part = part.detach().clone().requires_grad_()
        logits = network(part)
        values = loss(logits, label)
        # 0 * part: where the network has no gradient at all, it is zero
        gradient, = torch.autograd.grad(values.sum() + 0 * part.sum(), part)
        batches.append((values.detach(), gradient, logits.detach()))
    return tuple(torch.cat(parts) for parts in zip(*batches))


def prepare(network, x, y, norm):
    """What every attack starts with: (the network to attack, a copy of x for its result, the indices int64 [n] of the
    images that are classified correctly). Raises UserError for an unknown norm."""
    if norm not in ("linf", "l2"):
        raise UserError(f"no norm {norm!r}: linf or l2")
    network = folded_copy(network)
    return network, x.clone(), torch.nonzero(~misclassified(network, x, y)).squeeze(1)


# ---- losses, balls -------------------------------------------------------------------------------

def margin(logits, y):
    """float [N]: the right class's logit above the best wrong one's; negative where an image is misclassified."""
    wrong = logits.scatter(1, y[:, None], -math.inf).amax(1)
    return logits.gather(1, y[:, None]).squeeze(1) - wrong


def dlr(logits, y):
    """Difference of logits ratio, float [N] (Croce and Hein 2020, arXiv:2003.01690, equation 6): the negative margin over
    the gap between the largest and the third largest logit (of two classes: the negative margin). Unlike cross-entropy
    it does not vanish where the network is sure, and no scaling of the logits changes it."""
    if logits.shape[1] < 3:
        return -margin(logits, y)
    top = logits.topk(3, 1).values
    return -margin(logits, y) / (top[:, 0] - top[:, 2] + 1e-12)


LOSSES = {"ce": partial(F.cross_entropy, reduction="none"), "dlr": dlr}


def targeted_dlr(logits, y_and_target):
    """The same towards one wrong class (equation 7 of the paper), float [N], of labels int64 [N, 2], the right and the
    wrong one: their difference over the gap between the largest logit and the mean of the third and the fourth (of
    fewer than four classes the difference alone: over that of the first and the third it could be constant)."""
    right, wrong = logits.gather(1, y_and_target).unbind(1)
    if logits.shape[1] < 4:
        return wrong - right
    top = logits.topk(4, 1).values
    return (wrong - right) / (top[:, 0] - top[:, 2:].mean(1) + 1e-12)


def l2_norm(delta):
    """float [N, 1, 1, 1]: the L2 norm of each image's change."""
    return delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def project(x, clean, eps, norm):
    """The nearest point of the ball of radius eps around `clean`, then cut to [0, 1], which does not lead out of it."""
    delta = x - clean
    delta = delta.clamp(-eps, eps) if norm == "linf" else delta * (eps / l2_norm(delta).clamp(min=1e-12)).clamp(max=1)
    return (clean + delta).clamp(0, 1)


def direction(gradient, norm):
    """The step of length 1 that raises the loss most."""
    return gradient.sign() if norm == "linf" else gradient / l2_norm(gradient).clamp(min=1e-12)


def random_start(x, eps, norm, rng):
    """A point drawn from the ball around each image, evenly, cut to [0, 1]. `rng`: of the CPU here and below, so that
    every device sees the same numbers."""
    if norm == "linf":
        delta = 2 * torch.rand(x.shape, generator=rng) - 1
    else:
        delta = torch.randn(x.shape, generator=rng)
        radius = torch.rand([len(x), 1, 1, 1], generator=rng) ** (1 / x.shape[1:].numel())
        delta = delta / l2_norm(delta) * radius
    return (x + eps * delta.to(x.device)).clamp(0, 1)


# ---- the attacks ---------------------------------------------------------------------------------

def fgsm(network, x, y, eps, norm="linf", seed=0):
    """Fast gradient (sign) method (Goodfellow et al. 2015, arXiv:1412.6572): one step to the rim of the ball. Nothing is
    drawn: `seed` is there so that all attacks are called alike."""
    network, result, i = prepare(network, x, y, norm)
    if len(i):
        gradient = loss_and_gradient(network, x[i], y[i], LOSSES["ce"])[1]
        result[i] = project(x[i] + eps * direction(gradient, norm), x[i], eps, norm)
    return result


def pgd(network, x, y, eps, norm="linf", steps=30, seed=0):
    """Projected gradient ascent on cross-entropy from PGD_RESTARTS random starts (Madry et al. 2018, arXiv:1706.06083),
    in steps of length 2.5 eps / steps. An image that is not flipped is given back as the last step left it."""
    network, result, index = prepare(network, x, y, norm)
    rng = torch.Generator().manual_seed(seed)
    for _ in range(PGD_RESTARTS):
        x_adv = random_start(x, eps, norm, rng)[index]
        for _ in range(steps):
            if not len(index):
                return result
            _, gradient, logits = loss_and_gradient(network, x_adv, y[index], LOSSES["ce"])
            robust = logits.argmax(1) == y[index]
            result[index[~robust]] = x_adv[~robust]
            index, x_adv, gradient = index[robust], x_adv[robust], gradient[robust]
            x_adv = project(x_adv + 2.5 * eps / steps * direction(gradient, norm), x[index], eps, norm)
        result[index] = x_adv
        index = index[~misclassified(network, x_adv, y[index])]
    return result


def apgd(network, x, y, eps, norm="linf", loss="ce", steps=50, seed=0, target=None):
    """Auto-PGD (Croce and Hein 2020, arXiv:2003.01690, algorithm 1), on cross-entropy ("ce") or on "dlr"; with `target`
    int64 [N] on targeted_dlr() towards those classes.

    Steps with momentum 0.75, the first of length 2 eps; at each checkpoint an image whose loss rose in fewer than three
    of four steps since the last one, or whose best loss and step size have not changed since then, goes back to its best
    point with half the step size. An image that is not flipped is given back at its highest loss."""
    network, result, index = prepare(network, x, y, norm)
    if not len(index):
        return result

    objective, labels = (LOSSES[loss], y) if target is None else (targeted_dlr, torch.stack([y, target], 1))
    start = random_start(x, eps, norm, torch.Generator().manual_seed(seed))[index]
    infinity, step_size = (torch.full([len(index)], value, device=x.device) for value in (math.inf, 2.0 * eps))
    # one row for each image; n_increased counts its steps since the last checkpoint that raised the loss
    s = SimpleNamespace(index=index, x=start, x_before=start, x_best=start, gradient_best=start, loss=infinity,
                        loss_best=-infinity, loss_best_at_checkpoint=-infinity, step_size=step_size,
                        step_size_at_checkpoint=step_size, n_increased=torch.zeros_like(step_size))
    checkpoints, last_checkpoint = {math.ceil(share * steps) for share in CHECKPOINTS}, 0     # the start is one, too
    for k in range(steps + 1):
        loss_before = s.loss
        s.loss, s.gradient, logits = loss_and_gradient(network, s.x, labels[s.index], objective)
        flipped = logits.argmax(1) != y[s.index]
        result[s.index[flipped]] = s.x[flipped]
        s.n_increased = s.n_increased + (s.loss > loss_before)
        s = SimpleNamespace(**{name: rows[~flipped] for name, rows in vars(s).items()})
        if not len(s.index):
            return result
        better = s.loss > s.loss_best
        s.x_best[better], s.loss_best[better], s.gradient_best[better] = s.x[better], s.loss[better], s.gradient[better]
        if k in checkpoints:
            stuck = (s.step_size == s.step_size_at_checkpoint) & (s.loss_best == s.loss_best_at_checkpoint)
            halve = (s.n_increased < 0.75 * (k - last_checkpoint)) | stuck
            s.step_size_at_checkpoint, s.loss_best_at_checkpoint = s.step_size.clone(), s.loss_best
            s.step_size[halve] /= 2
            s.x[halve], s.loss[halve], s.gradient[halve] = s.x_best[halve], s.loss_best[halve], s.gradient_best[halve]
            s.n_increased, last_checkpoint = torch.zeros_like(s.loss), k
        clean = x[s.index]
        moved = project(s.x + s.step_size.view(-1, 1, 1, 1) * direction(s.gradient, norm), clean, eps, norm)
        if k > 0:
            moved = project(s.x + 0.75 * (moved - s.x) + 0.25 * (s.x - s.x_before), clean, eps, norm)
        s.x_before, s.x = s.x, moved
    result[s.index] = s.x_best
    return result


def apgd_targeted(network, x, y, eps, norm="linf", targets=9, steps=100, seed=0):
    """APGD on the targeted DLR, towards each image's `targets` likeliest wrong classes (or as many as there are) one
    after the other: apgd-t of AutoAttack, where it finds most of what the others miss. With many classes it is also
    the longest by far: targets x steps gradients of an image that withstands all."""
    network, result, index = prepare(network, x, y, norm)
    if not len(index):
        return result
    logits = predict_logits(network, x[index]).scatter(1, y[index, None], -math.inf)
    likeliest = logits.topk(min(targets, logits.shape[1] - 1), 1).indices           # [n, targets]
    for k in range(likeliest.shape[1]):
        found = apgd(network, x[index], y[index], eps, norm, steps=steps, seed=seed + k, target=likeliest[:, k])
        result[index] = found
        robust = ~misclassified(network, found, y[index])
        index, likeliest = index[robust], likeliest[robust]
    return result


def square(network, x, y, eps, norm="linf", queries=400, seed=0):
    """Square attack (Andriushchenko et al. 2020, arXiv:1912.00049): random search with square windows that shrink; a
    change is kept where it lowers the margin. In fp32, as all else here: in bf16 it is three times as fast, but blind
    to small gains, and flips fewer images with as many queries."""
    network, result, index = prepare(network, x, y, norm)
    if not len(index):
        return result
    rng = torch.Generator().manual_seed(seed)
    start, propose = (stripes, propose_linf) if norm == "linf" else (tiles, propose_l2)
    x_adv = start(x, eps, rng)[index]
    best = margin(predict_logits(network, x_adv), y[index])
    for query in range(1, queries):
        robust = best >= 0
        result[index[~robust]] = x_adv[~robust]
        index, x_adv, best = index[robust], x_adv[robust], best[robust]
        if not len(index):
            return result
        share = FIRST_WINDOW / 2 ** sum(query > h * queries for h in HALVINGS)
        side = min(round(math.sqrt(share * x.shape[-1] * x.shape[-2])), *x.shape[-2:])
        candidate = propose(x, x_adv, index, eps, side, rng)
        value = margin(predict_logits(network, candidate), y[index])
        better = value < best
        x_adv[better], best[better] = candidate[better], value[better]
    result[index] = x_adv
    return result


def signs(shape, rng, device):
    """float32 of the shape: -1 or 1, evenly."""
    return (2 * torch.randint(2, shape, generator=rng) - 1).to(device, torch.float32)


def random_window(x, side, index, rng):
    """A square of `side` pixels at a random place of each image x[index], as indices of its pixels: tensors that
    broadcast to [n, side, side], for images[n, :, rows, columns], which is [n, side, side, C]."""
    rows, columns = (torch.randint(size - side + 1, [len(x)], generator=rng).to(x.device)[index][:, None] +
                     torch.arange(side, device=x.device) for size in x.shape[-2:])
    return torch.arange(len(index), device=x.device)[:, None, None], slice(None), rows[:, :, None], columns[:, None, :]


def stripes(x, eps, rng):
    """Square's L-infinity start: every column of pixels eps up or down."""
    return (x + eps * signs([len(x), x.shape[1], 1, x.shape[3]], rng, x.device)).clamp(0, 1)


def propose_linf(x, x_adv, index, eps, side, rng):
    """All pixels of a window eps up, or all eps down, each channel by itself. What would change nothing (background that
    is to go darker) goes the other way."""
    window = random_window(x, max(side, 1), index, rng)
    sign = signs([len(x), 1, 1, x.shape[1]], rng, x.device)[index]
    clean = x[index][window]
    new = (clean + eps * sign).clamp(0, 1)
    unchanged = (new - x_adv[window]).abs().flatten(1).amax(1) < 1e-7
    candidate = x_adv.clone()
    candidate[window] = torch.where(unchanged[:, None, None, None], (clean - eps * sign).clamp(0, 1), new)
    return candidate


def bump(side, device):
    """float32 [side, side]: two hills side by side, one up and one down, of norm 1 (section 3.2 of the paper). A hill of
    h rows and w columns is largest in the middle: 1 / (n + 1 - k)^2 summed over the rings around a pixel."""
    def hill(h, w):
        n = h // 2
        ring = torch.maximum((torch.arange(h) - n).abs()[:, None], (torch.arange(w) - w // 2).abs()[None])
        weight = torch.tensor([1 / (n + 1 - k) ** 2 for k in range(n + 1)]).cumsum(0)
        return torch.where(ring <= n, weight[(n - ring).clamp(0)], 0.0)
    both = torch.cat([hill(side, side // 2), -hill(side, side - side // 2)], 1)
    return (both / both.norm()).to(device)


def tiles(x, eps, rng):
    """Square's L2 start: bumps of random sign and side by side all over the image, of length eps together."""
    side = max(3, min(x.shape[-2:]) // 5)
    rows, columns = (math.ceil(size / side) for size in x.shape[-2:])
    sign = signs([len(x), x.shape[1], rows, 1, columns, 1], rng, x.device)
    delta = sign * bump(side, x.device)[None, None, None, :, None, :]
    delta = delta.flatten(4, 5).flatten(2, 3)[..., :x.shape[-2], :x.shape[-1]]
    return (x + eps * delta / l2_norm(delta)).clamp(0, 1)


def propose_l2(x, x_adv, index, eps, side, rng):
    """Take the change out of one window and spend it, with what is left of eps, on a bump in another (algorithm 3)."""
    side = max(side, 3)
    target, source = random_window(x, side, index, rng), random_window(x, side, index, rng)
    sign = signs([len(x), 1, 1, x.shape[1]], rng, x.device)[index]
    turned = signs([len(x)], rng, x.device)[index] > 0
    hill = bump(side, x.device)
    hill = torch.where(turned[:, None, None], hill, hill.T)[..., None]                      # [n, side, side, 1]
    clean = x[index]
    delta = x_adv - clean
    unused = (eps ** 2 - l2_norm(delta).square()).clamp(min=0) / x.shape[1]                  # [n, 1, 1, 1]

    def unit(part):                                                                         # each channel of length 1
        return part / part.square().sum((1, 2), keepdim=True).sqrt().clamp(min=1e-12)
    kept = delta.clone()
    kept[target], kept[source] = 0.0, 0.0
    freed = (delta.square() - kept.square()).sum((2, 3))[:, None, None]                     # of both windows together
    kept[target] = unit(sign * hill + unit(delta[target])) * (freed + unused).clamp(min=0).sqrt()
    return project(clean + kept, clean, eps, "l2")


ATTACKS = {"fgsm": fgsm, "pgd": pgd, "apgd-ce": partial(apgd, loss="ce"), "apgd-dlr": partial(apgd, loss="dlr"),
           "apgd-t": apgd_targeted, "square": square}
GRADIENT_FREE = {"square"}
STRONG = {name: partial(ATTACKS[name], steps=25) for name in ("apgd-ce", "apgd-dlr")}     # for curves


# ---- all of them, with checks --------------------------------------------------------------------

def check_inputs(network, images, labels, eps):
    """(x float32 [N, 1, H, W] in [0, 1], y int64 [N], a copy of the network in eval mode) of what robust_accuracy() is
    given. Raises UserError for what cannot be attacked: other arrays, probabilities in place of logits, nan."""
    if images.dtype != np.uint8 or images.ndim != 3 or labels.shape != images.shape[:1] or not len(images):
        raise UserError(f"an attack needs uint8 images [N, H, W] and N labels, not {images.dtype} {list(images.shape)} "
                        f"and {list(labels.shape)}")
    if not 0 <= np.min(eps) <= np.max(eps) < math.inf:
        raise UserError(f"eps {eps} is no bound on changes: a number from 0 on is needed")
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    x, y = models.from_uint8(torch.from_numpy(images)).to(device), torch.from_numpy(labels.astype(np.int64)).to(device)
    model, n = copy.deepcopy(network).eval(), min(len(x), 256)   # not folded: this one decides what is misclassified
    logits = predict_logits(model, x[:n])
    if logits.ndim != 2 or len(logits) != n or logits.shape[1] < 2 or not logits.isfinite().all():
        raise UserError(f"the network gives {list(logits.shape)} for {n} images, or numbers that are not finite: "
                        "attacks need logits [N, classes] of a network that works")
    if (logits >= 0).all() and ((logits.sum(1) - 1).abs() < 1e-3).all():
        raise UserError("the network gives probabilities; their gradients vanish where it is sure, and it would look "
                        "robust without being so: leave its softmax out, attacks need logits")
    if y.min() < 0 or y.max() >= logits.shape[1]:
        raise UserError(f"labels run from {y.min()} to {y.max()}, but the network knows {logits.shape[1]} classes")
    return x, y, model


def robust_accuracy(network, images, labels, eps, norm="linf", attacks=ATTACKS, seed=0, alone=False, say=None):
    """Attack a classifier with every attack of the dict, and check that the result can be believed.

    images uint8 [N, 28, 28], labels int64 [N] (arrays). One attack after the other works on what is still robust,
    so that its accuracy is that under it and all before it; `alone=True` lets each attack try all images.
    `say(text)` is called after each. Returns JSON types: n, eps, norm, seed, alone, clean, robust (accuracies),
    seconds, check_seconds, attacks {name: accuracy, attacked, flipped, seconds}, checks {name: number}, flags
    [text], where the network may look more robust than it is. Raises UserError as check_inputs() does."""
    x, y, model = check_inputs(network, images, labels, eps)
    clean = ~misclassified(model, x, y)
    robust, rows, largest, lowest, highest = clean.clone(), {}, 0.0, 0.0, 1.0
    # images attacked by gradients, flipped by gradients, flipped without
    by_gradient, flipped_by_gradient, flipped_without = (torch.zeros_like(clean) for _ in range(3))
    for name, attack in attacks.items():
        start = time.perf_counter()
        i = torch.nonzero(clean if alone else robust).squeeze(1)
        x_adv = attack(network, x[i], y[i], eps, norm, seed=seed)
        flipped = misclassified(model, x_adv, y[i])
        robust[i[flipped]] = False
        if name in GRADIENT_FREE:
            flipped_without[i[flipped]] = True
        else:
            by_gradient[i], flipped_by_gradient[i[flipped]] = True, True
        if len(i):
            delta = x_adv - x[i]
            largest = max(largest, float(delta.abs().max() if norm == "linf" else l2_norm(delta).max()))
            lowest, highest = min(lowest, float(x_adv.min())), max(highest, float(x_adv.max()))
        seconds, count = round(time.perf_counter() - start, 2), int(flipped.sum())
        rows[name] = {"accuracy": (len(i) - count) / len(x), "attacked": len(i), "flipped": count, "seconds": seconds}
        if say:
            say(f"{name}: {count:,} of {len(i):,} images flipped in {seconds:.1f} s")
    start = time.perf_counter()
    checks = self_check(network, model, x, y, clean, norm, seed)
    checks |= {"largest_change": largest, "lowest_pixel": lowest, "highest_pixel": highest,
               "flipped_by_gradient_free_only": int((flipped_without & ~flipped_by_gradient & by_gradient).sum())}
    seconds = time.perf_counter() - start
    result = {"n": len(x), "eps": eps, "norm": norm, "seed": seed, "alone": alone, "clean": float(clean.float().mean()),
              "robust": float(robust.float().mean()), "attacks": rows, "checks": checks, "check_seconds": round(seconds, 2),
              "seconds": round(sum(row["seconds"] for row in rows.values()) + seconds, 2)}
    return {**result, "flags": list(flags(result))}


def robust_accuracy_curve(network, images, labels, eps, norm="linf", attacks=STRONG, seed=0):
    """Robust accuracy at several bounds `eps`, which must rise: a list of floats, without checks. An image that is
    flipped at one bound counts as flipped at all larger ones, whose balls contain that change."""
    x, y, model = check_inputs(network, images, labels, eps)
    robust, curve = ~misclassified(model, x, y), []
    for bound in eps:
        for attack in attacks.values() if bound else []:
            i = torch.nonzero(robust).squeeze(1)
            robust[i] = ~misclassified(model, attack(network, x[i], y[i], bound, norm, seed=seed), y[i])
        curve.append(float(robust.float().mean()))
    return curve


def self_check(network, model, x, y, clean, norm, seed):
    """Numbers by which a network that only hides its gradients gives itself away, on up to CHECKED_IMAGES images that
    `model`, the network in eval mode, classifies correctly (`clean` bool [N])."""
    i = torch.nonzero(clean).squeeze(1)[:CHECKED_IMAGES]
    if not len(i):
        return {"zero_gradients": 0.0, "accuracy_at_grey": 0.0, "grey_eps": 0.0, "answers_differ": 0.0}
    x, y = x[i], y[i]
    gradient = loss_and_gradient(folded_copy(network), x, y, LOSSES["ce"])[1]
    eps = GREY_EPS * (1 if norm == "linf" else x[0].numel() ** 0.5)
    robust = torch.ones(len(i), dtype=torch.bool, device=x.device)
    for loss in LOSSES:
        j = torch.nonzero(robust).squeeze(1)
        robust[j] = ~misclassified(model, apgd(network, x[j], y[j], eps, norm, loss, seed=seed), y[j])
    return {"zero_gradients": float((gradient.flatten(1).abs().amax(1) == 0).float().mean()),
            "accuracy_at_grey": float(robust.float().mean()), "grey_eps": eps,
            "answers_differ": float((predict_logits(model, x) - predict_logits(model, x)).abs().max())}


def flags(result):
    """Yield what in a result of robust_accuracy() speaks against believing it, a sentence each."""
    c = result["checks"]
    if c["largest_change"] > result["eps"] + 1e-6:
        yield f"an attack changed an image by {c['largest_change']:.6f}, more than eps"
    if c["lowest_pixel"] < 0 or c["highest_pixel"] > 1:
        yield f"an attack left the range of pixels: {c['lowest_pixel']:.4f} to {c['highest_pixel']:.4f}"
    if c["zero_gradients"] > MAX_ZERO_GRADIENTS:
        yield f"the gradient is exactly zero at {c['zero_gradients']:.1%} of images: masked gradients"
    if c["accuracy_at_grey"] > MAX_GREY_ACCURACY:
        yield (f"{c['accuracy_at_grey']:.1%} are robust even at eps {c['grey_eps']:.3g}, which turns any image to grey: "
               "the attacks fail, not the images")
    if c["flipped_by_gradient_free_only"] > MAX_GRADIENT_FREE * result["n"]:
        yield (f"the gradient-free attack flipped {c['flipped_by_gradient_free_only']:,} images that no white-box "
               "attack did: masked gradients, or too few steps")
    if c["answers_differ"] > 1e-4:
        yield f"the network answers the same image differently (by {c['answers_differ']:.2g}): it draws at random"
    if result["clean"] < 0.5:
        yield f"only {result['clean']:.1%} of the unchanged images are classified correctly"


def table(result):
    """The text that the command prints for a result of robust_accuracy()."""
    c, order = result["checks"], "alone" if result["alone"] else "so far"
    lines = [f"{result['n']:,} images, {result['norm']} eps {result['eps']:g}",
             f"{'':10} {'accuracy':>9} {'attacked':>9} {'flipped':>7} {'seconds':>8}   ({order})",
             f"{'clean':10} {result['clean']:9.2%}"]
    lines += [f"{name:10} {row['accuracy']:9.2%} {row['attacked']:9,} {row['flipped']:7,} {row['seconds']:8.1f}"
              for name, row in result["attacks"].items()]
    lines.append(f"{'robust':10} {result['robust']:9.2%} {'':17} {result['seconds']:8.1f}")
    lines.append(f"checks: largest change {c['largest_change']:.6f}, pixels {c['lowest_pixel']:g} to "
                 f"{c['highest_pixel']:g}, zero gradients {c['zero_gradients']:.1%},")
    lines.append(f"        accuracy at eps {c['grey_eps']:.3g} {c['accuracy_at_grey']:.1%}, flipped by the gradient-free "
                 f"attack only {c['flipped_by_gradient_free_only']:,}, answers repeat within {c['answers_differ']:.2g}")
    return "\n".join(lines + ([f"FLAG: {text}" for text in result["flags"]] or ["no flags"]))


# ---- the command ---------------------------------------------------------------------------------

def random_subset(images, labels, n, seed):
    """n images with their labels, drawn by seed, in their order (the first ones of MNIST's test are the easier half)."""
    keep = np.sort(np.random.default_rng(seed).permutation(len(images))[:n])
    return images[keep], labels[keep]


def main(argv=None):
    parser = Parser("Attack a classifier and print its accuracy, attack by attack, with checks.")
    add = parser.add_argument
    add("classifier", type=non_empty_path, help="a classifier of train.py: the .pth, or its -gradient.onnx")
    add("--on", default="mnist:test", help="NAME:SPLIT, or labelled images as fid.py takes them")
    add("--n", type=number(int, above=0), default=1000, help="images, drawn by --seed")
    add("--eps", type=number(float, at_least=0, at_most=1000), default=0.1,
        help="bound on the change of an image, pixels in [0, 1]")
    add("--norm", choices=["linf", "l2"], default="linf", help="what is bounded: each pixel's change, or their L2 norm")
    add("--attacks", default=",".join(ATTACKS), help="comma-separated, in this order")
    add("--alone", action="store_true", help="let each attack try all images, not only those that are still robust")
    add_data_options(parser, center=False)
    add("--seed", type=number(int, at_least=0, below=2 ** 32), default=0, help="of images, random starts and searches")
    add("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args(argv)
    names = args.attacks.split(",")
    if not set(names) <= set(ATTACKS):
        parser.error(f"--attacks {args.attacks}: choose of {','.join(ATTACKS)}")
    checkpoint = models.load_classifier(args.classifier)
    images, labels, _, classes = data.read_images(args.on, args.data_dir)
    if labels is None:
        raise UserError(f"{args.on} has no labels: an attack must know what is right")
    if classes not in (None, checkpoint.classes):
        raise UserError(f"{args.on} has other classes than {args.classifier} was trained on "
                        f"({checkpoint.info['dataset']}): give --on its own data set")
    images, labels = random_subset(images, labels, args.n, args.seed)
    result = robust_accuracy(checkpoint.model, images, labels, args.eps, args.norm,
                             {name: ATTACKS[name] for name in names}, args.seed, args.alone, Progress(sys.stderr))
    print(json.dumps(result, indent=1) if args.json else table(result))


if __name__ == "__main__":
    run_command(main)
