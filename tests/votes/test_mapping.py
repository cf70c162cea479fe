"""Proposed mapping files are correct where names and votes agree, and marked where they do not."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_votes import STRIPE_82_COLUMNS, stripe_82

import gzoo
from gzoo import cli
from gzoo.errors import GZooError, GZooWarning, NotFoundError, OutputExistsError, TableError
from gzoo.simulator import simulate
from gzoo.trees.campaign import campaign, names
from gzoo.votes.mapping_file import MappingFile
from gzoo.votes.proposal import CERTAIN, CONFIRM, UNCERTAIN, Proposal
from gzoo.votes.reading import read_votes
from gzoo.zooniverse.mapping import mapping

GZ2 = campaign("gz2")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """Votes on 300 simulated galaxies, with the dataset's column names."""
    folder = tmp_path_factory.mktemp("votes") / "sky"
    made = simulate("gz2", n_galaxies=300, seed=3, out=folder, images=False, export=False)
    frame = pl.read_parquet(made.votes)
    return frame.select("id_str", "ra", "dec", *GZ2.tree.columns)


def saved(frame: pl.DataFrame, folder: Path) -> Path:
    frame.write_parquet(folder / "votes.parquet")
    return folder / "votes.parquet"


def renamed(frame: pl.DataFrame, rename: dict[str, str], folder: Path, seed: int = 0) -> Path:
    """The table with other names and its columns in another order."""
    order = np.random.default_rng(seed).permutation(frame.columns).tolist()
    return saved(frame.select(order).rename(rename), folder)


def confidences(proposal: Proposal) -> dict[str, str]:
    return {line.name: line.confidence for line in proposal.answers}


# --- real tables --------------------------------------------------------------------------------------------------


def test_all_answers_of_stripe_82_are_found(shared_data: Path, tmp_path: Path) -> None:
    table = shared_data / "gz2_coadd" / "counts.csv"
    out = tmp_path / "map.toml"
    proposal = gzoo.mapping(table, "gz2", out=out)
    right = {
        f"{question}-gz2_{answer}": stripe_82(question, answer)
        for question, (_, answers) in STRIPE_82_COLUMNS.items()
        for answer in answers
    }
    assert dict(proposal.mapping.answers) == right
    assert len(right) == 37
    assert proposal.is_complete
    assert (proposal.mapping.id_str, proposal.mapping.ra, proposal.mapping.dec) == ("objid", "ra", "dec")
    assert min(proposal.consistency.values()) > 0.95
    read = read_votes(table, GZ2, out)  # as written
    assert len(read.votes) == 19_761


def ferengi(folder: Path) -> str:
    return str(folder / "hubble_ferengi" / "votes_collated.csv")


def test_shifted_column_names_of_the_hubble_table_are_found(shared_data: Path, tmp_path: Path) -> None:
    """The clump counts are shifted by one column."""
    out = tmp_path / "map.toml"
    proposal = mapping(ferengi(shared_data), "gz_ferengi", out=out)
    found = confidences(proposal)
    shifted = ["a50_2", "a51_3", "a52_4", "a53_more_than_4", "a54_cant_tell", "a60_1"]
    for answer, column in zip(["1", "2", "3", "4", "5-plus", "cant-tell"], shifted, strict=True):
        name = f"clump-count-ferengi_{answer}"
        assert proposal.mapping.answers[name] == f"t19_clumps_count_{column}_frac"
        assert found[name] == CONFIRM
    unsure = {name.partition("_")[0] for name, how in found.items() if how == UNCERTAIN}
    assert unsure == {"bulge-size-ferengi"}  # four columns, one of them without a vote, for three answers
    assert set(proposal.not_found) == {"bulge-size-ferengi", "odd-features-ferengi"}
    assert "integer" in proposal.not_found["odd-features-ferengi"]
    assert sum(how == CERTAIN for how in found.values()) == 40
    assert "only shift" in out.read_text()
    read = read_votes(ferengi(shared_data), campaign("gz_ferengi"), out)
    assert set(read.dropped["reason"]) == {"fractions do not add up to the total"}
    assert (read.n_rows, len(read.votes)) == (8306, 8304)
    assert len(read.collected) == 16
    assert not read.votes.breaks.any()


def test_fractions_of_the_hubble_table_give_the_expected_counts(shared_data: Path, tmp_path: Path) -> None:
    mapping(ferengi(shared_data), "gz_ferengi", out=tmp_path / "map.toml")
    read = read_votes(ferengi(shared_data), campaign("gz_ferengi"), tmp_path / "map.toml")
    raw = pl.read_csv(ferengi(shared_data)).filter(pl.int_range(1, pl.len() + 1).is_in(read.rows["row"].implode()))
    for name, column in (("bar-ferengi_yes", "a06_bar_frac"), ("bar-ferengi_no", "a07_no_bar_frac")):
        wanted = (raw[f"t03_bar_{column}"] * raw["t03_bar_count"]).round().cast(pl.Int64).to_list()
        assert read.votes.counts[:, read.votes.tree.columns.index(name)].tolist() == wanted


def test_totals_without_votes_are_rejected(shared_data: Path, tmp_path: Path) -> None:
    """The odd features of the Hubble table have a total in every row, and no answer has a vote."""
    tree = campaign("gz_ferengi").tree
    ends = ["a19_ring", "a20_lens", "a21_disturbed", "a22_irregular", "a23_other", "a24_merger", "a38_dustlane"]
    lines = ['id_str = "subject_id"', 'values = "fractions"', 'ignore = ["*"]', "[answers]"]
    columns = tree.question("odd-features-ferengi").columns
    lines += [f'"{name}" = "t08_odd_feature_{end}_frac"' for name, end in zip(columns, ends, strict=True)]
    (tmp_path / "map.toml").write_text(
        "\n".join([*lines, "[totals]", '"odd-features-ferengi" = "t08_odd_feature_count"'])
    )
    with pytest.raises(TableError, match="above 0 in 8,306 rows, but no answer of 'odd-features-ferengi'"):
        read_votes(ferengi(shared_data), campaign("gz_ferengi"), tmp_path / "map.toml")


def test_weighted_fractions_are_neither_proposed_nor_read(shared_data: Path, tmp_path: Path) -> None:
    table = shared_data / "gz2_sample" / "votes.csv"
    out = tmp_path / "map.toml"
    proposal = mapping(table, "gz2", out=out)
    roots = GZ2.tree.question("smooth-or-featured-gz2").columns
    assert dict(proposal.mapping.answers) == {name: name for name in roots}
    assert proposal.mapping.image == "filename"
    assert "weighted" in proposal.ignored["t02_edgeon_a04_yes_weighted_fraction"]
    assert len(read_votes(table, GZ2, out).votes) == 682  # the whole root counts may be used
    for column, word in (("weighted_fraction", "weighted"), ("debiased", "debiased")):
        for values in ("counts", "fractions"):
            text = f'values = "{values}"\nignore = ["*"]\n[answers]\n'
            text += f'"disk-edge-on-gz2_yes" = "t02_edgeon_a04_yes_{column}"\n'
            text += f'"disk-edge-on-gz2_no" = "t02_edgeon_a05_no_{column}"\n'
            text += '[totals]\n"disk-edge-on-gz2" = "total_classifications"\n'
            out.write_text(text)
            with pytest.raises(TableError, match=f"is {word}") as caught:
                read_votes(table, GZ2, out)
            assert "not even with a total" in caught.value.expected
            assert "plain counts" in caught.value.hint


def test_weighted_fractions_with_another_name_are_rejected_by_their_values(shared_data: Path, tmp_path: Path) -> None:
    raw = pl.read_csv(shared_data / "gz2_sample" / "votes.csv", infer_schema_length=None)
    frame = raw.select(
        "id_str",
        pl.col("t01_smooth_or_features_a01_smooth_weighted_fraction").alias("a"),
        pl.col("t01_smooth_or_features_a02_features_or_disk_weighted_fraction").alias("b"),
        pl.col("t01_smooth_or_features_a03_star_or_artifact_weighted_fraction").alias("c"),
        pl.col("total_classifications").alias("n"),
    )
    roots = GZ2.tree.question("smooth-or-featured-gz2")
    lines = [
        'values = "fractions"',
        "[answers]",
        *(f'"{name}" = "{x}"' for name, x in zip(roots.columns, "abc", strict=True)),
    ]
    (tmp_path / "map.toml").write_text("\n".join([*lines, "[totals]", f'"{roots.name}" = "n"']))
    with pytest.raises(TableError, match="Weighted or rounded fractions"):
        read_votes(saved(frame, tmp_path), GZ2, tmp_path / "map.toml")


# --- names and votes ----------------------------------------------------------------------------------------------


def spellings(column: str) -> list[str]:
    plain = column.replace("-gz2", "")
    return [plain, plain.replace("-", "_"), f"{plain.replace('-', '_')}_count", f"{plain.upper()}_VOTES"]


@pytest.mark.parametrize("i", range(4))
def test_other_spellings_in_another_order(simulated: pl.DataFrame, tmp_path: Path, i: int) -> None:
    rename = {column: spellings(column)[i] for column in GZ2.tree.columns}
    path = renamed(simulated, rename, tmp_path, seed=i)
    proposal = mapping(path, "gz2", out=tmp_path / "map.toml")
    assert dict(proposal.mapping.answers) == rename
    assert proposal.is_complete
    read = read_votes(path, GZ2, tmp_path / "map.toml")
    assert (read.votes.counts == simulated.select(GZ2.tree.columns).to_numpy()).all()


FAST = ("gz_candels", "gz_rings", "gz_jwst")


@pytest.mark.parametrize("name", [one if one in FAST else pytest.param(one, marks=pytest.mark.slow) for one in names()])
def test_the_datasets_own_names_of_every_campaign(name: str, tmp_path: Path) -> None:
    """A merged campaign has no volunteers of its own, so its names are read without votes."""
    tree = campaign(name).tree
    frame = pl.DataFrame({"id_str": ["a", "b"]} | {column: [1, 2] for column in tree.columns})
    if not campaign(name).members:
        made = simulate(name, n_galaxies=60, seed=1, out=tmp_path / "sky", images=False, export=False)
        frame = pl.read_parquet(made.votes)
    proposal = mapping(saved(frame, tmp_path), name)
    assert dict(proposal.mapping.answers) == {column: column for column in tree.columns}
    assert {line.confidence for line in proposal.answers} == {CERTAIN}


def test_votes_identify_questions_named_by_number(simulated: pl.DataFrame, tmp_path: Path) -> None:
    """`q2_yes` may be the answer to four questions; the counts identify it where they can."""
    numbers = {question.name: f"q{i}" for i, question in enumerate(GZ2.tree.questions, 1)}
    rename = {
        column: column.replace(question.name, numbers[question.name])
        for question in GZ2.tree.questions
        for column in question.columns
    }
    proposal = mapping(renamed(simulated, rename, tmp_path), "gz2", out=tmp_path / "map.toml")
    for line in proposal.answers:
        if line.confidence != UNCERTAIN:
            assert line.column == rename[line.name], line
    found = {line.name.partition("_")[0] for line in proposal.answers if line.confidence != UNCERTAIN}
    assert {"disk-edge-on-gz2", "something-odd-gz2", "smooth-or-featured-gz2"} <= found
    assert len(read_votes(tmp_path / "votes.parquet", GZ2, tmp_path / "map.toml").votes) == 300


def test_exchanged_answers_are_corrected_and_marked(simulated: pl.DataFrame, tmp_path: Path) -> None:
    rename = {"disk-edge-on-gz2_yes": "disk-edge-on-gz2_no", "disk-edge-on-gz2_no": "disk-edge-on-gz2_yes"}
    proposal = mapping(renamed(simulated, rename, tmp_path), "gz2")
    assert {name: proposal.mapping.answers[name] for name in rename} == rename
    found = confidences(proposal)
    assert {found[name] for name in rename} == {CONFIRM}
    assert {found[name] for name in found if name not in rename} == {CERTAIN}
    assert not proposal.is_complete


def test_a_question_with_inconsistent_votes_is_uncertain(simulated: pl.DataFrame, tmp_path: Path) -> None:
    """Columns of something else under the names of has-spiral-arms."""
    rng = np.random.default_rng(0)
    other = {f"has-spiral-arms-gz2_{answer}": rng.integers(0, 40, 300) for answer in ("yes", "no")}
    proposal = mapping(saved(simulated.with_columns(**other), tmp_path), "gz2", out=tmp_path / "map.toml")
    found = confidences(proposal)
    assert {found[name] for name in other} == {UNCERTAIN}
    assert found["bar-gz2_yes"] == CERTAIN
    text = (tmp_path / "map.toml").read_text()
    assert '# "has-spiral-arms-gz2_yes" = "has-spiral-arms-gz2_yes"  # UNCERTAIN' in text
    assert "has-spiral-arms-gz2" not in read_votes(tmp_path / "votes.parquet", GZ2, tmp_path / "map.toml").collected


def test_questions_of_another_campaign_are_not_proposed(shared_data: Path) -> None:
    """CANDELS never asked whether there is something odd; a `yes` and a `no` alone are not enough evidence."""
    proposal = mapping(shared_data / "gz2_coadd" / "counts.csv", "gz_candels")
    assert not [line for line in proposal.answers if line.column.startswith("t06_odd") and line.confidence != UNCERTAIN]
    assert {"clumpy-appearance-candels", "clumps-embedded-larger-object-candels"} <= set(proposal.not_found)
    assert proposal.mapping.answers["bar-candels_yes"] == "t03_bar_a06_bar_count"


def test_bare_yes_and_no(tmp_path: Path) -> None:
    frame = pl.DataFrame({"name": ["a", "b", "c"], "no": [1, 2, 3], "yes": [3, 2, 1], "colour": ["x", "y", "z"]})
    proposal = mapping(saved(frame, tmp_path), "gz_rings", out=tmp_path / "map.toml")
    assert dict(proposal.mapping.answers) == {"ring_yes": "yes", "ring_no": "no"}
    assert set(proposal.ignored) == {"colour"}
    read = read_votes(tmp_path / "votes.parquet", campaign("gz_rings"), tmp_path / "map.toml")
    assert read.votes.counts.tolist() == [[3, 1], [2, 2], [1, 3]]


def test_counts_are_preferred_to_fractions(simulated: pl.DataFrame, tmp_path: Path) -> None:
    question = GZ2.tree.question("bar-gz2")
    total = sum(pl.col(name) for name in question.columns)
    frame = simulated.with_columns(
        *((pl.col(name) / total).alias(f"{name}_fraction") for name in question.columns),
        total.alias("bar-gz2_total-votes"),
    )
    proposal = mapping(saved(frame, tmp_path), "gz2")
    assert proposal.mapping.values == "counts"
    assert dict(proposal.mapping.answers) == {name: name for name in GZ2.tree.columns}
    assert dict(proposal.mapping.totals) == {"bar-gz2": "bar-gz2_total-votes"}
    assert "bar-gz2_yes_fraction" in proposal.ignored


def test_tables_without_votes_are_rejected(tmp_path: Path) -> None:
    for frame, found in (
        (pl.DataFrame({"id": ["a"], "ra": [1.0], "flux": [0.5]}), "does not contain votes"),
        (pl.DataFrame({"id": ["a", "b"], "bar_weighted_fraction": [0.1, 0.5]}), "weighted or debiased"),
        (pl.DataFrame({"id": []}), "is empty"),
    ):
        with pytest.raises(TableError, match=found):
            mapping(saved(frame, tmp_path), "gz2")
    with pytest.raises(NotFoundError, match="Campaign not found"):
        mapping(saved(frame, tmp_path), "gz3")


def kaggle(n: int = 40) -> pl.DataFrame:
    """Cumulative fractions, made as the challenge describes them: question 2 adds up to Class1.2, 7 to Class1.1."""
    rng = np.random.default_rng(0)
    first = rng.dirichlet([1, 1, 1], n)
    second = first[:, 1, None] * rng.dirichlet([1, 1], n)
    seventh = first[:, 0, None] * rng.dirichlet([1, 1, 1], n)
    columns = {f"Class{q}.{a + 1}": part[:, a] for q, part in ((1, first), (2, second), (7, seventh))
               for a in range(part.shape[1])}  # fmt: skip
    return pl.DataFrame({"GalaxyID": [str(100 + i) for i in range(n)]} | columns)


KAGGLE_ANSWERS = {
    "smooth-or-featured": (1, ("smooth", "featured-or-disk", "artifact")),
    "disk-edge-on": (2, ("yes", "no")),
    "how-rounded": (7, ("round", "in-between", "cigar")),
}


@pytest.mark.parametrize("values", ["counts", "fractions"])
@pytest.mark.parametrize("prefix", ["Class", "fraction "])
def test_cumulative_fractions_are_rejected_with_a_hint(tmp_path: Path, values: str, prefix: str) -> None:
    frame = kaggle().with_columns(*(pl.lit(40).alias(f"n{q}") for q in (1, 2, 7)))
    frame = frame.rename({name: name.replace("Class", prefix) for name in frame.columns})
    answers = [f'"{question}-gz2_{answer}" = "{prefix}{q}.{a}"' for question, (q, labels) in KAGGLE_ANSWERS.items()
               for a, answer in enumerate(labels, 1)]  # fmt: skip
    lines = ['id_str = "GalaxyID"', f'values = "{values}"', "[answers]", *answers, "[totals]"]
    lines += [f'"{question}-gz2" = "n{q}"' for question, (q, _) in KAGGLE_ANSWERS.items()]
    (tmp_path / "map.toml").write_text("\n".join(lines))
    with pytest.raises(TableError, match="cumulative fractions") as caught:
        read_votes(saved(frame, tmp_path), GZ2, tmp_path / "map.toml")
    assert "number of volunteers who answered" in caught.value.expected
    assert "counts of the same galaxies" in caught.value.hint


def test_the_column_names_of_the_kaggle_challenge_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "training_solutions.csv"
    kaggle().write_csv(path)
    for use in (lambda: mapping(path, "gz2"), lambda: read_votes(path, GZ2)):
        with pytest.raises(TableError, match=r"cumulative fractions.*Class1\.1"):
            use()


# --- the file -----------------------------------------------------------------------------------------------------

odd_names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(odd_names, max_size=4, unique=True), odd_names)
def test_any_column_names_survive_writing_and_reading(tmp_path: Path, others: list[str], question: str) -> None:
    cells = {"id_str": ["a", "b"], f"ring{question}_yes": [1, 2], f"ring{question}_no": [0, 3]}
    frame = pl.DataFrame(cells | {name: ["x", "y"] for name in others if name not in cells})
    path, out = saved(frame, tmp_path), tmp_path / "map.toml"
    try:
        proposal = mapping(path, "gz_rings", out=out, overwrite=True)
    except TableError:
        return
    read = MappingFile.read(out)
    assert dict(read.answers) == dict(proposal.mapping.answers)
    assert read.ignore == proposal.mapping.ignore
    if read.answers:
        assert read_votes(path, campaign("gz_rings"), out).votes.counts.tolist() == [[1, 0], [2, 3]]


def test_only_mapping_files_are_overwritten_and_only_on_request(simulated: pl.DataFrame, tmp_path: Path) -> None:
    path, out = saved(simulated, tmp_path), tmp_path / "map.toml"
    mapping(path, "gz2", out=out)
    first = out.read_text()
    with pytest.raises(OutputExistsError, match="finished mapping"):
        mapping(path, "gz2", out=out)
    mapping(path, "gz2", out=out, overwrite=True)
    assert out.read_text() == first
    out.write_text("mine")
    with pytest.raises(OutputExistsError, match="not a mapping that gzoo made"):
        mapping(path, "gz2", out=out, overwrite=True)
    with pytest.raises(NotFoundError, match="Output folder not found"):
        mapping(path, "gz2", out=tmp_path / "none" / "map.toml")


def test_the_command_prints_or_writes(
    simulated: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = saved(simulated, tmp_path), tmp_path / "map.toml"
    for arguments in ([], ["--out", str(out)]):
        monkeypatch.setattr(sys, "argv", ["gzoo", "mapping", str(path), "gz2", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
    printed = capsys.readouterr()
    assert printed.out == out.read_text()
    assert "37 answers of gz2 by name." in re.sub(r"\s+", " ", printed.err)


def test_a_classification_export_is_not_read_as_a_vote_table(tmp_path: Path) -> None:
    path = tmp_path / "classifications.csv"
    path.write_text("classification_id,workflow_id,annotations,subject_data\n1,2,[],{}\n")
    with pytest.raises(GZooError):  # without workflows
        mapping(path, "gz2")


def test_a_proposal_warns_of_rows_and_identifiers_that_would_be_refused(tmp_path: Path) -> None:
    rows = [f"5.8772298174208{i}e+17,{i},{3 * i}" for i in range(5)]
    (tmp_path / "votes.csv").write_text("\n".join(["objid,ring_yes,ring_no", *rows, "5.9e+17,1"]) + "\n")
    with (
        pytest.warns(GZooWarning, match=r"'objid' of .* went through floating point or a spreadsheet: 5 of 5"),
        pytest.warns(GZooWarning, match=r"1 rows cannot be read \(first: row 6, row has too few cells: line 7"),
    ):
        mapping(tmp_path / "votes.csv", "gz_rings")
