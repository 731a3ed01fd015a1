"""A section of evaluate.py: how good classifier.pth is on the test split, where it errs, and whether it knows.

    part = classifier_report.section(context)
"""
import numpy as np

import models
from metrics import statistics
from study.generators import percent
from study.sections import Figure, Section, Table
from training.classifier import predict_probabilities
from utils import charts, figures
from utils.files import UserError

SHOWN = 50                 # classes up to which the confusion matrix is given


def measure(context):
    """Accuracy, precision and recall by class, calibration, mistakes (shown with context.show_real)."""
    g = context.glyphs
    checkpoint = models.load(context.models / "classifier.pth", "classifier")
    if list(checkpoint.classes) != g.classes:
        raise UserError(f"{context.models / 'classifier.pth'} reads other classes than those of {g.name}")
    context.say("reads the test images")
    p = predict_probabilities(checkpoint.model.to(context.device), g.x_test)
    predicted, k = p.argmax(1), len(g.classes)
    matrix = statistics.confusion(g.y_test, predicted, k)
    s = statistics.scores(matrix)
    error, wrong = statistics.ece(p, g.y_test), np.flatnonzero(predicted != g.y_test)
    low, high = statistics.wilson(len(p) - len(wrong), len(p))
    words = [f"The classifier reads {percent(s['accuracy'])} of {len(p):,} test images right (95 % Wilson interval "
             f"{percent(low)} to {percent(high)}) and {len(wrong):,} wrong; balanced over the classes "
             f"{percent(s['balanced_accuracy'])}.",
             f"Its probabilities are off by {100 * error:.2f} percentage points on average (expected calibration "
             f"error, {statistics.BINS} bins). It has {models.n_parameters(checkpoint.model):,} parameters."]
    totals = Table("The classifier on the test images", ["", "Value"], [
        ["Accuracy", percent(s["accuracy"])], ["Balanced accuracy", percent(s["balanced_accuracy"])],
        ["Macro precision", percent(s["macro_precision"])], ["Macro recall", percent(s["macro_recall"])],
        ["Macro F1", percent(s["macro_f1"])], ["Calibration error (ECE)", percent(error)]])
    by_class = Table("By class", ["Class", "Images", "Precision", "Recall", "F1"], [
        [c, f"{n:,}", *(percent(s[name][i]) if n else "-" for name in ("precision", "recall", "f1"))]
        for i, (c, n) in enumerate(zip(g.classes, s["support"]))])
    pictures = []
    if k <= SHOWN:
        pairs = [(int(matrix[i, j]), i, j) for i in range(k) for j in range(k) if i != j and matrix[i, j]]
        often = ", ".join(f"{g.classes[i]} as {g.classes[j]} ({n})" for n, i, j in sorted(pairs, reverse=True)[:3])
        heat = charts.heatmap(matrix, g.classes, g.classes, "Test images by class and answer", "answer", "class")
        pictures.append(Figure("confusion", heat,
                                f"The confusion matrix. Most frequent mistakes: {often or 'none'}.",
                                f"Most frequent mistakes: {often}." if often else ""))
    pictures.append(Figure("calibration", reliability(p, g.y_test), "Accuracy against confidence, near the diagonal "
                            "where the classifier knows how sure it may be.",
                            "On the dashed line confidence and accuracy agree."))
    if context.show_real and len(wrong):
        pictures.append(mistakes(g, p, wrong))
    numbers = {**s, "wilson": [low, high], "ece": error, "errors": len(wrong)}
    if k <= SHOWN:
        numbers["confusion"] = matrix
    return Section("classifier", "How good is the recogniser?", words, [totals, by_class], pictures, numbers)


def reliability(probabilities, labels):
    """Accuracy against confidence by bin (Guo et al. 2017), bins of fewer than ten images left out."""
    sure, accuracy, _, share = statistics.calibration(probabilities, labels)
    use = share * len(labels) >= 10
    n = share[use] * len(labels)
    low, high = np.array([statistics.wilson(a * m, m) for a, m in zip(accuracy[use], n)]).reshape(-1, 2).T
    return charts.curves({"measured": (sure[use], accuracy[use], low, high), "perfect": ([0, 1], [0, 1])},
                         "Does it know how sure it may be?", "confidence", "accuracy", x_range=(0, 1), y_range=(0, 1),
                         size=(640, 420), footer="Bins of fewer than ten images left out; band: 95 % Wilson interval.")


def mistakes(glyphs, probabilities, wrong, n=20):
    """The wrong answers of which the classifier was surest."""
    surest = wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][:n]
    cells = [glyphs.x_test[i] for i in surest]
    names = [f"{figures.class_name(glyphs.classes, glyphs.y_test[i])} > "
             f"{figures.class_name(glyphs.classes, probabilities[i].argmax())}" for i in surest]
    rows = [figures.grid([cells[i:i + 10]], (), names[i:i + 10]) for i in range(0, len(cells), 10)]
    return Figure("mistakes", figures.page(rows, "The most confident mistakes: class > answer", gap=0),
                   f"{len(cells)} test images that the classifier read wrong with high confidence: {', '.join(names)}.",
                   "Real test images. Many of them people would misread, too, or are labelled wrong.")
