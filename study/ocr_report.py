"""The rows of the OCR study -> tables, figures and plain words; every word follows from the numbers.

    part = ocr_report.part(context, rows)              # rows as ocr.conduct() gives them
    print(ocr_report.text(part))

An arm with synthetic images is compared with the best arm without, which is named by its mean on val, never on test.
"""
import base64

import numpy as np

from metrics import statistics
from study.protocols import ARMS
from study.sections import Figure, Section, Table
from utils import charts

TITLES = {"few": "n real images of each class", "rare": "three rare classes of n images, the others in plenty",
          "tail": "the data set's own imbalance, the smallest class with n images",
          "predecessors": "about 500 real images in all against 10,000 synthetic ones (the protocol of earlier projects)"}
TITLE = "Do synthetic images help a recogniser?"
LEVEL = 0.05               # of the tests


def right(row):
    """Which test images a row's network read right: bool [N]."""
    bits = np.frombuffer(base64.b64decode(row["test"]["right"]), np.uint8)
    return np.unpackbits(bits)[:row["test"]["images"]].astype(bool)


def headline(rows, labels):
    """(field of row["test"], its name) that a protocol's tables and tests are about. labels: those of the test split."""
    if "rare_f1" in rows[0]["test"]:
        return "rare_f1", "F1 of the rare classes"
    counts = np.bincount(labels)
    uneven = counts.max() > 2 * counts[counts > 0].min()
    return ("balanced_accuracy", "balanced accuracy") if uneven else ("accuracy", "accuracy")


def groups(rows):
    """rows of one protocol -> {n: {arm: rows by seed}}, few images first, arms in the order of their table."""
    found = {}
    for r in rows:
        found.setdefault(r["n"], {}).setdefault(r["arm"], []).append(r)
    return {n: {a: sorted(rs, key=lambda r: r["seed"]) for a, rs in sorted(by.items(), key=lambda p: place(rows, p[0]))}
            for n, by in sorted(found.items(), key=lambda p: np.inf if p[0] == "all" else p[0])}


def place(rows, arm):
    return list(ARMS[rows[0]["protocol"]]).index(arm)


def values(rows, name):
    return np.array([r["test"][name] for r in rows])


def best_without(by_arm, protocol, augmented=True):
    """The arm without synthetic images that has the best mean on val; None where no such arm was run."""
    known = [a for a in by_arm if not ARMS[protocol][a].source and (augmented or not ARMS[protocol][a].warped)]
    return max(known, key=lambda a: np.mean([r["val"]["balanced_accuracy"] for r in by_arm[a]]), default=None)


def compare(rows, others, name):
    """One arm against another on their common seeds: statistics.paired_t_test, and on how many seeds McNemar's test says what."""
    seeds = sorted({r["seed"] for r in rows} & {r["seed"] for r in others})
    a, b = ([r for r in side if r["seed"] in seeds] for side in (rows, others))
    tests = [statistics.mcnemar(right(p), right(q)) for p, q in zip(a, b)]
    sure = [t for t in tests if t["p"] < LEVEL]
    difference = statistics.paired_t_test(values(a, name), values(b, name))
    return {"mean": difference["mean"], "half": difference["half"], "p": difference["p"], "seeds": len(seeds),
            "accuracy": statistics.paired_t_test(values(a, "accuracy"), values(b, "accuracy")),
            "mcnemar_better": sum(t["only_a"] > t["only_b"] for t in sure),
            "mcnemar_worse": sum(t["only_a"] < t["only_b"] for t in sure)}


def question(spec, against):
    """The question that a comparison belongs to; p-values are corrected over all n and generators of one question."""
    simulator = "simulator" if spec.source == "strokes" else "generator"
    if not spec.real:
        return simulator, "alone"
    return simulator, "added" if spec.warped else "instead" if against.warped else "bare"


def comparisons(by_n, protocol, name):
    """All arms with synthetic images against the best without, and those that are not augmented against the best of
    those that are not: list of dicts."""
    found, table = [], ARMS[protocol]
    for n, by_arm in by_n.items():
        for arm, rows in by_arm.items():
            against = [best_without(by_arm, protocol)] if table[arm].source else []
            if table[arm].source and not table[arm].warped:
                against.append(best_without(by_arm, protocol, augmented=False))
            found += [{"n": n, "arm": arm, "against": other, "question": question(table[arm], table[other]),
                       **compare(rows, by_arm[other], name)} for other in dict.fromkeys(a for a in against if a)]
    for asked in {c["question"] for c in found}:
        family = [c for c in found if c["question"] == asked]
        for c, p in zip(family, statistics.holm([c["p"] for c in family])):
            c["holm"] = float(p)
    return found


# ---- words -----------------------------------------------------------------------------------------------------------

def points(value):
    return f"{100 * value:+.2f}"


def plus_minus(mean, half):
    return f"{100 * mean:.2f}" + (f" ± {100 * half:.2f}" if np.isfinite(half) else "")


def difference(c):
    """Mean difference and half width of its interval, in percentage points."""
    return points(c["mean"]) + (f" ± {100 * c['half']:.2f}" if np.isfinite(c["half"]) else "")


def chance(p):
    return "p n/a" if not np.isfinite(p) else "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".")


def bare(p):
    """A p-value as in a column that is named p."""
    return chance(p).removeprefix("p ").removeprefix("= ")


def images(n, protocol):
    text = "all images" if n == "all" else f"{n} images"
    return text + {"rare": " per rare class", "tail": " in the smallest class"}.get(protocol, " per class")


def verdict(c):
    """What a comparison says, in words."""
    if not np.isfinite(c["p"]):
        return "a single seed: no test possible"
    if c["holm"] < LEVEL:
        return "better" if c["mean"] > 0 else "worse"
    if c["p"] < LEVEL:
        return ("better" if c["mean"] > 0 else "worse") + ", but not after Holm's correction for asking often"
    return "no demonstrable difference"


def sentence(c, protocol, name, by_arm):
    """One comparison as a sentence."""
    arm, other = ARMS[protocol][c["arm"]], ARMS[protocol][c["against"]]
    mean = 100 * values(by_arm[c["arm"]], name).mean()
    return (f"{images(c['n'], protocol)}: “{arm.words}” reaches {mean:.2f} %, {difference(c)} points against "
            f"“{other.words}” ({chance(c['p'])}; {verdict(c)}).")


KINDS = {"generator": "Generators trained on the same real images",
         "simulator": "The stroke simulator, which knows the characters from its author, not from data"}
QUESTIONS = {"added": "beside augmentation", "bare": "nothing augmented, as where no harmless distortion is known",
             "instead": "in place of augmentation", "alone": "synthetic images alone"}


def words(protocol, name, title, by_n, found):
    """Paragraphs of one protocol: for generators and for the simulator, where they helped and where not."""
    out = []
    for kind, who in KINDS.items():
        if (kind, protocol) == ("generator", "predecessors"):
            who = "Generators trained on the whole training split"
        for asked, how in QUESTIONS.items():
            mine = [c for c in found if c["question"] == (kind, asked)]
            if not mine:
                continue
            better, worse = (sum(c["holm"] < LEVEL and c["mean"] * sign > 0 for c in mine) for sign in (1, -1))
            tested = sum(np.isfinite(c["p"]) for c in mine)
            text = (f"With {TITLES[protocol]}; {how}. {who}: {title} better in {better}, worse in {worse}, "
                    f"undecided in {tested - better - worse} of {tested} comparisons.")
            for n in by_n if asked in ("added", "bare") else list(by_n)[:1]:
                best = max((c for c in mine if c["n"] == n), key=lambda c: c["mean"], default=None)
                text += " Best at " + sentence(best, protocol, name, by_n[n]) if best else ""
            out.append(text)
    return out


def verdicts(found):
    """The first paragraph: over all protocols, where synthetic images helped and where they did harm. found: list of
    (protocol, title of its headline, comparison)."""
    out = []
    for kind, who in {"generator": "generators trained on the same real images",
                      "simulator": "the stroke simulator"}.items():
        for asked, where in (("bare", "Where nothing is augmented"), ("added", "Beside classical augmentation"),
                             ("instead", "In place of augmentation")):
            mine = [f for f in found if f[2]["question"] == (kind, asked) and np.isfinite(f[2]["p"])]
            if not mine:
                continue
            sure = [f for f in mine if f[2]["holm"] < LEVEL]
            better = sorted((f for f in sure if f[2]["mean"] > 0), key=lambda f: -f[2]["mean"])
            text = f"{where}, {who} " + (f"helped in {len(better)} of {len(mine)} comparisons" if better else
                                         f"helped in none of {len(mine)} comparisons")
            if better:
                p, title, c = better[0]
                text += (f", most with {images(c['n'], p)} (“{ARMS[p][c['arm']].words}”, {difference(c)} points of {title}, "
                         f"{chance(c['holm'])} after Holm's correction)")
            out.append(f"{text}, and did harm in {len(sure) - len(better) or 'none'}.")
    return " ".join(out) or "Too few seeds were run for a test."


# ---- tables and pictures ---------------------------------------------------------------------------------------------

def tables(protocol, name, title, by_n, found, note):
    arms = sorted({a for by in by_n.values() for a in by}, key=list(ARMS[protocol]).index)
    columns = ["arm"] + [f"n = {n}" for n in by_n]

    def cell(n, arm, field):
        return plus_minus(*statistics.t_interval(values(by_n[n][arm], field))) if arm in by_n[n] else ""
    out = [Table(f"{title[0].upper() + title[1:]}, %: {TITLES[protocol]}", columns,
                 [[ARMS[protocol][a].words] + [cell(n, a, name) for n in by_n] for a in arms], note)]
    if name == "rare_f1":
        out.append(Table(f"Accuracy over all classes, %: {TITLES[protocol]}", columns,
                         [[ARMS[protocol][a].words] + [cell(n, a, "accuracy") for n in by_n] for a in arms]))
    if found:
        over_all = name == "rare_f1"       # accuracy over all classes, beside the headline about some
        out.append(Table(f"Arms with synthetic images against arms without: {TITLES[protocol]}",
                         ["arm", "n", "against", f"{title}, points", "p", "p (Holm)"]
                         + ["accuracy, points", "p"] * over_all + ["McNemar: seeds better / worse"],
                         [[ARMS[protocol][c["arm"]].words, str(c["n"]), ARMS[protocol][c["against"]].words,
                           difference(c), bare(c["p"]), bare(c["holm"])]
                          + [difference(c["accuracy"]), bare(c["accuracy"]["p"])] * over_all
                          + [f"{c['mcnemar_better']} / {c['mcnemar_worse']} of {c['seeds']}"] for c in found],
                         "Holm's correction is for all comparisons of this table that ask the same: synthetic images of "
                         "generators or of the simulator, beside or in place of augmentation, with nothing augmented, or "
                         "alone. McNemar: on how many seeds its test finds more, or fewer, test images read rightly, p < .05."))
    n, by_arm = max(by_n.items(), key=lambda p: len(p[1]))
    fields = ["accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "ece"]
    fields += ["rare_precision", "rare_recall", "rare_f1"] if name == "rare_f1" else []
    out.append(Table(f"More figures at {images(n, protocol)}, %: {TITLES[protocol]}",
                     ["arm"] + [f.replace("_", " ").replace("ece", "ECE").replace("f1", "F1") for f in fields],
                     [[ARMS[protocol][a].words] + [f"{100 * values(by_arm[a], f).mean():.2f}" for f in fields]
                      for a in by_arm], "Means over seeds. ECE: expected calibration error."))
    return out


def picture(protocol, name, title, by_n, context):
    """The headline figure against n, with intervals; bars where there is one n only."""
    arms = sorted({a for by in by_n.values() for a in by}, key=list(ARMS[protocol]).index)

    def band(n, arm):
        mean, half = statistics.t_interval(values(by_n[n][arm], name)) if arm in by_n[n] else (np.nan, np.nan)
        half = 0 if not np.isfinite(half) else half
        return 100 * mean, 100 * (mean - half), 100 * min(1, mean + half)

    def error(n, arm):
        """What is missing to 100 %, which a logarithmic scale shows at every n."""
        mean, low, high = band(n, arm)
        return 100 - mean, max(100 - high, (100 - mean) / 4), 100 - low
    heading = f"{context.glyphs.name}: {title}, {TITLES[protocol]}"
    if len(by_n) > 1:
        xs = [len(context.glyphs.y_train) / len(context.glyphs.classes) if n == "all" else n for n in by_n]
        series = {ARMS[protocol][a].words: (xs, *zip(*(error(n, a) for n in by_n))) for a in arms}
        drawn = charts.curves(series, heading, "real images per class (of the rare classes)" if name == "rare_f1" else
                              "real images per class", f"100 % - {title}", log_x=True, log_y=True, size=(900, 600),
                              footer="Lower is better. Mean over seeds with its 95 % interval.")
    else:
        n, low = next(iter(by_n)), min(band(n, a)[0] for n in by_n for a in by_n[n])
        bars = {ARMS[protocol][a].words: {title: band(n, a)} for a in arms if a in by_n[n]}
        drawn = charts.bars(bars, f"{heading}, {images(n, protocol)}", y_title=f"{title}, %", size=(1100, 480),
                            y_range=(max(0, low - 5), 100), footer="Mean over seeds with its 95 % interval.")
    n = list(by_n)[0]
    best = max(by_n[n], key=lambda a: values(by_n[n][a], name).mean())
    alt = (f"{title} by arm; at {images(n, protocol)} the highest is {ARMS[protocol][best].words} with "
           f"{100 * values(by_n[n][best], name).mean():.1f} %")
    return Figure(f"ocr_{protocol}", drawn, alt, f"{title[0].upper() + title[1:]} on the test split: {TITLES[protocol]}.")


def part(context, rows):
    """The Part of the report for finished rows (all of one data set)."""
    out = Section("ocr", TITLE, [])
    if not rows:
        out.paragraphs.append("No run has been finished.")
        return out
    summary, every = [], []
    for protocol in sorted({r["protocol"] for r in rows}, key=list(ARMS).index):
        mine = [r for r in rows if r["protocol"] == protocol]
        by_n, (name, title) = groups(mine), headline(mine, context.glyphs.y_test)
        found = comparisons(by_n, protocol, name)
        seeds = sorted({len(rs) for by_arm in by_n.values() for rs in by_arm.values()})
        fixed = all(len(ARMS[protocol][a].tries) == 1 for by_arm in by_n.values() for a in by_arm)
        repeated = " to ".join(map(str, dict.fromkeys([seeds[0], seeds[-1]])))
        note = ((f"Mean over {repeated} paired seeds with its 95 % t-interval." if seeds[-1] > 1 else "A single seed.")
                + f" Every recogniser took {mine[0]['steps']:,} steps of {mine[0]['batch']} images, every generator "
                f"{mine[0]['generator_steps']:,} steps; settings "
                + ("as they are by default, not chosen on this data set" if mine[0]["tries"] == 1 or fixed else
                   f"chosen on val among {mine[0]['tries']} for each arm, after the warp of all augmented arms among as "
                   f"many with the arm that has no generator; val has {len(context.glyphs.y_val):,} images, more than who has so few would have")
                + "." + " The GAN of an augmented arm sees all images shifted by up to 2 pixels." * (protocol == "few"))
        out.paragraphs += words(protocol, name, title, by_n, found)
        out.tables += tables(protocol, name, title, by_n, found, note)
        out.figures.append(picture(protocol, name, title, by_n, context))
        every += [(protocol, title, c) for c in found]
        summary.append({"protocol": protocol, "meaning": TITLES[protocol], "note": note, "headline": name,
                        "comparisons": found, "arms": [
                            {"n": n, "arm": a, "words": ARMS[protocol][a].words, "settings": rs[-1]["settings"],
                             "seeds": [r["seed"] for r in rs],
                             "seconds": round(float(np.mean([r["seconds"] for r in rs])), 1),
                             **{f: dict(zip(("mean", "half"), statistics.t_interval(values(rs, f))),
                                        values=values(rs, f).tolist())
                                for f, v in rs[0]["test"].items() if isinstance(v, float)}}
                            for n, by in by_n.items() for a, rs in by.items()]})
    out.paragraphs.insert(0, verdicts(every))
    out.numbers = {"dataset": context.glyphs.name, "sha256": context.glyphs.sha256, "protocols": summary}
    return out


def text(part):
    """A Part for the terminal: its words, and its tables in aligned columns."""
    out = [part.title, *part.paragraphs]
    for t in part.tables:
        rows = [t.columns, *t.rows]
        widths = [max(len(str(r[i])) for r in rows) for i in range(len(t.columns))]
        out += ["", t.title, *("  ".join(str(c).ljust(w) for c, w in zip(r, widths)).rstrip() for r in rows)]
        out += [t.note] * bool(t.note)
    return "\n".join(out)
