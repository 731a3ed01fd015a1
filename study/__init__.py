"""The sections of evaluate.py, and how they are shown."""
