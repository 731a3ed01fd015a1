"""What breaks the recogniser, and does synthetic training data make it harder to break? A section of evaluate.py.

    part = section(Context(glyphs, Path("saved_models"), Path("results")))

First the classifiers of the folder: robust accuracy under all attacks of attacks.py, with its checks, and accuracy under
the corruptions of corruptions.py. Then a study: networks trained for equally many steps on real images, real and
classically augmented, real and generated, and all of these; one row per (arm, seed) is kept in robustness.jsonl in the
folder of results and not computed again. Arms of one seed share their initial weights' seed, test images and attacks.
"""
import hashlib
import math
import time
from pathlib import Path

import numpy as np

import attacks
import models
from attacks import apgd, predict_logits
from generate_digits import open_generator, sample_all
from metrics import statistics
from study.context import RunCache, example_glyphs
from study.corruptions import CORRUPTIONS, corrupt
from study.sections import Figure, Section, Table
from training.classifier import predict, train_classifier
from utils import charts, figures
from utils.files import UserError

VERSION = 1                # of what a row of the study means
CLASSIFIERS = {"classifier": "classifier", "classifier-adversarial": "adversarially trained classifier",
               "classifier-tiny": "tiny classifier"}                     # file stem -> name
GENERATORS = {"generator": "CGAN", "cvae": "CVAE"}                        # file stem -> name
BOUNDS = [("linf", 0.1), ("linf", 0.3), ("l2", 1.5)]                      # of the attacks on trained files
SEVERITY = 3
SHOWN_EPS = (0.05, 0.1)                                                   # bounds with a column in the study's tables
# attacked, corrupted: test images; steps, seeds, attacked: of the study's networks; pool: images of each generator
QUICK = {"images": 150, "corrupted": 500, "steps": 400, "seeds": 2, "attacked": 200, "pool": 6000,
         "eps": [0, 0.05, 0.1, 0.2, 0.3, 0.4]}
FULL = {"images": 300, "corrupted": 1000, "steps": 600, "seeds": 5, "attacked": 300, "pool": 10_000,
        "eps": [0, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4]}
# what Madry et al. 2018 and Wong et al. 2020 keep on MNIST at L-infinity 0.3, by AutoAttack's table
PUBLISHED = "Published for comparison, on MNIST at 0.3: 88.5 % (Madry et al. 2018), 82.9 % (fast training, Wong et al. 2020)"


def measure(context):
    """The robustness section: takes context.Context, gives sections.Section. Raises UserError for a foreign classifier."""
    size = dict(QUICK if context.quick else FULL)
    size["seeds"] = min(size["seeds"], context.seeds) if context.quick else context.seeds
    part = Section("robustness", "What breaks the recogniser?", [])
    part.protocol = {"seeds": size["seeds"], "per_class": None}
    part.numbers = {"protocol": {**size, "severity": SEVERITY, "version": VERSION, "split": "test"}}
    test = Test(context.glyphs, size)
    found = {name: network for stem, name in CLASSIFIERS.items()
             if (network := classifier(context, stem, part.paragraphs)) is not None}
    if found:
        under_attack(part, context, found, test, size)
        under_corruption(part, context, found, test)
        pictures(part, context, found)
    study(part, context, test, size)
    return part


class Test:
    """The test images that are attacked, a random part of them, and the corrupted ones, made once for all networks."""

    def __init__(self, glyphs, size):
        self.x, self.y = attacks.random_subset(glyphs.x_test, glyphs.y_test, size["corrupted"], seed=0)
        self.size, self.made = size, {}

    def first(self, n):
        """n images, evenly from the whole part."""
        i = np.linspace(0, len(self.x) - 1, min(n, len(self.x))).round().astype(np.int64)
        return self.x[i], self.y[i]

    def corruption_accuracy(self, network):
        """{kind: accuracy} of a network at SEVERITY."""
        if not self.made:
            self.made = {kind: corrupt(self.x, kind, SEVERITY, seed=0) for kind in CORRUPTIONS}
        return {kind: float(np.mean(predict(network, x) == self.y)) for kind, x in self.made.items()}


def percent(value, digits=1):
    return "-" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def points(mean, half):
    """A difference of shares in percentage points with its interval."""
    return f"{100 * mean:+.2f}" + (f" ± {100 * half:.2f}" if math.isfinite(half) else "")


def bound(norm, eps):
    return f"{'L-infinity' if norm == 'linf' else 'L2'} {eps:g}"


# ---- the trained files -----------------------------------------------------------------------------------------------

def classifier(context, stem, words):
    """The network of a classifier file on the context's device, None with a word where there is none."""
    path = context.models / f"{stem}.pth"
    if not path.is_file():
        words.append(f"Not measured: there is no {path.name}.")
        return None
    checkpoint = models.load(path, "classifier")
    if checkpoint.classes != context.glyphs.classes:
        raise UserError(f"{path} reads other classes than those of {context.glyphs.name}: name the data set that it was "
                        "trained on")
    return checkpoint.model.to(context.device)


def under_attack(part, context, found, test, size):
    """All attacks on every network at every bound."""
    images, labels = test.first(size["images"])
    rows, numbers, done, total = [], {}, 0, len(found) * len(BOUNDS)
    for name, network in found.items():
        for norm, eps in BOUNDS:
            r = attacks.robust_accuracy(network, images, labels, eps, norm)
            done += 1
            context.say(f"{name} under attack, {bound(norm, eps)}: {percent(r['robust'])} robust", done, total)
            numbers[f"{name}, {bound(norm, eps)}"] = r
            rows.append([name, bound(norm, eps), percent(r["clean"]),
                         *(percent(r["attacks"][a]["accuracy"]) for a in attacks.ATTACKS), percent(r["robust"]),
                         f"{r['seconds']:.0f}", str(len(r["flags"])) if r["flags"] else "none"])
    part.numbers["attacks"] = numbers
    part.tables.append(Table(
        "Accuracy under attack", ["Network", "Bound", "Clean", *attacks.ATTACKS, "Robust", "Seconds", "Flags"], rows,
        f"{len(images):,} test images. Attacks run one after the other on what still stands, so that each column counts "
        "all before it; robust: read rightly after all of them, an upper bound. Square needs no gradient: it is there to "
        "find out gradients that mislead the others."))
    for name in found:
        mine = {bound(*b): numbers[f"{name}, {bound(*b)}"] for b in BOUNDS}
        clean = next(iter(mine.values()))["clean"]
        part.paragraphs.append(f"Of the unchanged images the {name} reads {percent(clean)}; under attack " +
                          ", ".join(f"{percent(r['robust'])} at {b}" for b, r in mine.items()) + "." +
                          (f" {PUBLISHED}." if "advers" in name else ""))
    flagged = [f"{name}: {flag}" for name, r in numbers.items() for flag in r["flags"]]
    part.paragraphs.append("The attacks' own checks raised flags, so these figures may be too high. " + "; ".join(flagged) + "."
                      if flagged else "The attacks' own checks raised no flag: changes stay within bounds and range, no "
                      "gradient is zero, accuracy falls to about 0 where any image can be turned to grey, and the "
                      "gradient-free attack finds hardly anything that the others miss.")


def under_corruption(part, context, found, test):
    """Fifteen kinds of damage on every network."""
    table = {}
    for name, network in found.items():
        context.say(f"{name} on corrupted images")
        clean = float(np.mean(predict(network, test.x) == test.y))
        table[name] = {"clean": clean, **test.corruption_accuracy(network)}
        table[name]["mean"] = float(np.mean([table[name][kind] for kind in CORRUPTIONS]))
    part.numbers["corruptions"] = table
    order = sorted(CORRUPTIONS, key=lambda kind: table[next(iter(table))][kind])
    part.tables.append(Table("Accuracy on corrupted images", ["Corruption", *table],
                             [[kind.capitalize(), *(percent(t[kind]) for t in table.values())]
                              for kind in ["clean", "mean", *order]],
                             f"{len(test.x):,} test images, severity {SEVERITY} of 5, the hardest for the first network at "
                             "the top. The kinds are those of MNIST-C, written anew: not comparable with its files."))
    first = next(iter(table))
    part.paragraphs.append("On corrupted images: " + "; ".join(
        f"{name} {percent(t['mean'])} on average over {len(CORRUPTIONS)} kinds, {percent(t['clean'])} clean" for name, t in
        table.items()) + f". The hardest for the {first} are {order[0]} ({percent(table[first][order[0]])}) and {order[1]} "
        f"({percent(table[first][order[1]])}).")


def pictures(part, context, found):
    """Glyphs changed by an attack, and a sheet of all corruptions."""
    chosen = example_glyphs(context)
    if not chosen:
        part.paragraphs.append("No pictures: there is no generator for these classes, and real images are not shown unless "
                          "asked for.")
        return
    x, y, source = chosen
    names = context.glyphs.classes
    heads = [figures.class_name(names, k) for k in y.tolist()]
    grids = [figures.grid([list(models.to_uint8(x).cpu().numpy())], (), heads, "Unchanged")]
    for name, network in found.items():
        for norm, eps in BOUNDS:
            changed = apgd(network, x, y, eps, norm, loss="dlr")
            read = [figures.class_name(names, k) for k in predict_logits(network, changed).argmax(1).tolist()]
            grids.append(figures.grid([list(models.to_uint8(changed).cpu().numpy())], (), read,
                                      f"{name.capitalize()}, {bound(norm, eps)}: read as"))
    part.figures.append(Figure(
        "robustness_attacks", figures.page(grids, gap=0),
        "Glyphs as they are, then the same glyphs changed by an attack on each network at each bound, below what the "
        "network reads.", f"APGD on DLR; glyphs {source}."))
    images = models.to_uint8(x).cpu().numpy()
    rows = [list(images)] + [list(corrupt(images, kind, SEVERITY)) for kind in CORRUPTIONS]
    part.figures.append(Figure("robustness_corruptions", figures.grid(rows, ["clean", *CORRUPTIONS]),
                                 "A row of glyphs for each kind of corruption.",
                                 f"Severity {SEVERITY} of 5; glyphs {source}."))


# ---- the study -------------------------------------------------------------------------------------------------------

def usable_generators(context, words):
    """{name: path} of the generator files that draw the data set's classes; a word for what is missing."""
    found = {}
    for stem, name in GENERATORS.items():
        path = next((p for p in (context.models / f"{stem}.onnx", context.models / f"{stem}.pth") if p.is_file()), None)
        if path is None:
            words.append(f"Left out of the study: there is no {name} ({stem}.pth or .onnx).")
        elif open_generator(path).classes != context.glyphs.classes:
            words.append(f"Left out of the study: {path.name} draws other classes.")
        else:
            found[name] = path
    return found


def plan(generators):
    """{arm: (augment, names of the generators whose images are mixed in)}."""
    found = {"real": ("none", []), "+ classical": ("classical", [])}
    found |= {f"+ {name}": ("none", [name]) for name in generators}
    return found | ({"+ all": ("classical", list(generators))} if generators else {})


def run_arm(context, test, size, augment, made, seed):
    """Train one network and measure it: a row."""
    g, begun = context.glyphs, time.perf_counter()
    synthetic = tuple(np.concatenate(parts) for parts in zip(*made)) if made else None
    network = train_classifier(g.x_train, g.y_train, steps=size["steps"], seed=seed, augment=augment,
                                    synthetic=synthetic, n_classes=len(g.classes), device=context.device)
    trained = time.perf_counter()
    kinds = test.corruption_accuracy(network)
    return {"curve": attacks.robust_accuracy_curve(network, *test.first(size["attacked"]), size["eps"]), "corruptions": kinds,
            "corrupted": float(np.mean(list(kinds.values()))),
            "clean": float(np.mean(predict(network, g.x_test) == g.y_test)),
            "train_seconds": round(trained - begun, 1), "test_seconds": round(time.perf_counter() - trained, 1)}


def study(part, context, test, size):
    """Train or look up every (seed, arm); tables, a plot and words of what came out."""
    generators = usable_generators(context, part.paragraphs)
    hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest()[:12] for name, path in generators.items()}
    ledger, made, rows = RunCache(Path(context.out) / "robustness.jsonl"), {}, {}
    protocol = {k: size[k] for k in ("steps", "attacked", "corrupted", "eps", "pool")}
    jobs = [(seed, arm, *how) for seed in range(size["seeds"]) for arm, how in plan(generators).items()]
    for i, (seed, arm, augment, sources) in enumerate(jobs):
        key = {"dataset": context.glyphs.name, "sha256": context.glyphs.sha256, "arm": arm, "seed": seed, **protocol,
               "severity": SEVERITY, "generators": {name: hashes[name] for name in sources}, "version": VERSION}
        row = ledger.get(key)
        if row is None:
            for name in sources:
                if (name, seed) not in made:
                    made = {k: v for k, v in made.items() if k[1] == seed}           # those of earlier seeds are done
                    made[name, seed] = sample_all(open_generator(generators[name]), size["pool"], seed=seed)[:2]
            row = ledger.add(key, run_arm(context, test, size, augment, [made[name, seed] for name in sources], seed))
        rows.setdefault(arm, []).append(row)
        context.say(f"{arm}, seed {seed}: clean {percent(row['clean'])}, corrupted {percent(row['corrupted'])}",
                    i + 1, len(jobs))
    measures = measured(rows, size["eps"])
    part.numbers["study"] = {"measures": measures, "differences": differences(measures),
                             "seconds": {arm: sum(r["train_seconds"] + r["test_seconds"] for r in rs)
                                         for arm, rs in rows.items()}}
    present(part, context, size, rows, measures, generators)


def measured(rows, eps):
    """{measure: {arm: values by seed}} of what the tables show."""
    return {"clean": {arm: [r["clean"] for r in rs] for arm, rs in rows.items()},
            **{f"eps {e:g}": {arm: [r["curve"][eps.index(e)] for r in rs] for arm, rs in rows.items()} for e in SHOWN_EPS},
            "corrupted": {arm: [r["corrupted"] for r in rs] for arm, rs in rows.items()}}


def differences(measures):
    """{measure: {arm: paired difference from "real", with p corrected for all questions asked (Holm)}}."""
    found = {m: {arm: statistics.paired(v, values["real"]) for arm, v in values.items() if arm != "real"}
             for m, values in measures.items()}
    every = [d for arms_of in found.values() for d in arms_of.values()]
    for d, p in zip(every, statistics.holm([d["p"] for d in every])):
        d["p_holm"] = float(p)
    return found


def present(part, context, size, rows, measures, generators):
    """Tables, plot and words of the study."""
    heads = {"clean": "Clean", **{f"eps {e:g}": f"Attacked at {e:g}" for e in SHOWN_EPS}, "corrupted": "Corrupted"}
    diffs = part.numbers["study"]["differences"]

    def interval(values):
        mean, half = statistics.t_interval(values)
        return f"{100 * mean:.2f}" + (f" ± {100 * half:.2f}" if math.isfinite(half) else "")
    part.tables.append(Table(
        "Robustness by training data", ["Trained on", *heads.values()],
        [[arm, *(interval(measures[m][arm]) for m in heads)] for arm in rows],
        f"Accuracy in %, mean of {size['seeds']} seeds ± half the 95 % t-interval. {size['steps']:,} steps of 64 images in "
        f"every arm, half of them generated where a generator is named. Attacked: APGD on cross-entropy and DLR, "
        f"L-infinity, {min(size['attacked'], len(context.glyphs.x_test)):,} test images. "
        f"Corrupted: mean of {len(CORRUPTIONS)} kinds."))
    part.tables.append(Table(
        "Gain over real images alone", ["Trained on", *heads.values()],
        [[arm, *(points(diffs[m][arm]["mean"], diffs[m][arm]["half"]) for m in heads)] for arm in rows if arm != "real"],
        "Percentage points, differences paired by seed ± half the 95 % t-interval."))
    lines = {}
    for arm, rs in rows.items():
        mean, half = np.array([statistics.t_interval([r["curve"][i] for r in rs]) for i in range(len(size["eps"]))]).T
        band = () if len(rs) < 3 else (np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1))
        lines[arm] = (size["eps"], mean, *band)
    part.figures.append(Figure(
        "robustness_eps", charts.curves(lines, "Accuracy under attack, by training data", "eps (L-infinity)", "accuracy",
                                        y_range=(0, 1)),
        "Accuracy against the bound of the attack, a line for each kind of training data; all fall from nearly 1 to about "
        f"{np.mean([v[1][-1] for v in lines.values()]):.2f}.",
        f"Mean of {size['seeds']} seeds" + ("; band: 95 % t-interval." if size["seeds"] > 2 else ".")))
    table = np.array([[np.mean([r["corruptions"][k] for r in rs]) for k in CORRUPTIONS] for rs in rows.values()])
    part.figures.append(Figure(
        "robustness_kinds", charts.heatmap(table.T * 100, list(CORRUPTIONS), list(rows), "Accuracy on corrupted images, %",
                                           text="{:.1f}"),
        "Accuracy by kind of corruption (rows) and training data (columns).", f"Mean of {size['seeds']} seeds."))
    part.paragraphs[:0] = verdict(diffs, heads, size, generators)


def verdict(diffs, heads, size, generators):
    """What the study says: sentences made of its numbers."""
    if not generators:
        return ["Whether synthetic data make a recogniser more robust was not measured: there is no generator."]
    said, gained = [], []
    for name in [*generators, "classical", "all"]:
        mine = {m: diffs[m][f"+ {name}"] for m in heads}
        proven = {m for m, d in mine.items() if d["n"] > 2 and d["p_holm"] < 0.05}     # two pairs may agree by chance
        if name in generators and any(mine[m]["mean"] > 0 for m in proven - {"clean"}):
            gained.append(name)
        what = {"classical": "classical augmentation", "all": "all of it together"}.get(name, f"{name} images")
        said.append(f"{what}: " + ", ".join(f"{heads[m].lower()}: {points(d['mean'], d['half'])}" + " (*)" * (m in proven)
                                            for m, d in mine.items()))
    return ["Does synthetic data make the recogniser more robust? " +
            (f"Yes, measurably: with images of the {' and the '.join(gained)}" if gained else "No gain could be shown") +
            f" ({size['seeds']} paired seeds, {size['steps']:,} steps in every arm).",
            f"Percentage points against real images alone - {'; '.join(said)}.",
            "(*) marks differences with p < 0.05 after Holm's correction for all questions of this table." +
            (" Fewer than three seeds can show none; the full study has more." if size["seeds"] < 3 else "") +
            " The generators had learned from the whole training split, so they add variety at most, not knowledge from "
            "elsewhere."]
