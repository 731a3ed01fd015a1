"""Classical augmentation of batches, on tensors of any device."""
import torch
import torch.nn.functional as F


def shift(images, pixels, rng):
    """Move every image by its own whole number of pixels in [-pixels, pixels] on each axis; what leaves it is lost.

    images float [N, 1, H, W], background 0; rng: a CPU torch.Generator. Differentiable, so it serves as the translation
    of differentiable augmentation too (Zhao et al. 2020, arXiv:2006.10738).
    """
    n, _, height, width = images.shape
    moves = torch.randint(0, 2 * pixels + 1, (2, n), generator=rng).to(images.device)
    rows = moves[0, :, None] + torch.arange(height, device=images.device)                # [N, H]
    columns = moves[1, :, None] + torch.arange(width, device=images.device)              # [N, W]
    padded = F.pad(images, [pixels] * 4)[:, 0]
    sample = torch.arange(n, device=images.device)[:, None, None]
    return padded[sample, rows[:, :, None], columns[:, None, :]].unsqueeze(1)
