// Products of bf16 numbers whose rows may lie any way: what a backward pass needs beside product.h.
//
// y[r][c] = sum over k of x[r][k] w[k][c]. Numbers travel as dwords, two neighbours along the contraction k. w is in panels of 64
// columns, and one of 32 where they leave it, each [k / 2][columns]. A matrix is turned into panels in one of two ways: its rows become
// the columns (`turn`: weights for the forward pass, keys), or its columns stay columns and pairs are made down the rows (`lace`:
// weights for the backward pass, both factors of a weight's gradient).
#pragma once
#include "product.h"

namespace BS_ISA {

using bf16 = uint16_t;

// Dword k of row r is at data[r * row + k * next].
struct Rows {
  const void* data;
  size_t row, next = 1;
  const uint32_t* at(int r) const { return static_cast<const uint32_t*>(data) + r * row; }
};

template <int MR, int NV, class Done>
BS_INLINE void block(const Rows& x, int r, const uint32_t* w, int dwords, int col, const Done& done) {
  vf c[MR][NV];
  BS_UNROLL
  for (int i = 0; i < MR; i++) {
    BS_UNROLL
    for (int v = 0; v < NV; v++) c[i][v] = zero();
  }
  sums<BF16, MR, NV>(c, x.at(r), x.row, x.next, w, dwords);
  BS_UNROLL
  for (int i = 0; i < MR; i++) {
    BS_UNROLL
    for (int v = 0; v < NV; v++) done(r + i, col + v * W, c[i][v]);
  }
}

// One panel of NV vectors of columns; done(row, column, y) gets W outputs at a time.
template <int NV, class Done>
static void panel(const Rows& x, int rows, const uint32_t* w, int dwords, int col, const Done& done) {
  int r = 0;
  for (; r + 6 <= rows; r += 6) block<6, NV>(x, r, w, dwords, col, done);
  for (; r + 4 <= rows; r += 4) block<4, NV>(x, r, w, dwords, col, done);
  for (; r + 2 <= rows; r += 2) block<2, NV>(x, r, w, dwords, col, done);
  if (r < rows) block<1, NV>(x, r, w, dwords, col, done);
}

// All of w's columns; `depth` is how many dwords its panels have, of which `dwords` from number `from` on are used. x begins there too.
template <class Done>
static void times(const Rows& x, int rows, const uint32_t* w, int depth, int columns, const Done& done, int from = 0, int dwords = -1) {
  if (dwords < 0) dwords = depth;
  int c = 0;
  for (; c + 64 <= columns; c += 64) panel<4>(x, rows, w + static_cast<size_t>(c) * depth + 64 * from, dwords, c, done);
  if (c < columns) panel<2>(x, rows, w + static_cast<size_t>(c) * depth + 32 * from, dwords, c, done);
}

// The same; after each panel `after` gets its first column and how many it has.
template <class Done, class After>
static void times_then(const Rows& x, int rows, const uint32_t* w, int depth, int columns, const Done& done, const After& after) {
  for (int c = 0; c < columns; c += 64) {
    const int wide = std::min(64, columns - c);
    const uint32_t* panel_of = w + static_cast<size_t>(c) * depth;
    wide == 64 ? panel<4>(x, rows, panel_of, depth, c, done) : panel<2>(x, rows, panel_of, depth, c, done);
    after(c, wide);
  }
}

// The place of column c (a multiple of 32) in panels of `depth` dwords, and how many columns its panel has.
struct Place {
  size_t offset;
  int columns;
};
BS_INLINE Place place(int c, int columns, int depth) {
  const bool last = c / 64 * 64 + 64 > columns;
  return {static_cast<size_t>(c / 64 * 64) * depth + c % 64, last ? 32 : 64};
}

// Up to 32 rows of k numbers (a multiple of 32) become 32 columns of a panel; columns beyond the last row hold that row again.
static void turn(const bf16* from, size_t stride, int rows, int k, uint32_t* to, int columns) {
  for (int g = 0; g < 32; g += W)
    for (int j = 0; j < k; j += 32) {
      vi r[W];
      BS_UNROLL
      for (int i = 0; i < W; i++) r[i] = loadi(from + (g + i < rows ? g + i : rows - 1) * stride + j);
      transpose(r);
      BS_UNROLL
      for (int i = 0; i < W; i++) storei(to + static_cast<size_t>(j / 2 + i) * columns + g, r[i]);
    }
}

// 32 columns of any number of rows; to[(rows + 1) / 2][columns]. `total`: the sums of the columns, or null.
static void lace(const bf16* from, size_t stride, int rows, uint32_t* to, int columns, float* total = nullptr) {
  vf sum0 = zero(), sum1 = zero();
  const vi ones = alli(0x3f803f80);
  for (int r = 0; r < rows; r += 2, to += columns) {
    vi even = loadi(from + r * stride), odd = r + 1 < rows ? loadi(from + (r + 1) * stride) : zeroi(), a, b;
    interleave(even, odd, a, b);
    storei(to, a), storei(to + W, b);
    sum0 = dot_bf16(sum0, a, ones), sum1 = dot_bf16(sum1, b, ones);
  }
  if (total) store(total, sum0), store(total + W, sum1);
}

// All columns of a matrix laced, as panels for `times` of `depth` dwords, from dword `at` on; rows beyond the last, up to an even number, are 0.
// The sums of the columns go to `total` [columns], unless it is null.
static void lace_all(const bf16* from, size_t stride, int rows, int columns, uint32_t* to, int depth, int at, float* total) {
  for (int c = 0; c < columns; c += 32) {
    const Place p = place(c, columns, depth);
    lace(from + c, stride, rows, to + p.offset + static_cast<size_t>(at) * p.columns, p.columns, total ? total + c : nullptr);
  }
}
static void lace_all(const bf16* from, size_t stride, int rows, int columns, uint32_t* to) {
  lace_all(from, stride, rows, columns, to, (rows + 1) / 2, 0, nullptr);
}

}  // namespace BS_ISA
