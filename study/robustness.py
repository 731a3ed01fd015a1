"""A section of evaluate.py: what breaks the classifier, and does synthetic training data make it harder to break?

    section = measure(context)           # describe(numbers): its text, tables and charts from stored numbers

First the classifiers of the folder, under all attacks and corruptions. Then a study: networks trained for equally many
steps on real images, on real and classically augmented or generated ones, and on all of these; a row per (arm, seed) is
kept in robustness.jsonl and not computed again. Arms of one seed have the same initial weights, images and attacks.
"""
import hashlib
import time
from functools import cached_property, partial

import numpy as np

import attacks
import models
from generate_digits import sample_all
from metrics.statistics import (
    SIGNIFICANT,
    format_interval,
    format_percent,
    format_points,
    holm,
    paired_t_test,
    t_interval,
)
from study.context import GENERATORS, example_glyphs, generator_file, join_names, open_classifier, open_generators
from study.corruptions import CORRUPTIONS, corrupt
from study.jobs import RowStudy, run
from study.report import Figure, Section, Table
from study.run_cache import RunCache
from training.classifier import accuracy, train_classifier
from utils import charts, figures
from utils.checked_json import is_duration, is_share, matches

VERSION = 1                # of what a row of the study means
CLASSIFIERS = {"classifier": "classifier", "classifier-adversarial": "adversarially trained classifier",
               "classifier-tiny": "tiny classifier"}                     # file stem -> name
BOUNDS = {"L-infinity 0.1": ("linf", 0.1), "L-infinity 0.3": ("linf", 0.3), "L2 1.5": ("l2", 1.5)}
SEVERITY = 3               # of the corruptions
ROW = {"eps": [float], "curve": [is_share], "corruptions": {str: is_share}, "corrupted": is_share, "clean": is_share,
       "train_seconds": is_duration, "test_seconds": is_duration}             # of robustness.jsonl
TABLE_EPS = (0.05, 0.1)    # L-infinity bounds with a column in the study's tables
# test images: under all attacks on the trained files, of each kind of corruption, attacked in the study; targeted:
# steps of apgd-t, which takes as long as all others together; steps and seeds: of each arm's training in the study;
# pool: images of each generator
QUICK = {"images": 150, "targeted": 20, "corrupted": 500, "steps": 400, "seeds": 2, "attacked": 200, "pool": 6000,
         "eps": [0, 0.05, 0.1, 0.2, 0.3, 0.4]}
FULL = {"images": 300, "targeted": 100, "corrupted": 1000, "steps": 600, "attacked": 300, "pool": 10_000,
        "eps": [0, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4]}


def measure(context):
    """The Section; raises UserError for a classifier of other classes."""
    size = dict(QUICK if context.quick else FULL)
    size["seeds"] = min(size["seeds"], context.seeds) if context.quick else context.seeds
    present = [stem for stem in CLASSIFIERS if (context.models / f"{stem}.pth").is_file()]
    networks = {CLASSIFIERS[stem]: open_classifier(context, stem) for stem in present}
    missing = [f"Not measured: there is no {stem}.pth." for stem in CLASSIFIERS if stem not in present]
    study = Study(context, size)
    counts = {k: min(size[k], len(context.glyphs.x_test)) for k in ("images", "corrupted", "attacked")}
    numbers = {"protocol": {**size, **counts, "severity": SEVERITY, "version": VERSION, "split": "test"}}
    if networks:
        numbers |= measure_networks(context, networks, study.test, size["images"], size["targeted"])
    numbers["study"] = run_study(study)
    section, examples = describe(numbers), example_glyphs(context)
    section.paragraphs += missing + study.notes
    if networks and examples:
        section.figures[:0] = glyph_figures(networks, context.glyphs.classes, *examples)
    elif networks:
        section.paragraphs.append("No figures of glyphs: there is no generator, and real images need --show-real.")
    return section


def measure_networks(context, networks, test, n, targeted):
    """{"attacks": {"name, bound": result of attacks.robust_accuracy}, "corruptions": {name: {kind: accuracy}}}.
    test: (images, labels, {kind: the images corrupted})."""
    (x, y, corrupted), results, by_kind, total = test, {}, {}, len(networks) * len(BOUNDS)
    attacked = figures.evenly_spaced(len(x), n)
    every = {**attacks.ATTACKS, "apgd-t": partial(attacks.ATTACKS["apgd-t"], steps=targeted)}
    for name, network in networks.items():
        for bound, (norm, eps) in BOUNDS.items():
            key = f"{name}, {bound}"
            results[key] = attacks.robust_accuracy(network, x[attacked], y[attacked], eps, norm, every)
            context.say(f"{key}: {format_percent(results[key]['robust'], 1)} robust", len(results), total)
        kinds = {kind: accuracy(network, images, y) for kind, images in corrupted.items()}
        by_kind[name] = {"clean": accuracy(network, x, y), **kinds, "mean": float(np.mean(list(kinds.values())))}
    return {"attacks": results, "corruptions": by_kind}


def glyph_figures(networks, classes, x, y, origin):
    """Glyphs changed by an attack on each network at each bound, with the answers; and by every corruption."""
    def row(images, labels, title):
        names = [figures.class_name(classes, k) for k in labels.tolist()]
        return figures.grid([models.to_uint8(images).cpu().numpy()], (), names, title)

    grids, images = [row(x, y, "Unchanged")], models.to_uint8(x).cpu().numpy()
    for name, network in networks.items():
        for bound, (norm, eps) in BOUNDS.items():
            changed = attacks.apgd(network, x, y, eps, norm, loss="dlr")
            answers = attacks.predict_logits(network, changed).argmax(1)
            grids.append(row(changed, answers, f"{name.capitalize()}, {bound}: read as"))
    corrupted = [images, *(corrupt(images, kind, SEVERITY) for kind in CORRUPTIONS)]
    return [Figure("robustness_attacks", figures.page(grids, gap=0), "Glyphs as they are, then changed by an attack on "
                   "each network at each bound, above its answers.", f"APGD on DLR; glyphs {origin}."),
            Figure("robustness_corruptions", figures.grid(corrupted, ["clean", *CORRUPTIONS]),
                   "A row of glyphs for each kind of corruption.", f"Severity {SEVERITY} of 5; glyphs {origin}.")]


def run_arm(context, test, size, augment, synthetic, seed):
    """Train one network and measure it: a row. synthetic: (images, labels) or None."""
    (x, y, corrupted), g, started = test, context.glyphs, time.perf_counter()
    attacked = figures.evenly_spaced(len(x), size["attacked"])
    network = train_classifier(g.x_train, g.y_train, steps=size["steps"], seed=seed, augment=augment,
                               synthetic=synthetic, n_classes=len(g.classes), device=context.device)
    trained = time.perf_counter()
    kinds = {kind: accuracy(network, images, y) for kind, images in corrupted.items()}
    return {"curve": attacks.robust_accuracy_curve(network, x[attacked], y[attacked], size["eps"]),
            "corruptions": kinds, "corrupted": float(np.mean(list(kinds.values()))),
            "clean": accuracy(network, g.x_test, g.y_test),
            "train_seconds": round(trained - started, 1), "test_seconds": round(time.perf_counter() - trained, 1)}


class Study(RowStudy):
    """Trains and measures the arms. A job is (seed, arm)."""

    def __init__(self, context, size):
        super().__init__(context, RunCache(context.out / "robustness.jsonl", is_row), size=size)
        self.size = size
        sources, self.notes = open_generators(context, ("generator", "cvae"))
        self.hashes = {}
        for stem in sources:
            content = generator_file(context, stem).read_bytes()
            self.hashes[GENERATORS[stem]] = hashlib.sha256(content).hexdigest()[:12]
        self.sources = {GENERATORS[stem]: source for stem, source in sources.items()}
        self.arms = {"real": ("none", []), "+ classical": ("classical", [])}          # augment, generators of images
        self.arms |= {f"+ {name}": ("none", [name]) for name in self.sources}
        if sources:
            self.arms["+ all"] = ("classical", list(self.sources))

    @cached_property
    def test(self):
        """Test images, labels, {kind: the images corrupted}."""
        g = self.context.glyphs
        x, y = attacks.random_subset(g.x_test, g.y_test, self.size["corrupted"], seed=0)
        return x, y, {kind: corrupt(x, kind, SEVERITY) for kind in CORRUPTIONS}

    def key(self, seed, arm):
        g, generators = self.context.glyphs, {name: self.hashes[name] for name in self.arms[arm][1]}
        return {k: self.size[k] for k in ("steps", "attacked", "corrupted", "eps", "pool")} | {
            "dataset": g.name, "sha256": g.sha256, "severity": SEVERITY, "version": VERSION,
            "arm": arm, "seed": seed, "generators": generators}

    def run_one(self, seed, arm):
        augment, names = self.arms[arm]
        pools = [sample_all(self.sources[name], self.size["pool"], seed=seed)[:2] for name in names]
        synthetic = [np.concatenate(parts) for parts in zip(*pools)] or None
        return self.cache.add(self.key(seed, arm),
                              run_arm(self.context, self.test, self.size, augment, synthetic, seed))

    def describe(self, row):
        return f"{row['arm']}, seed {row['seed']}: clean {format_percent(row['clean'], 1)}"


def run_study(study):
    """Train or look up every (seed, arm): the study's numbers."""
    size, rows = study.size, {}
    jobs = [(seed, arm) for seed in range(size["seeds"]) for arm in study.arms]
    for (_, arm), row in zip(jobs, run(study, jobs)):
        rows.setdefault(arm, []).append(row)
    values = {k: {arm: [r[k] for r in rs] for arm, rs in rows.items()} for k in ("clean", "curve", "corrupted")}
    at_eps = {f"eps {eps:g}": {arm: [curve[size["eps"].index(eps)] for curve in curves]
                               for arm, curves in values["curve"].items()} for eps in TABLE_EPS}
    measures = {"clean": values["clean"], **at_eps, "corrupted": values["corrupted"]}
    return {"measures": measures, "differences": differences(measures),
            "seconds": {arm: sum(r["train_seconds"] + r["test_seconds"] for r in rs) for arm, rs in rows.items()},
            "curves": values["curve"],
            "kinds": {arm: {k: float(np.mean([r["corruptions"][k] for r in rs])) for k in CORRUPTIONS}
                      for arm, rs in rows.items()}}


def is_row(row):
    """Whether JSON is a row of the study; what those of another VERSION hold is not looked at."""
    return row.get("version") != VERSION or (matches(row, ROW) and len(row["curve"]) == len(row["eps"])
                                             and row["corruptions"].keys() >= set(CORRUPTIONS))


def differences(measures):
    """{measure: {arm: paired difference from "real", with p corrected for all comparisons (Holm)}}."""
    results = {m: {arm: paired_t_test(v, values["real"]) for arm, v in values.items() if arm != "real"}
               for m, values in measures.items()}
    tests = [d for by_arm in results.values() for d in by_arm.values()]
    for test, p in zip(tests, holm([d["p"] for d in tests])):
        test["p_holm"] = float(p)
    return results


# ---- text, tables, charts of the numbers ---------------------------------------------------------

def describe(numbers):
    """The Section of numbers, measured now or stored."""
    section = Section("robustness", "What breaks the classifier, and do synthetic images help?", [], numbers=numbers,
                      protocol={"seeds": numbers["protocol"]["seeds"], "per_class": None})
    answer = (f"{describe_attacks(section)}; " if "attacks" in numbers else "") + describe_study(section)
    section.answer = f"{answer[0].upper()}{answer[1:]}."
    return section


def describe_attacks(section):
    """Add text and tables on the trained files; returns the answer, a clause."""
    results = [(*key.rsplit(", ", 1), r) for key, r in section.numbers["attacks"].items()]
    columns, protocol = section.numbers["corruptions"], section.numbers["protocol"]
    bound, names = results[0][1], list(results[0][2]["attacks"])
    robust = [f"{format_percent(r['robust'], 1)} ({name})" for name, b, r in results if b == bound]
    flags = [f"{name}, {b}: {flag}" for name, b, r in results for flag in r["flags"]]
    section.paragraphs.append(
        f"The attacks' own checks raised flags, so robust accuracy may be too high. {'; '.join(flags)}." if flags else
        "The attacks' own checks raised no flag: changes stay within bounds and range, hardly any gradient is zero, "
        "accuracy falls to about 0 where any image can be turned to grey, and the gradient-free attack finds hardly "
        "anything that the others miss.")
    rows = []
    for name, b, r in results:
        values = [r["clean"], *(a["accuracy"] for a in r["attacks"].values()), r["robust"]]
        rows.append([name, b, *(format_percent(v, 1) for v in values), f"{r['seconds']:.0f}",
                     str(len(r["flags"]) or "none")])
    section.tables.append(Table(
        "Accuracy under attack", ["Network", "Bound", "Clean", *names, "Robust", "Seconds", "Flags"], rows,
        f"{results[0][2]['n']:,} test images. Attacks run one after the other on images not yet misclassified, so that "
        "each column counts all before it; robust: read correctly after all of them, an upper bound. Square needs no "
        "gradient: it detects gradients that mislead the others. Published on MNIST, L-infinity 0.3, by AutoAttack's "
        "table: 88.5 % (Madry et al. 2018), 82.9 % (fast training, Wong et al. 2020). apgd-t: towards nine classes, "
        f"{protocol['targeted']} steps each."))
    first = next(iter(columns.values()))
    kinds = ["clean", "mean", *sorted((k for k in first if k not in ("clean", "mean")), key=first.get)]
    section.tables.append(Table(
        "Accuracy on corrupted images", ["Corruption", *columns],
        [[kind.capitalize(), *(format_percent(c[kind], 1) for c in columns.values())] for kind in kinds],
        f"{protocol['corrupted']:,} test images, severity {protocol['severity']} of 5; hardest for the first network "
        "on top. The kinds are those of MNIST-C, written anew: not comparable with its files."))
    return f"attacked within {bound}, {join_names(robust)} of the images are still read correctly"


def describe_study(section):
    """Add text, tables and charts of the study; returns the answer, a clause."""
    study, protocol = section.numbers["study"], section.numbers["protocol"]
    measures, diffs = study["measures"], study["differences"]
    heads = {m: m.capitalize().replace("Eps", "Attacked at") for m in measures}
    significant = [(arm, m, d) for m, by_arm in diffs.items() for arm, d in by_arm.items()
                   if d["n"] > 2 and d["p_holm"] < SIGNIFICANT]                   # two pairs may agree by chance
    generators = [name for name in GENERATORS.values() if f"+ {name}" in diffs["clean"]]
    arms_gained = {arm for arm, m, d in significant if m != "clean" and d["mean"] > 0}
    gained = [name for name in generators if f"+ {name}" in arms_gained]
    texts = [f"{arm}, {heads[m].lower()}: {format_points(d['mean'], d['half'])}" for arm, m, d in significant]
    text = ("Differences from training on real images alone with p < 0.05 after Holm's correction for all comparisons, "
            f"in percentage points: {'; '.join(texts) or 'none'}.")
    if protocol["seeds"] < 3:
        text += " Fewer than three seeds can show none; the full study has more."
    section.paragraphs.append(text)
    accuracies = [[arm, *(format_interval(*t_interval(measures[m][arm])) for m in heads)]
                  for arm in measures["clean"]]
    gains = [[arm, *(format_points(diffs[m][arm]["mean"], diffs[m][arm]["half"]) for m in heads)]
             for arm in diffs["clean"]]
    section.tables += [
        Table("Robustness by training data", ["Trained on", *heads.values()], accuracies,
              f"Accuracy in %, mean of {protocol['seeds']} seeds ± half the 95 % t-interval; {protocol['steps']:,} "
              "steps of 64 images, half of them generated where a generator is named. Attacked: APGD on CE and DLR, "
              f"L-infinity, {protocol['attacked']:,} test images. Corrupted: mean of {len(CORRUPTIONS)} kinds. The "
              "generators learned from the whole training split: they can add variety, not knowledge."),
        Table("Gain over real images alone", ["Trained on", *heads.values()], gains,
              "Percentage points, differences paired by seed ± half the 95 % t-interval.")]
    section.figures += study_charts(study, protocol)
    if gained:
        return f"training with images of the {join_names(gained)} makes a classifier measurably more robust"
    if generators:
        return "no gain could be shown from training with generated images"
    return "whether synthetic images help was not measured, as there is no generator"


def study_charts(study, protocol):
    lines, seeds, kinds = {}, protocol["seeds"], study["kinds"]
    for arm, curves in study["curves"].items():
        mean, half = np.array([t_interval(values) for values in zip(*curves)]).T
        band = (np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1)) if seeds > 2 else ()
        lines[arm] = (protocol["eps"], mean, *band)
    curves = charts.curves(lines, "Accuracy under attack, by training data", "eps (L-infinity)", "accuracy",
                           y_range=(0, 1))
    heat = charts.heatmap([[100 * kinds[arm][kind] for arm in kinds] for kind in CORRUPTIONS], list(CORRUPTIONS),
                          list(kinds), "Accuracy on corrupted images, %")
    return [Figure("robustness_eps", curves, "Accuracy against the bound of the attack, a line for each training set.",
                   f"Mean of {seeds} seeds; bands, of three or more seeds: 95 % t-interval."),
            Figure("robustness_kinds", heat, "Accuracy by kind of corruption (rows) and training data (columns).",
                   f"Mean of {seeds} seeds.")]
