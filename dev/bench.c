/*
How fast is the trainer on this machine, and how fast could it be?

    dev/bench                                everything; takes some minutes
    dev/bench --step 4,128,4,4096,32,128     training steps of one shape: layers, channels, heads, vocabulary,
                                             rows, tokens in a row
    dev/bench --threads N                    with N threads
    dev/bench --csv                          training steps as CSV
    dev/bench --matmul                       the way from three loops to the trainer's matmul, step by step

Every number is the median of several runs, with the smallest and the largest in brackets. Compare only
numbers from one run of this program: the clock of a machine changes with its temperature and its other work.
"Of peak" is the share of the machine's multiply-add peak, measured in between those very runs.
*/
#define OPTIBERT_NO_MAIN
#include "../train_optibert.c"
#include <sys/resource.h>

enum { RUNS = 7 };

typedef struct {
    double v[RUNS];
} Sample;

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// The k-th smallest of the runs.
static double ranked(const Sample *s, int k) {
    Sample sorted = *s;
    qsort(sorted.v, RUNS, sizeof *sorted.v, compare_doubles);
    return sorted.v[k];
}

static double median(const Sample *s) { return ranked(s, RUNS / 2); }
static double smallest(const Sample *s) { return ranked(s, 0); }
static double largest(const Sample *s) { return ranked(s, RUNS - 1); }

// ----------------------------------------------------------------------------
// what the machine can do

// GFLOP/s of fp32 multiply-adds on registers alone. There are as many accumulators as a tile of the matmul
// has, and none waits for another.
static double fma_peak(void) {
    const size_t iterations = 8000000;
    volatile float factor = 0.999f, sink;
    double start = 0, seconds = 0;
    float sum = 0;
    int threads = 1;
    #pragma omp parallel reduction(+ : sum)
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
            for (int j = 0; j < NV; j++) sum += acc[i][j][0];
    }
    sink = sum, (void)sink; // so that the compiler cannot leave out the work
    return 2.0 * MR * NR * (double)iterations * threads / seconds * 1e-9;
}

// GB/s of a = b + 3c over three arrays of 64 MiB: 12 bytes per element.
static double bandwidth(void) {
    static float *a, *b, *c;
    const size_t n = 16 << 20;
    if (!a) a = alloc_or_die(n * 4), b = alloc_or_die(n * 4), c = alloc_or_die(n * 4);
    double start = now_seconds();
    #pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < n; i++) a[i] = b[i] + 3 * c[i];
    return 12.0 * (double)n / (now_seconds() - start) * 1e-9;
}

static void print_machine(int all, int with_memory, Sample peak[2]) {
    for (int k = 0; k < 2; k++) {
        Sample memory;
        omp_set_num_threads(k ? all : 1);
        for (int run = 0; run < RUNS; run++) peak[k].v[run] = fma_peak();
        for (int run = 0; run < RUNS && with_memory; run++) memory.v[run] = bandwidth();
        printf("%d thread%s: fp32 multiply-add peak %.1f GFLOP/s [%.1f … %.1f]", k ? all : 1,
               k && all > 1 ? "s" : "", median(&peak[k]), smallest(&peak[k]), largest(&peak[k]));
        if (with_memory)
            printf(", memory %.1f GB/s [%.1f … %.1f]", median(&memory), smallest(&memory), largest(&memory));
        printf("\n");
        fflush(stdout);
    }
}

// ----------------------------------------------------------------------------
// matmul

// The three products of a linear layer: GFLOP/s of each and of all together, and the peak.
typedef struct {
    Sample forward, inp, weight, all, peak;
} MatmulSpeed;

static MatmulSpeed time_matmul(size_t N, size_t C, size_t OC) {
    MatmulSpeed s;
    float *inp = alloc_or_die(N * C * 4), *out = alloc_or_die(N * OC * 4), *weight = alloc_or_die(OC * C * 4);
    float *dinp = alloc_or_die(N * C * 4), *dweight = alloc_or_die(OC * C * 4);
    for (size_t i = 0; i < N * C; i++) inp[i] = (float)(i % 7) - 3;
    for (size_t i = 0; i < OC * C; i++) weight[i] = (float)(i % 5) - 2;
    size_t repeats = 1 + (size_t)(2e9 / (double)(N * C * OC));
    for (int run = -1; run < RUNS; run++) { // the first is a warm-up
        double time[4] = {0};
        #pragma omp parallel
        for (int product = 0; product < 3; product++) {
            #pragma omp master
            time[product] = now_seconds();
            #pragma omp barrier
            for (size_t i = 0; i < repeats; i++) {
                if (product == 0) matmul_forward(out, NULL, inp, weight, N, C, OC);
                if (product == 1) matmul_backward_inp(dinp, NULL, out, weight, N, C, OC);
                if (product == 2) matmul_backward_weight(dweight, out, inp, N, C, OC);
            }
            #pragma omp barrier
        }
        time[3] = now_seconds();
        double flops = 2.0 * (double)(N * C * OC * repeats) * 1e-9;
        if (run < 0) continue;
        s.forward.v[run] = flops / (time[1] - time[0]), s.inp.v[run] = flops / (time[2] - time[1]);
        s.weight.v[run] = flops / (time[3] - time[2]), s.all.v[run] = 3 * flops / (time[3] - time[0]);
        s.peak.v[run] = fma_peak();
    }
    free(inp), free(out), free(weight), free(dinp), free(dweight);
    return s;
}

static void print_matmuls(void) {
    const size_t widths[] = {128, 256, 512, 768};
    printf("\nmatmul, 4096 rows: GFLOP/s of the three products of a linear layer, and of all together\n"
           "%-9s %5s %6s  %7s %7s %7s  %7s [%s]  %s\n", "layer", "from", "to", "forward", "d inp", "d weight",
           "all", "smallest … largest", "of peak");
    for (int i = 0; i < 4; i++) {
        size_t C = widths[i], H = default_hidden(C);
        struct { const char *name; size_t from, to; } layers[] = {
            {"qkv", C, 3 * C}, {"output", C, C}, {"gate, up", C, 2 * H}, {"down", H, C}, {"head", C, 8193}};
        for (int j = 0; j < 5; j++) {
            MatmulSpeed s = time_matmul(4096, layers[j].from, layers[j].to);
            double all = median(&s.all);
            printf("%-9s %5zu %6zu  %7.1f %7.1f %7.1f  %7.1f [%.1f … %.1f]  %.0f%%\n", layers[j].name,
                   layers[j].from, layers[j].to, median(&s.forward), median(&s.inp), median(&s.weight), all,
                   smallest(&s.all), largest(&s.all), 100 * all / median(&s.peak));
            fflush(stdout);
        }
    }
}

// ----------------------------------------------------------------------------
// the way to a fast matmul, step by step: out (m,n) = a (m,k) · b (k,n). dev/README.md tells the story.

static void matmul_naive(float *out, const float *a, const float *b, size_t m, size_t n, size_t k) {
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            float sum = 0;
            for (size_t p = 0; p < k; p++) sum += a[i * k + p] * b[p * n + j];
            out[i * n + j] = sum;
        }
}

// The inner loop runs along rows. Its steps are independent and adjacent in memory, so the compiler turns
// them into vectors.
static void matmul_reordered(float *out, const float *a, const float *b, size_t m, size_t n, size_t k) {
    memset(out, 0, m * n * sizeof *out);
    for (size_t i = 0; i < m; i++)
        for (size_t p = 0; p < k; p++)
            for (size_t j = 0; j < n; j++) out[i * n + j] += a[i * k + p] * b[p * n + j];
}

// A tile of the output stays in registers for the whole sum: MR * NR multiply-adds for each MR + NR numbers.
static void matmul_tiled(float *out, const float *a, const float *b, size_t m, size_t n, size_t k) {
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

// Panels of b are copied so that they are read in order, and the sum is cut so that a panel stays in L1.
static void matmul_packed(float *out, const float *a, const float *b, size_t m, size_t n, size_t k) {
    matmul_alone(out, NULL, n, (Matrix){a, k, 1}, (Matrix){b, n, 1}, m, n, k);
}

// The threads share the panels, and each takes another block of rows whenever it is free.
static void matmul_parallel(float *out, const float *a, const float *b, size_t m, size_t n, size_t k) {
    #pragma omp parallel
    matmul(out, NULL, (Matrix){a, k, 1}, (Matrix){b, n, 1}, m, n, k);
}

static void print_matmul_steps(const Sample peak[2]) {
    enum { M = 480, N = 1024, K = 1024 };
    _Static_assert(M % MR == 0 && N % NR == 0, "matmul_tiled computes whole tiles only");
    struct {
        const char *name;
        void (*run)(float *out, const float *a, const float *b, size_t m, size_t n, size_t k);
    } step[] = {{"naive", matmul_naive}, {"reordered", matmul_reordered}, {"tiled", matmul_tiled},
                {"packed", matmul_packed}, {"parallel", matmul_parallel}};
    float *a = alloc_or_die(M * K * 4), *b = alloc_or_die(K * N * 4), *out = alloc_or_die(M * N * 4);
    float *expected = alloc_or_die(M * N * 4);
    for (size_t i = 0; i < M * K; i++) a[i] = (float)(i % 7) - 3; // small integers: the sums are exact
    for (size_t i = 0; i < K * N; i++) b[i] = (float)(i % 5) - 2;
    matmul_naive(expected, a, b, M, N, K);
    printf("\nmatmul, (%d,%d) · (%d,%d)\n", M, K, K, N);
    for (size_t s = 0; s < sizeof step / sizeof *step; s++) {
        Sample speed;
        size_t repeats = s < 2 ? 1 : 10;
        int all = s == 4;
        for (int run = -1; run < RUNS; run++) {
            double start = now_seconds();
            for (size_t i = 0; i < repeats; i++) step[s].run(out, a, b, M, N, K);
            if (run >= 0) speed.v[run] = 2e-9 * M * N * K * (double)repeats / (now_seconds() - start);
        }
        if (memcmp(out, expected, M * N * 4) != 0) die("--matmul: %s computes wrong numbers", step[s].name);
        printf("%-10s %7.2f GFLOP/s [%.2f … %.2f] %4.0f%% of the peak of %s\n", step[s].name, median(&speed),
               smallest(&speed), largest(&speed), 100 * median(&speed) / median(&peak[all]),
               all ? "all threads" : "one thread");
        fflush(stdout);
    }
    free(a), free(b), free(out), free(expected);
}

// ----------------------------------------------------------------------------
// whole training steps

// Parts of a step, each also timed alone, over all layers, to tell its share. (Left out: copying the rows
// that go on through the last layer, and the final norm.)
enum { LINEAR, ATTENTION, NORMS, SWIGLU, HEAD, EMBEDDING, OPTIMISER, N_KINDS };
static const char *const kind_names[] = {"linear layers", "attention, rope", "norms", "swiglu",
                                         "head and loss", "embedding", "optimiser"};

// The three products of a linear layer.
static void run_linear(float *out, float *dinp, float *dweight, const float *inp, const float *weight,
                       size_t N, size_t C, size_t OC) {
    matmul_forward(out, NULL, inp, weight, N, C, OC);
    matmul_backward_weight(dweight, out, inp, N, C, OC);
    matmul_backward_inp(dinp, NULL, out, weight, N, C, OC);
}

// The work of one kind in layer l: what layer_forward and layer_backward do of it, on the same buffers.
static void run_kind_in_layer(Model *m, const Batch *in, size_t l, int kind) {
    size_t C = m->c.C, H = m->c.H;
    Layer a = layer_of(m, in, l);
    float *dkv = m->dkvq, *dq = dkv + a.N * 2 * C;
    if (kind == LINEAR) {
        float *wq = weights_of(m, WQKV, l), *dwq = gradient_of(m, WQKV, l);
        run_linear(dkv, m->dx, dwq + C * C, m->norm, wq + C * C, a.N, C, 2 * C);
        run_linear(dq, m->dx, dwq, a.rows ? m->ng : m->norm, wq, a.n, C, C);
        run_linear(m->dc, m->dx, gradient_of(m, WO, l), a.att, weights_of(m, WO, l), a.n, C, C);
        run_linear(m->dgu, m->dx, gradient_of(m, WGU, l), m->norm, weights_of(m, WGU, l), a.n, C, 2 * H);
        run_linear(m->dc, m->dh, gradient_of(m, WDOWN, l), m->h, weights_of(m, WDOWN, l), a.n, H, C);
    }
    if (kind == ATTENTION) {
        attention_forward(m->dc, a.lse, a.q, a.kv, &a.attention);
        attention_backward(dq, dkv, m->dc, a.lse, a.q, a.kv, &a.attention);
        for (int pass = 0; pass < 2; pass++) { // forward and backward
            rope(dkv, 2 * C, NULL, a.N, &a.attention, 1);
            rope(dq, C, a.rows, a.n, &a.attention, 1);
        }
    }
    if (kind == NORMS) {
        float *w1 = weights_of(m, NORM1, l), *w2 = weights_of(m, NORM2, l);
        for (int pass = 0; pass < 2; pass++) { // the backward pass computes the norms again
            rmsnorm_forward(m->norm, a.rstd1, a.x, w1, a.N, C);
            rmsnorm_forward(m->norm, a.rstd2, a.xm, w2, a.n, C);
        }
        float *dw1 = gradient_of(m, NORM1, l), *dw2 = gradient_of(m, NORM2, l);
        rmsnorm_backward(m->dx, m->dx, dw1, m->partial, m->dc, a.x, w1, a.rstd1, a.N, C);
        rmsnorm_backward(m->dx, m->dx, dw2, m->partial, m->dc, a.xm, w2, a.rstd2, a.n, C);
    }
    if (kind == SWIGLU) {
        swiglu_forward(m->h, a.gu, a.n, H);
        swiglu_backward(m->dgu, m->h, m->dh, a.gu, a.n, H);
    }
}

// All the work of one kind in a step, on what the last step left in the buffers. Called by all threads.
static void run_kind(Model *m, const Batch *in, int kind) {
    static double partial[PARTS]; // shared by the threads
    size_t C = m->c.C, N = in->B * m->c.T, M = in->M, V1 = m->c.V + 1;
    float *wte = weights_of(m, WTE, 0), *dwte = gradient_of(m, WTE, 0);
    for (size_t l = 0; l < m->c.L && kind <= SWIGLU; l++) run_kind_in_layer(m, in, l, kind);
    if (kind == HEAD) {
        matmul_forward(m->logits, NULL, m->nf, wte, M, C, V1);
        crossentropy_forward(m->losses, m->loss_lse, m->logits, in->targets, M, V1);
        crossentropy_backward(m->logits, m->loss_lse, in->targets, 1e-6f, M, V1);
        matmul_backward_weight(dwte, m->logits, m->nf, M, C, V1);
        matmul_backward_inp(m->dxg, NULL, m->logits, wte, M, C, V1);
    }
    if (kind == EMBEDDING) {
        embedding_forward(m->x, in->inputs, wte, N, C);
        embedding_backward(dwte, m->dx, in->inputs, N, C);
    }
    if (kind == OPTIMISER) gradient_norm(m->grads, m->block, partial), adamw(m, 0, 0, 1, 1);
}

static void print_kinds(Model *m, const Batch *in, double step_seconds) {
    double sum = 0;
    printf("    alone:");
    for (int kind = 0; kind < N_KINDS; kind++) {
        Sample seconds;
        for (int run = -1; run < RUNS; run++) {
            double start = now_seconds();
            #pragma omp parallel
            run_kind(m, in, kind);
            if (run >= 0) seconds.v[run] = now_seconds() - start;
        }
        sum += median(&seconds);
        printf(" %s %.0f%%%s", kind_names[kind], 100 * median(&seconds) / step_seconds,
               kind + 1 < N_KINDS ? "," : "");
    }
    printf("; together %.0f%% of the step\n", 100 * sum / step_seconds);
}

// The most memory that this process has used so far, in MiB.
static double peak_memory(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
    return (double)usage.ru_maxrss / 1048576; // in bytes there
#else
    return (double)usage.ru_maxrss / 1024;
#endif
}

static void bench_step(const Config *c, size_t B, int csv) {
    Model m;
    Loader l;
    Sample step, peak;
    char shape[128];
    model_alloc(&m, c, B, most_predicted(c, B, 0.2), omp_get_max_threads(), NEED_ALL);
    loader_alloc(&l, B, B, c->T);
    model_init(&m, 1);
    for (size_t i = 0; i < B * c->T; i++) l.tokens[i] = (uint16_t)(uniform(1, 1, i) * (double)c->V);
    loader_mask(&l, c, -1, B, 1, STREAM_MASK, 0, B, 0.2);
    const Batch *in = &l.micro[0];
    for (int run = -2; run < RUNS; run++) { // the first two are a warm-up
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
    double N = (double)(B * c->T), seconds = median(&step), memory = peak_memory();
    double gflops = executed_flops(c, N, (double)in->M) / seconds * 1e-9;
    double share = 100 * gflops / median(&peak);
    snprintf(shape, sizeof shape, csv ? "%zux%zux%zux%zux%zux%zu" : "(%zu,%zu,%zu,%zu,%zu,%zu)", c->L, c->C,
             c->NH, c->V, B, c->T);
    if (csv)
        printf("%s,%d,%.0f,%.3f,%.1f,%.1f,%.1f\n", shape, omp_get_max_threads(), N / seconds, 1e3 * seconds,
               gflops, share, memory);
    else {
        printf("%-26s %8.1f ms [%.1f … %.1f] %8.0f tok/s %7.1f GFLOP/s %4.0f%% of peak %7.0f MiB\n", shape,
               1e3 * seconds, 1e3 * smallest(&step), 1e3 * largest(&step), N / seconds, gflops, share,
               memory);
        print_kinds(&m, in, seconds);
    }
    fflush(stdout);
    model_free(&m), loader_free(&l);
}

// The shapes that are measured, by memory, so that the peak of each is its own (the matmuls before take 398 MiB).
static const char *const step_shapes[] = {
    "2,64,2,1024,32,128",  "4,128,4,4096,32,128", "4,256,4,4096,4,1024",
    "6,256,4,4096,32,128", "6,512,8,8192,16,128", "12,768,12,50257,4,128",
};

// Read a shape as --step has it. Returns its number of rows, B.
static size_t read_shape(Config *c, const char *text) {
    size_t B = 0;
    char extra;
    *c = (Config){0};
    int n = sscanf(text, "%zu,%zu,%zu,%zu,%zu,%zu,%zu%c", &c->L, &c->C, &c->NH, &c->V, &B, &c->T, &c->H,
                   &extra);
    if (n < 6 || n > 7 || !c->L || !B || !c->T || c->V < 2 || c->V > 65535)
        die_usage("--step %s: give layers,channels,heads,vocabulary,rows,tokens in a row", text);
    if (n == 6) c->H = default_hidden(c->C);
    check_config(c);
    return B;
}

// ----------------------------------------------------------------------------
// the program

typedef struct {
    const char *step;
    size_t threads;
    int csv, matmul, help;
} BenchSettings;

#define TO(field) .offset = offsetof(BenchSettings, field)
static Option bench_options[] = {
    {"step", TEXT, FREE, TO(step), 0, 0, "SHAPE", "only steps of one shape, L,C,NH,V,B,T or L,C,NH,V,B,T,H"},
    {"csv", FLAG, FREE, TO(csv), 0, 0, "", "only steps, as CSV"},
    {"matmul", FLAG, FREE, TO(matmul), 0, 0, "", "only the way from the naive matmul to the trainer's"},
    {"threads", COUNT, FREE, TO(threads), 0, 4096, "N", "(OMP_NUM_THREADS, or else the physical cores)"},
    {"help", FLAG, FREE, TO(help), 0, 0, "", "print this list"},
    {0},
};
#undef TO

static int bench_main(int argc, char **argv) {
    BenchSettings s = {0};
    Config one;
    Sample peak[2];
    size_t B = 0;
    program = "bench";
    parse_options(bench_options, &s, argc, argv);
    if (s.help) {
        printf("usage: bench [--option value …]\n\nMeasure this machine, matmuls and training steps.\n\n");
        print_options(bench_options);
        return 0;
    }
    if (s.matmul && (s.csv || s.step)) die_usage("--matmul: cannot be combined with --csv or --step");
    if (s.step) B = read_shape(&one, s.step);
    set_threads(s.threads);
    if (s.csv) printf("config,threads,tokens_per_s,ms,gflops,percent_of_peak,peak_mib\n");
    else print_machine(omp_get_max_threads(), !s.step && !s.matmul, peak);
    if (s.matmul) return print_matmul_steps(peak), 0;
    if (s.step) return bench_step(&one, B, s.csv), 0;
    if (!s.csv) {
        print_matmuls();
        printf("\ntraining steps (layers, channels, heads, vocabulary, rows, tokens in a row)\n");
    }
    for (size_t i = 0; i < sizeof step_shapes / sizeof *step_shapes; i++) {
        B = read_shape(&one, step_shapes[i]);
        bench_step(&one, B, s.csv);
    }
    return 0;
}

int main(int argc, char **argv) {
    open_streams();
    return close_stdout(bench_main(argc, argv));
}
