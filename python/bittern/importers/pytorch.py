"""PyTorch modules, through torch's own ONNX exporter. torch is imported only here, and only when asked."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bittern.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from onnx import ModelProto

BATCH = "N"
"""The symbol of the batch where ``batch=True`` asks for one."""


def is_module(source: Any) -> bool:
    """True for a torch.nn.Module, without importing torch."""
    return any(
        f"{kind.__module__}.{kind.__name__}" == "torch.nn.modules.module.Module" for kind in type(source).__mro__
    )


def export_module(module: Any, example_inputs: Any, dynamic_shapes: Any = None, batch: bool = False) -> ModelProto:
    """The module, in inference mode, as an ONNX model; the module itself stays as it is.

    ``example_inputs``: what ``forward`` takes: a tensor, a tuple of positional arguments or a dict of named ones.
    ``batch``: the first dimension of every tensor is free. ``dynamic_shapes``: the free dimensions, as
    ``torch.export.export`` takes them. Raises InputError for wrong arguments, UnsupportedError where torch or its
    exporter is missing or cannot export the module.
    """
    name = type(module).__name__
    try:
        import onnx  # noqa: F401
        import torch
    except ImportError as error:
        raise UnsupportedError(f"module {name}", f"the package {error.name} is not installed", "install it") from None
    if example_inputs is None:
        remedy = "give example_inputs: a tensor, a tuple of arguments or a dict of named ones"
        raise InputError(f"module {name}", "without inputs its graph cannot be traced", remedy)
    if batch and dynamic_shapes is not None:
        raise InputError("batch", "given together with dynamic_shapes", "give one of them")
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(example_inputs, Mapping):
        kwargs = dict(example_inputs)
    else:
        args = tuple(example_inputs) if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
    if batch:
        args = tuple(_several(value) for value in args)
        kwargs = {key: _several(value) for key, value in kwargs.items()}
    with _inference(module), _quiet(), torch.no_grad():
        try:
            if importlib.util.find_spec("onnxscript") is not None:
                return _by_export(torch, module, args, kwargs, dynamic_shapes, batch)
            if dynamic_shapes is not None:
                remedy = "pip install onnxscript, or give batch=True"
                raise UnsupportedError("dynamic_shapes", "torch needs the package onnxscript for them", remedy)
            return _by_trace(torch, module, args, kwargs, batch)
        except UnsupportedError:
            raise
        except Exception as error:  # whatever the module itself and torch raise
            line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            remedy = "see that torch.onnx.export takes the module with these inputs"
            raise UnsupportedError(f"module {name}", f"torch cannot export it ({line})", remedy) from error


def _several(value: Any) -> Any:
    """A batch of at least two: torch takes a size of 1 for one that never changes."""
    if hasattr(value, "shape") and len(value.shape) and value.shape[0] == 1:
        return value.expand(2, *value.shape[1:]).clone()
    return value


def _by_export(torch: Any, module: Any, args: Any, kwargs: Any, dynamic_shapes: Any, batch: bool) -> ModelProto:
    """Through torch.export: dynamic sizes are followed, not traced."""
    if batch:
        free = torch.export.Dim(BATCH)

        def shape_of(value: Any) -> Any:
            return {0: free} if isinstance(value, torch.Tensor) and value.dim() else None

        named = {key: shape_of(value) for key, value in kwargs.items()}
        dynamic_shapes = named if kwargs else tuple(shape_of(value) for value in args)
    program = torch.onnx.export(
        module, args, kwargs=kwargs or None, dynamo=True, dynamic_shapes=dynamic_shapes, verbose=False
    )
    model: ModelProto = program.model_proto
    return model


def _by_trace(torch: Any, module: Any, args: Any, kwargs: Any, batch: bool) -> ModelProto:
    """Through torch.jit.trace: needs nothing but torch."""
    import inspect

    import onnx

    names = list(inspect.signature(module.forward).parameters)[: len(args)] + list(kwargs)
    values = dict(zip(names, [*args, *kwargs.values()], strict=True))
    axes = {key: {0: BATCH} for key, value in values.items() if isinstance(value, torch.Tensor) and value.dim()}
    stream = io.BytesIO()
    given = {"kwargs": kwargs} if kwargs else {}
    torch.onnx.export(
        module, args, stream, dynamo=False, input_names=list(axes), dynamic_axes=axes if batch else None, **given
    )
    return onnx.load_model_from_string(stream.getvalue())


@contextlib.contextmanager
def _inference(module: Any) -> Iterator[None]:
    """Dropout and batch normalization as in use; afterwards every part is in its mode again."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's remarks are not the user's."""
    import logging

    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
