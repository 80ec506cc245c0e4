// Load: how long a request takes when several threads ask one session.
#include "common.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "commands.h"

// What the threads share.
struct run {
  const struct job *job;
  const struct load_options *options;
  TF_Tensor **expected;       // Outputs of every request, one after the other.
  TF_Tensor ***inputs;        // Fed tensors of every request.
  double *seconds;            // Of every request of the timed part.
  pthread_barrier_t warm;     // Everybody has warmed up.
  atomic_size_t next, errors, different;
};

// Scores a request, compares what comes with what came first; gives the seconds it took.
static double ask(struct run *run, size_t request, struct problem *problem) {
  const struct model *model = &run->job->model;
  size_t width = model->signature.output_count;
  TF_Tensor **outputs = allocate(width * sizeof *outputs);
  double start = seconds_now();
  bool good = run_model(model, run->inputs[request], outputs, problem);
  double seconds = seconds_now() - start;
  if (!good) {
    atomic_fetch_add(&run->errors, 1);
  } else if (!same_outputs(model, outputs, run->expected + request * width)) {
    atomic_fetch_add(&run->different, 1);
  }
  free_outputs(model, outputs);
  free(outputs);
  return seconds;
}

static void *ask_on(void *shared) {
  struct run *run = shared;
  struct problem problem = {""};
  size_t requests = run->job->recording.count, place;
  for (size_t i = 0; i < requests; i++) ask(run, i, &problem);
  for (size_t i = 0; i < run->options->warmup; i++) ask(run, i % requests, &problem);
  pthread_barrier_wait(&run->warm);
  pthread_barrier_wait(&run->warm);  // Until the clock runs.
  while ((place = atomic_fetch_add(&run->next, 1)) < run->options->count) {
    run->seconds[place] = ask(run, place % requests, &problem);
  }
  if (problem.text[0]) fprintf(stderr, "error: %s\n", problem.text);
  return NULL;
}

static int ascending(const void *one, const void *other) {
  double a = *(const double *)one, b = *(const double *)other;
  return (a > b) - (a < b);
}

// Nearest rank, in milliseconds.
static double percentile(const double *sorted, size_t count, double percent) {
  size_t rank = (size_t)(percent / 100 * (double)count + 0.999999);
  return 1e3 * sorted[rank > 0 ? rank - 1 : 0];
}

static void report(struct run *run, double warm_seconds, double seconds) {
  size_t count = run->options->count;
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  qsort(run->seconds, count, sizeof *run->seconds, ascending);
  double sum = 0;
  for (size_t i = 0; i < count; i++) sum += run->seconds[i];
  printf("{\"threads\": %zu, \"requests\": %zu, \"errors\": %zu, \"different\": %zu, "
         "\"p50_ms\": %.4f, \"p95_ms\": %.4f, \"p99_ms\": %.4f, \"mean_ms\": %.4f, "
         "\"requests_per_s\": %.2f, \"peak_rss_mb\": %.1f, \"load_s\": %.3f, "
         "\"warmup_s\": %.3f}\n",
         run->options->threads, count, (size_t)run->errors, (size_t)run->different,
         percentile(run->seconds, count, 50), percentile(run->seconds, count, 95),
         percentile(run->seconds, count, 99), 1e3 * sum / (double)count,
         (double)count / seconds, (double)usage.ru_maxrss / 1024, run->job->load_seconds,
         warm_seconds);
}

// Starts the threads and waits for them; gives how long they took to warm up and to score.
static void time_threads(struct run *run, double *warm_seconds, double *seconds) {
  pthread_t *threads = allocate(run->options->threads * sizeof *threads);
  pthread_barrier_init(&run->warm, NULL, (unsigned)run->options->threads + 1);
  double start = seconds_now();
  for (size_t i = 0; i < run->options->threads; i++) {
    if (pthread_create(&threads[i], NULL, ask_on, run) != 0) {
      fprintf(stderr, "error: no thread %zu of %zu\n", i + 1, run->options->threads);
      exit(1);
    }
  }
  pthread_barrier_wait(&run->warm);
  double warm = seconds_now();
  pthread_barrier_wait(&run->warm);
  for (size_t i = 0; i < run->options->threads; i++) pthread_join(threads[i], NULL);
  *seconds = seconds_now() - warm;
  *warm_seconds += warm - start;
  pthread_barrier_destroy(&run->warm);
  free(threads);
}

int run_load(struct job *job, const struct load_options *options) {
  struct run run = {.job = job, .options = options};
  struct problem problem;
  double start = seconds_now(), warm_seconds, seconds;
  if (!score_all(job, &run.expected, &problem)) {
    fprintf(stderr, "error: %s\n", problem.text);
    return 1;
  }
  warm_seconds = seconds_now() - start;
  size_t requests = job->recording.count;
  run.inputs = allocate(requests * sizeof *run.inputs);
  for (size_t i = 0; i < requests; i++) {
    run.inputs[i] = feed(&job->model, &job->recording.requests[i]);
  }
  run.seconds = allocate(options->count * sizeof *run.seconds);
  time_threads(&run, &warm_seconds, &seconds);
  report(&run, warm_seconds, seconds);
  bool good = run.errors == 0 && run.different == 0;
  for (size_t i = 0; i < requests; i++) free_feed(&job->model, run.inputs[i]);
  free(run.inputs);
  free(run.seconds);
  free_all(job, run.expected);
  return good ? 0 : 1;
}
