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

// The path folder/name, in memory that lasts.
static char *path_in(const char *folder, const char *name) {
    char *path = alloc_or_die(strlen(folder) + strlen(name) + 2);
    sprintf(path, "%s/%s", folder, name);
    return path;
}

// ----------------------------------------------------------------------------
// writing JSON

// Write JSON in whose format ' stands for ".
__attribute__((format(printf, 2, 3)))
static void put_json(FILE *f, const char *format, ...) {
    char *quoted = strdup(format);
    va_list args;
    if (!quoted) die("out of memory");
    for (char *p = quoted; *p; p++)
        if (*p == '\'') *p = '"';
    va_start(args, format);
    vfprintf(f, quoted, args);
    va_end(args);
    free(quoted);
}

// The end-of-text id as JSON. A model without a vocabulary does not know it.
static const char *json_id(const Vocab *v) {
    static char text[16];
    if (!v->file || v->eot < 0) return "null";
    snprintf(text, sizeof text, "%d", v->eot);
    return text;
}

static void put_config(FILE *f, const Config *c, const Vocab *v) {
    const char *eot = json_id(v);
    put_json(f, "{\n'architectures': ['%s'],\n'model_type': '%s',\n'dtype': 'float32',\n",
             c->causal ? "LlamaForCausalLM" : "EuroBertForMaskedLM", c->causal ? "llama" : "eurobert");
    put_json(f, "'vocab_size': %zu,\n'hidden_size': %zu,\n'intermediate_size': %zu,\n", c->V + 1, c->C, c->H);
    put_json(f, "'num_hidden_layers': %zu,\n'num_attention_heads': %zu,\n'num_key_value_heads': %zu,\n"
             "'head_dim': %zu,\n", c->L, c->NH, c->NH, c->C / c->NH);
    put_json(f, "'max_position_embeddings': %zu,\n'rope_parameters': {'rope_type': 'default', 'rope_theta': "
             "10000.0},\n'rms_norm_eps': 1e-5,\n'hidden_act': 'silu',\n", c->T);
    put_json(f, "'attention_bias': false,\n'mlp_bias': false,\n'attention_dropout': 0.0,\n"
             "'tie_word_embeddings': true,\n'initializer_range': %.6f,\n", 1 / sqrt((double)c->C));
    if (!c->causal) put_json(f, "'mask_token_id': %zu,\n'classifier_pooling': 'mean',\n", c->V);
    put_json(f, "'bos_token_id': %s,\n'eos_token_id': %s,\n'pad_token_id': %s\n}\n", eot, eot, eot);
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
    FILE *f = open_memstream(&header, &size);
    if (!f) die("out of memory");
    put_json(f, "{'__metadata__':{'format':'pt'}");
    for (const Part *p = parts; p < parts + n; at += part_bytes(p++)) {
        put_json(f, ",'%s':{'dtype':'F32','shape':[", p->name);
        if (p->rows) put_json(f, "%zu,", p->rows);
        put_json(f, "%zu],'data_offsets':[%zu,%zu]}", p->cols, at, at + part_bytes(p));
    }
    fprintf(f, "}%*s", (int)(7 - (ftell(f) & 7)), ""); // the tensors begin at a multiple of 8
    if (fclose(f)) die("out of memory");
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

static void put_characters(FILE *f, const Vocab *v, size_t id) {
    for (size_t i = 0; i < v->length[id]; i++) {
        int c = byte_character((unsigned char)v->string[id][i]);
        if (c == '"' || c == '\\') fputc('\\', f);
        if (c < 0x80) fputc(c, f);
        else fputc(0xC0 | c >> 6, f), fputc(0x80 | (c & 63), f);
    }
}

// The library's BPE needs to know which two tokens each merge joins. We only know the strings, but that is
// enough. Whatever text surrounds a string, if no token crosses its ends, encoding joins the bytes between
// them in the same order as if the string stood alone. So before its last join it is always the same two
// tokens: those that it is encoded as when its own id is taken away. (If these are not two, no text is ever
// encoded as this token.) The library joins one pair at a time and we join all equal pairs at once. This is
// the same as long as what a token is made of comes before it, so that no join makes a pair with a lower id
// possible.
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

// What piece_length() and char_class() do, as a regular expression over such characters. (Only pieces of 1024
// bytes and more that hold multi-byte punctuation may be cut elsewhere.)
#define TAIL "[\\u0122-\\u0143\\u00A1-\\u00BF]" // a byte 0x80 … 0xBF
#define WIDE "(?:\\u00C2" TAIL "|\\u00E2[\\u0122\\u0123]" TAIL "|\\u00E3\\u0122" TAIL ")"
#define LETTER "(?:[A-Za-z]|(?!" WIDE ")[\\u00A1-\\u00FF\\u0122-\\u0143])"
#define OTHER "(?:[!-/:-@\\\\[-`{-~\\u0100-\\u0108\\u010E-\\u011F\\u0121]|" WIDE ")"
#define RUN(class) "\\u0120" class "{1,1023}|" class "{1,1024}|"
#define PIECES RUN(LETTER) RUN("[0-9]") RUN(OTHER) "[\\u0109-\\u010D\\u0120]{1,1024}"

// Die unless the library can tell all tokens apart, and find the words of a vocabulary that lacks bytes.
static void check_tokens(const Encoder *e, const char *path) {
    const Vocab *v = &e->vocab;
    if (v->eot < 0) die("%s: its vocabulary has no end of text, and every text begins with one; train with a "
                        "vocabulary of data/tokenize", path);
    if (vocab_find(e, "[MASK]", 6) >= 0) die("%s: its vocabulary has a token [MASK]; train with another", path);
    for (size_t id = 0; id < v->V; id++) {
        int found = vocab_find(e, v->string[id], v->length[id]);
        if (found >= 0 && found != (int)id)
            die("%s: tokens %d and %zu of its vocabulary are the same, which is not possible in "
                "tokenizer.json; train with a vocabulary of data/tokenize", path, found, id);
        if (!e->has_bytes && memchr(v->string[id] + 1, ' ', v->length[id] - 1u))
            die("%s: token %zu of its vocabulary, which lacks bytes, has a space inside, which is not possible "
                "in tokenizer.json; train with a vocabulary of data/tokenize", path, id);
    }
}

// How text is cut and encoded: by merges; or, if the vocabulary has whole words, longest match first, where a
// text begins with a space and spaces too many are dropped. [MASK] takes the space before it.
static void put_tokenizer(FILE *f, const Vocab *v, const char *path) {
    Encoder e;
    char *eot;
    size_t size;
    encoder_make(&e, v);
    check_tokens(&e, path);
    FILE *s = open_memstream(&eot, &size);
    if (!s) die("out of memory");
    put_characters(s, v, (size_t)v->eot);
    if (fclose(s)) die("out of memory");
    const char *byte_level = "'type':'ByteLevel','add_prefix_space':false,'trim_offsets':true,'use_regex':false";
    const char *flags = "'single_word':false,'lstrip':false,'rstrip':false,'special':true";
    const char *first = "{'SpecialToken':{'id':'";
    (void)byte_level, (void)flags, (void)first;
    put_json(f, "{'version':'1.0','truncation':null,'padding':null,\n'added_tokens':[\n"
             "{'id':%d,'content':'%s','single_word':false,'lstrip':false,'rstrip':false,'normalized':false,"
             "'special':true},\n{'id':%zu,'content':'[MASK]','single_word':false,'lstrip':false,'rstrip':false,"
             "'normalized':true,'special':true}],\n", v->eot, eot, v->V);
    put_json(f, "'normalizer':{'type':'Sequence','normalizers':[%s\n{'type':'Replace','pattern':{'String':"
             "' [MASK]'},'content':'[MASK]'}]},\n", e.has_bytes ? "" : "\n{\"type\":\"Prepend\",\"prepend\":\" \"},");
    put_json(f, "'pre_tokenizer':{'type':'Sequence','pretokenizers':[\n{'type':'ByteLevel',"
             "'add_prefix_space':false,'trim_offsets':true,'use_regex':false},\n{'type':'Split','pattern':"
             "{'Regex':'%s'},'behavior':'Removed','invert':true}]},\n", e.has_bytes ? PIECES : "\\u0120?[^\\u0120]+");
    put_json(f, "'post_processor':{'type':'TemplateProcessing','single':[{'SpecialToken':{'id':'%s','type_id':0}},"
             "{'Sequence':{'id':'A','type_id':0}}],\n'pair':[{'SpecialToken':{'id':'%s','type_id':0}},"
             "{'Sequence':{'id':'A','type_id':0}},{'SpecialToken':{'id':'%s','type_id':0}},"
             "{'Sequence':{'id':'B','type_id':0}}],\n'special_tokens':{'%s':{'id':'%s','ids':[%d],"
             "'tokens':['%s']}}},\n", eot, eot, eot, eot, eot, v->eot, eot);
    put_json(f, "'decoder':{'type':'ByteLevel','add_prefix_space':false,'trim_offsets':true,'use_regex':false},\n"
             "'model':{");
    if (e.has_bytes)
        put_json(f, "'type':'BPE','dropout':null,'unk_token':null,'continuing_subword_prefix':null,"
                 "'end_of_word_suffix':null,'fuse_unk':false,'byte_fallback':false,'ignore_merges':false,");
    else put_json(f, "'type':'WordPiece','unk_token':'[UNK]','continuing_subword_prefix':'',"
                  "'max_input_chars_per_word':1000,");
    put_json(f, "'vocab':{");
    for (size_t id = 0; id < v->V; id++)
        fprintf(f, "\n\""), put_characters(f, v, id), fprintf(f, "\":%zu,", id);
    put_json(f, "\n'[MASK]':%zu}", v->V);
    if (e.has_bytes) put_json(f, ",\n'merges':["), put_merges(f, &e, path), fputc(']', f);
    fprintf(f, "}}\n");
    free(eot);
}

int export_main(int argc, char **argv) {
    ExportSettings s = {0};
    Model m;
    Vocab v;
    program = "export";
    parse_options(export_options, &s, argc, argv);
    load_model(&m, &v, s.operands.path[0], 1);
    const char *dir = s.operands.path[1];
    mkdir(dir, 0777);
    put_safetensors(path_in(dir, "model.safetensors"), &m);
    FILE *f = fopen(path_in(dir, "config.json"), "w");
    put_config(f, &m.c, &v), fclose(f);
    f = fopen(path_in(dir, "tokenizer.json"), "w");
    put_tokenizer(f, &v, s.operands.path[0]), fclose(f);
    return 0;
}

#ifndef EXPORT_NO_MAIN
int main(int argc, char **argv) {
    open_streams();
    return close_stdout(export_main(argc, argv));
}
#endif
#endif
