"""LSTM, GRU and RNN as ONNX defines them, step by step in float64."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tests.reference.arrays import Array

Function = Callable[[Array], Array]

DEFAULTS = {
    "Affine": (1.0, 0.0),
    "Elu": (1.0, 0.0),
    "HardSigmoid": (0.2, 0.5),
    "LeakyRelu": (0.01, 0.0),
    "ScaledTanh": (1.0, 1.0),
    "ThresholdedRelu": (1.0, 0.0),
}
TWO_PARAMETERS = ("Affine", "HardSigmoid", "ScaledTanh")


def function(name: str, alpha: float, beta: float) -> Function:
    """An activation."""
    functions: dict[str, Function] = {
        "Affine": lambda x: alpha * x + beta,
        "Elu": lambda x: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0))),
        "HardSigmoid": lambda x: np.clip(alpha * x + beta, 0, 1),
        "LeakyRelu": lambda x: np.where(x >= 0, x, alpha * x),
        "Relu": lambda x: np.maximum(x, 0),
        "ScaledTanh": lambda x: alpha * np.tanh(beta * x),
        "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "Softplus": lambda x: np.logaddexp(0, x),
        "Softsign": lambda x: x / (1 + np.abs(x)),
        "Tanh": np.tanh,
        "ThresholdedRelu": lambda x: np.where(x > alpha, x, 0),
    }
    return functions[name]


@dataclass(frozen=True)
class Recurrent:
    """A layer's attributes."""

    op: str
    direction: str = "forward"
    activations: Sequence[str] = ()
    alpha: Sequence[float] = ()
    beta: Sequence[float] = ()
    clip: float = 0.0
    linear_before_reset: int = 0
    input_forget: int = 0
    cell_clip: float = 0.0
    functions: list[Function] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Pair names with their parameters."""
        default = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}[self.op]
        names = list(self.activations) or default * (2 if self.direction == "bidirectional" else 1)
        alphas, betas = list(self.alpha), list(self.beta)
        for name in names:
            alpha, beta = DEFAULTS.get(name, (0.0, 0.0))
            if name in DEFAULTS and alphas:
                alpha = alphas.pop(0)
            if name in TWO_PARAMETERS and betas:
                beta = betas.pop(0)
            self.functions.append(function(name, alpha, beta))

    def bounded(self, x: Array) -> Array:
        """`x` within the clip."""
        return np.clip(x, -self.clip, self.clip) if self.clip else x

    def step(
        self, f: Sequence[Function], x: Array, r: Array, rb: Array, p: Array, h: Array, c: Array
    ) -> tuple[Array, Array]:
        """The next states of one sample; `x` is W x and its bias."""
        n = len(h)
        if self.op == "RNN":
            return f[0](self.bounded(x + r @ h + rb)), c
        if self.op == "GRU":
            z, reset = np.split(f[0](self.bounded((x + r @ h + rb)[: 2 * n])), 2)
            if self.linear_before_reset:
                candidate = x[2 * n :] + reset * (r[2 * n :] @ h + rb[2 * n :])
            else:
                candidate = x[2 * n :] + r[2 * n :] @ (reset * h) + rb[2 * n :]
            return (1 - z) * f[1](self.bounded(candidate)) + z * h, c
        i, o, forget, cell = np.split(x + r @ h + rb, 4)
        i = f[0](self.bounded(i + p[:n] * c))
        forget = 1 - i if self.input_forget else f[0](self.bounded(forget + p[2 * n :] * c))
        c = forget * c + i * f[1](self.bounded(cell))
        c = np.clip(c, -self.cell_clip, self.cell_clip) if self.cell_clip else c
        o = f[0](self.bounded(o + p[n : 2 * n] * c))
        return o * f[2](c), c


def recurrent(layer: Recurrent, inputs: Sequence[Array | None]) -> tuple[Array, Array, Array]:
    """Y, Y_h and Y_c (zeros without cell state) for inputs in ONNX's order, layout 0; lengths are clamped."""
    wide = [None if a is None else a.astype(np.int64 if i == 4 else np.float64) for i, a in enumerate(inputs)]
    x, w, r, bias, lengths, initial_h, initial_c, peepholes = wide + [None] * (8 - len(wide))
    assert x is not None and w is not None and r is not None
    steps, batch, _ = x.shape
    directions, width, hidden = r.shape
    y, y_h, y_c = np.zeros((steps, directions, batch, hidden)), *np.zeros((2, directions, batch, hidden))
    each = len(layer.functions) // directions
    for d in range(directions):
        functions = layer.functions[d * each : (d + 1) * each]
        b = np.zeros(2 * width) if bias is None else bias[d]
        p = np.zeros(3 * hidden) if peepholes is None else peepholes[d]
        for n in range(batch):
            h = np.zeros(hidden) if initial_h is None else initial_h[d, n]
            c = np.zeros(hidden) if initial_c is None else initial_c[d, n]
            length = steps if lengths is None else min(max(int(lengths[n]), 0), steps)
            times = range(length)
            for t in reversed(times) if d == 1 or layer.direction == "reverse" else times:
                h, c = layer.step(functions, w[d] @ x[t, n] + b[:width], r[d], b[width:], p, h, c)
                y[t, d, n] = h
            y_h[d, n], y_c[d, n] = h, c
    return y, y_h, y_c
