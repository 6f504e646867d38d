//! Refusals by the hub, and handling of the token.

use longclip::checkpoint::hub::Token;

use crate::hub::stand_in::{COMMIT, Reply, Request, StandIn};
use crate::hub::{LONE, Room, lone_file, model};

/// Requires the right token.
fn gate(status: u16) -> impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static {
    move |request, reply| match request.authorization.as_deref() {
        Some("Bearer hf_right") => reply,
        _ if request.is_content() => reply,
        _ => Reply::new(status, b"Restricted")
            .with("X-Error-Code", "GatedRepo")
            .with("X-Error-Message", "Access is restricted"),
    }
}

#[test]
fn a_gated_model_explains_access_and_opens_with_the_token() {
    for status in [401, 403] {
        let mut room = Room::new(StandIn::faulty(&lone_file(), gate(status)));
        for token in [None, Token::new("hf_wrong")] {
            room.settings.token = token;
            let (error, retry) = room.failure(LONE);
            let page = format!("{}/owner/model,", room.hub.endpoint());
            for expected in ["HF_TOKEN", "hf auth login", "accept them", &page] {
                assert!(error.contains(expected), "no {expected:?} in: {error}");
            }
            assert!(!retry && !error.contains("hf_wrong"), "{error}");
        }
        room.settings.token = Token::new("hf_right");
        room.resolve(LONE).unwrap();
    }
}

#[test]
fn the_token_goes_to_the_hub_and_to_no_other_host() {
    let store = StandIn::honest(&model());
    let mut room = Room::new(StandIn::honest(&model()).with_store(&store));
    room.settings.token = Token::new("hf_right");
    room.resolve("owner/model").unwrap();
    assert!(room.hub.seen().len() > 5);
    for request in room.hub.seen() {
        assert_eq!(
            request.authorization.as_deref(),
            Some("Bearer hf_right"),
            "{request:?}"
        );
    }
    assert_eq!(store.content_requests().len(), 1);
    for request in store.seen() {
        assert_eq!(request.authorization, None, "{request:?}");
    }
}

#[test]
fn a_head_redirected_elsewhere_does_not_send_the_token() {
    let other = StandIn::honest(&lone_file());
    let elsewhere = other.endpoint();
    let mut room = Room::new(StandIn::faulty(&lone_file(), move |request, _| {
        Reply::new(302, b"").with(
            "Location",
            format!("{elsewhere}{}", request.path.replace('@', "%40")),
        )
    }));
    room.settings.token = Token::new("hf_right");
    room.resolve(LONE).unwrap();
    assert!(other.seen().len() >= 3);
    assert!(
        other
            .seen()
            .iter()
            .all(|request| request.authorization.is_none())
    );
}

#[test]
fn missing_things_are_named() {
    let room = Room::new(StandIn::honest(&model()));
    let cases = [
        ("owner/nothing", "no repository owner/nothing"),
        (
            "owner/model@v9",
            "no such revision: owner/model (revision v9)",
        ),
        (
            "owner/model:other.pt",
            "no such file: owner/model (other.pt",
        ),
        ("owner/model@v9:model.safetensors", "no such revision"),
        ("owner/nothing:x.pt", "no repository"),
    ];
    for (name, expected) in cases {
        let (error, retry) = room.failure(name);
        assert!(!retry && error.contains(expected), "{name}: {error}");
    }
    let plain = Room::new(StandIn::faulty(&model(), |_, _| Reply::new(404, b"?")));
    let (error, _) = plain.failure("owner/model");
    assert!(error.contains("repository, revision or file"), "{error}");
}

#[test]
fn a_possibly_private_repository_is_reported_as_such() {
    let room = Room::new(StandIn::faulty(&model(), |_, _| {
        Reply::new(401, b"Invalid username or password.").with("X-Error-Code", "RepoNotFound")
    }));
    let (error, retry) = room.failure("owner/model");
    assert!(
        !retry && error.contains("if it is private, log in"),
        "{error}"
    );
}

#[test]
fn an_ambiguous_repository_lists_its_files() {
    let room = Room::new(StandIn::honest(&[("a.pt", vec![1]), ("b.pt", vec![2])]));
    let (error, _) = room.failure("owner/model");
    assert!(error.contains("a.pt, b.pt"), "{error}");
    room.resolve("owner/model:b.pt").unwrap();
    let empty = Room::new(StandIn::honest(&[("README.md", vec![1])]));
    let (error, _) = empty.failure("owner/model");
    assert!(
        error.contains("owner/model has no usable weights"),
        "{error}"
    );
}

#[test]
fn servers_that_are_not_a_hub_are_recognised() {
    let page = |_: &Request, _: Reply| Reply::new(200, b"<html>Welcome</html>");
    let room = Room::new(StandIn::faulty(&model(), page));
    for (name, expected) in [("owner/model", "not a hub listing"), (LONE, "HF_ENDPOINT")] {
        let (error, retry) = room.failure(name);
        assert!(!retry && error.contains(expected), "{error}");
    }
    let mut room = Room::new(StandIn::honest(&[]));
    room.settings.endpoint = "huggingface.co".to_owned();
    let (error, retry) = room.failure("owner/model");
    assert!(!retry && error.contains("HF_ENDPOINT"), "{error}");
}

#[test]
fn only_the_requested_commit_is_accepted() {
    let room = Room::new(StandIn::faulty(&lone_file(), |_, reply| {
        reply.with("X-Repo-Commit", COMMIT.replace('0', "f"))
    }));
    let (error, _) = room.failure(&format!("owner/model@{COMMIT}:long@336px.pt"));
    assert!(error.contains("the hub answered for f123"), "{error}");
}

#[test]
fn a_file_without_certificates_is_named() {
    let mut room = Room::new(StandIn::honest(&lone_file()));
    let file = room.folder.path().join("cache/ca.pem");
    std::fs::create_dir(room.cache()).unwrap();
    let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    for content in [None, Some(""), Some("no certificate"), Some(broken)] {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        room.settings.authorities = Some(file.clone());
        let (error, retry) = room.failure(LONE);
        assert!(
            !retry && error.contains("ca.pem; check SSL_CERT_FILE"),
            "{content:?}: {error}"
        );
    }
    assert!(room.hub.seen().is_empty());
}
