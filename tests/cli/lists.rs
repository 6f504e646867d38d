//! `--files-from`: lists of paths, from files and stdin.

use crate::room::Room;
use crate::running::Running;
use crate::small;

const LABELS: [&str; 3] = ["--labels", "cat", "dog"];

#[test]
fn a_list_is_read_from_a_file_or_stdin() {
    let room = Room::with(&["b.png", "a b.png", "# c.png", " d.png"]);
    let list = "b.png\na b.png\n# c.png\n d.png";
    let expected = ["b.png", "a b.png", "# c.png", " d.png"];
    room.file("list", list);
    let from_file = room.classify(&[&["--files-from", "list"], &LABELS[..]].concat());
    assert_eq!(from_file.ends_with(0).images(), expected);
    let arguments = [&["--files-from", "-"], &LABELS[..]].concat();
    let from_stdin = room.classify_with_stdin(&arguments, list.as_bytes());
    assert_eq!(from_stdin.ends_with(0).images(), expected);
}

#[test]
fn a_list_may_be_separated_by_nul() {
    let room = Room::with(&["b.png", "two\nlines.png"]);
    let arguments = [&["--files-from", "-", "-0"], &LABELS[..]].concat();
    let ran = room
        .classify_with_stdin(&arguments, b"two\nlines.png\0b.png\0")
        .ends_with(0);
    assert_eq!(ran.images(), ["two\nlines.png", "b.png"]);
}

#[test]
fn arguments_come_before_the_list() {
    let room = Room::with(&["a.png", "b.png"]);
    room.file("list", "a.png\n");
    let ran = room.classify(&[&["b.png", "--files-from", "list"], &LABELS[..]].concat());
    assert_eq!(ran.ends_with(0).images(), ["b.png", "a.png"]);
}

#[test]
fn an_empty_list_is_a_note_not_an_error() {
    let room = Room::new();
    room.file("list", "");
    for (format, expected) in [("jsonl", ""), ("json", "[]\n")] {
        let arguments = [&["--files-from", "list", "-f", format], &LABELS[..]].concat();
        let ran = room.classify(&arguments).ends_with(0);
        assert_eq!(ran.out, expected);
        assert!(
            ran.stderr().starts_with("note: no images"),
            "{}",
            ran.stderr()
        );
    }
    let csv = room
        .classify(&["--files-from", "list", "-f", "csv", "-l", "x", "y"])
        .out;
    assert_eq!(csv, "image,label,probability,logit,cosine,rank,error\n");
}

#[test]
fn listed_paths_always_get_a_record() {
    let room = Room::with(&["a.png", "p/b.png"]);
    room.file("notes.txt", "no image");
    room.file("list", "gone.png\n\nnotes.txt\np\na.png\n");
    let ran = room
        .classify(&[&["--files-from", "list"], &LABELS[..]].concat())
        .ends_with(1);
    assert_eq!(
        ran.images(),
        ["gone.png", "list:2", "notes.txt", "p", "a.png"]
    );
    ran.says(&[
        "gone.png: cannot be read",
        "list:2: line 2 is empty",
        "notes.txt: not an image: this looks like text",
        "p: is a folder, but a list names files",
    ]);
}

#[test]
fn a_list_read_with_the_wrong_separator_says_so() {
    let room = Room::with(&["a.png"]);
    let arguments = [&["--files-from", "-"], &LABELS[..]].concat();
    let ran = room
        .classify_with_stdin(&arguments, b"a.png\0b.png\0")
        .ends_with(2);
    ran.says(&["contains a NUL byte; pass -0"]);
}

#[test]
fn a_missing_list_is_an_error() {
    let room = Room::new();
    let ran = room
        .classify(&[&["--files-from", "gone"], &LABELS[..]].concat())
        .ends_with(2);
    assert_eq!(ran.out, "");
    ran.says(&["error: cannot open the list gone", "No such file"]);
}

#[test]
fn a_record_appears_while_the_list_is_still_open() {
    let room = Room::with(&["a.png", "b.png", "c.png"]);
    for more in [
        &[][..],
        &["--batch-size", "8"],
        &["--threads", "1"],
        &["-f", "csv"],
    ] {
        let mut command = room.command();
        command
            .args([
                "classify",
                "-m",
                small::model(),
                "--files-from",
                "-",
                "-l",
                "x",
                "y",
            ])
            .args(more);
        let mut running = Running::start(command);
        let header = more.contains(&"csv").then(|| {
            running.write(b"a.png\n");
            running.line()
        });
        for name in ["a.png", "b.png", "c.png"] {
            if header.is_none() || name != "a.png" {
                running.write(format!("{name}\n").as_bytes());
            }
            assert!(running.line().contains(name), "{more:?}");
            if header.is_some() {
                running.line();
            }
        }
        running.close_stdin();
        assert_eq!(running.end().0, Some(0));
    }
}
