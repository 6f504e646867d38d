//! Images of archives by their keys, for lists that name them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::{Kind, Member, Members, key, open};
use crate::input::paths::{ImageRule, PassedOver, PathError};
use crate::output::FailureKind;

/// Archives that are open at the same time; a list usually names one after another.
const MOST_OPEN: usize = 8;

/// Finds images in archives by their keys. As long as they are asked for in the order of their
/// archive, each is read once, and its names once more.
pub(crate) struct Shards {
    rule: ImageRule,
    /// The last one used is the last.
    open: Vec<Shard>,
}

struct Shard {
    path: PathBuf,
    kind: Kind,
    /// The images' names in the archive, in its order.
    names: Vec<String>,
    /// The first image of each key or name, and the next one if there is one.
    by_key: HashMap<String, (usize, Option<usize>)>,
    by_name: HashMap<String, (usize, Option<usize>)>,
    /// Why the archive could be read only in part.
    damage: Option<String>,
    members: Members,
    /// The index of the image that `members` yields next.
    next: usize,
}

impl Shards {
    /// No archive is open yet. `rule` decides what an image is.
    #[must_use]
    pub(crate) fn new(rule: ImageRule) -> Self {
        let open = Vec::new();
        Self { rule, open }
    }

    /// The image in the archive at `path` whose name in it is `key`, or whose name up to the first
    /// dot of its last part is (WebDataset's key). It must be read before the next call.
    ///
    /// # Errors
    /// When `path` is not an archive or is damaged before the image, when no image has the key or
    /// several have, and when the image cannot be read.
    pub(crate) fn member(&mut self, path: &Path, key: &str) -> Result<Member, PathError> {
        let found = self.shard(path).and_then(|shard| shard.find(key));
        found.map_err(|error| PathError {
            path: path.join(key),
            cause: FailureKind::Missing.else_this(&error),
        })?
    }

    fn shard(&mut self, path: &Path) -> Result<&mut Shard> {
        let shard = match self.open.iter().position(|shard| shard.path == path) {
            Some(index) => self.open.remove(index),
            None => Shard::open(path, self.rule)?,
        };
        if self.open.len() >= MOST_OPEN {
            self.open.remove(0);
        }
        self.open.push(shard);
        self.open.last_mut().context("no archive is open")
    }
}

impl Shard {
    /// Opens an archive and reads its names.
    fn open(path: &Path, rule: ImageRule) -> Result<Self> {
        let kind = Kind::of(path).context("this is not an archive of images by its name")?;
        let members = || open(path, kind, rule, PassedOver::default());
        let mut shard = Self {
            path: path.to_owned(),
            kind,
            names: Vec::new(),
            by_key: HashMap::new(),
            by_name: HashMap::new(),
            damage: None,
            members: members()?,
            next: 0,
        };
        for item in members()? {
            let name = match &item {
                Ok(member) => member.name(),
                Err(error) if error.path == path => {
                    shard.damage = Some(error.cause.cause.clone());
                    break;
                }
                Err(error) => &error.path,
            };
            let name = name.strip_prefix(path).unwrap_or(name);
            shard.add(&name.to_string_lossy());
        }
        Ok(shard)
    }

    fn add(&mut self, name: &str) {
        let index = self.names.len();
        self.names.push(name.to_owned());
        for (places, name) in [(&mut self.by_name, name), (&mut self.by_key, key(name))] {
            let places = places.entry(name.to_owned()).or_insert((index, None));
            if places.0 != index {
                places.1.get_or_insert(index);
            }
        }
    }

    /// The inner result is what is wrong with the image itself.
    fn find(&mut self, key: &str) -> Result<Result<Member, PathError>> {
        let index = match (self.by_name.get(key), self.by_key.get(key)) {
            (Some((index, None)), _) | (None, Some((index, None))) => *index,
            (Some((_, Some(_))), _) => {
                bail!(FailureKind::Line.because("several images of the archive have this name"))
            }
            (None, Some((first, Some(second)))) => {
                let name = |index: &usize| self.names.get(*index).cloned().unwrap_or_default();
                bail!(FailureKind::Line.because(format!(
                    "the key is that of {:?} and of {:?}; give the whole name",
                    name(first),
                    name(second)
                )));
            }
            (None, None) => match &self.damage {
                Some(damage) => bail!(
                    FailureKind::Decode
                        .because(format!("no image before the damage has this key: {damage}"))
                ),
                None => bail!("no image of the archive has this key"),
            },
        };
        if index < self.next {
            self.members = open(
                &self.path,
                self.kind,
                self.members.rule,
                PassedOver::default(),
            )?;
            self.next = 0;
        }
        let found = self.members.nth(index - self.next);
        self.next = index + 1;
        found.context("the archive changed meanwhile")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::image::DecodeOptions;
    use crate::input::shard::tar::tests::archive;

    const RULE: ImageRule = ImageRule {
        extensions: &["png"],
        looks_like_image: |_| false,
    };

    #[test]
    fn images_are_found_by_key_or_name_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tar");
        let image = |last: u8| [b"\x89PNG\r\n\x1a\n", &[last][..]].concat();
        let [one, two, left, right] = [1, 2, 3, 4].map(image);
        let files: [(&str, &[u8]); 5] = [
            ("d/1.png", &one),
            ("d/1.txt", b"no image"),
            ("d/2.png", &two),
            ("3.left.png", &left),
            ("3.right.png", &right),
        ];
        std::fs::write(&path, archive(&files)).unwrap();
        let mut shards = Shards::new(RULE);
        for (key, content) in [
            ("d/1", &one),
            ("d/2.png", &two),
            ("3.right.png", &right),
            ("d/1.png", &one),
            ("3.left.png", &left),
            ("3.left.png", &left),
        ] {
            let member = shards.member(&path, key).unwrap();
            let bytes = member.read(&DecodeOptions::default()).unwrap();
            assert_eq!(bytes[..], content[..], "{key}");
        }
        for (key, part) in [
            ("3", "\"3.left.png\" and of \"3.right.png\""),
            ("1", "no image of the archive has this key"),
            ("d/1.txt", "no image of the archive has this key"),
        ] {
            let error = shards.member(&path, key).unwrap_err();
            assert_eq!(error.path, path.join(key));
            assert!(error.cause.cause.contains(part), "{error}");
        }
        let cut = folder.path().join("cut.tar");
        std::fs::write(&cut, &archive(&files)[..1500]).unwrap();
        assert!(shards.member(&cut, "d/1").is_ok());
        let error = shards.member(&cut, "d/2").unwrap_err();
        assert!(error.cause.cause.contains("before the damage"), "{error}");
        let early = shards.member(&path, "d/1").unwrap();
        shards.member(&path, "d/2").unwrap();
        let error = early.read(&DecodeOptions::default()).unwrap_err();
        assert!(error.to_string().contains("read past"), "{error}");
    }

    #[test]
    fn images_in_order_are_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tar");
        let names: Vec<String> = (0..50).map(|number| format!("{number}.png")).collect();
        let files: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), &b"x"[..]))
            .collect();
        std::fs::write(&path, archive(&files)).unwrap();
        let mut shards = Shards::new(RULE);
        for (index, name) in names.iter().enumerate() {
            let member = shards.member(&path, name).unwrap();
            // The number of files that were passed since the archive was opened.
            assert_eq!(member.number, index as u64 + 1);
        }
        assert_eq!(shards.open.len(), 1);
    }
}
