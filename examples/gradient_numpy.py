"""Why this answer, and which small change turns it: a classifier's gradients by onnxruntime and numpy. No torch.

    python examples/gradient_numpy.py photo.png --out why.png        # three maps of the answer, and an attack on it
    python examples/gradient_numpy.py photo.png --class 3 --eps 0.2  # what speaks for a 3, and against it

Images are float32 [28, 28] in [0, 1], ink 1; `label` is any class, not only the answer. A row of the picture: the glyph;
gradient, SmoothGrad and integrated gradients, red for the class and blue against it; the glyph after PGD.
"""
import argparse

import numpy as np
from infer_numpy import MODELS, fail, open_model, to_glyph
from PIL import Image


def run(session, images, label):
    """float32 [N, 28, 28] -> logits [N, K], the gradients of the logit of `label` and of its cross-entropy [N, 28, 28]."""
    return session.run(["logits", "gradient", "loss_gradient"], {"image": images, "label": np.full(len(images), label)})


# ---- which pixels speak for a class --------------------------------------------------------------

def gradient(session, image, label):
    """How much a little more ink at each pixel raises the score of the class."""
    return run(session, image[None], label)[1][0]


def smoothgrad(session, image, label, samples=32, sigma=0.15, seed=0):
    """The mean gradient under noise (Smilkov et al. 2017, arXiv:1706.03825)."""
    noise = np.random.default_rng(seed).standard_normal((samples, 28, 28), np.float32)
    return run(session, image + sigma * noise, label)[1].mean(0)


def integrated_gradients(session, image, label, steps=64):
    """The image times the mean gradient on the way to it from blank paper: how much each pixel of ink adds to the score
    (Sundararajan et al. 2017, arXiv:1703.01365). Steps are smaller near blank paper, where gradients change most."""
    u = (np.arange(steps, dtype=np.float32) + 0.5) / steps
    gradients = run(session, image * u[:, None, None] ** 2, label)[1]
    return image * np.tensordot(2 * u / steps, gradients, 1)


# ---- which small change turns the answer ---------------------------------------------------------

def fgsm(session, image, label, eps):
    """Every pixel changed by eps, away from the class (Goodfellow et al. 2015, arXiv:1412.6572)."""
    return (image + eps * np.sign(run(session, image[None], label)[2][0])).clip(0, 1)


def pgd(session, image, label, eps, steps=30):
    """The same in small steps, each pixel kept within eps (Madry et al. 2018, arXiv:1706.06083). Steps down the gradient
    of another class's loss would lead towards that class."""
    attacked = image
    for _ in range(steps):
        moved = fgsm(session, attacked, label, 2.5 * eps / steps)
        attacked = moved.clip(image - eps, image + eps)
    return attacked


# ---- the command ---------------------------------------------------------------------------------

def draw(pixels, is_map=False, scale=5):
    """float32 [28, 28] -> uint8 [28 * scale, 28 * scale, 3]: ink white on black; a map red where positive, blue where not."""
    strength = abs(pixels) / (abs(pixels).max() + 1e-30) if is_map else pixels
    color = np.where(pixels[..., None] > 0, [1.0, 0.3, 0.2], [0.2, 0.5, 1.0]) if is_map else np.ones(3)
    return (255 * strength[..., None] * color).round().astype(np.uint8).repeat(scale, 0).repeat(scale, 1)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.error = fail
    parser.add_argument("picture", help="a picture of one digit")
    parser.add_argument("--class", dest="name", help="the class to explain (default: the answer)")
    parser.add_argument("--eps", type=float, default=0.1, help="how much the attack may change a pixel, of 1")
    parser.add_argument("--out", default="why.png", help="the picture that is written")
    args = parser.parse_args(argv)
    if not 0 <= args.eps <= 1:
        fail(f"--eps {args.eps}: from 0 to 1")
    session, classes = open_model(MODELS / "classifier-gradient.onnx")
    if args.name not in (None, *classes):
        fail(f"--class {args.name}: the classes are {','.join(classes)}")
    try:
        image = to_glyph(args.picture).astype(np.float32) / 255
    except OSError as e:
        fail(f"{e}")
    answer = int(run(session, image[None], 0)[0].argmax())
    label = answer if args.name is None else classes.index(args.name)
    maps = [method(session, image, label) for method in (gradient, smoothgrad, integrated_gradients)]
    attacked = {attack.__name__: attack(session, image, answer, args.eps) for attack in (fgsm, pgd)}
    then = {name: classes[run(session, x[None], 0)[0].argmax()] for name, x in attacked.items()}
    try:
        row = [draw(image), *(draw(m, is_map=True) for m in maps), draw(attacked["pgd"])]
        Image.fromarray(np.hstack(row)).save(args.out)
    except (OSError, ValueError) as e:
        fail(f"{args.out} cannot be written ({e})")
    print(f"{args.picture}: {classes[answer]}, after FGSM {then['fgsm']}, after PGD {then['pgd']} (eps {args.eps:g})")
    print(f"{args.out}: what speaks for {classes[label]}")


if __name__ == "__main__":
    main()
