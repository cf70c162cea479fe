"""Positions of subjects: read in any form, named where they cannot be, and never two galaxies under one identifier."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl
import pytest

import gzoo
from gzoo.errors import GZooWarning, TableError
from gzoo.simulator import SimulateResult
from gzoo.zooniverse import count
from gzoo.zooniverse.mapping import mapping
from gzoo.zooniverse.reading import SEVERAL_PLACES
from gzoo.zooniverse.tasks import Tasks

Facts = dict[str, object]


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> SimulateResult:
    """Classifications of 24 galaxies."""
    return gzoo.simulate("gz2", n_galaxies=24, seed=5, images=False, out=tmp_path_factory.mktemp("export") / "sky")


def changed(some: SimulateResult, out: Path, change: Callable[[int, Facts], Mapping[str, object]]) -> Path:
    """Write the export with other facts about each subject, numbered from 0."""
    frame = pl.read_csv(some.classifications, infer_schema=False)
    numbers: dict[str, int] = {}

    def new(text: str) -> str:
        ((subject, facts),) = json.loads(text).items()
        return json.dumps({subject: change(numbers.setdefault(subject, len(numbers)), facts)})

    frame.with_columns(pl.col("subject_data").map_elements(new, pl.String)).write_csv(out)
    return out


def counted(some: SimulateResult, source: Path, toml: Path | None = None) -> pl.DataFrame:
    out = source.with_suffix(".parquet")
    count("gz2", classifications=source, workflows=some.workflows, mapping=toml, out=out, overwrite=True)
    return pl.read_parquet(out)


def sexagesimal(value: float, sign: str = "") -> str:
    seconds = round(abs(value) * 3600 * 1000)
    minutes, rest = divmod(seconds, 60_000)
    return f"{'-' if value < 0 else sign}{minutes // 60:02d}:{minutes % 60:02d}:{rest / 1000:06.3f}"


def truth(some: SimulateResult) -> pl.DataFrame:
    return pl.read_parquet(some.votes).select("id_str", "ra", "dec").sort("id_str")


@pytest.mark.parametrize(
    "change",
    [
        lambda _, facts: facts | {"ra": sexagesimal(facts["ra"] / 15), "dec": sexagesimal(facts["dec"], "+")},
        lambda _, facts: facts | {"ra": facts["ra"] - 360 * (facts["ra"] > 180)},
        lambda _, facts: facts | {"ra": f" {facts['ra']} ", "dec": str(facts["dec"])},
    ],
)
def test_positions_in_other_forms_are_read(
    some: SimulateResult, tmp_path: Path, change: Callable[[int, Facts], Facts]
) -> None:
    found = counted(some, changed(some, tmp_path / "c.csv", change))
    assert found["ra"].to_list() == pytest.approx(truth(some)["ra"].to_list(), abs=1e-5)
    assert found["dec"].to_list() == pytest.approx(truth(some)["dec"].to_list(), abs=1e-5)


def test_the_unit_of_subjects_may_be_stated(some: SimulateResult, tmp_path: Path) -> None:
    source = changed(some, tmp_path / "c.csv", lambda _, facts: facts | {"ra": float(str(facts["ra"])) / 15})
    made = mapping(source, "gz2", workflows=some.workflows)
    assert isinstance(made, Tasks)
    (tmp_path / "m.toml").write_text('unit = "hourangle"\n' + made.to_toml())
    assert Tasks.read(tmp_path / "m.toml", gzoo.tree("gz2")).unit == "hourangle"
    with pytest.warns(GZooWarning, match="would also fit hours"):
        counted(some, source)
    assert counted(some, source, tmp_path / "m.toml")["ra"].to_list() == pytest.approx(truth(some)["ra"].to_list())


def test_an_unreadable_position_is_named_with_its_value(some: SimulateResult, tmp_path: Path) -> None:
    source = changed(some, tmp_path / "c.csv", lambda i, facts: facts | ({"ra": "see notes"} if i == 1 else {}))
    with pytest.warns(GZooWarning, match=r"1 of 24 positions cannot be read .* \(first: subject \d+, ra = 'see notes'"):
        found = counted(some, source)
    assert found["ra"].is_nan().sum() == 1, "the votes of the galaxy are kept"
    every = changed(some, tmp_path / "d.csv", lambda _, facts: facts | {"ra": "see notes"})
    with pytest.raises(TableError, match=r"24 of 24 positions cannot be read .*'see notes'"):
        counted(some, every)
    with pytest.warns(GZooWarning, match="24 of 24 positions"):
        made = count(
        "gz2", classifications=every, workflows=some.workflows, out=tmp_path / "v.parquet", allow_bad_positions=True
    )  # fmt: skip
    assert made.ingest.positions["n_unreadable"] == 24


def test_absent_positions_and_placeholders_are_counted(some: SimulateResult, tmp_path: Path) -> None:
    def change(i: int, facts: Facts) -> Facts:
        return facts | ({"ra": None, "dec": None} if i < 2 else {"ra": -99, "dec": -99} if i < 5 else {})

    source = changed(some, tmp_path / "c.csv", change)
    with pytest.warns(GZooWarning, match=r"placeholders in place of 3 positions .*: ra -99, dec -99 \(3\)"):
        made = count("gz2", classifications=source, workflows=some.workflows, out=tmp_path / "v.parquet")
    assert made.ingest.positions["n_missing"] == {"empty": 2, "ra -99, dec -99": 3}


def rounded(some: SimulateResult, out: Path) -> Path:
    """Two subjects, far apart, share each identifier, as where a site rounds large numbers."""
    return changed(some, out, lambda i, facts: facts | {"id_str": 587722981742084000 + i // 2 * 100})


def test_votes_of_two_galaxies_are_never_added_up(some: SimulateResult, tmp_path: Path) -> None:
    source = rounded(some, tmp_path / "c.csv")
    with pytest.warns(GZooWarning, match="'id_str' has 12 values for 24 subjects"):
        made = mapping(source, "gz2", workflows=some.workflows, out=tmp_path / "m.toml")
    assert isinstance(made, Tasks)
    assert made.fields["id_str"] == "subject_id"
    assert counted(some, source, tmp_path / "m.toml").height == 24
    by_hand = tmp_path / "hand.toml"
    by_hand.write_text((tmp_path / "m.toml").read_text().replace('"subject_id"', '"id_str"', 2))
    with (
        pytest.raises(TableError, match=SEVERAL_PLACES) as caught,
        pytest.warns(GZooWarning, match="12 identifiers have subjects at different positions"),
    ):
        counted(some, source, by_hand)
    assert 'id_str = "subject_id"' in caught.value.hint


def test_one_identifier_of_two_subjects_excludes_only_these(some: SimulateResult, tmp_path: Path) -> None:
    ids = truth(some)["id_str"]

    def change(i: int, facts: Facts) -> Facts:  # 0 and 1 are two galaxies, 2 and 3 are one
        same = {"id_str": "one", "ra": 150.0, "dec": 2.0 + i * 1e-4} if i in (2, 3) else {}
        return facts | ({"id_str": "two"} if i < 2 else same)

    source = changed(some, tmp_path / "c.csv", change)
    toml = tmp_path / "m.toml"
    with pytest.warns(GZooWarning, match="22 values for 24 subjects"):
        mapping(source, "gz2", workflows=some.workflows, out=toml)
    toml.write_text(toml.read_text().replace('id_str = "subject_id"', 'id_str = "id_str"'))
    with pytest.warns(GZooWarning, match="1 identifiers have subjects at different positions"):
        found = counted(some, source, toml)
    assert found.height == 21
    assert "two" not in found["id_str"]
    assert found.filter(id_str="one")["ra"].item() == 150
    assert len(ids) == 24


def test_a_collision_after_the_first_subjects_is_found(some: SimulateResult, tmp_path: Path) -> None:
    """All subjects are compared, wherever in the export they are."""
    source = changed(some, tmp_path / "c.csv", lambda i, facts: facts | {"id_str": str(max(i, 1))})
    last = changed(some, tmp_path / "d.csv", lambda i, facts: facts | {"id_str": str(min(i, 22))})
    for one in (source, last):
        with pytest.warns(GZooWarning, match="23 values for 24 subjects"):
            assert mapping(one, "gz2", workflows=some.workflows).fields["id_str"] == "subject_id"  # type: ignore[union-attr]


def test_build_takes_the_mapping_file_of_an_export(some: SimulateResult, tmp_path: Path) -> None:
    mapping(some.classifications, "gz2", workflows=some.workflows, out=tmp_path / "m.toml")
    made = gzoo.build(
        "gz2",
        classifications=some.classifications,
        workflows=some.workflows,
        mapping=tmp_path / "m.toml",
        no_images=True,
        out=tmp_path / "out",
    )
    assert sum(made.n_galaxies.values()) == 24
    assert made.positions["n_known"] == 24
