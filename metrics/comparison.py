"""All metrics of a real and a generated FeatureSet in one dict: what fid.py prints and evaluate.py stores."""
from metrics.conditional import conditional_metrics
from metrics.frechet_distance import bootstrap_fid, fid, fid_bias, fid_infinity, moments
from metrics.kernel_distance import kernel_distance
from metrics.neighbours import precision_recall
from utils.files import UserError

METRICS = ("fid", "kid", "prdc", "depths", "conditional")
DEFAULT_METRICS = METRICS[:3]
MIN_IMAGES = 2048                      # below this on either side, or below 2 d, FID comes with a warning


def compare(real, fake, extractor=None, metrics=DEFAULT_METRICS, table=None, bootstrap=None, infinity=False, seed=0):
    """Compare two FeatureSets: a dict of JSON types. Raises UserError where they do not fit.
    metrics: from METRICS. `table`: for "conditional", the pen widths of the training split (data.width_table), by default
    that of the real side. `bootstrap`: resamplings for the interval of FID (None: 100 where they are fast)."""
    d, n_real, n_fake = len(real.moments.mean), real.moments.n, fake.moments.n
    names = [x.moments.extractor for x in (real, fake) if x.moments.extractor]
    if len(fake.moments.mean) != d or len(set(names)) > 1:
        raise UserError(f"REAL has {d} features, FAKE {len(fake.moments.mean)}, of different extractors "
                        f"({' and '.join(names) or 'unknown'}): measure both with the same --features and --output")
    has_features = real.features is not None and fake.features is not None
    if not has_features and (infinity or set(metrics) - {"fid"}):
        raise UserError("statistics files hold no images: only --metrics fid is possible, without --infinity")
    sha256, _, output = names[0].partition(":") if names else ("unknown", "", "unknown")
    result = {"features": {"model": extractor.name if extractor else "statistics", "output": output,
                           "sha256": sha256}, "d": d, "n_real": n_real, "n_fake": n_fake, "warnings": []}
    if "fid" in metrics:
        value, bias = fid(real.moments, fake.moments), fid_bias(real.moments, fake.moments)
        counts = dict.fromkeys("?" if n is None else str(n) for n in (n_real, n_fake))   # one N where both are equal
        name = f"fid{d}@{':'.join(counts)}"
        result["fid"] = {"name": name, "value": value, "bias": bias}
        few = [f"{n:,} {side}" for side, n in (("real", n_real), ("fake", n_fake)) if n and n < max(MIN_IMAGES, 2 * d)]
        if few:
            excess = "too high, by how much cannot be said as an N is unknown" if bias is None else (
                f"about {bias:.3g} too high, which two samples of one distribution would score")
            result["warnings"].append(f"{' and '.join(few)} images are few for {d} features: {name} is {excess}")
        if bootstrap is None and d <= 512:                           # above, each resampling takes seconds
            bootstrap = 100
        if has_features and bootstrap:
            half_width = 1.96 * bootstrap_fid(real.features, fake.features, bootstrap, seed)
            result["fid"]["interval"] = [max(value - half_width, 0.0), value + half_width]
        if infinity:
            result["fid_infinity"] = fid_infinity(real.features, fake.features, seed)
    if "kid" in metrics:
        result["kid"] = kernel_distance(real.features, fake.features, seed=seed)
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
