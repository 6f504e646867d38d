//! Damaged copies of images, and large ones: what decoding and resizing them takes.

use std::path::PathBuf;

use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::{ColorType, ImageEncoder as _, ImageFormat, RgbaImage};
use longclip::input::image::{DecodeOptions, MemoryBudget};
use longclip::input::preprocess::Preprocess;

use super::mutate::{Random, damage, seal};
use super::{Tally, attempt, memory, mutations, turn};

/// Limit on the memory of an image.
const LIMIT: usize = 192 << 20;
/// What small things take besides: tables, a model's input, the allocator's rounding.
const SLACK: usize = 8 << 20;

/// A kind of image: the ends of names of the fixtures that are damaged.
type Kind = (&'static str, &'static [&'static str]);

#[rustfmt::skip]
const KINDS: &[Kind] = &[
    ("jpeg", &["base.jpg", "exif6.jpg", "cmyk.jpg"]),
    ("jpeg-progressive", &["progressive.jpg"]),
    ("png", &["rgb.png", "exif6.png", "rgba.png", "palette.png"]),
    ("png-16", &["rgb16.png", "grey16.png"]),
    ("png-interlaced", &["interlaced.png"]),
    ("gif", &["palette.gif", "animated.gif"]),
    ("webp-lossy", &["lossy.webp"]),
    ("webp-lossless", &["lossless.webp", "exif6.webp"]),
    ("bmp", &[".bmp"]),
    ("tiff", &["lzw.tif", "palette.tif", "tiled-planar16.tif", "float.tif", "raw.tif"]),
    ("tiff-packed", &["zstd.tif", "jpeg.tif", "fax4.tif", "ycbcr.tif", "packbits.tif"]),
    ("pnm", &[".ppm", ".pgm", ".pbm", ".pam"]),
    #[cfg(feature = "heic")]
    ("heic", &["thumbnail.heic", "turned.heic", "crop.heic", "ten.heic", "pq.heic"]),
    #[cfg(feature = "heic")]
    ("heic-grid", &["grid.heic"]),
    #[cfg(feature = "avif")]
    ("avif", &[".avif"]),
    #[cfg(feature = "jxl")]
    ("jxl", &[".jxl"]),
    ("raw", &[".dng"]),
];

fn fixtures() -> Vec<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let folders = ["image", "photo"].map(|name| root.join(name).read_dir().unwrap());
    let files = folders.into_iter().flatten();
    let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn options() -> DecodeOptions {
    // Without optimisation, the largest take too long.
    let most = if cfg!(debug_assertions) {
        25_000_000
    } else {
        200_000_000
    };
    DecodeOptions {
        max_pixels: most,
        memory: MemoryBudget::new(LIMIT as u64),
        ..DecodeOptions::default()
    }
}

fn is_decoded(bytes: &[u8]) -> bool {
    let decoded = Preprocess::clip(32).crop_file(bytes, &options());
    if let Err(error) = &decoded {
        let said = format!("{error:#}");
        assert!(!said.contains('\n') && said.len() < 500, "{said}");
    }
    decoded.is_ok()
}

#[test]
fn images() {
    let _turn = turn();
    let files = fixtures();
    for (kind, ends) in KINDS {
        let seeds = files.iter().filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            let is_wanted =
                |end: &&str| *end == name || end.starts_with('.') && name.ends_with(*end);
            ends.iter()
                .any(is_wanted)
                .then(|| std::fs::read(path).unwrap())
        });
        let seeds: Vec<_> = seeds.filter(|bytes| is_decoded(bytes)).collect();
        assert!(!seeds.is_empty(), "no fixture of kind {kind}");
        let mut random = Random::new(kind);
        let mut tally = Tally::default();
        for copy in 0..mutations() {
            let mut bytes = seeds[copy % seeds.len()].clone();
            let whole = 0..bytes.len();
            // Sizes are in headers, which are short, or tables in a box.
            let is_boxed = kind.starts_with("heic") || *kind == "avif";
            let headers = if is_boxed { 600 } else { 64 };
            let range = if random.below(2) == 0 {
                0..whole.end.min(headers)
            } else {
                whole
            };
            damage(&mut bytes, range, &mut random);
            if kind.starts_with("png") && random.below(4) > 0 {
                seal(&mut bytes);
            }
            attempt(kind, copy, &bytes, LIMIT + SLACK, &mut tally, is_decoded);
        }
        tally.check(kind);
    }
}

/// The file of a plain image in a format.
fn plain(format: ImageFormat, width: u32, height: u32, colour: ColorType) -> Vec<u8> {
    let row = width as usize * usize::from(colour.bytes_per_pixel());
    let samples: Vec<u8> = (0..row * height as usize)
        .map(|at| (at / row) as u8)
        .collect();
    let mut bytes = std::io::Cursor::new(Vec::new());
    let kind = colour.into();
    match format {
        ImageFormat::Gif => GifEncoder::new(&mut bytes).encode(&samples, width, height, kind),
        ImageFormat::Jpeg => {
            JpegEncoder::new(&mut bytes).write_image(&samples, width, height, kind)
        }
        _ => image::write_buffer_with_format(&mut bytes, &samples, width, height, kind, format),
    }
    .unwrap();
    bytes.into_inner()
}

/// A TIFF of one strip of grey, packed with PackBits.
fn packed_tiff(width: u32, height: u32) -> Vec<u8> {
    let data: Vec<u8> = [0x81, 9].repeat((width * height).div_ceil(128) as usize);
    #[rustfmt::skip]
    let entries = [
        (256, width), (257, height), (258, 8), (259, 32773), (262, 1), (273, 110),
        (278, height), (279, data.len() as u32),
    ];
    let mut bytes = b"II*\0\x08\0\0\0\x08\0".to_vec();
    for (tag, value) in entries {
        bytes.extend(u16::to_le_bytes(tag));
        bytes.extend([4, 0, 1, 0, 0, 0]);
        bytes.extend(u32::to_le_bytes(value));
    }
    bytes.extend([0; 4]);
    bytes.extend(data);
    bytes
}

#[test]
fn rows_of_a_large_image_are_not_held() {
    let _turn = turn();
    let cases = [
        (
            "png",
            plain(ImageFormat::Png, 3000, 4000, ColorType::Rgba16),
        ),
        (
            "tall png",
            plain(ImageFormat::Png, 3, 1_000_000, ColorType::Rgb8),
        ),
        (
            "wide png",
            plain(ImageFormat::Png, 300_000, 40, ColorType::Rgb8),
        ),
        ("gif", plain(ImageFormat::Gif, 4000, 3000, ColorType::Rgba8)),
        ("tiff", packed_tiff(6000, 4000)),
    ];
    for (name, bytes) in cases {
        let before = memory::start();
        assert!(is_decoded(&bytes), "{name}");
        let peak = memory::peak() - before;
        // 34 to 96 MB of samples.
        assert!(peak < 20 << 20, "{name}: {peak}");
    }
}

#[test]
fn an_image_that_needs_more_than_the_limit_is_refused_before_it_is_decoded() {
    let _turn = turn();
    // 12 million pixels.
    let cases = [
        (
            "jpeg",
            plain(ImageFormat::Jpeg, 4000, 3000, ColorType::Rgb8),
            36,
        ),
        (
            "webp",
            plain(ImageFormat::WebP, 4000, 3000, ColorType::Rgb8),
            84,
        ),
        (
            "bmp",
            plain(ImageFormat::Bmp, 4000, 3000, ColorType::Rgb8),
            36,
        ),
        (
            "pnm",
            plain(ImageFormat::Pnm, 4000, 3000, ColorType::L8),
            12,
        ),
    ];
    for (name, bytes, megabytes) in cases {
        let decode = |limit: u64| {
            let options = DecodeOptions {
                memory: MemoryBudget::new(limit),
                ..DecodeOptions::default()
            };
            let before = memory::start();
            let decoded = Preprocess::clip(32).crop_file(&bytes, &options);
            (
                decoded.map_err(|error| format!("{error:#}")),
                memory::peak() - before,
            )
        };
        let enough = megabytes * 1_000_000 + (8 << 20);
        let (decoded, peak) = decode(enough);
        assert!(decoded.is_ok(), "{name}: {decoded:?}");
        assert!(peak as u64 <= enough, "{name} took {peak}");
        let (decoded, peak) = decode(megabytes * 1_000_000);
        let said = decoded.unwrap_err();
        assert!(said.contains("--max-memory"), "{name}: {said}");
        assert!(peak < 1 << 20, "{name} took {peak}");
    }
}

/// The smallest files of many pixels that encoders write are valid.
#[test]
fn what_compresses_well_is_decoded() {
    let white = |format| {
        let image = RgbaImage::from_pixel(5000, 5000, image::Rgba([255; 4]));
        let image = image::DynamicImage::from(image).into_rgb8();
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    };
    let _turn = turn();
    for format in [
        ImageFormat::Png,
        ImageFormat::Gif,
        ImageFormat::WebP,
        ImageFormat::Jpeg,
    ] {
        let bytes = white(format);
        let square = Preprocess::clip(32).crop_file(&bytes, &options());
        let square =
            square.unwrap_or_else(|error| panic!("{format:?} of {}: {error:#}", bytes.len()));
        assert!(
            square.pixels.iter().all(|sample| *sample == 255),
            "{format:?}"
        );
    }
}
