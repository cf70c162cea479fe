"""The simulator must be what it says: repeatable, true to its probabilities, and marked as a simulation."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gzoo import simulator
from gzoo.campaign import tree
from gzoo.errors import InputError, OccupiedError
from gzoo.simulator import simulate
from gzoo.simulator.camera import jpeg_bytes, picture
from gzoo.simulator.galaxies import Galaxy, draw_galaxy
from gzoo.simulator.volunteers import answer_probabilities, cast_votes

GZ2 = tree("gz2")


def galaxies(n: int) -> list[Galaxy]:
    return [draw_galaxy(np.random.default_rng([7, i])) for i in range(n)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_seed_gives_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    simulate(n=4, seed=3, out=tmp_path / "one")
    simulate(n=4, seed=3, workers=2, out=tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_galaxy_depends_on_seed_and_index_only(tmp_path: Path) -> None:
    few = simulate(n=2, seed=3, out=tmp_path / "few")
    many = simulate(n=5, seed=3, out=tmp_path / "many")
    other = simulate(n=2, seed=4, out=tmp_path / "other")
    for path in few.images.iterdir():
        assert path.read_bytes() == (many.images / path.name).read_bytes()
    for kind in ("votes", "truth"):
        first, second = pq.read_table(getattr(few, kind)), pq.read_table(getattr(many, kind))
        assert first.equals(second.slice(0, 2))
    assert not pq.read_table(few.truth)["ra"].equals(pq.read_table(other.truth)["ra"])


def test_files_hold_every_answer_and_say_that_they_are_simulated(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    simulated = simulate(n=3, out=tmp_path / "sky", progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    votes, truth = pq.read_table(simulated.votes), pq.read_table(simulated.truth)
    multiple = [question.total_column for question in GZ2.questions if question.multiple]
    assert votes.column_names == ["id_str", "dataset_name", "ra", "dec", "filename", *GZ2.columns, *multiple]
    assert votes["id_str"].to_pylist() == [f"simulated-0-{i:06d}" for i in range(3)]
    assert set(votes["dataset_name"].to_pylist()) == {"gz2_simulated"}
    assert {str(votes.schema.field(column).type) for column in (*GZ2.columns, *multiple)} == {"int32"}
    assert {f"{column}_probability" for column in GZ2.columns} <= set(truth.column_names)
    assert {f"{question.name}_reach" for question in GZ2.questions} <= set(truth.column_names)
    for table in (votes, truth):
        assert json.loads((table.schema.metadata or {})[b"gzoo"])["kind"] == "simulation"
    for name in votes["filename"].to_pylist():
        with Image.open(simulated.images / str(name)) as image:
            assert image.size == (424, 424)


def test_an_interrupted_simulation_goes_on_without_drawing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int) -> None:
        if done == total - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(n=3, out=tmp_path / "sky", progress=stop)
    assert not (tmp_path / "sky").exists()

    drawn: list[Galaxy] = []

    def counted(galaxy: Galaxy, rng: np.random.Generator) -> object:
        drawn.append(galaxy)
        return picture(galaxy, rng)

    monkeypatch.setattr(simulator, "picture", counted)
    simulate(n=3, out=tmp_path / "sky")
    assert len(drawn) == 1
    simulate(n=3, out=tmp_path / "whole")
    assert contents(tmp_path / "sky") == contents(tmp_path / "whole")


def test_votes_obey_the_tree() -> None:
    rng = np.random.default_rng(1)
    for galaxy in galaxies(40):
        counts = cast_votes(GZ2, answer_probabilities(galaxy, GZ2), 40, rng)
        by_column = dict(zip(GZ2.columns, counts.tolist(), strict=True))
        for question in GZ2.questions:
            asked = sum(by_column[parent] for parent in question.parents) if question.parents else 40
            answered = [by_column[column] for column in question.columns]
            if question.multiple:
                assert max(answered) <= asked
            else:
                assert sum(answered) == asked


def test_probabilities_are_proper() -> None:
    for galaxy in galaxies(300):
        for question in GZ2.questions:
            chances = answer_probabilities(galaxy, GZ2)[question.name]
            assert chances.shape == (len(question.columns),)
            assert ((chances > 0.0) & (chances < 1.0)).all()
            if not question.multiple:
                assert chances.sum() == pytest.approx(1.0)


def test_mean_votes_agree_with_probability_and_reach() -> None:
    n_volunteers = 40_000
    for i, galaxy in enumerate(galaxies(5)):
        chances = answer_probabilities(galaxy, GZ2)
        flat = np.concatenate([chances[question.name] for question in GZ2.questions])
        reach = GZ2.reach(flat[None])[0][list(GZ2.question_of_answer)]
        expected = reach * flat
        found = cast_votes(GZ2, chances, n_volunteers, np.random.default_rng(i)) / n_volunteers
        error = np.sqrt(expected * (1 - expected) / n_volunteers)
        assert np.abs((found - expected) / error).max() < 4.5  # 5 x 37 answers: passed by chance at 99.9 %


def test_the_sky_holds_smooth_featured_and_a_few_stars() -> None:
    chances = np.array([answer_probabilities(galaxy, GZ2)["smooth-or-featured-gz2"] for galaxy in galaxies(1500)])
    winners = np.bincount(chances.argmax(axis=1), minlength=3) / len(chances)
    assert 0.35 < winners[0] < 0.60
    assert 0.35 < winners[1] < 0.60
    assert 0.01 < winners[2] < 0.06


def test_smooth_galaxies_are_redder_but_colour_does_not_decide() -> None:
    real = [galaxy for galaxy in galaxies(1500) if not galaxy.is_artifact]
    is_smooth = np.array([answer_probabilities(g, GZ2)["smooth-or-featured-gz2"][0] > 0.5 for g in real])
    colour = np.array([g.bulge_fraction * g.bulge_colour + g.disk_fraction * g.disk_colour for g in real])
    assert np.median(colour[is_smooth]) > np.median(colour[~is_smooth]) + 0.08
    assert (colour[~is_smooth] > np.median(colour[is_smooth])).mean() > 0.05


def test_pictures_look_like_the_survey() -> None:
    for i, galaxy in enumerate(galaxies(6)):
        seen = picture(galaxy, np.random.default_rng(i))
        assert seen.shape == (424, 424, 3)
        assert seen.dtype == np.uint8
        assert np.median(seen) < 15  # a dark sky
        assert seen[204:220, 204:220].mean() > 50  # something bright in the middle
        assert np.ptp(seen[:60, :60].astype(int), axis=2).max() > 2  # noise has colour
        assert np.array_equal(seen, picture(galaxy, np.random.default_rng(i)))


def test_jpeg_bytes_are_a_faithful_picture() -> None:
    seen = picture(galaxies(1)[0], np.random.default_rng(0))
    data = jpeg_bytes(seen)
    assert data == jpeg_bytes(seen)
    again = np.asarray(Image.open(io.BytesIO(data)))
    assert np.abs(again.astype(int) - seen.astype(int)).mean() < 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"campaign": "gz_hubble", "n": 1}, "gz2"),
        ({"n": 0}, "n is 0"),
        ({"n": 1, "workers": 0}, "workers is 0"),
        ({"n": 1, "seed": -1}, "seed is -1"),
    ],
)
def test_impossible_requests_are_refused(tmp_path: Path, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        simulate(**arguments, out=tmp_path / "sky")  # pyright: ignore[reportArgumentType]
    assert not any(tmp_path.iterdir())


def test_a_tree_the_volunteers_were_never_taught_is_refused() -> None:
    with pytest.raises(InputError, match="cannot answer question"):
        answer_probabilities(galaxies(1)[0], tree("gz_rings"))


def test_a_finished_simulation_is_not_overwritten_unasked(tmp_path: Path) -> None:
    simulate(n=1, out=tmp_path / "sky")
    with pytest.raises(OccupiedError):
        simulate(n=1, out=tmp_path / "sky")
    simulate(n=1, seed=1, out=tmp_path / "sky", overwrite=True)
    assert [path.name for path in (tmp_path / "sky" / "images").iterdir()] == ["simulated-1-000000.jpg"]
