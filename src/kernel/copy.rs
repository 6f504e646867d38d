//! `memcpy` and `memmove` of the static program. musl's copies the last bytes of each block one by
//! one and starts a string instruction for the shortest ones, which costs the towers 4 to 7%; glibc
//! has its own for each CPU. Assembly, since a compiler turns a copying loop into a call of `memcpy`.
#![allow(unsafe_code, reason = "defines symbols of the C library")]

use std::arch::global_asm;

// rdi: target, rsi: source, rdx: bytes; returns the target in rax. Blocks of up to 128 bytes are
// read whole before anything is written, so they may overlap. Longer ones are copied upwards, or
// downwards if the target begins inside the source; the ends that the loop misses are read before
// it and written after it.
global_asm!(
    ".pushsection .text.longclip_copy,\"ax\",@progbits",
    ".p2align 6",
    ".globl longclip_copy",
    ".hidden longclip_copy",
    ".type longclip_copy,@function",
    "longclip_copy:",
    "mov rax, rdi",
    "cmp rdx, 16",
    "jb 20f",
    "cmp rdx, 32",
    "ja 30f",
    "movups xmm0, [rsi]",
    "movups xmm1, [rsi + rdx - 16]",
    "movups [rdi], xmm0",
    "movups [rdi + rdx - 16], xmm1",
    "ret",
    // Less than 16.
    "20:",
    "cmp edx, 8",
    "jb 21f",
    "mov rcx, [rsi]",
    "mov r8, [rsi + rdx - 8]",
    "mov [rdi], rcx",
    "mov [rdi + rdx - 8], r8",
    "ret",
    "21:",
    "cmp edx, 4",
    "jb 22f",
    "mov ecx, [rsi]",
    "mov r8d, [rsi + rdx - 4]",
    "mov [rdi], ecx",
    "mov [rdi + rdx - 4], r8d",
    "ret",
    "22:",
    "test edx, edx",
    "jz 23f",
    "mov r9, rdx",
    "shr r9",
    "movzx ecx, byte ptr [rsi]",
    "movzx r8d, byte ptr [rsi + r9]",
    "movzx r10d, byte ptr [rsi + rdx - 1]",
    "mov [rdi], cl",
    "mov [rdi + r9], r8b",
    "mov [rdi + rdx - 1], r10b",
    "23:",
    "ret",
    // 33 to 128.
    "30:",
    "cmp rdx, 128",
    "ja 40f",
    "movups xmm0, [rsi]",
    "movups xmm1, [rsi + 16]",
    "movups xmm2, [rsi + rdx - 32]",
    "movups xmm3, [rsi + rdx - 16]",
    "cmp edx, 64",
    "jbe 31f",
    "movups xmm4, [rsi + 32]",
    "movups xmm5, [rsi + 48]",
    "movups xmm6, [rsi + rdx - 64]",
    "movups xmm7, [rsi + rdx - 48]",
    "movups [rdi + 32], xmm4",
    "movups [rdi + 48], xmm5",
    "movups [rdi + rdx - 64], xmm6",
    "movups [rdi + rdx - 48], xmm7",
    "31:",
    "movups [rdi], xmm0",
    "movups [rdi + 16], xmm1",
    "movups [rdi + rdx - 32], xmm2",
    "movups [rdi + rdx - 16], xmm3",
    "ret",
    // More: the last 64 bytes wait in xmm4 to xmm7, or the first, if copied downwards.
    "40:",
    "mov rcx, rdi",
    "sub rcx, rsi",
    "je 43f",
    "cmp rcx, rdx",
    "jb 50f",
    "movups xmm8, [rsi]",
    "movups xmm4, [rsi + rdx - 64]",
    "movups xmm5, [rsi + rdx - 48]",
    "movups xmm6, [rsi + rdx - 32]",
    "movups xmm7, [rsi + rdx - 16]",
    "lea r9, [rdi + rdx - 64]",
    // From here on the target is aligned.
    "mov r10, rdi",
    "lea rdi, [rdi + 16]",
    "and rdi, -16",
    "mov rcx, rdi",
    "sub rcx, r10",
    "add rsi, rcx",
    "mov rcx, r9",
    "sub rcx, rdi",
    "cmp rcx, 4096",
    "ja 42f",
    ".p2align 4",
    "41:",
    "movups xmm0, [rsi]",
    "movups xmm1, [rsi + 16]",
    "movups xmm2, [rsi + 32]",
    "movups xmm3, [rsi + 48]",
    "add rsi, 64",
    "movaps [rdi], xmm0",
    "movaps [rdi + 16], xmm1",
    "movaps [rdi + 32], xmm2",
    "movaps [rdi + 48], xmm3",
    "add rdi, 64",
    "cmp rdi, r9",
    "jb 41b",
    "44:",
    "movups [r9], xmm4",
    "movups [r9 + 16], xmm5",
    "movups [r9 + 32], xmm6",
    "movups [r9 + 48], xmm7",
    "movups [r10], xmm8",
    "43:",
    "ret",
    // All words before the last 64 bytes.
    "42:",
    "add rcx, 7",
    "shr rcx, 3",
    "rep movsq",
    "jmp 44b",
    "50:",
    "movups xmm4, [rsi]",
    "movups xmm5, [rsi + 16]",
    "movups xmm6, [rsi + 32]",
    "movups xmm7, [rsi + 48]",
    ".p2align 4",
    "51:",
    "movups xmm0, [rsi + rdx - 16]",
    "movups xmm1, [rsi + rdx - 32]",
    "movups xmm2, [rsi + rdx - 48]",
    "movups xmm3, [rsi + rdx - 64]",
    "movups [rdi + rdx - 16], xmm0",
    "movups [rdi + rdx - 32], xmm1",
    "movups [rdi + rdx - 48], xmm2",
    "movups [rdi + rdx - 64], xmm3",
    "sub rdx, 64",
    "cmp rdx, 64",
    "ja 51b",
    "movups [rdi], xmm4",
    "movups [rdi + 16], xmm5",
    "movups [rdi + 32], xmm6",
    "movups [rdi + 48], xmm7",
    "ret",
    ".size longclip_copy, . - longclip_copy",
    ".popsection",
);

// Both, since musl's object of each defines what the other's needs.
#[cfg(target_env = "musl")]
global_asm!(
    ".globl memcpy",
    ".set memcpy, longclip_copy",
    ".globl memmove",
    ".set memmove, longclip_copy",
);

#[cfg(test)]
mod tests {
    unsafe extern "C" {
        fn longclip_copy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8;
    }

    /// Copies inside a buffer and compares with the standard library.
    fn check(from: usize, to: usize, bytes: usize) {
        let whole: Vec<u8> = (0..16_384_u32).map(|i| (i * 31 + (i >> 8)) as u8).collect();
        let mut expected = whole.clone();
        expected.copy_within(from..from + bytes, to);
        let mut found = whole;
        let target = &raw mut found[to];
        // SAFETY: both ranges lie in the buffer.
        let result = unsafe { longclip_copy(target, found.as_ptr().add(from), bytes) };
        assert_eq!(result, target);
        assert!(found == expected, "{bytes} bytes from {from} to {to}");
    }

    #[test]
    fn every_length_is_copied_at_every_alignment() {
        for bytes in (0..300).chain([1000, 4095, 4160, 4161, 4200, 7000]) {
            for shift in 0..17 {
                check(16, 9000 + shift, bytes);
                check(16 + shift, 9000, bytes);
            }
        }
    }

    #[test]
    fn source_and_target_may_overlap() {
        for bytes in [
            1, 3, 7, 15, 31, 33, 64, 65, 128, 129, 191, 192, 200, 1000, 4300, 7000,
        ] {
            for distance in (0..70).chain([100, 127, 128, 129, 1000, 4500]) {
                check(4600, 4600 - distance, bytes);
                check(4600 - distance, 4600, bytes);
            }
        }
    }
}
