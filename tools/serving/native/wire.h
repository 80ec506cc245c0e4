// The wire format of protocol buffers, read and written by hand.
#ifndef DIFFUMIN_WIRE_H_
#define DIFFUMIN_WIRE_H_

#include "common.h"

// A message that is still to be read, or the bytes of a field.
struct wire {
  const uint8_t *at, *end;
};

struct field {
  uint32_t number;
  unsigned type;       // 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.
  uint64_t value;      // Of the types 0, 1 and 5.
  struct wire bytes;   // Of type 2.
};

enum next { FIELD, END, MALFORMED };

struct wire wire_of(const void *data, size_t size);
size_t left(struct wire wire);
enum next next_field(struct wire *wire, struct field *field);
bool read_varint(struct wire *wire, uint64_t *value);

void put_varint(struct buffer *buffer, uint64_t value);
void put_field(struct buffer *buffer, uint32_t number, const void *data, size_t size);

#endif  // DIFFUMIN_WIRE_H_
