"""Image preprocessing: each step as docs/format.md states it, metadata round trips, refusals."""

from pathlib import Path

import numpy as np
import pytest
from bittern.errors import Error, FormatError, InputError
from bittern.preprocess import Preprocess
from numpy.typing import NDArray


def photo(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (height, width, 3)).astype(np.uint8)


def save_png(path: Path, pixels: NDArray[np.uint8]) -> Path:
    image = pytest.importorskip("PIL.Image")
    image.fromarray(pixels).save(path)
    return path


def test_defaults_pass_pixels_through_as_nchw(rng: np.random.Generator) -> None:
    pixels = photo(rng, 5, 7)
    values = Preprocess().apply(pixels)
    assert values.dtype == np.float32 and values.flags.c_contiguous
    assert np.array_equal(values, pixels.transpose(2, 0, 1)[None].astype(np.float32))


def test_order_scale_mean_and_std_are_per_channel_in_the_final_order(rng: np.random.Generator) -> None:
    pixels = photo(rng, 4, 4)
    settings = Preprocess(color="BGR", scale=0.5, mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0))
    values = settings.apply(pixels)
    for channel, (source, mean, std) in enumerate(((2, 1, 2), (1, 2, 4), (0, 3, 8))):
        wanted = (pixels[:, :, source].astype(np.float32) * np.float32(0.5) - np.float32(mean)) / np.float32(std)
        assert np.array_equal(values[0, channel], wanted)


def test_channels_last(rng: np.random.Generator) -> None:
    pixels = photo(rng, 3, 6)
    assert np.array_equal(Preprocess(layout="NHWC").apply(pixels), pixels[None].astype(np.float32))


@pytest.mark.parametrize(
    ("height", "width", "top", "left"), [(9, 8, 2, 2), (4, 4, 0, 0), (5, 7, 0, 1), (256, 256, 126, 126)]
)
def test_crop_is_the_centre_rounded_down(
    rng: np.random.Generator, height: int, width: int, top: int, left: int
) -> None:
    pixels = photo(rng, height, width)
    values = Preprocess(crop=(4, 4), layout="NHWC").apply(pixels)
    assert np.array_equal(values[0], pixels[top : top + 4, left : left + 4])


def test_a_crop_larger_than_the_image_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match="crop is 8x8"):
        Preprocess(crop=(8, 8)).apply(photo(rng, 9, 7))


def test_an_image_of_the_right_size_is_not_resampled(rng: np.random.Generator) -> None:
    pixels = photo(rng, 6, 9)
    assert np.array_equal(Preprocess(resize=(6, 9), layout="NHWC").apply(pixels)[0], pixels)


def test_warp_is_pillows_bilinear_filter(rng: np.random.Generator) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = photo(rng, 20, 31)
    wanted = np.asarray(image.fromarray(pixels).resize((13, 17), image.Resampling.BILINEAR))
    assert np.array_equal(Preprocess(resize=(17, 13), layout="NHWC").apply(pixels)[0], wanted)


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(20, 40, (8, 16)), (41, 20, (16, 8)), (20, 33, (8, 13)), (8, 8, (8, 8))]
)
def test_shorter_side(rng: np.random.Generator, height: int, width: int, expected: tuple[int, int]) -> None:
    pytest.importorskip("PIL")
    settings = Preprocess(resize=(8, 8), resize_mode="shorter_side", layout="NHWC")
    assert settings.apply(photo(rng, height, width)).shape == (1, *expected, 3)


def test_files_equal_arrays(rng: np.random.Generator, tmp_path: Path) -> None:
    pixels = photo(rng, 12, 10)
    path = save_png(tmp_path / "photo.png", pixels)
    for settings in (Preprocess(), Preprocess(color="GRAY", scale=1 / 255), Preprocess(resize=(6, 5), crop=(4, 4))):
        assert np.array_equal(settings.apply(path), settings.apply(pixels))


def test_grey_files_serve_colour_networks_and_the_other_way(rng: np.random.Generator, tmp_path: Path) -> None:
    grey = rng.integers(0, 256, (5, 4)).astype(np.uint8)
    path = save_png(tmp_path / "grey.png", grey)
    assert np.array_equal(Preprocess().apply(path)[0], np.repeat(grey[None], 3, 0).astype(np.float32))
    assert np.array_equal(Preprocess(color="GRAY").apply(path)[0, 0], grey.astype(np.float32))
    assert np.array_equal(Preprocess(color="GRAY").apply(grey)[0, 0], grey.astype(np.float32))


def test_metadata_round_trip_is_canonical() -> None:
    settings = Preprocess(
        resize=(256, 256), crop=(227, 227), color="BGR", scale=0.5, mean=(104.0, 117.0, 123.0), std=(1.0, 1.0, 1.0)
    )
    assert Preprocess.from_json(settings.to_json()) == settings
    assert Preprocess().to_json() == "{}"
    assert Preprocess.from_json("{}") == Preprocess()
    documented = (
        '{"resize": [256, 256], "resize_mode": "warp", "crop": [227, 227], "color": "BGR", "scale": 1.0,'
        ' "mean": [104, 117, 123], "std": [1, 1, 1], "layout": "NCHW"}'
    )
    assert Preprocess.from_json(documented).mean == (104.0, 117.0, 123.0)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "[" * 100_000,
        '{"size": 3}',
        '{"resize": 256}',
        '{"resize": [0, 5]}',
        '{"resize": [2.5, 5]}',
        '{"resize": [true, 5]}',
        '{"resize": [1, 2, 3]}',
        '{"resize": [99999999, 99999999]}',
        '{"crop": [-1, 5]}',
        '{"color": "CMYK"}',
        '{"color": ["RGB"]}',
        '{"layout": 3}',
        '{"resize_mode": "fit"}',
        '{"mean": [1, 2]}',
        '{"color": "GRAY", "mean": [1, 2, 3]}',
        '{"mean": ["a"]}',
        '{"std": 0}',
        '{"std": [1, 1e-60, 1]}',
        '{"scale": NaN}',
        '{"scale": 1e60}',
        '{"scale": true}',
        '{"scale": ' + "9" * 400 + "}",
    ],
)
def test_wrong_metadata_is_a_format_error(text: str) -> None:
    with pytest.raises(FormatError):
        Preprocess.from_json(text)


@pytest.mark.parametrize("shape", [(4,), (4, 4, 4), (0, 4, 3), (1, 4, 4, 3)])
def test_wrong_arrays_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="uint8"):
        Preprocess().apply(np.zeros(shape, np.uint8))
    with pytest.raises(InputError, match="uint8"):
        Preprocess().apply(np.zeros((4, 4, 3), np.float32))


def test_damaged_images_are_refused(rng: np.random.Generator, tmp_path: Path) -> None:
    whole = save_png(tmp_path / "whole.png", photo(rng, 40, 40)).read_bytes()
    for number, content in enumerate((b"", b"no image", whole[:200], whole[:-40], whole[:60] + b"\0" * 9 + whole[69:])):
        path = tmp_path / f"{number}.png"
        path.write_bytes(content)
        with pytest.raises(Error, match=f"{number}.png"):
            Preprocess().apply(path)
    with pytest.raises(FileNotFoundError):
        Preprocess().apply(tmp_path / "missing.png")


def test_deep_pixels_are_refused_rather_than_clipped(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "deep.png"
    image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save(path)
    with pytest.raises(InputError, match="8 bits"):
        Preprocess().apply(path)
