// A SavedModel in a session, and one signature of it.
#ifndef DIFFUMIN_MODEL_H_
#define DIFFUMIN_MODEL_H_

#include "common.h"
#include "signature.h"
#include "tensors.h"

struct model {
  TF_Graph *graph;
  TF_Session *session;
  struct signature signature;
  TF_Output *inputs, *outputs;  // In the order of the signature's.
};

bool load_model(const char *folder, const char *signature, struct model *model,
                struct problem *problem);
void free_model(struct model *model);

// Whether a request has the inputs of the signature, with their dtypes; otherwise the problem
// names the input. Shapes are for the graph to check, as they are with TensorFlow Serving.
bool check_request(const struct model *model, const struct request *request,
                   struct problem *problem);

// The inputs of a checked request, in the order of the signature's.
TF_Tensor **feed(const struct model *model, const struct request *request);
void free_feed(const struct model *model, TF_Tensor **inputs);

// Scores; any number of threads may at once. Gives the outputs in the order of the signature's.
bool run_model(const struct model *model, TF_Tensor *const *inputs, TF_Tensor **outputs,
               struct problem *problem);
void free_outputs(const struct model *model, TF_Tensor **outputs);

// Checks, feeds and runs one request.
bool score_request(const struct model *model, const struct request *request, TF_Tensor **outputs,
                   struct problem *problem);
bool same_outputs(const struct model *model, TF_Tensor *const *one, TF_Tensor *const *other);

#endif  // DIFFUMIN_MODEL_H_
