//! Real records and files against the schemas that `longclip schema` prints.

use serde_json::Value;

use crate::room::{Room, records};
use crate::small;

/// What is wrong with a value by a schema. Knows the keywords that ours have, and no others.
fn faults(value: &Value, schema: &Value, root: &Value, place: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut wrong = |what: String| found.push(format!("{place}: {what}"));
    let mut inner = Vec::new();
    let number = |limit: &Value| (value.as_f64(), limit.as_f64().unwrap());
    for (keyword, rule) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "contentEncoding" => {}
            "required" => {
                let keys = rule
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|key| key.as_str().unwrap());
                for key in keys.filter(|key| value.is_object() && value.get(*key).is_none()) {
                    wrong(format!("{key} is missing"));
                }
            }
            "type" => {
                let is = |name: &Value| match name.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    "number" => value.is_number(),
                    "integer" => value.is_i64() || value.is_u64(),
                    other => panic!("{other}"),
                };
                let names = rule.as_array().cloned().unwrap_or(vec![rule.clone()]);
                if !names.iter().any(is) {
                    wrong(format!("{value} is not of type {rule}"));
                }
            }
            "properties" => {
                for (key, schema) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(key) {
                        inner.extend(faults(value, schema, root, &format!("{place}.{key}")));
                    }
                }
            }
            "additionalProperties" => {
                let known = |key: &str| schema["properties"].get(key).is_some();
                let others = value.as_object().into_iter().flatten();
                for (key, value) in others.filter(|(key, _)| !known(key)) {
                    match rule {
                        Value::Bool(false) => wrong(format!("{key} is not in the schema")),
                        rule => inner.extend(faults(value, rule, root, &format!("{place}.{key}"))),
                    }
                }
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    inner.extend(faults(item, rule, root, &format!("{place}[]")));
                }
            }
            "oneOf" | "anyOf" => {
                let all = rule.as_array().unwrap();
                let all: Vec<_> = all
                    .iter()
                    .map(|one| faults(value, one, root, place))
                    .collect();
                let fits = all.iter().filter(|faults| faults.is_empty()).count();
                if fits == 0 || fits > 1 && keyword == "oneOf" {
                    wrong(format!("fits {fits} of {keyword}: {all:?}"));
                }
            }
            "$ref" => {
                let target = root.pointer(&rule.as_str().unwrap()[1..]).unwrap();
                inner.extend(faults(value, target, root, place));
            }
            "const" if value == rule => {}
            "enum" if rule.as_array().unwrap().contains(value) => {}
            "const" | "enum" => wrong(format!("{value} is not {rule}")),
            "pattern" => {
                // The only one that there is.
                assert_eq!(rule, "^[0-9a-f]{64}$");
                let is_hash = |text: &str| {
                    text.len() == 64 && text.bytes().all(|b| b"0123456789abcdef".contains(&b))
                };
                if !value.as_str().is_none_or(is_hash) {
                    wrong(format!("{value} is not a SHA-256"));
                }
            }
            "minItems" | "maxItems" => {
                let count = value.as_array().map_or(0, Vec::len) as u64;
                let limit = rule.as_u64().unwrap();
                if value.is_array() && (keyword == "minItems") == (count < limit) && count != limit
                {
                    wrong(format!("{count} items"));
                }
            }
            "minimum" if !matches!(number(rule), (Some(number), least) if number < least) => {}
            "maximum" if !matches!(number(rule), (Some(number), most) if number > most) => {}
            "exclusiveMinimum" if !matches!(number(rule), (Some(number), end) if number <= end) => {
            }
            "minimum" | "maximum" | "exclusiveMinimum" => wrong(format!("{value} is out of range")),
            other => panic!("no test knows the keyword {other}"),
        }
    }
    found.extend(inner);
    found
}

/// A schema as it is printed.
fn schema(name: &str) -> Value {
    let printed = Room::new()
        .longclip(&["schema", name], &[])
        .ends_with(0)
        .out;
    serde_json::from_str(&printed).unwrap()
}

#[track_caller]
pub(crate) fn assert_fits(values: &[Value], name: &str) {
    let schema = schema(name);
    assert!(!values.is_empty(), "{name}");
    for value in values {
        let faults = faults(value, &schema, &schema, name);
        assert!(faults.is_empty(), "{faults:#?}\n{value}");
    }
}

fn room() -> Room {
    let room = Room::with(&[
        "d/cat/a.png",
        "d/cat/b.png",
        "d/dog/c.png",
        "d/dog/d.png",
        "d/bus/e.png",
        "d/bus/f.png",
    ]);
    room.broken("d/dog/x.png");
    room
}

/// The stdout of a command with a small model.
fn run(room: &Room, arguments: &[&str], code: i32) -> String {
    let model = ["--model", small::model()];
    let all = [&arguments[..1], &model, &arguments[1..]].concat();
    room.longclip(&all, &[]).ends_with(code).out
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn all_schemas_are_listed_and_refuse_what_is_not_theirs() {
    let list = Room::new().longclip(&["schema"], &[]).ends_with(0).out;
    let names: Vec<&str> = list
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(
        names.len(),
        std::fs::read_dir("assets/schema").unwrap().count()
    );
    for name in names {
        let schema = schema(name);
        assert_eq!(
            schema["$schema"],
            "https://json-schema.org/draft/2020-12/schema"
        );
        for other in [json("{\"x\": 1}"), json("[{\"x\": 1}]"), json("7")] {
            assert!(
                !faults(&other, &schema, &schema, name).is_empty(),
                "{name} {other}"
            );
        }
    }
    Room::new()
        .longclip(&["schema", "recrod"], &[])
        .ends_with(2)
        .says(&["record"]);
}

#[test]
fn records_fit_their_schemas() {
    let room = room();
    let labels = ["-l", "cat", "dog", "bus"];
    for more in [
        &[][..],
        &["--score", "cosine"],
        &["--score", "sigmoid", "-k", "1"],
        &["--threshold", "1"],
    ] {
        let arguments = [&["classify", "d"], &labels[..], more].concat();
        assert_fits(&records(&run(&room, &arguments, 1)), "record");
    }
    let fixture = "tests/fixtures/frames/disposals.gif";
    let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture);
    room.file("f/a.gif", std::fs::read(fixture).unwrap());
    run(&room, &["calibrate", "d", "-o", "c.json"], 1);
    let mut calibration = json(&room.read("c.json"));
    calibration["none_threshold"] = 1.0.into();
    calibration.as_object_mut().unwrap().remove("crc32");
    room.file("c.json", calibration.to_string());
    let more = ["--frames", "all", "--calibration", "c.json"];
    let arguments = [&["classify", "f"], &labels[..], &more].concat();
    let frames = records(&run(&room, &arguments, 0));
    for key in ["frame", "time", "uncertain"] {
        assert!(
            frames.iter().any(|record| record.get(key).is_some()),
            "{key}"
        );
    }
    assert_fits(&frames, "record");
    let arguments = [&["classify", "d"], &labels[..], &["-f", "label-studio"]].concat();
    assert_fits(&[json(&run(&room, &arguments, 1))], "label-studio");
    run(&room, &["embed", "d", "-o", "o.npy"], 1);
    assert_fits(&records(&run(&room, &["embed", "d"], 1)), "embedding");
    room.file("texts.txt", "a cat\na dog\n");
    assert_fits(
        &records(&run(&room, &["embed", "--texts", "texts.txt"], 0)),
        "embedding",
    );
    let hits = ["search", "o.npy", "a cat", "a dog", "-k", "2"];
    assert_fits(&records(&run(&room, &hits, 0)), "hits");
    assert_fits(
        &records(&run(&room, &["tokens", "a cat", "a dog", "-f", "jsonl"], 0)),
        "tokens",
    );
}

#[test]
fn reports_and_files_fit_their_schemas() {
    let room = room();
    let more = [
        "evaluate",
        "d",
        "--out",
        "e",
        "--compare",
        "one.txt",
        "--truncate-sweep",
        "5,77",
    ];
    room.file("one.txt", "bus\ncat\ndog\n");
    let sweep = [
        &more[..],
        &["--long-text", "truncate", "-l", "bus", "cat", "dog"],
    ]
    .concat();
    let printed = json(&run(&room, &sweep, 1));
    assert_fits(&[printed, json(&room.read("e/results.json"))], "evaluation");
    assert_fits(&records(&room.read("e/predictions.jsonl")), "record");
    room.file(
        "captions.json",
        r#"{"d/cat/a.png": ["a cat", "an animal"], "d/dog/c.png": ["a dog"]}"#,
    );
    let retrieval = [
        "evaluate",
        "captions.json",
        "--task",
        "retrieval",
        "--out",
        "r",
    ];
    let printed = json(&run(&room, &retrieval, 0));
    assert_fits(&[printed, json(&room.read("r/results.json"))], "retrieval");
    let split = ["--val-split", "0.5", "--out", "p.safetensors"];
    let probe = [&["probe", "d", "--l2", "0.1"][..], &split].concat();
    assert_fits(&[json(&run(&room, &probe, 1))], "probe");
    let inspected = room
        .longclip(&["inspect", small::model(), "-f", "json"], &[])
        .ends_with(0);
    assert_fits(&[json(&inspected.out)], "inspection");
    let models = room
        .longclip(&["models", "list", "-f", "json"], &[])
        .ends_with(0);
    assert_fits(&[json(&models.out)], "models");
}

#[test]
fn lists_for_undo_fit_their_schemas() {
    let room = room();
    let labels = ["-l", "cat", "dog", "bus"];
    let lists = |prefix: &str, folder: &str| {
        let entries = std::fs::read_dir(room.path(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().path());
        let is_list = |path: &std::path::PathBuf| path.to_str().unwrap().contains(prefix);
        let list = names
            .filter(is_list)
            .find(|path| path.extension().is_some_and(|e| e == "jsonl"));
        records(&std::fs::read_to_string(list.unwrap()).unwrap())
    };
    room.file(
        "d/bus/e.png.xmp",
        "<rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\"></rdf:RDF>",
    );
    run(
        &room,
        &[&["classify", "d", "--copy", "sorted", "--xmp"], &labels[..]].concat(),
        1,
    );
    assert_fits(&lists("longclip-sorted", "sorted"), "sorted");
    let lines = lists("longclip-xmp", ".");
    assert!(lines.iter().any(|line| line["edit"].is_object()));
    assert_fits(&lines, "xmp");
}
