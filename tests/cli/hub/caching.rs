//! Cached files need no network, and Python's library finds them.

use longclip::checkpoint::source::cached;

use crate::hub::stand_in::{COMMIT, Reply, StandIn, etag};
use crate::hub::{LONE, Room, files_below, lone_file, model, weights};

#[test]
fn cached_files_are_used_without_any_request() {
    for (files, name) in [
        (model(), "owner/model"),
        (lone_file(), LONE),
        (model(), "owner/model:model.safetensors"),
    ] {
        let room = Room::new(StandIn::honest(&files));
        assert_eq!(cached(name, &room.settings).unwrap(), None);
        let first = room.resolve(name).unwrap();
        let before = room.hub.seen().len();
        let second = room.resolve(name).unwrap();
        assert_eq!(first, second);
        assert_eq!(cached(name, &room.settings).unwrap(), Some(second));
        assert_eq!(room.hub.seen().len(), before, "{name}");
    }
}

#[test]
fn offline_mode_uses_the_cache_and_never_the_network() {
    let mut room = Room::new(StandIn::honest(&model()));
    room.settings.offline = true;
    let (error, retry) = room.failure("owner/model");
    for expected in [
        "HF_HUB_OFFLINE",
        "owner/model",
        "--model tiny",
        "hf download owner/model",
    ] {
        assert!(error.contains(expected), "no {expected:?} in: {error}");
    }
    assert!(!retry && room.hub.seen().is_empty());
    room.settings.offline = false;
    let files = room.resolve("owner/model").unwrap();
    let before = room.hub.seen().len();
    room.settings.offline = true;
    assert_eq!(room.resolve("owner/model").unwrap(), files);
    assert_eq!(room.hub.seen().len(), before);
}

#[test]
fn a_missing_configuration_is_not_requested_again() {
    let room = Room::new(StandIn::honest(&[("model.safetensors", weights())]));
    let files = room.resolve("owner/model").unwrap();
    assert_eq!(files.config, None);
    let before = room.hub.seen().len();
    room.resolve("owner/model").unwrap();
    assert_eq!(room.hub.seen().len(), before);
    let marker = format!(".no_exist/{COMMIT}/config.json");
    assert!(room.repository().join(marker).is_file());
}

#[test]
fn weights_cached_by_other_programs_get_their_configuration() {
    let room = Room::new(StandIn::honest(&model()));
    room.resolve("owner/model").unwrap();
    let snapshot = room.repository().join("snapshots").join(COMMIT);
    std::fs::remove_file(snapshot.join("preprocessor_config.json")).unwrap();
    let files = room.resolve("owner/model").unwrap();
    assert!(files.preprocessor.is_some());
    assert_eq!(
        room.hub.content_requests().len(),
        1,
        "the weights are not downloaded again"
    );
    // If the hub is unreachable they are used alone, with a note to the user.
    std::fs::remove_file(snapshot.join("preprocessor_config.json")).unwrap();
    let mut room = room;
    for (status, offline) in [(503, false), (404, false), (200, true)] {
        room = room.move_to(StandIn::faulty(&[], move |_, _| Reply::new(status, b"")));
        room.settings.offline = offline;
        room.notes = crate::hub::Notes::default();
        let files = room.resolve("owner/model").unwrap();
        assert!(files.preprocessor.is_none() && files.config.is_some());
        let notes = room.notes.text();
        let note = "owner/model is cached without preprocessor_config.json";
        assert!(notes.contains(note), "{notes}");
    }
}

#[test]
fn an_incomplete_set_of_shards_is_completed() {
    let index = br#"{"weight_map":{"a":"m-1.bin","b":"m-2.bin"}}"#;
    let room = Room::new(StandIn::honest(&[
        ("pytorch_model.bin.index.json", index.to_vec()),
        ("m-1.bin", vec![1; 10]),
        ("m-2.bin", vec![2; 20]),
    ]));
    room.resolve("owner/model").unwrap();
    let shard = room
        .repository()
        .join("snapshots")
        .join(COMMIT)
        .join("m-2.bin");
    std::fs::remove_file(&shard).unwrap();
    assert_eq!(cached("owner/model", &room.settings).unwrap(), None);
    assert_eq!(room.resolve("owner/model").unwrap().weights.len(), 2);
    assert!(shard.exists());
}

#[test]
fn the_cache_has_the_layout_of_huggingface_hub() {
    let room = Room::new(StandIn::honest(&[
        ("config.json", b"{}".to_vec()),
        ("sub/model.safetensors", weights()),
    ]));
    room.resolve("owner/model:sub/model.safetensors").unwrap();
    room.resolve("owner/model:config.json").unwrap();
    let (large, small) = (etag("x.pt", &weights()), etag("x.json", b"{}"));
    let blobs = files_below(&room.repository().join("blobs"));
    let names: Vec<_> = blobs
        .keys()
        .map(|path| path.file_name().unwrap().to_str().unwrap())
        .collect();
    let mut expected = [large.as_str(), small.as_str()];
    expected.sort_unstable();
    assert_eq!(names, expected);
    let reference = std::fs::read_to_string(room.repository().join("refs/main")).unwrap();
    assert_eq!(reference, COMMIT);
    let snapshot = room.repository().join("snapshots").join(COMMIT);
    for (file, target) in [
        ("config.json", format!("../../blobs/{small}")),
        ("sub/model.safetensors", format!("../../../blobs/{large}")),
    ] {
        #[cfg(unix)]
        assert_eq!(
            std::fs::read_link(snapshot.join(file)).unwrap(),
            std::path::Path::new(&target)
        );
        assert!(snapshot.join(file).is_file(), "{file} -> {target}");
    }
}

#[test]
fn an_interrupted_update_leaves_the_older_snapshot_in_use() {
    let room = Room::new(StandIn::honest(&model()));
    let old = room.resolve("owner/model").unwrap();
    let newer = COMMIT.replace('0', "f");
    // The preprocessor's configuration is requested, but the branch has moved
    // to a commit whose weights do not arrive.
    let snapshot = room.repository().join("snapshots").join(COMMIT);
    std::fs::remove_file(snapshot.join("preprocessor_config.json")).unwrap();
    let room = room.move_to(StandIn::faulty(&model(), move |request, reply| {
        if request.path.starts_with("/api/") {
            let body = String::from_utf8(reply.body)
                .unwrap()
                .replace(COMMIT, &newer);
            return Reply::new(200, body.as_bytes());
        }
        Reply::new(503, b"")
    }));
    let found = room.resolve("owner/model").unwrap();
    assert_eq!(found.weights, old.weights);
    let reference = std::fs::read_to_string(room.repository().join("refs/main")).unwrap();
    assert_eq!(reference, COMMIT);
}

#[test]
fn an_unwritable_cache_is_an_error_unless_all_is_cached() {
    let mut room = Room::new(StandIn::honest(&lone_file()));
    let file = room.folder.path().join("cache");
    std::fs::write(&file, "not a folder").unwrap();
    let (error, retry) = room.failure(LONE);
    assert!(
        !retry && error.contains(file.to_str().unwrap()) && error.contains("HF_HOME"),
        "{error}"
    );
    room.settings.cache = None;
    let (error, _) = room.failure(LONE);
    assert!(error.contains("HF_HOME"), "{error}");
}
