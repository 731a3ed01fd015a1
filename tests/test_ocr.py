"""The OCR study on pen-stroke digits with tiny budgets: rows, resuming, fairness of the arms, what is said of them."""
import base64
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import command

import data
import evaluate
import models
from datasets import strokes
from study import ocr, ocr_report, run_cache
from study.context import Context
from study.report import Section
from study.run_cache import RunCache
from utils.files import UserError

ARMS = ["real", "tuned", "cgan", "cgan-only"]
BUDGET = {"steps": 1, "generator_steps": 1, "tries": 2}


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    x, y = strokes.generate(520, seed=3, labels=np.arange(520) % 10)
    glyphs = data.Glyphs("tiny", list("0123456789"), x[:400], y[:400], x[400:460], y[400:460], x[460:], y[460:],
                         "strokes", "CC0", True)
    return Context(glyphs, None, tmp_path_factory.mktemp("results"), 2, [4], say=lambda *a: None)


@pytest.fixture(scope="module", autouse=True)
def small_pools():
    usual, ocr.POOL = ocr.POOL, 100
    yield
    ocr.POOL = usual


@pytest.fixture(scope="module")
def rows(context):
    return ocr.run_study(context, ["few"], ARMS, **BUDGET)


def test_every_arm_has_a_row_for_every_n_and_seed(rows, context):
    assert {(r["arm"], r["n"], r["seed"]) for r in rows} == {(a, n, s) for a in ARMS for n in (4,) for s in (0, 1)}
    assert len(rows) == 8
    for r in rows:
        assert len(ocr_report.correct(r)) == 60
        assert ocr_report.correct(r).mean() == pytest.approx(r["test"]["accuracy"], abs=1e-5)
        assert r["real_images"] == (0 if r["arm"] == "cgan-only" else 10 * r["n"])
        assert (r["steps"], r["generator_steps"]) == (1, 1)


@pytest.fixture(scope="module")
def deformer(context, tmp_path_factory):
    """Files of an untrained deformer: of another script, and one that has seen this one."""
    torch.manual_seed(0)
    network, folder = models.Deformer(models.DeformerConfig()), tmp_path_factory.mktemp("deformers")
    for name, digest in (("other", "12ab"), ("same", context.glyphs.sha256)):
        info = {"license": "MIT", "sources": {"script": digest}}
        models.save(folder / f"{name}.pth", models.Checkpoint("deformer", network, ["script"], np.zeros((1, 0)), info))
    return folder


def test_a_new_script(context, deformer, tmp_path):
    """Arms with hands of other scripts stand against those without, with the deformer in their rows' keys."""
    context = replace(context, out=tmp_path, per_class=[1])
    rows = ocr.run_study(context, ["script"], ["pens", "hands"], **BUDGET, deformer=str(deformer / "other.pth"))
    assert {(r["arm"], r["n"], r["real_images"], "deformer_sha256" in r) for r in rows} == {
        ("pens", 1, 10, False), ("hands", 1, 10, True)}
    assert all(r["settings"]["pen"] in (1.0, 0.6) for r in rows)
    section = ocr_report.describe(context, rows, ocr.ARMS)
    c, = section.numbers["protocols"][0]["comparisons"]
    assert (c["arm"], c["against"], c["question"]) == ("hands", "pens", ("scripts", "added"))


def test_pretrained_arms_stand_against_the_best_that_is_not(context, deformer, tmp_path):
    """And those with hands against the best without, pre-trained or not; the backbone is in their rows' keys."""
    context = replace(context, out=tmp_path, per_class=[1])
    arms = ["pens", "pretrained", "pretrained+hands", "discriminant", "ensemble"]
    rows = ocr.run_study(context, ["script"], arms, **BUDGET, deformer=str(deformer / "other.pth"))
    assert {(r["arm"], "backbone_sha256" in r, "deformer_sha256" in r) for r in rows} == {
        ("pens", False, False), ("pretrained", True, False), ("pretrained+hands", True, True),
        ("discriminant", True, False), ("ensemble", True, False)}
    compared = ocr_report.describe(context, rows, ocr.ARMS).numbers["protocols"][0]["comparisons"]
    against = {c["arm"]: (c["against"], c["question"]) for c in compared}
    assert all(against[name] == ("pens", ("pretraining", "added")) for name in ("pretrained", "discriminant", "ensemble"))
    against_hands, question = against["pretrained+hands"]
    assert question == ("scripts", "added") and against_hands in arms and "hands" not in against_hands


def test_rows_of_an_earlier_deformer_do_not_count_beside_the_latest(context, deformer, tmp_path):
    """They stay in the file, under a key of their own, and make no second row of a seed."""
    network = models.Deformer(models.DeformerConfig())
    torch.nn.init.ones_(network.flow.bias)
    newer = tmp_path / "newer.pth"
    models.save(newer, models.Checkpoint("deformer", network, ["script"], np.zeros((1, 0)), {"sources": {"script": "34cd"}}))
    context, several = replace(context, out=tmp_path, per_class=[1]), {**BUDGET, "protocols": ["script"], "arms": ["pens", "hands"]}
    for path in (deformer / "other.pth", newer):
        section = ocr.measure(replace(context, ocr={**several, "deformer": str(path)}))
    arms = section.numbers["protocols"][0]["arms"]
    assert {a["arm"]: len(a["seeds"]) for a in arms} == {"pens": 2, "hands": 2}


def test_a_script_that_the_deformer_has_seen_is_not_new(context, deformer, tmp_path):
    with pytest.raises(UserError, match="was trained on tiny: train one on other scripts"):
        ocr.run_study(replace(context, out=tmp_path, per_class=[1]), ["script"], ["hands"], **BUDGET,
                      deformer=str(deformer / "same.pth"))


def test_val_is_not_test(context, tmp_path):
    """Of blank validation images of one label a network reads all or none rightly; of test images some."""
    glyphs = replace(context.glyphs, x_val=np.zeros((20, 28, 28), np.uint8), y_val=np.full(20, 3))
    study = ocr.Study(replace(context, glyphs=glyphs, out=tmp_path), steps=30, generator_steps=1, tries=1)
    row = study.run_one("few", "real", 4, 0, None)
    assert row["val"]["accuracy"] in (0, 1) and 0 < row["test"]["accuracy"] < 1


def test_arms_of_a_seed_share_their_images_and_seeds_do_not(rows, context):
    by_case = {}
    for r in rows:
        by_case.setdefault((r["n"], r["seed"]), set()).add(r["real_sha256"])
    assert all(len(hashes) == 1 for hashes in by_case.values())
    assert len(set.union(*by_case.values())) == 2
    few = context.glyphs.subset(4, 1)
    assert by_case[4, 1] == {ocr.images_hash(few.x_train, few.y_train)}


def test_generators_see_the_same_images_alone(rows):
    made = [r for r in rows if r["arm"].startswith("cgan")]
    assert len(made) == 4
    assert all(r["generator_sha256"] == r["real_sha256"] and r["generator_images"] == 10 * r["n"] for r in made)


def test_settings_are_the_best_tries_on_val_and_tries_never_read_test(rows, context):
    kept = RunCache(context.out / "ocr.jsonl").index.values()
    tries = [r for r in kept if r["try"] is not None]
    assert len(tries) == 2 * (len(ARMS) + 1) and not any("test" in r for r in tries)
    assert {r["seed"] for r in tries} == {ocr.SELECTION_SEED}
    for r in rows:
        mine = [t for t in tries if (t["arm"], t["n"]) == (r["arm"], r["n"])]
        best = max(mine, key=lambda t: t["val"]["balanced_accuracy"])
        assert len(mine) == 2 and r["settings"] == best["settings"]


def test_a_second_call_runs_nothing(rows, context, monkeypatch):
    monkeypatch.setattr(ocr, "train_classifier", lambda *a, **k: pytest.fail("a finished row was run again"))
    before = (context.out / "ocr.jsonl").read_bytes()
    assert ocr.run_study(context, ["few"], ARMS, **BUDGET) == rows
    assert (context.out / "ocr.jsonl").read_bytes() == before


def test_a_study_is_made_anew_in_a_worker(rows, context):
    study = ocr.Study(context, **BUDGET)
    again = pickle.loads(pickle.dumps(study))
    job = "few", "cgan", 4, 1, None
    assert again.key(*job) == study.key(*job) and again.cache.index == study.cache.index
    assert (again.steps, again.generator_steps, again.tries) == (1, 1, 2) and again.glyphs.sha256 == study.glyphs.sha256


def test_jobs_wait_for_the_settings_that_they_build_on(rows, context, tmp_path):
    done, fresh = (ocr.Study(c, **BUDGET) for c in (context, replace(context, out=tmp_path)))
    jobs = done.jobs("few", ARMS, [4], 2)
    assert all(done.is_ready(*job) for job in jobs)
    assert {job[1] for job in jobs if fresh.is_ready(*job)} == {ocr.WARP, "real"}
    assert not any(fresh.is_ready(*job) for job in jobs if job[4] is None)
    for job in jobs:                                   # one after the other: each is ready when its turn comes
        assert fresh.is_ready(*job), job
        fresh.cache.add(fresh.key(*job), done.cache.index[run_cache.key_text(done.key(*job))])


def test_a_row_cut_off_by_a_kill_is_run_again_to_the_same_end(rows, context, monkeypatch):
    path = context.out / "ocr.jsonl"
    whole = path.read_bytes()
    last = whole.splitlines(True)[-1]
    path.write_bytes(whole[:-len(last) // 2])
    trained, usual = [], ocr.train_classifier
    monkeypatch.setattr(ocr, "train_classifier", lambda *a, **k: trained.append(1) or usual(*a, **k))
    again = ocr.run_study(context, ["few"], ARMS, **BUDGET)
    assert 1 <= len(trained) <= 2                  # the row's own network, and the one that filters its samples
    for a, b in zip(again, rows):
        assert {k: v for k, v in a.items() if "seconds" not in k} == {k: v for k, v in b.items() if "seconds" not in k}
    assert path.read_bytes().startswith(whole[:-len(last)]) and len(path.read_text().splitlines()) == whole.count(b"\n")


def test_the_quick_section_shows_a_study_that_was_run_before(rows, context, monkeypatch):
    monkeypatch.setattr(ocr, "run_study", lambda *a, **k: pytest.fail("a study lies there already"))
    section = ocr.measure(context)
    assert [len(a["seeds"]) for a in section.numbers["protocols"][0]["arms"]] == [2] * len(ARMS)
    assert section.protocol["form"] == "full" and section.protocol["seeds"] == 2 and section.protocol["seconds"] > 0
    assert section.protocol["command"] == ("python evaluate.py --only ocr --protocols few --per-class 4 --arms "
                                           "real,cgan,tuned,cgan-only --steps 1 --generator-steps 1 --tries 2 --seeds 2")


def test_cache_keeps_rows_and_refuses_foreign_files(tmp_path):
    path = tmp_path / "rows.jsonl"
    first = RunCache(path)
    assert first.add({"arm": "a", "n": None}, {"accuracy": 0.5}) == {"arm": "a", "n": None, "accuracy": 0.5}
    with open(path, "ab") as f:
        f.write(b'{"key": {"arm": "b"')
    left = path.read_bytes()
    second = RunCache(path)
    assert second.get({"n": None, "arm": "a"})["accuracy"] == 0.5 and second.get({"arm": "b"}) is None
    assert path.read_bytes() == left                            # who reads writes nothing: another may be at it
    second.add({"arm": "b"}, {"accuracy": 0.25})
    assert [r["accuracy"] for r in RunCache(path).index.values()] == [0.5, 0.25]
    path.write_text('{"key": 3}\n')
    with pytest.raises(UserError, match="line 1"):
        RunCache(path)


def test_no_row_is_missed_while_another_merges(tmp_path):
    class Late(RunCache):
        def refresh(self):
            other.merge()
            return super().refresh()
    other = RunCache(tmp_path / "rows.jsonl")
    other.shared = True
    for arm in "ab":
        other.add({"arm": arm}, {"accuracy": 0.5})
        assert Late(tmp_path / "rows.jsonl").get({"arm": arm})
    third = RunCache(tmp_path / "rows.jsonl")
    other.add({"arm": "c"}, {"accuracy": 0.5})
    third.refresh()
    other.merge()
    third.merge()                                               # what it has seen there is in the file already
    assert (tmp_path / "rows.jsonl").read_text().count("accuracy") == 3 and not list(tmp_path.glob("rows.jobs/*"))


@pytest.mark.parametrize("change", [
    {"n": [1]}, {"n": "few"}, {"seed": "0"}, {"try": "x"}, {"seconds": -1}, {"val": {}}, {"steps": None}, {"arm": 3},
    {"settings": []},
    {"test": {"accuracy": 0.5}}, {"right": "AA"}, {"right": "!" * 4}, {"right": 5}, {"images": -1}, {"accuracy": 2},
    {"accuracy": None},
    {"rare_f1": 0.5}, {"more": 0.5}])
def test_rows_of_wrong_inner_types_are_refused(context, tmp_path, change):
    """What such a row would break lies far from where it is read: tables, tests, figures."""
    scores, images = dict.fromkeys(ocr_report.MEASURES, 0.5), len(context.glyphs.y_test)
    key = {"dataset": "tiny", "sha256": context.glyphs.sha256, "protocol": "few", "arm": "real", "n": 4, "seed": 0,
           "steps": 1,
           "generator_steps": 1, "tries": 1, "try": None, "version": ocr.VERSION}
    test = {**scores, "images": images, "right": base64.b64encode(bytes(-(-images // 8))).decode()}
    row = {"settings": {}, "batch": 64, "seconds": 1.5, "val": scores, "test": test}
    path, there = tmp_path / "ocr.jsonl", data.replace(context, out=tmp_path)
    path.write_text(json.dumps({"key": key, "row": row}) + "\n")
    assert len(ocr.open_cache(there).index) == 1
    part = key if change.keys() <= key.keys() else row if change.keys() <= row.keys() else test
    part |= change
    path.write_text(json.dumps({"key": key, "row": row}) + "\n")
    with pytest.raises(UserError, match="ocr.jsonl, line 1"):
        ocr.open_cache(there)


def test_rare_classes_are_rare_and_the_tail_keeps_its_shape(context):
    case = ocr.make_case(context.glyphs, "rare", 3, seed=1)
    counts = np.bincount(case.glyphs.y_train)
    assert len(case.rare) == 3 and (counts[case.rare] == 3).all() and (np.delete(counts, case.rare) == 40).all()
    others = [ocr.make_case(context.glyphs, "rare", 3, seed=s).rare.tolist() for s in range(8)]
    assert len({tuple(r) for r in others}) > 3
    y = np.repeat(np.arange(4), [10, 20, 40, 80])
    glyphs = data.replace(context.glyphs, x_train=np.zeros((150, 28, 28), np.uint8), y_train=y, classes=list("abcd"))
    tail = ocr.make_case(glyphs, "tail", 5, seed=0)
    assert np.bincount(tail.glyphs.y_train).tolist() == [5, 10, 20, 40] and tail.rare.tolist() == [0]


def test_imbalance_and_the_earlier_protocol_run(context):
    rows = ocr.run_study(data.replace(context, seeds=1), ["rare", "predecessors"],
                         ["tuned", "weighted", "cgan+tuned", "cvae-only"], steps=1, generator_steps=1, tries=1)
    rare = [r for r in rows if r["protocol"] == "rare"]
    assert {r["arm"] for r in rare} == {"tuned", "weighted", "cgan+tuned"} and {r["n"] for r in rare} == {4}
    assert all(0 <= r["test"]["rare_f1"] <= 1 and len(r["rare"]) == 3 for r in rare)
    only, = {r["generator_images"] for r in rows if r["arm"] == "cvae-only"}
    assert only == 400 and {r["real_images"] for r in rows if r["protocol"] == "predecessors"} == {0, 400}
    section = ocr_report.describe(context, rows, ocr.ARMS)
    assert any("F1 of the rare classes" in t.title for t in section.tables)
    json.dumps(section.numbers)


@pytest.fixture
def watched(context, tmp_path, monkeypatch):
    """A Study whose networks are not trained: (study, what classifiers were given, what generators were given)."""
    classifiers, generators = [], []

    def train_classifier(x, y, steps, seed, augment, synthetic, **options):
        images = 0 if x is None else len(x)
        classifiers.append({"images": images, "augment": augment, "synthetic": synthetic, **options})

    def train_generator(name, glyphs, seed, steps, device, **options):
        generators.append({"images": len(glyphs.x_train), **options})
    monkeypatch.setattr(ocr, "train_classifier", train_classifier)
    monkeypatch.setattr(ocr, "train_generator", train_generator)
    monkeypatch.setattr(ocr, "sample_all", lambda source, n, seed, digits: (
        np.zeros((n, 28, 28), np.uint8), np.resize(digits or range(10), n), None))
    return ocr.Study(data.replace(context, out=tmp_path), steps=5, generator_steps=3, tries=1), classifiers, generators


def test_what_a_classifier_of_each_arm_is_given(watched):
    study, given, _ = watched
    case, made = study.make_case("rare", 4, 1), (np.zeros((5, 28, 28), np.uint8), np.zeros(5, np.int64))
    for name, synthetic in (("real", None), ("cgan", made), ("weighted", None), ("tuned", None)):
        study.train(case, ocr.UNEVEN[name], {"elastic": 20.0, "filter": True}, 0, synthetic)
    assert [(g["balanced"], g["augment"]) for g in given] == [(True, "none"), (True, "none"), (False, "classical"),
                                                               (True, "classical")]
    assert [g["synthetic"] for g in given] == [None, made, None, None] and {g["images"] for g in given} == {7 * 40 + 12}
    assert all(g["elastic"] == 20.0 and "filter" not in g for g in given)
    weights = given[2]["class_weights"]                    # in inverse proportion to the size of a class
    assert weights[case.rare] / np.delete(weights, case.rare)[:3] == pytest.approx(10)
    assert "class_weights" not in given[3]
    study.train(study.make_case("few", 4, 1), ocr.FEW["cgan-only"], {}, 0, made)
    assert given[-1]["images"] == 0 and given[-1]["synthetic"] is made


def test_what_a_generator_of_each_arm_is_given(watched):
    study, _, given = watched
    for protocol, n, name in (("few", 4, "cgan"), ("few", 4, "cgan+tuned"), ("rare", 4, "cgan+tuned"),
                              ("predecessors", 5, "cgan-only")):
        case, arm = study.make_case(protocol, n, 1), ocr.ARMS[protocol][name]
        (_, labels), facts = study.synthetic(case, protocol, n, 1, arm, {})
        assert facts["made"] == len(labels) == ocr.POOL and facts["generator_images"] == given[-1]["images"]
        assert set(labels) == set(case.rare if protocol == "rare" else range(10))
        study.synthetic(case, protocol, n, 1, arm, {})     # is trained once
    assert given == [{"images": 40, "balance": 0.0, "diffaugment": 0}, {"images": 40, "balance": 0.0, "diffaugment": 2},
                     {"images": 7 * 40 + 12, "balance": 1.0, "diffaugment": 0},
                     {"images": 400, "balance": 0.0, "diffaugment": 0}]


@pytest.mark.parametrize("share, kept", [(0.4, 40), (0.05, 100)])
def test_samples_are_filtered_by_a_classifier_that_can_be_trusted(watched, monkeypatch, share, kept):
    study, trained, _ = watched
    case, right = study.make_case("few", 4, 1), np.arange(ocr.POOL) < share * ocr.POOL
    monkeypatch.setattr(ocr, "predict", lambda model, images: np.where(right, np.resize(range(10), ocr.POOL), -1))
    (images, labels), facts = study.synthetic(case, "few", 4, 1, ocr.FEW["cgan+tuned"], {"filter": True})
    assert facts["kept"] == len(images) == len(labels) == kept
    assert trained == [{**trained[0], "images": 40, "augment": "classical", "synthetic": None}], "of real images alone"


def test_scores_of_rare_classes_are_of_these_alone(monkeypatch):
    y = np.array([0, 0, 1, 1, 2, 2])
    answers = np.array([0, 0, 1, 0, 2, 0])                 # recall 1, 1/2, 1/2; precision 1/2, 1, 1; F1 2/3 each
    monkeypatch.setattr(ocr, "predict_probabilities", lambda model, x: np.eye(3)[answers])
    row = ocr.score(None, None, y, 3, np.array([1, 2]), bits=True)
    assert (row["rare_precision"], row["rare_recall"], row["rare_f1"]) == (1.0, 0.5, 0.66667)
    assert row["accuracy"] == 0.66667 and ocr_report.correct({"test": row}).tolist() == (answers == y).tolist()
    assert "rare_f1" not in ocr.score(None, None, y, 3, np.array([], np.int64))


def test_simulator_only_where_it_draws_the_script(context):
    assert ocr.simulated_script(context.glyphs, named=True) is None        # drawn by the simulator itself
    real = data.replace(context.glyphs, synthetic=False)
    assert ocr.simulated_script(real) is None and ocr.simulated_script(real, named=True) == "digits"
    assert ocr.simulated_script(data.replace(real, name="mnist")) == "digits"
    assert ocr.simulated_script(data.replace(real, name="arabic_by_writer")) == "arabic"
    assert ocr.simulated_script(data.replace(real, classes=list("abcdefghij")), named=True) is None


def test_of_an_interrupted_study_the_largest_complete_table_is_shown(context):
    def rows(*pairs):
        return [{"arm": a, "seed": s} for s, arms in pairs for a in arms]

    def kept(*pairs):
        return {(r["arm"], r["seed"]) for r in ocr.complete(rows(*pairs))}
    assert kept((0, "ab"), (1, "ab"), (2, "a")) == {("a", 0), ("b", 0), ("a", 1), ("b", 1)}
    assert kept((0, "abc"), (1, "ab"), (2, "ab")) == {(a, s) for a in "ab" for s in (0, 1, 2)}
    assert kept((0, "abcd")) == set()                                  # one seed proves nothing
    assert kept((0, "abcde"), (1, "ab"), (2, "ab")) == {(a, s) for a in "ab" for s in (0, 1, 2)}


def test_of_several_budgets_the_one_just_run_is_shown_else_the_longest():
    def rows(steps, seeds, tries=2, protocol="few"):
        return [{"protocol": protocol, "n": 4, "arm": a, "seed": s, "steps": steps, "generator_steps": 1, "tries": tries,
                 "try": None} for s in range(seeds) for a in ("real", "cvae")]
    stored = rows(10, 3) + rows(20, 2) + rows(30, 5, tries=1) + rows(10, 2, protocol="rare")
    assert ocr.rows_to_show(stored) == rows(10, 3) + rows(10, 2, protocol="rare")
    assert ocr.rows_to_show(stored, rows(20, 2)[:1]) == rows(20, 2) + rows(10, 2, protocol="rare")
    assert ocr.rows_to_show(stored, rows(30, 5, tries=1)) == rows(30, 5, tries=1) + rows(10, 2, protocol="rare")
    assert ocr.rows_to_show([]) == []


def test_numbers_of_images_are_those_that_mean_something(context):
    y = np.repeat(np.arange(4), [8, 20, 40, 80])
    glyphs = data.replace(context.glyphs, x_train=np.zeros((148, 28, 28), np.uint8), y_train=y, classes=list("abcd"))
    said = []

    def sizes(protocol, *asked):
        return ocr.counts_of(protocol, Context(glyphs, None, None, 2, list(asked), False, say=lambda *a: said.append(a)))
    assert sizes("tail") == [5] and sizes("rare") == [5, 10, 20, 50] and sizes("few") == [10, 50, None]
    assert not said and sizes("tail", 4, 10) == [4] and "up to 8" in said[0][0]
    assert sizes("few", 10, 10, None) == [10, 10, None] and sizes("rare", None) == []
    glyphs = data.replace(glyphs, x_train=glyphs.x_train[8 - 3:], y_train=y[8 - 3:])
    assert sizes("tail") == [3] and sizes("predecessors") == [125]
    glyphs = data.replace(glyphs, x_train=glyphs.x_train[:4], y_train=np.arange(4))
    assert sizes("rare") == [] and sizes("few") == [None]              # one image of each class: none can be rarer


# ---- the report: planted rows, known answers -----------------------------------------------------

def planted(arm, seed, accuracy, n=10, val=None):
    right = np.arange(1000) < round(1000 * accuracy)
    names = ("accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "ece")
    bits = base64.b64encode(np.packbits(right).tobytes()).decode()
    test = dict.fromkeys(names, accuracy) | {"images": 1000, "right": bits}
    return {"protocol": "few", "arm": arm, "n": n, "seed": seed, "steps": 5, "generator_steps": 5, "batch": 64,
            "tries": 4, "settings": {}, "seconds": 1.0, "test": test, "val": {"balanced_accuracy": val or accuracy}}


def describe(context, **accuracies):
    return ocr_report.describe(context, [planted(a.replace("_", "+"), s, v) for a, vs in accuracies.items()
                                         for s, v in enumerate(vs)], ocr.ARMS)


def test_what_holm_does_not_let_pass_is_not_counted():
    comparisons = [{"mean": m, "p": 0.03, "holm": h} for m, h in ((0.1, 0.04), (-0.1, 0.04), (0.1, 0.06), (-0.1, 0.06))]
    assert ocr_report.count([*comparisons, {"mean": 0.1, "p": np.nan, "holm": np.nan}]) == (1, 1, 4)


def test_words_follow_from_the_numbers(context):
    base = [0.900, 0.905, 0.910, 0.902, 0.908]
    jitter = np.array([0.001, -0.001, 0.002, 0.0, -0.002])
    up, same, down = (describe(context, tuned=base, real=[0.8] * 5, cgan_tuned=np.array(base) + d + jitter)
                      for d in (0.02, 0.0, -0.02))
    for section, text in ((up, "better in 1, worse in 0"), (same, "better in 0, worse in 0, undecided in 1"),
                          (down, "better in 0, worse in 1")):
        assert text in section.paragraphs[0]
    start = "Beside classical augmentation, generators trained on the same real images helped in "
    assert up.answer == (start + "1 and harmed in 0 of 1 comparisons (at most +2.00 ± 0.20 points of accuracy, 10 images "
                         "per class).")
    assert down.answer == start + "0 and harmed in 1 of 1 comparisons."
    c, = up.numbers["protocols"][0]["comparisons"]
    assert (c["against"], c["mcnemar_better"], c["mcnemar_worse"]) == ("tuned", 5, 0)
    assert c["mean"] == pytest.approx(0.02) and c["p"] < 0.001
    assert up.figures[0].alt and up.figures[0].image.size[0] > 300
    assert up.tables[0].rows[1] == ["real, augmented", "90.50 ± 0.51"]


def test_the_arm_to_beat_is_chosen_on_val(context):
    arms = ("tuned", 0.90, 0.95), ("real", 0.92, 0.91), ("cgan+tuned", 0.91, 0.9)
    rows = [planted(a, s, test, val=val) for a, test, val in arms for s in (0, 1)]
    c, = ocr_report.describe(context, rows, ocr.ARMS).numbers["protocols"][0]["comparisons"]
    assert c["against"] == "tuned"


def test_bare_arms_are_also_compared_with_bare_real_images(context):
    section = describe(context, real=[0.70, 0.72, 0.71], tuned=[0.90, 0.92, 0.91], cgan=[0.80, 0.83, 0.81])
    comparisons = {c["against"]: c for c in section.numbers["protocols"][0]["comparisons"]}
    assert comparisons["real"]["mean"] > 0.09 and comparisons["tuned"]["mean"] < -0.09
    assert {c["question"][1] for c in comparisons.values()} == {"bare", "instead"}
    assert section.answer.startswith("Where nothing is augmented, generators") and "helped in 1 " in section.answer
    assert sum("nothing is augmented" in text and "better in 1" in text for text in section.paragraphs) == 1


def test_one_seed_claims_nothing(context):
    section = describe(context, tuned=[0.9], cgan_tuned=[0.99])
    assert section.answer.startswith("Too few seeds")
    assert "of 0 comparisons." in section.paragraphs[0] and "(p n/a" in section.paragraphs[0]
    assert "±" not in section.tables[0].rows[0][1]
    json.dumps(section.numbers)


# ---- the command ---------------------------------------------------------------------------------

def test_command_resumes_and_reports(small_npz, tmp_path, capsys):
    words = ("--dataset", small_npz, "--only", "ocr", "--protocols", "few", "--per-class", "3", "--arms", "real,tuned",
             "--seeds", "1", "--steps", "2", "--tries", "1", "--out", tmp_path)
    evaluate.main([str(w) for w in words])
    said = capsys.readouterr().out
    assert "seed 0, test" in said and "2/2" in said
    stored = json.loads((tmp_path / "ocr.json").read_text(encoding="utf-8"))
    assert stored["protocol"]["form"] == "quick"
    assert [r[0] for r in stored["tables"][0]["rows"]] == ["real images", "real, augmented"]
    rows = (tmp_path / "ocr.jsonl").read_bytes()
    done = command("evaluate.py", *words)                  # another process, which has nothing left to run
    assert done.returncode == 0, done.stderr
    assert "seed 0" not in done.stdout and (tmp_path / "ocr.jsonl").read_bytes() == rows
    assert json.loads((tmp_path / "ocr.json").read_text(encoding="utf-8"))["tables"] == stored["tables"]


def test_a_study_that_is_extended_shows_the_new_rows_too(context, tmp_path, monkeypatch):
    scores, images = dict.fromkeys(ocr_report.MEASURES, 0.5), len(context.glyphs.y_test)
    right = base64.b64encode(bytes(-(-images // 8))).decode()

    def run_one(study, protocol, name, n, seed, attempt):
        return study.cache.add(study.key(protocol, name, n, seed, attempt),
                               {"seconds": 0.0, "batch": 64, "settings": {}, "val": scores,
                                "test": {**scores, "images": images, "right": right}})
    shown = []

    def describe(context, rows, arms):
        shown.append(sorted({r["n"] for r in rows}))
        return Section("ocr", "?", [])
    monkeypatch.setattr(ocr.Study, "run_one", run_one)
    monkeypatch.setattr(ocr_report, "describe", describe)
    options = {"protocols": ["few"], "arms": ["real"]}
    for per_class in ([4], [8]):
        ocr.measure(data.replace(context, out=tmp_path, per_class=per_class, ocr=options))
    assert shown == [[4], [4, 8]]


def test_a_study_of_nothing_is_a_mistake(context):
    with pytest.raises(UserError, match="nothing to run.*--per-class"):
        ocr.run_study(data.replace(context, per_class=[None]), ["rare"])
