//! Completions, manual pages, and hints for common mistakes.

use std::process::{Command, Stdio};

use crate::room::{Room, png};
use crate::small;

/// Whether a program is installed.
fn has(program: &str) -> bool {
    let version = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    version.is_ok()
}

/// What `program` says on stderr when it reads this file.
fn said(program: &str, arguments: &[&str], file: &std::path::Path) -> String {
    let output = Command::new(program).args(arguments).arg(file).output();
    String::from_utf8(output.unwrap().stderr).unwrap()
}

#[test]
fn each_shell_gets_a_script_that_knows_the_flags() {
    let room = Room::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = room.longclip(&["completions", shell], &[]).ends_with(0).out;
        for word in ["classify", "labels-file", "undo"] {
            assert!(script.contains(word), "{shell} {word}");
        }
        let checker = match shell {
            "bash" | "zsh" => "-n",
            "fish" => "--no-execute",
            _ => continue,
        };
        if has(shell) {
            room.file(shell, script);
            assert_eq!(said(shell, &[checker], &room.path(shell)), "", "{shell}");
        }
    }
    room.longclip(&["completions", "dos"], &[]).ends_with(2);
}

#[test]
fn every_command_has_a_manual_page() {
    let room = Room::new();
    let ran = room.longclip(&["man", "--out", "man1"], &[]).ends_with(0);
    assert_eq!(ran.out, "");
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(room.path("man1")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let page = std::fs::read_to_string(&path).unwrap();
        assert!(page.is_ascii() && page.contains("\nExamples:"), "{name}");
        if has("groff") {
            assert_eq!(said("groff", &["-man", "-ww", "-z"], &path), "", "{name}");
        }
        pages.push(name);
    }
    for name in [
        "longclip.1",
        "longclip-classify.1",
        "longclip-models-pull.1",
    ] {
        assert!(pages.iter().any(|page| page == name), "{name} in {pages:?}");
    }
    let one = room
        .longclip(&["man", "models", "pull"], &[])
        .ends_with(0)
        .out;
    assert_eq!(one, room.read("man1/longclip-models-pull.1"));
    room.longclip(&["man", "models", "push"], &[])
        .ends_with(2)
        .says(&["there is no command \"models push\""]);
}

#[test]
fn an_image_without_a_subcommand_gets_a_hint() {
    let room = Room::with(&["c.png"]);
    let ran = room.longclip(&["c.png", "-l", "cat"], &[]).ends_with(2);
    ran.says(&["tip: to classify images: longclip classify c.png --labels"]);
}

#[test]
fn addresses_and_patterns_are_told_apart_from_missing_files() {
    let room = Room::new();
    for (image, hint) in [
        (
            "https://example.org/a.png",
            "this is a URL; download the image first",
        ),
        (
            "photos/*.jpg",
            "this is a pattern that the shell did not expand",
        ),
    ] {
        let ran = room.classify(&[image, "-l", "cat", "dog"]).ends_with(2);
        let error = ran.record()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(hint), "{error}");
    }
}

#[test]
fn a_dash_is_stdout_and_a_suffix_names_the_format() {
    let room = Room::with(&["a.png"]);
    let classify = |more: &[&str]| {
        let arguments = [more, &["a.png", "-l", "cat", "dog"]].concat();
        room.classify(&arguments).ends_with(0).out
    };
    let plain = classify(&[]);
    assert_eq!(classify(&["-o", "-"]), plain);
    assert_eq!(room.names(), ["a.png"]);
    for (file, format) in [
        ("r.csv", "csv"),
        ("r.TSV", "tsv"),
        ("r.json", "json"),
        ("r.ndjson", "jsonl"),
        ("r.txt", "jsonl"),
    ] {
        assert_eq!(classify(&["-o", file]), "");
        assert_eq!(room.read(file), classify(&["-f", format]), "{file}");
    }
    classify(&["-o", "x.csv", "-f", "jsonl"]);
    assert_eq!(room.read("x.csv"), plain);
}

#[test]
fn a_variable_that_is_empty_is_not_set() {
    let room = Room::new();
    room.file("a.png", png("a"));
    let arguments = small::question();
    let empty = [("LONGCLIP_THREADS", ""), ("LONGCLIP_CACHE", "")];
    let ran = room.longclip(&arguments, &empty).ends_with(0);
    assert_eq!(ran.out, room.longclip(&arguments, &[]).ends_with(0).out);
    assert_eq!(room.names(), ["a.png"]);
    // The default model is used, not one with an empty name.
    let offline = [("LONGCLIP_MODEL", ""), ("HF_HUB_OFFLINE", "1")];
    let ran = room.longclip(&["classify", "a.png", "-l", "cat", "dog"], &offline);
    ran.ends_with(2).says(&["longclip-b"]);
}
