/*
From loss points to pictures: fits their law as dev/fit does, and writes one HTML page that needs no script
and no other file.

    dev/plot points.csv > report.html                the page
    dev/plot points.csv --runs runs > report.html    with training curves, from runs/NAME/main.log
    dev/plot points.csv --svg figures > report.html  each panel also as a file, for a README

A figure consists of panels, each an <svg> 420 units wide: about the width of a telephone's screen, so that
the text stays readable there. On a wide screen several stand side by side.
*/
#ifndef PLOT_C
#define PLOT_C
#ifndef FIT_NO_MAIN
#define FIT_NO_MAIN
#endif
#include "fit.c"
#include <dirent.h>

// ----------------------------------------------------------------------------
// text

// Write text so that it can be inside an element or an attribute. What XML does not allow, control characters
// and bytes that are not UTF-8, becomes U+FFFD.
static void put_escaped(FILE *f, const char *text) {
    for (size_t n; *text; text += MAX(n, 1)) {
        n = utf8_length(text);
        if (n == 0 || (unsigned char)*text < ' ' || *text == 0x7f) fputs("\xef\xbf\xbd", f);
        else if (*text == '<') fputs("&lt;", f);
        else if (*text == '>') fputs("&gt;", f);
        else if (*text == '&') fputs("&amp;", f);
        else if (*text == '"') fputs("&quot;", f);
        else fwrite(text, 1, n, f);
    }
}

// A number as a person would write it: 0.0123, 4500, 2.5×10⁷. The string is valid until 16 more are made.
static const char *number_text(double x, int digits) {
    static char ring[16][64];
    static int next;
    static const char *const raised[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
    char *text = ring[next = (next + 1) % 16], e[32], exponent[8];
    if (!isfinite(x)) return "–";
    if (x == 0) return "0";
    snprintf(e, sizeof e, "%.*e", digits - 1, x);
    int power = atoi(strchr(e, 'e') + 1), plain = power >= -3 && power < 4;
    if (plain) snprintf(text, 64, "%.*f", MAX(0, digits - 1 - power), x);
    else snprintf(text, 64, "%.*s", (int)(strchr(e, 'e') - e), e);
    if (strchr(text, '.')) { // without trailing zeros
        size_t n = strlen(text);
        while (text[n - 1] == '0') n--;
        text[text[n - 1] == '.' ? n - 1 : n] = 0;
    }
    if (plain) return text;
    if (!strcmp(text, "1")) strcpy(text, "10");
    else strcat(text, "×10");
    snprintf(exponent, sizeof exponent, "%d", power);
    for (const char *s = exponent; *s; s++) strcat(text, *s == '-' ? "⁻" : raised[*s - '0']);
    return text;
}

// With three digits, as nearly all numbers here.
static const char *num3(double x) { return number_text(x, 3); }

// The most that a string is wide at a font size of 13: its width in a wide font, DejaVu Sans.
static double text_width(const char *text) {
    double width = 0;
    for (; *text; text++)
        if ((*text & 0xc0) != 0x80)
            width += strchr("mwMW", *text) || (unsigned char)*text > 0xe2 ? 13 : // ideographs and such
                     strchr(" ,.:'()ijlftrI", *text) ? 5.4 :
                     strchr("\xc2\xe2", *text) ? 6.5 : // superscripts
                     isupper((unsigned char)*text) ? 10 : 8.4;
    return width;
}

// "mlm on books", cut after `most` characters with an ellipsis.
static void group_name(char *name, size_t room, const char *objective, const char *data, size_t most) {
    snprintf(name, room, "%s%s%s", *objective ? objective : *data ? "" : "all runs",
             *objective && *data ? " on " : "", data);
    size_t i = 0;
    for (size_t n = 0; name[i] && n < most; i++) n += (name[i + 1] & 0xc0) != 0x80;
    if (name[i] && i + 4 < room) strcpy(name + i, "…");
}

// ----------------------------------------------------------------------------
// axes

typedef struct {
    double lo, hi;
} Range;

static const Range empty_range = {INFINITY, 0};

// Widen a range so that it includes x, unless x is not a positive number.
static void range_add(Range *r, double x) {
    if (isfinite(x) && x > 0) r->lo = fmin(r->lo, x), r->hi = fmax(r->hi, x);
}

enum { MAX_TICKS = 16 };

typedef struct {
    double lo, hi;   // the values at its ends …
    double from, to; // … and the coordinates of the ends
    int log;
} Axis;

// An axis that shows a range and a little more. log_scale is 1, 0, or -1: logarithmic if the range is wide.
static Axis axis_over(Range r, int log_scale) {
    Axis a = {.log = log_scale < 0 ? r.lo > 0 && r.hi > 2.5 * r.lo : log_scale};
    if (!(r.lo <= r.hi)) r = (Range){1, 2};
    r.lo = fmin(fmax(r.lo, 1e-150), 1e150), r.hi = fmin(fmax(r.hi, 1e-150), 1e150); // hi / lo is finite
    double more = fmax(0.05 * (r.hi - r.lo), 1e-3 * r.hi);
    if (a.log) more = fmin(fmax(pow(r.hi / r.lo, 0.05), 1.02), 10);
    a.lo = a.log ? r.lo / more : r.lo - more;
    a.hi = a.log ? r.hi * more : r.hi + more;
    return a;
}

// The coordinate of a value. Values far outside the axis are moved to 20 times its length.
static double axis_place(const Axis *a, double x) {
    double t = a->log ? log(x / a->lo) / log(a->hi / a->lo) : (x - a->lo) / (a->hi - a->lo);
    return isnan(t) ? NAN : a->from + fmin(fmax(t, -20), 20) * (a->to - a->from);
}

// The value at a share t of the way from lo to hi.
static double axis_value(const Axis *a, double t) {
    return a->log ? a->lo * pow(a->hi / a->lo, t) : a->lo + t * (a->hi - a->lo);
}

static int axis_holds(const Axis *a, double x) { return x >= a->lo && x <= a->hi; }

// Find round values on the axis, at most `most` of them (and MAX_TICKS): on a log axis 1, 2 and 5 of each
// decade, or only powers of ten. If that gives too few, or on a linear axis, they are evenly spaced, by 1, 2
// or 5 times a power of ten.
static size_t axis_ticks(const Axis *a, double *tick, size_t most) {
    static const double mantissa[] = {1, 2, 5};
    most = MIN(most, MAX_TICKS);
    for (int every = 0; a->log && every < 640; every++) { // 0: 1, 2, 5; else powers of 10^every
        size_t n = 0;
        int first = (int)floor(log10(a->lo)), last = (int)ceil(log10(a->hi));
        for (int e = first; e <= last; e++)
            for (int m = 0; m < (every ? 1 : 3); m++) {
                double x = mantissa[m] * pow(10, e);
                if (!axis_holds(a, x) || (every && e % every)) continue;
                if (n < most) tick[n] = x;
                n++;
            }
        if (n > most) continue;
        if (n >= 3 || (n == 2 && every) || every > 1) return n;
        break;
    }
    double span = a->hi - a->lo, unit = pow(10, floor(log10(span / (double)most)));
    for (int k = 0;; k++) {
        double step = mantissa[k % 3] * unit * pow(10, k / 3), first = ceil(a->lo / step - 1e-9);
        size_t n = (size_t)fmax(0, floor(a->hi / step + 1e-9) - first + 1);
        if (n > most) continue;
        for (size_t i = 0; i < n; i++) tick[i] = (first + (double)i) * step;
        return n;
    }
}

// As many ticks as fit on an axis of this length without their labels touching, be they side by side or one
// above the other.
static size_t ticks_apart(Axis a, double *tick, double length, int side_by_side) {
    a.from = 0, a.to = length;
    for (size_t most = 7;; most--) {
        size_t n = axis_ticks(&a, tick, most), touch = 0;
        double free_from = -INFINITY;
        for (size_t i = 0; i < n; i++) {
            double place = axis_place(&a, tick[i]);
            double half = side_by_side ? text_width(number_text(tick[i], 6)) / 2 + 2 : 8;
            touch |= place - half < free_from, free_from = place + half;
        }
        if (!touch || most == 1) return n;
    }
}

// ----------------------------------------------------------------------------
// panels

// s0 … s5 tell series apart: the colours of Okabe and Ito, which colour-blind people can distinguish, lighter
// on dark backgrounds. r0 … r8 are a ramp: viridis, without the end that is close to the background.
static const char plot_style[] =
    ":root{--bg:#fff;--ink:#1b1f24;--soft:#57606a;--grid:#e4e7eb}\n"
    ".s0{--c:#0072b2}.s1{--c:#d55e00}.s2{--c:#009e73}.s3{--c:#cc79a7}.s4{--c:#56b4e9}.s5{--c:#3a3a3a}\n"
    ".r0{--c:#440154}.r1{--c:#482273}.r2{--c:#424085}.r3{--c:#375a8c}.r4{--c:#2d728e}.r5{--c:#24898d}"
    ".r6{--c:#229f87}.r7{--c:#35b579}.r8{--c:#5fc860}\n"
    ".ink{--c:var(--ink)}.soft{--c:var(--soft)}\n"
    "@media (prefers-color-scheme:dark){\n"
    ":root{--bg:#0d1117;--ink:#e6edf3;--soft:#9aa4b0;--grid:#262c34}\n"
    ".s0{--c:#56b4e9}.s1{--c:#f0894a}.s2{--c:#2fc89b}.s3{--c:#cc79a7}.s4{--c:#f0e442}.s5{--c:#cccccc}\n"
    ".r0{--c:#32668d}.r1{--c:#297b8e}.r2{--c:#21908c}.r3{--c:#22a486}.r4{--c:#38b777}.r5{--c:#5ec861}"
    ".r6{--c:#90d643}.r7{--c:#c7e026}.r8{--c:#fde725}}\n"
    "svg{font:13px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\n"
    "text{fill:var(--ink)}.t{font-weight:600;font-size:14px}.tick,.faint{fill:var(--soft)}\n"
    ".m{text-anchor:middle}.e{text-anchor:end}.bg{fill:var(--bg)}\n"
    ".grid{stroke:var(--grid);stroke-width:1}.frame{stroke:var(--soft);stroke-width:1}\n"
    ".line,.dash,.dots,.hair{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}\n"
    ".dash{stroke-dasharray:7 4}.dots{stroke-width:1.5;stroke-dasharray:1.5 4}.hair{stroke-width:1.3}\n"
    ".band{fill:var(--c);opacity:.18}.dot{fill:var(--c);stroke:var(--bg);stroke-width:.8}\n"
    ".ring{fill:var(--bg);stroke:var(--c);stroke-width:1.6}\n"
    ".tiny{fill:none;stroke:var(--c);stroke-width:1;opacity:.55}\n";

enum { PANEL_WIDTH = 420, PLOT_HEIGHT = 230, MARGIN = 10 };

typedef struct {
    FILE *html;
    const char *dir;    // --svg
    struct RunLog *log; // (n_logs) --runs
    size_t n_logs;
} Page;

typedef struct {
    char name[600], title[600]; // name: of its file, without folder and suffix
    char *body, *words;         // the drawing; the caption
    char *outside;              // drawn last, and not cut at the frame; or NULL
    size_t body_size, words_size, outside_size;
    FILE *svg, *caption;
    double pen_x, pen_y;        // where the next legend is written
    double right;               // end of the frame
    Axis x, y;
} Panel;

__attribute__((format(printf, 5, 6)))
static void draw_text(Panel *p, double x, double y, const char *class, const char *format, ...) {
    char text[800];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(p->svg, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, class);
    put_escaped(p->svg, text);
    fprintf(p->svg, "</text>\n");
}

// Begin a panel of a figure, about an objective and a data set, which may be "". In the name of its file,
// bytes other than letters, digits and ._- become ~ and two hex digits.
static void panel_open(Panel *p, const char *figure, const char *what, const char *objective,
                       const char *data) {
    char name[300];
    *p = (Panel){.pen_x = MARGIN, .pen_y = 38, .right = PANEL_WIDTH - MARGIN};
    p->svg = text_open(&p->body, &p->body_size), p->caption = text_open(&p->words, &p->words_size);
    for (size_t most = 60; most > 0; most--) {
        group_name(name, sizeof name, objective, data, most);
        snprintf(p->title, sizeof p->title, "%s: %s", what, name);
        if (1.2 * text_width(p->title) < PANEL_WIDTH - 2 * MARGIN) break; // the title is larger and bold
    }
    int n = snprintf(p->name, 80, "%s", figure);
    for (int part = 0; part < 2; part++) {
        const char *s = part ? data : objective;
        if (*s) p->name[n++] = '-';
        for (; *s && n < 200; s++)
            if (isalnum((unsigned char)*s) || strchr("._-", *s)) p->name[n++] = *s;
            else n += sprintf(p->name + n, "~%02x", (unsigned char)*s);
    }
    draw_text(p, MARGIN, 18, "t", "%s", p->title);
}

// Write one entry of the legend: a sample (a class of lines, or "band", "dot", "ring", "tiny", "none") and
// its meaning. Begins a new row if there is no more room.
__attribute__((format(printf, 4, 5)))
static void panel_legend(Panel *p, const char *class, const char *colour, const char *format, ...) {
    char text[200];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    int none = !strcmp(class, "none"), band = !strcmp(class, "band");
    int round = !strcmp(class, "dot") || !strcmp(class, "ring") || !strcmp(class, "tiny");
    double sample = none ? 0 : round ? 15 : 27, width = sample + text_width(text);
    if (p->pen_x > MARGIN && p->pen_x + width > PANEL_WIDTH - MARGIN) p->pen_x = MARGIN, p->pen_y += 19;
    double x = p->pen_x, y = p->pen_y - 4.5;
    if (round)
        fprintf(p->svg, "<circle class=\"%s %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/>\n", class, colour,
                x + 5, y);
    else if (!none)
        fprintf(p->svg, "<path class=\"%s %s\" d=\"M%.1f %.1fh22%s\"/>\n", class, colour, x, band ? y - 5 : y,
                band ? "v10h-22z" : "");
    draw_text(p, x + sample, p->pen_y, "", "%s", text);
    p->pen_x += width + 12;
}

// Draw grid, ticks and labels below the legend. What is drawn from here to panel_close is cut at the frame.
static void panel_axes(Panel *p, Axis x, Axis y, const char *x_label, const char *y_label) {
    double tick[MAX_TICKS], left = MARGIN;
    size_t n = ticks_apart(y, tick, PLOT_HEIGHT, 0);
    for (size_t i = 0; i < n; i++) left = fmax(left, text_width(number_text(tick[i], 6)) + 16);
    if (p->pen_x > MARGIN) p->pen_y += 24;
    draw_text(p, MARGIN, p->pen_y, "faint", "%s", y_label);
    double top = p->pen_y + 13, bottom = top + PLOT_HEIGHT, width = p->right - left;
    x.from = left, x.to = p->right, y.from = bottom, y.to = top;
    for (size_t i = 0; i < n; i++) {
        double place = axis_place(&y, tick[i]);
        fprintf(p->svg, "<path class=\"grid\" d=\"M%.1f %.1fh%.1f\"/>\n", left, place, width);
        draw_text(p, left - 6, place + 4.5, "tick e", "%s", number_text(tick[i], 6));
    }
    n = ticks_apart(x, tick, width, 1);
    for (size_t i = 0; i < n; i++) {
        const char *text = number_text(tick[i], 6);
        double place = axis_place(&x, tick[i]), half = text_width(text) / 2;
        fprintf(p->svg, "<path class=\"grid\" d=\"M%.1f %.1fv%d\"/>\n", place, top, PLOT_HEIGHT);
        draw_text(p, fmin(fmax(place, half), PANEL_WIDTH - half), bottom + 18, "tick m", "%s", text);
    }
    fprintf(p->svg, "<path class=\"frame\" d=\"M%.1f %.1fh%.1f\"/>\n", left, bottom, width);
    draw_text(p, left + width / 2, bottom + 38, "faint m", "%s", x_label);
    fprintf(p->svg, "<svg x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" ", left, top, width,
            PLOT_HEIGHT);
    fprintf(p->svg, "viewBox=\"%.1f %.1f %.1f %d\">\n", left, top, width, PLOT_HEIGHT);
    p->x = x, p->y = y, p->pen_y = bottom + 46;
}

// Draw a line through n points, with gaps at points that are NAN.
static void draw_line(Panel *p, const char *class, const char *colour, const double *x, const double *y,
                      size_t n) {
    int drawing = 0;
    fprintf(p->svg, "<path class=\"%s %s\" d=\"M0 0", class, colour);
    for (size_t i = 0; i < n; i++) {
        double place_x = axis_place(&p->x, x[i]), place_y = axis_place(&p->y, y[i]);
        int good = !isnan(place_x) && !isnan(place_y);
        if (good) fprintf(p->svg, "%c%.1f %.1f", drawing ? 'L' : 'M', place_x, place_y);
        drawing = good;
    }
    fprintf(p->svg, "\"/>\n");
}

static void draw_rule(Panel *p, const char *class, const char *colour, double x0, double y0, double x1,
                      double y1) {
    draw_line(p, class, colour, (double[]){x0, x1}, (double[]){y0, y1}, 2);
}

// Fill the area between two lines through n points.
static void draw_band(Panel *p, const char *colour, const double *x, const double *lo, const double *hi,
                      size_t n) {
    if (isnan(lo[0]) || isnan(hi[0])) return; // no resample has a best split
    fprintf(p->svg, "<path class=\"band %s\" d=\"", colour);
    for (size_t i = 0; i < 2 * n; i++) { // there and back
        size_t k = i < n ? i : 2 * n - 1 - i;
        double place = axis_place(&p->y, i < n ? hi[k] : lo[k]);
        fprintf(p->svg, "%c%.1f %.1f", i ? 'L' : 'M', axis_place(&p->x, x[k]), place);
    }
    fprintf(p->svg, "Z\"/>\n");
}

// Draw a point of radius r, unless it is outside the axes. A browser shows the words, which may be NULL, when
// the mouse is over it.
static void draw_dot(Panel *p, const char *class, const char *colour, double x, double y, double r,
                     const char *words) {
    if (!axis_holds(&p->x, x) || !axis_holds(&p->y, y)) return;
    fprintf(p->svg, "<circle class=\"%s %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%g\">", class, colour,
            axis_place(&p->x, x), axis_place(&p->y, y), r);
    if (words) fprintf(p->svg, "<title>"), put_escaped(p->svg, words), fprintf(p->svg, "</title>");
    fprintf(p->svg, "</circle>\n");
}

// Put the panel with its caption on the page, and with --svg the panel into a file too.
static void panel_close(Panel *p, const Page *page) {
    char *head, path[PATH_MAX];
    size_t size;
    Writer w;
    fprintf(p->svg, "</svg>\n%s</svg>\n", p->outside ? p->outside : ""); // the frame's, and the panel's
    text_close(p->svg), text_close(p->caption);
    FILE *f = text_open(&head, &size);
    fprintf(f, " viewBox=\"0 0 %d %.0f\" width=\"%d\" height=\"%.0f\" role=\"img\">\n<title>", PANEL_WIDTH,
            p->pen_y, PANEL_WIDTH, p->pen_y);
    put_escaped(f, p->title), fprintf(f, "</title>\n");
    text_close(f);
    fprintf(page->html, "<figure>\n<svg%s%s", head, p->body);
    fprintf(page->html, "<figcaption>%s</figcaption>\n</figure>\n", p->words);
    if (page->dir) {
        if (snprintf(path, sizeof path, "%s/%s.svg", page->dir, p->name) >= PATH_MAX)
            die("%s: this path is too long; choose a shorter one", page->dir);
        const char *parts[] = {"<svg xmlns=\"http://www.w3.org/2000/svg\"", head, "<style>\n", plot_style,
                               "</style>\n<rect class=\"bg\" width=\"100%\" height=\"100%\"/>\n", p->body};
        writer_open(&w, path);
        for (int k = 0; k < 6; k++) writer_put(&w, parts[k], strlen(parts[k]));
        writer_close(&w);
    }
    free(head), free(p->body), free(p->words), free(p->outside);
}

// ----------------------------------------------------------------------------
// what the figures share

enum { SAMPLES = 97 }; // points of a curve

// A figure is drawn of n groups: one, or all of one data set. Returns 0 if there is nothing to draw.
typedef int Figure(const Page *, const Group *, size_t n);
typedef double LawFunction(const Law *, double C);

// The labels of the axes. With --columns we do not know the units.
static const char *flops_label(void) {
    return reading.column[COL_F] ? reading.column[COL_F] :
           reading.with_head ? "FLOPs per token F_N + F_head" : "FLOPs per token F_N";
}

static const char *tokens_label(void) {
    return reading.column[COL_D] ? reading.column[COL_D] : "training tokens D";
}

static const char *loss_label(void) {
    return reading.column[COL_LOSS] ? reading.column[COL_LOSS] : "validation loss (nats per token)";
}

static const char *compute_label(void) {
    return reading.columns ? "C = F D" : "training compute C = F D (FLOPs)";
}

static const char *ramp_colour(double share) {
    static const char *const name[] = {"r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8"};
    return name[(int)rint(fmin(fmax(share, 0), 1) * 8)];
}

static const char *nth_colour(size_t i, size_t n) { return ramp_colour((double)i / (double)MAX(1, n - 1)); }

static const char *series_colour(size_t i) {
    static const char *const name[] = {"s0", "s1", "s2", "s3", "s4", "s5"};
    return name[i % 6];
}

static const char *series_name(const Group *g) {
    static char name[100];
    group_name(name, sizeof name, *g->objective ? g->objective : "runs", "", 20);
    return name;
}

// The words that draw_dot shows for a point.
static const char *point_words(const Point *p) {
    static char text[300];
    int n = 0;
    if (p->layers > 0 && p->channels > 0) n = snprintf(text, 100, "%g×%g, ", p->layers, p->channels);
    snprintf(text + n, sizeof text - 100, "F %s, D %s, loss %s", num3(p->F), num3(p->D),
             number_text(p->loss, 5));
    return text;
}

static int has_minimum(const Budget *b) { return !b->open && !b->edge; }

static int has_minima(const Group *g) { return !g->refused[BY_MINIMA]; }

static int has_band(const Group *g) { return has_frontier(g) && g->n_laws > 1; }

// The bootstrap's 95% interval of a function of the law and C.
static void draws_interval(const Group *g, LawFunction *of, double C, double *lo, double *hi) {
    double *x = alloc_or_die(g->n_draws * sizeof *x);
    for (size_t i = 0; i < g->n_draws; i++) x[i] = of(&g->draw[i], C);
    interval_95(x, g->n_draws, lo, hi);
    free(x);
}

// The floor is drawn if that leaves at least half of the axis to the losses. If not, the legend tells it.
static int floor_is_near(double floor_value, Range loss) {
    return floor_value > 0 && loss.lo / floor_value < fmax(loss.hi / loss.lo, 1.2);
}

static void legend_floor(Panel *p, double floor_value, int near) {
    if (floor_value > 0)
        panel_legend(p, near ? "dash" : "none", "soft", "floor %s%s", number_text(floor_value, 4),
                     near ? "" : ", below");
}

// ----------------------------------------------------------------------------
// 1: isoFLOP curves

static int figure_isoflop(const Page *page, const Group *g, size_t n) {
    Panel p;
    Range F = empty_range, loss = empty_range;
    double x[SAMPLES], y[SAMPLES], floor_value = mean_floor(g);
    size_t inside = 0, off = 0, beyond = 0;
    const Budget *first = NULL, *last = NULL;
    if (n != 1 || g->n_budgets == 0) return 0;
    for (const Budget *b = g->budget; b < g->budget + g->n_budgets; b++) {
        for (size_t i = b->use; i < b->use + b->n_use; i++)
            range_add(&F, g->F[i]), range_add(&loss, g->loss[i]);
        if (!has_minimum(b)) continue;
        if (inside++ == 0) first = b;
        off += (size_t)b->off;
        last = b;
        range_add(&loss, b->loss);
    }
    int near = floor_is_near(floor_value, loss);
    if (near) range_add(&loss, floor_value);
    panel_open(&p, "isoflop", "isoFLOP curves", g->objective, g->data);
    size_t named = MIN(g->n_budgets, 9); // as many as there are colours
    for (size_t k = 0; k < named; k++) {
        size_t i = k * (g->n_budgets - 1) / MAX(1, named - 1);
        panel_legend(&p, "dot", nth_colour(i, g->n_budgets), "%s%s", i ? "" : "C = ", num3(g->budget[i].C));
    }
    if (inside) panel_legend(&p, "ring", "ink", "minimum");
    if (g->n_use < g->n) panel_legend(&p, "tiny", "soft", "left out of the law");
    legend_floor(&p, floor_value, near);
    panel_axes(&p, axis_over(F, 1), axis_over(loss, -1), flops_label(), loss_label());
    if (near) draw_rule(&p, "dash", "soft", p.x.lo, floor_value, p.x.hi, floor_value);
    for (const Point *q = g->point; q < g->point + g->n; q++)
        if (q->verdict != USED) {
            draw_dot(&p, "tiny", "soft", q->F, q->loss, 2.5, point_words(q));
            beyond += !axis_holds(&p.x, q->F) || !axis_holds(&p.y, q->loss);
        }
    for (size_t i = 0; i < g->n_budgets; i++) {
        const Budget *b = &g->budget[i];
        Range its = empty_range;
        for (size_t k = b->use; k < b->use + b->n_use; k++) range_add(&its, g->F[k]);
        for (int k = 0; k < SAMPLES; k++) {
            double z = log(its.lo) + log(its.hi / its.lo) * k / (SAMPLES - 1) - b->center;
            x[k] = exp(z + b->center), y[k] = b->c[0] + z * (b->c[1] + z * b->c[2]);
        }
        if (!b->open) draw_line(&p, "line", nth_colour(i, g->n_budgets), x, y, SAMPLES);
        for (size_t k = b->use; k < b->use + b->n_use; k++)
            draw_dot(&p, "dot", nth_colour(i, g->n_budgets), g->F[k], g->loss[k], 3.5,
                     point_words(&g->point[g->use[k]]));
    }
    for (const Budget *b = g->budget; b < g->budget + g->n_budgets; b++)
        if (has_minimum(b)) draw_dot(&p, "ring", "ink", b->F_opt, b->loss, 4.5, NULL);
    if (reading.with_head)
        fputs("No parabolas: with the head in F, C varies within a budget.", p.caption);
    else {
        fprintf(p.caption, "%zu of %zu budgets have their minimum within the sizes tried", inside,
                g->n_budgets);
        if (off) fprintf(p.caption, ", %zu of them off centre, where parabolas are biased", off);
        fputc('.', p.caption);
    }
    if (inside > 1)
        fprintf(p.caption, " From C = %s to %s it moves from F = %s to %s, and its loss from %.3f to %.3f.",
                num3(first->C), num3(last->C), num3(first->F_opt), num3(last->F_opt), first->loss,
                last->loss);
    if (beyond) fprintf(p.caption, " %zu of the runs left out are outside this frame.", beyond);
    panel_close(&p, page);
    return 1;
}

// ----------------------------------------------------------------------------
// 2 and 5: the best split against C

// What a panel shows: F_opt, D_opt or their ratio. For a run at C with F it is C^C_power F^F_power.
typedef struct {
    const char *file, *title, *symbol, *unit;
    LawFunction *of;
    double C_power, F_power;
} BestSplit;

static double split_of(const BestSplit *s, double C, double F) {
    return pow(C, s->C_power) * pow(F, s->F_power);
}

// The panel in numbers: exponents, and the values at C, which is halfway (in log) through the measured range.
static void split_caption(FILE *f, const BestSplit *s, const Group *g, size_t n, double C) {
    double lo, hi;
    for (const Group *h = g; h < g + n; h++) {
        if (!has_frontier(h)) continue;
        put_escaped(f, series_name(h));
        fprintf(f, ": %s ∝ C<sup>%.3f</sup>", s->symbol, s->C_power + s->F_power * h->law.a);
        if (has_minima(h))
            fprintf(f, " (minima C<sup>%.3f</sup>)", s->C_power + s->F_power * h->split[BY_MINIMA].exponent);
        fprintf(f, ", %s at C = %s", num3(s->of(&h->law, C)), num3(C));
        if (has_band(h)) draws_interval(h, s->of, C, &lo, &hi), fprintf(f, " (%s … %s)", num3(lo), num3(hi));
        fprintf(f, ". ");
    }
    if (s->of == law_ratio && n == 2 && has_band(&g[0]) && has_band(&g[1])) {
        ratio_interval(&g[0], BY_LAW, &g[1], BY_LAW, C, &lo, &hi);
        put_escaped(f, series_name(&g[0]));
        fprintf(f, "’s is %s times ", num3(law_ratio(&g[0].law, C) / law_ratio(&g[1].law, C)));
        put_escaped(f, series_name(&g[1]));
        fprintf(f, "’s (%s … %s). ", num3(lo), num3(hi));
    }
    fprintf(f, "The dotted line marks the largest C of the runs used.");
}

// Draw for each group the law with its band, the minima of the parabolas, and their power law.
static int draw_split(const Page *page, const BestSplit *s, const Group *g, size_t n) {
    Panel p;
    Range C = empty_range, value = empty_range;
    double x[SAMPLES], y[SAMPLES], low[SAMPLES], high[SAMPLES];
    int bands = 0, parabolas = 0, minima = 0;
    char label[100];
    for (const Group *h = g; h < g + n; h++)
        for (size_t i = 0; i < h->n_use && (has_frontier(h) || has_minima(h)); i++) range_add(&C, h->C[i]);
    if (C.hi == 0) return 0;
    double measured = C.hi;
    C.hi *= 10; // to show what the law predicts
    for (const Group *h = g; h < g + n; h++) {
        bands |= has_band(h), parabolas |= has_minima(h);
        for (int end = 0; end < 2; end++) { // a band may be far wider than what can be shown
            double c = end ? C.hi : C.lo, here = has_frontier(h) ? s->of(&h->law, c) : NAN;
            range_add(&value, here);
            if (has_minima(h)) range_add(&value, split_of(s, c, split_F(h, BY_MINIMA, c)));
            if (!has_band(h)) continue;
            draws_interval(h, s->of, c, &low[0], &high[0]);
            range_add(&value, fmax(low[0], here / 30)), range_add(&value, fmin(high[0], here * 30));
        }
        for (const Budget *b = h->budget; b < h->budget + h->n_budgets; b++)
            if (has_minimum(b)) range_add(&value, split_of(s, b->C, b->F_opt)), minima = 1;
    }
    panel_open(&p, s->file, s->title, n == 1 ? g->objective : "", g->data);
    for (size_t i = 0; i < n; i++)
        if (has_frontier(&g[i])) panel_legend(&p, "line", series_colour(i), "%s: law", series_name(&g[i]));
        else if (has_minima(&g[i])) panel_legend(&p, "dash", series_colour(i), "%s", series_name(&g[i]));
    if (bands) panel_legend(&p, "band", "soft", "95%% interval");
    if (parabolas) panel_legend(&p, "dash", "soft", "power law of the minima");
    if (minima) panel_legend(&p, "dot", "soft", "minima");
    snprintf(label, sizeof label, reading.columns ? "%s" : "%s (%s)", s->symbol, s->unit);
    panel_axes(&p, axis_over(C, 1), axis_over(value, 1), compute_label(), label);
    draw_rule(&p, "dots", "soft", measured, p.y.lo, measured, p.y.hi);
    for (int k = 0; k < SAMPLES; k++) x[k] = axis_value(&p.x, k / (SAMPLES - 1.0));
    for (size_t i = 0; i < n; i++) {
        if (!has_band(&g[i])) continue;
        for (int k = 0; k < SAMPLES; k++) draws_interval(&g[i], s->of, x[k], &low[k], &high[k]);
        draw_band(&p, series_colour(i), x, low, high, SAMPLES);
    }
    for (size_t i = 0; i < n; i++) {
        const Group *h = &g[i];
        for (int k = 0; k < SAMPLES; k++) y[k] = split_of(s, x[k], split_F(h, BY_MINIMA, x[k]));
        if (has_minima(h)) draw_line(&p, "dash", series_colour(i), x, y, SAMPLES);
        for (int k = 0; k < SAMPLES; k++) y[k] = s->of(&h->law, x[k]);
        if (has_frontier(h)) draw_line(&p, "line", series_colour(i), x, y, SAMPLES);
        for (const Budget *b = h->budget; b < h->budget + h->n_budgets; b++)
            if (has_minimum(b))
                draw_dot(&p, "dot", series_colour(i), b->C, split_of(s, b->C, b->F_opt), 4, NULL);
    }
    split_caption(p.caption, s, g, n, sqrt(C.lo * measured));
    panel_close(&p, page);
    return 1;
}

static int figure_best(const Page *page, const Group *g, size_t n) {
    static const BestSplit F = {"fopt", "best model size", "F_opt", "FLOPs per token", law_F_opt, 0, 1};
    static const BestSplit D = {"dopt", "best tokens", "D_opt", "training tokens", law_D_opt, 1, -1};
    return draw_split(page, &F, g, n) && draw_split(page, &D, g, n);
}

static int figure_ratio(const Page *page, const Group *g, size_t n) {
    static const BestSplit ratio = {"ratio", "best data/model ratio", "D_opt/F_opt",
                                    "tokens per FLOP per token", law_ratio, 1, -2};
    return draw_split(page, &ratio, g, n);
}

// ----------------------------------------------------------------------------
// 3: the loss surface

// The point on the line of equal loss `level` where A/F^alpha and B/D^beta divide the loss above E at these
// log odds.
static void iso_loss(const Law *law, double level, double odds, double *F, double *D) {
    *F = pow(law->A * (1 + exp(-odds)) / (level - law->E), 1 / law->alpha);
    *D = pow(law->B * (1 + exp(odds)) / (level - law->E), 1 / law->beta);
}

// The log odds of a share; infinite if it is 1 or more.
static double log_odds(double share) { return share < 1 ? log(share / (1 - share)) : INFINITY; }

// Levels from lo to hi, evenly spaced in the log of the loss above E, and rounded to as few digits as tell
// them apart.
enum { LEVELS = 7 };
static void iso_levels(double level[LEVELS], double E, double lo, double hi) {
    for (int digits = 2, apart = 0; !apart && digits < 8; digits++) {
        apart = 1;
        for (int k = 0; k < LEVELS; k++) {
            char text[32];
            double exact = E + (lo - E) * pow((hi - E) / (lo - E), k / (LEVELS - 1.0));
            snprintf(text, sizeof text, "%.*e", digits - 1, exact);
            level[k] = atof(text);
            apart &= k == 0 || level[k] > level[k - 1];
        }
    }
}

// Draw the lines of equal loss, each with its level in the margin where it meets the frame.
static void draw_levels(Panel *p, const Law *law, double above, double hi) {
    double level[LEVELS], x[SAMPLES], y[SAMPLES], last = INFINITY;
    FILE *labels = text_open(&p->outside, &p->outside_size);
    iso_levels(level, law->E, law->E + above, hi);
    for (int i = 0; i < LEVELS; i++) {
        if (!(level[i] > law->E)) continue;
        // the log odds where the line enters the frame (from the right or from below) and where it leaves it
        double rest = level[i] - law->E, right = log_odds(law->A * pow(p->x.hi, -law->alpha) / rest);
        double from = fmax(right, -log_odds(law->B * pow(p->y.lo, -law->beta) / rest));
        double to = fmin(log_odds(law->A * pow(p->x.lo, -law->alpha) / rest),
                         -log_odds(law->B * pow(p->y.hi, -law->beta) / rest));
        if (!(from < to)) continue;
        for (int k = 0; k < SAMPLES; k++)
            iso_loss(law, level[i], from + (to - from) * k / (SAMPLES - 1), &x[k], &y[k]);
        draw_line(p, "hair", ramp_colour(1 - (double)i / (LEVELS - 1)), x, y, SAMPLES);
        double place = axis_place(&p->y, y[0]);
        if (from > right || fabs(place - last) < 11) continue;
        fprintf(labels, "<text x=\"%.1f\" y=\"%.1f\" class=\"tick\">%s</text>\n", p->right + 5,
                place + 4.5, number_text(level[i], 6));
        last = place;
    }
    text_close(labels);
}

static double frontier_D(const Law *law, double F) { return pow(F / law->G, 1 / law->a) / F; }

static int figure_surface(const Page *page, const Group *g, size_t n) {
    Panel p;
    const Law *law = &g->law;
    Range F = empty_range, D = empty_range, C = empty_range, loss = empty_range;
    double equal[MAX_TICKS], x[SAMPLES], y[SAMPLES];
    size_t n_C = 0;
    int frontier = has_frontier(g);
    if (n != 1 || !g->has_law) return 0;
    for (size_t i = 0; i < g->n_use; i++)
        range_add(&F, g->F[i]), range_add(&D, g->D[i]), range_add(&C, g->C[i]), range_add(&loss, g->loss[i]);
    for (; n_C < MIN(g->n_budgets, MAX_TICKS); n_C++) equal[n_C] = g->budget[n_C].C;
    Axis compute = axis_over(C, 1);
    if (n_C == 0) n_C = axis_ticks(&compute, equal, 7);
    Axis of_F = axis_over(F, 1), of_D = axis_over(D, 1);
    int seen = frontier && frontier_D(law, of_F.lo) < of_D.hi && frontier_D(law, of_F.hi) > of_D.lo;
    panel_open(&p, "surface", "loss surface", g->objective, g->data);
    if (frontier) panel_legend(&p, "hair", "r4", "equal loss (law)");
    if (seen) panel_legend(&p, "line", "ink", "efficient frontier");
    panel_legend(&p, "dot", "r4", "run");
    if (n_C)
        panel_legend(&p, "dots", "soft", n_C > 1 ? "equal C, %s … %s" : "equal C, %s", num3(equal[0]),
                     num3(equal[n_C - 1]));
    p.right -= 34; // for the levels
    panel_axes(&p, of_F, of_D, flops_label(), tokens_label());
    for (size_t i = 0; i < n_C; i++)
        draw_rule(&p, "dots", "soft", p.x.lo, equal[i] / p.x.lo, p.x.hi, equal[i] / p.x.hi);
    double above = fmax(loss.lo - law->E, 0.02 * (loss.hi - law->E)); // with noise a loss may be below E
    double scale = log((loss.hi - law->E) / above);
    if (frontier) draw_levels(&p, law, above, loss.hi);
    for (size_t i = 0; i < g->n_use; i++)
        draw_dot(&p, "dot", ramp_colour(log((loss.hi - law->E) / fmax(g->loss[i] - law->E, above)) / scale),
                 g->F[i], g->D[i], 4, point_words(&g->point[g->use[i]]));
    for (int k = 0; k < SAMPLES; k++) {
        double c = C.lo / 1e3 * pow(1e6 * C.hi / C.lo, k / (SAMPLES - 1.0));
        x[k] = law_F_opt(law, c), y[k] = law_D_opt(law, c);
    }
    if (frontier) {
        draw_line(&p, "line", "ink", x, y, SAMPLES);
        fprintf(p.caption, "Along the frontier%s F_opt = %s C<sup>%.3f</sup>, D_opt = %s C<sup>%.3f</sup>: ",
                seen ? "" : ", which is outside this frame,", num3(law->G), law->a, num3(1 / law->G), law->b);
        fprintf(p.caption, "for ten times the compute, take %s times the F and %s times the D.",
                number_text(pow(10, law->a), 2), number_text(pow(10, law->b), 2));
    } else
        fprintf(p.caption, "The law does not depend on %s, so it has no frontier.", law->A > 0 ? "D" : "F");
    panel_close(&p, page);
    return 1;
}

// ----------------------------------------------------------------------------
// 4: learning rate and batch against C

// How many learning rates or batches were tried at a budget's best size.
static size_t choices(const Budget *b, int of_batch) { return of_batch ? b->batches : b->lrs; }

static int has_choices(const Group *g, int of_batch) {
    for (size_t i = 0; i < g->n_budgets; i++)
        if (choices(&g->budget[i], of_batch) > 1) return 1;
    return 0;
}

// The best rates or batches of a group's budgets as a power law in C, without those at an edge of the tried.
static PowerLaw rate_law(const Group *g, int of_batch) {
    double C[g->n_budgets + 1], y[g->n_budgets + 1], w[g->n_budgets + 1];
    for (size_t i = 0; i < g->n_budgets; i++) {
        const Budget *b = &g->budget[i];
        C[i] = b->C, y[i] = of_batch ? b->batch_tokens : b->lr;
        w[i] = of_batch ? !b->batch_edge : !b->lr_edge;
    }
    PowerLaw p = power_law(C, y, w, g->n_budgets);
    return p.n < 2 ? no_power_law : p;
}

static int draw_rates(const Page *page, const Group *g, size_t n, int of_batch) {
    Panel p;
    Range C = empty_range, value = empty_range;
    double x[SAMPLES], y[SAMPLES];
    size_t offset = of_batch ? offsetof(Point, batch_tokens) : offsetof(Point, lr);
    int edges = 0, laws = 0;
    for (const Group *h = g; h < g + n; h++)
        for (const Budget *b = h->budget; b < h->budget + h->n_budgets; b++) {
            if (choices(b, of_batch) < 2) continue;
            edges |= of_batch ? b->batch_edge : b->lr_edge;
            laws |= rate_law(h, of_batch).n > 0;
            range_add(&C, b->C);
            for (const Point *q = h->point + b->first; q < h->point + b->first + b->n; q++)
                if (q->F == b->F) range_add(&value, point_number(q, offset));
        }
    if (C.hi == 0) return 0;
    panel_open(&p, of_batch ? "batch" : "lr", of_batch ? "best batch" : "best learning rate",
               n == 1 ? g->objective : "", g->data);
    for (size_t i = 0; i < n; i++)
        if (has_choices(&g[i], of_batch))
            panel_legend(&p, "dot", series_colour(i), "%s: best", series_name(&g[i]));
    if (edges) panel_legend(&p, "ring", "soft", "best, but at an edge");
    panel_legend(&p, "tiny", "soft", "run");
    if (laws) panel_legend(&p, "line", "soft", "power law");
    panel_axes(&p, axis_over(C, 1), axis_over(value, 1), compute_label(),
               of_batch ? "batch (tokens per step)" : "peak learning rate");
    for (size_t i = 0; i < n; i++) {
        const Group *h = &g[i];
        if (!has_choices(h, of_batch)) continue;
        PowerLaw law = rate_law(h, of_batch);
        double aside = pow(p.x.hi / p.x.lo, 0.022 * ((double)i - (double)(n - 1) / 2)); // side by side
        for (int k = 0; k < SAMPLES; k++)
            x[k] = axis_value(&p.x, k / (SAMPLES - 1.0)), y[k] = power_at(&law, x[k]);
        if (law.n) draw_line(&p, "line", series_colour(i), x, y, SAMPLES);
        for (const Budget *b = h->budget; b < h->budget + h->n_budgets; b++) {
            if (choices(b, of_batch) < 2) continue;
            for (const Point *q = h->point + b->first; q < h->point + b->first + b->n; q++)
                if (q->F == b->F)
                    draw_dot(&p, "tiny", series_colour(i), b->C * aside, point_number(q, offset), 2,
                             point_words(q));
            draw_dot(&p, (of_batch ? b->batch_edge : b->lr_edge) ? "ring" : "dot", series_colour(i),
                     b->C * aside, of_batch ? b->batch_tokens : b->lr, 4.5, NULL);
        }
        put_escaped(p.caption, series_name(h));
        if (law.n)
            fprintf(p.caption, ": %s C<sup>%.3f</sup> from %zu budgets, %s at C = %s. ", num3(law.k),
                    law.exponent, law.n, num3(power_at(&law, C.hi)), num3(C.hi));
        else fputs(": no power law; it needs two budgets whose best is not at an edge. ", p.caption);
    }
    panel_close(&p, page);
    return 1;
}

static int figure_rates(const Page *page, const Group *g, size_t n) {
    int rates = draw_rates(page, g, n, 0), batches = draw_rates(page, g, n, 1);
    return rates || batches;
}

// ----------------------------------------------------------------------------
// 6: training curves

enum { MAX_CURVES = 8, BINS = 140 };

// The log of a run, and how it ends: after this step, with this validation loss.
struct RunLog {
    char *path;
    double steps, val;
};

// Find all DIR/NAME/main.log.
static void find_logs(Page *page, const char *dir) {
    struct dirent *entry;
    DIR *d = opendir(dir);
    if (!d) die("--runs %s: cannot read this folder: %s", dir, strerror(errno));
    while ((entry = readdir(d))) {
        char path[PATH_MAX], line[256];
        struct RunLog log = {.steps = NAN, .val = NAN};
        struct stat st;
        if (snprintf(path, sizeof path, "%s/%s/main.log", dir, entry->d_name) >= (int)sizeof path) continue;
        FILE *f = stat(path, &st) == 0 && S_ISREG(st.st_mode) ? fopen(path, "r") : NULL;
        if (!f) continue;
        while (fgets(line, sizeof line, f)) sscanf(line, "s:%lf tel:%lf", &log.steps, &log.val);
        fclose(f);
        page->log = realloc(page->log, (page->n_logs + 1) * sizeof *page->log);
        if (!page->log || !(log.path = strdup(path))) die("out of memory");
        page->log[page->n_logs++] = log;
    }
    closedir(d);
}

// The log that ends as a point does (logs have six decimals), or NULL.
static const char *find_log(const Page *page, const Point *p) {
    for (size_t i = 0; i < page->n_logs; i++)
        if (page->log[i].steps == p->steps && fabs(page->log[i].val - p->loss) < 1e-6) return page->log[i].path;
    return NULL;
}

// Read a curve: the mean training loss in each of BINS equal parts, in log, of a tokens axis. If it has fewer
// points the rest is NAN.
static void read_curve(const char *path, double batch, const Axis *axis, double *tokens, double *loss) {
    char line[256];
    double sum[BINS] = {0}, count[BINS] = {0}, step, trl;
    size_t n = 0;
    FILE *f = fopen(path, "r");
    if (!f) die("%s: cannot read: %s", path, strerror(errno));
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "s:%lf trl:%lf", &step, &trl) != 2 || !(trl > 0) || !(step > 0)) continue;
        double bin = floor(BINS * log(step * batch / axis->lo) / log(axis->hi / axis->lo));
        if (bin >= 0 && bin < BINS) sum[(int)bin] += trl, count[(int)bin]++;
    }
    fclose(f);
    for (int k = 0; k < BINS; k++)
        if (count[k] > 0) tokens[n] = axis_value(axis, (k + 0.5) / BINS), loss[n++] = sum[k] / count[k];
    for (; n < BINS; n++) tokens[n] = loss[n] = NAN;
}

// One curve for each size, from the largest budget whose runs have logs.
static int figure_curves(const Page *page, const Group *g, size_t n) {
    Panel p;
    Range D = empty_range, loss = empty_range;
    const Point *point[1000], *best;
    double x[MAX_CURVES][BINS], y[MAX_CURVES][BINS], floor_value = mean_floor(g);
    size_t sizes = 0;
    for (size_t b = g->n_budgets; n == 1 && b-- > 0 && sizes == 0;)
        for (size_t k = g->budget[b].use; k < g->budget[b].use + g->budget[b].n_use && sizes < 1000; k++) {
            const Point *q = &g->point[g->use[k]];
            if (sizes && point[sizes - 1]->F == q->F) continue;
            if (q->batch_tokens > 0 && find_log(page, q)) point[sizes++] = q, range_add(&D, q->D);
        }
    if (sizes == 0) return 0;
    size_t shown = MIN(sizes, MAX_CURVES);
    Axis tokens = axis_over((Range){D.lo / 50, D.hi}, 1);
    best = point[0];
    for (size_t k = 0; k < shown; k++) {
        const Point *q = point[k] = point[shown < sizes ? k * (sizes - 1) / (shown - 1) : k];
        read_curve(find_log(page, q), q->batch_tokens, &tokens, x[k], y[k]);
        for (int i = 0; i < BINS; i++) range_add(&loss, y[k][i]);
        range_add(&loss, q->loss);
        if (q->loss < best->loss) best = q;
    }
    int near = floor_is_near(floor_value, loss);
    if (near) range_add(&loss, floor_value);
    panel_open(&p, "curves", "training curves", g->objective, g->data);
    for (size_t k = 0; k < shown; k++) {
        const char *colour = nth_colour(k, shown);
        if (point[k]->layers > 0)
            panel_legend(&p, "line", colour, "%g×%g", point[k]->layers, point[k]->channels);
        else panel_legend(&p, "line", colour, "F = %s", num3(point[k]->F));
    }
    panel_legend(&p, "dot", "soft", "validation, at the end");
    legend_floor(&p, floor_value, near);
    panel_axes(&p, tokens, axis_over(loss, -1), "tokens trained on", "training loss (nats per token)");
    if (near) draw_rule(&p, "dash", "soft", p.x.lo, floor_value, p.x.hi, floor_value);
    for (size_t k = 0; k < shown; k++)
        draw_line(&p, "hair", nth_colour(k, shown), x[k], y[k], BINS);
    for (size_t k = 0; k < shown; k++)
        draw_dot(&p, "dot", nth_colour(k, shown), point[k]->D, point[k]->loss, 4, point_words(point[k]));
    fprintf(p.caption, "%zu of %zu sizes at C = %s. The best, with %s FLOPs per token, reaches a "
            "validation loss of %.3f after %s tokens.", shown, sizes, num3(best->C), num3(best->F),
            best->loss, num3(best->D));
    panel_close(&p, page);
    return 1;
}

// ----------------------------------------------------------------------------
// the page

static const char page_style[] =
    "body{margin:0 auto;max-width:1440px;padding:8px 12px 40px;background:var(--bg);color:var(--ink);\n"
    "font:16px/1.45 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;\n"
    "overflow-wrap:anywhere}"
    "h1{font-size:24px;margin:14px 0 4px}h2{font-size:19px;margin:34px 0 2px}\n"
    "h3{font-size:16px;margin:10px 0 4px}p{margin:4px 0;max-width:52em}sup{line-height:0}\n"
    ".note,figcaption,li{color:var(--soft);font-size:14px}.warning{color:var(--ink)}\n"
    ".panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,370px),1fr));\n"
    "gap:18px 26px;align-items:start}figure{margin:8px 0 0}figure>svg{display:block;width:100%;height:auto}\n"
    "figcaption{padding:2px 10px}ul{margin:6px 0;padding-left:18px}\n"
    "table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums}\n"
    "th,td{text-align:right;white-space:nowrap;padding:3px 12px 3px 0;border-bottom:1px solid var(--grid)}\n"
    "th:first-child{text-align:left}\n";

static const struct {
    const char *heading, *words, *missing;
    Figure *draw;
    int together; // all groups of one data set in one figure
} sections[] = {
    {"isoFLOP curves",
     "Each colour is one compute budget, spent on models of different sizes. The curve is a parabola in log "
     "F, and its minimum the best size.", "the points do not form budgets", figure_isoflop, 0},
    {"The best model size and amount of data",
     "How F and D of the best run grow with compute, by the law and by the minima of the parabolas alone.",
     "neither a law with a best split nor minima", figure_best, 1},
    {"The loss surface",
     "Lines of equal loss by the fitted law, labelled at their right end where there is room. Each point is "
     "a run, in the colour of its loss. Compute is equal along a dotted line.", "no law", figure_surface, 0},
    {"The best data/model ratio", "Training tokens per training FLOP per token, against compute.",
     "neither a law with a best split nor minima", figure_ratio, 1},
    {"Learning rate and batch",
     "All runs at the best size of each compute budget, and the geometric mean of those within 0.25% of the "
     "lowest loss. The objectives are drawn side by side.",
     "no budget has runs that differ only in learning rate or batch", figure_rates, 1},
    {"Training curves", "From the largest compute budget whose runs have logs.",
     "no budget has runs with logs (--runs DIR) that end as its points do", figure_curves, 0},
};
enum { N_SECTIONS = sizeof sections / sizeof *sections };

// Put the lines that `print` writes on the page, as items of a list.
static void put_report(FILE *html, const Group *g, void (*print)(FILE *, const Group *)) {
    char *text, *save = NULL;
    size_t size;
    FILE *f = text_open(&text, &size);
    print(f, g);
    text_close(f);
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        line += strspn(line, " ");
        fputs(strncmp(line, "warning", 7) ? "<li>" : "<li class=\"warning\">", html);
        put_escaped(html, line), fputs("</li>\n", html);
    }
    free(text);
}

// Put the law of a group on the page, and what it is based on.
static void put_law(FILE *html, const Group *g) {
    static const char *const names[N_LAW] = {"E", "A", "B", "α", "β", "", "a", "b", "G"};
    char name[400];
    double floor_value = mean_floor(g);
    group_name(name, sizeof name, g->objective, g->data, 90);
    fputs("<div>\n<h3>", html), put_escaped(html, name), fputs("</h3>\n", html);
    if (g->has_law) fputs("<table>\n<tr><th></th><th>value</th><th>95% interval</th></tr>\n", html);
    else
        fprintf(html, "<p class=\"note\">No law: it needs %d different (F, D), with %d different F and "
                "D.</p>\n", isnan(fit_opt.fixed.E) ? 5 : 4, isnan(fit_opt.fixed.E) ? 3 : 2);
    for (int k = 0; g->has_law && k < N_LAW; k++) {
        if (k == LAW_HUBER) continue;
        fprintf(html, "<tr><th>%s</th><td>%s</td><td>", names[k], number_text(g->law.v[k], 4));
        if (k == LAW_E && !isnan(fit_opt.fixed.E)) fputs("given", html);
        else if (g->n_draws < 2) fputs("–", html);
        else fprintf(html, "%s … %s", number_text(g->lo.v[k], 4), number_text(g->hi.v[k], 4));
        fputs("</td></tr>\n", html);
    }
    fprintf(html, "%s<ul>\n", g->has_law ? "</table>\n" : "");
    put_report(html, g, print_verdict), put_report(html, g, print_points);
    if (g->has_law && floor_value > 0)
        fprintf(html, "<li>the exact floor is %.4f: E − floor = %+.4f</li>\n", floor_value,
                g->law.E - floor_value);
    if (g->held_n)
        fprintf(html, "<li>held out: a fit without C ≥ %s predicts its %zu points %+.2f%% off (rms "
                "%.2f%%)</li>\n", num3(g->budget[g->n_budgets - 1].C), g->held_n,
                100 * g->held_mean, 100 * g->held_rms);
    put_report(html, g, print_warnings);
    fputs("</ul>\n</div>\n", html);
}

static void put_section(const Page *page, const Fit *fit, int k) {
    char name[400];
    fprintf(page->html, "<section>\n<h2>%s</h2>\n<p>%s</p>\n<div class=\"panels\">\n", sections[k].heading,
            sections[k].words);
    for (size_t i = 0, n; i < fit->n; i += n) {
        const Group *g = &fit->group[i];
        for (n = 1; sections[k].together && i + n < fit->n && !strcmp(g[n].data, g->data);) n++;
        if (sections[k].draw(page, g, n)) continue;
        group_name(name, sizeof name, n == 1 ? g->objective : "", g->data, 90);
        fputs("<p class=\"note\">", page->html), put_escaped(page->html, name);
        fprintf(page->html, ": left out: %s.</p>\n", sections[k].missing);
    }
    fputs("</div>\n</section>\n", page->html);
}

static void put_page(const Page *page, const Fit *fit) {
    FILE *html = page->html;
    fprintf(html, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
            "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
            "<meta name=\"color-scheme\" content=\"light dark\">\n<title>Scaling law of %zu runs</title>\n"
            "<style>\n%s%s</style>\n</head>\n<body>\n<h1>Scaling law of %zu runs</h1>\n", fit->points,
            plot_style, page_style, fit->points);
    fprintf(html, "<p>The loss as a function of model and data: L(F, D) = E + A/F<sup>α</sup> + "
            "B/D<sup>β</sup>, where F is the %s of the model%s, D the training %s, and C = F D the compute. "
            "The best split of C is F_opt = G C<sup>a</sup> and D_opt = C<sup>b</sup>/G, with a = β/(α+β) "
            "and b = α/(α+β).</p>\n",
            reading.columns ? "size" : "training FLOPs per token", reading.with_head ? " with its head" : "",
            reading.columns ? "data" : "tokens");
    fputs("<section>\n<h2>The law</h2>\n<p>The intervals come from a bootstrap over runs.</p>\n"
          "<div class=\"panels\">\n", html);
    for (size_t i = 0; i < fit->n; i++) put_law(html, &fit->group[i]);
    fputs("</div>\n</section>\n", html);
    for (int k = 0; k < N_SECTIONS; k++) put_section(page, fit, k);
    fputs("</body>\n</html>\n", html);
}

typedef struct {
    FitSettings fit; // first, so that the offsets in fit_options are right
    const char *svg, *runs;
} PlotSettings;

#define TO(field) .offset = offsetof(PlotSettings, field)
static Option plot_options[2 + sizeof fit_options / sizeof *fit_options] = {
    {"svg", TEXT, FREE, TO(svg), 0, 0, "DIR", "write each panel also as DIR/FIGURE-OBJECTIVE-DATA.svg"},
    {"runs", TEXT, FREE, TO(runs), 0, 0, "DIR", "training curves from DIR/NAME/main.log of the points' runs (runs)"},
}; // plot_main adds those of dev/fit
#undef TO

int plot_main(int argc, char **argv) {
    PlotSettings s = {.fit = fit_opt};
    Page page = {0};
    char *text;
    size_t size, n = 2;
    program = "plot";
    for (const Option *o = fit_options; o->name; o++)
        if (strcmp(o->name, "json") && strcmp(o->name, "predict") && strcmp(o->name, "hours") &&
            strcmp(o->name, "residuals")) plot_options[n++] = *o;
    parse_options(plot_options, &s, argc, argv);
    fit_opt = s.fit, page.dir = s.svg;
    if (fit_opt.help) {
        printf("usage: plot POINTS… [--option value …] > report.html\n\n"
               "Fit a scaling law to the runs in CSV files, and draw it.\n\n");
        print_options(plot_options);
        fputs(fit_notes, stdout);
        return 0;
    }
    settle_fit_settings();
    if (s.runs || access("runs/.", R_OK) == 0) find_logs(&page, s.runs ? s.runs : "runs");
    Fit fit = read_files(&fit_opt.points);
    for (size_t i = 0; i < fit.n; i++) fit_group(&fit.group[i]);
    if (page.dir && mkdir(page.dir, 0777) && errno != EEXIST)
        die("--svg %s: cannot make this folder: %s", page.dir, strerror(errno));
    page.html = text_open(&text, &size); // so that a page is printed whole or not at all
    put_page(&page, &fit);
    text_close(page.html);
    fwrite(text, 1, size, stdout);
    free(text);
    return 0;
}

#ifndef PLOT_NO_MAIN
int main(int argc, char **argv) {
    open_streams();
    set_threads(0);
    return close_stdout(plot_main(argc, argv));
}
#endif
#endif
