"""Catalogues of posterior vote fractions: their columns, their formats, and which predictions are accepted."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

import gzoo
from gzoo.dataset.open import open_dataset
from gzoo.errors import GZooWarning, InputError, NotFoundError, OutputExistsError, TableError
from gzoo.scoring.likelihood import fit_baseline
from gzoo.scoring.posterior import posterior
from gzoo.scoring.prediction_files import prediction_table, write_prediction_table
from gzoo.scoring.predictions import read_predictions
from gzoo.trees.campaign import campaign

GZ2 = campaign("gz2").published_tree


# the predictions of these tests are invented, and catalogues say so
pytestmark = pytest.mark.filterwarnings(
    "ignore:The predictions do not agree with held-out votes:gzoo.errors.GZooWarning"
)


def predictions(folder: Path, dataset: Path, name: str, splits: tuple[str, ...] = ("test",), **more: object) -> Path:
    opened = open_dataset(dataset)
    keys = pl.concat([opened.read_votes(split)[0] for split in splits])
    rng = np.random.default_rng(len(name))
    values = {f"{column}_concentration": rng.uniform(0.5, 5, keys.height) for column in GZ2.columns}
    path = folder / name
    keys.with_columns(**values, **{key: pl.lit(value) for key, value in more.items()}).write_parquet(path)  # type: ignore[arg-type]
    return path


def test_a_catalogue_contains_the_posterior_of_each_galaxy(dataset: Path, tmp_path: Path) -> None:
    path = predictions(tmp_path, dataset, "p.parquet")
    made = gzoo.catalog([path], dataset, out=tmp_path / "c.parquet", names="published")
    table = pl.read_parquet(made.path)
    opened = open_dataset(dataset)
    keys, votes = opened.read_votes("test")
    assert made.n_galaxies == table.height == len(votes)
    assert made.n_with_votes == len(votes)
    assert table["_healpix_29"].is_sorted()
    table = keys.join(table, on=["dataset_name", "id_str"], how="left", maintain_order="left")
    positions = opened.positions("test")
    assert table.select("ra", "dec").equals(positions.select("ra", "dec"))
    read = read_predictions(path, GZ2)
    found = posterior(votes, read.concentrations)
    for i, column in enumerate(GZ2.columns):
        np.testing.assert_allclose(table[f"{column}_posterior_mean"].to_numpy(), found.fractions[:, i], rtol=1e-6)
        np.testing.assert_allclose(table[f"{column}_posterior_low"].to_numpy(), found.interval(0.9)[0][:, i], rtol=1e-5)
    for i, question in enumerate(GZ2.questions):
        np.testing.assert_allclose(
            table[f"{question.name}_proportion_volunteers_asked"].to_numpy(), found.proportion_asked[:, i], rtol=1e-6
        )
        assert table[question.total_column].to_list() == votes.totals[:, i].tolist()
    for i, column in enumerate(GZ2.columns):
        assert table[f"{column}_vote_count"].to_list() == votes.counts[:, i].tolist()
        fractions = table[f"{column}_vote_fraction"].fill_null(np.nan).to_numpy()
        np.testing.assert_allclose(fractions, votes.fractions[:, i], rtol=1e-6)
    assert set(table["split"]) == {"test"}
    assert not table["in_training_set"].any()
    spans = [
        table[f"{question.name}_proportion_asked_high"] - table[f"{question.name}_proportion_asked_low"]
        for question in GZ2.questions
    ]
    assert spans[0].max() == 0  # every volunteer is asked the first question
    assert all(span.min() > 0 for span in spans[1:])
    about = json.loads(pq.read_schema(made.path).metadata[b"gzoo"])
    assert about["kind"] == "catalogue"
    assert about["predictions"][0]["file"] == "p.parquet"
    assert about["data_sha256"] == opened.digest
    assert about["is_simulated"] is made.is_simulated is True
    assert about["level"] == 0.9
    with pytest.raises(TableError, match="not found"):  # scoring it would use its votes twice
        read_predictions(made.path, GZ2)


def test_intervals_widen_with_their_level(dataset: Path, tmp_path: Path) -> None:
    path = predictions(tmp_path, dataset, "p.parquet")
    tables = [
        pl.read_parquet(
            gzoo.catalog([path], dataset, out=tmp_path / f"{level}.parquet", level=level, names="published").path
        )
        for level in (0.5, 0.99)
    ]
    for column in GZ2.columns:
        assert (tables[1][f"{column}_posterior_low"] < tables[0][f"{column}_posterior_low"]).all()
        assert (tables[1][f"{column}_posterior_high"] > tables[0][f"{column}_posterior_high"]).all()
    for level in (0.0, 1.0, 90.0, float("nan")):
        with pytest.raises(InputError, match="level must be between 0 and 1"):
            gzoo.catalog([path], dataset, out=tmp_path / "x.parquet", level=level)


def test_galaxies_of_the_training_set_are_rejected(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.parquet"
    seen = predictions(tmp_path, dataset, "seen.parquet", ("train", "test"))
    with pytest.raises(TableError, match=r"seen\.parquet' contains \d+ galaxies that the model was trained on"):
        gzoo.catalog([seen], dataset, out=out)
    flagged = predictions(tmp_path, dataset, "flagged.parquet", in_training_set=True)
    with pytest.raises(TableError, match="galaxies that the model was trained on"):
        gzoo.catalog([flagged], dataset, out=out)
    assert not list(tmp_path.glob("*c.parquet*"))


def test_out_of_fold_predictions_are_merged(dataset: Path, tmp_path: Path) -> None:
    """Each model was trained on half of the train split; each file predicts all of it."""
    keys, _ = open_dataset(dataset).read_votes("train")
    half = pl.Series(np.arange(keys.height) % 2 == 0)
    paths: list[Path] = []
    for name, seen in (("a.parquet", half), ("bb.parquet", ~half)):
        path = predictions(tmp_path, dataset, name, ("train",))
        pl.read_parquet(path).with_columns(in_training_set=seen).write_parquet(path)
        paths.append(path)
    with pytest.raises(TableError, match=f"{int(half.sum())} galaxies"):
        gzoo.catalog(paths[:1], dataset, out=tmp_path / "c.parquet")
    made = gzoo.catalog(paths, dataset, out=tmp_path / "c.parquet")
    table = pl.read_parquet(made.path)
    assert sorted(table["id_str"]) == sorted(keys["id_str"])
    about = json.loads(pq.read_schema(made.path).metadata[b"gzoo"])
    assert [one["file"] for one in about["predictions"]] == ["a.parquet", "bb.parquet"]
    with pytest.raises(TableError, match="several held-out predictions"):
        gzoo.catalog([*paths, paths[0]], dataset, out=tmp_path / "d.parquet")


def test_fractions_alone_cannot_be_combined(dataset: Path, tmp_path: Path) -> None:
    path = predictions(tmp_path, dataset, "p.parquet")
    read = read_predictions(path, GZ2)
    fractions = {f"{column}_fraction": read.fractions[:, i] for i, column in enumerate(GZ2.columns)}
    read.keys.with_columns(**fractions).write_parquet(path)
    with pytest.raises(TableError, match="contains only fractions"):
        gzoo.catalog([path], dataset, out=tmp_path / "c.parquet")


def test_questions_that_are_not_predicted_are_omitted_and_reported(dataset: Path, tmp_path: Path) -> None:
    path = predictions(tmp_path, dataset, "p.parquet")
    table = pl.read_parquet(path)
    edge_on = GZ2.question("disk-edge-on-gz2")
    table.drop([f"{column}_concentration" for column in edge_on.columns]).write_parquet(path)
    made = gzoo.catalog([path], dataset, out=tmp_path / "c.parquet", names="published")
    assert made.not_predicted == (edge_on.name,)
    assert "bar-gz2" in made.proportion_asked_unknown
    catalogue = pl.read_parquet(made.path)
    assert not [name for name in catalogue.columns if name.startswith(edge_on.name)]
    assert catalogue["bar-gz2_proportion_volunteers_asked"].is_null().all()
    assert catalogue["bar-gz2_yes_posterior_mean"].is_finite().all()
    whole = predictions(tmp_path, dataset, "whole.parquet", ("validation",))
    with pytest.warns(GZooWarning, match=r"Not every prediction file predicts disk-edge-on-gz2\."):
        both = gzoo.catalog([path, whole], dataset, out=tmp_path / "d.parquet")
    assert both.not_predicted == (edge_on.name,)
    assert both.n_galaxies == pl.read_parquet(both.path).height > made.n_galaxies
    only = [f"{column}_concentration" for column in edge_on.columns]
    pl.read_parquet(whole).select("dataset_name", "id_str", *only).write_parquet(whole)
    with pytest.raises(TableError, match="do not have a question in common"):
        gzoo.catalog([path, whole], dataset, out=tmp_path / "e.parquet")


def test_only_catalogues_are_overwritten(dataset: Path, tmp_path: Path) -> None:
    path, other = predictions(tmp_path, dataset, "p.parquet"), predictions(tmp_path, dataset, "other.parquet")
    before = other.read_bytes()
    with pytest.raises(OutputExistsError, match="not a catalogue that gzoo made"):
        gzoo.catalog([path], dataset, out=other, overwrite=True)
    assert other.read_bytes() == before
    with pytest.raises(InputError, match="is also an input"):
        gzoo.catalog([path], dataset, out=path, overwrite=True)
    for ending in (".parquet", ".csv", ".fits", ".vot", ".ecsv"):
        out = tmp_path / f"c{ending}"
        gzoo.catalog([path], dataset, out=out)
        with pytest.raises(OutputExistsError, match="finished catalogue"):
            gzoo.catalog([path], dataset, out=out)
        gzoo.catalog([path], dataset, out=out, overwrite=True)
    (tmp_path / "notes.csv").write_text("mine")
    with pytest.raises(OutputExistsError):
        gzoo.catalog([path], dataset, out=tmp_path / "notes.csv", overwrite=True)
    with pytest.raises(InputError, match="unknown file type"):
        gzoo.catalog([path], dataset, out=tmp_path / "c.txt")
    with pytest.raises(NotFoundError, match="Output folder not found"):
        gzoo.catalog([path], dataset, out=tmp_path / "none" / "c.csv")


def test_a_failed_catalogue_leaves_no_files(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = predictions(tmp_path, dataset, "p.parquet")

    def fail(*_: object) -> None:
        raise OSError("disk failure")

    monkeypatch.setattr("gzoo.catalogs.catalog._values", fail)
    for ending in (".parquet", ".csv", ".fits", ".vot", ".ecsv"):
        with pytest.raises(OSError, match="disk failure"):
            gzoo.catalog([path], dataset, out=tmp_path / f"c{ending}")
    assert [one.name for one in tmp_path.iterdir()] == ["p.parquet"]


def test_intervals_are_compared_with_held_out_votes(dataset: Path, tmp_path: Path) -> None:
    opened = open_dataset(dataset)
    keys, votes = opened.read_votes("test")
    mean = votes.counts.sum(axis=0) / np.maximum(votes.totals.sum(axis=0)[list(votes.tree.question_of_answer)], 1)
    said: dict[str, str] = {}
    for name, total in (("modest", 4.0), ("overconfident", 1e6)):
        same = np.broadcast_to(np.maximum(mean, 0.01), votes.counts.shape)
        write_prediction_table(tmp_path / f"{name}.parquet", prediction_table(keys, total * same, opened.tree), {})
        out = tmp_path / f"{name}_catalogue.parquet"
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            made = gzoo.catalog([tmp_path / f"{name}.parquet"], dataset, out=out)
        first = made.calibration["smooth-or-featured-gz2"]
        said[name] = " ".join(str(one.message) for one in caught if one.category is GZooWarning)
        assert json.loads(pq.read_schema(out).metadata[b"gzoo"])["calibration"]["smooth-or-featured-gz2"] == asdict(
            first
        )
        if name == "modest":
            assert first.verdict == "consistent"
            assert first.coverage > 0.8
        else:
            assert first.verdict == "overconfident"
            assert first.coverage < 0.7
            assert f"smooth-or-featured-gz2 (overconfident, {first.coverage:.0%})" in said[name]
    assert "smooth-or-featured-gz2" not in said["modest"]


def test_votes_alone_make_a_catalogue(dataset: Path, tmp_path: Path) -> None:
    made = gzoo.catalog(None, dataset, out=tmp_path / "c.parquet", names="published")
    opened = open_dataset(dataset)
    table = pl.read_parquet(made.path)
    assert made.n_galaxies == table.height == sum(opened.n_galaxies.values())
    assert "in_training_set" not in table.columns
    assert "fitted to" in made.posterior
    train = opened.read_votes("train")[1]
    prior = fit_baseline(train)
    keys, votes = opened.read_votes("test")
    table = keys.join(table, on=["dataset_name", "id_str"], how="left", maintain_order="left")
    found = posterior(votes, np.broadcast_to(prior, (1, len(votes), len(prior))))
    for i, column in enumerate(GZ2.columns):
        np.testing.assert_allclose(table[f"{column}_posterior_mean"].to_numpy(), found.fractions[:, i], rtol=1e-6)


def test_galaxies_of_the_training_set_get_the_posterior_of_their_votes(dataset: Path, tmp_path: Path) -> None:
    seen = predictions(tmp_path, dataset, "seen.parquet", ("train", "test"))
    made = gzoo.catalog([seen], dataset, out=tmp_path / "c.parquet", include_trained_on=True)
    votes_alone = pl.read_parquet(gzoo.catalog(None, dataset, out=tmp_path / "v.parquet").path)
    table = pl.read_parquet(made.path)
    n_train = open_dataset(dataset).n_galaxies["train"]
    assert made.n_in_training_set == table["in_training_set"].sum() == n_train
    assert f"{n_train} galaxies with in_training_set" in made.posterior
    mean = "smooth_or_featured_gz2_smooth_posterior_mean"
    both = table.join(votes_alone, on=["dataset_name", "id_str"], how="left", suffix="_alone")
    is_same = both[mean] == both[f"{mean}_alone"]
    assert (is_same == both["in_training_set"]).all()


def test_questions_are_chosen(dataset: Path, tmp_path: Path) -> None:
    made = gzoo.catalog(None, dataset, out=tmp_path / "c.csv", questions=["bar-gz2"])
    names = pl.read_csv(made.path).columns
    assert {name.rpartition("_gz2")[0] for name in names[6:]} == {"bar"}
    with pytest.raises(NotFoundError, match=r"Question not found: 'bar'"):
        gzoo.catalog(None, dataset, out=tmp_path / "d.csv", questions=["bar"])


def test_a_galaxy_that_is_listed_twice_is_refused(published: Path, tmp_path: Path) -> None:
    folder = tmp_path / "twice"
    (folder / "data").mkdir(parents=True)
    shard = pl.read_parquet(published / "data" / "test-00000-of-00001.parquet")
    pl.concat([shard, shard[:1]]).write_parquet(folder / "data" / "test-00000-of-00001.parquet")
    with pytest.raises(TableError, match=rf"first '{shard['id_str'][0]}' of"):
        gzoo.catalog(None, folder, out=tmp_path / "c.csv")
    assert [one.name for one in tmp_path.iterdir()] == ["twice"]


def test_placeholders_are_not_positions(published: Path, tmp_path: Path) -> None:
    folder = tmp_path / "placeholders"
    (folder / "data").mkdir(parents=True)
    shard = pl.read_parquet(published / "data" / "test-00000-of-00001.parquet")
    wrong = [-99.0, float("nan"), *shard["ra"][2:]], [-99.0, float("nan"), *shard["dec"][2:]]
    shard.with_columns(ra=pl.Series(wrong[0]), dec=pl.Series(wrong[1])).write_parquet(
        folder / "data" / "test-00000-of-00001.parquet"
    )
    with pytest.warns(GZooWarning, match="placeholders in place of 1 positions"):
        made = gzoo.catalog(None, folder, out=tmp_path / "c.parquet")
    table = pl.read_parquet(made.path)
    assert made.n_without_position == table["ra"].null_count() == table["dec"].null_count() == 2
    assert table["_healpix_29"][:3].to_list()[:2] == [-1, -1]
    assert table.height == shard.height


# ----------------------------------------------------------------------------------------------------
# Images without votes


def image_predictions(folder: Path, n: int = 6) -> tuple[Path, Path]:
    """Predictions for a folder of images, and the folder, which only has to exist."""
    rng = np.random.default_rng(3)
    values = {f"{column}_concentration": rng.uniform(0.5, 5, n) for column in GZ2.columns}
    pl.DataFrame({"id_str": [f"im{i}" for i in range(n)], **values}).write_parquet(folder / "p.parquet")
    (folder / "im").mkdir()
    return folder / "p.parquet", folder / "im"


@pytest.mark.parametrize("ending", [".parquet", ".fits", ".vot", ".ecsv", ".csv", ""])
def test_images_without_votes_get_the_positions_of_a_table(tmp_path: Path, ending: str) -> None:
    path, images = image_predictions(tmp_path)
    table = tmp_path / "where.csv"
    hours = [f"{i:02d}:00:00" for i in range(5)]
    pl.DataFrame({"id_str": [f"im{i}" for i in range(5)], "RAJ2000": hours, "DEJ2000": ["-01:30:00"] * 5}).write_csv(
        table
    )
    with pytest.warns(GZooWarning, match=r"where\.csv' lacks 1 of the 6 galaxies"):
        made = gzoo.catalog([path], images, out=tmp_path / f"c{ending}", positions=table)
    assert (made.n_galaxies, made.n_with_votes, made.n_without_position, dict(made.calibration)) == (6, 0, 1, {})
    assert "nobody has voted" in made.posterior
    assert "Positions: where.csv, SHA-256" in made.readme.read_text("utf-8")
    if ending != ".parquet":
        return
    found = pl.read_parquet(made.path).sort("id_str")
    assert found["ra"].to_list() == [0.0, 15.0, 30.0, 45.0, 60.0, None]
    assert found["dec"].to_list() == [-1.5] * 5 + [None]
    assert not [name for name in found.columns if name.endswith(("_vote_count", "_vote_fraction", "_total_votes"))]
    read = read_predictions(path, GZ2)
    wanted = posterior(gzoo.Votes(GZ2, np.zeros((6, len(GZ2.columns)), int)), read.concentrations).fractions
    for i, column in enumerate(GZ2.columns):
        name = f"{column.replace('-', '_')}_posterior_mean"
        np.testing.assert_allclose(found[name].to_numpy(), wanted[:, i], rtol=1e-6)


def test_positions_of_images_are_refused_where_they_cannot_be_meant(dataset: Path, tmp_path: Path) -> None:
    path, images = image_predictions(tmp_path)
    table, out = tmp_path / "where.csv", tmp_path / "c.parquet"
    for text, said in (
        ("id_str,ra,dec\nim0.jpg,1,2\n", "none of the 6 galaxies that are predicted"),
        ("id_str,ra,dec\nim0,1,2\nim0,3,4\n", "lists galaxy 'im0' more than once"),
        ("name,ra,dec\nim0,1,2\n", "no column of identifiers"),
        ("id_str,ra\nim0,1\n", "no column of positions called dec"),
    ):
        table.write_text(text)
        with pytest.raises(TableError, match=said):
            gzoo.catalog([path], images, out=out, positions=table)
    table.write_text("id_str,ra,dec\nim0,1,2\n")
    with pytest.raises(InputError, match="is a dataset, which has positions of its own"):
        gzoo.catalog([path], dataset, out=out, positions=table)
    with pytest.raises(InputError, match="has no votes, so a catalogue of it needs predictions"):
        gzoo.catalog(None, images, out=out, positions=table)
    with pytest.raises(NotFoundError, match="Folder of images not found"):
        gzoo.catalog([path], tmp_path / "nowhere", out=out, positions=table)
    with pytest.raises(InputError, match="is also an input"):
        gzoo.catalog([path], images, out=tmp_path / "where.csv", positions=table, overwrite=True)
    assert not out.exists()
