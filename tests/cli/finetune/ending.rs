//! Runs that are refused, and runs that end badly.

use super::{command, finetune, log, model, room};
use crate::running::Running;

#[test]
fn a_folder_belongs_to_one_run() {
    let room = room(24);
    let train = |more: &[&str]| {
        let start = ["pairs.jsonl", "--out", "run", "--steps", "2"];
        finetune(&room, &[&start[..], more].concat())
    };
    train(&[]).ends_with(0);
    train(&[])
        .ends_with(2)
        .says(&["already holds a run", "--resume"]);
    train(&["--resume", "--seed", "3", "--weight-decay", "0"])
        .ends_with(2)
        .says(&[
            "--seed (it was 0, now it is 3)",
            "--weight-decay (it was 0.01, now it is 0)",
        ]);
    train(&["--resume", "--loss", "clip"])
        .ends_with(2)
        .says(&["--loss (it was \"pcm\""]);
    train(&["--resume", "--save-every", "1"]).ends_with(0);
    let epochs = |run: &[&str]| {
        let start = ["pairs.jsonl", "--out", "long", "--epochs"];
        finetune(&room, &[&start[..], run].concat())
    };
    epochs(&["1"]).ends_with(0);
    let ran = epochs(&["4", "--resume"]).ends_with(2);
    let ran = ran.says(&[
        "with other settings: --epochs (it was 1, now it is 4); use",
        "--model long",
    ]);
    assert!(!ran.stderr().contains("--steps"), "{}", ran.stderr());
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
        .says(&["other files, such as notes.txt"]);
    let file = ["pairs.jsonl", "--out", "pairs.jsonl"];
    finetune(&room, &file).ends_with(2).says(&["is a file"]);
    let model = ["pairs.jsonl", "--out", "m.safetensors"];
    finetune(&room, &model)
        .ends_with(2)
        .says(&["looks like a file"]);
}

#[test]
fn a_setting_survives_the_rounding_of_json() {
    let room = room(24);
    let rate = "1.0477944722643715e-06";
    let arguments = [
        "pairs.jsonl",
        "--out",
        "run",
        "--steps",
        "1",
        "--rate",
        rate,
        "--resume",
    ];
    for _ in 0..2 {
        finetune(&room, &arguments).ends_with(0);
    }
}

#[test]
fn leftovers_of_a_run_that_never_started_are_taken_over() {
    let room = room(24);
    room.file("run/log.jsonl", "");
    room.file("run/settings.json.writing", "{");
    let report = room.path("run/page.html").display().to_string();
    let start = ["pairs.jsonl", "--out", "run", "--steps", "1", "--report"];
    finetune(&room, &[&start[..], &[&report, "--resume"]].concat()).ends_with(0);
    assert!(room.path("run/page.html").exists());
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
fn a_nan_loss_ends_the_run_and_keeps_the_state() {
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
    let train = |run: &str, rate: &str| {
        let run = [
            "pairs.jsonl",
            "--out",
            run,
            "--epochs",
            "3",
            "--warm-up",
            "0",
            "--rate",
            rate,
        ];
        let ran = room.longclip(&[&small[..], &run].concat(), &[]);
        let ran =
            ran.ends_with(1)
                .says(&["error: step ", "lower the learning rate", "another --out"]);
        assert_eq!(ran.out, "");
        ran
    };
    // A step so large that the next loss is NaN.
    let ran = train("run", "1e30");
    let steps = log(&room, "run").len();
    let kept = format!("the state after step {steps} of 9 was saved");
    assert!(ran.stderr().contains(&kept), "{}", ran.stderr());
    let state = room.path("run/checkpoint/state.safetensors");
    for (name, tensor) in longclip::checkpoint::container::open(&state)
        .unwrap()
        .tensors
    {
        let values = tensor.to_f32().unwrap();
        assert!(values.iter().all(|x| x.is_finite()), "{name}");
    }
    // A step so large that the parameters are NaN.
    train("worse", "1e39").says(&["no state was saved"]);
    assert!(!room.path("worse/checkpoint/state.safetensors").exists());
    for run in ["run", "worse"] {
        assert!(!room.path(format!("{run}/model.safetensors")).exists());
        room.longclip(&["inspect", run], &[])
            .ends_with(2)
            .says(&["is a run of longclip finetune without a model"]);
    }
}
