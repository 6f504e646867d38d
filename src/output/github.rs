//! Workflow commands of GitHub Actions, which it shows as annotations of the files that they name.
//! Characters that would end a command are escaped as GitHub's own toolkit escapes them.

use std::io::{self, Write};

use super::evaluation::Evaluation;
use super::table::percent;
use super::{Record, RecordWriter, emit};

/// Writes an error for each record that failed, and for each wrong one: its best label is not its target.
pub(super) struct AnnotationWriter {
    sink: Box<dyn Write + Send>,
}

impl AnnotationWriter {
    pub(super) fn new(sink: Box<dyn Write + Send>) -> Self {
        Self { sink }
    }
}

impl RecordWriter for AnnotationWriter {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        match annotation(record) {
            Some(line) => emit(&mut *self.sink, line.as_bytes()),
            None => Ok(()),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

fn annotation(record: &Record) -> Option<String> {
    let (title, message) = match &record.outcome {
        Err(error) => ("cannot be classified".to_owned(), error.cause.clone()),
        Ok(predictions) => {
            let (best, target) = (predictions.first()?, record.target.as_deref()?);
            if &*best.label == target {
                return None;
            }
            let score = |label: &str| {
                let found = predictions.iter().find(|one| &*one.label == label);
                let probability = found.and_then(|one| one.probability);
                let probability = probability.map(|one| percent(f64::from(one)));
                probability.map_or(String::new(), |percent| format!(" ({percent})"))
            };
            let title = format!("{} instead of {target}", best.label);
            let message = format!(
                "classified as {}{}, but it is {target}{}",
                best.label,
                score(&best.label),
                score(target)
            );
            (title, message)
        }
    };
    Some(format!(
        "::error file={},title={}::{}\n",
        property(&record.image.text),
        property(&title),
        data(&message)
    ))
}

/// The line that ends the annotations of an evaluation.
pub(crate) fn notice(evaluation: &Evaluation) -> String {
    let failed = match evaluation.failed {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    };
    let message = format!(
        "top-1 accuracy {} of {} images{failed}",
        percent(evaluation.figures.acc1),
        evaluation.figures.n
    );
    format!("::notice title=longclip evaluate::{}\n", data(&message))
}

fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::testing::{STYLE, answered, failed, prediction, written};
    use super::*;

    #[test]
    fn wrong_and_failed_images_are_annotated() {
        let record = |image: &str, target: &str| {
            let predictions = vec![
                prediction("a dog, big", Some(0.75), 0.3),
                prediction("cat", Some(0.25), 0.2),
            ];
            Record {
                target: Some(target.into()),
                ..answered(image, predictions)
            }
        };
        let records = [
            record("right.png", "a dog, big"),
            record("a:b,c%\n.png", "cat"),
            failed("broken.png", "not an image:\r\n::error::"),
        ];
        let expected = "\
::error file=a%3Ab%2Cc%25%0A.png,title=a dog%2C big instead of cat::classified as a dog, big \
(75.00%25), but it is cat (25.00%25)
::error file=broken.png,title=cannot be classified::not an image:%0D%0A::error::
";
        assert_eq!(written(Format::Github, STYLE, &records), expected);
    }
}
