"""Where glyphs come from: downloads, file formats, normalisation, the stroke simulator; no torch."""
