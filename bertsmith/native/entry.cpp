// The C functions that Python calls, and the choice of the instruction set at run time. Compiled for any x86-64.
#include <cpuid.h>

#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>

#include "encoder.h"
#include "step.h"
#include "words.h"

namespace avx2 {
extern const bertsmith::Isa isa;
}
namespace avx2_vnni {
extern const bertsmith::Isa isa;
}
namespace avx512_vnni {
extern const bertsmith::Isa isa;
}
namespace avx512_bf16 {
extern const bertsmith::Isa isa;
extern const bertsmith::Step step;
}

namespace bertsmith {
extern Parallel parallel_of_caller;
Parallel parallel_of_caller = nullptr;
}  // namespace bertsmith

namespace {

struct Registers {
  unsigned a, b, c, d;
};

Registers leaf(unsigned number, unsigned sub) {
  Registers r{};
  __get_cpuid_count(number, sub, &r.a, &r.b, &r.c, &r.d);
  return r;
}

bool bit(unsigned word, int n) { return word >> n & 1; }

// Whether the processor and the operating system have it (Intel's manual, volume 2A, CPUID).
bool runs(const std::string& name) {
  Registers one = leaf(1, 0), seven = leaf(7, 0), more = leaf(7, 1);
  if (!bit(one.c, 27) || !bit(one.c, 12) || !bit(one.c, 29)) return false;  // OSXSAVE, FMA, F16C
  unsigned low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & 6) != 6 || !bit(seven.b, 5)) return false;
  if (name == "avx2") return true;
  if (name == "avx2_vnni") return bit(more.a, 4);
  // F, DQ, BW, VL
  if ((low & 0xe6) != 0xe6 || !bit(seven.b, 16) || !bit(seven.b, 17) || !bit(seven.b, 30) || !bit(seven.b, 31)) return false;
  if (!bit(seven.c, 11)) return false;  // VNNI
  return name == "avx512_vnni" || bit(more.a, 5);
}

const bertsmith::Isa* const ALL[] = {&avx512_bf16::isa, &avx512_vnni::isa, &avx2_vnni::isa, &avx2::isa};

thread_local std::string last_error;

template <class F>
int guarded(F f) {
  try {
    f();
    return 0;
  } catch (const std::out_of_range& error) {
    last_error = error.what();
    return 2;
  } catch (const std::exception& error) {
    last_error = error.what();
    return 1;
  }
}

}  // namespace

#define BS_API __attribute__((visibility("default")))

extern "C" {

// A number that changes with what these functions are given: native/__init__.py has the same.
BS_API int bs_abi() { return 6; }

// Number i of the sets that run here, best first, or null.
BS_API const void* bs_isa(int i) {
  for (const auto* one : ALL)
    if (runs(one->name) && i-- == 0) return one;
  return nullptr;
}
BS_API const char* bs_isa_name(const void* isa) { return static_cast<const bertsmith::Isa*>(isa)->name; }
BS_API int bs_isa_lanes(const void* isa) { return static_cast<const bertsmith::Isa*>(isa)->lanes; }
BS_API int bs_isa_bf16(const void* isa) { return static_cast<const bertsmith::Isa*>(isa)->bf16; }

BS_API const char* bs_error() { return last_error.c_str(); }

BS_API int bs_new(const void* isa, int dim, const bertsmith::EmbeddingWeights* embedding, void** made) {
  return guarded([&] { *made = static_cast<const bertsmith::Isa*>(isa)->make(dim, *embedding); });
}
BS_API int bs_add(void* encoder, const bertsmith::LayerWeights* layer) {
  return guarded([&] { static_cast<bertsmith::Encoder*>(encoder)->add(*layer); });
}
BS_API int bs_finish(void* encoder, const bertsmith::NormWeights* last) {
  return guarded([&] { static_cast<bertsmith::Encoder*>(encoder)->finish(*last); });
}
BS_API int bs_adapt(void* encoder, int adapter, int layer, int product, const bertsmith::LinearWeights* narrow, const bertsmith::LinearWeights* widen) {
  return guarded([&] { static_cast<bertsmith::Encoder*>(encoder)->adapt(adapter, layer, product, *narrow, *widen); });
}
BS_API int bs_run(void* encoder, const int32_t* ids, const int32_t* types, const int32_t* starts, const int32_t* adapters, int texts, int pooling, int threads,
                  float* out) {
  return guarded([&] { static_cast<bertsmith::Encoder*>(encoder)->run(ids, types, starts, adapters, texts, pooling, threads, out); });
}
// What trains a layer here, or null: AVX-512 with BF16, and AES for dropout.
BS_API const void* bs_step() { return runs("avx512_bf16") && bit(leaf(1, 0).c, 25) ? &avx512_bf16::step : nullptr; }
BS_API void bs_step_threads(bertsmith::Parallel parallel) { bertsmith::parallel_of_caller = parallel; }
BS_API int64_t bs_step_bytes(const bertsmith::StepLayer* layer, const bertsmith::StepTexts* texts) {
  return avx512_bf16::step.bytes(*layer, *texts);
}
BS_API int bs_step_forward(const bertsmith::StepLayer* layer, const bertsmith::StepTexts* texts, const uint16_t* x, uint16_t* y, void* saved, int threads) {
  return guarded([&] { avx512_bf16::step.forward(*layer, *texts, x, y, saved, threads); });
}
BS_API int bs_step_backward(const bertsmith::StepLayer* layer, const bertsmith::StepTexts* texts, const void* saved, const uint16_t* dy, uint16_t* dx,
                            const bertsmith::StepGradients* gradients, int threads) {
  return guarded([&] { avx512_bf16::step.backward(*layer, *texts, saved, dy, dx, *gradients, threads); });
}
BS_API int bs_embed_forward(const bertsmith::StepEmbed* embed, uint16_t* y, uint16_t* standard, float* inverse, int threads) {
  return guarded([&] { avx512_bf16::step.embed_forward(*embed, y, standard, inverse, threads); });
}
BS_API int bs_embed_backward(const bertsmith::StepEmbed* embed, const uint16_t* standard, const float* inverse, const uint16_t* dy,
                             uint16_t* const* dtable, uint16_t* dnorm_weight, uint16_t* dnorm_bias, int threads) {
  return guarded([&] { avx512_bf16::step.embed_backward(*embed, standard, inverse, dy, dtable, dnorm_weight, dnorm_bias, threads); });
}
BS_API int bs_wide_forward(const bertsmith::StepWide* wide, const uint16_t* x, uint16_t* y, int threads) {
  return guarded([&] { avx512_bf16::step.wide_forward(*wide, x, y, threads); });
}
BS_API int bs_wide_backward(const bertsmith::StepWide* wide, const uint16_t* x, const uint16_t* dy, uint16_t* dx, uint16_t* dweight, uint16_t* dbias,
                            int threads) {
  return guarded([&] { avx512_bf16::step.wide_backward(*wide, x, dy, dx, dweight, dbias, threads); });
}
BS_API int bs_entropy_forward(const bertsmith::StepRows* logits, const int64_t* target, float* lse, float* loss, int threads) {
  return guarded([&] { avx512_bf16::step.entropy_forward(*logits, target, lse, loss, threads); });
}
BS_API int bs_entropy_backward(const bertsmith::StepRows* logits, const int64_t* target, const float* lse, float slope, uint16_t* dlogits, int threads) {
  return guarded([&] { avx512_bf16::step.entropy_backward(*logits, target, lse, slope, dlogits, threads); });
}
BS_API int bs_update(const bertsmith::StepUpdate* tensors, int count, float beta1, float beta2, float eps, float scale, int threads) {
  return guarded([&] { avx512_bf16::step.update(tensors, count, beta1, beta2, eps, scale, threads); });
}
BS_API double bs_squares(const bertsmith::StepUpdate* tensors, int count, int threads) { return avx512_bf16::step.squares(tensors, count, threads); }
BS_API void bs_step_mask(uint64_t key, int site, float rate, int64_t first, int64_t groups, float* out) {
  avx512_bf16::step.multipliers(key, site, rate, first, groups, out);
}
BS_API int bs_words_new(const bertsmith::WordTable* table, void** made) {
  return guarded([&] { *made = bertsmith::words(*table); });
}
BS_API int bs_words_run(const void* words, const char* text, const int64_t* starts, int texts, int most, int threads, int32_t* ids, int32_t* begins,
                        int32_t* whole) {
  return guarded([&] { static_cast<const bertsmith::Words*>(words)->run(text, starts, texts, most, threads, ids, begins, whole); });
}
// Whether dictionaries of Python hold what they held: of each its keys and values in turn, then a null. `next` is PyDict_Next, so that nothing of
// Python is needed to compile this. The lines are asked for beforehand, all at once: a hint, whatever lies there by now.
BS_API int bs_held(int (*next)(void* dict, intptr_t* at, void** key, void** value), void* const* dicts, int count, void* const* held,
                   const void* const* lines, int many) {
  for (int i = 0; i < many; i++) __builtin_prefetch(lines[i]);
  for (int d = 0; d < count; d++) {
    intptr_t at = 0;
    void *key, *value;
    while (next(dicts[d], &at, &key, &value))
      if (*held++ != key || *held++ != value) return 0;
    if (*held++) return 0;
  }
  return 1;
}
BS_API void bs_words_delete(void* words) { delete static_cast<bertsmith::Words*>(words); }
BS_API void bs_delete(void* encoder) { delete static_cast<bertsmith::Encoder*>(encoder); }

}  // extern "C"
