#!/usr/bin/env bash
# GCC 12.2.0: a comparison mask of AVX-512 is stored with 16 bits and read back with 32.
#
# _mm512_cmp_ps_mask returns a __mmask16, an unsigned short. Converted to int it must be
# zero-extended. In a register it is: kmovw clears the rest. But where the mask has to be kept in
# memory, as in a long unrolled loop or between the calls that -fsanitize=thread adds, GCC writes
# two bytes to the stack and reads four, from -O1 on and without a warning. The upper half is what
# the stack held: on a processor with AVX-512, five nonzero numbers were counted as 21. Kernels that
# compress numbers by such a mask then list too many of them. _cvtmask16_u32(mask) does not help,
# as it compiles to the same; __builtin_popcount((unsigned)mask << 16) counts right, since the
# shift drops the upper half.
#
# The assembly is looked at, so no processor with AVX-512 is needed. Needs Debian 12 on x86-64 with
# the libraries of any GCC; the compiler is unpacked into a temporary folder.
#
# Output:
#   gcc 12.2.0 stores WORD and reads DWORD, DWORD
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -qq -o APT::Sandbox::User=root \
  gcc-12=12.2.0-14+deb12u1 cpp-12=12.2.0-14+deb12u1 libgcc-12-dev=12.2.0-14+deb12u1
for package in *.deb; do dpkg-deb --extract "$package" tree; done
cat > count.c <<'C'
#include <immintrin.h>
int n_nonzeros(const float *numbers, int *bits) {
  __mmask16 mask = _mm512_cmp_ps_mask(_mm512_loadu_ps(numbers), _mm512_setzero_ps(), _CMP_NEQ_UQ);
  *bits = mask;
  /* Stands for code that needs every register. */
  __asm__ volatile("" ::: "k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "rax", "rbx", "rcx",
                   "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15");
  return __builtin_popcount(mask);
}
C
gcc=tree/usr/bin/x86_64-linux-gnu-gcc-12
"$gcc" -O2 -mavx512f -mavx512bw -mpopcnt -masm=intel -S -o count.s count.c
stored=$(grep -oP 'kmovw\s+\KD?WORD(?= PTR -4\[rsp\])' count.s)
loaded=$(grep -oP ', \KD?WORD(?= PTR -4\[rsp\])' count.s | paste -sd, | sed 's/,/, /g')
seen="gcc $("$gcc" -dumpfullversion) stores $stored and reads $loaded"
echo "$seen"
[ "$seen" = "gcc 12.2.0 stores WORD and reads DWORD, DWORD" ]
