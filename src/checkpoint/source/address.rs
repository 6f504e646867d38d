//! Other spellings of a repository: open_clip's `hf-hub:` and `local-dir:`, `hf://`, and URLs of
//! hub pages.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::{Reference, existing, known, parse_hub};
use crate::checkpoint::hub::{Repository, check_file_name};

/// The hub's short URL, which leads to the same pages.
const SHORT_HUB: &str = "https://hf.co";

/// Parses `typed` if it starts like one of these. `hubs` are the base URLs of the hub.
///
/// # Errors
/// When it does not name a model; the error says what would.
pub(super) fn parse(typed: &str, hubs: &[String]) -> Result<Option<Reference>> {
    if let Some(path) = typed.strip_prefix("local-dir:") {
        let path: Option<PathBuf> = existing(path);
        let path = path.with_context(|| format!("there is no folder {typed:?}"))?;
        return Ok(Some(Reference::Path(path)));
    }
    let repository = ["hf-hub:", "hf_hub:"];
    if let Some(name) = repository
        .iter()
        .find_map(|start| typed.strip_prefix(start))
    {
        let reference = parse_hub(name.trim_end_matches('/'))?;
        let reference = reference.with_context(|| {
            format!("{typed:?} does not name a repository; write OWNER/REPO[@REVISION][:FILE]")
        })?;
        return Ok(Some(reference));
    }
    if let Some(path) = typed.strip_prefix("hf://") {
        return uri(typed, path.strip_prefix("models/").unwrap_or(path)).map(Some);
    }
    let is_address = typed.starts_with("https://") || typed.starts_with("http://");
    match path_on(typed, hubs) {
        Some(path) => page(typed, path).map(Some),
        None if is_address => bail!("{}", no_page(typed)),
        None => Ok(None),
    }
}

/// The part after the base URL of a hub, given with or without scheme.
fn path_on<'a>(typed: &'a str, hubs: &[String]) -> Option<&'a str> {
    let without_scheme = |text: &str| text.find("://").map_or(0, |at| at + 3);
    let rest = &typed[without_scheme(typed)..];
    let rest = rest.strip_prefix("www.").unwrap_or(rest);
    let hubs = hubs.iter().map(String::as_str).chain([SHORT_HUB]);
    hubs.into_iter().find_map(|hub| {
        let hub = &hub[without_scheme(hub)..];
        let start = rest.get(..hub.len())?;
        let path = rest[hub.len()..].strip_prefix('/')?;
        start.eq_ignore_ascii_case(hub).then_some(path)
    })
}

/// `OWNER/REPO[@REVISION][/FILE]`.
fn uri(typed: &str, path: &str) -> Result<Reference> {
    let mut parts = path.splitn(3, '/');
    let (Some(owner), Some(name)) = (parts.next(), parts.next()) else {
        bail!("{typed:?} does not name a repository; write OWNER/REPO[@REVISION][:FILE]");
    };
    let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
    on_hub(
        typed,
        &format!("{owner}/{name}"),
        &decoded(revision),
        parts.next(),
    )
}

/// `OWNER/REPO`, its file tree at a revision, or a file of it.
fn page(typed: &str, path: &str) -> Result<Reference> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let parts: Vec<String> = path
        .split('/')
        .filter(|part| !part.is_empty())
        .map(decoded)
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (id, kind, rest) = match parts[..] {
        ["datasets" | "spaces" | "api" | "papers" | "collections", ..] => {
            bail!("{}", no_page(typed))
        }
        [owner, name] => {
            // As in `git clone`.
            let name = name.strip_suffix(".git").unwrap_or(name);
            return on_hub(typed, &format!("{owner}/{name}"), "main", None);
        }
        [owner, name, kind, ref rest @ ..] => (format!("{owner}/{name}"), kind, rest),
        _ => bail!("{}", no_page(typed)),
    };
    let (revision, file) = match rest {
        // The slashes in a pull request's revision, which browsers write as %2F.
        ["refs", a, b, file @ ..] => (format!("refs/{a}/{b}"), file.join("/")),
        [revision, file @ ..] => ((*revision).to_owned(), file.join("/")),
        [] => ("main".to_owned(), String::new()),
    };
    match (kind, file.as_str()) {
        ("tree" | "commit" | "commits", "") => on_hub(typed, &id, &revision, None),
        ("tree", folder) => bail!(
            "{typed:?} is the folder {folder:?} of a repository; name the weight file in it, as \
             {id}:{folder}/FILE"
        ),
        ("blob" | "resolve" | "raw" | "blame", file) if !file.is_empty() => {
            on_hub(typed, &id, &revision, Some(file))
        }
        _ => bail!("{}", no_page(typed)),
    }
}

fn on_hub(typed: &str, id: &str, revision: &str, file: Option<&str>) -> Result<Reference> {
    let naming = || format!("{typed:?} does not name a model on the hub");
    if let Some(file) = file {
        check_file_name(file).with_context(naming)?;
    }
    Ok(Reference::Hub {
        repository: Repository::new(id, revision).with_context(naming)?,
        file: file.map(str::to_owned),
    })
}

fn no_page(typed: &str) -> String {
    let file = typed.rsplit('/').next().unwrap_or_default();
    format!(
        "{typed:?} is not the page of a model on the hub{}; name OWNER/REPO[@REVISION][:FILE], or \
         download the file and give its path",
        known::hint(file).unwrap_or_default()
    )
}

/// Percent-decodes part of a URL; invalid escapes stay unchanged.
fn decoded(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        match code.filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(typed: &str) -> Result<Option<Reference>, String> {
        let hubs = ["http://mirror.example/hf", "https://hub.example"].map(str::to_owned);
        parse(typed, &hubs).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn addresses_and_uris_name_repositories() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let at_commit = format!("https://hub.example/a/b/tree/{commit}");
        let cases = [
            ("hf-hub:a/b", "main", None),
            ("hf_hub:a/b/", "main", None),
            ("hf-hub:a/b@v1:x/y.pt", "v1", Some("x/y.pt")),
            ("hf://a/b", "main", None),
            ("hf://models/a/b@v1/x/y.pt", "v1", Some("x/y.pt")),
            ("hf://a/b@refs%2Fpr%2F3", "refs/pr/3", None),
            ("https://hub.example/a/b", "main", None),
            ("https://hub.example/a/b/", "main", None),
            ("http://hub.example/a/b?x=y#z", "main", None),
            ("https://www.HUB.example/a/b", "main", None),
            ("hub.example/a/b", "main", None),
            ("https://hub.example/a/b.git", "main", None),
            ("https://hf.co/a/b", "main", None),
            ("hf.co/a/b.git", "main", None),
            ("https://hf.co/a/b/blob/v1/x.pt", "v1", Some("x.pt")),
            ("http://mirror.example/hf/a/b", "main", None),
            ("https://hub.example/a/b/tree/main", "main", None),
            (&at_commit, commit, None),
            ("https://hub.example/a/b/commits/v1", "v1", None),
            (
                "https://hub.example/a/b/tree/refs%2Fpr%2F3",
                "refs/pr/3",
                None,
            ),
            ("https://hub.example/a/b/tree/refs/pr/3", "refs/pr/3", None),
            (
                "https://hub.example/a/b/blob/main/x.pt",
                "main",
                Some("x.pt"),
            ),
            (
                "https://hub.example/a/b/resolve/v1/sub%20dir/x%40y.pt?download=true",
                "v1",
                Some("sub dir/x@y.pt"),
            ),
        ];
        for (typed, revision, file) in cases {
            let expected = Reference::Hub {
                repository: Repository::new("a/b", revision).unwrap(),
                file: file.map(str::to_owned),
            };
            assert_eq!(read(typed).unwrap(), Some(expected), "{typed}");
        }
        assert_eq!(
            read("local-dir:src").unwrap(),
            Some(Reference::Path("src".into()))
        );
    }

    #[test]
    fn addresses_of_other_pages_are_errors_and_other_names_pass() {
        let cases = [
            ("https://elsewhere.example/a/b", "not the page of a model"),
            (
                "https://elsewhere.example/models/0123/ViT-B-32.pt",
                "did you mean clip-vit-b-32?",
            ),
            ("https://hub.example.evil/a/b", "not the page of a model"),
            ("https://hub.example/a", "not the page of a model"),
            (
                "https://hub.example/datasets/a/b",
                "not the page of a model",
            ),
            (
                "https://hub.example/a/b/discussions/3",
                "not the page of a model",
            ),
            (
                "https://hub.example/a/b/blob/main",
                "not the page of a model",
            ),
            ("https://hub.example/a/b/tree/main/sub", "a/b:sub/FILE"),
            (
                "https://hub.example/a/b/blob/main/..%2Fx.pt",
                "does not name a model",
            ),
            ("https://hub.example/a%2Fc/b", "does not name a model"),
            ("https://hub.example/a/b/tree/%00", "does not name a model"),
            ("hf-hub:", "does not name a repository"),
            ("hf-hub:a", "does not name a repository"),
            ("hf://a", "does not name a repository"),
            ("local-dir:nowhere", "no folder"),
        ];
        for (typed, expected) in cases {
            let error = read(typed).unwrap_err();
            assert!(error.contains(expected), "{typed}: {error}");
        }
        for typed in ["a/b", "ViT-B/32", "./x", "C:\\x", "", "é", "hub.example"] {
            assert_eq!(read(typed).unwrap(), None, "{typed}");
        }
    }
}
