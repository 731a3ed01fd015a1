"""A section of evaluate.py: how good classifier.pth is on the test split, where it errs, and whether it knows.

    section = measure(context)       # describe(numbers, classes): its text, tables, charts from stored numbers
"""
import numpy as np

import models
from metrics import statistics
from metrics.statistics import format_percent
from study.context import open_classifier
from study.report import Figure, Section, Table
from training.classifier import predict_probabilities
from utils import charts, figures


def measure(context):
    """Accuracy, precision and recall by class, calibration; mistakes are shown with context.show_real."""
    g, network = context.glyphs, open_classifier(context)
    context.say("classifies the test images")
    probabilities, n = predict_probabilities(network, g.x_test), len(g.x_test)
    largest, answers = probabilities.max(1), probabilities.argmax(1)
    matrix = statistics.confusion_matrix(g.y_test, answers, len(g.classes))
    wrong = np.flatnonzero(answers != g.y_test)
    confidence, accuracy, _, fraction = statistics.calibration_bins(largest, answers == g.y_test)
    numbers = {**statistics.classification_scores(matrix),
               "wilson": statistics.wilson_interval(n - len(wrong), n),
               "ece": statistics.expected_calibration_error(largest, answers == g.y_test), "errors": len(wrong),
               "parameters": models.n_parameters(network),
               "calibration": {"confidence": confidence, "accuracy": accuracy,
                               "images": (fraction * n).round().astype(int)}}
    if len(g.classes) <= charts.MATRIX_CLASSES:
        numbers["confusion"] = matrix
    section = describe(numbers, g.classes)
    if context.show_real and len(wrong):
        section.figures.append(mistakes_figure(g, probabilities, wrong))
    return section


def describe(numbers, classes):
    """The Section of numbers, measured now or stored."""
    n, errors = sum(numbers["support"]), numbers["errors"]
    low, high = map(format_percent, numbers["wilson"])
    answer = (f"It reads {format_percent(numbers['accuracy'])} of {n:,} test images correctly (95 % Wilson "
              f"interval {low} to {high}) and {errors:,} incorrectly.")
    calibration = (f"Its probabilities are off by {100 * numbers['ece']:.2f} percentage points on average (expected "
                   f"calibration error, {statistics.BINS} bins).")
    rows = {"Accuracy": "accuracy", "Balanced accuracy": "balanced_accuracy", "Macro precision": "macro_precision",
            "Macro recall": "macro_recall", "Macro F1": "macro_f1", "Calibration error (ECE)": "ece"}
    totals = Table("The classifier on the test images", ["", "Value"],
                   [*([title, format_percent(numbers[key])] for title, key in rows.items()),
                    ["Parameters", f"{numbers['parameters']:,}"]])
    scores = [numbers[key] for key in ("support", "precision", "recall", "f1")]
    by_class = Table("By class", ["Class", "Images", "Precision", "Recall", "F1"], [
        [name, f"{images:,}", *(format_percent(v) if images else "-" for v in values)]
        for name, images, *values in zip(classes, *scores)])
    section = Section("classifier", "How good is the classifier?", [calibration], [totals, by_class],
                      numbers=numbers, answer=answer)
    if "confusion" in numbers:
        section.figures.append(confusion_figure(np.asarray(numbers["confusion"]), classes))
    section.figures.append(calibration_figure(**numbers["calibration"]))
    return section


def confusion_figure(matrix, classes):
    pairs = sorted(((matrix[i, j], i, j) for i, j in np.argwhere(matrix) if i != j), reverse=True)[:3]
    mistakes = ", ".join(f"{classes[i]} as {classes[j]} ({n})" for n, i, j in pairs) or "none"
    plot = charts.heatmap(matrix, classes, classes, "Test images by class and answer", "answer", "class")
    caption = f"Most frequent mistakes: {mistakes}."
    return Figure("confusion", plot, f"The confusion matrix. {caption}", caption)


def calibration_figure(confidence, accuracy, images):
    """Accuracy against confidence by bin (Guo et al. 2017), bins of fewer than ten images left out."""
    bins = [(c, a, *statistics.wilson_interval(a * n, n)) for c, a, n in zip(confidence, accuracy, images) if n >= 10]
    curves = {"measured": np.reshape(bins, (-1, 4)).T, "perfect": ([0, 1], [0, 1])}
    plot = charts.curves(curves, "Does it know how sure it may be?", "confidence", "accuracy", x_range=(0, 1),
                         y_range=(0, 1), size=(640, 420),
                         footer="Bins of fewer than ten images left out; band: 95 % Wilson interval.")
    return Figure("calibration", plot, "Accuracy against confidence, near the diagonal where the classifier knows how "
                  "sure it may be.", "On the dashed line confidence and accuracy agree.")


def mistakes_figure(glyphs, probabilities, wrong):
    """The wrong answers of which the classifier was most confident."""
    chosen = wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][:20]
    images, pairs = glyphs.x_test[chosen], zip(glyphs.y_test[chosen], probabilities[chosen].argmax(1))
    names = [" > ".join(figures.class_name(glyphs.classes, k) for k in pair) for pair in pairs]
    rows = [figures.grid([images[i:i + 10]], (), names[i:i + 10]) for i in range(0, len(names), 10)]
    return Figure("mistakes", figures.page(rows, "The most confident mistakes: class > answer", gap=0),
                  f"{len(chosen)} test images that were misclassified with high confidence: {', '.join(names)}.",
                  "Real test images. People would misread many of them, too, or they are labelled wrong.")
