// y = x W' + b for packed rows x, a panel of outputs at a time; what happens to y next is an epilogue that has it in registers.
//
// M rows, K inputs, N outputs. Numbers travel in dwords: one fp32, two bf16 or four 8-bit ones, so that one loop serves all:
//     c[row][col] += dot(x[row][k], w[k][col])    over the dwords k of a row
// A panel is NV vectors of columns, packed [k][columns]; MR rows times NV vectors of sums stay in registers, which is what
// makes it fast: 8 x 3 or 6 x 4 of AVX-512's 32, 4 x 3 or 6 x 2 of AVX2's 16.
//
// 8 bits: x = low + step * u with u in [0, 255] and a step of each row's own, W = scale * s with s in [-127, 127] of each output's own:
//     y = step * scale * (sum u s) + (low * scale * sum s + b)
// Signed x is u = 128 + s8, so that low = -128 step: the sum starts at -128 sum s instead.
#pragma once
#include <sys/mman.h>

#include <cstdlib>
#include <new>

#include "vec.h"

namespace BS_ISA {

enum Kind : int { INT8 = 0, BF16 = 1, FP32 = 2 };

constexpr int per_dword(int kind) { return kind == INT8 ? 4 : kind == BF16 ? 2 : 1; }
constexpr int round_up(int n, int to) { return (n + to - 1) / to * to; }
constexpr int WIDE = 64;  // rows of activations are padded to a multiple of so many numbers, a multiple of every panel's width or of 48
constexpr int SLACK = 8;  // rows that a tile may touch beyond the last

constexpr size_t HUGE_PAGE = size_t{1} << 21;

// Memory that starts at a cache line, or at a huge page if it is as large, and is never smaller than it was.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }
  T* get() const { return data_; }
  T* resize(size_t n) {
    if (n <= size_) return data_;
    std::free(data_);
    const size_t bytes = (n * sizeof(T) + 127) / 64 * 64, page = bytes >= HUGE_PAGE ? HUGE_PAGE : 64;
    data_ = static_cast<T*>(std::aligned_alloc(page, (bytes + page - 1) / page * page));
    if (!data_) throw std::bad_alloc();
    if (page == HUGE_PAGE) madvise(data_, bytes, MADV_HUGEPAGE);  // a hint: where there are none, nothing changes
    std::memset(static_cast<void*>(data_), 0, bytes);
    size_ = n;
    return data_;
  }
  void assign(const T* from, size_t n, size_t padded) {
    resize(padded);
    if (from) std::memcpy(data_, from, n * sizeof(T));
  }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

BS_INLINE uint16_t to_bf16(float x) {  // to the nearest, ties to even
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// A layer's weights, packed. `gated`: outputs come in pairs of vectors, [gate | up], for one half as many results.
struct Linear {
  int kind = FP32, in = 0, out = 0, dwords = 0, vectors = 0;
  bool gated = false;
  Buffer<uint32_t> packed;
  Buffer<float> scale, bias, smooth;  // smooth: what inputs are multiplied with before they are rounded, or empty
  Buffer<int32_t> start;

  int columns() const { return vectors * W; }
  int panels() const { return out / columns(); }
  const uint32_t* panel(int p) const { return packed.get() + static_cast<size_t>(p) * dwords * columns(); }
};

// How many vectors a panel has: as many as leave no column over.
inline int panel_vectors(int padded_out, bool gated) {
  if (gated) return W == 16 ? 4 : 2;
  return padded_out % (3 * W) == 0 ? 3 : W == 16 ? 4 : 2;
}

// The place of output n among the packed columns: gate and up alternate, half a panel each.
inline int column(const Linear& l, int n, int half) {
  if (!l.gated) return n;
  int group = l.columns() / 2, up = n >= half, i = up ? n - half : n;
  return i / group * l.columns() + up * group + i % group;
}

// w: float [out, in] or, for INT8, int8 codes with the scales of their outputs. `low`: the least that unsigned inputs can be, where they
// are not signed. All are copied. With `gated`, out is twice the number of results: first the gates, then the others.
inline void pack(Linear& l, int kind, int out, int in, bool gated, const void* w, const float* scale, const float* bias,
                 const float* smooth, bool is_signed, float low) {
  int half = out / 2, wide = gated ? 2 * round_up(half, WIDE) : round_up(out, WIDE), per = per_dword(kind);
  l.kind = kind, l.in = in, l.out = wide, l.gated = gated, l.vectors = panel_vectors(wide, gated);
  l.dwords = round_up(in, WIDE) / per;
  l.packed.resize(static_cast<size_t>(l.dwords) * wide);
  l.scale.resize(wide), l.bias.resize(wide), l.start.resize(wide);
  if (smooth) l.smooth.assign(smooth, in, round_up(in, WIDE));
  for (int n = 0; n < out; n++) {
    int at = column(l, n, half), columns = l.columns();
    uint32_t* to = l.packed.get() + static_cast<size_t>(at / columns) * l.dwords * columns + at % columns;
    int32_t total = 0;
    for (int k = 0; k < in; k++) {
      uint32_t& dword = to[static_cast<size_t>(k / per) * columns];
      if (kind == INT8) {
        int8_t code = static_cast<const int8_t*>(w)[static_cast<size_t>(n) * in + k];
        total += code, dword |= static_cast<uint32_t>(static_cast<uint8_t>(code)) << (8 * (k % 4));
      } else {
        float value = static_cast<const float*>(w)[static_cast<size_t>(n) * in + k];
        if (kind == BF16)
          dword |= static_cast<uint32_t>(to_bf16(value)) << (16 * (k % 2));
        else
          std::memcpy(&dword, &value, 4);
      }
    }
    l.bias.get()[at] = bias ? bias[n] : 0.f;
    if (kind == INT8) {
      l.scale.get()[at] = scale[n];
      if (is_signed)
        l.start.get()[at] = -128 * total;
      else
        l.bias.get()[at] += low * scale[n] * total;
    }
  }
}

template <int KIND>
struct Sum {
  using type = vf;
};
template <>
struct Sum<INT8> {
  using type = vi;
};

template <int KIND>
BS_INLINE auto dot(typename Sum<KIND>::type c, vi x, vi w) {
  if constexpr (KIND == INT8) return dot_u8s8(c, x, w);
#ifdef __AVX512BF16__
  else if constexpr (KIND == BF16) return dot_bf16(c, x, w);
#endif
  else return fma(as_float(x), as_float(w), c);
}

// c[r][v] += dot(x[r * row + k * next], w[k][v]) over `dwords` k: the loop that everything else is there to feed. With AHEAD, what is
// read next comes into the second cache meanwhile, `pace` bytes a dword: the processor does not foresee it while it sees w again and again.
template <int KIND, int MR, int NV, bool AHEAD = false>
BS_INLINE void sums(typename Sum<KIND>::type (&c)[MR][NV], const uint32_t* x, size_t row, size_t next, const uint32_t* w, int dwords,
                    const char* ahead = nullptr, size_t pace = 0) {
#pragma clang loop unroll_count(2)
  for (int k = 0; k < dwords; k++) {
    vi b[NV];
    BS_UNROLL
    for (int v = 0; v < NV; v++) b[v] = loadi(w + v * W);
    if (AHEAD) _mm_prefetch(ahead, _MM_HINT_T1);
    BS_UNROLL
    for (int r = 0; r < MR; r++) {
      vi a = alli(x[r * row]);
      BS_UNROLL
      for (int v = 0; v < NV; v++) c[r][v] = dot<KIND>(c[r][v], a, b[v]);
    }
    x += next, w += NV * W, ahead += pace;
  }
}

// MR rows by one panel. `step`: of each row, for INT8. done(row, col, y) gets NV vectors of outputs from column `col` on.
// `more`: [rows][outputs], what is added to them, or null.
template <int KIND, int MR, int NV, class Done>
BS_INLINE void tile(const uint32_t* x, const uint32_t* w, const Linear& l, int row, int col, const float* step, const float* more,
                    const char* ahead, size_t pace, Done&& done) {
  typename Sum<KIND>::type c[MR][NV];
  BS_UNROLL
  for (int v = 0; v < NV; v++) {
    BS_UNROLL
    for (int r = 0; r < MR; r++) {
      if constexpr (KIND == INT8)
        c[r][v] = loadi(l.start.get() + col + v * W);
      else
        c[r][v] = zero();
    }
  }
  sums<KIND, MR, NV, true>(c, x, static_cast<size_t>(l.dwords), 1, w, l.dwords, ahead, pace);
  BS_UNROLL
  for (int r = 0; r < MR; r++) {
    vf y[NV];
    BS_UNROLL
    for (int v = 0; v < NV; v++) {
      vf bias = load(l.bias.get() + col + v * W);
      if constexpr (KIND == INT8)
        y[v] = fma(to_float(c[r][v]) * load(l.scale.get() + col + v * W), all(step[row + r]), bias);
      else
        y[v] = c[r][v] + bias;
      if (more) y[v] = y[v] + load(more + static_cast<size_t>(row + r) * l.out + col + v * W);
    }
    done(row + r, col, y);
  }
}

template <int KIND, int MR, int NV, class Done>
static void panels(const uint32_t* x, int rows, const Linear& l, const float* step, const float* more, int first, int last, const Done& done) {
  const size_t pace = NV * W * 4 / ((rows + MR - 1) / MR);  // each tile of rows fetches its share of the next panel
  for (int p = first; p < last; p++) {
    const uint32_t* w = l.panel(p);
    const char* ahead = reinterpret_cast<const char*>(p + 1 < last ? l.panel(p + 1) : w);
    for (int r = 0; r < rows; r += MR, ahead += pace * l.dwords)
      tile<KIND, MR, NV>(x + static_cast<size_t>(r) * l.dwords, w, l, r, p * NV * W, step, more, ahead, pace, done);
  }
}

// done(row, col, y[NV]) for every row and the share `part` of `parts` of the outputs. x has rows of l.dwords; rows beyond the last, up to SLACK,
// are computed too and count for nothing. GATED says which widths of panel there are, so that an epilogue is compiled for those alone.
template <bool GATED, class Done>
static void product(const void* x, int rows, const Linear& l, const float* step, const float* more, int part, int parts, const Done& done) {
  constexpr int WIDEST = W == 16 ? 4 : 2, ROWS3 = W == 16 ? 8 : 4;
  const auto* a = static_cast<const uint32_t*>(x);
  const int first = l.panels() * part / parts, last = l.panels() * (part + 1) / parts;
  auto over = [&](auto kind) {
    constexpr int KIND = decltype(kind)::value;
    if (GATED || l.vectors != 3)
      panels<KIND, 6, WIDEST>(a, rows, l, step, more, first, last, done);
    else if constexpr (!GATED)
      panels<KIND, ROWS3, 3>(a, rows, l, step, more, first, last, done);
  };
  if (l.kind == INT8)
    over(std::integral_constant<int, INT8>());
  else if (HAS_BF16 && l.kind == BF16)
    over(std::integral_constant<int, HAS_BF16 ? BF16 : FP32>());
  else
    over(std::integral_constant<int, FP32>());
}

}  // namespace BS_ISA
