//! A busy, broken, silent or unreachable hub, and concurrent clients.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use longclip::checkpoint::hub::{Silent, Token};
use longclip::checkpoint::source::{ModelSource, resolve};

use crate::hub::stand_in::{Reply, StandIn};
use crate::hub::{LONE, Room, assert_is_weights, lone_file, model, weights};

#[test]
fn requests_to_a_busy_or_broken_hub_are_retried() {
    for status in [408, 429, 500, 502, 503, 504] {
        let asked = AtomicUsize::new(0);
        let room = Room::new(StandIn::faulty(&model(), move |_, reply| {
            // Each kind of request fails once.
            if asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(3) {
                return Reply::new(status, b"<html>Busy</html>").with("Retry-After", "3600");
            }
            reply
        }));
        assert_is_weights(&room, "owner/model");
        let notes = room.notes.text();
        assert!(notes.contains(&format!("note status {status}")), "{notes}");
        assert!(
            notes.contains("trying again in 20ms"),
            "Retry-After is bounded: {notes}"
        );
    }
}

#[test]
fn a_hub_that_stays_broken_is_a_temporary_failure() {
    for status in [429, 500] {
        let room = Room::new(StandIn::faulty(&model(), move |_, _| {
            Reply::new(status, b"Busy")
        }));
        let (error, retry) = room.failure("owner/model");
        assert!(
            retry && error.contains(&format!("status {status}")),
            "{error}"
        );
        assert_eq!(room.hub.seen().len(), 4, "as many requests as tries");
    }
}

#[test]
fn an_error_page_is_never_taken_for_the_file() {
    for status in [401, 403, 404, 500] {
        let room = Room::new(StandIn::faulty(&lone_file(), move |request, reply| {
            if request.is_content() {
                Reply::new(status, b"<html>No</html>")
            } else {
                reply
            }
        }));
        let (error, _) = room.failure(LONE);
        assert!(
            error.contains("/cdn/long@336px.pt") || error.contains("long@336px.pt"),
            "{error}"
        );
        assert!(
            !room.repository().join("snapshots").exists(),
            "status {status}"
        );
    }
}

#[test]
fn a_silent_hub_is_an_error() {
    let mut room = Room::new(StandIn::faulty(&lone_file(), |request, mut reply| {
        if request.is_content() {
            reply.pause = Duration::from_secs(30);
        }
        reply
    }));
    room.settings.idle_timeout = Duration::from_millis(100);
    room.settings.tries = 2;
    let (error, retry) = room.failure(LONE);
    assert!(retry && error.contains("timeout"), "{error}");
}

#[test]
fn an_unreachable_hub_is_a_temporary_failure_with_alternatives() {
    let mut room = Room::new(StandIn::honest(&[]));
    // Nothing listens there; a port of our own could be reused by another test.
    room.settings.endpoint = "http://127.0.0.1:1".to_owned();
    let (error, retry) = room.failure("longclip-b");
    let cache = room.cache().join("models--BeichenZhang--LongCLIP-B");
    for expected in [
        "longclip-b (BeichenZhang/LongCLIP-B: longclip-B.pt) could not be downloaded",
        "hf download BeichenZhang/LongCLIP-B longclip-B.pt",
        "/BeichenZhang/LongCLIP-B/resolve/main/longclip-B.pt",
        "--model tiny",
        &cache.display().to_string(),
        &room.settings.endpoint,
    ] {
        assert!(error.contains(expected), "no {expected:?} in: {error}");
    }
    assert!(retry, "{error}");
}

#[test]
fn eight_concurrent_clients_download_once() {
    let room = Room::new(StandIn::faulty(&model(), |request, mut reply| {
        if request.is_content() {
            reply.pause = Duration::from_millis(200);
        }
        reply
    }));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let source = resolve("owner/model", &room.settings, &Silent).unwrap();
                let ModelSource::Files(files) = source else {
                    panic!("built in")
                };
                assert!(std::fs::read(&files.weights[0]).unwrap() == weights());
            });
        }
    });
    assert_eq!(room.hub.content_requests().len(), 1);
    room.check_soundness();
}

#[test]
fn a_server_that_is_nearly_silent_is_given_up_and_the_rest_comes_later() {
    let mut room = Room::new(StandIn::faulty(&lone_file(), |request, mut reply| {
        if request.is_content() {
            reply.trickle = Duration::from_millis(5);
        }
        reply
    }));
    room.settings.rate_window = Duration::from_millis(300);
    room.settings.least_bytes = 10_000;
    let (error, retry) = room.failure(LONE);
    assert!(retry && error.contains(" bytes came in "), "{error}");
    assert_eq!(room.hub.content_requests().len(), 2, "tried twice");
    let room = room.move_to(StandIn::honest(&lone_file()));
    assert_is_weights(&room, LONE);
    let requests = room.hub.content_requests();
    assert!(requests[0].range.is_some(), "what came is kept");
}

#[test]
fn a_listing_that_hardly_comes_is_given_up_too() {
    let mut room = Room::new(StandIn::faulty(&model(), |_, mut reply| {
        reply.trickle = Duration::from_millis(5);
        reply
    }));
    room.settings.rate_window = Duration::from_millis(300);
    room.settings.least_bytes = 10_000;
    let (error, retry) = room.failure("owner/model");
    assert!(retry && error.contains(" bytes came in "), "{error}");
}

/// How many rooms have a hub with random faults.
fn rooms() -> u32 {
    let wanted = std::env::var("LONGCLIP_HUB_FAULTS");
    wanted.map_or(60, |count| count.parse().expect("a number"))
}

#[test]
fn random_faults_neither_poison_the_cache_nor_leak_the_token() {
    let mut good = 0;
    for seed in 0..rooms() {
        // Another server, to which redirects lead. It has the right files, and other ones.
        let stranger = StandIn::honest(&model());
        let elsewhere = stranger.endpoint();
        let state = std::sync::Mutex::new(seed.wrapping_mul(2_654_435_761));
        let mut room = Room::new(StandIn::faulty(&model(), move |request, mut reply| {
            let mut state = state.lock().unwrap();
            let mut random = |below: u32| {
                *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (*state >> 16) % below
            };
            let length = u32::try_from(reply.body.len()).unwrap();
            let hostile = [
                "../../x",
                "a\r\nX-Repo-Commit: ../../x",
                "\"",
                "\u{1b}[2J",
                "",
            ];
            let hostile = hostile[random(5) as usize];
            let headers = ["X-Linked-ETag", "X-Repo-Commit", "ETag", "Content-Range"];
            match random(30) {
                0 => return Reply::new(503, b"Busy"),
                1 => return Reply::new(200, b"<html>WiFi</html>"),
                2 | 3 if length > 0 => reply.cut_after = Some(random(length) as usize),
                4 | 5 if length > 0 => reply.body[random(length) as usize] ^= 0x10,
                6 => reply.body.truncate(random(length + 1) as usize),
                7 => reply.pause = Duration::from_millis(300),
                8 => reply.trickle = Duration::from_millis(1),
                9 => reply.endless = request.is_content(),
                10 => return reply.with(headers[random(4) as usize], hostile),
                11 => return reply.with("Content-Length", random(2 * length + 2).to_string()),
                12 => return reply.with("X-Linked-Size", random(700_000).to_string()),
                13 => return reply.with("X-Linked-ETag", format!("\"{:064x}\"", random(9))),
                14 => return Reply::new(302, b"").with("Location", request.path.clone()),
                15 => {
                    let to = format!("{elsewhere}{}", request.path);
                    return Reply::new(307, b"").with("Location", to);
                }
                16 => return Reply::new(302, b"").with("Location", "file:///etc/passwd"),
                17 => return Reply::new(302, b"").with("Location", hostile),
                18 if request.path.starts_with("/api/") => {
                    let body = String::from_utf8(reply.body).unwrap();
                    let names = ["../model.safetensors", "/etc/x", "sub/../../config.json"];
                    let name = names[random(3) as usize];
                    reply.body = body.replace("model.safetensors", name).into_bytes();
                }
                _ => {}
            }
            reply
        }));
        room.settings.token = Token::new("hf_secret");
        room.settings.idle_timeout = Duration::from_millis(200);
        room.settings.rate_window = Duration::from_millis(100);
        room.settings.least_bytes = 1000;
        // `resolve` checks the cache whether it fails or not.
        good += u32::from((0..4).any(|_| room.resolve("owner/model").is_ok()));
        let seen = stranger.seen();
        assert!(
            seen.iter().all(|request| request.authorization.is_none()),
            "{seen:?}"
        );
    }
    assert!(good > rooms() / 3, "only {good} of {} succeeded", rooms());
}
