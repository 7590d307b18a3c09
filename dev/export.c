/*
Take a trained model elsewhere, and back.

    dev/export out hf                     a folder that Hugging Face's libraries open
    dev/export --import hf model.bin      the model that is in such a folder

Our encoder has the architecture that transformers calls EuroBERT: RMSNorm before each half of a layer,
rotate-half RoPE, SwiGLU, no biases, attention to both sides. A next-token model has that of Llama, where
attention is causal. So the weights only need other names, and no code has to travel with them. The vocabulary
becomes a tokenizer of the tokenizers library, which gives the same ids. dev/check_export.py compares all of
this with the libraries themselves.
*/
#ifndef EXPORT_C
#define EXPORT_C
#ifndef OPTIBERT_NO_MAIN
#define OPTIBERT_NO_MAIN
#endif
#ifndef TOKENIZE_NO_MAIN
#define TOKENIZE_NO_MAIN
#endif
#include "../train_optibert.c"
#include "../data/tokenize.c"

typedef struct {
    Files operands;
    const char *import;
    int help;
} ExportSettings;

#define TO(field) .offset = offsetof(ExportSettings, field)
static Option export_options[] = {
    {"", FILES, FREE, TO(operands), 0, 0, "", ""},
    {"import", TEXT, FREE, TO(import), 0, 0, "DIR", "make a model.bin from a folder that was exported"},
    {"help", FLAG, FREE, TO(help), 0, 0, "", "print this list"},
    {0},
};
#undef TO

// A model to export.
typedef struct {
    Model m;
    Vocab v;          // v.file is NULL if it was trained without one
    const char *path; // of its file
    char *eot;        // its end of text in tokenizer.json
} Export;

// The path folder/name, in memory that lasts.
static const char *export_path(const char *folder, const char *name) {
    return prefix_path(prefix_path(folder, "/"), name);
}

// Write JSON in whose format ' stands for ".
__attribute__((format(printf, 2, 3)))
static void put_json(FILE *f, const char *format, ...) {
    char quoted[strlen(format) + 1];
    va_list args;
    for (size_t i = 0; i < sizeof quoted; i++) quoted[i] = format[i] == '\'' ? '"' : format[i];
    va_start(args, format);
    vfprintf(f, quoted, args);
    va_end(args);
}

// ----------------------------------------------------------------------------
// weights: a safetensors file

// A tensor of the file: some rows of a layer of one of ours. rows = 0: it has one dimension.
typedef struct {
    char name[64];
    float *weights; // (rows, cols)
    size_t rows, cols;
} Part;

static size_t part_bytes(const Part *p) { return MAX(1, p->rows) * p->cols * sizeof(float); }

// All parts of a model, in the order of the file; *n of them. The head is not among them: it is the
// embedding. In memory that the caller frees.
static Part *model_parts(const Model *m, size_t *n) {
    size_t L = m->c.L, C = m->c.C, H = m->c.H;
    const struct { const char *name; int tensor; size_t first, rows, cols; } layer[] = {
        {"input_layernorm", NORM1, 0, 0, C}, {"self_attn.q_proj", WQKV, 0, C, C},
        {"self_attn.k_proj", WQKV, C, C, C}, {"self_attn.v_proj", WQKV, 2 * C, C, C},
        {"self_attn.o_proj", WO, 0, C, C},   {"post_attention_layernorm", NORM2, 0, 0, C},
        {"mlp.gate_proj", WGU, 0, H, C},     {"mlp.up_proj", WGU, H, H, C},
        {"mlp.down_proj", WDOWN, 0, C, H}};
    Part *parts = alloc_or_die((2 + 9 * L) * sizeof *parts);
    parts[0] = (Part){"model.embed_tokens.weight", weights_of(m, WTE, 0), m->c.V + 1, C};
    parts[1] = (Part){"model.norm.weight", weights_of(m, NORMF, 0), 0, C};
    *n = 2;
    for (size_t l = 0; l < L; l++)
        for (int i = 0; i < 9; i++) {
            Part *p = &parts[(*n)++];
            float *tensor = weights_of(m, layer[i].tensor, l);
            *p = (Part){"", tensor + layer[i].first * layer[i].cols, layer[i].rows, layer[i].cols};
            snprintf(p->name, sizeof p->name, "model.layers.%zu.%s.weight", l, layer[i].name);
        }
    return parts;
}

// The length of the header (8 bytes), the header, which says where each tensor is after it, and the tensors.
static void put_safetensors(const char *path, const Model *m) {
    Writer w;
    size_t n, at = 0, size;
    Part *parts = model_parts(m, &n);
    char *header;
    FILE *f = text_open(&header, &size);
    put_json(f, "{'__metadata__':{'format':'pt'}");
    for (const Part *p = parts; p < parts + n; at += part_bytes(p++)) {
        put_json(f, ",'%s':{'dtype':'F32','shape':[", p->name);
        if (p->rows) put_json(f, "%zu,", p->rows);
        put_json(f, "%zu],'data_offsets':[%zu,%zu]}", p->cols, at, at + part_bytes(p));
    }
    fprintf(f, "}%*s", (int)(7 - (ftell(f) & 7)), ""); // the tensors begin at a multiple of 8
    text_close(f);
    writer_open(&w, path);
    writer_put(&w, &(uint64_t){size}, sizeof(uint64_t));
    writer_put(&w, header, size);
    for (const Part *p = parts; p < parts + n; p++) writer_put(&w, p->weights, part_bytes(p));
    writer_close(&w);
    free(header), free(parts);
}

// ----------------------------------------------------------------------------
// the tokenizer

// tokenizer.json has a character for each byte, as in GPT-2: bytes that are visible in Latin-1 stand for
// themselves, the others are U+0100, U+0101, … in order. (So a space is U+0120, and no string has one.)
static int byte_character(int byte) {
    int visible = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
    return visible ? byte : byte <= 32 ? 256 + byte : byte < 173 ? 289 + byte - 127 : 323;
}

// Write a token in these characters, as UTF-8.
static void put_characters(FILE *f, const Vocab *v, size_t id) {
    for (size_t i = 0; i < v->length[id]; i++) {
        int c = byte_character((unsigned char)v->string[id][i]);
        if (c == '"' || c == '\\') fputc('\\', f);
        if (c < 0x80) fputc(c, f);
        else fputc(0xC0 | c >> 6, f), fputc(0x80 | (c & 63), f);
    }
}

// The library's BPE needs to know which two tokens each merge joins. We only know the strings, but that is
// enough. Whatever text surrounds a string, if no token crosses its ends, encoding joins the bytes between them
// in the same order as if the string stood alone. So before its last join it is always the same two tokens:
// those that it is encoded as when its own id is taken away. (If these are not two, no text is ever encoded as
// this token.) The library joins one pair at a time and we join all equal pairs at once. This is the same as
// long as what a token is made of comes before it, so that no join makes a pair with a lower id possible.
static void put_merges(FILE *f, Encoder *e, const char *path) {
    const Vocab *v = &e->vocab;
    const char *separator = "";
    for (size_t id = 0; id < v->V; id++) {
        uint16_t pair[255];
        if ((int)id == v->eot || v->length[id] < 2) continue;
        StringEntry *own = string_find(&e->ids, v->string[id], v->length[id]);
        own->value = (uint64_t)-1;
        size_t n = encode_piece(e, v->string[id], v->length[id], pair);
        own->value = id;
        if (n != 2) continue;
        if (pair[0] > id || pair[1] > id)
            die("%s: token %zu of its vocabulary consists of later ones, which is not possible in "
                "tokenizer.json; train with a vocabulary of data/tokenize", path, id);
        fprintf(f, "%s\n\"", separator), put_characters(f, v, pair[0]);
        fputc(' ', f), put_characters(f, v, pair[1]), fputc('"', f);
        separator = ",";
    }
}

// How text is cut into pieces, as a regular expression over these characters: what piece_length() and
// char_class() do. (A run of more than 1024 bytes with multi-byte punctuation may be cut elsewhere.)
#define UTF8_TAIL "[\\u0122-\\u0143\\u00A1-\\u00BF]" // the bytes 0x80 … 0xBF
#define UTF8_BLOCKS "\\u00C2" UTF8_TAIL "|\\u00E2[\\u0122\\u0123]" UTF8_TAIL "|\\u00E3\\u0122" UTF8_TAIL
#define PIECE_LETTER "(?:[A-Za-z]|(?!" UTF8_BLOCKS ")[\\u00A1-\\u00FF\\u0122-\\u0143])"
#define PIECE_OTHER "(?:[!-/:-@\\\\[-`{-~\\u0100-\\u0108\\u010E-\\u011F\\u0121]|" UTF8_BLOCKS ")"
#define PIECE_RUN(class) "\\u0120" class "{1,1023}|" class "{1,1024}|"
#define PIECE_SPACE "[\\u0109-\\u010D\\u0120]{1,1024}"
#define PIECE PIECE_RUN(PIECE_LETTER) PIECE_RUN("[0-9]") PIECE_RUN(PIECE_OTHER) PIECE_SPACE

// Die unless the library can tell all tokens apart, and can find whole words piece by piece.
static void check_tokens(const Encoder *e, const char *path) {
    const Vocab *v = &e->vocab;
    const char *wrong = v->eot < 0 ? "no end of text" : vocab_find(e, "[MASK]", 6) >= 0 ? "[MASK]" : NULL;
    for (size_t id = 0; id < v->V && !wrong; id++) {
        int found = vocab_find(e, v->string[id], v->length[id]);
        if (found >= 0 && found != (int)id) wrong = "the same string twice";
        if (!e->has_bytes && memchr(v->string[id] + 1, ' ', v->length[id] - 1u)) wrong = "words with spaces";
    }
    if (wrong)
        die("%s: its vocabulary has %s, and tokenizer.json cannot say that; train with a vocabulary of "
            "data/tokenize", path, wrong);
}

// Text is encoded by merges; or, if the vocabulary has whole words, longest match first, and then
// text begins with a space, and spaces that are too many are dropped. [MASK] takes the space before
// it. An end of text comes first.
static void put_tokenizer(FILE *f, const Export *export) {
    const Vocab *v = &export->v;
    Encoder e;
    encoder_make(&e, v);
    check_tokens(&e, export->path);
    put_json(f, "{'version':'1.0','truncation':null,'padding':null,\n'added_tokens':[\n"
             "{'id':%1$d,'content':'%2$s','single_word':false,'lstrip':false,'rstrip':false,"
             "'normalized':false,'special':true},\n"
             "{'id':%3$zu,'content':'[MASK]','single_word':false,'lstrip':false,'rstrip':false,"
             "'normalized':true,'special':true}],\n"
             "'normalizer':{'type':'Sequence','normalizers':[%4$s\n"
             "{'type':'Replace','pattern':{'String':' [MASK]'},'content':'[MASK]'}]},\n"
             "'pre_tokenizer':{'type':'Sequence','pretokenizers':[\n"
             "{'type':'ByteLevel','add_prefix_space':false,'trim_offsets':true,'use_regex':false},\n"
             "{'type':'Split','pattern':{'Regex':'%5$s'},'behavior':'Removed','invert':true}]},\n"
             "'post_processor':{'type':'TemplateProcessing',\n"
             "'single':[{'SpecialToken':{'id':'%2$s','type_id':0}},{'Sequence':{'id':'A','type_id':0}}],\n"
             "'pair':[{'SpecialToken':{'id':'%2$s','type_id':0}},{'Sequence':{'id':'A','type_id':0}},\n"
             "{'SpecialToken':{'id':'%2$s','type_id':0}},{'Sequence':{'id':'B','type_id':0}}],\n"
             "'special_tokens':{'%2$s':{'id':'%2$s','ids':[%1$d],'tokens':['%2$s']}}},\n"
             "'decoder':{'type':'ByteLevel','add_prefix_space':false,'trim_offsets':true,"
             "'use_regex':false},\n'model':{%6$s,\n'vocab':{",
             v->eot, export->eot, v->V, e.has_bytes ? "" : "\n{\"type\":\"Prepend\",\"prepend\":\" \"},",
             e.has_bytes ? PIECE : "\\u0120?[^\\u0120]+",
             e.has_bytes ? "\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\"fuse_unk\":false,"
                           "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null"
                         : "\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"max_input_chars_per_word\":1000,"
                           "\"continuing_subword_prefix\":\"\"");
    for (size_t id = 0; id < v->V; id++)
        fprintf(f, "\n\""), put_characters(f, v, id), fprintf(f, "\":%zu,", id);
    put_json(f, "\n'[MASK]':%zu}", v->V);
    if (e.has_bytes) put_json(f, ",\n'merges':["), put_merges(f, &e, export->path), fputc(']', f);
    fprintf(f, "}}\n");
}

// What transformers wants to know besides.
static void put_tokenizer_config(FILE *f, const Export *e) {
    put_json(f, "{'tokenizer_class': 'PreTrainedTokenizerFast', 'model_max_length': %1$zu,\n"
             " 'model_input_names': ['input_ids', 'attention_mask'], 'clean_up_tokenization_spaces': false,\n"
             " 'bos_token': '%2$s', 'eos_token': '%2$s', 'pad_token': '%2$s', 'mask_token': '[MASK]'}\n",
             e->m.c.T, e->eot);
}

// ----------------------------------------------------------------------------
// the other files

// What the model is. (Without a vocabulary the id of end of text is not known.)
static void put_config(FILE *f, const Export *e) {
    const Config *c = &e->m.c;
    char eot[16] = "null";
    if (e->v.file) snprintf(eot, sizeof eot, "%d", e->v.eot);
    put_json(f, "{\n  'architectures': ['%s'],\n  'model_type': '%s',\n  'dtype': 'float32',\n",
             c->causal ? "LlamaForCausalLM" : "EuroBertForMaskedLM", c->causal ? "llama" : "eurobert");
    put_json(f, "  'num_hidden_layers': %zu,\n  'hidden_size': %zu,\n  'intermediate_size': %zu,\n"
             "  'num_attention_heads': %zu,\n  'num_key_value_heads': %zu,\n  'head_dim': %zu,\n"
             "  'vocab_size': %zu,\n  'max_position_embeddings': %zu,\n",
             c->L, c->C, c->H, c->NH, c->NH, c->C / c->NH, c->V + 1, c->T);
    put_json(f, "  'hidden_act': 'silu',\n  'rms_norm_eps': 1e-05,\n  'tie_word_embeddings': true,\n"
             "  'rope_parameters': {'rope_type': 'default', 'rope_theta': 10000.0},\n"
             "  'initializer_range': %.6f,\n", 1 / sqrt((double)c->C));
    if (!c->causal) put_json(f, "  'classifier_pooling': 'mean',\n  'mask_token_id': %zu,\n", c->V);
    put_json(f, "  'bos_token_id': %1$s,\n  'eos_token_id': %1$s,\n  'pad_token_id': %1$s\n}\n", eot);
}

// For sentence-transformers: a text's vector is the mean of its tokens' vectors.
static void put_modules(FILE *f, const Export *e) {
    (void)e;
    put_json(f, "[{'idx': 0, 'name': '0', 'path': '', 'type': 'sentence_transformers.models.Transformer'},\n"
             " {'idx': 1, 'name': '1', 'path': '1_Pooling',\n"
             "  'type': 'sentence_transformers.models.Pooling'}]\n");
}

static void put_pooling(FILE *f, const Export *e) {
    put_json(f, "{'word_embedding_dimension': %zu, 'pooling_mode_mean_tokens': true,\n"
             " 'pooling_mode_cls_token': false, 'pooling_mode_max_tokens': false}\n", e->m.c.C);
}

// A text file beside a run's model.bin, which the caller frees; NULL if it is not there, or if the model is
// another one: best.bin is of another step.
static char *text_beside(const char *model, const char *name) {
    const char *path = replace_ending(model, "model.bin", name);
    return path && access(path, R_OK) == 0 ? read_whole(path) : NULL;
}

// How the model was trained, if the result of its run is beside it.
static void card_training(FILE *f, const char *model) {
    static const char *const rows[][2] = {
        {"data", "data"}, {"flops", "budget C = F_N D, FLOPs"}, {"flops_per_token", "F_N, FLOPs a token"},
        {"tokens", "D, tokens"}, {"steps", "steps"}, {"batch_tokens", "tokens a step"},
        {"lr", "peak learning rate"}, {"mask_rate", "share of the tokens predicted"}, {"seed", "seed"},
        {"val_data", "validation data"}, {"val_loss", "validation loss, nats a predicted token"},
        {"val_se", "its standard error"}, {"val_floor", "the lowest possible loss"}};
    char *csv = text_beside(model, "result.csv"), *values = csv, *names = strsep(&values, "\n");
    char *name[64], *value[64];
    size_t n = 0;
    if (!csv) return;
    while (n < 64 && (name[n] = strsep(&names, ",")) && (value[n] = strsep(&values, ",\n"))) n++;
    fprintf(f, "| training | |\n|---|---|\n");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t k = 0; k < n; k++)
            if (strcmp(name[k], rows[i][0]) == 0 && *value[k])
                fprintf(f, "| %s | %s |\n", rows[i][1], value[k]);
    fputc('\n', f), free(csv);
}

// Its scores, if `dev/eval DIR TASK… --scores DIR/scores.csv` has put them beside it.
static void card_scores(FILE *f, const char *model) {
    char *csv = text_beside(model, "scores.csv"), *line = csv, task[80], kind[80], metric[80];
    double value, lo, hi;
    if (!csv) return;
    fprintf(f, "| task | | score | 95%% interval |\n|---|---|---|---|\n");
    for (; (line = strchr(line, '\n')); line++) {
        if (sscanf(line + 1, "%*[^,],trained,%79[^,],%79[^,],%79[^,],%lf,%lf,%lf", task, kind, metric, &value,
                   &lo, &hi) != 6) continue;
        fprintf(f, "| %s | %s, %s | %.1f |", task, kind, metric, 100 * value);
        if (lo <= hi) fprintf(f, " %.1f … %.1f", 100 * lo, 100 * hi);
        fprintf(f, " |\n");
    }
    fputc('\n', f), free(csv);
}

// The model card.
static void put_card(FILE *f, const Export *e) {
    const Config *c = &e->m.c;
    size_t params = parameter_count(c);
    const char *task = c->causal ? "text-generation" : "fill-mask";
    fprintf(f, "---\nlibrary_name: transformers\npipeline_tag: %s\n---\n", task);
    fprintf(f, "# %s, %zu layers of %zu channels\n\n", c->causal ? "Next-token model" : "Encoder", c->L, c->C);
    fprintf(f, "Trained with OptiBERT in plain C. %zu parameters (%zu without the embedding), %zu heads, %zu "
            "hidden channels, a vocabulary of %zu, texts of up to %zu tokens.\n\n", params,
            params - (c->V + 1) * c->C, c->NH, c->H, c->V, c->T);
    card_training(f, e->path), card_scores(f, e->path);
    if (!e->v.file) {
        fprintf(f, "It was trained without a vocabulary, so there is no tokenizer: give it ids.\n");
        return;
    }
    fprintf(f, "```python\nfrom transformers import pipeline\n"
            "pipeline(\"%s\", \".\")(\"The cat sat on the%s\")\n\n"
            "from sentence_transformers import SentenceTransformer\n"
            "SentenceTransformer(\".\").encode([\"The cat sat on the mat.\"])\n```\n\n"
            "A text begins with an end-of-text token, which the tokenizer puts there.\n",
            task, c->causal ? "" : " [MASK].");
}

// Write a model and all that goes with it. The texts are made before anything is written.
static void export_model(const char *path, const char *folder) {
    static const struct { const char *name; void (*put)(FILE *, const Export *); int vocab; } files[] = {
        {"tokenizer.json", put_tokenizer, 1}, {"tokenizer_config.json", put_tokenizer_config, 1},
        {"config.json", put_config, 0}, {"README.md", put_card, 0}, {"modules.json", put_modules, 1},
        {"1_Pooling/config.json", put_pooling, 1}};
    enum { N = sizeof files / sizeof *files };
    const char *pooling = export_path(folder, "1_Pooling");
    const char *weights = export_path(folder, "model.safetensors");
    char *text[N] = {0};
    size_t size[N];
    Export e = {.path = path};
    load_model(&e.m, &e.v, path, 1, 0);
    if (e.v.file && e.v.eot >= 0) {
        FILE *f = text_open(&e.eot, size);
        put_characters(f, &e.v, (size_t)e.v.eot), text_close(f);
    }
    for (int i = 0; i < N; i++) {
        if (files[i].vocab && !e.v.file) continue;
        FILE *f = text_open(&text[i], &size[i]);
        files[i].put(f, &e), text_close(f);
    }
    for (int i = 0; i < N; i++)
        if (access(weights, F_OK) && access(export_path(folder, files[i].name), F_OK) == 0)
            die("%s: has a %s of something else; choose another folder", folder, files[i].name);
    if ((mkdir(folder, 0777) && errno != EEXIST) || (mkdir(pooling, 0777) && errno != EEXIST))
        die("%s: cannot make this folder: %s", folder, strerror(errno));
    put_safetensors(weights, &e.m);
    for (int i = 0; i < N; i++) {
        Writer w;
        if (!text[i]) continue;
        writer_open(&w, export_path(folder, files[i].name));
        writer_put(&w, text[i], size[i]), writer_close(&w);
        free(text[i]);
    }
    if (!e.v.file) fprintf(stderr, "%s: has no vocabulary, so there is no tokenizer in %s\n", path, folder);
    free(e.eot), model_free(&e.m);
}

// ----------------------------------------------------------------------------
// import
//
// The files may have been written again by the libraries, which order and space things differently, so they
// are read as JSON. A place in a text is NULL if something is not as it should be.

// Where the value that begins at p ends.
static const char *json_end(const char *p) {
    int depth = 0;
    do {
        p += strspn(p, " \t\r\n,:");
        size_t n = strcspn(p, " \t\r\n,:{}[]\"");
        if (*p == '"') {
            for (p++; *p && *p != '"'; p++)
                if (*p == '\\' && p[1]) p++;
            if (!*p++) return NULL;
        } else if (*p == '{' || *p == '[') depth++, p++;
        else if (depth > 0 && (*p == '}' || *p == ']')) depth--, p++;
        else if (n > 0) p += n;
        else return NULL;
    } while (depth > 0);
    return p;
}

// The next member of an object: begin with the object, and go on with the last result. NULL after the last.
static const char *json_next(const char *p, const char **key, const char **value) {
    p += strspn(p, " \t\r\n{,");
    const char *end = *p == '"' ? json_end(p) : NULL;
    if (!end) return NULL;
    *key = p, *value = end + strspn(end, " \t\r\n:");
    return json_end(*value);
}

// The value of a member of an object, or NULL.
static const char *json_find(const char *object, const char *name) {
    const char *key, *value;
    size_t n = strlen(name);
    while (object && (object = json_next(object, &key, &value)))
        if (strncmp(key + 1, name, n) == 0 && key[n + 1] == '"') return value;
    return NULL;
}

// A number of a JSON file, which must be there and not lie outside of low … high.
static double json_value(const char *path, const char *object, const char *name, double low, double high) {
    const char *value = json_find(object, name);
    char *end;
    double x = value ? strtod(value, &end) : NAN;
    if (!value || end == value) die("%s: has no number \"%s\"; export the model again", path, name);
    if (!(x >= low && x <= high))
        die("%s: \"%s\" is %.10g, which no model of this program has; export the model again", path, name, x);
    return x;
}

// The bytes that the characters of a string of tokenizer.json stand for, at most 255 of them. Returns how
// many; -1 if it is not such a string.
static int json_bytes(const char *p, char bytes[255]) {
    int n = 0;
    for (p++; *p != '"'; n++) {
        int c = (unsigned char)*p++, byte = 0;
        if (c == '\\' && *p == 'u' && strspn(p + 1, "0123456789abcdefABCDEF") >= 4)
            c = (int)strtol((char[]){p[1], p[2], p[3], p[4], 0}, NULL, 16), p += 5;
        else if (c == '\\') c = (unsigned char)*p++;
        else if (c >> 5 == 6 && (*p & 0xC0) == 0x80) c = (c & 31) << 6 | (*p++ & 63);
        while (byte < 256 && byte_character(byte) != c) byte++;
        if (byte == 256 || n == 255) return -1;
        bytes[n] = (char)byte;
    }
    return n;
}

// Die unless a member of an object is this.
static void json_must_be(const char *path, const char *object, const char *name, const char *wanted) {
    const char *value = json_find(object, name);
    if (!value || strncmp(value, wanted, strlen(wanted)))
        die("%s: \"%s\" is not %s, as in all models of this program; export one again", path, name, wanted);
}

// The shape of the model, and in *eot the id of end of text, or -1.
static Config import_config(const char *path, int *eot) {
    char *text = read_whole(path);
    const char *type = json_find(text, "model_type"), *id = json_find(text, "bos_token_id");
    Config c = {.causal = type && strncmp(type, "\"llama\"", 7) == 0};
    if (!c.causal) json_must_be(path, text, "model_type", "\"eurobert\"");
    json_must_be(path, text, "tie_word_embeddings", "true");
    c.L = (size_t)json_value(path, text, "num_hidden_layers", 1, 1e4);
    c.C = (size_t)json_value(path, text, "hidden_size", 2, 1e5);
    c.H = (size_t)json_value(path, text, "intermediate_size", 1, 1e6);
    c.NH = (size_t)json_value(path, text, "num_attention_heads", 1, 1e4);
    c.T = (size_t)json_value(path, text, "max_position_embeddings", 1, 1e6);
    c.V = (size_t)json_value(path, text, "vocab_size", 2, 65536) - 1;
    check_config(&c);
    json_value(path, text, "num_key_value_heads", (double)c.NH, (double)c.NH);
    json_value(path, text, "rms_norm_eps", 1e-5, 1e-5);
    json_value(path, json_find(text, "rope_parameters"), "rope_theta", 1e4, 1e4);
    if (!c.causal) json_value(path, text, "mask_token_id", (double)c.V, (double)c.V);
    *eot = id && *id != 'n' ? (int)json_value(path, text, "bos_token_id", 0, (double)c.V - 1) : -1;
    free(text);
    return c;
}

// The vocabulary that the tokenizer was made from, as a file of version 2.
static void import_vocab(const char *path, size_t V, int eot, Vocab *v) {
    char *text = read_whole(path), (*string)[255] = alloc_or_die(V * sizeof *string);
    int *length = alloc_or_die(V * sizeof *length);
    const char *at = json_find(json_find(text, "model"), "vocab"), *key, *value;
    while (at && (at = json_next(at, &key, &value))) {
        size_t id = strtoul(value, NULL, 10);
        if (id < V) length[id] = json_bytes(key, string[id]);
    }
    size_t head = HEADER * sizeof(int32_t);
    *v = (Vocab){.file = alloc_or_die(head + V * 256 + 4), .size = head};
    memcpy(v->file, (int32_t[]){VOCAB_MAGIC, 2, (int32_t)V, eot}, 4 * sizeof(int32_t));
    for (size_t id = 0; id < V; id++) {
        if (length[id] < 1) die("%s: token %zu is missing, or is not written byte by byte", path, id);
        v->file[v->size++] = (char)length[id];
        memcpy(v->file + v->size, string[id], (size_t)length[id]);
        v->size += (size_t)length[id];
    }
    vocab_parse(v, path);
    free(text), free(string), free(length);
}

// The weights, wherever they are in the file. (sentence-transformers leaves out the "model." of their names.)
static void import_weights(const char *path, Model *m) {
    Reader r;
    uint64_t size = 0;
    size_t n, rows, cols, begin, end;
    reader_open(&r, path);
    if (r.size > sizeof size) reader_get(&r, &size, sizeof size);
    if (size == 0 || size > r.size - sizeof size) die("%s: not a safetensors file; export it again", path);
    char *header = alloc_or_die(size + 1);
    reader_get(&r, header, size);
    Part *parts = model_parts(m, &n);
    for (const Part *p = parts; p < parts + n; p++) {
        const char *tensor = json_find(header, p->name) ?: json_find(header, p->name + strlen("model."));
        const char *shape = json_find(tensor, "shape"), *place = json_find(tensor, "data_offsets");
        if (!shape || !place) die("%s: there is no %s in it; export the model again", path, p->name);
        json_must_be(path, tensor, "dtype", "\"F32\"");
        int dimensions = sscanf(shape, "[%zu ,%zu", &rows, &cols);
        if (dimensions == 1) cols = rows, rows = 0;
        if (dimensions < 1 || rows != p->rows || cols != p->cols ||
            sscanf(place, "[%zu ,%zu", &begin, &end) != 2 || begin > r.size || end - begin != part_bytes(p))
            die("%s: %s has another shape than config.json says; export the model again", path, p->name);
        fseeko(r.file, (off_t)(sizeof size + size + begin), SEEK_SET);
        reader_get(&r, p->weights, part_bytes(p));
    }
    fclose(r.file);
    free(header), free(parts);
}

// Make a model.bin of a folder.
static void import_model(const char *folder, const char *path) {
    int eot;
    Vocab v = {0};
    Model m;
    Config c = import_config(export_path(folder, "config.json"), &eot), one = c;
    one.T = 1; // no pass is made, so no room is needed for one
    model_alloc(&m, &one, 1, 1, 1, 0);
    m.c.T = c.T;
    import_weights(export_path(folder, "model.safetensors"), &m);
    if (eot >= 0) import_vocab(export_path(folder, "tokenizer.json"), c.V, eot, &v);
    save_model(path, &m, &v);
    model_free(&m);
}

// ----------------------------------------------------------------------------
// main

int export_main(int argc, char **argv) {
    ExportSettings s = {0};
    program = "export";
    parse_options(export_options, &s, argc, argv);
    if (s.help) {
        printf("usage: export MODEL DIR\n       export --import DIR model.bin\n\n"
               "Write a model (a model.bin, or a run's folder) as a folder for Hugging Face's libraries, or\n"
               "read such a folder back.\n\n");
        print_options(export_options);
        return 0;
    }
    if (s.operands.n != (s.import ? 1 : 2))
        die_usage("give MODEL DIR, or --import DIR model.bin; --help says more");
    if (s.import) import_model(s.import, s.operands.path[0]);
    else export_model(model_path(s.operands.path[0]), s.operands.path[1]);
    return 0;
}

#ifndef EXPORT_NO_MAIN
int main(int argc, char **argv) {
    open_streams();
    return close_stdout(export_main(argc, argv));
}
#endif
#endif
