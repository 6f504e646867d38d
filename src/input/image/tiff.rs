//! TIFF.

use anyhow::Result;

use super::format::Format;
use super::{DecodeOptions, Raw, general};

/// Decodes the first picture of a TIFF file.
pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Raw> {
    general::decode(Format::Tiff, bytes, options)
}
