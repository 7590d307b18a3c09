/*
The village: training text about a small invented world. Because it is generated, the lowest achievable loss
is known exactly.

Everyone in the village has a name and a few facts (a town, a trade, a pet, …), drawn once from the seed. A
document begins with the end-of-text token and says a few sentences about one person; some people are met far
more often than others. A sentence is a template made of plain words, slots for the person's name and facts,
and free slots (a day, an adjective). To predict such text well, a model has to store the facts, which takes
capacity, and to have met them often enough, which takes data.

    data/village --out data/village                       make texts, vocabulary, and the usual floors
    data/village --floor --out data/village --seq-len 64  add one more floor

A floor is the lowest loss that any model can reach on the validation rows. The chapter before the last one
computes it.
*/
#ifndef VILLAGE_C
#define VILLAGE_C
#ifndef TOKENIZE_NO_MAIN
#define TOKENIZE_NO_MAIN
#endif
#include "tokenize.c"

// ----------------------------------------------------------------------------
// the language

// What fills a slot. All kinds but the last two depend on the person the document is about.
enum { VILLAGE_FIRST, VILLAGE_LAST, VILLAGE_SEX, VILLAGE_FACT, VILLAGE_FREE, VILLAGE_PLAIN };

// The words that can fill one kind of slot. With endings, they are all words combined with all endings. No word
// may be in two classes, or be in a class and also a plain word of a template: that keeps the floor simple.
typedef struct {
    const char *name;
    int kind;
    const char *words, *endings;
} VillageClass;

typedef struct {
    double weight;    // how often it is said, relative to the others
    const char *text; // words and {slots}, separated by spaces
} VillageTemplate;

typedef struct {
    const VillageClass *classes;      // both lists end with an empty entry
    const VillageTemplate *templates;
    double more;                      // the probability that another sentence follows a sentence
} VillageLanguage;

// First names alternate: a man's, a woman's, a man's … as in "He She" and "his her". The words that may
// follow "a" begin with a consonant.
const VillageClass village_classes[] = {
    {"first", VILLAGE_FIRST, "Mar Jon Luc Tam Ros Bel Cor Dan El Fred Gil Hel Is Ker Nor Val",
     "o a us ina an ia or ella ard ette in ora en isa ert anne"},
    {"last", VILLAGE_LAST, "Ash Black Crow Dun Fair Gold Hazel Kirk Lock Moss North Pen Rad Swan Thorn Whit",
     "ley wood well worth field more man son land brook stone low den croft shaw gate"},
    {"He", VILLAGE_SEX, "He She", NULL},
    {"his", VILLAGE_SEX, "his her", NULL},
    {"town", VILLAGE_FACT, "Ox Mil Stan Green Brom Wick Hart Lang",
     "bridge ton ford mouth bury ham stead by"},
    {"trade", VILLAGE_FACT,
     "baker brewer butcher carpenter carter cobbler cook cooper dancer dentist doctor draper driver dyer "
     "farmer ferryman fiddler fisherman forester gardener glazier goldsmith grocer guard harper hatter "
     "hunter jeweller joiner juggler lawyer locksmith mason mayor miller miner nurse painter pastor pilot "
     "plumber poet porter postman potter preacher printer roofer saddler sailor scholar sexton shepherd "
     "singer smith spinner surgeon tailor tanner teacher tinker trader watchmaker weaver", NULL},
    {"pet", VILLAGE_FACT,
     "cat dog rabbit goat hen duck goose pony donkey parrot canary hamster mouse rat ferret fox lizard snake "
     "toad frog newt turtle goldfish pigeon raven crow magpie lamb pig calf badger hedgehog", NULL},
    {"food", VILLAGE_FACT,
     "bread cheese soup stew pie porridge rice beans lentils mushrooms potatoes turnips carrots cabbage "
     "leeks onions apples pears plums cherries grapes honey jam butter pancakes dumplings noodles sausages "
     "bacon trout herring walnuts", NULL},
    {"drink", VILLAGE_FACT,
     "tea coffee milk cider beer wine water cocoa lemonade mead punch sherry brandy broth ale gin", NULL},
    {"colour", VILLAGE_FACT,
     "red blue green yellow brown grey black white pink purple violet crimson scarlet turquoise golden "
     "silver", NULL},
    {"hobby", VILLAGE_FACT,
     "reading dancing painting singing fishing hunting knitting sewing carving whittling gardening riding "
     "rowing sailing swimming skating climbing wrestling fencing juggling whistling gambling baking brewing "
     "weaving drawing writing rhyming drumming fiddling stargazing cooking", NULL},
    {"fear", VILLAGE_FACT,
     "ghosts wolves bears spiders snakes bats bees wasps rats thunder lightning storms floods fire darkness "
     "heights caves bridges mirrors clowns witches giants dragons doctors crowds silence owls eels moths "
     "leeches masks scarecrows", NULL},
    {"day", VILLAGE_FREE, "Saturday Sunday Monday Friday Wednesday Tuesday Thursday", NULL},
    {"month", VILLAGE_FREE,
     "May June December January April March July October August September February November", NULL},
    {"place", VILLAGE_FREE,
     "market church mill river harbour castle forest school inn bridge square fountain library theatre "
     "station meadow", NULL},
    {"adjective", VILLAGE_FREE,
     "quiet cheerful clever proud kind gentle stubborn lazy famous funny grumpy handsome lonely lucky merry "
     "nervous noisy patient plump polite shy silly sleepy strange tall thin tidy tired wise young brave "
     "careful", NULL},
    {"number", VILLAGE_FREE, "two three four five six seven eight nine", NULL},
    {0},
};

const VillageTemplate village_templates[] = {
    {1.5, "{first} {last} lives in {town} ."},
    {1.0, "{first} {last} is a {trade} in {town} ."},
    {1.0, "{first} is a {adjective} {trade} ."},
    {1.0, "{first} {last} likes {food} and {drink} ."},
    {1.0, "{first} {last} keeps a {adjective} {pet} ."},
    {1.0, "On {day} {first} took {his} {pet} to the {place} ."},
    {1.0, "{He} spends {his} evenings {hobby} with {his} {pet} ."},
    {1.0, "{first} {last} painted {his} house {colour} ."},
    {1.0, "Nobody in {town} fears {fear} like {first} {last} does ."},
    {1.0, "{He} wore a {colour} coat last {month} ."},
    {1.0, "Every {day} {first} {last} cooks {food} for {his} friends ."},
    {1.0, "The {trade} {first} {last} dreams of {fear} ."},
    {1.0, "If {first} {last} is thirsty , offer {drink} ."},
    {1.0, "Ask {first} {last} about {hobby} , not about {fear} ."},
    {1.0, "With {his} {pet} and {drink} {first} is happy ."},
    {0.5, "{first} bought {number} {colour} chairs on {day} ."},
    {0.5, "{He} has been a {trade} for {number} years ."},
    {0.5, "One {month} morning {first} met a {adjective} stranger at the {place} ."},
    {0, NULL},
};

const VillageLanguage village_language = {village_classes, village_templates, 0.6};

// ----------------------------------------------------------------------------
// the world

enum { VILLAGE_SLOTS = 16, VILLAGE_TEMPLATES = 32, VILLAGE_CLASSES = 256, VILLAGE_VOCAB_BYTES = 1 << 20 };

// Random streams: for the people, the training text, the validation text.
enum { STREAM_PEOPLE = STREAM_VILLAGE, STREAM_TRAIN_TEXT, STREAM_VAL_TEXT };

typedef struct {
    uint64_t seed;
    Vocab vocab;                    // the tokens are whole words, class by class; end of text is the last
    int class_of[65536];            // of each token
    double prob[65536], cdf[65536]; // P(token | class), which is 1 if the person decides, and its running sum

    int n_classes, n_facts;     // classes of the language, then one for each plain word, then end of text
    int kind[VILLAGE_CLASSES];
    int first[VILLAGE_CLASSES]; // the first token of the class
    int size[VILLAGE_CLASSES];  // the number of its tokens
    int fact[VILLAGE_CLASSES];  // which of a person's facts decides its token, or -1

    int n_templates, longest;                   // longest: tokens in the longest template
    int length[VILLAGE_TEMPLATES];              // tokens
    int slot[VILLAGE_TEMPLATES][VILLAGE_SLOTS]; // the class of each token
    double template_prob[VILLAGE_TEMPLATES], template_cdf[VILLAGE_TEMPLATES];
    double share_cdf[VILLAGE_TEMPLATES];        // each template's share of all tokens, as a running sum
    double mean_length;                         // of a sentence, in tokens
    double more;

    size_t people;
    double *person_prob, *person_cdf; // (people)
    uint16_t *facts;                  // (people, n_facts) tokens
} VillageWorld;

// Scale prob (n) so that it sums to 1; cdf (n) is its running sum.
void village_distribution(double *prob, double *cdf, size_t n) {
    double sum = 0, run = 0;
    for (size_t i = 0; i < n; i++) sum += prob[i];
    for (size_t i = 0; i < n; i++) prob[i] /= sum, run += prob[i], cdf[i] = run;
}

// A draw from a distribution, where u is uniform in [0, 1): the first i of n whose running sum exceeds u.
size_t village_pick(const double *cdf, size_t n, double u) {
    size_t low = 0, high = n - 1;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (cdf[middle] > u) high = middle;
        else low = middle + 1;
    }
    return low;
}

// The token of a word with an ending; a new one, without a class yet, if there is none. Its string begins with
// a space, except for punctuation and end of text. The vocabulary is put together as the file that it will be.
static int village_token(VillageWorld *w, const char *word, size_t n_word, const char *end, size_t n_end) {
    Vocab *v = &w->vocab;
    size_t id = v->V, space = strchr(".,<", word[0]) == NULL, n = space + n_word + n_end;
    if (n > 255 || id >= 65535 || v->size + 256 > VILLAGE_VOCAB_BYTES)
        die("\"%.20s…\": too long a word, or too many words", word);
    char *s = v->file + v->size + 1;
    memcpy(s, " ", space), memcpy(s + space, word, n_word), memcpy(s + space + n_word, end, n_end);
    for (size_t i = 0; i < id; i++)
        if (v->length[i] == n && memcmp(v->string[i], s, n) == 0) return (int)i;
    s[-1] = (char)(v->length[id] = (unsigned char)n);
    v->string[id] = s, v->size += 1 + n, v->V++;
    w->class_of[id] = -1;
    return (int)id;
}

// Put a new token in the class that was added last.
static void village_classify(VillageWorld *w, int id) {
    int c = w->n_classes - 1;
    if (w->class_of[id] >= 0)
        die("\"%.*s\": this word is in two classes", w->vocab.length[id], w->vocab.string[id]);
    w->class_of[id] = c, w->prob[id] = w->cdf[id] = 1;
    if (w->size[c]++ == 0) w->first[c] = id;
}

// Begin a class; its words come next.
static int village_add_class(VillageWorld *w, int kind) {
    int c = w->n_classes++;
    if (c >= VILLAGE_CLASSES) die("the language has more than %d classes and plain words", VILLAGE_CLASSES);
    w->kind[c] = kind;
    w->fact[c] = kind < VILLAGE_FREE ? w->n_facts++ : -1;
    return c;
}

// The word after the first of a text, or its end.
static const char *village_next_word(const char *text) {
    text += strcspn(text, " ");
    return text + (*text == ' ');
}

// The classes of the language and their words. Free words are drawn with probability ∝ 1/rank.
static void village_add_classes(VillageWorld *w, const VillageLanguage *language) {
    for (const VillageClass *class = language->classes; class->name; class++) {
        int c = village_add_class(w, class->kind);
        for (const char *word = class->words; *word; word = village_next_word(word)) {
            const char *end = class->endings ? class->endings : "";
            do village_classify(w, village_token(w, word, strcspn(word, " "), end, strcspn(end, " ")));
            while (*(end = village_next_word(end)));
        }
        if (class->kind != VILLAGE_FREE) continue;
        for (int j = 0; j < w->size[c]; j++) w->prob[w->first[c] + j] = 1.0 / (j + 1);
        village_distribution(w->prob + w->first[c], w->cdf + w->first[c], (size_t)w->size[c]);
    }
}

// The class of a {slot} or a plain word of n bytes in a template. A plain word becomes a class by itself when
// it is met for the first time.
static int village_class_of(VillageWorld *w, const VillageLanguage *language, const char *text, size_t n) {
    for (int c = 0; text[0] == '{' && language->classes[c].name; c++) {
        const char *name = language->classes[c].name;
        if (strlen(name) == n - 2 && !memcmp(name, text + 1, n - 2)) return c;
    }
    if (text[0] == '{') die("%.*s: a template has this slot, but there is no such class", (int)n, text);
    int id = village_token(w, text, n, "", 0), c = w->class_of[id];
    if (c >= 0 && w->kind[c] == VILLAGE_PLAIN) return c;
    c = village_add_class(w, VILLAGE_PLAIN);
    village_classify(w, id);
    return c;
}

// The templates, as lists of classes.
static void village_add_templates(VillageWorld *w, const VillageLanguage *language) {
    double share[VILLAGE_TEMPLATES];
    w->more = language->more;
    for (int k = 0; language->templates[k].text; k++) {
        if (w->n_templates++ == VILLAGE_TEMPLATES) die("more than %d templates", VILLAGE_TEMPLATES);
        const char *text = language->templates[k].text;
        for (const char *word = text; *word; word = village_next_word(word)) {
            if (w->length[k] == VILLAGE_SLOTS) die("\"%s\": this template is too long", text);
            w->slot[k][w->length[k]++] = village_class_of(w, language, word, strcspn(word, " "));
        }
        w->template_prob[k] = language->templates[k].weight;
        w->longest = MAX(w->longest, w->length[k]);
        share[k] = w->template_prob[k] * w->length[k];
    }
    village_distribution(w->template_prob, w->template_cdf, (size_t)w->n_templates);
    village_distribution(share, w->share_cdf, (size_t)w->n_templates);
    for (int k = 0; k < w->n_templates; k++) w->mean_length += w->template_prob[k] * w->length[k];
}

// The people, the one met most often first. No two have the same name; facts are drawn uniformly.
static void village_add_people(VillageWorld *w, double zipf) {
    size_t n_first = 1, n_last = 1;
    for (int c = 0; c < w->n_classes; c++) {
        if (w->kind[c] == VILLAGE_FIRST) n_first = (size_t)w->size[c];
        if (w->kind[c] == VILLAGE_LAST) n_last = (size_t)w->size[c];
    }
    if (w->people < 1 || w->people > n_first * n_last)
        die("--people %zu: there are names for 1 to %zu people", w->people, n_first * n_last);
    w->person_prob = alloc_or_die(w->people * sizeof(double));
    w->person_cdf = alloc_or_die(w->people * sizeof(double));
    w->facts = alloc_or_die(w->people * (size_t)w->n_facts * sizeof(uint16_t));
    for (size_t p = 0; p < w->people; p++) {
        size_t name = shuffled_row(p, n_first * n_last, hash3(w->seed, STREAM_PEOPLE, UINT64_MAX), 0);
        for (int c = 0; c < w->n_classes; c++) {
            if (w->fact[c] < 0) continue;
            size_t i = p * (size_t)w->n_facts + (size_t)w->fact[c];
            uint64_t value = hash3(w->seed, STREAM_PEOPLE, i);
            if (w->kind[c] == VILLAGE_FIRST || w->kind[c] == VILLAGE_SEX) value = name / n_last;
            if (w->kind[c] == VILLAGE_LAST) value = name;
            w->facts[i] = (uint16_t)((uint64_t)w->first[c] + value % (uint64_t)w->size[c]);
        }
        w->person_prob[p] = pow((double)(p + 1), -zipf);
    }
    village_distribution(w->person_prob, w->person_cdf, w->people);
}

// Make the world of a language, a seed and a number of people. The n-th person is met
// with probability ∝ n^-zipf.
VillageWorld *village_world(const VillageLanguage *language, uint64_t seed, size_t people, double zipf) {
    VillageWorld *w = alloc_or_die(sizeof *w);
    w->seed = seed, w->people = people;
    w->vocab = (Vocab){.file = alloc_or_die(VILLAGE_VOCAB_BYTES), .size = HEADER * sizeof(int32_t)};
    w->vocab.length = alloc_or_die(65536);
    w->vocab.string = alloc_or_die(65536 * sizeof(char *));
    village_add_classes(w, language);
    village_add_templates(w, language);
    w->vocab.eot = (int)w->vocab.V;
    village_add_class(w, VILLAGE_PLAIN);
    village_classify(w, village_token(w, "<|endoftext|>", 13, "", 0));
    int32_t header[4] = {VOCAB_MAGIC, 2, (int32_t)w->vocab.V, w->vocab.eot};
    memcpy(w->vocab.file, header, sizeof header);
    w->vocab.checksum = checksum_add(CHECKSUM_START, w->vocab.file, w->vocab.size);
    village_add_people(w, zipf);
    return w;
}

void village_world_free(VillageWorld *w) {
    free(w->vocab.file), free(w->vocab.string), free(w->vocab.length);
    free(w->person_prob), free(w->person_cdf), free(w->facts), free(w);
}

// ----------------------------------------------------------------------------
// the text

// An endless text, generated token by token.
typedef struct {
    const VillageWorld *world;
    uint64_t stream, draws; // draws: the number of random numbers used so far
    size_t person;
    int template, next;     // the next token is this one of this template; end of text if template is -1
} VillageText;

static double village_uniform(VillageText *text) {
    return uniform(text->world->seed, text->stream, text->draws++);
}

static size_t village_draw(VillageText *text, const double *cdf, size_t n) {
    return village_pick(cdf, n, village_uniform(text));
}

// The mean number of tokens in a document: end of text and 1/(1 - more) sentences.
static double village_document_length(const VillageWorld *w) {
    return 1 + w->mean_length / (1 - w->more);
}

// Begin a text as if it had been going on forever: at an end of text, or at any token of a sentence, which is
// drawn by its share of all text. Nothing else depends on the past: the number of sentences still to come is
// geometric, hence independent of how many there were, and documents are equally long for all people.
void village_begin(VillageText *text, const VillageWorld *w, uint64_t stream) {
    *text = (VillageText){.world = w, .stream = stream, .template = -1};
    text->person = village_draw(text, w->person_cdf, w->people);
    if (village_uniform(text) * village_document_length(w) < 1) return;
    text->template = (int)village_draw(text, w->share_cdf, (size_t)w->n_templates);
    text->next = (int)(village_uniform(text) * w->length[text->template]);
}

uint16_t village_next(VillageText *text) {
    const VillageWorld *w = text->world;
    uint16_t token = (uint16_t)w->vocab.eot;
    int more = 1;
    if (text->template < 0) text->person = village_draw(text, w->person_cdf, w->people);
    else {
        int c = w->slot[text->template][text->next++], first = w->first[c];
        if (w->fact[c] >= 0) token = w->facts[text->person * (size_t)w->n_facts + (size_t)w->fact[c]];
        else if (w->size[c] == 1) token = (uint16_t)first;
        else token = (uint16_t)((size_t)first + village_draw(text, w->cdf + first, (size_t)w->size[c]));
        if (text->next < w->length[text->template]) return token;
        more = village_uniform(text) < w->more;
    }
    text->template = more ? (int)village_draw(text, w->template_cdf, (size_t)w->n_templates) : -1;
    text->next = 0;
    return token;
}

// Write a shard of n tokens. Returns the unigram entropy of its tokens without end of text, in nats.
double village_write_text(const VillageWorld *w, Writer *writer, size_t n, uint64_t stream) {
    int32_t header[HEADER] = {SHARD_MAGIC, 1, (int32_t)n, (int32_t)w->vocab.V, w->vocab.eot + 1};
    uint16_t buffer[4096];
    size_t *counts = alloc_or_die(w->vocab.V * sizeof *counts);
    VillageText text;
    memcpy(&header[5], &w->vocab.checksum, sizeof w->vocab.checksum);
    village_begin(&text, w, stream);
    writer_put(writer, header, sizeof header);
    for (size_t left = n, some; left > 0; left -= some) {
        some = MIN(left, 4096);
        for (size_t i = 0; i < some; i++) counts[buffer[i] = village_next(&text)]++;
        writer_put(writer, buffer, some * sizeof *buffer);
    }
    double entropy = 0, words = (double)(n - counts[w->vocab.eot]);
    for (size_t id = 0; id < w->vocab.V; id++) {
        double p = (double)counts[id] / words;
        if ((int)id != w->vocab.eot && p > 0) entropy -= p * log(p);
    }
    free(counts);
    return entropy;
}

// ----------------------------------------------------------------------------
// the floor

/*
How well could a model predict a row if it knew the language and everyone in the village? Ends of text cut the
row into segments. They are never masked, so a model sees where documents end; and each document has a newly
drawn person, so segments are independent of each other. Within a segment:

- What the visible tokens say about the person is independent of what they say about the sentences. No word is
  in two classes, so a visible "Oxbridge" is the person's town, whatever sentence it is in. The person is one
  of those who have all the visible facts, with the same relative probabilities as before. And which sentences
  are said does not depend on the person.
- Where sentences begin and which templates they are is a semi-Markov chain. Going forward, one computes
  P(visible tokens before t, and a sentence begins at t); going backward, P(visible tokens from t on | a
  sentence begins at t). Their products give the posterior of each template at each place, including sentences
  that cross the beginning or the end of the row.
- So P(masked token = v) = P(its class is here | visible) · P(v | its class, and the person if it is a fact).

This is exact. No model that sees only the row can do better in expectation.
*/

// P(the visible tokens among a … b-1 | template k begins at s), apart from the person's part in it. x and
// hidden (1: masked) are the row's.
static double village_sentence_prob(const VillageWorld *w, const uint16_t *x, const char *hidden, long a,
                                    long b, int k, long s) {
    double prob = 1;
    for (long t = MAX(a, s); t < MIN(b, s + w->length[k]); t++) {
        if (hidden[t]) continue;
        if (w->class_of[x[t]] != w->slot[k][t - s]) return 0;
        prob *= w->prob[x[t]];
    }
    return prob;
}

// P(the visible tokens among a … b-1), apart from the person's part in it. `inside`: the segment may begin in
// the middle of a document; `ended`: its document ends at b, and does not go on after the row. If role is not
// NULL, the part of this probability in which the token at t is of the class of x[t] is added to role[t], for
// each hidden t. (Nothing underflows: a sentence costs about three decimal digits, and documents of ninety
// sentences do not occur.)
static double village_sentences(const VillageWorld *w, const uint16_t *x, const char *hidden, long a, long b,
                                int inside, int ended, double *role) {
    if (a == b) return !inside && !ended;
    double *memory = alloc_or_die(2 * (size_t)(b - a + 1) * sizeof(double)), total = 0;
    double *forward = memory - a, *backward = forward + (b - a + 1); // (a … b)
    backward[b] = ended ? 1 - w->more : 1;
    for (long t = b - 1; t > a; t--)
        for (int k = 0; k < w->n_templates; k++) {
            long end = t + w->length[k];
            if (ended && end > b) continue;
            backward[t] += w->more * w->template_prob[k] * backward[MIN(end, b)]
                         * village_sentence_prob(w, x, hidden, a, b, k, t);
        }
    // In an endless text, a sentence begins at a given place with a probability of sentences per token.
    forward[a] = inside ? 1 / (1 - w->more) / village_document_length(w) : 1;
    for (long s = inside ? a - w->longest + 1 : a; s < b; s++)
        for (int k = 0; k < w->n_templates; k++) {
            long end = s + w->length[k];
            if (end <= a || (ended && end > b) || forward[MAX(s, a)] == 0) continue;
            double here = forward[MAX(s, a)] * w->template_prob[k]
                        * village_sentence_prob(w, x, hidden, a, b, k, s);
            if (here == 0) continue;
            if (end < b) forward[end] += here * w->more;
            here *= backward[MIN(end, b)];
            if (end >= b) total += here; // exactly one sentence reaches the end of the segment
            for (long t = MAX(a, s); role && t < MIN(b, end); t++)
                if (hidden[t] && w->class_of[x[t]] == w->slot[k][t - s]) role[t] += here;
        }
    free(memory);
    return total;
}

// P(the facts visible among tokens a … b-1), over all people. If share is not NULL, the part of this
// probability in which the person's fact is x[t] is added to share[t], for each hidden fact t.
static double village_people(const VillageWorld *w, const uint16_t *x, const char *hidden, long a, long b,
                             double *share) {
    int *fact = alloc_or_die(2 * (size_t)(b - a) * sizeof *fact), *value = fact + (b - a), n_seen = 0;
    double total = 0;
    for (long t = a; t < b; t++) { // list the visible facts: which, and what is seen of it
        int f = w->fact[w->class_of[x[t]]];
        if (f >= 0 && !hidden[t]) fact[n_seen] = f, value[n_seen++] = x[t];
    }
    for (size_t p = 0; p < w->people; p++) {
        const uint16_t *facts = w->facts + p * (size_t)w->n_facts;
        int i = 0;
        while (i < n_seen && facts[fact[i]] == value[i]) i++;
        if (i < n_seen) continue;
        total += w->person_prob[p];
        for (long t = a; share && t < b; t++) {
            int f = w->fact[w->class_of[x[t]]];
            if (f >= 0 && hidden[t] && facts[f] == x[t]) share[t] += w->person_prob[p];
        }
    }
    free(fact);
    return total;
}

// Returns log P(the visible tokens of a row of n). If nats is not NULL, the sum over the hidden tokens of
// -log P(token | the visible ones) is added to it.
double village_row(const VillageWorld *w, const uint16_t *x, const char *hidden, long n, double *nats) {
    double *role = alloc_or_die(2 * (size_t)n * sizeof(double)), *share = role + n, log_prob = 0;
    int inside = x[0] != w->vocab.eot;
    if (!inside) log_prob = -log(village_document_length(w));
    for (long a = !inside, b; a <= n; a = b + 1, inside = 0) {
        for (b = a; b < n && x[b] != w->vocab.eot; b++) {}
        double sentences = village_sentences(w, x, hidden, a, b, inside, b < n, nats ? role : NULL);
        double people = village_people(w, x, hidden, a, b, nats ? share : NULL);
        log_prob += log(sentences) + log(people);
        for (long t = a; nats && t < b; t++)
            if (hidden[t]) {
                int is_fact = w->fact[w->class_of[x[t]]] >= 0;
                *nats -= log(role[t] / sentences * (is_fact ? share[t] / people : w->prob[x[t]]));
            }
    }
    free(role);
    return log_prob;
}

typedef struct {
    double sum, se; // nats of all predicted tokens together; standard error of their mean
    size_t count;   // predicted tokens
} VillageFloor;

// The floor of n_val validation rows of T tokens: of the masked tokens given the others, or (ntp) of the
// whole row given its first token.
VillageFloor village_floor(const VillageWorld *w, const Shards *shards, int ntp, size_t T,
                                  double mask_rate, size_t n_val) {
    size_t n_rows = shards_rows(shards, T, (size_t)ntp);
    double *nats = alloc_or_die(n_val * sizeof *nats), *count = alloc_or_die(n_val * sizeof *count);
    #pragma omp parallel for schedule(dynamic)
    for (size_t r = 0; r < n_val; r++) {
        uint16_t *x = alloc_or_die((T + 1) * sizeof *x);
        char *hidden = alloc_or_die(T + 1);
        shards_read(shards, val_row(r, n_val, n_rows), T, (size_t)ntp, x);
        for (size_t t = 0; t < T && !ntp; t++) {
            hidden[t] = x[t] != w->vocab.eot && is_masked(VAL_SEED, STREAM_VAL_MASK, r, T, t, mask_rate);
            count[r] += hidden[t];
        }
        if (ntp) {
            count[r] = (double)T;
            nats[r] = village_row(w, x, hidden, 1, NULL) - village_row(w, x, hidden, (long)T + 1, NULL);
        } else village_row(w, x, hidden, (long)T, &nats[r]);
        free(x), free(hidden);
    }
    VillageFloor all = {0};
    double squares = 0;
    for (size_t r = 0; r < n_val; r++) all.sum += nats[r], all.count += (size_t)count[r];
    for (size_t r = 0; r < n_val; r++) squares += pow(nats[r] - all.sum / (double)all.count * count[r], 2);
    if (n_val > 1) all.se = sqrt(squares * (double)n_val / (double)(n_val - 1)) / (double)all.count;
    free(nats), free(count);
    return all;
}

// ----------------------------------------------------------------------------
// the program
#ifndef VILLAGE_NO_MAIN

typedef struct {
    const char *out, *objective;
    size_t tokens, val_tokens, people, seed, seq_len, val_rows;
    double zipf, mask_rate;
    int floor, help;
} VillageSettings;

#define TO(field) .offset = offsetof(VillageSettings, field)
static Option village_options[] = {
    {"out", TEXT, FREE, TO(out), 0, 0, "PREFIX", "where the files are: data/village_train.bin, …"},
    {"tokens", COUNT, FREE, TO(tokens), 1, INT32_MAX, "N", "training tokens (32e6)"},
    {"val-tokens", COUNT, FREE, TO(val_tokens), 1, INT32_MAX, "N", "validation tokens (1e6)"},
    {"people", COUNT, FREE, TO(people), 1, 65536, "N", "people in the village (32768)"},
    {"zipf", REAL, FREE, TO(zipf), 0, 10, "S", "the n-th of them is met with probability ∝ 1/n^S (1)"},
    {"seed", COUNT, FREE, TO(seed), 0, 1e15, "N", "another seed makes another village (1)"},
    {"floor", FLAG, FREE, TO(floor), 0, 0, "", "add a floor for the settings that follow:"},
    {"objective", TEXT, FREE, TO(objective), 0, 0, "NAME", "… mlm or ntp (mlm)"},
    {"seq-len", COUNT, FREE, TO(seq_len), 1, 65536, "N", "… tokens in a row (128)"},
    {"mask-rate", REAL, FREE, TO(mask_rate), 1e-6, 1, "R", "… share of the tokens that mlm masks (0.2)"},
    {"val-rows", COUNT, FREE, TO(val_rows), 1, 1e8, "N", "… rows of a validation (512, or all there are)"},
    {"help", FLAG, FREE, TO(help), 0, 0, "", "print this list"},
    {0},
};
#undef TO

// A floor file begins with a line that says which village it is about, and one that names the columns.
#define VILLAGE_WORLD_LINE "# village people %zu zipf %lg seed %zu\n"
#define VILLAGE_COLUMNS "# objective T mask_rate rows seed sum count se\n"

// The world that a floor file's first line describes. Dies, naming the file, if it describes none.
static VillageWorld *village_from_line(const char *path, const char *line) {
    size_t people, seed;
    double zipf;
    if (sscanf(line, VILLAGE_WORLD_LINE, &people, &zipf, &seed) != 3)
        die("%s: the first line does not say which village this is; make it again, without --floor", path);
    return village_world(&village_language, seed, people, zipf);
}

// Compute one floor, print it, and put it in the floor file, replacing an older one for the same settings.
static void village_add_floor(const VillageSettings *s, int ntp) {
    const char *path = prefix_path(s->out, "_val.floor"), *val = prefix_path(s->out, "_val.bin");
    const char *objective = ntp ? "ntp" : "mlm";
    double mask_rate = ntp ? 1 : s->mask_rate;
    size_t T = s->seq_len;
    char key[128];
    Reader r;
    reader_open(&r, path);
    char *old = alloc_or_die(r.size + 1), *new = alloc_or_die(r.size + 512), *to = new;
    reader_get(&r, old, r.size);
    fclose(r.file);
    VillageWorld *w = village_from_line(path, old);
    Shards shards;
    shards_open(&shards, &val, 1);
    if (shards.V != w->vocab.V || shards.eot != w->vocab.eot)
        die("%s: its vocabulary is not that of %s; make both again", val, path);
    size_t n_val = MIN(s->val_rows, shards_rows(&shards, T, (size_t)ntp));
    if (n_val == 0) die("%s: shorter than one row of %zu tokens; choose a smaller --seq-len", val, T);
    VillageFloor floor = village_floor(w, &shards, ntp, T, mask_rate, n_val);
    if (floor.count == 0)
        die("%s: no token is masked; choose more --val-rows or a higher --mask-rate", val);
    if (!isfinite(floor.sum))
        die("%s: this text is not from the village of %s; make both again", val, path);
    snprintf(key, sizeof key, "%s %zu %.15g %zu %d ", objective, T, mask_rate, n_val, VAL_SEED);
    for (const char *line = old, *end; *line; line = end) {
        end = line + strcspn(line, "\n"), end += *end == '\n';
        if (strncmp(line, key, strlen(key)) == 0) continue;
        memcpy(to, line, (size_t)(end - line)), to += end - line;
    }
    to += sprintf(to, "%s%.17g %zu %.17g\n", key, floor.sum, floor.count, floor.se);
    Writer writer;
    writer_open(&writer, path);
    writer_put(&writer, new, (size_t)(to - new));
    writer_close(&writer);
    printf("%s floor of %zu rows of %zu tokens, mask rate %g: %.4f ± %.4f nats per predicted token\n",
           objective, n_val, T, mask_rate, floor.sum / (double)floor.count, floor.se);
    free(old), free(new), free(shards.tokens), village_world_free(w);
}

// Write the two texts, the vocabulary, and a floor file without floors. The old floor file is removed before
// the texts are replaced, so that it is never beside a text that it does not belong to.
static void village_make(const VillageSettings *s) {
    char lines[256];
    int n = snprintf(lines, sizeof lines, VILLAGE_WORLD_LINE VILLAGE_COLUMNS, s->people, s->zipf, s->seed);
    VillageWorld *w = village_from_line("--zipf", lines); // from the line, which may have rounded it
    outputs_keep_vocab(&w->vocab, "choose another --out, or move it away");
    Writer *train = outputs_add("_train.bin"), *val = outputs_add("_val.bin"), *vocab = outputs_add(".vocab");
    Writer *floor = outputs_add("_val.floor");
    double entropy = village_write_text(w, train, s->tokens, STREAM_TRAIN_TEXT);
    village_write_text(w, val, s->val_tokens, STREAM_VAL_TEXT);
    writer_put(vocab, w->vocab.file, w->vocab.size);
    writer_put(floor, lines, (size_t)n);
    if (unlink(floor->path) && errno != ENOENT) die("%s: cannot replace: %s", floor->path, strerror(errno));
    outputs_commit();
    printf("%s: %zu tokens about %zu people; V = %zu, ln V = %.4f, unigram entropy %.4f nats\n", train->path,
           s->tokens, s->people, w->vocab.V, log((double)w->vocab.V), entropy);
    village_world_free(w);
}

// The options of this list, which ends with NULL, must not be given.
static void village_refuse(const char *const *names, const char *reason) {
    for (; *names; names++)
        if (find_option(village_options, *names)->given) die_usage("--%s: %s", *names, reason);
}

static int village_main(int argc, char **argv) {
    VillageSettings s = {.objective = "mlm", .tokens = 32000000, .val_tokens = 1000000, .people = 32768,
                         .zipf = 1, .seed = 1, .seq_len = 128, .mask_rate = 0.2, .val_rows = 512};
    static const char *const making[] = {"tokens", "val-tokens", "people", "zipf", "seed", NULL};
    static const char *const of_floor[] = {"objective", "seq-len", "mask-rate", "val-rows", NULL};
    program = "village";
    parse_options(village_options, &s, argc, argv);
    if (s.help) {
        printf("usage: village --out PREFIX …          make PREFIX_train.bin, PREFIX_val.bin, PREFIX.vocab,\n"
               "                                       and PREFIX_val.floor with two floors\n"
               "       village --floor --out PREFIX …  add one floor to PREFIX_val.floor\n\n");
        print_options(village_options);
        return 0;
    }
    if (!s.out) die_usage("--out PREFIX: is missing; say how the files' names begin, such as data/village");
    if (s.floor) village_refuse(making, "the village is already made; leave this out");
    else village_refuse(of_floor, "is for --floor; leave it out, or add --floor");
    int ntp = strcmp(s.objective, "ntp") == 0;
    if (!ntp && strcmp(s.objective, "mlm")) die_usage("--objective %s: must be mlm or ntp", s.objective);
    outputs_open(s.out);
    if (s.floor) village_add_floor(&s, ntp);
    else {
        village_make(&s);
        for (ntp = 0; ntp < 2 && s.val_tokens > s.seq_len; ntp++) village_add_floor(&s, ntp);
    }
    return 0;
}

int main(int argc, char **argv) {
    open_streams();
    set_threads(0);
    return close_stdout(village_main(argc, argv));
}
#endif
#endif
