#include "example.h"

#include <stdlib.h>
#include <string.h>

// Numbers of fields in tensorflow/core/example/{example,feature}.proto.
enum { EXAMPLE_FEATURES = 1, FEATURES_FEATURE = 1, MAP_KEY = 1, MAP_VALUE = 2, LIST_VALUE = 1 };

static void add_number(struct feature *feature, uint64_t number) {
  feature->numbers =
      enlarge(feature->numbers, (feature->count + 1) * sizeof *feature->numbers);
  feature->numbers[feature->count++] = number;
}

static bool read_packed(struct wire wire, struct feature *feature) {
  while (wire.at < wire.end) {
    uint64_t number = 0;
    if (feature->kind == INT64_LIST) {
      if (!read_varint(&wire, &number)) return false;
    } else {
      if (left(wire) < 4) return false;
      memcpy(&number, wire.at, 4);
      wire.at += 4;
    }
    add_number(feature, number);
  }
  return true;
}

static bool read_list(struct wire wire, struct feature *feature) {
  struct field field;
  enum next next;
  if (feature->kind == BYTES_LIST) {
    append(&feature->list, wire.at, left(wire));
    return true;
  }
  while ((next = next_field(&wire, &field)) == FIELD) {
    if (field.number != LIST_VALUE) continue;
    if (field.type != 2) {
      add_number(feature, field.value);
    } else if (!read_packed(field.bytes, feature)) {
      return false;
    }
  }
  return next == END;
}

static bool read_feature(struct wire wire, struct example *example) {
  struct field field;
  enum next next;
  struct wire name = wire_of("", 0), value = wire_of("", 0);
  while ((next = next_field(&wire, &field)) == FIELD) {
    if (field.number == MAP_KEY && field.type == 2) name = field.bytes;
    if (field.number == MAP_VALUE && field.type == 2) value = field.bytes;
  }
  if (next != END) return false;
  struct feature *feature = add_feature(example, (const char *)name.at, left(name));
  while ((next = next_field(&value, &field)) == FIELD) {
    if (field.type != 2 || field.number > INT64_LIST) continue;
    feature->kind = (enum kind)field.number;
    if (!read_list(field.bytes, feature)) return false;
  }
  return next == END;
}

bool read_example(struct wire wire, struct example *example) {
  struct field field, entry;
  enum next next, inner;
  *example = (struct example){0};
  while ((next = next_field(&wire, &field)) == FIELD) {
    if (field.number != EXAMPLE_FEATURES || field.type != 2) continue;
    while ((inner = next_field(&field.bytes, &entry)) == FIELD) {
      if (entry.number != FEATURES_FEATURE || entry.type != 2) continue;
      if (!read_feature(entry.bytes, example)) break;
    }
    if (inner != END) break;
  }
  if (next == END) return true;
  free_example(example);
  return false;
}

static struct buffer write_list(const struct feature *feature) {
  struct buffer list = {0}, packed = {0};
  if (feature->kind == BYTES_LIST) {
    append(&list, feature->list.data, feature->list.size);
    return list;
  }
  bool floats = feature->kind == FLOAT_LIST;
  for (size_t i = 0; i < feature->count; i++) {
    struct buffer *to = feature->unpacked ? &list : &packed;
    if (feature->unpacked) put_varint(to, LIST_VALUE << 3 | (floats ? 5 : 0));
    if (floats) {
      append(to, &feature->numbers[i], 4);
    } else {
      put_varint(to, feature->numbers[i]);
    }
  }
  if (packed.size) put_field(&list, LIST_VALUE, packed.data, packed.size);
  free(packed.data);
  return list;
}

struct buffer write_example(const struct example *example) {
  struct buffer features = {0}, whole = {0};
  for (size_t i = 0; i < example->count; i++) {
    const struct feature *feature = &example->features[i];
    struct buffer entry = {0}, value = {0}, list = write_list(feature);
    if (feature->kind != NOTHING) put_field(&value, feature->kind, list.data, list.size);
    put_field(&entry, MAP_KEY, feature->name, strlen(feature->name));
    put_field(&entry, MAP_VALUE, value.data, value.size);
    put_field(&features, FEATURES_FEATURE, entry.data, entry.size);
    free(entry.data);
    free(value.data);
    free(list.data);
  }
  put_field(&whole, EXAMPLE_FEATURES, features.data, features.size);
  free(features.data);
  return whole;
}

static void free_feature(struct feature *feature) {
  free(feature->name);
  free(feature->numbers);
  free(feature->list.data);
}

void free_example(struct example *example) {
  for (size_t i = 0; i < example->count; i++) free_feature(&example->features[i]);
  free(example->features);
  *example = (struct example){0};
}

struct feature *add_feature(struct example *example, const char *name, size_t size) {
  example->features =
      enlarge(example->features, (example->count + 1) * sizeof *example->features);
  struct feature *feature = &example->features[example->count++];
  *feature = (struct feature){.name = copy_text(name, size)};
  return feature;
}

void remove_feature(struct example *example, size_t place) {
  free_feature(&example->features[place]);
  example->count--;
  memmove(&example->features[place], &example->features[place + 1],
          (example->count - place) * sizeof *example->features);
}

void resize_feature(struct feature *feature, size_t count) {
  uint64_t *numbers = allocate(count * sizeof *numbers);
  for (size_t i = 0; feature->count && i < count; i++) {
    numbers[i] = feature->numbers[i % feature->count];
  }
  free(feature->numbers);
  feature->numbers = numbers;
  feature->count = count;
}
