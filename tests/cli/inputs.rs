//! Which images: files, folders, stdin.

use crate::room::{Room, png};

const LABELS: [&str; 3] = ["--labels", "cat", "dog"];

/// The images of a run over these arguments.
fn images(room: &Room, arguments: &[&str]) -> Vec<String> {
    room.classify(&[arguments, &LABELS].concat())
        .ends_with(0)
        .images()
}

#[test]
fn a_folder_is_walked_in_sorted_order() {
    let room = Room::with(&["p/b.png", "p/a/z.png", "p/a/b/c.png", "p/B.png", "p/c.png"]);
    let expected = ["p/B.png", "p/a/b/c.png", "p/a/z.png", "p/b.png", "p/c.png"];
    assert_eq!(images(&room, &["p"]), expected);
    assert_eq!(images(&room, &["p/"]), expected);
    let here = images(&room, &["."]);
    assert_eq!(here[0], "./p/B.png");
}

#[test]
fn arguments_keep_their_order_and_may_repeat() {
    let room = Room::with(&["a.png", "b.png", "p/c.png"]);
    let given = ["b.png", "p", "a.png", "b.png"];
    assert_eq!(
        images(&room, &given),
        ["b.png", "p/c.png", "a.png", "b.png"]
    );
}

#[test]
fn hidden_entries_of_a_folder_are_skipped() {
    let room = Room::with(&[
        "p/a.png",
        "p/.b.png",
        "p/._a.png",
        "p/.h/c.png",
        ".top/d.png",
    ]);
    assert_eq!(images(&room, &["p"]), ["p/a.png"]);
    // Hidden files are read if named.
    assert_eq!(
        images(&room, &["p/.b.png", ".top"]),
        ["p/.b.png", ".top/d.png"]
    );
}

#[test]
fn ignore_files_have_no_effect() {
    let room = Room::with(&["p/a.png", "p/b.png"]);
    room.file("p/.gitignore", "*.png\n");
    room.file("p/.ignore", "*\n");
    room.file("p/.git/HEAD", "ref: refs/heads/main\n");
    assert_eq!(images(&room, &["p"]), ["p/a.png", "p/b.png"]);
}

#[test]
fn files_in_folders_are_taken_by_extension_or_content() {
    let room = Room::with(&["p/noname", "p/wrong.txt", "p/right.PNG"]);
    room.file("p/notes.txt", "nothing to see");
    room.file("p/table.csv", "a,b\n");
    room.file("p/empty", "");
    assert_eq!(
        images(&room, &["p"]),
        ["p/noname", "p/right.PNG", "p/wrong.txt"]
    );
    let ran = room.classify(&["p", "-v", "-l", "a", "b"]).ends_with(0);
    ran.says(&["skipped 3 files that are not images"]);
    room.file("p/fake.jpg", "no image at all");
    let ran = room.classify(&["p", "-l", "a", "b"]).ends_with(1);
    assert_eq!(ran.images()[0], "p/fake.jpg");
    assert!(ran.records()[0]["error"].is_string());
}

#[test]
fn the_decoder_goes_by_content_and_never_by_extension() {
    let room = Room::with(&["a.png", "a.jpg"]);
    room.file("a.jpg", png("a.png"));
    let records = room
        .classify(&["a.png", "a.jpg", "-l", "x", "y"])
        .ends_with(0)
        .records();
    assert_eq!(records[0]["predictions"], records[1]["predictions"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_loops_are_not() {
    use std::os::unix::fs::symlink;
    let room = Room::with(&["p/a.png", "other/b.png"]);
    symlink(room.path("other/b.png"), room.path("p/link.png")).unwrap();
    symlink(room.path("p"), room.path("p/loop")).unwrap();
    assert_eq!(images(&room, &["p"]), ["p/a.png", "p/link.png"]);
}

#[cfg(unix)]
#[test]
fn a_dangling_link_is_an_error_if_named() {
    use std::os::unix::fs::symlink;
    let room = Room::with(&["a.png"]);
    symlink("gone", room.path("link.png")).unwrap();
    let ran = room
        .classify(&["link.png", "a.png", "-l", "x", "y"])
        .ends_with(1);
    assert_eq!(ran.images(), ["link.png", "a.png"]);
    assert!(
        ran.records()[0]["error"]
            .as_str()
            .unwrap()
            .contains("No such file")
    );
}

#[test]
fn an_unreadable_image_does_not_stop_the_folder() {
    let room = Room::with(&["p/a.png", "p/c.png"]);
    room.broken("p/b.png");
    let ran = room.classify(&[&["p"], &LABELS[..]].concat()).ends_with(1);
    assert_eq!(ran.images(), ["p/a.png", "p/b.png", "p/c.png"]);
    let cause = ran.records()[1]["error"].as_str().unwrap().to_owned();
    assert!(!cause.contains('\n') && !cause.contains("b.png"), "{cause}");
    assert_eq!(ran.stderr(), format!("p/b.png: {cause}\n"));
}

#[test]
fn a_run_that_could_read_nothing_ends_with_2() {
    let room = Room::new();
    room.broken("a.png");
    room.broken("b.png");
    let ran = room.classify(&[&["a.png", "b.png", "c.png"], &LABELS[..]].concat());
    let ran = ran.ends_with(2);
    assert_eq!(ran.images(), ["a.png", "b.png", "c.png"]);
    assert!(
        ran.records()
            .iter()
            .all(|record| record["error"].is_string())
    );
    assert_eq!(ran.stderr().lines().count(), 3);
}

#[test]
fn a_missing_path_gets_a_record() {
    let room = Room::with(&["a.png"]);
    let ran = room
        .classify(&[&["gone.png", "a.png"], &LABELS[..]].concat())
        .ends_with(1);
    assert_eq!(ran.images(), ["gone.png", "a.png"]);
    assert!(
        ran.stderr().starts_with("gone.png: cannot be read: "),
        "{}",
        ran.stderr()
    );
}

#[test]
fn an_empty_folder_is_a_note_not_an_error() {
    let room = Room::new();
    room.file("p/notes.txt", "none");
    let ran = room.classify(&[&["p"], &LABELS[..]].concat()).ends_with(0);
    assert_eq!(ran.out, "");
    assert_eq!(
        ran.stderr(),
        "note: no images found in the list or folders\n"
    );
}

#[test]
fn a_dash_reads_one_image_from_stdin() {
    let room = Room::with(&["a.png", "b.png"]);
    let arguments = [&["b.png", "-", "a.png"], &LABELS[..]].concat();
    let ran = room
        .classify_with_stdin(&arguments, &png("a.png"))
        .ends_with(0);
    assert_eq!(ran.images(), ["b.png", "-", "a.png"]);
    let records = ran.records();
    assert_eq!(records[1]["predictions"], records[2]["predictions"]);
    assert_ne!(records[0]["predictions"], records[1]["predictions"]);
}

#[test]
fn stdin_that_is_not_an_image_gets_a_record() {
    let room = Room::new();
    let ran = room.classify_with_stdin(&[&["-"], &LABELS[..]].concat(), b"");
    let ran = ran.ends_with(2).says(&["-: not an image", "empty file"]);
    assert_eq!(ran.images(), ["-"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_path_that_is_not_utf_8_is_written_exactly_in_image_bytes() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let name = OsStr::from_bytes(b"caf\xe9.png");
    let room = Room::new();
    room.image(name);
    for given in [name, OsStr::new(".")] {
        let arguments = [given, OsStr::new("-l"), OsStr::new("x"), OsStr::new("y")];
        let record = room.classify(&arguments).ends_with(0).record();
        let image = record["image"].as_str().unwrap();
        assert!(image.ends_with("caf\u{fffd}.png"), "{image}");
        let whole = record["image_bytes"].as_str().unwrap();
        // base64 of caf\xe9.png and of ./caf\xe9.png
        assert!(
            ["Y2Fm6S5wbmc=", "Li9jYWbpLnBuZw=="].contains(&whole),
            "{whole}"
        );
        assert!(record["predictions"].is_array());
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_among_the_images_does_not_hang() {
    let room = Room::with(&["p/a.png"]);
    let made = std::process::Command::new("mkfifo")
        .arg(room.path("p/pipe.png"))
        .status();
    assert!(made.unwrap().success());
    assert_eq!(images(&room, &["p"]), ["p/a.png"]);
    let ran = room.classify(&["p/pipe.png", "-l", "x", "y"]).ends_with(2);
    ran.says(&["p/pipe.png: this is a pipe"]);
}
