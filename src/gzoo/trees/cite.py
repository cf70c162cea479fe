"""Citations: BibTeX or plain text for the campaigns and software used in a paper."""

from __future__ import annotations

import unicodedata
from importlib.metadata import metadata
from pathlib import Path

from gzoo.errors import InputError, suggestion
from gzoo.trees import campaign as campaigns_of
from gzoo.trees.campaign import Campaign
from gzoo.trees.definition import Paper

SOFTWARE = "gzoo"
YEAR = "2026"  # of this version of gzoo
FORMATS = ("bibtex", "text")
PREPRINT = "arXiv preprint"
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~",
    "\u0308": '"', "\u030a": "r ", "\u030c": "v ", "\u0327": "c ",
}  # fmt: skip
_SPECIAL = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{sign: f"${sign}$" for sign in "<>"},
    "ß": r"{\ss}",
    "~": r"$\sim$",
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
}


def cite(*names: Path | str | Campaign, format: str = "bibtex") -> str:
    r"""Cite campaigns and their datasets, or gzoo itself.

    A merged campaign such as gz_evo includes the papers of all its members. Each entry is listed once, under a key that
    never changes; unknown fields of a paper are omitted. The entry of a dataset has the authors and the year of the
    campaign's first paper.

    Args:
        names: Names of campaigns, or paths of their TOML files; `gzoo` for the software. A campaign may be followed by
            `@` and the tag or commit of its dataset that was used, which becomes the version of that entry.
        format: Output format: "bibtex" (the default; plain ASCII) or "text" (one line per entry).

    Raises:
        NotFoundError: A campaign does not exist.
        InputError: The format is unknown, or no name is given.

    >>> print(cite("gz_rings", format="text").splitlines()[0])
    Dey, A., Schlegel, D. J., Lang, D., Blum, R., Burleigh, K., Fan, X., et al. (2019). Overview of the DESI Legacy
    Imaging Surveys. The Astronomical Journal 157 168. doi:10.3847/1538-3881/ab089d
    """
    if format not in FORMATS:
        raise InputError(
            f"Unknown citation format: '{format}'.", f"{' or '.join(FORMATS)}.", suggestion(FORMATS, format)
        )
    if not names:
        raise InputError(
            "No campaign to cite was given.", "one or more campaigns.", "Run `gzoo campaigns` to list them."
        )
    entries: dict[str, str] = {}
    for name in names:
        if isinstance(name, Campaign):
            entries |= _entries(name, format)
        elif str(name) == SOFTWARE:
            entries |= _software(format)
        else:
            text, _, version = (str(name), "", "") if Path(name).is_file() else str(name).partition("@")
            entries |= _entries(campaigns_of.campaign(text), format, version or "main")
    return ("\n\n" if format == "bibtex" else "\n").join(entries.values())


def _entries(campaign: Campaign, format: str, version: str = "main") -> dict[str, str]:
    """Return key -> entry for the papers of a campaign and for a version of its dataset."""
    found = {paper.key: bibtex(paper) if format == "bibtex" else paper.reference for paper in campaign.papers}
    if not campaign.hub.repository:
        return found
    title, url = f"{campaign.title} (dataset)", f"https://huggingface.co/datasets/{campaign.hub.repository}"
    paper = next(iter(campaign.papers), None)
    if format == "text":
        by = f"{paper.reference.partition(f' ({paper.year})')[0]} ({paper.year}). " if paper else ""
        found[campaign.name] = f"{by}{title}. Version {version}. {url}"
    else:
        fields = {
            "author": _authors(paper) if paper else "",
            "title": _whole(title),
            "year": str(paper.year) if paper else "",
            "version": _latex(version),
            "howpublished": "Hugging Face",
            "url": url,
        }
        found[campaign.name] = _entry("misc", campaign.name, fields)
    return found


def _software(format: str) -> dict[str, str]:
    about = metadata(SOFTWARE).json
    title, version, author = (str(about.get(key, "")) for key in ("summary", "version", "author"))
    if format == "text":
        return {SOFTWARE: f"{author} ({YEAR}). {SOFTWARE}: {title}. Version {version}"}
    fields = {"author": _whole(author), "title": _whole(f"{SOFTWARE}: {title}"), "year": YEAR, "version": version}
    return {SOFTWARE: _entry("software", SOFTWARE, fields)}


def _authors(paper: Paper) -> str:
    return " and ".join(_latex(one) if "," in one or one == "others" else _whole(one) for one in paper.authors)


def bibtex(paper: Paper) -> str:
    r"""Return the BibTeX entry of a paper.

    >>> from gzoo.trees.campaign import campaign
    >>> print(bibtex(campaign("gz_desi").papers[0]).splitlines()[1])
      author = {Walmsley, M. and G{\'e}ron, T. and Kruk, S. and Scaife, A. M. M. and Lintott, C. and Masters, K. L.
      and others},
    """
    is_preprint = paper.journal == PREPRINT
    fields = {
        "author": _authors(paper),
        "title": _whole(paper.title),
        "journal": "" if is_preprint else _latex(paper.journal),
        "volume": paper.volume,
        "pages": paper.pages,
        "year": str(paper.year),
        "doi": paper.doi,
        "eprint": paper.arxiv,
        "archiveprefix": "arXiv" if paper.arxiv else "",
    }
    return _entry("misc" if is_preprint else "article", paper.key, fields)


def _entry(kind: str, key: str, fields: dict[str, str]) -> str:
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


def _whole(text: str) -> str:
    """Return text in a second pair of braces, in which styles change no capitals and split no collaboration's name."""
    return f"{{{_latex(text)}}}"


def _latex(text: str) -> str:
    r"""Return text in the ASCII notation of BibTeX.

    >>> _latex("Géron & Häußler, z~4")
    'G{\\\'e}ron \\& H{\\"a}u{\\ss}ler, z$\\sim$4'
    """
    written: list[str] = []
    for sign in text:
        base, *marks = unicodedata.normalize("NFD", sign)
        if len(marks) == 1 and marks[0] in _ACCENTS:
            written.append(f"{{\\{_ACCENTS[marks[0]]}{base}}}")
        else:
            written.append(_SPECIAL.get(sign, sign))
    return "".join(written)
