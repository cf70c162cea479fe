"""Comparison: paired differences, adjusted p-values, and verdicts only where the data allow them."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import gzoo
from gzoo import cli
from gzoo.errors import InputError, OutputExistsError, TableError
from gzoo.scoring.comparison import Comparison, compute, log_likelihoods
from gzoo.scoring.differences import LEVEL, amount
from gzoo.scoring.intervals import Blocks, blocks, holm, ratio
from gzoo.scoring.likelihood import dirichlet_multinomial_nll, mixture_nll, multinomial_nll, question_nll
from gzoo.scoring.ordered import ranked_probability_score
from gzoo.scoring.predictions import Kind, Predictions
from gzoo.trees.tree import FloatArray, IntArray, Question, Tree
from gzoo.votes.votes import Votes

TREE = Tree(
    "small",
    (
        Question("q", ("a", "b", "c"), ("q_a", "q_b", "q_c")),
        Question("m", ("x", "y"), ("m_x", "m_y"), ("q_a", "q_b"), multiple=True),
        Question("r", ("s", "t"), ("r_s", "r_t"), ("q_a",)),
        Question("never", ("s", "t"), ("never_s", "never_t"), ("q_c",)),
    ),
)
QUESTIONS = tuple(question.name for question in TREE.questions)


def world(n: int, seed: int = 0) -> tuple[Votes, FloatArray]:
    """Votes of n galaxies, and the concentrations that they were drawn from; there are none on `never`."""
    rng = np.random.default_rng(seed)
    truth = rng.gamma(2.0, 3.0, (n, len(TREE.concentrations))) + 0.1
    counts = np.zeros((n, len(TREE.columns)), np.int64)
    for row, own in zip(counts, truth, strict=True):
        row[:3] = rng.multinomial(rng.integers(1, 41), rng.dirichlet(own[:3]))
        row[3:5] = rng.binomial(row[0] + row[1], rng.beta(own[3:5], own[5:7]))
        row[5:7] = rng.multinomial(row[0], rng.dirichlet(own[7:9]))
    return Votes(TREE, counts), truth


def predicted(values: FloatArray, kind: Kind = "concentrations", questions: tuple[str, ...] = QUESTIONS) -> Predictions:
    n = values.shape[-2]
    keys = pl.DataFrame({"dataset_name": ["d"] * n, "id_str": [str(i) for i in range(n)]})
    return Predictions(
        TREE, keys, kind, values.reshape(-1, *values.shape[-2:]), questions, np.zeros(n, bool), Path("p")
    )


def perturbed(truth: FloatArray, noise: float, seed: int) -> Predictions:
    return predicted(truth * np.exp(noise * np.random.default_rng(seed).standard_normal(truth.shape)))


def fractions_of(concentrations: FloatArray) -> FloatArray:
    return predicted(concentrations).fractions


def compared(votes: Votes, **models: Predictions) -> Comparison:
    return compute(models, votes, QUESTIONS, blocks(len(votes)))


# --- definitions ------------------------------------------------------------------------------------------------------


def test_differences_equal_their_definitions() -> None:
    votes, truth = world(300)
    one, two = perturbed(truth, 0.2, 1), perturbed(truth, 0.6, 2)
    (pair,) = compared(votes, one=one, two=two).pairs
    scores = [-dirichlet_multinomial_nll(votes.counts, each.values[0], TREE) for each in (one, two)]
    apart = scores[0] - scores[1]
    for i, name in enumerate(QUESTIONS[:3]):
        asked = votes.totals[:, i] > 0
        found = pair["questions"][name]["log_likelihood"]
        assert found["value"] == pytest.approx(apart[asked, i].mean())
        assert found["n_galaxies"] == asked.sum()
        enough = votes.totals[:, i] >= 2
        cells = [(each.fractions - votes.fractions)[enough, TREE.slice(name)] ** 2 for each in (one, two)]
        assert pair["questions"][name]["mse"]["value"] == pytest.approx((cells[0] - cells[1]).mean())
    assert pair["overall"]["log_likelihood"]["value"] == pytest.approx(apart.sum(axis=1).mean())
    assert pair["overall"]["log_likelihood"]["better_model"] == "one"
    assert pair["overall"]["mse"]["better_model"] == "one"  # the smaller error
    assert pair["campaigns"] == {}


def test_differences_are_those_of_the_models_scores() -> None:
    """The sampling noise of the votes cancels."""
    votes, truth = world(200)
    models = {"one": perturbed(truth, 0.3, 1), "two": perturbed(truth, 0.5, 2)}
    found = compared(votes, **models)
    about, (pair,) = found.models, found.pairs
    for unit, own in (("log_likelihood", "log_likelihood"), ("mse", "mse_noise_corrected")):
        values = [cast("dict[str, dict[str, float]]", about[name])[own]["value"] for name in models]
        difference = cast("dict[str, dict[str, float]]", pair["overall"])[unit]["value"]
        assert values[0] - values[1] == pytest.approx(difference)


def test_each_kind_of_prediction_has_its_own_likelihood() -> None:
    votes, truth = world(50)
    members = np.stack([truth, truth[::-1]])
    np.testing.assert_allclose(
        log_likelihoods(predicted(members), votes, QUESTIONS), -mixture_nll(votes.counts, members, TREE), atol=1e-12
    )
    fractions = fractions_of(truth)
    np.testing.assert_allclose(
        log_likelihoods(predicted(fractions, "fractions"), votes, ("r", "q")),
        -multinomial_nll(votes.counts, fractions, TREE)[:, [2, 0]],
    )


def test_swapping_the_models_changes_only_the_sign() -> None:
    votes, truth = world(200)
    one, two = perturbed(truth, 0.3, 1), perturbed(truth, 0.5, 2)
    (there,), (back,) = (found.pairs for found in (compared(votes, a=one, b=two), compared(votes, b=two, a=one)))
    for name in QUESTIONS[:3]:
        first, second = there["questions"][name]["log_likelihood"], back["questions"][name]["log_likelihood"]
        assert first["value"] == pytest.approx(-cast(float, second["value"]))
        assert first["better_model"] == second["better_model"]
        assert first["p"] == pytest.approx(second["p"], rel=0.3, abs=1e-3)


def test_the_difference_of_a_campaign_is_the_sum_over_its_questions() -> None:
    tree = gzoo.tree("gz_desi").published()
    rng = np.random.default_rng(0)
    counts = np.zeros((60, len(tree.columns)), np.int64)
    for i, part in enumerate(tree.parts.values()):
        for question in part:
            counts[i::4, tree.slice(question.name)] = rng.integers(1, 9, len(question.columns))
    votes = Votes(tree, counts)
    models = {
        name: Predictions(
            tree, pl.DataFrame(), "concentrations", rng.gamma(2, 2, (1, *counts.shape)) + 0.1,
            tuple(question.name for question in tree.questions), np.zeros(60, bool), Path(name),
        )
        for name in ("one", "two")
    }  # fmt: skip
    (pair,) = compute(models, votes, models["one"].questions, blocks(60)).pairs
    assert list(pair["campaigns"]) == list(tree.parts)
    total = 0.0
    for name, part in tree.parts.items():
        found = pair["campaigns"][name]["log_likelihood"]
        parts = [pair["questions"][question.name]["log_likelihood"] for question in part]
        summed = sum(cast(float, one["value"]) * one["n_galaxies"] for one in parts)
        assert found["n_galaxies"] == 15
        assert cast(float, found["value"]) * found["n_galaxies"] == pytest.approx(summed)
        total += summed
    assert pair["overall"]["log_likelihood"]["n_galaxies"] == 45  # a quarter of the galaxies have no votes
    assert cast(float, pair["overall"]["log_likelihood"]["value"]) * 45 == pytest.approx(total)


# --- multiple tests ---------------------------------------------------------------------------------------------------


def by_hand(p: list[float]) -> list[float]:
    """Holm's procedure as published: the level at which each test would be rejected."""
    order, out, worst = sorted(range(len(p)), key=lambda i: p[i]), [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p) - rank) * p[i]))
        out[i] = worst
    return out


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_holm_equals_its_definition(p: list[float]) -> None:
    found = holm(p)
    np.testing.assert_allclose(found, by_hand(p))
    assert (found >= np.array(p)).all()
    ordered = found[np.argsort(p, kind="stable")]
    assert all(first <= second for first, second in pairwise(ordered.tolist()))
    np.testing.assert_allclose(holm([*p, float("nan")])[:-1], found)


def test_more_pairs_are_more_tests() -> None:
    votes, truth = world(150)
    one, two, three = perturbed(truth, 0.3, 1), perturbed(truth, 0.45, 2), perturbed(truth, 0.45, 3)
    few, many = compared(votes, one=one, two=two), compared(votes, one=one, two=two, three=three)
    assert few.n_tests == 3  # questions with votes
    assert many.n_tests == 9
    assert [(pair["first"], pair["second"]) for pair in many.pairs] == [
        ("one", "two"), ("one", "three"), ("two", "three"),
    ]  # fmt: skip
    for name in QUESTIONS[:3]:
        alone, among = (found.pairs[0]["questions"][name]["log_likelihood"] for found in (few, many))
        assert alone["p"] == among["p"]
        assert cast(float, alone["p_adjusted"]) <= cast(float, among["p_adjusted"])


def draw(rng: np.random.Generator, n: int, noises: tuple[float, float], k: int = 3) -> tuple[FloatArray, IntArray]:
    """Differences in log-likelihood of two models with errors of these sizes, and total votes."""
    true = np.maximum(rng.dirichlet(np.ones(k), n), 1e-9)
    volunteers = rng.integers(2, 41, n)
    counts = rng.multinomial(volunteers, true / true.sum(axis=1, keepdims=True))
    scores: list[FloatArray] = []
    for noise in noises:
        alpha = true * np.exp(noise * rng.standard_normal(true.shape))
        scores.append(
            -question_nll(counts, volunteers, np.maximum(20 * alpha / alpha.sum(axis=1, keepdims=True), 1e-3))
        )
    return scores[0] - scores[1], volunteers


def test_error_rate_and_coverage_are_nominal() -> None:
    """A short version of benchmarks/compare_null.py; bounds are 4 standard errors from the nominal values."""
    n_repetitions, n = 600, 300
    rng = np.random.default_rng(0)
    null = np.column_stack([draw(rng, n, (0.5, 0.5))[0] for _ in range(n_repetitions)])
    p = ratio(null, np.ones((n, 1)), blocks(n)).p_values()
    assert 0.02 < (p < LEVEL).mean() < 0.085
    families = p.reshape(-1, 20)  # 30 families of 20 questions
    assert sum(bool((holm(family) < LEVEL).any()) for family in families) <= 6
    truth = np.concatenate([draw(rng, 100_000, (0.4, 0.6))[0] for _ in range(4)]).mean()
    apart = np.column_stack([draw(rng, n, (0.4, 0.6))[0] for _ in range(n_repetitions)])
    found = ratio(apart, np.ones((n, 1)), blocks(n))
    assert 0.91 < ((found.low <= truth) & (truth <= found.high)).mean() < 0.985


def test_the_minimum_detectable_difference_has_80_percent_power() -> None:
    """The number of additional galaxies follows from it."""
    votes, truth = world(400, seed=4)
    (pair,) = compared(votes, one=perturbed(truth, 0.3, 1), two=perturbed(truth, 0.32, 2)).pairs
    for name in QUESTIONS[:3]:
        found = pair["questions"][name]["log_likelihood"]
        value, minimum, more = (
            cast(float, found[key]) for key in ("value", "minimum_detectable_difference", "n_additional_galaxies")
        )
        assert not found["better_model"]
        assert (found["n_galaxies"] + more) / found["n_galaxies"] == pytest.approx((minimum / value) ** 2, rel=0.01)
    rng = np.random.default_rng(1)
    n, n_repetitions = 400, 300
    null = np.column_stack([draw(rng, n, (0.5, 0.5))[0] for _ in range(n_repetitions)])
    minimum = (1.96 + 0.8416) * null.std() / np.sqrt(n)
    detected = ratio(null + minimum, np.ones((n, 1)), blocks(n)).p_values() < LEVEL
    assert 0.7 < detected.mean() < 0.9


def test_long_tails_have_larger_p_values() -> None:
    """For the same mean and error, a long tail gives a larger p-value; few galaxies do so for both."""
    rng = np.random.default_rng(0)
    gaussian, skewed = rng.standard_normal(60), rng.exponential(1, 60)
    columns = np.column_stack([(one - one.mean()) / one.std() + 0.4 for one in (gaussian, skewed)])
    one = np.ones((60, 1))
    p = ratio(columns, one, blocks(60)).p_values()
    assert p[0] < p[1]
    student = stats.ttest_1samp(columns, 0).pvalue
    assert (p > student).all()
    assert p[0] == pytest.approx(student[0], abs=0.01)
    cells = Blocks(np.arange(60) // 2, 30, "sky cells")
    summed = columns.reshape(30, 2, 2).sum(axis=1)
    two = np.full((30, 1), 2.0)
    np.testing.assert_allclose(
        ratio(columns, one, cells).p_values(),
        ratio(summed, two, blocks(30)).p_values(),
    )


# --- infinite and inconclusive differences ----------------------------------------------------------------------------


def test_a_vote_with_zero_predicted_probability_loses() -> None:
    votes, truth = world(100)
    fractions = fractions_of(truth)
    row = int(np.flatnonzero(votes.counts[:, 0] > 0)[0])
    fractions[row, :3] = [0, 0.5, 0.5]
    found = compared(votes, certain=predicted(fractions, "fractions"), cautious=perturbed(truth, 0.5, 1))
    (pair,) = found.pairs
    contrast = pair["questions"]["q"]
    assert contrast["log_likelihood"]["n_zero_probability"] == (1, 0)
    assert contrast["log_likelihood"]["value"] is None
    assert contrast["log_likelihood"]["better_model"] == "cautious"
    assert "certain assigned zero probability to votes of 1 of 100 galaxies" in contrast["description"]
    assert contrast["mse"]["value"] is not None
    assert pair["overall"]["log_likelihood"]["better_model"] == "cautious"
    assert pair["questions"]["r"]["log_likelihood"]["value"] is not None
    assert found.models["certain"]["log_likelihood"]["value"] is None
    assert found.models["certain"]["n_zero_probability"] == 1
    json.dumps(found.to_dict(), allow_nan=False)
    both = compared(votes, certain=predicted(fractions, "fractions"), other=predicted(fractions.copy(), "fractions"))
    contrast = both.pairs[0]["questions"]["q"]
    assert contrast["log_likelihood"]["better_model"] is None
    assert "The log-likelihoods are inconclusive" in contrast["description"]


def test_identical_predictions_do_not_differ() -> None:
    votes, truth = world(60)
    found = compared(votes, one=perturbed(truth, 0.3, 1), two=perturbed(truth, 0.3, 1))
    (pair,) = found.pairs
    assert pair["overall"]["log_likelihood"]["value"] == 0
    assert pair["overall"]["log_likelihood"]["better_model"] is None
    assert pair["overall"]["description"] == "The predictions are identical overall."


def test_few_galaxies_give_no_verdict() -> None:
    votes, truth = world(9)
    (pair,) = compared(votes, one=perturbed(truth, 0.01, 1), two=perturbed(truth, 3, 2)).pairs
    assert pair["overall"]["log_likelihood"]["low"] is None
    assert pair["overall"]["log_likelihood"]["better_model"] is None
    assert "9 galaxies have votes" in pair["overall"]["description"]
    assert pair["questions"]["never"]["log_likelihood"]["n_galaxies"] == 0


def test_descriptions_name_the_better_model_and_the_size_of_the_difference() -> None:
    votes, truth = world(400)
    (pair,) = compared(votes, near=perturbed(truth, 0.05, 1), far=perturbed(truth, 1.0, 2)).pairs
    assert pair["questions"]["q"]["description"].startswith("near is better on q by ")
    assert pair["questions"]["q"]["description"].endswith(" nats per galaxy.")
    assert "near is better on q by" in pair["description"]
    (pair,) = compared(votes, near=perturbed(truth, 0.3, 1), far=perturbed(truth, 0.3, 2)).pairs
    assert "Inconclusive on r (" in pair["questions"]["r"]["description"]
    assert pair["questions"]["r"]["description"].endswith(" more of all galaxies.")


# --- files ------------------------------------------------------------------------------------------------------------


def write(path: Path, dataset: Path, seed: int, split: str = "test", n: int | None = None, **metadata: str) -> Path:
    """Predictions of a split, near its votes."""
    opened = gzoo.open_dataset(dataset)
    keys, votes = opened.read_votes(split)
    rng = np.random.default_rng(seed)
    values = votes.counts + rng.gamma(1.0, 1.0, votes.counts.shape) + 0.05
    columns = {f"{column}_concentration": values[:, i] for i, column in enumerate(opened.tree.columns)}
    table = keys.with_columns(**{name: pl.Series(column) for name, column in columns.items()}).head(n or keys.height)
    arrow = table.to_arrow()
    pq.write_table(arrow.replace_schema_metadata({"gzoo": json.dumps(metadata)}), path)
    return path


@pytest.fixture
def files(dataset: Path, tmp_path: Path) -> list[Path]:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    return [write(tmp_path / "a" / "p.parquet", dataset, 1), write(tmp_path / "b" / "p.parquet", dataset, 2, n=7)]


@pytest.mark.parametrize(
    ("ends", "sign", "text"),
    [
        ((3.5, 2.6, 4.5), "", "3.5 ± 0.9"),
        ((0.6, 0.2, 2.3), "", "0.6 [0.2, 2.3]"),
        ((-0.6, -2.3, -0.2), "", "0.6 [0.2, 2.3]"),
        ((-0.6, -2.3, -0.2), "+", "-0.6 [-2.3, -0.2]"),
        ((0.1, -0.3, 0.1), "+", "+0.1 [-0.3, 0.1]"),
        ((0.25, 0.25, 0.25), "", "0.250 ± 0.000"),
    ],
)
def test_a_lopsided_interval_is_given_by_its_ends(ends: tuple[float, ...], sign: str, text: str) -> None:
    difference: Any = dict(zip(("value", "low", "high"), ends, strict=True))
    assert amount(difference, sign).replace("\N{MINUS SIGN}", "-") == text


def test_models_are_compared_on_their_common_galaxies(dataset: Path, files: list[Path]) -> None:
    found = gzoo.compare(files, dataset)
    n = gzoo.open_dataset(dataset).read_votes("test")[0].height
    assert list(found.models) == ["a/p", "b/p"]
    assert found.n_galaxies == 7
    assert [found.models[name]["n_unshared"] for name in ("a/p", "b/p")] == [n - 7, 0]
    assert [found.models[name]["n_galaxies"] for name in ("a/p", "b/p")] == [n, 7]


def test_the_order_of_rows_and_a_missing_dataset_name_do_not_matter(
    dataset: Path, files: list[Path], tmp_path: Path
) -> None:
    other = tmp_path / "c.csv"
    pl.read_parquet(files[1]).drop("dataset_name").reverse().write_csv(other)
    found, again = gzoo.compare(files, dataset), gzoo.compare([files[0], other], dataset)
    for name, contrast in found.pairs[0]["questions"].items():
        value = again.pairs[0]["questions"][name]["log_likelihood"]["value"]
        assert value == pytest.approx(contrast["log_likelihood"]["value"])


def test_unsuitable_predictions_are_rejected(dataset: Path, files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least two"):
        gzoo.compare(files[:1], dataset)
    with pytest.raises(InputError, match="passed twice"):
        gzoo.compare([files[0], files[0]], dataset)
    seen = [write(tmp_path / f"seen{i}.parquet", dataset, i, "train") for i in range(2)]
    with pytest.raises(TableError, match=r"(?s)galaxies that the model was trained on.*--include-trained-on"):
        gzoo.compare(seen, dataset)
    found = gzoo.compare(seen, dataset, include_trained_on=True)
    assert found.models["seen0"]["n_trained_on"] == found.n_galaxies
    with pytest.raises(TableError, match="do not share a galaxy"):
        gzoo.compare([files[0], seen[0]], dataset)
    other = write(tmp_path / "other.parquet", dataset, 3, trained_by_scheme="published")
    with pytest.raises(TableError, match="Split schemes differ: 'published'"):
        gzoo.compare([files[0], other], dataset)
    page = tmp_path / "page.html"
    page.write_text("mine")
    with pytest.raises(OutputExistsError):
        gzoo.compare(files, dataset, report=page)
    assert page.read_text() == "mine"


def test_the_command_and_its_report(
    dataset: Path,
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(*options: str) -> str:
        monkeypatch.setattr("sys.argv", ["gzoo", "compare", *map(str, files), str(dataset), *options])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        return capsys.readouterr().out

    page = tmp_path / "page.html"
    shown = run("--report", str(page))
    assert "a/p compared with b/p" in shown
    assert "overall" in shown
    found = json.loads(run("--json"))
    assert found["n_galaxies"] == 7
    assert found == {**gzoo.compare(files, dataset).to_dict(), "warnings": []}
    text = page.read_text("utf-8")
    assert "SIMULATED DATA" in text
    assert found["pairs"][0]["overall"]["description"] in text
    assert "default-src 'none'" in text
    gzoo.compare(files, dataset, report=page, overwrite=True)
    assert page.read_text("utf-8") == text


def test_models_have_the_names_that_are_given(dataset: Path, files: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    found = gzoo.compare(files, dataset, name=["Zoobot", " mine "], report=page)
    assert list(found.models) == ["Zoobot", "mine"]
    assert found.pairs[0]["first"] == "Zoobot"
    text = page.read_text("utf-8")

    assert '<span class="name first">Zoobot</span>' in text
    for names, message in ((["one"], "1 name for 2 prediction files"), (["a", "a"], "do not distinguish")):
        with pytest.raises(InputError, match=message):
            gzoo.compare(files, dataset, name=names)


def test_the_report_escapes_names(dataset: Path, files: list[Path], tmp_path: Path) -> None:
    hostile = files[1].rename(tmp_path / "<script>alert(1)<.parquet")
    page = tmp_path / "page.html"
    gzoo.compare([files[0], hostile], dataset, report=page)
    assert "<script" not in page.read_text("utf-8")
    assert "&lt;script&gt;alert(1)" in page.read_text("utf-8")


def test_additional_galaxies_are_those_with_votes_and_those_of_all() -> None:
    votes, truth = world(400, seed=4)
    (pair,) = compared(votes, one=perturbed(truth, 0.3, 1), two=perturbed(truth, 0.32, 2)).pairs
    sentences: dict[bool, str] = {}
    for contrast in pair["questions"].values():
        found = contrast["log_likelihood"]
        more, of_all = found["n_additional_galaxies"], found["n_additional_of_all"]
        if more is not None and of_all is not None:
            assert of_all == pytest.approx(more * 400 / found["n_galaxies"], abs=1)
            sentences[found["n_galaxies"] < 400] = contrast["description"]
    assert "more galaxies with votes on it, which takes" in sentences[True]
    assert sentences[True].endswith("more of all galaxies.")


def test_ordered_answers_are_compared_by_the_ranked_probability_score() -> None:
    tree = Tree("small", (Question("q", ("a", "b", "c"), ("q_a", "q_b", "q_c"), ordered=("b", "a", "c")),))
    rng = np.random.default_rng(0)
    alpha = rng.gamma(2.0, 2.0, (200, 3)) + 0.1
    votes = Votes(tree, np.array([rng.multinomial(6, rng.dirichlet(one)) for one in alpha]))
    keys = pl.DataFrame({"dataset_name": ["d"] * 200, "id_str": [str(i) for i in range(200)]})
    good, bad = (
        Predictions(tree, keys, "concentrations", one[None], ("q",), pl.Series([False] * 200), Path("p"))
        for one in (alpha, alpha[::-1])
    )
    found = compute({"good": good, "bad": bad}, votes, ("q",), blocks(200))
    one = found.pairs[0]["questions"]["q"]["rps"]
    means = [ranked_probability_score(model.fractions, votes.counts, tree.questions[0]).mean() for model in (good, bad)]
    assert one["value"] == pytest.approx(means[0] - means[1])
    assert one["better_model"] == "good"
    assert found.pairs[0]["overall"]["rps"]["value"] == pytest.approx(one["value"])
    assert found.to_polars()["measure"].unique().sort().to_list() == ["log_likelihood", "mse", "rps"]
    votes, truth = world(50)
    unordered = compared(votes, a=predicted(truth), b=perturbed(truth, 0.1, 1))
    assert unordered.pairs[0]["questions"]["q"]["rps"]["n_galaxies"] == 0
    assert "rps" not in unordered.to_polars()["measure"].to_list()
