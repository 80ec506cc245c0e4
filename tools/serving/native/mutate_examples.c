// Ways to spoil the serialised Examples of a request.
#include "common.h"

#include <stdlib.h>
#include <string.h>

#include "example.h"
#include "mutate.h"

// A serialised Example of the request, by chance.
static struct bytes *pick_example(struct mutant *mutant) {
  struct tensor *tensor = pick_tensor(mutant, TF_STRING);
  if (!tensor) return NULL;
  if (!mutant->touched_count) touch(mutant, tensor->name);
  return (struct bytes *)tensor->values + pick(&mutant->random, elements(tensor));
}

static bool truncated(struct mutant *mutant) {
  struct bytes *example = pick_example(mutant);
  if (!example || !example->size) return false;
  example->size = pick(&mutant->random, example->size);
  return true;
}

static bool bits_flipped(struct mutant *mutant) {
  struct bytes *example = pick_example(mutant);
  if (!example || !example->size) return false;
  for (size_t i = 1 + pick(&mutant->random, 8); i > 0; i--) {
    example->data[pick(&mutant->random, example->size)] ^= (char)(1 << pick(&mutant->random, 8));
  }
  return true;
}

// Bytes that say "and so on": lengths and numbers that never end.
static bool long_varint(struct mutant *mutant) {
  struct bytes *example = pick_example(mutant);
  if (!example || !example->size) return false;
  size_t start = pick(&mutant->random, example->size), count = 1 + pick(&mutant->random, 12);
  for (size_t i = start; i < example->size && i < start + count; i++) {
    example->data[i] = (char)(pick(&mutant->random, 2) ? 0xff : 0x80);
  }
  return true;
}

// Bytes that no UTF-8 text has, in the place of letters.
static bool not_utf8(struct mutant *mutant) {
  static const unsigned char odd[] = {0xff, 0xfe, 0xc0, 0x80, 0xed, 0xa0, 0x00};
  struct bytes *example = pick_example(mutant);
  if (!example) return false;
  size_t letters = 0;
  for (size_t i = 0; i < example->size; i++) {
    if (example->data[i] < 'a' || example->data[i] > 'z') continue;
    letters++;
    if (pick(&mutant->random, 6)) continue;
    example->data[i] = (char)odd[pick(&mutant->random, sizeof odd)];
  }
  return letters > 0;
}

static bool bytes_moved(struct mutant *mutant) {
  struct bytes *example = pick_example(mutant);
  if (!example || example->size < 2) return false;
  size_t start = pick(&mutant->random, example->size);
  size_t count = 1 + pick(&mutant->random, example->size - start);
  struct buffer changed = {0};
  append(&changed, example->data, start);
  if (pick(&mutant->random, 2)) {  // Twice, or not at all.
    append(&changed, example->data + start, count);
    append(&changed, example->data + start, count);
  }
  append(&changed, example->data + start + count, example->size - start - count);
  set_bytes(example, changed.data, changed.size);
  free(changed.data);
  return true;
}

static bool garbage(struct mutant *mutant) {
  struct bytes *example = pick_example(mutant);
  if (!example) return false;
  size_t size = pick(&mutant->random, 200);
  char *bytes = allocate(size);
  for (size_t i = 0; i < size; i++) bytes[i] = (char)next_random(&mutant->random);
  set_bytes(example, bytes, size);
  free(bytes);
  return true;
}

static bool no_bytes(struct mutant *mutant) {
  struct bytes *example = pick_example(mutant);
  if (!example) return false;
  set_bytes(example, "", 0);
  return true;
}

// One Example after another, which protocol buffers read as one.
static bool joined(struct mutant *mutant) {
  struct bytes *one = pick_example(mutant), *other = pick_example(mutant);
  if (!one || !other) return false;
  struct buffer both = {0};
  append(&both, one->data, one->size);
  append(&both, other->data, other->size);
  set_bytes(one, both.data, both.size);
  free(both.data);
  return true;
}

// What `change` does to a feature by chance; the feature may go.
typedef bool feature_change(struct mutant *mutant, struct example *example, size_t place);

static bool change_feature(struct mutant *mutant, feature_change *change) {
  struct bytes *serialised = pick_example(mutant);
  struct example example;
  if (!serialised || !read_example(wire_of(serialised->data, serialised->size), &example)) {
    return false;
  }
  // The first feature by chance that can be changed so.
  size_t first = pick(&mutant->random, example.count);
  bool changed = false;
  for (size_t i = 0; i < example.count && !changed; i++) {
    size_t place = (first + i) % example.count;
    char *name = copy_text(example.features[place].name, strlen(example.features[place].name));
    changed = change(mutant, &example, place);
    if (changed) touch(mutant, name);  // An error may name the feature, not the input.
    free(name);
  }
  if (changed) {
    struct buffer written = write_example(&example);
    set_bytes(serialised, written.data, written.size);
    free(written.data);
  }
  free_example(&example);
  return changed;
}

static bool drop(struct mutant *mutant, struct example *example, size_t place) {
  (void)mutant;
  remove_feature(example, place);
  return true;
}

static bool rename_it(struct mutant *mutant, struct example *example, size_t place) {
  char *name = example->features[place].name;
  size_t other = pick(&mutant->random, example->count);
  if (!name[0]) return false;
  if (other == place) {
    name[0] ^= 0x20;
  } else {
    example->features[place].name = example->features[other].name;
    example->features[other].name = name;
  }
  touch(mutant, example->features[place].name);  // What it is called now.
  return true;
}

static bool change_kind(struct mutant *mutant, struct example *example, size_t place) {
  struct feature *feature = &example->features[place];
  enum kind kind = (enum kind)pick(&mutant->random, 4);
  if (kind == feature->kind) return false;
  if (kind == BYTES_LIST) put_field(&feature->list, 1, "text", 4);
  feature->kind = kind;
  return true;
}

static bool change_length(struct mutant *mutant, struct example *example, size_t place) {
  struct feature *feature = &example->features[place];
  size_t count = pick(&mutant->random, pick(&mutant->random, 30) ? 60 : 6000);
  resize_feature(feature, count == feature->count ? count + 1 : count);
  return true;
}

static bool change_ids(struct mutant *mutant, struct example *example, size_t place) {
  struct feature *feature = &example->features[place];
  if (feature->kind != INT64_LIST || !feature->count) return false;
  size_t share = 1 + pick(&mutant->random, 8);
  for (size_t i = 0; i < feature->count; i++) {
    if (pick(&mutant->random, share) == 0) feature->numbers[i] = odd_id(&mutant->random);
  }
  return true;
}

static bool change_dense(struct mutant *mutant, struct example *example, size_t place) {
  struct feature *feature = &example->features[place];
  if (feature->kind != FLOAT_LIST || !feature->count) return false;
  for (size_t i = 0; i < feature->count; i++) {
    float value = odd_float(&mutant->random);
    memcpy(&feature->numbers[i], &value, sizeof value);
  }
  return true;
}

static bool unpack(struct mutant *mutant, struct example *example, size_t place) {
  (void)mutant;
  example->features[place].unpacked = true;
  return true;
}

static bool repeat(struct mutant *mutant, struct example *example, size_t place) {
  char *name = example->features[place].name;
  struct feature *again = add_feature(example, name, strlen(name));
  again->kind = example->features[place].kind;
  if (again->kind == BYTES_LIST) put_field(&again->list, 1, "text", 4);
  resize_feature(again, pick(&mutant->random, 20));
  return true;
}

static bool feature_dropped(struct mutant *mutant) { return change_feature(mutant, drop); }
static bool feature_renamed(struct mutant *mutant) { return change_feature(mutant, rename_it); }
static bool feature_kind(struct mutant *mutant) { return change_feature(mutant, change_kind); }
static bool feature_length(struct mutant *mutant) { return change_feature(mutant, change_length); }
static bool feature_ids(struct mutant *mutant) { return change_feature(mutant, change_ids); }
static bool feature_dense(struct mutant *mutant) { return change_feature(mutant, change_dense); }
static bool feature_unpacked(struct mutant *mutant) { return change_feature(mutant, unpack); }
static bool feature_twice(struct mutant *mutant) { return change_feature(mutant, repeat); }

const struct way EXAMPLE_WAYS[] = {
    {"truncated", truncated},
    {"bits_flipped", bits_flipped},
    {"long_varint", long_varint},
    {"not_utf8", not_utf8},
    {"bytes_moved", bytes_moved},
    {"garbage", garbage},
    {"no_bytes", no_bytes},
    {"joined", joined},
    {"feature_dropped", feature_dropped},
    {"feature_renamed", feature_renamed},
    {"feature_kind", feature_kind},
    {"feature_length", feature_length},
    {"feature_ids", feature_ids},
    {"feature_dense", feature_dense},
    {"feature_unpacked", feature_unpacked},
    {"feature_twice", feature_twice},
};
const size_t EXAMPLE_WAY_COUNT = sizeof EXAMPLE_WAYS / sizeof *EXAMPLE_WAYS;
