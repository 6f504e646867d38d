//! WebDataset tar shards: the members of a sample are consecutive and share their name up to the
//! first dot.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};

use super::files::{Captions, captions_in};
use super::{Bad, DataKind, Image, Take};
use crate::input::paths::ImageRule;
use crate::input::shard::key;
use crate::input::shard::tar::{Found, Tar, What};
use crate::input::text_file::extension;

/// More shards are taken for a typo in a pattern.
const MAX_SHARDS: usize = 100_000;

/// The shards that `path` names, in order; `None` if it names something else.
pub(super) fn of(path: &Path) -> Result<Option<Vec<PathBuf>>> {
    if path.is_dir() {
        let mut found = Vec::new();
        let reading = || format!("cannot read the folder {}", path.display());
        for entry in path.read_dir().with_context(reading)? {
            let entry = entry.with_context(reading)?.path();
            if is_tar(&entry) && entry.is_file() {
                found.push(entry);
            }
        }
        found.sort();
        return Ok((!found.is_empty()).then_some(found));
    }
    let name = path.to_string_lossy();
    if !path.exists() && name.contains('{') && name.contains("..") {
        return Ok(Some(
            expand(&name)?.into_iter().map(PathBuf::from).collect(),
        ));
    }
    let compressed = [".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz"];
    if compressed.iter().any(|ending| name.ends_with(ending)) {
        bail!(
            "{name} is compressed, which saves nothing for images; decompress it to a plain \
               .tar first"
        );
    }
    Ok((is_tar(path) && path.exists()).then(|| vec![path.to_owned()]))
}

fn is_tar(path: &Path) -> bool {
    extension(path) == "tar"
}

/// `a-{00..02}.tar` -> `a-00.tar`, `a-01.tar`, `a-02.tar`.
fn expand(pattern: &str) -> Result<Vec<String>> {
    let parts = pattern
        .split_once('{')
        .and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
    let Some((before, (inside, after))) = parts else {
        return Ok(vec![pattern.to_owned()]);
    };
    let ends = inside.split_once("..").and_then(|(first, last)| {
        Some((
            first.parse::<usize>().ok()?,
            last.parse::<usize>().ok()?,
            first.len(),
        ))
    });
    let (first, last, width) = ends
        .with_context(|| format!("{{{inside}}} in {pattern} is not a range like {{000..012}}"))?;
    ensure!(
        first <= last && last - first < MAX_SHARDS,
        "{{{inside}}} in {pattern} is not a range of at most {MAX_SHARDS} shards"
    );
    let rest = expand(after)?;
    let mut all = Vec::new();
    for number in first..=last {
        all.extend(
            rest.iter()
                .map(|rest| format!("{before}{number:0width$}{rest}")),
        );
        ensure!(all.len() <= MAX_SHARDS, "{pattern} names too many shards");
    }
    Ok(all)
}

/// Passes on the samples of each shard.
pub(super) fn each(shards: &[PathBuf], rule: ImageRule, take: Take<'_>) -> Result<DataKind> {
    for shard in shards {
        if let Err(error) = samples(shard, rule, take)? {
            take(Err(Bad {
                place: shard.display().to_string(),
                cause: format!("{error:#}"),
            }))?;
        }
    }
    Ok(match shards.len() {
        1 => DataKind::of("a tar shard"),
        count => DataKind::of(&format!("{count} tar shards")),
    })
}

/// The inner result is what is wrong with the archive; samples before that are passed on.
fn samples(shard: &Path, rule: ImageRule, take: Take<'_>) -> Result<Result<()>> {
    let mut archive = match Tar::open_seekable(shard) {
        Ok(archive) => archive,
        Err(error) => return Ok(Err(error)),
    };
    let path: Arc<Path> = Arc::from(shard);
    let mut sample = Sample::default();
    loop {
        let found = match archive.next_file() {
            Ok(Some(found)) => found,
            end => {
                sample.pass_on(&path, take)?;
                return Ok(end.map(|_| ()));
            }
        };
        let name = String::from_utf8_lossy(&found.name).into_owned();
        let (false, Some((key, kind))) = (matches!(found.what, What::Link(_)), key_and_kind(&name))
        else {
            continue;
        };
        let member = Member { name, found };
        if key != sample.key {
            std::mem::take(&mut sample).pass_on(&path, take)?;
            sample.key = key;
        }
        if let Err(error) = sample.add(&kind, member, &mut archive, rule) {
            sample.wrong.get_or_insert(format!("{error:#}"));
        }
    }
}

/// `a/0001.short.txt` is the `short.txt` of `a/0001`.
fn key_and_kind(name: &str) -> Option<(String, String)> {
    let key = key(name);
    let kind = name[key.len()..].strip_prefix('.')?;
    // Hidden files, such as macOS adds.
    let is_hidden = key.is_empty() || key.ends_with('/');
    (!is_hidden).then(|| (key.to_owned(), kind.to_lowercase()))
}

/// A file of a shard.
struct Member {
    name: String,
    found: Found,
}

/// The members of a sample found so far.
#[derive(Default)]
struct Sample {
    key: String,
    image: Option<Member>,
    long: Option<String>,
    short: Option<String>,
    json: Option<String>,
    wrong: Option<String>,
    /// A member whose key other readers might end at a later dot.
    dotted: Option<String>,
    /// Whether it has a class number.
    has_class: bool,
}

impl Sample {
    fn add(
        &mut self,
        kind: &str,
        member: Member,
        archive: &mut Tar,
        rule: ImageRule,
    ) -> Result<()> {
        let place = match kind {
            "txt" | "caption" | "long.txt" => &mut self.long,
            "short.txt" | "short" => &mut self.short,
            "json" => &mut self.json,
            _ if rule.extensions.contains(&kind) => {
                ensure!(
                    member.found.what != What::Sparse,
                    "{} is a sparse file",
                    member.name
                );
                self.image.get_or_insert(member);
                return Ok(());
            }
            "cls" | "cls.txt" => {
                self.has_class = true;
                return Ok(());
            }
            _ => {
                let last = kind.rsplit('.').next().unwrap_or_default();
                let is_known = ["txt", "caption", "json", "cls"].contains(&last)
                    || rule.extensions.contains(&last);
                if is_known {
                    self.dotted.get_or_insert(member.name);
                }
                return Ok(());
            }
        };
        ensure!(
            member.found.what != What::Sparse,
            "{} is a sparse file",
            member.name
        );
        *place = Some(archive.text(&member.found)?);
        Ok(())
    }

    fn pass_on(self, shard: &Arc<Path>, take: Take<'_>) -> Result<()> {
        let is_none = self.image.is_none() && self.long.is_none() && self.short.is_none();
        // Other members, such as a list of the shard's contents.
        if is_none && self.wrong.is_none() && self.dotted.is_none() {
            return Ok(());
        }
        let place = format!("{}, sample {}", shard.display(), self.key);
        let read = self.read().map(|(member, captions)| {
            let image = Image::Member {
                archive: shard.clone(),
                name: member.name.into(),
                offset: member.found.offset,
                bytes: member.found.bytes,
            };
            (image, captions)
        });
        super::pass_on(&place, read, take)
    }

    fn read(self) -> Result<(Member, Captions)> {
        if let Some(wrong) = self.wrong {
            bail!(wrong);
        }
        let dotted = self.dotted.map_or(String::new(), |name| {
            format!(
                "; a member's key ends at the first dot of its name (WebDataset), so the key of \
                 {name:?} is {:?}; use one dot per name",
                self.key
            )
        });
        let image = self
            .image
            .with_context(|| format!("it has no image{dotted}"))?;
        let captions = match (self.long, self.json) {
            (Some(long), _) => Captions::of(long),
            (None, Some(json)) => captions_in(&json)?,
            (None, None) if self.has_class => bail!(
                "it has a class (a member .cls) but no caption (a member .txt, .caption or \
                 .json){dotted}"
            ),
            (None, None) => bail!("it has no caption (a member .txt, .caption or .json){dotted}"),
        };
        Ok((
            image,
            Captions {
                short: self.short.or(captions.short),
                ..captions
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_in_braces_are_expanded() {
        let shards = expand("d/a-{08..10}.tar").unwrap();
        assert_eq!(shards, ["d/a-08.tar", "d/a-09.tar", "d/a-10.tar"]);
        assert_eq!(expand("{0..1}-{0..1}").unwrap().len(), 4);
        assert_eq!(expand("plain.tar").unwrap(), ["plain.tar"]);
        for wrong in ["{a..b}.tar", "{5..2}.tar", "{0..999999999}.tar"] {
            assert!(expand(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_ends_at_the_first_dot_of_the_name() {
        let cases = [
            ("a.b/0001.jpg", Some(("a.b/0001", "jpg"))),
            ("0001.short.TXT", Some(("0001", "short.txt"))),
            ("a/._0001.jpg", None),
            ("README", None),
        ];
        for (name, expected) in cases {
            let expected = expected.map(|(key, kind)| (key.to_owned(), kind.to_owned()));
            assert_eq!(key_and_kind(name), expected, "{name}");
        }
    }
}
