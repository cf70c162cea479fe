"""A mapping file for an export, proposed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from gzoo.errors import NotFoundError, TableError
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.zooniverse import exports
from gzoo.zooniverse.reading import workflows_of_lines
from gzoo.zooniverse.tasks import Tasks, propose_tasks
from gzoo.zooniverse.workflows import Workflows, read_workflows

_N_SUBJECTS = 200


def propose(source: Path, workflows: Path | None, campaign: str) -> Tasks:
    """A mapping file for an export of classifications, from the words of its workflows.

    Args:
        source: The export, CSV or JSON lines.
        workflows: The workflow export; JSON lines need none.
        campaign: Name of the campaign.

    Raises:
        NotFoundError: A file or the campaign is not there.
        TableError: A file cannot be read, or no task has words of the campaign's questions.
    """
    facts = campaign_of(campaign)
    known = all_workflows(source, workflows)
    names, subjects = _met(source)
    asked = Workflows(one for one in known.versions.values() if one.workflow in names)
    if not asked.ids:
        raise TableError(
            f"{workflows or source} has none of the workflows in {source} ({', '.join(sorted(names)[:8])}).",
            f"It has {', '.join(known.ids[:8])}.",
            "Export the workflows of the same project.",
        )
    made = propose_tasks(asked, facts, subjects, names)
    if not made.entries:
        listed = "; ".join(
            f"{task} '{label[:60]}' ({why})" for (_, task, label), why in list(made.unmatched.items())[:4]
        )
        raise TableError(
            f"No task in {source} is a question of {campaign}: {listed or 'it has no tasks'}.",
            f"Questions such as {facts.tree.questions[0].name}.",
            "Check that the campaign is the right one; see `gzoo campaigns`.",
        )
    return made


def all_workflows(source: Path, workflows: Path | None) -> Workflows:
    """The workflows that an export was made with.

    Raises:
        NotFoundError: A file is not there, or a CSV export comes without its workflows.
        TableError: A file cannot be read.
    """
    if workflows is not None:
        return read_workflows(workflows)
    if not source.is_file():
        raise NotFoundError(f"There is no export {source}.", "A classification export.", "Check the path.")
    if not exports.is_json_lines(source):
        raise NotFoundError(
            f"{source} names tasks only by keys such as T0.",
            "The workflow export of the same project beside it, which says what was asked in each version.",
            "Add --workflows WORKFLOWS.csv (Lab, 'Data exports', 'Request workflow export').",
        )
    return workflows_of_lines(source)


def _met(source: Path) -> tuple[dict[str, str], list[Mapping[str, object]]]:
    """The workflows in an export with their names, and what it says of its first subjects."""
    names: dict[str, dict[str, None]] = {}
    subjects: dict[str, Mapping[str, object]] = {}
    for block in exports.blocks(source):
        for workflow, name in (
            block.frame.select("workflow_id", "workflow_name").unique(maintain_order=True).iter_rows()
        ):
            names.setdefault(str(workflow or "").strip(), {})[str(name or "")[:200]] = None
        if len(subjects) < _N_SUBJECTS:
            rows = (
                block.frame.select("subject_ids", "subject_data")
                .drop_nulls()
                .unique("subject_ids", keep="first", maintain_order=True)
            )
            for subject, text in rows.head(_N_SUBJECTS).iter_rows():
                try:
                    value: object = json.loads(text)
                except (ValueError, RecursionError):
                    continue
                inner = cast("dict[str, object]", value).get(subject) if isinstance(value, dict) else None
                if isinstance(inner, dict):
                    subjects[subject] = cast("dict[str, object]", inner)
    return {workflow: " ".join(said) for workflow, said in names.items()}, list(subjects.values())
