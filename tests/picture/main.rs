//! Pictures from files to pixels: against Pillow and torchvision, and against broken files.

mod corpus;
mod golden;
mod hostile;
mod kinds;

use std::path::PathBuf;

use longclip::input::image::{DecodeOptions, Decoded, read};

/// A picture made by `tests/fixtures/picture/make.py`, or a demo picture.
fn picture(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let fixture = root.join("tests/fixtures/picture").join(name);
    if fixture.exists() {
        return fixture;
    }
    root.join("assets/demo").join(name)
}

fn decode(name: &str) -> Decoded {
    read(&picture(name), &DecodeOptions::default()).expect(name)
}

fn refusal(name: &str, options: &DecodeOptions) -> String {
    match read(&picture(name), options) {
        Ok(_) => panic!("{name} was decoded"),
        Err(error) => format!("{error:#}"),
    }
}
