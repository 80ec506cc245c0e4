// Ways to spoil a request.
#ifndef DIFFUMIN_MUTATE_H_
#define DIFFUMIN_MUTATE_H_

#include "common.h"
#include "signature.h"
#include "tensors.h"

enum { MAX_TOUCHED = 32 };

struct mutant {
  struct request request;
  const struct signature *signature;
  struct random random;
  char *touched[MAX_TOUCHED];  // Names of the inputs that are not as they were.
  size_t touched_count;
  bool unchecked;              // Goes to the graph although its dtype is wrong.
};

// Spoils the request; false, and the request as it was, where this way does not apply to it.
typedef bool mutation(struct mutant *mutant);

struct way {
  const char *kind;
  mutation *mutate;
};

extern const struct way TENSOR_WAYS[], EXAMPLE_WAYS[];
extern const size_t TENSOR_WAY_COUNT, EXAMPLE_WAY_COUNT;

void touch(struct mutant *mutant, const char *name);

// A tensor of that dtype with elements, by chance; NULL when there is none.
struct tensor *pick_tensor(struct mutant *mutant, TF_DataType dtype);
// An id that is unusual: negative, huge, or any.
uint64_t odd_id(struct random *random);
// Not a number, infinite, or as large as it gets.
float odd_float(struct random *random);

#endif  // DIFFUMIN_MUTATE_H_
