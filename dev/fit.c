/*
From loss points to a scaling law: how to split compute between model and data.

    dev/fit points.csv                                      everything, for each objective and data set in it
    dev/fit runs/NAME/result.csv …                          any number of files
    dev/fit points.csv --predict 1e14                       the best run at this compute, and its command
    dev/fit table.csv --columns "Model Size,Tokens,loss"    any published table

The law is L(F,D) = E + A/F^alpha + B/D^beta, where L is the validation loss, F the training FLOPs per token,
D the training tokens, and C = F D the compute. It is fitted as in Hoffmann et al. (arXiv 2203.15556, approach
3): minimise the sum of the Huber losses of the residuals of log L. Besiroglu et al. (arXiv 2404.10102) found
that fit spoiled by an optimiser that stopped early and by rounded parameters. So this one descends from many
starts until rounding errors stop it, and rounds only what it prints.
*/
#ifndef FIT_C
#define FIT_C
#ifndef OPTIBERT_NO_MAIN
#define OPTIBERT_NO_MAIN
#endif
#include "../train_optibert.c"
#include <ctype.h>
#include <strings.h>

typedef struct {
    Files points;
    const char *columns, *column[5]; // --columns, and the name in it of each of the roles below; NULL: none
    const char *objective, *data;    // only these rows; NULL: all
    const char *json;
    double fix_E, plateau, predict, flops_per; // NAN: not given
    size_t draws, seed;              // of the bootstrap
    int with_head, all, help;
} FitSettings;

static FitSettings fit_opt = {
    .fix_E = NAN, .plateau = NAN, .predict = NAN, .flops_per = NAN, .draws = 1000, .seed = 1,
};

// ----------------------------------------------------------------------------
// points: rows of CSV files, grouped by objective and data

enum { MAX_POINTS = 10000, MAX_COLUMNS = 1000, MIN_STEPS = 200 };

// Is a point used for the law, and if not, why not?
enum { USED, TOO_SHORT, ON_PLATEAU, NOT_BEST, COPY, N_VERDICTS };

// One run. NAN: the file does not say.
typedef struct {
    double F_N, F_head, D, loss; // loss: on the validation set
    double layers, channels, heads, hidden, seq_len, vocab, batch_tokens, steps, lr, mask_rate, seed;
    double grad_clip, weight_decay, val_se, val_floor, val_rows, epochs, budget;
    double val_data, fingerprint; // hashes of these texts, to compare them by
    double F, C;                  // F_N, or with --with-head F_N + F_head; F D
    int verdict;
    size_t file;                  // which file it is from: how many points there were before that
} Point;

// The columns that every point needs, each with its usual names: its size, as F or N (parameters, of which F
// is 6 times); its data, as D, or as C; or instead of the size, C and D; and its loss.
enum { COL_F, COL_N, COL_D, COL_C, COL_LOSS, N_ROLES };
static const struct {
    const char *key, *names;
} roles[N_ROLES] = {
    {"F=", "flops_per_token,f"}, {"N=", "params,n,parameters,model size"},
    {"D=", "tokens,d,training tokens"}, {"C=", "flops,c,compute,training flops"},
    {"L=", "val_loss,loss,l,validation loss"},
};

// The other columns that are read.
static const struct {
    const char *name;
    size_t offset;
} fit_columns[] = {
    {"flops_per_token_head", offsetof(Point, F_head)},
    {"layers", offsetof(Point, layers)}, {"channels", offsetof(Point, channels)},
    {"heads", offsetof(Point, heads)}, {"hidden", offsetof(Point, hidden)},
    {"seq_len", offsetof(Point, seq_len)}, {"vocab", offsetof(Point, vocab)},
    {"batch_tokens", offsetof(Point, batch_tokens)}, {"steps", offsetof(Point, steps)},
    {"lr", offsetof(Point, lr)}, {"mask_rate", offsetof(Point, mask_rate)}, {"seed", offsetof(Point, seed)},
    {"val_se", offsetof(Point, val_se)}, {"val_floor", offsetof(Point, val_floor)},
    {"epochs", offsetof(Point, epochs)}, {"budget", offsetof(Point, budget)},
    {"grad_clip", offsetof(Point, grad_clip)}, {"weight_decay", offsetof(Point, weight_decay)},
    {"val_rows", offsetof(Point, val_rows)}, {"val_data", offsetof(Point, val_data)},
    {"fingerprint", offsetof(Point, fingerprint)},
};
enum { N_FIT_COLUMNS = sizeof fit_columns / sizeof *fit_columns };

static double point_number(const Point *p, size_t offset) {
    return *(const double *)((const char *)p + offset);
}

// E, A, B, alpha, beta of the law; huber: the objective at its minimum; a, b, G: of the best split that
// follows.
enum { LAW_E, LAW_A, LAW_B, LAW_ALPHA, LAW_BETA, LAW_HUBER, LAW_a, LAW_b, LAW_G, N_LAW };
static const char *const law_names[N_LAW] = {"E", "A", "B", "alpha", "beta", "huber", "a", "b", "G"};
typedef union {
    struct {
        double E, A, B, alpha, beta, huber, a, b, G;
    };
    double v[N_LAW];
} Law;

// y = k C^exponent, fitted to n points. The interval is the bootstrap's; NAN: there is none.
typedef struct {
    double k, exponent, exponent_lo, exponent_hi;
    size_t n;
} PowerLaw;

// The points of one compute budget.
typedef struct {
    double C;                  // geometric mean of its used points
    size_t first, n;           // all its points, in Group.point
    size_t use, n_use, sizes;  // the used ones, in Group.use, and how many different F they have
    double center, c[3];       // the parabola: loss = c0 + c1 z + c2 z², z = log F - center
    double F_opt, D_opt, loss; // at its minimum
    int open;                  // it has no minimum
    int edge;                  // its minimum, or the point of lowest loss, is at an end of the sizes
    int off;                   // its minimum is nearer to an end than to their middle, and so biased
    double F, channels;        // of the best run
    double lr, batch_tokens;   // of the best runs of that size: see best_of_budget
    size_t lrs, batches;       // how many were tried at that size …
    int lr_edge, batch_edge;   // … and whether the best one lacks a smaller or a larger neighbour
} Budget;

// All runs with one objective on one data set, and what follows from them.
typedef struct {
    const char *objective, *data;
    size_t n;
    Point *point;              // (n) by budget, then F, then D
    double plateau;            // the unigram plateau, or NAN
    const char *plateau_from;
    size_t count[N_VERDICTS];

    size_t n_use;
    size_t *use;               // (n_use) the used points
    double *F, *D, *C, *loss;  // (n_use)
    size_t n_budgets;
    Budget *budget;            // (n_budgets) ascending C

    int has_law, converged;    // do the points determine a law; did the descent reach a minimum?
    Law law, lo, hi, se;       // 95% intervals; standard errors, for A, B and G of their logs
    double corr[5][5];         // correlations of E, log A, log B, alpha, beta
    size_t n_draws;
    Law *draw;                 // (n_draws) the law of each bootstrap resample
    size_t held_n;             // the points of the largest budget; 0: the others determine no law
    double held_mean, held_rms; // errors of that law for these points in log loss, predicted - measured
    PowerLaw iso;              // F_opt of the parabolas; D_opt = C / F_opt
    PowerLaw best_lr, best_batch;
} Group;

typedef struct {
    size_t n, points; // points in all groups
    Group *group;     // (n)
} Fit;

// The bytes of the UTF-8 character at the start of a text; 0 if it is not valid (U+FFFE and U+FFFF are not).
size_t utf8_length(const char *text) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000}; // the smallest that needs n bytes
    const unsigned char *s = (const unsigned char *)text;
    size_t n = *s < 0x80 ? 1 : *s < 0xc0 ? 0 : *s < 0xe0 ? 2 : *s < 0xf0 ? 3 : *s < 0xf8 ? 4 : 0, k = 1;
    uint32_t c = n == 1 ? *s : *s & 0x7f >> n;
    for (; k < n && (s[k] & 0xc0) == 0x80; k++) c = c << 6 | (s[k] & 0x3f);
    int valid = k == n && c >= least[n] && c < 0x110000 && c >> 11 != 0xd800 >> 11 && (c & 0xffff) < 0xfffe;
    return valid ? n : 0;
}

// The text of a file as UTF-8, with "\n" at the end of each line and no byte-order mark. UTF-16, which
// spreadsheets write, is known by that mark.
static char *read_text(const char *path) {
    Reader r;
    reader_open(&r, path);
    size_t n = (size_t)r.size, out = 0;
    unsigned char *in = alloc_or_die(n + 4);
    char *text = alloc_or_die(2 * n + 4);
    reader_get(&r, in, n), fclose(r.file);
    int little = n >= 2 && in[0] == 0xff && in[1] == 0xfe, big = n >= 2 && in[0] == 0xfe && in[1] == 0xff;
    size_t bytes = little || big ? 2 : 1, i = bytes == 2 ? 2 : !memcmp(in, "\xef\xbb\xbf", 3) ? 3 : 0;
    for (unsigned c, last = 0; i < n; i += bytes, last = c) {
        c = bytes == 1 ? in[i] : (unsigned)in[i + (size_t)little] << 8 | in[i + (size_t)big];
        if (c == '\n' && last == '\r') continue; // that line has ended
        if (bytes == 1 || c < 0x80) {
            text[out++] = (char)(c == '\r' ? '\n' : c ? c : '?');
            continue;
        }
        if (c >= 0x800) text[out++] = (char)(0xe0 | c >> 12);
        text[out++] = (char)(c >= 0x800 ? 0x80 | (c >> 6 & 63) : 0xc0 | c >> 6);
        text[out++] = (char)(0x80 | (c & 63));
    }
    free(in);
    return text;
}

// The sign between the fields of a table, judged by its header: the most frequent of four, or else a blank.
static char find_separator(const char *header) {
    static const char signs[] = ",;\t|";
    size_t most = 0, count[4] = {0};
    int quoted = 0;
    for (const char *s = header; *s; s++) {
        quoted ^= *s == '"';
        const char *sign = quoted ? NULL : strchr(signs, *s);
        if (sign) count[sign - signs]++;
    }
    for (size_t k = 1; k < 4; k++)
        if (count[k] > count[most]) most = k;
    return count[most] ? signs[most] : ' ';
}

// Split a line into fields, in place, without quotes and the blanks around a field. Returns how many there
// are, but stores only the first max. Between blanks there is no empty field.
size_t csv_split(char *line, char separator, char **field, size_t max) {
    for (size_t n = 0;; line++) {
        while (*line == ' ' || (*line == '\t' && separator != '\t')) line++;
        char *start = line, *end = line;
        int quoted = 0;
        for (; *line && (quoted || *line != separator); line++) {
            if (*line != '"') *end++ = *line;
            else if (quoted && line[1] == '"') *end++ = *line++;
            else quoted = !quoted;
        }
        int last = *line == 0 || (separator == ' ' && line[strspn(line, " \t")] == 0);
        while (end > start && isspace((unsigned char)end[-1])) end--;
        *end = 0;
        if (n < max) field[n] = start;
        n++;
        if (last) return n;
    }
}

// Does a table that is not separated by commas write them for decimal points? Does it have one, that is, that
// cannot be there to group digits?
static int has_decimal_commas(const char *text) {
    for (const char *s = text; (s = strchr(s, ',')); s++) {
        size_t after = strspn(s + 1, "0123456789");
        if (s > text && isdigit((unsigned char)s[-1]) && after && after != 3 && s[1 + after] != ',') return 1;
    }
    return 0;
}

// The number that a field holds; NAN if it is none. Digits may be grouped in threes ("633,111,399"), and it
// may end in K, M, B or T, for thousands to 10^12.
double csv_number(const char *text, char point) {
    static const char units[] = "KkMmBbTt";
    char plain[64], group = point == ',' ? '.' : ',', *end;
    size_t n = 0, grouped = 0;
    for (const char *s = text; *s; s++) {
        int between = s > text && isdigit((unsigned char)s[-1]) && strspn(s + 1, "0123456789") == 3;
        if (n == sizeof plain - 1) return NAN;
        if (strchr(" _'\xc2\xa0", *s) || (*s == group && between && !strchr(text, 'e'))) grouped += *s == group;
        else plain[n++] = *s == point ? '.' : *s;
    }
    plain[n] = 0;
    double x = strtod(plain, &end);
    const char *unit = end > plain && *end ? strchr(units, *end) : NULL;
    if (unit) end++, x *= pow(10, 3.0 + 3.0 * (double)((unit - units) / 2));
    return end > plain && *end == 0 && isfinite(x) ? x : NAN;
}

// The group for this objective and data, made if there is none yet.
static Group *find_group(Fit *fit, const char *objective, const char *data) {
    for (size_t i = 0; i < fit->n; i++)
        if (!strcmp(fit->group[i].objective, objective) && !strcmp(fit->group[i].data, data))
            return &fit->group[i];
    fit->group = realloc(fit->group, (fit->n + 1) * sizeof *fit->group);
    if (!fit->group) die("out of memory");
    fit->group[fit->n] = (Group){.objective = strdup(objective), .data = strdup(data)};
    return &fit->group[fit->n++];
}

static void add_point(Group *g, const Point *p) {
    if (g->n % 256 == 0) g->point = realloc(g->point, (g->n + 256) * sizeof *g->point);
    if (!g->point) die("out of memory");
    g->point[g->n++] = *p;
}

// The number of the first column with one of these names, separated by commas; n if there is none. Capitals
// do not matter.
static size_t find_column(char **field, size_t n, const char *names) {
    for (size_t length; *names; names += length + (names[length] == ',')) {
        length = strcspn(names, ",");
        for (size_t k = 0; k < n; k++)
            if (strlen(field[k]) == length && !strncasecmp(field[k], names, length)) return k;
    }
    return n;
}

// How a table is written, and the numbers of the columns that we read; n for one that it does not have.
typedef struct {
    char separator, point; // of fields, and of decimals
    size_t n, role[N_ROLES], number[N_FIT_COLUMNS], objective, data;
} CsvHeader;

// A table lacks a column: say which, what it has, and what to do.
__attribute__((noreturn))
static void die_missing(const char *path, const char *what, char **field, size_t n) {
    char list[400] = "";
    for (size_t k = 0, used = 0; k < n && used < sizeof list - 60; k++)
        used += (size_t)snprintf(list + used, 60, "%s%s", k ? ", " : "", field[k]);
    die("%s: no column %s among: %s; name yours, as in --columns N=size,D=tokens,L=loss (F: FLOPs per token; "
        "N: parameters; D: tokens; C: total FLOPs; L: loss)", path, what, list);
}

static CsvHeader read_header(const char *path, char *line, char point) {
    char *field[MAX_COLUMNS], what[200];
    CsvHeader h = {.separator = find_separator(line), .point = point};
    size_t n = h.n = csv_split(line, h.separator, field, MAX_COLUMNS);
    if (n > MAX_COLUMNS) die("%s: more than %d columns; give a file of loss points", path, MAX_COLUMNS);
    h.objective = find_column(field, n, "objective"), h.data = find_column(field, n, "data");
    for (int k = 0; k < N_ROLES; k++) {
        const char *named = fit_opt.column[k];
        h.role[k] = fit_opt.columns && !named ? n : find_column(field, n, named ? named : roles[k].names);
        snprintf(what, sizeof what, "\"%s\"", named ? named : "");
        if (named && h.role[k] == n) die_missing(path, what, field, n);
    }
    int size = h.role[COL_F] < n || h.role[COL_N] < n, D = h.role[COL_D] < n, C = h.role[COL_C] < n;
    if (h.role[COL_LOSS] == n) die_missing(path, "of losses", field, n);
    if (size + D + C < 2) die_missing(path, size ? "of tokens" : "of sizes", field, n);
    for (int k = 0; k < N_FIT_COLUMNS; k++) h.number[k] = find_column(field, n, fit_columns[k].name);
    if (fit_opt.with_head && h.number[0] == n)
        die("%s: no column \"%s\"; leave out --with-head", path, fit_columns[0].name);
    return h;
}

// Read the fields of a row. Returns 0 if F, D or the loss is not a positive number. Any other field that is
// not a number counts as missing.
static int read_point(Point *p, const CsvHeader *h, char **field) {
    double role[N_ROLES];
    for (int k = 0; k < N_ROLES; k++)
        role[k] = h->role[k] < h->n ? csv_number(field[h->role[k]], h->point) : NAN;
    for (int k = 0; k < N_FIT_COLUMNS; k++) {
        size_t offset = fit_columns[k].offset;
        const char *text = h->number[k] < h->n ? field[h->number[k]] : "";
        double x = csv_number(text, h->point);
        if (*text && (offset == offsetof(Point, val_data) || offset == offsetof(Point, fingerprint)))
            x = (double)(checksum_add(CHECKSUM_START, text, strlen(text)) >> 11);
        *(double *)((char *)p + offset) = x;
    }
    double per = fit_opt.flops_per, C = role[COL_C];
    p->F_N = h->role[COL_F] < h->n ? role[COL_F] * (isnan(per) ? 1 : per) :
             h->role[COL_N] < h->n ? role[COL_N] * (isnan(per) ? 6 : per) : C / role[COL_D];
    p->D = h->role[COL_D] < h->n ? role[COL_D] : C / p->F_N, p->loss = role[COL_LOSS];
    p->F = fit_opt.with_head ? p->F_N + p->F_head : p->F_N, p->C = p->F * p->D, p->verdict = USED;
    return p->F > 0 && p->D > 0 && p->loss > 0 && isfinite(p->C);
}

// Say on stderr what is odd about the rows of a file that were added to the points after the first `before`.
static void note_oddities(const char *path, const CsvHeader *h, size_t rows, size_t fractions, size_t compute) {
    if (h->role[COL_F] == h->n && h->role[COL_N] < h->n && isnan(fit_opt.flops_per))
        fprintf(stderr, "%s: %s: sizes are parameters: F = 6 N (--flops-per says otherwise)\n", program, path);
    if (fractions)
        fprintf(stderr, "%s: %s: steps do not count steps (fractions, or 5e7 tokens in each): not read\n",
                program, path);
    if (rows && 2 * compute > rows)
        fprintf(stderr, "%s: %s: D is over 10^7 times F: if it is the compute, say so with --columns …,C=NAME\n",
                program, path);
}

// Add the rows of a table, whose first line names the columns, to the points of their groups. Empty lines and
// comments (# …) do not count. Says on stderr how many rows are unusable.
void read_points(Fit *fit, const char *path) {
    CsvHeader h = {0};
    Point p;
    char *text = read_text(path), *rest = text, *line, *field[MAX_COLUMNS];
    size_t bad = 0, first_bad = 0, negative = 0, rows = 0, fractions = 0, compute = 0, from = fit->points;
    int commas = has_decimal_commas(text);
    for (size_t number = 1; (line = strsep(&rest, "\n")); number++) {
        line += strspn(line, " ");
        if (line[strspn(line, " \t")] == 0 || *line == '#') continue;
        if (h.n == 0) {
            h = read_header(path, line, commas && find_separator(line) != ',' ? ',' : '.');
            continue;
        }
        int whole = csv_split(line, h.separator, field, MAX_COLUMNS) == h.n;
        const char *objective = whole && h.objective < h.n ? field[h.objective] : "";
        const char *data = whole && h.data < h.n ? field[h.data] : "";
        if (whole && fit_opt.objective && strcmp(objective, fit_opt.objective)) continue;
        if (whole && fit_opt.data && strcmp(data, fit_opt.data)) continue;
        if (!whole || !read_point(&p, &h, field)) {
            negative += whole && p.F > 0 && p.D > 0 && p.loss <= 0;
            if (bad++ == 0) first_bad = number;
            continue;
        }
        if (fit->points++ == MAX_POINTS)
            die("%s: more than %d points; select some with --objective and --data, or remove rows", path,
                MAX_POINTS);
        rows++, compute += p.D > 1e7 * p.F;
        fractions += p.steps > 0 && (p.steps != rint(p.steps) || p.D > 5e7 * p.steps);
        p.file = from;
        add_point(find_group(fit, objective, data), &p);
    }
    if (h.n == 0) die("%s: empty; give a file of loss points", path);
    for (size_t i = 0; i < fit->n && fractions; i++)
        for (Point *q = fit->group[i].point; q < fit->group[i].point + fit->group[i].n; q++)
            if (q->file == from) q->steps = NAN;
    note_oddities(path, &h, rows, fractions, compute);
    if (bad)
        fprintf(stderr, "%s: %s: skipped %zu rows, the first on line %zu: each needs %zu fields, with "
                "positive numbers for F, D and the loss\n", program, path, bad, first_bad, h.n);
    if (negative)
        fprintf(stderr, "%s: %s: %zu losses are 0 or less: the law is of their logarithms; give losses in nats, "
                "not normalised ones\n", program, path, negative);
    free(text);
}

// ----------------------------------------------------------------------------
// the law

// The parameters of a fit are t = (e, a, b, alpha, beta), and the model is
//     log L = log(exp(e) + exp(a - alpha x) + exp(b - beta y)),
// where x and y are log F and log D minus their means. So exp(e), exp(a) and exp(b) are the three terms of
// the loss at a typical point.
enum { NP = 5, GRID = 24, MAX_STARTS = 24 }; // parameters, exponents in the grid, starts
#define EXPONENT_MIN 0.02 // of the grid, and the bounds of alpha and beta
#define EXPONENT_MAX 4.0
#define HUBER_DELTA 1e-3  // Hoffmann et al.

// The points, as the fit needs them.
typedef struct {
    size_t n;
    double *x, *y, *l;        // (n) log F and log D minus their means; log L
    double mean_x, mean_y;
    double low[NP], high[NP]; // bounds of t; equal if a parameter is fixed
} Surface;

static double grid_exponent(int i) {
    return EXPONENT_MIN * pow(EXPONENT_MAX / EXPONENT_MIN, i / (GRID - 1.0));
}

// fix_E: a known E, or NAN. The caller frees x, which holds y and l too.
Surface surface_make(const double *F, const double *D, const double *loss, size_t n, double fix_E) {
    Surface s = {.n = n, .x = alloc_or_die(3 * n * sizeof(double))};
    s.y = s.x + n, s.l = s.y + n;
    double least = INFINITY, greatest = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        s.x[i] = log(F[i]), s.y[i] = log(D[i]), s.l[i] = log(loss[i]);
        s.mean_x += s.x[i] / (double)n, s.mean_y += s.y[i] / (double)n;
        least = fmin(least, s.l[i]), greatest = fmax(greatest, s.l[i]);
    }
    for (size_t i = 0; i < n; i++) s.x[i] -= s.mean_x, s.y[i] -= s.mean_y;
    for (int k = 0; k < NP; k++) {
        s.low[k] = k < 3 ? least - 40 : EXPONENT_MIN;
        s.high[k] = k < 3 ? greatest + 1 : EXPONENT_MAX;
    }
    if (fix_E == fix_E) s.low[0] = s.high[0] = fix_E > 0 ? log(fix_E) : -1000;
    return s;
}

// Solve A x = b by Cholesky's method, for a symmetric, positive definite A (n,n). x replaces b; A is
// overwritten. Returns 0 if A is not positive definite.
static int solve_symmetric(int n, double A[NP][NP], double *b) {
    for (int i = 0; i < n; i++) {
        for (int j = 0; j <= i; j++) {
            double sum = A[i][j];
            for (int k = 0; k < j; k++) sum -= A[i][k] * A[j][k];
            if (i > j) A[i][j] = sum / A[j][j];
            else if (sum > 1e-15 * fabs(A[i][i])) A[i][i] = sqrt(sum);
            else return 0;
        }
        for (int k = 0; k < i; k++) b[i] -= A[i][k] * b[k];
        b[i] /= A[i][i];
    }
    for (int i = n - 1; i >= 0; i--) {
        for (int k = i + 1; k < n; k++) b[i] -= A[k][i] * b[k];
        b[i] /= A[i][i];
    }
    return 1;
}

// Non-negative least squares in three unknowns, from the normal equations G c = h. Tries each subset of the
// unknowns that are `allowed` (one bit each) and takes the one that explains most without a negative number.
// Returns how much of the sum of squares it explains, h · c.
double least_squares(double G[3][3], const double h[3], int allowed, double c[3]) {
    double best = 0;
    c[0] = c[1] = c[2] = 0;
    for (int set = 1; set < 8; set++) {
        if (set & ~allowed) continue;
        double A[NP][NP], b[NP], explained = 0;
        int member[3], n = 0, feasible;
        for (int k = 0; k < 3; k++)
            if (set >> k & 1) member[n++] = k;
        for (int i = 0; i < n; i++) {
            b[i] = h[member[i]];
            for (int j = 0; j < n; j++) A[i][j] = G[member[i]][member[j]];
        }
        feasible = solve_symmetric(n, A, b);
        for (int i = 0; feasible && i < n; i++) feasible = b[i] >= 0, explained += b[i] * h[member[i]];
        if (!feasible || explained <= best) continue;
        best = explained, c[0] = c[1] = c[2] = 0;
        for (int i = 0; i < n; i++) c[member[i]] = b[i];
    }
    return best;
}

// Find at most max starts for the descent, by variable projection: for each pair of exponents in the grid, E,
// A and B follow by least squares on the relative errors. The starts are the best cells of the grid, no two
// of them neighbours. Returns how many.
static int law_starts(const Surface *s, const double *w, double start[][NP], int max) {
    double left[GRID][GRID], cell[GRID][GRID][3];
    int fixed = s->low[0] == s->high[0], n = 0;
    double E = fixed ? exp(s->low[0]) : 0, floor_t = s->low[1] + 33; // 1e-3 of the loss, in place of 0
    for (int i = 0; i < GRID; i++)
        for (int j = 0; j < GRID; j++) {
            double G[3][3] = {{0}}, h[3] = {0}, all = 0;
            double alpha = grid_exponent(i), beta = grid_exponent(j);
            for (size_t k = 0; k < s->n; k++) {
                double l = s->l[k], f[3] = {exp(-l), exp(-l - alpha * s->x[k]), exp(-l - beta * s->y[k])};
                double target = 1 - E * f[0];
                all += w[k] * target * target;
                for (int p = 0; p < 3; p++) {
                    h[p] += w[k] * f[p] * target;
                    for (int q = 0; q < 3; q++) G[p][q] += w[k] * f[p] * f[q];
                }
            }
            left[i][j] = all - least_squares(G, h, fixed ? 6 : 7, cell[i][j]);
        }
    while (n < max) {
        int bi = -1, bj = -1;
        for (int i = 0; i < GRID; i++)
            for (int j = 0; j < GRID; j++)
                if (left[i][j] < INFINITY && (bi < 0 || left[i][j] < left[bi][bj])) bi = i, bj = j;
        if (bi < 0) break;
        for (int k = 0; k < 3; k++) start[n][k] = fmax(floor_t, log(cell[bi][bj][k]));
        if (fixed) start[n][0] = s->low[0];
        start[n][3] = grid_exponent(bi), start[n][4] = grid_exponent(bj);
        n++;
        for (int i = MAX(0, bi - 1); i <= MIN(GRID - 1, bi + 1); i++)
            for (int j = MAX(0, bj - 1); j <= MIN(GRID - 1, bj + 1); j++) left[i][j] = INFINITY;
    }
    return n;
}

// The objective at t, sum w huber(r) with r = log-sum-exp - l; its gradient; its Hessian H; and M, an
// approximation to H that leaves out the curvature of the model and weighs a point with |r| > delta by
// delta/|r|, as iteratively reweighted least squares does. M is always positive semidefinite, and a step by
// it never overshoots far.
typedef struct {
    double value, gradient[NP], H[NP][NP], M[NP][NP];
} Objective;

void law_objective(const Surface *s, const double *w, const double t[NP], Objective *o) {
    *o = (Objective){0};
    for (size_t i = 0; i < s->n; i++) {
        if (w[i] == 0) continue;
        double z[3] = {t[0], t[1] - t[3] * s->x[i], t[2] - t[4] * s->y[i]};
        double top = fmax(z[0], fmax(z[1], z[2])), sum = 0, share[3];
        for (int k = 0; k < 3; k++) sum += share[k] = exp(z[k] - top);
        for (int k = 0; k < 3; k++) share[k] /= sum;
        double r = top + log(sum) - s->l[i], size = fabs(r), slope = r, weight = 1, delta = HUBER_DELTA;
        if (size > delta) slope = copysign(delta, r), weight = delta / size;
        o->value += w[i] * (size > delta ? delta * (size - delta / 2) : r * r / 2);
        // the gradient of log-sum-exp
        double d[NP] = {share[0], share[1], share[2], -s->x[i] * share[1], -s->y[i] * share[2]};
        double x[NP] = {1, 1, 1, -s->x[i], -s->y[i]};
        for (int p = 0; p < NP; p++) {
            o->gradient[p] += w[i] * slope * d[p];
            for (int q = 0; q <= p; q++) {
                int one_term = (p == 3 ? 1 : p == 4 ? 2 : p) == (q == 3 ? 1 : q == 4 ? 2 : q);
                double bend = (one_term ? d[p] * x[q] : 0) - d[p] * d[q];
                o->M[p][q] += w[i] * weight * d[p] * d[q];
                o->H[p][q] += w[i] * ((size <= delta) * d[p] * d[q] + slope * bend);
            }
        }
    }
}

// Newton's method from t, damped by M: a step solves (H + lambda M) step = -gradient. A larger lambda makes
// it more cautious, and no step is longer than 2 in e, a or b, or 0.5 in an exponent. It ends when no step,
// however small, is an improvement, or when steps are as small as rounding errors. (Near the minimum the
// value can no longer tell better from worse, but the gradient can.) Returns whether it got there; t is then
// the minimum and *value the objective.
static int law_descend(const Surface *s, const double *w, double t[NP], double *value) {
    Objective now, next;
    double lambda = 1, tiny = 0;
    law_objective(s, w, t, &now);
    for (int i = 0; i < 2000; i++) {
        double A[NP][NP], step[NP], moved = 0, steep = 0, next_steep = 0;
        int fixed[NP];
        for (int p = 0; p < NP; p++) {
            fixed[p] = s->low[p] == s->high[p] || (t[p] <= s->low[p] && now.gradient[p] > 0) ||
                       (t[p] >= s->high[p] && now.gradient[p] < 0);
            tiny = fmax(tiny, 1e-14 * now.M[p][p]);
        }
        int better = 0;
        for (int newton = 1; newton >= 0 && !better; newton--) { // by M alone if H is not positive definite
            for (int p = 0; p < NP; p++) {
                step[p] = fixed[p] ? 0 : -now.gradient[p];
                for (int q = 0; q <= p; q++)
                    A[p][q] = fixed[p] || fixed[q] ? p == q : (newton ? now.H : now.M)[p][q] +
                              lambda * (now.M[p][q] + (p == q) * tiny);
            }
            better = solve_symmetric(NP, A, step);
        }
        if (better) {
            for (int p = 0; p < NP; p++) {
                double from = t[p], most = p < 3 ? 2 : 0.5;
                step[p] = fmin(fmax(from + fmin(fmax(step[p], -most), most), s->low[p]), s->high[p]);
                moved = fmax(moved, fabs(step[p] - from) / (1 + fabs(from)));
            }
            law_objective(s, w, step, &next);
            for (int p = 0; p < NP; p++) {
                double scale = fixed[p] ? 0 : 1 / (now.M[p][p] + tiny + 1e-300);
                steep += now.gradient[p] * now.gradient[p] * scale;
                next_steep += next.gradient[p] * next.gradient[p] * scale;
            }
            better =
                next.value < now.value || (next.value <= now.value * (1 + 1e-12) && next_steep < steep / 4);
        }
        if (better) memcpy(t, step, NP * sizeof *t), now = next, lambda = fmax(lambda / 8, 1e-12);
        else lambda *= 8;
        *value = now.value;
        if ((better && moved < 1e-15) || lambda > 1e12) return 1;
    }
    return 0;
}

// How many different (x, y) have a weight, at most `enough`. y may be NULL.
static int count_distinct(const double *x, const double *y, const double *w, size_t n, int enough) {
    size_t found[8];
    int count = 0;
    for (size_t i = 0; i < n && count < enough; i++) {
        int k = 0;
        while (k < count && (fabs(x[i] - x[found[k]]) > 1e-9 || (y && fabs(y[i] - y[found[k]]) > 1e-9))) k++;
        if (w[i] > 0 && k == count) found[count++] = i;
    }
    return count;
}

// Can these points determine a law at all?
static int law_possible(const Surface *s, const double *w) {
    int known = s->low[0] == s->high[0]; // E
    return count_distinct(s->x, s->y, w, s->n, 5 - known) == 5 - known &&
           count_distinct(s->x, NULL, w, s->n, 3 - known) == 3 - known &&
           count_distinct(s->y, NULL, w, s->n, 3 - known) == 3 - known;
}

// Fill in A, B and the best split: along F D = C, dL = 0 gives F_opt = G C^a and D_opt = C^b / G.
static void law_close(Law *law, double log_A, double log_B) {
    double sum = law->alpha + law->beta;
    law->A = exp(log_A), law->B = exp(log_B);
    law->a = law->beta / sum, law->b = law->alpha / sum;
    law->G = exp((log(law->alpha) + log_A - log(law->beta) - log_B) / sum);
}

double law_loss(const Law *law, double F, double D) {
    return law->E + law->A * pow(F, -law->alpha) + law->B * pow(D, -law->beta);
}

double law_F_opt(const Law *law, double C) { return law->G * pow(C, law->a); }
double law_D_opt(const Law *law, double C) { return pow(C, law->b) / law->G; }
double law_ratio(const Law *law, double C) { return law_D_opt(law, C) / law_F_opt(law, C); }

// The law of points with weights w (n): the lowest minimum reached from the starts, and from t if have_t. Its
// parameters replace t; *converged tells whether the descent ended there.
Law surface_fit(const Surface *s, const double *w, int starts, double t[NP], int have_t, int *converged) {
    double start[MAX_STARTS + 1][NP], best = INFINITY;
    int n = law_starts(s, w, start, starts);
    if (have_t) memcpy(start[n++], t, NP * sizeof *t);
    for (int i = 0; i < n; i++) {
        double value;
        int ended = law_descend(s, w, start[i], &value);
        if (!(value < best)) continue;
        best = value, memcpy(t, start[i], NP * sizeof *t);
        if (converged) *converged = ended;
    }
    int gone[3]; // a term below 1e-13 of the loss: too flat for the descent, and on its way to 0
    for (int k = 0; k < 3; k++) gone[k] = t[k] < s->low[k] + 10 && s->low[k] < s->high[k];
    double log_A = gone[1] ? -INFINITY : t[1] + t[3] * s->mean_x;
    double log_B = gone[2] ? -INFINITY : t[2] + t[4] * s->mean_y;
    Law law = {.E = gone[0] ? 0 : exp(t[0]), .alpha = t[3], .beta = t[4], .huber = best};
    law_close(&law, log_A, log_B);
    return law;
}

// The law of n points that all count the same. Returns 0 if they cannot determine one.
int law_fit(Law *law, const double *F, const double *D, const double *loss, size_t n, double fix_E) {
    double t[NP], *w = alloc_or_die(n * sizeof *w);
    for (size_t i = 0; i < n; i++) w[i] = 1;
    Surface s = surface_make(F, D, loss, n, fix_E);
    int possible = law_possible(&s, w);
    if (possible) *law = surface_fit(&s, w, MAX_STARTS, t, 0, NULL);
    free(s.x), free(w);
    return possible;
}

// ----------------------------------------------------------------------------
// isoFLOP parabolas (Hoffmann et al., approach 2) and power laws

static const PowerLaw no_power_law = {NAN, NAN, NAN, NAN, 0};

// The least-squares power law y = k C^exponent through points with weights w. If they are all at one C it is
// flat. Without points, n = 0.
PowerLaw power_law(const double *C, const double *y, const double *w, size_t n) {
    double sum = 0, mean_x = 0, mean_y = 0, xx = 0, xy = 0;
    PowerLaw p = no_power_law;
    for (size_t i = 0; i < n; i++)
        if (w[i] > 0) sum += w[i], mean_x += w[i] * log(C[i]), mean_y += w[i] * log(y[i]), p.n++;
    mean_x /= sum, mean_y /= sum;
    for (size_t i = 0; i < n; i++) {
        if (w[i] <= 0) continue;
        xx += w[i] * pow(log(C[i]) - mean_x, 2);
        xy += w[i] * (log(C[i]) - mean_x) * (log(y[i]) - mean_y);
    }
    if (p.n == 0) return p;
    p.exponent = xx < 1e-6 ? 0 : xy / xx, p.k = exp(mean_y - p.exponent * mean_x);
    return p;
}

double power_at(const PowerLaw *p, double C) { return p->k * pow(C, p->exponent); }

// The parabola of one budget through its used points, with weights w (n_use of the group).
static void fit_parabola(Budget *b, const Group *g, const double *w) {
    double A[NP][NP] = {{0}}, c[3] = {0}, sum = 0, low = INFINITY, high = -INFINITY, least = INFINITY,
           best = NAN;
    b->center = 0;
    for (size_t i = b->use; i < b->use + b->n_use; i++) sum += w[i], b->center += w[i] * log(g->F[i]);
    b->center /= sum;
    for (size_t i = b->use; i < b->use + b->n_use; i++) {
        double z = log(g->F[i]) - b->center, power[3] = {1, z, z * z};
        if (w[i] == 0) continue;
        low = fmin(low, z), high = fmax(high, z);
        if (g->loss[i] < least) least = g->loss[i], best = z;
        for (int p = 0; p < 3; p++) {
            c[p] += w[i] * power[p] * g->loss[i];
            for (int q = 0; q < 3; q++) A[p][q] += w[i] * power[p] * power[q];
        }
    }
    int solved = b->sizes >= 3 && high - low > 1e-9 && solve_symmetric(3, A, c);
    memcpy(b->c, c, sizeof c);
    b->open = !solved || !(c[2] > 0) || fit_opt.with_head; // with the head, C varies within a budget
    double z = b->open ? NAN : -c[1] / (2 * c[2]);
    b->edge = !b->open && (z <= low || z >= high || best < low + 1e-9 || best > high - 1e-9);
    b->off = fabs(z - (low + high) / 2) > (high - low) / 4; // (arXiv 2603.22339)
    b->F_opt = exp(b->center + z), b->D_opt = b->C / b->F_opt, b->loss = c[0] + c[1] * z / 2;
}

// F_opt, the best learning rate or the best batch of the budgets as a power law in C. Budgets whose best is
// at an edge are not used.
enum { OF_SIZE, OF_RATE, OF_BATCH };
static PowerLaw budget_law(const Budget *budget, size_t n, int of) {
    double *C = alloc_or_die(3 * n * sizeof *C), *y = C + n, *w = y + n;
    for (size_t i = 0; i < n; i++) {
        const Budget *b = &budget[i];
        C[i] = b->C, y[i] = of == OF_SIZE ? b->F_opt : of == OF_RATE ? b->lr : b->batch_tokens;
        w[i] = of == OF_SIZE ? !b->open && !b->edge : of == OF_RATE ? !b->lr_edge : !b->batch_edge;
    }
    PowerLaw p = power_law(C, y, w, n);
    free(C);
    return p.n < 2 ? no_power_law : p; // one budget tells nothing about growth
}

// ----------------------------------------------------------------------------
// the bootstrap

enum { STREAM_BOOTSTRAP = 300, DRAW_STARTS = 6, DRAW_TRIES = 20 };

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// The p-th quantile of n ascending numbers, with linear interpolation (R's type 7, the usual one).
double quantile(const double *sorted, size_t n, double p) {
    if (n == 0) return NAN;
    double place = p * (double)(n - 1);
    size_t i = (size_t)place;
    double next = sorted[MIN(i + 1, n - 1)];
    if (next == sorted[i]) return next; // which may be infinite
    return sorted[i] + (place - (double)i) * (next - sorted[i]);
}

// The 95% interval of x (n), NANs left out. Sorts x.
static void interval_95(double *x, size_t n, double *lo, double *hi) {
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (!isnan(x[i])) x[kept++] = x[i];
    qsort(x, kept, sizeof *x, compare_doubles);
    *lo = quantile(x, kept, 0.025), *hi = quantile(x, kept, 0.975);
}

// The bootstrap's 95% interval of D_opt/F_opt at C, or if `over` is not NULL of its quotient by that of
// another group.
void ratio_interval(const Group *g, const Group *over, double C, double *lo, double *hi) {
    size_t n = over ? MIN(g->n_draws, over->n_draws) : g->n_draws;
    double *x = alloc_or_die(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = law_ratio(&g->draw[i], C) / (over ? law_ratio(&over->draw[i], C) : 1);
    interval_95(x, n, lo, hi);
    free(x);
}

// Draw a resample: w (n_use) becomes how often each used point is in it. As many points are drawn from each
// budget as it has, and from those without a budget. Each objective has its own random numbers, so that the
// resamples of two are independent.
static void resample(const Group *g, double *w, uint64_t draw) {
    size_t *rest = alloc_or_die(g->n_use * sizeof *rest), n_rest = 0, next = 0;
    uint64_t stream = STREAM_BOOTSTRAP + draw;
    for (const char *c = g->objective; *c; c++) stream = stream * 31 + (unsigned char)*c;
    memset(w, 0, g->n_use * sizeof *w);
    for (size_t b = 0, i = 0; b <= g->n_budgets; b++) {
        size_t first = b < g->n_budgets ? g->budget[b].use : g->n_use;
        while (i < first) rest[n_rest++] = i++;
        if (b < g->n_budgets) i += g->budget[b].n_use;
    }
    for (size_t b = 0; b <= g->n_budgets; b++) {
        size_t n = b < g->n_budgets ? g->budget[b].n_use : n_rest;
        for (size_t i = 0; i < n; i++) {
            size_t k = (size_t)(uniform(fit_opt.seed, stream, next++) * (double)n);
            w[b < g->n_budgets ? g->budget[b].use + k : rest[k]]++;
        }
    }
    free(rest);
}

// A, B and G span decades: statistics are of their logs.
static int by_log(int k) { return k == LAW_A || k == LAW_B || k == LAW_G; }

// The covariance over the draws of two numbers of the law.
static double covariance(const Group *g, int p, int q) {
    double mean_x = 0, mean_y = 0, sum = 0, n = (double)g->n_draws;
    for (int pass = 0; pass < 2; pass++)
        for (const Law *d = g->draw; d < g->draw + g->n_draws; d++) {
            double x = by_log(p) ? log(d->v[p]) : d->v[p], y = by_log(q) ? log(d->v[q]) : d->v[q];
            if (pass == 0) mean_x += x / n, mean_y += y / n;
            else sum += (x - mean_x) * (y - mean_y);
        }
    return sum / (n - 1);
}

// Standard errors, intervals and correlations from the draws.
static void summarise_draws(Group *g) {
    double *x = alloc_or_die(g->n_draws * sizeof *x);
    for (int k = 0; k < N_LAW; k++) {
        for (size_t i = 0; i < g->n_draws; i++) x[i] = g->draw[i].v[k];
        interval_95(x, g->n_draws, &g->lo.v[k], &g->hi.v[k]);
        g->se.v[k] = sqrt(covariance(g, k, k));
    }
    for (int p = 0; p < NP; p++)
        for (int q = 0; q < NP; q++)
            g->corr[p][q] = covariance(g, p, q) / sqrt(covariance(g, p, p) * covariance(g, q, q));
    free(x);
}

// Fit the law and the parabolas again to resampled points. A resample that cannot determine a law is drawn
// again. A draw depends on its number alone, so the result is the same for any number of threads.
static void bootstrap_group(Group *g, const Surface *s, const double t[NP]) {
    size_t draws = fit_opt.draws, n = g->n_use, kept = 0;
    g->draw = alloc_or_die(draws * sizeof *g->draw);
    double *iso = alloc_or_die(draws * sizeof *iso);
    #pragma omp parallel for schedule(dynamic)
    for (size_t i = 0; i < draws; i++) {
        double mine[NP], *w = alloc_or_die(n * sizeof *w);
        Budget *budget = alloc_or_die(g->n_budgets * sizeof *budget);
        int possible = 0;
        for (size_t attempt = 0; !possible && attempt < DRAW_TRIES; attempt++) {
            resample(g, w, i + attempt * draws);
            possible = law_possible(s, w);
        }
        memcpy(mine, t, sizeof mine);
        g->draw[i].E = NAN;
        if (possible) g->draw[i] = surface_fit(s, w, DRAW_STARTS, mine, 1, NULL);
        for (size_t b = 0; b < g->n_budgets; b++) budget[b] = g->budget[b], fit_parabola(&budget[b], g, w);
        iso[i] = budget_law(budget, g->n_budgets, OF_SIZE).exponent;
        free(w), free(budget);
    }
    for (size_t i = 0; i < draws; i++)
        if (!isnan(g->draw[i].E)) g->draw[kept++] = g->draw[i];
    g->n_draws = kept;
    interval_95(iso, draws, &g->iso.exponent_lo, &g->iso.exponent_hi);
    free(iso);
    summarise_draws(g);
}

// ----------------------------------------------------------------------------
// plans: from a compute budget to a run

// F of a shape: F_N, and with a head_rate > 0 the head's FLOPs at that mask rate.
static double shape_flops(const Config *c, double head_rate) {
    return flops_per_token(c) + (head_rate > 0 ? flops_per_token_head(c, head_rate) : 0);
}

// The shape whose F is nearest to F, in log, among those with at least two layers, channels in multiples of
// 16, 8 to 64 channels a layer, and the trainer's default heads. A shape twice as deep or as flat as 32
// channels a layer counts as 2% further away; so of two that are equally near, the more usual one is taken.
Config ladder_shape(double F, size_t T, size_t V, int causal, double head_rate) {
    Config best = {0};
    double best_score = INFINITY;
    for (size_t C = 16; C <= 16384; C += 16) {
        Config c = {2, C, MAX(1, C / 32), default_hidden(C), T, V, causal};
        if (C % c.NH || C / c.NH % 2) continue;
        for (c.L = MAX(2, (C + 63) / 64); c.L <= C / 8; c.L++) {
            double its = shape_flops(&c, head_rate);
            double score = fabs(log(its / F)) + 0.02 * fabs(log2((double)C / (double)c.L / 32));
            if (score < best_score) best_score = score, best = c;
            if (its > 2 * F) break;
        }
        if (flops_per_token(&c) > 4 * F) break;
    }
    return best;
}

// The best run at a compute C.
typedef struct {
    double C, F, D, loss;    // the law's optimum
    double smaller, larger;  // how much higher the loss is with a third and with three times F, at the same C
    Config shape;            // the nearest to F; L = 0 if the points do not tell T and V
    double shape_F, shape_D; // its F, and the D that makes C
    size_t params, rows, steps;
    double lr;
} Plan;

// The run whose T, V, mask rate and batch a plan takes over: the last used point of the largest budget.
static const Point *model_run(const Group *g) { return &g->point[g->use[g->n_use - 1]]; }

// Batch and learning rate follow their power laws, if there are any. Otherwise they are those of model_run
// (the rate scaled as 1/√channels, as in dev/sweep), or if the points do not tell them the trainer's
// defaults. The batch leaves at least MIN_STEPS steps.
Plan make_plan(const Group *g, double C) {
    const Law *law = &g->law;
    Plan p = {.C = C, .F = law_F_opt(law, C), .D = law_D_opt(law, C)};
    p.loss = law_loss(law, p.F, p.D);
    p.smaller = law_loss(law, p.F / 3, p.D * 3) - p.loss, p.larger = law_loss(law, p.F * 3, p.D / 3) - p.loss;
    const Point *as = model_run(g);
    double T = as->seq_len, V = as->vocab, batch = as->batch_tokens;
    double head_rate = !fit_opt.with_head ? 0 : as->mask_rate > 0 ? fmin(as->mask_rate, 1) : 1;
    if (!(T >= 1 && T <= 1e6 && V >= 1 && V < 65536) || !(p.F > 0 && p.F < 1e15)) return p;
    p.shape = ladder_shape(p.F, (size_t)T, (size_t)V, !strcmp(g->objective, "ntp"), head_rate);
    p.shape_F = shape_flops(&p.shape, head_rate);
    p.shape_D = C / p.shape_F, p.params = parameter_count(&p.shape);
    if (g->best_batch.n) batch = power_at(&g->best_batch, C);
    if (!(batch > 0)) batch = 32 * T;
    p.rows = (size_t)fmax(1, fmin(fmin(rint(batch / T), floor(p.shape_D / MIN_STEPS / T)), 1e6));
    p.steps = (size_t)fmax(1, rint(fmin(1e15, p.shape_D / (double)p.rows / T)));
    double rate = as->lr * sqrt(as->channels / (double)p.shape.C);
    p.lr = g->best_lr.n ? power_at(&g->best_lr, C) : rate > 0 ? rate : default_lr(p.shape.C);
    return p;
}

// ----------------------------------------------------------------------------
// groups: which points are used, the budgets, and all fits of one objective on one data set

static double budget_key(const Point *p) { return p->budget > 0 ? p->budget : p->C; }

static int compare_points(const void *a, const void *b) {
    const Point *p = a, *q = b;
    double x[] = {budget_key(p), p->F, p->D, p->lr, p->seed, p->loss};
    double y[] = {budget_key(q), q->F, q->D, q->lr, q->seed, q->loss};
    for (int k = 0; k < 6; k++)
        if (x[k] < y[k] || x[k] > y[k]) return x[k] < y[k] ? -1 : 1;
    return 0;
}

// The entropy, in nats, of the token frequencies in a shard; `all`: with end of text. NAN if the vocabulary
// of the shard is not V.
double unigram_entropy(const char *path, size_t V, int all) {
    uint16_t token[4096];
    int eot;
    Reader r;
    reader_open(&r, path);
    size_t shard_V, n = shard_header(&r, &shard_V, &eot), *count = alloc_or_die(65536 * sizeof *count);
    double sum = 0, total = 0;
    for (size_t k; n > 0; n -= k) {
        reader_get(&r, token, (k = MIN(n, 4096)) * sizeof *token);
        for (size_t i = 0; i < k; i++) count[token[i]]++;
    }
    fclose(r.file);
    if (!all && eot >= 0) count[eot] = 0;
    for (size_t i = 0; i < 65536; i++)
        if (count[i]) total += (double)count[i], sum += (double)count[i] * log((double)count[i]);
    free(count);
    return shard_V == V && total > 0 ? log(total) - sum / total : NAN;
}

// Can this name be part of a command without quotes?
static int is_plain_name(const char *name) {
    const char *plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    return *name && name[strspn(name, plain)] == 0;
}

// The path of the group's training shard, if it is in data/. Returns whether it is.
static int find_shard(const Group *g, char path[PATH_MAX]) {
    int n = snprintf(path, PATH_MAX, "data/%s.bin", g->data);
    return is_plain_name(g->data) && n < PATH_MAX && access(path, R_OK) == 0;
}

// The unigram plateau: the loss of a run that has learned only how frequent each token is. The points do not
// show it (the highest loss in a good set is a good point). So it is what --plateau says, or the entropy of
// the training shard, or else ln V. That is an upper bound, so too few points may be left out but never too
// many.
static void find_plateau(Group *g) {
    char path[PATH_MAX];
    double V = g->point[0].vocab;
    g->plateau = fit_opt.plateau, g->plateau_from = "given";
    if (isnan(g->plateau) && V >= 2 && find_shard(g, path))
        g->plateau = unigram_entropy(path, (size_t)V, !strcmp(g->objective, "ntp")),
        g->plateau_from = "from the training shard";
    if (isnan(g->plateau) && V >= 2) g->plateau = log(V), g->plateau_from = "at most: ln V";
}

// Are two numbers equal, where NAN is one too? And are they as far as is known?
static int same_number(double a, double b) { return a == b || (isnan(a) && isnan(b)); }
static int may_be_equal(double a, double b) { return a == b || isnan(a) || isnan(b); }

// Are two runs of the same size on (nearly) the same amount of data?
static int same_run(const Point *p, const Point *q) { return p->F == q->F && fabs(log(p->D / q->D)) < 0.02; }

// Do two such runs differ in nothing that may make one better? (What a file does not tell is not assumed.)
static int same_setting(const Point *p, const Point *q) {
    return same_number(p->lr, q->lr) && same_number(p->batch_tokens, q->batch_tokens) &&
           same_number(p->grad_clip, q->grad_clip) && same_number(p->weight_decay, q->weight_decay);
}

// The mean loss of the runs that differ from p only in the seed.
static double setting_loss(const Point *all, size_t n, const Point *p) {
    double sum = 0, count = 0;
    for (const Point *q = all; q < all + n; q++)
        if (q->verdict != COPY && p->F == q->F && p->D == q->D && same_setting(p, q)) sum += q->loss, count++;
    return sum / count;
}

// Neither too short nor on the plateau.
static int is_sound(const Point *p) { return p->verdict == USED || p->verdict == NOT_BEST; }

// Decide which points are used for the law. Of several settings at the same (F, D), the best one is.
static void judge_points(Group *g) {
    double *mean = alloc_or_die(g->n * sizeof *mean);
    find_plateau(g);
    for (size_t i = 0; i < g->n; i++) {
        Point *p = &g->point[i];
        if (i && !memcmp(p, p - 1, offsetof(Point, verdict))) p->verdict = COPY;
        else if (fit_opt.all) continue;
        else if (p->steps < MIN_STEPS) p->verdict = TOO_SHORT;
        else if (p->loss > 0.9 * g->plateau) p->verdict = ON_PLATEAU;
    }
    for (size_t i = 0; i < g->n; i++) mean[i] = setting_loss(g->point, g->n, &g->point[i]);
    for (size_t i = 0; i < g->n; i++)
        for (size_t j = 0; j < g->n && g->point[i].verdict == USED; j++)
            if (is_sound(&g->point[j]) && mean[j] < mean[i] && same_run(&g->point[i], &g->point[j]) &&
                !same_setting(&g->point[i], &g->point[j]))
                g->point[i].verdict = NOT_BEST;
    g->use = alloc_or_die(g->n * sizeof *g->use);
    g->F = alloc_or_die(4 * g->n * sizeof *g->F);
    g->D = g->F + g->n, g->C = g->D + g->n, g->loss = g->C + g->n;
    for (size_t i = 0; i < g->n; i++) {
        const Point *p = &g->point[i];
        g->count[p->verdict]++;
        if (p->verdict != USED) continue;
        g->F[g->n_use] = p->F, g->D[g->n_use] = p->D, g->C[g->n_use] = p->C, g->loss[g->n_use] = p->loss;
        g->use[g->n_use++] = i;
    }
    free(mean);
}

// How many different positive values a column has in the points with this F. *edge: x has no smaller or no
// larger one beside it.
static size_t count_tried(const Point *all, size_t n, double F, size_t offset, double x, int *edge) {
    size_t count = 0, less = 0, more = 0;
    for (size_t i = 0; i < n; i++) {
        double value = point_number(&all[i], offset);
        int is_new = all[i].F == F && value > 0;
        for (size_t j = 0; j < i && is_new; j++)
            is_new = all[j].F != F || point_number(&all[j], offset) != value;
        count += (size_t)is_new, less += is_new && value < x, more += is_new && value > x;
    }
    *edge = !less || !more;
    return count;
}

// The best size of a budget, and the learning rate and batch that go with it. The loss is so flat around its
// minimum that noise would choose between settings. So rate and batch are geometric means over all runs of
// that size whose loss is within 0.25% of the lowest, as in DeepSeek LLM (arXiv 2401.02954, section 3.1).
static void best_of_budget(Group *g, Budget *b) {
    const Point *all = g->point + b->first, *best = all;
    double least = INFINITY, log_lr = 0, log_batch = 0, near = 0;
    for (const Point *p = all; p < all + b->n; p++) {
        double mean = setting_loss(all, b->n, p);
        if (is_sound(p) && mean < least) least = mean, best = p;
    }
    for (const Point *p = all; p < all + b->n; p++) {
        if (!is_sound(p) || p->F != best->F || setting_loss(all, b->n, p) > 1.0025 * least) continue;
        log_lr += log(p->lr), log_batch += log(p->batch_tokens), near++;
    }
    b->F = best->F, b->channels = best->channels;
    b->lr = exp(log_lr / near), b->batch_tokens = exp(log_batch / near);
    b->lrs = count_tried(all, b->n, best->F, offsetof(Point, lr), best->lr, &b->lr_edge);
    b->batches =
        count_tried(all, b->n, best->F, offsetof(Point, batch_tokens), best->batch_tokens, &b->batch_edge);
}

// A budget is three or more points, at least one of them used, with the same number in the budget column (or
// the same F D, if there is no such column). Without such a column, numbers may also be near: within 2% from
// one to the next and 10% in all, with no other point within 20% and three different F among the used points.
// So points scattered at random have no budgets.
static void find_budgets(Group *g) {
    g->budget = alloc_or_die((g->n / 3 + 1) * sizeof *g->budget);
    for (size_t i = 0, end, use = 0; i < g->n; i = end) {
        Budget b = {.first = i, .use = use};
        double from = budget_key(&g->point[i]), to = from, next = INFINITY;
        double before = i ? budget_key(&g->point[i - 1]) : 0;
        for (end = i + 1; end < g->n; end++, to = next, next = INFINITY)
            if ((next = budget_key(&g->point[end])) > 1.02 * to) break;
        b.n = end - i;
        while (use < g->n_use && g->use[use] < end) b.C += log(g->C[use]), use++;
        b.n_use = use - b.use;
        b.C = exp(b.C / (double)b.n_use);
        for (size_t k = b.use; k < use; k++) {
            size_t j = b.use;
            while (j < k && fabs(log(g->F[j] / g->F[k])) > 1e-9) j++;
            b.sizes += j == k;
        }
        int alone = to < 1.1 * from && before < from / 1.2 && next > 1.2 * to;
        int is_one = from == to ? b.n >= 3 : b.sizes >= 3 && alone;
        if (is_one && b.n_use > 0) g->budget[g->n_budgets++] = b;
    }
}

// Fit the points of all budgets but the largest, and predict those of the largest.
static void hold_out(Group *g) {
    Law law;
    if (g->n_budgets < 2) return;
    size_t n = g->budget[g->n_budgets - 1].use;
    if (!law_fit(&law, g->F, g->D, g->loss, n, fit_opt.fix_E)) return;
    g->held_n = g->n_use - n;
    for (size_t i = n; i < g->n_use; i++) {
        double error = log(law_loss(&law, g->F[i], g->D[i]) / g->loss[i]);
        g->held_mean += error / (double)g->held_n, g->held_rms += error * error / (double)g->held_n;
    }
    g->held_rms = sqrt(g->held_rms);
}

// Find which points are used, the budgets, and the best runs of each.
void group_budgets(Group *g) {
    qsort(g->point, g->n, sizeof *g->point, compare_points);
    judge_points(g);
    find_budgets(g);
    for (size_t i = 0; i < g->n_budgets; i++) best_of_budget(g, &g->budget[i]);
}

// Work out everything about a group.
void fit_group(Group *g) {
    group_budgets(g);
    double *w = alloc_or_die(g->n_use * sizeof *w), t[NP];
    for (size_t i = 0; i < g->n_use; i++) w[i] = 1;
    for (size_t i = 0; i < g->n_budgets; i++) fit_parabola(&g->budget[i], g, w);
    g->iso = budget_law(g->budget, g->n_budgets, OF_SIZE);
    g->best_lr = budget_law(g->budget, g->n_budgets, OF_RATE);
    g->best_batch = budget_law(g->budget, g->n_budgets, OF_BATCH);
    Surface s = surface_make(g->F, g->D, g->loss, g->n_use, fit_opt.fix_E);
    for (int k = 0; k < N_LAW; k++) g->law.v[k] = g->lo.v[k] = g->hi.v[k] = g->se.v[k] = NAN;
    g->has_law = law_possible(&s, w);
    if (g->has_law) {
        g->law = surface_fit(&s, w, MAX_STARTS, t, 0, &g->converged);
        if (fit_opt.draws > 0) bootstrap_group(g, &s, t);
        hold_out(g);
    }
    free(w), free(s.x);
}

// ----------------------------------------------------------------------------
// the report

// The smallest and the largest of n numbers.
void range_of(const double *x, size_t n, double *least, double *greatest) {
    *least = INFINITY, *greatest = -INFINITY;
    for (size_t i = 0; i < n; i++) *least = fmin(*least, x[i]), *greatest = fmax(*greatest, x[i]);
}

// The mean of the exact floor over the used points that tell it; NAN if none does.
double mean_floor(const Group *g) {
    double sum = 0, n = 0;
    for (size_t i = 0; i < g->n_use; i++) {
        double x = g->point[g->use[i]].val_floor;
        if (!isnan(x)) sum += x, n++;
    }
    return n > 0 ? sum / n : NAN;
}

static void print_points(FILE *f, const Group *g) {
    double low, high;
    const size_t *n = g->count;
    fprintf(f, "%s%s%s: %zu points, %zu of them used\n", *g->objective ? g->objective : "all rows",
            *g->data ? " on " : "", g->data, g->n, g->n_use);
    if (fit_opt.all) fprintf(f, "  --all: short runs and runs on the unigram plateau are used too\n");
    else {
        fprintf(f, "  left out (unless --all): %zu with fewer than %d steps, ", n[TOO_SHORT], MIN_STEPS);
        if (isnan(g->plateau))
            fprintf(f, "none for its loss (the unigram plateau is not known; give it with --plateau)\n");
        else
            fprintf(f, "%zu with a loss above 90%% of the unigram plateau (%.4f, %s)\n", n[ON_PLATEAU],
                    g->plateau, g->plateau_from);
    }
    if (n[NOT_BEST])
        fprintf(f, "  left out: %zu that another setting (rate, batch …) beats at the same F and D\n",
                n[NOT_BEST]);
    if (n[COPY]) fprintf(f, "  left out: %zu exact copies of other rows\n", n[COPY]);
    if (g->n_use == 0) return;
    const char *const names[] = {fit_opt.with_head ? "F = F_N + F_head" : "F", "D", "C = F D", "loss"};
    const double *const axis[] = {g->F, g->D, g->C, g->loss};
    for (int k = 0; k < 4; k++) {
        range_of(axis[k], g->n_use, &low, &high);
        fprintf(f, "%s%s %.4g … %.4g", k ? ", " : "  ", names[k], low, high);
    }
    fprintf(f, "\n\n");
}

static void print_law(const Group *g) {
    static const char *const corr_names[NP] = {"E", "log A", "log B", "alpha", "beta"};
    double squares = 0, floor_value = mean_floor(g);
    for (size_t i = 0; i < g->n_use; i++)
        squares += pow(log(law_loss(&g->law, g->F[i], g->D[i]) / g->loss[i]), 2);
    printf("  L = E + A/F^alpha + B/D^beta,  F_opt = G C^a,  D_opt = C^b / G\n");
    printf("  Huber objective %.6g, root-mean-square error of log loss %.3g\n", g->law.huber,
           sqrt(squares / (double)g->n_use));
    printf("  %-6s %12s %12s   %s", "", "value", "std. error", "95% interval");
    if (g->n_draws) printf("  (bootstrap: %zu draws, seed %zu)", g->n_draws, fit_opt.seed);
    printf("\n");
    for (int k = 0; k < N_LAW; k++) {
        if (k == LAW_HUBER) continue;
        printf("  %-6s %12.6g", law_names[k], g->law.v[k]);
        if (k == LAW_E && !isnan(fit_opt.fix_E)) printf("        given");
        else if (g->n_draws)
            printf("%s%*.3g   %.6g … %.6g", by_log(k) ? " log:" : "", by_log(k) ? 8 : 13, g->se.v[k],
                   g->lo.v[k], g->hi.v[k]);
        printf("\n");
    }
    if (!isnan(floor_value)) {
        printf("  the exact floor is %.4f: E - floor = %+.4f", floor_value, g->law.E - floor_value);
        if (g->n_draws) printf(" (%+.4f … %+.4f)", g->lo.E - floor_value, g->hi.E - floor_value);
        printf("\n");
    }
    if (g->n_draws) printf("  correlations  ");
    for (int p = 0, shown = 0; g->n_draws && p < NP; p++)
        for (int q = 0; q < p; q++)
            if (isfinite(g->corr[p][q]))
                printf("%s%s, %s %.2f", shown++ == 0 ? "" : shown == 7 ? ";\n                " : "; ",
                       corr_names[q], corr_names[p], g->corr[p][q]);
    if (g->n_draws) printf("\n");
    if (g->held_n)
        printf("  held out: a fit without C ≥ %.3g predicts its %zu points %+.2f%% off (rms %.2f%%)\n",
               g->budget[g->n_budgets - 1].C, g->held_n, 100 * g->held_mean, 100 * g->held_rms);
    else printf("  held out: nothing; without the largest budget too few points would be left for a fit\n");
}

// Why there is no power law of F_opt, rate or batch: budgets count only if several values were tried there,
// and the best is between two others.
static const char *no_law(const Group *g, int of) {
    size_t tried = 0;
    for (const Budget *b = g->budget; b < g->budget + g->n_budgets; b++)
        tried += (of == OF_SIZE ? b->sizes : of == OF_RATE ? b->lrs : b->batches) > 1;
    if (of != OF_SIZE && tried < 2) return "no power law; it needs two budgets at which several were tried";
    return "no power law; it needs two budgets whose best is not at an edge";
}

static void print_power(const Group *g, const char *name, const PowerLaw *p, int of) {
    if (p->n < 2) {
        printf("  %s: %s\n", name, no_law(g, of));
        return;
    }
    printf("  %s = %.4g C^%.4f", name, p->k, p->exponent);
    if (!isnan(p->exponent_lo)) printf(" (%.4f … %.4f)", p->exponent_lo, p->exponent_hi);
    printf(" from %zu budgets\n", p->n);
}

static void print_parabolas(const Group *g) {
    printf("\n  isoFLOP parabolas in log F\n");
    printf("  %10s %6s %6s %10s %10s %8s\n", "C", "points", "sizes", "F_opt", "D_opt", "loss");
    for (const Budget *b = g->budget; b < g->budget + g->n_budgets; b++) {
        printf("  %10.3g %6zu %6zu ", b->C, b->n_use, b->sizes);
        if (b->open)
            printf("%10s %10s %8s  %s: not used\n", "-", "-", "-",
                   b->sizes < 3 ? "too few sizes" : "no minimum");
        else
            printf("%10.4g %10.4g %8.4f%s\n", b->F_opt, b->D_opt, b->loss,
                   b->edge ? "  at an edge of the sizes: not used" : b->off ? "  off centre: biased" : "");
    }
    PowerLaw F = g->iso, D = {1 / F.k, 1 - F.exponent, 1 - F.exponent_hi, 1 - F.exponent_lo, F.n};
    print_power(g, "F_opt", &F, OF_SIZE), print_power(g, "D_opt", &D, OF_SIZE);
}

static void print_rates(const Group *g) {
    printf("\n  best learning rate and batch (tokens a step) of each budget's best size, of how many tried:\n"
           "  geometric means of the runs within 0.25%% of the lowest loss\n");
    for (const Budget *b = g->budget; b < g->budget + g->n_budgets; b++)
        if (b->lrs && b->batches)
            printf("  %10.3g  rate %8.3g of %zu%-8s  batch %8.0f of %zu%s\n", b->C, b->lr, b->lrs,
                   b->lrs > 1 && b->lr_edge ? ", edge" : "", b->batch_tokens, b->batches,
                   b->batches > 1 && b->batch_edge ? ", edge" : "");
    print_power(g, "rate", &g->best_lr, OF_RATE), print_power(g, "batch", &g->best_batch, OF_BATCH);
}

// Does the law have a best split? (It has none if the loss does not depend on both F and D.)
int has_frontier(const Group *g) { return g->has_law && g->law.G > 0 && isfinite(g->law.G); }

static void print_plan_header(void) {
    printf("\n  %8s %8s %8s %8s %17s %7s %9s %7s %4s %7s %8s %7s %7s %7s\n", "C", "F_opt", "D_opt", "D/F",
           "95% interval", "shape", "params", "D/param", "rows", "steps", "rate", "loss", "F/3", "3F");
}

static void print_plan_line(const Group *g, const Plan *p, double largest) {
    char text[64] = "-";
    double lo, hi;
    ratio_interval(g, NULL, p->C, &lo, &hi);
    if (g->n_draws) snprintf(text, sizeof text, "%.3g … %.3g", lo, hi);
    printf("  %8.2e %8.2e %8.2e %8.3g %*s", p->C, p->F, p->D, p->D / p->F, g->n_draws ? 19 : 17, text);
    snprintf(text, sizeof text, "%zux%zu", p->shape.L, p->shape.C);
    if (p->shape.L)
        printf(" %7s %9zu %7.3g %4zu %7zu %8.2e", text, p->params, p->shape_D / (double)p->params, p->rows,
               p->steps, p->lr);
    else printf(" %7s %9s %7s %4s %7s %8s", "-", "-", "-", "-", "-", "-");
    printf(" %7.4f %+7.4f %+7.4f%s\n", p->loss, p->smaller, p->larger, p->C > 1.1 * largest ? " *" : "");
}

// The C of the plans: from the smallest of the points to ten times the largest, two per decade (or fewer).
// Returns how many.
enum { MAX_PLANS = 17 };
static int plan_budgets(const Group *g, double C[MAX_PLANS]) {
    double low, high;
    range_of(g->C, g->n_use, &low, &high);
    int first = (int)ceil(2 * log10(low) - 0.01), last = (int)floor(2 * log10(10 * high) + 0.01), n = 0;
    for (int k = first, step = 1 + (last - first) / 16; k <= last; k += step) C[n++] = pow(10, k / 2.0);
    return n;
}

static void print_plans(const Group *g) {
    double low, high, C[MAX_PLANS];
    range_of(g->C, g->n_use, &low, &high);
    print_plan_header();
    for (int k = 0, n = plan_budgets(g, C); k < n; k++) {
        Plan p = make_plan(g, C[k]);
        print_plan_line(g, &p, high);
    }
    printf("  F/3, 3F: how much higher the loss is with a third or three times F_opt, at the same C\n"
           "  *: extrapolated beyond the largest C of the points\n");
}

// Print the command that trains a planned run, with an --out that no other plan has.
static void print_command(const Group *g, const Plan *p) {
    char path[PATH_MAX], compute[32], *plus;
    const Point *as = model_run(g);
    int found = find_shard(g, path);
    snprintf(compute, sizeof compute, "%g", p->C);
    if ((plus = strchr(compute, '+'))) memmove(plus, plus + 1, strlen(plus)); // 1e14, not 1e+14
    printf("  ./train_optibert --objective %s --train %s --layers %zu --channels %zu --seq-len %zu",
           g->objective, found ? path : "FILE", p->shape.L, p->shape.C, p->shape.T);
    if (!p->shape.causal && as->mask_rate > 0) printf(" --mask-rate %g", as->mask_rate);
    printf(" --batch %zu --lr %.4g", p->rows, p->lr);
    if (!may_be_equal(as->grad_clip, default_settings.grad_clip)) printf(" --grad-clip %g", as->grad_clip);
    if (!may_be_equal(as->weight_decay, default_settings.weight_decay))
        printf(" --weight-decay %g", as->weight_decay);
    if (fit_opt.with_head) printf(" --tokens %.9g", p->shape_D);
    else printf(" --flops %.9g", p->C);
    printf(" --out best-%s%s%s-%s\n", g->objective, is_plain_name(g->data) ? "-" : "",
           is_plain_name(g->data) ? g->data : "", compute);
    if (!found) printf("  FILE: the training shard of \"%s\", which is not in %s\n", g->data, path);
}

// --predict: one plan and its command.
static void print_prediction(const Group *g) {
    double low, high;
    Plan p = make_plan(g, fit_opt.predict);
    range_of(g->C, g->n_use, &low, &high);
    print_plan_header();
    print_plan_line(g, &p, high);
    if (p.C > 10 * high)
        printf("  warning: this C is more than 10 times the largest of the points, %.3g\n", high);
    if (p.shape.L && (!strcmp(g->objective, "mlm") || !strcmp(g->objective, "ntp"))) print_command(g, &p);
    else printf("  no command: the points do not tell objective, seq_len, vocab and FLOPs per token\n");
}

// Warn of runs that differ in what one law takes for granted. A run that does not tell agrees with any.
static void print_mixed(FILE *f, const Group *g) {
    static const struct { const char *name; size_t offset; } alike[] = {
        {"seq_len", offsetof(Point, seq_len)}, {"vocab", offsetof(Point, vocab)},
        {"mask_rate", offsetof(Point, mask_rate)}, {"grad_clip", offsetof(Point, grad_clip)},
        {"weight_decay", offsetof(Point, weight_decay)}, {"val_rows", offsetof(Point, val_rows)},
        {"val_data", offsetof(Point, val_data)},
        {"the data itself (fingerprint)", offsetof(Point, fingerprint)},
    };
    int any = 0;
    for (size_t k = 0; k < sizeof alike / sizeof *alike; k++) {
        double first = NAN;
        int differ = 0;
        for (const Point *p = g->point; p < g->point + g->n; p++) {
            double x = is_sound(p) ? point_number(p, alike[k].offset) : NAN;
            if (isnan(first)) first = x;
            differ |= !may_be_equal(first, x);
        }
        if (differ) fprintf(f, "%s%s", any++ ? ", " : "  warning: these runs differ in ", alike[k].name);
    }
    if (any) fprintf(f, ": one law may not describe them all\n");
}

// What these points cannot support.
static void print_warnings(FILE *f, const Group *g) {
    double low, high, least;
    size_t again = 0;
    const double *axis[] = {g->F, g->D, g->C};
    print_mixed(f, g);
    if (!g->has_law) return;
    for (int k = 0; k < 3; k++) {
        range_of(axis[k], g->n_use, &low, &high);
        if (high < 10 * low)
            fprintf(f, "  warning: %c spans less than a decade, %.3g … %.3g\n", "FDC"[k], low, high);
    }
    range_of(g->loss, g->n_use, &least, &high);
    for (int k = LAW_ALPHA; k <= LAW_BETA; k++)
        if (g->law.v[k] <= EXPONENT_MIN * 1.0001 || g->law.v[k] >= EXPONENT_MAX * 0.9999)
            fprintf(f, "  warning: %s is at a bound, %g … %g\n", law_names[k], EXPONENT_MIN, EXPONENT_MAX);
    if (g->law.E < 1e-6 * least && isnan(fit_opt.fix_E)) fprintf(f, "  warning: E went to 0\n");
    if (g->law.E >= least) fprintf(f, "  warning: E is above the lowest loss, %.4f\n", least);
    if (g->law.A == 0) fprintf(f, "  warning: A is 0: the loss does not depend on F\n");
    if (g->law.B == 0) fprintf(f, "  warning: B is 0: the loss does not depend on D\n");
    if (!g->converged) fprintf(f, "  warning: the fit did not converge\n");
    if (g->n_use < 12) fprintf(f, "  warning: only %zu points for 5 parameters\n", g->n_use);
    if (g->n_draws < fit_opt.draws)
        fprintf(f, "  warning: only %zu of %zu resamples determine a law\n", g->n_draws, fit_opt.draws);
    for (size_t i = 0; i < g->n_use; i++) again += g->point[g->use[i]].epochs > 4;
    if (again)
        fprintf(f, "  warning: %zu runs read their data more than 4 times: not all of D is new\n", again);
}

// For a group with mlm, the group with ntp on the same data, if both have a best split; else NULL.
static const Group *counterpart(const Fit *fit, size_t i) {
    const Group *g = &fit->group[i], *next = g + 1; // groups are sorted by data, then objective
    if (i + 1 == fit->n || strcmp(g->objective, "mlm") || strcmp(next->objective, "ntp")) return NULL;
    return !strcmp(g->data, next->data) && has_frontier(g) && has_frontier(next) ? next : NULL;
}

// The k-th of RATIOS compute budgets, evenly spaced in log C over the range that both groups have points in;
// NAN if there is no such range.
enum { RATIOS = 4 };
static double shared_budget(const Group *mlm, const Group *ntp, int k) {
    double low[2], high[2];
    range_of(mlm->C, mlm->n_use, &low[0], &high[0]), range_of(ntp->C, ntp->n_use, &low[1], &high[1]);
    double from = fmax(low[0], low[1]), to = fmin(high[0], high[1]);
    return from > to ? NAN : from * pow(to / from, k / (RATIOS - 1.0));
}

// The best data/model ratios of the two objectives on one data set, side by side.
static void print_ratios(const Group *mlm, const Group *ntp) {
    double lo, hi, middle = sqrt(shared_budget(mlm, ntp, 0) * shared_budget(mlm, ntp, RATIOS - 1));
    printf("mlm and ntp%s%s: D_opt/F_opt side by side (the paper: mlm's is 10 to 100 times ntp's)\n",
           *mlm->data ? " on " : "", mlm->data);
    if (isnan(middle)) {
        printf("  no comparison: their ranges of C do not overlap\n\n");
        return;
    }
    printf("  %10s %12s %12s %12s   95%% interval\n", "C", "mlm D/F", "ntp D/F", "quotient");
    for (int k = 0; k < RATIOS; k++) {
        double C = shared_budget(mlm, ntp, k);
        ratio_interval(mlm, ntp, C, &lo, &hi);
        printf("  %10.3g %12.4g %12.4g %12.4g", C, law_ratio(&mlm->law, C), law_ratio(&ntp->law, C),
               law_ratio(&mlm->law, C) / law_ratio(&ntp->law, C));
        if (mlm->n_draws && ntp->n_draws) printf("   %.4g … %.4g", lo, hi);
        printf("\n");
    }
    Plan p = make_plan(mlm, middle), q = make_plan(ntp, middle);
    if (fit_opt.with_head) printf("  F includes the head\n");
    else if (p.shape.L && q.shape.L && model_run(mlm)->mask_rate > 0)
        printf("  F leaves out the head (--with-head includes it): at C = %.3g it is %.0f%% of F_N for mlm, "
               "%.0f%% for ntp\n", p.C,
               flops_per_token_head(&p.shape, model_run(mlm)->mask_rate) / p.shape_F * 100,
               flops_per_token_head(&q.shape, 1) / q.shape_F * 100);
    printf("\n");
}

static void print_group(const Group *g) {
    print_points(stdout, g);
    if (g->has_law) print_law(g);
    else printf("  no law: it needs 5 different (F, D), with 3 different F and D (4 and 2 with --fix-E)\n");
    if (g->n_budgets == 0)
        printf("\n  no isoFLOP parabolas, learning rate or batch: the points do not form budgets\n");
    else if (fit_opt.with_head) printf("\n  no isoFLOP parabolas: with the head, C varies within a budget\n");
    else print_parabolas(g);
    if (g->n_budgets && model_run(g)->lr > 0) print_rates(g);
    if (has_frontier(g)) {
        if (isnan(fit_opt.predict)) print_plans(g);
        else print_prediction(g);
    }
    print_warnings(stdout, g);
    printf("\n");
}

// ----------------------------------------------------------------------------
// JSON: an array with one flat object for each group

static void json_text(FILE *f, const char *text) {
    fputc('"', f);
    for (size_t n; *text; text += MAX(n, 1)) {
        n = utf8_length(text);
        if (*text == '"' || *text == '\\') fprintf(f, "\\%c", *text);
        else if ((unsigned char)*text < ' ') fprintf(f, "\\u%04x", *text);
        else if (n == 0) fputs("\\ufffd", f);
        else fwrite(text, 1, n, f);
    }
    fputc('"', f);
}

__attribute__((format(printf, 3, 4)))
static void json_number(FILE *f, double x, const char *name, ...) {
    va_list args;
    va_start(args, name);
    fprintf(f, ",\n  \""), vfprintf(f, name, args);
    if (isfinite(x)) fprintf(f, "\": %.17g", x);
    else fprintf(f, "\": null");
    va_end(args);
}

static void json_power(FILE *f, const char *name, const PowerLaw *p) {
    json_number(f, p->k, "%s_k", name), json_number(f, p->exponent, "%s_exponent", name);
    json_number(f, p->exponent_lo, "%s_exponent_lo", name);
    json_number(f, p->exponent_hi, "%s_exponent_hi", name);
}

static void json_group(FILE *f, const Group *g) {
    static const char *const corr_names[NP] = {"E", "log_A", "log_B", "alpha", "beta"};
    double low, high;
    fprintf(f, "\n  \"objective\": "), json_text(f, g->objective);
    fprintf(f, ",\n  \"data\": "), json_text(f, g->data);
    for (int k = 0; k < N_LAW; k++) json_number(f, g->law.v[k], "%s", law_names[k]);
    for (int k = 0; k < N_LAW; k++) {
        json_number(f, g->lo.v[k], "%s_lo", law_names[k]), json_number(f, g->hi.v[k], "%s_hi", law_names[k]);
        json_number(f, g->se.v[k], by_log(k) ? "log_%s_se" : "%s_se", law_names[k]);
    }
    for (int p = 0; p < NP; p++)
        for (int q = 0; q < p; q++)
            json_number(f, g->n_draws ? g->corr[p][q] : NAN, "corr_%s_%s", corr_names[q], corr_names[p]);
    json_number(f, (double)g->n, "points"), json_number(f, (double)g->n_use, "points_used");
    json_number(f, (double)g->count[TOO_SHORT], "points_too_short");
    json_number(f, (double)g->count[ON_PLATEAU], "points_on_plateau");
    json_number(f, (double)g->count[NOT_BEST], "points_not_best");
    json_number(f, g->plateau, "plateau"), json_number(f, mean_floor(g), "floor");
    json_number(f, fit_opt.with_head, "with_head"), json_number(f, fit_opt.fix_E, "fix_E");
    json_number(f, (double)g->n_draws, "draws"), json_number(f, (double)fit_opt.seed, "seed");
    range_of(g->C, g->n_use, &low, &high);
    json_number(f, low, "C_min"), json_number(f, high, "C_max");
    json_number(f, g->converged, "converged"), json_number(f, (double)g->held_n, "held_points");
    json_number(f, g->held_n ? g->held_mean : NAN, "held_mean");
    json_number(f, g->held_n ? g->held_rms : NAN, "held_rms");
    json_power(f, "iso", &g->iso), json_power(f, "best_lr", &g->best_lr);
    json_power(f, "best_batch", &g->best_batch);
    for (size_t i = 0; i < g->n_budgets; i++) {
        const Budget *b = &g->budget[i];
        const struct { const char *name; double value; } list[] = {
            {"C", b->C}, {"points", (double)b->n_use}, {"sizes", (double)b->sizes}, {"F_opt", b->F_opt},
            {"D_opt", b->D_opt}, {"loss", b->loss}, {"open", b->open}, {"edge", b->edge}, {"off", b->off},
            {"lr", b->lr}, {"lrs", (double)b->lrs}, {"lr_edge", b->lr_edge}, {"batch", b->batch_tokens},
            {"batches", (double)b->batches}, {"batch_edge", b->batch_edge},
        };
        for (size_t k = 0; k < sizeof list / sizeof *list; k++)
            json_number(f, list[k].value, "budget%zu_%s", i + 1, list[k].name);
    }
}

// The lines of the table of plans.
static void json_plans(FILE *f, const Group *g) {
    double C[MAX_PLANS], lo, hi;
    for (int i = 0, n = plan_budgets(g, C); i < n; i++) {
        Plan p = make_plan(g, C[i]);
        ratio_interval(g, NULL, p.C, &lo, &hi);
        const struct { const char *name; double value; } list[] = {
            {"C", p.C}, {"F_opt", p.F}, {"D_opt", p.D}, {"ratio", p.D / p.F}, {"ratio_lo", lo},
            {"ratio_hi", hi}, {"layers", (double)p.shape.L}, {"channels", (double)p.shape.C},
            {"params", (double)p.params}, {"rows", (double)p.rows}, {"steps", (double)p.steps}, {"lr", p.lr},
            {"loss", p.loss}, {"loss_third", p.loss + p.smaller}, {"loss_triple", p.loss + p.larger},
        };
        for (size_t k = 0; k < sizeof list / sizeof *list; k++)
            json_number(f, list[k].value, "plan%d_%s", i + 1, list[k].name);
    }
}

// The quotients of mlm's ratios by ntp's.
static void json_ratios(FILE *f, const Group *mlm, const Group *ntp) {
    double lo, hi, C;
    for (int k = 0; k < RATIOS && !isnan(C = shared_budget(mlm, ntp, k)); k++) {
        ratio_interval(mlm, ntp, C, &lo, &hi);
        json_number(f, C, "quotient%d_C", k + 1);
        json_number(f, law_ratio(&mlm->law, C) / law_ratio(&ntp->law, C), "quotient%d", k + 1);
        json_number(f, lo, "quotient%d_lo", k + 1), json_number(f, hi, "quotient%d_hi", k + 1);
    }
}

static void write_json(const Fit *fit, const char *path) {
    Writer w;
    writer_open(&w, path);
    for (size_t i = 0; i < fit->n; i++) {
        const Group *g = &fit->group[i], *other = counterpart(fit, i);
        fputs(i ? ", {" : "[{", w.file), json_group(w.file, g);
        if (has_frontier(g)) json_plans(w.file, g);
        if (other) json_ratios(w.file, g, other);
        fputs("\n}", w.file);
    }
    fputs("]\n", w.file);
    writer_close(&w);
}

// ----------------------------------------------------------------------------
// the program

#define TO(field) .offset = offsetof(FitSettings, field)
static Option fit_options[] = {
    {"", FILES, FREE, TO(points), 0, 0, "POINTS", ""},
    {"columns", TEXT, FREE, TO(columns), 0, 0, "F,D,L",
     "names of columns: F or N=params, D or C=compute, and the loss"},
    {"flops-per", REAL, FREE, TO(flops_per), 1e-9, 1e12, "X", "F of one unit of the size (6 for parameters, else 1)"},
    {"objective", TEXT, FREE, TO(objective), 0, 0, "NAME", "only rows with this objective"},
    {"data", TEXT, FREE, TO(data), 0, 0, "NAME", "only rows with this data"},
    {"with-head", FLAG, FREE, TO(with_head), 0, 0, "", "count the head: F is F_N + F_head"},
    {"fix-E", REAL, FREE, TO(fix_E), 0, 1e6, "X", "fix E, at a known floor for example"},
    {"predict", REAL, FREE, TO(predict), 1, 1e40, "C", "the best run at this compute, and its command"},
    {"json", TEXT, FREE, TO(json), 0, 0, "FILE", "write all results at full precision"},
    {"draws", COUNT, FREE, TO(draws), 0, 1e5, "N", "bootstrap resamples (1000; 0: no intervals)"},
    {"seed", COUNT, FREE, TO(seed), 0, 1e15, "N", "of the bootstrap (1)"},
    {"plateau", REAL, FREE, TO(plateau), 1e-6, 1e6, "X", "the unigram plateau: see below"},
    {"all", FLAG, FREE, TO(all), 0, 0, "", "use runs whatever their length and loss"},
    {"help", FLAG, FREE, TO(help), 0, 0, "", "print this list"},
    {0},
};
#undef TO

static const char fit_notes[] =
    "\nRuns of two kinds tell nothing about the law and are left out: those with fewer than 200 steps, and\n"
    "those with a loss above 90% of the unigram plateau, the loss of a run that has learned only how\n"
    "frequent each token is. The plateau is the entropy of the tokens in data/NAME.bin, if that is there.\n"
    "If not, give it with --plateau; without either, ln V is used, which is higher.\n"
    "Of runs that differ only in learning rate, batch, clipping or weight decay, the best one is used (by\n"
    "its mean over seeds).\n";

// Check what concerns several options, and take --columns apart.
static void settle_fit_settings(void) {
    if (fit_opt.points.n == 0) die_usage("no file of loss points; give one or more, or see --help");
    if (!fit_opt.columns) return;
    char *copy = strdup(fit_opt.columns), *name[3] = {NULL};
    static const int place[3] = {COL_F, COL_D, COL_LOSS};
    if (!copy || csv_split(copy, ',', name, 3) != 3 || !*name[0] || !*name[1] || !*name[2])
        die_usage("--columns %s: give three names, of F, D and the loss", fit_opt.columns);
    for (int i = 0; i < 3; i++) {
        int role = place[i], keyed = 0;
        for (int k = 0; k < N_ROLES; k++) {
            if (!strncmp(name[i], roles[k].key, 2)) role = k, keyed = 2;
            else if (!keyed && find_column(&name[i], 1, roles[k].names) == 0) role = k;
        }
        if (fit_opt.column[role])
            die_usage("--columns %s: two are %s; tell them apart, as in F=NAME,D=NAME,L=NAME (or N=, C=)",
                      fit_opt.columns, roles[role].key);
        fit_opt.column[role] = name[i] + keyed;
    }
}

static int compare_groups(const void *a, const void *b) {
    const Group *g = a, *h = b;
    int by_data = strcmp(g->data, h->data);
    return by_data ? by_data : strcmp(g->objective, h->objective);
}

// Read the files and fit every group, sorted by data, then objective.
Fit fit_files(const Files *files) {
    Fit fit = {0};
    for (size_t i = 0; i < files->n; i++) read_points(&fit, files->path[i]);
    if (fit.n == 0)
        die("%s: no points%s", files->path[0], fit_opt.objective || fit_opt.data ?
            " with this objective and data; look at these columns" : "; give a file with some rows");
    qsort(fit.group, fit.n, sizeof *fit.group, compare_groups);
    for (size_t i = 0; i < fit.n; i++) fit_group(&fit.group[i]);
    return fit;
}

int fit_main(int argc, char **argv) {
    size_t laws = 0;
    program = "fit";
    parse_options(fit_options, &fit_opt, argc, argv);
    if (fit_opt.help) {
        printf("usage: fit POINTS… [--option value …]\n\nFit a scaling law to the runs in CSV files.\n\n");
        print_options(fit_options);
        fputs(fit_notes, stdout);
        return 0;
    }
    settle_fit_settings();
    Fit fit = fit_files(&fit_opt.points);
    for (size_t i = 0; i < fit.n; i++) {
        print_group(&fit.group[i]);
        laws += fit.group[i].has_law || fit.group[i].best_lr.n > 0 || fit.group[i].best_batch.n > 0;
    }
    for (size_t i = 0; i < fit.n; i++)
        if (counterpart(&fit, i)) print_ratios(&fit.group[i], counterpart(&fit, i));
    if (fit_opt.json) write_json(&fit, fit_opt.json);
    if (laws == 0)
        die("%s: no group of points determines a law; train runs of more sizes and lengths",
            fit_opt.points.path[0]);
    return 0;
}

#ifndef FIT_NO_MAIN
int main(int argc, char **argv) {
    open_streams();
    set_threads(0);
    return close_stdout(fit_main(argc, argv));
}
#endif
#endif
