use super::*;

fn row(first: f32) -> ImageRow {
    ImageRow {
        size: (640, 480),
        warnings: vec!["jpeg: cut\nshort".to_owned(), "second".to_owned()],
        embedding: vec![first, (1.0 - first * first).sqrt()],
    }
}

const STAMP: Stamp = Stamp {
    bytes: 10,
    modified_ns: -5,
};

#[test]
fn stored_results_are_found_by_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("made/for/it");
    let cache = Cache::open(&place).unwrap();
    let (one, other) = (cache.recipe("one").unwrap(), cache.recipe("other").unwrap());
    assert_ne!(one, other);
    cache.keep_image(one, [1; 32], row(0.6));
    cache.keep_text(one, [1; 32], vec![0.0, 1.0]);
    cache.keep_thumbnail(other, [1; 32], vec![1, 2, 3]);
    cache.keep_digest(Path::new("a.jpg"), STAMP, [1; 32]);
    drop(cache);

    let cache = Cache::open(&place).unwrap();
    assert_eq!(cache.recipe("one").unwrap(), one);
    let mut expected = row(0.6);
    expected.warnings[0] = "jpeg: cut short".to_owned();
    assert_eq!(cache.image(one, &[1; 32], 2), Some(expected));
    assert_eq!(cache.image(other, &[1; 32], 2), None);
    assert_eq!(cache.image(one, &[2; 32], 2), None);
    assert_eq!(cache.text(one, &[1; 32], 2), Some(vec![0.0, 1.0]));
    assert_eq!(cache.thumbnail(other, &[1; 32]), Some(vec![1, 2, 3]));
    let absolute = std::path::absolute("a.jpg").unwrap();
    assert_eq!(cache.digest_of(&absolute, STAMP), Some([1; 32]));
    for other in [
        Stamp { bytes: 11, ..STAMP },
        Stamp {
            modified_ns: -4,
            ..STAMP
        },
    ] {
        assert_eq!(cache.digest_of(&absolute, other), None);
    }
}

#[test]
fn damaged_rows_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    let recipe = cache.recipe("r").unwrap();
    for (number, values) in [vec![0.6], vec![0.6, 0.6], vec![f32::NAN, 0.0]]
        .into_iter()
        .enumerate()
    {
        let content = [number as u8; 32];
        let embedding = values.clone();
        cache.keep_image(
            recipe,
            content,
            ImageRow {
                embedding,
                ..row(0.6)
            },
        );
        cache.keep_text(recipe, content, values.clone());
        cache.flush().unwrap();
        assert_eq!(cache.image(recipe, &content, 2), None, "{values:?}");
        assert_eq!(cache.text(recipe, &content, 2), None, "{values:?}");
    }
    assert_eq!(cache.damaged(), 6);
    let sql = "INSERT INTO image (recipe, content, width, height, warnings, embedding, crc32) \
               VALUES (?1, ?2, -1, 1, '', x'0000003f', 0)";
    let state = cache.state();
    state
        .connection
        .execute(sql, params![recipe.number, [9u8; 32]])
        .unwrap();
    drop(state);
    assert_eq!(cache.image(recipe, &[9; 32], 1), None);
    assert_eq!(cache.damaged(), 7);
}

/// A cache with rows of two recipes, closed, and its file.
fn filled(folder: &Path) -> PathBuf {
    let cache = Cache::open(folder).unwrap();
    for (name, first) in [("one", 0.6), ("other", 0.8)] {
        let recipe = cache.recipe(name).unwrap();
        for content in 0..4 {
            cache.keep_image(recipe, [content; 32], row(first));
            cache.keep_text(
                recipe,
                [content; 32],
                vec![first, -(1.0 - first * first).sqrt()],
            );
            cache.keep_thumbnail(recipe, [content; 32], vec![1, content]);
        }
    }
    for content in 0..4u8 {
        cache.keep_digest(Path::new(&format!("/{content}.jpg")), STAMP, [content; 32]);
    }
    cache.flush().unwrap();
    drop(cache);
    folder.join(FILE)
}

/// Everything that a cache of [`filled`] has to say; fails if that is anything else.
fn read_all(cache: &Cache) -> Result<usize> {
    let mut found = 0;
    let mut check = |is_there: bool, is_right: bool| {
        assert!(is_right, "a damaged row was believed");
        found += usize::from(is_there);
    };
    for (name, first) in [("one", 0.6), ("other", 0.8)] {
        let recipe = cache.recipe(name)?;
        for content in 0..4 {
            let key = [content; 32];
            let image = cache.image(recipe, &key, 2);
            let mut expected = row(first);
            expected.warnings[0] = "jpeg: cut short".to_owned();
            check(image.is_some(), image.is_none_or(|image| image == expected));
            let text = cache.text(recipe, &key, 2);
            let expected = [first, -(1.0f32 - first * first).sqrt()];
            check(text.is_some(), text.is_none_or(|text| text == expected));
            let thumbnail = cache.thumbnail(recipe, &key);
            check(
                thumbnail.is_some(),
                thumbnail.is_none_or(|jpeg| jpeg == [1, content]),
            );
        }
    }
    for content in 0..4u8 {
        let digest = cache.digest_of(Path::new(&format!("/{content}.jpg")), STAMP);
        check(
            digest.is_some(),
            digest.is_none_or(|digest| digest == [content; 32]),
        );
    }
    Ok(found)
}

#[test]
fn no_damage_changes_what_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = filled(folder.path());
    let whole = fs::read(&file).unwrap();
    let all = read_all(&Cache::open(folder.path()).unwrap()).unwrap();
    assert_eq!(all, 2 * 4 * 3 + 4);
    let mut random = 3u64;
    let mut next = |below: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695);
        (random >> 33) as usize % below
    };
    let (mut refused, mut incomplete, mut counted) = (0, 0, 0);
    // Most bytes of a small database are free space.
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    for _ in 0..600 {
        let mut bytes = whole.clone();
        bytes[used[next(used.len())]] ^= 1 << next(8);
        for name in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(folder.path().join(format!("{FILE}{name}")));
        }
        fs::write(&file, bytes).unwrap();
        let Ok(cache) = Cache::open(folder.path()) else {
            refused += 1;
            continue;
        };
        match read_all(&cache) {
            Err(_) => refused += 1,
            Ok(found) => {
                incomplete += usize::from(found < all);
                counted += usize::from(cache.damaged() > 0);
            }
        }
    }
    assert!(
        refused > 0 && incomplete > 100 && counted > 50,
        "{refused} {incomplete} {counted}"
    );
}

#[test]
fn rows_of_the_layout_without_checksums_are_computed_again() {
    let folder = tempfile::tempdir().unwrap();
    let connection = Connection::open(folder.path().join(FILE)).unwrap();
    let sql = "CREATE TABLE recipe (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
        CREATE TABLE text (id INTEGER PRIMARY KEY, recipe INTEGER NOT NULL, content BLOB NOT NULL,
        embedding BLOB NOT NULL, UNIQUE (recipe, content));
        INSERT INTO recipe (id, text) VALUES (1, 'r');
        INSERT INTO text (recipe, content, embedding) VALUES (1, zeroblob(32), x'0000803f00000000');
        PRAGMA user_version = 1;";
    connection.execute_batch(sql).unwrap();
    drop(connection);
    // Where nothing can be written, as nothing.
    let empty = readable(&folder.path().join(FILE)).unwrap();
    let rows: i64 = empty
        .query_row("SELECT count(*) FROM text", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 0);
    let cache = Cache::open(folder.path()).unwrap();
    assert!(cache.is_renewed());
    let recipe = cache.recipe("r").unwrap();
    assert_eq!(cache.text(recipe, &[0; 32], 2), None);
    cache.keep_text(recipe, [0; 32], vec![1.0, 0.0]);
    drop(cache);
    let cache = Cache::open(folder.path()).unwrap();
    assert!(!cache.is_renewed());
    assert_eq!(cache.text(recipe, &[0; 32], 2), Some(vec![1.0, 0.0]));
}

#[test]
fn a_file_that_is_not_a_cache_is_an_error_that_names_it() {
    for content in [
        b"not a database, and long enough to be read".to_vec(),
        vec![0xff; 5000],
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), content).unwrap();
        let error = Cache::open(folder.path()).err().unwrap();
        assert!(error.to_string().contains(FILE), "{error:#}");
        assert!(error.to_string().contains("delete the file"), "{error:#}");
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    cache
        .state()
        .connection
        .pragma_update(None, "user_version", 7)
        .unwrap();
    drop(cache);
    let error = format!("{:#}", Cache::open(folder.path()).err().unwrap());
    assert!(error.contains("layout 7"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_cache_that_cannot_be_written_is_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("odd %3f #name?");
    let cache = Cache::open(&place).unwrap();
    let recipe = cache.recipe("r").unwrap();
    cache.keep_text(recipe, [1; 32], vec![0.0, 1.0]);
    drop(cache);
    let mode = |mode| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(&place, permissions.clone()).unwrap();
        fs::set_permissions(place.join(FILE), permissions).unwrap();
    };
    mode(0o555);
    let readable = readable(&place.join(FILE)).unwrap();
    assert_eq!(layout(&readable).unwrap(), LAYOUT);
    drop(readable);
    // A user such as root, who may write everywhere, opens it for writing.
    let cache = Cache::open(&place).unwrap();
    assert_eq!(cache.recipe("r").unwrap(), recipe);
    assert_eq!(cache.text(recipe, &[1; 32], 2), Some(vec![0.0, 1.0]));
    if !cache.is_writable() {
        assert_eq!(
            cache.recipe("new").unwrap(),
            Recipe {
                number: UNKNOWN,
                crc32: crc32fast::hash(b"new")
            }
        );
        cache.keep_text(recipe, [2; 32], vec![0.0, 1.0]);
        cache.flush().unwrap();
        assert_eq!(cache.text(recipe, &[2; 32], 2), None);
    }
    drop(cache);
    mode(0o755);
}

#[test]
fn a_cache_that_another_program_holds_is_worth_a_retry() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (
        Cache::open(folder.path()).unwrap(),
        Cache::open(folder.path()).unwrap(),
    );
    one.state()
        .connection
        .execute_batch("BEGIN IMMEDIATE")
        .unwrap();
    other
        .state()
        .connection
        .busy_timeout(Duration::ZERO)
        .unwrap();
    let error = other.recipe("r").unwrap_err();
    assert!(is_worth_retrying(&error), "{error:#}");
    assert!(error.to_string().contains(FILE), "{error:#}");
    assert!(!is_worth_retrying(&anyhow::anyhow!("no")));
}

#[test]
fn two_programs_may_write_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let write = |first: u8| {
        let cache = Cache::open(folder.path()).unwrap();
        let recipe = cache.recipe("r").unwrap();
        for number in 0..=255 {
            let mut content = [first; 32];
            content[0] = number;
            cache.keep_text(recipe, content, vec![1.0, 0.0]);
            if number % 16 == 0 {
                cache.flush().unwrap();
            }
        }
        cache.flush().unwrap();
    };
    std::thread::scope(|scope| {
        (0..4).for_each(|first| {
            scope.spawn(move || write(first));
        });
    });
    let cache = Cache::open(folder.path()).unwrap();
    let count: i64 = cache
        .state()
        .connection
        .query_row("SELECT count(*) FROM text", [], |row| row.get(0))
        .unwrap();
    assert_eq!(count, 4 * 256);
}

#[test]
fn a_full_disk_is_reported_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    let recipe = cache.recipe("r").unwrap();
    cache
        .state()
        .connection
        .pragma_update(None, "query_only", true)
        .unwrap();
    cache.keep_text(recipe, [1; 32], vec![1.0, 0.0]);
    let error = cache.flush().unwrap_err();
    assert!(error.to_string().contains("not all results"), "{error:#}");
    assert!(cache.flush().is_ok(), "reported once");
}
