// What a caller of the kernel sees, whatever the instruction set: an encoder that is told its layers, then runs on packed texts.
#pragma once
#include <cstdint>

namespace bertsmith {

struct LinearWeights {
  int32_t kind, out, in, gated;   // kind: 0 int8, 1 bf16, 2 fp32
  const void* weight;             // [out, in]: int8 codes for int8, else floats
  const float *scale, *bias, *smooth;  // of outputs (int8), of outputs or null, of inputs or null
};

struct NormWeights {
  int32_t kind;  // 0 none, 1 layer, 2 rms
  float eps;
  const float *weight, *bias;  // bias or null
};

struct EmbeddingWeights {
  int32_t width, vocab, places, types;  // places: tokens of a text at the most; types: 0 where there is no such table
  const float *word, *position, *type;  // kept by the caller for as long as the encoder lives; position, type: or null
  NormWeights norm;
  LinearWeights project;  // out 0: none
};

// x = attention_out(x + attention(attention_in(x))), x = ffn_out(x + ffn(ffn_in(x))): post-norm has the outs, pre-norm the ins.
struct LayerWeights {
  int32_t heads, kv_heads, head_dim, window, places, span, act;
  const float *cosine, *sine, *bias;  // see attention.h; the first two are kept by the caller, as tables are
  LinearWeights qkv, out, up, down;   // rows of qkv: heads, then key heads, then value heads, each padded to `head_columns()`
  NormWeights attention_in, attention_out, ffn_in, ffn_out;
};

enum Pooling : int32_t { STATES = 0, MEAN = 1, FIRST = 2, UNIT = 4 };  // UNIT, beside one of the others but STATES: made one long

class Encoder {
 public:
  virtual ~Encoder() = default;
  virtual void add(const LayerWeights& layer) = 0;
  virtual void finish(const NormWeights& last) = 0;
  // What an adapter, by its number, adds to a product of a layer (0 qkv, 1 out, 2 up, 3 down): widen (narrow x), of few numbers between the two. Not for int8.
  virtual void adapt(int adapter, int layer, int product, const LinearWeights& narrow, const LinearWeights& widen) = 0;
  // ids [tokens], types [tokens] or null, starts [texts + 1], adapters [texts], of each text, -1 for none, or null;
  // out: [tokens, dim] or, pooled, [texts, dim]. Throws std::out_of_range for a token or a type without a row, and for a text that is too long.
  virtual void run(const int32_t* ids, const int32_t* types, const int32_t* starts, const int32_t* adapters, int texts, int pooling, int threads,
                   float* out) = 0;
};

struct Isa {
  const char* name;
  int lanes, bf16;
  Encoder* (*make)(int dim, const EmbeddingWeights& embedding);
};

}  // namespace bertsmith
