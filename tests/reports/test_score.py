"""The report page: complete, clear about missing data, and safe against hostile names."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from PIL import Image

import gzoo.trees.campaign
from gzoo.errors import OutputExistsError, TableError
from gzoo.reports.figures import forest
from gzoo.reports.score import write_report
from gzoo.scoring.calibration import calibration_of
from gzoo.scoring.intervals import Value, blocks, wilson_interval
from gzoo.scoring.predictions import Predictions
from gzoo.scoring.scores import Scores, compute
from gzoo.scoring.slices import Slicing
from gzoo.trees.drawing import tree_svg
from gzoo.trees.tree import FloatArray, IntArray, Question, Tree
from gzoo.votes.votes import Votes

HOSTILE = "<script>alert(1)</script>"
METADATA = {"Encoder": "convnext_atto", "Seed": "17"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


# ----------------------------------------------------------------------------------------------------
# A small dataset: votes drawn from known fractions, predictions near them, different images


def image(rng: np.random.Generator, fraction: float) -> bytes:
    """A JPEG of a blob, rounder for larger fractions."""
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    light = np.exp(-4 * (x**2 + (y / (0.35 + 0.65 * fraction)) ** 2)) * 210 + rng.normal(12, 4, x.shape)
    out = io.BytesIO()
    Image.fromarray(np.repeat(light.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)).save(out, "JPEG")
    return out.getvalue()


def draw(tree: Tree, n_galaxies: int, seed: int, n_volunteers: int = 40) -> tuple[IntArray, FloatArray]:
    """Votes and concentrations of a good model, each of shape (galaxy, answer)."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((n_galaxies, len(tree.columns)), np.int64)
    concentrations = np.ones(counts.shape)
    for question in tree.ordered:
        where = tree.slice(question.name)
        parents = list(tree.parents_of_question[tree.questions.index(question)])
        asked = counts[:, parents].sum(axis=1) if parents else np.full(n_galaxies, n_volunteers)
        fractions = rng.dirichlet(np.full(len(question.columns), 0.6), n_galaxies)
        counts[:, where] = rng.multinomial(asked, fractions)
        concentrations[:, where] = 20 * fractions + 0.3
    return counts, concentrations


def write_world(
    root: Path,
    tree: Tree,
    counts: IntArray,
    concentrations: FloatArray,
    *,
    ids: Sequence[str] | None = None,
    images: Sequence[bytes] | None = None,
    file_name: str = "galaxy.jpg",
    is_simulated: bool = True,
) -> tuple[Path, Path]:
    """A dataset folder and a prediction file."""
    rng = np.random.default_rng(3)
    n_galaxies = len(counts)
    names = list(ids) if ids is not None else [f"J{i:05d}" for i in range(n_galaxies)]
    smooth = concentrations[:, 0] / concentrations[:, tree.slice(tree.questions[0].name)].sum(axis=1)
    data = list(images) if images is not None else [image(rng, fraction) for fraction in smooth.tolist()]
    keys = {"id_str": names, "dataset_name": ["gz2"] * n_galaxies}
    frame = pl.DataFrame(
        {
            "image": [{"bytes": each, "path": file_name} for each in data],
            **keys,
            "ra": np.linspace(120, 240, n_galaxies),
            "dec": np.linspace(-10, 60, n_galaxies),
        },
        schema_overrides={"image": pl.Struct({"bytes": pl.Binary, "path": pl.String})},
    )
    votes = Votes(tree, counts)
    columns = [pl.Series(name, counts[:, i], pl.Int32) for i, name in enumerate(tree.columns)]
    columns += [pl.Series(f"{name}_fraction", votes.fractions[:, i]) for i, name in enumerate(tree.columns)]
    columns += [pl.Series(q.total_column, votes.totals[:, i]) for i, q in enumerate(tree.questions)]
    folder = root / "dataset"
    (folder / "data").mkdir(parents=True)
    frame.with_columns(columns).write_parquet(folder / "data" / "test-00000-of-00001.parquet")
    manifest = {
        "split_scheme": "id-1",
        "format": "gzoo-dataset-2",
        "campaign": "gz2",
        "is_simulated": is_simulated,
        "not_collected": [],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    predictions = root / "predictions.parquet"
    believed = {f"{name}_concentration": concentrations[:, i] for i, name in enumerate(tree.columns)}
    pl.DataFrame({**keys, **believed, "in_training_set": [False] * n_galaxies}).write_parquet(predictions)
    return folder, predictions


def scores_of(tree: Tree, counts: IntArray, concentrations: FloatArray) -> Scores:
    votes, n = Votes(tree, counts), len(counts)
    names = tuple(question.name for question in tree.questions)
    keys = pl.DataFrame({"dataset_name": ["gz2"] * n, "id_str": [str(i) for i in range(n)]})
    read = Predictions(tree, keys, "concentrations", concentrations[None], names, np.zeros(n, bool), Path("p"))
    slices = [Slicing("votes", pl.Series(votes.totals.max(axis=1)))]
    scores = compute(votes, read, np.ones(len(tree.columns)), slices=slices)
    return dataclasses.replace(scores, calibration=calibration_of(votes, read, blocks(n)))


def page_of(
    root: Path,
    folder: Path,
    predictions: Path,
    scores: Scores,
    metadata: Mapping[str, str] = METADATA,
    title: str = "A model",
) -> str:
    path = root / "report.html"
    write_report(path, dataset=folder, predictions=predictions, scores=scores, title=title, metadata=metadata)
    return path.read_text("utf-8")


def gz2() -> Tree:
    return gzoo.trees.campaign.campaign("gz2").published_tree


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page about a good model of 240 galaxies."""
    root = tmp_path_factory.mktemp("report")
    counts, concentrations = draw(gz2(), 240, seed=1)
    folder, predictions = write_world(root, gz2(), counts, concentrations)
    page_of(root, folder, predictions, scores_of(gz2(), counts, concentrations))
    return root / "report.html"


class Elements(HTMLParser):
    """Collects every tag, with its attributes, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


# ----------------------------------------------------------------------------------------------------
# The whole page


def test_page_shows_every_part(written: Path) -> None:
    page = written.read_text("utf-8")
    elements = Elements(page)
    sections = [attributes["id"] for attributes in elements.named("section")]
    assert sections == ["scores", "calibration", "examples", "tree", "reading"]  # what was found comes first
    assert len(elements.named("img")) == len(elements.named("article")) == 8
    assert "SIMULATED DATA" in page
    assert "convnext_atto" in page
    assert "smooth or featured" in page
    n_panels = sum(1 if len(question.answers) == 2 else len(question.answers) for question in gz2().questions)
    n_panels += 2 * len(gz2().questions)  # PIT and coverage
    # gains and dispersion factors are drawn for a laptop and for a phone
    assert page.count("<svg") == 8 + 2 + 1 + 2 + n_panels
    saved = [one["download"] for one in elements.named("a") if "download" in one]
    assert len(saved) == len(set(saved)) == 2 * (3 + n_panels)
    assert "By slice" in page
    assert "Errors of every answer" in page
    assert len(page) < 3_000_000


def test_page_is_reproducible(written: Path) -> None:
    page = written.read_bytes()
    counts, concentrations = draw(gz2(), 240, seed=1)
    write_report(
        written,
        dataset=written.parent / "dataset",
        predictions=written.parent / "predictions.parquet",
        scores=scores_of(gz2(), counts, concentrations),
        title="A model",
        metadata=METADATA,
        overwrite=True,
    )
    assert written.read_bytes() == page


def test_page_loads_and_runs_nothing(written: Path) -> None:
    elements = Elements(written.read_text("utf-8"))
    assert not {"script", "link", "iframe", "object", "embed", "form"} & {tag for tag, _ in elements.tags}
    policy = next(m["content"] for m in elements.named("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    for _, attributes in elements.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name != "style"
            if name in ("src", "href"):
                assert value is not None
                is_saved = "download" in attributes and value.startswith(
                    ("data:image/svg+xml;base64,", "data:text/csv")
                )
                assert is_saved or value.startswith(("data:image/jpeg;base64,", "#"))


def test_real_data_has_no_banner(tmp_path: Path) -> None:
    counts, concentrations = draw(gz2(), 12, seed=2)
    folder, predictions = write_world(tmp_path, gz2(), counts, concentrations, is_simulated=False)
    page = page_of(tmp_path, folder, predictions, scores_of(gz2(), counts, concentrations))
    assert "SIMULATED" not in page
    assert "TRAINING DATA" not in page


def test_training_galaxies_are_reported(tmp_path: Path) -> None:
    counts, concentrations = draw(gz2(), 12, seed=2)
    folder, predictions = write_world(tmp_path, gz2(), counts, concentrations)
    scores = dataclasses.replace(scores_of(gz2(), counts, concentrations), n_trained_on=5)
    assert "trained on 5 of these 12 galaxies" in page_of(tmp_path, folder, predictions, scores)


def test_hostile_names_are_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = (
        Question(f"q{HOSTILE}", (HOSTILE, "no"), (f"q_{HOSTILE}", "q_no")),
        Question("next", ('"><img src=x onerror=alert(1)>', "b"), ("next_a", "next_b"), (f"q_{HOSTILE}",)),
    )
    tree = Tree(f"gz2{HOSTILE}", questions)
    hostile = dataclasses.replace(gzoo.trees.campaign.campaign("gz2"), tree=tree, title=f"Zoo {HOSTILE}")

    def of_manifest(*_: object) -> gzoo.trees.campaign.Campaign:
        return hostile

    monkeypatch.setattr(gzoo.trees.campaign, "of_manifest", of_manifest)
    counts, concentrations = draw(tree, 40, seed=4)
    ids = [f"{HOSTILE}{i}" for i in range(40)]
    file_name = f"../{HOSTILE}.jpg"
    folder, predictions = write_world(tmp_path, tree, counts, concentrations, ids=ids, file_name=file_name)
    scores = scores_of(tree, counts, concentrations)
    page = page_of(tmp_path, folder, predictions, scores, {f"k{HOSTILE}": f"v{HOSTILE} \udcff"}, f"T{HOSTILE}")
    assert "<script" not in page.lower()
    assert "<img src=x" not in page
    elements = Elements(page)
    assert not elements.named("script")
    assert all(not name.startswith("on") for _, attributes in elements.tags for name in attributes)
    assert elements.text.count(HOSTILE) >= 20  # titles, facts, ids, answers: shown, as text


def test_missing_votes_and_scores_are_shown(tmp_path: Path) -> None:
    counts, concentrations = draw(gz2(), 9, seed=5)
    counts[:] = 0
    folder, predictions = write_world(tmp_path, gz2(), counts, concentrations)
    page = page_of(tmp_path, folder, predictions, scores_of(gz2(), counts, concentrations))
    assert "Questions without votes" in page
    assert "nan" not in Elements(page).text.lower().split()
    assert "None" not in page
    assert '"nan' not in page.lower()


def test_small_errors_and_missing_gains_are_reported(tmp_path: Path) -> None:
    counts, concentrations = draw(gz2(), 12, seed=2)
    folder, predictions = write_world(tmp_path, gz2(), counts, concentrations)
    scores = scores_of(gz2(), counts, concentrations)
    bar = scores.questions["bar-gz2"]
    bar["rmse_noise_corrected"], bar["exceeds_noise"] = Value(value=0.05, low=0.0, high=0.063), False
    bar["log_likelihood_gain"] = Value(value=-0.2, low=-0.4, high=0.1)
    page = page_of(tmp_path, folder, predictions, scores)
    assert "<span>0 to 0.063<small>consistent with 0</small></span>" in page
    assert "No significant gain over the baseline:" in page


def test_a_page_without_held_out_galaxies_is_shown(tmp_path: Path) -> None:
    counts, concentrations = draw(gz2(), 9, seed=5)
    folder, predictions = write_world(tmp_path, gz2(), counts, concentrations)
    pl.read_parquet(predictions).with_columns(in_training_set=pl.lit(True)).write_parquet(predictions)
    scores = scores_of(gz2(), counts[:0], concentrations[:0])
    page = page_of(tmp_path, folder, predictions, scores)
    assert "No galaxies to show" in page
    assert "too few galaxies with votes" in page


def test_corrupt_images_are_reported(tmp_path: Path) -> None:
    counts, concentrations = draw(gz2(), 3, seed=6)
    images = [b"", b"\xff\xd8\xff not an image", image(np.random.default_rng(0), 0.5)]
    folder, predictions = write_world(tmp_path, gz2(), counts, concentrations, images=images)
    page = page_of(tmp_path, folder, predictions, scores_of(gz2(), counts, concentrations))
    assert page.count("image cannot be read") == 2
    assert len(Elements(page).named("img")) == 1


def test_a_dataset_without_images_has_a_report(tmp_path: Path) -> None:
    counts, concentrations = draw(gz2(), 12, seed=8)
    folder, predictions = write_world(tmp_path, gz2(), counts, concentrations)
    (shard,) = (folder / "data").iterdir()
    pl.read_parquet(shard).drop("image").write_parquet(shard)
    page = page_of(tmp_path, folder, predictions, scores_of(gz2(), counts, concentrations))
    assert "dataset without images" in page
    assert "image cannot be read" not in page
    assert not Elements(page).named("img")
    assert "RA 120" in page


def test_unknown_galaxies_and_existing_reports_are_rejected(tmp_path: Path) -> None:
    counts, concentrations = draw(gz2(), 5, seed=7)
    folder, predictions = write_world(tmp_path, gz2(), counts, concentrations)
    scores = scores_of(gz2(), counts, concentrations)
    page_of(tmp_path, folder, predictions, scores)
    with pytest.raises(OutputExistsError):
        page_of(tmp_path, folder, predictions, scores)
    pl.read_parquet(predictions).with_columns(pl.lit("elsewhere").alias("dataset_name")).write_parquet(predictions)
    (tmp_path / "report.html").unlink()
    with pytest.raises(TableError, match=r"5 galaxies \(of 5\) that are not in"):
        page_of(tmp_path, folder, predictions, scores)


# ----------------------------------------------------------------------------------------------------
# Figures and numbers


@pytest.mark.parametrize("name", gzoo.trees.campaign.names())
def test_every_tree_is_drawn_completely_and_without_overlap(name: str) -> None:
    tree = gzoo.trees.campaign.tree(name)
    figure = ElementTree.fromstring(tree_svg(tree, {tree.questions[0].name: 1.0}))
    spaces = "{http://www.w3.org/2000/svg}"
    frames = [rect for rect in figure.iter(f"{spaces}rect") if rect.find(f"{spaces}title") is not None]
    assert len(frames) == len(tree.questions)
    boxes = [[float(frame.get(side, "")) for side in ("x", "y", "width", "height")] for frame in frames]
    width, height = float(figure.get("width", "")), float(figure.get("height", ""))
    for i, (x, y, wide, high) in enumerate(boxes):
        assert x >= 0
        assert y >= 0
        assert x + wide <= width
        assert y + high <= height
        for other_x, other_y, other_wide, other_high in boxes[:i]:
            is_beside = x >= other_x + other_wide or other_x >= x + wide
            assert is_beside or y >= other_y + other_high or other_y >= y + high
    edges = [path for path in figure.iter(f"{spaces}path") if path.get("stroke")]
    assert len(edges) >= sum(len(question.parents) for question in tree.questions)


def test_forest_plot_without_votes_is_drawn() -> None:
    nothing = {"bar": Value(value=None, low=None, high=None)}
    figure = forest("gain", nothing, axis="log-likelihood gain", description="")
    for drawing in (figure.wide, figure.narrow):
        assert "no votes" in drawing
        assert "nan" not in drawing


def test_wilson_interval_covers() -> None:
    low, high = wilson_interval(np.random.default_rng(8).binomial(40, 0.1, 4000) / 40, 40)
    assert ((low <= 0.1) & (high >= 0.1)).mean() == pytest.approx(0.95, abs=0.03)


# ----------------------------------------------------------------------------------------------------
# In a browser


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_browser_reports_no_errors(written: Path, tmp_path: Path) -> None:
    shot = tmp_path / "page.png"
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1000,2000",
        f"--screenshot={shot}", written.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    errors = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not errors
    with Image.open(shot) as image:
        colours = image.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    assert len(colours) > 1000
