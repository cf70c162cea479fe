"""Train a torch model of your own on vote counts, write its predictions, and score them.

Run it on any dataset folder with images, for example one made of simulated galaxies:

    gzoo simulate gz2 --n-galaxies 500 --out sky
    gzoo build gz2 --votes sky/votes.parquet --images sky/images --out galaxies
    python examples/own_model.py galaxies my_predictions.parquet
"""

import sys

import torch
from torch import nn

import gzoo
from gzoo.learn import dirichlet_multinomial_nll

SIZE = 32


def my_model(n_outputs: int) -> nn.Module:
    """Any module from images to one number for each concentration; softplus keeps the numbers positive."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=2, padding=2),
        nn.GELU(),
        nn.Conv2d(16, 32, 5, stride=2, padding=2),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, n_outputs),
        nn.Softplus(),
    )


def main(dataset: str, out: str, epochs: int = 5) -> None:
    """Train, predict the test split, and print the scores."""
    torch.manual_seed(0)
    # batches of images and vote counts; "average" turns and mirrors each galaxy, and scales pixels to 0..1
    train = gzoo.loader(dataset, 32, SIZE, split="train", augment="average", seed=0)
    tree = train.tree
    model = my_model(len(tree.concentrations))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for epoch in range(epochs):
        total = 0.0
        for batch in train:
            concentration = model(batch["image"]) + 1e-3
            # one loss for each galaxy and question; questions without votes cost exactly 0
            loss = dirichlet_multinomial_nll(batch["votes"], concentration, tree, batch["totals"]).sum(dim=1)
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()
            total += loss.sum().item()
        print(f"epoch {epoch + 1}: {total / len(train.rows):.3f} nats per galaxy")

    test = gzoo.loader(dataset, 32, SIZE, split="test")
    with torch.inference_mode():
        parts = [model(batch["image"].float() / 255) + 1e-3 for batch in test]
    gzoo.write_predictions(out, test.keys, torch.cat(parts).double().numpy(), tree, in_training_set=False)

    print(gzoo.score(out, dataset))  # gains over a baseline that knows only the training votes, and errors


if __name__ == "__main__":
    main(*sys.argv[1:3])
