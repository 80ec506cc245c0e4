#include "wire.h"

struct wire wire_of(const void *data, size_t size) {
  const uint8_t *at = data;
  return (struct wire){at, size ? at + size : at};
}

size_t left(struct wire wire) { return (size_t)(wire.end - wire.at); }

bool read_varint(struct wire *wire, uint64_t *value) {
  *value = 0;
  for (unsigned shift = 0; shift < 64 && wire->at < wire->end; shift += 7) {
    uint8_t byte = *wire->at++;
    *value |= (uint64_t)(byte & 0x7f) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

static bool read_fixed(struct wire *wire, unsigned size, uint64_t *value) {
  if (left(*wire) < size) return false;
  *value = 0;
  for (unsigned i = 0; i < size; i++) *value |= (uint64_t)*wire->at++ << (8 * i);
  return true;
}

enum next next_field(struct wire *wire, struct field *field) {
  if (wire->at == wire->end) return END;
  uint64_t key, size;
  if (!read_varint(wire, &key) || key >> 3 == 0 || key >> 35) return MALFORMED;
  *field = (struct field){.number = (uint32_t)(key >> 3), .type = key & 7};
  switch (field->type) {
    case 0: return read_varint(wire, &field->value) ? FIELD : MALFORMED;
    case 1: return read_fixed(wire, 8, &field->value) ? FIELD : MALFORMED;
    case 5: return read_fixed(wire, 4, &field->value) ? FIELD : MALFORMED;
    case 2:
      if (!read_varint(wire, &size) || size > left(*wire)) return MALFORMED;
      field->bytes = wire_of(wire->at, (size_t)size);
      wire->at += size;
      return FIELD;
    default: return MALFORMED;
  }
}

void put_varint(struct buffer *buffer, uint64_t value) {
  for (; value >= 0x80; value >>= 7) append(buffer, &(uint8_t){(uint8_t)(value | 0x80)}, 1);
  append(buffer, &(uint8_t){(uint8_t)value}, 1);
}

void put_field(struct buffer *buffer, uint32_t number, const void *data, size_t size) {
  put_varint(buffer, (uint64_t)number << 3 | 2);
  put_varint(buffer, size);
  append(buffer, data, size);
}
