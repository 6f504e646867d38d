//! Divides the input into units: one archive, or some consecutive images. Which unit an image is in
//! depends on the input and the size alone, not on the number of processes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use sha2::{Digest as _, Sha256};

use super::share::Share;
use crate::file::digest::hexadecimal;
use crate::input::paths::{Entry, ImageSource, unfold};
use crate::input::shard::Kind;
use crate::run::images::IMAGES;

/// How the input is divided, and which units a process answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Division {
    /// Those that it answers.
    pub(crate) share: Share,
    /// Most images of a unit that is not an archive.
    pub(crate) part_size: u64,
}

/// The units of an input with [folded](crate::input::paths::Expansion::folded) archives. One is read
/// at a time; clones share their place.
#[derive(Clone)]
pub(crate) struct Units(Arc<Mutex<Reading>>);

struct Reading {
    sources: Box<dyn Iterator<Item = Entry> + Send>,
    division: Division,
    /// The number of the unit that is being read.
    unit: u64,
    /// Its images so far; an archive counts as a whole block.
    images: u64,
    /// The first entry of the next unit.
    next: Option<Entry>,
    names: Sha256,
}

impl Units {
    pub(crate) fn new(
        sources: impl Iterator<Item = Entry> + Send + 'static,
        division: Division,
    ) -> Self {
        Self(Arc::new(Mutex::new(Reading {
            sources: Box::new(sources),
            division,
            unit: 0,
            images: 0,
            next: None,
            names: Sha256::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Reading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the next unit; `None` at the end of the input. The last one was read.
    pub(super) fn begin(&self) -> Option<u64> {
        let mut reading = self.lock();
        if reading.next.is_none() {
            reading.next = Some(reading.sources.next()?);
        }
        if reading.images > 0 {
            reading.unit += 1;
            reading.images = 0;
        }
        Some(reading.unit)
    }

    /// Reads the rest of the unit; the SHA-256 of the names of its entries and their keys.
    pub(super) fn end(&self) -> Result<String> {
        let mut reading = self.lock();
        while reading.take()?.is_some() {}
        Ok(hexadecimal(&std::mem::take(&mut reading.names).finalize()))
    }

    /// The images of the unit that begins, read one by one.
    pub(super) fn images(&self) -> impl Iterator<Item = Entry> + Send + use<> {
        let units = self.clone();
        std::iter::from_fn(move || units.lock().take().ok().flatten())
            .flat_map(|entry| unfold(entry, IMAGES))
    }

    /// The images of the share, unit by unit.
    pub(crate) fn of_share(self) -> impl Iterator<Item = Entry> + Send + 'static {
        let share = self.lock().division.share;
        let next = move || {
            loop {
                let unit = self.begin()?;
                if share.has(unit) {
                    return Some(self.images());
                }
                self.end().ok()?;
            }
        };
        std::iter::from_fn(next).flatten()
    }
}

impl Reading {
    /// The next entry of the unit; `None` at its end.
    ///
    /// # Errors
    /// When the keys of an entry cannot be written.
    fn take(&mut self) -> Result<Option<Entry>> {
        let Some(entry) = self.next.take().or_else(|| self.sources.next()) else {
            return Ok(None);
        };
        let is_alone = match &entry.source {
            Ok(ImageSource::Path(path)) => Kind::of(path).is_some(),
            _ => false,
        };
        let is_full = self.images >= self.division.part_size;
        if is_full || (is_alone && self.images > 0) {
            self.next = Some(entry);
            return Ok(None);
        }
        self.images += match is_alone {
            true => self.division.part_size,
            false => 1,
        };
        hash(&mut self.names, &entry)?;
        Ok(Some(entry))
    }
}

/// Adds an entry, in a form that no other entry has.
fn hash(names: &mut Sha256, entry: &Entry) -> Result<()> {
    let (kind, path, cause) = match &entry.source {
        Ok(ImageSource::Path(path)) => (0u8, Some(path.as_path()), ""),
        Ok(ImageSource::Stdin) => (1, None, ""),
        Ok(ImageSource::Member(member)) => (2, Some(member.name()), ""),
        Err(error) => (3, Some(error.path.as_path()), error.cause.cause.as_str()),
    };
    let path = path.map_or(&[][..], |path| path.as_os_str().as_encoded_bytes());
    let keys = serde_json::to_vec(&entry.given)?;
    names.update([kind]);
    for text in [path, cause.as_bytes(), &keys] {
        names.update((text.len() as u64).to_le_bytes());
        names.update(text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::paths::PathError;
    use crate::output::FailureKind;

    /// The entries of these names; an error after `!`.
    fn units(names: &[&str], part_size: u64, share: &str) -> Units {
        let entry = |name: &&str| -> Entry {
            match name.strip_prefix('!') {
                Some(path) => Err(PathError {
                    path: path.into(),
                    cause: FailureKind::Missing.because("gone"),
                }),
                None => Ok(ImageSource::Path(name.into())),
            }
            .into()
        };
        let entries: Vec<Entry> = names.iter().map(entry).collect();
        let share = share.parse().unwrap();
        Units::new(entries.into_iter(), Division { share, part_size })
    }

    #[test]
    fn a_unit_is_an_archive_or_consecutive_images() {
        let cases: [(&[&str], u64, &[usize]); 8] = [
            (&[], 2, &[]),
            (&["a"], 2, &[1]),
            (&["a", "b"], 2, &[2]),
            (&["a", "b", "!c"], 2, &[2, 1]),
            (&["a", "b.tar", "c", "d"], 2, &[1, 1, 2]),
            (&["a.TAR.GZ", "b.zip"], 3, &[1, 1]),
            (&["tar", "x.tar", "a.tar.jpg"], 3, &[1, 1, 1]),
            (&["a", "b", "c"], 1, &[1, 1, 1]),
        ];
        for (names, part_size, expected) in cases {
            let units = units(names, part_size, "0/1");
            let mut sizes = Vec::new();
            while let Some(number) = units.begin() {
                assert_eq!(number, sizes.len() as u64, "{names:?}");
                sizes.push(units.images().count());
                units.end().unwrap();
            }
            assert_eq!(sizes, expected, "{names:?}");
        }
    }

    #[test]
    fn shares_have_all_images_once_and_in_order() {
        let names = ["a", "b", "c.tar", "d", "e", "f"];
        let share = |share: &str| -> Vec<String> {
            let images = units(&names, 2, share).of_share();
            images
                .map(|entry| match entry.source {
                    Ok(ImageSource::Path(path)) => path.display().to_string(),
                    other => panic!("{other:?}"),
                })
                .collect()
        };
        assert_eq!(share("0/1"), names);
        assert_eq!(share("0/2"), ["a", "b", "d", "e"]);
        assert_eq!(share("1/2"), ["c.tar", "f"]);
        assert_eq!(share("5/6"), [""; 0]);
    }

    #[test]
    fn other_names_have_another_digest_however_they_are_read() {
        let lists: [&[&str]; 7] = [
            &["a", "b"],
            &["b", "a"],
            &["a"],
            &["ab"],
            &["!a"],
            &["!ab"],
            &["a", "!b"],
        ];
        let digest = |names: &[&str], read: usize| {
            let units = units(names, 9, "0/1");
            units.begin().unwrap();
            assert_eq!(units.images().take(read).count(), read.min(names.len()));
            units.end().unwrap()
        };
        let digests: Vec<String> = lists.iter().map(|names| digest(names, 0)).collect();
        for (at, one) in digests.iter().enumerate() {
            assert!(!digests[..at].contains(one), "{:?}", lists[at]);
            assert_eq!(*one, digest(lists[at], 9));
        }
    }
}
