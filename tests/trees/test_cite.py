"""Citations are valid BibTeX and agree with the campaigns' metadata."""

from __future__ import annotations

import re

import bibtexparser
import pytest

import gzoo
from gzoo.errors import InputError, NotFoundError
from gzoo.trees.campaign import campaign, campaigns, names
from gzoo.trees.cite import bibtex, cite


def parsed(text: str) -> dict[str, bibtexparser.model.Entry]:
    library = bibtexparser.parse_string(text)
    assert library.failed_blocks == []
    assert len(library.blocks) == len(library.entries)
    return library.entries_dict


@pytest.mark.parametrize("name", names())
def test_each_campaign_is_cited_by_its_papers_and_its_dataset(name: str) -> None:
    facts = campaign(name)
    entries = parsed(cite(name))
    assert set(entries) == {paper.key for paper in facts.papers} | ({name} if facts.hub.repository else set())
    for paper in facts.papers:
        fields = {key: value.value for key, value in entries[paper.key].fields_dict.items()}
        assert fields["year"] == str(paper.year)
        for key, known in {"doi": paper.doi, "eprint": paper.arxiv, "volume": paper.volume}.items():
            assert fields.get(key, "") == known, key
    if facts.hub.repository:
        assert facts.hub.repository in entries[name].fields_dict["url"].value
        first = entries[facts.papers[0].key].fields_dict
        found = {key: entries[name].fields_dict[key].value for key in ("author", "year", "version")}
        assert found == {"author": first["author"].value, "year": first["year"].value, "version": "main"}
        of_commit = parsed(cite(f"{name}@{'a' * 40}"))[name].fields_dict
        assert of_commit["version"].value == "a" * 40
        assert f"({facts.papers[0].year}). {facts.title} (dataset). Version v1." in cite(f"{name}@v1", format="text")


def test_gzoo_is_cited_with_author_year_and_version() -> None:
    assert {"author", "title", "year", "version"} <= set(parsed(cite("gzoo"))["gzoo"].fields_dict)


def test_the_merged_campaign_cites_each_member_once() -> None:
    text = cite("gz_evo")
    keys = re.findall(r"^@\w+\{([^,]+),", text, re.MULTILINE)
    assert len(keys) == len(set(keys))
    evo = campaign("gz_evo")
    for one in (evo, *map(campaign, evo.members)):
        assert {paper.key for paper in one.papers} <= set(keys)
    assert {paper.role for paper in evo.papers} == {"campaign", "survey", "dataset"}


def test_common_papers_are_listed_once_and_identically() -> None:
    papers = {paper for one in campaigns() for paper in one.papers}
    assert len({paper.key for paper in papers}) == len(papers)
    together = parsed(cite(*names(), "gzoo"))
    assert {paper.key for paper in papers} <= set(together)
    assert "gzoo" in together
    assert not {"gzoo", *names()} & {paper.key for paper in papers}


def test_bibtex_is_ascii_and_its_braces_fit() -> None:
    for one in campaigns():
        for paper in one.papers:
            text = bibtex(paper)
            assert text.isascii(), text
            depth = 0
            for sign in re.sub(r"\\.", "", text):
                depth += (sign == "{") - (sign == "}")
                assert depth >= 0
            assert depth == 0
            assert not re.search(r"(?<!\\)[&%#_]", text.replace(paper.doi or " ", "")), text


def test_collaborations_stay_whole() -> None:
    assert "{Euclid Collaboration} and Walmsley, M." in cite("gz_euclid")
    assert "Astronomy \\& Astrophysics" in cite("gz_euclid")


def test_text_has_one_line_per_entry() -> None:
    lines = cite("gz_evo", "gz2", format="text").splitlines()
    assert len(lines) == len(parsed(cite("gz_evo", "gz2")))
    assert any("10.1093/mnras/stw2587" in line for line in lines)
    assert not any("others" in line for line in lines)


def test_unknown_campaigns_and_formats_are_errors() -> None:
    with pytest.raises(NotFoundError, match="Campaign not found: 'gz9'"):
        gzoo.cite("gz9")
    with pytest.raises(InputError, match="Unknown citation format: 'ris'"):
        gzoo.cite("gz2", format="ris")
    with pytest.raises(InputError, match="No campaign to cite"):
        gzoo.cite()
