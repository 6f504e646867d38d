//! Failures of a disk, which are not those of one input: what comes next would fail too.

use std::io::{self, ErrorKind};

/// Linux, macOS and the BSDs agree on the number of EIO.
const DEVICE_ERROR: i32 = 5;

/// Whether the disk is full, a quota is used up or the device failed, so that the same command may
/// succeed later.
pub(crate) fn is_passing(error: &anyhow::Error) -> bool {
    causes(error).any(passes)
}

/// Whether every further file would fail as well: as [`is_passing`], or nothing can be written at
/// all.
pub(crate) fn is_general(error: &anyhow::Error) -> bool {
    causes(error).any(is_of_disk)
}

/// The same for an error without a context.
pub(crate) fn is_of_disk(error: &io::Error) -> bool {
    passes(error) || error.kind() == ErrorKind::ReadOnlyFilesystem
}

fn passes(error: &io::Error) -> bool {
    let is_full = matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    );
    is_full || (cfg!(unix) && error.raw_os_error() == Some(DEVICE_ERROR))
}

fn causes(error: &anyhow::Error) -> impl Iterator<Item = &io::Error> {
    error.chain().filter_map(|cause| cause.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_apart() {
        let cases = [
            (io::Error::from(ErrorKind::StorageFull), true, true),
            (ErrorKind::QuotaExceeded.into(), true, true),
            (ErrorKind::ReadOnlyFilesystem.into(), false, true),
            (ErrorKind::PermissionDenied.into(), false, false),
            (ErrorKind::NotFound.into(), false, false),
            #[cfg(unix)]
            (io::Error::from_raw_os_error(DEVICE_ERROR), true, true),
        ];
        for (cause, passing, general) in cases {
            let shown = cause.to_string();
            let error = anyhow::Error::new(cause).context("cannot write");
            assert_eq!(is_passing(&error), passing, "{shown}");
            assert_eq!(is_general(&error), general, "{shown}");
        }
        assert!(!is_general(&anyhow::anyhow!("no labels")));
    }
}
