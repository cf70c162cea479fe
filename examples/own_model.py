"""Train a torch model of your own on vote counts, in a plain loop or in Lightning's, and score its predictions.

Run it on any dataset folder with images, for example one made of simulated galaxies:

    gzoo simulate gz2 --n-galaxies 500 --out sky
    gzoo build gz2 --votes sky/votes.parquet --images sky/images --out galaxies
    python examples/own_model.py galaxies my_predictions.parquet
    python examples/own_model.py galaxies my_predictions.parquet lightning
    gzoo score my_predictions.parquet galaxies
"""

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

import gzoo
from gzoo.learn import dirichlet_multinomial_nll

SIZE, BATCH_SIZE, LEARNING_RATE = 32, 32, 3e-3


class MyModel(nn.Module):
    """Any encoder, and a head with one positive number for each concentration of the tree."""

    def __init__(self, tree: gzoo.Tree) -> None:
        super().__init__()
        self.tree = tree
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2, padding=2),
            nn.GELU(),
            nn.Conv2d(16, 32, 5, stride=2, padding=2),
            nn.GELU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Sequential(nn.Linear(32, len(tree.concentrations)), nn.Softplus())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return concentrations, shape (galaxy, concentration), of images from 0 to 1."""
        return self.head(self.encoder(image)) + 1e-3

    def loss(self, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the mean loss of a batch, in nats per galaxy."""
        # a loss for each galaxy and question; questions without votes cost exactly 0. The loader's votes were checked.
        nll = dirichlet_multinomial_nll(batch["votes"], self(batch["image"]), self.tree, batch["totals"], check=False)
        return nll.sum(dim=1).mean()


def train_plainly(model: MyModel, batches: Any, epochs: int) -> None:
    """Train in a loop of your own."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    for epoch in range(epochs):
        losses = []
        for batch in batches:  # each loop over the loader is an epoch, in a new order
            loss = model.loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}: {sum(losses) / len(losses):.3f} nats per galaxy")


def train_with_lightning(model: MyModel, batches: Any, epochs: int) -> None:
    """Train in Lightning's loop, which saves and resumes the loader's position with its checkpoints."""
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.losses = model, []

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.model.parameters(), lr=LEARNING_RATE)

        def training_step(self, batch: Mapping[str, Any]) -> torch.Tensor:
            loss = self.model.loss(batch)
            self.losses.append(loss.item())
            return loss

        def on_train_epoch_end(self) -> None:
            mean = sum(self.losses) / len(self.losses)
            print(f"epoch {self.current_epoch + 1}: {mean:.3f} nats per galaxy")
            self.losses.clear()

    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(Module(), batches)


def main(dataset: str, out: str, loop: str = "plain", epochs: int = 5) -> None:
    """Train, predict the test split, and print the scores."""
    torch.manual_seed(0)
    # batches of images and vote counts; "average" turns and mirrors each galaxy, and scales pixels to 0..1
    batches = gzoo.loader(dataset, BATCH_SIZE, SIZE, split="train", augment="average", seed=0)
    model = MyModel(batches.tree)
    train = train_with_lightning if loop == "lightning" else train_plainly
    train(model, batches, epochs)

    test = gzoo.loader(dataset, BATCH_SIZE, SIZE, split="test")
    model.eval()
    with torch.inference_mode():
        predicted = torch.cat([model(batch["image"].float() / 255) for batch in test])
    gzoo.write_predictions(out, test.keys, predicted.double().numpy(), test.tree, in_training_set=False, overwrite=True)

    print(gzoo.score(out, dataset))  # gains over a baseline that knows only the training votes, and errors


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *sys.argv[3:4])
