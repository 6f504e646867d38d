use image::metadata::Orientation;

use super::*;

fn noise(width: usize, height: usize) -> RgbImage {
    let sample = |i: usize| (i * i * 31 + i * 17 + i / 5) as u8;
    RgbImage {
        width,
        height,
        pixels: (0..width * height * 3).map(sample).collect(),
    }
}

/// Both passes over the whole image, as plainly as possible.
fn whole(
    image: &RgbImage,
    filter: Filter,
    extent: (f64, f64),
    size: (usize, usize),
    part: Window,
) -> RgbImage {
    let across = taps(filter, image.width, extent.0, size.0, part.left, part.width);
    let down = taps(
        filter,
        image.height,
        extent.1,
        size.1,
        part.top,
        part.height,
    );
    let wide = |rows: &[u8], down: &Taps| {
        let columns = rows.len() / image.height;
        let mut out = vec![0; down.starts.len() * columns];
        vertical(Level::Scalar, rows, columns, down, &mut out);
        out
    };
    let across = Across::new(Level::Scalar, across, image.width);
    let mut pixels = Vec::new();
    if is_vertical_first((image.width, image.height), size.0, size.1) {
        let short = wide(&image.pixels, &down);
        run_across(&across, image.width * 3, &short, &mut pixels);
    } else {
        run_across(&across, image.width * 3, &image.pixels, &mut pixels);
        pixels = wide(&pixels, &down);
    }
    RgbImage {
        width: part.width,
        height: part.height,
        pixels,
    }
}

#[test]
fn rows_that_come_one_after_another_give_the_bytes_of_the_whole() {
    let mut state = 5_u64;
    let mut next = |limit: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % limit
    };
    let mut orders = [0; 2];
    for case in 0..400 {
        let orientation = Orientation::from_exif(1 + (case % 8) as u8).unwrap();
        let longest = [9, 90, 400][case % 3];
        let stored = noise(1 + next(longest), 1 + next(longest));
        let upright = orient::apply(stored.clone(), orientation);
        let size = (1 + next(60), 1 + next(60));
        let (left, top) = (next(size.0), next(size.1));
        let window = Window {
            left,
            top,
            width: 1 + next(size.0 - left),
            height: 1 + next(size.1 - top),
        };
        let padding = next(8) as f64 / 8.0;
        let extent = (upright.width as f64 - padding, upright.height as f64);
        let filter = [Filter::Bicubic, Filter::Bilinear][case % 2];
        let expected = whole(&upright, filter, extent, size, window);
        let frame = Frame {
            orientation,
            ..Frame::of(&stored)
        };
        let mut resizer = Resizer::new(&frame, filter, extent, size, window);
        orders[usize::from(resizer.is_vertical_first)] += 1;
        let mut rest = &stored.pixels[..];
        while !rest.is_empty() {
            let rows = (1 + next(50)) * stored.width * 3;
            let (now, later) = rest.split_at(rows.min(rest.len()));
            resizer.add(now);
            rest = later;
        }
        let bytes = Resizer::bytes(&frame, size, window);
        assert!((resizer.band.capacity() as u64) <= bytes, "case {case}");
        assert!(
            resizer.finish() == expected,
            "case {case}: {frame:?} {size:?}"
        );
    }
    assert!(orders.iter().all(|count| *count > 50), "{orders:?}");
}

#[test]
fn the_same_size_changes_nothing() {
    let image = noise(13, 7);
    assert_eq!(bicubic(&image, 13, 7), image);
}

#[test]
fn a_window_equals_the_crop_of_the_whole() {
    let cases = [
        ((40, 30), (21, 16), (3, 2, 16, 12)),
        ((9, 17), (31, 60), (10, 0, 21, 60)),
        ((200, 5), (7, 90), (6, 44, 1, 3)),
        ((30, 90), (20, 60), (2, 21, 16, 16)), // vertical first
    ];
    for ((width, height), size, (left, top, columns, rows)) in cases {
        let image = noise(width, height);
        let whole = bicubic(&image, size.0, size.1);
        let window = Window {
            left,
            top,
            width: columns,
            height: rows,
        };
        let extent = (width as f64, height as f64);
        let part = resize_window(&image, Filter::Bicubic, extent, size, window);
        for (y, row) in part.pixels.chunks_exact(columns * 3).enumerate() {
            let at = ((top + y) * whole.width + left) * 3;
            assert_eq!(row, &whole.pixels[at..at + columns * 3], "{size:?} row {y}");
        }
    }
}

#[test]
fn the_order_of_passes_is_pillows() {
    // (width, height) -> (width, height), as measured with Pillow 13.0.0.
    let cases = [
        ((422, 422), (416, 301), true),
        ((346, 1430), (32, 132), true),
        ((264, 13), (402, 8), true),
        ((2, 2), (204, 1), true),
        ((204, 265), (162, 181), false), // exactly twice as many
        ((35, 186), (13, 142), false),
        ((868, 868), (410, 3), false),
        ((4000, 3000), (298, 224), false),
        ((3000, 4000), (224, 298), false),
        ((3, 592), (56, 11_050), false),
    ];
    for (image, size, expected) in cases {
        let found = is_vertical_first(image, size.0, size.1);
        assert_eq!(found, expected, "{image:?} -> {size:?}");
    }
}

#[test]
fn weights_of_a_half_are_pillows() {
    // 8 pixels -> 4: the widened cubic at -1.875, -1.625 … around each centre.
    let taps = taps(Filter::Bicubic, 8, 8.0, 4, 1, 1);
    assert_eq!((taps.starts[0], taps.counts[0], taps.stride), (0, 7, 9));
    let total: i32 = taps.weights.iter().sum();
    assert!((total - (1 << WEIGHT_BITS)).abs() <= 4, "{total}");
}

#[test]
fn padding_past_the_extent_does_not_shift_the_image() {
    // A ramp of 30 columns of which 29.5 count: column x of 10 has its centre at 2.95 (x + 0.5).
    let ramp = RgbImage {
        width: 30,
        height: 1,
        pixels: (0..30).flat_map(|x| [x * 8; 3]).collect(),
    };
    let window = Window {
        left: 0,
        top: 0,
        width: 10,
        height: 1,
    };
    for filter in [Filter::Bicubic, Filter::Bilinear] {
        let row = |extent| resize_window(&ramp, filter, (extent, 1.0), (10, 1), window).pixels;
        for (x, pixel) in row(29.5).chunks_exact(3).enumerate().skip(2).take(6) {
            let expected = (2.95 * (x as f64 + 0.5) - 0.5) * 8.0;
            assert!(
                (f64::from(pixel[0]) - expected).abs() < 1.0,
                "{filter:?} {x}: {pixel:?}"
            );
        }
        assert_eq!(row(30.0), resize(&ramp, filter, 10, 1).pixels);
    }
}
