//! `longclip models`, the built program, against a hub and a cache of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::stand_in::{COMMIT, Reply, Request, StandIn, etag};
use crate::{LONE, Room, files_below, lone_file, model, weights};

const OTHER: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// How a run ended.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        self
    }

    #[track_caller]
    fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.err.contains(part), "no {part:?} in: {}", self.err);
        }
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

/// `longclip models …` with the room's hub and cache, and nothing else of the environment.
fn command(room: &Room, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longclip"));
    command.arg("models").args(arguments).env_clear();
    for kept in ["PATH", "SystemRoot", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command
        .env("HOME", room.folder.path())
        .env("HF_ENDPOINT", &room.settings.endpoint)
        .env("HF_HUB_CACHE", room.cache())
        .stdin(Stdio::null());
    command
}

fn end(mut command: Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn models(room: &Room, arguments: &[&str]) -> Ran {
    let ran = end(command(room, arguments));
    room.check_soundness();
    ran
}

/// The published files with a configuration that says CLIP.
fn clip() -> Vec<(&'static str, Vec<u8>)> {
    let mut files = model();
    files.retain(|(name, _)| *name != "config.json");
    files.push(("config.json", b"{\"model_type\": \"clip\"}".to_vec()));
    files
}

/// A room with `owner/model` in its cache.
fn pulled() -> Room {
    let room = Room::new(StandIn::honest(&clip()));
    models(&room, &["pull", "-q", "owner/model"]).ends_with(0);
    room
}

fn snapshot(room: &Room) -> PathBuf {
    room.repository().join("snapshots").join(COMMIT)
}

fn weights_line(room: &Room) -> String {
    let path = snapshot(room).join("model.safetensors");
    format!("{}\n", path.display())
}

/// The content arrives in this way the first time, and never again.
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
    assert_eq!(room.hub.seen().len(), asked, "a list asks nobody");
}

#[test]
fn the_list_tells_half_a_download_and_other_models_apart() {
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
    // Nothing says what its main is, so the commit is part of the name.
    row(&list, &format!("a/clip@{COMMIT}"));
    assert_eq!(list.as_array().unwrap().len(), 10, "bert is no CLIP");
}

#[test]
fn pulling_again_asks_nobody() {
    let room = Room::new(StandIn::honest(&clip()));
    let first = models(&room, &["pull", "owner/model"]).ends_with(0);
    assert_eq!(first.out, weights_line(&room));
    let asked = room.hub.seen().len();
    let again = models(&room, &["pull", "owner/model"]).ends_with(0);
    assert_eq!(again.out, first.out);
    again.says(&["owner/model is cached already"]);
    let quiet = models(&room, &["pull", "-q", "owner/model"]).ends_with(0);
    assert_eq!((quiet.out, quiet.err), (first.out, String::new()));
    let mut offline = command(&room, &["pull", "owner/model"]);
    offline.env("HF_HUB_OFFLINE", "1");
    end(offline).ends_with(0);
    assert_eq!(room.hub.seen().len(), asked);
}

#[test]
fn a_pull_goes_on_where_the_last_one_was_cut() {
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
fn a_pull_that_arrives_damaged_leaves_nothing_to_trust() {
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
fn several_models_are_all_tried() {
    let room = Room::new(StandIn::honest(&clip()));
    let some = models(&room, &["pull", "owner/gone", "owner/model", "tiny"]).ends_with(1);
    assert_eq!(some.out, weights_line(&room));
    some.says(&[
        "owner/gone: the hub knows no repository",
        "tiny is built in",
    ]);
    models(&room, &["pull", "owner/gone", "no such model"]).ends_with(2);
    let room = room.move_to(StandIn::faulty(&[], |_, _| Reply::new(404, b"")));
    let mut down = command(&room, &["pull", "owner/other", "somebody/gone"]);
    // Nobody listens there.
    down.env("HF_ENDPOINT", "http://127.0.0.1:1");
    end(down).ends_with(75);
}

#[test]
fn what_cannot_be_pulled_says_why() {
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
fn the_path_of_what_is_there_and_only_of_that() {
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
fn shards_are_a_path_a_line() {
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
        .says(&["cached only in part"]);
}

/// Puts a second snapshot into the cache: the same weights, a configuration of its own.
#[cfg(unix)]
fn add_snapshot(room: &Room) -> PathBuf {
    use std::os::unix::fs::symlink;
    let folder = room.repository().join("snapshots").join(OTHER);
    fs::create_dir_all(&folder).unwrap();
    let config = b"{\"other\": 1}";
    let blob = etag("config.json", config);
    fs::write(room.repository().join("blobs").join(&blob), config).unwrap();
    for (name, blob) in [
        ("config.json", blob),
        ("model.safetensors", etag("x.pt", &weights())),
    ] {
        symlink(format!("../../blobs/{blob}"), folder.join(name)).unwrap();
    }
    fs::write(room.repository().join("refs/v2"), OTHER).unwrap();
    folder
}

#[cfg(unix)]
#[test]
fn a_snapshot_goes_without_what_others_share() {
    let room = pulled();
    let before = files_below(&room.repository());
    let folder = add_snapshot(&room);
    let name = format!("owner/model@{OTHER}");
    let removed = models(&room, &["rm", "--yes", &name]).ends_with(0);
    assert_eq!(
        removed.out,
        "removed 1 snapshot of owner/model, freed 12 bytes\n"
    );
    assert!(!folder.exists());
    assert_eq!(files_below(&room.repository()), before);
    models(&room, &["path", "owner/model"]).ends_with(0);

    // The other way round: what is left is the other snapshot, and what `main` was is forgotten.
    let folder = add_snapshot(&room);
    models(&room, &["rm", "--yes", "owner/model@main"]).ends_with(0);
    assert!(fs::read(folder.join("model.safetensors")).unwrap() == weights());
    assert!(!room.repository().join("refs/main").exists() && !snapshot(&room).exists());
    models(&room, &["path", "owner/model"]).ends_with(2);
    models(&room, &["path", "owner/model@v2"]).ends_with(0);
}

#[cfg(unix)]
#[test]
fn removing_a_model_takes_all_of_it_and_nothing_else() {
    use std::os::unix::fs::symlink;
    let room = pulled();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("precious"), "data").unwrap();
    // Links that lead out of the cache, to a file and to a folder, and blobs of a neighbour.
    symlink(
        outside.path().join("precious"),
        snapshot(&room).join("link.txt"),
    )
    .unwrap();
    symlink(outside.path(), snapshot(&room).join("folder")).unwrap();
    symlink(outside.path(), room.repository().join("blobs/abcd")).unwrap();
    symlink(
        outside.path(),
        room.repository().join("snapshots").join(OTHER),
    )
    .unwrap();
    let lock = room.cache().join(".locks/models--owner--model");
    symlink(outside.path().join("new"), lock.join("ef.lock")).unwrap();
    fs::write(room.repository().join("blobs/ef.incomplete"), "half").unwrap();
    let neighbour = room.cache().join("models--owner--models/blobs/ab");
    fs::create_dir_all(neighbour.parent().unwrap()).unwrap();
    fs::write(&neighbour, "x").unwrap();

    let removed = end(command(&room, &["rm", "--yes", "owner/model"])).ends_with(0);
    assert!(
        removed
            .out
            .starts_with("removed 2 snapshots of owner/model, freed 600 kB"),
        "{}",
        removed.out
    );
    assert!(!room.repository().exists() && !lock.exists());
    let left: Vec<_> = files_below(&room.cache()).into_keys().collect();
    assert_eq!(left, [neighbour]);
    let outside: Vec<_> = files_below(outside.path()).into_values().collect();
    assert_eq!(outside, [b"data"]);
    models(&room, &["rm", "--yes", "owner/model"])
        .ends_with(2)
        .says(&["owner/model is not cached"]);
    models(&room, &["pull", "owner/model"]).ends_with(0);
}

#[cfg(unix)]
#[test]
fn a_repository_that_is_a_link_is_left_alone() {
    use std::os::unix::fs::symlink;
    let room = pulled();
    let elsewhere = tempfile::tempdir().unwrap();
    let moved = elsewhere.path().join("moved");
    fs::rename(room.repository(), &moved).unwrap();
    symlink(&moved, room.repository()).unwrap();
    let before = files_below(&moved);
    models(&room, &["path", "owner/model"]).ends_with(0);
    models(&room, &["rm", "--yes", "owner/model"])
        .ends_with(2)
        .says(&["is a link to another place"]);
    assert_eq!(files_below(&moved), before);
    // So are blobs in a folder that is one.
    fs::remove_file(room.repository()).unwrap();
    fs::rename(&moved, room.repository()).unwrap();
    add_snapshot(&room);
    let blobs = elsewhere.path().join("blobs");
    fs::rename(room.repository().join("blobs"), &blobs).unwrap();
    symlink(&blobs, room.repository().join("blobs")).unwrap();
    let before = files_below(&blobs);
    let name = format!("owner/model@{OTHER}");
    models(&room, &["rm", "--yes", &name]).ends_with(2);
    models(&room, &["rm", "--yes", "owner/model"]).ends_with(0);
    assert_eq!(files_below(&blobs), before);
}

#[test]
fn rm_asks_nobody_on_a_pipe() {
    let room = pulled();
    let before = files_below(&room.cache());
    for input in ["", "y\n"] {
        let mut asked = assert_cmd::Command::from_std(command(&room, &["rm", "owner/model"]));
        let output = asked.write_stdin(input).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("--yes"), "{said}");
    }
    assert_eq!(files_below(&room.cache()), before);
}

#[test]
fn rm_refuses_what_is_no_download() {
    let room = pulled();
    let before = files_below(&room.cache());
    let folder = snapshot(&room);
    let file = folder.join("model.safetensors");
    for (name, expected) in [
        ("tiny", "built into the program"),
        (folder.to_str().unwrap(), "is a file or folder of yours"),
        (file.to_str().unwrap(), "is a file or folder of yours"),
        ("owner/model:model.safetensors", "leave :FILE away"),
        ("longclip-b", "longclip-b is not cached"),
        ("owner/model@v9", "owner/model@v9 is not cached"),
        ("owner/../model", "no file or folder"),
    ] {
        models(&room, &["rm", "--yes", name])
            .ends_with(2)
            .says(&[expected]);
    }
    assert_eq!(files_below(&room.cache()), before);
    let some = models(
        &room,
        &["rm", "--yes", "tiny", "owner/model", "owner/model"],
    )
    .ends_with(1);
    assert_eq!(some.out.lines().count(), 1, "{}", some.out);
}

#[test]
fn rm_does_not_disturb_a_download() {
    let room = Room::new(StandIn::faulty(&clip(), |request, mut reply| {
        if request.is_content() {
            reply.pause = Duration::from_millis(1500);
        }
        reply
    }));
    let mut pull = command(&room, &["pull", "owner/model"]);
    let pull = pull.stdout(Stdio::piped()).stderr(Stdio::piped());
    let pull = pull.spawn().unwrap();
    while room.hub.content_requests().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let before = files_below(&room.repository());
    end(command(&room, &["rm", "--yes", "owner/model"]))
        .ends_with(75)
        .says(&["another process is fetching"]);
    assert_eq!(files_below(&room.repository()), before);
    assert_eq!(pull.wait_with_output().unwrap().status.code(), Some(0));
    models(&room, &["path", "owner/model"]).ends_with(0);
}

/// The status of each file that `verify` tells.
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
fn verify_finds_what_is_damaged() {
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
    let harm: [(&str, &dyn Fn(&Path)); 5] = [
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
        // What it says to do helps.
        end(command(&room, &["rm", "--yes", "owner/model"])).ends_with(0);
        models(&room, &["pull", "owner/model"]).ends_with(0);
        models(&room, &["verify", "owner/model"]).ends_with(0);
    }
}

#[test]
fn verify_tells_what_it_cannot_know() {
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
    let empty = Room::new(StandIn::honest(&[]));
    let nothing = models(&empty, &["verify"]).ends_with(0);
    assert_eq!(nothing.out, "[]\n");
    nothing.says(&["no model is cached"]);
}

#[test]
fn a_lone_file_of_weights_is_handled_as_well() {
    let room = Room::new(StandIn::honest(&lone_file()));
    let pulled = models(&room, &["pull", LONE]).ends_with(0);
    let path = models(&room, &["path", LONE]).ends_with(0);
    assert_eq!(path.out, pulled.out);
    models(&room, &["verify", LONE]).ends_with(0);
    models(&room, &["rm", "-y", "owner/model"]).ends_with(0);
    assert!(files_below(&room.cache()).is_empty());
}

#[test]
fn a_reader_that_goes_away_ends_a_list_quietly() {
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

/// How a run with a stdout of its own ended.
fn end_of(mut command: Command) -> Ran {
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code(),
        out: String::new(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
