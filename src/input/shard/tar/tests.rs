use super::*;

/// A header of 512 bytes with a correct checksum.
fn header(name: &str, kind: u8, size: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[124..124 + size.len()].copy_from_slice(size);
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn entry(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = header(name, kind, format!("{:011o}\0", content.len()).as_bytes());
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// An archive of files.
pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes: Vec<u8> = files
        .iter()
        .flat_map(|(name, content)| entry(name, b'0', content))
        .collect();
    bytes.extend([0; 1024]);
    bytes
}

fn members(bytes: &[u8]) -> Result<Vec<Found>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("a.tar");
    std::fs::write(&path, bytes)?;
    let mut archive = Tar::open_seekable(&path)?;
    let mut found = Vec::new();
    while let Some(file) = archive.next_file()? {
        found.push(file);
    }
    Ok(found)
}

fn names(bytes: &[u8]) -> Vec<String> {
    let members = members(bytes).unwrap();
    let names = members.into_iter().filter(|file| file.what == What::File);
    names
        .map(|file| String::from_utf8(file.name).unwrap())
        .collect()
}

#[test]
fn files_are_found_where_they_lie() {
    let bytes = archive(&[("a/1.txt", b"one"), ("a/1.jpg", &[7; 600]), ("2.txt", b"")]);
    let found = members(&bytes).unwrap();
    let places: Vec<_> = (found.iter()).map(|m| (m.offset, m.bytes)).collect();
    assert_eq!(places, [(512, 3), (1536, 600), (3072, 0)]);
    assert_eq!(&bytes[1536..2136], &[7; 600]);
    // The end may lack its padding, or the end marker.
    assert_eq!(members(&bytes[..2136]).unwrap().len(), 2);
    assert_eq!(members(&bytes[..3072]).unwrap().len(), 3);
    assert_eq!(members(&[0; 1024]).unwrap(), []);
}

#[test]
fn a_text_is_read_and_the_next_member_found_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    std::fs::write(&path, archive(&[("1.txt", b"one"), ("2.txt", b"two")])).unwrap();
    let mut archive = Tar::open_seekable(&path).unwrap();
    for text in ["one", "two"] {
        let file = archive.next_file().unwrap().unwrap();
        assert_eq!(archive.text(&file).unwrap(), text);
    }
    assert!(archive.next_file().unwrap().is_none());
}

fn record(text: &str) -> String {
    let length = text.len() + 4;
    format!("{length:2} {text}\n")
}

#[test]
fn long_names_and_pax_headers_belong_to_the_next_file() {
    let long = "d/".repeat(80) + "x.txt";
    let pax = record("path=p/q.txt") + &record("size=3");
    #[rustfmt::skip]
    let bytes = [
        entry("././@LongLink", b'L', format!("{long}\0").as_bytes()),
        entry("short", b'0', b"abc"),
        entry("pax", b'x', pax.as_bytes()),
        header("q.txt", b'0', b"00000000000\0"),
        [b"abc".to_vec(), vec![0; 509]].concat(),
        entry("folder/", b'5', b""),
        entry("link", b'1', b""),
        entry("global", b'g', record("comment=a").as_bytes()),
        entry("last", 0, b"x"),
    ]
    .concat();
    assert_eq!(names(&bytes), [&long, "p/q.txt", "last"]);
    assert_eq!(members(&bytes).unwrap()[1].bytes, 3);
}

#[test]
fn sparse_files_are_reported() {
    let mut sparse = tar::Header::new_gnu();
    sparse.set_path("a").unwrap();
    sparse.set_entry_type(EntryType::GNUSparse);
    sparse.set_size(0);
    sparse.as_gnu_mut().unwrap().realsize = *b"00000000000\0";
    sparse.set_cksum();
    let bytes = [
        sparse.as_bytes().to_vec(),
        entry("pax", b'x', record("GNU.sparse.major=1").as_bytes()),
        entry("b", b'0', b"x"),
        entry("c", b'0', b"x"),
    ]
    .concat();
    let sparse: Vec<bool> = (members(&bytes).unwrap().iter())
        .map(|m| m.what == What::Sparse)
        .collect();
    assert_eq!(sparse, [true, true, false]);
}

#[test]
fn other_files_are_refused_by_what_they_are() {
    let noise = |first: &[u8]| {
        // The checksum's field begins with a byte of 0x80 or more, which once was a panic.
        let mut bytes = vec![0x9c; 1024];
        bytes[..first.len()].copy_from_slice(first);
        bytes
    };
    let cases: [(&[u8], &str); 6] = [
        (b"\x1f\x8b", "compressed; decompress"),
        (b"PK\x03\x04", "zip file; unpack"),
        (b"\x89PNG\r\n\x1a\n", "an image, not a tar archive"),
        (b"\xff\xd8\xff", "an image, not a tar archive"),
        (b"", "this is not a tar archive"),
        (b"<!DOCTYPE html>", "this is not a tar archive"),
    ];
    for (first, part) in cases {
        for length in [first.len() + 1, 511, 512, 1024] {
            let error = members(&noise(first)[..length]).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.contains(part), "{first:?}, {length}: {error}");
        }
    }
}

#[test]
fn damaged_or_hostile_archives_are_refused() {
    let good = archive(&[("a.txt", b"abc"), ("b.txt", b"abc")]);
    let mut broken = good.clone();
    broken[1024] ^= 1;
    let endless = 2 * MOST_BYTES as usize;
    let cases: [(&str, Vec<u8>, &str); 11] = [
        ("nothing", vec![], "is empty"),
        ("a stump", good[..1200].to_vec(), "damaged or cut short"),
        ("cut", good[..514].to_vec(), "ends before the 3 bytes"),
        ("a flipped bit", broken, "checksum"),
        (
            "more bytes than there are",
            header("a", b'0', b"77777777777\0"),
            "ends before",
        ),
        (
            "a folder with content that is not there",
            header("a", b'5', b"77777777777\0"),
            "ends before",
        ),
        (
            "a link with content",
            entry("a", b'1', &[0; 512]),
            "not a file but states 512 bytes",
        ),
        (
            "a negative size",
            header("a", b'0', &[255; 12]),
            "damaged or cut short",
        ),
        (
            "a pax header of a wrong length",
            [entry("x", b'x', b"99 path=a\n"), entry("a", b'0', b"")].concat(),
            "pax header is damaged",
        ),
        (
            "a pax header without a file",
            entry("x", b'x', b"9 path=a\n"),
            "no future member",
        ),
        (
            "a name without end",
            entry("././@LongLink", b'L', &vec![b'a'; endless]),
            "headers have over",
        ),
    ];
    for (what, bytes, part) in cases {
        let error = format!("{:#}", members(&bytes).unwrap_err());
        assert!(error.contains(part), "{what}: {error}");
    }
}
