//! `longclip evaluate` and `calibrate`: figures that agree with the records they are made of.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::room::{Ran, Room};
use crate::small;

/// Three classes of four images each.
fn dataset() -> Room {
    let room = Room::new();
    for class in ["red_fox", "grey-wolf", "cat"] {
        for number in 0..4 {
            room.image(format!("data/{class}/{number}.png"));
        }
    }
    room
}

fn evaluate(room: &Room, arguments: &[&str]) -> Ran {
    let fixed = ["evaluate", "--model", small::model(), "--format", "json"];
    room.longclip(&[&fixed, arguments].concat(), &[])
}

fn results(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn records(room: &Room, name: &str) -> Vec<Value> {
    let lines = room.read(name);
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn figures_are_those_of_the_records() {
    let room = dataset();
    let ran = evaluate(&room, &["data", "--out", "out"]).ends_with(0);
    let found = results(&ran);
    assert_eq!(room.read("out/results.json"), ran.out);

    let records = records(&room, "out/predictions.jsonl");
    assert_eq!(records.len(), 12);
    let best = |record: &Value| record["predictions"][0].clone();
    let is_right = |record: &&Value| best(record)["label"] == record["target"];
    let right = records.iter().filter(is_right).count();
    assert_eq!(number(&found["acc1"]), right as f64 / 12.0);
    assert_eq!(
        number(&found["acc5"]),
        1.0,
        "three labels are all among the first five"
    );
    assert_eq!(found["n"], 12);

    // Folder names become labels with spaces, which are the targets in records.
    let mut support: BTreeMap<&str, usize> = BTreeMap::new();
    for record in &records {
        *support
            .entry(record["target"].as_str().unwrap())
            .or_default() += 1;
        assert_eq!(record["predictions"].as_array().unwrap().len(), 3);
    }
    assert_eq!(
        support,
        BTreeMap::from([("cat", 4), ("grey wolf", 4), ("red fox", 4)])
    );

    // 15 bins of the best probability.
    let mut bins = vec![(0.0, 0.0, 0.0); 15];
    for record in &records {
        let probability = number(&best(record)["probability"]);
        let bin = &mut bins[((probability * 15.0) as usize).min(14)];
        bin.0 += 1.0;
        bin.1 += probability;
        bin.2 += f64::from(u8::from(is_right(&record)));
    }
    let gaps = bins
        .iter()
        .map(|(_, confidence, right): &(f64, f64, f64)| (confidence - right).abs());
    assert!((number(&found["ece"]) - gaps.sum::<f64>() / 12.0).abs() < 1e-6);

    // Rows are true labels, columns predicted ones.
    let table = room.read("out/confusion.csv");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split(',').collect())
        .collect();
    assert_eq!(rows[0], ["", "cat", "grey wolf", "red fox"]);
    for row in &rows[1..] {
        for (column, cell) in rows[0].iter().zip(row).skip(1) {
            let count = records
                .iter()
                .filter(|record| record["target"] == row[0] && best(record)["label"] == *column)
                .count();
            assert_eq!(cell.parse(), Ok(count), "{table}");
        }
    }
    let recalls = (1..4).map(|at| rows[at][at].parse::<f64>().unwrap() / 4.0);
    let mean = recalls.sum::<f64>() / 3.0;
    assert!((number(&found["mean_per_class_recall"]) - mean).abs() < 1e-12);
    let interval = found["acc1_interval"].as_array().unwrap();
    assert!(number(&interval[0]) <= number(&found["acc1"]));
    assert!(number(&interval[1]) >= number(&found["acc1"]));
    assert_eq!(found["model"]["sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn every_form_of_a_dataset_gives_the_same_answers() {
    let room = dataset();
    let mut table = "path,label\n".to_owned();
    let mut lines = String::new();
    for (class, label) in [
        ("cat", "cat"),
        ("grey-wolf", "grey wolf"),
        ("red_fox", "red fox"),
    ] {
        for number in 0..4 {
            table += &format!("data/{class}/{number}.png,{label}\n");
            lines +=
                &format!("{{\"image\": \"data/{class}/{number}.png\", \"target\": \"{label}\"}}\n");
        }
    }
    room.file("list.csv", table);
    room.file("list.jsonl", lines);
    room.file("labels.txt", "red fox\ncat\ngrey wolf\nowl\n");
    room.file(
        "labels.csv",
        "label,folder\nRed,red_fox\nC,cat\nW,grey-wolf\n",
    );
    room.file("map.csv", "class,label\nred_fox,R\ncat,C\ngrey-wolf,W\n");
    let figures = |arguments: &[&str]| {
        let found = results(&evaluate(&room, arguments).ends_with(0));
        let keys = ["acc1", "acc5", "ece", "nll", "brier", "n"];
        keys.map(|key| found[key].clone())
    };
    let folders = figures(&["data"]);
    for form in [["list.csv"], ["list.jsonl"]] {
        assert_eq!(figures(&form), folders, "{form:?}");
    }
    let order = figures(&["data", "--labels", "red fox", "grey wolf", "cat"]);
    assert_eq!(order[0], folders[0], "the order of labels does not matter");
    assert_eq!(figures(&["data", "--labels-file", "labels.txt"])[5], 12);
    let keyed = figures(&["data", "--labels-file", "labels.csv"]);
    let mapped = figures(&["data", "--labels", "R", "C", "W", "--class-map", "map.csv"]);
    assert_eq!((&keyed[5], &mapped[5]), (&12.into(), &12.into()));
}

#[test]
fn wordnet_ids_are_known() {
    let room = Room::with(&["data/n01440764/a.png", "data/n01443537-goldfish/b.png"]);
    evaluate(&room, &["data", "--out", "own"]).ends_with(0);
    let targets = |name: &str| -> Vec<Value> {
        records(&room, name)
            .iter()
            .map(|record| record["target"].clone())
            .collect()
    };
    assert_eq!(targets("own/predictions.jsonl"), ["tench", "goldfish"]);
    evaluate(
        &room,
        &[
            "data",
            "--labels-file",
            "imagenet",
            "-k",
            "3",
            "--out",
            "all",
        ],
    )
    .ends_with(0);
    assert_eq!(targets("all/predictions.jsonl"), ["tench", "goldfish"]);
    assert_eq!(
        records(&room, "all/predictions.jsonl")[0]["predictions"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

#[test]
fn an_image_that_fails_is_counted_and_in_no_figure() {
    let room = dataset();
    room.broken("data/cat/9.png");
    let ran = evaluate(&room, &["data", "--out", "out"]).ends_with(1);
    let found = results(&ran);
    assert_eq!((&found["n"], &found["failed"]), (&12.into(), &1.into()));
    let records = records(&room, "out/predictions.jsonl");
    let failed: Vec<_> = records
        .iter()
        .filter(|record| record.get("error").is_some())
        .collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["target"], "cat");
    let whole = results(&evaluate(&dataset(), &["data"]).ends_with(0));
    assert_eq!(
        found["nll"], whole["nll"],
        "the others are answered as before"
    );
}

#[test]
fn a_gate_that_is_missed_ends_with_status_1() {
    let room = dataset();
    let accuracy = number(&results(&evaluate(&room, &["data"]))["acc1"]);
    assert!(accuracy < 1.0, "the weights are random");
    evaluate(&room, &["data", "--min-acc", &accuracy.to_string()]).ends_with(0);
    evaluate(&room, &["data", "--min-acc", "1"])
        .ends_with(1)
        .says(&["top-1 accuracy", "below 1"]);
    evaluate(&room, &["data", "--min-acc", "85"])
        .ends_with(2)
        .says(&["85% is 0.85"]);
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_does_not_open_the_gate() {
    use std::process::Stdio;
    let room = dataset();
    let mut command = room.command();
    command.args([
        "evaluate",
        "data",
        "--model",
        small::model(),
        "--min-acc",
        "1",
        "--quiet",
    ]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn no_output_replaces_an_input_or_another_output() {
    let room = dataset();
    room.file(
        "list.csv",
        "path,label\ndata/cat/0.png,cat\ndata/red_fox/0.png,red fox\n",
    );
    room.file("labels.txt", "cat\nred fox\n");
    std::fs::create_dir(room.path("out")).unwrap();
    let cases: [&[&str]; 6] = [
        &["evaluate", "list.csv", "--report", "list.csv"],
        &[
            "evaluate",
            "list.csv",
            "--labels-file",
            "labels.txt",
            "--report",
            "labels.txt",
        ],
        &[
            "evaluate",
            "list.csv",
            "--out",
            "out",
            "--report",
            "out/results.json",
        ],
        &["calibrate", "list.csv", "-o", "list.csv"],
        &[
            "classify",
            "data",
            "--labels-file",
            "labels.txt",
            "--report",
            "labels.txt",
        ],
        &[
            "classify", "data", "-l", "a", "b", "--report", "x.html", "-o", "x.html",
        ],
    ];
    for case in cases {
        let before = room.read("list.csv") + &room.read("labels.txt");
        let ran = room
            .longclip(&[case, &["--model", small::model()]].concat(), &[])
            .ends_with(2);
        let said = ran.stderr();
        assert!(
            said.contains("is also an input") || said.contains("two outputs"),
            "{said}"
        );
        assert_eq!(
            room.read("list.csv") + &room.read("labels.txt"),
            before,
            "{case:?}"
        );
    }
}

#[test]
fn results_inside_a_dataset_are_not_a_class() {
    let room = dataset();
    let first = results(&evaluate(&room, &["data", "--out", "data/results"]).ends_with(0));
    let ran = evaluate(&room, &["data"])
        .ends_with(0)
        .says(&["without images: results"]);
    assert_eq!(results(&ran)["nll"], first["nll"]);
}

#[test]
fn a_class_matched_by_a_word_is_reported() {
    let room = dataset();
    let labels = ["data", "--labels", "a big cat", "grey wolf", "red fox"];
    evaluate(&room, &labels)
        .ends_with(0)
        .says(&["\"cat\" by \"a big cat\""]);
}

#[test]
fn a_calibration_with_background_texts_holds() {
    let room = dataset();
    let none = [
        "--background",
        "sky",
        "grass",
        "a wall",
        "water",
        "sand",
        "a road",
    ];
    let arguments = [
        "calibrate",
        "data",
        "--model",
        small::model(),
        "-o",
        "c.json",
    ];
    room.longclip(&[&arguments, &none[..]].concat(), &[])
        .ends_with(0);
    let mut found: Value = serde_json::from_str(&room.read("c.json")).unwrap();
    found["temperature"] = 200.into();
    found.as_object_mut().unwrap().remove("crc32").unwrap();
    room.file("c.json", found.to_string());
    let plain = results(&evaluate(&room, &[&["data"], &none[..]].concat()).ends_with(0));
    let ran = evaluate(
        &room,
        &[&["data", "--calibration", "c.json"], &none[..]].concat(),
    )
    .ends_with(0);
    assert!(!ran.stderr().contains("fitted to"), "{}", ran.stderr());
    assert_eq!(
        results(&ran)["acc1"],
        plain["acc1"],
        "a temperature changes no order"
    );
    let without = evaluate(&room, &["data", "--calibration", "c.json"]).ends_with(0);
    without.says(&["fitted to other labels"]);
}

#[test]
fn sets_of_labels_are_compared_on_the_same_images() {
    let room = dataset();
    room.file("short.txt", "cat\ngrey wolf\nred fox\n");
    room.file(
        "long.txt",
        "image of a red fox in snow\nimage of a cat in snow\nimage of a grey wolf\n",
    );
    room.file("templates.txt", "a photo of a {}.\na drawing of a {}.\n");
    let ran = evaluate(
        &room,
        &[
            "data",
            "--compare",
            "short.txt",
            "long.txt",
            "templates.txt",
            "photo",
            "--report",
            "page.html",
        ],
    );
    let ran = ran.ends_with(0);
    let found = results(&ran);
    let runs = found["compare"].as_array().unwrap();
    let names: Vec<_> = runs
        .iter()
        .map(|run| run["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["short.txt", "long.txt", "templates.txt", "photo"]);
    assert_eq!(runs[0]["acc1"], found["acc1"]);
    let pairs = found["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 6);
    for pair in pairs {
        let accuracy = |name: &Value| {
            let run = runs.iter().find(|run| run["name"] == *name);
            number(&run.unwrap()["acc1"])
        };
        let difference = accuracy(&pair["second"]) - accuracy(&pair["first"]);
        assert!((number(&pair["difference"]) - difference).abs() < 1e-12);
        let balance = number(&pair["won"]) - number(&pair["lost"]);
        assert!((balance / 12.0 - difference).abs() < 1e-12);
        assert!(number(&pair["mcnemar_p_holm"]) >= number(&pair["mcnemar_p"]));
    }
    // A run gives the same figures alone and in a comparison.
    let alone = results(&evaluate(&room, &["data", "--labels-file", "long.txt"]).ends_with(0));
    assert_eq!(alone["acc1"], runs[1]["acc1"]);
    let page = room.read("page.html");
    assert!(page.contains("long.txt") && page.contains("grey wolf"));
}

#[test]
fn texts_are_cut_to_each_length() {
    let room = dataset();
    room.file(
        "labels.json",
        r#"{"cat": "a small cat that sleeps on a mat", "grey wolf": "wolf", "red fox": "fox"}"#,
    );
    let arguments = [
        "data",
        "--labels-file",
        "labels.json",
        "--truncate-sweep",
        "3,6,248,4000",
    ];
    let ran = evaluate(&room, &arguments)
        .ends_with(0)
        .says(&["4000 is skipped", "248 tokens"]);
    let found = results(&ran);
    let steps = found["truncate_sweep"].as_array().unwrap();
    let cut: Vec<_> = steps
        .iter()
        .map(|step| (step["tokens"].clone(), step["cut"].clone()))
        .collect();
    assert_eq!(
        cut,
        [
            (3.into(), 1.into()),
            (6.into(), 1.into()),
            (248.into(), 0.into())
        ]
    );
    assert_eq!(steps[2]["nll"], found["nll"]);
    assert_ne!(steps[0]["nll"], found["nll"]);
}

#[test]
fn captions_find_images_and_images_captions() {
    let room = Room::with(&["1.png", "2.png", "3.png"]);
    room.file(
        "list.csv",
        "path,caption\n1.png,a cat\n1.png,my cat\n2.png,a dog\n3.png,a cow in a field\n",
    );
    let arguments = [
        "list.csv",
        "--task",
        "retrieval",
        "--out",
        "out",
        "--truncate-sweep",
        "4,20",
    ];
    let ran = evaluate(&room, &arguments).ends_with(0);
    let found = results(&ran);
    assert_eq!((&found["images"], &found["texts"]), (&3.into(), &4.into()));
    assert!(
        found["protocol"]
            .as_str()
            .unwrap()
            .contains("any caption of an image counts")
    );
    let table = room.read("out/ranks.csv");
    let ranks: Vec<f64> = table
        .lines()
        .skip(1)
        .map(|line| line.rsplit(',').next().unwrap().parse().unwrap())
        .collect();
    for k in [1.0, 5.0] {
        let share = ranks.iter().filter(|rank| **rank <= k).count() as f64 / 4.0;
        assert_eq!(number(&found[format!("image_retrieval_recall@{k}")]), share);
    }
    assert_eq!(number(&found["text_retrieval_recall@5"]), 1.0);
    assert_eq!(found["truncate_sweep"][0]["cut"], 1);
    assert_eq!(
        found["truncate_sweep"][1]["text_retrieval_median_rank"],
        found["text_retrieval_median_rank"]
    );
}

#[test]
fn cached_embeddings_are_not_computed_again() {
    let room = dataset();
    let with_cache = |arguments: &[&str]| {
        let ran = evaluate(
            &room,
            &[&["data", "--cache", "cache", "-v"], arguments].concat(),
        )
        .ends_with(0);
        let said = ran
            .stderr()
            .lines()
            .find(|line| line.starts_with("cache: "))
            .unwrap()
            .to_owned();
        let loaded = ran.stderr().contains("model ready");
        (results(&ran)["nll"].clone(), said, loaded)
    };
    let plain = results(&evaluate(&room, &["data"]))["nll"].clone();
    let (first, said, _) = with_cache(&[]);
    assert_eq!(first, plain);
    assert_eq!(said, "cache: 0 embeddings found, 15 computed");
    // Only the content of the images matters, not their path.
    std::fs::rename(
        room.path("data/cat/0.png"),
        room.path("data/cat/renamed.png"),
    )
    .unwrap();
    let (_, said, loaded) = with_cache(&[]);
    assert_eq!(said, "cache: 15 embeddings found, 0 computed");
    assert!(!loaded, "the towers are not needed");
    let (_, said, _) = with_cache(&["--labels", "cat", "grey wolf", "red fox", "owl"]);
    assert_eq!(said, "cache: 15 embeddings found, 1 computed");
    let (_, said, _) = with_cache(&["--alpha", "black"]);
    assert_eq!(
        said, "cache: 3 embeddings found, 12 computed",
        "images are read differently"
    );
    // A changed image is not mistaken for the old one.
    room.file("data/cat/1.png", crate::room::png("something else"));
    let (changed, said, _) = with_cache(&[]);
    assert_eq!(said, "cache: 14 embeddings found, 1 computed");
    assert_ne!(changed, plain);
    assert_eq!(changed, results(&evaluate(&room, &["data"]))["nll"]);
}

#[test]
fn wrong_images_are_annotated_for_github() {
    let room = dataset();
    let model = ["evaluate", "--model", small::model()];
    let more = ["data", "--out", "e", "--format", "github"];
    let ran = room
        .longclip(&[&model[..], &more].concat(), &[])
        .ends_with(0);
    let lines: Vec<&str> = ran.out.lines().collect();
    let records = crate::room::records(&room.read("e/predictions.jsonl"));
    let is_wrong = |record: &&Value| record["target"] != record["predictions"][0]["label"];
    let wrong: Vec<&Value> = records.iter().filter(is_wrong).collect();
    assert!(!wrong.is_empty());
    assert_eq!(lines.len(), wrong.len() + 1, "{lines:?}");
    for (line, record) in lines.iter().zip(&wrong) {
        let image = record["image"].as_str().unwrap();
        assert!(
            line.starts_with(&format!("::error file={image},title=")),
            "{line}"
        );
    }
    let last = lines.last().unwrap();
    assert!(
        last.starts_with("::notice title=longclip evaluate::top-1 accuracy "),
        "{last}"
    );
}

#[test]
fn a_reader_of_annotations_that_goes_away_changes_neither_files_nor_the_gate() {
    let room = dataset();
    let mut command = room.command();
    command.args(["evaluate", "data", "--model", small::model()]);
    command.args(["--out", "e", "--format", "github", "--min-acc", "1"]);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("--min-acc"), "{said}");
    let results: Value = serde_json::from_str(&room.read("e/results.json")).unwrap();
    assert_eq!(results["n"], 12);
    assert_eq!(
        crate::room::records(&room.read("e/predictions.jsonl")).len(),
        12
    );
}

#[test]
fn a_calibration_changes_probabilities_and_nothing_else() {
    let room = dataset();
    let arguments = [
        "calibrate",
        "data",
        "--model",
        small::model(),
        "-o",
        "c.json",
        "--fit-on",
        "0.5",
    ];
    let ran = room.longclip(&arguments, &[]).ends_with(0);
    let found: Value = serde_json::from_str(&room.read("c.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap(), found);
    crate::schema::assert_fits(std::slice::from_ref(&found), "calibration");
    assert_eq!(
        number(&found["fitted_on"]) + number(&found["rest"]["n"]),
        12.0
    );
    let temperature = 3.5;
    let mut changed = found.clone();
    changed["temperature"] = temperature.into();
    changed["none_threshold"] = 0.9.into();
    let labels = ["data/cat", "--labels", "cat", "grey wolf", "red fox"];
    room.file("c.json", changed.to_string());
    room.classify(&[&labels[..], &["--calibration", "c.json"]].concat())
        .ends_with(2)
        .says(&["changed or damaged", "remove its \"crc32\""]);
    changed.as_object_mut().unwrap().remove("crc32").unwrap();
    room.file("c.json", changed.to_string());
    let plain = room.classify(&labels).ends_with(0).records();
    let calibrated = room
        .classify(&[&labels[..], &["--calibration", "c.json"]].concat())
        .ends_with(0);
    assert!(
        !calibrated.stderr().contains("was fitted to"),
        "the same labels and model"
    );
    for (plain, calibrated) in plain.iter().zip(calibrated.records()) {
        let list = |record: &Value, key: &str| -> Vec<f64> {
            let predictions = record["predictions"].as_array().unwrap();
            predictions.iter().map(|one| number(&one[key])).collect()
        };
        assert_eq!(list(plain, "logit"), list(&calibrated, "logit"));
        let weights: Vec<f64> = list(plain, "logit")
            .iter()
            .map(|logit| (logit / temperature).exp())
            .collect();
        let sum: f64 = weights.iter().sum();
        for (probability, weight) in list(&calibrated, "probability").iter().zip(&weights) {
            assert!((probability - weight / sum).abs() < 1e-6);
        }
        let best = list(&calibrated, "probability")[0];
        assert_eq!(calibrated.get("uncertain").is_some(), best < 0.9);
    }
    let other = [
        "data/cat",
        "--labels",
        "cat",
        "owl",
        "--calibration",
        "c.json",
    ];
    room.classify(&other)
        .ends_with(0)
        .says(&["fitted to other labels"]);
    room.file("c.json", "{\"temperature\": -1}");
    room.classify(&other)
        .ends_with(2)
        .says(&["cannot use the calibration c.json"]);
}

#[test]
fn what_cannot_be_evaluated_is_refused_early() {
    let room = dataset();
    room.image("loose/a.png");
    room.file("bad.csv", "path,label\n,cat\n");
    let cases: [(&[&str], &str); 9] = [
        (&["missing"], "the dataset missing does not exist"),
        (&["loose"], "has no folders"),
        (&["bad.csv"], "line 2 of bad.csv"),
        (
            &["data", "--labels", "cat", "dog"],
            "no label matches the class \"grey-wolf\"",
        ),
        (&["data", "--out", "bad.csv"], "is a file"),
        (&["data", "--report", "data"], "is a folder"),
        (
            &["data", "--compare", "nothing.txt"],
            "neither a built-in set nor a readable file",
        ),
        (
            &["data", "--task", "retrieval", "--labels", "cat"],
            "drop labels",
        ),
        (&["data", "--cache", "bad.csv"], "is a file"),
    ];
    for (arguments, part) in cases {
        evaluate(&room, arguments).ends_with(2).says(&[part]);
    }
}
