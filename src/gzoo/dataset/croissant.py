"""`croissant.json`: what is in a dataset folder, in the format of MLCommons (Croissant 1.0)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from gzoo import files
from gzoo.dataset import card
from gzoo.dataset.schema import Field, record
from gzoo.trees.campaign import Campaign
from gzoo.trees.cite import bibtex, cite

NAME = "croissant.json"
VERSION = "http://mlcommons.org/croissant/1.0"
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
LICENCES = {
    "cc-by-nc-sa-4.0": "https://creativecommons.org/licenses/by-nc-sa/4.0/",
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
    "int32": "sc:Integer",
    "float32": "sc:Float",
    "float64": "sc:Float",
}
_MEANINGS = {
    "README.md": "The dataset card.",
    card.TREE: "The decision tree, drawn.",
    files.INDEX: "Identifiers, votes and where the bytes of each image lie, of the shard of the same name.",
    "dropped.parquet": "Every row or image that was left out, and why.",
    "images.parquet": "Source and sha256 of each image, in the order of the rows.",
    "crossmatch.parquet": "Rows that show the same galaxy.",
    "weighted.parquet": "Fractions weighted by how consistent volunteers are, in the order of the rows.",
}


def facts(
    campaign: Campaign, manifest: Mapping[str, object], contents: Mapping[str, Mapping[str, object]]
) -> dict[str, object]:
    """What `croissant.json` of a dataset folder says.

    Every file is listed with its sha256. Each split of each config is a record set of the name `CONFIG/SPLIT`. One
    that is a single file is read from that file, whose sha256 a reader then checks; one of several from all that bear
    its name.

    Args:
        campaign: Whose dataset it is.
        manifest: Facts of the dataset.
        contents: Sha256 and size of every file, by name.
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
        "description": ("Simulated: no telescope and no person was involved. " if is_simulated else "")
        + f"{campaign.description} Votes of volunteers on a tree of questions, as whole counts of people.",
        "license": LICENCES.get(licence, campaign.hub.licence_link),
        "citeAs": cite("gzoo") if is_simulated else "\n\n".join(bibtex(paper) for paper in campaign.papers),
        "distribution": [
            *(_file(name, one) for name, one in contents.items()),
            *(_file_set(config, split) for (config, split), names in shards.items() if len(names) > 1),
        ],
        "recordSet": [
            _splits(list(counts["default"])),
            *(
                {
                    "@type": "cr:RecordSet",
                    "@id": f"{config}/{split}",
                    "name": f"{config}/{split}",
                    "description": f"Split {split} of config {config}: {counts[config][split]:,} galaxies, a row each.",
                    "field": [_field(field, f"{config}/{split}", names) for field in row.fields],
                }
                for (config, split), names in shards.items()
            ),
        ],
    }
    return {key: value for key, value in said.items() if value}


def _file(name: str, known: Mapping[str, object]) -> dict[str, object]:
    meaning = _MEANINGS.get(name.partition("/")[0], "")
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        **({"description": meaning} if meaning else {}),
        "contentUrl": name,
        "contentSize": f"{known['bytes']} B",
        "encodingFormat": FORMATS[f".{name.rpartition('.')[2]}"],
        "sha256": known["sha256"],
    }


def _file_set(config: str, split: str) -> dict[str, object]:
    return {
        "@type": "cr:FileSet",
        "@id": f"files/{config}/{split}",
        "name": f"files/{config}/{split}",
        "description": f"The shards of split {split} of config {config}.",
        "encodingFormat": FORMATS[".parquet"],
        "includes": f"{files.shard_start(split, config)}*.parquet",
    }


def _splits(names: list[str]) -> dict[str, object]:
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "What the rows are parted into; the card says by which rule.",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": "splits/name",
                "name": "splits/name",
                "description": "Name of the split.",
                "dataType": "sc:Text",
            }
        ],
        "data": [{"splits/name": name} for name in names],
    }


def _field(field: Field, owner: str, shards: list[str]) -> dict[str, object]:
    place = {"fileSet": {"@id": f"files/{owner}"}} if len(shards) > 1 else {"fileObject": {"@id": shards[0]}}
    source: dict[str, object] = {**place, "extract": {"column": field.name}}
    if field.dtype == "image":
        source["transform"] = {"jsonPath": "bytes"}
    return {
        "@type": "cr:Field",
        "@id": f"{owner}/{field.name}",
        "name": f"{owner}/{field.name}",
        "description": field.meaning,
        "dataType": _TYPES[field.dtype],
        "source": source,
    }
