"""What the TOML file of a campaign may contain.

A field without a default is a required key, a class is a table. docs/how-to/add-a-campaign.md has a complete example.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated

from gzoo.errors import choices
from gzoo.trees.reading import Rule

GRADES = ("READ", "COUNTED", "FITTED", "INFERRED", "GUESS")


def _words(pattern: str, expected: str) -> Rule:
    return Rule(re.compile(pattern, re.ASCII).fullmatch, expected)


def _one_of(*values: str) -> Rule:
    return Rule(values.__contains__, choices(values))


# Names become columns, file names, keys in JSON and words in cards; FITS does not distinguish capitals.
Name = Annotated[
    str,
    _words(r"(?=.{1,40}$)[a-z0-9]+([_-][a-z0-9]+)*", "a name of at most 40 lower-case letters, digits, - and _."),
]
Word = Annotated[
    str, _words(r"(?=.{1,60}$)[a-z0-9]+(-[a-z0-9]+)*", "a name of at most 60 lower-case letters, digits and hyphens.")
]
Suffix = Annotated[str, _words(r"[a-z0-9]{0,20}", 'at most 20 lower-case letters and digits; "" for none.')]
Text = Annotated[str, Rule(bool, "text.")]
Grade = Annotated[str, _one_of(*GRADES)]
Positive = Annotated[float, Rule(lambda value: value > 0, "a positive number.")]
NotNegative = Annotated[float, Rule(lambda value: value >= 0, "a number of at least 0.")]
Fraction = Annotated[float, Rule(lambda value: 0 <= value <= 1, "a number from 0 to 1.")]
Rising = Rule(lambda values: values[0] <= values[1], "two numbers, the lower one first.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Conversion from flux to display intensity, 0 (black) to 1 (white), as `gzoo.images.fits.render` applies it.

    Attributes:
        scales: Intensity, near black, of one unit of flux in each band, shortest wavelength first; empty if the unit of
            the survey's files is not known.
        noise: Intensity, near black, of one sigma of a band's noise, for files that `scales` do not fit.
        softening: Intensity x becomes asinh(softening x) / softening: how far the curve is from linear.
        black: Intensity of the sky.
        grade: Evidence grade of these values.
        source: Source of these values.
    """

    scales: tuple[Positive, ...]
    noise: Positive
    softening: Positive
    black: Fraction
    grade: Grade = ""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Depth and framing of a survey's images, as the simulator's camera imitates them.

    Attributes:
        shown_nm: Mean wavelength shown as red, green and blue, nm; the same value three times for grey images.
        depth_mag: AB magnitude of a point source at 5 times the noise, for each of `shown_nm`.
        sky_mag_arcsec2: Surface brightness of the sky, AB mag per square arcsec, for each of `shown_nm`.
        radii_per_pixel: Size of a pixel of the 424 pixel image, in radii that contain 90% of the galaxy's light.
        smallest_pixel_arcsec: Lower limit of that size, arcsec.
        grey_of_noise: Grey level (of 255) of one sigma of noise in a pixel of the survey.
        lupton_softening: Q of the asinh stretch: how far it is from linear.
        black_noises: Mean of the sky above black, in sigmas.
        is_zoomed_from_jpeg: Whether a JPEG of the survey's own pixels was enlarged, and not its data.
        redshifts: Lowest and highest redshift of most galaxies.
        radius_arcsec: Median radius that contains 90% of the light, and its scatter as a factor.
        clumpy_fraction: Approximate fraction of the galaxies that consist of bright clumps.
        grade: Evidence grade of these values.
        source: Source of these values.
    """

    shown_nm: tuple[Positive, Positive, Positive]
    depth_mag: tuple[float, float, float]
    sky_mag_arcsec2: tuple[float, float, float]
    radii_per_pixel: Positive
    smallest_pixel_arcsec: NotNegative
    grey_of_noise: Positive
    lupton_softening: Positive
    black_noises: float
    is_zoomed_from_jpeg: bool
    redshifts: Annotated[tuple[NotNegative, NotNegative], Rising]
    radius_arcsec: tuple[Positive, Positive]
    clumpy_fraction: Fraction
    grade: Grade = ""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The observations that the images were made from.

    Attributes:
        name: Name of the survey.
        telescope: Name of the telescope.
        bands: Filters in the volunteers' colour image.
        arcsec_per_pixel: Pixel size of the survey's images, before any zoom for the volunteers.
        psf_fwhm_arcsec: Typical full width at half maximum of a star.
        image: How the volunteers' image was cut and scaled.
        grade: Evidence grade of these values.
        source: Source of these values.
        view: Further values for the simulator's camera; None if it cannot be simulated.
        stretch: Conversion of its FITS files to colour images; None if its images are not FITS files.
        min_image_arcsec: Smallest width of an image on the sky, arcsec; 0 if it is not known, for example because
            each image is zoomed to its galaxy without a limit.
    """

    name: Text
    telescope: Text
    bands: tuple[Text, ...]
    arcsec_per_pixel: Positive
    psf_fwhm_arcsec: Positive
    image: Text
    grade: Grade = ""
    source: str = ""
    view: View | None = None
    stretch: Stretch | None = None
    min_image_arcsec: NotNegative = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """A paper to cite."""

    key: Annotated[str, _words(r"[A-Za-z][A-Za-z0-9:_-]{0,40}", "a BibTeX key, such as Willett2013.")]
    role: Annotated[str, _one_of("campaign", "survey", "dataset")] = "campaign"
    authors: Annotated[tuple[Text, ...], Rule(bool, "a list of authors, at least one.")]
    title: Text
    journal: str = ""
    volume: str = ""
    pages: str = ""
    year: Annotated[int, Rule(lambda year: 1900 <= year <= 2200, "a year.")]
    doi: str = ""
    arxiv: str = ""

    @property
    def reference(self) -> str:
        """The paper as one line of plain text.

        >>> import gzoo
        >>> gzoo.campaign("gz2").papers[0].reference.startswith("Willett")
        True
        """
        authors = ", ".join("et al." if author == "others" else author for author in self.authors)
        where = " ".join(part for part in (self.journal, self.volume, self.pages.replace("--", "-")) if part)
        link = f"doi:{self.doi}" if self.doi else f"arXiv:{self.arxiv}" if self.arxiv else ""
        return ". ".join(part for part in (f"{authors} ({self.year})", self.title, where, link) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """Publication of the campaign's dataset on the Hugging Face Hub.

    Attributes:
        repository: `owner/name` on the Hub, or "".
        gated: Whether access must be requested: "yes", "no" or "unknown".
        access_note: The reason for `gated`, as a sentence.
        licence: Licence of the data by its name on the Hub, or "unknown".
        layout: "full" (counts, fractions, totals) or "counts" (the older layout).
        image_size_pixels: Width and height of an image.
        n_galaxies: Approximate number of rows, 0 if not known.
        grade: Evidence grade of these values.
        source: Source of these values.
        licence_link: URL of a licence without a name on the Hub, or "".
    """

    repository: Annotated[str, _words(r"([\w.-]+/[\w.-]+)?", "owner/name on the Hub.")] = ""
    gated: Annotated[str, _one_of("yes", "no", "unknown")] = "unknown"
    access_note: str = ""
    licence: Annotated[str, _words(r"[a-z0-9][a-z0-9.-]*", "its name on the Hub, such as cc-by-4.0.")] = "unknown"
    layout: Annotated[str, _one_of("full", "counts")] = "full"
    image_size_pixels: Annotated[int, Rule(lambda size: size >= 0, "a number of pixels.")] = 424
    n_galaxies: Annotated[int, Rule(lambda n: n >= 0, "a number of galaxies.")] = 0
    grade: Grade = ""
    source: str = ""
    licence_link: Annotated[str, _words(r"(https://\S+)?", "an address, https://...")] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What gzoo does where sources disagree, with the reason."""

    question: str = ""
    decision: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeSource:
    """Evidence for a tree: its grade and source."""

    name: Text
    grade: Grade = ""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedQuestion:
    """A question as a campaign's file defines it, without the suffix of its tree.

    Attributes:
        name: Name, such as `disk-edge-on`.
        answers: Short names of the answers, in the order of the columns.
        parents: Answers that lead to it, as `question_answer`; empty if everyone is asked.
        multiple: Whether one volunteer may give several answers at once.
        ordered: The answers that are steps of one quantity, in its order; empty if there are none.
        is_published: Whether the dataset has columns for it.
        grade: Evidence grade, if it is not that of the tree.
        note: A remark.
    """

    name: Word
    answers: Annotated[tuple[Word, ...], Rule(bool, "a list of answers, at least one.")]
    parents: tuple[Text, ...] = ()
    multiple: bool = False
    ordered: tuple[Word, ...] = ()
    is_published: bool = True
    grade: Grade = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedTree:
    """A decision tree as a campaign's file defines it.

    Attributes:
        suffix: Ending of its questions' names, so that `bar` becomes `bar-gz2`; "" for none.
        questions: The questions, in the order of the columns.
        name: Name of the tree; by default that of the campaign.
        key: Name of the tree in other collections.
        grade: Evidence grade of the tree.
        source: Source of the tree.
        decisions: What was decided where sources disagree.
    """

    suffix: Suffix
    questions: Annotated[tuple[AskedQuestion, ...], Rule(bool, "one or more tables, [[...]].")]
    name: str = ""
    key: str = ""
    grade: Grade = ""
    source: str = ""
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A column of labels in a dataset that was not made from votes.

    Attributes:
        name: Name of the column.
        kind: "class" (stored as the number of the class, -1 if unknown), "integer", "number" (NaN if unknown) or
            "string" ('' if unknown).
        classes: Names of the classes, in the order of their numbers; empty for the other kinds.
        meaning: What the column contains.
    """

    name: Text
    kind: Annotated[str, _one_of("class", "integer", "number", "string")]
    classes: tuple[Text, ...] = ()
    meaning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """The content of a campaign's TOML file; a field without a default is a required key.

    Attributes:
        name: Name of the campaign: the `dataset_name` of its galaxies.
        title: Title.
        description: What its images show, in a sentence or two.
        trees: Its decision trees; several if volunteers saw different versions.
        union: Instead of trees, the campaigns that it merges: campaigns of gzoo, or files `NAME.toml` beside this one.
        unpublished: Questions of these that its dataset omits.
        labels: Instead of trees, the columns of a dataset that was built from labels.
        surveys: The observations that its images were made from.
        hub: Its dataset on the Hugging Face Hub.
        papers: Papers to cite.
        decisions: What was decided where sources disagree.
    """

    name: Name
    title: Text
    description: Text
    trees: tuple[AskedTree, ...] = ()
    union: tuple[Name, ...] = ()
    unpublished: tuple[Text, ...] = ()
    labels: tuple[Label, ...] = ()
    surveys: tuple[Survey, ...] = ()
    hub: Hub = field(default_factory=Hub)
    papers: tuple[Paper, ...] = ()
    decisions: tuple[Decision, ...] = ()
