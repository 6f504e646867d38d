//! Maps the suffix of an output's name to a format: one rule for every output.
//!
//! A suffix of one of the command's formats selects it. A name without a suffix, or with one of
//! plain text, selects nothing. Any other suffix would be misleading.

use std::path::Path;

/// Suffixes of plain text.
const PLAIN: [&str; 4] = ["", "txt", "log", "out"];

/// Suffixes of data, in this program's formats and in others, that would mislead.
const DATA: [&str; 33] = [
    "arrow",
    "bin",
    "ckpt",
    "csv",
    "feather",
    "gguf",
    "gz",
    "h5",
    "htm",
    "html",
    "jpeg",
    "jpg",
    "json",
    "jsonl",
    "md",
    "ndjson",
    "npy",
    "npz",
    "ods",
    "onnx",
    "parquet",
    "pdf",
    "pickle",
    "pkl",
    "png",
    "pt",
    "pth",
    "safetensors",
    "sqlite",
    "tsv",
    "xls",
    "xlsx",
    "yaml",
];

/// Meaning of a file's suffix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suffix<F> {
    /// It names this format.
    Names(F),
    /// It names none: there is no suffix, or one of plain text.
    Silent,
    /// It names something else.
    Other(String),
}

/// Meaning of the suffix of `path`, given the suffixes `known` to a command.
#[must_use]
pub fn of<F: Copy>(path: &Path, known: &[(&str, F)]) -> Suffix<F> {
    let suffix = path.extension().unwrap_or_default().to_string_lossy();
    let suffix = suffix.to_ascii_lowercase();
    match known.iter().find(|(name, _)| *name == suffix) {
        Some((_, format)) => Suffix::Names(*format),
        None if PLAIN.contains(&suffix.as_str()) => Suffix::Silent,
        None => Suffix::Other(suffix),
    }
}

/// Whether people and programs expect data of a certain format in a file with this suffix.
#[must_use]
pub(crate) fn is_data(suffix: &str) -> bool {
    DATA.contains(&suffix)
}

/// The suffixes of `known` for a message: `.json, .jsonl or .csv`.
#[must_use]
pub fn listed<F>(known: &[(&str, F)]) -> String {
    let names: Vec<String> = known.iter().map(|(name, _)| format!(".{name}")).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_names_a_format_nothing_or_something_else() {
        const KNOWN: [(&str, u8); 2] = [("csv", 1), ("json", 2)];
        let other = |suffix: &str| Suffix::Other(suffix.to_owned());
        let cases = [
            ("a.csv", Suffix::Names(1)),
            ("b.csv/a.JSON", Suffix::Names(2)),
            ("a", Suffix::Silent),
            ("a.", Suffix::Silent),
            (".csv", Suffix::Silent),
            ("a.csv.TXT", Suffix::Silent),
            ("/dev/stdout", Suffix::Silent),
            ("a.csv.gz", other("gz")),
            ("a.parquet", other("parquet")),
            ("a.2026", other("2026")),
        ];
        for (path, expected) in cases {
            assert_eq!(of(Path::new(path), &KNOWN), expected, "{path}");
        }
        assert!(is_data("parquet") && is_data("csv") && !is_data("2026"));
    }

    #[test]
    fn suffixes_are_listed_for_people() {
        assert_eq!(listed(&[("a", 0), ("b", 1), ("c", 2)]), ".a, .b or .c");
        assert_eq!(listed(&[("a", 0)]), ".a");
    }
}
