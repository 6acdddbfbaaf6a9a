// A norm of a row of fp32 numbers in training, forward and backward.
#pragma once
#include "rows.h"
#include "strided.h"

namespace BS_ISA {

struct NormOf {
  int kind = Norm::NONE;
  float eps = 0.f;
  Buffer<float> weight, bias;

  // bias_from: null where there is none.
  void take(int of_kind, float of_eps, const bf16* weight_from, const bf16* bias_from, int dim) {
    kind = of_kind, eps = of_eps;
    if (!kind) return;
    weight.resize(dim), bias.resize(dim);
    for (int c = 0; c < dim; c += W) {
      store(weight.get() + c, load_bf16(weight_from + c));
      store(bias.get() + c, bias_from ? load_bf16(bias_from + c) : zero());
    }
  }
};

// One row: x becomes norm(x); what it is before weight and bias is kept.
static void norm_forward(const NormOf& n, float* x, bf16* standard, float* inverse, int dim) {
  const float part = 1.f / static_cast<float>(dim);
  const vf mean = all(n.kind == Norm::LAYER ? sum(in_four(dim, [&](vf s, int i) { return s + load(x + i); })) * part : 0.f);
  const vf squares = in_four(dim, [&](vf s, int i) {
    const vf off = load(x + i) - mean;
    return fma(off, off, s);
  });
  *inverse = 1.f / std::sqrt(sum(squares) * part + n.eps);
  for (int i = 0; i < dim; i += W) {
    vf at = (load(x + i) - mean) * all(*inverse);
    stream_bf16(standard + i, at);
    store(x + i, fma(at, load(n.weight.get() + i), load(n.bias.get() + i)));
  }
}

// One row: dx = dx or 0 + the gradient of a norm's input; dweight and dbias grow.
static void norm_backward(const NormOf& n, const float* dy, const bf16* standard, float inverse, const float* also, float* dx, float* dweight,
                          float* dbias, int dim) {
  const float part = 1.f / static_cast<float>(dim);
  vf total = zero(), along = zero();
  for (int i = 0; i < dim; i += W) {
    const vf d = load(dy + i), x = load_bf16(standard + i), e = d * load(n.weight.get() + i);
    total = total + e, along = fma(e, x, along);
    store(dweight + i, fma(d, x, load(dweight + i)));
    store(dbias + i, load(dbias + i) + d);
  }
  const vf mean = all(n.kind == Norm::LAYER ? sum(total) * part : 0.f), slope = all(sum(along) * part);
  for (int i = 0; i < dim; i += W) {
    const vf e = load(dy + i) * load(n.weight.get() + i);
    const vf d = (e - mean - load_bf16(standard + i) * slope) * all(inverse);
    store(dx + i, also ? load(also + i) + d : d);
  }
}

}  // namespace BS_ISA
