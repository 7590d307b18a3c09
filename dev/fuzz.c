/*
Feeds damaged input to the readers of the project: none may crash, hang, or take memory that its input does not
warrant. test_optibert does this for each of them, and `make check` with sanitizers, without which little is seen.

    dev/fuzz 3 20000 out/model.bin      20,000 damaged copies of this file, for reader 3 of the list below
    clang -g -O2 -std=gnu11 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover -DLIBFUZZER dev/fuzz.c -lm -o fuzz
    READER=3 ./fuzz -detect_leaks=0 -runs=10000000 FOLDER   the same by coverage, from the files in FOLDER
*/
#define OPTIBERT_NO_MAIN
#define FIT_NO_MAIN
#define EVAL_NO_MAIN
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A reader that dies comes back here; what it still holds is then taken from it.
typedef struct {
    void *p[4096];
    size_t n;
} FuzzHeld;

static jmp_buf fuzz_escape;
static FILE *fuzz_quiet; // where its last words go
static FuzzHeld fuzz_memory, fuzz_files;
static size_t fuzz_most = SIZE_MAX; // bytes that may be asked for at once

static void *fuzz_keep(FuzzHeld *h, void *p) { return p ? h->p[h->n++] = p : NULL; }

static void fuzz_drop(FuzzHeld *h, void *p) {
    for (size_t i = h->n; i-- > 0;)
        if (h->p[i] == p) { h->p[i] = h->p[--h->n]; break; }
}

static void *fuzz_alloc(void *old, size_t bytes) {
    if (bytes > fuzz_most) return NULL;
    fuzz_drop(&fuzz_memory, old);
    return fuzz_keep(&fuzz_memory, old ? realloc(old, bytes) : aligned_alloc(64, (bytes + 63) / 64 * 64));
}

#undef stderr
#define stderr fuzz_quiet
#define exit(code) longjmp(fuzz_escape, code)
#define realloc(p, bytes) fuzz_alloc(p, bytes)
#define posix_memalign(p, align, bytes) (*(p) = fuzz_alloc(NULL, bytes), *(p) ? 0 : ENOMEM)
#define free(p) (fuzz_drop(&fuzz_memory, p), free(p))
#define fopen(path, mode) ((FILE *)fuzz_keep(&fuzz_files, fopen(path, mode)))
#define fclose(file) (fuzz_drop(&fuzz_files, file), fclose(file))
#include "fit.c"
#include "eval.c"

enum { SHARD, VOCAB, CHECKPOINT, MODEL, POINTS, DOCUMENT, TABLE, COMMAND, LINES, N_READERS };
static char fuzz_dir[64], input[80], input_csv[80], input_floor[80];

static void read_shard(void) {
    Shards s;
    uint16_t tokens[9];
    const char *path = input;
    shards_open(&s, &path, 1);
    for (size_t row = 0; row < shards_rows(&s, 8, 1); row++) shards_read(&s, row, 8, 1, tokens);
}

// Encode n bytes and decode them. A vocabulary that they taught themselves gives them back.
static void encode(const Vocab *v, const char *s, size_t n, int same) {
    Encoder e;
    encoder_make(&e, v);
    uint16_t *ids = alloc_or_die((n + 1) * sizeof *ids);
    size_t tokens = encode_text(&e, s, n, ids), at = 0;
    for (size_t i = 0; i < tokens; at += v->length[ids[i++]])
        if (same && (at + v->length[ids[i]] > n || memcmp(s + at, v->string[ids[i]], v->length[ids[i]]))) abort();
    if (same && at != n) abort();
}

static void read_checkpoint(void) {
    Reader r;
    Progress done;
    Config c;
    Vocab v;
    Model m;
    Settings s = default_settings;
    char *kept = open_checkpoint(&r, input, &done, &c, &v);
    restore_settings(&s, kept), compare_settings(&s, kept);
    model_alloc(&m, &c, 1, c.T, 1, NEED_ALL), load_checkpoint(&r, &m);
}

// Lines as arguments of the trainer, up to the point where it would open its files.
static void read_command(void) {
    char *argv[64], *save, *text = read_whole(input);
    Run r = {.s = default_settings, .train = {.n_files = 1, .tokens = &(size_t){1000000}, .V = 931}};
    int argc = 1;
    for (char *s = strtok_r(text, "\n", &save); s && argc < 64; s = strtok_r(NULL, "\n", &save)) argv[argc++] = s;
    parse_options(trainer_options, &r.s, argc, argv);
    r.val = r.train, r.s.val = (Files){1, &(const char *){input}}, settle(&r);
    model_bytes(&r.c, r.s.micro_batch, run_predicted(&r), 4, NEED_ALL);
}

// Give n bytes to a reader. The checksum of a model is made right, or nothing would get past it.
static int feed(int reader, const uint8_t *data, size_t n) {
    Vocab v;
    FILE *f = fopen(input, "wb");
    int summed = n > 8 && data[n - 8] % 8 && (reader == MODEL || reader == CHECKPOINT);
    uint64_t sum = checksum_add(CHECKSUM_START, data, summed ? n - 8 : 0);
    fwrite(data, 1, summed ? n - 8 : n, f), fwrite(&sum, 1, summed ? 8 : 0, f), fclose(f);
    fuzz_most = reader == MODEL || reader == CHECKPOINT ? 1 << 24 : (1 << 21) + 300 * n;
    for (Option *o = trainer_options; o->name; o++) o->given = 0;
    int died = setjmp(fuzz_escape);
    if (!died && reader == SHARD) read_shard();
    if (!died && reader == VOCAB) vocab_load(&v, input), encode(&v, " word01 word97", 14, 0);
    if (!died && reader == CHECKPOINT) read_checkpoint();
    if (!died && reader == MODEL) load_model(&(Model){0}, &v, input, 1, NEED_HEAD);
    if (!died && reader == POINTS) read_points(&(Fit){0}, input);
    if (!died && reader == DOCUMENT)
        input_check("text", (char *)data, n), bpe_learn(&v, &(Text){(char *)data, n}, 1, 280), encode(&v, (char *)data, n, 1);
    if (!died && reader == TABLE) read_table(input), rename(input, input_csv), read_table(input_csv);
    if (!died && reader == COMMAND) read_command();
    if (!died && reader == LINES) {
        Run r = {.s = {.objective = "mlm", .val = {1, &(const char *){input}}}, .c = {.T = 16}, .val_mask_rate = 0.2};
        cut_log(input, 5), rename(input, input_floor), find_floor(&r);
    }
    while (fuzz_files.n > 0) (fclose)(fuzz_files.p[--fuzz_files.n]);
    while (fuzz_memory.n > 0) (free)(fuzz_memory.p[--fuzz_memory.n]);
    return !died;
}

static void fuzz_open(void) {
    snprintf(fuzz_dir, sizeof fuzz_dir, "%s/optibert_XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(fuzz_dir) || !(fuzz_quiet = (fopen)("/dev/null", "w"))) abort();
    snprintf(input, sizeof input, "%s/f.bin", fuzz_dir), snprintf(input_csv, sizeof input_csv, "%s/f.csv", fuzz_dir);
    set_threads(1); // what is held is counted by one thread
    snprintf(input_floor, sizeof input_floor, "%s/f.floor", fuzz_dir);
}

static void fuzz_close(void) { unlink(input), unlink(input_csv), unlink(input_floor), rmdir(fuzz_dir); }

#ifdef LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (!fuzz_quiet) fuzz_open(), atexit(fuzz_close);
    return feed(atoi(getenv("READER")), data, n), 0;
}
#else
// Damage n bytes in place: bits, bytes, words, a piece from elsewhere, the end. Returns how many are left.
static size_t damage(uint8_t *data, size_t n, uint64_t seed) {
    static const uint64_t words[] = {0, 1, UINT64_MAX, 1u << 31, 65535, 1 << 20, (uint64_t)1 << 62, (uint64_t)1 << 63};
    for (uint64_t i = 0, changes = 1 + hash3(seed, 0, 0) % 3; i < changes && n > 16; i++) {
        uint64_t how = hash3(seed, 1, i) % 16, at = hash3(seed, 2, i) % (how % 3 ? n : MIN(n, 100)), x = hash3(seed, 3, i);
        size_t piece = MIN(n - at, x >> 60);
        if (how < 5) data[at] ^= (uint8_t)(1 << x % 8);
        else if (how < 8) data[at] = (uint8_t)x;
        else if (how < 12) memcpy(data + at / 4 * 4, &words[x % 8], MIN(n - at / 4 * 4, x & 8 ? 8 : 4));
        else if (how < 15) memmove(data + at, data + x % (n - piece), piece);
        else n -= x % (n / 4);
    }
    return n;
}

int main(int argc, char **argv) {
    Reader r;
    if (argc < 4) return puts("usage: dev/fuzz READER INPUTS FILE"), 2;
    fuzz_open(), reader_open(&r, argv[3]);
    size_t inputs = (size_t)atof(argv[2]), accepted = 0;
    uint8_t *good = alloc_or_die(r.size);
    reader_get(&r, good, r.size), fclose(r.file), fuzz_memory.n = 0;
    for (size_t i = 0; i < inputs; i++) {
        uint8_t *data = memcpy((malloc)(r.size), good, r.size); // where an overrun is seen
        size_t n = i == 0 ? r.size : i == 1 ? 0 : damage(data, r.size, i); // the first as it is, the second empty
        accepted += (size_t)feed(atoi(argv[1]), data, n), (free)(data);
    }
    printf("reader %s: %zu inputs, %zu of them accepted\n", argv[1], inputs, accepted), fuzz_close();
}
#endif
