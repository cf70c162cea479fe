"""What the page shows of one galaxy, of the model against volunteers, and of the dataset as a whole, as JSON values."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import Counter
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo.errors import GZooError, NotFoundError, choices
from gzoo.explorer.labels import LEVEL, BoolArray, Rows
from gzoo.explorer.measures import DISAGREEMENT
from gzoo.explorer.query import Engine, Filter
from gzoo.scoring.betas import quantile
from gzoo.scoring.scores import score
from gzoo.sky.matching import RADIUS_ARCSEC
from gzoo.trees.cite import cite
from gzoo.trees.labels import label, words
from gzoo.trees.tree import FloatArray
from gzoo.votes.votes import WELL_VOTED

N_RELIABILITY_BINS = 10
MAX_POINTS = 1_500  # of a scatter plot
MAX_PLACES = 6_000  # single points on the sky map; more are counted in cells
SKY_WIDTH, SKY_HEIGHT = 360, 180  # cells of the sky map
N_EXAMPLES = 64  # galaxies in view for the choice of an example
N_BOOTSTRAP = 300

Values = dict[str, Any]


class Views:
    """Everything that is shown of a dataset."""

    def __init__(self, engine: Engine, has_images: bool) -> None:
        self.engine, self.labels, self.has_images = engine, engine.labels, has_images
        self._scores: Values = {"state": "none" if self.labels.predicted is None else "waiting"}
        self._scoring = threading.Lock()

    # ------------------------------------------------------------------------------------------------
    # The dataset

    @cached_property
    def about(self) -> Values:
        """What stays the same while the page is open."""
        labels, dataset = self.labels, self.labels.dataset
        counts, totals = self.engine.total
        tree = labels.tree
        depth: dict[str, int] = {}
        questions: list[Values] = []
        parts = {one.name: part for part, members in tree.parts.items() for one in members}
        for one in labels.collected:
            i = labels.question(one.name)
            owners = {tree.questions[tree.question_of_answer[p]].name for p in tree.parents_of_question[i]}
            depth[one.name] = max((depth.get(owner, 0) + 1 for owner in owners), default=0)
            questions.append(
                {
                    "name": one.name,
                    "label": _title(words(one.name.removesuffix(f"-{parts[one.name]}"))),
                    "part": parts[one.name],
                    "index": i,
                    "asked": self.engine.measures.spelling(f"{one.name}.asked"),
                    "parents": [tree.columns.index(parent) for parent in one.parents if parent in tree.columns],
                    "depth": depth[one.name],
                    "multiple": one.multiple,
                    "total": int(totals[i]),
                    "predicted": labels.predicted is not None and one.name in labels.predicted.read.questions,
                    "answers": [
                        {
                            "index": tree.columns.index(column),
                            "column": column,
                            "answer": answer,
                            "label": words(answer),
                            "name": self.engine.measures.spelling(f"{one.name}.{answer}"),
                            "measure": self.engine.measures.canonical(f"{one.name}.{answer}"),
                            "total": int(counts[tree.columns.index(column)]),
                        }
                        for answer, column in zip(one.answers, one.columns, strict=True)
                    ],
                }
            )
        predicted = labels.predicted
        return {
            "name": dataset.folder.resolve().name,
            "folder": str(dataset.folder),
            "campaign": dataset.campaign.name,
            "title": dataset.campaign.title,
            "is_simulated": dataset.is_simulated,
            "n": len(labels),
            "splits": list(dataset.splits),
            "campaigns": list(labels.campaigns),
            "parts": shown if len(shown := list(dict.fromkeys(one["part"] for one in questions))) > 1 else [],
            "questions": questions,
            "has_images": self.has_images,
            "columns": [
                self.engine.measures.spelling(name) for name, kind in labels.frame.schema.items() if kind.is_numeric()
            ],
            "level": LEVEL,
            "min_votes": WELL_VOTED,
            "version": dataset.digest[:12],
            "map": self._map,
            "predictions": None
            if predicted is None
            else {
                "file": str(predicted.read.source),
                "n": len(predicted.read),
                "n_held_out": int((~predicted.is_seen).sum()),
                "kind": predicted.read.kind,
            },
        }

    @property
    def _map(self) -> Values | None:
        embedded = self.engine.embedded
        if embedded is None:
            return None
        places, axes = embedded.map
        return {
            "n": int(np.isfinite(places).all(axis=1).sum()),
            "axes": axes,
            "version": hashlib.sha256(embedded.places).hexdigest()[:12],
        }

    @cached_property
    def overview(self) -> Values:
        """The dataset as a whole."""
        labels, dataset = self.labels, self.labels.dataset
        roots = [labels.question(one.name) for one in labels.collected if not one.parents]
        volunteers = labels.totals[:, roots].max(axis=1) if roots else np.zeros(len(labels), np.int32)
        most = int(volunteers.max(initial=1))
        width = max(math.ceil((most + 1) / 25), 1)
        histogram = np.bincount(volunteers // width, minlength=most // width + 1)
        campaign = dataset.campaign
        return {
            "examples": self._examples(),
            "volunteers": {
                "median": float(np.median(volunteers)),
                "low": int(volunteers.min(initial=0)),
                "high": most,
                "width": width,
                "counts": histogram.tolist(),
            },
            "splits": {name: int((labels.split == i).sum()) for i, name in enumerate(dataset.splits)},
            "split_scheme": dataset.split_scheme,
            "dropped": self._dropped(),
            "not_collected": [label(name, labels.tree) for name in dataset.not_collected],
            "licence": "" if dataset.is_simulated else campaign.hub.licence,
            "description": " ".join(campaign.description.split()),
            "citation": [] if dataset.is_simulated else _citation(campaign.source or campaign.name),
            "surveys": [f"{one.name} ({one.telescope})" for one in campaign.surveys],
        }

    def _dropped(self) -> Values:
        path = self.labels.dataset.folder / "dropped.parquet"
        if not path.is_file():
            return {"known": False, "reasons": {}}
        try:
            reasons = pl.read_parquet(path, columns=["reason"], glob=False)["reason"].to_list()
        except (pl.exceptions.PolarsError, OSError):
            return {"known": False, "reasons": {}}
        return {"known": True, "reasons": dict(Counter(map(str, reasons)).most_common())}

    def _examples(self) -> dict[str, int]:
        """Return one row for each answer: the highest smoothed fraction, each galaxy at most once."""
        labels, used, found = self.labels, set[int](), dict[str, int]()
        for question in labels.collected:
            total = labels.totals[:, labels.question(question.name)].astype(np.float32)
            for column in question.columns:
                votes = labels.counts[:, labels.answer(column)]
                smoothed = (votes + 0.5) / (total + 3)
                n = min(N_EXAMPLES, len(labels))
                best = np.argpartition(-smoothed, n - 1)[:n]
                for row in best[np.argsort(-smoothed[best], kind="stable")].tolist():
                    if row not in used and votes[row] > 0:
                        used.add(row)
                        found[column] = row
                        break
        return found

    def sky(self, wanted: Filter) -> Values:
        """Return the positions of galaxies in a Mollweide projection, x from -1 to 1 and y from -0.5 to 0.5."""
        ra, dec = self.labels.position
        rows = self.engine.rows(wanted)
        if rows is not None:
            ra, dec = ra[rows], dec[rows]
        known = np.isfinite(ra) & np.isfinite(dec)
        x, y = mollweide(ra[known], dec[known])
        n = int(known.sum())
        if n <= MAX_PLACES:
            return {"n": n, "points": np.column_stack([x, y]).round(4).ravel().tolist()}
        column = np.clip(((x + 1) / 2 * SKY_WIDTH).astype(int), 0, SKY_WIDTH - 1)
        line = np.clip(((0.5 - y) * SKY_HEIGHT).astype(int), 0, SKY_HEIGHT - 1)
        cells = np.bincount(line * SKY_WIDTH + column, minlength=SKY_WIDTH * SKY_HEIGHT)
        filled = np.flatnonzero(cells)
        level = np.ceil(np.log1p(cells[filled]) / np.log1p(cells.max()) * 4).astype(int)
        return {
            "n": n,
            "width": SKY_WIDTH,
            "height": SKY_HEIGHT,
            "levels": [filled[level == i].tolist() for i in range(1, 5)],
        }

    # ------------------------------------------------------------------------------------------------
    # Rows

    def tiles(self, rows: Rows, name: str) -> list[Values]:
        """Return what a tile of the grid shows: identifier, split, and votes or value of a measure.

        Args:
            rows: The galaxies.
            name: Measure to show; '' for the most voted answer to the first question.
        """
        labels, measures = self.labels, self.engine.measures
        ids = labels.frame["id_str"].gather(rows).to_list()
        name = measures.canonical(name) if name else ""
        answer = measures.answer_of(name) if name else None
        numbers = None if answer is not None or not name else measures.texts(name, rows)
        model = measures.predicted_of(answer, rows) if answer is not None else None
        found: list[Values] = []
        for i, row in enumerate(rows.tolist()):
            tile: Values = {"row": row, "id": str(ids[i])}
            shown = answer
            if not name and labels.collected:
                roots = [one for one in labels.collected if not one.parents]
                root = max(roots, key=lambda one: labels.totals[row, labels.question(one.name)])
                own = labels.tree.slice(root.name)
                shown = own.start + int(labels.counts[row, own].argmax())
                tile["label"] = words(root.answers[shown - own.start])
            if shown is not None:
                tile["k"] = int(labels.counts[row, shown])
                tile["n"] = int(labels.totals[row, labels.tree.question_of_answer[shown]])
            if model is not None and np.isfinite(model[i]):
                tile["model"] = round(float(model[i]), 4)
            if numbers is not None:
                tile["value"] = numbers[i]
                if name == DISAGREEMENT:
                    tile |= {
                        "value": None if numbers[i] is None else round(numbers[i], 1),
                        "unit": "\N{GREEK SMALL LETTER SIGMA}",
                    }
            found.append(tile)
        return found

    # ------------------------------------------------------------------------------------------------
    # One galaxy

    def row_of(self, identifier: str, campaign: str) -> int:
        """Return the row of a galaxy.

        Raises:
            NotFoundError: No galaxy has this identifier.
        """
        labels = self.labels
        rows = labels.row_of_id.get(identifier, [])
        if campaign in labels.campaigns:
            code = labels.campaigns.index(campaign)
            rows = [row for row in rows if labels.campaign[row] == code] or rows
        if not rows:
            raise NotFoundError(f"Galaxy not found: '{identifier[:80]}'.", "the id_str of a galaxy of this dataset.")
        return rows[0]

    def galaxy(self, row: int) -> Values:
        """Return everything that is known of one galaxy."""
        labels, tree = self.labels, self.labels.tree
        votes = labels.votes_of([row])
        k = votes.counts[0].astype(np.float64)
        n = votes.totals[0][list(tree.question_of_answer)].astype(np.float64)
        tail = (1 - LEVEL) / 2
        low, high = (quantile(k + 0.5, n - k + 0.5, q) for q in (tail, 1 - tail))  # Jeffreys
        low, high = np.where(k == 0, 0.0, low), np.where(k == n, 1.0, high)
        found: Values = {
            "row": row,
            "id": str(labels.frame["id_str"][row]),
            "split": labels.dataset.splits[labels.split[row]],
            "campaign": str(labels.frame["dataset_name"][row]),
            "counts": votes.counts[0].tolist(),
            "totals": votes.totals[0].tolist(),
            "low": _rounded(low),
            "high": _rounded(high),
            "columns": self._columns(row),
            "same": self._same(row),
            "model": None,
        }
        for name, values in zip(("ra", "dec"), labels.position, strict=True):
            found[name] = float(values[row]) if np.isfinite(values[row]) else None
        predicted = labels.predicted
        if predicted is not None and row in predicted.place:
            i = predicted.place[row]
            before, after = predicted.beta(i), predicted.beta(i, votes)
            model: Values = {"fraction": _rounded(predicted.fractions[i]), "is_seen": bool(predicted.is_seen[i])}
            with np.errstate(invalid="ignore"):
                if before is not None and after is not None:
                    for name, one in (("", before), ("posterior_", after)):
                        ends = one.interval(LEVEL)
                        model[f"{name}low"], model[f"{name}high"] = (_rounded(end[0]) for end in ends)
                    model["posterior"] = _rounded(after.fractions[0])
                model["asked"] = _rounded(tree.proportion_asked(predicted.read.fractions[i : i + 1])[0])
            found["model"] = model
            found["differences"] = self._differences(k, n, predicted.fractions[i], i)
        return found

    def _differences(self, k: FloatArray, n: FloatArray, p: npt.NDArray[np.floating], i: int) -> list[Values]:
        """Return the answers where votes and prediction differ most, in standard deviations of the votes."""
        z = self.engine.measures.standardized(k[None], n[None], p[None], np.array([i]))[0]
        order = [
            int(one) for one in np.argsort(-np.nan_to_num(np.abs(z))) if n[one] >= WELL_VOTED and np.isfinite(z[one])
        ]
        tree, seen, found = self.labels.tree, set[int](), list[Values]()
        for one in order:
            question = tree.question_of_answer[one]
            if len(tree.questions[question].columns) == 2 and question in seen:
                continue  # of two answers, the second says the same
            seen.add(question)
            found.append({"answer": one, "k": int(k[one]), "n": int(n[one]), "model": round(float(p[one]), 4)})
        return found[:3]

    def _columns(self, row: int) -> Values:
        shown: Values = {}
        for name in self.labels.frame.columns:
            value = self.labels.frame[name][row]
            if name not in {"id_str", "dataset_name", "ra", "dec"} and value not in (None, ""):
                shown[name] = value if isinstance(value, int | float | bool) else str(value)[:200]
        return shown

    def _same(self, row: int) -> list[Values]:
        """Return the other rows within the match radius on the sky."""
        ra, dec = (np.deg2rad(one) for one in self.labels.position)
        if not np.isfinite(ra[row] + dec[row]):
            return []
        near = np.abs(dec - dec[row]) < np.deg2rad(RADIUS_ARCSEC / 3600)
        near[row] = False
        rows = np.flatnonzero(near)
        half = np.sin((dec[rows] - dec[row]) / 2) ** 2
        half += np.cos(dec[rows]) * np.cos(dec[row]) * np.sin((ra[rows] - ra[row]) / 2) ** 2
        arcsec = np.rad2deg(2 * np.arcsin(np.sqrt(half))) * 3600
        frame = self.labels.frame
        return [
            {
                "row": one,
                "id": str(frame["id_str"][one]),
                "campaign": str(frame["dataset_name"][one]),
                "arcsec": round(distance, 2),
            }
            for one, distance in zip(rows.tolist(), arcsec.tolist(), strict=True)
            if distance <= RADIUS_ARCSEC
        ][:12]

    # ------------------------------------------------------------------------------------------------
    # Model against volunteers

    def model(self, question: str, answer: str, chosen: int | None, wanted: Filter) -> Values:
        """Return reliability and residuals of one answer over held-out galaxies that meet a filter.

        Args:
            question: Name of the question; '' for the first that is predicted.
            answer: Name of the answer; '' for the first.
            chosen: Bin of the prediction whose galaxies are listed; None for the galaxies that differ most.
            wanted: The filter.

        Raises:
            NotFoundError: Predictions were not opened, or do not contain this question or answer.
        """
        labels, predicted = self.labels, self.labels.predicted
        if predicted is None:
            raise NotFoundError(
                "No predictions were opened.", hint="Run `gzoo explore PREDICTIONS DATASET` to compare a model."
            )
        known = [one for one in labels.collected if one.name in predicted.read.questions]
        names = [one.name for one in known]
        one = next((one for one in known if one.name == question), None if question else known[0])
        if one is None:
            raise NotFoundError(f"Predicted question not found: '{question[:80]}'.", choices(names, question))
        if answer and answer not in one.answers:
            raise NotFoundError(f"Answer not found: '{answer[:80]}'.", choices(one.answers, answer))
        column = one.columns[one.answers.index(answer) if answer else 0]
        i = labels.answer(column)
        use = ~predicted.is_seen & self._within(predicted.row, wanted)
        row = predicted.row[use]
        k = labels.counts[row, i].astype(np.float64)
        n = labels.totals[row, labels.question(one.name)].astype(np.float64)
        p = predicted.fractions[use, i].astype(np.float64)
        place = np.flatnonzero(use)
        asked = (n > 0) & np.isfinite(p)
        row, k, n, p, place = row[asked], k[asked], n[asked], p[asked], place[asked]
        gap = k / n - p
        bins = np.clip((p * N_RELIABILITY_BINS).astype(int), 0, N_RELIABILITY_BINS - 1)
        z = self.engine.measures.standardized_of(i, k, n, p, place)
        order = np.argsort(-np.abs(z), kind="stable") if chosen is None else np.argsort(-gap, kind="stable")
        listed = order if chosen is None else order[bins[order] == chosen]
        shown = np.concatenate([listed[:12], listed[-12:]]) if len(listed) > 24 and chosen is not None else listed[:24]
        ids = labels.frame["id_str"].gather(row[shown]).to_list()
        points = np.arange(len(p)) if len(p) <= MAX_POINTS else np.linspace(0, len(p) - 1, MAX_POINTS).astype(int)
        return {
            "question": one.name,
            "answer": one.answers[one.columns.index(column)],
            "n_galaxies": len(p),
            "n_votes": int(k.sum()),
            "n_total": int(n.sum()),
            "bias": _mean(-gap),
            "groups": _reliability(k / np.maximum(n, 1), p, bins),
            "histogram": np.histogram(p, 40, (0, 1))[0].tolist(),
            "points": {
                "row": row[points].tolist(),
                "n": n[points].astype(int).tolist(),
                "gap": _rounded(gap[points]),
                "bin": bins[points].tolist(),
            },
            "band": _band(n, p),
            "inside": _inside(n, gap, p),
            "listed": [
                {"row": int(row[j]), "id": str(name), "k": int(k[j]), "n": int(n[j]), "model": round(float(p[j]), 4)}
                for j, name in zip(shown.tolist(), ids, strict=True)
            ],
            "n_listed": len(listed),
            "scores": self.scores(),
        }

    def _within(self, row: Rows, wanted: Filter) -> BoolArray:
        rows = self.engine.rows(wanted)
        if rows is None:
            return np.ones(len(row), np.bool_)
        mask = np.zeros(len(self.labels), np.bool_)
        mask[rows] = True
        return mask[row]

    def scores(self) -> Values:
        """Return the scores of the predictions, which are computed once, in another thread."""
        with self._scoring:
            if self._scores["state"] == "waiting":
                self._scores = {"state": "running"}
                threading.Thread(target=self._score, daemon=True).start()
        return self._scores

    def score_now(self) -> None:
        """Compute the scores, and wait for them."""
        with self._scoring:
            if self._scores["state"] == "waiting":
                self._score()

    def _score(self) -> None:
        predicted = self.labels.predicted
        assert predicted is not None
        try:
            found = score(predicted.read.source, self.labels.dataset.folder)
        except GZooError as error:
            self._scores = {"state": "failed", "message": error.message, "hint": error.hint}
            return
        questions: Values = {}
        assert found.calibration is not None
        for name, one in found.questions.items():
            calibration = found.calibration["questions"].get(name)
            questions[name] = {
                "gain": one["log_likelihood_gain"],
                "n_galaxies": one["n_galaxies"],
                "rmse": one["rmse_noise_corrected"]["value"],
                "verdict": calibration["verdict"] if calibration else "",
                "description": calibration["description"] if calibration else "",
            }
        self._scores = {"state": "done", "questions": questions}


def mollweide(ra: FloatArray, dec: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return x (-1 to 1) and y (-0.5 to 0.5) of positions in degrees; right ascension increases to the left.

    >>> x, y = mollweide(np.array([0.0, 179.999]), np.array([0.0, 0.0]))
    >>> (x + 0).round(2).tolist(), (y + 0).round(2).tolist()
    ([0.0, -1.0], [0.0, 0.0])
    """
    latitude = np.deg2rad(np.asarray(dec, np.float64))
    longitude = np.deg2rad((np.asarray(ra, np.float64) + 180) % 360 - 180)
    theta = 0.9 * latitude
    for _ in range(12):  # Newton's method; near the poles the step is limited by the small derivative
        slope = np.maximum(2 + 2 * np.cos(2 * theta), 1e-9)
        theta -= np.clip((2 * theta + np.sin(2 * theta) - np.pi * np.sin(latitude)) / slope, -0.5, 0.5)
    theta = np.clip(theta, -np.pi / 2, np.pi / 2)
    return -longitude / np.pi * np.cos(theta), np.sin(theta) / 2


def _reliability(voted: FloatArray, p: FloatArray, bins: npt.NDArray[np.integer]) -> list[Values]:
    chance = np.random.default_rng(0)
    groups: list[Values] = []
    for i in range(N_RELIABILITY_BINS):
        own = bins == i
        n = int(own.sum())
        if not n:
            continue
        values = voted[own]
        mean = float(values.mean())
        if n <= 2000:
            means = values[chance.integers(0, n, (N_BOOTSTRAP, n))].mean(axis=1)
            low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
        else:  # the bootstrap's limit
            half = 1.645 * float(values.std()) / math.sqrt(n)
            low, high = mean - half, mean + half
        groups.append({"bin": i, "n": n, "predicted": float(p[own].mean()), "voted": mean, "low": low, "high": high})
    return groups


def _band(n: FloatArray, p: FloatArray) -> list[list[float]]:
    """Return votes and half-width of the band that contains 90% of differences if only vote sampling noise acts."""
    if not len(n):
        return []
    spread = float(np.sqrt((p * (1 - p)).mean()))
    votes = np.unique(np.linspace(1, max(n.max(), 2), 40).round())
    return [[float(one), round(1.645 * spread / math.sqrt(one), 4)] for one in votes]


def _inside(n: FloatArray, gap: FloatArray, p: FloatArray) -> float | None:
    """Return the fraction of galaxies inside of that band."""
    if not len(n):
        return None
    spread = np.sqrt((p * (1 - p)).mean())
    return float((np.abs(gap) <= 1.645 * spread / np.sqrt(n)).mean())


def _mean(values: FloatArray) -> float | None:
    return float(values.mean()) if len(values) else None


def _rounded(values: npt.NDArray[np.floating]) -> list[float | None]:
    return [round(float(one), 4) if np.isfinite(one) else None for one in values]


def _title(text: str) -> str:
    return text[:1].upper() + text[1:]


def _citation(name: str) -> list[str]:
    try:
        return cite(name, format="text").splitlines()
    except GZooError:
        return []
