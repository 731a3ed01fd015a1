"""Importing this makes the modules of the repository importable for the scripts beside this file."""
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
