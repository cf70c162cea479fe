"""Metadata of the Galaxy Zoo campaigns: decision trees, surveys, Hub repositories and papers.

Each campaign is one TOML file under `trees/facts/`, which names the source of every value. A new campaign needs a new
file and no changes in Python.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, is_dataclass, replace
from functools import cache, cached_property
from importlib import resources
from typing import Any, TypeVar, get_args, get_type_hints

from gzoo.errors import NotFoundError, choices, suggestion
from gzoo.trees.tree import Question, Tree, union


@dataclass(frozen=True, slots=True)
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
        view: Further values for the simulator's camera.
        stretch: Conversion of its FITS files to colour images.
        min_image_arcsec: Smallest width of an image on the sky, arcsec; 0 if it is not known, for example because
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
    min_image_arcsec: float = 0.0


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
        """The paper as one line of plain text.

        >>> campaign("gz2").papers[0].reference.startswith("Willett")
        True
        """
        authors = ", ".join("et al." if author == "others" else author for author in self.authors)
        where = " ".join(part for part in (self.journal, self.volume, self.pages.replace("--", "-")) if part)
        link = f"doi:{self.doi}" if self.doi else f"arXiv:{self.arxiv}" if self.arxiv else ""
        return ". ".join(part for part in (f"{authors} ({self.year})", self.title, where, link) if part)


@dataclass(frozen=True, slots=True)
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

    repository: str
    gated: str
    access_note: str
    licence: str
    layout: str
    image_size_pixels: int
    n_galaxies: int
    grade: str
    source: str
    licence_link: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What gzoo does where sources disagree, with the reason."""

    question: str
    decision: str


@dataclass(frozen=True, slots=True)
class TreeSource:
    """Evidence for a tree: its grade and source."""

    name: str
    grade: str
    source: str


@dataclass(frozen=True)
class Campaign:
    """A Galaxy Zoo campaign: its decision tree, surveys, Hub repository and papers.

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
        """The tree of the questions in the published dataset."""
        return self.tree.published()

    @property
    def stretch(self) -> Stretch:
        """Conversion of FITS files to colour images: the stretch of the first survey."""
        return self.surveys[0].stretch


Block = dict[str, Any]
Facts = TypeVar("Facts")


def campaigns() -> tuple[Campaign, ...]:
    """List the campaigns, sorted by name.

    >>> import gzoo
    >>> "gz_candels" in [campaign.name for campaign in gzoo.campaigns()]
    True
    """
    return tuple(campaign(name) for name in names())


@cache
def names() -> tuple[str, ...]:
    """Return the names of all campaigns, sorted."""
    folder = resources.files("gzoo") / "trees" / "facts"
    return tuple(sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml")))


@cache
def campaign(name: str) -> Campaign:
    """Return the campaign of that name.

    Raises:
        NotFoundError: No campaign has this name.
    """
    if name not in names():
        raise NotFoundError(
            f"Campaign not found: '{name}'.",
            choices(names(), name),
            suggestion(names(), name, "Run `gzoo campaigns` to list them."),
        )
    facts: Block = tomllib.loads((resources.files("gzoo") / "trees" / "facts" / f"{name}.toml").read_text("utf-8"))
    blocks: list[Block] = facts.get("trees", [])
    trees = [_tree(block) for block in blocks]
    surveys = [_build(Survey, block) for block in facts.get("surveys", ())]
    papers = [_build(Paper, block) for block in facts.get("papers", ())]
    sources = [_build(TreeSource, block) for block in blocks]
    decisions = [_build(Decision, block) for owner in (facts, *blocks) for block in owner.get("decisions", ())]
    members = tuple(facts.get("union", ()))
    for member in map(campaign, members):
        trees.append(member.tree)
        surveys += member.surveys
        papers += [paper for paper in member.papers if paper not in papers]
        sources += member.tree_sources
        decisions += member.decisions
    tree = trees[0] if len(trees) == 1 else union(name, trees)
    if unpublished := facts.get("unpublished"):
        kept = [replace(one, is_published=False) if one.name in unpublished else one for one in tree.questions]
        tree = replace(tree, questions=tuple(kept))
    return Campaign(
        name=name,
        title=facts["title"],
        description=facts["description"],
        tree=tree,
        surveys=tuple(surveys),
        hub=_build(Hub, facts["hub"]),
        papers=tuple(papers),
        tree_sources=tuple(sources),
        decisions=tuple(decisions),
        members=members,
    )


def tree(name: str) -> Tree:
    """Get the decision tree of a campaign.

    Args:
        name: Name of the campaign.

    >>> import gzoo
    >>> len(gzoo.tree("gz_candels").questions)
    17
    """
    return campaign(name).tree


def _tree(block: Block) -> Tree:
    ending = f"-{block['suffix']}" if block["suffix"] else ""
    questions = [
        Question(
            name=f"{facts['name']}{ending}",
            answers=tuple(facts["answers"]),
            columns=tuple(f"{facts['name']}{ending}_{answer}" for answer in facts["answers"]),
            parents=tuple(parent.replace("_", f"{ending}_", 1) for parent in facts.get("parents", ())),
            multiple=facts.get("multiple", False),
            is_published=facts["is_published"],
            grade=facts.get("grade", block["grade"]),
        )
        for facts in block["questions"]
    ]
    return Tree(block["name"], tuple(questions))


def _build(kind: type[Facts], block: Block) -> Facts:
    """Build a dataclass from the values of the same names."""
    types = get_type_hints(kind)
    return kind(**{key: _converted(types[key], value) for key, value in block.items() if key in types})


def _converted(wanted: type, value: Any) -> Any:
    if is_dataclass(wanted):
        return _build(wanted, value)
    return tuple(map(get_args(wanted)[0], value)) if isinstance(value, list) else wanted(value)
