//! Python pickles of protocols 2 to 5, as data.
//!
//! The opcodes and their meaning are those of Python's `pickletools`. Where Python
//! would import a class or call a function, this reader only records the name:
//! nothing here can execute code. Values live in one arena and refer to each
//! other by index, so a value that a thousand others share is stored once, depth
//! costs no stack, and dropping a deep list is dropping one vector.

mod machine;
mod reader;

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
        &self.values[id.0 as usize]
    }

    /// All values, in no particular order.
    pub(super) fn values(&self) -> &[Value<'a>] {
        &self.values
    }

    /// The elements of a tuple or list.
    pub(super) fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(start, length) => Some(&self.items[*start as usize..][..*length as usize]),
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
