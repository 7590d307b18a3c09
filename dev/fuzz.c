/*
Feeds damaged input to every reader of the project: none may crash, hang, leak, or take memory that its input does
not warrant. Build it with sanitizers, or it sees little:

    make CFLAGS='-O1 -g -fsanitize=address,undefined -fno-sanitize-recover' dev/fuzz
    dev/fuzz 20000                  so many inputs for each reader, made from good ones
    dev/fuzz 1000000 3              … for one of them
    clang -g -O1 -std=gnu11 -fsanitize=fuzzer,address,undefined -DLIBFUZZER=3 dev/fuzz.c -lm -o /tmp/fuzz
    dev/fuzz seeds DIR; /tmp/fuzz -close_fd_mask=3 -max_total_time=100 DIR/3      the same by coverage, with libFuzzer
*/
#define OPTIBERT_NO_MAIN
#define FIT_NO_MAIN
#define EVAL_NO_MAIN
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A reader that dies comes back here, and what it had fuzz_held is then given back. No allocation may exceed `fuzz_most`.
static jmp_buf fuzz_escape;
static FILE *fuzz_quiet; // where its last words go
static void *fuzz_held[1 << 12], *fuzz_files[64];
static size_t fuzz_most, accepted;

static void *fuzz_hold(void **table, size_t n, void *p) {
    for (size_t i = (size_t)p / 64 % n, k = 0; p && k < n; k++, i = (i + 1) % n)
        if (!table[i]) return table[i] = p;
    if (p) abort();
    return p;
}

static void fuzz_drop(void **table, size_t n, void *p) {
    for (size_t i = (size_t)p / 64 % n, k = 0; p && k < n; k++, i = (i + 1) % n)
        if (table[i] == p) { table[i] = NULL; return; }
}

static void *fuzz_alloc(void *old, size_t bytes) {
    void *p = NULL;
    if (bytes > fuzz_most) return errno = ENOMEM, NULL;
    if (!old) return posix_memalign(&p, 64, bytes) ? NULL : fuzz_hold(fuzz_held, 1 << 12, p);
    fuzz_drop(fuzz_held, 1 << 12, old);
    return fuzz_hold(fuzz_held, 1 << 12, realloc(old, bytes));
}

static int fuzz_memalign(void **p, size_t align, size_t bytes) {
    return (void)align, (*p = fuzz_alloc(NULL, bytes)) ? 0 : ENOMEM;
}

#undef stderr
#define stderr fuzz_quiet
#define exit(code) longjmp(fuzz_escape, 1)
#define realloc(p, bytes) fuzz_alloc(p, bytes)
#define posix_memalign(p, align, bytes) fuzz_memalign(p, align, bytes)
#define free(p) (fuzz_drop(fuzz_held, 1 << 12, p), free(p))
#define fopen(path, mode) ((FILE *)fuzz_hold(fuzz_files, 64, fopen(path, mode)))
#define fclose(file) (fuzz_drop(fuzz_files, 64, file), fclose(file))
#include "fit.c"
#include "eval.c"

enum { SHARD, VOCAB, CHECKPOINT, MODEL, POINTS, DOCUMENT, TABLE, COMMAND, LINES, N_KINDS };
static char dir[64], input[80], input_csv[80], input_floor[80];

// The tokens of the vocabulary that a text teaches are the text again.
static void round_trip(const char *s, size_t n) {
    Text text = {s, n};
    Vocab v;
    Encoder e;
    input_check("text", s, n), bpe_learn(&v, &text, 1, 280), encoder_make(&e, &v);
    uint16_t *ids = alloc_or_die((n + 1) * sizeof *ids);
    size_t tokens = encode_text(&e, s, n, ids), at = 0;
    for (size_t i = 0; i < tokens; at += v.length[ids[i++]])
        if (at + v.length[ids[i]] > n || memcmp(s + at, v.string[ids[i]], v.length[ids[i]])) abort();
    if (at != n) abort();
}

// Lines as arguments of the trainer, up to the point where it would open its files.
static void command_line(void) {
    char *argv[64] = {"train"}, *text = read_whole(input), *save;
    size_t tokens = 1000000;
    const char *val = "x.bin";
    int argc = 1;
    Run r = {.s = default_settings, .train = {.n_files = 1, .tokens = &tokens, .V = 931}};
    for (char *s = strtok_r(text, "\n", &save); s && argc < 63; s = strtok_r(NULL, "\n", &save)) argv[argc++] = s;
    parse_options(trainer_options, &r.s, argc, argv);
    r.val = r.train, r.s.val = (Files){1, &val}, settle(&r);
    model_bytes(&r.c, r.s.micro_batch, run_predicted(&r), 4, NEED_HEAD | NEED_BACKWARD), free(kept_settings(&r.s));
}

static void checkpoint(void) {
    Reader r;
    Progress done;
    Config c;
    Vocab v;
    Model m;
    Settings s = default_settings;
    char *kept = open_checkpoint(&r, input, &done, &c, &v);
    restore_settings(&s, kept), compare_settings(&s, kept);
    model_alloc(&m, &c, 1, c.T, 1, NEED_HEAD | NEED_BACKWARD), load_checkpoint(&r, &m);
}

// Give n bytes to the reader of a kind.
static void feed(int kind, const uint8_t *data, size_t n) {
    Shards s;
    Vocab v;
    Encoder e;
    uint16_t ids[64];
    const char *path = input;
    FILE *f = fopen(input, "wb");
    uint64_t sum = n < 8 ? 0 : checksum_add(CHECKSUM_START, data, n - 8); // else nothing would get past it
    int signed_ = n > 8 && (kind == MODEL || kind == CHECKPOINT) && data[n - 8] % 8;
    fwrite(data, 1, signed_ ? n - 8 : n, f), fwrite(&sum, 1, signed_ ? 8 : 0, f), fclose(f);
    fuzz_most = kind == MODEL || kind == CHECKPOINT ? 1 << 24 : (1 << 21) + 300 * n;
    for (Option *o = trainer_options; o->name; o++) o->given = 0;
    if (setjmp(fuzz_escape) == 0) {
        if (kind == SHARD) {
            shards_open(&s, &path, 1);
            for (size_t row = 0; row < shards_rows(&s, 8, 1); row++) shards_read(&s, row, 8, 1, ids);
        }
        if (kind == VOCAB) vocab_load(&v, path), encoder_make(&e, &v), encode_text(&e, "abba cab", 8, ids);
        if (kind == CHECKPOINT) checkpoint();
        if (kind == MODEL) load_model(&(Model){0}, &v, path, 1, NEED_HEAD);
        if (kind == POINTS) read_points(&(Fit){0}, path);
        if (kind == DOCUMENT) round_trip((const char *)data, n);
        if (kind == TABLE) read_table(path), rename(input, input_csv), read_table(input_csv);
        if (kind == COMMAND) command_line();
        if (kind == LINES) {
            Run r = {.s = {.objective = "mlm", .val = {1, &path}, .val_rows = 9}, .c = {.T = 16}, .mask_rate = 0.2};
            cut_log(input, 5), rename(input, input_floor), find_floor(&r);
        }
        accepted++;
    }
    for (size_t i = 0; i < 64; i++)
        if (fuzz_files[i]) (fclose)(fuzz_files[i]), fuzz_files[i] = NULL;
    for (size_t i = 0; i < 1 << 12; i++)
        if (fuzz_held[i]) (free)(fuzz_held[i]), fuzz_held[i] = NULL;
}

static void fuzz_open(void) {
    snprintf(dir, sizeof dir, "%s/optibert_XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(dir)) abort();
    snprintf(input, sizeof input, "%s/f.bin", dir), snprintf(input_csv, sizeof input_csv, "%s/f.csv", dir);
    snprintf(input_floor, sizeof input_floor, "%s/f.floor", dir);
    if (!fuzz_quiet) fuzz_quiet = (fopen)("/dev/null", "w");
    fuzz_most = SIZE_MAX;
}

static void fuzz_close(void) {
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", dir);
    if (system(command)) abort();
}

// A good input of each kind, in the input file.
static void write_seed(int kind) {
    static const char points[] = "mlm,2,64,2,176,128,931,160320,100672,800000,700000,4e6,3.2e12,4096,1000,0.008,0.2,1,3.1,"
        "3,0.25,9,2,0.01,0.1,3.2e12,v,512,v,1,0.1,32,00ff\n", *const text[] = {[DOCUMENT] = "The cat sat on the mat, and the "
        "cats sat. 2024\r\n caf\xc3\xa9 \xff", [TABLE] = "a\tb\n\"x, \"\"y\",1\tz\nu\tw,\"v\n\"\n", [COMMAND] = "--layers\n3\n--lr\n"
        "1e-3\n--train\na\nb\n--objective\nntp\n--flops\n1e12\n--resume", [LINES] = "s:0 tel:1.5\ns:1 trl:2.25 lr:1e-3 norm:1\n"
        "mlm 16 0.2 9 1 10 4 0\ns:9 trl:1\n"};
    Writer w;
    Run r = {.s = default_settings, .c = {1, 4, 1, 16, 4, 20, 0}};
    int32_t h[HEADER + 32] = {SHARD_MAGIC, 1, 64, 20, 20};
    Vocab v = {.file = (char *)h, .size = HEADER * 4};
    writer_open(&w, input);
    if (kind == SHARD) writer_put(&w, h, sizeof h);
    if (kind == POINTS) writer_put(&w, result_header, strlen(result_header)), writer_put(&w, points, strlen(points));
    if (kind >= DOCUMENT) writer_put(&w, text[kind], strlen(text[kind]));
    writer_close(&w);
    v.file = memcpy(alloc_or_die(sizeof h), (int32_t[HEADER]){VOCAB_MAGIC, 2, 20, 19}, HEADER * 4);
    for (int i = 0; i < 20; i++) v.file[v.size++] = 1, v.file[v.size++] = "abcdefghijklmnopqrst"[i];
    model_alloc(&r.m, &r.c, 1, 4, 1, NEED_HEAD | NEED_BACKWARD), model_init(&r.m, 1);
    r.vocab = v, r.s.layers = 1, r.s.channels = 4, r.s.heads = 1, r.s.hidden = 16, r.s.seq_len = 4, r.s.steps = 9;
    r.s.micro_batch = r.s.val_every = r.s.save_every = 1, r.s.lr = 0.1, r.done.step = 3;
    if (kind == VOCAB) writer_open(&w, input), writer_put(&w, v.file, v.size), writer_close(&w);
    if (kind == MODEL) save_model(input, &r.m, &r.vocab);
    if (kind == CHECKPOINT) save_checkpoint(input, &r);
    free(v.file), model_free(&r.m);
}

#ifdef LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (!fuzz_quiet) fuzz_open(), atexit(fuzz_close);
    return feed(LIBFUZZER, data, n), 0;
}
#else
// Damage n bytes in place: a bit, a byte, a word, a piece from elsewhere, an end. Returns how many are left.
static size_t damage(uint8_t *data, size_t n, uint64_t seed) {
    static const uint64_t words[] = {0, 1, UINT64_MAX, 1u << 31, 65535, 1 << 20, (uint64_t)1 << 62, 0x8000000000000000u};
    for (uint64_t i = 0, changes = 1 + hash3(seed, 0, 0) % 3; i < changes && n > 16; i++) {
        uint64_t how = hash3(seed, 1, i), at = hash3(seed, 2, i) % (how % 3 ? n : MIN(n, 100)), x = hash3(seed, 3, i);
        size_t piece = MIN(n - at, how >> 8 & 15);
        if (how % 16 < 5) data[at] ^= (uint8_t)(1 << x % 8);
        else if (how % 16 < 8) data[at] = (uint8_t)x;
        else if (how % 16 < 12) memcpy(data + at / 4 * 4, &words[x % 8], MIN(n - at / 4 * 4, x & 8 ? 8 : 4));
        else if (how % 16 < 15) memmove(data + at, data + x % (n - piece), piece);
        else n -= n / 4 ? x % (n / 4) : 0;
    }
    return n;
}

int main(int argc, char **argv) {
    size_t n = argc > 1 ? (size_t)atof(argv[1]) : 1000;
    for (int kind = 0; kind < N_KINDS; kind++) {
        if (argc > 2 && atoi(argv[2]) != kind) continue;
        fuzz_open(), write_seed(kind);
        Reader r;
        reader_open(&r, input);
        uint8_t *good = malloc(r.size), *bad;
        reader_get(&r, good, r.size), fclose(r.file);
        if (n == 0) fwrite(good, r.size, 1, stdout);
        for (size_t i = 0; i < n; i++) {
            bad = malloc(r.size), memcpy(bad, good, r.size);
            feed(kind, bad, i ? damage(bad, r.size, i) : r.size);
            (free)(bad);
        }
        if (n > 0) printf("kind %d: %zu inputs, %zu of them accepted\n", kind, n, accepted), fflush(stdout);
        (free)(good), accepted = 0, fuzz_close();
    }
}
#endif
