//! The choice of the model, and what happens if it is unavailable.

use std::net::TcpListener;

use crate::room::Room;
use crate::small;

const ARGUMENTS: [&str; 5] = ["classify", "a.png", "-l", "cat", "dog"];

fn room() -> Room {
    Room::with(&["a.png"])
}

#[test]
fn the_model_may_come_from_the_environment() {
    let room = room();
    let ran = room
        .longclip(&ARGUMENTS, &[("LONGCLIP_MODEL", small::model())])
        .ends_with(0);
    assert_eq!(ran.out, room.classify(&ARGUMENTS[1..]).out);
    // The flag wins.
    let typed = [&ARGUMENTS[..], &["-m", small::model()]].concat();
    room.longclip(&typed, &[("LONGCLIP_MODEL", "gone")])
        .ends_with(0);
}

#[test]
fn the_default_model_is_longclip_b() {
    let room = room();
    let ran = room
        .longclip(&ARGUMENTS, &[("HF_HUB_OFFLINE", "1")])
        .ends_with(2);
    ran.says(&["the model longclip-b (BeichenZhang/LongCLIP-B"]);
}

#[test]
fn offline_without_the_model_is_2_and_says_how_to_get_it() {
    let room = room();
    for (model, repository) in [
        ("longclip-l", "BeichenZhang/LongCLIP-L"),
        ("clip-vit-b-32", "openai/clip-vit-base-patch32"),
        ("somebody/something", "somebody/something"),
    ] {
        let arguments = [&ARGUMENTS[..], &["-m", model]].concat();
        let ran = room
            .longclip(&arguments, &[("HF_HUB_OFFLINE", "1")])
            .ends_with(2);
        assert_eq!(ran.out, "");
        ran.says(&[
            &format!("the model {model} ({repository}"),
            "HF_HUB_OFFLINE",
            &format!("hf download {repository}"),
            "--model PATH",
            "--model tiny",
        ]);
    }
    assert_eq!(room.names(), ["a.png"], "nothing is written");
}

#[test]
fn a_hub_that_refuses_connections_is_75_and_says_what_to_do() {
    let room = room();
    // A port that was free a moment ago, without a listener.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let ran = room
        .longclip(&ARGUMENTS, &[("HF_ENDPOINT", &endpoint)])
        .ends_with(75);
    assert_eq!(ran.out, "");
    ran.says(&[
        "error: the model longclip-b",
        &format!("no answer from {endpoint}/BeichenZhang/LongCLIP-B/resolve/main/longclip-B.pt"),
        "hf download BeichenZhang/LongCLIP-B longclip-B.pt",
        "--model PATH",
        "--model tiny",
        "caused by: ",
    ]);
}

#[test]
fn a_name_that_is_nearly_right_is_suggested() {
    let room = room();
    for (typed, meant) in [
        ("longclip-bb", "did you mean longclip-b?"),
        ("LongCLIP-L", "did you mean longclip-l?"),
        ("tinny", "did you mean tiny?"),
        ("clip-vit-b32", "did you mean clip-vit-b-32?"),
    ] {
        let ran = room
            .longclip(&[&ARGUMENTS[..], &["-m", typed]].concat(), &[])
            .ends_with(2);
        ran.says(&[typed, "is not a model", meant]);
    }
    let ran = room
        .longclip(&[&ARGUMENTS[..], &["-m", "resnet"]].concat(), &[])
        .ends_with(2);
    assert!(!ran.stderr().contains("did you mean"), "{}", ran.stderr());
}

#[test]
fn a_folder_without_weights_says_what_it_looked_for() {
    let room = Room::with(&["a.png", "model/b.png"]);
    let ran = room
        .longclip(&[&ARGUMENTS[..], &["-m", "model"]].concat(), &[])
        .ends_with(2);
    ran.says(&["model has no usable weights", "model.safetensors"]);
}

#[test]
fn a_damaged_checkpoint_is_named_and_refused() {
    let room = room();
    room.file("cut.safetensors", b"\xff\0\0\0\0\0\0\0{\"a\":");
    room.file("empty.pt", b"");
    for file in ["cut.safetensors", "empty.pt"] {
        let ran = room
            .longclip(&[&ARGUMENTS[..], &["-m", file]].concat(), &[])
            .ends_with(2);
        assert_eq!(ran.out, "");
        ran.says(&[
            &format!("error: cannot load model \"{file}\""),
            "caused by: ",
        ]);
    }
}
