//! Inputs without an end: pipes that nobody writes to, devices, lines and texts of any length. Each
//! is refused, or read up to a limit.
#![cfg(unix)]

use std::fs::{self, File};
use std::process::Stdio;
use std::thread;

use crate::room::{Ran, Room};
use crate::small;

/// Each way in for a file, with `@` for its name; those that need a whole regular file first.
const WAYS: &[&str] = &[
    "inspect @",
    "undo @",
    "convert @ out.safetensors",
    "classify a.png -l cat dog -m @",
    "classify a.png -m tiny --probe @",
    "search @.npy cat",
    "search @.safetensors cat",
    "search @.parquet cat",
    "finetune @.tar -m tiny --out run",
    "classify a.png -m tiny --labels-file @",
    "classify a.png -m tiny -l cat dog --templates @",
    "classify a.png -m tiny -l cat --background-file @",
    "classify a.png -m tiny -l cat dog --calibration @",
    "embed -m tiny -o o.npy --texts @",
    "tokens --file @",
    "classify -m tiny -l cat dog --files-from @",
    "evaluate @.csv -m tiny -l cat dog",
    "evaluate @.json -m tiny -l cat dog",
    "finetune @.json -m tiny --out run",
    "finetune @.csv -m tiny --out run",
];

/// Runs all ways with `make`d files in the place of `@`, side by side: each may wait for seconds.
fn every_way(make: impl Fn(&Room, &str) + Sync, check: impl Fn(&str, Ran) + Sync) {
    thread::scope(|scope| {
        for way in WAYS {
            let (make, check) = (&make, &check);
            scope.spawn(move || {
                let room = Room::with(&["a.png"]);
                let line = way.replace('@', "odd");
                let arguments: Vec<&str> = line.split(' ').collect();
                let name = arguments.iter().find(|part| part.starts_with("odd"));
                make(&room, name.unwrap());
                check(way, room.longclip(&arguments, &[]));
            });
        }
    });
}

fn pipe(room: &Room, name: &str) {
    let made = std::process::Command::new("mkfifo")
        .arg(room.path(name))
        .status();
    assert!(made.unwrap().success());
}

#[test]
fn a_pipe_that_nobody_writes_to_is_not_waited_for() {
    every_way(pipe, |way, ran| {
        // What inspect finds is its result.
        let said = format!("{}{}", ran.out, ran.stderr());
        assert!(matches!(ran.code, Some(1 | 2)), "{way}: {said}");
        assert!(said.contains("pipe"), "{way}: {said}");
    });
}

#[test]
fn a_device_without_an_end_is_refused_or_read_to_a_limit() {
    let link = |room: &Room, name: &str| {
        std::os::unix::fs::symlink("/dev/zero", room.path(name)).unwrap();
    };
    every_way(link, |way, ran| {
        assert!(matches!(ran.code, Some(1 | 2)), "{way}: {}", ran.stderr());
        assert!(ran.stderr().len() < 4000, "{way}: {}", ran.stderr());
    });
}

#[test]
fn images_on_stdin_have_an_end() {
    let room = Room::with(&["a.png"]);
    room.file("rows.npy", "");
    for arguments in [
        "classify - -m tiny -l cat dog",
        "embed - -m tiny -o o.npy",
        "classify -m tiny -l cat dog --files-from -",
        "classify a.png -m tiny --labels-file -",
    ] {
        let mut command = room.command();
        command
            .args(arguments.split(' '))
            .stdin(Stdio::from(File::open("/dev/zero").unwrap()));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}");
    }
}

#[test]
fn a_pipe_with_a_writer_is_read() {
    let room = Room::with(&["a.png"]);
    pipe(&room, "labels");
    let writer = room.path("labels");
    let arguments = ["a.png", "--labels-file", "labels"];
    thread::scope(|scope| {
        scope.spawn(|| fs::write(writer, "cat\ndog\n").unwrap());
        let record = room.classify(&arguments).ends_with(0).record();
        assert_eq!(record["predictions"].as_array().unwrap().len(), 2);
    });
    // What a shell's <(…) and a redirection name.
    for name in ["/dev/stdin", "/dev/fd/0"] {
        let arguments = ["a.png", "--labels-file", name];
        let ran = room.classify_with_stdin(&arguments, b"cat\ndog\nbird\n");
        assert_eq!(
            ran.ends_with(0).record()["predictions"]
                .as_array()
                .unwrap()
                .len(),
            3
        );
    }
}

#[test]
fn texts_are_measured_before_they_are_read() {
    let room = Room::with(&["a.png"]);
    room.file("long.txt", format!("cat\n{}\n", "dog ".repeat(500_000)));
    room.file("places.txt", format!("a{}\n", " {}".repeat(10_000)));
    let label = "a very long label ".repeat(10);
    room.file(
        "words.txt",
        (0..60_000).map(|n| format!("w{n} ")).collect::<String>(),
    );
    for (arguments, words) in [
        (
            &["--labels-file", "long.txt"][..],
            "1999999 bytes, too many for one text",
        ),
        (
            &["-l", "cat", "--background-file", "long.txt"],
            "too many for one text",
        ),
        (
            &["-l", &label, "cat", "--templates", "places.txt"],
            "10000 placeholders",
        ),
    ] {
        let arguments = [&["a.png", "--long-text", "truncate"][..], arguments].concat();
        let ran = room.classify(&arguments).ends_with(2).says(&[words]);
        assert!(ran.stderr().len() < 1000, "{}", ran.stderr());
    }
    let long = ["--long-text", "slide", "--stride", "1"];
    let texts = [
        "embed",
        "-m",
        small::model(),
        "-o",
        "o.npy",
        "--texts",
        "words.txt",
    ];
    room.longclip(&[&texts[..], &long].concat(), &[])
        .ends_with(2)
        .says(&["chunks; use a larger --stride"]);
}
