"""How near are generated images to real ones? FID, KID, precision / recall, density / coverage, and more; no torch.

    python fid.py mnist:test digits.npz --metrics all --pairs closest.png
    python fid.py real/ fake/ --features inception.onnx --output pool --input-range -1-1

REAL and FAKE: a folder of images, an .npz, .npy or idx file, NAME:SPLIT as mnist:test, or statistics (an .npz with mu
and sigma, of other tools too: FID alone then). A figure is comparable only at the same features (see their hash), N
and reference split; read it beside the floor, which is the same metric between two sets of real images.
"""
if __name__ == "__main__":                     # before the imports that take seconds
    from utils.cli import stop_quietly
    stop_quietly()

import json
import sys
from pathlib import Path

import numpy as np

import data
from metrics import comparison
from metrics.features import DEFAULT_MODEL, RANGES, Extractor, FeatureSet
from metrics.frechet_distance import load_moments, save_moments
from metrics.neighbours import DC_K, PR_K, copies
from utils.cli import Parser, add_data_options, names_from, new_file, non_empty_path, number, run_command
from utils.files import UserError
from utils.limits import MAX_SIDE

METRICS = (*comparison.METRICS, "copies")


def parse_args(argv=None):
    parser = Parser("FID and more between two sets of images: REAL first, then FAKE.")
    add = parser.add_argument
    add("real", metavar="REAL", type=non_empty_path, help="folder, .npz, .npy, idx, mnist:test or statistics (.npz)")
    add("fake", metavar="FAKE", type=non_empty_path, nargs="?", help="as REAL; may be left out with --save-stats")
    add("--features", type=non_empty_path, default=str(DEFAULT_MODEL), help="an ONNX model, or pixels")
    add("--output", type=non_empty_path, help="output of the model (default: features, or the only one)")
    add("--input-range", choices=RANGES, help="what the model takes (default: 0-255 for uint8 models, else 0-1)")
    add("--input-size", type=number(int, above=0, at_most=MAX_SIDE), help="height and width for a model that takes any")
    add("--metrics", type=lambda text: METRICS if text == "all" else names_from(METRICS)(text),
        help=f"all, or some of {','.join(METRICS)} (default: {','.join(comparison.DEFAULT_METRICS)}). depths: FID at "
        "every pooling of the model; conditional: needs labels; copies: memorisation")
    add("--floor", type=non_empty_path, default="auto",
        help="a second real set; none; auto: NAME:train for NAME:test, else halves of REAL")
    add("--train", type=non_empty_path, help="training images for copies (default: NAME:train for NAME:test)")
    add("--pairs", metavar="PNG", type=new_file(".png"),
        help="picture of the fakes closest to training images (implies copies)")
    add("--bootstrap", type=number(int, at_least=0, at_most=10_000),
        help="resamplings for the interval of FID, or 0 (default: 100 up to 512 features)")
    add("--infinity", action="store_true", help="FID extrapolated to infinitely many images, too")
    add("--save-stats", metavar="NPZ", type=new_file(".npz"), help="write the statistics of REAL")
    add_data_options(parser, center=False)
    add("--seed", type=number(int, at_least=0, below=2 ** 32), default=0, help="of subsets and resampling")
    add("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args(argv)
    if not args.fake and not args.save_stats:
        parser.error("FAKE is missing (it may be left out only with --save-stats)")
    if args.bootstrap == 1:
        parser.error("--bootstrap 1 has no spread: take 0 or at least 2")
    metrics, is_plain = args.metrics or comparison.DEFAULT_METRICS, args.features == "pixels"
    if "fid" not in metrics and (args.bootstrap or args.infinity):
        parser.error("--bootstrap and --infinity are about fid, which --metrics leaves out")
    if args.train and not ("copies" in metrics or args.pairs):
        parser.error("--train is for copies: add --metrics fid,copies or --pairs, or leave it out")
    if is_plain and (args.output or args.input_range or args.input_size):
        parser.error("--output, --input-range and --input-size are about a model: --features pixels takes none")
    return args


def run(args):
    """The result of the command as a dict (None where statistics alone were to be saved)."""
    names = set(args.metrics or comparison.DEFAULT_METRICS) | ({"copies"} if args.pairs else set())
    extractor = None

    def read(text, rng=None, n=None):
        """The FeatureSet of an argument; with `rng`, n images of it (None: all) in random order."""
        nonlocal extractor
        if stats := load_moments(text):
            return FeatureSet(stats)
        if extractor is None:
            extractor = Extractor(args.features, args.output, args.input_range, args.input_size, "depths" in names)
        *arrays, classes = data.read_images(text, args.data_dir)
        if rng:
            index = rng.permutation(len(arrays[0]))[:n]
            arrays = [None if a is None else a[index] for a in arrays]
        return extractor.measure(*arrays, classes)

    real = read(args.real)
    if args.save_stats:
        if real.features is None:
            raise UserError(f"{args.real} holds statistics already: nothing to save")
        save_moments(args.save_stats, real.moments)
        print(f"statistics of {args.real} written to {args.save_stats}", file=sys.stderr)
        if not args.fake:
            return None
    fake = read(args.fake)
    has_features = real.features is not None and fake.features is not None
    if not has_features and args.metrics is None:
        names &= {"fid", "copies"}
    dataset, _, split = args.real.rpartition(":")
    is_named = split in ("train", "val", "test") and not Path(args.real).exists()
    train = args.train or (f"{dataset}:train" if is_named and split != "train" else None)
    if "copies" in names and not (train and has_features):
        raise UserError("copies needs images as FAKE, real images that were not trained on as REAL (mnist:test), "
                        "and the training images by --train")
    training_set = read(train) if "copies" in names else None
    if training_set and training_set.features is None:
        raise UserError(f"--train {train} holds statistics: copies needs the training images themselves")
    table = None
    if "conditional" in names and is_named:
        glyphs = data.load(dataset, args.data_dir)
        table = data.width_table(glyphs.x_train, glyphs.y_train, len(glyphs.classes))
    options = {"extractor": extractor, "metrics": names - {"copies"}, "table": table, "seed": args.seed}
    result = {"real": args.real, "fake": args.fake}
    result |= comparison.compare(real, fake, bootstrap=args.bootstrap, infinity=args.infinity, **options)
    other = args.floor
    if other == "auto" and is_named:
        other = f"{dataset}:test" if split == "train" else f"{dataset}:train"
    if floor := floor_sets(args, other, real, fake.moments.n, read):
        name_1, set_1, name_2, set_2 = floor
        infinity = args.infinity and min(set_1.moments.n or 0, set_2.moments.n or 0) >= 3 * result["d"]
        result["floor"] = {"real": name_1, "fake": name_2}
        result["floor"] |= comparison.compare(set_1, set_2, bootstrap=0, infinity=infinity, **options)
    if "copies" in names:
        result["copies"] = {"train": train} | copies(real, fake, training_set, args.pairs, args.seed)
    return result


def floor_sets(args, other, real, n_fake, read):
    """(name, set, name, set) of real images, or None: REAL and n_fake images of `other`; for "auto" halves of REAL."""
    rng = np.random.default_rng(args.seed)
    if other not in ("auto", "none"):
        return args.real, real, other, read(other, rng, n_fake)
    if other == "none" or real.features is None or len(real.features) < 2 * (DC_K + 1):
        return None
    half, rest = np.array_split(rng.permutation(len(real.features)), 2)
    return f"{args.real}, one half", real.take(half), "the other half", real.take(rest)


def rows(result):
    """The numbers of a result as {row name: (value, remark)}, for the table."""
    out = {}

    def add(name, key, field=None, remark=""):
        if key in result:
            out[name] = result[key][field] if field else result[key], remark.format(**result)

    if fid := result.get("fid"):
        remarks = ["95 % {:.4g} .. {:.4g}".format(*fid["interval"])] if "interval" in fid else []
        if fid["bias"] is not None:
            remarks.append(f"of which bias about {fid['bias']:.3g}")
        out["FID"] = fid["value"], "; ".join(remarks)
    add("FID at infinite N", "fid_infinity", "value", "+- {fid_infinity[standard_error]:.2g}")
    for name, depth in result.get("depths", {}).items():
        out[f"FID, {name}"] = depth["fid"], f"{depth['d']} features"
    add("KID", "kid", "value", "+- {kid[standard_error]:.2g}")
    for key, k in ("precision", PR_K), ("recall", PR_K), ("density", DC_K), ("coverage", DC_K):
        add(key, key, remark=f"k = {k}")
    add("FID within a class, mean", "intra_fid", "mean",
        "of which bias about {intra_fid[bias]:.3g}; classes of {intra_fid[smallest_class]} up")
    add("FID within a class, worst", "intra_fid", "worst", "class {intra_fid[worst_class]}")
    add("FID of images and labels", "joint_fid", remark="DeVries et al. 2019")
    add("label accuracy", "label_accuracy")
    add("style accuracy", "style_accuracy")
    add("thickness asked ~ drawn, mean", "spearman", "mean", "rank correlation within a class")
    add("thickness asked ~ drawn, worst", "spearman", "worst", "class {spearman[worst_class]}")
    return out


def report(result):
    """The result as text for people."""
    features, floor = result["features"], result.get("floor")
    lines = [f"{result['fake']} against {result['real']}",
             f"features: {features['model']}, {features['output']}, d = {result['d']}, sha256 {features['sha256']}"]
    if "fid" in result:
        beside = f", floor {floor['fid']['name']} ({floor['fake']})" if floor else ""
        lines.append(f"N: {result['fid']['name']}{beside}")
    lines.append(f"\n{'':31} {'value':>10} {'floor':>10}")
    floor_rows = rows(floor) if floor else {}
    for name, (value, remark) in rows(result).items():
        base = f"{floor_rows[name][0]:.4g}" if name in floor_rows else ""
        lines.append(f"{name:31} {value:10.4g} {base:>10}  {remark}".rstrip())
    if c := result.get("copies"):
        lines.append(f"\ncopies of {c['train']} ({c['n_train']:,}): median distance to training / to test images "
                     f"{c['ratio']:.3f}, 1 without copying; near-copies {c['near_copies']:.2%}, 1 % by chance "
                     f"(training / test distance below {c['threshold']:.3f}); equal features {c['exact_copies']:.2%}")
        if "moved_copies" in c:
            lines.append(f"near-copies by pixels, also where they were moved: {c['moved_copies']:.2%}, 1 % by chance")
    return "\n".join(lines)


def main(argv=None):
    args = parse_args(argv)
    if result := run(args):
        for warning in result["warnings"]:
            print(f"warning: {warning}", file=sys.stderr)
        print(json.dumps(result, indent=1, ensure_ascii=False) if args.json else report(result))


if __name__ == "__main__":
    run_command(main)
