use super::*;
use crate::output::undo::{Undo, Undone, undo};

fn owned(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|label| (*label).to_owned()).collect()
}

/// A folder with these files.
fn room(files: &[(&str, &str)]) -> tempfile::TempDir {
    let room = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(room.path().join(name), content).unwrap();
    }
    room
}

fn names(room: &Path) -> Vec<String> {
    let names = fs::read_dir(room).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".jsonl"))
        .collect();
    names.sort();
    names
}

fn sidecars(room: &Path, naming: Naming) -> Sidecars {
    Sidecars::new(naming, Run::Real, room)
}

fn all_undone(sidecars: Sidecars, trusted: bool) -> Undone {
    undo(sidecars.journal().unwrap(), Run::Real, trusted, &mut |_| {}).unwrap()
}

#[test]
fn a_sidecar_is_created_extended_and_taken_back() {
    for (naming, name) in [(Naming::Full, "a.jpg.xmp"), (Naming::Stem, "a.xmp")] {
        let room = room(&[("a.jpg", "image")]);
        let image = room.path().join("a.jpg");
        let mut first = sidecars(room.path(), naming);
        let labels = owned(&["a cat", "<dog>"]);
        let sidecar = room.path().join(name);
        let with = Labelled::With(sidecar.clone(), labels.clone());
        assert_eq!(first.label(&image, &labels).unwrap(), with);
        assert_eq!(first.label(&image, &labels).unwrap(), Labelled::Already);
        let once = fs::read(&sidecar).unwrap();
        let mut second = sidecars(room.path(), naming);
        assert_eq!(second.label(&image, &labels).unwrap(), Labelled::Already);
        assert!(second.journal().is_none());
        let more = owned(&["bus", "a cat"]);
        let with = Labelled::With(sidecar.clone(), owned(&["bus"]));
        assert_eq!(second.label(&image, &more).unwrap(), with);
        let expected = Undone {
            undone: 1,
            ..Undone::default()
        };
        assert_eq!(all_undone(second, false), expected);
        assert_eq!(fs::read(&sidecar).unwrap(), once);
        assert_eq!(all_undone(first, false), expected);
        assert_eq!(names(room.path()), ["a.jpg"]);
        assert_eq!(fs::read(&image).unwrap(), b"image");
    }
}

#[test]
fn an_existing_sidecar_is_found_and_that_of_another_image_is_left_alone() {
    let old = packet::fresh(&owned(&["old"]));
    let cases = [
        (Naming::Full, "a.xmp", "b.cr2", "a.xmp"),
        (Naming::Full, "a.xmp", "a.txt", "a.xmp"),
        (Naming::Full, "a.xmp", "a.cr2", "a.jpg.xmp"),
        (Naming::Full, "a.XMP", "b.cr2", "a.XMP"),
        (Naming::Full, "a.jpg.xmp", "a.cr2", "a.jpg.xmp"),
        (Naming::Stem, "a.jpg.xmp", "b.cr2", "a.jpg.xmp"),
        (Naming::Stem, "a.jpg.xmp", "a.cr2", "a.jpg.xmp"),
        (Naming::Stem, "a.xmp", "a.pp3", "a.xmp"),
    ];
    for (naming, existing, other, expected) in cases {
        let room = room(&[("a.jpg", ""), (existing, &old), (other, "")]);
        let mut sidecars = sidecars(room.path(), naming);
        let labelled = sidecars.label(&room.path().join("a.jpg"), &owned(&["x"]));
        let expected = room.path().join(expected);
        assert_eq!(labelled.unwrap(), Labelled::With(expected, owned(&["x"])));
    }
}

#[test]
fn two_images_never_share_a_sidecar() {
    let old = packet::fresh(&owned(&["old"]));
    for (image, other, existing, expected) in [
        ("a.jpg", "a.png", None, None),
        ("a.jpg", "a.CR2", None, None),
        ("a.jpg", "a.CR2", Some("a.xmp"), None),
        ("a.dng", "a.CR2", None, None),
        ("a.CR2", "a.jpg", None, Some("a.xmp")),
        ("a.CR2", "a.jpg", Some("a.xmp"), Some("a.xmp")),
    ] {
        let room = room(&[(image, ""), (other, "")]);
        if let Some(name) = existing {
            fs::write(room.path().join(name), &old).unwrap();
        }
        let mut sidecars = sidecars(room.path(), Naming::Stem);
        let labelled = sidecars.label(&room.path().join(image), &owned(&["x"]));
        match (labelled, expected) {
            (Ok(labelled), Some(name)) => {
                let with = Labelled::With(room.path().join(name), owned(&["x"]));
                assert_eq!(labelled, with);
            }
            (Err(error), None) => {
                let error = error.to_string();
                assert!(
                    error.contains("--xmp=full") && error.contains(other),
                    "{error}"
                );
                assert!(sidecars.journal().is_none());
            }
            (labelled, _) => panic!("{image} {other}: {labelled:?}"),
        }
    }
    // Names that meet in another way.
    let room = room(&[("a.jpg", ""), ("a.jpg.png", ""), ("a.xmp.xmp", "x")]);
    let mut sidecars = sidecars(room.path(), Naming::Stem);
    for (image, is_first) in [("a.jpg.png", true), ("a.jpg", false)] {
        let labelled = sidecars.label(&room.path().join(image), &owned(&["x"]));
        assert_eq!(labelled.is_ok(), is_first);
        let error = labelled
            .err()
            .map_or(String::new(), |error| error.to_string());
        assert_eq!(error.contains("--xmp=full"), !is_first, "{error}");
    }
    // An image that has the name of a sidecar is never one.
    let itself = sidecars.label(&room.path().join("a.xmp"), &owned(&["y"]));
    let error = format!("{:#}", itself.unwrap_err());
    assert!(error.contains("a.xmp.xmp is not understood"), "{error}");
}

#[test]
fn what_is_not_understood_is_never_overwritten() {
    let room = room(&[("a.jpg", ""), ("a.jpg.xmp", "<html/>"), ("b.jpg", "")]);
    let mut sidecars = sidecars(room.path(), Naming::Full);
    let refused = |sidecars: &mut Sidecars, image: &str| {
        let label = sidecars.label(&room.path().join(image), &owned(&["x"]));
        let error = label.unwrap_err();
        assert!(!is_general(&error));
        format!("{error:#}")
    };
    let error = refused(&mut sidecars, "a.jpg");
    assert!(error.contains("was not changed"), "{error}");
    let large = fs::File::create(room.path().join("a.jpg.xmp")).unwrap();
    large.set_len(MAX_BYTES + 1).unwrap();
    let error = refused(&mut sidecars, "a.jpg");
    assert!(error.contains("more than"), "{error}");
    fs::write(room.path().join("a.jpg.xmp"), b"\xff\xfe<\0").unwrap();
    let error = refused(&mut sidecars, "a.jpg");
    assert!(error.contains("not UTF-8"), "{error}");
    fs::create_dir(room.path().join("b.jpg.xmp")).unwrap();
    let error = refused(&mut sidecars, "b.jpg");
    assert!(error.contains("not a regular file"), "{error}");
    #[cfg(unix)]
    {
        fs::remove_dir(room.path().join("b.jpg.xmp")).unwrap();
        std::os::unix::fs::symlink("elsewhere", room.path().join("b.jpg.xmp")).unwrap();
        let error = refused(&mut sidecars, "b.jpg");
        assert!(error.contains("not a regular file"), "{error}");
    }
    assert!(sidecars.journal().is_none());
    let nowhere = room.path().join("gone");
    let mut lost = Sidecars::new(Naming::Stem, Run::Real, &nowhere);
    let error = lost.label(&room.path().join("c.jpg"), &owned(&["x"]));
    assert!(is_general(&error.unwrap_err()));
}

#[test]
fn a_dry_run_writes_nothing() {
    let room = room(&[("a.jpg", "")]);
    let mut sidecars = Sidecars::new(Naming::Full, Run::Dry, room.path());
    let labelled = sidecars.label(&room.path().join("a.jpg"), &owned(&["x"]));
    assert!(matches!(labelled.unwrap(), Labelled::With(..)));
    assert_eq!(fs::read_dir(room.path()).unwrap().count(), 1);
}

#[test]
fn a_sidecar_that_was_changed_since_loses_only_these_labels() {
    let room = room(&[("a.jpg", ""), ("b.jpg", "")]);
    let mut sidecars = sidecars(room.path(), Naming::Full);
    for image in ["a.jpg", "b.jpg"] {
        let image = room.path().join(image);
        sidecars.label(&image, &owned(&["cat", "dog"])).unwrap();
    }
    let [a, b] = ["a.jpg.xmp", "b.jpg.xmp"].map(|name| room.path().join(name));
    let text = fs::read_to_string(&a).unwrap();
    fs::write(&a, text.replace(">dog<", ">dog</rdf:li><rdf:li>own<")).unwrap();
    fs::write(&b, "<html/>").unwrap();
    let journal = sidecars.journal().unwrap().to_owned();
    let mut failed = Vec::new();
    let undone = undo(&journal, Run::Real, false, &mut |step| {
        if let Undo::Failed { path, .. } = step {
            failed.push(path.to_owned());
        }
    });
    assert_eq!((undone.unwrap().undone, failed), (1, vec![b.clone()]));
    let text = fs::read_to_string(&a).unwrap();
    let packet = Packet::parse(&text).unwrap();
    assert_eq!(packet.labels().collect::<Vec<_>>(), ["own"]);
    assert_eq!(fs::read_to_string(&b).unwrap(), "<html/>");
    assert!(journal.exists());
}

#[cfg(unix)]
#[test]
fn a_sidecar_keeps_its_permissions() {
    use std::os::unix::fs::PermissionsExt as _;
    let old = packet::fresh(&owned(&["old"]));
    let room = room(&[("a.jpg", ""), ("a.jpg.xmp", &old)]);
    let sidecar = room.path().join("a.jpg.xmp");
    fs::set_permissions(&sidecar, fs::Permissions::from_mode(0o600)).unwrap();
    let mut sidecars = sidecars(room.path(), Naming::Full);
    sidecars
        .label(&room.path().join("a.jpg"), &owned(&["x"]))
        .unwrap();
    assert_eq!(
        fs::metadata(&sidecar).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn a_read_only_sidecar_stays() {
    let old = packet::fresh(&owned(&["old"]));
    let room = room(&[("a.jpg", ""), ("a.jpg.xmp", &old), ("b.jpg", "")]);
    let mut sidecars = sidecars(room.path(), Naming::Full);
    let lock = |name: &str| {
        let path = room.path().join(name);
        let mut permissions = fs::metadata(&path).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(path, permissions).unwrap();
    };
    lock("a.jpg.xmp");
    let label = sidecars.label(&room.path().join("a.jpg"), &owned(&["x"]));
    let error = format!("{:#}", label.unwrap_err());
    assert!(error.contains("it is read-only"), "{error}");
    assert_eq!(
        fs::read_to_string(room.path().join("a.jpg.xmp")).unwrap(),
        old
    );
    // Nothing has to be written for a label that is there.
    let label = sidecars.label(&room.path().join("a.jpg"), &owned(&["old"]));
    assert_eq!(label.unwrap(), Labelled::Already);
    sidecars
        .label(&room.path().join("b.jpg"), &owned(&["x"]))
        .unwrap();
    lock("b.jpg.xmp");
    assert_eq!(all_undone(sidecars, true).failed, 1);
    assert!(room.path().join("b.jpg.xmp").exists());
}

#[test]
fn runs_that_are_undone_in_another_order_leave_nothing() {
    let room = room(&[("a.jpg", ""), ("b.jpg", "")]);
    let [mut first, mut second] = [0, 1].map(|_| sidecars(room.path(), Naming::Full));
    let [a, b] = ["a.jpg", "b.jpg"].map(|name| room.path().join(name));
    first.label(&a, &owned(&["cat"])).unwrap();
    second.label(&a, &owned(&["dog"])).unwrap();
    second.label(&b, &owned(&["dog"])).unwrap();
    assert_eq!(all_undone(first, true).undone, 1);
    assert_eq!(
        names(room.path()),
        ["a.jpg", "a.jpg.xmp", "b.jpg", "b.jpg.xmp"]
    );
    // A sidecar that is gone has not been put back.
    fs::rename(room.path().join("b.jpg.xmp"), room.path().join("c.jpg.xmp")).unwrap();
    let expected = Undone {
        undone: 1,
        failed: 0,
        gone: 1,
    };
    assert_eq!(all_undone(second, true), expected);
    assert_eq!(names(room.path()), ["a.jpg", "b.jpg", "c.jpg.xmp"]);
}

#[test]
fn xml_cannot_hold_every_label() {
    for (label, expected) in [("a <b> & é", true), ("a\u{1}", false), (" ", false)] {
        assert_eq!(is_writable(label), expected, "{label:?}");
    }
}
