"""Made-up runs with the keys that the scenarios record, and one report on them."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from sklearn.datasets import load_digits

from experiments.report import write_report

SEEDS = (0, 1, 2)
PIXELS, LABELS = load_digits(return_X_y=True)
DIGITS = (PIXELS.reshape(-1, 1, 8, 8) * 15).astype(np.uint8)
VERSIONS = {"python": "3.11.7", "torch": "2.9.1", "flwr": "1.41.0", "avalanche-lib": "0.6.0"}
RAW_BYTES = 1257 * 64
CLASSES = [[2 * i, 2 * i + 1] for i in range(5)]

WriteRun = Callable[..., Path]


@pytest.fixture(scope="session")
def write_run() -> WriteRun:
    """Returns the function that writes one record."""
    return written_run


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Path:
    """Returns a folder of records: all four scenarios with three seeds, and one failed run."""
    root, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    for write in (write_distillation, write_federated, write_continual, write_federated_continual):
        write(root, rng)
    error = "ValueError: ipc must be >= 1, got 0 <script>alert('x')</script>"
    written_run(root, "distillation", "dc", status="failed", error=error, config={"ipc": 0})
    return root


@pytest.fixture(scope="session")
def report_page(runs, tmp_path_factory) -> Path:
    """Returns the page of a report on all those runs."""
    return write_report([runs], tmp_path_factory.mktemp("report") / "out", "Digits & <friends>")


def written_run(root: Path, scenario: str, name: str, seed: int = 0, **record: object) -> Path:
    """Writes one record and returns the run's folder; ``record`` overrides its fields."""
    config = {"dataset": {"name": "digits"}, "network": {"_target_": "distill.networks.MLP"}}
    config |= {"threads": 1, "device": "auto", "output": str(root), "seed": seed, "ipc": 10}
    config |= record.pop("config", {})
    digest = hashlib.sha256(f"{name} {json.dumps(config)}".encode()).hexdigest()[:12]
    folder = root / scenario / name / digest
    folder.mkdir(parents=True)
    verb = {"distillation": "distill"}.get(scenario, scenario.replace("_", "-"))
    full = {
        "schema": 1,
        "scenario": scenario,
        "name": name,
        "command": f"fedcl {verb} dataset=digits method={name.rpartition('-')[2]} seed={seed}",
        "status": "completed",
        "seed": seed,
        "config": config,
        "config_hash": digest,
        "versions": VERSIONS,
        "git": "3f1c2d4e5a6b+",
        "device": "cpu",
        "machine": "2 x AMD EPYC, 24 GiB",
        "threads": 1,
        "started": f"2026-11-24T04:0{seed}:00+00:00",
        "seconds": 12.3 + seed,
        "peak_rss_bytes": 900_000_000,
        "metrics": {},
        "history": [],
        "error": None,
    }
    (folder / "record.json").write_text(json.dumps(full | record), encoding="utf-8")
    return folder


def write_images(folder: Path, ipc: int, rng: np.random.Generator) -> None:
    """Writes images beside a record: blends of digits in normalised space, and real ones."""
    rows = [np.flatnonzero(c == LABELS) for c in range(10)]
    blends = np.stack([DIGITS[rng.choice(r, 3)].mean(0) for r in rows for _ in range(ipc)])
    images = ((blends / 255 - 0.305) / 0.376).astype(np.float32)
    metadata = {"mean": "[0.305]", "std": "[0.376]", "origin": '"real"', "num_classes": "10"}
    synthetic = {"images": images, "labels": np.repeat(np.arange(10), ipc)}
    save_file(synthetic, folder / "synthetic.safetensors", metadata)
    shown = np.concatenate([r[:10] for r in rows])
    real = {"images": DIGITS[shown], "labels": LABELS[shown].astype(np.int64)}
    save_file(real, folder / "real.safetensors")


def write_distillation(root: Path, rng: np.random.Generator) -> None:
    ends = {"random": (0.58, 0.86), "herding": (0.66, 0.88), "kcenter": (0.49, 0.85)}
    ends |= {"kmeans": (0.71, 0.905), "dm": (0.74, 0.925)}
    for name, accuracies in ends.items():
        for ipc, accuracy in zip((1, 10), accuracies, strict=True):
            for seed in SEEDS:
                metrics = {
                    "accuracy": accuracy + 0.008 * rng.standard_normal(),
                    "accuracy_std": 0.006,
                    "evaluate_seconds": 8.1,
                    "random_accuracy": (0.58 if ipc == 1 else 0.86) + 0.01 * rng.standard_normal(),
                    "random_accuracy_std": 0.02,
                    "whole_accuracy": 0.974 + 0.002 * rng.standard_normal(),
                    "whole_accuracy_std": 0.001,
                    "images": 10 * ipc,
                    "storage_bytes": 10 * ipc * (64 * 4 + 1),
                    "storage_bytes_uint8": 10 * ipc * (64 + 1),
                    "data_bytes": RAW_BYTES,
                    "distill_seconds": 24.0 if name == "dm" else 0.1,
                    "origin": "real",
                }
                config = {"ipc": ipc, "method": {"steps": 300 if name == "dm" else 0}}
                run = written_run(root, "distillation", name, seed, config=config, metrics=metrics)
                if seed == 0:
                    write_images(run, ipc, rng)


def class_counts(seed: int) -> list[list[int]]:
    shares = np.random.default_rng(seed).dirichlet([0.1] * 10, size=10).T
    return [[int(126 * share) for share in client] for client in shares.T]


def communication(history: list[dict[str, float]], seed: int) -> dict[str, object]:
    """The metrics that the federated scenarios sum over rounds, and how the data is spread."""
    summed = ("bytes_up", "bytes_down", "payload_bytes", "failures")
    by_client = [history[-1]["accuracy"] * (1 - 0.03 * client) for client in range(10)]
    return {
        "accuracy": history[-1]["accuracy"],
        "loss": history[-1]["loss"],
        "rounds": len(history),
        **{key: sum(row[key] for row in history) for key in summed},
        "client_accuracies": by_client,
        "mean_client_accuracy": float(np.mean(by_client)),
        "worst_client_accuracy": min(by_client),
        "class_counts": class_counts(seed),
        "heterogeneity": 0.71 + 0.01 * seed,
        "raw_bytes": RAW_BYTES,
    }


def round_row(number: int, accuracy: float, up: int, down: int) -> dict[str, float]:
    row = {"round": number, "bytes_up": up, "bytes_down": down, "payload_bytes": up + down - 3000}
    return row | {"seconds": 0.8, "failures": 0, "accuracy": accuracy, "loss": 1 - accuracy}


def write_federated(root: Path, rng: np.random.Generator) -> None:
    partition = {"_target_": "fedcl.partition.Dirichlet", "alpha": 0.1}
    for seed in SEEDS:
        for name, top in {"fedavg": 0.93, "fedprox": 0.925}.items():
            noise = 0.01 * rng.standard_normal(20)
            curve = [top * (1 - 0.75 * np.exp(-(r + 1) / 5)) + noise[r] for r in range(20)]
            history = [round_row(r + 1, a, 42_000, 43_000) for r, a in enumerate(curve)]
            config = {"clients": 10, "rounds": 20, "partition": partition}
            metrics = communication(history, seed)
            run = {"config": config, "metrics": metrics, "history": history}
            written_run(root, "federated", name, seed, **run)
        for name, top in {"dm": 0.888, "kmeans": 0.871, "random": 0.832}.items():
            accuracy = top + 0.008 * rng.standard_normal()
            history = [round_row(1, accuracy, 28_400, 3_370)]
            config = {"clients": 10, "partition": partition, "ipc": 10}
            metrics = communication(history, seed)
            run = {"config": config, "metrics": metrics, "history": history}
            folder = written_run(root, "federated", f"one_shot-{name}", seed, **run)
            if seed == 0:
                write_images(folder, 10, rng)


def accuracy_matrix(kept: float, rng: np.random.Generator) -> list[list[float]]:
    """Rows of a class-incremental run whose old experiences fade to ``kept``."""
    ages = np.subtract.outer(np.arange(5), np.arange(5))
    faded = kept + (0.98 - kept) * np.exp(-1.2 * np.maximum(ages, 0))
    matrix = np.where(ages >= 0, faded + 0.012 * rng.standard_normal((5, 5)), 0.0)
    return matrix.clip(0, 1).tolist()


def stream_metrics(matrix: list[list[float]], images: int) -> dict[str, object]:
    table = np.array(matrix)
    before = [table[: i + 1, : i + 1][-1].mean() for i in range(5)]
    return {
        "average_accuracy": table[-1].mean(),
        "average_incremental_accuracy": float(np.mean(before)),
        "average_forgetting": float((table[:-1, :-1].max(0) - table[-1, :-1]).mean()),
        "backward_transfer": float((table[-1, :-1] - table.diagonal()[:-1]).mean()),
        "forward_transfer": -0.1,
        "learning_accuracy": table.diagonal().mean(),
        "accuracy_matrix": matrix,
        "experience_classes": CLASSES,
        "class_order": list(range(10)),
        "buffer_images": images,
        "buffer_bytes": images * 65,
    }


def joint_metrics(rng: np.random.Generator) -> dict[str, object]:
    """What learns all at once has one row, and nothing to forget."""
    row = (0.97 + 0.01 * rng.standard_normal(5)).clip(0, 1).tolist()
    none = {"buffer_images": 0, "buffer_bytes": 0}
    whole = {"average_accuracy": float(np.mean(row)), "accuracy_matrix": [row]}
    return {**whole, "experience_classes": CLASSES, "class_order": list(range(10)), **none}


def write_continual(root: Path, rng: np.random.Generator) -> None:
    kept = {("naive", 0): 0.02}
    kept |= {(f"replay-{m}", 20): k for m, k in (("random", 0.55), ("herding", 0.6), ("dm", 0.7))}
    kept |= {(f"replay-{m}", 100): k for m, k in (("random", 0.75), ("herding", 0.77), ("dm", 0.8))}
    for seed in SEEDS:
        metrics = joint_metrics(rng) | {"test_accuracy": 0.97}
        written_run(root, "continual", "joint", seed, metrics=metrics)
        for (name, images), level in kept.items():
            metrics = stream_metrics(accuracy_matrix(level, rng), images) | {"test_accuracy": level}
            metrics |= {"train_seconds": 9.0, "distill_seconds": 0.1 * images, "samples": 12_000}
            metrics |= {"evaluate_seconds": 0.5, "model_copies": 0}
            store = {"_target_": "fedcl.stores.uint8.Uint8"}
            buffer = {"images": images, "bytes": None, "allocation": "fixed", "store": store}
            config = {"buffer": buffer} if images else {}
            run = written_run(root, "continual", name, seed, config=config, metrics=metrics)
            if seed == 0 and images:
                write_images(run, images // 10, rng)


def write_federated_continual(root: Path, rng: np.random.Generator) -> None:
    kept = {"fedavg": 0.02, "shared_buffer-random": 0.6, "shared_buffer-dm": 0.72}
    for name, level in kept.items():
        for seed in SEEDS:
            images = 0 if name == "fedavg" else 50
            matrix = accuracy_matrix(level, rng)
            history = stream_history(matrix, 4 if name == "fedavg" else 5, 90 * images)
            metrics = communication(history, seed) | stream_metrics(matrix, images)
            config = {"clients": 3, "rounds": 4} | (
                {"buffer": {"images": images}} if images else {}
            )
            run = {"config": config, "metrics": metrics, "history": history}
            folder = written_run(root, "federated_continual", name, seed, **run)
            if seed == 0 and images:
                write_images(folder, images // 10, rng)


def stream_history(matrix: list[list[float]], rounds: int, shared: int) -> list[dict[str, float]]:
    """Rounds of learning; a fifth, where there is one, shares the buffers."""
    rows = []
    for e in range(5):
        for r in range(rounds):
            accuracy = float(np.mean(matrix[e][: e + 1]) * (0.8 + 0.04 * (r + 1)))
            sent = shared if r == 4 else 0
            row = round_row(4 * e + min(r, 3) + 1, accuracy, 42_000 + sent, 43_000 + sent)
            action = "remember" if r == 4 else "learn"
            rows.append(row | {"experience": e, "action": action, "accuracies": matrix[e]})
    return rows
