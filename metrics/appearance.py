"""What an eye sees first of generated images: blur and specks. No torch."""
import numpy as np

from datasets.components import components

VISIBLE = 64               # a grey level that shows on white
SPECK = 5                  # connected pixels: fewer are no stroke


def sharpness(images):
    """Mean squared gradient of images uint8 [N, 28, 28], by central differences (Tenengrad, Krotkov 1988): a float."""
    rows, columns = np.gradient(images.astype(np.float32), axis=(1, 2))
    return float(np.mean(rows ** 2 + columns ** 2))


def specks(images):
    """Pieces of fewer than SPECK pixels, of at least VISIBLE and connected by sides or corners, per image of uint8 [N, 28,
    28]: a float."""
    one_below_the_other = np.pad(images >= VISIBLE, ((0, 0), (0, 1), (0, 0))).reshape(-1, images.shape[2])
    _, _, areas = components(one_below_the_other)
    return float((areas < SPECK).sum() / len(images))
