"""Image file to network input, as a file's `preprocess` metadata says."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bittern.errors import FormatError, InputError, UnsupportedError

if TYPE_CHECKING:
    from PIL.Image import Image

_COLORS = ("RGB", "BGR", "GRAY")
_LAYOUTS = ("NCHW", "NHWC")
_RESIZE_MODES = ("warp", "shorter_side")
_LARGEST_SIDE = 1 << 16
_LARGEST_FLOAT = float(np.finfo(np.float32).max)
# Pillow's modes with at most 8 bits in a channel; others would be clipped silently.
_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes an input; each field is the key of that name in docs/format.md.

    `resize` and `crop` are (height, width); with `resize_mode` "shorter_side" only resize[0] counts. The value of a
    pixel is (pixel * scale - mean) / std, `mean` and `std` being empty, one number, or one per channel in the final
    channel order.
    """

    resize: tuple[int, int] | None = None
    resize_mode: str = "warp"
    crop: tuple[int, int] | None = None
    color: str = "RGB"
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: str = "NCHW"

    def __post_init__(self) -> None:
        for name, value in (("resize", self.resize), ("crop", self.crop)):
            if value is not None and not (len(value) == 2 and all(0 < side <= _LARGEST_SIDE for side in value)):
                raise _bad(name, f"is {list(value)}", f"give height and width, each 1..{_LARGEST_SIDE}")
        _one_of("resize_mode", self.resize_mode, _RESIZE_MODES)
        _one_of("color", self.color, _COLORS)
        _one_of("layout", self.layout, _LAYOUTS)
        for name, numbers in (("mean", self.mean), ("std", self.std), ("scale", (self.scale,))):
            if len(numbers) not in (0, 1, self.channels):
                raise _bad(name, f"has {len(numbers)} numbers", f"give one, or one per channel ({self.channels})")
            if not all(abs(number) <= _LARGEST_FLOAT for number in numbers):
                raise _bad(name, f"is {list(numbers)}", "give finite numbers")
        if any(np.float32(number) == 0 for number in self.std):
            raise _bad("std", "contains 0", "give divisors other than 0")

    @property
    def channels(self) -> int:
        """Channels of the input: 1 for GRAY, else 3."""
        return 1 if self.color == "GRAY" else 3

    @classmethod
    def from_json(cls, text: str) -> Preprocess:
        """Parse the metadata value. FormatError for anything that docs/format.md does not allow."""
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FormatError("metadata 'preprocess'", f"is not JSON ({error})", "convert the network again") from None
        return cls.from_dict(fields)

    @classmethod
    def from_dict(cls, fields: Any) -> Preprocess:
        """Build from the parsed JSON object. FormatError as in from_json."""
        if not isinstance(fields, dict):
            raise _bad("preprocess", f"is a {type(fields).__name__}", "give a JSON object")
        made: dict[str, Any] = {}
        for key, value in fields.items():
            if key in ("resize", "crop"):
                made[key] = _size(key, value)
            elif key in ("mean", "std"):
                made[key] = _numbers(key, value if isinstance(value, list) else [value])
            elif key == "scale":
                made[key] = _numbers(key, [value])[0]
            elif key in ("resize_mode", "color", "layout"):
                made[key] = value
            else:
                raise _bad(str(key), "is not a known key", f"use {', '.join(cls.__dataclass_fields__)}")
        return cls(**made)

    def to_dict(self) -> dict[str, Any]:
        """The metadata object, without the keys that hold their default."""
        made: dict[str, Any] = {}
        for name, field in self.__dataclass_fields__.items():
            value = getattr(self, name)
            if value != field.default:
                made[name] = list(value) if isinstance(value, tuple) else value
        return made

    def to_json(self) -> str:
        """The metadata value: compact JSON, equal for equal settings."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    def apply(self, image: NDArray[np.uint8] | str | PathLike[str]) -> NDArray[np.float32]:
        """One image as a batch of one: float32 [1, C, H, W], or [1, H, W, C] with layout NHWC.

        `image` is a file (needs Pillow) or uint8 [H, W], [H, W, 1] or [H, W, 3] in RGB; an array needs Pillow only if
        it must be resized. InputError for an unreadable image or one smaller than the crop.
        """
        if isinstance(image, np.ndarray):
            pixels, place = self._channels_of(_checked_pixels(image)), "image array"
        else:
            place = fspath(image)
            pixels = _decode(place, gray=self.color == "GRAY")
        pixels = self._cropped(self._resized(pixels), place)
        if self.color == "BGR":
            pixels = pixels[:, :, ::-1]
        values: NDArray[np.float32] = pixels.astype(np.float32) * np.float32(self.scale)
        if self.mean:
            values -= np.asarray(self.mean, np.float32)
        if self.std:
            values /= np.asarray(self.std, np.float32)
        if self.layout == "NCHW":
            values = values.transpose(2, 0, 1)
        return np.ascontiguousarray(values[np.newaxis])

    def _channels_of(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """[H, W, 1 or 3] to the channels wanted: luma of ITU-R BT.601, rounded as Pillow does, or grey repeated."""
        if pixels.shape[2] == self.channels:
            return pixels
        if self.channels == 3:
            return np.repeat(pixels, 3, axis=2)
        luma = pixels.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
        return ((luma + 0x8000) >> 16).astype(np.uint8)[:, :, np.newaxis]

    def _resized(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = pixels.shape[:2]
        if self.resize is None:
            return pixels
        target = self.resize
        if self.resize_mode == "shorter_side":
            shorter, side = min(height, width), self.resize[0]
            target = (_scaled(height, side, shorter), _scaled(width, side, shorter))
        if target == (height, width):
            return pixels
        imaging = _pillow()
        plane = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
        picture = imaging.fromarray(np.ascontiguousarray(plane))
        resized = np.asarray(picture.resize((target[1], target[0]), imaging.Resampling.BILINEAR), np.uint8)
        return resized.reshape(target[0], target[1], pixels.shape[2])

    def _cropped(self, pixels: NDArray[np.uint8], place: str) -> NDArray[np.uint8]:
        if self.crop is None:
            return pixels
        (height, width), (rows, columns) = pixels.shape[:2], self.crop
        if rows > height or columns > width:
            raise InputError(
                place,
                f"is {height}x{width} where it is cropped, the crop is {rows}x{columns}",
                "use a larger image, or convert the network with --resize",
            )
        top, left = (height - rows) // 2, (width - columns) // 2
        return pixels[top : top + rows, left : left + columns]


def _scaled(length: int, side: int, shorter: int) -> int:
    """length * side / shorter, rounded half up, in integers so that the shorter side comes out exactly."""
    return (2 * length * side + shorter) // (2 * shorter)


def _bad(name: str, problem: str, remedy: str) -> FormatError:
    return FormatError(f"preprocess {name!r}" if name != "preprocess" else name, problem, remedy)


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise _bad(name, f"is {value!r}", f"use {', '.join(allowed)}")


def _size(name: str, value: Any) -> tuple[int, int]:
    whole = isinstance(value, list) and all(type(side) is int for side in value)
    if not whole or len(value) not in (1, 2):
        raise _bad(name, f"is {value!r}", "give [height, width]")
    return value[0], value[-1]


def _numbers(name: str, value: list[Any]) -> tuple[float, ...]:
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in value):
        raise _bad(name, f"is {value!r}", "give numbers")
    try:
        return tuple(float(number) for number in value)
    except OverflowError:
        raise _bad(name, "is too large", "give finite numbers") from None


def _checked_pixels(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    shaped = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3))
    if image.dtype != np.uint8 or not shaped or 0 in image.shape:
        raise InputError(
            "image array",
            f"is {image.dtype} of shape {list(image.shape)}",
            "give uint8 [H, W], [H, W, 1] or [H, W, 3] (RGB)",
        )
    return image[:, :, np.newaxis] if image.ndim == 2 else image


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise UnsupportedError(
            "image input", "the package pillow is not installed", "pip install bittern[images]"
        ) from None
    return Image


def _decode(path: str, *, gray: bool) -> NDArray[np.uint8]:
    """The file as uint8 [H, W, 1 or 3]."""
    imaging = _pillow()
    if not path:
        raise InputError("image", "its path is empty", "give the path of a file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", imaging.DecompressionBombWarning)
            with imaging.open(path) as picture:
                pixels = _as_array(picture, path, gray=gray)
    except (imaging.DecompressionBombError, imaging.DecompressionBombWarning):
        raise InputError(path, "the image has too many pixels", "scale it down first") from None
    except imaging.UnidentifiedImageError:
        raise InputError(path, "is not an image that Pillow can read", "use PNG or JPEG") from None
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(path, f"the image is damaged ({error})", "check the file") from None
    return pixels


def _as_array(picture: Image, path: str, *, gray: bool) -> NDArray[np.uint8]:
    if picture.mode not in _EIGHT_BIT_MODES:
        raise InputError(path, f"has pixels of mode {picture.mode}", "save it with 8 bits per channel")
    decoded = np.asarray(picture.convert("L" if gray else "RGB"), np.uint8)
    return decoded.reshape(picture.height, picture.width, 1 if gray else 3)
