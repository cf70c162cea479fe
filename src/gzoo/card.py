"""The dataset card: `README.md` with the YAML that the Hub and `datasets` read, written from facts and data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import yaml

from gzoo import sky, store
from gzoo.campaign import Campaign
from gzoo.schema import Record, record
from gzoo.splits import PUBLISHED, WITHOUT_VALIDATION

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
        config: sum(path.stat().st_size for split in names for path in store.shards(folder, split, config))
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
    picture_bytes = cast("dict[str, dict[str, int]]", manifest["picture_bytes"])
    row = _record(campaign, manifest)
    fields = row.card_features()
    row_bytes = sum({"int32": 4, "float32": 4, "float64": 8}.get(feature["dtype"], 16) for feature in fields)
    infos: list[dict[str, object]] = []
    for config, splits in counts.items():
        listed = [
            {"name": split, "num_bytes": picture_bytes[config][split] + n * row_bytes, "num_examples": n}
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
    licence = "cc0-1.0" if simulated else campaign.hub.licence
    return {
        "license": "other" if licence == "unknown" else licence,
        "pretty_name": f"{campaign.title}{' (simulated)' if simulated else ''}",
        "annotations_creators": ["machine-generated" if simulated else "crowdsourced"],
        "task_categories": ["image-classification", "image-feature-extraction"]
        if manifest["has_pictures"]
        else ["tabular-classification"],
        "tags": [
            "galaxy zoo",
            "astronomy",
            "galaxies",
            "physics",
            *(["simulated"] if simulated else ["citizen science"]),
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
        train, validation, test = rule.shares
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
        "several times in one (positions within 2 arcsec): `same_galaxies.parquet` lists their rows.",
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


def _picture_text(manifest: Mapping[str, object]) -> str:
    if not manifest["has_pictures"]:
        return "This dataset has votes alone, no pictures."
    sizes = cast("list[list[int]]", manifest["picture_sizes"])
    shown = [f"{w} x {h}" for w, h in sizes[:SIZES_SHOWN]] + ["other sizes"] * (len(sizes) > SIZES_SHOWN)
    checked = "decoded to the last byte" if manifest["are_pictures_decoded"] else "checked by their headers only"
    return (
        f"Pictures: {', '.join(shown)} pixels, {checked}. JPEG and PNG bytes are those of the source files; FITS files "
        "were shown in colour. `pictures.parquet` has the source and sha256 of each."
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
    lines = ["| question | galaxies asked | votes | rows with more votes than the tree allows |", "|---|---|---|---|"]
    not_asked = cast("list[str]", manifest.get("not_asked", []))
    for name, facts in cast("dict[str, dict[str, int]]", manifest["questions"]).items():
        why = "not asked" if name in not_asked else "not collected"
        galaxies = why if name in not_collected else f"{facts['n_galaxies']:,}"
        lines.append(f"| `{name}` | {galaxies} | {facts['n_votes']:,} | {facts['n_breaks']:,} |")
    return lines


def _body(campaign: Campaign, manifest: Mapping[str, object]) -> str:
    not_collected = cast("list[str]", manifest["not_collected"])
    unknown = cast("list[str]", manifest["reach_not_known"])
    not_asked = cast("list[str]", manifest.get("not_asked", []))
    simulated, is_union = bool(manifest["is_simulated"]), "datasets" in manifest
    lines = [f"# {campaign.title}{' (simulated)' if simulated else ''}", ""]
    if simulated:
        lines += [
            "> **Simulated.** No telescope took these pictures and no person gave these votes: gzoo drew both, for "
            "tests and demonstrations.",
            "",
        ]
    lines += [
        _description(campaign, manifest),
        "",
        "Volunteers looked at each picture and answered a tree of questions. A row is a galaxy: "
        + ("the picture, and " if manifest["has_pictures"] else "")
        + "for every answer the *number of volunteers* who gave it. Which questions a volunteer is asked depends on "
        "earlier answers, so each galaxy and question has its own number of votes.",
        "",
        "## Load",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        'dataset = load_dataset("path/to/this/folder", split="train")  # or name="tiny"',
        'dataset.set_format("torch")',
        "```",
        "",
        "## Splits",
        "",
        *split_rows(manifest),
        "",
        _split_text(manifest),
        "",
        *_members_text(manifest),
        _origin_text(manifest),
        _picture_text(manifest),
        "",
        "## Questions and votes",
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
        "```mermaid",
        campaign.tree.to_mermaid(),
        "```",
        "",
        "## Columns",
        "",
        "| column | type | meaning |",
        "|---|---|---|",
    ]
    lines += [f"| `{field.name}` | {field.dtype} | {field.meaning} |" for field in _record(campaign, manifest).fields]
    lines += ["", "Missing values: counts and totals 0, fractions and positions NaN, texts ''; never null.", ""]
    lines += ["## Limits", ""]
    lines += [
        "Votes are finite: a fraction from N people carries a standard error of about sqrt(p(1-p)/N). Volunteers see a "
        "picture, not a galaxy: faint, small or distant galaxies look smoother than they are. Deep questions are "
        "answered for few galaxies, and not for a fair sample of them.",
        "",
        "## Licence and citation",
        "",
    ]
    if simulated:
        lines.append("Simulated by gzoo; cc0-1.0. Nothing here may be cited as an observation.")
    else:
        lines.append(f"Data: {campaign.hub.licence}. Please cite:")
        lines += ["", *(f"- {paper.reference}" for paper in campaign.papers)]
    lines += ["", "Made with gzoo. `manifest.json` lists every file and every input with its sha256.", ""]
    return "\n".join(lines)
