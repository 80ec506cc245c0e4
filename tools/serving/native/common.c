#include "common.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

bool fail(struct problem *problem, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(problem->text, sizeof problem->text, format, arguments);
  va_end(arguments);
  return false;
}

bool blame(struct problem *problem, const char *format, ...) {
  struct problem whole;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(whole.text, sizeof whole.text, format, arguments);
  va_end(arguments);
  add_text(whole.text, sizeof whole.text, ": %s", problem->text);
  *problem = whole;
  return false;
}

void *allocate(size_t size) {
  void *memory = calloc(size ? size : 1, 1);
  if (!memory) {
    fprintf(stderr, "error: no memory for %zu bytes\n", size);
    exit(1);
  }
  return memory;
}

void *enlarge(void *memory, size_t size) {
  void *larger = realloc(memory, size ? size : 1);
  if (!larger) {
    fprintf(stderr, "error: no memory for %zu bytes\n", size);
    exit(1);
  }
  return larger;
}

char *copy_text(const char *text, size_t size) {
  char *copy = allocate(size + 1);
  if (size) memcpy(copy, text, size);
  return copy;
}

void append(struct buffer *buffer, const void *data, size_t size) {
  if (!size) return;
  if (buffer->room - buffer->size < size) {
    buffer->room = (buffer->size + size) * 2;
    buffer->data = enlarge(buffer->data, buffer->room);
  }
  memcpy(buffer->data + buffer->size, data, size);
  buffer->size += size;
}

void add_text(char *text, size_t room, const char *format, ...) {
  size_t size = strlen(text);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text + size, room - size, format, arguments);
  va_end(arguments);
}

uint64_t next_random(struct random *random) {
  uint64_t z = (random->state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

size_t pick(struct random *random, size_t below) {
  return below ? next_random(random) % below : 0;
}

double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
