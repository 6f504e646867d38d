//! Downloads end up complete and correct, whatever the connection does.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::hub::stand_in::{Reply, Request, StandIn};
use crate::hub::{LONE, Room, assert_is_weights, lone_file, model, weights};

/// Changes the responses to the first `count` requests for content.
fn at_first(
    count: usize,
    change: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static,
) -> impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static {
    let asked = AtomicUsize::new(0);
    move |request, reply| {
        if request.is_content() && asked.fetch_add(1, Ordering::SeqCst) < count {
            change(request, reply)
        } else {
            reply
        }
    }
}

fn ranges(room: &Room) -> Vec<Option<String>> {
    let requests = room.hub.content_requests();
    requests.into_iter().map(|request| request.range).collect()
}

#[test]
fn a_repository_is_downloaded_with_its_companions_only() {
    let room = Room::new(StandIn::honest(&model()));
    let files = room.resolve("owner/model").unwrap();
    assert_eq!(files.name, "owner/model");
    for (path, name) in [
        (files.weights.first(), "model.safetensors"),
        (files.config.as_ref(), "config.json"),
        (files.preprocessor.as_ref(), "preprocessor_config.json"),
        (files.vocabulary.as_ref(), "vocab.json"),
        (files.merges.as_ref(), "merges.txt"),
        (files.tokenizer.as_ref(), "tokenizer.json"),
    ] {
        let path = path.unwrap();
        assert!(path.ends_with(name), "{}", path.display());
        let expected = model()
            .into_iter()
            .find(|(file, _)| *file == name)
            .unwrap()
            .1;
        assert!(std::fs::read(path).unwrap() == expected, "{name}");
    }
    assert_eq!(files.open_clip_config, None);
    assert!(
        room.hub
            .seen()
            .iter()
            .all(|request| !request.path.contains("README"))
    );
    let notes = room.notes.text();
    assert!(
        notes.contains("start model.safetensors 0 of 600000"),
        "{notes}"
    );
    assert!(notes.ends_with("finish"), "{notes}");
}

#[test]
fn a_named_file_is_downloaded_without_a_listing() {
    let room = Room::new(StandIn::honest(&lone_file()));
    assert_is_weights(&room, LONE);
    assert_eq!(room.resolve(LONE).unwrap().config, None);
    let paths: Vec<String> = room.hub.seen().into_iter().map(|seen| seen.path).collect();
    assert!(
        paths.iter().all(|path| path.ends_with("long@336px.pt")),
        "{paths:?}"
    );
    assert_eq!(paths.len(), 3, "HEAD, GET, the store: {paths:?}");
}

#[test]
fn tags_and_commits_are_downloaded_too() {
    let room = Room::new(StandIn::honest(&model()));
    for revision in ["v1", crate::hub::stand_in::COMMIT] {
        assert_is_weights(&room, &format!("owner/model@{revision}"));
    }
    assert!(room.repository().join("refs/v1").is_file());
    assert_eq!(
        room.hub.content_requests().len(),
        1,
        "one content, one transfer"
    );
}

#[test]
fn all_shards_of_an_index_are_downloaded() {
    let index = br#"{"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}}"#;
    let room = Room::new(StandIn::honest(&[
        ("model.safetensors.index.json", index.to_vec()),
        ("m-1.safetensors", vec![1; 10]),
        ("m-2.safetensors", vec![2; 20]),
        ("m-3.safetensors", vec![3; 30]),
    ]));
    let found = room.resolve("owner/model").unwrap().weights;
    let contents: Vec<_> = found
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    assert_eq!(contents, [vec![1; 10], vec![2; 20]]);
}

#[test]
fn a_cut_connection_is_resumed_where_it_broke() {
    for percent in [0, 1, 25, 50, 75, 99] {
        let cut = at_first(1, move |_, mut reply| {
            reply.cut_after = Some(reply.body.len() * percent / 100);
            reply
        });
        let room = Room::new(StandIn::faulty(&lone_file(), cut));
        assert_is_weights(&room, LONE);
        let resumed = (percent > 0).then(|| format!("bytes={}-", 6000 * percent));
        assert_eq!(ranges(&room), [None, resumed], "{percent} %");
    }
}

#[test]
fn a_run_after_a_broken_one_resumes() {
    let cut = at_first(1, |_, mut reply| {
        reply.cut_after = Some(250_000);
        reply
    });
    let mut room = Room::new(StandIn::faulty(&lone_file(), cut));
    room.settings.tries = 1;
    let (error, retry) = room.failure(LONE);
    assert!(
        retry && error.contains("broke after 250000 of 600000 bytes"),
        "{error}"
    );
    assert!(
        error.contains("hf download owner/model long@336px.pt"),
        "{error}"
    );
    assert_is_weights(&room, LONE);
    assert_eq!(ranges(&room), [None, Some("bytes=250000-".to_owned())]);
    assert!(
        room.notes
            .text()
            .contains("start long@336px.pt 250000 of 600000")
    );
}

#[test]
fn a_store_that_ignores_ranges_is_read_from_the_start() {
    let asked = AtomicUsize::new(0);
    let room = Room::new(StandIn::faulty(&lone_file(), move |request, mut reply| {
        if request.is_content() {
            reply = Reply::new(200, &weights());
            reply.cut_after = (asked.fetch_add(1, Ordering::SeqCst) == 0).then_some(300_000);
        }
        reply
    }));
    assert_is_weights(&room, LONE);
    assert_eq!(ranges(&room), [None, Some("bytes=300000-".to_owned())]);
}

#[test]
fn a_wrong_part_is_not_accepted() {
    let room = Room::new(StandIn::faulty(
        &lone_file(),
        at_first(2, |request, mut reply| {
            if request.range.is_some() {
                return reply.with("Content-Range", "bytes 0-599999/600000");
            }
            reply.cut_after = Some(300_000);
            reply
        }),
    ));
    assert_is_weights(&room, LONE);
    let expected = [None, Some("bytes=300000-".to_owned()), None];
    assert_eq!(ranges(&room), expected);
}

#[test]
fn wrong_content_never_reaches_the_cache_and_right_content_does_afterwards() {
    type Change = fn(Reply) -> Reply;
    let faults: [(&str, Change, &str); 5] = [
        (
            "one byte wrong",
            |mut reply| {
                reply.body[599_999] ^= 1;
                reply
            },
            "damaged",
        ),
        (
            "half with its own length",
            |mut reply| {
                reply.body.truncate(300_000);
                reply
            },
            "300000 bytes instead of 600000",
        ),
        (
            "longer",
            |mut reply| {
                reply.body.push(0);
                reply
            },
            "600001 bytes instead of 600000",
        ),
        (
            "a page instead",
            |_| Reply::new(200, b"<html>Log in to the WiFi</html>"),
            "instead of 600000",
        ),
        (
            "always cut at once",
            |mut reply| {
                reply.cut_after = Some(0);
                reply
            },
            "broke after 0",
        ),
    ];
    for (what, change, expected) in faults {
        let hub = StandIn::faulty(&lone_file(), at_first(4, move |_, reply| change(reply)));
        let room = Room::new(hub);
        let (error, retry) = room.failure(LONE);
        assert!(retry && error.contains(expected), "{what}: {error}");
        assert_is_weights(&room, LONE);
    }
}

#[test]
fn a_damaged_partial_file_is_replaced() {
    let room = Room::new(StandIn::honest(&lone_file()));
    let blobs = room.repository().join("blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let name = format!("{}.incomplete", crate::hub::etag("x.pt", &weights()));
    for garbage in [vec![7; 1000], vec![7; 600_000], vec![7; 700_000]] {
        std::fs::write(blobs.join(&name), garbage).unwrap();
        assert_is_weights(&room, LONE);
        assert!(!blobs.join(&name).exists());
        std::fs::remove_dir_all(room.repository().join("snapshots")).unwrap();
        std::fs::remove_file(blobs.join(name.trim_end_matches(".incomplete"))).unwrap();
    }
}

#[test]
fn a_blob_of_the_wrong_length_is_downloaded_again() {
    let room = Room::new(StandIn::honest(&lone_file()));
    assert_is_weights(&room, LONE);
    let blob = room
        .repository()
        .join("blobs")
        .join(crate::hub::etag("x.pt", &weights()));
    std::fs::write(&blob, b"short").unwrap();
    std::fs::remove_dir_all(room.repository().join("snapshots")).unwrap();
    assert_is_weights(&room, LONE);
}

#[test]
fn redirects_on_the_same_hub_are_followed_up_to_a_limit() {
    let room = Room::new(StandIn::faulty(&model(), |request, reply| {
        match request.path.strip_prefix("/renamed") {
            _ if request.is_content() => reply,
            Some(_) => reply,
            None if request.path.contains("config.json") && request.range.is_none() => {
                Reply::new(307, b"").with("Location", format!("/moved{}", request.path))
            }
            None => reply,
        }
    }));
    let (error, retry) = room.failure("owner/model");
    assert!(!retry && error.contains("redirects in a row"), "{error}");
}

#[test]
fn a_renamed_repository_is_followed() {
    let room = Room::new(StandIn::faulty(&model(), |request, reply| {
        match request.path.contains("old/name") {
            true => Reply::new(307, b"")
                .with("Location", request.path.replace("old/name", "owner/model")),
            false => reply,
        }
    }));
    assert_is_weights(&room, "old/name");
    assert!(room.cache().join("models--old--name/snapshots").is_dir());
}
