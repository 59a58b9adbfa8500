"""The way back: networks as files of other formats, so that any runtime can check this one."""

from bittern.exporters.onnx import export_onnx

__all__ = ["export_onnx"]
