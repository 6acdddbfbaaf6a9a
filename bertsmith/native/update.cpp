// A step of AdamW on fp32 masters from bf16 gradients, which writes the bf16 copies that the model computes with, in one pass over memory
// (Loshchilov & Hutter 2017, arXiv:1711.05101, algorithm 2; Kingma & Ba 2014, arXiv:1412.6980, algorithm 1):
//     p -= lr decay p,   m += (1 - b1) (g - m),   v += (1 - b2) (g g - v),   p -= lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)
//
// Pieces that never had a gradient, such as most rows of a token table in fine-tuning, only decay: m and v are 0 there, and not read.
#include <vector>

#include "step.h"
#include "strided.h"
#include "team.h"

namespace BS_ISA {

using namespace bertsmith;

constexpr int64_t PIECE = 512, TASK = 64 * PIECE;  // numbers under one flag; numbers that a thread takes at once
enum Flag : uint8_t { UNKNOWN = 0, UNTOUCHED = 1, TOUCHED = 2 };

struct Part {
  int tensor;
  int64_t first, last;
};

static std::vector<Part> parts_of(const StepUpdate* tensors, int count) {
  std::vector<Part> found;
  for (int i = 0; i < count; i++)
    for (int64_t at = 0; at < tensors[i].numbers; at += TASK) found.push_back({i, at, std::min(at + TASK, tensors[i].numbers)});
  return found;
}

// Calls f(place, lanes) for vectors of a range; lanes beyond the last number are off.
template <class F>
BS_INLINE void vectors(int64_t first, int64_t last, const F& f) {
  for (int64_t i = first; i < last; i += W) f(i, within(0, 0, static_cast<int>(std::min<int64_t>(W, last - i))));
}

BS_INLINE vf load_some(const float* p, mask lanes) { return _mm512_maskz_loadu_ps(lanes, p); }
BS_INLINE void store_some(float* p, mask lanes, vf x) { _mm512_mask_storeu_ps(p, lanes, x); }
BS_INLINE vf load_some(const bf16* p, mask lanes) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, p)), 16));
}
BS_INLINE void store_some(bf16* p, mask lanes, vf x) { _mm256_mask_storeu_epi16(p, lanes, (__m256i)_mm512_cvtneps_pbh(x)); }

template <class T>
static bool any(const T* numbers, int64_t first, int64_t last) {
  vi bits = zeroi();
  vectors(first, last, [&](int64_t i, mask lanes) { bits = _mm512_or_si512(bits, as_int(load_some(numbers + i, lanes))); });
  return _mm512_test_epi32_mask(bits, bits) != 0;
}

void update(const StepUpdate* tensors, int count, float beta1, float beta2, float eps, float scale, int threads) {
  const auto parts = parts_of(tensors, count);
  share(threads, static_cast<int>(parts.size()), [&](int number) {
    const Part& part = parts[number];
    const StepUpdate& t = tensors[part.tensor];
    const vf keep = all(1.f - t.lr * t.decay), rate = all(t.lr * t.correction1), b1 = all(1.f - beta1), b2 = all(1.f - beta2);
    for (int64_t first = part.first; first < part.last; first += PIECE) {
      const int64_t last = std::min(first + PIECE, part.last);
      uint8_t& flag = t.flags[first / PIECE];
      if (flag == UNKNOWN) flag = any(t.mean, first, last) || any(t.square, first, last) ? TOUCHED : UNTOUCHED;
      if (flag == UNTOUCHED && any(t.gradient, first, last)) flag = TOUCHED;
      if (flag == UNTOUCHED) {
        if (t.decay == 0.f) continue;
        vectors(first, last, [&](int64_t i, mask lanes) {
          const vf p = load_some(t.master + i, lanes) * keep;
          store_some(t.master + i, lanes, p), store_some(t.copy + i, lanes, p);
        });
        continue;
      }
      vectors(first, last, [&](int64_t i, mask lanes) {
        const vf g = load_some(t.gradient + i, lanes) * all(scale), m0 = load_some(t.mean + i, lanes), v0 = load_some(t.square + i, lanes);
        const vf m = fma(g - m0, b1, m0), v = fma(fma(g, g, zero() - v0), b2, v0);
        const vf under = fma(_mm512_sqrt_ps(v), all(t.correction2), all(eps));
        const vf p = load_some(t.master + i, lanes) * keep - m * rate / under;
        store_some(t.mean + i, lanes, m), store_some(t.square + i, lanes, v);
        store_some(t.master + i, lanes, p), store_some(t.copy + i, lanes, p);
      });
    }
  });
}

double squares(const StepUpdate* tensors, int count, int threads) {
  const auto parts = parts_of(tensors, count);
  std::vector<double> found(parts.size());
  share(threads, static_cast<int>(parts.size()), [&](int number) {
    const Part& part = parts[number];
    const bf16* gradient = tensors[part.tensor].gradient;
    vf total = zero();
    vectors(part.first, part.last, [&](int64_t i, mask lanes) {
      const vf g = load_some(gradient + i, lanes);
      total = fma(g, g, total);
    });
    found[number] = sum(total);
  });
  double total = 0;
  for (double one : found) total += one;
  return total;
}

}  // namespace BS_ISA
