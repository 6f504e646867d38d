//! The paths of images that a label fits, for other programs.

use std::io::{self, Write};

use super::found::PathEnd;
use super::{Record, RecordWriter, emit};

/// Writes the paths of records that have a chosen label.
pub(super) struct PathWriter {
    sink: Box<dyn Write + Send>,
    end: PathEnd,
}

impl PathWriter {
    pub(super) fn new(sink: Box<dyn Write + Send>, end: PathEnd) -> Self {
        Self { sink, end }
    }
}

impl RecordWriter for PathWriter {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        if record.outcome.is_err() || record.chosen.is_empty() {
            return Ok(());
        }
        let path = [record.image.exact(), &[self.end.byte()]].concat();
        emit(&mut *self.sink, &path)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{STYLE, answered, failed, prediction, written};
    use super::super::{Format, Style};
    use super::*;

    #[test]
    fn only_images_with_a_chosen_label_are_listed() {
        let mut chosen = answered("a b.jpg", vec![prediction("x", None, 0.25)]);
        let other = Record {
            image: std::path::Path::new("b.jpg").into(),
            ..chosen.clone()
        };
        chosen.chosen = vec!["x".into()];
        let records = [chosen, other, failed("c.jpg", "no image")];
        assert_eq!(written(Format::Paths, STYLE, &records), "a b.jpg\n");
        let style = Style {
            end: PathEnd::Nul,
            ..STYLE
        };
        assert_eq!(written(Format::Paths, style, &records), "a b.jpg\0");
    }
}
