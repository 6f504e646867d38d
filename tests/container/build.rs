//! Builders of malformed and malicious files.

/// A pickle of protocol 2 under construction, without its STOP.
#[derive(Clone, Default)]
pub(crate) struct Pickle(pub(crate) Vec<u8>);

impl Pickle {
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn then(self, other: &Self) -> Self {
        self.raw(&other.0)
    }

    pub(crate) fn text(self, text: &str) -> Self {
        let length = u32::try_from(text.len()).unwrap();
        self.raw(b"X")
            .raw(&length.to_le_bytes())
            .raw(text.as_bytes())
    }

    pub(crate) fn int(self, value: i64) -> Self {
        self.raw(b"\x8a\x08").raw(&value.to_le_bytes())
    }

    pub(crate) fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    pub(crate) fn ints(self, values: &[i64]) -> Self {
        let inside = values.iter().fold(self.raw(b"("), |p, &value| p.int(value));
        inside.raw(b"t")
    }

    /// A dictionary of `entries`.
    pub(crate) fn dict(self, entries: &[(&str, Pickle)]) -> Self {
        let inside = entries
            .iter()
            .fold(self.raw(b"}("), |p, (key, value)| p.text(key).then(value));
        inside.raw(b"u")
    }

    /// The whole pickle.
    pub(crate) fn stop(self) -> Vec<u8> {
        [b"\x80\x02".as_slice(), &self.0, b"."].concat()
    }
}

/// The arguments of `_rebuild_tensor_v2`; the storage is "0" with 4 f32.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) class: &'static str,
    pub(crate) key: &'static str,
    pub(crate) numel: i64,
    pub(crate) offset: i64,
    pub(crate) shape: Vec<i64>,
    pub(crate) strides: Vec<i64>,
}

impl Call {
    pub(crate) fn new(shape: &[i64], strides: &[i64]) -> Self {
        Self {
            class: "FloatStorage",
            key: "0",
            numel: 4,
            offset: 0,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
        }
    }

    pub(crate) fn pickle(&self) -> Pickle {
        let storage = Pickle::default()
            .raw(b"(")
            .text("storage")
            .global("torch", self.class)
            .text(self.key)
            .text("cpu")
            .int(self.numel)
            .raw(b"tQ");
        Pickle::default()
            .global("torch._utils", "_rebuild_tensor_v2")
            .raw(b"(")
            .then(&storage)
            .int(self.offset)
            .ints(&self.shape)
            .ints(&self.strides)
            .raw(b"\x89}tR")
    }
}

/// A valid tensor of shape [2, 2].
pub(crate) fn good() -> Pickle {
    Call::new(&[2, 2], &[2, 1]).pickle()
}

/// A zip member; fields hold what the directory claims.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
    pub(crate) method: u16,
    pub(crate) flags: u16,
    pub(crate) checksum: Option<u32>,
    pub(crate) local_name: Option<String>,
    pub(crate) stated_length: Option<u32>,
    pub(crate) header: Option<u32>,
    pub(crate) extra: Vec<u8>,
}

impl Member {
    pub(crate) fn new(name: &str, content: &[u8]) -> Self {
        Self {
            name: name.to_owned(),
            content: content.to_vec(),
            method: 0,
            flags: 0,
            checksum: None,
            local_name: None,
            stated_length: None,
            header: None,
            extra: Vec::new(),
        }
    }
}

/// A zip with `members`.
pub(crate) fn zip(members: &[Member]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut directory = Vec::new();
    for member in members {
        let start = u32::try_from(file.len()).unwrap();
        let length = u32::try_from(member.content.len()).unwrap();
        let length = member.stated_length.unwrap_or(length);
        let checksum = member.checksum.unwrap_or_else(|| crc32(&member.content));
        let numbers = |name: &str, extra: usize| {
            let mut fields = Vec::new();
            fields.extend(member.flags.to_le_bytes());
            fields.extend(member.method.to_le_bytes());
            fields.extend([0; 4]);
            fields.extend(checksum.to_le_bytes());
            fields.extend(length.to_le_bytes());
            fields.extend(length.to_le_bytes());
            fields.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
            fields.extend(u16::try_from(extra).unwrap().to_le_bytes());
            fields
        };
        let local_name = member.local_name.as_deref().unwrap_or(&member.name);
        file.extend(b"PK\x03\x04\x14\0");
        file.extend(numbers(local_name, 0));
        file.extend(local_name.as_bytes());
        file.extend(&member.content);
        directory.extend(b"PK\x01\x02\x14\0\x14\0");
        directory.extend(numbers(&member.name, member.extra.len()));
        directory.extend([0; 10]);
        directory.extend(member.header.unwrap_or(start).to_le_bytes());
        directory.extend(member.name.as_bytes());
        directory.extend(&member.extra);
    }
    let count = u16::try_from(members.len()).unwrap();
    let start = u32::try_from(file.len()).unwrap();
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend(count.to_le_bytes());
    file.extend(count.to_le_bytes());
    file.extend(u32::try_from(directory.len()).unwrap().to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0; 2]);
    file
}

/// The members of a checkpoint with `pickle` as data.pkl and 4 f32 as storage "0".
pub(crate) fn members(pickle: &[u8]) -> Vec<Member> {
    let values: Vec<u8> = [1f32, 2.0, 3.0, 4.0]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    vec![
        Member::new("m/data.pkl", pickle),
        Member::new("m/byteorder", b"little"),
        Member::new("m/data/0", &values),
    ]
}

/// A checkpoint with `pickle` as data.pkl.
pub(crate) fn checkpoint(pickle: &[u8]) -> Vec<u8> {
    zip(&members(pickle))
}

/// A safetensors file with this header and `data` zero bytes.
pub(crate) fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let length = header.len() as u64;
    [&length.to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
}

/// Opens bytes that must be refused, and returns the whole error chain.
pub(crate) fn refusal(bytes: Vec<u8>) -> String {
    match longclip::checkpoint::container::open_bytes(bytes) {
        Ok(archive) => panic!("accepted: {archive:?}"),
        Err(error) => format!("{error:#}"),
    }
}

pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc))
    })
}
