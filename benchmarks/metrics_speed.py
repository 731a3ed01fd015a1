"""How fast and how exact are the metrics of fid.py? One table; A B A B in one run, so that a busy machine hits both.

    python benchmarks/metrics_speed.py                     # the Frechet step against scipy.linalg.sqrtm, and the whole of it
    python benchmarks/metrics_speed.py --only memory       # time and peak memory at 50,000 x 50,000 vectors of 128 features

Only this script uses scipy (`pip install scipy`); without it the comparison is left out. OMP_NUM_THREADS sets the
number of threads. The whole takes MNIST where it is on disk (GLYPHS_DATA), else the built-in strokes.
"""
import os
import resource
import sys
import time

import numpy as np
import repository  # noqa: F401 (makes what follows importable)

import data
from metrics.features import DEFAULT_MODEL, Extractor
from metrics.frechet_distance import bootstrap_fid, fid, frechet_distance, moments
from metrics.kernel_distance import kernel_distance
from metrics.neighbours import nearest, precision_recall
from utils.cli import Parser, number, run_command
from utils.files import UserError

DIMENSIONS = (128, 768, 2048)
ROUNDS = 3


def sqrtm_frechet(mean1, cov1, mean2, cov2):
    """The usual way: the matrix square root of a product that is not symmetric, its imaginary part thrown away."""
    from scipy.linalg import sqrtm
    root = sqrtm(cov1 @ cov2)
    return float(((mean1 - mean2) ** 2).sum() + np.trace(cov1) + np.trace(cov2) - 2 * np.trace(np.real(root)))


def seconds(call):
    start = time.perf_counter()
    value = call()
    return value, time.perf_counter() - start


def random_moments(d, n, seed):
    """Moments of n correlated vectors whose variances fall by a factor of 1,000, as those of networks do."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) * np.logspace(0, -1.5, d)
    x = x @ np.linalg.qr(rng.standard_normal((d, d)))[0] + 0.1 * rng.standard_normal(d)
    return moments(x)


def compare_frechet(name, one, two):
    """One row: medians of ROUNDS alternating runs, and the distance of the two results."""
    arguments = one.mean, one.cov, two.mean, two.cov
    times = []
    for _ in range(ROUNDS):
        reference, a = seconds(lambda: sqrtm_frechet(*arguments))
        ours, b = seconds(lambda: frechet_distance(*arguments))
        times.append((a, b))
    a, b = np.median(times, axis=0)
    print(f"{name:34} {a:9.3f} {b:9.4f} {np.median([a / b for a, b in times]):7.1f} x  {ours:12.6f} "
          f"{abs(ours - reference) / abs(ours):9.1e}", flush=True)


def frechet_table(sets):
    try:
        import scipy
    except ImportError:
        print("scipy is not installed: the comparison with scipy.linalg.sqrtm is left out (pip install scipy)\n")
        return
    print(f"{'Frechet step (numpy ' + np.__version__ + ')':34} {'sqrtm s':>9} {'ours s':>9} {'faster':>9}  "
          f"{'value':>12} {'rel. diff.':>9}    scipy {scipy.__version__}")
    frechet_distance(*[np.zeros(64), np.eye(64)] * 2)  # the threads start
    for d in DIMENSIONS:
        compare_frechet(f"random, d = {d}, N = {3 * d}", *(random_moments(d, 3 * d, seed) for seed in (0, 1)))
    compare_frechet("random, d = 768, N = 400 (singular)", *(random_moments(768, 400, seed) for seed in (0, 1)))
    if sets:
        one, two = (s.moments for s in sets)
        compare_frechet(f"images, d = {len(one.mean)}, N = {one.n}", one, two)
    print()


def images(n):
    """(real, fake, what they are): uint8 [n, 28, 28] each."""
    try:
        glyphs = data.load("mnist")
        return glyphs.x_test[:n], glyphs.x_train[:n], "MNIST test against training images"
    except UserError:
        from datasets import strokes
        return strokes.generate(n, 0)[0], strokes.generate(n, 1)[0], "strokes against strokes"


def whole(features, n):
    """Time every step on n x n images; returns the two FeatureSets."""
    real, fake, what = images(n)
    extractor = Extractor(features)
    sets, extraction = seconds(lambda: [extractor.measure(x) for x in (real, fake)])
    x, y = (s.features for s in sets)
    steps = {"features of both sets": extraction}
    for name, call in (("FID", lambda: fid(moments(x), moments(y))),
                       ("KID, 100 subsets of 1,000", lambda: kernel_distance(x, y)),
                       ("precision, recall, density, coverage", lambda: precision_recall(x, y))):
        steps[name] = seconds(call)[1]
    print(f"{len(real):,} x {len(fake):,} images, d = {x.shape[1]} ({what})")
    for name, s in [*steps.items(), ("together", sum(steps.values()))]:
        print(f"  {name:38} {s:8.2f} s")
    _, s = seconds(lambda: bootstrap_fid(x, y))
    print(f"  {'(interval of FID, 100 resamplings)':38} {s:8.2f} s\n", flush=True)
    return sets


def memory(n, d=128):
    """Every metric on n x n random vectors: seconds, and the peak memory of the process."""
    def peak():
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2 ** 20
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((n, d), dtype=np.float32) for _ in range(2))
    print(f"{n:,} x {n:,} vectors, d = {d}; before: {peak():.0f} MiB")
    for name, call in (("FID", lambda: fid(moments(x), moments(y))), ("KID", lambda: kernel_distance(x, y)),
                       ("precision, recall, density, coverage", lambda: precision_recall(x, y)),
                       ("nearest neighbours", lambda: nearest(x, y))):
        _, s = seconds(call)
        print(f"  {name:38} {s:8.2f} s   peak {peak():.0f} MiB", flush=True)


def main(argv=None):
    parser = Parser(__doc__.split("\n")[0])
    parser.add_argument("--features", default=str(DEFAULT_MODEL), help="the extractor, an ONNX model or pixels")
    parser.add_argument("--n", type=number(int, at_least=100), help="images a side (default: 10,000; 50,000 for memory)")
    parser.add_argument("--only", choices=["frechet", "whole", "memory"], help="one part")
    args = parser.parse_args(argv)
    print(f"{os.cpu_count()} cores, numpy {np.__version__}\n")
    if args.only == "memory":
        memory(args.n or 50_000)
        return
    sets = None if args.only == "frechet" else whole(args.features, args.n or 10_000)
    if args.only != "whole":
        frechet_table(sets)


if __name__ == "__main__":
    run_command(main)
