//! The header of NumPy's format: position and layout of an array's numbers.

use anyhow::{Context as _, Result, bail, ensure};

use super::numbers::{Element, Layout, Order};
use crate::embedding::Dtype;

const MAGIC: &[u8] = b"\x93NUMPY";

/// Longer headers do not describe a plain array.
const LONGEST_HEADER: usize = 1 << 16;

/// A header within the limit ends before this offset in bytes.
pub(super) const HEAD_BYTES: usize = LONGEST_HEADER + 12;

/// The header of a file.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::embedding) struct Header {
    /// Length in bytes, including the magic bytes.
    pub(in crate::embedding) length: usize,
    /// Layout of the numbers.
    pub(super) layout: Layout,
}

impl Header {
    /// Reads the header at the start of `bytes`.
    ///
    /// # Errors
    /// When it is missing, or describes something other than a matrix of numbers.
    pub(in crate::embedding) fn read(bytes: &[u8]) -> Result<Self> {
        let rest = bytes.strip_prefix(MAGIC).context("not a NumPy file")?;
        let (start, stated) = match *rest {
            [1, _, a, b, ..] => (10, usize::from(u16::from_le_bytes([a, b]))),
            [2 | 3, _, a, b, c, d, ..] => (12, u32::from_le_bytes([a, b, c, d]) as usize),
            _ => bail!("the header has an unknown version or is cut short"),
        };
        ensure!(
            stated <= LONGEST_HEADER,
            "the header claims {stated} bytes; that of a plain array has far fewer"
        );
        let length = start + stated;
        let text = bytes
            .get(start..length)
            .context("the header is cut short")?;
        let text = std::str::from_utf8(text).context("the header is not text")?;
        let layout = parse(text)?;
        Ok(Self { length, layout })
    }

    /// Type and shape of numbers in the layout that longclip embed writes.
    ///
    /// # Errors
    /// When the layout differs.
    pub(in crate::embedding) fn ours(&self) -> Result<(Dtype, [usize; 2])> {
        let layout = &self.layout;
        let dtype = match layout.element {
            Element::F32 => Some(Dtype::F32),
            Element::F16 => Some(Dtype::F16),
            Element::Bf16 | Element::F64 => None,
        };
        let dtype = dtype.filter(|_| !layout.is_big_endian && layout.order == Order::Rows);
        let dtype = dtype.context(
            "the numbers are not little-endian float32 or float16, row by row, as longclip embed \
             writes them; the file was changed",
        )?;
        Ok((dtype, [layout.rows, layout.dim]))
    }
}

/// Parses the header's dictionary, a Python literal with three keys in any order.
fn parse(text: &str) -> Result<Layout> {
    let body = text
        .trim()
        .strip_prefix('{')
        .and_then(|t| t.strip_suffix('}'));
    let mut rest = body.context("the header is not a dictionary")?.trim();
    let (mut element, mut shape, mut order) = (None, None, None);
    while !rest.is_empty() {
        let (key, value) = rest
            .split_once(':')
            .context("the header has a key without a value")?;
        let value = value.trim_start();
        // Only the shape of a plain array contains commas.
        let end = match value.starts_with('(') {
            true => value.find(')').context("the header's shape does not end")? + 1,
            false => value.find(',').unwrap_or(value.len()),
        };
        let (value, after) = value.split_at(end);
        match key.trim().trim_matches(['\'', '"']) {
            "descr" => element = Some(parse_element(value.trim().trim_matches(['\'', '"']))?),
            "fortran_order" => order = Some(parse_order(value.trim())?),
            "shape" => shape = Some(parse_shape(value)?),
            key => bail!("the header has an unknown key {key:?}"),
        }
        rest = after.trim_start().trim_start_matches(',').trim();
    }
    let (element, is_big_endian) = element.context("the header has no type")?;
    let [rows, dim] = shape.context("the header has no shape")?;
    Ok(Layout {
        element,
        is_big_endian,
        order: order.context("the header has no order")?,
        rows,
        dim,
    })
}

/// The type, and whether it is big-endian.
fn parse_element(descr: &str) -> Result<(Element, bool)> {
    let is_big_endian = descr.starts_with('>');
    let element = match descr.trim_start_matches(['<', '>', '=']) {
        "f2" => Element::F16,
        "f4" => Element::F32,
        "f8" => Element::F64,
        "V2" | "|V2" => bail!(
            "the numbers are of type {descr:?}, the raw bytes that NumPy writes for bfloat16; \
             save them as float32"
        ),
        _ => bail!(
            "the numbers are of type {descr:?}; embeddings are float16 (<f2), float32 (<f4) or float64 \
             (<f8)"
        ),
    };
    Ok((element, is_big_endian))
}

fn parse_order(value: &str) -> Result<Order> {
    match value {
        "False" => Ok(Order::Rows),
        "True" => Ok(Order::Columns),
        _ => bail!("the header's order is {value:?} instead of True or False"),
    }
}

/// Rows and columns; a one-dimensional array is one row.
fn parse_shape(tuple: &str) -> Result<[usize; 2]> {
    let sizes = tuple.trim_matches(['(', ')']).split(',').map(str::trim);
    let sizes = sizes.filter(|size| !size.is_empty()).map(|size| {
        let size: Option<usize> = size.parse().ok();
        size.with_context(|| {
            format!("the header has the shape {tuple}, which is not a list of sizes")
        })
    });
    let shape = super::numbers::rows_and_columns(&sizes.collect::<Result<Vec<_>>>()?)
        .with_context(|| {
            format!("the array has the shape {tuple}; embeddings have rows and columns")
        })?;
    crate::embedding::check_dim(shape[1])?;
    Ok(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: u8, text: &str) -> Vec<u8> {
        let mut bytes = [MAGIC, &[version, 0]].concat();
        match version {
            1 => bytes.extend((text.len() as u16).to_le_bytes()),
            _ => bytes.extend((text.len() as u32).to_le_bytes()),
        }
        bytes.extend(text.as_bytes());
        bytes
    }

    #[test]
    fn headers_of_all_versions_are_read() {
        let cases = [
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 512), }   \n",
            "{\"shape\":(3,512),\"fortran_order\":False,\"descr\":\"<f4\"}",
            "{'shape': (3, 512,), 'descr': '<f4', 'fortran_order': False}",
        ];
        for text in cases {
            for version in [1, 2, 3] {
                let bytes = header(version, text);
                let header = Header::read(&bytes).unwrap();
                assert_eq!(header.length, bytes.len());
                assert_eq!(header.ours().unwrap(), (Dtype::F32, [3, 512]), "{text}");
                for length in 0..bytes.len() {
                    assert!(Header::read(&bytes[..length]).is_err(), "{length}");
                }
            }
        }
    }

    #[test]
    fn numbers_of_other_programs_may_have_other_layouts() {
        let cases = [
            (
                "<f2",
                "False",
                "(3, 512)",
                Element::F16,
                false,
                Order::Rows,
                [3, 512],
            ),
            (
                ">f4",
                "False",
                "(3, 512)",
                Element::F32,
                true,
                Order::Rows,
                [3, 512],
            ),
            (
                "=f8",
                "True",
                "(3, 512)",
                Element::F64,
                false,
                Order::Columns,
                [3, 512],
            ),
            (
                "<f4",
                "False",
                "(512,)",
                Element::F32,
                false,
                Order::Rows,
                [1, 512],
            ),
            (
                "<f4",
                "True",
                "(0, 512)",
                Element::F32,
                false,
                Order::Columns,
                [0, 512],
            ),
        ];
        for (descr, fortran, tuple, element, is_big_endian, order, [rows, dim]) in cases {
            let text =
                format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {tuple}, }}");
            let header = Header::read(&header(1, &text)).unwrap();
            let expected = Layout {
                element,
                is_big_endian,
                order,
                rows,
                dim,
            };
            assert_eq!(header.layout, expected, "{text}");
            let is_ours = element != Element::F64 && !is_big_endian && order == Order::Rows;
            assert_eq!(header.ours().is_ok(), is_ours, "{text}");
        }
    }

    #[test]
    fn headers_of_other_arrays_are_refused() {
        let rest = "'fortran_order': False, 'shape': (3, 512)}";
        let cases = [
            (format!("{{'descr': '<i4', {rest}"), "float32"),
            (format!("{{'descr': '|u1', {rest}"), "float32"),
            (format!("{{'descr': '<f16', {rest}"), "float32"),
            (format!("{{'descr': '|V2', {rest}"), "bfloat16"),
            (format!("{{'descr': '|O', {rest}"), "float32"),
            (format!("{{'descr': [('a', '<f4')], {rest}"), "float32"),
            (format!("{{{rest}"), "no type"),
            (
                "{'descr': '<f4', 'fortran_order': 0, 'shape': (3, 512)}".to_owned(),
                "instead of True or False",
            ),
            ("{'descr': '<f4', 'shape': (3, 512)}".to_owned(), "no order"),
            (
                "{'descr': '<f4', 'fortran_order': False}".to_owned(),
                "no shape",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4, 5)}".to_owned(),
                "rows and columns",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3, -1)}".to_owned(),
                "not a list of sizes",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 0)}".to_owned(),
                "those of CLIP models",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 99999999)}".to_owned(),
                "those of CLIP models",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 99999999999999999999)}"
                    .to_owned(),
                "not a list of sizes",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 5".to_owned(),
                "not a dictionary",
            ),
            ("{'extra': 1, 'descr': '<f4'}".to_owned(), "unknown key"),
            ("[]".to_owned(), "not a dictionary"),
        ];
        for (text, expected) in cases {
            let error = Header::read(&header(1, &text)).unwrap_err();
            assert!(error.to_string().contains(expected), "{text}: {error}");
        }
        let mut long = header(2, "{}");
        long[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(
            Header::read(&long)
                .unwrap_err()
                .to_string()
                .contains("far fewer")
        );
    }
}
