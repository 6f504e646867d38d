/* The peak of one core in f32, for limit.py: a loop of independent fused multiply-adds.
 *
 *   cc -O2 peak.c -o peak && ./peak
 *
 * Prints GFLOP/s with 256-bit and, where there are any, with 512-bit vectors.
 */
#include <stdio.h>
#include <time.h>

#define ROUNDS 100000000L
#define LOOP(name, lanes, r)                                                                     \
    static void name(void) {                                                                     \
        struct timespec start, end;                                                              \
        long left = ROUNDS;                                                                      \
        clock_gettime(CLOCK_MONOTONIC, &start);                                                  \
        __asm__ volatile(                                                                        \
            "1:\n" F(r, 0) F(r, 1) F(r, 2) F(r, 3) F(r, 4) F(r, 5) F(r, 6) F(r, 7) F(r, 8)       \
            F(r, 9) "dec %0\njnz 1b\n"                                                           \
            : "+r"(left)::"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", \
              "xmm9", "cc");                                                                     \
        clock_gettime(CLOCK_MONOTONIC, &end);                                                    \
        double seconds = end.tv_sec - start.tv_sec + (end.tv_nsec - start.tv_nsec) * 1e-9;       \
        printf("%d bits: %.0f GFLOP/s\n", 32 * lanes, 2.0 * lanes * 10 * ROUNDS / seconds / 1e9); \
    }
#define F(r, i) "vfmadd231ps %%" r "15, %%" r "14, %%" r #i "\n"

LOOP(narrow, 8, "ymm")
LOOP(wide, 16, "zmm")

int main(void) {
    narrow();
    if (__builtin_cpu_supports("avx512f"))
        wide();
    return 0;
}
