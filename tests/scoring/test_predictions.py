"""Prediction files from any source: what is read, and which errors name what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import gzoo
from gzoo.dataset.open import open_dataset
from gzoo.errors import GZooWarning, InputError, NotFoundError, TableError
from gzoo.scoring.likelihood import expected_fractions
from gzoo.scoring.matching import match, refuse_seen
from gzoo.scoring.prediction_files import prediction_table
from gzoo.scoring.predictions import read_class_predictions, read_predictions, same_questions
from gzoo.trees.campaign import campaign

RINGS = gzoo.tree("gz_rings")
GZ2 = gzoo.tree("gz2")


def predictions(folder: Path, **changed: pl.Series | list[object]) -> Path:
    frame = pl.DataFrame(
        {
            "dataset_name": ["d", "d", "e"],
            "id_str": ["1", "2", "1"],
            "ring_yes_concentration": [1.0, 2.0, 3.0],
            "ring_no_concentration": [1.0, 2.0, 6.0],
        }
    ).with_columns(**{name: pl.Series(values, strict=False) for name, values in changed.items()})
    frame.write_parquet(folder / "predictions.parquet")
    return folder / "predictions.parquet"


def csv(folder: Path, text: str) -> Path:
    path = folder / "predictions.csv"
    path.write_text(text)
    return path


def test_a_valid_prediction_file_is_read(tmp_path: Path) -> None:
    read = read_predictions(predictions(tmp_path, in_training_set=[True, False, None]), RINGS)
    assert read.keys.rows() == [("d", "1"), ("d", "2"), ("e", "1")]
    assert read.kind == "concentrations"
    assert read.concentrations.tolist() == [[[1.0, 1.0], [2.0, 2.0], [3.0, 6.0]]]
    np.testing.assert_allclose(read.fractions[:, 0], [1 / 2, 1 / 2, 1 / 3])
    assert read.in_training_set.to_list() == [True, False, None]
    assert read.questions == ("ring",)
    assert len(read.take(np.array([2]))) == 1


BAD: dict[str, tuple[dict[str, list[object]], str]] = {
    "a galaxy twice": ({"dataset_name": ["d", "d", "d"]}, "row 1, galaxy '1': .* more than once"),
    "zero": ({"ring_yes_concentration": [1.0, 0.0, 1.0]}, "row 2, galaxy '2': ring_yes_concentration is 0.0"),
    "negative": ({"ring_yes_concentration": [1.0, -1.0, 1.0]}, "is -1.0"),
    "not a number": ({"ring_no_concentration": [1.0, float("nan"), 1.0]}, "is nan"),
    "infinite": ({"ring_no_concentration": [float("inf"), 1.0, 1.0]}, "is inf"),
    "missing": ({"ring_no_concentration": [1.0, 1.0, None]}, "row 3, galaxy '1': ring_no_concentration is nan"),
    "string": ({"ring_no_concentration": ["1", "one", "1"]}, "row 2, galaxy '2': ring_no_concentration is 'one'"),
    "booleans": ({"ring_no_concentration": [True, False, True]}, "type Boolean"),
    "lists of different lengths": ({"ring_no_concentration": [[1.0], [1.0, 2.0], [1.0]]}, "lists of different lengths"),
    "different numbers of members": (
        {"ring_no_concentration": [[1.0, 2.0]] * 3},
        "has 2 numbers per galaxy|others have 2",
    ),
    "numbers as identifiers": ({"id_str": [1.0, 2.5, 3.0]}, "'id_str' of .*, row 2: identifier is a decimal number"),
    "digits lost": ({"id_str": [1.0, 2.0**60, 3.0]}, "'id_str' of .* contains Float64 .* digits were lost"),
    "digits lost in text": ({"id_str": ["1", "5.8772e+17", "3"]}, "row 2: identifier lost digits .'5.8772e.17'"),
    "truth values as identifiers": ({"id_str": [True, False, True]}, "'id_str' of .* has type Boolean"),
    "no identifier": ({"id_str": ["1", None, "3"]}, "'id_str' of .*, row 2: identifier missing"),
    "no identifier in text": ({"id_str": ["1", "NA", "3"]}, "'id_str' of .*, row 2: identifier missing"),
}


@pytest.mark.parametrize(("changed", "said"), BAD.values(), ids=BAD)
def test_invalid_predictions_are_rejected(tmp_path: Path, changed: dict[str, list[object]], said: str) -> None:
    with pytest.raises(TableError, match=said):
        read_predictions(predictions(tmp_path, **changed), RINGS)


def test_files_without_predictions_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_predictions(tmp_path / "none.parquet", RINGS)
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(TableError, match=r"[Cc]annot (be )?read"):
        read_predictions(tmp_path / "torn.parquet", RINGS)
    path = predictions(tmp_path)
    with pytest.raises(TableError, match="'smooth-or-featured-gz2_smooth_concentration' not found"):
        read_predictions(path, GZ2)
    with pytest.raises(TableError, match=r"'ring_no_concentration' not found .* other answers of question 'ring'"):
        read_predictions(csv(tmp_path, "id_str,ring_yes_concentration\n1,2\n"), RINGS)
    pl.read_parquet(path).clear().write_parquet(path)
    with pytest.raises(TableError, match="0 rows"):
        read_predictions(path, RINGS)


def test_a_file_name_is_not_a_glob_pattern(tmp_path: Path) -> None:
    path = predictions(tmp_path)
    assert len(read_predictions(path.rename(tmp_path / "p[1].parquet"), RINGS)) == 3


def test_a_zoobot_csv_is_a_mixture_of_forward_passes(tmp_path: Path) -> None:
    text = 'id_str,ring_yes_pred,ring_no_pred\n007,"[1.0, 3.0]","[1.0, 1.0]"\n8,"[2, 2]","[5, 6.5]"\n'
    read = read_predictions(csv(tmp_path, text), RINGS)
    assert read.keys.rows() == [(None, "007"), (None, "8")]
    assert read.concentrations[:, :, 1].tolist() == [[1.0, 5.0], [1.0, 6.5]]
    members = [expected_fractions(member, RINGS) for member in read.concentrations]
    np.testing.assert_allclose(read.fractions, np.mean(members, axis=0))
    with pytest.raises(TableError, match=r"row 2, galaxy '8': ring_no_pred is '\[5, x\]'"):
        read_predictions(csv(tmp_path, text.replace("6.5", "x")), RINGS)


def test_columns_without_ending_are_fractions_if_they_sum_to_1(tmp_path: Path) -> None:
    fractions = read_predictions(csv(tmp_path, "id_str,ring_yes,ring_no\n1,0.25,0.75\n2,0.1,0.9\n"), RINGS)
    assert fractions.kind == "fractions"
    np.testing.assert_allclose(fractions.fractions, [[0.25, 0.75], [0.1, 0.9]])
    with pytest.raises(TableError, match="contains only fractions"):
        _ = fractions.concentrations
    assert read_predictions(csv(tmp_path, "id_str,ring_yes,ring_no\n1,2.5,7\n"), RINGS).kind == "concentrations"


@pytest.mark.parametrize("ending", ["", "_pred"])
def test_how_a_table_was_read_is_said(tmp_path: Path, ending: str) -> None:
    header = f"id_str,ring_yes{ending},ring_no{ending}\n"
    fractions = read_predictions(csv(tmp_path, header + "1,0.25,0.75\n2,0.1,0.9\n"), RINGS)
    assert fractions.kind == "fractions"
    assert fractions.how_read.endswith("which sum to 1 in every row")
    assert f"end in {ending}" in fractions.how_read if ending else "names of the answers" in fractions.how_read
    above_1 = read_predictions(csv(tmp_path, header + "1,2.5,7\n2,0.1,0.9\n"), RINGS)
    assert above_1.kind == "concentrations"
    assert above_1.how_read.endswith("which are not all from 0 to 1")
    small = read_predictions(csv(tmp_path, header + "1,0.5,0.7\n2,0.1,0.2\n"), RINGS)
    assert small.how_read.endswith("which do not sum to 1 in every row")
    rows = "".join(f"{i},0.3,0.7\n" for i in range(9))
    with pytest.warns(GZooWarning, match=r"90\.0% .* but not 'ring' in row 10\. All are read as concentrations"):
        assert read_predictions(csv(tmp_path, header + rows + "10,0.3,0.6\n"), RINGS).kind == "concentrations"
    ends = read_predictions(predictions(tmp_path), RINGS)
    assert ends.how_read == "concentrations from columns that end in _concentration"


def test_a_question_without_any_value_is_not_predicted(tmp_path: Path) -> None:
    tree = campaign("gz2").published_tree  # no question that allows several answers
    empty, rest = tree.questions[1], [one for one in tree.questions if one != tree.questions[1]]
    cells = {f"{column}_concentration": [1.0, 2.0] for one in rest for column in one.columns}
    cells |= {f"{column}_concentration": [None, None] for column in empty.columns}
    table = pl.DataFrame({"id_str": ["1", "2"], **cells}, schema_overrides=dict.fromkeys(cells, pl.Float64))
    for name, write in (("p.parquet", table.write_parquet), ("p.csv", table.write_csv)):
        write(tmp_path / name)
        read = read_predictions(tmp_path / name, tree)
        assert read.questions == tuple(one.name for one in rest)
        assert np.isnan(read.values[..., tree.slice(empty.name)]).all()
    first = f"{empty.columns[0]}_concentration"
    with pytest.raises(TableError, match=f"{first} is"):  # one answer with values is not a question without any
        read_predictions(
            predictions_of(tmp_path, table.with_columns(pl.lit(1.0).alias(f"{empty.columns[1]}_concentration"))), tree
        )
    with pytest.raises(TableError, match="contains no predictions: every cell"):
        read_predictions(
            predictions_of(tmp_path, table.select("id_str", *(f"{c}_concentration" for c in empty.columns))), tree
        )


def predictions_of(folder: Path, table: pl.DataFrame) -> Path:
    table.write_parquet(folder / "other.parquet")
    return folder / "other.parquet"


def test_fractions_with_another_sum_are_rejected(tmp_path: Path) -> None:
    path = csv(tmp_path, "id_str,ring_yes_fraction,ring_no_fraction\n1,0.2,0.8\n2,0.1,0.4\n")
    with pytest.raises(TableError, match=r"row 2, galaxy '2': the predicted fractions of question 'ring' sum to 0\.5"):
        read_predictions(path, RINGS)


def test_fits_and_integer_identifiers_are_read(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("id_str", "K", array=np.array([587722981742084144, 2])),
            fits.Column("ring_yes_concentration", "E", array=np.array([1.5, 2])),
            fits.Column("ring_no_concentration", "E", array=np.array([0.5, 2])),
        ]
    )
    table.writeto(tmp_path / "p.fits")
    read = read_predictions(tmp_path / "p.fits", RINGS)
    assert read.keys["id_str"].to_list() == ["587722981742084144", "2"]
    assert read.concentrations[0, 0].tolist() == [1.5, 0.5]


def test_a_mapping_names_columns(tmp_path: Path) -> None:
    path = csv(tmp_path, "objid,p_ring,p_none\nx,0.25,0.75\n")
    mapping = tmp_path / "names.toml"
    mapping.write_text('id_str = "objid"\nvalues = "fractions"\n[answers]\nring_yes = "p_ring"\nring_no = "p_none"\n')
    assert read_predictions(path, RINGS, mapping).fractions.tolist() == [[0.25, 0.75]]
    mapping.write_text('id_str = "objid"\n[answers]\nring_yes = "p_ring"\n')
    with pytest.raises(TableError, match="'ring_no' not found"):
        read_predictions(path, RINGS, mapping)
    mapping.write_text('id_str = "objid"\n[answers]\nring_yes = "p_rong"\nring_no = "p_none"\n')
    with pytest.raises(TableError, match="'p_rong' not found"):
        read_predictions(path, RINGS, mapping)
    mapping.write_text('id_str = "name"\n')
    with pytest.raises(TableError, match="'name' not found"):
        read_predictions(path, RINGS, mapping)


def test_a_file_may_predict_only_some_questions(tmp_path: Path) -> None:
    columns = [f"{name}_concentration" for name in GZ2.question("bar-gz2").columns]
    path = csv(tmp_path, "id_str," + ",".join(columns) + "\n1,2,3\n")
    read = read_predictions(path, GZ2)
    assert read.questions == ("bar-gz2",)
    assert np.isnan(read.concentrations).sum() == len(GZ2.concentrations) - 2
    assert same_questions([read, read]) == ("bar-gz2",)
    with pytest.raises(InputError, match="question in common"):
        same_questions([read, read_predictions(predictions(tmp_path), RINGS)])


SEVERAL = GZ2.question("odd-features-gz2").columns
TWICE = [f"{name}{end}" for name in SEVERAL for end in ("_concentration", "_concentration_no")]


def test_answers_to_a_question_that_allows_several_have_two_concentrations(tmp_path: Path) -> None:
    numbers = [float(i) for i in range(1, len(TWICE) + 1)]
    read = read_predictions(csv(tmp_path, f"id_str,{','.join(TWICE)}\n1,{','.join(map(str, numbers))}\n"), GZ2)
    assert read.questions == ("odd-features-gz2",)
    i = GZ2.questions.index(GZ2.question("odd-features-gz2"))
    assert read.of_question(i, np.array([0]))[0, 0].tolist() == [*numbers[::2], *numbers[1::2]]
    yes, no = np.array(numbers[::2]), np.array(numbers[1::2])
    np.testing.assert_allclose(read.question_fractions(i, np.array([0])), [yes / (yes + no)])
    table = prediction_table(read.keys, read.values, GZ2, read.questions)
    assert set(TWICE) < set(table.columns)
    assert table.select(TWICE).row(0) == tuple(numbers)


def test_a_concentration_without_its_complement_is_rejected(tmp_path: Path) -> None:
    alone = TWICE[::2]
    with pytest.raises(TableError, match=f"Column '{SEVERAL[0]}_concentration_no' not found .* several answers"):
        read_predictions(csv(tmp_path, f"id_str,{','.join(alone)}\n1{',1' * len(alone)}\n"), GZ2)
    with pytest.raises(TableError, match=f"'{SEVERAL[2]}_concentration_no' not found"):
        read_predictions(csv(tmp_path, f"id_str,{','.join(TWICE[:5] + TWICE[6:])}\n1{',1' * (len(TWICE) - 1)}\n"), GZ2)
    with pytest.raises(TableError, match=f"row 1, galaxy '1': {SEVERAL[-1]}_concentration_no is -1"):
        read_predictions(csv(tmp_path, f"id_str,{','.join(TWICE)}\n1{',1' * (len(TWICE) - 1)},-1\n"), GZ2)


def test_fractions_of_several_answers_need_no_complement(tmp_path: Path) -> None:
    columns = [f"{name}_fraction" for name in SEVERAL]
    read = read_predictions(csv(tmp_path, f"id_str,{','.join(columns)}\n1{',0.4' * len(columns)}\n"), GZ2)
    assert read.kind == "fractions"
    assert read.fractions.shape == (1, len(GZ2.columns))
    bare = [*GZ2.question("bar-gz2").columns, *SEVERAL]  # the sums of the other question decide what they are
    read = read_predictions(csv(tmp_path, f"id_str,{','.join(bare)}\n1,0.3,0.7{',0.4' * len(SEVERAL)}\n"), GZ2)
    assert read.kind == "fractions"
    np.testing.assert_allclose(read.fractions[0, GZ2.slice("odd-features-gz2")], 0.4)
    twice = [*bare, *(f"{name}_no" for name in SEVERAL)]
    mapping = tmp_path / "map.toml"
    lines = "\n".join(f'"{name}" = "{name}"' for name in twice)
    mapping.write_text(f'values = "concentrations"\n[answers]\n{lines}\n')
    path = csv(tmp_path, f"id_str,{','.join(twice)}\n1,2,3{',0.4' * len(SEVERAL)}{',0.6' * len(SEVERAL)}\n")
    read = read_predictions(path, GZ2, mapping)
    assert read.kind == "concentrations"
    np.testing.assert_allclose(read.fractions[0, GZ2.slice("odd-features-gz2")], 0.4)


def test_class_probabilities(tmp_path: Path) -> None:
    read = read_class_predictions(csv(tmp_path, "id_str,a_prob,b\n1,0.25,0.75\n2,1,0\n"), ("b", "a"))
    assert read.probabilities.tolist() == [[0.75, 0.25], [0.0, 1.0]]
    with pytest.raises(TableError, match="row 2, galaxy '2': the probabilities sum to 3"):
        read_class_predictions(csv(tmp_path, "id_str,a_prob,b\n1,0.25,0.75\n2,1,2\n"), ("b", "a"))
    with pytest.raises(TableError, match="'c_probability' not found"):
        read_class_predictions(tmp_path / "predictions.csv", ("b", "c"))


def keys(ids: list[str], name: str | None = None) -> pl.DataFrame:
    return pl.DataFrame({"dataset_name": pl.Series([name] * len(ids), dtype=pl.String), "id_str": ids})


def test_votes_are_found_by_either_key(dataset: Path, tmp_path: Path) -> None:
    opened = open_dataset(dataset)
    theirs, votes = opened.read_votes("test")
    name = theirs["dataset_name"][0]
    ids = theirs["id_str"].to_list()[::-1]
    for wanted in (keys(ids), keys(ids, name)):
        found = match(opened, wanted, tmp_path)
        assert found.keys["id_str"].to_list() == ids
        assert found.keys["dataset_name"].to_list() == [name] * len(ids)
        assert (found.votes.counts == votes.counts[::-1]).all()
        assert not found.is_seen.any()
    with pytest.raises(TableError, match=r"1 galaxies \(of 1\) that are not in .* first 'nobody' \(row 1\)"):
        match(opened, keys(["nobody"]), tmp_path)
    train = opened.read_votes("train")[0]["id_str"].to_list()
    with pytest.raises(
        TableError, match=r"1 galaxies that the model was trained on \(of 2.*\n.*\n.* --include-trained-on"
    ):
        refuse_seen(match(opened, keys([train[0], ids[0]]), tmp_path), tmp_path)


def test_an_ambiguous_identifier_needs_a_dataset_name(published: Path, tmp_path: Path) -> None:
    folder = tmp_path / "twice"
    (folder / "data").mkdir(parents=True)
    frame = pl.read_parquet(published / "data" / "test-00000-of-00001.parquet")
    other = frame.with_columns(dataset_name=pl.lit("other"))
    pl.concat([frame, other]).write_parquet(folder / "data" / "test-00000-of-00001.parquet")
    opened = open_dataset(folder)
    one = frame["id_str"][0]
    with pytest.raises(TableError, match=f"'{one}' is ambiguous"):
        match(opened, keys([one]), tmp_path)
    assert match(opened, keys([one], "other"), tmp_path).keys.rows() == [("other", one, "test")]
