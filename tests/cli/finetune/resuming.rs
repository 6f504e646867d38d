//! However a run ends, the next one resumes it, with bit-identical results.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{command, finetune, room, timeless, weights};
use crate::room::{LIMIT, Room};
use crate::running::Running;

const RUN: [&str; 6] = [
    "pairs.jsonl",
    "--epochs",
    "4",
    "--augment",
    "crop,flip",
    "--resume",
];

/// The arguments of a run that is saved often.
fn arguments(run: &str) -> Vec<&str> {
    [&RUN[..], &["--save-every", "2", "--out", run]].concat()
}

/// Waits until a run's log has this many lines.
fn wait_for(room: &Room, run: &str, lines: usize) {
    let start = Instant::now();
    let log = room.path(format!("{run}/log.jsonl"));
    let count = || std::fs::read_to_string(&log).map_or(0, |text| text.lines().count());
    while count() < lines {
        assert!(start.elapsed() < LIMIT, "the log does not grow");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_run_killed_at_any_step_can_be_finished() {
    let room = room(24);
    finetune(&room, &[&RUN[..], &["--out", "whole"]].concat()).ends_with(0);
    let mut hits = 0;
    for lines in [0, 1, 3, 4, 7] {
        let run = format!("killed{lines}");
        let mut command = command(&room, &arguments(&run));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        wait_for(&room, &run, lines);
        // Fails if it has already ended, which is acceptable once.
        let _ = child.kill();
        hits += usize::from(child.wait().unwrap().code().is_none());
        finetune(&room, &arguments(&run)).ends_with(0);
        assert!(weights(&room, &run) == weights(&room, "whole"), "{lines}");
        assert_eq!(timeless(&room, &run), timeless(&room, "whole"), "{lines}");
    }
    // If a killed process still has an exit status, nothing can be concluded.
    assert!(
        hits > 0 || cfg!(not(unix)),
        "every run was faster than its end"
    );
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_step_and_saves() {
    let room = room(24);
    let train = |run: &'static str| {
        let long = [
            "pairs.jsonl",
            "--steps",
            "4000",
            "--batch-size",
            "24",
            "--out",
            run,
        ];
        let mut command = room.command();
        command.args([
            "finetune",
            "--model",
            super::model::path(),
            "--pcm-rank",
            "4",
        ]);
        command.args(long);
        command
    };
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let run = if signal == "INT" { "int" } else { "term" };
        let mut running = Running::start(train(run));
        wait_for(&room, run, 2);
        running.signal(signal);
        let (ended, said) = running.end();
        assert_eq!(ended, Some(code), "{said}");
        assert!(
            said.contains("which was saved; rerun the command with --resume"),
            "{said}"
        );
        let steps = timeless(&room, run).len();
        assert!(steps < 4000);
        let mut again = train(run);
        again.arg("--resume");
        let mut running = Running::start(again);
        wait_for(&room, run, steps + 1);
        running.signal(signal);
        let (_, said) = running.end();
        assert!(
            said.contains(&format!("resuming after step {steps} of 4000")),
            "{said}"
        );
    }
}

#[test]
fn a_finished_run_is_finished_again_without_a_step() {
    let room = room(24);
    let first = finetune(&room, &arguments("run")).ends_with(0).record();
    let expected = weights(&room, "run");
    let again = finetune(&room, &arguments("run")).ends_with(0).record();
    assert!(weights(&room, "run") == expected);
    for key in ["loss", "mean_loss", "mean_loss_at_first", "mean_over_steps"] {
        assert!(first[key].is_number(), "{key}");
        assert_eq!(first[key], again[key], "{key}");
    }
}

#[test]
fn a_damaged_state_or_log_is_refused() {
    let room = room(24);
    finetune(&room, &arguments("run")).ends_with(0);
    for name in ["run/checkpoint/state.safetensors", "run/log.jsonl"] {
        let whole = std::fs::read(room.path(name)).unwrap();
        for part in 1..8 {
            let mut bytes = whole.clone();
            bytes[whole.len() * part / 8] ^= 4;
            room.file(name, bytes);
            let ran = finetune(&room, &arguments("run")).ends_with(2);
            ran.says(&["changed or damaged"]);
        }
        room.file(name, whole);
    }
    finetune(&room, &arguments("run")).ends_with(0);
}
