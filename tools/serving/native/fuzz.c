// Fuzz: what becomes of spoilt requests, and whether a good one scores as before after them.
#include "common.h"

#include <ctype.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "mutate.h"

enum { MAX_WAYS = 64, MAX_SECONDS = 60 };

// What came of the mutants of one kind.
struct tally {
  size_t scored, refused;
  size_t named;       // Refused by an error that names an input that was spoilt.
  size_t misfit;      // Scored, although a shape is not the one that the signature declares.
  size_t not_finite;  // Scored, but not finite or outside 0 ... 1.
};

struct fuzz {
  const struct job *job;
  const struct fuzz_options *options;
  struct way ways[MAX_WAYS];
  struct tally tallies[MAX_WAYS];
  size_t way_count, good_changed;
  TF_Tensor **expected;  // Outputs of every recorded request, one after the other.
};

// The mutant that is being scored, for the signals that end the program.
static char now[2048];

static void say_now(int signal_number) {
  const char *why = signal_number == SIGALRM ? "error: takes too long: " : "error: crashed: ";
  if (write(STDERR_FILENO, why, strlen(why)) < 0 || write(STDERR_FILENO, now, strlen(now)) < 0 ||
      write(STDERR_FILENO, "\n", 1) < 0) {
    _exit(1);
  }
  if (signal_number == SIGALRM) _exit(1);
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

static void watch_signals(void) {
  const int signals[] = {SIGALRM, SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
  struct sigaction action = {.sa_handler = say_now};
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
    sigaction(signals[i], &action, NULL);
  }
}

// The name alone, not as a part of another one.
static bool has_word(const char *text, const char *word) {
  size_t size = strlen(word);
  for (const char *at = text; (at = strstr(at, word)); at++) {
    bool starts = at == text || !(isalnum((unsigned char)at[-1]) || at[-1] == '_');
    if (starts && !(isalnum((unsigned char)at[size]) || at[size] == '_')) return true;
  }
  return false;
}

static bool names_input(const struct mutant *mutant, const char *message) {
  char text[sizeof(struct problem)];
  snprintf(text, sizeof text, "%s", message);
  char *quoted = strstr(text, "value: '");  // A whole Example, which has names in it.
  if (quoted) *quoted = 0;
  for (size_t i = 0; i < mutant->touched_count; i++) {
    if (has_word(text, mutant->touched[i])) return true;
  }
  return false;
}

static void tell(const char *who, const char *message) {
  fprintf(stderr, "%s\n  ", who);
  for (; *message; message++) {
    bool shown = *message == '\n' || isprint((unsigned char)*message);
    fputc(shown ? *message : '.', stderr);
  }
  fputc('\n', stderr);
}

// Whether a shape is not the one that the signature declares.
static bool is_misfit(const struct mutant *mutant) {
  for (size_t i = 0; i < mutant->request.count; i++) {
    const struct tensor *tensor = &mutant->request.tensors[i];
    const struct port *port = find_input(mutant->signature, tensor->name);
    if (port && !fits(port, tensor)) return true;
  }
  return false;
}

static bool are_probabilities(const struct model *model, TF_Tensor *const *outputs) {
  for (size_t o = 0; o < model->signature.output_count; o++) {
    if (TF_TensorType(outputs[o]) != TF_FLOAT) return false;
    const float *scores = TF_TensorData(outputs[o]);
    for (int64_t i = 0; i < TF_TensorElementCount(outputs[o]); i++) {
      if (!(isfinite(scores[i]) && scores[i] >= 0 && scores[i] <= 1)) return false;
    }
  }
  return true;
}

static void free_touched(struct mutant *mutant) {
  for (size_t i = 0; i < mutant->touched_count; i++) free(mutant->touched[i]);
  mutant->touched_count = 0;
}

// The mutant of that number, which depends on nothing else; gives the place of its way.
static size_t make_mutant(const struct fuzz *fuzz, size_t number, struct mutant *mutant,
                          size_t *request) {
  struct random random = {fuzz->options->seed ^ (number + 1) * 0xd1342543de82ef95u};
  next_random(&random);
  *request = pick(&random, fuzz->job->recording.count);
  *mutant = (struct mutant){.request = copy_request(&fuzz->job->recording.requests[*request]),
                            .signature = &fuzz->job->model.signature,
                            .random = random};
  size_t way = number % fuzz->way_count;
  while (!fuzz->ways[way].mutate(mutant)) {  // Some way applies: any request can lose an input.
    free_touched(mutant);
    mutant->unchecked = false;
    way = pick(&mutant->random, fuzz->way_count);
  }
  return way;
}

static void name_mutant(const struct fuzz *fuzz, size_t number, size_t way,
                        const struct mutant *mutant, size_t request) {
  char inputs[1024], touched[512] = "";
  describe(&mutant->request, inputs, sizeof inputs);
  for (size_t i = 0; i < mutant->touched_count; i++) {
    add_text(touched, sizeof touched, "%s%s", i ? ", " : "", mutant->touched[i]);
  }
  snprintf(now, sizeof now, "mutant %zu: %s of %s, from request %zu: %s", number,
           fuzz->ways[way].kind, touched, request + 1, inputs);
}

static bool run_mutant(const struct model *model, const struct mutant *mutant,
                       TF_Tensor **outputs, struct problem *problem) {
  if (!mutant->unchecked) return score_request(model, &mutant->request, outputs, problem);
  TF_Tensor **inputs = feed(model, &mutant->request);
  bool good = run_model(model, inputs, outputs, problem);
  free_feed(model, inputs);
  return good;
}

// Scores a mutant and counts what came of it; tells of it when it is the first odd one of its kind.
static void try_mutant(struct fuzz *fuzz, size_t way, const struct mutant *mutant) {
  const struct model *model = &fuzz->job->model;
  struct tally *tally = &fuzz->tallies[way];
  struct problem problem;
  TF_Tensor **outputs = allocate(model->signature.output_count * sizeof *outputs);
  bool odd = false;
  alarm(MAX_SECONDS);
  if (!run_mutant(model, mutant, outputs, &problem)) {
    bool named = names_input(mutant, problem.text);
    odd = !named && tally->named == tally->refused;  // The first that names no input.
    tally->named += named;
    tally->refused++;
  } else {
    bool misfit = is_misfit(mutant), good = are_probabilities(model, outputs);
    odd = (misfit && !tally->misfit) || !good;
    tally->scored++;
    tally->misfit += misfit;
    tally->not_finite += !good;
    fail(&problem, "scored%s%s", misfit ? ", a shape not of the signature" : "",
         good ? "" : ", NOT A PROBABILITY");
    free_outputs(model, outputs);
  }
  alarm(0);
  if (odd || fuzz->options->show) tell(now, problem.text);
  free(outputs);
}

// Whether the recorded request scores as it did at first.
static void try_good(struct fuzz *fuzz, size_t request) {
  const struct model *model = &fuzz->job->model;
  size_t width = model->signature.output_count;
  struct problem problem = {"another score than at first"};
  TF_Tensor **outputs = allocate(width * sizeof *outputs);
  const struct request *good = &fuzz->job->recording.requests[request];
  bool scored = score_request(model, good, outputs, &problem);
  if (!scored || !same_outputs(model, outputs, fuzz->expected + request * width)) {
    fuzz->good_changed++;
    fprintf(stderr, "request %zu, after ", request + 1);
    tell(now, problem.text);
  }
  free_outputs(model, outputs);
  free(outputs);
}

static void report(const struct fuzz *fuzz, const struct tally *all) {
  printf("{\"seed\": %llu, \"first\": %zu, \"mutants\": %zu, \"scored\": %zu, \"refused\": %zu, "
         "\"named\": %zu, \"misfit\": %zu, \"not_finite\": %zu, \"good_changed\": %zu, "
         "\"kinds\": {",
         (unsigned long long)fuzz->options->seed, fuzz->options->first,
         all->scored + all->refused, all->scored, all->refused, all->named, all->misfit,
         all->not_finite, fuzz->good_changed);
  const char *comma = "";
  for (size_t i = 0; i < fuzz->way_count; i++) {
    const struct tally *tally = &fuzz->tallies[i];
    if (tally->scored + tally->refused == 0) continue;
    printf("%s\"%s\": {\"scored\": %zu, \"refused\": %zu, \"named\": %zu, \"misfit\": %zu, "
           "\"not_finite\": %zu}",
           comma, fuzz->ways[i].kind, tally->scored, tally->refused, tally->named, tally->misfit,
           tally->not_finite);
    comma = ", ";
  }
  printf("}}\n");
}

static void add_ways(struct fuzz *fuzz, const struct way *ways, size_t count) {
  for (size_t i = 0; i < count; i++) fuzz->ways[fuzz->way_count++] = ways[i];
}

int run_fuzz(struct job *job, const struct fuzz_options *options) {
  struct fuzz fuzz = {.job = job, .options = options};
  struct problem problem;
  struct tally all = {0};
  if (!score_all(job, &fuzz.expected, &problem)) {
    fprintf(stderr, "error: %s\n", problem.text);
    return 1;
  }
  add_ways(&fuzz, TENSOR_WAYS, TENSOR_WAY_COUNT);
  for (size_t i = 0; i < job->model.signature.input_count; i++) {
    if (job->model.signature.inputs[i].dtype != TF_STRING) continue;
    add_ways(&fuzz, EXAMPLE_WAYS, EXAMPLE_WAY_COUNT);
    break;
  }
  watch_signals();
  for (size_t i = 0; i < options->count; i++) {
    struct mutant mutant;
    size_t request, way = make_mutant(&fuzz, options->first + i, &mutant, &request);
    name_mutant(&fuzz, options->first + i, way, &mutant, request);
    try_mutant(&fuzz, way, &mutant);
    if ((i + 1) % options->every == 0) try_good(&fuzz, request);
    free_touched(&mutant);
    free_request(&mutant.request);
  }
  for (size_t i = 0; i < fuzz.way_count; i++) {
    all.scored += fuzz.tallies[i].scored;
    all.refused += fuzz.tallies[i].refused;
    all.named += fuzz.tallies[i].named;
    all.misfit += fuzz.tallies[i].misfit;
    all.not_finite += fuzz.tallies[i].not_finite;
  }
  report(&fuzz, &all);
  free_all(job, fuzz.expected);
  return all.not_finite || fuzz.good_changed ? 1 : 0;
}
