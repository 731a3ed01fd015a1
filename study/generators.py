"""A section of evaluate.py: how good the samples of each generator are.

    part = quality.section(context)          # every generator.*, acgan.*, cvae.* in context.models, side by side

Samples have the labels of the test images in their order, thickness uniform, N as many as test images up to 10,000.
Beside every figure stands the floor: what as many real training images score. fid.py and metrics.py define the figures.
"""
import json

import numpy as np
from PIL import Image, ImageSequence

import data
import fid
from generate_digits import draw_noise
from metrics import statistics
from study.context import GENERATORS, Reference, open_generators
from study.sections import Figure, Section, Table
from training.classifier import predict, train_classifier
from utils import charts, figures
from utils.figures import evenly_spaced
from utils.files import UserError, atomic

FLOOR_DRAWS = 3            # random sets of training images, for the floor and its spread
CAS_STEPS = {True: 600, False: 3000}     # optimiser steps of a classifier on samples alone, in the quick form and not
BATCH, PASSES = 64, 20     # images per step; passes over few images, after which more steps teach nothing
SHOWN = 12                 # classes in a picture
CHART = 700, 380           # pixels of a plot
GIF_FRAMES = 14            # of the training GIF: the report has to stay small


# ---- figures of the samples ------------------------------------------------------------------------------------------

def score(reference, fake, train=None):
    """fid.quality of a Measured set, with the memorisation check where `train` is given."""
    found = fid.quality(reference.test, fake, reference.extractor, ("fid", "kid", "prdc", "depths", "conditional"),
                        reference.table)
    if train is not None:
        found["copies"] = fid.copies(reference.test, fake, train)
    return found


def steps_for(n, most):
    """Optimiser steps of a classifier that learns from n images alone."""
    return min(most, -(-PASSES * n // BATCH))


def cas(context, images, labels):
    """Classification accuracy score (Ravuri and Vinyals 2019): a classifier that has learned from these images alone,
    tested on real ones. {"accuracies": one per seed, "mean", "half": of the 95 % t-interval, "steps"}."""
    g, steps, found = context.glyphs, steps_for(len(images), CAS_STEPS[context.quick]), []
    for seed in range(context.seeds):
        network = train_classifier(images, labels, steps=steps, batch=BATCH, seed=seed,
                                        n_classes=len(g.classes), device=context.device)
        found.append(float(np.mean(predict(network, g.x_test) == g.y_test)))
    mean, half = statistics.t_interval(found)
    return {"accuracies": found, "mean": mean, "half": half, "steps": steps}


def measure(context):
    """How near the samples of each generator are to real images."""
    opened, notes = open_generators(context)
    sources = {stem: (GENERATORS[stem], source) for stem, source in opened.items()}
    if not sources:
        raise UserError(f"no generator of {context.glyphs.name} in {context.models}: {' '.join(notes)} "
                        "Train one with `python train.py`")
    total, done = len(sources) * 3 + FLOOR_DRAWS + 4, 0

    def step(text):
        nonlocal done
        context.say(text, done, total)
        done += 1

    step("features of the test images")
    reference = Reference(context, depths=True)
    floors = []
    for seed in range(FLOOR_DRAWS):
        step(f"floor, draw {seed + 1}")
        floors.append(reference.floor_set(seed))
    step("features of the training images")
    train = reference.measure(context.glyphs.x_train, context.glyphs.y_train)
    step("floor: distances, neighbours")
    real = {"draws": [score(reference, f) for f in floors]}
    values = [d["fid"]["value"] for d in real["draws"]]
    real["fid"], real["fid_spread"] = float(np.mean(values)), float(np.std(values, ddof=1))
    step("floor: a classifier from real images alone")
    real["cas"] = cas(context, floors[0].images, floors[0].labels)
    found = {}
    for stem, (name, source) in sources.items():
        step(f"{name}: samples and their features")
        fake = reference.measure(*reference.sample(source))
        step(f"{name}: distances, neighbours, copies")
        found[stem] = score(reference, fake, train)
        step(f"{name}: a classifier from its samples alone")
        found[stem]["cas"] = cas(context, fake.images, fake.labels)
    context.say("pictures", total, total)
    g = context.glyphs
    numbers = {"n": reference.n, "features": found[next(iter(found))]["features"],
               "classifier_on_test": float((reference.test.probabilities.argmax(1) == reference.test.labels).mean())
               if reads(reference) else None, "floor": real, "models": found, "cas_seeds": context.seeds}
    return Section("quality", "How good are the images?", words(sources, numbers, reference) + notes,
                [table(sources, numbers)], pictures(context, sources, numbers), numbers)


def reads(reference):
    """Whether the extractor is a classifier of these very classes."""
    return reference.test.probabilities is not None and reference.extractor.classes == reference.glyphs.classes


# ---- words and tables ------------------------------------------------------------------------------------------------

def percent(value, digits=2):
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def words(sources, numbers, reference):
    """What the figures say, in plain words; the first paragraph is the news."""
    found, floor = numbers["models"], numbers["floor"]
    order = sorted(found, key=lambda s: found[s]["fid"]["value"])
    best, name = found[order[0]], sources[order[0]][0]
    news = (f"The nearest to real images are those of the {name}: its distance to them (FID) is "
            f"{best['fid']['value']:.3g}, {best['fid']['value'] / floor['fid']:.2g} times the {floor['fid']:.3g} that "
            "real training images score against the test images")
    rest = [f"{found[s]['fid']['value'] / floor['fid']:.2g} times for the {sources[s][0]}" for s in order[1:]]
    news += f" ({', '.join(rest)})" if rest else ""
    if "label_accuracy" in best:
        news += f"; {percent(best['label_accuracy'])} of its images are read as the character that was asked for"
    text = [news + "."]
    own = [f"{percent(found[s]['cas']['mean'], 1)} if the {sources[s][0]} drew them" for s in order]
    text.append(f"Of the real test images a small classifier that has seen nothing but {numbers['n']:,} generated "
                f"ones reads {', '.join(own)}; and {percent(floor['cas']['mean'], 1)} if it has seen as many real ones "
                f"(same network, {floor['cas']['steps']:,} steps, {numbers['cas_seeds']} seeds, no augmentation).")
    thick = {sources[s][0]: found[s]["spearman"]["mean"] for s in order if "spearman" in found[s]}
    if thick:
        rho = ", ".join(f"{name} {value:.3f}" for name, value in thick.items())
        text.append(("The thickness dial does what it says" if min(thick.values()) > 0.9 else
                     "The thickness dial is not followed well by all") +
                    f": rank correlation of asked and drawn thickness, {rho} (1 is perfect).")
    copied = [s for s in order if found[s]["copies"]["near_copies"] > 0.02]
    text.append("No sign of copied training images: near-copies are no more frequent than 2 %, where 1 % is what test "
                "images score by chance." if not copied else
                "Near-copies of training images, 1 % by chance: " +
                ", ".join(f"{sources[s][0]} {percent(found[s]['copies']['near_copies'], 1)}" for s in copied) + ".")
    f = numbers["features"]
    text.append(f"FID and its kin are measured in the {found[order[0]]['d']} features of `{f['model']}` (sha256 "
                f"{f['sha256']}), with N = {numbers['n']:,} on both sides. They compare generators on the same "
                "features, N and test images only; they are no Inception FID.")
    return text


def table(sources, numbers):
    """All figures: a row each, a column per generator, the floor last."""
    found = [*numbers["models"].values()]
    draws, real = numbers["floor"]["draws"], numbers["floor"]

    def row(title, value, floor, text):
        """value: a function of one result; floor: one too, for the mean of the draws, or a text."""
        def cell(result):
            try:
                return text(value(result))
            except KeyError:
                return "-"
        last = floor if isinstance(floor, str) else text(np.mean([(floor or value)(d) for d in draws]))
        return [title, *map(cell, found), last]

    def three(v):
        return f"{v:.3f}"

    def four(v):
        return f"{v:.4g}"

    rows = [row("FID", lambda r: r["fid"]["value"], None, three),
            ["FID, 95 % interval", *("{:.3f} to {:.3f}".format(*r["fid"]["interval"]) for r in found),
             f"±{real['fid_spread']:.3f} sd"],
            row("FID / floor", lambda r: r["fid"]["value"] / real["fid"], None, lambda v: f"{v:.2f}")]
    rows += [row(f"FID at {name}", lambda r, name=name: r["depths"][name]["fid"], None, four)
             for name in found[0]["depths"]]
    rows += [row("KID", lambda r: r["kid"]["value"], None, four),
             row("Precision", lambda r: r["precision"], None, three), row("Recall", lambda r: r["recall"], None, three),
             row("Density", lambda r: r["density"], None, three), row("Coverage", lambda r: r["coverage"], None, three),
             row("Read as asked", lambda r: r["label_accuracy"], percent(numbers["classifier_on_test"]), percent),
             row("Style as asked", lambda r: r["style_accuracy"], "-", percent),
             row("Thickness, rank correlation", lambda r: r["spearman"]["mean"], "-", three),
             row("FID within a class, mean", lambda r: r["intra_fid"]["mean"], None, three),
             row("FID within a class, worst", lambda r: r["intra_fid"]["worst"], None, three),
             ["Worst class", *(r["intra_fid"]["worst_class"] for r in found), "-"],
             ["Accuracy from these images alone (CAS)",
              *(f"{percent(r['cas']['mean'])} ± {100 * r['cas']['half']:.2f}" for r in [*found, real])],
             row("Near-copies of training images", lambda r: r["copies"]["near_copies"], "1.00 %", percent)]
    return Table("Quality of the samples", ["", *(name for name, _ in sources.values()), "Real images (floor)"], rows,
                 f"N = {numbers['n']:,}. FID, KID: lower is nearer to real images. Floor: as many training images "
                 f"against the test images, mean of {len(draws)} draws; read as asked: test images and their true "
                 f"labels. CAS: ± is half the 95 % t-interval over {numbers['cas_seeds']} seeds.")


# ---- pictures --------------------------------------------------------------------------------------------------------

def pictures(context, sources, numbers):
    g, found, floor = context.glyphs, numbers["models"], numbers["floor"]
    names = {s: name for s, (name, _) in sources.items()}
    listed = " and ".join(names.values())
    out = [Figure("samples", side_by_side(g, sources, context.show_real),
                   f"A table of generated characters: a row for each class, from thin to thick, by {listed}.",
                   "Every class, thin to thick, with the same random numbers for every class. Nothing is selected.")]
    bars = {names[s]: {"FID": (found[s]["fid"]["value"], *found[s]["fid"]["interval"])} for s in found}
    spread = floor["fid_spread"]
    bars["real images (floor)"] = {"FID": (floor["fid"], floor["fid"] - spread, floor["fid"] + spread)}
    out.append(Figure("fid", charts.bars(bars, "Distance to the test images (FID)", y_title="FID", size=CHART),
                       "Bars of FID: " + ", ".join(f"{k} {v['FID'][0]:.3f}" for k, v in bars.items()) + ".",
                       "Lower is better. Intervals: 95 % by resampling; of the floor, one standard deviation."))
    depths = {}
    for depth in [*found[next(iter(found))]["depths"], "features"]:
        value = (lambda r: r["fid"]["value"]) if depth == "features" else (lambda r, d=depth: r["depths"][d]["fid"])
        ground = np.mean([value(d) for d in floor["draws"]])
        depths[depth] = {names[s]: value(found[s]) / ground for s in found}
    if len(depths) > 1:
        out.append(Figure("fid_depths", charts.bars(depths, "FID / floor, at several depths of the network",
                                                     y_title="FID / floor", size=CHART),
                           "Bars of FID divided by its floor, by depth: " + "; ".join(
                               f"{d}: " + ", ".join(f"{n} {v:.1f}" for n, v in r.items()) for d, r in depths.items()),
                           "Depth 1 sees small pieces of strokes, the features whole characters. 1 is as near as real "
                           "training images are."))
    noise_of = {s: draw_noise(0, 3, 1, source.latent)[0] for s, (_, source) in sources.items()}
    shown = evenly_spaced(len(g.classes), SHOWN)
    for s, (name, source) in sources.items():
        t = np.tile(np.linspace(0, 1, 11, dtype=np.float32), len(shown))
        labels = np.repeat(shown, 11)
        images = source(np.repeat(noise_of[s], len(labels), 0), labels, t)
        dial = figures.sheet(images, labels, g.classes, t, f"{name}: one noise, the dial turned", layout="dial")
        out.append(Figure(f"dial_{s}", dial,
                           f"Characters of the {name}, a row per class, growing thicker from left to right.",
                           f"{name}: the same noise at eleven thicknesses. Only the pen should change, not the hand."))
    for s, name in names.items():
        movie = context.models / f"{s}_training.gif"
        if movie.is_file():
            out.append(Figure(f"{s}_training", shortened(movie, context.out / f"{s}_training.gif"),
                               f"An animation of the same samples of the {name} during its training.",
                               f"{name}: the same noise, drawn again and again during training."))
    for s, name in names.items():
        curves = losses(context.models / f"{s}.log.jsonl", name)
        if curves:
            competing = " Those of a GAN need not fall: two networks compete." * ("GAN" in name)
            out.append(Figure(f"{s}_losses", curves, f"Curves of the losses of the {name} against the epoch.",
                               f"{name}: losses during training.{competing}"))
    return out


def side_by_side(glyphs, sources, show_real):
    """A row per class; a block of columns, thin to thick, per generator (and of training images)."""
    shown, ts = evenly_spaced(len(glyphs.classes), SHOWN), np.array([0.05, 0.35, 0.65, 0.95], np.float32)
    labels, t = np.repeat(shown, len(ts)), np.tile(ts, len(shown))
    blocks = []
    if show_real:
        ranks = data.thickness(glyphs.x_test, glyphs.y_test, data.ink_table(glyphs.x_train, glyphs.y_train,
                                                                            len(glyphs.classes)))
        nearest = [np.argmin(np.where(glyphs.y_test == k, abs(ranks - v), np.inf)) for k, v in zip(labels, t)]
        known = np.isin(labels, glyphs.y_test)[:, None, None]              # a class may have no test image: blank
        blocks.append(("real (test)", glyphs.x_test[nearest] * known.astype(np.uint8)))
    for name, source in sources.values():
        noise = np.tile(draw_noise(0, 0, len(ts), source.latent)[0], (len(shown), 1))
        blocks.append((name, source(noise, labels, t)))
    parts = []
    for name, images in blocks:
        rows = [list(r) for r in images.reshape(len(shown), len(ts), 28, 28)]
        parts.append(figures.grid(rows, [figures.class_name(glyphs.classes, k) for k in shown],
                                  ["thin", "", "", "thick"], name))
    return figures.page(parts, across=True, gap=0)


def shortened(path, target):
    """Write some of the frames of a GIF to `target`, the last one included; returns `target`."""
    with Image.open(path) as movie:
        keep, colours = evenly_spaced(movie.n_frames, GIF_FRAMES), movie.convert("RGB").quantize(32)
        frames = [f.convert("RGB").quantize(palette=colours, dither=Image.Dither.NONE)
                  for i, f in enumerate(ImageSequence.Iterator(movie)) if i in keep]
    with atomic(target) as tmp:
        frames[0].save(tmp, format="GIF", save_all=True, append_images=frames[1:], loop=0, optimize=False,
                       duration=[400] * (len(frames) - 1) + [3000])
    return target


def losses(path, name):
    """Curves of a training log against the epoch; None where there is no log."""
    if not path.is_file():
        return None
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        keys = [k for k in rows[-1] if k not in ("step", "epoch", "seconds", "images_per_second")]
        series = {k: ([r["epoch"] for r in rows if k in r], [r[k] for r in rows if k in r]) for k in keys}
    except (ValueError, KeyError, IndexError, TypeError) as e:
        raise UserError(f"{path} is no log of train.py: remove it, or train again") from e
    last = [abs(rows[-1][k]) for k in keys]
    return charts.curves(series, f"{name}: losses", "epoch", "loss", smooth=max(1, len(rows) // 40),
                         log_y=max(last) > 50 * min(last), size=CHART)
