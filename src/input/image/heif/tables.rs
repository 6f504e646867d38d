//! Limits on a container's tables, which are checked before the parser reads them: it takes their
//! word for how much there is, and looks for each item in all of them.

use anyhow::{Result, ensure};
use heifer_isobmff::BoxIter;

use super::super::format::Format;

/// Longest table, in bytes. Photographs of 200 million pixels have some 50 KB.
const MOST_BYTES: usize = 1 << 20;

/// Most items, and the most entries about items in another table; such photographs have some 800.
const MOST_ITEMS: u64 = 8192;

/// Most parts of the data of all items.
const MOST_EXTENTS: u64 = 1 << 16;

/// Most properties, since a number of 15 bits names them, and the most bytes of all; most of them are
/// a colour profile's.
const MOST_PROPERTIES: usize = 1 << 15;
const MOST_PROPERTY_BYTES: usize = 16 << 20;

/// Refuses a file whose tables are far larger than an image's, or that has one of them twice.
pub(super) fn check(format: Format, bytes: &[u8]) -> Result<()> {
    let metas: Vec<&[u8]> = named(bytes, *b"meta").collect();
    let [meta] = metas[..] else {
        // The parser says what is missing.
        ensure!(metas.is_empty(), format.damaged());
        return Ok(());
    };
    let inside = meta.get(4..).unwrap_or_default();
    for name in [*b"iinf", *b"iloc", *b"iref", *b"iprp"] {
        let mut tables = named(inside, name);
        let Some(table) = tables.next() else {
            continue;
        };
        ensure!(tables.next().is_none(), format.damaged());
        let is_long = name != *b"iprp" && table.len() > MOST_BYTES;
        let fits = !is_long
            && match &name {
                b"iinf" => {
                    let start = if table.first() == Some(&0) { 6 } else { 8 };
                    let entries = table.get(start..).unwrap_or_default();
                    children(entries) as u64 <= MOST_ITEMS
                }
                b"iloc" => extents(table).is_none_or(|all| all <= MOST_EXTENTS),
                b"iprp" => properties_fit(table),
                _ => true,
            };
        ensure!(fits, format.oversized());
    }
    Ok(())
}

/// The contents of the boxes of a name.
fn named(bytes: &[u8], name: [u8; 4]) -> impl Iterator<Item = &[u8]> {
    let boxes = BoxIter::new(bytes).map_while(Result::ok);
    boxes
        .filter(move |one| one.header.box_type.0 == name)
        .map(|one| one.content)
}

fn children(bytes: &[u8]) -> usize {
    BoxIter::new(bytes).map_while(Result::ok).count()
}

/// The parts of data that a table of locations claims, which may need no bytes of it; `u64::MAX` if
/// it has too many items, and `None` if it ends too early.
fn extents(table: &[u8]) -> Option<u64> {
    let mut rest = table;
    let mut number = |bytes: usize| {
        let (taken, after) = rest.split_at_checked(bytes)?;
        rest = after;
        Some(
            taken
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        )
    };
    let version = number(4)? >> 24;
    let sizes = number(2)? as usize;
    let (offset, length, base) = (sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15);
    let index = if version >= 1 { sizes & 15 } else { 0 };
    let id = if version < 2 { 2 } else { 4 };
    let items = number(id)?;
    if items > MOST_ITEMS {
        return Some(u64::MAX);
    }
    let mut sum = 0;
    for _ in 0..items {
        number(id + if version >= 1 { 4 } else { 2 } + base)?;
        let count = number(2)?;
        sum += count;
        number(count as usize * (index + offset + length))?;
    }
    Some(sum)
}

/// Whether the properties and what says whose they are have sizes as in an image.
fn properties_fit(table: &[u8]) -> bool {
    let lists: Vec<&[u8]> = named(table, *b"ipco").collect();
    let lists_fit = lists.len() <= 1
        && lists.iter().all(|list| {
            // Each picture's header may have an array of empty units.
            let headers = named(list, *b"hvcC").map(<[u8]>::len).sum::<usize>();
            list.len() <= MOST_PROPERTY_BYTES
                && headers <= MOST_BYTES
                && children(list) <= MOST_PROPERTIES
        });
    let (mut bytes, mut entries) = (0, 0);
    for owners in named(table, *b"ipma") {
        bytes += owners.len();
        let count = owners.get(4..).and_then(|rest| rest.first_chunk::<4>());
        entries += count.map_or(0, |count| u64::from(u32::from_be_bytes(*count)));
    }
    lists_fit && bytes <= MOST_BYTES && entries <= MOST_ITEMS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let length = (content.len() as u32 + 8).to_be_bytes();
        [&length[..], name, content].concat()
    }

    fn meta(tables: &[Vec<u8>]) -> Vec<u8> {
        part(b"meta", &[&[0; 4][..], &tables.concat()].concat())
    }

    /// A table of `items` locations, each of which claims `extents` parts of no bytes.
    fn locations(items: u16, extents: u16) -> Vec<u8> {
        let item = [&[0, 1, 0, 0][..], &extents.to_be_bytes()].concat();
        let all = item.repeat(items.into());
        let content = [&[0; 6][..], &items.to_be_bytes(), &all].concat();
        part(b"iloc", &content)
    }

    fn properties(parts: &[Vec<u8>]) -> Vec<u8> {
        part(b"iprp", &parts.concat())
    }

    fn owners(entries: u32) -> Vec<u8> {
        part(b"ipma", &[&[0; 4][..], &entries.to_be_bytes()].concat())
    }

    #[test]
    fn tables_that_cost_more_than_an_image_are_refused() {
        let entries = |count: usize| part(b"infe", &[]).repeat(count);
        let infos = |claimed: u16, count: usize| {
            let start = [&[0; 4][..], &claimed.to_be_bytes()].concat();
            part(b"iinf", &[start, entries(count)].concat())
        };
        let list = |count: usize| part(b"ipco", &part(b"free", &[]).repeat(count));
        let header = part(b"hvcC", &[0; 1 << 16]);
        let (too_large, damaged) = (
            Format::Heic.oversized().to_string(),
            Format::Heic.damaged().to_string(),
        );
        let fine = [
            infos(800, 800),
            locations(800, 1),
            properties(&[list(1000), owners(800)]),
        ];
        check(Format::Heic, &meta(&fine)).unwrap();
        check(Format::Heic, b"").unwrap();
        let cases: [(Vec<u8>, &str); 13] = [
            (meta(&[locations(2, u16::MAX)]), &too_large),
            (meta(&[locations(9000, 1)]), &too_large),
            (meta(&[infos(1, 9000)]), &too_large),
            (meta(&[part(b"iref", &[0; MOST_BYTES + 1])]), &too_large),
            (
                meta(&[properties(&[list(MOST_PROPERTIES + 1)])]),
                &too_large,
            ),
            (meta(&[properties(&[list(1), list(1)])]), &too_large),
            (
                meta(&[properties(&[part(b"ipco", &header.repeat(17))])]),
                &too_large,
            ),
            (meta(&[properties(&[owners(9000)])]), &too_large),
            (
                meta(&[properties(&[owners(5000), owners(5000)])]),
                &too_large,
            ),
            (
                meta(&[properties(&[part(b"ipma", &[0; MOST_BYTES + 1])])]),
                &too_large,
            ),
            ([meta(&[]), meta(&[])].concat(), &damaged),
            (meta(&[locations(1, 1), locations(1, 1)]), &damaged),
            (meta(&[properties(&[]), properties(&[])]), &damaged),
        ];
        for (at, (bytes, expected)) in cases.into_iter().enumerate() {
            let error = check(Format::Heic, &bytes).unwrap_err().to_string();
            assert_eq!(error, expected, "{at}");
        }
    }
}
