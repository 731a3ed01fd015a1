"""The rows of the OCR study -> tables, figures and plain words; every word follows from the numbers.

    section = describe(context, rows, ARMS)            # rows as ocr.run_study() gives them

An arm with synthetic images is compared with the best arm without, which is named by its mean on val, never on test.
"""
import base64
import itertools

import numpy as np

from metrics import statistics
from metrics.statistics import format_interval, format_percent, format_points
from study.report import Figure, Section, Table
from utils import charts

MEASURES = ["accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "ece"]       # of a row
PROTOCOLS = {"few": "n real images of each class", "rare": "three rare classes of n images, the others in plenty",
             "tail": "the data set's own imbalance, the smallest class with n images",
             "predecessors": "about 500 real images in all against 10,000 synthetic ones (the protocol of earlier projects)",
             "script": "n real images of each class of a new script"}
SOURCES = {"generator": "generators trained on the same real images", "simulator": "the stroke simulator",
           "scripts": "a generator that has learned on other scripts how hands vary",
           "pretraining": "pre-training on random scripts, which the stroke simulator draws,"}
QUESTIONS = {"strokes": "simulator", "hands": "scripts", "": "pretraining"}     # source of an arm -> one of SOURCES
USES = {"added": "beside classical augmentation", "bare": "where nothing is augmented",
        "instead": "in place of augmentation", "alone": "without real images"}
HOLM_NOTE = ("Holm's correction is for all comparisons of this table that ask the same: synthetic images of generators or of "
             "the simulator, learned hands, or pre-training, beside or in place of augmentation, with nothing augmented, or "
             "alone. McNemar: on how many seeds its test finds more, or fewer, test images classified correctly, p < .05.")


class Protocol:
    """The rows of one protocol, by n and arm, with all comparisons; the text, tables and figure about them."""

    def __init__(self, name, rows, arms, glyphs):
        """arms: {name: Arm} in their order."""
        self.name, self.arms, self.glyphs, self.about, self.first = name, arms, glyphs, PROTOCOLS[name], rows[0]
        counts = np.bincount(glyphs.y_test)
        self.field, self.title = "accuracy", "accuracy"        # in row["test"], and in words: what the tests are about
        if all("rare_f1" in r["test"] for r in rows):
            self.field, self.title = "rare_f1", "F1 of the rare classes"
        elif counts.max() > 2 * counts[counts > 0].min():
            self.field, self.title = "balanced_accuracy", "balanced accuracy"
        order = list(arms)
        rows = sorted(rows, key=lambda r: (np.inf if r["n"] == "all" else r["n"], order.index(r["arm"]), r["seed"]))
        self.by_n = {}                                         # n, few images first -> arm -> rows by seed
        for r in rows:
            self.by_n.setdefault(r["n"], {}).setdefault(r["arm"], []).append(r)
        self.shown = sorted({r["arm"] for r in rows}, key=order.index)
        self.comparisons, self.note = self.compare_all(), self.describe_runs()

    def compare_all(self):
        """All arms with synthetic images against the best without, those that are not augmented also against the best of
        those that are not, and pre-trained ones without synthetic images against the best of those that are not: list of
        dicts; p-values are corrected over all n and generators of one question."""
        comparisons = []
        for n, by_arm in self.by_n.items():
            val = {a: np.mean([r["val"]["balanced_accuracy"] for r in rows]) for a, rows in by_arm.items()}
            ranked = sorted((a for a in by_arm if not self.arms[a].source), key=val.get, reverse=True)
            bare = [a for a in ranked if not self.arms[a].warped]
            fresh = [a for a in ranked if not self.arms[a].pretrained]
            for name, arm in ((a, self.arms[a]) for a in by_arm if self.arms[a].source or self.arms[a].pretrained):
                best = ranked if arm.source else fresh
                for other in dict.fromkeys(best[:1] if arm.warped else best[:1] + bare[:1]):
                    use = "added" if arm.warped else "instead" if self.arms[other].warped else "bare"
                    question = QUESTIONS.get(arm.source, "generator"), use if arm.real else "alone"
                    comparisons.append({"n": n, "arm": name, "against": other, "question": question,
                                        **compare(by_arm[name], by_arm[other], self.field)})
        for question in {c["question"] for c in comparisons}:
            family = [c for c in comparisons if c["question"] == question]
            for c, p in zip(family, statistics.holm([c["p"] for c in family])):
                c["holm"] = float(p)
        return comparisons

    def images(self, n):
        text = "all images" if n == "all" else f"{n} image{'s' * (n != 1)}"
        return text + {"rare": " per rare class", "tail": " in the smallest class"}.get(self.name, " per class")

    def paragraphs(self):
        """For each source of help and each use of it, where it helped and where not."""
        whole = {"generator": "generators trained on the whole training split"} if self.name == "predecessors" else {}
        texts, sources = [], SOURCES | whole
        for source, use in itertools.product(sources, USES):
            family = [c for c in self.comparisons if c["question"] == (source, use)]
            if not family:
                continue
            better, worse, tested = count(family)
            text = (f"With {self.about}; {USES[use]}, {sources[source]}: {self.title} better in {better}, "
                    f"worse in {worse}, undecided in {tested - better - worse} of {tested} comparisons.")
            for n in self.by_n:
                c = max((c for c in family if c["n"] == n), key=lambda c: c["mean"], default=None)
                if c and (use in ("added", "bare") or n == next(iter(self.by_n))):
                    mean = values(self.by_n[n][c["arm"]], self.field).mean()
                    text += (f" Best at {self.images(n)}: “{self.arms[c['arm']].title}” reaches {format_percent(mean)}, "
                             f"{format_points(c['mean'], c['half'])} points against “{self.arms[c['against']].title}” (p "
                             f"{format_p(c['p'])}, after Holm's correction {format_p(c['holm'])}).")
            texts.append(text)
        return texts

    def describe_runs(self):
        """How the protocol was run."""
        seeds = sorted({len(rows) for by_arm in self.by_n.values() for rows in by_arm.values()})
        repeated = " to ".join(map(str, dict.fromkeys([seeds[0], seeds[-1]])))
        text = f"Mean over {repeated} paired seeds with its 95 % t-interval." if seeds[-1] > 1 else "A single seed."
        chosen = (f"chosen on val among {self.first['tries']} for each arm, after the warp of all augmented arms among as "
                  f"many with the arm that has no generator; val has {len(self.glyphs.y_val):,} images, more than who has "
                  "so few would have.")
        if self.first["tries"] == 1 or all(len(self.arms[a].tries) == 1 for a in self.shown):
            chosen = "as they are by default, not chosen on this data set."
        shifted = " The GAN of an augmented arm sees all images shifted by up to 2 pixels." if self.name == "few" else ""
        generators = f", every generator {self.first['generator_steps']:,} steps" if self.name != "script" else ""
        return (f"{text} Every classifier took {self.first['steps']:,} steps of {self.first['batch']} images{generators}; "
                f"settings {chosen}{shifted}")

    def commands(self, command):
        """The commands that run these rows, n with the same arms in one."""
        counts = {}
        for n, by_arm in self.by_n.items():
            counts.setdefault((",".join(by_arm), max(map(len, by_arm.values()))), []).append(str(n))
        return [f"{command} --only ocr --protocols {self.name} --per-class {','.join(ns)} --arms {arms} --steps "
                f"{self.first['steps']} --generator-steps {self.first['generator_steps']} --tries {self.first['tries']} "
                f"--seeds {seeds}" for (arms, seeds), ns in counts.items()]

    def means(self, title, field, note=""):
        """A table of one figure: a row per arm, a column per n."""
        rows = [[self.arms[a].title] + [format_interval(*statistics.t_interval(values(by_arm[a], field)))
                                        if a in by_arm else "" for by_arm in self.by_n.values()] for a in self.shown]
        return Table(f"{title.capitalize()}, %: {self.about}", ["arm", *(f"n = {n}" for n in self.by_n)], rows, note)

    def tables(self):
        tables, rare, rows = [self.means(self.title, self.field, self.note)], self.field == "rare_f1", []
        fields, columns = MEASURES, ["arm", "n", "against", f"{self.title}, points", "p", "p (Holm)"]
        if rare:                           # accuracy over all classes, beside the headline about some
            tables.append(self.means("accuracy over all classes", "accuracy"))
            fields = [*fields, "rare_precision", "rare_recall", "rare_f1"]
            columns += ["accuracy, points", "p"]
        for c in self.comparisons:
            a = c["accuracy"]
            rows.append([self.arms[c["arm"]].title, str(c["n"]), self.arms[c["against"]].title,
                         format_points(c["mean"], c["half"]), format_p(c["p"]), format_p(c["holm"]),
                         *([format_points(a["mean"], a["half"]), format_p(a["p"])] if rare else []),
                         f"{c['mcnemar_better']} / {c['mcnemar_worse']} of {c['seeds']}"])
        if rows:
            tables.append(Table(f"Arms against the best arm without what they add: {self.about}",
                                [*columns, "McNemar: seeds better / worse"], rows, HOLM_NOTE))
        n, by_arm = max(self.by_n.items(), key=lambda item: len(item[1]))
        names = [f.replace("_", " ").replace("ece", "ECE").replace("f1", "F1") for f in fields]
        tables.append(Table(f"More figures at {self.images(n)}, %: {self.about}", ["arm", *names],
                            [[self.arms[a].title] + [f"{100 * values(rows, f).mean():.2f}" for f in fields]
                             for a, rows in by_arm.items()], "Means over seeds. ECE: expected calibration error."))
        return tables

    def figure(self):
        """The headline figure against n, with intervals; bars where there is one n only."""
        def band(n, arm):
            mean, half = 100 * np.array(statistics.t_interval(values(self.by_n[n].get(arm, []), self.field)))
            half = half if np.isfinite(half) else 0
            return mean, mean - half, min(100, mean + half)

        def error(n, arm):
            """What is missing to 100 %, which a logarithmic scale shows at every n."""
            mean, low, high = band(n, arm)
            return 100 - mean, max(100 - high, (100 - mean) / 4), 100 - low
        heading, n = f"{self.glyphs.name}: {self.title}, {self.about}", next(iter(self.by_n))
        means = {a: values(rows, self.field).mean() for a, rows in self.by_n[n].items()}
        footer, best = "Mean over seeds with its 95 % interval.", max(means, key=means.get)
        if len(self.by_n) > 1:
            xs = [len(self.glyphs.y_train) / len(self.glyphs.classes) if n == "all" else n for n in self.by_n]
            series = {self.arms[a].title: (xs, *zip(*(error(n, a) for n in self.by_n))) for a in self.shown}
            of = " (of the rare classes)" if self.field == "rare_f1" else ""
            chart = charts.curves(series, heading, f"real images per class{of}", f"100 % - {self.title}", log_x=True,
                                  log_y=True, size=(900, 600), footer=f"Lower is better. {footer}")
        else:
            chart = charts.bars({self.arms[a].title: {self.title: band(n, a)} for a in self.shown},
                                f"{heading}, {self.images(n)}", y_title=f"{self.title}, %", size=(1100, 480),
                                y_range=(max(0, 100 * min(means.values()) - 5), 100), footer=footer)
        return Figure(f"ocr_{self.name}", chart, f"{self.title} by arm; at {self.images(n)} the highest is "
                      f"{self.arms[best].title} with {format_percent(means[best], 1)}",
                      f"{self.title.capitalize()} on the test split: {self.about}.")

    def numbers(self):
        arms = [{"n": n, "arm": a, "words": self.arms[a].title, "settings": rows[-1]["settings"],
                 "seeds": [r["seed"] for r in rows], "seconds": round(float(np.mean([r["seconds"] for r in rows])), 1),
                 **{f: dict(zip(("mean", "half"), statistics.t_interval(values(rows, f))), values=values(rows, f).tolist())
                    for f, value in rows[0]["test"].items()
                    if isinstance(value, float) and all(f in r["test"] for r in rows)}}
                for n, by_arm in self.by_n.items() for a, rows in by_arm.items()]
        return {"protocol": self.name, "meaning": self.about, "note": self.note, "headline": self.field,
                "comparisons": self.comparisons, "arms": arms}


def correct(row):
    """Which test images a row's classifier answered correctly: bool [N]."""
    bits = np.frombuffer(base64.b64decode(row["test"]["right"]), np.uint8)
    return np.unpackbits(bits)[:row["test"]["images"]].astype(bool)


def values(rows, field):
    return np.array([r["test"][field] for r in rows])


def compare(rows, others, field):
    """One arm against another on their common seeds: statistics.paired_t_test, and on how many seeds McNemar's test decides."""
    seeds = {r["seed"] for r in rows} & {r["seed"] for r in others}
    a, b = ([r for r in side if r["seed"] in seeds] for side in (rows, others))
    tests = [statistics.mcnemar(correct(p), correct(q)) for p, q in zip(a, b)]
    decided = [t["only_a"] > t["only_b"] for t in tests if t["p"] < statistics.SIGNIFICANT]
    difference = statistics.paired_t_test(values(a, field), values(b, field))
    return {**{name: difference[name] for name in ("mean", "half", "p")}, "seeds": len(seeds),
            "accuracy": statistics.paired_t_test(values(a, "accuracy"), values(b, "accuracy")),
            "mcnemar_better": sum(decided), "mcnemar_worse": len(decided) - sum(decided)}


def count(comparisons):
    """How many of them are better, worse, tested at all; after Holm's correction."""
    decided = [c["mean"] > 0 for c in comparisons if c["holm"] < statistics.SIGNIFICANT]
    return sum(decided), len(decided) - sum(decided), sum(np.isfinite(c["p"]) for c in comparisons)


def format_p(p):
    return "n/a" if not np.isfinite(p) else "< .001" if p < 0.001 else f"{p:.3f}".replace("0.", ".")


def sentences(protocols):
    """Over all protocols, where each source of help did help, beside or in place of something else, and where it harmed."""
    texts = []
    for use in ("added", "bare", "instead"):
        parts = []
        for source, name in SOURCES.items():
            family = [(c, p) for p in protocols for c in p.comparisons if c["question"] == (source, use)]
            better, worse, tested = count([c for c, _ in family])
            if tested:
                parts.append(f"{name} helped in {better} and harmed in {worse} of {tested} comparisons")
            if better:
                c, p = max((f for f in family if f[0]["holm"] < statistics.SIGNIFICANT), key=lambda f: f[0]["mean"])
                parts[-1] += f" (at most {format_points(c['mean'], c['half'])} points of {p.title}, {p.images(c['n'])})"
        if parts:
            texts.append(f"{USES[use].capitalize()}, {'; '.join(parts)}.")
    return texts or ["Too few seeds or arms were run for a test."]


def describe(context, rows, arms):
    """The Section of finished rows, all of one data set. arms: {protocol: {name: Arm}}; other rows are left out."""
    g = context.glyphs
    protocols = [Protocol(name, mine, arms[name], g) for name in arms
                 if (mine := [r for r in rows if r["protocol"] == name and r["arm"] in arms[name]])]
    answer, *others = sentences(protocols)
    numbers = {"dataset": g.name, "sha256": g.sha256, "protocols": [p.numbers() for p in protocols]}
    return Section("ocr", "Does synthetic data help a classifier?",
                   others + [text for p in protocols for text in p.paragraphs()],
                   [table for p in protocols for table in p.tables()], [p.figure() for p in protocols], numbers, answer,
                   {"command": "\n".join(line for p in protocols for line in p.commands(context.command))})
