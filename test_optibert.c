/*
Checks everything that can be checked about train_optibert.c and the programs in data/ and dev/, against
numbers that do not come from them: PyTorch's (dev/reference.bin), brute force, finite differences, numbers
worked by hand. `make test`; with OPTIBERT_SLOW set (`make check`) the slow ones too.
*/
#define OPTIBERT_NO_MAIN
#define VILLAGE_NO_MAIN
#define TOKENIZE_NO_MAIN
#define FIT_NO_MAIN
#define SWEEP_NO_MAIN
#define PLOT_NO_MAIN
#include "train_optibert.c"
#include "data/village.c"
#include "data/tokenize.c"
#include "dev/fit.c"
#include "dev/sweep.c"
#include "dev/plot.c"
#include <stddef.h>
#include <sys/wait.h>

// ----------------------------------------------------------------------------
// the harness

static int passed, failed;
static char scratch_dir[64]; // a folder of this test run's own, removed at its end

// One assertion. The message is printed only when it fails.
__attribute__((format(printf, 2, 3)))
static void check(int ok, const char *format, ...) {
    va_list args;
    if (ok) passed++;
    else {
        failed++;
        va_start(args, format);
        printf("FAILED: ");
        vprintf(format, args);
        printf("\n");
        va_end(args);
    }
}

// A path in the scratch folder; four may be in use at once.
static const char *scratch(const char *name) {
    static char path[4][256];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", scratch_dir, name);
    return path[next];
}

// Run a shell command with its output in the scratch folder's "stdout" and "stderr". Returns its exit code,
// or 128 + signal.
__attribute__((format(printf, 1, 2)))
static int shell(const char *format, ...) {
    char command[4096], all[4608];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    snprintf(all, sizeof all, "{ %s ; } >%s/stdout 2>%s/stderr </dev/null", command, scratch_dir,
             scratch_dir);
    int status = system(all);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// A file as a zero-terminated string that the caller frees, or an empty one.
static char *slurp(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    char *text = alloc_or_die(1 << 24);
    size_t n = f ? fread(text, 1, (1 << 24) - 1, f) : 0;
    if (f) fclose(f);
    if (size) *size = n;
    return text;
}

static int same_file(const char *a, const char *b) {
    size_t n, m;
    char *x = slurp(a, &n), *y = slurp(b, &m);
    int same = n > 0 && n == m && memcmp(x, y, n) == 0;
    free(x), free(y);
    return same;
}

static void write_bytes(const char *path, const void *data, size_t n) {
    FILE *f = fopen(path, "wb");
    if (!f || (n > 0 && fwrite(data, n, 1, f) != 1)) die("%s: cannot write", path);
    fclose(f);
}

// The command must end with this exit code and exactly one line on stderr that holds `word`, and nothing on
// stdout.
static void check_refused(int code, const char *word, const char *command) {
    int got = shell("%s", command);
    char *err = slurp(scratch("stderr"), NULL);
    char *end = strchr(err, '\n');
    check(got == code && end && end[1] == 0 && strstr(err, word),
          "%s: exit %d with one line about \"%s\" expected, got exit %d and: %s", command, code, word, got,
          err);
    free(err);
}

// fmax, but NaN is larger than anything. (And gcc 12 for ARM cannot compile loops of fmax.)
static double larger(double a, double b) {
    return a > b || a != a ? a : b;
}

static float random_float(uint64_t index) {
    return (float)(2 * uniform(7, 200, index) - 1);
}

static size_t random_size(uint64_t index, size_t low, size_t high) {
    return low + (size_t)(uniform(7, 201, index) * (double)(high - low + 1));
}

static void random_fill(float *p, size_t n, uint64_t stream) {
    for (size_t i = 0; i < n; i++) p[i] = random_float(stream << 32 | i);
}

// ----------------------------------------------------------------------------
// matmul and exp

// |got - want| in units of the rounding that a sum of k products of numbers below 1 may show
static double matmul_error(const float *got, const double *want, size_t n, size_t k) {
    double worst = 0;
    for (size_t i = 0; i < n; i++)
        worst = larger(worst, fabs(got[i] - want[i]));
    return worst / (1.2e-7 * (double)(k + 2));
}

static void naive(double *out, const float *add, const float *a, size_t arow, size_t acol, const float *b,
                  size_t brow, size_t bcol, size_t m, size_t n, size_t k) {
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            out[i * n + j] = add ? add[i * n + j] : 0;
            for (size_t p = 0; p < k; p++)
                out[i * n + j] += (double)a[i * arow + p * acol] * b[p * brow + j * bcol];
        }
}

static void test_matmul(void) {
    const size_t primes[] = {1, 2, 3, 5, 7, 11, 13, 17, 31, 37, 61, 67, 127, 131, 257, 263, 521};
    const size_t n_primes = sizeof primes / sizeof *primes;
    double worst = 0;
    for (uint64_t trial = 0; trial < 400; trial++) {
        size_t N = trial % 3 ? random_size(3 * trial, 1, 300) : primes[hash3(1, 1, trial) % n_primes];
        size_t C = trial % 3 ? random_size(3 * trial + 1, 1, 300) : primes[hash3(1, 2, trial) % n_primes];
        size_t OC = trial % 3 ? random_size(3 * trial + 2, 1, 300) : primes[hash3(1, 3, trial) % n_primes];
        if (trial == 1) N = 3, C = 5, OC = 2 * NC + 3;
        float *inp = alloc_or_die(N * C * 4), *weight = alloc_or_die(OC * C * 4),
              *dout = alloc_or_die(N * OC * 4);
        float *out = alloc_or_die(N * OC * 4), *dinp = alloc_or_die(N * C * 4),
              *dweight = alloc_or_die(OC * C * 4);
        double *want = alloc_or_die(MAX(N * OC, MAX(N * C, OC * C)) * 8);
        random_fill(inp, N * C, 1), random_fill(weight, OC * C, 2), random_fill(dout, N * OC, 3),
            random_fill(dweight, OC * C, 4);
        const float *add = trial % 2 ? dout : NULL;
        #pragma omp parallel num_threads(3)
        matmul_forward(out, add, inp, weight, N, C, OC);
        naive(want, add, inp, C, 1, weight, 1, C, N, OC, C);
        worst = larger(worst, matmul_error(out, want, N * OC, C));
        #pragma omp parallel num_threads(3)
        matmul_backward_inp(dinp, dout, weight, N, C, OC);
        naive(want, NULL, dout, OC, 1, weight, C, 1, N, C, OC);
        worst = larger(worst, matmul_error(dinp, want, N * C, OC));
        naive(want, dweight, dout, 1, OC, inp, C, 1, OC, C, N);
        #pragma omp parallel num_threads(3)
        matmul_backward_weight(dweight, dout, inp, N, C, OC);
        worst = larger(worst, matmul_error(dweight, want, OC * C, N));
        check(worst < 1, "matmul: %zu x %zu x %zu is off by %.2f roundings", N, C, OC, worst);
        if (worst >= 1) break;
        free(inp), free(weight), free(dout), free(out), free(dinp), free(dweight), free(want);
    }
}

static void test_exp(void) {
    double worst = 0;
    for (double x = -87; x <= 88; x += 1.7e-4) {
        float y = exp_fast((float)x);
        double want = exp((double)(float)x);
        worst = larger(worst, fabs(y - want) / want / 0x1p-23);
    }
    check(worst <= 2, "exp_fast: %.2f units in the last place off", worst);
    check(exp_fast(0) == 1, "exp_fast(0) = %.9g", exp_fast(0));
    check(exp_fast(-1e30f) >= 0 && exp_fast(-1e30f) < 2e-38f, "exp_fast(-1e30) = %g", exp_fast(-1e30f));
    check(isfinite(exp_fast(1e30f)) && exp_fast(1e30f) > 1e38f, "exp_fast(1e30) = %g", exp_fast(1e30f));
    check(isnan(exp_fast(NAN)), "exp_fast(NaN) = %g", exp_fast(NAN));
}

// ----------------------------------------------------------------------------
// PyTorch's numbers

typedef struct {
    char name[24];
    uint32_t kind, count;
    void *data; // (count) int32 or float
} Record;

static Record records[512];
static size_t n_records;

static void load_reference(void) {
    Reader r;
    size_t at = 0;
    reader_open(&r, "dev/reference.bin");
    while (at < r.size && n_records < 512) {
        Record *record = &records[n_records++];
        reader_get(&r, record, 32);
        record->data = alloc_or_die(record->count * 4);
        reader_get(&r, record->data, record->count * 4);
        at += 32 + record->count * 4;
    }
    fclose(r.file);
}

static const Record *reference(const char *name, const char *tensor) {
    char full[64];
    snprintf(full, sizeof full, "%s.%s", name, tensor);
    for (size_t i = 0; i < n_records; i++)
        if (strncmp(records[i].name, full, 24) == 0) return &records[i];
    die("dev/reference.bin: has no record %s", full);
}

// got (n) must agree with the record to `tolerance` times its largest number.
static void check_close(const char *name, const char *tensor, const float *got, size_t n, double tolerance) {
    const Record *r = reference(name, tensor);
    const float *want = r->data;
    double largest = 1e-3, worst = 0;
    size_t within = 0;
    for (size_t i = 0; i < r->count; i++) largest = larger(largest, fabs(want[i]));
    for (size_t i = 0; i < r->count && i < n; i++) {
        double error = fabs((double)got[i] - want[i]);
        within += error <= tolerance * largest; // NaN is not
        worst = larger(worst, error);
    }
    check(r->count == n && within == n,
          "%s.%s: %zu of %u numbers are right; off by up to %.3g, the largest is %.3g", name, tensor, within,
          r->count, worst, largest);
}

// The same for n rows of `width` numbers, got + i*ld, against columns from `column` on of the record's rows,
// which have `wide` columns: row first + rows[i], or first + i where rows is NULL.
static void check_rows(const char *name, const char *tensor, const float *got, size_t ld, size_t width,
                       size_t first, const size_t *rows, size_t n, size_t wide, size_t column) {
    const Record *r = reference(name, tensor);
    const float *want = r->data;
    double largest = 1e-3, worst = 0;
    for (size_t i = 0; i < r->count; i++) largest = larger(largest, fabs(want[i]));
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < width; j++) {
            size_t at = (first + (rows ? rows[i] : i)) * wide + column + j;
            worst = larger(worst, at < r->count ? fabs((double)got[i * ld + j] - want[at]) : INFINITY);
        }
    check(worst <= 2e-6 * largest, "%s.%s: rows from %zu on are off by %.3g, the largest number is %.3g",
          name, tensor, first, worst, largest);
}

static Config reference_config(const char *name, size_t *B, size_t *M, size_t *steps) {
    const int32_t *k = reference(name, "config")->data; // L C NH H T V B causal eot M steps
    *B = (size_t)k[6], *M = (size_t)k[9], *steps = (size_t)k[10];
    return (Config){(size_t)k[0], (size_t)k[1], (size_t)k[2], (size_t)k[3], (size_t)k[4], (size_t)k[5], k[7]};
}

// The batch that stands at these places of the reference's records.
static void reference_batch(Batch *in, const Config *c, int eot, size_t B, size_t M, const int32_t *inputs,
                            const int32_t *rows, const int32_t *targets) {
    uint16_t tokens[4096];
    in->B = B, in->M = M;
    for (size_t b = 0; b < B; b++) {
        for (size_t t = 0; t < c->T; t++) tokens[t] = (uint16_t)inputs[b * c->T + t];
        find_documents(in->doc_end + b * c->T, tokens, c->T, eot);
    }
    memcpy(in->inputs, inputs, B * c->T * sizeof *inputs);
    for (size_t i = 0; i < M; i++) in->rows[i] = (size_t)rows[i], in->targets[i] = targets[i];
}

static void test_reference(const char *name) {
    size_t B, M, steps;
    Config c = reference_config(name, &B, &M, &steps);
    size_t N = B * c.T, L = c.L, C = c.C;
    int eot = ((int32_t *)reference(name, "config")->data)[8];
    Model m;
    Loader l;
    model_alloc(&m, &c, B, N, 2, 1);
    loader_alloc(&l, B, B, c.T);
    Batch in = l.all;
    for (int i = 0; i < N_TENSORS; i++)
        memcpy(m.params + m.tensor[i].offset, reference(name, m.tensor[i].name)->data,
               tensor_size(&m.tensor[i]) * 4);
    reference_batch(&in, &c, eot, B, M, reference(name, "inputs")->data, reference(name, "rows")->data,
                    reference(name, "targets")->data);
    #pragma omp parallel num_threads(2)
    model_forward(&m, &in);
    const double tolerance = 2e-6; // the same model in PyTorch's float32 is off by up to 1e-6
    for (size_t l = 0; l < L; l++) {
        int last = l + 1 == L; // where only the predicted rows go on
        size_t n = last ? M : N, *rows = last ? in.rows : NULL, H2 = 2 * c.H, transposed = 0;
        const float *qkv = m.qkv + l * N * 3 * C, *lse = m.lse + l * N * c.NH,
                    *want = reference(name, "lse")->data;
        check_rows(name, "x", m.x + l * N * C, C, C, l * N, NULL, N, C, 0);
        if (!last) check_rows(name, "qkv", qkv, 3 * C, 3 * C, l * N, NULL, N, 3 * C, 0);
        if (last) check_rows(name, "qkv", qkv, 2 * C, 2 * C, l * N, NULL, N, 3 * C, C);
        if (last) check_rows(name, "qkv", qkv + N * 2 * C, C, C, l * N, rows, M, 3 * C, 0);
        check_rows(name, "att", m.att + l * N * C, C, C, l * N, rows, n, C, 0);
        check_rows(name, "xm", m.xm + l * N * C, C, C, l * N, rows, n, C, 0);
        check_rows(name, "gu", m.gu + l * N * H2, H2, H2, l * N, rows, n, H2, 0);
        for (size_t i = 0; i < n * c.NH; i++) { // theirs is (L,B,NH,T)
            size_t at = rows ? rows[i / c.NH] : i / c.NH;
            transposed += fabs(lse[i] - want[((l * B + at / c.T) * c.NH + i % c.NH) * c.T + at % c.T]) < 1e-5;
        }
        check(transposed == n * c.NH, "%s.lse: of layer %zu, %zu of %zu agree", name, l, transposed,
              n * c.NH);
    }
    check_rows(name, "x", m.x + L * N * C, C, C, L * N, in.rows, M, C, 0);
    check_close(name, "nf", m.nf, M * C, tolerance);
    check_close(name, "logits", m.logits, M * (c.V + 1), tolerance);
    check_close(name, "losses", m.losses, M, tolerance);
    #pragma omp parallel num_threads(2)
    model_backward(&m, &in, 1 / (float)M);
    check_close(name, "dx", m.dx, N * C, 5e-6);
    for (int i = 0; i < N_TENSORS; i++) {
        char d[16];
        snprintf(d, sizeof d, "d%s", m.tensor[i].name);
        check_close(name, d, m.grads + m.tensor[i].offset, tensor_size(&m.tensor[i]), 5e-6);
    }

    memset(m.grads, 0, m.block * sizeof(float));
    float loss[64], norm[64], lr[64];
    size_t first = 0;
    for (size_t step = 1; step <= steps; step++) {
        const int32_t *Ms = reference(name, "step_M")->data, *inputs = reference(name, "step_inputs")->data;
        const int32_t *rows = reference(name, "step_rows")->data,
                      *targets = reference(name, "step_targets")->data;
        double partial[PARTS], sum = 0, total = 0;
        M = (size_t)Ms[step - 1];
        reference_batch(&in, &c, eot, B, M, inputs + (step - 1) * N, rows + first, targets + first);
        first += M;
        lr[step - 1] = (float)learning_rate(((float *)reference(name, "peak_lr")->data)[0], step, steps);
        #pragma omp parallel num_threads(2)
        {
            model_forward(&m, &in);
            model_backward(&m, &in, 1 / (float)M);
            double mine = gradient_norm(m.grads, m.block, partial);
            adamw(&m, lr[step - 1], 0.1f, (float)fmin(1, 1 / (mine + 1e-6)), step);
            #pragma omp master
            total = mine;
        }
        for (size_t i = 0; i < M; i++) sum += m.losses[i];
        loss[step - 1] = (float)(sum / (double)M), norm[step - 1] = (float)total;
    }
    if (steps > 0) {
        check_close(name, "step_lr", lr, steps, 1e-6);
        check_close(name, "step_loss", loss, steps, 1e-5);
        check_close(name, "step_norm", norm, steps, 1e-4);
        for (int i = 0; i < N_TENSORS; i++) {
            char final[24];
            snprintf(final, sizeof final, "final_%s", m.tensor[i].name);
            check_close(name, final, m.params + m.tensor[i].offset, tensor_size(&m.tensor[i]), 1e-4);
        }
    }
    model_free(&m), loader_free(&l);
}

// ----------------------------------------------------------------------------
// a small model of its own for the other tests

typedef struct {
    Config c;
    size_t B;
    Model m;
    Loader l;
} Small;

enum { SMALL_EOT = 30 };

// Odd sizes throughout; B rows of T tokens with several documents in each.
static void small_setup(Small *s, Config c, size_t B, size_t micro) {
    s->c = c, s->B = B;
    model_alloc(&s->m, &s->c, B, B * c.T, 8, 1);
    loader_alloc(&s->l, B, micro, c.T);
    model_init(&s->m, 3);
    for (size_t i = 0; i < B * (c.T + 1); i++)
        s->l.tokens[i] = uniform(3, 202, i) < 0.08 ? SMALL_EOT : (uint16_t)(uniform(3, 203, i) * SMALL_EOT);
    loader_mask(&s->l, &s->c, SMALL_EOT, micro, 3, STREAM_MASK, 0, B, 0.3);
}

static void small_free(Small *s) {
    model_free(&s->m), loader_free(&s->l);
}

static double small_loss(Small *s) {
    double loss = 0;
    for (size_t i = 0; i < s->l.n_micro; i++) {
        #pragma omp parallel num_threads(2)
        model_forward(&s->m, &s->l.micro[i]);
        for (size_t j = 0; j < s->l.micro[i].M; j++) loss += (double)s->m.losses[j];
    }
    return loss / (double)s->l.M;
}

static void small_gradient(Small *s, int threads) {
    (void)threads; // a build without OpenMP has one
    memset(s->m.grads, 0, s->m.block * sizeof(float));
    for (size_t i = 0; i < s->l.n_micro; i++) {
        #pragma omp parallel num_threads(threads)
        {
            model_forward(&s->m, &s->l.micro[i]);
            model_backward(&s->m, &s->l.micro[i], 1 / (float)s->l.M);
        }
    }
}

// In a random direction of each tensor, (loss(w + h d) - loss(w - h d)) / 2h must be the gradient times d.
static void test_finite_differences(int causal) {
    Small s;
    small_setup(&s, (Config){2, 24, 2, 40, 19, 37, causal}, 3, 3);
    for (int i = 0; i < N_TENSORS; i++) {
        Tensor *t = &s.m.tensor[i];
        size_t n = tensor_size(t);
        float *w = s.m.params + t->offset, *kept = alloc_or_die(n * 4), *d = alloc_or_die(n * 4);
        double h = 2e-3, dot = 0, length = 0, side[2];
        small_gradient(&s, 2);
        // half along the gradient, so that there is something to see, half at random
        for (size_t j = 0; j < n; j++) length += pow(s.m.grads[t->offset + j], 2);
        for (size_t j = 0; j < n; j++) {
            d[j] = (float)(s.m.grads[t->offset + j] / sqrt(length)) +
                   random_float((uint64_t)i << 40 | j) / sqrtf((float)n);
            dot += (double)d[j] * s.m.grads[t->offset + j];
        }
        memcpy(kept, w, n * 4);
        for (int k = 0; k < 2; k++) {
            for (size_t j = 0; j < n; j++) w[j] = kept[j] + (float)(k ? -h : h) * d[j];
            side[k] = small_loss(&s);
        }
        memcpy(w, kept, n * 4);
        double slope = (side[0] - side[1]) / (2 * h);
        check(fabs(slope - dot) < 2e-3 * fabs(dot) + 1e-4,
              "finite difference of %s (%s): %.6f, gradient %.6f", t->name, causal ? "ntp" : "mlm", slope,
              dot);
        free(kept), free(d);
    }
    small_free(&s);
}

// The same bits from 1, 2, 3, 4 and 7 threads: losses, gradients, and parameters after some steps.
static void test_threads(Config c, size_t B) {
    float *params = NULL, *losses = NULL;
    for (int k = 0; k < 5; k++) {
        const int threads[] = {1, 2, 3, 4, 7};
        Small s;
        small_setup(&s, c, B, B);
        for (size_t step = 1; step <= 3; step++) {
            double partial[PARTS];
            #pragma omp parallel num_threads(threads[k])
            {
                model_forward(&s.m, &s.l.micro[0]);
                model_backward(&s.m, &s.l.micro[0], 1 / (float)s.l.M);
                double norm = gradient_norm(s.m.grads, s.m.block, partial);
                adamw(&s.m, 0.01f, 0.1f, (float)fmin(1, 1 / norm), step);
            }
        }
        if (k == 0) {
            params = alloc_or_die(s.m.block * 4), losses = alloc_or_die(s.l.M * 4);
            memcpy(params, s.m.params, s.m.block * 4), memcpy(losses, s.m.losses, s.l.M * 4);
        }
        check(memcmp(params, s.m.params, s.m.block * 4) == 0 && memcmp(losses, s.m.losses, s.l.M * 4) == 0,
              "%d threads: not the bits of one thread (L %zu, C %zu, T %zu, B %zu)", threads[k], c.L, c.C,
              c.T, B);
        small_free(&s);
    }
    free(params), free(losses);
}

// Micro-batches sum the same gradient in another order: equal to 1e-5 of the largest gradient, whatever their
// size.
static void test_micro_batches(void) {
    Config c = {2, 24, 2, 40, 19, 37, 0};
    Small whole;
    small_setup(&whole, c, 7, 7);
    small_gradient(&whole, 2);
    double largest = 0, loss = small_loss(&whole);
    for (size_t i = 0; i < whole.m.block; i++) largest = larger(largest, fabs(whole.m.grads[i]));
    for (size_t micro = 1; micro < 7; micro++) {
        Small s;
        double worst = 0;
        small_setup(&s, c, 7, micro);
        small_gradient(&s, 2);
        for (size_t i = 0; i < s.m.block; i++) worst = larger(worst, fabs(s.m.grads[i] - whole.m.grads[i]));
        check(s.l.M == whole.l.M && worst < 1e-5 * largest, "micro-batch %zu: gradients off by %g", micro,
              worst / largest);
        check(fabs(small_loss(&s) - loss) < 1e-5, "micro-batch %zu: loss off by %g", micro,
              small_loss(&s) - loss);
        small_free(&s);
    }
    small_free(&whole);
}

// In the last layer only the predicted rows go on. What they come to must not depend on which others do: the
// logits of a few positions have the bits that they have when every position is predicted. The gradient of
// their losses is that of all losses with the others' weights at 0, by linearity: grad(A) + grad(B) = grad(A
// and B), to rounding.
static void test_gather(int causal) {
    Config c = {2, 24, 2, 40, 40, 37, causal};
    Small s;
    small_setup(&s, c, 3, 3);
    size_t N = 3 * c.T, V1 = c.V + 1, n_part[2] = {0};
    Batch all = s.l.micro[0], part[2] = {all, all};
    all.rows = alloc_or_die(N * sizeof(size_t)), all.targets = alloc_or_die(N * sizeof(int32_t)), all.M = N;
    for (int k = 0; k < 2; k++)
        part[k].rows = alloc_or_die(N * sizeof(size_t)), part[k].targets = alloc_or_die(N * sizeof(int32_t));
    for (size_t i = 0; i < N; i++) {
        int k = uniform(9, 9, i) < 0.7;
        all.rows[i] = i, all.targets[i] = (int32_t)(i % c.V);
        part[k].rows[n_part[k]] = i, part[k].targets[n_part[k]++] = all.targets[i];
    }
    float *grads[3], *logits = NULL;
    for (int k = 2; k >= 0; k--) {
        Batch *in = k == 2 ? &all : &part[k];
        if (k < 2) in->M = n_part[k];
        memset(s.m.grads, 0, s.m.block * sizeof(float));
        model_pass(&s.m, in, 0);
        if (k == 2) memcpy(logits = alloc_or_die(N * V1 * 4), s.m.logits, N * V1 * 4);
        size_t same = 0;
        for (size_t i = 0; i < in->M; i++)
            same += memcmp(logits + in->rows[i] * V1, s.m.logits + i * V1, V1 * 4) == 0;
        check(same == in->M, "gather: %zu of %zu rows have the logits of the full batch", same, in->M);
        model_pass(&s.m, in, 0.01f);
        memcpy(grads[k] = alloc_or_die(s.m.block * 4), s.m.grads, s.m.block * 4);
    }
    double largest = 0, worst = 0;
    for (size_t i = 0; i < s.m.block; i++) {
        largest = larger(largest, fabs(grads[2][i]));
        worst = larger(worst, fabs(grads[0][i] + grads[1][i] - grads[2][i]));
    }
    check(worst < 1e-5 * largest, "gather: gradients of the parts are off by %g of the largest",
          worst / largest);
    for (int k = 0; k < 3; k++) free(grads[k]);
    free(logits), free(all.rows), free(all.targets);
    for (int k = 0; k < 2; k++) free(part[k].rows), free(part[k].targets);
    small_free(&s);
}

// Changing the tokens of one document changes no bit of the logits of another's rows.
static void test_documents(int causal) {
    Config c = {2, 24, 2, 40, 40, 37, causal};
    Small s;
    small_setup(&s, c, 1, 1);
    const size_t begin = 11, end = 24; // one document of three
    for (size_t t = 0; t <= c.T; t++)
        s.l.tokens[t] = t == begin || t == end ? SMALL_EOT : (uint16_t)(t * 7 % SMALL_EOT);
    loader_mask(&s.l, &c, SMALL_EOT, 1, 3, STREAM_MASK, 0, 1, 0.3);
    small_loss(&s);
    size_t M = s.l.M, V1 = c.V + 1, same = 0, others = 0, changed = 0, inside = 0;
    float *before = alloc_or_die(M * V1 * 4);
    memcpy(before, s.m.logits, M * V1 * 4);
    for (size_t t = begin + 1; t < end; t++)
        if (s.l.all.inputs[t] != (int32_t)c.V) s.l.all.inputs[t] = (s.l.all.inputs[t] + 1) % SMALL_EOT;
    small_loss(&s);
    for (size_t i = 0; i < M; i++) {
        size_t t = s.l.all.rows[i];
        int equal = memcmp(before + i * V1, s.m.logits + i * V1, V1 * 4) == 0;
        if (t >= begin && t < end) inside++, changed += !equal;
        else others++, same += (size_t)equal;
    }
    check(same == others && others > 3,
          "documents: %zu of %zu rows outside of the changed one kept their bits", same, others);
    check(changed + (causal ? 1 : 0) == inside && inside > 1,
          "documents: only %zu of %zu rows inside changed", changed, inside);
    // doc_end against its definition
    for (size_t t = 0; t < c.T; t++)
        check(s.l.all.doc_end[t] == (t < begin ? begin
                                     : t < end ? end
                                               : c.T),
              "doc_end[%zu] = %zu", t, s.l.all.doc_end[t]);
    free(before);
    small_free(&s);
}

// ----------------------------------------------------------------------------
// masks, order of the data, counts

static void test_masks(void) {
    const size_t T = 100, rows = 2000;
    double rate = 0.2, selected = 0, both = 0;
    for (size_t r = 0; r < rows; r++)
        for (size_t t = 0; t < T; t++) {
            int now = is_masked(1, STREAM_MASK, r, T, t, rate),
                later = is_masked(1, STREAM_MASK, r + rows, T, t, rate);
            selected += now, both += now && later;
        }
    double n = (double)(T * rows);
    check(fabs(selected - n * rate) < 4 * sqrt(n * rate * (1 - rate)),
          "masks: %.0f of %.0f selected at rate 0.2", selected, n);
    check(fabs(both - n * rate * rate) < 4 * sqrt(n * rate * rate), "masks: two epochs share %.0f of %.0f",
          both, n);
    Small s;
    small_setup(&s, (Config){1, 8, 1, 16, 500, 37, 0}, 4, 2);
    size_t i = 0;
    for (size_t b = 0; b < 4; b++)
        for (size_t t = 0; t < 500; t++) {
            int eot = s.l.tokens[b * 500 + t] == SMALL_EOT, masked = s.l.all.inputs[b * 500 + t] == 37;
            if (masked) {
                check(!eot, "masks: the end of text at %zu,%zu is masked", b, t);
                check(s.l.all.rows[i] == b % 2 * 500 + t && s.l.all.targets[i] == s.l.tokens[b * 500 + t],
                      "masks: position %zu,%zu is not number %zu", b, t, i);
                i++;
            } else
                check(s.l.all.inputs[b * 500 + t] == s.l.tokens[b * 500 + t], "masks: %zu,%zu changed", b, t);
        }
    check(i == s.l.M && s.l.micro[0].M + s.l.micro[1].M == i, "masks: %zu found, %zu counted", i, s.l.M);
    small_free(&s);
}

static void test_shuffle(void) {
    for (size_t n = 1; n < 300; n += n < 20 ? 1 : 37) {
        int seen[300] = {0}, moved = 0, other = 0;
        for (size_t i = 0; i < n; i++) {
            size_t j = shuffled(i, n, 5, 0);
            if (j < n) seen[j]++;
            moved += j != i, other += j != shuffled(i, n, 5, 1);
        }
        for (size_t i = 0; i < n; i++)
            check(seen[i] == 1, "shuffle of %zu: row %zu shown %d times", n, i, seen[i]);
        if (n > 30)
            check(moved > (int)n / 2 && other > (int)n / 2, "shuffle of %zu: %d moved, %d differ by epoch", n,
                  moved, other);
    }
}

static void test_counts(void) {
    // 28 layers, 768 channels, H = 2048: attention 4·768², MLP 3·768·2048 = 8·768² a layer
    Config c = {28, 768, 12, 2048, 128, 50257, 0};
    check(default_hidden(768) == 2048 && default_hidden(64) == 176 && default_hidden(16) == 48 &&
              default_hidden(128) == 336,
          "default_hidden: %zu %zu %zu %zu", default_hidden(768), default_hidden(64), default_hidden(16),
          default_hidden(128));
    size_t norms = 2 * 28 * 768 + 768, embedding = 50258 * 768;
    check(parameter_count(&c) == 198180864 + norms + embedding, "parameters of 28 x 768: %zu",
          parameter_count(&c));
    check(flops_per_token(&c) == 6.0 * 198180864 + 12.0 * 28 * 768 * 128, "F_N of 28 x 768: %.0f",
          flops_per_token(&c));
    check(fabs(flops_per_token(&c) - (72.0 * 28 * 768 * 768 + 12.0 * 28 * 768 * 128)) < 1, "F_N at H = 8C/3");
    check(fabs(flops_per_token_head(&c, 0.2) - 6 * 0.2 * 768 * 50257) < 1, "F_head of mlm: %f",
          flops_per_token_head(&c, 0.2));
    // executed: all rows through the layers' keys and values, a fifth through the rest of the last; V + 1
    // logits
    Config two = {2, 64, 2, 176, 128, 930, 0};
    double layer = 6 * (4. * 64 * 64 + 3 * 64 * 176) + 12 * 64 * 128, keys = 6 * 2. * 64 * 64;
    check(fabs(executed_flops(&two, 4000, 800) -
               (4000 * (layer + keys) + 800 * (layer - keys + 6. * 64 * 931))) < 1,
          "executed FLOPs: %.0f", executed_flops(&two, 4000, 800));
    c.causal = 1;
    check(fabs(flops_per_token_head(&c, 0.2) - 6.0 * 768 * 50257) < 1, "F_head of ntp: %f",
          flops_per_token_head(&c, 0.2));
    // initialisation: one tensor's mean, deviation and bound
    Config small = {1, 64, 2, 176, 8, 900, 0};
    Model m;
    model_alloc(&m, &small, 1, 8, 1, 0);
    model_init(&m, 9);
    for (int i = 0; i < N_TENSORS; i++) {
        const Tensor *t = &m.tensor[i];
        double n = (double)tensor_size(t), sum = 0, squares = 0, most = 0, sigma = t->sigma;
        for (size_t j = 0; j < tensor_size(t); j++) {
            double x = m.params[t->offset + j];
            sum += x, squares += x * x, most = larger(most, fabs(x));
        }
        if (i == NORM1 || i == NORM2 || i == NORMF) {
            check(sum == n && squares == n, "init: %s is not 1", t->name);
            continue;
        }
        check(fabs(sigma - (i == WDOWN ? 1 / sqrt(176) : 0.125)) < 1e-12, "init: sigma of %s is %f", t->name,
              sigma);
        // a normal cut at ±3 sigma has variance 0.9733 sigma²
        check(fabs(sum / n) < 5 * sigma / sqrt(n) &&
                  fabs(squares / n / (0.97331 * sigma * sigma) - 1) < 5 / sqrt(n / 2) &&
                  most <= 3.0001 * sigma && most > 2.9 * sigma,
              "init: %s has mean %g, mean square %g, most %g", t->name, sum / n, squares / n, most);
    }
    model_free(&m);
    // the schedule: up to the peak in a tenth of the steps, down to a tenth of it
    check(fabs(learning_rate(1, 1, 200) - 0.05) < 1e-12 && learning_rate(1, 20, 200) == 1 &&
              learning_rate(1, 21, 200) == 1,
          "learning rate: warm-up");
    check(fabs(learning_rate(1, 200, 200) - 0.1) < 1e-12 && learning_rate(1, 1, 1) == 1 &&
              learning_rate(1, 1, 9) == 1,
          "learning rate: end");
}
// ----------------------------------------------------------------------------
// whole runs, each a process. `./test_optibert run …` is ./train_optibert … . `./test_optibert stopped …` is
// a run that is sent SIGTERM before its first step: it makes one step, saves and exits with 128 + 15. Only
// runs of one binary are compared to the bit. `./test_optibert nobody …` is a run by a user who may read
// little.

#define TINY                                                                                        \
    "--train %s/t_train.bin --layers 2 --channels 20 --heads 2 --hidden 24 --seq-len 16 --batch 6 " \
    "--val-rows 9"
#define RUN_IT "OMP_WAIT_POLICY=passive ./test_optibert run "
#define TRAIN RUN_IT TINY " "
#define STOPPED "OMP_WAIT_POLICY=passive ./test_optibert stopped " TINY " "

static void make_tiny_data(void) {
    int code = shell("data/village --out %s/t --tokens 5000 --val-tokens 1200 --people 40", scratch_dir);
    check(code == 0, "data/village: exit %d", code);
}

// A run stopped after each of its steps and resumed with another number of threads ends bitwise equal to the
// run that was never stopped: weights, moments, logged losses.
static void test_resume(const char *objective) {
    const char *d = scratch_dir;
    const char *more = "--steps 6 --val-every 2 --micro-batch 4";
    int code = shell(TRAIN "--objective %s %s --out %s/whole --overwrite --threads 1", d, objective, more, d);
    check(code == 0, "resume: the uninterrupted run exits %d", code);
    code = shell(STOPPED "--objective %s %s --out %s/parts --overwrite --threads 2", d, objective, more, d);
    check(code == 128 + 15, "resume: the stopped run exits %d", code);
    check(shell(TRAIN "--objective %s %s --out %s/parts", d, objective, more, d) == 1,
          "resume: an unfinished run was replaced");
    for (int step = 2; step <= 5; step++) {
        code = shell(STOPPED "--objective %s %s --out %s/parts --resume --threads %d", d, objective, more, d,
                     1 + step % 3);
        check(code == 128 + 15, "resume: step %d exits %d", step, code);
    }
    FILE *log =
        fopen(scratch("parts/main.log"), "a"); // as if the run had gone on beyond its checkpoint and died
    fprintf(log, "s:6 trl:9.999999 lr:1 norm:1\ns:7 tr");
    fclose(log);
    code = shell(RUN_IT "--out %s/parts --resume --threads 3",
                 d); // settings from the file
    check(code == 0, "resume: the last part exits %d", code);
    check(same_file(scratch("whole/model.bin"), scratch("parts/model.bin")), "resume (%s): model.bin differs",
          objective);
    check(same_file(scratch("whole/main.log"), scratch("parts/main.log")), "resume (%s): main.log differs",
          objective);
    check(shell(RUN_IT "--out %s/parts --resume", d) == 0,
          "resume of a finished run fails");
    check(same_file(scratch("whole/model.bin"), scratch("parts/model.bin")),
          "resume of a finished run changes it");
    // moments too: of the checkpoints all is equal that follows the seconds spent, but the checksum
    size_t n, m;
    char *a = slurp(scratch("whole/checkpoint.bin"), &n), *b = slurp(scratch("parts/checkpoint.bin"), &m);
    size_t skip = 3 * 8 + (size_t)((uint64_t *)a)[2] + sizeof(Progress);
    check(n == m && n > skip + 8 && memcmp(a + skip, b + skip, n - skip - 8) == 0,
          "resume (%s): parameters or moments differ", objective);
    free(a), free(b);
}

static void test_refusals(void) {
    char command[1024];
    const char *d = scratch_dir;
    const struct { int code; const char *word, *options; } cases[] = {
        {2, "--frob", "--frob 3"},
        {2, "--steps", "--steps"},
        {2, "--steps", "--steps 1.5"},
        {2, "--steps", "--steps x"},
        {2, "--lr", "--lr nan"},
        {2, "--lr", "--lr -1"},
        {2, "--steps", "--steps 3 --steps 4"},
        {2, "--tokens", "--steps 3 --tokens 4"},
        {2, "--mask-rate", "--mask-rate 1.5"},
        {2, "--objective", "--objective clm"},
        {2, "--heads", "--channels 64 --heads 3"},
        {2, "--heads", "--channels 6 --heads 2"},
        {2, "stray", "stray"},
        {2, "--load", "--load x"},
        {2, "--flops 0", "--flops 0"},
        {2, "--vocab", "--vocab ''"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(command, sizeof command, "./train_optibert --out %s/refused %s", d, cases[i].options);
        check_refused(cases[i].code, cases[i].word, command);
    }
    int code = shell(STOPPED "--steps 6 --out %s/un", d, d);
    check(code == 143, "a stopped run exits %d", code);
    const char *changed[] = {"--lr 0.5",    "--steps 7",       "--seed 2",     "--seq-len 8",
                             "--batch 5",   "--objective ntp", "--val-rows 8", "--weight-decay 0",
                             "--flops 1e9", "--micro-batch 2"};
    for (size_t i = 0; i < sizeof changed / sizeof *changed; i++) {
        snprintf(command, sizeof command, "./train_optibert --out %s/un --resume %s", d, changed[i]);
        check_refused(1, strcmp(changed[i], "--flops 1e9") == 0 ? "--steps" : strtok(strdup(changed[i]), " "),
                      command);
    }
    snprintf(command, sizeof command, "./train_optibert --out %s/un --resume --train data/village_train.bin",
             d);
    check_refused(1, "--train", command);
    snprintf(command, sizeof command, "./train_optibert --out %s/none --resume", d);
    check_refused(1, "checkpoint.bin", command);
    // a damaged checkpoint, at its head, in its settings, in its weights, and cut short
    size_t n;
    char *whole = slurp(scratch("un/checkpoint.bin"), &n);
    const size_t places[] = {0, 8, 16, n / 2, n - 1};
    for (int i = 0; i < 6; i++) {
        if (i < 5) whole[places[i]] ^= 1;
        write_bytes(scratch("un/checkpoint.bin"), whole, i < 5 ? n : n - 5);
        if (i < 5) whole[places[i]] ^= 1;
        snprintf(command, sizeof command, "./train_optibert --out %s/un --resume", d);
        if (shell("%s", command) == 0) check(0, "a checkpoint damaged at %d was resumed", i);
        size_t length;
        char *err = slurp(scratch("stderr"), &length);
        check(strchr(err, '\n') == err + length - 1, "a checkpoint damaged at %d: not one line but: %s", i,
              err);
        free(err);
    }
    free(whole);
    // a rate of 0 masks nothing; a learning rate beyond reason ends in a message, not in a model
    check(shell(TRAIN "--steps 2 --mask-rate 0 --out %s/zero", d, d) == 1, "a mask rate of 0 was accepted");
    snprintf(command, sizeof command, TRAIN "--steps 400 --lr 1e3 --weight-decay 1e3 --out %s/nan >%s/log", d,
             d, d);
    check_refused(1, "no longer finite", command);
    check(access(scratch("nan/model.bin"), F_OK) != 0, "a run that broke down left a model");
    // real signals: the step is finished, saved, and the run can be resumed
    for (int i = 0; i < 2; i++) {
        int code = shell("OMP_WAIT_POLICY=passive timeout --preserve-status -s %s 0.3 ./train_optibert " TINY
                         " --steps 1e6 --out %s/sig%d",
                         i ? "TERM" : "INT", d, d, i);
        check(code == 128 + (i ? SIGTERM : SIGINT), "a run sent a signal exits %d", code);
        code = shell(STOPPED "--steps 1e6 --out %s/sig%d --resume", d, d, i);
        check(code == 128 + SIGTERM, "after a signal --resume exits %d", code);
    }
}

static void test_results(void) {
    const char *d = scratch_dir;
    for (int i = 0; i < 2; i++) { // twice the same settings: one row
        int code = shell(TRAIN "--steps 3 --out %s/p --points %s/points.csv", d, d, d);
        check(code == 0, "points: exit %d", code);
    }
    for (int i = 0; i < 4; i++) // four at once, of other seeds
        shell("for s in 2 3 4 5; do " TRAIN
              "--steps 3 --seed $s --out %s/p$s --points %s/points.csv & done; wait",
              d, d, d);
    size_t lines = 0, fields = 1, n;
    char *csv = slurp(scratch("points.csv"), &n), *row = strchr(csv, '\n') + 1;
    for (size_t i = 0; i < n; i++) lines += csv[i] == '\n';
    for (char *p = row; *p != '\n'; p++) fields += *p == ',';
    check(lines == 6 && fields == 27, "points: %zu lines, %zu fields in a row", lines, fields);
    char want[] = "mlm,2,20,2,24,16,";
    check(strncmp(row, want, strlen(want)) == 0, "points: the row begins %.40s", row);
    free(csv);
    check(shell("OMP_WAIT_POLICY=passive ./train_optibert --out %s/p --fill 'He likes [MASK] and [MASK].'",
                d) == 0,
          "--fill fails");
    char *out = slurp(scratch("stdout"), NULL);
    check(strstr(out, "[MASK] 1:") && strstr(out, "[MASK] 2:"), "--fill prints: %s", out);
    free(out);
    check_refused(1, "zebrafish", "./train_optibert --vocab data/village.vocab --fill 'a zebrafish [MASK]'");
    check_refused(1, "/nowhere",
                  "./train_optibert --load /nowhere/model.bin --vocab data/village.vocab --fill '[MASK]'");
    check(shell("./train_optibert --dry-run --out %s/dry", d) == 0, "--dry-run fails");
    check(access(scratch("dry"), F_OK) != 0, "--dry-run leaves a folder behind");
}

// ----------------------------------------------------------------------------
// loaders: every broken file gives one clear line and exit 1

static void refuse_shard(const char *what, const char *word, const int32_t *header, size_t header_bytes,
                         const uint16_t *tokens, size_t n) {
    char command[512];
    char *bytes = alloc_or_die(header_bytes + n * 2 + 1);
    memcpy(bytes, header, header_bytes);
    if (n) memcpy(bytes + header_bytes, tokens, n * 2);
    write_bytes(scratch("bad_train.bin"), bytes, header_bytes + n * 2);
    snprintf(command, sizeof command,
             "./train_optibert --out %s/bad --steps 1 --seq-len 4 --batch 1 --train %s/bad_train.bin --val "
             "%s/t_val.bin --val-rows 4",
             scratch_dir, scratch_dir, scratch_dir);
    check_refused(1, word, command);
    if (failed) printf("  (the case: %s)\n", what);
    free(bytes);
}

static void test_shards(void) {
    int32_t good[HEADER], h[HEADER];
    uint16_t tokens[64];
    Reader r;
    reader_open(&r, scratch("t_val.bin"));
    reader_get(&r, good, sizeof good), reader_get(&r, tokens, sizeof tokens);
    fclose(r.file);
    good[2] = 64;
#define BAD(what, word, change, bytes, n) \
    (memcpy(h, good, sizeof h), change, refuse_shard(what, word, h, bytes, tokens, n))
    BAD("empty", "too short", (void)0, 0, 0);
    BAD("half a header", "too short", (void)0, 500, 0);
    BAD("magic", "no token shard", h[0] = 7, sizeof h, 64);
    BAD("version", "version 2", h[1] = 2, sizeof h, 64);
    BAD("truncated", "promised", (void)0, sizeof h, 60);
    BAD("too long", "promised", h[2] = 60, sizeof h, 64);
    BAD("absurd number", "promised", h[2] = -1, sizeof h, 64);
    BAD("absurd vocabulary", "vocabulary", h[3] = 1 << 30, sizeof h, 64);
    BAD("absurd end of text", "end of text", h[4] = h[3] + 1, sizeof h, 64);
    BAD("no row", "not one row", h[2] = 3, sizeof h, 3);
    tokens[2] = (uint16_t)good[3],
    tokens[6] = tokens[10] = tokens[14] = tokens[18] = tokens[2]; // a token beyond V in each row
    for (int i = 0; i < 64; i++) tokens[i] = (uint16_t)good[3];
    BAD("token ≥ V", "not below the vocabulary", (void)0, sizeof h, 64);
    check_refused(1, "no plain file", "./train_optibert --train /tmp --val /tmp");
    check_refused(1, "No such file", "./train_optibert --train /nowhere_train.bin");
    char command[512];
    chmod(scratch("bad_train.bin"), 0);
    snprintf(command, sizeof command, "./test_optibert nobody --train %s/bad_train.bin --val %s/t_val.bin",
             scratch_dir, scratch_dir);
    check_refused(1, "Permission denied", command);
    // llm.c's own shards: header[3] is 0, the tokens are GPT-2's
    int32_t gpt2[HEADER] = {SHARD_MAGIC, 1, 3};
    char bytes[sizeof gpt2 + 6] = {0};
    const uint16_t three[3] = {50256, 50256, 11};
    memcpy(bytes, gpt2, sizeof gpt2), memcpy(bytes + sizeof gpt2, three, 6);
    write_bytes(scratch("gpt2.bin"), bytes, sizeof bytes);
    Shards s;
    const char *paths[3] = {scratch("gpt2.bin"), paths[0], paths[0]};
    shards_open(&s, paths, 1);
    check(s.V == 50257 && s.eot == 50256 && s.total == 3, "GPT-2 shard: V %zu, eot %d, %zu tokens", s.V,
          s.eot, s.total);
    // several files: rows are numbered through, and none crosses from file to file
    paths[1] = paths[2] = paths[0];
    shards_open(&s, paths, 3);
    uint16_t row[2];
    check(shards_rows(&s, 2, 0) == 3 && shards_rows(&s, 2, 1) == 3 && shards_rows(&s, 1, 1) == 6,
          "rows over files");
    shards_read(&s, 5, 1, 1, row);
    check(row[0] == 50256 && row[1] == 11, "the last row reads %u %u", row[0], row[1]);
}

static void test_vocab_files(void) {
    size_t n;
    char *good = slurp(scratch("t.vocab"), &n), command[512];
    const struct { const char *word; size_t at; int32_t value; size_t bytes; } cases[] = {
        {"too short", 0, VOCAB_MAGIC, 100},
        {"no vocabulary", 0, 1, n},
        {"no vocabulary", 4, 9, n},
        {"ends too early", 0, VOCAB_MAGIC, n - 3},
        {"follow the last", 8, 5, n},
        {"make no vocabulary", 8, -4, n},
        {"make no vocabulary", 12, 1 << 20, n},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *bad = alloc_or_die(n);
        memcpy(bad, good, n);
        memcpy(bad + cases[i].at, &cases[i].value, 4);
        if (i == 4) { int32_t eot = 4; memcpy(bad + 12, &eot, 4); }
        write_bytes(scratch("bad.vocab"), bad, cases[i].bytes);
        snprintf(command, sizeof command, "./train_optibert --out %s/p --vocab %s/bad.vocab --fill '[MASK]'",
                 scratch_dir, scratch_dir);
        check_refused(1, cases[i].word, command);
        free(bad);
    }
    // a damaged model
    char *model = slurp(scratch("p/model.bin"), &n);
    for (size_t i = 0; i < 12; i++) {
        size_t at = i < 9 ? 8 * i + (i % 2) * 3 : n * (i - 8) / 4 - 9;
        model[at] ^= 64;
        write_bytes(scratch("bad.bin"), model, n);
        model[at] ^= 64;
        snprintf(command, sizeof command,
                 "./train_optibert --load %s/bad.bin --vocab %s/t.vocab --fill 'He [MASK]'", scratch_dir,
                 scratch_dir);
        check_refused(1, "bad.bin", command);
    }
    free(good), free(model);
}

// ----------------------------------------------------------------------------
// what a step is made of: which rows, which masks, what the optimiser is given; validation; results

// A shard of n tokens, token i being (3 i) mod 97, so that every row of up to 97 tokens tells where it comes
// from.
static void write_numbered(const char *path, size_t n, int32_t V, int32_t eot) {
    int32_t *h = alloc_or_die(HEADER * 4 + n * 2);
    h[0] = SHARD_MAGIC, h[1] = 1, h[2] = (int32_t)n, h[3] = V, h[4] = eot + 1;
    for (size_t i = 0; i < n; i++) ((uint16_t *)(h + HEADER))[i] = (uint16_t)(3 * i % 97);
    write_bytes(path, h, HEADER * 4 + n * 2);
    free(h);
}

// Every epoch shows each row once, in an order of its own and of the seed; masks go by the row's number in
// the run.
static void test_order(int causal) {
    enum { T = 8, ROWS = 12, B = 5, STEPS = 24 }; // 10 epochs
    Config c = {1, 8, 1, 16, T, 100, causal};
    Shards s;
    Loader l;
    const char *path = scratch("order.bin");
    write_numbered(path, ROWS * T + T - (causal ? 0 : 1), 100, 99); // as many as can be left over
    shards_open(&s, &path, 1);
    loader_alloc(&l, B, 2, T);
    int order[2][STEPS * B], same_epoch = 0, same_seed = 0, in_place = 0;
    for (uint64_t seed = 6; seed < 8; seed++) {
        for (size_t step = 0; step < STEPS; step++) {
            load_training(&l, &s, &c, B, 2, seed, step, 0.3);
            size_t i = 0;
            for (size_t b = 0; b < B; b++) {
                const uint16_t *row = l.tokens + b * (T + (size_t)causal);
                int found = -1;
                for (int r = 0; r < ROWS; r++)
                    if (row[0] == 3 * r * T % 97 && row[T - 1] == (3 * (r * T + T - 1)) % 97) found = r;
                order[seed - 6][step * B + b] = found;
                for (size_t t = 0; t < T; t++) {
                    int want = causal || uniform(seed, STREAM_MASK, (step * B + b) * T + t) < 0.3;
                    int32_t target = causal ? (int32_t)((3 * ((size_t)found * T + t + 1)) % 97) : row[t];
                    int got = i < l.M && l.all.rows[i] == b % 2 * T + t && l.all.targets[i] == target;
                    check(!want || got, "order: step %zu: row %zu, position %zu is not predicted", step, b,
                          t);
                    check(l.all.inputs[b * T + t] == (want && !causal ? 100 : row[t]),
                          "order: a wrong input");
                    i += (size_t)want;
                }
            }
            check(i == l.M, "order: %zu predicted, not %zu", l.M, i);
        }
        for (int epoch = 0; epoch < STEPS * B / ROWS; epoch++) {
            int seen[ROWS] = {0};
            for (int i = 0; i < ROWS; i++) {
                int r = order[seed - 6][epoch * ROWS + i];
                if (r >= 0) seen[r]++;
                in_place += r == i;
                same_epoch += epoch > 0 && r == order[seed - 6][i];
                same_seed += seed == 7 && r == order[0][epoch * ROWS + i];
            }
            for (int r = 0; r < ROWS; r++)
                check(seen[r] == 1, "order: epoch %d shows row %d %d times", epoch, r, seen[r]);
        }
    }
    // of 240, 216 and 120 places a twelfth each is met by chance
    check(in_place < 60 && same_epoch < 60 && same_seed < 40,
          "order: %d in place, %d as in epoch 0, %d as with another seed", in_place, same_epoch, same_seed);
    // validation: rows 0, 2, 4, 7, 9 of 12 for 5; masks by the row's number among the 5, always with seed 1
    const size_t want_row[] = {0, 2, 4, 7, 9};
    load_validation(&l, &s, &c, 2, 3, 5, 0.3);
    for (size_t b = 0; b < 3; b++)
        for (size_t t = 0; t < T; t++) {
            uint16_t token = (uint16_t)(3 * (want_row[b + 2] * T + t) % 97);
            int masked = !causal && uniform(1, STREAM_VAL_MASK, (b + 2) * T + t) < 0.3;
            check(l.all.inputs[b * T + t] == (masked ? 100 : token),
                  "order: validation row %zu, position %zu", b + 2, t);
        }
    check(l.n_micro == 1, "order: validation is cut into %zu", l.n_micro);
    free(s.tokens), loader_free(&l);
}

// A Run in here, on the tiny data, as resolve_settings and open_run would make it.
static void small_run(Run *r, int causal) {
    opt.train.path[0] = strdup(opt.train.path[0]);
    *r = (Run){
        .c = {2, 20, 2, 24, 16, 0, causal}, .mask_rate = causal ? 1 : opt.mask_rate, .n_val = opt.val_rows};
    shards_open(&r->train, opt.train.path, 1), shards_open(&r->val, opt.val.path, 1);
    r->c.V = r->train.V;
    model_alloc(&r->m, &r->c, 16, 16 * r->c.T, 8, 1), model_init(&r->m, 5);
    loader_alloc(&r->loader, 16, opt.micro_batch, r->c.T);
}

// train_step against AdamW in doubles, on the gradient of the whole batch at once: clipping, decay, learning
// rate, bias correction, micro-batches of unequal weight. Then validate against its formula, row by row.
static void test_step(int causal) {
    const Settings kept = opt;
    const char *train_path = strdup(scratch("t_train.bin")), *val_path = strdup(scratch("t_val.bin"));
    const double clips[] = {0.4, 1e3, 0};
    for (int k = 0; k < 3; k++) {
        static Run r;
        Loader whole;
        opt.train = (Files){1, &train_path}, opt.val = (Files){1, &val_path};
        opt.batch = 7, opt.micro_batch = 3, opt.steps = 50, opt.seed = 11, opt.val_rows = 10;
        opt.lr = 0.02, opt.weight_decay = 0.3, opt.grad_clip = clips[k], opt.mask_rate = 0.25;
        small_run(&r, causal);
        loader_alloc(&whole, 16, 16, r.c.T);
        size_t n = r.m.block;
        double *w = alloc_or_die(n * 8), *m1 = alloc_or_die(n * 8), *v1 = alloc_or_die(n * 8), worst = 0;
        for (size_t i = 0; i < n; i++) w[i] = r.m.params[i];
        for (size_t step = 1; step <= 4; step++) {
            double loss = 0, norm = 0, got_norm, lr = 0.02 * (double)step / 5;
            load_training(&whole, &r.train, &r.c, 7, 7, 11, step - 1, 0.25);
            memset(r.m.grads, 0, n * 4);
            #pragma omp parallel num_threads(2)
            {
                model_forward(&r.m, &whole.micro[0]);
                model_backward(&r.m, &whole.micro[0], 1 / (float)whole.M);
            }
            for (size_t i = 0; i < whole.M; i++) loss += r.m.losses[i] / (double)whole.M;
            for (size_t i = 0; i < n; i++) norm += pow(r.m.grads[i], 2);
            norm = sqrt(norm);
            double scale = clips[k] > 0 && norm > clips[k] ? clips[k] / norm : 1;
            for (size_t i = 0; i < n; i++) {
                double g = r.m.grads[i] * scale;
                m1[i] = 0.9 * m1[i] + 0.1 * g, v1[i] = 0.95 * v1[i] + 0.05 * g * g;
                double change = m1[i] / (1 - pow(0.9, (double)step)) /
                                (sqrt(v1[i] / (1 - pow(0.95, (double)step))) + 1e-8);
                w[i] -= lr * (0.3 * w[i] + change);
            }
            memset(r.m.grads, 0, n * 4);
            double got = train_step(&r, step, &got_norm);
            check(fabs(got - loss) < 1e-5 && fabs(got_norm / norm - 1) < 1e-4,
                  "step %zu: loss %f, not %f; norm %f, not %f", step, got, loss, got_norm, norm);
            check(k == 1 || norm > 0.4, "step: the gradient's norm is %f: nothing is clipped", norm);
            for (size_t i = 0; i < n; i++) { // where the gradient is all rounding, its sign is no test
                worst = larger(worst, fabs(r.m.m[i] - m1[i]) / 1e-5);
                if (sqrt(v1[i]) > 1e-4) worst = larger(worst, fabs(r.m.params[i] - w[i]) / 2e-4);
                w[i] = r.m.params[i], m1[i] = r.m.m[i], v1[i] = r.m.v[i];
            }
        }
        check(worst < 1, "step (clip %g): parameters or moments are off by %.2f tolerances", clips[k], worst);
        free(w), free(m1), free(v1);

        double loss[10] = {0}, count[10] = {0}, all_loss = 0, all_count = 0, squares = 0;
        for (size_t row = 0; row < 10; row++) {
            load_validation(&whole, &r.val, &r.c, row, 1, 10, 0.25);
            #pragma omp parallel num_threads(2)
            model_forward(&r.m, &whole.micro[0]);
            for (size_t i = 0; i < whole.M; i++) loss[row] += r.m.losses[i], count[row]++;
            all_loss += loss[row], all_count += count[row];
        }
        for (size_t row = 0; row < 10; row++)
            squares += pow(loss[row] - all_loss / all_count * count[row], 2);
        validate(&r);
        check(fabs(r.done.val_loss - all_loss / all_count) < 1e-5, "validation: %f, not %f", r.done.val_loss,
              all_loss / all_count);
        double se = sqrt(squares / 10 / 9) / (all_count / 10); // Cochran's: of a ratio of means
        check(fabs(r.done.val_se / se - 1) < 1e-4, "validation: standard error %f, not %f", r.done.val_se,
              se);
        model_free(&r.m), loader_free(&r.loader), loader_free(&whole);
    }
    opt = kept;
}

// The n-th comma-separated field of a line, as a string in static memory.
static const char *field(const char *line, int n) {
    static char text[8][128];
    static int next;
    next = (next + 1) % 8;
    while (n-- > 0 && line) line = strchr(line, ','), line = line ? line + 1 : NULL;
    snprintf(text[next], sizeof text[next], "%.*s", line ? (int)strcspn(line, ",\n") : 0, line ? line : "");
    return text[next];
}

// The log has a line for each step with the schedule's rate, and validations where they were asked for; the
// row of the points file follows from it, also when the run was stopped in the steps that train_loss is the
// mean of.
static void test_log_and_points(void) {
    const char *d = scratch_dir;
    const char *more = "--steps 40 --val-every 7 --save-every 9 --seed 3 --lr 0.02";
    FILE *f = fopen(scratch("t_val.floor"), "w");
    fputs("# decoys around the right line\nmlm 16 0.2 9 1 10 4 0\nntp 16 0.2 9 1 1 1 0\nmlm 8 0.2 9 1 2 1 0\n"
          "mlm 16 0.3 9 1 3 1 0\nmlm 16 0.2 8 1 4 1 0\nmlm 16 0.2 9 2 5 1 0\n", f), fclose(f);
    int code = shell(TRAIN "%s --out %s/q --points %s/q.csv", d, more, d, d);
    check(code == 0, "log: exit %d", code);
    double trl[41] = {0}, lr[41] = {0}, tel[41] = {0}, x;
    size_t step, lines = 0;
    char line[1024], header[1024];
    f = fopen(scratch("q/main.log"), "r");
    for (; f && fgets(line, sizeof line, f); lines++) {
        double rate;
        if (sscanf(line, "s:%zu trl:%lf lr:%lf norm:", &step, &x, &rate) == 3 && step <= 40)
            trl[step] = x, lr[step] = rate;
        if (sscanf(line, "s:%zu tel:%lf", &step, &x) == 2 && step <= 40) tel[step] = x;
    }
    if (f) fclose(f);
    for (step = 0; step <= 40; step++) {
        check((tel[step] > 0) == (step % 7 == 0 || step == 40), "log: validation at step %zu", step);
        check(step == 0 || (trl[step] > 0 && fabs(lr[step] / learning_rate(0.02, step, 40) - 1) < 1e-5),
              "log: step %zu", step);
    }
    check(lines == 47, "log: %zu lines", lines);
    f = fopen(scratch("q.csv"), "r");
    check(f && fgets(header, sizeof header, f) && fgets(line, sizeof line, f) &&
              !fgets(header, sizeof header, f),
          "points: not two lines");
    if (f) fclose(f);
    double params = 932 * 20 + 2 * (20 + 60 * 20 + 20 * 20 + 20 + 48 * 20 + 20 * 24) + 20;
    double F = 6 * 2 * (4 * 400 + 3 * 20 * 24) + 12 * 2 * 20 * 16, D = 40 * 6 * 16;
    double V = 931,
           want[] = {V, params, params - 932 * 20, F, 6 * 0.2 * 20 * V, D, F * D, 96, 40, 0.02, 0.2, 3};
    for (int i = 0; i < 12; i++)
        check(fabs(atof(field(line, 6 + i)) / want[i] - 1) < 1e-8, "points: field %d is %s, not %.9g", 6 + i,
              field(line, 6 + i), want[i]);
    check(fabs(atof(field(line, 18)) - (trl[39] + trl[40]) / 2) < 2e-6, "points: train_loss %s",
          field(line, 18));
    check(fabs(atof(field(line, 19)) - tel[40]) < 1e-6 && atof(field(line, 20)) == 2.5,
          "points: val_loss %s, floor %s", field(line, 19), field(line, 20));
    check(atof(field(line, 23)) > 0 && atof(field(line, 23)) < 1 &&
              fabs(atof(field(line, 24)) - 240.0 / 312) < 1e-5,
          "points: se %s, epochs %s", field(line, 23), field(line, 24));
    check(fabs(atof(field(line, 25)) / (F * D) - 1) < 1e-8 && strcmp(field(line, 26), "t_train") == 0,
          "points: budget %s, data %s", field(line, 25), field(line, 26));
    // stopped after each of its steps, then asked for its row when it is finished already
    code = shell("for i in $(seq 40); do r=$([ $i -gt 1 ] && echo --resume); " STOPPED
                 "%s --out %s/q2 $r; done; true",
                 d, more, d);
    check(code == 0 && same_file(scratch("q/main.log"), scratch("q2/main.log")),
          "log: stopped at each step it differs");
    check(same_file(scratch("q/model.bin"), scratch("q2/model.bin")),
          "a run stopped at each step ends in another model");
    code = shell(TRAIN "%s --out %s/q2 --resume --points %s/q2.csv", d, more, d, d);
    char other[1024] = "";
    f = fopen(scratch("q2.csv"), "r");
    if (f)
        check(fgets(header, sizeof header, f) && fgets(other, sizeof other, f),
              "points of a finished run: no row"),
            fclose(f);
    for (int i = 0; i < 27; i++)
        if (i != 21 && i != 22)
            check(code == 0 && strcmp(field(line, i), field(other, i)) == 0,
                  "points of the resumed run: field %d is %s, not %s", i, field(other, i), field(line, i));
    // another seed has other weights
    shell(TRAIN "--steps 40 --val-every 7 --seed 4 --lr 0.02 --out %s/q3", d, d);
    f = fopen(scratch("q3/main.log"), "r");
    check(f && fscanf(f, "s:0 tel:%lf", &x) == 1 && fabs(x - tel[0]) > 1e-4,
          "seeds 3 and 4 begin with the same weights");
    if (f) fclose(f);
    unlink(scratch("t_val.floor"));
}

// Which runs get a row of their own in a points file, and which files get none.
static void test_points_rows(void) {
    const char *d = scratch_dir;
    // a file that is no points file stays as it is
    write_bytes(scratch("foreign.csv"), "a,b\n1,2\n", 8);
    check(shell(TRAIN "--steps 1 --out %s/q3 --points %s/foreign.csv", d, d, d) == 1,
          "points: a foreign file is accepted");
    size_t n, rows = 0;
    char *foreign = slurp(scratch("foreign.csv"), &n);
    check(n == 8 && strcmp(foreign, "a,b\n1,2\n") == 0, "points: a foreign file was changed");
    for (int i = 0; i < 3; i++) // 1.0e7 and 1.001e7 are the same number of steps
        shell(TRAIN "--flops %s --out %s/q3 --points %s/q3.csv", d, i == 0 ? "1e7" : "1.001e7", d, d);
    char *csv = slurp(scratch("q3.csv"), &n);
    for (size_t i = 0; i < n; i++) rows += csv[i] == '\n';
    check(rows == 3 && strstr(csv, ",10000000,t_train\n") && strstr(csv, ",10010000,t_train\n"),
          "points: budgets: %s", csv);
    // what has no column of its own tells runs apart all the same
    for (int i = 0; i < 2; i++)
        shell(TRAIN "--flops 1e7 --weight-decay 5 --grad-clip 0 --out %s/q3 --points %s/q3.csv", d, d, d);
    free(csv), csv = slurp(scratch("q3.csv"), &n);
    check(strstr(csv, ",10000000,t_train-clip0-decay5\n") != NULL, "points: decay and clipping: %s", csv);
    for (size_t i = rows = 0; i < n; i++) rows += csv[i] == '\n';
    check(rows == 4, "points: %zu lines for three different runs", rows);
    free(foreign), free(csv);
}

// What a dry run prints for these options must hold these words.
static void check_plan(const char *options, const char *words) {
    check(shell("OMP_WAIT_POLICY=passive ./train_optibert --dry-run --train %s/t_train.bin %s", scratch_dir,
                options) == 0,
          "plan: %s fails", options);
    char *out = slurp(scratch("stdout"), NULL);
    check(strstr(out, words) != NULL, "plan of %s: \"%s\" expected in:\n%s", options, words, out);
    free(out);
}

static void test_plan(void) {
    check_plan("--seq-len 16", "run         2000 steps of 32 rows");
    check_plan("--seq-len 16 --channels 100 --heads 2", "peak learning rate 0.005,"); // 0.5 / 100
    check_plan("--seq-len 16 --channels 160", ", 5 heads, 432 hidden,");
    check_plan("--seq-len 16 --channels 16", ", 1 heads,");
    check_plan("--seq-len 16 --batch 6 --tokens 1000", "run         10 steps"); // 10.42
    check_plan("--seq-len 16 --batch 6 --tokens 1020", "run         11 steps"); // 10.63
    // F_N = 6·1·(4·64 + 3·8·32) + 12·1·8·16 = 7680 a token, 737280 a step
    check_plan("--layers 1 --channels 8 --hidden 32 --seq-len 16 --batch 6 --flops 7372800",
               "run         10 steps");
    check_plan("--seq-len 16 --batch 6 --micro-batch 100", "steps of 6 rows");
    Config c = {2, 24, 2, 40, 19, 37, 0};
    Model m;
    model_alloc(&m, &c, 3, 20, 2, 1);
    size_t used =
        4 * m.block * 4 + (size_t)((char *)(m.attention + 2 * attention_scratch(19, 12)) - (char *)m.memory);
    check(model_bytes(&c, 3, 20, 2, 1) >= used && model_bytes(&c, 3, 20, 2, 1) < used + 64,
          "model_bytes: %zu, used %zu", model_bytes(&c, 3, 20, 2, 1), used);
    model_free(&m);
}

// Every option that decides the numbers is refused by name when it changes; so is other data; what only
// decides when things are written may change, and stays what it was when it is not given.
static void test_bound(void) {
    const char *d = scratch_dir;
    char command[1024];
    int code =
        shell(STOPPED "--steps 8 --val-every 3 --save-every 2 --val %s/t_train.bin --out %s/bound", d, d, d);
    check(code == 143, "bound: exit %d", code);
    const char *changed[] = {"--layers 3",      "--channels 24", "--heads 1", "--hidden 32",
                             "--mask-rate 0.3", "--grad-clip 2", "--seed 5"};
    for (size_t i = 0; i < sizeof changed / sizeof *changed; i++) {
        snprintf(command, sizeof command, "./train_optibert --out %s/bound --resume %s", d, changed[i]);
        check_refused(1, strtok(strdup(changed[i]), " "), command);
    }
    snprintf(command, sizeof command, "./train_optibert --out %s/bound --resume --val %s/t_val.bin", d, d);
    check_refused(1, "--val", command);
    // the same folder's data with its last token changed, then its first
    size_t n;
    char *data = slurp(scratch("t_train.bin"), &n);
    const size_t places[] = {n - 2, HEADER * 4};
    for (int i = 0; i < 2; i++) {
        data[places[i]] ^= 1, write_bytes(scratch("t_train.bin"), data, n), data[places[i]] ^= 1;
        snprintf(command, sizeof command, "./train_optibert --out %s/bound --resume", d);
        check_refused(1, "not the files", command);
    }
    write_bytes(scratch("t_train.bin"), data, n), free(data);
    // a folder in use, by this process
    int fd = open(scratch("bound"), O_RDONLY);
    flock(fd, LOCK_EX);
    check_refused(1, "another run", command);
    snprintf(command, sizeof command, "./train_optibert --out %s/bound --overwrite", d);
    check_refused(1, "another run", command);
    close(fd);
    // the seconds spent are those of all parts: let the first one have taken 1000
    char *file = slurp(scratch("bound/checkpoint.bin"), &n);
    size_t text = (size_t)((uint64_t *)file)[2];
    const double thousand = 1000;
    memcpy(file + 24 + text + offsetof(Progress, seconds), &thousand, sizeof thousand);
    uint64_t sum = checksum_add(CHECKSUM_START, file, n - 8);
    memcpy(file + n - 8, &sum, 8), write_bytes(scratch("bound/checkpoint.bin"), file, n), free(file);
    check(shell(RUN_IT "--out %s/bound --resume --points %s/bound.csv", d,
                d) == 0,
          "bound: it cannot be resumed");
    char *csv = slurp(scratch("bound.csv"), NULL), *row = strchr(csv, '\n');
    check(row && atof(field(row + 1, 21)) >= 1000, "bound: seconds before the last part are forgotten: %s",
          csv);
    free(csv);
    char *log = slurp(scratch("bound/main.log"), NULL);
    check(strstr(log, "\ns:3 tel:") && strstr(log, "\ns:6 tel:") && strstr(log, "\ns:8 tel:") &&
              !strstr(log, "\ns:5 tel:"),
          "bound: --val-every was not kept: %s", log);
    free(log);
    code = shell(STOPPED "--steps 8 --out %s/bound", d, d); // a finished run is replaced
    check(code == 143, "bound: exit %d", code);
    check(shell(TRAIN "--steps 2 --out %s/bound --overwrite", d, d) == 0,
          "--overwrite fails on an unfinished run");
    // data and vocabularies that do not go together
    write_numbered(scratch("v100.bin"), 400, 100, 99), write_numbered(scratch("v101.bin"), 400, 101, 99);
    snprintf(command, sizeof command,
             "./train_optibert --seq-len 8 --train %s/v100.bin --val %s/v101.bin --out %s/none", d, d, d);
    check_refused(1, "v101.bin", command);
    snprintf(command, sizeof command,
             "./train_optibert --seq-len 8 --train %s/v100.bin %s/v101.bin --val %s/v100.bin --out %s/none",
             d, d, d, d);
    check_refused(1, "v101.bin", command);
    snprintf(command, sizeof command,
             "./train_optibert --seq-len 500 --train %s/v100.bin --val %s/t_train.bin --out %s/none", d, d,
             d);
    check(shell("%s", command) == 1, "a vocabulary of 100 with one of 931");
    snprintf(command, sizeof command,
             "./train_optibert --seq-len 500 --train %s/t_train.bin --val %s/v100.bin --out %s/none", d, d,
             d);
    check(shell("%s", command) == 1, "a vocabulary of 931 with one of 100");
    snprintf(
        command, sizeof command,
        "./train_optibert --seq-len 401 --val-rows 1 --train %s/v100.bin --val %s/v100.bin --out %s/none", d,
        d, d);
    check_refused(1, "not one row", command);
    snprintf(command, sizeof command,
             "./train_optibert --seq-len 16 --train %s/t_train.bin --val-rows 76 --out %s/none", d, d);
    check_refused(2, "only 75 rows", command);
    check(shell("OMP_WAIT_POLICY=passive ./train_optibert --seq-len 8 --steps 1 --train %s/v100.bin --val "
                "%s/v100.bin --vocab %s/t.vocab "
                "--out %s/none >/dev/null",
                d, d, d, d) == 1,
          "a vocabulary of 931 strings for data of 100");
}

// --fill must say what the model says of: end of text, He, likes, [MASK], and, [MASK], full stop. So it is
// worked out here.
static void test_fill(void) {
    const char *d = scratch_dir;
    char command[512];
    check(shell(TRAIN "--steps 60 --lr 0.02 --out %s/fill", d, d) == 0, "fill: no model");
    check(shell("OMP_WAIT_POLICY=passive ./train_optibert --out %s/fill --fill 'He has [MASK] and [MASK].'",
                d) == 0,
          "--fill fails");
    char *out = slurp(scratch("stdout"), NULL), *at = out;
    Vocab v;
    Model m;
    vocab_load(&v, scratch("t.vocab")), load_model(&m, scratch("fill/model.bin"), 7);
    int32_t in[7] = {v.eot,
                     vocab_find(&v, " He", 3),
                     vocab_find(&v, " has", 4),
                     (int32_t)v.V,
                     vocab_find(&v, " and", 4),
                     (int32_t)v.V,
                     vocab_find(&v, ".", 1)};
    size_t ends[7] = {7, 7, 7, 7, 7, 7, 7}, rows[2] = {3, 5};
    int32_t none[2] = {0, 0};
    Batch batch = {1, 2, in, ends, rows, none};
    check(in[1] > 0 && in[2] > 0 && in[4] > 0 && in[6] >= 0, "fill: the village lost a word");
    model_forward(&m, &batch);
    for (int k = 0; k < 2; k++) {
        const float *x = m.logits + (size_t)k * (v.V + 1);
        double sum = 0, last = INFINITY;
        for (size_t i = 0; i <= v.V; i++) sum += exp((double)x[i]);
        for (int j = 0; j < 5; j++) {
            size_t best = v.V;
            for (size_t i = 0; i < v.V; i++)
                if (x[i] < last && (best == v.V || x[i] > x[best])) best = i;
            last = x[best];
            char want[300], got[300] = "";
            snprintf(want, sizeof want, "\"%.*s\"", v.length[best], v.string[best]);
            double percent = 0;
            at = strchr(at, '"');
            if (!at || sscanf(at, "%299[^%]", got) != 1) {
                check(0, "fill: too few guesses: %s", out);
                at = out;
                continue;
            }
            sscanf(got + strlen(want), " %lf", &percent);
            check(strncmp(got, want, strlen(want)) == 0 &&
                      fabs(percent - 100 * exp((double)x[best]) / sum) < 0.06,
                  "fill: guess %d of [MASK] %d is %s, not %s %.1f", j + 1, k + 1, got, want,
                  100 * exp((double)x[best]) / sum);
            at += strlen(got);
        }
    }
    free(out), model_free(&m);
    #define FILL "./train_optibert --out %s/fill --fill "
    snprintf(command, sizeof command, FILL "'He has a cat.'", d), check_refused(2, "[MASK]", command);
    snprintf(command, sizeof command,
             FILL "'He has [MASK][MASK][MASK][MASK][MASK][MASK][MASK][MASK][MASK][MASK][MASK][MASK].'", d);
    check(shell("%s", command) == 0, "--fill: 16 tokens do not fit");
    snprintf(command, sizeof command,
             FILL "'He has [MASK][MASK][MASK][MASK][MASK][MASK][MASK][MASK][MASK][MASK][MASK][MASK][MASK].'",
             d);
    check_refused(1, "17 are given", command);
    check(shell(TRAIN "--steps 1 --objective ntp --out %s/causal", d, d) == 0, "fill: no model");
    snprintf(command, sizeof command, "./train_optibert --out %s/causal --fill 'He [MASK]'", d),
        check_refused(1, "not [MASK]", command);
    write_numbered(scratch("v100.bin"), 400, 100, 99);
    check(shell("./train_optibert --seq-len 8 --steps 1 --channels 4 --train %s/v100.bin --val %s/v100.bin "
                "--out %s/v100",
                d, d, d) == 0,
          "fill: no model");
    snprintf(command, sizeof command,
             "./train_optibert --load %s/v100/model.bin --vocab %s/t.vocab --fill 'He [MASK]'", d, d);
    check_refused(1, "931 strings", command);
}

// kill -9 at any moment: what is left can be resumed, and no line of the log up to the checkpoint is lost.
static void test_killed(void) {
    const char *d = scratch_dir;
    const char *more = "--steps 200 --val-every 200 --save-every 3";
    check(shell(TRAIN "%s --out %s/calm", d, more, d) == 0, "killed: the calm run fails");
    shell(TRAIN "%s --out %s/killed & p=$!; for i in $(seq 3000); do "
                "[ -f %s/killed/checkpoint.bin ] && break; sleep 0.01; done; kill -9 $p; wait $p",
          d, more, d, d);
    check(access(scratch("killed/checkpoint.bin"), F_OK) == 0, "killed: --save-every 3 saved nothing");
    for (int i = 0; i < 4; i++)
        shell("OMP_WAIT_POLICY=passive timeout -s KILL 0.0%d ./test_optibert run --out %s/killed --resume",
              4 + i, d);
    // timeout may return before what it killed has let go of the folder
    check(shell("for i in $(seq 99); do " RUN_IT "--out %s/killed --resume && exit 0; sleep 0.1; done; false",
                d) == 0, "killed: cannot be resumed");
    check(same_file(scratch("calm/model.bin"), scratch("killed/model.bin")), "killed: ends in another model");
    check(same_file(scratch("calm/main.log"), scratch("killed/main.log")), "killed: main.log has lost lines");
    check(shell("[ $(ls %s/killed | wc -l) = 3 ]", d) == 0, "killed: temporary files stay behind");
}

// A command that fails before it has begun to train leaves the finished run in DIR as it was.
static void test_finished_run_is_safe(void) {
    const char *d = scratch_dir;
    check(shell(TRAIN "--steps 1 --out %s/safe", d, d) == 0, "safe: no run");
    const char *bad[] = {"--vocab /nowhere", "--mask-rate 0"};
    for (int i = 0; i < 2; i++) {
        check(shell(TRAIN "--steps 1 --out %s/safe %s", d, d, bad[i]) != 0, "safe: %s is accepted", bad[i]);
        check(access(scratch("safe/model.bin"), F_OK) == 0, "safe: %s removed the finished run's model",
              bad[i]);
    }
    // results that cannot be written are no success; closed streams never become the run's files
    check(shell("./train_optibert --out %s/p --fill 'He [MASK]' >/dev/full; [ $? = 1 ]", d) == 0,
          "--fill to a full device exits 0");
    check(shell("OMP_WAIT_POLICY=passive ./train_optibert " TINY
                " --steps 1 --out %s/closed <&- >&- 2>&-; grep -vq '^s:' %s/closed/main.log; [ $? = 1 ]",
                d, d, d) == 0,
          "with its streams closed it prints into main.log");
    check(shell(TRAIN "--tokens 1e18 --dry-run", d) == 2,
          "--tokens 1e18 means more steps than --steps takes");
    check_refused(2, "--fill", "./train_optibert --vocab data/village.vocab --fill ''");
    // a row that was cut short (a full disk) is closed before another is written
    FILE *f = fopen(scratch("cut.csv"), "w");
    fputs(points_header, f), fputs("mlm,2,20,2", f), fclose(f);
    shell(TRAIN "--steps 1 --out %s/safe --points %s/cut.csv", d, d, d);
    char *csv = slurp(scratch("cut.csv"), NULL);
    check(strstr(csv, "\nmlm,2,20,2,24,16,") != NULL, "points: a row was glued to half a row: %s", csv);
    free(csv);
}

// Attention against its definition in doubles, where no PyTorch record reaches: documents of more than QB
// positions, and that begin behind 0; more keys than KC; heads of more than KC channels.
static void test_attention(size_t T, size_t HS, int causal) {
    size_t B = 2, NH = 2, C = NH * HS, N = B * T;
    const size_t ends[2][3] = {{7 * T / 100, T, T}, {T / 2 + 3, T / 2 + 20, T}};
    float *qkv = alloc_or_die(N * 3 * C * 4), *out = alloc_or_die(N * C * 4), *lse = alloc_or_die(N * NH * 4),
          *dout = alloc_or_die(N * C * 4);
    float *dqkv = alloc_or_die(N * 3 * C * 4), *room = alloc_or_die(3 * attention_scratch(T, HS) * 4);
    double *p = alloc_or_die(T * 8), *want = alloc_or_die(N * 3 * C * 8), *y = alloc_or_die(HS * 8),
           worst = 0, worst_d = 0, worst_lse = 0;
    size_t *doc_end = alloc_or_die(N * sizeof *doc_end);
    random_fill(qkv, N * 3 * C, 21), random_fill(dout, N * C, 22), random_fill(dqkv, N * 3 * C, 23);
    for (size_t i = 0; i < N * 3 * C; i++) qkv[i] *= i % (3 * C) < 2 * C ? 3 / sqrtf(sqrtf((float)HS)) : 1;
    for (size_t b = 0; b < B; b++)
        for (size_t t = 0; t < T; t++)
            doc_end[b * T + t] = t < ends[b][0] ? ends[b][0] : t < ends[b][1] ? ends[b][1] : ends[b][2];
    Attention a = {B, T, C, NH, causal, doc_end, NULL, N, room};
    #pragma omp parallel num_threads(3)
    {
        attention_forward(out, lse, qkv, 3 * C, qkv + C, qkv + 2 * C, 3 * C, &a);
        attention_backward(dqkv, dqkv + C, dqkv + 2 * C, dout, lse, qkv, 3 * C, qkv + C, qkv + 2 * C,
                           3 * C, &a);
    }
    for (size_t b = 0; b < B; b++)
        for (size_t h = 0; h < NH; h++)
            for (size_t t = 0, first = 0; t < T; t++) {
                if (t > 0 && doc_end[b * T + t] != doc_end[b * T + t - 1]) first = t;
                size_t end = causal ? t + 1 : doc_end[b * T + t];
                const float *q = qkv + (b * T + t) * 3 * C + h * HS, *dy = dout + (b * T + t) * C + h * HS;
                double sum = 0, dot = 0, *dq = want + (b * T + t) * 3 * C + h * HS;
                memset(y, 0, HS * 8);
                for (size_t j = first; j < end; j++) {
                    const float *k = qkv + (b * T + j) * 3 * C + C + h * HS;
                    p[j] = 0;
                    for (size_t c = 0; c < HS; c++) p[j] += (double)q[c] * k[c] / sqrt((double)HS);
                    sum += p[j] = exp(p[j]);
                }
                for (size_t j = first; j < end; j++)
                    for (size_t c = 0; c < HS; c++)
                        y[c] += p[j] / sum * qkv[(b * T + j) * 3 * C + 2 * C + h * HS + c];
                for (size_t c = 0; c < HS; c++) {
                    worst = larger(worst, fabs(out[(b * T + t) * C + h * HS + c] - y[c]));
                    dot += y[c] * dy[c];
                }
                worst_lse = larger(worst_lse, fabs(lse[(b * T + t) * NH + h] - log(sum)));
                for (size_t j = first; j < end; j++) {
                    const float *k = qkv + (b * T + j) * 3 * C + C + h * HS, *v = k + C;
                    double dp = 0, *dk = want + (b * T + j) * 3 * C + C + h * HS, *dv = dk + C;
                    for (size_t c = 0; c < HS; c++) dp += (double)dy[c] * v[c];
                    double ds = p[j] / sum * (dp - dot) / sqrt((double)HS);
                    for (size_t c = 0; c < HS; c++)
                        dq[c] += ds * k[c], dk[c] += ds * q[c], dv[c] += p[j] / sum * dy[c];
                }
            }
    double largest = 0;
    for (size_t i = 0; i < N * 3 * C; i++)
        largest = larger(largest, fabs(want[i])), worst_d = larger(worst_d, fabs(dqkv[i] - want[i]));
    check(worst < 5e-6 && worst_lse < 5e-6 && worst_d < 5e-6 * largest,
          "attention (T %zu, HS %zu, causal %d): off by %g, lse %g, gradient %g of %g", T, HS, causal, worst,
          worst_lse, worst_d, largest);
    free(qkv), free(out), free(lse), free(dout), free(dqkv), free(room), free(p), free(want), free(y),
        free(doc_end);
}

static void test_row_max(void) {
    float x[70];
    for (size_t n = 1; n <= 70; n++)
        for (size_t at = 0; at < n; at++) {
            for (size_t i = 0; i < n; i++) x[i] = -(float)(i % 7) - 1;
            x[at] = 5;
            check(row_max(x, n) == 5, "row_max: the largest of %zu at %zu is missed", n, at);
        }
}

// What a checkpoint keeps though it may change: the vocabulary's place, the budget, how often to save. And
// [MASK] is never guessed.
static void test_kept(void) {
    const char *d = scratch_dir;
    int32_t h[HEADER] = {VOCAB_MAGIC, 2, 100, 99};
    FILE *f = fopen(scratch("words.vocab"), "wb");
    fwrite(h, sizeof h, 1, f);
    for (int i = 0; i < 100; i++) fprintf(f, "%c word%02d", 7, i);
    fclose(f);
    write_numbered(scratch("w_train.bin"), 400, 100, 99), write_numbered(scratch("w_val.bin"), 400, 100, 99);
#define WORDS                                                                                                \
    "--train %s/w_train.bin --vocab %s/words.vocab --channels 8 --heads 1 --layers 1 --hidden 16 --seq-len " \
    "16 --batch 5 "
    const char *more =
        "--flops 1.6e6 --save-every 3 --objective"; // F_N = 5376 a token, 430080 a step: 3.7 steps
    for (int causal = 0; causal < 2; causal++) {
        shell("OMP_WAIT_POLICY=passive ./test_optibert stopped " WORDS "%s %s --out %s/kept%d", d, d, more,
              causal ? "ntp" : "mlm", d, causal);
        int code =
            shell("OMP_WAIT_POLICY=passive ./train_optibert --out %s/kept%d --resume --points %s/kept.csv", d,
                  causal, d);
        check(code == 0, "kept: exit %d", code);
    }
    char *csv = slurp(scratch("kept.csv"), NULL), *mlm = strstr(csv, "\nmlm"), *ntp = strstr(csv, "\nntp");
    check(mlm && strcmp(field(mlm, 25), "1600000") == 0 && strcmp(field(mlm, 14), "4") == 0 &&
              strcmp(field(mlm, 16), "0.2") == 0,
          "kept: %s", csv);
    check(ntp && strcmp(field(ntp, 25), "1600000") == 0 && strcmp(field(ntp, 16), "1") == 0, "kept: %s", csv);
    free(csv);
    size_t n;
    char *file = slurp(scratch("kept0/checkpoint.bin"), &n);
    check(n > 32 && strstr(file + 24, "\nsave-every 3\n") && strstr(file + 24, "words.vocab\n"),
          "kept: not all settings");
    free(file);
    check(shell("./train_optibert --out %s/kept0 --fill 'word03 [MASK]'", d) == 0,
          "--fill does not know the run's own vocabulary");

    // --save-every: a run that is killed without warning has left something
    shell(TRAIN "--steps 1e6 --val-every 1e6 --save-every 3 --out %s/every & p=$!; for i in $(seq 3000); do "
                "[ -f %s/every/checkpoint.bin ] && break; sleep 0.01; done; kill -9 $p; wait $p",
          d, d, d);
    check(access(scratch("every/checkpoint.bin"), F_OK) == 0, "--save-every 3 saves nothing");

    Model m;
    load_model(&m, scratch("kept0/model.bin"), 3);
    int32_t in[3] = {99, 3, 100}, none[1] = {0};
    size_t ends[3] = {3, 3, 3}, rows[1] = {2};
    for (int tries = 0; tries < 2; tries++) { // [MASK]'s own logit, by far the largest
        model_forward(&m, &(Batch){1, 1, in, ends, rows, none});
        if (m.logits[100] > 5) break;
        for (int c = 0; c < 8; c++) m.params[m.tensor[WTE].offset + 800 + (size_t)c] = 3 * m.nf[c];
    }
    save_model(scratch("mask.bin"), &m);
    model_forward(&m, &(Batch){1, 1, in, ends, rows, none});
    size_t larger_ones = 0;
    for (int v = 0; v < 100; v++) larger_ones += m.logits[v] > m.logits[100];
    check(larger_ones < 5, "kept: the test's [MASK] is not among the five");
    check(shell("./train_optibert --load %s/mask.bin --vocab %s/words.vocab --fill 'word03 [MASK]'", d, d) ==
              0,
          "--fill fails");
    char *out = slurp(scratch("stdout"), NULL), *at = out;
    for (int i = 0; i < 5; i++) {
        at = strstr(at, "\" word");
        if (!at) break;
        at++;
    }
    check(at != NULL, "--fill guesses [MASK] itself: %s", out);
    free(out), model_free(&m);

    // two files longer than what is read of each end, that differ in their last token alone
    Shards a, b;
    const char *one = strdup(scratch("one.bin")), *two = strdup(scratch("two.bin"));
    write_numbered(one, 100000, 100, 99);
    file = slurp(one, &n), file[n - 2] ^= 1, write_bytes(two, file, n), free(file);
    shards_open(&a, &one, 1), shards_open(&b, &two, 1);
    check(fingerprint(0, &a) == fingerprint(0, &a) && fingerprint(0, &a) != fingerprint(0, &b),
          "fingerprint: the tail does not count");
}

// A vocabulary of all bytes and a few merges; encoding it by hand.
static void test_encode(void) {
    Vocab v = {.V = 266, .eot = 265};
    const char *more[] = {"ab", "bc", "abc",  " a", "aa",
                          "12", "a1", "\t\n", "ab", "<|endoftext|>"}; // 256 …; "ab" once more as 264
    v.length = alloc_or_die(v.V), v.string = alloc_or_die(v.V * sizeof *v.string);
    for (int i = 0; i < 266; i++) {
        v.length[i] = i < 256 ? 1 : (unsigned char)strlen(more[i - 256]);
        v.string[i] = alloc_or_die(20);
        if (i < 256) v.string[i][0] = (char)i;
        else strcpy(v.string[i], more[i - 256]);
    }
    vocab_index(&v);
    check(v.has_bytes && vocab_find(&v, "ab", 2) == 256 && vocab_find(&v, "<|endoftext|>", 13) == -1,
          "vocab: a wrong id");
    const struct { const char *text; int n, ids[8]; } cases[] = {
        {"abc", 1, {258}},
        {"abcab", 2, {258, 256}},
        {"bcab", 2, {257, 256}},
        {"aaa", 2, {260, 'a'}},
        {"aaaa", 2, {260, 260}},
        {" abc", 2, {' ', 258}},
        {" ac", 2, {259, 'c'}},
        {"x a", 2, {'x', 259}},
        {"  a", 3, {' ', ' ', 'a'}},
        {"a12", 2, {'a', 261}},
        {"12a1", 3, {261, 'a', '1'}},
        {"\t\n", 1, {263}},
        {"\303\251", 2, {0303, 0251}},
        {"ab.", 2, {256, '.'}},
        {"bcbc", 2, {257, 257}},
    };
    uint16_t ids[300];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n = encode(&v, cases[i].text, strlen(cases[i].text), ids);
        int same = n == (size_t)cases[i].n;
        for (int j = 0; same && j < cases[i].n; j++) same = ids[j] == cases[i].ids[j];
        check(same, "encode: \"%s\" gives %zu ids, %d %d …", cases[i].text, n, ids[0], ids[1]);
    }
    const struct {
        const char *text;
        size_t n;
    } pieces[] = {{"ab cd", 2}, {" ab cd", 3},      {"  ab", 2},   {"12ab", 2}, {" 12 ", 3}, {".,!a", 3},
                  {" .a", 2},   {"a\303\251b1", 4}, {"\t\n a", 3}, {" ", 1},    {"a\tb", 1}, {"1.5", 1}};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        check(piece_length(pieces[i].text, strlen(pieces[i].text)) == pieces[i].n,
              "piece_length(\"%s\") = %zu", pieces[i].text,
              piece_length(pieces[i].text, strlen(pieces[i].text)));
    char long_word[255];
    memset(long_word, 'x', 255);
    for (size_t n = 63; n < 68; n++)
        check(encode_piece(&v, long_word, n, ids) == n, "encode_piece: %zu letters", n);
    free(v.string[264]), free(v.slots), v.length[264] = 255,
                                        v.string[264] = long_word; // the longest string that there can be
    vocab_index(&v);
    check(vocab_find(&v, long_word, 255) == 264, "vocab_find: 255 bytes are not found");
    // llm.c's first version of the file says nothing of the end of text: it is GPT-2's
    int32_t h[HEADER] = {VOCAB_MAGIC, 1, 50257, 7};
    char *file = alloc_or_die(sizeof h + 50257 * 2);
    memcpy(file, h, sizeof h), memset(file + sizeof h, 1, 50257 * 2);
    write_bytes(scratch("one.vocab"), file, sizeof h + 50257 * 2);
    Vocab old;
    vocab_load(&old, scratch("one.vocab"));
    check(old.V == 50257 && old.eot == 50256, "vocabulary version 1: V %zu, end of text %d", old.V, old.eot);
    file[sizeof h] = 0, write_bytes(scratch("one.vocab"), file, sizeof h + 50257 * 2), free(file);
    char command[512];
    snprintf(command, sizeof command, "./train_optibert --out %s/q --vocab %s/one.vocab --fill '[MASK]'",
             scratch_dir, scratch_dir);
    check_refused(1, "is empty", command);
    int32_t s[HEADER] = {SHARD_MAGIC, 1, 0, 100, -5};
    write_bytes(scratch("minus.bin"), s, sizeof s);
    snprintf(command, sizeof command, "./train_optibert --train %s/minus.bin --val %s/minus.bin", scratch_dir,
             scratch_dir);
    check_refused(1, "end of text", command);
}

// ----------------------------------------------------------------------------
// the village: data/village.c

// A language small enough that every text of a row's length can be listed. Its sentences are hard to tell
// apart where a token or two is hidden, and one of them has no full stop.
static const VillageClass tiny_classes[] = {
    {"name", VILLAGE_FIRST, "Al Bo", NULL},
    {"family", VILLAGE_LAST, "Xi Yo", NULL},
    {"He", VILLAGE_SEX, "He She", NULL},
    {"town", VILLAGE_FACT, "Ulm Rom", NULL},
    {"day", VILLAGE_FREE, "today never", NULL},
};
static const VillageTemplate tiny_templates[] = {
    {2.0, "{name} in {town} ."},
    {1.0, "{name} {family} {day} ."},
    {1.5, "{He} ."},
    {0.7, "in {day}"},
    {0.4, "{day} {name} ."},
};
static const VillageLanguage tiny_language = {tiny_classes, 5, tiny_templates, 5, 0.6};

// Brute force, from the definition of the process alone: walk through every text that it can produce at the
// row's positions, for every person and from every place in a document.
typedef struct {
    const VillageWorld *w;
    const uint16_t *x;
    const char *hidden;
    int n;
    uint16_t text[32];       // the text of this walk so far
    double total, agree[32]; // probability of the visible tokens; and of them and x[t] at t
} BruteForce;

static void brute_walk(BruteForce *f, int t, int person, int k, int at, double prob) {
    const VillageWorld *w = f->w;
    if (t == f->n) {
        f->total += prob;
        for (int i = 0; i < f->n; i++)
            if (f->text[i] == f->x[i]) f->agree[i] += prob;
        return;
    }
    for (int token = 0; token < (int)w->vocab.V; token++) {
        double p = 0; // of this token, in this state of the process
        int eot = token == w->vocab.eot;
        if (f->hidden[t] ? eot : token != f->x[t]) continue;
        if (k < 0) p = eot;
        else if (!eot && w->class_of[token] == w->slot[k][at]) {
            int fact = w->fact[w->class_of[token]];
            p = fact < 0 ? w->prob[token] : w->facts[person * w->n_facts + fact] == token;
        }
        if (p == 0) continue;
        f->text[t] = (uint16_t)token;
        if (k >= 0 && at + 1 < w->length[k]) {
            brute_walk(f, t + 1, person, k, at + 1, prob * p);
            continue;
        }
        for (int next = 0; next < w->n_templates; next++) { // a sentence follows, of the same or a new person
            double said = prob * p * w->template_prob[next];
            if (k >= 0) brute_walk(f, t + 1, person, next, 0, said * w->more);
            else for (int who = 0; who < (int)w->people; who++)
                brute_walk(f, t + 1, who, next, 0, said * w->person_prob[who]);
        }
        if (k >= 0) brute_walk(f, t + 1, person, -1, 0, prob * p * (1 - w->more)); // the document ends
    }
}

// The share of time that the process spends at each place of each template ([k][at]) or at an end of text
// (the result), found by letting it run.
static double brute_stationary(const VillageWorld *w, double share[8][VILLAGE_SLOTS]) {
    double eot = 1, next[8][VILLAGE_SLOTS], next_eot;
    memset(share, 0, sizeof(double[8][VILLAGE_SLOTS]));
    for (int step = 0; step < 3000; step++, eot = next_eot, memcpy(share, next, sizeof next)) {
        memset(next, 0, sizeof next), next_eot = 0;
        for (int k = 0; k < w->n_templates; k++) {
            next[k][0] += eot * w->template_prob[k];
            for (int at = 0; at + 1 < w->length[k]; at++) next[k][at + 1] += share[k][at];
            double done = share[k][w->length[k] - 1];
            for (int to = 0; to < w->n_templates; to++) next[to][0] += done * w->more * w->template_prob[to];
            next_eot += done * (1 - w->more);
        }
    }
    return eot;
}

static void brute_force(BruteForce *f) {
    double share[8][VILLAGE_SLOTS], eot = brute_stationary(f->w, share);
    f->total = 0, memset(f->agree, 0, sizeof f->agree);
    brute_walk(f, 0, -1, -1, 0, eot);
    for (int who = 0; who < (int)f->w->people; who++)
        for (int k = 0; k < f->w->n_templates; k++)
            for (int at = 0; at < f->w->length[k]; at++)
                brute_walk(f, 0, who, k, at, share[k][at] * f->w->person_prob[who]);
}

// The oracle is the brute force: for rows cut anywhere out of a text, with few and many tokens hidden.
static void test_village_oracle(void) {
    VillageWorld *w = village_world(&tiny_language, 3, 3, 1);
    VillageText text;
    int seen[5] = {0}; // rows that begin and end with an end of text, have none, several, begin in a sentence
    check(w->vocab.V == 13 && w->longest == 4, "tiny village: V = %zu, longest %d", w->vocab.V, w->longest);
    village_begin(&text, w, 1);
    for (int row = 0; row < 300; row++) {
        uint16_t x[9];
        char hidden[9], none[9] = {0};
        double want = 0, nats = 0, rate = (double[]){0.2, 0.5, 0.9}[row % 3];
        int n = 1 + row % 9, eots = 0, inside = text.at > 0;
        for (int t = 0; t < n; t++) {
            x[t] = village_next(&text);
            hidden[t] = x[t] != w->vocab.eot && uniform(5, 0, (uint64_t)(row * 9 + t)) < rate;
            eots += x[t] == w->vocab.eot;
        }
        seen[0] += x[0] == w->vocab.eot, seen[1] += x[n - 1] == w->vocab.eot;
        seen[2] += eots == 0, seen[3] += eots > 1, seen[4] += inside;
        BruteForce f = {.w = w, .x = x, .hidden = hidden, .n = n};
        brute_force(&f);
        for (int t = 0; t < n; t++) want -= hidden[t] ? log(f.agree[t] / f.total) : 0;
        double log_prob = village_row(w, x, hidden, n, &nats);
        check(fabs(nats - want) < 1e-9, "village row %d: mlm %.12g, brute force %.12g", row, nats, want);
        want = log(f.total);
        check(fabs(log_prob - want) < 1e-9, "village row %d: log P %.12g, by force %.12g", row,
              log_prob, want);
        BruteForce whole = {.w = w, .x = x, .hidden = none, .n = n}, first = whole;
        first.n = 1;
        brute_force(&whole), brute_force(&first);
        want = log(first.total / whole.total);
        nats = village_row(w, x, none, 1, NULL) - village_row(w, x, none, n, NULL);
        check(fabs(nats - want) < 1e-9, "village row %d: ntp %.12g, brute force %.12g", row, nats, want);
    }
    for (int i = 0; i < 5; i++) check(seen[i] >= 20, "village: only %d rows of kind %d", seen[i], i);
    village_world_free(w);
}

// Is `count` of n draws what probability p gives? Within 5 standard deviations, and a little for small
// numbers.
static int likely_count(double count, double n, double p) {
    return fabs(count - n * p) < 5 * sqrt(n * p) + 3;
}

// What the oracle takes for the probability of any two neighbours is how often they are met: at the beginning
// of texts, which begin in the stationary state, and far inside one long text.
static void test_village_stationary(void) {
    enum { N = 100000, V = 13 };
    VillageWorld *w = village_world(&tiny_language, 3, 3, 1);
    VillageText text, other;
    double *begin = alloc_or_die(2 * V * V * sizeof *begin), *inside = begin + V * V;
    village_begin(&text, w, 1);
    for (int i = 0; i < N; i++) {
        village_begin(&other, w, 1000 + (uint64_t)i);
        int a = village_next(&other), b = village_next(&other);
        begin[a * V + b]++;
        for (int skip = 0; skip < 40; skip++) village_next(&text);
        a = village_next(&text), b = village_next(&text);
        inside[a * V + b]++;
    }
    for (int i = 0; i < V * V; i++) {
        uint16_t x[2] = {(uint16_t)(i / V), (uint16_t)(i % V)};
        double p = exp(village_row(w, x, "\0\0", 2, NULL));
        check(likely_count(begin[i], N, p), "village: %d %d begin %g of %d texts", x[0], x[1], begin[i], N);
        check(likely_count(inside[i], N, p), "village: %d %d stand %g times of %d", x[0], x[1], inside[i], N);
    }
    free(begin), village_world_free(w);
}

// In the real language: what the oracle gives to all tokens that might stand at a hidden place sums to 1.
// (With two hidden places the sums over each are what it gives to the other: their product is what it gives
// to both.) And the people are as described: all names differ, a sex goes with the first name, facts are
// spread evenly.
static void test_village_world(void) {
    VillageWorld *w = village_world(&village_language, 1, 32768, 1);
    VillageText text;
    size_t nf = (size_t)w->n_facts;
    village_begin(&text, w, 7);
    for (int row = 0; row < 4; row++) {
        uint16_t x[48];
        char hidden[48] = {0};
        int place[2], n = 0;
        for (int t = 0; t < 48; t++) x[t] = village_next(&text);
        for (uint64_t i = 0; n < 2; i++) {
            int t = (int)(48 * uniform(9, (uint64_t)row, i));
            if (x[t] != w->vocab.eot && !hidden[t]) hidden[t] = 1, place[n++] = t;
        }
        double both = 0, sum[2] = {0};
        village_row(w, x, hidden, 48, &both);
        for (int i = 0; i < 2; i++) {
            uint16_t keep = x[place[i]];
            for (size_t v = 0; v < w->vocab.V; v++) {
                double nats = 0;
                if ((int)v == w->vocab.eot) continue;
                x[place[i]] = (uint16_t)v;
                village_row(w, x, hidden, 48, &nats);
                sum[i] += exp(-nats);
            }
            x[place[i]] = keep;
        }
        check(fabs(log(sum[0] * sum[1]) + both) < 1e-9, "village: sum of probabilities at %d and %d %g",
              place[0], place[1], sum[0] * sum[1] / exp(-both));
    }
    char *taken = alloc_or_die(65536);
    double *count = alloc_or_die(w->vocab.V * sizeof *count), zipf = 0;
    for (size_t p = 0; p < w->people; p++) {
        const uint16_t *facts = w->facts + p * nf;
        int first = facts[0] - w->first[0], last = facts[1] - w->first[1], he = facts[2] - w->first[2];
        check(!taken[first * 256 + last]++, "village: person %zu has someone else's name", p);
        check(he == first % 2 && facts[3] - w->first[3] == he, "village: person %zu has the wrong sex", p);
        for (size_t f = 0; f < nf; f++) count[facts[f]]++;
        zipf += 1 / (double)(p + 1);
    }
    int six = vocab_find(&w->vocab, " six", 4); // the fifth of eight numbers; 1 + … + 1/8 = 761/280
    check(six > 0 && fabs(w->prob[six] - 56.0 / 761) < 1e-12, "village: \"six\" has %g", w->prob[six]);
    check(fabs(w->person_prob[9] * zipf * 10 - 1) < 1e-12, "village: person 10 has %g", w->person_prob[9]);
    for (int c = 0; c < w->n_classes; c++)
        for (int i = 0; i < w->size[c] && w->fact[c] >= 0; i++)
            check(likely_count(count[w->first[c] + i], (double)w->people, 1.0 / w->size[c]),
                  "village: fact %d of class %d has %g people", i, c, count[w->first[c] + i]);
    free(taken), free(count), village_world_free(w);
}

// Run the program in here, quietly. `command` is its command line, without its name. Returns the exit code.
static int run_village(char *command) {
    char *argv[24] = {"village"};
    int argc = 1, keep, null = open("/dev/null", O_WRONLY);
    const char *name = program;
    for (char *word = strtok(command, " "); word; word = strtok(NULL, " ")) argv[argc++] = word;
    fflush(stdout), keep = dup(1), dup2(null, 1);
    int code = village_main(argc, argv);
    fflush(stdout), dup2(keep, 1), close(keep), close(null);
    program = name;
    return code;
}

static char *village_file(const char *path, size_t *n) {
    Reader r;
    reader_open(&r, path);
    char *bytes = alloc_or_die(r.size + 1);
    reader_get(&r, bytes, *n = r.size);
    fclose(r.file);
    return bytes;
}

// The same options give the same bytes, whatever the threads; the files are what their formats say; the
// vocabulary encodes the text that it decodes to; a floor is added once, and is that of the file's own rows.
static void test_village_files(void) {
    char dir[] = "/tmp/test_village.XXXXXX", command[PATH_MAX], path[2][PATH_MAX];
    const char *names[] = {"_train.bin", "_val.bin", ".vocab", "_val.floor"};
    check(mkdtemp(dir) != NULL, "village: no folder in /tmp");
    int before = omp_get_max_threads();
    for (int run = 0; run < 2; run++) {
        set_threads(1 + 2 * (size_t)run);
        snprintf(command, sizeof command, "--out %s/%d %s", dir, run,
                 "--tokens 2e5 --val-tokens 3e4 --people 500 --zipf 0.9 --seed 4");
        check(run_village(command) == 0, "village: exit code is not 0");
    }
    size_t n[2];
    for (int i = 0; i < 4; i++) {
        char *bytes[2];
        for (int run = 0; run < 2; run++) {
            snprintf(path[run], PATH_MAX, "%s/%d%s", dir, run, names[i]);
            bytes[run] = village_file(path[run], &n[run]);
        }
        check(n[0] == n[1] && !memcmp(bytes[0], bytes[1], n[0]), "village: two runs give two %s", names[i]);
        free(bytes[0]), free(bytes[1]);
    }

    Vocab v;
    Shards train, val;
    const char *train_path = path[0], *val_path = path[1];
    snprintf(path[0], PATH_MAX, "%s/0.vocab", dir), vocab_load(&v, path[0]);
    snprintf(path[0], PATH_MAX, "%s/0_train.bin", dir), shards_open(&train, &train_path, 1);
    snprintf(path[1], PATH_MAX, "%s/0_val.bin", dir), shards_open(&val, &val_path, 1);
    check(train.total == 200000 && val.total == 30000, "village: %zu and %zu tokens", train.total, val.total);
    check(v.V == train.V && v.eot == train.eot && v.eot == (int)v.V - 1 && !v.has_bytes,
          "village: vocabulary of %zu, end of text %d; shard: %zu, %d", v.V, v.eot, train.V, train.eot);
    enum { T = 5000 };
    uint16_t *x = alloc_or_die(3 * T * sizeof *x), *y = x + T, *ids = y + T;
    char *text = alloc_or_die(T * 24);
    size_t length = 0, words = 0, same = 0;
    shards_read(&train, 0, T, 0, x), shards_read(&val, 0, T, 0, y);
    for (int t = 0; t < T; t++) same += x[t] == y[t];
    check(same < T / 4, "village: %zu of %d tokens are the same in both texts", same, T);
    for (int t = 0; t < T; t++) {
        if (x[t] == v.eot) continue;
        memcpy(text + length, v.string[x[t]], v.length[x[t]]);
        length += v.length[x[t]], x[words++] = x[t];
    }
    size_t found = encode(&v, text, length, ids);
    check(found == words && !memcmp(x, ids, words * sizeof *x), "village: %zu words, then %zu", words, found);
    const char *sentence = " Maria Ashwood lives in Oxbridge.";
    check(encode(&v, sentence, strlen(sentence), ids) == 6, "village: \"%s\" is not six tokens", sentence);
    free(x), free(text);

    // --floor twice with the same settings adds one line, and its numbers are those of the rows of this file.
    for (int i = 0; i < 2; i++) {
        snprintf(command, PATH_MAX, "--floor --out %s/0 --objective ntp --seq-len 40 --val-rows 20", dir);
        check(run_village(command) == 0, "village --floor: exit code is not 0");
    }
    snprintf(path[0], PATH_MAX, "%s/0_val.floor", dir);
    char *floors = village_file(path[0], &n[0]), *line = strstr(floors, "\nntp 40 1 20 1 ");
    const char *head = "# village people 500 zipf 0.9 seed 4\n"
                       "# objective T mask_rate rows seed sum count se\n";
    check(!strncmp(floors, head, strlen(head)), "village: the floor file begins with \"%.40s…\"", floors);
    check(strstr(floors, "\nmlm 128 0.2 234 1 ") != NULL, "village: no default floor for mlm");
    check(strstr(floors, "\nntp 128 1 234 1 ") != NULL, "village: no default floor for ntp");
    check(line && !strstr(line + 1, "\nntp 40 1 20 1 "), "village: --floor added no line, or two");
    double sum = 0, se = 0, want = 0, mean = 0, squares = 0, nats[20];
    size_t count = 0;
    if (line) sscanf(line, "\nntp 40 1 20 1 %lf %zu %lf", &sum, &count, &se);
    VillageWorld *w = village_world(&village_language, 4, 500, 0.9);
    for (size_t r = 0; r < 20; r++) {
        uint16_t row[41];
        char hidden[41] = {0};
        shards_read(&val, val_row(r, 20, shards_rows(&val, 40, 1)), 40, 1, row);
        nats[r] = village_row(w, row, hidden, 1, NULL) - village_row(w, row, hidden, 41, NULL);
        want += nats[r], mean += nats[r] / 20;
    }
    for (int r = 0; r < 20; r++) squares += (nats[r] - mean) * (nats[r] - mean);
    check(count == 800 && fabs(sum - want) < 1e-9, "village: floor %g of %zu, not %g", sum, count, want);
    double plain = sqrt(squares / 19 / 20) / 40; // of a mean of 20 numbers, a fortieth each
    check(fabs(se - plain) < 1e-12, "village: standard error %g, not %g", se, plain);
    village_world_free(w), free(floors);
    for (int run = 0; run < 2; run++)
        for (int i = 0; i < 4; i++) {
            snprintf(path[0], PATH_MAX, "%s/%d%s", dir, run, names[i]);
            unlink(path[0]);
        }
    check(rmdir(dir) == 0, "village: leaves more files than it should in %s", dir);
    set_threads((size_t)before);
}

// Run `village COMMAND` in a child, which must fail with this exit code and one line that holds these words.
static void check_village_fails(const char *command, int code, const char *words) {
    char line[1024] = {0}, copy[PATH_MAX];
    int status, ends[2];
    snprintf(copy, sizeof copy, "%s", command);
    fflush(stdout), fflush(stderr);
    if (pipe(ends)) return check(0, "village: no pipe");
    pid_t child = fork();
    if (child == 0) {
        set_threads(1); // libgomp's threads do not live on in a child
        dup2(ends[1], 2);
        exit(run_village(copy));
    }
    close(ends[1]);
    ssize_t got, n = 0;
    while ((got = read(ends[0], line + n, sizeof line - 1 - (size_t)n)) > 0) n += got;
    close(ends[0]), waitpid(child, &status, 0);
    int exited = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    check(exited == code, "village %s: exit %d, not %d", command, exited, code);
    check(n > 0 && strchr(line, '\n') == line + n - 1, "village %s: not one line but \"%s\"", command, line);
    int said = !strncmp(line, "village: ", 9) && strstr(line, words);
    check(said, "village %s: no \"%s\" in \"%s\"", command, words, line);
}

static void test_village_errors(void) {
    char dir[] = "/tmp/test_village.XXXXXX", command[PATH_MAX], path[PATH_MAX];
    check(mkdtemp(dir) != NULL, "village: no folder in /tmp");
    check_village_fails("", 2, "--out");
    check_village_fails("--out", 2, "--out: a value is missing");
    check_village_fails("--colour red --out x", 2, "--colour");
    check_village_fails("--out /nowhere/x --tokens 3e9", 2, "2147483647");
    check_village_fails("--out /nowhere/x --tokens 1.5", 2, "whole number");
    check_village_fails("--out /nowhere/x --tokens 5x", 2, "--tokens 5x");
    check_village_fails("--out /nowhere/x --zipf nan", 2, "--zipf nan");
    check_village_fails("--out /nowhere/x --zipf -1", 2, "--zipf -1");
    check_village_fails("--out /nowhere/x --people 0", 2, "--people 0");
    check_village_fails("--out /nowhere/x --people 65537", 2, "65536");
    check_village_fails("--out /nowhere/x --seq-len 64", 2, "--floor");
    check_village_fails("--floor --out /nowhere/x --people 10", 2, "--people");
    check_village_fails("--floor --out /nowhere/x --objective clm", 2, "mlm or ntp");
    check_village_fails("--out /nowhere/x", 1, "/nowhere/x_train.bin");
    check_village_fails("--floor --out /nowhere/x", 1, "/nowhere/x_val.floor");
    // A text shorter than a row; then one that cannot be said, one of another vocabulary, one cut short.
    snprintf(command, sizeof command, "--out %s/x --tokens 100 --val-tokens 600 --people 100", dir);
    check(run_village(command) == 0, "village: exit code is not 0");
    snprintf(command, sizeof command, "--floor --out %s/x --seq-len 700", dir);
    check_village_fails(command, 1, "--seq-len");
    snprintf(path, sizeof path, "%s/x_val.bin", dir);
    for (int kind = 0; kind < 3; kind++) {
        size_t n;
        char *bytes = village_file(path, &n);
        int32_t *header = (int32_t *)bytes;
        if (kind == 0) ((uint16_t *)(header + HEADER))[100] = 0, ((uint16_t *)(header + HEADER))[101] = 0;
        if (kind == 1) header[3]++;
        FILE *file = fopen(path, "wb");
        fwrite(bytes, kind == 2 ? 1000 : n, 1, file), fclose(file), free(bytes);
        snprintf(command, sizeof command, "--floor --out %s/x --val-rows 4 --objective ntp", dir);
        const char *words[] = {"not from the village", "vocabulary", "too short"};
        check_village_fails(command, 1, words[kind]);
    }
    snprintf(command, sizeof command, "--floor --out %s/x", dir);
    snprintf(path, sizeof path, "%s/x_val.floor", dir);
    FILE *file = fopen(path, "wb");
    fputs("mlm 128 0.2 512 1 1 1 1\n", file), fclose(file);
    check_village_fails(command, 1, "first line");
    // Where the validation text cannot be written, no old floor stays beside it.
    char val[PATH_MAX];
    snprintf(val, sizeof val, "%s/x_val.bin", dir), unlink(val), mkdir(val, 0700);
    snprintf(command, sizeof command, "--out %s/x --tokens 100 --people 100", dir);
    check_village_fails(command, 1, "x_val.bin");
    check(access(path, F_OK) != 0, "village: an old floor stays");
    snprintf(command, sizeof command, "rm -r %s", dir);
    check(system(command) == 0, "village: cannot remove %s", dir);
}
// ----------------------------------------------------------------------------
// data/tokenize.c: pieces, encoding and learning against slow versions of themselves, documents, the program

#include <sys/wait.h>

// n bytes below `alphabet` letters, from `low` on.
static void tk_random(char *s, size_t n, int low, int alphabet, uint64_t seed) {
    for (size_t i = 0; i < n; i++) s[i] = (char)(low + (int)(uniform(seed, 900, i) * alphabet));
}

static void tk_text(const char *folder, const char *name, const void *s, size_t n) {
    char path[2 * PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    check(f && (n == 0 || fwrite(s, n, 1, f) == 1), "%s: cannot write the test's text", path);
    if (f) fclose(f);
}

// The bytes of a file with a zero behind them; n is -1 where there is none.
static char *tk_slurp(const char *folder, const char *name, long *n) {
    char path[2 * PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    *n = -1;
    if (!f) return alloc_or_die(1);
    fseek(f, 0, SEEK_END);
    *n = ftell(f);
    rewind(f);
    char *s = alloc_or_die((size_t)*n + 1);
    check(*n == 0 || fread(s, (size_t)*n, 1, f) == 1, "%s: cannot read", path);
    fclose(f);
    return s;
}

static int tk_same(const char *folder, const char *a, const char *b) {
    long n, m;
    char *s = tk_slurp(folder, a, &n), *t = tk_slurp(folder, b, &m);
    int same = n >= 0 && n == m && memcmp(s, t, (size_t)n) == 0;
    free(s), free(t);
    return same;
}

// Run ./data/tokenize in a folder of its own; stdout and stderr go to the files out and err there. Its exit
// code.
static int tk_run(const char *folder, const char *arguments) {
    char here[PATH_MAX], command[4 * PATH_MAX];
    if (!getcwd(here, sizeof here)) return -1;
    snprintf(command, sizeof command, "cd '%s' && '%s/data/tokenize' %s >out 2>err", folder, here, arguments);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void tk_folder(char *folder, size_t n) {
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, n, "%s/test_tokenize.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    check(mkdtemp(folder) != NULL, "%s: cannot make a folder", folder);
}

static void tk_remove(const char *folder) {
    char command[PATH_MAX + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    check(system(command) == 0, "%s: cannot remove", folder);
}

// Pieces by hand, from the wording: an optional space and a run of letters (A–Z, a–z, bytes ≥ 0x80), or of
// digits, or of other non-space bytes; or a run of spaces.
void test_tokenize_pieces(void) {
    static const char *const cases[][2] = {
        {"Hello world", "Hello| world"},       {"a  b", "a|  |b"},          {" a", " a"},
        {"x1y22", "x|1|y|22"},                 {"don't", "don|'|t"},        {" 12.50", " 12|.|50"},
        {"\n\nHi", "\n\n|Hi"},                 {"a ", "a| "},               {"a \n b", "a| \n |b"},
        {"\tif (x>=1)", "\t|if| (|x|>=|1|)"},  {"Zz@[`{", "Zz|@[`{"},       {" \r\n", " \r\n"},
        {"h\xc3\xa9llo \xe2\x82\xac" "5", "h\xc3\xa9llo| \xe2\x82\xac|5"},
        {"a\x80" "b\xff \x80", "a\x80" "b\xff| \x80"},    {"<|endoftext|>", "<||endoftext||>"},
        {"\x01\x7f/:09", "\x01\x7f/:|09"},     {"\v\f x", "\v\f |x"},       {" ", " "}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        char joined[100] = "";
        const char *s = cases[k][0];
        for (size_t i = 0, n = strlen(s), step; i < n; i += step) {
            step = piece_length(s + i, n - i);
            if (i > 0) strcat(joined, "|");
            strncat(joined, s + i, step);
        }
        check(!strcmp(joined, cases[k][1]), "pieces of \"%s\": %s, not %s", s, joined, cases[k][1]);
    }
    size_t n = PIECE_MAX + 10;
    char *s = alloc_or_die(n);
    for (int c = 0; c < 4; c++) {
        memset(s, " a0."[c], n);
        check(piece_length(s, n) == PIECE_MAX, "a run of %zu is cut at PIECE_MAX", n);
        check(piece_length(s, 7) == 7, "a run of 7 is whole");
    }
    memset(s, 0, n);
    check(piece_length(s, 3) == 3, "zero bytes are bytes like others");
    free(s);
}

// The encoder's rule, word for word and as slow as can be: find the lowest id among the joint strings of
// neighbours by looking through all strings, join those neighbours from the left, and again.
static int tk_naive_find(const Vocab *v, const char *s, size_t n) {
    for (size_t id = 0; id < v->V; id++)
        if ((int)id != v->eot && v->length[id] == n && !memcmp(v->string[id], s, n)) return (int)id;
    return -1;
}

static size_t tk_naive_encode(const Vocab *v, const char *s, size_t n, uint16_t *ids) {
    size_t begin[300], count = n;
    for (size_t i = 0; i <= n; i++) begin[i] = i;
    for (;;) {
        int best = -1;
        for (size_t i = 0; i + 1 < count; i++) {
            int id = tk_naive_find(v, s + begin[i], begin[i + 2] - begin[i]);
            if (id >= 0 && (best < 0 || id < best)) best = id;
        }
        if (best < 0) break;
        for (size_t i = 0; i + 1 < count; i++)
            if (begin[i + 2] - begin[i] == v->length[best] &&
                !memcmp(s + begin[i], v->string[best], v->length[best])) {
                memmove(begin + i + 1, begin + i + 2, (count - i - 1) * sizeof *begin);
                count--;
            }
    }
    for (size_t i = 0; i < count; i++)
        ids[i] = (uint16_t)tk_naive_find(v, s + begin[i], begin[i + 1] - begin[i]);
    return count;
}

// A vocabulary of all bytes in an odd order, random strings of a few letters (equal ones among them), end of
// text.
static void tk_random_vocab(Vocab *v, size_t V, uint64_t seed) {
    *v = (Vocab){.V = V, .eot = (int)V - 1};
    v->length = alloc_or_die(V), v->string = alloc_or_die(V * sizeof(char *));
    for (size_t id = 0; id < V; id++) {
        size_t n = id < 256 ? 1 : 2 + hash3(seed, 1, id) % 4;
        v->length[id] = (unsigned char)n;
        v->string[id] = alloc_or_die(n);
        tk_random(v->string[id], n, 'a', 3, hash3(seed, 2, id));
        if (id < 256) v->string[id][0] = (char)(id * 37 + seed);
    }
    vocab_index(v);
}

void test_tokenize_encode(void) {
    for (uint64_t seed = 0; seed < 12; seed++) {
        Vocab v;
        tk_random_vocab(&v, 300 + 20 * seed, seed);
        BpeCached *cache = alloc_or_die(sizeof *cache << BPE_CACHE_BITS);
        int wrong = 0, wrong_cached = 0;
        for (uint64_t k = 0; k < 120; k++) {
            char s[200];
            uint16_t got[200], want[200];
            size_t n = k < 100 ? 1 + hash3(seed, 3, k) % 30 : 60 + hash3(seed, 3, k) % 100;
            tk_random(s, n, 'a', k % 10 == 0 ? 1 : 3, hash3(seed, 4, k));
            size_t count = tk_naive_encode(&v, s, n, want);
            wrong += encode_piece(&v, s, n, got) != count || memcmp(got, want, count * sizeof *got);
            for (int again = 0; again < 2; again++) {
                memset(got, 0, sizeof got);
                size_t cached = bpe_encode_cached(&v, cache, s, n, got);
                wrong_cached += cached != count || memcmp(got, want, count * sizeof *got);
            }
        }
        check(wrong == 0, "encode_piece: %d of 120 pieces differ from the naive encoder's, seed %d", wrong,
              (int)seed);
        check(wrong_cached == 0, "bpe_encode_cached: %d of 240 pieces differ, seed %d", wrong_cached,
              (int)seed);
        free(cache);
    }
}

// Learning as slow as can be: all pieces stand there as they come, all pairs are counted anew for each merge.
// Ties go to the lower left id, then the lower right. The strings are put in v, the text as tokens in id,
// with 65535 behind each piece (room for 2n); returns how many those are.
static size_t tk_naive_learn(Vocab *v, const char *s, size_t n, size_t V, uint16_t *id) {
    size_t count = 0;
    *v = (Vocab){.V = 256, .eot = -1, .length = alloc_or_die(V), .string = alloc_or_die(V * sizeof(char *))};
    for (size_t i = 0; i < 256; i++) {
        v->length[i] = 1, v->string[i] = alloc_or_die(1);
        v->string[i][0] = (char)i;
    }
    for (size_t i = 0, step; i < n; i += step) {
        step = piece_length(s + i, n - i);
        for (size_t k = 0; k < step; k++) id[count++] = (unsigned char)s[i + k];
        id[count++] = 65535;
    }
    uint32_t *pairs = alloc_or_die(V * V * sizeof *pairs);
    while (v->V < V - 1) {
        memset(pairs, 0, V * V * sizeof *pairs);
        for (size_t i = 0; i + 1 < count; i++)
            if (id[i] != 65535 && id[i + 1] != 65535) pairs[id[i] * V + id[i + 1]]++;
        char joint[600], best_joint[600];
        size_t best = 0, best_n = 0, most = 1;
        for (size_t p = 0; p < V * V; p++) {
            if (pairs[p] <= most) continue;
            size_t a = p / V, b = p % V, both = (size_t)v->length[a] + v->length[b];
            memcpy(joint, v->string[a], v->length[a]);
            memcpy(joint + v->length[a], v->string[b], v->length[b]);
            if (both > 255 || tk_naive_find(v, joint, both) >= 0) continue;
            most = pairs[p], best = p, best_n = both;
            memcpy(best_joint, joint, both);
        }
        if (most == 1) break;
        v->length[v->V] = (unsigned char)best_n;
        v->string[v->V] = alloc_or_die(best_n);
        memcpy(v->string[v->V], best_joint, best_n);
        size_t to = 0;
        for (size_t i = 0; i < count; to++) {
            int join = i + 1 < count && id[i] == best / V && id[i + 1] == best % V;
            id[to] = join ? (uint16_t)v->V : id[i];
            i += join ? 2 : 1;
        }
        count = to;
        v->V++;
    }
    free(pairs);
    return count;
}

void test_tokenize_learn(void) {
    static const char *const words[] = {"the", "cat", "sat", "on", "then", "there", "a", "banana", "ananas",
                                        "1999", "aaaaaaa", "abcabc", "bcabca", "...", "h\xc3\xa9las", "x+x"};
    for (int k = 0; k < 10; k++) {
        size_t n = 0, room = k == 9 ? 6000 : 2000, V = k < 5 ? 320 : 380;
        char *s = alloc_or_die(room + 64);
        if (k < 3) // words in a skewed order
            while (n < room) {
                double u = uniform((uint64_t)k, 5, n);
                n += (size_t)sprintf(s + n, "%s%s", words[(int)(16 * u * u)], n % 7 ? " " : "\n");
            }
        else if (k < 6) tk_random(s, n = room, 'a', k - 1, (uint64_t)k); // long pieces, many ties
        else if (k < 8) tk_random(s, n = room, 0, 256, (uint64_t)k);     // bytes: few pairs occur twice
        else if (k == 8) tk_random(s, n = room, 31, 3, (uint64_t)k);
        else memset(s, 'a', n = room); // one long run: the joint string must not get longer than 255
        Vocab got, want;
        size_t half = 0; // two documents that part between two pieces are learned from as one
        while (half < n / 2) half += piece_length(s + half, n - half);
        bpe_learn(&got, (BpeText[2]){{s, half}, {s + half, n - half}}, 2, V);
        uint16_t *left = alloc_or_die(2 * n * sizeof *left), *ids = alloc_or_die(n * sizeof *ids);
        size_t n_left = tk_naive_learn(&want, s, n, V, left), size = want.V, to = 0;
        check(got.V == size + 1, "learner %d: %zu ids, not %zu", k, got.V, size + 1);
        size_t last = got.V - 1;
        check(got.eot == (int)last && got.length[last] == 13 &&
                  !memcmp(got.string[last], "<|endoftext|>", 13),
              "learner %d: end of text is not last", k);
        int ok = 1;
        for (size_t id = 0; ok && id < MIN(size, last); id++) {
            ok =
                got.length[id] == want.length[id] && !memcmp(got.string[id], want.string[id], got.length[id]);
            check(ok, "learner %d: id %zu is \"%.*s\", not \"%.*s\"", k, id, got.length[id], got.string[id],
                  want.length[id], want.string[id]);
        }
        for (size_t id = 0; id < last; id++)
            check(tk_naive_find(&got, got.string[id], got.length[id]) == (int)id,
                  "learner %d: string %zu occurs twice", k, id);
        for (size_t i = 0; i < n_left; i++) // what the merges made of the text is what encode() makes of it
            if (left[i] != 65535) left[to++] = left[i];
        check(encode(&got, s, n, ids) == to && !memcmp(ids, left, to * sizeof *ids),
              "learner %d: its own text is encoded otherwise than it was merged", k);
        free(left), free(ids);
        if (k == 9)
            check(got.length[last - 1] == 128, "one letter: a token of %d bytes", got.length[last - 1]);
        free(s);
    }
}

// Any bytes, through a shard and back, with vocabularies learned from them and from other text.
void test_tokenize_round_trip(void) {
    char folder[PATH_MAX], path[PATH_MAX + 16];
    tk_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/shard", folder);
    char *s = alloc_or_die(200000);
    Vocab v[4];
    tk_random(s, 50000, 'a', 20, 1);
    bpe_learn(&v[0], &(BpeText){s, 50000}, 1, 700);
    tk_random(s, 200000, 0, 256, 2);
    bpe_learn(&v[1], &(BpeText){s, 200000}, 1, 1500);
    bpe_learn(&v[2], NULL, 0, 512); // nothing to learn from: bytes and end of text
    tk_random_vocab(&v[3], 400, 5);
    check(v[2].V == 257, "no text gives %zu ids, not 257", v[2].V);
    for (int k = 0; k < 20; k++) {
        const Vocab *vocab = &v[k % 4];
        size_t n = k < 4 ? 1 : k < 8 ? 256 : 1 + hash3(7, 7, (uint64_t)k) % 200000, half = n / 2, back_n = 0;
        if (k < 8) for (size_t i = 0; i < n; i++) s[i] = (char)(k < 4 ? 10 * k : (int)i);
        else tk_random(s, n, k % 3 ? 0 : 'a', k % 3 ? 256 : 4, (uint64_t)k);
        BpeText text[2] = {{s, half}, {s + half, n - half}};
        int two = half > 0 && k % 2, last = -1, eot = 0;
        Writer w;
        writer_open(&w, path);
        size_t tokens = bpe_put_shard(&w, vocab, two ? text : &(BpeText){s, n}, two ? 2 : 1), V;
        writer_close(&w);
        check(shard_header(path, &V, &eot) == tokens && V == vocab->V && eot == vocab->eot,
              "shard %d: header", k);
        char *back = NULL;
        FILE *f = open_memstream(&back, &back_n);
        bpe_decode(vocab, path, "=\n", &last, f);
        fclose(f);
        size_t extra = two ? 2 : 0;
        check(back_n == n + extra && !memcmp(back, s, two ? half : n), "round trip %d: %zu bytes, then %zu",
              k, n, back_n);
        if (two && back_n == n + extra)
            check(!memcmp(back + half, "=\n", 2) && !memcmp(back + half + 2, s + half, n - half),
                  "round trip %d: second half", k);
        free(back);
        if (two) continue;
        long size;
        char *shard = tk_slurp(folder, "shard", &size); // its tokens are encode()'s
        uint16_t *ids = alloc_or_die(n * sizeof *ids), first = (uint16_t)vocab->eot;
        size_t count = encode(vocab, s, n, ids);
        check(count + 1 == tokens && !memcmp(shard + 1024, &first, 2) &&
              !memcmp(shard + 1026, ids, 2 * count), "shard %d: its tokens are not those of encode()", k);
        free(shard), free(ids);
    }
    free(s);
    tk_remove(folder);
}

static void tk_check_split(const BpeTexts *t, const char *wanted, const char *what) {
    char joined[1000] = "";
    for (size_t i = 0; i < t->n; i++) strcat(strncat(joined, t->text[i].s, t->text[i].n), "|");
    check(!strcmp(joined, wanted), "%s: [%s], not [%s]", what, joined, wanted);
}

void test_tokenize_split(void) {
    static const char *const blank[][2] = {
        {"a\nb\n\nc\n", "a\nb\n|c\n|"},      {"a\r\n\r\nb\r\nc\r\n", "a\r\n|b\r\nc\r\n|"},
        {"\n\n\na\n\n\n\nb", "a\n|b|"},      {"a\n \t\nb\n", "a\n|b\n|"},
        {"a", "a|"},                         {"\n \r\n\n", ""},
        {"a\n\n  b\n   ", "a\n|  b\n|"},     {"a\n\n\r\n\nb\n\n", "a\n|b\n|"},
        {"", ""}};
    static const char *const cut[][2] = {
        {"a<e>b", "a|b|"},                   {"a\n<e>\nb\n<e>\n", "a\n|b\n|"},
        {"<e><e>\n<e>\r\n", ""},             {"a<e>\r\nb", "a|b|"},
        {"a<e>\n\nb", "a|\nb|"},             {"<ea<e", "<ea<e|"},
        {"<e>\n a <e> b", " a | b|"},        {"", ""}};
    for (size_t k = 0; k < sizeof blank / sizeof *blank; k++) {
        BpeTexts t = {0};
        bpe_split_blank_lines(&t, blank[k][0], strlen(blank[k][0]));
        tk_check_split(&t, blank[k][1], "--split-blank-lines");
    }
    for (size_t k = 0; k < sizeof cut / sizeof *cut; k++) {
        BpeTexts t = {0};
        bpe_split_separator(&t, cut[k][0], strlen(cut[k][0]), "<e>");
        tk_check_split(&t, cut[k][1], "--separator");
    }
}

// Where validation begins. Documents are given as strings; the wanted cut as the documents with "/" where it
// is.
void test_tokenize_cut(void) {
    static const struct { const char *documents, *wanted; double fraction; } cases[] = {
        {"aaaaaaaaa|bbbbbbbbb|ccccccccc|d|", "aaaaaaaaa|bbbbbbbbb|/ccccccccc|d|",
         0.3}, // the nearest boundary
        {"aaaaaaaaa|b|c|", "aaaaaaaaa|b|/c|", 0.1},
        {"aaaa bbbb|c|", "aaaa bbbb|/c|", 0.08},
        {"line one\nline two\nline three\nline four\n|", "line one\nline two\nline three\n|/line four\n|",
         0.2}, // one document: a line end
        {"line one\nline two\nline three\nline four\n|", "line one\n|/line two\nline three\nline four\n|",
         0.8},
        {"aaaa|one\ntwo\nthree\nfour\n|", "aaaa|one\ntwo\nthree\n|/four\n|", 0.2}, // no boundary is near
        {"one two three four five six|", "one two three four five|/ six|", 0.15},  // no line end: a piece
        {"x\none two three four five six|", "x\none two three four five|/ six|", 0.15}, // no line end is near
        {"aaaaaaaaaaaaaaaaaaaaaaaa|", "aaaaaaaaaaaaaaaaaaaaaaaa|", 0.5},                // one piece: no cut
        {"one two three four|x|", "one two three|/ four|x|", 0.4},                      // x is too little
        {"aaaa bbbb\ncccc dddd eeee\n|", "aaaa bbbb\n|/cccc dddd eeee\n|", 0.44},       // a line end before
        {"aaaaa|bbbbb|", "aaaaa|bbbbb|", 0}};                                           // none is wanted
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        BpeTexts t = {0};
        char joined[1000] = "";
        for (const char *p = cases[k].documents, *end; (end = strchr(p, '|')); p = end + 1)
            bpe_add_text(&t, p, (size_t)(end - p));
        size_t first = bpe_cut(&t, cases[k].fraction);
        for (size_t i = 0; i < t.n; i++) {
            if (i == first) strcat(joined, "/");
            strcat(strncat(joined, t.text[i].s, t.text[i].n), "|");
        }
        check(!strcmp(joined, cases[k].wanted), "cut %zu: [%s], not [%s]", k, joined, cases[k].wanted);
    }
    char euro[3 * PIECE_MAX]; // letters of three bytes and no space: PIECE_MAX falls inside one
    for (size_t i = 0; i < sizeof euro; i++) euro[i] = "\xe2\x82\xac"[i % 3];
    BpeTexts t = {0};
    bpe_add_text(&t, euro, sizeof euro);
    size_t first = bpe_cut(&t, 0.4);
    check(first == t.n || (t.text[first].s - euro) % 3 == 0, "the cut falls inside a UTF-8 sequence");
    char crowd[4000]; // many small documents: close to what was asked
    tk_random(crowd, sizeof crowd, 'a', 2, 3);
    t.n = 0;
    bpe_split_separator(&t, crowd, sizeof crowd, "bb");
    size_t bytes = 0, val = 0;
    first = bpe_cut(&t, 0.25);
    for (size_t i = 0; i < t.n; i++) bytes += t.text[i].n, val += i >= first ? t.text[i].n : 0;
    check(fabs((double)val / (double)bytes - 0.25) < 0.01, "a quarter is %zu of %zu bytes", val, bytes);
}

// The program itself: its three files, --vocab, --separator, --decode.
void test_tokenize_program(void) {
    char folder[PATH_MAX], text[20000];
    tk_folder(folder, sizeof folder);
    size_t n = 0;
    for (int i = 0; n < sizeof text - 100; i++)
        n += (size_t)sprintf(text + n, "the %c%c cat%s sat on mat number %d\n%s", 'a' + i % 26, 'a' + i % 7,
                             i % 3 ? "s" : "", i, i % 10 == 9 ? "<|endoftext|>\n" : "");
    tk_text(folder, "text", text, n);
    check(tk_run(folder, "--out a --vocab-size 512 --val-fraction 0.1 text") == 0, "tokenize text");
    check(tk_run(folder, "--out b --vocab a.vocab --val-fraction 1e-1 text") == 0, "tokenize --vocab");
    check(tk_same(folder, "a_train.bin", "b_train.bin") && tk_same(folder, "a_val.bin", "b_val.bin") &&
          tk_same(folder, "a.vocab", "b.vocab"), "--vocab does not give the same files");
    check(tk_run(folder, "--decode --vocab a.vocab a_train.bin") == 0, "--decode");
    long train_n, val_n;
    char *train = tk_slurp(folder, "out", &train_n);
    check(tk_run(folder, "--decode --vocab a.vocab a_val.bin") == 0, "--decode");
    char *val = tk_slurp(folder, "out", &val_n);
    check(train_n > 0 && val_n > 0 && train_n + val_n == (long)n && !memcmp(train, text, (size_t)train_n) &&
              !memcmp(val, text + train_n, (size_t)val_n),
          "train (%ld) and val (%ld) are not the text", train_n, val_n);
    check(train_n > 0 && train[train_n - 1] == '\n' && labs(val_n - (long)n / 10) < 100,
          "val is not a tenth that begins a line");
    free(train), free(val);

    check(tk_run(folder, "--out c --vocab-size 512 --val-fraction 0 --separator '<|endoftext|>' text") == 0,
          "--out c");
    check(tk_run(folder, "--decode --vocab c.vocab c_train.bin") == 0, "--decode");
    char *whole = tk_slurp(folder, "out", &train_n), *last = strstr(text + n - 500, "<|endoftext|>\n");
    check(train_n > 0 && train_n <= (long)n && !memcmp(whole, text, (size_t)train_n) &&
          (train_n == (long)n || text + train_n == last), "separators do not come back");
    free(whole);
    tk_text(folder, "text", "one\n\ntwo\r\n\r\nthree", 17);
    check(tk_run(folder, "--out d --vocab a.vocab --val-fraction 0 --split-blank-lines text text") == 0,
          "--out d");
    check(tk_run(folder, "--decode --split-blank-lines --vocab d.vocab d_train.bin") == 0, "--decode");
    tk_text(folder, "want", "one\n\ntwo\r\n\nthree\n\none\n\ntwo\r\n\nthree", 34);
    check(tk_same(folder, "out", "want"), "documents do not come back");
    tk_remove(folder);
}

// Everything that can be asked wrongly: the exit code, one line that names the program, and no file left
// behind.
void test_tokenize_errors(void) {
    static const struct { int code; const char *arguments, *says; } cases[] = {
        {1, "--out o missing", "missing: cannot read"},
        {1, "--out o .", ".: cannot read"},
        {1, "--out o empty", "empty: no text"},
        {1, "--out o empty empty", "empty: no text"},
        {1, "--out nowhere/o text", "nowhere/o_train.bin"},
        {1, "--out o --vocab text text", "text: "},
        {1, "--out o --vocab missing text", "missing: "},
        {1, "--out o --vocab words.vocab text", "words.vocab: some bytes"},
        {1, "--decode --vocab words.vocab text", "text: "},
        {1, "--decode --vocab words.vocab missing", "missing: "},
        {1, "--decode --vocab words.vocab other.bin", "other.bin: made with another vocabulary"},
        {1, "--decode --vocab words.vocab high.bin", "high.bin: token 7"},
        {2, "text", "--out"},
        {2, "--out o", "no input"},
        {2, "", "no input"},
        {2, "--out", "--out: a value is missing"},
        {2, "--out '' text", "--out: a value is missing"},
        {2, "--nonsense text", "--nonsense: unknown"},
        {2, "--out o --vocab-size 511 text", "--vocab-size 511"},
        {2, "--out o --vocab-size 65536 text", "--vocab-size 65536"},
        {2, "--out o --vocab-size 4k text", "--vocab-size 4k"},
        {2, "--out o --vocab-size nan text", "--vocab-size nan"},
        {2, "--out o --vocab-size 512 --vocab words.vocab text", "--vocab-size"},
        {2, "--out o --val-fraction 1 text", "--val-fraction 1"},
        {2, "--out o --val-fraction -0.1 text", "--val-fraction -0.1"},
        {2, "--out o --separator x --split-blank-lines text", "--separator"},
        {2, "--decode text", "--decode"},
        {2, "--decode --out o --vocab words.vocab text", "--out"},
    };
    char folder[PATH_MAX];
    tk_folder(folder, sizeof folder);
    int32_t vocab[HEADER] = {VOCAB_MAGIC, 2, 2, 1}, shard[HEADER + 1] = {SHARD_MAGIC, 1, 2, 2, 2};
    char words[1024 + 4];
    memcpy(words, vocab, 1024);
    memcpy(words + 1024, "\1a\1e", 4);
    tk_text(folder, "words.vocab", words, sizeof words);
    shard[HEADER] = 7 << 16 | 1;
    tk_text(folder, "high.bin", shard, sizeof shard);
    shard[3] = 3;
    tk_text(folder, "other.bin", shard, sizeof shard);
    tk_text(folder, "text", "some text\n", 10);
    tk_text(folder, "empty", "", 0);
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        long n;
        int code = tk_run(folder, cases[k].arguments);
        char *line = tk_slurp(folder, "err", &n), *end = strchr(line, '\n');
        check(code == cases[k].code, "tokenize %s: exit %d, not %d", cases[k].arguments, code, cases[k].code);
        check(end && end[1] == 0 && !strncmp(line, "tokenize: ", 10) && strstr(line, cases[k].says),
              "tokenize %s: one line that says \"%s\", not: %s", cases[k].arguments, cases[k].says, line);
        free(line);
    }
    check(tk_run(folder, "--help") == 0, "--help");
    char command[PATH_MAX + 100];
    snprintf(command, sizeof command, "mkdir '%s/x_val.bin'", folder);
    check(system(command) == 0 && tk_run(folder, "--out x text") == 1,
          "--out x, where x_val.bin is a folder");
    snprintf(command, sizeof command, "test $(ls '%s' | wc -l) = 9",
             folder); // our six, out, err and x_train.bin
    check(system(command) == 0, "%s: a failed tokenize left a file behind", folder);
    tk_text(folder, "tiny", "ab", 2); // fewer ids, no validation, two notes
    check(tk_run(folder, "--out t tiny") == 0, "a text of two bytes");
    tk_remove(folder);
}

// ----------------------------------------------------------------------------
// dev/fit.c

// A law from its five parameters.
static Law fit_law(double E, double A, double B, double alpha, double beta) {
    Law law = {.E = E, .alpha = alpha, .beta = beta};
    law_close(&law, log(A), log(B));
    return law;
}

static double normal(uint64_t seed, uint64_t i) { // Box-Muller
    return sqrt(-2 * log(1 - uniform(seed, 400, 2 * i))) * cos(2 * acos(-1) * uniform(seed, 400, 2 * i + 1));
}

// A group of points on a law: budgets from C0 to C1, sizes from 1/around to around times the best, shifted by
// `shift` (a factor), with noise in log loss.
static Group fit_points(Law law, int budgets, int sizes, double C0, double C1, double around, double shift,
                        double noise, uint64_t seed) {
    Group g = {.objective = "mlm", .data = ""};
    for (int b = 0; b < budgets; b++)
        for (int i = 0; i < sizes; i++) {
            double C = C0 * pow(C1 / C0, b / (budgets - 1.0)), F = law_F_opt(&law, C) * shift;
            Point p = {.lr = 1, .batch_tokens = 1, .steps = 1e9};
            F *= pow(around, 2 * i / (sizes - 1.0) - 1);
            p.budget = p.C = C, p.F = p.F_N = F, p.D = C / F;
            p.vocab = p.seq_len = p.mask_rate = p.val_floor = p.epochs = NAN;
            p.loss = law_loss(&law, F, p.D) * exp(noise * normal(seed, (uint64_t)(b * sizes + i)));
            add_point(&g, &p);
        }
    return g;
}

static void fit_free(Group *g) {
    free(g->point), free(g->use), free(g->F), free(g->budget), free(g->draw);
}

// Gradient and Hessian against central differences of the value and the gradient, where all residuals are
// beyond delta, and where none is; there M is the sum of the outer products.
void test_fit_derivatives(void) {
    Law law = fit_law(1.5, 300, 2e4, 0.4, 0.6);
    for (int near = 0; near < 2; near++) {
        Group g = fit_points(law, 3, 5, 1e11, 1e13, 10, 1, near ? 1e-5 : 0.1, 3);
        double F[15], D[15], L[15], w[15], t[P], worst = 0, worst_H = 0;
        for (int i = 0; i < 15; i++) {
            F[i] = g.point[i].F, D[i] = g.point[i].D, L[i] = g.point[i].loss, w[i] = i % 3;
        }
        Surface s = surface_make(F, D, L, 15, NAN);
        double exact[P] = {log(law.E), log(law.A) - law.alpha * s.mean_x, log(law.B) - law.beta * s.mean_y,
                           law.alpha, law.beta};
        for (int p = 0; p < P; p++) t[p] = exact[p] + (near ? 1e-5 : 0.02) * (p % 2 ? -1 : 1);
        Objective o, up, down;
        law_objective(&s, w, t, &o);
        double sum = 0; // the value from its definition
        for (int i = 0; i < 15; i++) {
            double x = log(F[i]) - s.mean_x, y = log(D[i]) - s.mean_y;
            double r = fabs(log(exp(t[0]) + exp(t[1] - t[3] * x) + exp(t[2] - t[4] * y)) - log(L[i]));
            sum += w[i] * (r <= 1e-3 ? r * r / 2 : 1e-3 * (r - 1e-3 / 2));
        }
        check(fabs(o.value / sum - 1) < 1e-9, "fit: objective %.12g, not %.12g", o.value, sum);
        for (int p = 0; p < P; p++) {
            double h = near ? 1e-6 : 1e-7, was = t[p];
            t[p] = was + h, law_objective(&s, w, t, &up);
            t[p] = was - h, law_objective(&s, w, t, &down);
            t[p] = was;
            double slope = (up.value - down.value) / (2 * h);
            worst = larger(worst, fabs(slope - o.gradient[p]) / (fabs(o.gradient[p]) + 1e-6));
            for (int q = p; q < P; q++) {
                double bend = (up.gradient[q] - down.gradient[q]) / (2 * h);
                worst_H = larger(worst_H, fabs(bend - o.H[q][p]) / (fabs(o.H[q][p]) + 1e-3));
            }
        }
        check(worst < 1e-5, "fit: gradient is off by %g where residuals are %s", worst,
              near ? "small" : "large");
        check(worst_H < 1e-4, "fit: Hessian is off by %g where residuals are %s", worst_H,
              near ? "small" : "large");
        free(s.x), fit_free(&g);
    }
}

// Non-negative least squares against the conditions that hold at its minimum and nowhere else (Karush, Kuhn,
// Tucker): no number is negative; where one is positive the gradient is 0, where it is 0 the gradient is not
// negative.
void test_fit_least_squares(void) {
    int zeros = 0;
    for (uint64_t trial = 0; trial < 300; trial++) {
        double X[8][3], y[8], G[3][3] = {{0}}, h[3] = {0}, c[3];
        for (uint64_t i = 0; i < 8; i++) {
            y[i] = uniform(trial, 401, i) - 0.3;
            for (uint64_t p = 0; p < 3; p++) X[i][p] = uniform(trial, 402, 3 * i + p) - (p == 2 ? 0.5 : 0);
            for (int p = 0; p < 3; p++) {
                h[p] += X[i][p] * y[i];
                for (int q = 0; q <= p; q++) G[p][q] += X[i][p] * X[i][q], G[q][p] = G[p][q];
            }
        }
        int allowed = trial % 4 == 3 ? 6 : 7;
        double explained = least_squares(G, h, allowed, c), yy = 0, left = 0;
        for (int i = 0; i < 8; i++)
            yy += y[i] * y[i], left += pow(y[i] - X[i][0] * c[0] - X[i][1] * c[1] - X[i][2] * c[2], 2);
        check(fabs(yy - explained - left) < 1e-9, "least squares: %g explained, not %g", explained,
              yy - left);
        for (int p = 0; p < 3; p++) {
            double slope = G[p][0] * c[0] + G[p][1] * c[1] + G[p][2] * c[2] - h[p];
            zeros += c[p] == 0;
            if (!(allowed >> p & 1)) check(c[p] == 0, "least squares: unknown %d is not allowed", p);
            else check(c[p] >= 0 && slope > -1e-9 && (c[p] == 0 || slope < 1e-9),
                       "least squares: c[%d] = %g with gradient %g", p, c[p], slope);
        }
    }
    check(zeros > 100 && zeros < 800, "least squares: %d of 900 are 0: the test shows little", zeros);
}

// Points that lie on a law must give it back to rounding: all five numbers.
void test_fit_recovery(void) {
    const struct {
        const char *name;
        double E, A, B, alpha, beta;
        int budgets, sizes;
        double shift;
    } cases[] = {
        {"Chinchilla's (Besiroglu et al.)", 1.8172, 482.01, 2085.43, 0.3478, 0.3658, 9, 12, 1},
        {"symmetric", 1, 100, 100, 0.5, 0.5, 4, 8, 1},
        {"asymmetric", 0.5, 3000, 20, 0.8, 0.25, 4, 8, 1},
        {"off centre", 1.5, 50, 1e4, 0.3, 0.6, 4, 8, 20},
        {"far off centre", 1.5, 50, 1e4, 0.3, 0.6, 4, 8, 0.02},
        {"nine points", 2, 200, 3e4, 0.4, 0.7, 3, 3, 1},
        {"six points", 1.5, 50, 1e4, 0.3, 0.6, 2, 3, 1},
        {"steep", 0.3, 1e12, 1e14, 2.2, 1.9, 4, 8, 1},
        {"flat", 0.3, 5, 6, 0.06, 0.05, 4, 8, 1},
        {"no E", 0, 200, 3e4, 0.4, 0.7, 4, 8, 1},
        {"small E", 1e-3, 200, 3e4, 0.4, 0.7, 4, 8, 1},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        Law want = fit_law(cases[k].E, cases[k].A, cases[k].B, cases[k].alpha, cases[k].beta), got;
        Group g = fit_points(want, cases[k].budgets, cases[k].sizes, 1e11, 1e13, 10, cases[k].shift, 0, 1);
        judge_points(&g);
        for (int fixed = 0; fixed < 2; fixed++) {
            int possible = law_fit(&got, g.F, g.D, g.loss, g.n_use, fixed ? want.E : NAN);
            check(possible, "fit: %s: no law", cases[k].name);
            for (int p = 0; p < N_LAW && possible; p++)
                check(p == LAW_HUBER || fabs(got.v[p] - want.v[p]) < 1e-9 * (p == LAW_E ? 1 : want.v[p]),
                      "fit: %s: %s is %.12g, not %.12g", cases[k].name, law_names[p], got.v[p], want.v[p]);
        }
        fit_free(&g);
    }
}

// With noise: no one of many random starts comes lower. A small E is the harder case: there are minima at
// E = 0, and no way back from them.
void test_fit_minimum(void) {
    for (uint64_t trial = 0; trial < 16; trial++) {
        double E = trial < 4 ? 1.2 : 0.1, noise = trial < 4 ? 0.03 : 0.05;
        Group g = fit_points(fit_law(E, 300, 1e4, 0.45, 0.6), 4, 6, 1e11, 1e13, 10, 1, noise, trial);
        judge_points(&g);
        Law law;
        law_fit(&law, g.F, g.D, g.loss, g.n_use, NAN);
        Surface s = surface_make(g.F, g.D, g.loss, g.n_use, NAN);
        double w[24], t[P], value, least = INFINITY;
        for (int i = 0; i < 24; i++) w[i] = 1;
        for (uint64_t i = 0; i < 100; i++) {
            for (uint64_t p = 0; p < P; p++)
                t[p] = p < 3 ? -3 + 5 * uniform(trial, 403, 5 * i + p)
                             : 0.05 + 2 * uniform(trial, 403, 5 * i + p);
            check(descend(&s, w, t, &value), "fit: start %d of set %d did not come to an end", (int)i,
                  (int)trial);
            least = fmin(least, value);
        }
        check(law.huber <= least * (1 + 1e-9), "fit: %.12g, where random starts find %.12g", law.huber,
              least);
        free(s.x), fit_free(&g);
    }
}

// The closed form against a search for the least loss along F D = C.
void test_fit_closed_form(void) {
    for (uint64_t trial = 0; trial < 50; trial++) {
        double u[4], C = 1e12 * pow(10, trial % 5);
        for (uint64_t i = 0; i < 4; i++) u[i] = uniform(trial, 404, i);
        Law law = fit_law(1, exp(3 + 5 * u[0]), exp(3 + 8 * u[1]), 0.2 + u[2], 0.2 + u[3]);
        double low = -30, high = 90;
        for (int i = 0; i < 200; i++) { // ternary search in log F
            double a = low + (high - low) / 3, b = high - (high - low) / 3;
            if (law_loss(&law, exp(a), C / exp(a)) < law_loss(&law, exp(b), C / exp(b))) high = b;
            else low = a;
        }
        check(fabs(low - log(law_F_opt(&law, C))) < 1e-5, "fit: F_opt %g, by search %g", law_F_opt(&law, C),
              exp(low));
        check(fabs(law_F_opt(&law, C) * law_D_opt(&law, C) / C - 1) < 1e-9, "fit: F_opt D_opt is not C");
        double ratio = pow(C, law.b - law.a) / (law.G * law.G);
        check(fabs(law_ratio(&law, C) / ratio - 1) < 1e-9, "fit: D/F is %g, not %g", law_ratio(&law, C),
              ratio);
    }
}

void test_fit_statistics(void) {
    const double x[] = {1, 2, 3, 4, 10};
    check(quantile(x, 5, 0.5) == 3 && quantile(x, 4, 0.5) == 2.5 && quantile(x, 4, 0.25) == 1.75 &&
          quantile(x, 5, 0) == 1 && quantile(x, 5, 1) == 10 && fabs(quantile(x, 5, 0.975) - 9.4) < 1e-12 &&
          quantile(x, 1, 0.3) == 1 && isnan(quantile(x, 0, 0.5)), "quantiles are not those worked by hand");
    double counted[42] = {[41] = NAN}, low, high; // 0 … 40 and no number
    for (int i = 0; i < 41; i++) counted[i] = (i * 7) % 41;
    interval(counted, 42, &low, &high);
    check(fabs(low - 1) < 1e-12 && fabs(high - 39) < 1e-12, "the 95%% interval of 0 … 40: %g … %g", low,
          high);
    Point tries[3] = {{.F = 1, .lr = 1}, {.F = 1, .lr = 2}, {.F = 1, .lr = 4}};
    for (int i = 0; i < 3; i++) {
        int edge;
        size_t n = tried(tries, 3, 1, offsetof(Point, lr), tries[i].lr, &edge);
        check(n == 3 && edge == (i != 1), "%zu rates tried, number %d at the edge: %d", n, i, edge);
    }
    const double C[] = {1e10, 1e11, 5e11, 1e12}, w[] = {1, 1, 0, 1}, zero[] = {0, 1, 0, 0};
    double y[4];
    for (int i = 0; i < 4; i++) y[i] = 3 * pow(C[i], -0.25);
    y[2] = 17;
    PowerLaw p = power_law(C, y, w, 4);
    check(p.n == 3 && fabs(p.k - 3) < 1e-12 && fabs(p.exponent + 0.25) < 1e-13, "power law %g C^%g", p.k,
          p.exponent);
    p = power_law(C, y, zero, 4);
    check(p.n == 1 && p.exponent == 0 && fabs(power_at(&p, 1e15) - y[1]) < 1e-12, "a power law of one point");
    fit_opt.draws = 0;
    for (int kind = 0; kind < 4; kind++) { // a parabola; one whose minimum is outside; none; one off centre
        Group g = {.objective = "", .data = ""};
        for (int i = 0; i < 7; i++) {
            double z = i - (kind == 1 ? 8 : kind == 3 ? 5 : 2.75), F = 1e5 * exp(i);
            Point q = {.F = F, .F_N = F, .D = 1e12 / F, .C = 1e12, .budget = 1e12, .steps = 1e6, .vocab = NAN,
                       .loss = kind == 2 ? 5 - 0.01 * z * z : 2 + 0.03 * z * z};
            add_point(&g, &q);
        }
        fit_group(&g);
        const Budget *b = g.budget;
        check(g.n_budgets == 1 && b->n_use == 7 && b->sizes == 7 && fabs(b->C / 1e12 - 1) < 1e-12,
              "the budget's count");
        check(b->open == (kind == 2) && b->edge == (kind == 1) && (kind > 1 || b->off == (kind == 1)) &&
              (kind < 3 || b->off), "flags of parabola %d", kind);
        if (kind == 0) check(fabs(b->F_opt / (1e5 * exp(2.75)) - 1) < 1e-9 && fabs(b->loss - 2) < 1e-9 &&
                             fabs(b->F_opt * b->D_opt / 1e12 - 1) < 1e-9, "the minimum of a parabola");
        check(g.held_n == 0, "held out: the only budget there is");
        fit_free(&g);
    }
    fit_opt.draws = 1000;
}

// What is a budget: the same number in the column; F D that agree; not what lies near by chance.
void test_fit_budgets(void) {
    for (int kind = 0; kind < 4; kind++) {
        Group g = {.objective = "", .data = ""};
        for (uint64_t i = 0; i < 120; i++) {
            double C = 1e12 * pow(2, (double)(i / 8)), F = 1e5 * pow(1.5, (double)(i % 8));
            if (kind == 1) C *= 1 + 0.015 * uniform(1, 405, i);          // nearly
            if (kind == 2) C = 1e12 * pow(1e3, uniform(1, 405, i));      // strewn
            if (kind == 3 && i % 8 > 1) C *= 1.15 * (double)(i % 8);     // only two of each
            Point p = {.F = F, .F_N = F, .D = C / F, .C = C, .budget = kind == 1 ? NAN : C, .steps = 1e6,
                       .vocab = NAN, .loss = 2};
            add_point(&g, &p);
        }
        qsort(g.point, g.n, sizeof *g.point, compare_points);
        judge_points(&g), find_budgets(&g);
        check(g.n_budgets == (kind < 2 ? 15 : 0), "%zu budgets of kind %d", g.n_budgets, kind);
        for (size_t b = 0; b < g.n_budgets; b++)
            check(g.budget[b].n == 8 && g.budget[b].n_use == 8 && g.budget[b].sizes == 8 &&
                  g.budget[b].first == 8 * b && g.budget[b].use == 8 * b, "budget %zu of kind %d", b, kind);
        fit_free(&g);
    }
}

// Shapes that the trainer accepts, and none much nearer than the one chosen.
void test_fit_shapes(void) {
    for (int i = 0; i < 60; i++) {
        double F = 5e4 * pow(1.4, i), nearest = INFINITY;
        Config c = ladder_shape(F, 128, 1000, 0, 0);
        check(c.L >= 2 && c.C >= 16 && c.C % 16 == 0 && c.NH == MAX(1, c.C / 32) &&
                  c.H == default_hidden(c.C) && (c.L == 2 || c.C / c.L >= 8) && c.C <= 64 * c.L,
              "shape %zux%zu", c.L, c.C);
        check_config(&c);
        for (size_t C = 16; C <= 8192; C += 16)
            for (size_t L = MAX(2, (C + 63) / 64); L <= C / 8; L++) {
                Config other = {L, C, MAX(1, C / 32), default_hidden(C), 128, 1000, 0};
                if (C % other.NH == 0 && C / other.NH % 2 == 0)
                    nearest = fmin(nearest, fabs(log(flops_per_token(&other) / F)));
            }
        if (F < 1e10)
            check(fabs(log(flops_per_token(&c) / F)) <= nearest + 0.041, "%zux%zu for F %g", c.L, c.C, F);
    }
    Config c = ladder_shape(798720, 128, 1000, 0, 0); // 2 x 64
    check(c.L == 2 && c.C == 64, "%zux%zu is not the shape of F_N = 798720", c.L, c.C);
}

// A plan: its losses from the law, D and steps from C and the shape, a batch that leaves 200 steps.
void test_fit_plan(void) {
    Point p = {.seq_len = 128, .vocab = 1000, .mask_rate = 0.2, .batch_tokens = 32 * 128};
    size_t use = 0;
    Group g = {.objective = "mlm", .data = "", .n_use = 1, .use = &use, .point = &p};
    g.law = fit_law(1.2, 300, 1e4, 0.45, 0.6);
    for (double C = 1e10; C < 1e15; C *= 10) {
        Plan plan = make_plan(&g, C);
        double F = flops_per_token(&plan.shape), tokens = (double)(plan.steps * plan.rows * 128);
        check(fabs(plan.loss - law_loss(&g.law, plan.F, C / plan.F)) < 1e-12, "plan: loss");
        check(fabs(plan.loss + plan.smaller - law_loss(&g.law, plan.F / 3, 3 * C / plan.F)) < 1e-12 &&
                  fabs(plan.loss + plan.larger - law_loss(&g.law, plan.F * 3, C / plan.F / 3)) < 1e-12 &&
                  plan.smaller > 0 && plan.larger > 0,
              "plan: the loss of 3 times off: %g %g", plan.smaller, plan.larger);
        check(plan.shape_F == F && fabs(plan.shape_D * F / C - 1) < 1e-12, "plan: D is not C / F");
        check(fabs(tokens * F / C - 1) < 0.01 || plan.rows == 1, "plan: %zu steps of %zu rows", plan.steps,
              plan.rows);
        check(plan.rows <= 32 && (plan.rows == 1 || plan.steps >= 200), "plan: %zu steps", plan.steps);
        check(plan.lr == default_lr(plan.shape.C) && plan.params == parameter_count(&plan.shape),
              "plan: rate");
    }
    p.lr = 0.004, p.channels = 128;
    Plan plan = make_plan(&g, 1e12);
    check(fabs(plan.lr / (0.004 * sqrt(128.0 / (double)plan.shape.C)) - 1) < 1e-12,
          "plan: %g is not as 1/√channels", plan.lr);
    g.best_lr = (PowerLaw){2, -0.25, NAN, NAN, 2}, g.best_batch = (PowerLaw){0.512, 0.25, NAN, NAN, 2};
    plan = make_plan(&g, 1e16);
    check(fabs(plan.lr - 2e-4) < 1e-12 && plan.rows == 40, "plan: rate %g, %zu rows by power laws", plan.lr,
          plan.rows);
}

// Resamples keep each budget's number of points; threads change nothing; another seed does.
void test_fit_bootstrap(void) {
    int before = omp_get_max_threads();
    Group g[3];
    fit_opt.draws = 40;
    for (int run = 0; run < 3; run++) {
        g[run] = fit_points(fit_law(1.2, 300, 1e4, 0.45, 0.6), 4, 6, 1e11, 1e13, 10, 1, 0.02, 5);
        omp_set_num_threads(run == 1 ? 3 : 1);
        fit_opt.seed = run == 2 ? 2 : 1;
        fit_group(&g[run]);
    }
    omp_set_num_threads(before);
    fit_opt.draws = 1000, fit_opt.seed = 1;
    check(g[0].n_draws == 40 && !memcmp(g[0].draw, g[1].draw, 40 * sizeof(Law)),
          "the bootstrap depends on threads");
    check(memcmp(g[0].draw, g[2].draw, 40 * sizeof(Law)) != 0, "the bootstrap does not depend on the seed");
    double w[24], all[24] = {0};
    for (uint64_t draw = 0; draw < 200; draw++) {
        resample(&g[0], w, draw);
        for (int b = 0; b < 4; b++) {
            double sum = 0;
            for (int i = 0; i < 6; i++) sum += w[6 * b + i], all[6 * b + i] += w[6 * b + i];
            check(sum == 6, "a resample has %g points of a budget of 6", sum);
        }
    }
    for (int i = 0; i < 24; i++)
        check(fabs(all[i] - 200) < 60, "point %d is drawn %g times in 200", i, all[i]);
    double same = 0; // another objective draws other points: equal weights are chance
    for (uint64_t draw = 0; draw < 200; draw++) {
        resample(&g[0], all, draw);
        g[0].objective = "ntp", resample(&g[0], w, draw), g[0].objective = "mlm";
        for (int i = 0; i < 24; i++) same += all[i] == w[i];
    }
    check(same < 0.5 * 24 * 200, "mlm and ntp draw the same points: %g of 4800 weights agree", same);
    double x[40], lo, hi, mean = 0, squares = 0;
    for (int i = 0; i < 40; i++) x[i] = g[0].draw[i].alpha, mean += x[i] / 40;
    for (int i = 0; i < 40; i++) squares += pow(x[i] - mean, 2);
    check(fabs(g[0].se.alpha / sqrt(squares / 39) - 1) < 1e-9, "the standard error of alpha");
    double mean_log = 0, xx = 0, yy = 0, xy = 0; // the error of log A; its correlation with alpha
    for (int i = 0; i < 40; i++) mean_log += log(g[0].draw[i].A) / 40;
    for (int i = 0; i < 40; i++) {
        double u = log(g[0].draw[i].A) - mean_log;
        xx += u * u, yy += pow(x[i] - mean, 2), xy += u * (x[i] - mean);
    }
    check(fabs(g[0].se.A / sqrt(xx / 39) - 1) < 1e-9, "the standard error of log A");
    check(fabs(g[0].corr[1][3] - xy / sqrt(xx * yy)) < 1e-9, "the correlation of log A and alpha");
    interval(x, 40, &lo, &hi);
    check(lo == g[0].lo.alpha && hi == g[0].hi.alpha && lo < g[0].law.alpha && g[0].law.alpha < hi,
          "alpha %g is not in %g … %g", g[0].law.alpha, lo, hi);
    ratio_interval(&g[0], &g[1], 1e12, &lo, &hi);
    check(fabs(lo - 1) < 1e-12 && fabs(hi - 1) < 1e-12, "the quotient of a law with itself: %g … %g", lo, hi);
    check(g[0].held_n == 6 && fabs(g[0].held_mean) < 0.1 && g[0].held_rms < 0.1, "held out: %zu, %g, %g",
          g[0].held_n, g[0].held_mean, g[0].held_rms);
    for (int run = 0; run < 3; run++) fit_free(&g[run]);
}

// How often the 95% intervals hold the truth, over many noisy sets of points. Slow: only where OPTIBERT_SLOW
// is set. (With 200 sets a true 95% shows as 90.5 to 98.5 in 99 of 100 cases.)
void test_fit_coverage(void) {
    if (!getenv("OPTIBERT_SLOW")) return;
    enum { SETS = 200 };
    Law truth = fit_law(1.2, 300, 1e4, 0.45, 0.6);
    int holds[N_LAW] = {0}, ratio = 0;
    double lo, hi, want = law_ratio(&truth, 1e12);
    fit_opt.draws = 200;
    for (uint64_t set = 0; set < SETS; set++) {
        Group g = fit_points(truth, 4, 8, 1e11, 1e13, 20, 1, 0.01, 1000 + set);
        fit_opt.seed = (double)set;
        fit_group(&g);
        for (int k = 0; k < N_LAW; k++) holds[k] += g.lo.v[k] <= truth.v[k] && truth.v[k] <= g.hi.v[k];
        ratio_interval(&g, NULL, 1e12, &lo, &hi);
        ratio += lo <= want && want <= hi;
        fit_free(&g);
    }
    fit_opt.draws = 1000, fit_opt.seed = 1;
    for (int k = 0; k < N_LAW; k++) {
        if (k == LAW_HUBER) continue;
        printf("  the 95%% interval of %-5s holds the truth in %.1f%% of %d sets\n", law_names[k],
               100.0 * holds[k] / SETS, SETS);
        check(holds[k] >= 0.88 * SETS, "coverage of %s: %d of %d", law_names[k], holds[k], SETS);
    }
    check(ratio >= 0.88 * SETS, "coverage of D/F: %d of %d", ratio, SETS);
}

// Rows of a points file: the fields that differ in the tests below.
static void fit_row(FILE *f, const char *objective, double F, double D, double steps, double lr, int seed,
                    double loss) {
    fprintf(f, "%s,2,64,2,176,128,931,160320,100672,%.17g,71500,%.17g,%.17g,", objective, F, D, F * D);
    fprintf(f, "4096,%.17g,%.17g,0.2,%d,%.17g,%.17g,,1,1,0.01,", steps, lr, seed, loss, loss);
    fprintf(f, "0.3,%.17g,village_train\n", F * D);
}

// Which points count, the rule's numbers, and what is tried of rates, from a file of known rows.
void test_fit_rules(void) {
    const char *path = scratch("rules.csv");
    FILE *f = fopen(path, "w");
    fputs(points_header, f);
    // of three rates at one size the middle one is best, in the mean over two seeds
    for (int i = 0; i < 3; i++)
        for (int seed = 1; seed < 3; seed++)
            fit_row(f, "mlm", 1e6, 1e6, 300, 0.004 * pow(2, i), seed,
                    (i == 1 ? 2 : 2.1) + (seed == 1 ? 0.3 : -0.3));
    fit_row(f, "mlm", 2e6, 5e5, 199, 0.008, 1, 2.2);       // short
    fit_row(f, "mlm", 2e6, 5.001e5, 200, 0.008, 1, 2.2);
    fit_row(f, "mlm", 4e6, 2.5e5, 1000, 0.008, 1, 0.901 * 5);
    fit_row(f, "mlm", 5e5, 2e6, 1000, 0.008, 1, 0.899 * 5);
    fit_row(f, "ntp", 5e5, 2e6, 1000, 0.008, 1, 3);
    fclose(f);
    Fit fit = {0};
    fit_opt.plateau = 5;
    read_points(&fit, path);
    check(fit.n == 2 && fit.group[0].n == 10 && fit.group[1].n == 1, "fit: groups");
    Group *g = &fit.group[0];
    fit_group(g);
    check(g->count[TOO_SHORT] == 1 && g->count[ON_PLATEAU] == 1 && g->count[NOT_BEST] == 4 &&
              g->count[COUNTS] == 4,
          "fit: %zu short, %zu on the plateau, %zu not best, %zu count", g->count[TOO_SHORT],
          g->count[ON_PLATEAU], g->count[NOT_BEST], g->count[COUNTS]);
    for (size_t i = 0; i < g->n_use; i++) {
        const Point *p = &g->point[g->use[i]];
        check(p->F == 1e6 ? p->lr == 0.008 : p->steps >= 200 && p->loss < 4.5, "fit: a wrong point counts");
    }
    check(g->n_budgets == 1 && g->budget->lrs == 3 && !g->budget->lr_edge && g->budget->batches == 1 &&
              fabs(g->budget->lr / 0.008 - 1) < 1e-12 && g->budget->batch_edge && g->budget->sizes == 3,
          "fit: rates of a budget");
    check(!g->has_law && isnan(g->law.E), "fit: four points make a law");
    // the plateau from a shard: tokens 0 0 0 1, and two ends of text (2), V = 3
    int32_t header[HEADER] = {SHARD_MAGIC, 1, 6, 3, 3};
    const uint16_t tokens[] = {2, 0, 0, 2, 1, 0};
    const char *shard = scratch("unigram.bin");
    f = fopen(shard, "wb");
    check(fwrite(header, sizeof header, 1, f) == 1 && fwrite(tokens, sizeof tokens, 1, f) == 1, "no shard");
    fclose(f);
    check(fabs(unigram_entropy(shard, 3, 0) - (log(4) - 0.75 * log(3))) < 1e-12, "the unigram entropy");
    check(fabs(unigram_entropy(shard, 3, 1) - (log(6) - (3 * log(3) + 2 * log(2)) / 6)) < 1e-12,
          "with end of text");
    check(isnan(unigram_entropy(shard, 4, 0)), "a shard of another vocabulary");
    fit_opt.plateau = NAN;
    fit_free(&fit.group[0]), fit_free(&fit.group[1]), free(fit.group);
}

// CSV as it is found: quotes, blanks, CRLF, a byte-order mark, other orders, more columns, fewer, broken
// rows.
void test_fit_csv(void) {
    char line[] = " a , \"b,\"\"c\"\"\" ,,x\"y\",d \r\n", *field[8];
    const char *const want[] = {"a", "b,\"c\"", "", "xy", "d"};
    size_t n = csv_split(line, field, 8);
    check(n == 5, "csv: %zu fields, not 5", n);
    for (size_t i = 0; i < 5 && n == 5; i++)
        check(!strcmp(field[i], want[i]), "csv: %s, not %s", field[i], want[i]);
    char open_quote[] = "a,\"b,c", many[] = "1,2,3,4", nothing[] = "";
    check(csv_split(open_quote, field, 8) == 2 && !strcmp(field[1], "b,c"), "csv: a quote that never ends");
    check(csv_split(many, field, 2) == 4 && !strcmp(field[1], "2") && csv_split(nothing, field, 2) == 1,
          "csv: max");
    Law law = fit_law(1.8172, 482.01, 2085.43, 0.3478, 0.3658);
    const char *path = scratch("awkward.csv"), *json = scratch("awkward.json");
    FILE *f = fopen(path, "w");
    fprintf(f, "\xef\xbb\xbf\"Training Tokens\",note,\"Model \"\"Size\"\"\",loss\r\n");
    for (int i = 0; i < 30; i++) {
        double F = 1e8 * pow(1.5, i % 6), D = 1e9 * pow(2, i / 6);
        fprintf(f, " %.17g ,\"a, b\",\"%.17g\",%.17g\r\n", D, F, law_loss(&law, F, D));
        if (i == 7)
            fprintf(f, "\r\n1,2\r\nnan,,1e8,2\r\n1e9,,-1e8,2\r\n1e9,,1e8,0\r\n1e9,,x,2\r\n"
                    "1e9,,1e999,1\r\n1,,2,3,4\r\n");
    }
    fclose(f);
    check(shell("dev/fit '%s' --columns 'Training Tokens,loss,loss' --draws 0", path) == 0,
          "fit: any columns");
    check(shell("dev/fit '%s' --columns '\"Model \"\"Size\"\"\",Training Tokens,loss' --draws 0 --json %s",
                path, json) == 0,
          "fit: an awkward file");
    char *err = slurp(scratch("stderr"), NULL), *text = slurp(json, NULL), *at = text;
    check(strstr(err, "7 rows left out, the first in line 11") != NULL, "fit: what is left out: %s", err);
    for (int k = 0; k < N_LAW; k++) { // the JSON's first keys, in this order
        char key[32];
        snprintf(key, sizeof key, "\"%s\": ", law_names[k]);
        char *found = strstr(at, key);
        double x = found ? strtod(found + strlen(key), NULL) : NAN;
        check(found && (k == LAW_HUBER || fabs(x / law.v[k] - 1) < 1e-6), "json: %s is %.17g", key, x);
        if (found) at = found;
    }
    const char *first = "[{\n  \"objective\": \"\",\n  \"data\": \"\",\n  \"E\": ";
    check(!strncmp(text, first, strlen(first)) && strstr(text, "\"E_lo\": null"),
          "json: begins %.60s", text);
    free(err), free(text);
}

// The program: what it refuses, what it prints, and that its command is one the trainer takes.
void test_fit_program(void) {
    char points[256], command[512];
    snprintf(points, sizeof points, "%s", scratch("points.csv"));
    FILE *f = fopen(points, "w");
    fputs(points_header, f);
    for (int k = 0; k < 2; k++)
        for (int b = 0; b < 4; b++)
            for (int i = 0; i < 6; i++) {
                Law law = fit_law(0.5, k ? 300 : 100, 1e3, 0.4, 0.5);
                double C = 1e11 * pow(10, b), F = law_F_opt(&law, C) * pow(2, i - 2.5);
                fit_row(f, k ? "mlm" : "ntp", F, C / F, 1000, 0.008, 1, law_loss(&law, F, C / F));
            }
    fclose(f);
    check(shell("dev/fit %s --draws 50 --predict 1e13", points) == 0, "fit of a file of points");
    char *out = slurp(scratch("stdout"), NULL), *run = strstr(out, "./train_optibert ");
    check(run && strstr(out, "quotient") && strstr(out, "held out") && !strstr(out, "nan"),
          "fit prints: %s", out);
    if (run) {
        run[strcspn(run, "\n")] = 0;
        check(shell("%s --dry-run --out %s", run, scratch("planned")) == 0, "%s: is refused", run);
    }
    free(out);
    check(shell("cat %s %s > %s; dev/fit %s --draws 9", points, points, scratch("twice.csv"),
                scratch("twice.csv")) == 0,
          "fit of two files in one");
    check(shell("dev/fit --help") == 0, "fit --help");
    check(shell("dev/fit %s --with-head --all --draws 9 --fix-E 0.5", points) == 0, "fit's options");
    out = slurp(scratch("stdout"), NULL);
    check(strstr(out, "given") && strstr(out, "F_N + F_head") && !strstr(out, "nan"), "fit prints: %s", out);
    free(out);
#define FIT_REFUSED(code, word, ...) \
    (snprintf(command, sizeof command, "dev/fit " __VA_ARGS__), check_refused(code, word, command))
    FIT_REFUSED(2, "no file", " ");
    FIT_REFUSED(2, "--colour", "%s --colour", points);
    FIT_REFUSED(2, "--predict", "%s --predict", points);
    FIT_REFUSED(2, "--predict x", "%s --predict x", points);
    FIT_REFUSED(2, "--fix-E nan", "%s --fix-E nan", points);
    FIT_REFUSED(2, "whole", "%s --draws 1.5", points);
    FIT_REFUSED(2, "--columns a,b", "%s --columns a,b", points);
    FIT_REFUSED(1, "nowhere.csv", "nowhere.csv");
    FIT_REFUSED(1, "no plain file", "/dev/null");
    FIT_REFUSED(1, "\"none\"", "%s --columns val_loss,none,tokens", points);
    FIT_REFUSED(1, "objective", "%s --objective clm", points);
    FIT_REFUSED(1, "/nowhere/o", "%s --draws 0 --json /nowhere/o >/dev/null", points);
    const char *const files[][2] = {
        {"", "is empty"}, {"\n\n", "no column"}, {"flops_per_token,tokens,val_loss\n", "no points"},
        {"flops_per_token,tokens\n1,2\n", "val_loss"}, {"PK\x03\x04\xff\n\x01\n", "flops_per_token"},
    };
    for (size_t k = 0; k < sizeof files / sizeof *files; k++) {
        write_bytes(scratch("bad.csv"), files[k][0], strlen(files[k][0]));
        FIT_REFUSED(1, files[k][1], "%s", scratch("bad.csv"));
    }
    const char *const poor[] = {
        "1e5,1e6,2\n", "1e5,1e6,2\n1e5,2e6,1.9\n1e5,3e6,1.8\n1e5,4e6,1.7\n1e5,5e6,1.6\n1e5,9e6,1.5\n",
        "1e5,1e6,2\n2e5,1e6,1.9\n3e5,1e6,1.8\n4e5,1e6,1.7\n5e5,1e6,1.6\n"};
    for (size_t k = 0; k < 3; k++) {
        char text[400];
        snprintf(text, sizeof text, "flops_per_token,tokens,val_loss\n%s", poor[k]);
        write_bytes(scratch("bad.csv"), text, strlen(text));
        FIT_REFUSED(1, "no group", "%s >/dev/null", scratch("bad.csv"));
    }
    f = fopen(scratch("long.csv"), "w");
    fprintf(f, "flops_per_token,tokens,val_loss\n");
    for (int i = 0; i < 1000000; i++) fprintf(f, "%d,1e9,2\n", i + 1);
    fclose(f);
    FIT_REFUSED(1, "more than 10000", "%s", scratch("long.csv"));
}

// ----------------------------------------------------------------------------
// dev/sweep.c

// A sweep of the tests, without its command line; the data are said to be x_train.bin, which nothing opens.
static void small_sweep(Sweep *s, const char *sizes) {
    static const char *path = "folder/x_train.bin";
    opt.train = (Files){1, &path}, memset(given, 0, sizeof given);
    *s = (Sweep){.run.c = {.T = 128, .V = 931}, .shapes = ladder, .n_shapes = N_LADDER};
    read_sizes(&s->plan, sizes);
    s->plan.points = "/nonexistent/points.csv", s->plan.out = "runs";
    s->plan.mask_rate = s->plan.seed = (List){1, {1}};
    s->plan.objectives[0] = "mlm", s->plan.n_objectives = 1;
    if (s->plan.n_sizes) s->shapes = s->plan.sizes, s->n_shapes = s->plan.n_sizes;
}

static void test_sweep_ladder(void) {
    double last = 0;
    check(ladder[0].L == 2 && ladder[0].C == 16, "sweep: the ladder does not begin at 2x16");
    for (int i = 0; i < N_LADDER; i++) {
        size_t L = ladder[i].L, C = ladder[i].C, NH = C < 32 ? 1 : C / 32, H = (size_t)rint(C / 6.0) * 16;
        double F = 6.0 * L * (4 * C * C + 3 * C * H) + 12.0 * L * C * 128;
        check(L >= 2 && C % NH == 0 && C / NH % 2 == 0, "sweep: ladder: %zux%zu", L, C);
        check(i == 0 || (F / last > 1.25 && F / last < 1.8), "sweep: ladder: %zux%zu is %.2f times the last",
              L, C, F / last);
        last = F;
    }
}

// Tokens, batch, steps and learning rate of runs, by hand.
static void test_sweep_runs(void) {
    static const struct {
        const char *size;
        double budget, batch;
        size_t rows, steps;
        double lr, mask_rate; // 0: 0.2
    } want[] = {
        // F = 89,088: D = 1,122,485.6 are 8,769.4 rows of 128: 8.77 rows in 1,000 steps; 0.5/16 (8/32)^(1/4)
        {"2x16", 1e11, 0, 8, 1096, 0.0221, 0},
        // F = 798,720: 978.1 rows: one row a step; 0.5/64 / 32^(1/4)
        {"2x64", 1e11, 0, 1, 978, 0.00328, 0},
        {"2x16", 1e13, 0, 32, 27404, 0.0312, 0}, // 876,942 rows: never more than 32 a step
        {"2x16", 1e11, 100, 100, 88, 0.0415, 0}, // a batch that is asked for stays; 0.5/16 (100/32)^(1/4)
        {"2x64", 1e6, 0, 1, 1, 0.00328, 0}, // a hundredth of a row: one step of one row is the least
        // one token of a hundred masked: none of 2,062 once in 10^9; 0.5/64 (17/32)^(1/4)
        {"2x64", 1e11, 0, 17, 58, 0.00667, 0.01},
    };
    Settings kept = opt;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        static Sweep s;
        Series series = {.objective = "mlm",
                         .budget = want[i].budget,
                         .batch = want[i].batch,
                         .mask_rate = want[i].mask_rate > 0 ? want[i].mask_rate : 0.2,
                         .factor = 1,
                         .seed = 1};
        Job j = {.series = &series};
        small_sweep(&s, want[i].size);
        settle(&s, &j);
        check(j.batch == want[i].rows && j.steps == want[i].steps && fabs(j.lr / want[i].lr - 1) < 1e-9,
              "sweep: %s at %g: %zu steps of %zu rows at %g", want[i].size, want[i].budget, j.steps, j.batch,
              j.lr);
    }
    opt = kept;
}

// Words come through the shell as they are.
static void test_sweep_quoting(void) {
    static const char *words[] = {"plain-1e+11", "",      "two words", "it's",      "$HOME `id` \"x\"",
                                  "a\\b",        "*",     "~",         "line\nend", "a;b&c|d",
                                  "#",           "{a,b}", "[x]",       "(",         "!",
                                  "\xc3\xa9"};
    size_t n = sizeof words / sizeof *words, size, at = 0;
    FILE *f = fopen(scratch("quoted"), "w");
    fprintf(f, "printf '%%s\\0'");
    for (size_t i = 0; i < n; i++) fputc(' ', f), print_quoted(f, words[i]);
    fclose(f);
    check(shell("sh %s", scratch("quoted")) == 0, "sweep: quoting makes a syntax error");
    char *got = slurp(scratch("stdout"), &size);
    for (size_t i = 0; i < n; at += strlen(got + at) + 1, i++)
        check(at < size && strcmp(got + at, words[i]) == 0, "sweep: \"%s\" becomes \"%s\"", words[i],
              got + at);
    check(at == size, "sweep: the shell reads more words than were quoted");
    free(got);
}

static void lr_row(FILE *f, const char *objective, double C, int rows, int steps, double lr, double loss) {
    fprintf(f, "%s,2,32,1,80,128,931,1,1,239616,1,%.9g,1,%d,%d,%g,0.2,1,9,%g,,1,1,,1,%g,x_train\n", objective,
            C / 239616, rows * 128, steps, lr, loss, C);
}

// The laws of learning rate and batch, from a grid whose best runs are known.
static void test_sweep_lr_points(void) {
    static Sweep s;
    Settings kept = opt;
    small_sweep(&s, "2x32");
    FILE *f = fopen(scratch("lr.csv"), "w");
    fputs(points_header, f);
    lr_row(f, "mlm", 1e10, 8, 500, 0.02, 3), lr_row(f, "mlm", 1e10, 4, 1000, 0.01, 2.5);
    lr_row(f, "mlm", 1e10, 4, 1000, 0.02, 2);  // the best
    lr_row(f, "mlm", 1e10, 32, 120, 0.04, 1);  // too few steps
    lr_row(f, "mlm", 1e11, 16, 600, 0.01, 1.8), lr_row(f, "mlm", 1e11, 16, 600, 0.02, 1.9);
    lr_row(f, "mlm", 1e11, 8, 1200, 0.01, 1.9);
    lr_row(f, "mlm", 1e12, 64, 900, 0.005, 1), lr_row(f, "mlm", 1e12, 64, 900, 0.01, 1.5);
    lr_row(f, "mlm", 1e12, 32, 1800, 0.01, 1.2);
    lr_row(f, "mlm", 1e13, 1, 900, 9, 0.1), lr_row(f, "mlm", 1e13, 1, 900, 8, 0.2); // two do not make a grid
    for (int i = 1; i <= 3; i++) lr_row(f, "ntp", 1e11, 16, 900, 0.01 * i, 1.0 / i);
    lr_row(f, "ntp", 1e11, 32, 450, 0.06, 1.0024 / 3), lr_row(f, "ntp", 1e11, 64, 225, 0.06, 1.0026 / 3);
    fclose(f);
    fit_lr_points(&s, scratch("lr.csv"), "x_train");
    // rates: 0.02, 0.01, 0.005, a factor of 1/4 over 100 in C; batch: 512, 2,048, 8,192 tokens, of 16 over 100
    // in D
    check(s.lr[0].n == 3 && fabs(s.lr[0].exponent - log(0.25) / log(100)) < 1e-9, "sweep: lr: %g",
          s.lr[0].exponent);
    check(fabs(s.batch[0].exponent - log(16) / log(100)) < 1e-9, "sweep: batch: C^%g", s.batch[0].exponent);
    // as good as the best: 0.03 with 16 rows, 0.06 with 32
    double rate = power_at(&s.lr[1], 5e12), rows = power_at(&s.batch[1], 5e9) / 128;
    check(s.lr[1].n == 1 && s.lr[1].exponent == 0 && fabs(rate / sqrt(0.03 * 0.06 * 32) - 1) < 1e-9,
          "sweep: one budget of ntp gives %g C^%g", rate, s.lr[1].exponent);
    check(fabs(rows / sqrt(16 * 32) - 1) < 1e-9, "sweep: one budget of ntp gives %g rows", rows);
    Series series = {.objective = "mlm", .budget = 5e10, .mask_rate = 0.2, .factor = 1, .seed = 1};
    Job j = {.series = &series};
    settle(&s, &j); // 0.01232 for 10.54 rows; but 1,630 rows make 200 steps of 8 only: (8/10.54)^(1/4) of it
    check(j.batch == 8 && fabs(j.lr / 0.0115 - 1) < 1e-9, "sweep: by the laws %zu rows at %g", j.batch, j.lr);
    // at ten times C, twice the width and 15 times the tokens of the first best run (41,733): 20.42 rows for
    // 512 * 15^0.602 tokens; 0.02 * 50^-0.301 / sqrt(2) * (20/20.42)^(1/4)
    s.shapes = (Shape[]){{2, 64}}, series.budget = 5e11;
    settle(&s, &j);
    check(j.batch == 20 && fabs(j.lr / 0.00433 - 1) < 1e-9, "sweep: 2x64: %zu rows at %g", j.batch, j.lr);
    s.lr[0].n = 0;
    fit_lr_points(&s, scratch("lr.csv"), "y_train");
    check(s.lr[0].n == 0, "sweep: points of other data are used");
    opt = kept;
}

// Sizes are added until the best lies inside, or the ladder ends: made-up losses for each place of the best.
static void test_sweep_widening(void) {
    Settings kept = opt;
    int err = dup(2), null = open("/dev/null", O_WRONLY);
    fflush(stderr), dup2(null, 2); // it says where the ladder ends
    for (int world = 0; world < N_LADDER; world++) {
        static Sweep s;
        small_sweep(&s, "auto");
        s.plan.flops = (List){1, {1e14}};
        make_series(&s);
        check(s.n_jobs == 6 && !widen_all(&s), "sweep: auto begins with %zu sizes", s.n_jobs);
        size_t low = N_LADDER, high = 0;
        do {
            for (size_t i = 0; i < s.n_jobs; i++)
                s.jobs[i].state = DONE, s.jobs[i].loss = fabs((double)s.jobs[i].size - world);
        } while (widen_all(&s));
        for (size_t i = 0; i < s.n_jobs; i++)
            low = MIN(low, s.jobs[i].size), high = MAX(high, s.jobs[i].size);
        int inside = (int)low < world && world < (int)high;
        int ended = (world == 0 && low == 0) || (world == N_LADDER - 1 && high == N_LADDER - 1);
        check((inside || ended) && s.n_jobs == high - low + 1, "sweep: best %d, tried %zu … %zu", world, low,
              high);
        check(s.series[0].at_end == ended, "sweep: best %d: the ladder's end is said %d times", world,
              s.series[0].at_end);
        free(s.jobs), free(s.series);
    }
    fflush(stderr), dup2(err, 2), close(err), close(null);
    opt = kept;
}

#define SWEEP_DATA "-- --train %s/v_train.bin --seq-len 32 --val-rows 4"

// How many rows are there in a points file of the scratch folder, and is none there twice (all but seconds
// and threads)? Also compares their losses to those of another file.
static void check_points(const char *name, int rows, const char *like) {
    check(shell("cd %s && tail -n +2 %s | cut -d, -f1-21,24- | sort >%s.sorted && "
                "[ $(wc -l <%s.sorted) = %d ] && [ $(cut -d, -f1-18 %s.sorted | uniq | wc -l) = %d ] && "
                "cmp %s.sorted %s.sorted",
                scratch_dir, name, name, name, rows, name, rows, name, like) == 0,
          "sweep: %s should have %d different rows, those of %s", name, rows, like);
}

// A sweep; again; its dry run given to a shell; two at once on the same files.
static void test_sweep_program(void) {
    const char *d = scratch_dir;
    const char *what = "--flops 2e8,4e8 --sizes 2x16,2x24 --objective mlm,ntp";
    check(shell("data/village --out %s/v --tokens 20000 --val-tokens 1200 --people 40", d) == 0,
          "sweep: no data");
    check(shell("dev/sweep %s --points %s/a.csv --out %s/a " SWEEP_DATA, what, d, d, d) == 0, "sweep: fails");
    check_points("a.csv", 8, "a.csv");
    shell("cp %s/a.csv %s/again.csv", d, d);
    check(shell("dev/sweep %s --points %s/a.csv --out %s/a " SWEEP_DATA, what, d, d, d) == 0, "sweep: again");
    check(same_file(scratch("a.csv"), scratch("again.csv")), "sweep: a second one changes the points");
    check(shell("dev/sweep --dry-run %s --points %s/a.csv --out %s/a " SWEEP_DATA " >%s/lines && "
                "[ ! -s %s/lines ]",
                what, d, d, d, d, d) == 0,
          "sweep: --dry-run prints runs that are done");
    check(shell("dev/sweep --dry-run %s --points %s/b.csv --out %s/b " SWEEP_DATA
                " >%s/lines && [ ! -e %s/b ] && [ ! -e %s/b.csv ] && [ $(wc -l <%s/lines) = 8 ]",
                what, d, d, d, d, d, d, d) == 0,
          "sweep: --dry-run prints other than 8 lines, or does something");
    check(shell("sh -e %s/lines && sh -e %s/lines", d, d) == 0, "sweep: the lines of --dry-run fail");
    check_points("b.csv", 8, "a.csv");
    // as if killed between a run's end and its row
    check(shell("sed -i '$d' %s/b.csv && dev/sweep %s --points %s/b.csv --out %s/b " SWEEP_DATA, d, what, d,
                d, d) == 0, "sweep: a row that is missing");
    check_points("b.csv", 8, "a.csv");
    check(shell("for i in 1 2; do dev/sweep %s --points %s/c.csv --out %s/c " SWEEP_DATA
                " & eval p$i=$!; done; wait $p1 && wait $p2",
                what, d, d, d) == 0,
          "sweep: two at once: one fails");
    check_points("c.csv", 8, "a.csv");
    // another weight decay makes other runs
    check(shell("dev/sweep %s --points %s/a.csv --out %s/a " SWEEP_DATA
                " --weight-decay 5 && [ $(grep -c 'v_train$' %s/a.csv) = 8 ] && "
                "[ $(grep -c 'v_train-decay5$' %s/a.csv) = 8 ]",
                what, d, d, d, d, d) == 0,
          "sweep: runs of another weight decay are taken for done");
    // beside the lines of a dry run, in the hands of a shell: neither fails, none is trained twice
    check(shell("dev/sweep --dry-run %s --points %s/f.csv --out %s/f " SWEEP_DATA " >%s/lines; sh %s/lines & "
                "dev/sweep %s --points %s/f.csv --out %s/f " SWEEP_DATA "; code=$?; wait; exit $code",
                what, d, d, d, d, d, what, d, d, d) == 0,
          "sweep: fails beside other trainers");
    check_points("f.csv", 8, "b.csv");
    // a name that is all suffix, and the empty file that a stage lr leaves which was stopped at once
    check(shell("program=$(pwd)/dev/sweep; cd %s && cp v_train.bin .train && mkdir -p empty && cd empty && "
                ">lr.csv && $program --dry-run --flops 2e9 -- --train ../.train --val ../v_val.bin "
                "--seq-len 32", d) == 0,
          "sweep: a data name without letters, or an empty lr.csv");
    check(shell("dev/sweep --dry-run --flops 1e14 " SWEEP_DATA " --heads 8 | grep -q 'channels 48'", d) == 1,
          "sweep: --heads 8 is tried with 48 channels");
    // a run that cannot go on is named; the others are trained
    check(shell("f=$(sed 's/.*--out \\([^ ]*\\).*/\\1/;1q' %s/lines); f=%s/e/${f##*/}; mkdir -p $f; echo >"
                "$f/checkpoint.bin; dev/sweep %s --points %s/e.csv --out %s/e " SWEEP_DATA,
                d, d, what, d, d, d) == 1,
          "sweep: a run fails and the sweep does not");
    char *err = slurp(scratch("stderr"), NULL);
    const char *named = strstr(err, ": failed: train_optibert: ");
    check(named && strstr(named, "checkpoint.bin: this is no checkpoint") &&
              strstr(named, "1 of 8 runs failed"),
          "sweep: a failed run is not named: %s", err);
    check(shell("[ $(wc -l <%s/e.csv) = 8 ]", d) == 0, "sweep: when one fails, others are not trained");
    free(err);
}

// Stopped and killed in the middle: no row is lost, none is there twice, and the losses are those of a sweep
// that was never stopped. A run of days, whose first checkpoint is hours away, ends with its sweep, saved.
static void test_sweep_killed(void) {
    const char *d = scratch_dir, *what = "--flops 2e9 --sizes 2x16,2x24,2x32 --seed 1,2 --batch 8 --jobs 2";
    check(shell("dev/sweep %s --points %s/calm.csv --out %s/calm " SWEEP_DATA, what, d, d, d) == 0,
          "sweep: calm");
    check_points("calm.csv", 6, "calm.csv");
    for (int kill9 = 0; kill9 < 2; kill9++) {
        const char *name = kill9 ? "killed" : "stopped";
        int code = 0, tries = 0, ended = 1;
        for (; tries < 3; tries++) { // each time when there are more rows than before
            code = shell(
                "n=$(cat %s/%s.csv | wc -l); dev/sweep %s --points %s/%s.csv --out %s/%s " SWEEP_DATA
                " & p=$!; for i in $(seq 3000); do [ $(cat %s/%s.csv | wc -l) -gt $n ] && break; sleep 0.01; "
                "done; sleep 0.03; kill -%d $p; wait $p",
                d, name, what, d, name, d, name, d, d, name, kill9 ? 9 : 15);
            if (code == 0) break; // it was done before the signal came
            ended &= code == (kill9 ? 137 : 143);
        }
        check(tries > 0 && ended, "sweep: %s was never interrupted, or exits %d", name, code);
        code = shell("dev/sweep %s --points %s/%s.csv --out %s/%s " SWEEP_DATA, what, d, name, d, name, d);
        check(code == 0, "sweep: after it was %s: exit %d", name, code);
        check_points(kill9 ? "killed.csv" : "stopped.csv", 6, "calm.csv");
    }
#ifdef __linux__
    check(shell("dev/sweep --flops 1e16 --sizes 2x16 --points %s/days.csv --out %s/days " SWEEP_DATA
                " & p=$!; for i in $(seq 6000); do [ \"$(cat %s/days/*/main.log)\" ] && break; sleep 0.01; "
                "done; kill -9 $p; wait $p; for i in $(seq 6000); do "
                "[ \"$(grep -lsa '%s/[d]ays/v_' /proc/[0-9]*/cmdline)\" ] || break; sleep 0.01; done; "
                "[ $i -lt 6000 ] && ls %s/days/*/checkpoint.bin",
                d, d, d, d, d, d) == 0,
          "sweep: after kill -9 a child goes on, or does not save");
#endif
}

static void test_sweep_errors(void) {
    static const char *bad[][2] = {
        {"--flops 0", "--flops 0: "},
        {"--flops nan", "--flops nan"},
        {"--flops ''", "--flops"},
        {"--flops 1e11,", "--flops"},
        {"--flops 1e40", "--flops 1e40"},
        {"--flops", "needs a value"},
        {"--sizes 2", "--sizes 2"},
        {"--sizes 2x33", "33 channels"},
        {"--sizes 2x112", "112"},
        {"--sizes 0x32", "--sizes 0x32"},
        {"--sizes 2x32x", "--sizes"},
        {"--objective gpt", "gpt"},
        {"--batch 1.5", "--batch 1.5"},
        {"--mask-rate 2", "--mask-rate"},
        {"--jobs 1,2", "--jobs"},
        {"--stage both", "--stage both"},
        {"--lrs 1", "--lrs"},
        {"extra", "extra"},
        {"--out ''", "--out"},
        {"-- --steps 5", "--steps"},
        {"-- --bogus", "--bogus"},
        {"--flops 1e3", "--flops"},
        {"--seed -1", "--seed"},
        {"--lr ,1", "--lr"},
        {"--flops 1e11 --flops 2e11", "--flops: given twice"},
        {"--objective mlm,mlm", "mlm,mlm"},
        {"--flops 1e30 --sizes 2x16", "1e12 steps"},
        {"--out 'two\nlines'", "--out"},
        {"-- --heads 13", "--heads 13"},
    };
    char command[1024];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(command, sizeof command, "dev/sweep --dry-run %s", bad[i][0]);
        check_refused(2, bad[i][1], command);
    }
    check_refused(1, "/nowhere", "dev/sweep --dry-run -- --train /nowhere_train.bin");
    check_refused(1, "/nonexistent/p.csv", "dev/sweep --points /nonexistent/p.csv");
    check_refused(1, "/nonexistent", "dev/sweep --dry-run --lr-points /nonexistent");
    check_refused(1, "/dev/full: is no file of points", "dev/sweep --dry-run --points /dev/full");
    snprintf(command, sizeof command, "dev/sweep --points %s/r.csv --out %s/no/folder", scratch_dir,
             scratch_dir);
    check_refused(1, "no/folder", command);
    snprintf(command, sizeof command, "mkdir -p %s/x/dev && cp dev/sweep %s/x/dev/ && %s/x/dev/sweep",
             scratch_dir, scratch_dir, scratch_dir);
    check_refused(1, "run make", command);
}

// ----------------------------------------------------------------------------
// dev/plot.c

// Numbers as text, against what a person would write; and escaping.
void test_plot_text(void) {
    static const struct {
        double x;
        int digits;
        const char *want;
    } cases[] = {
        {0, 3, "0"},        {1, 3, "1"},           {0.5, 3, "0.5"},         {2.346, 3, "2.35"},
        {99.96, 3, "100"},  {4096, 3, "4096"},     {0.00123, 3, "0.00123"}, {0.000123, 2, "1.2×10⁻⁴"},
        {1e5, 3, "10⁵"},    {2e5, 6, "2×10⁵"},     {9.999e11, 3, "10¹²"},   {1.5e-12, 3, "1.5×10⁻¹²"},
        {-2.5, 3, "-2.5"},  {100, 3, "100"},       {10, 2, "10"},           {NAN, 3, "–"},
        {INFINITY, 3, "–"}, {1234.5, 6, "1234.5"}, {1e-300, 3, "10⁻³⁰⁰"},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        const char *got = number_text(cases[k].x, cases[k].digits);
        check(!strcmp(got, cases[k].want), "plot: %g is written %s, not %s", cases[k].x, got,
              cases[k].want);
    }
    static const char *const texts[][2] = {
        {"a<b>&\"c\"", "a&lt;b&gt;&amp;&quot;c&quot;"},
        {"é — 𝛼", "é — 𝛼"},
        {"a\x01\n\x7f", "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xff", "\xef\xbf\xbd"},
        {"\xe9t\xe9", "\xef\xbf\xbdt\xef\xbf\xbd"}, // Latin-1
        {"\xc3", "\xef\xbf\xbd"},
        {"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd"},                 // cut off
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},                 // overlong
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, // a surrogate
        {"\xef\xbf\xbe", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, // U+FFFE
    };
    for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
        char *got;
        size_t size;
        FILE *f = text_open(&got, &size);
        put_text(f, texts[k][0]);
        text_close(f);
        check(!strcmp(got, texts[k][1]), "plot: text %zu is escaped as %s", k, got);
        free(got);
    }
    char name[64];
    group_name(name, sizeof name, "mlm", "ééééé", 10);
    check(!strcmp(name, "mlm on ééé…"), "plot: name is cut to %s", name);
    group_name(name, sizeof name, "", "", 10);
    check(!strcmp(name, "all runs"), "plot: name of nothing is %s", name);
}

static void check_ticks(Axis a, size_t most, size_t n, const double *want) {
    double tick[MAX_TICKS];
    size_t got = axis_ticks(&a, tick, most);
    check(got == n, "plot: %g … %g has %zu ticks, not %zu", a.lo, a.hi, got, n);
    for (size_t i = 0; i < got && i < n; i++)
        check(fabs(tick[i] / want[i] - 1) < 1e-12, "plot: tick %zu is %g, not %g", i, tick[i], want[i]);
}

// Places and ticks worked by hand; and of many axes, that ticks are few, inside and ascending.
void test_plot_axes(void) {
    Axis a = {1, 1000, 0, 300, 1}, b = {2, 4, 100, 0, 0};
    check(fabs(axis_place(&a, 10) - 100) < 1e-9 && fabs(axis_place(&a, 1000) - 300) < 1e-9 &&
              fabs(axis_place(&a, 0.1) + 100) < 1e-9,
          "plot: places on a log axis");
    check(axis_place(&b, 2) == 100 && axis_place(&b, 3) == 50 && axis_place(&b, 5) == -50, "plot: places");
    check(fabs(axis_value(&a, 2 / 3.0) - 100) < 1e-9 && axis_value(&b, 0.25) == 2.5, "plot: values");
    check(isnan(axis_place(&a, NAN)) && isnan(axis_place(&a, -1)) && axis_place(&a, 0) == -6000 &&
              axis_place(&b, INFINITY) == 100 - 2000,
          "plot: places of what is not on the axis");
    check_ticks(a, 7, 4, (double[]){1, 10, 100, 1000});
    check_ticks(a, 10, 10, (double[]){1, 2, 5, 10, 20, 50, 100, 200, 500, 1000});
    check_ticks(a, 3, 2, (double[]){1, 100});
    check_ticks((Axis){9e4, 6e5, 0, 1, 1}, 7, 3, (double[]){1e5, 2e5, 5e5});
    check_ticks((Axis){2.9, 4.1, 0, 1, 1}, 7, 6, (double[]){3, 3.2, 3.4, 3.6, 3.8, 4});
    check_ticks((Axis){0.1, 1.05, 0, 1, 0}, 7, 5, (double[]){0.2, 0.4, 0.6, 0.8, 1});
    check_ticks((Axis){3.1, 3.9, 0, 1, 0}, 4, 4, (double[]){3.2, 3.4, 3.6, 3.8});
    check(axis_over((Range){2, 4}, -1).log == 0 && axis_over((Range){1, 9}, -1).log == 1,
          "plot: logs where the values ask for it");
    for (size_t i = 0; i < 100; i++) { // labels that do not touch
        Axis axis = {pow(10, (double)i / 7), pow(10, (double)i / 7 + 0.1 * (double)(i % 37 + 1)), 0, 340, 1};
        double tick[MAX_TICKS], end = -INFINITY;
        size_t n = ticks_apart(axis, tick, 340, 1);
        check(n > 0, "plot: no tick fits %g … %g", axis.lo, axis.hi);
        for (size_t k = 0; k < n; k++) {
            double half = text_width(number_text(tick[k], 6)) / 2, at = axis_place(&axis, tick[k]);
            check(at - half > end, "plot: tick %g touches the one before", tick[k]);
            end = at + half;
        }
    }
    for (uint64_t i = 0; i < 3000; i++) {
        double lo = pow(10, 40 * uniform(5, 1, i) - 20), hi = lo * (1 + pow(10, 24 * uniform(5, 2, i) - 4));
        double tick[MAX_TICKS];
        Axis axis = axis_over((Range){lo, hi}, i % 2 ? 1 : 0);
        size_t most = 2 + i % 8, n = axis_ticks(&axis, tick, most), good = n <= most && n >= 1;
        for (size_t k = 0; k < n; k++)
            good &= tick[k] >= axis.lo * (1 - 1e-9) && tick[k] <= axis.hi * (1 + 1e-9);
        for (size_t k = 1; k < n; k++) good &= tick[k] > tick[k - 1];
        check(good && axis.lo < lo && axis.hi > hi, "plot: ticks of %g … %g, at most %zu: %zu", lo, hi,
              most, n);
    }
    Axis poor[] = {axis_over((Range){3, 3}, 1), axis_over((Range){3, 3}, 0), axis_over(no_range, 1),
                   axis_over(no_range, -1)};
    for (int k = 0; k < 4; k++)
        check(poor[k].lo < poor[k].hi && isfinite(poor[k].hi), "plot: poor axis %d", k);
}

// The first thing wrong with the tags or entities of a page, or NULL.
static const char *ill_formed(const char *text) {
    char open[64][16];
    int depth = 0;
    for (const char *s = text; *s; s++) {
        if (*s == '&' && strncmp(s, "&lt;", 4) && strncmp(s, "&gt;", 4) && strncmp(s, "&amp;", 5) &&
            strncmp(s, "&quot;", 6))
            return s;
        if (*s == '>') return s;
        if (*s != '<') continue;
        const char *tag = s++;
        int closing = *s == '/', n = 0;
        char name[16] = "";
        for (s += closing; (isalnum((unsigned char)*s) || *s == '!') && n < 15; s++) name[n++] = *s;
        for (int quoted = 0; *s && (quoted || *s != '>'); s++) {
            if (*s == '<') return tag;
            quoted ^= *s == '"';
        }
        if (!*s || n == 0) return tag;
        if (s[-1] == '/' || !strcmp(name, "meta") || !strcmp(name, "!DOCTYPE")) continue;
        if (closing && (depth == 0 || strcmp(open[--depth], name))) return tag;
        if (!closing && depth == 64) return tag;
        if (!closing) strcpy(open[depth++], name);
        if (!closing && !strcmp(name, "style")) s = strstr(s, "</style>") - 1;
    }
    return depth ? "not closed" : NULL;
}

void test_plot_well_formed(void) {
    check(!ill_formed("<!DOCTYPE html><a b=\"x>\"><c/>&lt;<meta q=\"1\"></a>"),
          "plot: the checker of tags");
    static const char *const bad[] = {"<a>",  "</a>", "<a><b></a></b>", "a & b", "<a", "<a b=\"<\"></a>",
                                      "a > b"};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++)
        check(ill_formed(bad[k]) != NULL, "plot: %s", bad[k]);
}

// The panel of one group as a string that the caller frees; returns whether there is one.
static int drawn(Figure *figure, const Group *g, char **text) {
    size_t size;
    Page page = {.html = text_open(text, &size)};
    int done = figure(&page, g, 1);
    text_close(page.html);
    return done;
}

// Iso-loss lines have their loss; and what the surface's panel shows, measured back from its coordinates: the
// runs where they are, the frontier where the loss at this F D is least.
void test_plot_surface(void) {
    Law law = fit_law(1.2, 300, 1e4, 0.45, 0.6);
    double worst = 0, level[LEVELS], F, D, left, top, width, height;
    Range of_F = no_range, of_D = no_range;
    for (uint64_t i = 0; i < 200; i++) {
        double L = 1.2 + exp(4 * uniform(6, 1, i) - 3), s = 0.01 + 0.98 * uniform(6, 2, i);
        iso_loss(&law, L, log_odds(s), &F, &D);
        worst = larger(worst, fabs(law_loss(&law, F, D) / L - 1));
        worst = larger(worst, fabs(300 * pow(F, -0.45) / (L - 1.2) - s));
    }
    check(worst < 1e-12, "plot: iso-loss lines are %g off", worst);
    iso_levels(level, 1.2, 2, 6);
    check(level[0] == 2 && level[LEVELS - 1] == 6, "plot: levels end at %g, %g", level[0],
          level[LEVELS - 1]);
    iso_levels(level, 1.2, 3.1234, 3.1244);
    for (int k = 1; k < LEVELS; k++)
        check(level[k] > level[k - 1], "plot: levels %g, %g", level[k - 1], level[k]);

    Group g = fit_points(law, 4, 5, 1e11, 1e13, 10, 1, 0, 1);
    fit_opt.draws = 0;
    fit_group(&g);
    fit_opt.draws = 1000;
    for (size_t i = 0; i < g.n_use; i++) stretch(&of_F, g.F[i]), stretch(&of_D, g.D[i]);
    char *text;
    int done = drawn(figure_surface, &g, &text), dots = 0, line = 0, inside = 0;
    const char *s = strstr(text, "<svg x="), *where = ill_formed(text);
    check(done && !where, "plot: surface: %.60s", where ? where : "");
    check(sscanf(s, "<svg x=\"%lf\" y=\"%lf\" width=\"%lf\" height=\"%lf\"", &left, &top, &width,
                 &height) == 4,
          "plot: the frame");
    Axis x = axis_over(of_F, 1), y = axis_over(of_D, 1);
    double px = log(x.hi / x.lo) / width, py = log(y.hi / y.lo) / height; // logs per unit
    for (size_t i = 0; (s = strstr(s, "<circle class=\"dot")); i++, dots++, s++) {
        double cx = atof(strstr(s, "cx=\"") + 4), cy = atof(strstr(s, "cy=\"") + 4);
        check(i < g.n_use && fabs(log(x.lo / g.F[i]) + (cx - left) * px) < 0.06 * px &&
                  fabs(log(y.hi / g.D[i]) - (cy - top) * py) < 0.06 * py,
              "plot: surface: point %zu", i);
    }
    check(dots == 20, "plot: surface: %d points", dots);
    const char *path = "<path class=\"line ink\" d=\"M0 0";
    double cx, cy;
    s = strstr(text, path);
    for (int used; s && sscanf(s += line ? 1 : strlen(path) + 1, "%lf %lf%n", &cx, &cy, &used) == 2;
         line++) {
        s += used;
        if (cx < left || cx > left + width || cy < top || cy > top + height) continue;
        F = x.lo * exp((cx - left) * px), D = y.hi * exp(-(cy - top) * py), inside++;
        double best = law_loss(&law, F, D); // at the same F D, a bit to either side
        check(best < law_loss(&law, F * 1.1, D / 1.1) && best < law_loss(&law, F / 1.1, D * 1.1),
              "plot: the frontier at F = %g, D = %g is none", F, D);
    }
    check(inside > 10, "plot: surface: %d points of the frontier", inside);
    free(text);
    done = drawn(figure_isoflop, &g, &text);
    check(done && !ill_formed(text) && strstr(text, "C = 10¹¹") && strstr(text, "4 of 4 budgets"),
          "plot: isoFLOP");
    for (s = text, dots = 0; (s = strstr(s, "<circle class=\"dot")); s++) dots++;
    check(dots == 4 + 20 && !strstr(text, "tiny"), "plot: isoFLOP: %d points and legends", dots);
    free(text);
    g.law.A = 0, g.law.G = 0; // the loss does not depend on F
    done = drawn(figure_surface, &g, &text);
    check(done && !ill_formed(text) && strstr(text, "does not depend on F") && !strstr(text, "nan"),
          "plot: surface without a frontier");
    free(text), fit_free(&g);
}

// Rows of one group of a points file, and a log of each run in DIR/runs.
static void plot_rows(FILE *f, Law law, const char *objective, const char *data, const char *floor_text) {
    for (int b = 0; b < 3; b++)
        for (int i = 0; i < 6; i++) {
            double C = 1e11 * pow(10, b), F = law_F_opt(&law, C) * pow(4, (i - 2) / 2.0),
                   lr = i == 2 ? 3e-3 : 6e-3;
            double loss = law_loss(&law, F, C / F) * exp(0.01 * normal(9, (uint64_t)(b * 6 + i)));
            fprintf(
                f,
                "%s,2,%d,2,176,128,931,1,1,%.9g,%.9g,%.9g,%.9g,4096,1000,%g,0.2,1,%.9g,%.9g,%s,1,1,0.01,0.3,"
                "%.9g,%s\n",
                objective, 16 + 16 * i, F, F / 9, C / F, C, lr, loss, loss, floor_text, C, data);
            for (int k = 0; k < 2 && i == 2; k++) // another rate, another batch
                fprintf(
                    f,
                    "%s,2,48,2,176,128,931,1,1,%.9g,1,%.9g,%.9g,%d,1000,%g,0.2,1,9,%.9g,%s,1,1,0.01,0.3,"
                    "%.9g,%s\n",
                    objective, F, C / F, C, k ? 8192 : 4096, k ? lr : 2 * lr, loss + 0.1, floor_text, C,
                    data);
            if (b < 2) continue;
            shell("mkdir -p %s/runs/%s%d", scratch_dir, objective, i);
            char path[400];
            snprintf(path, sizeof path, "%s/runs/%s%d/main.log", scratch_dir, objective, i);
            FILE *log = fopen(path, "w");
            fprintf(log, "s:0 tel:7\n");
            for (int s = 1; s <= 1000; s++)
                fprintf(log, "s:%d trl:%.6f lr:1e-3 norm:1\n", s, loss + 3.0 / s);
            fprintf(log, "s:1000 tel:%.6f\n", loss);
            fclose(log);
        }
}

// Whole pages: two objectives with an odd data name, one without a law, a published table.
void test_plot_pages(void) {
    char points[200];
    snprintf(points, sizeof points, "%s/plot.csv", scratch_dir);
    FILE *f = fopen(points, "w");
    fputs(points_header, f);
    Law law = fit_law(1.2, 300, 1e4, 0.45, 0.6);
    plot_rows(f, law, "mlm", "\"x<b>&, \"\"y\"\"\"", "0.9");
    plot_rows(f, fit_law(1.4, 300, 1e4, 0.5, 0.6), "ntp", "\"x<b>&, \"\"y\"\"\"", "");
    fprintf(
        f, "ntp,2,64,2,176,128,931,1,1,1e5,1e4,1e6,1e11,4096,1000,0.01,0.2,1,3,3,,1,1,0.01,0.3,1e11,one\n");
    fclose(f);
    check(shell("dev/plot %s --draws 30 --svg %s/svg --runs %s/runs", points, scratch_dir, scratch_dir) ==
              0,
          "plot: a page");
    char *page = slurp(scratch("stdout"), NULL), *err = slurp(scratch("stderr"), NULL);
    const char *where = ill_formed(page);
    check(!where, "plot: the page is not well formed at %.80s", where ? where : "");
    check(*err == 0, "plot: stderr says %s", err);
    check(!strstr(page, "<script") && !strstr(page, "http") && !strstr(page, "url(") &&
              !strstr(page, "nan") && !strstr(page, "inf\"") && !strstr(page, "x<b>"),
          "plot: the page has what it should not");
    check(strstr(page, "isoFLOP curves: mlm on x&lt;b&gt;&amp;, &quot;y&quot;") &&
              strstr(page, "floor 0.9"),
          "plot: the page names the data and the floor");
    check(strstr(page, "ntp on one: left out, for its points have no budgets") != NULL,
          "plot: what is missing");
    Fit fit = {0};
    fit_opt.draws = 30;
    read_points(&fit, points);
    for (size_t i = 0; i < fit.n; i++) fit_group(&fit.group[i]);
    fit_opt.draws = 1000;
    const Law *got = &fit.group[0].law;
    char cell[200], power[100];
    for (int k = 0; k < N_LAW; k++) {
        snprintf(cell, sizeof cell, "<td>%s</td><td>%s … %s</td>", number_text(got->v[k], 4),
                 number_text(fit.group[0].lo.v[k], 4), number_text(fit.group[0].hi.v[k], 4));
        check(k == LAW_HUBER || strstr(page, cell), "plot: the table has not %s = %s", law_names[k], cell);
    }
    snprintf(power, sizeof power, "mlm: F_opt ∝ C<sup>%.3f</sup>", got->a);
    check(strstr(page, power) != NULL, "plot: no caption has %s", power);
    snprintf(power, sizeof power, "mlm: D_opt ∝ C<sup>%.3f</sup>", got->b);
    check(strstr(page, power) != NULL, "plot: no caption has %s", power);
    snprintf(power, sizeof power, "D_opt/F_opt ∝ C<sup>%.3f</sup>", got->b - got->a);
    check(strstr(page, power) != NULL, "plot: no caption has %s", power);
    static const char *const names[] = {"isoflop-mlm", "fopt",  "dopt",       "surface-ntp", "ratio",
                                        "lr",          "batch", "curves-mlm", "curves-ntp"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        char path[300];
        snprintf(path, sizeof path, "%s/svg/%s-x~3cb~3e~26~2c~20~22y~22.svg", scratch_dir, names[k]);
        char *svg = slurp(path, NULL);
        check(!strncmp(svg, "<svg xmlns=\"http://www.w3.org/2000/svg\"", 39) && !ill_formed(svg) &&
                  strstr(svg, "prefers-color-scheme") && strstr(svg, "<title>"),
              "plot: %s", path);
        free(svg);
    }
    free(page), free(err);
    check(shell("dev/plot %s --draws 0", points) == 0, "plot: no intervals, no runs, no figures");
    page = slurp(scratch("stdout"), NULL);
    check(!ill_formed(page) && strstr(page, "no budget has runs with logs") &&
              !strstr(page, "95% interval</text>"),
          "plot: a page without intervals");
    free(page);
    check(shell("dev/plot %s --draws 9 --with-head --all --objective mlm", points) == 0,
          "plot: with the head");
    page = slurp(scratch("stdout"), NULL);
    check(!ill_formed(page) && strstr(page, "FLOPs per token F_N + F_head") && !strstr(page, "ntp"),
          "plot: a page with the head");
    free(page);
    f = fopen(points, "w"); // losses over decades, and no other column
    fprintf(f, "size,D,L\n");
    for (int i = 0; i < 25; i++)
        fprintf(f, "%g,%g,%.9g\n", 1e5 * pow(3, i % 5), 1e6 * pow(4, i / 5),
                law_loss(&(Law){.E = 0.01, .A = 1e6, .B = 1e6, .alpha = 1.2, .beta = 1},
                         1e5 * pow(3, i % 5), 1e6 * pow(4, i / 5)));
    fclose(f);
    check(shell("dev/plot %s --columns size,D,L --draws 9 --svg %s/svg", points, scratch_dir) == 0,
          "plot: a table");
    page = slurp(scratch("stdout"), NULL);
    check(!ill_formed(page) && strstr(page, "loss surface: all runs") && !strstr(page, "nan"),
          "plot: the page of a table");
    check(access(scratch("svg/surface.svg"), R_OK) == 0, "plot: surface.svg");
    free(page);
}

void test_plot_errors(void) {
    char command[1000], points[200];
    snprintf(points, sizeof points, "%s/plot.csv", scratch_dir);
    check(shell("dev/plot --help") == 0, "plot --help");
#define PLOT_REFUSED(code, word, ...)                                                                      \
    (snprintf(command, sizeof command, "dev/plot " __VA_ARGS__), check_refused(code, word, command))
    PLOT_REFUSED(2, "no file", " ");
    PLOT_REFUSED(2, "--colour", "%s --colour", points);
    PLOT_REFUSED(2, "--svg", "%s --svg", points);
    PLOT_REFUSED(2, "--runs", "%s --runs", points);
    PLOT_REFUSED(2, "--json", "%s --json x", points);
    PLOT_REFUSED(2, "--predict", "%s --predict 1e12", points);
    PLOT_REFUSED(1, "nowhere.csv", "nowhere.csv");
    PLOT_REFUSED(1, "no column", "%s", points);
    const char *table = "--draws 0 --columns size,D,L";
    PLOT_REFUSED(1, "/nowhere/o", "%s %s --svg /nowhere/o", points, table);
    PLOT_REFUSED(1, "/nowhere", "%s %s --runs /nowhere", points, table);
    PLOT_REFUSED(1, "cannot write", "%s %s --svg %s", points, table, points);
    if (access("/dev/full", W_OK) == 0) PLOT_REFUSED(1, "stdout", "%s %s >/dev/full", points, table);
    for (uint64_t k = 0; k < 20; k++) { // garbage is refused or drawn
        unsigned char bytes[4000];
        size_t n =
            (size_t)snprintf((char *)bytes, 100, "flops_per_token,tokens,val_loss,budget,data,objective\n");
        const char *some = "0123456789.e-,,,,,\n\n\"<&\xff"; // 24 of them
        for (; n < sizeof bytes; n++) bytes[n] = (unsigned char)some[random_size(k << 20 | n, 0, 23)];
        write_bytes(scratch("garbage.csv"), bytes, n);
        int code = shell("dev/plot %s --draws 3", scratch("garbage.csv"));
        char *page = slurp(scratch("stdout"), NULL);
        check(code == 1 || (code == 0 && !ill_formed(page)), "plot: garbage %d: exit %d", (int)k, code);
        free(page);
    }
}

// ----------------------------------------------------------------------------

#define RUN(call)                                            \
    do {                                                     \
        double t = now_seconds();                            \
        call;                                                \
        printf("%-48s %6.1f s\n", #call, now_seconds() - t); \
        fflush(stdout);                                      \
    } while (0)

static void test_trainer(void) {
    RUN(test_matmul());
    RUN(test_exp());
    load_reference();
    RUN(test_reference("mlm"));
    RUN(test_reference("ntp"));
    RUN(test_reference("wide"));
    RUN(test_reference("one"));
    RUN(test_finite_differences(0));
    RUN(test_finite_differences(1));
    RUN(test_threads((Config){2, 24, 2, 40, 19, 37, 0}, 3));
    RUN(test_threads((Config){1, 130, 5, 67, 131, 301, 1}, 2));
    RUN(test_threads((Config){1, 10, 1, 16, 1, 33, 0}, 5));
    RUN(test_threads((Config){2, 64, 4, 176, 300, 600, 0}, 3));
    RUN(test_micro_batches());
    RUN(test_gather(0));
    RUN(test_gather(1));
    RUN(test_documents(0));
    RUN(test_documents(1));
    RUN(test_masks());
    RUN(test_shuffle());
    RUN(test_counts());
    RUN(make_tiny_data());
    RUN(test_resume("mlm"));
    RUN(test_resume("ntp"));
    RUN(test_refusals());
    RUN(test_results());
    RUN(test_shards());
    RUN(test_vocab_files());
    RUN(test_order(0));
    RUN(test_order(1));
    RUN(test_step(0));
    RUN(test_step(1));
    RUN(test_log_and_points());
    RUN(test_points_rows());
    RUN(test_plan());
    RUN(test_bound());
    RUN(test_fill());
    RUN(test_killed());
    RUN(test_finished_run_is_safe());
    RUN(test_kept());
    RUN(test_attention(300, 6, 0));
    RUN(test_attention(300, 6, 1));
    RUN(test_attention(290, 34, 0));
    RUN(test_attention(290, 34, 1));
    RUN(test_attention(100, 260, 0));
    RUN(test_attention(100, 260, 1));
    RUN(test_row_max());
    RUN(test_encode());
}

static void test_data_programs(void) {
    RUN(test_village_oracle());
    RUN(test_village_stationary());
    RUN(test_village_world());
    RUN(test_village_files());
    RUN(test_village_errors());
    RUN(test_tokenize_pieces());
    RUN(test_tokenize_encode());
    RUN(test_tokenize_learn());
    RUN(test_tokenize_round_trip());
    RUN(test_tokenize_split());
    RUN(test_tokenize_cut());
    RUN(test_tokenize_program());
    RUN(test_tokenize_errors());
}

static void test_dev_programs(void) {
    RUN(test_fit_derivatives());
    RUN(test_fit_least_squares());
    RUN(test_fit_recovery());
    RUN(test_fit_minimum());
    RUN(test_fit_closed_form());
    RUN(test_fit_statistics());
    RUN(test_fit_budgets());
    RUN(test_fit_shapes());
    RUN(test_fit_plan());
    RUN(test_fit_bootstrap());
    RUN(test_fit_rules());
    RUN(test_fit_csv());
    RUN(test_fit_program());
    RUN(test_fit_coverage());
    RUN(test_sweep_ladder());
    RUN(test_sweep_runs());
    RUN(test_sweep_quoting());
    RUN(test_sweep_lr_points());
    RUN(test_sweep_widening());
    RUN(test_sweep_program());
    RUN(test_sweep_killed());
    RUN(test_sweep_errors());
    RUN(test_plot_text());
    RUN(test_plot_axes());
    RUN(test_plot_surface());
    RUN(test_plot_well_formed());
    RUN(test_plot_pages());
    RUN(test_plot_errors());
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "run") == 0) return run_trainer(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "stopped") == 0) {
        stop_signal = SIGTERM;
        return run_trainer(argc - 1, argv + 1);
    }
    if (argc > 1 && strcmp(argv[1], "nobody") == 0) { // root could read anything
        if (geteuid() == 0 && setuid(65534) != 0) die("cannot become another user");
        return run_trainer(argc - 1, argv + 1);
    }
    wait_passively(argv);
    snprintf(scratch_dir, sizeof scratch_dir, "%s/optibert_test_XXXXXX", "/tmp");
    if (!mkdtemp(scratch_dir)) die("%s: cannot make a folder for the test: %s", scratch_dir, strerror(errno));
    double start = now_seconds();
    test_trainer();
    test_data_programs();
    test_dev_programs();
    char remove_it[128];
    snprintf(remove_it, sizeof remove_it, "rm -rf %s", scratch_dir);
    if (system(remove_it) != 0) printf("%s could not be removed\n", scratch_dir);
    printf("in %.1f s\n%d passed, %d failed\n", now_seconds() - start, passed, failed);
    return failed > 0;
}
