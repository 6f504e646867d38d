//! `--output`: a file that appears whole or not at all.

use std::fs;

use crate::room::Room;
use crate::small;

const ARGUMENTS: [&str; 4] = ["a.png", "-l", "cat", "dog"];

fn to(output: &str) -> Vec<&str> {
    [&ARGUMENTS[..], &["-o", output]].concat()
}

#[test]
fn a_file_has_the_same_content_as_stdout() {
    let room = Room::with(&["a.png"]);
    let ran = room.classify(&to("out.jsonl")).ends_with(0);
    assert_eq!(ran.out, "");
    assert_eq!(room.read("out.jsonl"), room.classify(&ARGUMENTS).out);
    assert_eq!(room.names(), ["a.png", "out.jsonl"]);
}

#[test]
fn an_old_file_is_replaced_only_by_a_whole_new_one() {
    let room = Room::with(&["a.png"]);
    room.file("out", "old");
    let failing = [&to("out")[..], &["--model", "gone.pt"]].concat();
    let mut command = vec!["classify"];
    command.extend(&failing);
    room.longclip(&command, &[]).ends_with(2);
    assert_eq!(room.read("out"), "old");
    // The label is too long, which is found after the model was opened.
    let label = ["word"; 310].join(" ");
    room.classify(&["a.png", "-l", &label, "x", "-o", "out"])
        .ends_with(2);
    assert_eq!(room.read("out"), "old");
    assert_eq!(room.names(), ["a.png", "out"]);
    room.classify(&to("out")).ends_with(0);
    assert!(room.read("out").starts_with("{\"image\":\"a.png\""));
    assert_eq!(room.names(), ["a.png", "out"]);
}

#[test]
fn nothing_appears_when_the_run_cannot_start() {
    let room = Room::with(&["a.png"]);
    for more in [
        &["--device", "cuda:99"][..],
        &["--files-from", "gone"],
        &["-l", "cat"],
    ] {
        room.classify(&[&to("out")[..], more].concat()).ends_with(2);
        assert_eq!(room.names(), ["a.png"], "{more:?}");
    }
}

#[test]
fn a_run_with_failures_still_writes_all_records() {
    let room = Room::with(&["a.png"]);
    room.broken("b.png");
    let arguments = ["a.png", "b.png", "-l", "x", "y", "-o", "out"];
    room.classify(&arguments).ends_with(1);
    assert_eq!(room.read("out").lines().count(), 2);
    room.classify(&arguments[1..]).ends_with(2);
    assert_eq!(
        room.read("out").lines().count(),
        1,
        "the errors are the answer"
    );
}

#[test]
fn an_output_that_cannot_be_is_an_error_without_a_temporary_name() {
    let room = Room::with(&["a.png", "p/b.png"]);
    let ran = room.classify(&to("gone/out")).ends_with(2);
    assert!(!ran.stderr().contains(".tmp"), "{}", ran.stderr());
    ran.says(&["error: the folder gone of the output gone/out does not exist; create it first"]);
    let ran = room.classify(&to("p")).ends_with(2);
    ran.says(&["the output p is a folder; name a file in it"]);
    assert!(!room.path("gone").exists());
}

#[cfg(unix)]
#[test]
fn a_pipe_or_device_is_written_directly() {
    let room = Room::with(&["a.png"]);
    let expected = room.classify(&ARGUMENTS).out;
    assert_eq!(room.classify(&to("/dev/stdout")).ends_with(0).out, expected);
    room.classify(&to("/dev/null")).ends_with(0);
    let made = std::process::Command::new("mkfifo")
        .arg(room.path("pipe"))
        .status();
    assert!(made.unwrap().success());
    let pipe = room.path("pipe");
    let reader = std::thread::spawn(move || fs::read_to_string(pipe).unwrap());
    room.classify(&to("pipe")).ends_with(0);
    assert_eq!(reader.join().unwrap(), expected);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_worth_retrying() {
    let room = Room::with(&["a.png"]);
    let ran = room.classify(&to("/dev/full")).ends_with(75);
    ran.says(&[
        "error: cannot write the results to /dev/full",
        "No space left",
    ]);
    let mut command = room.command();
    command
        .args(["classify", "-m", small::model()])
        .args(ARGUMENTS);
    command.stdout(fs::File::options().write(true).open("/dev/full").unwrap());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(75));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("error: cannot write the results to stdout"),
        "{said}"
    );
}
