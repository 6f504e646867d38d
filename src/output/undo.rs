//! Reverts what a journal lists: sorted images ([`super::sorted`]), or labels in sidecars
//! (`super::xmp`).

use std::path::{Component, Path};

use anyhow::{Result, ensure};

use super::{sorted, xmp};

/// Whether anything is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// Perform all steps.
    Real,
    /// Only report the steps.
    Dry,
}

/// The result of reverting one step.
pub enum Undo<'a> {
    /// It is reverted, or in a dry run would be.
    Undone {
        /// The file that was made or changed.
        path: &'a Path,
        /// What was done to it.
        how: String,
    },
    /// It cannot be reverted, and everything is left as it is.
    Failed {
        /// The file that was made or changed.
        path: &'a Path,
        /// Why.
        cause: anyhow::Error,
    },
}

/// Summary of undoing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Undone {
    /// Steps that were reverted.
    pub undone: u64,
    /// Steps that could not be reverted.
    pub failed: u64,
    /// Sidecars that no longer exist, so that their labels may be elsewhere.
    pub gone: u64,
}

/// Paths that a message shows.
const SHOWN: usize = 5;

/// Reverts the steps of a journal, the last one first, and reports each; with the last one the
/// journal is removed.
///
/// Outside the journal's folder nothing is done, unless this user wrote the journal on this
/// machine, or it is `trusted`.
///
/// # Errors
/// When the journal cannot be read or its paths are not believed; nothing is done then.
pub fn undo(
    journal: &Path,
    run: Run,
    trusted: bool,
    report: &mut dyn FnMut(Undo<'_>),
) -> Result<Undone> {
    if xmp::undo::is_of(journal) {
        return xmp::undo::undo(journal, run, trusted, report);
    }
    sorted::undo::undo(journal, run, trusted, report)
}

/// Fails if a path of a foreign journal, to which undoing would `verb` files, is outside `folder`,
/// and shows some.
pub(super) fn check_inside<'a>(
    paths: impl Iterator<Item = &'a Path>,
    folder: &Path,
    journal: &Path,
    verb: &str,
) -> Result<()> {
    let is_outside = |path: &&Path| {
        let climbs = path.components().any(|part| part == Component::ParentDir);
        // Through a link in the folder, it would be elsewhere.
        let real = path
            .ancestors()
            .skip(1)
            .find_map(|up| up.canonicalize().ok());
        climbs || !path.starts_with(folder) || !real.is_some_and(|real| real.starts_with(folder))
    };
    let outside: Vec<&Path> = paths.filter(is_outside).collect();
    let shown: Vec<String> = outside
        .iter()
        .take(SHOWN)
        .map(|path| path.display().to_string())
        .collect();
    let place = match verb {
        "move" => "to paths outside",
        _ => "outside",
    };
    ensure!(
        outside.is_empty(),
        "{} was not written by you on this machine, and undoing it would {verb} {} {place} its \
         folder, such as {}; check all of them with --dry-run, and pass --yes if they are right",
        journal.display(),
        match outside.len() {
            1 => "1 file".to_owned(),
            count => format!("{count} files"),
        },
        shown.join(", ")
    );
    Ok(())
}
