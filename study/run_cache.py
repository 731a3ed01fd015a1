"""Rows of a study that are kept on disk: finished trainings, found again by what makes their result.

    cache = RunCache("results/ocr.jsonl", {"accuracy": float})
    if cache.get(key) is None:
        cache.add(key, {"accuracy": 0.97})       # key and row are dicts of JSON types, kept as {**key, **row}
"""
import hashlib
import json
import os
from pathlib import Path

from utils.checked_json import matches, parse_json
from utils.files import UserError, atomic


def key_text(key):
    """A key as text, the same in whatever order it was made."""
    return json.dumps(key, sort_keys=True)


class RunCache:
    """A file of finished rows, one JSON object a line, and a folder beside it of rows that are not yet in that file.

    A single process appends to the file; a kill in the middle of a write leaves a line without an end, which is not read and
    is cut off by the next append. Several (`shared`: see jobs.py), perhaps of several machines, each write a row into a
    file of its own in the folder, <path>.jobs/<digest of its key>.json, whole or not at all: nothing is appended to by
    two, nothing is lost where one dies, and a row that two have made is one row. Who knows to be alone puts them into
    the one file, merge(), and removes them from the folder after that: who reads the folder first misses none.

    `form` (see checked_json.matches) is what {**key, **row} must look like. Raises UserError for a file that is no such
    cache."""

    def __init__(self, path, form=object):
        self.path, self.form, self.index = Path(path), form, {}      # index: key as text -> row
        self.folder = self.path.with_suffix(".jobs")
        self.shared = False                                          # whether add() writes into the folder
        self.loose = {}                                              # name of a file in the folder -> its line
        self.refresh()
        content = self.path.read_bytes() if self.path.is_file() else b""
        for number, line in enumerate(content[:content.rfind(b"\n") + 1].splitlines(), 1):
            self._take(line, f"{self.path}, line {number}, which should be a row of a study,")

    def _take(self, line, what):
        """Add a stored line to the index; returns its row."""
        entry = parse_json(line, what, {"key": dict, "row": dict})
        row = {**entry["key"], **entry["row"]}
        if not matches(row, self.form):
            raise UserError(f"{what} is none: mend it, or move the file away to start anew")
        self.index[key_text(entry["key"])] = row
        return row

    def get(self, key):
        """The row of this key, or None."""
        return self.index.get(key_text(key))

    def digest(self, key):
        """A name for files that belong to this key."""
        return hashlib.sha256(key_text(key).encode()).hexdigest()[:32]

    def add(self, key, row):
        """Store a row; it is on the disk when this returns. Returns it as get() will."""
        line = (json.dumps({"key": key, "row": row}, ensure_ascii=False) + "\n").encode()
        if self.shared:
            with atomic(self.folder / f"{self.digest(key)}.json") as tmp:
                tmp.write_bytes(line)
        else:
            self._append(line)
        self.index[key_text(key)] = {**key, **row}
        return self.get(key)

    def _append(self, lines):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+b", buffering=0) as f:
            f.seek(0)
            f.truncate(f.read().rfind(b"\n") + 1)
            f.write(lines)
            os.fsync(f.fileno())

    def refresh(self):
        """Read the rows that others have finished since; returns them."""
        rows = []
        for path in sorted(path for path in self.folder.glob("*.json") if path.name not in self.loose):
            try:
                line = path.read_bytes()
            except FileNotFoundError:                        # merged by another in between
                continue
            rows.append(self._take(line, f"{path}, which should be a row of a study,"))
            self.loose[path.name] = line
        return rows

    def merge(self):
        """Put the rows of the folder into the file. Only for a process that is alone: others might do the same."""
        self.refresh()
        paths = [path for name in self.loose if (path := self.folder / name).exists()]     # others another has merged
        if paths:
            self._append(b"".join(self.loose[path.name] for path in paths))
            for path in paths:
                path.unlink(missing_ok=True)
        self.loose = {}
