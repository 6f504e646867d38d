//! Holds the imports of `src` against the table of rooms in `src/lib.rs`.

#![allow(
    clippy::unwrap_used,
    reason = "a test should stop at the first surprise"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms in the order of the table, highest first.
fn layers() -> Vec<String> {
    let text = fs::read_to_string("src/lib.rs").unwrap();
    let table = text
        .lines()
        .skip_while(|line| *line != "//! ```text layers")
        .skip(1)
        .take_while(|line| *line != "//! ```");
    table
        .map(|line| line[4..].split(' ').next().unwrap().to_owned())
        .collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The module that a file is.
fn module(path: &Path) -> Vec<String> {
    let inside = path.strip_prefix("src").unwrap().with_extension("");
    let mut parts: Vec<String> = inside
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    if matches!(
        parts.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        parts.pop();
    }
    parts
}

/// What a file names of this crate, as paths from its root. Braces after the first two names are
/// not opened: rooms and subcommands are the first two.
fn named(text: &str, module: &[String]) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    for (at, _) in code.match_indices("crate::") {
        if at > 0 && code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        for path in opened(&code[at + "crate::".len()..]) {
            found.insert(path);
        }
    }
    for (at, _) in code.match_indices("super::") {
        if code[..at].ends_with("super::") || code[..at].ends_with(char::is_alphanumeric) {
            continue;
        }
        let mut rest = &code[at..];
        let mut ups = 0;
        while let Some(after) = rest.strip_prefix("super::") {
            (rest, ups) = (after, ups + 1);
        }
        // Within an inline module the path starts one module deeper; taking it from the file errs
        // on the strict side only where it would leave the room.
        let indented = code[..at]
            .rsplit('\n')
            .next()
            .is_some_and(|line| line.starts_with("    "));
        let depth = module.len() + usize::from(indented && code[..at].contains("\nmod tests {"));
        let Some(base) = depth
            .checked_sub(ups)
            .map(|n| &module[..n.min(module.len())])
        else {
            continue;
        };
        for path in opened(rest) {
            found.insert([base, &path].concat());
        }
    }
    found
}

/// `a::b::c` or `{a::b, c}` as lists of at most two names.
fn opened(rest: &str) -> Vec<Vec<String>> {
    let name = |text: &str| -> String {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let one = |text: &str| -> Vec<String> {
        text.splitn(3, "::")
            .take(2)
            .map(name)
            .filter(|n| !n.is_empty())
            .collect()
    };
    match rest.strip_prefix('{') {
        None => vec![one(rest)],
        Some(inner) => {
            let mut depth = 0;
            let end = inner.find(|c| {
                depth += i32::from(c == '{') - i32::from(c == '}');
                depth < 0
            });
            inner[..end.unwrap_or(inner.len())]
                .split([',', '{', '}'])
                .map(|part| one(part.trim()))
                .collect()
        }
    }
}

/// What breaks the rules, one line each.
fn broken(files: &[(PathBuf, String)], layers: &[String]) -> Vec<String> {
    let height = |room: &str| layers.iter().position(|layer| layer == room);
    let mut found = BTreeSet::new();
    for (path, text) in files {
        let module = module(path);
        let Some(room) = module.first() else { continue };
        let Some(own) = height(room) else {
            found.insert(format!(
                "{}: {room} is not in the table of src/lib.rs",
                path.display()
            ));
            continue;
        };
        for names in named(text, &module) {
            let Some(other) = names.first().and_then(|name| height(name)) else {
                continue;
            };
            if other < own {
                found.insert(format!(
                    "{}: {room} imports {}, which is above it",
                    path.display(),
                    names[0]
                ));
            }
            let subcommands = (module.get(1), names.get(1));
            if let (true, (Some(one), Some(two))) = (room == "command" && other == own, subcommands)
            {
                let is_subcommand = |name: &str| {
                    files.iter().any(|(path, _)| {
                        let place = path.strip_prefix("src/command").unwrap_or(Path::new(""));
                        place == Path::new(&format!("{name}.rs"))
                            || place == Path::new(&format!("{name}/mod.rs"))
                    })
                };
                if one != two && is_subcommand(two) && one != "parse" {
                    found.insert(format!(
                        "{}: the subcommand {one} imports {two}",
                        path.display()
                    ));
                }
            }
        }
    }
    found.into_iter().collect()
}

fn project() -> Vec<(PathBuf, String)> {
    let mut paths = Vec::new();
    sources(Path::new("src"), &mut paths);
    paths.sort();
    let read = |path: PathBuf| (path.clone(), fs::read_to_string(path).unwrap());
    paths.into_iter().map(read).collect()
}

#[test]
fn imports_point_down_the_table() {
    let layers = layers();
    assert_eq!(layers.len(), 12, "{layers:?}");
    let rooms = project().into_iter().map(|(path, _)| module(&path));
    let rooms: BTreeSet<String> = rooms.filter_map(|names| names.into_iter().next()).collect();
    assert_eq!(layers.iter().cloned().collect::<BTreeSet<_>>(), rooms);
    let broken = broken(&project(), &layers);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_planted_import_is_found() {
    let layers = layers();
    let cases = [
        (
            "src/kernel/norm.rs",
            "use crate::input::image;",
            "kernel imports input",
        ),
        (
            "src/output/mod.rs",
            "use crate::{\n    file::lock,\n    task::zero_shot::Score,\n};",
            "output imports task",
        ),
        (
            "src/model/block.rs",
            "    fn f() { crate::train::loss() }",
            "model imports train",
        ),
        (
            "src/task/search.rs",
            "use super::super::run::Console;",
            "task imports run",
        ),
        (
            "src/command/embed/texts.rs",
            "use crate::command::tokens;",
            "embed imports tokens",
        ),
        (
            "src/command/embed/texts.rs",
            "use super::super::tokens::lines;",
            "embed imports tokens",
        ),
        (
            "src/command/man.rs",
            "use super::evaluate::Outcome;",
            "man imports evaluate",
        ),
    ];
    for (path, line, expected) in cases {
        let mut files: BTreeMap<PathBuf, String> = project().into_iter().collect();
        let text = files.get_mut(Path::new(path)).expect(path);
        text.insert_str(0, &format!("{line}\n"));
        let broken = broken(&files.into_iter().collect::<Vec<_>>(), &layers);
        assert!(
            broken.iter().any(|line| line.contains(expected)),
            "{path}: {line}: {broken:?}"
        );
    }
}

/// 77, 224 and 248 are a checkpoint's numbers, not the network's.
#[test]
fn no_network_states_the_numbers_of_a_model() {
    let is_comment = |line: &str| line.trim_start().starts_with("//");
    let rooms = ["model", "train", "task", "kernel"];
    let is_network =
        |(path, _): &(PathBuf, String)| rooms.contains(&module(path).first().map_or("", |r| r));
    for (path, text) in project().into_iter().filter(is_network) {
        let code = text.split("#[cfg(test)]").next().unwrap();
        for (number, line) in (1..).zip(code.lines()) {
            let code = line.split(" //").next().unwrap();
            // Words of a text are not numbers of the network.
            let mut is_text = false;
            let plain: String = code
                .chars()
                .map(|c| {
                    is_text ^= c == '"';
                    if is_text { ' ' } else { c }
                })
                .collect();
            let named = plain
                .split(|c: char| !c.is_alphanumeric() && c != '_' && c != '.')
                .any(|word| matches!(word, "77" | "224" | "248"));
            assert!(
                is_comment(line) || !named,
                "{}:{number}: {line}",
                path.display()
            );
        }
    }
}
