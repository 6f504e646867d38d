//! How images are read: limits, damage, orientation, transparency.

use serde_json::{Value, json};

use crate::room::{Ran, Room};
use crate::small;

const LABELS: [&str; 3] = ["-l", "cat", "dog"];

fn room(fixtures: &[&str]) -> Room {
    let room = Room::new();
    for name in fixtures {
        room.fixture(name);
    }
    room
}

fn predictions(room: &Room, arguments: &[&str]) -> Value {
    let ran = room.classify(&[arguments, &LABELS].concat()).ends_with(0);
    ran.record()["predictions"].clone()
}

#[test]
fn larger_images_than_max_pixels_are_refused_by_name_of_the_flag() {
    let room = room(&["rgb.png"]);
    // 48 x 37 pixels.
    let ran = room.classify(&[&["rgb.png", "--max-pixels", "1775"], &LABELS[..]].concat());
    let error = ran.ends_with(2).record()["error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        error.contains("48 x 37") && error.contains("1775"),
        "{error}"
    );
    assert!(error.contains("--max-pixels 1776"), "{error}");
    predictions(&room, &["rgb.png", "--max-pixels", "1776"]);
}

#[test]
fn an_image_that_claims_a_huge_size_is_refused() {
    let room = room(&["huge.png", "huge.gif"]);
    let ran = room
        .classify(&[&["huge.png", "huge.gif"], &LABELS[..]].concat())
        .ends_with(2);
    for record in ran.records() {
        let error = record["error"].as_str().unwrap();
        assert!(error.contains("the limit of 200000000"), "{error}");
    }
}

/// A GIF of this side whose rows are interlaced, so that it is decoded as a whole: four bytes per
/// pixel. It is long enough for its pixels, and broken.
fn interlaced(side: u16) -> Vec<u8> {
    let mut bytes = b"GIF89a".to_vec();
    let side_bytes = side.to_le_bytes();
    bytes.extend([side_bytes, side_bytes].concat());
    bytes.extend(b"\x80\0\0\0\0\0\xFF\xFF\xFF,\0\0\0\0");
    bytes.extend([side_bytes, side_bytes].concat());
    bytes.extend(b"\x40\x02");
    bytes.resize(bytes.len() + usize::from(side).pow(2) / 16_000, 0xFF);
    bytes
}

#[test]
fn an_image_that_needs_more_than_max_memory_is_refused_by_name_of_the_flag() {
    let room = room(&["rgb.png"]);
    room.file("large.gif", interlaced(8000));
    let images = ["large.gif", "rgb.png", "--max-memory", "200M"];
    let ran = room.classify(&[&images, &LABELS[..]].concat()).ends_with(1);
    let error = ran.records()[0]["error"].as_str().unwrap().to_owned();
    let (start, enough) = error.rsplit_once("--max-memory ").unwrap();
    assert!(start.starts_with("needs about 2"), "{error}");
    assert!(
        start.contains(" MB to decode, the limit is 210 MB; "),
        "{error}"
    );
    let ran = room.classify(&[&["large.gif", "--max-memory", enough], &LABELS[..]].concat());
    let error = ran.ends_with(2).record()["error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(error.contains("GIF data is damaged"), "{error}");
}

/// `classify` with at most so many kilobytes of addresses.
#[cfg(target_os = "linux")]
fn limited(room: &Room, kilobytes: u32, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let mut command = std::process::Command::new("sh");
    command
        .args([
            "-c",
            &format!("ulimit -v {kilobytes} && exec \"$0\" \"$@\""),
        ])
        .args([env!("CARGO_BIN_EXE_longclip"), "classify", "--model"])
        .arg(small::model())
        .args(arguments)
        .args(LABELS)
        .current_dir(room.path(""));
    let output = command.output().unwrap();
    let records = String::from_utf8(output.stdout).unwrap();
    let records = records
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    (output.status.code(), records.collect())
}

#[test]
#[cfg(target_os = "linux")]
fn without_memory_for_some_images_the_others_are_answered() {
    let room = room(&["rgb.png", "base.jpg"]);
    room.file("large.gif", interlaced(14_000));
    let images = ["rgb.png", "large.gif", "base.jpg", "--threads", "2"];
    for (more, expected) in [
        // A quarter of the limit.
        (&[][..], "the limit is 180 MB; "),
        // The allocator has the last word.
        (&["--max-memory", "8G"][..], "more than the system gives; "),
    ] {
        let (status, records) = limited(&room, 700_000, &[&images, more].concat());
        assert_eq!((status, records.len()), (Some(1), 3), "{records:?}");
        let error = records[1]["error"].as_str().unwrap_or_default();
        assert!(error.contains(expected), "{error}");
        for other in [&records[0], &records[2]] {
            assert!(other["predictions"].is_array(), "{other}");
        }
    }
}

#[test]
fn a_jpeg_cut_short_is_answered_with_a_warning() {
    let room = room(&["cut-half.jpg"]);
    let ran = room
        .classify(&[&["cut-half.jpg"], &LABELS[..]].concat())
        .ends_with(0);
    let record = ran.record();
    let warnings = record["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1);
    let warning = warnings[0].as_str().unwrap();
    assert!(warning.starts_with("jpeg: "), "{warning}");
    assert_eq!(record["predictions"].as_array().unwrap().len(), 2);
    assert_eq!(ran.stderr(), format!("warning: cut-half.jpg: {warning}\n"));
    let quiet = room
        .classify(&[&["cut-half.jpg", "-q"], &LABELS[..]].concat())
        .ends_with(0);
    assert_eq!((quiet.stderr(), &quiet.out), ("", &ran.out));
}

#[test]
fn strict_makes_damage_an_error() {
    let room = room(&["cut-half.jpg", "base.jpg"]);
    let images = ["cut-half.jpg", "base.jpg", "--strict"];
    let ran = room.classify(&[&images, &LABELS[..]].concat()).ends_with(1);
    let records = ran.records();
    assert!(
        records[0]["error"]
            .as_str()
            .unwrap()
            .contains("ends before"),
        "{}",
        records[0]
    );
    assert!(records[0].get("predictions").is_none() && records[0].get("warnings").is_none());
    assert!(records[1]["predictions"].is_array());
    assert!(
        ran.stderr().starts_with("cut-half.jpg: "),
        "{}",
        ran.stderr()
    );
}

#[test]
fn no_decoded_rows_at_all_are_an_error_even_without_strict() {
    let room = room(&["cut-before-data.jpg"]);
    let ran = room
        .classify(&[&["cut-before-data.jpg"], &LABELS[..]].concat())
        .ends_with(2);
    let error = ran.record()["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with("not an image: "), "{error}");
}

#[test]
fn orientation_is_applied_unless_disabled() {
    // The same stored pixels, once upright and once on the side.
    let room = room(&["exif1.jpg", "exif6.jpg"]);
    let stored = |name| predictions(&room, &[name, "--no-orient"]);
    let turned = |name| predictions(&room, &[name]);
    assert_eq!(stored("exif1.jpg"), stored("exif6.jpg"));
    assert_eq!(turned("exif1.jpg"), stored("exif1.jpg"));
    assert_ne!(turned("exif6.jpg"), stored("exif6.jpg"));
}

#[test]
fn alpha_sets_the_background_of_transparency() {
    let room = room(&["rgba.png", "rgb.png"]);
    let with = |alpha| predictions(&room, &["rgba.png", "--alpha", alpha]);
    assert_eq!(
        predictions(&room, &["rgba.png"]),
        with("white"),
        "the default"
    );
    assert_ne!(with("white"), with("black"));
    assert_ne!(with("white"), with("drop"));
    assert_ne!(with("black"), with("drop"));
    for alpha in ["black", "drop"] {
        let opaque = predictions(&room, &["rgb.png", "--alpha", alpha]);
        assert_eq!(opaque, predictions(&room, &["rgb.png"]));
    }
}

#[test]
fn every_format_is_read() {
    let names = [
        "base.jpg",
        "rgb.png",
        "lossy.webp",
        "palette.gif",
        "rgb.bmp",
        "raw.tif",
        "rgb.ppm",
    ];
    let room = room(&names);
    let ran = room.classify(&[&names, &LABELS[..]].concat()).ends_with(0);
    assert_eq!(ran.images(), names);
    assert_eq!(ran.stderr(), "");
}

/// A file that `tests/fixtures/photo/make.py` wrote.
fn photo(name: &str) -> Vec<u8> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read(root.join("tests/fixtures/photo").join(name)).unwrap()
}

#[test]
fn a_folder_of_a_telephone_and_a_camera_is_read_whatever_the_names() {
    let room = Room::new();
    let mut expected = vec!["p/b.DNG", "p/c"];
    if cfg!(feature = "heic") {
        room.file("p/a.HEIC", photo("thumbnail.heic"));
        room.file("p/d", photo("grid.heic"));
        expected = vec!["p/a.HEIC", "p/b.DNG", "p/c", "p/d"];
    }
    room.file("p/b.DNG", photo("preview.dng"));
    room.file("p/c", photo("preview.dng"));
    // Not images: a walk skips them.
    room.file("p/e.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>");
    room.file("p/f.mov", b"\0\0\0\x14ftypqt  \0\0\0\0qt  ");
    let ran = room.classify(&[&["p"], &LABELS[..]].concat()).ends_with(0);
    assert_eq!(ran.images(), expected);
    ran.says(&["p/b.DNG: raw: the JPEG preview of 64 x 128 pixels was read"]);
}

#[test]
fn unsupported_formats_are_named_with_what_converts_them() {
    let room = Room::new();
    room.file("p/a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
    room.file("p/b.avif", b"\0\0\0\x18ftypavif\0\0\0\0mif1avif");
    room.file("p/c.jpg", b"<!DOCTYPE html><title>404</title>");
    let ran = room.classify(&[&["p"], &LABELS[..]].concat()).ends_with(2);
    let heic = if cfg!(feature = "heic") {
        "the HEIC file ends before the image is complete"
    } else {
        "build longclip with `--features heic`"
    };
    let avif = if cfg!(feature = "avif") {
        "the AVIF file ends before the image is complete"
    } else {
        "an AVIF image; build longclip with `--features avif`"
    };
    ran.says(&[
        "p/a.heic: ",
        heic,
        avif,
        "p/c.jpg: not an image",
        "a web page",
    ]);

    room.file("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>");
    room.file("b.pdf", b"%PDF-1.7\n");
    room.file("c.mkv", b"\x1A\x45\xDF\xA3");
    room.file("d.psd", b"8BPS\0\x01");
    let names = ["a.svg", "b.pdf", "c.mkv", "d.psd"];
    let ran = room.classify(&[&names, &LABELS[..]].concat()).ends_with(2);
    ran.says(&[
        "a.svg: not an image: this looks like an SVG drawing; render it first, for example with \
         `rsvg-convert -o OUT.png FILE`",
        "b.pdf: not an image: this looks like a PDF document; render its pages first, for example \
         with `pdftoppm -r 150 -png FILE page`",
        "c.mkv: not an image: this looks like a video; take frames out of it first, for example \
         with `ffmpeg -i FILE -vf fps=1 frame-%04d.png`",
        "d.psd: an image format that is not supported: this looks like a Photoshop document; \
         convert it to PNG first, for example with `magick 'FILE[0]' OUT.png`",
    ]);
}

/// A JPEG that a small model would read at a quarter of its size, or less.
fn large_jpeg(room: &Room, name: &str) {
    let image = image::RgbImage::from_fn(1203, 901, |x, y| {
        let shade = ((x as f32 / 31.0).sin() * 50.0 + (y as f32 / 47.0).cos() * 50.0) as i32;
        image::Rgb([120 + shade, 90 + shade / 2, (x / 9 % 200) as i32].map(|sample| sample as u8))
    });
    let mut bytes = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 90);
    image.write_with_encoder(encoder).unwrap();
    room.file(name, bytes);
}

fn embed(room: &Room, arguments: &[&str]) -> Ran {
    let start = ["embed", "a.jpg", "b.png", "--model", small::model()];
    room.longclip(&[&start, arguments].concat(), &[])
}

#[test]
fn fast_decoding_changes_large_jpegs_slightly_and_nothing_else() {
    let room = Room::with(&["b.png"]);
    large_jpeg(&room, "a.jpg");
    let exact = embed(&room, &[]).ends_with(0).records();
    let fast = embed(&room, &["--fast-decode"]).ends_with(0).records();
    let settings = |record: &Value| record["settings"].as_str().unwrap().to_owned();
    assert!(settings(&fast[0]).contains(" alpha=white decode=fast recipe="));
    assert!(settings(&exact[0]).contains(" alpha=white recipe="));
    assert_eq!(fast[1]["embedding"], exact[1]["embedding"]);
    let (fast, exact) = (&fast[0], &exact[0]);
    for record in [fast, exact] {
        assert_eq!(
            (&record["width"], &record["height"]),
            (&json!(1203), &json!(901))
        );
    }
    let numbers = |record: &Value| -> Vec<f64> {
        let values = record["embedding"].as_array().unwrap();
        values.iter().map(|value| value.as_f64().unwrap()).collect()
    };
    let (fast, exact) = (numbers(fast), numbers(exact));
    let cosine: f64 = fast.iter().zip(&exact).map(|(a, b)| a * b).sum();
    assert!(fast != exact && cosine > 0.999, "{cosine}");
}

#[test]
fn embeddings_of_fast_and_exact_decoding_are_not_mixed() {
    let room = Room::with(&["b.png"]);
    large_jpeg(&room, "a.jpg");
    let said = "made with other settings";
    embed(&room, &["-o", "o.npy"]).ends_with(0);
    embed(&room, &["-o", "o.npy", "--resume", "--fast-decode"])
        .ends_with(2)
        .says(&[said, "decode=fast"]);
    let cached = |flags: &[&str]| embed(&room, &[&["-v", "--cache", "cache"], flags].concat());
    cached(&[])
        .ends_with(0)
        .says(&["cache: 0 embeddings found, 2 computed"]);
    for expected in [
        "cache: 0 embeddings found, 2 computed",
        "cache: 2 embeddings found, 0",
    ] {
        cached(&["--fast-decode"]).ends_with(0).says(&[expected]);
    }
    cached(&[])
        .ends_with(0)
        .says(&["cache: 2 embeddings found, 0 computed"]);
}
