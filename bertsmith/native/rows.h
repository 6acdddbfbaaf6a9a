// What happens to one row between two products: activations, norms, rounding to what the next product reads.
#pragma once
#include "product.h"

namespace BS_ISA {

enum Act : int { GELU = 0, RELU = 1, SILU = 2, GELU_TANH = 3, IDENTITY = 4, TANH = 5, SQUARED_RELU = 6 };

// 2^x, relative error below 2e-7 (fp32) or 4e-6 (with FEW terms).
template <bool FEW>
BS_INLINE vf exp2(vf x) {
  vf whole = round(x), t = x - whole, p;
  if constexpr (FEW) {
    p = fma(all(0.00961813f), t, all(0.05550411f));
  } else {
    p = fma(all(1.5403530e-4f), t, all(1.3333558e-3f));
    p = fma(p, t, all(9.6181291e-3f));
    p = fma(p, t, all(5.5504109e-2f));
  }
  p = fma(p, t, all(0.24022651f));
  p = fma(p, t, all(0.69314718f));
  return times_power_of_two(fma(p, t, all(1.f)), whole);
}

BS_INLINE vf sigmoid(vf x) {
  vf held = min(max(x, all(-87.f)), all(87.f));
  return all(1.f) / (all(1.f) + exp2<false>(held * all(-1.44269504f)));
}

BS_INLINE vf tanh(vf x) { return all(2.f) * sigmoid(x + x) - all(1.f); }

// (1 + erf(x / sqrt 2)) / 2, the share of a normal distribution below x: an odd polynomial for erf, clamped where it is 1 in
// fp32's reach. With FEW terms the error of x times it is below 3e-4, for what is rounded to 8 bits next; else below 2e-6.
template <bool FEW>
BS_INLINE vf normal_below(vf x) {
  constexpr float END = FEW ? 3.5f : 4.f;
  vf c = min(max(x, all(-END)), all(END)), z = c * c, p;
  if constexpr (FEW) {
    p = fma(all(-2.8077222245e-07f), z, all(1.9511071916e-05f));
    p = fma(p, z, all(-0.00052095727f));
    p = fma(p, z, all(0.0072777095f));
    p = fma(p, z, all(-0.0611252247f));
    p = fma(p, z, all(0.395275034f));
  } else {
    p = fma(all(-4.609343377e-10f), z, all(5.201444128e-08f));
    p = fma(p, z, all(-2.349070997e-06f));
    p = fma(p, z, all(5.793126575e-05f));
    p = fma(p, z, all(-0.00088678906f));
    p = fma(p, z, all(0.0090557008f));
    p = fma(p, z, all(-0.0650942155f));
    p = fma(p, z, all(0.398205698f));
  }
  return fma(c, p, all(.5f));
}

template <bool FEW>
BS_INLINE vf gelu(vf x) {
  return x * normal_below<FEW>(x);
}

// The same to fp32's own precision: erfc(t) = u e^(-t^2 + p(u)) with u = 1 / (1 + t / 2), a Chebyshev fit with a relative error
// below 1.2e-7 everywhere (Press et al., Numerical Recipes, 2nd edition, section 6.2).
BS_INLINE vf gelu_exact(vf x) {
  vf t = abs(x) * all(0.70710678f), u = all(1.f) / fma(t, all(.5f), all(1.f));
  vf p = fma(all(0.17087277f), u, all(-0.82215223f));
  p = fma(p, u, all(1.48851587f));
  p = fma(p, u, all(-1.13520398f));
  p = fma(p, u, all(0.27886807f));
  p = fma(p, u, all(-0.18628806f));
  p = fma(p, u, all(0.09678418f));
  p = fma(p, u, all(0.37409196f));
  p = fma(p, u, all(1.00002368f));
  p = fma(p, u, all(-1.26551223f));
  vf power = max(fma(t, zero() - t, p), all(-87.f)) * all(1.44269504f);
  vf tail = u * exp2<false>(power) * all(.5f);  // half of erfc(|x| / sqrt 2)
  return x * pick(positive(x), all(1.f) - tail, tail);
}

// For what is rounded to KIND next.
template <int ACT, int KIND>
BS_INLINE vf activate(vf x) {
  if constexpr (ACT == GELU && KIND == FP32) return gelu_exact(x);
  if constexpr (ACT == GELU && KIND != FP32) return gelu<KIND == INT8>(x);
  if constexpr (ACT == RELU) return max(x, zero());
  if constexpr (ACT == SILU) return x * sigmoid(x);
  if constexpr (ACT == GELU_TANH) return x * sigmoid(x * fma(x * x, all(0.0713548163f), all(1.59576912f)));
  if constexpr (ACT == TANH) return tanh(x);
  if constexpr (ACT == SQUARED_RELU) return max(x, zero()) * max(x, zero());
  return x;
}

// The least value of an activation, where it has one.
inline bool lowest(int act, float& low) {
  low = act == GELU ? -0.17f : act == GELU_TANH ? -0.1701f : act == SILU ? -0.2785f : 0.f;
  return act == GELU || act == GELU_TANH || act == SILU || act == RELU || act == SQUARED_RELU;
}

struct Norm {
  enum : int { NONE = 0, LAYER = 1, RMS = 2 };
  int kind = NONE;
  float eps = 0;
  Buffer<float> weight, bias;
};

// The sum over the vectors below n of what `next` adds to it, in four parts: one alone would wait for every addition.
template <class F>
BS_INLINE vf in_four(int n, const F& next) {
  vf part[4] = {zero(), zero(), zero(), zero()};
  int i = 0;
  for (; i + 4 * W <= n; i += 4 * W) {
    BS_UNROLL
    for (int v = 0; v < 4; v++) part[v] = next(part[v], i + v * W);
  }
  for (; i < n; i += W) part[0] = next(part[0], i);
  return (part[0] + part[1]) + (part[2] + part[3]);
}

// y = norm(x) over the first `dim` numbers of a row of `wide`; both a multiple of W apart, what lies beyond dim is 0 and stays so.
BS_INLINE void normalise(const Norm& norm, const float* x, float* y, int dim, int wide) {
  const float part = 1.f / static_cast<float>(dim);
  const int whole = dim / W * W;
  const vf mean = all(norm.kind == Norm::LAYER ? sum(in_four(wide, [&](vf s, int i) { return s + load(x + i); })) * part : 0.f);
  vf squares = in_four(whole, [&](vf s, int i) {
    const vf off = load(x + i) - mean;
    return fma(off, off, s);
  });
  if (whole < dim) {
    const vf off = pick(within(whole, 0, dim), load(x + whole) - mean, zero());
    squares = fma(off, off, squares);
  }
  vf inverse = all(1.f / std::sqrt(sum(squares) * part + norm.eps));
  for (int i = 0; i < wide; i += W) {
    vf at = (load(x + i) - mean) * inverse;
    store(y + i, fma(at, load(norm.weight.get() + i), load(norm.bias.get() + i)));
  }
}

// A row of `wide` floats as what a product reads: fp32, bf16, or 8 bits with 128 added and the step of the row.
BS_INLINE void round_row(const Linear& next, const float* x, void* to, float* step) {
  const int wide = round_up(next.in, WIDE);
  if (next.kind == INT8) {
    const float* smooth = next.smooth.get();
    vf most = zero();
    for (int i = 0; i < wide; i += W) most = max(most, abs(smooth ? load(x + i) * load(smooth + i) : load(x + i)));
    float top = largest(most) + 1e-20f;
    *step = top / 127.f;
    vf by = all(127.f / top);
    for (int i = 0; i < wide; i += W) {
      vf at = smooth ? load(x + i) * load(smooth + i) : load(x + i);
      store_s8(static_cast<uint8_t*>(to) + i, at * by);
    }
#ifdef __AVX512BF16__
  } else if (next.kind == BF16) {
    for (int i = 0; i < wide; i += W) store_bf16(static_cast<uint16_t*>(to) + i, load(x + i));
#endif
  } else {
    for (int i = 0; i < wide; i += W) store(static_cast<float*>(to) + i, load(x + i));
  }
}

BS_INLINE size_t row_bytes(const Linear& next) { return static_cast<size_t>(next.dwords) * 4; }

}  // namespace BS_ISA
