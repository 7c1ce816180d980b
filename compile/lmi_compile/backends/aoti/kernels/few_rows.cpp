// y[m, n] = sum over k of x[m, k] * weight[n, k], for a few rows m and weights as they are stored.
//
// What decode does is bound by the memory that the weights take. The BLAS matmul runs on one
// thread with one row and moves a third of the memory's bandwidth with eight. Here every thread
// reads its own rows of the weight once, in the type in which they lie in memory: three at a time
// against four rows of x, so that twelve sums, three weights and one x fill sixteen registers.
// Meanwhile the next three are fetched: processors do not follow several rows by themselves.
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
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
template <typename W>
constexpr int64_t kLine = 64 / sizeof(W);  // weights in a cache line

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t Whole __attribute__((vector_size(4 * kLanes)));
typedef int16_t Shorts __attribute__((vector_size(2 * kLanes)));
typedef uint16_t Halves __attribute__((vector_size(2 * kLanes)));
typedef int8_t Bytes __attribute__((vector_size(kLanes)));

struct Bfloat16 {
  uint16_t bits;
};
struct E4m3 {
  int8_t bits;
};

template <typename Vector>
inline Vector read(const void* from) {
  Vector value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}

// gcc 12 converts bytes one at a time if it is not told how, and halves in two parts.
#if defined(__AVX512F__)
inline Whole whole(const void* from) {
  return reinterpret_cast<Whole>(_mm512_cvtepi8_epi32(read<__m128i>(from)));
}
inline Whole halves(const void* from) {
  return reinterpret_cast<Whole>(_mm512_cvtepu16_epi32(read<__m256i>(from)));
}
inline Shorts shorts(const void* from) {
  return reinterpret_cast<Shorts>(_mm256_cvtepi8_epi16(read<__m128i>(from)));
}
inline Floats from_half(Shorts bits) {
  return reinterpret_cast<Floats>(_mm512_cvtph_ps(reinterpret_cast<__m256i>(bits)));
}
#elif defined(__AVX2__)
inline Whole whole(const void* from) {
  return reinterpret_cast<Whole>(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(read<int64_t>(from))));
}
inline Whole halves(const void* from) {
  return reinterpret_cast<Whole>(_mm256_cvtepu16_epi32(read<__m128i>(from)));
}
inline Shorts shorts(const void* from) {
  return reinterpret_cast<Shorts>(_mm_cvtepi8_epi16(_mm_cvtsi64_si128(read<int64_t>(from))));
}
inline Floats from_half(Shorts bits) {
  return reinterpret_cast<Floats>(_mm256_cvtph_ps(reinterpret_cast<__m128i>(bits)));
}
#else
inline Whole whole(const void* from) { return __builtin_convertvector(read<Bytes>(from), Whole); }
inline Whole halves(const void* from) { return __builtin_convertvector(read<Halves>(from), Whole); }
#endif

inline Floats load(const float* from) { return read<Floats>(from); }

inline Floats load(const Bfloat16* from) {
  return reinterpret_cast<Floats>(halves(from) << 16);
}

inline Floats load(const int8_t* from) { return __builtin_convertvector(whole(from), Floats); }

// Sign, four bits of exponent, three of fraction: all codes are numbers but the largest, a NaN.
// As the bits of a half, every number is 2^8 too small, also those below the least exponent.
template <typename W>
constexpr float kUnit = 1;
template <>
constexpr float kUnit<E4m3> = 256;

inline Floats load(const E4m3* from) {
#if defined(__AVX2__)
  const Shorts code = shorts(from) << 7;
  const Shorts lost = (code & 0x3f80) == 0x3f80;
  return from_half((code & static_cast<int16_t>(0xbfff)) | lost);
#else
  const Whole code = whole(from), exponent = code >> 3 & 15, normal = exponent > 0;
  const auto fraction = __builtin_convertvector((code & 7) + (normal & 8), Floats);
  const Whole power = (exponent + normal + 1 + 127 - 10 - 8) << 23;
  const auto size = reinterpret_cast<Whole>(fraction * reinterpret_cast<Floats>(power));
  const Whole lost = (code & 127) == 127;
  return reinterpret_cast<Floats>(size | (code & INT32_MIN) | lost);
#endif
}

inline float sum(Floats lanes) {
  float each[kLanes];
  __builtin_memcpy(each, &lanes, sizeof each);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int lane = 0; lane < half; ++lane) each[lane] += each[lane + half];
  return each[0];
}

// One cache line of N rows of the weight times M rows of x, added to the sums.
template <typename W, int N, int M, int S>
inline __attribute__((always_inline)) void add(Floats (&sums)[S][N][M], const float* x,
                                               int64_t x_width, const W* weight, int64_t width) {
#pragma GCC unroll 8
  for (int step = 0; step < kLine<W> / kLanes; ++step) {
    Floats w[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) w[n] = load(weight + n * width + step * kLanes);
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
      const Floats from = load(x + m * x_width + step * kLanes);
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sums[step % S][n][m] += w[n] * from;
    }
  }
}

template <typename W, int N, int M>
void tile(const float* x, const W* weight, float* y, int64_t y_width, int64_t k) {
  constexpr int kSums = M == 1 ? 2 : 1;  // of each, where registers are left: less waiting
  Floats sums[kSums][N][M] = {};
  int64_t at = 0;
  for (; at + kLine<W> <= k; at += kLine<W>) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) __builtin_prefetch(weight + (N + n) * k + at, 0, 2);
    add(sums, x + at, k, weight + at, k);
  }
  if (at < k) {  // what is left of each row, filled up with zeros
    W last[N][kLine<W>] = {};
    float last_x[M][kLine<W>] = {};
    for (int n = 0; n < N; ++n)
      __builtin_memcpy(last[n], weight + n * k + at, (k - at) * sizeof(W));
    for (int m = 0; m < M; ++m)
      __builtin_memcpy(last_x[m], x + m * k + at, (k - at) * sizeof(float));
    add(sums, last_x[0], kLine<W>, last[0], kLine<W>);
  }
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      for (int s = 1; s < kSums; ++s) sums[0][n][m] += sums[s][n][m];
      y[m * y_width + n] = sum(sums[0][n][m]) * kUnit<W>;
    }
}

template <typename W>
void three_rows(int64_t m, const float* x, const W* weight, float* y, int64_t n, int64_t k) {
  for (; m >= 4; m -= 4, x += 4 * k, y += 4 * n) tile<W, 3, 4>(x, weight, y, n, k);
  switch (m) {
    case 3: return tile<W, 3, 3>(x, weight, y, n, k);
    case 2: return tile<W, 3, 2>(x, weight, y, n, k);
    case 1: return tile<W, 3, 1>(x, weight, y, n, k);
  }
}

template <typename W>
void multiply(const float* x, const void* stored, float* y, int64_t m, int64_t n, int64_t k) {
  const auto* weight = static_cast<const W*>(stored);
  const int64_t tiles = n / 3;
#pragma omp parallel for schedule(static)
  for (int64_t at = 0; at < tiles; ++at)
    three_rows(m, x, weight + at * 3 * k, y + at * 3, n, k);
  for (int64_t at = tiles * 3; at < n; ++at)
    for (int64_t row = 0; row < m; ++row)
      tile<W, 1, 1>(x + row * k, weight + at * k, y + row * n + at, n, k);
}

}  // namespace

// x: float32 [M, K]; weight: float32, bfloat16, int8 or E4M3 [N, K]; both contiguous.
// result: float32 [M, N].
extern "C" AOTITorchError
aoti_torch_cpu_few_rows(AtenTensorHandle x, AtenTensorHandle weight, AtenTensorHandle* result) {
  int64_t *x_sizes, *weight_sizes;
  void *x_data, *from, *y_data;
  int32_t type;
  if (aoti_torch_get_sizes(x, &x_sizes) || aoti_torch_get_sizes(weight, &weight_sizes) ||
      aoti_torch_get_dtype(weight, &type) || aoti_torch_get_data_ptr(x, &x_data) ||
      aoti_torch_get_data_ptr(weight, &from))
    return AOTI_TORCH_FAILURE;
  const int64_t m = x_sizes[0], k = x_sizes[1], n = weight_sizes[0];
  const int64_t sizes[] = {m, n}, strides[] = {n, 1};
  if (aoti_torch_empty_strided(2, sizes, strides, aoti_torch_dtype_float32(),
                               aoti_torch_device_type_cpu(), 0, result) ||
      aoti_torch_get_data_ptr(*result, &y_data))
    return AOTI_TORCH_FAILURE;
  const auto* rows = static_cast<const float*>(x_data);
  auto* y = static_cast<float*>(y_data);
  if (type == aoti_torch_dtype_float32())
    multiply<float>(rows, from, y, m, n, k);
  else if (type == aoti_torch_dtype_bfloat16())
    multiply<Bfloat16>(rows, from, y, m, n, k);
  else if (type == aoti_torch_dtype_int8())
    multiply<int8_t>(rows, from, y, m, n, k);
  else if (type == aoti_torch_dtype_float8_e4m3fn())
    multiply<E4m3>(rows, from, y, m, n, k);
  else
    return AOTI_TORCH_FAILURE;
  return AOTI_TORCH_SUCCESS;
}
