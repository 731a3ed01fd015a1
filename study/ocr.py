"""Does synthetic data help a classifier? What is compared, and the runs; ocr_report.py makes tables and words of them.

Protocols, each at several n, but for predecessors:
  few           n real images of each class
  rare          n real images of three classes (drawn by the seed), up to 500 of every other
  tail          the data set's own imbalance, scaled until its smallest class has n images; rare is the smallest third
  predecessors  about 500 real images in all against 10,000 of generators that saw the whole training split
  script        n images of each class of a script that is new to all; what hands are like was learned on other scripts, what
                tells characters apart on random ones

Every finished (protocol, arm, n, seed) is a row in <out>/ocr.jsonl and is not run again. All arms of a seed see
the same real images, and so do their generators but for the last two protocols; classifiers take as many steps from
the same initial weights. Settings are chosen on val among as many tries for each arm, with the images and weights
of another seed (SELECTION_SEED), after the warp of all augmented arms, which is chosen without a generator. The
test split is read once, at the end of a run.
"""
import base64
import hashlib
import re
import time
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from operator import itemgetter
from pathlib import Path

import numpy as np
from torch import nn

import data
from datasets import strokes
from generate_digits import sample_all
from metrics import statistics
from study import ocr_report
from study.jobs import RowStudy, run
from study.run_cache import RunCache
from training.classifier import predict, predict_probabilities, train_classifier
from training.deformation import DEFAULT_DEFORMER, load_deformer
from training.discriminant import discriminant_classifier
from training.pretraining import backbone_file, load_backbone
from training.run import train_generator
from utils.checked_json import is_duration, is_share, matches
from utils.files import UserError

NETWORK = "small-classifier"           # whose backbone it is
VERSION = 3                # of what a row means: rows of another version are run anew
SELECTION_SEED = 1000      # of the real images, networks and generators with which settings are chosen
POOL = 10_000              # synthetic images of a generator
OTHERS = 500               # images of a class that is not rare
RARE = 3                   # rare classes
MOST_RARE = 50             # images of a class up to which it is called rare
BATCH = 64                 # images a step, as of train_classifier
SHIFT = 2                  # pixels by which the GAN of an augmented arm shifts the few images; that of others does not


@dataclass(frozen=True)
class Arm:
    """What a classifier learns from."""
    title: str
    tries: list                    # settings of train_classifier to choose from; "filter": see Study.synthetic
    real: bool = True              # real images among the training images
    warped: bool = False           # augmented, with the warp that was chosen before for all such arms of the protocol
    source: str = ""               # cgan, acgan, cvae, strokes: where synthetic images come from; hands: Study.deformer
    pretrained: bool = False       # it starts from the backbone of random scripts (training/pretraining.py) ...
    fixed: bool = False            # ... whose features stay as they are, with a head in closed form (training/discriminant.py)
    tuned: bool = False            # ... beside which a network stands that starts from the backbone and is trained
    balance: str = ""              # "sampling": classes equally often; "weights": rare ones weigh more in the loss

    @property
    def is_filtered(self):
        """Whether synthetic images may be filtered by the classifier of another arm."""
        return any("filter" in settings for settings in self.tries)


PLAIN = [{}, {"mixup": 0.4}, {"label_smoothing": 0.1}, {"lr": 1e-3}]
WARPS = [{"elastic": 20.0}, {"elastic": 8.0}, {"elastic": 20.0, "affine": 1.3}, {"elastic": 28.0}]
MIXES = [{"share": 0.25, "filter": True}, {"share": 0.5, "filter": False}, {"share": 0.25, "first": 0.3, "filter": True},
         {"share": 0.5, "filter": True}]
FILLS = [{"share": 0.5, "filter": True}, {"share": 0.5, "filter": False}, {"share": 0.25, "filter": True},
         {"share": 0.75, "filter": False}]
ONLY = [{"filter": True}, {"filter": False}, {"filter": True, "label_smoothing": 0.1},
        {"filter": False, "label_smoothing": 0.1}]
PENS = [{"pen": 1.0}, {"pen": 0.6}, {"pen": 1.0, "label_smoothing": 0.1}, {"pen": 1.4}]
RATES = [{"pen": 1.0}, {"pen": 1.0, "lr": 1e-3}, {"pen": 0.6}, {"pen": 0.6, "lr": 1e-3}]
FIXED = [{"pen": 1.0}, {"pen": 0.6}]
HANDS = [{"pen": 1.0, "hands": 0.5}, {"pen": 1.0, "hands": 0.9}, {"pen": 0.6, "hands": 0.5}, {"pen": 1.0, "hands": 0.25}]
SYNTHETIC = {"cgan": "CGAN", "acgan": "ACGAN", "cvae": "CVAE", "strokes": "stroke simulator"}


def synthetic_arms(suffix, title, tries, sources=("cgan", "cvae", "strokes"), **options):
    """An arm for each source of synthetic images; {} in the title is its name."""
    return {s + suffix: Arm(title.format(SYNTHETIC[s]), tries, source=s, **options) for s in sources}


FEW = {"real": Arm("real images", PLAIN),
       **synthetic_arms("", "real + {}", MIXES),
       "tuned": Arm("real, augmented", PLAIN, warped=True),
       **synthetic_arms("+tuned", "real + {}, augmented", MIXES, warped=True),
       **synthetic_arms("-only", "{} images only, augmented", ONLY, real=False, warped=True)}
UNEVEN = {"real": Arm("over-sampled", PLAIN, balance="sampling"),
          **synthetic_arms("", "over-sampled + {}", FILLS, balance="sampling"),
          "weighted": Arm("augmented, loss weighted by class", PLAIN, warped=True, balance="weights"),
          "tuned": Arm("augmented, over-sampled", PLAIN, warped=True, balance="sampling"),
          **synthetic_arms("+tuned", "augmented, over-sampled + {}", FILLS, warped=True, balance="sampling")}
EARLIER = {"real": Arm("500 real images", PLAIN[:1]),
           "tuned": Arm("500 real images, augmented", PLAIN[:1], warped=True),
           **synthetic_arms("-only", "10,000 {} images", ONLY[1:2], SYNTHETIC, real=False)}
SCRIPT = {"tuned": Arm("real, augmented", PLAIN, warped=True),
          "pens": Arm("real, augmented, other pens", PENS, warped=True),
          "hands": Arm("real, augmented, other pens and hands", HANDS, warped=True, source="hands"),
          "pretrained": Arm("pre-trained; real, augmented, other pens", RATES, warped=True, pretrained=True),
          "pretrained+hands": Arm("pre-trained; real, augmented, other pens and hands",
                                  [{"hands": 0.5, **settings} for settings in RATES], warped=True, source="hands",
                                  pretrained=True),
          "discriminant": Arm("pre-trained features, discriminant analysis; other pens", FIXED, warped=True, pretrained=True,
                              fixed=True),
          "discriminant+hands": Arm("pre-trained features, discriminant analysis; other pens and hands",
                                    [{"hands": 0.5, **settings} for settings in FIXED], warped=True, source="hands",
                                    pretrained=True, fixed=True),
          "ensemble": Arm("discriminant analysis beside a network trained from there; other pens", FIXED, warped=True,
                          pretrained=True, fixed=True, tuned=True)}
ARMS = {"few": FEW, "rare": UNEVEN, "tail": UNEVEN, "predecessors": EARLIER, "script": SCRIPT}
ARM_NAMES = list(dict.fromkeys(name for table in ARMS.values() for name in table))
SCORES = dict.fromkeys(ocr_report.MEASURES, is_share)            # in a row
TEST = {**SCORES, "rare_precision?": is_share, "rare_recall?": is_share, "rare_f1?": is_share, "images": int,
        "right": str}
ROW = {**dict.fromkeys(("dataset", "sha256", "protocol", "arm"), str), "n": (int, "all"), "try": (int, None),
       **dict.fromkeys(("seed", "steps", "generator_steps", "tries", "version", "batch"), int), "settings": dict,
       "seconds": is_duration, "generator_seconds?": is_duration, "val": SCORES, "test?": TEST}
BASE64 = re.compile(r"([\w+/]{4})*([\w+/]{2}==|[\w+/]{3}=)?", re.ASCII)
WARP = "warp"              # the name under which the tries of the warp are kept
study_of = itemgetter("protocol", "steps", "generator_steps", "tries")        # of a row
QUICK = {"few": ["real", "cvae", "tuned", "cgan+tuned", "cvae+tuned"], "rare": ["tuned", "cgan+tuned", "strokes+tuned"]}


class Ensemble(nn.Module):
    """Classifiers whose logits are added."""

    def __init__(self, members):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images):
        return sum(member(images) for member in self.members)


def find_arm(protocol, name):
    """The Arm of this name; WARP is that with which the warp of all warped arms is chosen."""
    tuned = ARMS[protocol]["tuned"]
    return replace(tuned, tries=WARPS[:len(tuned.tries)]) if name == WARP else ARMS[protocol][name]


def simulated_script(glyphs, named=False):
    """The kind of strokes.generate() that draws this data set's characters, None where there is none. Your own classes
    "0" to "9" may be digits of any script: they are taken for Latin ones only where the simulator's arms are `named`."""
    if glyphs.synthetic:
        return None
    if "arabic" in glyphs.name or glyphs.classes == strokes.CLASSES["arabic"]:
        return "arabic" if len(glyphs.classes) == 10 else None
    return "digits" if glyphs.classes == strokes.CLASSES["digits"] and (named or glyphs.name == "mnist") else None


# ---- cases: the real images that all arms of a seed train on -------------------------------------

@dataclass
class Case:
    """The real images of one (protocol, n, seed), and what was made of them."""
    glyphs: data.Glyphs
    rare: np.ndarray                                   # classes; none in "few"
    synthetic: dict = field(default_factory=dict)      # (source, shift) -> (images, labels, seconds)
    filters: dict = field(default_factory=dict)        # name of an arm -> its classifier, which filters samples


def make_case(glyphs, protocol, n, seed):
    """The Case of a protocol; a function of its arguments alone."""
    k, counts = len(glyphs.classes), np.bincount(glyphs.y_train, minlength=len(glyphs.classes))
    if protocol in ("few", "predecessors", "script"):
        return Case(glyphs if n is None else glyphs.subset(n, seed), np.array([], np.int64))
    if protocol == "rare":
        tested = np.unique(glyphs.y_test)
        rare = np.sort(np.random.default_rng(seed).choice(tested, min(RARE, len(tested) - 1), replace=False))
        keep = np.where(np.isin(np.arange(k), rare), n, OTHERS)
    else:
        rare = np.sort(np.argsort(counts, kind="stable")[:max(1, k // 3)])
        keep = np.round(counts * n / counts[counts > 0].min())
    chosen = np.flatnonzero(data.rank_in_class(glyphs.y_train, seed) < keep[glyphs.y_train])
    return Case(replace(glyphs, x_train=glyphs.x_train[chosen], y_train=glyphs.y_train[chosen]), rare)


def counts_of(protocol, context):
    """The values of n of a protocol: those of --per-class that make sense for it, else its own."""
    counts = np.unique(context.glyphs.y_train, return_counts=True)[1]
    if protocol == "predecessors":
        return [max(1, 500 // len(context.glyphs.classes))]
    if protocol in ("few", "script"):
        usual, most = [1, 3, 5, 10] if protocol == "script" else [10, 50, 100, 500, None], counts.max() - 1
    else:
        usual, most = [5, 10, 20, 50], min(MOST_RARE, counts.max() - 1, *(counts if protocol == "tail" else ()))
    wanted = context.per_class or ([10] if context.quick else usual)
    chosen = [n for n in wanted if (protocol == "few" if n is None else n <= most)]
    if context.per_class and len(chosen) < len(wanted):
        context.say(f"{protocol}: of the numbers of images in --per-class only those up to {most} say something here")
    elif not chosen and (protocol == "few" or most):
        return [None if protocol == "few" else int(most)]
    return chosen


def images_hash(x, y):
    """16 hex digits that tell one set of labelled images from another."""
    return hashlib.sha256(np.ascontiguousarray(x).tobytes() + np.ascontiguousarray(y).tobytes()).hexdigest()[:16]


class Study(RowStudy):
    """Runs arms and keeps their rows. A job is (protocol, arm, n, seed, number of a try or None for a measured run)."""

    def __init__(self, context, steps=None, generator_steps=None, tries=None, deformer=None):
        super().__init__(context, open_cache(context), steps=steps, generator_steps=generator_steps, tries=tries,
                         deformer=deformer)
        self.glyphs = context.glyphs
        self.make_case = lru_cache(1)(partial(make_case, self.glyphs))         # the arms of a case follow each other
        usual_steps, usual_tries = (400, 1) if context.quick else (2000, 3)
        self.steps, self.generator_steps = steps or usual_steps, generator_steps or usual_steps
        self.tries = tries or usual_tries
        self.deformer_path = Path(deformer or DEFAULT_DEFORMER)

    @cached_property
    def deformer(self):
        """(models.Deformer, facts for the rows of arms that use it). Raises UserError where there is none, or where it was
        trained on images of this data set, which would not be a new script then."""
        checkpoint = load_deformer(self.deformer_path)
        if self.glyphs.sha256 in checkpoint.info["sources"].values():
            raise UserError(f"{self.deformer_path} was trained on {self.glyphs.name}: train one on other scripts, "
                            "with benchmarks/deformer.py, and name it with --deformer")
        digest = hashlib.sha256(self.deformer_path.read_bytes()).hexdigest()[:16]
        return checkpoint.model.to(self.context.device), {"deformer_sha256": digest, "sources": list(checkpoint.info["sources"])}

    @cached_property
    def backbone(self):
        """(models.Backbone, facts for the rows of arms that start from it). It has seen no character that anybody writes."""
        digest = hashlib.sha256(backbone_file(NETWORK).read_bytes()).hexdigest()[:16]
        return load_backbone(NETWORK), {"backbone_sha256": digest}

    def key(self, protocol, name, n, seed, attempt=None):
        """What makes a row's result: all but the machine it ran on."""
        arm = find_arm(protocol, name)
        made_by = {**(self.deformer[1] if arm.source == "hands" else {}), **(self.backbone[1] if arm.pretrained else {})}
        return {**made_by, "dataset": self.glyphs.name, "sha256": self.glyphs.sha256, "protocol": protocol, "arm": name,
                "n": "all" if n is None else n, "seed": seed, "steps": self.steps,
                "generator_steps": self.generator_steps, "tries": self.tries, "try": attempt, "version": VERSION}

    def jobs(self, protocol, names, counts, seeds):
        """All jobs of a protocol in their order: for each n the choice of settings, then the seeds; in both the arms
        that others build on come first."""
        arms, jobs = [find_arm(protocol, a) for a in names], []
        needed = {*names, *("tuned" if arm.warped else "real" for arm in arms if arm.is_filtered)}
        needed |= {WARP for arm in arms if arm.warped}
        tries = {a: len(find_arm(protocol, a).tries[:self.tries]) for a in (WARP, *ARMS[protocol]) if a in needed}
        for n in counts:
            jobs += [(protocol, a, n, SELECTION_SEED, t) for a, k in tries.items() if k > 1 for t in range(k)]
            jobs += [(protocol, a, n, seed, None) for seed in range(seeds) for a in names]
        return jobs

    def is_ready(self, protocol, name, n, seed, attempt):
        """Whether the settings of a job can be chosen: its own, the warp, those of the classifier that filters."""
        arm = find_arm(protocol, name)
        needed = {name} if attempt is None else set()
        needed |= {"tuned" if arm.warped else "real"} if arm.is_filtered else set()
        needed |= {WARP} if arm.warped and name != WARP else set()
        return all(self.cache.get(self.key(protocol, a, n, SELECTION_SEED, t)) for a in needed
                   if len(tries := find_arm(protocol, a).tries[:self.tries]) > 1 for t in range(len(tries)))

    def group(self, protocol, name, n, seed, attempt):
        """Those of a case, which share generators and filters."""
        return protocol, n, seed

    def describe(self, row):
        text = (f"seed {row['seed']}, test {100 * row['test']['accuracy']:.2f} %" if "test" in row else
                f"try {row['try'] + 1}, val {100 * row['val']['balanced_accuracy']:.2f} %")
        return f"{row['protocol']} {row['arm']}, n {row['n']}, {text}"

    def settings(self, protocol, name, n, attempt=None):
        """The settings of an arm, on top of the warp: those of a try, else of the best of its tries on val."""
        arm = find_arm(protocol, name)
        warp = self.settings(protocol, WARP, n) if arm.warped and name != WARP else {}
        tries = arm.tries[:self.tries]
        if attempt is None and len(tries) > 1:
            rows = [self.cache.get(self.key(protocol, name, n, SELECTION_SEED, t)) for t in range(len(tries))]
            attempt = max(range(len(tries)), key=lambda t: rows[t]["val"]["balanced_accuracy"])
        return {**warp, **tries[attempt or 0]}

    def run_one(self, protocol, name, n, seed, attempt):
        """One training, measured on val alone (a try) or on val and test; returns the row."""
        arm, case = find_arm(protocol, name), self.make_case(protocol, n, seed)
        g, k = self.glyphs, len(self.glyphs.classes)
        settings = self.settings(protocol, name, n, attempt)
        synthetic, facts = None, {}
        if arm.source not in ("", "hands"):
            synthetic, facts = self.synthetic(case, protocol, n, seed, arm, settings)
        started = time.perf_counter()
        model = self.train(case, arm, settings, seed, synthetic)
        if name in ("real", "tuned") and attempt is None:
            case.filters[name] = model
        row = {"settings": settings, "real_images": len(case.glyphs.x_train) if arm.real else 0, "batch": BATCH,
               "real_sha256": images_hash(case.glyphs.x_train, case.glyphs.y_train), "rare": case.rare.tolist(), **facts,
               "seconds": round(time.perf_counter() - started, 2), "val": score(model, g.x_val, g.y_val, k, case.rare)}
        if attempt is None:
            row["test"] = score(model, g.x_test, g.y_test, k, case.rare, bits=True)
        return self.cache.add(self.key(protocol, name, n, seed, attempt), row)

    def train(self, case, arm, settings, seed, synthetic=None):
        """The classifier of an arm with these settings."""
        options = {name: value for name, value in settings.items() if name != "filter"}
        g, k = case.glyphs, len(self.glyphs.classes)
        x, y = (g.x_train, g.y_train) if arm.real else (None, None)
        if arm.balance == "weights":
            counts = np.bincount(y, minlength=k)
            options["class_weights"] = counts.mean() / np.maximum(counts, 1)
        if arm.source == "hands":
            options["deformer"] = self.deformer[0]
        if arm.pretrained:
            options["backbone"] = self.backbone[0]
        members, device = [], self.context.device
        if arm.fixed:
            members = [discriminant_classifier(x, y, views=self.steps * BATCH, seed=seed, n_classes=k, device=device, **options)]
        if arm.tuned or not arm.fixed:
            members.append(train_classifier(x, y, self.steps, seed, "classical" if arm.warped else "none", synthetic, n_classes=k,
                                            device=device, batch=BATCH, balanced=arm.balance == "sampling", **options))
        return Ensemble(members) if len(members) > 1 else members[0]

    def synthetic(self, case, protocol, n, seed, arm, settings):
        """((images, labels), facts for the row) of an arm's synthetic images; with "filter" those alone whose label a
        classifier of the same real images, trained without a generator, predicts."""
        shift = SHIFT if arm.warped and protocol == "few" else 0
        g = self.glyphs if protocol == "predecessors" else case.glyphs         # what a generator learns from
        if (arm.source, shift) not in case.synthetic:
            started, wanted = time.perf_counter(), case.rare.tolist() or None
            if arm.source == "strokes":
                labels = np.resize(np.array(wanted or range(len(g.classes)), np.int64), POOL)
                images, labels = strokes.generate(POOL, seed=seed, labels=labels,
                                                  kind=simulated_script(self.glyphs, named=True))
            else:
                source = train_generator(arm.source, g, seed, self.generator_steps, self.context.device,
                                         balance=float(protocol in ("rare", "tail")), diffaugment=shift)
                images, labels, _ = sample_all(source, POOL, seed=seed, digits=wanted)
            case.synthetic[arm.source, shift] = images, labels, round(time.perf_counter() - started, 2)
        images, labels, seconds = case.synthetic[arm.source, shift]
        facts = {"generator_seconds": seconds, "made": len(images)}
        if arm.source != "strokes":
            facts |= {"generator_images": len(g.x_train), "generator_sha256": images_hash(g.x_train, g.y_train)}
        if settings.get("filter"):
            name = "tuned" if arm.warped else "real"
            if name not in case.filters:
                case.filters[name] = self.train(case, find_arm(protocol, name), self.settings(protocol, name, n), seed)
            kept = predict(case.filters[name], images) == labels
            if kept.mean() >= 0.1:                             # else it is the classifier that is not to be trusted
                images, labels = images[kept], labels[kept]
            facts["kept"] = len(images)
        return (images, labels), facts


def score(model, x, y, k, rare, bits=False):
    """Scores on images x with labels y as JSON types; with `bits`, which answers were right, packed, as base64."""
    p = predict_probabilities(model, x)
    scores = statistics.classification_scores(statistics.confusion_matrix(y, p.argmax(1), k))
    scores["ece"] = statistics.expected_calibration_error(p.max(1), p.argmax(1) == y)
    row = {name: round(scores[name], 5) for name in ocr_report.MEASURES}
    rare = rare[np.isin(rare, y)]      # of a class without images there is nothing to say
    if len(rare):
        row |= {f"rare_{name}": round(float(np.mean(scores[name][rare])), 5) for name in ("precision", "recall", "f1")}
    if bits:
        row |= {"images": len(y), "right": base64.b64encode(np.packbits(p.argmax(1) == y).tobytes()).decode()}
    return row


def open_cache(context):
    """The finished rows, with an answer for every test image. Raises UserError for a damaged one; what rows of another
    VERSION hold is not looked at."""
    def is_row(row):
        if row.get("version") != VERSION:
            return True
        if not matches(row, ROW) or "test" not in row:
            return matches(row, ROW) and row["try"] is not None
        test, images = row["test"], len(context.glyphs.y_test)
        is_whole = BASE64.fullmatch(test["right"]) and len(ocr_report.correct(row)) == test["images"]
        return (is_whole and test.keys() <= {name.rstrip("?") for name in TEST}
                and len([name for name in test if name.startswith("rare_")]) in (0, 3)
                and (row["sha256"] != context.glyphs.sha256 or test["images"] == images))
    return RunCache(context.out / "ocr.jsonl", is_row)


# ---- the study -----------------------------------------------------------------------------------

def run_study(context, protocols=None, arms=None, **budget):
    """Run the study, or what is left of it; returns the rows of its measured runs. budget: steps, generator_steps,
    tries and deformer of Study. Raises UserError where nothing is to be run."""
    study, jobs = Study(context, **budget), []
    counts = np.bincount(context.glyphs.y_train)
    default = ["few", "tail" if counts.max() > 2 * counts.min() else "rare", "predecessors"]
    script = simulated_script(context.glyphs, named=any("strokes" in name for name in arms or ()))
    for protocol in protocols or (["few", "rare"] if context.quick else default):
        known = [name for name, arm in ARMS[protocol].items() if arm.source != "strokes" or script]
        usual = QUICK.get(protocol, known) if context.quick else [name for name in known if name != "strokes"]
        jobs += study.jobs(protocol, [name for name in known if name in (arms or usual)],
                           counts_of(protocol, context), context.seeds)
    measured = [job for job in jobs if job[4] is None]
    if not measured:
        raise UserError("nothing to run: these protocols have no such arms or numbers of images on "
                        f"{context.glyphs.name}; leave out --arms or --per-class")
    run(study, jobs)
    return [study.cache.get(study.key(*job)) for job in measured]


def rows_to_show(rows, ran=()):
    """Of all rows those to show: of each protocol the largest complete tables of one study (steps and tries), the one
    that was just run, else one with chosen settings."""
    now, studies, chosen = {r["protocol"]: study_of(r) for r in ran}, {}, {}
    for r in rows:
        wanted = now[r["protocol"]] == study_of(r) if r["protocol"] in now else r["tries"] > 1
        if wanted and r["try"] is None:
            studies.setdefault(study_of(r), {}).setdefault(r["n"], []).append(r)
    for (protocol, *_), by_n in studies.items():
        table = [r for of_n in by_n.values() for r in complete(of_n)]
        chosen[protocol] = max(chosen.get(protocol, []), table, key=len)
    single = [r for r in ran if not chosen.get(r["protocol"])]          # of one seed
    return [r for table in chosen.values() for r in table] + single


def complete(rows):
    """Of the rows of one n those of the arms and seeds that make the largest table without a hole, none of one seed."""
    seeds = dict.fromkeys(r["seed"] for r in rows)
    arms_of = {seed: {r["arm"] for r in rows if r["seed"] == seed} for seed in seeds}
    tables = [(arms, [seed for seed, others in arms_of.items() if arms <= others]) for arms in arms_of.values()]
    arms, seeds = max((t for t in tables if len(t[1]) > 1), key=lambda t: len(t[0]) * len(t[1]), default=((), ()))
    return [r for r in rows if r["arm"] in arms and r["seed"] in seeds]


def measure(context):
    """The Section of the study. The quick form without options shows a study that lies there already."""
    if not len(context.glyphs.y_val):
        raise UserError(f"{context.glyphs.name} leaves no validation images to choose settings by")

    def stored():
        rows = [r for r in open_cache(context).index.values()
                if r.get("sha256") == context.glyphs.sha256 and r.get("version") == VERSION]
        return list({(r["arm"], r["n"], r["seed"], r["try"], *study_of(r)): r for r in rows}.values())      # the latest
    shown = rows_to_show(stored()) if context.quick and not context.ocr else []
    protocol = {"form": "full", "per_class": None} if shown else {}
    if not shown:
        ran = run_study(context, **context.ocr)        # stored() is read after it
        shown = rows_to_show(stored(), ran)
    parts = {(r["n"], *study_of(r)) for r in shown}
    rows = [r for r in stored() if (r["n"], *study_of(r)) in parts]                # with the tries before
    generators = {(r["protocol"], r["n"], r["seed"], r.get("generator_seconds", 0)) for r in rows}
    seconds = sum(r["seconds"] for r in rows) + sum(g[-1] for g in generators)     # one may serve several rows
    section = ocr_report.describe(context, shown, ARMS)
    section.protocol |= {"seeds": len({r["seed"] for r in shown}), "seconds": round(seconds, 1), **protocol}
    return section
