"""Do synthetic images help a recogniser? The study, run by run; ocr_report.py makes tables and words of it.

    python ocr.py --dataset mnist --seeds 5                              # the full study, hours; stop it at will
    python ocr.py --dataset mnist --protocols rare --per-class 10,20 --arms tuned,cgan+tuned,cvae
    python ocr.py --quick                                                # what evaluate.py does where no longer study lies

Every finished (protocol, arm, n, seed) is a row in <out>/ocr.jsonl and is not run again. Fair by construction: of a
seed all arms see the same real images and take the same number of optimiser steps from the same initial weights; their
settings were chosen on the validation split among the same number of tries, with the real images and initial weights of
another seed (SELECTION_SEED), after the warp of all augmented arms, chosen without a generator; the test split is read
once, at the end of a run. Generators learn from the same real images, but for the protocol of earlier projects.
"""
import base64
import time
from pathlib import Path

import numpy as np
import torch

import data
from datasets import strokes
from generate_digits import sample_all
from metrics import statistics
from study import ocr_report
from study.context import Context, RunCache
from study.protocols import ARMS, EXTRA, QUICK, WARP, arm, fingerprint, make_case, script
from study.sections import Section
from training.classifier import predict_probabilities, train_classifier
from training.run import train_generator
from utils.cli import Parser, choose_device, default_folder, image_counts, names_from, number, run_command
from utils.files import UserError

VERSION = 3                # of what a row means: rows of another version are run anew
SELECTION_SEED = 1000      # of the real images, networks and generators with which settings are chosen
POOL = 10_000              # synthetic images of a generator
SCARCE = 50                # images of a class up to which it is called rare
SHIFT = 2                  # pixels by which the GAN of an augmented arm shifts what its discriminator sees of few images;
                           # an arm without augmentation has none in its GAN either


# ---- the study -------------------------------------------------------------------------------------------------------

class Study:
    """Runs arms, keeps the rows, knows what is done."""

    def __init__(self, context, steps=None, made_steps=None, tries=None):
        self.s, self.glyphs = context, context.glyphs
        self.steps = steps or (400 if context.quick else 2000)
        self.made_steps = made_steps or (400 if context.quick else 2000)
        self.tries = tries or (1 if context.quick else 3)
        self.ledger = RunCache(Path(context.out) / "ocr.jsonl")
        self.case_key, self.case = None, None

    def key(self, protocol, name, n, seed, attempt=None):
        """What makes a row's result: all but the machine it ran on."""
        return {"dataset": self.glyphs.name, "sha256": self.glyphs.sha256, "protocol": protocol, "arm": name,
                "n": "all" if n is None else n, "seed": seed, "steps": self.steps, "generator_steps": self.made_steps,
                "tries": self.tries, "try": attempt, "version": VERSION}

    def plan(self, protocol, names, sizes, seeds):
        """All runs of a protocol in their order, as arguments of key(): for each n the choice of settings, then the
        seeds; in both the arms that others build on come first."""
        specs = [arm(protocol, a) for a in names]
        judges = [a for a, warped in (("real", False), ("tuned", True))
                  if a not in names and any(s.source and s.warped == warped for s in specs)]
        tried = [WARP] * any(s.warped for s in specs) + judges + names
        jobs = []
        for n in sizes:
            for a in tried:
                tries = len(arm(protocol, a).tries[:self.tries])
                jobs += [(protocol, a, n, SELECTION_SEED, t) for t in range(tries) if tries > 1]
            jobs += [(protocol, a, n, seed, None) for seed in range(seeds) for a in names]
        return jobs

    def run(self, jobs):
        """Run what is not yet done."""
        left = [j for j in jobs if self.ledger.get(self.key(*j)) is None]
        for done, job in enumerate(left):
            protocol, name, n, seed, attempt = job
            row = self.one(*job)
            score = row["val"]["balanced_accuracy"] if attempt is not None else row["test"]["accuracy"]
            what = f"try {attempt + 1}, val" if attempt is not None else f"seed {seed}, test"
            self.s.say(f"{protocol} {name}, n {row['n']}, {what} {100 * score:.2f} %", done + 1, len(left))

    def settings(self, protocol, name, n, attempt=None):
        """The settings of an arm, on top of the warp: those of a try, else of the best of its tries on val."""
        spec = arm(protocol, name)
        below = self.settings(protocol, WARP, n) if spec.warped and name != WARP else {}
        tries = spec.tries[:self.tries]
        if attempt is None and len(tries) > 1:
            rows = [self.ledger.get(self.key(protocol, name, n, SELECTION_SEED, t)) for t in range(len(tries))]
            attempt = max(range(len(tries)), key=lambda t: rows[t]["val"]["balanced_accuracy"])
        return {**below, **tries[attempt or 0]}

    def one(self, protocol, name, n, seed, attempt):
        """One training, measured on val alone (a try) or on val and test; returns the row."""
        spec = arm(protocol, name)
        case = self.at(protocol, n, seed)
        settings = self.settings(protocol, name, n, attempt)
        synthetic, facts = self.synthetic(case, protocol, n, seed, spec, settings) if spec.source else (None, {})
        begun = time.perf_counter()
        network = self.train(case, spec, settings, seed, synthetic)
        if name in ("real", "tuned") and attempt is None:
            case.judges[name] = network
        k, g = len(self.glyphs.classes), self.glyphs
        row = {"settings": settings, "real_images": len(case.glyphs.x_train) if spec.real else 0, "batch": 64,
               "real_sha256": fingerprint(case.glyphs.x_train, case.glyphs.y_train), "rare": case.rare.tolist(),
               **facts, "seconds": round(time.perf_counter() - begun, 2),
               "val": measure(network, g.x_val, g.y_val, k, case.rare)}
        if attempt is None:
            row["test"] = measure(network, g.x_test, g.y_test, k, case.rare, bits=True)
        return self.ledger.add(self.key(protocol, name, n, seed, attempt), row)

    def at(self, protocol, n, seed):
        """The case of these runs; the last one is kept, as its arms follow each other."""
        if self.case_key != (protocol, n, seed):
            self.case_key, self.case = (protocol, n, seed), make_case(self.glyphs, protocol, n, seed)
        return self.case

    def train(self, case, spec, settings, seed, synthetic=None):
        x, y = (case.glyphs.x_train, case.glyphs.y_train) if spec.real else (None, None)
        k, weights = len(self.glyphs.classes), None
        if spec.balance == "weights":
            counts = np.bincount(y, minlength=k)
            weights = counts.mean() / np.maximum(counts, 1)
        options = {name: v for name, v in settings.items() if name != "filter"}
        augment = "classical" if spec.warped else "none"
        return train_classifier(x, y, self.steps, seed, augment, synthetic, n_classes=k, device=self.s.device,
                                     class_weights=weights, balanced=spec.balance == "sampling", **options)

    def synthetic(self, case, protocol, n, seed, spec, settings):
        """((images, labels), facts for the row) of an arm's synthetic images."""
        shift = SHIFT if spec.warped and protocol == "few" else 0
        made = spec.source, shift
        if made not in case.made:
            begun = time.perf_counter()
            wanted = case.rare.tolist() or None
            if spec.source == "strokes":
                labels = np.resize(np.array(wanted or range(len(self.glyphs.classes)), np.int64), POOL)
                images, labels = strokes.generate(POOL, seed=seed, kind=script(self.glyphs, asked=True),
                                                 labels=labels)
            else:
                source = train_generator(spec.source, case.for_generator, seed, self.made_steps,
                                              balance=float(protocol in ("rare", "tail")), diffaugment=shift,
                                              device=self.s.device)
                images, labels, _ = sample_all(source, POOL, seed=seed, digits=wanted)
            case.made[made] = images, labels, round(time.perf_counter() - begun, 2)
        images, labels, seconds = case.made[made]
        facts = {"generator_seconds": seconds, "made": len(images)}
        if spec.source != "strokes":
            g = case.for_generator
            facts |= {"generator_images": len(g.x_train), "generator_sha256": fingerprint(g.x_train, g.y_train)}
        if settings.get("filter"):
            images, labels = keep_agreed(self.judge(case, protocol, n, seed, spec), images, labels)
            facts["kept"] = len(images)
        return (images, labels), facts

    def judge(self, case, protocol, n, seed, spec):
        """The recogniser that filters an arm's samples: that of the same real images without a generator, which was
        augmented only if the arm is."""
        name = "tuned" if spec.warped else "real"
        if name not in case.judges:
            case.judges[name] = self.train(case, arm(protocol, name), self.settings(protocol, name, n), seed)
        return case.judges[name]


def keep_agreed(network, images, labels, confidence=0.0):
    """The samples that a classifier reads as what they were asked to be, with at least this probability:
    (images, labels). All of them where it agrees with fewer than one in ten, as then it is the one not to be trusted."""
    p = predict_probabilities(network, images)
    kept = (p.argmax(1) == labels) & (p[np.arange(len(labels)), labels] >= confidence)
    return (images[kept], labels[kept]) if kept.mean() >= 0.1 else (images, labels)


def measure(network, x, y, k, rare, bits=False):
    """Scores on images x with labels y as JSON types; with `bits`, which answers were right, packed, as base64."""
    p = predict_probabilities(network, x)
    scores = statistics.classification_scores(statistics.confusion_matrix(y, p.argmax(1), k))
    row = {name: round(scores[name], 5) for name in ("accuracy", "balanced_accuracy", "macro_precision", "macro_recall",
                                                     "macro_f1")}
    row["ece"] = round(statistics.expected_calibration_error(p, y), 5)
    rare = rare[np.isin(rare, y)]      # of a class without images there is nothing to say
    if len(rare):
        row |= {f"rare_{name}": round(float(np.mean(scores[name][rare])), 5)
                for name in ("precision", "recall", "f1")}
    if bits:
        row |= {"images": len(y), "right": base64.b64encode(np.packbits(p.argmax(1) == y).tobytes()).decode()}
    return row


def sizes_of(protocol, context):
    """The values of n of a protocol: those asked for that make sense for it, else its own."""
    counts = np.bincount(context.glyphs.y_train)
    counts = counts[counts > 0]
    if protocol == "predecessors":
        return [max(1, 500 // len(context.glyphs.classes))]
    if protocol == "few":
        usual, most = [10] if context.quick else [10, 50, 100, 500, None], counts.max() - 1
    else:
        usual, most = [10] if context.quick else [5, 10, 20, 50], min(SCARCE, counts.max() - 1)
        if protocol == "tail":
            most = min(most, counts.min())
    asked = context.per_class or usual
    chosen = [n for n in asked if (protocol == "few" if n is None else n <= most)]
    if context.per_class and len(chosen) < len(asked):
        context.say(f"{protocol}: of the numbers of images asked for only those up to {most} say something here")
    if not chosen and not context.per_class:
        chosen = [None] if protocol == "few" else [int(most)] * bool(most)
    return chosen


def conduct(context, protocols=None, names=None, **budget):
    """Run the study, or what is left of it; returns its rows (finished runs, tries left out)."""
    study, jobs = Study(context, **budget), []
    counts = np.bincount(context.glyphs.y_train)
    uneven = counts.max() > 2 * counts.min()
    default = ["few", "rare"] if context.quick else ["few", "tail" if uneven else "rare", "predecessors"]
    for protocol in protocols or default:
        drawn = script(context.glyphs, asked=any("strokes" in a for a in names or ()))
        known = [a for a, spec in ARMS[protocol].items() if spec.source != "strokes" or drawn]
        usual = QUICK.get(protocol, known) if context.quick else [
            a for a in known if a not in EXTRA or protocol == "predecessors"]
        wanted = [a for a in known if a in (names or usual)]
        jobs += study.plan(protocol, wanted, sizes_of(protocol, context), context.seeds)
    study.run(jobs)
    return [study.ledger.get(study.key(*job)) for job in jobs if job[4] is None]


def longest(context):
    """The rows of the longest study with chosen settings of every protocol that lie in the folder of results: of its
    arms and seeds at each n those that make the largest complete table, of two seeds at least."""
    studies = {}
    for r in RunCache(Path(context.out) / "ocr.jsonl").rows(sha256=context.glyphs.sha256, version=VERSION):
        if r["try"] is None and r["tries"] > 1:
            budget = r["steps"], r["generator_steps"], r["tries"]
            studies.setdefault(r["protocol"], {}).setdefault(budget, {}).setdefault(r["n"], []).append(r)
    found = [max(([r for rows in by_n.values() for r in complete(rows)] for by_n in study.values()), key=len)
             for study in studies.values()]
    return [r for rows in found for r in rows]


def complete(rows):
    """Of the rows of one n those of the arms and seeds that make the largest table without a hole."""
    arms_of = {}
    for r in rows:
        arms_of.setdefault(r["seed"], set()).add(r["arm"])
    tables = [(own, [s for s, others in arms_of.items() if own <= others]) for own in arms_of.values()]
    names, seeds = max(tables, key=lambda t: len(t[0]) * len(t[1]) * (len(t[1]) > 1))
    return [r for r in rows if r["arm"] in names and r["seed"] in seeds] if len(seeds) > 1 else []


def spent(context, rows):
    """Seconds that went into these rows and the tries before them: the recognisers, and each generator once."""
    names = "protocol", "n", "steps", "generator_steps", "tries"
    budgets = {tuple(r[f] for f in names) for r in rows}
    rows = [r for r in RunCache(Path(context.out) / "ocr.jsonl").rows(sha256=context.glyphs.sha256, version=VERSION)
            if tuple(r[f] for f in names) in budgets]
    generators = {(r["protocol"], r["n"], r["seed"], r["generator_seconds"]) for r in rows if "generator_seconds" in r}
    return round(sum(r["seconds"] for r in rows) + sum(seconds for *_, seconds in generators), 1)


def section(context):
    """The study as a Part of the report; instead of a quick one that which was run before, where there is one."""
    if not len(context.glyphs.y_val):
        return Section("ocr", ocr_report.TITLE, ["This data set leaves no validation images to choose settings by."])
    earlier = longest(context) if context.quick else []
    if earlier:
        context.say(f"shows the study in {Path(context.out) / 'ocr.jsonl'}; --full makes the full one")
    rows = earlier or conduct(context)
    part = ocr_report.part(context, rows)
    part.protocol = {"seeds": len({r["seed"] for r in rows}), "seconds": spent(context, rows)}
    if earlier:
        part.protocol |= {"form": "full", "per_class": None}
    return part


# ---- command ---------------------------------------------------------------------------------------------------------

def teller():
    """say(text, done, total): a line with the time left, from the mean time of what was done."""
    begun = time.perf_counter()

    def say(text, done=None, total=None):
        if total:
            left = (time.perf_counter() - begun) / done * (total - done)
            text = f"[{done}/{total}, {duration(left)} left] {text}"
        print(text, flush=True)
    return say


def duration(seconds):
    if seconds > 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"


def main(argv=None):
    every = list(dict.fromkeys(a for table in ARMS.values() for a in table))
    parser = Parser("Do synthetic images help a recogniser? Runs the study or parts of it; stop and start it at will.")
    add = parser.add_argument
    add("--dataset", help="as for train.py (default: mnist where it can be had, else strokes)")
    add("--data-dir", help="where data sets lie (default: $GLYPHS_DATA, else data/)")
    add("--protocols", type=names_from(ARMS), help=f"some of {','.join(ARMS)} (default: few, predecessors, and rare or, "
        "for a data set that is itself imbalanced, tail; with --quick few and rare)")
    add("--per-class", type=image_counts, default=[], help="real images of each (rare) class, as 10,100,all (default: by "
        "protocol)")
    add("--arms", type=names_from(every), help=f"some of {', '.join(every)} (default: all but acgan..., strokes and "
        "uneven, in predecessors these too; with --quick a few)")
    add("--seeds", type=number(int, above=0), default=5, help="paired repetitions with fresh real images")
    add("--steps", type=number(int, above=0), help="optimiser steps of every recogniser (default: 2000, quick 400)")
    add("--generator-steps", type=number(int, above=0), help="and of every generator (default: 2000, quick 400)")
    add("--tries", type=int, choices=range(1, 5), help="settings of an arm to choose from on val (default: 3, quick 1)")
    add("--quick", action="store_true", help="the short form: minutes, few arms, settings not chosen anew")
    add("--no-center", action="store_true", help="keep the frame of your own images, as in training")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: cuda where there is one")
    add("--out", type=Path, help="folder of ocr.jsonl (default: results for mnist, else results/<dataset>)")
    args = parser.parse_args(argv)
    torch.set_flush_denormal(True)
    device = choose_device(args.device)
    glyphs = data.load(args.dataset, args.data_dir, center=not args.no_center)
    if not len(glyphs.y_val) or not len(glyphs.y_test):
        raise UserError(f"{glyphs.name} leaves no validation or no test images: the study needs both")
    context = Context(glyphs, Path("saved_models"), args.out or default_folder("results", glyphs.name), args.seeds, args.per_class,
                      args.quick, device, say=teller())
    rows = conduct(context, args.protocols, args.arms, steps=args.steps, made_steps=args.generator_steps,
                   tries=args.tries)
    if not rows:
        raise UserError(f"nothing to run: these protocols have no such arms or numbers of images on {glyphs.name}; "
                        "leave out --arms or --per-class")
    print(ocr_report.text(ocr_report.part(context, rows)))


if __name__ == "__main__":
    run_command(main)
