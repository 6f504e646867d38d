//! Python pickles of protocols 2 to 5, as data.
//!
//! The opcodes and their meaning are those of Python's `pickletools`. Where Python
//! would import a class or call a function, this reader only records the name:
//! nothing here can execute code. Values live in one arena and refer to each
//! other by index, so a value that a thousand others share is stored once, depth
//! costs no stack, and dropping a deep list is dropping one vector.

mod machine;

use anyhow::{Context, Result, ensure};

pub(super) use machine::read;

/// Index of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(u32);

/// A Python value; its parts are indices.
#[derive(Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Text(&'a str),
    /// Values that no weight file needs: bytes, integers beyond 64 bits.
    Opaque(&'static str),
    /// First index into the arena's items, and how many.
    Tuple(u32, u32),
    /// A list or a set.
    List(Vec<Id>),
    /// Pairs as written; a key may occur twice.
    Dict(Vec<(Id, Id)>),
    /// Module and name of a class or function, both strings.
    Global(Id, Id),
    /// A persistent id: a reference to a storage outside the pickle.
    Persistent(Id),
    /// The result that calling a class or function would have had.
    Object(Box<Object>),
}

/// An object that is described but never constructed.
#[derive(Debug)]
pub(super) struct Object {
    /// The class or function that Python would call.
    pub(super) class: Id,
    /// Its arguments, a tuple.
    pub(super) arguments: Id,
    /// What Python would pass to `__setstate__` or put into `__dict__`.
    pub(super) state: Option<Id>,
    /// Items that Python would assign by key.
    pub(super) pairs: Vec<(Id, Id)>,
}

/// A parsed pickle.
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    /// The elements of all tuples.
    items: Vec<Id>,
    /// The root value.
    pub(super) root: Id,
    /// Bytes up to and including the STOP opcode.
    pub(super) length: usize,
}

impl<'a> Pickle<'a> {
    /// The value at an index.
    pub(super) fn get(&self, id: Id) -> &Value<'a> {
        value(&self.values, id)
    }

    /// All values, in no particular order.
    pub(super) fn values(&self) -> &[Value<'a>] {
        &self.values
    }

    /// The elements of a tuple or list.
    pub(super) fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(start, length) => tuple(&self.items, *start, *length),
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// The string at `id`, if it is one.
    pub(super) fn text(&self, id: Id) -> Option<&'a str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Module and name at `id`, if it is a class or function.
    pub(super) fn global(&self, id: Id) -> Option<(&'a str, &'a str)> {
        match self.get(id) {
            Value::Global(module, name) => Some((self.text(*module)?, self.text(*name)?)),
            _ => None,
        }
    }

    /// The integer at `id`, if it is a non-negative one.
    pub(super) fn size(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Value::Int(value) => usize::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The last value under the string `key` of a dictionary, as Python would see it.
    pub(super) fn entry(&self, id: Id, key: &str) -> Option<Id> {
        let Value::Dict(pairs) = self.get(id) else {
            return None;
        };
        let mut last_first = pairs.iter().rev();
        let found = last_first.find(|(held, _)| self.text(*held) == Some(key));
        found.map(|(_, value)| *value)
    }

    /// A description of the value for messages.
    pub(super) fn describe(&self, id: Id) -> String {
        match self.get(id) {
            Value::None => "None".to_owned(),
            Value::Bool(_) => "a boolean".to_owned(),
            Value::Int(_) | Value::Float => "a number".to_owned(),
            Value::Text(_) => "a text".to_owned(),
            Value::Opaque(what) => (*what).to_owned(),
            Value::Tuple(_, length) => format!("a tuple of {length}"),
            Value::List(items) => format!("a list of {}", items.len()),
            Value::Dict(pairs) => format!("a dict of {}", pairs.len()),
            Value::Global(..) => format!("the class {}", self.class_name(id)),
            Value::Persistent(_) => "a storage".to_owned(),
            Value::Object(object) => format!("an object of {}", self.class_name(object.class)),
        }
    }

    /// A class's dotted name, cut to a length that fits a message.
    fn class_name(&self, id: Id) -> String {
        let Some((module, name)) = self.global(id) else {
            return "a custom class".to_owned();
        };
        let dotted = format!("{module}.{name}");
        match dotted.char_indices().nth(80) {
            Some((end, _)) => format!("{}...", &dotted[..end]),
            None => dotted,
        }
    }
}

/// The value at an index; indices are only made with their values.
fn value<'v, 'a>(values: &'v [Value<'a>], id: Id) -> &'v Value<'a> {
    values.get(id.0 as usize).unwrap_or(&Value::None)
}

/// The elements of a tuple.
fn tuple(items: &[Id], start: u32, length: u32) -> Option<&[Id]> {
    items.get(start as usize..)?.get(..length as usize)
}

/// A position in a pickle's bytes.
struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    fn position(&self) -> usize {
        self.position
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }

    /// The next `length` bytes, without allocating.
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let rest = self.rest();
        let taken = rest.get(..length).with_context(|| {
            format!(
                "{length} bytes are announced but only {} follow",
                rest.len()
            )
        })?;
        self.position += length;
        Ok(taken)
    }

    /// The next `N` bytes.
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// Length-prefixed bytes; the length takes `width` (1, 4 or 8) bytes.
    fn counted(&mut self, width: usize) -> Result<&'a [u8]> {
        let digits = self.take(width)?.iter().rev();
        let length = digits.fold(0, |length: u64, byte| length << 8 | u64::from(*byte));
        let length = usize::try_from(length)
            .with_context(|| format!("{length} bytes are announced, more than any file has"))?;
        self.take(length)
    }

    /// Text up to a line feed, which is consumed but not returned.
    fn line(&mut self) -> Result<&'a str> {
        let rest = self.rest();
        let length = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .context("a name is not terminated")?;
        self.position += length + 1;
        let line = rest.get(..length).unwrap_or_default();
        std::str::from_utf8(line).context("a name is not UTF-8")
    }

    /// A signed little-endian integer of any number of bytes; `None` beyond 64 bits.
    fn integer(bytes: &[u8]) -> Option<i64> {
        let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
        let fill = if negative { 0xff } else { 0 };
        let (low, extension) = bytes.split_at_checked(8).unwrap_or((bytes, &[]));
        let mut value = [fill; 8];
        value.iter_mut().zip(low).for_each(|(to, from)| *to = *from);
        let value = i64::from_le_bytes(value);
        let same_sign = (value < 0) == negative;
        (extension.iter().all(|&byte| byte == fill) && same_sign).then_some(value)
    }

    /// Checks that a frame of the stated length fits.
    fn frame(&mut self) -> Result<()> {
        let length = u64::from_le_bytes(self.array()?);
        let rest = (self.bytes.len() - self.position) as u64;
        ensure!(
            length <= rest,
            "a frame of {length} bytes is announced but only {rest} follow"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_any_length() {
        let cases: &[(&[u8], Option<i64>)] = &[
            (&[], Some(0)),
            (&[0x7f], Some(127)),
            (&[0xff], Some(-1)),
            (&[0xff, 0x00], Some(255)),
            (&[0, 0, 0, 0, 0, 0, 0, 0x80], Some(i64::MIN)),
            (&[0xff; 20], Some(-1)),
            (&[0, 0, 0, 0, 0, 0, 0, 0x80, 0], None),
            (&[0, 0, 0, 0, 0, 0, 0, 0, 1], None),
            (&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0], Some(1)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Reader::integer(bytes), *expected, "{bytes:?}");
        }
    }
}
