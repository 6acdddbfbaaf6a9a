// The C functions that Python calls, and the choice of the instruction set at run time. Compiled for any x86-64.
#include <cpuid.h>

#include <cstring>
#include <exception>
#include <string>

#include "encoder.h"

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
}

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
  } catch (const std::exception& error) {
    last_error = error.what();
    return 1;
  }
}

}  // namespace

#define BS_API __attribute__((visibility("default")))

extern "C" {

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
BS_API int bs_run(void* encoder, const int32_t* ids, const int32_t* types, const int32_t* starts, int texts, int pooling, int threads, float* out) {
  return guarded([&] { static_cast<bertsmith::Encoder*>(encoder)->run(ids, types, starts, texts, pooling, threads, out); });
}
BS_API void bs_delete(void* encoder) { delete static_cast<bertsmith::Encoder*>(encoder); }

}  // extern "C"
