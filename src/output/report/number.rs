//! Numbers formatted for people.

use super::content::Quantity;

/// Shown for a number that is not finite.
const NONE: &str = "–";

/// `12,345`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// `87.3%`.
pub(super) fn share(number: f64) -> String {
    finite(number, |number| format!("{:.1}%", number * 100.0))
}

/// A difference of proportions, in percentage points with its sign: `+1.5`, `−0.3`.
pub(super) fn points(number: f64) -> String {
    finite(number, |number| {
        let shown = format!("{:.1}", (number * 100.0).abs());
        let sign = match (shown == "0.0", number < 0.0) {
            (true, _) => "±",
            (_, true) => "−",
            _ => "+",
        };
        format!("{sign}{shown}")
    })
}

/// At most four significant digits, without trailing zeros.
pub(super) fn plain(number: f64) -> String {
    finite(number, |number| {
        let size = number.abs();
        let whole = if size > 0.0 {
            size.log10().floor() as i32
        } else {
            0
        };
        if !(-5..15).contains(&whole) {
            return format!("{number:.2e}");
        }
        let shown = format!("{number:.*}", (3 - whole).max(0) as usize);
        match shown.contains('.') {
            true => shown.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => shown,
        }
    })
}

/// A p-value; smaller ones are shown as `< 0.0001`.
pub(super) fn chance(number: f64) -> String {
    finite(number, |number| match number {
        small if small < 0.0001 => "< 0.0001".to_owned(),
        other => format!("{other:.4}"),
    })
}

/// The value in its own unit.
pub(super) fn value(value: Quantity) -> String {
    match value {
        Quantity::Share(number) => share(number),
        Quantity::Count(number) => count(number),
        Quantity::Number(number) => plain(number),
    }
}

/// `number` in the unit of `like`: the ends of its interval.
pub(super) fn in_unit_of(like: Quantity, number: f64) -> String {
    match like {
        Quantity::Share(_) => share(number),
        Quantity::Count(_) | Quantity::Number(_) => plain(number),
    }
}

fn finite(number: f64, shown: impl Fn(f64) -> String) -> String {
    if number.is_finite() {
        shown(number)
    } else {
        NONE.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ];
        for (number, expected) in cases {
            assert_eq!(count(number), expected);
        }
    }

    #[test]
    fn shares_and_differences_are_in_percent() {
        let cases = [
            (0.8734, "87.3%", "+87.3"),
            (-0.015, "-1.5%", "−1.5"),
            (-0.0001, "-0.0%", "±0.0"),
            (f64::NAN, "–", "–"),
        ];
        for (number, in_percent, in_points) in cases {
            assert_eq!(share(number), in_percent);
            assert_eq!(points(number), in_points);
        }
    }

    #[test]
    fn other_numbers_keep_four_digits() {
        let cases = [
            (0.0, "0"),
            (0.2, "0.2"),
            (0.123_456, "0.1235"),
            (0.000_123_46, "0.0001235"),
            (12.0, "12"),
            (12_345.6, "12346"),
            (1e-9, "1.00e-9"),
            (-2.5, "-2.5"),
            (f64::INFINITY, "–"),
        ];
        for (number, expected) in cases {
            assert_eq!(plain(number), expected);
        }
        assert_eq!(chance(0.03), "0.0300");
        assert_eq!(chance(1e-12), "< 0.0001");
    }
}
