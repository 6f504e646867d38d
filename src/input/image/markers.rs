//! A look at the headers of a JPEG file, for what its decoder does not tell.

const START_OF_SCAN: u8 = 0xDA;
const SEQUENTIAL: [u8; 2] = [0xC0, 0xC1];

/// A header segment: its kind, its contents, and the file after it.
struct Segment<'a> {
    marker: u8,
    body: &'a [u8],
    rest: &'a [u8],
}

/// The segments up to the header of the first scan, or to the first thing that is none.
fn segments(bytes: &[u8]) -> impl Iterator<Item = Segment<'_>> {
    let mut rest = bytes.get(2..).unwrap_or_default();
    let mut is_over = false;
    std::iter::from_fn(move || {
        while let [0xFF, 0xFF, ..] = rest {
            rest = &rest[1..]; // a fill byte
        }
        let [0xFF, marker, high, low, ..] = rest else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let body = rest.get(4..2 + length)?;
        if std::mem::replace(&mut is_over, *marker == START_OF_SCAN) {
            return None;
        }
        rest = &rest[2 + length..];
        Some(Segment {
            marker: *marker,
            body,
            rest,
        })
    })
}

/// How many bytes follow the header of the first scan, if it can be found.
pub(super) fn coded_bytes(bytes: &[u8]) -> Option<usize> {
    segments(bytes)
        .find(|segment| segment.marker == START_OF_SCAN)
        .map(|scan| scan.rest.len())
}

/// Whether this is a sequential picture whose components come in several scans and differ in their
/// number of rows. zune-jpeg 0.5.15 decodes these without an error into nonsense.
pub(super) fn has_uneven_planes(bytes: &[u8]) -> bool {
    let mut components: &[u8] = &[];
    for segment in segments(bytes) {
        match (segment.marker, segment.body) {
            // Precision, height, width, count; then identity, sampling, table for each.
            (marker, [_, _, _, _, _, _, rest @ ..]) if SEQUENTIAL.contains(&marker) => {
                components = rest;
            }
            (START_OF_SCAN, [count, ..]) => {
                let (components, _) = components.as_chunks::<3>();
                let mut rows = components.iter().map(|[_, sampling, _]| sampling & 15);
                let first = rows.next();
                let is_split = usize::from(*count) < components.len();
                return is_split && rows.any(|other| Some(other) != first);
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A JPEG's headers: a frame of three components with these sampling factors, and a scan of
    /// `count` of them.
    fn headers(frame: u8, sampling: [u8; 3], count: u8) -> Vec<u8> {
        let mut bytes = vec![0xFF, 0xD8, 0xFF, 0xFF, 0xE0, 0, 4, 1, 2];
        bytes.extend([0xFF, frame, 0, 17, 8, 0, 64, 0, 64, 3]);
        for (id, sampling) in sampling.iter().enumerate() {
            bytes.extend([id as u8, *sampling, 0]);
        }
        bytes.extend([0xFF, START_OF_SCAN, 0, 6 + 2 * count, count]);
        bytes.extend(vec![0; 2 * usize::from(count)]);
        bytes.extend([0, 63, 0]);
        bytes
    }

    #[test]
    fn uneven_planes_are_found() {
        let cases = [
            (headers(0xC0, [0x22, 0x11, 0x11], 1), true),
            (headers(0xC1, [0x12, 0x11, 0x11], 2), true),
            (headers(0xC0, [0x22, 0x11, 0x11], 3), false),
            (headers(0xC0, [0x21, 0x11, 0x11], 1), false),
            (headers(0xC2, [0x22, 0x11, 0x11], 1), false),
        ];
        for (bytes, expected) in cases {
            assert_eq!(has_uneven_planes(&bytes), expected, "{bytes:x?}");
        }
        assert!(!has_uneven_planes(b""));
    }

    #[test]
    fn coded_bytes_are_counted() {
        let mut bytes = headers(0xC0, [0x11; 3], 3);
        assert_eq!(coded_bytes(&bytes), Some(0));
        bytes.extend([0xFF, 0xDA, 0, 4, 0, 0, 7]);
        assert_eq!(coded_bytes(&bytes), Some(7));
        assert_eq!(coded_bytes(&bytes[..30]), None);
        assert_eq!(coded_bytes(&[]), None);
    }
}
