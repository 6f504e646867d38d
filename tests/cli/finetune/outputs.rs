//! The outputs of a run: a model that loads, adapters, log and page.

use serde_json::Value;

use super::{finetune, log, room};
use crate::room::{Room, png};

/// `classify` with the model in a run's folder.
fn classifies(room: &Room, run: &str) {
    let arguments = ["classify", "p/000.png", "-m", run, "-l", "cat", "dog"];
    room.longclip(&arguments, &[]).ends_with(0);
}

#[test]
fn a_run_leaves_a_model_a_log_and_a_page() {
    let room = room(24);
    let arguments = ["pairs.jsonl", "--out", "run", "--epochs", "2"];
    let ran = finetune(&room, &arguments).ends_with(0);
    let result = ran.record();
    assert_eq!(
        (&result["steps"], &result["epochs"]),
        (&6.into(), &2.into())
    );
    assert_eq!(
        (&result["pairs"], &result["failed"]),
        (&24.into(), &0.into())
    );
    let lines = log(&room, "run");
    assert_eq!(lines.len(), 6);
    for (number, line) in (1..).zip(&lines) {
        assert_eq!(line["step"], number);
        for key in [
            "loss",
            "long_loss",
            "short_loss",
            "rate",
            "logit_scale",
            "gradient_norm",
            "images_per_second",
            "seconds",
        ] {
            assert!(line[key].is_f64(), "{key} in {line}");
        }
    }
    assert_eq!(lines[5]["epoch"], 2);
    assert_eq!(result["loss"], lines[5]["loss"]);
    let page = room.read("run/report.html");
    for part in [
        "Fine-tuning",
        "Learning rate",
        "short captions",
        "pcm-rank 4",
    ] {
        assert!(page.contains(part), "{part}");
    }
    classifies(&room, "run");
    let state = room.path("run/checkpoint");
    let names = std::fs::read_dir(state)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["state.safetensors"]);
    finetune(
        &room,
        &["pairs.jsonl", "--out", "quiet", "--steps", "1", "-q"],
    );
    let table = finetune(
        &room,
        &["pairs.jsonl", "--out", "t", "--steps", "1", "-f", "table"],
    );
    assert!(
        table
            .ends_with(0)
            .out
            .contains("model        t/model.safetensors")
    );
}

#[test]
fn every_layout_loads_again() {
    let room = room(9);
    for (layout, file) in [
        ("hf", "model.safetensors"),
        ("canonical", "model.safetensors"),
        ("openai", "model.pt"),
        ("open_clip", "open_clip_model.safetensors"),
    ] {
        let arguments = [
            "pairs.jsonl",
            "--steps",
            "1",
            "--layout",
            layout,
            "--out",
            layout,
        ];
        let ran = finetune(&room, &arguments).ends_with(0);
        let files = ran.record()["files"].to_string();
        assert!(files.contains(&format!("{layout}/{file}")), "{files}");
        classifies(&room, layout);
    }
    let arguments = [
        "pairs.jsonl",
        "--steps",
        "1",
        "--layout",
        "longclip",
        "--out",
        "l",
        "--stretch",
    ];
    finetune(&room, &arguments).ends_with(0);
    classifies(&room, "l");
}

#[test]
fn adapters_are_merged_or_written_separately() {
    let room = room(9);
    let train = |run: &str, more: &[&str]| {
        let start = [
            "pairs.jsonl",
            "--steps",
            "2",
            "--train",
            "lora",
            "--out",
            run,
        ];
        let ran = finetune(&room, &[&start[..], more].concat()).ends_with(0);
        let has = |name: &str| room.path(format!("{run}/{name}")).exists();
        let found = (
            has("model.safetensors"),
            has("adapter/adapter_model.safetensors"),
        );
        (ran.record(), found)
    };
    assert_eq!(
        train("both", &["--lora-targets", "v,q", "--lora-rank", "2"]).1,
        (true, true)
    );
    let config: Value =
        serde_json::from_str(&room.read("both/adapter/adapter_config.json")).unwrap();
    assert_eq!(
        (&config["r"], &config["lora_alpha"]),
        (&2.into(), &4.0.into())
    );
    assert_eq!(
        config["target_modules"].to_string(),
        r#"["q_proj","v_proj"]"#
    );
    classifies(&room, "both");
    assert_eq!(train("merged", &["--merge"]).1, (true, false));
    classifies(&room, "merged");
    assert_eq!(train("apart", &["--adapter-only"]).1, (false, true));
}

#[test]
fn the_model_is_evaluated_after_each_epoch() {
    let room = room(16);
    for number in 0..6 {
        let class = ["cat", "dog"][number % 2];
        room.file(
            format!("pets/{class}/{number}.png"),
            png(&format!("{number}")),
        );
    }
    room.broken("pets/cat/9.png");
    let start = [
        "pairs.jsonl",
        "--out",
        "run",
        "--epochs",
        "2",
        "--eval",
        "pets",
        "pairs.jsonl",
    ];
    let ran = finetune(
        &room,
        &[&start[..], &["--eval-templates", "photo"]].concat(),
    )
    .ends_with(0);
    let lines = log(&room, "run");
    let evals: Vec<&Value> = lines
        .iter()
        .filter(|line| line["eval"].is_array())
        .collect();
    let steps: Vec<_> = evals
        .iter()
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [0, 2, 4]);
    let [pets, captions] = [&evals[1]["eval"][0], &evals[1]["eval"][1]];
    assert_eq!(
        (&pets["data"], &pets["images"]),
        (&"pets".into(), &6.into())
    );
    assert_eq!(pets["failed"], 1);
    assert!(pets["acc1"].is_f64(), "{pets}");
    assert!(captions["text_retrieval_recall@5"].is_f64(), "{captions}");
    assert_eq!(ran.record()["eval"][0]["data"], "pets");
    assert!(room.read("run/report.html").contains("Evaluation on pets"));
    // As `evaluate` reports.
    let arguments = [
        "evaluate",
        "pets",
        "-m",
        "run",
        "--precision",
        "f32",
        "--templates",
        "photo",
    ];
    let evaluated: Value = serde_json::from_str(&room.longclip(&arguments, &[]).out).unwrap();
    assert_eq!(evaluated["acc1"], evals[2]["eval"][0]["acc1"]);
}
