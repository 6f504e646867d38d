//! The packed file as `assets/tiny/FORMAT.md` specifies it: an envelope with a checksum, a header,
//! and the bytes of the tensors, which become f32 bit by bit as specified: the f32 product of scale
//! and code. Knows nothing about CLIP.

use std::io::Read as _;
use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use flate2::bufread::ZlibDecoder;
use half::f16;
use rayon::prelude::*;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::checkpoint::Tensors;
use crate::checkpoint::container::StoredTensor;

const MAGIC: &[u8; 8] = b"TINYCLIP";
const VERSION: u32 = 1;

/// Bytes before the compressed payload.
const ENVELOPE: usize = 48;

/// Maximum bytes of a payload; a model of 3 MB has little more.
const PAYLOAD_BYTES: usize = 16 << 20;

/// Maximum bytes of its header, which lists about a hundred tensors.
const HEADER_BYTES: usize = 1 << 20;

/// Maximum elements of all tensors together, including the zero rows of the token embedding.
const ELEMENTS: usize = 1 << 24;

/// The header.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    pub(super) activation: String,
    pub(super) image_size: usize,
    pub(super) patch_size: usize,
    pub(super) context_length: usize,
    pub(super) tensors: Vec<Entry>,
}

/// A tensor as listed in the header.
#[derive(Debug, Deserialize)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) encoding: Encoding,
    /// The number of stored rows, if not all are stored.
    rows: Option<usize>,
    offset: usize,
    bytes: usize,
}

/// The encoding of a tensor's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Encoding {
    /// As f32.
    #[serde(rename = "f32")]
    F32,
    /// In half precision.
    #[serde(rename = "f16")]
    F16,
    /// One scale per row, and 8-bit integers.
    #[serde(rename = "i8")]
    Rows,
    /// The same for some rows, preceded by their indices; all other rows are zeros.
    #[serde(rename = "i8-rows")]
    SomeRows,
}

/// A packed file with verified checksum and tensor positions.
pub(super) struct Packed {
    pub(super) header: Header,
    payload: Vec<u8>,
    body: usize,
}

impl Packed {
    /// Reads and checks a file.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let (length, stream) = envelope(bytes)?;
        let payload = inflate(stream, length)?;
        ensure!(
            Sha256::digest(&payload)[..] == bytes[16..ENVELOPE],
            "the checksum is not that of the content"
        );
        let (size, rest) = payload.split_at(4);
        let size = header_length(size)?;
        let header = rest
            .get(..size)
            .context("the header ends beyond the payload")?;
        let header = Header::parse(header)?;
        let body = 4 + size;
        header.check_places(payload.len() - body)?;
        Ok(Self {
            header,
            payload,
            body,
        })
    }

    /// The bytes of a tensor.
    pub(super) fn data(&self, entry: &Entry) -> &[u8] {
        let Range { start, end } = entry.place();
        &self.payload[self.body + start..self.body + end]
    }
}

impl Header {
    /// Reads only the header, without verifying the checksum.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let (_, stream) = envelope(bytes)?;
        let mut stream = ZlibDecoder::new(stream);
        let mut size = [0; 4];
        stream.read_exact(&mut size).context("no header")?;
        let mut header = vec![0; header_length(&size)?];
        stream
            .read_exact(&mut header)
            .context("the header ends beyond the payload")?;
        Self::parse(&header)
    }

    fn parse(json: &[u8]) -> Result<Self> {
        let header: Self = serde_json::from_slice(json).context("the header is not valid")?;
        let mut elements = 0usize;
        for entry in &header.tensors {
            let own = entry.elements().filter(|own| *own <= ELEMENTS);
            elements += own.with_context(|| format!("tensor {}: too large", entry.name))?;
            ensure!(elements <= ELEMENTS, "more than {ELEMENTS} elements");
        }
        let mut pairs = header.tensors.windows(2);
        if let Some([one, next]) = pairs.find(|pair| pair[0].name >= pair[1].name) {
            let [one, next] = [&one.name, &next.name];
            bail!("tensor {next} comes after {one}: they are not sorted");
        }
        Ok(header)
    }

    /// Checks that the tensors fill the body without gaps, each with the bytes that its shape
    /// needs.
    fn check_places(&self, body: usize) -> Result<()> {
        let mut end = 0;
        for entry in &self.tensors {
            let name = &entry.name;
            ensure!(
                entry.offset == end,
                "tensor {name} begins at {}, not where the one before ends ({end})",
                entry.offset
            );
            let needed = entry.needed();
            ensure!(
                needed == Some(entry.bytes),
                "tensor {name} has {} bytes, which is not what {:?} in {:?} needs",
                entry.bytes,
                entry.shape,
                entry.encoding
            );
            // Cannot overflow: elements are limited, and encodings need at most 4 bytes per element
            // and row.
            end += entry.bytes;
        }
        ensure!(
            end == body,
            "the tensors need {end} bytes, but {body} are there"
        );
        Ok(())
    }
}

impl Entry {
    /// Rows of the unpacked tensor; 1 for a scalar.
    pub(super) fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Stored rows.
    pub(super) fn stored_rows(&self) -> usize {
        match self.encoding {
            Encoding::SomeRows => self.rows.unwrap_or(0),
            _ => self.rows(),
        }
    }

    /// Elements per row.
    pub(super) fn columns(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Elements of the unpacked tensor; `None` on overflow.
    fn elements(&self) -> Option<usize> {
        let mut sizes = self.shape.iter();
        let all = sizes.try_fold(1usize, |all, size| all.checked_mul(*size));
        all.filter(|_| self.shape.len() <= 4 && !self.shape.contains(&0))
    }

    /// Bytes that the encoding takes; `None` if it is not valid.
    fn needed(&self) -> Option<usize> {
        let (rows, elements) = (self.stored_rows(), self.elements()?);
        if rows == 0 || rows > self.rows() {
            return None;
        }
        // At most the number of elements, which was checked, so nothing overflows.
        let scales_and_codes = rows * (2 + self.columns());
        Some(match self.encoding {
            Encoding::F32 => 4 * elements,
            Encoding::F16 => 2 * elements,
            Encoding::Rows => scales_and_codes,
            Encoding::SomeRows => 2 * rows + scales_and_codes,
        })
    }

    fn place(&self) -> Range<usize> {
        self.offset..self.offset + self.bytes
    }
}

/// The length of the payload, and the stream that holds it.
fn envelope(bytes: &[u8]) -> Result<(usize, &[u8])> {
    ensure!(bytes.len() > ENVELOPE, "it is cut short");
    let (envelope, stream) = bytes.split_at(ENVELOPE);
    ensure!(&envelope[..8] == MAGIC, "it is not a packed model");
    let version = number(&envelope[8..]);
    ensure!(
        version == VERSION,
        "it uses version {version} of the format, but this program reads version {VERSION}"
    );
    let length = number(&envelope[12..]) as usize;
    ensure!(
        (4..=PAYLOAD_BYTES).contains(&length),
        "it claims to hold {length} bytes, but a model has at most {PAYLOAD_BYTES}"
    );
    Ok((length, stream))
}

fn inflate(stream: &[u8], length: usize) -> Result<Vec<u8>> {
    let mut decoder = ZlibDecoder::new(stream);
    let mut payload = vec![0; length];
    decoder
        .read_exact(&mut payload)
        .context("the compressed stream is damaged")?;
    // The end must be read too: the stream has its own checksum.
    let more = decoder
        .read(&mut [0])
        .context("the compressed stream is damaged")?;
    ensure!(more == 0, "it holds more than the {length} bytes it claims");
    ensure!(
        decoder.into_inner().is_empty(),
        "bytes follow the compressed stream"
    );
    Ok(payload)
}

fn header_length(bytes: &[u8]) -> Result<usize> {
    let size = number(bytes) as usize;
    ensure!(
        size <= HEADER_BYTES,
        "the header has {size} bytes, more than the limit of {HEADER_BYTES}"
    );
    Ok(size)
}

/// The first four bytes, which the caller has checked to exist.
fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// All tensors of a packed file, all values finite.
pub(super) fn tensors(packed: &Packed) -> Result<Tensors> {
    let entries = packed.header.tensors.par_iter();
    entries
        .map(|entry| {
            let bytes = values(entry, packed.data(entry))
                .with_context(|| format!("tensor {}", entry.name))?;
            let tensor = StoredTensor::from_f32_bytes(&entry.shape, bytes)?;
            Ok((entry.name.clone(), tensor))
        })
        .collect()
}

/// The bytes of a tensor's f32 values; `data` has the length that the encoding requires.
fn values(entry: &Entry, data: &[u8]) -> Result<Vec<u8>> {
    // Untouched zeros cost no memory, and most rows of the token embedding are zeros.
    let mut out = vec![0; 4 * entry.rows() * entry.columns()];
    match entry.encoding {
        Encoding::F32 => {
            let values = data.chunks_exact(4);
            copy(
                values.map(|v| f32::from_le_bytes([v[0], v[1], v[2], v[3]])),
                &mut out,
            )?;
        }
        Encoding::F16 => copy(halves(data), &mut out)?,
        Encoding::Rows => {
            let (scales, codes) = data.split_at(2 * entry.rows());
            scale_rows(scales, codes, 0..entry.rows(), &mut out)?;
        }
        Encoding::SomeRows => {
            let (rows, rest) = data.split_at(2 * entry.stored_rows());
            let (scales, codes) = rest.split_at(rows.len());
            let rows = row_numbers(rows, entry.rows())?;
            scale_rows(scales, codes, rows.into_iter(), &mut out)?;
        }
    }
    Ok(out)
}

fn copy(values: impl Iterator<Item = f32>, out: &mut [u8]) -> Result<()> {
    let mut finite = true;
    for (out, value) in out.chunks_exact_mut(4).zip(values) {
        finite &= value.is_finite();
        out.copy_from_slice(&value.to_le_bytes());
    }
    ensure!(finite, "a value is not finite");
    Ok(())
}

/// Row indices, strictly ascending and below `limit`.
fn row_numbers(bytes: &[u8], limit: usize) -> Result<Vec<usize>> {
    let (pairs, _) = bytes.as_chunks();
    let rows: Vec<usize> = pairs
        .iter()
        .map(|pair| u16::from_le_bytes(*pair).into())
        .collect();
    ensure!(
        rows.is_sorted_by(|a, b| a < b) && rows.last().is_none_or(|last| *last < limit),
        "its row indices do not ascend below {limit}"
    );
    Ok(rows)
}

/// Writes each row's scale times its codes to its place.
fn scale_rows(
    scales: &[u8],
    codes: &[u8],
    rows: impl ExactSizeIterator<Item = usize>,
    out: &mut [u8],
) -> Result<()> {
    let columns = codes.len() / rows.len().max(1);
    let scaled = halves(scales).zip(codes.chunks_exact(columns.max(1)));
    for (row, (scale, codes)) in rows.zip(scaled) {
        ensure!(
            scale.is_finite() && scale > 0.0,
            "the scale of row {row} is {scale}"
        );
        let out = &mut out[4 * row * columns..][..4 * columns];
        for (out, code) in out.chunks_exact_mut(4).zip(codes) {
            // Always finite: the product of an f16 and a byte is far below f32's maximum.
            let value = scale * f32::from(code.cast_signed());
            out.copy_from_slice(&value.to_le_bytes());
        }
    }
    Ok(())
}

fn halves(bytes: &[u8]) -> impl Iterator<Item = f32> {
    let (pairs, _) = bytes.as_chunks();
    pairs.iter().map(|pair| f16::from_le_bytes(*pair).to_f32())
}
