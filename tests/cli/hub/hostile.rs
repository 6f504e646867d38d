//! A malicious hub that tries to write outside the cache.

use crate::hub::stand_in::{COMMIT, Reply, StandIn};
use crate::hub::{LONE, Room, files_below, lone_file, model, weights};

/// A hub that sets the header `name` to `value` in every response.
fn with_header(name: &'static str, value: &str) -> StandIn {
    let value = value.to_owned();
    StandIn::faulty(&lone_file(), move |_, reply| {
        reply.with(name, value.clone())
    })
}

#[test]
fn headers_that_would_escape_the_cache_are_refused() {
    let outside = [
        "../../../../outside",
        "..",
        "/etc/passwd",
        "a/b",
        "C:\\x",
        "",
        "0123",
        &"a".repeat(50),
    ];
    for name in ["X-Linked-ETag", "X-Repo-Commit"] {
        for value in outside {
            let room = Room::new(with_header(name, value));
            let (error, retry) = room.failure(LONE);
            assert!(
                !retry && error.contains("refusing"),
                "{name}: {value}: {error}"
            );
            assert!(files_below(&room.cache()).is_empty(), "{name}: {value}");
        }
    }
}

#[test]
fn a_listing_of_hostile_names_writes_nothing() {
    for name in [
        "../model.pt",
        "/etc/model.pt",
        "..\\model.pt",
        "C:\\model.pt",
        "a\u{1b}[2J.pt",
        "sub/../../model.pt",
    ] {
        let room = Room::new(StandIn::honest(&[(name, weights())]));
        let (error, retry) = room.failure("owner/model");
        assert!(
            !retry && error.contains("no usable weights"),
            "{name}: {error}"
        );
        assert!(files_below(&room.cache()).is_empty(), "{name}");
    }
}

#[test]
fn a_listing_with_a_hostile_commit_is_refused() {
    let room = Room::new(StandIn::faulty(&model(), |request, mut reply| {
        if request.path.starts_with("/api/") {
            let body = String::from_utf8(reply.body).unwrap();
            reply.body = body.replace(COMMIT, "../../../outside").into_bytes();
        }
        reply
    }));
    let (error, _) = room.failure("owner/model");
    assert!(error.contains("refusing"), "{error}");
    assert!(files_below(&room.cache()).is_empty());
}

#[test]
fn an_index_with_hostile_shards_is_refused() {
    for shard in [
        "../../../outside.bin",
        "/etc/passwd",
        "sub/x.bin",
        "..\\\\x.bin",
    ] {
        let index = format!(r#"{{"weight_map":{{"a":"{shard}"}}}}"#);
        let room = Room::new(StandIn::honest(&[(
            "pytorch_model.bin.index.json",
            index.into_bytes(),
        )]));
        let (error, retry) = room.failure("owner/model");
        assert!(
            !retry && error.contains("not a plain file name"),
            "{shard}: {error}"
        );
        assert!(room.hub.content_requests().is_empty());
    }
}

#[test]
fn an_absurd_length_is_refused_before_anything_is_written() {
    for length in ["18446744073709551615", "99999999999999999999", "-1", "x"] {
        let room = Room::new(with_header("X-Linked-Size", length));
        let (error, retry) = room.failure(LONE);
        assert!(!retry && error.contains(length), "{error}");
        assert!(room.hub.content_requests().is_empty());
    }
}

#[test]
fn the_hubs_messages_cannot_control_the_terminal() {
    let room = Room::new(StandIn::faulty(&lone_file(), |_, _| {
        Reply::new(418, b"").with("X-Error-Message", "x".repeat(5000))
    }));
    let (error, _) = room.failure(LONE);
    assert!(
        error.contains("the hub says: xxx") && error.len() < 1000,
        "{error}"
    );
    let room = Room::new(StandIn::faulty(&model(), |_, _| {
        Reply::new(200, br#"{"sha": "\u001b[2J", "siblings": []}"#)
    }));
    let (error, _) = room.failure("owner/model");
    assert!(
        error.contains("refusing") && !error.contains('\u{1b}'),
        "{error:?}"
    );
}

#[test]
fn a_redirect_to_a_file_or_to_nothing_is_refused() {
    for location in [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "http://",
        "http://[::1",
    ] {
        let room = Room::new(StandIn::faulty(&lone_file(), move |_, _| {
            Reply::new(302, b"").with("Location", location)
        }));
        let (error, _) = room.failure(LONE);
        assert!(
            error.contains("long%40336px.pt") || error.contains("not a URL"),
            "{location}: {error}"
        );
        assert!(files_below(&room.cache()).is_empty());
    }
}
