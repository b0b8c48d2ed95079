/* fuzz: manifest.json of a checkpoint, beside one file that it may name. What is sound says of every file in the checkpoint
 * its size and hash, and is of the step that was asked for. */
#define _GNU_SOURCE
#include "fuzz_json.h"
#include "signed.h"
#include "unlearn/restart_priv.h"
#include <sys/stat.h>
#include <unistd.h>

enum { STEP = 4 };
static char directory[64];
static const char content[] = "weights", hash[] = "CONTENT_HASH";

static void put(const char *name, const void *bytes, size_t n)
{
    char path[128];
    FILE *f;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    must((f = fopen(path, "wb")) && fwrite(bytes, 1, n, f) == n && !fclose(f));
}

static void remove_directory(void)
{
    static const char *const name[] = {"manifest.json", "weights/model.safetensors"};
    char path[128];
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, name[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/weights", directory);
    rmdir(path);
    rmdir(directory);
}

static void prepare(void)
{
    char path[128];
    snprintf(directory, sizeof directory, "%s/unlearn-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    must(mkdtemp(directory) && !atexit(remove_directory));
    snprintf(path, sizeof path, "%s/weights", directory);
    must(!mkdir(path, 0755));
    put("weights/model.safetensors", content, sizeof content);
}

static void check(const json_t *manifest)
{
    const json_t *files = json_object_get(manifest, "files"), *entry;
    const char *name;
    must(json_integer_value(json_object_get(manifest, "step")) == STEP);
    must(json_integer_value(json_object_get(manifest, "format")) == FORMAT ||
         json_integer_value(json_object_get(manifest, "format")) == FORMAT_OF_ONE_PART);
    must(json_is_string(json_object_get(manifest, "input")) && json_is_object(json_object_get(manifest, "content")));
    must(json_integer_value(json_object_get(manifest, "log_bytes")) >= 0);
    json_object_foreach((json_t *)files, name, entry)
    {
        must(!strcmp(name, "weights/model.safetensors"));
        must(json_integer_value(json_object_get(entry, "bytes")) == sizeof content);
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t most, unsigned seed)
{
    const size_t length = seed % 8 ? mutate_json(bytes, n, most, seed / 8) : 0;
    return length ? length : LLVMFuzzerMutate(bytes, n, most);
}

/* Where the manifest has a hash of itself, it is made right: mutations could not find it. */
static void sign(struct text *text)
{
    json_t *manifest = json_loadb(text->data, text->n, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_string(json_object_get(manifest, "xxh3"))) {
        char *again = signed_text(manifest);
        must(again != NULL);
        text->n = 0;
        must(text_add(text, again, strlen(again)) == OK);
        free(again);
    }
    json_decref(manifest);
}

/* CONTENT_HASH stands for the hash of the file. */
static void put_manifest(const uint8_t *bytes, size_t n)
{
    char number[24];
    struct text text = {0};
    const uint8_t *at;
    snprintf(number, sizeof number, "%016llx", (unsigned long long)hash_bytes(content, sizeof content, 0));
    while ((at = memmem(bytes, n, hash, sizeof hash - 1))) {
        const size_t before = (size_t)(at - bytes);
        must(text_add(&text, (const char *)bytes, before) == OK && text_add(&text, number, 16) == OK);
        bytes += before + sizeof hash - 1, n -= before + sizeof hash - 1;
    }
    must(text_add(&text, (const char *)bytes, n) == OK);
    sign(&text);
    put("manifest.json", text.data, text.n);
    text_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    json_t *manifest = NULL;
    struct text why = {0};
    struct config *c;
    bool sound = false;
    if (!*directory) prepare();
    put_manifest(bytes, n);
    if (accepted(manifest_read(directory, STEP, &manifest, &sound, &why))) {
        must(sound == (manifest != NULL) && (sound || why.n));
        if (sound) {
            const json_t *input = json_object_get(manifest, "input");
            check(manifest);
            accepted(config_parse("manifest.json", json_string_value(input), json_string_length(input), 0, NULL, &c));
            config_free(c);
        }
    }
    json_decref(manifest);
    text_free(&why);
    return 0;
}
