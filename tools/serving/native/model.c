#include "model.h"

#include <stdlib.h>
#include <string.h>

// Finds "node:1" in the graph.
static bool locate(TF_Graph *graph, const struct port *port, TF_Output *place,
                   struct problem *problem) {
  const char *colon = strrchr(port->tensor, ':');
  size_t size = colon ? (size_t)(colon - port->tensor) : strlen(port->tensor);
  char *node = copy_text(port->tensor, size);
  *place = (TF_Output){TF_GraphOperationByName(graph, node), colon ? atoi(colon + 1) : 0};
  free(node);
  if (place->oper && place->index >= 0 && place->index < TF_OperationNumOutputs(place->oper)) {
    return true;
  }
  return fail(problem, "'%s': the graph has no tensor '%s'", port->name, port->tensor);
}

static bool locate_all(TF_Graph *graph, const struct port *ports, size_t count,
                       TF_Output **places, struct problem *problem) {
  *places = allocate(count * sizeof **places);
  for (size_t i = 0; i < count; i++) {
    if (!locate(graph, &ports[i], &(*places)[i], problem)) return false;
  }
  return true;
}

static bool open_session(const char *folder, struct model *model, TF_Buffer *meta_graph,
                         struct problem *problem) {
  const char *const tags[] = {"serve"};
  TF_SessionOptions *options = TF_NewSessionOptions();
  TF_Status *status = TF_NewStatus();
  model->graph = TF_NewGraph();
  model->session = TF_LoadSessionFromSavedModel(options, NULL, folder, tags, 1, model->graph,
                                                meta_graph, status);
  bool good = TF_GetCode(status) == TF_OK || fail(problem, "%s", TF_Message(status));
  TF_DeleteStatus(status);
  TF_DeleteSessionOptions(options);
  return good;
}

bool load_model(const char *folder, const char *signature, struct model *model,
                struct problem *problem) {
  *model = (struct model){0};
  struct signature *read = &model->signature;
  TF_Buffer *meta_graph = TF_NewBuffer();
  bool good = open_session(folder, model, meta_graph, problem) &&
              read_signature(meta_graph->data, meta_graph->length, signature, read, problem) &&
              locate_all(model->graph, read->inputs, read->input_count, &model->inputs, problem) &&
              locate_all(model->graph, read->outputs, read->output_count, &model->outputs, problem);
  TF_DeleteBuffer(meta_graph);
  if (good) return true;
  free_model(model);
  return blame(problem, "%s", folder);
}

void free_model(struct model *model) {
  TF_Status *status = TF_NewStatus();
  if (model->session) {
    TF_CloseSession(model->session, status);
    TF_DeleteSession(model->session, status);
  }
  TF_DeleteStatus(status);
  if (model->graph) TF_DeleteGraph(model->graph);
  free_signature(&model->signature);
  free(model->inputs);
  free(model->outputs);
  *model = (struct model){0};
}

bool check_request(const struct model *model, const struct request *request,
                   struct problem *problem) {
  const struct signature *signature = &model->signature;
  char known[1024];
  list_inputs(signature, known, sizeof known);
  for (size_t i = 0; i < request->count; i++) {
    const struct tensor *tensor = &request->tensors[i];
    const struct port *port = find_input(signature, tensor->name);
    if (!port) {
      return fail(problem, "input '%s': unknown; the signature has %s", tensor->name, known);
    }
    if (find_tensor(request, tensor->name) != tensor) {
      return fail(problem, "input '%s': given twice", tensor->name);
    }
    if (tensor->dtype != port->dtype) {
      const char *right = dtype_name(port->dtype);
      return fail(problem, "input '%s': dtype %s; the signature has %s", tensor->name,
                  dtype_name(tensor->dtype), right ? right : "another one");
    }
  }
  for (size_t i = 0; i < signature->input_count; i++) {
    if (!find_tensor(request, signature->inputs[i].name)) {
      return fail(problem, "input '%s': missing; the signature has %s",
                  signature->inputs[i].name, known);
    }
  }
  return true;
}

TF_Tensor **feed(const struct model *model, const struct request *request) {
  size_t count = model->signature.input_count;
  TF_Tensor **inputs = allocate(count * sizeof *inputs);
  for (size_t i = 0; i < count; i++) {
    inputs[i] = to_tensorflow(find_tensor(request, model->signature.inputs[i].name));
  }
  return inputs;
}

void free_feed(const struct model *model, TF_Tensor **inputs) {
  for (size_t i = 0; i < model->signature.input_count; i++) free_tensorflow(inputs[i]);
  free(inputs);
}

bool run_model(const struct model *model, TF_Tensor *const *inputs, TF_Tensor **outputs,
               struct problem *problem) {
  const struct signature *signature = &model->signature;
  TF_Status *status = TF_NewStatus();
  memset(outputs, 0, signature->output_count * sizeof *outputs);
  TF_SessionRun(model->session, NULL, model->inputs, inputs, (int)signature->input_count,
                model->outputs, outputs, (int)signature->output_count, NULL, 0, NULL, status);
  bool good = TF_GetCode(status) == TF_OK || fail(problem, "%s", TF_Message(status));
  TF_DeleteStatus(status);
  for (size_t i = 0; good && i < signature->output_count; i++) {
    if (dtype_name(TF_TensorType(outputs[i])) && TF_NumDims(outputs[i]) <= MAX_RANK) continue;
    free_outputs(model, outputs);
    good = fail(problem, "output '%s': neither numbers nor strings of rank %d at most",
                signature->outputs[i].name, MAX_RANK);
  }
  return good;
}

void free_outputs(const struct model *model, TF_Tensor **outputs) {
  for (size_t i = 0; i < model->signature.output_count; i++) free_tensorflow(outputs[i]);
}

bool score_request(const struct model *model, const struct request *request, TF_Tensor **outputs,
                   struct problem *problem) {
  if (!check_request(model, request, problem)) return false;
  TF_Tensor **inputs = feed(model, request);
  bool good = run_model(model, inputs, outputs, problem);
  free_feed(model, inputs);
  return good;
}

bool same_outputs(const struct model *model, TF_Tensor *const *one, TF_Tensor *const *other) {
  for (size_t i = 0; i < model->signature.output_count; i++) {
    if (!same_bits(one[i], other[i])) return false;
  }
  return true;
}
