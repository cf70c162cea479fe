"""The only module that talks to another machine: the Hugging Face Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gzoo.errors import HubError

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
    from datasets.exceptions import DatasetNotFoundError

    try:
        return datasets.load_dataset(repository, name, split=split, streaming=streaming)
    except (DatasetNotFoundError, ConnectionError, OSError, ValueError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise HubError(
            f"'{repository}' could not be loaded from the Hugging Face Hub: {said}",
            "A dataset that exists, that you may read, and a network.",
            f"See https://huggingface.co/datasets/{repository}; for a gated one ask there and run `hf auth login`. "
            "Without a network, load a folder, or make simulated data with `gzoo simulate`.",
        ) from error


def pretrained_weights(encoder: str) -> tuple[str, Mapping[str, str]]:
    """Weights of a timm encoder from the Hub, as a safetensors file.

    Returns:
        Path of the file on this machine, and where it is from: `repository`, `commit`, `licence`.

    Raises:
        HubError: timm names no weights for it, there is no safetensors file, or the Hub cannot be reached.
    """
    import huggingface_hub
    import timm

    config = timm.get_pretrained_cfg(encoder)
    repository = config.hf_hub_id if config is not None else None
    if not repository:
        raise HubError(
            f"timm knows no pretrained weights for encoder '{encoder}' on the Hub.",
            "An encoder such as convnext_nano.in12k.",
            "Choose another --encoder, or train without --pretrained.",
        )
    repository = str(repository).removeprefix("timm/")
    repository = repository if "/" in repository else f"timm/{repository}"
    try:
        facts = huggingface_hub.model_info(repository)
        path = huggingface_hub.hf_hub_download(repository, "model.safetensors", revision=facts.sha)
    except (huggingface_hub.errors.HfHubHTTPError, huggingface_hub.errors.LocalEntryNotFoundError, OSError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise HubError(
            f"Weights of '{repository}' could not be fetched from the Hugging Face Hub: {said}",
            "A repository with model.safetensors, and a network.",
            "Check the network, or train without --pretrained.",
        ) from error
    card = facts.card_data
    licence = str(card.get("license", "unknown")) if card is not None else "unknown"
    return path, {"repository": repository, "commit": str(facts.sha), "licence": licence}
