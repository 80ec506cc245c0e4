#include "recorded.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are copied as they lie");

static const char MAGIC[8] = "DIFFUREC";
enum { VERSION = 1 };

struct cursor {
  const char *at, *end;
};

static bool take(struct cursor *cursor, void *to, size_t size) {
  if ((size_t)(cursor->end - cursor->at) < size) return false;
  if (size) memcpy(to, cursor->at, size);
  cursor->at += size;
  return true;
}

static bool read_whole(const char *path, struct buffer *file, struct problem *problem) {
  FILE *stream = fopen(path, "rb");
  if (!stream) return fail(problem, "%s: %s", path, strerror(errno));
  char piece[65536];
  size_t size;
  while ((size = fread(piece, 1, sizeof piece, stream)) > 0) append(file, piece, size);
  bool good = !ferror(stream);
  fclose(stream);
  return good || fail(problem, "%s: cannot be read", path);
}

static bool read_strings(struct cursor *cursor, struct bytes *strings, size_t count) {
  for (size_t i = 0; i < count; i++) {
    uint64_t size;
    if (!take(cursor, &size, sizeof size)) return false;
    if ((uint64_t)(cursor->end - cursor->at) < size) return false;
    set_bytes(&strings[i], cursor->at, (size_t)size);
    cursor->at += size;
  }
  return true;
}

// The shape is set last, so that what was read can be freed at any time.
static bool read_values(struct cursor *cursor, struct tensor *tensor, int rank,
                        const int64_t *dims, struct problem *problem) {
  size_t count, size = element_size(tensor->dtype);
  size_t least = tensor->dtype == TF_STRING ? sizeof(uint64_t) : size;
  if (!count_elements(dims, rank, &count)) return fail(problem, "its shape is impossible");
  if (count > (size_t)(cursor->end - cursor->at) / least) return fail(problem, "the file is torn");
  refit(tensor, tensor->dtype, rank, dims);
  bool whole = tensor->dtype == TF_STRING ? read_strings(cursor, tensor->values, count)
                                          : take(cursor, tensor->values, count * size);
  return whole || fail(problem, "the file is torn");
}

static bool read_tensor(struct cursor *cursor, struct request *request, struct problem *problem) {
  uint16_t size;
  uint8_t dtype, rank;
  int64_t dims[MAX_RANK];
  char name[65536];
  if (!take(cursor, &size, sizeof size) || !take(cursor, name, size) ||
      !take(cursor, &dtype, 1) || !take(cursor, &rank, 1)) {
    return fail(problem, "the file is torn");
  }
  name[size] = 0;
  struct tensor none = {.dtype = (TF_DataType)dtype, .rank = 1, .values = NULL};
  if (!size || strlen(name) != size) return fail(problem, "an input without a proper name");
  if (!dtype_name(none.dtype)) return fail(problem, "'%s': unknown dtype %d", name, dtype);
  if (rank > MAX_RANK) return fail(problem, "'%s': rank %d, %d at most", name, rank, MAX_RANK);
  if (!take(cursor, dims, rank * sizeof *dims)) return fail(problem, "the file is torn");
  struct tensor *tensor = add_tensor(request, &none, name);
  return read_values(cursor, tensor, rank, dims, problem) || blame(problem, "'%s'", name);
}

static bool read_requests(struct cursor *cursor, struct recording *recording,
                          struct problem *problem) {
  char magic[sizeof MAGIC];
  uint32_t version, requests, tensors = 0;
  if (!take(cursor, magic, sizeof magic) || memcmp(magic, MAGIC, sizeof magic) != 0) {
    return fail(problem, "no file of recorded requests");
  }
  if (!take(cursor, &version, sizeof version) || version != VERSION) {
    return fail(problem, "not version %d of recorded requests", VERSION);
  }
  if (!take(cursor, &requests, sizeof requests)) return fail(problem, "the file is torn");
  for (uint32_t i = 0; i < requests; i++) {
    recording->requests = enlarge(recording->requests, (i + 1) * sizeof *recording->requests);
    struct request *request = &recording->requests[recording->count++];
    *request = (struct request){0};
    bool good = take(cursor, &tensors, sizeof tensors) || fail(problem, "the file is torn");
    for (uint32_t t = 0; good && t < tensors; t++) good = read_tensor(cursor, request, problem);
    if (!good) return blame(problem, "request %u of %u", i + 1, requests);
  }
  if (cursor->at != cursor->end) return fail(problem, "bytes after the last request");
  return true;
}

bool read_recording(const char *path, struct recording *recording, struct problem *problem) {
  struct buffer file = {0};
  *recording = (struct recording){0};
  if (!read_whole(path, &file, problem)) return false;
  struct cursor cursor = {file.data, file.size ? file.data + file.size : file.data};
  bool good = read_requests(&cursor, recording, problem) || blame(problem, "%s", path);
  free(file.data);
  if (!good) free_recording(recording);
  return good;
}

static void put_tensor(struct buffer *file, const struct tensor *tensor) {
  uint16_t size = (uint16_t)strlen(tensor->name);
  uint8_t dtype = (uint8_t)tensor->dtype, rank = (uint8_t)tensor->rank;
  append(file, &size, sizeof size);
  append(file, tensor->name, size);
  append(file, &dtype, 1);
  append(file, &rank, 1);
  append(file, tensor->dims, rank * sizeof *tensor->dims);
  if (tensor->dtype != TF_STRING) {
    append(file, tensor->values, elements(tensor) * element_size(tensor->dtype));
    return;
  }
  const struct bytes *strings = tensor->values;
  for (size_t i = 0; i < elements(tensor); i++) {
    append(file, &(uint64_t){strings[i].size}, sizeof(uint64_t));
    append(file, strings[i].data, strings[i].size);
  }
}

static bool write_whole(const char *path, const struct buffer *file) {
  FILE *stream = fopen(path, "wb");
  if (!stream) return false;
  bool good = fwrite(file->data, 1, file->size, stream) == file->size;
  good = fflush(stream) == 0 && good;
  good = fsync(fileno(stream)) == 0 && good;
  int why = errno;
  good = fclose(stream) == 0 && good;
  if (!good) errno = why;
  return good;
}

bool write_recording(const char *path, const struct recording *recording,
                     struct problem *problem) {
  struct buffer file = {0};
  append(&file, MAGIC, sizeof MAGIC);
  append(&file, &(uint32_t){VERSION}, sizeof(uint32_t));
  append(&file, &(uint32_t){(uint32_t)recording->count}, sizeof(uint32_t));
  for (size_t i = 0; i < recording->count; i++) {
    const struct request *request = &recording->requests[i];
    append(&file, &(uint32_t){(uint32_t)request->count}, sizeof(uint32_t));
    for (size_t t = 0; t < request->count; t++) put_tensor(&file, &request->tensors[t]);
  }
  size_t room = strlen(path) + 32;
  char *temporary = allocate(room);
  add_text(temporary, room, "%s.incomplete-%ld", path, (long)getpid());
  bool good = write_whole(temporary, &file) && rename(temporary, path) == 0;
  if (!good) {
    fail(problem, "%s: %s", path, strerror(errno));
    unlink(temporary);
  }
  free(temporary);
  free(file.data);
  return good;
}

void free_recording(struct recording *recording) {
  for (size_t i = 0; i < recording->count; i++) free_request(&recording->requests[i]);
  free(recording->requests);
  *recording = (struct recording){0};
}
