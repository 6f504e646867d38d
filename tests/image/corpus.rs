//! A folder of thousands of broken and unusual files: none may crash or hang the decoder.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use longclip::input::image::{DecodeOptions, read};
use longclip::input::preprocess::Preprocess;

/// Time limit for decoding and resizing one file.
const LIMIT: Duration = Duration::from_secs(2);

#[test]
#[ignore = "needs the corpus; run with LONGCLIP_CORPUS=dir cargo test --release --test library corpus -- --ignored --nocapture"]
fn the_corpus_is_answered_file_by_file() {
    let root = env::var_os("LONGCLIP_CORPUS").expect("LONGCLIP_CORPUS names the folder");
    let files = files_under(Path::new(&root));
    assert!(!files.is_empty(), "no files in the corpus");
    let (mut sound, mut warned, mut refused) = (0, 0, 0);
    let mut slowest = (Duration::ZERO, PathBuf::new());
    for file in &files {
        let start = Instant::now();
        match read(file, &DecodeOptions::default()) {
            Ok(decoded) => {
                let pixels = Preprocess::clip(224).run(&decoded.image);
                assert!(pixels.iter().all(|pixel| pixel.is_finite()), "{file:?}");
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
