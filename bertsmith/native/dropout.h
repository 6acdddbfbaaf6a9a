// Dropout as a function of a key, a site and a place, so that the backward pass makes the same mask again and nothing is kept.
//
// 16 bits an element from a counter that has gone through three rounds of AES (Salmon et al. 2011, "Parallel random numbers: as easy as
// 1, 2, 3", use five for what must pass every test of randomness; a mask needs less).
#pragma once
#include "vec.h"

namespace BS_ISA {

struct Dropout {
  uint64_t key = 0;
  uint32_t bound = 0;  // an element stays if its number reaches this
  float gain = 1.f;

  Dropout(uint64_t key, float rate) : key(key), bound(static_cast<uint32_t>(rate * 65536.f + .5f)), gain(1.f / (1.f - bound / 65536.f)) {}

  // W elements: group number `place` of a site.
  BS_INLINE_MEMBER vf operator()(vf x, uint64_t site, uint64_t place) const {
    if (!bound) return x;
    const __m128i salt = _mm_set_epi64x(static_cast<long long>(key), static_cast<long long>(0x9e3779b97f4a7c15u ^ site << 56));
    __m128i a = _mm_xor_si128(_mm_set_epi64x(0, static_cast<long long>(2 * place)), salt);
    __m128i b = _mm_xor_si128(_mm_set_epi64x(0, static_cast<long long>(2 * place + 1)), salt);
    BS_UNROLL
    for (int i = 0; i < 3; i++) a = _mm_aesenc_si128(a, salt), b = _mm_aesenc_si128(b, salt);
    const __mmask16 stays = _mm256_cmpge_epu16_mask(_mm256_set_m128i(b, a), _mm256_set1_epi16(static_cast<short>(bound)));
    return _mm512_maskz_mul_ps(stays, x, all(gain));
  }
};

}  // namespace BS_ISA
