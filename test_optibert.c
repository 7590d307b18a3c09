/*
Proves train_optibert.c, against numbers that do not come from it: PyTorch's (dev/reference.bin), brute force,
finite differences, numbers worked out by hand. data/test.c and dev/test.c do the same for the tools.

    make test                      all three, and one line of what passed and what failed
    OPTIBERT_SLOW=1 make test      the slow ones too (make check does this and more)
    ./test_optibert attention      the tests whose name contains this word
*/
#ifndef OPTIBERT_NO_MAIN
#define OPTIBERT_NO_MAIN
#endif
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
static int locks_work = 1; // 0: a file system without locks, for one test
static int test_flock(int fd, int operation) { return locks_work ? flock(fd, operation) : (errno = ENOLCK, -1); }
#define flock test_flock

// What the system is asked for is counted, and number `fault_at` fails, or is where the process is killed.
#ifndef HARNESS_ONLY
static long calls, fault_at, kill_at;
static int fault(int reason) {
    if (__atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) == kill_at) raise(SIGKILL);
    return calls == fault_at ? (errno = reason, 1) : 0;
}
#define fopen(...) (fault(EIO) ? NULL : fopen(__VA_ARGS__))
#define open(...) (fault(EIO) ? -1 : open(__VA_ARGS__))
#define mkdir(...) (fault(EROFS) ? -1 : mkdir(__VA_ARGS__))
#define fread(...) (fault(EIO) ? 0 : fread(__VA_ARGS__))
#define pread(...) (fault(EIO) ? -1 : pread(__VA_ARGS__))
#define fwrite(...) (fault(ENOSPC) ? 0 : fwrite(__VA_ARGS__))
#define fflush(file) (fault(ENOSPC) && file != stdout ? EOF : fflush(file))
#define fsync(...) (fault(EIO) ? -1 : fsync(__VA_ARGS__))
#define rename(...) (fault(EIO) ? -1 : rename(__VA_ARGS__))
#define ftruncate(...) (fault(EIO) ? -1 : ftruncate(__VA_ARGS__))
#define unlink(...) (fault(EIO) ? -1 : unlink(__VA_ARGS__))
#define posix_memalign(...) (fault(ENOMEM) ? ENOMEM : posix_memalign(__VA_ARGS__))
#define realloc(...) (fault(ENOMEM) ? NULL : realloc(__VA_ARGS__))
#define strdup(...) (fault(ENOMEM) ? NULL : strdup(__VA_ARGS__))
#define open_memstream(...) (fault(ENOMEM) ? NULL : open_memstream(__VA_ARGS__))
#endif
#include "train_optibert.c"

// ----------------------------------------------------------------------------
// the harness; data/test.c and dev/test.c define HARNESS_ONLY and include this file for it

// What the processes of a test program count together, in memory that they share. `next`: the next test to run.
static struct { size_t next, passed, failed, skipped; } *counts;
static size_t count(size_t *what) { return __atomic_fetch_add(what, 1, __ATOMIC_RELAXED); }

char scratch_dir[64]; // a folder of this process's own, removed at its end

// One assertion. The message is printed only if it fails.
__attribute__((format(printf, 2, 3)))
void check(int ok, const char *format, ...) {
    va_list args;
    count(ok ? &counts->passed : &counts->failed);
    if (ok) return;
    va_start(args, format);
    printf("FAILED: "), vprintf(format, args), printf("\n");
    va_end(args);
}

// Say that something is not checked here. Returns `missing`.
int skip(int missing, const char *what) {
    if (missing) printf("SKIPPED: %s\n", what), count(&counts->skipped);
    return missing;
}

// A path in the scratch folder. Four may be in use at once.
const char *scratch(const char *name) {
    static char path[4][256];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", scratch_dir, name);
    return path[next];
}

// Run a shell command in which @ stands for the scratch folder; what it prints goes to the files "stdout" and
// "stderr" there. Returns its exit code, or 128 + signal.
__attribute__((format(printf, 1, 2)))
int shell(const char *format, ...) {
    char command[4096], all[8192], *to = all;
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    to += sprintf(to, "{ ");
    for (const char *p = command; *p && to < all + sizeof all - 256; p++) {
        if (*p == '@') to += sprintf(to, "%s", scratch_dir);
        else *to++ = *p;
    }
    sprintf(to, " ; } >%s/stdout 2>%s/stderr </dev/null", scratch_dir, scratch_dir);
    int status = system(all);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// A file as text, zero-terminated, that the caller frees; empty if it cannot be read. size may be NULL.
char *slurp(const char *path, size_t *size) {
    struct stat st;
    FILE *f = stat(path, &st) == 0 ? fopen(path, "rb") : NULL;
    size_t room = f ? (size_t)st.st_size : 0;
    char *text = alloc_or_die(room + 1);
    size_t n = f ? fread(text, 1, room, f) : 0;
    if (f) fclose(f);
    if (size) *size = n;
    return text;
}

// What the last shell command printed must contain a text.
void check_printed(const char *stream, const char *text) {
    char *printed = slurp(scratch(stream), NULL);
    check(strstr(printed, text) != NULL, "\"%s\" expected on %s, got: %s", text, stream, printed);
    free(printed);
}

int same_file(const char *a, const char *b) {
    size_t n, m;
    char *x = slurp(a, &n), *y = slurp(b, &m);
    int same = n > 0 && n == m && memcmp(x, y, n) == 0;
    free(x), free(y);
    return same;
}

void write_bytes(const char *path, const void *data, size_t n) {
    FILE *f = fopen(path, "wb");
    if (!f || (n > 0 && fwrite(data, n, 1, f) != 1)) die("%s: cannot write", path);
    fclose(f);
}

// A command that must end with this exit code, nothing on stdout, and exactly one line on stderr, which
// contains `word`.
typedef struct {
    int code;
    const char *word, *command;
} Refusal;

void check_refused(int code, const char *word, const char *command) {
    int got = shell("%s", command);
    char *err = slurp(scratch("stderr"), NULL), *out = slurp(scratch("stdout"), NULL), *end = strchr(err, '\n');
    check(got == code && !*out && end && end[1] == 0 && strstr(err, word),
          "%s: exit %d and one line with \"%s\" expected, got exit %d and: %s%s", command, code, word, got, out,
          err);
    free(err), free(out);
}

void check_refusals(const Refusal *r, size_t n) {
    for (size_t i = 0; i < n; i++) check_refused(r[i].code, r[i].word, r[i].command);
}

// fmax, but NaN is larger than anything. (And gcc 12 for ARM cannot compile loops of fmax.)
double larger(double a, double b) { return a > b || a != a ? a : b; }

// Uniform in [-1, 1); in low … high.
float random_float(uint64_t index) { return (float)(2 * uniform(7, 200, index) - 1); }

size_t random_size(uint64_t index, size_t low, size_t high) {
    return low + (size_t)(uniform(7, 201, index) * (double)(high - low + 1));
}

void random_fill(float *p, size_t n, uint64_t stream) {
    for (size_t i = 0; i < n; i++) p[i] = random_float(stream << 32 | i);
}

typedef struct {
    const char *name;
    void (*run)(void);
    int slow; // only with OPTIBERT_SLOW set
} Test;

// One process of a test program: run tests, those whose names contain `word`, until there are no more.
static void take_tests(const Test *tests, size_t n, const char *word) {
    const char *tmp = getenv("TMPDIR");
    snprintf(scratch_dir, sizeof scratch_dir, "%.40s/optibert_XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
    if (!mkdtemp(scratch_dir)) die("%s: cannot make a folder for the tests: %s", scratch_dir, strerror(errno));
    for (size_t i; (i = count(&counts->next)) < n;) {
        const Test *t = &tests[i];
        if (!strstr(t->name, word) || (t->slow && !getenv("OPTIBERT_SLOW"))) continue;
        double start = now_seconds();
        t->run();
        printf("%-40s %6.1f s\n", t->name, now_seconds() - start);
    }
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", scratch_dir);
    if (system(command) != 0) printf("%s could not be removed\n", scratch_dir);
}

// The main function of a test program: run the tests whose names contain argv[1], or all of them, two at a time.
int run_tests(const Test *tests, size_t n, int argc, char **argv) {
    counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (counts == MAP_FAILED) die("out of memory");
    setvbuf(stdout, NULL, _IOLBF, 0); // whole lines: several processes print
    for (int i = 0; i < 2; i++) {
        pid_t child = fork();
        if (child < 0) die("no second process: %s", strerror(errno));
        if (child == 0) take_tests(tests, n, argc > 1 ? argv[1] : ""), exit(0);
    }
    for (int status; wait(&status) > 0;)
        if (status) check(0, "a process of the tests ended with status %#x", status);
    if (counts->skipped) printf("%zu SKIPPED, which this machine cannot check\n", counts->skipped);
    printf("%zu passed, %zu failed\n", counts->passed, counts->failed);
    return counts->failed > 0;
}

#ifndef HARNESS_ONLY

// ----------------------------------------------------------------------------
// matrix products, e^x, the largest of a row

// Most tests use THREADS threads; those that vary the number use up to MOST_THREADS.
enum { THREADS = 3, MOST_THREADS = 8 };

// out (m,n) = add + a (m,k) · b (k,n), straight from the definition, in double precision.
static void plain_product(double *out, const float *add, Matrix a, Matrix b, size_t m, size_t n, size_t k) {
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            out[i * n + j] = add ? add[i * n + j] : 0;
            for (size_t p = 0; p < k; p++)
                out[i * n + j] += (double)a.p[i * a.row + p * a.col] * b.p[p * b.row + j * b.col];
        }
}

// The largest |got - want| of n numbers.
static double largest_error(const float *got, const double *want, size_t n) {
    double worst = 0;
    for (size_t i = 0; i < n; i++) worst = larger(worst, fabs(got[i] - want[i]));
    return worst;
}

// The rounding error that a sum of k products of numbers below 1 may have.
static double rounding(size_t k) { return 1.2e-7 * (double)(k + 2); }

static float *random_floats(size_t n, uint64_t stream) {
    float *p = alloc_or_die(n * sizeof *p);
    random_fill(p, n, stream);
    return p;
}

// All three products of one size. The first two add nothing (how = 0), another matrix (1),
// or the output itself (2).
static void check_products(size_t N, size_t C, size_t OC, int how) {
    float *inp = random_floats(N * C, 1), *dinp = random_floats(N * C, 2), *out = random_floats(N * OC, 3);
    float *dout = random_floats(N * OC, 4), *weight = random_floats(OC * C, 5);
    float *dweight = random_floats(OC * C, 6);
    const float *add[] = {NULL, dout, out}, *dadd[] = {NULL, inp, dinp};
    double *want = alloc_or_die(MAX(N * OC, MAX(N * C, OC * C)) * 8), off[3];
    plain_product(want, add[how], (Matrix){inp, C, 1}, (Matrix){weight, 1, C}, N, OC, C);
    #pragma omp parallel
    matmul_forward(out, add[how], inp, weight, N, C, OC);
    off[0] = largest_error(out, want, N * OC) / rounding(C);
    plain_product(want, dadd[how], (Matrix){dout, OC, 1}, (Matrix){weight, C, 1}, N, C, OC);
    #pragma omp parallel
    matmul_backward_inp(dinp, dadd[how], dout, weight, N, C, OC);
    off[1] = largest_error(dinp, want, N * C) / rounding(OC);
    plain_product(want, dweight, (Matrix){dout, 1, OC}, (Matrix){inp, C, 1}, OC, C, N);
    #pragma omp parallel
    matmul_backward_weight(dweight, dout, inp, N, C, OC);
    off[2] = largest_error(dweight, want, OC * C) / rounding(N);
    check(off[0] < 1 && off[1] < 1 && off[2] < 1,
          "matmul: N %zu, C %zu, OC %zu, add %d: the three are off by %.2f, %.2f, %.2f roundings", N, C, OC,
          how, off[0], off[1], off[2]);
    free(inp), free(weight), free(dout), free(out), free(dinp), free(dweight), free(want);
}

static void test_matmul(void) {
    const size_t primes[] = {1, 2, 3, 5, 7, 11, 13, 17, 31, 37, 61, 67, 127, 131, 257, 263, 521};
    const size_t n_primes = sizeof primes / sizeof *primes;
    for (uint64_t trial = 0; trial < 400; trial++) {
        size_t size[3];
        for (uint64_t i = 0; i < 3; i++)
            size[i] = trial % 3 ? random_size(3 * trial + i, 1, 300) : primes[hash3(1, i, trial) % n_primes];
        check_products(size[0], size[1], size[2], (int)(trial / 3 % 3));
    }
    check_products(3, 5, 2 * NC + 3, 0); // more columns than are packed at once
}

static void test_exp(void) {
    double worst = 0;
    for (double x = -87; x <= 88; x += 1.7e-4) {
        double want = exp((double)(float)x);
        worst = larger(worst, fabs(exp_fast((float)x) - want) / want / 0x1p-23);
    }
    check(worst <= 2, "exp_fast: off by %.2f units in the last place", worst);
    check(exp_fast(0) == 1, "exp_fast(0) = %.9g", exp_fast(0));
    check(exp_fast(-1e30f) >= 0 && exp_fast(-1e30f) < 2e-38f, "exp_fast(-1e30) = %g", exp_fast(-1e30f));
    check(isfinite(exp_fast(1e30f)) && exp_fast(1e30f) > 1e38f, "exp_fast(1e30) = %g", exp_fast(1e30f));
    check(isnan(exp_fast(NAN)), "exp_fast(NaN) = %g", exp_fast(NAN));
}

static void test_row_max(void) {
    float x[70];
    for (size_t n = 1; n <= 70; n++)
        for (size_t place = 0; place < n; place++) {
            for (size_t i = 0; i < n; i++) x[i] = (float)(i % 7) - 9;
            x[place] = 5;
            check(row_max(x, n) == 5, "row_max: misses the largest of %zu numbers, number %zu", n, place);
        }
}

// ----------------------------------------------------------------------------
// attention

// Attention and its gradients straight from the definition, in double precision. rows: the
// positions of the queries.
static void plain_attention(double *out, double *lse, double *dq, double *dkv, const float *q,
                            const float *kv, const float *dout, const size_t *rows, const Attention *a) {
    size_t C = a->C, NH = a->NH, HS = C / NH;
    double *p = alloc_or_die(2 * a->T * sizeof *p), scale = 1 / sqrt((double)HS); // p[j]: of position j
    for (const Document *d = a->docs; d < a->docs + a->n_docs; d++)
        for (size_t i = d->query * NH; i < (d->query + d->n) * NH; i++) { // one head of one query
            size_t begin = d->begin, end = a->causal ? rows[i / NH] + 1 : d->end;
            const float *k = kv + i % NH * HS, *v = k + C, *qi = q + i * HS, *dy = dout + i * HS;
            double *dk = dkv + i % NH * HS, *dv = dk + C, *y = out + i * HS, sum = 0, dot = 0;
            for (size_t j = begin; j < end; j++) {
                p[j] = 0;
                for (size_t c = 0; c < HS; c++) p[j] += scale * qi[c] * k[j * 2 * C + c];
                sum += p[j] = exp(p[j]);
            }
            lse[i] = log(sum);
            for (size_t j = begin; j < end; j++)
                for (size_t c = 0; c < HS; c++) y[c] += p[j] / sum * v[j * 2 * C + c];
            for (size_t c = 0; c < HS; c++) dot += y[c] * dy[c];
            for (size_t j = begin; j < end; j++) {
                double dp = 0, pj = p[j] / sum;
                for (size_t c = 0; c < HS; c++) dp += (double)dy[c] * v[j * 2 * C + c];
                for (size_t c = 0; c < HS; c++) {
                    dq[i * HS + c] += scale * pj * (dp - dot) * k[j * 2 * C + c];
                    dk[j * 2 * C + c] += scale * pj * (dp - dot) * qi[c];
                    dv[j * 2 * C + c] += pj * dy[c];
                }
            }
        }
    free(p);
}

// Two rows of T positions, two heads of HS channels. If `sparse`, only every third position asks, and in one
// document none does.
static void check_attention(size_t T, size_t HS, int causal, int sparse) {
    const size_t NH = 2, C = NH * HS, N = 2 * T, ends[] = {7 * T / 100, T, T + T / 2 + 3, T + T / 2 + 20, N};
    Document docs[5];
    size_t *rows = alloc_or_die(N * sizeof *rows), n = 0;
    for (size_t k = 0; k < 5; k++) {
        docs[k] = (Document){k ? ends[k - 1] : 0, ends[k], n, 0};
        for (size_t t = docs[k].begin; t < ends[k]; t++)
            if (!sparse || (t % 3 == 1 && k != 3)) rows[n++] = t, docs[k].n++;
    }
    float *q = random_floats(n * C, 21), *kv = random_floats(N * 2 * C, 22), *dout = random_floats(n * C, 23);
    // whatever dq and dkv hold beforehand must not matter
    float *dq = random_floats(n * C, 24), *dkv = random_floats(N * 2 * C, 25), *out = alloc_or_die(n * C * 4);
    float *lse = alloc_or_die(n * NH * 4), *scores = alloc_or_die(THREADS * 2 * QB * T * 4);
    double *want = alloc_or_die(n * C * 8), *want_lse = alloc_or_die(n * NH * 8);
    double *want_dq = alloc_or_die(n * C * 8), *want_dkv = alloc_or_die(N * 2 * C * 8), largest = 0;
    Attention a = {T, C, NH, causal, docs, 5, sparse ? rows : NULL, NULL, scores};
    for (size_t i = 0; i < n * C; i++) q[i] *= 9 / sqrtf((float)HS); // so that some attend sharply
    #pragma omp parallel
    {
        attention_forward(out, lse, q, kv, &a);
        attention_backward(dq, dkv, dout, lse, q, kv, &a);
    }
    plain_attention(want, want_lse, want_dq, want_dkv, q, kv, dout, rows, &a);
    for (size_t i = 0; i < n * C; i++) largest = larger(largest, fabs(want_dq[i]));
    for (size_t i = 0; i < N * 2 * C; i++) largest = larger(largest, fabs(want_dkv[i]));
    double off = largest_error(out, want, n * C), off_lse = largest_error(lse, want_lse, n * NH);
    double off_dq = largest_error(dq, want_dq, n * C), off_dkv = largest_error(dkv, want_dkv, N * 2 * C);
    check(off < 5e-6 && off_lse < 5e-6 && off_dq < 5e-6 * largest && off_dkv < 5e-6 * largest,
          "attention (T %zu, HS %zu, causal %d, sparse %d): off by %g, lse %g, dq %g of %g, dkv %g", T, HS,
          causal, sparse, off, off_lse, off_dq, largest, off_dkv);
    free(rows), free(q), free(kv), free(dout), free(out), free(lse), free(dq), free(dkv), free(scores);
    free(want), free(want_lse), free(want_dq), free(want_dkv);
}

// What the PyTorch records do not cover: documents longer than QB, documents that begin in the middle of a
// row, more keys than KC, heads of more than KC channels.
static void test_attention(void) {
    for (int kind = 0; kind < 4; kind++) {
        check_attention(300, 6, kind % 2, kind / 2);
        check_attention(290, 34, kind % 2, kind / 2);
        check_attention(100, 260, kind % 2, kind / 2);
    }
    check_attention(900, 4, 1, 1); // more than QB predicted positions in a document
}

// ----------------------------------------------------------------------------
// the whole model against PyTorch, with the records that dev/reference.py wrote and describes

typedef struct {
    char name[24];
    uint32_t kind, count;
    void *data; // (count) int32 or float
} Record;

static Record records[512];
static size_t n_records;

static void load_reference(void) {
    Reader r;
    reader_open(&r, "dev/reference.bin");
    for (size_t done = 0; done < r.size && n_records < 512;) {
        Record *record = &records[n_records++];
        reader_get(&r, record, 32);
        record->data = alloc_or_die(record->count * 4);
        reader_get(&r, record->data, record->count * 4);
        done += 32 + record->count * 4;
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

// Part of a record, seen as rows of `wide` columns: the rows from `first` on (or first + rows[i], if rows is
// given), from `column` on. wide = 0 means the whole record.
typedef struct {
    const char *name, *tensor;
    size_t first, wide, column;
    const size_t *rows;
} Part;

// got (n,width) must agree with part of a record, to `tolerance` times the largest number in the record.
static void check_close(Part part, const float *got, size_t n, size_t width, double tolerance) {
    const Record *r = reference(part.name, part.tensor);
    const float *want = r->data;
    size_t wide = part.wide ? part.wide : width, right = 0;
    double largest = 1e-3, worst = 0;
    for (size_t i = 0; i < r->count; i++) largest = larger(largest, fabs(want[i]));
    for (size_t i = 0; i < n * width; i++) {
        size_t row = i / width, place = (part.first + (part.rows ? part.rows[row] : row)) * wide;
        place += part.column + i % width;
        double error = place < r->count ? fabs((double)got[i] - want[place]) : INFINITY;
        right += error <= tolerance * largest; // NaN is not
        worst = larger(worst, error);
    }
    check(right == n * width && (part.wide || r->count == n * width),
          "%s.%s from row %zu, column %zu: %zu of %zu are right; off by up to %.3g of %.3g", part.name,
          part.tensor, part.first, part.column, right, n * width, worst, largest);
}

// Fill in the documents of a batch from its inputs and rows.
static void set_documents(Batch *in, size_t T, int eot) {
    size_t i = in->n_docs = 0;
    for (size_t p = 0; p < in->B * T; p++) {
        if (p % T == 0 || in->inputs[p] == eot) in->docs[in->n_docs++] = (Document){p, p, i, 0};
        Document *d = &in->docs[in->n_docs - 1];
        d->end = p + 1;
        if (i < in->M && in->rows[i] == p) d->n++, i++;
    }
}

// One of the models in the reference, and its batch.
typedef struct {
    const char *name;
    size_t B, M, steps;
    int eot;
    Model m;
    Loader l;
    Batch in;
} Case;

static void set_case_batch(Case *k, size_t M, const int32_t *inputs, const int32_t *rows,
                           const int32_t *targets) {
    size_t T = k->m.c.T;
    k->in = k->l.all, k->in.B = k->B, k->in.M = k->M = M;
    memcpy(k->in.inputs, inputs, k->B * T * sizeof *inputs);
    for (size_t i = 0; i < M; i++) k->in.rows[i] = (size_t)rows[i], k->in.targets[i] = targets[i];
    set_documents(&k->in, T, k->eot);
}

static void open_case(Case *k, const char *name) {
    const int32_t *w = reference(name, "config")->data; // L C NH H T V B causal eot M steps
    Config c = {(size_t)w[0], (size_t)w[1], (size_t)w[2], (size_t)w[3], (size_t)w[4], (size_t)w[5], w[7]};
    *k = (Case){.name = name, .B = (size_t)w[6], .eot = w[8], .steps = (size_t)w[10]};
    model_alloc(&k->m, &c, k->B, k->B * c.T, MOST_THREADS, NEED_ALL);
    loader_alloc(&k->l, k->B, k->B, c.T);
    for (const Tensor *t = k->m.tensor; t < k->m.tensor + N_TENSORS; t++)
        memcpy(k->m.params + t->offset, reference(name, t->name)->data, tensor_size(t) * 4);
    set_case_batch(k, (size_t)w[9], reference(name, "inputs")->data, reference(name, "rows")->data,
                   reference(name, "targets")->data);
}

// (The reference is float64. PyTorch in float32 differs from it by up to 1e-6.)
static void check_activations(const Case *k, double tolerance) {
    const Model *m = &k->m;
    size_t L = m->c.L, C = m->c.C, H2 = 2 * m->c.H, NH = m->c.NH, T = m->c.T, N = k->B * T, M = k->M;
    for (size_t l = 0; l < L; l++) { // in the last layer only the predicted rows go on
        const size_t first = l * N, *rows = l + 1 < L ? NULL : k->in.rows, n = rows ? M : N;
        const float *kv = m->kvq + l * N * 3 * C, *q = kv + N * 2 * C, *lse = m->lse + l * N * NH;
        check_close((Part){k->name, "x", first, C, 0, NULL}, m->x + first * C, N, C, tolerance);
        check_close((Part){k->name, "qkv", first, 3 * C, C, NULL}, kv, N, 2 * C, tolerance);
        check_close((Part){k->name, "qkv", first, 3 * C, 0, rows}, q, n, C, tolerance);
        check_close((Part){k->name, "att", first, C, 0, rows}, m->att + first * C, n, C, tolerance);
        check_close((Part){k->name, "xm", first, C, 0, rows}, m->xm + first * C, n, C, tolerance);
        check_close((Part){k->name, "gu", first, H2, 0, rows}, m->gu + first * H2, n, H2, tolerance);
        const float *want = reference(k->name, "lse")->data; // (L,B,NH,T); ours is (L,B*T,NH)
        size_t right = 0;
        for (size_t i = 0; i < n * NH; i++) {
            size_t p = rows ? rows[i / NH] : i / NH;
            right += fabs(lse[i] - want[((l * k->B + p / T) * NH + i % NH) * T + p % T]) < 1e-5;
        }
        check(right == n * NH, "%s.lse: of layer %zu, %zu of %zu are right", k->name, l, right, n * NH);
    }
    check_close((Part){k->name, "x", L * N, C, 0, k->in.rows}, m->x + L * N * C, M, C, tolerance);
    check_close((Part){.name = k->name, .tensor = "nf"}, m->nf, M, C, tolerance);
    check_close((Part){.name = k->name, .tensor = "logits"}, m->logits, M, m->c.V + 1, tolerance);
    check_close((Part){.name = k->name, .tensor = "losses"}, m->losses, M, 1, tolerance);
}

// Compare every tensor in a block with the record of its name after `prefix`.
static void check_tensors(const Case *k, const char *prefix, const float *block, double tolerance) {
    char name[24];
    for (const Tensor *t = k->m.tensor; t < k->m.tensor + N_TENSORS; t++) {
        snprintf(name, sizeof name, "%s%s", prefix, t->name);
        check_close((Part){.name = k->name, .tensor = name}, block + t->offset, tensor_size(t), 1, tolerance);
    }
}

// One step of AdamW with the model's gradients, clipped to norm 1. Returns the norm before clipping.
static double clipped_step(Model *m, float lr, size_t step) {
    double partial[PARTS], norm = 0;
    #pragma omp parallel
    {
        double mine = gradient_norm(m->grads, m->block, partial);
        adamw(m, lr, 0.1f, (float)fmin(1, 1 / (mine + 1e-6)), step);
        #pragma omp master
        norm = mine;
    }
    return norm;
}

// Several training steps, with the batches that PyTorch was given.
static void check_steps(Case *k) {
    const int32_t *Ms = reference(k->name, "step_M")->data, *inputs = reference(k->name, "step_inputs")->data;
    const int32_t *rows = reference(k->name, "step_rows")->data;
    const int32_t *targets = reference(k->name, "step_targets")->data;
    double peak = ((float *)reference(k->name, "peak_lr")->data)[0];
    float loss[64] = {0}, norm[64], lr[64];
    memset(k->m.grads, 0, k->m.block * sizeof(float));
    for (size_t i = 0; i < k->steps; i++) {
        set_case_batch(k, (size_t)Ms[i], inputs, rows, targets);
        inputs += k->B * k->m.c.T, rows += k->M, targets += k->M;
        lr[i] = (float)learning_rate(peak, i + 1, k->steps);
        model_pass(&k->m, &k->in, 1 / (float)k->M);
        for (size_t j = 0; j < k->M; j++) loss[i] += k->m.losses[j] / (float)k->M;
        norm[i] = (float)clipped_step(&k->m, lr[i], i + 1);
    }
    check_close((Part){.name = k->name, .tensor = "step_lr"}, lr, k->steps, 1, 1e-6);
    check_close((Part){.name = k->name, .tensor = "step_loss"}, loss, k->steps, 1, 1e-5);
    check_close((Part){.name = k->name, .tensor = "step_norm"}, norm, k->steps, 1, 1e-4);
    check_tensors(k, "final_", k->m.params, 1e-4);
}

static void test_reference(void) {
    const char *names[] = {"mlm", "ntp", "wide", "one"};
    load_reference();
    for (int i = 0; i < 4; i++) {
        static Case k;
        open_case(&k, names[i]);
        model_pass(&k.m, &k.in, 0);
        check_activations(&k, 2e-6);
        model_pass(&k.m, &k.in, 1 / (float)k.M);
        check_close((Part){.name = k.name, .tensor = "dx"}, k.m.dx, k.B * k.m.c.T, k.m.c.C, 5e-6);
        check_tensors(&k, "d", k.m.grads, 5e-6);
        if (k.steps > 0) check_steps(&k);
        model_free(&k.m), loader_free(&k.l);
    }
}

// ----------------------------------------------------------------------------
// the whole model against itself: finite differences, threads, micro-batches, gathered rows, documents

// A small model and B rows of random tokens, with several documents in each.
typedef struct {
    Config c;
    Model m;
    Loader l;
} Small;

enum { SMALL_EOT = 30 };

static void small_open(Small *s, Config c, size_t B, size_t micro) {
    s->c = c;
    model_alloc(&s->m, &c, B, B * c.T, MOST_THREADS, NEED_ALL);
    loader_alloc(&s->l, B, micro, c.T);
    model_init(&s->m, 3);
    for (size_t i = 0; i < B * (c.T + 1); i++)
        s->l.tokens[i] = uniform(3, 202, i) < 0.08 ? SMALL_EOT : (uint16_t)(uniform(3, 203, i) * SMALL_EOT);
    loader_mask(&s->l, &c, SMALL_EOT, micro, 3, STREAM_MASK, 0, B, 0.3);
}

static void small_close(Small *s) { model_free(&s->m), loader_free(&s->l); }

// Returns the mean loss over all micro-batches; if `backward`, its gradient goes to m.grads.
static double small_pass(Small *s, int backward) {
    double loss = 0;
    if (backward) memset(s->m.grads, 0, s->m.block * sizeof(float));
    for (size_t i = 0; i < s->l.n_micro; i++) {
        model_pass(&s->m, &s->l.micro[i], backward ? 1 / (float)s->l.M : 0);
        for (size_t j = 0; j < s->l.micro[i].M; j++) loss += (double)s->m.losses[j];
    }
    return loss / (double)s->l.M;
}

// For a direction d in each tensor, (loss(w + h d) - loss(w - h d)) / 2h must equal gradient · d.
static void test_finite_differences(void) {
    for (int test = 0; test < 2 * N_TENSORS; test++) {
        Small s;
        int causal = test / N_TENSORS;
        small_open(&s, (Config){2, 24, 2, 40, 19, 37, causal}, 3, 3);
        const Tensor *t = &s.m.tensor[test % N_TENSORS];
        size_t n = tensor_size(t);
        float *w = s.m.params + t->offset, *g = s.m.grads + t->offset;
        float *kept = alloc_or_die(n * 4), *d = alloc_or_die(n * 4);
        double h = 2e-3, dot = 0, length = 0, side[2];
        small_pass(&s, 1);
        // partly along the gradient, so that the slope is well above rounding, partly random
        for (size_t j = 0; j < n; j++) length += pow(g[j], 2);
        for (size_t j = 0; j < n; j++) {
            d[j] = (float)(g[j] / sqrt(length)) + random_float((uint64_t)test << 40 | j) / sqrtf((float)n);
            dot += (double)d[j] * g[j];
        }
        memcpy(kept, w, n * 4);
        for (int k = 0; k < 2; k++) {
            for (size_t j = 0; j < n; j++) w[j] = kept[j] + (float)(k ? -h : h) * d[j];
            side[k] = small_pass(&s, 0);
        }
        double slope = (side[0] - side[1]) / (2 * h);
        check(fabs(slope - dot) < 2e-3 * fabs(dot) + 1e-4,
              "finite difference of %s (causal %d): %.6f, gradient %.6f", t->name, causal, slope, dot);
        free(kept), free(d), small_close(&s);
    }
}

// The losses, gradients, parameters and moments after 20 steps are the same, bit for bit, for any number of threads.
static void check_threads(Config c, size_t B) {
    Small one = {0}, s;
    for (int k = 0; k < MOST_THREADS; k++) {
        omp_set_num_threads(k + 1);
        small_open(&s, c, B, B);
        for (size_t step = 1; step <= 20; step++) clipped_step(&s.m, 0.01f, step), small_pass(&s, 1);
        if (k == 0) one = s;
        check(memcmp(one.m.params, s.m.params, 4 * s.m.block * sizeof(float)) == 0 &&
                  memcmp(one.m.losses, s.m.losses, s.l.M * sizeof(float)) == 0,
              "threads: %d differ from 1 (L %zu, C %zu, T %zu, B %zu)", k + 1, c.L, c.C, c.T, B);
        if (k > 0) small_close(&s);
    }
    small_close(&one);
    omp_set_num_threads(THREADS);
}

static void test_threads(void) {
    check_threads((Config){2, 24, 2, 40, 19, 37, 0}, 3);
    check_threads((Config){1, 130, 5, 67, 131, 301, 1}, 2);
    check_threads((Config){1, 10, 1, 16, 1, 33, 0}, 5);
    check_threads((Config){2, 64, 4, 176, 300, 600, 0}, 3);
}

// Micro-batches change only the order in which a gradient is summed: it agrees to 1e-5 of its largest number.
static void test_micro_batches(void) {
    const Config c = {2, 24, 2, 40, 19, 37, 0};
    Small whole, s;
    small_open(&whole, c, 7, 7);
    double largest = 0, loss = small_pass(&whole, 1);
    for (size_t i = 0; i < whole.m.block; i++) largest = larger(largest, fabs(whole.m.grads[i]));
    for (size_t micro = 1; micro < 7; micro++) {
        double worst = 0;
        small_open(&s, c, 7, micro);
        double off = small_pass(&s, 1) - loss;
        for (size_t i = 0; i < s.m.block; i++) worst = larger(worst, fabs(s.m.grads[i] - whole.m.grads[i]));
        check(s.l.M == whole.l.M && worst < 1e-5 * largest && fabs(off) < 1e-5,
              "micro-batches of %zu: gradients are off by %g, the loss by %g", micro, worst / largest, off);
        small_close(&s);
    }
    small_close(&whole);
}

// In the last layer only the predicted rows go on. The logits of a row must not depend on which others are
// predicted: they have the same bits as when all rows are. And if the rows are split into two parts, the
// gradients of the parts add up to the gradient of the whole.
static void check_gathered(int causal) {
    Small s;
    small_open(&s, (Config){2, 24, 2, 40, 40, 37, causal}, 3, 3);
    size_t N = 3 * s.c.T, V1 = s.c.V + 1, same = 0;
    float *logits = alloc_or_die(N * V1 * 4), *sum = alloc_or_die(s.m.block * 4);
    double largest = 0, worst = 0;
    for (int k = 0; k < 3; k++) { // all rows, then each part
        Batch in = s.l.micro[0];
        in.M = 0;
        for (size_t p = 0; p < N; p++)
            if (k == 0 || (uniform(9, 9, p) < 0.7) == (k == 1))
                in.rows[in.M] = p, in.targets[in.M++] = (int32_t)(p % s.c.V);
        set_documents(&in, s.c.T, SMALL_EOT);
        memset(s.m.grads, 0, s.m.block * 4);
        model_pass(&s.m, &in, 0);
        if (k == 0) memcpy(logits, s.m.logits, N * V1 * 4);
        for (size_t i = 0; i < in.M; i++)
            same += memcmp(logits + in.rows[i] * V1, s.m.logits + i * V1, V1 * 4) == 0;
        model_pass(&s.m, &in, 0.01f);
        for (size_t i = 0; i < s.m.block; i++) sum[i] += (k == 0 ? -1 : 1) * s.m.grads[i];
        for (size_t i = 0; i < s.m.block && k == 0; i++) largest = larger(largest, fabs(s.m.grads[i]));
    }
    check(same == 2 * N, "gather: %zu of %zu rows have the logits of the full batch", same - N, N);
    for (size_t i = 0; i < s.m.block; i++) worst = larger(worst, fabs(sum[i]));
    check(worst < 1e-5 * largest, "gather: the gradients of the parts are off by %g", worst / largest);
    free(logits), free(sum), small_close(&s);
}

static void test_gather(void) { check_gathered(0), check_gathered(1); }

// Changing the tokens of one document does not change a bit of another document's logits.
static void check_documents(int causal) {
    enum { T = 40, BEGIN = 11, END = 24 }; // the second document of three
    Small s;
    small_open(&s, (Config){2, 24, 2, 40, T, 37, causal}, 1, 1);
    for (size_t t = 0; t <= T; t++)
        s.l.tokens[t] = t == BEGIN || t == END ? SMALL_EOT : (uint16_t)(t * 7 % SMALL_EOT);
    loader_mask(&s.l, &s.c, SMALL_EOT, 1, 3, STREAM_MASK, 0, 1, 0.3);
    const Batch *in = &s.l.micro[0];
    const size_t ends[] = {0, BEGIN, END, T};
    check(in->n_docs == 3, "documents: %zu, not 3", in->n_docs);
    for (size_t k = 0, query = 0; k < 3; k++) {
        const Document *d = &in->docs[k];
        size_t n = 0;
        for (size_t i = 0; i < in->M; i++) n += in->rows[i] >= ends[k] && in->rows[i] < ends[k + 1];
        check(d->begin == ends[k] && d->end == ends[k + 1] && d->query == query && d->n == n,
              "documents: number %zu is %zu … %zu with predictions %zu … %zu", k, d->begin, d->end, d->query,
              d->query + d->n);
        query += n;
    }
    small_pass(&s, 0);
    size_t V1 = s.c.V + 1, same = 0, others = 0, changed = 0, inside = 0;
    float *before = alloc_or_die(in->M * V1 * 4);
    memcpy(before, s.m.logits, in->M * V1 * 4);
    for (size_t t = BEGIN + 1; t < END; t++)
        if (in->inputs[t] != (int32_t)s.c.V) in->inputs[t] = (in->inputs[t] + 1) % SMALL_EOT;
    small_pass(&s, 0);
    for (size_t i = 0; i < in->M; i++) {
        size_t equal = memcmp(before + i * V1, s.m.logits + i * V1, V1 * 4) == 0;
        if (in->rows[i] >= BEGIN && in->rows[i] < END) inside++, changed += !equal;
        else others++, same += equal;
    }
    check(same == others && others > 3, "documents: %zu of %zu rows outside kept their bits", same, others);
    // in next-token prediction, the first position of the document sees none of the changes
    check(changed + (size_t)causal == inside && inside > 1, "documents: %zu of %zu inside changed",
          changed, inside);
    free(before), small_close(&s);
}

static void test_documents(void) { check_documents(0), check_documents(1); }

// ----------------------------------------------------------------------------
// counts, initial weights, the learning-rate schedule

static void test_counts(void) {
    // 28 layers, 768 channels, H = 2048: attention 4·768², MLP 3·768·2048 = 8·768² a layer
    Config c = {28, 768, 12, 2048, 128, 50257, 0};
    check(default_hidden(768) == 2048 && default_hidden(64) == 176 && default_hidden(16) == 48 &&
              default_hidden(128) == 336, "default_hidden of 768, 64, 16, 128: %zu %zu %zu %zu",
          default_hidden(768), default_hidden(64), default_hidden(16), default_hidden(128));
    size_t norms = 2 * 28 * 768 + 768, embedding = 50258 * 768;
    check(parameter_count(&c) == 198180864 + norms + embedding, "parameters: %zu", parameter_count(&c));
    check(flops_per_token(&c) == 6.0 * 198180864 + 12.0 * 28 * 768 * 128 &&
              fabs(flops_per_token(&c) - (72.0 * 28 * 768 * 768 + 12.0 * 28 * 768 * 128)) < 1,
          "F_N: %.0f", flops_per_token(&c));
    check(fabs(flops_per_token_head(&c, 0.2) - 6 * 0.2 * 768 * 50257) < 1, "F_head of mlm: %f",
          flops_per_token_head(&c, 0.2));
    // all rows need keys and values in both layers, a fifth the rest of the last layer and the head
    const Config two = {2, 64, 2, 176, 128, 930, 0};
    double layer = 6 * (4. * 64 * 64 + 3 * 64 * 176) + 12 * 64 * 128, keys = 6 * 2. * 64 * 64;
    double executed = 4000 * (layer + keys) + 800 * (layer - keys + 6. * 64 * 931);
    check(fabs(executed_flops(&two, 4000, 800) - executed) < 1, "executed FLOPs: %.0f, not %.0f",
          executed_flops(&two, 4000, 800), executed);
    // of 10,000 positions 2000 are expected, with a standard deviation of 40
    c.T = 100;
    check(most_predicted(&c, 100, 0.2) == 2000 + 8 * 40 + 16 && most_predicted(&c, 100, 1) == 10000,
          "most_predicted: %zu", most_predicted(&c, 100, 0.2));
    c.causal = 1;
    check(most_predicted(&c, 100, 0.2) == 10000, "most_predicted of ntp: %zu", most_predicted(&c, 100, 0.2));
    check(fabs(flops_per_token_head(&c, 0.2) - 6.0 * 768 * 50257) < 1, "F_head of ntp: %f",
          flops_per_token_head(&c, 0.2));
}

static void test_initial_weights(void) {
    const Config c = {1, 64, 2, 176, 8, 900, 0};
    Model m;
    model_alloc(&m, &c, 1, 8, 1, NEED_HEAD), model_init(&m, 9);
    for (const Tensor *t = m.tensor; t < m.tensor + N_TENSORS; t++) {
        double n = (double)tensor_size(t), sum = 0, squares = 0, most = 0;
        double sigma = t == m.tensor + WDOWN ? 1 / sqrt(176) : 1 / sqrt(64);
        for (size_t j = 0; j < tensor_size(t); j++) {
            double x = m.params[t->offset + j];
            sum += x, squares += x * x, most = larger(most, fabs(x));
        }
        if (strncmp(t->name, "norm", 4) == 0)
            check(sum == n && squares == n, "initial weights: %s is not 1", t->name);
        else // a normal distribution cut at ±3 sigma has variance 0.9733 sigma²
            check(fabs(sum / n) < 5 * sigma / sqrt(n) &&
                      fabs(squares / n / (0.97331 * sigma * sigma) - 1) < 5 / sqrt(n / 2) &&
                      most <= 3.0001 * sigma && most > 2.9 * sigma,
                  "initial weights: %s has mean %g, variance %g, largest %g", t->name, sum / n, squares / n,
                  most);
    }
    model_free(&m);
}

static void test_schedule(void) {
    const struct { size_t step, steps; double rate; } cases[] = {
        {1, 200, 0.05}, {19, 200, 0.95}, {20, 200, 1}, {21, 200, 1}, {200, 200, 0.1}, // warm-up: 20 steps
        {122, 221, 0.55}, // halfway from step 23 to step 221
        {1, 1, 1}, {1, 9, 1}, {2, 9, 1}, {9, 9, 0.1}, {1, 2, 1}, {1, 19, 1}, {2, 19, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check(fabs(learning_rate(3, cases[i].step, cases[i].steps) - 3 * cases[i].rate) < 1e-12,
              "learning rate of step %zu of %zu: %f of the peak, not %f", cases[i].step, cases[i].steps,
              learning_rate(3, cases[i].step, cases[i].steps) / 3, cases[i].rate);
}

// ----------------------------------------------------------------------------
// data: masks, order, checksums

static void test_masks(void) {
    const size_t T = 100, rows = 2000;
    double rate = 0.2, n = (double)(T * rows), selected = 0, both = 0;
    for (size_t r = 0; r < rows; r++)
        for (size_t t = 0; t < T; t++) {
            int now = is_masked(1, STREAM_MASK, r, T, t, rate);
            selected += now, both += now && is_masked(1, STREAM_MASK, r + rows, T, t, rate);
        }
    check(fabs(selected - n * rate) < 4 * sqrt(n * rate * (1 - rate)), "masks: %.0f of %.0f", selected, n);
    check(fabs(both - n * rate * rate) < 4 * sqrt(n * rate * rate), "masks: two epochs share %.0f", both);
    // end of text is never masked (test_order checks everything else in a batch)
    Small s;
    size_t ends = 0, kept = 0;
    small_open(&s, (Config){1, 8, 1, 16, 500, 37, 0}, 4, 4);
    for (size_t p = 0; p < 2000; p++)
        ends += s.l.tokens[p] == SMALL_EOT, kept += s.l.all.inputs[p] == SMALL_EOT;
    check(ends == kept && ends > 99 && s.l.M > 500, "masks: %zu of %zu ends of text are kept", kept, ends);
    small_close(&s);
}

static void test_shuffle(void) {
    // by dev/reference.py's shuffled_row, in Python
    static const struct { size_t n, epoch, row[3]; } want[] = {
        {1000, 0, {987, 200, 669}}, {1000, 3, {308, 892, 261}}, {90000, 0, {48811, 55681, 73971}}};
    for (int k = 0; k < 3; k++)
        for (size_t i = 0; i < 3; i++)
            check(shuffled_row(i, want[k].n, 5, want[k].epoch) == want[k].row[i], "shuffle %d: row %zu", k, i);
    for (size_t n = 1; n < 300; n += n < 20 ? 1 : 37) {
        size_t seen[300] = {0}, moved = 0, other = 0, once = 0;
        for (size_t i = 0; i < n; i++) {
            size_t j = shuffled_row(i, n, 5, 0);
            if (j < n) seen[j]++;
            moved += j != i, other += j != shuffled_row(i, n, 5, 1);
        }
        for (size_t i = 0; i < n; i++) once += seen[i] == 1;
        check(once == n, "shuffle of %zu: only %zu appear once", n, once);
        check(n <= 30 || (moved > n / 2 && other > n / 2), "shuffle of %zu: %zu moved, %zu later", n, moved,
              other);
    }
}

// Write a shard of n tokens in which token i is 3i mod 97, so that a row can be recognised by its tokens.
static void write_numbered(const char *path, size_t n, int32_t V, int32_t eot) {
    int32_t *h = alloc_or_die(HEADER * 4 + n * 2);
    h[0] = SHARD_MAGIC, h[1] = 1, h[2] = (int32_t)n, h[3] = V, h[4] = eot + 1;
    for (size_t i = 0; i < n; i++) ((uint16_t *)(h + HEADER))[i] = (uint16_t)(3 * i % 97);
    write_bytes(path, h, HEADER * 4 + n * 2);
    free(h);
}

enum { ORDER_T = 8, ORDER_ROWS = 12, ORDER_B = 5, ORDER_SHOWN = 10 * ORDER_ROWS }; // 10 epochs, 24 steps

// The number of a row of such a shard, or -1.
static int numbered_row(const uint16_t *row) {
    for (int r = 0; r < ORDER_ROWS; r++)
        if (row[0] == 3 * r * ORDER_T % 97 && row[ORDER_T - 1] == (3 * r * ORDER_T + 21) % 97) return r;
    return -1;
}

// Load the batches of all steps, in micro-batches of 2 rows; which rows they are goes to order (ORDER_SHOWN).
// The masks must depend on a row's number in the whole run.
static void collect_order(int *order, Loader *l, const Shards *s, const Config *c, uint64_t seed) {
    size_t causal = (size_t)c->causal, right = 0, all = 0;
    for (size_t step = 0; step < ORDER_SHOWN / ORDER_B; step++) {
        load_training(l, s, c, ORDER_B, 2, seed, step, 0.3);
        size_t i = 0; // predictions so far in the micro-batch
        for (size_t b = 0; b < ORDER_B; b++) {
            const Batch *in = &l->micro[b / 2];
            const uint16_t *row = l->tokens + b * (ORDER_T + causal);
            int found = order[step * ORDER_B + b] = numbered_row(row);
            if (b % 2 == 0) i = 0;
            for (size_t t = 0; t < ORDER_T; t++, all++) {
                int predict = causal || uniform(seed, STREAM_MASK, (step * ORDER_B + b) * ORDER_T + t) < 0.3;
                size_t p = b % 2 * ORDER_T + t, target = 3 * ((size_t)found * ORDER_T + t + causal) % 97;
                int listed = i < in->M && in->rows[i] == p && in->targets[i] == (int32_t)target;
                int input = predict && !causal ? 100 : row[t];
                right += (predict ? listed : 1) && in->inputs[p] == input && in->B == (b < 4 ? 2 : 1);
                i += (size_t)predict;
            }
            if (b % 2 || b == 4) check(i == in->M, "order: %zu predictions, not %zu", in->M, i);
        }
    }
    check(right == all, "order: seed %d: %zu of %zu positions are right", (int)seed, right, all);
}

// Every epoch shows each row once, in an order that depends on the epoch and the seed.
static void check_order(int causal) {
    const Config c = {1, 8, 1, 16, ORDER_T, 100, causal};
    const char *path = scratch("order.bin");
    int order[2][ORDER_SHOWN], in_place = 0, same_epoch = 0, same_seed = 0;
    Shards s;
    Loader l;
    // with as many tokens left over as there can be
    write_numbered(path, ORDER_ROWS * ORDER_T + ORDER_T - (causal ? 0 : 1), 100, 99);
    shards_open(&s, &path, 1), loader_alloc(&l, ORDER_B, 2, ORDER_T);
    for (int k = 0; k < 2; k++) {
        collect_order(order[k], &l, &s, &c, 6 + (uint64_t)k);
        for (int i = 0; i < ORDER_SHOWN; i++) {
            int row = i % ORDER_ROWS, times = 0;
            for (int j = i - row; j < i - row + ORDER_ROWS; j++) times += order[k][j] == row;
            check(times == 1, "order: epoch %d shows row %d %d times", i / ORDER_ROWS, row, times);
            in_place += order[k][i] == row;
            same_epoch += i >= ORDER_ROWS && order[k][i] == order[k][row];
            same_seed += k == 1 && order[0][i] == order[1][i];
        }
    }
    // by chance, a twelfth of the 240, 216 and 120 places agree
    check(in_place < 60 && same_epoch < 60 && same_seed < 40,
          "order: %d in place, %d as in epoch 0, %d as with another seed", in_place, same_epoch, same_seed);
    // 5 validation rows of 12 are 0, 2, 4, 7 and 9; their masks depend on their number among the 5 and seed 1
    const size_t rows[] = {0, 2, 4, 7, 9};
    load_validation(&l, &s, &c, 2, 3, 5, 0.3);
    for (size_t i = 0; i < 3 * ORDER_T; i++) {
        size_t r = 2 + i / ORDER_T, t = i % ORDER_T;
        int masked = !causal && uniform(1, STREAM_VAL_MASK, r * ORDER_T + t) < 0.3;
        check(l.all.inputs[i] == (masked ? 100 : (int32_t)(3 * (rows[r] * ORDER_T + t) % 97)),
              "order: a wrong input in validation row %zu, position %zu", r, t);
    }
    check(l.n_micro == 1 && l.micro[0].B == 3, "order: validation is cut into %zu", l.n_micro);
    free(s.tokens), loader_free(&l);
}

static void test_order(void) { check_order(0), check_order(1); }

// Rows are counted through all files, none crosses from one file to the next, and the
// checksum covers every byte.
static void test_shards(void) {
    const int32_t gpt2[HEADER + 2] = {SHARD_MAGIC, 1, 3}; // as llm.c writes it, without V
    char bytes[sizeof gpt2];
    const uint16_t three[3] = {50256, 50256, 11};
    uint16_t row[2];
    Shards s;
    memcpy(bytes, gpt2, sizeof gpt2), memcpy(bytes + HEADER * 4, three, 6);
    write_bytes(scratch("gpt2.bin"), bytes, HEADER * 4 + 6);
    const char *path = strdup(scratch("gpt2.bin")), *paths[] = {path, path, path};
    shards_open(&s, paths, 1);
    check(s.V == 50257 && s.eot == 50256 && s.total == 3, "GPT-2 shard: V %zu, end of text %d", s.V, s.eot);
    shards_open(&s, paths, 3);
    check(shards_rows(&s, 2, 0) == 3 && shards_rows(&s, 2, 1) == 3 && shards_rows(&s, 1, 1) == 6,
          "shards: a wrong number of rows in three files");
    shards_read(&s, 5, 1, 1, row);
    check(row[0] == 50256 && row[1] == 11, "shards: the last row is %u %u", row[0], row[1]);

    const uint32_t word = 1; // (0xcbf29ce484222325 ^ 1) * 0x100000001b3 mod 2^64
    check(checksum_add(CHECKSUM_START, &word, 4) == 0xaf63bc4c8601b62c, "checksum: not FNV-1a of a word");
    size_t n;
    write_numbered(scratch("one.bin"), 100001, 100, 99); // several times the read buffer
    char *file = slurp(scratch("one.bin"), &n);
    uint64_t sum = checksum_add(CHECKSUM_START, file, n);
    path = strdup(scratch("two.bin"));
    const size_t places[] = {n, HEADER * 4, n / 2, n - 1}; // n: no change
    for (int i = 0; i < 4; i++) {
        file[places[i]] ^= 1, write_bytes(path, file, n), file[places[i]] ^= 1;
        shards_open(&s, &path, 1);
        check((s.checksum == sum) == (i == 0), "checksum: wrong if byte %zu is changed", places[i]);
    }
    free(file);
}

// ----------------------------------------------------------------------------
// training: a step, a validation, the guesses at the end

// A little village for short runs: 312 training rows and 75 validation rows of 16 tokens.
static void make_data(void) {
    if (access(scratch("t.vocab"), F_OK) == 0) return;
    int code = shell("data/village --out @/t --tokens 5000 --val-tokens 1200 --people 40");
    if (code != 0) die("data/village: exit %d: %s", code, slurp(scratch("stderr"), NULL));
}

// Set up a run in this process, with room for 16 rows that are all predicted.
static void open_small_run(Run *r, Settings s) {
    *r = (Run){.s = s};
    open_data(r), settle(r);
    model_alloc(&r->m, &r->c, 16, 16 * r->c.T, MOST_THREADS, NEED_ALL), model_init(&r->m, 5);
    loader_alloc(&r->loader, 16, r->s.micro_batch, r->c.T);
}

static void close_small_run(Run *r) {
    model_free(&r->m), loader_free(&r->loader);
    free(r->train.tokens), free(r->val.tokens);
}

// One step of AdamW in double precision on w, m1 and v1 (n). Returns the norm of the gradient.
static double plain_step(double *w, double *m1, double *v1, const float *grads, size_t n, size_t step,
                         double lr, double decay, double clip) {
    double norm = 0;
    for (size_t i = 0; i < n; i++) norm += pow(grads[i], 2);
    norm = sqrt(norm);
    for (size_t i = 0; i < n; i++) {
        double g = grads[i] * (clip > 0 && norm > clip ? clip / norm : 1);
        m1[i] = 0.9 * m1[i] + 0.1 * g, v1[i] = 0.95 * v1[i] + 0.05 * g * g;
        double m_hat = m1[i] / (1 - pow(0.9, (double)step)), v_hat = v1[i] / (1 - pow(0.95, (double)step));
        w[i] -= lr * (decay * w[i] + m_hat / (sqrt(v_hat) + 1e-8));
    }
    return norm;
}

// train_step, on micro-batches of unequal size, against plain_step on the whole batch: clipping, decay,
// learning rate, bias correction, order of the data.
static void check_train_step(Run *r) {
    const Settings *s = &r->s;
    size_t n = r->m.block, M = 0;
    double *w = alloc_or_die(n * 8), *m1 = alloc_or_die(n * 8), *v1 = alloc_or_die(n * 8), worst = 0, norm;
    Loader whole;
    loader_alloc(&whole, s->batch, s->batch, r->c.T);
    for (size_t i = 0; i < n; i++) w[i] = r->m.params[i];
    for (size_t step = 1; step <= 4; step++) {
        load_training(&whole, &r->train, &r->c, s->batch, s->batch, s->seed, step - 1, s->mask_rate);
        M = whole.M;
        model_pass(&r->m, &whole.micro[0], 1 / (float)M);
        double loss = 0, lr = s->lr * (double)step / 5; // of 50 steps, 5 are warm-up
        for (size_t i = 0; i < M; i++) loss += r->m.losses[i] / (double)M;
        double want = plain_step(w, m1, v1, r->m.grads, n, step, lr, s->weight_decay, s->grad_clip);
        memset(r->m.grads, 0, n * 4);
        double got = train_step(r, step, &norm);
        check(fabs(got - loss) < 1e-5 && fabs(norm / want - 1) < 1e-4,
              "step %zu: loss %f, not %f; norm %f, not %f", step, got, loss, norm, want);
        check(s->grad_clip > 100 || norm > s->grad_clip, "step %zu: a norm of %f is not clipped", step, norm);
        for (size_t i = 0; i < n; i++) { // a gradient that is all rounding has no certain sign
            worst = larger(worst, fabs(r->m.m[i] - m1[i]) / 1e-5);
            if (sqrt(v1[i]) > 1e-4) worst = larger(worst, fabs(r->m.params[i] - w[i]) / 2e-4);
            w[i] = r->m.params[i], m1[i] = r->m.m[i], v1[i] = r->m.v[i];
        }
    }
    check(worst < 1, "step (clip %g): parameters or moments are off by %.2f tolerances", s->grad_clip, worst);
    free(w), free(m1), free(v1), loader_free(&whole);
}

// The validation loss and its standard error (Cochran's, for a ratio of means), computed one row at a time.
static double plain_validation(Model *m, const Shards *val, size_t n, double mask_rate, double *se) {
    double loss[64] = {0}, count[64] = {0}, all_loss = 0, all_count = 0, squares = 0;
    Loader l;
    loader_alloc(&l, 1, 1, m->c.T);
    for (size_t r = 0; r < n; r++) {
        load_validation(&l, val, &m->c, r, 1, n, mask_rate);
        model_pass(m, &l.micro[0], 0);
        for (size_t i = 0; i < l.M; i++) loss[r] += m->losses[i], count[r]++;
        all_loss += loss[r], all_count += count[r];
    }
    double mean = all_loss / all_count, N = (double)n;
    for (size_t r = 0; r < n; r++) squares += pow(loss[r] - mean * count[r], 2);
    *se = sqrt(squares / N / (N - 1)) / (all_count / N);
    loader_free(&l);
    return mean;
}

static void check_validate(Run *r) {
    size_t all = r->s.val_rows, few[] = {all, 2, 1};
    for (int k = 0; k < 3; k++) {
        size_t rows = r->s.val_rows = few[k];
        double se, loss = plain_validation(&r->m, &r->val, rows, r->s.mask_rate, &se);
        validate(r);
        check(fabs(r->done.val_loss - loss) < 1e-5, "validation of %zu rows: %f, not %f", rows, r->done.val_loss, loss);
        check(rows == 1 ? isnan(r->done.val_se) : fabs(r->done.val_se / se - 1) < 1e-4,
              "validation of %zu rows: standard error %f, not %f", rows, r->done.val_se, se);
    }
    r->s.val_rows = all;
}

static Settings tiny_settings(void) {
    static const char *train, *val;
    make_data();
    if (!train) train = strdup(scratch("t_train.bin")), val = strdup(scratch("t_val.bin"));
    Settings s = default_settings;
    s.train = (Files){1, &train}, s.val = (Files){1, &val};
    s.layers = 2, s.channels = 20, s.heads = 2, s.hidden = 24, s.seq_len = 16;
    s.batch = 7, s.micro_batch = 3, s.steps = 50, s.seed = 11, s.val_rows = 10;
    s.lr = 0.02, s.weight_decay = 0.3, s.mask_rate = 0.25;
    return s;
}

static void test_step(void) {
    const double clips[] = {0.4, 1e3, 0};
    for (int kind = 0; kind < 6; kind++) {
        static Run r;
        double norm;
        Settings s = tiny_settings();
        s.objective = kind % 2 ? "ntp" : "mlm", s.grad_clip = clips[kind / 2];
        open_small_run(&r, s);
        check_train_step(&r), check_validate(&r);
        // a loss that is not finite must change nothing
        float *kept = alloc_or_die(r.m.block * 4), *w = r.m.params + r.m.tensor[NORMF].offset;
        *w = INFINITY, memcpy(kept, r.m.params, r.m.block * 4);
        check(!isfinite(train_step(&r, 5, &norm)) && memcmp(kept, r.m.params, r.m.block * 4) == 0,
              "step: a loss that is not finite changes parameters");
        free(kept), close_small_run(&r);
    }
}

// Data with a vocabulary of 100 words, "word00" to "word99"; the last is end of text, and does not occur.
static void make_words(void) {
    const int32_t h[HEADER] = {VOCAB_MAGIC, 2, 100, 99};
    char file[sizeof h + 800 + 1], *p = file + sizeof h;
    memcpy(file, h, sizeof h);
    for (int i = 0; i < 100; i++) p += sprintf(p, "%c word%02d", 7, i);
    write_bytes(scratch("w.vocab"), file, sizeof h + 800);
    write_numbered(scratch("w_train.bin"), 400, 100, 99), write_numbered(scratch("w_val.bin"), 400, 100, 99);
}

// What show_guesses must print for the three validation rows, which are rows 0, 8 and 16 of 25. Also counts
// the right guesses, and the places where [MASK], which is never guessed, has the largest logit.
static void expected_guesses(char *to, Run *r, size_t *right, size_t *mask) {
    const Config *c = &r->c;
    const size_t T = c->T;
    Loader l;
    loader_alloc(&l, 1, 1, T);
    *right = *mask = 0;
    for (size_t example = 0; example < 3; example++)
        for (int guess = 0; guess < 2; guess++) {
            load_validation(&l, &r->val, c, example, 1, 3, 0.4);
            model_pass(&r->m, &l.micro[0], 0);
            to += sprintf(to, guess ? "\n  guess: " : "\n  text:  ");
            for (size_t t = 0, i = 0; t < T; t++) {
                size_t word = 3 * (25 * example / 3 * T + t) % 97, best = 0;
                const float *logits = r->m.logits + i * (c->V + 1);
                int masked = uniform(1, STREAM_VAL_MASK, example * T + t) < 0.4;
                i += (size_t)masked;
                for (size_t v = 1; v < c->V && masked; v++)
                    if (logits[v] > logits[best]) best = v;
                *mask += masked && logits[c->V] > logits[best], *right += masked && best == word;
                if (!masked) to += sprintf(to, " word%02zu", word);
                else if (!guess) to += sprintf(to, " ____");
                else if (best == word) to += sprintf(to, " [word%02zu]", word);
                else to += sprintf(to, " [word%02zu/word%02zu]", best, word);
            }
            if (guess) to += sprintf(to, "\n");
        }
    loader_free(&l);
}

// What this process prints goes to a file from capture() on. captured() ends it, and returns the text.
static int capture(void) {
    fflush(stdout);
    int kept = dup(1), fd = open(scratch("printed"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    dup2(fd, 1), close(fd);
    return kept;
}

static char *captured(int kept) {
    fflush(stdout);
    dup2(kept, 1), close(kept);
    return slurp(scratch("printed"), NULL);
}

static void check_guesses(Run *r, size_t *right, size_t *mask) {
    char want[4096];
    expected_guesses(want, r, right, mask);
    int kept = capture();
    show_guesses(r);
    char *got = captured(kept), *from = strstr(got, "differ):\n");
    check(from && strcmp(from + 9, want) == 0, "guesses: %s expected, got: %s", want, got);
    free(got);
}

static void test_guesses(void) {
    static Run r;
    size_t right, mask;
    double norm;
    make_words();
    const char *train = strdup(scratch("w_train.bin")), *val = strdup(scratch("w_val.bin"));
    Settings s = default_settings;
    s.train = (Files){1, &train}, s.val = (Files){1, &val}, s.seq_len = 16, s.batch = 16;
    s.val_rows = 3, s.mask_rate = 0.4, s.steps = 60;
    open_small_run(&r, s), vocab_load(&r.vocab, scratch("w.vocab"));
    for (size_t step = 1; step <= s.steps; step++) train_step(&r, step, &norm);
    check_guesses(&r, &right, &mask);
    check(right > 0, "guesses: none is right");
    // a huge embedding dominates the residual stream, and so predicts itself
    for (size_t c = 0; c < r.c.C; c++) weights_of(&r.m, WTE, 0)[r.c.V * r.c.C + c] *= 100;
    check_guesses(&r, &right, &mask);
    check(mask > 0, "guesses: [MASK] never has the largest logit");
    close_small_run(&r);
}

// ----------------------------------------------------------------------------
// whole runs, each a process
//
// `./test_optibert run …` does what ./train_optibert … does. `stopped` is a run that gets SIGTERM before its
// first step: it takes one step, saves, and exits with 128 + 15. `nobody` is a run by a user with few rights,
// and `load FILE` loads a model. Only runs of the same binary are compared bit for bit.

#define RUN "./test_optibert run "
#define STOPPED "./test_optibert stopped "
#define SHAPE "--layers 2 --channels 20 --heads 2 --hidden 24 --seq-len 16 --batch 6 "
#define TINY "--train @/t_train.bin --val-rows 9 " SHAPE
// Run a command in the background until a condition holds (30 seconds at most), send it a
// signal, and exit as it does.
#define UNTIL(command, condition, signal)                                                                    \
    command " & p=$!; for i in $(seq 3000); do " condition " && break; sleep 0.01; done; kill -" signal      \
            " $p; wait $p"

// Run a command that must end with this exit code.
__attribute__((format(printf, 2, 3)))
static void check_exit(int code, const char *format, ...) {
    char command[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    int got = shell("%s", command);
    char *err = slurp(scratch("stderr"), NULL);
    check(got == code, "%s: exit %d expected, got %d and: %s", command, code, got, err);
    free(err);
}

static const char result_columns[] = // what dev/fit and users' scripts rely on
    "objective,layers,channels,heads,hidden,seq_len,vocab,params,params_nonemb,flops_per_token,"
    "flops_per_token_head,tokens,flops,batch_tokens,steps,lr,mask_rate,seed,train_loss,val_loss,val_floor,"
    "seconds,threads,val_se,epochs,budget,data,val_rows,val_data,grad_clip,weight_decay,micro_batch,"
    "fingerprint,mask_style,val_mask_rate\n";

// The value in a column of a run's result.csv, in one of 16 static buffers.
static const char *result(const char *dir, const char *column) {
    static char value[16][64];
    static int next;
    char path[64], *got = value[next = (next + 1) % 16];
    size_t lines = 0, commas = 0, length = strlen(column);
    snprintf(path, sizeof path, "%s/result.csv", dir);
    char *text = slurp(scratch(path), NULL), *row = text + strcspn(text, "\n") + 1;
    for (const char *p = text; *p; p++) lines += *p == '\n', commas += *p == ',';
    int ok = lines == 2 && commas == 2 * 34 && strncmp(text, result_columns, strlen(result_columns)) == 0;
    check(ok, "%s: not the header and one row: %s", path, text);
    const char *name = result_columns;
    while (ok && (strncmp(name, column, length) != 0 || !strchr(",\n", name[length])))
        name += strcspn(name, ",") + 1, row += strcspn(row, ",") + 1;
    snprintf(got, sizeof value[0], "%.*s", ok ? (int)strcspn(row, ",\n") : 0, row);
    free(text);
    return got;
}

// Where Progress begins in a checkpoint of n bytes; 0 if it is not a checkpoint.
static size_t progress_offset(const char *file, size_t n) {
    uint64_t text = 0;
    if (n > 24) memcpy(&text, file + 16, 8);
    size_t offset = 24 + (text + 3) / 4 * 4;
    return text > 0 && text < n && offset + sizeof(Progress) + 8 <= n ? offset : 0;
}

// A run's checkpoint with its seconds set to 0, and without its checksum. The caller frees it.
static char *timeless_checkpoint(const char *dir, size_t *n) {
    char path[64];
    snprintf(path, sizeof path, "%s/checkpoint.bin", dir);
    char *file = slurp(scratch(path), n);
    size_t progress = progress_offset(file, *n);
    check(progress > 0, "%s: not a checkpoint", path);
    if (progress > 0) memset(file + progress + offsetof(Progress, seconds), 0, sizeof(double)), *n -= 8;
    return file;
}

// Two runs must have ended the same, bit for bit, except for their time and threads.
static void check_same_end(const char *a, const char *b) {
    const char *files[] = {"model.bin", "main.log"};
    char one[64], other[64], columns[sizeof result_columns], *save;
    for (int i = 0; i < 2; i++) {
        snprintf(one, sizeof one, "%s/%s", a, files[i]), snprintf(other, sizeof other, "%s/%s", b, files[i]);
        check(same_file(scratch(one), scratch(other)), "%s and %s differ", one, other);
    }
    size_t n, m;
    char *x = timeless_checkpoint(a, &n), *y = timeless_checkpoint(b, &m);
    check(n == m && memcmp(x, y, n) == 0, "%s, %s: the checkpoints differ", a, b);
    free(x), free(y);
    strcpy(columns, result_columns);
    for (char *c = strtok_r(columns, ",\n", &save); c; c = strtok_r(NULL, ",\n", &save))
        check(strcmp(result(a, c), result(b, c)) == 0 || !strcmp(c, "seconds") || !strcmp(c, "threads"),
              "%s, %s: %s is %s in one and %s in the other", a, b, c, result(a, c), result(b, c));
}

// A run that is stopped after every step, and resumed with another number of threads, ends the same as a run
// that was never stopped.
static void test_resume(void) {
    make_data();
    const char *objectives[] = {"mlm", "ntp"};
    for (int k = 0; k < 2; k++) {
        char more[128];
        snprintf(more, sizeof more, "--objective %s --steps 6 --val-every 2 --micro-batch 4", objectives[k]);
        check_exit(0, RUN TINY "%s --out @/whole --threads 1", more);
        check_exit(143, STOPPED TINY "%s --out @/parts --threads 2", more); // k = 1: replaces a finished run
        check(access(scratch("parts/result.csv"), F_OK) != 0, "a new run leaves an old result.csv");
        check_exit(1, RUN TINY "%s --out @/parts", more);
        for (int step = 2; step <= 5; step++)
            check_exit(143, STOPPED TINY "%s --out @/parts --resume --threads %d", more, 1 + step % 3);
        FILE *log = fopen(scratch("parts/main.log"), "a"); // as if it had died later
        fprintf(log, "s:6 trl:9.999999 lr:1 norm:1\ns:7 tr"), fclose(log);
        check_exit(0, RUN "--out @/parts --resume --threads 3"); // the settings are in the checkpoint
        check_printed("stdout", "resumed     after step 5");
        check_same_end("whole", "parts");
    }
}

// --resume begins a run if there is nothing to resume, and does not touch a finished one.
static void test_resume_always(void) {
    make_data();
    check_exit(0, RUN TINY "--steps 3 --out @/first");
    check_exit(0, RUN TINY "--steps 3 --out @/second --resume");
    check_same_end("first", "second");
    check_exit(0, "mkdir @/third; " RUN TINY "--steps 3 --out @/third --resume");
    check_same_end("first", "third");
    check_exit(0, "cp -pR @/second @/copy; sleep 0.02; " RUN "--out @/second --resume");
    check_printed("stdout", "finished");
    check_exit(0, RUN TINY "--steps 3 --out @/second --resume"); // the command line that began it
    check_exit(0, "diff -r @/second @/copy");
    check_exit(0, "[ -z \"$(find @/second -type f -newer @/copy/checkpoint.bin)\" ]");
    check_refused(1, "--steps", "./train_optibert --out @/second --resume --steps 4");
}

#define WORDS                                                                                                \
    "--train @/w_train.bin --layers 1 --channels 8 --heads 1 --hidden 16 --seq-len 16 --batch 5 "

// A checkpoint keeps absolute paths and the vocabulary. So a run can be resumed from another folder, without
// its vocabulary file, or with a copy of its data.
static void test_resume_elsewhere(void) {
    make_words();
    check_exit(0, RUN WORDS "--steps 4 --out @/here");
    check_printed("stdout", " word"); // the masked sentences
    check_exit(143, "t=$PWD/test_optibert; cd @; \"$t\" stopped --train w_train.bin --layers 1 --channels 8 "
                    "--heads 1 --hidden 16 --seq-len 16 --batch 5 --steps 4 --out there");
    check_exit(0, "mv @/w.vocab @/lost; " RUN "--out @/there --resume");
    check_printed("stdout", " word");
    check_same_end("here", "there");
    check_exit(143, "mv @/lost @/w.vocab; " STOPPED WORDS "--steps 4 --out @/copied");
    check_exit(0, "mkdir @/sub && cp @/w_*.bin @/sub && " RUN
                  "--train @/sub/w_train.bin --val @/sub/w_val.bin --out @/copied --resume");
    check(same_file(scratch("here/model.bin"), scratch("copied/model.bin")), "a copy of the data differs");
    Model m;
    Vocab v;
    size_t n;
    char *file = slurp(scratch("w.vocab"), &n);
    load_model(&m, &v, scratch("there/model.bin"), 1, NEED_HEAD);
    check(v.size == n && memcmp(v.file, file, n) == 0 && v.V == 100 && v.eot == 99,
          "model.bin: not the vocabulary of the data");
    check(m.c.L == 1 && m.c.C == 8 && m.c.NH == 1 && m.c.H == 16 && m.c.T == 16 && m.c.V == 100 &&
              !m.c.causal, "model.bin: another shape");
    free(file), model_free(&m);
}

// A checkpoint also keeps the budget, and how often to validate and to save.
static void test_kept_settings(void) {
    make_words();
    const char *objectives[] = {"mlm", "ntp"}, *rates[] = {"0.2", "1"}, *dirs[] = {"kept0", "kept1"};
    for (int k = 0; k < 2; k++) {
        // F_N = 6·(4·64 + 3·8·16) + 12·8·16 = 5376 a token, 430,080 a step: 3.7 steps
        check_exit(143, STOPPED WORDS "--flops 1.6e6 --val-every 3 --save-every 2 --objective %s --out @/%s",
                   objectives[k], dirs[k]);
        size_t n;
        char *file = timeless_checkpoint(dirs[k], &n);
        check(n > 24 && strstr(file + 24, "\nsave-every 2\n") && strstr(file + 24, "\nval-every 3\n"),
              "kept: not all settings: %s", n > 24 ? file + 24 : "");
        free(file);
        check_exit(0, RUN "--out @/%s --resume", dirs[k]);
        const char *columns[][2] = {{"budget", "1600000"}, {"steps", "4"}, {"mask_rate", rates[k]},
                                    {"objective", objectives[k]}};
        for (int i = 0; i < 4; i++)
            check(strcmp(result(dirs[k], columns[i][0]), columns[i][1]) == 0, "kept: %s is %s, not %s",
                  columns[i][0], result(dirs[k], columns[i][0]), columns[i][1]);
    }
}

// A checkpoint of a program that had fewer options goes on if those are not given, and says so if they are. Options
// that only a newer program has are passed over.
static void test_older_checkpoint(void) {
    Settings s = default_settings;
    s.steps = 5;
    char *kept = kept_settings(&s), *line = strstr(kept, "\nmask-style "), *after = strchr(line + 1, '\n');
    memmove(line, after, strlen(after) + 1);
    compare_settings(&s, kept); // dies if it differs
    restore_settings(&s, "an-option-of-tomorrow 3\nheads\nlayers 7\nflops 0\n");
    check(s.layers == 7 && s.heads == 0 && s.flops == 0, "newer: %zu layers, %zu heads, flops %g", s.layers, s.heads,
          s.flops);
    make_data();
    check(!strstr(kept, "mask-style") && strstr(kept, "\nsteps 5\n"), "older: the settings are %s", kept);
    Option *o = find_option(trainer_options, "mask-style");
    pid_t child = fork();
    if (child == 0) o->given = 1, freopen("/dev/null", "w", stderr), compare_settings(&s, kept), _exit(0);
    int status;
    check(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 1, "older: --mask-style is not refused");
    free(kept);
}

// Read main.log: the training loss, learning rate and validation loss of each step (0 where there is none).
// Returns the number of lines.
static size_t read_log(const char *path, double trl[41], double lr[41], double tel[41]) {
    double x, rate;
    size_t step, lines = 0;
    char line[256];
    FILE *f = fopen(path, "r");
    for (; f && fgets(line, sizeof line, f); lines++) {
        if (sscanf(line, "s:%zu trl:%lf lr:%lf norm:", &step, &x, &rate) == 3 && step <= 40)
            trl[step] = x, lr[step] = rate;
        if (sscanf(line, "s:%zu tel:%lf", &step, &x) == 2 && step <= 40) tel[step] = x;
    }
    if (f) fclose(f);
    return lines;
}

// The result of the run below, worked out by hand: parameters 932·20 + 2·(20 + 60·20 + 20·20 + 20 + 48·20 +
// 20·24) + 20; F_N = 6·2·(4·20² + 3·20·24) + 12·2·20·16; head 6·0.2·20·931; tokens 40·6·16; epochs 240 / 312.
// Its training loss is the mean over the last 5% of the steps, which are two.
static void check_result(const double trl[41], const double tel[41]) {
    char want[1024];
    double se;
    Shards train, val;
    Model m;
    Vocab v;
    const char *train_path = strdup(scratch("t_train.bin")), *val_path = strdup(scratch("t_val.bin"));
    shards_open(&train, &train_path, 1), shards_open(&val, &val_path, 1);
    const char *train_loss = result("log", "train_loss"), *val_loss = result("log", "val_loss");
    const char *threads = result("log", "threads"), *val_se = result("log", "val_se");
    snprintf(want, sizeof want, "%smlm,2,20,2,24,16,931,24820,6180,44160,22344,3840,169574400,96,40,0.02,0.2,"
             "3,%s,%s,2.5,%s,%s,%s,0.769231,169574400,t_train,9,t_val,1,0.1,6,%016llx,all,0.2\n", result_columns,
             train_loss, val_loss, result("log", "seconds"), threads, val_se,
             (unsigned long long)hash3(train.checksum, val.checksum, 931));
    char *csv = slurp(scratch("log/result.csv"), NULL);
    check(strcmp(csv, want) == 0, "result: %s expected, got: %s", want, csv);
    omp_set_num_threads(2);
    check(atoi(threads) == omp_get_max_threads(), "result: %s threads", threads);
    omp_set_num_threads(THREADS);
    load_model(&m, &v, scratch("log/model.bin"), 1, NEED_HEAD);
    double loss = plain_validation(&m, &val, 9, 0.2, &se);
    check(fabs(atof(train_loss) - (trl[39] + trl[40]) / 2) < 2e-6, "result: train_loss %s", train_loss);
    check(fabs(atof(val_loss) - loss) < 1e-5 && fabs(atof(val_loss) - tel[40]) < 1e-6,
          "result: val_loss %s; the model has %f, the log %f", val_loss, loss, tel[40]);
    check(fabs(atof(val_se) / se - 1) < 1e-4, "result: val_se %s, not %f", val_se, se);
    free(csv), model_free(&m);
}

// main.log has a line for each step, with its learning rate, and one for each validation; result.csv agrees
// with it. A run that is stopped after every step ends with the same log and result.
static void test_log_and_result(void) {
    double trl[41] = {0}, lr[41] = {0}, tel[41] = {0}, first = 0;
    make_data();
    const char *more = "--steps 40 --val-every 7 --save-every 9 --lr 0.02";
    const char floors[] = "mlm 16 0.2 9 1 10 4 0\n" // the right line, and others
                          "ntp 16 0.2 9 1 1 1 0\nmlm 8 0.2 9 1 2 1 0\nmlm 16 0.3 9 1 3 1 0\n"
                          "mlm 16 0.2 8 1 4 1 0\nmlm 16 0.2 9 2 5 1 0\n";
    write_bytes(scratch("t_val.floor"), floors, strlen(floors));
    check_exit(0, RUN TINY "%s --seed 3 --out @/log --threads 2", more);
    size_t lines = read_log(scratch("log/main.log"), trl, lr, tel);
    check(lines == 47, "log: %zu lines", lines);
    for (size_t step = 0; step <= 40; step++) {
        check((tel[step] > 0) == (step % 7 == 0 || step == 40), "log: step %zu: validated?", step);
        check(step == 0 || (trl[step] > 0 && fabs(lr[step] / learning_rate(0.02, step, 40) - 1) < 1e-5),
              "log: step %zu has loss %f, rate %f", step, trl[step], lr[step]);
    }
    check_result(trl, tel);
    check_exit(0, "for i in $(seq 40); do " STOPPED TINY "%s --seed 3 --out @/log2 --resume; done; true",
               more);
    check_same_end("log", "log2");
    unlink(scratch("t_val.floor"));
    check_exit(0, RUN TINY "%s --seed 4 --out @/log3", more);
    first = tel[0], read_log(scratch("log3/main.log"), trl, lr, tel);
    check(fabs(tel[0] - first) > 1e-4, "log: seeds 3 and 4 begin with the same weights");
    check(!*result("log3", "val_floor"), "result: an unknown floor is %s", result("log3", "val_floor"));
}

// Copy a file, with one bit flipped.
static void copy_with_bit_flipped(const char *from, const char *to, size_t place) {
    size_t n;
    char *file = slurp(from, &n);
    if (place < n) file[place] ^= 1;
    write_bytes(to, file, n), free(file);
}

// Whatever decides the numbers of a run shows in its result, including the contents of its data.
static void test_result_rows(void) {
    make_data();
    check_exit(0, "mkdir -p @/other; cp @/t_val.bin @/v_val.bin; cp @/t.vocab @/other");
    copy_with_bit_flipped(scratch("t_train.bin"), scratch("other/t_train.bin"), HEADER * 4 + 5000);
    copy_with_bit_flipped(scratch("t_val.bin"), scratch("other/t_val.bin"), HEADER * 4 + 1200);
#define ROW_OF RUN SHAPE "--out @/row --train "
#define ROW ROW_OF "@/t_train.bin "
    const struct { const char *column, *value, *command; } runs[] = {
        {"val_rows", "74", ROW "--steps 1 --val-rows 74"},
        {"mask_style", "bert", ROW "--steps 1 --mask-style bert"},
        {"val_mask_rate", "0.4", ROW "--steps 1 --mask-rate 0.4"},
        {"val_mask_rate", "0.3", ROW "--steps 1 --val-mask-rate 0.3"},
        {"val_data", "v_val", ROW "--steps 1 --val @/v_val.bin"},
        {"val_data", "t_val+1", ROW "--steps 1 --val @/t_val.bin @/v_val.bin"},
        {"grad_clip", "0", ROW "--steps 1 --grad-clip 0"},
        {"weight_decay", "5", ROW "--steps 1 --weight-decay 5"},
        {"micro_batch", "4", ROW "--steps 1 --micro-batch 4"},
        {"budget", "10000000", ROW "--flops 1e7"}, // two steps, and so is the next
        {"budget", "10010000", ROW "--flops 1.001e7"},
        {"fingerprint", NULL, ROW "--steps 1 --val @/other/t_val.bin"},
        {"fingerprint", NULL, ROW_OF "@/other/t_train.bin --val @/t_val.bin --steps 1"},
        {"data", "t_train+1", ROW_OF "@/t_train.bin @/t_train.bin --val @/t_val.bin --steps 1"},
    };
    check_exit(0, ROW "--steps 1 && mv @/row @/plain");
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        check_exit(0, "%s", runs[i].command);
        const char *got = result("row", runs[i].column), *plain = result("plain", runs[i].column);
        check(strcmp(got, plain) != 0 && (!runs[i].value || strcmp(got, runs[i].value) == 0),
              "result: %s: %s is %s, and %s without that", runs[i].command, runs[i].column, got, plain);
    }
}

// result.csv is written before a run counts as finished: if that fails, the run can still be resumed.
static void test_result_first(void) {
    make_data();
    check_exit(0, RUN TINY "--steps 5 --save-every 2 --out @/good");
    check_exit(0, "mkdir -p @/bad/result.csv.tmp");
    check_refused(1, "result.csv", RUN TINY "--steps 5 --save-every 2 --out @/bad >/dev/null");
    check_exit(0, "rmdir @/bad/result.csv.tmp; " RUN "--out @/bad --resume");
    check_printed("stdout", "resumed     after step 4");
    check_same_end("good", "bad");
}

// The plan that a dry run prints.
static void test_plan(void) {
    const struct { const char *options, *words; } cases[] = {
        {"", "run         2000 steps of 32 rows"},
        {"--channels 100 --heads 2", "peak learning rate 0.005,"}, // 0.5 / 100
        {"--channels 160", ", 5 heads, 432 hidden,"},
        {"--channels 16", ", 1 heads,"},
        {"--batch 6 --tokens 1000", "run         10 steps"}, // 10.42
        {"--batch 6 --tokens 1", "run         1 step"},
        {"--batch 6 --tokens 1020", "run         11 steps"}, // 10.63
        {"--batch 6 --micro-batch 100", "steps of 6 rows"},
        // F_N = 6·1·(4·64 + 3·8·32) + 12·1·8·16 = 7680 a token, 737,280 a step
        {"--layers 1 --channels 8 --hidden 32 --batch 6 --flops 7372800", "run         10 steps"},
        {"--layers 1 --channels 8 --hidden 32 --batch 6 --flops 7372800", "F_N 7680 a token"},
        {"--seed 5", "time        about "},
        // The best F_N for 1e12 is 8.54e-4 · 1e12^0.68 = 123,000. In rows of 16 tokens 2 x 24 has
        // 12 (4·24² + 3·24·64) + 24·24·16 = 92,160, and 2 x 32 has 12 (4·32² + 3·32·80) + 24·32·16 = 153,600: nearer.
        {"--flops 1e12", "shape       2 layers of 32"},
        {"--flops 1e12 --layers 3", "model       3 layers, 64 channels"},
        // 0.0358 · 1e12^0.594 = 481,000; 2 x 48 has 350,208 and 2 x 64 626,688
        {"--flops 1e12 --objective ntp", "shape       2 layers of 64"},
        // the range that was measured, of mlm and of ntp, and a budget just below it
        {"--flops 1.6e14", "from C = 1.6e+12 to 1.6e+14; --layers"},
        {"--flops 4e11 --objective ntp", "from C = 4e+11 to 1.6e+14; --layers"},
        {"--flops 1.5e12", "beyond which this is a guess"},
        {"--flops 1e15", "beyond which this is a guess"},
        {"--mask-rate 0.3 --mask-style bert --val-mask-rate 0.2", "0.3 of them masked as bert does; validation on 75 rows, 0.2 "},
    };
    make_data();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_exit(0, "env -u OMP_WAIT_POLICY ./train_optibert --dry-run --out @/dry --train @/t_train.bin "
                      "--seq-len 16 %s", cases[i].options);
        check_printed("stdout", cases[i].words);
    }
    check(access(scratch("dry"), F_OK) != 0, "--dry-run leaves a folder");
    check_exit(0, "./train_optibert --help");
    check_printed("stdout", "--weight-decay ");
    const Config c = {2, 24, 2, 40, 19, 37, 0};
    Model m;
    model_alloc(&m, &c, 3, 20, 2, NEED_ALL);
    size_t used = 4 * m.block * 4 + (size_t)((char *)(m.partial + PARTS * 24) - (char *)m.memory);
    size_t bytes = model_bytes(&c, 3, 20, 2, NEED_ALL);
    check(bytes >= used && bytes < used + 64, "model_bytes: %zu, used %zu", bytes, used);
    model_free(&m);
}

// ----------------------------------------------------------------------------
// refusals

static void test_refusals(void) {
    make_data();
    check_exit(143, STOPPED TINY "--steps 8 --val @/t_train.bin --out @/un"); // an unfinished run
    write_numbered(scratch("v100.bin"), 400, 100, 99), write_numbered(scratch("v101.bin"), 400, 101, 99);
#define REFUSED "./train_optibert --out @/refused "
#define CHANGED "./train_optibert --out @/un --resume "
    static const Refusal refusals[] = {
        // bad usage
        {2, "--frob", REFUSED "--frob 3"},
        {2, "--load", REFUSED "--load x"},
        {2, "stray", REFUSED "stray"},
        {2, "--steps", REFUSED "--steps"},
        {2, "--steps", REFUSED "--steps 1.5"},
        {2, "--steps", REFUSED "--steps x"},
        {2, "--steps", REFUSED "--steps 3 --steps 4"},
        {2, "--tokens", REFUSED "--steps 3 --tokens 4"},
        {2, "--tokens", REFUSED "--tokens 1e18 --seq-len 16 --train @/t_train.bin"},
        {2, "--lr", REFUSED "--lr nan"},
        {2, "--lr 0.1x: not a number", REFUSED "--lr 0.1x"},
        {2, "--vocab: needs FILE after it", REFUSED "--vocab --seed 3"},
        {1, "--odd: cannot read", "./train_optibert --dry-run --out @/dry --train @/t_train.bin --vocab --odd"},
        {2, "--mask-style", REFUSED "--mask-style some"},
        {2, "--lr", REFUSED "--lr -1"},
        {2, "--flops 0", REFUSED "--flops 0"},
        {2, "--mask-rate", REFUSED "--mask-rate 1.5"},
        {2, "--vocab", REFUSED "--vocab ''"},
        {2, "--overwrite", REFUSED "--resume --overwrite"},
        {2, "--objective", REFUSED "--objective clm --train @/t_train.bin"},
        {2, "--heads", REFUSED "--channels 64 --heads 3 --train @/t_train.bin"},
        {2, "--heads", REFUSED "--channels 6 --heads 2 --train @/t_train.bin"},
        {2, "--val", REFUSED "--train @/v100.bin"},
        // data that is missing or does not fit
        {1, "No such file", REFUSED "--train /nowhere_train.bin"},
        {1, "not a regular file", REFUSED "--train @ --val @"},
        {1, "not a regular file", "mkfifo @/pipe; timeout 9 " REFUSED "--train @/pipe --val @/pipe"},
        {1, "Permission denied", "cp @/t_val.bin @/closed.bin; chmod 0 @/closed.bin; "
            "./test_optibert nobody --train @/closed.bin --val @/t_val.bin --out @/refused"},
        {1, "v101.bin", REFUSED "--seq-len 8 --train @/v100.bin --val @/v101.bin"},
        {1, "v101.bin", REFUSED "--seq-len 8 --train @/v100.bin @/v101.bin --val @/v100.bin"},
        {1, "931", REFUSED "--seq-len 16 --train @/v100.bin --val @/t_val.bin"},
        {1, "931", REFUSED "--seq-len 16 --train @/t_train.bin --val @/v100.bin"},
        {1, "t.vocab", REFUSED "--seq-len 8 --train @/v100.bin --val @/v100.bin --vocab @/t.vocab"},
        {1, "/nowhere", REFUSED "--seq-len 8 --train @/v100.bin --val @/v100.bin --vocab /nowhere"},
        {1, "less than one row", REFUSED "--seq-len 401 --train @/v100.bin --val @/v100.bin"},
        {1, "less than one row", REFUSED "--seq-len 400 --objective ntp --train @/v100.bin --val @/v100.bin"},
        {2, "only 75 rows", REFUSED "--seq-len 16 --train @/t_train.bin --val-rows 76"},
        {2, "--mask-rate 0", RUN TINY "--steps 2 --mask-rate 0 --out @/zero"},
        // an unfinished run is not replaced, nor resumed with other settings or data
        {1, "unfinished", "./train_optibert --out @/un " TINY "--steps 8"},
        {1, "--layers", CHANGED "--layers 3"},
        {1, "--channels", CHANGED "--channels 24"},
        {1, "--heads", CHANGED "--heads 1"},
        {1, "--hidden", CHANGED "--hidden 32"},
        {1, "--seq-len", CHANGED "--seq-len 8"},
        {1, "--objective", CHANGED "--objective ntp"},
        {1, "--mask-rate", CHANGED "--mask-rate 0.3"},
        {1, "--batch", CHANGED "--batch 5"},
        {1, "--micro-batch", CHANGED "--micro-batch 2"},
        {1, "--steps", CHANGED "--steps 7"},
        {1, "--steps", CHANGED "--flops 1e9"},
        {1, "--lr", CHANGED "--lr 0.5"},
        {1, "--grad-clip", CHANGED "--grad-clip 2"},
        {1, "--weight-decay", CHANGED "--weight-decay 0"},
        {1, "--seed", CHANGED "--seed 2"},
        {1, "--val-rows", CHANGED "--val-rows 8"},
        {1, "--train", CHANGED "--train @/o_train.bin"},
        {1, "--val", CHANGED "--val @/t_val.bin"},
        {1, "not the vocabulary", CHANGED "--vocab @/o.vocab"},
        // while it runs
        {1, "no longer finite", RUN TINY "--steps 400 --lr 1e3 --weight-decay 1e3 --out @/nan >/dev/null"},
        {1, "stdout", "./train_optibert --help >/dev/full"},
        {1, "cannot make this folder", "touch @/file; " RUN TINY "--out @/file/in/it"},
        {1, "cannot use this folder", "touch @/file; " RUN TINY "--out @/file"},
    };
    copy_with_bit_flipped(scratch("t_train.bin"), scratch("o_train.bin"), HEADER * 4);
    copy_with_bit_flipped(scratch("t.vocab"), scratch("o.vocab"), HEADER * 4 + 1);
    check_refusals(refusals, sizeof refusals / sizeof *refusals);
    check(access(scratch("refused"), F_OK) != 0, "a refused command leaves a folder");
    check(access(scratch("nan/model.bin"), F_OK) != 0, "a run that broke down leaves a model");
    check_exit(0, RUN "--resume --out @/un"); // none of this harmed it
}

// A run is not resumed if any byte of its data has changed.
static void test_changed_data(void) {
    make_data();
    check_exit(0, "cp @/t_train.bin @/c_train.bin; cp @/t_val.bin @/c_val.bin; " RUN SHAPE
                  "--train @/c_train.bin --steps 3 --out @/whole");
    check_exit(143, STOPPED SHAPE "--train @/c_train.bin --steps 3 --out @/changed");
    const size_t places[] = {HEADER * 4, HEADER * 4 + 5000, HEADER * 4 + 2 * 4999};
    for (int i = 0; i < 3; i++) {
        copy_with_bit_flipped(scratch("t_train.bin"), scratch("c_train.bin"), places[i]);
        check_refused(1, "not those", "./train_optibert --out @/changed --resume");
    }
    check_exit(0, "cp @/t_train.bin @/c_train.bin");
    copy_with_bit_flipped(scratch("t_val.bin"), scratch("c_val.bin"), HEADER * 4 + 1000);
    check_refused(1, "not those", "./train_optibert --out @/changed --resume");
    check_exit(0, "cp @/t_val.bin @/c_val.bin; " RUN "--out @/changed --resume");
    check_same_end("whole", "changed");
}

// Each case takes a good shard of 64 tokens, changes one word of its header (or all tokens), and writes only
// so many bytes of the header and so many tokens.
static void test_broken_shards(void) {
    make_data();
    enum { WHOLE = HEADER * 4, ALL_TOKENS = HEADER };
    const struct { const char *message; size_t place; int32_t value; size_t header, tokens; } cases[] = {
        {"too short", 0, SHARD_MAGIC, 0, 0},
        {"too short", 0, SHARD_MAGIC, 500, 0},
        {"not a token shard", 0, 7, WHOLE, 64},
        {"version 2", 1, 2, WHOLE, 64},
        {"64 tokens", 2, 64, WHOLE, 60},
        {"60 tokens", 2, 60, WHOLE, 64},
        {"4294967295 tokens", 2, -1, WHOLE, 64},
        {"vocabulary", 3, 1 << 30, WHOLE, 64},
        {"vocabulary", 3, -1, WHOLE, 64},
        {"end of text", 4, 932, WHOLE, 64},
        {"end of text", 4, -5, WHOLE, 64},
        {"less than one row", 2, 3, WHOLE, 3},
        {"token 931 in row", ALL_TOKENS, 931, WHOLE, 64},
    };
    size_t n;
    char *good = slurp(scratch("t_val.bin"), &n);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct { int32_t header[HEADER]; uint16_t tokens[64]; } bad;
        memcpy(&bad, good, sizeof bad), bad.header[2] = 64;
        if (cases[i].place < HEADER) bad.header[cases[i].place] = cases[i].value;
        for (int t = 0; t < 64 && cases[i].place == ALL_TOKENS; t++) bad.tokens[t] = (uint16_t)cases[i].value;
        write_bytes(scratch("bad.bin"), &bad, cases[i].header + 2 * cases[i].tokens);
        check_refused(1, cases[i].message, "./train_optibert --out @/bad --steps 1 --seq-len 4 --batch 1 "
                                           "--train @/bad.bin --val @/t_val.bin --val-rows 4 >/dev/null");
    }
    free(good);
}

static void test_broken_vocabularies(void) {
    size_t n;
    make_data();
    char *good = slurp(scratch("t.vocab"), &n);
    const struct { const char *word; size_t place; int32_t value; size_t bytes; } cases[] = {
        {"too short", 0, VOCAB_MAGIC, 100},
        {"not a vocabulary", 0, 1, n},
        {"not a vocabulary", 4, 9, n},
        {"not possible", 8, -4, n},
        {"not possible", 8, 65536, n},
        {"not possible", 12, 1 << 20, n},
        {"string 0 is empty", HEADER * 4, 0, n},
        {"string 930 is empty or cut off", 0, VOCAB_MAGIC, n - 3},
        {"more bytes follow", 0, VOCAB_MAGIC, n + 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *bad = alloc_or_die(n + 1);
        memcpy(bad, good, n), memcpy(bad + cases[i].place, &cases[i].value, 4);
        write_bytes(scratch("bad.vocab"), bad, cases[i].bytes), free(bad);
        check_refused(1, cases[i].word, "./train_optibert " TINY "--out @/bad --vocab @/bad.vocab");
    }
    free(good);
    check_refused(1, "too large", "head -c 17000000 /dev/zero >@/endless.vocab; ./train_optibert " TINY
                                  "--out @/bad --vocab @/endless.vocab");
    // version 1 does not say which token is end of text; it is GPT-2's
    const int32_t h[HEADER] = {VOCAB_MAGIC, 1, 50257, 7};
    char *file = alloc_or_die(sizeof h + 50257 * 2);
    memcpy(file, h, sizeof h), memset(file + sizeof h, 1, 50257 * 2);
    write_bytes(scratch("one.vocab"), file, sizeof h + 50257 * 2), free(file);
    Vocab v;
    vocab_load(&v, scratch("one.vocab"));
    check(v.V == 50257 && v.eot == 50256 && v.length[7] == 1 && v.string[7][0] == 1,
          "vocabulary version 1: V %zu, end of text %d", v.V, v.eot);
}

// A checkpoint or model that is damaged in any place is refused.
static void check_damaged(const char *good, const char *bad, const char *wrong_kind, const char *command) {
    size_t n;
    char *file = slurp(scratch(good), &n);
    const size_t places[] = {0, 8, 16, 24, 40, 80, n / 4, n / 2, n - 9, n - 1};
    for (int i = 0; i < 10; i++) {
        copy_with_bit_flipped(scratch(good), scratch(bad), places[i]);
        check_refused(1, i == 0 ? wrong_kind : i == 1 ? "version 3" : "damaged", command);
    }
    for (size_t cut = 0; cut < n; cut += n / 5) {
        write_bytes(scratch(bad), file, cut);
        check_refused(1, cut ? "damaged" : wrong_kind, command);
    }
    write_bytes(scratch(bad), file, n), free(file);
    check_exit(0, "%s", command);
}

static void test_damaged_files(void) {
    make_data();
    check_exit(143, STOPPED TINY "--steps 6 --out @/harm");
    check_exit(0, "cp @/harm/checkpoint.bin @/checkpoint; cp @/harm/model.bin @/model");
    check_damaged("model", "m.bin", "not a model", "./test_optibert load @/m.bin");
    check_damaged("checkpoint", "harm/checkpoint.bin", "not a checkpoint", RUN "--out @/harm --resume");
    check_refused(1, "not a checkpoint", "cp @/model @/harm/checkpoint.bin; " RUN "--out @/harm --resume");
    check_refused(1, "not a model", "./test_optibert load @/checkpoint");
}

// What a forked child does first when it exits: nothing else, such as ending OpenMP's threads, which it does not have.
static void leave_at_once(void) { _exit(1); }

// Any other byte anywhere in a checkpoint or a model is noticed (without OPTIBERT_SLOW, at every 31st place).
static void test_flipped_bytes(void) {
    make_words();
    check_exit(0, RUN WORDS "--steps 1 --out @/flip");
    const char *files[] = {"flip/model.bin", "flip/checkpoint.bin"}, *bad = strdup(scratch("flipped"));
    size_t every = getenv("OPTIBERT_SLOW") ? 1 : 31, n;
    for (int i = 0; i < 2; i++) {
        char *file = slurp(scratch(files[i]), &n);
        write_bytes(bad, file, n);
        size_t noticed = 0, places = 0;
        int fd = open(bad, O_WRONLY);
        fflush(stdout);
        for (size_t at = 0; at <= n; at += every, places++) { // at the end, none is flipped
            int status = 0;
            char flipped = at < n ? (char)(file[at] ^ (char)(1 + hash3(1, 2, at) % 255)) : 0;
            int written = at == n || pwrite(fd, &flipped, 1, (off_t)at) == 1;
            pid_t child = fork();
            if (child == 0) {
                Reader r;
                freopen("/dev/null", "w", stderr);
                atexit(leave_at_once);
                open_verified(&r, bad, i ? CHECKPOINT_MAGIC : MODEL_MAGIC, "file"), _exit(0);
            }
            int ended = child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status);
            int right = written && ended && WEXITSTATUS(status) == (at < n);
            if (!right) printf("    byte %zu of %zu: child %d, status %#x\n", at, n, (int)child, status);
            noticed += (size_t)right;
            if (at < n) pwrite(fd, file + at, 1, (off_t)at); // or the next are noticed, and the whole file too
        }
        close(fd);
        check(noticed == places && n > 3000, "%s: %zu of %zu flipped bytes are noticed", files[i], noticed, places);
        free(file);
    }
}

// Damaged input for every reader; see dev/fuzz.c.
static void test_fuzz(void) {
    const char *files[] = {"@/w_val.bin", "@/w.vocab", "@/soft/checkpoint.bin", "@/soft/model.bin", "@/soft/result.csv",
                           ".gitignore", "@/soft/result.csv", "@/command", "@/soft/main.log"};
    int inputs = getenv("OPTIBERT_SLOW") || getenv("ASAN_OPTIONS") ? 20000 : 300; // make check sets both
    if (skip(access("dev/fuzz", X_OK) != 0, "damaged input (needs dev/fuzz: make tools)")) return;
    make_words();
    check_exit(0, RUN WORDS "--steps 1 --out @/soft && printf '%%s\\n' --layers 3 --lr 1e-3 --train a b --objective ntp --flops 1e12 "
               "--resume >@/command");
    for (int i = 0; i < 9; i++) {
        int code = shell("dev/fuzz %d %d %s", i, inputs, files[i]);
        check(code == 0, "fuzz: reader %d: exit %d: %s", i, code, slurp(scratch("stderr"), NULL));
        check(code != 0 || !strstr(slurp(scratch("stdout"), NULL), " 0 of them"), "fuzz: reader %d accepts nothing", i);
    }
    // the same by coverage, for a few seconds
    if (!getenv("OPTIBERT_SLOW") || skip(shell("command -v clang") != 0, "libFuzzer (needs clang)")) return;
    check_exit(0, "clang -g -O2 -std=gnu11 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover -DLIBFUZZER "
                  "dev/fuzz.c -lm -o @/fuzzer");
    for (int i = 0; i < 9; i++)
        check_exit(0, "mkdir @/seeds%d && cp %s @/seeds%d && ASAN_OPTIONS=detect_leaks=0 READER=%d @/fuzzer -detect_leaks=0 "
                      "-max_total_time=5 -artifact_prefix=@/ @/seeds%d", i, files[i], i, i, i);
}

// A number that is not finite, in a weight or by an absurd rate, ends the run with the step and the tensor; and what
// was saved before is whole.
static void test_not_finite(void) {
    static const struct { int tensor; float value; const char *rate, *words; } poisons[] = {
        {WTE, NAN, "", "step 1: no longer finite: weights of wte, layer 0;"},
        {WQKV, INFINITY, "", "step 1: no longer finite: weights of wqkv, layer 0"},
        {NORMF, NAN, "", "step 1: no longer finite: weights of normf, layer 0;"},
        // the loss and its gradient are finite; what the step makes of the weight is not, and would be saved
        {WTE, 1e34f, "--lr 1e3 --weight-decay 1e3", "step 1: no longer finite: weights of wte, layer 0;"}};
    make_data();
    check_exit(0, RUN TINY "--steps 2 --out @/clean && mkdir @/poisoned");
    for (int i = 0; i < 4; i++) {
        char command[256];
        Model m;
        Vocab v;
        load_model(&m, &v, scratch("clean/model.bin"), 1, NEED_HEAD);
        m.params[m.tensor[poisons[i].tensor].offset + 5] = poisons[i].value;
        save_model(scratch("poisoned/model.bin"), &m, &v), model_free(&m);
        snprintf(command, sizeof command, RUN "--train @/t_train.bin --val-rows 9 --batch 6 --init @/poisoned/model.bin --steps 4 "
                 "--save-every 1 --out @/clean %s >/dev/null", poisons[i].rate);
        check_refused(1, poisons[i].words, command);
    }
    check_exit(0, RUN "--resume --out @/clean");
    check_printed("stdout", "this run is finished");
    check_refused(1, "no longer finite: ", RUN TINY "--steps 99 --lr 1e3 --weight-decay 1e3 --save-every 1 "
                                           "--val-every 99 --out @/wild >/dev/null");
    Reader r;
    Progress done;
    Config c;
    Vocab v;
    Model m;
    free(open_checkpoint(&r, scratch("wild/checkpoint.bin"), &done, &c, &v));
    model_alloc(&m, &c, 1, c.T, 1, NEED_ALL), load_checkpoint(&r, &m);
    check(done.step > 0 && !not_finite(&m), "not finite: %s of step %d was saved", not_finite(&m), (int)done.step);
    model_free(&m);
}

// ----------------------------------------------------------------------------
// memory, long and large runs

// The most memory that a run took, and what its plan said, in MiB.
static double peak_memory(const char *command, double *plan) {
    check_exit(0, "%s", command);
    char *out = slurp(scratch("stdout"), NULL), *at = strstr(out, "\nmemory ");
    double peak = NAN;
    *plan = at ? atof(at + 8) : NAN;
    if ((at = strstr(out, "\npeak "))) peak = atof(at + 6) / 1024;
    free(out);
    return peak;
}

static void test_memory(void) {
#define PEAK "./test_optibert peak --train @/t_train.bin --overwrite --steps 2 --out @/peak --val-rows 16 --seq-len 64 "
    static const char *const runs[] = {PEAK, PEAK "--threads 1", PEAK "--threads 8", PEAK "--channels 256 --layers 4",
        PEAK "--channels 128 --batch 256 --micro-batch 16", PEAK "--batch 512 --channels 32", PEAK "--objective ntp --layers 4",
        PEAK "--layers 12 --channels 96", PEAK "--hidden 1000 --heads 1 --grad-clip 0",
        PEAK "--keep --save-every 1 --init @/peak/model.bin"};
    make_data();
    check_refused(1, "out of memory: this run takes 120", "./train_optibert --train @/t_train.bin --channels 4096 --layers 9 --batch 1e6 "
                  "--seq-len 64 --out @/vast >/dev/null");
    check_exit(0, "./train_optibert --train @/t_train.bin --channels 64 --batch 1e9 --seq-len 4 --out @/vast 2>/dev/null; [ $? = 2 ]");
    double worst = 0, plan;
    if (skip(access("/proc/self/status", R_OK) != 0 || getenv("ASAN_OPTIONS"), "peak memory")) return;
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        double peak = peak_memory(runs[i], &plan);
        check(fabs(peak / plan - 1) < 0.05, "memory: %.1f MiB, planned were %.1f: %s", peak, plan, runs[i]);
        worst = larger(worst, fabs(peak / plan - 1));
    }
    printf("    peak memory within %.1f%% of the plan\n", 100 * worst);
}

// 10^5 steps take no more memory than 10^3, and count right.
static void test_long(void) {
    double plan, longer, shorter;
    make_data();
#define LONG "./test_optibert peak --train @/t_train.bin --layers 1 --channels 8 --heads 1 --hidden 16 --seq-len 4 --batch 2 --threads 1 " \
             "--overwrite --val-rows 9 --out @/long "
    shorter = peak_memory(LONG "--steps 1e3 --val-every 10 --save-every 10", &plan);
    longer = peak_memory(LONG "--steps 1e5 --val-every 10 --save-every 1000", &plan);
    check(longer < shorter + 0.2, "long: %.2f MiB after 10^3 steps, %.2f after 10^5", shorter, longer);
    check(atof(result("long", "tokens")) == 8e5 && shell("[ $(grep -c trl @/long/main.log) = 100000 ]") == 0, "long: %s tokens",
          result("long", "tokens"));
    // a run of 9.6e10 tokens, from three steps before its end
    check_exit(143, STOPPED TINY "--steps 1e9 --val-every 1e9 --out @/far");
    size_t n, step;
    const uint64_t far = 999999997;
    char *file = slurp(scratch("far/checkpoint.bin"), &n);
    memcpy(file + progress_offset(file, n) + offsetof(Progress, step), &far, sizeof far);
    uint64_t sum = checksum_add(CHECKSUM_START, file, n - 8);
    memcpy(file + n - 8, &sum, 8), write_bytes(scratch("far/checkpoint.bin"), file, n), free(file);
    check_exit(0, RUN "--out @/far --resume");
    check(atof(result("far", "tokens")) == 9.6e10, "far: %s tokens", result("far", "tokens"));
    file = slurp(scratch("far/main.log"), &n);
    check(strstr(file, "\ns:1000000000 tel:") && sscanf(strstr(file, "\ns:9999"), "\ns:%zu trl", &step) == 1 && step == 999999998,
          "far: the log has no last steps: %s", file);
    free(file);
}

// Shards beyond 4 GiB (with holes, they take no room), the largest vocabulary, many layers, long rows.
static void test_large(void) {
    const size_t n = 2415919105; // tokens: 4.8 GB, and a count that is negative as an int32
    const int32_t h[HEADER] = {SHARD_MAGIC, 1, (int32_t)(uint32_t)n, 100, 100};
    const uint16_t last = 42;
    const char *path = strdup(scratch("sparse.bin"));
    uint16_t row[5];
    Shards s;
    write_bytes(path, h, sizeof h);
    FILE *f = fopen(path, "r+b");
    fseeko(f, (off_t)(sizeof h + (n - 1) * 2), SEEK_SET), fwrite(&last, 2, 1, f), fclose(f);
    shards_open(&s, &path, 1);
    shards_read(&s, n / 5 - 1, 5, 0, row);
    check(s.total == n && row[3] == 0 && row[4] == last, "large: %zu tokens, not %zu, the last is %u", s.total, n, row[4]);
    shards_read(&s, n / 4 - 1, 4, 1, row);
    check(row[4] == last, "large: the last target is %u", row[4]);
    unlink(path);
    write_numbered(scratch("big_train.bin"), 40000, 65535, 65534), write_numbered(scratch("big_val.bin"), 20000, 65535, 65534);
    const char *big = RUN "--train @/big_train.bin --channels 8 --heads 1 --hidden 16 --batch 1 --steps 2 --mask-rate 0.01 "
                          "--val-rows 1 --threads 2";
    check_exit(0, "%s --layers 2 --seq-len 8192 --out @/wide", big);
    check_exit(0, "%s --layers 64 --seq-len 512 --out @/deep", big);
    check(!strcmp(result("wide", "vocab"), "65535") && !strcmp(result("wide", "seq_len"), "8192"), "large: another shape");
    check(!strcmp(result("deep", "layers"), "64"), "deep: another shape");
    check_exit(0, RUN "--resume --out @/wide");
}

// ----------------------------------------------------------------------------
// other compilers, machines, checkers, paths

// The same 20 steps by other builds: losses to 2e-5, whatever the compiler, its flags, the C library and the machine.
static void test_builds(void) {
#define CC_ARGS " -std=gnu11 -ffp-contract=fast -fno-math-errno -fno-trapping-math -Wno-unknown-pragmas " \
                "train_optibert.c -lm -o @/other_build"
    static const struct { const char *what, *needs, *build, *run; } builds[] = {
        {"-O0", "gcc", "gcc -O0" CC_ARGS, "@/other_build"},
        {"gcc without this CPU's instructions", "gcc", "gcc -O3 -fopenmp" CC_ARGS, "@/other_build"},
        {"clang", "clang", "clang -O3 -march=native" CC_ARGS, "@/other_build"},
        {"musl", "musl-gcc", "musl-gcc -O2 -static" CC_ARGS, "@/other_build"},
        {"aarch64", "qemu-aarch64 && command -v aarch64-linux-gnu-gcc", "aarch64-linux-gnu-gcc -O2 -fopenmp -static" CC_ARGS,
         "qemu-aarch64 @/other_build"}};
    const char *args = TINY "--steps 20 --lr 0.01 --overwrite --threads 2 --out @/built";
    double want[41], trl[41], lr[41], tel[41], worst = 0;
    make_data();
    check_exit(0, RUN "%s", args);
    read_log(scratch("built/main.log"), want, lr, tel);
    for (int i = 0; i < 5; i++) {
        if (skip(shell("command -v %s", builds[i].needs) != 0, builds[i].what)) continue;
        check_exit(0, "%s", builds[i].build);
        check_exit(0, "%s %s", builds[i].run, args);
        check(read_log(scratch("built/main.log"), trl, lr, tel) >= 22, "%s: no log", builds[i].what);
        for (int step = 1; step <= 20; step++) worst = larger(worst, fabs(trl[step] - want[step]));
        check(worst < 2e-5, "%s: a loss is off by %g", builds[i].what, worst);
    }
    printf("    losses of 20 steps within %.0e\n", worst);
}

// What other tools have to say: nothing. (Left out of clang-tidy's are matters of style.)
static void test_checkers(void) {
    static const struct { const char *needs, *command; } checkers[] = {
        {"gcc", "gcc -std=gnu11 -O2 -fopenmp -Wall -Wextra -Wconversion -Wshadow -Werror -c -o /dev/null train_optibert.c"},
        {"gcc", "gcc -std=gnu11 -O1 -fanalyzer -Wno-analyzer-malloc-leak -Wno-unknown-pragmas -Werror -c -o /dev/null train_optibert.c"},
        {"clang", "clang -std=gnu11 -O2 -Wall -Wextra -Wconversion -Wshadow -Wno-unknown-pragmas -Werror -fsyntax-only train_optibert.c"},
        {"gcc", "! gcc -m32 -std=gnu11 -fsyntax-only train_optibert.c 2>@/m32 && grep -q 'needs a 64-bit machine' @/m32"},
        {"gcc", "! gcc -ffinite-math-only -std=gnu11 -fsyntax-only train_optibert.c"},
        {"cppcheck", "cppcheck -q --std=c11 --enable=warning,portability,performance --error-exitcode=1 train_optibert.c"},
        {"clang-tidy", "! clang-tidy --quiet --checks='-*,clang-analyzer-*,-clang-analyzer-security*,bugprone-*,concurrency-*,"
            "-bugprone-easily-swappable-parameters,-bugprone-implicit-widening*,-bugprone-suspicious-string-compare,"
            "-bugprone-reserved-identifier,-bugprone-narrowing*,-concurrency-mt-unsafe' train_optibert.c -- -std=gnu11 | grep warning:"},
        {"valgrind", "gcc -std=gnu11 -O1 -g -fopenmp train_optibert.c -lm -o @/plain_build && "
                     "valgrind -q --error-exitcode=1 @/plain_build " TINY
            "--steps 2 --threads 2 --overwrite --out @/valgrind"},
        {"clang", "clang -std=gnu11 -O1 -g -fopenmp -fsanitize=thread train_optibert.c -lm -o @/tsan && for o in mlm ntp; do "
            "TSAN_OPTIONS=ignore_noninstrumented_modules=1 @/tsan " TINY "--objective $o --micro-batch 4 --steps 3 --threads 4 "
            "--overwrite --out @/tsan-run || exit 1; done"}};
    make_data();
    for (size_t i = 0; i < sizeof checkers / sizeof *checkers; i++) {
        if (skip(shell("command -v %s", checkers[i].needs) != 0, checkers[i].command)) continue;
        int code = shell("%s", checkers[i].command);
        check(code == 0, "%s: exit %d: %s", checkers[i].command, code, slurp(scratch("stderr"), NULL));
    }
}

// Folders with spaces, UTF-8 and 4,000 bytes, and a locale with decimal commas.
static void test_paths(void) {
    make_data();
    check_exit(0, RUN TINY "--steps 2 --out @/usual");
    check_exit(0, "mkdir -p '@/a b/h\xc3\xa9 \xe4\xbd\xa0' && cp @/t_train.bin '@/a b/my_train.bin' && cp @/t_val.bin '@/a b/my_val.bin'; "
                  RUN SHAPE "--train '@/a b/my_train.bin' --val-rows 9 --steps 2 --out '@/a b/h\xc3\xa9 \xe4\xbd\xa0/run' && "
                  "cmp @/usual/main.log '@/a b/h\xc3\xa9 \xe4\xbd\xa0/run/main.log'");
    check_exit(0, RUN "--resume --out '@/a b/h\xc3\xa9 \xe4\xbd\xa0/run'");
    const char *deep = "d=@; while [ ${#d} -lt 3900 ]; do d=$d/0123456789012345678901234567890123456789; done; ";
    check_exit(143, "%s" STOPPED TINY "--steps 2 --out \"$d\"", deep);
    check_exit(0, "%s" RUN "--resume --out \"$d\" && cmp @/usual/model.bin \"$d/model.bin\"", deep);
    check_exit(1, "%s" RUN TINY "--steps 2 --out \"$d$d\"", deep);
    check_printed("stderr", "this path is too long");
    if (skip(shell("LOCPATH=@ localedef -i de_DE -f UTF-8 @/de_DE.UTF-8 && "
                   "LOCPATH=@ LC_ALL=de_DE.UTF-8 locale decimal_point | grep ,") != 0,
             "a locale with decimal commas (needs localedef and its sources)")) return;
    check_exit(0, "LOCPATH=@ LC_ALL=de_DE.UTF-8 " RUN TINY "--steps 2 --lr 0.025 --out @/comma && cmp @/usual/main.log @/comma/main.log");
}

// ----------------------------------------------------------------------------
// interruptions

// SIGINT and SIGTERM finish the step, save, and exit.
static void test_signals(void) {
    static const struct { const char *name; int number; } polite[] = {
        {"INT", SIGINT}, {"TERM", SIGTERM}, {"HUP", SIGHUP}, {"USR1", SIGUSR1}, {"USR2", SIGUSR2}, {"XCPU", SIGXCPU}};
    make_data();
    for (int i = 0; i < 6; i++) {
        check_exit(128 + polite[i].number, "n=$(cat @/sig/main.log | wc -l); "
                   UNTIL(RUN TINY "--steps 1e6 --val-every 1e6 --resume --out @/sig",
                         "[ $(cat @/sig/main.log | wc -l) -gt $((n + 1)) ]", "%s"), polite[i].name);
        check_printed("stdout", i ? "resumed     after step" : "validation loss before training");
        check_printed("stdout", "stopped by signal");
    }
    check_exit(143, STOPPED "--out @/sig --resume");
    check_printed("stdout", "resumed     after step");
    // under nohup a closed terminal ends nothing
    check_exit(0, "trap '' HUP; " UNTIL(RUN TINY "--steps 300 --out @/nohup", "grep -qs '^s:1 ' @/nohup/main.log", "HUP"));
}

// A run that was killed at any moment can be resumed, and no line of its log is lost.
static void test_killed(void) {
    make_data();
    const char *more = "--steps 100 --val-every 100 --save-every 3";
    check_exit(0, RUN TINY "%s --out @/calm", more);
    check_exit(137, UNTIL(RUN TINY "%s --out @/killed", "[ -f @/killed/checkpoint.bin ]", "KILL"), more);
    check(access(scratch("killed/checkpoint.bin"), F_OK) == 0, "killed: --save-every 3 saves nothing");
    for (int i = 4; i < 8; i++) shell("timeout -s KILL 0.0%d ./test_optibert run --out @/killed --resume", i);
    // timeout may return before the run that it killed has released the folder
    check_exit(0, "for i in $(seq 99); do " RUN "--out @/killed --resume && exit 0; sleep 0.1; done; false");
    check_same_end("calm", "killed");
    check_exit(0, "[ $(ls @/killed | wc -l) = 4 ]"); // no temporary files
}

// Run with a fault, or a SIGKILL, at each of the calls in turn that the system is asked for (without OPTIBERT_SLOW, at
// some of them). A fault ends a run with one line and 1, or does no harm; either way, --resume ends as if nothing had
// happened. Where a finished run was to be replaced, all of it is there, or nothing that could be taken for it.
static void check_each_call(const char *mode, int code, int replace, int every) {
    const char *args = TINY "--steps 3 --val-every 2 --save-every 1 --threads 2 --out @/faulty";
    check_exit(0, "rm -rf @/healthy @/old; " RUN TINY "--steps 3 --val-every 2 --save-every 1 --threads 2 --out @/healthy");
    check_exit(0, RUN TINY "--steps 2 --val-every 1 --out @/old");
    int at = 1, got;
    for (;; at += every) {
        shell("rm -rf @/faulty; %s", replace ? "cp -R @/old @/faulty" : "true");
        got = shell("./test_optibert %s %d %s >/dev/null", mode, at, args);
        if (got == 77) break;
        char *err = slurp(scratch("stderr"), NULL), *end = strchr(err, '\n');
        check(got == code ? code > 1 || (end && !end[1]) : got == 0, "%s at call %d: exit %d and: %s", mode, at, got, err);
        free(err);
        if (replace && shell("rm -f @/faulty/*.tmp; diff -r @/faulty @/old") == 0) continue;
        check(!replace || shell("cmp @/faulty/checkpoint.bin @/old/checkpoint.bin") != 0, "%s at call %d: mixed", mode, at);
        got = shell(RUN "%s --resume", args);
        check(got == 0, "%s at call %d: not resumed: %s", mode, at, slurp(scratch("stderr"), NULL));
        if (got == 0) check_same_end("healthy", "faulty");
    }
    check(at > 250, "%s: only %d calls", mode, at);
    printf("    %s: %d of %d calls\n", mode, at / every, at);
}

static void test_faults(void) {
    int every = getenv("OPTIBERT_SLOW") ? 1 : 37;
    make_data();
    for (int replace = 0; replace < 2; replace++)
        check_each_call("fail-at", 1, replace, every), check_each_call("kill-at", 137, replace, every);
}

// 200 times kill -9 at a random moment of a run that saves at every step; each goes on, and ends the same.
static void test_200_kills(void) {
    const char *args = TINY "--steps 60 --val-every 3 --save-every 1";
    int kills = 0, ends = 0;
    make_data();
    check_exit(0, RUN "%s --out @/never-killed", args);
    while (kills < 200 || shell("[ -d @/killed-often ]") == 0) {
        int ms = 4 + (int)(100 * uniform(16, 1, (uint64_t)(kills + ends)));
        int code = shell("timeout -s KILL 0.%03d " RUN "%s --out @/killed-often --resume", ms, args);
        check(code == 0 || code == 137 || code == 1, "200 kills: exit %d: %s", code, slurp(scratch("stderr"), NULL));
        if (code == 1) check_printed("stderr", "another run is using"); // timeout may end before what it killed
        kills += code == 137;
        if (code != 0) continue;
        check_same_end("never-killed", "killed-often");
        ends++, shell("rm -r @/killed-often");
    }
    printf("    %d kills, %d runs that ended the same\n", kills, ends);
}

// A disk that is full, a file that may not grow, an output that nobody reads, a folder that is read-only, a second
// signal: one line, 1, and the run goes on from its last checkpoint.
static void test_full_disk(void) {
    make_data();
    check_exit(0, RUN TINY "--steps 6 --save-every 2 --out @/roomy");
    const char *more = TINY "--steps 6 --save-every 2 --resume --out @/tight";
    for (int blocks = 8; blocks < 720; blocks += 47) { // of 512 bytes, or in some shells 1024; clang's OpenMP needs 2
        int code = shell("rm -rf @/tight; (ulimit -f %d; exec ./test_optibert run %s >/dev/null)", blocks, more);
        char *err = slurp(scratch("stderr"), NULL), *end = strchr(err, '\n');
        check(code == 0 || (code == 1 && end && !end[1] && strstr(err, "File too large")),
              "a limit of %d blocks: exit %d and: %s", blocks, code, err);
        free(err);
        check_exit(0, RUN "%s", more);
        check_same_end("roomy", "tight");
    }
    check_exit(1, RUN TINY "--steps 6 --out @/roomy >/dev/full"); // and does not replace a finished run
    check_printed("stderr", "stdout: cannot write: No space left");
    check_same_end("roomy", "tight");
    check_exit(0, "rm -r @/tight; (./test_optibert run " TINY "--steps 1e6 --val-every 7 --out @/tight; echo $? >@/code) | head -c 1; "
                  "[ $(cat @/code) = 1 ]");
    check_printed("stderr", "stdout: cannot write: Broken pipe");
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) { // a write fails, and later there is nothing left to write
        freopen("/dev/null", "w", stderr), freopen("/dev/full", "w", stdout), setvbuf(stdout, NULL, _IONBF, 0);
        puts("lost"), _exit(close_stdout(0));
    }
    int status;
    check(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 1, "an earlier failure to print is forgotten");
    check_exit(143, UNTIL(RUN TINY "--steps 1e6 --val-every 1e6 --out @/twice", "grep -qs '^s:1 ' @/twice/main.log", "TERM $p; kill"));
    check_exit(143, STOPPED "--resume --out @/twice");
    check_exit(0, "chmod 777 @; mkdir @/closed && chmod 555 @/closed");
    check_exit(1, "./test_optibert nobody " TINY "--out @/closed");
    check_printed("stderr", "main.log: cannot write: Permission denied");
    if (!getenv("OPTIBERT_SLOW")) return;
    if (skip(shell("mkdir @/tmpfs && mount -t tmpfs -o size=1m tmpfs @/tmpfs") != 0, "a full tmpfs (needs root)")) return;
    for (int free_kb = 0; free_kb < 700; free_kb += 20) {
        check_exit(0, "rm -rf @/tmpfs/*; head -c %dk /dev/zero >@/tmpfs/filler", 1024 - free_kb);
        int code = shell(RUN TINY "--steps 6 --save-every 2 --out @/tmpfs/run >/dev/null");
        if (code) check_printed("stderr", "No space left on device");
        check_exit(0, "rm @/tmpfs/filler; mkdir -p @/tmpfs/run; " RUN TINY "--steps 6 --save-every 2 --resume --out @/tmpfs/run");
        check_same_end("roomy", "tmpfs/run");
    }
    check_exit(0, "umount @/tmpfs");
}

// The order in which a checkpoint reaches the disk, as the system sees it: written, flushed, renamed, its folder flushed;
// and all that it promises, before it.
static void test_written_in_order(void) {
    if (skip(shell("strace -o @/strace true") != 0, "the order of system calls (needs strace)")) return;
    make_data();
    check_exit(0, "strace -f -y -o @/strace -e trace=write,fsync,rename ./train_optibert " TINY "--steps 1 --out @/seen");
    check_exit(0, "tr '\\n' ' ' <@/strace | grep -q 'fsync([^ ]*/main.log>.*rename([^ ]*model.bin.tmp.*fsync([^ ]*/seen>.*rename("
               "[^ ]*result.csv.tmp.*fsync([^ ]*/seen>.*write([^ ]*/checkpoint.bin.tmp>.*fsync([^ ]*/checkpoint.bin.tmp>.*rename("
               "[^ ]*/checkpoint.bin.tmp.*fsync([^ ]*/seen>'");
    // Another run in its place: the old one stops counting, the checkpoint first, when the new log is safe.
    check_exit(0, "strace -f -y -o @/strace -e trace=fsync,rename,unlink ./train_optibert " TINY "--steps 1 --seed 9 --out @/seen");
    check_exit(0, "tr '\\n' ' ' <@/strace | grep -q 'fsync([^ ]*/main.log.tmp>.*unlink([^ ]*/checkpoint.bin\".*unlink([^ ]*/best.bin\"."
               "*unlink([^ ]*/result.csv\".*rename([^ ]*/main.log.tmp.*rename([^ ]*/model.bin.tmp.*rename([^ ]*/checkpoint.bin.tmp'");
}

// A folder belongs to one run at a time, and the seconds of a run are those of all its parts.
static void test_folder(void) {
    make_data();
    check_exit(143, STOPPED TINY "--steps 3 --out @/folder");
    int fd = open(scratch("folder"), O_RDONLY);
    flock(fd, LOCK_EX);
    check_refused(1, "another run", "./train_optibert --out @/folder --resume");
    check_refused(1, "another run", "./train_optibert --out @/folder --overwrite " TINY);
    close(fd);
    size_t n;
    const double thousand = 1000; // seconds that the first part took
    char *file = slurp(scratch("folder/checkpoint.bin"), &n);
    memcpy(file + progress_offset(file, n) + offsetof(Progress, seconds), &thousand, sizeof thousand);
    uint64_t sum = checksum_add(CHECKSUM_START, file, n - 8);
    memcpy(file + n - 8, &sum, 8), write_bytes(scratch("folder/checkpoint.bin"), file, n), free(file);
    check_exit(0, RUN "--out @/folder --resume");
    check(atof(result("folder", "seconds")) >= 1000, "folder: %s seconds", result("folder", "seconds"));
    check_exit(143, STOPPED TINY "--steps 3 --out @/folder"); // replaces a finished run
    check_exit(0, RUN TINY "--steps 2 --out @/folder --overwrite");
}

// A command that fails before it trains does not touch a finished run. And a run whose standard streams are
// closed does not print into its own files.
static void test_finished_run_is_safe(void) {
    make_data();
    check_exit(0, RUN TINY "--steps 1 --out @/safe && cp -R @/safe @/before");
    check_exit(1, RUN TINY "--steps 1 --out @/safe --vocab /nowhere");
    check_exit(2, RUN TINY "--steps 1 --out @/safe --mask-rate 0");
    check_exit(0, "diff -r @/safe @/before");
    check_exit(0, "env -u OMP_WAIT_POLICY ./train_optibert " TINY "--steps 1 --out @/streams <&- >&- 2>&-");
    check_exit(0, "[ $(wc -l <@/streams/main.log) = 3 ] && ! grep -v '^s:[01] t.l:[0-9]' @/streams/main.log");
}

// ----------------------------------------------------------------------------
// faults that users met

// A step in which no token would be masked masks the one that came closest to it; so a run of short rows and
// --mask-style bert: what is selected and predicted stays the same; of the selected tokens about 80% are [MASK],
// 10% any token and 10% as they were, whatever the micro-batches; the others are untouched.
static void test_mask_style(void) {
    enum { B = 400, T = 50, V = 10 };
    const Config c = {1, 8, 1, 8, T, V, 0};
    int32_t inputs[2][B * T];
    double masked = 0, kept = 0, other[V] = {0}, n = 0;
    for (int way = 0; way < 2; way++) {
        Loader l, plain;
        size_t micro = way ? 7 : B;
        loader_alloc(&l, B, micro, T), loader_alloc(&plain, B, micro, T);
        for (size_t i = 0; i < B * T; i++) plain.tokens[i] = l.tokens[i] = (uint16_t)(i % 9); // 9: end of text
        loader_mask(&plain, &c, 9, micro, 3, STREAM_MASK, 40, B, 0.3);
        loader_mask(&l, &c, 9, micro, 3, STREAM_MASK, 40, B, 0.3);
        mask_as_bert(&l, &c, 3, 40);
        memcpy(inputs[way], l.all.inputs, sizeof inputs[way]);
        for (size_t i = 0; i < B * T; i++) {
            int32_t was = l.tokens[i], is = l.all.inputs[i];
            if (plain.all.inputs[i] != V) check(is == was, "bert: a token that was not selected is %d, not %d", is, was);
            else if (way) n++, masked += is == V, kept += is == was, is < V && is != was ? other[is]++ : 0;
        }
        for (size_t i = 0; i < l.n_micro; i++)
            check(l.micro[i].M == plain.micro[i].M && !memcmp(l.micro[i].targets, plain.micro[i].targets, l.micro[i].M * 4),
                  "bert: micro-batch %zu predicts something else", i);
        loader_free(&l), loader_free(&plain);
    }
    check(memcmp(inputs[0], inputs[1], sizeof inputs[0]) == 0, "bert: micro-batches change what is masked");
    // kept: 10%, and where the random token is the same one: 1% more; six standard deviations
    check(fabs(masked / n - 0.8) < 6 * sqrt(0.16 / n), "bert: %.3f masked", masked / n);
    check(fabs(kept / n - 0.11) < 6 * sqrt(0.11 * 0.89 / n), "bert: %.3f kept", kept / n);
    for (int k = 0; k < V; k++)
        check(fabs(other[k] / n - (k < 9 ? 0.08 / 9 : 0.01)) < 6 * sqrt(0.01 / n), "bert: %.4f became %d",
              other[k] / n, k);
    make_data(); // validation is the same whatever training masks
    char before[2][200];
    for (int way = 0; way < 2; way++) {
        check_exit(0, RUN TINY "--steps 1 --out @/style%d %s | grep before >@/loss", way,
                   way ? "--mask-rate 0.5 --mask-style bert --val-mask-rate 0.2" : "");
        char *line = slurp(scratch("loss"), NULL);
        snprintf(before[way], sizeof before[way], "%s", line), free(line);
    }
    check(strlen(before[0]) > 20 && strcmp(before[0], before[1]) == 0, "validation: %s is not %s", before[0], before[1]);
}

// a tiny rate goes on to its end, and through every resume.
static void test_mask_one(void) {
    Config c = {1, 4, 1, 16, 5, 9, 0};
    Loader l;
    loader_alloc(&l, 4, 2, 5);
    for (size_t first = 0; first < 40; first += 4) {
        size_t best = 0;
        for (size_t i = 0; i < 20; i++) l.tokens[i] = i % 5 == 2 ? 8 : (uint16_t)(i % 7);
        for (size_t i = 0; i < 20; i++)
            if (i % 5 != 2 && uniform(3, STREAM_MASK, first * 5 + i) < uniform(3, STREAM_MASK, first * 5 + best)) best = i;
        loader_mask(&l, &c, 8, 2, 3, STREAM_MASK, first, 4, 1e-9);
        check(l.M == 0, "mask one: a token is masked at a rate of 1e-9");
        mask_one(&l, &c, 8, 2, 3, first, 4);
        const Batch *in = &l.micro[best / 10], *other = &l.micro[1 - best / 10];
        check(l.M == 1 && in->M == 1 && other->M == 0 && in->rows[0] == best % 10 && in->inputs[best % 10] == 9 &&
                  in->targets[0] == (int32_t)(best % 7), "mask one: token %zu of rows %zu …", best, first);
        for (size_t d = 0; d < in->n_docs; d++)
            check(in->docs[d].n == (in->docs[d].begin <= best % 10 && best % 10 < in->docs[d].end) &&
                      in->docs[d].query * in->docs[d].n == 0, "mask one: document %zu has %zu queries", d, in->docs[d].n);
    }
    loader_free(&l);
    make_data();
    const char *rare = "--train @/t_train.bin --val-rows 60 --layers 1 --channels 8 --seq-len 2 --batch 2 --mask-rate 0.05 "
                       "--steps 30 --val-every 30";
    check_exit(0, RUN "%s --out @/rare", rare);
    check_exit(143, STOPPED "%s --out @/rare2", rare);
    check_exit(0, RUN "--out @/rare2 --resume");
    check_same_end("rare", "rare2");
}

// A shard that changes under a running trainer is noticed; one that is only touched, or replaced by a copy,
// is not a change.
static void test_shard_in_use(void) {
    static const struct { const char *change; int code; } changes[] = {
        {"printf '\\1\\0' | dd of=@/u/x_train.bin bs=1 seek=5000 conv=notrunc", 1},
        {"cat @/u/x_train.bin @/u/x_train.bin >@/u/longer; cp @/u/longer @/u/x_train.bin", 1},
        {"head -c 3000 @/t_train.bin >@/u/x_train.bin", 1},
        {"touch @/u/x_train.bin", 143}, {"cp @/t_train.bin @/u/copy; mv @/u/copy @/u/x_train.bin", 143}};
    make_data();
    for (int i = 0; i < 5; i++) {
        check_exit(0, "rm -rf @/u; mkdir @/u; cp @/t_train.bin @/u/x_train.bin; cp @/t_val.bin @/u/x_val.bin");
        int code = shell("./test_optibert run --train @/u/x_train.bin --val-rows 9 " SHAPE "--steps 1e6 --val-every 1e6 "
                         "--out @/u/run & p=$!; for i in $(seq 3000); do grep -qs '^s:1 ' @/u/run/main.log && break; "
                         "sleep 0.01; done; %s; for i in $(seq 20); do kill -0 $p || break; sleep 0.05; done; "
                         "kill -TERM $p; wait $p", changes[i].change);
        check(code == changes[i].code, "in use: \"%s\": exit %d", changes[i].change, code);
        if (changes[i].code == 1) check_printed("stderr", "has changed while it was in use");
    }
}

// A shard says which vocabulary it was made with, and no other one is taken.
static void test_vocab_of_shard(void) {
    size_t n;
    make_data();
    char *vocab = slurp(scratch("t.vocab"), &n);
    uint64_t sum = checksum_add(CHECKSUM_START, vocab, n);
    check_exit(0, "mkdir @/sv && cp @/t.vocab @/sv/x.vocab && cp @/t_train.bin @/sv/x_train.bin && "
                  "cp @/t_val.bin @/sv/x_val.bin");
    for (int i = 0; i < 2; i++) {
        FILE *f = fopen(scratch(i ? "sv/x_val.bin" : "sv/x_train.bin"), "r+b");
        fseek(f, 20, SEEK_SET), fwrite(&sum, sizeof sum, 1, f), fclose(f);
    }
    check_exit(0, RUN "--train @/sv/x_train.bin --val-rows 9 " SHAPE "--steps 1 --out @/sv/run");
    vocab[n - 1] ^= 1, write_bytes(scratch("sv/x.vocab"), vocab, n), free(vocab); // as large, but another
    check_refused(1, "not the vocabulary", "./train_optibert --train @/sv/x_train.bin --out @/sv/other");
    check_exit(0, RUN "--train @/sv/x_train.bin --vocab @/t.vocab --val-rows 9 " SHAPE "--steps 1 --out @/sv/run");
}

// A new run in the folder of a finished one leaves everything as it is until it has something to save.
static void test_nothing_destroyed(void) {
    make_data();
    check_exit(0, RUN TINY "--steps 3 --val-every 1 --out @/kept && cp -R @/kept @/kept-before");
    check_exit(137, UNTIL(RUN TINY "--steps 1e6 --val-every 1e6 --seed 2 --out @/kept", "[ -s @/kept/main.log.tmp ]", "KILL"));
    check_exit(0, "rm @/kept/main.log.tmp && diff -r @/kept @/kept-before");
    check_exit(0, RUN TINY "--steps 4 --seed 2 --out @/kept && " RUN TINY "--steps 4 --seed 2 --out @/fresh");
    check_same_end("kept", "fresh");
    check_exit(0, "ls @/kept >@/a; ls @/fresh | cmp - @/a");
}

// --init: the run begins with the loss that the model ended with, takes over its shape, is another run than one from
// random weights, and resumes without the model's file.
static void test_init(void) {
    char want[64];
    make_data();
    check_exit(0, RUN TINY "--steps 40 --lr 0.02 --out @/first");
    snprintf(want, sizeof want, "before training: %.4f", atof(result("first", "val_loss")));
    const char *more = "--train @/t_train.bin --val-rows 9 --batch 6 --steps 4 --init @/first/model.bin";
    check_exit(0, RUN "%s --out @/second", more);
    check_printed("stdout", want);
    check_printed("stdout", "2 layers, 20 channels, 2 heads, 24 hidden");
    check_exit(0, RUN TINY "--steps 4 --out @/random");
    check(strcmp(result("second", "fingerprint"), result("random", "fingerprint")) != 0,
          "init: the fingerprint is that of a run from random weights");
    check_exit(143, STOPPED "%s --out @/parts2", more);
    check_exit(0, "mv @/first/model.bin @/first/gone && " RUN "%s --resume --out @/parts2; code=$?; "
                  "mv @/first/gone @/first/model.bin; exit $code", more);
    check_same_end("second", "parts2");
    check_refused(2, "--layers 3: the model of --init has 2", "./train_optibert --train @/t_train.bin --layers 3 --init "
                  "@/first/model.bin");
    copy_with_bit_flipped(scratch("t.vocab"), scratch("p.vocab"), HEADER * 4 + 1);
    check_exit(0, "for f in train val; do cp @/t_$f.bin @/p_$f.bin; dd if=/dev/zero of=@/p_$f.bin bs=4 seek=5 "
                  "count=2 conv=notrunc; done"); // shards that do not say which vocabulary they have
    check_refused(1, "not the vocabulary of", "./train_optibert --train @/p_train.bin --vocab @/p.vocab "
                  "--init @/first/model.bin");
    check_refused(1, "not a model", "./train_optibert --train @/t_train.bin --init @/t.vocab");
}

// The best model by validation is kept beside the last: of a text that is learned by heart the last is worse. Also where
// the run takes the place of a finished one, and validates before its first checkpoint.
static void test_best(void) {
    char *log, *line;
    double loss, least = INFINITY;
    size_t step, best = 0;
    make_data();
    check_exit(0, "data/village --out @/few --tokens 400 --val-tokens 1200 --people 40"); // and 128 epochs:
#define HEART "--train @/few_train.bin --layers 2 --channels 64 --seq-len 16 --batch 8 --steps 400 --val-every 20 --lr 0.01 " \
              "--weight-decay 0 --threads 1 "
    check_exit(0, RUN TINY "--steps 1 --out @/instead");
    check_exit(0, RUN HEART "--save-every 400 --out @/instead");
    check_exit(0, RUN HEART "--out @/heart && cmp @/heart/best.bin @/instead/best.bin");
    log = slurp(scratch("heart/main.log"), NULL);
    for (line = strtok(log, "\n"); line; line = strtok(NULL, "\n"))
        if (sscanf(line, "s:%zu tel:%lf", &step, &loss) == 2 && step > 0 && loss < least) least = loss, best = step;
    char text[128];
    snprintf(text, sizeof text, "the best validation loss was %.4f, after step %zu", least, best);
    check(best > 0 && best < 400, "best: the last validation is the best: this text is not learned by heart");
    check_printed("stdout", text);
    check_exit(0, RUN "--train @/few_train.bin --seq-len 16 --batch 8 --steps 1 --init @/heart/best.bin --out @/from");
    snprintf(text, sizeof text, "before training: %.4f", least);
    check_printed("stdout", text);
    check_exit(0, RUN TINY "--steps 8 --val-every 2 --lr 0.01 --out @/better && [ ! -e @/better/best.bin ]");
    check_exit(0, RUN TINY "--steps 8 --save-every 3 --keep --out @/models && cmp @/models/model.bin @/models/model-8.bin");
    check_exit(0, "[ $(ls @/models/model-*.bin | wc -l) = 3 ] && ! cmp @/models/model-3.bin @/models/model-6.bin");
}

// A folder that cannot be locked is used all the same, with a warning.
static void test_unlockable(void) {
    make_data();
    check_exit(0, "./test_optibert unlockable " TINY "--steps 1 --out @/unlocked");
    check_printed("stderr", "cannot be locked here");
}

// The threads that a run gets: by the quota of a container, written out by hand; and whatever OpenMP is told.
static void test_threads_granted(void) {
    static const struct { const char *self, *folder, *limit; double want; } cases[] = {
        {"0::/a/b\n", "a/b", "200000 100000", 2}, {"0::/a/b\n", "a", "150000 100000", 1.5},
        {"0::/\n", "", "50000 100000", 0.5}, {"0::/a/b\n", "a/b", "max 100000", INFINITY},
        {"1:cpu:/x\n0::/a\n", "a", "300000 100000", 3}, {"", "", "400000 100000", 4}};
    check(group_limit("/nonexistent", "/nonexistent", "cpu.max") == INFINITY, "quota: a limit from nowhere");
    for (int i = 0; i < 6; i++) {
        char root[256];
        shell("rm -rf @/cgroup; mkdir -p @/cgroup/%s; echo %s >@/cgroup/%s/cpu.max", cases[i].folder, cases[i].limit,
              cases[i].folder);
        write_bytes(scratch("self"), cases[i].self, strlen(cases[i].self));
        snprintf(root, sizeof root, "%s", scratch("cgroup"));
        double quota = group_limit(root, scratch("self"), "cpu.max");
        check(quota == cases[i].want, "quota: case %d gives %g", i, quota);
    }
    make_data();
#define DRY "./train_optibert " TINY "--dry-run "
#if defined(__linux__) && defined(_OPENMP)
    check_exit(0, "env -u OMP_NUM_THREADS " DRY "| head -n 1 >@/free");
    static const char *bound[] = {"OMP_PROC_BIND=true", "OMP_PLACES=cores", "OMP_WAIT_POLICY=active", "OMP_STACKSIZE=128k"};
    for (int i = 0; i < 4; i++)
        check_exit(0, "env -u OMP_NUM_THREADS %s " DRY "| head -n 1 | cmp - @/free", bound[i]);
    check_exit(0, "env -u OMP_NUM_THREADS OMP_THREAD_LIMIT=1 " DRY "| grep -q '^threads     1 '");
    check_exit(0, "OMP_NUM_THREADS=3 " DRY "| grep -q '^threads     3 '");
#endif
#ifdef __linux__ // its name is what ps and pkill look for
    check_exit(143, UNTIL("./train_optibert " TINY "--steps 1e6 --val-every 1e6 --out @/name",
                          "[ \"$(cat /proc/$p/comm)\" = train_optibert ]", "TERM"));
#endif
}

// What breaks numbers without a word is refused by the compiler; numbers and text are printed as they are.
static void test_compiler_and_text(void) {
    check(shell("${CC:-cc} -std=gnu11 -Ofast -fsyntax-only train_optibert.c") != 0, "-Ofast is accepted");
    check_printed("stderr", "leave out -Ofast");
    check_exit(0, "${CC:-cc} -std=gnu11 -O3 -fsyntax-only -Wno-unknown-pragmas train_optibert.c");
    static const struct { double x; const char *text; } numbers[] = {
        {0.3, "0.3"}, {0.1 + 0.2, "0.30000000000000004"}, {1e22, "1e+22"}, {1.0 / 3, "0.3333333333333333"}, {8, "8"}};
    for (int i = 0; i < 5; i++) {
        char text[32];
        check(strcmp(shortest(text, numbers[i].x), numbers[i].text) == 0, "%s is printed as %s", numbers[i].text, text);
    }
    static const struct { const char *text; size_t size, bytes; } utf8[] = {
        {"a", 1, 1}, {"\xc3\xa9", 2, 2}, {"\xc3", 1, 0}, {"\xe4\xbd\xa0", 3, 3}, {"\xe4\xbd\xa0", 2, 0}, {"\x80", 1, 0},
        {"\xf0\x9f\x98\x80", 4, 4}, {"\xc0\xaf", 2, 0}, {"\xed\xa0\x80", 3, 0}, {"\xf4\x90\x80\x80", 4, 0},
        {"\xff", 1, 0}, {"\xe4x", 2, 0}, {"\xf8\x90\x80\x80", 4, 0}};
    for (size_t i = 0; i < sizeof utf8 / sizeof *utf8; i++)
        check(utf8_bytes(utf8[i].text, utf8[i].size) == utf8[i].bytes, "UTF-8: case %zu", i);
    int kept = capture();
    print_text("a\tb\x1b[31m\x7f \n\xc3\xa9\xc3", 14);
    char *got = captured(kept);
    check(strcmp(got, "ab[31m \\n\xc3\xa9\\xc3") == 0, "text is printed as %s", got);
    free(got);
    static const size_t heads[][2] = {{64, 2}, {100, 2}, {48, 1}, {112, 2}, {768, 24}, {16, 1}, {34, 1}, {90, 1}, {2, 1}};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        check(default_heads(heads[i][0]) == heads[i][1], "%zu channels have %zu heads", heads[i][0],
              default_heads(heads[i][0]));
    check_refused(2, "--channels 33: must be even", "./train_optibert --channels 33");
}

static const Test tests[] = {
    {"faults", test_faults, 0}, // first, since with OPTIBERT_SLOW it takes longest
    {"matmul", test_matmul, 0},
    {"exp", test_exp, 0},
    {"row_max", test_row_max, 0},
    {"attention", test_attention, 0},
    {"PyTorch reference", test_reference, 0},
    {"finite differences", test_finite_differences, 0},
    {"threads", test_threads, 0},
    {"micro-batches", test_micro_batches, 0},
    {"gathered rows", test_gather, 0},
    {"documents", test_documents, 0},
    {"counts", test_counts, 0},
    {"initial weights", test_initial_weights, 0},
    {"schedule", test_schedule, 0},
    {"masks", test_masks, 0},
    {"shuffle", test_shuffle, 0},
    {"order of the data", test_order, 0},
    {"shards", test_shards, 0},
    {"training step and validation", test_step, 0},
    {"guesses", test_guesses, 0},
    {"resume", test_resume, 0},
    {"resume: begin, go on, finished", test_resume_always, 0},
    {"resume elsewhere, vocabulary lost", test_resume_elsewhere, 0},
    {"kept settings", test_kept_settings, 0},
    {"older checkpoint", test_older_checkpoint, 0},
    {"log and result", test_log_and_result, 0},
    {"result rows", test_result_rows, 0},
    {"result before the end", test_result_first, 0},
    {"plan", test_plan, 0},
    {"refusals", test_refusals, 0},
    {"mask one", test_mask_one, 0},
    {"mask style", test_mask_style, 0},
    {"shard in use", test_shard_in_use, 0},
    {"vocabulary of a shard", test_vocab_of_shard, 0},
    {"nothing destroyed", test_nothing_destroyed, 0},
    {"init", test_init, 0},
    {"best model", test_best, 0},
    {"unlockable folder", test_unlockable, 0},
    {"threads granted", test_threads_granted, 0},
    {"compiler and text", test_compiler_and_text, 0},
    {"changed data", test_changed_data, 0},
    {"broken shards", test_broken_shards, 0},
    {"broken vocabularies", test_broken_vocabularies, 0},
    {"damaged checkpoints and models", test_damaged_files, 0},
    {"flipped bytes", test_flipped_bytes, 0},
    {"fuzz", test_fuzz, 0},
    {"not finite", test_not_finite, 0},
    {"memory", test_memory, 0},
    {"long", test_long, 1},
    {"large", test_large, 1},
    {"other builds", test_builds, 1},
    {"checkers", test_checkers, 1},
    {"paths", test_paths, 0},
    {"signals", test_signals, 0},
    {"killed runs", test_killed, 0},
    {"200 kills", test_200_kills, 1},
    {"full disk", test_full_disk, 0},
    {"written in order", test_written_in_order, 0},
    {"one run a folder", test_folder, 0},
    {"finished run is safe", test_finished_run_is_safe, 0},
};

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (argc > 2) open_streams(); // not for the tests: what they start would inherit the signals that this ignores
    if (strcmp(mode, "stopped") == 0) stop_signal = SIGTERM;
    if (strcmp(mode, "run") == 0) signal(SIGINT, SIG_DFL); // a shell ignores it in what it runs in the background
    if (strcmp(mode, "unlockable") == 0) locks_work = 0;
    if (strcmp(mode, "nobody") == 0 && geteuid() == 0 && setuid(65534)) die("cannot become another user");
    if (strcmp(mode, "run") == 0 || strcmp(mode, "stopped") == 0 || strcmp(mode, "nobody") == 0 || !locks_work)
        return close_stdout(train_main(argc - 1, argv + 1));
    if (strcmp(mode, "peak") == 0) {
        int code = train_main(argc - 1, argv + 1);
        char line[256];
        long peak;
        FILE *f = fopen("/proc/self/status", "r");
        while (f && fgets(line, sizeof line, f))
            if (sscanf(line, "VmHWM: %ld", &peak) == 1) printf("peak %ld KiB\n", peak);
        return close_stdout(code);
    }
    if (strcmp(mode, "fail-at") == 0 || strcmp(mode, "kill-at") == 0) {
        *(*mode == 'f' ? &fault_at : &kill_at) = atoi(argv[2]);
        int code = close_stdout(train_main(argc - 2, argv + 2));
        return calls < atoi(argv[2]) ? 77 : code;
    }
    if (strcmp(mode, "load") == 0) return load_model(&(Model){0}, &(Vocab){0}, argv[2], 1, NEED_HEAD), 0;
    omp_set_num_threads(THREADS);
    return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);
}

#endif
