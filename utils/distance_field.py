"""Glyphs as distance fields, in torch: how far a place lies inside or outside of the ink. A field can be bent and stretched
without blur, and a number added to it makes the pen wider.

    fields = distance_field(images)            # float [N, 1, 28, 28] in [0, 1] -> pixels, positive in the ink
    images = render(fields + 0.5)              # the same glyphs, written with a pen that is one pixel wider
"""
import torch
import torch.nn.functional as F

REACH = 4          # pixels: what is further from the edge of the ink counts as so far
FINE = 2           # cells a pixel, along each axis, in which distances are measured
FAR = float((REACH * FINE) ** 2)
SHARPNESS = 4.0    # of an edge, per pixel: ink falls from 0.88 to 0.12 within one, as in MNIST
FAINTEST = 0.4     # pixels that the middle of the thickest stroke stays within the ink, however thin the pen


def distance_field(images):
    """Signed distance to the edge of the ink (where an enlarged image crosses one half), in pixels, at most REACH;
    positive within: float [N, 1, H, W] of images float [N, 1, H, W] in [0, 1], background 0.

    By the exact Euclidean distance transform, one axis after the other (Felzenszwalb and Huttenlocher 2012), on cells of
    half a pixel. Not differentiable."""
    ink = F.interpolate(images, scale_factor=FINE, mode="bicubic", align_corners=False) > 0.5
    squared = torch.where(torch.cat([ink, ~ink], 1), 0.0, FAR)             # to the nearest ink and the nearest ground ...
    squared = nearest(nearest(squared).transpose(2, 3)).transpose(2, 3)    # ... of the column, then of all
    outside, inside = squared.sqrt().chunk(2, 1)
    signed = inside - outside
    return F.avg_pool2d((signed - 0.5 * signed.sign()) / FINE, FINE)       # to the edge of a cell, not to its middle


def nearest(squared):
    """Squared distances float [N, C, H, W] of cells along the last axis: the least of the others', plus that to them."""
    reach, cells = REACH * FINE - 1, squared.shape[3]
    offsets = torch.arange(-reach, reach + 1, device=squared.device)
    window = torch.arange(cells, device=squared.device)[:, None] + offsets + reach
    return (F.pad(squared, (reach, reach), value=FAR)[..., window] + offsets ** 2).amin(-1).clamp(max=FAR)


def render(fields):
    """fields float [N, 1, H, W] in pixels -> images float [N, 1, H, W] in [0, 1]: ink with an edge of one pixel."""
    return torch.sigmoid(SHARPNESS * fields)


def with_pen(fields, more):
    """Fields [N, 1, H, W] with `more` pixels, float [N], added on either side of every stroke; less may be taken away, but
    so that some of the glyph stays: its thickest place FAINTEST within the ink."""
    least = FAINTEST - fields.amax((2, 3), keepdim=True)
    return fields + torch.maximum(more.view(-1, 1, 1, 1), least)


def pen_width(images):
    """Mean width of the strokes in pixels, float [N], of images float [N, 1, H, W] in [0, 1]: twice the mass over the total
    variation (forward differences on the zero-padded image, Euclidean norm). 0 for a blank image; differentiable. The same
    as data.pen_width."""
    padded = F.pad(images, (1, 1, 1, 1))[:, 0]
    down = padded[:, 1:, :-1] - padded[:, :-1, :-1]
    across = padded[:, :-1, 1:] - padded[:, :-1, :-1]
    variation = (down ** 2 + across ** 2).clamp(min=1e-12).sqrt().sum((1, 2))
    mass = images.sum((1, 2, 3))
    return torch.where(mass > 0, 2 * mass / variation, 0.0)


# ---- places --------------------------------------------------------------------------------------

def centred_grid(height, width, device):
    """(x, y, 1) of every pixel, in pixels from the centre of the image: float32 [height * width, 3]."""
    y, x = torch.meshgrid(torch.arange(height, device=device) - (height - 1) / 2,
                          torch.arange(width, device=device) - (width - 1) / 2, indexing="ij")
    return torch.stack([x.flatten(), y.flatten(), torch.ones_like(x).flatten()], 1)


def look_up(values, affine, flow, padding):
    """values float [N, 1, H, W], images or fields, where the affine map [N, 3, 2] of a pixel's place, (x, y, 1) from the
    centre, and the flow [N, H, W, 2] lead, in pixels: float32 of the same shape, bilinear. padding: "zeros" or "border",
    what lies outside of the frame."""
    n, _, height, width = values.shape
    places = (centred_grid(height, width, values.device) @ affine).view(n, height, width, 2) + flow
    unit = torch.tensor([2 / width, 2 / height], device=values.device)       # grid_sample counts from -1 to 1
    return F.grid_sample(values.float(), places * unit, mode="bilinear", padding_mode=padding, align_corners=False)
