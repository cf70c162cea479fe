"""Agreement of simulated votes with their probabilities, for each question of each campaign.

    python benchmarks/simulator_votes.py [--n 2000] [--seed 0] [CAMPAIGN ...]

Each campaign is simulated without images. Its classification export is counted independently, in a few lines of polars,
and the counts must equal votes.parquet. Then the mean vote fractions are compared with the population's probabilities.
The difference is given in standard errors: clustered by volunteer (because volunteers classify many galaxies), and
clustered by galaxy (the remaining noise for given volunteers, a more sensitive test).

Prints tables and writes no file.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from gzoo.simulator import SimulateResult, simulate
from gzoo.trees.campaign import campaigns, tree

ANNOTATIONS = pl.List(pl.Struct({"task": pl.String, "value": pl.List(pl.String)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [one.name for one in campaigns() if not one.members]
    parser.add_argument("campaigns", nargs="*", default=names, metavar="CAMPAIGN", help="campaigns (default: all)")
    parser.add_argument("--n", type=int, default=2000, help="galaxies of each campaign (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="seed (default: 0)")
    options = parser.parse_args()
    every: list[pl.DataFrame] = []
    for name in options.campaigns:
        with tempfile.TemporaryDirectory() as folder:
            made = simulate(name, n_galaxies=options.n, seed=options.seed, images=False, out=Path(folder) / "sky")
            given = answers(made)
            print(f"\n{name}: {made.n_galaxies:,} galaxies, {made.n_classifications:,} classifications")
            print(f"  votes counted from the export equal votes.parquet: {is_equal(made, given)}")
            found = residuals(made, given)
        every.append(found)
        with pl.Config(
            tbl_rows=-1,
            tbl_hide_dataframe_shape=True,
            tbl_hide_column_data_types=True,
            float_precision=4,
            tbl_width_chars=130,
            fmt_str_lengths=50,
        ):
            print(
                found.group_by("question", maintain_order=True).agg(
                    pl.col("galaxies").first(),
                    pl.col("difference").abs().max().alias("largest difference"),
                    pl.col("z by volunteer").abs().max().alias("largest z by volunteer"),
                    pl.col("z by galaxy").abs().max().alias("largest z by galaxy"),
                )
            )
    total = pl.concat(every)
    for kind in ("z by volunteer", "z by galaxy"):
        z = total[kind].to_numpy()
        print(
            f"{kind}: {len(z)} answers, rms {np.sqrt((z**2).mean()):.2f}, largest {np.abs(z).max():.2f}, "
            f"within 1: {(np.abs(z) < 1).mean():.0%} (expected 68%), "
            f"within 2: {(np.abs(z) < 2).mean():.0%} (expected 95%)"
        )


def answers(made: SimulateResult) -> pl.DataFrame:
    """Return one row for each answer of a first classification: volunteer, galaxy and column."""
    classifications = pl.read_csv(made.classifications, infer_schema=False)
    who = pl.when(pl.col("user_id") != "").then("user_id").otherwise("user_ip").alias("who")
    given = (
        classifications.with_columns(pl.col("user_id").fill_null(""))
        .with_columns(who)
        .unique(["who", "subject_ids"], keep="first", maintain_order=True)
        .select(
            "who",
            "workflow_id",
            pl.col("subject_data").str.extract(r'"id_str":"([^"]+)"').alias("id_str"),
            pl.col("annotations").str.replace_all(r'"value":("[^"]*")', '"value":[$1]').str.json_decode(ANNOTATIONS),
        )
        .explode("annotations")
        .unnest("annotations")
        .explode("value")
        .rename({"value": "label"})
    )
    return given.join(columns(made), on=["workflow_id", "task", "label"], how="left")


def columns(made: SimulateResult) -> pl.DataFrame:
    """Return the column of each label of each task and workflow, from the words of the workflow export."""
    rows: list[tuple[str, str, str, str]] = []
    for workflow in pl.read_csv(made.workflows, infer_schema=False).iter_rows(named=True):
        strings, tasks = json.loads(workflow["strings"]), json.loads(workflow["tasks"])
        for key, task in tasks.items():
            question = slug(strings[task["question"]])
            for answer in task["answers"]:
                label = strings[answer["label"]]
                fits = [
                    column
                    for column in tree(made.campaign).columns
                    if column.endswith(f"_{slug(label)}")
                    and (column.startswith(f"{question}_") or column.rsplit("_", 1)[0].rsplit("-", 1)[0] == question)
                ]
                if len(fits) > 1:
                    fits = [one for one in fits if one.rsplit("_", 1)[0].rsplit("-", 1)[1] in workflow["display_name"]]
                rows.append((workflow["workflow_id"], key, label, *fits))
    return pl.DataFrame(rows, schema=["workflow_id", "task", "label", "column"], orient="row")


def slug(label: str) -> str:
    return label.rstrip("?").lower().replace(" ", "-")


def is_equal(made: SimulateResult, given: pl.DataFrame) -> bool:
    """Return whether the counted votes equal votes.parquet."""
    votes = pl.read_parquet(made.votes).select("id_str", *tree(made.campaign).columns)
    counted = given.drop_nulls("column").pivot("column", index="id_str", values="who", aggregate_function="len")
    unavailable = [pl.lit(0).alias(name) for name in votes.columns if name not in counted.columns]
    counted = votes.select("id_str").join(counted, on="id_str", how="left").with_columns(unavailable).fill_null(0)
    return votes.equals(counted.select(votes.columns).cast(votes.schema))


def residuals(made: SimulateResult, given: pl.DataFrame) -> pl.DataFrame:
    """Return the mean over galaxies of (vote fraction - probability) for each answer, also in standard errors."""
    truth = pl.read_parquet(made.truth)
    rows: list[dict[str, object]] = []
    for question in tree(made.campaign).questions:
        asked = given.filter(asked_of(made, question.name)).select("who", "id_str").unique()
        asked = asked.with_columns(k=pl.len().over("id_str"))
        n = asked["id_str"].n_unique()
        if n < 30:
            continue
        for column in question.columns:
            said = given.filter(pl.col("column") == column).select("who", "id_str", gave=1.0)
            one = (
                asked.join(said, on=["who", "id_str"], how="left")
                .join(truth.select("id_str", p=f"{column}_probability"), on="id_str")
                .with_columns(residual=(pl.col("gave").fill_null(0.0) - pl.col("p").cast(pl.Float64)) / pl.col("k") / n)
            )
            difference = float(one["residual"].sum())
            errors = [
                float(np.sqrt((one.group_by(by).agg(pl.col("residual").sum())["residual"] ** 2).sum()))
                for by in ("who", "id_str")
            ]
            rows.append(
                {
                    "question": question.name,
                    "answer": column,
                    "galaxies": n,
                    "difference": difference,
                    "z by volunteer": difference / errors[0],
                    "z by galaxy": difference / errors[1],
                }
            )
    return pl.DataFrame(rows)


def asked_of(made: SimulateResult, question: str) -> pl.Expr:
    """Select the rows of a question's parent answers; of a root question, all answers to it."""
    one = tree(made.campaign).question(question)
    return pl.col("column").is_in(list(one.parents or one.columns))


if __name__ == "__main__":
    main()
