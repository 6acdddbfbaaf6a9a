// Attention within one text with its backward pass: p = softmax(scale q k' + near), y = drop(p) v (Vaswani et al. 2017, arXiv:1706.03762, eq. 1).
//
// L tokens, H numbers a head, of which some or all ask. Of the forward pass only log2(sum exp) of every row of scores is kept; the backward pass makes p again
// from it (Dao et al. 2022, arXiv:2205.14135, appendix B.2). With dp = drop'(dy v') and s = sum(p dp) of a row:
//     dv = drop(p)' dy,   ds = p (dp - s) scale,   dq = ds k,   dk = ds' q,   dnear(j - i) += p (dp - s)
#pragma once
#include <algorithm>

#include "dropout.h"
#include "rows.h"
#include "strided.h"
#include "step.h"

namespace BS_ISA {

constexpr float LOG2E = 1.44269504f;

// What one thread needs to attend. Keys and values come turned (to be multiplied with queries) or laced (to be summed).
struct HeadScratch {
  Buffer<uint32_t> keys, values, laced, left, right;
  Buffer<float> scores, slopes, dk, dv;
  Buffer<bf16> queries, shares, dscores;
};

// One head of one text. Rows of q, k, v are `stride` apart, those of the other arrays each have their own.
struct Head {
  int tokens, given, dim, window;  // given: how many of its tokens ask
  float scale;
  const bf16 *q, *k, *v;
  size_t stride;
  Dropout drop;
  uint64_t place;  // of the first query's mask; the next one's is 2^16 * heads further
  uint64_t place_step;
  const float* near;  // at key - query; or null
  const int32_t* asked;  // the tokens that ask, numbered from `start` on; null: all
  int start;

  int query(int row) const { return asked ? asked[row] - start : row; }
  int wide() const { return round_up(tokens, 32); }
  int queries() const { return wide() <= 256 ? 128 : 64; }  // at a time, so that scores stay in cache
  // what rows [row, row + rows) of queries see, in whole panels
  void keys_of(int row, int rows, int& low, int& high) const {
    const int first = query(row), last = query(row + rows - 1) + 1;
    low = window && first > window ? (first - window) / 64 * 64 : 0;
    high = window ? std::min(wide(), round_up(last + window, 64)) : wide();
  }
  // what query i sees
  int from(int i) const { return window && i > window ? i - window : 0; }
  int to(int i) const { return window && i + window + 1 < tokens ? i + window + 1 : tokens; }
};

static void turn_all(const bf16* from, const Head& h, uint32_t* to) {
  for (int c = 0; c < h.tokens; c += 32) {
    const Place at = place(c, h.wide(), h.dim / 2);
    turn(from + c * h.stride, h.stride, std::min(32, h.tokens - c), h.dim, to + at.offset, at.columns);
  }
}

// out[r][c] = x[r] . (turned row c), for `rows` rows of x and rows [low, high) of what was turned, whole panels.
static void against(const Rows& x, int rows, const uint32_t* turned, const Head& h, int low, int high, float* out) {
  const size_t wide = h.wide();
  times(x, rows, turned + static_cast<size_t>(low) * (h.dim / 2), h.dim / 2, high - low, [=](int r, int c, vf y) { store(out + r * wide + low + c, y); });
}

// Rows [first, first + rows) of queries, side by side where only some tokens ask.
static Rows queries(const Head& h, HeadScratch& s, int first, int rows) {
  if (!h.asked) return {h.q + first * h.stride, h.stride / 2};
  bf16* to = s.queries.resize(static_cast<size_t>(rows) * h.dim);
  for (int r = 0; r < rows; r++) std::memcpy(to + r * h.dim, h.q + h.query(first + r) * h.stride, h.dim * sizeof(bf16));
  return {to, static_cast<size_t>(h.dim) / 2};
}

// y: [given][y_stride]; lse: of every query, `lse_step` apart.
static void attend_forward(const Head& h, HeadScratch& s, bool same_keys, bf16* y, size_t y_stride, float* lse, size_t lse_step) {
  const size_t wide = h.wide();
  const int depth = (h.tokens + 1) / 2, many = h.queries();
  if (!same_keys) {
    s.keys.resize(wide * h.dim), s.values.resize(wide * h.dim);
    turn_all(h.k, h, s.keys.get());
    lace_all(h.v, h.stride, h.tokens, h.dim, s.values.get());
  }
  float* scores = s.scores.resize(many * wide);
  bf16* shares = s.shares.resize(many * wide);
  for (int first = 0; first < h.given; first += many) {
    const int rows = std::min(many, h.given - first);
    int low, high;
    h.keys_of(first, rows, low, high);
    against(queries(h, s, first, rows), rows, s.keys.get(), h, low, high, scores);
    for (int r = 0; r < rows; r++) {
      const int i = h.query(first + r), from = h.from(i), to = h.to(i);
      float* row = scores + r * wide;
      const float* near = h.near ? h.near - i : nullptr;
      vf most = all(-1e30f), total = zero();
      for (int c = low; c < high; c += W) {
        vf x = load(row + c) * all(h.scale * LOG2E);
        if (near) x = fma(load(near + c), all(LOG2E), x);
        x = pick(within(c, from, to), x, all(-1e30f));
        store(row + c, x);
        most = max(most, x);
      }
      const vf top = all(largest(most));
      for (int c = low; c < high; c += W) {
        vf e = exp2<true>(load(row + c) - top);
        total = total + e;
        store(row + c, e);
      }
      const float sum_of = sum(total);
      lse[(first + r) * lse_step] = largest(most) + std::log2(sum_of);
      const vf inverse = all(1.f / sum_of);
      for (int c = low; c < high; c += W) store_bf16(shares + r * wide + c, h.drop(load(row + c) * inverse, 0, h.place + i * h.place_step + c / W));
    }
    bf16* to = y + first * y_stride;
    times({shares + low, wide / 2}, rows, s.values.get(), depth, h.dim, [=](int r, int c, vf x) { store_bf16(to + r * y_stride + c, x); }, low / 2,
          std::min(high / 2, depth) - low / 2);
  }
}

// dq [tokens][stride] is written where a token asks; dnear, if it is wanted, grows; dk and dv are summed into s.dk and s.dv [tokens][dim], which heads that share keys go on with.
static void attend_backward(const Head& h, HeadScratch& s, bool same_keys, const bf16* dy, size_t dy_stride, const float* lse, size_t lse_step, bf16* dq,
                            float* dnear) {
  const size_t wide = h.wide();
  const int depth = (h.tokens + 1) / 2, many = h.queries();
  if (!same_keys) {
    s.keys.resize(wide * h.dim), s.values.resize(wide * h.dim), s.laced.resize(wide * h.dim);
    turn_all(h.k, h, s.keys.get());
    turn_all(h.v, h, s.values.get());
    lace_all(h.k, h.stride, h.tokens, h.dim, s.laced.get());
    std::memset(s.dk.resize(wide * h.dim), 0, wide * h.dim * sizeof(float));
    std::memset(s.dv.resize(wide * h.dim), 0, wide * h.dim * sizeof(float));
  }
  float *scores = s.scores.resize(many * wide), *slopes = s.slopes.resize(many * wide);
  bf16 *shares = s.shares.resize(many * wide), *dscores = s.dscores.resize(many * wide);
  uint32_t *left = s.left.resize(many * 32), *right = s.right.resize(many * h.dim);
  for (int first = 0; first < h.given; first += many) {
    const int rows = std::min(many, h.given - first), pairs = (rows + 1) / 2;
    int low, high;
    h.keys_of(first, rows, low, high);
    const Rows q = queries(h, s, first, rows);
    const bf16* dy_rows = dy + first * dy_stride;
    against(q, rows, s.keys.get(), h, low, high, scores);
    against({dy_rows, dy_stride / 2}, rows, s.values.get(), h, low, high, slopes);
    for (int r = 0; r < rows; r++) {
      const int i = h.query(first + r), from = h.from(i), to = h.to(i);
      float *row = scores + r * wide, *slope = slopes + r * wide;
      const float* near = h.near ? h.near - i : nullptr;
      const vf less = all(lse[(first + r) * lse_step]);
      vf total = zero();
      for (int c = low; c < high; c += W) {
        vf x = load(row + c) * all(h.scale * LOG2E);  // rounded as in the forward pass
        if (near) x = fma(load(near + c), all(LOG2E), x);
        const vf p = pick(within(c, from, to), exp2<true>(x - less), zero());
        const vf kept = h.drop(all(1.f), 0, h.place + i * h.place_step + c / W), dp = load(slope + c) * kept;
        total = fma(dp, p, total);
        store(row + c, p), store(slope + c, dp);
        store_bf16(shares + r * wide + c, p * kept);
      }
      const vf mean = all(sum(total));
      for (int c = low; c < high; c += W) {
        const vf ds = load(row + c) * (load(slope + c) - mean);
        store_bf16(dscores + r * wide + c, ds * all(h.scale));
        if (dnear) store(dnear + c - i, load(dnear + c - i) + ds);
      }
    }
    times({dscores + low, wide / 2}, rows, s.laced.get(), depth, h.dim, [=, &h](int r, int c, vf x) { store_bf16(dq + h.query(first + r) * h.stride + c, x); }, low / 2,
          std::min(high / 2, depth) - low / 2);
    auto add = [&](const bf16* weights, const bf16* values, size_t values_stride, float* out) {
      lace_all(values, values_stride, rows, h.dim, right);
      const size_t dim = h.dim;
      for (int c = low; c < high; c += 64) {
        const int columns = std::min(64, high - c);
        lace_all(weights + c, wide, rows, columns, left);
        float* at = out + c * dim;
        times({left, 1, static_cast<size_t>(columns)}, columns, right, pairs, h.dim, [=](int r, int col, vf x) { store(at + r * dim + col, load(at + r * dim + col) + x); });
      }
    };
    add(dscores, static_cast<const bf16*>(q.data), 2 * q.row, s.dk.get());
    add(shares, dy_rows, dy_stride, s.dv.get());
  }
}

}  // namespace BS_ISA
