"""Measures of generated images and of classifiers, in numpy; no torch."""
