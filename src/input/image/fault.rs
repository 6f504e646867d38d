//! What is said about a file that cannot be decoded: the advice fits the kind of failure. Decoders'
//! own words mean nothing to the person who has the file, so they stay inside.

use anyhow::{Error, anyhow};

use super::format::Format;

/// The file is shorter than its contents need: another copy may be whole.
pub(super) fn cut(format: Format) -> Error {
    anyhow!(
        "the {} file ends before the image is complete; fetch or copy it again",
        format.title()
    )
}

/// The contents contradict themselves: another copy may be sound.
pub(super) fn damaged(format: Format) -> Error {
    anyhow!(
        "the {} data is damaged; fetch or copy the file again",
        format.title()
    )
}

/// The file is sound and nobody here decodes its kind: no copy is any better.
pub(super) fn unsupported(what: &str) -> Error {
    anyhow!("{what} is not supported; save the image as PNG or baseline JPEG")
}

/// A header asks for memory that its image does not need.
pub(super) fn oversized(format: Format) -> Error {
    anyhow!(
        "the {} file asks for more memory than its size in pixels explains; save the image as PNG or JPEG",
        format.title()
    )
}
