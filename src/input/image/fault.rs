//! Errors of decoding, with advice per kind of failure. Decoders' own messages mean nothing to the
//! user, so they are not shown.

use anyhow::{Error, anyhow};

use super::format::Format;

/// The file is shorter than its contents need: another copy may be complete.
pub(super) fn cut(format: Format) -> Error {
    anyhow!(
        "the {} file ends before the image is complete; fetch or copy it again",
        format.title()
    )
}

/// The contents are inconsistent: another copy may be intact.
pub(super) fn damaged(format: Format) -> Error {
    anyhow!(
        "the {} data is damaged; fetch or copy the file again",
        format.title()
    )
}

/// The file is intact but its kind is not supported: another copy does not help.
pub(super) fn unsupported(what: &str) -> Error {
    anyhow!("{what} is not supported; save the image as PNG or baseline JPEG")
}

/// A header requests more memory than its image needs.
pub(super) fn oversized(format: Format) -> Error {
    anyhow!(
        "the {} file requests more memory than an image of its size needs; save the image as PNG \
         or JPEG",
        format.title()
    )
}
