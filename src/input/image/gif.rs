//! GIF: shows a first frame that extends beyond the logical screen in full, as Pillow does. The
//! decoder would crop the frame to the screen; some writers leave the screen's size at zero.

use std::borrow::Cow;

/// The file `bytes` with a screen enlarged to hold all of its first frame.
pub(super) fn with_whole_frame(bytes: &[u8]) -> Cow<'_, [u8]> {
    let number = |at: usize| {
        bytes
            .get(at..)?
            .first_chunk()
            .map(|b| u16::from_le_bytes(*b))
    };
    let whole = || {
        let frame = first_frame(bytes)?;
        let width = number(frame)?.checked_add(number(frame + 4)?)?;
        let height = number(frame + 2)?.checked_add(number(frame + 6)?)?;
        let screen = (number(6)?, number(8)?);
        let whole = (width.max(screen.0), height.max(screen.1));
        (whole != screen).then_some(whole)
    };
    let Some((width, height)) = whole() else {
        return Cow::Borrowed(bytes);
    };
    let mut bytes = bytes.to_vec();
    bytes[6..8].copy_from_slice(&width.to_le_bytes());
    bytes[8..10].copy_from_slice(&height.to_le_bytes());
    Cow::Owned(bytes)
}

/// Offset of the first frame's left edge, after the palette and any extensions.
fn first_frame(bytes: &[u8]) -> Option<usize> {
    let flags = *bytes.get(10)?;
    let palette = if flags & 0x80 == 0 {
        0
    } else {
        6 << (flags & 7)
    };
    let mut at = 13 + palette;
    loop {
        match bytes.get(at)? {
            0x2C => return Some(at + 1),
            0x21 => {
                at += 2;
                while let length @ 1.. = usize::from(*bytes.get(at)?) {
                    at += 1 + length;
                }
                at += 1;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers with a palette of two colours, a comment and a frame (left, top, width, height).
    fn file(screen: [u8; 2], frame: [u8; 4]) -> Vec<u8> {
        let mut bytes = b"GIF89a".to_vec();
        bytes.extend([screen[0], 0, screen[1], 0, 0x80, 0, 0]);
        bytes.extend([0; 6]);
        bytes.extend(b"\x21\xFE\x02,,\0,");
        bytes.extend(frame.iter().flat_map(|side| [*side, 0]));
        bytes
    }

    #[test]
    fn the_screen_grows_to_the_first_frame() {
        let cases = [
            ([4, 4], [0, 0, 4, 4], [4, 4]),
            ([9, 9], [1, 1, 4, 4], [9, 9]),
            ([2, 9], [0, 0, 4, 4], [4, 9]),
            ([4, 4], [1, 3, 4, 4], [5, 7]),
            ([0, 0], [0, 0, 4, 3], [4, 3]),
        ];
        for (screen, frame, expected) in cases {
            let grown = with_whole_frame(&file(screen, frame)).into_owned();
            assert_eq!([grown[6], grown[8]], expected, "{screen:?} {frame:?}");
        }
        let whole = file([0, 0], [0, 0, 4, 4]);
        for length in 0..whole.len() {
            let part = &whole[..length];
            assert_eq!(with_whole_frame(part), part);
        }
    }
}
