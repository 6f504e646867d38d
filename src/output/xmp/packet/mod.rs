//! The labels in an XMP packet, its `dc:subject`: where they are, and how they change while every
//! other byte stays.

#![deny(clippy::indexing_slicing)]

use std::collections::HashSet;
use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use quick_xml::escape::{partial_escape, resolve_xml_entity};
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::name::{Namespace, ResolveResult};
use quick_xml::reader::NsReader;
use serde::{Deserialize, Serialize};

const RDF: &str = "http://www.w3.org/1999/02/22-rdf-syntax-ns#";
const DC: &str = "http://purl.org/dc/elements/1.1/";
const META: &str = "adobe:ns:meta/";
const MARK: char = '\u{feff}';

/// A change of a text: at byte `at`, `old` becomes `new`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Edit {
    at: usize,
    old: String,
    new: String,
}

impl Edit {
    /// The text after the change; `None` if it does not fit.
    pub(super) fn applied(&self, text: &str) -> Option<String> {
        replaced(text, self.at, &self.old, &self.new)
    }

    /// The text before the change; `None` if it does not fit.
    pub(super) fn reverted(&self, text: &str) -> Option<String> {
        replaced(text, self.at, &self.new, &self.old)
    }
}

fn replaced(text: &str, at: usize, old: &str, new: &str) -> Option<String> {
    let (before, rest) = text.split_at_checked(at)?;
    Some([before, new, rest.strip_prefix(old)?].concat())
}

/// What an element is for the labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    Meta,
    Rdf,
    Description,
    Subject,
    List,
    Item,
    Other,
}

/// One label.
struct Label {
    text: String,
    /// The white space before its element, in bytes of the packet.
    space: Range<usize>,
    /// The end of its element.
    end: usize,
}

/// Where further labels go.
enum Place {
    /// Into the list, at its end, each after this white space and in an element of this name.
    Items {
        at: usize,
        space: Range<usize>,
        name: String,
    },
    /// Into the list that this tag, with this name for its items, has opened and closed.
    EmptyList { tag: Range<usize>, name: String },
    /// There is no list: at the end of the RDF, before this white space.
    Nowhere { space: Range<usize> },
}

/// A packet as read.
pub(super) struct Packet<'a> {
    text: &'a str,
    labels: Vec<Label>,
    place: Place,
    /// The subject of the descriptions as it is written, and whether `rdf` is a prefix there.
    about: String,
    has_prefix: bool,
}

/// What is known before all of the packet is read.
#[derive(Default)]
struct Reading {
    open: Vec<Element>,
    labels: Vec<Label>,
    place: Option<Place>,
    about: Option<String>,
    has_prefix: bool,
    has_rdf: bool,
    has_subject: bool,
    /// White space that ends here.
    space: Range<usize>,
}

impl<'a> Packet<'a> {
    /// Reads a packet.
    ///
    /// # Errors
    /// When it is not XML, not XMP, or its labels are not a plain list.
    pub(super) fn parse(text: &'a str) -> Result<Self> {
        let content = text.strip_prefix(MARK).unwrap_or(text);
        let offset = text.len() - content.len();
        let mut reader = NsReader::from_str(content);
        let mut reading = Reading::default();
        loop {
            let start = offset + reader.buffer_position() as usize;
            let (namespace, event) = reader.read_resolved_event().context("it is not XML")?;
            let namespace = match namespace {
                ResolveResult::Bound(Namespace(RDF)) => RDF,
                ResolveResult::Bound(Namespace(DC)) => DC,
                ResolveResult::Bound(Namespace(META)) => META,
                _ => "",
            };
            let span = start..offset + reader.buffer_position() as usize;
            match event {
                Event::Start(tag) => {
                    let element = reading.enter(&tag, namespace, &reader, span.clone())?;
                    if element == Element::List {
                        reading.place = Some(Place::Items {
                            at: span.end,
                            space: span.end..span.end,
                            name: sibling(&tag, "li"),
                        });
                    }
                    reading.open.push(element);
                }
                Event::Empty(tag) => match reading.enter(&tag, namespace, &reader, span.clone())? {
                    Element::List => {
                        let name = sibling(&tag, "li");
                        reading.place = Some(Place::EmptyList { tag: span, name });
                    }
                    Element::Item => reading.leave(Element::Item, span),
                    Element::Rdf => bail!("its rdf:RDF is empty"),
                    _ => {}
                },
                Event::End(_) => {
                    let element = reading.open.pop().context("an element is closed twice")?;
                    reading.leave(element, span);
                }
                Event::Text(content) => reading.text(&content.xml10_content(), Some(span))?,
                Event::CData(content) => reading.text(&content.xml10_content(), None)?,
                Event::GeneralRef(name) => reading.text(&resolved(&name)?, None)?,
                Event::Decl(declared) => {
                    let encoding = declared.encoding().transpose()?;
                    let is_utf8 = encoding.is_none_or(|name| name.eq_ignore_ascii_case("utf-8"));
                    ensure!(is_utf8, "it declares another encoding than UTF-8");
                }
                Event::DocType(_) => bail!("it declares a document type"),
                Event::PI(_) | Event::Comment(_) => {}
                Event::Eof => break,
            }
        }
        ensure!(reading.open.is_empty(), "it ends within an element");
        ensure!(
            !(reading.has_subject && matches!(reading.place, Some(Place::Nowhere { .. }))),
            "its dc:subject is not a list"
        );
        Ok(Self {
            text,
            labels: reading.labels,
            place: reading.place.context("it is not XMP: it has no rdf:RDF")?,
            about: reading.about.unwrap_or_default(),
            has_prefix: reading.has_prefix,
        })
    }

    /// Its labels, in their order.
    pub(super) fn labels(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().map(|label| label.text.as_str())
    }

    /// Those of `wanted` that it lacks.
    pub(super) fn missing(&self, wanted: &[String]) -> Vec<String> {
        let mut known: HashSet<&str> = self.labels().collect();
        let missing = wanted.iter().filter(|label| known.insert(label));
        missing.cloned().collect()
    }

    /// The change that adds labels.
    pub(super) fn adding(&self, labels: &[String]) -> Edit {
        let items = |space: &str, name: &str| -> String {
            let item = |label: &String| format!("{space}<{name}>{}</{name}>", escaped(label));
            labels.iter().map(item).collect()
        };
        match &self.place {
            Place::Items { at, space, name } => Edit {
                at: *at,
                old: String::new(),
                new: items(self.part(space), name),
            },
            Place::EmptyList { tag, name } => {
                let old = self.part(tag);
                let open = old.trim_end_matches('>').trim_end_matches('/').trim_end();
                let list = open.trim_start_matches('<');
                let end = list.find(|c: char| c.is_ascii_whitespace());
                let list = list.split_at(end.unwrap_or(list.len())).0;
                Edit {
                    at: tag.start,
                    old: old.to_owned(),
                    new: format!("{open}>{}</{list}>", items("", name)),
                }
            }
            Place::Nowhere { space } => {
                let (at, space) = (space.start, self.part(space));
                let line = space.rfind('\n').and_then(|at| space.get(at..));
                let line = line.unwrap_or_default();
                let rdf = match self.has_prefix {
                    true => String::new(),
                    false => format!(" xmlns:rdf=\"{RDF}\""),
                };
                Edit {
                    at,
                    old: String::new(),
                    new: description(labels, line, &self.about, &rdf),
                }
            }
        }
    }

    /// The packet without `labels`; `None` if it has none of them.
    pub(super) fn without(&self, labels: &[String]) -> Option<String> {
        let mut kept = String::with_capacity(self.text.len());
        let unwanted: HashSet<&String> = labels.iter().collect();
        let mut end = 0;
        for label in &self.labels {
            if unwanted.contains(&label.text) {
                kept.push_str(self.part(&(end..label.space.start)));
                end = label.end;
            }
        }
        kept.push_str(self.part(&(end..self.text.len())));
        (end > 0).then_some(kept)
    }

    fn part(&self, span: &Range<usize>) -> &str {
        self.text.get(span.clone()).unwrap_or_default()
    }
}

impl Reading {
    /// What an element is that starts within the open ones.
    fn enter(
        &mut self,
        tag: &BytesStart<'_>,
        namespace: &str,
        reader: &NsReader<&[u8]>,
        span: Range<usize>,
    ) -> Result<Element> {
        let parent = self.open.last().copied();
        let name = tag.local_name().into_inner();
        let element = match (parent, namespace, name) {
            (None, META, _) if !self.has_rdf => Element::Meta,
            (None | Some(Element::Meta), RDF, "RDF") if !self.has_rdf => Element::Rdf,
            (None, ..) | (Some(Element::Meta), RDF, "RDF") => {
                bail!("it is not one XMP packet: there is a <{name}> outside of it")
            }
            (Some(Element::Rdf), RDF, "Description") => Element::Description,
            (Some(Element::Description), DC, "subject") if !self.has_subject => Element::Subject,
            (Some(Element::Description), DC, "subject") => bail!("it has two of dc:subject"),
            (Some(Element::Subject), RDF, "Bag" | "Seq" | "Alt") if self.place.is_none() => {
                Element::List
            }
            (Some(Element::List), RDF, "li") => Element::Item,
            (Some(Element::Subject | Element::List | Element::Item), ..) => {
                bail!("its dc:subject is not a plain list: it has a <{name}>")
            }
            _ => Element::Other,
        };
        // To look for repeated ones would take time in the square of their number.
        for attribute in tag.attributes().with_checks(false) {
            let attribute = attribute.context("it is not XML")?;
            let (namespace, name) = reader.resolver().resolve_attribute(attribute.key);
            let is = |space| namespace == ResolveResult::Bound(Namespace(space));
            match (element, name.into_inner()) {
                (Element::Description, "subject") if is(DC) => {
                    bail!("its dc:subject is an attribute, not a list")
                }
                (Element::Description, "about") if is(RDF) || attribute.key.prefix().is_none() => {
                    let about = attribute.value.replace('"', "&quot;");
                    self.about.get_or_insert(about);
                }
                (Element::Subject, _) if is(RDF) => bail!("its dc:subject is not a plain list"),
                _ => {}
            }
        }
        match element {
            Element::Rdf => {
                self.has_rdf = true;
                let prefix = tag.name().prefix().map(|prefix| prefix.into_inner());
                self.has_prefix = prefix == Some("rdf");
            }
            Element::Subject => self.has_subject = true,
            Element::Item => {
                self.labels.push(Label {
                    text: String::new(),
                    space: self.space_before(span.start),
                    end: span.end,
                });
            }
            _ => {}
        }
        Ok(element)
    }

    /// The end of an element; its end tag is `span`.
    fn leave(&mut self, element: Element, span: Range<usize>) {
        match (element, &mut self.place, self.labels.last_mut()) {
            (Element::Item, Some(Place::Items { at, space, .. }), Some(label)) => {
                label.end = span.end;
                label.text = label.text.trim().to_owned();
                *at = span.end;
                *space = label.space.clone();
            }
            (Element::Rdf, None, _) => {
                self.place = Some(Place::Nowhere {
                    space: self.space_before(span.start),
                });
            }
            _ => {}
        }
    }

    /// The white space that ends at this byte.
    fn space_before(&self, at: usize) -> Range<usize> {
        match self.space.end == at {
            true => self.space.clone(),
            false => at..at,
        }
    }

    /// Text within the open elements, raw text with its span.
    fn text(&mut self, text: &str, span: Option<Range<usize>>) -> Result<()> {
        let is_space = text.chars().all(|c| " \t\r\n".contains(c)) && span.is_some();
        match self.open.last() {
            Some(Element::Item) => {
                if let Some(label) = self.labels.last_mut() {
                    label.text.push_str(text);
                }
            }
            None if !is_space => bail!("there is text outside of the packet"),
            Some(Element::Subject | Element::List) if !is_space => {
                bail!("its dc:subject is not a plain list: there is text in it")
            }
            _ => {
                if let Some(span) = span.filter(|_| is_space) {
                    self.space = span;
                }
            }
        }
        Ok(())
    }
}

fn resolved(name: &BytesRef<'_>) -> Result<String> {
    if let Some(character) = name.resolve_char_ref()? {
        return Ok(character.to_string());
    }
    let content = name.xml10_content();
    let known = resolve_xml_entity(&content).map(str::to_owned);
    known.with_context(|| format!("it has an unknown entity &{content};"))
}

/// The name of an element next to `tag` in its namespace.
fn sibling(tag: &BytesStart<'_>, local: &str) -> String {
    match tag.name().prefix() {
        Some(prefix) => format!("{}:{local}", prefix.into_inner()),
        None => local.to_owned(),
    }
}

fn escaped(text: &str) -> String {
    partial_escape(text).into_owned()
}

/// A description with these labels; each of its lines starts with `line` and some spaces, or there
/// is one line if that is empty.
fn description(labels: &[String], line: &str, about: &str, rdf: &str) -> String {
    let open = format!("<rdf:Description{rdf} rdf:about=\"{about}\" xmlns:dc=\"{DC}\">");
    let mut text = String::new();
    let mut push = |depth: usize, tag: &str| {
        if !line.is_empty() {
            text.push_str(line);
            text.push_str(&" ".repeat(depth));
        }
        text.push_str(tag);
    };
    push(1, &open);
    push(2, "<dc:subject>");
    push(3, "<rdf:Bag>");
    for label in labels {
        push(4, &format!("<rdf:li>{}</rdf:li>", escaped(label)));
    }
    push(3, "</rdf:Bag>");
    push(2, "</dc:subject>");
    push(1, "</rdf:Description>");
    text
}

/// A packet with nothing but labels.
pub(super) fn fresh(labels: &[String]) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<x:xmpmeta xmlns:x=\"{META}\" \
         x:xmptk=\"longclip {}\">\n <rdf:RDF xmlns:rdf=\"{RDF}\">{}\n </rdf:RDF>\n</x:xmpmeta>\n",
        env!("CARGO_PKG_VERSION"),
        description(labels, "\n ", "", "")
    )
}

/// Whether a packet is a fresh one, by any version, that has lost its labels.
pub(super) fn is_bare(text: &str) -> bool {
    let bare = fresh(&[]);
    let around = bare.split_once(env!("CARGO_PKG_VERSION"));
    let version = around.and_then(|(start, end)| text.strip_prefix(start)?.strip_suffix(end));
    version.is_some_and(|version| !version.contains(['"', '<', '>']))
}

#[cfg(test)]
mod tests;
