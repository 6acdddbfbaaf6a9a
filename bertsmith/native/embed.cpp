// The embedding in training: rows of tables summed, normalised and dropped out; and back, where each row of a table gets the sum of the
// gradients of its tokens, in their order, so that the result does not depend on the threads.
#include <algorithm>
#include <memory>
#include <vector>

#include "dropout.h"
#include "step.h"
#include "step_norm.h"
#include "table.h"
#include "team.h"

namespace BS_ISA {

using namespace bertsmith;

constexpr int TOKENS = 64;        // that a thread takes at once
constexpr uint64_t EMBEDDED = 4;  // a site of dropout, beside those of a layer

static int parts_of(const StepEmbed& e) { return (e.tokens + TOKENS - 1) / TOKENS; }

template <class F>
static void each_token(const StepEmbed& e, int part, const F& f) {
  for (int i = part * TOKENS; i < std::min(e.tokens, (part + 1) * TOKENS); i++) f(i);
}

static void check(const StepEmbed& e) {
  static const char* const NAMES[TABLES] = {"token", "type", "place"};
  for (int k = 0; k < TABLES; k++)
    if (e.table[k]) in_table(NAMES[k], e.index[k], e.tokens, e.rows[k]);
}

void embed_forward(const StepEmbed& e, bf16* y, bf16* standard, float* inverse, int threads) {
  check(e);
  NormOf norm;
  norm.take(e.norm_kind, e.norm_eps, e.norm_weight, e.norm_bias, e.dim);
  const Dropout drop(e.key, e.drop);
  const size_t D = e.dim;
  share(threads, parts_of(e), [&](int part) {
    Buffer<float> row;
    float* x = row.resize(D);
    each_token(e, part, [&](int i) {
      for (size_t c = 0; c < D; c += W) {
        vf total = zero();
        for (int k = 0; k < TABLES; k++)
          if (e.table[k]) total = total + load_bf16(e.table[k] + e.index[k][i] * D + c);
        store(x + c, total);
      }
      if (norm.kind) norm_forward(norm, x, standard + i * D, inverse + i, e.dim);
      for (size_t c = 0; c < D; c += W) store_bf16(y + i * D + c, drop(load(x + c), EMBEDDED, (i * D + c) / W));
    });
  });
}

// Rows of a table become the sums of the slopes [tokens, D] of their tokens, or 0.
static void scatter(const StepEmbed& e, int k, const float* slopes, bf16* to, int threads) {
  const size_t D = e.dim;
  constexpr int ROWS = 512;
  share(threads, (e.rows[k] + ROWS - 1) / ROWS, [&](int task) {
    const size_t first = static_cast<size_t>(task) * ROWS, rows = std::min<size_t>(ROWS, e.rows[k] - first);
    std::memset(to + first * D, 0, rows * D * sizeof(bf16));
  });
  std::vector<int> begins(e.rows[k] + 1), order(e.tokens), there;  // tokens by their row: a counting sort
  for (int i = 0; i < e.tokens; i++) begins[e.index[k][i] + 1]++;
  for (int r = 0; r < e.rows[k]; r++) {
    if (begins[r + 1]) there.push_back(r);
    begins[r + 1] += begins[r];
  }
  std::vector<int> next(begins.begin(), begins.end() - 1);
  for (int i = 0; i < e.tokens; i++) order[next[e.index[k][i]]++] = i;
  share(threads, static_cast<int>(there.size()), [&](int task) {
    const int row = there[task];
    for (size_t c = 0; c < D; c += W) {
      vf total = zero();
      for (int j = begins[row]; j < begins[row + 1]; j++) total = total + load(slopes + order[j] * D + c);
      store_bf16(to + row * D + c, total);
    }
  });
}

void embed_backward(const StepEmbed& e, const bf16* standard, const float* inverse, const bf16* dy, bf16* const* dtable, bf16* dnorm_weight,
                    bf16* dnorm_bias, int threads) {
  NormOf norm;
  norm.take(e.norm_kind, e.norm_eps, e.norm_weight, e.norm_bias, e.dim);
  const Dropout drop(e.key, e.drop);
  const size_t D = e.dim, parts = parts_of(e);
  Buffer<float> slopes, of_norm;
  float *dx = slopes.resize(e.tokens * D), *sums = of_norm.resize(parts * 2 * D);  // of every part its own; 0 when new
  share(threads, static_cast<int>(parts), [&](int part) {
    each_token(e, part, [&](int i) {
      float* x = dx + i * D;
      for (size_t c = 0; c < D; c += W) store(x + c, drop(load_bf16(dy + i * D + c), EMBEDDED, (i * D + c) / W));
      float* mine = sums + part * 2 * D;
      if (norm.kind) norm_backward(norm, x, standard + i * D, inverse[i], nullptr, x, mine, mine + D, e.dim);
    });
  });
  bf16* const of[2] = {dnorm_weight, dnorm_bias};
  for (int n = 0; n < 2; n++)
    for (size_t c = 0; of[n] && c < D; c += W) {
      vf total = zero();
      for (size_t part = 0; part < parts; part++) total = total + load(sums + (2 * part + n) * D + c);
      store_bf16(of[n] + c, total);
    }
  for (int k = 0; k < TABLES; k++)
    if (dtable[k]) scatter(e, k, dx, dtable[k], threads);
}

}  // namespace BS_ISA
