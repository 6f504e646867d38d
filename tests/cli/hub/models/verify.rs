//! `longclip models verify`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{command, end, models, pulled, snapshot};
use crate::hub::Room;
use crate::hub::stand_in::StandIn;

/// The status of each file as printed by `verify`.
fn statuses(report: &Value) -> Vec<(String, String)> {
    let files = report[0]["files"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    files
        .map(|file| (text(&file["file"]), text(&file["status"])))
        .filter(|(_, status)| status != "ok")
        .collect()
}

fn blob(room: &Room, name: &str) -> PathBuf {
    snapshot(room).join(name).canonicalize().unwrap()
}

#[test]
fn verify_finds_damage() {
    let flip = |path: &Path| {
        let mut content = fs::read(path).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        fs::write(path, content).unwrap();
    };
    let cut = |path: &Path| {
        let content = fs::read(path).unwrap();
        fs::write(path, &content[..content.len() - 1]).unwrap();
    };
    let gone = |path: &Path| fs::remove_file(path).unwrap();
    type Harm<'a> = &'a dyn Fn(&Path);
    let harm: [(&str, Harm); 5] = [
        ("model.safetensors", &flip),
        ("model.safetensors", &cut),
        ("model.safetensors", &gone),
        ("config.json", &flip),
        ("tokenizer.json", &cut),
    ];
    for (name, harm) in harm {
        let room = pulled();
        let whole = models(&room, &["verify", "owner/model"]).ends_with(0);
        assert_eq!(statuses(&whole.json()), []);
        harm(&blob(&room, name));
        let verify = end(command(&room, &["verify", "owner/model"]))
            .ends_with(1)
            .says(&[
                "longclip models rm owner/model",
                "longclip models pull owner/model",
            ]);
        let expected = [(name.to_owned(), "damaged".to_owned())];
        assert_eq!(statuses(&verify.json()), expected);
        // Its advice helps.
        end(command(&room, &["rm", "--yes", "owner/model"])).ends_with(0);
        models(&room, &["pull", "owner/model"]).ends_with(0);
        models(&room, &["verify", "owner/model"]).ends_with(0);
    }
}

#[test]
fn verify_reports_what_it_cannot_check() {
    let room = pulled();
    fs::write(snapshot(&room).join("copied.json"), "{}").unwrap();
    let asked = room.hub.seen().len();
    let verify = models(&room, &["verify", "-f", "table"]).ends_with(0);
    for line in [
        "owner/model (owner/model)",
        "  ok       model.safetensors, 600 kB",
        "  unknown  copied.json: a copy, not a link to a blob whose name is its hash",
    ] {
        assert!(
            verify.out.lines().any(|found| found == line),
            "{}",
            verify.out
        );
    }
    assert_eq!(room.hub.seen().len(), asked);
    models(&room, &["verify", "tiny"]).ends_with(2);
    models(&room, &["verify", "longclip-b"])
        .ends_with(2)
        .says(&["longclip models pull longclip-b"]);
    let some = models(&room, &["verify", "longclip-b", "owner/model"]).ends_with(1);
    assert_eq!(some.json().as_array().unwrap().len(), 1);
    crate::schema::assert_fits(&[some.json()], "verified");
    let empty = Room::new(StandIn::honest(&[]));
    let nothing = models(&empty, &["verify"]).ends_with(0);
    assert_eq!(nothing.out, "[]\n");
    nothing.says(&["no model is cached"]);
}
