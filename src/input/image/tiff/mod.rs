//! TIFF, as Pillow and libtiff read it: any layout and most compressions; the rest is refused by a
//! name that a photographer knows. Decompression is other crates' work; the `tiff` crate supports
//! too few colour types, ignores the bit order and panics on planes of tiles.

mod colours;
mod fax;
mod layout;
mod samples;
mod unpack;

use anyhow::Result;

use super::directory::Directory;
use super::format::Format;
use super::{DecodeOptions, Raw, check_size, fault, orient};
use layout::{AlphaKind, Colours, Layout};

/// Tag of the sample format, of which 2 is signed.
const SAMPLE_FORMAT: u16 = 339;

/// Decodes the first image of a TIFF file.
pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Raw> {
    let directory = Directory::first(bytes).ok_or_else(|| fault::cut(Format::Tiff))?;
    let (width, height) = Layout::size(&directory)?;
    check_size(width, height, options)?;
    let layout = Layout::of(&directory)?;
    let samples = samples::read(&layout, bytes)?;
    let (image, guess) = colours::image(&layout, samples)?;
    let is_signed = directory.number(SAMPLE_FORMAT) == Some(2);
    let warnings = guess.into_iter().chain(remarks(&layout, is_signed));
    Ok(Raw {
        image,
        orientation: orient::of_tiff(&directory),
        warnings: warnings.collect(),
    })
}

/// Warnings about what the image does not show of the file.
fn remarks(layout: &Layout, is_signed: bool) -> impl Iterator<Item = String> {
    // Larger ones are numbers without a fixed range, which have a warning of their own.
    let signed = (is_signed && layout.bits <= 8).then(|| {
        "tiff: the samples are marked as signed bytes and were read as unsigned".to_owned()
    });
    let (bands, colours) = (layout.samples, layout.colours.count());
    let has_alpha = layout.alpha != AlphaKind::Absent;
    let read_as = match layout.colours {
        Colours::Grey { .. } => "the first is read as grey",
        _ => "the first ones are read as colours",
    };
    // With one extra sample, such as near infrared with RGB, the colours stay what they are.
    let is_more = bands > colours + 1 + usize::from(has_alpha);
    let dropped = is_more.then(|| format!("tiff: {bands} bands; {read_as} and the others ignored"));
    signed.into_iter().chain(dropped)
}
