// Named tensors in memory of our own, and their way into TensorFlow and back.
#ifndef DIFFUMIN_TENSORS_H_
#define DIFFUMIN_TENSORS_H_

#include "common.h"

#include "tensorflow/c/c_api.h"

enum { MAX_RANK = 8 };

// A string of a tensor.
struct bytes {
  char *data;
  size_t size;
};

struct tensor {
  char *name;
  TF_DataType dtype;
  int rank;
  int64_t dims[MAX_RANK];
  void *values;  // Row by row; `struct bytes` each where the dtype is string.
};

struct request {
  struct tensor *tensors;
  size_t count;
};

// "int64"; NULL for a dtype that recorded requests cannot hold.
const char *dtype_name(TF_DataType dtype);
size_t element_size(TF_DataType dtype);

// Elements of a shape; false where a dimension is negative or the shape is beyond all bounds.
bool count_elements(const int64_t *dims, int rank, size_t *count);
size_t elements(const struct tensor *tensor);

// Another dtype and shape; the old elements again and again, or zeros where there is none or the
// dtype changes.
void refit(struct tensor *tensor, TF_DataType dtype, int rank, const int64_t *dims);

// Takes a copy of the bytes as one string of a tensor, in place of another.
void set_bytes(struct bytes *string, const char *data, size_t size);

struct tensor *find_tensor(const struct request *request, const char *name);
struct tensor *add_tensor(struct request *request, const struct tensor *model, const char *name);
void remove_tensor(struct request *request, size_t place);
struct request copy_request(const struct request *request);
void free_request(struct request *request);

// "cat_feature int64 [2, 8], price float32 [2, 1]", as far as there is room.
void describe(const struct request *request, char *text, size_t room);

TF_Tensor *to_tensorflow(const struct tensor *tensor);
struct tensor from_tensorflow(const TF_Tensor *tensor, const char *name);
void free_tensorflow(TF_Tensor *tensor);
bool same_bits(const TF_Tensor *one, const TF_Tensor *other);

#endif  // DIFFUMIN_TENSORS_H_
