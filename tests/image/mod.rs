//! Images from files to pixels: against Pillow and torchvision, and with broken files.

mod corpus;
mod golden;
mod hostile;
mod kinds;

use std::path::PathBuf;

use longclip::input::image::{DecodeOptions, Decoded, read};

/// An image made by `tests/fixtures/image/make.py`, or a demo image.
fn image(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let fixture = root.join("tests/fixtures/image").join(name);
    if fixture.exists() {
        return fixture;
    }
    root.join("assets/demo").join(name)
}

fn decode(name: &str) -> Decoded {
    read(&image(name), &DecodeOptions::default()).expect(name)
}

fn refusal(name: &str, options: &DecodeOptions) -> String {
    match read(&image(name), options) {
        Ok(_) => panic!("{name} was decoded"),
        Err(error) => format!("{error:#}"),
    }
}
