use super::*;

/// A header of 512 bytes with a correct checksum.
fn header(name: &str, kind: u8, size: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[124..124 + size.len()].copy_from_slice(size);
    block[156] = kind;
    block[257..263].copy_from_slice(b"ustar\0");
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
pub(in super::super) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes: Vec<u8> = files
        .iter()
        .flat_map(|(name, content)| entry(name, b'0', content))
        .collect();
    bytes.extend([0; 1024]);
    bytes
}

fn members(bytes: &[u8]) -> Result<Vec<Member>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("a.tar");
    std::fs::write(&path, bytes)?;
    let mut archive = Archive::open(&path)?;
    let mut found = Vec::new();
    while let Some(member) = archive.next()? {
        found.push(member);
    }
    Ok(found)
}

fn names(bytes: &[u8]) -> Vec<String> {
    let members = members(bytes).unwrap();
    members.into_iter().map(|member| member.name).collect()
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
}

#[test]
fn long_names_and_pax_headers_belong_to_the_next_file() {
    let long = "d/".repeat(80) + "x.txt";
    let record = |text: &str| {
        let length = text.len() + 4;
        format!("{length:2} {text}\n")
    };
    let pax = record("path=p/q.txt") + &record("size=3");
    let bytes = [
        entry("././@LongLink", b'L', format!("{long}\0").as_bytes()),
        entry("short", b'0', b"abc"),
        entry("pax", b'x', pax.as_bytes()),
        header("q.txt", b'0', b"00000000000\0"),
        [b"abc".to_vec(), vec![0; 509]].concat(),
        entry("folder/", b'5', b""),
        header("link", b'1', b"00000000100\0"),
        entry("last", 0, b"x"),
    ]
    .concat();
    assert_eq!(names(&bytes), [&long, "p/q.txt", "last"]);
    assert_eq!(members(&bytes).unwrap()[1].bytes, 3);
}

#[test]
fn sparse_files_are_reported() {
    let pax = "22 GNU.sparse.major=1\n";
    let bytes = [
        entry("a", b'S', b"x"),
        entry("pax", b'x', pax.as_bytes()),
        entry("b", b'0', b"x"),
        entry("c", b'0', b"x"),
    ]
    .concat();
    let sparse: Vec<bool> = (members(&bytes).unwrap().iter())
        .map(|m| m.is_sparse)
        .collect();
    assert_eq!(sparse, [true, true, false]);
}

#[test]
fn damaged_or_hostile_archives_are_refused() {
    let good = archive(&[("a.txt", b"abc"), ("b.txt", b"abc")]);
    let mut broken = good.clone();
    broken[1024] ^= 1;
    let cases: [(&str, Vec<u8>, &str); 10] = [
        ("nothing", vec![], "ends within a header"),
        ("a stump", good[..1200].to_vec(), "ends within a header"),
        ("cut", good[..514].to_vec(), "ends before the 3 bytes"),
        ("another file", vec![1; 2000], "not a tar archive"),
        ("gzip", [vec![0x1f, 0x8b], vec![1; 600]].concat(), "gzip"),
        ("a flipped bit", broken, "checksum is wrong"),
        (
            "more bytes than there are",
            header("a", b'0', b"77777777777\0"),
            "ends before",
        ),
        (
            "a size near the end of numbers",
            header(
                "a",
                b'0',
                &[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255],
            ),
            "ends before",
        ),
        (
            "a negative size",
            header("a", b'0', &[255; 12]),
            "size is not a number",
        ),
        (
            "a pax header of a wrong length",
            entry("x", b'x', b"99 path=a\n"),
            "pax header is damaged",
        ),
    ];
    for (what, bytes, part) in cases {
        let error = format!("{:#}", members(&bytes).unwrap_err());
        assert!(error.contains(part), "{what}: {error}");
    }
}
