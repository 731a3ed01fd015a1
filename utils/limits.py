"""The limits of what comes from outside, all in one place: each is checked before memory is taken or work begins.

They lie well above honest use (a million images of 5,000 classes in one .npz) and below what would fill a machine.
docs/data.md says those of data sets to users; stdlib only, so that every room may look here.
"""
import unicodedata

from utils.files import UserError

MAX_IMAGES = 2_000_000         # of one set: 1.6 GB as uint8
MAX_CLASSES = 5_000
MAX_NAME = 256                 # characters of the name of a class
MAX_PIXELS = 50_000_000        # of one image file: a 50-megapixel photograph
MAX_BYTES = 4 << 30            # of the arrays that are read from one file, as they lie in memory
SMALL_BYTES = 64 << 20         # so much may lie in however few bytes on disk: sorted labels pack very well ...
MAX_RATIO = 100                # ... but nothing larger packs better: glyphs come to 5 : 1, line drawings to 60 : 1
SMALL_ROWS = 10_000            # so many images likewise; more take at least 8 bytes each
MAX_LINE = 1 << 16             # bytes of a line of text; 784 pixels take 3 kB
MAX_DOWNLOAD = 256 << 20       # bytes of one file; the largest, Kuzushiji-49's, takes 63 MB
MAX_FEATURES = 4096            # values for each image, whose covariance then takes 134 MB; Inception has 2,048
MAX_SIDE = 1024                # pixels of the images that a feature extractor wants
CONTROLS = {"Cc", "Cs", "Zl", "Zp"}    # Unicode categories: control characters, lone surrogates, line and page ends


def check_class_names(names, path):
    """`names` again, a list of str. Raises UserError where there are too many, or one is empty, too long, or no text
    that can be printed on one line and stored as JSON. `path`: the file that they come from."""
    if len(names) > MAX_CLASSES:
        raise UserError(f"{path} names {len(names):,} classes, more than the limit of {MAX_CLASSES:,}")
    for name in names:
        if not name.strip() or len(name) > MAX_NAME or any(unicodedata.category(c) in CONTROLS for c in name):
            raise UserError(f"{path} names a class {name[:40]!r}: names have 1 to {MAX_NAME} characters, none of them "
                            "a line end, a control character or half of a surrogate pair")
    return names
