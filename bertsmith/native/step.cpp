// One layer of an encoder in training: everything between its input and its output on a chunk of about 256 tokens at a time, one
// thread a chunk, so that a chunk stays in that processor's cache; then the weights' gradients, which sum over all chunks.
//
// M tokens, G of which the output is wanted, D width, C columns of queries, keys and values, F hidden numbers (2 F where gated: 32 of the gate, then 32 of what it
// gates). Products are of bf16 numbers and summed in fp32; the stream between them, norms and softmax are fp32. Sums over chunks are
// taken in the order of the chunks, so that the result does not depend on which thread took which.
#include "step.h"

#include <memory>
#include <mutex>
#include <vector>

#include "step_attention.h"
#include "step_norm.h"
#include "team.h"

namespace BS_ISA {

using namespace bertsmith;

constexpr int CHUNK = 256;   // tokens
constexpr int DEEP = 512;    // pairs of tokens that a weight's gradient sums in one go
constexpr int TOGETHER = 4, BESIDE = 2;  // panels of outputs and of inputs of a weight's gradient in a task

enum Site : uint64_t { SHARES = 0, MIXER = 1, HIDDEN = 2, INNER = 3 };

// Several weights side by side as one product [in, out], in blocks of 32 outputs.
struct Product {
  int in = 0, out = 0;
  std::vector<const bf16*> block;  // 32 rows of a weight
  std::vector<bf16*> block_gradient, bias_gradient;
  std::vector<float> bias;
  Buffer<uint32_t> forward, backward;
  bool trains = false, trains_bias = false;

  void add(const bf16* weight, const bf16* bias_from, bf16* gradient, bf16* bias_to, int row, int inputs) {
    in = inputs, out += 32;
    block.push_back(weight + static_cast<size_t>(row) * in);
    block_gradient.push_back(gradient ? gradient + static_cast<size_t>(row) * in : nullptr);
    bias_gradient.push_back(bias_to ? bias_to + row : nullptr);
    bias.resize(out);
    for (int i = 0; i < 32; i += W) store(bias.data() + out - 32 + i, bias_from ? load_bf16(bias_from + row + i) : zero());
    trains |= gradient != nullptr, trains_bias |= bias_to != nullptr;
  }

  int panels_forward() const { return (out + 63) / 64; }
  int panels_backward() const { return (in + 63) / 64; }
  void pack_forward(int p) {
    for (int b = 2 * p; b < std::min(2 * p + 2, out / 32); b++) {
      Place at = place(32 * b, out, in / 2);
      turn(block[b], in, 32, in, forward.get() + at.offset, at.columns);
    }
  }
  void pack_backward(int p) {
    for (int c = 64 * p; c < std::min(64 * p + 64, in); c += 32) {
      Place at = place(c, in, out / 2);
      for (size_t b = 0; b < block.size(); b++) lace(block[b] + c, in, 32, backward.get() + at.offset + b * 16 * at.columns, at.columns);
    }
  }
};

// What a call makes of a layer's description.
struct Made {
  const StepLayer& l;
  Product qkv, out, up, down;
  NormOf norm[NORMS];

  Made(const StepLayer& layer, const StepGradients& g) : l(layer) {
    const int widths[3] = {l.heads * l.head_dim, l.kv_heads * l.head_dim, l.kv_heads * l.head_dim};
    auto add = [&](Product& to, WeightName name, int row, int in) { to.add(l.weight[name], l.bias[name], g.weight[name], g.bias[name], row, in); };
    for (int name = Q; name <= V; name++)
      for (int row = 0; row < widths[name]; row += 32) add(qkv, static_cast<WeightName>(name), row, l.dim);
    for (int row = 0; row < l.dim; row += 32) add(out, OUT, row, widths[Q]), add(down, DOWN, row, l.hidden);
    for (int row = 0; row < l.hidden; row += 32) {
      if (l.gated) add(up, GATE, row, l.dim);
      add(up, UP, row, l.dim);
    }
    for (int i = 0; i < NORMS; i++) norm[i].take(l.norm_kind[i], l.norm_eps[i], l.norm_weight[i], l.norm_bias[i], l.dim);
  }

  template <class F>
  void each(const F& f) {
    f(qkv), f(out), f(up), f(down);
  }
};

// What the forward pass leaves: arrays in one block of memory, whose size is known beforehand. What nothing reads but a panel at a time,
// and long after, lies so: `hidden` is, for each chunk, panels of 64 columns [rows][64].
struct Saved {
  int64_t* threads;  // that chunks were made for
  bf16 *input, *qkv;                                    // [M, D or C]
  bf16 *context, *middle, *hidden, *standard[NORMS];    // [G, A or D or F]; standard: a norm's output before weight and bias; the first norm's [M, D]
  float *lse, *inverse[NORMS];                          // [G, heads]; 1 / deviation of a norm's input [G], the first norm's [M]
  int64_t bytes = 0;

  Saved(const StepLayer& l, const StepTexts& t, void* memory) {
    auto* base = static_cast<char*>(memory);
    auto take = [&](auto*& to, int64_t rows, int64_t numbers) {
      to = reinterpret_cast<std::remove_reference_t<decltype(to)>>(base + bytes);
      bytes += (numbers * rows * static_cast<int64_t>(sizeof *to) + 63) / 64 * 64;
    };
    const int64_t M = t.tokens, G = t.given;
    threads = reinterpret_cast<int64_t*>(base), bytes = 64;
    take(input, M, l.dim), take(qkv, M, (l.heads + 2 * l.kv_heads) * l.head_dim), take(context, G, l.heads * l.head_dim);
    take(middle, G, l.dim), take(hidden, G, l.hidden * (l.gated ? 2 : 1)), take(lse, G, l.heads);
    for (int i = 0; i < NORMS; i++) {
      standard[i] = nullptr, inverse[i] = nullptr;
      if (l.norm_kind[i]) take(standard[i], i == ATTENTION_IN ? M : G, l.dim), take(inverse[i], i == ATTENTION_IN ? M : G, 1);
    }
  }
};

// d activate(x) / dx.
template <int ACT>
BS_INLINE vf slope_of(vf x) {
  if constexpr (ACT == GELU) return fma(x * all(0.39894228f), exp2<true>(max(x * x * all(-0.72134752f), all(-126.f))), normal_below<false>(x));
  if constexpr (ACT == RELU) return pick(positive(x), all(1.f), zero());
  const vf s = sigmoid(ACT == GELU_TANH ? x * fma(x * x, all(0.0713548163f), all(1.59576912f)) : x);
  const vf inner = ACT == GELU_TANH ? fma(x * x, all(3 * 0.0713548163f), all(1.59576912f)) : all(1.f);
  return fma(x * s * (all(1.f) - s), inner, s);
}

template <class F>
static void with_act(int act, const F& f) {
  if (act == GELU) return f(std::integral_constant<int, GELU>());
  if (act == RELU) return f(std::integral_constant<int, RELU>());
  if (act == SILU) return f(std::integral_constant<int, SILU>());
  return f(std::integral_constant<int, GELU_TANH>());
}

// Neighbours i and i + H / 2 of every head of q and k turned by their place's angle, or back (Su et al. 2021, arXiv:2104.09864, eq. 34).
static void rotate(const StepLayer& l, const StepTexts& t, int first, int last, bf16* rows, bool back) {
  const int half = l.head_dim / 2, columns = (l.heads + 2 * l.kv_heads) * l.head_dim;
  for (int text = first; text < last; text++)
    for (int i = t.starts[text]; i < t.starts[text + 1]; i++) {
      const size_t angle = static_cast<size_t>(i - t.starts[text]) * half;
      for (int h = 0; h < l.heads + l.kv_heads; h++)
        for (int c = 0; c < half; c += W) {
          bf16 *a = rows + static_cast<size_t>(i - t.starts[first]) * columns + h * l.head_dim + c, *b = a + half;
          const vf x = load_bf16(a), y = load_bf16(b), cosine = load(l.cosine + angle + c);
          const vf sine = back ? zero() - load(l.sine + angle + c) : load(l.sine + angle + c);
          store_bf16(a, x * cosine - y * sine), store_bf16(b, fma(y, cosine, x * sine));
        }
    }
}

// Rows that come one after the other, and the number of the first pair of them in all chunks.
struct Span {
  int begin = 0, end = 0, pair = 0;
  int rows() const { return end - begin; }
  int pair_end() const { return pair + (rows() + 1) / 2; }
};

// Texts that one thread takes through the layer, their tokens, and the rows that the layer gives for them.
struct Chunk {
  int first, last, number;
  Span tokens, given;
};

// The first row that the layer gives for a token from this one on.
static int row_of(const StepTexts& t, int token) {
  return t.asked ? static_cast<int>(std::lower_bound(t.asked, t.asked + t.given, token) - t.asked) : token;
}

static std::vector<Chunk> chunks(const StepTexts& t, int threads) {
  const int share = std::max(32, std::min(CHUNK, (t.tokens + threads - 1) / threads));
  std::vector<Chunk> found;
  for (int i = 0; i < t.texts; i++) {
    if (found.empty() || t.starts[i + 1] - found.back().tokens.begin > share)
      found.push_back({i, i, static_cast<int>(found.size()), {t.starts[i]}, {}});
    found.back().last = i + 1, found.back().tokens.end = t.starts[i + 1];
  }
  Span tokens, given;  // those of the chunk before
  for (Chunk& c : found) {
    c.tokens.pair = tokens.pair_end(), c.given.pair = given.pair_end();
    c.given.begin = row_of(t, c.tokens.begin), c.given.end = row_of(t, c.tokens.end);
    tokens = c.tokens, given = c.given;
  }
  return found;
}

// A thread's own memory, which it keeps.
struct Own {
  Buffer<float> stream, branch, stripe;
  Buffer<bf16> short_rows, slopes, active;
  Buffer<uint32_t> laced;
  HeadScratch head;
};
static Own& own() {
  static thread_local Own mine;
  return mine;
}

static Head head_of(const StepLayer& l, const StepTexts& t, const bf16* qkv, int text, int row, int h) {
  const int columns = (l.heads + 2 * l.kv_heads) * l.head_dim, shared = h / (l.heads / l.kv_heads), start = t.starts[text];
  const bf16* at = qkv + static_cast<size_t>(start) * columns;
  Head made{t.starts[text + 1] - start, row_of(t, t.starts[text + 1]) - row, l.head_dim, l.window, l.scale, at + h * l.head_dim,
            at + (l.heads + shared) * l.head_dim, at + (l.heads + l.kv_heads + shared) * l.head_dim, static_cast<size_t>(columns), Dropout(t.key, l.drop_attention),
            (static_cast<uint64_t>(start) * l.heads + h) << 16, static_cast<uint64_t>(l.heads) << 16,
            l.near ? l.near + h * l.near_stride() + l.span : nullptr, t.asked ? t.asked + row : nullptr, start};
  return made;
}

// Where column `col` of row r of a chunk's hidden numbers is; the last panel may have 32 columns.
BS_INLINE size_t hidden_at(int rows, int columns, int r, int col) {
  const int first = col & ~63, wide = columns - first < 64 ? 32 : 64;
  return static_cast<size_t>(first) * rows + static_cast<size_t>(r) * wide + (col & 63);
}

static void forward_chunk(const Made& m, const StepTexts& t, const Chunk& c, const Saved& s, const bf16* x, bf16* y) {
  const StepLayer& l = m.l;
  const size_t D = l.dim, C = m.qkv.out, A = m.out.in, U = m.up.out, F = l.hidden, first = c.tokens.begin, begin = c.given.begin;
  const int tokens = c.tokens.rows(), rows = c.given.rows();
  Own& mine = own();
  float *z = mine.stream.resize(tokens * D), *tmp = mine.branch.resize(D);
  bf16 *input = s.input + first * D, *qkv = s.qkv + first * C, *context = s.context + begin * A, *middle = s.middle + begin * D;
  auto normalise_row = [&](NormName which, int r, float* row) {
    const size_t at = r + (which == ATTENTION_IN ? first : begin);
    if (l.norm_kind[which]) norm_forward(m.norm[which], row, s.standard[which] + at * D, s.inverse[which] + at, l.dim);
  };
  auto keep = [&](const float* row, bf16* to) {
    for (size_t i = 0; i < D; i += W) store_bf16(to + i, load(row + i));
  };
  auto branch_in = [&](NormName which, int r, const float* row, bf16* to) {  // what a branch reads: its norm of the stream
    std::memcpy(tmp, row, D * sizeof(float));
    normalise_row(which, r, tmp);
    keep(tmp, to + r * D);
  };
  for (int r = 0; r < tokens; r++) {
    const bf16* from = x + t.where[first + r] * D;
    for (size_t i = 0; i < D; i += W) store(z + r * D + i, load_bf16(from + i));
    branch_in(ATTENTION_IN, r, z + r * D, input);
  }
  const float *b_qkv = m.qkv.bias.data(), *b_out = m.out.bias.data(), *b_up = m.up.bias.data(), *b_down = m.down.bias.data();
  times({input, D / 2}, tokens, m.qkv.forward.get(), l.dim / 2, C, [=](int r, int col, vf v) { store_bf16(qkv + r * C + col, v + load(b_qkv + col)); });
  if (l.cosine) rotate(l, t, c.first, c.last, qkv, false);
  for (int text = c.first; text < c.last; text++)
    for (int h = 0, group = l.heads / l.kv_heads; h < l.heads; h++) {
      const size_t row = row_of(t, t.starts[text]);
      attend_forward(head_of(l, t, s.qkv, text, row, h), mine.head, h % group != 0, s.context + row * A + h * l.head_dim, A, s.lse + row * l.heads + h, l.heads);
    }
  if (t.asked)
    for (int r = 0; r < rows; r++) std::memmove(z + r * D, z + (t.asked[begin + r] - first) * D, D * sizeof(float));
  const Dropout mixer(t.key, l.drop_mixer), inner(t.key, l.drop_inner), ffn(t.key, l.drop_ffn);
  times({context, A / 2}, rows, m.out.forward.get(), A / 2, D, [=](int r, int col, vf v) {
    float* at = z + r * D + col;
    store(at, load(at) + mixer(v + load(b_out + col), MIXER, ((begin + r) * D + col) / W));
  });
  for (int r = 0; r < rows; r++) {
    normalise_row(ATTENTION_OUT, r, z + r * D);
    branch_in(FFN_IN, r, z + r * D, middle);
  }
  bf16 *hidden = s.hidden + begin * U, *active = mine.short_rows.resize(rows * F);
  with_act(l.act, [&](auto act) {
    constexpr int ACT = decltype(act)::value;
    const bool gated = l.gated;
    float* stripe = mine.stripe.resize(rows * 64);
    auto keep = [=](int r, int col, vf v) { store(stripe + r * 64 + col % 64, v + load(b_up + col)); };
    times_then({middle, D / 2}, rows, m.up.forward.get(), D / 2, U, keep, [&](int left, int wide) {
      const int half = gated ? 32 : wide;
      for (int r = 0; r < rows; r++)
        for (int i = 0; i < half; i += W) {
          bf16* to = hidden + hidden_at(rows, U, r, left + i);
          const size_t at = r * F + (gated ? left / 2 : left) + i;
          const vf a = activate<ACT, BF16>(stream_bf16(to, load(stripe + r * 64 + i)));
          store_bf16(active + at, inner(gated ? a * stream_bf16(to + 32, load(stripe + r * 64 + i + 32)) : a, INNER, (begin * F + at) / W));
        }
    });
  });
  times({active, F / 2}, rows, m.down.forward.get(), F / 2, D, [=](int r, int col, vf v) {
    float* at = z + r * D + col;
    store(at, load(at) + ffn(v + load(b_down + col), HIDDEN, ((begin + r) * D + col) / W));
  });
  for (int r = 0; r < rows; r++) {
    normalise_row(FFN_OUT, r, z + r * D);
    keep(z + r * D, y + t.where[t.token_of(begin + r)] * D);
  }
}

// Both factors of a weight's gradient, dW = dy' x, laced by the chunks while they have them in cache; and sums of dy's columns, a chunk each.
struct Factors {
  Buffer<uint32_t> left, right;  // panels of dy [depth][out] and of x [depth][in]
  Buffer<float> bias;            // [parts, out]
  int depth = 0, parts = 0;

  void begin(const Product& p, int pairs, int number_of_parts) {
    depth = pairs, parts = number_of_parts;
    if (p.trains || p.trains_bias) left.resize(static_cast<size_t>(depth) * p.out), bias.resize(static_cast<size_t>(parts) * p.out);
    if (p.trains) right.resize(static_cast<size_t>(depth) * p.in);
  }
  void take_slopes(const Product& p, const bf16* dy, size_t stride, int rows, int number, int pair) {
    if (p.trains || p.trains_bias) lace_all(dy, stride, rows, p.out, left.get(), depth, pair, bias.get() + static_cast<size_t>(number) * p.out);
  }
  void take_inputs(const Product& p, const bf16* x, int rows, int pair) {
    if (p.trains) lace_all(x, p.in, rows, p.in, right.get(), depth, pair, nullptr);
  }
};

// What a backward pass sums over chunks.
struct Slopes {
  Factors qkv, out, up, down;
  Buffer<uint32_t> wide;  // what enters a product with many outputs, laced
  Buffer<float> norms;  // [chunks, NORMS, 2, D]
  Buffer<float> near;   // [chunks, heads, 2 span + 33], or empty
};

static void backward_chunk(const Made& m, const StepTexts& t, const Chunk& c, const Saved& s, Slopes& g, const bf16* dy, bf16* dx, bool inside,
                           float* dnear) {
  const StepLayer& l = m.l;
  const size_t D = l.dim, C = m.qkv.out, A = m.out.in, U = m.up.out, F = l.hidden, first = c.tokens.begin, begin = c.given.begin;
  const int tokens = c.tokens.rows(), rows = c.given.rows(), pair = c.given.pair;
  Own& mine = own();
  float *d = mine.stream.resize(tokens * D), *e = mine.branch.resize(tokens * D), *sums_of_norms = g.norms.get() + c.number * NORMS * 2 * D;
  bf16 *narrow = mine.short_rows.resize(rows * std::max(D, A)), *d_up = mine.slopes.resize(std::max(rows * U, tokens * C));
  auto take = [&](Factors& f, const Product& p, const Span& of, const bf16* slopes, const bf16* inputs) {
    f.take_slopes(p, slopes, p.out, of.rows(), c.number, of.pair), f.take_inputs(p, inputs, of.rows(), of.pair);
  };
  auto through_norm = [&](NormName which, int r, const float* from, const float* also, float* to) {
    float* of = sums_of_norms + which * 2 * D;
    const size_t at = r + (which == ATTENTION_IN ? first : begin);
    norm_backward(m.norm[which], from, s.standard[which] + at * D, s.inverse[which][at], also, to, of, of + D, l.dim);
  };
  auto drop_row = [&](const Dropout& drop, Site site, int r, bf16* to) {
    for (size_t i = 0; i < D; i += W) store_bf16(to + r * D + i, drop(load(d + r * D + i), site, ((begin + r) * D + i) / W));
  };
  // what comes back from a branch joins the stream
  auto join = [&](NormName in, int r) {
    if (l.norm_kind[in]) return through_norm(in, r, e + r * D, d + r * D, d + r * D);
    for (size_t i = 0; i < D; i += W) store(d + r * D + i, load(d + r * D + i) + load(e + r * D + i));
  };
  for (int r = 0; r < rows; r++) {
    const bf16* from = dy + t.where[t.token_of(begin + r)] * D;
    for (size_t i = 0; i < D; i += W) store(d + r * D + i, load_bf16(from + i));
    if (l.norm_kind[FFN_OUT]) through_norm(FFN_OUT, r, d + r * D, nullptr, d + r * D);
    drop_row(Dropout(t.key, l.drop_ffn), HIDDEN, r, narrow);
  }
  g.down.take_slopes(m.down, narrow, D, rows, c.number, pair);
  const bf16* hidden = s.hidden + begin * U;
  with_act(l.act, [&](auto act) {
    constexpr int ACT = decltype(act)::value;
    const bool gated = l.gated;
    const Dropout inner(t.key, l.drop_inner);
    bf16* active = mine.active.resize(rows * 64);  // of one panel
    float* stripe = mine.stripe.resize(rows * 64);
    auto keep = [=](int r, int col, vf v) { store(stripe + r * 64 + col % 64, v); };
    times_then({narrow, D / 2}, rows, m.down.backward.get(), D / 2, F, keep, [&](int left, int wide) {
      for (int r = 0; r < rows; r++)
        for (int col = left; col < left + wide; col += W) {
          const int column = gated ? col / 32 * 64 + col % 32 : col;
          const bf16* from = hidden + hidden_at(rows, U, r, column);
          const vf x = load_bf16(from), y = activate<ACT, BF16>(x), other = gated ? load_bf16(from + 32) : all(1.f);
          const vf kept = inner(all(1.f), INNER, ((begin + r) * F + col) / W), d = load(stripe + r * 64 + col % 64) * kept;
          store_bf16(active + r * 64 + col % 64, y * other * kept);
          store_bf16(d_up + r * U + column, d * other * slope_of<ACT>(x));
          if (gated) store_bf16(d_up + r * U + column + 32, d * y);
        }
      if (m.down.trains) lace_all(active, 64, rows, wide, g.down.right.get() + static_cast<size_t>(left) * g.down.depth, g.down.depth, pair, nullptr);
    });
  });
  take(g.up, m.up, c.given, d_up, s.middle + begin * D);
  times({d_up, U / 2}, rows, m.up.backward.get(), U / 2, D, [=](int r, int col, vf v) { store(e + r * D + col, v); });
  for (int r = 0; r < rows; r++) {
    join(FFN_IN, r);
    if (l.norm_kind[ATTENTION_OUT]) through_norm(ATTENTION_OUT, r, d + r * D, nullptr, d + r * D);
    drop_row(Dropout(t.key, l.drop_mixer), MIXER, r, narrow);
  }
  take(g.out, m.out, c.given, narrow, s.context + begin * A);
  if (!inside) return;
  bf16 *d_context = mine.active.resize(rows * A), *d_qkv = d_up;
  times({narrow, D / 2}, rows, m.out.backward.get(), D / 2, A, [=](int r, int col, vf v) { store_bf16(d_context + r * A + col, v); });
  if (t.asked)
    for (int r = 0; r < tokens; r++) std::memset(d_qkv + r * C, 0, l.heads * l.head_dim * sizeof(bf16));
  for (int text = c.first; text < c.last; text++)
    for (int h = 0, group = l.heads / l.kv_heads; h < l.heads; h++) {
      const size_t row = row_of(t, t.starts[text]), local = t.starts[text] - first, H = l.head_dim;
      const Head head = head_of(l, t, s.qkv, text, row, h);
      attend_backward(head, mine.head, h % group != 0, d_context + (row - begin) * A + h * H, A, s.lse + row * l.heads + h, l.heads, d_qkv + local * C + h * H,
                      dnear ? dnear + h * l.near_stride() + l.span : nullptr);
      if ((h + 1) % group) continue;
      for (int i = 0; i < head.tokens; i++)
        for (size_t j = 0; j < H; j += W) {
          bf16* dk = d_qkv + (local + i) * C + (l.heads + h / group) * H + j;
          store_bf16(dk, load(mine.head.dk.get() + i * H + j));
          store_bf16(dk + l.kv_heads * H, load(mine.head.dv.get() + i * H + j));
        }
    }
  if (l.cosine) rotate(l, t, c.first, c.last, d_qkv, true);
  take(g.qkv, m.qkv, c.tokens, d_qkv, s.input + first * D);
  if (!dx && !l.norm_kind[ATTENTION_IN]) return;
  times({d_qkv, C / 2}, tokens, m.qkv.backward.get(), C / 2, D, [=](int r, int col, vf v) { store(e + r * D + col, v); });
  if (t.asked)  // from the last row on, so that none is written over that is still to be moved
    for (int r = tokens - 1, from = rows; r >= 0; r--) {
      if (from && t.asked[begin + from - 1] == static_cast<int>(first) + r)
        std::memmove(d + r * D, d + --from * D, D * sizeof(float));
      else
        std::memset(d + r * D, 0, D * sizeof(float));
    }
  for (int r = 0; r < tokens; r++) {
    join(ATTENTION_IN, r);
    if (!dx) continue;
    bf16* to = dx + t.where[first + r] * D;
    for (size_t i = 0; i < D; i += W) store_bf16(to + i, load(d + r * D + i));
  }
}

// dW[n][k] = sum over tokens of dy[n] x[k], for panels [first, last) of outputs and [begin, end) of inputs. left: laced dy from panel `first` on.
static void weight_block(Product& p, const uint32_t* left, const uint32_t* right, int depth, int first, int last, int begin, int end) {
  alignas(64) static thread_local float total[TOGETHER][BESIDE][64][64];
  auto width = [&](int j) { return std::min(64, p.in - 64 * j); };
  for (int k = 0; k < depth; k += DEEP)
    for (int i = first; i < last; i++)
      for (int j = begin; j < end; j++) {
        const int high = std::min(64, p.out - 64 * i), dwords = std::min(DEEP, depth - k);
        float* sum_of = total[i - first][j - begin][0];
        const Rows rows{left + static_cast<size_t>(64 * (i - first)) * depth + static_cast<size_t>(k) * high, 1, static_cast<size_t>(high)};
        const uint32_t* w = right + static_cast<size_t>(64 * j) * depth;
        auto start = [=](int r, int c, vf v) { store(sum_of + r * 64 + c, v); };
        auto go_on = [=](int r, int c, vf v) { store(sum_of + r * 64 + c, load(sum_of + r * 64 + c) + v); };
        k ? times(rows, high, w, depth, width(j), go_on, k, dwords) : times(rows, high, w, depth, width(j), start, k, dwords);
      }
  for (int n = 64 * first; n < std::min(p.out, 64 * last); n++)
    if (bf16* to = p.block_gradient[n / 32])
      for (int j = begin; j < end; j++)
        for (int c = 0; c < width(j); c += W)
          store_bf16(to + static_cast<size_t>(n % 32) * p.in + 64 * j + c, load(total[n / 64 - first][j - begin][n % 64] + c));
}

// A weight's gradient, and its bias's: the sums of dy.
static void weight_gradient(Product& p, Factors& f, int threads) {
  if (!p.trains && !p.trains_bias) return;
  for (int c = 0; c < p.out; c += W)
    if (bf16* to = p.bias_gradient[c / 32]) {
      vf total = zero();
      for (int i = 0; i < f.parts; i++) total = total + load(f.bias.get() + static_cast<size_t>(i) * p.out + c);
      store_bf16(to + c % 32, total);
    }
  const int outs = (p.out + 63) / 64, ins = p.trains ? (p.in + 63) / 64 : 0;
  const int high_groups = (outs + TOGETHER - 1) / TOGETHER, wide_groups = (ins + BESIDE - 1) / BESIDE;
  share(threads, wide_groups * high_groups, [&](int task) {
    const int first = task / wide_groups * TOGETHER, begin = task % wide_groups * BESIDE;
    weight_block(p, f.left.get() + static_cast<size_t>(64 * first) * f.depth, f.right.get(), f.depth, first, std::min(outs, first + TOGETHER), begin,
                 std::min(ins, begin + BESIDE));
  });
}

static std::mutex one_at_a_time;
static Slopes& slopes() {  // large, and the same for every layer
  static Slopes shared;
  return shared;
}

static int64_t bytes(const StepLayer& l, const StepTexts& t) { return Saved(l, t, nullptr).bytes; }

static void forward(const StepLayer& l, const StepTexts& t, const bf16* x, bf16* y, void* memory, int threads) {
  Made m(l, StepGradients{});
  m.each([&](Product& p) {
    p.forward.resize(static_cast<size_t>(p.in) / 2 * p.out);
    share(threads, p.panels_forward(), [&](int i) { p.pack_forward(i); });
  });
  const Saved saved(l, t, memory);
  *saved.threads = threads;
  const auto parts = chunks(t, threads);
  share(threads, static_cast<int>(parts.size()), [&](int i) { forward_chunk(m, t, parts[i], saved, x, y); });
}

static void backward(const StepLayer& l, const StepTexts& t, const void* memory, const bf16* dy, bf16* dx, const StepGradients& wanted, int threads) {
  std::lock_guard<std::mutex> only(one_at_a_time);
  Slopes& g = slopes();
  Made m(l, wanted);
  m.each([&](Product& p) {
    p.backward.resize(static_cast<size_t>(p.in) / 2 * p.out);
    share(threads, p.panels_backward(), [&](int i) { p.pack_backward(i); });
  });
  const Saved s(l, t, const_cast<void*>(memory));
  const auto parts = chunks(t, static_cast<int>(*s.threads));
  const size_t D = l.dim, of_norms = NORMS * 2 * D;
  const std::pair<Product*, Factors*> products[] = {{&m.down, &g.down}, {&m.up, &g.up}, {&m.out, &g.out}, {&m.qkv, &g.qkv}};
  for (auto [p, f] : products) {
    const Span all = parts.empty() ? Span{} : p == &m.qkv ? parts.back().tokens : parts.back().given;
    f->begin(*p, all.pair_end(), static_cast<int>(parts.size()));
  }
  std::memset(g.norms.resize(parts.size() * of_norms), 0, parts.size() * of_norms * sizeof(float));
  const bool first_norm = l.norm_kind[ATTENTION_IN] && (wanted.norm_weight[ATTENTION_IN] || wanted.norm_bias[ATTENTION_IN]);
  const size_t of_near = wanted.near ? l.heads * l.near_stride() : 0;
  if (of_near) std::memset(g.near.resize(parts.size() * of_near), 0, parts.size() * of_near * sizeof(float));
  const bool inside = dx || wanted.near || m.qkv.trains || m.qkv.trains_bias || first_norm;
  share(threads, static_cast<int>(parts.size()), [&](int i) {
    backward_chunk(m, t, parts[i], s, g, dy, dx, inside, of_near ? g.near.get() + i * of_near : nullptr);
  });
  for (size_t i = 0; i < of_near; i++) {
    wanted.near[i] = 0.f;
    for (size_t c = 0; c < parts.size(); c++) wanted.near[i] += g.near.get()[c * of_near + i];
  }
  for (int n = 0; n < 2 * NORMS; n++)
    if (bf16* to = n % 2 ? wanted.norm_bias[n / 2] : wanted.norm_weight[n / 2])
      for (size_t i = 0; i < D; i += W) {
        vf total = zero();
        for (size_t c = 0; c < parts.size(); c++) total = total + load(g.norms.get() + c * of_norms + n * D + i);
        store_bf16(to + i, total);
      }
  for (auto [p, f] : products) weight_gradient(*p, *f, threads);
}

// A product with many outputs: 32 rows of weights each, the last ones filled up with 0.
struct Wide {
  Product product;
  Buffer<bf16> tail, tail_gradient, tail_bias, tail_bias_gradient;
  int whole, rest;  // outputs in full blocks, and those beyond

  Wide(const StepWide& w, bf16* dweight, bf16* dbias) : whole(w.out / 32 * 32), rest(w.out % 32) {
    for (int row = 0; row < whole; row += 32) product.add(w.weight, w.bias, dweight, dbias, row, w.in);
    if (!rest) return;
    const size_t at = static_cast<size_t>(whole) * w.in;
    tail.assign(w.weight + at, static_cast<size_t>(rest) * w.in, 32 * w.in);
    if (w.bias) tail_bias.assign(w.bias + whole, rest, 32);
    product.add(tail.get(), tail_bias.get(), dweight ? tail_gradient.resize(32 * w.in) : nullptr, dbias ? tail_bias_gradient.resize(32) : nullptr, 0, w.in);
  }
  void give_tail(const StepWide& w, bf16* dweight, bf16* dbias) {
    if (rest && dweight) std::memcpy(dweight + static_cast<size_t>(whole) * w.in, tail_gradient.get(), sizeof(bf16) * rest * w.in);
    if (rest && dbias) std::memcpy(dbias + whole, tail_bias_gradient.get(), sizeof(bf16) * rest);
  }
};

static void wide_forward(const StepWide& w, const bf16* x, bf16* y, int threads) {
  Wide made(w, nullptr, nullptr);
  Product& p = made.product;
  p.forward.resize(static_cast<size_t>(p.in) / 2 * p.out);
  const float* bias = p.bias.data();
  const size_t stride = w.stride;
  share(threads, p.panels_forward(), [&](int i) {
    p.pack_forward(i);
    const uint32_t* panel_of = p.forward.get() + static_cast<size_t>(64 * i) * (p.in / 2);
    const int first = 64 * i, columns = std::min(64, p.out - first);
    times({x, static_cast<size_t>(p.in) / 2}, w.rows, panel_of, p.in / 2, columns,
          [=](int r, int c, vf v) { store_bf16(y + r * stride + first + c, v + load(bias + first + c)); });
  });
}

static void wide_backward(const StepWide& w, const bf16* x, const bf16* dy, bf16* dx, bf16* dweight, bf16* dbias, int threads) {
  std::lock_guard<std::mutex> only(one_at_a_time);
  Wide made(w, dweight, dbias);
  Product& p = made.product;
  const int depth = p.out / 2, blocks = p.out / 32, rows_each = std::max(48, (w.rows / (2 * threads) + 5) / 6 * 6);
  const size_t in = p.in;
  if (dx) {
    constexpr int MANY = 32;
    p.backward.resize(in / 2 * p.out);
    share(threads, (blocks + MANY - 1) / MANY, [&](int task) {
      for (int c = 0; c < p.in; c += 32) {
        const Place at = place(c, p.in, depth);
        for (int b = MANY * task; b < std::min(blocks, MANY * (task + 1)); b++)
          lace(p.block[b] + c, in, 32, p.backward.get() + at.offset + static_cast<size_t>(b) * 16 * at.columns, at.columns);
      }
    });
    share(threads, (w.rows + rows_each - 1) / rows_each, [&](int task) {
      const int first = task * rows_each, rows = std::min(rows_each, w.rows - first);
      float* total = own().stream.resize(rows * in);
      std::memset(total, 0, sizeof(float) * rows * in);
      for (int k = 0; k < depth; k += DEEP)
        times({dy + static_cast<size_t>(first) * w.stride + 2 * k, static_cast<size_t>(w.stride) / 2}, rows, p.backward.get(), depth, p.in,
              [=](int r, int c, vf v) { store(total + r * in + c, load(total + r * in + c) + v); }, k, std::min(DEEP, depth - k));
      for (size_t i = 0; i < rows * in; i += W) store_bf16(dx + first * in + i, load(total + i));
    });
  }
  if (!p.trains && !p.trains_bias) return;
  // dy is as wide as the vocabulary: a task laces its own columns of it, and has them in cache
  const int pairs = (w.rows + 1) / 2, outs = (p.out + 63) / 64, ins = p.trains ? (p.in + 63) / 64 : 0;
  uint32_t* right = slopes().wide.resize(static_cast<size_t>(pairs) * in);
  if (p.trains) share(threads, ins, [&](int i) { lace_all(x + 64 * i, in, w.rows, std::min(64, p.in - 64 * i), right + static_cast<size_t>(64 * i) * pairs); });
  share(threads, (outs + TOGETHER - 1) / TOGETHER, [&](int task) {
    const int first = task * TOGETHER, last = std::min(outs, first + TOGETHER), columns = std::min(p.out, 64 * last) - 64 * first;
    uint32_t* left = own().laced.resize(static_cast<size_t>(pairs) * 64 * TOGETHER);
    alignas(64) float total[64 * TOGETHER];
    lace_all(dy + 64 * first, w.stride, w.rows, columns, left, pairs, 0, total);
    for (int c = 0; c < columns; c += W)
      if (bf16* to = p.bias_gradient[(64 * first + c) / 32]) store_bf16(to + c % 32, load(total + c));
    for (int begin = 0; begin < ins; begin += BESIDE) weight_block(p, left, right, pairs, first, last, begin, std::min(ins, begin + BESIDE));
  });
  made.give_tail(w, dweight, dbias);
}

BS_INLINE float to_float(bf16 x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

// log(sum exp) of a row, whose columns beyond `columns` do not count.
static float log_sum(const bf16* row, int columns) {
  vf most = all(-1e30f), total = zero();
  for (int c = 0; c < columns; c += W) most = max(most, pick(within(c, 0, columns), load_bf16(row + c), all(-1e30f)));
  const float top = largest(most);
  for (int c = 0; c < columns; c += W) total = total + pick(within(c, 0, columns), exp2<true>((load_bf16(row + c) - all(top)) * all(LOG2E)), zero());
  return top + std::log(sum(total));
}

static void entropy_forward(const StepRows& z, const int64_t* target, float* lse, float* loss, int threads) {
  share(threads, z.rows, [&](int r) {
    const bf16* row = z.data + r * z.stride;
    lse[r] = log_sum(row, z.columns);
    loss[r] = lse[r] - to_float(row[target[r]]);
  });
}

// x as bf16, up or down with chances that make it x in the mean; `number` is a draw of 16 bits.
BS_INLINE bf16 round_by_chance(float x, uint32_t number) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return static_cast<bf16>((bits + number) >> 16);
}

// d loss / d logits = (softmax(logits) - onehot(target)) times the gradient of the loss; 0 beyond the last column. At the target this is
// nearly the same number in every row: rounded to the nearest, all gradients of the model would be short by the same 0.2 %.
static void entropy_backward(const StepRows& z, const int64_t* target, const float* lse, float slope, bf16* dz, int threads) {
  share(threads, z.rows, [&](int r) {
    const bf16* row = z.data + r * z.stride;
    bf16* to = dz + r * z.stride;
    const vf less = all(lse[r] * LOG2E);
    for (int c = 0; c < z.stride; c += W) {
      const vf p = exp2<true>(fma(load_bf16(row + c), all(LOG2E), zero() - less));
      store_bf16(to + c, pick(within(c, 0, z.columns), p * all(slope), zero()));
    }
    const float p = std::exp(to_float(row[target[r]]) - lse[r]);
    to[target[r]] = round_by_chance((p - 1.f) * slope, static_cast<uint32_t>(r) * 0x9e3779b1u >> 16);
  });
}

static void multipliers(uint64_t key, int site, float rate, int64_t first, int64_t groups, float* out) {
  const Dropout drop(key, rate);
  for (int64_t i = 0; i < groups; i++) store(out + i * W, drop(all(1.f), site, first + i));
}

void embed_forward(const StepEmbed& embed, bf16* y, bf16* standard, float* inverse, int threads);  // embed.cpp
void embed_backward(const StepEmbed& embed, const bf16* standard, const float* inverse, const bf16* dy, bf16* const* dtable, bf16* dnorm_weight,
                    bf16* dnorm_bias, int threads);
void update(const StepUpdate* tensors, int count, float beta1, float beta2, float eps, float scale, int threads);  // update.cpp
double squares(const StepUpdate* tensors, int count, int threads);

extern const Step step;
const Step step{bytes, forward, backward, embed_forward, embed_backward, wide_forward, wide_backward, entropy_forward, entropy_backward, update, squares,
                multipliers};

}  // namespace BS_ISA
