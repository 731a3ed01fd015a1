"""How many images does a classifier still read rightly when somebody changes them, within bounds, to be misread?

    python attacks.py saved_models/classifier.pth --on mnist:test --n 1000 --eps 0.1
    python attacks.py saved_models/classifier.pth --norm l2 --eps 1.5 --attacks apgd-ce,square

From a script or a notebook:

    network = models.load("saved_models/classifier.pth", "classifier").model
    found = robust(network, images, labels, eps=0.1)       # uint8 [N, 28, 28], int64 [N]
    print(table(found))                                    # accuracy by attack, checks, flags

    curve(network, images, labels, [0, 0.1, 0.2, 0.3])     # accuracy by eps, quicker
    changed = pgd(network, x, y, eps=0.1)                  # one attack alone: see adversaries.py

Robust accuracy is the share of images that are read rightly after every attack: an upper bound, which further attacks
can only lower. Attacks fail against a network that hides its gradients, too, so the result comes with checks, and with
a flag where it should not be believed.
"""
import copy
import argparse
import json
import math
import sys
import time
from functools import partial

import numpy as np
import torch

import data
import files
import models
from adversaries import LOSSES, apgd, ask, check_logits, cross_entropy, fgsm, length, misread, pgd, prepared, slope, square
from files import UserError

GREY_EPS = 0.5              # at this L-infinity bound every image can be turned to even grey: nothing can be robust
PROBE = 100                 # images of that check
ZERO_SHARE = 0.01           # share of images without a gradient from which on it is a flag
ABOUT_ZERO = 0.05           # accuracy at GREY_EPS above which it is a flag
BEATS = 0.01                # share of images that fall to Square alone, above which it is a flag
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
    if y.min() < 0 or y.max() >= ask(subject, x[:1]).shape[1]:
        raise UserError(f"labels run from {y.min()} to {y.max()}, but the network knows "
                        f"{ask(subject, x[:1]).shape[1]} classes")
    return x, y, subject


def robust(network, images, labels, eps, norm="linf", attacks=ATTACKS, seed=0, alone=False, say=None):
    """Attack a classifier with every attack of the dict, and check that the result can be believed.

    images uint8 [N, 28, 28], labels int64 [N] (arrays). One attack after the other works on what still stands, so that
    an attack's accuracy is that under it and all before it, and the last one is the robust accuracy; `alone=True` lets
    each attack try all images, for accuracies of its own, at the price of time. `say(text)` hears of each attack's end.

    Returns JSON types: n, eps, norm, seed, alone, clean, robust (accuracies), seconds, attacks {name: accuracy,
    attacked, felled, seconds}, checks {name: number}, flags [text]. A flag means that the network may look more robust
    than it is, or that something is wrong. Raises UserError for probabilities in place of logits and for other faults.
    """
    x, y, subject = ready(network, images, labels, eps)
    clean = ~misread(subject, x, y)
    standing, rows, largest, lowest, highest = clean.clone(), {}, 0.0, 0.0, 1.0
    # images that were tried with gradients, that fell so, that fell to an attack without
    tried, by_slope, by_search = (torch.zeros_like(clean) for _ in range(3))
    for name, attack in attacks.items():
        start = time.perf_counter()
        i = torch.nonzero(clean if alone else standing).squeeze(1)
        found = attack(network, x[i], y[i], eps, norm, seed=seed) if len(i) else x[i]
        fell = misread(subject, found, y[i]) if len(i) else torch.zeros(0, dtype=torch.bool, device=x.device)
        (by_search if name in GRADIENT_FREE else by_slope)[i[fell]] = True
        if name not in GRADIENT_FREE:
            tried[i] = True
        standing[i[fell]] = False
        if len(i):
            delta = found - x[i]
            largest = max(largest, float(delta.abs().max() if norm == "linf" else length(delta).max()))
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


def curve(network, images, labels, eps, norm="linf", attacks=STRONG, seed=0):
    """Robust accuracy at several bounds `eps`, which must rise: a list of floats, without the checks of robust().

    An image that fell at one bound counts as fallen at all larger ones, whose balls contain that change."""
    x, y, subject = ready(network, images, labels, eps)
    standing, found = ~misread(subject, x, y), []
    for bound in eps:
        for attack in attacks.values() if bound else []:
            i = torch.nonzero(standing).squeeze(1)
            if len(i):
                standing[i] = ~misread(subject, attack(network, x[i], y[i], bound, norm, seed=seed), y[i])
        found.append(float(standing.float().mean()))
    return found


def self_check(network, subject, x, y, clean, norm, seed):
    """Numbers by which a network that only hides its gradients gives itself away, on PROBE images that it reads."""
    i = torch.nonzero(clean).squeeze(1)[:PROBE]
    if not len(i):
        return {"zero_gradients": 0.0, "accuracy_at_grey": 0.0, "grey_eps": 0.0, "answers_differ": 0.0}
    x, y = x[i], y[i]
    gradient = slope(prepared(network), x, y, cross_entropy)[1]
    eps = GREY_EPS * (1 if norm == "linf" else x[0].numel() ** 0.5)
    left = torch.ones(len(i), dtype=torch.bool, device=x.device)
    for loss in LOSSES:
        j = torch.nonzero(left).squeeze(1)
        if len(j):
            left[j] = ~misread(subject, apgd(network, x[j], y[j], eps, norm, loss, seed=seed), y[j])
    return {"zero_gradients": float((gradient.flatten(1).abs().amax(1) == 0).float().mean()),
            "accuracy_at_grey": float(left.float().mean()), "grey_eps": eps,
            "answers_differ": float((ask(subject, x) - ask(subject, x)).abs().max())}


def flags(result):
    """What in a result of robust() speaks against believing it: a list of sentences, empty where nothing does."""
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
    """The text that the command prints for a result of robust()."""
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

def choose(images, labels, n, seed):
    """n images with their labels, drawn by seed, in their order (the first ones of MNIST's test are the easier half)."""
    keep = np.sort(np.random.default_rng(seed).permutation(len(images))[:n])
    return images[keep], labels[keep]


def bound(text):
    """An argparse type: a finite number from 0 to 1,000."""
    if not 0 <= float(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text} does not lie in 0 to 1,000")
    return float(text)


def seed(text):
    """An argparse type: a whole number below 2 ** 32."""
    if not 0 <= int(text) < 2 ** 32:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 0 to {2 ** 32 - 1}")
    return int(text)


def main():
    parser = files.Parser("Attack a classifier and print its accuracy, attack by attack, with checks.")
    add = parser.add_argument
    add("classifier", help="a classifier file of train.py (.pth)")
    add("--on", default="mnist:test", help="NAME:SPLIT, or labelled images as fid.py takes them")
    add("--n", type=int, default=1000, help="images, drawn by --seed")
    add("--eps", type=bound, default=0.1, help="bound on the change of an image, pixels in [0, 1]")
    add("--norm", choices=["linf", "l2"], default="linf", help="what is bounded: each pixel's change, or their L2 norm")
    add("--attacks", default=",".join(ATTACKS), help="comma-separated, in this order")
    add("--alone", action="store_true", help="let each attack try all images, not only those that still stand")
    add("--data-dir", help="where named data sets lie (default: $GLYPHS_DATA, else data/)")
    add("--seed", type=seed, default=0, help="of images, random starts and searches")
    add("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    names = args.attacks.split(",")
    if args.n < 1 or not 0 <= args.eps < math.inf or args.seed < 0:
        parser.error("--n must be at least 1, --eps and --seed at least 0")
    if not set(names) <= set(ATTACKS):
        parser.error(f"--attacks {args.attacks}: choose of {','.join(ATTACKS)}")
    checkpoint = models.load(args.classifier, "classifier")
    images, labels, _, classes = data.read_images(args.on, args.data_dir)
    if labels is None:
        raise UserError(f"{args.on} has no labels: an attack must know what is right")
    if classes is not None and list(classes) != checkpoint.classes:
        raise UserError(f"{args.on} has other classes than {args.classifier} was trained on "
                        f"({checkpoint.info['dataset']}): give --on its own data set")
    images, labels = choose(images, labels, args.n, args.seed)
    result = robust(checkpoint.model, images, labels, args.eps, args.norm, {name: ATTACKS[name] for name in names},
                    args.seed, args.alone, say=lambda text: print(text, file=sys.stderr, flush=True))
    print(json.dumps(result, indent=1) if args.json else table(result))


if __name__ == "__main__":
    files.run(main)
