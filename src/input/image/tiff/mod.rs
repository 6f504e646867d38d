//! TIFF, as Pillow and libtiff read it: any layout, most compressions, and for the rest a name that
//! a photographer knows. The compressions are other crates' work; the `tiff` crate reads too few
//! kinds of colour, takes no bit order into account and panics on planes of tiles.

mod colours;
mod fax;
mod layout;
mod samples;
mod unpack;

use anyhow::Result;

use super::directory::Directory;
use super::format::Format;
use super::{DecodeOptions, Raw, check_size, fault, orient};
use layout::Layout;

/// Decodes the first image of a TIFF file.
pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Raw> {
    let directory = Directory::first(bytes).ok_or_else(|| fault::cut(Format::Tiff))?;
    let (width, height) = Layout::size(&directory)?;
    check_size(width, height, options)?;
    let layout = Layout::of(&directory)?;
    let samples = samples::read(&layout, bytes)?;
    let (image, guess) = colours::image(&layout, samples)?;
    Ok(Raw {
        image,
        orientation: orient::of_tiff(&directory),
        warnings: guess.into_iter().collect(),
    })
}
