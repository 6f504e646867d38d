//! Reverts sorting, using its journal.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::journal::{Step, Steps};
use super::{Action, place};
use crate::file::fault;
use crate::file::stamp::Stamp;
use crate::output::undo::{Run, Undo, Undone, check_inside};

/// Reverts the steps of a journal, the last one first, and reports each. Only what is unchanged is
/// touched: an image that has changed since, or whose old path is occupied, is a failure. Created
/// folders that are empty are removed too, and with the last image the journal.
///
/// Nothing is removed or created outside the journal's folder, except that moved images go back to
/// their old paths. Those are believed if this user wrote the journal on this machine, or if
/// `trusted`.
///
/// # Errors
/// When the journal cannot be read or its old paths are not believed; nothing is done then.
pub(in crate::output) fn undo(
    journal: &Path,
    run: Run,
    trusted: bool,
    report: &mut dyn FnMut(Undo<'_>),
) -> Result<Undone> {
    let Steps {
        action,
        folder,
        made,
        steps,
        is_own,
    } = super::journal::read(journal)
        .with_context(|| format!("cannot undo the journal {}", journal.display()))?;
    if action == Action::Move && !is_own && !trusted && run == Run::Real {
        let old = steps.iter().filter_map(|step| match step {
            Step::Image { from, .. } => Some(from.as_path()),
            Step::Folder { .. } => None,
        });
        check_inside(old, &folder, journal, "move")?;
    }
    let mut undone = Undone::default();
    for step in steps.iter().rev() {
        let Step::Image { from, to, stamp } = step else {
            continue;
        };
        match revert(action, from, to, *stamp, run) {
            Ok(false) => {}
            Ok(true) => {
                undone.undone += 1;
                let how = format!("sorted from {}", from.display());
                report(Undo::Undone { path: to, how });
            }
            Err(cause) if fault::is_general(&cause) => {
                return Err(cause.context(format!(
                    "cannot undo {}; stopped after {} images, and {} keeps the others",
                    to.display(),
                    undone.undone,
                    journal.display()
                )));
            }
            Err(cause) => {
                undone.failed += 1;
                report(Undo::Failed { path: to, cause });
            }
        }
    }
    if run == Run::Real && undone.failed == 0 {
        fs::remove_file(journal)
            .with_context(|| format!("everything was undone except for {}", journal.display()))?;
        let folders = steps.iter().rev().filter_map(|step| match step {
            Step::Folder { to } => Some(to),
            Step::Image { .. } => None,
        });
        // A folder that is not empty stays, and one that no longer exists is fine.
        for folder in folders.chain(made.then_some(&folder)) {
            let _ = fs::remove_dir(folder);
        }
    }
    Ok(undone)
}

/// Reverts one step; false if it was not done.
fn revert(action: Action, from: &Path, to: &Path, stamp: Stamp, run: Run) -> Result<bool> {
    let Ok(metadata) = to.symlink_metadata() else {
        ensure!(
            action != Action::Move || from.symlink_metadata().is_ok(),
            "it no longer exists, neither here nor at its old path"
        );
        return Ok(false);
    };
    // Through a link, files elsewhere would be removed or moved.
    let parent = to.parent().unwrap_or(to);
    ensure!(
        parent
            .symlink_metadata()
            .is_ok_and(|folder| folder.is_dir()),
        "{} is not a folder but leads elsewhere",
        parent.display()
    );
    let is_real = run == Run::Real;
    let remove = || if is_real { fs::remove_file(to) } else { Ok(()) };
    match action {
        Action::Link => {
            let is_ours = if metadata.is_symlink() {
                fs::read_link(to)? == from
            } else {
                place::is_same_file(to, from)
            };
            ensure!(is_ours, "it is not the link that was created");
            remove()?;
        }
        Action::Copy => {
            // What is at the old path now may be a link to the copy, which is then the last one.
            let is_other_file = !place::is_same_file(to, from);
            ensure!(
                metadata.is_file() && is_other_file && place::has_same_content(to, from),
                "it is not a copy of {} (any more)",
                from.display()
            );
            remove()?;
        }
        Action::Move => {
            ensure!(
                metadata.is_file() && Stamp::of(to).is_some_and(|now| is_near(now, stamp)),
                "it has changed since"
            );
            return restore(from, to, run).map(|()| true);
        }
    }
    Ok(true)
}

/// Whether a file is unchanged, judged by its size and time. Another file system may have rounded
/// the time, by up to two seconds.
fn is_near(now: Stamp, then: Stamp) -> bool {
    const ROUNDING_NS: u64 = 2_000_000_000;
    now.bytes == then.bytes && now.modified_ns.abs_diff(then.modified_ns) <= ROUNDING_NS
}

fn restore(from: &Path, to: &Path, run: Run) -> Result<()> {
    if let Ok(metadata) = from.symlink_metadata() {
        // The run may have been killed between a link or a copy and the removal of the old name. A
        // symbolic link there is another program's and needs the image.
        let is_same = place::is_same_file(from, to) || place::has_same_content(from, to);
        ensure!(
            metadata.is_file() && is_same,
            "another file exists at {}",
            from.display()
        );
        if run == Run::Real {
            fs::remove_file(to)?;
        }
        return Ok(());
    }
    if run == Run::Dry {
        return Ok(());
    }
    if let Some(folder) = from.parent() {
        fs::create_dir_all(folder)?;
    }
    match place::rename(to, from) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("another file exists at {}", from.display())
        }
        moved => Ok(moved?),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::Sorter;
    use super::*;

    /// Sorts `a.jpg` into `sorted/cat`: the folder, the image, its place and the journal.
    fn sorted(action: Action) -> (tempfile::TempDir, PathBuf, PathBuf, PathBuf) {
        let room = tempfile::tempdir().unwrap();
        let image = room.path().join("a.jpg");
        fs::write(&image, "image").unwrap();
        let folder = room.path().join("sorted");
        let mut sorter = Sorter::new(&folder, action, &["cat"], Run::Real).unwrap();
        sorter.file(&image, 0).unwrap();
        let journal = sorter.journal().unwrap().to_owned();
        (room, image, folder.join("cat/a.jpg"), journal)
    }

    fn failure(journal: &Path) -> String {
        let mut causes = Vec::new();
        let undone = undo(journal, Run::Real, true, &mut |undo| {
            if let Undo::Failed { cause, .. } = undo {
                causes.push(cause.to_string());
            }
        });
        assert_eq!(
            undone.unwrap(),
            Undone {
                undone: 0,
                failed: 1,
                gone: 0,
            }
        );
        assert!(journal.exists(), "the undo can be retried");
        causes.remove(0)
    }

    #[test]
    fn the_last_copy_of_an_image_is_never_removed() {
        let (_room, image, place, journal) = sorted(Action::Copy);
        fs::write(&place, "painted over").unwrap();
        assert!(failure(&journal).contains("not a copy"));
        fs::remove_file(&image).unwrap();
        assert!(failure(&journal).contains("not a copy"));
        assert!(place.exists());
    }

    #[test]
    fn a_changed_image_or_one_with_an_occupied_place_stays() {
        let (_room, image, place, journal) = sorted(Action::Move);
        fs::write(&image, "another").unwrap();
        assert!(failure(&journal).contains("another file exists at"));
        assert_eq!(fs::read(&image).unwrap(), b"another");
        fs::remove_file(&image).unwrap();
        fs::write(&place, "painted over").unwrap();
        assert!(failure(&journal).contains("changed since"));
        fs::remove_file(&place).unwrap();
        assert!(failure(&journal).contains("no longer exists"));
    }

    // No journal of a unit test is sealed, so that all are foreign.

    #[test]
    fn a_foreign_journal_moves_nothing_out_of_its_folder_unless_it_is_trusted() {
        let (_room, image, place, journal) = sorted(Action::Move);
        let error = undo(&journal, Run::Real, false, &mut |_| {}).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("was not written by you"), "{said}");
        assert!(said.contains(image.to_str().unwrap()), "{said}");
        assert!(said.contains("--yes"), "{said}");
        assert!(place.exists() && journal.exists() && !image.exists());
        // A dry run lists what would be done.
        assert_eq!(
            undo(&journal, Run::Dry, false, &mut |_| {}).unwrap().undone,
            1
        );
        assert_eq!(
            undo(&journal, Run::Real, true, &mut |_| {}).unwrap().undone,
            1
        );
        assert!(image.exists());
    }

    #[test]
    fn a_foreign_journal_may_name_old_paths_in_its_folder() {
        let (_room, image, place, journal) = sorted(Action::Move);
        let folder = journal.parent().unwrap().to_owned();
        let inside = folder.join("back.jpg");
        let lead = |to: &Path| {
            let text = fs::read_to_string(&journal).unwrap();
            let from = text.split("\"from\":").nth(1).unwrap();
            let from = from.split(',').next().unwrap();
            let text = text.replace(from, &format!("{:?}", to.to_str().unwrap()));
            fs::write(&journal, text).unwrap();
        };
        // Out of it and in again is outside.
        lead(&folder.join("../sorted/../b.jpg"));
        assert!(undo(&journal, Run::Real, false, &mut |_| {}).is_err());
        assert!(place.exists() && !image.exists());
        lead(&inside);
        assert_eq!(
            undo(&journal, Run::Real, false, &mut |_| {})
                .unwrap()
                .undone,
            1
        );
        assert!(inside.exists());
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_touched_through_a_link_in_place_of_a_label_folder() {
        for action in [Action::Link, Action::Copy, Action::Move] {
            let (room, _, place, journal) = sorted(action);
            let (folder, elsewhere) = (place.parent().unwrap(), room.path().join("elsewhere"));
            fs::rename(folder, &elsewhere).unwrap();
            std::os::unix::fs::symlink(&elsewhere, folder).unwrap();
            assert!(failure(&journal).contains("leads elsewhere"));
            assert!(elsewhere.join("a.jpg").symlink_metadata().is_ok());
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_at_the_old_path_is_not_waited_for() {
        for action in [Action::Copy, Action::Move] {
            let (_room, image, place, journal) = sorted(action);
            let _ = fs::remove_file(&image);
            let made = std::process::Command::new("mkfifo").arg(&image).status();
            assert!(made.unwrap().success());
            failure(&journal);
            assert!(place.exists());
        }
    }

    #[test]
    fn an_interrupted_move_is_undone() {
        let (_room, image, place, journal) = sorted(Action::Move);
        fs::hard_link(&place, &image).unwrap();
        let undone = undo(&journal, Run::Real, true, &mut |_| {}).unwrap();
        assert_eq!(
            undone,
            Undone {
                undone: 1,
                failed: 0,
                gone: 0,
            }
        );
        assert!(image.exists() && !place.exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_the_image_at_its_old_path_is_not_an_image() {
        for action in [Action::Copy, Action::Move] {
            let (_room, image, place, journal) = sorted(action);
            let _ = fs::remove_file(&image);
            std::os::unix::fs::symlink(&place, &image).unwrap();
            failure(&journal);
            assert_eq!(fs::read(&place).unwrap(), b"image");
        }
    }

    #[test]
    fn a_step_that_was_not_done_needs_no_undo() {
        let (_room, image, place, journal) = sorted(Action::Move);
        fs::rename(&place, &image).unwrap();
        let undone = undo(&journal, Run::Real, true, &mut |_| {}).unwrap();
        assert_eq!(undone, Undone::default());
        assert!(image.exists() && !journal.exists() && !place.parent().unwrap().exists());
    }

    #[test]
    fn a_link_that_points_elsewhere_now_stays() {
        let (_room, _, place, journal) = sorted(Action::Link);
        fs::remove_file(&place).unwrap();
        fs::write(&place, "an image").unwrap();
        assert!(failure(&journal).contains("not the link"));
        assert!(place.exists());
    }

    #[test]
    fn a_dry_undo_reports_and_touches_nothing() {
        for action in [Action::Link, Action::Copy, Action::Move] {
            let (_room, image, place, journal) = sorted(action);
            let was_there = image.exists();
            let undone = undo(&journal, Run::Dry, false, &mut |_| {}).unwrap();
            assert_eq!(
                undone,
                Undone {
                    undone: 1,
                    failed: 0,
                    gone: 0,
                }
            );
            assert!(place.symlink_metadata().is_ok() && journal.exists());
            assert_eq!(image.exists(), was_there);
        }
    }
}
