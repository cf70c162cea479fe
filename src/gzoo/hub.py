"""The only module that talks to another machine: the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gzoo.errors import HubError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import datasets


def load_dataset(
    repository: str, name: str | None, split: str | None, streaming: bool
) -> datasets.Dataset | datasets.DatasetDict | datasets.IterableDataset | datasets.IterableDatasetDict:
    """A dataset from the Hub.

    Raises:
        HubError: It is not there, may not be read, or the Hub cannot be reached.
    """
    import datasets

    try:
        return datasets.load_dataset(repository, name, split=split, streaming=streaming)
    except Exception as error:  # the client's HTTP library has errors of its own, of no public family
        raise HubError(
            f"'{repository}' could not be loaded from the Hugging Face Hub: {_said(error)}",
            "A dataset that exists, that you may read, and a network.",
            f"See https://huggingface.co/datasets/{repository}; for a gated one ask there and run `hf auth login`. "
            "Without a network, load a folder, or make simulated data with `gzoo simulate`.",
        ) from error


def card_facts(text: str) -> dict[str, object]:
    """What the YAML at the head of a dataset card says, as the Hub reads it; nothing is sent.

    Raises:
        InputError: There is no YAML, or the Hub could not read it.
    """
    from huggingface_hub import DatasetCard

    if not text.startswith("---"):
        raise InputError("The card has no YAML.", "A first line of ---, and facts behind it.", "Write it again.")
    try:
        return DatasetCard(text).data.to_dict()
    except Exception as error:  # of the client, of its YAML library, or of Python where it is nested too deeply
        raise InputError(
            f"The card's YAML cannot be read: {_said(error)}.", "YAML that the Hub reads.", "Write it again."
        ) from error


def pretrained_weights(encoder: str) -> tuple[str, Mapping[str, str]]:
    """Weights of a timm encoder from the Hub, as a safetensors file.

    Returns:
        Path of the file on this machine, and where it is from: `repository`, `commit`, `licence`.

    Raises:
        HubError: timm names no weights for it, there is no safetensors file, or the Hub cannot be reached.
    """
    import timm
    from huggingface_hub import hf_hub_download

    config = timm.get_pretrained_cfg(encoder)
    repository = config.hf_hub_id if config is not None else None
    if config is None or not repository:
        raise HubError(
            f"timm knows no pretrained weights for encoder '{encoder}' on the Hub.",
            "An encoder such as convnext_nano.in12k.",
            "Choose another --encoder, or train without --pretrained.",
        )
    try:
        path = hf_hub_download(str(repository), "model.safetensors")
    except Exception as error:  # the client's HTTP library has errors of its own, of no public family
        raise HubError(
            f"Weights of '{repository}' could not be fetched from the Hugging Face Hub: {_said(error)}",
            "A repository with model.safetensors, and a network.",
            "Check the network, or train without --pretrained.",
        ) from error
    commit = Path(path).parent.name  # the cache keeps each commit's files in a folder of its name
    return path, {"repository": str(repository), "commit": commit, "licence": str(config.license or "unknown")}


def _said(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).splitlines() or [type(error).__name__])[0]
