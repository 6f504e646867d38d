//! Names that become paths and URLs, each validated before use.

use anyhow::{bail, ensure};

/// A repository name and a revision, both validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    id: String,
    revision: String,
}

impl Repository {
    /// `id` is `owner/name`; `revision` a branch, a tag or a commit.
    ///
    /// # Errors
    /// When either is not valid on the hub.
    pub(crate) fn new(id: &str, revision: &str) -> anyhow::Result<Self> {
        ensure!(
            is_repository_id(id),
            "{id:?} is not a repository name; write OWNER/NAME with letters, digits, '-', '_' and '.'"
        );
        if let Err(cause) = check_file_name(revision) {
            bail!("{revision:?} is not a revision: {cause}");
        }
        Ok(Self {
            id: id.to_owned(),
            revision: revision.to_owned(),
        })
    }

    /// `owner/name`.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The requested branch, tag or commit.
    pub(crate) fn revision(&self) -> &str {
        &self.revision
    }
}

/// Whether `id` has the form `owner/name` that the hub requires.
fn is_repository_id(id: &str) -> bool {
    let mut parts = id.split('/');
    let (Some(owner), Some(name), None) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    // The cache folder joins the two with "--", so neither may hold it.
    id.len() <= 96 && !id.contains("--") && [owner, name].into_iter().all(is_plain_word)
}

fn is_plain_word(word: &str) -> bool {
    let inner = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    !word.is_empty()
        && word.chars().all(inner)
        && !word.starts_with(['.', '-'])
        && !word.ends_with(['.', '-'])
        && !word.contains("..")
}

/// Checks a file name of a repository (with `/` between folders) before it
/// becomes a path: it must stay below the folder it is joined to on every
/// operating system and print as one line.
///
/// # Errors
/// Reports which rule the name violates.
pub(crate) fn check_file_name(name: &str) -> anyhow::Result<()> {
    ensure!(!name.is_empty(), "the name is empty");
    ensure!(name.len() <= 1024, "the name is longer than 1024 bytes");
    ensure!(
        !name.chars().any(char::is_control),
        "{name:?} contains control characters"
    );
    // ':' names drives and streams on Windows, '\' separates folders there.
    ensure!(
        !name.contains(['\\', ':', '*', '?', '"', '<', '>', '|']),
        "{name:?} contains a character that is not allowed in file names"
    );
    for part in name.split('/') {
        // Windows drops a trailing dot or space, so "..." and ".. " are ".." there.
        ensure!(
            !part.is_empty() && part.len() <= 255 && !part.ends_with(['.', ' ']),
            "{name:?} does not stay inside its folder"
        );
    }
    Ok(())
}

/// Checks that a commit is 40 hexadecimal digits.
pub(super) fn check_commit(commit: &str) -> anyhow::Result<()> {
    ensure!(
        is_hex(commit) && commit.len() == 40,
        "the hub sent the commit {:?}, which is not 40 hexadecimal digits; refusing to use it",
        excerpt(commit)
    );
    Ok(())
}

/// Parses an `ETag` header. The result is a SHA-256 or a git object name in hexadecimal digits and
/// names the blob in the cache; other lengths are not hashes that the content could be checked
/// against.
pub(super) fn parse_etag(header: &str) -> anyhow::Result<String> {
    let etag = header
        .strip_prefix("W/")
        .unwrap_or(header)
        .trim_matches('"');
    ensure!(
        is_hex(etag) && [40, 64].contains(&etag.len()),
        "the hub sent the ETag {:?}, which is not a hash; refusing to use it",
        excerpt(etag)
    );
    Ok(etag.to_owned())
}

fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The beginning of an untrusted string, made safe for printing.
pub(super) fn excerpt(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control())
        .take(200)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_stay_in_their_folder_pass() {
        for good in [
            "a.pt",
            "longclip-L@336px.pt",
            "sub dir/x#1.txt",
            ".gitattributes",
            "é/ü",
        ] {
            check_file_name(good).unwrap();
        }
        let long = "x".repeat(256);
        for bad in [
            "",
            "..",
            "../x",
            "a/../b",
            "/etc/passwd",
            "a//b",
            "a/",
            ".",
            "a\\b",
            "C:x",
            "C:\\x",
            "x\u{1b}[31m",
            "a\nb",
            "...",
            ".. /x",
            "a|b",
            &long,
        ] {
            assert!(check_file_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_repository_is_owner_and_name() {
        for good in ["BeichenZhang/LongCLIP-L-336px", "a/b", "zer0int/x_y.z"] {
            assert!(Repository::new(good, "main").is_ok(), "{good}");
        }
        for bad in [
            "a", "a/b/c", "/b", "a/", "../b", "a/..", "a--x/b", ".a/b", "a/b c", "a/ü",
        ] {
            assert!(Repository::new(bad, "main").is_err(), "{bad}");
        }
        for (revision, good) in [
            ("refs/pr/3", true),
            ("v1.0", true),
            ("../main", false),
            ("", false),
        ] {
            assert_eq!(Repository::new("a/b", revision).is_ok(), good, "{revision}");
        }
    }

    #[test]
    fn etags_and_commits_must_be_hashes() {
        let (sha1, sha256) = ("0123456789abcdef0123456789abcdef01234567", "ab".repeat(32));
        assert_eq!(parse_etag(&format!("W/\"{sha1}\"")).unwrap(), sha1);
        assert_eq!(parse_etag(&format!("\"{sha256}\"")).unwrap(), sha256);
        for bad in ["", "\"\"", "../../x", "ABCDEF", "\"abc\"", &"a".repeat(50)] {
            assert!(parse_etag(bad).is_err(), "{bad}");
        }
        assert!(check_commit(sha1).is_ok());
        assert!(check_commit(&sha256).is_err() && check_commit("../x").is_err());
    }
}
