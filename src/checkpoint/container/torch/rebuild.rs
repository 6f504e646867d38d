//! `torch._utils._rebuild_tensor_v2(...)` as recorded by a pickle -> a tensor.

use anyhow::{Context, Result, bail, ensure};

use super::super::pickle::{Id, Pickle, Value};
use super::super::tensor::{Dtype, StoredTensor};
use super::FindStorage;

/// Maximum wrappers around a tensor: a parameter, and a type around it.
const WRAPPERS: usize = 8;

/// A storage as described by a pickle, in a persistent id
/// `("storage", class, key, device, elements)`.
pub(super) struct StorageName<'a> {
    /// Element type, or bytes for an untyped storage.
    pub(super) dtype: Dtype,
    /// Bytes of one element, if known.
    pub(super) unit: Option<usize>,
    /// Its name in the file.
    pub(super) key: &'a str,
    /// How many elements it holds.
    pub(super) elements: usize,
}

/// Builds tensors from the calls in a pickle.
pub(super) struct Rebuilder<'p> {
    pub(super) pickle: &'p Pickle<'p>,
    pub(super) find: &'p FindStorage<'p>,
}

/// Whether `id` is a call that creates a tensor.
pub(super) fn is_tensor(pickle: &Pickle<'_>, id: Id) -> bool {
    let Value::Object(object) = pickle.get(id) else {
        return false;
    };
    match pickle.global(object.class) {
        Some(("torch._utils", name)) => name.starts_with("_rebuild_"),
        Some(("torch._tensor", name)) => name.starts_with("_rebuild_from_type"),
        _ => false,
    }
}

impl<'p> Rebuilder<'p> {
    /// The tensor that the call `id` creates, as a view of its storage.
    pub(super) fn tensor(&self, id: Id) -> Result<StoredTensor> {
        let Value::Object(object) = self.pickle.get(id) else {
            bail!("it is {}, not a tensor", self.pickle.describe(id));
        };
        let (mut function, mut arguments) = (object.class, object.arguments);
        for _ in 0..WRAPPERS {
            let name = self.pickle.global(function).map(|(_, name)| name);
            let given = self.pickle.sequence(arguments).unwrap_or_default();
            match (name.unwrap_or_default(), given) {
                ("_rebuild_parameter" | "_rebuild_parameter_with_state", [data, ..]) => {
                    let Value::Object(object) = self.pickle.get(*data) else {
                        bail!("its parameter is {}", self.pickle.describe(*data));
                    };
                    (function, arguments) = (object.class, object.arguments);
                }
                ("_rebuild_from_type_v2" | "_rebuild_from_type", [inner, _, given, ..]) => {
                    (function, arguments) = (*inner, *given);
                }
                (name, given) => return self.call(name, given),
            }
        }
        bail!("it is wrapped more than {WRAPPERS} times")
    }

    fn call(&self, name: &str, given: &[Id]) -> Result<StoredTensor> {
        match (name, given) {
            ("_rebuild_tensor" | "_rebuild_tensor_v2", [storage, offset, shape, strides, ..]) => {
                let storage = self.storage_name(*storage)?;
                let dtype = storage.dtype;
                self.view(dtype, &storage, [*offset, *shape, *strides])
            }
            ("_rebuild_tensor_v3", [storage, offset, shape, strides, _, _, dtype, ..]) => {
                let storage = self.storage_name(*storage)?;
                let dtype = self.pickle.global(*dtype);
                let dtype = dtype.context("its element type is missing")?.1;
                self.view(element_type(dtype), &storage, [*offset, *shape, *strides])
            }
            ("_rebuild_qtensor", [_, _, shape, ..]) => {
                StoredTensor::unsupported("quantised", self.sizes(*shape)?)
            }
            ("_rebuild_meta_tensor_no_storage", [_, shape, ..]) => {
                StoredTensor::unsupported("without values", self.sizes(*shape)?)
            }
            ("_rebuild_sparse_tensor", _) => StoredTensor::unsupported("sparse", Vec::new()),
            (name, _) if name.starts_with("_rebuild_") => {
                StoredTensor::unsupported("unknown", Vec::new())
            }
            _ => bail!("it is created by a function that does not return a tensor"),
        }
    }

    fn view(
        &self,
        dtype: Dtype,
        storage: &StorageName<'_>,
        [offset, shape, strides]: [Id; 3],
    ) -> Result<StoredTensor> {
        let shape = self.sizes(shape).context("its shape")?;
        if let Dtype::Unsupported(name) = dtype {
            return StoredTensor::unsupported(name, shape);
        }
        let unit = storage
            .unit
            .with_context(|| format!("its storage has elements {}", storage.dtype))?;
        let strides = self.sizes(strides).context("its strides")?;
        let offset = self.pickle.size(offset).with_context(|| {
            format!(
                "its offset is {}, not a count",
                self.pickle.describe(offset)
            )
        })?;
        let bytes = storage
            .elements
            .checked_mul(unit)
            .with_context(|| format!("its storage claims {} elements", storage.elements))?;
        let found = (self.find)(storage).with_context(|| format!("storage \"{}\"", storage.key))?;
        let found = found.first(bytes).with_context(|| {
            format!(
                "storage \"{}\" should hold {bytes} bytes but holds {}; the file is damaged",
                storage.key,
                found.length()
            )
        })?;
        StoredTensor::new(dtype, found, offset, shape, strides)
    }

    /// The storage that the persistent id `id` describes.
    pub(super) fn storage_name(&self, id: Id) -> Result<StorageName<'p>> {
        let Value::Persistent(id) = self.pickle.get(id) else {
            bail!("its storage is {}", self.pickle.describe(id));
        };
        storage_name(self.pickle, *id)?.context("it refers to something that is not a storage")
    }

    /// A tuple of sizes or strides, none negative.
    fn sizes(&self, id: Id) -> Result<Vec<usize>> {
        let mut id = id;
        if let Value::Object(object) = self.pickle.get(id)
            && self.pickle.global(object.class) == Some(("torch", "Size"))
            && let Some([sizes]) = self.pickle.sequence(object.arguments)
        {
            id = *sizes;
        }
        let items = self
            .pickle
            .sequence(id)
            .context("it is not a list of sizes")?;
        ensure!(items.len() <= 64, "it has {} dimensions", items.len());
        items
            .iter()
            .map(|&item| {
                self.pickle
                    .size(item)
                    .with_context(|| match self.pickle.get(item) {
                        Value::Int(value) => format!("{value} is negative"),
                        _ => format!("{} is not a size", self.pickle.describe(item)),
                    })
            })
            .collect()
    }
}

/// The storage that the tuple of a persistent id names; `None` for anything else.
pub(super) fn storage_name<'a>(pickle: &Pickle<'a>, id: Id) -> Result<Option<StorageName<'a>>> {
    let Some([tag, class, key, _device, elements, rest @ ..]) = pickle.sequence(id) else {
        return Ok(None);
    };
    if pickle.text(*tag) != Some("storage") {
        return Ok(None);
    }
    let class = pickle.global(*class).context("a storage has no class")?.1;
    let key = pickle.text(*key).context("a storage has no name")?;
    let elements = pickle
        .size(*elements)
        .with_context(|| format!("storage \"{key}\" has no size"))?;
    let plain = rest.iter().all(|&id| matches!(pickle.get(id), Value::None));
    ensure!(
        plain,
        "storage \"{key}\" is a view of another, as PyTorch wrote before 0.4; load and save it with a newer one"
    );
    let (dtype, unit) = storage_type(class);
    Ok(Some(StorageName {
        dtype,
        unit,
        key,
        elements,
    }))
}

/// The element type of a storage class such as `FloatStorage`, and its bytes.
fn storage_type(class: &str) -> (Dtype, Option<usize>) {
    let dtype = match class {
        "DoubleStorage" => Dtype::F64,
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::Bf16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" | "UntypedStorage" => Dtype::U8,
        "BoolStorage" => Dtype::Bool,
        "ComplexFloatStorage" => return (Dtype::Unsupported("complex64"), Some(8)),
        "ComplexDoubleStorage" => return (Dtype::Unsupported("complex128"), Some(16)),
        "QInt8Storage" | "QUInt8Storage" => return (Dtype::Unsupported("quantised"), Some(1)),
        "QInt32Storage" => return (Dtype::Unsupported("quantised"), Some(4)),
        _ => Dtype::Unsupported("unknown"),
    };
    (dtype, dtype.size())
}

/// The element type of `torch.<name>`.
fn element_type(name: &str) -> Dtype {
    match name {
        "float64" | "double" => Dtype::F64,
        "float32" | "float" => Dtype::F32,
        "float16" | "half" => Dtype::F16,
        "bfloat16" => Dtype::Bf16,
        "int64" | "long" => Dtype::I64,
        "int32" | "int" => Dtype::I32,
        "int16" | "short" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint8" => Dtype::U8,
        "bool" => Dtype::Bool,
        "uint16" => Dtype::Unsupported("u16"),
        "uint32" => Dtype::Unsupported("u32"),
        "uint64" => Dtype::Unsupported("u64"),
        "float8_e4m3fn" => Dtype::Unsupported("float8_e4m3fn"),
        "float8_e5m2" => Dtype::Unsupported("float8_e5m2"),
        "float8_e4m3fnuz" => Dtype::Unsupported("float8_e4m3fnuz"),
        "float8_e5m2fnuz" => Dtype::Unsupported("float8_e5m2fnuz"),
        "float8_e8m0fnu" => Dtype::Unsupported("float8_e8m0fnu"),
        _ => Dtype::Unsupported("unknown"),
    }
}
