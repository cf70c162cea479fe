"""Speed and accuracy of the loss of a batch, forward and backward, compared with Zoobot's loss.

    python benchmarks/loss_speed.py [--peers PYTHON] [--device cuda] [--rounds 15]

The questions are those of gz_evo without those of UKIDSS: 63 questions with 194 answers, which are also Zoobot's. Each
galaxy has votes on 10 to 20 of them, and a batch has 256 galaxies. Each library runs on one thread in its own process,
and the two take turns. gzoo's time includes finding the questions with votes. The concentrations are uniform from 1 to
101, the range of Zoobot's models, or log-normal around 3 with a factor of about 20 either way, because the loss is
slower for small concentrations. Values and gradients are compared with those of mpmath.

PYTHON is an interpreter that has zoobot, galaxy-datasets and torch. Without it, only gzoo is measured. Run no other
programs at the same time.

Writes benchmarks/results/loss_speed.json, and keeps the results of the other device there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from measuring import arguments, write

if TYPE_CHECKING:
    import torch

    Loss = Callable[[int, torch.Tensor], torch.Tensor]  # arguments: number of the batch, concentrations

BATCH, N_BATCHES = 256, 8
KINDS = ("1 to 101", "around 3")
SECONDS = 0.4  # duration of each measurement


def main() -> None:
    parser = arguments(__doc__, "loss_speed.json")
    parser.add_argument("--peers", help="Python that has zoobot (default: gzoo only)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where to run (default: cpu)")
    parser.add_argument("--rounds", type=int, default=15, help="number of rounds (default: 15)")
    parser.add_argument("--serve", choices=LIBRARIES, help=argparse.SUPPRESS)
    parser.add_argument("--cases", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.cases, options.device)
        return
    if options.device == "cuda" and not has_gpu():
        raise SystemExit("torch finds no NVIDIA GPU on this machine. Run this benchmark where there is one.")
    with tempfile.TemporaryDirectory() as name:
        cases = Path(name) / "cases.npz"
        write_cases(cases)
        libraries = [Library("gzoo", sys.executable, cases, options.device)]
        if options.peers:
            libraries.append(Library("zoobot", options.peers, cases, options.device))
        found: dict[str, Any] = {"milliseconds per batch": timings(libraries, options.rounds)}
        if options.device == "cpu":
            found["error"] = errors(libraries, cases)
        found["versions"] = {"python": platform.python_version()}
        for library in libraries:
            found["versions"] |= {f"{name} ({library.name})": one for name, one in library.ask("versions").items()}
        machine = libraries[0].ask("machine")
        for library in libraries:
            library.end()
    milliseconds = found.pop("milliseconds per batch")
    for kind, of_kind in milliseconds.items():
        of: dict[str, dict[str, Any]] = {
            name: {"milliseconds per batch": statistics.median(ms)} for name, ms in of_kind.items()
        }
        for name, ms in of_kind.items() if options.peers else ():
            ratio = [peer / own for peer, own in zip(of_kind["zoobot eager"], ms, strict=True)]
            of[name] |= {
                "speed relative to zoobot eager": statistics.median(ratio),
                "minimum and maximum": [min(ratio), max(ratio)],
            }
        found[f"concentrations {kind}"] = of
    found = rounded(found) | {"rounds": options.rounds, "galaxies per batch": BATCH, "machine": machine}
    path = options.out or options.result
    known = json.loads(path.read_text()) if path.is_file() else {}
    write(options, {**{name: known[name] for name in ("cpu", "cuda") if name in known}, options.device: found})


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.3g}") if isinstance(value, float) else value


# --- inputs of both libraries


def write_cases(path: Path) -> None:
    """Write batches of votes and concentrations, and single questions with extreme ones."""
    from gzoo.trees.campaign import campaign
    from gzoo.trees.tree import Tree

    tree = campaign("gz_evo").published_tree
    tree = Tree("evo", tuple(q for q in tree.questions if not q.name.endswith("-ukidss")), tree.unavailable)
    rng = np.random.default_rng(0)
    size, shape = N_BATCHES * BATCH, (N_BATCHES, BATCH, len(tree.columns))
    counts = np.zeros((size, len(tree.columns)), np.int32)
    campaigns = list(tree.parts.values())
    for galaxy in range(size):
        # questions of one campaign, or of two as where surveys overlap
        chosen = rng.choice(len(campaigns), rng.integers(1, 3), replace=False)
        questions = [question for i in chosen for question in campaigns[i]]
        for i in rng.permutation(len(questions))[:20]:
            where = tree.slice(questions[i].name)
            fractions = rng.dirichlet(np.ones(where.stop - where.start))
            counts[galaxy, where] = rng.multinomial(rng.integers(1, 41), fractions)
    totals = tree.totals(counts).astype(np.int32)
    asked = (totals > 0).sum(axis=1)
    assert 10 <= asked.min() <= asked.max() <= 20
    assert counts.shape[1] == 194
    votes, concentrations = extremes(rng)
    np.savez(
        path,
        columns=np.array(tree.columns),
        counts=counts.reshape(shape),
        totals=totals.reshape(N_BATCHES, BATCH, -1),
        **{KINDS[0]: rng.uniform(1, 101, shape).astype(np.float32)},
        **{KINDS[1]: np.exp(rng.normal(1, 1.5, shape)).astype(np.float32)},
        extreme_counts=votes,
        extreme_concentration=concentrations,
    )


def extremes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return questions of four answers: concentrations from 1e-3 to 1e6, up to 100 votes per answer."""
    n, decades = 3000, 10.0 ** np.arange(-3, 7)
    concentration = 10 ** rng.uniform(-3, 6, (n, 4))
    concentration[: n // 3] = rng.choice(decades, (n // 3, 4))
    counts = rng.integers(0, 101, (n, 4)) * rng.integers(0, 2, (n, 4))
    counts[: n // 6] = rng.choice([0, 1, 2, 3, 10, 100], (n // 6, 4))
    for i in range(n // 2, n):  # terms cancel where votes agree with the concentrations
        concentration[i] = 10 ** rng.uniform(-3, 6) * rng.uniform(0.1, 1, 4)
        counts[i] = rng.multinomial(100, concentration[i] / concentration[i].sum())
    counts[counts.sum(axis=1) == 0, 0] = 1
    concentration = np.clip(concentration, 1e-3, 1e6).astype(np.float32)
    return counts.astype(np.int32), concentration


class Library:
    """A process that runs the loss of one library and answers one request per line."""

    def __init__(self, name: str, python: str, cases: Path, device: str) -> None:
        self.name = name
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        command = [python, str(Path(__file__).absolute()), "--serve", name, "--cases", str(cases), "--device", device]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **threads}
        )
        self.variants: list[str] = self.ask("variants")

    def ask(self, what: str) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("= "):
                return json.loads(line[2:])
        raise SystemExit(f"The process of {self.name} ended before it answered '{what}'.")

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def timings(libraries: list[Library], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return milliseconds per batch of each variant by round, for each kind of concentrations; variants take turns."""
    found: dict[str, dict[str, list[float]]] = {kind: {} for kind in KINDS}
    for _ in range(rounds):
        for kind in KINDS:
            for library in libraries:
                for variant in library.variants:
                    took = 1e3 * library.ask(f"{variant}; {kind}")
                    found[kind].setdefault(f"{library.name} {variant}", []).append(took)
    return found


def errors(libraries: list[Library], cases: Path) -> dict[str, dict[str, float]]:
    """Return the largest errors of values and gradients."""
    file = np.load(cases)
    counts, concentration = file["extreme_counts"], file["extreme_concentration"]
    exact = [exactly(k, a) for k, a in zip(counts.tolist(), concentration.tolist(), strict=True)]
    value, slope = np.array([one[0] for one in exact]), np.array([one[1] for one in exact])
    found: dict[str, dict[str, float]] = {}
    for library in libraries:
        for variant, (got, gradient) in library.ask("values").items():
            error = np.abs(np.array(got, np.float64) - value)
            of_slope = np.abs(np.array(gradient, np.float64) - slope).max(axis=1) / np.abs(slope).max(axis=1)
            found[f"{library.name} {variant}"] = {
                "value, nats": float(error.max()),
                "value, relative to the larger of 1e-3 nats and 1e-5 of the value": float(
                    (error / np.maximum(1e-3, 1e-5 * value)).max()
                ),
                "gradient, relative to the largest of the question": float(of_slope.max()),
            }
    return found


def exactly(counts: list[int], concentration: list[float]) -> tuple[float, list[float]]:
    """Return value and gradient, computed with 40 digits."""
    import mpmath

    with mpmath.workdps(40):
        alpha = [mpmath.mpf(one) for one in concentration]
        both = [*zip(alpha, counts, strict=True), (sum(alpha), sum(counts))]
        logs = [mpmath.loggamma(a + n) - mpmath.loggamma(a) - mpmath.loggamma(n + 1) for a, n in both]
        slopes = [mpmath.psi(0, a + n) - mpmath.psi(0, a) for a, n in both]
        return float(logs[-1] - sum(logs[:-1])), [float(slopes[-1] - one) for one in slopes[:-1]]


# --- the processes of the two libraries


def serve(library: str, cases: Path, device: str) -> None:
    import torch

    torch.set_num_threads(1)
    file = np.load(cases)
    variants, values, packages = LIBRARIES[library](file, device)
    starts = {kind: torch.from_numpy(file[kind]).to(device) for kind in KINDS}
    answers: dict[str, Callable[[], object]] = {
        "variants": lambda: list(variants),
        "values": values,
        "versions": lambda: {name: version(name) for name in packages},
        "machine": lambda: {
            "cores": os.cpu_count(),
            "processor": platform.processor() or platform.machine(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        },
    }
    for name, loss in variants.items():
        for kind, start in starts.items():
            answers[f"{name}; {kind}"] = lambda loss=loss, start=start: seconds(loss, start)
    for line in sys.stdin:
        print("=", json.dumps(answers[line.strip()]()), flush=True)


def seconds(loss: Loss, start: torch.Tensor) -> float:
    """Return the seconds of forward and backward: the median of single runs on a CPU, the mean of many on a GPU."""
    import torch

    def step(i: int) -> None:
        loss(i % N_BATCHES, start[i % N_BATCHES].detach().requires_grad_()).backward()

    for i in range(2 * N_BATCHES):
        step(i)
    took: list[float] = []
    if start.is_cuda:
        torch.cuda.synchronize()
    began = last = time.perf_counter()
    while last - began < SECONDS:
        step(len(took))
        took.append(time.perf_counter() - last)
        last += took[-1]
    if start.is_cuda:
        torch.cuda.synchronize()
        return (time.perf_counter() - began) / len(took)
    return statistics.median(took)


def gzoo_losses(file: Any, device: str) -> tuple[dict[str, Loss], Callable[[], object], list[str]]:
    import torch

    from gzoo.learn.losses import asked_questions, dirichlet_multinomial_nll
    from gzoo.trees.campaign import campaign
    from gzoo.trees.tree import Question, Tree

    tree = campaign("gz_evo").published_tree
    tree = Tree("evo", tuple(q for q in tree.questions if not q.name.endswith("-ukidss")), tree.unavailable)
    here = [torch.from_numpy(one) for one in file["totals"]]
    votes, totals = (torch.from_numpy(file[name]).to(device) for name in ("counts", "totals"))

    def asked(i: int) -> torch.Tensor:
        found = asked_questions(here[i])  # computed on the CPU, as a loader does
        return found if device == "cpu" else found.pin_memory().to(device, non_blocking=True)

    def mean(k: torch.Tensor, a: torch.Tensor, n: torch.Tensor, q: torch.Tensor | None = None) -> torch.Tensor:
        return dirichlet_multinomial_nll(k, a, tree, n, q, check=False).sum(dim=1).mean()

    def mean_without_totals(k: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        return dirichlet_multinomial_nll(k, a, tree, check=False).sum(dim=1).mean()

    of_asked, of_all = (torch.compile(mean, fullgraph=True) for _ in range(2))

    def values() -> dict[str, tuple[list[float], list[list[float]]]]:
        one = Tree("one", (Question("q", tuple("abcd"), tuple("abcd")),))
        k = torch.from_numpy(file["extreme_counts"])

        def both(a: torch.Tensor) -> tuple[list[float], list[list[float]]]:
            a.requires_grad_()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = dirichlet_multinomial_nll(k, a, one)
            loss.sum().backward()
            assert a.grad is not None
            return loss[:, 0].tolist(), a.grad.tolist()

        a = torch.from_numpy(file["extreme_concentration"])
        return {"float32": both(a.clone()), "float64": both(a.double())}

    variants: dict[str, Loss] = {
        "eager": lambda i, a: mean(votes[i], a, totals[i]),
        "eager, without totals": lambda i, a: mean_without_totals(votes[i], a),
        "compiled": lambda i, a: of_asked(votes[i], a, totals[i], asked(i)),
        "compiled, without the questions with votes": lambda i, a: of_all(votes[i], a, totals[i]),
    }
    if device == "cuda":
        variants["eager, with the questions with votes"] = lambda i, a: mean(votes[i], a, totals[i], asked(i))
    return variants, values, ["torch", "numpy", "gzoo"]


def zoobot_losses(file: Any, device: str) -> tuple[dict[str, Loss], Callable[[], object], list[str]]:
    import torch
    from galaxy_datasets.shared import label_metadata
    from zoobot.pytorch.training import losses

    pairs = label_metadata.gz_evo_v1_public_pairs
    columns = [question + answer for question, answers in pairs.items() for answer in answers]
    assert columns == file["columns"].tolist()
    votes = torch.from_numpy(file["counts"]).to(device)
    targets = [{name: batch[:, i].contiguous() for i, name in enumerate(columns)} for batch in votes]
    loss = losses.CustomMultiQuestionLoss(pairs, losses.get_dirichlet_neg_log_prob)

    def mean(a: torch.Tensor, k: dict[str, torch.Tensor]) -> torch.Tensor:
        return loss(a, k).sum(dim=1).mean()

    compiled = torch.compile(mean)

    def values() -> dict[str, tuple[list[float], list[list[float]]]]:
        a = torch.from_numpy(file["extreme_concentration"]).requires_grad_()
        found = losses.get_dirichlet_neg_log_prob(a, torch.from_numpy(file["extreme_counts"]))
        found.sum().backward()
        assert a.grad is not None
        return {"float32": (found.tolist(), a.grad.tolist())}

    variants: dict[str, Loss] = {
        "eager": lambda i, a: mean(a, targets[i]),
        "compiled": lambda i, a: compiled(a, targets[i]),
    }
    return variants, values, ["torch", "numpy", "zoobot", "galaxy-datasets"]


LIBRARIES = {"gzoo": gzoo_losses, "zoobot": zoobot_losses}

if __name__ == "__main__":
    main()
