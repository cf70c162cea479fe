"""`croissant.json`: machine-readable description of a dataset folder (MLCommons Croissant 1.0)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from gzoo import files
from gzoo.dataset import card
from gzoo.dataset.schema import Field, record
from gzoo.trees.campaign import Campaign
from gzoo.trees.cite import bibtex, cite

NAME = "croissant.json"
VERSION = "http://mlcommons.org/croissant/1.0"
_CR = (
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty", "fileSet", "format"),
    *("includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex"),
    *("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
)
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{name: f"cr:{name}" for name in _CR},
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "sc": "https://schema.org/",
}
"""The JSON-LD context that Croissant 1.0 prescribes."""
LICENCES = {
    **{
        f"cc-{terms}-4.0": f"https://creativecommons.org/licenses/{terms}/4.0/"
        for terms in ("by", "by-sa", "by-nc", "by-nc-sa", "by-nd", "by-nc-nd")
    },
    "cc0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
}
FORMATS = {
    ".parquet": "application/x-parquet",
    ".md": "text/markdown",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}
_TYPES = {
    "image": "sc:ImageObject",
    "string": "sc:Text",
    **dict.fromkeys(("int32", "int64", "class_label"), "sc:Integer"),
}
"""Types other than sc:Float."""
_MEANINGS = {
    "README.md": "The dataset card.",
    card.TREE: "Drawing of the decision tree.",
    files.INDEX: "Identifiers, votes and the location of each image, for the shard with the same name.",
    "dropped.parquet": "Every dropped row or image, with the reason.",
    "images.parquet": "Source and SHA-256 of each image, in the order of the rows.",
    "crossmatch.parquet": "Rows that show the same galaxy.",
    "weighted.parquet": "Vote fractions weighted by the consistency of volunteers, in the order of the rows.",
}


def facts(
    campaign: Campaign, manifest: Mapping[str, object], contents: Mapping[str, Mapping[str, object]]
) -> dict[str, object]:
    """Return the content of `croissant.json` of a dataset folder.

    Every file is listed with its SHA-256. Each split of each config is a record set named `CONFIG/SPLIT`. A record set
    of one file refers to that file, so that readers verify its checksum; one of several files refers to a pattern.

    Args:
        campaign: Campaign of the dataset.
        manifest: Manifest of the dataset; its list of files is not needed.
        contents: SHA-256 and size of every file, by name.
    """
    is_simulated = bool(manifest["is_simulated"])
    licence = card.licence_of(campaign, is_simulated=is_simulated)
    counts = cast("dict[str, dict[str, int]]", manifest["splits"])
    columns = cast("list[str]", manifest["columns"])
    row = record(campaign, image="image" in columns, source_id="source_id" in columns)
    shards = {
        (config, split): [name for name in contents if name.startswith(files.shard_start(split, config))]
        for config, splits in counts.items()
        for split in splits
    }
    said = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": VERSION,
        "name": f"{campaign.name}{'_simulated' if is_simulated else ''}",
        "alternateName": f"{campaign.title}{' (simulated)' if is_simulated else ''}",
        "description": ("Simulated: no telescope and no volunteer was involved. " if is_simulated else "")
        + campaign.description
        + ("" if campaign.labels else " Vote counts of volunteers for each answer of a decision tree."),
        "license": LICENCES.get(licence, campaign.hub.licence_link),
        "citeAs": cite("gzoo") if is_simulated else "\n\n".join(bibtex(paper) for paper in campaign.papers),
        "distribution": [
            *(_file(name, one) for name, one in contents.items()),
            *(_file_set(config, split) for (config, split), names in shards.items() if len(names) > 1),
        ],
        "recordSet": [
            _splits(counts["default"]),
            *(
                _node(
                    "RecordSet",
                    f"{config}/{split}",
                    f"Split {split} of config {config}: {counts[config][split]:,} galaxies.",
                    field=[_field(field, f"{config}/{split}", names) for field in row.fields],
                )
                for (config, split), names in shards.items()
            ),
        ],
    }
    return {key: value for key, value in said.items() if value}


def _node(kind: str, name: str, description: str, **entries: object) -> dict[str, object]:
    known: dict[str, object] = {"@type": f"cr:{kind}", "@id": name, "name": name, **entries}
    return {**known, "description": description} if description else known


def _file(name: str, known: Mapping[str, object]) -> dict[str, object]:
    return _node(
        "FileObject",
        name,
        _MEANINGS.get(name.partition("/")[0], ""),
        contentUrl=name,
        contentSize=f"{known['bytes']} B",
        encodingFormat=FORMATS[f".{name.rpartition('.')[2]}"],
        sha256=known["sha256"],
    )


def _file_set(config: str, split: str) -> dict[str, object]:
    meaning = f"The shards of split {split} of config {config}."
    pattern = f"{files.shard_start(split, config)}*.parquet"
    return _node("FileSet", f"files/{config}/{split}", meaning, encodingFormat=FORMATS[".parquet"], includes=pattern)


def _splits(names: Iterable[str]) -> dict[str, object]:
    return _node(
        "RecordSet",
        "splits",
        "Splits of the rows; the dataset card describes the rule.",
        dataType="cr:Split",
        key={"@id": "splits/name"},
        field=[_node("Field", "splits/name", "Name of the split.", dataType="sc:Text")],
        data=[{"splits/name": name} for name in names],
    )


def _field(field: Field, owner: str, shards: list[str]) -> dict[str, object]:
    location = {"fileSet": {"@id": f"files/{owner}"}} if len(shards) > 1 else {"fileObject": {"@id": shards[0]}}
    source: dict[str, object] = {**location, "extract": {"column": field.name}}
    if field.dtype == "image":
        source["transform"] = {"jsonPath": "bytes"}
    return _node(
        "Field", f"{owner}/{field.name}", field.meaning, dataType=_TYPES.get(field.dtype, "sc:Float"), source=source
    )
