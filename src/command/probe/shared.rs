//! Checks that parts share no images, since accuracy on training images is meaningless.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::gather::{Gathered, Images};
use crate::output::ImageName;
use crate::run::Console;

/// Minimum cosine between two embeddings of the same file. Equal relative paths may mean different
/// images, if they were embedded from different folders.
const SAME_IMAGE: f64 = 0.995;

/// Fails if a test image is in another part; warns of other overlaps.
pub(super) fn check(gathered: &Gathered, console: &Console) -> Result<()> {
    let Gathered {
        train,
        validation,
        test,
        ..
    } = gathered;
    let validation = validation.as_ref().map(|part| ("validation", part));
    if let Some(test) = test {
        for (name, part) in [("training", train)].into_iter().chain(validation) {
            let shared = Shared::between(test, part);
            if let Some(example) = shared.path {
                bail!(
                    "{} of {} test images are also {name} images, such as {example}; remove them \
                     from one part, since accuracy on known images is meaningless",
                    shared.paths,
                    test.names.len()
                );
            }
            shared.warn_copies("test", name, console);
        }
    }
    if let Some((name, part)) = validation {
        let shared = Shared::between(part, train);
        if let Some(example) = &shared.path {
            console.warn(&format!(
                "{} of {} validation images are also training images, such as {example}; the \
                 chosen hyperparameters will overfit",
                shared.paths,
                part.names.len()
            ));
        }
        shared.warn_copies(name, "training", console);
    }
    Ok(())
}

/// The images that two parts have in common.
#[derive(Default)]
struct Shared {
    /// The number of images with the same path.
    paths: usize,
    /// An example.
    path: Option<String>,
    /// The number of images with other paths and bit-identical embeddings.
    copies: usize,
    /// An example, and its copy.
    copy: Option<(String, String)>,
}

impl Shared {
    fn between(part: &Images, other: &Images) -> Self {
        let of_path: HashMap<PathBuf, usize> = (other.names.iter().enumerate())
            .filter_map(|(at, name)| Some((place(name)?, at)))
            .collect();
        let of_row: HashMap<u64, usize> = (0..other.names.len())
            .map(|at| (digest(other.row(at)), at))
            .collect();
        let mut shared = Self::default();
        for (at, name) in part.names.iter().enumerate() {
            let row = part.row(at);
            let same = place(name).and_then(|place| of_path.get(&place));
            if same.is_some_and(|&same| cosine(row, other.row(same)) >= SAME_IMAGE) {
                shared.paths += 1;
                shared.path.get_or_insert_with(|| name.text.clone());
                continue;
            }
            let copy = of_row.get(&digest(row)).copied();
            if let Some(copy) = copy.filter(|&copy| row == other.row(copy)) {
                shared.copies += 1;
                let both = || (name.text.clone(), other.names[copy].text.clone());
                shared.copy.get_or_insert_with(both);
            }
        }
        shared
    }

    /// Only a warning, since datasets often contain duplicates.
    fn warn_copies(&self, part: &str, other: &str, console: &Console) {
        if let Some((one, two)) = &self.copy {
            console.warn(&format!(
                "{} {part} images have the same embedding as a {other} image, such as {one} and \
                 {two}; duplicates make the figures optimistic",
                self.copies
            ));
        }
    }
}

impl Images {
    fn row(&self, at: usize) -> &[f32] {
        let dim = self.samples.dim();
        &self.samples.embeddings()[at * dim..][..dim]
    }
}

/// The absolute path of an image.
fn place(name: &ImageName) -> Option<PathBuf> {
    let path = name.path()?;
    let found = path.canonicalize();
    found
        .or_else(|_| std::path::absolute(Path::new(&path)))
        .ok()
}

fn digest(row: &[f32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    row.iter()
        .for_each(|value| value.to_bits().hash(&mut hasher));
    hasher.finish()
}

fn cosine(one: &[f32], two: &[f32]) -> f64 {
    let products = one.iter().zip(two);
    products.fold(0.0, |sum, (a, b)| sum + f64::from(*a) * f64::from(*b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::linear_probe::Samples;

    fn images(all: &[(&str, [f32; 2])]) -> Images {
        let mut samples = Samples::new(2, 2);
        for (_, row) in all {
            samples.push(row, 0).unwrap();
        }
        Images {
            samples,
            shown: Vec::new(),
            names: all.iter().map(|(name, _)| Path::new(name).into()).collect(),
        }
    }

    #[test]
    fn an_image_is_recognised_by_its_path_and_its_row() {
        let known = images(&[("a/1.png", [1.0, 0.0]), ("a/2.png", [0.6, 0.8])]);
        let asked = images(&[
            ("./a/1.png", [1.0, 0.0]),
            // The path of another folder's image.
            ("a/2.png", [0.0, 1.0]),
            ("b/copy.png", [0.6, 0.8]),
            ("b/new.png", [-1.0, 0.0]),
        ]);
        let shared = Shared::between(&asked, &known);
        assert_eq!((shared.paths, shared.copies), (1, 1));
        assert_eq!(shared.path.unwrap(), "./a/1.png");
        let (one, two) = shared.copy.unwrap();
        assert_eq!((&*one, &*two), ("b/copy.png", "a/2.png"));
    }
}
