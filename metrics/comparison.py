"""Every metric of a real and a generated FeatureSet in one dict: what fid.py prints and evaluate.py stores."""
from metrics import kernel_distance as kd
from metrics.conditional import conditional_metrics
from metrics.frechet_distance import bootstrap_fid, fid, fid_bias, fid_infinity, moments
from metrics.neighbours import precision_recall
from utils.files import UserError

METRICS = ("fid", "kid", "prdc", "depths", "conditional")
DEFAULT_METRICS = METRICS[:3]
MIN_IMAGES = 2048                  # below this on either side, or below 2 d, a FID comes with a warning


def compare(real, fake, extractor=None, metrics=DEFAULT_METRICS, table=None, bootstrap=100, infinity=False, seed=0):
    """Compare two FeatureSets: a dict of plain numbers, lists and strings, ready for JSON.

    metrics: from METRICS. "conditional" needs labels on both sides; `table` is the ink table of the training split
    (data.ink_table), by default that of the real side. `bootstrap`: resamplings for the interval of FID, 0 for none.
    `infinity` adds FID extrapolated to infinite N. Raises UserError where the sets do not fit.
    """
    d, n_real, n_fake = len(real.moments.mean), real.moments.n, fake.moments.n
    names = [x.moments.extractor for x in (real, fake) if x.moments.extractor]
    if len(fake.moments.mean) != d or len(set(names)) > 1:
        raise UserError(f"REAL has {d} features, FAKE {len(fake.moments.mean)}, of {' and '.join(names) or 'unknown'}: "
                        "they come from different extractors; measure both with the same --features and --output")
    has_features = real.features is not None and fake.features is not None
    if not has_features and (infinity or set(metrics) - {"fid"}):
        raise UserError("statistics files hold no images: only --metrics fid is possible, without --infinity")
    sha256, _, output = (names or ["unknown:unknown"])[0].partition(":")
    result = {"features": {"model": extractor.name if extractor else "statistics", "output": output, "sha256": sha256},
              "d": d, "n_real": n_real, "n_fake": n_fake, "warnings": []}
    if "fid" in metrics:
        result["fid"] = fid_with_name(real.moments, fake.moments, result["warnings"])
        if has_features and bootstrap:
            value, half_width = result["fid"]["value"], 1.96 * bootstrap_fid(real.features, fake.features, bootstrap, seed)
            result["fid"]["interval"] = [max(value - half_width, 0.0), value + half_width]
        if infinity:
            value, error = fid_infinity(real.features, fake.features, seed)
            result["fid_infinity"] = {"value": value, "standard_error": error}
    if "kid" in metrics:
        value, error = kd.kernel_distance(real.features, fake.features, seed=seed)
        result["kid"] = {"value": value, "standard_error": error, "subsets": kd.SUBSETS,
                         "size": min(kd.SIZE, n_real // 2, n_fake // 2)}
    if "prdc" in metrics:
        result |= precision_recall(real.features, fake.features)
    if "depths" in metrics:
        if real.depths.keys() != fake.depths.keys():
            raise UserError("the two sets were not measured at the same depths of the network")
        result["depths"] = {name: {"d": x.shape[1], "fid": fid(moments(x), moments(fake.depths[name]))}
                            for name, x in real.depths.items()}
    if "conditional" in metrics:
        result |= conditional_metrics(real, fake, extractor, table)
    return result


def fid_with_name(real, fake, warnings):
    """{"name", "value", "bias"} of two Moments; appends a sentence to `warnings` where they have few images."""
    d, value, bias = len(real.mean), fid(real, fake), fid_bias(real, fake)
    counts = dict.fromkeys("?" if n is None else str(n) for n in (real.n, fake.n))      # one N where both are equal
    name = f"fid{d}@{':'.join(counts)}"
    few = [f"{x.n:,} {side}" for side, x in (("real", real), ("fake", fake)) if x.n and x.n < max(MIN_IMAGES, 2 * d)]
    if few:
        excess = (" is too high, by how much cannot be said as an N is unknown" if bias is None else
                  f" is about {bias:.3g} too high, which two samples of one distribution would score")
        warnings.append(f"{' and '.join(few)} images are few for {d} features: {name}{excess}")
    return {"name": name, "value": value, "bias": bias}
