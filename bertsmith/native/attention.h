// softmax(q k' + bias) v within one text, some heads of it, with all that is between the two products in cache.
//
// T tokens, HD numbers a head (padded to a multiple of 2 W, the rest 0). Scores are in powers of two: log2(e) and the scale are in the
// weights of q, log2(e) in the bias. Keys are turned to [k / W][dwords of a head][W], so that W scores are one vector; values to
// [dwords of the probabilities][HD].
#pragma once
#include "rows.h"

namespace BS_ISA {

struct Attention {
  int heads = 0, kv_heads = 0, head_dim = 0, window = 0;  // window: how far a token sees to either side; 0: everywhere
  int places = 0, span = 0;
  const float *cosine = nullptr, *sine = nullptr;  // [places][padded head]: rotation of neighbouring pairs, or null; the caller's
  Buffer<float> bias;          // [heads][2 span + 1 (+ 2 W)]: what is added at key - query + span, or empty

  int padded() const { return round_up(head_dim, 2 * W); }
  int columns() const { return (heads + 2 * kv_heads) * padded(); }
  int stride_of_bias() const { return 2 * span + 1 + 4 * W; }
};

// What one thread needs to attend to a text of `longest` tokens.
struct AttentionScratch {
  Buffer<uint32_t> keys, values;
  Buffer<float> scores, shares;
  void resize(int longest, int padded) {
    size_t wide = round_up(longest, 2 * W) + 2 * W;
    keys.resize(wide * padded), values.resize(wide * padded);
    scores.resize(8 * wide), shares.resize(8 * wide);
  }
};

template <int KIND>
static void turn_keys(const uint32_t* k, size_t stride, int tokens, int dwords, uint32_t* to) {
  for (int first = 0; first < tokens; first += W)
    for (int d = 0; d < dwords; d += W) {
      vi r[W];
      BS_UNROLL
      for (int i = 0; i < W; i++) {
        int row = first + i < tokens ? first + i : tokens - 1;
        r[i] = loadi(k + row * stride + d);
      }
      transpose(r);
      BS_UNROLL
      for (int i = 0; i < W; i++) storei(to + static_cast<size_t>(first) * dwords + (d + i) * W, r[i]);
    }
}

template <int KIND>
static void turn_values(const uint32_t* v, size_t stride, int tokens, int padded, uint32_t* to) {
#ifdef __AVX512BF16__
  if constexpr (KIND == BF16) {
    for (int j = 0; j < tokens; j += 2)
      for (int d = 0; d < padded / 2; d += W) {
        vi even = loadi(v + j * stride + d), odd = j + 1 < tokens ? loadi(v + (j + 1) * stride + d) : zeroi(), a, b;
        interleave(even, odd, a, b);
        uint32_t* at = to + static_cast<size_t>(j / 2) * padded + 2 * d;
        storei(at, a), storei(at + W, b);
      }
    return;
  }
#endif
  for (int j = 0; j < tokens; j++) std::memcpy(to + static_cast<size_t>(j) * padded, v + j * stride, padded * sizeof(float));
}

// Q queries from number `first` on; done(r, d, y0, y1) gets two vectors of outputs of query first + r from number d of the head on.
template <int KIND, int Q, class Done>
BS_INLINE void attend_block(const uint32_t* q, size_t stride, int first, int tokens, const Attention& a, const float* bias,
                            AttentionScratch& s, Done&& done) {
  constexpr int PER = KIND == BF16 ? 2 : 1;
  const int padded = a.padded(), dwords = padded / PER, wide = round_up(tokens, 2 * W) + 2 * W;
  const bool windowed = a.window > 0;
  const int low = windowed && first > a.window ? first - a.window : 0;
  const int high = windowed && first + Q + a.window < tokens ? first + Q + a.window : tokens;
  const int begin = low / (2 * W) * (2 * W), end = round_up(high, W);
  float* scores = s.scores.get();
  for (int at = begin; at < end; at += 2 * W) {
    vf c[Q][2];
    BS_UNROLL
    for (int r = 0; r < Q; r++) c[r][0] = c[r][1] = zero();
    const uint32_t* k = s.keys.get() + static_cast<size_t>(at) * dwords;
#pragma clang loop unroll_count(2)
    for (int d = 0; d < dwords; d++) {
      vi k0 = loadi(k + d * W), k1 = loadi(k + (dwords + d) * W);
      BS_UNROLL
      for (int r = 0; r < Q; r++) {
        vi x = alli(q[r * stride + d]);
        c[r][0] = dot<KIND>(c[r][0], x, k0);
        c[r][1] = dot<KIND>(c[r][1], x, k1);
      }
    }
    BS_UNROLL
    for (int r = 0; r < Q; r++) {
      if (bias) {
        const float* b = bias + (at - first - r + a.span);
        c[r][0] = c[r][0] + load(b), c[r][1] = c[r][1] + load(b + W);
      }
      store(scores + r * wide + at, c[r][0]);
      store(scores + r * wide + at + W, c[r][1]);
    }
  }
  float inverse[Q];
  for (int r = 0; r < Q; r++) {
    float* row = scores + r * wide;
    const int i = first + r, from = windowed && i > a.window ? i - a.window : 0;
    const int to = windowed && i + a.window + 1 < tokens ? i + a.window + 1 : tokens;
    const vf least = all(-1e30f);
    vf most = least;
    for (int at = begin; at < end; at += W) {
      vf x = load(row + at);
      if (windowed || at + W > tokens) store(row + at, x = pick(within(at, from, to), x, least));
      most = max(most, x);
    }
    vf top = all(largest(most)), total = zero();
    for (int at = begin; at < end; at += W) {
      vf e = exp2<KIND == BF16>(load(row + at) - top);
      total = total + e;
#ifdef __AVX512BF16__
      if constexpr (KIND == BF16) {
        store_bf16(reinterpret_cast<uint16_t*>(s.shares.get()) + r * wide + at, e);
        continue;
      }
#endif
      store(s.shares.get() + r * wide + at, e);
    }
    inverse[r] = 1.f / sum(total);
  }
  const auto* shares = reinterpret_cast<const uint32_t*>(s.shares.get());
  const int share_stride = wide / PER, last = (high + PER - 1) / PER;
  for (int d = 0; d < padded; d += 2 * W) {
    vf y[Q][2];
    BS_UNROLL
    for (int r = 0; r < Q; r++) y[r][0] = y[r][1] = zero();
    for (int j = begin / PER; j < last; j++) {
      const uint32_t* v = s.values.get() + static_cast<size_t>(j) * padded + d;
      vi v0 = loadi(v), v1 = loadi(v + W);
      BS_UNROLL
      for (int r = 0; r < Q; r++) {
        vi x = alli(shares[r * share_stride + j]);
        y[r][0] = dot<KIND>(y[r][0], x, v0);
        y[r][1] = dot<KIND>(y[r][1], x, v1);
      }
    }
    BS_UNROLL
    for (int r = 0; r < Q; r++)
      if (first + r < tokens) done(first + r, d, y[r][0] * all(inverse[r]), y[r][1] * all(inverse[r]));
  }
}

// One text: qkv [tokens][columns] of dwords; done(token, column, y0, y1) for the heads from `from` to `to`, a column being head * padded + d.
template <int KIND, class Done>
static void attend(const uint32_t* qkv, int tokens, const Attention& a, AttentionScratch& s, int from, int to, Done&& done) {
  constexpr int PER = KIND == BF16 ? 2 : 1, MANY = W == 16 ? 8 : 4;
  const int padded = a.padded(), dwords = padded / PER, group = a.heads / a.kv_heads;
  const size_t stride = round_up(a.columns(), WIDE) / PER;
  for (int h = from, held = -1; h < to; h++) {
    if (h / group != held) {
      held = h / group;
      turn_keys<KIND>(qkv + (a.heads + held) * dwords, stride, tokens, dwords, s.keys.get());
      turn_values<KIND>(qkv + (a.heads + a.kv_heads + held) * dwords, stride, tokens, padded, s.values.get());
    }
    const float* bias = a.bias.get() ? a.bias.get() + static_cast<size_t>(h) * a.stride_of_bias() + 2 * W : nullptr;
    auto give = [&](int token, int d, vf y0, vf y1) { done(token, h * padded + d, y0, y1); };
    int i = 0;
    for (; i + MANY <= tokens; i += MANY)
      attend_block<KIND, MANY>(qkv + i * stride + h * dwords, stride, i, tokens, a, bias, s, give);
    for (; i < tokens; i += 4) attend_block<KIND, 4>(qkv + i * stride + h * dwords, stride, i, tokens, a, bias, s, give);
  }
}

}  // namespace BS_ISA
