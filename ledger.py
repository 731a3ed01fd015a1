"""A file of finished rows, one JSON object a line, that a long study appends to and resumes from; stdlib only.

    ledger = Ledger("results/ocr.jsonl")
    if ledger.get(key) is None:
        ledger.add(key, {"accuracy": 0.97})      # key and row are dicts of JSON types

A row is appended with one write and flushed to the disk. A kill in the middle of it leaves a line without an end, which
is cut off when the file is opened next.
"""
import json
import os
from pathlib import Path

from files import UserError, atomic


class Ledger:
    """Rows by key; every row is kept as {**key, **row}."""

    def __init__(self, path):
        """Read what is there. Raises UserError for a file that is no such ledger."""
        self.path, self.index = Path(path), {}
        content = self.path.read_bytes() if self.path.is_file() else b""
        whole = content[:content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                entry = json.loads(line)
                self.index[self.name(entry["key"])] = {**entry["key"], **entry["row"]}
            except (ValueError, KeyError, TypeError) as e:
                raise UserError(f"{self.path}, line {number} is no row of a study: mend it, or move the file away to "
                                "start anew") from e
        if whole != content:
            with atomic(self.path) as tmp:
                tmp.write_bytes(whole)

    @staticmethod
    def name(key):
        return json.dumps(key, sort_keys=True)

    def get(self, key):
        """The row of this key, or None."""
        return self.index.get(self.name(key))

    def add(self, key, row):
        """Append a row; it is on the disk when this returns. Returns it as get() will."""
        line = json.dumps({"key": key, "row": row}, ensure_ascii=False) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab", buffering=0) as f:
            f.write(line.encode())
            os.fsync(f.fileno())
        self.index[self.name(key)] = {**key, **row}
        return self.get(key)

    def rows(self, **wanted):
        """All rows whose fields have the wanted values, oldest first."""
        return [r for r in self.index.values() if all(r.get(k) == v for k, v in wanted.items())]
