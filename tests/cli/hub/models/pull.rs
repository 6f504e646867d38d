//! `longclip models pull` and `path`.

use std::fs;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{clip, command, end, models, pulled, snapshot, weights_line};
use crate::hub::stand_in::{Reply, Request, StandIn};
use crate::hub::{LONE, Room, files_below, lone_file, weights};

/// Serves content in this way the first time, then refuses it.
fn once(
    change: impl Fn(Reply) -> Reply + Send + Sync + 'static,
) -> impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static {
    let asked = AtomicUsize::new(0);
    move |request, reply| match request.is_content() {
        false => reply,
        true if asked.fetch_add(1, Ordering::SeqCst) == 0 => change(reply),
        true => Reply::new(404, b"gone"),
    }
}

#[test]
fn pulling_again_sends_no_requests() {
    let room = Room::new(StandIn::honest(&clip()));
    let first = models(&room, &["pull", "owner/model"]).ends_with(0);
    assert_eq!(first.out, weights_line(&room));
    let asked = room.hub.seen().len();
    let again = models(&room, &["pull", "owner/model"]).ends_with(0);
    assert_eq!(again.out, first.out);
    again.says(&["owner/model is already cached"]);
    let quiet = models(&room, &["pull", "-q", "owner/model"]).ends_with(0);
    assert_eq!((quiet.out, quiet.err), (first.out, String::new()));
    let mut offline = command(&room, &["pull", "owner/model"]);
    offline.env("HF_HUB_OFFLINE", "1");
    end(offline).ends_with(0);
    assert_eq!(room.hub.seen().len(), asked);
}

#[test]
fn a_dry_run_lists_files_and_sizes_and_keeps_nothing() {
    let room = Room::new(StandIn::honest(&clip()));
    let dry = || models(&room, &["pull", "owner/model", "--dry-run"]).ends_with(0);
    let planned = dry();
    let rows: Vec<Vec<&str>> = planned
        .out
        .lines()
        .map(|row| {
            row.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect();
    let expected = [
        ["22 bytes", "not cached", "config.json"],
        ["2 bytes", "not cached", "preprocessor_config.json"],
        ["0 bytes", "cached", "vocab.json"],
        ["9 bytes", "not cached", "merges.txt"],
        ["8 bytes", "not cached", "tokenizer.json"],
        ["600 kB", "not cached", "model.safetensors"],
    ];
    assert_eq!(rows, expected, "{}", planned.out);
    planned.says(&["owner/model: 600 kB of 5 files would be downloaded"]);
    assert!(room.hub.content_requests().is_empty());
    assert!(files_below(&room.cache()).is_empty());
    // What is there already is said.
    models(&room, &["pull", "owner/model"]).ends_with(0);
    let again = dry();
    assert_eq!(again.out, "");
    again.says(&["owner/model is already cached"]);
    models(&room, &["pull", "tiny", "--dry-run"])
        .ends_with(0)
        .says(&["tiny is built in"]);
}

#[test]
fn a_dry_run_knows_shards_lone_files_and_partial_downloads() {
    let index = br#"{"weight_map":{"a":"m-1.bin","b":"m-2.bin"}}"#;
    let room = Room::new(StandIn::honest(&[
        ("pytorch_model.bin.index.json", index.to_vec()),
        ("m-1.bin", vec![1; 10]),
        ("m-2.bin", vec![2; 20]),
    ]));
    let planned = models(&room, &["pull", "owner/model", "--dry-run"]).ends_with(0);
    for row in [
        "44 bytes",
        "10 bytes  not cached  m-1.bin",
        "20 bytes  not cached  m-2.bin",
    ] {
        assert!(planned.out.contains(row), "{row}: {}", planned.out);
    }
    assert!(files_below(&room.cache()).is_empty());

    let room = Room::new(StandIn::faulty(
        &lone_file(),
        once(|mut reply| {
            reply.cut_after = Some(300_000);
            reply
        }),
    ));
    let planned = models(&room, &["pull", LONE, "--dry-run"]).ends_with(0);
    assert_eq!(planned.out, "600 kB  not cached  long@336px.pt\n");
    models(&room, &["pull", LONE]).ends_with(2);
    let planned = models(&room, &["pull", LONE, "--dry-run"]).ends_with(0);
    assert_eq!(planned.out, "600 kB  300 kB cached  long@336px.pt\n");
    planned.says(&["300 kB of 1 file would be downloaded"]);
    let room = Room::new(StandIn::faulty(&clip(), |_, _| Reply::new(404, b"")));
    models(&room, &["pull", "owner/model", "--dry-run"]).ends_with(2);
    let mut down = command(&room, &["pull", "owner/model", "--dry-run"]);
    down.env("HF_ENDPOINT", "http://127.0.0.1:1");
    end(down).ends_with(75);
}

#[test]
fn a_pull_resumes_where_the_last_one_stopped() {
    let room = Room::new(StandIn::faulty(
        &clip(),
        once(|mut reply| {
            reply.cut_after = Some(300_000);
            reply
        }),
    ));
    let cut = models(&room, &["pull", "owner/model"]).ends_with(2);
    assert_eq!(cut.out, "");
    let list = models(&room, &["list"]).json();
    assert!(
        list.as_array()
            .unwrap()
            .iter()
            .all(|row| row["cached"] != "complete")
    );
    let room = room.move_to(StandIn::honest(&clip()));
    let whole = models(&room, &["pull", "owner/model"]).ends_with(0);
    assert_eq!(whole.out, weights_line(&room));
    let ranges: Vec<_> = room.hub.content_requests();
    assert_eq!(ranges.len(), 1);
    assert_eq!(ranges[0].range.as_deref(), Some("bytes=300000-"));
    assert!(fs::read(snapshot(&room).join("model.safetensors")).unwrap() == weights());
}

#[test]
fn two_processes_that_pull_at_once_download_once() {
    let room = Room::new(StandIn::faulty(&clip(), |request, mut reply| {
        if request.is_content() {
            reply.pause = Duration::from_millis(700);
        }
        reply
    }));
    let start = || {
        let mut command = command(&room, &["pull", "owner/model"]);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let both = [start(), start()];
    for child in both {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            weights_line(&room)
        );
    }
    assert_eq!(room.hub.content_requests().len(), 1);
    room.check_soundness();
}

#[test]
fn a_damaged_pull_is_not_kept() {
    let room = Room::new(StandIn::faulty(
        &clip(),
        once(|mut reply| {
            reply.body[1000] ^= 1;
            reply
        }),
    ));
    models(&room, &["pull", "owner/model"])
        .ends_with(2)
        .says(&["arrived damaged"]);
    models(&room, &["path", "owner/model"]).ends_with(2);
    let list = models(&room, &["list"]).json();
    assert!(
        list.as_array()
            .unwrap()
            .iter()
            .all(|row| row["cached"] != "complete")
    );
    let room = room.move_to(StandIn::honest(&clip()));
    models(&room, &["pull", "owner/model"]).ends_with(0);
    assert!(fs::read(snapshot(&room).join("model.safetensors")).unwrap() == weights());
}

#[test]
fn all_of_several_models_are_tried() {
    let room = Room::new(StandIn::honest(&clip()));
    let some = models(&room, &["pull", "owner/gone", "owner/model", "tiny"]).ends_with(1);
    assert_eq!(some.out, weights_line(&room));
    some.says(&["owner/gone: the hub has no repository", "tiny is built in"]);
    models(&room, &["pull", "owner/gone", "no such model"]).ends_with(2);
    let room = room.move_to(StandIn::faulty(&[], |_, _| Reply::new(404, b"")));
    let mut down = command(&room, &["pull", "owner/other", "somebody/gone"]);
    // Nothing listens there.
    down.env("HF_ENDPOINT", "http://127.0.0.1:1");
    end(down).ends_with(75);
}

#[test]
fn failed_pulls_say_why() {
    for status in [401, 403] {
        let room = Room::new(StandIn::faulty(&clip(), move |_, _| {
            Reply::new(status, b"no").with("X-Error-Code", "GatedRepo")
        }));
        models(&room, &["pull", "owner/model"]).ends_with(2).says(&[
            "error: ",
            "accept them on the model's page",
            "/owner/model",
            "HF_TOKEN",
            "hf auth login",
        ]);
    }
    let room = Room::new(StandIn::honest(&clip()));
    let mut offline = command(&room, &["pull", "owner/model"]);
    offline.env("HF_HUB_OFFLINE", "1");
    end(offline).ends_with(2).says(&["HF_HUB_OFFLINE"]);
    assert!(room.hub.seen().is_empty());
    models(&room, &["pull"]).ends_with(2);
    models(&room, &[]).ends_with(2);
}

#[test]
fn path_prints_only_cached_models() {
    let room = pulled();
    let asked = room.hub.seen().len();
    let path = models(&room, &["path", "owner/model"]).ends_with(0);
    assert_eq!((path.out, path.err), (weights_line(&room), String::new()));
    let missing = models(&room, &["path", "longclip-l"]).ends_with(2);
    assert_eq!(missing.out, "");
    missing.says(&[
        "longclip-l is not cached",
        "longclip models pull longclip-l",
    ]);
    models(&room, &["path", "tiny"])
        .ends_with(2)
        .says(&["built into the program"]);
    let folder = snapshot(&room);
    let local = models(&room, &["path", folder.to_str().unwrap()]).ends_with(0);
    assert_eq!(local.out, weights_line(&room));
    assert_eq!(room.hub.seen().len(), asked);
}

#[test]
fn shards_are_one_path_per_line() {
    let index = br#"{"weight_map":{"a":"m-1.bin","b":"m-2.bin"}}"#;
    let room = Room::new(StandIn::honest(&[
        ("pytorch_model.bin.index.json", index.to_vec()),
        ("m-1.bin", vec![1; 10]),
        ("m-2.bin", vec![2; 20]),
    ]));
    let pulled = models(&room, &["pull", "owner/model"]).ends_with(0);
    let path = |name| snapshot(&room).join(name).display().to_string();
    assert_eq!(
        pulled.out,
        format!("{}\n{}\n", path("m-1.bin"), path("m-2.bin"))
    );
    let found = models(&room, &["path", "owner/model"]).ends_with(0);
    assert_eq!(found.out, pulled.out);
    fs::remove_file(path("m-2.bin")).unwrap();
    models(&room, &["path", "owner/model"])
        .ends_with(2)
        .says(&["only partly cached"]);
}

#[test]
fn a_lone_weight_file_is_handled_too() {
    let room = Room::new(StandIn::honest(&lone_file()));
    let pulled = models(&room, &["pull", LONE]).ends_with(0);
    let path = models(&room, &["path", LONE]).ends_with(0);
    assert_eq!(path.out, pulled.out);
    models(&room, &["verify", LONE]).ends_with(0);
    models(&room, &["rm", "-y", "owner/model"]).ends_with(0);
    assert!(files_below(&room.cache()).is_empty());
}
