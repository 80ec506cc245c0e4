// What every part shares: memory that is there, errors as one text, random numbers by seed.
#ifndef DIFFUMIN_COMMON_H_
#define DIFFUMIN_COMMON_H_

#define _POSIX_C_SOURCE 200809L  // Every file includes this one first.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What went wrong, for a person to read.
struct problem {
  char text[4096];
};

// Sets the text; always false, so that a function can return it.
bool fail(struct problem *problem, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Puts "<format>: " before the text; always false.
bool blame(struct problem *problem, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Zeroed memory; ends the program when there is none.
void *allocate(size_t size);
void *enlarge(void *memory, size_t size);
char *copy_text(const char *text, size_t size);

// Bytes that grow.
struct buffer {
  char *data;
  size_t size, room;
};

void append(struct buffer *buffer, const void *data, size_t size);

// A text of bounded length that grows by pieces; what does not fit is left out.
void add_text(char *text, size_t room, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// SplitMix64: the same state, the same numbers.
struct random {
  uint64_t state;
};

uint64_t next_random(struct random *random);
// 0 ... below - 1; 0 for below = 0.
size_t pick(struct random *random, size_t below);

double seconds_now(void);

#endif  // DIFFUMIN_COMMON_H_
