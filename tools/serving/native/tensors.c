#include "tensors.h"

#include <stdlib.h>
#include <string.h>

const char *dtype_name(TF_DataType dtype) {
  switch (dtype) {
    case TF_FLOAT: return "float32";
    case TF_DOUBLE: return "float64";
    case TF_INT32: return "int32";
    case TF_INT64: return "int64";
    case TF_BOOL: return "bool";
    case TF_STRING: return "string";
    default: return NULL;
  }
}

size_t element_size(TF_DataType dtype) {
  return dtype == TF_STRING ? sizeof(struct bytes) : TF_DataTypeSize(dtype);
}

bool count_elements(const int64_t *dims, int rank, size_t *count) {
  const int64_t limit = (int64_t)1 << 40;
  int64_t all = 1;
  bool empty = false;
  for (int i = 0; i < rank; i++) {
    if (dims[i] < 0 || dims[i] > limit) return false;
    if (dims[i] == 0) {
      empty = true;
    } else if (all > limit / dims[i]) {
      return false;
    } else {
      all *= dims[i];
    }
  }
  *count = empty ? 0 : (size_t)all;
  return true;
}

size_t elements(const struct tensor *tensor) {
  size_t count = 0;
  count_elements(tensor->dims, tensor->rank, &count);
  return count;
}

static void free_values(struct tensor *tensor) {
  if (tensor->dtype == TF_STRING) {
    struct bytes *strings = tensor->values;
    for (size_t i = 0; i < elements(tensor); i++) free(strings[i].data);
  }
  free(tensor->values);
}

// `count` elements of the values, from the first one again after the last one.
static void *repeated(const struct tensor *tensor, size_t count) {
  size_t size = element_size(tensor->dtype), there = elements(tensor);
  char *values = allocate(count * size);
  for (size_t i = 0; there && i < count; i++) {
    const char *source = (const char *)tensor->values + i % there * size;
    if (tensor->dtype == TF_STRING) {
      const struct bytes *string = (const struct bytes *)source;
      ((struct bytes *)values)[i] = (struct bytes){copy_text(string->data, string->size),
                                                   string->size};
    } else {
      memcpy(values + i * size, source, size);
    }
  }
  return values;
}

void refit(struct tensor *tensor, TF_DataType dtype, int rank, const int64_t *dims) {
  size_t count = 0;
  count_elements(dims, rank, &count);
  void *values = dtype == tensor->dtype ? repeated(tensor, count)
                                        : allocate(count * element_size(dtype));
  free_values(tensor);
  tensor->values = values;
  tensor->dtype = dtype;
  tensor->rank = rank;
  for (int i = 0; i < rank; i++) tensor->dims[i] = dims[i];
}

void set_bytes(struct bytes *string, const char *data, size_t size) {
  char *copy = copy_text(data, size);
  free(string->data);
  *string = (struct bytes){copy, size};
}

struct tensor *find_tensor(const struct request *request, const char *name) {
  for (size_t i = 0; i < request->count; i++) {
    if (strcmp(request->tensors[i].name, name) == 0) return &request->tensors[i];
  }
  return NULL;
}

static struct tensor copy_tensor(const struct tensor *tensor, const char *name) {
  struct tensor copy = *tensor;
  copy.name = copy_text(name, strlen(name));
  copy.values = repeated(tensor, elements(tensor));
  return copy;
}

struct tensor *add_tensor(struct request *request, const struct tensor *model, const char *name) {
  struct tensor copy = copy_tensor(model, name);
  request->tensors =
      enlarge(request->tensors, (request->count + 1) * sizeof *request->tensors);
  request->tensors[request->count] = copy;
  return &request->tensors[request->count++];
}

void remove_tensor(struct request *request, size_t place) {
  free(request->tensors[place].name);
  free_values(&request->tensors[place]);
  request->count--;
  memmove(&request->tensors[place], &request->tensors[place + 1],
          (request->count - place) * sizeof *request->tensors);
}

struct request copy_request(const struct request *request) {
  struct request copy = {allocate(request->count * sizeof *copy.tensors), request->count};
  for (size_t i = 0; i < request->count; i++) {
    copy.tensors[i] = copy_tensor(&request->tensors[i], request->tensors[i].name);
  }
  return copy;
}

void free_request(struct request *request) {
  for (size_t i = 0; i < request->count; i++) {
    free(request->tensors[i].name);
    free_values(&request->tensors[i]);
  }
  free(request->tensors);
  *request = (struct request){0};
}

void describe(const struct request *request, char *text, size_t room) {
  text[0] = 0;
  for (size_t i = 0; i < request->count; i++) {
    const struct tensor *tensor = &request->tensors[i];
    add_text(text, room, "%s%s %s [", i ? ", " : "", tensor->name, dtype_name(tensor->dtype));
    for (int d = 0; d < tensor->rank; d++) {
      add_text(text, room, "%s%lld", d ? ", " : "", (long long)tensor->dims[d]);
    }
    add_text(text, room, "]");
  }
}

TF_Tensor *to_tensorflow(const struct tensor *tensor) {
  size_t count = elements(tensor);
  bool strings = tensor->dtype == TF_STRING;
  size_t size = count * (strings ? sizeof(TF_TString) : element_size(tensor->dtype));
  TF_Tensor *fed = TF_AllocateTensor(tensor->dtype, tensor->dims, tensor->rank, size);
  if (!strings) {
    if (size) memcpy(TF_TensorData(fed), tensor->values, size);
    return fed;
  }
  const struct bytes *from = tensor->values;
  TF_TString *to = TF_TensorData(fed);
  for (size_t i = 0; i < count; i++) {
    TF_StringInit(&to[i]);
    if (from[i].size) TF_StringCopy(&to[i], from[i].data, from[i].size);
  }
  return fed;
}

struct tensor from_tensorflow(const TF_Tensor *tensor, const char *name) {
  struct tensor copy = {.name = copy_text(name, strlen(name)),
                        .dtype = TF_TensorType(tensor),
                        .rank = TF_NumDims(tensor)};
  for (int i = 0; i < copy.rank; i++) copy.dims[i] = TF_Dim(tensor, i);
  size_t count = elements(&copy);
  copy.values = allocate(count * element_size(copy.dtype));
  if (copy.dtype != TF_STRING) {
    if (count) memcpy(copy.values, TF_TensorData(tensor), TF_TensorByteSize(tensor));
    return copy;
  }
  const TF_TString *from = TF_TensorData(tensor);
  struct bytes *to = copy.values;
  for (size_t i = 0; i < count; i++) {
    set_bytes(&to[i], TF_StringGetDataPointer(&from[i]), TF_StringGetSize(&from[i]));
  }
  return copy;
}

void free_tensorflow(TF_Tensor *tensor) {
  if (!tensor) return;
  if (TF_TensorType(tensor) == TF_STRING) {
    TF_TString *strings = TF_TensorData(tensor);
    for (int64_t i = 0; i < TF_TensorElementCount(tensor); i++) TF_StringDealloc(&strings[i]);
  }
  TF_DeleteTensor(tensor);
}

bool same_bits(const TF_Tensor *one, const TF_Tensor *other) {
  if (TF_TensorType(one) != TF_TensorType(other)) return false;
  if (TF_NumDims(one) != TF_NumDims(other)) return false;
  for (int i = 0; i < TF_NumDims(one); i++) {
    if (TF_Dim(one, i) != TF_Dim(other, i)) return false;
  }
  size_t size = TF_TensorByteSize(one);
  return size == 0 || memcmp(TF_TensorData(one), TF_TensorData(other), size) == 0;
}
