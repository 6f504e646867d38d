//! Images from files to pixels: against Pillow and torchvision (`tests/golden/pixels.py`), and with
//! broken files.

mod hostile;
mod kinds;
mod photo;
mod reduced;

use std::fs;
use std::path::PathBuf;

use longclip::input::image::{Alpha, DecodeOptions, Decoded, RgbImage, read};
use longclip::input::preprocess::{Preprocess, Resize};
use longclip::input::resize::Filter;
use safetensors::SafeTensors;
use sha2::{Digest as _, Sha256};

/// An image made by `tests/fixtures/image/make.py`, or a demo image.
fn image(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let fixture = root.join("tests/fixtures/image").join(name);
    if fixture.exists() {
        return fixture;
    }
    root.join("assets/demo").join(name)
}

fn decode(name: &str) -> Decoded {
    read(&image(name), &DecodeOptions::default()).expect(name)
}

fn refusal(name: &str, options: &DecodeOptions) -> String {
    match read(&image(name), options) {
        Ok(_) => panic!("{name} was decoded"),
        Err(error) => format!("{error:#}"),
    }
}

/// Maximum difference of a sample from Pillow's. Lossless formats are exact. JPEG decoders differ
/// in how they upsample chroma (at most 4 of 255 in a decoded image).
fn tolerance(file: &str) -> u8 {
    if file.ends_with(".jpg") { 4 } else { 0 }
}

/// "file@size" or "file@size,alpha".
fn parse(name: &str) -> (&str, usize, Alpha) {
    let (file, rest) = name.rsplit_once('@').expect(name);
    let (size, alpha) = rest.split_once(',').unwrap_or((rest, "white"));
    let alpha = match alpha {
        "black" => Alpha::Black,
        "drop" => Alpha::Drop,
        _ => Alpha::White,
    };
    (file, size.parse().expect(name), alpha)
}

#[test]
fn pixels_are_pillows_and_torchvisions() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let bytes = fs::read(root.join("tests/golden/expected/pixels.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    assert!(expected.len() >= 70, "only {} expectations", expected.len());
    for (name, tensor) in expected.tensors() {
        let (file, size, alpha) = parse(&name);
        let options = DecodeOptions {
            alpha,
            ..DecodeOptions::default()
        };
        let decoded = read(&image(file), &options).expect(&name);
        assert_eq!(decoded.warnings, Vec::<String>::new(), "{name}");
        let ours = Preprocess::clip(size).crop(&decoded.image).pixels;
        let pairs = ours.iter().zip(tensor.data());
        let worst = pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert_eq!(ours.len(), tensor.data().len(), "{name}");
        assert!(worst <= tolerance(file), "{name} differs by {worst}");
    }
}

/// Patterns of random sizes, squashed by both filters: every byte as Pillow's.
#[test]
fn both_filters_are_pillows_at_every_size() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let rows = fs::read(root.join("tests/golden/expected/resize.json")).unwrap();
    let rows: Vec<(usize, usize, usize, usize, String, String)> =
        serde_json::from_slice(&rows).unwrap();
    assert_eq!(rows.len(), 600);
    for (width, height, to_width, to_height, filter, expected) in rows {
        let sample = |i: usize| (i * i * 31 + i * 17 + i / 5) as u8;
        let pattern = RgbImage {
            width,
            height,
            pixels: (0..width * height * 3).map(sample).collect(),
        };
        let preprocess = Preprocess {
            resize: Resize::Exact {
                width: to_width,
                height: to_height,
            },
            filter: match &filter[..] {
                "bilinear" => Filter::Bilinear,
                _ => Filter::Bicubic,
            },
            ..Preprocess::clip(to_width.min(to_height))
        };
        let found = Sha256::digest(preprocess.crop(&pattern).pixels);
        let found: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            found, expected,
            "{width} x {height} to {to_width} x {to_height}, {filter}"
        );
    }
}

#[test]
fn every_orientation_shows_the_same_image() {
    let upright = decode("exif1.jpg");
    assert_eq!((upright.image.width, upright.image.height), (40, 27));
    for value in 2..=8 {
        // The same stored image, so the oriented ones differ from it but hold the same samples.
        let turned = decode(&format!("exif{value}.jpg"));
        assert_eq!(turned.stored_size, (40, 27), "{value}");
        assert_ne!(turned.image, upright.image, "{value}");
        let sorted = |mut samples: Vec<u8>| {
            samples.sort_unstable();
            samples
        };
        let same = sorted(turned.image.pixels) == sorted(upright.image.pixels.clone());
        assert!(same, "{value}");
        let lying = DecodeOptions {
            orient: false,
            ..DecodeOptions::default()
        };
        let stored = read(&image(&format!("exif{value}.jpg")), &lying).unwrap();
        assert_eq!(stored.image, upright.image, "{value}");
    }
}

#[test]
fn orientation_is_found_in_every_format_that_has_it() {
    for name in ["exif6.png", "exif6.webp", "exif6.tif", "exif6.jpg"] {
        let decoded = decode(name);
        let (width, height) = decoded.stored_size;
        assert_eq!(
            (decoded.image.width, decoded.image.height),
            (height, width),
            "{name}"
        );
    }
}

#[test]
fn sixteen_bits_are_rounded_to_eight() {
    // Pillow truncates the low byte, so these are not among its expectations: the samples that
    // make.py wrote are 257 times the 8-bit image's plus 5 times the column.
    let plain = decode("rgb.png").image;
    let deep = decode("rgb16.png").image;
    for (at, (deep, plain)) in deep.pixels.iter().zip(&plain.pixels).enumerate() {
        let column = at / 3 % plain_width();
        let stored = (u32::from(*plain) * 257 + column as u32 * 5) % 65536;
        assert_eq!(u32::from(*deep), (stored + 128) / 257, "sample {at}");
    }
}

fn plain_width() -> usize {
    decode("rgb.png").image.width
}

#[test]
fn tiles_of_single_channels_are_put_together() {
    let raw = decode("raw.tif").image;
    assert_eq!(decode("tiled-planar.tif").image, raw);
    assert_eq!(decode("tiled-planar16.tif").image, raw);
}
