//! Pipes that close and signals that come in the middle of a run.

use std::process::Command;

use crate::room::Room;
use crate::running::Running;
use crate::small;

/// A run over a list that stays open.
fn listed(room: &Room, more: &[&str]) -> Running {
    let mut command: Command = room.command();
    command
        .args([
            "classify",
            "-m",
            small::model(),
            "-l",
            "cat",
            "dog",
            "--files-from",
            "-",
        ])
        .args(more);
    Running::start(command)
}

#[test]
fn a_reader_that_goes_away_ends_the_run_quietly() {
    let room = Room::with(&["a.png"]);
    // Far more than a pipe holds.
    room.file("list", "a.png\n".repeat(3000));
    for format in ["jsonl", "json", "csv", "table"] {
        let mut command = room.command();
        command.args([
            "classify",
            "-q",
            "-m",
            small::model(),
            "--files-from",
            "list",
            "-f",
            format,
        ]);
        command.args([
            "-l",
            "cat",
            "dog",
            "a red bus on a bridge",
            "snow",
            "the sea at night",
        ]);
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut first = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{format}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{format}");
    }
}

#[cfg(unix)]
#[test]
fn a_signal_ends_a_run_after_what_was_complete() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let room = Room::with(&["a.png", "b.png"]);
        let mut running = listed(&room, &[]);
        running.write(b"a.png\nb.png\na.png\n");
        let mut lines: Vec<String> = (0..3).map(|_| running.line()).collect();
        running.signal(signal);
        let (found, said) = running.end();
        assert_eq!(found, Some(code), "{said}");
        lines.extend(running.rest());
        let images = crate::room::images(&crate::room::records(&lines.join("\n")));
        assert_eq!(images, ["a.png", "b.png", "a.png"]);
    }
}

#[cfg(unix)]
#[test]
fn a_stopped_json_array_is_still_valid() {
    let room = Room::with(&["a.png"]);
    let mut running = listed(&room, &["-f", "json"]);
    running.write(b"a.png\na.png\n");
    // The bracket and the first record; the end of the second one's line comes with what follows.
    let mut lines: Vec<String> = (0..2).map(|_| running.line()).collect();
    running.signal("INT");
    assert_eq!(running.end().0, Some(130));
    lines.extend(running.rest());
    let array: Vec<serde_json::Value> = serde_json::from_str(&lines.join("\n")).unwrap();
    assert_eq!(array.len(), 2);
}

#[cfg(unix)]
#[test]
fn an_abort_that_another_program_asks_for_ends_the_run() {
    let room = Room::with(&["a.png"]);
    let mut running = listed(&room, &[]);
    running.write(b"a.png\n");
    running.line();
    running.signal("ABRT");
    assert_eq!(running.end().0, None);
}

#[cfg(unix)]
#[test]
fn a_stopped_run_keeps_its_output_as_partial() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let room = Room::with(&["a.png"]);
        room.file("out", "old");
        let mut running = listed(&room, &["-o", "out"]);
        running.write(b"a.png\na.png\na.png\n");
        let temporary = || {
            let names = room.names().into_iter();
            let mut content = names
                .filter(|name| name.ends_with(".tmp"))
                .map(|name| room.read(&name));
            content.next_back().unwrap_or_default()
        };
        while temporary().lines().count() < 3 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        running.signal(signal);
        let (found, said) = running.end();
        assert_eq!(found, Some(code), "{said}");
        assert!(
            said.contains("the results so far are in out.partial"),
            "{said}"
        );
        assert_eq!(room.names(), ["a.png", "out", "out.partial"]);
        assert_eq!(room.read("out"), "old");
        assert_eq!(crate::room::records(&room.read("out.partial")).len(), 3);
    }
}

#[cfg(unix)]
#[test]
fn a_signal_under_load_leaves_whole_records_in_order() {
    let names: Vec<String> = (0..40).map(|index| format!("{index:02}.png")).collect();
    let room = Room::with(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let list: String = names.iter().map(|name| format!("{name}\n")).collect();
    let mut running = listed(&room, &["--batch-size", "4"]);
    running.write(list.repeat(20).as_bytes());
    let mut lines = vec![running.line()];
    running.signal("TERM");
    assert_eq!(running.end().0, Some(143));
    lines.extend(running.rest());
    let images = crate::room::images(&crate::room::records(&lines.join("\n")));
    let expected = names.iter().cycle().take(images.len());
    assert!(images.iter().eq(expected), "{images:?}");
}

#[cfg(unix)]
#[test]
fn one_signal_ends_a_download_at_once() {
    use std::net::TcpListener;
    // A hub that accepts and never answers.
    let hub = TcpListener::bind("127.0.0.1:0").unwrap();
    let room = Room::with(&["a.png"]);
    let mut command = room.command();
    command.args(["classify", "a.png", "-l", "x", "y", "-o", "out"]);
    command.env(
        "HF_ENDPOINT",
        format!("http://{}", hub.local_addr().unwrap()),
    );
    let mut running = Running::start(command);
    let connection = hub.accept().unwrap();
    running.signal("INT");
    // Killed by the signal itself, which a shell shows as 130.
    assert_eq!(running.end().0, None);
    drop(connection);
    assert!(!room.names().iter().any(|name| name.contains("out")));
}

#[test]
fn a_signal_ends_the_wait_for_an_image_on_stdin() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let room = Room::new();
        let mut command = room.command();
        command.args(["classify", "-", "-m", small::model(), "-l", "cat", "dog"]);
        let mut running = Running::start(command);
        running.write(b"\x89PNG");
        std::thread::sleep(std::time::Duration::from_millis(500));
        running.signal(signal);
        // Stdin stays open until the end is seen.
        assert_eq!(running.rest(), [""; 0]);
        // On a slow machine the signal may come while the model loads and end the process itself.
        let ended = running.end().0;
        assert!(
            ended.is_none() || ended == Some(code),
            "{signal}: {ended:?}"
        );
    }
}
