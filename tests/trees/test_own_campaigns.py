"""Campaigns that a user defines in a TOML file: what is read, and what every mistake is told as."""

from __future__ import annotations

import pickle
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

import gzoo
from gzoo.errors import DatasetError, GZooError, InputError, NotFoundError
from gzoo.simulator.export import workflows
from gzoo.trees import campaign as module
from gzoo.trees.campaign import Campaign, campaign, names, of_manifest

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-campaign.md"
EXAMPLE = re.findall(r"```toml\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)[0]


def toml(value: object, table: str = "") -> str:
    """Write what tomllib reads."""
    if isinstance(value, dict):
        plain = {k: v for k, v in value.items() if not isinstance(v, dict) and not is_tables(v)}
        lines = [f"{key} = {toml(one)}" for key, one in plain.items()]
        for key, one in value.items():
            name = f"{table}.{key}".lstrip(".")
            if isinstance(one, dict):
                lines += [f"[{name}]", toml(one, name)]
            elif is_tables(one):
                lines += [line for each in one for line in (f"[[{name}]]", toml(each, name))]
        return "\n".join(lines)
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, str):
        return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\u{ord(c):04x}" for c in value) + '"'
    return str(value).lower()


def is_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def edited(path: str, *change: Any) -> str:
    """The example with the key at `trees.0.suffix` replaced, or removed without a change."""
    facts: Any = tomllib.loads(EXAMPLE)
    *way, last = path.split(".")
    at = facts
    for key in way:
        at = at[int(key)] if key.isdigit() else at[key]
    if change:
        at[last] = change[0]
    else:
        del at[last]
    return toml(facts)


def written(folder: Path, text: str, name: str = "dust_zoo") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text, "utf-8")
    return path


def error_of(path: Path) -> GZooError:
    with pytest.raises(GZooError) as caught:
        campaign(path)
    assert str(path) in caught.value.message
    assert len(caught.value.message) < 400
    return caught.value


@pytest.fixture
def dust(tmp_path: Path) -> Path:
    return written(tmp_path, EXAMPLE)


def test_the_example_of_the_guide_is_a_campaign(dust: Path) -> None:
    found = gzoo.campaign(dust)
    assert found is gzoo.campaign(str(dust)) is gzoo.campaign(found)
    assert found.tree is gzoo.tree(dust)
    assert found.tree.columns[3:] == (
        *("dust-lane-dust_yes", "dust-lane-dust_no"),
        *("odd-features-dust_ring", "odd-features-dust_tail", "odd-features-dust_other"),
    )
    assert found.tree.question("odd-features-dust").parents == ("dust-lane-dust_yes", "dust-lane-dust_no")
    assert found.tree.question("odd-features-dust").multiple
    assert found.description == "Colour images of 60 nearby galaxies, classified by a small team."
    assert found.source == str(dust)
    assert "@misc{Example2026," in gzoo.cite(dust)
    assert toml(tomllib.loads(EXAMPLE)) != EXAMPLE
    assert campaign(written(dust.parent, toml(tomllib.loads(EXAMPLE)))).tree == found.tree


def test_the_smallest_file_has_only_required_keys(tmp_path: Path) -> None:
    text = (
        'name="a"\ntitle="A"\ndescription="Ä."\n[[trees]]\nsuffix=""\n[[trees.questions]]\nname="q"\nanswers=["y","n"]'
    )
    found = campaign(written(tmp_path, "\ufeff" + text))
    assert found.tree.columns == ("q_y", "q_n")
    assert (found.surveys, found.papers, found.stretch, found.hub.licence) == ((), (), None, "unknown")


REQUIRED = [
    *("name", "title", "description", "trees", "trees.0.suffix", "trees.0.questions"),
    *("trees.0.questions.1.name", "trees.0.questions.1.answers", "decisions.0.decision"),
    *(f"surveys.0.{key}" for key in ("name", "telescope", "bands", "arcsec_per_pixel", "psf_fwhm_arcsec", "image")),
    *(f"surveys.0.stretch.{key}" for key in ("scales", "noise", "softening", "black")),
    *(f"papers.0.{key}" for key in ("key", "authors", "title", "year")),
]


@pytest.mark.parametrize("key", REQUIRED)
def test_each_required_key_is_missed_by_name(key: str, tmp_path: Path) -> None:
    error = error_of(written(tmp_path, edited(key)))
    assert f"key '{key.rpartition('.')[2]}'" in error.message
    assert "is missing" in error.message
    assert error.expected
    assert error.hint


def test_the_guide_marks_exactly_the_required_keys() -> None:
    marked = re.findall(r"^(?:\[\[)?([\w.]*)[^#\n]*# required", EXAMPLE, re.MULTILINE)
    found = sorted(key.rpartition(".")[2] or "description" for key in marked)
    assert found == sorted(key.rpartition(".")[2] for key in REQUIRED if key != "decisions.0.decision")


@pytest.mark.parametrize("key", [key for key in REQUIRED if not key.endswith((".0.questions", "trees"))])
def test_a_misspelt_key_is_named_with_the_nearest_one(key: str, tmp_path: Path) -> None:
    *way, last = key.split(".")
    wrong = last[:-1] + "z" if len(last) > 3 else last + "z"
    error = error_of(written(tmp_path, edited(".".join([*way, wrong]), "x")))
    assert f"unknown key '{wrong}'" in error.message
    assert error.hint == f"Did you mean '{last}'?"


def test_the_place_of_a_key_is_said(tmp_path: Path) -> None:
    assert "key 'answers' of [[trees.questions]] 'dust-lane' is missing" in str(
        error_of(written(tmp_path, edited("trees.0.questions.1.answers")))
    )
    assert "key 'name' of [[trees.questions]] number 2 is missing" in str(
        error_of(written(tmp_path, edited("trees.0.questions.1.name")))
    )
    assert "key 'noise' of [surveys.stretch] 'Example Survey' is missing" in str(
        error_of(written(tmp_path, edited("surveys.0.stretch.noise")))
    )


WRONG: dict[str, tuple[str, object, str]] = {
    "a number as title": ("title", 3, "'title' is 3"),
    "an empty title": ("title", " ", "'title'"),
    "a table as list": ("trees", {"suffix": ""}, "'trees'"),
    "a text as table": ("hub", "mwalmsley/gz2", "'hub'"),
    "texts as tables": ("surveys", ["SDSS"], "'surveys'"),
    "no trees": ("trees", [], "'trees'"),
    "a text as list": ("trees.0.questions.1.answers", "yes", "'answers' of [[trees.questions]] 'dust-lane'"),
    "no answers": ("trees.0.questions.1.answers", [], "'answers'"),
    "a number as answer": ("trees.0.questions.1.answers", [1, 2], "'answers'"),
    "an answer twice": ("trees.0.questions.1.answers", ["yes", "yes"], "'answers'"),
    "total-votes as answer": ("trees.0.questions.1.answers", ["yes", "total-votes"], "'answers'"),
    "an order of unknown answers": ("trees.0.questions.0.ordered", ["smooth", "rough", "artifact"], "'ordered'"),
    "an order of one answer twice": ("trees.0.questions.0.ordered", ["smooth", "smooth", "artifact"], "'ordered'"),
    "an order of two answers": ("trees.0.questions.1.ordered", ["yes", "no"], "'ordered'"),
    "an order of boxes to tick": ("trees.0.questions.2.ordered", ["ring", "tail", "other"], "'ordered'"),
    "an unknown parent": ("trees.0.questions.1.parents", ["smooth-or-featured_featured-or-disc"], "'parents'"),
    "a question as parent": ("trees.0.questions.1.parents", ["smooth-or-featured"], "'parents'"),
    "itself as parent": ("trees.0.questions.1.parents", ["dust-lane_yes"], "cycle"),
    "a circle": ("trees.0.questions.0.parents", ["dust-lane_yes"], "cycle"),
    "parents that do not exclude each other": (
        "trees.0.questions.2.parents", ["smooth-or-featured_featured-or-disk", "dust-lane_yes"], "could give both"
    ),
    "a question twice": ("trees.0.questions.1.name", "smooth-or-featured", "'name'"),
    "nothing published": ("trees.0.questions", [{"name": "q", "answers": ["y"], "is_published": False}], "published"),
    "a truth value as number": ("surveys.0.psf_fwhm_arcsec", True, "'psf_fwhm_arcsec' of [[surveys]]"),
    "not a number": ("surveys.0.psf_fwhm_arcsec", float("nan"), "'psf_fwhm_arcsec'"),
    "an infinite number": ("surveys.0.psf_fwhm_arcsec", float("inf"), "'psf_fwhm_arcsec'"),
    "a huge integer": ("surveys.0.psf_fwhm_arcsec", 10**400, "'psf_fwhm_arcsec'"),
    "a negative size": ("surveys.0.arcsec_per_pixel", -1, "'arcsec_per_pixel'"),
    "a number as truth value": ("trees.0.questions.2.multiple", 1, "'multiple'"),
    "an unknown grade": ("trees.0.grade", "SURE", "'grade'"),
    "a fraction as year": ("papers.0.year", 2026.5, "'year'"),
    "a licence by its title": ("hub.licence", "CC BY 4.0", "'licence'"),
    "an address as repository": ("hub.repository", "https://huggingface.co/x/y", "'repository'"),
    "unpublished questions that do not exist": ("unpublished", ["dust-lane"], "'unpublished'"),
    "an unknown member": ("union", ["gz_ukids"], "'union'"),
    "a member that merges others": ("union", ["gz_evo"], "'union'"),
    "a member twice": ("union", ["gz2", "gz2"], "'union'"),
    "itself as member": ("union", ["dust_zoo"], "'union'"),
    # names that would leave a folder, break a column, a line or a page, or look like others
    "a path as name": ("name", "../../dust", "'name'"),
    "a name of gzoo": ("name", "gz2", "'name'"),
    "the software": ("name", "gzoo", "'name'"),
    "a simulated name": ("name", "dust_simulated", "'name'"),
    "a capital": ("name", "Dust", "'name'"),
    "letters that look alike": ("name", "d\u0443st", "'name'"),
    "a line break in a name": ("name", "dust\nzoo", "'name'"),
    "a column separator": ("trees.0.questions.0.name", "smooth_or", "'name'"),
    "an underscore in a suffix": ("trees.0.suffix", "dust_1", "'suffix'"),
    "a comma": ("trees.0.questions.1.answers", ["yes,no", "no"], "'answers'"),
    "a bar": ("trees.0.questions.1.answers", ["yes|no", "no"], "'answers'"),
    "markup": ("trees.0.questions.1.answers", ["<b>", "no"], "'answers'"),
    "a zero byte": ("title", "Dust\x00", "'title'"),
    "text that runs backwards": ("title", "Dust\u202e", "'title'"),
    "a long name": ("trees.0.questions.0.name", "a" * 10_000, "'name'"),
}  # fmt: skip


@pytest.mark.parametrize(("key", "value", "words"), WRONG.values(), ids=WRONG)
def test_wrong_values_are_told_with_file_and_key(key: str, value: object, words: str, tmp_path: Path) -> None:
    error = error_of(written(tmp_path, edited(key, value)))
    assert words in error.message
    assert error.expected
    assert error.hint
    assert error.message.isprintable()


def test_columns_of_tables_are_not_answers(tmp_path: Path) -> None:
    text = edited("trees", [{"suffix": "", "questions": [{"name": "id", "answers": ["str", "int"]}]}])
    assert "'answers'" in error_of(written(tmp_path, text)).message


def test_an_unknown_parent_is_told_with_the_nearest_answer(tmp_path: Path) -> None:
    error = error_of(written(tmp_path, edited("trees.0.questions.1.parents", ["smooth-or-featured_featured-or-disc"])))
    assert error.hint == "Did you mean 'smooth-or-featured_featured-or-disk'?"


@pytest.mark.parametrize("data", [b"name = ", b"\xff\xfe", b"\x00", b"a=[" * 5000, b"#" * 1_000_001, b"x = 1e999999"])
def test_files_that_are_not_toml(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(data)
    error_of(path)


def test_a_missing_file_and_a_name_beside_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFoundError, match=r"Campaign file not found: 'nothing\.toml'"):
        gzoo.tree("nothing.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(NotFoundError, match="Campaign file not found"):
        gzoo.tree(tmp_path / "folder.toml")
    monkeypatch.chdir(tmp_path)
    written(tmp_path, EXAMPLE)
    with pytest.raises(NotFoundError) as caught:
        gzoo.tree("dust_zoo")
    assert caught.value.hint == "Pass 'dust_zoo.toml' to use that file."


def test_a_copy_of_our_file_is_our_campaign(tmp_path: Path) -> None:
    text = (resources.files("gzoo") / "trees" / "facts" / "gz2.toml").read_text("utf-8")
    assert campaign(written(tmp_path, text, "mine")) is campaign("gz2")
    changed = error_of(written(tmp_path, text.replace("boxy", "square"), "mine"))
    assert "'name' is 'gz2'" in changed.message


def test_a_campaign_that_merges_ours_and_one_beside_it(dust: Path) -> None:
    text = 'name = "both"\ntitle = "Both"\ndescription = "Two."\nunion = ["gz_rings", "dust_zoo"]\n'
    both = campaign(written(dust.parent, text, "both"))
    assert both.tree.columns == campaign("gz_rings").tree.columns + campaign(dust).tree.columns
    assert set(both.definitions) == {"both", "dust_zoo"}
    assert both.member("dust_zoo").tree == campaign(dust).tree
    assert both.member("gz_rings") is campaign("gz_rings")
    dust.unlink()
    again = of_manifest(both.to_manifest(), Path("manifest.json"))
    assert again.tree == both.tree
    assert again.member("dust_zoo").tree == both.member("dust_zoo").tree


def test_a_manifest_carries_the_definition(dust: Path) -> None:
    found = campaign(dust)
    entries: Any = found.to_manifest()
    dust.unlink()
    again = of_manifest(entries, Path("manifest.json"))
    assert (again.name, again.tree, again.surveys) == (found.name, found.tree, found.surveys)
    assert again.source == "dust_zoo"
    assert campaign("gz2").to_manifest() == {"campaign": "gz2"}
    entries["campaign_definitions"]["dust_zoo"]["toml"] += "\n"
    for changed in (entries, {**entries, "campaign_definitions": 3}, {**entries, "campaign": "other"}):
        with pytest.raises(DatasetError, match=r"'campaign_definitions' of 'manifest\.json' was changed"):
            of_manifest(changed, Path("manifest.json"))
    with pytest.raises(NotFoundError):
        of_manifest({"campaign": str(dust)}, Path("manifest.json"))  # a manifest does not lead to other files


def test_another_process_reads_a_campaign_once(dust: Path) -> None:
    for one in (campaign(dust), campaign("gz_evo")):
        sent = pickle.dumps(one)
        assert len(sent) < 10_000
        assert pickle.loads(sent) is one


def test_evidence_grades_do_not_make_another_tree(dust: Path, tmp_path: Path) -> None:
    other = written(tmp_path, edited("trees.0.grade", "GUESS"), "other")
    assert campaign(other).tree == campaign(dust).tree
    assert campaign(other).tree.questions[0].grade == "GUESS"


def test_adding_a_campaign_changes_no_workflow_number(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: [one.id for one in workflows(name)] for name in names()}
    assert len({number for numbers in before.values() for number in numbers}) == sum(map(len, before.values()))
    workflows.cache_clear()
    monkeypatch.setattr(module, "names", lambda: ("a_new_one", *sorted(before)))
    assert {name: [one.id for one in workflows(name)] for name in before} == before


def test_simulation_says_what_is_missing(dust: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        gzoo.simulate(dust, n_galaxies=4, out=tmp_path / "sky")
    for words in ("[surveys.view]", "question 'dust-lane-dust'", "answer 'tail' of question 'odd-features-dust'"):
        assert words in caught.value.message
    assert "smooth-or-featured" not in caught.value.message
    assert str(dust) in caught.value.hint


def test_a_campaign_of_ones_own_is_simulated(dust: Path, tmp_path: Path) -> None:
    facts: Any = tomllib.loads(edited("trees.0.questions.1.name", "bar"))
    facts["trees"][0]["questions"][2] |= {"answers": ["ring", "other"], "parents": ["bar_yes"]}
    ours = tomllib.loads((resources.files("gzoo") / "trees" / "facts" / "gz2.toml").read_text("utf-8"))
    facts["surveys"] = ours["surveys"]
    path = written(tmp_path, toml(facts))
    made = gzoo.simulate(path, n_galaxies=4, out=tmp_path / "sky", images=False)
    assert made.campaign == "dust_zoo"
    assert gzoo.audit(made.votes, path).is_consistent
    counted = gzoo.count(
        path, classifications=made.classifications, workflows=made.workflows, out=tmp_path / "counted.parquet"
    )
    assert counted.n_galaxies == 4
    assert isinstance(gzoo.campaign(path), Campaign)
