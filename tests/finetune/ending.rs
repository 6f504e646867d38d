//! Runs that are refused, and runs that end badly.

use crate::running::Running;
use crate::{command, finetune, log, model, room};

#[test]
fn a_folder_is_one_run_s() {
    let room = room(24);
    let train = |more: &[&str]| {
        let start = ["pairs.jsonl", "--out", "run", "--steps", "2"];
        finetune(&room, &[&start[..], more].concat())
    };
    train(&[]).ends_with(0);
    train(&[])
        .ends_with(2)
        .says(&["holds a run already", "--resume"]);
    train(&["--resume", "--seed", "3", "--weight-decay", "0"])
        .ends_with(2)
        .says(&[
            "--seed (it was 0, now it is 3)",
            "--weight-decay (it was 0.01, now it is 0.0)",
        ]);
    train(&["--resume", "--loss", "clip"])
        .ends_with(2)
        .says(&["--loss (it was \"pcm\""]);
    train(&["--resume", "--save-every", "1"]).ends_with(0);
    let mut rows = room.read("pairs.jsonl");
    rows += "{\"image\":\"p/000.png\",\"caption\":\"One more. Really.\"}\n";
    room.file("pairs.jsonl", rows);
    train(&["--resume"])
        .ends_with(2)
        .says(&["the data (it was pairs.jsonl, 24 pairs)"]);
    room.file("other/notes.txt", "mine");
    let other = ["pairs.jsonl", "--out", "other"];
    finetune(&room, &other)
        .ends_with(2)
        .says(&["no run's, such as notes.txt"]);
    let file = ["pairs.jsonl", "--out", "pairs.jsonl"];
    finetune(&room, &file).ends_with(2).says(&["is a file"]);
    let model = ["pairs.jsonl", "--out", "m.safetensors"];
    finetune(&room, &model)
        .ends_with(2)
        .says(&["named like a file"]);
}

#[test]
fn two_runs_do_not_share_a_folder() {
    let room = room(24);
    let long = ["pairs.jsonl", "--out", "run", "--steps", "4000", "--resume"];
    let running = Running::start(command(&room, &long));
    let log = room.path("run/log.jsonl");
    while std::fs::metadata(&log).map_or(0, |state| state.len()) == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    finetune(&room, &long)
        .ends_with(75)
        .says(&["another run is writing run/log.jsonl"]);
    drop(running);
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_and_keeps_what_was() {
    let room = room(24);
    let small = [
        "finetune",
        "--model",
        model::path(),
        "--batch-size",
        "8",
        "--pcm-rank",
        "4",
    ];
    let run = [
        "pairs.jsonl",
        "--out",
        "run",
        "--epochs",
        "3",
        "--warm-up",
        "0",
        "--rate",
        "1e30",
    ];
    let ran = room
        .longclip(&[&small[..], &run].concat(), &[])
        .ends_with(1);
    let ran = ran.says(&["error: step ", "a smaller --rate"]);
    assert_eq!(ran.out, "");
    let steps = log(&room, "run").len();
    assert!(
        ran.stderr()
            .contains(&format!("after step {steps} of 9 is saved"))
    );
    assert!(room.path("run/checkpoint/state.safetensors").exists());
    assert!(!room.path("run/model.safetensors").exists());
}
