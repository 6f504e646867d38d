//! Rare kinds of files: each is decoded like its plain twin, or refused by name.

use std::fs;

use longclip::input::image::{DecodeOptions, Decoded, decode as decode_bytes};
use longclip::input::preprocess::Preprocess;

use super::{decode, image, refusal};

fn read(bytes: &[u8]) -> Result<Decoded, String> {
    decode_bytes(bytes, &DecodeOptions::default()).map_err(|error| format!("{error:#}"))
}

/// The maximum and the mean difference between the samples of two images of the same size.
fn difference(one: &Decoded, other: &Decoded) -> (u8, f64) {
    let (one, other) = (&one.image, &other.image);
    assert_eq!((one.width, one.height), (other.width, other.height));
    let pairs = one.pixels.iter().zip(&other.pixels);
    let differences: Vec<u8> = pairs.map(|(a, b)| a.abs_diff(*b)).collect();
    let sum: f64 = differences.iter().map(|d| f64::from(*d)).sum();
    let most = differences.iter().max().copied().unwrap_or(0);
    (most, sum / differences.len() as f64)
}

#[test]
fn every_sampling_of_a_jpeg_shows_the_same_image() {
    // Decoders differ by 4 of 255 at most in chroma upsampling; stripes differ by 50.
    let cases = [
        ("finer.jpg", "finer-twin.png"),
        ("finer-progressive.jpg", "finer-twin.png"),
        ("planes.jpg", "base.jpg"),
    ];
    for (name, twin) in cases {
        let odd = decode(name);
        assert!(odd.warnings.is_empty(), "{name}: {:?}", odd.warnings);
        let (most, _) = difference(&odd, &decode(twin));
        assert!(most <= 4, "{name} differs by {most}");
    }
    // The same image with its chroma at a third of the columns.
    let (_, mean) = difference(&decode("thirds.jpg"), &decode("base.jpg"));
    assert!(mean < 5.0, "{mean}");
}

#[test]
fn an_odd_sampling_cut_short_is_decoded_with_a_warning() {
    let whole = fs::read(image("finer.jpg")).unwrap();
    let cut = read(&whole[..whole.len() * 2 / 3]).unwrap();
    assert_eq!(cut.warnings.len(), 1);
    assert!(cut.warnings[0].contains("cut short"), "{:?}", cut.warnings);
    let strict = DecodeOptions {
        strict: true,
        ..DecodeOptions::default()
    };
    let error = decode_bytes(&whole[..whole.len() * 2 / 3], &strict).unwrap_err();
    assert!(
        error.to_string().contains("the JPEG file ends before"),
        "{error}"
    );
}

#[test]
fn the_jfif_marker_wins_over_adobes() {
    let plain = fs::read(image("base.jpg")).unwrap();
    let jfif = 2..20;
    assert_eq!(&plain[6..11], b"JFIF\0");
    // States that the three components are RGB.
    let adobe = b"\xFF\xEE\0\x0EAdobe\0\x64\0\0\0\0\0";
    let both = [&plain[..jfif.end], adobe, &plain[jfif.end..]].concat();
    assert_eq!(read(&both).unwrap().image, decode("base.jpg").image);
    let alone = [&plain[..jfif.start], adobe, &plain[jfif.end..]].concat();
    let (_, mean) = difference(&read(&alone).unwrap(), &decode("base.jpg"));
    assert!(mean > 20.0, "Adobe's marker alone counts: {mean}");
}

#[test]
fn a_video_frame_without_huffman_tables_uses_the_standard_ones() {
    let whole = fs::read(image("base.jpg")).unwrap();
    let mut bare = whole.clone();
    while let Some(at) = bare.windows(2).position(|mark| mark == [0xFF, 0xC4]) {
        let length = usize::from(u16::from_be_bytes([bare[at + 2], bare[at + 3]]));
        bare.drain(at..at + 2 + length);
    }
    assert!(bare.len() + 400 < whole.len(), "no tables were removed");
    let frame = read(&bare).unwrap();
    assert!(frame.warnings.is_empty());
    assert_eq!(frame.image, decode("base.jpg").image);
}

#[test]
fn kinds_of_jpeg_without_a_decoder_are_named() {
    let said = refusal("arithmetic.jpg", &DecodeOptions::default());
    assert!(
        said.contains("arithmetic coding is not supported"),
        "{said}"
    );
    let mut bytes = fs::read(image("base.jpg")).unwrap();
    let frame = bytes
        .windows(2)
        .position(|mark| mark == [0xFF, 0xC0])
        .unwrap();
    for (kind, name) in [(0xC3, "lossless JPEG"), (0xC5, "hierarchical JPEG")] {
        bytes[frame + 1] = kind;
        let said = read(&bytes).unwrap_err();
        assert!(said.contains(name) && !said.contains("copy"), "{said}");
    }
}

#[test]
fn kinds_of_tiff_show_what_their_twins_show() {
    let cases = [
        ("palette.tif", "palette-twin.png", 0),
        ("zstd.tif", "raw.tif", 0),
        ("fax3.tif", "bits.tif", 0),
        ("fax4.tif", "bits.tif", 0),
        ("float.tif", "grey.tif", 0),
        ("grey-alpha.tif", "grey.tif", 0),
        ("jpeg.tif", "raw.tif", 40),
        ("ycbcr.tif", "raw.tif", 60),
    ];
    for (name, twin, tolerance) in cases {
        let (most, mean) = difference(&decode(name), &decode(twin));
        assert!(
            most <= tolerance && mean < 4.0,
            "{name} differs by {most}, {mean}"
        );
    }
    let guess = &decode("float.tif").warnings[0];
    assert!(guess.contains("0 as black and 255 as white"), "{guess}");
}

#[test]
fn an_interlaced_png_shows_the_same_image() {
    for (name, twin) in [
        ("interlaced.png", "rgb.png"),
        ("interlaced16.png", "grey16.png"),
    ] {
        assert_eq!(decode(name).image, decode(twin).image, "{name}");
    }
}

#[test]
fn rows_are_resized_as_they_come_to_the_same_bytes() {
    let folder = image("rgb.png").parent().unwrap().to_owned();
    let mut compared = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        for reduce_to in [None, Some(16)] {
            let options = DecodeOptions {
                reduce_to,
                ..DecodeOptions::default()
            };
            for side in [5, 32, 224] {
                let preprocess = Preprocess::clip(side);
                let decoded = decode_bytes(&bytes, &options);
                let square = preprocess.crop_file(&bytes, &options);
                match (decoded, square) {
                    (Ok(decoded), Ok(square)) => {
                        assert_eq!(preprocess.crop_decoded(&decoded), square, "{path:?} {side}");
                        compared += 1;
                    }
                    (Err(one), Err(other)) => assert_eq!(format!("{one:#}"), format!("{other:#}")),
                    (one, other) => panic!("{path:?}: {one:?}, {other:?}"),
                }
            }
        }
    }
    assert!(compared > 400, "{compared}");
}

#[test]
fn kinds_of_tiff_without_a_decoder_are_named() {
    let mut bytes = fs::read(image("zstd.tif")).unwrap();
    let number = 50_000_u16.to_le_bytes();
    let at = bytes.windows(2).position(|field| field == number).unwrap();
    for (compression, name) in [(34_925, "LZMA"), (34_887, "LERC"), (34_712, "JPEG 2000")] {
        bytes[at..at + 2].copy_from_slice(&u16::to_le_bytes(compression));
        let said = read(&bytes).unwrap_err();
        assert!(said.contains(name) && !said.contains("Unknown"), "{said}");
        assert!(
            said.contains("not supported") && !said.contains("copy"),
            "{said}"
        );
    }
}

#[test]
fn a_tiff_cut_anywhere_in_its_pixels_is_an_error() {
    for name in [
        "palette.tif",
        "zstd.tif",
        "jpeg.tif",
        "fax4.tif",
        "ycbcr.tif",
        "float.tif",
    ] {
        let whole = fs::read(image(name)).unwrap();
        for length in 0..whole.len() / 2 {
            if let Ok(decoded) = read(&whole[..length]) {
                panic!("{name} cut at {length}: {:?}", decoded.warnings);
            }
        }
    }
}

#[test]
fn a_bitmap_whose_alpha_was_left_at_zero_is_opaque() {
    let bitmap = decode("alpha-zero.bmp");
    assert!(bitmap.warnings.is_empty());
    assert_eq!(bitmap.image, decode("raw.tif").image);
}
