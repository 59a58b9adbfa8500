"""Train the small digits network that `bittern demo` compresses, and write it as a float ONNX file.

pip install torch onnx scikit-learn
python examples/digits/train.py --output digits.onnx
"""

from __future__ import annotations

import argparse
import io
import math
from pathlib import Path

import numpy as np
import onnx
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

SEED = 0
EPOCHS = 120
BATCH = 64
LEARNING_RATE = 2e-3
L1 = 3e-5
LOWEST_DENSITY = 0.08


class DigitsNet(nn.Module):
    """A residual CNN: [N, 1, 8, 8] pixels in 0..1 to [N, 10] scores; every convolution is followed by batch-norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.conv3 = nn.Conv2d(64, 64, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(64)
        self.fc1 = nn.Linear(64 * 2 * 2, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(image)))
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.max_pool2d(F.relu(self.bn3(self.conv3(x)) + x), 2)
        scores: Tensor = self.fc2(F.relu(self.fc1(torch.flatten(x, 1))))
        return scores


class Pruned(nn.Module):
    """Parametrisation of a weight: keeps the largest `density` of it; all weights still receive their gradient."""

    density = 1.0

    def forward(self, weight: Tensor) -> Tensor:
        if self.density >= 1.0:
            return weight
        dropped = max(1, round(weight.numel() * (1.0 - self.density)))
        threshold = weight.detach().abs().flatten().kthvalue(dropped).values
        keep = (weight.detach().abs() > threshold).to(weight.dtype)
        return weight + (weight * keep - weight).detach()


def weighted_layers(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image turned by up to 12 degrees, scaled by up to 10 % and moved by up to 0.7 pixels."""
    n = images.shape[0]
    angle = (torch.rand(n, generator=generator) - 0.5) * 2 * math.radians(12)
    scale = 1 + (torch.rand(n, generator=generator) - 0.5) * 0.2
    shift = (torch.rand(n, 2, generator=generator) - 0.5) * 2 * 0.7 * 2 / 8
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    matrix = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and held-back images and labels: the split that `bittern demo` uses."""
    data = load_digits()
    images = (data.images / 16.0).astype(np.float32).reshape(-1, 1, 8, 8)
    parts = train_test_split(images, data.target, test_size=0.2, stratify=data.target, random_state=0)
    train, held, train_labels, held_labels = (torch.from_numpy(np.ascontiguousarray(part)) for part in parts)
    return train, train_labels, held, held_labels


def train(epochs: int) -> DigitsNet:
    """Targeted weight dropout: each step trains the network pruned to a density drawn from LOWEST_DENSITY..1."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    images, labels, _, _ = digits()
    network = DigitsNet()
    layers = weighted_layers(network)
    weights = [layer.weight for layer in layers]
    prunings = [Pruned() for _ in layers]
    for layer, pruning in zip(layers, prunings, strict=True):
        nn.utils.parametrize.register_parametrization(layer, "weight", pruning)
    steps = epochs * math.ceil(len(images) / BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    network.train()
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.split(torch.randperm(len(images), generator=generator), BATCH):
            density = torch.empty(1).uniform_(LOWEST_DENSITY, 1.0, generator=generator).item()
            for pruning in prunings:
                pruning.density = density
            scores = network(shifted(images[rows], generator))
            loss = F.cross_entropy(scores, labels[rows], label_smoothing=0.05)
            penalty = torch.stack([weight.abs().sum() for weight in weights]).sum()
            optimizer.zero_grad()
            (loss + L1 * penalty).backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1:3d}: training loss {total / len(images):.4f}")
    for layer, pruning in zip(layers, prunings, strict=True):
        pruning.density = 1.0
        nn.utils.parametrize.remove_parametrizations(layer, "weight")
    return network.eval()


def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((network(images).argmax(1) == labels).float().mean())


def pruned_copy(network: DigitsNet, density: float) -> DigitsNet:
    copy = DigitsNet()
    copy.load_state_dict(network.state_dict())
    prune = Pruned()
    prune.density = density
    with torch.no_grad():
        for layer in weighted_layers(copy):
            layer.weight.copy_(prune(layer.weight))
    return copy.eval()


def export(network: DigitsNet, path: Path) -> None:
    """ONNX opset 17 in inference mode; batch-norm stays as its own nodes, as most exporters leave it."""
    buffer = io.BytesIO()
    torch.onnx.export(
        network,
        (torch.zeros(1, 1, 8, 8),),
        buffer,
        dynamo=False,
        opset_version=17,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        input_names=["image"],
        output_names=["scores"],
        dynamic_axes={"image": {0: "N"}, "scores": {0: "N"}},
    )
    model = onnx.load_from_string(buffer.getvalue())
    rename(model.graph)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def rename(graph: onnx.GraphProto) -> None:
    """`/conv1/Conv` becomes `conv1`, `/Relu_1` becomes `relu_1`; a value has the name of the node that makes it."""
    values: dict[str, str] = {}
    for node in graph.node:
        module = node.name.strip("/").split("/")[0]
        node.name = module.lower()
        values[node.output[0]] = "scores" if node.output[0] == "scores" else node.name
    for node in graph.node:
        node.input[:] = [values.get(name, name) for name in node.input]
        node.output[:] = [values[name] for name in node.output]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("digits.onnx"), help="file to write (default: digits.onnx)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"passes over the data (default: {EPOCHS})")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    network = train(arguments.epochs)
    _, _, images, labels = digits()
    print(f"held-back accuracy, all weights: {accuracy(network, images, labels):.4f}")
    for density in (0.5, 0.3, 0.2, 0.15):
        print(f"  largest {density:.0%} of each layer: {accuracy(pruned_copy(network, density), images, labels):.4f}")
    export(network, arguments.output)
    print(f"wrote {arguments.output}: {arguments.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
