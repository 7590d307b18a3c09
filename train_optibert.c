/*
OptiBERT in plain C: train a BERT-style encoder on a CPU.

This one file holds all of it: the encoder with its forward and its backward pass written out, the masked-LM
loss, the optimiser, the data, the checkpoints and the training loop. Read it from top to bottom. If you stop
after the training loop, you have seen everything that a training step does. Its chapters:

    matrix products   what they compute, in three lines
    layers            RMSNorm, RoPE, attention, SwiGLU, cross-entropy: each forward above its backward
    model             the parameters, the activations, one pass forward and one pass back
    optimiser         gradient clipping, AdamW, the learning-rate schedule
    data              token shards, documents, masks, batches
    training          a step, a validation, the loop
    fast matmul       how the matrix products reach the speed of the machine
    files             checkpoints, models and results, each written whole or not at all
    options           the command line
    the system        errors, memory, time, threads
    main              from the command line to a finished run

The letters are the same everywhere: B rows of T tokens make N = B*T positions; C channels, L layers, NH heads
of HS = C/NH channels, H hidden channels, V tokens in the vocabulary; M positions are predicted.
(In scaling laws C is compute, D tokens, and F_N FLOPs for each token: C = F_N D.)
A comment beside each pointer gives its shape.
*/
#ifndef TRAIN_OPTIBERT_C
#define TRAIN_OPTIBERT_C

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "leave out -Ofast and -ffast-math: they break e^x and the check for a loss that is not finite"
#endif

#if __SIZEOF_POINTER__ < 8
#error "this program needs a 64-bit machine: leave out -m32"
#endif

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
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
#define st_mtim st_mtimespec // macOS calls it that
#endif
#ifdef _OPENMP
#include <omp.h>
#else // without OpenMP there is one thread, and the compiler ignores the pragmas
static inline int omp_get_thread_num(void) { return 0; }
static inline int omp_get_num_threads(void) { return 1; }
static inline int omp_get_max_threads(void) { return 1; }
static inline void omp_set_num_threads(int n) { (void)n; }
#endif

#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define MIN(a, b) ((a) < (b) ? (a) : (b))

void *alloc_or_die(size_t bytes); // zeroed, on a 64-byte boundary, never NULL
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);       // a failed run
__attribute__((noreturn, format(printf, 1, 2))) void die_usage(const char *format, ...); // a bad command line

// ----------------------------------------------------------------------------
// matrix products: nearly all of a training step is spent in these three
//
//     matmul_forward           out[n,o]      = add[n,o] + Σc inp[n,c] weight[o,c]
//     matmul_backward_inp      dinp[n,c]     = add[n,c] + Σo dout[n,o] weight[o,c]
//     matmul_backward_weight   dweight[o,c] += Σn dout[n,o] inp[n,c]
//
// inp is (N,C), out is (N,OC), weight is (OC,C), and a gradient has the shape of what it is the gradient of.
// add is something to add to the product (a residual, say), and may be NULL or the output itself.

void matmul_forward(float *out, const float *add, const float *inp, const float *weight,
                    size_t N, size_t C, size_t OC);
void matmul_backward_inp(float *dinp, const float *add, const float *dout, const float *weight,
                         size_t N, size_t C, size_t OC);
void matmul_backward_weight(float *dweight, const float *dout, const float *inp,
                            size_t N, size_t C, size_t OC);

// A matrix whose element (i,j) is at p[i*row + j*col]. Swapping row and col transposes it.
typedef struct {
    const float *p;
    size_t row, col;
} Matrix;

// out (m,n) = add + a (m,k) · b (k,n), by the calling thread alone. Rows of out and of add are ld apart.
void matmul_alone(float *out, const float *add, size_t ld, Matrix a, Matrix b, size_t m, size_t n, size_t k);
float *thread_scratch(void); // the memory that a thread needs for it

// ----------------------------------------------------------------------------
// layers, each forward above its backward
//
// All threads of a team call a layer together. `#pragma omp for` divides the iterations of a loop among them,
// and the barrier at the end of each such loop keeps the layers in order. Called outside a parallel region, a
// layer runs on one thread. Every number is computed by one thread in a fixed order, so the results are the
// same, bit for bit, for any number of threads.

static inline float exp_fast(float x); // e^x, in a form that the compiler can vectorise

// RMSNorm (Zhang and Sennrich, arXiv 1910.07467): out (N,C) = inp rstd weight, with weight (C) and, for each
// row, rstd (N) = 1 / sqrt(mean(inp²) + 1e-5), which is kept for the backward pass.
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

#define PARTS 64 // a sum over all rows goes through this many partial sums, whatever the number of threads

// Forward: y = n w with n = x s and s = rstd. As ds/dx = -s² n / C, it follows that
//     dw = Σ over rows of dy n
//     dx = s (w dy - n mean(w dy n))
// dinp (N,C) = add + dx, where add may be dinp itself; dweight (C) += dw. partial (PARTS,C) is scratch.
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
            float along_x = dot * s * s * s / (float)C; // s n mean(w dy n) = along_x x, since n = x s
            for (size_t c = 0; c < C; c++) {
                float dx = s * weight[c] * dy[c] - along_x * x[c];
                dw[c] += dy[c] * x[c] * s;
                dinp[i * C + c] = add ? add[i * C + c] + dx : dx;
            }
        }
    }
    #pragma omp for schedule(static)
    for (size_t c = 0; c < C; c++)
        for (size_t part = 0; part < PARTS; part++) dweight[c] += partial[part * C + c];
}

// A document in a batch. Its positions see each other and no others.
typedef struct {
    size_t begin, end; // its positions, as b*T + t
    size_t query, n;   // its predicted positions are rows[query … query+n-1]
} Document;

// Attention: each query position looks at the positions of its document, if causal only at those up to itself.
// The matrices lie in memory like this, one row for each position:
//
//     q    (n,C)    | head 0 | head 1 | … |                           the n query positions
//     kv   (N,2C)   | head 0 | head 1 | … | head 0 | head 1 | … |     all N positions
//                   |<------ keys ------->|<----- values ------>|
//     out  (n,C)    | head 0 | head 1 | … |
//
// So the queries of one head form a matrix of HS columns whose rows are C apart; its keys and its values form
// matrices whose rows are 2C apart.
typedef struct {
    size_t T, C, NH;
    int causal;
    const Document *docs; // (n_docs)
    size_t n_docs;
    const size_t *rows;   // (n) the query positions, as b*T + t, ascending; NULL means all of them
    const float *turn;    // (T,HS/2,2) for RoPE: the cosine and sine of each angle
    float *scores;        // (threads,2,QB,T) scratch
} Attention;

// Rotary position embedding, RoPE (Su et al., arXiv 2104.09864), in place: in each head of a row at position
// t, the pair (i, i + HS/2) is rotated by the angle t 10000^(-2i/HS). The backward pass is sign = -1, since
// the transpose of a rotation is the rotation back. x has n rows, ld apart, that begin with NH heads; `rows`
// says where they stand, as in Attention.
void rope(float *x, size_t ld, const size_t *rows, size_t n, const Attention *a, float sign) {
    size_t HS = a->C / a->NH, half = HS / 2;
    #pragma omp for schedule(static)
    for (size_t r = 0; r < n; r++) {
        const float *angle = a->turn + (rows ? rows[r] : r) % a->T * HS;
        for (float *head = x + r * ld; head < x + r * ld + a->C; head += HS)
            for (size_t i = 0; i < half; i++) {
                float c = angle[2 * i], s = sign * angle[2 * i + 1], x0 = head[i], x1 = head[i + half];
                head[i] = x0 * c - x1 * s;
                head[i + half] = x0 * s + x1 * c;
            }
    }
}

// Queries are taken in blocks of at most QB, so that memory grows with T and not with T².
#define QB 128

// How many keys of its document query i sees. (i counts queries, as in attention_forward.)
static size_t keys_seen(const Attention *a, const Document *d, size_t i) {
    return a->causal ? (a->rows ? a->rows[i] : i) + 1 - d->begin : d->end - d->begin;
}

// The largest of n ≥ 1 numbers. clang does not vectorise the plain loop, so this one has 16 lanes.
static float row_max(const float *x, size_t n) {
    float lane[16];
    size_t j = 0;
    for (int l = 0; l < 16; l++) lane[l] = x[0];
    for (; j + 16 <= n; j += 16)
        for (size_t l = 0; l < 16; l++) lane[l] = x[j + l] > lane[l] ? x[j + l] : lane[l];
    for (; j < n; j++) lane[0] = x[j] > lane[0] ? x[j] : lane[0];
    for (int l = 1; l < 16; l++) lane[0] = lane[l] > lane[0] ? lane[l] : lane[0];
    return lane[0];
}

// In place, row (n) = softmax(scale * row) over its first `seen` entries, and 0 after them. Returns the
// log-sum-exp of the scaled scores.
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

// out (n,C) = softmax(q kᵀ / sqrt(HS)) v in each head. lse (n,NH) is the log-sum-exp of each query's scaled
// scores: from it the backward pass computes the softmax again, so that no scores need to be kept.
void attention_forward(float *out, float *lse, const float *q, const float *kv, const Attention *a) {
    size_t T = a->T, C = a->C, NH = a->NH, HS = C / NH;
    float scale = 1 / sqrtf((float)HS);
    #pragma omp for schedule(dynamic)
    for (size_t task = 0; task < a->n_docs * NH; task++) { // one head of one document
        const Document *d = &a->docs[task / NH];
        size_t h = task % NH, k0 = d->begin * 2 * C + h * HS, v0 = k0 + C;
        size_t begin = a->rows ? d->query : d->begin, end = a->rows ? d->query + d->n : d->end;
        float *p = a->scores + (size_t)omp_get_thread_num() * 2 * QB * T;
        for (size_t i = begin; i < end; i += QB) {
            size_t nq = MIN(QB, end - i), nk = keys_seen(a, d, i + nq - 1), q0 = i * C + h * HS;
            Matrix q_block = {q + q0, C, 1}, k_transposed = {kv + k0, 1, 2 * C}, v = {kv + v0, 2 * C, 1};
            // pass 1: scores p (nq,nk) = q kᵀ
            matmul_alone(p, NULL, nk, q_block, k_transposed, nq, nk, HS);
            // pass 2: p = softmax(scale p), row by row
            for (size_t j = 0; j < nq; j++)
                lse[(i + j) * NH + h] = softmax_row(p + j * nk, scale, keys_seen(a, d, i + j), nk);
            // pass 3: out (nq,HS) = p v
            matmul_alone(out + q0, NULL, C, (Matrix){p, nk, 1}, v, nq, HS, nk);
        }
    }
}

// Forward: s = q kᵀ, p = softmax(scale s), y = p v. It follows (Dao et al., arXiv 2205.14135, appendix B) that
//     dv = pᵀ dy
//     dp = dy vᵀ
//     ds = scale p (dp - Σ over keys of p dp)
//     dq = ds k
//     dk = dsᵀ q
// dq is laid out as q, dkv as kv; dout is (n,C).
void attention_backward(float *dq, float *dkv, const float *dout, const float *lse, const float *q,
                        const float *kv, const Attention *a) {
    size_t T = a->T, C = a->C, NH = a->NH, HS = C / NH;
    float scale = 1 / sqrtf((float)HS);
    #pragma omp for schedule(dynamic)
    for (size_t task = 0; task < a->n_docs * NH; task++) {
        const Document *d = &a->docs[task / NH];
        size_t h = task % NH, k0 = d->begin * 2 * C + h * HS, v0 = k0 + C;
        size_t begin = a->rows ? d->query : d->begin, end = a->rows ? d->query + d->n : d->end;
        float *p = a->scores + (size_t)omp_get_thread_num() * 2 * QB * T, *ds = p + QB * T;
        float *dk = dkv + k0, *dv = dkv + v0;
        for (size_t t = 0; t < d->end - d->begin; t++)
            memset(dk + t * 2 * C, 0, HS * sizeof *dk), memset(dv + t * 2 * C, 0, HS * sizeof *dv);
        for (size_t i = begin; i < end; i += QB) {
            size_t nq = MIN(QB, end - i), nk = keys_seen(a, d, i + nq - 1), q0 = i * C + h * HS;
            Matrix q_block = {q + q0, C, 1}, dy = {dout + q0, C, 1}, k = {kv + k0, 2 * C, 1};
            Matrix k_transposed = {kv + k0, 1, 2 * C}, v_transposed = {kv + v0, 1, 2 * C};
            Matrix p_transposed = {p, 1, nk}, ds_transposed = {ds, 1, nk};
            // pass 1: scores p (nq,nk) = q kᵀ, again
            matmul_alone(p, NULL, nk, q_block, k_transposed, nq, nk, HS);
            // pass 2: dp (nq,nk) = dy vᵀ, in the place of ds
            matmul_alone(ds, NULL, nk, dy, v_transposed, nq, nk, HS);
            // pass 3: p = softmax(scale p) from the log-sum-exp; ds = scale p (dp - Σ p dp)
            for (size_t j = 0; j < nq; j++) {
                size_t seen = keys_seen(a, d, i + j);
                float *pj = p + j * nk, *dj = ds + j * nk, log_sum = lse[(i + j) * NH + h], dot = 0;
                #pragma omp simd reduction(+ : dot)
                for (size_t t = 0; t < seen; t++) {
                    pj[t] = exp_fast(scale * pj[t] - log_sum);
                    dot += pj[t] * dj[t];
                }
                #pragma omp simd
                for (size_t t = 0; t < seen; t++) dj[t] = scale * pj[t] * (dj[t] - dot);
                for (size_t t = seen; t < nk; t++) pj[t] = dj[t] = 0;
            }
            // pass 4: dv (nk,HS) += pᵀ dy
            matmul_alone(dv, dv, 2 * C, p_transposed, dy, nk, HS, nq);
            // pass 5: dq (nq,HS) = ds k
            matmul_alone(dq + q0, NULL, C, (Matrix){ds, nk, 1}, k, nq, HS, nk);
            // pass 6: dk (nk,HS) += dsᵀ q
            matmul_alone(dk, dk, 2 * C, ds_transposed, q_block, nk, HS, nq);
        }
    }
}

// SwiGLU (Shazeer, arXiv 2002.05202): out (N,H) = silu(gate) up, silu(g) = g σ(g). gu (N,2H) is gate | up.
void swiglu_forward(float *out, const float *gu, size_t N, size_t H) {
    #pragma omp for schedule(static)
    for (size_t i = 0; i < N; i++) {
        const float *gate = gu + i * 2 * H, *up = gate + H;
        #pragma omp simd
        for (size_t c = 0; c < H; c++) out[i * H + c] = gate[c] / (1 + exp_fast(-gate[c])) * up[c];
    }
}

// Forward: y = silu(g) u. It follows that
//     du = dy silu(g)
//     dg = dy u silu'(g), with silu'(g) = σ + g σ (1 - σ)
// Writes the forward output to out (N,H) again: it is needed for a weight gradient and was not kept.
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

// out (n,C) = the given rows of inp (N,C). Where rows is NULL, that is all of them and nothing is copied.
// Returns where the result is: out or inp.
float *gather_rows(float *out, float *inp, const size_t *rows, size_t n, size_t C) {
    if (!rows) return inp;
    #pragma omp for schedule(static)
    for (size_t i = 0; i < n; i++) memcpy(out + i * C, inp + rows[i] * C, C * sizeof *out);
    return out;
}

// The backward pass of gather_rows: out (N,C) is inp (n,C) in the given rows, which are ascending, and 0
// elsewhere. Where rows is NULL nothing is copied. Returns where the result is: out or inp.
float *scatter_rows(float *out, float *inp, const size_t *rows, size_t n, size_t N, size_t C) {
    if (!rows) return inp;
    #pragma omp for schedule(static)
    for (size_t i = 0; i < N; i++) memset(out + i * C, 0, C * sizeof *out);
    #pragma omp for schedule(static)
    for (size_t i = 0; i < n; i++) memcpy(out + rows[i] * C, inp + i * C, C * sizeof *out);
    return out;
}

// out (N,C) = the embedding wte[token] (V+1,C) of each token.
void embedding_forward(float *out, const int32_t *tokens, const float *wte, size_t N, size_t C) {
    #pragma omp for schedule(static)
    for (size_t i = 0; i < N; i++) memcpy(out + i * C, wte + (size_t)tokens[i] * C, C * sizeof *out);
}

// dwte[token] (V+1,C) += dout (N,C), summed over the positions that hold the token. The threads
// divide the columns and not the positions: then no two of them write to the same number, and the
// order of each sum is fixed.
void embedding_backward(float *dwte, const float *dout, const int32_t *tokens, size_t N, size_t C) {
    #pragma omp for schedule(static)
    for (size_t c0 = 0; c0 < C; c0 += 16) {
        size_t c1 = MIN(C, c0 + 16);
        for (size_t i = 0; i < N; i++)
            for (size_t c = c0; c < c1; c++) dwte[(size_t)tokens[i] * C + c] += dout[i * C + c];
    }
}

// losses (M) = -log softmax(logits (M,V))[target]. lse (M), the log-sum-exp, is kept for the backward pass.
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

// Forward: loss = log Σ exp(x) - x[target]. It follows that
//     dx = (softmax(x) - 1 at the target) dloss
// In place: logits (M,V) become their gradient. dloss is the same for all M losses.
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

// The default H: 8C/3, to the nearest multiple of 16.
size_t default_hidden(size_t C) { return MAX(16, (C * 8 + 24) / 48 * 16); }

// The default NH: a head for every 32 channels, or fewer if that leaves no even number of channels a head.
size_t default_heads(size_t C) {
    size_t NH = MAX(1, C / 32);
    while (NH > 1 && C % (2 * NH) != 0) NH--;
    return NH;
}

// F_N: training FLOPs for each token of a row, without embedding and head, attention counted whole
// (DeepSeek-AI, arXiv 2401.02954, eq. 2). A multiply-add is 2 FLOPs, and the backward pass costs twice the
// forward pass.
double flops_per_token(const Config *c) {
    double L = (double)c->L, C = (double)c->C, H = (double)c->H, T = (double)c->T;
    return 6 * L * (4 * C * C + 3 * C * H) + 12 * L * C * T;
}

// The FLOPs of the head for each token of a row. Only the predicted share of the tokens reaches it.
double flops_per_token_head(const Config *c, double mask_rate) {
    return 6 * (c->causal ? 1 : mask_rate) * (double)c->C * (double)c->V;
}

// The sizes that --flops alone chooses from, that the sweep trains and that plans name. F_N grows by
// about 1.5 from one to the next: width from 16 channels, depth from two layers (models with one stall),
// to the shape of BERT-base.
typedef struct {
    size_t L, C; // layers, channels
} Shape;
static const Shape ladder[] = {
    {2, 16},  {2, 24},  {2, 32},  {2, 40},  {2, 48},  {2, 64},  {2, 80},  {2, 96},
    {2, 128}, {3, 128}, {3, 160}, {3, 192}, {4, 192}, {4, 224}, {5, 256}, {6, 288},
    {6, 352}, {7, 384}, {7, 448}, {8, 512}, {9, 576}, {11, 640}, {12, 768},
};
enum { N_LADDER = sizeof ladder / sizeof *ladder };

// F of a shape: F_N, and with a head_rate > 0 the head's FLOPs at that mask rate.
double shape_flops(const Config *c, double head_rate) {
    return flops_per_token(c) + (head_rate > 0 ? flops_per_token_head(c, head_rate) : 0);
}

// The shape of the ladder whose F is nearest to F, in log. Above BERT-base the ladder goes on with a layer for
// every 64 channels.
Config ladder_shape(double F, size_t T, size_t V, int causal, double head_rate) {
    Config best = {0};
    double nearest = INFINITY;
    for (size_t i = 0; i < 400; i++) {
        Shape s = i < N_LADDER ? ladder[i] : (Shape){i - N_LADDER + 13, 64 * (i - N_LADDER + 13)};
        Config c = {s.L, s.C, default_heads(s.C), default_hidden(s.C), T, V, causal};
        double off = fabs(log(shape_flops(&c, head_rate) / F));
        if (off < nearest) nearest = off, best = c;
    }
    return best;
}

// The best F_N for a budget C is G C^a, for mlm and ntp: through the minima that dev/fit finds on English books,
// the first of them at C = least. Those on a broader text, up to 1.6e14 FLOPs, differ by a factor of up to 1.2:
// see "What it found" in dev/README.md, and dev/fit for a law of your own text.
typedef struct {
    double G, a, least, most; // least, most: FLOPs
} Optimum;
static const Optimum optimum[2] = {{8.54e-4, 0.680, 1.6e12, 1.6e14}, {0.0358, 0.594, 4e11, 1.6e14}};

// The multiply-adds, as FLOPs, that a pass over N tokens with M predictions really makes in its matrix products
// and its attention, recomputation left out. Unlike F_N it counts the head, and of the last layer only
// what is done: all but its keys and values is computed for M rows (see Layer). Attention is counted whole here
// too, T keys a query, though a query sees only its own document, and with ntp only what precedes it: so the
// GFLOP/s on the screen are somewhat higher than those achieved.
double executed_flops(const Config *c, double N, double M) {
    double C = (double)c->C, H = (double)c->H, T = (double)c->T;
    double saved = (N - M) * (6 * (2 * C * C + 3 * C * H) + 12 * C * T);
    return flops_per_token(c) * N - saved + 6 * M * C * (double)(c->V + 1);
}

// The parameters. This table is their single definition: size, offset, initialisation and name in files all
// come from it.
enum { WTE, NORM1, WQKV, WO, NORM2, WGU, WDOWN, NORMF, N_TENSORS };
typedef struct {
    const char *name;
    size_t layers, rows, cols; // its shape is (layers, rows, cols)
    double sigma;              // of the truncated normal that it is drawn from; 0: all ones
    size_t offset;             // where it begins in a block of parameters, gradients, m or v
} Tensor;

size_t tensor_size(const Tensor *t) { return t->layers * t->rows * t->cols; }

// Fill in the table. Returns the floats of a block: each tensor begins on a 64-byte boundary, and the gaps
// between them stay 0.
size_t tensor_table(Tensor t[N_TENSORS], const Config *c) {
    size_t L = c->L, C = c->C, H = c->H, offset = 0;
    double sigma = 1 / sqrt((double)C);
    t[WTE]   = (Tensor){"wte",   1, c->V + 1, C, sigma, 0}; // the embedding, and the head; row V is [MASK]
    t[NORM1] = (Tensor){"norm1", L, 1,        C, 0,     0}; // before attention
    t[WQKV]  = (Tensor){"wqkv",  L, 3 * C,    C, sigma, 0}; // queries | keys | values
    t[WO]    = (Tensor){"wo",    L, C,        C, sigma, 0}; // the output of attention
    t[NORM2] = (Tensor){"norm2", L, 1,        C, 0,     0}; // before the MLP
    t[WGU]   = (Tensor){"wgu",   L, 2 * H,    C, sigma, 0}; // gate | up
    t[WDOWN] = (Tensor){"wdown", L, C,        H, 1 / sqrt((double)H), 0};
    t[NORMF] = (Tensor){"normf", 1, 1,        C, 0,     0}; // before the head
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

// The shapes of the activations are in place_activations.
typedef struct {
    Config c;
    Tensor tensor[N_TENSORS];
    size_t block;                  // floats in each of the next four
    float *params, *grads, *m, *v; // (block) one after the other in memory
    size_t max_B, max_M;           // the rows and the predicted positions that fit at once
    float *memory;                 // holds all the activations
    float *x, *xm, *rstd1, *rstd2, *kvq, *lse, *att, *gu, *rstdf, *nf, *logits, *loss_lse, *losses;
    float *xg, *ng, *norm, *h, *dx, *dxg, *dc, *dkvq, *dgu, *dh, *partial, *turn, *scores;
} Model;

// The next n floats of m->memory, which begin at `at`, on a 64-byte boundary. Without memory it only counts.
static float *take_floats(const Model *m, size_t *at, size_t n) {
    size_t begin = *at;
    *at += (n + 15) / 16 * 16;
    return m->memory ? m->memory + begin : NULL;
}

// What a model needs room for, besides the forward pass of the encoder.
enum { NEED_HEAD = 1, NEED_BACKWARD = 2, NEED_ALL = 3 };

// Give every activation its place in m->memory, or just count while that is NULL. Returns the floats needed.
static size_t place_activations(Model *m, int threads, int needs) {
    const Config *c = &m->c;
    size_t L = c->L, C = c->C, H = c->H, T = c->T, V1 = c->V + 1, N = m->max_B * T, M = m->max_M;
    size_t at = 0;
    // kept from the forward pass for the backward pass; in the last layer, M rows where only those go on
    m->x = take_floats(m, &at, (L + 1) * N * C); // (L+1,N,C) the residual stream before each layer; last (M,C)
    m->rstd1 = take_floats(m, &at, L * N);       // (L,N)
    m->kvq = take_floats(m, &at, L * N * 3 * C); // (L,N*3C) in each layer (N,2C) keys | values, (N,C) queries
    m->lse = take_floats(m, &at, L * N * c->NH); // (L,N,NH)
    m->att = take_floats(m, &at, L * N * C);     // (L,N,C) the output of the heads
    m->xm = take_floats(m, &at, L * N * C);      // (L,N,C) the residual stream between attention and MLP
    m->rstd2 = take_floats(m, &at, L * N);       // (L,N)
    m->gu = take_floats(m, &at, L * N * 2 * H);  // (L,N,2H) gate | up
    m->rstdf = take_floats(m, &at, M);           // (M)
    m->nf = take_floats(m, &at, M * C);          // (M,C) the final norm: what the head sees
    m->logits = take_floats(m, &at, needs & NEED_HEAD ? M * V1 : 0); // (M,V+1), later their gradient
    m->loss_lse = take_floats(m, &at, M);        // (M)
    m->losses = take_floats(m, &at, M);          // (M)
    // used within one layer
    m->norm = take_floats(m, &at, N * C);        // (N,C) the residual stream after a norm
    m->h = take_floats(m, &at, N * H);           // (N,H) the hidden activations of the MLP
    m->xg = take_floats(m, &at, M * C);          // (M,C) the rows of x that go on
    m->ng = take_floats(m, &at, M * C);          // (M,C) the rows of its norm that go on
    m->scores = take_floats(m, &at, (size_t)threads * 2 * QB * T); // (threads,2,QB,T)
    m->turn = take_floats(m, &at, c->T * C / c->NH); // (T,HS/2,2) cosines and sines for RoPE
    if (!(needs & NEED_BACKWARD)) return at;
    m->dx = take_floats(m, &at, N * C);          // (N,C) gradient of the residual stream
    m->dxg = take_floats(m, &at, M * C);         // (M,C) the same, for the rows that went on
    m->dc = take_floats(m, &at, N * C);          // (N,C) gradient of whatever else has C channels
    m->dkvq = take_floats(m, &at, N * 3 * C);    // (N,2C), then (N,C)
    m->dgu = take_floats(m, &at, N * 2 * H);     // (N,2H)
    m->dh = take_floats(m, &at, N * H);          // (N,H)
    m->partial = take_floats(m, &at, PARTS * C); // (PARTS,C)
    return at;
}

// The most positions of `rows` rows that are predicted: all of them for ntp; for mlm eight standard
// deviations above the mean, which is exceeded once in 10^15 draws. At a mask rate of 0.2, room for the
// logits of all would be five times as much.
size_t most_predicted(const Config *c, size_t rows, double mask_rate) {
    double n = (double)(rows * c->T), most = n * mask_rate + 8 * sqrt(n * mask_rate * (1 - mask_rate)) + 16;
    return c->causal || most >= n ? rows * c->T : (size_t)most;
}

// The bytes that model_alloc will take.
size_t model_bytes(const Config *c, size_t B, size_t M, int threads, int needs) {
    Model m = {.c = *c, .max_B = B, .max_M = M};
    size_t blocks = tensor_table(m.tensor, c) * (needs & NEED_BACKWARD ? 4 : 1);
    return sizeof(float) * (blocks + place_activations(&m, threads, needs));
}

// Make room for the parameters and the activations of B rows with M predictions; for the backward pass, also
// for gradients and moments.
void model_alloc(Model *m, const Config *c, size_t B, size_t M, int threads, int needs) {
    *m = (Model){.c = *c, .max_B = B, .max_M = M};
    m->block = tensor_table(m->tensor, c);
    m->params = alloc_or_die(m->block * (needs & NEED_BACKWARD ? 4 : 1) * sizeof(float));
    if (needs & NEED_BACKWARD)
        m->grads = m->params + m->block, m->m = m->grads + m->block, m->v = m->m + m->block;
    m->memory = alloc_or_die(place_activations(m, threads, needs) * sizeof(float));
    place_activations(m, threads, needs);
    #pragma omp parallel
    thread_scratch(); // now, so that nothing is left that could fail later
    size_t HS = c->C / c->NH;
    for (size_t t = 0; t < c->T; t++)
        for (size_t i = 0; i < HS / 2; i++) {
            double angle = (double)t * pow(10000, -2.0 * (double)i / (double)HS);
            m->turn[t * HS + 2 * i] = (float)cos(angle), m->turn[t * HS + 2 * i + 1] = (float)sin(angle);
        }
}

void model_free(Model *m) { free(m->params), free(m->memory); }

// Randomness is counter based: every random number of a run is a hash of (seed, stream, index). So it can be
// drawn in any order, by any thread and after any restart, and is the same. `stream` says what it is for.
enum { STREAM_INIT = 1, STREAM_MASK, STREAM_SHUFFLE, STREAM_VAL_MASK, STREAM_STYLE, STREAM_VILLAGE = 100 };

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

// Uniform in [0, 1), with 53 random bits.
double uniform(uint64_t seed, uint64_t stream, uint64_t index) {
    return (double)(hash3(seed, stream, index) >> 11) * 0x1p-53;
}

// Draw the initial parameters: normal, by Box and Muller, drawn again beyond three sigma. The norms are 1.
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

// What the model sees of B rows, and what it is asked about them.
typedef struct {
    size_t B, M, n_docs;
    int32_t *inputs;  // (B,T) tokens, with [MASK] in the place of those to be predicted
    size_t *rows;     // (M) the positions to be predicted, as b*T + t, ascending
    int32_t *targets; // (M) their tokens
    Document *docs;   // (n_docs) in the order of their positions; every position is in one
} Batch;

// Layer l of a tensor: its weights, and their gradient.
static float *weights_of(const Model *m, int tensor, size_t l) {
    const Tensor *t = &m->tensor[tensor];
    return m->params + t->offset + l * t->rows * t->cols;
}
static float *gradient_of(const Model *m, int tensor, size_t l) {
    return m->grads + (weights_of(m, tensor, l) - m->params);
}

// Layer l's part of the activations, for the batch at hand. See place_activations for what they are.
//
// The head sees M rows of the last layer's output, those of the predicted positions, and no layer follows
// that could look at the others. So in the last layer only those rows go on once its keys and values are
// made: its queries, attention output, Wo and MLP have n = M rows where the other layers have n = N. Losses
// and gradients are the same as with all rows, and most of a layer's work is saved.
typedef struct {
    size_t N, n;
    const size_t *rows; // (n) the positions that go on; NULL means all N of them
    float *x, *rstd1, *kv, *q, *lse, *att, *xm, *rstd2, *gu, *out;
    Attention attention;
} Layer;

static Layer layer_of(const Model *m, const Batch *in, size_t l) {
    const Config *c = &m->c;
    size_t C = c->C, N = in->B * c->T, n = l + 1 < c->L ? N : in->M;
    const size_t *rows = l + 1 < c->L ? NULL : in->rows;
    return (Layer){
        .N = N, .n = n, .rows = rows, .x = m->x + l * N * C, .rstd1 = m->rstd1 + l * N,
        .kv = m->kvq + l * N * 3 * C, .q = m->kvq + l * N * 3 * C + N * 2 * C, .lse = m->lse + l * N * c->NH,
        .att = m->att + l * N * C, .xm = m->xm + l * N * C, .rstd2 = m->rstd2 + l * N,
        .gu = m->gu + l * N * 2 * c->H, .out = m->x + (l + 1) * N * C,
        .attention = {c->T, C, c->NH, c->causal, in->docs, in->n_docs, rows, m->turn, m->scores},
    };
}

static void layer_forward(Model *m, const Batch *in, size_t l) {
    size_t C = m->c.C, H = m->c.H;
    Layer a = layer_of(m, in, l);
    float *wq = weights_of(m, WQKV, l), *wkv = wq + C * C;
    // x += Wo · attention(norm(x))
    rmsnorm_forward(m->norm, a.rstd1, a.x, weights_of(m, NORM1, l), a.N, C);
    matmul_forward(a.kv, NULL, m->norm, wkv, a.N, C, 2 * C);
    matmul_forward(a.q, NULL, gather_rows(m->ng, m->norm, a.rows, a.n, C), wq, a.n, C, C);
    rope(a.kv, 2 * C, NULL, a.N, &a.attention, 1);
    rope(a.q, C, a.rows, a.n, &a.attention, 1);
    attention_forward(a.att, a.lse, a.q, a.kv, &a.attention);
    matmul_forward(a.xm, gather_rows(m->xg, a.x, a.rows, a.n, C), a.att, weights_of(m, WO, l), a.n, C, C);
    // x += Wdown · (silu(Wgate · n) * (Wup · n)), n = norm(x)
    rmsnorm_forward(m->norm, a.rstd2, a.xm, weights_of(m, NORM2, l), a.n, C);
    matmul_forward(a.gu, NULL, m->norm, weights_of(m, WGU, l), a.n, C, 2 * H);
    swiglu_forward(m->h, a.gu, a.n, H);
    matmul_forward(a.out, a.xm, m->h, weights_of(m, WDOWN, l), a.n, H, C);
}

// dx (n,C) is the gradient of the layer's output. Returns that of its input, (N,C). A residual y = x + f(x) has
// dx = dy + what comes back through f: hence the add = dx of both rmsnorm_backward. The outputs of the norms and
// the hidden activations were not kept; they are computed again.
static float *layer_backward(Model *m, const Batch *in, size_t l, float *dx) {
    size_t C = m->c.C, H = m->c.H;
    Layer a = layer_of(m, in, l);
    float *wq = weights_of(m, WQKV, l), *wkv = wq + C * C;
    float *dwq = gradient_of(m, WQKV, l), *dwkv = dwq + C * C;
    float *dkv = m->dkvq, *dq = dkv + a.N * 2 * C;
    // the MLP
    matmul_backward_inp(m->dh, NULL, dx, weights_of(m, WDOWN, l), a.n, H, C);
    swiglu_backward(m->dgu, m->h, m->dh, a.gu, a.n, H);
    matmul_backward_weight(gradient_of(m, WDOWN, l), dx, m->h, a.n, H, C);
    rmsnorm_forward(m->norm, a.rstd2, a.xm, weights_of(m, NORM2, l), a.n, C);
    matmul_backward_weight(gradient_of(m, WGU, l), m->dgu, m->norm, a.n, C, 2 * H);
    matmul_backward_inp(m->dc, NULL, m->dgu, weights_of(m, WGU, l), a.n, C, 2 * H);
    rmsnorm_backward(dx, dx, gradient_of(m, NORM2, l), m->partial, m->dc, a.xm, weights_of(m, NORM2, l),
                     a.rstd2, a.n, C);
    // attention
    matmul_backward_weight(gradient_of(m, WO, l), dx, a.att, a.n, C, C);
    matmul_backward_inp(m->dc, NULL, dx, weights_of(m, WO, l), a.n, C, C);
    attention_backward(dq, dkv, m->dc, a.lse, a.q, a.kv, &a.attention);
    rope(dkv, 2 * C, NULL, a.N, &a.attention, -1);
    rope(dq, C, a.rows, a.n, &a.attention, -1);
    rmsnorm_forward(m->norm, a.rstd1, a.x, weights_of(m, NORM1, l), a.N, C);
    matmul_backward_weight(dwkv, dkv, m->norm, a.N, C, 2 * C);
    matmul_backward_weight(dwq, dq, gather_rows(m->ng, m->norm, a.rows, a.n, C), a.n, C, C);
    matmul_backward_inp(m->dc, NULL, dq, wq, a.n, C, C);
    float *dn = scatter_rows(m->norm, m->dc, a.rows, a.n, a.N, C); // the norm itself is no longer needed
    matmul_backward_inp(dn, dn, dkv, wkv, a.N, C, 2 * C);
    dx = scatter_rows(m->dx, dx, a.rows, a.n, a.N, C);
    rmsnorm_backward(dx, dx, gradient_of(m, NORM1, l), m->partial, dn, a.x, weights_of(m, NORM1, l), a.rstd1,
                     a.N, C);
    return dx;
}

// The encoder alone: m->nf (M,C), the final norm of the positions in->rows. Called by all threads together.
void encoder_forward(Model *m, const Batch *in) {
    size_t L = m->c.L, C = m->c.C, N = in->B * m->c.T;
    embedding_forward(m->x, in->inputs, weights_of(m, WTE, 0), N, C);
    for (size_t l = 0; l < L; l++) layer_forward(m, in, l);
    rmsnorm_forward(m->nf, m->rstdf, m->x + L * N * C, weights_of(m, NORMF, 0), in->M, C);
}

// Add to m->grads what follows from m->dc (M,C), the gradient of m->nf.
void encoder_backward(Model *m, const Batch *in) {
    size_t L = m->c.L, C = m->c.C, N = in->B * m->c.T;
    float *dx = m->dxg;
    rmsnorm_backward(dx, NULL, gradient_of(m, NORMF, 0), m->partial, m->dc, m->x + L * N * C,
                     weights_of(m, NORMF, 0), m->rstdf, in->M, C);
    for (size_t l = L; l-- > 0;) dx = layer_backward(m, in, l, dx);
    embedding_backward(gradient_of(m, WTE, 0), dx, in->inputs, N, C);
}

// The encoder and its head: the loss of each predicted position goes to m->losses (M).
void model_forward(Model *m, const Batch *in) {
    size_t C = m->c.C, V1 = m->c.V + 1, M = in->M;
    encoder_forward(m, in);
    matmul_forward(m->logits, NULL, m->nf, weights_of(m, WTE, 0), M, C, V1);
    crossentropy_forward(m->losses, m->loss_lse, m->logits, in->targets, M, V1);
}

// Add to m->grads the gradient of dloss times the sum of the losses of the last forward pass. On the way the
// logits become their gradient. wte is both the head and the embedding, so its gradient is a sum of two: the
// head's is added here, the embedding's by embedding_backward.
void model_backward(Model *m, const Batch *in, float dloss) {
    size_t C = m->c.C, V1 = m->c.V + 1, M = in->M;
    crossentropy_backward(m->logits, m->loss_lse, in->targets, dloss, M, V1);
    matmul_backward_weight(gradient_of(m, WTE, 0), m->logits, m->nf, M, C, V1);
    matmul_backward_inp(m->dc, NULL, m->logits, weights_of(m, WTE, 0), M, C, V1);
    encoder_backward(m, in);
}

// One pass of all threads over a batch: forward, and if dloss > 0 backward.
void model_pass(Model *m, const Batch *in, float dloss) {
    if (in->M > m->max_M) die("%zu tokens to predict in a batch, improbably many: try another --seed", in->M);
    #pragma omp parallel
    {
        model_forward(m, in);
        if (dloss > 0) model_backward(m, in, dloss);
    }
}

// ----------------------------------------------------------------------------
// the optimiser

// The norm of all gradients (n) together; every thread of the team gets it. partial (PARTS) is scratch that
// the threads share.
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

// One step of AdamW (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2, in PyTorch's form, where the decay
// of a step is lr * weight_decay) on all parameters (block), with the gradients g times `scale`:
//     m = β1 m + (1 - β1) g,  v = β2 v + (1 - β2) g²
//     w = w (1 - lr weight_decay) - lr m̂ / (sqrt(v̂) + eps),  m̂ = m / (1 - β1^step),  v̂ = v / (1 - β2^step)
// The hats make up for m and v having begun at 0. Zeroes the gradients for the next step. step counts from 1.
// Called by all threads together.
void adamw(Model *m, float lr, float weight_decay, float scale, size_t step) {
    const float beta1 = 0.9f, beta2 = 0.95f, eps = 1e-8f;
    float step_size = lr / (float)(1 - pow(0.9, (double)step));
    float root = 1 / sqrtf((float)(1 - pow(0.95, (double)step))); // sqrt(v̂) = sqrt(v) root
    #pragma omp for simd schedule(static)
    for (size_t i = 0; i < m->block; i++) {
        float g = m->grads[i] * scale;
        float m1 = beta1 * m->m[i] + (1 - beta1) * g, v1 = beta2 * m->v[i] + (1 - beta2) * g * g;
        m->params[i] = m->params[i] * (1 - lr * weight_decay) - step_size * m1 / (sqrtf(v1) * root + eps);
        m->m[i] = m1, m->v[i] = v1, m->grads[i] = 0;
    }
}

// The learning rate of each step from 1 to `steps`: a linear warm-up over the first tenth of them, then a cosine
// down to a tenth of the peak. (Runs of one or two steps end at the peak.)
double learning_rate(double peak, size_t step, size_t steps) {
    size_t warm = MAX(1, steps / 10);
    if (step <= warm) return peak * (double)step / (double)warm;
    double done = (double)(step - 1 - warm) / (double)MAX(1, steps - 1 - warm);
    return peak * (0.1 + 0.45 * (1 + cos(3.141592653589793 * done)));
}

// ----------------------------------------------------------------------------
// data: token shards, rows, documents, masks, batches, the vocabulary

// FNV-1a over 32-bit words, a running checksum: begin with CHECKSUM_START and go on with the last result. Data
// that comes in parts has the same checksum as a whole if each part but the last is a multiple of 4 bytes.
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

// A file being read. These functions die, naming the file, if it is missing, ends too early, or is not a
// regular file (a pipe might wait for ever).
typedef struct {
    FILE *file;
    const char *path;
    uint64_t size; // bytes in the file
} Reader;

void reader_open(Reader *r, const char *path) {
    struct stat st;
    if (stat(path, &st)) die("%s: cannot read: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) die("%s: cannot read: not a regular file", path);
    *r = (Reader){fopen(path, "rb"), path, (uint64_t)st.st_size};
    if (!r->file) die("%s: cannot read: %s", path, strerror(errno));
}

void reader_get(Reader *r, void *data, size_t bytes) {
    if (bytes > 0 && fread(data, bytes, 1, r->file) != 1)
        die("%s: %s", r->path, ferror(r->file) ? strerror(errno) : "ends too early; make it again");
}

#define SHARD_MAGIC 20240520 // llm.c's
#define HEADER 256           // int32 words at the beginning of a shard and of a vocabulary

// One or more shard files, read as one long list of rows. They may be larger than memory: a row is read when
// it is needed. No file is kept open, so there may be thousands.
typedef struct {
    size_t n_files;
    const char **paths; // (n_files)
    size_t *tokens;     // (n_files) tokens in each file
    size_t total;       // tokens in all of them
    size_t V;           // vocabulary size, without [MASK]
    int eot;            // the end-of-text token, with which each document begins; -1 if there is none
    uint64_t vocab;     // checksum of the vocabulary file that they were made with; 0: they do not say
    uint64_t checksum;  // of all files in full: identifies the data, whatever its name
    struct stat *state; // (n_files) of each file when it was opened …
    uint64_t *sums;     // (n_files) … and its own checksum
} Shards;

// Read a shard's header, whose words are: magic, version, tokens, vocabulary size, end of text + 1, and (two)
// the checksum of the vocabulary file. Returns the number of tokens; dies if it is not a whole shard.
static size_t shard_header(Reader *r, size_t *V, int *eot) {
    int32_t h[HEADER];
    if (r->size < sizeof h) die("%s: too short for a token shard; make one with data/tokenize", r->path);
    reader_get(r, h, sizeof h);
    if (h[0] != SHARD_MAGIC) die("%s: not a token shard; make one with data/tokenize", r->path);
    if (h[1] != 1) die("%s: shard version %d; this program reads version 1 (uint16 tokens)", r->path, h[1]);
    uint64_t n = (uint32_t)h[2];
    if (r->size != sizeof h + n * sizeof(uint16_t))
        die("%s: its header promises %llu tokens, but %llu bytes follow; fetch it or make it again", r->path,
            (unsigned long long)n, (unsigned long long)(r->size - sizeof h));
    if (h[3] == 0) h[3] = 50257, h[4] = 50256 + 1; // llm.c's own shards hold GPT-2 tokens and do not say so
    if (h[3] < 1 || h[3] > 65535 || h[4] < 0 || h[4] > h[3])
        die("%s: a vocabulary of %d with end of text %ld is not possible; make it again", r->path, h[3],
            (long)h[4] - 1);
    *V = (size_t)h[3], *eot = h[4] - 1;
    return n;
}

// The checksum of the first `bytes` bytes of a file.
static uint64_t checksum_file(Reader *r, uint64_t bytes) {
    char buffer[1 << 14];
    uint64_t sum = CHECKSUM_START;
    rewind(r->file);
    for (uint64_t n; bytes > 0; bytes -= n) {
        n = MIN(bytes, sizeof buffer);
        reader_get(r, buffer, n);
        sum = checksum_add(sum, buffer, n);
    }
    return sum;
}

// Open the files and read all of them once, for their checksums.
void shards_open(Shards *s, const char **paths, size_t n_files) {
    *s = (Shards){.n_files = n_files, .paths = paths, .tokens = alloc_or_die(n_files * sizeof *s->tokens)};
    s->state = alloc_or_die(n_files * sizeof *s->state), s->sums = alloc_or_die(n_files * sizeof *s->sums);
    for (size_t i = 0; i < n_files; i++) {
        Reader r;
        size_t V;
        uint64_t vocab;
        int eot;
        reader_open(&r, paths[i]);
        fstat(fileno(r.file), &s->state[i]);
        s->total += s->tokens[i] = shard_header(&r, &V, &eot);
        fseek(r.file, 5 * sizeof(int32_t), SEEK_SET), reader_get(&r, &vocab, sizeof vocab);
        if (i == 0) s->V = V, s->eot = eot, s->vocab = vocab;
        if (V != s->V || eot != s->eot || vocab != s->vocab)
            die("%s: its vocabulary (%zu, end of text %d) is not that of %s (%zu, %d); use one vocabulary",
                paths[i], V, eot, paths[0], s->V, s->eot);
        s->sums[i] = checksum_file(&r, r.size);
        s->checksum = i == 0 ? s->sums[0] : checksum_add(s->checksum, &s->sums[i], sizeof s->sums[i]);
        fclose(r.file);
    }
}

__attribute__((noreturn)) static void die_changed(const char *path) {
    die("%s: has changed while it was in use; put the old file back and --resume", path);
}

// Has file i changed since it was opened? Its size, inode and time tell. If they differ it may only have been
// touched or copied, so then its content decides; dies if that is different.
static void check_unchanged(const Shards *s, size_t i, const struct stat *now) {
    const struct stat *was = &s->state[i];
    if (now->st_size == was->st_size && now->st_ino == was->st_ino && now->st_dev == was->st_dev &&
        now->st_mtim.tv_sec == was->st_mtim.tv_sec && now->st_mtim.tv_nsec == was->st_mtim.tv_nsec)
        return;
    Reader r;
    reader_open(&r, s->paths[i]);
    if (now->st_size != was->st_size || checksum_file(&r, r.size) != s->sums[i])
        die_changed(s->paths[i]);
    fclose(r.file);
    s->state[i] = *now;
}

// The rows of a file begin T tokens apart. With `extra` = 1 each reads one token more, the last target of
// next-token prediction. What is left over at the end of a file is not used.
static size_t file_rows(size_t tokens, size_t T, size_t extra) {
    return tokens < extra ? 0 : (tokens - extra) / T;
}

size_t shards_rows(const Shards *s, size_t T, size_t extra) {
    size_t rows = 0;
    for (size_t i = 0; i < s->n_files; i++) rows += file_rows(s->tokens[i], T, extra);
    return rows;
}

// Read row number `row`, counted through all files, into tokens (T + extra).
void shards_read(const Shards *s, size_t row, size_t T, size_t extra, uint16_t *tokens) {
    size_t i = 0, n = T + extra, bytes = n * sizeof *tokens;
    while (row >= file_rows(s->tokens[i], T, extra)) row -= file_rows(s->tokens[i++], T, extra);
    const char *path = s->paths[i];
    struct stat now;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &now)) die("%s: cannot read: %s", path, strerror(errno));
    check_unchanged(s, i, &now);
    ssize_t got = pread(fd, tokens, bytes, (off_t)(HEADER * sizeof(int32_t) + row * T * sizeof *tokens));
    if (got < 0) die("%s: cannot read: %s", path, strerror(errno));
    if (got != (ssize_t)bytes) die_changed(path); // cut off since fstat()
    close(fd);
    for (size_t t = 0; t < n; t++)
        if (tokens[t] >= s->V)
            die("%s: token %u in row %zu is outside its vocabulary of %zu; make it again", path, tokens[t],
                row, s->V);
}

// The i-th of n rows in the order of this epoch: a seeded permutation of 0 … n-1 that needs no memory. A
// four-round Feistel network is a bijection on 4^bits ≥ n numbers; a result outside 0 … n-1 goes round again.
size_t shuffled_row(size_t i, size_t n, uint64_t seed, uint64_t epoch) {
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

// Is position t of a row selected for prediction? `row` is the row's number in the whole run, so that a
// second epoch has new masks; in the validation set it is its number there, with STREAM_VAL_MASK and
// VAL_SEED. Sparing the special tokens is up to the caller.
int is_masked(uint64_t seed, uint64_t stream, uint64_t row, size_t T, size_t t, double mask_rate) {
    return uniform(seed, stream, row * T + t) < mask_rate;
}

#define VAL_SEED 1 // every run has the same validation masks, so that losses and floors can be compared

// The r-th of n_val validation rows, spread evenly over the n_rows of the validation files.
size_t val_row(size_t r, size_t n_val, size_t n_rows) {
    return (size_t)((double)r * (double)n_rows / (double)n_val);
}

// A batch of up to B rows, cut into micro-batches.
typedef struct {
    Batch *micro;      // (n_micro) what the model is given, one after the other
    size_t n_micro, M; // M: the predicted positions of all of them
    Batch all;         // the memory they share; positions count from the first row of each
    uint16_t *tokens;  // (B,T+1) as they are in the data
} Loader;

void loader_alloc(Loader *l, size_t B, size_t micro, size_t T) {
    Batch *a = &l->all;
    l->n_micro = (B + micro - 1) / micro;
    l->micro = alloc_or_die(l->n_micro * sizeof *l->micro);
    l->tokens = alloc_or_die(B * (T + 1) * sizeof *l->tokens);
    a->inputs = alloc_or_die(B * T * sizeof *a->inputs);
    a->targets = alloc_or_die(B * T * sizeof *a->targets);
    a->docs = alloc_or_die(B * T * sizeof *a->docs);
    a->rows = alloc_or_die(B * T * sizeof *a->rows);
}

// Bytes of that for each token of a batch.
enum { LOADER_BYTES = sizeof(uint16_t) + 2 * sizeof(int32_t) + sizeof(size_t) + sizeof(Document) };

void loader_free(Loader *l) {
    free(l->micro), free(l->tokens);
    free(l->all.inputs), free(l->all.docs), free(l->all.rows), free(l->all.targets);
}

// Turn the tokens of n rows, l->tokens, into micro-batches of at most `micro` rows. mlm: each token but end
// of text is selected with probability mask_rate, and every selected one becomes [MASK]. ntp: every position
// predicts the token after it. A document begins with an end-of-text token, and what precedes the first one
// in a row is a document too. `first` is the number of the first row in the run or in the validation set,
// which the masks depend on.
void loader_mask(Loader *l, const Config *c, int eot, size_t micro, uint64_t seed, uint64_t stream,
                 uint64_t first, size_t n, double mask_rate) {
    size_t T = c->T, extra = (size_t)c->causal;
    l->n_micro = l->M = 0;
    for (size_t b = 0; b < n; b++) {
        const uint16_t *row = l->tokens + b * (T + extra);
        Batch *in = &l->micro[b / micro];
        if (b % micro == 0) {
            size_t p = b * T;
            *in = (Batch){MIN(micro, n - b), 0, 0, l->all.inputs + p, l->all.rows + p, l->all.targets + p,
                          l->all.docs + p};
            l->n_micro++;
        }
        for (size_t t = 0; t < T; t++) {
            size_t position = b % micro * T + t;
            if (t == 0 || row[t] == eot)
                in->docs[in->n_docs++] = (Document){position, position, in->M, 0};
            Document *d = &in->docs[in->n_docs - 1];
            int predict = c->causal || (row[t] != eot && is_masked(seed, stream, first + b, T, t, mask_rate));
            in->inputs[position] = predict && !c->causal ? (int32_t)c->V : row[t];
            d->end++;
            if (!predict) continue;
            d->n++;
            in->targets[in->M] = row[t + extra];
            in->rows[in->M++] = position, l->M++;
        }
    }
}

// A step that masks no token, as a few short rows may, has nothing to learn from: mask the token that comes
// closest to being masked, by raising the rate just above its random number. Dies if there is none to mask.
static void mask_one(Loader *l, const Config *c, int eot, size_t micro, uint64_t seed, uint64_t first,
                     size_t n) {
    double least = INFINITY;
    for (size_t i = 0; i < n * c->T; i++)
        if (l->tokens[i] != eot) least = fmin(least, uniform(seed, STREAM_MASK, first * c->T + i));
    if (isinf(least)) die("--train: a step holds nothing but end of text; use other data");
    loader_mask(l, c, eot, micro, seed, STREAM_MASK, first, n, nextafter(least, 1));
}

// --mask-style bert (Devlin et al., arXiv 1810.04805, section 3.1): of the selected tokens 80% become [MASK],
// 10% a random token of the vocabulary, and 10% stay as they are. All of them are still predicted. `first`
// is the number of the first row in the run.
void mask_as_bert(Loader *l, const Config *c, uint64_t seed, uint64_t first) {
    for (size_t i = 0; i < l->n_micro; first += l->micro[i++].B) {
        Batch *in = &l->micro[i];
        for (size_t j = 0; j < in->M; j++) {
            uint64_t at = first * c->T + in->rows[j];
            double u = uniform(seed, STREAM_STYLE, at);
            if (u < 0.1) in->inputs[in->rows[j]] = in->targets[j];
            else if (u < 0.2) in->inputs[in->rows[j]] = (int32_t)((u - 0.1) * 10 * (double)c->V);
        }
    }
}

// The batch of training step `step` (0, 1, …): rows step*B … of the run. Each epoch has an order of its own.
void load_training(Loader *l, const Shards *s, const Config *c, size_t B, size_t micro, uint64_t seed,
                   size_t step, double mask_rate) {
    size_t extra = (size_t)c->causal, n_rows = shards_rows(s, c->T, extra);
    for (size_t b = 0; b < B; b++) { // settle() saw to it that there are rows: NOLINTNEXTLINE(*DivideZero)
        size_t i = step * B + b, row = shuffled_row(i % n_rows, n_rows, seed, i / n_rows);
        shards_read(s, row, c->T, extra, l->tokens + b * (c->T + extra));
    }
    loader_mask(l, c, s->eot, micro, seed, STREAM_MASK, step * B, B, mask_rate);
    if (l->M == 0) mask_one(l, c, s->eot, micro, seed, step * B, B);
}

// Rows first … first+n-1 of the n_val validation rows, as one micro-batch, with the masks that every run has.
void load_validation(Loader *l, const Shards *s, const Config *c, size_t first, size_t n, size_t n_val,
                     double mask_rate) {
    size_t extra = (size_t)c->causal, n_rows = shards_rows(s, c->T, extra);
    for (size_t b = 0; b < n; b++)
        shards_read(s, val_row(first + b, n_val, n_rows), c->T, extra, l->tokens + b * (c->T + extra));
    loader_mask(l, c, s->eot, n, VAL_SEED, STREAM_VAL_MASK, first, n, mask_rate);
}

// The strings of a vocabulary: llm.c's tokenizer file, version 2, or 1 (GPT-2). Training does not need them;
// a model keeps them, so that it can always be asked and nothing else is needed to understand its tokens.
#define VOCAB_MAGIC 20240328
typedef struct {
    char *file;            // (size) the whole file; NULL if there is no vocabulary
    size_t size, V;
    uint64_t checksum;     // of the file
    int eot;               // -1: none
    unsigned char *length; // (V) bytes of each string, 1 … 255
    const char **string;   // (V) not zero-terminated
} Vocab;

// Parse a vocabulary file that is in memory, v->file (v->size). `path` names it in messages.
static void vocab_parse(Vocab *v, const char *path) {
    int32_t h[HEADER];
    if (v->size < sizeof h) die("%s: too short for a vocabulary; make it again", path);
    memcpy(h, v->file, sizeof h);
    if (h[0] != VOCAB_MAGIC || (h[1] != 1 && h[1] != 2)) die("%s: not a vocabulary of version 1 or 2", path);
    if (h[1] == 1) h[3] = 50256;
    if (h[2] < 1 || h[2] > 65535 || h[3] < -1 || h[3] >= h[2])
        die("%s: a vocabulary of %d with end of text %d is not possible; make it again", path, h[2], h[3]);
    v->V = (size_t)h[2], v->eot = h[3], v->checksum = checksum_add(CHECKSUM_START, v->file, v->size);
    v->length = alloc_or_die(v->V), v->string = alloc_or_die(v->V * sizeof *v->string);
    const char *p = v->file + sizeof h, *end = v->file + v->size;
    for (size_t id = 0; id < v->V; id++) {
        size_t n = p < end ? (unsigned char)*p++ : 0;
        if (n == 0 || (size_t)(end - p) < n)
            die("%s: string %zu is empty or cut off; make it again", path, id);
        v->length[id] = (unsigned char)n, v->string[id] = p, p += n;
    }
    if (p != end) die("%s: more bytes follow the last string; make it again", path);
}

void vocab_load(Vocab *v, const char *path) {
    Reader r;
    reader_open(&r, path);
    if (r.size > HEADER * sizeof(int32_t) + 65535 * 256) die("%s: too large for a vocabulary", path);
    *v = (Vocab){.file = alloc_or_die(r.size + 4), .size = r.size};
    reader_get(&r, v->file, v->size);
    fclose(r.file);
    vocab_parse(v, path);
}

// ----------------------------------------------------------------------------
// training

typedef struct {
    size_t n;
    const char **path; // (n)
} Files;

// What a run is asked to do. The table of options, further down, says what each of these is; what is 0 here
// depends on others and is settled before training.
typedef struct {
    Files train, val;
    const char *vocab, *init, *objective, *mask_style, *out;
    size_t layers, channels, heads, hidden, seq_len;
    size_t batch, micro_batch, steps, seed, threads, val_every, val_rows, save_every;
    double mask_rate, val_mask_rate, tokens, flops, lr, grad_clip, weight_decay;
    int keep, resume, overwrite, dry_run, help;
} Settings;

// How far a run has got; stored in its checkpoint.
typedef struct {
    uint64_t step;           // steps done
    uint64_t data;           // Run.data: what the run was trained on
    uint64_t init;           // checksum of the model that the run began with; 0 if it began from random weights
    uint64_t tail_steps;     // of the last 5% of the steps: how many are done, and the sum of their losses
    double tail_loss;
    double seconds;          // spent in training
    double val_loss, val_se; // of the last validation
    double best_loss;        // of all validations after a step, the best …
    uint64_t best_step;      // … and its step
} Progress;

typedef struct {
    Settings s;
    Config c;
    Shards train, val;
    Vocab vocab;      // of the data, if there is one
    uint64_t data;    // checksum of the training and validation files, and of the model of --init
    double mask_rate, val_mask_rate; // 1 for ntp
    double val_floor; // the lowest loss that is possible on the validation set; NAN if it is not known
    Model m;
    Loader loader;
    Progress done;
} Run;

int close_stdout(int code);  // dies if what was printed cannot be written
void save_run(const Run *r); // checkpoint.bin and model.bin; after the last step result.csv too
void save_model(const char *path, const Model *m, const Vocab *v);
char *out_path(const Run *r, const char *name); // DIR/name, in memory that the caller may free
double now_seconds(void);
FILE *text_open(char **text, size_t *size); // a stream into memory; after text_close, *text holds it
void text_close(FILE *f);

// One training step. Returns the mean loss of its predicted tokens; *norm is the gradient's, before clipping.
// A loss or gradient that is not finite changes no parameter.
static double train_step(Run *r, size_t step, double *norm) {
    const Settings *s = &r->s;
    Model *m = &r->m;
    double loss = 0, partial[PARTS], lr = learning_rate(s->lr, step, s->steps);
    load_training(&r->loader, &r->train, &r->c, s->batch, s->micro_batch, s->seed, step - 1, s->mask_rate);
    if (!r->c.causal && strcmp(s->mask_style, "bert") == 0)
        mask_as_bert(&r->loader, &r->c, s->seed, (step - 1) * s->batch);
    size_t M = r->loader.M;
    for (size_t i = 0; i < r->loader.n_micro; i++) {
        const Batch *in = &r->loader.micro[i];
        model_pass(m, in, 1 / (float)M); // M of the whole batch: the sum is the gradient of the mean loss
        for (size_t j = 0; j < in->M; j++) loss += (double)m->losses[j];
    }
    loss /= (double)M;
    #pragma omp parallel
    {
        double mine = gradient_norm(m->grads, m->block, partial); // the same for all threads
        double scale = s->grad_clip > 0 ? fmin(1, s->grad_clip / (mine + 1e-6)) : 1;
        if (isfinite(loss) && isfinite(mine)) adamw(m, (float)lr, (float)s->weight_decay, (float)scale, step);
        #pragma omp master
        *norm = mine;
    }
    return loss;
}

// The mean loss over the validation rows, and its standard error over rows. Rows differ in how many tokens
// they predict, so the mean is a ratio of two sums, and its variance that of loss_r - mean * count_r
// (Cochran, Sampling Techniques, eq. 2.39).
static void validate(Run *r) {
    size_t n = r->s.val_rows, T = r->c.T, micro = r->s.micro_batch;
    double *loss = alloc_or_die(n * sizeof *loss), *count = alloc_or_die(n * sizeof *count);
    double all_loss = 0, all_count = 0, squares = 0;
    for (size_t first = 0; first < n; first += micro) {
        load_validation(&r->loader, &r->val, &r->c, first, MIN(micro, n - first), n, r->val_mask_rate);
        const Batch *in = &r->loader.micro[0];
        model_pass(&r->m, in, 0);
        for (size_t i = 0; i < in->M; i++) {
            loss[first + in->rows[i] / T] += (double)r->m.losses[i];
            count[first + in->rows[i] / T] += 1;
        }
    }
    for (size_t i = 0; i < n; i++) all_loss += loss[i], all_count += count[i];
    if (all_count == 0) die("--val-rows %zu: none of their tokens is masked; raise it, or --mask-rate", n);
    double mean = r->done.val_loss = all_loss / all_count;
    for (size_t i = 0; i < n; i++) squares += pow(loss[i] - mean * count[i], 2);
    r->done.val_se = n > 1 ? sqrt(squares * (double)n / (double)(n - 1)) / all_count : NAN;
    free(loss), free(count);
}

static volatile sig_atomic_t stop_signal = 0;

static void on_signal(int number) { stop_signal = number; }

// Finish the step, save and exit when the program is politely asked to stop: by Ctrl-C, kill, a closed terminal,
// a limit on CPU time, or a warning from Slurm. A signal that is ignored, as under nohup, stays ignored.
static void handle_signals(void) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGXCPU, SIGUSR1, SIGUSR2};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, old;
    for (int i = 0; i < 6; i++)
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(signals[i], &action, NULL);
}

static void format_seconds(char out[32], double seconds) {
    size_t s = (size_t)fmin(fmax(0, seconds), 1e15);
    if (s < 3600) snprintf(out, 32, "%zu:%02zu", s / 60, s % 60);
    else snprintf(out, 32, "%zu:%02zu:%02zu", s / 3600, s / 60 % 60, s % 60);
}

// Print a step's line. ms is its own time in milliseconds, mean_seconds the mean of all steps so far. Returns 0,
// or the errno if it could not be printed.
static int print_step(const Run *r, double loss, double norm, int validated, double ms, double mean_seconds) {
    size_t step = r->done.step, steps = r->s.steps;
    double tokens = (double)(r->s.batch * r->c.T);
    double flops = executed_flops(&r->c, tokens, tokens * r->mask_rate);
    char left[32], val[32] = "";
    format_seconds(left, mean_seconds * (double)(steps - step));
    if (validated) snprintf(val, sizeof val, " val %.4f", r->done.val_loss);
    printf("step %5zu/%zu loss %.4f%12s | lr %.2e norm %5.2f | ", step, steps, loss, val,
           learning_rate(r->s.lr, step, steps), norm);
    printf("%6.1f ms %7.0f tok/s %6.1f GFLOP/s | %s left\n", ms, tokens / ms * 1e3, flops / ms * 1e-6, left);
    return fflush(stdout) ? errno : 0;
}

// Says where a model's first non-finite number is; NULL if all are finite.
static const char *not_finite(const Model *m) {
    static const char *const kinds[] = {"weights", "gradient", "first moments", "second moments"};
    static char text[64];
    for (size_t k = 0; k < 4; k++) // one block after the other in memory
        for (const Tensor *t = m->tensor; t < m->tensor + N_TENSORS; t++)
            for (size_t j = 0, n = t->rows * t->cols; j < tensor_size(t); j++)
                if (!isfinite(m->params[k * m->block + t->offset + j]))
                    return snprintf(text, sizeof text, "%s of %s, layer %zu", kinds[k], t->name, j / n), text;
    return NULL;
}

// Keep the best model of a run beside the last one, in best.bin: a model that reads the same text
// too often gets worse. If the last model is the best, it needs no file of its own.
static void keep_best(Run *r) {
    Progress *done = &r->done;
    char *path = out_path(r, "best.bin");
    int better = done->best_step == 0 || done->val_loss < done->best_loss;
    if (better) done->best_loss = done->val_loss, done->best_step = done->step;
    if (better && done->step < r->s.steps) save_model(path, &r->m, &r->vocab);
    if (better && done->step == r->s.steps) unlink(path);
    free(path);
}

// The training loop: from the step after r->done.step to the last one, or until a signal. Returns the signal,
// or 0. What an earlier run left in DIR stays until there is something to save.
static int run_training(Run *r) {
    const Settings *s = &r->s;
    Progress *done = &r->done;
    size_t first = done->step, every = MAX(1, s->steps / 20), tail = MAX(1, s->steps / 20);
    const char *checkpoint = out_path(r, "checkpoint.bin"), *result = out_path(r, "result.csv");
    int replace = first == 0 && (access(checkpoint, F_OK) == 0 || access(result, F_OK) == 0), unseen = 0;
    const char *log_path = out_path(r, replace ? "main.log.tmp" : "main.log");
    double norm = 0, before = done->seconds;
    if (first == 0) {
        validate(r);
        printf("\nvalidation loss before training: %.4f (ln V = %.4f)\n", done->val_loss,
               log((double)r->c.V));
        close_stdout(0);
    }
    handle_signals(); // not earlier: there was nothing to save
    FILE *log = fopen(log_path, first == 0 ? "w" : "a");
    if (!log) die("%s: cannot write: %s", log_path, strerror(errno));
    if (first == 0) fprintf(log, "s:0 tel:%.6f\n", done->val_loss);
    double began = now_seconds();
    for (size_t step = first + 1; step <= s->steps; step++) {
        double start = now_seconds(), loss = train_step(r, step, &norm), ms = 1e3 * (now_seconds() - start);
        double lr = learning_rate(s->lr, step, s->steps);
        fprintf(log, "s:%zu trl:%.6f lr:%.6e norm:%.4f\n", step, loss, lr, norm);
        int last = step == s->steps, validated = last || step % s->val_every == 0;
        int stop = stop_signal; // read once: a signal that comes after this waits for the next step
        int saving = last || step % s->save_every == 0 || stop || (validated && replace); // it may be the best
        if (step > s->steps - tail) done->tail_loss += loss, done->tail_steps++;
        if (validated) validate(r), fprintf(log, "s:%zu tel:%.6f\n", step, done->val_loss);
        const char *where = !isfinite(loss + norm) || saving || validated ? not_finite(&r->m) : NULL;
        if (where || !isfinite(loss + norm) || !isfinite(done->val_loss))
            die("step %zu: no longer finite: %s; try a smaller --lr than %g", step, where ?: "the loss", s->lr);
        done->step = step;
        done->seconds = before + now_seconds() - began;
        if (step == 1 || step % every == 0 || validated) {
            unseen = print_step(r, loss, norm, validated, ms, (now_seconds() - began) / (double)(step - first));
            fflush(log);
        }
        saving |= unseen > 0;
        if (saving && (fflush(log) || ferror(log) || fsync(fileno(log))))
            die("%s: cannot write: %s", log_path, strerror(errno));
        if (saving && replace) { // the first time; without its checkpoint the old run no longer counts
            unlink(checkpoint), unlink(out_path(r, "best.bin")), unlink(result);
            replace = rename(log_path, out_path(r, "main.log"));
            if (replace) die("%s: cannot rename: %s", log_path, strerror(errno));
        }
        if (validated) keep_best(r);
        if (saving) save_run(r); // after the log: what a checkpoint says has happened is in there
        if (unseen) die("stdout: cannot write: %s; step %zu is saved, --resume goes on", strerror(unseen), step);
        if (stop) break;
    }
    fclose(log);
    return done->step < s->steps ? stop_signal : 0;
}

// The bytes of the UTF-8 character that a text of size > 0 begins with; 0 if it begins with none.
size_t utf8_bytes(const char *text, size_t size) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000}; // the least that n bytes may encode
    const unsigned char *s = (const unsigned char *)text;
    size_t n = *s < 0x80 ? 1 : *s < 0xc0 ? 0 : *s < 0xe0 ? 2 : *s < 0xf0 ? 3 : *s < 0xf8 ? 4 : 0, k = 1;
    uint32_t c = n == 1 ? *s : *s & 0x7f >> n;
    for (; k < MIN(n, size) && (s[k] & 0xc0) == 0x80; k++) c = c << 6 | (s[k] & 0x3f);
    return k == n && c >= least[n] && c < 0x110000 && c >> 11 != 0xd800 >> 11 ? n : 0;
}

// Print text on one line: a line break as \n, other control characters not at all, and bytes that are not
// UTF-8 as \xNN: a token may be part of a character.
static void print_text(const char *text, size_t size) {
    for (size_t n; size > 0; text += n, size -= n) {
        unsigned char c = (unsigned char)*text;
        n = utf8_bytes(text, size);
        if (n == 0) printf("\\x%02x", c), n = 1;
        else if (c == '\n') fputs("\\n", stdout);
        else if (c >= 32 && c != 127) fwrite(text, n, 1, stdout);
    }
}

// Where the largest of n ≥ 1 logits is.
static size_t best_of(const float *logits, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

// Print a passage of each of the first three validation rows, masked as in validation, and the model's guesses.
// It begins where a document begins, if one does early enough.
static void show_guesses(Run *r) {
    const Vocab *v = &r->vocab;
    size_t T = r->c.T, show = 28;
    printf("\nMasked text of the validation set, with the model's guesses in brackets "
           "(guess/truth where they differ):\n");
    for (size_t example = 0; example < MIN(3, r->s.val_rows); example++) {
        load_validation(&r->loader, &r->val, &r->c, example, 1, r->s.val_rows, r->val_mask_rate);
        const Batch *in = &r->loader.micro[0];
        model_pass(&r->m, in, 0);
        size_t begin = in->docs[0].end + show <= T ? in->docs[0].end + 1 : 0; // after the first end of text
        for (int guess = 0; guess < 2; guess++) {
            char *line;
            size_t i = 0, size;
            FILE *f = text_open(&line, &size); // a whole line, for a character may be several tokens
            while (i < in->M && in->rows[i] < begin) i++;
            for (size_t t = begin; t < MIN(T, begin + show); t++) {
                int masked = i < in->M && in->rows[i] == t;
                size_t truth = (size_t)(masked ? in->targets[i] : in->inputs[t]);
                size_t it = masked && guess ? best_of(r->m.logits + i * (r->c.V + 1), r->c.V) : truth;
                i += (size_t)masked;
                const char *string = v->string[it];
                int space = masked && string[0] == ' ', other = v->string[truth][0] == ' ';
                if (masked) fprintf(f, "%s%s", space ? " " : "", guess ? "[" : "____");
                if (!masked || guess) fwrite(string + space, (size_t)(v->length[it] - space), 1, f);
                if (masked && guess && it != truth)
                    fputc('/', f), fwrite(v->string[truth] + other, (size_t)(v->length[truth] - other), 1, f);
                if (masked && guess) fputc(']', f);
            }
            text_close(f);
            printf(guess ? "\n  guess: " : "\n  text:  "), print_text(line, size);
            free(line);
        }
        printf("\n");
    }
}

// ----------------------------------------------------------------------------
// the fast matmul
//
// A matrix product is three loops:
//
//     for (i = 0; i < m; i++)
//         for (j = 0; j < n; j++)
//             for (p = 0; p < k; p++) out[i][j] += a[i][p] * b[p][j];
//
// Written so, each addition waits for the one before it, and a core does one multiply-add in the time in
// which it could do 32 or more. Three changes fix that; dev/README.md tells the story step by step.
//
// 1. A tile of the output, MR rows of NR columns, stays in registers for the whole sum. Each p then reads MR
//    numbers of a and NR of b and makes MR * NR multiply-adds of them, none of which waits for another.
// 2. The part of b that a tile reads is copied ("packed"), so that it can be read in order. A panel is NR
//    columns wide and up to KC rows long, and stays in a fast cache while all the tiles in its columns use it.
// 3. The rows of the output are divided among the threads.
//
//            b (k,n)                a (m,k)            out (m,n)
//          NR columns
//         +---+---+---+
//      KC | 1 | 2 | 3 |         +-------+---       +---+---+---+
//         +---+---+---+      MR |  → p  |       MR |tile   |   |     tile += its MR rows of a · panel 1
//         |   |   |   |         +-------+---       +---+---+---+
//
//     packed:  | panel 1: row 0, row 1, … row KC-1 | panel 2: row 0, … | …   each row NR numbers
//
// Long sums are cut into equal pieces of at most KC; a later piece adds to what is there. Every
// element of the output is summed in the same order (piece after piece, each from its first p to its
// last) whoever computes it.

// A vector of VW floats is one register, by the vector extension of GCC and clang: + and * work element by
// element, and a scalar operand is broadcast. vec_u is the same in memory of any alignment.
#if defined(__AVX512F__)
enum { VW = 16, MR = 8, NV = 2 };
#elif defined(__AVX__)
enum { VW = 8, MR = 6, NV = 2 };
#elif defined(__aarch64__) || defined(__VSX__) || defined(__ALTIVEC__)
enum { VW = 4, MR = 6, NV = 4 };
#else
enum { VW = 4, MR = 6, NV = 2 };
#endif
typedef float vec __attribute__((vector_size(4 * VW), may_alias));
typedef float vec_u __attribute__((vector_size(4 * VW), may_alias, aligned(4)));

#define NR (VW * NV) // a tile is MR rows of NR columns, in MR * NV registers
#define KC 512       // most rows of a panel: (KC,NR) fits the L1 or the L2 cache
#define MC (MR * 16) // rows of the output that share one pass over the panels
#define NC 1024      // columns packed at once by all threads together: (KC,NC) fits the L2 or L3 cache
#define WIDE (12 * NR) // columns packed at once by a thread alone, in panels of KC/2 rows: what it packs next
                       // then fits the L2 cache too
#define TILE(kc) ((kc) * MR + 16) // from one packed tile to the next: a power of two would crowd the cache
#define CACHE_LINE 16 // floats

// One tile: out (MR, n vectors) = add + a · panel, with a(i,p) at a[i*row + p*col] and rows of out and add ld
// apart. The loops over i and j have constant bounds, so the compiler unrolls them and keeps acc in
// registers. (Inlined: n and one of row and col are constants.) Meanwhile the lines of out, which will be
// written, come from memory, and kc others, one from each row of `next`, to the L2 cache.
static inline __attribute__((always_inline))
void matmul_tile(float *out, const float *add, size_t ld, const float *a, size_t row, size_t col,
                 const float *panel, size_t kc, const size_t n, Matrix next) {
    vec acc[MR][NV];
    for (size_t i = 0; i < MR; i++)
        for (size_t j = 0; j < n; j++) acc[i][j] = (vec){0};
    for (size_t i = 0; i < MR; i++)
        for (size_t j = 0; j < n * VW; j += CACHE_LINE) __builtin_prefetch(out + i * ld + j, 1);
    for (size_t p = 0; p < kc; p++) {
        __builtin_prefetch(next.p + p * next.row, 0, 2);
        for (size_t i = 0; i < MR; i++)
            for (size_t j = 0; j < n; j++)
                acc[i][j] += a[i * row + p * col] * *(const vec *)(panel + p * NR + j * VW);
    }
    for (size_t i = 0; i < MR; i++)
        for (size_t j = 0; j < n; j++) {
            if (add) acc[i][j] += *(const vec_u *)(add + i * ld + j * VW);
            *(vec_u *)(out + i * ld + j * VW) = acc[i][j];
        }
}

// A tile of any number of whole vectors. Its a is either in the rows of a matrix (col = 1), or has its MR
// rows side by side (row = 1): packed, with col = MR, or the columns of a matrix.
static inline __attribute__((always_inline))
void matmul_any_tile(float *out, const float *add, size_t ld, Matrix a, const float *panel, size_t kc,
                     size_t cols, Matrix next) {
    if (cols == NR && a.col == 1) matmul_tile(out, add, ld, a.p, a.row, 1, panel, kc, NV, next);
    else if (cols == NR) matmul_tile(out, add, ld, a.p, 1, a.col, panel, kc, NV, next);
    else
        for (size_t j = 0; j < cols; j += VW) {
            const float *plus = add ? add + j : NULL;
            if (a.col == 1) matmul_tile(out + j, plus, ld, a.p, a.row, 1, panel + j, kc, 1, next);
            else matmul_tile(out + j, plus, ld, a.p, 1, a.col, panel + j, kc, 1, next);
        }
}

// Element (i,j) of a matrix begins a smaller one.
static Matrix submatrix(Matrix a, size_t i, size_t j) {
    return (Matrix){a.p + i * a.row + j * a.col, a.row, a.col};
}

// Copy n columns of b (kc rows) into panels (kc,NR), the last one padded with zeros. Rows that are whole in
// memory are read in order, and what comes 8 rows later is fetched meanwhile, so that the memory keeps up.
static void pack_panels(float *panels, Matrix b, size_t kc, size_t n) {
    size_t whole = b.col == 1 ? n / NR * NR : 0;
    if (n % NR) memset(panels + n / NR * NR * kc, 0, kc * NR * sizeof *panels);
    for (size_t p = 0; p < kc && whole; p++) {
        const float *from = b.p + p * b.row;
        for (size_t j = 0; j < whole; j += CACHE_LINE) __builtin_prefetch(from + 8 * b.row + j);
        for (size_t j = 0; j < whole; j += NR) memcpy(panels + j * kc + p * NR, from + j, NR * sizeof *from);
    }
    // p outside: a cache line of each column is read to its end while it is in the L1 cache
    for (size_t j = whole; j < n; j += NR)
        for (size_t p = 0; p < kc; p++)
            for (size_t c = j; c < MIN(n, j + NR); c++)
                panels[j * kc + p * NR + c - j] = b.p[p * b.row + c * b.col];
}

// Copy rows of a (m,kc) to tiles (kc,MR), TILE(kc) apart. The last rows of a block, if they are fewer than
// MR, are always packed, with zeros; the others if `all`, and then a is transposed (a.row = 1): what lies
// side by side in memory is read together, for all tiles.
static void pack_rows(float *tiles, Matrix a, size_t m, size_t kc, int all) {
    size_t whole = m / MR * MR;
    for (size_t p = 0; p < kc && all; p++) {
        const float *from = a.p + p * a.col;
        for (size_t i = 0; i < whole; i += CACHE_LINE) __builtin_prefetch(from + 8 * a.col + i);
        for (size_t i = 0; i < whole; i += MR)
            memcpy(tiles + i / MR * TILE(kc) + p * MR, from + i, MR * sizeof *from);
    }
    float *last = tiles + whole / MR * TILE(kc);
    for (size_t p = 0; p < kc && whole < m; p++)
        for (size_t r = 0; r < MR; r++)
            last[p * MR + r] = whole + r < m ? a.p[(whole + r) * a.row + p * a.col] : 0;
}

// out (m,n) = add + a (m,kc) · b, with m ≤ MC and b in panels. A panel stays in the L1 or the L2 cache while
// the tiles of the block pass over it, the block itself in L2. A transposed a (as for weight gradients),
// whose steps lie far apart, is packed first into tiles (MC,KC), unless the panels are so few that this costs
// more than it saves. next_a and next_b, if their p is not NULL, are what will be packed after this, of the
// same sizes as a and b: each tile fetches one line of each of their rows.
static void matmul_block(float *out, const float *add, size_t ld, Matrix a, const float *panels, size_t m,
                         size_t n, size_t kc, float *tiles, Matrix next_a, Matrix next_b) {
    size_t a_lines = next_a.p ? m / CACHE_LINE : 0, b_lines = next_b.p ? n / CACHE_LINE : 0, t = 0; // tiles
    float edge[MR * NR] __attribute__((aligned(64))); // a tile of which a part sticks out of the matrix
    int in_place = a.col == 1 || (a.row == 1 && n <= 2 * NR);
    pack_rows(tiles, a, m, kc, !in_place);
    for (size_t j = 0; j < n; j += NR) {
        const float *panel = panels + j * kc;
        size_t cols = MIN(NR, n - j);
        for (size_t i = 0; i < m; i += MR) {
            size_t rows = MIN(MR, m - i), at = i * ld + j;
            Matrix from = {tiles + i / MR * TILE(kc), 1, MR};
            Matrix next = {panel, 0, 1}; // nothing to fetch
            if (t < b_lines) next = (Matrix){next_b.p + CACHE_LINE * t, next_b.row, 1};
            else if (t - b_lines < a_lines)
                next = (Matrix){next_a.p + CACHE_LINE * (t - b_lines), next_a.col, 1};
            t++;
            if (in_place && rows == MR) from = (Matrix){a.p + i * a.row, a.row, a.col};
            if (rows == MR && cols % VW == 0) {
                matmul_any_tile(out + at, add ? add + at : NULL, ld, from, panel, kc, cols, next);
                continue;
            }
            matmul_any_tile(edge, NULL, NR, from, panel, kc, cols, next);
            for (size_t r = 0; r < rows; r++)
                for (size_t c = 0; c < cols; c++) // out is never NULL: NOLINTNEXTLINE(*NullDereference)
                    out[at + r * ld + c] = (add ? add[at + r * ld + c] : 0) + edge[r * NR + c];
        }
    }
}

// Each thread's own scratch: tiles, then panels (KC/2,WIDE). Allocated when the thread first needs it.
enum { TILES = MC / MR * TILE(KC), THREAD_SCRATCH = TILES + KC / 2 * WIDE }; // floats
float *thread_scratch(void) {
    static _Thread_local float *scratch;
    if (!scratch) scratch = alloc_or_die(THREAD_SCRATCH * sizeof *scratch);
    return scratch;
}

// How long the pieces of a sum of k terms are: at most `most`, all equal but the last, in whole cache lines.
static size_t sum_length(size_t k, size_t most) {
    size_t pieces = (k + most - 1) / most, length = pieces ? (k + pieces - 1) / pieces : most;
    return (length + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

// out (m,n) = add + a (m,k) · b (k,n): called by all threads together, which share the panels of b. Row
// blocks, about four a thread, go to threads that are free, so that one that the system slows down does not
// hold up the others.
static void matmul(float *out, const float *add, Matrix a, Matrix b, size_t m, size_t n, size_t k) {
    static float panels[KC * NC] __attribute__((aligned(64))); // one product is computed at a time
    size_t rows = MIN(MC, MAX(MR, m / (4 * (size_t)omp_get_num_threads()) / MR * MR));
    size_t piece = sum_length(k, KC);
    for (size_t j = 0; j < n; j += NC) {
        size_t cols = MIN(NC, n - j);
        for (size_t p = 0; p < k; p += piece) {
            size_t kc = MIN(piece, k - p);
            const float *plus = p == 0 ? add : out; // later pieces add to what is there
            #pragma omp for schedule(static)
            for (size_t c = 0; c < cols; c += NR)
                pack_panels(panels + c * kc, submatrix(b, p, j + c), kc, MIN(NR, cols - c));
            #pragma omp for schedule(dynamic)
            for (size_t i = 0; i < m; i += rows)
                matmul_block(out + i * n + j, plus ? plus + i * n + j : NULL, n, submatrix(a, i, p), panels,
                             MIN(rows, m - i), cols, kc, thread_scratch(), (Matrix){0}, (Matrix){0});
        }
    }
}

void matmul_alone(float *out, const float *add, size_t ld, Matrix a, Matrix b, size_t m, size_t n, size_t k) {
    float *tiles = thread_scratch(), *panels = tiles + TILES;
    size_t piece = sum_length(k, KC / 2);
    for (size_t j = 0; j < n; j += WIDE) {
        size_t cols = MIN(WIDE, n - j);
        for (size_t p = 0; p < k; p += piece) {
            size_t kc = MIN(piece, k - p);
            const float *plus = p == 0 ? add : out;
            pack_panels(panels, submatrix(b, p, j), kc, cols);
            for (size_t i = 0; i < m; i += MC) {
                Matrix next_a = i + MC < m ? submatrix(a, i + MC, p) : submatrix(a, 0, p + kc);
                Matrix next_b = submatrix(b, p + kc, j);
                if (a.row != 1 || p + kc >= k) next_a.p = next_b.p = NULL;
                matmul_block(out + i * ld + j, plus ? plus + i * ld + j : NULL, ld, submatrix(a, i, p),
                             panels, MIN(MC, m - i), cols, kc, tiles, next_a, next_b);
            }
        }
    }
}

void matmul_forward(float *out, const float *add, const float *inp, const float *weight,
                    size_t N, size_t C, size_t OC) {
    matmul(out, add, (Matrix){inp, C, 1}, (Matrix){weight, 1, C}, N, OC, C);
}

void matmul_backward_inp(float *dinp, const float *add, const float *dout, const float *weight,
                         size_t N, size_t C, size_t OC) {
    matmul(dinp, add, (Matrix){dout, OC, 1}, (Matrix){weight, C, 1}, N, C, OC);
}

// Here the sum is long and the output small: the threads of `matmul` would wait for each other every KC
// rows. So each works alone on a share of the output rows.
void matmul_backward_weight(float *dweight, const float *dout, const float *inp,
                            size_t N, size_t C, size_t OC) {
    size_t tiles = (OC + MR - 1) / MR, threads = (size_t)omp_get_num_threads();
    size_t share = (tiles + threads - 1) / threads * MR;
    #pragma omp for schedule(dynamic)
    for (size_t o = 0; o < OC; o += share)
        matmul_alone(dweight + o * C, dweight + o * C, C, (Matrix){dout + o, 1, OC}, (Matrix){inp, C, 1},
                     MIN(share, OC - o), C, N);
}

// e^x to about 2 units in the last place, in a form that the compiler can vectorise (libm's expf is one call
// for each number). x = n ln 2 + r with |r| ≤ ln 2 / 2; e^r is the polynomial of Cephes' expf; 2^n adds n to
// the exponent's bits. Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits. x is clamped to
// [-87, 88], where e^-87 is 1.6e-38; NaN stays NaN.
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

// ----------------------------------------------------------------------------
// files: written whole or not at all

// A file is written under another name, flushed and renamed: PATH is always the old file or the whole new one.
typedef struct {
    FILE *file;
    uint64_t checksum; // of all that was put
    char path[PATH_MAX], temporary[PATH_MAX + 8];
} Writer;

void writer_open(Writer *w, const char *path) {
    if (strlen(path) >= PATH_MAX) die("%.40s…: this path is too long; choose a shorter one", path);
    strcpy(w->path, path);
    snprintf(w->temporary, sizeof w->temporary, "%s.tmp", path);
    w->checksum = CHECKSUM_START;
    w->file = fopen(w->temporary, "wb");
    if (!w->file) die("%s: cannot write: %s", w->temporary, strerror(errno));
}

static void writer_fail(Writer *w) {
    int reason = errno;
    unlink(w->temporary);
    die("%s: cannot write: %s", w->path, strerror(reason));
}

void writer_put(Writer *w, const void *data, size_t bytes) {
    if (bytes > 0 && fwrite(data, bytes, 1, w->file) != 1) writer_fail(w);
    w->checksum = checksum_add(w->checksum, data, bytes); // after: what is put may be the checksum itself
}

// Make a rename in this file's folder survive a power failure, if the file system can do
// that (EINVAL: it cannot).
static int sync_folder(const char *path) {
    char folder[PATH_MAX] = ".";
    if (strrchr(path, '/')) snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path + 1), path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY), failed = fd < 0 || (fsync(fd) && errno != EINVAL);
    return failed ? -1 : close(fd);
}

void writer_close(Writer *w) {
    FILE *f = w->file;
    if (ferror(f) || fflush(f) || fsync(fileno(f)) || fclose(f) || rename(w->temporary, w->path) ||
        sync_folder(w->path))
        writer_fail(w);
}

// model.bin:       magic, version,                                       model,       checksum
// checkpoint.bin:  magic, version, length of settings, settings, Progress, model, m, v, checksum
//
// model:           shape (7 words), bytes of the vocabulary file, that file; then for each tensor
//                  its name (16 bytes), its shape (3 words) and its weights.
//
// A word is 8 bytes. Text is padded with zeros so that everything is a multiple of 4 bytes.
#define CHECKPOINT_MAGIC 0x54504b4349545031u
#define MODEL_MAGIC 0x4c444d4349545031u
#define FILE_VERSION 2u

// Put text of n bytes with its length before it. In memory zeros must follow it.
static void put_text(Writer *w, const char *text, uint64_t n) {
    writer_put(w, &n, sizeof n);
    writer_put(w, text, (n + 3) / 4 * 4);
}

// Get such text, in memory that the caller frees, with zeros after it.
static char *get_text(Reader *r, uint64_t *n) {
    reader_get(r, n, sizeof *n);
    if (*n > r->size) die("%s: ends too early; make it again", r->path);
    char *text = alloc_or_die(*n + 4);
    reader_get(r, text, (*n + 3) / 4 * 4);
    return text;
}

// What comes before a tensor's weights.
static void tensor_header(const Tensor *t, uint64_t header[5]) {
    memset(header, 0, 2 * sizeof *header);
    memcpy(header, t->name, strlen(t->name));
    header[2] = t->layers, header[3] = t->rows, header[4] = t->cols;
}

static void put_model(Writer *w, const Model *m, const Vocab *v) {
    const Config *c = &m->c;
    const uint64_t shape[] = {c->L, c->C, c->NH, c->H, c->T, c->V, (uint64_t)c->causal};
    writer_put(w, shape, sizeof shape);
    put_text(w, v->file, v->size);
    for (const Tensor *t = m->tensor; t < m->tensor + N_TENSORS; t++) {
        uint64_t header[5];
        tensor_header(t, header);
        writer_put(w, header, sizeof header);
        writer_put(w, m->params + t->offset, tensor_size(t) * sizeof(float));
    }
}

// Get a model's shape and vocabulary, which its file must be long enough for …
static void get_shape(Reader *r, Config *c, Vocab *v) {
    uint64_t s[7], size;
    reader_get(r, s, sizeof s);
    *c = (Config){.L = s[0], .C = s[1], .NH = s[2], .H = s[3], .T = s[4], .V = s[5], .causal = s[6] != 0};
    *v = (Vocab){.file = get_text(r, &size)};
    v->size = size;
    if (size > 0) vocab_parse(v, r->path);
    else free(v->file), v->file = NULL;
    const uint64_t most[] = {10000, 100000, 10000, 1000000, 1000000, 65535, 1}; // as the options have it
    int ok = size == 0 || v->V == c->V;
    for (int i = 0; i < 7; i++) ok &= s[i] <= most[i] && (s[i] > 0 || i == 6);
    if (!ok || s[1] % s[2] || s[1] / s[2] % 2 || parameter_count(c) * sizeof(float) > r->size)
        die("%s: holds no model of %zu layers and %zu channels; make it again", r->path, c->L, c->C);
}

// … and, when it has its memory, its weights.
static void get_weights(Reader *r, Model *m) {
    for (const Tensor *t = m->tensor; t < m->tensor + N_TENSORS; t++) {
        uint64_t want[5], header[5];
        tensor_header(t, want);
        reader_get(r, header, sizeof header);
        if (memcmp(header, want, sizeof header) != 0)
            die("%s: another tensor is where %s should be; the file is damaged", r->path, t->name);
        reader_get(r, m->params + t->offset, tensor_size(t) * sizeof(float));
    }
}

// Open a file that begins with `magic` and a version and ends with the checksum of all before it, which is
// verified before anything else is believed. Returns the checksum.
static uint64_t open_verified(Reader *r, const char *path, uint64_t magic, const char *what) {
    uint64_t head[2] = {0}, stored;
    reader_open(r, path);
    if (r->size >= sizeof head + sizeof stored) reader_get(r, head, sizeof head);
    if (head[0] != magic) die("%s: not a %s", path, what);
    if (head[1] != FILE_VERSION)
        die("%s: a %s of version %llu; this program reads version %u, so train again", path, what,
            (unsigned long long)head[1], FILE_VERSION);
    uint64_t sum = checksum_file(r, r->size - sizeof stored);
    reader_get(r, &stored, sizeof stored);
    if (sum != stored) die("%s: is damaged (its checksum is wrong); go back to a copy, or train again", path);
    fseeko(r->file, sizeof head, SEEK_SET);
    return sum;
}

void save_model(const char *path, const Model *m, const Vocab *v) {
    Writer w;
    uint64_t head[2] = {MODEL_MAGIC, FILE_VERSION};
    writer_open(&w, path);
    writer_put(&w, head, sizeof head);
    put_model(&w, m, v);
    writer_put(&w, &w.checksum, sizeof w.checksum);
    writer_close(&w);
}

// Die, saying why, unless there can be a model of this shape.
void check_config(const Config *c) {
    size_t HS = c->NH ? c->C / c->NH : 0;
    if (c->C % 2 != 0) die_usage("--channels %zu: must be even, since RoPE rotates pairs of channels", c->C);
    if (c->NH == 0 || c->C % c->NH != 0) die_usage("--heads %zu: must divide --channels %zu", c->NH, c->C);
    if (HS % 2 != 0)
        die_usage("--heads %zu: leaves %zu channels a head, and RoPE needs an even number", c->NH, HS);
    double L = (double)c->L, C = (double)c->C, H = (double)c->H, T = (double)c->T;
    if (T * C * (L + 1) > 1e14 || C * H * L > 1e13)
        die_usage("--channels %zu: this model is larger than any memory", c->C);
}

// The file of a model that is named by itself or by its run's folder. In memory that lasts.
const char *model_path(const char *name) {
    struct stat st;
    if (stat(name, &st) || !S_ISDIR(st.st_mode)) return name;
    char *path = alloc_or_die(strlen(name) + sizeof "/model.bin");
    return strcat(strcpy(path, name), "/model.bin");
}

// Load a model and its vocabulary, with room for B rows of as many tokens as it was trained on, all predicted.
void load_model(Model *m, Vocab *v, const char *path, size_t B, int needs) {
    Reader r;
    Config c;
    open_verified(&r, path, MODEL_MAGIC, "model");
    get_shape(&r, &c, v);
    model_alloc(m, &c, B, B * c.T, omp_get_max_threads(), needs);
    get_weights(&r, m);
    fclose(r.file);
}

char *kept_settings(const Settings *s); // what of the command line a checkpoint keeps, as text

void save_checkpoint(const char *path, const Run *r) {
    Writer w;
    const Model *m = &r->m;
    uint64_t head[2] = {CHECKPOINT_MAGIC, FILE_VERSION};
    char *settings = kept_settings(&r->s);
    writer_open(&w, path);
    writer_put(&w, head, sizeof head);
    put_text(&w, settings, strlen(settings));
    writer_put(&w, &r->done, sizeof r->done);
    put_model(&w, m, &r->vocab);
    writer_put(&w, m->m, 2 * m->block * sizeof(float)); // v follows m in memory
    writer_put(&w, &w.checksum, sizeof w.checksum);
    writer_close(&w);
    free(settings);
}

// Open a checkpoint and get its settings (text that the caller frees), progress, shape and vocabulary …
char *open_checkpoint(Reader *r, const char *path, Progress *done, Config *c, Vocab *v) {
    uint64_t length;
    open_verified(r, path, CHECKPOINT_MAGIC, "checkpoint");
    char *settings = get_text(r, &length);
    reader_get(r, done, sizeof *done);
    get_shape(r, c, v);
    return settings;
}

// … and, when the model has its memory, weights and moments.
void load_checkpoint(Reader *r, Model *m) {
    get_weights(r, m);
    reader_get(r, m->m, 2 * m->block * sizeof(float));
    fclose(r->file);
}

// The tokens that the whole run is trained on, and how often it reads its data.
static double run_tokens(const Run *r) { return (double)r->s.steps * (double)(r->s.batch * r->c.T); }

static double run_epochs(const Run *r) {
    return (double)r->s.steps * (double)r->s.batch / (double)shards_rows(&r->train, r->c.T, (size_t)r->c.causal);
}

// The name of data in a result: that of the first file without folder and suffix, and how many more there are.
static void data_name(char name[256], const Files *files) {
    const char *base = strrchr(files->path[0], '/');
    snprintf(name, 200, "%s", base ? base + 1 : files->path[0]);
    if (strrchr(name, '.')) *strrchr(name, '.') = 0;
    for (char *p = name; *p; p++)
        if (strchr(",\"\n\r", *p)) *p = '_';
    if (files->n > 1) snprintf(name + strlen(name), 32, "+%zu", files->n - 1);
}

// A run as a row of loss points: everything that decides its numbers, and what they came to.
static const char result_header[] =
    "objective,layers,channels,heads,hidden,seq_len,vocab,params,params_nonemb,flops_per_token,"
    "flops_per_token_head,tokens,flops,batch_tokens,steps,lr,mask_rate,seed,train_loss,val_loss,val_floor,"
    "seconds,threads,val_se,epochs,budget,data,val_rows,val_data,grad_clip,weight_decay,micro_batch,"
    "fingerprint,mask_style,val_mask_rate\n";

void print_result(FILE *f, const Run *r) {
    const Config *c = &r->c;
    const Settings *s = &r->s;
    const Progress *done = &r->done;
    char data[256], val_data[256], val_floor[32] = "", val_se[32] = ""; // nothing if not known
    size_t params = parameter_count(c);
    double F = flops_per_token(c), D = run_tokens(r);
    data_name(data, &s->train), data_name(val_data, &s->val);
    if (isfinite(r->val_floor)) snprintf(val_floor, sizeof val_floor, "%.9g", r->val_floor);
    if (isfinite(done->val_se)) snprintf(val_se, sizeof val_se, "%.6g", done->val_se);
    fprintf(f, "%s,%zu,%zu,%zu,%zu,%zu,%zu,", s->objective, c->L, c->C, c->NH, c->H, c->T, c->V);
    fprintf(f, "%zu,%zu,", params, params - (c->V + 1) * c->C);
    fprintf(f, "%.9g,%.9g,%.9g,%.9g,", F, flops_per_token_head(c, r->mask_rate), D, F * D);
    fprintf(f, "%zu,%zu,%.9g,%.9g,%zu,", s->batch * c->T, s->steps, s->lr, r->mask_rate, s->seed);
    fprintf(f, "%.9g,%.9g,%s,", done->tail_loss / (double)done->tail_steps, done->val_loss, val_floor);
    fprintf(f, "%.1f,%d,%s,%.6g,", done->seconds, omp_get_max_threads(), val_se, run_epochs(r));
    fprintf(f, "%.9g,%s,", s->flops > 0 ? s->flops : F * D, data);
    fprintf(f, "%zu,%s,%.9g,%.9g,%zu,%016llx,", s->val_rows, val_data, s->grad_clip, s->weight_decay,
            s->micro_batch, (unsigned long long)r->data);
    fprintf(f, "%s,%.9g\n", c->causal ? "" : s->mask_style, r->val_mask_rate);
}

// The checkpoint is last: once it says that the run is finished, model and result are there.
void save_run(const Run *r) {
    char name[40];
    snprintf(name, sizeof name, "model-%llu.bin", (unsigned long long)r->done.step);
    char *kept = out_path(r, name), *model = out_path(r, "model.bin");
    char *result = out_path(r, "result.csv"), *checkpoint = out_path(r, "checkpoint.bin");
    if (r->s.keep) save_model(kept, &r->m, &r->vocab);
    save_model(model, &r->m, &r->vocab);
    if (r->done.step == r->s.steps) {
        Writer w;
        writer_open(&w, result);
        fputs(result_header, w.file), print_result(w.file, r);
        writer_close(&w);
    }
    save_checkpoint(checkpoint, r);
    free(kept), free(model), free(result), free(checkpoint);
}

// Cut main.log back to a step: what came after the checkpoint will be done again.
static void cut_log(const char *path, size_t last) {
    char line[256];
    size_t step;
    off_t end = 0;
    FILE *f = fopen(path, "r+");
    if (!f) return; // the log is lost; the run can go on
    while (fgets(line, sizeof line, f) && strchr(line, '\n')) {
        if (sscanf(line, "s:%zu", &step) != 1 || step > last) break;
        end = ftello(f);
    }
    if (ftruncate(fileno(f), end)) die("%s: cannot write: %s", path, strerror(errno));
    fclose(f);
}

// ----------------------------------------------------------------------------
// options: the command line of this program and of those that include it

// Every option is defined once, in a table: the command line, --help, what a checkpoint keeps and what
// --resume compares all come from it. KEEP: a checkpoint keeps it, for a resumed run that is not given it.
// BIND: it decides the run's numbers, so it is kept and must not differ. FREE: neither.
enum { COUNT, REAL, TEXT, FILES, FLAG };
enum { FREE, KEEP, BIND };
typedef struct {
    const char *name; // without the dashes; "" collects the arguments that belong to no option
    int type, kind;
    size_t offset;    // of its value in the program's settings
    double min, max;  // of a number
    const char *argument, *help;
    int given;        // 1: on the command line
} Option;

static void *option_value(const Option *o, const void *settings) { return (char *)settings + o->offset; }

// A table ends with an entry without a name. Returns NULL if it has no such option.
static Option *find_option(Option *table, const char *name) {
    for (Option *o = table; o->name; o++)
        if (strcmp(o->name, name) == 0) return o;
    return NULL;
}

static void add_file(Files *f, const char *path) {
    const char **longer = realloc(f->path, (f->n + 1) * sizeof *longer);
    if (!longer) die("out of memory");
    longer[f->n++] = path, f->path = longer; // gcc 12's -fanalyzer reports a leak here: it does not follow f
}

// Give an option a value from text; for FILES, one more file.
static void set_option(const Option *o, void *settings, const char *text) {
    void *value = option_value(o, settings);
    char *end;
    if (o->type == TEXT) *(const char **)value = text;
    if (o->type == FILES) add_file(value, text);
    if (o->type != COUNT && o->type != REAL) return;
    double x = strtod(text, &end);
    if (end == text || *end || !isfinite(x)) die_usage("--%s %s: not a number", o->name, text);
    if (x < o->min || x > o->max)
        die_usage("--%s %s: must be between %.10g and %.10g", o->name, text, o->min, o->max);
    if (o->type == COUNT && x != floor(x)) die_usage("--%s %s: must be a whole number", o->name, text);
    if (o->type == COUNT) *(size_t *)value = (size_t)x;
    else *(double *)value = x;
}

// Read the command line into the settings that the table describes; dies if it makes no sense.
void parse_options(Option *table, void *settings, int argc, char **argv) {
    Option *operands = find_option(table, "");
    for (int i = 1; i < argc; i++) {
        Option *o = strncmp(argv[i], "--", 2) == 0 && argv[i][2] ? find_option(table, argv[i] + 2) : NULL;
        if (!o && operands && (argv[i][0] != '-' || argv[i][1] == 0)) {
            add_file(option_value(operands, settings), argv[i]);
            continue;
        }
        if (!o) die_usage("%s: unknown option; --help lists them all", argv[i]);
        if (o->given++) die_usage("--%s: is given twice", o->name);
        int n = 0; // arguments up to the next option; a single text may itself begin with dashes
        while (i + n + 1 < argc && strncmp(argv[i + n + 1], "--", 2) && (n == 0 || o->type == FILES)) n++;
        if (n == 0 && o->type == TEXT && i + 1 < argc) n = !find_option(table, argv[i + 1] + 2);
        if (o->type == FLAG) *(int *)option_value(o, settings) = 1, n = 0;
        else if (n == 0 || !*argv[i + 1]) die_usage("--%s: needs %s after it", o->name, o->argument);
        for (; n > 0; n--) set_option(o, settings, argv[++i]);
    }
}

void print_options(const Option *table) {
    for (const Option *o = table; o->name; o++)
        if (*o->name) printf("  --%-18s %-7s %s\n", o->name, o->argument, o->help);
}

// Where in the settings a value is. (A designated initializer, so that `given` may be left out.)
#define TO(field) .offset = offsetof(Settings, field)
static Option trainer_options[] = {
    {"train", FILES, KEEP, TO(train), 0, 0, "FILE…", "token shards to train on (data/village_train.bin)"},
    {"val", FILES, KEEP, TO(val), 0, 0, "FILE…", "… and to validate on (X_val.bin for X_train.bin)"},
    {"vocab", TEXT, FREE, TO(vocab), 0, 0, "FILE", "their strings (X.vocab for X_train.bin, if there)"},
    {"init", TEXT, FREE, TO(init), 0, 0, "MODEL", "begin with the weights of this model.bin"},
    {"objective", TEXT, BIND, TO(objective), 0, 0, "NAME", "mlm: masked tokens; ntp: the next token (mlm)"},
    {"layers", COUNT, BIND, TO(layers), 1, 1e4, "N", "(2, or with --flops the best for it)"},
    {"channels", COUNT, BIND, TO(channels), 2, 1e5, "N", "(64, or with --flops the best for it)"},
    {"heads", COUNT, BIND, TO(heads), 1, 1e4, "N", "(channels / 32, or the next that divides them)"},
    {"hidden", COUNT, BIND, TO(hidden), 1, 1e6, "N", "(8/3 of the channels, to the nearest multiple of 16)"},
    {"seq-len", COUNT, BIND, TO(seq_len), 1, 1e6, "N", "tokens in a row (128)"},
    {"mask-rate", REAL, BIND, TO(mask_rate), 1e-9, 1, "R", "share of the tokens that mlm masks (0.2)"},
    {"mask-style", TEXT, BIND, TO(mask_style), 0, 0, "NAME", "all become [MASK], or as bert does: 80% (all)"},
    {"val-mask-rate", REAL, BIND, TO(val_mask_rate), 1e-9, 1, "R", "… in validation, all [MASK] (--mask-rate)"},
    {"batch", COUNT, BIND, TO(batch), 1, 1e6, "N", "rows in a step (32)"},
    {"micro-batch", COUNT, BIND, TO(micro_batch), 1, 1e6, "N", "rows in memory at once (the whole batch)"},
    {"steps", COUNT, BIND, TO(steps), 1, 1e12, "N", "how long to train (2000), or:"},
    {"tokens", REAL, FREE, TO(tokens), 1, 1e18, "D", "… as many steps as come nearest to D tokens"},
    {"flops", REAL, KEEP, TO(flops), 1, 1e30, "C", "… or to C = F_N D floating-point operations"},
    {"lr", REAL, BIND, TO(lr), 1e-12, 1e3, "LR", "peak learning rate (0.5 / channels)"},
    {"grad-clip", REAL, BIND, TO(grad_clip), 0, 1e9, "X", "largest norm of a gradient (1; 0: no limit)"},
    {"weight-decay", REAL, BIND, TO(weight_decay), 0, 1e3, "X", "(0.1)"},
    {"seed", COUNT, BIND, TO(seed), 0, 9e15, "N", "for weights, masks and the order of the data (1)"},
    {"threads", COUNT, FREE, TO(threads), 0, 4096, "N", "(OMP_NUM_THREADS, or else a thread for each core)"},
    {"val-every", COUNT, KEEP, TO(val_every), 1, 1e12, "N", "steps between validations (a 20th of all)"},
    {"val-rows", COUNT, BIND, TO(val_rows), 1, 1e9, "N", "rows of a validation (512, or all there are)"},
    {"save-every", COUNT, KEEP, TO(save_every), 1, 1e12, "N", "steps between checkpoints (a 10th of all)"},
    {"keep", FLAG, FREE, TO(keep), 0, 0, "", "keep the models of all checkpoints, as model-STEP.bin"},
    {"out", TEXT, FREE, TO(out), 0, 0, "DIR", "for main.log, checkpoint.bin, model.bin, result.csv (out)"},
    {"resume", FLAG, FREE, TO(resume), 0, 0, "", "go on with the run in DIR, or begin it"},
    {"overwrite", FLAG, FREE, TO(overwrite), 0, 0, "", "begin anew although DIR holds an unfinished run"},
    {"dry-run", FLAG, FREE, TO(dry_run), 0, 0, "", "print sizes, FLOPs and expected time; train nothing"},
    {"help", FLAG, FREE, TO(help), 0, 0, "", "print this list"},
    {0},
};
#undef TO

// The defaults. What is 0 here depends on other settings, and settle() fills it in.
static const Settings default_settings = {
    .objective = "mlm", .mask_style = "all", .out = "out", .layers = 2, .channels = 64, .seq_len = 128,
    .batch = 32, .mask_rate = 0.2, .grad_clip = 1, .weight_decay = 0.1, .seed = 1, .val_rows = 512,
};

// The default peak learning rate for a width. It is measured: see "Learning rate" in dev/README.md.
double default_lr(size_t C) { return 0.5 / (double)C; }

static int is_given(const char *name) {
    const Option *o = find_option(trainer_options, name);
    return o && o->given;
}

// A number in the fewest digits (15 to 17) that read back exactly.
static const char *shortest(char text[32], double x) {
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, 32, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    return text;
}

// The options that a checkpoint keeps, as "name value" lines, one for each file, with its whole path so that
// the current folder does not matter. The caller frees this text.
char *kept_settings(const Settings *s) {
    char *text, whole[PATH_MAX], number[32];
    size_t size;
    FILE *f = text_open(&text, &size);
    for (const Option *o = trainer_options; o->name; o++) {
        const void *value = option_value(o, s);
        const Files *files = o->type == FILES ? value : NULL;
        if (o->kind == FREE) continue;
        if (o->type == COUNT) fprintf(f, "%s %zu\n", o->name, *(const size_t *)value);
        if (o->type == REAL) fprintf(f, "%s %s\n", o->name, shortest(number, *(const double *)value));
        if (o->type == TEXT) fprintf(f, "%s %s\n", o->name, *(const char *const *)value);
        for (size_t i = 0; files && i < files->n; i++)
            fprintf(f, "%s %s\n", o->name, realpath(files->path[i], whole) ? whole : files->path[i]);
    }
    fwrite("\0\0\0", 4, 1, f); // for put_text
    text_close(f);
    return text;
}

// Give the options that are not on the command line the values that a checkpoint kept.
static void restore_settings(Settings *s, const char *kept) {
    char *text = strdup(kept), *save;
    if (!text) die("out of memory"); // text is kept: its strings are used NOLINTNEXTLINE(*Malloc)
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *value = strchr(line, ' ');
        if (value) *value++ = 0;
        Option *o = find_option(trainer_options, line);
        if (!o || !value || o->given) continue;
        if (strtod(value, NULL) != 0 || o->min == 0) set_option(o, s, value); // 0 below the least: not given
    }
}

// The line of an option in such text, up to a line end.
static const char *kept_line(const char *text, const char *name) {
    size_t n = strlen(name);
    for (; *text; text += strcspn(text, "\n"), text += *text == '\n')
        if (strncmp(text, name, n) == 0 && text[n] == ' ') return text;
    return "nothing";
}

// Die, naming the option, if one that decides the numbers is not what the checkpoint kept. An older program's
// checkpoint may lack an option; then its default held, and it must not be given.
static void compare_settings(const Settings *s, const char *kept) {
    char *now = kept_settings(s);
    for (const Option *o = trainer_options; o->name; o++) {
        const char *is = kept_line(now, o->name), *was = kept_line(kept, o->name);
        int n = (int)strcspn(is, "\n"), m = (int)strcspn(was, "\n");
        if (!o->given && strcmp(was, "nothing") == 0) continue;
        if (o->kind == BIND && (n != m || strncmp(is, was, (size_t)n)))
            die("--%.*s: the checkpoint has %.*s; leave it out, or choose another --out", n, is, m, was);
    }
    free(now);
}

// ----------------------------------------------------------------------------
// the system: errors, memory, time, threads

const char *program = "train_optibert"; // its name in error messages

__attribute__((noreturn))
static void complain_and_exit(int code, const char *format, va_list args) {
    fflush(stdout);
    fprintf(stderr, "%s: ", program);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    exit(code);
}

// A run that fails says so in one line, "program: file or option: what is wrong; what to do", and exits with 1.
void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    complain_and_exit(1, format, args);
}

// A command line that makes no sense: exit 2.
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
        die("out of memory: %.1f MiB more are needed; try a smaller model or a smaller --micro-batch",
            (double)bytes / 1048576.0);
    return memset(p, 0, rounded);
}

FILE *text_open(char **text, size_t *size) {
    FILE *f = open_memstream(text, size);
    if (!f) die("out of memory");
    return f;
}

void text_close(FILE *f) {
    if (fclose(f)) die("out of memory");
}

double now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#ifdef __linux__
// Without this check, a program built for one CPU would end in "Illegal instruction" on a CPU that lacks some.
static void check_cpu(void) {
    int able = 1;
#ifdef __x86_64__
    __builtin_cpu_init(); // this early it has not been done yet
#if defined(__AVX512VL__)
    able = __builtin_cpu_supports("avx512vl");
#elif defined(__AVX2__)
    able = __builtin_cpu_supports("avx2");
#endif
#endif
    if (!able) die("this program was built for another CPU; run make here, or build it with make PORTABLE=1");
}

static cpu_set_t allowed_cpus; // that this process may run on

// Runs before OpenMP starts. libgomp reads its environment and binds the first thread to a core before
// main(), if the user asks for that. But it is linked statically (see Makefile), so its start-up code is part
// of this program, and a constructor of higher priority comes first. (libomp starts at its first use.)
//
// How should a thread wait for the others, as it does hundreds of times in a step? libgomp spins for
// milliseconds. As soon as another program wants one of the cores, a waiting thread keeps it from the thread
// that it waits for, and a step takes up to fifty times as long. Asleep it is in nobody's way, but it takes a
// while to wake. So it spins for some microseconds, which is how long most waits are, and then sleeps. (libomp
// spins too, but lets other programs go first.)
__attribute__((constructor(101)))
static void before_openmp(void) {
    check_cpu();
    if (sched_getaffinity(0, sizeof allowed_cpus, &allowed_cpus)) CPU_ZERO(&allowed_cpus);
    if (!getenv("OMP_WAIT_POLICY")) setenv("GOMP_SPINCOUNT", "300", 0); // unless the user knows better
}
#endif

// A number from a file of one line: the k-th word, counted from 0; NAN if there is none.
static double number_in_file(const char *path, int k) {
    char word[64] = "";
    double x;
    FILE *f = fopen(path, "r");
    while (f && k >= 0 && fscanf(f, "%63s", word) == 1) k--;
    if (f) fclose(f);
    return k < 0 && sscanf(word, "%lf", &x) == 1 ? x : NAN;
}

// What a container grants, by its control group (version 2) or one above it: how many CPUs' worth of time
// (cpu.max, a quota and a period) or bytes (memory.max); INFINITY: no limit. root: /sys/fs/cgroup; self:
// /proc/self/cgroup.
double group_limit(const char *root, const char *self, const char *file) {
    char path[PATH_MAX], line[1024], group[1024] = "", *end;
    double least = INFINITY;
    FILE *f = fopen(self, "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "0::", 3) == 0) sscanf(line + 3, "%1023[^\n]", group);
    if (f) fclose(f);
    do {
        snprintf(path, sizeof path, "%s%s/%s", root, group, file);
        double limit = number_in_file(path, 0), period = number_in_file(path, 1);
        least = fmin(least, isnan(period) ? limit : limit / period); // NAN for "max": no limit
        end = strrchr(group, '/');
        if (end) *end = 0;
    } while (end);
    return least;
}

// The cores (not hardware threads) that this process may use, and that OpenMP may use if the user says
// where it should run; 0 if unknown.
static int usable_cores(void) {
    int cores = 0;
#ifdef __APPLE__
    size_t size = sizeof cores;
    if (sysctlbyname("hw.physicalcpu", &cores, &size, NULL, 0) != 0) cores = 0;
#elif defined(__linux__)
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        char path[96];
        if (!CPU_ISSET(cpu, &allowed_cpus)) continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%zu/topology/thread_siblings_list", cpu);
        double first = number_in_file(path, 0); // of the hardware threads of this core
        cores += isnan(first) || first == (double)cpu || !CPU_ISSET((size_t)first, &allowed_cpus);
    }
    cores = (int)fmin(cores, fmax(1, floor(group_limit("/sys/fs/cgroup", "/proc/self/cgroup", "cpu.max"))));
#endif
#ifdef _OPENMP
    int places = 0;
    for (int i = 0; i < omp_get_num_places(); i++) places += omp_get_place_num_procs(i);
    if (places > 0) cores = MIN(cores, places);
    cores = MIN(cores, omp_get_thread_limit());
#endif
    return cores;
}

// Use n threads; if n is 0, as many as OMP_NUM_THREADS says, or else one for each core.
void set_threads(size_t n) {
    if (n == 0 && !getenv("OMP_NUM_THREADS")) n = (size_t)usable_cores();
    if (n > 0) omp_set_num_threads((int)n);
}

// If a standard stream is closed at the start, the next file opened would take its place. Writing to a pipe
// whose reader has gone, or past the allowed file size, must fail that write and not kill the program.
void open_streams(void) {
    int fd = 0;
    signal(SIGPIPE, SIG_IGN), signal(SIGXFSZ, SIG_IGN);
    while (fd >= 0 && fd < 3) fd = open("/dev/null", O_RDWR);
    close(fd);
}

// What main() returns: `code`, once all that was printed is written.
int close_stdout(int code) {
    if (fflush(stdout) || ferror(stdout)) die("stdout: cannot write: %s", strerror(errno));
    return code;
}

// ----------------------------------------------------------------------------
// main: from the command line to a finished run

char *out_path(const Run *r, const char *name) {
    char *path = alloc_or_die(strlen(r->s.out) + strlen(name) + 2);
    sprintf(path, "%s/%s", r->s.out, name);
    return path;
}

// path with the ending `from` replaced by `to`, or NULL if it does not end so. In memory that lasts.
static const char *replace_ending(const char *path, const char *from, const char *to) {
    size_t n = strlen(path), cut = strlen(from);
    if (n < cut || strcmp(path + n - cut, from) != 0) return NULL;
    char *s = alloc_or_die(n - cut + strlen(to) + 1);
    sprintf(s, "%.*s%s", (int)(n - cut), path, to);
    return s;
}

// The floor of the validation set, a lower bound to what any model can reach, in nats a predicted token. It
// is known if the file beside the set (X.floor for X.bin) has a line for these settings: objective T
// mask_rate rows seed sum count se.
static double find_floor(const Run *r) {
    const char *path = replace_ending(r->s.val.path[0], ".bin", ".floor");
    char objective[8], line[256];
    FILE *f = path && r->s.val.n == 1 ? fopen(path, "r") : NULL;
    double rate, sum, n, found = NAN;
    size_t T, rows, seed;
    if (path && !f && r->s.val.n == 1 && errno != ENOENT) die("%s: cannot read: %s", path, strerror(errno));
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "%7s %zu %lf %zu %zu %lf %lf", objective, &T, &rate, &rows, &seed, &sum, &n) == 7 &&
            strcmp(objective, r->s.objective) == 0 && T == r->c.T && fabs(rate - r->val_mask_rate) < 1e-9 &&
            rows == r->s.val_rows && seed == VAL_SEED)
            found = sum / n;
    if (f) fclose(f);
    return found;
}

// Find the files of the run and open them.
void open_data(Run *r) {
    Settings *s = &r->s;
    const char *village = "data/village_train.bin";
    if (s->train.n == 0 && access(village, F_OK)) die("%s: not found; run make, which writes it", village);
    if (s->train.n == 0) add_file(&s->train, village);
    const char *train = s->train.path[0], *val = replace_ending(train, "_train.bin", "_val.bin");
    if (s->val.n == 0 && !val) die_usage("--val: is needed, since %s does not end in _train.bin", train);
    if (s->val.n == 0) add_file(&s->val, val);
    shards_open(&r->train, s->train.path, s->train.n);
    shards_open(&r->val, s->val.path, s->val.n);
    if (r->val.V != r->train.V || r->val.eot != r->train.eot)
        die("%s: its vocabulary (%zu) is not that of %s (%zu)", s->val.path[0], r->val.V, train, r->train.V);
    r->data = hash3(r->train.checksum, r->val.checksum, r->train.V);
    if (r->done.init) r->data = hash3(r->data, r->done.init, 0);
}

// The vocabulary of the data, unless the run that goes on brought one along.
static void open_vocab(Run *r) {
    const char *path = r->s.vocab;
    if (!path && !r->vocab.file) path = replace_ending(r->s.train.path[0], "_train.bin", ".vocab");
    if (!path || (!r->s.vocab && access(path, R_OK))) return;
    Vocab given;
    vocab_load(&given, path);
    if (given.V != r->train.V || (r->train.vocab && given.checksum != r->train.vocab))
        die("%s: not the vocabulary that %s was made with; give that one with --vocab", path,
            r->s.train.path[0]);
    if (r->vocab.file && (given.size != r->vocab.size || memcmp(given.file, r->vocab.file, given.size)))
        die("%s: not the vocabulary of %s; use the same one", path, r->s.init ? r->s.init : "this run");
    r->vocab = given;
}

// Fill in the settings that follow from others and from the data, and check what concerns several of them.
void settle(Run *r) {
    Settings *s = &r->s;
    int causal = strcmp(s->objective, "ntp") == 0;
    if (!causal && strcmp(s->objective, "mlm")) die_usage("--objective %s: must be mlm or ntp", s->objective);
    if (strcmp(s->mask_style, "all") && strcmp(s->mask_style, "bert"))
        die_usage("--mask-style %s: must be all or bert", s->mask_style);
    if (s->heads == 0) s->heads = default_heads(s->channels);
    if (s->hidden == 0) s->hidden = default_hidden(s->channels);
    r->c = (Config){s->layers, s->channels, s->heads, s->hidden, s->seq_len, r->train.V, causal};
    check_config(&r->c);
    if (s->micro_batch == 0 || s->micro_batch > s->batch) s->micro_batch = s->batch;
    if (s->lr == 0) s->lr = default_lr(s->channels);
    double tokens = s->flops > 0 ? s->flops / flops_per_token(&r->c) : s->tokens;
    if (s->steps == 0 && tokens > 0)
        s->steps = (size_t)fmax(1, rint(fmin(1e15, tokens / (double)(s->batch * s->seq_len))));
    if ((double)s->steps > 1e12) die_usage("--tokens, --flops: more than 1e12 steps; give less");
    if (s->steps == 0) s->steps = 2000;
    if (s->val_every == 0) s->val_every = MAX(1, s->steps / 20);
    if (s->save_every == 0) s->save_every = MAX(1, s->steps / 10);
    size_t rows = shards_rows(&r->val, r->c.T, (size_t)causal);
    if (rows == 0 || shards_rows(&r->train, r->c.T, (size_t)causal) == 0)
        die("%s: holds less than one row of --seq-len %zu; choose a smaller one, or more text",
            rows ? s->train.path[0] : s->val.path[0], r->c.T);
    if (s->val_rows > rows && is_given("val-rows"))
        die_usage("--val-rows %zu: %s holds only %zu rows of %zu tokens", s->val_rows, s->val.path[0], rows,
                  s->seq_len);
    s->val_rows = MIN(s->val_rows, rows);
    if (s->val_mask_rate == 0) s->val_mask_rate = s->mask_rate;
    r->mask_rate = causal ? 1 : s->mask_rate, r->val_mask_rate = causal ? 1 : s->val_mask_rate;
    r->val_floor = find_floor(r);
}

// Predicted positions of a micro-batch that there must be room for.
static size_t run_predicted(const Run *r) {
    return most_predicted(&r->c, r->s.micro_batch, fmax(r->mask_rate, r->val_mask_rate));
}

// Print sizes, memory and FLOPs before anything is allocated.
static void print_plan(const Run *r) {
    const Config *c = &r->c;
    const Settings *s = &r->s;
    size_t params = parameter_count(c);
    size_t bytes = model_bytes(c, s->micro_batch, run_predicted(r), omp_get_max_threads(), NEED_ALL);
    bytes += s->batch * s->seq_len * LOADER_BYTES;
    bytes += (size_t)omp_get_max_threads() * THREAD_SCRATCH * sizeof(float) + KC * NC * sizeof(float);
    bytes += s->val_rows * 2 * sizeof(double) + r->vocab.size + r->vocab.V * (sizeof(char *) + 1);
    bytes += 1 << 20; // the program itself
    double F = flops_per_token(c), head = flops_per_token_head(c, r->mask_rate), D = run_tokens(r);
#ifdef _OPENMP
    printf("threads     %d (OpenMP), ", omp_get_max_threads());
#else
    printf("threads     1 (built without OpenMP: all but one core stay idle), ");
#endif
    printf("vectors of %d floats", VW);
#ifdef __x86_64__
    int widest = __builtin_cpu_supports("avx512f") ? 16 : __builtin_cpu_supports("avx") ? 8 : 4;
    if (widest > VW) printf(" (this CPU has %d: the program was built for another)", widest);
#endif
    printf("\nmodel       %zu layers, %zu channels, %zu heads, %zu hidden, ", c->L, c->C, c->NH, c->H);
    printf("%zu parameters (%zu without the embedding)\n", params, params - (c->V + 1) * c->C);
    printf("data        %s: %zu tokens, vocabulary %zu; this run reads %.3g epochs\n", s->train.path[0],
           r->train.total, c->V, run_epochs(r));
    printf("objective   %s, %zu tokens a row", s->objective, c->T);
    if (!c->causal) printf(", %g of them masked", s->mask_rate);
    if (!c->causal && strcmp(s->mask_style, "all")) printf(" as %s does", s->mask_style);
    printf("; validation on %zu rows", s->val_rows);
    if (r->val_mask_rate != r->mask_rate) printf(", %g masked", r->val_mask_rate);
    if (isfinite(r->val_floor)) printf(", whose floor is %.4f", r->val_floor);
    printf("\nrun         %zu steps of %zu rows = %.4g tokens, peak learning rate %.3g, seed %zu\n", s->steps,
           s->batch, D, s->lr, s->seed);
    if (s->init) printf("weights     from %s\n", s->init);
    printf("FLOPs       F_N %.4g a token (head: %.4g more), C = F_N D = %.4g\n", F, head, F * D);
    printf("memory      %.1f MiB\n", (double)bytes / 1048576.0);
    close_stdout(0);
    double granted = fmin((double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE),
                          group_limit("/sys/fs/cgroup", "/proc/self/cgroup", "memory.max"));
    if (granted > 0 && (double)bytes > granted && !s->dry_run)
        die("out of memory: this run takes %.1f MiB and there are %.1f; try a smaller model or --micro-batch",
            (double)bytes / 1048576.0, granted / 1048576.0);
}

// Make a folder and those above it.
void make_folders(const char *dir) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s", dir) >= PATH_MAX)
        die("%.40s…: this path is too long; choose another", dir);
    for (char *p = path + 1; *p; p++)
        if (*p == '/') *p = 0, mkdir(path, 0777), *p = '/';
    if (mkdir(path, 0777) && errno != EEXIST) die("%s: cannot make this folder: %s", dir, strerror(errno));
}

// Make DIR and lock it for as long as this process lives.
static void lock_directory(const char *dir) {
    make_folders(dir);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) die("%s: cannot use this folder: %s", dir, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return;
    if (errno == EWOULDBLOCK) die("%s: another run is using this folder; choose another --out", dir);
    fprintf(stderr, "%s: %s: cannot be locked here (%s); make sure that no other run uses it\n", program, dir,
            strerror(errno));
}

// Open the model of --init: the run takes over its shape and its vocabulary.
static void open_init(Run *r, Reader *reader) {
    Settings *s = &r->s;
    Config c;
    r->done.init = open_verified(reader, s->init, MODEL_MAGIC, "model");
    get_shape(reader, &c, &r->vocab);
    const struct { const char *name; size_t *value, its; } shape[] = {
        {"layers", &s->layers, c.L}, {"channels", &s->channels, c.C}, {"heads", &s->heads, c.NH},
        {"hidden", &s->hidden, c.H}, {"seq-len", &s->seq_len, c.T}};
    for (int i = 0; i < 5; i++) {
        if (i < 4 && is_given(shape[i].name) && *shape[i].value != shape[i].its)
            die_usage("--%s %zu: the model of --init has %zu; leave it out", shape[i].name, *shape[i].value,
                      shape[i].its);
        if (!is_given(shape[i].name)) *shape[i].value = shape[i].its; // only --seq-len may differ
    }
}

// --flops without --layers and --channels: take the shape that makes the best of this budget, and say why.
static void choose_shape(Run *r) {
    Settings *s = &r->s;
    int causal = strcmp(s->objective, "ntp") == 0;
    const Optimum *o = &optimum[causal];
    double F = o->G * pow(s->flops, o->a);
    Config c = ladder_shape(F, s->seq_len, r->train.V, causal, 0);
    s->layers = c.L, s->channels = c.C;
    printf("shape       %zu layers of %zu: the best F_N for C = %.3g is about %.2g C^%.2g = %.2g\n"
           "            (measured on English text from C = %.2g to %.2g%s; --layers and --channels "
           "overrule it)\n", c.L, c.C, s->flops, o->G, o->a, F, o->least, o->most,
           s->flops < o->least || s->flops > o->most ? ", beyond which this is a guess" : "");
}

// Set up DIR for a run that begins (unless it is a dry one), or take up the one that it holds. Returns 0 if
// that one is finished already.
static int open_run(Run *r) {
    Settings *s = &r->s;
    Reader reader;
    Config shape;
    char *kept = NULL;
    const char *checkpoint = out_path(r, "checkpoint.bin");
    int exists = !s->dry_run && access(checkpoint, F_OK) == 0;
    if (s->resume && s->overwrite) die_usage("--resume, --overwrite: choose one");
    if (is_given("steps") + is_given("tokens") + is_given("flops") > 1)
        die_usage("--steps, --tokens, --flops: give one of them");
    if (exists) lock_directory(s->out);
    if (exists && !s->overwrite) {
        Progress done;
        kept = open_checkpoint(&reader, checkpoint, &done, &shape, &r->vocab);
        int unfinished = strtoull(kept_line(kept, "steps") + strlen("steps "), NULL, 10) != done.step;
        if (!s->resume && unfinished)
            die("%s: holds an unfinished run; --resume it, choose another --out, or --overwrite it", s->out);
        if (s->resume) r->done = done, restore_settings(s, kept), s->init = NULL;
        else fclose(reader.file), free(kept), kept = NULL, r->vocab = (Vocab){0};
    }
    if (s->init) open_init(r, &reader);
    open_data(r);
    open_vocab(r);
    if (s->flops > 0 && !kept && !s->init && !is_given("layers") && !is_given("channels")) choose_shape(r);
    if (kept && (is_given("tokens") || is_given("flops"))) s->steps = 0; // compare what they come to
    settle(r);
    if (kept) {
        compare_settings(s, kept);
        if (r->done.data != r->data)
            die("--train, --val: these files are not those that %s was trained on", checkpoint);
        if (r->done.step == s->steps) return 0;
    }
    if (!exists && !s->dry_run) lock_directory(s->out);
    print_plan(r);
    if (s->dry_run) return 1;
    model_alloc(&r->m, &r->c, s->micro_batch, run_predicted(r), omp_get_max_threads(), NEED_ALL);
    loader_alloc(&r->loader, s->batch, s->micro_batch, r->c.T);
    if (kept) {
        load_checkpoint(&reader, &r->m);
        cut_log(out_path(r, "main.log"), r->done.step);
        printf("resumed     after step %llu\n", (unsigned long long)r->done.step);
    } else {
        r->done = (Progress){.data = r->data, .init = r->done.init};
        if (s->init) get_weights(&reader, &r->m), fclose(reader.file);
        else model_init(&r->m, s->seed);
    }
    free(kept);
    return 1;
}

// --dry-run: how long the run will take, judged by passes of two of its layers over a few rows.
static void print_expected_time(const Run *r) {
    Config c = r->c;
    Model m;
    Loader l;
    char text[32];
    c.L = MIN(c.L, 2), c.T = MIN(c.T, 4096);
    size_t rows = MAX(1, MIN(r->s.micro_batch, 4096 / c.T));
    model_alloc(&m, &c, rows, most_predicted(&c, rows, r->mask_rate), omp_get_max_threads(), NEED_ALL);
    model_init(&m, r->s.seed);
    loader_alloc(&l, rows, rows, c.T);
    load_training(&l, &r->train, &c, rows, rows, r->s.seed, 0, r->s.mask_rate);
    double best = INFINITY, end = now_seconds() + 1, N = (double)(rows * c.T), D = run_tokens(r);
    for (int pass = 0; pass < 3 || (pass < 20 && now_seconds() < end); pass++) {
        double start = now_seconds();
        model_pass(&m, &l.micro[0], 1);
        best = fmin(best, now_seconds() - start);
    }
    double speed = executed_flops(&c, N, N * r->mask_rate) / best;
    format_seconds(text, executed_flops(&r->c, D, D * r->mask_rate) / speed);
    printf("time        about %s at %.1f GFLOP/s\n", text, speed * 1e-9);
}

int train_main(int argc, char **argv) {
    static Run r;
    char spent[32];
    r.s = default_settings;
    parse_options(trainer_options, &r.s, argc, argv);
    if (r.s.help) {
        printf("usage: train_optibert [--option value …]\n\nTrain a BERT-style encoder on a CPU.\n\n");
        print_options(trainer_options);
        printf("\nNumbers may be written 1e12. "
               "Ctrl-C and SIGTERM finish the step, save a checkpoint and exit.\n");
        return 0;
    }
    set_threads(r.s.threads);
    if (!open_run(&r)) {
        printf("%s: this run is finished\n", r.s.out);
        return 0;
    }
    if (r.s.dry_run) return print_expected_time(&r), 0;
    int stopped = run_training(&r);
    if (stopped) {
        printf("stopped by signal %d after step %llu; --resume goes on\n", stopped,
               (unsigned long long)r.done.step);
        return 128 + stopped; // as shells have it
    }
    format_seconds(spent, r.done.seconds);
    printf("\nvalidation loss %.4f", r.done.val_loss);
    if (isfinite(r.done.val_se)) printf(" ± %.4f", r.done.val_se);
    if (isfinite(r.val_floor)) printf(", floor %.4f", r.val_floor);
    printf(" (ln V = %.4f), %s\n", log((double)r.c.V), spent);
    if (r.done.best_step < r.done.step)
        printf("the best validation loss was %.4f, after step %llu: that model is %s\n", r.done.best_loss,
               (unsigned long long)r.done.best_step, out_path(&r, "best.bin"));
    if (r.vocab.file && !r.c.causal) show_guesses(&r);
    return 0;
}

#ifndef OPTIBERT_NO_MAIN
int main(int argc, char **argv) {
    open_streams();
    return close_stdout(train_main(argc, argv));
}
#endif
#endif
