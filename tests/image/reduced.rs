//! JPEGs that are decoded at a half, a quarter or an eighth of their size.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use ::image::codecs::jpeg::JpegEncoder;
use ::image::{ImageFormat, Rgb, RgbImage};
use longclip::input::image::{DecodeOptions, Decoded, decode as decode_bytes};
use longclip::input::preprocess::Preprocess;

fn reduced(bytes: &[u8], side: usize) -> anyhow::Result<Decoded> {
    let options = DecodeOptions {
        reduce_to: Some(side),
        ..DecodeOptions::default()
    };
    decode_bytes(bytes, &options)
}

fn exact(bytes: &[u8]) -> anyhow::Result<Decoded> {
    decode_bytes(bytes, &DecodeOptions::default())
}

/// Shades and edges of several scales.
fn drawn(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let wave = (x as f32 / 37.0).sin() * (y as f32 / 23.0).cos();
        let edge = if (x / 50 + y / 40) % 2 == 0 { 40 } else { 0 };
        Rgb([
            100 + (wave * 60.0) as u8 % 90 + edge,
            60 + edge,
            (x / 8 % 200) as u8,
        ])
    })
}

fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, 90);
    drawn(width, height).write_with_encoder(encoder).unwrap();
    bytes
}

#[test]
fn the_smallest_size_that_suffices_is_decoded() {
    let cases = [
        ((800, 600), 75, (100, 75)),
        ((800, 600), 76, (200, 150)),
        ((800, 600), 151, (400, 300)),
        ((800, 600), 301, (800, 600)),
        ((601, 803), 75, (76, 101)), // rounded up
        ((100, 9), 1, (13, 2)),
        ((100, 7), 1, (25, 2)),
    ];
    for ((width, height), side, expected) in cases {
        let bytes = jpeg(width, height);
        let fast = reduced(&bytes, side).unwrap();
        assert_eq!((fast.image.width, fast.image.height), expected);
        assert_eq!(fast.image.pixels.len(), expected.0 * expected.1 * 3);
        let size = (width as usize, height as usize);
        assert_eq!((fast.size, fast.stored_size), (size, size));
        let whole = exact(&bytes).unwrap();
        if expected == size {
            assert_eq!(fast.image, whole.image);
            continue;
        }
        // What a tower would get at half that size.
        let tower = Preprocess::clip((side / 2).max(1));
        let (a, b) = (tower.crop_decoded(&fast), tower.crop(&whole.image));
        let pairs = a.pixels.iter().zip(&b.pixels);
        let sum: u32 = pairs.map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
        let mean = f64::from(sum) / a.pixels.len() as f64;
        assert!(mean < 2.5, "{width} x {height}, {side}: {mean}");
    }
}

#[test]
fn only_pixels_differ_and_only_those_of_intact_jpegs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/image");
    let mut smaller = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = fs::read(&path).unwrap();
        match (exact(&bytes), reduced(&bytes, 1)) {
            (Ok(whole), Ok(fast)) => {
                assert_eq!(fast.format, whole.format, "{name}");
                assert_eq!(fast.size, whole.size, "{name}");
                assert_eq!(fast.stored_size, whole.stored_size, "{name}");
                assert_eq!(fast.warnings, whole.warnings, "{name}");
                let is_smaller = fast.image.width < whole.image.width;
                assert!(!is_smaller || name.ends_with(".jpg"), "{name}");
                assert!(is_smaller || fast.image == whole.image, "{name}");
                assert!(!is_smaller || whole.warnings.is_empty(), "{name}");
                let side = |a: usize, b: usize| a.div_ceil(8) <= b && b <= a;
                assert!(side(whole.image.width, fast.image.width), "{name}");
                assert!(side(whole.image.height, fast.image.height), "{name}");
                for channel in 0..3 {
                    let mean = |image: &Decoded| {
                        let samples = image.image.pixels.iter().skip(channel).step_by(3);
                        let count = samples.clone().count() as f64;
                        samples.map(|sample| f64::from(*sample)).sum::<f64>() / count
                    };
                    let (a, b) = (mean(&fast), mean(&whole));
                    assert!((a - b).abs() < 8.0, "{name}, {channel}: {a}, not {b}");
                }
                smaller += usize::from(is_smaller);
            }
            (Err(whole), Err(fast)) => assert_eq!(fast.to_string(), whole.to_string(), "{name}"),
            (whole, fast) => panic!("{name}: {whole:?} but {fast:?}"),
        }
    }
    assert!(smaller >= 12, "{smaller}");
}

#[test]
fn the_sides_of_a_turned_image_are_swapped() {
    let tagged = |bytes: &[u8], value: u8| {
        let mut exif = b"\xFF\xE1\0\x22Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03".to_vec();
        exif.extend([0, 0, 0, 1, 0, value, 0, 0, 0, 0, 0, 0]);
        [&bytes[..2], &exif, &bytes[2..]].concat()
    };
    let (even, odd) = (jpeg(320, 160), jpeg(323, 160));
    for value in 1..=8 {
        let fast = reduced(&tagged(&even, value), 20).unwrap();
        assert_eq!((fast.stored_size, fast.scale), ((320, 160), 8), "{value}");
        let turned = |(width, height)| {
            if value > 4 {
                (height, width)
            } else {
                (width, height)
            }
        };
        assert_eq!(fast.size, turned((320, 160)), "{value}");
        assert_eq!(
            (fast.image.width, fast.image.height),
            turned((40, 20)),
            "{value}"
        );
        // Padding would be at the left or above.
        let fast = reduced(&tagged(&odd, value), 20).unwrap();
        assert_eq!(fast.size, turned((323, 160)), "{value}");
        assert_eq!(fast.scale, if value == 1 { 8 } else { 1 }, "{value}");
    }
}

#[test]
fn other_formats_are_never_reduced() {
    let mut bytes = Cursor::new(Vec::new());
    drawn(300, 200)
        .write_to(&mut bytes, ImageFormat::Png)
        .unwrap();
    let fast = reduced(bytes.get_ref(), 8).unwrap();
    assert_eq!(fast.image, exact(bytes.get_ref()).unwrap().image);
}
