/*
OptiBERT in plain C: train a BERT-style encoder on a CPU.

This one file holds the whole encoder with its forward and its backward pass, the optimiser, the data, the
checkpoints and the training loop. It is meant to be read from top to bottom.
*/
#ifndef TRAIN_OPTIBERT_C
#define TRAIN_OPTIBERT_C

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sched.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#else // one thread; the pragmas are ignored
static inline int omp_get_thread_num(void) { return 0; }
static inline int omp_get_num_threads(void) { return 1; }
static inline int omp_get_max_threads(void) { return 1; }
static inline void omp_set_num_threads(int n) { (void)n; }
#endif

// ----------------------------------------------------------------------------
// small things used throughout

#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define MIN(a, b) ((a) < (b) ? (a) : (b))

const char *program = "train_optibert"; // how error messages name this program

__attribute__((noreturn))
static void complain_and_exit(int code, const char *format, va_list args) {
    fflush(stdout);
    fprintf(stderr, "%s: ", program);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    exit(code);
}

// A run that fails says so in one line, "program: what is wrong, what to do", and exits with 1.
__attribute__((noreturn, format(printf, 1, 2)))
void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    complain_and_exit(1, format, args);
}

// A command line that makes no sense: exit 2.
__attribute__((noreturn, format(printf, 1, 2)))
void die_usage(const char *format, ...) {
    va_list args;
    va_start(args, format);
    complain_and_exit(2, format, args);
}

// Zeroed memory on a 64-byte boundary (a cache line, and the widest vector there is). Never NULL.
void *alloc_or_die(size_t bytes) {
    void *p = NULL;
    size_t rounded = (bytes + 64) / 64 * 64;
    if (rounded < bytes || posix_memalign(&p, 64, rounded) != 0)
        die("out of memory: %.1f MiB more are needed: try with less", bytes / 1048576.0);
    return memset(p, 0, rounded);
}

// Cores, not hardware threads, that this process may run on; 0 if the system does not tell.
static int physical_cores(void) {
    int cores = 0;
#ifdef __APPLE__
    size_t size = sizeof cores;
    if (sysctlbyname("hw.physicalcpu", &cores, &size, NULL, 0) != 0) cores = 0;
#elif defined(__linux__)
    cpu_set_t allowed, seen;
    CPU_ZERO(&seen);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        char path[96];
        int first = cpu; // of the hardware threads of this core
        if (!CPU_ISSET(cpu, &allowed)) continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
        FILE *f = fopen(path, "r");
        if (f && fscanf(f, "%d", &first) != 1) first = cpu;
        if (f) fclose(f);
        if (first >= 0 && first < CPU_SETSIZE && !CPU_ISSET(first, &seen)) CPU_SET(first, &seen), cores++;
    }
#endif
    return cores;
}

// Use n threads; if n is 0, as many as OMP_NUM_THREADS says, or else one for each core.
void set_threads(size_t n) {
    if (n == 0 && !getenv("OMP_NUM_THREADS")) n = (size_t)physical_cores();
    if (n > 0) omp_set_num_threads((int)n);
}

double now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

// Counter-based randomness: every random number of a run is a hash of (seed, stream, index), so it can be
// drawn in any order, by any thread, after any restart, and is the same. `stream` says what it is for.
enum { STREAM_INIT = 1, STREAM_MASK, STREAM_SHUFFLE, STREAM_VAL_MASK, STREAM_VILLAGE = 100 };

// The finaliser of splitmix64 (Steele, Lea, Flood, 2014), applied once for each of the three numbers.
uint64_t hash3(uint64_t seed, uint64_t stream, uint64_t index) {
    uint64_t in[3] = {seed, stream, index}, x = 0;
    for (int i = 0; i < 3; i++) {
        x += in[i] + 0x9e3779b97f4a7c15u;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        x ^= x >> 31;
    }
    return x;
}

// Uniform in [0, 1), 53 random bits.
double uniform(uint64_t seed, uint64_t stream, uint64_t index) {
    return (double)(hash3(seed, stream, index) >> 11) * 0x1p-53;
}

// FNV-1a over 32-bit words, a running checksum: begin with CHECKSUM_START, go on with the last result.
#define CHECKSUM_START 0xcbf29ce484222325u
static uint64_t checksum_add(uint64_t sum, const void *data, size_t bytes) {
    const char *p = data;
    while (bytes > 0) {
        uint32_t word = 0;
        size_t n = MIN(bytes, sizeof word);
        memcpy(&word, p, n);
        sum = (sum ^ word) * 0x100000001b3u;
        p += n, bytes -= n;
    }
    return sum;
}

// Files are written under another name, flushed and renamed: PATH is always the old or the whole new file.
typedef struct {
    FILE *file;
    uint64_t checksum; // of all that was put
    char path[PATH_MAX], temporary[PATH_MAX + 8];
} Writer;

void writer_open(Writer *w, const char *path) {
    if (strlen(path) >= PATH_MAX) die("%.40s…: this path is too long: choose a shorter one", path);
    strcpy(w->path, path);
    snprintf(w->temporary, sizeof w->temporary, "%s.tmp", path);
    w->checksum = CHECKSUM_START;
    w->file = fopen(w->temporary, "wb");
    if (!w->file) die("%s: cannot write: %s", w->temporary, strerror(errno));
}

static void writer_fail(Writer *w) {
    int why = errno;
    unlink(w->temporary);
    die("%s: cannot write: %s", w->path, strerror(why));
}

void writer_put(Writer *w, const void *data, size_t bytes) {
    if (bytes > 0 && fwrite(data, bytes, 1, w->file) != 1) writer_fail(w);
    w->checksum = checksum_add(w->checksum, data, bytes); // after: the checksum itself may be what is put
}

void writer_close(Writer *w) {
    FILE *f = w->file;
    if (fflush(f) || fsync(fileno(f)) || fclose(f) || rename(w->temporary, w->path)) writer_fail(w);
}

// Reading: dies, naming the file, if it is missing, no plain file (a pipe would wait for ever), or too short.
typedef struct {
    FILE *file;
    const char *path;
    uint64_t size; // bytes in the file
} Reader;

void reader_open(Reader *r, const char *path) {
    struct stat st;
    if (stat(path, &st)) die("%s: cannot read: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) die("%s: cannot read: this is no plain file", path);
    *r = (Reader){fopen(path, "rb"), path, (uint64_t)st.st_size};
    if (!r->file) die("%s: cannot read: %s", path, strerror(errno));
}

void reader_get(Reader *r, void *data, size_t bytes) {
    if (bytes > 0 && fread(data, bytes, 1, r->file) != 1) die("%s: ends too early: make it again", r->path);
}

// ----------------------------------------------------------------------------
// matmul: nearly all the time of a step is spent here

// A vector of VW floats in one register, by the vector extension of GCC and clang: + and * work on it element
// by element, and a scalar operand is broadcast. vec_u is the same in memory of any alignment.
#if defined(__AVX512F__)
#define VW 16
#define MR 8
#define NV 2
#elif defined(__AVX__)
#define VW 8
#define MR 6
#define NV 2
#elif defined(__aarch64__) || defined(__VSX__) || defined(__ALTIVEC__)
#define VW 4
#define MR 6
#define NV 4
#else
#define VW 4
#define MR 6
#define NV 2
#endif
typedef float vec __attribute__((vector_size(4 * VW), may_alias));
typedef float vec_u __attribute__((vector_size(4 * VW), may_alias, aligned(4)));

#define NR (VW * NV) // a tile of the output is MR rows of NR columns, held in MR * NV registers
#define KC 256       // the sum over k is cut into pieces of KC: a packed panel (KC,NR) stays in the L1 cache
#define MC (MR * 16) // rows of the output that share one pass over the packed panels
#define NC 2048      // columns packed at once: packed_b, (KC,NC), stays in the L2 or L3 cache

// One tile: out (MR, n vectors) = add + a · b, where a is read at a[i*row + k*col], b is a packed panel
// (kc,NR), and add, with the same row stride ldo as out, may be NULL or out itself. Each of the kc steps
// reads NV vectors of b and MR numbers of a and makes MR * NV vector multiply-adds that do not depend on each
// other, so that the multiply-add units never wait. The loops over i and j have constant bounds: the compiler
// unrolls them, and acc lives in registers. (Inlined: n and one of row and col are constants.)
static inline __attribute__((always_inline))
void tile(float *out, const float *add, size_t ldo, const float *a, size_t row, size_t col, const float *b,
          size_t kc, const int n) {
    vec acc[MR][NV];
    for (int i = 0; i < MR; i++)
        for (int j = 0; j < n; j++) acc[i][j] = (vec){0};
    for (size_t k = 0; k < kc; k++)
        for (int i = 0; i < MR; i++)
            for (int j = 0; j < n; j++)
                acc[i][j] += a[i * row + k * col] * *(const vec *)(b + k * NR + j * VW);
    for (int i = 0; i < MR; i++)
        for (int j = 0; j < n; j++) {
            if (add) acc[i][j] += *(const vec_u *)(add + i * ldo + j * VW);
            *(vec_u *)(out + i * ldo + j * VW) = acc[i][j];
        }
}

// A tile of any width. Its a lies in the rows of a matrix (col = 1), or its MR rows stand side by side
// (row = 1): packed (col = MR), or in the columns of a matrix.
static void any_tile(float *out, const float *add, size_t ldo, const float *a, size_t row, size_t col,
                     const float *b, size_t kc, size_t cols) {
    if (cols == NR && col == 1) tile(out, add, ldo, a, row, 1, b, kc, NV);
    else if (cols == NR) tile(out, add, ldo, a, 1, col, b, kc, NV);
    else
        for (size_t j = 0; j < cols; j += VW) {
            if (col == 1) tile(out + j, add ? add + j : NULL, ldo, a, row, 1, b + j, kc, 1);
            else tile(out + j, add ? add + j : NULL, ldo, a, 1, col, b + j, kc, 1);
        }
}

// Copy columns 0 … n-1 of b (kc rows), b(k,j) at b[k*row + j*col], into a panel (kc,NR) padded with zeros.
static void pack_panel(float *panel, const float *b, size_t row, size_t col, size_t kc, size_t n) {
    if (n < NR) memset(panel, 0, kc * NR * sizeof *panel);
    if (col == 1 && n == NR)
        for (size_t k = 0; k < kc; k++) memcpy(panel + k * NR, b + k * row, NR * sizeof *panel);
    else if (col == 1)
        for (size_t k = 0; k < kc; k++) memcpy(panel + k * NR, b + k * row, n * sizeof *panel);
    else // k outside: a line of each of n rows stays in L1 until it is read to its end
        for (size_t k = 0; k < kc; k++)
            for (size_t j = 0; j < n; j++) panel[k * NR + j] = b[k * row + j * col];
}

// out (m,n) = add + a (m,kc) · b, with m ≤ MC, a(i,k) at a[i*row + k*col] and b in packed panels. All panels
// are gone through: a panel stays in L1 while the block's tiles pass over it, the block in L2. A transposed a
// (row = 1, as for weight gradients), whose steps lie far apart, is packed first, unless there are so few
// panels that this would cost more than it saves. The last rows, when they are fewer than MR, are packed too,
// and a tile's surplus is dropped.
static void block(float *out, const float *add, size_t ldo, const float *a, size_t row, size_t col,
                  const float *packed, size_t m, size_t n, size_t kc) {
    float packed_a[MC * KC] __attribute__((aligned(64))); // tiles of (kc,MR)
    float edge[MR * NR] __attribute__((aligned(64)));
    int in_place = col == 1 || (row == 1 && n <= 2 * NR);
    for (size_t i = 0; i < m; i += MR) {
        size_t rows = MIN(MR, m - i);
        if (in_place && rows == MR) continue;
        const float *from = a + i * row;
        float *to = packed_a + i * kc;
        if (row == 1 && rows == MR)
            for (size_t k = 0; k < kc; k++) memcpy(to + k * MR, from + k * col, MR * sizeof *to);
        else
            for (size_t k = 0; k < kc; k++)
                for (size_t r = 0; r < MR; r++) to[k * MR + r] = r < rows ? from[r * row + k * col] : 0;
    }
    for (size_t j = 0; j < n; j += NR) {
        const float *panel = packed + j * kc;
        size_t cols = MIN(NR, n - j);
        for (size_t i = 0; i < m; i += MR) {
            size_t rows = MIN(MR, m - i), at = i * ldo + j;
            int here = in_place && rows == MR;
            const float *from = here ? a + i * row : packed_a + i * kc;
            size_t step = here ? col : MR;
            if (rows == MR && cols % VW == 0) {
                any_tile(out + at, add ? add + at : NULL, ldo, from, row, step, panel, kc, cols);
                continue;
            }
            any_tile(edge, NULL, NR, from, row, step, panel, kc, cols);
            for (size_t r = 0; r < rows; r++)
                for (size_t c = 0; c < cols; c++)
                    out[at + r * ldo + c] = (add ? add[at + r * ldo + c] : 0) + edge[r * NR + c];
        }
    }
}

static float packed_b[KC * NC] __attribute__((aligned(64))); // shared: one matmul runs at a time

// out (m,n) = add + a (m,k) · b (k,n): called by all threads together. Any strides: a(i,k) is a[i*arow +
// k*acol], and b likewise; out and add have n columns. add may be NULL, or out itself. Every element of out
// is summed in the same order (pieces of KC, each from its first k to its last) whoever computes it, so the
// number of threads changes no bit. Row blocks, about four a thread, go to threads that are free.
void matmul(float *out, const float *add, const float *a, size_t arow, size_t acol, const float *b,
            size_t brow, size_t bcol, size_t m, size_t n, size_t k) {
    size_t rows = MIN(MC, MAX(MR, m / (4 * (size_t)omp_get_num_threads()) / MR * MR));
    for (size_t j = 0; j < n; j += NC) {
        size_t cols = MIN(NC, n - j);
        for (size_t p = 0; p < k; p += KC) {
            size_t kc = MIN(KC, k - p);
            const float *plus = p == 0 ? add : out; // later pieces add to what is there
            #pragma omp for schedule(static)
            for (size_t c = 0; c < cols; c += NR)
                pack_panel(packed_b + c * kc, b + p * brow + (j + c) * bcol, brow, bcol, kc,
                           MIN(NR, cols - c));
            #pragma omp for schedule(dynamic)
            for (size_t i = 0; i < m; i += rows)
                block(out + i * n + j, plus ? plus + i * n + j : NULL, n, a + i * arow + p * acol, arow, acol,
                      packed_b, MIN(rows, m - i), cols, kc);
        }
    }
}

// The same by one thread alone, for attention: out and add have the row stride ldo; `packed` has room for
// min(k,KC) rows of n columns, rounded up to NR.
void matmul_alone(float *out, const float *add, size_t ldo, const float *a, size_t arow, size_t acol,
                  const float *b, size_t brow, size_t bcol, size_t m, size_t n, size_t k, float *packed) {
    for (size_t p = 0; p < k; p += KC) {
        size_t kc = MIN(KC, k - p);
        const float *plus = p == 0 ? add : out;
        for (size_t c = 0; c < n; c += NR)
            pack_panel(packed + c * kc, b + p * brow + c * bcol, brow, bcol, kc, MIN(NR, n - c));
        for (size_t i = 0; i < m; i += MC)
            block(out + i * ldo, plus ? plus + i * ldo : NULL, ldo, a + i * arow + p * acol, arow, acol,
                  packed, MIN(MC, m - i), n, kc);
    }
}

// out (N,OC) = add + inp (N,C) · weight (OC,C)ᵀ: a linear layer; add is the residual stream, or NULL.
void matmul_forward(float *out, const float *add, const float *inp, const float *weight,
                    size_t N, size_t C, size_t OC) {
    matmul(out, add, inp, C, 1, weight, 1, C, N, OC, C);
}

// out[n,o] = Σc inp[n,c] weight[o,c], so dinp[n,c] = Σo dout[n,o] weight[o,c]: dinp (N,C) = dout · weight.
void matmul_backward_inp(float *dinp, const float *dout, const float *weight, size_t N, size_t C, size_t OC) {
    matmul(dinp, NULL, dout, OC, 1, weight, C, 1, N, C, OC);
}

// … and dweight[o,c] = Σn dout[n,o] inp[n,c]: dweight (OC,C) += dout (N,OC)ᵀ · inp (N,C). Here the sum is
// long and the output small: `matmul` would have its threads wait for each other at every KC rows. So each
// works alone on a part of the output and packs what it needs of inp itself: of each number packed it makes
// OC / threads multiply-adds.
void matmul_backward_weight(float *dweight, const float *dout, const float *inp,
                            size_t N, size_t C, size_t OC) {
    enum { WIDE = 8 * NR };
    float packed[KC * WIDE] __attribute__((aligned(64)));
    size_t share = (OC / (size_t)omp_get_num_threads() + MR) / MR * MR;
    #pragma omp for schedule(dynamic)
    for (size_t o = 0; o < OC; o += share)
        for (size_t c = 0; c < C; c += WIDE) {
            float *out = dweight + o * C + c;
            matmul_alone(out, out, C, dout + o, 1, OC, inp + c, C, 1, MIN(share, OC - o), MIN(WIDE, C - c), N,
                         packed);
        }
}

// ----------------------------------------------------------------------------
// all the other layers, each forward above its backward
//
// B rows of T tokens, N = B*T; C channels, NH heads of size HS, H hidden channels, V vocabulary, M predicted
// positions. Every layer is called by all threads of a team together: its `omp for` loops share the work, and
// their barriers keep one layer behind the other. Outside of a parallel region it simply runs on one thread.

// e^x to about 2 units in the last place, in a form that the compiler can vectorise (libm's expf is one call
// for each number). x = n ln 2 + r with |r| ≤ ln 2 / 2; e^r by the polynomial of Cephes' expf; 2^n by adding
// n to the exponent's bits. Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits. x is
// clamped to [-87, 88] (e^-87 is 1.6e-38); NaN stays NaN.
static inline float exp_fast(float x) {
    const float magic = 12582912.0f;
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float rounded = x * 1.44269504f + magic, n = rounded - magic;
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f, p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    uint32_t bits, exponent;
    memcpy(&bits, &p, 4), memcpy(&exponent, &rounded, 4);
    bits += exponent << 23;
    memcpy(&p, &bits, 4);
    return p;
}

// out (N,C): the embedding wte[token] (V+1,C) of each of the N tokens.
void embedding_forward(float *out, const int32_t *tokens, const float *wte, size_t N, size_t C) {
    #pragma omp for schedule(static)
    for (size_t i = 0; i < N; i++) memcpy(out + i * C, wte + (size_t)tokens[i] * C, C * sizeof *out);
}

// A token's row of dwte gets the sum of dout over all places where the token stands. Threads share the
// columns, not the tokens, so that no two write to the same number and the order of the sum is always the
// same.
void embedding_backward(float *dwte, const float *dout, const int32_t *tokens, size_t N, size_t C) {
    #pragma omp for schedule(static)
    for (size_t c0 = 0; c0 < C; c0 += 16) {
        size_t c1 = MIN(C, c0 + 16);
        for (size_t i = 0; i < N; i++)
            for (size_t c = c0; c < c1; c++) dwte[(size_t)tokens[i] * C + c] += dout[i * C + c];
    }
}

// out (N,C) = inp / rms(inp) * weight (C), and rstd (N) = 1 / rms, rms² = mean(inp²) + 1e-5
// (Zhang and Sennrich, arXiv 1910.07467).
void rmsnorm_forward(float *out, float *rstd, const float *inp, const float *weight, size_t N, size_t C) {
    #pragma omp for schedule(static)
    for (size_t i = 0; i < N; i++) {
        const float *x = inp + i * C;
        float sum = 0;
        #pragma omp simd reduction(+ : sum)
        for (size_t c = 0; c < C; c++) sum += x[c] * x[c];
        float s = 1 / sqrtf(sum / (float)C + 1e-5f);
        for (size_t c = 0; c < C; c++) out[i * C + c] = x[c] * s * weight[c];
        rstd[i] = s;
    }
}

#define PARTS 64 // sums over all rows go through this many partial sums, whatever the number of threads

// With n = x s (s = rstd) the output is n w, so dweight = Σ over rows of dout n, and since ds/dx = -s² n/C,
// dx = s (w dout - n mean(w dout n)). dinp (N,C) = add + dx; add may be NULL or dinp. partial: (PARTS,C).
void rmsnorm_backward(float *dinp, const float *add, float *dweight, float *partial, const float *dout,
                      const float *inp, const float *weight, const float *rstd, size_t N, size_t C) {
    #pragma omp for schedule(static)
    for (size_t part = 0; part < PARTS; part++) {
        float *dw = partial + part * C;
        memset(dw, 0, C * sizeof *dw);
        for (size_t i = N * part / PARTS; i < N * (part + 1) / PARTS; i++) {
            const float *x = inp + i * C, *dy = dout + i * C;
            float s = rstd[i], dot = 0;
            #pragma omp simd reduction(+ : dot)
            for (size_t c = 0; c < C; c++) dot += weight[c] * dy[c] * x[c];
            float mean = dot * s * s * s / (float)C;
            for (size_t c = 0; c < C; c++) {
                float dx = s * weight[c] * dy[c] - mean * x[c];
                dw[c] += dy[c] * x[c] * s;
                dinp[i * C + c] = add ? add[i * C + c] + dx : dx;
            }
        }
    }
    #pragma omp for schedule(static)
    for (size_t c = 0; c < C; c++)
        for (size_t part = 0; part < PARTS; part++) dweight[c] += partial[part * C + c];
}

// Rotary position embedding (Su et al., arXiv 2104.09864), in place on n rows of `heads` heads of HS channels
// that stand ld apart: in each head the pair (i, i + HS/2) is turned by the angle t * 10000^(-2i/HS), whose
// cosine and sine stand in turn (T,HS/2,2). t is the position of the row, rows[i] % T, or i % T where rows is
// NULL. Backward: sign = -1, as a rotation's transpose turns back.
void rope(float *x, size_t ld, const size_t *rows, size_t n, size_t heads, const float *turn, float sign,
          size_t T, size_t HS) {
    size_t half = HS / 2;
    #pragma omp for schedule(static)
    for (size_t r = 0; r < n; r++) {
        const float *angle = turn + (rows ? rows[r] : r) % T * HS;
        for (float *head = x + r * ld; head < x + r * ld + heads * HS; head += HS)
            for (size_t i = 0; i < half; i++) {
                float c = angle[2 * i], s = sign * angle[2 * i + 1], x0 = head[i], x1 = head[i + half];
                head[i] = x0 * c - x1 * s;
                head[i + half] = x0 * s + x1 * c;
            }
    }
}

// Attention goes by blocks of QB queries against all keys that they may see, so its memory is linear in T.
// Each thread has room for two blocks of scores (QB,T) and for a packed operand.
#define QB 128
#define UP(n) (((n) + NR - 1) / NR * NR)

static size_t attention_scratch(size_t T, size_t HS) { // floats for one thread
    return 2 * QB * UP(T) + MAX(MIN(HS, KC) * UP(T), KC * UP(HS));
}

// The largest of n ≥ 1 numbers, in 16 lanes that the compiler makes vectors of.
static float row_max(const float *x, size_t n) {
    float lane[16];
    size_t j = 0;
    for (int l = 0; l < 16; l++) lane[l] = x[0];
    for (; j + 16 <= n; j += 16)
        for (int l = 0; l < 16; l++) lane[l] = x[j + l] > lane[l] ? x[j + l] : lane[l];
    for (; j < n; j++) lane[0] = x[j] > lane[0] ? x[j] : lane[0];
    for (int l = 1; l < 16; l++) lane[0] = lane[l] > lane[0] ? lane[l] : lane[0];
    return lane[0];
}

// In place, row (n) = softmax(scale * row) over its first `seen` entries, 0 behind them. Returns log-sum-exp.
static float softmax_row(float *row, float scale, size_t seen, size_t n) {
    float max = row_max(row, seen), sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < seen; j++) {
        row[j] = exp_fast(scale * (row[j] - max));
        sum += row[j];
    }
    float inverse = 1 / sum;
    for (size_t j = 0; j < seen; j++) row[j] *= inverse;
    memset(row + seen, 0, (n - seen) * sizeof *row);
    return scale * max + logf(sum);
}

// Which positions ask, and which they may look at: their own document, and if causal nothing behind
// themselves.
typedef struct {
    size_t B, T, C, NH;
    int causal;
    const size_t *doc_end; // (B,T) where the document of each position ends in its row
    const size_t *rows;    // (n) the positions that ask, as b*T + t, ascending; NULL: all of them
    size_t n;
    float *scratch;        // attention_scratch() floats for each thread
} Attention;

static size_t asking(const Attention *a, size_t i) { return a->rows ? a->rows[i] : i; }

// How many of the queries from i on stand before `limit`.
static size_t queries_before(const Attention *a, size_t i, size_t limit) {
    size_t low = i, high = a->n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (asking(a, middle) < limit) low = middle + 1;
        else high = middle;
    }
    return low - i;
}

// out (n,C) = softmax(q kᵀ / sqrt(HS)) v for each head, and lse (n,NH), the log-sum-exp of each query's
// scaled scores: with it the backward pass can compute the softmax again. q is (n,C) in rows ldq apart, k and
// v (B,T,C), ldk apart.
void attention_forward(float *out, float *lse, const float *q, size_t ldq, const float *k, const float *v,
                       size_t ldk, const Attention *a) {
    size_t T = a->T, C = a->C, NH = a->NH, HS = C / NH;
    float scale = 1 / sqrtf((float)HS);
    #pragma omp for schedule(dynamic)
    for (size_t task = 0; task < a->B * NH; task++) {
        size_t begin = task / NH * T, h = task % NH * HS, i = queries_before(a, 0, begin), nq;
        float *p = a->scratch + (size_t)omp_get_thread_num() * attention_scratch(T, HS);
        float *packed = p + 2 * QB * UP(T);
        for (size_t first = begin, end; first < begin + T; first = end) {
            end = begin + a->doc_end[first];
            for (; (nq = MIN(QB, queries_before(a, i, end))) > 0; i += nq) {
                size_t nk = (a->causal ? asking(a, i + nq - 1) + 1 : end) - first;
                matmul_alone(p, NULL, nk, q + i * ldq + h, ldq, 1, k + first * ldk + h, 1, ldk, nq, nk, HS,
                             packed);
                for (size_t j = 0; j < nq; j++) {
                    size_t seen = a->causal ? asking(a, i + j) + 1 - first : nk;
                    lse[(i + j) * NH + task % NH] = softmax_row(p + j * nk, scale, seen, nk);
                }
                matmul_alone(out + i * C + h, NULL, C, p, nk, 1, v + first * ldk + h, ldk, 1, nq, HS, nk,
                             packed);
            }
        }
    }
}

// With p = softmax(s), s = scale q kᵀ, y = p v: dv = pᵀ dy, dp = dy vᵀ, ds = p (dp - Σ_j p dp) (Dao et al.,
// arXiv 2205.14135, section 3 and appendix B); dq = scale ds k, dk = scale dsᵀ q. p is exp(s - lse). dq is
// laid out as q, dk and dv as k and v; dout is (n,C).
void attention_backward(float *dq, float *dk, float *dv, const float *dout, const float *lse, const float *q,
                        size_t ldq, const float *k, const float *v, size_t ldk, const Attention *a) {
    size_t T = a->T, C = a->C, NH = a->NH, HS = C / NH;
    float scale = 1 / sqrtf((float)HS);
    #pragma omp for schedule(dynamic)
    for (size_t task = 0; task < a->B * NH; task++) {
        size_t begin = task / NH * T, h = task % NH * HS, i = queries_before(a, 0, begin), nq;
        float *p = a->scratch + (size_t)omp_get_thread_num() * attention_scratch(T, HS);
        float *ds = p + QB * UP(T), *packed = ds + QB * UP(T);
        for (size_t t = begin; t < begin + T; t++)
            memset(dk + t * ldk + h, 0, HS * sizeof *dk), memset(dv + t * ldk + h, 0, HS * sizeof *dv);
        for (size_t first = begin, end; first < begin + T; first = end) {
            end = begin + a->doc_end[first];
            const float *k0 = k + first * ldk + h, *v0 = v + first * ldk + h;
            float *dk0 = dk + first * ldk + h, *dv0 = dv + first * ldk + h;
            for (; (nq = MIN(QB, queries_before(a, i, end))) > 0; i += nq) {
                size_t nk = (a->causal ? asking(a, i + nq - 1) + 1 : end) - first;
                const float *q0 = q + i * ldq + h, *dy = dout + i * C + h;
                matmul_alone(p, NULL, nk, q0, ldq, 1, k0, 1, ldk, nq, nk, HS, packed);
                matmul_alone(ds, NULL, nk, dy, C, 1, v0, 1, ldk, nq, nk, HS, packed); // dp for now
                for (size_t j = 0; j < nq; j++) {
                    size_t seen = a->causal ? asking(a, i + j) + 1 - first : nk;
                    float *pj = p + j * nk, *dj = ds + j * nk;
                    float log_sum = lse[(i + j) * NH + task % NH], dot = 0;
                    #pragma omp simd reduction(+ : dot)
                    for (size_t t = 0; t < seen; t++) {
                        pj[t] = exp_fast(scale * pj[t] - log_sum);
                        dot += pj[t] * dj[t];
                    }
                    #pragma omp simd
                    for (size_t t = 0; t < seen; t++) dj[t] = scale * pj[t] * (dj[t] - dot);
                    size_t unseen = (nk - seen) * sizeof(float);
                    memset(pj + seen, 0, unseen), memset(dj + seen, 0, unseen);
                }
                matmul_alone(dv0, dv0, ldk, p, 1, nk, dy, C, 1, nk, HS, nq, packed);
                matmul_alone(dq + i * ldq + h, NULL, ldq, ds, nk, 1, k0, ldk, 1, nq, HS, nk, packed);
                matmul_alone(dk0, dk0, ldk, ds, 1, nk, q0, ldq, 1, nk, HS, nq, packed);
            }
        }
    }
}

// SwiGLU (Shazeer, arXiv 2002.05202): out (N,H) = silu(gate) * up, silu(g) = g σ(g), gu (N,2H) = gate | up.
void swiglu_forward(float *out, const float *gu, size_t N, size_t H) {
    #pragma omp for schedule(static)
    for (size_t i = 0; i < N; i++) {
        const float *gate = gu + i * 2 * H, *up = gate + H;
        #pragma omp simd
        for (size_t c = 0; c < H; c++) out[i * H + c] = gate[c] / (1 + exp_fast(-gate[c])) * up[c];
    }
}

// dup = dout silu(g); dgate = dout up silu'(g), where silu'(g) = σ + g σ (1 - σ). Also writes the forward's
// output again to out (N,H), which is needed for dweight and was not kept.
void swiglu_backward(float *dgu, float *out, const float *dout, const float *gu, size_t N, size_t H) {
    #pragma omp for schedule(static)
    for (size_t i = 0; i < N; i++) {
        const float *gate = gu + i * 2 * H, *up = gate + H, *dy = dout + i * H;
        float *dgate = dgu + i * 2 * H, *dup = dgate + H;
        #pragma omp simd
        for (size_t c = 0; c < H; c++) {
            float sigma = 1 / (1 + exp_fast(-gate[c])), silu = gate[c] * sigma;
            out[i * H + c] = silu * up[c];
            dup[c] = dy[c] * silu;
            dgate[c] = dy[c] * up[c] * (sigma + silu * (1 - sigma));
        }
    }
}

// out (M,C) = rows of inp (N,C): see model_forward for where only the predicted positions go on.
void gather_forward(float *out, const float *inp, const size_t *rows, size_t M, size_t C) {
    #pragma omp for schedule(static)
    for (size_t i = 0; i < M; i++) memcpy(out + i * C, inp + rows[i] * C, C * sizeof *out);
}

// A gathered row's gradient belongs to where it came from: dinp (N,C) += dout (M,C) at rows, all different.
void gather_backward(float *dinp, const float *dout, const size_t *rows, size_t M, size_t C) {
    #pragma omp for schedule(static)
    for (size_t i = 0; i < M; i++)
        for (size_t c = 0; c < C; c++) dinp[rows[i] * C + c] += dout[i * C + c];
}

// losses (M) = -log softmax(logits)[target], logits (M,V); lse (M) is kept for the backward pass.
void crossentropy_forward(float *losses, float *lse, const float *logits, const int32_t *targets,
                          size_t M, size_t V) {
    #pragma omp for schedule(static)
    for (size_t i = 0; i < M; i++) {
        const float *x = logits + i * V;
        float max = row_max(x, V), sum = 0;
        #pragma omp simd reduction(+ : sum)
        for (size_t v = 0; v < V; v++) sum += exp_fast(x[v] - max);
        lse[i] = max + logf(sum);
        losses[i] = lse[i] - x[targets[i]];
    }
}

// In place, logits (M,V) become d loss / d logit = softmax - 1 at the target, times dloss.
void crossentropy_backward(float *logits, const float *lse, const int32_t *targets, float dloss,
                           size_t M, size_t V) {
    #pragma omp for schedule(static)
    for (size_t i = 0; i < M; i++) {
        float *x = logits + i * V;
        #pragma omp simd
        for (size_t v = 0; v < V; v++) x[v] = dloss * exp_fast(x[v] - lse[i]);
        x[targets[i]] -= dloss;
    }
}

// ----------------------------------------------------------------------------
// the model

typedef struct {
    size_t L, C, NH, H; // layers, channels, heads, hidden channels of the MLP
    size_t T, V;        // tokens in a row; vocabulary size without [MASK], which is token V
    int causal;         // 1: next-token prediction; 0: masked language modelling
} Config;

// H when it is not given: 8C/3, to the nearest multiple of 16.
size_t default_hidden(size_t C) { return MAX(16, (C * 8 + 24) / 48 * 16); }

// Training FLOPs per token of a row (a multiply-add is 2, the backward pass is twice the forward): F_N of the
// blocks, attention counted whole (DeepSeek-AI, arXiv 2401.02954, eq. 2) …
double flops_per_token(const Config *c) {
    double L = (double)c->L, C = (double)c->C, H = (double)c->H, T = (double)c->T;
    return 6 * L * (4 * C * C + 3 * C * H) + 12 * L * C * T;
}

// … and the head's, which works on a share of the rows only.
double flops_per_token_head(const Config *c, double mask_rate) {
    return 6 * (c->causal ? 1 : mask_rate) * (double)c->C * (double)c->V;
}

// The multiply-adds of matmuls and attention products that a pass over N tokens with M predictions really
// makes, recomputation left out: less than F_N has it, since in the last layer M rows go on (see
// model_forward), not N. Attention is counted whole here too, T keys a query, though a query sees its own
// document only: with short documents the GFLOP/s of the log are higher than what is really done.
double executed_flops(const Config *c, double N, double M) {
    double C = (double)c->C, H = (double)c->H, T = (double)c->T;
    double saved = (N - M) * (6 * (2 * C * C + 3 * C * H) + 12 * C * T);
    return flops_per_token(c) * N - saved + 6 * M * C * (double)(c->V + 1);
}

// The parameters. Each is named here and nowhere else; size, place, initialisation and name in files follow.
enum { WTE, NORM1, WQKV, WO, NORM2, WGU, WDOWN, NORMF, N_TENSORS };
typedef struct {
    const char *name;
    size_t layers, rows, cols; // its shape is (layers, rows, cols)
    double sigma;              // of the truncated normal that it is drawn from; 0: it is all ones
    size_t offset;             // where it stands in a block of parameters, gradients, m or v
} Tensor;

size_t tensor_size(const Tensor *t) { return t->layers * t->rows * t->cols; }

// Fill the table; returns the floats in a block: each tensor begins on a 64-byte boundary, the gaps stay 0.
size_t tensor_table(Tensor t[N_TENSORS], const Config *c) {
    size_t C = c->C, H = c->H, offset = 0;
    double sigma = 1 / sqrt((double)C);
    // the embedding and the head; row V is [MASK], which is in the softmax, and never a target
    t[WTE]   = (Tensor){"wte",   1,    c->V + 1, C, sigma, 0};
    t[NORM1] = (Tensor){"norm1", c->L, 1,        C, 0,     0}; // before attention
    t[WQKV]  = (Tensor){"wqkv",  c->L, 3 * C,    C, sigma, 0}; // query | key | value
    t[WO]    = (Tensor){"wo",    c->L, C,        C, sigma, 0}; // attention output
    t[NORM2] = (Tensor){"norm2", c->L, 1,        C, 0,     0}; // before the MLP
    t[WGU]   = (Tensor){"wgu",   c->L, 2 * H,    C, sigma, 0}; // gate | up
    t[WDOWN] = (Tensor){"wdown", c->L, C,        H, 1 / sqrt((double)H), 0};
    t[NORMF] = (Tensor){"normf", 1,    1,        C, 0,     0}; // before the head
    for (int i = 0; i < N_TENSORS; i++) {
        t[i].offset = offset;
        offset += (tensor_size(&t[i]) + 15) / 16 * 16;
    }
    return offset;
}

size_t parameter_count(const Config *c) {
    Tensor t[N_TENSORS];
    size_t n = 0;
    tensor_table(t, c);
    for (int i = 0; i < N_TENSORS; i++) n += tensor_size(&t[i]);
    return n;
}

typedef struct {
    Config c;
    Tensor tensor[N_TENSORS];
    size_t block;                    // floats in each of the four blocks
    float *params, *grads, *m, *v;   // (block)
    size_t max_B, max_M;             // rows, and predicted positions, that fit at once
    void *memory;                    // what all that follows stands in
    // kept from the forward pass for the backward pass; N = B*T.
    // In the last layer M stands for N everywhere but in x and the norm before attention: see model_forward.
    float *x;                        // (L+1,N,C) the residual stream before each layer; after the last (M,C)
    float *xm;                       // (L,N,C) … between attention and MLP
    float *rstd1, *rstd2;            // (L,N)
    float *qkv;                      // (L,N,3C) after RoPE; last layer: (N,2C) of k | v, then (M,C) of q
    float *lse;                      // (L,N,NH)
    float *att;                      // (L,N,C) what the heads put out
    float *gu;                       // (L,N,2H) gate | up
    float *rstdf, *nf;               // (M) (M,C) the final norm, for the head
    float *logits;                   // (M,V+1), then their gradient
    float *loss_lse, *losses;        // (M)
    float *xg, *ng;                  // (M,C) gathered rows of the last layer's x and of its norm
    // scratch
    float *norm;                     // (N,C) a normed residual, again in the backward pass
    float *h;                        // (N,H) the MLP's hidden activations
    float *dx, *dc;                  // (N,C) gradient of the residual stream; of whatever else has C channels
    float *dqkv, *dgu, *dh;          // (N,3C) (N,2H) (N,H)
    float *dxg;                      // (M,C) gradient of the residual stream where it is gathered
    float *partial;                  // (PARTS,C)
    float *turn;                     // (T,HS/2,2) cosines and sines
    float *attention;                // scratch of each thread
} Model;

// Give each activation its place in one block of memory; with m->memory NULL just count. Returns the floats
// needed. `train`: also what only the backward pass uses.
static size_t place_activations(Model *m, int threads, int train) {
    const Config *c = &m->c;
    size_t L = c->L, C = c->C, H = c->H, T = c->T, HS = C / c->NH, M = m->max_M, N = m->max_B * T, t = train;
    struct { float **p; size_t n; } list[] = {
        {&m->x, (L + 1) * N * C}, {&m->xm, L * N * C}, {&m->rstd1, L * N}, {&m->rstd2, L * N},
        {&m->qkv, L * N * 3 * C}, {&m->lse, L * N * c->NH}, {&m->att, L * N * C}, {&m->gu, L * N * 2 * H},
        {&m->rstdf, M}, {&m->nf, M * C}, {&m->logits, M * (c->V + 1)}, {&m->loss_lse, M}, {&m->losses, M},
        {&m->norm, N * C}, {&m->h, N * H}, {&m->dx, t * N * C}, {&m->dc, t * N * C},
        {&m->dqkv, t * N * 3 * C}, {&m->dgu, t * N * 2 * H}, {&m->dh, t * N * H}, {&m->xg, M * C},
        {&m->ng, M * C}, {&m->dxg, t * M * C}, {&m->partial, t * PARTS * C}, {&m->turn, T * HS},
        {&m->attention, (size_t)threads * attention_scratch(T, HS)},
    };
    size_t total = 0;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        if (m->memory) *list[i].p = (float *)m->memory + total;
        total += (list[i].n + 15) / 16 * 16;
    }
    return total;
}

// How many positions of some rows of T are predicted at most: all for ntp; for mlm eight standard deviations
// above the mean (exceeded once in 10^15 draws). Room for the logits of all rows would be five times as much.
size_t most_predicted(const Config *c, size_t rows, double mask_rate) {
    double n = (double)(rows * c->T), most = n * mask_rate + 8 * sqrt(n * mask_rate * (1 - mask_rate)) + 16;
    return c->causal || most >= n ? rows * c->T : (size_t)most;
}

// Bytes that model_alloc will take.
size_t model_bytes(const Config *c, size_t B, size_t M, int threads, int train) {
    Model m = {.c = *c, .max_B = B, .max_M = M};
    size_t blocks = tensor_table(m.tensor, c) * (train ? 4 : 1);
    return sizeof(float) * (blocks + place_activations(&m, threads, train));
}

// Room for parameters, for `train` also gradients and moments, and activations of B rows, M predictions.
void model_alloc(Model *m, const Config *c, size_t B, size_t M, int threads, int train) {
    *m = (Model){.c = *c, .max_B = B, .max_M = M};
    m->block = tensor_table(m->tensor, c);
    m->params = alloc_or_die(m->block * (train ? 4 : 1) * sizeof(float));
    if (train) m->grads = m->params + m->block, m->m = m->grads + m->block, m->v = m->m + m->block;
    m->memory = alloc_or_die(place_activations(m, threads, train) * sizeof(float));
    place_activations(m, threads, train);
    size_t HS = c->C / c->NH;
    for (size_t t = 0; t < c->T; t++)
        for (size_t i = 0; i < HS / 2; i++) {
            double angle = (double)t * pow(10000, -2.0 * (double)i / (double)HS);
            m->turn[t * HS + 2 * i] = (float)cos(angle), m->turn[t * HS + 2 * i + 1] = (float)sin(angle);
        }
}

void model_free(Model *m) { free(m->params), free(m->memory); }

// Draw the initial parameters: normal by Box and Muller, drawn again beyond three sigma; the norms are 1.
void model_init(Model *m, uint64_t seed) {
    uint64_t index = 0;
    for (const Tensor *t = m->tensor; t < m->tensor + N_TENSORS; t++)
        for (size_t j = 0; j < tensor_size(t); j++) {
            double z = 4;
            while (t->sigma > 0 && fabs(z) > 3) {
                double u = 1 - uniform(seed, STREAM_INIT, index++);
                z = sqrt(-2 * log(u)) * cos(6.283185307179586 * uniform(seed, STREAM_INIT, index++));
            }
            m->params[t->offset + j] = t->sigma > 0 ? (float)(z * t->sigma) : 1;
        }
}

// Layer l of a tensor, in a block of parameters or gradients.
static float *at(const Model *m, float *block, int tensor, size_t l) {
    const Tensor *t = &m->tensor[tensor];
    return block + t->offset + l * t->rows * t->cols;
}

// What the model sees of B rows, and what it is asked about them.
typedef struct {
    size_t B, M;
    int32_t *inputs;  // (B,T) tokens, [MASK] in the place of those to be predicted
    size_t *doc_end;  // (B,T) where the document of each position ends in its row
    size_t *rows;     // (M) the positions to be predicted, as b*T + t, ascending
    int32_t *targets; // (M) their tokens
} Batch;

// The loss of each predicted position goes to m->losses (M). Called by all threads together.
//
// Of the last layer's output the head sees M rows, those of the predicted positions, and no other layer
// follows that could look at the rest. So once its keys and values are made, only those rows go on: queries,
// attention output, Wo, MLP and final norm. The losses and gradients are the same as with all rows, and most
// of a layer's work is saved.
void model_forward(Model *m, const Batch *in) {
    const Config *c = &m->c;
    size_t B = in->B, M = in->M, C = c->C, T = c->T, NH = c->NH, H = c->H, N = B * T, V1 = c->V + 1;
    float *w = m->params, *x = m->x;
    embedding_forward(x, in->inputs, at(m, w, WTE, 0), N, C);
    for (size_t l = 0; l < c->L; l++, x += N * C) {
        int last = l + 1 == c->L;
        size_t n = last ? M : N; // rows that go on
        float *xm = m->xm + l * N * C, *att = m->att + l * N * C, *lse = m->lse + l * N * NH;
        float *qkv = m->qkv + l * N * 3 * C, *gu = m->gu + l * N * 2 * H, *wqkv = at(m, w, WQKV, l);
        Attention a = {B, T, C, NH, c->causal, in->doc_end, last ? in->rows : NULL, n, m->attention};
        rmsnorm_forward(m->norm, m->rstd1 + l * N, x, at(m, w, NORM1, l), N, C);
        if (last) {
            float *kv = qkv, *q = qkv + N * 2 * C;
            gather_forward(m->xg, x, in->rows, M, C);
            gather_forward(m->ng, m->norm, in->rows, M, C);
            matmul_forward(kv, NULL, m->norm, wqkv + C * C, N, C, 2 * C);
            matmul_forward(q, NULL, m->ng, wqkv, M, C, C);
            rope(kv, 2 * C, NULL, N, NH, m->turn, 1, T, C / NH);
            rope(q, C, in->rows, M, NH, m->turn, 1, T, C / NH);
            attention_forward(att, lse, q, C, kv, kv + C, 2 * C, &a);
        } else {
            matmul_forward(qkv, NULL, m->norm, wqkv, N, C, 3 * C);
            rope(qkv, 3 * C, NULL, N, 2 * NH, m->turn, 1, T, C / NH); // heads of queries, then of keys
            attention_forward(att, lse, qkv, 3 * C, qkv + C, qkv + 2 * C, 3 * C, &a);
        }
        matmul_forward(xm, last ? m->xg : x, att, at(m, w, WO, l), n, C, C);
        rmsnorm_forward(m->norm, m->rstd2 + l * N, xm, at(m, w, NORM2, l), n, C);
        matmul_forward(gu, NULL, m->norm, at(m, w, WGU, l), n, C, 2 * H);
        swiglu_forward(m->h, gu, n, H);
        matmul_forward(x + N * C, xm, m->h, at(m, w, WDOWN, l), n, H, C);
    }
    rmsnorm_forward(m->nf, m->rstdf, x, at(m, w, NORMF, 0), M, C);
    matmul_forward(m->logits, NULL, m->nf, at(m, w, WTE, 0), M, C, V1);
    crossentropy_forward(m->losses, m->loss_lse, m->logits, in->targets, M, V1);
}

// Add to m->grads the gradient of dloss times the sum of the losses of the last forward pass, from its last
// layer to its first. The logits become their gradient. Called by all threads together.
void model_backward(Model *m, const Batch *in, float dloss) {
    const Config *c = &m->c;
    size_t B = in->B, M = in->M, C = c->C, T = c->T, NH = c->NH, H = c->H, N = B * T, V1 = c->V + 1;
    float *w = m->params, *g = m->grads, *dc = m->dc, *partial = m->partial;
    float *xf = m->x + c->L * N * C;
    crossentropy_backward(m->logits, m->loss_lse, in->targets, dloss, M, V1);
    matmul_backward_weight(at(m, g, WTE, 0), m->logits, m->nf, M, C, V1);
    matmul_backward_inp(dc, m->logits, at(m, w, WTE, 0), M, C, V1);
    rmsnorm_backward(m->dxg, NULL, at(m, g, NORMF, 0), partial, dc, xf, at(m, w, NORMF, 0), m->rstdf, M, C);
    for (size_t l = c->L; l-- > 0;) {
        int last = l + 1 == c->L;
        size_t n = last ? M : N;
        float *x = m->x + l * N * C, *xm = m->xm + l * N * C, *att = m->att + l * N * C;
        float *qkv = m->qkv + l * N * 3 * C, *gu = m->gu + l * N * 2 * H, *lse = m->lse + l * N * NH;
        float *rstd1 = m->rstd1 + l * N, *rstd2 = m->rstd2 + l * N, *dx = last ? m->dxg : m->dx;
        float *wqkv = at(m, w, WQKV, l), *dwqkv = at(m, g, WQKV, l), *dqkv = m->dqkv;
        Attention a = {B, T, C, NH, c->causal, in->doc_end, last ? in->rows : NULL, n, m->attention};
        // the MLP; the norm's output and the hidden activations were not kept and are computed again
        matmul_backward_inp(m->dh, dx, at(m, w, WDOWN, l), n, H, C);
        swiglu_backward(m->dgu, m->h, m->dh, gu, n, H);
        matmul_backward_weight(at(m, g, WDOWN, l), dx, m->h, n, H, C);
        rmsnorm_forward(m->norm, rstd2, xm, at(m, w, NORM2, l), n, C);
        matmul_backward_weight(at(m, g, WGU, l), m->dgu, m->norm, n, C, 2 * H);
        matmul_backward_inp(dc, m->dgu, at(m, w, WGU, l), n, C, 2 * H);
        rmsnorm_backward(dx, dx, at(m, g, NORM2, l), partial, dc, xm, at(m, w, NORM2, l), rstd2, n, C);
        // attention
        matmul_backward_weight(at(m, g, WO, l), dx, att, n, C, C);
        matmul_backward_inp(dc, dx, at(m, w, WO, l), n, C, C);
        rmsnorm_forward(m->norm, rstd1, x, at(m, w, NORM1, l), N, C);
        if (last) {
            float *kv = qkv, *q = qkv + N * 2 * C, *dkv = dqkv, *dq = dqkv + N * 2 * C;
            attention_backward(dq, dkv, dkv + C, dc, lse, q, C, kv, kv + C, 2 * C, &a);
            rope(dkv, 2 * C, NULL, N, NH, m->turn, -1, T, C / NH);
            rope(dq, C, in->rows, M, NH, m->turn, -1, T, C / NH);
            matmul_backward_weight(dwqkv + C * C, dkv, m->norm, N, C, 2 * C);
            matmul_backward_weight(dwqkv, dq, m->ng, M, C, C);
            matmul_backward_inp(dc, dkv, wqkv + C * C, N, C, 2 * C);
            matmul_backward_inp(m->ng, dq, wqkv, M, C, C); // ng is not needed any more: its gradient
            gather_backward(dc, m->ng, in->rows, M, C);
            rmsnorm_backward(m->dx, NULL, at(m, g, NORM1, l), partial, dc, x, at(m, w, NORM1, l), rstd1, N,
                             C);
            gather_backward(m->dx, dx, in->rows, M, C);
        } else {
            attention_backward(dqkv, dqkv + C, dqkv + 2 * C, dc, lse, qkv, 3 * C, qkv + C, qkv + 2 * C, 3 * C,
                               &a);
            rope(dqkv, 3 * C, NULL, N, 2 * NH, m->turn, -1, T, C / NH);
            matmul_backward_weight(dwqkv, dqkv, m->norm, N, C, 3 * C);
            matmul_backward_inp(dc, dqkv, wqkv, N, C, 3 * C);
            rmsnorm_backward(dx, dx, at(m, g, NORM1, l), partial, dc, x, at(m, w, NORM1, l), rstd1, N, C);
        }
    }
    embedding_backward(at(m, g, WTE, 0), m->dx, in->inputs, N, C);
}

// One pass of all threads over a batch: forward, and for dloss > 0 backward.
void model_pass(Model *m, const Batch *in, float dloss) {
    if (in->M > m->max_M) die("%zu tokens to predict in a batch, improbably many: try another --seed", in->M);
    #pragma omp parallel
    {
        model_forward(m, in);
        if (dloss > 0) model_backward(m, in, dloss);
    }
}

// ----------------------------------------------------------------------------
// data: token shards, rows, masks, the vocabulary

#define SHARD_MAGIC 20240520 // llm.c's
#define VOCAB_MAGIC 20240328
#define HEADER 256           // int32 words before the tokens, and before the vocabulary's strings

// One or several shard files, read as one long list of rows. Files may be longer than memory: a row is read
// when it is needed, and no file is kept open, so that there may be a thousand of them.
typedef struct {
    size_t n_files;
    const char **paths; // (n_files)
    size_t *tokens;     // (n_files) tokens in each file
    size_t total;       // tokens in all
    size_t V;           // vocabulary size, [MASK] not counted
    int eot;            // the end-of-text id, which begins each document; -1 where there is none
} Shards;

// Read one shard's header. Returns its number of tokens; dies if it is not a whole shard.
static size_t shard_header(const char *path, size_t *V, int *eot) {
    Reader r;
    int32_t h[HEADER];
    reader_open(&r, path);
    if (r.size < sizeof h) die("%s: too short for a token shard: make it again with data/tokenize", path);
    reader_get(&r, h, sizeof h);
    fclose(r.file);
    if (h[0] != SHARD_MAGIC) die("%s: this is no token shard: make one from text with data/tokenize", path);
    if (h[1] != 1) die("%s: shard version %d, this program reads version 1 (uint16 tokens)", path, h[1]);
    uint64_t n = (uint32_t)h[2];
    if (r.size != sizeof h + n * sizeof(uint16_t))
        die("%s: %llu tokens are promised and %llu bytes follow: fetch or make it again", path,
            (unsigned long long)n, (unsigned long long)(r.size - sizeof h));
    if (h[3] == 0) h[3] = 50257, h[4] = 50256 + 1; // llm.c's own shards hold GPT-2 tokens and do not say so
    if (h[3] < 1 || h[3] > 65535 || h[4] < 0 || h[4] > h[3])
        die("%s: vocabulary size %d with end of text %d makes no sense: make it again", path, h[3], h[4] - 1);
    *V = (size_t)h[3], *eot = h[4] - 1;
    return n;
}

void shards_open(Shards *s, const char **paths, size_t n_files) {
    *s = (Shards){.n_files = n_files, .paths = paths, .tokens = alloc_or_die(n_files * sizeof(size_t))};
    for (size_t i = 0; i < n_files; i++) {
        size_t V;
        int eot;
        s->total += s->tokens[i] = shard_header(paths[i], &V, &eot);
        if (i == 0) s->V = V, s->eot = eot;
        if (V != s->V || eot != s->eot)
            die("%s: its vocabulary (%zu, end of text %d) is not that of %s (%zu, %d): use one vocabulary",
                paths[i], V, eot, paths[0], s->V, s->eot);
    }
}

// Rows of T tokens stand T apart in each file; where `extra` is 1 each reads one token more (the last target
// of next-token prediction). What is left at the end of a file is not used.
static size_t file_rows(size_t tokens, size_t T, size_t extra) {
    return tokens < extra ? 0 : (tokens - extra) / T;
}

size_t shards_rows(const Shards *s, size_t T, size_t extra) {
    size_t rows = 0;
    for (size_t i = 0; i < s->n_files; i++) rows += file_rows(s->tokens[i], T, extra);
    return rows;
}

// Read row number `row` of all files together into tokens (T + extra).
void shards_read(const Shards *s, size_t row, size_t T, size_t extra, uint16_t *tokens) {
    size_t i = 0, n = T + extra, bytes = n * sizeof *tokens;
    while (row >= file_rows(s->tokens[i], T, extra)) row -= file_rows(s->tokens[i++], T, extra);
    const char *path = s->paths[i];
    int fd = open(path, O_RDONLY);
    if (fd < 0) die("%s: cannot read: %s", path, strerror(errno));
    ssize_t got = pread(fd, tokens, bytes, (off_t)(HEADER * sizeof(int32_t) + row * T * sizeof *tokens));
    close(fd);
    if (got != (ssize_t)bytes) die("%s: has become shorter while it was in use", path);
    for (size_t t = 0; t < n; t++)
        if (tokens[t] >= s->V)
            die("%s: token %u in row %zu is not below the vocabulary size %zu: make it again", path,
                tokens[t], row, s->V);
}

// The i-th of n rows in the order of this epoch: a seeded permutation of 0 … n-1 that needs no memory. A
// four-round Feistel network is a bijection on 4^bits ≥ n numbers; one that falls outside goes round again.
size_t shuffled(size_t i, size_t n, uint64_t seed, uint64_t epoch) {
    int bits = 1;
    while (bits < 31 && ((uint64_t)1 << (2 * bits)) < n) bits++;
    uint64_t mask = ((uint64_t)1 << bits) - 1, x = i;
    do {
        uint64_t left = x >> bits, right = x & mask;
        for (uint64_t round = 0; round < 4; round++) {
            uint64_t key = hash3(seed, STREAM_SHUFFLE, epoch * 4 + round);
            uint64_t next = left ^ (hash3(key, 0, right) & mask);
            left = right, right = next;
        }
        x = left << bits | right;
    } while (x >= n);
    return x;
}

// Is position t of a row selected for prediction? `row` is the row's number in the whole run, so a second
// epoch has new masks (or in the validation set, with STREAM_VAL_MASK and VAL_SEED). It is for the caller to
// spare special tokens.
int is_masked(uint64_t seed, uint64_t stream, uint64_t row, size_t T, size_t t, double mask_rate) {
    return uniform(seed, stream, row * T + t) < mask_rate;
}

#define VAL_SEED 1 // validation masks are the same for every run, so that losses and floors can be compared

// The r-th of n_val validation rows, spread evenly over the n_rows of the validation file.
size_t val_row(size_t r, size_t n_val, size_t n_rows) {
    return (size_t)((double)r * (double)n_rows / (double)n_val);
}

// The strings of a vocabulary, and a hash table from strings to ids.
typedef struct {
    size_t V;
    int eot;               // -1: none
    unsigned char *length; // (V) bytes of each string, 1 … 255
    char **string;         // (V) not zero-terminated
    int has_bytes;         // every single byte is a token: any text can be encoded, by merges
    uint32_t *slots;       // (n_slots) id + 1, or 0
    size_t n_slots;        // a power of two
} Vocab;

static uint32_t *vocab_slot(const Vocab *v, const char *s, size_t n) {
    uint64_t i = checksum_add(n, s, n);
    for (i = (i ^ (i >> 32)) * 0x9e3779b97f4a7c15u >> 32;; i++) {
        uint32_t *slot = &v->slots[i & (v->n_slots - 1)];
        if (*slot == 0 || (v->length[*slot - 1] == n && memcmp(v->string[*slot - 1], s, n) == 0)) return slot;
    }
}

// The id of a string, or -1. Of equal strings the lowest id counts; end of text is never found in text.
int vocab_find(const Vocab *v, const char *s, size_t n) {
    return n > 255 ? -1 : (int)*vocab_slot(v, s, n) - 1;
}

// Make the hash table from V, eot, length and string.
void vocab_index(Vocab *v) {
    for (v->n_slots = 1; v->n_slots < 4 * v->V; v->n_slots *= 2) {}
    v->slots = alloc_or_die(v->n_slots * sizeof *v->slots);
    for (size_t id = 0; id < v->V; id++) {
        uint32_t *slot = vocab_slot(v, v->string[id], v->length[id]);
        if (*slot == 0 && (int)id != v->eot) *slot = (uint32_t)id + 1;
    }
    v->has_bytes = 1;
    for (int byte = 0; byte < 256; byte++) v->has_bytes &= vocab_find(v, &(char){(char)byte}, 1) >= 0;
}

// Load llm.c's tokenizer file, version 1 (GPT-2) or 2.
void vocab_load(Vocab *v, const char *path) {
    Reader r;
    int32_t h[HEADER];
    reader_open(&r, path);
    if (r.size < sizeof h) die("%s: too short for a vocabulary file: make it again", path);
    reader_get(&r, h, sizeof h);
    if (h[0] != VOCAB_MAGIC || (h[1] != 1 && h[1] != 2)) die("%s: no vocabulary (version 1 or 2)", path);
    if (h[1] == 1) h[3] = 50256;
    if (h[2] < 1 || h[2] > 65535 || h[3] < -1 || h[3] >= h[2])
        die("%s: %d strings with end of text %d make no vocabulary: make it again", path, h[2], h[3]);
    *v = (Vocab){.V = (size_t)h[2], .eot = h[3]};
    v->length = alloc_or_die(v->V);
    v->string = alloc_or_die(v->V * sizeof *v->string);
    for (size_t id = 0; id < v->V; id++) {
        reader_get(&r, &v->length[id], 1);
        if (v->length[id] == 0) die("%s: string %zu is empty: make it again", path, id);
        v->string[id] = alloc_or_die(v->length[id]);
        reader_get(&r, v->string[id], v->length[id]);
    }
    if (fgetc(r.file) != EOF) die("%s: bytes follow the last string: make it again", path);
    fclose(r.file);
    vocab_index(v);
}

static int byte_class(char c) {
    unsigned char u = (unsigned char)c;
    if (u == ' ' || (u >= '\t' && u <= '\r')) return 0;
    if ((u >= 'a' && u <= 'z') || (u >= 'A' && u <= 'Z') || u >= 0x80) return 1;
    return u >= '0' && u <= '9' ? 2 : 3;
}

// The length of the first piece of text (n bytes): an optional space and a run of letters (A–Z, a–z, bytes ≥
// 0x80), or of digits, or of other non-space bytes; or a run of spaces. Merges never cross a piece. Runs
// longer than PIECE_MAX are cut there, so that a file without spaces cannot take for ever.
#define PIECE_MAX 1024
size_t piece_length(const char *text, size_t n) {
    size_t i = text[0] == ' ' && n > 1;
    int class = byte_class(text[i]);
    n = MIN(n, PIECE_MAX);
    while (i < n && byte_class(text[i]) == class) i++;
    return i;
}

// Encode one piece (n bytes) by byte-pair merges: in each round the neighbours whose joint string has the
// lowest id are joined, wherever they stand, from the left. Returns how many ids were written (room: n).
size_t encode_piece(const Vocab *v, const char *s, size_t n, uint16_t *ids) {
    int32_t few[3 * 65];
    int32_t *start = n <= 64 ? few : alloc_or_die(3 * (n + 1) * sizeof *start); // (count + 1) byte offsets
    int32_t *id = start + n + 1;  // (count) of each symbol
    int32_t *joint = id + n + 1;  // (count) of a symbol and its right neighbour joined, or -1
    enum { STALE = -2 }; // a joint whose symbols have changed
    size_t count = n;
    for (size_t i = 0; i <= n; i++) start[i] = (int32_t)i;
    for (size_t i = 0; i < n; i++) id[i] = vocab_find(v, s + i, 1);
    for (size_t i = 0; i + 1 < n; i++) joint[i] = vocab_find(v, s + i, 2);
    for (;;) {
        int32_t best = INT32_MAX;
        for (size_t i = 0; i + 1 < count; i++)
            if (joint[i] >= 0 && joint[i] < best) best = joint[i];
        if (best == INT32_MAX) break;
        size_t to = 0;
        for (size_t i = 0; i < count; to++) {
            int join = i + 1 < count && joint[i] == best;
            if (join && to > 0) joint[to - 1] = STALE;
            start[to] = start[i], id[to] = join ? best : id[i], joint[to] = join ? STALE : joint[i];
            i += join ? 2 : 1;
        }
        start[to] = (int32_t)n, count = to;
        for (size_t i = 0; i + 1 < count; i++)
            if (joint[i] == STALE) joint[i] = vocab_find(v, s + start[i], (size_t)(start[i + 2] - start[i]));
    }
    for (size_t i = 0; i < count; i++) ids[i] = (uint16_t)id[i];
    if (start != few) free(start);
    return count;
}

// Encode text of n bytes: by merges, or, where the vocabulary lacks some bytes (the village's words), by the
// longest string that fits. Returns how many ids were written (room: n); dies of a word that does not fit.
size_t encode(const Vocab *v, const char *text, size_t n, uint16_t *ids) {
    size_t count = 0;
    for (size_t i = 0, step; i < n; i += step) {
        if (v->has_bytes) {
            step = piece_length(text + i, n - i);
            count += encode_piece(v, text + i, step, ids + count);
            continue;
        }
        for (step = MIN(n - i, 255); step > 0 && vocab_find(v, text + i, step) < 0; step--) {}
        if (step == 0 && text[i] == ' ') { // a space that begins no word
            step = 1;
            continue;
        }
        if (step == 0) {
            size_t word = i, end = i + 1;
            while (word > 0 && byte_class(text[word - 1]) != 0) word--;
            while (end < n && byte_class(text[end]) != 0) end++;
            die("the word \"%.*s\" is not in the vocabulary: use its words", (int)(end - word), text + word);
        }
        ids[count++] = (uint16_t)vocab_find(v, text + i, step);
    }
    return count;
}

// A batch of up to B rows of T tokens, cut into micro-batches of `micro` rows.
typedef struct {
    Batch *micro;      // (n_micro) what the model is given, one after the other
    size_t n_micro, M; // M: predicted positions in all
    Batch all;         // their memory; rows count from the first row of their micro-batch
    uint16_t *tokens;  // (B,T+1) as they stand in the data
} Loader;

void loader_alloc(Loader *l, size_t B, size_t micro, size_t T) {
    Batch *a = &l->all;
    l->n_micro = (B + micro - 1) / micro;
    l->micro = alloc_or_die(l->n_micro * sizeof *l->micro);
    l->tokens = alloc_or_die(B * (T + 1) * sizeof *l->tokens);
    a->inputs = alloc_or_die(B * T * sizeof *a->inputs);
    a->targets = alloc_or_die(B * T * sizeof *a->targets);
    a->doc_end = alloc_or_die(B * T * sizeof *a->doc_end);
    a->rows = alloc_or_die(B * T * sizeof *a->rows);
}

// Bytes of that for each token of a batch.
enum { LOADER_BYTES = sizeof(uint16_t) + 2 * sizeof(int32_t) + 2 * sizeof(size_t) };

void loader_free(Loader *l) {
    free(l->micro), free(l->tokens);
    free(l->all.inputs), free(l->all.doc_end), free(l->all.rows), free(l->all.targets);
}

// An end-of-text token begins its document: doc_end (T) of each position is where the next one stands, or T.
void find_documents(size_t *doc_end, const uint16_t *tokens, size_t T, int eot) {
    size_t end = T;
    for (size_t t = T; t-- > 0;) {
        doc_end[t] = end;
        if (tokens[t] == eot) end = t;
    }
}

// Make the model's view of rows first … first+n-1 (their number in the run or in the validation set, which
// the masks go by) from the tokens that stand in l->tokens. Each row's token is selected with probability
// mask_rate and becomes [MASK]; for ntp every position predicts the token behind it.
void loader_mask(Loader *l, const Config *c, int eot, size_t micro, uint64_t seed, uint64_t stream,
                 uint64_t first, size_t n, double mask_rate) {
    size_t T = c->T, extra = c->causal, M = 0;
    const Batch *a = &l->all;
    l->n_micro = (n + micro - 1) / micro;
    for (size_t b = 0; b < n; b++) {
        const uint16_t *row = l->tokens + b * (T + extra);
        Batch *in = &l->micro[b / micro];
        if (b % micro == 0)
            *in = (Batch){MIN(micro, n - b), 0, a->inputs + b * T, a->doc_end + b * T, a->rows + M,
                          a->targets + M};
        find_documents(a->doc_end + b * T, row, T, eot);
        for (size_t t = 0; t < T; t++) {
            int predict = c->causal || (row[t] != eot && is_masked(seed, stream, first + b, T, t, mask_rate));
            a->inputs[b * T + t] = predict && !c->causal ? (int32_t)c->V : row[t];
            if (!predict) continue;
            a->targets[M] = row[t + extra];
            a->rows[M++] = b % micro * T + t;
            in->M++;
        }
    }
    l->M = M;
}

// The batch of training step `step` (0, 1, …): rows step*B … of the run. Each epoch has an order of its own.
void load_training(Loader *l, const Shards *s, const Config *c, size_t B, size_t micro, uint64_t seed,
                   size_t step, double mask_rate) {
    size_t extra = c->causal, n_rows = shards_rows(s, c->T, extra);
    for (size_t b = 0; b < B; b++) {
        size_t i = step * B + b, row = shuffled(i % n_rows, n_rows, seed, i / n_rows);
        shards_read(s, row, c->T, extra, l->tokens + b * (c->T + extra));
    }
    loader_mask(l, c, s->eot, micro, seed, STREAM_MASK, step * B, B, mask_rate);
}

// Rows first … first+n-1 of the n_val validation rows, with masks that are the same for every run.
void load_validation(Loader *l, const Shards *s, const Config *c, size_t first, size_t n, size_t n_val,
                     double mask_rate) {
    size_t extra = c->causal, n_rows = shards_rows(s, c->T, extra);
    for (size_t b = 0; b < n; b++)
        shards_read(s, val_row(first + b, n_val, n_rows), c->T, extra, l->tokens + b * (c->T + extra));
    loader_mask(l, c, s->eot, n, VAL_SEED, STREAM_VAL_MASK, first, n, mask_rate);
}

// ----------------------------------------------------------------------------
// the optimiser

// The norm of all gradients (n) together; the same on each thread of the team. partial: (PARTS) scratch.
double gradient_norm(const float *grads, size_t n, double *partial) {
    #pragma omp for schedule(static)
    for (size_t part = 0; part < PARTS; part++) {
        double sum = 0;
        #pragma omp simd reduction(+ : sum)
        for (size_t i = n * part / PARTS; i < n * (part + 1) / PARTS; i++) sum += (double)grads[i] * grads[i];
        partial[part] = sum;
    }
    double sum = 0;
    for (int part = 0; part < PARTS; part++) sum += partial[part];
    return sqrt(sum);
}

// One step of AdamW (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2, in PyTorch's form: decay is lr *
// weight_decay) on all parameters (block) with gradients scaled by `scale`; then the gradients are zeroed for
// the next step. step counts from 1. Called by all threads together.
void adamw(Model *m, float lr, float weight_decay, float scale, size_t step) {
    const float beta1 = 0.9f, beta2 = 0.95f, eps = 1e-8f;
    float step_size = lr / (float)(1 - pow(0.9, (double)step));
    float root = 1 / sqrtf((float)(1 - pow(0.95, (double)step)));
    #pragma omp for simd schedule(static)
    for (size_t i = 0; i < m->block; i++) {
        float g = m->grads[i] * scale;
        float m1 = beta1 * m->m[i] + (1 - beta1) * g, v1 = beta2 * m->v[i] + (1 - beta2) * g * g;
        m->params[i] = m->params[i] * (1 - lr * weight_decay) - step_size * m1 / (sqrtf(v1) * root + eps);
        m->m[i] = m1, m->v[i] = v1, m->grads[i] = 0;
    }
}

// The rate of step 1 … steps: linear warm-up over the first tenth, then a cosine to a tenth of the peak. (Runs
// of one or two steps do not get there.)
double learning_rate(double peak, size_t step, size_t steps) {
    size_t warm = MAX(1, steps / 10);
    if (step <= warm) return peak * (double)step / (double)warm;
    double done = (double)(step - 1 - warm) / (double)MAX(1, steps - 1 - warm);
    return peak * (0.1 + 0.45 * (1 + cos(3.141592653589793 * done)));
}

// ----------------------------------------------------------------------------
// settings: the command line, and what of it a checkpoint keeps

typedef struct {
    size_t n;
    const char **path; // (n)
} Files;

typedef struct {
    Files train, val;
    const char *vocab, *objective, *out, *load, *fill, *points;
    size_t layers, channels, heads, hidden, seq_len;
    size_t batch, micro_batch, steps, seed, threads, val_every, val_rows, save_every;
    double mask_rate, tokens, flops, lr, grad_clip, weight_decay;
    int resume, overwrite, dry_run, help;
} Settings;

// The defaults of `make && ./train_optibert`. What is 0 here depends on other settings: see resolve_settings.
Settings opt = {
    .objective = "mlm", .out = "out", .layers = 2, .channels = 64, .seq_len = 128, .batch = 32,
    .mask_rate = 0.2, .grad_clip = 1, .weight_decay = 0.1, .seed = 1, .val_rows = 512,
};

// The peak learning rate by width, measured: see README, "The recipe".
double default_lr(size_t C) { return 0.5 / (double)C; }

// Every option is named here and nowhere else: the command line, --help, what a checkpoint keeps and what
// --resume compares all follow. KEEP: a checkpoint keeps it, for a resumed run that is not given it. BIND: it
// decides the run's numbers; kept too, and it must not differ. FREE: neither.
enum { COUNT, REAL, TEXT, FILES, FLAG };
enum { FREE, KEEP, BIND };
typedef struct {
    const char *name;
    int type, kind;
    void *value;
    double min, max; // of a number
    const char *argument, *help;
} Option;

static const Option options[] = {
    {"train", FILES, KEEP, &opt.train, 0, 0, "FILE…", "token shards to train on (data/village_train.bin)"},
    {"val", FILES, KEEP, &opt.val, 0, 0, "FILE…", "… to validate on (X_val.bin for X_train.bin)"},
    {"vocab", TEXT, KEEP, &opt.vocab, 0, 0, "FILE", "their strings (X.vocab for X_train.bin, if there)"},
    {"objective", TEXT, BIND, &opt.objective, 0, 0, "NAME",
     "mlm: masked tokens, or ntp: the next token (mlm)"},
    {"layers", COUNT, BIND, &opt.layers, 1, 1e4, "N", "(2)"},
    {"channels", COUNT, BIND, &opt.channels, 2, 1e5, "N", "(64)"},
    {"heads", COUNT, BIND, &opt.heads, 1, 1e4, "N", "(channels / 32, at least 1)"},
    {"hidden", COUNT, BIND, &opt.hidden, 1, 1e6, "N", "(8/3 channels, to the nearest multiple of 16)"},
    {"seq-len", COUNT, BIND, &opt.seq_len, 1, 1e6, "N", "tokens in a row (128)"},
    {"mask-rate", REAL, BIND, &opt.mask_rate, 0, 1, "R", "share of the tokens that mlm masks (0.2)"},
    {"batch", COUNT, BIND, &opt.batch, 1, 1e6, "N", "rows in a step (32)"},
    {"micro-batch", COUNT, BIND, &opt.micro_batch, 1, 1e6, "N", "rows in memory at once (all of the batch)"},
    {"steps", COUNT, BIND, &opt.steps, 1, 1e12, "N", "how long to train (2000), or:"},
    {"tokens", REAL, FREE, &opt.tokens, 1, 1e18, "D", "… the steps that come nearest to D tokens"},
    {"flops", REAL, KEEP, &opt.flops, 0, 1e30, "C", "… or to C = F_N D floating-point operations"},
    {"lr", REAL, BIND, &opt.lr, 1e-12, 1e3, "LR", "peak learning rate (0.5 / channels)"},
    {"grad-clip", REAL, BIND, &opt.grad_clip, 0, 1e9, "X", "largest norm of the gradient (1; 0: any)"},
    {"weight-decay", REAL, BIND, &opt.weight_decay, 0, 1e3, "X", "(0.1)"},
    {"seed", COUNT, BIND, &opt.seed, 0, 9e15, "N", "of weights, order of the data, masks (1)"},
    {"threads", COUNT, FREE, &opt.threads, 0, 4096, "N", "(OMP_NUM_THREADS, or else the physical cores)"},
    {"val-every", COUNT, KEEP, &opt.val_every, 1, 1e12, "N", "steps between validations (a 20th of all)"},
    {"val-rows", COUNT, BIND, &opt.val_rows, 1, 1e9, "N", "rows of a validation (512, or all there are)"},
    {"save-every", COUNT, KEEP, &opt.save_every, 1, 1e12, "N", "steps between checkpoints (a 10th of all)"},
    {"out", TEXT, FREE, &opt.out, 0, 0, "DIR", "for main.log, checkpoint.bin and model.bin (out)"},
    {"resume", FLAG, FREE, &opt.resume, 0, 0, "", "go on from DIR/checkpoint.bin"},
    {"overwrite", FLAG, FREE, &opt.overwrite, 0, 0, "", "begin anew although DIR holds an unfinished run"},
    {"points", TEXT, FREE, &opt.points, 0, 0, "FILE", "append the run's result to this CSV file"},
    {"dry-run", FLAG, FREE, &opt.dry_run, 0, 0, "", "print sizes, FLOPs and expected time; train nothing"},
    {"load", TEXT, FREE, &opt.load, 0, 0, "MODEL", "the model for --fill (DIR/model.bin)"},
    {"fill", TEXT, FREE, &opt.fill, 0, 0, "TEXT", "guess each [MASK] in TEXT"},
    {"help", FLAG, FREE, &opt.help, 0, 0, "", "print this list"},
};
enum { N_OPTIONS = sizeof options / sizeof *options };
static int given[N_OPTIONS]; // is the option on the command line?

void print_help(void) {
    printf("usage: train_optibert [--option value …]\n\nTrain a BERT-style encoder on a CPU.\n\n");
    for (const Option *o = options; o < options + N_OPTIONS; o++)
        printf("  --%-12s %-6s %s\n", o->name, o->argument, o->help);
    printf("\nNumbers may be written 1e12. SIGINT and SIGTERM finish the step, "
           "save a checkpoint and exit.\n");
}

// The index of an option, or -1.
static int find_option(const char *name) {
    for (int i = 0; i < N_OPTIONS; i++)
        if (strcmp(options[i].name, name) == 0) return i;
    return -1;
}

static int is_given(const char *name) { return given[find_option(name)]; }

static void set_number(const Option *o, const char *text) {
    char *end;
    double x = strtod(text, &end);
    if (end == text || *end || !isfinite(x)) die_usage("--%s %s: this is no number", o->name, text);
    if (x < o->min || x > o->max)
        die_usage("--%s %s: must lie between %g and %g", o->name, text, o->min, o->max);
    if (o->type == COUNT && x != floor(x)) die_usage("--%s %s: must be a whole number", o->name, text);
    if (o->type == COUNT) *(size_t *)o->value = (size_t)x;
    else *(double *)o->value = x;
}

void parse_options(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        int index = strncmp(argv[i], "--", 2) == 0 ? find_option(argv[i] + 2) : -1;
        if (index < 0) die_usage("%s: unknown option; --help lists them", argv[i]);
        const Option *o = &options[index];
        if (given[index]++) die_usage("%s: given twice", argv[i]);
        if (o->type == FLAG) {
            *(int *)o->value = 1;
            continue;
        }
        int n = 0; // arguments up to the next option
        while (i + n + 1 < argc && strncmp(argv[i + n + 1], "--", 2) && (n == 0 || o->type == FILES)) n++;
        if (n == 0) die_usage("%s: needs %s", argv[i], o->argument);
        if (o->type == FILES) *(Files *)o->value = (Files){(size_t)n, (const char **)&argv[i + 1]};
        else if (o->type == TEXT && !*argv[i + 1]) die_usage("%s: is empty: needs %s", argv[i], o->argument);
        else if (o->type == TEXT) *(const char **)o->value = argv[i + 1];
        else set_number(o, argv[i + 1]);
        i += n;
    }
}

// The value of an option as a checkpoint keeps it: one line for each file.
static void print_option(FILE *f, const Option *o) {
    const Files *files = o->value;
    const char *text = o->type == TEXT ? *(const char **)o->value : NULL;
    if (o->type == COUNT) fprintf(f, "%s %zu\n", o->name, *(size_t *)o->value);
    if (o->type == REAL) fprintf(f, "%s %.17g\n", o->name, *(double *)o->value);
    if (text) fprintf(f, "%s %s\n", o->name, text);
    for (size_t i = 0; o->type == FILES && i < files->n; i++) fprintf(f, "%s %s\n", o->name, files->path[i]);
}

// The options of at least this kind (KEEP or BIND; `only`: this one alone) as text that the caller frees.
static char *settings_text(int kind, const Option *only) {
    char *text;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f) die("out of memory");
    for (const Option *o = options; o < options + N_OPTIONS; o++)
        if (o->kind >= kind && (!only || o == only)) print_option(f, o);
    fclose(f);
    return text;
}

// Give the options that are not on the command line the values that a checkpoint kept.
void restore_settings(const char *kept) {
    char *text = strcpy(alloc_or_die(strlen(kept) + 1), kept), *save; // stays: its strings are used
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *value = strchr(line, ' ');
        if (value) *value++ = 0;
        int index = find_option(line);
        if (index < 0 || !value || given[index]) continue;
        const Option *o = &options[index];
        if (o->type == TEXT) *(const char **)o->value = value;
        else if (o->type != FILES) set_number(o, value);
        else {
            Files *f = o->value;
            f->path = realloc(f->path, (f->n + 1) * sizeof *f->path);
            if (!f->path) die("out of memory");
            f->path[f->n++] = value;
        }
    }
}

// Die, naming the option, where one that decides the numbers differs from what the checkpoint kept.
void compare_settings(const char *kept) {
    for (const Option *o = options; o < options + N_OPTIONS; o++) {
        if (o->kind != BIND) continue;
        char name[64], *text = settings_text(BIND, o);
        snprintf(name, sizeof name, "\n%s ", o->name);
        const char *was = strstr(kept, name);
        if (!was || strncmp(was + 1, text, strlen(text)) != 0)
            die("--%.*s differs from the checkpoint's %.*s: leave it out, or begin a run in another --out",
                (int)strcspn(text, "\n"), text, was ? (int)strcspn(was + 1, "\n") : 7,
                was ? was + 1 : "nothing");
        free(text);
    }
}

// ----------------------------------------------------------------------------
// checkpoints and models on disk

// checkpoint.bin: magic, version, length of settings, settings as text, Progress, parameters, m, v, checksum.
// model.bin: magic, version, shape, the tensors each with name and shape before its weights, checksum.
#define CHECKPOINT_MAGIC 0x54504b4349545031u
#define MODEL_MAGIC 0x4c444d4349545031u
#define FILE_VERSION 1u

typedef struct {
    uint64_t step;           // steps done
    uint64_t data;           // fingerprint of the training and validation files
    uint64_t tail_steps;     // of the last 5% of the steps, those done, and the sum of their losses
    double tail_loss;
    double seconds;          // spent in training
    double val_loss, val_se; // of the last validation
} Progress;

// Open a file that begins with `magic` and the version, and ends with the checksum of all before that, which
// is verified before anything is believed. All that stands in it is a multiple of 4 bytes long.
static void open_verified(Reader *r, const char *path, uint64_t magic, const char *what) {
    uint64_t head[2] = {0}, sum = CHECKSUM_START, stored;
    char buffer[65536];
    reader_open(r, path);
    if (r->size >= sizeof head) reader_get(r, head, sizeof head);
    if (head[0] != magic || head[1] != FILE_VERSION) die("%s: this is no %s of this version", path, what);
    rewind(r->file);
    for (uint64_t left = r->size - sizeof stored, n; left > 0; left -= n) {
        n = MIN(left, sizeof buffer);
        reader_get(r, buffer, n);
        sum = checksum_add(sum, buffer, n);
    }
    reader_get(r, &stored, sizeof stored);
    if (sum != stored) die("%s: is damaged, its checksum is wrong: go back to a copy, or train again", path);
    fseeko(r->file, sizeof head, SEEK_SET);
}

void save_checkpoint(const char *path, const Model *m, const Progress *p) {
    Writer w;
    char *text = settings_text(KEEP, NULL);
    uint64_t head[3] = {CHECKPOINT_MAGIC, FILE_VERSION, strlen(text) / 4 * 4 + 4};
    char *padded = strcpy(alloc_or_die(head[2]), text); // with 1 … 4 zeros
    writer_open(&w, path);
    writer_put(&w, head, sizeof head);
    writer_put(&w, padded, head[2]);
    writer_put(&w, p, sizeof *p);
    writer_put(&w, m->params, m->block * sizeof(float));
    writer_put(&w, m->m, 2 * m->block * sizeof(float)); // v follows m
    writer_put(&w, &w.checksum, sizeof w.checksum);
    writer_close(&w);
    free(text), free(padded);
}

// Open a checkpoint and read its settings (text that the caller frees) and progress …
char *open_checkpoint(Reader *r, const char *path, Progress *p) {
    uint64_t length;
    open_verified(r, path, CHECKPOINT_MAGIC, "checkpoint");
    reader_get(r, &length, sizeof length);
    char *text = alloc_or_die(MIN(length, r->size) + 1);
    text[0] = '\n'; // so that each name stands behind a line end
    reader_get(r, text + 1, length);
    reader_get(r, p, sizeof *p);
    return text;
}

// … then, when the model has its memory, the rest.
void load_checkpoint(Reader *r, Model *m) {
    reader_get(r, m->params, m->block * sizeof(float));
    reader_get(r, m->m, 2 * m->block * sizeof(float));
    fclose(r->file);
}

// What stands before a tensor's weights: its name and shape.
static void tensor_header(const Tensor *t, uint64_t header[5]) {
    memset(header, 0, 2 * sizeof *header);
    memcpy(header, t->name, strlen(t->name));
    header[2] = t->layers, header[3] = t->rows, header[4] = t->cols;
}

void save_model(const char *path, const Model *m) {
    Writer w;
    const Config *c = &m->c;
    const uint64_t shape[] = {MODEL_MAGIC, FILE_VERSION, c->L, c->C, c->NH, c->H, c->T, c->V,
                              (uint64_t)c->causal};
    writer_open(&w, path);
    writer_put(&w, shape, sizeof shape);
    for (const Tensor *t = m->tensor; t < m->tensor + N_TENSORS; t++) {
        uint64_t header[5];
        tensor_header(t, header);
        writer_put(&w, header, sizeof header);
        writer_put(&w, m->params + t->offset, tensor_size(t) * sizeof(float));
    }
    writer_put(&w, &w.checksum, sizeof w.checksum);
    writer_close(&w);
}

// Die, saying why, unless a model of this shape can be.
void check_config(const Config *c) {
    size_t HS = c->NH ? c->C / c->NH : 0;
    if (c->NH == 0 || c->C % c->NH != 0) die_usage("--heads %zu: must divide --channels %zu", c->NH, c->C);
    if (HS % 2 != 0)
        die_usage("--heads %zu: leaves %zu channels a head, where pairs are turned: make it even", c->NH, HS);
    double L = (double)c->L, C = (double)c->C, H = (double)c->H, T = (double)c->T;
    if (T * C * (L + 1) > 1e14 || C * H * L > 1e13)
        die_usage("--channels %zu: this model is larger than any memory", c->C);
}

// Load a model with room for one row of T tokens, all predicted; T = 0: as many as it was trained with.
void load_model(Model *m, const char *path, size_t T) {
    Reader r;
    uint64_t s[7];
    open_verified(&r, path, MODEL_MAGIC, "model");
    reader_get(&r, s, sizeof s);
    Config c = {.L = s[0], .C = s[1], .NH = s[2], .H = s[3], .T = s[4], .V = s[5], .causal = s[6] != 0};
    if (T > c.T) die("%s: was trained on rows of %zu tokens, %zu are given: shorten the text", path, c.T, T);
    if (T > 0) c.T = T;
    model_alloc(m, &c, 1, c.T, omp_get_max_threads(), 0);
    for (const Tensor *t = m->tensor; t < m->tensor + N_TENSORS; t++) {
        uint64_t want[5], header[5];
        tensor_header(t, want);
        reader_get(&r, header, sizeof header);
        if (memcmp(header, want, sizeof header) != 0)
            die("%s: where %s should stand there is another tensor: the file is damaged", path, t->name);
        reader_get(&r, m->params + t->offset, tensor_size(t) * sizeof(float));
    }
    fclose(r.file);
}

// ----------------------------------------------------------------------------
// a run: its files, its training loop, what it prints

typedef struct {
    Config c;
    Shards train, val;
    size_t n_val;                              // validation rows
    double mask_rate;                          // 1 for ntp
    uint64_t data;                             // fingerprint of the training and validation files
    Model m;
    Loader loader;
    Progress done;
    const char *log_path, *checkpoint, *model; // in DIR
    Vocab vocab;                               // if there is one
    double val_floor;                          // the validation set's exact entropy; NaN if it is not known
} Run;

// The path DIR/name, in memory that lasts.
static const char *in_out(const char *name) {
    char *path = alloc_or_die(strlen(opt.out) + strlen(name) + 2);
    sprintf(path, "%s/%s", opt.out, name);
    return path;
}

static volatile sig_atomic_t stop_signal = 0;

void on_signal(int number) { stop_signal = number; }

// path with the ending `from` replaced by `to`, or NULL if it does not end so. The caller frees it.
static char *replace_ending(const char *path, const char *from, const char *to) {
    size_t n = strlen(path), cut = strlen(from);
    if (n < cut || strcmp(path + n - cut, from) != 0) return NULL;
    char *s = alloc_or_die(n - cut + strlen(to) + 1);
    sprintf(s, "%.*s%s", (int)(n - cut), path, to);
    return s;
}

// A checksum of the length and both ends of each file: are these the files of the checkpoint?
static uint64_t fingerprint(uint64_t sum, const Shards *s) {
    char buffer[65536];
    for (size_t i = 0; i < s->n_files; i++) {
        FILE *f = fopen(s->paths[i], "rb");
        if (!f) die("%s: cannot read: %s", s->paths[i], strerror(errno));
        sum = checksum_add(sum, &s->tokens[i], sizeof s->tokens[i]);
        for (int end = 0; end < 2; end++) {
            if (end) fseeko(f, -(off_t)MIN(sizeof buffer, s->tokens[i] * sizeof(uint16_t)), SEEK_END);
            sum = checksum_add(sum, buffer, fread(buffer, 1, sizeof buffer, f));
        }
        fclose(f);
    }
    return sum;
}

// The floor of the validation set, if the file beside it (….floor for ….bin) has a line for these settings: a
// lower bound, in nats a predicted token, to what any model can reach. Lines: objective T mask_rate rows seed
// sum count se.
static double find_floor(const Run *r) {
    char *path = replace_ending(opt.val.path[0], ".bin", ".floor"), objective[8], line[256];
    FILE *f = path && opt.val.n == 1 ? fopen(path, "r") : NULL;
    double rate, sum, n, found = NAN;
    size_t T, rows, seed;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "%7s %zu %lf %zu %zu %lf %lf", objective, &T, &rate, &rows, &seed, &sum, &n) == 7 &&
            strcmp(objective, opt.objective) == 0 && T == r->c.T && fabs(rate - r->mask_rate) < 1e-9 &&
            rows == r->n_val && seed == VAL_SEED)
            found = sum / n;
    if (f) fclose(f);
    free(path);
    return found;
}

// The rows of the shards; there must be one at least.
static size_t rows_or_die(const Run *r, const Shards *s) {
    size_t rows = shards_rows(s, r->c.T, r->c.causal);
    if (rows == 0) die("%s: holds not one row of --seq-len %zu", s->paths[0], r->c.T);
    return rows;
}

// Settings that depend on others, checks that concern several, and what the data says; opens the shards.
static void resolve_settings(Run *r) {
    Settings *s = &opt;
    static const char *village = "data/village_train.bin", *val;
    if (s->train.n == 0) {
        s->train = (Files){1, &village};
        if (access(village, F_OK)) die("%s: is not there: run make, which writes it", village);
    }
    const char *train = s->train.path[0];
    if (s->val.n == 0) {
        val = replace_ending(train, "_train.bin", "_val.bin");
        if (!val) die_usage("--val: is needed, as %s does not end in _train.bin", train);
        s->val = (Files){1, &val};
    }
    char *vocab = replace_ending(train, "_train.bin", ".vocab");
    if (!s->vocab && vocab && access(vocab, R_OK) == 0) s->vocab = vocab;
    int causal = strcmp(s->objective, "ntp") == 0;
    if (!causal && strcmp(s->objective, "mlm")) die_usage("--objective %s: must be mlm or ntp", s->objective);
    shards_open(&r->train, s->train.path, s->train.n);
    shards_open(&r->val, s->val.path, s->val.n);
    if (r->val.V != r->train.V || r->val.eot != r->train.eot)
        die("%s: its vocabulary (%zu) is not that of %s (%zu)", s->val.path[0], r->val.V, train, r->train.V);
    if (s->heads == 0) s->heads = MAX(1, s->channels / 32);
    if (s->hidden == 0) s->hidden = default_hidden(s->channels);
    r->c = (Config){s->layers, s->channels, s->heads, s->hidden, s->seq_len, r->train.V, causal};
    check_config(&r->c);
    if (s->micro_batch == 0 || s->micro_batch > s->batch) s->micro_batch = s->batch;
    if (s->lr == 0) s->lr = default_lr(s->channels);
    if (is_given("steps") + is_given("tokens") + is_given("flops") > 1)
        die_usage("--steps, --tokens, --flops: give one of them");
    if (is_given("flops") && s->flops == 0) die_usage("--flops 0: must be more"); // 0 is for checkpoints
    double tokens = is_given("flops") ? s->flops / flops_per_token(&r->c) : s->tokens;
    if (tokens > 0) s->steps = (size_t)fmax(1, rint(fmin(1e15, tokens / (double)(s->batch * s->seq_len))));
    if (s->steps > 1e12) die_usage("--tokens, --flops: this makes more than 1e12 steps: give less");
    if (s->steps == 0) s->steps = 2000;
    if (s->val_every == 0) s->val_every = MAX(1, s->steps / 20);
    if (s->save_every == 0) s->save_every = MAX(1, s->steps / 10);
    rows_or_die(r, &r->train);
    size_t rows = rows_or_die(r, &r->val);
    if (s->val_rows > rows && is_given("val-rows"))
        die_usage("--val-rows %zu: %s holds only %zu rows of %zu tokens", s->val_rows, s->val.path[0],
                  rows, s->seq_len);
    r->n_val = s->val_rows = MIN(s->val_rows, rows);
    r->mask_rate = causal ? 1 : s->mask_rate;
    if (s->vocab) vocab_load(&r->vocab, s->vocab);
    if (s->vocab && r->vocab.V != r->c.V)
        die("%s: has %zu strings, the data %zu tokens: give its own --vocab", s->vocab, r->vocab.V, r->c.V);
    r->data = fingerprint(fingerprint(0, &r->train), &r->val);
    r->val_floor = find_floor(r);
}

// The tokens that the whole run is trained on.
static double run_tokens(const Run *r) { return (double)opt.steps * (double)(opt.batch * r->c.T); }

static double epochs(const Run *r) {
    return (double)opt.steps * (double)opt.batch / (double)shards_rows(&r->train, r->c.T, r->c.causal);
}

// Predicted positions of a micro-batch that there must be room for.
static size_t run_predicted(const Run *r) { return most_predicted(&r->c, opt.micro_batch, r->mask_rate); }

// Sizes, memory and FLOPs, before any of them is taken.
static void print_plan(const Run *r) {
    const Config *c = &r->c;
    const Settings *s = &opt;
    size_t params = parameter_count(c);
    size_t bytes = model_bytes(c, s->micro_batch, run_predicted(r), omp_get_max_threads(), 1);
    bytes += s->batch * s->seq_len * LOADER_BYTES;
    double F = flops_per_token(c), head = flops_per_token_head(c, r->mask_rate), D = run_tokens(r);
#ifdef _OPENMP
    printf("threads     %d (OpenMP), vectors of %d floats\n", omp_get_max_threads(), VW);
#else
    printf("threads     1 (built without OpenMP: all but one core stay idle), vectors of %d floats\n", VW);
#endif
    printf("model       %zu layers, %zu channels, %zu heads, %zu hidden, ", c->L, c->C, c->NH, c->H);
    printf("%zu parameters (%zu without the embedding)\n", params, params - (c->V + 1) * c->C);
    printf("data        %s: %zu tokens, vocabulary %zu; this run reads %.3g epochs\n", s->train.path[0],
           r->train.total, c->V, epochs(r));
    printf("objective   %s, %zu tokens a row", s->objective, c->T);
    if (!c->causal) printf(", %g of them masked", s->mask_rate);
    printf("; validation on %zu rows", r->n_val);
    if (isfinite(r->val_floor)) printf(", whose floor is %.4f", r->val_floor);
    printf("\nrun         %zu steps of %zu rows = %.4g tokens, peak learning rate %.3g, seed %zu\n", s->steps,
           s->batch, D, s->lr, s->seed);
    printf("FLOPs       F_N %.4g a token (head: %.4g more), C = F_N D = %.4g\n", F, head, F * D);
    printf("memory      %.1f MiB\n", (double)bytes / 1048576.0);
    fflush(stdout);
}

// Mean loss over the validation rows, and its standard error over rows: rows differ in how many tokens they
// predict, so the mean is a ratio of two sums, and its variance that of loss_r - mean * count_r (Cochran,
// Sampling Techniques, eq. 2.39).
static void validate(Run *r) {
    size_t n = r->n_val, T = r->c.T, micro = opt.micro_batch;
    double *loss = alloc_or_die(n * sizeof *loss), *count = alloc_or_die(n * sizeof *count);
    double all_loss = 0, all_count = 0, squares = 0;
    for (size_t first = 0; first < n; first += micro) {
        load_validation(&r->loader, &r->val, &r->c, first, MIN(micro, n - first), n, opt.mask_rate);
        const Batch *in = &r->loader.micro[0];
        model_pass(&r->m, in, 0);
        for (size_t i = 0; i < in->M; i++) {
            loss[first + in->rows[i] / T] += (double)r->m.losses[i];
            count[first + in->rows[i] / T] += 1;
        }
    }
    for (size_t i = 0; i < n; i++) all_loss += loss[i], all_count += count[i];
    if (all_count == 0) die("--mask-rate %g: no validation token is masked: raise it", opt.mask_rate);
    double mean = r->done.val_loss = all_loss / all_count;
    for (size_t i = 0; i < n; i++) squares += pow(loss[i] - mean * count[i], 2);
    r->done.val_se = n > 1 ? sqrt(squares * (double)n / (double)(n - 1)) / all_count : NAN;
    free(loss), free(count);
}

// One training step. Returns the mean loss of its predicted tokens; *norm: the gradient's, before clipping.
static double train_step(Run *r, size_t step, double *norm) {
    const Settings *s = &opt;
    Model *m = &r->m;
    double loss = 0, partial[PARTS], lr = learning_rate(s->lr, step, s->steps);
    load_training(&r->loader, &r->train, &r->c, s->batch, s->micro_batch, s->seed, step - 1, s->mask_rate);
    size_t M = r->loader.M;
    if (M == 0)
        die("--mask-rate %g: no token of step %zu is masked: raise it or --batch", s->mask_rate, step);
    for (size_t i = 0; i < r->loader.n_micro; i++) {
        const Batch *in = &r->loader.micro[i];
        model_pass(m, in, 1 / (float)M);
        for (size_t j = 0; j < in->M; j++) loss += (double)m->losses[j];
    }
    loss /= (double)M;
    #pragma omp parallel
    {
        double mine = gradient_norm(m->grads, m->block, partial); // the same for all
        double scale = s->grad_clip > 0 ? fmin(1, s->grad_clip / (mine + 1e-6)) : 1;
        if (isfinite(loss) && isfinite(mine)) adamw(m, (float)lr, (float)s->weight_decay, (float)scale, step);
        #pragma omp master
        *norm = mine;
    }
    return loss;
}

static void format_seconds(char out[32], double seconds) {
    size_t s = (size_t)fmin(fmax(0, seconds), 1e15);
    if (s < 3600) snprintf(out, 32, "%zu:%02zu", s / 60, s % 60);
    else snprintf(out, 32, "%zu:%02zu:%02zu", s / 3600, s / 60 % 60, s % 60);
}

// Keep only the lines of main.log up to a step: what came after the checkpoint is done again.
static void cut_log(const char *path, size_t last) {
    Writer w;
    char line[256];
    size_t step;
    FILE *f = fopen(path, "r");
    if (!f) return; // the log is lost; the run can go on
    writer_open(&w, path);
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "s:%zu", &step) == 1 && step <= last && strchr(line, '\n'))
            writer_put(&w, line, strlen(line));
    fclose(f);
    writer_close(&w);
}

// Make DIR and lock it for as long as this process lives.
static void lock_directory(const char *dir) {
    if (mkdir(dir, 0777) && errno != EEXIST) die("%s: cannot make this folder: %s", dir, strerror(errno));
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) die("%s: cannot use this folder: %s", dir, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB)) die("%s: another run is using this folder: choose another --out", dir);
}

// A run may begin in DIR unless that holds one that can still go on.
static void refuse_unfinished(const char *checkpoint) {
    Reader reader;
    Progress done;
    if (opt.overwrite || access(checkpoint, F_OK) != 0) return;
    char *kept = open_checkpoint(&reader, checkpoint, &done), *steps = strstr(kept, "\nsteps ");
    if (!steps || strtoull(steps + 7, NULL, 10) != done.step)
        die("%s: holds an unfinished run: --resume it, choose another --out, or --overwrite it", opt.out);
    fclose(reader.file), free(kept);
}

// Set up DIR for a run that begins (unless it is a dry one), or take up the one that it holds. Returns 0 if
// that is finished already.
int open_run(Run *r) {
    const Settings *s = &opt;
    Reader reader;
    char *kept = NULL;
    r->checkpoint = in_out("checkpoint.bin"), r->model = in_out("model.bin");
    r->log_path = in_out("main.log");
    if (s->resume) {
        if (s->overwrite || s->dry_run) die_usage("--resume: goes neither with --overwrite nor --dry-run");
        if (access(r->checkpoint, F_OK)) die("%s: is not there to resume: leave out --resume", r->checkpoint);
        lock_directory(s->out);
        kept = open_checkpoint(&reader, r->checkpoint, &r->done);
        restore_settings(kept);
    }
    resolve_settings(r);
    if (s->resume) {
        compare_settings(kept);
        if (r->done.data != r->data) die("--train, --val: these are not the files of %s", r->checkpoint);
        if (r->done.step == s->steps) return 0;
    } else if (!s->dry_run) {
        lock_directory(s->out);
        refuse_unfinished(r->checkpoint);
    }
    print_plan(r);
    if (s->dry_run) return 1;
    model_alloc(&r->m, &r->c, s->micro_batch, run_predicted(r), omp_get_max_threads(), 1);
    loader_alloc(&r->loader, s->batch, s->micro_batch, r->c.T);
    if (s->resume) {
        load_checkpoint(&reader, &r->m);
        cut_log(r->log_path, r->done.step);
        printf("resumed     after step %llu\n", (unsigned long long)r->done.step);
    } else {
        r->done = (Progress){.data = r->data};
        model_init(&r->m, s->seed);
    }
    free(kept);
    return 1;
}

// The training loop: from the step after r->done.step to the last, or to a signal. Returns the signal, or 0.
int train(Run *r) {
    const Settings *s = &opt;
    double ln_V = log((double)r->c.V);
    Progress *done = &r->done;
    double began, before = done->seconds, tokens = (double)(s->batch * r->c.T), norm = 0;
    double flops = executed_flops(&r->c, tokens, tokens * r->mask_rate);
    size_t first = done->step, every = MAX(1, s->steps / 20), tail = MAX(1, s->steps / 20);
    if (first == 0) {
        validate(r);
        printf("\nvalidation loss before training: %.4f (ln V = %.4f)\n", done->val_loss, ln_V);
    }
    struct sigaction action = {.sa_handler = on_signal}; // not before: there was nothing to save
    sigaction(SIGINT, &action, NULL), sigaction(SIGTERM, &action, NULL);
    FILE *log = fopen(r->log_path, first == 0 ? "w" : "a");
    if (!log) die("%s: cannot write: %s", r->log_path, strerror(errno));
    if (first == 0) {
        fprintf(log, "s:0 tel:%.6f\n", done->val_loss);
        unlink(r->checkpoint), unlink(r->model); // an older run's, now that this one has begun
    }
    began = now_seconds();
    for (size_t step = first + 1; step <= s->steps; step++) {
        double start = now_seconds(), loss = train_step(r, step, &norm), ms = 1e3 * (now_seconds() - start);
        if (!isfinite(loss) || !isfinite(norm))
            die("the loss or its gradient is no longer finite at step %zu: try a smaller --lr than %g%s",
                step, s->lr, access(r->checkpoint, F_OK) == 0 ? "; the last checkpoint stands" : "");
        double lr = learning_rate(s->lr, step, s->steps);
        fprintf(log, "s:%zu trl:%.6f lr:%.6e norm:%.4f\n", step, loss, lr, norm);
        int last = step == s->steps, validated = step % s->val_every == 0 || last;
        if (step > s->steps - tail) done->tail_loss += loss, done->tail_steps++;
        if (validated) validate(r), fprintf(log, "s:%zu tel:%.6f\n", step, done->val_loss);
        done->step = step;
        done->seconds = before + now_seconds() - began;
        if (step == 1 || step % every == 0 || validated) {
            char left[32], val[32] = "";
            double a_step = (now_seconds() - began) / (double)(step - first);
            format_seconds(left, a_step * (double)(s->steps - step));
            if (validated) snprintf(val, sizeof val, " val %.4f", done->val_loss);
            printf("step %5zu/%zu loss %.4f%12s | lr %.2e norm %5.2f | ", step, s->steps, loss, val, lr,
                   norm);
            printf("%6.1f ms %7.0f tok/s %6.1f GFLOP/s | %s left\n", ms, tokens / ms * 1e3,
                   flops / ms * 1e-6, left);
            fflush(stdout), fflush(log);
        }
        if (step % s->save_every == 0 || last || stop_signal) {
            // a finished checkpoint stands for a whole run: log and model are there before it
            if (fflush(log) || ferror(log)) die("%s: cannot write: %s", r->log_path, strerror(errno));
            save_model(r->model, &r->m);
            save_checkpoint(r->checkpoint, &r->m, done);
        }
        if (stop_signal) break;
    }
    fclose(log);
    return done->step < s->steps ? stop_signal : 0;
}

// ----------------------------------------------------------------------------
// results: loss points, guesses

static const char *points_header =
    "objective,layers,channels,heads,hidden,seq_len,vocab,params,params_nonemb,flops_per_token,"
    "flops_per_token_head,tokens,flops,batch_tokens,steps,lr,mask_rate,seed,train_loss,val_loss,val_floor,"
    "seconds,threads,val_se,epochs,budget,data\n";

// Open and lock a file of points, at its first row; or die, before any time is spent on a run whose result
// could not be written. A new file is empty.
static FILE *open_points(const char *path) {
    char line[2048];
    struct stat st;
    int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_NONBLOCK, 0666); // a pipe would wait for ever
    FILE *f = fd >= 0 && flock(fd, LOCK_EX) == 0 ? fdopen(fd, "r+") : NULL;
    if (!f || fstat(fd, &st) != 0) die("%s: cannot write points here: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode) || (fgets(line, sizeof line, f) && strcmp(line, points_header) != 0))
        die("%s: is no file of points: choose another", path);
    return f;
}

// How a run's row begins and ends: all its settings, as two runs that differ have them. Its results stand
// between.
void point_key(const Run *r, char key[512], char end[512]) {
    const Config *c = &r->c;
    const Settings *s = &opt;
    char name[400];
    const char *base = strrchr(s->train.path[0], '/');
    snprintf(name, 256, "%s", base ? base + 1 : s->train.path[0]);
    if (strrchr(name, '.')) *strrchr(name, '.') = 0;
    for (char *p = name; *p; p++)
        if (strchr(",\"\n\r", *p)) *p = '_';
    // what decides the numbers and has no column, where it is not as usual
    size_t n = strlen(name);
    if (s->train.n > 1) n += (size_t)snprintf(name + n, sizeof name - n, "+%zu", s->train.n - 1);
    if (s->grad_clip != 1) n += (size_t)snprintf(name + n, sizeof name - n, "-clip%.9g", s->grad_clip);
    if (s->weight_decay != 0.1) snprintf(name + n, sizeof name - n, "-decay%.9g", s->weight_decay);
    double F = flops_per_token(c), D = run_tokens(r);
    size_t params = parameter_count(c);
    snprintf(key, 512, "%s,%zu,%zu,%zu,%zu,%zu,%zu,%zu,%zu,%.9g,%.9g,%.9g,%.9g,%zu,%zu,%.9g,%.9g,%zu,",
             s->objective, c->L, c->C, c->NH, c->H, c->T, c->V, params, params - (c->V + 1) * c->C, F,
             flops_per_token_head(c, r->mask_rate), D, F * D, s->batch * c->T, s->steps, s->lr, r->mask_rate,
             s->seed);
    snprintf(end, 512, ",%.9g,%s\n", s->flops > 0 ? s->flops : F * D, name);
}

// Read on in a file of points to the row that begins and ends so. Returns 1 if there is one; `line` is the
// last line read.
int find_point(FILE *f, const char *key, const char *end, char line[2048]) {
    while (fgets(line, 2048, f)) {
        size_t n = strlen(line);
        int ends = n > strlen(end) && strcmp(line + n - strlen(end), end) == 0;
        if (ends && strncmp(line, key, strlen(key)) == 0) return 1;
    }
    return 0;
}

// Append the run's row to a CSV file, under a lock and with one write, so that runs never mix their rows; the
// header goes first into a new file. A file that has a row of the same settings stays as it is.
void append_point(const Run *r, const char *path) {
    const Progress *done = &r->done;
    char key[512], result[256], end[512], row[2048], line[2048] = "", val_floor[32] = "", val_se[32] = "";
    point_key(r, key, end);
    if (isfinite(done->val_se)) snprintf(val_se, sizeof val_se, "%.6g", done->val_se); // one row has none
    if (isfinite(r->val_floor)) snprintf(val_floor, sizeof val_floor, "%.9g", r->val_floor);
    snprintf(result, sizeof result, "%.9g,%.9g,%s,%.1f,%d,%s,%.6g",
             done->tail_loss / (double)done->tail_steps, done->val_loss, val_floor, done->seconds,
             omp_get_max_threads(), val_se, epochs(r));

    FILE *f = open_points(path);
    if (find_point(f, key, end, line)) {
        printf("%s has a row of these settings already: none is added\n", path);
        fclose(f);
        return;
    }
    size_t n = strlen(line);
    const char *before = ftello(f) == 0 ? points_header : n > 0 && line[n - 1] != '\n' ? "\n" : "";
    n = (size_t)snprintf(row, sizeof row, "%s%s%s%s", before, key, result, end);
    if (write(fileno(f), row, n) != (ssize_t)n) die("%s: cannot write the point: %s", path, strerror(errno));
    fclose(f);
}

static int has_space(const Vocab *v, size_t id) { return v->string[id][0] == ' '; }

// A token as text on one line, without its first `skip` bytes; control characters are shown as \n or dropped.
static void print_token(const Vocab *v, size_t id, int skip) {
    for (size_t i = (size_t)skip; i < v->length[id]; i++) {
        unsigned char c = (unsigned char)v->string[id][i];
        if (c == '\n') fputs("\\n", stdout);
        else if (c >= 32 && c != 127) putchar(c);
    }
}

// The k most probable tokens of a row of logits (V), best first.
static void best_tokens(const float *logits, size_t V, int *best, int k) {
    for (int i = 0; i < k; i++) {
        best[i] = -1;
        for (size_t v = 0; v < V; v++) {
            int taken = 0;
            for (int j = 0; j < i; j++) taken |= best[j] == (int)v;
            if (!taken && (best[i] < 0 || logits[v] > logits[best[i]])) best[i] = (int)v;
        }
    }
}

// The beginnings of some documents of the validation set, masked as in validation, and the model's guesses.
void show_guesses(Run *r) {
    const Vocab *v = &r->vocab;
    size_t T = r->c.T, show = 28;
    printf("\nMasked text of the validation set, with the model's guesses in brackets "
           "(guess/truth where they differ):\n");
    for (size_t example = 0; example < MIN(3, r->n_val); example++) {
        load_validation(&r->loader, &r->val, &r->c, example, 1, r->n_val, opt.mask_rate);
        const Batch *in = &r->loader.micro[0];
        model_pass(&r->m, in, 0);
        size_t begin = in->doc_end[0] + show <= T ? in->doc_end[0] + 1 : 0; // behind the first end of text
        for (int guess = 0; guess < 2; guess++) {
            size_t i = 0;
            printf(guess ? "\n  guess: " : "\n  text:  ");
            while (i < in->M && in->rows[i] < begin) i++;
            for (size_t t = begin; t < MIN(T, begin + show); t++) {
                int best;
                if (i == in->M || in->rows[i] != t) {
                    print_token(v, (size_t)in->inputs[t], 0);
                    continue;
                }
                best_tokens(r->m.logits + i * (r->c.V + 1), r->c.V, &best, 1);
                size_t truth = (size_t)in->targets[i++], it = guess ? (size_t)best : truth;
                printf("%s%s", has_space(v, it) ? " " : "", guess ? "[" : "____");
                if (guess) print_token(v, it, has_space(v, it));
                if (guess && it != truth) putchar('/'), print_token(v, truth, has_space(v, truth));
                if (guess) putchar(']');
            }
        }
        printf("\n");
    }
}

// --fill: encode the text as a document of its own and print, for each [MASK] in it, the five best guesses.
void fill(const char *text) {
    Vocab v;
    Model m;
    const char *path = opt.load ? opt.load : in_out("model.bin"), *run = in_out("checkpoint.bin");
    if (!strstr(text, "[MASK]")) die_usage("--fill: the text has no [MASK] to fill");
    if (!opt.load && !opt.vocab && access(run, R_OK) == 0) { // the model's run knows its vocabulary
        Reader r;
        Progress p;
        restore_settings(open_checkpoint(&r, run, &p));
    }
    else if (!opt.load && !opt.vocab) opt.vocab = "data/village.vocab";
    if (!opt.vocab) die_usage("--fill: needs the --vocab that the model was trained with");
    vocab_load(&v, opt.vocab);
    size_t n = strlen(text), T = 0, M = 0, *masked = alloc_or_die((n + 1) * sizeof *masked);
    uint16_t *ids = alloc_or_die((n + 2) * sizeof *ids);
    char *spaced = alloc_or_die(n + 2), *part = spaced;
    int begun = v.has_bytes || text[0] == ' ' || strncmp(text, "[MASK]", 6) == 0;
    sprintf(spaced, "%s%s", begun ? "" : " ", text);
    if (v.eot >= 0) ids[T++] = (uint16_t)v.eot;
    for (char *mask; (mask = strstr(part, "[MASK]")); part = mask + 6) {
        size_t length = (size_t)(mask - part);
        if (length > 0 && mask[-1] == ' ') length--; // [MASK] takes the space before it
        T += encode(&v, part, length, ids + T);
        masked[M++] = T++;
    }
    T += encode(&v, part, strlen(part), ids + T);
    load_model(&m, path, T);
    size_t V = m.c.V;
    if (m.c.causal) die("%s: predicts the next token, not [MASK]: train with --objective mlm", path);
    if (V != v.V) die("%s: has %zu strings, the model %zu tokens: give its own --vocab", opt.vocab, v.V, V);
    Batch in = {1, M, alloc_or_die(T * sizeof *in.inputs), alloc_or_die(T * sizeof *in.doc_end), masked,
                alloc_or_die(M * sizeof *in.targets)};
    for (size_t t = 0; t < T; t++) in.inputs[t] = ids[t], in.doc_end[t] = T;
    for (size_t i = 0; i < M; i++) in.inputs[masked[i]] = (int32_t)V;
    model_pass(&m, &in, 0);
    for (size_t i = 0; i < M; i++) {
        const float *logits = m.logits + i * (V + 1);
        int best[5], k = (int)MIN(5, V);
        best_tokens(logits, V, best, k);
        printf("[MASK] %zu:", i + 1);
        for (int j = 0; j < k; j++) {
            printf("  \"");
            print_token(&v, (size_t)best[j], 0);
            printf("\" %.1f%%", 100 * exp((double)(logits[best[j]] - m.loss_lse[i])));
        }
        printf("\n");
    }
}

// --dry-run: how long the run will take, judged by passes of its model with two layers over some rows.
void print_expected_time(const Run *r) {
    Config c = r->c;
    Model m;
    Loader l;
    char text[32];
    c.L = MIN(c.L, 2), c.T = MIN(c.T, 4096);
    size_t rows = MAX(1, MIN(opt.micro_batch, 4096 / c.T));
    model_alloc(&m, &c, rows, most_predicted(&c, rows, r->mask_rate), omp_get_max_threads(), 1);
    model_init(&m, opt.seed);
    loader_alloc(&l, rows, rows, c.T);
    load_training(&l, &r->train, &c, rows, rows, opt.seed, 0, opt.mask_rate);
    double best = INFINITY, end = now_seconds() + 1;
    for (int pass = 0; pass < 3 || (pass < 20 && now_seconds() < end); pass++) {
        double start = now_seconds();
        model_pass(&m, &l.micro[0], 1);
        best = fmin(best, now_seconds() - start);
    }
    double N = (double)(rows * c.T), all = run_tokens(r);
    double rate = executed_flops(&c, N, N * r->mask_rate) / best;
    format_seconds(text, executed_flops(&r->c, all, all * r->mask_rate) / rate);
    printf("time        about %s at %.1f GFLOP/s\n", text, rate * 1e-9);
}

// libgomp's threads spin for milliseconds where they wait for each other. As soon as another program wants
// one of the cores, a thread that waits keeps it from the one that it waits for, and a step takes up to fifty
// times as long. With OMP_WAIT_POLICY=passive they sleep. The variable is read before main(), so set it and
// start over.
void wait_passively(char **argv) {
#if defined(_OPENMP) && defined(__linux__)
    if (!getenv("OMP_WAIT_POLICY") && !getenv("GOMP_SPINCOUNT") && !setenv("OMP_WAIT_POLICY", "passive", 1))
        execv("/proc/self/exe", argv); // if it fails, go on as we are
#else
    (void)argv;
#endif
}

// Started with a standard stream closed, a program would take the next file that it opens for it.
void open_streams(void) {
    int fd = 0;
    while (fd >= 0 && fd < 3) fd = open("/dev/null", O_RDWR);
    close(fd);
}

int run_trainer(int argc, char **argv) {
    static Run run;
    parse_options(argc, argv);
    if (opt.help) return print_help(), 0;
    set_threads(opt.threads);
    if (opt.fill) return fill(opt.fill), 0;
    if (opt.load) die_usage("--load: goes with --fill");
    if (opt.points) fclose(open_points(opt.points));
    if (!open_run(&run)) {
        printf("%s: this run is finished\n", opt.out);
        if (opt.points) append_point(&run, opt.points); // if it was killed before it could
        return 0;
    }
    if (opt.dry_run) return print_expected_time(&run), 0;
    int stopped = train(&run);
    if (stopped) {
        printf("stopped by signal %d after step %llu; --resume goes on from %s\n", stopped,
               (unsigned long long)run.done.step, run.checkpoint);
        return 128 + stopped; // as the shell says it
    }
    char spent[32];
    format_seconds(spent, run.done.seconds);
    printf("\nvalidation loss %.4f", run.done.val_loss);
    if (isfinite(run.done.val_se)) printf(" ± %.4f", run.done.val_se);
    if (isfinite(run.val_floor)) printf(", floor %.4f", run.val_floor);
    printf(" (ln V = %.4f), %s\n", log((double)run.c.V), spent);
    if (opt.points) append_point(&run, opt.points);
    if (opt.vocab && !run.c.causal) show_guesses(&run);
    return 0;
}

#ifndef OPTIBERT_NO_MAIN
int main(int argc, char **argv) {
    open_streams();
    wait_passively(argv);
    int code = run_trainer(argc, argv);
    if (fflush(stdout) || ferror(stdout)) die("stdout: cannot write: %s", strerror(errno));
    return code;
}
#endif
#endif
