use std::fs;

use super::*;

const RULE: ImageRule = ImageRule {
    extensions: &["jpg", "png"],
    looks_like_image: |bytes| bytes.starts_with(b"PIC"),
};

/// A folder with the named files, each holding its own name.
fn folder(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, path.file_name().unwrap().as_encoded_bytes()).unwrap();
    }
    folder
}

/// The result of walking `folder`, relative to it; an error as `! path`.
fn walked(folder: &Path) -> Vec<String> {
    expand(vec![folder.to_owned()], None, RULE)
        .unwrap()
        .map(|item| match item.source {
            Ok(ImageSource::Path(path)) => relative(&path, folder),
            Ok(ImageSource::Stdin) => "stdin".to_owned(),
            Ok(ImageSource::Member(member)) => relative(member.name(), folder),
            Err(error) => format!("! {}", relative(&error.path, folder)),
        })
        .collect()
}

fn relative(path: &Path, folder: &Path) -> String {
    let path = path.strip_prefix(folder).unwrap();
    path.to_string_lossy().replace('\\', "/")
}

#[test]
fn a_folder_is_walked_in_byte_order() {
    let folder = folder(&[
        "b.jpg",
        "B.PNG",
        "a/z.jpg",
        "a/b/c.png",
        "a.jpg",
        "a-.jpg",
        "é.jpg",
    ]);
    let expected = [
        "B.PNG",
        "a/b/c.png",
        "a/z.jpg",
        "a-.jpg",
        "a.jpg",
        "b.jpg",
        "é.jpg",
    ];
    assert_eq!(walked(folder.path()), expected);
}

#[test]
fn a_file_is_accepted_by_extension_or_first_bytes() {
    let files = [
        "PIC",
        "PICture.txt",
        "notes.txt",
        "empty.jpg",
        ".hidden.jpg",
        "._a.jpg",
        ".git/a.jpg",
        "x/.gitignore",
        "x/y",
    ];
    let folder = folder(&files);
    fs::write(folder.path().join("x/.gitignore"), "*").unwrap();
    fs::write(folder.path().join("x/q.jpg"), "").unwrap();
    let mut sources = expand(vec![folder.path().to_owned()], None, RULE).unwrap();
    let passed_over = sources.passed_over();
    assert_eq!(sources.by_ref().count(), 4);
    assert_eq!(passed_over.count(), 2, "notes.txt and x/y");
    assert_eq!(
        walked(folder.path()),
        ["PIC", "PICture.txt", "empty.jpg", "x/q.jpg"]
    );
}

#[test]
fn system_folders_are_skipped_unless_they_are_named() {
    let folder = folder(&[
        "a.jpg",
        "@eaDir/a.jpg/thumb.jpg",
        "b/$RECYCLE.BIN/x.jpg",
        "b/@eaDir/c.jpg/thumb.jpg",
        "b/c.jpg",
        "lost+found.jpg",
    ]);
    assert_eq!(
        walked(folder.path()),
        ["a.jpg", "b/c.jpg", "lost+found.jpg"]
    );
    let mut sources = expand(vec![folder.path().to_owned()], None, RULE).unwrap();
    let passed_over = sources.passed_over();
    assert_eq!(sources.by_ref().count(), 3);
    let shown = "3 system folders ($RECYCLE.BIN, @eaDir)";
    assert_eq!(passed_over.system_folders().as_deref(), Some(shown));
    assert_eq!(walked(&folder.path().join("@eaDir")), ["a.jpg/thumb.jpg"]);
}

#[test]
fn named_paths_are_kept_whatever_they_are() {
    let hidden = folder(&[".x/.hidden/a.jpg", ".x/notes.txt"]);
    let missing = PathBuf::from("no such file");
    let named_folder = hidden.path().join(".x");
    let arguments = vec![
        missing.clone(),
        PathBuf::from("-"),
        named_folder.join("notes.txt"),
        named_folder.join(".hidden"),
        named_folder.clone(),
    ];
    let sources: Vec<_> = expand(arguments, None, RULE)
        .unwrap()
        .map(|entry| entry.source)
        .collect();
    let expected = [
        Ok(ImageSource::Path(missing)),
        Ok(ImageSource::Stdin),
        Ok(ImageSource::Path(named_folder.join("notes.txt"))),
        Ok(ImageSource::Path(named_folder.join(".hidden/a.jpg"))),
    ];
    assert_eq!(sources, expected);
}

#[test]
fn a_folder_that_vanishes_is_one_error() {
    let folder = folder(&["a.jpg", "b/c.jpg", "d.jpg"]);
    let mut sources = expand(vec![folder.path().to_owned()], None, RULE).unwrap();
    sources.next().unwrap().source.unwrap();
    fs::remove_dir_all(folder.path().join("b")).unwrap();
    let error = sources.next().unwrap().source.unwrap_err();
    assert_eq!(error.path, folder.path().join("b"));
    assert!(
        error.cause.cause.starts_with("cannot read this folder: "),
        "{error}"
    );
    let last = ImageSource::Path(folder.path().join("d.jpg"));
    let rest: Vec<_> = sources.map(|entry| entry.source).collect();
    assert_eq!(rest, [Ok(last)]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_in_cycles() {
    use std::os::unix::fs::symlink;
    let elsewhere = folder(&["deep/PIC"]);
    let folder = folder(&["a/b.jpg"]);
    let link = |target: &Path, name: &str| symlink(target, folder.path().join(name)).unwrap();
    link(folder.path(), "a/up");
    link(Path::new("self.jpg"), "self.jpg");
    link(Path::new("nowhere"), "dangling.jpg");
    link(Path::new("nowhere"), "dangling");
    link(Path::new("nowhere"), ".hidden");
    link(&elsewhere.path().join("deep/PIC"), "file");
    link(elsewhere.path(), "folder");
    let expected = [
        "a/b.jpg",
        "dangling.jpg",
        "file",
        "folder/deep/PIC",
        "self.jpg",
    ];
    assert_eq!(walked(folder.path()), expected);
    let sources = expand(vec![folder.path().to_owned()], None, RULE).unwrap();
    let passed_over = sources.passed_over();
    assert_eq!(sources.count(), 5);
    assert_eq!(passed_over.count(), 2, "a/up and dangling");
}

#[cfg(unix)]
#[test]
fn a_socket_in_a_folder_is_skipped() {
    let folder = folder(&["a.jpg"]);
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("b.jpg")).unwrap();
    assert_eq!(walked(folder.path()), ["a.jpg"]);
}

#[test]
fn a_list_follows_the_arguments_and_names_only_files() {
    let folder = folder(&["list"]);
    let list = folder.path().join("list");
    fs::write(&list, format!("b.txt\n{}\n", folder.path().display())).unwrap();
    let files_from = FilesFrom {
        source: ListSource::File(list),
        separator: Separator::Line,
    };
    let arguments = vec![PathBuf::from("a.jpg")];
    assert_eq!(count(&arguments, Some(&files_from), RULE), Some(3));
    let sources: Vec<_> = expand(arguments, Some(files_from), RULE)
        .unwrap()
        .map(|entry| entry.source)
        .collect();
    assert_eq!(sources[0], Ok(ImageSource::Path(PathBuf::from("a.jpg"))));
    assert_eq!(sources[1], Ok(ImageSource::Path(PathBuf::from("b.txt"))));
    assert_eq!(sources[2].as_ref().unwrap_err().path, folder.path());
}

#[test]
fn wrong_uses_are_refused_early() {
    let folder = tempfile::tempdir().unwrap();
    let list = |source| {
        Some(FilesFrom {
            source,
            separator: Separator::Line,
        })
    };
    #[rustfmt::skip]
    let cases = [
        (vec!["-"], list(ListSource::Stdin), "both an image (-) and a list"),
        (vec!["-", "a", "-"], None, "can be given only once"),
        (vec![], list(ListSource::File(folder.path().to_owned())), "is a folder"),
        (vec![], list(ListSource::File(folder.path().join("missing"))), "cannot open the list"),
    ];
    for (arguments, files_from, expected) in cases {
        let arguments = arguments.into_iter().map(PathBuf::from).collect();
        let Err(error) = expand(arguments, files_from, RULE) else {
            panic!("accepted: {expected}");
        };
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert_eq!(count(&[], list(ListSource::Stdin).as_ref(), RULE), None);
}

#[test]
fn a_part_of_a_file_is_named_after_a_colon() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("x.npz"), "").unwrap();
    fs::write(path("y.npz:a"), "").unwrap();
    let cases = [
        ("x.npz", "x.npz", None),
        ("x.npz:a", "x.npz", Some("a")),
        ("x.npz:", "x.npz", Some("")),
        ("x.npz:a:b", "x.npz:a:b", None),
        // A file of the whole name, and no file at all.
        ("y.npz:a", "y.npz:a", None),
        ("z.npz:a", "z.npz:a", None),
    ];
    for (given, file, name) in cases {
        let expected = (path(file), name.map(str::to_owned));
        assert_eq!(split_name(&path(given)), expected, "{given}");
    }
}
