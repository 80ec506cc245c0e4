// Files of recorded requests; diffumin_tf/serving/recorded.py writes them and has the format.
#ifndef DIFFUMIN_RECORDED_H_
#define DIFFUMIN_RECORDED_H_

#include "common.h"
#include "tensors.h"

struct recording {
  struct request *requests;
  size_t count;
};

bool read_recording(const char *path, struct recording *recording, struct problem *problem);
// Writes under a temporary name, then renames: the file is there whole or as it was.
bool write_recording(const char *path, const struct recording *recording,
                     struct problem *problem);
void free_recording(struct recording *recording);

#endif  // DIFFUMIN_RECORDED_H_
