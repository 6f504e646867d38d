//! Processes that write parts are stopped and killed at any moment: nothing is lost or done twice.

use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::parts::{LABELS, bytes, merge, names, room};
use crate::room::Room;
use crate::running::Running;
use crate::small;

#[cfg(unix)]
#[test]
fn a_signal_drops_the_part_in_progress_and_keeps_the_others() {
    let room = room();
    let mut command = room.command();
    command.args(["classify", "-m", small::model(), "--files-from", "-"]);
    command
        .args(LABELS)
        .args(["-o", "parts/", "--part-size", "2"]);
    let mut running = Running::start(command);
    running.write(b"p/a.png\np/b.png\np/c.png\n");
    let first = room.path("parts/part-000000.json");
    while !first.exists() {
        sleep(Duration::from_millis(5));
    }
    // The list stays open, and the second unit is not full.
    running.signal("TERM");
    let (code, said) = running.end();
    assert_eq!(code, Some(143), "{said}");
    assert!(
        said.contains("stopped; 1 part of this share in parts/ stay"),
        "{said}"
    );
    let names = names(&room, "parts");
    assert_eq!(names, ["part-000000.json", "part-000000.jsonl", "run.json"]);
}

/// Processes of all shares at once.
fn start(room: &Room, arguments: &[&str], count: u64) -> Vec<Child> {
    let start = |index: u64| {
        let mut command = room.command();
        command
            .args(arguments)
            .arg("--shard")
            .arg(format!("{index}/{count}"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    (0..count).map(start).collect()
}

#[test]
fn killed_shares_lose_nothing() {
    let names: Vec<String> = (0..40).map(|index| format!("p/{index:02}.png")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let room = Room::with(&names);
    room.broken("p/17.png");
    let embed = ["embed", "-m", small::model(), "p", "-f", "npy"];
    let classify = [&["classify", "-m", small::model(), "p"], &LABELS[..]].concat();
    let whole = room.longclip(&classify, &[]).ends_with(1).out;
    room.longclip(&[&embed[..4], &["-o", "whole.npy"]].concat(), &[])
        .ends_with(1);
    for (command, folder) in [(&classify[..], "lines/"), (&embed, "rows/")] {
        let arguments = [command, &["-o", folder, "--part-size", "3", "-j", "1"]].concat();
        // Every moment of a run, from its start on: first all at once, then with two processes for
        // each share.
        for round in 0..12 {
            let mut children = start(&room, &arguments, 2);
            if round > 6 {
                children.extend(start(&room, &arguments, 2));
            }
            sleep(Duration::from_millis(15 + 25 * round));
            for child in &mut children {
                child.kill().unwrap();
                child.wait().unwrap();
            }
        }
        let mut children = start(&room, &arguments, 3);
        children.extend(start(&room, &arguments, 3));
        for child in &mut children {
            let status = child.wait().unwrap();
            assert!(matches!(status.code(), Some(0 | 1)), "{status}");
        }
    }
    assert_eq!(merge(&room, &["lines"], 0).out, whole);
    merge(&room, &["rows", "-o", "joined.npy"], 0);
    for ending in [".npy", ".paths.jsonl", ".npy.errors.jsonl"] {
        let [whole, joined] =
            ["whole", "joined"].map(|name| bytes(&room, &(name.to_owned() + ending)));
        assert_eq!(whole, joined, "{ending}");
    }
}
