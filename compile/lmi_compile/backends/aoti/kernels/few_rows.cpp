// y[m, n] = sum over k of x[m, k] * weight[n, k], for a few rows m and weights as they are stored.
//
// What decode does is bound by the memory that the weights take. The BLAS matmul runs on one
// thread with one row and moves a third of the memory's bandwidth with eight. Here every thread
// reads its own rows of the weight once, in the type in which they lie in memory, and keeps all
// rows of x in its nearest cache.
//
// Linked into each compiled graph; called through the C interface of AOTInductor's libraries.

#include <cstdint>
#if defined(__AVX2__)
#include <immintrin.h>
#endif
#include <torch/csrc/inductor/aoti_torch/c/shim.h>

namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#else
constexpr int kLanes = 8;
#endif
constexpr int kMostRows = 8;  // accumulators that fit beside a weight in 16 vector registers

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t Whole __attribute__((vector_size(4 * kLanes)));
typedef int8_t Bytes __attribute__((vector_size(kLanes)));
typedef uint16_t Halves __attribute__((vector_size(2 * kLanes)));

struct Bfloat16 {
  uint16_t bits;
};

template <typename Vector>
inline Vector read(const void* from) {
  Vector value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}

inline Floats load(const float* from) { return read<Floats>(from); }

inline Floats load(const Bfloat16* from) {
  const auto high = __builtin_convertvector(read<Halves>(from), Whole) << 16;
  return reinterpret_cast<Floats>(high);
}

inline Floats load(const int8_t* from) {
#if defined(__AVX512F__)
  const auto whole = _mm512_cvtepi8_epi32(read<__m128i>(from));
  return reinterpret_cast<Floats>(_mm512_cvtepi32_ps(whole));
#elif defined(__AVX2__)  // gcc 12 converts one number at a time if it is not told
  const auto whole = _mm256_cvtepi8_epi32(_mm_cvtsi64_si128(read<int64_t>(from)));
  return reinterpret_cast<Floats>(_mm256_cvtepi32_ps(whole));
#else
  const auto whole = __builtin_convertvector(read<Bytes>(from), Whole);
  return __builtin_convertvector(whole, Floats);
#endif
}

inline float one(const float* from) { return *from; }
inline float one(const int8_t* from) { return static_cast<float>(*from); }
inline float one(const Bfloat16* from) {
  const uint32_t bits = static_cast<uint32_t>(from->bits) << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

inline float sum(Floats lanes) {
  float each[kLanes];
  __builtin_memcpy(each, &lanes, sizeof each);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int lane = 0; lane < half; ++lane) each[lane] += each[lane + half];
  return each[0];
}

// One row of the weight with M rows of x. Few rows of x leave registers for several sums of each,
// so that the additions do not wait for one another.
template <typename W, int M>
void one_row(const float* x, const W* weight, float* y, int64_t n, int64_t k) {
  constexpr int kSums = M == 1 ? 4 : M <= 4 ? 2 : 1;
  Floats sums[kSums][M] = {};
  int64_t at = 0;
  for (; at + kSums * kLanes <= k; at += kSums * kLanes)
    for (int s = 0; s < kSums; ++s) {
      const int64_t here = at + s * kLanes;
      const Floats w = load(weight + here);
      for (int m = 0; m < M; ++m) sums[s][m] += w * load(x + m * k + here);
    }
  for (int m = 0; m < M; ++m) {
    for (int s = 1; s < kSums; ++s) sums[0][m] += sums[s][m];
    float total = sum(sums[0][m]);
    for (int64_t rest = at; rest < k; ++rest) total += one(weight + rest) * x[m * k + rest];
    y[m * n] = total;
  }
}

template <typename W, int M>
void rows_of(const float* x, const W* weight, float* y, int64_t first, int64_t last, int64_t n,
             int64_t k) {
  for (int64_t at = first; at < last; ++at) one_row<W, M>(x, weight + at * k, y + at, n, k);
}

template <typename W>
void some_rows(int64_t m, const float* x, const W* weight, float* y, int64_t first, int64_t last,
               int64_t n, int64_t k) {
  switch (m) {
    case 1: return rows_of<W, 1>(x, weight, y, first, last, n, k);
    case 2: return rows_of<W, 2>(x, weight, y, first, last, n, k);
    case 3: return rows_of<W, 3>(x, weight, y, first, last, n, k);
    case 4: return rows_of<W, 4>(x, weight, y, first, last, n, k);
    case 5: return rows_of<W, 5>(x, weight, y, first, last, n, k);
    case 6: return rows_of<W, 6>(x, weight, y, first, last, n, k);
    case 7: return rows_of<W, 7>(x, weight, y, first, last, n, k);
    default: return rows_of<W, 8>(x, weight, y, first, last, n, k);
  }
}

template <typename W>
void multiply(const float* x, const W* weight, float* y, int64_t m, int64_t n, int64_t k) {
  constexpr int64_t kBlock = 16;  // weight rows that stay cached while all of x passes
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < (n + kBlock - 1) / kBlock; ++block) {
    const int64_t first = block * kBlock;
    const int64_t last = first + kBlock < n ? first + kBlock : n;
    for (int64_t row = 0; row < m; row += kMostRows) {
      const int64_t count = m - row < kMostRows ? m - row : kMostRows;
      some_rows(count, x + row * k, weight, y + row * n, first, last, n, k);
    }
  }
}

}  // namespace

// x: float32 [M, K]; weight: float32, bfloat16 or int8 [N, K]; both contiguous. result: float32 [M, N].
extern "C" AOTITorchError
aoti_torch_cpu_few_rows(AtenTensorHandle x, AtenTensorHandle weight, AtenTensorHandle* result) {
  int64_t *x_sizes, *weight_sizes;
  void *x_data, *weight_data, *result_data;
  int32_t type;
  if (aoti_torch_get_sizes(x, &x_sizes) || aoti_torch_get_sizes(weight, &weight_sizes) ||
      aoti_torch_get_dtype(weight, &type) || aoti_torch_get_data_ptr(x, &x_data) ||
      aoti_torch_get_data_ptr(weight, &weight_data))
    return AOTI_TORCH_FAILURE;
  const int64_t m = x_sizes[0], k = x_sizes[1], n = weight_sizes[0];
  const int64_t sizes[] = {m, n}, strides[] = {n, 1};
  if (aoti_torch_empty_strided(2, sizes, strides, aoti_torch_dtype_float32(),
                               aoti_torch_device_type_cpu(), 0, result) ||
      aoti_torch_get_data_ptr(*result, &result_data))
    return AOTI_TORCH_FAILURE;
  const auto* from = static_cast<const float*>(x_data);
  auto* to = static_cast<float*>(result_data);
  if (type == aoti_torch_dtype_float32())
    multiply(from, static_cast<const float*>(weight_data), to, m, n, k);
  else if (type == aoti_torch_dtype_bfloat16())
    multiply(from, static_cast<const Bfloat16*>(weight_data), to, m, n, k);
  else if (type == aoti_torch_dtype_int8())
    multiply(from, static_cast<const int8_t*>(weight_data), to, m, n, k);
  else
    return AOTI_TORCH_FAILURE;
  return AOTI_TORCH_SUCCESS;
}
