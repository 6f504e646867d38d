//! A picture of AV1.

use anyhow::{Error, Result, ensure};
use heifer_isobmff::ItemId;
use heifer_isobmff::boxes::Property;
use re_rav1d::dav1d::pixel::YUVRange;
use re_rav1d::dav1d::{self, Decoder, Picture, PixelLayout, PlanarImageComponent, Settings};

use super::super::format::unsupported;
use super::Container;
use super::colour::{Planes, Sampling, Signal};
use super::tiles::{PADDING, Shape};

/// What an item of `size` pixels claims.
pub(super) fn shape(container: Container, id: ItemId, size: (u32, u32)) -> Result<Shape> {
    let mut properties = container.properties(id)?;
    let flags = properties.find_map(|property| match property {
        Property::Unknown(kind, content) if kind.0 == *b"av1C" => content.get(2).copied(),
        _ => None,
    });
    let flags = flags.ok_or_else(|| container.format.damaged())?;
    let sampling = match (flags & 0x10 > 0, flags & 8 > 0, flags & 4 > 0) {
        (true, ..) => Sampling::Grey,
        (false, across, down) => Sampling::Shared(1 + usize::from(across), 1 + usize::from(down)),
    };
    let padded = |side: u32| side.saturating_add(PADDING);
    Ok(Shape {
        size: (padded(size.0), padded(size.1)),
        sampling,
    })
}

/// Decodes an item that may claim no more than `shape`.
pub(super) fn decode(container: Container, id: ItemId, shape: Shape) -> Result<Planes> {
    let data = container.of(container.file.item_data(id))?.into_owned();
    ensure!(!data.is_empty(), container.format.cut());
    let mut settings = Settings::new();
    settings.set_n_threads(1);
    settings.set_max_frame_delay(1);
    settings.set_frame_size_limit(u32::try_from(shape.pixels()).unwrap_or(u32::MAX));
    let fault = |error| explain(container, error);
    let mut decoder = Decoder::with_settings(&settings).map_err(fault)?;
    match decoder.send_data(data, None, None, None) {
        // It holds more frames, of which the first counts.
        Ok(()) | Err(dav1d::Error::Again) => {}
        Err(error) => return Err(fault(error)),
    }
    let picture = decoder.get_picture().map_err(fault)?;
    let sampling = match picture.pixel_layout() {
        PixelLayout::I400 => Sampling::Grey,
        PixelLayout::I420 => Sampling::Shared(2, 2),
        PixelLayout::I422 => Sampling::Shared(2, 1),
        PixelLayout::I444 => Sampling::Shared(1, 1),
    };
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let plane = |component, width, height| samples(&picture, component, width, height);
    let luma = plane(PlanarImageComponent::Y, width, height);
    let (columns, chroma) = match sampling {
        Sampling::Grey => (0, [Vec::new(), Vec::new()]),
        Sampling::Shared(across, down) => {
            let (columns, rows) = (width.div_ceil(across), height.div_ceil(down));
            let parts = [PlanarImageComponent::U, PlanarImageComponent::V];
            (columns, parts.map(|part| plane(part, columns, rows)))
        }
    };
    let [first, second] = chroma;
    Ok(Planes {
        size: (width, height),
        planes: [luma, first, second],
        chroma_columns: columns,
        is_smooth: true,
        sampling,
        bits: picture.bit_depth() as u8,
        signal: Signal {
            matrix: picture.matrix_coefficients() as u16,
            transfer: picture.transfer_characteristic() as u16,
            is_full: picture.color_range() == YUVRange::Full,
        },
    })
}

/// A plane without the padding of its rows.
fn samples(
    picture: &Picture,
    component: PlanarImageComponent,
    width: usize,
    height: usize,
) -> Vec<u16> {
    let plane = picture.plane(component);
    let stride = picture.stride(component) as usize;
    let rows = plane.chunks(stride.max(1)).take(height);
    let mut samples = Vec::with_capacity(width * height);
    for row in rows {
        match picture.bit_depth() {
            8 => samples.extend(row[..width].iter().map(|sample| u16::from(*sample))),
            _ => {
                let (words, _) = row[..2 * width].as_chunks::<2>();
                samples.extend(words.iter().map(|word| u16::from_ne_bytes(*word)));
            }
        }
    }
    samples
}

/// What is wrong with the data.
fn explain(container: Container, error: dav1d::Error) -> Error {
    match error {
        dav1d::Error::Again => container.format.cut(),
        dav1d::Error::UnsupportedBitstream => unsupported("this kind of AV1"),
        dav1d::Error::NotEnoughMemory => container.format.oversized(),
        _ => container.format.damaged(),
    }
}
