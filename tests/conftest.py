"""What several tests share: the repository's commands as subprocesses, one tiny trained model of each kind."""
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from datasets import strokes

ROOT = Path(__file__).parent.parent
# one thread each: the networks here are tiny, and two commands at a time then do not get in each other's way
os.environ.setdefault("OMP_NUM_THREADS", "1")
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


def command(*words, cwd=ROOT, env=None, timeout=300):
    """Run a script of the repository as a user does; returns the finished process with its text."""
    script, *rest = map(str, words)
    return subprocess.run([sys.executable, str(ROOT / script), *rest], cwd=cwd, capture_output=True, text=True,
                          timeout=timeout, env={**ENVIRONMENT, **(env or {})}, check=False)


def commands(*many):
    """Several calls of command(), each a tuple of its words, two at a time: the finished processes in their order."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda words: command(*words), many))


def assert_one_line_error(done, *words):
    """The promise of every command: exit status 2, one line on stderr that starts with "error:", no traceback."""
    assert done.returncode == 2, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    for word in words:
        assert str(word) in lines[0]


def one_line_error(main, *words):
    """The same of a script's main(), in this process: the text of the error that run_command() would print."""
    from utils.files import UserError
    with pytest.raises(UserError) as error:
        main([str(word) for word in words])
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="session")
def small_npz(tmp_path_factory):
    """A data set file of 480 training and 120 test digits drawn as pen strokes."""
    path = tmp_path_factory.mktemp("data") / "small.npz"
    x, y = strokes.generate(600, seed=3)
    np.savez(path, x_train=x[:480], y_train=y[:480], x_test=x[480:], y_test=y[480:])
    return path


@pytest.fixture(scope="session")
def trained(small_npz, tmp_path_factory):
    """The folder of tiny runs of a CGAN, a CVAE and a classifier: the first by the command as a user calls it, the
    others by its main() in this process meanwhile, which saves imports."""
    import train
    from training import preview
    out = tmp_path_factory.mktemp("models")
    words = ["--dataset", small_npz, "--epochs", 3, "--batch", 32, "--out", out, "--device", "cpu"]
    with ThreadPoolExecutor(1) as pool, pytest.MonkeyPatch.context() as patch:
        cgan = pool.submit(command, "train.py", "--snapshots", *words)
        patch.setattr(train, "MEASURED", 500)
        patch.setattr(preview, "FRAMES", 8)
        for model in ("cvae", "classifier"):
            train.main([str(word) for word in ("--model", model, *words)])
        done = cgan.result()
    assert done.returncode == 0, done.stdout + done.stderr
    return out
