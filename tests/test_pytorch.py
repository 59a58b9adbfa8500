"""PyTorch modules: converted with example inputs, they give what torch gives."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import bittern
import numpy as np
import pytest
from bittern.errors import InputError, UnsupportedError

from tests.compare import assert_within

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")
nn = torch.nn
BOUND = 2e-5


class ConvNet(nn.Module):  # type: ignore[misc,name-defined]
    """Convolutions, batch normalization, dropout, pooling, a residual, a view to the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.act = nn.Hardswish()
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(8 * 4 * 4, 5)

    def forward(self, x: Any) -> Any:
        x = self.act(self.norm(self.first(x)))
        x = nn.functional.gelu(x + self.depthwise(x))
        x = nn.functional.max_pool2d(x, 2)
        return self.last(self.drop(x).reshape(x.shape[0], -1))


class Recurrent(nn.Module):  # type: ignore[misc,name-defined]
    """Both directions of an LSTM over a GRU, the last step alone."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 6, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(12, 5, batch_first=True)
        self.last = nn.Linear(5, 3)

    def forward(self, x: Any) -> Any:
        return self.last(self.gru(self.lstm(x)[0])[0][:, -1])


class Attention(nn.Module):  # type: ignore[misc,name-defined]
    """A block of a transformer with an embedding in front."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.norm = nn.LayerNorm(16)
        self.qkv = nn.Linear(16, 48)
        self.out = nn.Linear(16, 16)

    def forward(self, tokens: Any, mask: Any) -> Any:
        x = self.embedding(tokens)
        batch, length, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(batch, length, 3, 4, 4).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / 2.0
        scores = scores.masked_fill(~mask[:, None, None, :], -1e9)
        y = (torch.softmax(scores, -1) @ v).transpose(1, 2).reshape(batch, length, 16)
        return x + self.out(y)


def check(module: Any, network: bittern.Network, inputs: list[Any], isa: str | None = None) -> None:
    """The network gives what the module gives in inference mode."""
    module.eval()
    with torch.no_grad():
        expected = module(*inputs).numpy()
    model = bittern.load(network, isa=isa)
    result = model(*[value.numpy() for value in inputs])
    assert isinstance(result, np.ndarray)
    assert_within(result, expected, BOUND * max(1.0, float(np.abs(expected).max())))


@pytest.fixture(autouse=True)
def seed() -> None:
    """The same weights every time."""
    torch.manual_seed(0)


def test_convolutional_network_of_any_batch(tmp_path: Path, isa: str) -> None:
    module = ConvNet().train()
    network = bittern.convert(module, example_inputs=torch.randn(1, 3, 8, 8), batch=True)
    assert module.training and module.drop.training
    (value,) = network.inputs
    assert (value.name, value.shape, value.dtype) == ("x", ("N", 3, 8, 8), "f32")
    assert network.outputs[0].shape == ("N", 5)
    path = tmp_path / "net.bittern"
    network.save(path)
    for count in (1, 2, 7):
        check(module, bittern.Network.load(path), [torch.randn(count, 3, 8, 8)], isa)


@pytest.mark.parametrize("batch", [False, True])
def test_recurrent_network(batch: bool) -> None:
    module = Recurrent()
    network = bittern.convert(module, example_inputs=(torch.randn(2, 6, 4),), batch=batch)
    assert {"LSTM", "GRU"} <= {node.op for node in network.nodes}
    for count in (2, 3) if batch else (2,):
        check(module, network, [torch.randn(count, 6, 4)])


def test_attention_of_any_length() -> None:
    module = Attention()

    def inputs(batch: int, length: int) -> list[Any]:
        return [torch.randint(0, 20, (batch, length)), torch.rand(batch, length) > 0.3]

    pytest.importorskip("onnxscript", reason="onnxscript is not installed: torch needs it for dynamic shapes")
    batch, length = torch.export.Dim("B"), torch.export.Dim("T")
    free = {0: batch, 1: length}
    network = bittern.convert(module, example_inputs=tuple(inputs(2, 5)), dynamic_shapes=(free, free))
    assert [info.dtype for info in network.inputs] == ["i64", "bool"]
    assert network.inputs[0].shape == ("B", "T")
    for shape in ((2, 5), (1, 9), (3, 2)):
        check(module, network, inputs(*shape))


def test_named_inputs_and_the_tracing_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without onnxscript torch's older exporter is used."""
    import importlib.util

    module = ConvNet()
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    network = bittern.convert(module, example_inputs=torch.randn(2, 3, 8, 8), batch=True)
    assert network.inputs[0].shape == ("N", 3, 8, 8)
    for count in (1, 4):
        check(module, network, [torch.randn(count, 3, 8, 8)])
    with pytest.raises(UnsupportedError, match="onnxscript"):
        bittern.convert(module, example_inputs=torch.randn(2, 3, 8, 8), dynamic_shapes=({0: "N"},))


def test_wrong_arguments() -> None:
    module = ConvNet()
    with pytest.raises(InputError, match="example_inputs"):
        bittern.convert(module)
    with pytest.raises(InputError, match="dynamic_shapes"):
        bittern.convert(module, example_inputs=torch.randn(1, 3, 8, 8), batch=True, dynamic_shapes=({0: "N"},))
    with pytest.raises(UnsupportedError, match="module ConvNet: torch cannot export it"):
        bittern.convert(module, example_inputs=torch.randn(1, 4, 8, 8))
    with pytest.raises(InputError, match="PyTorch modules"):
        bittern.convert(b"{", batch=True)


def test_torch_is_not_imported_without_need() -> None:
    code = "import sys, bittern; net = bittern.Network(); bittern.convert(net); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
