"""Pictures of a run: the same samples again and again as a sheet and a GIF, and the loss curves."""
import numpy as np

from generate_digits import draw_noise
from utils import charts, figures

FRAMES = 40                # pictures in the training GIF
PER_CLASS = 8              # samples of each class in a picture, thin to thick
PREVIEW_CLASSES = 50           # classes in a picture


class Preview:
    """Draws a Run's averaged generator at fixed conditions; the frames, run.frames, are resumed with it."""

    def __init__(self, run):
        self.run, self.classes = run, run.glyphs.classes
        shown = figures.evenly_spaced(len(self.classes), PREVIEW_CLASSES)
        self.labels = np.repeat(shown, PER_CLASS)
        self.thickness = np.tile((np.arange(PER_CLASS, dtype=np.float32) + 0.5) / PER_CLASS, len(shown))
        self.noise, _ = draw_noise(0, 0, len(self.labels), run.sampler().latent)

    def is_due(self):
        """The first frames come quickly, when most changes, later ones more slowly."""
        return self.run.step >= self.run.steps * ((len(self.run.frames) + 1) / FRAMES) ** 1.5

    def draw(self):
        """Draw a frame, keep it for the GIF and show it in <name>_samples.png."""
        r = self.run
        caption = f"epoch {r.step / r.batches.per_epoch:.1f}, {r.seconds:.0f} s"
        images = r.sampler()(self.noise, self.labels, self.thickness)
        r.frames.append((images, caption))
        sheet = figures.sheet(images, self.labels, self.classes, self.thickness, r.title, caption)
        figures.save(sheet, r.path("_samples.png"))

    def finish(self):
        """Draw the last frame anew, as the finished network does, and write <name>_training.gif."""
        self.run.frames.pop()
        self.draw()
        figures.gif(self.run.frames, self.run.path("_training.gif"), self.labels, self.classes, self.thickness,
                    self.run.title)


def save_loss_curves(run):
    """Write <name>_losses.png from the run's log."""
    rows = run.log_rows()
    names = [k for k in rows[-1] if k not in ("step", "epoch", "seconds", "images_per_second", "threads")]
    series = {k: ([r["epoch"] for r in rows if k in r], [r[k] for r in rows if k in r]) for k in names}
    picture = charts.curves(series, run.title, "epoch", "loss", smooth=max(1, len(rows) // 40))
    figures.save(picture, run.path("_losses.png"))
