//! Finds the weights among the objects of a checkpoint.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use anyhow::{Result, bail, ensure};

use super::super::limit;
use super::super::pickle::{Id, Object, Pickle, Value};
use super::{cut, rebuild};

/// Keys under which training programs store the weights. The first that holds tensors wins, so
/// averaged weights are read only if there are no others.
const WRAPPERS: [&str; 7] = [
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "network",
    "ema",
    "model_ema",
];

/// Keys of training state, whose tensors are not weights.
const TRAINING: [&str; 19] = [
    "optimizer",
    "optimizer_state_dict",
    "optimizers",
    "optimizer_states",
    "optim",
    "lr_scheduler",
    "lr_schedulers",
    "scheduler",
    "scaler",
    "callbacks",
    "loops",
    "optimizer_state",
    "optim_state_dict",
    "scheduler_state_dict",
    "grad_scaler",
    "rng_state",
    "rng_states",
    "torch_rng_state",
    "cuda_rng_state",
];

/// Nesting depth of dictionaries searched for the weights.
const NESTED_WRAPPERS: usize = 4;

/// Maximum ignored values that a note names; the others are counted.
const NAMED: usize = 8;

/// Maximum bytes of all names together, so that a small pickle cannot create many long ones.
const NAMES_BYTES: usize = 16 << 20;

/// The weights of a checkpoint.
#[derive(Default)]
pub(super) struct Found {
    /// The calls that create them, by dotted name.
    pub(super) tensors: BTreeMap<String, Id>,
    /// Notes about other contents.
    pub(super) notes: Vec<String>,
}

/// Finds the weights: in a TorchScript program all attributes of all modules, in
/// anything else the innermost dictionary under [`WRAPPERS`], or the root itself.
pub(super) fn weights(pickle: &Pickle<'_>, script: bool) -> Result<Found> {
    let mut walk = Walk {
        pickle,
        script,
        visits: 0,
        unnamed: 0,
    };
    let mut found = Found::default();
    let mut root = pickle.root;
    for _ in 0..NESTED_WRAPPERS {
        match walk.unwrap(root, &mut found.notes)? {
            Some(inner) => root = inner,
            None => break,
        }
    }
    walk.unnamed = 0;
    let (tensors, ignored) = walk.tensors(root)?;
    ensure!(!tensors.is_empty(), no_tensors(pickle, root));
    found.tensors = tensors;
    found.notes.extend(ignored.note("not read"));
    if walk.unnamed > 0 {
        let note = format!(
            "not read: {} values whose keys are not strings",
            walk.unnamed
        );
        found.notes.push(note);
    }
    Ok(found)
}

fn no_tensors(pickle: &Pickle<'_>, root: Id) -> String {
    format!(
        "it holds {} and no named tensors; save the model's state_dict()",
        pickle.describe(root)
    )
}

/// One value of a dictionary or module.
type Child<'a> = (Cow<'a, str>, Id);

/// The name of a dictionary or module, and the index of the one around it.
struct Place<'a> {
    name: Cow<'a, str>,
    parent: Option<usize>,
    depth: usize,
}

impl<'a> Place<'a> {
    fn new(name: Cow<'a, str>, parent: Option<usize>, places: &[Self]) -> Result<Self> {
        let around = parent.and_then(|index| places.get(index));
        let depth = around.map_or(0, |place| place.depth + 1);
        ensure!(
            depth < limit::WALK_DEPTH,
            "its values are nested more than {} deep",
            limit::WALK_DEPTH
        );
        Ok(Self {
            name,
            parent,
            depth,
        })
    }
}

struct Walk<'p, 'a> {
    pickle: &'p Pickle<'a>,
    script: bool,
    visits: usize,
    /// Values under keys that are neither strings nor numbers.
    unnamed: usize,
}

impl<'a> Walk<'_, 'a> {
    /// The dictionary under the first wrapper key that holds more tensors than `root` does
    /// directly; notes what else holds weights.
    fn unwrap(&mut self, root: Id, notes: &mut Vec<String>) -> Result<Option<Id>> {
        let Value::Dict(_) = self.pickle.get(root) else {
            return Ok(None);
        };
        let children = self.children(root)?.unwrap_or_default();
        let direct = children
            .iter()
            .filter(|(_, id)| rebuild::is_tensor(self.pickle, *id))
            .count();
        let mut chosen: Option<(&str, Id)> = None;
        for wrapper in WRAPPERS {
            let Some(&(_, id)) = children.iter().find(|(key, _)| key == wrapper) else {
                continue;
            };
            if !rebuild::is_tensor(self.pickle, id) && self.tensors(id)?.0.len() > direct {
                chosen = Some((wrapper, id));
                break;
            }
        }
        let Some((wrapper, inner)) = chosen else {
            return Ok(None);
        };
        let mut ignored = Ignored::default();
        for (key, id) in children.iter().filter(|(key, _)| key != wrapper) {
            let is_state = TRAINING.contains(&key.as_ref()) || rebuild::is_tensor(self.pickle, *id);
            // Under any other name, a single tensor is a metric or a counter.
            let most = usize::from(!WRAPPERS.contains(&key.as_ref()));
            if is_state || !self.tensors(*id).is_ok_and(|(found, _)| found.len() > most) {
                continue;
            }
            ignored.add(|| cut(key), || self.pickle.describe(*id));
        }
        let elsewhere = format!("next to \"{wrapper}\" and not read");
        notes.extend(ignored.note(&elsewhere));
        Ok(Some(inner))
    }

    /// All tensors in `root` by dotted name, and notes about the rest.
    fn tensors(&mut self, root: Id) -> Result<(BTreeMap<String, Id>, Ignored)> {
        let mut found = (BTreeMap::new(), Ignored::default());
        let mut bytes = 0;
        let mut places: Vec<Place<'a>> = Vec::new();
        let mut pending = vec![(root, None)];
        while let Some((id, place)) = pending.pop() {
            let Some(children) = self.children(id)? else {
                let name = || dotted(&places, place, None).unwrap_or_default();
                found.1.add(name, || self.pickle.describe(id));
                continue;
            };
            for (key, child) in children {
                let skipped = place.is_none() && TRAINING.contains(&key.as_ref());
                if rebuild::is_tensor(self.pickle, child) {
                    let name = dotted(&places, place, Some(&key))?;
                    bytes += name.len();
                    ensure!(
                        bytes <= NAMES_BYTES,
                        "its names take more than {NAMES_BYTES} bytes"
                    );
                    limit::tensors(found.0.len())?;
                    if let Some(twice) = found.0.insert(name, child) {
                        let kind = self.pickle.describe(twice);
                        bail!("two tensors are named \"{}\" ({kind})", cut(&key));
                    }
                } else if !skipped && self.may_hold_tensors(child) {
                    places.push(Place::new(key, place, &places)?);
                    pending.push((child, Some(places.len() - 1)));
                } else if skipped || self.worth_a_note(child) {
                    let name = || dotted(&places, place, Some(&key)).unwrap_or_else(|_| cut(&key));
                    found.1.add(name, || self.pickle.describe(child));
                }
            }
        }
        Ok(found)
    }

    /// Whether `children` may find something; cheap, because every value is tested.
    fn may_hold_tensors(&self, id: Id) -> bool {
        match self.pickle.get(id) {
            Value::Dict(_) => true,
            Value::Object(object) => object.state.is_some() || !object.pairs.is_empty(),
            _ => false,
        }
    }

    /// Keeps a program's many attributes that are not tensors out of the notes.
    fn worth_a_note(&self, id: Id) -> bool {
        let small = matches!(
            self.pickle.get(id),
            Value::None | Value::Bool(_) | Value::Int(_) | Value::Float | Value::Text(_)
        );
        !(self.script && small)
    }

    /// The named parts of a dictionary or module; `None` for anything else.
    fn children(&mut self, id: Id) -> Result<Option<Vec<Child<'a>>>> {
        match self.pickle.get(id) {
            Value::Dict(pairs) => self.named(pairs).map(Some),
            Value::Object(object) => self.module(object),
            _ => Ok(None),
        }
    }

    /// The parts of a module that was pickled whole, or of a TorchScript one.
    fn module(&mut self, object: &Object) -> Result<Option<Vec<Child<'a>>>> {
        let Some(Value::Dict(state)) = object.state.map(|state| self.pickle.get(state)) else {
            return match object.pairs.as_slice() {
                [] => Ok(None),
                pairs => self.named(pairs).map(Some),
            };
        };
        let state = self.named(state)?;
        let class = self.pickle.global(object.class);
        if class.is_some_and(|(module, _)| module.starts_with("__torch__")) {
            return Ok(Some(state));
        }
        let mut parts = Vec::new();
        for name in ["_parameters", "_buffers", "_modules"] {
            let part = state.iter().find(|(key, _)| key == name);
            let Some(Value::Dict(pairs)) = part.map(|(_, id)| self.pickle.get(*id)) else {
                return Ok(None);
            };
            parts.extend(self.named(pairs)?);
            if name == "_buffers" {
                let passing = self.passing_buffers(&state);
                parts.retain(|(key, _)| !passing.contains(&key.as_ref()));
            }
        }
        parts.retain(|(_, id)| !matches!(self.pickle.get(*id), Value::None));
        Ok(Some(parts))
    }

    /// The buffers that a state dict would omit, such as masks.
    fn passing_buffers(&mut self, state: &[Child<'a>]) -> HashSet<&'a str> {
        let find = || {
            let (_, id) = state
                .iter()
                .find(|(key, _)| key == "_non_persistent_buffers_set")?;
            match self.pickle.get(*id) {
                // `set([...])`, as protocols before 4 write it.
                Value::Object(set) => {
                    let list = self.pickle.sequence(set.arguments)?.first()?;
                    self.pickle.sequence(*list)
                }
                _ => self.pickle.sequence(*id),
            }
        };
        let names = find().unwrap_or_default();
        self.visits += names.len();
        let texts = names.iter().filter_map(|&id| self.pickle.text(id));
        texts.collect()
    }

    /// The pairs with a string or a number as key; counts them as visited.
    fn named(&mut self, pairs: &[(Id, Id)]) -> Result<Vec<Child<'a>>> {
        self.visits += 1 + pairs.len();
        ensure!(
            self.visits <= limit::WALK_VISITS,
            "it holds more than {} values, so it holds more than weights",
            limit::WALK_VISITS
        );
        let child = |&(key, value): &(Id, Id)| match self.pickle.get(key) {
            Value::Text(text) => Some((Cow::Borrowed(*text), value)),
            Value::Int(number) => Some((Cow::Owned(number.to_string()), value)),
            _ => None,
        };
        let children: Vec<_> = pairs.iter().filter_map(child).collect();
        self.unnamed += pairs.len() - children.len();
        Ok(children)
    }
}

/// The dotted path of `key`: the names of everything around `place`, its own, and `key`.
fn dotted(places: &[Place<'_>], place: Option<usize>, key: Option<&str>) -> Result<String> {
    let mut parts: Vec<&str> = key.into_iter().collect();
    let mut next = place;
    while let Some(place) = next.and_then(|index| places.get(index)) {
        parts.push(&place.name);
        next = place.parent;
    }
    for part in &parts {
        limit::name(part)?; // checked before joining: a name may be as long as the file
    }
    parts.reverse();
    let name = parts.join(".");
    limit::name(&name)?;
    Ok(name)
}

/// Names what was not read.
#[derive(Default)]
struct Ignored {
    named: Vec<String>,
    others: usize,
}

impl Ignored {
    fn add(&mut self, name: impl FnOnce() -> String, describe: impl FnOnce() -> String) {
        if self.named.len() < NAMED {
            self.named.push(format!("{} ({})", name(), describe()));
        } else {
            self.others += 1;
        }
    }

    fn note(self, what: &str) -> Option<String> {
        if self.named.is_empty() {
            return None;
        }
        let others = match self.others {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        Some(format!("{what}: {}{others}", self.named.join(", ")))
    }
}
