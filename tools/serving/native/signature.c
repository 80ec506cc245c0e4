#include "signature.h"

#include <stdlib.h>
#include <string.h>

#include "wire.h"

// Numbers of fields in tensorflow/core/protobuf/meta_graph.proto and framework/tensor_shape.proto.
enum {
  META_GRAPH_SIGNATURE_DEF = 5,
  MAP_KEY = 1,
  MAP_VALUE = 2,
  SIGNATURE_INPUTS = 1,
  SIGNATURE_OUTPUTS = 2,
  TENSOR_INFO_NAME = 1,
  TENSOR_INFO_DTYPE = 2,
  TENSOR_INFO_SHAPE = 3,
  SHAPE_DIM = 2,
  SHAPE_UNKNOWN_RANK = 3,
  DIM_SIZE = 1,
};

static bool read_dim(struct wire wire, int64_t *size) {
  struct field field;
  enum next next;
  *size = 0;
  while ((next = next_field(&wire, &field)) == FIELD) {
    if (field.number == DIM_SIZE && field.type == 0) *size = (int64_t)field.value;
  }
  return next == END;
}

static bool read_shape(struct wire wire, struct port *port) {
  struct field field;
  enum next next;
  bool unknown = false;
  port->rank = 0;
  while ((next = next_field(&wire, &field)) == FIELD) {
    if (field.number == SHAPE_UNKNOWN_RANK && field.type == 0) unknown = field.value != 0;
    if (field.number != SHAPE_DIM || field.type != 2) continue;
    if (port->rank == MAX_RANK || !read_dim(field.bytes, &port->dims[port->rank])) return false;
    port->rank++;
  }
  if (unknown) port->rank = -1;
  return next == END;
}

static bool read_tensor_info(struct wire wire, struct port *port) {
  struct field field;
  enum next next;
  port->rank = -1;
  while ((next = next_field(&wire, &field)) == FIELD) {
    if (field.number == TENSOR_INFO_NAME && field.type == 2) {
      free(port->tensor);
      port->tensor = copy_text((const char *)field.bytes.at, left(field.bytes));
    } else if (field.number == TENSOR_INFO_DTYPE && field.type == 0) {
      port->dtype = (TF_DataType)field.value;
    } else if (field.number == TENSOR_INFO_SHAPE && field.type == 2) {
      if (!read_shape(field.bytes, port)) return false;
    }
  }
  return next == END && port->tensor;
}

// Key and value of an entry of a map.
static bool read_entry(struct wire wire, struct wire *key, struct wire *value) {
  struct field field;
  enum next next;
  *key = *value = wire_of("", 0);
  while ((next = next_field(&wire, &field)) == FIELD) {
    if (field.number == MAP_KEY && field.type == 2) *key = field.bytes;
    if (field.number == MAP_VALUE && field.type == 2) *value = field.bytes;
  }
  return next == END;
}

static bool add_port(struct wire entry, struct port **ports, size_t *count) {
  struct wire key, value;
  if (!read_entry(entry, &key, &value)) return false;
  *ports = enlarge(*ports, (*count + 1) * sizeof **ports);
  struct port *port = &(*ports)[(*count)++];
  *port = (struct port){.name = copy_text((const char *)key.at, left(key))};
  return read_tensor_info(value, port);
}

static int by_name(const void *one, const void *other) {
  return strcmp(((const struct port *)one)->name, ((const struct port *)other)->name);
}

static bool read_ports(struct wire wire, struct signature *signature) {
  struct field field;
  enum next next;
  while ((next = next_field(&wire, &field)) == FIELD) {
    if (field.type != 2) continue;
    if (field.number == SIGNATURE_INPUTS &&
        !add_port(field.bytes, &signature->inputs, &signature->input_count)) {
      return false;
    }
    if (field.number == SIGNATURE_OUTPUTS &&
        !add_port(field.bytes, &signature->outputs, &signature->output_count)) {
      return false;
    }
  }
  if (next != END || !signature->input_count || !signature->output_count) return false;
  qsort(signature->inputs, signature->input_count, sizeof *signature->inputs, by_name);
  qsort(signature->outputs, signature->output_count, sizeof *signature->outputs, by_name);
  return true;
}

bool read_signature(const void *meta_graph, size_t size, const char *name,
                    struct signature *signature, struct problem *problem) {
  struct wire wire = wire_of(meta_graph, size), key, value;
  struct field field;
  enum next next;
  char known[1024] = "";
  *signature = (struct signature){0};
  while ((next = next_field(&wire, &field)) == FIELD) {
    if (field.number != META_GRAPH_SIGNATURE_DEF || field.type != 2) continue;
    if (!read_entry(field.bytes, &key, &value)) break;
    if (left(key) == strlen(name) && memcmp(key.at, name, left(key)) == 0) {
      if (read_ports(value, signature)) return true;
      return fail(problem, "signature '%s': has no inputs or outputs that can be read", name);
    }
    if (left(key) < 2 || memcmp(key.at, "__", 2) != 0) {
      add_text(known, sizeof known, "%s%.*s", known[0] ? ", " : "", (int)left(key),
               (const char *)key.at);
    }
  }
  if (next != END) return fail(problem, "its MetaGraphDef cannot be read");
  return fail(problem, "signature '%s': there is none; there are %s", name, known);
}

static void free_ports(struct port *ports, size_t count) {
  for (size_t i = 0; i < count; i++) {
    free(ports[i].name);
    free(ports[i].tensor);
  }
  free(ports);
}

void free_signature(struct signature *signature) {
  free_ports(signature->inputs, signature->input_count);
  free_ports(signature->outputs, signature->output_count);
  *signature = (struct signature){0};
}

const struct port *find_input(const struct signature *signature, const char *name) {
  for (size_t i = 0; i < signature->input_count; i++) {
    if (strcmp(signature->inputs[i].name, name) == 0) return &signature->inputs[i];
  }
  return NULL;
}

bool fits(const struct port *port, const struct tensor *tensor) {
  if (port->rank < 0) return true;
  if (port->rank != tensor->rank) return false;
  for (int i = 0; i < port->rank; i++) {
    if (port->dims[i] >= 0 && port->dims[i] != tensor->dims[i]) return false;
  }
  return true;
}

void list_inputs(const struct signature *signature, char *text, size_t room) {
  text[0] = 0;
  for (size_t i = 0; i < signature->input_count; i++) {
    add_text(text, room, "%s%s", i ? ", " : "", signature->inputs[i].name);
  }
}
