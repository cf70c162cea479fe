"""The simulator is reproducible, draws votes with the stated probabilities, and marks its files as simulated."""

from __future__ import annotations

import csv
import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from gzoo import cli, files, simulator
from gzoo.dataset.build import build
from gzoo.errors import GZooError, InputError, NotFoundError, OutputExistsError, WriteError
from gzoo.simulator import SimulateResult, blocks, positions
from gzoo.simulator.camera import draw_image, visible
from gzoo.simulator.export import workflows
from gzoo.simulator.galaxies import Galaxy, draw_galaxy
from gzoo.simulator.perception import Appearance, careful_log_odds
from gzoo.simulator.survey import SurveyView, survey_view
from gzoo.simulator.volunteers import (
    KINDS,
    MAX_REPEATS,
    N_SHIFTS,
    careful_probabilities,
    classify,
    kind_probabilities,
    parts,
    pool,
    population_probabilities,
)
from gzoo.trees.campaign import campaigns, tree
from gzoo.trees.tree import FloatArray, Question, Tree

GZ2 = tree("gz2")
CAMPAIGNS = [one.name for one in campaigns() if not one.members]


def simulate(
    out: Path, campaign: str = "gz2", n_galaxies: int = 3, images: bool = False, **more: Any
) -> SimulateResult:
    return simulator.simulate(campaign, n_galaxies=n_galaxies, images=images, out=out, **more)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def appearance(campaign: str, n: int) -> Appearance:
    view = survey_view(campaign)
    drawn = [draw_galaxy(np.random.default_rng([7, i]), view) for i in range(n)]
    return Appearance.of(drawn, [visible(galaxy, view) for galaxy in drawn])


# ---- reproducibility -----------------------------------------------------------------------------------------


def test_same_seed_gives_same_bytes_with_any_number_of_workers(tmp_path: Path) -> None:
    two = simulate(tmp_path / "two", "gz_candels", 66, seed=3, images=True, workers=2)  # two blocks for two workers
    one = simulate(tmp_path / "one", "gz_candels", 66, seed=3, images=True)
    assert contents(two.folder) == contents(one.folder)


def test_a_galaxy_depends_only_on_seed_and_index(tmp_path: Path) -> None:
    few = simulate(tmp_path / "few", "gz_desi", 70)
    many = simulate(tmp_path / "many", "gz_desi", 200)
    other = simulate(tmp_path / "other", "gz_desi", 70, seed=1)
    for kind in ("votes", "truth"):
        first, second = pq.read_table(getattr(few, kind)), pq.read_table(getattr(many, kind))
        assert first.equals(second.slice(0, 70))
    assert many.classifications.read_bytes().startswith(few.classifications.read_bytes())
    assert not pq.read_table(few.truth)["inclination"].equals(pq.read_table(other.truth)["inclination"])


def test_an_image_depends_only_on_seed_and_index(tmp_path: Path) -> None:
    few = simulate(tmp_path / "few", "gz_candels", 2, images=True)
    many = simulate(tmp_path / "many", "gz_candels", 3, images=True, export=False)
    assert {path.name for path in few.images.iterdir()} == {f"simulated-gz_candels-0-{i:06d}.jpg" for i in range(2)}
    for path in few.images.iterdir():
        assert path.read_bytes() == (many.images / path.name).read_bytes()
    assert not many.classifications.exists()


# ---- files ---------------------------------------------------------------------------------------------


def test_files_contain_every_answer_and_are_marked_as_simulated(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    made = simulate(tmp_path / "sky", n_galaxies=100, progress=lambda stage, done, total: steps.append((done, total)))
    assert steps == [(64, 100), (100, 100)]
    votes, truth = pq.read_table(made.votes), pq.read_table(made.truth)
    multiple = [question.total_column for question in GZ2.questions if question.multiple]
    assert votes.column_names == ["id_str", "dataset_name", "ra", "dec", "filename", *GZ2.columns, *multiple]
    assert votes["id_str"].to_pylist() == [f"simulated-gz2-0-{i:06d}" for i in range(100)]
    assert set(votes["dataset_name"].to_pylist()) == {"gz2_simulated"}
    assert {str(votes.schema.field(column).type) for column in (*GZ2.columns, *multiple)} == {"int32"}
    for ending, names in (
        ("probability", GZ2.columns),
        ("proportion_volunteers_asked", [question.name for question in GZ2.questions]),
    ):
        assert {f"{name}_{ending}" for name in names} <= set(truth.column_names)
        assert {f"{name}_{ending}_careful" for name in names} <= set(truth.column_names)
    volunteers = pq.read_table(made.volunteers)
    for table in (votes, truth, volunteers):
        assert json.loads((table.schema.metadata or {})[b"gzoo"])["kind"] == "simulation"
    assert sum(volunteers["n_classifications"].to_pylist()) == made.n_classifications
    assert all("simulated" in name for name in volunteers["name"].to_pylist())
    assert files.read_json(made.folder / "simulation.json")["kind"] == "simulation"


def test_the_export_looks_like_zooniverse(tmp_path: Path) -> None:
    made = simulate(tmp_path / "sky", "gz_hubble", 30)
    rows = list(csv.DictReader(made.classifications.open(encoding="utf-8", newline="")))
    assert len(rows) == made.n_classifications
    assert list(rows[0])[:7] == [
        *("classification_id", "user_name", "user_id", "user_ip"),
        *("workflow_id", "workflow_name", "workflow_version"),
    ]
    assert {row["workflow_version"] for row in rows} == {"2.10"}
    assert {row["workflow_name"] for row in rows} == {"Galaxy Zoo: Hubble (simulated)"}
    numbers = [int(row["classification_id"]) for row in rows]
    assert numbers == sorted(set(numbers))
    assert [row["created_at"] for row in rows] == sorted(row["created_at"] for row in rows)
    for row in rows:
        metadata, subjects = json.loads(row["metadata"]), json.loads(row["subject_data"])
        assert metadata["simulated"] is True
        assert metadata["started_at"] < metadata["finished_at"]
        assert subjects[row["subject_ids"]]["id_str"].startswith("simulated-gz_hubble-0-")
        assert "simulated" in row["user_name"]
        assert (row["user_id"] == "") == row["user_name"].startswith("not-logged-in")
        assert len(row["user_ip"]) == 10
        assert any(isinstance(one["value"], list) for one in json.loads(row["annotations"])) == any(
            one["task_label"] == "Odd features?" for one in json.loads(row["annotations"])
        )


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_every_classification_follows_the_workflow(tmp_path: Path, campaign: str) -> None:
    made = simulate(tmp_path / "sky", campaign, 20)
    tasks: dict[str, dict[str, Any]] = {}
    strings: dict[str, dict[str, str]] = {}
    for row in csv.DictReader(made.workflows.open(encoding="utf-8", newline="")):
        assert f"{row['version']}.{row['minor_version']}" == "2.10"
        tasks[row["workflow_id"]], strings[row["workflow_id"]] = json.loads(row["tasks"]), json.loads(row["strings"])
    assert len(tasks) == len(workflows(campaign)) == (3 if campaign == "gz_desi" else 1)
    n_steps = 0
    for row in csv.DictReader(made.classifications.open(encoding="utf-8", newline="")):
        task_of, words = tasks[row["workflow_id"]], strings[row["workflow_id"]]
        expected: str | None = "T0"
        for one in json.loads(row["annotations"]):
            assert one["task"] == expected
            task = task_of[one["task"]]
            assert one["task_label"] == words[task["question"]]
            labels = {words[answer["label"]]: answer for answer in task["answers"]}
            if task["type"] == "multiple":
                assert set(one["value"]) <= set(labels)
                expected = task.get("next")
            else:
                expected = labels[one["value"]].get("next")
            n_steps += 1
        assert expected is None
    assert n_steps >= made.n_classifications


# ---- votes -----------------------------------------------------------------------------------------------------------


def answers_in(made: SimulateResult) -> pl.DataFrame:
    """Return one row per answer, without repeats, by polars alone: who, id_str, column."""
    value = pl.List(pl.Struct({"task": pl.String, "value": pl.List(pl.String)}))
    words = [
        (row["workflow_id"], key, json.loads(row["strings"])[answer["label"]], column)
        for row in csv.DictReader(made.workflows.open(encoding="utf-8", newline=""))
        for (key, task), question in zip(
            json.loads(row["tasks"]).items(),
            next(flow for flow in workflows(made.campaign) if str(flow.id) == row["workflow_id"]).questions,
            strict=True,
        )
        for answer, column in zip(task["answers"], question.columns, strict=True)
    ]
    return (
        pl.read_csv(made.classifications, infer_schema=False)
        .with_columns(who=pl.coalesce("user_id", "user_ip"))
        .unique(["who", "subject_ids"], keep="first", maintain_order=True)
        .with_columns(
            id_str=pl.col("subject_data").str.extract(r'"id_str":"([^"]+)"'),
            annotations=pl.col("annotations").str.replace_all(r'"value":("[^"]*")', '"value":[$1]'),
        )
        .select("who", "id_str", "workflow_id", pl.col("annotations").str.json_decode(value))
        .explode("annotations")
        .unnest("annotations")
        .explode("value")
        .join(
            pl.DataFrame(words, schema=["workflow_id", "task", "value", "column"], orient="row"),
            on=["workflow_id", "task", "value"],
        )
    )


@pytest.mark.parametrize("campaign", ["gz2", "gz_desi", "gz_hubble", "gz_candels", "gz_rings", "gz_euclid"])
def test_votes_counted_from_the_export_equal_the_vote_table(tmp_path: Path, campaign: str) -> None:
    made = simulate(tmp_path / "sky", campaign, 200)
    counted = answers_in(made).group_by("id_str", "column").len()
    votes = pl.read_parquet(made.votes)
    written = (
        votes.select("id_str", *tree(campaign).columns)
        .unpivot(index="id_str", variable_name="column", value_name="len")
        .filter(pl.col("len") > 0)
        .with_columns(pl.col("len").cast(pl.UInt32))
    )
    order = ["id_str", "column"]
    assert counted.sort(order).equals(written.select(counted.columns).sort(order))
    rows = pl.read_csv(made.classifications, infer_schema=False)
    n_repeats = rows.height - rows.unique(["user_name", "subject_ids"]).height
    assert 0 < n_repeats < 0.03 * rows.height


def test_votes_obey_the_tree(tmp_path: Path) -> None:
    for campaign in CAMPAIGNS:
        made = simulate(tmp_path / campaign, campaign, 60, export=False)
        counts = pl.read_parquet(made.votes).select(tree(campaign).columns).to_numpy()
        asked_in = pl.read_parquet(made.truth)["asked_in"].to_list()
        place = {column: i for i, column in enumerate(tree(campaign).columns)}
        for part in parts(tree(campaign)):
            shown = np.array([one == part.name for one in asked_in])
            fewest, most = min(one for _, one, _ in part.votes), max(one for _, _, one in part.votes)
            for question in part.questions:
                own = counts[:, [place[column] for column in question.columns]]
                assert not own[~shown].any()
                if question.parents:
                    asked = counts[:, [place[parent] for parent in question.parents]].sum(axis=1)
                    assert (own.max(axis=1) <= asked).all() if question.multiple else (own.sum(axis=1) == asked).all()
                else:
                    assert (fewest <= own[shown].sum(axis=1)).all()
                    assert (own[shown].sum(axis=1) <= most).all()


def test_many_galaxies_of_decals_have_few_votes(tmp_path: Path) -> None:
    made = simulate(tmp_path / "sky", "gz_desi", 400, export=False)
    votes = pl.read_parquet(made.votes)
    total = votes.select(pl.sum_horizontal("^smooth-or-featured-dr5_.*$")).to_series().to_numpy()
    total = total[total > 0]
    assert 0.3 < len(total) / 400 < 0.7
    assert 0.6 < (total <= 8).mean() < 0.9
    assert total.max() > 32


def test_mean_votes_agree_with_the_population_probabilities(tmp_path: Path) -> None:
    made = simulate(tmp_path / "sky", n_galaxies=1500, export=False)
    votes, truth = pl.read_parquet(made.votes), pl.read_parquet(made.truth)
    counts = votes.select(GZ2.columns).to_numpy()
    totals = GZ2.totals(counts)[:, list(GZ2.question_of_answer)]
    chances = truth.select([f"{column}_probability" for column in GZ2.columns]).to_numpy()
    misses = np.divide(counts, totals, out=chances.astype(np.float64), where=totals > 0) - chances
    z = misses.sum(axis=0) / np.sqrt((misses**2).sum(axis=0))
    assert np.abs(z).max() < 4.0  # 37 answers: passed by chance at 99.8 %
    assert np.sqrt((z**2).mean()) < 1.4


# ---- volunteers ------------------------------------------------------------------------------------------------------


def test_a_volunteer_depends_only_on_the_seed() -> None:
    assert np.array_equal(pool(5).kind, pool(5).kind)
    assert not np.array_equal(pool(5).kind, pool(6).kind)
    volunteers = pool(5)
    assert volunteers.activity.reshape(N_SHIFTS, -1).sum(axis=1) == pytest.approx(np.full(N_SHIFTS, 1 / N_SHIFTS))
    assert volunteers.fractions.sum() == pytest.approx(1.0)
    bots = np.array([KINDS[kind].bot != "" for kind in volunteers.kind])
    assert 0 < bots.mean() < 0.02
    assert 0.08 < volunteers.is_anonymous.mean() < 0.16
    assert np.sort(volunteers.activity)[-len(bots) // 10 :].sum() > 0.4  # a few do much of the work


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_probabilities_are_valid(campaign: str) -> None:
    questions = tree(campaign)
    odds = careful_log_odds(questions, appearance(campaign, 100))
    of_kinds = kind_probabilities(questions, odds)
    assert of_kinds.shape == (100, len(KINDS), len(questions.columns))
    assert ((of_kinds >= 0) & (of_kinds <= 1)).all()
    population, proportion_asked = population_probabilities(questions, of_kinds, pool(0).fractions)
    careful = careful_probabilities(questions, odds)
    for chances in (careful, population):
        assert ((chances > 0) & (chances < 1)).all()
        for question in questions.questions:
            if not question.multiple:
                assert chances[:, questions.slice(question.name)].sum(axis=1) == pytest.approx(1.0)
    assert questions.proportion_asked(population) == pytest.approx(proportion_asked)
    assert ((proportion_asked > 0) & (proportion_asked <= 1 + 1e-12)).all()


@pytest.mark.parametrize("campaign", ["gz2", "gz_candels", "gz_euclid"])
def test_classifications_follow_the_population_probabilities(campaign: str) -> None:
    questions, volunteers = tree(campaign), pool(1)
    chances = kind_probabilities(questions, careful_log_odds(questions, appearance(campaign, 4)))
    population, proportion_asked = population_probabilities(questions, chances, volunteers.fractions)
    for i in range(4):
        many = np.repeat(chances[i : i + 1], 1000, axis=0)
        _, drawn = classify(questions, many, volunteers, 1000, np.random.default_rng(i))
        first = drawn.given[~drawn.is_repeat]
        expected = population[i] * proportion_asked[i][list(questions.question_of_answer)]
        error = np.sqrt(expected * (1 - expected) / len(first))
        assert np.abs((first.mean(axis=0) - expected) / error).max() < 4.5
        # Votes are nearly independent, as the noise correction f (1 - f) / (n - 1) assumes.
        root = drawn.counts(1000)[:, questions.slice(questions.questions[0].name)]
        total, chance = root.sum(axis=1), population[i, 0]
        excess = (root[:, 0] / total - chance) ** 2 / (chance * (1 - chance) / total)
        assert excess.mean() == pytest.approx(1.0, abs=4.5 * excess.std() / np.sqrt(1000))
        for galaxy in range(50):
            own = drawn.galaxy == galaxy
            met, repeat = drawn.volunteer[own], drawn.is_repeat[own]
            assert len(np.unique(met)) == (~repeat).sum()
            assert repeat.sum() <= MAX_REPEATS
            assert not repeat[: (~repeat).sum()].any()  # repeats come later


def test_invisible_parts_are_not_reported() -> None:
    s = appearance("gz2", 400)
    barred = (s["bar_strength"] > 0.6) & (s["inclination"] < 50) & (s["bulge_fraction"] < 0.5)
    barred &= s.is_one_of("artifact", "") > 0
    assert barred.sum() > 5
    blind = Appearance(s.galaxy, {name: np.zeros_like(values) for name, values in s.visibility.items()})
    clear = Appearance(s.galaxy, {name: np.maximum(values, 12.0) for name, values in s.visibility.items()})
    yes = GZ2.columns.index("bar-gz2_yes")
    assert careful_probabilities(GZ2, careful_log_odds(GZ2, blind))[barred, yes].max() < 0.08
    assert careful_probabilities(GZ2, careful_log_odds(GZ2, clear))[barred, yes].min() > 0.85


def test_care_and_leaning_change_the_answers() -> None:
    chances = kind_probabilities(GZ2, careful_log_odds(GZ2, appearance("gz2", 50)))
    careful = careful_probabilities(GZ2, careful_log_odds(GZ2, appearance("gz2", 50)))
    smooth = GZ2.columns.index("smooth-or-featured-gz2_smooth")
    by_leaning = [chances[:, i, smooth] for i, kind in enumerate(KINDS) if kind.care == 0.98]
    assert all((one < two).all() for one, two in itertools.pairwise(by_leaning))
    distance = [np.abs(chances[:, i] - careful).mean() for i, kind in enumerate(KINDS) if kind.leaning == 0]
    assert distance[:5] == sorted(distance[:5])  # less care, further from careful answers
    bots = {kind.bot: chances[:, i] for i, kind in enumerate(KINDS) if kind.bot}
    assert set(bots) == {"random", "first", "last"}
    assert (bots["first"][:, smooth] == 1).all()
    assert bots["random"][:, smooth] == pytest.approx(1 / 3)


def test_unknown_questions_and_answers_are_rejected() -> None:
    for question in (
        Question("is-it-pretty", ("yes", "no"), ("is-it-pretty_yes", "is-it-pretty_no")),
        Question("bar-new", ("yes", "perhaps"), ("bar-new_yes", "bar-new_perhaps")),
    ):
        with pytest.raises(InputError, match="Simulated volunteers"):
            careful_log_odds(Tree("new", (question,)), appearance("gz2", 1))


# ---- the sky ---------------------------------------------------------------------------------------------------------


def separation_arcsec(ra: FloatArray, dec: FloatArray, other_ra: FloatArray, other_dec: FloatArray) -> FloatArray:
    east = (ra - other_ra + 180) % 360 - 180
    return 3600 * np.hypot(east * np.cos(np.radians(dec)), dec - other_dec)


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_positions_are_in_the_footprint_and_clustered(campaign: str) -> None:
    drawn = [positions.draw_positions(campaign, [0], block, 64) for block in range(30)]
    ra, dec = (np.concatenate(one) for one in zip(*drawn, strict=True))
    assert ((ra >= 0) & (ra < 360) & (dec >= -90) & (dec <= 90)).all()
    nearest = np.sort(separation_arcsec(ra[:, None], dec[:, None], ra[None], dec[None]), axis=1)[:, 1]
    assert (nearest < 15).mean() > 0.03
    if campaign in {"gz2", "gz_desi"}:
        assert np.ptp(dec) > 50
        assert 0.1 < (nearest < 180).mean() < 0.5  # clusters, in a sky that is otherwise empty
    if campaign == "gz_jwst_cosmos":
        assert np.abs(dec - 2.2).max() < 0.6


def test_another_campaign_observes_the_same_galaxies(tmp_path: Path) -> None:
    source = simulate(tmp_path / "gz2", n_galaxies=100)
    again = simulate(tmp_path / "again", "gz_candels", 80, seed=9, galaxies_from=source.folder)
    old, new = pl.read_parquet(source.truth)[:80], pl.read_parquet(again.truth)
    assert new["source_id_str"].equals(old["id_str"].rename("source_id_str"))
    assert new["id_str"][0] == "simulated-gz_candels-9-000000"
    for name in ("inclination", "n_arms", "redshift", "radius_arcsec", "bulge_fraction"):
        assert new[name].equals(old[name])
    place = [one[name].to_numpy() for one in (old, new) for name in ("ra", "dec")]
    moved = separation_arcsec(*place)
    assert 0.1 < np.median(moved) < 0.3
    assert moved.max() < 1.0
    few = simulate(tmp_path / "few", "gz_candels", 5, seed=9, galaxies_from=source.folder, workers=2)
    assert pq.read_table(few.truth).equals(pq.read_table(again.truth).slice(0, 5))
    third = simulate(tmp_path / "third", "gz_rings", 70, galaxies_from=again.folder)
    assert pl.read_parquet(third.truth)["source_id_str"][69] == "simulated-gz_candels-9-000069"


def test_an_invalid_source_is_rejected(tmp_path: Path) -> None:
    source = simulate(tmp_path / "sky", n_galaxies=2)
    with pytest.raises(NotFoundError, match="not found"):
        simulate(tmp_path / "out", galaxies_from=tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="not a finished simulation"):
        simulate(tmp_path / "out", galaxies_from=tmp_path / "other")
    with pytest.raises(InputError, match="contains 2 galaxies"):
        simulate(tmp_path / "out", n_galaxies=3, galaxies_from=source.folder)
    pl.read_parquet(source.truth).drop("n_arms").write_parquet(source.truth)
    with pytest.raises(InputError, match="column 'n_arms'"):
        simulate(tmp_path / "out", n_galaxies=1, galaxies_from=source.folder)
    source.truth.write_bytes(b"not parquet")
    with pytest.raises(InputError, match="Cannot read"):
        simulate(tmp_path / "out", n_galaxies=1, galaxies_from=source.folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "sky"]


# ---- errors and interruptions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"campaign": "gz9"}, "gz9"),
        ({"campaign": "gz_evo"}, "Simulate its members"),
        ({"n_galaxies": 0}, "n_galaxies must be .* got 0"),
        ({"n_galaxies": -5}, "n_galaxies must be .* got -5"),
        ({"workers": 0}, "workers must be .* got 0"),
        ({"seed": -1}, "seed must be .* got -1"),
    ],
)
def test_invalid_arguments_are_rejected(tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(GZooError, match=words):
        simulate(tmp_path / "sky", **arguments)
    assert not any(tmp_path.iterdir())


def test_the_command_writes_all_files_and_reports_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exit_code(*words: str) -> object:
        monkeypatch.setattr(sys, "argv", ["gzoo", "simulate", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code

    assert exit_code("gz_rings", "--n-galaxies", "2", "--out", str(tmp_path / "sky")) == 0
    assert {path.name for path in (tmp_path / "sky").iterdir()} == {
        *("images", "classifications.csv", "workflows.csv", "votes.parquet"),
        *("truth.parquet", "volunteers.parquet", "simulation.json"),
    }
    assert exit_code("gz_evo", "--n-galaxies", "2", "--out", str(tmp_path / "evo")) == 1
    assert exit_code("gz2", "--n-galaxies", "many", "--out", str(tmp_path / "many")) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"sky"}


@pytest.mark.parametrize("n_before", [0, 1, 3, 4])
def test_a_full_disk_is_reported_and_keeps_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_before: int
) -> None:
    calls: list[int] = []
    sync = os.fsync

    def full(file: int) -> None:
        calls.append(file)
        if len(calls) > n_before:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match=r"(?s)No space left.*Free some space"):
        simulate(tmp_path / "sky", n_galaxies=2, images=True)
    is_begun = n_before > 0  # otherwise the marker of the unfinished work cannot be written
    assert [path.name for path in tmp_path.iterdir()] == [".sky.gzoo-partial"] * is_begun
    assert len(list(tmp_path.glob("*/images/*.jpg"))) == 2 * is_begun
    monkeypatch.setattr(os, "fsync", sync)
    simulate(tmp_path / "sky", n_galaxies=2, images=True)
    assert [path.name for path in tmp_path.iterdir()] == ["sky"]


SMALL_DISK = """
import pathlib, sys
from gzoo.errors import WriteError
from gzoo.simulator import simulate
if __name__ == "__main__":
    disk = pathlib.Path(sys.argv[1])
    for workers, images in ((1, False), (2, True)):
        try:
            simulate("gz_candels", n_galaxies=70, workers=workers, images=images, out=disk / "sky")
        except WriteError as error:
            print(error.message, [path.name for path in disk.iterdir()])
"""


@pytest.mark.slow
def test_a_small_disk_is_reported_as_full(tmp_path: Path) -> None:
    disk, script = tmp_path / "disk", tmp_path / "script.py"
    disk.mkdir()
    script.write_text(SMALL_DISK)
    # The mount belongs to the child process, and ends with it.
    mount = f"mount -t tmpfs -o size=300k none {disk}"
    own = ["unshare", "--mount", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*own, mount], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not permitted on this system")
    run = f"{mount} && exec {sys.executable} {script} {disk}"
    said = subprocess.run([*own, run], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(said) == 2
    for line, left in zip(said, ("[]", "['.sky.gzoo-partial']"), strict=True):  # the second has finished images
        assert "No space left on device" in line
        assert line.endswith(left)


def test_an_unwritable_folder_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match="Cannot write"):
        simulate(tmp_path / "file" / "sky")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(WriteError, match=r"(?s)Permission denied.*--out"):
        simulate(tmp_path / "sky")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_finished_simulation_is_overwritten_only_on_request(tmp_path: Path) -> None:
    simulate(tmp_path / "sky", n_galaxies=1)
    with pytest.raises(OutputExistsError):
        simulate(tmp_path / "sky", n_galaxies=1)
    made = simulate(tmp_path / "sky", n_galaxies=1, seed=1, overwrite=True)
    assert pq.read_table(made.votes)["id_str"].to_pylist() == ["simulated-gz2-1-000000"]


def test_an_interrupted_simulation_resumes_without_drawing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Galaxy] = []

    def two(galaxy: Galaxy, survey: SurveyView, rng: np.random.Generator) -> object:
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(galaxy)
        return draw_image(galaxy, survey, rng)

    monkeypatch.setattr(blocks, "draw_image", two)
    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "sky", n_galaxies=3, images=True)
    assert not (tmp_path / "sky").exists()
    drawn[:] = drawn[:1]  # one more may be drawn
    simulate(tmp_path / "sky", n_galaxies=3, images=True)
    assert len(drawn) == 2
    monkeypatch.setattr(blocks, "draw_image", draw_image)
    simulate(tmp_path / "whole", n_galaxies=3, images=True)
    assert contents(tmp_path / "sky") == contents(tmp_path / "whole")


def test_a_killed_simulation_resumes(tmp_path: Path) -> None:
    out = tmp_path / "sky"
    begin = f"from gzoo.simulator import simulate; simulate('gz2', n_galaxies=24, out={str(out)!r})"
    process = subprocess.Popen([sys.executable, "-c", begin])
    images = files.partial_name(out) / "images"
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline and len(list(images.glob("*.jpg"))) < 3:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    assert len(list(images.glob("*.jpg"))) < 24
    with pytest.raises(OutputExistsError, match="unfinished work of another command"):
        simulate(out, n_galaxies=23, images=True)
    simulate(out, n_galaxies=24, images=True)
    simulate(tmp_path / "whole", n_galaxies=24, images=True)
    assert contents(out) == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sky", "whole"]


def test_a_dataset_can_be_built(tmp_path: Path) -> None:
    for campaign in ("gz_desi", "gz_candels"):
        made = simulate(tmp_path / campaign, campaign, 12, images=True)
        built = build(campaign, votes=made.votes, images=made.images, out=tmp_path / f"{campaign}-dataset")
        assert sum(cast("dict[str, int]", built.n_galaxies).values()) == 12
