//! `--resume` computes only what is new, and the file equals that of an undisturbed run, to the
//! byte, also after any kill.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use super::{OUTPUTS, contents, embed, small};
use crate::room::{Room, png};
use crate::running::Running;

fn set_age(room: &Room, name: &str, seconds: u64) {
    let file = fs::File::options()
        .append(true)
        .open(room.path(name))
        .unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds))
        .unwrap();
}

/// Waits until a row is there: the header alone is shorter.
fn wait_for_bytes(room: &Room, name: &str, bytes: u64) {
    while fs::metadata(room.path(name)).map_or(0, |metadata| metadata.len()) < bytes {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn only_what_has_changed_is_computed() {
    for output in OUTPUTS {
        let room = Room::with(&["p/a.png", "p/b.png", "p/c.png"]);
        room.broken("p/d.png");
        embed(&room, &["p", "-o", output]).ends_with(1);
        // Another image, a replaced image of the same name, and one that is complete now.
        room.image("p/aa.png");
        room.file("p/b.png", png("other"));
        room.image("p/d.png");
        fs::remove_file(room.path("p/c.png")).unwrap();
        let ran = embed(&room, &["p", "-o", output, "--resume", "-v"]).ends_with(0);
        assert!(
            ran.stderr().contains("3 rows of earlier runs"),
            "{}",
            ran.stderr()
        );
        let resumed = contents(&room, "o.");
        for (name, _) in &resumed {
            fs::remove_file(room.path(format!("o.{name}"))).unwrap();
        }
        embed(&room, &["p", "-o", output]).ends_with(0);
        assert!(contents(&room, "o.") == resumed, "{output}");
    }
}

#[test]
fn an_unchanged_file_is_not_even_decoded() {
    let room = Room::with(&["a.png", "b.png"]);
    set_age(&room, "a.png", 1000);
    embed(&room, &["a.png", "b.png", "-o", "o.npy"]).ends_with(0);
    let before = contents(&room, "o.");
    // Same size and time, but not an image any more: only reading it would show that.
    let length = fs::metadata(room.path("a.png")).unwrap().len() as usize;
    let time = fs::metadata(room.path("a.png"))
        .unwrap()
        .modified()
        .unwrap();
    room.file("a.png", vec![0; length]);
    let file = fs::File::options()
        .append(true)
        .open(room.path("a.png"))
        .unwrap();
    file.set_modified(time).unwrap();
    embed(&room, &["a.png", "b.png", "-o", "o.npy", "--resume"]).ends_with(0);
    assert!(contents(&room, "o.") == before);
    set_age(&room, "a.png", 999);
    embed(&room, &["a.png", "b.png", "-o", "o.npy", "--resume"]).ends_with(1);
}

#[test]
fn other_models_and_settings_are_refused() {
    for output in OUTPUTS {
        let room = Room::with(&["a.png"]);
        embed(&room, &["a.png", "-o", output]).ends_with(0);
        let before = contents(&room, "o.");
        for (arguments, message) in [
            (&["a.png", "--alpha", "black"][..], "alpha=white"),
            (&["a.png", "--precision", "int8"], "precision: "),
            (&["--text", "x"][..], "kind: images and texts"),
        ] {
            let all = [arguments, &["-o", output, "--resume"]].concat();
            embed(&room, &all)
                .ends_with(2)
                .says(&["cannot resume", message, "drop --resume"]);
            let _ = fs::remove_file(room.path(format!("{output}.partial")));
            assert!(contents(&room, "o.") == before, "{output}");
        }
    }
}

#[test]
fn a_journal_of_other_settings_is_refused_and_a_new_run_replaces_it() {
    let room = Room::with(&["a.png"]);
    let mut command = room.command();
    command.args([
        "embed",
        "-m",
        small::model(),
        "--files-from",
        "-",
        "-o",
        "o.npy",
    ]);
    let mut running = Running::start(command);
    running.write(b"a.png\n");
    let journal = room.path("o.npy.partial");
    wait_for_bytes(&room, "o.npy.partial", 600);
    // Another run must wait.
    embed(&room, &["a.png", "-o", "o.npy"])
        .ends_with(75)
        .says(&["another run is writing"]);
    running.signal("INT");
    let (code, said) = running.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("o.npy.partial; pass --resume"), "{said}");
    assert_eq!(room.names(), ["a.png", "o.npy.partial"]);
    embed(&room, &["a.png", "-o", "o.npy", "--resume", "--no-orient"])
        .ends_with(2)
        .says(&["cannot resume: o.npy.partial", "orient=yes"]);
    assert!(journal.exists());
    let ran = embed(&room, &["a.png", "-o", "o.npy", "--resume", "-v"]).ends_with(0);
    assert!(
        ran.stderr().contains("1 rows of earlier runs"),
        "{}",
        ran.stderr()
    );
    assert!(!journal.exists());
    fs::write(&journal, b"LCEMBED1").unwrap();
    embed(&room, &["a.png", "-o", "o.npy"])
        .ends_with(0)
        .says(&["replacing", "--resume"]);
    fs::write(&journal, b"something else").unwrap();
    embed(&room, &["a.png", "-o", "o.npy", "--resume"])
        .ends_with(2)
        .says(&["not a journal"]);
}

#[test]
fn texts_resume_as_well() {
    for output in OUTPUTS {
        let room = Room::new();
        room.file("t.txt", "a cat\na dog\n");
        embed(&room, &["--texts", "t.txt", "-o", output]).ends_with(0);
        room.file("t.txt", "a bird\na dog\na cat\na dog\n");
        let ran = embed(&room, &["--texts", "t.txt", "-o", output, "--resume", "-v"]).ends_with(0);
        assert!(
            ran.stderr().contains("2 rows of earlier runs"),
            "{}",
            ran.stderr()
        );
        let resumed = contents(&room, "o.");
        embed(&room, &["--texts", "t.txt", "-o", output]).ends_with(0);
        assert!(contents(&room, "o.") == resumed, "{output}");
    }
}

#[test]
fn numbers_and_names_of_two_runs_are_reunited() {
    let room = Room::with(&["a.png", "b.png"]);
    embed(&room, &["a.png", "-o", "o.npy"]).ends_with(0);
    let old = fs::read(room.path("o.npy")).unwrap();
    embed(&room, &["b.png", "a.png", "-o", "o.npy"]).ends_with(0);
    let whole = contents(&room, "o.");
    // What a kill between the two renames leaves: the new names and the old numbers …
    fs::write(room.path("o.npy"), old).unwrap();
    super::search(&room, &["o.npy", "x"])
        .ends_with(2)
        .says(&["do not belong together", "--resume"]);
    embed(&room, &["b.png", "a.png", "-o", "o.npy", "--resume"])
        .ends_with(2)
        .says(&["do not belong together"]);
    // … and the journal, which has everything.
    let mut command = room.command();
    command.args([
        "embed",
        "-m",
        small::model(),
        "--files-from",
        "-",
        "-o",
        "j.npy",
    ]);
    let mut running = Running::start(command);
    running.write(b"b.png\na.png\n");
    wait_for_bytes(&room, "j.npy.partial", 1000);
    running.signal("TERM");
    assert_eq!(running.end().0, Some(143));
    fs::rename(room.path("j.npy.partial"), room.path("o.npy.partial")).unwrap();
    embed(&room, &["b.png", "a.png", "-o", "o.npy", "--resume"])
        .ends_with(0)
        .says(&["do not belong together"]);
    assert!(contents(&room, "o.") == whole);
}

#[test]
fn complete_numbers_are_moved_into_place_after_a_kill() {
    let room = Room::with(&["a.png", "b.png", "c.png"]);
    let all = ["a.png", "b.png", "c.png", "-o", "o.npy"];
    // The old numbers: fewer, or the same number with only one in the middle different.
    for old in [
        &["a.png", "-o", "o.npy"][..],
        &["a.png", "c.png", "c.png", "-o", "o.npy"],
    ] {
        embed(&room, old).ends_with(0);
        let numbers = fs::read(room.path("o.npy")).unwrap();
        embed(&room, &all).ends_with(0);
        let whole = contents(&room, "o.");
        fs::rename(room.path("o.npy"), room.path("o.npy.writing")).unwrap();
        fs::write(room.path("o.npy"), numbers).unwrap();
        let resume = [&all[..], &["--resume", "-v"]].concat();
        let ran = embed(&room, &resume).ends_with(0);
        ran.says(&["completed o.npy", "3 rows of earlier runs"]);
        assert!(contents(&room, "o.") == whole);
    }
}

#[test]
fn a_file_that_is_not_a_journal_is_not_replaced() {
    let room = Room::with(&["a.png"]);
    room.file("o.jsonl.partial", "{\"image\":\"a.png\"}\n");
    let before = contents(&room, "o.");
    embed(&room, &["a.png", "-o", "o.jsonl"])
        .ends_with(2)
        .says(&["o.jsonl.partial exists but was not left by", "move it away"]);
    assert!(contents(&room, "o.") == before);
}

/// Parts of a run that differ each time, but are not purely random.
struct Parts(u64);

impl Parts {
    /// Between nothing and `whole`.
    fn of(&mut self, whole: Duration) -> Duration {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695);
        whole.mul_f64((self.0 >> 33) as f64 / (1u64 << 31) as f64)
    }
}

#[test]
fn killed_at_any_moment_a_run_can_be_finished() {
    let room = Room::new();
    for index in 0..300 {
        let content = png(&format!("{index}"));
        let is_broken = index % 50 == 7;
        room.file(
            format!("p/{index:03}.png"),
            if is_broken { &content[..40] } else { &content },
        );
    }
    let mut parts = Parts(std::process::id().into());
    for output in OUTPUTS {
        let start = |name: &str| {
            let mut command = room.command();
            command.args([
                "embed",
                "-m",
                small::model(),
                "p",
                "-q",
                "--resume",
                "-o",
                name,
            ]);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().unwrap()
        };
        let begun = Instant::now();
        assert_eq!(
            start(&format!("ref_{output}")).wait().unwrap().code(),
            Some(1)
        );
        let whole = begun.elapsed();
        let expected = contents(&room, "ref_");
        let (mut kills, mut tries) = (0, 0);
        loop {
            tries += 1;
            assert!(tries < 200, "{output}: no kill hits a run");
            let mut child = start(&format!("run_{output}"));
            // The last ones may finish, however slow the machine.
            if kills < 12 {
                std::thread::sleep(parts.of(whole));
                let _ = child.kill();
            }
            match child.wait().unwrap().code() {
                None => kills += 1,
                code => {
                    assert_eq!(code, Some(1));
                    let found = contents(&room, "run_");
                    assert!(found == expected, "{output} after {kills} kills");
                    for (name, _) in found {
                        std::fs::remove_file(room.path(format!("run_{name}"))).unwrap();
                    }
                    // Else it had finished before most of the kills: once more from the start.
                    if kills >= 3 {
                        break;
                    }
                }
            }
        }
        for (name, _) in expected {
            std::fs::remove_file(room.path(format!("ref_{name}"))).unwrap();
        }
    }
}
