"""The command train.py: what it leaves, the same weights for the same seed, kill and resume, mistakes."""
import json
import math
import os
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import one_line_error
from PIL import Image

import data
import export_onnx
import models
import train
from datasets import strokes
from generate_digits import open_generator, sample_all
from training import gan, health, preview
from training.run import Run
from utils import cli
from utils.files import UserError, exclusive
from utils.onnx_session import open_session

QUICK = ["--epochs", "2", "--batch", "32", "--device", "cpu"]


def weights(path):
    return torch.load(path, weights_only=True)["weights"]


def same(a, b):
    a, b = weights(a), weights(b)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def run_train(*words):
    train.main([str(word) for word in words])


@pytest.fixture
def short(monkeypatch):
    """Runs end sooner: no ONNX export, few pictures, few samples measured; other tests cover these."""
    monkeypatch.setattr(export_onnx, "export", lambda checkpoint, path: {})
    monkeypatch.setattr(export_onnx, "accuracy", lambda *a: 0.0)
    monkeypatch.setattr(preview, "FRAMES", 2)
    monkeypatch.setattr(train, "MEASURED", 64)


# ---- what a run leaves ---------------------------------------------------------------------------

def test_a_run_leaves_what_the_readme_names(trained):
    every, generators = (".pth", ".onnx", ".json", ".log.jsonl", "_losses.png"), ("_samples.png", "_training.gif")
    expected = {name + end for name in ("generator", "cvae") for end in (*every, *generators)}
    expected |= {"classifier" + end for end in (*every, "-gradient.onnx", "_confusion.png")}
    expected |= {"discriminator.pth", "generator_epochs", "tiny"}
    assert {p.name for p in trained.iterdir()} == expected, "no lock, nothing of --resume, no temporary file is left"
    for name in ("generator", "cvae", "classifier"):
        record = json.loads((trained / f"{name}.json").read_text(encoding="utf-8"))
        assert record["train_images"] == len(record["classes"]) * 44 > 0
        assert record["dataset_sha256"] and record["metrics"] and record["settings"]["seed"] == 0
        rows = [json.loads(line) for line in (trained / f"{name}.log.jsonl").read_text().splitlines()]
        assert rows[-1]["step"] == record["steps"] == record["epochs"] * (record["train_images"] // 32)
        assert all(a["step"] < b["step"] for a, b in pairwise(rows))
        open_session(trained / f"{name}.onnx", "classifier" if name == "classifier" else "generator")
    open_session(trained / "classifier-gradient.onnx", "classifier-gradient")
    with Image.open(trained / "generator_training.gif") as gif:
        assert gif.n_frames > 5


def test_snapshots_are_generators_and_the_last_is_the_end(trained):
    shots = sorted((trained / "generator_epochs").iterdir())
    assert [p.name for p in shots] == ["00001.pth", "00002.pth", "00003.pth"]
    end = weights(trained / "generator.pth")
    assert end.pop("tone.values").shape == (256,), "what is fitted to the finished one alone"
    last = weights(shots[-1])
    assert end.keys() == last.keys() and all(torch.equal(end[k], last[k]) for k in last)
    assert not same(shots[0], shots[1])
    assert models.load(shots[0], "generator").info["figures"]["epoch"] == 1


def test_the_cvae_records_that_its_code_is_alive(trained):
    metrics = json.loads((trained / "cvae.json").read_text(encoding="utf-8"))["metrics"]
    assert metrics["kl"] > 0.1 and metrics["active_units"] > 0 and metrics["diversity"] > 0


def test_the_same_samples_from_every_file_of_a_cvae(trained):
    a, b = (sample_all(open_generator(trained / f"cvae.{end}"), 200, seed=5) for end in ("pth", "onnx"))
    assert np.abs(a[0].astype(int) - b[0]).max() <= 1 and np.array_equal(a[1], b[1]) and np.array_equal(a[2], b[2])
    assert len({image.tobytes() for image in a[0]}) == 200


def test_a_tiny_classifier(trained):
    folder, name = trained / "tiny", "classifier-tiny"
    files = {p.name for p in folder.iterdir()}
    assert files == {name + end for end in (".pth", ".onnx", "-gradient.onnx", ".json", ".log.jsonl", "_losses.png",
                                            "_confusion.png")}
    network = models.load(folder / f"{name}.pth", "classifier").model
    assert all(torch.equal(v, v.half().float()) for v in network.state_dict().values() if v.ndim > 1)
    record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    assert record["model"] == name and record["steps"] == 2 * (100 // 20)
    assert set(record["metrics"]) == {"temperature", "temperature_images"} | {
        f"{split}_{kind}" for split in ("val", "test") for kind in ("accuracy", "balanced_accuracy", "ece")}
    assert record["onnx"]["test_accuracy"] == record["metrics"]["test_accuracy"]
    assert record["onnx"]["gradient"]["bytes"] == (folder / f"{name}-gradient.onnx").stat().st_size


def test_snapshots_of_a_classifier_are_calibrated_and_do_not_change_the_training(small_npz, tmp_path, short):
    name = "classifier-tiny"
    words = ["--model", name, "--dataset", small_npz, "--epochs", 2, "--batch", 64, "--device", "cpu", "--out"]
    run_train(*words, tmp_path / "a")
    run_train("--snapshots", *words, tmp_path / "b")
    snapshots = sorted((tmp_path / "b" / f"{name}_epochs").iterdir())
    paths = [tmp_path / folder / f"{name}.pth" for folder in "ab"]
    assert same(*paths) and same(snapshots[-1], paths[0]) and len(snapshots) == 2
    one, other = (json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["metrics"] for path in paths)
    assert one == other and one["temperature_images"] == 40 and one["temperature"] != 1


def test_other_models_have_files_of_their_own(small_npz, tmp_path, short):
    words = ["--dataset", small_npz, "--epochs", 1, "--per-class", 4, "--out", tmp_path, "--device", "cpu"]
    with exclusive(tmp_path / "generator.lock"):                 # while a run of another model is at work
        run_train("--model", "classifier", "--adversarial", *words)
    checkpoint = models.load(tmp_path / "classifier-adversarial.pth", "classifier")
    assert checkpoint.info["model"] == "classifier-adversarial" and checkpoint.model.cfg.margin == 0.3
    run_train("--model", "acgan", *words)
    assert models.load(tmp_path / "acgan.pth", "generator").info["model"] == "acgan"
    assert not models.load(tmp_path / "acgan_discriminator.pth").model.cfg.projection


def test_the_same_seed_gives_the_same_weights(small_npz, tmp_path, short):
    for name, seed in (("a", 0), ("b", 0), ("other", 1)):
        run_train("--dataset", small_npz, "--out", tmp_path / name, "--seed", seed, "--epochs", 1, "--batch", 32,
                  "--per-class", 20, "--device", "cpu")
    for file in ("generator.pth", "discriminator.pth"):
        assert same(tmp_path / "a" / file, tmp_path / "b" / file)
    assert not same(tmp_path / "a" / "generator.pth", tmp_path / "other" / "generator.pth")


# ---- settings ------------------------------------------------------------------------------------

def resolved(glyphs, *words):
    args = train.parse_args(list(words))
    args.dataset, args.bf16 = "unused", False
    train.resolve(args, glyphs)
    return args


def test_what_small_and_uneven_data_get_by_default(small_npz):
    glyphs = data.load(small_npz)
    even, uneven = resolved(glyphs), None
    x, y = strokes.generate(300, seed=1)
    chosen = np.concatenate([np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:3]])
    empty = x[:0], y[:0]
    two = data.Glyphs("two", ["0", "1"], x[chosen], y[chosen], *empty, *empty, "drawn", "MIT", True)
    uneven = resolved(two)
    assert (even.balance, uneven.balance) == (0.0, 0.5) and even.diffaugment == uneven.diffaugment == 1
    assert (even.lr, even.label_weight, even.minutes) == (2e-3, 0.3, 4.8)
    assert resolved(glyphs, "--model", "acgan").label_weight == 0.5
    assert resolved(glyphs, "--model", "acgan", "--label-weight", "0.1").label_weight == 0.1


def test_few_images_do_not_take_all_steps(small_npz):
    """The default number of epochs: so many images in all, but no more passes than a handful of images is worth."""
    glyphs = data.load(small_npz).subset(2, 0)
    for words, size in ((["--plain"], 20), ([], 128)):             # redrawn, they may fill a batch
        args = resolved(glyphs, "--model", "classifier", *words)
        assert (args.pen > 0) == args.pretrained == (size == 128) and args.hands == 0
        run = Run(args, glyphs, torch.device("cpu"), 0.0)
        epochs = train.DEFAULTS["classifier"]["passes"] if words else math.ceil(train.VIEWS / 140)
        assert run.batches.size == size and train.max_epochs(run) == epochs
    glyphs = data.load(small_npz).subset(train.TUNED // 10, 0)
    args = resolved(glyphs, "--model", "classifier")
    run = Run(args, glyphs, torch.device("cpu"), 0.0)
    assert args.tuned and train.max_epochs(run) == math.ceil(train.TUNED_IMAGES / run.batches.epoch_images)
    assert not resolved(glyphs.subset(train.TUNED // 10 - 1, 0), "--model", "classifier").tuned


def test_a_cvae_learns_otherwise_where_images_are_scarce(small_npz):
    glyphs = data.load(small_npz)
    repeats = -(-train.SCARCE * len(glyphs.classes) // len(glyphs.x_train))
    many = replace(glyphs, x_train=np.repeat(glyphs.x_train, repeats, 0), y_train=np.repeat(glyphs.y_train, repeats))
    for args, expected in ((resolved(glyphs, "--model", "cvae"), (200, 0.9)), (resolved(many, "--model", "cvae"), (600, 0)),
                           (resolved(glyphs, "--model", "cvae", "--gan-weight-end", "50"), (50, 0.9))):
        assert (args.gan_weight_end, args.momentum) == expected
        optimizer = Run(args, glyphs, torch.device("cpu"), 0.0).trainer.optimizers["vae"]
        assert optimizer.param_groups[0]["betas"][0] == args.momentum


def test_a_gan_of_few_images_starts_from_the_one_of_digits(small_npz):
    """Not of MNIST itself, of many images, of another size, nor where it should not; an auxiliary-classifier GAN does not."""
    glyphs = data.load(small_npz)                                  # 48 images of a class
    assert resolved(glyphs).pretrained and not resolved(glyphs, "--plain").pretrained
    assert resolved(glyphs).backbone == gan.digits_have_backbone() and not resolved(glyphs, "--plain").backbone
    assert not resolved(glyphs, "--model", "acgan").pretrained
    x, y = np.repeat(glyphs.x_train, 3, 0), np.repeat(glyphs.y_train, 3)
    wide = [str(i) for i in range(models.MANY + 1)]
    for other in ({"name": "mnist"}, {"x_train": x, "y_train": y}, {"classes": wide}):
        assert not resolved(replace(glyphs, **other)).pretrained
    run = Run(resolved(glyphs), glyphs, torch.device("cpu"), 0.0)
    assert train.max_epochs(run) == train.STARTED_PASSES
    plain = Run(resolved(glyphs, "--plain"), glyphs, torch.device("cpu"), 0.0)
    assert train.max_epochs(plain) == math.ceil(train.DEFAULTS["cgan"]["images"] / run.batches.epoch_images)


def test_a_backbone_is_the_default_of_a_cvae_and_else_an_option(small_npz):
    glyphs = data.load(small_npz)
    for words, expected in (([], True), (["--no-backbone"], False)):
        assert resolved(glyphs, "--model", "cvae", *words).backbone == expected
    for words, expected in (([], False), (["--backbone"], True)):
        assert resolved(glyphs, "--model", "acgan", *words).backbone == expected
    other = "--no-backbone" if gan.digits_have_backbone() else "--backbone"
    with pytest.raises(UserError, match=f"{other}: .* starts from the GAN of digits"):
        resolved(glyphs, other)
    assert resolved(glyphs, other, "--plain").backbone != gan.digits_have_backbone()
    saved = {"model": "cvae", "backbone": False, "seed": 1}
    assert train.checked_settings(saved, Path("a.resume.pth")) == saved, "a resumed run keeps to it"


def test_what_is_asked_for_counts_more_than_what_few_images_want(small_npz):
    glyphs = data.load(small_npz)
    few = resolved(glyphs.subset(2, 0), "--model", "classifier", "--pen", "0.5", "--hands", "0.25")
    assert (few.pen, few.hands, few.elastic, few.pretrained) == (0.5, 0.25, 20.0, True)
    assert few.noise == resolved(glyphs.subset(2, 0), "--model", "classifier", "--plain").noise == 0
    many = resolved(glyphs, "--model", "classifier", "--hands", "0.5")
    assert many.noise > 0 == resolved(glyphs, "--model", "classifier", "--noise", "0").noise
    for words in (["--adversarial", "--model", "classifier"], ["--model", "classifier-tiny"]):
        assert resolved(glyphs, *words).noise == 0
    assert (many.pen, many.hands, many.elastic, many.pretrained) == (0.0, 0.5, 8.0, False)
    run = Run(many, glyphs, torch.device("cpu"), 0.0)
    batch = run.batches.batch(0, 10)
    drawn = run.trainer.augment(batch)
    assert drawn.shape == batch.images.shape and 0 <= drawn.min() and drawn.max() <= 1
    one_line_error(train.main, "--hands", "0.5")


def test_snapshots_are_kept_as_often_as_one_likes_and_at_the_end(small_npz, tmp_path, short):
    run_train("--dataset", small_npz, "--per-class", 10, "--epochs", 5, "--batch", 32, "--device", "cpu", "--snapshots", 2,
              "--out", tmp_path)
    assert [p.stem for p in sorted((tmp_path / "generator_epochs").iterdir())] == ["00002", "00004", "00005"]


def test_only_classifiers_that_redraw_their_images_say_so(small_npz):
    glyphs = data.load(small_npz).subset(5, 0)
    assert resolved(glyphs, "--model", "classifier-tiny").pen > 0
    assert resolved(glyphs, "--adversarial", "--model", "classifier").pen == 0
    for words in (["--plain"], ["--pen", "1"], ["--noise", "0.3"], ["--hands", "0.5"]):
        one_line_error(train.main, "--adversarial", "--model", "classifier", *words)


def test_the_plan_follows_the_speed(small_npz):
    glyphs = data.load(small_npz)
    run = Run(resolved(glyphs, "--minutes", "1"), glyphs, torch.device("cpu"), 0.0)
    per_epoch = run.batches.per_epoch
    run.plan(train.max_epochs(run))
    assert train.plan_epochs(run, steps_per_second=per_epoch) == 60              # an epoch a second
    run.plan(60)
    run.step, run.seconds = 5 * per_epoch, 5.0
    assert train.plan_epochs(run, 2 * per_epoch) == 115                          # early, it may grow
    run.step, run.seconds = 30 * per_epoch, 30.0
    assert train.plan_epochs(run, 2 * per_epoch) == 60                           # late, it may not,
    assert train.plan_epochs(run, 0.5 * per_epoch) == 45                         # but shrink
    run.seconds = 100.0
    assert train.plan_epochs(run, per_epoch) == 30, "no time is left: this epoch is the last"


# ---- kill and resume -----------------------------------------------------------------------------

def stop_after(patch, owner, name, is_time=lambda *arguments: True):
    """Let a function of `owner` end the run as a kill would, once it has done its work."""
    function = getattr(owner, name)

    def and_stop(*arguments, **more):
        function(*arguments, **more)
        if is_time(*arguments):
            raise KeyboardInterrupt
    patch.setattr(owner, name, and_stop)


@pytest.mark.parametrize("model, images, step", [("cgan", 32, 14), ("cvae", 32, 14), ("classifier-tiny", 32, 3),
                                                 ("classifier-tiny", 10, 14)])
def test_a_run_that_was_stopped_resumes_to_the_same_weights(small_npz, tmp_path, monkeypatch, capsys, short, model, images, step):
    """The run ends at once after the save at a step, in its first or second epoch, as a kill would end it. The last has so few
    images of a class that a discriminant analysis stands beside the network."""
    name = train.TRAINERS[model].name
    words = ["--model", model, "--dataset", small_npz, "--per-class", images, "--epochs", 2, "--batch", images, "--device", "cpu"]
    run_train(*words, "--out", tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, Run, "save_state", lambda run: run.step == step)
        patch.setattr(train, "LOG_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            run_train(*words, "--save-every", 1e-9, "--out", tmp_path / "stopped")
    assert f"stopped at step {step}; go on" in capsys.readouterr().out
    torch.manual_seed(1)                                         # the global random state has no say
    run_train("--model", model, "--resume", "--out", tmp_path / "stopped")
    assert f"goes on from step {step} of 20" in capsys.readouterr().out
    assert not (tmp_path / "stopped" / f"{name}.resume.pth").exists()
    assert same(tmp_path / "whole" / f"{name}.pth", tmp_path / "stopped" / f"{name}.pth")
    rows = [json.loads(line)["step"] for line in (tmp_path / "stopped" / f"{name}.log.jsonl").read_text().splitlines()]
    assert rows == sorted(set(rows)) and rows[-1] == 20


@pytest.fixture(scope="module")
def killed(small_npz, tmp_path_factory):
    """The folder of a run that was stopped after its first save; its data set is beside it, mine.npz. (Runs that are
    killed in earnest: test_kill.py.)"""
    root = tmp_path_factory.mktemp("killed")
    shutil.copy(small_npz, root / "mine.npz")
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, Run, "save_state")
        patch.setattr(train, "LOG_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            run_train("--dataset", root / "mine.npz", "--epochs", 5000, "--save-every", 1e-9, "--out", root / "run")
    assert (root / "run" / "generator.resume.pth").is_file() and not (root / "run" / "generator.pth").exists()
    return root / "run"


@pytest.mark.parametrize("owner, last", [(Run, "write_record"), (os, "replace"), (Path, "unlink")])
def test_a_run_that_was_killed_at_its_very_end_has_ended(small_npz, tmp_path, monkeypatch, capsys, short, owner, last):
    """Between the record and the end: before the log has its name, after that, and after the state is gone."""
    words = ["--model", "classifier-tiny", "--dataset", small_npz, "--epochs", 2, "--batch", 64, "--device", "cpu"]
    folder, name, ended = tmp_path / "o", "classifier-tiny", []
    with monkeypatch.context() as patch:
        patch.setattr(train, "LOG_SECONDS", 0.0)
        stop_after(patch, Run, "write_record", lambda *_: ended.append(1) or last == "write_record")
        if last != "write_record":
            stop_after(patch, owner, last, lambda *_: ended)
        with pytest.raises(KeyboardInterrupt):
            run_train(*words, "--save-every", 1e-9, "--out", folder)
    before = (folder / f"{name}.pth").read_bytes()
    rows = len((folder / f"{name}{'.resume.jsonl' if last == 'write_record' else '.log.jsonl'}").read_text().splitlines())
    if last == "unlink":
        assert "nothing to resume" in one_line_error(train.main, "--model", name, "--resume", "--out", folder)
    else:
        capsys.readouterr()
        run_train("--model", name, "--resume", "--out", folder)
        assert capsys.readouterr().out == f"already finished: {folder / name}.json has its record\n"
    assert (folder / f"{name}.pth").read_bytes() == before
    assert rows > 2 and len((folder / f"{name}.log.jsonl").read_text().splitlines()) == rows
    assert not [p.name for p in folder.iterdir() if "resume" in p.name or "lock" in p.name]


def test_a_log_that_was_lost_comes_back(small_npz, tmp_path, monkeypatch, short):
    """At the last step, whose losses are drawn; a power cut may leave the file empty."""
    name, words = "classifier-tiny", ["--dataset", small_npz, "--epochs", 2, "--batch", 64, "--device", "cpu"]
    with monkeypatch.context() as patch:
        patch.setattr(train, "LOG_SECONDS", 0.0)
        stop_after(patch, Run, "save_state", lambda run: run.step == run.steps)
        with pytest.raises(KeyboardInterrupt):
            run_train("--model", name, *words, "--save-every", 1e-9, "--out", tmp_path)
    (tmp_path / f"{name}.resume.jsonl").write_text('{"step": 1, "epoc')
    run_train("--model", name, "--resume", "--out", tmp_path)
    rows = [json.loads(line)["step"] for line in (tmp_path / f"{name}.log.jsonl").read_text().splitlines()]
    assert len(rows) > 2 and rows[-1] == json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))["steps"]
    assert (tmp_path / f"{name}_losses.png").is_file()


def test_a_second_run_into_a_folder_is_refused(small_npz, tmp_path, killed):
    """By name: runs of other models may go on beside it."""
    with exclusive(tmp_path / "generator.lock"):
        error = one_line_error(train.main, "--dataset", small_npz, "--out", tmp_path, *QUICK)
        assert str(os.getpid()) in error and "--out" in error
        assert [p.name for p in tmp_path.iterdir()] == ["generator.lock"]
        assert "process" in one_line_error(train.main, "--resume", "--out", tmp_path)
        run_train("--dataset", small_npz, "--out", tmp_path, "--dry-run")
    with exclusive(killed / "generator.lock"):
        assert "process" in one_line_error(train.main, "--resume", "--out", killed)


def test_a_generator_that_learns_nothing_is_said_in_the_terminal_and_in_the_record(small_npz, tmp_path, monkeypatch, capsys,
                                                                                   short):
    monkeypatch.setattr(health, "CHECK_STEPS", 10)
    monkeypatch.setattr(gan.ConditionalGAN, "end_step", lambda trainer, batch: None)         # what is sampled stays as it was
    run_train("--dataset", small_npz, "--plain", "--out", tmp_path, "--epochs", 2, "--batch", 44, "--device", "cpu")
    warnings = json.loads((tmp_path / "generator.json").read_text(encoding="utf-8"))["warnings"]
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WARNING: ")]
    assert said == [f"WARNING: {text}" for text in warnings] and any("labels" in text for text in warnings)


def test_resume_without_a_stopped_run_or_with_a_foreign_file(trained, tmp_path):
    assert "nothing to resume" in one_line_error(train.main, "--resume", "--out", tmp_path)
    shutil.copy(trained / "generator.pth", tmp_path / "generator.resume.pth")
    assert "generator.resume.pth" in one_line_error(train.main, "--resume", "--out", tmp_path)


def test_resume_keeps_to_its_settings(killed, capsys):
    folder = killed
    before = (folder / "generator.resume.pth").read_bytes()
    error = one_line_error(train.main, "--resume", "--out", folder, "--lr", 0.5)
    assert "--lr" in error and "0.002" in error
    error = one_line_error(train.main, "--resume", "--out", folder, "--save-every", 20)
    assert "--save-every 20" in error, "what is given counts where it is the default, too"
    run_train("--resume", "--out", folder, "--dry-run")
    assert "nothing written" in capsys.readouterr().out
    assert (folder / "generator.resume.pth").read_bytes() == before and not (folder / "generator.pth").exists()


def test_what_a_run_started_from_may_be_gone_when_it_is_resumed(killed, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(killed, tmp_path / "run")
    monkeypatch.setattr(gan, "SHIPPED", tmp_path)                   # as if training on MNIST had put another GAN there
    stop_after(monkeypatch, Run, "save_state")
    with pytest.raises(KeyboardInterrupt):
        run_train("--resume", "--out", folder)
    out = capsys.readouterr().out
    assert "goes on from step" in out and '"pretrained": true' in out


def test_resume_refuses_other_data(killed, tmp_path):
    folder = shutil.copytree(killed, tmp_path / "o")
    with np.load(killed.parent / "mine.npz") as z:
        arrays = dict(z)
    arrays["x_train"] = arrays["x_train"][::-1]
    np.savez(tmp_path / "mine.npz", **arrays)
    state = torch.load(folder / "generator.resume.pth", weights_only=True)
    state["settings"]["dataset"] = str(tmp_path / "mine.npz")
    torch.save(state, folder / "generator.resume.pth")
    assert "other data" in one_line_error(train.main, "--resume", "--out", folder)


def test_settings_that_were_resolved_come_back_as_they_were(killed):
    path = killed / "generator.resume.pth"
    saved = torch.load(path, weights_only=True)["settings"]
    odd = {**saved, "balance": 0.0, "seed": 0, "r1": 0.0, "lr": 1e-5, "data_dir": None, "snapshots": 3,
           "ema": 0.1 + 0.2}
    for settings in (saved, odd):
        found = train.checked_settings(settings, path)
        assert found == settings and list(map(type, found.values())) == list(map(type, settings.values()))


def test_odd_settings_of_a_stopped_run(killed, tmp_path):
    folder = shutil.copytree(killed, tmp_path / "o")
    path = folder / "generator.resume.pth"
    content = torch.load(path, weights_only=True)
    for name, value in (("batch", 0), ("batch", "many"), ("batch", True), ("lr", float("nan")), ("model", "painter"),
                        ("seed", -1),
                        ("no_center", "yes"), ("warm_up", "5"), ("dataset", ""), ("nonsense", 1), ("lr", [1]),
                        ("out", 7.5j)):
        torch.save({**content, "settings": {**content["settings"], name: value}}, path)
        assert str(path) in one_line_error(train.main, "--resume", "--out", folder), name


def change(content, *keys, to):
    for key in keys[:-1]:
        content = content[key]
    content[keys[-1]] = to


def test_odd_states_of_a_stopped_run(killed, tmp_path):
    """Each is noticed before a step is taken: moments of another shape would end in the middle of it."""
    folder = shutil.copytree(killed, tmp_path / "o")
    path = folder / "generator.resume.pth"
    whole, moments = path.read_bytes(), ("optimizers", "generator", "state", 0)
    for keys, value in (
            (("step",), -1), (("step",), 1.5), (("epochs",), "3"), (("plans",), [[1]]), (("seconds",), float("nan")),
            (("frames",), [1]),
            (("frames",), [(torch.zeros(80, 27, 28, dtype=torch.uint8), "a")]), (("networks", "ema"), []),
            (("notice",), None),
            (("networks", "generator", "project.weight"), torch.zeros(1).expand(50_000, 50_000)),
            (moments, {"step": torch.tensor(1.0)}),
            ((*moments, "exp_avg"), torch.zeros(3)), ((*moments, "exp_avg"), torch.zeros(1).expand(60_000, 60_000)),
            ((*moments, "step"), torch.tensor(float("nan"))),
            (("optimizers", "generator", "param_groups", 0, "params"), [5]),
            (("optimizers", "generator", "param_groups", 0, "betas"), "ab"),
            (("optimizers", "generator", "param_groups"), []),
            (("optimizers", "generator", "param_groups", 0, "eps"), None), (("optimizers", "discriminator"), {})):
        path.write_bytes(whole)
        content = torch.load(path, weights_only=True)
        change(content, *keys, to=value)
        torch.save(content, path)
        assert str(path) in one_line_error(train.main, "--resume", "--out", folder), keys


@pytest.mark.parametrize("row", ['{"step": "1"}', "[1]}", '{"step": 1, "epoch": 1, "seconds": NaN}',
                                 '{"step": 1, "epoch": 0.1}', "{" * 5000 + "}",
                                 '{"step": 1, "epoch": 1, "seconds": 1, "loss": "x"}'])
def test_odd_rows_in_the_log_of_a_stopped_run(killed, tmp_path, row):
    folder = shutil.copytree(killed, tmp_path / "o")
    path = folder / "generator.resume.pth"
    content = torch.load(path, weights_only=True)
    content["log"] += row + "\n"
    torch.save(content, path)
    assert str(path) in one_line_error(train.main, "--resume", "--out", folder)


def test_a_fresh_run_forgets_the_stopped_one(killed, small_npz, tmp_path):
    folder = shutil.copytree(killed, tmp_path / "o")
    error = one_line_error(train.main, "--dataset", small_npz, "--out", folder, "--lr", 1e30, *QUICK)
    assert "before anything was saved" in error
    assert not (folder / "generator.resume.pth").exists() and not (folder / "generator.pth").exists()


def test_a_loss_that_is_not_a_number_keeps_the_last_good_weights(killed, tmp_path):
    folder = shutil.copytree(killed, tmp_path / "o")
    state = torch.load(folder / "generator.resume.pth", weights_only=True)
    state["settings"]["lr"] = 1e30                      # blows up within a few steps
    torch.save(state, folder / "generator.resume.pth")
    (folder / "generator.onnx").write_bytes(b"of an earlier run")
    error = one_line_error(train.main, "--resume", "--out", folder)
    assert "not a number" in error and "generator.pth" in error and f"step {state['step']} " in error
    kept = weights(folder / "generator.pth")
    for name, values in state["networks"]["ema"].items():
        assert torch.equal(kept[name], values.half().float() if models.is_large(values) else values), name
    assert not (folder / "generator.onnx").exists()
    record = json.loads((folder / "generator.json").read_text(encoding="utf-8"))
    assert record["steps"] == state["step"] and "not a number" in record["warnings"][-1]
    assert not [p.name for p in folder.iterdir() if "resume" in p.name or "lock" in p.name]


# ---- mistakes ------------------------------------------------------------------------------------

@pytest.mark.parametrize("model", ["acgan", "cvae", "classifier"])
def test_dry_run_writes_nothing(small_npz, tmp_path, capsys, model):
    run_train("--model", model, "--dataset", small_npz, "--out", tmp_path / "o", "--dry-run")
    assert "one step" in capsys.readouterr().out and not (tmp_path / "o").exists()


@pytest.mark.parametrize("words, said", [
    (["--dataset", "no_such_folder"], "no_such_folder"), (["--resume"], "nothing to resume"), (["--seed", "-1"], "--seed"),
    (["--epochs", "0"], "--epochs"), (["--lr", "nan"], "--lr"), (["--lr", "0"], "--lr"), (["--model", "gan"], "--model"),
    (["--balance", "1.5"], "--balance"), (["--diffaugment", "14"], "--diffaugment"), (["--ema", "1"], "--ema"),
    (["--adversarial"], "--adversarial"), (["--model", "classifier-tiny", "--adversarial"], "classifier-tiny"),
])
def test_wrong_options(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert said in one_line_error(train.main, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU, so that --device cuda is right")
def test_no_gpu():
    assert "cuda" in one_line_error(train.main, "--device", "cuda")


def test_an_out_that_cannot_be_written(small_npz, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    words = ["--dataset", str(small_npz), "--out", str(tmp_path / "file" / "o"), *QUICK]
    with pytest.raises(SystemExit) as end:
        cli.run_command(lambda: train.main(words))
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.startswith("error: ") and "file" in error and error.count("\n") == 1
