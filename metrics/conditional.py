"""Does a conditional generator keep to its labels and thickness? Metrics of two labelled FeatureSets."""
import numpy as np

import data
from metrics.frechet_distance import fid, fid_bias, moments
from metrics.statistics import rank_correlation
from utils.files import UserError
from utils.limits import MAX_FEATURES


def conditional_metrics(real, fake, extractor=None, table=None):
    """A dict of JSON types; both sets need labels, else UserError. `table`: as for metrics.comparison.compare.

        intra_fid       FID within each class: mean, worst. At few images per class mostly bias: `bias` is its mean
        joint_fid       FID of features beside one-hot labels times the real features' mean norm (DeVries et al. 2019);
                        not of more than MAX_FEATURES columns
        label_accuracy  fraction of fakes that the classifier gives their label; where it knows these classes
        style_accuracy  fraction whose drawn thickness lies in the requested half (thin, thick); needs thickness
        spearman        rank correlation of requested and drawn thickness within a class: mean, worst
        width_error     mean distance of the pen's width from that of the thickness requested, in pixels"""
    classes, labels = common_labels(real, fake)
    values, biases, sizes = {}, [], []
    for k, name in enumerate(classes):
        features = real.features[real.labels == k], fake.features[labels == k]
        if min(map(len, features)) >= 2:
            one, two = map(moments, features)
            values[name] = fid(one, two)
            biases.append(fid_bias(one, two))
            sizes += [one.n, two.n]
    if not values:
        raise UserError("no class has two images on both sides: conditional metrics need more images per class")
    worst = max(values, key=values.get)
    intra = {"mean": float(np.mean(list(values.values()))), "worst": values[worst], "worst_class": worst,
             "bias": float(np.mean(biases)), "smallest_class": min(sizes),
             "classes_left_out": len(classes) - len(values)}
    result = {"intra_fid": intra}
    present = np.union1d(real.labels, labels)         # a class without an image would be a column of zeros
    if real.features.shape[1] + len(present) <= MAX_FEATURES:
        one_hot = np.eye(len(present), dtype=np.float32) * np.linalg.norm(real.features, axis=1).mean()
        result["joint_fid"] = fid(*(moments(np.hstack([x.features, one_hot[np.searchsorted(present, y)]]))
                                    for x, y in ((real, real.labels), (fake, labels))))
    if fake.answers is not None and extractor is not None and extractor.classes in (None, classes):
        result["label_accuracy"] = float((fake.answers == labels).mean())
    if fake.thickness is not None:
        table = data.width_table(real.images, real.labels, len(classes)) if table is None else table
        result |= dial_metrics(fake.images, labels, fake.thickness, table, classes)
    return result


def dial_metrics(images, labels, thickness, table, classes):
    """How well images uint8 [N, 28, 28] keep to the thickness float [N] that was asked for, by data.width_table: a dict of
    style_accuracy, spearman (see conditional_metrics) and width_error, the mean distance of the pen's width from that of
    the rank asked for, in pixels."""
    drawn = data.thickness(images, labels, table)
    asked = table[labels, (thickness * table.shape[1]).astype(np.int64).clip(max=table.shape[1] - 1)]
    result = {"style_accuracy": float((data.style(drawn) == data.style(thickness)).mean()),
              "width_error": float(np.abs(data.pen_width(images) - asked).mean())}
    rho = {classes[k]: rank_correlation(thickness[labels == k], drawn[labels == k])
           for k in np.unique(labels) if (labels == k).sum() > 2}
    if rho:
        worst = min(rho, key=rho.get)
        result["spearman"] = {"mean": float(np.mean(list(rho.values()))), "worst": rho[worst], "worst_class": worst}
    return result


def common_labels(real, fake):
    """(classes, labels of `fake` numbered by them): the classes are those of `real`, matched by name."""
    if real.labels is None or fake.labels is None:
        raise UserError(f"{'REAL' if real.labels is None else 'FAKE'} has no labels: conditional metrics need them on "
                        "both sides (class sub-folders, a labels.csv, or labels in the .npz)")
    labels = fake.labels
    classes = real.classes or [str(i) for i in range(int(max(real.labels.max(), labels.max())) + 1)]
    if fake.classes and fake.classes != classes:      # a folder with some of the classes numbers them differently
        unknown = sorted({fake.classes[k] for k in np.unique(labels)} - set(classes))
        if unknown:
            raise UserError(f"FAKE has the classes {', '.join(unknown[:5])}, which REAL has not")
        labels = np.array([classes.index(c) if c in classes else -1 for c in fake.classes])[labels]
    if min(labels.min(), real.labels.min()) < 0 or max(labels.max(), real.labels.max()) >= len(classes):
        raise UserError(f"labels do not lie in 0 .. {len(classes) - 1}, the classes of REAL")
    return classes, labels
