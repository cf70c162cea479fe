"""The dictionary of a catalogue's columns: what each is called, contains and is measured in.

Every format, and the ReadMe, are written from `catalogue_columns`, so that no two of them can differ.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gzoo.errors import InputError
from gzoo.trees.tree import Question, Tree

Kind = Literal["string", "bool", "int32", "int64", "float32", "float64"]
Names = Literal["legal", "published"]
HEALPIX = "_healpix_29"
"""Column with the HEALPix cell of order 29, nested numbering: near values are near each other on the sky."""
NO_HEALPIX = -1
NO_POSITION = "the position is not known"
MAX_NAME = 68
"""Characters that a card of FITS holds."""
NO_VALUE: Mapping[str, str] = {".fits": "NaN", ".vot": "NaN", ".ecsv": "empty", ".csv": "empty"}
"""What stands for an unknown number in files of each kind; in all others, null."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a catalogue.

    Attributes:
        name: Name in the file.
        published: The same with hyphens, as the columns of datasets are called.
        kind: Type of its values.
        description: What it contains.
        ucd: What it contains in the vocabulary of the Virtual Observatory (UCD1+).
        unit: Unit as FITS and VOTable spell it; "" for pure numbers.
        missing: Why a value may be unknown, or "". Unknown numbers are null, see `NO_VALUE`; unknown text is empty.
        ends: Least and largest possible value, or None.
    """

    name: str
    published: str
    kind: Kind
    description: str
    ucd: str
    unit: str = ""
    missing: str = ""
    ends: tuple[float, float] | None = None


def catalogue_columns(
    tree: Tree,
    *,
    counted: Collection[str],
    is_predicted: bool,
    level: float = 0.9,
    names: Names = "legal",
    questions: Collection[str] = (),
) -> tuple[Column, ...]:
    """Return the columns of a catalogue, in order.

    Args:
        tree: The questions with a posterior.
        counted: Names of the questions whose votes are known.
        is_predicted: Whether a model was used, so that it matters which galaxies it was trained on.
        level: Probability mass of the credible intervals.
        names: "legal" for names that FITS, VOTable, SQL and ADQL accept without quotes, "published" for those with
            hyphens.
        questions: Names of the questions to keep; all if empty.

    Raises:
        InputError: Two columns would have one name, or a name is too long.

    >>> import gzoo
    >>> columns = catalogue_columns(gzoo.tree("gz_rings"), counted=["ring"], is_predicted=False)
    >>> [column.name for column in columns][4:12]
    ['source_id', 'split', 'ring_proportion_volunteers_asked', 'ring_proportion_asked_low',
    'ring_proportion_asked_high', 'ring_total_votes', 'ring_yes_vote_count', 'ring_yes_vote_fraction']
    """
    found = [
        _plain("dataset_name", "string", "Campaign of the galaxy; with _simulated if simulated", "meta.dataset"),
        _plain("id_str", "string", "Identifier of the galaxy, unique within its dataset_name", "meta.id;meta.main"),
        _plain("ra", "float64", "Right ascension (ICRS)", "pos.eq.ra;meta.main", "deg", NO_POSITION, (0, 360)),
        _plain("dec", "float64", "Declination (ICRS)", "pos.eq.dec;meta.main", "deg", NO_POSITION, (-90, 90)),
        _plain("source_id", "string", "Identifier of the galaxy in the survey", "meta.id.cross", "", "not known"),
        _plain("split", "string", "Split of the dataset: train, validation, test or border", "meta.code.class"),
    ]  # fmt: skip
    if is_predicted:
        text = "Whether a model was trained on the galaxy, so that its posterior is that of its votes alone"
        found.append(_plain("in_training_set", "bool", text, "meta.code.status"))
    for question in tree.questions:
        if not questions or question.name in questions:
            found += _of_question(question, question.name in counted, level)
    if names == "published":
        return tuple(found)
    renamed = [_legal(column) for column in found]
    _check_names(renamed)
    return tuple(renamed)


def healpix_column() -> Column:
    """Return the column that Parquet files and HATS collections are sorted by."""
    text = "HEALPix cell of order 29, nested numbering (ICRS)"
    return _plain(HEALPIX, "int64", text, "pos.healpix", "", f"{NO_POSITION}; {NO_HEALPIX}")


def legal_name(published: str) -> str:
    """Return a name that FITS, VOTable, SQL and ADQL accept without quotes.

    >>> legal_name("smooth-or-featured-gz2_featured-or-disk_vote_count")
    'smooth_or_featured_gz2_featured_or_disk_vote_count'
    """
    name = re.sub(r"[^A-Za-z0-9_]", "_", published)
    return f"_{name}" if name[:1].isdigit() else name


def _plain(
    name: str,
    kind: Kind,
    description: str,
    ucd: str,
    unit: str = "",
    missing: str = "",
    ends: tuple[float, float] | None = None,
) -> Column:
    return Column(name, name, kind, description, ucd, unit, missing, ends)


def _of_question(question: Question, is_counted: bool, level: float) -> list[Column]:
    name, unit_interval = question.name, (0.0, 1.0)
    found: list[Column] = []

    def add(published: str, kind: Kind, text: str, ucd: str, missing: str = "", is_fraction: bool = True) -> None:
        ends = unit_interval if is_fraction else None
        found.append(Column(published, published, kind, text, ucd, "", missing, ends))

    asked, unknown = f"volunteers who are asked {name}", "a parent answer is not predicted or not known"
    ucd = "stat.probability;src.morph"
    add(f"{name}_proportion_volunteers_asked", "float32", f"Posterior mean proportion of {asked}", ucd, unknown)
    for end, word, stat in (("low", "Lower", "stat.min"), ("high", "Upper", "stat.max")):
        text = f"{word} end of the {level:.0%} credible interval of the proportion of {asked}"
        add(f"{name}_proportion_asked_{end}", "float32", text, f"{ucd};{stat}", unknown)
    if is_counted:
        add(question.total_column, "int32", f"Volunteers who answered {name}", "meta.number;src.morph", "", False)
    for answer, column in zip(question.answers, question.columns, strict=True):
        what = f"'{answer}' among {asked}"
        if is_counted:
            text = f"Volunteers who answered '{answer}' to {name}"
            add(f"{column}_vote_count", "int32", text, "meta.number;src.morph.type", "", False)
            text = f"Fraction of the votes on {name} that are '{answer}'"
            add(f"{column}_vote_fraction", "float32", text, "src.morph.type;arith.ratio", "nobody answered")
        add(f"{column}_posterior_mean", "float32", f"Posterior mean fraction of {what}", "src.morph.type;stat.mean")
        for end, word, stat in (("low", "Lower", "stat.min"), ("high", "Upper", "stat.max")):
            text = f"{word} end of the {level:.0%} credible interval of the fraction of {what}"
            add(f"{column}_posterior_{end}", "float32", text, f"src.morph.type;{stat}")
    return found


def _legal(column: Column) -> Column:
    name = legal_name(column.published)
    text = column.description if name == column.published else f"{column.description} ({column.published})"
    return Column(name, column.published, column.kind, text, column.ucd, column.unit, column.missing, column.ends)


def _check_names(columns: Sequence[Column]) -> None:
    """Check that names are unique, whatever their case, and short enough for every format."""
    known: dict[str, str] = {}
    hint = "Rename the answers in the campaign's TOML file, or pass --names published."
    for column in columns:
        other = known.setdefault(column.name.lower(), column.published)
        if other != column.published:
            raise InputError(
                f"Columns '{other}' and '{column.published}' would both be called '{column.name}'.",
                "names that differ in letters or digits, because FITS, VOTable and SQL do not know hyphens.",
                hint,
            )
        if len(column.name) > MAX_NAME:
            raise InputError(
                f"The column name '{column.name}' has {len(column.name)} characters.",
                f"at most {MAX_NAME}, because a card of a FITS header holds no more.",
                hint,
            )
