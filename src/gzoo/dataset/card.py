"""Dataset card: `README.md` with the YAML header that the Hub and `datasets` read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, cast

from gzoo import files, hub, sky
from gzoo.dataset.label_summary import in_words
from gzoo.dataset.schema import Field, Record, record
from gzoo.sky.identifier_split import PUBLISHED, WITHOUT_VALIDATION
from gzoo.trees.campaign import Campaign
from gzoo.trees.cite import cite
from gzoo.trees.definition import Survey
from gzoo.trees.drawing import tree_svg
from gzoo.votes.votes import WELL_VOTED

TREE = "tree.svg"
"""File name of the drawing of the decision tree."""
SIMULATED_LIMIT = "- The data contain no information about the sky. Use them to test methods.\n"
SEVERAL_LIMIT = (
    "- The dataset has questions of several campaigns, which differ in wording, answers and images. Do not add up "
    "columns with similar names.\n"
)
MEMBERS = "## Datasets"
SHARE_ALIKE = "cc-by-nc-sa-4.0"
KEPT = re.compile(r"\b(nc|sa|nd|gpl|agpl)\b")
"""Parts of the names of licences that hold for whatever is made from the work."""
UNKNOWN = "unknown"
MAX_SIZES_SHOWN = 5
SIZES = (
    *((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M")),
    *((10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"), (10**11, "10B<n<100B")),
    *((10**12, "100B<n<1T"),),
)
"""Numbers of rows, and the Hub's names for fewer than these; it knows no others."""

_Manifest = Mapping[str, Any]


def text(campaign: Campaign, manifest: Mapping[str, Any], folder: Path) -> str:
    """Return the card of a dataset folder.

    Args:
        campaign: Campaign of the dataset.
        manifest: Manifest of the dataset; its list of files is not needed.
        folder: Folder with the shards.
    """
    n_bytes = {
        config: sum(path.stat().st_size for split in splits for path in files.shards(folder, split, config))
        for config, splits in manifest["splits"].items()
    }
    return hub.card_text(header(campaign, manifest, n_bytes), _body(campaign, manifest))


def header(campaign: Campaign, manifest: Mapping[str, Any], n_bytes: Mapping[str, int]) -> dict[str, object]:
    """Return the YAML header of the card.

    Args:
        campaign: Campaign of the dataset.
        manifest: Manifest of the dataset; its list of files is not needed.
        n_bytes: Size of the shards of each config, in bytes.
    """
    is_simulated: bool = manifest["is_simulated"]
    columns = _record(campaign, manifest)
    sizes_of = {"int32": 4, "float32": 4, "float64": 8, "int64": 8, "class_label": 8}
    row_bytes = sum(sizes_of.get(field.dtype, 16) for field in columns.fields)
    infos: list[dict[str, object]] = []
    for config, splits in manifest["splits"].items():
        sizes = {split: manifest["image_bytes"][config][split] + n * row_bytes for split, n in splits.items()}
        infos.append(
            {
                "config_name": config,
                "features": columns.card_features(),  # a new list for each config, so that YAML writes no alias
                "splits": [
                    {"name": split, "num_bytes": sizes[split], "num_examples": n} for split, n in splits.items()
                ],
                "download_size": n_bytes[config],
                "dataset_size": sum(sizes.values()),
            }
        )
    n = sum(manifest["splits"]["default"].values())
    arxiv = [f"arxiv:{paper.arxiv}" for paper in campaign.papers if paper.arxiv]
    of_images = ["image-classification", "image-feature-extraction"]
    of_votes = {"annotations_creators": ["machine-generated" if is_simulated else "crowdsourced"]}
    return {
        **_licence(campaign, is_simulated),
        "pretty_name": _title(campaign, is_simulated),
        **({} if campaign.labels else of_votes),  # nobody says who gave labels
        "task_categories": of_images if manifest["has_images"] else ["tabular-classification"],
        "tags": ["astronomy", "galaxies", "physics"]
        if campaign.labels
        else [
            *("galaxy zoo", "astronomy", "galaxies", "physics"),
            *(["simulated"] if is_simulated else ["citizen science", *arxiv]),
        ],
        "size_categories": [next((name for limit, name in SIZES if n < limit), "n>1T")],
        "configs": [
            {
                "config_name": config,
                "data_files": [{"split": split, "path": f"{files.shard_start(split, config)}*"} for split in splits],
            }
            for config, splits in manifest["splits"].items()
        ],
        "dataset_info": infos,
    }


@cache
def headings() -> frozenset[str]:
    """Return the headings of level 2 that cards may have."""
    templates = [
        (resources.files("gzoo") / "dataset" / name).read_text("utf-8") for name in ("card.md", "card_labels.md")
    ]
    return frozenset([MEMBERS, *(line for text in templates for line in text.splitlines() if line.startswith("## "))])


def licence_of(campaign: Campaign, *, is_simulated: bool) -> str:
    """Return the licence of a dataset, "unknown" if none is known.

    >>> from gzoo.trees.campaign import campaign
    >>> licence_of(campaign("gz2"), is_simulated=False), licence_of(campaign("gz2"), is_simulated=True)
    ('cc-by-nc-sa-4.0', 'cc0-1.0')
    """
    return "cc0-1.0" if is_simulated else campaign.hub.licence


def model_licence(run: Mapping[str, object]) -> str:
    """Return the licence of a model: that of its data, or that of the encoder it started from if that must be kept.

    Args:
        run: Content of its `run.json`.

    >>> model_licence({"data": {"licence": "cc0-1.0"}, "from": {"licence": "cc-by-nc-sa-4.0"}})
    'cc-by-nc-sa-4.0'
    """
    data, start = (cast("Mapping[str, object]", run.get(key) or {}) for key in ("data", "from"))
    of_data, of_start = (str(one.get("licence", UNKNOWN)) for one in (data, start))
    return of_start if KEPT.search(of_start.lower().replace("-", " ")) else of_data


def model_terms(licence: str) -> str:
    """Return what the licence of the data requires of models that are trained on them.

    >>> model_terms("cc0-1.0")
    'You may share models without restrictions.'
    """
    if licence == "cc0-1.0":
        return "You may share models without restrictions."
    if licence == SHARE_ALIKE:
        return (
            "Commercial use is not permitted, and adapted data must be shared under the same licence. For trained "
            "models, the licence asks that the source of the training is released with the model, at the latest when "
            "the model is published."
        )
    return "Ask the authors of the data before you share models that were trained on them."


def tree_image(campaign: Campaign) -> str:
    """Return the drawing of the decision tree as the content of an SVG file."""
    return f"{tree_svg(campaign.tree)}\n"


def _licence(campaign: Campaign, is_simulated: bool) -> dict[str, str]:
    """Return the entries of the licence; one that the Hub does not know is "other", with a name and a link."""
    licence = licence_of(campaign, is_simulated=is_simulated)
    if is_simulated or not campaign.hub.licence_link:
        return {"license": licence}
    return {"license": "other", "license_name": licence, "license_link": campaign.hub.licence_link}


def _title(campaign: Campaign, is_simulated: bool) -> str:
    return f"{campaign.title}{' (simulated)' if is_simulated else ''}"


def _record(campaign: Campaign, manifest: _Manifest) -> Record:
    columns = manifest["columns"]
    return record(campaign, image="image" in columns, source_id="source_id" in columns)


def _table(*rows: list[str]) -> str:
    """Return a Markdown table, whose first row is the heading."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _split_text(manifest: _Manifest) -> str:
    """Return how galaxies were assigned to splits."""
    order = "Rows are sorted by a hash of `id_str`."
    scheme, n_by_id = manifest["split_scheme"], manifest["n_split_by_id"]
    if scheme == PUBLISHED:
        return f"Each galaxy is in the split that the source table lists. {order}"
    base = scheme.removesuffix(WITHOUT_VALIDATION)
    by_id = "a hash of `id_str` (70% train, 10% validation, 20% test)"
    if base not in sky.SCHEMES:
        rule = f"The split of a galaxy depends only on {by_id}, because positions are unknown."
    else:
        known = sky.SCHEMES[base]
        train, validation, test = known.split_fractions
        rule = (
            "The split of a galaxy depends only on its position on the sky. A hash of the HEALPix cell (nside "
            f"{known.nside}, nested, {known.cell_arcsec:.0f} arcsec wide) assigns the cell to train ({train}%), "
            f"validation ({validation}%) or test ({test}%). Galaxies within {known.margin_arcsec:g} arcsec of a cell "
            "in another split are in `border`, a buffer between the splits. The same galaxy is therefore never in two "
            "of these splits, in any dataset with this scheme."
        )
        if n_by_id:
            rule += f" {n_by_id:,} galaxies do not have a known position; their split depends on {by_id}."
    merged = " Galaxies of `validation` were moved to `train`." if base != scheme else ""
    return f"Scheme `{scheme}`. {rule}{merged} Adding galaxies does not change the split of others. {order}"


def _origin_text(manifest: _Manifest) -> str:
    """Return how many rows the source has, and which were dropped."""
    source = "The source tables of these datasets have" if "datasets" in manifest else "The source table has"
    reasons = "; ".join(f"{reason} ({n:,})" for reason, n in manifest["n_dropped"].items())
    dropped = f"Dropped, with details in `dropped.parquet`: {reasons}." if reasons else "None of them was dropped."
    return f"{source} {manifest['n_rows_in_table']:,} rows. {dropped}"


def _description(campaign: Campaign, manifest: _Manifest) -> str:
    if "datasets" not in manifest:
        return campaign.description
    n, names = len(manifest["datasets"]), _names(list(manifest["datasets"]))
    return (
        f"Rows of {n} dataset{'s' if n > 1 else ''}: {names}. The columns are those of {campaign.title} "
        f"(`{campaign.name}`)."
    )


def _members(manifest: _Manifest) -> list[str]:
    """Return the section about the datasets of a union: their numbers of rows, and the galaxies that they share."""
    if "datasets" not in manifest:
        return []
    splits, same = list(manifest["splits"]["default"]), manifest["same_galaxies"]
    rows = [
        [f"`{name}`", *(f"{n.get(split, 0):,}" for split in splits), f"{sum(n.values()):,}"]
        for name, n in manifest["datasets"].items()
    ]
    shared = (
        "Each row is a galaxy of one dataset. Questions that its campaign did not ask have counts and totals of 0 and "
        f"fractions of NaN. {same['n_shared']:,} galaxies are in several datasets, and {same['n_repeated']:,} are "
        "several times in one dataset (matched within 2 arcsec). `crossmatch.parquet` lists their rows."
    )
    if same["n_across"]:
        shared += (
            f" **{same['n_across']:,} pairs of these rows are in different splits**, because the datasets were split "
            "independently."
        )
    return [
        MEMBERS,
        _table(["dataset_name", *splits, "total"], *rows),
        shared,
        *(
            f"Votes on {_names(one['not_collected'])} are unknown for {_names(one['dataset_names'])}: the zeros in "
            "these rows are missing values."
            for one in manifest["inputs"]
            if one["not_collected"]
        ),
    ]


def _image_text(manifest: _Manifest) -> str:
    if not manifest["has_images"]:
        return "This dataset contains votes only."
    sizes: list[list[int]] = manifest["image_sizes"]
    shown = [f"{width} x {height}" for width, height in sizes[:MAX_SIZES_SHOWN]]
    shown += ["other sizes"] * (len(sizes) > MAX_SIZES_SHOWN)
    checked = "fully decoded" if manifest["are_images_decoded"] else "headers only"
    return (
        f"Image size: {', '.join(shown)} pixels. Images were checked when the dataset was built ({checked}). JPEG and "
        "PNG files are stored unchanged; FITS files were converted to colour images. `images.parquet` lists the source "
        "and SHA-256 of each image."
    )


def _question_table(manifest: _Manifest) -> str:
    n = sum(manifest["splits"]["default"].values())
    headings = ["question", "galaxies with votes", f"with at least {WELL_VOTED} votes", "median votes (if any)"]
    rows = [[*headings, "total votes", "rows that contradict the tree"]]
    for name, one in manifest["questions"].items():
        figures = [f"{one[key]:,} ({_percent(one[key], n)})" for key in ("n_galaxies", "n_well_voted")]
        figures.append(f"{one['median_votes']:,}")
        if name in manifest["not_collected"]:
            figures = ["not asked" if name in manifest.get("not_asked", []) else "not collected", "", ""]
        rows.append([f"`{name}`", *figures, f"{one['n_votes']:,}", f"{one['n_breaks']:,}"])
    return _table(*rows)


def _percent(part: int, whole: int) -> str:
    percent = 100 * part / whole if whole else 0.0
    return f"{percent:.{1 if percent < 10 else 0}f}%"


def _survey_text(survey: Survey) -> str:
    evidence = f" ({survey.grade}: {survey.source})" if survey.grade else ""
    return (
        f"- **{survey.name}**: {survey.telescope}, bands {', '.join(survey.bands)}; {survey.arcsec_per_pixel:g} arcsec "
        f"per pixel; PSF FWHM {survey.psf_fwhm_arcsec:g} arcsec. {survey.image}{evidence}"
    )


def _body(campaign: Campaign, manifest: _Manifest) -> str:
    """Return the card without its header: the paragraphs of `card.md`, except those that are empty."""
    is_simulated, has_images = manifest["is_simulated"], manifest["has_images"]
    not_collected = [name for name in manifest["not_collected"] if name not in manifest.get("not_asked", [])]
    not_known = manifest["proportion_asked_not_known"]
    counts = [[config, *(f"{n:,}" for n in splits.values())] for config, splits in manifest["splits"].items()]
    fields = [[f"`{one.name}`", _type_of(one), one.meaning] for one in _record(campaign, manifest).fields]
    tables = "the source tables do" if "datasets" in manifest else "the source table does"
    missing: list[str] = []
    if not_collected:
        missing.append(
            f"**Not collected:** {tables} not contain counts for {_names(not_collected)}. The zeros in their columns "
            "are missing values."
        )
    if not_known:
        missing.append(
            f"**Unknown proportion of volunteers asked:** {_names(not_known)}, because some parent answers are not "
            "columns of this dataset."
        )
    grades = sorted({f"`{source.name}` {source.grade or 'not graded'}" for source in campaign.tree_sources})
    simulated = (
        "> **Simulated.** The images were not taken by a telescope, and the votes were not given by volunteers. gzoo "
        "simulated both, for tests and demonstrations."
    )
    values = {
        "title": _title(campaign, is_simulated),
        "simulated": simulated if is_simulated else "",
        "description": _description(campaign, manifest),
        "its_image": "its image and " if has_images else "",
        "like": "Simulated with the properties of:" if is_simulated else "",
        "surveys": "\n".join(map(_survey_text, campaign.surveys)),
        "images": _image_text(manifest),
        "splits": _names(list(manifest["splits"]["default"])),
        "tensors": "images as uint8 tensors of shape (3, height, width)" if has_images else "votes as tensors",
        "exclude": '.select(pl.exclude("image"))' if has_images else "",
        "split_table": _table(["config", *manifest["splits"]["default"]], *counts),
        "split_rule": _split_text(manifest),
        "members": "\n\n".join(_members(manifest)),
        "origin": _origin_text(manifest),
        "drawing": TREE,
        "questions": _question_table(manifest),
        "missing": "\n\n".join(missing),
        "tree": campaign.tree.to_text(),
        "columns": _table(["column", "type", "meaning"], *fields),
        "limit": SIMULATED_LIMIT if is_simulated else "",
        "several": SEVERAL_LIMIT if len(campaign.tree.parts) > 1 or campaign.members else "",
        "grades": ", ".join(grades),
        "definition": "its definition in `manifest.json`" if campaign.definitions else f"`gzoo tree {campaign.name}`",
        "licence": "\n\n".join(_licence_text(campaign, is_simulated)),
        **_label_values(campaign, manifest),
    }
    name = "card_labels.md" if campaign.labels else "card.md"
    template = (resources.files("gzoo") / "dataset" / name).read_text("utf-8")
    parts = [one.format(**values) for one in template.split("\n\n")]
    if campaign.labels and not values["first_class"]:
        parts = ["\n".join(line for line in one.splitlines() if 'features[""]' not in line) for one in parts]
    return "\n\n".join(filter(None, parts))


def _label_values(campaign: Campaign, manifest: _Manifest) -> dict[str, str]:
    """Return what the card of a dataset of labels says about them."""
    if not campaign.labels:
        return {}
    found: dict[str, Mapping[str, object]] = manifest["labels"]
    rows = [[f"`{name}`", f"{one['n_known']:,}", in_words(one)] for name, one in found.items()]
    classes = [one.name for one in campaign.labels if one.classes]
    return {
        "labels": _table(["label", "galaxies with it", "values"], *rows),
        "first": next(iter(classes), campaign.labels[0].name),
        "first_class": classes[0] if classes else "",
    }


def _type_of(field: Field) -> str:
    return "class" if field.dtype == "class_label" else field.dtype


def _licence_text(campaign: Campaign, is_simulated: bool) -> list[str]:
    licence = licence_of(campaign, is_simulated=is_simulated)
    terms = model_terms(licence)
    if is_simulated:
        text = f"Simulated by gzoo; {licence}. Do not cite these data as observations. {terms} To cite gzoo:"
        return [text, f"```bibtex\n{cite('gzoo')}\n```"]
    known = "unknown; ask their authors before you use or share them" if licence == "unknown" else licence
    if not campaign.papers:
        return [f"Data: {known}. {terms}"]
    return [
        f"Data: {known}. {terms}",
        "Please cite the papers of the campaign and of its surveys:",
        "\n".join(f"- {paper.reference}" for paper in campaign.papers),
        f"```bibtex\n{cite(campaign)}\n```",
    ]
