// Ways to spoil the tensors of a request, whatever they hold.
#include "common.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "mutate.h"

void touch(struct mutant *mutant, const char *name) {
  if (mutant->touched_count == MAX_TOUCHED) return;
  mutant->touched[mutant->touched_count++] = copy_text(name, strlen(name));
}

struct tensor *pick_tensor(struct mutant *mutant, TF_DataType dtype) {
  struct tensor *found = NULL;
  size_t seen = 0;
  for (size_t i = 0; i < mutant->request.count; i++) {
    struct tensor *tensor = &mutant->request.tensors[i];
    if (tensor->dtype != dtype || !elements(tensor)) continue;
    if (pick(&mutant->random, ++seen) == 0) found = tensor;
  }
  return found;
}

uint64_t odd_id(struct random *random) {
  static const int64_t odd[] = {-1, -2, INT64_MIN, INT64_MIN + 1, INT64_MAX, INT64_MAX - 1,
                                INT32_MIN, INT32_MAX, (int64_t)INT32_MAX + 1,
                                (int64_t)UINT32_MAX + 1, (int64_t)1 << 62, 1};
  size_t count = sizeof odd / sizeof *odd, place = pick(random, count + 4);
  return place < count ? (uint64_t)odd[place] : next_random(random);
}

float odd_float(struct random *random) {
  const float odd[] = {NAN, -NAN, INFINITY, -INFINITY, FLT_MAX, -FLT_MAX, 1e30f, -1e20f,
                       FLT_MIN / 4, -0.0f};
  return odd[pick(random, sizeof odd / sizeof *odd)];
}

static struct tensor *any_tensor(struct mutant *mutant) {
  return &mutant->request.tensors[pick(&mutant->random, mutant->request.count)];
}

// A tensor whose dimension the signature leaves open, or fixes; by chance, NULL when there is none.
static struct tensor *with_dimension(struct mutant *mutant, int dimension, bool open) {
  struct tensor *found = NULL;
  size_t seen = 0;
  for (size_t i = 0; i < mutant->request.count; i++) {
    struct tensor *tensor = &mutant->request.tensors[i];
    const struct port *port = find_input(mutant->signature, tensor->name);
    if (!port || dimension >= port->rank || dimension >= tensor->rank) continue;
    if ((port->dims[dimension] < 0) == open && pick(&mutant->random, ++seen) == 0) found = tensor;
  }
  return found;
}

static void resize(struct mutant *mutant, struct tensor *tensor, int dimension, int64_t size) {
  int64_t dims[MAX_RANK];
  memcpy(dims, tensor->dims, sizeof dims);
  dims[dimension] = size;
  refit(tensor, tensor->dtype, tensor->rank, dims);
  touch(mutant, tensor->name);
}

// The size that all inputs of N rows have. Those of one row, such as of a user, keep it.
static int64_t most_rows(const struct mutant *mutant) {
  int64_t rows = 0;
  for (size_t i = 0; i < mutant->request.count; i++) {
    const struct tensor *tensor = &mutant->request.tensors[i];
    if (tensor->rank && tensor->dims[0] > rows) rows = tensor->dims[0];
  }
  return rows;
}

static bool set_rows(struct mutant *mutant, int64_t rows) {
  int64_t most = most_rows(mutant);
  for (size_t i = 0; i < mutant->request.count; i++) {
    struct tensor *tensor = &mutant->request.tensors[i];
    const struct port *port = find_input(mutant->signature, tensor->name);
    if (!port || port->rank < 1 || port->dims[0] >= 0 || !tensor->rank) continue;
    if (tensor->dims[0] == most) resize(mutant, tensor, 0, rows);
  }
  return mutant->touched_count > 0;
}

static bool no_rows(struct mutant *mutant) { return set_rows(mutant, 0); }

static bool other_rows(struct mutant *mutant) {
  size_t most = pick(&mutant->random, 20) ? 40 : 500;
  return set_rows(mutant, 1 + (int64_t)pick(&mutant->random, most));
}

static bool rows_differ(struct mutant *mutant) {
  struct tensor *tensor = any_tensor(mutant);
  if (!tensor->rank) return false;
  int64_t rows = tensor->dims[0], other = (int64_t)pick(&mutant->random, (size_t)rows + 4);
  resize(mutant, tensor, 0, other == rows ? rows + 1 : other);
  return true;
}

static bool lower_rank(struct mutant *mutant) {
  struct tensor *tensor = any_tensor(mutant);
  int64_t flat[] = {(int64_t)elements(tensor)};
  if (!tensor->rank) return false;
  touch(mutant, tensor->name);
  if (tensor->rank == 1 || pick(&mutant->random, 3) == 0) {
    refit(tensor, tensor->dtype, 0, flat);
  } else if (pick(&mutant->random, 2)) {
    refit(tensor, tensor->dtype, tensor->rank - 1, tensor->dims + 1);
  } else {
    refit(tensor, tensor->dtype, 1, flat);
  }
  return true;
}

static bool higher_rank(struct mutant *mutant) {
  struct tensor *tensor = any_tensor(mutant);
  int64_t dims[MAX_RANK];
  if (tensor->rank == MAX_RANK) return false;
  int place = (int)pick(&mutant->random, (size_t)tensor->rank + 1);
  for (int i = 0; i < tensor->rank; i++) dims[i + (i >= place)] = tensor->dims[i];
  dims[place] = (int64_t)pick(&mutant->random, 4);
  touch(mutant, tensor->name);
  refit(tensor, tensor->dtype, tensor->rank + 1, dims);
  return true;
}

static bool other_width(struct mutant *mutant) {
  struct tensor *tensor = with_dimension(mutant, 1, false);
  if (!tensor) return false;
  int64_t width = tensor->dims[1], other = (int64_t)pick(&mutant->random, 2 * (size_t)width + 8);
  resize(mutant, tensor, 1, other == width ? width + 1 : other);
  return true;
}

static bool zero_dimension(struct mutant *mutant) {
  struct tensor *tensor = any_tensor(mutant);
  if (!tensor->rank) return false;
  resize(mutant, tensor, (int)pick(&mutant->random, (size_t)tensor->rank), 0);
  return true;
}

static int64_t other_length(struct mutant *mutant) {
  size_t most = pick(&mutant->random, 30) ? 60 : 6000;
  return (int64_t)pick(&mutant->random, most);
}

// One history of another length than those beside it, which are padded.
static bool one_history(struct mutant *mutant) {
  struct tensor *tensor = with_dimension(mutant, 1, true);
  if (!tensor) return false;
  resize(mutant, tensor, 1, other_length(mutant));
  return true;
}

static bool all_histories(struct mutant *mutant) {
  int64_t length = other_length(mutant);
  for (size_t i = 0; i < mutant->request.count; i++) {
    struct tensor *tensor = &mutant->request.tensors[i];
    const struct port *port = find_input(mutant->signature, tensor->name);
    if (port && port->rank == 2 && port->dims[1] < 0) resize(mutant, tensor, 1, length);
  }
  return mutant->touched_count > 0;
}

static bool other_dtype(struct mutant *mutant) {
  const TF_DataType dtypes[] = {TF_FLOAT, TF_DOUBLE, TF_INT32, TF_INT64, TF_BOOL, TF_STRING};
  struct tensor *tensor = any_tensor(mutant);
  TF_DataType dtype = dtypes[pick(&mutant->random, sizeof dtypes / sizeof *dtypes)];
  if (dtype == tensor->dtype) dtype = dtype == TF_INT64 ? TF_FLOAT : TF_INT64;
  touch(mutant, tensor->name);
  refit(tensor, dtype, tensor->rank, tensor->dims);
  return true;
}

static bool unchecked_dtype(struct mutant *mutant) {
  mutant->unchecked = true;
  return other_dtype(mutant);
}

static bool odd_ids(struct mutant *mutant) {
  struct tensor *tensor = pick_tensor(mutant, TF_INT64);
  if (!tensor) return false;
  uint64_t *ids = tensor->values, share = 1 + pick(&mutant->random, 8);
  for (size_t i = 0; i < elements(tensor); i++) {
    if (pick(&mutant->random, share) == 0) ids[i] = odd_id(&mutant->random);
  }
  touch(mutant, tensor->name);
  return true;
}

static bool zero_ids(struct mutant *mutant) {
  struct tensor *tensor = pick_tensor(mutant, TF_INT64);
  if (!tensor) return false;
  uint64_t *ids = tensor->values, share = 1 + pick(&mutant->random, 3);
  for (size_t i = 0; i < elements(tensor); i++) {
    if (pick(&mutant->random, share) == 0) ids[i] = 0;
  }
  touch(mutant, tensor->name);
  return true;
}

static bool odd_dense(struct mutant *mutant) {
  struct tensor *tensor = pick_tensor(mutant, TF_FLOAT);
  if (!tensor) return false;
  float *values = tensor->values;
  for (size_t i = 0; i < elements(tensor); i++) {
    if (pick(&mutant->random, 2)) values[i] = odd_float(&mutant->random);
  }
  touch(mutant, tensor->name);
  return true;
}

static bool dropped(struct mutant *mutant) {
  size_t place = pick(&mutant->random, mutant->request.count);
  touch(mutant, mutant->request.tensors[place].name);
  remove_tensor(&mutant->request, place);
  return true;
}

static bool extra(struct mutant *mutant) {
  static const char *const names[] = {"extra", "Inputs", "cat_features", "label", "%s%n"};
  const char *name = names[pick(&mutant->random, sizeof names / sizeof *names)];
  struct tensor *tensor = any_tensor(mutant);
  if (pick(&mutant->random, 4) == 0) name = tensor->name;
  touch(mutant, name);
  struct tensor copy = *tensor;
  add_tensor(&mutant->request, &copy, name);
  return true;
}

// Two inputs under each other's names.
static bool swapped(struct mutant *mutant) {
  if (mutant->request.count < 2) return false;
  size_t one = pick(&mutant->random, mutant->request.count);
  size_t other = (one + 1 + pick(&mutant->random, mutant->request.count - 1)) %
                 mutant->request.count;
  struct tensor *tensors = mutant->request.tensors;
  char *name = tensors[one].name;
  tensors[one].name = tensors[other].name;
  tensors[other].name = name;
  touch(mutant, tensors[one].name);
  touch(mutant, tensors[other].name);
  return true;
}

const struct way TENSOR_WAYS[] = {
    {"no_rows", no_rows},
    {"other_rows", other_rows},
    {"rows_differ", rows_differ},
    {"lower_rank", lower_rank},
    {"higher_rank", higher_rank},
    {"other_width", other_width},
    {"zero_dimension", zero_dimension},
    {"one_history", one_history},
    {"all_histories", all_histories},
    {"other_dtype", other_dtype},
    {"unchecked_dtype", unchecked_dtype},
    {"odd_ids", odd_ids},
    {"zero_ids", zero_ids},
    {"odd_dense", odd_dense},
    {"dropped", dropped},
    {"extra", extra},
    {"swapped", swapped},
};
const size_t TENSOR_WAY_COUNT = sizeof TENSOR_WAYS / sizeof *TENSOR_WAYS;
