//! HEIC and AVIF: still images of HEVC or AV1 in a HEIF container, as libheif and libavif read them.
//! The containers and the codecs are other crates' work; what they hold is put together here, a row
//! of tiles at a time, so that no more of a large photograph is in memory.
//!
//! The file's primary image counts, never its thumbnail. Rotation, mirroring and cropping that the
//! container states are part of the image, so that they are applied whatever the options say; an
//! orientation in EXIF data repeats them and is ignored, as the format's standard requires.

#[cfg(feature = "avif")]
mod av1;
mod colour;
#[cfg(feature = "heic")]
mod hevc;
mod tables;
mod tiles;

use anyhow::{Error, Result, bail, ensure};
use heifer_isobmff::boxes::{ColorInfo, Property};
use heifer_isobmff::{BoxIter, HeifFile, ItemId};
use image::ColorType;
use image::metadata::Orientation;

use super::format::{Format, unsupported};
use super::orient::{self, Steps};
use super::rows::{Feed, band_bytes};
use colour::Signal;
use tiles::Tiles;

/// How often an item's data, which may be most of the file, is in memory while it is decoded.
const DATA_COPIES: u64 = 3;

/// Most images that stand for one another before one has pixels.
const MOST_LINKS: usize = 4;

/// The names of an alpha plane.
const ALPHA: [&str; 2] = [
    "urn:mpeg:hevc:2015:auxid:1",
    "urn:mpeg:mpegB:cicp:systems:auxiliary:alpha",
];

/// Decodes the primary image of a HEIF file; `format` is what its brand claims.
pub(super) fn decode(format: Format, bytes: &[u8], feed: &mut Feed) -> Result<()> {
    tables::check(format, bytes)?;
    let file = HeifFile::parse(bytes).map_err(|error| explain(format, bytes, &error))?;
    let container = Container {
        format,
        file: &file,
    };
    let mut view = View::default();
    let id = container.resolve(&mut view)?;
    let mut tiles = Tiles::of(container, id)?;
    let alpha = match container.alpha_of(id)? {
        Some(plane) => Some(Tiles::of(container, plane)?),
        None => None,
    };
    if let Some(alpha) = &alpha {
        let name = format!("an alpha plane of another size in {}", format.title());
        ensure!(alpha.size == tiles.size, unsupported(&name));
    }
    let (width, height) = view
        .crop
        .map_or(tiles.size, |crop| (crop.width, crop.height));
    let (left, top) = view.crop.map_or((0, 0), |crop| (crop.left, crop.top));
    let colour = if alpha.is_some() {
        ColorType::Rgba8
    } else {
        ColorType::Rgb8
    };
    let channels = usize::from(colour.bytes_per_pixel());
    // The whole size counts, even if little of it is shown.
    super::check_size(tiles.size.0, tiles.size.1, feed.options)?;
    let needed = tiles.bytes()
        + alpha.as_ref().map_or(0, Tiles::bytes)
        + DATA_COPIES * bytes.len() as u64
        + band_bytes(width, channels);
    feed.turn_always();
    feed.start((width, height), view.orientation(), needed)?;
    let is_premultiplied = !file.referenced_items(id, b"prem").is_empty();
    let mut alpha = alpha;
    let mut transfer = None;
    feed.add_each((width, height), colour, |y, row| {
        let y = top as usize + y;
        tiles.colours(y, left as usize, row, channels)?;
        if let Some(alpha) = &mut alpha {
            alpha.alphas(y, left as usize, row)?;
            if is_premultiplied {
                row.chunks_exact_mut(4).for_each(colour::divide);
            }
        }
        transfer = tiles.transfer();
        Ok(())
    })?;
    if let Some(name) = transfer.and_then(dynamic_range) {
        feed.warn(format!(
            "{}: high dynamic range ({name}) is shown as stored, without tone mapping, so brightness \
             and colours differ from what a screen shows",
            format.name()
        ));
    }
    Ok(())
}

/// The name of a transfer function of H.273 for more than a screen's range.
fn dynamic_range(transfer: u16) -> Option<&'static str> {
    match transfer {
        16 => Some("PQ"),
        18 => Some("HLG"),
        _ => None,
    }
}

/// What is wrong with the container.
fn explain(format: Format, bytes: &[u8], error: &heifer_isobmff::Error) -> Error {
    use heifer_isobmff::Error as Fault;
    let is_sequence = || {
        let mut parts = BoxIter::new(bytes).map_while(Result::ok);
        parts.any(|part| part.header.box_type.0 == *b"moov")
    };
    match error {
        Fault::MissingBox(kind) if kind.0 == *b"meta" && is_sequence() => {
            let name = format.title();
            unsupported(&format!("a {name} sequence without a still image"))
        }
        Fault::UnexpectedEof | Fault::MissingBox(_) => format.cut(),
        Fault::Unimplemented(_) => unsupported(&format!("this kind of {}", format.title())),
        _ => format.damaged(),
    }
}

/// An open file.
#[derive(Clone, Copy)]
struct Container<'a> {
    format: Format,
    file: &'a HeifFile<'a>,
}

impl<'a> Container<'a> {
    /// A result of the parser.
    fn of<T>(self, read: Result<T, heifer_isobmff::Error>) -> Result<T> {
        read.map_err(|error| explain(self.format, &[], &error))
    }

    /// The kind of an item.
    fn kind(self, id: ItemId) -> Result<[u8; 4]> {
        Ok(self.of(self.file.item(id))?.item_type.0)
    }

    fn properties(self, id: ItemId) -> Result<impl Iterator<Item = &'a Property>> {
        self.of(self.file.item_properties(id))
    }

    /// The item that has the primary image's pixels; notes in `view` what is shown of them.
    fn resolve(self, view: &mut View) -> Result<ItemId> {
        let mut id = self.file.primary_id;
        let mut views = Vec::new();
        for _ in 0..MOST_LINKS {
            views.push(id);
            if self.kind(id)? != *b"iden" {
                // The innermost is turned first.
                for id in views.into_iter().rev() {
                    view.add(self, id)?;
                }
                return Ok(id);
            }
            let inputs = self.file.referenced_items(id, b"dimg");
            id = *inputs.first().ok_or_else(|| self.format.damaged())?;
        }
        bail!(self.format.damaged())
    }

    /// The alpha plane of an image, if it has one.
    fn alpha_of(self, id: ItemId) -> Result<Option<ItemId>> {
        for plane in self.file.referencing_items(id, b"auxl") {
            let is_alpha = |property: &Property| matches!(property, Property::AuxiliaryType(name) if ALPHA.contains(&name.as_str()));
            if self.properties(plane)?.any(is_alpha) {
                return Ok(Some(plane));
            }
        }
        Ok(None)
    }

    /// Width and height that an item claims.
    fn size(self, id: ItemId) -> Result<(u32, u32)> {
        let size = self.of(self.file.image_size(id))?;
        size.ok_or_else(|| self.format.damaged())
    }

    /// What an item's properties say of its colours.
    fn signal(self, id: ItemId) -> Result<Option<Signal>> {
        Ok(self.properties(id)?.find_map(|property| match property {
            Property::Color(ColorInfo::Nclx {
                transfer,
                matrix,
                full_range,
                ..
            }) => Some(Signal {
                matrix: *matrix,
                transfer: *transfer,
                is_full: *full_range,
            }),
            _ => None,
        }))
    }
}

/// The part of an image that is shown, and how it is turned.
#[derive(Default)]
struct View {
    crop: Option<Crop>,
    turned: Option<Steps>,
}

#[derive(Clone, Copy)]
struct Crop {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

impl View {
    /// Adds the properties of an item, in their order.
    fn add(&mut self, container: Container, id: ItemId) -> Result<()> {
        for property in container.properties(id)? {
            let now = self
                .turned
                .unwrap_or(orient::steps(Orientation::NoTransforms));
            match property {
                Property::CleanAperture { .. } => {
                    let name = "a crop after a rotation, or a second one, in ";
                    let is_first = self.crop.is_none() && self.turned.is_none();
                    let name = format!("{name}{}", container.format.title());
                    ensure!(is_first, unsupported(&name));
                    let crop = Crop::of(property, container.size(id)?);
                    self.crop = Some(crop.ok_or_else(|| container.format.damaged())?);
                }
                Property::Rotation(quarters) => {
                    let turn = (0..*quarters).fold(now, |now, _| anticlockwise(now));
                    self.turned = Some(turn);
                }
                Property::Mirror(true) => {
                    self.turned = Some(Steps {
                        flipped: !now.flipped,
                        ..now
                    });
                }
                Property::Mirror(false) => {
                    self.turned = Some(Steps {
                        mirrored: !now.mirrored,
                        ..now
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn orientation(&self) -> Orientation {
        let all = (1..=8).filter_map(Orientation::from_exif);
        let mut fitting = all.filter(|one| Some(orient::steps(*one)) == self.turned);
        fitting.next().unwrap_or(Orientation::NoTransforms)
    }
}

/// Steps and then a quarter turn: a transposition, which swaps the directions, and a flip.
fn anticlockwise(now: Steps) -> Steps {
    Steps {
        transposed: !now.transposed,
        mirrored: now.flipped,
        flipped: !now.mirrored,
    }
}

impl Crop {
    /// The rectangle of a clean aperture: its size and the offset of its centre are fractions.
    fn of(property: &Property, (whole_width, whole_height): (u32, u32)) -> Option<Self> {
        let Property::CleanAperture {
            width,
            height,
            horiz_offset,
            vert_offset,
        } = property
        else {
            return None;
        };
        let side = |whole: u32, size: (u32, u32), offset: (i32, u32)| {
            let ratio = |above: f64, below: u32| (below > 0).then(|| above / f64::from(below));
            let size = ratio(f64::from(size.0), size.1)?;
            let offset = ratio(f64::from(offset.0), offset.1)?;
            let first = (offset + (f64::from(whole) - size) / 2.0).round().max(0.0);
            let length = size.round().min(f64::from(whole) - first);
            (length >= 1.0).then_some((first as u32, length as u32))
        };
        let (left, width) = side(whole_width, *width, *horiz_offset)?;
        let (top, height) = side(whole_height, *height, *vert_offset)?;
        Some(Self {
            left,
            top,
            width,
            height,
        })
    }
}

/// The name of a kind of item that cannot be decoded.
fn unsupported_kind(format: Format, kind: [u8; 4]) -> Error {
    let what = match &kind {
        b"hvc1" | b"hev1" => "HEVC (this build lacks the feature `heic`)",
        b"av01" => "AV1 (this build lacks the feature `avif`)",
        b"iovl" => "an image composed of several",
        b"tmap" => "a tone-mapped image as the main one",
        b"avc1" => "AVC (H.264)",
        b"vvc1" => "VVC (H.266)",
        b"jpeg" => "a JPEG inside",
        b"j2k1" => "JPEG 2000",
        b"unci" => "uncompressed samples",
        _ => "an image of an unknown kind",
    };
    unsupported(&format!("a {} file with {what}", format.title()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_one_another() {
        let none = orient::steps(Orientation::NoTransforms);
        let mut now = none;
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(
                View {
                    crop: None,
                    turned: Some(now),
                }
                .orientation(),
            );
            now = anticlockwise(now);
        }
        assert_eq!(now, none);
        let expected = [
            Orientation::NoTransforms,
            Orientation::Rotate270,
            Orientation::Rotate180,
            Orientation::Rotate90,
        ];
        assert_eq!(seen, expected);
        // A mirror image, turned.
        let mirrored = Steps {
            mirrored: true,
            ..none
        };
        let turned = View {
            crop: None,
            turned: Some(anticlockwise(mirrored)),
        };
        assert_eq!(turned.orientation(), Orientation::Rotate90FlipH);
    }

    #[test]
    fn a_crop_lies_inside() {
        let crop = |width, offset| {
            let aperture = Property::CleanAperture {
                width,
                height: (10, 1),
                horiz_offset: offset,
                vert_offset: (0, 1),
            };
            Crop::of(&aperture, (100, 10)).map(|crop| (crop.left, crop.width, crop.top))
        };
        assert_eq!(crop((100, 1), (0, 1)), Some((0, 100, 0)));
        assert_eq!(crop((60, 1), (-20, 1)), Some((0, 60, 0)));
        assert_eq!(crop((121, 2), (0, 1)), Some((20, 61, 0)));
        assert_eq!(crop((400, 1), (90, 1)), Some((0, 100, 0)));
        assert_eq!(crop((10, 1), (90, 1)), None);
        assert_eq!(crop((10, 0), (0, 1)), None);
        assert_eq!(crop((0, 1), (0, 1)), None);
    }
}
