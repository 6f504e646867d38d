//! What telephones and cameras write: HEIC, AVIF, JPEG XL and previews of raw files. The images of
//! `tests/fixtures/photo/make.py` show four coloured quarters.

use std::fs;
use std::path::PathBuf;

use longclip::input::image::{Alpha, DecodeOptions, Decoded, MemoryBudget, decode};
use longclip::input::preprocess::Preprocess;

/// Upper left, upper right, lower left, lower right.
const COLOURS: [[u8; 3]; 4] = [[200, 40, 40], [40, 180, 60], [50, 60, 200], [230, 220, 90]];

fn bytes(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/photo");
    fs::read(folder.join(name)).expect(name)
}

fn read(name: &str, options: &DecodeOptions) -> Result<Decoded, String> {
    decode(&bytes(name), options).map_err(|error| format!("{error:#}"))
}

/// The colours in the middle of the quarters.
fn quarters(decoded: &Decoded) -> [[u8; 3]; 4] {
    let image = &decoded.image;
    [(1, 1), (3, 1), (1, 3), (3, 3)].map(|(across, down)| {
        let at = (image.height * down / 4 * image.width + image.width * across / 4) * 3;
        [0, 1, 2].map(|channel| image.pixels[at + channel])
    })
}

/// Lossy encoders keep flat colours within 2 of 255.
fn check(name: &str, decoded: &Decoded, colours: [[u8; 3]; 4]) {
    let found = quarters(decoded);
    let pairs = found.as_flattened().iter().zip(colours.as_flattened());
    let most = pairs.map(|(a, b)| a.abs_diff(*b)).max();
    assert!(most <= Some(2), "{name}: {found:?}");
}

/// All pixels are decoded to the same ones, whether an orientation in EXIF data counts or not.
#[cfg(any(feature = "heic", feature = "avif", feature = "jxl"))]
fn check_files(format: &str, names: &[&str]) {
    for name in names {
        for orient in [true, false] {
            let options = DecodeOptions {
                orient,
                strict: true,
                ..DecodeOptions::default()
            };
            let decoded = read(name, &options).expect(name);
            assert_eq!(
                (decoded.format, decoded.size),
                (format, (128, 64)),
                "{name}"
            );
            assert_eq!(decoded.warnings, Vec::<String>::new(), "{name}");
            check(name, &decoded, COLOURS);
        }
    }
}

/// A file whose right half is transparent.
#[cfg(any(feature = "heic", feature = "avif", feature = "jxl"))]
fn check_alpha(name: &str) {
    let with = |alpha| DecodeOptions {
        alpha,
        ..DecodeOptions::default()
    };
    let [left, _, below, _] = COLOURS;
    for (alpha, right) in [(Alpha::White, [255; 3]), (Alpha::Black, [0; 3])] {
        let decoded = read(name, &with(alpha)).expect(name);
        check(name, &decoded, [left, right, below, right]);
    }
    check(name, &read(name, &with(Alpha::Drop)).expect(name), COLOURS);
}

/// A file cut anywhere is refused, and rows are resized as they come to the same bytes.
fn check_parts(name: &str) {
    let whole = bytes(name);
    for percent in 0..100 {
        let length = whole.len() * percent / 100;
        if let Ok(decoded) = decode(&whole[..length], &DecodeOptions::default()) {
            let is_said = decoded
                .warnings
                .iter()
                .any(|warning| !warning.starts_with("raw:"));
            assert!(is_said, "{name} cut at {length}");
        }
    }
    let options = DecodeOptions::default();
    let decoded = decode(&whole, &options).expect(name);
    for side in [5, 32, 224] {
        let preprocess = Preprocess::clip(side);
        let rows = preprocess.crop_file(&whole, &options).expect(name);
        assert_eq!(preprocess.crop_decoded(&decoded), rows, "{name}");
    }
}

#[test]
fn a_raw_file_shows_its_largest_preview() {
    let name = "preview.dng";
    let decoded = read(name, &DecodeOptions::default()).unwrap();
    let sizes = (decoded.format, decoded.stored_size, decoded.size);
    assert_eq!(sizes, ("raw", (64, 128), (128, 64)));
    let said = "raw: the JPEG preview of 64 x 128 pixels was read, not the sensor's data";
    assert_eq!(decoded.warnings, [said]);
    check(name, &decoded, COLOURS);
    check_parts(name);
}

#[cfg(feature = "heic")]
mod heic {
    use super::*;

    #[test]
    fn the_primary_image_is_shown_once_turned_and_cropped() {
        let names = ["thumbnail.heic", "turned.heic", "crop.heic", "ten.heic"];
        check_files("heic", &names);
        let turned = read("turned.heic", &DecodeOptions::default()).unwrap();
        assert_eq!(turned.stored_size, (64, 128));
    }

    #[test]
    fn tiles_and_their_alpha_are_put_together() {
        check_alpha("grid.heic");
        let grid = read("grid.heic", &DecodeOptions::default()).unwrap();
        assert_eq!(grid.size, (120, 100));
    }

    #[test]
    fn parts_of_files_are_not_trusted() {
        for name in [
            "thumbnail.heic",
            "turned.heic",
            "grid.heic",
            "crop.heic",
            "ten.heic",
        ] {
            check_parts(name);
        }
    }

    #[test]
    fn a_high_dynamic_range_is_warned_about() {
        let decoded = read("pq.heic", &DecodeOptions::default()).unwrap();
        let [warning] = &decoded.warnings[..] else {
            panic!("{:?}", decoded.warnings);
        };
        assert!(
            warning.starts_with("heic: high dynamic range (PQ)"),
            "{warning}"
        );
    }

    #[test]
    fn what_is_not_supported_is_named_and_claims_are_limited() {
        let said = read("overlay.heic", &DecodeOptions::default()).unwrap_err();
        let name = "a HEIC file with an image composed of several is not supported";
        assert!(said.starts_with(name), "{said}");
        let said = read("huge.heic", &DecodeOptions::default()).unwrap_err();
        assert!(said.contains("pass --max-pixels 268435456"), "{said}");
        let many = DecodeOptions {
            max_pixels: u64::MAX,
            ..DecodeOptions::default()
        };
        let said = read("huge.heic", &many).unwrap_err();
        assert!(said.contains("the HEIC data is damaged"), "{said}");
        let little = DecodeOptions {
            memory: MemoryBudget::new(100_000),
            ..DecodeOptions::default()
        };
        let said = read("ten.heic", &little).unwrap_err();
        assert!(said.contains("pass --max-memory"), "{said}");
    }
}

#[cfg(feature = "avif")]
#[test]
fn avif_is_read_as_heic_is() {
    check_files("avif", &["plain.avif", "turned.avif"]);
    check_alpha("alpha.avif");
    for name in ["plain.avif", "turned.avif", "alpha.avif"] {
        check_parts(name);
    }
}

#[cfg(feature = "jxl")]
#[test]
fn jpeg_xl_is_read() {
    check_files("jxl", &["lossy.jxl", "lossless.jxl"]);
    check_alpha("alpha.jxl");
    let grey = read("grey.jxl", &DecodeOptions::default()).unwrap();
    check("grey.jxl", &grey, [[88; 3], [124; 3], [73; 3], [208; 3]]);
    for name in ["lossy.jxl", "lossless.jxl", "alpha.jxl", "grey.jxl"] {
        check_parts(name);
    }
}
