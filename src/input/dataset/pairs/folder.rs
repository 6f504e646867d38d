//! Folders with one text file per image, or with a metadata file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::rows::{self, Captions};
use super::{Bad, Image, Kind, PairOptions, Raw, Take, check_no_split, pass_on};
use crate::input::dataset::captions::{Sidecars, content, unnamed};
use crate::input::dataset::sidecar;
use crate::input::paths::{self, ImageRule, ImageSource};
use crate::input::text_file;

/// Passes on each image.
pub(super) fn each(
    root: &Path,
    options: &PairOptions,
    rule: ImageRule,
    take: Take<'_>,
) -> Result<Kind> {
    if let Some(file) = sidecar::metadata(root)? {
        return named(root, &file, (options, rule), take);
    }
    check_no_split(root, options)?;
    let sidecars = Sidecars::of(root);
    for source in paths::expand(vec![sidecars.images.clone()], None, rule)? {
        match source {
            Ok(ImageSource::Path(image)) => pairs(&image, &sidecars, take)?,
            Ok(ImageSource::Stdin) => {}
            Err(error) => take(Err(Bad {
                place: error.path.display().to_string(),
                cause: error.cause,
            }))?,
        }
    }
    Ok(Kind::of("one text file per image"))
}

/// The images that the folder's metadata file names.
fn named(
    root: &Path,
    file: &Path,
    (options, rule): (&PairOptions, ImageRule),
    take: Take<'_>,
) -> Result<Kind> {
    let mut known: HashMap<PathBuf, ()> = HashMap::new();
    let mut kind = rows::each(file, options, &mut |taken| {
        if let Ok(Raw {
            image: Image::File(path),
            ..
        }) = &taken
        {
            known.insert(path.clone(), ());
        }
        take(taken)
    })?;
    kind.name = format!("{} in {}", kind.name, file.display());
    if options.images.is_none() {
        kind.name += &unnamed(root, rule, &known)?;
    }
    Ok(kind)
}

fn pairs(image: &Path, sidecars: &Sidecars, take: Take<'_>) -> Result<()> {
    let place = image.display().to_string();
    let read = || -> Result<_> {
        let mut found = match sidecars.caption(image)? {
            Some(long) => Captions {
                long: vec![long],
                short: None,
            },
            None => from_json(&sidecars.file(image, "json"))?,
        };
        let short = content(&sidecars.file(image, "short.txt"))?;
        found.short = short.or(found.short);
        Ok((Image::File(image.to_owned()), found))
    };
    pass_on(&place, read(), take)
}

fn from_json(path: &Path) -> Result<Captions> {
    let content = content(path)?.context(
        "it has no caption: there is no .txt, .caption or .json file of the same name, and no \
         metadata.jsonl in the folder",
    )?;
    captions_of(&content).with_context(|| format!("cannot use {}", path.display()))
}

/// The captions in an object.
pub(super) fn captions_of(content: &str) -> Result<Captions> {
    rows::captions(&text_file::json_object(content)?)
}
