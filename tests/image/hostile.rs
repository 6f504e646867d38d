//! Broken, truncated, contradictory and foreign files, and a folder of thousands of them: none may
//! crash or hang the decoder.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use longclip::input::image::{DecodeOptions, decode as decode_bytes, read};
use longclip::input::preprocess::Preprocess;

use super::{decode, image, refusal};

fn strict() -> DecodeOptions {
    DecodeOptions {
        strict: true,
        ..DecodeOptions::default()
    }
}

#[test]
fn a_jpeg_cut_short_is_decoded_with_a_warning() {
    for (name, fault, strictly) in [
        (
            "cut-half.jpg",
            "the data is cut short; ",
            "the JPEG file ends before the image is complete",
        ),
        (
            "broken-stream.jpg",
            "the data is damaged; ",
            "the JPEG data is damaged",
        ),
    ] {
        let decoded = decode(name);
        assert_eq!((decoded.image.width, decoded.image.height), (61, 45));
        let [warning] = decoded.warnings.as_slice() else {
            panic!("{name}: {:?}", decoded.warnings);
        };
        assert!(warning.starts_with("jpeg: the data is"), "{warning}");
        assert!(warning.contains(fault), "{warning}");
        let said = refusal(name, &strict());
        assert!(said.contains(strictly), "{said}");
    }
}

#[test]
fn an_intact_image_has_no_warning_even_strictly() {
    for name in [
        "base.jpg",
        "progressive.jpg",
        "cmyk.jpg",
        "rocket.jpg",
        "lossy.webp",
    ] {
        let decoded = read(&image(name), &strict()).expect(name);
        assert!(
            decoded.warnings.is_empty(),
            "{name}: {:?}",
            decoded.warnings
        );
    }
}

#[test]
fn an_image_without_any_rows_is_refused() {
    for name in ["cut-before-data.jpg", "cut-in-header.jpg"] {
        let said = refusal(name, &DecodeOptions::default());
        let expected = "not an image: the JPEG file ends before any image data";
        assert!(said.starts_with(expected), "{name}: {said}");
    }
}

#[test]
fn other_formats_cut_short_are_errors_of_one_line() {
    for extension in ["png", "gif", "webp", "bmp", "tif", "ppm"] {
        let said = refusal(&format!("cut-half.{extension}"), &DecodeOptions::default());
        let is_clear = said.contains("file ends before") || said.contains("data is damaged");
        assert!(is_clear && !said.contains('\n'), "{extension}: {said}");
    }
}

#[test]
fn cutting_anywhere_is_never_silent() {
    let names = [
        "base.jpg",
        "rgb.png",
        "palette.gif",
        "lossy.webp",
        "rgb.bmp",
        "lzw.tif",
        "rgb.ppm",
    ];
    for name in names {
        let whole = fs::read(image(name)).unwrap();
        let mut answered = 0;
        // A PNG file without its end marker has all of its pixels.
        let end = (name == "rgb.png").then(|| whole.len() - 8);
        let parts = (0..90).map(|percent| whole.len() * percent / 100);
        for length in parts.chain(end) {
            if let Ok(decoded) = decode_bytes(&whole[..length], &DecodeOptions::default()) {
                assert!(!decoded.warnings.is_empty(), "{name} cut at {length}");
                answered += 1;
            }
        }
        let is_promised = matches!(name, "base.jpg" | "rgb.png");
        assert!(answered > 0 || !is_promised, "{name}");
    }
}

#[test]
fn a_huge_claim_is_refused_by_name_before_decoding() {
    for name in ["huge.png", "huge.gif"] {
        let said = refusal(name, &DecodeOptions::default());
        assert!(said.contains("--max-pixels"), "{name}: {said}");
    }
    let small = DecodeOptions {
        max_pixels: 48 * 37 - 1,
        ..DecodeOptions::default()
    };
    let said = refusal("rgb.png", &small);
    assert!(
        said.starts_with("48 x 37 pixels exceed the limit of 1775"),
        "{said}"
    );
    let exact = DecodeOptions {
        max_pixels: 48 * 37,
        ..DecodeOptions::default()
    };
    assert!(read(&image("rgb.png"), &exact).is_ok());
    let boundless = DecodeOptions {
        max_pixels: u64::MAX,
        ..DecodeOptions::default()
    };
    assert!(read(&image("rgb.png"), &boundless).is_ok());
}

/// A little-endian TIFF file of these entries only, of one LONG each.
fn tiff(entries: &[(u16, u32)]) -> Vec<u8> {
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    bytes.extend((entries.len() as u16).to_le_bytes());
    for (tag, value) in entries {
        bytes.extend([&tag.to_le_bytes()[..], &[4, 0, 1, 0, 0, 0]].concat());
        bytes.extend(value.to_le_bytes());
    }
    bytes
}

#[test]
fn a_tiff_of_huge_tiles_or_samples_is_refused_by_name() {
    let memory = "requests more memory than an image of its size needs";
    let side = "a side exceeds the limit of 1000000";
    let many = "samples per pixel";
    let tile = |(width, height), (across, down), more: &[(u16, u32)]| {
        let whole = [(256, width), (257, height), (322, across), (323, down)];
        [&whole[..], &[(324, 8), (325, 8)], more].concat()
    };
    let strip = |(width, height), more: &[(u16, u32)]| {
        let whole = [(256, width), (257, height), (273, 8), (279, 8)];
        [&whole[..], more].concat()
    };
    let (fax, zstd) = ((259, 4), (259, 50000));
    #[rustfmt::skip]
    let cases = [
        (tile((1, 1_000_001), (4096, 2_000_002), &[fax]), side),
        (tile((1, 1_000_000), (4096, 2_000_000), &[fax]), memory),
        (tile((1_000_000, 1), (2_000_000, 4096), &[zstd]), memory),
        (tile((1, 1), (4096, 4096), &[zstd, (258, 16), (277, 32)]), memory),
        (strip((10_000, 10_000), &[zstd, (258, 16), (277, 65_535)]), many),
        (strip((10_000, 10_000), &[zstd, (258, 16), (277, 33)]), many),
        (strip((10_000, 10_000), &[zstd, (258, 16), (277, 32)]), memory),
        (strip((1_000_000, 1), &[zstd, (258, 1), (277, 32)]), memory),
        (strip((1_000_000, 1), &[zstd, (322, 1), (323, 1), (324, 8)]), "data is damaged"),
        (tile((3_000, 3_000), (1, 1), &[zstd]), memory),
    ];
    for (entries, expected) in cases {
        let said = decode_bytes(&tiff(&entries), &DecodeOptions::default());
        let said = format!("{:#}", said.unwrap_err());
        assert!(said.contains(expected), "{entries:?}: {said}");
    }
    // A large tile around a small image, and one strip of many rows, pass: they contain nothing.
    for entries in [
        tile((1, 1), (4096, 4096), &[zstd]),
        strip((1, 1_000_000), &[zstd]),
    ] {
        let said = decode_bytes(&tiff(&entries), &DecodeOptions::default());
        let said = format!("{:#}", said.unwrap_err());
        assert!(said.contains("data is damaged"), "{entries:?}: {said}");
    }
}

#[test]
fn content_counts_not_the_name() {
    let decoded = decode("png-inside.jpg");
    assert_eq!(decoded.format, "png");
    assert_eq!(decoded.image, decode("rgb.png").image);
}

#[test]
fn an_animation_gives_its_first_frame() {
    assert_eq!(decode("animated.gif").image, decode("palette.gif").image);
}

#[test]
fn a_file_far_too_long_for_its_limit_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.jpg");
    let file = fs::File::create(&path).unwrap();
    let few = DecodeOptions {
        max_pixels: 1000,
        ..DecodeOptions::default()
    };
    let said = || format!("{:#}", read(&path, &few).unwrap_err());
    file.set_len(300 << 20).unwrap(); // sparse where the file system can
    assert!(said().contains("--max-pixels"), "{}", said());
    file.set_len(1 << 20).unwrap();
    assert!(said().contains("nothing but zeros"), "{}", said());
}

#[test]
fn what_is_not_a_regular_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let options = DecodeOptions::default();
    let said = |path: &std::path::Path| format!("{:#}", read(path, &options).unwrap_err());
    assert!(said(folder.path()).contains("this is a folder"));
    assert!(said(&folder.path().join("none.png")).contains("cannot be read"));
    #[cfg(unix)]
    assert!(said(std::path::Path::new("/dev/null")).contains("device"));
}

/// Time limit for decoding and resizing one file.
const LIMIT: Duration = Duration::from_secs(2);

#[test]
#[ignore = "needs the corpus; run with LONGCLIP_CORPUS=dir cargo test --release --test library corpus -- --ignored --nocapture"]
fn the_corpus_is_answered_file_by_file() {
    let root = env::var_os("LONGCLIP_CORPUS").expect("LONGCLIP_CORPUS names the folder");
    let files = files_under(Path::new(&root));
    assert!(!files.is_empty(), "no files in the corpus");
    let options = DecodeOptions::default();
    let (mut sound, mut warned, mut refused) = (0, 0, 0);
    let mut slowest = (Duration::ZERO, PathBuf::new());
    for file in &files {
        let start = Instant::now();
        let decoded = read(file, &options);
        let square = decoded.as_ref().ok();
        let square = square.map(|decoded| Preprocess::clip(224).crop_decoded(decoded));
        match decoded {
            Ok(decoded) => {
                let count = if decoded.warnings.is_empty() {
                    &mut sound
                } else {
                    &mut warned
                };
                *count += 1;
            }
            Err(error) => {
                let said = format!("{error:#}");
                assert!(!said.contains('\n') && said.len() < 500, "{file:?}: {said}");
                refused += 1;
            }
        }
        slowest = slowest.max((start.elapsed(), file.clone()));
        // What the program does: the same, row by row.
        let start = Instant::now();
        let rows = Preprocess::clip(224).crop_file(&fs::read(file).unwrap(), &options);
        slowest = slowest.max((start.elapsed(), file.clone()));
        assert_eq!(rows.ok(), square, "{file:?}");
    }
    assert_eq!(sound + warned + refused, files.len());
    let report = format!("{sound} ok, {warned} warned, {refused} errors; slowest {slowest:?}");
    assert!(slowest.0 < LIMIT, "{report}");
    // Shown with --nocapture.
    print_report(&report);
}

#[allow(
    clippy::print_stdout,
    reason = "the report of a test that is run by hand"
)]
fn print_report(report: &str) {
    println!("{report}");
}

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}
