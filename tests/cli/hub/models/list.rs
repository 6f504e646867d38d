//! `longclip models list`.

use std::fs;

use serde_json::Value;

use super::{clip, command, end_of, models, pulled, weights_line};
use crate::hub::stand_in::{COMMIT, StandIn};
use crate::hub::{Room, files_below};

fn row<'a>(list: &'a Value, name: &str) -> &'a Value {
    let mut rows = list.as_array().unwrap().iter();
    rows.find(|row| row["name"] == name).unwrap()
}

#[test]
fn the_list_shows_what_is_cached() {
    let room = Room::new(StandIn::honest(&clip()));
    let before = models(&room, &["list", "--format", "json"]).ends_with(0);
    let list = before.json();
    assert_eq!(list.as_array().unwrap().len(), 9);
    assert_eq!(row(&list, "tiny")["cached"], "built in");
    let long = row(&list, "longclip-b");
    for (field, expected) in [
        ("repository", Value::from("BeichenZhang/LongCLIP-B")),
        ("file", Value::from("longclip-B.pt")),
        ("bytes", Value::from(599_000_000)),
        ("licence", Value::from("Apache-2.0")),
        ("context_length", Value::from(248)),
        ("cached", Value::from("no")),
        ("paths", Value::from(Vec::<Value>::new())),
    ] {
        assert_eq!(long[field], expected, "{field}");
    }
    assert_eq!(row(&list, "clip-vit-b-32")["licence"], Value::Null);
    assert!(room.hub.seen().is_empty() && files_below(&room.cache()).is_empty());

    models(&room, &["pull", "owner/model"]).ends_with(0);
    let asked = room.hub.seen().len();
    let list = models(&room, &["list"]).ends_with(0).json();
    let found = row(&list, "owner/model");
    assert_eq!(found["cached"], "complete");
    assert_eq!(found["paths"][0], weights_line(&room).trim_end());
    let table = models(&room, &["list", "-f", "table"]).ends_with(0).out;
    for part in [
        "about 599 MB",
        "not stated",
        "owner/model        complete  600 kB",
        weights_line(&room).trim_end(),
    ] {
        assert!(table.contains(part), "no {part:?} in:\n{table}");
    }
    assert_eq!(room.hub.seen().len(), asked, "a list sends no requests");
}

#[test]
fn the_list_shows_partial_downloads_and_other_models() {
    let room = Room::new(StandIn::honest(&[]));
    let write = |path: &str, content: &str| {
        let path = room.cache().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    write(
        "models--BeichenZhang--LongCLIP-B/blobs/aa.incomplete",
        "half",
    );
    write("models--BeichenZhang--LongCLIP-L/refs/main", COMMIT);
    let file = format!("models--BeichenZhang--LongCLIP-L/snapshots/{COMMIT}/longclip-L.pt");
    write(&file, "weights");
    for (id, config) in [("a--bert", "bert"), ("a--clip", "clip")] {
        let config = format!("{{\"model_type\":\"{config}\"}}");
        let folder = format!("models--{id}/snapshots/{COMMIT}");
        write(&format!("{folder}/config.json"), &config);
        write(&format!("{folder}/model.safetensors"), "weights");
    }
    let list = models(&room, &["list"]).ends_with(0).json();
    assert_eq!(row(&list, "longclip-b")["cached"], "partial");
    assert_eq!(row(&list, "longclip-b")["cached_bytes"], 4);
    let large = row(&list, "longclip-l");
    assert_eq!(large["cached"], "complete");
    assert!(large["paths"][0].as_str().unwrap().ends_with(&file));
    // Its main branch is unknown, so the commit is part of the name.
    row(&list, &format!("a/clip@{COMMIT}"));
    assert_eq!(
        list.as_array().unwrap().len(),
        10,
        "bert is not a CLIP model"
    );
}

#[test]
fn a_closed_pipe_ends_the_list_quietly() {
    let room = pulled();
    for arguments in [
        &["list"][..],
        &["verify"],
        &["path", "owner/model"],
        &["pull", "owner/model"],
    ] {
        let mut command = command(&room, arguments);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        command.arg("-q").stdout(writer);
        let ran = end_of(command);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments:?}");
    }
}
