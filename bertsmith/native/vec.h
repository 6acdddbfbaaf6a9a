// The processor's vectors under one set of names: W floats each, 16 with AVX-512 and 8 with AVX2.
//
// Every source of the kernel is compiled once for each instruction set, into a namespace of its own (BS_ISA).
#pragma once
#include <immintrin.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define BS_INLINE static inline __attribute__((always_inline))
#define BS_INLINE_MEMBER __attribute__((always_inline)) inline
#define BS_UNROLL _Pragma("clang loop unroll(full)")

namespace BS_ISA {

#ifdef __AVX512F__

constexpr int W = 16;
using vf = __m512;   // W floats
using vi = __m512i;  // W dwords
using mask = __mmask16;

BS_INLINE vf zero() { return _mm512_setzero_ps(); }
BS_INLINE vf all(float x) { return _mm512_set1_ps(x); }
BS_INLINE vf load(const float* p) { return _mm512_loadu_ps(p); }
BS_INLINE void store(float* p, vf x) { _mm512_storeu_ps(p, x); }
BS_INLINE vf fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
BS_INLINE vf max(vf a, vf b) { return _mm512_max_ps(a, b); }
BS_INLINE vf min(vf a, vf b) { return _mm512_min_ps(a, b); }
BS_INLINE vf abs(vf a) { return _mm512_abs_ps(a); }
BS_INLINE vf round(vf a) { return _mm512_roundscale_ps(a, 8); }
BS_INLINE vf times_power_of_two(vf a, vf whole) { return _mm512_scalef_ps(a, whole); }
BS_INLINE float sum(vf a) { return _mm512_reduce_add_ps(a); }
BS_INLINE float largest(vf a) { return _mm512_reduce_max_ps(a); }
BS_INLINE vf swap_neighbours(vf a) { return _mm512_permute_ps(a, 0xB1); }  // lanes 1 0 3 2 ...

BS_INLINE vi loadi(const void* p) { return _mm512_loadu_si512(p); }
BS_INLINE void storei(void* p, vi x) { _mm512_storeu_si512(p, x); }
BS_INLINE vi alli(uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
BS_INLINE vi zeroi() { return _mm512_setzero_si512(); }
BS_INLINE vf to_float(vi a) { return _mm512_cvtepi32_ps(a); }
BS_INLINE vf as_float(vi a) { return _mm512_castsi512_ps(a); }
BS_INLINE vi as_int(vf a) { return _mm512_castps_si512(a); }

// Lane i where low <= first + i < high.
BS_INLINE mask within(int first, int low, int high) {
  int a = low - first, b = high - first;
  a = a < 0 ? 0 : a > W ? W : a, b = b < 0 ? 0 : b > W ? W : b;
  return static_cast<mask>(((1u << b) - 1u) & ~((1u << a) - 1u));
}
BS_INLINE mask positive(vf a) { return _mm512_cmp_ps_mask(a, zero(), _CMP_GT_OQ); }
BS_INLINE vf pick(mask m, vf yes, vf no) { return _mm512_mask_blend_ps(m, no, yes); }

BS_INLINE void store_half(uint16_t* p, vf x) { _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(x, 8)); }
BS_INLINE vf load_half(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
// x, rounded and clamped to [0, 255] or [-127, 127], as bytes; the second with 128 added.
BS_INLINE void store_u8(uint8_t* p, vf x) { _mm_storeu_si128((__m128i*)p, _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(x))); }
BS_INLINE void store_s8(uint8_t* p, vf x) {
  __m128i bytes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x));
  _mm_storeu_si128((__m128i*)p, _mm_xor_si128(bytes, _mm_set1_epi8((char)0x80)));
}
#ifdef __AVX512BF16__
constexpr bool HAS_BF16 = true;
BS_INLINE void store_bf16(uint16_t* p, vf x) { _mm256_storeu_si256((__m256i*)p, (__m256i)_mm512_cvtneps_pbh(x)); }
BS_INLINE vf load_bf16(const uint16_t* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16));
}
// The same past the caches; gives what is now there.
BS_INLINE vf stream_bf16(uint16_t* p, vf x) {
  const __m256i rounded = (__m256i)_mm512_cvtneps_pbh(x);
  _mm256_stream_si256((__m256i*)p, rounded);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(rounded), 16));
}
BS_INLINE vf dot_bf16(vf c, vi a, vi b) { return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b); }
#else
constexpr bool HAS_BF16 = false;
#endif
#ifdef __AVX512VNNI__
BS_INLINE vi dot_u8s8(vi c, vi a, vi b) { return _mm512_dpbusd_epi32(c, a, b); }
#else
BS_INLINE vi dot_u8s8(vi c, vi a, vi b) {  // by hand; pairs of products do not fit 16 bits, so that both halves are widened
  vi low = _mm512_madd_epi16(_mm512_and_si512(a, _mm512_set1_epi16(255)), _mm512_srai_epi16(_mm512_slli_epi16(b, 8), 8));
  vi high = _mm512_madd_epi16(_mm512_srli_epi16(a, 8), _mm512_srai_epi16(b, 8));
  return _mm512_add_epi32(c, _mm512_add_epi32(low, high));
}
#endif

// r[i] lane j <-> r[j] lane i.
BS_INLINE void transpose(vi (&r)[W]) {
  vi t[W];
  BS_UNROLL
  for (int i = 0; i < 8; i++) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
  BS_UNROLL
  for (int i = 0; i < 4; i++) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  BS_UNROLL
  for (int i = 0; i < 4; i++) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  BS_UNROLL
  for (int i = 0; i < 4; i++) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

// a0 b0 a1 b1 ... of two rows of 32 halves: what a dot product over pairs of rows reads.
BS_INLINE void interleave(vi a, vi b, vi& first, vi& second) {
  alignas(64) static const uint16_t places[64] = {
      0,  32, 1,  33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39, 8,  40, 9,  41, 10, 42,
      11, 43, 12, 44, 13, 45, 14, 46, 15, 47, 16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53,
      22, 54, 23, 55, 24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63};
  first = _mm512_permutex2var_epi16(a, loadi(places), b);
  second = _mm512_permutex2var_epi16(a, loadi(places + 32), b);
}

#else  // AVX2

constexpr int W = 8;
using vf = __m256;
using vi = __m256i;
using mask = __m256;

BS_INLINE vf zero() { return _mm256_setzero_ps(); }
BS_INLINE vf all(float x) { return _mm256_set1_ps(x); }
BS_INLINE vf load(const float* p) { return _mm256_loadu_ps(p); }
BS_INLINE void store(float* p, vf x) { _mm256_storeu_ps(p, x); }
BS_INLINE vf fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
BS_INLINE vf max(vf a, vf b) { return _mm256_max_ps(a, b); }
BS_INLINE vf min(vf a, vf b) { return _mm256_min_ps(a, b); }
BS_INLINE vf abs(vf a) { return _mm256_andnot_ps(all(-0.f), a); }
BS_INLINE vf round(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
BS_INLINE vf times_power_of_two(vf a, vf whole) {  // 2^-126 and less counts as 0
  vf held = max(whole, all(-127.f));
  return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(held), _mm256_set1_epi32(127)), 23)));
}
BS_INLINE float sum(vf a) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
BS_INLINE float largest(vf a) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
BS_INLINE vf swap_neighbours(vf a) { return _mm256_permute_ps(a, 0xB1); }

BS_INLINE vi loadi(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }
BS_INLINE void storei(void* p, vi x) { _mm256_storeu_si256((__m256i*)p, x); }
BS_INLINE vi alli(uint32_t x) { return _mm256_set1_epi32(static_cast<int>(x)); }
BS_INLINE vi zeroi() { return _mm256_setzero_si256(); }
BS_INLINE vf to_float(vi a) { return _mm256_cvtepi32_ps(a); }
BS_INLINE vf as_float(vi a) { return _mm256_castsi256_ps(a); }
BS_INLINE vi as_int(vf a) { return _mm256_castps_si256(a); }

BS_INLINE mask within(int first, int low, int high) {
  vi lane = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(first));
  vi in = _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(low), lane), _mm256_cmpgt_epi32(_mm256_set1_epi32(high), lane));
  return _mm256_castsi256_ps(in);
}
BS_INLINE mask positive(vf a) { return _mm256_cmp_ps(a, zero(), _CMP_GT_OQ); }
BS_INLINE vf pick(mask m, vf yes, vf no) { return _mm256_blendv_ps(no, yes, m); }

BS_INLINE void store_half(uint16_t* p, vf x) { _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(x, 0)); }
BS_INLINE vf load_half(const uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
BS_INLINE __m128i words(vf x) {
  vi whole = _mm256_cvtps_epi32(x);
  return _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
}
BS_INLINE void store_u8(uint8_t* p, vf x) { _mm_storel_epi64((__m128i*)p, _mm_packus_epi16(words(x), _mm_setzero_si128())); }
BS_INLINE void store_s8(uint8_t* p, vf x) {
  _mm_storel_epi64((__m128i*)p, _mm_xor_si128(_mm_packs_epi16(words(x), _mm_setzero_si128()), _mm_set1_epi8((char)0x80)));
}
constexpr bool HAS_BF16 = false;
#ifdef __AVXVNNI__
BS_INLINE vi dot_u8s8(vi c, vi a, vi b) { return _mm256_dpbusd_avx_epi32(c, a, b); }
#else
BS_INLINE vi dot_u8s8(vi c, vi a, vi b) {
  vi low = _mm256_madd_epi16(_mm256_and_si256(a, _mm256_set1_epi16(255)), _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8));
  vi high = _mm256_madd_epi16(_mm256_srli_epi16(a, 8), _mm256_srai_epi16(b, 8));
  return _mm256_add_epi32(c, _mm256_add_epi32(low, high));
}
#endif

BS_INLINE void transpose(vi (&r)[W]) {
  vi t[W];
  BS_UNROLL
  for (int i = 0; i < 4; i++) {
    t[2 * i] = _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
  BS_UNROLL
  for (int i = 0; i < 2; i++) {
    r[4 * i] = _mm256_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm256_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm256_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm256_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  BS_UNROLL
  for (int i = 0; i < 4; i++) {
    t[i] = _mm256_permute2x128_si256(r[i], r[i + 4], 0x20);
    t[i + 4] = _mm256_permute2x128_si256(r[i], r[i + 4], 0x31);
  }
  BS_UNROLL
  for (int i = 0; i < W; i++) r[i] = t[i];
}

#endif

}  // namespace BS_ISA
