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
    dynamic: bool = False
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

    def seen(self, x: Array) -> Array:
        """What a matrix multiplies: `x`, or, of dynamic layers, its codes of 8 bits with one scale, in float32."""
        if not self.dynamic or x.size == 0:
            return x
        x = x.astype(np.float32)
        low, high = np.minimum(x.min(), np.float32(0)), np.maximum(x.max(), np.float32(0))
        scale = np.float32((high - low) / np.float32(255)) if high > low else np.float32(1)
        zero = np.clip(np.rint(-low / scale), 0, 255)
        codes = np.clip(np.rint(x / scale) + zero, 0, 255)
        result: Array = (codes - zero).astype(np.float64) * np.float64(scale)
        return result

    def step(
        self, f: Sequence[Function], x: Array, r: Array, rb: Array, p: Array, h: Array, c: Array
    ) -> tuple[Array, Array]:
        """The next states [samples, hidden]; `x` is W x and its bias, a row for each sample."""
        n = h.shape[1]
        if self.op == "RNN":
            return f[0](self.bounded(x + self.seen(h) @ r.T + rb)), c
        if self.op == "GRU":
            z, reset = np.split(f[0](self.bounded((x + self.seen(h) @ r.T + rb)[:, : 2 * n])), 2, axis=1)
            if self.linear_before_reset:
                candidate = x[:, 2 * n :] + reset * (self.seen(h) @ r[2 * n :].T + rb[2 * n :])
            else:
                candidate = x[:, 2 * n :] + self.seen(reset * h) @ r[2 * n :].T + rb[2 * n :]
            return (1 - z) * f[1](self.bounded(candidate)) + z * h, c
        i, o, forget, cell = np.split(x + self.seen(h) @ r.T + rb, 4, axis=1)
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
        h = np.zeros((batch, hidden)) if initial_h is None else initial_h[d]
        c = np.zeros((batch, hidden)) if initial_c is None else initial_c[d]
        ends = np.full(batch, steps) if lengths is None else np.clip(lengths, 0, steps)
        products = layer.seen(x) @ w[d].T + b[:width]
        times = range(steps)
        for t in reversed(times) if d == 1 or layer.direction == "reverse" else times:
            # A sample beyond its end keeps its states, which are among those that a dynamic layer quantises together.
            there = (t < ends)[:, None]
            next_h, next_c = layer.step(functions, products[t], r[d], b[width:], p, h, c)
            h, c = np.where(there, next_h, h), np.where(there, next_c, c)
            y[t, d] = np.where(there, h, 0)
        y_h[d], y_c[d] = h, c
    return y, y_h, y_c
