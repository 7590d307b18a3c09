/*
What does a trained model know?

    dev/eval --fill "The cat sat on the [MASK]."           the best guesses for each [MASK], by out/model.bin
    dev/eval mytext --fill "The cat sat on the [MASK]."    by mytext/model.bin

A model brings its vocabulary along, so this needs nothing but the model.
*/
#ifndef EVAL_C
#define EVAL_C
#ifndef OPTIBERT_NO_MAIN
#define OPTIBERT_NO_MAIN
#endif
#ifndef TOKENIZE_NO_MAIN
#define TOKENIZE_NO_MAIN
#endif
#include "../train_optibert.c"
#include "../data/tokenize.c"

typedef struct {
    Files models;
    const char *fill;
    size_t threads;
    int help;
} EvalSettings;

#define TO(field) .offset = offsetof(EvalSettings, field)
static Option eval_options[] = {
    {"", FILES, FREE, TO(models), 0, 0, "MODEL", "a model.bin, or the folder of a run (out)"},
    {"fill", TEXT, FREE, TO(fill), 0, 0, "TEXT", "guess each [MASK] in TEXT"},
    {"threads", COUNT, FREE, TO(threads), 0, 4096, "N", "(OMP_NUM_THREADS, or else the physical cores)"},
    {"help", FLAG, FREE, TO(help), 0, 0, "", "print this list"},
    {0},
};
#undef TO

// The file of a model that is named by itself or by its run's folder. In memory that lasts.
static const char *eval_model_path(const char *name) {
    struct stat st;
    if (stat(name, &st) || !S_ISDIR(st.st_mode)) return name;
    char *path = alloc_or_die(strlen(name) + sizeof "/model.bin");
    return strcat(strcpy(path, name), "/model.bin");
}

// Encode text as a document: end of text, then its tokens; each [MASK] becomes token V and takes the space
// before it. ids has room for n + 2 where text has n bytes; masked gets the places of the [MASK]s, *n_masked
// of them. Returns the number of ids. Text for a vocabulary of whole words begins with a space, as all its
// words do.
size_t eval_encode(const Encoder *e, const char *text, int32_t *ids, size_t *masked, size_t *n_masked) {
    static const char mask[] = "[MASK]";
    const Vocab *v = &e->vocab;
    size_t n = strlen(text), T = 0;
    char *spaced = alloc_or_die(n + 2), *part = spaced, *end;
    uint16_t *tokens = alloc_or_die((n + 2) * sizeof *tokens);
    int begun = e->has_bytes || text[0] == ' ' || strncmp(text, mask, 6) == 0;
    sprintf(spaced, "%s%s", begun ? "" : " ", text);
    if (v->eot >= 0) ids[T++] = v->eot;
    for (*n_masked = 0; part; part = end ? end + 6 : NULL) {
        end = strstr(part, mask);
        size_t length = end ? (size_t)(end - part) : strlen(part);
        if (end && length > 0 && end[-1] == ' ') length--;
        size_t count = encode_text(e, part, length, tokens);
        for (size_t i = 0; i < count; i++) ids[T++] = tokens[i];
        if (end) masked[(*n_masked)++] = T, ids[T++] = (int32_t)v->V;
    }
    free(spaced), free(tokens);
    return T;
}

// --fill: print the five best guesses for each [MASK] of a text.
static void eval_fill(const char *path, const char *text) {
    Encoder e;
    Model m;
    Vocab v;
    size_t n = strlen(text), M, *masked = alloc_or_die((n + 1) * sizeof *masked);
    int32_t *ids = alloc_or_die((n + 2) * sizeof *ids);
    if (!strstr(text, "[MASK]")) die_usage("--fill: there is no [MASK] in the text; put one where a word is missing");
    load_model(&m, &v, path, 1);
    if (m.c.causal) die("%s: predicts the next token, not [MASK]; train with --objective mlm", path);
    if (!v.file) die("%s: was trained without a vocabulary, so it has no words; train with --vocab", path);
    encoder_make(&e, &v);
    size_t T = eval_encode(&e, text, ids, masked, &M), V = v.V;
    if (T > m.c.T) die("--fill: the text has %zu tokens, %s takes at most %zu; shorten it", T, path, m.c.T);
    Document whole = {0, T, 0, M};
    Batch in = {1, M, 1, ids, masked, alloc_or_die(M * sizeof *in.targets), &whole};
    m.c.T = T; // one row of just this length
    model_pass(&m, &in, 0);
    for (size_t i = 0; i < M; i++) {
        const float *logits = m.logits + i * (V + 1);
        int best[5], k = (int)MIN(5, V);
        best_tokens(logits, V, best, k);
        printf("[MASK] %zu:", i + 1);
        for (int j = 0; j < k; j++) {
            printf("  \"");
            print_text(v.string[best[j]], v.length[best[j]]);
            printf("\" %.1f%%", 100 * exp((double)(logits[best[j]] - m.loss_lse[i])));
        }
        printf("\n");
    }
    free(masked), free(ids), free(in.targets), model_free(&m);
}

int eval_main(int argc, char **argv) {
    static const char *out = "out";
    EvalSettings s = {0};
    program = "eval";
    parse_options(eval_options, &s, argc, argv);
    if (s.help) {
        printf("usage: eval [MODEL] --fill TEXT\n\nAsk a trained model.\n\n");
        print_options(eval_options);
        return 0;
    }
    if (!s.fill) die_usage("--fill TEXT: say what to ask; --help lists the options");
    if (s.models.n > 1) die_usage("%s: give one model", s.models.path[1]);
    set_threads(s.threads);
    eval_fill(eval_model_path(s.models.n ? s.models.path[0] : out), s.fill);
    return 0;
}

#ifndef EVAL_NO_MAIN
int main(int argc, char **argv) {
    open_streams();
    return close_stdout(eval_main(argc, argv));
}
#endif
#endif
