"""How near are generated images to real ones? FID, KID, precision / recall, density / coverage, and more; no torch.

    python fid.py mnist:test digits.npz                    # features of saved_models/classifier.onnx
    python fid.py real_folder/ fake_folder/ --features pixels --metrics fid,kid --json
    python fid.py mnist:test digits.npz --metrics all --pairs closest.png
    python fid.py mnist:test --save-stats mnist.npz        # once; then: python fid.py mnist.npz digits.npz
    python fid.py real/ fake/ --features inception.onnx --output pool --input-range -1-1

REAL and FAKE: a folder of images, an .npz or .npy, an idx file, NAME:SPLIT as mnist:test, or statistics (an .npz with
mu and sigma, of other tools too: FID alone then). Pictures of other sizes are first brought to 28 x 28, as by data.py.

A figure is comparable only at the same features (their hash is printed), N and reference split; read it beside the
floor, which is the same metric between two sets of real images. In a script:

    extractor = features.Extractor("saved_models/classifier.onnx")
    real, fake = (extractor.measure(*data.read_images(p)) for p in ("mnist:test", "digits.npz"))
    print(quality(real, fake, extractor)["fid"])
"""
import json
import re
import sys
from pathlib import Path

import numpy as np

import data
from metrics import distances as m
from metrics.features import DEFAULT_MODEL, RANGES, Extractor, Measured, moments, read_stats, save_stats
from utils.cli import Parser, run_command
from utils.files import UserError

MIN_IMAGES = 2048                  # below this on either side, or below 2 d, a FID comes with a warning
METRICS = ("fid", "kid", "prdc", "depths", "conditional", "copies")
DEFAULT_METRICS = METRICS[:3]
PAIRS = 12                         # columns of the picture of closest pairs


# ---- the comparison --------------------------------------------------------------------------------------------------

def distance(one, two):
    """FID of two Moments."""
    return m.frechet(one.mean, one.cov, two.mean, two.cov)


def bias_of(real, fake):
    """fid_bias of two Moments with the real side's covariance, None where an N is unknown."""
    return m.fid_bias(real.cov, real.n, fake.n) if real.n and fake.n else None


def quality(real, fake, extractor=None, metrics=DEFAULT_METRICS, table=None, bootstrap=100, infinity=False, seed=0):
    """Compare two Measured sets: a dict of plain numbers, lists and strings, ready for JSON.

    metrics: of METRICS but "copies" (see `copies`). "conditional" needs labels on both sides; `table` is the ink table
    of the training split (data.ink_table), by default that of the real side. `bootstrap`: resamplings for the interval
    of FID, 0 for none. `infinity` adds FID extrapolated to infinite N. Raises UserError where the sets do not fit.
    """
    d, (n_real, n_fake) = len(real.moments.mean), (real.moments.n, fake.moments.n)
    names = [x.moments.extractor for x in (real, fake) if x.moments.extractor]
    if len(fake.moments.mean) != d or len(set(names)) > 1:
        raise UserError(f"REAL has {d} features, FAKE {len(fake.moments.mean)}, of {' and '.join(names) or 'unknown'}: "
                        "they come from different extractors; measure both with the same --features and --output")
    complete = real.features is not None and fake.features is not None
    if not complete and (infinity or set(metrics) - {"fid"}):
        raise UserError("statistics files hold no images: only --metrics fid is possible, without --infinity")
    sha, _, output = (names or ["unknown:unknown"])[0].partition(":")
    out = {"features": {"model": extractor.name if extractor else "statistics", "output": output, "sha256": sha},
           "d": d, "n_real": n_real, "n_fake": n_fake, "warnings": []}
    if "fid" in metrics:
        value = distance(real.moments, fake.moments)
        bias = bias_of(real.moments, fake.moments)
        counts = dict.fromkeys("?" if n is None else str(n) for n in (n_real, n_fake))
        out["fid"] = {"name": f"fid{d}@{':'.join(counts)}", "value": value, "bias": bias}   # one N where both are equal
        few = [f"{n:,} {side}" for side, n in (("real", n_real), ("fake", n_fake)) if n and n < max(MIN_IMAGES, 2 * d)]
        if few:
            out["warnings"].append(f"{' and '.join(few)} images are few for {d} features: {out['fid']['name']}" + (
                f" is about {bias:.3g} too high, which two samples of one distribution would score"
                if bias is not None else " is too high, by how much cannot be said as an N is unknown"))
        if complete and bootstrap:
            half = 1.96 * m.bootstrap_fid(real.features, fake.features, bootstrap, seed)
            out["fid"]["interval"] = [max(value - half, 0.0), value + half]
        if infinity:
            value, error = checked(m.fid_infinity, real.features, fake.features, seed=seed)
            out["fid_infinity"] = {"value": value, "standard_error": error}
    if "kid" in metrics:
        value, error = checked(m.kid, real.features, fake.features, seed=seed)
        out["kid"] = {"value": value, "standard_error": error, "subsets": m.KID_SUBSETS,
                      "size": min(m.KID_SIZE, n_real // 2, n_fake // 2)}
    if "prdc" in metrics:
        out |= checked(m.precision_recall, real.features, fake.features)
    if "depths" in metrics:
        if real.depths.keys() != fake.depths.keys():
            raise UserError("the two sets were not measured at the same depths of the network")
        out["depths"] = {k: {"d": x.shape[1], "fid": m.fid(x, fake.depths[k])} for k, x in real.depths.items()}
    if "conditional" in metrics:
        out |= conditional(real, fake, extractor, table)
    return out


def checked(metric, *args, **options):
    """metric(...), with too few images as a UserError."""
    try:
        return metric(*args, **options)
    except ValueError as e:
        raise UserError(f"{e}; give more images, or leave this metric out") from e


def conditional(real, fake, extractor=None, table=None):
    """What shows whether a conditional model keeps to its conditions: a dict; both sets need labels.

        intra_fid       FID within each class: mean, worst. At few images per class mostly bias: `bias` is its mean
        joint_fid       Frechet joint distance of features and labels (DeVries et al. 2019)
        label_accuracy  share of fakes that the classifier reads as the label that was asked; if it knows these classes
        style_accuracy  share whose drawn thickness lies in the half (thin, thick) that was asked; needs thickness
        spearman        rank correlation of asked and drawn thickness within a class: mean, worst
    """
    if real.labels is None or fake.labels is None:
        raise UserError(f"{'REAL' if real.labels is None else 'FAKE'} has no labels: conditional metrics need them on "
                        "both sides (class sub-folders, a labels.csv, or labels in the .npz)")
    classes = real.classes or [str(i) for i in range(int(max(real.labels.max(), fake.labels.max())) + 1)]
    asked = fake.labels
    if fake.classes and fake.classes != classes:      # a folder with some of the classes numbers them differently
        unknown = sorted({fake.classes[k] for k in np.unique(asked)} - set(classes))
        if unknown:
            raise UserError(f"FAKE has the classes {', '.join(unknown[:5])}, which REAL has not")
        asked = np.array([classes.index(c) if c in classes else -1 for c in fake.classes])[asked]
    if min(asked.min(), real.labels.min()) < 0 or max(asked.max(), real.labels.max()) >= len(classes):
        raise UserError(f"labels do not lie in 0 .. {len(classes) - 1}, the classes of REAL")

    intra, biases, sizes = {}, [], []
    for k, name in enumerate(classes):
        own = [x.features[y == k] for x, y in ((real, real.labels), (fake, asked))]
        if min(map(len, own)) >= 2:
            one, two = map(moments, own)
            intra[name] = distance(one, two)
            biases.append(bias_of(one, two))
            sizes += one.n, two.n
    if not intra:
        raise UserError("no class has two images on both sides: conditional metrics need more images per class")
    worst = max(intra, key=intra.get)
    alpha = float(np.linalg.norm(real.features, axis=1).mean())
    joint = [m.joint_features(x.features, y, len(classes), alpha) for x, y in ((real, real.labels), (fake, asked))]
    out = {"intra_fid": {"mean": float(np.mean(list(intra.values()))), "worst": intra[worst], "worst_class": worst,
                         "bias": float(np.mean(biases)), "smallest_class": min(sizes),
                         "classes_left_out": len(classes) - len(intra)}, "joint_fid": m.fid(*joint)}

    if fake.probabilities is not None and extractor is not None and extractor.classes in (None, classes):
        out["label_accuracy"] = float((fake.probabilities.argmax(1) == asked).mean())
    if fake.thickness is not None and real.images is not None:
        table = data.ink_table(real.images, real.labels, len(classes)) if table is None else table
        drawn = data.thickness(fake.images, asked, table)
        out["style_accuracy"] = float((data.style(drawn) == data.style(fake.thickness)).mean())
        rho = {classes[k]: m.spearman(fake.thickness[asked == k], drawn[asked == k])
               for k in np.unique(asked) if (asked == k).sum() > 2}
        if rho:
            worst = min(rho, key=rho.get)
            out["spearman"] = {"mean": float(np.mean(list(rho.values()))), "worst": rho[worst], "worst_class": worst}
    return out


def copies(real, fake, train, picture=None, seed=0):
    """The memorisation check (metrics.memorisation) of Measured sets; `real` must be no training images: a dict.

    `picture`: a PNG of the fakes that lie nearest to a training image, with their nearest training and test images.
    """
    found = m.memorisation(fake.features, train.features, real.features, seed)
    if picture:
        from utils import figures
        order = np.argsort(found["closeness"], kind="stable")[:PAIRS]
        rows = [fake.images[order], train.images[found["train_index"][order]], real.images[found["test_index"][order]]]
        footer = (f"Above: distance to the training image / to the test image, in feature space. Near-copies (below "
                  f"{found['threshold']:.3g}, as 1 % of the test images are): {found['near_copies']:.2%} of "
                  f"{len(fake.features):,}. Training images: {len(train.features):,}.")
        names = ["generated", "nearest training image", "nearest test image"]
        figures.save(figures.grid([list(r) for r in rows], names, [f"{v:.2f}" for v in found["closeness"][order]],
                                  "Closest to the training set", footer), picture)
    return {k: v for k, v in found.items() if not isinstance(v, np.ndarray)} | {"n_train": len(train.features)}


# ---- the command -----------------------------------------------------------------------------------------------------

def parse_args(argv=None):
    parser = Parser("FID and more between two sets of images: REAL first, then FAKE.")
    add = parser.add_argument
    add("real", metavar="REAL", help="folder, .npz, .npy, idx file, mnist:test, or statistics (.npz)")
    add("fake", metavar="FAKE", nargs="?", help="as REAL; may be left out with --save-stats")
    add("--features", default=str(DEFAULT_MODEL), help="an ONNX model, or pixels")
    add("--output", help="output of the model (default: features, or the only one)")
    add("--input-range", choices=RANGES, help="what the model takes (default: 0-255 for uint8 models, else 0-1)")
    add("--input-size", type=int, help="height and width for a model that takes any")
    add("--metrics", help=f"comma-separated, of {','.join(METRICS)}, or all (default: {','.join(DEFAULT_METRICS)}). "
        "depths: FID at every pooling of the model; rankings can flip with depth. conditional: needs labels. "
        "copies: memorisation")
    add("--floor", default="auto", help="a second real set, the floor of every metric; none; auto: training images of "
        "NAME:test, else two halves of REAL")
    add("--train", help="training images for copies (default: NAME:train for NAME:test)")
    add("--pairs", metavar="PNG", help="picture of the fakes closest to training images (implies copies)")
    add("--bootstrap", type=int, help="resamplings for the interval of FID, 0: none (default: 100 up to 512 features, "
        "0 above, where each takes seconds)")
    add("--infinity", action="store_true", help="FID extrapolated to infinitely many images, too")
    add("--save-stats", metavar="NPZ", help="write the statistics of REAL")
    add("--data-dir", help="where named data sets lie (default: $GLYPHS_DATA, else data/)")
    add("--seed", type=int, default=0, help="of subsets and resampling")
    add("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args(argv)
    if not args.fake and not args.save_stats:
        parser.error("FAKE is missing (it may be left out only with --save-stats)")
    return args


def sibling(text, split):
    """NAME:split for text NAME:SPLIT, None for a path."""
    name = re.fullmatch(r"(.+):(train|val|test)", text)
    return f"{name[1]}:{split}" if name and not Path(text).exists() else None


def floor_sets(args, real, n_fake, measure):
    """((real set, another real set), their names) for the floor, or None: another split of a named data set or the set
    of --floor, as many images as there are fakes; else the halves of REAL."""
    rng = np.random.default_rng(args.seed)
    other = args.floor
    if other == "auto":
        other = sibling(args.real, "test" if args.real.endswith(":train") else "train")
    if other == "none":
        return None
    if other:
        return (real, measure(other, lambda n: rng.permutation(n)[:n_fake or n])), (args.real, other)
    if real.features is None or len(real.features) < 8:
        return None
    halves = np.array_split(rng.permutation(len(real.features)), 2)
    return tuple(real.take(h) for h in halves), (args.real + ", one half", "the other half")


def compare(args):
    """The result of the command as a dict (None where statistics alone were to be saved)."""
    names = METRICS if args.metrics == "all" else args.metrics.split(",") if args.metrics else DEFAULT_METRICS
    wrong = [n for n in names if n not in METRICS]
    if wrong:
        raise UserError(f"no metric {wrong[0]!r}: choose of {', '.join(METRICS)}, or all")
    names = {*names, "copies"} if args.pairs else set(names)
    extractor = None                   # opened for the first set that is not known by its statistics

    def measure(text, choose=lambda n: slice(None)):
        nonlocal extractor
        found = read_stats(text)
        if found:
            return Measured(found)
        extractor = extractor or Extractor(args.features, args.output, args.input_range, args.input_size,
                                           "depths" in names)
        images, labels, thickness, classes = data.read_images(text, args.data_dir)
        index = choose(len(images))
        images, labels, thickness = (None if a is None else a[index] for a in (images, labels, thickness))
        return extractor.measure(images, labels, thickness, classes)

    real = measure(args.real)
    if args.save_stats:
        if real.features is None:
            raise UserError(f"{args.real} holds statistics already: nothing to save")
        save_stats(args.save_stats, real.moments)
        print(f"statistics of {args.real} written to {args.save_stats}", file=sys.stderr)
        if not args.fake:
            return None
    fake = measure(args.fake)
    complete = real.features is not None and fake.features is not None
    if not complete and args.metrics is None:
        names &= {"fid", "copies"}
    train = args.train or (sibling(args.real, "train") if not args.real.endswith(":train") else None)
    if "copies" in names and not (train and complete):
        raise UserError("copies needs images as FAKE, real images that were not trained on as REAL (mnist:test), "
                        "and the training images by --train")
    table = None
    if "conditional" in names and sibling(args.real, "train"):
        glyphs = data.load(args.real.rpartition(":")[0], args.data_dir)
        table = data.ink_table(glyphs.x_train, glyphs.y_train, len(glyphs.classes))
    options = {"extractor": extractor, "metrics": names - {"copies"}, "table": table, "infinity": args.infinity,
               "seed": args.seed}
    bootstrap = args.bootstrap if args.bootstrap is not None else 100 if len(real.moments.mean) <= 512 else 0
    result = {"real": args.real, "fake": args.fake} | quality(real, fake, bootstrap=bootstrap, **options)
    floor = floor_sets(args, real, fake.moments.n, measure)
    if floor:
        options["infinity"] &= min(x.moments.n or 0 for x in floor[0]) >= 3 * result["d"]
        result["floor"] = dict(zip(("real", "fake"), floor[1])) | quality(*floor[0], bootstrap=0, **options)
    if "copies" in names:
        result["copies"] = {"train": train} | copies(real, fake, measure(train), args.pairs, args.seed)
    return result


def rows(result):
    """The numbers of a result as {row name: (value, remark)}, for the table."""
    def with_error(found):
        return found["value"], f"+- {found['standard_error']:.2g}"

    out = {}
    if "fid" in result:
        f = result["fid"]
        remarks = [f"95 % {f['interval'][0]:.4g} .. {f['interval'][1]:.4g}"] if "interval" in f else []
        remarks += [f"of which bias about {f['bias']:.3g}"] if f["bias"] is not None else []
        out["FID"] = f["value"], "; ".join(remarks)
    if "fid_infinity" in result:
        out["FID at infinite N"] = with_error(result["fid_infinity"])
    for name, depth in result.get("depths", {}).items():
        out[f"FID, {name}"] = depth["fid"], f"{depth['d']} features"
    if "kid" in result:
        out["KID"] = with_error(result["kid"])
    for name, k in (("precision", m.PR_K), ("recall", m.PR_K), ("density", m.DC_K), ("coverage", m.DC_K)):
        if name in result:
            out[name] = result[name], f"k = {k}"
    if "intra_fid" in result:
        i = result["intra_fid"]
        out["FID within a class, mean"] = (
            i["mean"], f"of which bias about {i['bias']:.3g}; classes of {i['smallest_class']} up")
        out["FID within a class, worst"] = i["worst"], f"class {i['worst_class']}"
        out["FID of images and labels"] = result["joint_fid"], "DeVries et al. 2019"
    for name in ("label_accuracy", "style_accuracy"):
        if name in result:
            out[name.replace("_", " ")] = result[name], ""
    if "spearman" in result:
        s = result["spearman"]
        out["thickness asked ~ drawn, mean"] = s["mean"], "rank correlation within a class"
        out["thickness asked ~ drawn, worst"] = s["worst"], f"class {s['worst_class']}"
    return out


def report(result):
    """The result as text for people."""
    features, floor = result["features"], result.get("floor")
    lines = [f"{result['fake']} against {result['real']}",
             f"features: {features['model']}, {features['output']}, d = {result['d']}, sha256 {features['sha256']}"]
    if "fid" in result:
        beside = f", floor {floor['fid']['name']} ({floor['fake']})" if floor else ""
        lines.append(f"N: {result['fid']['name']}{beside}")
    below = rows(floor) if floor else {}
    lines.append(f"\n{'':31} {'value':>10} {'floor':>10}")
    for name, (value, remark) in rows(result).items():
        base = f"{below[name][0]:10.4g}" if name in below else " " * 10
        lines.append(f"{name:31} {value:10.4g} {base}  {remark}".rstrip())
    if "copies" in result:
        c = result["copies"]
        lines.append(f"\ncopies of {c['train']} ({c['n_train']:,}): median distance to training / to test images "
                     f"{c['ratio']:.3f}, 1 without copying; near-copies {c['near_copies']:.2%}, 1 % by chance "
                     f"(training / test distance below {c['threshold']:.3f}); equal features {c['exact_copies']:.2%}")
    return "\n".join(lines)


def main(argv=None):
    args = parse_args(argv)
    result = compare(args)
    if result is None:
        return
    for warning in result["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    print(json.dumps(result, indent=1, ensure_ascii=False) if args.json else report(result))


if __name__ == "__main__":
    run_command(main)
