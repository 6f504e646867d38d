//! Checks of the arguments that need neither images nor a model.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};

use super::ClassifyArgs;
use crate::run::flags::ScoreArgs;
use crate::run::results::Form;
use crate::task::zero_shot::Score;

/// Fails if frames would be sorted into folders, or have sidecars.
pub(super) fn check_frames(args: &ClassifyArgs) -> Result<()> {
    ensure!(
        !args.frames.are_single() || (args.sort.folder().is_none() && !args.tag.is_asked()),
        "files can be sorted into folders and have sidecars, single frames cannot; add \
         --frames-mean, or drop --link, --copy, --move or --xmp"
    );
    Ok(())
}

/// Why images in archives cannot be taken, if what is done with images needs files.
pub(super) fn needs_files(args: &ClassifyArgs, form: &Form) -> Option<&'static str> {
    if args.sort.folder().is_some() || args.tag.is_asked() {
        Some(
            "its images are not files, which --link, --copy, --move and --xmp need; unpack it and \
             pass the folder, or drop these flags",
        )
    } else {
        form.needs_files().then_some(
            "its images are not files, which Label Studio needs; unpack it and pass the folder, or \
             choose another --format",
        )
    }
}

/// Fails if stdin would be read twice.
pub(super) fn check_stdin(args: &ClassifyArgs) -> Result<()> {
    let is_dash =
        |path: &Option<PathBuf>| path.as_ref().is_some_and(|path| path.as_os_str() == "-");
    let readers = [
        (
            args.images
                .images
                .iter()
                .any(|path| path.as_os_str() == "-"),
            "an image",
        ),
        (is_dash(&args.images.files_from), "--files-from"),
        (is_dash(&args.labels.labels_file), "--labels-file"),
        (args.labels.templates.as_deref() == Some("-"), "--templates"),
        (
            is_dash(&args.score.none.background_file),
            "--background-file",
        ),
    ];
    let readers: Vec<_> = readers.into_iter().filter(|(reads, _)| *reads).collect();
    if let [(_, first), (_, second), ..] = readers[..] {
        bail!(
            "{first} and {second} cannot both be read from stdin (-); pass a file for one of them"
        );
    }
    Ok(())
}

/// Fails on a threshold out of range, such as one in percent, which would silently drop everything.
pub(super) fn check_threshold(args: &ScoreArgs) -> Result<()> {
    let Some(threshold) = args.threshold else {
        return Ok(());
    };
    let (least, what) = match args.score {
        Score::Softmax | Score::Sigmoid => (0.0, "probabilities lie between 0 and 1"),
        Score::Cosine => (-1.0, "cosines lie between -1 and 1"),
        Score::Logit => return Ok(()),
    };
    if !(least..=1.0).contains(&threshold) {
        bail!("--threshold {threshold} is out of range: {what}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::flags::NoneArgs;

    #[test]
    fn thresholds_are_in_the_range_of_the_score() {
        let cases = [
            (Score::Softmax, 0.0, true),
            (Score::Softmax, 1.0, true),
            (Score::Softmax, -0.1, false),
            (Score::Sigmoid, 80.0, false),
            (Score::Cosine, -1.0, true),
            (Score::Cosine, 1.5, false),
            (Score::Logit, 80.0, true),
        ];
        for (score, threshold, fits) in cases {
            let args = ScoreArgs {
                score,
                none: NoneArgs::default(),
                top_k: None,
                threshold: Some(threshold),
            };
            assert_eq!(check_threshold(&args).is_ok(), fits, "{args:?}");
        }
    }
}
