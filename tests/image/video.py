"""Compares video frames from a pipe with PNGs of the same frames, as ffmpeg writes them.

    pip install numpy pillow
    python tests/image/video.py target/release/longclip        (with ffmpeg on the PATH)

For each video, every frame is embedded from a PNG, from `-f image2pipe -c:v ppm` and from `-f
yuv4mpegpipe`. Prints whether the PPM rows are equal, the difference of pixels between PNGs and what
the Y4M reader computes (the same formula here, in numpy), and the least cosine of embeddings.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

CAT = Path(__file__).parents[2] / "assets/demo/chelsea.png"
SOURCES = {
    "testsrc2": ["-f", "lavfi", "-i", "testsrc2=size=318x242:rate=25:duration=0.6"],
    "mandelbrot": ["-f", "lavfi", "-i", "mandelbrot=size=640x360:rate=25", "-t", "0.4"],
    "photograph": ["-loop", "1", "-i", CAT, "-vf", "zoompan=z=1.05^on:s=426x240:d=1", "-frames:v", "10"],
}
FORMATS = ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "gray"]


def ffmpeg(*arguments, **options):
    command = ["ffmpeg", "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, **options).stdout


def embed(longclip, images, stdin=None):
    command = [longclip, "embed", "--model", "tiny", "--precision", "f32", "-q", "--frames", "all", *images]
    out = subprocess.run(command, check=True, input=stdin, stdout=subprocess.PIPE).stdout
    return np.array([json.loads(line)["embedding"] for line in out.splitlines()])


def frames(y4m):
    """The pixels of a video, `[height, width, 3]` each, by the formula of frames/y4m.rs."""
    header, y4m = y4m.split(b"\n", 1)
    tags = {tag[:1]: tag[1:].decode() for tag in header.split()[1:]}
    width, height, coding = int(tags[b"W"]), int(tags[b"H"]), tags.get(b"C", "420")
    across, down = {"420": (2, 2), "422": (2, 1), "444": (1, 1), "mon": (0, 0)}[coding[:3]]
    columns, rows = (-(-width // across), -(-height // down)) if across else (0, 0)
    size = width * height + 2 * columns * rows
    while y4m:
        _, y4m = y4m.split(b"\n", 1)
        planes, y4m = np.frombuffer(y4m[:size], np.uint8).astype(np.int64), y4m[size:]
        luma = planes[: width * height].reshape(height, width)
        chroma = planes[width * height :].reshape(2, rows, columns) if across else np.full((2, 1, 1), 128)
        if across:
            chroma = chroma.repeat(down, 1).repeat(across, 2)[:, :height, :width]
        blue, red = chroma - 128
        full = b"XCOLORRANGE=FULL" in header or (not across and b"XCOLORRANGE" not in header)
        black, scale, r, g, h, b = (0, 65536, 91881, 22554, 46802, 116130) if full else (16, 76309, 104597, 25675, 53279, 132201)
        light = (luma - black) * scale + (1 << 15)
        rgb = np.stack([light + r * red, light - g * blue - h * red, light + b * blue], -1)
        yield np.clip(rgb >> 16, 0, 255)


def compare(longclip, name, source, pixel_format, folder):
    video = folder / "video.mkv"
    ffmpeg(*source, "-pix_fmt", pixel_format, "-c:v", "ffv1", video)
    ffmpeg("-i", video, folder / "%04d.png")
    pngs = sorted(folder.glob("*.png"))
    y4m = ffmpeg("-i", video, "-f", "yuv4mpegpipe", "-")
    ppm = ffmpeg("-i", video, "-f", "image2pipe", "-c:v", "ppm", "-")
    apart = [np.abs(ours - np.asarray(Image.open(png).convert("RGB"))) for ours, png in zip(frames(y4m), pngs, strict=True)]
    rows = embed(longclip, pngs)
    equal = np.array_equal(rows, embed(longclip, ["-"], ppm))
    cosines = (rows * embed(longclip, ["-"], y4m)).sum(1)
    apart = np.concatenate([one.ravel() for one in apart])
    print(
        f"{name:11} {pixel_format:9} {len(pngs):3} frames  PPM {'equal' if equal else 'DIFFERS'}  "
        f"Y4M: mean {apart.mean():.3f}, 99.9% within {np.percentile(apart, 99.9):.0f}, most {apart.max()} of 255, "
        f"least cosine {cosines.min():.6f}"
    )
    return equal


def main():
    ok = True
    for name, source in SOURCES.items():
        for pixel_format in FORMATS:
            with tempfile.TemporaryDirectory() as folder:
                ok &= compare(sys.argv[1], name, source, pixel_format, Path(folder))
    sys.exit(not ok)


if __name__ == "__main__":
    main()
