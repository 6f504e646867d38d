use super::*;
use crate::run::flags::{ColorWhen, ConsoleArgs};

fn quiet() -> Console {
    Console::new(&ConsoleArgs {
        quiet: true,
        verbose: 0,
        color: ColorWhen::Never,
    })
}

fn destination(file: Option<&str>, is_terminal: bool) -> Destination<'_> {
    Destination {
        file: file.map(Path::new),
        is_terminal,
    }
}

#[test]
fn a_flag_comes_before_the_suffix_and_the_suffix_before_the_terminal() {
    use Format::{Csv, Json, Jsonl, Parquet, Paths, Table, Tsv};
    let cases = [
        (None, None, true, Table),
        (None, None, false, Jsonl),
        (Some(Csv), None, true, Csv),
        (Some(Table), None, false, Table),
        (None, Some("a.csv"), false, Csv),
        (None, Some("a.TSV"), false, Tsv),
        (None, Some("a.ndjson"), false, Jsonl),
        (None, Some("a.parquet"), false, Parquet),
        (None, Some("a.json/a"), false, Jsonl),
        (None, Some("a.txt"), false, Jsonl),
        (Some(Json), Some("a.csv"), false, Json),
        (Some(Table), Some("a.xlsx"), false, Table),
        (Some(Paths), Some("a"), false, Paths),
    ];
    for (flag, file, is_terminal, expected) in cases {
        let destination = destination(file, is_terminal);
        let found = destination.format(flag, Jsonl, Format::RECORD_SUFFIXES, &quiet());
        assert_eq!(found.unwrap(), expected, "{flag:?} {file:?}");
    }
}

#[test]
fn a_suffix_of_another_format_is_refused_without_a_flag() {
    for (file, hint) in [
        ("a.xlsx", "(Excel opens .csv written with --bom), or"),
        (
            "a.parquet",
            "ends in .json, .jsonl, .ndjson, .csv or .tsv, or",
        ),
        ("a.2026", "cannot be written as .2026"),
    ] {
        let destination = destination(Some(file), false);
        let refused = destination.format(None, Format::Jsonl, Format::SUFFIXES, &quiet());
        let message = refused.unwrap_err().to_string();
        assert!(message.contains(hint), "{message}");
    }
}

#[test]
fn only_a_suffix_of_data_contradicts_a_flag() {
    let cases = [
        ("a.csv", Format::Csv, false),
        ("a.csv", Format::Tsv, true),
        ("a.parquet", Format::Csv, true),
        ("a.2026", Format::Csv, false),
        ("a", Format::Csv, false),
        ("a.json", Format::LabelStudio, false),
        ("a.jsonl", Format::LabelStudio, true),
    ];
    for (file, flag, expected) in cases {
        let said = suffix::of(Path::new(file), Format::SUFFIXES);
        assert_eq!(contradicts(flag, &said), expected, "{file} {flag:?}");
    }
}

#[test]
fn outputs_with_one_format_refuse_the_suffix_of_another() {
    let check = |file: &str| check_suffix(Path::new(file), &["html", "htm"], "an HTML page");
    for file in ["a.html", "a.HTM", "a", "a.page"] {
        assert!(check(file).is_ok(), "{file}");
    }
    assert_eq!(
        check("a.csv").unwrap_err().to_string(),
        "a.csv would contain an HTML page; name a file that ends in .html or .htm"
    );
}
