//! Tiles on the matrix registers of x86-64 (AMX): 16 rows by 16 columns of sums in one instruction.
//!
//! The left operand is packed row by row, the right one as for vectors of 16: a group's lanes are
//! the rows of a register. No machine has run this yet, so it is used only when asked for; the
//! tests run it on `model`, a copy of the instructions in plain Rust (Intel's manual, volume 2,
//! TDPBF16PS and TDPBUSD).
#![allow(
    unsafe_code,
    reason = "matrix instructions and raw pointers; contracts are stated"
)]

use super::tile::{Ahead, Operands};

/// Lanes of a row of a matrix register.
const SIDE: usize = 16;

/// Maximum rows of a tile: two registers of sums high.
const MOST_ROWS: usize = 2 * SIDE;

/// The configuration of the eight registers, as `ldtilecfg` reads it.
#[repr(C, align(64))]
#[derive(Clone)]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Registers of sums: `height * vectors + vector`; of rows: one for each height; of weights: taken
/// in turn.
const ROWS: [usize; 2] = [4, 5];
const WEIGHTS: [usize; 2] = [6, 7];

impl Shapes {
    /// For tiles of `rows` rows and `vectors` groups.
    fn new(rows: usize, vectors: usize) -> Shapes {
        let mut shapes = Shapes {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        let mut set = |register: usize, rows: usize| {
            shapes.row_bytes[register] = (SIDE * 4) as u16;
            shapes.rows[register] = rows as u8;
        };
        let heights = [rows.min(SIDE), rows.saturating_sub(SIDE)];
        for (i, height) in heights.into_iter().enumerate().filter(|(_, h)| *h > 0) {
            set(ROWS[i], height);
            for vector in 0..vectors {
                set(i * vectors + vector, height);
            }
        }
        WEIGHTS.into_iter().for_each(|register| set(register, SIDE));
        shapes
    }
}

/// The matrix registers and their instructions; `stride` is the distance between rows in bytes.
trait Unit {
    unsafe fn configure(&mut self, shapes: &Shapes);
    unsafe fn zero<const TO: usize>(&mut self);
    unsafe fn load<const TO: usize>(&mut self, from: *const f32, stride: usize);
    /// Adds the products of `ROWS` and `WEIGHTS` to `SUMS`.
    unsafe fn dot<const BYTES: bool, const SUMS: usize, const ROWS: usize, const WEIGHTS: usize>(
        &mut self,
    );
    unsafe fn store<const FROM: usize>(&mut self, to: *mut f32, stride: usize);
    unsafe fn release(&mut self);
}

/// The CPU's own.
struct Registers;

/// Instructions that name registers by constants. Nothing else in the program uses these registers,
/// so their contents stay from one block to the next.
macro_rules! instruction {
    ($($text:literal),+ ; $($operand:tt)*) => {
        // SAFETY: the trait's caller vouches for the CPU, the shapes and the addresses.
        unsafe { std::arch::asm!($($text),+, $($operand)* options(nostack, preserves_flags)) }
    };
}

impl Unit for Registers {
    #[inline(always)]
    unsafe fn configure(&mut self, shapes: &Shapes) {
        instruction!("ldtilecfg [{}]"; in(reg) shapes,);
    }

    #[inline(always)]
    unsafe fn zero<const TO: usize>(&mut self) {
        instruction!("tilezero tmm{}"; const TO,);
    }

    #[inline(always)]
    unsafe fn load<const TO: usize>(&mut self, from: *const f32, stride: usize) {
        instruction!("tileloadd tmm{}, [{} + {} * 1]"; const TO, in(reg) from, in(reg) stride,);
    }

    #[inline(always)]
    unsafe fn dot<const BYTES: bool, const SUMS: usize, const ROWS: usize, const WEIGHTS: usize>(
        &mut self,
    ) {
        if BYTES {
            instruction!("tdpbusd tmm{}, tmm{}, tmm{}"; const SUMS, const ROWS, const WEIGHTS,);
        } else {
            instruction!("tdpbf16ps tmm{}, tmm{}, tmm{}"; const SUMS, const ROWS, const WEIGHTS,);
        }
    }

    #[inline(always)]
    unsafe fn store<const FROM: usize>(&mut self, to: *mut f32, stride: usize) {
        instruction!("tilestored [{} + {} * 1], tmm{}"; in(reg) to, in(reg) stride, const FROM,);
    }

    #[inline(always)]
    unsafe fn release(&mut self) {
        instruction!("tilerelease";);
    }
}

/// A [`Tile`](super::tiles::Tile) of any height and two groups; four for up to three rows.
///
/// # Safety
/// The CPU has AMX and the permission to use it; the operands hold what `rows` and `to_row` imply,
/// lanes padded.
pub(super) unsafe fn tile<const BYTES: bool>(
    operands: &Operands,
    _ahead: &mut Ahead,
    to: *mut f32,
) {
    // SAFETY: the caller's promises; the model is used where tests run without the instructions.
    unsafe {
        #[cfg(test)]
        if !has_registers() {
            return sums::<model::Model, BYTES>(&mut model::Model::default(), operands, to);
        }
        sums::<Registers, BYTES>(&mut Registers, operands, to)
    }
}

/// The sums of a tile on `unit`.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn sums<U: Unit, const BYTES: bool>(unit: &mut U, operands: &Operands, to: *mut f32) {
    let Operands { lanes, rows, .. } = *operands;
    let vectors = operands.to_row / SIDE;
    let (tall, wide) = (rows > SIDE, vectors == 4);
    debug_assert!(rows <= MOST_ROWS && lanes % SIDE == 0 && !(tall && wide));
    // SAFETY: registers as configured; addresses inside the operands and the tile of sums.
    unsafe {
        unit.configure(&Shapes::new(rows, vectors));
        unit.zero::<0>();
        unit.zero::<1>();
        if tall || wide {
            unit.zero::<2>();
            unit.zero::<3>();
        }
        for step in (0..lanes).step_by(SIDE) {
            let a = operands.a.add(step);
            let b = |vector: usize| operands.b.add(vector * operands.b_vector + step * SIDE);
            unit.load::<4>(a, lanes * 4);
            unit.load::<6>(b(0), SIDE * 4);
            unit.dot::<BYTES, 0, 4, 6>();
            unit.load::<7>(b(1), SIDE * 4);
            unit.dot::<BYTES, 1, 4, 7>();
            if tall {
                unit.load::<5>(a.add(SIDE * lanes), lanes * 4);
                unit.dot::<BYTES, 2, 5, 6>();
                unit.dot::<BYTES, 3, 5, 7>();
            } else if wide {
                unit.load::<6>(b(2), SIDE * 4);
                unit.dot::<BYTES, 2, 4, 6>();
                unit.load::<7>(b(3), SIDE * 4);
                unit.dot::<BYTES, 3, 4, 7>();
            }
        }
        let stride = operands.to_row * 4;
        unit.store::<0>(to, stride);
        unit.store::<1>(to.add(SIDE), stride);
        if tall || wide {
            let second = if tall {
                SIDE * operands.to_row
            } else {
                2 * SIDE
            };
            unit.store::<2>(to.add(second), stride);
            unit.store::<3>(to.add(second + SIDE), stride);
        }
        unit.release();
    }
}

/// Whether this CPU has AMX with bf16 and bytes and the system lets this process use it, for which
/// it must be asked. Asked once.
pub(in crate::kernel) fn has_registers() -> bool {
    static FOUND: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *FOUND.get_or_init(|| {
        const BF16_TILE_INT8: u32 = 1 << 22 | 1 << 24 | 1 << 25;
        // CPUID leaf 7: EDX bits 22, 24 and 25.
        let found = std::arch::x86_64::__cpuid_count(7, 0).edx & BF16_TILE_INT8;
        found == BF16_TILE_INT8 && permitted()
    })
}

/// Asks Linux for the registers' state: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_PRCTL: isize = 158;
    let mut result = ARCH_PRCTL;
    // SAFETY: a system call that reads no memory of this process.
    unsafe {
        std::arch::asm!(
            "syscall", inout("rax") result, in("rdi") 0x1023, in("rsi") 18,
            out("rcx") _, out("r11") _, options(nostack)
        );
    }
    result == 0
}

/// Other systems: not known.
#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// The instructions in plain Rust.
#[cfg(test)]
mod model {
    use super::{SIDE, Shapes, Unit};

    #[derive(Default)]
    pub(super) struct Model {
        shapes: Option<Shapes>,
        /// Rows of lanes of each register.
        registers: [[[u32; SIDE]; SIDE]; 8],
    }

    impl Model {
        fn rows(&self, register: usize) -> usize {
            let shapes = self.shapes.as_ref().expect("registers without shapes");
            assert_eq!(usize::from(shapes.row_bytes[register]), 4 * SIDE);
            usize::from(shapes.rows[register])
        }
    }

    /// The two bf16 of a lane; denormals count as 0.
    fn halves(lane: u32) -> [f32; 2] {
        [lane << 16, lane & 0xffff_0000].map(|bits| flushed(f32::from_bits(bits)))
    }

    fn flushed(x: f32) -> f32 {
        if x.is_subnormal() { 0.0 * x } else { x }
    }

    impl Unit for Model {
        unsafe fn configure(&mut self, shapes: &Shapes) {
            assert_eq!((shapes.palette, shapes.start_row), (1, 0));
            assert!(shapes.rows.iter().all(|rows| usize::from(*rows) <= SIDE));
            self.shapes = Some(shapes.clone());
        }

        unsafe fn zero<const TO: usize>(&mut self) {
            assert!(self.rows(TO) > 0);
            self.registers[TO] = [[0; SIDE]; SIDE];
        }

        unsafe fn load<const TO: usize>(&mut self, from: *const f32, stride: usize) {
            let rows = self.rows(TO);
            assert!(rows > 0);
            self.registers[TO] = [[0; SIDE]; SIDE];
            for (row, lanes) in self.registers[TO].iter_mut().enumerate().take(rows) {
                // SAFETY: the caller vouches for the rows.
                *lanes = unsafe { from.byte_add(row * stride).cast::<[u32; SIDE]>().read() };
            }
        }

        unsafe fn dot<
            const BYTES: bool,
            const SUMS: usize,
            const ROWS: usize,
            const WEIGHTS: usize,
        >(
            &mut self,
        ) {
            assert_eq!(self.rows(SUMS), self.rows(ROWS));
            assert_eq!(self.rows(WEIGHTS), SIDE);
            for row in 0..self.rows(ROWS) {
                let mut even = [0f32; SIDE];
                let mut odd = [0f32; SIDE];
                for k in 0..SIDE {
                    for n in 0..SIDE {
                        let (a, b) = (self.registers[ROWS][row][k], self.registers[WEIGHTS][k][n]);
                        let sum = &mut self.registers[SUMS][row][n];
                        if BYTES {
                            for (a, b) in a.to_le_bytes().into_iter().zip(b.to_le_bytes()) {
                                let product = i32::from(a) * i32::from(b as i8);
                                *sum = sum.wrapping_add(product as u32);
                            }
                        } else {
                            let ([a0, a1], [b0, b1]) = (halves(a), halves(b));
                            even[n] = flushed(a0.mul_add(b0, even[n]));
                            odd[n] = flushed(a1.mul_add(b1, odd[n]));
                        }
                    }
                }
                if !BYTES {
                    for n in 0..SIDE {
                        let sum = f32::from_bits(self.registers[SUMS][row][n]);
                        let both = flushed(even[n] + odd[n]);
                        self.registers[SUMS][row][n] = flushed(flushed(sum) + both).to_bits();
                    }
                }
            }
        }

        unsafe fn store<const FROM: usize>(&mut self, to: *mut f32, stride: usize) {
            for row in 0..self.rows(FROM) {
                let lanes = self.registers[FROM][row];
                // SAFETY: the caller vouches for the rows.
                unsafe { to.byte_add(row * stride).cast::<[u32; SIDE]>().write(lanes) };
            }
        }

        unsafe fn release(&mut self) {
            self.shapes = None;
        }
    }
}
