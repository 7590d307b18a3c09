/*
What is a trained model worth?

    dev/eval --fill "The cat sat on the [MASK]."   the best guesses for each [MASK], by out/model.bin
    dev/eval mytext sts trec                       how good its vectors are at two tasks: folders of TSV files
    dev/eval a b rte --finetune                    how well two models can be trained for a task, compared
    dev/eval mytext --contrastive pairs.tsv --out better    a model with better vectors
    dev/eval mytext --embed lines.txt --out lines.npy       a vector for each line of a file

The vector of a text is the mean of the encoder's outputs over its tokens. Each task is scored as MTEB does it
(Muennighoff et al., arXiv 2210.07316), and each score has an interval and, if there are several models, a
difference from the first one with its own interval. Two things that are not trained encoders stand beside
each model: the mean of its token vectors, without any attention, and the same shape with random weights.
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

enum { STREAM_RESAMPLE = 400, STREAM_SHOTS, STREAM_MEANS, STREAM_HEAD };

// ----------------------------------------------------------------------------
// --fill

// Encode n bytes of text; ids has room for n. All words of a vocabulary of whole words begin with a space, so
// there the text does too.
static size_t encode_line(const Encoder *e, const char *text, size_t n, uint16_t *ids) {
    size_t space = !e->has_bytes && n > 0 && text[0] != ' ';
    char *spaced = alloc_or_die(n + 2);
    sprintf(spaced, "%s%.*s", space ? " " : "", (int)n, text);
    size_t count = encode_text(e, spaced, n + space, ids);
    free(spaced);
    return count;
}

// Encode text as a document: end of text, then its tokens; each [MASK] becomes token V and takes the space
// before it. ids has room for n + 2 where text has n bytes; masked gets the places of the [MASK]s, *n_masked
// of them. Returns the number of ids.
size_t eval_encode(const Encoder *e, const char *text, int32_t *ids, size_t *masked, size_t *n_masked) {
    static const char mask[] = "[MASK]";
    size_t T = 0;
    uint16_t *tokens = alloc_or_die((strlen(text) + 2) * sizeof *tokens);
    if (e->vocab.eot >= 0) ids[T++] = e->vocab.eot;
    *n_masked = 0;
    for (const char *part = text, *end; part; part = end ? end + 6 : NULL) {
        end = strstr(part, mask);
        size_t length = end ? (size_t)(end - part) : strlen(part);
        if (end && length > 0 && end[-1] == ' ') length--;
        size_t count = (part == text ? encode_line : encode_text)(e, part, length, tokens);
        for (size_t i = 0; i < count; i++) ids[T++] = tokens[i];
        if (end) masked[(*n_masked)++] = T, ids[T++] = (int32_t)e->vocab.V;
    }
    free(tokens);
    return T;
}

// Print the five best guesses for each [MASK] of a text.
static void eval_fill(const char *path, const char *text) {
    Encoder e;
    Model m;
    Vocab v;
    size_t n = strlen(text), M, *masked = alloc_or_die((n + 1) * sizeof *masked);
    int32_t *ids = alloc_or_die((n + 2) * sizeof *ids);
    if (!strstr(text, "[MASK]"))
        die_usage("--fill: there is no [MASK] in the text; put one where a word is missing");
    load_model(&m, &v, path, 1, NEED_HEAD);
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
        float *logits = m.logits + i * (V + 1);
        printf("[MASK] %zu:", i + 1);
        for (size_t j = 0; j < MIN(5, V); j++) {
            size_t best = best_of(logits, V);
            printf("  \"");
            print_text(v.string[best], v.length[best]);
            printf("\" %.1f%%", 100 * exp((double)(logits[best] - m.loss_lse[i])));
            logits[best] = -INFINITY; // the next one is the second
        }
        printf("\n");
    }
    free(masked), free(ids), free(in.targets), model_free(&m);
}

// ----------------------------------------------------------------------------
// texts and tables

// A table of texts. A cell is not changed once it has been read.
typedef struct {
    size_t rows, cols;
    char **cell; // (rows,cols)
} TextTable;

static char *table_cell(const TextTable *t, size_t row, size_t col) { return t->cell[row * t->cols + col]; }

// A column of a table, from a row on, after the n texts that are there already.
static char **add_column(char **texts, size_t n, const TextTable *t, size_t row, size_t col) {
    texts = realloc(texts, (n + t->rows) * sizeof *texts);
    if (!texts) die("out of memory");
    for (; row < t->rows; row++) texts[n++] = table_cell(t, row, col);
    return texts;
}

// Cut one line off *text into fields, in place, at a separator. Between commas a field may be in quotes, hold
// commas and line ends, and "" for a quote. Returns how many fields there are; at most `most` are stored.
static size_t cut_line(char **text, char separator, char **field, size_t most) {
    size_t n = 0;
    char *from = *text, end;
    do {
        int quoted = separator == ',' && *from == '"';
        char *to = from + quoted, *start = to;
        for (from = to; *from; from++) {
            if (quoted && *from == '"' && *++from != '"') quoted = 0;
            if (!quoted && (*from == separator || *from == '\n' || !*from)) break;
            *to++ = *from;
        }
        end = *from, *to = 0;
        if (end == '\n' && to > start && to[-1] == '\r') to[-1] = 0;
        if (n < most) field[n] = start;
        n++, from += end != 0;
    } while (end && end != '\n');
    *text = from;
    return n;
}

// Read a TSV or CSV file. Every line must have as many fields as the first one.
TextTable read_table(const char *path) {
    enum { MOST = 64 };
    TextTable t = {0};
    size_t line = 0, room = 0;
    char *text = read_whole(path), *field[MOST], separator = replace_ending(path, ".csv", "") ? ',' : '\t';
    if (!*text) die("%s: is empty; give a file with a header and some rows", path);
    if (strncmp(text, "\xef\xbb\xbf", 3) == 0) text += 3;
    while (*text) {
        size_t fields = cut_line(&text, separator, field, MOST);
        line++;
        if (fields == 1 && !*field[0] && t.cols != 1) continue;
        if (!t.cols) t.cols = MIN(fields, MOST);
        if (fields < t.cols)
            die("%s: line %zu has %zu columns, the first line has %zu; mend it", path, line, fields, t.cols);
        t.cell = bpe_grow(t.cell, t.rows, &room, t.cols * sizeof *t.cell);
        memcpy(t.cell + t.rows++ * t.cols, field, t.cols * sizeof *field);
    }
    return t;
}

// Texts as token ids. Each begins with an end of text, as every document does.
typedef struct {
    size_t n, cut;  // texts; those that were longer than a row, and were cut
    size_t *begin;  // (n+1) where each begins in
    uint16_t *ids;  // (begin[n])
} Encoded;

static size_t text_length(const Encoded *t, size_t i) { return t->begin[i + 1] - t->begin[i]; }

// Encode a text as a document: end of text, then its tokens. If there is neither, token 0.
static size_t encode_document(const Encoder *e, const char *text, uint16_t *ids) {
    size_t n = 0;
    if (e->vocab.eot >= 0) ids[n++] = (uint16_t)e->vocab.eot;
    n += encode_line(e, text, strlen(text), ids + n);
    if (n == 0) ids[n++] = 0;
    return n;
}

// Encode n texts, at most T tokens of each. If second is not NULL, a text is a pair, first and second, that
// the encoder reads as one document: end of text, first, end of text, second. (As two documents of a row they
// would not see each other, and in pretraining an end of text is what stands between two texts.) Of the
// longer one more is cut.
Encoded encode_texts(const Encoder *e, char **first, char **second, size_t n, size_t T) {
    Encoded t = {.n = n, .begin = alloc_or_die((n + 1) * sizeof *t.begin)};
    size_t room = 0;
    for (size_t i = 0; i < n; i++) room += strlen(first[i]) + (second ? strlen(second[i]) : 0) + 4;
    t.ids = alloc_or_die(room * sizeof *t.ids);
    for (size_t i = 0; i < n; i++) {
        uint16_t *ids = t.ids + t.begin[i];
        size_t all = encode_document(e, first[i], ids), a = all;
        size_t b = second ? encode_document(e, second[i], ids + a) : 0;
        t.cut += a + b > T;
        while (a + b > T)
            if (b > a) b--;
            else a--;
        memmove(ids + a, ids + all, b * sizeof *ids);
        t.begin[i + 1] = t.begin[i] + a + b;
    }
    return t;
}

// Say so if texts were cut.
static void warn_cut(const char *what, const Encoded *t, size_t T) {
    if (t->cut) fprintf(stderr, "%s: %zu texts have more than %zu tokens and were cut\n", what, t->cut, T);
}

static void encoded_free(Encoded *t) { free(t->begin), free(t->ids); }

// ----------------------------------------------------------------------------
// from texts to vectors, and back from their gradients

// What makes vectors: a model as it was trained, its token vectors alone, or its shape with random weights.
// The three share the memory of one model; embedder_begin() says whose turn it is. They take a batch of texts
// at once, side by side in one row that is as long as they are together, each a document of its own.
enum { TRAINED, TOKENS, UNTRAINED, KINDS };
static const char *const kind_names[] = {"trained", "token vectors only", "untrained"};
typedef struct {
    char name[80];
    Model *m;
    Batch *in; // its n_docs: texts that are in it; M: positions that are taken, of max_M
    size_t T;  // the most tokens of a text
    const Encoder *e;
    float *start; // (block) its weights
    int kind;
} Embedder;

static void embedder_begin(const Embedder *by) {
    Model *m = by->m;
    memcpy(m->params, by->start, m->block * sizeof(float));
    if (m->grads) memset(m->grads, 0, 3 * m->block * sizeof(float)); // and the moments
}

// Make a batch of the texts which[0 … n-1], or of as many as there is room for. The end of text that begins a
// text counts as one of its tokens (as sentence-transformers has it), but not among token vectors alone.
static void batch_fill(Embedder *by, const Encoded *t, const size_t *which, size_t n) {
    Batch *in = by->in;
    in->M = in->n_docs = 0;
    for (size_t k = 0; k < n; k++) {
        size_t length = text_length(t, which[k]), skip = by->kind == TOKENS && length > 1, begin = in->M + skip;
        if (in->M + length > by->m->max_M) return;
        in->docs[in->n_docs++] = (Document){begin, in->M + length, begin, length - skip};
        for (size_t i = 0; i < length; i++) in->inputs[in->M++] = t->ids[t->begin[which[k]] + i];
    }
}

// vec (n,C) = the mean of the outputs over each text's tokens; by the embedding alone, of its token vectors.
static void batch_forward(Embedder *by, float *vec) {
    Model *m = by->m;
    const Batch *in = by->in;
    size_t C = m->c.C;
    m->c.T = in->M;
    #pragma omp parallel
    if (by->kind == TOKENS) embedding_forward(m->nf, in->inputs, weights_of(m, WTE, 0), in->M, C);
    else encoder_forward(m, in);
    memset(vec, 0, in->n_docs * C * sizeof *vec);
    for (const Document *d = in->docs; d < in->docs + in->n_docs; d++, vec += C)
        for (size_t i = d->begin; i < d->end; i++)
            for (size_t c = 0; c < C; c++) vec[c] += m->nf[i * C + c] / (float)d->n;
}

// Add to the gradients what follows from dvec (n,C).
static void batch_backward(Embedder *by, const float *dvec) {
    Model *m = by->m;
    const Batch *in = by->in;
    size_t C = m->c.C;
    memset(m->dc, 0, in->M * C * sizeof *m->dc);
    for (const Document *d = in->docs; d < in->docs + in->n_docs; d++, dvec += C)
        for (size_t i = d->begin; i < d->end; i++)
            for (size_t c = 0; c < C; c++) m->dc[i * C + c] = dvec[c] / (float)d->n;
    #pragma omp parallel
    if (by->kind == TOKENS) embedding_backward(gradient_of(m, WTE, 0), m->dc, in->inputs, in->M, C);
    else encoder_backward(m, in);
}

// The vectors (n,C) of all texts.
float *embed_texts(Embedder *by, const Encoded *t) {
    size_t C = by->m->c.C, *which = alloc_or_die(t->n * sizeof *which);
    float *all = alloc_or_die(t->n * C * sizeof *all);
    for (size_t i = 0; i < t->n; i++) which[i] = i;
    for (size_t done = 0; done < t->n; done += by->in->n_docs) {
        batch_fill(by, t, which + done, t->n - done);
        batch_forward(by, all + done * C);
    }
    free(which);
    return all;
}

// -log softmax(z)[y] of the logits z (K), which become their gradient.
static double softmax_loss(double *z, size_t K, size_t y) {
    double most = -INFINITY, sum = 0;
    for (size_t k = 0; k < K; k++) most = fmax(most, z[k]);
    for (size_t k = 0; k < K; k++) sum += exp(z[k] - most);
    double loss = log(sum) + most - z[y];
    for (size_t k = 0; k < K; k++) z[k] = exp(z[k] - most) / sum - (k == y);
    return loss;
}

static double dot(const float *a, const float *b, size_t n) {
    double sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

// a · b / (|a| |b|), and 0 if one of them is 0.
static double cosine(const float *a, const float *b, size_t C) {
    double ab = dot(a, b, C), aa = dot(a, a, C), bb = dot(b, b, C);
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
}

// ----------------------------------------------------------------------------
// metrics: each compares what is right, gold (n), with what was predicted, pred (n)

typedef double Metric(const double *gold, const double *pred, size_t n);

typedef struct {
    double value;
    size_t i;
} Ranked;

static int compare_ranked(const void *a, const void *b) {
    double x = ((const Ranked *)a)->value, y = ((const Ranked *)b)->value;
    return (x > y) - (x < y);
}

// The numbers in ascending order, each with its place; the caller frees them.
static Ranked *ranked(const double *x, size_t n) {
    Ranked *r = alloc_or_die(n * sizeof *r);
    for (size_t i = 0; i < n; i++) r[i] = (Ranked){x[i], i};
    qsort(r, n, sizeof *r, compare_ranked);
    return r;
}

double pearson(const double *x, const double *y, size_t n) {
    double mx = 0, my = 0, xx = 0, yy = 0, xy = 0;
    for (size_t i = 0; i < n; i++) mx += x[i] / (double)n, my += y[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        xx += (x[i] - mx) * (x[i] - mx), yy += (y[i] - my) * (y[i] - my), xy += (x[i] - mx) * (y[i] - my);
    double noise = 1e-20 * (double)n; // all alike but for rounding
    return xx > noise * mx * mx && yy > noise * my * my ? xy / sqrt(xx * yy) : NAN;
}

// The correlation of the ranks; equal numbers share the mean of their ranks.
double spearman(const double *x, const double *y, size_t n) {
    double *rank = alloc_or_die(2 * n * sizeof *rank);
    for (int k = 0; k < 2; k++) {
        Ranked *r = ranked(k ? y : x, n);
        for (size_t i = 0, j; i < n; i = j) {
            for (j = i; j < n && r[j].value == r[i].value; j++) {}
            for (size_t q = i; q < j; q++) rank[(size_t)k * n + r[q].i] = (double)(i + j - 1) / 2;
        }
        free(r);
    }
    double result = pearson(rank, rank + n, n);
    free(rank);
    return result;
}

// gold is 1 or 0. Σ (recall_k - recall_k-1) precision_k over the thresholds k, highest first.
double average_precision(const double *gold, const double *pred, size_t n) {
    Ranked *r = ranked(pred, n);
    double all = 0, found = 0, sum = 0;
    for (size_t i = 0; i < n; i++) all += gold[i];
    for (size_t i = n, j; i > 0; i = j) {
        double before = found;
        for (j = i; j > 0 && r[j - 1].value == r[i - 1].value; j--) found += gold[r[j - 1].i];
        sum += (found - before) * found / (double)(n - j);
    }
    free(r);
    return all > 0 ? sum / all : NAN;
}

double accuracy(const double *gold, const double *pred, size_t n) {
    double right = 0;
    for (size_t i = 0; i < n; i++) right += gold[i] == pred[i];
    return right / (double)n;
}

// How often class i was predicted as class j: (K,K), which the caller frees. *K: the number of classes.
static double *confusion(const double *gold, const double *pred, size_t n, size_t *K) {
    double most = 0;
    for (size_t i = 0; i < n; i++) most = fmax(most, fmax(gold[i], pred[i]));
    *K = (size_t)most + 1;
    double *table = alloc_or_die(*K * *K * sizeof *table);
    for (size_t i = 0; i < n; i++) table[(size_t)gold[i] * *K + (size_t)pred[i]]++;
    return table;
}

// The counts of class k: in gold, in pred, in both.
static void class_counts(const double *table, size_t K, size_t k, double *gold, double *pred, double *both) {
    *gold = *pred = 0, *both = table[k * K + k];
    for (size_t j = 0; j < K; j++) *gold += table[k * K + j], *pred += table[j * K + k];
}

// F1 of class 1: 2 both / (gold + pred).
double f1(const double *gold, const double *pred, size_t n) {
    double g = 0, p = 0, both = 0;
    for (size_t i = 0; i < n; i++) g += gold[i] == 1, p += pred[i] == 1, both += gold[i] == 1 && pred[i] == 1;
    return g + p > 0 ? 2 * both / (g + p) : 0;
}

// The mean of F1 over the classes that occur.
double macro_f1(const double *gold, const double *pred, size_t n) {
    size_t K;
    double *table = confusion(gold, pred, n, &K), g, p, both, sum = 0, classes = 0;
    for (size_t k = 0; k < K; k++) {
        class_counts(table, K, k, &g, &p, &both);
        if (g + p > 0) sum += 2 * both / (g + p), classes++;
    }
    free(table);
    return sum / classes;
}

// Matthews' correlation, for any number of classes (Gorodkin 2004): the correlation of the indicators.
double matthews(const double *gold, const double *pred, size_t n) {
    size_t K;
    double *table = confusion(gold, pred, n, &K), g, p, both, right = 0, gp = 0, gg = 0, pp = 0;
    for (size_t k = 0; k < K; k++) {
        class_counts(table, K, k, &g, &p, &both);
        right += both, gp += g * p, gg += g * g, pp += p * p;
    }
    double N = (double)n, spread = sqrt((N * N - gg) * (N * N - pp));
    free(table);
    return spread > 0 ? (N * right - gp) / spread : 0;
}

// How well clusters agree with classes (Rosenberg and Hirschberg 2007): the harmonic mean of homogeneity,
// 1 - H(class|cluster)/H(class), and completeness, 1 - H(cluster|class)/H(cluster). That is 2 I / (H + H).
double v_measure(const double *gold, const double *pred, size_t n) {
    size_t K;
    double *table = confusion(gold, pred, n, &K), g, p, both, Hg = 0, Hp = 0, joint = 0, N = (double)n;
    for (size_t k = 0; k < K; k++) {
        class_counts(table, K, k, &g, &p, &both);
        Hg -= g > 0 ? g / N * log(g / N) : 0, Hp -= p > 0 ? p / N * log(p / N) : 0;
    }
    for (size_t i = 0; i < K * K; i++) joint -= table[i] > 0 ? table[i] / N * log(table[i] / N) : 0;
    free(table);
    return Hg + Hp > 0 ? 2 * (Hg + Hp - joint) / (Hg + Hp) : 1;
}

// What was predicted for the test examples, in one or more runs (draws of the training examples, or seeds);
// its score, the mean over the runs; and its bootstrap: the scores of resamples of the test examples. All
// models have the same resamples, so that their differences can be paired.
enum { DRAWS = 1000 };
typedef struct {
    const char *kind, *metric;
    Metric *f;
    size_t n, runs;
    double *gold, *pred; // (n); (runs,n)
    double value, draw[DRAWS];
} Score;

// The score of the examples which[0 … n-1], or of all.
static double score_of(const Score *s, const size_t *which) {
    double *x = alloc_or_die(2 * s->n * sizeof *x), *y = x + s->n, sum = 0;
    for (size_t run = 0; run < s->runs; run++) {
        for (size_t i = 0; i < s->n; i++) {
            size_t at = which ? which[i] : i;
            x[i] = s->gold[at], y[i] = s->pred[run * s->n + at];
        }
        sum += s->f(x, y, s->n) / (double)s->runs;
    }
    free(x);
    return sum;
}

static void score_bootstrap(Score *s) {
    s->value = score_of(s, NULL);
    #pragma omp parallel for schedule(dynamic, 8)
    for (int k = 0; k < DRAWS; k++) {
        size_t *which = alloc_or_die(s->n * sizeof *which);
        for (size_t i = 0; i < s->n; i++)
            which[i] = (size_t)((double)s->n * uniform(1, STREAM_RESAMPLE, (uint64_t)k * s->n + i));
        s->draw[k] = score_of(s, which);
        free(which);
    }
}

// The 95% interval of the draws of a score, or of its difference from another's. V-measure has none: an
// example that is drawn twice agrees with itself, and so resamples have a higher one than the sample.
static void score_interval(const Score *a, const Score *minus, double *lo, double *hi) {
    double x[DRAWS];
    size_t n = 0;
    *lo = *hi = NAN;
    if (strcmp(a->metric, "V-measure") == 0) return;
    for (int k = 0; k < DRAWS; k++) {
        double d = a->draw[k] - (minus ? minus->draw[k] : 0);
        if (!isnan(d)) x[n++] = d;
    }
    if (n == 0) return;
    Ranked *r = ranked(x, n);
    *lo = r[(size_t)(0.025 * (double)(n - 1) + 0.5)].value;
    *hi = r[(size_t)(0.975 * (double)(n - 1) + 0.5)].value;
    free(r);
}

// ----------------------------------------------------------------------------
// frozen vectors: logistic regression and k-means

// Logistic regression as scikit-learn defines it: the loss is Σ -log softmax(W x + b)[y] + |W|²/2, b not
// included. Of two classes the first has no weights of its own: its logit is 0.
typedef struct {
    size_t n, D, K, rows; // examples, features with a last one that is always 1, classes, rows of W
    const float *x;       // (n,D)
    const double *y;      // (n)
    float *logits;        // (n,rows), and in the end the gradient with respect to them
} LogReg;

// The loss at W (rows,D); its gradient goes to dW.
static double logreg_loss(const LogReg *r, const float *W, float *dW) {
    double loss = 0, z[r->K];
    #pragma omp parallel
    matmul_forward(r->logits, NULL, r->x, W, r->n, r->D, r->rows);
    for (size_t i = 0; i < r->n; i++) {
        float *logits = r->logits + i * r->rows;
        double *own = z + r->K - r->rows;
        z[0] = 0;
        for (size_t k = 0; k < r->rows; k++) own[k] = logits[k];
        loss += softmax_loss(z, r->K, (size_t)r->y[i]);
        for (size_t k = 0; k < r->rows; k++) logits[k] = (float)own[k];
    }
    memset(dW, 0, r->rows * r->D * sizeof *dW);
    #pragma omp parallel
    matmul_backward_weight(dW, r->logits, r->x, r->n, r->D, r->rows);
    for (size_t i = 0; i < r->rows * r->D; i++)
        if (i % r->D + 1 < r->D) loss += (double)W[i] * W[i] / 2, dW[i] += W[i];
    return loss;
}

// Find W (rows,D), which begins as 0, by L-BFGS (Nocedal and Wright, algorithm 7.4) with steps halved until
// the loss falls enough. It ends when the gradient is small for n examples, or after 200 steps.
static void logreg_fit(const LogReg *r, float *W) {
    enum { KEEP_STEPS = 10 };
    size_t n = r->rows * r->D;
    float *memory = alloc_or_die((2 * KEEP_STEPS + 4) * n * sizeof *memory), *s[KEEP_STEPS], *y[KEEP_STEPS];
    float *g = memory, *next_g = g + n, *next = g + 2 * n, *step = g + 3 * n;
    double sy[KEEP_STEPS], a[KEEP_STEPS], loss = logreg_loss(r, W, g);
    for (int k = 0; k < KEEP_STEPS; k++) s[k] = g + (4 + 2 * (size_t)k) * n, y[k] = s[k] + n;
    for (int t = 0, kept = 0; t < 200 && sqrt(dot(g, g, n)) > 1e-4 * (double)r->n; t++) {
        double scale = 1 / sqrt(dot(g, g, n)), size = 1, next_loss, down;
        for (size_t i = 0; i < n; i++) step[i] = -g[i];
        for (int k = kept - 1; k >= 0 && k >= kept - KEEP_STEPS; k--) {
            int j = k % KEEP_STEPS;
            a[j] = dot(s[j], step, n) / sy[j];
            if (k == kept - 1) scale = sy[j] / dot(y[j], y[j], n);
            for (size_t i = 0; i < n; i++) step[i] -= (float)a[j] * y[j][i];
        }
        for (size_t i = 0; i < n; i++) step[i] *= (float)scale;
        for (int k = MAX(0, kept - KEEP_STEPS); k < kept; k++) {
            int j = k % KEEP_STEPS;
            double b = dot(y[j], step, n) / sy[j];
            for (size_t i = 0; i < n; i++) step[i] += (float)(a[j] - b) * s[j][i];
        }
        for (down = dot(g, step, n);; size /= 2) {
            for (size_t i = 0; i < n; i++) next[i] = W[i] + (float)size * step[i];
            next_loss = logreg_loss(r, next, next_g);
            if (next_loss <= loss + 1e-4 * size * down || size < 1e-6) break;
        }
        if (!(next_loss < loss)) break;
        int j = kept % KEEP_STEPS;
        for (size_t i = 0; i < n; i++) s[j][i] = next[i] - W[i], y[j][i] = next_g[i] - g[i];
        sy[j] = dot(s[j], y[j], n), kept += sy[j] > 0;
        memcpy(W, next, n * sizeof *W), memcpy(g, next_g, n * sizeof *g), loss = next_loss;
    }
    free(memory);
}

// Fit the examples train (n_train) of x (·,D), where the last feature is 1, and predict the classes
// of the examples test (n_test): pred[i] is that of example i.
void logreg_predict(const float *x, size_t D, const double *y, size_t K, const size_t *train, size_t n_train,
                    const size_t *test, size_t n_test, double *pred) {
    size_t rows = K == 2 ? 1 : K, most = MAX(n_train, n_test);
    float *chosen = alloc_or_die(most * D * sizeof *chosen), *W = alloc_or_die(rows * D * sizeof *W);
    double *label = alloc_or_die(n_train * sizeof *label);
    LogReg r = {n_train, D, K, rows, chosen, label, alloc_or_die(most * rows * sizeof *r.logits)};
    for (size_t i = 0; i < n_train; i++)
        label[i] = y[train[i]], memcpy(chosen + i * D, x + train[i] * D, D * sizeof *x);
    logreg_fit(&r, W);
    for (size_t i = 0; i < n_test; i++) memcpy(chosen + i * D, x + test[i] * D, D * sizeof *x);
    #pragma omp parallel
    matmul_forward(r.logits, NULL, chosen, W, n_test, D, rows);
    for (size_t i = 0; i < n_test; i++)
        pred[test[i]] = K == 2 ? r.logits[i] > 0 : (double)best_of(r.logits + i * rows, rows);
    free(chosen), free(W), free(label), free(r.logits);
}

// Lloyd's k-means from centres drawn by k-means++ (Arthur and Vassilvitskii 2007), of x (n,C) into K
// clusters, pred (n). Returns the sum of the squared distances.
static double k_means_once(const float *x, size_t n, size_t C, size_t K, uint64_t seed, double *pred) {
    float *centre = alloc_or_die(K * C * sizeof *centre), *dots = alloc_or_die(n * K * sizeof *dots);
    double *away = alloc_or_die(n * sizeof *away), *count = alloc_or_die(K * sizeof *count), sum = 0, old;
    for (size_t k = 0; k < K; k++) {
        double u = uniform(seed, STREAM_MEANS, k) * (k ? sum : (double)n);
        size_t i = 0;
        while (i + 1 < n && (u -= k ? away[i] : 1) > 0) i++;
        memcpy(centre + k * C, x + i * C, C * sizeof *x), sum = 0;
        for (i = 0; i < n; i++) {
            double d = 0;
            for (size_t c = 0; c < C; c++) d += pow(x[i * C + c] - centre[k * C + c], 2);
            sum += away[i] = k ? fmin(away[i], d) : d;
        }
    }
    for (int round = 0; round < 100; round++) {
        old = sum, sum = 0;
        #pragma omp parallel
        matmul_forward(dots, NULL, x, centre, n, C, K);
        for (size_t k = 0; k < K; k++) count[k] = dot(centre + k * C, centre + k * C, C); // |centre|² for now
        for (size_t i = 0; i < n; i++) {
            double least = INFINITY;
            for (size_t k = 0; k < K; k++) {
                double d = count[k] - 2 * dots[i * K + k];
                if (d < least) least = d, pred[i] = (double)k;
            }
            sum += dot(x + i * C, x + i * C, C) + least;
        }
        if (round > 0 && sum >= old * (1 - 1e-6)) break;
        memset(centre, 0, K * C * sizeof *centre), memset(count, 0, K * sizeof *count);
        for (size_t i = 0; i < n; i++) count[(size_t)pred[i]]++;
        for (size_t i = 0; i < n * C; i++) {
            size_t k = (size_t)pred[i / C];
            centre[k * C + i % C] += x[i] / (float)count[k];
        }
    }
    free(centre), free(dots), free(away), free(count);
    return sum;
}

// The best of ten.
void k_means(const float *x, size_t n, size_t C, size_t K, double *pred) {
    double best = INFINITY, *one = alloc_or_die(n * sizeof *one);
    for (uint64_t seed = 1; seed <= 10; seed++) {
        double sum = k_means_once(x, n, C, K, seed, one);
        if (sum < best) best = sum, memcpy(pred, one, n * sizeof *pred);
    }
    free(one);
}

// ----------------------------------------------------------------------------
// tasks

// Examples with labels: first n_train to learn from, then those of the test. If n_train is 0, there is one
// file for both: every example is tested after learning from nine tenths of the others.
typedef struct {
    const char *name;
    size_t n, n_train, K;     // K classes, sorted by name; 0 if labels are scores
    int named_scores;         // the column of the labels is called score or relatedness
    char **first, **second;   // (n) texts; second is NULL if they are single
    char **label;             // (n)
    double *gold;             // (n) scores, or numbers of classes
    double majority;          // the most frequent class
} Task;

enum { FOLDS = 10 };

// The file of a part of a task: TASK/part.tsv, or .csv, or TASK_part…; NULL if there is none.
static const char *task_file(const char *task, const char *part) {
    static const char *const between[] = {"/", "_"}, *const ending[] = {".tsv", ".csv"};
    for (int i = 0; i < 4; i++) {
        const char *path = prefix_path(prefix_path(task, between[i / 2]), prefix_path(part, ending[i % 2]));
        if (access(path, F_OK) == 0) return path;
    }
    return NULL;
}

// The column with one of these names, between commas; SIZE_MAX if there is none.
static size_t column_named(const TextTable *t, const char *names) {
    for (size_t n; *names; names += n + (names[n] == ',')) {
        n = strcspn(names, ",");
        for (size_t c = 0; c < t->cols; c++) {
            const char *cell = table_cell(t, 0, c);
            if (strlen(cell) == n && strncasecmp(cell, names, n) == 0) return c;
        }
    }
    return SIZE_MAX;
}

// Find the columns of the first text, the second text and the label; SIZE_MAX: not there. --columns names
// them, the label last, or counts them from 1, and then the file has no header. Returns the first row.
static size_t find_columns(const TextTable *t, const char *columns, size_t column[3]) {
    column[0] = column_named(t, "text,sentence1,premise,question,sentence,#1 String");
    column[1] = column_named(t, "sentence2,hypothesis,sentence,#2 String");
    column[2] = column_named(t, "relatedness,score,label,quality");
    if (column[1] == column[0]) column[1] = SIZE_MAX; // a "sentence" alone is the first text
    if (!columns) return 1;
    char *list = strdup(columns), *name[4];
    size_t n = cut_line(&list, ',', name, 4), number = strtoul(name[0], NULL, 10);
    if (n != 2 && n != 3) die_usage("--columns %s: give text,label or first,second,label", columns);
    column[1] = SIZE_MAX;
    for (size_t k = 0; k < n; k++) {
        size_t c = number ? strtoul(name[k], NULL, 10) - 1 : column_named(t, name[k]);
        column[k + 1 == n ? 2 : k] = c < t->cols ? c : SIZE_MAX;
    }
    return number == 0;
}

// Add the examples of a file to the task. Returns 0 if the file has no labels, as GLUE's test files.
static int task_add(Task *task, const char *path, const char *columns) {
    size_t column[3], n = task->n;
    TextTable t = read_table(path);
    size_t row = find_columns(&t, columns, column);
    if (column[2] == SIZE_MAX || (columns && column[0] == SIZE_MAX)) return 0;
    if (column[0] == SIZE_MAX)
        die("%s: no column is named text, sentence, sentence1, premise or question; name them with --columns",
            path);
    const char *label = table_cell(&t, 0, column[2]);
    task->named_scores |= row > 0 && (!strcasecmp(label, "score") || !strcasecmp(label, "relatedness"));
    task->first = add_column(task->first, n, &t, row, column[0]);
    task->second = column[1] < SIZE_MAX ? add_column(task->second, n, &t, row, column[1]) : NULL;
    task->label = add_column(task->label, n, &t, row, column[2]);
    for (; row < t.rows; row++)
        if (!*task->label[task->n++]) die("%s: row %zu has no label; mend it or leave it out", path, row + 1);
    return 1;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// Labels are scores if their column is called so, or if they are numbers that are not all whole; else they
// are classes, those of the training examples. Of two classes the second is the one that F1 and average
// precision look for: "entailment", or the last by name.
static void task_label(Task *task, const char *test) {
    size_t known = task->n_train ? task->n_train : task->n, n = 0;
    int numbers = 1, whole = 1;
    double *count;
    char **name = alloc_or_die(known * sizeof *name), *end;
    task->gold = alloc_or_die(task->n * sizeof *task->gold);
    for (size_t i = 0; i < task->n; i++) {
        task->gold[i] = strtod(task->label[i], &end);
        if (task->named_scores && (*end || end == task->label[i]))
            die("%s: \"%s\" is not a number, and a score must be one; mend it", task->name, task->label[i]);
        numbers &= !*end, whole &= !strchr(task->label[i], '.');
    }
    if (task->named_scores || (numbers && !whole)) return;
    memcpy(name, task->label, known * sizeof *name);
    qsort(name, known, sizeof *name, compare_names);
    for (size_t i = 0; i < known; i++)
        if (n == 0 || strcmp(name[n - 1], name[i])) name[n++] = name[i];
    if (n < 2) die("%s: all labels are \"%s\"; a task needs at least two", task->name, name[0]);
    if (n == 2 && strcmp(name[0], "entailment") == 0) name[0] = name[1], name[1] = "entailment";
    task->K = n, count = alloc_or_die(n * sizeof *count);
    for (size_t i = 0; i < task->n; i++) {
        size_t k = 0;
        while (k < n && strcmp(name[k], task->label[i])) k++;
        if (k == n)
            die("%s: label \"%s\" is not among the training examples; check the file", test, task->label[i]);
        task->gold[i] = (double)k;
        if (i < known && ++count[k] > count[(size_t)task->majority]) task->majority = (double)k;
    }
    free(name), free(count);
}

// Read a task: train and test, or train and dev, or dev and test; or a single file.
static Task load_task(const char *name, const char *columns) {
    Task task = {.name = name};
    const char *test = task_file(name, "test"), *dev = task_file(name, "dev");
    const char *train = task_file(name, "train"), *tested = NULL;
    if (!train && test) train = dev;
    const char *tests[] = {test, dev, train ? NULL : task_file(name, "all")};
    if (train && !task_add(&task, train, columns))
        die("%s: no label column; name it with --columns", train);
    task.n_train = task.n;
    for (int k = 0; k < 3 && !tested; k++)
        if (tests[k] && tests[k] != train && task_add(&task, tests[k], columns)) tested = tests[k];
    if (!tested) tested = train, task.n_train = 0;
    if (!tested)
        die("%s: no train.tsv, dev.tsv, test.tsv or all.tsv with labels; a task is a folder with such files",
            name);
    if (task.n - task.n_train < 2) die("%s: holds fewer than two examples; give more", tested);
    task_label(&task, tested);
    return task;
}

// What is learned from, and tested, in fold f; the caller frees both. `most`: at most so many examples of a
// class, drawn for this run; 0: all.
static void task_split(const Task *task, size_t f, size_t most, uint64_t run, size_t **train, size_t *n_train,
                       size_t **test, size_t *n_test) {
    size_t n = task->n_train ? task->n_train : task->n, *taken = alloc_or_die((task->K + 1) * sizeof *taken);
    *train = alloc_or_die(task->n * sizeof **train), *test = alloc_or_die(task->n * sizeof **test);
    *n_train = *n_test = 0;
    for (size_t i = 0; i < n; i++) {
        size_t j = shuffled_row(i, n, STREAM_SHOTS, run), k = task->K ? (size_t)task->gold[j] : 0;
        int tested = !task->n_train && shuffled_row(j, n, STREAM_SHOTS, 0) % FOLDS == f;
        if (tested) (*test)[(*n_test)++] = j;
        else if (!most || taken[k]++ < most) (*train)[(*n_train)++] = j;
    }
    for (size_t i = task->n_train; task->n_train && i < task->n; i++) (*test)[(*n_test)++] = i;
    free(taken);
}

// Room for what is predicted in some runs; gold is filled in.
static Score score_make(const Task *task, size_t runs, const char *kind, const char *metric, Metric *f) {
    size_t n = task->n - task->n_train;
    return (Score){.kind = kind, .metric = metric, .f = f, .n = n, .runs = runs,
                   .gold = task->gold + task->n_train, .pred = alloc_or_die(n * runs * sizeof(double))};
}

// The same predictions by another metric.
static Score score_again(const Score *s, const char *metric, Metric *f) {
    Score t = *s;
    t.metric = metric, t.f = f;
    return t;
}

// The classes that logistic regression predicts from features x (n,D), after `most` examples of
// each class or all of them.
static Score score_logreg(const Task *task, const float *x, size_t D, size_t most, const char *kind) {
    size_t runs = most && task->n_train ? 10 : 1, *train, *test, n_train, n_test;
    Score s = score_make(task, runs, kind, "accuracy", accuracy);
    double *pred = alloc_or_die(task->n * sizeof *pred);
    for (size_t i = 0; i < task->n; i++) pred[i] = task->majority;
    for (size_t run = 0; run < runs; run++) {
        for (size_t f = 0; f < (task->n_train ? 1 : FOLDS) && x; f++) {
            task_split(task, f, most, 1 + run + f, &train, &n_train, &test, &n_test);
            logreg_predict(x, D, task->gold, task->K, train, n_train, test, n_test, pred);
            free(train), free(test);
        }
        memcpy(s.pred + run * s.n, pred + task->n_train, s.n * sizeof *pred);
    }
    free(pred);
    return s;
}

// All scores of frozen vectors; without an embedder, those of the majority class. Returns how many there are.
static size_t score_frozen(const Task *task, Embedder *by, Score *out) {
    size_t C = by ? by->m->c.C : 0, D = (task->second ? 2 * C : C) + 1, tests = task->n - task->n_train, n = 0;
    size_t from = task->K ? 0 : task->n_train; // similarity has nothing to learn
    float *vec[2] = {NULL}, *x = NULL;
    for (int k = 0; k < (task->second ? 2 : 1) && by; k++) {
        Encoded t = encode_texts(by->e, (k ? task->second : task->first) + from, NULL, task->n - from, by->T);
        warn_cut(task->name, &t, by->T);
        vec[k] = embed_texts(by, &t), encoded_free(&t);
    }
    if (task->second && task->K == 2)
        out[n++] = score_make(task, 1, "pairs", "average precision", average_precision);
    if (task->second && !task->K) out[n++] = score_make(task, 1, "similarity", "Spearman", spearman);
    for (size_t i = 0; i < tests && n && by; i++) {
        size_t at = (i + task->n_train - from) * C;
        out[0].pred[i] = cosine(vec[0] + at, vec[1] + at, C);
    }
    if (task->K && by) x = alloc_or_die(task->n * D * sizeof *x);
    for (size_t i = 0; i < task->n && x; i++) { // the vector, or |a - b| and a * b; and a 1
        const float *a = vec[0] + i * C, *b = task->second ? vec[1] + i * C : NULL;
        float *to = x + i * D;
        for (size_t c = 0; c < C; c++) to[c] = b ? fabsf(a[c] - b[c]) : a[c];
        for (size_t c = 0; c < C && b; c++) to[C + c] = a[c] * b[c];
        to[D - 1] = 1;
    }
    if (task->K && !task->second) {
        out[n++] = score_logreg(task, x, D, 8, "8 examples a class");
        out[n++] = score_logreg(task, x, D, 16, "16 examples a class");
    }
    if (task->K) {
        out[n] = score_logreg(task, x, D, 0, "all examples"), n++;
        out[n] = score_again(&out[n - 1], "macro F1", macro_f1), n++;
    }
    if (task->K > 2 && !task->second) {
        out[n] = score_make(task, 1, "clusters", "V-measure", v_measure);
        if (by) k_means(vec[0] + task->n_train * C, tests, C, task->K, out[n].pred);
        n++;
    }
    free(x), free(vec[0]), free(vec[1]);
    return n;
}

// ----------------------------------------------------------------------------
// training: the last steps of both stages

// One step of AdamW, after clipping the norm of all gradients to 1.
static void train_update(Model *m, Model *head, double lr, size_t step) {
    double partial[PARTS], norm = 0;
    #pragma omp parallel
    {
        double own = gradient_norm(m->grads, m->block, partial);
        #pragma omp single
        norm = own;
        if (head) own = gradient_norm(head->grads, head->block, partial);
        #pragma omp single
        if (head) norm = hypot(norm, own);
        float scale = norm > 1 ? (float)(1 / norm) : 1;
        adamw(m, (float)lr, 0.01f, scale, step);
        if (head) adamw(head, (float)lr, 0.01f, scale, step);
    }
    if (!isfinite(norm)) die("--lr %g: training diverges; choose a lower one", lr);
}

// --finetune, GLUE's protocol: the whole encoder and a linear head (K,C+1), whose last column is a bias.
// Returns the loss of n texts, the mean of -log softmax(W v)[y], or of (W v - y)² for scores (K = 0, one row
// of W), and adds to the gradients of both. logits: (n,rows).
double finetune_loss(Embedder *by, Model *head, const double *y, size_t K, float *vec, float *logits,
                     int backward) {
    size_t C = by->m->c.C, rows = MAX(1, K), n = by->in->n_docs;
    double loss = 0;
    batch_forward(by, vec);
    for (size_t i = 0; i < n; i++) {
        float *v = vec + i * C, dv[C];
        double z[rows];
        for (size_t k = 0; k < rows; k++) {
            const float *w = head->params + k * (C + 1);
            z[k] = logits[i * rows + k] = (float)dot(w, v, C) + w[C];
        }
        if (K) loss += softmax_loss(z, K, (size_t)y[i]);
        else loss += pow(z[0] - y[i], 2), z[0] = 2 * (z[0] - y[i]);
        if (!backward) continue;
        memset(dv, 0, sizeof dv);
        for (size_t k = 0; k < rows; k++) {
            const float *w = head->params + k * (C + 1);
            float g = (float)(z[k] / (double)n), *dw = head->grads + k * (C + 1);
            for (size_t c = 0; c < C; c++) dv[c] += g * w[c], dw[c] += g * v[c];
            dw[C] += g;
        }
        memcpy(v, dv, sizeof dv);
    }
    if (backward) batch_backward(by, vec);
    return loss / (double)n;
}

// Train from the embedder's weights on the examples train (n_train), 32 at a time, and predict the examples
// test (n_test).
static void finetune(Embedder *by, const Task *task, const Encoded *text, const size_t *train, size_t n_train,
                     const size_t *test, size_t n_test, double lr, size_t epochs, uint64_t seed, double *pred) {
    enum { BATCH = 32 };
    size_t C = by->m->c.C, rows = MAX(1, task->K), steps = epochs * ((n_train + BATCH - 1) / BATCH);
    const Batch *in = by->in;
    Model head = {.block = rows * (C + 1)};
    head.params = alloc_or_die(4 * head.block * sizeof(float));
    head.grads = head.params + head.block, head.m = head.grads + head.block, head.v = head.m + head.block;
    float *vec = alloc_or_die(BATCH * C * sizeof *vec), *logits = alloc_or_die(BATCH * rows * sizeof *logits);
    double y[BATCH] = {0}, mean = 0, sd = 0;
    for (size_t i = 0; i < n_train; i++) mean += task->gold[train[i]] / (double)n_train;
    for (size_t i = 0; i < n_train; i++) sd += pow(task->gold[train[i]] - mean, 2) / (double)n_train;
    sd = sqrt(sd) + 1e-9;
    if (task->K) mean = 0, sd = 1; // scores are learned as (score - mean) / sd
    for (size_t i = 0; i < head.block; i++)
        head.params[i] = (float)((uniform(seed, STREAM_HEAD, i) - 0.5) / sqrt((double)C));
    embedder_begin(by);
    for (size_t step = 1, epoch = 0; epoch < epochs; epoch++)
        for (size_t done = 0; done < n_train; done += in->n_docs, step++) {
            size_t n = MIN(BATCH, n_train - done), which[BATCH];
            for (size_t k = 0; k < n; k++) {
                which[k] = train[shuffled_row(done + k, n_train, seed, epoch)];
                y[k] = (task->gold[which[k]] - mean) / sd;
            }
            batch_fill(by, text, which, n);
            finetune_loss(by, &head, y, task->K, vec, logits, 1);
            train_update(by->m, &head, learning_rate(lr, MIN(step, steps), steps), step);
        }
    for (size_t done = 0; done < n_test; done += in->n_docs) {
        batch_fill(by, text, test + done, MIN(BATCH, n_test - done));
        finetune_loss(by, &head, y, task->K, vec, logits, 0);
        for (size_t i = 0; i < in->n_docs; i++)
            pred[done + i] = task->K ? (double)best_of(logits + i * rows, rows) : logits[i] * sd + mean;
    }
    free(vec), free(logits), free(head.params);
}

// All scores of fine-tuning. The rate, at three epochs, and then the number of epochs, three or six, are
// those with the best accuracy, or Pearson correlation, on a tenth of the training examples, after learning
// from the others.
static size_t score_finetuned(const Task *task, Embedder *by, Score *out) {
    enum { SEEDS = 3 };
    static const double rates[] = {1.0 / 64, 1.0 / 16, 1.0 / 4};
    size_t *train, *test, n_train, n_test, epochs = 3;
    double best = -INFINITY, best_rate = 0;
    out[0] = task->K ? score_make(task, SEEDS, "fine-tuned", "accuracy", accuracy)
                     : score_make(task, SEEDS, "fine-tuned", "Pearson", pearson);
    task_split(task, 0, 0, 0, &train, &n_train, &test, &n_test);
    out[0].n = n_test, out[0].gold = alloc_or_die(n_test * sizeof *out[0].gold);
    for (size_t i = 0; i < n_test; i++) out[0].gold[i] = task->gold[test[i]]; // of one file, the first tenth
    for (size_t i = 0; !by && i < SEEDS * n_test; i++) out[0].pred[i] = task->majority;
    if (by) {
        Encoded text = encode_texts(by->e, task->first, task->second, task->n, by->T);
        size_t held = MIN(1000, n_train / 10);
        double *pred = alloc_or_die(2 * (held + 1) * sizeof *pred), *gold = pred + held + 1;
        for (size_t i = 0; i < held; i++) gold[i] = task->gold[train[i]];
        for (int k = 0; k < 4; k++) {
            double rate = k < 3 ? rates[k] * default_lr(by->m->c.C) : best_rate;
            finetune(by, task, &text, train + held, n_train - held, train, held, rate, k < 3 ? 3 : 6, 1, pred);
            double got = out[0].f(gold, pred, held);
            if (got > best || k == 0) best = got, best_rate = rate, epochs = k < 3 ? 3 : 6;
        }
        for (uint64_t seed = 1; seed <= SEEDS; seed++)
            finetune(by, task, &text, train, n_train, test, n_test, best_rate, epochs, seed,
                     out[0].pred + (seed - 1) * n_test);
        fprintf(stderr, "%s, %s: rate %.3g, %zu epochs\n", task->name, by->name, best_rate, epochs);
        warn_cut(task->name, &text, by->T);
        free(pred), encoded_free(&text);
    }
    out[1] = !task->K ? score_again(out, "Spearman", spearman)
             : task->K == 2 ? score_again(out, "F1", f1) : score_again(out, "macro F1", macro_f1);
    out[2] = score_again(out, "Matthews", matthews);
    free(train), free(test);
    return task->K ? 3 : 2;
}

// --contrastive: supervised SimCSE (Gao, Yao, Chen, arXiv 2104.08821, eq. 5). Of a batch of n pairs, or
// triples, each first text must find its second one among all second and all third texts, by their cosines
// over TEMPERATURE. vec holds the first texts, then the second ones, then perhaps the third ones, n each, and
// becomes its own gradient. Returns the mean loss.
#define TEMPERATURE 0.05
double contrastive_loss(float *vec, size_t n, size_t parts, size_t C) {
    size_t others = n * (parts - 1);
    float *d = alloc_or_die(n * parts * C * sizeof *d), *size = alloc_or_die(n * parts * sizeof *size);
    double *z = alloc_or_die(others * sizeof *z), loss = 0;
    for (size_t i = 0; i < n * parts; i++) {
        size[i] = (float)sqrt(dot(vec + i * C, vec + i * C, C)) + 1e-12f;
        for (size_t c = 0; c < C; c++) vec[i * C + c] /= size[i];
    }
    for (size_t i = 0; i < n; i++) {
        const float *other = vec + n * C;
        for (size_t j = 0; j < others; j++) z[j] = dot(vec + i * C, other + j * C, C) / TEMPERATURE;
        loss += softmax_loss(z, others, i) / (double)n;
        for (size_t j = 0; j < others; j++) {
            float g = (float)(z[j] / TEMPERATURE / (double)n);
            for (size_t c = 0; c < C; c++)
                d[i * C + c] += g * other[j * C + c], d[(n + j) * C + c] += g * vec[i * C + c];
        }
    }
    for (size_t i = 0; i < n * parts; i++) { // v = u / |u|: du = (dv - v (v · dv)) / |u|
        float along = (float)dot(vec + i * C, d + i * C, C);
        for (size_t c = 0; c < C; c++) vec[i * C + c] = (d[i * C + c] - vec[i * C + c] * along) / size[i];
    }
    free(d), free(size), free(z);
    return loss;
}

// Pairs, or triples, of texts.
typedef struct {
    size_t n, parts;
    char **text[3]; // (n) each
} Pairs;

// Cut the next sentence off a text, in place. It ends at . ! or ? before white space, or with its paragraph;
// *last says whether the paragraph ends here. Returns NULL at the end of the text.
static char *next_sentence(char **text, int *last) {
    static const char white[] = " \t\r\n";
    char *begin = *text + strspn(*text, white), *end = begin;
    if (!*begin) return NULL;
    for (int ends = 0; *end && !ends && !(*end == '\n' && end[1] == '\n'); end++) {
        if (*end == '\n') *end = ' ';
        ends = strchr(".!?", *end) && strchr(white, end[1]);
    }
    *text = end + strspn(end, white), *last = !**text;
    for (char *p = end, *line = NULL; p < *text; p++)
        if (*p == '\n') *last |= line != NULL, line = p;
    *end = 0;
    return begin;
}

// The columns of a TSV or CSV file with a header; or, of any other file, neighbouring sentences of the same
// paragraph, of 20 bytes or more. Each is in one pair at most.
static Pairs load_pairs(const char *path) {
    size_t room[2] = {0};
    int last;
    Pairs p = {.parts = 2};
    if (replace_ending(path, ".tsv", "") || replace_ending(path, ".csv", "")) {
        TextTable t = read_table(path);
        p.n = t.rows ? t.rows - 1 : 0, p.parts = MIN(3, t.cols);
        if (p.parts < 2) die("%s: has one column; give pairs, or triples, of texts", path);
        for (size_t k = 0; k < p.parts; k++) p.text[k] = add_column(NULL, 0, &t, 1, k);
    } else {
        char *text = read_whole(path), *before = NULL, *sentence;
        for (char *eot = text; (eot = strstr(eot, "<|endoftext|>"));) memset(eot, '\n', 13);
        while ((sentence = next_sentence(&text, &last))) {
            int fits = strlen(sentence) >= 20;
            if (before && fits) {
                for (int k = 0; k < 2; k++) p.text[k] = bpe_grow(p.text[k], p.n, &room[k], sizeof **p.text);
                p.text[0][p.n] = before, p.text[1][p.n++] = sentence;
            }
            before = fits && !before && !last ? sentence : NULL;
        }
    }
    if (p.n < 2) die("%s: holds fewer than two pairs; give more text", path);
    return p;
}

// Train the embedder's weights on pairs, 128 at a time, or as many as there is room for.
static void contrastive_train(Embedder *by, const Pairs *pairs, double lr, size_t steps) {
    enum { BATCH = 128 };
    size_t C = by->m->c.C, N = pairs->n, parts = pairs->parts, done = 0, every = MAX(1, steps / 5);
    float *vec = alloc_or_die(BATCH * parts * C * sizeof *vec);
    char **all = alloc_or_die(parts * N * sizeof *all);
    double sum = 0;
    for (size_t k = 0; k < parts; k++) memcpy(all + k * N, pairs->text[k], N * sizeof *all);
    Encoded text = encode_texts(by->e, all, NULL, parts * N, by->T);
    warn_cut("--contrastive", &text, by->T);
    embedder_begin(by);
    for (size_t step = 1; step <= steps; step++) {
        size_t n = MIN(BATCH, N) + 1, which[3 * BATCH];
        do {
            n--;
            for (size_t k = 0; k < parts * n; k++) {
                size_t at = done + k % n;
                which[k] = k / n * N + shuffled_row(at % N, N, 1, at / N);
            }
            batch_fill(by, &text, which, parts * n);
        } while (by->in->n_docs < parts * n);
        batch_forward(by, vec);
        sum += contrastive_loss(vec, n, parts, C);
        batch_backward(by, vec);
        train_update(by->m, NULL, learning_rate(lr, step, steps), step);
        done += n;
        if (step % every) continue;
        fprintf(stderr, "%s: contrastive step %zu/%zu of %zu pairs, loss %.4f\n", by->name, step, steps, n,
                sum / (double)every);
        sum = 0;
    }
    memcpy(by->start, by->m->params, by->m->block * sizeof(float));
    encoded_free(&text), free(all), free(vec);
}

// ----------------------------------------------------------------------------
// the program

typedef struct {
    Files operands;
    const char *fill, *columns, *contrastive, *embed, *out, *scores;
    size_t threads, steps;
    double lr;
    int finetune, help;
} EvalSettings;

#define TO(field) .offset = offsetof(EvalSettings, field)
static Option eval_options[] = {
    {"", FILES, FREE, TO(operands), 0, 0, "", "models (a model.bin or the folder of a run: out), then tasks"},
    {"fill", TEXT, FREE, TO(fill), 0, 0, "TEXT", "guess each [MASK] in TEXT"},
    {"columns", TEXT, FREE, TO(columns), 0, 0, "LIST", "of a task: text,label or first,second,label"},
    {"finetune", FLAG, FREE, TO(finetune), 0, 0, "", "score models that are trained further for each task"},
    {"contrastive", TEXT, FREE, TO(contrastive), 0, 0, "FILE",
     "first train on pairs: a .tsv, or any text's sentences"},
    {"steps", COUNT, FREE, TO(steps), 1, 1e9, "N", "… for so many steps (six epochs, at most 500)"},
    {"lr", REAL, FREE, TO(lr), 1e-9, 1, "LR", "… at this peak rate (1/2 / channels)"},
    {"embed", TEXT, FREE, TO(embed), 0, 0, "FILE", "a vector for each line of FILE, to --out X.npy"},
    {"out", TEXT, FREE, TO(out), 0, 0, "NAME", "where --embed and --contrastive write: X.npy, a folder"},
    {"scores", TEXT, FREE, TO(scores), 0, 0, "FILE", "write all scores as a CSV file"},
    {"threads", COUNT, FREE, TO(threads), 0, 4096, "N", "(OMP_NUM_THREADS, or else a thread for each core)"},
    {"help", FLAG, FREE, TO(help), 0, 0, "", "print this list"},
    {0},
};
#undef TO

// --embed: write a vector for each line in NumPy's format, version 1.0: a magic, the length of the header,
// the header, padded to 64 bytes in all, and the floats.
static void eval_embed(Embedder *by, const char *path, const char *out) {
    size_t n = 0, room = 0, C = by->m->c.C;
    char **line = NULL, header[128], *s = read_whole(path);
    for (; *s; n++) {
        line = bpe_grow(line, n, &room, sizeof *line);
        cut_line(&s, '\n', &line[n], 1);
    }
    if (n == 0) die("%s: is empty; give a file with a text in each line", path);
    double start = now_seconds();
    Encoded t = encode_texts(by->e, line, NULL, n, by->T);
    float *vec = embed_texts(by, &t);
    warn_cut(path, &t, by->T);
    int used = sprintf(header, "\x93NUMPY\x01%c\x76%c{'descr': '<f4', 'fortran_order': False, "
                       "'shape': (%zu, %zu), }", 0, 0, n, C);
    memset(header + used, ' ', sizeof header - (size_t)used), header[127] = '\n';
    Writer w;
    writer_open(&w, out);
    writer_put(&w, header, sizeof header), writer_put(&w, vec, n * C * sizeof *vec);
    writer_close(&w);
    double seconds = now_seconds() - start;
    printf("%s: %zu vectors of %zu floats, %zu tokens, %.0f tokens/s\n", out, n, C, t.begin[n],
           (double)t.begin[n] / seconds);
}

// The last part of a path.
static const char *last_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

// What a model is called in tables. A file keeps its folder, since all runs name their files alike.
static const char *model_name(const char *path) {
    const char *name = last_name(path);
    if (replace_ending(name, ".bin", ""))
        for (name -= name > path; name > path && name[-1] != '/';) name--;
    return name;
}

// Load a model that embeds texts of up to its T tokens, many of them at once in one longer row. (Rotary
// positions only look at distances, so it is the same where in a row a text lies.)
static void load_embedders(const char *name, int needs, Embedder by[KINDS]) {
    enum { ROW = 8192 };
    Model *m = alloc_or_die(sizeof *m);
    Encoder *e = alloc_or_die(sizeof *e);
    Batch *in = alloc_or_die(sizeof *in);
    Reader r;
    Config c;
    Vocab v;
    const char *path = model_path(name);
    open_verified(&r, path, MODEL_MAGIC, "model");
    get_shape(&r, &c, &v);
    if (!v.file) die("%s: was trained without a vocabulary, so it has no words; train with --vocab", path);
    size_t T = c.T;
    c.T = MAX(ROW, 4 * T);
    model_alloc(m, &c, 1, c.T, omp_get_max_threads(), needs);
    get_weights(&r, m), fclose(r.file);
    encoder_make(e, &v);
    *in = (Batch){.B = 1, .inputs = alloc_or_die(c.T * sizeof *in->inputs),
                  .rows = alloc_or_die(c.T * sizeof *in->rows), .docs = alloc_or_die(c.T * sizeof *in->docs)};
    for (size_t i = 0; i < c.T; i++) in->rows[i] = i; // all outputs are wanted
    for (int k = 0; k < KINDS; k++) {
        if (k == UNTRAINED) model_init(m, 1);
        by[k] = (Embedder){"", m, in, T, e, alloc_or_die(m->block * sizeof(float)), k};
        snprintf(by[k].name, sizeof by[k].name, k ? "%.50s, %s" : "%.50s", model_name(name), kind_names[k]);
        memcpy(by[k].start, m->params, m->block * sizeof(float));
    }
}

// Print one score of all embedders (n), and of the most frequent class after them: a value, its interval, its
// difference from the first one.
static void print_scores(const Score *score, size_t stride, const Embedder *by, size_t n) {
    static const char nobody[] = "the most frequent class";
    size_t width = sizeof nobody;
    for (size_t i = 0; i < n; i++) width = MAX(width, strlen(by[i].name));
    printf("  %s, %s\n", score->kind, score->metric);
    for (size_t i = 0; i <= n; i++) {
        const Score *s = score + i * stride;
        double lo, hi;
        if (isnan(s->value)) continue;
        score_interval(s, NULL, &lo, &hi);
        printf("    %-*s  %6.2f", (int)width, i < n ? by[i].name : nobody, 100 * s->value);
        if (!isnan(lo)) printf("   %6.2f … %6.2f", 100 * lo, 100 * hi);
        score_interval(s, score, &lo, &hi);
        if (i > 0) printf("   %+6.2f", 100 * (s->value - score->value));
        if (i > 0 && !isnan(lo)) printf(" (%+.2f … %+.2f)", 100 * lo, 100 * hi);
        printf("\n");
    }
}

// The sum over tasks of each kind of score of the embedders (n), and of the most frequent class after them,
// draw by draw: so the mean over tasks and its paired differences have intervals too.
enum { MOST_SUMS = 8 }; // there are seven kinds of frozen scores, and six of fine-tuned ones
typedef struct {
    size_t kinds, tasks[MOST_SUMS];
    Score *score; // (n + 1,MOST_SUMS)
} Sums;

// Add the scores of one kind: those at `stride` from each other.
static void add_scores(Sums *sums, const Score *score, size_t stride, size_t n) {
    const Score *known = sums->score;
    size_t k = 0;
    while (k < sums->kinds && (strcmp(known[k].kind, score->kind) || strcmp(known[k].metric, score->metric))) k++;
    sums->kinds = MAX(sums->kinds, k + 1);
    sums->tasks[k]++;
    for (size_t i = 0; i <= n; i++, score += stride) {
        Score *sum = &sums->score[i * MOST_SUMS + k];
        sum->kind = score->kind, sum->metric = score->metric, sum->value += score->value;
        for (int d = 0; d < DRAWS; d++) sum->draw[d] += score->draw[d];
    }
}

// Print the mean of each kind that more than one task has.
static void print_means(Sums *sums, const Embedder *by, size_t n) {
    for (size_t k = 0; k < sums->kinds; k++) {
        size_t tasks = sums->tasks[k];
        if (tasks < 2) continue;
        for (size_t i = 0; i <= n; i++) {
            Score *s = &sums->score[i * MOST_SUMS + k];
            s->value /= (double)tasks;
            for (int d = 0; d < DRAWS; d++) s->draw[d] /= (double)tasks;
        }
        printf("\nmean of %zu tasks:\n", tasks);
        print_scores(sums->score + k, MOST_SUMS, by, n);
    }
}

// A cell of a model's result.csv, or "" if there is none.
static const char *result_cell(const TextTable *t, const char *column) {
    size_t c = column_named(t, column);
    return c < SIZE_MAX && t->rows > 1 ? table_cell(t, 1, c) : "";
}

// Lines of the CSV file of scores (n), with some columns of the result.csv beside the model, if there is one.
static void put_scores(FILE *csv, const char *task, const Score *score, size_t n, const Embedder *by,
                       const char *model, const char *stage) {
    const char *path = replace_ending(model_path(model), "model.bin", "result.csv");
    TextTable t = path && access(path, F_OK) == 0 ? read_table(path) : (TextTable){0};
    for (const Score *s = score; s < score + n; s++) {
        double lo, hi;
        score_interval(s, NULL, &lo, &hi);
        fprintf(csv, "%s,%s,%s,%s,%s,%.6f,%.6f,%.6f,%s,%s,%s,%s,%s,%s\n", model_name(model),
                kind_names[by->kind], task, s->kind, s->metric, s->value, lo, hi, result_cell(&t, "objective"),
                result_cell(&t, "flops"), result_cell(&t, "flops_per_token"), result_cell(&t, "tokens"), stage,
                result_cell(&t, "val_loss"));
    }
}

// Score the embedders (n) at a task.
static void eval_task(const EvalSettings *s, const char *name, Embedder *by, size_t n, FILE *csv,
                      const char *const *models, Sums *sums) {
    enum { MOST = 8 };
    Task task = load_task(name, s->columns);
    Score *score = alloc_or_die((n + 1) * MOST * sizeof *score);
    size_t scores = 0;
    for (size_t i = 0; i <= n; i++) {
        Score *own = score + i * MOST;
        if (i < n) embedder_begin(&by[i]);
        scores = (s->finetune ? score_finetuned : score_frozen)(&task, i < n ? &by[i] : NULL, own);
        for (size_t k = 0; k < scores; k++) score_bootstrap(&own[k]);
    }
    if (scores == 0) die("%s: single texts with scores can only be learned; add --finetune", name);
    size_t tests = task.n - task.n_train;
    printf("\n%s: ", last_name(name));
    if (!task.K && !s->finetune) printf("%zu examples to compare\n", tests);
    else if (task.n_train) printf("%zu examples to learn from, %zu to test\n", task.n_train, tests);
    else printf("%zu examples in one file, %s tenth tested after learning from the rest\n", tests,
                s->finetune ? "one" : "each");
    for (size_t k = 0; k < scores; k++) {
        print_scores(score + k, MOST, by, n);
        add_scores(sums, score + k, MOST, n);
    }
    for (size_t i = 0; csv && i < n; i++)
        put_scores(csv, last_name(name), score + i * MOST, scores, &by[i], models[i / KINDS],
                   s->contrastive ? "contrastive" : "pretrained");
    fflush(stdout), free(score);
}

int eval_main(int argc, char **argv) {
    static const char *out = "out";
    EvalSettings s = {0};
    Pairs pairs = {0};
    Writer csv = {0};
    program = "eval";
    parse_options(eval_options, &s, argc, argv);
    if (s.help) {
        printf("usage: eval [MODEL…] [TASK…] [--option value …]\n\n"
               "Ask a trained model, and measure what it is worth.\n\n");
        print_options(eval_options);
        printf("\nA task is a folder with train.tsv and test.tsv (or dev.tsv), or all.tsv; see dev/README.md.\n");
        return 0;
    }
    const char **model = s.operands.path, **task;
    size_t n = 0, tasks;
    while (n < s.operands.n && (s.fill || s.embed || access(model_path(model[n]), F_OK) == 0)) n++;
    task = model + n, tasks = s.operands.n - n;
    if (n == 0) model = &out, n = 1;
    if (!s.fill && !s.embed && !s.contrastive && !tasks)
        die_usage("nothing to do; give tasks, --fill, --embed or --contrastive, or see --help");
    if ((s.fill || s.embed) && n > 1) die_usage("%s: give one model and no task", model[1]);
    if (s.embed && !s.out) die_usage("--embed: say where to write, with --out X.npy");
    if (s.out && !s.embed && !(s.contrastive && n == 1))
        die_usage("--out: is for --embed, or for --contrastive and one model");
    if (s.scores && !tasks) die_usage("--scores: there is no task; give one or more");
    set_threads(s.threads);
    if (s.fill) return eval_fill(model_path(*model), s.fill), 0;
    Embedder *by = alloc_or_die(KINDS * n * sizeof *by);
    if (s.contrastive) pairs = load_pairs(s.contrastive);
    for (size_t i = 0; i < n; i++)
        load_embedders(model[i], s.finetune || s.contrastive ? NEED_BACKWARD : 0, by + KINDS * i);
    for (size_t i = 0; i < (tasks ? KINDS * n : 1) && s.contrastive; i++)
        contrastive_train(&by[i], &pairs, s.lr > 0 ? s.lr : default_lr(by[i].m->c.C),
                          s.steps ? s.steps : MIN(500, (6 * pairs.n + 127) / 128));
    embedder_begin(by);
    if (s.contrastive && s.out) {
        make_folders(s.out);
        by->m->c.T = by->T;
        save_model(prefix_path(s.out, "/model.bin"), by->m, &by->e->vocab);
        printf("%s/model.bin: %s after %s\n", s.out, by->name, s.contrastive);
    }
    if (s.embed) eval_embed(by, s.embed, s.out);
    if (s.scores) {
        writer_open(&csv, s.scores);
        fprintf(csv.file, "model,weights,task,kind,metric,value,lo,hi,objective,flops,flops_per_token,tokens,"
                          "stage,val_loss\n");
    }
    Sums sums = {.score = alloc_or_die((KINDS * n + 1) * MOST_SUMS * sizeof *sums.score)};
    for (size_t i = 0; i < tasks; i++) eval_task(&s, task[i], by, KINDS * n, csv.file, model, &sums);
    print_means(&sums, by, KINDS * n);
    if (s.scores) writer_close(&csv);
    return 0;
}

#ifndef EVAL_NO_MAIN
int main(int argc, char **argv) {
    open_streams();
    return close_stdout(eval_main(argc, argv));
}
#endif
#endif
