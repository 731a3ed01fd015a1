"""What several tests share: the repository's commands as subprocesses, one tiny trained model of each kind."""
import os
import shutil
import subprocess
import sys
import tempfile
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


def write_small_npz(folder):
    """A data set file of 480 training and 120 test digits drawn as pen strokes."""
    x, y = strokes.generate(600, seed=3)
    np.savez(folder / "small.npz", x_train=x[:480], y_train=y[:480], x_test=x[480:], y_test=y[480:])
    return folder / "small.npz"


@pytest.fixture(scope="session")
def small_npz(tmp_path_factory):
    """See write_small_npz."""
    return write_small_npz(tmp_path_factory.mktemp("data"))


# ---- what takes processes of its own begins with the session, beside the other tests: there are two cores -----------

def train_models(folder):
    """`trained`: the folder of tiny runs of a CGAN, a CVAE and a classifier, by the command as a user calls it; that of
    a tiny classifier's is `tiny` in it."""
    out, data_set = folder / "models", write_small_npz(folder)
    usual = ["--epochs", 3, "--batch", 32, "--out", out]
    tiny = ["--epochs", 2, "--batch", 20, "--per-class", 10, "--out", out / "tiny"]
    for words in (["--snapshots", *usual], ["--model", "cvae", *usual], ["--model", "classifier", "--plain", *usual],
                  ["--model", "classifier-tiny", *tiny]):
        done = command("train.py", *words, "--dataset", data_set, "--device", "cpu")
        assert done.returncode == 0, done.stdout + done.stderr
    return out


def kill_and_resume(folder):
    """`kills`: trainings that are killed in earnest and resumed, a finished process."""
    return command("benchmarks/kill.py", "--kills", 2, "--models", "cgan", "--epochs", 2, "--seed", 9)


def drive_browser(folder):
    """`browsed`: (the finished test of the page in a headless Chromium, the folder that it wrote to); a str that says
    why it could not be."""
    web, chromium = ROOT / "examples" / "web", os.environ.get("CHROMIUM")
    if not shutil.which("node"):
        return "needs node, 18 or later"
    if not (web / "node_modules" / "playwright-core").is_dir():
        return "needs npm install in examples/web"
    if not (chromium or shutil.which("chromium") or shutil.which("chromium-browser")):
        return "needs chromium, or CHROMIUM with its path"
    return subprocess.run(["node", "test/browser.mjs", str(folder)], cwd=web, capture_output=True, text=True, timeout=300,
                          check=False), folder


def train_in_several_processes(folder):
    """`several`: (tests/several.py as a finished process, the folder that it wrote to, a run by torchrun that fails)."""
    words = ["-m", "torch.distributed.run", "--nproc-per-node=2", ROOT / "train.py", "--dataset=strokes", "--batch=33",
             f"--out={folder / 'new'}", f"--data-dir={folder / 'data'}"]
    return command("tests/several.py", folder), folder, subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=300, env=ENVIRONMENT, check=False)


EARLY = {"trained": train_models, "kills": kill_and_resume, "browsed": drive_browser,
         "several": train_in_several_processes}
POOL, FUTURES = ThreadPoolExecutor(1), {}
FOLDER = tempfile.TemporaryDirectory()


def pytest_collection_finish(session):
    wanted = {name for item in session.items for name in item.fixturenames}
    if not session.config.option.collectonly:
        for name in [name for name in EARLY if name in wanted]:
            folder = Path(FOLDER.name, name)
            folder.mkdir()
            FUTURES[name] = POOL.submit(EARLY[name], folder)


def pytest_sessionfinish():
    POOL.shutdown(cancel_futures=True)
    FOLDER.cleanup()


@pytest.fixture(scope="session")
def trained():
    return FUTURES["trained"].result()


@pytest.fixture(scope="session")
def kills():
    return FUTURES["kills"].result()


@pytest.fixture(scope="session")
def several():
    return FUTURES["several"].result()


@pytest.fixture(scope="session")
def browsed():
    return FUTURES["browsed"].result()
