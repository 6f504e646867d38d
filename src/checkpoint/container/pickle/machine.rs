//! The pickle interpreter: a stack, a memo, and opcodes that only create data.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};

use super::super::limit;
use super::{Id, Object, Pickle, Reader, Value, tuple, value};

/// Reads the pickle at the start of `bytes`.
///
/// Errors name the offset and opcode. Takes time and memory in proportion to the
/// bytes, and never more than [`limit`] allows.
pub(in super::super) fn read(bytes: &[u8]) -> Result<Pickle<'_>> {
    let mut machine = Machine {
        reader: Reader::new(bytes),
        values: Vec::new(),
        items: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        copied: 0,
    };
    let root = machine.run()?;
    Ok(Pickle {
        root,
        length: machine.reader.position(),
        values: machine.values,
        items: machine.items,
    })
}

struct Machine<'a> {
    reader: Reader<'a>,
    values: Vec<Value<'a>>,
    items: Vec<Id>,
    stack: Vec<Id>,
    /// Stack heights at which a MARK was set.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Pairs copied from lists, counted because a shared list could be copied without end.
    copied: usize,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id> {
        for _ in 0..limit::PICKLE_STEPS {
            let at = self.reader.position();
            ensure!(
                at <= limit::PICKLE_BYTES,
                "the pickle is longer than {} bytes, so it holds more than weights",
                limit::PICKLE_BYTES
            );
            let opcode = self
                .reader
                .u8()
                .with_context(|| format!("the pickle ends at byte {at} without a STOP"))?;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode)
                .with_context(|| format!("pickle byte {at}, opcode {}", name(opcode)))?;
        }
        bail!(
            "the pickle takes more than {} steps, so it holds more than weights",
            limit::PICKLE_STEPS
        )
    }

    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            0x80 => self.protocol(),
            0x95 => self.reader.frame(),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Bool(opcode == 0x88)),
            b'K' | b'M' | b'J' | 0x8a | 0x8b => self.integer(opcode),
            b'G' => {
                self.reader.take(8)?;
                self.push(Value::Float)
            }
            b'X' => self.text(4),
            0x8c => self.text(1),
            0x8d => self.text(8),
            b'T' => self.text(4),
            b'U' => self.text(1),
            b'B' => self.bytes(4),
            b'C' => self.bytes(1),
            0x8e | 0x96 => self.bytes(8),
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.memo(opcode),
            b')' | b't' | 0x85 | 0x86 | 0x87 => self.tuple(opcode),
            // A set is kept as a list; its order does not matter.
            b']' | 0x8f => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            b'l' | b'd' | b'a' | b'e' | b's' | b'u' | 0x90 | 0x91 => self.collect(opcode),
            b'0' | b'1' | b'2' => self.rearrange(opcode),
            _ => self.call(opcode),
        }
    }

    /// The opcodes about classes, which only record names.
    fn call(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            b'c' => {
                let (module, name) = (self.reader.line()?, self.reader.line()?);
                let module = self.add(Value::Text(module))?;
                let name = self.add(Value::Text(name))?;
                self.push(Value::Global(module, name))
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                self.push(Value::Global(module, name))
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id))
            }
            b'R' | 0x81 => {
                let (arguments, class) = (self.pop()?, self.pop()?);
                self.make(class, arguments)
            }
            0x92 => {
                let (_named, arguments, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.make(class, arguments)
            }
            b'b' => self.build(),
            _ => bail!(
                "not an opcode of pickle protocols 2 to 5 that weights use; save the state dict with torch.save"
            ),
        }
    }

    fn protocol(&mut self) -> Result<()> {
        let version = self.reader.u8()?;
        ensure!(
            (2..=5).contains(&version),
            "pickle protocol {version}; 2 to 5 can be read"
        );
        Ok(())
    }

    fn integer(&mut self, opcode: u8) -> Result<()> {
        let value = match opcode {
            b'K' => Some(i64::from(self.reader.u8()?)),
            b'M' => Some(i64::from(u16::from_le_bytes(self.reader.array()?))),
            b'J' => Some(i64::from(i32::from_le_bytes(self.reader.array()?))),
            0x8a => Reader::integer(self.reader.counted(1)?),
            _ => Reader::integer(self.reader.counted(4)?),
        };
        self.push(value.map_or(Value::Opaque("a large number"), Value::Int))
    }

    /// Text; Python 2's strings are bytes that are usually text as well.
    fn text(&mut self, width: usize) -> Result<()> {
        let bytes = self.reader.counted(width)?;
        let value = std::str::from_utf8(bytes).map(Value::Text);
        self.push(value.unwrap_or(Value::Opaque("a string that is not UTF-8")))
    }

    fn bytes(&mut self, width: usize) -> Result<()> {
        self.reader.counted(width)?;
        self.push(Value::Opaque("bytes"))
    }

    fn memo(&mut self, opcode: u8) -> Result<()> {
        let index = match opcode {
            b'q' | b'h' => u32::from(self.reader.u8()?),
            b'r' | b'j' => u32::from_le_bytes(self.reader.array()?),
            _ => u32::try_from(self.memo.len())?,
        };
        if matches!(opcode, b'h' | b'j') {
            let id = self.memo.get(&index);
            let id = *id.with_context(|| format!("the memo has no entry {index}"))?;
            self.stack.push(id);
        } else {
            let top = self.top()?;
            self.memo.insert(index, top);
        }
        Ok(())
    }

    fn tuple(&mut self, opcode: u8) -> Result<()> {
        let from = match opcode {
            b')' => self.stack.len(),
            b't' => self.mark()?,
            _ => {
                let count = usize::from(opcode - 0x84);
                let from = self.stack.len().checked_sub(count);
                from.filter(|&from| from >= self.floor())
                    .context("the stack holds too few values")?
            }
        };
        let start = u32::try_from(self.items.len())?;
        self.items.extend(self.stack.drain(from..));
        let length = u32::try_from(self.items.len())? - start;
        self.push(Value::Tuple(start, length))
    }

    /// The opcodes that fill lists, dictionaries and sets.
    fn collect(&mut self, opcode: u8) -> Result<()> {
        let from = match opcode {
            b'a' => self.stack.len().checked_sub(1),
            b's' => self.stack.len().checked_sub(2),
            _ => Some(self.mark()?),
        };
        let from = from
            .filter(|&from| from >= self.floor())
            .context("the stack holds too few values")?;
        let parts = self.stack.split_off(from);
        match opcode {
            b'l' | 0x91 => self.push(Value::List(parts)),
            b'd' => {
                let pairs = pairs(&parts)?;
                self.push(Value::Dict(pairs))
            }
            _ => self.extend(opcode, &parts),
        }
    }

    fn extend(&mut self, opcode: u8, parts: &[Id]) -> Result<()> {
        let target = self.top()?;
        match (opcode, self.value_mut(target)?) {
            (b'a' | b'e' | 0x90, Value::List(items)) => items.extend(parts),
            (b's' | b'u', Value::Dict(held)) => held.extend(pairs(parts)?),
            (b's' | b'u', Value::Object(object)) => object.pairs.extend(pairs(parts)?),
            // Elements of list-like objects hold no weights.
            (b'a' | b'e' | 0x90, Value::Object(_)) => {}
            _ => bail!("the value below on the stack cannot be extended"),
        }
        Ok(())
    }

    fn rearrange(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'1' => {
                let from = self.mark()?;
                self.stack.truncate(from);
            }
            // A POP right after a MARK takes the mark.
            _ if self.marks.last() == Some(&self.stack.len()) => {
                self.marks.pop();
            }
            _ => {
                self.pop()?;
            }
        }
        Ok(())
    }

    /// Records a call; ordered dictionaries become dictionaries.
    fn make(&mut self, class: Id, arguments: Id) -> Result<()> {
        let class_name = match self.value(class) {
            Value::Global(module, name) => (self.text_of(*module), self.text_of(*name)),
            Value::Persistent(_) => (None, None),
            _ => bail!("the called value is not a class"),
        };
        ensure!(
            matches!(self.value(arguments), Value::Tuple(..)),
            "the arguments are not a tuple"
        );
        match class_name {
            (Some("collections"), Some("OrderedDict" | "defaultdict"))
            | (Some("builtins" | "__builtin__"), Some("dict")) => {
                let pairs = self.argument_pairs(arguments);
                self.copied += pairs.len();
                ensure!(
                    self.copied <= limit::PICKLE_STEPS,
                    "dictionaries are copied too often for a file of weights"
                );
                self.push(Value::Dict(pairs))
            }
            _ => self.push(Value::Object(Box::new(Object {
                class,
                arguments,
                state: None,
                pairs: Vec::new(),
            }))),
        }
    }

    /// The pairs of `OrderedDict([(key, value), ...])`, which Python 2 wrote.
    fn argument_pairs(&self, arguments: Id) -> Vec<(Id, Id)> {
        let Some([list]) = self.sequence(arguments) else {
            return Vec::new();
        };
        let entries = self.sequence(*list).unwrap_or_default();
        let pair = |&entry| match self.sequence(entry) {
            Some(&[key, value]) => Some((key, value)),
            _ => None,
        };
        entries.iter().filter_map(pair).collect()
    }

    fn build(&mut self) -> Result<()> {
        let state = self.pop()?;
        let target = self.top()?;
        match self.value_mut(target)? {
            Value::Object(object) => object.state = Some(state),
            // Attributes of a state dict, such as `_metadata`, hold no weights.
            Value::Dict(_) => {}
            _ => bail!("the value below on the stack takes no state"),
        }
        Ok(())
    }

    fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.value(id) {
            Value::Tuple(start, length) => tuple(&self.items, *start, *length),
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    fn text_of(&self, id: Id) -> Option<&'a str> {
        match *self.value(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn value(&self, id: Id) -> &Value<'a> {
        value(&self.values, id)
    }

    fn value_mut(&mut self, id: Id) -> Result<&mut Value<'a>> {
        let value = self.values.get_mut(id.0 as usize);
        value.context("the stack refers to no value")
    }

    fn add(&mut self, value: Value<'a>) -> Result<Id> {
        ensure!(
            self.values.len() < limit::PICKLE_STEPS,
            "the pickle creates more than {} values, so it holds more than weights",
            limit::PICKLE_STEPS
        );
        self.values.push(value);
        Ok(Id(u32::try_from(self.values.len() - 1)?))
    }

    fn push(&mut self, value: Value<'a>) -> Result<()> {
        let id = self.add(value)?;
        self.stack.push(id);
        Ok(())
    }

    /// The height set by the last MARK, below which no values may be popped.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id> {
        let above = self.stack.len() > self.floor();
        let top = self.stack.last().filter(|_| above);
        top.copied().context("the stack is empty")
    }

    fn pop(&mut self) -> Result<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn mark(&mut self) -> Result<usize> {
        self.marks.pop().context("no MARK was set")
    }
}

fn pairs(parts: &[Id]) -> Result<Vec<(Id, Id)>> {
    ensure!(parts.len().is_multiple_of(2), "a key has no value");
    let pairs = parts.as_chunks().0.iter();
    Ok(pairs.map(|[key, value]| (*key, *value)).collect())
}

/// An opcode for messages: its character as in `pickletools`, or its number.
fn name(opcode: u8) -> String {
    match opcode {
        b'R' => "REDUCE".to_owned(),
        b'b' => "BUILD".to_owned(),
        b'c' => "GLOBAL".to_owned(),
        b'X' => "BINUNICODE".to_owned(),
        0x21..=0x7e => format!("'{}'", char::from(opcode)),
        _ => format!("{opcode:#04x}"),
    }
}
