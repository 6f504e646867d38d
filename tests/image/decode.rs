//! Writes the pixels of images as PPM files, for `tests/image/compare.py`:
//!
//!     decode_image FOLDER FILE...
//!
//! writes FOLDER/NAME.ppm for each file that is decoded and prints a line for each: its name, its
//! format, and its warnings or its error.

use std::io::Write as _;
use std::path::Path;

use longclip::input::image::{DecodeOptions, read};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_default();
    let mut out = std::io::stdout().lock();
    for file in arguments {
        let path = Path::new(&file);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match read(path, &DecodeOptions::default()) {
            Ok(decoded) => {
                let image = &decoded.image;
                let header = format!("P6\n{} {}\n255\n", image.width, image.height);
                let bytes = [header.as_bytes(), &image.pixels].concat();
                std::fs::write(Path::new(&folder).join(format!("{name}.ppm")), bytes)?;
                let warnings = decoded.warnings.join("; ");
                writeln!(out, "{name}\t{}\t{warnings}", decoded.format)?;
            }
            Err(error) => writeln!(out, "{name}\t-\t{error:#}")?,
        }
    }
    Ok(())
}
