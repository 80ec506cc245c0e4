// A signature of a SavedModel, from the serialised MetaGraphDef.
#ifndef DIFFUMIN_SIGNATURE_H_
#define DIFFUMIN_SIGNATURE_H_

#include "common.h"
#include "tensors.h"

// An input or output.
struct port {
  char *name;
  char *tensor;  // Name in the graph, such as "serving_default_user:0".
  TF_DataType dtype;
  int rank;      // -1 when any.
  int64_t dims[MAX_RANK];  // -1 when any.
};

// Inputs and outputs, each in the order of their names.
struct signature {
  struct port *inputs, *outputs;
  size_t input_count, output_count;
};

bool read_signature(const void *meta_graph, size_t size, const char *name,
                    struct signature *signature, struct problem *problem);
void free_signature(struct signature *signature);

const struct port *find_input(const struct signature *signature, const char *name);
// Whether a tensor has the rank and the fixed dimensions of an input.
bool fits(const struct port *port, const struct tensor *tensor);
// "cat_feature, dense_feature".
void list_inputs(const struct signature *signature, char *text, size_t room);

#endif  // DIFFUMIN_SIGNATURE_H_
