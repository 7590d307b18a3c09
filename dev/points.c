/*
Loss points: reads tables of runs, groups them by objective and data, and finds which of them tell something,
the budgets they form, and the rate and batch that each budget does best with. The sweep, which is interested
in rates and batches, and the fit of the law both begin here.
*/
#ifndef POINTS_C
#define POINTS_C
#ifndef OPTIBERT_NO_MAIN
#define OPTIBERT_NO_MAIN
#endif
#include "../train_optibert.c"
#include <ctype.h>
#include <strings.h>

// ----------------------------------------------------------------------------
// points, groups and budgets

enum { MAX_POINTS = 10000, MAX_COLUMNS = 1000, MIN_STEPS = 200 };

// Is a point used for the law, and if not, why not?
enum { USED, TOO_SHORT, ON_PLATEAU, OTHER_SETTING, COPY, N_VERDICTS };

// A range of numbers, or an interval.
typedef struct {
    double lo, hi;
} Range;

static const Range empty_range = {INFINITY, -INFINITY};

// One run, or one point of its learning curve. NAN: the file does not say.
typedef struct {
    double F_N, flops_per_token_head, D, loss; // loss: on the validation set
    double layers, channels, seq_len, vocab, batch_tokens, steps, lr, mask_rate, val_mask_rate, seed;
    double grad_clip, weight_decay, val_floor, val_rows, epochs, budget;
    double val_data, fingerprint; // hashes of these texts, to compare them by
    double F, C;                  // F_N, or with --with-head F_N + F_head; F D
    int verdict;
    size_t cell;                  // if it is sound
    const char *file;
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

// The other columns that are read. ALIKE: those in which all runs of one law should agree.
#define COLUMN(name) {#name, #name, offsetof(Point, name), 0}
#define ALIKE(name) {#name, #name, offsetof(Point, name), 1}
static const struct {
    const char *name, *meaning;
    size_t offset;
    int alike;
} fit_columns[] = {
    COLUMN(flops_per_token_head), COLUMN(layers), COLUMN(channels),
    ALIKE(seq_len), ALIKE(vocab), COLUMN(batch_tokens), COLUMN(steps), COLUMN(lr), ALIKE(mask_rate),
    ALIKE(val_mask_rate), COLUMN(seed), ALIKE(grad_clip), ALIKE(weight_decay), COLUMN(val_floor),
    ALIKE(val_rows), COLUMN(epochs), COLUMN(budget), ALIKE(val_data),
    {"fingerprint", "the data itself (fingerprint)", offsetof(Point, fingerprint), 1},
};
#undef COLUMN
#undef ALIKE
enum { N_FIT_COLUMNS = sizeof fit_columns / sizeof *fit_columns };

// What to read of the tables, and how.
typedef struct {
    const char *columns, *column[N_ROLES]; // --columns, and the name in it of each role; NULL: none
    const char *objective, *data;          // only these rows; NULL: all
    double plateau, flops_per;             // NAN: not given
    int with_head, all;
} Reading;

static Reading reading = {.plateau = NAN, .flops_per = NAN};

// The number at this offset in a point: one of its columns.
static double point_number(const Point *p, size_t offset) {
    return *(const double *)((const char *)p + offset);
}

// The runs that differ only in the seed: the first of them, how many there are, and their mean loss.
typedef struct {
    size_t point, runs;
    double loss;
} Cell;

// E, A, B, alpha, beta of the law; huber: the objective at its minimum; a, b, G: of
// the best split that follows.
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

// How rate and batch were tuned: the best peak rate times √channels by C, the best batch in tokens by D, from
// so many budgets at which several were tried; from fewer than three they are flat. grids: at how many of
// them three rates or batches were tried; without any, plans do not trust them.
typedef struct {
    PowerLaw lr, batch;
    size_t known, grids;
} Rates;

// The points of one compute budget.
typedef struct {
    double C;                  // geometric mean of its used cells
    size_t first, n;           // all its points, in Group.point
    size_t use, n_use, sizes;  // the used cells, in Group.use, and how many different F they have
    double center, c[3];       // the parabola: loss = c0 + c1 z + c2 z², z = log F - center
    double F_opt, D_opt, loss; // at its minimum, or at the end of the sizes that is nearest to it
    int open;                  // it has no minimum
    int edge;                  // its minimum is not inside, or the lowest loss is at an end of the sizes
    int off;                   // its minimum is nearer to an end than to their middle, and so biased
    double F, channels;        // of the best size
    double lr, batch_tokens;   // of the best setting, for that size
    size_t lrs, batches;       // how many were tried at that size …
    int lr_edge, batch_edge;   // … and whether the best one lacks a smaller or a larger neighbour
} Budget;

// The two ways to a best split, F_opt = k C^exponent: from the law, and from the minima of isoFLOP curves.
enum { BY_LAW, BY_MINIMA, N_WAYS };
static const char *const way_names[N_WAYS] = {"law", "minima"};
enum { NEITHER, ONE_WAY, AGREE, DISAGREE }; // how the two compare
static const char *const verdicts[] = {"neither", "one way", "agree", "disagree"};
enum { MAX_ALTERNATIVES = 4 };

// All runs with one objective on one data set, and what follows from them.
typedef struct {
    const char *objective, *data;
    size_t n, n_cells, count[N_VERDICTS];
    Point *point;              // (n) by budget, then F, then D
    Cell *cell;                // (n_cells) in the same order
    double plateau;            // the unigram plateau, or NAN
    const char *plateau_from;
    double noise;              // standard deviation of log loss over seeds …
    size_t repeats;            // … from so many runs more than settings

    size_t n_use;
    size_t *use;               // (n_use) the used cells: a run of each …
    double *F, *D, *C, *loss;  // (n_use) … and its numbers; loss: the mean over seeds
    double *runs;              // (n_use) how many seeds
    double C_min, C_max;       // of the used cells
    size_t n_units, *unit;     // (n_use) what the bootstrap draws together: cells, or all cells of one size
    size_t *stratum;           // (n_units) the budget of each, or n_budgets
    size_t n_budgets;
    Budget *budget;            // (n_budgets) ascending C
    Rates rates;

    const char *refused[N_WAYS]; // why there is no best split this way; NULL: there is one
    PowerLaw split[N_WAYS];
    int verdict;               // of holding the two against each other …
    double apart;              // … whose F_opt are at most so many times apart
    int has_law, converged;    // do the points determine a law; did the descent reach a minimum?
    Law law, lo, hi;           // with 95% intervals
    size_t n_alternatives;
    Law alternative[MAX_ALTERNATIVES]; // other minima of the objective, within noise of the lowest
    size_t n_draws, n_laws;    // bootstrap resamples; those that determine a law
    Law *draw;                 // (n_draws) the law of each, NANs if there is none
    PowerLaw *draw_split[N_WAYS]; // (n_draws)
    size_t held_n;             // the points of the largest budget; 0: the others determine no law
    double held_mean, held_rms; // errors of that law for these points in log loss, predicted - measured
} Group;

typedef struct {
    size_t n, points; // points in all groups
    Group *group;     // (n)
} Fit;

// The text of a file, without a byte-order mark. UTF-16, which spreadsheets write, is known by that mark; of
// its characters only the ASCII ones, which have a byte of 0, are kept.
static char *read_text(const char *path) {
    Reader r;
    reader_open(&r, path);
    size_t n = (size_t)r.size, out = 0;
    unsigned char *text = alloc_or_die(n + 4);
    reader_get(&r, text, n), fclose(r.file);
    int wide = !memcmp(text, "\xff\xfe", 2) || !memcmp(text, "\xfe\xff", 2);
    for (size_t i = wide ? 2 : memcmp(text, "\xef\xbb\xbf", 3) ? 0 : 3; i < n; i += wide ? 2 : 1) {
        unsigned c = !wide ? text[i] : text[i] && text[i + 1] ? '?' : text[i] | text[i + 1];
        text[out++] = (unsigned char)(c ? c : '?');
    }
    text[out] = 0;
    return (char *)text;
}

// The sign between the fields of a table: the first of a semicolon, a tab or a bar in its header, or else a
// comma, or else a blank.
static char find_separator(const char *header) {
    char sign = header[strcspn(header, ";\t|")];
    return sign ? sign : strchr(header, ',') ? ',' : ' ';
}

// Is there nothing more on a line?
static int is_blank(const char *line) { return line[strspn(line, " \t\r")] == 0; }

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
        int last = *line == 0 || (separator == ' ' && is_blank(line));
        while (end > start && isspace((unsigned char)end[-1])) end--;
        *end = 0;
        if (n < max) field[n] = start;
        n++;
        if (last) return n;
    }
}

// Has a table a comma that cannot be there to group digits, so that commas are its decimal points?
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
    size_t n = 0;
    for (const char *s = text; *s; s++) {
        int between = s > text && isdigit((unsigned char)s[-1]) && strspn(s + 1, "0123456789") == 3;
        if (n == sizeof plain - 1) return NAN;
        if (strchr(" _'\xc2\xa0", *s) || (*s == group && between && !strchr(text, 'e'))) continue;
        plain[n++] = *s == point ? '.' : *s;
    }
    plain[n] = 0;
    double x = strtod(plain, &end);
    const char *unit = end > plain && *end ? strchr(units, *end) : NULL;
    if (unit) end++, x *= pow(10, 3.0 + 3.0 * (double)((unit - units) / 2));
    return end > plain && *end == 0 && isfinite(x) ? x : NAN;
}

// The list with room for one element more than the n that it has.
static void *make_room(void *list, size_t n, size_t element) {
    int full = (n & (n - 1)) == 0; // at every power of two
    if (full && !(list = realloc(list, MAX(2 * n, 1) * element))) die("out of memory");
    return list;
}

// The group for this objective and data, made if there is none yet.
static Group *find_group(Fit *fit, const char *objective, const char *data) {
    for (size_t i = 0; i < fit->n; i++) {
        Group *g = &fit->group[i];
        if (!strcmp(g->objective, objective) && !strcmp(g->data, data)) return g;
    }
    fit->group = make_room(fit->group, fit->n, sizeof *fit->group);
    fit->group[fit->n] = (Group){.objective = strdup(objective), .data = strdup(data)};
    return &fit->group[fit->n++];
}

// Add a copy of a point to a group.
static void add_point(Group *g, const Point *p) {
    g->point = make_room(g->point, g->n, sizeof *g->point);
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

// How a table is written, the numbers of the columns that we read (n for one that it does not have), and what
// was odd about its rows.
typedef struct {
    char separator, point; // of fields, and of decimals
    size_t n, role[N_ROLES], number[N_FIT_COLUMNS], objective, data;
    size_t rows, bad, first_bad, negative, fractions, compute;
} Table;

// A table lacks a column: say which, what it has, and what to do.
__attribute__((noreturn))
static void die_missing(const char *path, const char *what, char **field, size_t n) {
    char list[400] = "";
    for (size_t k = 0, used = 0; k < n && used < sizeof list - 60; k++)
        used += (size_t)snprintf(list + used, 60, "%s%.50s", k ? ", " : "", field[k]);
    for (char *c = list; *c; c++)
        if ((unsigned char)*c < ' ') *c = '?';
    die("%s: no column %s among: %s; name yours, as in --columns N=size,D=tokens,L=loss (F: FLOPs per token; "
        "N: parameters; D: tokens; C: total FLOPs; L: loss)", path, what, list);
}

// Find our columns in the first line of a table; with `commas` its decimals may have them.
static Table read_header(const char *path, char *line, int commas) {
    char *field[MAX_COLUMNS], name[100];
    int has[N_ROLES];
    Table t = {.separator = find_separator(line), .point = commas && find_separator(line) != ',' ? ',' : '.'};
    size_t n = t.n = csv_split(line, t.separator, field, MAX_COLUMNS);
    if (n > MAX_COLUMNS) die("%s: more than %d columns; give a file of loss points", path, MAX_COLUMNS);
    t.objective = find_column(field, n, "objective"), t.data = find_column(field, n, "data");
    for (int k = 0; k < N_ROLES; k++) {
        const char *named = reading.column[k];
        t.role[k] = reading.columns && !named ? n : find_column(field, n, named ? named : roles[k].names);
        has[k] = t.role[k] < n;
        if (!named || has[k]) continue;
        snprintf(name, sizeof name, "\"%s\"", named), die_missing(path, name, field, n);
    }
    int size = has[COL_F] || has[COL_N];
    if (!has[COL_LOSS]) die_missing(path, "of losses", field, n);
    if (size + has[COL_D] + has[COL_C] < 2) die_missing(path, size ? "of tokens" : "of sizes", field, n);
    for (int k = 0; k < N_FIT_COLUMNS; k++) t.number[k] = find_column(field, n, fit_columns[k].name);
    if (reading.with_head && t.number[0] == n)
        die("%s: no column \"%s\"; leave out --with-head", path, fit_columns[0].name);
    return t;
}

// Read the fields of a row. Returns 0 if F, D or the loss is not a positive number. Any other field that is
// not a number counts as missing.
static int read_point(Point *p, const Table *t, char **field) {
    double role[N_ROLES], per = reading.flops_per;
    for (int k = 0; k < N_ROLES; k++)
        role[k] = t->role[k] < t->n ? csv_number(field[t->role[k]], t->point) : NAN;
    for (int k = 0; k < N_FIT_COLUMNS; k++) {
        size_t offset = fit_columns[k].offset;
        const char *text = t->number[k] < t->n ? field[t->number[k]] : "";
        double x = csv_number(text, t->point);
        if (*text && (offset == offsetof(Point, val_data) || offset == offsetof(Point, fingerprint)))
            x = (double)(checksum_add(CHECKSUM_START, text, strlen(text)) >> 11);
        *(double *)((char *)p + offset) = x;
    }
    p->F_N = t->role[COL_F] < t->n ? role[COL_F] * (isnan(per) ? 1 : per) :
             t->role[COL_N] < t->n ? role[COL_N] * (isnan(per) ? 6 : per) : role[COL_C] / role[COL_D];
    p->D = t->role[COL_D] < t->n ? role[COL_D] : role[COL_C] / p->F_N, p->loss = role[COL_LOSS];
    p->F = p->F_N + (reading.with_head ? p->flops_per_token_head : 0), p->C = p->F * p->D, p->verdict = USED;
    return p->F > 0 && p->D > 0 && p->loss > 0 && isfinite(p->C);
}

// Say on stderr what is odd about a table.
static void note_oddities(const char *path, const Table *t) {
    const char *said[] = {
        t->role[COL_F] == t->n && t->role[COL_N] < t->n && isnan(reading.flops_per) ?
            "sizes are parameters: F = 6 N (--flops-per says otherwise)" : NULL,
        t->fractions ? "steps do not count steps (fractions, or 5e7 tokens in each): not read" : NULL,
        2 * t->compute > t->rows ?
            "D is over 10^7 times F: if it is the compute, say so with --columns …,C=NAME" : NULL,
        t->negative ? "some losses are 0 or less: the law is of their logarithms; give losses in nats, not "
                      "normalised ones" : NULL,
    };
    for (int k = 0; k < 4; k++)
        if (said[k]) fprintf(stderr, "%s: %s: %s\n", program, path, said[k]);
    if (t->bad)
        fprintf(stderr, "%s: %s: skipped %zu rows, the first on line %zu: each needs %zu fields, with "
                "positive numbers for F, D and the loss\n", program, path, t->bad, t->first_bad, t->n);
}

// Read a row of a table, and add it to the points of its group.
static void read_row(Fit *fit, const char *path, Table *t, char *line, size_t number) {
    char *field[MAX_COLUMNS];
    Point p;
    int whole = csv_split(line, t->separator, field, MAX_COLUMNS) == t->n;
    const char *objective = whole && t->objective < t->n ? field[t->objective] : "";
    const char *data = whole && t->data < t->n ? field[t->data] : "";
    if (whole && reading.objective && strcmp(objective, reading.objective)) return;
    if (whole && reading.data && strcmp(data, reading.data)) return;
    if (!whole || !read_point(&p, t, field)) {
        t->negative += whole && p.F > 0 && p.D > 0 && p.loss <= 0;
        if (t->bad++ == 0) t->first_bad = number;
        return;
    }
    if (fit->points++ == MAX_POINTS)
        die("%s: more than %d points; select some with --objective and --data, or remove rows", path,
            MAX_POINTS);
    int no_steps = p.steps > 0 && (p.steps != rint(p.steps) || p.D > 5e7 * p.steps);
    t->rows++, t->compute += p.D > 1e7 * p.F, t->fractions += no_steps;
    p.file = path, add_point(find_group(fit, objective, data), &p);
}

// Add the rows of a table, whose first line names the columns, to the points of their groups. Empty lines and
// comments (# …) do not count.
void read_points(Fit *fit, const char *path) {
    Table t = {0};
    char *text = read_text(path), *rest = text, *line;
    int commas = has_decimal_commas(text);
    for (size_t number = 1; (line = strsep(&rest, "\n")); number++) {
        line += strspn(line, " ");
        if (is_blank(line) || *line == '#') continue;
        if (t.n == 0) t = read_header(path, line, commas);
        else read_row(fit, path, &t, line, number);
    }
    if (t.n == 0) die("%s: empty; give a file of loss points", path);
    for (size_t i = 0; i < fit->n && t.fractions; i++)
        for (Point *p = fit->group[i].point; p < fit->group[i].point + fit->group[i].n; p++)
            if (p->file == path) p->steps = NAN;
    note_oddities(path, &t);
    free(text);
}

// Take --columns apart. A name without a key has its usual role, or else that of its place.
void read_columns(void) {
    char *copy = strdup(reading.columns), *name[3] = {NULL};
    static const int place[3] = {COL_F, COL_D, COL_LOSS};
    if (!copy || csv_split(copy, ',', name, 3) != 3 || !*name[0] || !*name[1] || !*name[2])
        die_usage("--columns %s: give three names, of F, D and the loss", reading.columns);
    for (int i = 0; i < 3; i++) {
        int role = place[i], keyed = 0;
        for (int k = 0; k < N_ROLES; k++) {
            if (!strncmp(name[i], roles[k].key, 2)) role = k, keyed = 2;
            else if (!keyed && find_column(&name[i], 1, roles[k].names) == 0) role = k;
        }
        if (reading.column[role])
            die_usage("--columns %s: two are %s; tell them apart, as in F=NAME,D=NAME,L=NAME (or N=, C=)",
                      reading.columns, roles[role].key);
        reading.column[role] = name[i] + keyed;
    }
}

// Groups in order of their data, then objective.
static int compare_groups(const void *a, const void *b) {
    const Group *g = a, *h = b;
    return strcmp(g->data, h->data) ?: strcmp(g->objective, h->objective);
}

// Read these files; the groups are sorted by data, then objective.
Fit read_files(const Files *files) {
    Fit fit = {0};
    for (size_t i = 0; i < files->n; i++) read_points(&fit, files->path[i]);
    if (fit.n == 0)
        die("%s: no points%s", files->path[0], reading.objective || reading.data ?
            " with this objective and data; look at these columns" : "; give a file with some rows");
    qsort(fit.group, fit.n, sizeof *fit.group, compare_groups);
    return fit;
}

// ----------------------------------------------------------------------------
// power laws

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

// Widen a range so that it includes x, unless x is NAN or infinite.
static void range_add(Range *r, double x) {
    if (isfinite(x)) r->lo = fmin(r->lo, x), r->hi = fmax(r->hi, x);
}

// The smallest and the largest of n numbers.
static Range range_of(const double *x, size_t n) {
    Range r = empty_range;
    for (size_t i = 0; i < n; i++) range_add(&r, x[i]);
    return r;
}

// ----------------------------------------------------------------------------
// groups: which points are used, and the budgets

// The compute that a point was trained for, as far as is known.
static double budget_key(const Point *p) { return p->budget > 0 ? p->budget : p->C; }

// Points in order of their budget, then F, D, setting, seed and loss.
static int compare_points(const void *a, const void *b) {
    const Point *p = a, *q = b;
    double x[] = {budget_key(p), p->F, p->D, p->lr, p->batch_tokens, p->seed, p->loss};
    double y[] = {budget_key(q), q->F, q->D, q->lr, q->batch_tokens, q->seed, q->loss};
    for (int k = 0; k < 7; k++)
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
// show it (the highest loss in a good set is a good point). So it is what --plateau says, or the entropy of the
// training shard, or else ln V. That is an upper bound, so too few points may be left out but never too many.
static void find_plateau(Group *g) {
    char path[PATH_MAX];
    double V = g->point[0].vocab;
    g->plateau = reading.plateau, g->plateau_from = "given";
    if (isnan(g->plateau) && V >= 2 && find_shard(g, path))
        g->plateau = unigram_entropy(path, (size_t)V, !strcmp(g->objective, "ntp")),
        g->plateau_from = "from the training shard";
    if (isnan(g->plateau) && V >= 2) g->plateau = log(V), g->plateau_from = "at most: ln V";
}

// Are two numbers equal, where NAN is one too? And are they as far as is known?
static int same_number(double a, double b) { return a == b || (isnan(a) && isnan(b)); }
int may_be_equal(double a, double b) { return a == b || isnan(a) || isnan(b); }

// Do two runs of the same size and data differ in nothing that may make one better? (What a file does not
// tell is not assumed.)
static int same_setting(const Point *p, const Point *q) {
    return same_number(p->lr, q->lr) && same_number(p->batch_tokens, q->batch_tokens) &&
           same_number(p->grad_clip, q->grad_clip) && same_number(p->weight_decay, q->weight_decay);
}

// Not a copy, not too short and not on the plateau.
static int is_sound(const Point *p) { return p->verdict == USED || p->verdict == OTHER_SETTING; }

// Find the copies, and the runs that tell nothing.
static void find_unsound(Group *g) {
    find_plateau(g);
    for (size_t i = 0; i < g->n; i++) {
        Point *p = &g->point[i];
        if (i && !memcmp(p, p - 1, offsetof(Point, verdict))) p->verdict = COPY;
        else if (reading.all) continue;
        else if (p->steps < MIN_STEPS) p->verdict = TOO_SHORT;
        else if (p->loss > 0.9 * g->plateau) p->verdict = ON_PLATEAU;
    }
}

// Gather the sound runs that differ only in the seed into cells, and see how much seeds differ.
static void make_cells(Group *g) {
    double squares = 0, sound = 0;
    g->cell = alloc_or_die(g->n * sizeof *g->cell);
    for (size_t i = 0; i < g->n; i++) {
        Point *p = &g->point[i];
        if (!is_sound(p)) continue;
        p->cell = g->n_cells;
        for (const Point *q = p; q > g->point && q[-1].F == p->F && q[-1].D == p->D; q--)
            if (is_sound(&q[-1]) && same_setting(p, &q[-1])) p->cell = q[-1].cell;
        Cell *c = &g->cell[p->cell];
        if (p->cell == g->n_cells) g->n_cells++, c->point = i;
        c->runs++, c->loss += p->loss, sound++;
    }
    for (Cell *c = g->cell; c < g->cell + g->n_cells; c++) c->loss /= (double)c->runs;
    for (const Point *p = g->point; p < g->point + g->n; p++)
        if (is_sound(p)) squares += pow(log(p->loss / g->cell[p->cell].loss), 2);
    g->repeats = (size_t)sound - g->n_cells, g->noise = sqrt(squares / (double)g->repeats);
}

// A budget is three or more points, at least one of them sound, with the same number in the budget column (or
// the same F D, if there is no such column). Without such a column, numbers may also be near: within 2% from
// one to the next and 10% in all, with no other point within 20% and three different F among the sound ones.
// So points scattered at random have no budgets.
static void find_budgets(Group *g) {
    g->budget = alloc_or_die((g->n / 3 + 1) * sizeof *g->budget);
    for (size_t i = 0, end; i < g->n; i = end) {
        Budget b = {.first = i};
        double from = budget_key(&g->point[i]), to = from, next = INFINITY;
        double before = i ? budget_key(&g->point[i - 1]) : 0;
        size_t sound = 0;
        for (end = i + 1; end < g->n; end++, to = next, next = INFINITY)
            if ((next = budget_key(&g->point[end])) > 1.02 * to) break;
        b.n = end - i;
        for (const Point *p = g->point + i, *q; p < g->point + end; sound += is_sound(p++)) {
            for (q = g->point + i; q < p && !(is_sound(q) && fabs(q->F / p->F - 1) < 1e-9);) q++;
            b.sizes += q == p && is_sound(p);
        }
        int alone = to < 1.1 * from && before < from / 1.2 && next > 1.2 * to;
        int is_one = from == to ? b.n >= 3 : b.sizes >= 3 && alone;
        if (is_one && sound > 0) g->budget[g->n_budgets++] = b;
    }
}

// How many different positive values a column has in the points with this F. *edge: x has no smaller or no
// larger one beside it.
static size_t count_tried(const Point *all, size_t n, double F, size_t offset, double x, int *edge) {
    size_t count = 0;
    int less = 0, more = 0;
    for (size_t i = 0; i < n; i++) {
        double value = point_number(&all[i], offset);
        if (all[i].F != F || !(value > 0)) continue;
        int is_new = 1;
        for (size_t j = 0; j < i; j++) is_new &= all[j].F != F || point_number(&all[j], offset) != value;
        count += (size_t)is_new, less |= value < x * (1 - 1e-9), more |= value > x * (1 + 1e-9);
    }
    *edge = !less || !more;
    return count;
}

// A peak rate as it would be at one channel, since the best one falls as 1/√channels (see dev/README.md).
static double bare_rate(const Point *p) { return p->lr * (p->channels > 0 ? sqrt(p->channels) : 1); }

// How far a setting is from another, in logs.
static double setting_gap(const Point *p, const Point *q) {
    double lr = fabs(log(bare_rate(p) / bare_rate(q))), batch = fabs(log(p->batch_tokens / q->batch_tokens));
    return (isnan(lr) ? 0 : lr) + (isnan(batch) ? 0 : batch) + 9 * !same_number(p->grad_clip, q->grad_clip) +
           9 * !same_number(p->weight_decay, q->weight_decay);
}

// Of the cells of one size that begin with number i, the one whose setting is nearest to that of p, among
// those with most seeds: one lucky seed must not beat the mean of three. *end: where the next size begins.
static size_t nearest_cell(const Group *g, size_t i, size_t limit, const Point *p, size_t *end) {
    size_t best = i, most = 0;
    double least = INFINITY, F = g->point[g->cell[i].point].F;
    for (*end = i; *end < limit && g->point[g->cell[*end].point].F == F; ++*end)
        most = MAX(most, g->cell[*end].runs);
    for (size_t k = i; k < *end; k++) {
        double gap = setting_gap(&g->point[g->cell[k].point], p);
        if (g->cell[k].runs == most && gap < least) least = gap, best = k;
    }
    return best;
}

// The mean log loss of a budget's cells [from, to) if each size has the cell nearest to the setting of p;
// infinite if the size of cell `own`, which has it, has another cell with more seeds.
static double setting_loss(const Group *g, size_t from, size_t to, const Point *p, size_t own) {
    double sum = 0, sizes = 0;
    for (size_t i = from, end; i < to; i = end, sizes++) {
        const Cell *c = &g->cell[nearest_cell(g, i, to, p, &end)];
        sum += i <= own && own < end && c->runs > g->cell[own].runs ? INFINITY : log(c->loss);
    }
    return sum / sizes;
}

// The setting of a budget's cells [from, to), as of a made-up run: the one with the best mean over seeds and
// sizes. The loss is so flat around its minimum that noise would choose, so it is the geometric mean of all
// within 0.25% of the best, as in DeepSeek LLM (arXiv 2401.02954, section 3.1).
static Point best_setting(const Group *g, size_t from, size_t to) {
    double *mean = alloc_or_die(to * sizeof *mean), least = INFINITY, lr = 0, batch = 0, near = 0;
    Point best = {0};
    for (size_t i = from; i < to; i++) {
        const Point *p = &g->point[g->cell[i].point];
        mean[i] = setting_loss(g, from, to, p, i);
        if (mean[i] < least) least = mean[i], best = *p;
    }
    for (size_t i = from; i < to; i++) {
        const Point *p = &g->point[g->cell[i].point];
        if (mean[i] <= least + 0.0025) lr += log(bare_rate(p)), batch += log(p->batch_tokens), near++;
    }
    best.lr *= exp(lr / near) / bare_rate(&best), best.batch_tokens = exp(batch / near);
    free(mean);
    return best;
}

// Choose one rate and batch for a budget, and use it at every size: the best of several at each size would
// flatter the sizes at which more were tried.
static void choose_setting(Group *g, Budget *b) {
    size_t from = SIZE_MAX, to = 0, end;
    Point *all = g->point + b->first;
    const Point *best = NULL;
    double least = INFINITY;
    for (Point *p = all; p < all + b->n; p++)
        if (is_sound(p)) from = MIN(from, p->cell), to = MAX(to, p->cell + 1);
    Point want = best_setting(g, from, to);
    for (size_t i = from; i < to; i = end) {
        const Cell *c = &g->cell[nearest_cell(g, i, to, &want, &end)];
        const Point *chosen = &g->point[c->point];
        if (c->loss < least) least = c->loss, best = chosen;
        for (Point *p = all; p < all + b->n; p++)
            if (p->F == chosen->F && is_sound(p) && !same_setting(p, chosen)) p->verdict = OTHER_SETTING;
    }
    b->F = best->F, b->channels = best->channels, b->batch_tokens = want.batch_tokens;
    b->lr = best->lr * bare_rate(&want) / bare_rate(best);
    b->lrs = count_tried(all, b->n, b->F, offsetof(Point, lr), b->lr, &b->lr_edge);
    b->batches = count_tried(all, b->n, b->F, offsetof(Point, batch_tokens), b->batch_tokens, &b->batch_edge);
}

// Of points without a budget, drop those that another setting beats on (nearly) the same size and data.
static void drop_beaten(Group *g) {
    for (Point *p = g->point; p < g->point + g->n; p++)
        for (Point *next = p; p->verdict == USED && next > g->point && next[-1].C > 0.97 * p->C; next--) {
            Point *q = next - 1;
            int rivals = q->verdict == USED && p->F == q->F && fabs(log(p->D / q->D)) <= 0.02;
            if (!rivals || same_setting(p, q)) continue;
            const Cell *a = &g->cell[p->cell], *b = &g->cell[q->cell];
            int worse = a->runs < b->runs || (a->runs == b->runs && a->loss > b->loss);
            (worse ? p : q)->verdict = OTHER_SETTING;
        }
}

// Gather the cells that are used, and find each budget's among them.
static void gather_used(Group *g) {
    double **column[] = {&g->F, &g->D, &g->C, &g->loss, &g->runs};
    for (int k = 0; k < 5; k++) *column[k] = alloc_or_die(g->n_cells * sizeof **column[k]);
    g->use = alloc_or_die(g->n_cells * sizeof *g->use);
    for (const Point *p = g->point; p < g->point + g->n; p++) g->count[p->verdict]++;
    for (const Cell *c = g->cell; c < g->cell + g->n_cells; c++) {
        const Point *p = &g->point[c->point];
        if (p->verdict != USED) continue;
        size_t i = g->n_use++;
        g->use[i] = c->point, g->F[i] = p->F, g->D[i] = p->D, g->C[i] = p->C;
        g->loss[i] = c->loss, g->runs[i] = (double)c->runs;
    }
    for (Budget *b = g->budget; b < g->budget + g->n_budgets; b++) {
        while (b->use < g->n_use && g->use[b->use] < b->first) b->use++;
        for (size_t i = b->use; i < g->n_use && g->use[i] < b->first + b->n; i++)
            b->n_use++, b->C += log(g->C[i]);
        b->C = exp(b->C / (double)b->n_use);
    }
    g->C_min = range_of(g->C, g->n_use).lo, g->C_max = range_of(g->C, g->n_use).hi;
}

// See Rates.
Rates tuned_rates(const Group *g) {
    size_t n = g->n_budgets;
    double C[n + 1], D[n + 1], lr[n + 1], batch[n + 1], w[n + 1];
    Rates r = {no_power_law, no_power_law, 0, 0};
    for (size_t i = 0; i < n; i++) {
        const Budget *b = &g->budget[i];
        C[i] = b->C, D[i] = b->C / b->F, lr[i] = b->lr * sqrt(b->channels), batch[i] = b->batch_tokens;
        w[i] = (b->lrs > 1 || b->batches > 1) && lr[i] > 0 && batch[i] > 0;
        r.known += w[i] > 0, r.grids += w[i] > 0 && (b->lrs > 2 || b->batches > 2);
    }
    for (size_t i = 0; i < n && r.known < 3; i++) C[i] = D[i] = 1;
    r.lr = power_law(C, lr, w, n), r.batch = power_law(D, batch, w, n);
    return r;
}

// Find which points are used, the budgets, and the best setting of each.
void group_budgets(Group *g) {
    qsort(g->point, g->n, sizeof *g->point, compare_points);
    find_unsound(g), make_cells(g), find_budgets(g);
    for (Budget *b = g->budget; b < g->budget + g->n_budgets; b++) choose_setting(g, b);
    drop_beaten(g), gather_used(g);
    g->rates = tuned_rates(g);
}

// ----------------------------------------------------------------------------
// what was found, in words

// The mean of the exact floor over the used points that tell it; NAN if none does.
double mean_floor(const Group *g) {
    double sum = 0, n = 0;
    for (size_t i = 0; i < g->n_use; i++) {
        double x = g->point[g->use[i]].val_floor;
        if (!isnan(x)) sum += x, n++;
    }
    return n > 0 ? sum / n : NAN;
}

// Write which points there are, and why some are left out.
void print_points(FILE *f, const Group *g) {
    const size_t *n = g->count;
    fprintf(f, "%s%s%s: %zu points, %zu of them used", *g->objective ? g->objective : "all rows",
            *g->data ? " on " : "", g->data, g->n, n[USED]);
    if (n[USED] > g->n_use) fprintf(f, ", as %zu means over seeds", g->n_use);
    fprintf(f, "\n  left out%s: %zu with fewer than %d steps, ", reading.all ? "" : " (unless --all)",
            n[TOO_SHORT], MIN_STEPS);
    if (isnan(g->plateau))
        fprintf(f, "none for its loss (the unigram plateau is not known; give it with --plateau)\n");
    else fprintf(f, "%zu with a loss above 90%% of the unigram plateau (%.4f, %s)\n", n[ON_PLATEAU],
                 g->plateau, g->plateau_from);
    if (n[OTHER_SETTING]) fprintf(f, "  left out: %zu of a rate or batch not chosen\n", n[OTHER_SETTING]);
    if (n[COPY]) fprintf(f, "  left out: %zu exact copies of other rows\n", n[COPY]);
    const char *const names[] = {reading.with_head ? "F = F_N + F_head" : "F", "D", "C = F D", "loss"};
    const double *const axis[] = {g->F, g->D, g->C, g->loss};
    for (int k = 0; k < 4 && g->n_use > 0; k++) {
        Range r = range_of(axis[k], g->n_use);
        fprintf(f, "%s%s %.4g … %.4g%s", k ? ", " : "  ", names[k], r.lo, r.hi, k == 3 ? "\n" : "");
    }
}

// Warn of runs that differ in what one law takes for granted. A run that does not tell agrees with any.
void print_mixed(FILE *f, const Group *g) {
    int any = 0;
    for (int k = 0; k < N_FIT_COLUMNS; k++) {
        Range r = empty_range;
        for (const Point *p = g->point; p < g->point + g->n && fit_columns[k].alike; p++)
            if (is_sound(p)) range_add(&r, point_number(p, fit_columns[k].offset));
        if (r.lo < r.hi)
            fprintf(f, "%s%s", any++ ? ", " : "  warning: these runs differ in ", fit_columns[k].meaning);
    }
    if (any) fprintf(f, ": one law may not describe them all\n");
}

// ----------------------------------------------------------------------------
// sizes

// A number with this many significant digits.
double rounded(double x, int digits) {
    char text[32];
    snprintf(text, sizeof text, "%.*g", digits, x);
    return strtod(text, NULL);
}

// The rows in a step of a run of this many tokens: as wanted, but few enough for MIN_STEPS, and so many that
// a step without a masked token, which cannot be trained on, comes once in 10^9 steps. (mask_rate 1: ntp)
size_t choose_rows(double want, double tokens, double T, double mask_rate) {
    double least = mask_rate < 1 ? fmin(1e6, ceil(log(1e-9) / log1p(-mask_rate) / T)) : 1;
    return (size_t)fmax(fmax(1, least), floor(fmin(want, tokens / T / MIN_STEPS)));
}
#endif
