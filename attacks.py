"""How many images does a classifier still read rightly when somebody changes them, within bounds, to be misread?

    python attacks.py saved_models/classifier.pth --on mnist:test --n 1000 --eps 0.1
    python attacks.py saved_models/classifier.pth --norm l2 --eps 1.5 --attacks apgd-ce,square

From a script or a notebook:

    network = models.load("saved_models/classifier.pth", "classifier").model
    found = robust_accuracy(network, images, labels, eps=0.1)       # uint8 [N, 28, 28], int64 [N]
    print(table(found))                                    # accuracy by attack, checks, flags

    robust_accuracy_curve(network, images, labels, [0, 0.1, 0.2, 0.3])     # accuracy by eps, quicker
    changed = pgd(network, x, y, eps=0.1)                  # one attack alone

Robust accuracy is the share of images that are read rightly after every attack: an upper bound, which further attacks
can only lower. Attacks fail against a network that hides its gradients, too, so the result comes with checks, and with
a flag where it should not be believed.

Every attack is `attack(network, x, y, eps, norm, ..., seed)` -> changed images: x float32 [N, C, H, W] in [0, 1], y int64
[N]; norm "linf" (no pixel changes by more than eps) or "l2" (the root of the summed squares of all changes is at most
eps). The network gives logits [N, K]; it is copied, so that its weights, mode and gradients stay as they are. An image
that is misclassified already is given back as it is; one that is flipped is given back at once, and leaves the batch.
"""
import copy
import json
import math
import sys
import time
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import data
import models
from utils.cli import Parser, add_data_options, number, run_command
from utils.files import UserError

BATCH = 64                  # images at a time: on a CPU larger ones leave the cache
CHECKPOINTS = [0.22]        # of APGD, shares of its steps: each gap is 0.03 shorter than the last, at least 0.06
while CHECKPOINTS[-1] < 1:
    CHECKPOINTS.append(CHECKPOINTS[-1] + max(CHECKPOINTS[-1] - (CHECKPOINTS[-2:-1] or [0])[0] - 0.03, 0.06))
HALVINGS = [0.001, 0.005, 0.02, 0.1, 0.2, 0.4, 0.6, 0.8]      # of Square's window, shares of its queries
GREY_EPS = 0.5              # at this L-infinity bound every image can be turned to even grey: nothing can be robust
PROBE = 100                 # images of that check
ZERO_SHARE = 0.01           # share of images without a gradient from which on it is a flag
ABOUT_ZERO = 0.05           # accuracy at GREY_EPS above which it is a flag
BEATS = 0.01                # share of images that fall to Square alone, above which it is a flag


# ---- asking the network ----------------------------------------------------------------------------------------------

def folded_copy(network):
    """A copy to be attacked: in eval mode, weights fixed, batch norm folded into the convolutions before it (the same
    function up to rounding, a third faster)."""
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for parent in list(network.modules()):
        if isinstance(parent, nn.Sequential):
            for i in range(len(parent) - 1):
                layer, norm = parent[i], parent[i + 1]
                if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats:
                    parent[i], parent[i + 1] = nn.utils.fuse_conv_bn_eval(layer, norm), nn.Identity()
    return network


@torch.no_grad()
def predict_logits(network, x):
    """x float32 [N, C, H, W] in [0, 1] -> logits float32 [N, K], a batch at a time, without gradients."""
    return torch.cat([network(part).float() for part in x.split(BATCH)])


def misclassified(network, x, y):
    """bool [N]: which images the network does not read as y. An answer that is not a number is none."""
    logits = predict_logits(network, x)
    return (logits.argmax(1) != y) | logits.isnan().any(1)


def input_gradient(network, x, y, loss):
    """(loss float32 [N], its gradient at the pixels [N, C, H, W], logits [N, K]) of a network as folded_copy() gives it."""
    found = []
    for part, label in zip(x.split(BATCH), y.split(BATCH)):
        part = part.detach().clone().requires_grad_()
        logits = network(part)
        value = loss(logits, label)
        gradient = None
        if value.requires_grad:
            gradient, = torch.autograd.grad(value.sum(), part, allow_unused=True)
        found.append((value.detach(), torch.zeros_like(part) if gradient is None else gradient, logits.detach()))
    return tuple(torch.cat(parts) for parts in zip(*found))


def check_logits(network, x, what="the network"):
    """Raise UserError where a network gives probabilities, no scores per class, or no numbers."""
    out = predict_logits(network, x[:256])
    if out.ndim != 2 or len(out) != len(x[:256]) or out.shape[1] < 2:
        raise UserError(f"{what} gives {list(out.shape)} for {len(x[:256])} images; attacks need logits [N, classes]")
    if not out.isfinite().all():
        raise UserError(f"{what} gives numbers that are not finite: its weights are broken, train it again")
    if (out >= 0).all() and (out <= 1).all() and ((out.sum(1) - 1).abs() < 1e-3).all():
        raise UserError(f"{what} gives probabilities; their gradients vanish where it is sure, and it would look robust "
                        "without being so: leave its softmax out, attacks need logits")


# ---- losses, balls ---------------------------------------------------------------------------------------------------

def cross_entropy(logits, y):
    """float [N]: the loss of training; grows as the right class loses."""
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits, y):
    """float [N]: the right class's logit above the best wrong one's; negative where an image is misread."""
    wrong = logits.scatter(1, y[:, None], -math.inf).amax(1)
    return logits.gather(1, y[:, None]).squeeze(1) - wrong


def dlr(logits, y):
    """Difference of logits ratio, float [N] (Croce and Hein 2020, arXiv:2003.01690, equation 6): the lead, negated, over
    the gap between the largest and the third largest logit. Unlike cross-entropy it does not vanish where the network is
    sure, and no scaling of the logits changes it. Of two classes there is no third: the negated lead then."""
    if logits.shape[1] < 3:
        return -margin(logits, y)
    top = logits.topk(3, 1).values
    return -margin(logits, y) / (top[:, 0] - top[:, 2] + 1e-12)


LOSSES = {"ce": cross_entropy, "dlr": dlr}


def l2_norm(delta):
    """float [N, 1, 1, 1]: the L2 norm of each image's change."""
    return delta.flatten(1).norm(dim=1).view(-1, *[1] * (delta.ndim - 1))


def project(x, clean, eps, norm):
    """The nearest point of the ball of radius eps around `clean`, then cut to [0, 1], which does not lead out of it."""
    delta = x - clean
    delta = delta.clamp(-eps, eps) if norm == "linf" else delta * (eps / l2_norm(delta).clamp(min=1e-12)).clamp(max=1)
    return (clean + delta).clamp(0, 1)


def direction(gradient, norm):
    """The step of length 1 that raises the loss most."""
    return gradient.sign() if norm == "linf" else gradient / l2_norm(gradient).clamp(min=1e-12)


def generator(seed):
    return torch.Generator().manual_seed(seed)         # on the CPU, so that every device sees the same numbers


def random_start(x, eps, norm, rng):
    """A point drawn from the ball around each image, evenly, cut to [0, 1]."""
    if norm == "linf":
        delta = 2 * torch.rand(x.shape, generator=rng) - 1
    else:
        delta = torch.randn(x.shape, generator=rng)
        radius = torch.rand([len(x)] + [1] * (x.ndim - 1), generator=rng) ** (1 / x[0].numel())
        delta = delta / l2_norm(delta) * radius
    return (x + eps * delta.to(x.device)).clamp(0, 1)


def begin(network, x, y, norm):
    """What every attack starts with: (the prepared network, a copy of x for what is found, indices still read rightly).
    """
    if norm not in ("linf", "l2"):
        raise UserError(f"no norm {norm!r}: linf or l2")
    network = folded_copy(network)
    return network, x.clone(), torch.nonzero(~misclassified(network, x, y)).squeeze(1) if len(x) else y


# ---- the attacks -----------------------------------------------------------------------------------------------------

def fgsm(network, x, y, eps, norm="linf", seed=0):
    """Fast gradient (sign) method (Goodfellow et al. 2015, arXiv:1412.6572): one step to the rim of the ball.

    Nothing is drawn: `seed` is there so that all attacks are called alike."""
    network, found, i = begin(network, x, y, norm)
    if len(i):
        gradient = input_gradient(network, x[i], y[i], cross_entropy)[1]
        found[i] = project(x[i] + eps * direction(gradient, norm), x[i], eps, norm)
    return found


def pgd(network, x, y, eps, norm="linf", steps=30, restarts=2, step=None, seed=0):
    """Projected gradient ascent on cross-entropy from random starts (Madry et al. 2018, arXiv:1706.06083).

    `step`: length of a step, 2.5 eps / steps by default. A survivor is given back as the last step left it."""
    network, found, i = begin(network, x, y, norm)
    step, rng = 2.5 * eps / steps if step is None else step, generator(seed)
    for _ in range(restarts):
        at = random_start(x, eps, norm, rng)[i]
        for _ in range(steps):
            if not len(i):
                return found
            _, gradient, logits = input_gradient(network, at, y[i], cross_entropy)
            stands = logits.argmax(1) == y[i]
            found[i[~stands]] = at[~stands]
            i, at, gradient = i[stands], at[stands], gradient[stands]
            at = project(at + step * direction(gradient, norm), x[i], eps, norm)
        found[i] = at
        i = i[~misclassified(network, at, y[i])] if len(i) else i
    return found


def apgd(network, x, y, eps, norm="linf", loss="ce", steps=50, restarts=1, seed=0):
    """Auto-PGD (Croce and Hein 2020, arXiv:2003.01690, algorithm 1), on cross-entropy ("ce") or on "dlr".

    Steps with momentum 0.75, the first of length 2 eps; at each checkpoint an image whose loss rose in fewer than three
    of four steps since the last one, or whose best loss and step have not changed since then, goes back to its best
    point with half the step. A survivor is given back at its highest loss."""
    network, found, i = begin(network, x, y, norm)
    rng, checkpoints = generator(seed), {math.ceil(share * steps) for share in CHECKPOINTS}

    def look(at, i):
        value, gradient, logits = input_gradient(network, at, y[i], LOSSES[loss])
        return value, gradient, logits.argmax(1) != y[i]

    def wide(rows):                                        # [n] -> [n, 1, 1, 1]
        return rows.view(-1, *[1] * (x.ndim - 1))

    for _ in range(restarts):
        if not len(i):
            break
        at = random_start(x, eps, norm, rng)[i]
        value, gradient, fell = look(at, i)
        size = torch.full_like(value, 2 * eps)
        # one row per image; "rose" counts its steps since the last checkpoint that raised the loss, "old_..." is what
        # was true at that checkpoint
        s = {"i": i, "at": at, "before": at, "value": value, "gradient": gradient, "fell": fell, "size": size,
             "best_at": at, "best_value": value, "best_gradient": gradient, "rose": torch.zeros_like(value),
             "old_size": size, "old_best": value}
        last = 0
        for k in range(1, steps + 1):
            found[s["i"][s["fell"]]] = s["at"][s["fell"]]
            s = {name: rows[~s["fell"]] for name, rows in s.items()}
            if not len(s["i"]):
                break
            clean, at = x[s["i"]], s["at"]
            moved = project(at + wide(s["size"]) * direction(s["gradient"], norm), clean, eps, norm)
            if k > 1:
                moved = project(at + 0.75 * (moved - at) + 0.25 * (at - s["before"]), clean, eps, norm)
            value, gradient, fell = look(moved, s["i"])
            s["rose"] += value > s["value"]
            s |= {"before": at, "at": moved, "value": value, "gradient": gradient, "fell": fell}
            better = value > s["best_value"]
            for name in ("at", "value", "gradient"):
                s["best_" + name] = torch.where(wide(better) if s[name].ndim > 1 else better, s[name], s["best_" + name])
            if k in checkpoints:
                stuck = (s["size"] == s["old_size"]) & (s["best_value"] == s["old_best"])
                halve = ((s["rose"] < 0.75 * (k - last)) | stuck) & ~fell
                s |= {"old_size": s["size"], "old_best": s["best_value"], "rose": torch.zeros_like(value),
                      "size": torch.where(halve, s["size"] / 2, s["size"])}
                for name in ("at", "value", "gradient"):
                    s[name] = torch.where(wide(halve) if s[name].ndim > 1 else halve, s["best_" + name], s[name])
                last = k
        found[s["i"]] = torch.where(wide(s["fell"]), s["at"], s["best_at"])
        i = s["i"][~s["fell"]]
    return found


def square(network, x, y, eps, norm="linf", queries=400, p=0.8, seed=0):
    """Square attack (Andriushchenko et al. 2020, arXiv:1912.00049): random search with square windows, no gradients.

    A change is kept where it lowers the right class's lead. p: the first window's share of the image; it is halved eight
    times. In fp32, as all else here: in bf16 it is three times as fast, but blind to small gains, and fells fewer
    images with as many queries."""
    network, found, i = begin(network, x, y, norm)
    rng, propose = generator(seed), propose_linf if norm == "linf" else propose_l2
    if not len(i):
        return found
    at = (stripes if norm == "linf" else tiles)(x, eps, rng)[i]
    best = margin(predict_logits(network, at), y[i])
    for query in range(1, queries):
        stands = best >= 0
        found[i[~stands]] = at[~stands]
        i, at, best = i[stands], at[stands], best[stands]
        if not len(i):
            return found
        share = p / 2 ** sum(query > h * queries for h in HALVINGS)
        side = round(math.sqrt(share * x.shape[-1] * x.shape[-2]))
        candidate = propose(x, at, i, eps, min(side, *x.shape[-2:]), rng)
        value = margin(predict_logits(network, candidate), y[i])
        better = value < best
        at[better], best[better] = candidate[better], value[better]
    found[i] = at
    return found


def signs(shape, rng, device):
    """float32 of the shape: -1 or 1, evenly."""
    return (2 * torch.randint(2, shape, generator=rng) - 1).to(device, torch.float32)


def stripes(x, eps, rng):
    """Square's L-infinity start: every column of pixels eps up or down."""
    return (x + eps * signs([len(x), x.shape[1], 1, x.shape[3]], rng, x.device)).clamp(0, 1)


def window(x, side, i, rng):
    """A square of `side` pixels at a random place of each image i of x, as indices of their pixels: tensors that
    broadcast to [n, side, side], for pictures[n, :, rows, columns], which is [n, side, side, C]."""
    rows, columns = ((torch.randint(size - side + 1, [len(x)], generator=rng).to(x.device)[i][:, None] +
                      torch.arange(side, device=x.device)) for size in x.shape[-2:])
    return torch.arange(len(i), device=x.device)[:, None, None], slice(None), rows[:, :, None], columns[:, None, :]


def propose_linf(x, at, i, eps, side, rng):
    """All pixels of a window eps up, or all eps down, each channel by itself. What would change nothing (background that
    is to go darker) goes the other way."""
    place = window(x, max(side, 1), i, rng)
    sign = signs([len(x), 1, 1, x.shape[1]], rng, x.device)[i]
    clean, now = x[i][place], at[place]
    new = (clean + eps * sign).clamp(0, 1)
    idle = (new - now).abs().flatten(1).amax(1) < 1e-7
    candidate = at.clone()
    candidate[place] = torch.where(idle[:, None, None, None], (clean - eps * sign).clamp(0, 1), new)
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
    across = [-(-size // side) for size in x.shape[-2:]]
    sign = signs([len(x), x.shape[1], across[0], 1, across[1], 1], rng, x.device)
    delta = (sign * bump(side, x.device)[None, None, None, :, None, :]).reshape(
        len(x), x.shape[1], across[0] * side, across[1] * side)[..., :x.shape[-2], :x.shape[-1]]
    return (x + eps * delta / l2_norm(delta)).clamp(0, 1)


def propose_l2(x, at, i, eps, side, rng):
    """Take the change out of one window and spend it, with what is left of eps, on a bump in another (algorithm 3)."""
    side = max(3, min(side, *x.shape[-2:]))
    one, two = window(x, side, i, rng), window(x, side, i, rng)
    sign, turn = signs([len(x), 1, 1, x.shape[1]], rng, x.device)[i], signs([len(x)], rng, x.device)[i] > 0
    hill = bump(side, x.device)
    hill = torch.where(turn[:, None, None], hill, hill.T)[..., None]                        # [n, side, side, 1]
    clean = x[i]
    delta = at - clean
    unused = (eps ** 2 - l2_norm(delta).square()).clamp(min=0) / x.shape[1]                  # [n, 1, 1, 1]

    def size(part):                                                                         # by channel
        return part.square().sum((1, 2), keepdim=True)
    old, kept = delta[one], delta.clone()
    kept[one], kept[two] = 0.0, 0.0
    free = (delta.square() - kept.square()).sum((2, 3))[:, None, None]                      # of both windows together
    new = sign * hill + old / size(old).sqrt().clamp(min=1e-12)
    kept[one] = new / size(new).sqrt().clamp(min=1e-12) * (free + unused).clamp(min=0).sqrt()
    return project(clean + kept, clean, eps, "l2")


ATTACKS = {"fgsm": fgsm, "pgd": pgd, "apgd-ce": partial(apgd, loss="ce"), "apgd-dlr": partial(apgd, loss="dlr"),
           "square": square}
GRADIENT_FREE = {"square"}
STRONG = {"apgd-ce": partial(apgd, loss="ce", steps=25), "apgd-dlr": partial(apgd, loss="dlr", steps=25)}  # for curves


# ---- all of them, with checks ----------------------------------------------------------------------------------------

def ready(network, images, labels, eps):
    """(x float32 [N, 1, H, W] in [0, 1], y int64 [N], the network in eval mode) of what the public functions are given.
    Raises UserError for what cannot be attacked."""
    images, labels = np.asarray(images), np.asarray(labels)
    if images.dtype != np.uint8 or images.ndim != 3 or labels.shape != images.shape[:1] or not len(images):
        raise UserError(f"an attack needs uint8 images [N, H, W] and N labels, not {images.dtype} {list(images.shape)} "
                        f"and {list(labels.shape)}")
    if not 0 <= np.min(eps) <= np.max(eps) < math.inf:
        raise UserError(f"eps {eps} is no bound on changes: a number from 0 on is needed")
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    x, y = models.from_uint8(torch.from_numpy(images)).to(device), torch.from_numpy(labels.astype(np.int64)).to(device)
    subject = copy.deepcopy(network).eval()           # as it is, batch norm and all: it has the last word
    check_logits(subject, x)
    if y.min() < 0 or y.max() >= predict_logits(subject, x[:1]).shape[1]:
        raise UserError(f"labels run from {y.min()} to {y.max()}, but the network knows "
                        f"{predict_logits(subject, x[:1]).shape[1]} classes")
    return x, y, subject


def robust_accuracy(network, images, labels, eps, norm="linf", attacks=ATTACKS, seed=0, alone=False, say=None):
    """Attack a classifier with every attack of the dict, and check that the result can be believed.

    images uint8 [N, 28, 28], labels int64 [N] (arrays). One attack after the other works on what still stands, so that
    an attack's accuracy is that under it and all before it, and the last one is the robust accuracy; `alone=True` lets
    each attack try all images, for accuracies of its own, at the price of time. `say(text)` hears of each attack's end.

    Returns JSON types: n, eps, norm, seed, alone, clean, robust (accuracies), seconds, attacks {name: accuracy,
    attacked, felled, seconds}, checks {name: number}, flags [text]. A flag means that the network may look more robust
    than it is, or that something is wrong. Raises UserError for probabilities in place of logits and for other faults.
    """
    x, y, subject = ready(network, images, labels, eps)
    clean = ~misclassified(subject, x, y)
    standing, rows, largest, lowest, highest = clean.clone(), {}, 0.0, 0.0, 1.0
    # images that were tried with gradients, that fell so, that fell to an attack without
    tried, by_slope, by_search = (torch.zeros_like(clean) for _ in range(3))
    for name, attack in attacks.items():
        start = time.perf_counter()
        i = torch.nonzero(clean if alone else standing).squeeze(1)
        found = attack(network, x[i], y[i], eps, norm, seed=seed) if len(i) else x[i]
        fell = misclassified(subject, found, y[i]) if len(i) else torch.zeros(0, dtype=torch.bool, device=x.device)
        (by_search if name in GRADIENT_FREE else by_slope)[i[fell]] = True
        if name not in GRADIENT_FREE:
            tried[i] = True
        standing[i[fell]] = False
        if len(i):
            delta = found - x[i]
            largest = max(largest, float(delta.abs().max() if norm == "linf" else l2_norm(delta).max()))
            lowest, highest = min(lowest, float(found.min())), max(highest, float(found.max()))
        rows[name] = {"accuracy": float(len(i) - fell.sum()) / len(x), "attacked": len(i), "felled": int(fell.sum()),
                      "seconds": round(time.perf_counter() - start, 2)}
        if say:
            say(f"{name}: {rows[name]['felled']:,} of {len(i):,} images fell in {rows[name]['seconds']:.1f} s")
    start = time.perf_counter()
    checks = self_check(network, subject, x, y, clean, norm, seed)
    checks |= {"largest_change": largest, "lowest_pixel": lowest, "highest_pixel": highest,
               "felled_by_gradient_free_only": int((by_search & ~by_slope & tried).sum())}
    result = {"n": len(x), "eps": eps, "norm": norm, "seed": seed, "alone": alone, "clean": float(clean.float().mean()),
              "robust": float(standing.float().mean()), "attacks": rows, "checks": checks,
              "check_seconds": round(time.perf_counter() - start, 2),
              "seconds": round(sum(r["seconds"] for r in rows.values()) + time.perf_counter() - start, 2)}
    return {**result, "flags": flags(result)}


def robust_accuracy_curve(network, images, labels, eps, norm="linf", attacks=STRONG, seed=0):
    """Robust accuracy at several bounds `eps`, which must rise: a list of floats, without the checks of robust_accuracy().

    An image that fell at one bound counts as fallen at all larger ones, whose balls contain that change."""
    x, y, subject = ready(network, images, labels, eps)
    standing, found = ~misclassified(subject, x, y), []
    for bound in eps:
        for attack in attacks.values() if bound else []:
            i = torch.nonzero(standing).squeeze(1)
            if len(i):
                standing[i] = ~misclassified(subject, attack(network, x[i], y[i], bound, norm, seed=seed), y[i])
        found.append(float(standing.float().mean()))
    return found


def self_check(network, subject, x, y, clean, norm, seed):
    """Numbers by which a network that only hides its gradients gives itself away, on PROBE images that it reads."""
    i = torch.nonzero(clean).squeeze(1)[:PROBE]
    if not len(i):
        return {"zero_gradients": 0.0, "accuracy_at_grey": 0.0, "grey_eps": 0.0, "answers_differ": 0.0}
    x, y = x[i], y[i]
    gradient = input_gradient(folded_copy(network), x, y, cross_entropy)[1]
    eps = GREY_EPS * (1 if norm == "linf" else x[0].numel() ** 0.5)
    left = torch.ones(len(i), dtype=torch.bool, device=x.device)
    for loss in LOSSES:
        j = torch.nonzero(left).squeeze(1)
        if len(j):
            left[j] = ~misclassified(subject, apgd(network, x[j], y[j], eps, norm, loss, seed=seed), y[j])
    return {"zero_gradients": float((gradient.flatten(1).abs().amax(1) == 0).float().mean()),
            "accuracy_at_grey": float(left.float().mean()), "grey_eps": eps,
            "answers_differ": float((predict_logits(subject, x) - predict_logits(subject, x)).abs().max())}


def flags(result):
    """What in a result of robust_accuracy() speaks against believing it: a list of sentences, empty where nothing does."""
    c, found = result["checks"], []
    if c["largest_change"] > result["eps"] + 1e-6:
        found.append(f"an attack changed an image by {c['largest_change']:.6f}, more than eps")
    if c["lowest_pixel"] < 0 or c["highest_pixel"] > 1:
        found.append(f"an attack left the range of pixels: {c['lowest_pixel']:.4f} to {c['highest_pixel']:.4f}")
    if c["zero_gradients"] > ZERO_SHARE:
        found.append(f"the gradient is exactly zero at {c['zero_gradients']:.1%} of images: masked gradients, white-box "
                     "attacks are blind there")
    if c["accuracy_at_grey"] > ABOUT_ZERO:
        found.append(f"at eps {c['grey_eps']:.3g}, which turns any image to grey, {c['accuracy_at_grey']:.1%} still stand: "
                     "the attacks fail, not the images")
    if c["felled_by_gradient_free_only"] > BEATS * result["n"]:
        found.append(f"the gradient-free attack felled {c['felled_by_gradient_free_only']:,} images that no white-box "
                     "attack did: masked gradients, or too few steps")
    if c["answers_differ"] > 1e-4:
        found.append(f"the network answers the same image differently (by {c['answers_differ']:.2g}): it draws at random")
    if result["clean"] < 0.5:
        found.append(f"only {result['clean']:.1%} of the unchanged images are read rightly")
    return found


def table(result):
    """The text that the command prints for a result of robust_accuracy()."""
    c, what = result["checks"], "alone" if result["alone"] else "so far"
    lines = [f"{result['n']:,} images, {result['norm']} eps {result['eps']:g}",
             f"{'':10} {'accuracy':>9} {'attacked':>9} {'fell':>7} {'seconds':>8}   ({what})",
             f"{'clean':10} {result['clean']:9.2%}"]
    lines += [f"{name:10} {r['accuracy']:9.2%} {r['attacked']:9,} {r['felled']:7,} {r['seconds']:8.1f}"
              for name, r in result["attacks"].items()]
    lines += [f"{'robust':10} {result['robust']:9.2%} {'':17} {result['seconds']:8.1f}",
              f"checks: largest change {c['largest_change']:.6f}, pixels {c['lowest_pixel']:g} to {c['highest_pixel']:g}, "
              f"zero gradients {c['zero_gradients']:.1%},",
              f"        accuracy at eps {c['grey_eps']:.3g} {c['accuracy_at_grey']:.1%}, felled by the gradient-free attack "
              f"only {c['felled_by_gradient_free_only']:,}, answers repeat within {c['answers_differ']:.2g}"]
    return "\n".join(lines + [f"FLAG: {text}" for text in result["flags"]] + ["no flags"] * (not result["flags"]))


# ---- the command -----------------------------------------------------------------------------------------------------

def random_subset(images, labels, n, seed):
    """n images with their labels, drawn by seed, in their order (the first ones of MNIST's test are the easier half)."""
    keep = np.sort(np.random.default_rng(seed).permutation(len(images))[:n])
    return images[keep], labels[keep]


def main():
    parser = Parser("Attack a classifier and print its accuracy, attack by attack, with checks.")
    add = parser.add_argument
    add("classifier", help="a classifier file of train.py (.pth)")
    add("--on", default="mnist:test", help="NAME:SPLIT, or labelled images as fid.py takes them")
    add("--n", type=number(int, above=0), default=1000, help="images, drawn by --seed")
    add("--eps", type=number(float, at_least=0, at_most=1000), default=0.1, help="bound on the change of an image, pixels in [0, 1]")
    add("--norm", choices=["linf", "l2"], default="linf", help="what is bounded: each pixel's change, or their L2 norm")
    add("--attacks", default=",".join(ATTACKS), help="comma-separated, in this order")
    add("--alone", action="store_true", help="let each attack try all images, not only those that still stand")
    add_data_options(parser, center=False)
    add("--seed", type=number(int, at_least=0, below=2 ** 32), default=0, help="of images, random starts and searches")
    add("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    names = args.attacks.split(",")
    if not set(names) <= set(ATTACKS):
        parser.error(f"--attacks {args.attacks}: choose of {','.join(ATTACKS)}")
    checkpoint = models.load(args.classifier, "classifier")
    images, labels, _, classes = data.read_images(args.on, args.data_dir)
    if labels is None:
        raise UserError(f"{args.on} has no labels: an attack must know what is right")
    if classes is not None and list(classes) != checkpoint.classes:
        raise UserError(f"{args.on} has other classes than {args.classifier} was trained on "
                        f"({checkpoint.info['dataset']}): give --on its own data set")
    images, labels = random_subset(images, labels, args.n, args.seed)
    result = robust_accuracy(checkpoint.model, images, labels, args.eps, args.norm, {name: ATTACKS[name] for name in names},
                    args.seed, args.alone, say=lambda text: print(text, file=sys.stderr, flush=True))
    print(json.dumps(result, indent=1) if args.json else table(result))


if __name__ == "__main__":
    run_command(main)
