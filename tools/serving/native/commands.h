// What the program does, one command each; gives the exit code.
#ifndef DIFFUMIN_COMMANDS_H_
#define DIFFUMIN_COMMANDS_H_

#include "common.h"
#include "model.h"
#include "recorded.h"

struct load_options {
  size_t threads, count, warmup;
};

struct fuzz_options {
  uint64_t seed;
  size_t count, first, every;
  bool show;
};

// A model and the requests for it.
struct job {
  struct model model;
  struct recording recording;
  const char *requests_path;
  double load_seconds;
};

int run_load(struct job *job, const struct load_options *options);
int run_fuzz(struct job *job, const struct fuzz_options *options);

// Scores every recorded request; `outputs` is one array of the signature's outputs a request.
bool score_all(const struct job *job, TF_Tensor ***outputs, struct problem *problem);
void free_all(const struct job *job, TF_Tensor **outputs);

#endif  // DIFFUMIN_COMMANDS_H_
