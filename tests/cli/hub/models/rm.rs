//! `longclip models rm`.

use std::fs;
#[cfg(unix)]
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use super::{clip, command, end, models, pulled, snapshot};
use crate::hub::stand_in::StandIn;
#[cfg(unix)]
use crate::hub::stand_in::etag;
#[cfg(unix)]
use crate::hub::weights;
use crate::hub::{Room, files_below};

#[cfg(unix)]
const OTHER: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// Puts a second snapshot into the cache: the same weights, another configuration.
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
fn a_snapshot_is_removed_but_shared_blobs_stay() {
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

    // The reverse: the other snapshot is left, and the reference `main` is gone.
    let folder = add_snapshot(&room);
    models(&room, &["rm", "--yes", "owner/model@main"]).ends_with(0);
    assert!(fs::read(folder.join("model.safetensors")).unwrap() == weights());
    assert!(!room.repository().join("refs/main").exists() && !snapshot(&room).exists());
    models(&room, &["path", "owner/model"]).ends_with(2);
    models(&room, &["path", "owner/model@v2"]).ends_with(0);
}

#[cfg(unix)]
#[test]
fn removing_a_model_removes_all_of_it_and_nothing_else() {
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
fn a_repository_that_is_a_link_is_not_touched() {
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
fn rm_does_not_prompt_on_a_pipe() {
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
fn rm_refuses_what_is_not_a_download() {
    let room = pulled();
    let before = files_below(&room.cache());
    let folder = snapshot(&room);
    let file = folder.join("model.safetensors");
    for (name, expected) in [
        ("tiny", "built into the program"),
        (folder.to_str().unwrap(), "is a local file or folder"),
        (file.to_str().unwrap(), "is a local file or folder"),
        ("owner/model:model.safetensors", "drop :FILE"),
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
