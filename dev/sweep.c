/*
The compute sweep: trains many small models at fixed compute budgets. Each leaves one row in a file of loss
points, from which dev/fit finds the scaling law.

For each budget C and each model size, F_N FLOPs a token, the training tokens follow: D = C / F_N. Each run is
a child process, `train_optibert --flops C … --points FILE --out DIR/NAME`, and all that is known about it
stands in its row and in its folder. So a sweep can be killed and started again at any time, and several can
share the work.

    dev/sweep                                          the default sweep: about ten minutes on two cores
    dev/sweep --stage lr                               first, learning rates and batches: lr.csv
    dev/sweep --flops 1e12,1e13 --objective mlm,ntp    other budgets, both objectives
    dev/sweep --dry-run | OMP_NUM_THREADS=1 parallel   print the commands, for others to run
    dev/sweep -- --train data/books_train.bin          other options of the trainer
*/
#ifndef SWEEP_C
#define SWEEP_C
#ifndef FIT_NO_MAIN
#define FIT_NO_MAIN
#endif
#include "fit.c"
#include <sys/ioctl.h>
#include <sys/wait.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

// ----------------------------------------------------------------------------
// what is swept

typedef struct {
    size_t L, C; // layers, channels
} Shape;

// Sizes to choose from, F_N about 1.5 times from each to the next. Width grows from 16 channels, and depth
// with it from two layers (models with one stall), to BERT-base's shape. Default heads divide every width.
static const Shape ladder[] = {
    {2, 16},  {2, 24},  {2, 32},  {2, 40},  {2, 48},  {2, 64},  {2, 80},  {2, 96},
    {2, 128}, {3, 128}, {3, 160}, {3, 192}, {4, 192}, {4, 224}, {5, 256}, {6, 288},
    {6, 352}, {7, 384}, {7, 448}, {8, 512}, {9, 576}, {11, 640}, {12, 768},
};
enum { N_LADDER = sizeof ladder / sizeof *ladder };

enum { MOST = 64 }; // values in a list of the command line

typedef struct {
    size_t n;
    double x[MOST];
} List;

// The command line.
typedef struct {
    List flops, lr, batch, mask_rate, seed;
    const char *objectives[2];
    size_t n_objectives;
    Shape sizes[MOST];
    size_t n_sizes;      // 0: --sizes auto
    size_t children;     // at once
    int lr_stage, dry_run;
    const char *points, *lr_points, *out;
    char **passed;       // (n_passed) options for the trainer, behind --
    int n_passed;
} SweepPlan;

// Runs that differ in size alone: one isoFLOP curve.
typedef struct {
    const char *objective;
    double budget, lr, batch, mask_rate; // lr and batch: 0 for what suits the size
    double factor;                       // the learning rate that suits is multiplied by this
    size_t seed;
    int at_end;                          // 1 once it is said that its best size is at the ladder's end
} Series;

enum { WAITING, RUNNING, DONE, FAILED };
typedef struct {
    Series *series;
    size_t size;             // which of the shapes
    Config c;
    double lr;
    size_t batch, steps;
    char dir[1024];          // its folder
    char key[512], end[512]; // how its row begins and ends
    int state;
    double loss;             // of a run that is done: on the validation rows
    double part, before;     // of its steps, the part that is done, and that was done when we started it
    pid_t pid;
    int lock;                // file descriptor, while it runs
} Job;

typedef struct {
    SweepPlan plan;
    Run run;                  // the data; shape and mask rate are those of the run settled last
    const Shape *shapes;      // (n_shapes)
    size_t n_shapes, heads;   // heads: 0 unless given behind --
    char trainer[PATH_MAX];
    char prefix[256];         // in folders' names: the options behind -- that decide a run's numbers
    PowerLaw lr[2], batch[2]; // of mlm, ntp: the best rate times √channels, by C; the best batch, by tokens D
    Series *series;           // (n_series)
    size_t n_series;
    Job *jobs;                // (n_jobs)
    size_t n_jobs;
    double began, work;       // when training began; FLOPs of the runs that ended since
} Sweep;

// A number as commands and rows have it, with so many digits.
static double rounded(double x, int digits) {
    char text[32];
    snprintf(text, sizeof text, "%.*g", digits, x);
    return strtod(text, NULL);
}

static int causal(const Series *s) { return strcmp(s->objective, "ntp") == 0; }

// ----------------------------------------------------------------------------
// what a run is trained with

// A run's first steps lie on a plateau: one with fewer steps than this says nothing.
enum { ENOUGH_STEPS = 200 };

// Default batch and learning rate are measured on the village, mlm. Where tokens are few, many small steps do
// better than few large ones: validation loss of 2x24 at C = 1e11, and the best of four peak rates,
//     rows x steps   2 x 2493   4 x 1247   8 x 623   16 x 312   32 x 156
//     loss             2.078      1.924      1.978     2.225      2.951
//     at rate          0.01       0.02       0.02      0.02       0.04 (the largest tried)
// hence about 1,000 steps, of 32 rows at most. default_lr was measured with 32 rows; the best rate falls
// about as the fourth root of the batch (2x64 at 1e11, one row: 0.004, where default_lr is 0.0078).
enum { DEFAULT_BATCH = 32, DEFAULT_STEPS = 1000 };

// Rows of a step for a run of so many tokens: never so many that the steps are too few; at least one, and as
// many as mlm needs not to meet a step without a masked token, which cannot be trained (once in 10^9).
static size_t choose_batch(const Sweep *s, const Series *series, double tokens) {
    const PowerLaw *law = &s->batch[causal(series)];
    double T = (double)s->run.c.T, rows = tokens / T, want = fmin(DEFAULT_BATCH, rows / DEFAULT_STEPS);
    double least = causal(series) ? 1 : ceil(log(1e-9) / log1p(-series->mask_rate) / T);
    if (series->batch > 0) return (size_t)series->batch;
    if (law->n > 0) want = rint(fmin(power_at(law, tokens) / T, 1e6));
    return (size_t)fmax(fmax(1, least), floor(fmin(want, rows / ENOUGH_STEPS)));
}

static double choose_lr(const Sweep *s, const Series *series, size_t channels, size_t batch, double tokens) {
    int k = causal(series);
    double rate = default_lr(channels), at_batch = DEFAULT_BATCH;
    if (series->lr > 0) return series->lr;
    if (s->lr[k].n > 0) {
        rate = power_at(&s->lr[k], series->budget) / sqrt((double)channels);
        at_batch = power_at(&s->batch[k], tokens) / (double)s->run.c.T;
    }
    return rounded(series->factor * rate * pow((double)batch / at_batch, 0.25), 3);
}

// Fill in all of a run that follows from its series and its size.
static void settle(Sweep *s, Job *j) {
    const Series *series = j->series;
    size_t L = s->shapes[j->size].L, C = s->shapes[j->size].C;
    size_t heads = s->heads ? s->heads : MAX(1, C / 32);
    size_t hidden = is_given("hidden") ? opt.hidden : default_hidden(C);
    char mask[32] = "";
    j->c = (Config){L, C, heads, hidden, s->run.c.T, s->run.c.V, causal(series)};
    check_config(&j->c);
    double tokens = series->budget / flops_per_token(&j->c);
    j->batch = choose_batch(s, series, tokens);
    j->steps = (size_t)fmax(1, rint(fmin(1e15, tokens / (double)(j->batch * j->c.T)))); // as the trainer does
    if (j->steps > 1e12)
        die_usage("--flops %g: makes more than 1e12 steps of %zux%zu: give less", series->budget, L, C);
    j->lr = choose_lr(s, series, C, j->batch, tokens);

    s->run.c = j->c, s->run.mask_rate = j->c.causal ? 1 : series->mask_rate;
    opt.objective = series->objective, opt.batch = j->batch, opt.steps = j->steps, opt.lr = j->lr;
    opt.flops = series->budget, opt.seed = series->seed;
    point_key(&s->run, j->key, j->end);
    const char *data = strrchr(j->end, ',') + 1;
    if (!j->c.causal) snprintf(mask, sizeof mask, "-mask%.9g", series->mask_rate);
    snprintf(j->dir, sizeof j->dir, "%s/%.*s-%s-%s%.9g-%zux%zu-lr%.9g-batch%zu%s-seed%zu", s->plan.out,
             (int)strcspn(data, "\n"), data, series->objective, s->prefix, series->budget, L, C, j->lr,
             j->batch, mask, series->seed);
}

// The trainer's command line for a run. The caller frees it, and `text`, which it points into.
static char **command(const Sweep *s, const Job *j, char **text) {
    const SweepPlan *p = &s->plan;
    char **argv = alloc_or_die((size_t)(p->n_passed + 40) * sizeof *argv), *rest, *word;
    size_t size;
    int n = 0;
    FILE *f = open_memstream(text, &size);
    if (!f) die("out of memory");
    fprintf(f, "--objective %s --flops %.9g --layers %zu --channels %zu --lr %.9g --batch %zu --seed %zu",
            j->series->objective, j->series->budget, j->c.L, j->c.C, j->lr, j->batch, j->series->seed);
    if (!j->c.causal) fprintf(f, " --mask-rate %.9g", j->series->mask_rate);
    // 20 validations can take longer than the training
    if (!is_given("val-every")) fprintf(f, " --val-every %zu", j->steps);
    fclose(f);
    argv[n++] = (char *)s->trainer;
    for (int i = 0; i < p->n_passed; i++) argv[n++] = p->passed[i];
    for (rest = *text; (word = strsep(&rest, " "));) argv[n++] = word;
    argv[n++] = "--points", argv[n++] = (char *)p->points;
    argv[n++] = "--out", argv[n++] = (char *)j->dir;
    return argv;
}

// Write a word so that the shell reads it back as it is.
static void print_quoted(FILE *f, const char *word) {
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-_./=,:@%";
    if (*word && word[strspn(word, plain)] == 0) {
        fputs(word, f);
        return;
    }
    fputc('\'', f);
    for (; *word; word++)
        if (*word == '\'') fputs("'\\''", f);
        else fputc(*word, f);
    fputc('\'', f);
}

// A run as one simple command for the shell. It can be given again at any time: what was interrupted goes on,
// what is finished stays as it is.
static void print_command(const Sweep *s, const Job *j) {
    char *text, **argv = command(s, j, &text);
    for (char **word = argv; *word; word++) print_quoted(stdout, *word), putchar(' ');
    printf("$(mkdir -p -- "), print_quoted(stdout, s->plan.out);
    printf("; test -e "), print_quoted(stdout, j->dir), printf("/checkpoint.bin && echo --resume)\n");
    free(text), free(argv);
}

// ----------------------------------------------------------------------------
// learning rate and batch from the points of a --stage lr

// The laws that a sweep follows, from the best of each budget where several rates or batches were tried. Of
// fewer than three budgets they are flat: through two any noise draws a slope, and far off it is a factor.
// (Two gave C^-0.63 for a rate, and less than half of a better one at five times the compute.)
//
// That stage tries one size a budget. Over the sizes of a budget the batch goes by the tokens, not by C: a
// batch that suits the best size leaves a wide model, which has few tokens, too few steps. Its rate is lower
// for being wide and higher for being short: between 1/channels, which is right at equal steps, and none.
// (Measured: dev/README.md, "Learning rate and batch".)
static void fit_lr_points(Sweep *s, const char *path, const char *data) {
    Fit fit = {0};
    read_points(&fit, path);
    for (Group *g = fit.group; g < fit.group + fit.n; g++) {
        if (strcmp(g->data, data)) continue;
        group_budgets(g);
        size_t n = g->n_budgets, known = 0;
        double *C = alloc_or_die(5 * n * sizeof *C), *D = C + n;
        double *rate = D + n, *batch = rate + n, *w = batch + n;
        for (size_t i = 0; i < n; i++) {
            const Budget *b = &g->budget[i];
            C[i] = b->C, D[i] = b->C / b->F, rate[i] = b->lr * sqrt(b->channels), batch[i] = b->batch_tokens;
            w[i] = (b->lrs > 1 || b->batches > 1) && rate[i] > 0 && batch[i] > 0;
            known += w[i] > 0;
        }
        for (size_t i = 0; i < n && known < 3; i++) C[i] = D[i] = 1;
        int k = strcmp(g->objective, "ntp") == 0;
        s->lr[k] = power_law(C, rate, w, n), s->batch[k] = power_law(D, batch, w, n);
        free(C);
    }
}

// ----------------------------------------------------------------------------
// which runs there are

// Is there a row of this run? Then it is done, and its loss known.
static int find_row(const Sweep *s, Job *j) {
    char line[2048];
    FILE *f = fopen(s->plan.points, "r");
    int found = f && find_point(f, j->key, j->end, line);
    if (f) fclose(f);
    if (found && sscanf(line + strlen(j->key), "%*[^,],%lf", &j->loss) != 1)
        die("%s: this row has no val_loss: mend or remove it: %s", s->plan.points, strtok(line, "\n"));
    if (found) j->state = DONE, j->part = 1;
    return found;
}

// Add the run of a series at a size. Returns 0 if it would take fewer than so many steps.
static int add_job(Sweep *s, Series *series, size_t size, size_t least_steps) {
    Job new = {.series = series, .size = size};
    settle(s, &new);
    if (new.steps < least_steps) return 0;
    s->jobs = realloc(s->jobs, (s->n_jobs + 1) * sizeof *s->jobs);
    if (!s->jobs) die("out of memory");
    find_row(s, &new);
    s->jobs[s->n_jobs++] = new;
    return 1;
}

// Where on the ladder to look for the best size: next to a guess of F_opt, which grows as the root of C.
// Measured on the village: 2x16 at 3e11, 2x24 at 1e12 (mlm); ntp is level from 2x24 to 2x48 at 1e12.
static size_t guess_best(const Sweep *s, const Series *series) {
    double nearest = INFINITY, guess = 2e5 * sqrt(series->budget / 1e12);
    size_t found = 0;
    for (size_t i = 0; i < s->n_shapes; i++) {
        Config c = {.L = s->shapes[i].L, .C = s->shapes[i].C, .T = s->run.c.T};
        c.H = default_hidden(c.C);
        double off = fabs(log(flops_per_token(&c) / guess));
        if (off < nearest) nearest = off, found = i;
    }
    return found;
}

// The first runs of a series: at the sizes given, or at six around the guess; in stage lr at the guess alone.
static void add_series(Sweep *s, Series *series) {
    size_t first = 0, last = s->n_shapes - 1, middle = guess_best(s, series);
    if (s->plan.n_sizes == 0) {
        first = s->plan.lr_stage ? middle : middle < 2 ? 0 : middle - 2;
        last = s->plan.lr_stage ? middle : MIN(first + 5, last);
    }
    size_t least_steps = s->plan.lr_stage || s->plan.n_sizes == 0 ? ENOUGH_STEPS : 0;
    for (size_t i = first; i <= last; i++) add_job(s, series, i, least_steps);
}

// When all runs of a series have ended and the best is its smallest or largest, add the next size on that
// side. Returns 1 if there is one.
static int widen(Sweep *s, Series *series) {
    size_t best = SIZE_MAX, low = SIZE_MAX, high = 0;
    double loss = INFINITY;
    for (const Job *j = s->jobs; j < s->jobs + s->n_jobs; j++) {
        if (j->series != series) continue;
        if (j->state == WAITING || j->state == RUNNING) return 0;
        low = MIN(low, j->size), high = MAX(high, j->size);
        if (j->state == DONE && j->loss < loss) loss = j->loss, best = j->size;
    }
    if (best == SIZE_MAX || (best != low && best != high)) return 0;
    size_t next = best == low ? best - 1 : best + 1; // below 0 is above all
    if (next < s->n_shapes && add_job(s, series, next, ENOUGH_STEPS)) return 1;
    if (!series->at_end++ && !s->plan.dry_run)
        fprintf(stderr, "sweep: %s at %g FLOPs: the %s size that can be tried, %zux%zu, is the best\n",
                series->objective, series->budget, best == low ? "smallest" : "largest", s->shapes[best].L,
                s->shapes[best].C);
    return 0;
}

static int widen_all(Sweep *s) {
    int added = 0;
    for (size_t i = 0; i < s->n_series && s->plan.n_sizes == 0 && !s->plan.lr_stage; i++)
        added += widen(s, &s->series[i]);
    return added;
}

// All series, the smallest budgets first (as given), so that there are results early.
static void make_series(Sweep *s) {
    static const List one = {1, {0}};
    static const List factors = {5, {0.25, 0.5, 1, 2, 4}}, batches = {5, {4, 8, 16, 32, 64}};
    const SweepPlan *p = &s->plan;
    const List *lr = p->lr.n ? &p->lr : p->lr_stage ? &factors : &one;
    const List *batch = p->batch.n ? &p->batch : p->lr_stage ? &batches : &one;
    size_t n = p->flops.n * p->n_objectives * p->mask_rate.n * p->seed.n * batch->n * lr->n;
    s->series = alloc_or_die(n * sizeof *s->series);
    for (size_t i = 0; i < n; i++) { // i counts through all combinations, the learning rate fastest
        size_t k = i;
        Series *series = &s->series[s->n_series];
        double x = lr->x[k % lr->n];
        k /= lr->n;
        series->lr = p->lr.n ? x : 0, series->factor = p->lr.n || !p->lr_stage ? 1 : x;
        series->batch = batch->x[k % batch->n], k /= batch->n;
        series->seed = (size_t)p->seed.x[k % p->seed.n], k /= p->seed.n;
        series->mask_rate = p->mask_rate.x[k % p->mask_rate.n], k /= p->mask_rate.n;
        series->objective = p->objectives[k % p->n_objectives], k /= p->n_objectives;
        series->budget = p->flops.x[k];
        // ntp masks nothing: one rate will do
        if (causal(series) && series->mask_rate != p->mask_rate.x[0]) continue;
        s->n_series++;
        add_series(s, series);
    }
    while (widen_all(s)) {} // by the rows that are there already
    if (s->n_jobs == 0)
        die_usage("--flops: every run would take fewer than %d steps: give more, or --sizes", ENOUGH_STEPS);
}

// ----------------------------------------------------------------------------
// the children

static volatile sig_atomic_t n_signals = 0;

static void on_stop(int number) { stop_signal = number, n_signals++; }

// The path of a file in a run's folder. Returns 1 if it is there.
static int in_folder(char path[1100], const Job *j, const char *name) {
    snprintf(path, 1100, "%s/%s", j->dir, name);
    return access(path, F_OK) == 0;
}

// The part of a run's steps that its main.log tells of, and its last training loss (NaN: none yet).
static double read_log(const Job *j, double *loss) {
    char path[1100], text[4097], *rest = text, *line;
    size_t step = 0, number;
    double x;
    *loss = NAN;
    in_folder(path, j, "main.log");
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    if (fseek(f, -4096, SEEK_END)) rewind(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    while ((line = strsep(&rest, "\n")))
        if (sscanf(line, "s:%zu trl:%lf", &number, &x) == 2) step = number, *loss = x;
    return fmin(1, (double)step / (double)j->steps);
}

// FLOPs of a whole run, the head's too.
static double job_work(const Job *j) {
    double N = (double)j->steps * (double)(j->batch * j->c.T);
    return executed_flops(&j->c, N, N * (j->c.causal ? 1 : j->series->mask_rate));
}

// Lock a run's folder. Returns a file descriptor, or -1 if another sweep or trainer is at it. The child
// inherits it: the lock is held for as long as sweep or child live.
static int lock_job(const Job *j) {
    char path[1100];
    if (mkdir(j->dir, 0777) && errno != EEXIST)
        die("%s: cannot make this folder: %s", j->dir, strerror(errno));
    in_folder(path, j, "sweep.lock");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) die("%s: cannot write: %s", path, strerror(errno));
    int dir = open(j->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC); // a trainer locks the folder itself
    int locked = flock(fd, LOCK_EX | LOCK_NB) == 0 && flock(dir, LOCK_EX | LOCK_NB) == 0;
    if (!locked && errno != EWOULDBLOCK) die("%s: cannot be locked: %s", j->dir, strerror(errno));
    close(dir);
    if (locked) return fd;
    close(fd);
    return -1;
}

// What a child does between fork, with signals blocked, and exec.
__attribute__((noreturn))
static void become_trainer(char **argv, const Job *j, int append, pid_t parent, size_t threads) {
    char path[1100], number[32];
    sigset_t none;
    signal(SIGINT, SIG_DFL), signal(SIGTERM, SIG_DFL), signal(SIGHUP, SIG_DFL);
    setpgid(0, 0); // the terminal's Ctrl-C is for the sweep, which passes it on
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGTERM); // however the sweep dies, its children save and exit
    if (getppid() != parent) _exit(1);
#else
    (void)parent; // after kill -9 the children go on to their ends
#endif
    sigemptyset(&none), sigprocmask(SIG_SETMASK, &none, NULL);
    in_folder(path, j, "output.txt");
    int in = open("/dev/null", O_RDONLY);
    int out = open(path, O_WRONLY | O_CREAT | (append ? O_APPEND : O_TRUNC), 0666);
    if (in < 0 || out < 0) _exit(126);
    dup2(in, 0), dup2(out, 1), dup2(out, 2);
    fcntl(j->lock, F_SETFD, 0);
    snprintf(number, sizeof number, "%zu", threads);
    setenv("OMP_NUM_THREADS", number, 1);
    execv(argv[0], argv);
    fprintf(stderr, "%s: cannot be started: %s\n", argv[0], strerror(errno));
    _exit(127);
}

// Start a run, or go on with it, unless someone else is at it or has done it. Returns 1 if it runs now.
static int start(Sweep *s, Job *j, size_t threads) {
    char *text, path[1100];
    double loss;
    int n = 0;
    sigset_t all, old;
    j->lock = lock_job(j);
    if (j->lock < 0) return 0;
    if (find_row(s, j)) return close(j->lock), 0;
    char **argv = command(s, j, &text);
    int resume = in_folder(path, j, "checkpoint.bin");
    while (argv[n]) n++;
    if (resume) argv[n] = "--resume";
    j->before = j->part = resume ? read_log(j, &loss) : 0;
    pid_t parent = getpid();
    fflush(stdout);
    sigfillset(&all), sigprocmask(SIG_BLOCK, &all, &old);
    j->pid = fork();
    if (j->pid < 0) die("cannot start a child: %s", strerror(errno));
    if (j->pid == 0) become_trainer(argv, j, resume, parent, threads);
    sigprocmask(SIG_SETMASK, &old, NULL);
    j->state = RUNNING;
    free(text), free(argv);
    return 1;
}

// Why did a run fail? The last line that it wrote.
static void why(const Job *j, int status, char reason[512]) {
    char path[1100], line[512];
    snprintf(reason, 512, "it left no row, and no word why");
    if (WIFSIGNALED(status)) {
        snprintf(reason, 512, "killed by signal %d", WTERMSIG(status));
        return;
    }
    in_folder(path, j, "output.txt");
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (line[0] != '\n') snprintf(reason, 512, "%.*s", (int)strcspn(line, "\n"), line);
    if (f) fclose(f);
}

static void clear_line(void) {
    if (isatty(2)) fprintf(stderr, "\r\033[K");
}

// Take leave of the children that have ended.
static void reap(Sweep *s) {
    char reason[512];
    int status;
    for (Job *j = s->jobs; j < s->jobs + s->n_jobs; j++) {
        if (j->state != RUNNING || waitpid(j->pid, &status, WNOHANG) != j->pid) continue;
        close(j->lock);
        clear_line();
        if (find_row(s, j)) {
            s->work += job_work(j) * (1 - j->before);
            printf("%s: validation loss %.4f\n", strrchr(j->dir, '/') + 1, j->loss);
            fflush(stdout);
        } else if (stop_signal || (j->lock = lock_job(j)) < 0) j->state = WAITING; // another one may be at it
        else {
            j->state = FAILED;
            close(j->lock);
            why(j, status, reason);
            fprintf(stderr, "sweep: %s: failed: %s\n", j->dir, reason);
        }
    }
}

static size_t count(const Sweep *s, int state) {
    size_t n = 0;
    for (size_t i = 0; i < s->n_jobs; i++) n += s->jobs[i].state == state;
    return n;
}

// The progress line: on a terminal rewritten twice a second, else once a minute and when a run has ended.
static void show_progress(Sweep *s, int now) {
    static double last = 0;
    double time = now_seconds(), left = 0, work = s->work, loss;
    int tty = isatty(2);
    if (!now && time - last < (tty ? 0.5 : 60)) return;
    last = time;
    char text[32] = "?", *line;
    size_t size;
    FILE *f = open_memstream(&line, &size);
    if (!f) die("out of memory");
    for (Job *j = s->jobs; j < s->jobs + s->n_jobs; j++) {
        if (j->state == RUNNING) {
            j->part = fmax(j->before, read_log(j, &loss));
            fprintf(f, " | %s %.3g %zux%zu", j->series->objective, j->series->budget, j->c.L, j->c.C);
            if (isfinite(loss)) fprintf(f, " loss %.3f", loss);
            work += job_work(j) * (j->part - j->before);
        }
        if (j->state == RUNNING || j->state == WAITING) left += job_work(j) * (1 - j->part);
    }
    fclose(f);
    struct winsize window = {0};
    if (work > 0) format_seconds(text, left * (time - s->began) / work); // at the speed so far
    int columns = tty && ioctl(2, TIOCGWINSZ, &window) == 0 && window.ws_col > 50 ? window.ws_col : 110;
    clear_line();
    int n = fprintf(stderr, "%zu of %zu runs done, %zu failed, %.3g FLOPs and %s left", count(s, DONE),
                    s->n_jobs, count(s, FAILED), left, text);
    fprintf(stderr, "%.*s%s", MAX(0, columns - n - 1), line, tty ? "" : "\n");
    free(line);
}

// Train all runs. Returns 0, or the signal that stopped it.
static int train_all(Sweep *s, size_t cores) {
    int passed_on = 0;     // signals …
    double stopped_at = 0; // … and when the last was
    size_t ended = SIZE_MAX;
    s->began = now_seconds();
    for (;;) {
        reap(s);
        if (now_seconds() < stopped_at + 1) n_signals = passed_on; // timeout(1) sends its signal twice
        if (passed_on < n_signals) { // at the first the children save what they have
            passed_on = n_signals, stopped_at = now_seconds();
            for (const Job *j = s->jobs; j < s->jobs + s->n_jobs; j++)
                if (j->state == RUNNING) kill(j->pid, passed_on > 1 ? SIGKILL : SIGTERM);
            clear_line();
            fprintf(stderr, "sweep: signal %d: %zu runs save and end; another signal kills them\n",
                    stop_signal, count(s, RUNNING));
        }
        if (!stop_signal) widen_all(s);
        size_t running = count(s, RUNNING), waiting = count(s, WAITING), before = ended;
        if (running == 0 && (waiting == 0 || stop_signal)) break;
        for (size_t i = 0; i < s->n_jobs && running < s->plan.children && !stop_signal; i++)
            if (s->jobs[i].state == WAITING && // the last runs share all cores
                start(s, &s->jobs[i], MAX(1, cores / MIN(s->plan.children, running + waiting))))
                running++, waiting--;
        ended = count(s, DONE) + count(s, FAILED);
        show_progress(s, ended != before);
        nanosleep(&(struct timespec){0, 50000000}, NULL);
    }
    clear_line();
    return stop_signal;
}

// ----------------------------------------------------------------------------
// the command line

static const char sweep_help[] =
    "usage: sweep [--option value …] [-- options of the trainer]\n\n"
    "Train models of several sizes at each compute budget C, on D = C / F_N tokens. Lists are crossed.\n\n"
    "  --flops C,…        budgets (5e11,1.2e12,3e12,7e12; in stage lr 1e11,3e11,1e12)\n"
    "  --sizes LxC,…      layers x channels; or auto: six of a ladder, around where the best is guessed,\n"
    "                     and then more until the best lies inside (auto)\n"
    "  --objective NAME,… mlm, ntp (mlm)\n"
    "  --lr LR,…          peak learning rates (by lr.csv if it is there, else 0.5 / channels for 32 rows,\n"
    "                     less for fewer)\n"
    "  --batch N,…        rows in a step (by lr.csv if it is there, else what makes 1,000 steps, at most\n"
    "                     32; never so many that there are fewer than 200 steps)\n"
    "  --mask-rate R,…    of mlm (0.2)\n"
    "  --seed N,…         (1)\n"
    "  --stage NAME       isoflop; or lr: at one size for each budget, batches of 4, 8 … 64 rows by\n"
    "                     learning rates from 1/4 to 4 times the default (isoflop)\n"
    "  --points FILE      gets a row for each run; a run that has one is not trained again (points.csv;\n"
    "                     in stage lr lr.csv)\n"
    "  --lr-points FILE   points of a stage lr, whose fit gives the defaults of --lr and --batch (lr.csv)\n"
    "  --out DIR          for a folder of each run (runs)\n"
    "  --jobs N           runs at once; they share the cores (one for each core)\n"
    "  --dry-run          print a shell command for each run that is not done, and nothing else\n"
    "  --help             print this\n\n"
    "It may be stopped and started again at any time, and started several times on the same files.\n";

static void read_list(List *list, const char *option, const char *text, double low, double high, int whole) {
    char *item, *end, *rest = text ? strdup(text) : NULL;
    while ((item = strsep(&rest, ","))) {
        double x = strtod(item, &end);
        if (end == item || *end || !(x >= low && x <= high) || (whole && x != floor(x)))
            die_usage("%s %s: give %snumbers from %.9g to %.9g, with commas between", option, item,
                      whole ? "whole " : "", low, high);
        if (list->n == MOST) die_usage("%s: has more than %d values: make several sweeps", option, MOST);
        size_t i = 0;
        x = rounded(x, 9);
        while (i < list->n && list->x[i] != x) i++;
        if (i == list->n) list->x[list->n++] = x; // what is named twice is tried once
    }
}

static void read_sizes(SweepPlan *p, const char *text) {
    char *item, *rest = strcmp(text, "auto") ? strdup(text) : NULL, extra;
    while ((item = strsep(&rest, ","))) {
        unsigned L, C;
        if (sscanf(item, "%4ux%5u%c", &L, &C, &extra) != 2 || strpbrk(item, "+- ") || L < 1 || C < 2)
            die_usage("--sizes %s: give layers x channels, as 2x32,2x64; or auto", item);
        if (p->n_sizes == MOST) die_usage("--sizes: has more than %d: make several sweeps", MOST);
        size_t i = 0;
        while (i < p->n_sizes && (p->sizes[i].L != L || p->sizes[i].C != C)) i++;
        if (i == p->n_sizes) p->sizes[p->n_sizes++] = (Shape){L, C};
    }
}

static void read_objectives(SweepPlan *p, const char *text) {
    char *item, *rest = strdup(text);
    while ((item = strsep(&rest, ","))) {
        if ((strcmp(item, "mlm") && strcmp(item, "ntp")) || p->n_objectives == 2 ||
            (p->n_objectives && strcmp(item, p->objectives[0]) == 0))
            die_usage("--objective %s: give mlm, ntp or mlm,ntp", text);
        p->objectives[p->n_objectives++] = item;
    }
}

static void read_plan(SweepPlan *p, int argc, char **argv) {
    enum { FLOPS, SIZES, OBJECTIVE, RATE, ROWS, MASK_RATE, SEED, STAGE, POINTS, LR_POINTS, DIR, JOBS, N };
    static const char *name[N] = {"--flops", "--sizes", "--objective", "--lr", "--batch", "--mask-rate",
                                  "--seed", "--stage", "--points", "--lr-points", "--out", "--jobs"};
    const char *text[N] = {NULL, "auto", "mlm", NULL, NULL, "0.2", "1", "isoflop", NULL, NULL, "runs", NULL};
    List jobs = {0};
    int given_here[N] = {0};
    *p = (SweepPlan){0};
    for (int i = 1; i < argc; i++) {
        int o = 0;
        if (strcmp(argv[i], "--") == 0) {
            p->passed = argv + i + 1, p->n_passed = argc - i - 1;
            break;
        }
        if (strcmp(argv[i], "--help") == 0) exit(fputs(sweep_help, stdout) < 0 || fflush(stdout));
        if (strcmp(argv[i], "--dry-run") == 0) {
            p->dry_run = 1;
            continue;
        }
        while (o < N && strcmp(argv[i], name[o])) o++;
        if (o == N) die_usage("%s: unknown option; --help lists them", argv[i]);
        if (given_here[o]++) die_usage("%s: given twice", name[o]);
        if (++i == argc || strncmp(argv[i], "--", 2) == 0) die_usage("%s: needs a value", name[o]);
        text[o] = argv[i];
    }
    p->lr_stage = strcmp(text[STAGE], "lr") == 0;
    if (!p->lr_stage && strcmp(text[STAGE], "isoflop"))
        die_usage("--stage %s: give isoflop or lr", text[STAGE]);
    if (!text[FLOPS]) text[FLOPS] = p->lr_stage ? "1e11,3e11,1e12" : "5e11,1.2e12,3e12,7e12";
    if (!text[POINTS]) text[POINTS] = p->lr_stage ? "lr.csv" : "points.csv";
    read_list(&p->flops, name[FLOPS], text[FLOPS], 1, 1e30, 0);
    read_list(&p->lr, name[RATE], text[RATE], 1e-12, 1e3, 0);
    read_list(&p->batch, name[ROWS], text[ROWS], 1, 1e6, 1);
    read_list(&p->mask_rate, name[MASK_RATE], text[MASK_RATE], 1e-9, 1, 0);
    read_list(&p->seed, name[SEED], text[SEED], 0, 999999999, 1);
    read_list(&jobs, name[JOBS], text[JOBS], 1, 4096, 1);
    if (jobs.n > 1) die_usage("--jobs %s: give one number", text[JOBS]);
    read_sizes(p, text[SIZES]);
    read_objectives(p, text[OBJECTIVE]);
    p->children = (size_t)jobs.x[0];
    p->points = text[POINTS], p->lr_points = text[LR_POINTS], p->out = text[DIR];
    if (!*p->out || strlen(p->out) > 512 || strchr(p->out, '\n'))
        die_usage("--out: give the name of a folder, of one line and at most 512 bytes");
}

// The options behind --, as the trainer reads them. What a sweep sets itself is refused; what decides a run's
// numbers becomes part of its folder's name.
static void read_passed(Sweep *s) {
    static const char *ours[] = {"layers", "channels", "objective", "mask-rate", "batch", "steps", "tokens",
                                 "flops", "lr", "seed", "threads", "out", "resume", "overwrite", "points",
                                 "dry-run", "load", "fill", "help"};
    parse_options(s->plan.n_passed + 1, s->plan.passed - 1);
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (is_given(ours[i])) die_usage("--%s: the sweep sets this: it cannot stand behind --", ours[i]);
    FILE *f = fmemopen(s->prefix, sizeof s->prefix - 1, "w");
    for (const Option *o = options; f && o < options + N_OPTIONS; o++)
        if (o->kind == BIND && is_given(o->name)) print_option(f, o);
    if (!f || fclose(f)) die("out of memory");
    for (char *c = s->prefix; *c; c++) *c = *c == ' ' ? '=' : *c == '\n' ? '-' : *c;
    s->heads = opt.heads;
}

// The trainer stands in the folder above this program's. If that is the current one, it is ./train_optibert.
static void find_trainer(Sweep *s, const char *argv0) {
    char path[PATH_MAX], here[PATH_MAX];
    if (!realpath("/proc/self/exe", path) && !realpath(argv0, path))
        die("%s: cannot find the folder that this program is in: call it by its path", argv0);
    for (int up = 0; up < 2; up++)
        if (strrchr(path, '/')) *strrchr(path, '/') = 0;
    int is_here = getcwd(here, sizeof here) && strcmp(here, path) == 0;
    snprintf(s->trainer, sizeof s->trainer, "%.*s/train_optibert", PATH_MAX - 20, is_here ? "." : path);
    if (access(s->trainer, X_OK)) die("%s: cannot be run: %s: run make first", s->trainer, strerror(errno));
}

// The sizes that are given, or those of the ladder whose channels the heads divide.
static void choose_shapes(Sweep *s) {
    static Shape usable[N_LADDER];
    s->shapes = s->plan.n_sizes ? s->plan.sizes : usable;
    s->n_shapes = s->plan.n_sizes;
    for (size_t i = 0; i < N_LADDER && s->plan.n_sizes == 0; i++)
        if (!s->heads || ladder[i].C % (2 * s->heads) == 0) usable[s->n_shapes++] = ladder[i];
    if (s->n_shapes == 0) die_usage("--heads %zu: divides no size of --sizes auto: give --sizes", s->heads);
}

// Say what will be trained and read, a line for each budget.
static void print_sweep(const Sweep *s, size_t cores) {
    const SweepPlan *p = &s->plan;
    double work = 0, epochs = 0, T = (double)s->run.c.T, total = (double)s->run.train.total;
    for (const Job *j = s->jobs; j < s->jobs + s->n_jobs; j++) work += j->state == DONE ? 0 : job_work(j);
    fprintf(stderr, "%s: %.4g tokens\n", opt.train.path[0], total);
    fprintf(stderr, "%zu runs, %zu of them done before; %.3g FLOPs to do, %zu runs at once on %zu cores\n",
            s->n_jobs, count(s, DONE), work, p->children, cores);
    for (size_t i = 0; i < p->flops.n * p->n_objectives; i++) {
        const char *objective = p->objectives[i % p->n_objectives];
        double budget = p->flops.x[i / p->n_objectives];
        const Job *low = NULL, *high = NULL;
        size_t n = 0;
        for (const Job *j = s->jobs; j < s->jobs + s->n_jobs; j++) {
            if (j->series->budget != budget || strcmp(j->series->objective, objective)) continue;
            if (!low || j->size < low->size) low = j;
            if (!high || j->size > high->size) high = j;
            n++;
        }
        if (!low) {
            fprintf(stderr, "%s %-6.3g no runs: all would take fewer than %d steps\n", objective, budget,
                    ENOUGH_STEPS);
            continue;
        }
        double most = T * (double)(low->steps * low->batch), least = T * (double)(high->steps * high->batch);
        fprintf(stderr, "%s %-6.3g %3zu runs, %zux%zu … %zux%zu: %.3g … %.3g tokens, %.2g … %.2g epochs\n",
                objective, budget, n, low->c.L, low->c.C, high->c.L, high->c.C, most, least, most / total,
                least / total);
        epochs = fmax(epochs, most / total);
    }
    for (size_t i = 0; i < p->n_objectives && p->lr_points && !p->lr_stage; i++) {
        int k = strcmp(p->objectives[i], "ntp") == 0;
        const PowerLaw *lr = &s->lr[k], *batch = &s->batch[k];
        fprintf(stderr, "%s, by the best runs of %zu budgets in %s: ", p->objectives[i], lr->n, p->lr_points);
        if (lr->n == 0) fprintf(stderr, "none tells rate and batch of these data: the defaults are used\n");
        else fprintf(stderr, "peak rate %.3g C^%.3g / sqrt(channels), batch %.3g D^%.3g tokens\n", lr->k,
                     lr->exponent, batch->k, batch->exponent);
    }
    if (epochs > 1)
        fprintf(stderr, "sweep: the data is read up to %.3g times: have %.2g tokens to read all but once "
                "(data/village --tokens)\n", epochs, epochs * total);
}

int sweep_main(int argc, char **argv) {
    static Sweep s;
    char key[512], end[512];
    struct stat st;
    program = "sweep";
    read_plan(&s.plan, argc, argv);
    SweepPlan *p = &s.plan;
    size_t cores = (size_t)MAX(1, physical_cores());
    // One core each is best: two runs of 2x32 (600 steps of 8 rows) took 1.7 s side by side, 4.6 s one after
    // the other on both cores; of 4x128 (20 steps of 32 rows) 5.4 and 5.9 s. (Measured on a busy machine.)
    if (p->children == 0) p->children = cores;
    if (p->n_passed > 0) read_passed(&s);
    choose_shapes(&s);
    opt.layers = s.shapes[0].L, opt.channels = s.shapes[0].C;
    find_trainer(&s, argv[0]);
    resolve_settings(&s.run);
    point_key(&s.run, key, end);
    // a stage lr that has not ended one run has left an empty lr.csv
    if (!p->lr_points && stat("lr.csv", &st) == 0 && st.st_size > 0) p->lr_points = "lr.csv";
    if (p->lr_points && !p->lr_stage) {
        char *data = strrchr(end, ',') + 1;
        data[strcspn(data, "\n")] = 0;
        fit_opt.plateau = unigram_entropy(opt.train.path[0], s.run.c.V, 0);
        fit_lr_points(&s, p->lr_points, data);
    }
    if (stat(p->points, &st) == 0 && !S_ISREG(st.st_mode))
        die("%s: is no file of points: choose another", p->points);
    make_series(&s);
    if (p->dry_run) {
        for (size_t i = 0; i < s.n_jobs; i++)
            if (s.jobs[i].state != DONE) print_command(&s, &s.jobs[i]);
        return 0;
    }
    fclose(open_points(p->points));
    if (mkdir(p->out, 0777) && errno != EEXIST)
        die("%s: cannot make this folder: %s", p->out, strerror(errno));
    print_sweep(&s, cores);
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    for (int i = 0; i < 3; i++) // one that is ignored, as under nohup, stays so
        if (signal(signals[i], on_stop) == SIG_IGN) signal(signals[i], SIG_IGN);
    signal(SIGCHLD, SIG_DFL); // or there would be nothing to wait for
    int stopped = train_all(&s, cores);
    size_t failed = count(&s, FAILED);
    if (stopped) return 128 + stopped;
    if (failed > 0) die("%zu of %zu runs failed: the same command tries them again", failed, s.n_jobs);
    fprintf(stderr, "sweep: all %zu runs have their rows in %s\n", s.n_jobs, p->points);
    return 0;
}

#ifndef SWEEP_NO_MAIN
int main(int argc, char **argv) {
    open_streams();
    int code = sweep_main(argc, argv);
    if (fflush(stdout) || ferror(stdout)) die("stdout: cannot write: %s", strerror(errno));
    return code;
}
#endif
#endif
