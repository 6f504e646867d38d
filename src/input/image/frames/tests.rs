//! Every frame of the files in `tests/fixtures/frames`, against Pillow's, and streams.

use std::fs;
use std::path::PathBuf;

use super::super::rows::Whole;
use super::super::{Alpha, MemoryBudget, RgbImage, decode};
use super::*;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/frames")
        .join(name)
}

/// The frames of a source up to its end or its first error, with their indices and times, and that
/// error or else a warning.
type Read = (Vec<(u64, Option<f64>, RgbImage)>, Option<String>);

fn all(mut frames: FrameReader, options: &DecodeOptions) -> Read {
    let (mut read, mut warnings) = (Vec::new(), Vec::new());
    loop {
        let mut whole = Whole::default();
        match frames.next(options, &mut whole) {
            Ok(Some(shot)) => {
                read.push((shot.index, shot.time, whole.finish().unwrap()));
                warnings.extend(shot.facts.warnings);
            }
            Ok(None) => return (read, warnings.pop()),
            Err(error) => {
                let said = format!("{error:#}");
                assert!(!said.contains('\n'), "{said}");
                assert!(
                    frames
                        .next(options, &mut Whole::default())
                        .unwrap()
                        .is_none()
                );
                return (read, Some(said));
            }
        }
    }
}

fn of_bytes(bytes: &[u8], options: &DecodeOptions, choice: FrameChoice) -> Read {
    match FrameReader::of_stream(Cursor::new(bytes.to_vec()), options, choice) {
        Ok(Opened::Frames(frames)) => all(frames, options),
        Ok(Opened::Still(still, warning)) => {
            assert_eq!(still, bytes);
            (Vec::new(), Some(warning.unwrap_or("still".to_owned())))
        }
        Err(error) => (Vec::new(), Some(format!("{error:#}"))),
    }
}

/// The frames of a fixture as Pillow composes them.
fn expected(name: &str, options: &DecodeOptions) -> Vec<RgbImage> {
    let strip = fs::read(fixture(&format!("{name}.frames.png"))).unwrap();
    let strip = decode(&strip, options).unwrap().image;
    let frames = strip.pixels.chunks_exact(20 * 14 * 3);
    frames
        .map(|pixels| RgbImage {
            width: 20,
            height: 14,
            pixels: pixels.to_vec(),
        })
        .collect()
}

fn options(alpha: Alpha) -> DecodeOptions {
    DecodeOptions {
        alpha,
        ..DecodeOptions::default()
    }
}

const ANIMATIONS: [(&str, usize); 6] = [
    ("disposals.gif", 7),
    ("background.gif", 3),
    ("blends.png", 7),
    ("palette.png", 7),
    ("default.png", 3),
    ("blends.webp", 7),
];

#[test]
fn frames_are_composed_as_pillow_does() {
    for alpha in [Alpha::White, Alpha::Black] {
        let options = options(alpha);
        for (name, count) in ANIMATIONS {
            let opened = FrameReader::of_path(&fixture(name), &options, FrameChoice::All);
            let Opened::Frames(frames) = opened.unwrap() else {
                panic!("{name}");
            };
            let (read, error) = all(frames, &options);
            assert_eq!((read.len(), error), (count, None), "{name}");
            let mut expected = expected(name, &options);
            if name == "default.png" {
                expected.remove(0); // Pillow counts the image that is not part of the animation
            }
            for ((index, _, frame), expected) in read.iter().zip(&expected) {
                let most = frame.pixels.iter().zip(&expected.pixels);
                let most = most.map(|(a, b)| a.abs_diff(*b)).max();
                // libwebp rounds down what it blends with transparent pixels; here they are covered.
                let least = u8::from(name.ends_with("webp"));
                assert!(most <= Some(least), "{name} {index} {alpha:?}: {most:?}");
            }
            assert_eq!(read.len(), expected.len(), "{name}");
        }
    }
}

#[test]
fn the_first_frame_is_that_of_a_still_image() {
    let options = DecodeOptions::default();
    for (name, _) in ANIMATIONS.iter().filter(|(name, _)| *name != "default.png") {
        let bytes = fs::read(fixture(name)).unwrap();
        let first = &of_bytes(&bytes, &options, FrameChoice::All).0[0].2;
        let still = decode(&bytes, &options).unwrap().image;
        let apart = first.pixels.iter().zip(&still.pixels);
        let most = apart.map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        // The decoder of still WebP images blends the first frame, and rounds opaque pixels down.
        assert!(most <= u8::from(name.ends_with("webp")), "{name} {most}");
    }
}

#[test]
fn frames_are_chosen_by_index_and_have_times() {
    let options = DecodeOptions::default();
    let bytes = fs::read(fixture("disposals.gif")).unwrap();
    let whole = of_bytes(&bytes, &options, FrameChoice::All).0;
    let times = [0.0, 0.1, 0.1, 0.17, 1.17, 1.21, 1.25];
    assert_eq!(
        whole.iter().map(|one| one.1.unwrap()).collect::<Vec<_>>(),
        times
    );
    let cases = [
        (FrameChoice::Every(3), vec![0, 3, 6]),
        (FrameChoice::Spread(3), vec![1, 3, 5]),
        (FrameChoice::Spread(70), (0..7).collect()),
    ];
    for (choice, expected) in cases {
        let read = of_bytes(&bytes, &options, choice).0;
        let found: Vec<u64> = read.iter().map(|one| one.0).collect();
        assert_eq!(found, expected, "{choice:?}");
        for frame in read {
            assert_eq!(frame, whole[frame.0 as usize], "{choice:?}");
        }
    }
    let times = |name: &str| {
        let bytes = fs::read(fixture(name)).unwrap();
        let read = of_bytes(&bytes, &options, FrameChoice::Every(2)).0;
        read.into_iter()
            .map(|one| one.1.unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(times("blends.png"), [0.0, 0.433_333, 0.733_333, 2.733_333]);
    assert_eq!(times("blends.webp"), [0.0, 0.12, 0.28, 0.36]);
}

#[test]
fn what_is_whole_before_a_cut_is_read() {
    let options = DecodeOptions::default();
    for (name, count) in ANIMATIONS {
        let bytes = fs::read(fixture(name)).unwrap();
        let whole = of_bytes(&bytes, &options, FrameChoice::All).0;
        let mut most = 0;
        for cut in (bytes.len() / 4..bytes.len()).step_by(7) {
            let (read, error) = of_bytes(&bytes[..cut], &options, FrameChoice::All);
            assert_eq!(read, whole[..read.len()], "{name} {cut}");
            // All frames may be whole without what follows them, but less is never silent.
            assert!(error.is_some() || read.len() == count, "{name} {cut}");
            most = most.max(read.len());
        }
        assert!(most >= count - 1, "{name} {most}");
    }
}

#[test]
fn a_gif_may_lack_its_last_byte() {
    let options = DecodeOptions::default();
    for (name, count) in &ANIMATIONS[..2] {
        let mut bytes = fs::read(fixture(name)).unwrap();
        let whole = of_bytes(&bytes, &options, FrameChoice::All).0;
        assert_eq!(bytes.pop(), Some(b';'));
        let (read, warning) = of_bytes(&bytes, &options, FrameChoice::All);
        assert_eq!((read.len(), &read), (*count, &whole), "{name}");
        assert!(
            warning
                .unwrap()
                .starts_with("gif: the file has no end mark")
        );
        // Said once, whichever frames are taken.
        let (read, warning) = of_bytes(&bytes, &options, FrameChoice::Spread(1));
        assert!(read.len() == 1 && warning.is_some());
        let strict = DecodeOptions {
            strict: true,
            ..options.clone()
        };
        let (read, error) = of_bytes(&bytes, &strict, FrameChoice::All);
        assert!(read.is_empty() && error.unwrap().contains("ends before"));
        bytes.pop(); // the end of the last frame's data
        let (read, error) = of_bytes(&bytes, &options, FrameChoice::All);
        assert!(error.unwrap().contains("ends before the image is complete"));
        assert!(read.len() <= *count);
    }
    let still = fs::read(fixture("../image/palette.gif")).unwrap();
    let (_, error) = of_bytes(&still[..still.len() - 1], &options, FrameChoice::All);
    assert_eq!(error.as_deref(), Some("still"));
}

#[test]
fn images_that_are_not_read_are_mentioned() {
    let options = DecodeOptions::default();
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("a");
    let warning = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        match FrameReader::of_path(&path, &options, FrameChoice::All) {
            Ok(Opened::Still((), warning)) => warning,
            _ => panic!("frames"),
        }
    };
    for name in [
        "base.jpg",
        "rgb.png",
        "rgb.bmp",
        "lossy.webp",
        "ascii.ppm",
        "rgb.ppm",
    ] {
        let bytes = fs::read(fixture(&format!("../image/{name}"))).unwrap();
        assert_eq!(warning(&bytes), None, "{name}");
        if name == "rgb.ppm" {
            continue; // two of them are frames
        }
        let two = [&bytes[..], &bytes].concat();
        let said = warning(&two).unwrap();
        assert!(
            said.contains("only the first image was read"),
            "{name}: {said}"
        );
        let (read, error) = of_bytes(&two, &options, FrameChoice::All);
        let error = error.unwrap();
        assert!(
            read.is_empty() && error.contains("pass -c:v ppm to ffmpeg"),
            "{name}: {error}"
        );
    }
    if cfg!(feature = "heic") {
        let mut bytes = fs::read(fixture("../photo/thumbnail.heic")).unwrap();
        assert_eq!(warning(&bytes), None);
        bytes[16..20].copy_from_slice(b"msf1");
        let said = "heic: only the still image was read; --frames does not read HEIC sequences";
        assert_eq!(warning(&bytes).as_deref(), Some(said));
        assert_eq!(
            of_bytes(&bytes, &options, FrameChoice::All).1.as_deref(),
            Some(said)
        );
    }
}

#[test]
fn still_images_are_not_animations() {
    let options = DecodeOptions::default();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/image");
    for name in [
        "rgb.png",
        "palette.gif",
        "alpha.webp",
        "lossy.webp",
        "base.jpg",
        "rgb.bmp",
        "raw.tif",
    ] {
        let path = folder.join(name);
        let opened = FrameReader::of_path(&path, &options, FrameChoice::All).unwrap();
        assert!(matches!(opened, Opened::Still((), None)), "{name}");
        let bytes = fs::read(path).unwrap();
        let (_, error) = of_bytes(&bytes, &options, FrameChoice::All);
        assert_eq!(error.as_deref(), Some("still"), "{name}");
    }
    let missing = folder.join("missing.gif");
    assert!(FrameReader::of_path(&missing, &options, FrameChoice::All).is_err());
    // Not its first frame, where the others are not read.
    let little = DecodeOptions {
        memory: MemoryBudget::new(100),
        ..DecodeOptions::default()
    };
    let opened = FrameReader::of_path(&fixture("disposals.gif"), &little, FrameChoice::All);
    let error = opened.err().unwrap().to_string();
    assert!(error.contains("pass --max-memory"), "{error}");
    let text = of_bytes(b"hello", &options, FrameChoice::All).1.unwrap();
    assert!(text.contains("not an image"), "{text}");
}

#[test]
fn a_stream_of_images_gives_what_each_gives_alone() {
    let options = DecodeOptions::default();
    let images: [&[u8]; 7] = [
        b"P6\n2 1\n255\n\x01\x02\x03\x04\x05\x06",
        b"P5 # grey\n 3 1 # three\n255\n\x10\x80\xff",
        b"P6 1 1 65535 \x80\x00\x40\x00\xff\xff",
        b"P5\n1 1\n15\n\x05",
        b"P4\n9 2\n\xaa\x80\x55\0",
        b"P7\nWIDTH 1\n# x\nHEIGHT 2\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n\x01\x02\x03\x04\x05\x06",
        b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 65535\nTUPLTYPE GRAYSCALE\nENDHDR\n\x80\0",
    ];
    let (read, error) = of_bytes(&images.concat(), &options, FrameChoice::All);
    assert_eq!((read.len(), error), (7, None));
    for ((index, time, frame), image) in read.into_iter().zip(images) {
        assert_eq!(frame, decode(image, &options).unwrap().image, "{index}");
        assert_eq!(time, None);
    }
    let (read, error) = of_bytes(&images.concat(), &options, FrameChoice::Every(3));
    assert_eq!((read.len(), read[1].0, error), (3, 3, None));
    let refused = of_bytes(&images.concat(), &options, FrameChoice::Spread(2));
    assert!(refused.1.unwrap().contains("does not say how many"));
    let broken: [(&[u8], &str); 9] = [
        (b"P6\n2 2\n255\n\x01", "ends before the frame"),
        (b"P6\n2", "ends before the frame"),
        (b"P3\n1 1\n255\n1 2 3\n", "not a binary PNM"),
        (b"P7\nWIDTH x\n", "the PNM data is damaged"),
        (b"P7\nENDHDR\n", "the PNM data is damaged"),
        (b"P7\nWIDTH 9\n", "ends before the frame"),
        (b"P6\n0 2\n255\n", "0 x 2 pixels"),
        (
            b"P6\n99999999999 99999999999\n255\n",
            "a side exceeds the limit",
        ),
        (b"P6\n1 1\nx\n", "the PNM data is damaged"),
    ];
    for (end, expected) in broken {
        let (read, error) = of_bytes(&[images[0], end].concat(), &options, FrameChoice::All);
        let error = error.unwrap();
        assert!(read.len() == 1 && error.contains(expected), "{error}");
    }
    let comment = [b"P6 #", vec![b'x'; 5000].as_slice()].concat();
    assert!(of_bytes(&comment, &options, FrameChoice::All).1.is_some());
}

#[test]
fn a_stream_is_read_no_further_than_its_frame() {
    /// Gives its bytes, and then fails the test.
    struct Pausing(Cursor<Vec<u8>>);

    impl io::Read for Pausing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = self.0.read(buffer)?;
            assert!(read > 0 || buffer.is_empty(), "waits for more");
            Ok(read)
        }
    }

    let options = DecodeOptions::default();
    let y4m: &[u8] = b"YUV4MPEG2 W1 H1 F2:1 Cmono\nFRAME\n\x80";
    for start in [y4m, b"P5 1 1 255\n\x80"] {
        let stream = BufReader::with_capacity(1, Pausing(Cursor::new(start.to_vec())));
        let opened = FrameReader::of_stream(stream, &options, FrameChoice::All).unwrap();
        let Opened::Frames(mut frames) = opened else {
            panic!("{start:?}");
        };
        let mut whole = Whole::default();
        frames.next(&options, &mut whole).unwrap().unwrap();
        assert_eq!(whole.finish().unwrap().pixels, [128; 3]);
    }
}

#[test]
fn frames_need_memory_within_the_limit_and_no_more_later() {
    let least = |name: &str| {
        let bytes = fs::read(fixture(name)).unwrap();
        let fits = |limit: u64| {
            let options = DecodeOptions {
                memory: MemoryBudget::new(limit),
                ..DecodeOptions::default()
            };
            let (read, error) = of_bytes(&bytes, &options, FrameChoice::All);
            (read.len(), error)
        };
        let (read, error) = fits(2000);
        assert!(
            read == 0 && error.unwrap().contains("pass --max-memory"),
            "{name}"
        );
        assert_eq!(fits(4 << 20).1, None, "{name}");
    };
    ANIMATIONS.iter().for_each(|(name, _)| least(name));
    // A canvas that the limit on pixels does not allow.
    let mut huge = fs::read(fixture("disposals.gif")).unwrap();
    huge[6..10].copy_from_slice(&[0xff; 4]);
    let error = of_bytes(&huge, &DecodeOptions::default(), FrameChoice::All).1;
    assert!(error.unwrap().contains("pixels exceed the limit"));
}

#[test]
fn a_canvas_grows_with_a_frame_that_extends_beyond_it() {
    let options = DecodeOptions::default();
    let mut bytes = fs::read(fixture("disposals.gif")).unwrap();
    let whole = of_bytes(&bytes, &options, FrameChoice::All).0;
    // A screen of 3 x 3 pixels; the first frame is larger and complete.
    bytes[6..10].copy_from_slice(&[3, 0, 3, 0]);
    assert_eq!(of_bytes(&bytes, &options, FrameChoice::All).0, whole);
}

#[test]
fn frames_are_spread_over_the_middles_of_equal_parts() {
    for count in 1..40_u64 {
        for parts in 1..45 {
            let taken: Vec<u64> = (0..count)
                .filter(|index| FrameChoice::Spread(parts).takes(*index, count))
                .collect();
            let expected: Vec<u64> = match parts < count {
                true => (0..parts)
                    .map(|part| (2 * part + 1) * count / (2 * parts))
                    .collect(),
                false => (0..count).collect(),
            };
            assert_eq!(taken, expected, "{parts} of {count}");
        }
    }
    let taken = |choice: FrameChoice| (0..7).filter(|n| choice.takes(*n, 7)).collect::<Vec<_>>();
    assert_eq!(taken(FrameChoice::Every(3)), [0, 3, 6]);
    assert_eq!(taken(FrameChoice::Spread(1)), [3]);
    assert!(!FrameChoice::Spread(3).takes(u64::MAX - 1, u64::MAX));
}

#[test]
fn few_bytes_do_not_stand_for_many_canvases() {
    let header = b"GIF89a\x28\x23\x58\x1b\x80\0\0\0\0\0\0\0\0"; // 9000 x 7000
    let frame = b",\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0";
    let bytes = [&header[..], frame, frame, b";"].concat();
    let options = DecodeOptions::default();
    // The second one, so that no pixel of the first is looked at.
    let (read, error) = of_bytes(&bytes, &options, FrameChoice::Spread(1));
    let error = error.unwrap();
    assert!(
        read.is_empty() && error.contains("too short for its 9000 x 7000"),
        "{error}"
    );
}
