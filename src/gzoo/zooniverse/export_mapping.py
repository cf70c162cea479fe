"""A proposed mapping file for an export of classifications."""

from __future__ import annotations

import warnings
from pathlib import Path

from gzoo.errors import GZooWarning, NotFoundError, TableError
from gzoo.trees.campaign import Campaign
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.zooniverse import exports
from gzoo.zooniverse.reading import workflows_of_lines
from gzoo.zooniverse.task_matching import SubjectFields, propose_tasks
from gzoo.zooniverse.tasks import Tasks
from gzoo.zooniverse.values import parsed, record
from gzoo.zooniverse.workflows import Workflows, read_workflows


def propose(source: Path, workflows: Path | None, campaign: Path | str | Campaign) -> Tasks:
    """Propose a mapping file for an export of classifications, from the labels in its workflows.

    Args:
        source: The classification export, CSV or JSON lines.
        workflows: The workflow export; not needed for JSON lines.
        campaign: The campaign, its name or the path of its TOML file.

    Raises:
        NotFoundError: A file or the campaign does not exist.
        TableError: A file cannot be read, or no task resembles a question of the campaign.
    """
    facts = campaign_of(campaign)
    known = all_workflows(source, workflows)
    names, subjects = _content(source)
    used = Workflows(one for one in known.versions.values() if one.workflow in names)
    if not used.ids:
        raise TableError(
            f"'{workflows or source}' has none of the workflows in '{source}' ({', '.join(sorted(names)[:8])}): it has "
            f"{', '.join(known.ids[:8])}.",
            "the workflow export of the same project.",
            "Export the workflows of the same project.",
        )
    tasks = propose_tasks(used, facts, subjects, names)
    doubt = subjects.chosen()[1]
    if doubt:
        warnings.warn(f"'{source.name}': {doubt}", GZooWarning, stacklevel=3)
    if not tasks.entries:
        listed = [f"{task} '{label[:60]}' ({why})" for (_, task, label), why in list(tasks.unmatched.items())[:4]]
        raise TableError(
            f"No task in '{source}' matches a question of {facts.name}: {'; '.join(listed) or 'it lacks tasks'}.",
            f"questions such as '{facts.tree.questions[0].name}'.",
            "Check the campaign; run `gzoo campaigns` to list all.",
        )
    return tasks


def all_workflows(source: Path, workflows: Path | None) -> Workflows:
    """Return the workflows that an export was made with.

    Args:
        source: The classification export.
        workflows: The workflow export, or None for JSON lines.

    Raises:
        NotFoundError: A file does not exist, or a CSV export comes without its workflows.
        TableError: A file cannot be read.
    """
    if workflows is not None:
        return read_workflows(workflows)
    if source.is_file() and not exports.is_json_lines(source):
        raise NotFoundError(
            f"'{source}' identifies tasks only by keys such as T0.",
            "the workflow export of the same project, which contains the labels of each version.",
            "Pass --workflows WORKFLOWS.csv (Lab, 'Data exports', 'Request workflow export').",
        )
    return workflows_of_lines(source)


def _content(source: Path) -> tuple[dict[str, str], SubjectFields]:
    """Return the workflows in an export with their names, and the fields of all its subjects."""
    names: dict[str, dict[str, None]] = {}
    fields, seen = SubjectFields(), set[str]()
    for block in exports.blocks(source):
        for workflow, name in (
            block.frame.select("workflow_id", "workflow_name").unique(maintain_order=True).iter_rows()
        ):
            names.setdefault(str(workflow or "").strip(), {})[str(name or "")[:200]] = None
        rows = block.frame.select("subject_ids", "subject_data").drop_nulls()
        for subject, text in rows.unique("subject_ids", keep="first", maintain_order=True).iter_rows():
            if subject not in seen:
                seen.add(subject)
                fields.add(record(record(parsed(text)[0]).get(subject)))
    return {workflow: " ".join(known) for workflow, known in names.items()}, fields
