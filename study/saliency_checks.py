"""What does the recogniser look at, and do such maps mean anything? The saliency section of evaluate.py.

    part = section(Context(glyphs, Path("saved_models"), Path("results")))

Pictures show generated glyphs, so that a report may be passed on whatever the licence of the data set; with
context.show_real they show test images instead. Numbers are always measured on test images.
"""
import math

import numpy as np
import torch

import models
import saliency
from generate_digits import TorchGenerator, open_generator, sample_all
from metrics import statistics
from metrics.distances import spearman
from study.context import example_glyphs
from study.sections import Figure, Section, Table
from training.classifier import train_classifier
from utils import charts, figures
from utils.files import UserError

GENERATORS = {"CGAN": "generator", "CVAE": "cvae"}          # arm -> stem of the generator's file
TEST_IMAGES = 2000                                          # of which the first are explained
ROWS = 10                                                   # classes in a picture
SHOWN = ("SmoothGrad", "Grad-CAM")                          # methods in pictures that compare classifiers
ALIKE, GONE = 0.5, 0.2     # rank correlations with a network at random: above, below which words are made of them
# images: for deletion, insertion, completeness; ranked: for rank correlations; steps and seeds: of each arm's training
QUICK = {"images": 48, "ranked": 24, "steps": 200, "seeds": 2, "pool": 6000, "epochs": 3}
FULL = {"images": 200, "ranked": 80, "steps": 500, "seeds": 3, "pool": 20_000, "epochs": 4}
# ranks of pixels need no exact integral
COARSE = {"SmoothGrad": {"samples": 16}, "integrated gradients": {"steps": 16, "tolerance": math.inf}}


def measure(context):
    """The saliency section: takes context.Context, gives sections.Section. Raises UserError for a foreign classifier."""
    part = Section("saliency", "What does the recogniser look at?", [])
    path = context.models / "classifier.pth"
    if not path.is_file():
        part.paragraphs.append(f"Skipped: there is no {path.name} in {context.models}; train one with "
                          "`python train.py --model classifier`.")
        return part
    checkpoint, glyphs, size = models.load(path, "classifier"), context.glyphs, dict(FULL)
    model = checkpoint.model.to(context.device)
    if checkpoint.classes != glyphs.classes:
        raise UserError(f"{path} reads other classes than those of {glyphs.name}: name the data set that it was "
                        "trained on")
    if context.quick:
        size = {**QUICK, "seeds": min(QUICK["seeds"], context.seeds)}
    else:
        size["seeds"] = max(size["seeds"], context.seeds)
    some = np.random.default_rng(0).permutation(len(glyphs.x_test))[:TEST_IMAGES]
    images = models.from_uint8(torch.from_numpy(glyphs.x_test[some])).to(context.device)
    labels = torch.from_numpy(glyphs.y_test[some]).to(context.device)
    part.protocol = {"seeds": size["seeds"], "per_class": None}
    part.numbers = {"protocol": {**size, "data_set": glyphs.name, "split": "test", "arm_network": "small"}}
    context.say("saliency: maps")
    chosen = example_glyphs(context)
    if chosen:
        maps_of_classes(part, context, model, *chosen)
    else:
        part.paragraphs.append("No pictures of maps: there is no generator for these classes, and real images are not shown "
                          "unless asked for.")
    x = images[:size["images"]]
    y = answers(model, x)
    maps = {name: method(model, x, y) for name, method in saliency.METHODS.items()}
    completeness(part, saliency.completeness_error(model, x, y, maps["integrated gradients"]).cpu().numpy())
    context.say("saliency: layers at random")
    randomisation(part, model, images[:size["ranked"]], size["seeds"])
    context.say("saliency: deletion and insertion")
    deletion_insertion(part, model, x, y, maps)
    trained = train_arms(context, size)
    agreement(part, trained, images, labels, size["ranked"])
    if chosen:
        maps_of_arms(part, context, trained, *chosen)
        generator_epochs(part, context, trained, size, images, labels, *chosen)
    part.paragraphs.insert(0, summary(part.numbers))
    return part


def listed(names, none="nothing"):
    """["a", "b", "c"] -> "a, b and c"."""
    names = list(names)
    return " and ".join([", ".join(names[:-1])] * (len(names) > 1) + names[-1:]) or none


def interval(values, digits=2):
    mean, half = statistics.t_interval(values)
    return f"{mean:.{digits}f} ± {half:.{digits}f}" if math.isfinite(half) else f"{mean:.{digits}f}"


def answers(model, images):
    """The labels that a network in eval mode gives: int64 [N]."""
    with torch.inference_mode():
        return torch.cat([model(block).argmax(1) for block in images.split(500)])


def coarse(name, model, images, labels):
    return saliency.METHODS[name](model, images, labels, **COARSE.get(name, {}))


def agree(a, b, inside=None):
    """Rank correlation of the magnitudes of two maps of each image, over all pixels or those `inside`: float64 [N]."""
    a, b = a.abs().cpu().numpy(), b.abs().cpu().numpy()
    inside = np.ones(a.shape, bool) if inside is None else inside.cpu().numpy()
    return np.array([spearman(a[i][inside[i]], b[i][inside[i]]) for i in range(len(a))])


# ---- pictures --------------------------------------------------------------------------------------------------------

def drawn(values, image, over):
    """A map [H, W] as a picture, over its glyph or alone; red for the class, blue against it."""
    paper, values = models.to_uint8(image[None])[0].cpu().numpy(), values.cpu().numpy()
    limit = np.quantile(np.abs(values), 0.995)                  # a few extreme pixels would leave the others pale
    return figures.overlay(paper if over else np.zeros_like(paper), values, limit, scale=1)


def maps_of_classes(part, context, model, images, labels, text):
    maps = {name: method(model, images, labels) for name, method in saliency.METHODS.items()}
    read, names = answers(model, images), context.glyphs.classes
    rows = [[models.to_uint8(x[None])[0].cpu().numpy(), *(drawn(m[i], x, over=False) for m in maps.values()),
             *(drawn(maps[name][i], x, over=True) for name in SHOWN)] for i, x in enumerate(images)]
    heads = [figures.class_name(names, c) + (f" (read as {figures.class_name(names, r)})" if c != r else "")
             for c, r in zip(labels.tolist(), read.tolist())]
    picture = figures.grid(rows, heads, ["image", *maps, *(f"{name}, over" for name in SHOWN)], scale=4,
                           title="What speaks for the class", footer="Red: for the class, blue: against it; from "
                           "white to dark red where a map has no sign. The last two columns are maps over their image. "
                           f"Each map has its own scale. Images: {text}.")
    part.figures.append(Figure("saliency_classes", picture, "A table with a row for each class: the image, its map "
                                 "by each method, two of the maps over the image.",
                                 f"Five methods on one classifier and one image of each class ({text}). Grad-CAM shows "
                                 "where features of the class respond; behind global max pooling, as here, only the "
                                 "strongest place of each feature had a say in the answer."))


def overlays(networks, images, labels, names, title, text):
    """For each method of SHOWN a table: a row for each image, a column for each of {name: network}."""
    tables = []
    for method in SHOWN:
        maps = [saliency.METHODS[method](net, images, labels) for net in networks.values()]
        rows = [[models.to_uint8(x[None])[0].cpu().numpy(), *(drawn(m[i], x, over=True) for m in maps)]
                for i, x in enumerate(images)]
        heads = [figures.class_name(names, c) for c in labels.tolist()]
        tables.append(figures.grid(rows, heads, ["image", *networks], method, scale=3))
    return figures.page(tables, title, f"Red: for the class, blue: against it. Images: {text}.", across=True)


def maps_of_arms(part, context, trained, images, labels, text):
    networks = {arm: nets[0] for arm, nets in trained.items()}
    picture = overlays(networks, images, labels, context.glyphs.classes, "Classifiers by their training images", text)
    part.figures.append(Figure("saliency_arms", picture, f"Maps of classifiers trained on {listed(trained)} images, "
                                 "over the same glyphs.", "One classifier of each arm, trained on images of one kind."))


def generator_epochs(part, context, trained, size, images, labels, glyphs, glyph_labels, text):
    """Classifiers trained on the samples of a generator after each of some epochs."""
    rows, found, k = [], {}, len(context.glyphs.classes)
    x, y = images[:size["ranked"]], labels[:size["ranked"]]
    real = {m: coarse(m, trained["real"][0], x, y) for m in SHOWN}
    for arm, stem in GENERATORS.items():
        files = sorted((context.models / f"{stem}_epochs").glob("*.pth"))
        keep = np.unique(np.geomspace(1, max(1, len(files)), size["epochs"]).round().astype(int))    # early ones differ
        networks, files = {}, [files[i - 1] for i in keep if files]
        for i, file in enumerate(files):
            checkpoint = models.load(file, models.MAKES_IMAGES)
            context.say(f"saliency: {arm} by epoch", i, len(files))
            source = TorchGenerator(checkpoint.model.to(context.device), checkpoint.classes)
            net = train_classifier(*sample_all(source, size["pool"])[:2], steps=size["steps"], seed=size["seeds"],
                                        n_classes=k, device=context.device)     # a seed that no arm has
            networks[f"epoch {int(file.stem)}"] = net
            right = float((answers(net, images) == labels).float().mean())
            like = {m: agree(coarse(m, net, x, y), real[m]) for m in SHOWN}
            rows.append([arm, str(int(file.stem)), f"{right:.1%}", *(interval(like[m]) for m in SHOWN)])
            found[f"{arm} {int(file.stem)}"] = {"accuracy": right, **{m: float(like[m].mean()) for m in SHOWN}}
        if networks:
            picture = overlays(networks, glyphs, glyph_labels, context.glyphs.classes,
                               f"Classifiers trained on the {arm}'s images, by its epoch", text)
            part.figures.append(Figure(f"saliency_epochs_{arm.lower()}", picture, "Maps of classifiers trained on "
                                         f"the {arm}'s samples after some epochs, over the same glyphs."))
    if rows:
        part.numbers["epochs"] = found
        part.tables.append(Table("Classifiers by the generator's epoch", ["generator", "epoch", "accuracy on real "
                                 "images", *(f"{m}: agreement with real" for m in SHOWN)], rows, "Trained on the "
                                 "samples of that epoch alone. Agreement: rank correlation with the maps of a "
                                 "classifier trained on real images; 95 % intervals over images."))
    else:
        part.paragraphs.append("Maps by generator epoch were left out: no run here kept its epochs (train.py --snapshots).")


# ---- do the maps mean anything? --------------------------------------------------------------------------------------

def completeness(part, error):
    """error: float [N] of saliency.completeness_error."""
    part.numbers["completeness"] = {"mean": float(error.mean()), "max": float(error.max()),
                                    "within": float((error <= saliency.TOLERANCE).mean()), "images": len(error)}
    part.paragraphs.append(f"Integrated gradients must sum to the difference of the logits of the image and of blank paper: "
                      f"on {len(error)} test images they miss it by {error.mean():.2%} on average, {error.max():.2%} "
                      f"at worst; {(error <= saliency.TOLERANCE).mean():.0%} are within {saliency.TOLERANCE:.0%}.")


def randomisation(part, model, images, seeds):
    """Rank correlation of each method's maps with those of the same network, its layers re-initialised one by one."""
    y, ink = answers(model, images), images[:, 0] > 0.5
    original = {m: coarse(m, model, images, y) for m in saliency.METHODS}
    runs = {m: {"all": [], "ink": []} for m in saliency.METHODS}            # by seed, by stage: float64 [N]
    for seed in range(seeds):
        stages = []
        for layer, network in saliency.cascade(model, seed):
            stages.append(layer)
            maps = {m: coarse(m, network, images, y) for m in runs}
            for m, where, inside in ((m, *place) for m in runs for place in (("all", None), ("ink", ink))):
                runs[m][where].append(agree(original[m], maps[m], inside))
    found = {m: {where: np.reshape(values, (seeds, len(stages), -1)).mean(0) for where, values in runs[m].items()}
             for m in runs}                                                  # mean over seeds: [stages, N]
    x = np.arange(len(stages) + 1)
    for where, title in (("all", "all pixels"), ("ink", "ink pixels alone")):
        series = {}
        for m in found:
            points = [(1.0, 0.0)] + [statistics.t_interval(v) for v in found[m][where]]
            mean, half = np.array(points).T
            series[m] = (x, mean, mean - half, mean + half)
        picture = charts.curves(series, f"Layers at random: {title}", "layers re-initialised, the last first",
                                "rank correlation with the trained network's maps", footer="Layers in turn: "
                                f"{listed(stages)}. Bands: 95 % over images.")
        part.figures.append(Figure(f"saliency_randomised_{where}", picture, "Curves by method that start at 1 and "
                                     "show how alike maps stay while layers lose what they learned.",
                                     f"Cascading randomisation (Adebayo et al. 2018), {title}."))
    rows = [[m, *(interval(found[m][where][at]) for where in ("all", "ink") for at in (0, -1))] for m in found]
    part.tables.append(Table("Do maps depend on what was learned?", ["method", "last layer at random", "all layers",
                             "ink pixels: last layer", "ink pixels: all layers"], rows,
                             f"Rank correlation with the maps of the trained network, {len(y)} test images, {seeds} "
                             "seeds. Near 0 is right. Maps that are zero where there is no ink agree on that in any "
                             "network: ink pixels show what is left."))
    means = {m: {where: values.mean(1).tolist() for where, values in found[m].items()} for m in found}
    part.numbers["randomisation"] = {"stages": stages, **means}
    keep, gone = ([m for m in means if means[m]["all"][-1] > ALIKE], [m for m in means if means[m]["ink"][-1] < GONE])
    part.paragraphs.append("With every layer at random, maps should have nothing in common with the trained network's. Over "
                      f"all pixels those of {listed(keep, 'no method')} still have a rank correlation above {ALIKE}"
                      + ": that much of them is the image, not the network" * bool(keep)
                      + f". On ink pixels alone, those of {listed(gone, 'no method')} fall below {GONE}.")


def deletion_insertion(part, model, images, y, maps):
    """Does taking the pixels that a map calls relevant change the answer sooner than orders that know no classifier?"""
    rng = torch.Generator().manual_seed(0)
    orders = {m: saliency.relevance(m, values) for m, values in maps.items()}
    plain = {"random": torch.rand(images[:, 0].shape, generator=rng).to(images.device), "edges": saliency.sobel(images),
             "ink": images[:, 0]}
    curves = {kind: {name: saliency.perturbation(model, images, y, order, insertion=kind == "insertion").cpu()
                     for name, order in {**orders, **plain}.items()} for kind in ("deletion", "insertion")}
    areas = {kind: {name: saliency.area(c).numpy() for name, c in curves[kind].items()} for kind in curves}
    asked = [(kind, m, base) for kind in areas for m in orders for base in plain]
    tests = [statistics.paired(areas[kind][m], areas[kind][base]) for kind, m, base in asked]
    wins = {}
    for (kind, m, base), test, p in zip(asked, tests, statistics.holm([t["p"] for t in tests])):
        better = (test["mean"] < 0) == (kind == "deletion")
        wins[kind, m, base] = 0 if p > 0.05 else 1 if better else -1
    for kind in curves:
        share = np.linspace(0, 1, next(iter(curves[kind].values())).shape[1])
        picture = charts.curves({name: (share, c.mean(0).numpy()) for name, c in curves[kind].items()},
                                f"{kind.capitalize()}: {'lower' if kind == 'deletion' else 'higher'} is better",
                                f"share of pixels {kind.removesuffix('ion')}ed, most relevant first",
                                "probability of the class", x_range=(0, 0.6), footer=f"{listed(plain)}: orders that "
                                "know no classifier.".capitalize())
        part.figures.append(Figure(f"saliency_{kind}", picture, f"{kind.capitalize()} curves of five methods and of "
                                     "three orders that know no classifier.", f"{kind.capitalize()} curves (Petsiuk et "
                                     f"al. 2018), mean over {len(y)} test images."))

    def verdict(kind, m):
        sides = {"beats": 1, "loses to": -1}
        sides = {side: [b for b in plain if wins[kind, m, b] == value] for side, value in sides.items()}
        return "; ".join(f"{side} {listed(bases)}" for side, bases in sides.items() if bases) or "no difference"

    rows = [[m, interval(areas["deletion"][m], 3), verdict("deletion", m), interval(areas["insertion"][m], 3),
             verdict("insertion", m)] for m in orders]
    rows += [[f"{b} (knows no classifier)", interval(areas["deletion"][b], 3), "", interval(areas["insertion"][b], 3),
              ""] for b in plain]
    part.tables.append(Table("Deletion and insertion", ["order of pixels", "deletion (low is good)", "",
                             "insertion (high is good)", ""], rows, "Area under the curve of the class's probability, "
                             f"mean over {len(y)} test images with 95 % interval. A deleted pixel becomes background. "
                             "Beats, loses: paired t-test, p < 0.05 after Holm's correction over all of the table. "
                             "Edges: Sobel. Ink: the darkest pixels first. Gradient and SmoothGrad order by magnitude. "
                             "Deleting blank pixels changes nothing, which favours every order that begins with ink."))
    part.numbers["perturbation"] = {kind: {name: {"mean": float(a.mean()), "half": statistics.t_interval(a)[1]}
                                           for name, a in areas[kind].items()} for kind in areas}
    part.numbers["beats"] = {kind: {m: [b for b in plain if wins[kind, m, b] == 1] for m in orders} for kind in areas}
    for kind in areas:
        every = [m for m in orders if all(wins[kind, m, b] == 1 for b in plain)]
        rest = [f"{m} ({verdict(kind, m)})" for m in orders if m not in every]
        part.paragraphs.append(f"{kind.capitalize()}: {listed(every, 'no method')} beat{'s' * (len(every) < 2)} every order "
                          "that knows no classifier (random, edges, ink)." + f" Others: {listed(rest)}." * bool(rest))


# ---- training arms ---------------------------------------------------------------------------------------------------

def train_arms(context, size):
    """Small classifiers trained on real images alone and on each generator's alone: {arm: [network of each seed]}."""
    glyphs, pools = context.glyphs, {"real": (context.glyphs.x_train, context.glyphs.y_train)}
    for arm, stem in GENERATORS.items():
        path = context.models / f"{stem}.pth"
        if path.is_file():
            pools[arm] = sample_all(open_generator(path), size["pool"])[:2]
    trained = {}
    for i, (arm, (x, y)) in enumerate(pools.items()):
        for seed in range(size["seeds"]):
            context.say("saliency: training arms", i * size["seeds"] + seed, len(pools) * size["seeds"])
            net = train_classifier(x, y, steps=size["steps"], seed=seed, n_classes=len(glyphs.classes),
                                        device=context.device)
            trained.setdefault(arm, []).append(net)
    return trained


def agreement(part, trained, images, labels, n):
    """Do classifiers of two arms look at the same pixels as much as two of one arm, trained with other seeds, do?"""
    x, y, names = images[:n], labels[:n], list(trained)
    right = {arm: [float((answers(net, images) == labels).float().mean()) for net in trained[arm]] for arm in names}
    part.numbers["arms"] = {"accuracy": right, "agreement": {}}
    missing = [arm for arm in GENERATORS if arm not in trained]
    if missing:
        part.paragraphs.append(f"No file of the {listed(missing)} here, so nothing is said about training on its images.")
    seeds = len(trained["real"])
    if seeds < 2 or len(names) < 2:
        part.paragraphs.append("Agreement between training arms needs at least two arms and two seeds.")
        return
    pairs = [(a, b) for i, b in enumerate(names) for a in names[:i]]
    found, bars = [], {}
    for m in saliency.METHODS:
        inside = x[:, 0] > 0.5 if m in saliency.TIMES_INPUT else None
        maps = {arm: [coarse(m, net, x, y) for net in nets] for arm, nets in trained.items()}
        within = {arm: [agree(a, b, inside) for i, a in enumerate(maps[arm]) for b in maps[arm][:i]] for arm in names}
        bars[m] = {f"{arm}, other seed": spread(within[arm]) for arm in names}
        for a, b in pairs:       # of other seeds, too: the first weights of a seed, the same in every arm, show in maps
            across = [agree(maps[a][i], maps[b][j], inside) for i in range(seeds) for j in range(seeds) if i != j]
            floor = (np.mean(within[a], 0) + np.mean(within[b], 0)) / 2
            bars[m][f"{a} / {b}"] = spread(across)
            found.append({"method": m, "arms": f"{a} / {b}", "across": float(np.mean(across)),
                          "floor": float(floor.mean()), **statistics.paired(np.mean(across, 0), floor),
                          "under_every_pair": bool(np.mean(across) < min(v.mean() for v in within[a] + within[b]))})
    for row, p in zip(found, statistics.holm([row["p"] for row in found])):
        row["below_floor"] = bool(p < 0.05 and row["under_every_pair"])
    part.numbers["arms"]["agreement"] = found
    part.figures.append(Figure("saliency_agreement", charts.bars(bars, "Do two classifiers look at the same pixels?",
                                 y_title="rank correlation of their maps", size=(1000, 440), footer="Other seed: two "
                                 "classifiers of one arm, the noise floor. Two names: one of each arm. Lines: lowest "
                                 "and highest pair."), "Bars by method: how alike the maps of two classifiers are, in "
                                 "one arm and between arms.", f"{seeds} seeds an arm, {n} test images, the true class "
                                 "explained."))
    rows = [[row["method"], row["arms"], f"{row['across']:.2f}", f"{row['floor']:.2f}", f"{row['mean']:+.3f} ± "
             f"{row['half']:.3f}", "below the floor" if row["below_floor"] else "not told apart"] for row in found]
    accuracy = listed(f"{arm} {np.mean(v):.1%}" for arm, v in right.items())
    note = (f"Rank correlation of maps on {n} test images, {seeds} seeds an arm; of maps that are zero without ink, on "
            "ink pixels alone. Floor: two seeds of one arm. Across: two arms, other seeds, too. Intervals are over "
            "images, for these classifiers. Below the floor: paired t-test, p < 0.05 after Holm's correction over the "
            "table, and the mean lies under every pair of one arm. Accuracy of the arms on "
            f"{len(images):,} test images: {accuracy}.")
    part.tables.append(Table("Agreement between training arms",
                             ["method", "arms", "across", "noise floor", "difference", ""], rows, note))
    for a, b in pairs:
        less, same = ([row["method"] for row in found if row["arms"] == f"{a} / {b}" and row["below_floor"] == is_less]
                      for is_less in (True, False))
        said = (f"agree less than those of two seeds of one arm by {listed(less) if same else 'every method'}"
                + f", but not by {listed(same)}" * bool(same) if less else
                "agree no less, as far as can be told, than those of two seeds of one arm, by any method")
        part.paragraphs.append(f"The maps of classifiers trained on {a} and on {b} images {said}.")


def spread(values):
    """(mean, lowest, highest) of the pairs' means."""
    means = [v.mean() for v in values]
    return float(np.mean(means)), float(min(means)), float(max(means))


def summary(numbers):
    """The first paragraph: which methods passed all of it."""
    last, beats = {m: numbers["randomisation"][m] for m in saliency.METHODS}, numbers["beats"]
    learned = [m for m in last if last[m]["ink"][-1] < GONE and last[m]["all"][-1] < ALIKE]
    better = [m for m in last if all({"random", "edges"} <= set(beats[kind][m]) for kind in beats)]
    both = [m for m in learned if m in better]
    return (f"Maps of {listed(both, 'no method')} passed both tests: they change when the network forgets what it "
            "learned, and order the pixels better than chance and an edge detector do, in deletion and insertion. Only "
            f"the first was passed by {listed([m for m in learned if m not in both], 'none')}, only the second by "
            f"{listed([m for m in better if m not in both], 'none')}.")
