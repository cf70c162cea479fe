"""The dataset card: `README.md` with the YAML that the Hub and `datasets` read, written from facts and data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import yaml

from gzoo import files, sky
from gzoo.dataset.schema import Record, record
from gzoo.sky.identifier_split import PUBLISHED, WITHOUT_VALIDATION
from gzoo.trees.campaign import Campaign, Survey
from gzoo.trees.cite import cite
from gzoo.trees.drawing import tree_svg
from gzoo.votes.votes import WELL_VOTED

TREE = "tree.svg"
"""Name of the image of the tree."""
SIZES_SHOWN = 5
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10**7, "1M<n<10M"))


def text(campaign: Campaign, manifest: Mapping[str, object], folder: Path) -> str:
    """The card of a dataset folder.

    Args:
        campaign: Whose dataset it is.
        manifest: Its manifest, the list of files not needed.
        folder: Where its shards lie.
    """
    splits = cast("dict[str, dict[str, int]]", manifest["splits"])
    n_bytes = {
        config: sum(path.stat().st_size for split in names for path in files.shards(folder, split, config))
        for config, names in splits.items()
    }
    facts = header(campaign, manifest, n_bytes)
    header_text = yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=110)
    return f"---\n{header_text}---\n\n{_body(campaign, manifest)}"


def header(campaign: Campaign, manifest: Mapping[str, object], n_bytes: Mapping[str, int]) -> dict[str, object]:
    """What the card's YAML says.

    Args:
        campaign: Whose dataset it is.
        manifest: Its manifest, the list of files not needed.
        n_bytes: Size of the shards of each config.
    """
    counts = cast("dict[str, dict[str, int]]", manifest["splits"])
    image_bytes = cast("dict[str, dict[str, int]]", manifest["image_bytes"])
    row = _record(campaign, manifest)
    fields = row.card_features()
    row_bytes = sum({"int32": 4, "float32": 4, "float64": 8}.get(feature["dtype"], 16) for feature in fields)
    infos: list[dict[str, object]] = []
    for config, splits in counts.items():
        listed = [
            {"name": split, "num_bytes": image_bytes[config][split] + n * row_bytes, "num_examples": n}
            for split, n in splits.items()
        ]
        infos.append(
            {
                "config_name": config,
                "features": row.card_features(),  # made anew, so that YAML writes no alias
                "splits": listed,
                "download_size": n_bytes[config],
                "dataset_size": sum(cast(int, one["num_bytes"]) for one in listed),
            }
        )
    simulated = bool(manifest["is_simulated"])
    n = sum(counts["default"].values())
    return {
        **_licence(campaign, simulated),
        "pretty_name": f"{campaign.title}{' (simulated)' if simulated else ''}",
        "annotations_creators": ["machine-generated" if simulated else "crowdsourced"],
        "task_categories": ["image-classification", "image-feature-extraction"]
        if manifest["has_images"]
        else ["tabular-classification"],
        "tags": [
            "galaxy zoo",
            "astronomy",
            "galaxies",
            "physics",
            *(["simulated"] if simulated else ["citizen science"]),
            *([] if simulated else [f"arxiv:{paper.arxiv}" for paper in campaign.papers if paper.arxiv]),
        ],
        "size_categories": [next((name for limit, name in SIZES if n < limit), "n>10M")],
        "configs": [
            {
                "config_name": config,
                "data_files": [
                    {"split": split, "path": f"{'data' if config == 'default' else config}/{split}-*"}
                    for split in splits
                ],
            }
            for config, splits in counts.items()
        ],
        "dataset_info": infos,
    }


def licence_of(campaign: Campaign, *, is_simulated: bool) -> str:
    """The licence of a dataset, "unknown" where none is known.

    >>> from gzoo.trees.campaign import campaign
    >>> licence_of(campaign("gz2"), is_simulated=False), licence_of(campaign("gz2"), is_simulated=True)
    ('cc-by-nc-sa-4.0', 'cc0-1.0')
    """
    return "cc0-1.0" if is_simulated else campaign.hub.licence


def _licence(campaign: Campaign, is_simulated: bool) -> dict[str, str]:
    """The licence as the Hub wants it said: one that it has no name for is "other", with a name and a link."""
    licence = licence_of(campaign, is_simulated=is_simulated)
    if is_simulated or not campaign.hub.licence_link:
        return {"license": licence}
    return {"license": "other", "license_name": licence, "license_link": campaign.hub.licence_link}


def tree_image(campaign: Campaign) -> str:
    """The decision tree as an SVG file: what was asked, and which answers lead where."""
    return f"{tree_svg(campaign.tree)}\n"


def _record(campaign: Campaign, manifest: Mapping[str, object]) -> Record:
    columns = cast("list[str]", manifest["columns"])
    return record(campaign, image="image" in columns, source_id="source_id" in columns)


def _split_text(manifest: Mapping[str, object]) -> str:
    """What decides a galaxy's split."""
    scheme, n_by_id = str(manifest["split_scheme"]), cast(int, manifest["n_split_by_id"])
    if scheme == PUBLISHED:
        return "Each galaxy keeps the split that its source table names. Rows stand in the order of a hash of `id_str`."
    base = scheme.removesuffix(WITHOUT_VALIDATION)
    joined = " Galaxies of `validation` joined `train`." if base != scheme else ""
    by_id = "a hash of `id_str` alone (70 % train, 10 % validation, 20 % test)"
    if base not in sky.SCHEMES:
        text = f"A galaxy's split follows from {by_id}, for no positions are known"
    else:
        rule = sky.SCHEMES[base]
        train, validation, test = rule.split_fractions
        text = (
            f"A galaxy's split follows from its place on the sky alone: a hash of the HEALPix cell that it lies in "
            f"(nside {rule.nside}, cells {rule.cell_arcsec:.0f} arcsec wide) makes a cell train ({train} %), "
            f"validation ({validation} %) or test ({test} %). Within {rule.margin_arcsec:g} arcsec of a cell on "
            "another side it is `border`, which is no side, so that no galaxy is seen on two sides, in any "
            "dataset split so"
        )
        if n_by_id:
            text += f". {n_by_id:,} galaxies have no known position; theirs follows from {by_id}"
    return (
        f"Scheme `{scheme}`. {text}.{joined} Adding galaxies moves none. Rows stand in the order of a hash of `id_str`."
    )


def _origin_text(manifest: Mapping[str, object]) -> str:
    """Where rows come from, and which were left out."""
    dropped = cast("dict[str, int]", manifest["n_dropped"])
    who = "The source tables of these datasets have" if "datasets" in manifest else "The source table has"
    return f"{who} {manifest['n_rows_in_table']:,} rows. " + (
        "Left out, each with its reason in `dropped.parquet`: "
        + "; ".join(f"{reason} ({n:,})" for reason, n in dropped.items())
        + "."
        if dropped
        else "None was left out."
    )


def _description(campaign: Campaign, manifest: Mapping[str, object]) -> str:
    if "datasets" not in manifest:
        return campaign.description
    names = [f"`{name}`" for name in cast("dict[str, object]", manifest["datasets"])]
    return (
        f"The rows of {len(names)} {'datasets' if len(names) > 1 else 'dataset'} in one: {', '.join(names)}. The "
        f"columns are those of {campaign.title} (`{campaign.name}`)."
    )


def _members_text(manifest: Mapping[str, object]) -> list[str]:
    """The datasets of a union, with their numbers, and the galaxies that they share."""
    if "datasets" not in manifest:
        return []
    counts = cast("dict[str, dict[str, int]]", manifest["datasets"])
    same = cast("dict[str, int]", manifest["same_galaxies"])
    columns = list(cast("dict[str, dict[str, int]]", manifest["splits"])["default"])
    lines = [
        "## Datasets",
        "",
        f"| dataset_name | {' | '.join(columns)} | together |",
        "|---" * (2 + len(columns)) + "|",
    ]
    for name, n in counts.items():
        numbers = [*(n.get(split, 0) for split in columns), sum(n.values())]
        lines.append(f"| `{name}` | {' | '.join(f'{one:,}' for one in numbers)} |")
    lines += [
        "",
        "A row is a galaxy of one of them. Questions that its campaign never asked have no votes: counts and totals 0, "
        f"fractions NaN. {same['n_shared']:,} galaxies are in several of these datasets, and {same['n_repeated']:,} "
        "several times in one (positions within 2 arcsec): `crossmatch.parquet` lists their rows.",
    ]
    if same["n_across"]:
        lines[-1] += (
            f" **{same['n_across']:,} pairs of such rows are on two sides of the split**, for the datasets were split "
            "each for itself."
        )
    for one in cast("list[dict[str, list[str]]]", manifest["inputs"]):
        if one["not_collected"]:
            names, questions = (
                ", ".join(f"`{name}`" for name in one[key]) for key in ("dataset_names", "not_collected")
            )
            lines += ["", f"Of {names} the votes on {questions} are not known: zeros in its rows say nothing there."]
    return [*lines, ""]


def _image_text(manifest: Mapping[str, object]) -> str:
    if not manifest["has_images"]:
        return "This dataset has votes alone, no images."
    sizes = cast("list[list[int]]", manifest["image_sizes"])
    shown = [f"{w} x {h}" for w, h in sizes[:SIZES_SHOWN]] + ["other sizes"] * (len(sizes) > SIZES_SHOWN)
    checked = "decoded to the last byte" if manifest["are_images_decoded"] else "checked by their headers only"
    return (
        f"Images: {', '.join(shown)} pixels, {checked}. JPEG and PNG bytes are those of the source files; FITS files "
        "were shown in colour. `images.parquet` has the source and sha256 of each."
    )


def split_rows(manifest: Mapping[str, object]) -> list[str]:
    """The card's table of how many rows each split has."""
    counts = cast("dict[str, dict[str, int]]", manifest["splits"])
    lines = ["| config | " + " | ".join(counts["default"]) + " |", "|---" * (1 + len(counts["default"])) + "|"]
    lines += [
        f"| {config} | " + " | ".join(f"{n:,}" for n in splits.values()) + " |" for config, splits in counts.items()
    ]
    return lines


def question_rows(manifest: Mapping[str, object]) -> list[str]:
    """The card's table of the votes on each question."""
    not_collected = cast("list[str]", manifest["not_collected"])
    not_asked = cast("list[str]", manifest.get("not_asked", []))
    n = sum(cast("dict[str, dict[str, int]]", manifest["splits"])["default"].values())
    lines = [
        f"| question | galaxies asked | with {WELL_VOTED} votes or more | median votes, of those asked | votes "
        "| rows with more votes than the tree allows |",
        "|---|---|---|---|---|---|",
    ]
    for name, facts in cast("dict[str, dict[str, int]]", manifest["questions"]).items():
        if name in not_collected:
            why = "not asked" if name in not_asked else "not collected"
            lines.append(f"| `{name}` | {why} | | | {facts['n_votes']:,} | {facts['n_breaks']:,} |")
            continue
        fractions = " | ".join(f"{facts[key]:,} ({_percent(facts[key], n)})" for key in ("n_galaxies", "n_well_voted"))
        lines.append(
            f"| `{name}` | {fractions} | {facts['median_votes']:,} | {facts['n_votes']:,} | {facts['n_breaks']:,} |"
        )
    return lines


def _percent(part: int, whole: int) -> str:
    fraction = 100 * part / whole if whole else 0.0
    return f"{fraction:.1f} %" if fraction < 10 else f"{fraction:.0f} %"


def _survey_text(survey: Survey) -> str:
    facts = [
        f"{survey.telescope}, bands {', '.join(survey.bands)}",
        f"pixels of {survey.arcsec_per_pixel:g} arcsec",
        f"stars {survey.psf_fwhm_arcsec:g} arcsec wide (FWHM)",
    ]
    return f"- **{survey.name}**: {'; '.join(facts)}. {survey.image} ({survey.grade}: {survey.source})"


_LOADING = """\
```python
folder = "path/to/this/folder"  # or owner/name, where it lies on the Hub
```

With `datasets` (splits {splits}; `name="tiny"` is a hundredth of each, to try things on):
```python
from datasets import load_dataset

dataset = load_dataset(folder, split="train")
```
PyTorch, {image_torch}:
```python
from torch.utils.data import DataLoader

loader = DataLoader(dataset.with_format("torch"), batch_size=8)
batch = next(iter(loader))
```
NumPy; JAX and TensorFlow alike with `"jax"` or `"tensorflow"`:
```python
first = dataset.with_format("numpy")[0]
```
Votes as a table, images left alone, with Polars or pandas (of a folder on this machine):
```python
import polars as pl

votes = pl.scan_parquet(f"{{folder}}/data/train-*.parquet"){exclude}.collect()
frame = votes.to_pandas()
```"""


def _body(campaign: Campaign, manifest: Mapping[str, object]) -> str:
    not_collected = cast("list[str]", manifest["not_collected"])
    unknown = cast("list[str]", manifest["proportion_asked_not_known"])
    not_asked = cast("list[str]", manifest.get("not_asked", []))
    simulated, is_union = bool(manifest["is_simulated"]), "datasets" in manifest
    lines = [f"# {campaign.title}{' (simulated)' if simulated else ''}", ""]
    if simulated:
        lines += [
            "> **Simulated.** No telescope took these images and no person gave these votes: gzoo drew both, for "
            "tests and demonstrations.",
            "",
        ]
    lines += [
        _description(campaign, manifest),
        "",
        "Volunteers looked at each image and answered a tree of questions. A row is a galaxy: "
        + ("the image, and " if manifest["has_images"] else "")
        + "for every answer the *number of volunteers* who gave it. Which questions a volunteer is asked depends on "
        "earlier answers, so each galaxy and question has its own number of votes.",
        "",
        "Counts are whole people, so that a fraction can be weighed by how many it rests on: 2 of 3 and 20 of 30 are "
        "the same fraction and not the same knowledge.",
        "",
        "## Images",
        "",
        *(["Drawn by gzoo, as if from:", ""] if simulated else []),
        *map(_survey_text, campaign.surveys),
        "",
        _image_text(manifest),
        "",
        "## Load",
        "",
        _LOADING.format(
            splits=", ".join(
                f"`{split}`" for split in cast("dict[str, dict[str, int]]", manifest["splits"])["default"]
            ),
            image_torch="images as uint8 tensors of shape (3, height, width)"
            if manifest["has_images"]
            else "votes as tensors",
            exclude='.select(pl.exclude("image"))' if manifest["has_images"] else "",
        ),
        "",
        "## Splits",
        "",
        *split_rows(manifest),
        "",
        _split_text(manifest),
        "",
        *_members_text(manifest),
        _origin_text(manifest),
        "",
        "## Questions and votes",
        "",
        f"![The decision tree]({TREE})",
        "",
        "Everyone is asked the first question, and each later one only those whose answers led there: votes thin out "
        "on the way down. Shares are of all rows.",
        "",
        *question_rows(manifest),
    ]
    lost = [name for name in not_collected if name not in not_asked]
    if lost:
        lines += [
            "",
            f"**Not collected:** {'no source table has' if is_union else 'the source table has no'} counts for "
            + ", ".join(f"`{name}`" for name in lost)
            + ". Zeros in their columns mean that nothing is known, not that nobody was asked.",
        ]
    if unknown:
        lines += [
            "",
            "**Chance of being asked not known:** some answers that lead to "
            + ", ".join(f"`{name}`" for name in unknown)
            + " are no columns of this dataset.",
        ]
    lines += [
        "",
        "<details><summary>The tree as text</summary>",
        "",
        "```text",
        campaign.tree.to_text(),
        "```",
        "</details>",
        "",
        "## Columns",
        "",
        "| column | type | meaning |",
        "|---|---|---|",
    ]
    lines += [f"| `{field.name}` | {field.dtype} | {field.meaning} |" for field in _record(campaign, manifest).fields]
    lines += ["", "Missing values: counts and totals 0, fractions and positions NaN, texts ''; never null.", ""]
    lines += ["## Limits", "", *_limits(campaign, simulated), "", "## Licence and citation", ""]
    lines += _licence_text(campaign, simulated)
    lines += ["", "Made with gzoo. `manifest.json` lists every file and every input with its sha256.", ""]
    return "\n".join(lines)


def _limits(campaign: Campaign, is_simulated: bool) -> list[str]:
    limits = [
        "Votes are finite: a fraction from N people carries a standard error of about sqrt(p(1-p)/N). Learn from "
        "counts, or weigh by N; do not cut at a number of votes without need.",
        "Volunteers see an image, not a galaxy: faint, small or distant galaxies look smoother than they are, and "
        "what looks like a bar or an arm depends on the resolution and the bands above.",
        "Deep questions are answered for few galaxies, and not for a fair sample of them: those who are asked about "
        "spiral arms have said before that there is a disk to be seen.",
        "A fraction says what people answered, which is no probability that the galaxy is so. Careless clicks and "
        "robots are counted among them.",
    ]
    if len(campaign.tree.parts) > 1 or campaign.members:
        limits.append(
            "Questions of several campaigns stand side by side. They differ in words, answers and images, so that "
            "columns of like names are not to be added up."
        )
    if is_simulated:
        limits.insert(0, "Nothing can be learnt from it about the sky. It serves to test methods whose truth is known.")
    grades = sorted({f"`{source.name}` {source.grade}" for source in campaign.tree_sources})
    limits.append(f"How well the tree itself is known: {', '.join(grades)} (see `gzoo tree {campaign.name}`).")
    return [f"- {one}" for one in limits]


SHARE_ALIKE = "cc-by-nc-sa-4.0"


def model_terms(licence: str) -> str:
    """What the licence of the data asks of models that learn from them.

    >>> model_terms("cc0-1.0")
    'Models may be shared as you like.'
    """
    if licence == "cc0-1.0":
        return "Models may be shared as you like."
    if licence == SHARE_ALIKE:
        return (
            "Not for commercial use; what is made of the data is shared under the same licence. Of models trained on "
            "them it asks that the source of the training is released with the model, at the latest when it is "
            "published."
        )
    return "Ask the campaign's authors before you share models that were trained on them."


def _licence_text(campaign: Campaign, is_simulated: bool) -> list[str]:
    licence = licence_of(campaign, is_simulated=is_simulated)
    if is_simulated:
        return [
            f"Simulated by gzoo; {licence}. Nothing here may be cited as an observation. {model_terms(licence)} gzoo "
            "itself is cited so:",
            "",
            "```bibtex",
            cite("gzoo"),
            "```",
        ]
    known = "not known; ask the campaign's authors before you use or share them" if licence == "unknown" else licence
    lines = [f"Data: {known}. {model_terms(licence)}", "", "Please cite the papers of the campaign and of its surveys:"]
    lines += ["", *(f"- {paper.reference}" for paper in campaign.papers)]
    return [*lines, "", "```bibtex", cite(campaign.name), "```"]
