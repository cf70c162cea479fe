"""Campaigns as facts: what each Galaxy Zoo campaign asked, of which images, and where its dataset is shared.

Every fact stands, with its source, in one TOML file per campaign under `trees/facts/`. A new campaign is a new
file; no Python changes.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib import resources
from typing import cast

from gzoo.errors import NotFoundError
from gzoo.trees.tree import Question, Tree, union


@dataclass(frozen=True, slots=True)
class Survey:
    """The telescope's part: what the images were made from.

    Attributes:
        name: The survey.
        telescope: The telescope.
        bands: Filters in the volunteers' colour image.
        arcsec_per_pixel: Pixel of the survey's images, before any zoom for the volunteers.
        psf_fwhm_arcsec: Typical full width at half maximum of a star.
        image: How the volunteers' image was cut and scaled.
        grade: Evidence grade of these facts.
        source: Where they are written.
        view: What the simulator's camera needs besides.
        stretch: How its FITS files are shown in colour.
        min_image_arcsec: No image shows less sky than this, arcsec a side; 0 where that is not known, as where
            each image is zoomed to its galaxy without a limit.
    """

    name: str
    telescope: str
    bands: tuple[str, ...]
    arcsec_per_pixel: float
    psf_fwhm_arcsec: float
    image: str
    grade: str
    source: str
    view: View
    stretch: Stretch
    min_image_arcsec: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """How flux becomes brightness, from 0 (black) to 1 (white); `gzoo.images.checks.shown` applies it.

    Attributes:
        scales: Brightness, in the dark, of one unit of flux in each band, shortest wavelength first; none where the
            unit of the survey's files is not known.
        noise: Brightness, in the dark, of one sigma of a band's noise, for files that `scales` do not fit.
        softening: Brightness x becomes asinh(softening x) / softening: how far the curve is from linear.
        black: Brightness of the sky.
        grade: Evidence grade of these facts.
        source: Where they are written.
    """

    scales: tuple[float, ...]
    noise: float
    softening: float
    black: float
    grade: str
    source: str


@dataclass(frozen=True, slots=True)
class View:
    """Depth and framing of a survey's images, as the simulator's camera imitates them.

    Attributes:
        shown_nm: Mean wavelength shown as red, green and blue, nm; one and the same three times for grey images.
        depth_mag: AB magnitude of a point source at 5 times the noise, for each of `shown_nm`.
        sky_mag_arcsec2: Brightness of the sky, AB mag per square arcsec, for each of `shown_nm`.
        radii_per_pixel: A pixel of the 424 pixel image, in radii that hold 90 % of the galaxy's light.
        smallest_pixel_arcsec: But no smaller than that, arcsec.
        grey_of_noise: How bright one sigma of noise in a pixel of the survey is shown, of 255.
        lupton_softening: Q of the asinh stretch: how far it is from linear.
        black_noises: The sky's mean stands this many sigmas above black.
        is_zoomed_from_jpeg: Whether it was a JPEG of the survey's own pixels that was enlarged, and not its data.
        redshifts: Lowest and highest redshift of most galaxies.
        radius_arcsec: Median radius that holds 90 % of the light, and its scatter as a factor.
        clumpy_fraction: About what share of the galaxies is made of bright clumps.
        grade: Evidence grade of these facts.
        source: Where they are written.
    """

    shown_nm: tuple[float, float, float]
    depth_mag: tuple[float, float, float]
    sky_mag_arcsec2: tuple[float, float, float]
    radii_per_pixel: float
    smallest_pixel_arcsec: float
    grey_of_noise: float
    lupton_softening: float
    black_noises: float
    is_zoomed_from_jpeg: bool
    redshifts: tuple[float, float]
    radius_arcsec: tuple[float, float]
    clumpy_fraction: float
    grade: str
    source: str


@dataclass(frozen=True, slots=True)
class Paper:
    """A paper to cite."""

    key: str
    role: str
    authors: tuple[str, ...]
    title: str
    journal: str
    volume: str
    pages: str
    year: int
    doi: str
    arxiv: str

    @property
    def reference(self) -> str:
        """One line for a reader.

        >>> campaign("gz2").papers[0].reference.startswith("Willett")
        True
        """
        authors = ", ".join("et al." if author == "others" else author for author in self.authors)
        where = " ".join(part for part in (self.journal, self.volume, self.pages.replace("--", "-")) if part)
        link = f"doi:{self.doi}" if self.doi else f"arXiv:{self.arxiv}" if self.arxiv else ""
        return ". ".join(part for part in (f"{authors} ({self.year})", self.title, where, link) if part)


@dataclass(frozen=True, slots=True)
class Hub:
    """Where the campaign's dataset is shared.

    Attributes:
        repository: `owner/name` on the Hugging Face Hub, or "".
        gated: "yes", "no" or "unknown": whether one must ask for access.
        gate: Why, in a sentence.
        licence: Licence of the data by its name on the Hub, or "unknown".
        licence_link: Where it stands, if the Hub has no name for it; else "".
        layout: "full" (counts, fractions, totals) or "counts" (the older layout).
        image_size_pixels: Width and height of an image.
        n_galaxies: About how many rows, 0 if not known.
        grade: Evidence grade of these facts.
        source: Where they are written.
    """

    repository: str
    gated: str
    gate: str
    licence: str
    licence_link: str
    layout: str
    image_size_pixels: int
    n_galaxies: int
    grade: str
    source: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What gzoo does where sources disagree, and why."""

    question: str
    decision: str


@dataclass(frozen=True, slots=True)
class TreeSource:
    """How well a tree is known."""

    name: str
    grade: str
    source: str


@dataclass(frozen=True)
class Campaign:
    """A campaign: tree, survey, Hub repository, licence, papers.

    >>> campaign("gz2").hub.repository
    'mwalmsley/gz2'
    """

    name: str
    title: str
    description: str
    tree: Tree
    surveys: tuple[Survey, ...]
    hub: Hub
    papers: tuple[Paper, ...]
    tree_sources: tuple[TreeSource, ...]
    decisions: tuple[Decision, ...]
    members: tuple[str, ...] = ()

    @cached_property
    def published_tree(self) -> Tree:
        """The tree of the questions that the published dataset has columns for."""
        return self.tree.published()

    @property
    def stretch(self) -> Stretch:
        """How FITS files are shown: the stretch of its first survey."""
        return self.surveys[0].stretch


Block = dict[str, object]


def campaigns() -> tuple[Campaign, ...]:
    """All campaigns gzoo knows, by name.

    >>> import gzoo
    >>> "gz_candels" in [campaign.name for campaign in gzoo.campaigns()]
    True
    """
    return tuple(campaign(name) for name in names())


@cache
def names() -> tuple[str, ...]:
    """Names of all campaigns, sorted."""
    folder = resources.files("gzoo") / "trees" / "facts"
    return tuple(sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml")))


@cache
def campaign(name: str) -> Campaign:
    """The campaign of that name.

    Raises:
        NotFoundError: There is none.
    """
    if name not in names():
        raise NotFoundError(
            f"There is no campaign '{name}'.", f"Known campaigns: {', '.join(names())}.", "See `gzoo campaigns`."
        )
    text = (resources.files("gzoo") / "trees" / "facts" / f"{name}.toml").read_text("utf-8")
    facts: Block = tomllib.loads(text)
    members = _texts(facts, "union")
    trees = [_tree(block) for block in _blocks(facts, "trees")]
    surveys = [_survey(block) for block in _blocks(facts, "surveys")]
    papers = [_paper(block) for block in _blocks(facts, "papers")]
    sources = [
        TreeSource(_text(block, "name"), _text(block, "grade"), _text(block, "source"))
        for block in _blocks(facts, "trees")
    ]
    decisions = [
        Decision(_text(block, "question"), _text(block, "decision"))
        for owner in (facts, *_blocks(facts, "trees"))
        for block in _blocks(owner, "decisions")
    ]
    for member in map(campaign, members):
        trees.append(member.tree)
        surveys += member.surveys
        papers += [paper for paper in member.papers if paper not in papers]
        sources += member.tree_sources
        decisions += member.decisions
    tree = trees[0] if len(trees) == 1 else union(name, trees)
    unpublished = _texts(facts, "unpublished")
    if unpublished:
        questions = [
            replace(one, is_published=one.is_published and one.name not in unpublished) for one in tree.questions
        ]
        tree = Tree(tree.name, tuple(questions), tree.unavailable)
    hub = cast(Block, facts["hub"])
    return Campaign(
        name=name,
        title=_text(facts, "title"),
        description=_text(facts, "description"),
        tree=tree,
        surveys=tuple(surveys),
        hub=Hub(
            repository=_text(hub, "repository"),
            gated=_text(hub, "gated"),
            gate=_text(hub, "gate"),
            licence=_text(hub, "licence"),
            licence_link=_text(hub, "licence_link") if "licence_link" in hub else "",
            layout=_text(hub, "layout"),
            image_size_pixels=int(cast(int, hub["image_size_pixels"])),
            n_galaxies=int(cast(int, hub["n_galaxies"])),
            grade=_text(hub, "grade"),
            source=_text(hub, "source"),
        ),
        papers=tuple(papers),
        tree_sources=tuple(sources),
        decisions=tuple(decisions),
        members=members,
    )


def tree(name: str) -> Tree:
    """The decision tree of a campaign.

    >>> import gzoo
    >>> len(gzoo.tree("gz_candels").questions)
    17
    """
    return campaign(name).tree


def _tree(block: Block) -> Tree:
    suffix = _text(block, "suffix")
    ending = f"-{suffix}" if suffix else ""

    def column(answer: str) -> str:
        question, _, label = answer.partition("_")
        return f"{question}{ending}_{label}"

    questions: list[Question] = []
    for facts in _blocks(block, "questions"):
        question, answers = _text(facts, "name"), _texts(facts, "answers")
        questions.append(
            Question(
                name=f"{question}{ending}",
                answers=answers,
                columns=tuple(column(f"{question}_{answer}") for answer in answers),
                parents=tuple(column(parent) for parent in _texts(facts, "parents")),
                multiple=bool(facts.get("multiple", False)),
                is_published=bool(facts["is_published"]),
                grade=_text(facts, "grade") if "grade" in facts else _text(block, "grade"),
            )
        )
    return Tree(_text(block, "name"), tuple(questions))


def _survey(block: Block) -> Survey:
    return Survey(
        name=_text(block, "name"),
        telescope=_text(block, "telescope"),
        bands=_texts(block, "bands"),
        arcsec_per_pixel=_number(block, "arcsec_per_pixel"),
        psf_fwhm_arcsec=_number(block, "psf_fwhm_arcsec"),
        image=_text(block, "image"),
        grade=_text(block, "grade"),
        source=_text(block, "source"),
        view=_view(cast(Block, block["view"])),
        stretch=_stretch(cast(Block, block["stretch"])),
        min_image_arcsec=_number(block, "min_image_arcsec") if "min_image_arcsec" in block else 0.0,
    )


def _stretch(block: Block) -> Stretch:
    return Stretch(
        scales=tuple(float(one) for one in cast(list[float], block["scales"])),
        noise=_number(block, "noise"),
        softening=_number(block, "softening"),
        black=_number(block, "black"),
        grade=_text(block, "grade"),
        source=_text(block, "source"),
    )


def _view(block: Block) -> View:
    return View(
        shown_nm=_red_green_blue(block, "shown_nm"),
        depth_mag=_red_green_blue(block, "depth_mag"),
        sky_mag_arcsec2=_red_green_blue(block, "sky_mag_arcsec2"),
        radii_per_pixel=_number(block, "radii_per_pixel"),
        smallest_pixel_arcsec=_number(block, "smallest_pixel_arcsec"),
        grey_of_noise=_number(block, "grey_of_noise"),
        lupton_softening=_number(block, "lupton_softening"),
        black_noises=_number(block, "black_noises"),
        is_zoomed_from_jpeg=bool(block["is_zoomed_from_jpeg"]),
        redshifts=_pair(block, "redshifts"),
        radius_arcsec=_pair(block, "radius_arcsec"),
        clumpy_fraction=_number(block, "clumpy_fraction"),
        grade=_text(block, "grade"),
        source=_text(block, "source"),
    )


def _paper(block: Block) -> Paper:
    return Paper(
        key=_text(block, "key"),
        role=_text(block, "role"),
        authors=_texts(block, "authors"),
        title=_text(block, "title"),
        journal=_text(block, "journal"),
        volume=_text(block, "volume"),
        pages=_text(block, "pages"),
        year=int(cast(int, block["year"])),
        doi=_text(block, "doi"),
        arxiv=_text(block, "arxiv"),
    )


def _blocks(owner: Block, key: str) -> list[Block]:
    return cast(list[Block], owner.get(key, []))


def _text(owner: Block, key: str) -> str:
    return str(owner[key])


def _texts(owner: Block, key: str) -> tuple[str, ...]:
    return tuple(str(item) for item in cast(list[object], owner.get(key, [])))


def _number(owner: Block, key: str) -> float:
    return float(cast(float, owner[key]))


def _pair(owner: Block, key: str) -> tuple[float, float]:
    first, second = (float(item) for item in cast(list[float], owner[key]))
    return first, second


def _red_green_blue(owner: Block, key: str) -> tuple[float, float, float]:
    red, green, blue = (float(item) for item in cast(list[float], owner[key]))
    return red, green, blue
