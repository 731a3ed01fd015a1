"""The ONNX files in an app of one's own: onnxruntime, numpy, and Pillow to open pictures. No torch.

    python examples/infer_numpy.py photo.png scan.jpg                           # which digit, with its probability
    python examples/infer_numpy.py --draw 7,7,3 --style thick --seed 5 --out digits.png

A picture holds one digit, dark on light or light on dark, upright, any size, on paper of any, but one, shade.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image

MODELS = Path(__file__).parent.parent / "saved_models"


def open_model(path):
    """(session, list of class names) of an ONNX file."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session, json.loads(session.get_modelmeta().custom_metadata_map["classes"])


def to_glyph(path):
    """A picture -> uint8 [28, 28] as the classifier knows them: ink 255 on 0, 20 pixels long, centred by mass."""
    image = Image.open(path).convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "grey"), image).convert("L")
    grey = np.asarray(image, np.float32)
    ink = np.abs(grey - np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))   # unlike the border
    rows, columns = (np.flatnonzero((ink > 0.3 * ink.max()).any(axis)) for axis in (1, 0))
    if ink.max() < 16:
        raise OSError(f"{path} is blank")
    ink = Image.fromarray(ink[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1])
    scale = 20 / max(ink.size)
    ink = np.asarray(ink.resize([max(1, round(side * scale)) for side in ink.size], Image.Resampling.BICUBIC))
    glyph = np.zeros((28, 28), np.float32)
    y, x = (int(np.clip(round(14 - np.average(np.arange(n) + 0.5, weights=ink.clip(0).sum(1 - axis))), 0, 28 - n))
            for axis, n in enumerate(ink.shape))
    glyph[y:y + ink.shape[0], x:x + ink.shape[1]] = ink * (255 / ink.max())
    return glyph.clip(0, 255).round().astype(np.uint8)


def classify(session, glyphs):
    """uint8 [N, 28, 28] -> the most probable class, int64 [N], and its probability, float32 [N]."""
    probabilities = session.run(["probabilities"], {"image": glyphs})[0]
    return probabilities.argmax(1), probabilities.max(1)


def draw(session, labels, style, seed):
    """Class indices -> uint8 [N, 28, 28], ink 255 on 0; the same seed, the same images."""
    rng = np.random.default_rng(seed)
    latent = int(session.get_modelmeta().custom_metadata_map["latent_dim"])
    low, high = {"thin": (0, 0.5), "thick": (0.5, 1), "both": (0, 1)}[style]
    inputs = {"noise": rng.standard_normal((len(labels), latent), np.float32), "label": np.array(labels, np.int64),
              "thickness": rng.uniform(low, high, len(labels)).astype(np.float32)}
    return session.run(["image"], inputs)[0]


def fail(text):
    print(f"error: {text}", file=sys.stderr)
    sys.exit(2)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.error = fail
    parser.add_argument("pictures", nargs="*", help="pictures of one digit each, to be classified")
    parser.add_argument("--draw", metavar="CLASSES", help="draw these instead, as 7,7,3")
    parser.add_argument("--style", choices=["thin", "thick", "both"], default="both")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--out", default="digits.png", help="the picture that --draw makes")
    args = parser.parse_args(argv)
    if args.seed < 0:
        fail(f"--seed {args.seed}: 0 or more")
    if not (args.draw or args.pictures):
        fail("name pictures to read, or classes, as --draw 7,7,3")
    if args.draw:
        session, classes = open_model(MODELS / "generator.onnx")
        if not set(args.draw.split(",")) <= set(classes):
            fail(f"--draw {args.draw}: the classes are {','.join(classes)}")
        images = draw(session, [classes.index(c) for c in args.draw.split(",")], args.style, args.seed)
        try:
            Image.fromarray(np.hstack(images)).save(args.out)
        except (OSError, ValueError) as e:
            fail(f"{args.out} cannot be written ({e})")
        print(f"{args.out}: {args.draw}")
    if args.pictures:
        session, classes = open_model(MODELS / "classifier.onnx")
        try:
            glyphs = np.stack([to_glyph(path) for path in args.pictures])
        except OSError as e:
            fail(f"{e}")
        for path, label, probability in zip(args.pictures, *classify(session, glyphs)):
            print(f"{path}: {classes[label]} ({100 * probability:.1f} %)")


if __name__ == "__main__":
    main()
