import json
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import ENVIRONMENT, ROOT, assert_one_line_error, command, commands
from PIL import Image

import data
import models
import train
from datasets import strokes
from generate_digits import open_generator, sample_all
from training import run
from utils.onnx_session import open_session

QUICK = ["--epochs", 3, "--batch", 32, "--device", "cpu"]


def weights(path):
    return torch.load(path, weights_only=True)["weights"]


def same(a, b):
    a, b = weights(a), weights(b)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_run_leaves_what_the_readme_names(trained):
    names = {p.name for p in trained.iterdir()}
    for name in ("generator", "acgan", "cvae", "classifier"):
        assert {f"{name}{end}" for end in (".pth", ".onnx", ".json", ".log.jsonl", "_losses.png")} <= names
    assert {"discriminator.pth", "acgan_discriminator.pth", "classifier_confusion.png"} <= names
    assert {f"{name}{end}" for name in ("generator", "acgan", "cvae") for end in ("_samples.png", "_training.gif")} <= names
    assert not [n for n in names if "resume" in n or "tmp" in n]
    for name in ("generator", "acgan", "cvae", "classifier"):
        record = json.loads((trained / f"{name}.json").read_text(encoding="utf-8"))
        assert record["train_images"] == len(record["classes"]) * 44 > 0
        assert record["dataset_sha256"] and record["metrics"] and record["settings"]["seed"] == 0
        rows = [json.loads(line) for line in (trained / f"{name}.log.jsonl").read_text().splitlines()]
        assert rows[-1]["step"] == record["steps"] == record["epochs"] * (record["train_images"] // 32)
        assert all(a["step"] < b["step"] for a, b in zip(rows, rows[1:]))
        open_session(trained / f"{name}.onnx", "classifier" if name == "classifier" else "generator")
    with Image.open(trained / "generator_training.gif") as gif:
        assert gif.n_frames > 5


def test_snapshots_are_generators_and_the_last_is_the_end(trained):
    shots = sorted((trained / "generator_epochs").iterdir())
    assert [p.name for p in shots] == ["00001.pth", "00002.pth", "00003.pth", "00004.pth"]
    assert same(shots[-1], trained / "generator.pth") and not same(shots[0], shots[1])
    assert models.load(shots[0], "generator").info["figures"]["epoch"] == 1


def test_the_cvae_records_that_its_code_is_alive(trained):
    metrics = json.loads((trained / "cvae.json").read_text(encoding="utf-8"))["metrics"]
    assert metrics["kl"] > 0.1 and metrics["active_units"] > 0 and metrics["diversity"] > 0


def test_the_same_samples_from_every_file_of_a_cvae(trained):
    a, b = (sample_all(open_generator(trained / f"cvae.{end}"), 200, seed=5) for end in ("pth", "onnx"))
    assert np.abs(a[0].astype(int) - b[0]).max() <= 1 and np.array_equal(a[1], b[1]) and np.array_equal(a[2], b[2])
    assert len({image.tobytes() for image in a[0]}) == 200


def test_rare_classes_are_seen_more_often_with_balance():
    x, y = strokes.generate(300, seed=1)
    chosen = np.concatenate([np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:3]])
    empty = x[:0], y[:0]
    glyphs = data.Glyphs("two", ["0", "1"], x[chosen], y[chosen], *empty, *empty, "drawn", "0" * 64, "MIT", True)
    for balance, share in ((0.0, 3 / len(chosen)), (1.0, 0.5)):
        args = train.parse_args(["--batch", "8", "--epochs", "1"])
        args, _ = train.settle(args)
        train.adapt(args, glyphs)
        assert args.balance == 0.5 and args.diffaugment == 2        # what small and uneven data get by default
        args.balance, args.bf16, args.out = balance, False, "unused"
        state = run.Run(args, glyphs, torch.device("cpu"), 0.0)
        order = state.draw_order(state.rng(0, 0)).numpy()
        assert len(order) == len(chosen) and abs(np.mean(glyphs.y_train[order] == 1) - share) < 0.02
        if not balance:
            assert sorted(order) == list(range(len(chosen)))


def test_the_same_seed_gives_the_same_weights(trained, small_npz, tmp_path):
    for done in commands(*(("train.py", "--dataset", small_npz, "--out", tmp_path / str(seed), "--seed", seed, "--batch",
                            32, "--epochs", epochs, "--snapshots", "--device", "cpu") for seed, epochs in ((0, 4), (1, 1)))):
        assert done.returncode == 0, done.stderr
    for name in ("generator.pth", "discriminator.pth"):
        assert same(tmp_path / "0" / name, trained / name)
    first = "generator_epochs/00001.pth"
    assert same(tmp_path / "0" / first, trained / first)
    assert not all(torch.equal(a, b) for a, b in zip(weights(tmp_path / "1" / first).values(),
                                                     weights(trained / first).values()))


@pytest.mark.parametrize("model, name", [("cvae", "cvae"), ("classifier", "classifier")])
def test_a_killed_run_resumes_to_the_same_weights(small_npz, tmp_path, model, name):
    words = ["--model", model, "--dataset", small_npz, "--epochs", 10, "--batch", 32, "--device", "cpu",
             "--save-every", 0.1]
    pool = ThreadPoolExecutor(1)
    whole = pool.submit(command, "train.py", *words, "--out", tmp_path / "whole")
    halted = tmp_path / "halted"
    run = subprocess.Popen([sys.executable, str(ROOT / "train.py"), *map(str, words), "--out", str(halted)],
                           stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    deadline = time.time() + 60
    while not (halted / f"{name}.resume.pth").is_file() and time.time() < deadline and run.poll() is None:
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    state = halted / f"{name}.resume.pth"
    assert state.is_file() and not (halted / f"{name}.pth").exists(), "the run ended before it could be killed"
    assert 0 < torch.load(state, weights_only=True)["i"] < 10 * 13
    done = command("train.py", "--model", model, "--resume", "--out", halted)
    assert done.returncode == 0, done.stderr
    assert "goes on from step" in done.stdout and not state.exists()
    assert whole.result().returncode == 0, whole.result().stderr
    assert same(tmp_path / "whole" / f"{name}.pth", halted / f"{name}.pth")
    steps = [json.loads(line)["step"] for line in (halted / f"{name}.log.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


def test_resume_without_a_stopped_run_or_with_a_foreign_file(trained, tmp_path):
    assert_one_line_error(command("train.py", "--resume", "--out", tmp_path), "nothing to resume")
    shutil.copy(trained / "generator.pth", tmp_path / "generator.resume.pth")
    assert_one_line_error(command("train.py", "--resume", "--out", tmp_path), "generator.resume.pth")


@pytest.fixture(scope="module")
def stopped(small_npz, tmp_path_factory):
    """A folder with a run that was killed, and the data set it was trained on."""
    folder = tmp_path_factory.mktemp("stopped")
    shutil.copy(small_npz, folder / "mine.npz")
    run = subprocess.Popen([sys.executable, str(ROOT / "train.py"), "--dataset", str(folder / "mine.npz"), "--out",
                            str(folder), "--epochs", "500", "--save-every", "0.1"], stdout=subprocess.DEVNULL)
    deadline = time.time() + 60
    while not (folder / "generator.resume.pth").is_file() and time.time() < deadline:
        time.sleep(0.05)
    run.kill()
    run.wait()
    return folder


def test_resume_keeps_to_its_settings(stopped):
    before = (stopped / "generator.resume.pth").read_bytes()
    assert_one_line_error(command("train.py", "--resume", "--out", stopped, "--lr", 0.5), "--lr", "0.002")
    done = command("train.py", "--resume", "--out", stopped, "--dry-run")
    assert done.returncode == 0 and "nothing written" in done.stdout, done.stderr
    assert (stopped / "generator.resume.pth").read_bytes() == before and not (stopped / "generator.pth").exists()


def test_resume_refuses_other_data(stopped, tmp_path):
    shutil.copytree(stopped, tmp_path / "o")
    mine = stopped / "mine.npz"
    whole = mine.read_bytes()
    with np.load(mine) as z:
        arrays = dict(z)
    arrays["x_train"] = arrays["x_train"][::-1].copy()
    np.savez(mine, **arrays)
    assert_one_line_error(command("train.py", "--resume", "--out", tmp_path / "o"), "other data")
    mine.write_bytes(whole)


def test_a_fresh_run_forgets_the_stopped_one(stopped, small_npz, tmp_path):
    shutil.copytree(stopped, tmp_path / "o")
    done = command("train.py", "--dataset", small_npz, "--out", tmp_path / "o", "--lr", 1e30, *QUICK)
    assert_one_line_error(done, "before anything was saved")
    assert not (tmp_path / "o" / "generator.resume.pth").exists() and not (tmp_path / "o" / "generator.pth").exists()


def test_a_loss_that_is_not_a_number_keeps_the_last_good_weights(stopped, tmp_path):
    shutil.copytree(stopped, tmp_path / "o")
    state = torch.load(tmp_path / "o" / "generator.resume.pth", weights_only=True)
    state["settings"]["lr"] = 1e30                      # blows up within a few steps
    torch.save(state, tmp_path / "o" / "generator.resume.pth")
    done = command("train.py", "--resume", "--out", tmp_path / "o")
    assert_one_line_error(done, "not a number", "generator.pth", f"step {state['i']} ")
    kept = weights(tmp_path / "o" / "generator.pth")
    assert all(torch.equal(kept[k], v) for k, v in state["networks"]["average"].items())


def test_a_loss_that_is_not_a_number_stops_the_run(small_npz, tmp_path):
    done = command("train.py", "--dataset", small_npz, "--out", tmp_path / "o", "--lr", 1e30, *QUICK)
    assert done.returncode == 2 and "not a number" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "o" / "generator.onnx").exists()


def test_dry_run_writes_nothing(small_npz, tmp_path):
    for done in commands(*(("train.py", "--model", model, "--dataset", small_npz, "--out", tmp_path / "o", "--dry-run")
                           for model in ("acgan", "cvae", "classifier"))):
        assert done.returncode == 0 and "one step" in done.stdout, done.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("words, said", [
    (["--dataset", "no_such_folder"], "no_such_folder"), (["--device", "cuda"], "cuda"),
    (["--resume"], "nothing to resume"), (["--seed", "-1"], "--seed"), (["--epochs", "0"], "--epochs"),
    (["--lr", "nan"], "--lr"), (["--model", "gan"], "--model"),
])
def test_wrong_wishes(tmp_path, words, said):
    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("this machine has a GPU, so that --device cuda is right")
    assert_one_line_error(command("train.py", *words, cwd=tmp_path), said)
    assert list(tmp_path.iterdir()) == []


def test_an_out_that_cannot_be_written(small_npz, tmp_path):
    (tmp_path / "file").write_text("")
    assert_one_line_error(command("train.py", "--dataset", small_npz, "--out", tmp_path / "file" / "o", *QUICK), "file")
