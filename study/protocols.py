"""What the OCR study compares: its protocols, their arms, and the real images that the arms of one seed share.

    case = make_case(data.load("mnist"), "rare", n=10, seed=0)
    case.glyphs.x_train, case.rare                     # real images; the classes that are rare

Protocols:
  few           n real images of each class.
  rare          n real images of three classes (drawn by the seed), up to 500 of every other.
  tail          the data set's own imbalance, scaled until its smallest class has n images; rare is the smallest third.
  predecessors  how earlier projects compared: about 500 real images in all against 10,000 synthetic ones from a generator
                that saw the whole training split; here with equal steps.
"""
import hashlib
from dataclasses import dataclass, field, replace

import numpy as np

import data
from datasets import strokes
from utils.files import UserError

OTHERS = 500               # images of a class that is not rare
RARE = 3                   # rare classes


@dataclass(frozen=True)
class Arm:
    """What a recogniser learns from. tries: settings of train_classifier to choose from on val; the first of them
    is taken where nothing is chosen. `filter`: drop samples that a recogniser of the same real images reads otherwise.
    warped: augmented, with the warp that was chosen before for all such arms of the protocol (WARPS): each arm has as
    many tries of its own as any other, with or without a generator.
    """
    words: str
    tries: list
    real: bool = True              # real images among the training images
    warped: bool = False
    source: str = ""               # cgan, acgan, cvae, strokes: where synthetic images come from
    balance: str = ""              # "sampling": classes equally often; "weights": rare classes weigh more in the loss


PLAIN = [dict(), dict(mixup=0.4), dict(label_smoothing=0.1), dict(lr=1e-3)]
WARPS = [dict(elastic=20.0), dict(elastic=8.0), dict(elastic=20.0, affine=1.3), dict(elastic=28.0)]
MIXES = [dict(share=0.25, filter=True), dict(share=0.5, filter=False), dict(share=0.25, first=0.3, filter=True),
         dict(share=0.5, filter=True)]
FILLS = [dict(share=0.5, filter=True), dict(share=0.5, filter=False), dict(share=0.25, filter=True),
         dict(share=0.75, filter=False)]
ONLY = [dict(filter=True), dict(filter=False), dict(filter=True, label_smoothing=0.1),
        dict(filter=False, label_smoothing=0.1)]
MADE = {"cgan": "CGAN", "acgan": "ACGAN", "cvae": "CVAE", "strokes": "stroke simulator"}

FEW = {"real": Arm("real images", PLAIN),
       **{m: Arm(f"real + {w}", MIXES, source=m) for m, w in MADE.items()},
       "tuned": Arm("real, augmented", PLAIN, warped=True),
       **{f"{m}+tuned": Arm(f"real + {w}, augmented", MIXES, warped=True, source=m) for m, w in MADE.items()},
       **{f"{m}-only": Arm(f"{w} images only, augmented", ONLY, real=False, warped=True, source=m)
          for m, w in MADE.items()}}
UNEVEN = {"real": Arm("over-sampled", PLAIN, balance="sampling"),
          **{m: Arm(f"over-sampled + {w}", FILLS, source=m, balance="sampling") for m, w in MADE.items()},
          "uneven": Arm("augmented, imbalance left as it is", PLAIN, warped=True),
          "weighted": Arm("augmented, loss weighted by class", PLAIN, warped=True, balance="weights"),
          "tuned": Arm("augmented, over-sampled", PLAIN, warped=True, balance="sampling"),
          **{f"{m}+tuned": Arm(f"augmented, over-sampled + {w}", FILLS, warped=True, source=m, balance="sampling")
             for m, w in MADE.items()}}
EARLIER = {"real": Arm("500 real images", PLAIN[:1]),
           "tuned": Arm("500 real images, augmented", PLAIN[:1], warped=True),
           **{f"{m}-only": Arm(f"10,000 {w} images", ONLY[1:2], real=False, source=m) for m, w in MADE.items()}}
ARMS = {"few": FEW, "rare": UNEVEN, "tail": UNEVEN, "predecessors": EARLIER}
WARP = "warp"                                        # the name under which the tries of the warp are kept
EXTRA = ["acgan", "acgan+tuned", "acgan-only", "strokes", "uneven"]      # run where asked for, and in "predecessors"
QUICK = {"few": ["real", "cvae", "tuned", "cgan+tuned", "cvae+tuned"], "rare": ["tuned", "cgan+tuned", "strokes+tuned"]}


def arm(protocol, name):
    """The Arm of this name; WARP is that with which the warp of all warped arms is chosen."""
    if name != WARP:
        return ARMS[protocol][name]
    tuned = ARMS[protocol]["tuned"]
    return replace(tuned, tries=WARPS if len(tuned.tries) > 1 else WARPS[:1])


def script(glyphs, asked=False):
    """The kind of strokes.generate() that draws this data set's characters, None where there is none. Of one's own
    classes "0" to "9", which may be digits of any script, it is believed to be Latin only where that was asked for."""
    if glyphs.synthetic:
        return None
    if "arabic" in glyphs.name or glyphs.classes == strokes.CLASSES["arabic"]:
        return "arabic" if len(glyphs.classes) == 10 else None
    return "digits" if glyphs.classes == strokes.CLASSES["digits"] and (asked or glyphs.name == "mnist") else None


def fingerprint(x, y):
    """16 hex digits that tell one set of labelled images from another."""
    return hashlib.sha256(np.ascontiguousarray(x).tobytes() + np.ascontiguousarray(y).tobytes()).hexdigest()[:16]


# ---- one case: the real images that all arms of a seed share ---------------------------------------------------------

@dataclass
class Case:
    """Real images of one (protocol, n, seed), what was made of them, and the classes that are rare (none in "few")."""
    glyphs: data.Glyphs
    rare: np.ndarray
    for_generator: data.Glyphs
    made: dict = field(default_factory=dict)           # (source, shifts) -> (images, labels, seconds)
    judges: dict = field(default_factory=dict)         # name of an arm -> its network, which filters samples


def make_case(glyphs, protocol, n, seed):
    """The Case of a protocol; a function of its arguments alone."""
    k = len(glyphs.classes)
    counts = np.bincount(glyphs.y_train, minlength=k)
    if protocol in ("few", "predecessors"):
        few = glyphs if n is None else glyphs.subset(n, seed)
        return Case(few, np.array([], np.int64), glyphs if protocol == "predecessors" else few)
    if n is None:
        raise UserError(f"protocol {protocol} needs a number of images, not all")
    if protocol == "rare":
        tested = np.unique(glyphs.y_test)
        rare = np.sort(np.random.default_rng(seed).choice(tested, min(RARE, len(tested) - 1), replace=False))
        keep = np.where(np.isin(np.arange(k), rare), n, OTHERS)
    else:
        rare = np.sort(np.argsort(counts, kind="stable")[:max(1, k // 3)])
        keep = np.round(counts * n / counts[counts > 0].min())
    chosen = np.flatnonzero(data.rank_in_class(glyphs.y_train, seed) < keep[glyphs.y_train])
    few = replace(glyphs, x_train=glyphs.x_train[chosen], y_train=glyphs.y_train[chosen])
    return Case(few, rare, few)
