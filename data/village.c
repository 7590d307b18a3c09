/*
The village: a small invented world, written out as training text whose entropy is known.

Its people have a name and fixed facts (a town, a trade, a pet, …), drawn once from the seed. A document
begins with the end-of-text token and says a few sentences about one person, who is met with Zipf frequency. A
sentence is a template of plain words, of slots for the person's names and facts, and of free slots (a day, an
adjective). To predict such text well a model must store the facts, which takes capacity, and must have met
them often enough, which takes data.

    data/village --out data/village                       texts, vocabulary, floors of the default settings
    data/village --floor --out data/village --seq-len 64  one more floor

A floor is the best loss that any model can reach on the validation rows. The second half of this file
computes it, exactly.
*/
#ifndef VILLAGE_C
#define VILLAGE_C
#define OPTIBERT_NO_MAIN
#include "../train_optibert.c"

// ----------------------------------------------------------------------------
// the language

// What fills a slot. All but FREE belong to the person the document is about.
enum { VILLAGE_FREE, VILLAGE_FIRST, VILLAGE_LAST, VILLAGE_SEX, VILLAGE_FACT, VILLAGE_PLAIN };

// The words that can stand in one kind of slot. With endings, they are every word followed by every ending.
// No word may be in two classes, nor be a plain word of a template: the floor is simple because of that.
typedef struct {
    const char *name;
    int kind;
    const char *words, *endings;
} VillageClass;

typedef struct {
    double weight;    // how often it is said, relative to the others
    const char *text; // words and {slots}, with a space between any two
} VillageTemplate;

typedef struct {
    const VillageClass *classes;
    int n_classes;
    const VillageTemplate *templates;
    int n_templates;
    double more; // after each sentence, the probability that the document has another one
} VillageLanguage;

// First names go man, woman, man, woman …, as the words for the two do. What follows "a" begins with a
// consonant.
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
};

const VillageLanguage village_language = {
    village_classes, sizeof village_classes / sizeof *village_classes,
    village_templates, sizeof village_templates / sizeof *village_templates,
    0.6,
};

// ----------------------------------------------------------------------------
// the world

enum { VILLAGE_SLOTS = 16, VILLAGE_TEMPLATES = 32, VILLAGE_CLASSES = 256 };

// Random streams: who the people are; the training text; the validation text.
enum { STREAM_PEOPLE = STREAM_VILLAGE, STREAM_TRAIN_TEXT, STREAM_VAL_TEXT };

typedef struct {
    uint64_t seed;
    Vocab vocab;                    // the tokens: whole words, class by class, end of text last
    int class_of[65536];            // of each token; each plain word is a class of its own
    double prob[65536], cdf[65536]; // P(token | class) and its running sum; 1 where the person decides

    int n_classes, n_facts;     // classes: the language's, then one for each plain word, then end of text
    int kind[VILLAGE_CLASSES];
    int first[VILLAGE_CLASSES]; // the first token of the class
    int size[VILLAGE_CLASSES];  // and how many there are
    int fact[VILLAGE_CLASSES];  // which of a person's facts fills this class, or -1

    int n_templates, longest;                   // longest: tokens of the longest template
    int length[VILLAGE_TEMPLATES];              // tokens
    int slot[VILLAGE_TEMPLATES][VILLAGE_SLOTS]; // and their classes
    double template_prob[VILLAGE_TEMPLATES], template_cdf[VILLAGE_TEMPLATES];
    double share_cdf[VILLAGE_TEMPLATES];        // each template's share of all tokens, as a running sum
    double mean_length;                         // of a sentence, in tokens
    double more;

    size_t people;
    double *person_prob, *person_cdf; // (people)
    uint16_t *facts;                  // (people, n_facts): the tokens that fill the person's slots
} VillageWorld;

// The running sum of prob (n), which is first scaled to sum to 1.
void village_distribution(double *prob, double *cdf, size_t n) {
    double sum = 0, run = 0;
    for (size_t i = 0; i < n; i++) sum += prob[i];
    for (size_t i = 0; i < n; i++) prob[i] /= sum, run += prob[i], cdf[i] = run;
}

// The first i of n whose running sum exceeds u: a draw from the distribution if u is uniform.
size_t village_pick(const double *cdf, size_t n, double u) {
    size_t low = 0, high = n - 1;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (cdf[middle] > u) high = middle;
        else low = middle + 1;
    }
    return low;
}

// A new token of class c: a space (none before punctuation and end of text), head, tail.
void village_add_word(VillageWorld *w, int c, const char *head, size_t n_head, const char *tail,
                      size_t n_tail) {
    size_t id = w->vocab.V++, space = strchr(".,<", head[0]) == NULL, n = space + n_head + n_tail;
    if (id >= 65535 || n > 255) die("\"%.20s\": the language has too many words or too long ones", head);
    char *s = w->vocab.string[id] = alloc_or_die(n);
    w->vocab.length[id] = (unsigned char)n;
    if (space) s[0] = ' ';
    memcpy(s + space, head, n_head);
    memcpy(s + space + n_head, tail, n_tail);
    w->class_of[id] = c, w->prob[id] = w->cdf[id] = 1;
    if (w->size[c]++ == 0) w->first[c] = (int)id;
}

// Begin a class. Its words follow by village_add_word.
int village_add_class(VillageWorld *w, int kind) {
    int c = w->n_classes++;
    if (c >= VILLAGE_CLASSES) die("the language has more than %d classes and plain words", VILLAGE_CLASSES);
    w->kind[c] = kind;
    w->fact[c] = kind == VILLAGE_FREE || kind == VILLAGE_PLAIN ? -1 : w->n_facts++;
    return c;
}

// The word after the first of a text, or its end.
const char *village_next_word(const char *text) {
    text += strcspn(text, " ");
    return text + (*text == ' ');
}

// The classes of the language and their tokens. Free words are drawn with probability ∝ 1/rank.
void village_add_classes(VillageWorld *w, const VillageLanguage *language) {
    for (int i = 0; i < language->n_classes; i++) {
        const VillageClass *class = &language->classes[i];
        int c = village_add_class(w, class->kind);
        for (const char *word = class->words; *word; word = village_next_word(word)) {
            size_t n = strcspn(word, " ");
            if (!class->endings) village_add_word(w, c, word, n, "", 0);
            else for (const char *end = class->endings; *end; end = village_next_word(end))
                village_add_word(w, c, word, n, end, strcspn(end, " "));
        }
        if (class->kind != VILLAGE_FREE) continue;
        for (int j = 0; j < w->size[c]; j++) w->prob[w->first[c] + j] = 1.0 / (j + 1);
        village_distribution(w->prob + w->first[c], w->cdf + w->first[c], (size_t)w->size[c]);
    }
}

// The class that the first n bytes of text stand for, a {slot} or a plain word, which is made if it is new.
int village_class_of_word(VillageWorld *w, const VillageLanguage *language, const char *text, size_t n) {
    if (text[0] == '{') {
        for (int c = 0; c < language->n_classes; c++) {
            const char *name = language->classes[c].name;
            if (strlen(name) == n - 2 && !memcmp(name, text + 1, n - 2)) return c;
        }
        die("%.*s: a template has this slot and the language no such class", (int)n, text);
    }
    for (int c = language->n_classes; c < w->n_classes; c++) {
        const char *s = w->vocab.string[w->first[c]];
        size_t length = w->vocab.length[w->first[c]], space = s[0] == ' ';
        if (length == n + space && !memcmp(s + space, text, n)) return c;
    }
    int c = village_add_class(w, VILLAGE_PLAIN);
    village_add_word(w, c, text, n, "", 0);
    return c;
}

// The templates as lists of classes. A plain word becomes a class of one token the first time it is met.
void village_add_templates(VillageWorld *w, const VillageLanguage *language) {
    double share[VILLAGE_TEMPLATES];
    w->n_templates = language->n_templates, w->more = language->more;
    for (int k = 0; k < w->n_templates; k++) {
        const char *text = language->templates[k].text, *word = text;
        for (; *word; word = village_next_word(word)) {
            if (w->length[k] == VILLAGE_SLOTS) die("\"%s\": this template is too long", text);
            w->slot[k][w->length[k]++] = village_class_of_word(w, language, word, strcspn(word, " "));
        }
        w->template_prob[k] = language->templates[k].weight;
        w->longest = MAX(w->longest, w->length[k]);
        share[k] = w->template_prob[k] * w->length[k];
    }
    village_distribution(w->template_prob, w->template_cdf, (size_t)w->n_templates);
    village_distribution(share, w->share_cdf, (size_t)w->n_templates);
    for (int k = 0; k < w->n_templates; k++) w->mean_length += w->template_prob[k] * w->length[k];
}

// The people, the most often met first: everyone has a name of his own, and facts drawn uniformly.
void village_add_people(VillageWorld *w, double zipf) {
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
        size_t name = shuffled(p, n_first * n_last, hash3(w->seed, STREAM_PEOPLE, UINT64_MAX), 0);
        for (int c = 0; c < w->n_classes; c++) {
            if (w->fact[c] < 0) continue;
            size_t at = p * (size_t)w->n_facts + (size_t)w->fact[c];
            uint64_t value = hash3(w->seed, STREAM_PEOPLE, at);
            if (w->kind[c] == VILLAGE_FIRST || w->kind[c] == VILLAGE_SEX) value = name / n_last;
            if (w->kind[c] == VILLAGE_LAST) value = name;
            w->facts[at] = (uint16_t)((uint64_t)w->first[c] + value % (uint64_t)w->size[c]);
        }
        w->person_prob[p] = pow((double)(p + 1), -zipf);
    }
    village_distribution(w->person_prob, w->person_cdf, w->people);
}

// Make the world of a language, a seed and a number of people.
VillageWorld *village_world(const VillageLanguage *language, uint64_t seed, size_t people, double zipf) {
    VillageWorld *w = alloc_or_die(sizeof *w);
    w->seed = seed, w->people = people;
    w->vocab.length = alloc_or_die(65536);
    w->vocab.string = alloc_or_die(65536 * sizeof(char *));
    village_add_classes(w, language);
    village_add_templates(w, language);
    w->vocab.eot = (int)w->vocab.V;
    village_add_word(w, village_add_class(w, VILLAGE_PLAIN), "<|endoftext|>", 13, "", 0);
    vocab_index(&w->vocab);
    for (size_t id = 0; id + 1 < w->vocab.V; id++)
        if (vocab_find(&w->vocab, w->vocab.string[id], w->vocab.length[id]) != (int)id)
            die("\"%.*s\": this word is in two classes", w->vocab.length[id], w->vocab.string[id]);
    village_add_people(w, zipf);
    return w;
}

void village_world_free(VillageWorld *w) {
    for (size_t id = 0; id < w->vocab.V; id++) free(w->vocab.string[id]);
    free(w->vocab.string), free(w->vocab.length), free(w->vocab.slots);
    free(w->person_prob), free(w->person_cdf), free(w->facts), free(w);
}

// ----------------------------------------------------------------------------
// the text

// An endless text, one token at a time.
typedef struct {
    const VillageWorld *world;
    uint64_t stream, draws; // draws: random numbers taken so far
    size_t person;
    int template, at;       // the next token is number `at` of this template, or an end of text if it is -1
} VillageText;

static double village_uniform(VillageText *text) {
    return uniform(text->world->seed, text->stream, text->draws++);
}

static size_t village_draw(VillageText *text, const double *cdf, size_t n) {
    return village_pick(cdf, n, village_uniform(text));
}

// The mean number of tokens in a document: an end of text and 1/(1 - more) sentences.
double village_document_length(const VillageWorld *w) {
    return 1 + w->mean_length / (1 - w->more);
}

// Begin a text as if it had been going on for ever: at an end of text, or at any token of a sentence that is
// drawn by its share of all text. As the number of sentences still to come is independent of how many there
// were (it is geometric), and documents are as long for all people, nothing else needs to be drawn with care.
void village_begin(VillageText *text, const VillageWorld *w, uint64_t stream) {
    *text = (VillageText){.world = w, .stream = stream, .template = -1};
    text->person = village_draw(text, w->person_cdf, w->people);
    if (village_uniform(text) * village_document_length(w) < 1) return;
    text->template = (int)village_draw(text, w->share_cdf, (size_t)w->n_templates);
    text->at = (int)(village_uniform(text) * w->length[text->template]);
}

// The next token.
uint16_t village_next(VillageText *text) {
    const VillageWorld *w = text->world;
    uint16_t token = (uint16_t)w->vocab.eot;
    int more = 1;
    if (text->template < 0) text->person = village_draw(text, w->person_cdf, w->people);
    else {
        int c = w->slot[text->template][text->at++], first = w->first[c];
        if (w->fact[c] >= 0) token = w->facts[text->person * (size_t)w->n_facts + (size_t)w->fact[c]];
        else if (w->size[c] == 1) token = (uint16_t)first;
        else token = (uint16_t)((size_t)first + village_draw(text, w->cdf + first, (size_t)w->size[c]));
        if (text->at < w->length[text->template]) return token;
        more = village_uniform(text) < w->more;
    }
    text->template = more ? (int)village_draw(text, w->template_cdf, (size_t)w->n_templates) : -1;
    text->at = 0;
    return token;
}

// Write a shard of n tokens. Returns the unigram entropy of its tokens other than end of text, in nats.
double village_write_text(const VillageWorld *w, const char *path, size_t n, uint64_t stream) {
    int32_t header[HEADER] = {SHARD_MAGIC, 1, (int32_t)n, (int32_t)w->vocab.V, w->vocab.eot + 1};
    uint16_t buffer[4096];
    size_t *counts = alloc_or_die(w->vocab.V * sizeof *counts);
    Writer writer;
    VillageText text;
    village_begin(&text, w, stream);
    writer_open(&writer, path);
    writer_put(&writer, header, sizeof header);
    for (size_t left = n, some; left > 0; left -= some) {
        some = MIN(left, 4096);
        for (size_t i = 0; i < some; i++) counts[buffer[i] = village_next(&text)]++;
        writer_put(&writer, buffer, some * sizeof *buffer);
    }
    writer_close(&writer);
    double entropy = 0, words = (double)(n - counts[w->vocab.eot]);
    for (size_t id = 0; id < w->vocab.V; id++) {
        double p = (double)counts[id] / words;
        if ((int)id != w->vocab.eot && p > 0) entropy -= p * log(p);
    }
    free(counts);
    return entropy;
}

// Write the vocabulary in llm.c's format.
void village_write_vocab(const VillageWorld *w, const char *path) {
    int32_t header[HEADER] = {VOCAB_MAGIC, 2, (int32_t)w->vocab.V, w->vocab.eot};
    Writer writer;
    writer_open(&writer, path);
    writer_put(&writer, header, sizeof header);
    for (size_t id = 0; id < w->vocab.V; id++) {
        writer_put(&writer, &w->vocab.length[id], 1);
        writer_put(&writer, w->vocab.string[id], w->vocab.length[id]);
    }
    writer_close(&writer);
}

// ----------------------------------------------------------------------------
// the floor

/*
How well could a model that knows the language and everyone in it predict a row? A row falls into segments,
between one end of text and the next. As an end of text is never masked, the ends of documents are in plain
sight, and as each document chooses its person afresh, segments are independent. Within one:

- What the visible tokens say about the person is independent of what they say about the sentences. No word is
  in two classes, so a visible "Oxbridge" is the person's town, whatever sentence it stands in: the person is
  one of those who have all the visible facts, each as likely as before. And who it is has no influence on
  which sentences are said.
- Where sentences begin, and which templates they are, is a semi-Markov chain. P(visible tokens before t, and
  a sentence begins there) runs forward, P(visible tokens from t on | a sentence begins there) backward; from
  their products follows the posterior of each sentence in each place, also across the row's beginning or end.
- So P(masked token = v) = P(its class stands there | visible) · P(v | its class, and the person if a fact).

This is exact: whoever sees only the row cannot do better in expectation.
*/

// P(the visible ones of tokens a … b-1 | template k stands at s), the person aside; x and hidden are the
// row's.
double village_sentence_prob(const VillageWorld *w, const uint16_t *x, const char *hidden, long a, long b,
                             int k, long s) {
    double prob = 1;
    for (long t = MAX(a, s); t < MIN(b, s + w->length[k]); t++) {
        if (hidden[t]) continue;
        if (w->class_of[x[t]] != w->slot[k][t - s]) return 0;
        prob *= w->prob[x[t]];
    }
    return prob;
}

// P(the visible ones of tokens a … b-1), the person aside. The segment begins inside a document or with it,
// and goes on beyond the row unless it is ended. Where role is not NULL, adds to role[t] of each hidden t the
// part of that probability in which a token of the class of x[t] stands at t. (Nothing underflows: a sentence
// takes off some three decimal digits, and a document of ninety sentences is never met.)
double village_sentences(const VillageWorld *w, const uint16_t *x, const char *hidden, long a, long b,
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
    // A sentence begins at any one place of an endless text as often as there are sentences in it.
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
            if (end >= b) total += here; // one sentence lies across or at the segment's end in each case
            for (long t = MAX(a, s); role && t < MIN(b, end); t++)
                if (hidden[t] && w->class_of[x[t]] == w->slot[k][t - s]) role[t] += here;
        }
    free(memory);
    return total;
}

// P(the facts visible in tokens a … b-1), over all people. Where share is not NULL, adds to share[t] of each
// hidden fact t the part of that probability in which the person's fact is x[t].
double village_people(const VillageWorld *w, const uint16_t *x, const char *hidden, long a, long b,
                      double *share) {
    size_t n_facts = (size_t)w->n_facts;
    int seen[VILLAGE_CLASSES] = {0}, n_seen = 0;           // the token seen of each fact, plus 1; 0: none
    int fact[VILLAGE_CLASSES], value[VILLAGE_CLASSES]; // (n_seen) the same as a list
    double total = 0;
    for (long t = a; t < b; t++) {
        int f = w->fact[w->class_of[x[t]]];
        if (f < 0 || hidden[t] || seen[f] == x[t] + 1) continue;
        if (seen[f]) return 0; // two towns in one document: no one has them
        seen[f] = x[t] + 1, value[n_seen] = x[t], fact[n_seen++] = f;
    }
    for (size_t p = 0; p < w->people; p++) {
        const uint16_t *facts = w->facts + p * n_facts;
        int i = 0;
        while (i < n_seen && facts[fact[i]] == value[i]) i++;
        if (i < n_seen) continue;
        total += w->person_prob[p];
        for (long t = a; share && t < b; t++) {
            int f = w->fact[w->class_of[x[t]]];
            if (f >= 0 && hidden[t] && facts[f] == x[t]) share[t] += w->person_prob[p];
        }
    }
    return total;
}

// log P(the visible tokens of a row of n). Where nats is not NULL, adds to it the sum over the hidden tokens
// of -log P(token | the visible ones).
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
    double sum, se; // nats, over all predicted tokens; standard error of their mean
    size_t count;   // predicted tokens
} VillageFloor;

// The floor of n_val validation rows of T tokens: the masked tokens given the others, or the whole row given
// its first.
VillageFloor village_floor(const VillageWorld *w, const Shards *shards, int ntp, size_t T, double mask_rate,
                           size_t n_val) {
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

typedef struct {
    char train[PATH_MAX], val[PATH_MAX], vocab[PATH_MAX], floor[PATH_MAX];
} VillagePaths;

// A floor file begins with a line that says which world it is about, and one that names its columns.
#define VILLAGE_WORLD_LINE "# village people %zu zipf %lg seed %llu\n"
#define VILLAGE_COLUMNS "# objective T mask_rate rows seed sum count se\n"

// Write the floor file anew: its old lines, but for one of the same objective, T, mask rate, rows and seed
// (all that `key` says), and the new floor under that key.
void village_write_floor(const char *path, const char *old, const char *key, VillageFloor floor) {
    char line[256];
    Writer writer;
    writer_open(&writer, path);
    for (const char *end; *old; old = end) {
        end = old + strcspn(old, "\n"), end += *end == '\n';
        if (strncmp(old, key, strlen(key))) writer_put(&writer, old, (size_t)(end - old));
    }
    int n = snprintf(line, sizeof line, "%s%.17g %zu %.17g\n", key, floor.sum, floor.count, floor.se);
    writer_put(&writer, line, (size_t)n);
    writer_close(&writer);
}

// The world that such a line describes. Dies, naming the file it is from, where there is none.
VillageWorld *village_from_line(const char *path, const char *line) {
    size_t people;
    double zipf;
    unsigned long long seed;
    if (sscanf(line, VILLAGE_WORLD_LINE, &people, &zipf, &seed) != 3)
        die("%s: the first line does not say which village this is: make it again, without --floor", path);
    return village_world(&village_language, seed, people, zipf);
}

// Compute one floor, print it and put it into the floor file.
void village_add_floor(const VillagePaths *paths, int ntp, size_t T, double mask_rate, size_t n_val) {
    const char *val = paths->val;
    Reader r;
    reader_open(&r, paths->floor);
    char *old = alloc_or_die(r.size + 1), key[128];
    reader_get(&r, old, r.size);
    fclose(r.file);
    VillageWorld *w = village_from_line(paths->floor, old);
    Shards shards;
    shards_open(&shards, &val, 1);
    if (shards.V != w->vocab.V || shards.eot != w->vocab.eot)
        die("%s: its vocabulary is not that of %s: make both again", val, paths->floor);
    n_val = MIN(n_val, shards_rows(&shards, T, (size_t)ntp));
    if (n_val == 0) die("%s: shorter than one row of %zu tokens: choose a smaller --seq-len", val, T);
    if (ntp) mask_rate = 1;
    VillageFloor floor = village_floor(w, &shards, ntp, T, mask_rate, n_val);
    if (floor.count == 0)
        die("%s: none of its tokens is masked: take more --val-rows or a higher --mask-rate", val);
    if (!isfinite(floor.sum))
        die("%s: this text is not from the village of %s: make both again", val, paths->floor);
    snprintf(key, sizeof key, "%s %zu %.15g %zu %d ", ntp ? "ntp" : "mlm", T, mask_rate, n_val, VAL_SEED);
    village_write_floor(paths->floor, old, key, floor);
    printf("%s floor of %zu rows of %zu tokens, mask rate %g: %.4f ± %.4f nats a predicted token\n",
           ntp ? "ntp" : "mlm", n_val, T, mask_rate, floor.sum / (double)floor.count, floor.se);
    free(old), free(shards.tokens), village_world_free(w);
}

// Write everything: the two texts, the vocabulary, and a floor file. An old floor file goes first, so that
// none ever stands beside a text it does not belong to.
void village_make(const VillagePaths *paths, size_t tokens, size_t val_tokens, size_t people, double zipf,
                  uint64_t seed) {
    char lines[256];
    int n = snprintf(lines, sizeof lines, VILLAGE_WORLD_LINE VILLAGE_COLUMNS, people, zipf,
                     (unsigned long long)seed);
    VillageWorld *w = village_from_line(paths->floor, lines); // so that what is printed is what there is
    if (unlink(paths->floor) && errno != ENOENT) die("%s: cannot replace: %s", paths->floor, strerror(errno));
    double entropy = village_write_text(w, paths->train, tokens, STREAM_TRAIN_TEXT);
    village_write_text(w, paths->val, val_tokens, STREAM_VAL_TEXT);
    village_write_vocab(w, paths->vocab);
    Writer writer;
    writer_open(&writer, paths->floor);
    writer_put(&writer, lines, (size_t)n);
    writer_close(&writer);
    printf("%s: %zu tokens about %zu people; V = %zu, ln V = %.4f, unigram entropy %.4f nats\n", paths->train,
           tokens, people, w->vocab.V, log((double)w->vocab.V), entropy);
    village_world_free(w);
}

const char village_help[] =
    "usage: village --out PREFIX [options]          write PREFIX_train.bin, PREFIX_val.bin, PREFIX.vocab\n"
    "                                               and PREFIX_val.floor, with the floors of the defaults\n"
    "       village --floor --out PREFIX [options]  add one floor to PREFIX_val.floor\n"
    "\n"
    "  --tokens N           training tokens (default 32e6)\n"
    "  --val-tokens N       validation tokens (default 1e6)\n"
    "  --people N           people in the village, at most 65536 (default 32768)\n"
    "  --zipf S             the n-th of them is met with probability ∝ 1/n^S (default 1)\n"
    "  --seed N             another seed makes another village (default 1)\n"
    "\n"
    "and with --floor, as given to the trainer:\n"
    "  --objective mlm|ntp  (default mlm)\n"
    "  --seq-len T          tokens in a row (default 128)\n"
    "  --mask-rate R        (default 0.2)\n"
    "  --val-rows N         (default 512)\n";

// An option that takes a number.
typedef struct {
    const char *name;
    double value, low, high;
    int whole, of_floor; // a whole number; goes with --floor only (or else never with it)
} VillageNumber;

// Read the value of such an option; it may be written 1e9.
void village_read_number(VillageNumber *number, const char *text) {
    char *end;
    double x = strtod(text, &end);
    if (end == text || *end || !(x >= number->low && x <= number->high) || (number->whole && x != floor(x)))
        die_usage("%s %s: give a %snumber from %.10g to %.10g", number->name, text,
                  number->whole ? "whole " : "", number->low, number->high);
    number->value = x;
}

int village_main(int argc, char **argv) {
    VillageNumber tokens = {"--tokens", 32e6, 1, INT32_MAX, 1, 0}; // a shard's header has an int32 for them
    VillageNumber val_tokens = {"--val-tokens", 1e6, 1, INT32_MAX, 1, 0};
    VillageNumber people = {"--people", 32768, 1, 65536, 1, 0};
    VillageNumber zipf = {"--zipf", 1, 0, 10, 0, 0};
    VillageNumber seed = {"--seed", 1, 0, 1e15, 1, 0};
    VillageNumber seq_len = {"--seq-len", 128, 1, 65536, 1, 1};
    VillageNumber mask_rate = {"--mask-rate", 0.2, 1e-6, 1, 0, 1};
    VillageNumber val_rows = {"--val-rows", 512, 1, 1e8, 1, 1};
    VillageNumber *numbers[] = {&tokens, &val_tokens, &people, &zipf, &seed, &seq_len, &mask_rate, &val_rows,
                                NULL};
    const char *out = NULL, *objective = NULL;
    const char *for_making = NULL, *for_floor = NULL; // an option given that goes with the one or the other
    int want_floor = 0;
    program = "village";
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i];
        VillageNumber **number = numbers;
        while (*number && strcmp(option, (*number)->name)) number++;
        if (!strcmp(option, "--help")) return fputs(village_help, stdout) < 0;
        if (!strcmp(option, "--floor")) {
            want_floor = 1;
            continue;
        }
        if (!*number && strcmp(option, "--out") && strcmp(option, "--objective"))
            die_usage("%s: there is no such option", option);
        if (++i == argc) die_usage("%s: a value is missing", option);
        if (*number) village_read_number(*number, argv[i]);
        if (!strcmp(option, "--out")) out = argv[i];
        else if (*number && !(*number)->of_floor) for_making = option;
        else for_floor = option;
        if (!strcmp(option, "--objective")) objective = argv[i];
    }
    if (!out || !*out) die_usage("--out is missing: give the beginning of the files' names, as data/village");
    if (strlen(out) > PATH_MAX - 16) die_usage("--out %.40s…: this path is too long", out);
    if (objective && strcmp(objective, "mlm") && strcmp(objective, "ntp"))
        die_usage("--objective %s: choose mlm or ntp", objective);
    if (want_floor && for_making) die_usage("%s: the village is already made: leave this out", for_making);
    if (!want_floor && for_floor) die_usage("%s: this goes with --floor", for_floor);
    VillagePaths paths;
    snprintf(paths.train, PATH_MAX, "%s_train.bin", out), snprintf(paths.val, PATH_MAX, "%s_val.bin", out);
    snprintf(paths.vocab, PATH_MAX, "%s.vocab", out), snprintf(paths.floor, PATH_MAX, "%s_val.floor", out);
    size_t T = (size_t)seq_len.value, rows = (size_t)val_rows.value;
    if (!want_floor)
        village_make(&paths, (size_t)tokens.value, (size_t)val_tokens.value, (size_t)people.value, zipf.value,
                     (uint64_t)seed.value);
    for (int ntp = 0; ntp < 2; ntp++) // after the making both floors, if there is a row at all
        if (want_floor ? ntp == (objective && !strcmp(objective, "ntp")) : (size_t)val_tokens.value > T)
            village_add_floor(&paths, ntp, T, mask_rate.value, rows);
    return 0;
}

#ifndef VILLAGE_NO_MAIN
int main(int argc, char **argv) {
    set_threads(0);
    return village_main(argc, argv);
}
#endif
#endif
