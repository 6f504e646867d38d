//! What is printed on stderr, and what is not.

use crate::room::Room;
use crate::small;

const ARGUMENTS: [&str; 4] = ["a.png", "-l", "cat", "dog"];

fn room() -> Room {
    Room::with(&["a.png"])
}

#[test]
fn quiet_prints_only_errors() {
    let room = room();
    room.broken("b.png");
    let ran = room
        .classify(&[&["-q"], &ARGUMENTS[..]].concat())
        .ends_with(0);
    assert_eq!(ran.stderr(), "");
    let ran = room
        .classify(&[&["--quiet", "b.png"], &ARGUMENTS[..]].concat())
        .ends_with(1);
    assert_eq!(ran.stderr().lines().count(), 1);
    assert!(ran.stderr().starts_with("b.png: "));
    let ran = room.classify(&["-q", "a.png", "-l", "cat"]).ends_with(2);
    assert!(ran.stderr().starts_with("error: "));
}

#[test]
fn verbose_names_model_activation_device_and_precision() {
    let room = room();
    let verbose = |more: &[&str]| {
        room.classify(&[more, &["-v"], &ARGUMENTS].concat())
            .ends_with(0)
    };
    verbose(&["--precision", "f32", "-j", "2", "--device", "cpu"]).says(&[
        &format!("model: {}, ViT-64x2/16@64px", small::model()),
        "248 tokens of context, hugging-face names in a safetensors file",
        &format!("file: {}", small::model()),
        "activation: quick_gelu (the file's own header)",
        "device: cpu in f32 (as requested), 2 threads",
        "model ready after ",
    ]);
    verbose(&["--activation", "gelu"]).says(&["activation: gelu (--activation)"]);
    verbose(&["--precision", "int8"]).says(&["device: cpu in int8 (as requested),"]);
    // `auto` is always printed as its choice, with the reason.
    let auto = verbose(&[]);
    assert!(
        [
            "cpu in f32 (auto: this CPU does not",
            "cpu in bf16 (auto: this CPU computes",
        ]
        .iter()
        .any(|line| auto.stderr().contains(line))
    );
    assert_eq!(auto.out, room.classify(&ARGUMENTS).out);
}

#[test]
fn one_skipped_file_is_singular() {
    let room = Room::with(&["p/a.png"]);
    room.file("p/notes.txt", "x");
    let ran = room.classify(&["p", "-v", "-l", "x", "y"]).ends_with(0);
    ran.says(&["skipped 1 file that is not an image"]);
}

#[test]
fn the_activation_changes_the_numbers() {
    let room = room();
    let with = |name| {
        room.classify(&[&["--activation", name], &ARGUMENTS[..]].concat())
            .out
    };
    assert_eq!(with("quick_gelu"), room.classify(&ARGUMENTS).out);
    assert_ne!(with("gelu"), with("quick_gelu"));
}

#[test]
fn colours_come_when_asked_for_and_on_terminals_only() {
    let room = room();
    let table = [&ARGUMENTS[..], &["-f", "table"]].concat();
    let run = |more: &[&str], variables: &[(&str, &str)]| {
        // The built-in model, for its note on stderr.
        let arguments = [&["classify", "-m", "tiny"], &table[..], more].concat();
        let ran = room.longclip(&arguments, variables).ends_with(0);
        [&ran.out, ran.stderr()].map(|text| text.contains('\u{1b}'))
    };
    assert_eq!(run(&[], &[]), [false, false]);
    assert_eq!(run(&["--color", "auto"], &[]), [false, false]);
    assert_eq!(run(&["--color", "never"], &[]), [false, false]);
    assert_eq!(run(&["--color", "always"], &[]), [true, true]);
    assert_eq!(
        run(&["--color", "never"], &[("CLICOLOR_FORCE", "1")]),
        [false, false]
    );
    assert_eq!(run(&[], &[("NO_COLOR", "1")]), [false, false]);
    // A flag takes precedence over the environment.
    assert_eq!(
        run(&["--color", "always"], &[("NO_COLOR", "1")]),
        [true, true]
    );
}

#[test]
fn formats_for_programs_never_have_colours() {
    let room = room();
    for format in ["jsonl", "json", "csv", "tsv"] {
        let more = ["-f", format, "--color", "always"];
        let ran = room
            .classify(&[&ARGUMENTS[..], &more].concat())
            .ends_with(0);
        assert!(!ran.out.contains('\u{1b}'), "{format}");
    }
}

#[test]
fn file_names_cannot_control_the_terminal() {
    let room = Room::new();
    let name = "a\u{1b}[2J\u{9b}1m.png";
    let ran = room
        .classify(&[name, "-l", "x", "y", "-f", "table"])
        .ends_with(2);
    for text in [&ran.out, ran.stderr()] {
        assert!(
            !text.contains('\u{1b}') && !text.contains('\u{9b}'),
            "{text:?}"
        );
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    let room = Room::new();
    let help = room.longclip(&["classify", "--help"], &[]).ends_with(0);
    for flag in [
        "--labels",
        "--labels-file",
        "--template",
        "--templates",
        "--model",
        "--device",
        "--precision",
        "--max-pixels",
        "--max-memory",
        "--activation",
        "--no-orient",
        "--alpha",
        "--strict",
        "--fast-decode",
        "--score",
        "--none-label",
        "--top-k",
        "--threshold",
        "--format",
        "--output",
        "--batch-size",
        "--threads",
        "--long-text",
        "--files-from",
        "--null",
        "--quiet",
        "--verbose",
        "--color",
    ] {
        assert!(help.out.contains(flag), "{flag}");
    }
    for code in [
        "0 every image",
        "1 some failed",
        "2 could not run",
        "75 temporary failure",
        "130 or 143",
    ] {
        assert!(help.out.replace("\n", " ").contains(code), "{code}");
    }
    assert_eq!(help.stderr(), "");
    let version = room.longclip(&["--version"], &[]).ends_with(0);
    assert_eq!(
        version.out,
        format!("longclip {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert!(
        room.longclip(&["--help"], &[])
            .ends_with(0)
            .out
            .contains("classify")
    );
}
