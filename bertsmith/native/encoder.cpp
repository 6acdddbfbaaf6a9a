// A whole encoder on packed texts: a chunk of about 256 tokens goes through all layers on one thread, so that its activations stay
// in that processor's cache and threads never wait for each other. When there are fewer chunks than threads, all of them share each
// chunk: columns of the products, heads of the attention, rows of what lies between.
#include "encoder.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <type_traits>
#include <vector>

#include "attention.h"
#include "pool.h"
#include "table.h"

namespace BS_ISA {

using bertsmith::Barrier;
using bertsmith::EmbeddingWeights;
using bertsmith::LayerWeights;
using bertsmith::LinearWeights;
using bertsmith::NormWeights;
using bertsmith::Pool;

constexpr int CHUNK = 256;  // tokens
enum Product : int { QKV = 0, OUT = 1, UP = 2, DOWN = 3, PRODUCTS = 4 };  // of a layer

// What an adapter adds to a product: widen (narrow x).
struct Extra {
  Linear narrow, widen;
};

struct Layer {
  Attention attention;
  Linear qkv, out, up, down;
  Norm attention_in, attention_out, ffn_in, ffn_out;
  int act = GELU;
  std::vector<std::unique_ptr<Extra>> extras[PRODUCTS];  // of adapters, by their number
};

// Activations of one chunk, shared by the threads that work on it.
struct Activations {
  Buffer<float> stream, branch, step, most;  // x; what a norm makes of it; rows' steps; largest hidden numbers, W a row and thread
  Buffer<uint32_t> input, qkv, hidden, rounded;
  Buffer<float> more;       // what adapters add to a product
  Buffer<uint32_t> narrow;  // rows as an adapter narrows them, of every thread its own
};

static void set(Norm& to, const NormWeights& from, int dim) {
  to.kind = from.kind, to.eps = from.eps;
  if (!from.kind) return;
  to.weight.assign(from.weight, dim, round_up(dim, WIDE));
  to.bias.assign(from.bias, dim, round_up(dim, WIDE));
}

static void set(Linear& to, const LinearWeights& from, bool is_signed = true, float low = 0.f) {
  pack(to, from.kind, from.out, from.in, from.gated, from.weight, from.scale, from.bias, from.smooth, is_signed, low);
}

template <class F>
static void with_act(int act, const F& f) {
  switch (act) {
    case GELU: return f(std::integral_constant<int, GELU>());
    case RELU: return f(std::integral_constant<int, RELU>());
    case SILU: return f(std::integral_constant<int, SILU>());
    case GELU_TANH: return f(std::integral_constant<int, GELU_TANH>());
    case TANH: return f(std::integral_constant<int, TANH>());
    case SQUARED_RELU: return f(std::integral_constant<int, SQUARED_RELU>());
    default: return f(std::integral_constant<int, IDENTITY>());
  }
}

// Where chunks of about `share` tokens begin, in texts, and the last one ends: cut where the last tile of rows is fullest.
static std::vector<int> cut(const int32_t* starts, int texts, int share) {
  const int least = share - share / 8, most = share + share / 8;
  std::vector<int> begins{0};
  while (begins.back() < texts) {
    const int begin = begins.back();
    int end = starts[texts] - starts[begin] <= most ? texts : begin + 1, fewest = SLACK;  // rows of a tile that are not there
    for (int i = end; i < texts && starts[i] - starts[begin] <= most; i++) {
      const int rows = starts[i] - starts[begin], empty = rows < least ? SLACK : round_up(rows, SLACK) - rows;
      if (empty <= fewest) end = i, fewest = empty;
    }
    begins.push_back(end);
  }
  return begins;
}

class PackedEncoder final : public bertsmith::Encoder {
 public:
  PackedEncoder(int dim, const EmbeddingWeights& e) : dim_(dim), wide_(round_up(dim, WIDE)), table_(e) {
    set(embedded_, e.norm, e.width);
    if (e.project.out) set(project_, e.project);
  }

  void add(const LayerWeights& from) override {
    auto to = std::make_unique<Layer>();
    Attention& a = to->attention;
    a.heads = from.heads, a.kv_heads = from.kv_heads, a.head_dim = from.head_dim, a.window = from.window;
    a.places = from.places, a.span = from.span;
    a.cosine = from.cosine, a.sine = from.sine;
    if (from.bias) {
      a.bias.resize(static_cast<size_t>(a.heads) * a.stride_of_bias());
      for (int h = 0; h < a.heads; h++)
        std::memcpy(a.bias.get() + static_cast<size_t>(h) * a.stride_of_bias() + 2 * W, from.bias + static_cast<size_t>(h) * (2 * a.span + 1),
                    (2 * a.span + 1) * sizeof(float));
    }
    float low = 0.f;
    bool unsigned_hidden = lowest(from.act, low) && !from.up.gated;
    set(to->qkv, from.qkv), set(to->out, from.out), set(to->up, from.up), set(to->down, from.down, !unsigned_hidden, low);
    set(to->attention_in, from.attention_in, dim_), set(to->attention_out, from.attention_out, dim_);
    set(to->ffn_in, from.ffn_in, dim_), set(to->ffn_out, from.ffn_out, dim_);
    to->act = from.act;
    layers_.push_back(std::move(to));
  }

  void finish(const NormWeights& last) override { set(last_, last, dim_); }

  void adapt(int adapter, int layer, int product, const LinearWeights& narrow, const LinearWeights& widen) override {
    std::lock_guard<std::mutex> only(running_);
    auto& all = layers_.at(layer)->extras[product];
    if (static_cast<int>(all.size()) <= adapter) all.resize(adapter + 1);
    all[adapter] = std::make_unique<Extra>();
    set(all[adapter]->narrow, narrow), set(all[adapter]->widen, widen);
    between_ = std::max(between_, all[adapter]->narrow.out);
  }

  void run(const int32_t* ids, const int32_t* types, const int32_t* starts, const int32_t* adapters, int texts, int pooling, int threads,
           float* out) override {
    std::lock_guard<std::mutex> only(running_);
    const int tokens = starts[texts];
    const std::vector<int> begins = cut(starts, texts, std::min(CHUNK, std::max(64, (tokens + threads - 1) / threads)));
    const int chunks = static_cast<int>(begins.size()) - 1;
    int most = 0, longest = 0;
    for (int c = 0; c < chunks; c++) most = std::max(most, starts[begins[c + 1]] - starts[begins[c]]);
    for (int i = 0; i < texts; i++) longest = std::max(longest, starts[i + 1] - starts[i]);
    bertsmith::in_table("token", ids, tokens, table_.vocab);
    if (types && table_.types) bertsmith::in_table("type", types, tokens, table_.types);
    if (longest > table_.places)
      throw std::out_of_range("a text of " + std::to_string(longest) + " tokens is longer than the " + std::to_string(table_.places) +
                              " that this encoder has places for");
    Given given{ids, types, starts, adapters, pooling, out};
    if (static_cast<int>(work_.size()) < threads) work_.resize(threads), scratch_.resize(threads);
    const bool together = chunks < threads;
    for (int t = 0; t < threads; t++) {
      if (!work_[t]) work_[t] = std::make_unique<Activations>(), scratch_[t] = std::make_unique<AttentionScratch>();
      if (t == 0 || !together) reserve(*work_[t], most, together ? threads : 1);
      for (auto& layer : layers_) scratch_[t]->resize(longest, layer->attention.padded());
    }
    if (together) {
      Barrier barrier;
      Pool::run(threads, [&](int thread) {
        for (int c = 0; c < chunks; c++) chunk(given, begins[c], begins[c + 1], *work_[0], *scratch_[thread], barrier, thread, threads);
      });
      return;
    }
    std::atomic<int> next{0};
    Pool::run(threads, [&](int thread) {
      Barrier alone;
      for (int c; (c = next++) < chunks;) chunk(given, begins[c], begins[c + 1], *work_[thread], *scratch_[thread], alone, 0, 1);
    });
  }

 private:
  struct Given {
    const int32_t *ids, *types, *starts, *adapters;
    int pooling;
    float* out;
  };

  void reserve(Activations& a, int tokens, int threads) {
    size_t rows = tokens + SLACK, wide = std::max(wide_, round_up(table_.width, WIDE)), columns = 0, inner = 0, widest = wide, outputs = wide;
    for (auto& l : layers_) {
      columns = std::max<size_t>(columns, round_up(l->attention.columns(), WIDE));
      inner = std::max<size_t>(inner, round_up(l->down.in, WIDE));
      widest = std::max<size_t>(widest, round_up(l->out.in, WIDE));
      outputs = std::max<size_t>({outputs, columns, static_cast<size_t>(l->qkv.out), static_cast<size_t>(l->up.out)});
    }
    a.stream.resize(rows * wide_), a.branch.resize(rows * widest), a.step.resize(rows), a.most.resize(rows * W * threads);
    a.input.resize(rows * widest), a.qkv.resize(rows * columns + 2 * W), a.hidden.resize(rows * inner), a.rounded.resize(rows * inner);
    if (between_) a.more.resize(rows * outputs), a.narrow.resize(rows * between_ * threads);
  }

  // x of rows [from, to) through a norm, if there is one, to what `next` reads; `also` gets the normalised row, or is null.
  void prepare(const Norm& norm, const Linear& next, Activations& a, int from, int to, float* also) const {
    for (int r = from; r < to; r++) {
      const float* x = a.stream.get() + static_cast<size_t>(r) * wide_;
      if (norm.kind) {
        float* y = also ? also + static_cast<size_t>(r) * wide_ : a.branch.get() + static_cast<size_t>(r) * wide_;
        normalise(norm, x, y, dim_, wide_);
        x = y;
      }
      round_row(next, x, reinterpret_cast<char*>(a.input.get()) + r * row_bytes(next), a.step.get() + r);
    }
  }

  // Texts [first, last) through everything. The threads that share it are `parts`, this one is number `part`.
  void chunk(const Given& g, int first, int last, Activations& a, AttentionScratch& s, Barrier& barrier, int part, int parts) const {
    const int zero_row = g.starts[first], rows = g.starts[last] - zero_row;
    const int from = rows * part / parts, to = rows * (part + 1) / parts;
    float* x = a.stream.get();
    embed(g, first, last, a, barrier, part, parts, from, to);
    for (size_t i = 0; i < layers_.size(); i++) {
      const Layer& l = *layers_[i];
      const Norm& before = i ? layers_[i - 1]->ffn_out : none_;  // the norm that ends the layer before is done with this one's rounding
      if (before.kind) {
        prepare(before, l.qkv, a, from, to, x);  // post-norm; a norm on the way in as well would be pre-norm's
        if (l.attention_in.kind) prepare(l.attention_in, l.qkv, a, from, to, nullptr);
      } else {
        prepare(l.attention_in, l.qkv, a, from, to, nullptr);
      }
      if (part == 0 && l.attention.cosine) places(g, first, last, a);
      barrier.wait(parts);
      const auto more = [&](Product which, const Linear& of, const void* input) { return added(g, l, which, of, input, a, first, last, part, parts); };
      project_heads(l, a, rows, more(QKV, l.qkv, a.input.get()), part, parts);
      barrier.wait(parts);
      attend_all(g, l, a, s, first, last, part, parts);
      barrier.wait(parts);
      if (l.out.kind == INT8) {
        const size_t wide = round_up(l.out.in, WIDE);
        for (int r = from; r < to; r++)
          round_row(l.out, a.branch.get() + r * wide, reinterpret_cast<char*>(a.input.get()) + r * row_bytes(l.out), a.step.get() + r);
        barrier.wait(parts);
      }
      add_to_stream(l.out, a.input.get(), rows, more(OUT, l.out, a.input.get()), a, part, parts);
      barrier.wait(parts);
      if (l.attention_out.kind) {
        prepare(l.attention_out, l.up, a, from, to, x);
        if (l.ffn_in.kind) prepare(l.ffn_in, l.up, a, from, to, nullptr);
      } else {
        prepare(l.ffn_in, l.up, a, from, to, nullptr);
      }
      barrier.wait(parts);
      feed_forward(l, a, rows, from, to, more(UP, l.up, a.input.get()), barrier, part, parts);
      const void* inner = l.down.kind == INT8 ? a.rounded.get() : a.hidden.get();
      add_to_stream(l.down, inner, rows, more(DOWN, l.down, inner), a, part, parts);
      barrier.wait(parts);
    }
    const Norm& before = layers_.empty() ? none_ : layers_.back()->ffn_out;
    for (int r = from; r < to; r++) {
      float* row = x + static_cast<size_t>(r) * wide_;
      if (before.kind) normalise(before, row, row, dim_, wide_);
      if (last_.kind) normalise(last_, row, row, dim_, wide_);
    }
    barrier.wait(parts);
    give(g, first, last, x, part, parts);
    barrier.wait(parts);
  }

  void embed(const Given& g, int first, int last, Activations& a, Barrier& barrier, int part, int parts, int from, int to) const {
    const int zero_row = g.starts[first], width = table_.width, wide = round_up(width, WIDE);
    float* rows = project_.out ? a.branch.get() : a.stream.get();
    for (int t = first; t < last; t++)
      for (int i = g.starts[t]; i < g.starts[t + 1]; i++) {
        const int r = i - zero_row, place = i - g.starts[t];
        if (r < from || r >= to) continue;
        float* x = rows + static_cast<size_t>(r) * wide;
        const float* word = table_.word + static_cast<size_t>(g.ids[i]) * width;
        const float* position = table_.position ? table_.position + static_cast<size_t>(place) * width : nullptr;
        const float* type = table_.types ? table_.type + static_cast<size_t>(g.types ? g.types[i] : 0) * width : nullptr;
        for (int d = 0; d < width; d++) x[d] = word[d] + (type ? type[d] : 0.f) + (position ? position[d] : 0.f);
        for (int d = width; d < wide; d++) x[d] = 0.f;
        if (embedded_.kind) normalise(embedded_, x, x, width, wide);
        if (project_.out) round_row(project_, x, reinterpret_cast<char*>(a.input.get()) + r * row_bytes(project_), a.step.get() + r);
      }
    if (!project_.out) return;
    barrier.wait(parts);
    float* x = a.stream.get();
    const size_t stride = wide_;
    product<false>(a.input.get(), g.starts[last] - zero_row, project_, a.step.get(), nullptr, part, parts, [=](int r, int c, auto& y) {
      for (int v = 0; v < static_cast<int>(sizeof y / sizeof *y); v++) store(x + r * stride + c + v * W, y[v]);
    });
    barrier.wait(parts);
  }

  // What the adapters of texts [first, last) add to this part of a product's outputs: [rows][outputs], or null if none adds anything.
  const float* added(const Given& g, const Layer& layer, Product which, const Linear& l, const void* input, Activations& a, int first, int last,
                     int part, int parts) const {
    const auto& extras = layer.extras[which];
    const auto of = [&](int text) -> const Extra* {
      const int number = g.adapters ? g.adapters[text] : -1;
      return number >= 0 && number < static_cast<int>(extras.size()) ? extras[number].get() : nullptr;
    };
    bool any = false;
    for (int t = first; t < last; t++) any |= of(t) != nullptr;
    if (!any) return nullptr;
    const int zero_row = g.starts[first], columns = l.columns();
    const int left = l.panels() * part / parts * columns, right = l.panels() * (part + 1) / parts * columns;
    const size_t row = row_bytes(l), rows = g.starts[last] - zero_row + SLACK;
    uint32_t* narrow = a.narrow.get() + part * rows * between_;
    float* more = a.more.get();
    for (int t = first, end; t < last; t = end) {  // those of one adapter at a time; rows that a tile touches beyond are filled next
      const Extra* e = of(t);
      for (end = t + 1; end < last && of(end) == e;) end++;
      const int from = g.starts[t] - zero_row, to = g.starts[end] - zero_row;
      if (e)
        pass(*e, static_cast<const char*>(input) + from * row, to - from, narrow, more + static_cast<size_t>(from) * l.out, part, parts);
      else
        for (int r = from; r < to; r++) std::memset(more + static_cast<size_t>(r) * l.out + left, 0, (right - left) * sizeof(float));
    }
    return more;
  }

  // Rows through an adapter; every part narrows them for itself.
  static void pass(const Extra& e, const void* x, int rows, uint32_t* narrow, float* to, int part, int parts) {
    const size_t between = e.narrow.out, out = e.widen.out;
    [[maybe_unused]] const bool short_numbers = e.widen.kind == BF16;
    product<false>(x, rows, e.narrow, nullptr, nullptr, 0, 1, [=](int r, int c, auto& y) {
      for (int v = 0; v < static_cast<int>(sizeof y / sizeof *y); v++) {
        const size_t at = r * between + c + v * W;
#ifdef __AVX512BF16__
        if (short_numbers) {
          store_bf16(reinterpret_cast<uint16_t*>(narrow) + at, y[v]);
          continue;
        }
#endif
        store(reinterpret_cast<float*>(narrow) + at, y[v]);
      }
    });
    const auto done = [=](int r, int c, auto& y) {
      for (int v = 0; v < static_cast<int>(sizeof y / sizeof *y); v++) store(to + r * out + c + v * W, y[v]);
    };
    if (e.widen.gated)
      product<true>(narrow, rows, e.widen, nullptr, nullptr, part, parts, done);
    else
      product<false>(narrow, rows, e.widen, nullptr, nullptr, part, parts, done);
  }

  // Queries, keys and values, turned by their place where the layer does so, as bf16 or fp32.
  void project_heads(const Layer& l, Activations& a, int rows, const float* more, int part, int parts) const {
    const Attention& at = l.attention;
    const int padded = at.padded(), turned = at.cosine ? (at.heads + at.kv_heads) * padded : 0;
    const size_t stride = round_up(at.columns(), WIDE);
    const float *cosine = at.cosine, *sine = at.sine;
    void* to = a.qkv.get();
    const int32_t* place = reinterpret_cast<const int32_t*>(a.most.get());
    [[maybe_unused]] const bool short_numbers = kind_of_attention(l) == BF16;
    auto done = [=](int r, int c, auto& y) {
      for (int v = 0; v < static_cast<int>(sizeof y / sizeof *y); v++) {
        const int col = c + v * W;
        vf z = y[v];
        if (col < turned) {
          const size_t p = static_cast<size_t>(place[r]) * padded + col % padded;
          z = fma(z, load(cosine + p), swap_neighbours(z) * load(sine + p));
        }
#ifdef __AVX512BF16__
        if (short_numbers) {
          store_bf16(static_cast<uint16_t*>(to) + r * stride + col, z);
          continue;
        }
#endif
        store(static_cast<float*>(to) + r * stride + col, z);
      }
    };
    product<false>(a.input.get(), rows, l.qkv, a.step.get(), more, part, parts, done);
  }

  static int kind_of_attention(const Layer& l) { return HAS_BF16 && l.qkv.kind != FP32 ? BF16 : FP32; }

  // The place of every row in its text, where the rows' largest numbers are kept later.
  static void places(const Given& g, int first, int last, Activations& a) {
    auto* place = reinterpret_cast<int32_t*>(a.most.get());
    for (int t = first; t < last; t++)
      for (int i = g.starts[t]; i < g.starts[t + 1]; i++) place[i - g.starts[first]] = i - g.starts[t];
    const int rows = g.starts[last] - g.starts[first];
    for (int r = rows; r < rows + SLACK; r++) place[r] = 0;
  }

  void attend_all(const Given& g, const Layer& l, Activations& a, AttentionScratch& s, int first, int last, int part, int parts) const {
    const Attention& at = l.attention;
    const int from = at.heads * part / parts, to = at.heads * (part + 1) / parts;
    const size_t wide = round_up(l.out.in, WIDE);
    auto over = [&](auto kind) {
      constexpr int KIND = decltype(kind)::value;
      const size_t stride = round_up(at.columns(), WIDE) / (KIND == BF16 ? 2 : 1);
      for (int t = first; t < last; t++) {
        const size_t row = g.starts[t] - g.starts[first];
        const int tokens = g.starts[t + 1] - g.starts[t];
        attend<KIND>(a.qkv.get() + row * stride, tokens, at, s, from, to, [&](int token, int c, vf y0, vf y1) {
          const size_t place = (row + token) * wide + c;
#ifdef __AVX512BF16__
          if (l.out.kind == BF16) {
            auto* to16 = reinterpret_cast<uint16_t*>(a.input.get()) + place;
            store_bf16(to16, y0), store_bf16(to16 + W, y1);
            return;
          }
#endif
          float* to32 = (l.out.kind == INT8 ? a.branch.get() : reinterpret_cast<float*>(a.input.get())) + place;
          store(to32, y0), store(to32 + W, y1);
        });
      }
    };
    if (kind_of_attention(l) == BF16)
      over(std::integral_constant<int, HAS_BF16 ? BF16 : FP32>());
    else
      over(std::integral_constant<int, FP32>());
  }

  void add_to_stream(const Linear& l, const void* input, int rows, const float* more, Activations& a, int part, int parts) const {
    float* x = a.stream.get();
    const size_t stride = wide_;
    product<false>(input, rows, l, a.step.get(), more, part, parts, [=](int r, int c, auto& y) {
      float* at = x + r * stride + c;
      for (int v = 0; v < static_cast<int>(sizeof y / sizeof *y); v++) store(at + v * W, load(at + v * W) + y[v]);
    });
  }

  // Leaves what `down` reads.
  void feed_forward(const Layer& l, Activations& a, int rows, int from, int to, const float* more, Barrier& barrier, int part, int parts) const {
    with_act(l.act, [&](auto act) {
      if (l.up.gated)
        hidden<decltype(act)::value, true>(l, a, rows, from, to, more, barrier, part, parts);
      else
        hidden<decltype(act)::value, false>(l, a, rows, from, to, more, barrier, part, parts);
    });
  }

  // act(up x) or act(gate x) * up x, as what `down` reads. For int8 a row's step is known when all of the row is: until then fp16.
  template <int ACT, bool GATED>
  void hidden(const Layer& l, Activations& a, int rows, int from, int to, const float* more, Barrier& barrier, int part, int parts) const {
    const size_t stride = round_up(l.down.in, WIDE);
    const int all_rows = rows + SLACK;
    float* most = a.most.get() + static_cast<size_t>(part) * all_rows * W;
    void* out = a.hidden.get();
    const int kind = l.down.kind;
    if (kind == INT8) std::memset(most, 0, sizeof(float) * W * all_rows);
    auto over = [&](auto to_kind) {
      constexpr int KIND = decltype(to_kind)::value;
      product<GATED>(a.input.get(), rows, l.up, a.step.get(), more, part, parts, [=](int r, int c, auto& y) {
        constexpr int NV = static_cast<int>(sizeof y / sizeof *y), RESULTS = GATED ? NV / 2 : NV;
        const size_t at = r * stride + (GATED ? c / 2 : c);
        for (int v = 0; v < RESULTS; v++) {
          vf z = activate<ACT, KIND>(y[v]);
          if constexpr (GATED) z = z * y[v + RESULTS];
          if constexpr (KIND == INT8) {
            store(most + r * W, max(load(most + r * W), GATED ? abs(z) : z));
            store_half(static_cast<uint16_t*>(out) + at + v * W, z);
          } else if constexpr (KIND == FP32) {
            store(static_cast<float*>(out) + at + v * W, z);
          } else {
#ifdef __AVX512BF16__
            store_bf16(static_cast<uint16_t*>(out) + at + v * W, z);
#endif
          }
        }
      });
    };
    if (kind == INT8)
      over(std::integral_constant<int, INT8>());
    else if (kind == BF16 && HAS_BF16)
      over(std::integral_constant<int, HAS_BF16 ? BF16 : FP32>());
    else
      over(std::integral_constant<int, FP32>());
    barrier.wait(parts);
    if (kind != INT8) return;
    for (int r = from; r < to; r++) {
      float top = 0.f, low = 0.f;
      for (int p = 0; p < parts; p++) top = std::max(top, largest(load(a.most.get() + (static_cast<size_t>(p) * all_rows + r) * W)));
      const bool is_signed = GATED || !lowest(ACT, low);
      if (is_signed) low = 0.f;
      const float step = (top - low + 1e-20f) / (is_signed ? 127.f : 255.f);
      a.step.get()[r] = step;
      const vf by = all(1.f / step), off = all(-low / step);
      const uint16_t* row = reinterpret_cast<const uint16_t*>(out) + r * stride;
      auto* rounded = reinterpret_cast<uint8_t*>(a.rounded.get()) + r * stride;
      for (size_t i = 0; i < stride; i += W) {
        if (is_signed)
          store_s8(rounded + i, load_half(row + i) * by);
        else
          store_u8(rounded + i, fma(load_half(row + i), by, off));
      }
    }
    barrier.wait(parts);
  }

  // States as they are, or a text's mean or first one, which may be made one long.
  void give(const Given& g, int first, int last, const float* x, int part, int parts) const {
    for (int t = first + part; t < last; t += parts) {
      const size_t row = g.starts[t] - g.starts[first];
      const int tokens = g.starts[t + 1] - g.starts[t];
      if (g.pooling == bertsmith::STATES) {
        for (int i = 0; i < tokens; i++)
          std::memcpy(g.out + static_cast<size_t>(g.starts[t] + i) * dim_, x + (row + i) * wide_, dim_ * sizeof(float));
        continue;
      }
      const int used = g.pooling & bertsmith::FIRST ? 1 : tokens;
      float* out = g.out + static_cast<size_t>(t) * dim_;
      std::memset(out, 0, dim_ * sizeof(float));
      for (int i = 0; i < used; i++)
        for (int d = 0; d < dim_; d++) out[d] += x[(row + i) * wide_ + d];
      for (int d = 0; d < dim_; d++) out[d] /= static_cast<float>(used ? used : 1);
      if (!(g.pooling & bertsmith::UNIT)) continue;
      double squares = 0.;
      for (int d = 0; d < dim_; d++) squares += static_cast<double>(out[d]) * out[d];
      const float length = std::max(static_cast<float>(std::sqrt(squares)), 1e-12f);
      for (int d = 0; d < dim_; d++) out[d] /= length;
    }
  }

  const int dim_, wide_;
  EmbeddingWeights table_;
  Norm embedded_, last_, none_;
  Linear project_;
  int between_ = 0;  // numbers between the two products of an adapter, at the most; 0: there is none
  std::vector<std::unique_ptr<Layer>> layers_;
  std::vector<std::unique_ptr<Activations>> work_;
  std::vector<std::unique_ptr<AttentionScratch>> scratch_;
  std::mutex running_;
};

static bertsmith::Encoder* make(int dim, const EmbeddingWeights& embedding) { return new PackedEncoder(dim, embedding); }

extern const bertsmith::Isa isa;
const bertsmith::Isa isa{BS_NAME, W, HAS_BF16, make};

}  // namespace BS_ISA
