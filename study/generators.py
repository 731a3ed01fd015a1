"""A section of evaluate.py: how good the samples of each generator are.

    section = measure(context)           # describe(numbers): its text, table, charts from stored numbers

Samples have the labels of the test images in their order and uniform thickness; N is as many as test images, at most
10,000. Beside every number stands the floor: what as many real training images score.
"""
import itertools

import numpy as np

import data
from generate_digits import draw_noise
from metrics.appearance import specks
from metrics.comparison import METRICS, compare
from metrics.neighbours import copies
from metrics.statistics import format_interval, format_number, format_percent
from study.context import GENERATORS, Reference, accuracy_from_samples, join_names, open_generators
from study.report import Figure, Section, Table
from utils import charts, figures
from utils.files import UserError

FLOOR_DRAWS = 3                          # random sets of training images, for the floor and its spread
CAS_STEPS = {True: 600, False: 3000}     # at most: of a classifier on samples alone, in the quick form and not
FIGURE_CLASSES = 12                         # in a figure of samples
CHART = 700, 380                         # pixels


def measure_numbers(context, sources):
    """Every number of the section, as dicts, of open generators {stem: source}."""
    total, done = len(sources) * 3 + FLOOR_DRAWS + 4, itertools.count()

    def step(text):
        context.say(text, next(done), total)

    def compare_with_test(measured):
        return {**compare(reference.test, measured, reference.extractor, METRICS, reference.table),
                "specks": specks(measured.images)}

    def cas(measured):
        return accuracy_from_samples(context, measured.images, measured.labels, CAS_STEPS[context.quick], context.seeds)

    step("features of the test images")
    reference = Reference(context, depths=True)
    floor_sets = []
    for seed in range(FLOOR_DRAWS):
        step(f"floor, draw {seed + 1}")
        floor_sets.append(reference.floor_set(seed))
    step("features of the training images")
    train = reference.measure(context.glyphs.x_train, context.glyphs.y_train)
    step("floor: distances, neighbours")
    draws = [compare_with_test(s) for s in floor_sets]
    values = [d["fid"]["value"] for d in draws]
    step("floor: a classifier from real images alone")
    floor = {"draws": draws, "fid": float(np.mean(values)), "fid_spread": float(np.std(values, ddof=1)),
             "cas": cas(floor_sets[0])}
    results = {}
    for stem, source in sources.items():
        step(f"{GENERATORS[stem]}: samples and their features")
        fake = reference.measure(*reference.sample(source))
        step(f"{GENERATORS[stem]}: distances, neighbours, copies")
        results[stem] = {**compare_with_test(fake), "copies": copies(reference.test, fake, train)}
        step(f"{GENERATORS[stem]}: a classifier from its samples alone")
        results[stem]["cas"] = cas(fake)
    step("pictures")
    test, on_test = reference.test, None
    if test.answers is not None and reference.extractor.classes == context.glyphs.classes:
        on_test = float((test.answers == test.labels).mean())
    return {"n": reference.n, "features": draws[0]["features"], "classifier_on_test": on_test, "floor": floor,
            "models": results, "cas_seeds": context.seeds}


def measure(context):
    """The Section: how near the samples of each generator of the folder are to real images, side by side."""
    sources, notes = open_generators(context)
    if not sources:
        raise UserError(f"no generator of {context.glyphs.name} in {context.models}: {' '.join(notes)} "
                        "Train one with `python train.py`")
    section = describe(measure_numbers(context, sources))
    section.paragraphs += notes
    g = context.glyphs
    table = data.width_table(g.x_train, g.y_train, len(g.classes))
    section.figures = [samples_figure(context, sources, table), *section.figures,
                       *(dial_figure(g.classes, table, *item) for item in sources.items()),
                       *training_figures(context, sources)]
    return section


# ---- text, table, charts of the numbers ----------------------------------------------------------

def describe(numbers):
    """The Section of stored numbers, without the figures that show glyphs."""
    models, floor = numbers["models"], numbers["floor"]
    order = sorted(models, key=lambda s: models[s]["fid"]["value"])
    best, features = models[order[0]], numbers["features"]
    first, *others = [(GENERATORS[s], f"{format_number(models[s]['fid']['value'] / floor['fid'], 2)} times") for s in order]
    others = f" ({', '.join(map(' '.join, others))})" if others else ""
    answer = (f"Those of the {first[0]} are nearest to real ones: FID {format_number(best['fid']['value'])}, {first[1]} the "
              f"{format_number(floor['fid'])} of real training images{others}.")
    text = (f"FID and its kin are measured in the {best['d']} features of `{features['model']}` (sha256 "
            f"{features['sha256']}): they compare generators on the same features, N and test images only, and are no "
            "Inception FID.")
    return Section("quality", "How good are the images?", [text], [quality_table(numbers)], fid_charts(numbers),
                   numbers, answer)


def quality_table(numbers):
    """A row per measure, a column per generator, the floor last."""
    floor, results = numbers["floor"], [*numbers["models"].values()]

    def look_up(result, path):
        for key in path.split("/"):
            result = result.get(key, {})
        return None if result == {} else result

    def row(title, path, text, floor_cell=None):
        """`path`: the keys of a number in a result; `text` writes it; the floor: mean of the draws."""
        draws = [look_up(d, path) for d in floor["draws"]]
        if floor_cell is None:
            floor_cell = "-" if None in draws else text(np.mean(draws))
        values = [look_up(r, path) for r in results]
        return [title, *("-" if v is None else text(v) for v in values), floor_cell]

    three, four = "{:.3f}".format, "{:.4g}".format
    rows = [row("FID", "fid/value", three),
            row("FID, 95 % interval", "fid/interval", lambda v: "{:.3f} to {:.3f}".format(*v),
                f"±{floor['fid_spread']:.3f} sd"),
            row("FID / floor", "fid/value", lambda v: f"{v / floor['fid']:.2f}"),
            row("Accuracy from these images alone (CAS), %", "cas", lambda c: format_interval(c["mean"], c["half"]),
                format_interval(floor["cas"]["mean"], floor["cas"]["half"])),
            row("Drawn as the class requested", "label_accuracy", format_percent,
                format_percent(numbers["classifier_on_test"])),
            row("Drawn in the style requested", "style_accuracy", format_percent, "-"),
            row("Thickness, rank correlation", "spearman/mean", three, "-"),
            row("Width of the pen, mean error in pixels", "width_error", "{:.2f}".format, "-"),
            row("KID", "kid/value", four)]
    rows += [row(name.capitalize(), name, three) for name in ("precision", "recall", "density", "coverage")]
    rows += [row(f"FID at {name}", f"depths/{name}/fid", four) for name in results[0]["depths"]]
    rows += [row(f"FID within a class, {which}", f"intra_fid/{which}", three) for which in ("mean", "worst")]
    rows += [row("Worst class", "intra_fid/worst_class", str, "-"),
             row("Specks, pieces of fewer than 5 pixels, per image", "specks", three),
             row("Near-copies of training images", "copies/near_copies", format_percent, "1.00 %"),
             row("Near-copies by pixels, also moved", "copies/moved_copies", format_percent, "1.00 %")]
    names = [GENERATORS[stem] for stem in numbers["models"]]
    return Table("Quality of the samples", ["", *names, "Real images (floor)"], rows,
                 f"N = {numbers['n']:,}. FID, KID: lower is nearer to real images. Floor: as many training images "
                 f"against the test images, mean of {len(floor['draws'])} draws; class: the classifier on test images. "
                 f"CAS: test accuracy of a small classifier trained on N such images alone, {floor['cas']['steps']:,} "
                 f"steps, {numbers['cas_seeds']} seeds ± half the 95 % t-interval. Near-copies: more than 2 % would be "
                 "a sign of copying.")


def fid_charts(numbers):
    """FID beside its floor; and at each depth of the network over its floor, where features were taken at several."""
    floor, spread, draws = numbers["floor"]["fid"], numbers["floor"]["fid_spread"], numbers["floor"]["draws"]
    bars = {GENERATORS[s]: {"FID": (r["fid"]["value"], *r["fid"]["interval"])} for s, r in numbers["models"].items()}
    bars["real images (floor)"] = {"FID": (floor, floor - spread, floor + spread)}
    out = [Figure("fid", charts.bars(bars, "Distance to the test images (FID)", y_title="FID", size=CHART),
                  "Bars of FID: " + ", ".join(f"{k} {v['FID'][0]:.3f}" for k, v in bars.items()) + ".",
                  "Lower is better. Intervals: 95 % by resampling; of the floor, one standard deviation.")]

    def fids(result):
        return {**{name: d["fid"] for name, d in result["depths"].items()}, "features": result["fid"]["value"]}
    ratios = {depth: {GENERATORS[s]: fids(r)[depth] / np.mean([fids(d)[depth] for d in draws])
                      for s, r in numbers["models"].items()} for depth in fids(draws[0])}
    if len(ratios) > 1:
        plot = charts.bars(ratios, "FID / floor, at several depths of the network", y_title="FID / floor", size=CHART)
        alt = "; ".join(f"{k}: " + ", ".join(f"{n} {v:.1f}" for n, v in row.items()) for k, row in ratios.items())
        out.append(Figure("fid_depths", plot, f"Bars of FID divided by its floor, by depth: {alt}.", "Depth 1 sees "
                          "small pieces of strokes, the features whole characters. 1: as near as training images."))
    return out


# ---- figures of glyphs, files of the training ----------------------------------------------------

def samples_figure(context, sources, table):
    """A row per class; a block of columns, thin to thick, per generator (and, with show_real, of test images)."""
    g = context.glyphs
    classes = figures.evenly_spaced(len(g.classes), FIGURE_CLASSES)
    thicknesses = np.array([0.05, 0.35, 0.65, 0.95], np.float32)
    labels, t = np.repeat(classes, len(thicknesses)), np.tile(thicknesses, len(classes))
    blocks = {}
    if context.show_real:
        ranks = data.thickness(g.x_test, g.y_test, table)
        nearest = [np.argmin(np.where(g.y_test == k, abs(ranks - v), np.inf)) for k, v in zip(labels, t)]
        blocks["real (test)"] = g.x_test[nearest] * np.isin(labels, g.y_test)[:, None, None]     # else blank
    for stem, source in sources.items():
        noise = np.tile(draw_noise(0, 0, len(thicknesses), source.latent)[0], (len(classes), 1))
        blocks[GENERATORS[stem]] = source(noise, labels, t)
    names = [figures.class_name(g.classes, k) for k in classes]
    grids = [figures.grid(images.reshape(len(classes), -1, 28, 28), names, ["thin", "", "", "thick"], title)
             for title, images in blocks.items()]
    return Figure("samples", figures.page(grids, across=True, gap=0),
                  "A table of generated characters: a row for each class, from thin to thick, by "
                  f"{join_names(GENERATORS[s] for s in sources)}.",
                  "Every class, thin to thick, with the same random numbers for every class. Nothing is selected.")


def dial_figure(classes, table, stem, source):
    """The same noise at eleven thicknesses, a row per class; above them the mean over these classes of the pen's width."""
    chosen, name = figures.evenly_spaced(len(classes), FIGURE_CLASSES), GENERATORS[stem]
    labels, t = np.repeat(chosen, 11), np.tile(np.linspace(0, 1, 11, dtype=np.float32), len(chosen))
    noise = np.repeat(draw_noise(0, 3, 1, source.latent)[0], len(labels), 0)
    images = source(noise, labels, t).reshape(len(chosen), 11, 28, 28)
    levels = (np.arange(table.shape[1]) + 0.5) / table.shape[1]
    heads = [f"{v:.1f}: {w:.1f} px" for v, w in zip(t[:11], np.interp(t[:11], levels, table[chosen].mean(0)))]
    sheet = figures.grid(images, [figures.class_name(classes, k) for k in chosen], heads,
                         f"{name}: one noise, the dial turned", "Thickness, 0 thin to 1 thick: the rank of the pen's "
                         "width within the class. Pixels: the width at that rank in training images, mean of the classes.")
    return Figure(f"dial_{stem}", sheet, f"Characters of the {name}, a row per class, thicker from left to right.",
                  f"{name}: the same noise at eleven thicknesses. Only the pen should change, not the hand.")


def training_figures(context, sources):
    """The GIF and the loss curves that train.py left beside each generator, as they are."""
    captions = {"training.gif": "The same noise, drawn again and again during training: {}.",
                "losses.png": "Losses of the {} during training. Those of a GAN need not fall."}
    files = [(context.models / f"{stem}_{ending}", caption.format(GENERATORS[stem]))
             for stem in sources for ending, caption in captions.items()]
    return [Figure(path.stem, path, caption, caption) for path, caption in files if path.is_file()]
