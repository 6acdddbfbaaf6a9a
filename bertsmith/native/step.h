// Training in bf16, as a caller sees it: the embedding, one layer forward and backward over packed texts, a product with many outputs,
// and the cross-entropy of what it gives.
#pragma once
#include <cstdint>

namespace bertsmith {

enum WeightName : int { Q = 0, K = 1, V = 2, OUT = 3, GATE = 4, UP = 5, DOWN = 6, WEIGHTS = 7 };
enum TableName : int { TOKEN = 0, TYPE = 1, PLACE = 2, TABLES = 3 };
enum NormName : int { ATTENTION_IN = 0, ATTENTION_OUT = 1, FFN_IN = 2, FFN_OUT = 3, NORMS = 4 };

// z = x + drop(attention(attention_in(x))), m = attention_out(z), w = m + drop(ffn(ffn_in(m))), y = ffn_out(w). Widths are multiples of 32.
// What is added to the score of query i and key j of a head is near[head][j - i + span], rows 2 span + 33 apart.
struct StepLayer {
  int32_t dim, heads, kv_heads, head_dim, hidden, gated, act, window, span;  // window: how far a token sees to either side; 0: everywhere
  float scale, drop_attention, drop_mixer, drop_inner, drop_ffn;
  int32_t norm_kind[NORMS];  // see Norm in rows.h
  float norm_eps[NORMS];
  const uint16_t *norm_weight[NORMS], *norm_bias[NORMS];  // bf16 [dim]; bias or null
  const uint16_t *weight[WEIGHTS], *bias[WEIGHTS];        // bf16 [out, in], [out] or null; GATE null unless gated
  const float *cosine, *sine;                             // [longest, head_dim / 2], or null
  const float* near;                                      // or null
  int64_t near_stride() const { return 2 * span + 33; }
};

// Where gradients go, like the layer's own arrays; null where none is wanted.
struct StepGradients {
  uint16_t *norm_weight[NORMS], *norm_bias[NORMS], *weight[WEIGHTS], *bias[WEIGHTS];
  float* near;
};

// Texts lie one after the other: text t is at [starts[t], starts[t + 1]), and token i at row where[i] of what the caller has.
// Of a layer's output `given` rows are wanted, those of the tokens asked[0] < asked[1] < ...; of all where it is null. Every token is read.
struct StepTexts {
  int32_t tokens, texts, given;
  const int32_t* starts;
  const int64_t* where;
  const int32_t* asked;
  uint64_t key;  // of the dropout
  int32_t token_of(int32_t row) const { return asked ? asked[row] : row; }
};

// y = x W' + b with any number of outputs: bf16 weight [out, in], bias [out] or null; rows of y are `stride` numbers apart, a multiple of 32.
struct StepWide {
  int32_t rows, in, out, stride;
  const uint16_t *weight, *bias;
};

// y = drop(norm(sum over the tables of table[index])); tables bf16 [rows, dim], null where there is none. dim is a multiple of 32.
struct StepEmbed {
  int32_t tokens, dim, norm_kind;  // see Norm in rows.h
  int32_t rows[TABLES];
  float norm_eps, drop;
  uint64_t key;                     // of the dropout
  const uint16_t* table[TABLES];
  const int64_t* index[TABLES];     // [tokens]
  const uint16_t *norm_weight, *norm_bias;  // bias or null
};

// bf16 numbers [rows, columns], rows `stride` apart, a multiple of 32.
struct StepRows {
  int32_t rows, columns, stride;
  const uint16_t* data;
};

// A tensor in a step of AdamW. correction1: 1 / (1 - b1^t), correction2: 1 / sqrt(1 - b2^t). flags: one a 512 numbers, at first 0.
// One without a gradient has no numbers.
struct StepUpdate {
  float* master;
  uint16_t* copy;
  const uint16_t* gradient;
  float *mean, *square;
  uint8_t* flags;
  int64_t numbers;
  float lr, decay, correction1, correction2;
};

struct Step {
  // bytes that `forward` leaves for `backward`
  int64_t (*bytes)(const StepLayer& layer, const StepTexts& texts);
  // x, y: bf16 [rows of the caller, dim]; of y, what is wanted is written
  void (*forward)(const StepLayer& layer, const StepTexts& texts, const uint16_t* x, uint16_t* y, void* saved, int threads);
  // dy, dx: the same shape; dx may be null; of dy, what is wanted is read
  void (*backward)(const StepLayer& layer, const StepTexts& texts, const void* saved, const uint16_t* dy, uint16_t* dx,
                   const StepGradients& gradients, int threads);
  // y: bf16 [tokens, dim]; standard, inverse: [tokens, dim] and [tokens], what the norm leaves for `embed_backward`
  void (*embed_forward)(const StepEmbed& embed, uint16_t* y, uint16_t* standard, float* inverse, int threads);
  // dtable: whole tables, or null each; so the norm's
  void (*embed_backward)(const StepEmbed& embed, const uint16_t* standard, const float* inverse, const uint16_t* dy, uint16_t* const* dtable,
                         uint16_t* dnorm_weight, uint16_t* dnorm_bias, int threads);
  void (*wide_forward)(const StepWide& wide, const uint16_t* x, uint16_t* y, int threads);
  // dx, dweight, dbias may each be null; what dy has beyond the last output is 0
  void (*wide_backward)(const StepWide& wide, const uint16_t* x, const uint16_t* dy, uint16_t* dx, uint16_t* dweight, uint16_t* dbias,
                        int threads);
  // lse, loss: of every row of logits; the loss is -log softmax(logits)[target]
  void (*entropy_forward)(const StepRows& logits, const int64_t* target, float* lse, float* loss, int threads);
  void (*entropy_backward)(const StepRows& logits, const int64_t* target, const float* lse, float slope, uint16_t* dlogits, int threads);
  // gradients count `scale` times
  void (*update)(const StepUpdate* tensors, int count, float beta1, float beta2, float eps, float scale, int threads);
  // the sum of the squares of all gradients
  double (*squares)(const StepUpdate* tensors, int count, int threads);
  // what dropout multiplies 16 * groups numbers with, for tests
  void (*multipliers)(uint64_t key, int site, float rate, int64_t first, int64_t groups, float* out);
};

// Called with GOMP_parallel of the OpenMP library that the caller's own threads come from, so that there is one set of threads.
using Parallel = void (*)(void (*job)(void*), void* data, unsigned threads, unsigned flags);

}  // namespace bertsmith
