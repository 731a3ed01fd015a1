"""A character that no model has learned, as other hands would write it: deformer.onnx by onnxruntime and numpy. No torch.

    python examples/hands_numpy.py photo.png scan.jpg                    # ten hands for each picture -> hands.png
    python examples/hands_numpy.py photo.png --num 20 --width 4 --seed 5 # with a broad pen

A picture holds one character, as infer_numpy.py says, of any script. A row of the sheet: the glyph, then the same by each
hand; a column is one hand.
"""
import argparse

import numpy as np
import onnxruntime as ort
from infer_numpy import MODELS, fail, to_glyph
from PIL import Image


def pen_width(glyph):
    """The mean width of a glyph's strokes in pixels, of uint8 [28, 28]: twice its ink over its total variation."""
    x = np.pad(glyph / 255, 1)
    slope = np.hypot(np.diff(x, axis=0)[:, :-1], np.diff(x, axis=1)[:-1])
    return 2 * x.sum() / slope.sum()


def other_hands(session, glyph, num, width, seed):
    """uint8 [28, 28] -> uint8 [num, 28, 28]: the character by `num` hands with a pen of `width` pixels; the same seed, the
    same hands, whatever they write."""
    latent = session.get_inputs()[1].shape[1]
    inputs = {"support": np.repeat(glyph[None], num, 0), "width": np.full(num, width, np.float32),
              "noise": np.random.default_rng(seed).standard_normal((num, latent), np.float32)}
    return session.run(["image"], inputs)[0]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.error = fail
    parser.add_argument("pictures", nargs="+", help="pictures of one character each")
    parser.add_argument("--num", type=int, default=10, metavar="N", help="hands, at most 100")
    parser.add_argument("--width", type=float, help="of the pen, in pixels of 28 (default: as in the picture)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--out", default="hands.png", help="the sheet that is written")
    args = parser.parse_args(argv)
    if not 1 <= args.num <= 100:
        fail(f"--num {args.num}: from 1 to 100 hands")
    if args.seed < 0:
        fail(f"--seed {args.seed}: 0 or more")
    if args.width is not None and not 1 <= args.width <= 10:
        fail(f"--width {args.width}: a pen of 1 to 10 pixels")
    session = ort.InferenceSession(MODELS / "deformer.onnx", providers=["CPUExecutionProvider"])
    try:
        glyphs = [to_glyph(path) for path in args.pictures]
    except OSError as e:
        fail(f"{e}")
    widths = [args.width or pen_width(glyph) for glyph in glyphs]
    rows = [np.hstack([glyph, *other_hands(session, glyph, args.num, width, args.seed)]) for glyph, width in zip(glyphs, widths)]
    try:
        Image.fromarray(255 - np.vstack(rows)).save(args.out)
    except (OSError, ValueError) as e:
        fail(f"{args.out} cannot be written ({e})")
    print(f"{args.out}: {len(glyphs)} characters by {args.num} hands, pens of {', '.join(f'{w:.1f}' for w in widths)} pixels")


if __name__ == "__main__":
    main()
