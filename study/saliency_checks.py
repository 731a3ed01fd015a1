"""A section of evaluate.py: what does the classifier look at, and do saliency maps mean anything?

    section = measure(context)           # describe(numbers): its text, tables, charts from stored numbers
"""
import math
from functools import partial
from itertools import combinations, permutations

import numpy as np
import torch

import models
import saliency
from generate_digits import open_generator, sample_all
from metrics.statistics import (
    SIGNIFICANT,
    format_interval,
    format_percent,
    holm,
    paired_t_test,
    rank_correlation,
    t_interval,
)
from saliency import METHODS, overlay
from study.context import GENERATORS, example_glyphs, join_names, open_classifier, open_generators
from study.report import Figure, Section, Table
from training.classifier import accuracy, predict, train_classifier
from utils import charts, figures

TEST_IMAGES = 2000                                          # of which the first are explained
OVERLAID = ("SmoothGrad", "Grad-CAM")                       # methods in figures that compare classifiers
ALIKE, UNLIKE = 0.5, 0.2   # rank correlations with a network at random: above the one, below the other is worth a word
# images: for deletion, insertion, completeness; ranked: for rank correlations; steps and seeds: of each arm's training
QUICK = {"images": 48, "ranked": 24, "steps": 200, "seeds": 2, "pool": 6000, "epochs": 3}
FULL = {"images": 200, "ranked": 80, "steps": 500, "pool": 20_000, "epochs": 4}
COARSE = {**METHODS, "SmoothGrad": partial(saliency.smoothgrad, samples=16),       # ranks need no exact maps
          "integrated gradients": partial(saliency.integrated_gradients, steps=16, tolerance=math.inf)}


def measure(context):
    """The Section; raises UserError without a classifier, or for one of other classes."""
    network, glyphs, examples = open_classifier(context), context.glyphs, example_glyphs(context)
    size = dict(QUICK if context.quick else FULL)
    size["seeds"] = min(size["seeds"], context.seeds) if context.quick else context.seeds
    chosen = np.random.default_rng(0).permutation(len(glyphs.x_test))[:TEST_IMAGES]
    test = glyphs.x_test[chosen], glyphs.y_test[chosen]
    images, labels, answers = (torch.from_numpy(v).to(context.device) for v in (*test, predict(network, test[0])))
    x, y = models.from_uint8(images[:size["images"]]), answers[:size["images"]]
    ranked, labels = models.from_uint8(images[:size["ranked"]]), labels[:size["ranked"]]
    numbers = {"protocol": {**size, "data_set": glyphs.name, "split": "test", "arm_network": "small"}}
    context.say("saliency: maps")
    maps = {name: method(network, x, y) for name, method in METHODS.items()}
    error = saliency.completeness_error(network, x, y, maps["integrated gradients"]).cpu().numpy()
    numbers["completeness"] = {"mean": float(error.mean()), "max": float(error.max()),
                               "within": float((error <= saliency.TOLERANCE).mean()), "images": len(error)}
    context.say("saliency: layers at random")
    numbers |= measure_randomisation(network, ranked, answers[:len(ranked)], size["seeds"])
    context.say("saliency: deletion and insertion")
    numbers |= measure_perturbation(network, x, y, maps)
    arms, notes = train_arms(context, size)
    numbers["arms"] = {"accuracy": {arm: [accuracy(n, *test) for n in networks] for arm, networks in arms.items()},
                       **measure_agreement(arms, ranked, labels)}
    numbers["epochs"], by_epoch = measure_epochs(context, arms, size, test, ranked, labels)
    section = describe(numbers)
    section.paragraphs += notes
    if not by_epoch:
        section.paragraphs.append("No maps by generator epoch: no run kept its epochs (train.py --snapshots).")
    if examples:
        section.figures.insert(0, classes_figure(network, glyphs.classes, *examples))
        compared = {"arms": {arm: networks[0] for arm, networks in arms.items()}}
        compared |= {f"epochs_{name.lower()}": networks for name, networks in by_epoch.items()}
        for key, networks in compared.items():
            section.figures.append(overlay_figure(f"saliency_{key}", networks, glyphs.classes, *examples))
    else:
        section.paragraphs.append("No figures of maps: there is no generator, and real images need --show-real.")
    return section


def map_correlation(a, b, inside=None):
    """Of the magnitudes of two maps of each image, over all pixels or those `inside` (bool [N, H, W]): float64 [N]."""
    a, b = a.abs().cpu().numpy(), b.abs().cpu().numpy()
    inside = np.ones(a.shape, bool) if inside is None else inside.cpu().numpy()
    return np.array([rank_correlation(v[i], w[i]) for v, w, i in zip(a, b, inside)])


def measure_randomisation(network, images, labels, seeds):
    """Rank correlation of each method's maps with those of the same network, its layers re-initialised one by one:
    means and half widths of intervals over images, by method, pixels ("all" or "ink") and stage."""
    regions, values = {"all": None, "ink": images[:, 0] > 0.5}, {}
    original = {m: COARSE[m](network, images, labels) for m in METHODS}
    for seed in range(seeds):
        stages = []
        for layer, randomised in saliency.cascading_randomization(network, seed):
            stages.append(layer)
            for m in METHODS:
                maps = COARSE[m](randomised, images, labels)
                for region, inside in regions.items():
                    values.setdefault((m, region), []).append(map_correlation(original[m], maps, inside))
    by_stage = {key: np.reshape(v, (seeds, len(stages), -1)).mean(0) for key, v in values.items()}    # [stages, images]
    means = {m: {region: by_stage[m, region].mean(1).tolist() for region in regions} for m in METHODS}
    halves = {m: {region: [t_interval(v)[1] for v in by_stage[m, region]] for region in regions} for m in METHODS}
    return {"randomisation": {"stages": stages, **means}, "randomisation_half": halves}


def measure_perturbation(network, images, labels, maps):
    """Does taking the pixels that a map calls relevant change the answer sooner than orders that know no classifier?"""
    rng = torch.Generator().manual_seed(0)
    baselines = {"random": torch.rand(images[:, 0].shape, generator=rng).to(images.device),
                 "edges": saliency.sobel(images), "ink": images[:, 0]}
    orders = {**{m: saliency.relevance(m, v) for m, v in maps.items()}, **baselines}
    curves = {kind: {name: saliency.perturbation(network, images, labels, order, insertion=kind == "insertion").cpu()
                     for name, order in orders.items()} for kind in ("deletion", "insertion")}
    areas = {kind: {name: saliency.area_under_curve(c).numpy() for name, c in curves[kind].items()} for kind in curves}
    summary = {kind: {name: {"mean": float(a.mean()), "half": t_interval(a)[1]}
                      for name, a in areas[kind].items()} for kind in areas}
    beats, loses_to = ({kind: {m: [] for m in maps} for kind in areas} for _ in range(2))
    tests = {(kind, m, base): paired_t_test(areas[kind][m], areas[kind][base])
             for kind in areas for m in maps for base in baselines}
    for ((kind, m, base), test), p in zip(tests.items(), holm([t["p"] for t in tests.values()])):
        if p < SIGNIFICANT:
            is_better = (test["mean"] < 0) == (kind == "deletion")
            (beats if is_better else loses_to)[kind][m].append(base)
    return {"perturbation": summary, "beats": beats, "loses_to": loses_to, "perturbation_curves": {
        kind: {name: c.mean(0).tolist() for name, c in curves[kind].items()} for kind in curves}}


def train_arms(context, size):
    """Small classifiers trained on real images alone, on each generator's: ({arm: [network of each seed]}, notes)."""
    glyphs = context.glyphs
    sources, notes = open_generators(context, ("generator", "cvae"))
    pools = {"real": (glyphs.x_train, glyphs.y_train),
             **{GENERATORS[stem]: sample_all(source, size["pool"])[:2] for stem, source in sources.items()}}
    arms = {arm: [] for arm in pools}
    for i, (arm, seed) in enumerate((arm, seed) for arm in pools for seed in range(size["seeds"])):
        context.say("saliency: training arms", i, len(pools) * size["seeds"])
        arms[arm].append(train_classifier(*pools[arm], steps=size["steps"], seed=seed, n_classes=len(glyphs.classes),
                                          device=context.device))
    return arms, notes


def measure_agreement(arms, x, y):
    """Do classifiers of two arms look at the same pixels as much as two of one arm, trained with other seeds, do?"""
    seeds, names = len(arms["real"]), list(arms)
    if seeds < 2 or len(names) < 2:
        return {"agreement": []}
    rows, spread = [], {}
    for m in METHODS:
        inside = x[:, 0] > 0.5 if m in saliency.TIMES_INPUT else None
        maps = {arm: [COARSE[m](network, x, y) for network in networks] for arm, networks in arms.items()}
        within = {arm: [map_correlation(a, b, inside) for i, a in enumerate(maps[arm]) for b in maps[arm][:i]]
                  for arm in names}
        groups = {f"{arm}, other seed": within[arm] for arm in names}
        for a, b in combinations(names, 2):
            # of other seeds, too: the first weights of a seed, the same in every arm, show in maps
            across = [map_correlation(maps[a][i], maps[b][j], inside) for i, j in permutations(range(seeds), 2)]
            groups[f"{a} / {b}"] = across
            floor = (np.mean(within[a], 0) + np.mean(within[b], 0)) / 2
            rows.append({"method": m, "arms": f"{a} / {b}", "across": float(np.mean(across)),
                         "floor": float(floor.mean()), **paired_t_test(np.mean(across, 0), floor),
                         "under_every_pair": bool(np.mean(across) < min(v.mean() for v in within[a] + within[b]))})
        means = {group: [float(v.mean()) for v in values] for group, values in groups.items()}
        spread[m] = {group: (float(np.mean(v)), min(v), max(v)) for group, v in means.items()}
    for row, p in zip(rows, holm([row["p"] for row in rows])):
        row["below_floor"] = bool(p < SIGNIFICANT and row["under_every_pair"])
    return {"agreement": rows, "spread": spread}


def measure_epochs(context, arms, size, test, x, y):
    """Classifiers trained on a generator's samples after some epochs: ({"CGAN 1": numbers}, {"CGAN": networks})."""
    numbers, by_epoch = {}, {}
    real = {m: COARSE[m](arms["real"][0], x, y) for m in OVERLAID}
    for stem in ("generator", "cvae"):
        name, files = GENERATORS[stem], sorted((context.models / f"{stem}_epochs").glob("*.pth"))
        chosen = np.unique(np.geomspace(1, max(1, len(files)), size["epochs"]).round().astype(int))   # early differ
        files = [files[i - 1] for i in chosen] if files else []
        for i, file in enumerate(files):
            context.say(f"saliency: {name} by epoch", i, len(files))
            samples, epoch = sample_all(open_generator(file), size["pool"])[:2], int(file.stem)
            network = train_classifier(*samples, steps=size["steps"], seed=size["seeds"],    # a seed no arm has
                                       n_classes=len(context.glyphs.classes), device=context.device)
            by_epoch.setdefault(name, {})[f"{name}, epoch {epoch}"] = network
            agreement = {m: t_interval(map_correlation(COARSE[m](network, x, y), real[m])) for m in OVERLAID}
            numbers[f"{name} {epoch}"] = {"accuracy": accuracy(network, *test),
                                          **{m: mean for m, (mean, _) in agreement.items()},
                                          "half": {m: half for m, (_, half) in agreement.items()}}
    return numbers, by_epoch


# ---- figures of glyphs ---------------------------------------------------------------------------

def classes_figure(network, classes, images, labels, origin):
    """The maps of every method on one glyph of each class."""
    maps = {name: method(network, images, labels) for name, method in METHODS.items()}
    glyphs = models.to_uint8(images).cpu().numpy()
    rows = [[glyph, *(overlay(0 * glyph, m[i]) for m in maps.values()),
             *(overlay(glyph, maps[name][i]) for name in OVERLAID)] for i, glyph in enumerate(glyphs)]
    true, read = ([figures.class_name(classes, k) for k in v.tolist()] for v in (labels, predict(network, glyphs)))
    names = [t if r == t else f"{t} (read as {r})" for t, r in zip(true, read)]
    grid = figures.grid(rows, names, ["image", *maps, *(f"{name}, over" for name in OVERLAID)], scale=4,
                        title="What speaks for the class", footer="Red: for the class, blue: against it; from white to "
                        f"dark red where a map has no sign. Each map has its own scale. Images: {origin}.")
    return Figure("saliency_classes", grid, "A row for each class: the image, its map by each method, two of the maps "
                  "over the image.", "Grad-CAM shows where features of the class respond; behind global max pooling, "
                  "as here, only the strongest place of each feature had a say in the answer.")


def overlay_figure(key, networks, classes, images, labels, origin):
    """For each method of OVERLAID a table: a row for each image, a column for each of {training images: network}."""
    tables, names = [], [figures.class_name(classes, c) for c in labels.tolist()]
    glyphs = models.to_uint8(images).cpu().numpy()
    for method in OVERLAID:
        maps = [METHODS[method](network, images, labels) for network in networks.values()]
        rows = [[glyph, *(overlay(glyph, m[i]) for m in maps)] for i, glyph in enumerate(glyphs)]
        tables.append(figures.grid(rows, names, ["image", *networks], method, scale=3))
    page = figures.page(tables, "Classifiers by their training images", "Red: for the class, blue: against it. Images: "
                        f"{origin}.", across=True)
    return Figure(key, page, f"Maps of classifiers trained on {join_names(networks)}, over the same glyphs.")


# ---- text, tables, charts of the numbers ---------------------------------------------------------

def describe(numbers):
    """The Section of numbers, measured now or stored."""
    last, beats, c = {m: numbers["randomisation"][m] for m in METHODS}, numbers["beats"], numbers["completeness"]
    learned = [m for m in last if last[m]["ink"][-1] < UNLIKE and last[m]["all"][-1] < ALIKE]
    better = [m for m in last if all({"random", "edges"} <= set(beats[kind][m]) for kind in beats)]
    both = [m for m in learned if m in better]
    answer = (f"Maps of {join_names(both, 'no method')} passed both tests: to change when the network's weights are "
              "drawn anew, and to order pixels better than chance and an edge detector do.")
    only = [join_names([m for m in passed if m not in both], "none") for passed in (learned, better)]
    completeness = ("Integrated gradients must sum to the difference of the logits of the image and of blank paper: on "
                    f"{c['images']} test images they miss it by {format_percent(c['mean'])} on average, "
                    f"{format_percent(c['max'])} at worst.")
    section = Section("saliency", "What does the classifier look at, and can such maps be trusted?",
                      [f"Only the first was passed by {only[0]}, only the second by {only[1]}.", completeness], [], [],
                      numbers, answer, {"seeds": numbers["protocol"]["seeds"], "per_class": None})
    describe_randomisation(section)
    describe_perturbation(section)
    if numbers["arms"]["agreement"]:
        describe_agreement(section)
    else:
        section.paragraphs.append("Agreement between training arms needs at least two arms and two seeds.")
    if numbers.get("epochs"):
        rows = [[*key.split(), format_percent(r["accuracy"], 1), *(format_interval(
            r[m], r["half"][m], scale=1) for m in OVERLAID)] for key, r in numbers["epochs"].items()]
        columns = ["generator", "epoch", "test accuracy", *(f"{m}: agreement with real" for m in OVERLAID)]
        section.tables.append(Table("Classifiers by the generator's epoch", columns, rows, "Agreement: rank "
                              "correlation with maps of a classifier trained on real images, 95 % intervals."))
    return section


def describe_randomisation(section):
    """Add the table and the charts of measure_randomisation's numbers."""
    means, halves, sizes = (section.numbers[key] for key in ("randomisation", "randomisation_half", "protocol"))
    rows = [[m, *(format_interval(means[m][region][stage], halves[m][region][stage], scale=1)
                  for region in ("all", "ink") for stage in (0, -1))] for m in METHODS]
    section.tables.append(Table(
        "Do maps depend on what was learned?",
        ["method", "last layer at random", "all layers", "ink pixels: last layer", "ink pixels: all layers"], rows,
        f"Rank correlation with the trained network's maps, {sizes['ranked']} test images, {sizes['seeds']} seeds; "
        "0 is good. Maps that are zero where there is no ink agree on that in any network: ink pixels show the rest."))
    for region, title in (("all", "all pixels"), ("ink", "ink pixels alone")):
        series = {}
        for m in METHODS:
            mean, half = np.array([1.0, *means[m][region]]), np.array([0.0, *halves[m][region]])
            series[m] = (np.arange(len(mean)), mean, mean - half, mean + half)
        plot = charts.curves(series, f"Layers at random: {title}", "layers re-initialised, the last first",
                             "rank correlation with the trained network's maps",
                             footer=f"Layers in turn: {join_names(means['stages'])}. Bands: 95 % over images.")
        section.figures.append(Figure(f"saliency_randomised_{region}", plot, "Curves by method from 1 down: how alike "
                                      "maps stay while layers lose what they learned.",
                                      f"Cascading randomisation (Adebayo et al. 2018), {title}."))


def describe_perturbation(section):
    """Add the table and the charts of measure_perturbation's numbers."""
    numbers, cells = section.numbers, {}
    for kind, areas in numbers["perturbation"].items():
        for name, area in areas.items():
            verdicts = [f"{key.replace('_', ' ')} {join_names(numbers[key][kind][name])}"
                        for key in ("beats", "loses_to") if numbers[key][kind].get(name)]
            mean = format_interval(area["mean"], area["half"], 3, scale=1)
            cells.setdefault(name, [name]).extend([mean, "; ".join(verdicts)])
    section.tables.append(Table(
        "Deletion and insertion", ["order of pixels", "deletion (low is good)", "", "insertion (high is good)", ""],
        list(cells.values()), "Area under the curve of the class's probability, mean over "
        f"{numbers['completeness']['images']} test images, 95 % intervals. A deleted pixel becomes background. Beats, "
        "loses: paired t-test, p < 0.05 after Holm's correction over the table. Random, edges (Sobel) and ink (darkest "
        "first) know no classifier. Gradient and SmoothGrad order by magnitude. Deleting blank pixels changes nothing, "
        "which favours every order that begins with ink."))
    for kind, curves in numbers["perturbation_curves"].items():
        plot = charts.curves({name: (np.linspace(0, 1, len(values)), values) for name, values in curves.items()},
                             f"{kind.capitalize()}: {'lower' if kind == 'deletion' else 'higher'} is better",
                             f"fraction of pixels {kind.removesuffix('ion')}ed, most relevant first",
                             "probability of the class", x_range=(0, 0.6))
        section.figures.append(Figure(f"saliency_{kind}", plot, f"{kind.capitalize()} curves of five methods and of "
                                      "three orders that know no classifier: random, edges and ink.",
                                      f"{kind.capitalize()} curves (Petsiuk et al. 2018), means over test images."))


def describe_agreement(section):
    """Add the table and the chart of measure_agreement's numbers."""
    arms, sizes = section.numbers["arms"], section.numbers["protocol"]
    rows = [[r["method"], r["arms"], f"{r['across']:.2f}", f"{r['floor']:.2f}", f"{r['mean']:+.3f} ± {r['half']:.3f}",
             "below the floor" if r["below_floor"] else "not told apart"] for r in arms["agreement"]]
    accuracies = join_names(f"{arm} {format_percent(np.mean(v), 1)}" for arm, v in arms["accuracy"].items())
    section.tables.append(Table(
        "Agreement between training arms", ["method", "arms", "across", "noise floor", "difference", ""], rows,
        f"Rank correlation of maps of the true class, {sizes['ranked']} test images, {sizes['seeds']} seeds an arm; of "
        "maps that are zero without ink, on ink pixels alone. Floor: two seeds of one arm. Across: two arms, other "
        "seeds, too. Intervals are over images, for these classifiers. Below the floor: paired t-test, p < 0.05 after "
        "Holm's correction over the table, and the mean lies under every pair of one arm. Test accuracy of the arms: "
        f"{accuracies}."))
    plot = charts.bars(arms["spread"], "Do two classifiers look at the same pixels?", size=(1000, 440),
                       y_title="rank correlation of their maps", footer="Other seed: two classifiers of one arm, "
                       "the noise floor. Two names: one of each arm. Lines: lowest and highest pair.")
    section.figures.append(Figure("saliency_agreement", plot, "Bars by method: how alike the maps of two "
                                  "classifiers are, in one arm and between arms."))
