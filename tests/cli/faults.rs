//! Disks that fail, and files in progress after signals and kills: a small part of
//! `tests/reliability`.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use crate::room::{Ran, Room};
use crate::small;

/// The library that fails calls, compiled once.
fn library() -> &'static Path {
    static PATH: OnceLock<std::path::PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reliability/faults.c");
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let made = folder.path().join("faults.so");
        let mut compiler = Command::new("cc");
        compiler
            .args(["-shared", "-fPIC", "-o"])
            .args([&made, &source]);
        assert!(compiler.arg("-ldl").status().unwrap().success());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults.so");
        // Other processes may have it loaded: it is replaced atomically.
        fs::rename(made, &path).unwrap();
        path
    })
}

/// Runs `longclip` with one fault: from the call of this number on, all fail with `errno`.
fn faulty(room: &Room, arguments: &[&str], calls: &str, at: usize, errno: i32) -> Ran {
    let library = library().to_str().unwrap();
    let (at, errno) = (at.to_string(), errno.to_string());
    room.longclip(
        arguments,
        &[
            ("LD_PRELOAD", library),
            ("FAULT_CALLS", calls),
            ("FAULT_AT", &at),
            ("FAULT_ERRNO", &errno),
            ("FAULT_REST", "1"),
        ],
    )
}

const IMAGES: [&str; 4] = ["in/a.png", "in/b.png", "in/c.png", "in/d.png"];
const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const EROFS: i32 = 30;
const EDQUOT: i32 = 122;

fn classify(more: &[&'static str]) -> Vec<&'static str> {
    let mut arguments = vec!["classify", "in", "-m", small::model(), "-l", "cat", "dog"];
    arguments.extend(more);
    arguments
}

#[test]
fn a_disk_that_fails_ends_sorting_at_the_first_image() {
    for (errno, code) in [(ENOSPC, 75), (EDQUOT, 75), (EIO, 75), (EROFS, 2)] {
        for (way, calls) in [("--move", "link"), ("--link", "link"), ("--copy", "fsync")] {
            let room = Room::with(&IMAGES);
            let arguments = classify(&[way, "sorted"]);
            let ran = faulty(&room, &arguments, calls, 2, errno).ends_with(code);
            let said = ran.stderr();
            assert_eq!(said.matches("cannot sort").count(), 1, "{said}");
            let done = said.contains("1 image into sorted; to undo: longclip undo");
            // The sync of a folder comes between those of two copies.
            let none = way == "--copy" && said.contains("0 images into sorted");
            assert!(done || none, "{said}");
            // Once the disk works, the rest is sorted.
            let arguments: Vec<&str> = arguments;
            room.longclip(&arguments, &[]).ends_with(0);
            let left = fs::read_dir(room.path("in")).unwrap().count();
            assert_eq!(left, if way == "--move" { 0 } else { IMAGES.len() });
        }
    }
}

#[test]
fn sorting_ends_if_it_cannot_be_noted_for_undo() {
    let room = Room::with(&IMAGES);
    let arguments = classify(&["--move", "sorted"]);
    let ran = faulty(&room, &arguments, "mkdir", 1, 13).ends_with(2);
    assert_eq!(
        ran.stderr().matches("cannot sort").count(),
        1,
        "{}",
        ran.stderr()
    );
    assert_eq!(fs::read_dir(room.path("in")).unwrap().count(), IMAGES.len());
}

#[test]
fn a_disk_that_fails_is_worth_retrying_and_leaves_the_old_file() {
    for (errno, code) in [(ENOSPC, 75), (EIO, 75), (EROFS, 2)] {
        for calls in ["create", "write", "fsync", "rename"] {
            let room = Room::with(&IMAGES);
            room.file("out.csv", "old");
            let ran = faulty(&room, &classify(&["-o", "out.csv"]), calls, 1, errno);
            ran.ends_with(code).says(&["error: "]);
            assert_eq!(room.read("out.csv"), "old", "{calls}");
            assert_eq!(room.names(), ["in", "out.csv"], "{calls}");
        }
        let room = Room::with(&IMAGES);
        let cached = classify(&["--cache", "cache"]);
        // SQLite does not say why it could not write.
        for (calls, code) in [("create", code), ("mkdir", code), ("write", 75)] {
            let ran = faulty(&room, &cached, calls, 1, errno);
            // A cache that cannot be written is still read.
            assert!(
                [Some(code), Some(0)].contains(&ran.code),
                "{calls} {:?}",
                ran.code
            );
        }
    }
}

/// Converts the small model until a run is caught with a file in progress; ends it with `end`.
fn caught(room: &Room, end: impl Fn(&mut Child)) {
    for _ in 0..100 {
        let mut command = room.command();
        command.args([
            "convert",
            small::model(),
            "out.safetensors",
            "--force",
            "-q",
        ]);
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            if !temporary(room).is_empty() {
                end(&mut child);
                break;
            }
        }
        if child.wait().unwrap().signal().is_some() {
            return;
        }
    }
    panic!("no run is caught");
}

fn temporary(room: &Room) -> Vec<String> {
    let mut names = room.names();
    names.retain(|name| name.ends_with(".tmp"));
    names
}

#[test]
fn a_signal_removes_a_file_in_progress() {
    for signal in ["TERM", "INT", "HUP"] {
        let room = Room::new();
        caught(&room, |child| {
            let kill = format!("kill -{signal} {}", child.id());
            Command::new("sh").args(["-c", &kill]).status().unwrap();
        });
        assert_eq!(temporary(&room), [""; 0], "{signal}");
    }
}

#[test]
fn a_file_in_progress_of_a_killed_run_is_removed_by_the_next_one() {
    let room = Room::new();
    caught(&room, |child| child.kill().unwrap());
    let left = temporary(&room);
    assert_eq!(left.len(), 1);
    // Another target says nothing about it.
    let convert = |target| ["convert", small::model(), target, "--force", "-q"];
    room.longclip(&convert("other.safetensors"), &[])
        .ends_with(0);
    assert_eq!(temporary(&room), left);
    room.longclip(&convert("out.safetensors"), &[]).ends_with(0);
    assert_eq!(temporary(&room), [""; 0]);
}
