// Scores recorded requests with a SavedModel through the C API of TensorFlow: without Python, as
// TensorFlow Serving does. To build it, with TF the folder of an installed tensorflow package:
//
//   gcc -std=c11 -O2 -isystem $TF/include -o diffumin_score tools/serving/native/*.c
//     $TF/libtensorflow_cc.so.2 $TF/libtensorflow_framework.so.2 -Wl,-rpath,$TF -pthread
#include "common.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"

static const char USAGE[] =
    "usage: diffumin_score score MODEL_DIR SIGNATURE REQUESTS OUT\n"
    "       diffumin_score load MODEL_DIR SIGNATURE REQUESTS --threads N --count M [--warmup K]\n"
    "       diffumin_score fuzz MODEL_DIR SIGNATURE REQUESTS --count N --seed S\n"
    "                      [--first F] [--every E] [--show]\n"
    "\n"
    "MODEL_DIR is the folder of one version of an export. REQUESTS and OUT are files of recorded\n"
    "requests, written and read by diffumin_tf.serving.recorded.\n"
    "\n"
    "score  writes the outputs of every request, in order.\n"
    "load   N threads ask one session M times in all, after each has asked everything once and K\n"
    "       times more; prints one line of JSON: latencies, and how often a score was different.\n"
    "fuzz   scores N spoilt copies of the requests (mutants F to F + N - 1 of that seed), and the\n"
    "       request itself after every E of them; prints one line of JSON: what came of each kind\n"
    "       of mutation. --show tells of each mutant on the error output, not of the first odd ones.\n"
    "\n"
    "Exit code: 0, 1 after an error (load: also when a score was different; fuzz: also when one\n"
    "was no probability, or a good request scored otherwise), 2 for a wrong command.\n"
    "TensorFlow tells less on the error output with TF_CPP_MIN_LOG_LEVEL=3 in the environment.\n";

bool score_all(const struct job *job, TF_Tensor ***outputs, struct problem *problem) {
  size_t width = job->model.signature.output_count, count = job->recording.count;
  *outputs = allocate(count * width * sizeof **outputs);
  for (size_t i = 0; i < count; i++) {
    if (!score_request(&job->model, &job->recording.requests[i], *outputs + i * width, problem)) {
      free_all(job, *outputs);
      return blame(problem, "%s: request %zu of %zu", job->requests_path, i + 1, count);
    }
  }
  return true;
}

void free_all(const struct job *job, TF_Tensor **outputs) {
  size_t width = job->model.signature.output_count;
  for (size_t i = 0; i < job->recording.count; i++) free_outputs(&job->model, outputs + i * width);
  free(outputs);
}

static int run_score(struct job *job, const char *path) {
  size_t width = job->model.signature.output_count, count = job->recording.count;
  TF_Tensor **outputs;
  struct problem problem;
  struct recording scores = {allocate(count * sizeof *scores.requests), count};
  bool good = score_all(job, &outputs, &problem);
  for (size_t i = 0; good && i < count; i++) {
    struct request *request = &scores.requests[i];
    *request = (struct request){allocate(width * sizeof *request->tensors), width};
    for (size_t o = 0; o < width; o++) {
      const char *name = job->model.signature.outputs[o].name;
      request->tensors[o] = from_tensorflow(outputs[i * width + o], name);
    }
  }
  if (good) {
    free_all(job, outputs);
    good = write_recording(path, &scores, &problem);
  }
  free_recording(&scores);
  if (!good) fprintf(stderr, "error: %s\n", problem.text);
  return good ? 0 : 1;
}

// Reads the number of an option; says what is wrong with it.
static bool read_number(const char *name, const char *text, uint64_t least, uint64_t most,
                        uint64_t *value) {
  char *end = NULL;
  errno = 0;
  if (text && text[0] >= '0' && text[0] <= '9') *value = strtoull(text, &end, 10);
  if (end && !*end && !errno && *value >= least && *value <= most) return true;
  fprintf(stderr, "error: %s: %s; give a number from %llu to %llu\n", name,
          text ? text : "nothing", (unsigned long long)least, (unsigned long long)most);
  return false;
}

struct option {
  const char *name;
  uint64_t least, most, value;
  bool needed, given;
};

static bool read_options(char **arguments, int count, struct option *options, size_t known,
                         bool *show) {
  for (int i = 0; i < count; i++) {
    struct option *option = NULL;
    if (show && strcmp(arguments[i], "--show") == 0) {
      *show = true;
      continue;
    }
    for (size_t o = 0; o < known; o++) {
      if (strcmp(arguments[i], options[o].name) == 0) option = &options[o];
    }
    if (!option) {
      fprintf(stderr, "error: %s: no such option\n%s", arguments[i], USAGE);
      return false;
    }
    const char *text = i + 1 < count ? arguments[++i] : NULL;
    if (!read_number(option->name, text, option->least, option->most, &option->value)) return false;
    option->given = true;
  }
  for (size_t o = 0; o < known; o++) {
    if (!options[o].needed || options[o].given) continue;
    fprintf(stderr, "error: %s is needed\n%s", options[o].name, USAGE);
    return false;
  }
  return true;
}

// Reads requests and model; says what is wrong.
static bool prepare(char **paths, struct job *job) {
  struct problem problem;
  job->requests_path = paths[2];
  bool good = read_recording(paths[2], &job->recording, &problem);
  if (good && !job->recording.count) good = fail(&problem, "%s: holds no request", paths[2]);
  double start = seconds_now();
  good = good && load_model(paths[0], paths[1], &job->model, &problem);
  job->load_seconds = seconds_now() - start;
  if (!good) fprintf(stderr, "error: %s\n", problem.text);
  return good;
}

static int run_command(const char *command, char **rest, int count) {
  struct job job = {0};
  int code = 2;
  if (strcmp(command, "score") == 0 && count == 4) {
    code = prepare(rest, &job) ? run_score(&job, rest[3]) : 1;
  } else if (strcmp(command, "load") == 0 && count > 3) {
    struct option options[] = {{"--threads", 1, 256, 0, true, false},
                               {"--count", 1, 100000000, 0, true, false},
                               {"--warmup", 0, 100000000, 0, false, false}};
    if (!read_options(rest + 3, count - 3, options, 3, NULL)) return 2;
    struct load_options load = {options[0].value, options[1].value, options[2].value};
    code = prepare(rest, &job) ? run_load(&job, &load) : 1;
  } else if (strcmp(command, "fuzz") == 0 && count > 3) {
    struct option options[] = {{"--count", 1, 100000000, 0, true, false},
                               {"--seed", 0, UINT64_MAX, 0, true, false},
                               {"--first", 0, 100000000, 0, false, false},
                               {"--every", 1, 100000000, 1, false, false}};
    struct fuzz_options fuzz = {0};
    if (!read_options(rest + 3, count - 3, options, 4, &fuzz.show)) return 2;
    fuzz.count = options[0].value, fuzz.seed = options[1].value;
    fuzz.first = options[2].value, fuzz.every = options[3].value;
    code = prepare(rest, &job) ? run_fuzz(&job, &fuzz) : 1;
  } else {
    fputs(USAGE, stderr);
  }
  if (job.model.graph) free_model(&job.model);
  free_recording(&job.recording);
  return code;
}

int main(int count, char **arguments) {
  if (count < 2) {
    fputs(USAGE, stderr);
    return 2;
  }
  return run_command(arguments[1], arguments + 2, count - 2);
}
