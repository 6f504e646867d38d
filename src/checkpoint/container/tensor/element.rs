//! Stored elements -> f32: inner loops, one per element type.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// One element type of a file: little endian, of any alignment.
pub(super) trait Element {
    /// Bytes of one element.
    const SIZE: usize;

    /// The element that `bytes` (exactly `SIZE` of them) hold.
    fn read(bytes: &[u8]) -> f32;

    /// Converts `out.len()` adjacent elements; `bytes` is `SIZE` times as long.
    fn convert(bytes: &[u8], out: &mut [f32]) {
        for (value, bytes) in out.iter_mut().zip(bytes.chunks_exact(Self::SIZE)) {
            *value = Self::read(bytes);
        }
    }
}

/// The element types of [`Element`], and how to read one.
macro_rules! elements {
    ($($name:ident: $size:literal, $bytes:ident => $value:expr;)*) => {$(
        /// An element type.
        pub(super) struct $name;
        impl Element for $name {
            const SIZE: usize = $size;
            #[inline(always)]
            fn read(bytes: &[u8]) -> f32 {
                let mut $bytes = [0u8; $size];
                $bytes.copy_from_slice(bytes);
                $value
            }
        }
    )*};
}

elements! {
    F64: 8, b => f64::from_le_bytes(b) as f32;
    F32: 4, b => f32::from_le_bytes(b);
    Bf16: 2, b => f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16);
    I64: 8, b => i64::from_le_bytes(b) as f32;
    I32: 4, b => i32::from_le_bytes(b) as f32;
    I16: 2, b => f32::from(i16::from_le_bytes(b));
    I8: 1, b => f32::from(i8::from_le_bytes(b));
    U8: 1, b => f32::from(b[0]);
    Bool: 1, b => f32::from(u8::from(b[0] != 0));
}

/// Half precision, converted with the processor's instruction if it has one.
pub(super) struct F16;

impl Element for F16 {
    const SIZE: usize = 2;

    fn read(bytes: &[u8]) -> f32 {
        f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
    }

    fn convert(bytes: &[u8], out: &mut [f32]) {
        // The vector routine needs aligned halves, hence a buffer that fits the L1 cache.
        let mut halves = [f16::ZERO; 512];
        for (out, bytes) in out.chunks_mut(512).zip(bytes.chunks(1024)) {
            let halves = &mut halves[..out.len()];
            for (half, bytes) in halves.iter_mut().zip(bytes.chunks_exact(2)) {
                *half = f16::from_le_bytes([bytes[0], bytes[1]]);
            }
            halves.convert_to_f32_slice(out);
        }
    }
}
