// A serialised tf.train.Example: taken apart and put together again, also in ways that are wrong.
#ifndef DIFFUMIN_EXAMPLE_H_
#define DIFFUMIN_EXAMPLE_H_

#include "common.h"
#include "wire.h"

// Field of tensorflow.Feature that holds the list.
enum kind { NOTHING = 0, BYTES_LIST = 1, FLOAT_LIST = 2, INT64_LIST = 3 };

struct feature {
  char *name;
  enum kind kind;
  uint64_t *numbers;  // Of an int64 list, or the bits of a float list.
  size_t count;
  struct buffer list;  // The serialised list, where it holds bytes.
  bool unpacked;       // Numbers are written one field each, which is valid too.
};

struct example {
  struct feature *features;
  size_t count;
};

// False where the bytes are no Example.
bool read_example(struct wire wire, struct example *example);
struct buffer write_example(const struct example *example);
void free_example(struct example *example);

struct feature *add_feature(struct example *example, const char *name, size_t size);
void remove_feature(struct example *example, size_t place);
// Another length; the old numbers again and again, or zeros where there is none.
void resize_feature(struct feature *feature, size_t count);

#endif  // DIFFUMIN_EXAMPLE_H_
