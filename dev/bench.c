/*
How fast is the trainer on this machine, and how fast could it be?

    dev/bench                                     everything, in some minutes
    dev/bench --step 4,128,4,4096,32,128          training steps of one shape: layers, channels, heads,
                                                  vocabulary, rows, tokens a row
    dev/bench --threads N                         with N threads instead of all cores
    dev/bench --csv                               a header and rows, for a program to read
    dev/bench --matmul                            the matmul, from three loops to the trainer's, step by step

Every figure is the median of several runs, with the least and the greatest behind it. Compare figures of one
run only: the clock of a machine changes with its temperature and with what else it does. "Of peak" is the
share of the multiply-add peak as it was in between these same runs.
*/
#define OPTIBERT_NO_MAIN
#include "../train_optibert.c"
#include <sys/resource.h>

enum { RUNS = 7 };

typedef struct {
    double v[RUNS];
} Sample;

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const Sample *s) {
    Sample sorted = *s;
    qsort(sorted.v, RUNS, sizeof *sorted.v, by_value);
    return sorted.v[RUNS / 2];
}

static double least(const Sample *s) {
    double x = s->v[0];
    for (int i = 1; i < RUNS; i++) x = fmin(x, s->v[i]);
    return x;
}

static double greatest(const Sample *s) {
    double x = s->v[0];
    for (int i = 1; i < RUNS; i++) x = fmax(x, s->v[i]);
    return x;
}

// ----------------------------------------------------------------------------
// what the machine can do

// fp32 GFLOP/s of multiply-adds that touch no memory: as many accumulators as a tile has, in registers, none
// of which waits for another.
static double fma_peak(void) {
    const size_t iterations = 8000000;
    volatile float factor = 0.999f, sink = 0;
    double start = 0, seconds = 0;
    int threads = 1;
    #pragma omp parallel
    {
        vec acc[MR][NV], a = (vec){0} + factor;
        for (int i = 0; i < MR; i++)
            for (int j = 0; j < NV; j++) acc[i][j] = a + (float)(i + j);
        #pragma omp barrier
        #pragma omp master
        start = now_seconds(), threads = omp_get_num_threads();
        for (size_t n = 0; n < iterations; n++)
            for (int i = 0; i < MR; i++)
                for (int j = 0; j < NV; j++) acc[i][j] = acc[i][j] * a + a;
        #pragma omp barrier
        #pragma omp master
        seconds = now_seconds() - start;
        for (int i = 0; i < MR; i++)
            for (int j = 0; j < NV; j++) sink += acc[i][j][0];
    }
    return 2.0 * MR * NR * (double)iterations * threads / seconds * 1e-9;
}

// GB/s of a = b + 3c over three arrays of 64 MiB: 12 bytes an element.
static double bandwidth(void) {
    static float *a, *b, *c;
    const size_t n = 16 << 20;
    if (!a) a = alloc_or_die(n * 4), b = alloc_or_die(n * 4), c = alloc_or_die(n * 4);
    double start = now_seconds();
    #pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < n; i++) a[i] = b[i] + 3 * c[i];
    return 12.0 * (double)n / (now_seconds() - start) * 1e-9;
}

// ----------------------------------------------------------------------------
// matmul

// The three products of a linear layer of N rows, C to OC channels: seconds of each, and GFLOP/s of all
// together.
typedef struct {
    Sample forward, inp, weight, all, peak;
} MatmulTimes;

static MatmulTimes time_matmul(size_t N, size_t C, size_t OC) {
    MatmulTimes t;
    float *inp = alloc_or_die(N * C * 4), *out = alloc_or_die(N * OC * 4), *weight = alloc_or_die(OC * C * 4);
    for (size_t i = 0; i < N * C; i++) inp[i] = (float)(i % 7) - 3;
    for (size_t i = 0; i < OC * C; i++) weight[i] = (float)(i % 5) - 2;
    size_t inner = 1 + (size_t)(2e9 / (double)(N * C * OC)); // so many of each in one timing
    for (int run = -1; run < RUNS; run++) { // the first to warm up
        double at[4] = {0};
        #pragma omp parallel
        for (int product = 0; product < 3; product++) {
            #pragma omp master
            at[product] = now_seconds();
            #pragma omp barrier
            for (size_t i = 0; i < inner; i++) {
                if (product == 0) matmul_forward(out, NULL, inp, weight, N, C, OC);
                if (product == 1) matmul_backward_inp(inp, out, weight, N, C, OC);
                if (product == 2) matmul_backward_weight(weight, out, inp, N, C, OC);
            }
            #pragma omp barrier
        }
        at[3] = now_seconds();
        double flops = 2.0 * (double)(N * C * OC * inner) * 1e-9;
        if (run < 0) continue;
        t.forward.v[run] = flops / (at[1] - at[0]), t.inp.v[run] = flops / (at[2] - at[1]);
        t.weight.v[run] = flops / (at[3] - at[2]), t.all.v[run] = 3 * flops / (at[3] - at[0]);
        t.peak.v[run] = fma_peak();
    }
    free(inp), free(out), free(weight);
    return t;
}

static void print_matmuls(void) {
    const size_t widths[] = {128, 256, 512, 768};
    printf("\nmatmul, 4096 rows: GFLOP/s of the three products of a linear layer, and all together\n"
           "%-9s %5s %6s  %7s %7s %7s  %7s [%s]  %s\n", "layer", "from", "to", "forward", "d inp", "d weight",
           "all", "least … greatest", "of peak");
    for (int i = 0; i < 4; i++) {
        size_t C = widths[i], H = default_hidden(C);
        struct { const char *name; size_t from, to; } layers[] = {
            {"qkv", C, 3 * C}, {"output", C, C}, {"gate, up", C, 2 * H}, {"down", H, C}, {"head", C, 8193}};
        for (int j = 0; j < 5; j++) {
            MatmulTimes t = time_matmul(4096, layers[j].from, layers[j].to);
            double all = median(&t.all);
            printf("%-9s %5zu %6zu  %7.1f %7.1f %7.1f  %7.1f [%.1f … %.1f]  %.0f%%\n", layers[j].name,
                   layers[j].from, layers[j].to, median(&t.forward), median(&t.inp), median(&t.weight), all,
                   least(&t.all), greatest(&t.all), 100 * all / median(&t.peak));
            fflush(stdout);
        }
    }
}

// ----------------------------------------------------------------------------
// the way to a fast matmul, step by step: out (m,n) = a (m,k) · b (k,n). dev/README.md tells the story.

static void naive(float *out, const float *a, const float *b, size_t m, size_t n, size_t k) {
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            float sum = 0;
            for (size_t p = 0; p < k; p++) sum += a[i * k + p] * b[p * n + j];
            out[i * n + j] = sum;
        }
}

// The inner loop runs along rows: its steps are independent and side by side in memory, so the compiler makes
// vectors of them.
static void reordered(float *out, const float *a, const float *b, size_t m, size_t n, size_t k) {
    memset(out, 0, m * n * sizeof *out);
    for (size_t i = 0; i < m; i++)
        for (size_t p = 0; p < k; p++)
            for (size_t j = 0; j < n; j++) out[i * n + j] += a[i * k + p] * b[p * n + j];
}

// A tile of the output stays in registers for the whole sum: MR * NR multiply-adds for MR + NR numbers read.
static void tiled(float *out, const float *a, const float *b, size_t m, size_t n, size_t k) {
    for (size_t i = 0; i < m; i += MR)
        for (size_t j = 0; j < n; j += NR) {
            vec acc[MR][NV] = {{{0}}};
            for (size_t p = 0; p < k; p++)
                for (int r = 0; r < MR; r++)
                    for (int c = 0; c < NV; c++)
                        acc[r][c] += a[(i + r) * k + p] * *(const vec_u *)(b + p * n + j + c * VW);
            for (int r = 0; r < MR; r++)
                for (int c = 0; c < NV; c++) *(vec_u *)(out + (i + r) * n + j + c * VW) = acc[r][c];
        }
}

// Panels of b are copied to where they are read in order, and the sum is cut so that a panel stays in L1.
static void packed(float *out, const float *a, const float *b, size_t m, size_t n, size_t k) {
    static float panels[KC * NC] __attribute__((aligned(64)));
    matmul_alone(out, NULL, n, a, k, 1, b, n, 1, m, n, k, panels);
}

// Row blocks go to threads that are free; they share the panels.
static void parallel(float *out, const float *a, const float *b, size_t m, size_t n, size_t k) {
    #pragma omp parallel
    matmul(out, NULL, a, k, 1, b, n, 1, m, n, k);
}

static void print_matmul_steps(double one, double all) {
    enum { M = 480, N = 1024, K = 1024 };
    _Static_assert(M % MR == 0 && N % NR == 0 && N <= NC, "tiled and packed rely on whole tiles");
    struct {
        const char *name;
        void (*run)(float *out, const float *a, const float *b, size_t m, size_t n, size_t k);
    } step[] = {{"naive", naive}, {"reordered", reordered}, {"tiled", tiled}, {"packed", packed},
                {"parallel", parallel}};
    float *a = alloc_or_die(M * K * 4), *b = alloc_or_die(K * N * 4), *out = alloc_or_die(M * N * 4);
    float *first = alloc_or_die(M * N * 4);
    for (size_t i = 0; i < M * K; i++) a[i] = (float)(i % 7) - 3; // small integers: sums are exact
    for (size_t i = 0; i < K * N; i++) b[i] = (float)(i % 5) - 2;
    naive(first, a, b, M, N, K);
    printf("\nmatmul, (%d,%d) · (%d,%d)\n", M, K, K, N);
    for (size_t s = 0; s < sizeof step / sizeof *step; s++) {
        Sample t;
        size_t inner = s < 2 ? 1 : 10; // so many in one timing
        for (int run = -1; run < RUNS; run++) {
            double start = now_seconds();
            for (size_t i = 0; i < inner; i++) step[s].run(out, a, b, M, N, K);
            if (run >= 0) t.v[run] = 2e-9 * M * N * K * (double)inner / (now_seconds() - start);
        }
        if (memcmp(out, first, M * N * 4) != 0) die("--matmul: %s computes something else", step[s].name);
        printf("%-10s %7.2f GFLOP/s [%.2f … %.2f] %4.0f%% of the peak of %s\n", step[s].name, median(&t),
               least(&t), greatest(&t), 100 * median(&t) / (s == 4 ? all : one),
               s == 4 ? "all threads" : "one thread");
        fflush(stdout);
    }
    free(a), free(b), free(out), free(first);
}

// ----------------------------------------------------------------------------
// whole training steps

typedef struct {
    size_t L, C, NH, V, B, T, H; // H 0: the default
} Shape;

// What a step is made of. Each kind is also timed alone, over all layers, to tell its share.
enum { LINEAR, ATTENTION, NORMS, SWIGLU, HEAD, EMBEDDING, OPTIMISER, N_KINDS };
static const char *kind_names[] = {"linear layers", "attention, rope", "norms", "swiglu", "head and loss",
                                   "embedding", "optimiser"};

// All the work of one kind in a step, on the buffers as the last step left them. Called by all threads.
static void run_kind(Model *m, const Batch *in, int kind) {
    const Config *c = &m->c;
    size_t C = c->C, H = c->H, T = c->T, NH = c->NH, B = in->B, N = B * T, M = in->M, V1 = c->V + 1;
    float *w = m->params, *g = m->grads;
    double partial[PARTS];
    for (size_t l = 0; l < c->L && kind <= SWIGLU; l++) {
        int last = l + 1 == c->L; // where only M rows go on
        size_t n = last ? M : N, ldq = last ? C : 3 * C, ldk = last ? 2 * C : 3 * C;
        float *x = m->x + l * N * C, *att = m->att + l * N * C, *rstd = m->rstd1 + l * N;
        float *qkv = m->qkv + l * N * 3 * C, *gu = m->gu + l * N * 2 * H, *lse = m->lse + l * N * NH;
        struct { int tensor; float *inp, *out; size_t rows, from, to; } linear[] = {
            {WQKV, m->norm, m->dqkv, N, C, last ? 2 * C : 3 * C}, {WQKV, m->ng, m->dqkv, last ? M : 0, C, C},
            {WO, att, m->dc, n, C, C}, {WGU, m->norm, m->dgu, n, C, 2 * H}, {WDOWN, m->dh, m->dc, n, H, C}};
        for (int i = 0; i < 5 && kind == LINEAR; i++) {
            const float *weight = at(m, w, linear[i].tensor, l);
            size_t rows = linear[i].rows, from = linear[i].from, to = linear[i].to;
            if (rows == 0) continue;
            matmul_forward(linear[i].out, NULL, linear[i].inp, weight, rows, from, to);
            matmul_backward_weight(at(m, g, linear[i].tensor, l), linear[i].out, linear[i].inp, rows, from,
                                   to);
            matmul_backward_inp(i == 4 ? m->h : m->dx, linear[i].out, weight, rows, from, to);
        }
        if (kind == ATTENTION) {
            float *q = last ? qkv + N * 2 * C : qkv, *k = last ? qkv : qkv + C;
            float *dq = last ? m->dqkv + N * 2 * C : m->dqkv, *dk = last ? m->dqkv : m->dqkv + C;
            Attention a = {B, T, C, NH, c->causal, in->doc_end, last ? in->rows : NULL, n, m->attention};
            attention_forward(m->dc, lse, q, ldq, k, k + C, ldk, &a);
            attention_backward(dq, dk, dk + C, m->dc, lse, q, ldq, k, k + C, ldk, &a);
            for (int pass = 0; pass < 2; pass++) {
                rope(dq, ldq, last ? in->rows : NULL, n, NH, m->turn, 1, T, C / NH);
                rope(dk, ldk, NULL, N, NH, m->turn, 1, T, C / NH);
            }
        }
        for (int i = 0; i < 2 && kind == NORMS; i++) {
            size_t rows = i == 0 ? N : n;
            for (int again = 0; again < 2; again++) // forward, and once more for the backward pass
                rmsnorm_forward(m->norm, rstd, x, at(m, w, NORM1, l), rows, C);
            rmsnorm_backward(m->dx, m->dx, at(m, g, NORM1, l), m->partial, m->dc, x, at(m, w, NORM1, l), rstd,
                             rows, C);
        }
        if (kind == SWIGLU) swiglu_forward(m->h, gu, n, H), swiglu_backward(m->dgu, m->h, m->dh, gu, n, H);
    }
    if (kind == HEAD) {
        matmul_forward(m->logits, NULL, m->nf, at(m, w, WTE, 0), M, C, V1);
        crossentropy_forward(m->losses, m->loss_lse, m->logits, in->targets, M, V1);
        crossentropy_backward(m->logits, m->loss_lse, in->targets, 1e-6f, M, V1);
        matmul_backward_weight(at(m, g, WTE, 0), m->logits, m->nf, M, C, V1);
        matmul_backward_inp(m->dxg, m->logits, at(m, w, WTE, 0), M, C, V1);
    }
    if (kind == EMBEDDING) {
        embedding_forward(m->x, in->inputs, at(m, w, WTE, 0), N, C);
        embedding_backward(at(m, g, WTE, 0), m->dx, in->inputs, N, C);
    }
    if (kind == OPTIMISER) gradient_norm(g, m->block, partial), adamw(m, 0, 0, 1, 1);
}

static void bench_step(const Shape *s, int csv) {
    Config c = {s->L, s->C, s->NH, s->H ? s->H : default_hidden(s->C), s->T, s->V, 0};
    Model m;
    Loader l;
    Sample step = {0}, peak = {0}, kinds[N_KINDS];
    model_alloc(&m, &c, s->B, most_predicted(&c, s->B, 0.2), omp_get_max_threads(), 1);
    loader_alloc(&l, s->B, s->B, s->T);
    model_init(&m, 1);
    for (size_t i = 0; i < s->B * s->T; i++) l.tokens[i] = (uint16_t)(uniform(1, 1, i) * (double)s->V);
    loader_mask(&l, &c, -1, s->B, 1, STREAM_MASK, 0, s->B, 0.2);
    const Batch *in = &l.micro[0];
    for (int run = -2; run < RUNS; run++) { // the first two to warm up
        double start = now_seconds(), partial[PARTS];
        #pragma omp parallel
        {
            model_forward(&m, in);
            model_backward(&m, in, 1 / (float)in->M);
            double norm = gradient_norm(m.grads, m.block, partial);
            adamw(&m, 1e-4f, 0.1f, (float)fmin(1, 1 / norm), (size_t)(run + 3));
        }
        if (run >= 0) step.v[run] = now_seconds() - start, peak.v[run] = fma_peak();
    }
    double seconds = median(&step), flops = executed_flops(&c, (double)(s->B * s->T), (double)in->M), sum = 0;
    double tokens = (double)(s->B * s->T) / seconds, gflops = flops / seconds * 1e-9;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double mib = (double)usage.ru_maxrss / 1024, percent = 100 * gflops / median(&peak);
#ifdef __APPLE__
    mib /= 1024; // there it is counted in bytes
#endif
    char config[96];
    snprintf(config, sizeof config, csv ? "%zux%zux%zux%zux%zux%zu" : "(%zu,%zu,%zu,%zu,%zu,%zu)", s->L, s->C,
             s->NH, s->V, s->B, s->T);
    if (csv) {
        printf("%s,%d,%.0f,%.3f,%.1f,%.1f,%.1f\n", config, omp_get_max_threads(), tokens, 1e3 * seconds,
               gflops, percent, mib);
    } else {
        printf("%-26s %8.1f ms [%.1f … %.1f] %8.0f tok/s %7.1f GFLOP/s %4.0f%% of peak %7.0f MiB\n", config,
               1e3 * seconds, 1e3 * least(&step), 1e3 * greatest(&step), tokens, gflops, percent, mib);
        for (int kind = 0; kind < N_KINDS; kind++) {
            for (int run = -1; run < RUNS; run++) {
                double start = now_seconds();
                #pragma omp parallel
                run_kind(&m, in, kind);
                if (run >= 0) kinds[kind].v[run] = now_seconds() - start;
            }
            sum += median(&kinds[kind]);
        }
        printf("    alone:");
        for (int kind = 0; kind < N_KINDS; kind++)
            printf(" %s %.0f%%%s", kind_names[kind], 100 * median(&kinds[kind]) / seconds,
                   kind + 1 < N_KINDS ? "," : "");
        printf("; together %.0f%% of the step\n", 100 * sum / seconds);
    }
    fflush(stdout);
    model_free(&m), loader_free(&l);
}

// ----------------------------------------------------------------------------

static const char help[] = "usage: bench [--threads N] [--step L,C,NH,V,B,T[,H]] [--csv] [--matmul]\n\n"
                           "Measure this machine, the matmuls, and training steps; or one training step;\n"
                           "or the matmul from naive to parallel.\n";

int main(int argc, char **argv) {
    // in order of memory, so that the peak so far is each one's own
    Shape shapes[] = {{2, 64, 2, 1024, 32, 128, 0},  {4, 128, 4, 4096, 32, 128, 0},
                      {4, 256, 4, 4096, 4, 1024, 0}, {6, 256, 4, 4096, 32, 128, 0},
                      {6, 512, 8, 8192, 16, 128, 0}, {12, 768, 12, 50257, 4, 128, 0}};
    Shape one = {0};
    int csv = 0, steps_of_matmul = 0;
    size_t threads = 0;
    program = "bench";
    wait_passively(argv);
    for (int i = 1; i < argc; i++) {
        char extra;
        if (strcmp(argv[i], "--help") == 0) return fputs(help, stdout) < 0;
        if (strcmp(argv[i], "--csv") == 0) csv = 1;
        else if (strcmp(argv[i], "--matmul") == 0) steps_of_matmul = 1;
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc) {
            if (sscanf(argv[++i], "%zu%c", &threads, &extra) != 1 || threads < 1 || threads > 4096)
                die_usage("--threads %s: give a number of threads", argv[i]);
        } else if (strcmp(argv[i], "--step") == 0 && i + 1 < argc) {
            int n = sscanf(argv[++i], "%zu,%zu,%zu,%zu,%zu,%zu,%zu%c", &one.L, &one.C, &one.NH, &one.V,
                           &one.B, &one.T, &one.H, &extra);
            if (n < 6 || n > 7 || !one.L || !one.B || !one.T || one.V < 2 || one.V > 65535)
                die_usage("--step %s: give layers,channels,heads,vocabulary,rows,tokens a row", argv[i]);
            check_config(
                &(Config){one.L, one.C, one.NH, one.H ? one.H : default_hidden(one.C), one.T, one.V, 0});
        } else die_usage("%s: unknown option, or its value is missing; --help lists them", argv[i]);
    }
    if (csv && steps_of_matmul) die_usage("--matmul: has no --csv form");
    set_threads(threads);
    int all = omp_get_max_threads(), whole = !one.L && !steps_of_matmul;
    Sample peak[2], memory[2];
    for (int k = 0; k < 2; k++) {
        omp_set_num_threads(k ? all : 1);
        for (int run = 0; run < RUNS && !csv; run++) peak[k].v[run] = fma_peak();
        for (int run = 0; run < RUNS && !csv && whole; run++) memory[k].v[run] = bandwidth();
    }
    if (csv) printf("config,threads,tokens_per_s,ms,gflops,percent_of_peak,peak_mib\n");
    else
        for (int k = 0; k < 2; k++) {
            printf("%d thread%s: fp32 multiply-add peak %.1f GFLOP/s [%.1f … %.1f]", k ? all : 1,
                   k && all > 1 ? "s" : "", median(&peak[k]), least(&peak[k]), greatest(&peak[k]));
            if (whole) printf(", memory %.1f GB/s [%.1f … %.1f]", median(&memory[k]), least(&memory[k]),
                                greatest(&memory[k]));
            printf("\n");
        }
    if (steps_of_matmul) return print_matmul_steps(median(&peak[0]), median(&peak[1])), 0;
    if (one.L) return bench_step(&one, csv), 0;
    if (!csv)
        print_matmuls(),
            printf("\ntraining steps (layers, channels, heads, vocabulary, rows, tokens a row)\n");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) bench_step(&shapes[i], csv);
    return 0;
}
