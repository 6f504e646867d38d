//! A picture of HEVC.

use anyhow::{Error, Result, ensure};
use heifer_hevc_dec::Error as Fault;
use heifer_hevc_dec::decoder::{DecodeOptions, decode_picture};
use heifer_hevc_dec::nal::{NalHeader, NalUnit, NalUnitType, split_annex_b};
use heifer_hevc_dec::params::Sps;
use heifer_isobmff::ItemId;

use super::super::format::unsupported;
use super::Container;
use super::colour::{Planes, Sampling, Signal};
use super::tiles::Shape;

/// Longest side, by the largest level. The decoder's tables grow with a side's square.
const MOST_SIDE: u32 = 16_888;

/// Most pixels per byte: each block of 64 x 64 takes a bit at least, which the arithmetic coder
/// passes on as it is.
const MOST_PIXELS_PER_BYTE: u64 = 64 * 64 * 8;

/// What an item's headers claim.
pub(super) fn shape(container: Container, id: ItemId) -> Result<Shape> {
    let stream = container.of(container.file.hevc_bitstream(id))?;
    let headers = headers(container, &stream)?;
    let last = headers.last().ok_or_else(|| container.format.cut())?;
    let size = (
        last.pic_width_in_luma_samples,
        last.pic_height_in_luma_samples,
    );
    ensure!(
        size.0.max(size.1) <= MOST_SIDE,
        unsupported("HEVC of more than 16888 pixels a side")
    );
    Ok(Shape {
        size,
        sampling: Sampling::of(last.chroma_format_idc),
    })
}

/// The headers of pictures in a stream, which may be among its data.
fn headers(container: Container, stream: &[u8]) -> Result<Vec<Sps>> {
    let fault = |error| explain(container, &error);
    let mut headers = Vec::new();
    for unit in split_annex_b(stream) {
        if NalHeader::parse(unit).map_err(fault)?.unit_type == NalUnitType::Sps {
            let unit = NalUnit::parse(unit).map_err(fault)?;
            headers.push(Sps::parse(&unit.rbsp).map_err(fault)?);
        }
    }
    Ok(headers)
}

/// Decodes an item that may claim no more than `shape`.
pub(super) fn decode(container: Container, id: ItemId, shape: Shape) -> Result<Planes> {
    let format = container.format;
    let stream = container.of(container.file.hevc_bitstream(id))?;
    let is_hollow = shape.pixels() / MOST_PIXELS_PER_BYTE > stream.len() as u64;
    ensure!(!is_hollow, format.hollow(shape.size.0, shape.size.1));
    let fault = |error| explain(container, &error);
    let mut transfer = 2; // not stated
    for header in headers(container, &stream)? {
        let is_meant = header.pic_width_in_luma_samples <= shape.size.0
            && header.pic_height_in_luma_samples <= shape.size.1
            && Sampling::of(header.chroma_format_idc) == shape.sampling;
        ensure!(is_meant, format.damaged());
        let stated = header
            .vui
            .map(|usage| u16::from(usage.transfer_characteristics));
        transfer = stated.unwrap_or(transfer);
    }
    let options = DecodeOptions {
        max_pixels: shape.pixels().max(1),
        ..DecodeOptions::default()
    };
    let frame = decode_picture(&stream, options).map_err(fault)?;
    let [width, columns, _] = frame.widths.map(|side| side as usize);
    let bits = frame.bit_depth[0];
    let sampling = Sampling::of(frame.chroma_format);
    // Planes of other depths or sizes than the luma's would be read with its factors.
    let is_even = sampling == Sampling::Grey || frame.bit_depth[1] == bits;
    ensure!(
        is_even,
        unsupported("HEVC with luma and chroma of different depths")
    );
    Ok(Planes {
        size: (width, frame.heights[0] as usize),
        planes: frame.planes,
        chroma_columns: columns,
        is_smooth: false,
        sampling,
        bits,
        signal: Signal {
            matrix: u16::from(frame.matrix_coeffs),
            transfer,
            is_full: frame.full_range,
        },
    })
}

/// What is wrong with the data.
fn explain(container: Container, error: &Fault) -> Error {
    match error {
        Fault::UnexpectedEof => container.format.cut(),
        Fault::Unimplemented(_) => unsupported("this kind of HEVC"),
        _ => container.format.damaged(),
    }
}
