"""What the commands that judge predictions print: scores and comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gzoo.cli.screen import Given, Screen
from gzoo.display import format_p, interval

if TYPE_CHECKING:
    from gzoo.display import Shown


def score(scores: Shown, given: Given, screen: Screen) -> None:
    """Print scores with confidence intervals: of questions, of classes, or those of a paper."""
    found = scores.to_dict()
    if "target" in found:
        _print_target(scores, found, screen)
    elif "confusion" in found:
        _print_classes(found, screen)
    elif "answers" in found:
        names = {"rmse": "RMSE", "mae": "MAE", "noise_floor": "RMSE of a perfect model"}
        names["rmse_noise_corrected"] = "RMSE, noise-corrected"
        screen.table([(f"{name}, mean over answers", interval(found[key], 4)) for key, name in names.items()])
        screen.say(
            f"{found['n_answers']} answers, over galaxies with at least {found['min_votes']} votes on the question. In "
            "brackets: 95% confidence intervals."
        )
    elif "overall" not in found:
        table: list[Sequence[str]] = [("question", "galaxies", "accuracy", "confident", "accuracy of these")]
        for name, one in found["questions"].items():
            both = (one["relevant"], one["confident"])
            cells = [cell for each in both for cell in (f"{each['n_galaxies']:,}", interval(each["accuracy"], 4))]
            table.append((name, *cells))
        screen.table(table)
        screen.say("Confident: one answer has more than 0.8 of the votes. In brackets: 95% confidence intervals.")
    else:
        _print_scores(found, screen)
    if found["n_trained_on"]:
        screen.warn(f"The model was trained on {found['n_trained_on']:,} of these galaxies.")


def _print_target(scores: Any, found: Mapping[str, Any], screen: Screen) -> None:
    rows = [(_words(name), interval(one, 4)) for name, one in scores.values().items()]
    screen.table([("score", found["target"]), *rows])
    if found["classes"]:
        confusion = found["classes"]["confusion"]
        names = list(next(iter(confusion.values()), {}))
        screen.print()
        screen.table(
            [
                ("true \\ predicted", *names),
                *((true, *(f"{one['n']:,}" for one in row.values())) for true, row in confusion.items()),
            ]
        )
    unlabelled = f"; {found['n_unlabelled']:,} without a label are excluded" if found["n_unlabelled"] else ""
    screen.say(
        f"{found['n_galaxies']:,} galaxies{unlabelled}. Log-likelihood in nats per galaxy; the baseline knows only the "
        "labels of training galaxies. In brackets: 95% confidence intervals over "
        f"{found['bootstrap']['unit']}."
    )
    if found["n_zero_probability"]:
        screen.warn(f"The true class of {found['n_zero_probability']:,} galaxies has probability 0.")


def _print_scores(found: Mapping[str, Any], screen: Screen) -> None:
    heading = ("question", "galaxies", "effective", "log-likelihood (nats)", "gain over baseline (nats)")
    rows: list[Sequence[str]] = [
        (*heading, "gain per vote", "constant", "Brier gain", "RMSE", "noise floor", "noise-corrected RMSE")
    ]
    rows += [_scored(name, one) for name, one in found["questions"].items() if one["n_galaxies"]]
    rows += [_scored(name, one) for name, one in found["campaigns"].items()]
    rows.append(_scored("overall", found["overall"]))
    screen.table(rows)
    if ordered := {name: one for name, one in found["questions"].items() if one["n_ordered"]}:
        screen.print("\nOrdered answers, ranked probability score (lower is better):")
        lines = [(name, f"{one['n_ordered']:,}", *(interval(one[key]) for key in ("rps", "rps_gain")))
                 for name, one in ordered.items()]  # fmt: skip
        screen.table([("question", "galaxies", "score", "gain over baseline"), *lines])
    if silent := [name for name, one in found["questions"].items() if not one["n_galaxies"]]:
        screen.print(f"no votes: {', '.join(silent)}")
    if found["questions_missing"]:
        screen.print(f"not predicted: {', '.join(found['questions_missing'])}")
    balanced = found["balanced"]
    screen.print(
        f"balanced over {balanced['n_questions']} questions: gain {interval(balanced['log_likelihood_gain'])}, "
        f"noise-corrected RMSE {interval(balanced['rmse_noise_corrected'])}"
    )
    weighted = interval(found["overall"]["rmse_weighted"])
    screen.print(f"galaxies weighted by votes, (N - 1) / (N + 1): overall noise-corrected RMSE {weighted}")
    if len(found["slices"]) > 1:
        screen.print("\nSlices, largest noise-corrected RMSE first:")
        slices = [_scored(f"{one['column']}: {one['range']}", one["score"]) for one in found["slices"]]
        screen.table([rows[0], *slices])
    if found["calibration"]:
        screen.print("\nCalibration:")
        judged = [(name, one) for name, one in found["calibration"]["questions"].items() if one["n_used"]]
        screen.table([(name, one["description"]) for name, one in judged] or [("no question has votes", "")])
    from gzoo.scoring.baseline import in_words

    screen.say(f"Read {found['how_read']}.")
    bootstrap = found["bootstrap"]
    cells = f" of {bootstrap['cell_arcmin']:.0f} arcmin" if bootstrap["cell_arcmin"] else ""
    screen.say(
        "Log-likelihood: mean per galaxy with votes on the question; higher is better. Gain: above a baseline that "
        f"knows only the votes of {in_words(found['baseline'])}; it grows with the number of votes, unlike the Brier "
        "gain. Constant: the gain of a constant fitted to the votes that are scored; what a model gains beyond it is "
        "due to differences between galaxies. RMSE: of vote fractions; noise floor: its value for a perfect model. In "
        f"brackets: 95% confidence intervals, bootstrap over {bootstrap['n_units']:,} {bootstrap['unit']}{cells}; none "
        "below 10. Overall: questions weighted by their galaxies; balanced: by the square root of that."
    )
    if n_zero := found["overall"]["n_zero_probability"]:
        screen.warn(
            f"{n_zero:,} galaxies have votes for an answer whose predicted fraction is 0. Their log-likelihood is "
            "minus infinity and is not shown."
        )


def _scored(name: str, one: Mapping[str, Any]) -> tuple[str, ...]:
    effective = "-" if one["n_effective"] is None else f"{one['n_effective']:,.0f}"
    corrected = interval(one["rmse_noise_corrected"])
    high = one["rmse_noise_corrected"]["high"]
    if one["exceeds_noise"] is False and high is not None:
        corrected = f"0 to {high:.3f} (consistent with 0)"
    shown = [interval(one[key]) for key in ("log_likelihood", "log_likelihood_gain")]
    means = ("log_likelihood_gain_per_vote", "constant_gain", "brier_gain")
    shown += ["-" if one[key]["value"] is None else f"{one[key]['value']:.3f}" for key in means]
    shown.append(interval(one["rmse"]))
    floor = "-" if one["noise_floor"]["value"] is None else f"{one['noise_floor']['value']:.3f}"
    return (name, f"{one['n_galaxies']:,}", effective, *shown, floor, corrected)


def _print_classes(found: Mapping[str, Any], screen: Screen) -> None:
    names = {
        "accuracy": "accuracy",
        "accuracy_if_calibrated": "accuracy expected if the concentrations are right",
        "accuracy_ceiling": "accuracy of a perfect predictor",
        "majority_class_accuracy": "accuracy of always the most common class",
        "balanced_accuracy": "balanced accuracy",
        "cross_entropy": "cross-entropy (nats)",
        "cross_entropy_of_frequencies": "cross-entropy of the class frequencies (nats)",
    }
    possible = ("accuracy_if_calibrated", "accuracy_ceiling")
    shown = {key: name for key, name in names.items() if key not in possible or found[key]["value"] is not None}
    screen.table([(name, interval(found[key], 4)) for key, name in shown.items()])
    predicted = list(found["confusion"][found["classes"][0]])
    counts = [(one, *(str(cell["n"]) for cell in row.values())) for one, row in found["confusion"].items()]
    screen.print()
    screen.table([("true \\ predicted", *(one or "no class" for one in predicted)), *counts])
    screen.say(
        f"Column {found['label']} of {found['n_galaxies']:,} galaxies, derived from {found['derived_from']}; "
        f"{found['n_unlabelled']:,} galaxies without a label are excluded. In brackets: 95% confidence intervals."
    )
    if found["accuracy_ceiling"]["value"] is not None:
        screen.say(
            "Labels made of votes are noisy. A perfect predictor knows the true vote fractions; these are drawn from "
            "the predicted concentrations, which are assumed to be right: check the calibration with `gzoo score`."
        )
    if found["n_zero_probability"]:
        screen.warn(
            f"The true class of {found['n_zero_probability']:,} galaxies has predicted probability 0. The "
            "cross-entropy is infinite."
        )


def compare(comparison: Shown, given: Given, screen: Screen) -> None:
    """Print paired differences, with adjusted p-values."""
    found = comparison.to_dict()
    if "target" in found:
        _print_target_comparison(found, screen)
        return
    for name, one in found["models"].items():
        more = f"; {one['n_unshared']:,} more that not every model predicts" if one["n_unshared"] else ""
        screen.say(f"{name}: {one['how_read']}; {found['n_galaxies']:,} galaxies{more}.")
    for pair in found["pairs"]:
        screen.print(f"\n{pair['first']} compared with {pair['second']}")
        heading = (
            "galaxies",
            "log-likelihood difference (nats)",
            "adjusted p",
            "better",
            "more galaxies with votes",
            "of all",
        )
        rows: list[tuple[str, ...]] = [("", *heading)]
        for name, contrast in (*pair["questions"].items(), *pair["campaigns"].items(), ("overall", pair["overall"])):
            one = contrast["log_likelihood"]
            if not one["n_galaxies"]:
                continue
            value = interval(one, 4, "+")
            p = "-" if one["p_adjusted"] is None else format_p(one["p_adjusted"])
            more = [f"{one[key]:,}" if one[key] else "-" for key in ("n_additional_galaxies", "n_additional_of_all")]
            rows.append((name, f"{one['n_galaxies']:,}", value, p, one["better_model"] or "inconclusive", *more))
        screen.table(rows)
        parts = (*pair["questions"].items(), ("overall", pair["overall"]))
        ordered = [(name, one["rps"]) for name, one in parts if one["rps"]["n_galaxies"]]
        if ordered:
            screen.print("Ordered answers, ranked probability score (lower is better):")
            lines = [(name, f"{one['n_galaxies']:,}", interval(one, 4, "+"), one["better_model"] or "inconclusive")
                     for name, one in ordered]  # fmt: skip
            screen.table([("", "galaxies", "difference", "better"), *lines])
        screen.print(f"{pair['overall']['description']} {pair['description']}")
    screen.say(
        "Differences per galaxy with votes on the question, first minus second, with 95% confidence intervals over "
        f"{found['bootstrap']['unit']}. Verdicts have a familywise error rate of 5% over all {found['n_tests']} tests."
    )
    for name, one in found["models"].items():
        if one["n_trained_on"]:
            screen.warn(f"{name} was trained on {one['n_trained_on']:,} of these galaxies.")


def _print_target_comparison(found: Mapping[str, Any], screen: Screen) -> None:
    for name, one in found["models"].items():
        more = f"; {one['n_unshared']:,} more with a label that not every model predicts" if one["n_unshared"] else ""
        screen.say(f"{name}: {found['n_galaxies']:,} galaxies{more}.")
    for pair in found["pairs"]:
        screen.print(f"\n{pair['first']} compared with {pair['second']} on {found['target']}")
        rows: list[tuple[str, ...]] = [(found["kind"], "difference", "adjusted p", "better", "more galaxies")]
        for measure, one in pair["differences"].items():
            p = "-" if one["p_adjusted"] is None else format_p(one["p_adjusted"])
            more = f"{one['n_additional_galaxies']:,}" if one["n_additional_galaxies"] else "-"
            rows.append((_words(measure), interval(one, 4, "+"), p, one["better_model"] or "inconclusive", more))
        screen.table(rows)
        screen.print(pair["description"])
    screen.say(
        "Differences per galaxy, first minus second, with 95% confidence intervals over "
        f"{found['bootstrap']['unit']}; log-likelihood in nats, where as in accuracy and AUC more is better. Verdicts "
        f"of each measure have a familywise error rate of 5% over {found['n_tests']} "
        f"{'pairs' if found['n_tests'] > 1 else 'pair'}."
    )
    for name, one in found["models"].items():
        if one["n_trained_on"]:
            screen.warn(f"{name} was trained on {one['n_trained_on']:,} of these galaxies.")


def _words(name: str) -> str:
    """Return the name of a score as it is written in a sentence."""
    words = {"auc": "AUC", "rmse": "RMSE", "mae": "MAE", "r2": "R2", "brier": "Brier", "mse": "mean squared error"}
    return " ".join(words.get(word) or word for word in name.split("_"))
